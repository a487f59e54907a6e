"""500 US names x 2,700 sessions, a rebalance every 20: our engine, vectorbt in an environment of its own, Backtrader,
and a sweep.

vectorbt's process is started once and times its own passes, on arrays that are ready; ours reads panels. Both size the
orders from the account valued at the open, and the equity of every close is compared; then vectorbt is given our filled
sizes. Backtrader walks 100 of the names over the first sessions. `parts` also holds memory (how far a pass lifts the
process) and the members a second of a sweep.
"""

import ctypes
import gc
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import backtrader
import barrier
import harness
import numpy as np
import pandas as pd

from quantlab.backtest.backtrader import run_backtrader
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.backtest.sweep import sweep
from quantlab.broker.blotter import Result
from quantlab.broker.fill_model import next_open
from quantlab.core.ledger import Ledger
from quantlab.core.panel import to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".cache" / "peers" / "vectorbt" / "bin" / "python"
RESULTS = HERE / "results" / "backtest.json"
EVERY, CASH, COSTS, PEER_NAMES, PEER_SESSIONS = 20, 1_000_000.0, Costs(1.0, 5.0), 100, 1000


def targets(bars: pd.DataFrame) -> pd.DataFrame:
    "Return random target weights of every name on every 20th session, 0.98 in all."
    dates, names = bars.index.unique("date")[:-1:EVERY], bars.index.unique("symbol")
    shares = 0.98 * np.random.default_rng(0).dirichlet(np.ones(len(names)), len(dates))
    return pd.DataFrame(
        {"weight": shares.ravel()}, index=pd.MultiIndex.from_product([dates, names], names=["date", "symbol"])
    )


def memory(key: str) -> float:
    "Return VmRSS (now) or VmHWM (the highest since the last reset) of this process in MB."
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def lift(call) -> float:
    "Return how many MB a call lifts this process above where it was."
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give back what earlier passes left, so that it is not used again unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    result = call()
    peak = memory("VmHWM") - before
    del result
    return peak


