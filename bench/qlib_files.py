"""Qlib's files and Qlib's own engine, for the benchmarks and the oracle tests; nothing of the package imports this."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.core.panel import grid

SHARED = Path(os.environ.get("QUANTLAB_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
CSI300 = SHARED / "data" / "qlib_cn_csi300"
FIELDS = ("open", "high", "low", "close", "volume")


def calendar(root: Path = CSI300) -> pd.DatetimeIndex:
    return pd.DatetimeIndex((root / "calendars" / "day.txt").read_text().split()).as_unit("us")


def spans(market: str, root: Path = CSI300) -> pd.DataFrame:
    "Return the membership spells of a market: symbol, start, end."
    frame = pd.read_csv(
        root / "instruments" / f"{market}.txt", sep="\t", names=["symbol", "start", "end"], parse_dates=["start", "end"]
    )
    return frame.sort_values("symbol", ignore_index=True)


def read_bars(
    start: str,
    end: str,
    warm_up: int = 61,
    symbols: list[str] | None = None,
    root: Path = CSI300,
    fields: tuple[str, ...] = FIELDS,
) -> pd.DataFrame:
    """Read the bars, float32 as they are stored, from `warm_up` sessions before start to end, with a row for each
    session between a symbol's first and last."""
    days = calendar(root)
    first, last = (
        max(days.searchsorted(pd.Timestamp(start)) - warm_up, 0),
        days.searchsorted(pd.Timestamp(end), "right"),
    )
    names = sorted(symbols or (folder.name.upper() for folder in (root / "features").iterdir()))
    tiles = np.full((len(fields), len(names), last - first), np.nan, dtype="float32")
    alive = np.zeros((len(names), last - first), dtype=bool)
    for s, name in enumerate(names):
        for f, field in enumerate(fields):
            with open(f"{root}/features/{name.lower()}/{field}.day.bin", "rb", buffering=0) as file:
                raw = np.frombuffer(file.read(), "<f4")
            if len(raw) < 2:
                continue
            born = int(raw[0])
            a, b = max(born, first), min(born + len(raw) - 1, last)
            if a < b:
                tiles[f, s, a - first : b - first] = raw[a - born + 1 : b - born + 1]
                alive[s, a - first : b - first] = True
    row, col = np.nonzero(np.ascontiguousarray(alive.T))
    index = pd.MultiIndex([days[first:last], pd.Index(names, dtype="str")], [row, col], names=["date", "symbol"])
    cells = col * (last - first) + row
    columns = {field: tile.reshape(-1)[cells] for field, tile in zip(fields, tiles, strict=True)}
    return pd.DataFrame(columns, index=index)


def members(bars: pd.DataFrame, market: str, start: str, root: Path = CSI300) -> np.ndarray:
    "Say for each row of the bars whether it lies in a spell of the market, from start on."
    at, spells = grid(bars.index), spans(market, root)
    inside = np.zeros((len(at.dates), len(at.symbols)), dtype=bool)
    begin = at.dates.searchsorted(spells["start"].clip(lower=pd.Timestamp(start)))
    end = at.dates.searchsorted(spells["end"], "right")
    for symbol, a, b in zip(at.symbols.get_indexer(spells["symbol"]), begin, end, strict=True):
        if symbol >= 0:
            inside[a:b, symbol] = True
    return inside[at.row, at.col]


def start_qlib(processes: int = 1, double: bool = False, root: Path = CSI300) -> None:
    "Start Qlib on the files; `double` makes its expressions read float64."
    import qlib
    from qlib.data.base import Feature

    multiprocessing.set_start_method(
        "fork", force=True
    )  # Qlib's usual way; a child of a spawned process would spawn, and lose `double`
    qlib.init(
        provider_uri=str(root), region="cn", kernels=processes, joblib_backend="multiprocessing", logging_level=40
    )
    if double:
        stock = Feature._load_internal
        Feature._load_internal = lambda self, *args: stock(self, *args).astype(np.float64)


def run_qlib(name: str, instruments: str | list[str], start: str, end: str) -> pd.DataFrame:
    "Compute Alpha158 or Alpha360 with Qlib, without processors; (date, symbol) order is Qlib's own."
    from qlib.contrib.data.loader import Alpha158DL, Alpha360DL
    from qlib.data.dataset.loader import QlibDataLoader

    config = {"Alpha158": Alpha158DL, "Alpha360": Alpha360DL}[name].get_feature_config()
    return QlibDataLoader(config={"feature": config}).load(instruments, start, end)["feature"]


def qlib_account(scores: pd.Series, start: str, end: str, cash: float = 1e8) -> pd.DataFrame:
    "Let Qlib trade scores by its published strategy and return its own report by date; start_qlib comes first."
    from qlib.contrib.evaluate import backtest_daily
    from qlib.contrib.strategy import TopkDropoutStrategy

    signal = scores.rename_axis(index={"date": "datetime", "symbol": "instrument"}).sort_index()
    exchange = {
        "limit_threshold": 0.095,
        "deal_price": "close",
        "open_cost": 0.0005,
        "close_cost": 0.0015,
        "min_cost": 5,
    }
    report, _ = backtest_daily(
        start,
        end,
        TopkDropoutStrategy(signal=signal, topk=50, n_drop=5),
        account=cash,
        benchmark="SH000300",
        exchange_kwargs=exchange,
    )
    return report
