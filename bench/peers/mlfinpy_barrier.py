"""Runs in mlfinpy's environment: label closes with triple barriers, on request, and say how long each pass took.

Reads the folder named on the command line (closes.npy, widths.npy: dates x symbols; dates.npy), answers each line on
standard input with the seconds of one pass, and leaves its labels there as labels.npy (label, return, position of t1;
dates x symbols; NaN = none).
"""

import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from mlfinpy.labeling.labeling import get_bins, get_events

warnings.simplefilter("ignore")


def label(close: pd.Series, width: pd.Series, horizon: int) -> pd.DataFrame:
    "Label one name: symmetric barriers one width away, a vertical barrier after some sessions."
    events = width.dropna().index
    position = close.index.get_indexer(events) + horizon
    inside = position < len(close)
    vertical = pd.Series(close.index[position[inside]], index=events[inside])
    found = get_events(close, events, [1, 1], width, 0.0, 1, vertical, verbose=False)
    return get_bins(found, close).join(found["t1"])


def main(folder: Path, horizon: int) -> None:
    closes, widths, dates = (np.load(folder / f"{name}.npy") for name in ("closes", "widths", "dates"))
    index = pd.DatetimeIndex(dates)
    names = [
        (pd.Series(c, index=index).dropna(), pd.Series(w, index=index).dropna())
        for c, w in zip(closes.T, widths.T, strict=True)
    ]
    print(version("mlfinpy"), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        results = [label(close, width, horizon) for close, width in names]
        seconds = time.perf_counter() - began
        out = np.full((3, *closes.shape), np.nan)
        for s, frame in enumerate(results):
            rows = index.get_indexer(frame.index)
            out[0, rows, s], out[1, rows, s] = frame["bin"], frame["ret"]
            out[2, rows, s] = index.get_indexer(pd.DatetimeIndex(frame["t1"]))
        np.save(folder / "labels.npy", out)
        print(seconds, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