class Vectorbt:
    "Keep vectorbt's process and ask it for accounts."

    def __init__(self, folder: Path, bars: pd.DataFrame, weights: pd.DataFrame):
        self.folder = folder
        close = to_wide(bars["close"])
        percent = to_wide(weights["weight"]).reindex(close.index).shift(1)  # filled a session after the decision
        for name, values in {
            "open": to_wide(bars["open"]),
            "close": close,
            "percent": percent,
            "amount": percent,
        }.items():
            np.save(folder / f"{name}.npy", values.to_numpy())
        (folder / "terms.json").write_text(
            json.dumps({"cash": CASH, "fees": COSTS.commission, "slippage": COSTS.slippage})
        )

    def start(self, ours: Result) -> None:
        amount = np.full(ours.blotter.close.shape, np.nan)
        amount[ours.blotter.fills.session, ours.blotter.fills.symbol] = ours.blotter.fills.quantity
        np.save(self.folder / "amount.npy", amount)
        command = [str(PYTHON), str(HERE / "peers" / "vectorbt_orders.py"), str(self.folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        self.version = self.process.stdout.readline().strip()

    def run(self, kind: str = "percent") -> tuple[list[float], np.ndarray, np.ndarray]:
        "Return seconds of the fills, seconds with the values, MB; value at each close; fills."
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        figures = [float(part) for part in self.process.stdout.readline().split()]
        return figures, np.load(self.folder / "value.npy"), np.load(self.folder / "fills.npy")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def against_vectorbt(bars: pd.DataFrame, weights: pd.DataFrame, rounds: int) -> dict:
    "Time from_weights beside vectorbt's from_orders in alternating rounds and compare every close."
    run = lambda: from_weights(weights, bars, COSTS, fill=next_open(sized="fill"), cash=CASH)
    began = time.perf_counter()
    ours = run()
    cold = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        peer = Vectorbt(Path(folder), bars, weights)
        peer.start(ours)
        (peer_cold, _, _), value, fills = peer.run()
        times = [(harness.timed(run, 1), *peer.run()[0]) for _ in range(rounds)]
        (amount_s, _, _), again, _ = peer.run("amount")
        peer.close()
    ours_s, peer_s, peer_value_s, peer_mb = (statistics.median(side) for side in zip(*times, strict=True))
    mine = ours.blotter.fills
    order = np.lexsort((mine.symbol, mine.session))
    shares = np.full(ours.blotter.close.shape, 0.0)
    shares[fills[:, 0].astype(int), fills[:, 1].astype(int)] = fills[:, 2]
    parts = {
        "fills": len(order), "peer_fills": len(fills), "peer_with_value_s": peer_value_s,
        "ratio_with_value": peer_value_s / ours_s,
        "max_rel_diff_of_shares": harness.max_rel_diff(mine.quantity[order],
        shares[mine.session[order], mine.symbol[order]]),
        "max_rel_diff_with_our_sizes": harness.max_rel_diff(ours.equity.to_numpy(), again[ours.blotter.first :]),
        "peer_with_our_sizes_cold_s": amount_s,
    }  # fmt: skip
    return {
        "name": "backtest", "peer": f"vectorbt {peer.version}", "ours_s": round(ours_s, 5), "peer_s": round(peer_s, 5),
        "ratio": round(peer_s / ours_s, 2),
        "cold_s": round(cold, 4), "peer_cold_s": round(peer_cold, 4), "ours_mb": round(lift(run), 1),
        "peer_mb": round(peer_mb, 1),
        "max_rel_diff": harness.max_rel_diff(ours.equity.to_numpy(), value[ours.blotter.first :]), "n": len(bars),
        "parts": {"vectorbt": parts},
    }  # fmt: skip


def against_backtrader(bars: pd.DataFrame, weights: pd.DataFrame, rounds: int) -> dict:
    "Time both engines on 100 names over the first sessions, under Backtrader's rule, and compare every close in money."
    names, last = bars.index.unique("symbol")[:PEER_NAMES], bars.index.unique("date")[PEER_SESSIONS - 1]
    part = bars[bars.index.get_level_values("symbol").isin(names) & (bars.index.get_level_values("date") <= last)]
    wanted = weights[
        weights.index.get_level_values("symbol").isin(names) & (weights.index.get_level_values("date") <= last)
    ]
    wanted = 0.98 * wanted / wanted.groupby("date").transform("sum")
    ours, theirs = (
        (lambda: from_weights(wanted, part, COSTS, cash=CASH)),
        (lambda: run_backtrader(wanted, part, COSTS, CASH)),
    )
    equity = (lambda run: run.equity.to_numpy(),) * 2
    found = harness.compare(
        "backtrader",
        f"backtrader {backtrader.__version__}",
        ours,
        theirs,
        equity,
        n=len(part),
        rounds=rounds,
        memory=False,
    )
    apart = float((ours().equity - theirs().equity).abs().max())
    speed = {"bars_per_s": found["n"] / found["ours_s"], "peer_bars_per_s": found["n"] / found["peer_s"]}
    return found | speed | {"largest_difference_in_money": apart, "names": PEER_NAMES, "sessions": PEER_SESSIONS}


def winners(close: pd.DataFrame, lookback: int, top_k: int, rebalance: int) -> pd.DataFrame:
    "Hold the k names that rose most over a lookback, in equal parts."
    past = (close / close.shift(lookback) - 1).iloc[lookback::rebalance]
    t, i = np.nonzero((past.rank(axis=1, ascending=False, method="first") <= top_k).to_numpy())
    index = pd.MultiIndex([past.index, close.columns], [t, i], names=["date", "symbol"])
    return pd.DataFrame({"weight": np.full(len(t), 0.98 / top_k)}, index=index)


def many(members: int = 1000) -> dict:
    "Sweep a strategy on the committed sample: strategy, engine, ledger and cache, and the engine alone."
    bars = adjust(sample_bars(), "total")[["open", "close"]]
    close = to_wide(bars["close"])
    space = {"lookback": list(range(10, 260, 10)), "top_k": [5, 10, 20, 30], "rebalance": list(range(5, 55, 5))}
    weights = [winners(close, 10 * (m + 1), 20, 20) for m in range(25)]
    alone = harness.timed(lambda: equity_curves(weights, bars), 3) / len(weights)
    found = {"members": members, "names": close.shape[1], "sessions": len(close), "engine_members_per_s": 1 / alone}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["QUANTLAB_RESEARCH_CACHE"] = f"{folder}/cache"
            began = time.perf_counter()
            swept = sweep(winners, space, bars, Ledger(f"{folder}/ledger.sqlite"), "bench", close, workers=workers)
            found[f"members_per_s_{workers}_workers"] = members / (time.perf_counter() - began)
            began = time.perf_counter()
            sweep(winners, space, bars, Ledger(f"{folder}/ledger.sqlite"), "bench", close, workers=workers)
            found[f"again_from_cache_s_{workers}_workers"] = time.perf_counter() - began
            del os.environ["QUANTLAB_RESEARCH_CACHE"]
        assert len(swept.members) == members
    return found


def main(rounds: int = 5) -> dict:
    "Time the engines side by side and say how far apart they are."
    if not barrier.BARS.exists():
        return {"name": "backtest", "skipped": f"no {barrier.BARS.name} beside the project; set QUANTLAB_SHARED"}
    if not PYTHON.exists():
        return {"name": "backtest", "skipped": "vectorbt's environment is not there; make bench-peers builds it"}
    bars = barrier.read_bars()[["open", "close"]]
    weights = targets(bars)
    found = against_vectorbt(bars, weights, rounds)
    found["parts"]["backtrader"] = against_backtrader(bars, weights, 3)
    found["parts"]["sweep"] = many()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
