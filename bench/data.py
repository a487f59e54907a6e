"""Ten years of 500 names, 1.25 M rows: the lake into a panel, against Qlib's D.features and against pandas on one
Parquet file, where every name has every date and where one row of seven is missing."""

import contextlib
import io
import json
import logging
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from harness import compare

from quantlab.core.panel import grid
from quantlab.data.read import get_bars
from quantlab.data.store import Lake

RESULTS = Path(__file__).parent / "results" / "data.json"
NAMES, SESSIONS = 500, 2500
COLUMNS = ["open", "high", "low", "close", "volume", "adj"]


def market() -> pd.DataFrame:
    "Make bars of 500 names and 2500 sessions, in cents."
    rng = np.random.default_rng(7)
    shape = (SESSIONS, NAMES)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, shape), axis=0)) + 1
    opened = close * (1 + rng.normal(0, 0.005, shape))
    top, bottom = np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996
    prices = {name: np.round(x, 2).ravel() for name, x in zip(COLUMNS, (opened, top, bottom, close), strict=False)}
    more = {
        "volume": rng.integers(10**4, 10**7, SESSIONS * NAMES).astype(float),
        "adj": np.repeat(np.linspace(0.7, 1, SESSIONS), NAMES),
    }
    dates = pd.bdate_range("2014-01-01", periods=SESSIONS).as_unit("us")
    symbols = pd.Index([f"N{i:03d}" for i in range(NAMES)], dtype="str")
    return pd.DataFrame(prices | more, index=pd.MultiIndex.from_product([dates, symbols], names=["date", "symbol"]))


def dump_qlib(bars: pd.DataFrame, folder: Path) -> None:
    "Write Qlib's .bin layout: a calendar, the instruments, and per field the first position and the values."
    dates, symbols = grid(bars.index)[:2]
    (folder / "calendars").mkdir(parents=True)
    (folder / "instruments").mkdir()
    (folder / "calendars" / "day.txt").write_text("\n".join(f"{d:%Y-%m-%d}" for d in dates) + "\n")
    (folder / "instruments" / "all.txt").write_text(
        "".join(f"{s}\t{dates[0]:%Y-%m-%d}\t{dates[-1]:%Y-%m-%d}\n" for s in symbols)
    )
    for column in COLUMNS:
        wide = bars[column].to_numpy().reshape(SESSIONS, NAMES).astype("<f4")
        for i, symbol in enumerate(symbols):
            home = folder / "features" / symbol.lower()
            home.mkdir(parents=True, exist_ok=True)
            np.r_[np.float32(0), wide[:, i]].astype("<f4").tofile(home / f"{column}.day.bin")


def ours(folder: str) -> pd.DataFrame:
    return get_bars(source=Lake(Path(folder) / "lake"), dataset="us")


def ours_with_holes(folder: str) -> pd.DataFrame:
    return get_bars(source=Lake(Path(folder) / "lake"), dataset="holes")


def pandas_one_file(folder: str) -> pd.DataFrame:
    return pd.read_parquet(Path(folder) / "one.parquet").set_index(["date", "symbol"])


def pandas_with_holes(folder: str) -> pd.DataFrame:
    return pd.read_parquet(Path(folder) / "holes.parquet").set_index(["date", "symbol"])


def qlib_features(folder: str) -> pd.DataFrame:
    from qlib.data import D

    return D.features(D.instruments("all"), [f"${c}" for c in COLUMNS], freq="day")


def start_qlib(folder: str) -> None:
    import qlib

    with contextlib.redirect_stderr(io.StringIO()):
        qlib.init(provider_uri=str(Path(folder) / "qlib"), region="us", logging_level=logging.ERROR)


SIDES = {"ours": ours, "pandas": pandas_one_file, "qlib": qlib_features}


def peak(side: str, folder: str) -> dict:
    """Return the peak of resident memory above that of the imports, and the frame's own size, of one read in a fresh
    process."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import data; "
        f"data.report_peak({side!r}, {folder!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident() -> int:
    "Return the most memory that this process has held so far, in KB."
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def report_peak(side: str, folder: str) -> None:
    import pyarrow.dataset  # noqa: F401  # so that no import counts as memory of the read

    if side == "qlib":
        start_qlib(folder)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports (Linux)
    before = resident()
    frame = SIDES[side](folder)
    after = resident()
    codes = sum(np.asarray(c).nbytes for c in frame.index.codes)
    print(
        json.dumps(
            {
                "peak_mb": round((after - before) / 1024, 1),
                "frame_mb": round((sum(frame[c].nbytes for c in frame) + codes) / 2**20, 1),
            }
        )
    )


def by_date(frame: pd.DataFrame) -> np.ndarray:
    "Return Qlib's frame in our order."
    return frame.swaplevel().sort_index().to_numpy()


def main() -> dict:
    "Write the same bars three ways, read them three ways."
    with tempfile.TemporaryDirectory() as folder:
        bars = market()
        Lake(Path(folder) / "lake").write("us", "1d", bars)
        bars.reset_index().to_parquet(Path(folder) / "one.parquet", index=False)
        some = bars[np.random.default_rng(7).random(len(bars)) > 1 / 7]
        Lake(Path(folder) / "lake").write("holes", "1d", some)
        some.reset_index().to_parquet(Path(folder) / "holes.parquet", index=False)
        dump_qlib(bars, Path(folder) / "qlib")
        start_qlib(folder)
        n, fewer, values = len(bars), len(some), pd.DataFrame.to_numpy
        del bars, some
        version = metadata.version
        against = {"rounds": 5, "memory": False, "n": n}
        one = compare(
            "data",
            f"pandas {version('pandas')} read_parquet + set_index",
            lambda: ours(folder),
            lambda: pandas_one_file(folder),
            (values, values),
            **against,
        )
        holes = compare(
            "data",
            f"pandas {version('pandas')} read_parquet + set_index, one row of seven missing",
            lambda: ours_with_holes(folder),
            lambda: pandas_with_holes(folder),
            (values, values),
            **(against | {"n": fewer}),
        )
        top = compare(
            "data",
            f"qlib {version('pyqlib')} D.features",
            lambda: ours(folder),
            lambda: qlib_features(folder),
            (values, by_date),
            **(against | {"rounds": 3}),
        )
        memory = {side: peak(side, folder) for side in SIDES}
        one |= {"ours_mb": memory["ours"]["peak_mb"], "peer_mb": memory["pandas"]["peak_mb"]}
        top |= {"ours_mb": memory["ours"]["peak_mb"], "peer_mb": memory["qlib"]["peak_mb"]}
        times_frame = round(memory["ours"]["peak_mb"] / memory["ours"]["frame_mb"], 2)
        parts = {
            "one_parquet_file": one, "with_holes": holes, "memory": memory["ours"] | {"peak_over_frame": times_frame}
        }  # fmt: skip
        result = top | {"parts": parts}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result


if __name__ == "__main__":
    print(json.dumps(main()))
