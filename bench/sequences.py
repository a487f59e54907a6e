"""What nets on windows learn and must not learn: a planted motif, 256 rows by heart, noise and shuffled outcomes.

Each seed is a fresh data set and a fresh start of the weights; stored are means and spreads over seeds, never the best.
Every fit is kept in the cache by its content, so a run that was stopped goes on. Needs torch (`make deep`).
nbs/deep/482_sequences.ipynb and nbs/deep/486_tft.ipynb show what is stored.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.core.cache import content_hash, keep, kept
from quantlab.deep.sequences import SequenceModel, lagged_columns
from quantlab.deep.tft import TFT, interpret
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel
from quantlab.validation.scores import rank_ic

ROOT = Path(__file__).resolve().parents[1]
KINDS, STEPS = ("tcn", "lstm", "gru"), 12
LEARN_SEEDS, BLANK_SEEDS = 5, 20
LEARN = {"steps": STEPS, "purge": 1, "rate": 1e-2, "dropout": 0.0}
LEARN_TFT = {"steps": STEPS, "horizon": 1, "ahead": 1, "purge": 1, "rate": 3e-3, "dropout": 0.0, "decay": 0.0,
             "num_epochs": 60, "patience": 60, "point": "mean"}  # chosen on seed 100; with patience 5 it learns nothing
TFT_SETTINGS = {"num_epochs": 15, "hidden_size": 16, "steps": 10, "horizon": 1, "ahead": 1}


def index_of(n_dates: int, n_symbols: int) -> pd.MultiIndex:
    "Return the rows of a made-up panel."
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    return pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])


def motif_world(seed: int, n_dates: int = 240, n_symbols: int = 50) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "Return moves, an outcome that is high where the last ten moves trended, and the truth in it."
    rng, index = np.random.default_rng(seed), index_of(n_dates, n_symbols)
    moves = pd.DataFrame(rng.normal(size=(n_dates, n_symbols)))
    truth = pd.Series(np.sign((moves * moves.shift(1)).rolling(10).sum()).to_numpy().ravel(), index)
    y = truth + 0.5 * rng.normal(size=len(index))
    return pd.DataFrame({"move": moves.to_numpy().ravel()}, index), y.rename("y"), truth


def planted_world(seed: int, n_dates: int = 160, n_symbols: int = 40) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "Return four channels, an outcome that hangs on one of them and is wide on Fridays, and its middle."
    rng, index = np.random.default_rng(seed), index_of(n_dates, n_symbols)
    panel = pd.DataFrame(rng.normal(size=(len(index), 4)), index, ["idle_a", "idle_b", "idle_c", "planted"])
    middle = pd.Series(2 * panel["planted"].unstack().rolling(5).mean().to_numpy().ravel(), index)
    wide = np.where(index.get_level_values("date").day_of_week == 4, 1.5, 0.5)
    return panel, (middle + wide * rng.normal(size=len(index))).rename("y"), middle


def blank_world(seed: int, shuffled: bool, n_dates: int = 90, n_symbols: int = 30) -> tuple[pd.DataFrame, pd.Series]:
    "Return moves and an outcome that has nothing to do with them: noise, or that of the motif among other rows."
    panel, y, _ = motif_world(10_000 + seed, n_dates, n_symbols)
    rng = np.random.default_rng(20_000 + seed)
    known = y.dropna()
    values = rng.permutation(known.to_numpy()) if shuffled else rng.normal(size=len(known))
    return panel, pd.Series(values, known.index, name="y")


def parts(index: pd.MultiIndex, first: int, purge: int = 1) -> tuple[np.ndarray, np.ndarray]:
    "Cut rows in time: three quarters to learn from, behind the first whole window, and the rest, a gap between."
    days = index.get_level_values("date").factorize()[0]
    cut = int((days.max() + 1) * 0.75)
    return (days >= first) & (days < cut - purge), days >= cut


def model_of(kind: str, seed: int, **settings: object) -> SequenceModel | TFT:
    "Return an unfitted model; the made-up panels trade on each day of the week from Monday to Friday."
    if kind == "tft":
        return TFT(seed=seed, calendar="1111100", **settings)
    return SequenceModel(kind, seed=seed, **settings)


def learned(kind: str, seed: int) -> dict:
    "Return the rank IC on later dates of a kind of model and of the truth, on one planted motif."
    panel, y, truth = motif_world(seed)
    X = lagged_columns(panel, STEPS)
    early, late = parts(X.index, STEPS)
    trees = GBMModel(60, min_child_samples=50, num_threads=1)
    columns = ["move_11"] if kind == "trees, one step" else list(X)
    model = {"ridge": RidgeModel(), "trees, one step": trees, "trees, all steps": trees}.get(kind)
    model = model or model_of(kind, seed, **(LEARN_TFT if kind == "tft" else LEARN))
    began = time.process_time()
    score = model.fit(X[early][columns], y[early]).predict(X[late][columns])["score"]
    seconds = time.process_time() - began
    reached, best = (float(rank_ic(one, y[late]).mean()) for one in (score, truth[late]))
    return {"ic": reached, "truth": best, "seconds": seconds}


def by_heart(kind: str, seed: int) -> float:
    "Return the correlation with the outcome on 256 rows of noise that a model was trained on to the end."
    panel, y = blank_world(seed, False, 44, 8)
    X = lagged_columns(panel, STEPS).iloc[STEPS * 8 :]
    y = y.reindex(X.index)
    assert len(X) == 256
    given = {"steps": STEPS, "validation": 0, "dropout": 0.0, "decay": 0.0, "batch": 64}
    size = {"hidden": 32, "epochs": 300, "rate": 1e-2}
    if kind == "tft":
        size = {"hidden_size": 32, "num_epochs": 300, "rate": 3e-3, "horizon": 1, "ahead": 1, "point": "mean"}
    model = model_of(kind, seed, **given, **size).fit(X, y)
    return float(model.predict(X)["score"].corr(y))


def blank_ic(kind: str, seed: int, shuffled: bool) -> float:
    "Return the mean rank IC on later dates in its standard errors, where there is nothing to learn."
    panel, y = blank_world(seed, shuffled)
    X = lagged_columns(panel, STEPS)
    early, late = (part & X.index.isin(y.index) for part in parts(X.index, STEPS))
    given = {"steps": STEPS, "num_epochs": 8, "horizon": 1, "ahead": 1, "hidden_size": 8, "batch": 512}
    model = model_of(kind, seed, **(given if kind == "tft" else {"steps": STEPS, "purge": 1, "epochs": 20}))
    daily = rank_ic(model.fit(X[early], y[X.index[early]]).predict(X[late])["score"], y[X.index[late]]).dropna()
    return float(daily.mean() / (daily.std() / len(daily) ** 0.5))


def explained(seed: int) -> dict:
    "Return what a temporal fusion transformer found of the planted variable: rank IC, coverage, first by weight."
    panel, y, middle = planted_world(seed)
    X = lagged_columns(panel, TFT_SETTINGS["steps"])
    early, late = parts(X.index, TFT_SETTINGS["steps"], 2)
    began = time.process_time()
    model = model_of("tft", seed, **TFT_SETTINGS).fit(X[early], y[early])
    seconds, told, seen = time.process_time() - began, model.predict(X[late]), interpret(model, X[late]).variables
    reached, best = (float(rank_ic(one, y[late]).mean()) for one in (told["score"], middle[late]))
    return {
        "ic": reached, "truth": best,
        "inside": float(((y[late] > told["q10"]) & (y[late] < told["q90"])).mean()),
        "first by weight": seen["weight"].idxmax() == "planted", "weight": float(seen["weight"]["planted"]),
        "first by effect": seen["effect"].idxmax() == "planted", "effect": float(seen["effect"]["planted"]),
        "seconds": seconds,
    }  # fmt: skip


def once(function, *args: object) -> object:
    "Return a result, from the cache if the same was computed before."
    key = content_hash([function, args])
    found = kept(key)
    if found is None:
        found = [function(*args)]
        keep(key, found)
        print(function.__name__, *args, found[0], file=sys.stderr, flush=True)
    return found[0]


def spread(values: list[float]) -> list[float]:
    "Return mean and standard error."
    return [round(float(np.mean(values)), 3), round(float(np.std(values, ddof=1) / len(values) ** 0.5), 3)]


def must_learn() -> dict:
    "Return what each kind reaches on the planted motif, over seeds."
    found = {}
    for kind in (*KINDS, "tft", "ridge", "trees, one step", "trees, all steps"):
        runs = [once(learned, kind, seed) for seed in range(LEARN_SEEDS)]
        mean, se = spread([run["ic"] for run in runs])
        share = round(float(np.mean([run["ic"] for run in runs]) / np.mean([run["truth"] for run in runs])), 3)
        heart = [once(by_heart, kind, seed) for seed in range(LEARN_SEEDS)] if kind in (*KINDS, "tft") else []
        least = round(min(heart), 4) if heart else None  # of the seeds
        found[kind] = {"rank IC": mean, "se": se, "share of the truth's": share, "by heart": least}
    return found


def must_not_learn() -> dict:
    "Return in how many of the seeds each kind says nothing where there is nothing."
    found = {}
    for kind in (*KINDS, "tft"):
        runs = {
            name: [once(blank_ic, kind, seed, shuffled) for seed in range(BLANK_SEEDS)]
            for name, shuffled in (("noise", False), ("shuffled", True))
        }
        found[kind] = {name: int((np.abs(t) <= 2).sum()) for name, t in runs.items()}
    return found


def tft_parts() -> dict:
    "Return the figures of the temporal fusion transformer over seeds."
    runs = pd.DataFrame([once(explained, seed) for seed in range(LEARN_SEEDS)])
    told = {name: spread(list(runs[name])) for name in ("ic", "truth", "inside", "weight", "effect")}
    return told | {name: int(runs[name].sum()) for name in ("first by weight", "first by effect")}


def main() -> dict:
    "Carry everything out and store it beside the other results."
    began = time.perf_counter()
    found = {"must_learn": must_learn(), "tft": tft_parts(), "must_not_learn": must_not_learn()}
    spent = {kind: [once(learned, kind, seed)["seconds"] for seed in range(LEARN_SEEDS)] for kind in KINDS}
    spent["tft"] = [once(explained, seed)["seconds"] for seed in range(LEARN_SEEDS)]
    seconds = {kind: round(float(np.median(took)), 1) for kind, took in spent.items()}
    about = {"seeds": LEARN_SEEDS, "blank seeds": BLANK_SEEDS, "cpu seconds of a fit": seconds}
    result = {
        "name": "sequences", "peer": "the planted truth", "ours_s": round(time.perf_counter() - began, 1),
        "peer_s": None, "ratio": None,
        "cold_s": None, "peer_cold_s": None, "ours_mb": None, "peer_mb": None, "max_rel_diff": None,
        "n": LEARN_SEEDS, "parts": {**found, "about": about},
    }  # fmt: skip
    (ROOT / "bench" / "results" / "sequences.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    print(json.dumps(main()))
