"""Filter a million observations with three states: our forward filter beside hmmlearn's forward pass.

hmmlearn has no filter to call; its `predict_proba` runs forward and backward, and what it computes on the way up is
what we want. So the peer is its own compiled forward pass on the same log densities (`hmmlearn._hmmc.forward_log`),
with its rows divided by their sums; `parts` has `predict_proba` of a fitted model beside our whole `HMM.filter`, from
rows to a frame. Both sides use one thread.
"""

import json
from pathlib import Path

import harness
import hmmlearn
import numpy as np
import pandas as pd
from hmmlearn import _hmmc

from quantlab.regime.base import forward_filter, gaussian_log_density
from quantlab.regime.hmm import HMM

RESULTS = Path(__file__).resolve().parent / "results" / "regime_filter.json"
ROWS, STATES = 1_000_000, 3
START, STAY, DEVIATION = np.full(STATES, 1 / STATES), 0.98, np.array([0.005, 0.01, 0.02])


def market(rows: int) -> np.ndarray:
    "Return returns of three states that stay for 50 rows on average."
    rng = np.random.default_rng(0)
    leave = rng.random(rows) > STAY
    state = np.where(leave, rng.integers(0, STATES, rows), -1)
    state[0] = 0
    at = np.maximum.accumulate(np.where(state >= 0, np.arange(rows), 0))
    return rng.normal(0, DEVIATION[state[at]])


def normalised(log_forward: np.ndarray) -> np.ndarray:
    "Return P(state | rows up to it) from the log of the joint density."
    shares = np.exp(log_forward - log_forward.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def main() -> dict:
    "Time the filter alone, then from rows to a frame of probabilities."
    returns = market(ROWS)
    moves = np.full((STATES, STATES), (1 - STAY) / (STATES - 1)) + np.eye(STATES) * (STAY - (1 - STAY) / (STATES - 1))
    density = gaussian_log_density(returns[:, None], np.zeros((STATES, 1)), DEVIATION[:, None, None] ** 2)
    frame = pd.DataFrame({"log_return": returns}, pd.date_range("1990-01-01", periods=ROWS, freq="min"))
    model = HMM(STATES, n_starts=1, n_iter=20).fit(frame.iloc[:20_000])
    scaled = model._scaled(frame)
    found = harness.compare(
        "regime_filter", f"hmmlearn {hmmlearn.__version__}", lambda: forward_filter(density, START, moves),
        lambda: normalised(_hmmc.forward_log(START, moves, density)[1]), (lambda ours: ours, lambda theirs: theirs),
        n=ROWS, rounds=5,
    )  # fmt: skip
    whole = harness.compare(
        "rows to a frame", "hmmlearn predict_proba", lambda: model.filter(frame).probabilities,
        lambda: model.hmm_.predict_proba(scaled), (lambda ours: ours.iloc[-1:], lambda theirs: theirs[-1:]), n=ROWS,
        rounds=3, memory=False,
    )  # fmt: skip
    found["parts"] = {"rows to a frame": {k: whole[k] for k in ("ours_s", "peer_s", "ratio", "max_rel_diff")}}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found
