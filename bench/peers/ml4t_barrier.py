"""Runs in the environment of ml4t-engineer: label bars with triple barriers, on request, and time each pass.

Reads the folder named on the command line (open.npy, high.npy, low.npy, close.npy, widths.npy: dates x symbols;
dates.npy), makes one long polars frame of the rows that have a width, and answers each line on standard input with the
seconds of one pass; the labels of the last pass stay there as labels.npy (label, return, position of the exit; dates x
symbols; NaN = none).
"""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from ml4t.engineer.config import LabelingConfig
from ml4t.engineer.labeling import triple_barrier_labels


def frame(folder: Path) -> tuple[pl.DataFrame, np.ndarray]:
    "Return the rows that have a width, symbol by symbol, and their place in the panel laid out so."
    names = ("open", "high", "low", "close", "widths")
    wide, dates = {name: np.load(folder / f"{name}.npy") for name in names}, np.load(folder / "dates.npy")
    n, symbols = wide["close"].shape
    long = {name: values.T.ravel() for name, values in wide.items()}
    keys = {"timestamp": np.tile(dates, symbols), "symbol": np.repeat([f"{s:04d}" for s in range(symbols)], n)}
    place = np.flatnonzero(~np.isnan(long["widths"]))
    return pl.DataFrame({name: values[place] for name, values in (keys | long).items()}), place


def main(folder: Path, horizon: int) -> None:
    table, place = frame(folder)
    shape = np.load(folder / "close.npy").shape
    terms = LabelingConfig.triple_barrier(
        upper_barrier="widths", lower_barrier="widths", max_holding_period=horizon, side=1
    )
    columns = {"price_col": "close", "open_col": "open", "high_col": "high", "low_col": "low"}
    print(version("ml4t-engineer"), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = triple_barrier_labels(table, terms, **columns, timestamp_col="timestamp", group_col="symbol")
        seconds = time.perf_counter() - began
        out = np.full((3, shape[0] * shape[1]), np.nan)
        out[:2, place] = found["label"].to_numpy(), found["label_return"].to_numpy()
        out[2, place] = place % shape[0] + found["label_bars"].to_numpy()
        np.save(folder / "labels.npy", np.stack([x.reshape(shape[::-1]).T for x in out]))
        print(seconds, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
