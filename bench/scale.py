"""The whole chain on ever more rows, from files to the account, each size in a process of its own; and on Dask.

A size is 25 years of daily bars of as many made names as give the rows asked for (listed one after the other over the
first years), a Parquet file for each hundred names. The chain imports the files into a lake, a dataset for each,
reads them back as total-return prices, computes Alpha158 by blocks of names into one file in single precision, labels
20 sessions ahead less the median of the date, grows trees on a fifth of the dates of the first 60 %, scores the rest,
and keeps an account of the best names. Seconds are of the clock, peaks are of resident memory, the process's imports
included, forgotten between steps. Each size is stored as soon as it is known; sizes that are stored are not run again.

Usage: python bench/scale.py [rows ...]; without rows, or from make bench ONLY=scale: all sizes that are missing,
then the chain at three million rows on two Dask workers of 4 GB, which must give the same numbers.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from data import resident

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "scale.json"
SCRATCH = HERE.parent / ".cache" / "scale"
SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
ON_DASK = 3_000_000
SESSIONS, LATEST, BLOCK = 6300, 600, 100  # of the years; by when all names are listed; names in a file
HORIZON, TREES, LEARN_EVERY, LEARN = 20, 20, 5, 0.6  # sessions; trees; of the dates one in five; share of the dates


def made(folder: Path, names: int) -> int:
    "Write the bars of names, a Parquet file for each block of them; return the rows."
    folder.mkdir(parents=True)
    dates, rows = pd.bdate_range("2000-01-03", periods=SESSIONS), 0
    days = dates.to_numpy().astype("datetime64[D]")
    market = np.random.default_rng(0).normal(2e-4, 0.008, SESSIONS)
    for block in range(-(-names // BLOCK)):
        rng, tables = np.random.default_rng([1, block]), []
        for i in range(block * BLOCK, min((block + 1) * BLOCK, names)):
            first = i * LATEST // names
            n = SESSIONS - first
            close = 40 * np.exp(np.cumsum(market[first:] + rng.normal(0, 0.015, n)))
            opened = close * np.exp(rng.normal(0, 0.004, n))
            top, bottom = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
            prices = dict(zip(("Open", "High", "Low", "Close"), (opened, top, bottom, close), strict=True))
            prices = {name: np.round(values, 4) for name, values in prices.items()}
            traded = {"Volume": rng.integers(10**4, 10**7, n)}
            tables.append(pa.table({"Date": days[first:], "Symbol": [f"N{i:05d}"] * n} | prices | traded))
            rows += n
        pyarrow.parquet.write_table(pa.concat_tables(tables), folder / f"b{block:03d}.parquet")
    return rows


class Clock:
    "Keep the seconds and the peak of each step."

    def __init__(self):
        self.steps: dict[str, dict] = {}

    def __call__(self, name: str, call: Callable, *given, **named):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
        began, used = time.perf_counter(), time.process_time()
        found = call(*given, **named)
        self.steps[name] = {
            "s": round(time.perf_counter() - began, 2),
            "cpu_s": round(time.process_time() - used, 2),
            "peak_gb": round(resident() / 2**20, 3),
        }
        return found


def imported(files: Path, lake_folder: Path) -> None:
    "Import each file into a dataset of its own."
    from quantlab.data.store import Lake
    from quantlab.importer.files import guess_columns, import_file

    lake, mapping = Lake(lake_folder), None
    for file in sorted(files.iterdir()):
        mapping = mapping or guess_columns(file)
        lake.write(file.stem, "1d", import_file(file, mapping))


class Block:
    "Read names that lie in one dataset of the lake; a process or a worker gets the path alone."

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __call__(self, symbols: list[str]) -> pd.DataFrame:
        from quantlab.data.read import get_bars
        from quantlab.data.store import Lake

        block = int(symbols[0][1:]) // BLOCK
        bars = get_bars(list(symbols), adjust="split", dataset=f"b{block:03d}", source=Lake(self.folder))
        return bars.assign(vwap=bars[["open", "high", "low", "close"]].mean(axis=1))


def narrow(lake_folder: Path, names: int) -> pd.DataFrame:
    "Read open and close of all names, a block at a time, into one panel."
    from quantlab.core.panel import grid

    dates = pd.bdate_range("2000-01-03", periods=SESSIONS, unit="us")
    wide = {column: np.full((SESSIONS, names), np.nan) for column in ("open", "close")}
    symbols, read = pd.Index([f"N{i:05d}" for i in range(names)], dtype="str"), Block(lake_folder)
    for first in range(0, names, BLOCK):
        bars = read(list(symbols[first : first + BLOCK]))
        at = grid(bars.index)
        cells = dates.get_indexer(at.dates)[at.row], symbols.get_indexer(at.symbols)[at.col]
        for column, values in wide.items():
            values[cells] = bars[column].to_numpy()
    there = np.isfinite(wide["close"])
    t, i = np.nonzero(there)
    index = pd.MultiIndex([dates, symbols], [t.astype("int16"), i.astype("int16")], names=["date", "symbol"])
    del t, i
    return pd.DataFrame({column: wide.pop(column)[there] for column in ("open", "close")}, index)


def labelled(bars: pd.DataFrame) -> tuple[pd.Series, pd.Timestamp]:
    "Return the outcome of the rows to learn from, NaN elsewhere, and the first date to score."
    from quantlab.core.panel import grid
    from quantlab.labels.forward import excess, forward_returns

    y = excess(forward_returns(bars, horizon=HORIZON)["y"])
    at, last = grid(bars.index), int(SESSIONS * LEARN)
    learn = (at.row < last) & (at.row % LEARN_EVERY == 0)
    return y.where(learn), at.dates[last + HORIZON + 1]


def account(scores: pd.DataFrame, bars: pd.DataFrame, names: int):
    "Hold the best tenth of the names, at most 50, looked at each 20 sessions."
    from quantlab.backtest.engine import from_weights
    from quantlab.portfolio.weights import TopK

    top = max(min(names // 10, 50), 1)
    later = bars.loc[scores.index[0][0] :]
    later.index = later.index.remove_unused_levels()
    return from_weights(TopK(top, top // 2, rebalance=20)(scores), later)


def model():
    from quantlab.models.gbm import GBMModel

    return GBMModel(TREES, min_child_samples=20, num_threads=1)


def chain(folder: Path, rows: int) -> dict:
    "Run every step on one size."
    import quantlab.backtest.engine  # so that no import counts as a step
    import quantlab.importer.files  # noqa: F401
    from quantlab.features.sets import feature_set
    from quantlab.models.out_of_core import fit_file, predict_file, write_features

    names, clock = max(rows // (SESSIONS - LATEST // 2), 2), Clock()
    began = time.perf_counter()
    count = clock("make", made, folder / "files", names)
    clock("import", imported, folder / "files", folder / "lake")
    shutil.rmtree(folder / "files")
    bars = clock("read", narrow, folder / "lake", names)
    alphas, read = feature_set("alpha158"), Block(folder / "lake")
    held = clock("alpha158", write_features, read, bars.index, alphas, folder / "f.npy", BLOCK, workers=1)
    y, start = clock("labels", labelled, bars)
    grown = clock("fit", fit_file, model(), held, y)
    scores = clock("predict", predict_file, grown, held, start)
    run = clock("account", account, scores, bars, names)
    return {
        "rows": count, "names": names, "sessions": SESSIONS, "learned_rows": int(y.notna().sum()),
        "scored_rows": len(scores), "fills": len(run.trades), "equity": float(run.equity.iloc[-1]),
        "total_s": round(time.perf_counter() - began, 1), "disk_gb": round(held.file.stat().st_size / 1e9, 3),
        "peak_gb": max(step["peak_gb"] for step in clock.steps.values()), "steps": clock.steps,
    }  # fmt: skip


def labels_of(_: str, lake_folder: Path, names: int) -> pd.Series:
    "Return the labels; the work of one task."
    return labelled(narrow(lake_folder, names))[0]


def held_account(scores: pd.DataFrame, bars: pd.DataFrame, names: int) -> pd.Series:
    "Return the equity; the work of one task."
    return account(scores, bars, names).equity


def by_lightgbm(address: str, X: np.ndarray, y: np.ndarray, later: np.ndarray, ours: np.ndarray) -> dict:
    "Train LightGBM on the workers, each with its part of the rows, and say how far its scores are from one machine's."
    import dask.array
    import lightgbm
    from distributed import Client

    given = {k: v for k, v in model()._parameters([str(i) for i in range(X.shape[1])], len(X)).items() if v is not None}
    given = {k: v for k, v in given.items() if k not in ("num_threads", "feature_fraction", "bagging_fraction")}
    given |= {"feature_fraction": model().colsample, "bagging_fraction": model().subsample}
    with Client(address) as client:
        half = -(-len(X) // 2)
        parts = dask.array.from_array(X, (half, X.shape[1])), dask.array.from_array(y, half)
        trained = lightgbm.DaskLGBMRegressor(client=client, n_estimators=TREES, **given).fit(*parts).to_local()
    theirs = trained.predict(later)
    return {
        "correlation": float(np.corrcoef(theirs, ours)[0, 1]),
        "max_abs_diff": float(np.abs(theirs - ours).max()),
        "deviation_of_scores": float(ours.std()),
    }


def on_dask(folder: Path, rows: int = ON_DASK) -> dict:
    "Run the chain here and on two Dask workers of 4 GB and one thread each; say whether every number is the same."
    from distributed import LocalCluster

    from quantlab.core.compute import map as map_items
    from quantlab.features.sets import feature_set
    from quantlab.models.out_of_core import fit_file, predict_file, write_features

    names = max(rows // (SESSIONS - LATEST // 2), 2)
    made(folder / "files", names)
    imported(folder / "files", folder / "lake")
    bars, read, alphas = narrow(folder / "lake", names), Block(folder / "lake"), feature_set("alpha158")
    here = write_features(read, bars.index, alphas, folder / "here.npy", 4, workers=1)
    y, start = labelled(bars)
    mine = fit_file(model(), here, y)
    scores = predict_file(mine, here, start)
    equity = account(scores, bars, names).equity
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "4GB", "dashboard_address": None}
    with LocalCluster(processes=True, **options) as cluster:
        one = lambda call, item, *shared: map_items(call, [item], shared, scheduler=cluster.scheduler_address)[0]
        there = write_features(read, bars.index, alphas, folder / "there.npy", 4, scheduler=cluster.scheduler_address)
        told = one(labels_of, "all", folder / "lake", names)
        theirs = one(fit_file, model(), there, told)
        found = one(predict_file, theirs, there, start)
        held = one(held_account, found, bars, names)
        learn = np.flatnonzero(y.notna())
        later = here.values(np.arange(len(bars) - len(scores), len(bars)))
        apart = by_lightgbm(
            cluster.scheduler_address, here.values(learn), y.to_numpy()[learn], later, scores["score"].to_numpy()
        )
    return {
        "rows": len(bars), "workers": 2, "memory_limit": "4GB",
        "equal": {
            "features": here.file.read_bytes() == there.file.read_bytes(), "labels": y.equals(told),
            "trees of one machine": mine.booster_.model_to_string() == theirs.booster_.model_to_string(),
            "scores": scores.equals(found), "equity": equity.equals(held),
        },
        "lightgbm.dask, not equal": apart,
    }  # fmt: skip


def stored() -> dict:
    "Return what is known so far."
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {"name": "scale", "peer": "none: what is measured is the growth", "parts": {"sizes": []}}


def keep(found: dict) -> None:
    "Store the results, whole or not at all."
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(part, RESULTS)


def growth(sizes: list[dict]) -> dict:
    "Return the slope of each step over the sizes from 300,000 rows on, both in logarithms; 1 = proportional."
    large = [run for run in sizes if run["rows"] > 250_000]
    if len(large) < 2:
        return {}
    x = np.log([run["rows"] for run in large])
    slope = lambda of: round(float(np.polyfit(x, np.log([max(of(run), 0.01) for run in large]), 1)[0]), 2)
    steps = {step: slope(lambda run, step=step: run["steps"][step]["s"]) for step in large[0]["steps"]}
    return {"seconds": steps, "peak_gb": slope(lambda run: run["peak_gb"])}


def alone(what: str, rows: int) -> dict:
    "Run the chain, or the one on Dask, in a fresh process."
    scratch = SCRATCH / f"{what}{rows}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        command = [sys.executable, __file__, what, str(rows), str(scratch)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(rows: int) -> dict:
    "Run one size and store it."
    run, found = alone("chain", rows), stored()
    others = [one for one in found["parts"]["sizes"] if one["asked"] != rows]
    sizes = sorted([*others, {"asked": rows} | run], key=lambda one: one["asked"])
    top = sizes[-1]
    found |= {
        "ours_s": top["total_s"], "peer_s": None, "ratio": None, "cold_s": None, "peer_cold_s": None,
        "ours_mb": round(top["peak_gb"] * 1024), "peer_mb": None, "max_rel_diff": None, "n": top["rows"],
    }  # fmt: skip
    found["parts"] |= {"sizes": sizes, "growth": growth(sizes)}
    keep(found)
    return run


def main(rows: tuple[int, ...] = ()) -> dict:
    "Run the sizes asked for, or those that are missing."
    known = {run["asked"] for run in stored()["parts"]["sizes"]}
    for size in rows or [size for size in SIZES if size not in known]:
        print(json.dumps(measure(size)), flush=True)
    if not rows and "dask" not in stored()["parts"]:
        dask, found = alone("dask", ON_DASK), stored()
        found["parts"]["dask"] = dask
        keep(found)
    return stored()


if __name__ == "__main__":
    if sys.argv[1:2] in (["chain"], ["dask"]):
        call = chain if sys.argv[1] == "chain" else on_dask
        print(json.dumps(call(Path(sys.argv[3]), int(sys.argv[2]))))
    else:
        print(json.dumps(main(tuple(map(int, sys.argv[1:])))))
