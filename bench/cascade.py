"""The cascade with networks beside the cascade without, on five planted markets, each with a seed of its own.

A path carries a bump somewhere in half of the rows, and the outcome follows it where the feature `mood` is positive.
240 dates of 40 names are learned from, 80 later ones judge. `parts` holds by kind of cascade the mean over markets and
its standard error: rank IC of the score and of stage 1 alone, the oracle's, the calibration error before and after the
temperature, what honest probabilities would show, the temperature, and seconds of the processor in units of the
cascade of kernels and trees; `gain` is the IC less that of kernels and trees on the same market; `alike` says whether a
second fit gave the same bits. `ours_s` and `peer_s` are processor seconds of a fit. Needs torch (make deep).
"""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.deep.cascade import Cascade
from quantlab.validation.calibration import calibration_error
from quantlab.validation.scores import rank_ic

RESULTS = Path(__file__).resolve().parent / "results" / "cascade.json"
LEARN, LATE, NAMES, STEPS = 240, 80, 40, 30
PLAIN = "kernels, trees"
KINDS = {
    PLAIN: {}, "kernels, net": {"head": "net"}, "cnn, trees": {"encoder": "cnn"},
    "cnn, net": {"encoder": "cnn", "head": "net"},
}  # fmt: skip


def market(seed: int) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "Return features, outcomes, and what can be known of them."
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=LEARN + LATE, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(NAMES)]], names=["date", "symbol"])
    n = len(index)
    steps, bump, mood = rng.normal(size=(n, STEPS)), rng.random(n) < 0.5, rng.normal(size=n)
    place = rng.integers(0, STEPS - 5, n)
    steps[np.flatnonzero(bump)[:, None], place[bump][:, None] + np.arange(5)] += 1.5
    steps -= steps.mean(axis=1, keepdims=True)
    X = pd.DataFrame(0.01 * steps, index, [f"path_{i:02d}" for i in range(STEPS)])
    known = pd.Series(np.where(mood > 0, bump - 0.5, 0.0), index)
    return X.assign(mood=mood, dull=rng.normal(size=n)), known + 0.5 * rng.normal(size=n), known


def judged(kind: str, seed: int) -> dict[str, float]:
    "Fit one cascade on one market; return what later dates say of it."
    X, y, known = market(seed)
    early = np.arange(len(X)) < LEARN * NAMES
    began = time.process_time()
    fitted = lambda: Cascade(purge=1, seed=seed, **KINDS[kind]).fit(X[early], y[early])
    model = fitted()
    seconds = time.process_time() - began
    said, up = model.stages(X[~early]), (y[~early] > 0) * 1.0
    before, after = (calibration_error(said[column], up) for column in ("prob_raw", "prob"))
    alike = not seed and said.equals(fitted().stages(X[~early]))
    return {
        "kind": kind, "seed": seed, "ic": rank_ic(said["score"], y[~early]).mean(),
        "stage 1": rank_ic(said["s1_return"], y[~early]).mean(), "oracle": rank_ic(known[~early], y[~early]).mean(),
        "before": before.value, "after": after.value, "chance": after.chance,
        "temperature": model.temperature_.temperature_, "seconds": seconds, "alike": bool(alike),
    }  # fmt: skip


def main(seeds: int = 5) -> dict:
    "Carry the comparison out and store it beside the other results."
    judged("cnn, net", 0)  # torch is imported, numba is compiled
    rows = pd.DataFrame([judged(kind, seed) for seed in range(seeds) for kind in KINDS])
    plain = rows[rows["kind"] == PLAIN].set_index("seed")
    rows["gain"] = rows["ic"] - rows["seed"].map(plain["ic"])
    rows["cost"] = rows["seconds"] / rows["seed"].map(plain["seconds"])
    by_kind = rows.drop(columns="alike").groupby("kind", sort=False)
    mean, error, seconds = by_kind.mean().drop(columns="seed"), by_kind.sem(), by_kind["seconds"].mean()
    shown = [name for name in mean if name != "seconds"]
    parts = {
        kind: {name: [round(mean.loc[kind, name], 4), round(error.loc[kind, name], 4)] for name in shown}
        | {"alike": bool(rows.loc[(rows["kind"] == kind) & (rows["seed"] == 0), "alike"].all())}
        for kind in KINDS
    }
    result = {
        "name": "cascade", "peer": PLAIN, "ours_s": round(seconds["cnn, net"], 2), "peer_s": round(seconds[PLAIN], 2),
        "ratio": round(seconds[PLAIN] / seconds["cnn, net"], 2), "cold_s": None, "peer_cold_s": None, "ours_mb": None,
        "peer_mb": None, "max_rel_diff": None, "n": (LEARN + LATE) * NAMES, "parts": parts,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
