"""100,000 policy settings over 20 signals: shards of figures, every setting in the ledger, gone on with when killed.

Signals are momentum over ten look-backs, with and without the last month, on the committed sample (120 names, 14
years); settings differ in the signal, how many names are held, the buffer, the weighting and the rebalance. Settings of
one signal share its ranks. Seconds are of the clock; MB is the most that the process and its workers held together,
looked at four times a second. The peer is the engine called once for each setting on the same weights (a sample of
them): its figures must be the same to the last digit.

Usage: python bench/many_settings.py [settings] [workers]
"""

import json
import os
import sys
import tempfile
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.sweep import SweepTerms, sweep_shards
from quantlab.broker.fill_model import next_open
from quantlab.core.ledger import Ledger
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import compute
from quantlab.features.price import momentum
from quantlab.portfolio.weights import TopK, top_k_many

RESULTS = Path(__file__).resolve().parent / "results" / "many_settings.json"
LOOKBACKS, SKIPS = (42, 63, 84, 105, 126, 147, 168, 189, 210, 252), (0, 21)
TERMS = SweepTerms(Costs(1.0, 5.0), fill=next_open(sized="fill"))
ALL = 100_000


def signals() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    "Return bars and the scores of each signal."
    bars = adjust(sample_bars(), "total")
    found = compute(bars, [momentum(lookback, skip) for lookback in LOOKBACKS for skip in SKIPS])
    return bars[["open", "close"]], {name: found[name].dropna().rename("score").to_frame() for name in found}


def settings(names: list[str], n: int) -> list[dict]:
    "Return n settings, those of a signal side by side; fewer than all are spread over signals."
    space = [range(5, 55, 5), range(0, 50, 5), ("equal", "rank"), range(4, 104, 4)]
    each = [
        dict(zip(("top_k", "buffer", "weighting", "rebalance"), one, strict=True)) for one in product(*map(list, space))
    ]
    order = np.random.default_rng(0).permutation(len(each))
    per = -(-n // len(names))
    return [{"signal": name} | each[m] for name in names for m in order[:per]][:n]


def policy(one: dict) -> TopK:
    "Return the policy of a setting."
    return TopK(one["top_k"], one["buffer"], one["weighting"], rebalance=one["rebalance"])


def weigh(scores: dict[str, pd.DataFrame], part: list[dict]) -> list[pd.DataFrame]:
    "Return the weights of settings; a signal is ranked once."
    weights: list = [None] * len(part)
    for name in dict.fromkeys(one["signal"] for one in part):
        mine = [i for i, one in enumerate(part) if one["signal"] == name]
        gate = pd.DataFrame({"gate": 0.98}, index=scores[name].index.unique("date"))
        for i, found in zip(mine, top_k_many([policy(part[i]) for i in mine], scores[name], gate=gate), strict=True):
            weights[i] = found
    return weights


class Watch:
    "Keep the most that this process and its children hold together."

    def __init__(self):
        self.mb, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self) -> None:
        me = psutil.Process()
        while not self.over.wait(0.25):
            held = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    held += process.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            self.mb = max(self.mb, held / 2**20)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


def differences(table: pd.DataFrame, bars: pd.DataFrame, scores: dict, sample: int = 20) -> float:
    "Return the largest relative difference of growth to the engine called for each of some settings alone."
    worst = 0.0
    for _, one in table.iloc[np.linspace(0, len(table) - 1, sample).astype(int)].iterrows():
        weights = weigh(scores, [one.to_dict()])[0]
        run = from_weights(weights, bars, TERMS.costs, TERMS.rules, TERMS.fill, TERMS.cash)
        value = run.equity.to_numpy()
        growth = (value[-1] / value[0]) ** (252 / (len(value) - 1)) - 1
        worst = max(worst, abs(growth - one["growth"]) / max(abs(growth), 1e-12))
    return worst


def main(n: int = ALL, workers: int = 2) -> dict:
    "Time a sweep of n settings, and going on with it when all is there."
    bars, scores = signals()
    asked = settings(list(scores), n)
    folder = Path(__file__).resolve().parents[1] / ".cache"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as own, Watch() as watch:
        ledger, where = Ledger(f"{own}/ledger.sqlite"), {"workers": workers}
        call = lambda: sweep_shards(weigh, asked, bars, ledger, "many", f"{own}/shards", scores, TERMS, **where)
        began, used = time.perf_counter(), os.times()
        table = call()
        seconds, after = time.perf_counter() - began, os.times()
        peak = watch.mb
        began = time.perf_counter()
        again = call()
        resumed = time.perf_counter() - began
        began = time.perf_counter()
        rows = ledger.verify()
        verified = time.perf_counter() - began
        shards = sum(file.stat().st_size for file in Path(own, "shards").iterdir()) / 1e6
        size = Path(own, "ledger.sqlite").stat().st_size / 1e6
    assert table.equals(again) and rows == len(asked) == table["key"].nunique()
    cpu = sum(after[i] - used[i] for i in range(4))
    found = {
        "name": "many_settings", "peer": "from_weights, setting by setting", "ours_s": round(seconds, 1),
        "peer_s": None, "ratio": None, "cold_s": None, "ours_mb": round(peak), "peer_mb": None,
        "max_rel_diff": differences(table, bars, scores), "n": len(asked),
        "parts": {
            "workers": workers, "cpu_s": round(cpu, 1), "settings_per_s": round(len(asked) / seconds, 1),
            "resumed_s": round(resumed, 2), "ledger_rows": rows, "ledger_verify_s": round(verified, 2),
            "ledger_mb": round(size, 1), "shards_mb": round(shards, 1), "signals": len(scores),
            "best_sharpe": round(float(table["sharpe"].max()), 3),
        },
    }  # fmt: skip
    if n == ALL:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
