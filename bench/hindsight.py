"""What hindsight adds to a two-state gate on the S&P 500 index, 1990 to 2022: filtered, smoothed, Viterbi, always in.

The index is a file of skfolio's package and is not copied here: it is read from the environment of the peer
(`make bench-peers`). The model is fitted to the log returns up to 2005; from 2006 on the next session is held when calm
is the more probable state. No costs. The published figures are those of our list of measured traps.
"""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.regime.base import Filtered, Smoothed
from quantlab.regime.gate import gate, held_states, hindsight_share
from quantlab.regime.hmm import HMM
from quantlab.regime.judge import hindsight_sharpe

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {"Viterbi": 1.49, "smoothed": 1.65, "filtered": 0.58, "buy and hold": 0.32}
PLACE = "lib/python3.*/site-packages/skfolio/datasets/data/sp500_index.csv.gz"


def index_file() -> Path | None:
    "Find the index in a peer's environment; None: no peer has it."
    return next(iter(sorted((ROOT / ".cache" / "peers").glob(f"*/{PLACE}"))), None)


def calm_or_out(states: Filtered) -> pd.DataFrame:
    "Hold all while calm is the more probable state, and nothing otherwise."
    return gate(held_states(states, hysteresis=0.0, min_dwell=1), {"calm": 1.0, "turbulent": 0.0})


def readings(close: pd.Series) -> tuple[Filtered, dict[str, Smoothed]]:
    "Read one model, fitted up to 2005, in three ways from 2006 on."
    X = np.log(close).diff().dropna().to_frame("log_return")
    model = HMM(n_states=2).fit(X[:"2005"])
    path = model.hmm_.predict((X.to_numpy() - model.center_) / model.scale_)
    viterbi = Smoothed(pd.DataFrame(np.eye(2)[path], X.index, model.states_))
    known = model.filter(X)
    known = Filtered(known.probabilities["2006":], known.trained_to["2006":])
    return known, {"smoothed": model.smooth(X), "Viterbi": viterbi}


def sharpe_table(close: pd.Series, known: Filtered, later: dict[str, Smoothed]) -> tuple[dict, dict]:
    "Return the Sharpe ratios of each reading, log returns as published and simple returns, and what hindsight adds."
    found, hindsight = {name: {"published": figure} for name, figure in PUBLISHED.items()}, {}
    kinds = {"here": np.log(close).diff().dropna(), "simple returns": close.pct_change().dropna()}
    for column, returns in kinds.items():
        always = returns["2006-01-04":]  # the first decision is that of the close of 2006-01-03
        found["buy and hold"][column] = round(float(always.mean() / always.std() * 252**0.5), 3)
        for name, states in later.items():
            priced = hindsight_sharpe(known, states, returns, 252, calm_or_out)
            found[name][column], found["filtered"][column] = round(priced.smoothed, 3), round(priced.filtered, 3)
            if column == "here":
                numbers = {key: round(getattr(priced, key), 3) for key in ("gain", "se", "low", "high")}
                hindsight[name] = numbers | {"share of probability": round(hindsight_share(known, states), 3)}
    return found, hindsight


def main() -> dict:
    "Carry the experiment out and store it beside the other results."
    file = index_file()
    if file is None:
        raise SystemExit("skfolio's S&P 500 index is in no peer's environment; run make bench-peers first")
    close = pd.read_csv(file, index_col=0, parse_dates=True).iloc[:, 0]
    began = time.perf_counter()
    found, hindsight = sharpe_table(close, *readings(close))
    result = {
        "name": "hindsight", "peer": "the list of measured traps", "ours_s": round(time.perf_counter() - began, 1),
        "peer_s": None, "ratio": None, "cold_s": None, "peer_cold_s": None, "ours_mb": None, "peer_mb": None,
        "max_rel_diff": max(abs(row["here"] - row["published"]) for row in found.values()), "n": len(close),
        "parts": {"sharpe": found, "hindsight": hindsight},
    }  # fmt: skip
    (ROOT / "bench" / "results" / "hindsight.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    print(json.dumps(main()))
