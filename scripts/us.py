"""Make the Qlib store data/lake/qlib/us_sp500 that recipes/us.yaml reads, from the shared S&P 500 files.

Usage: python scripts/us.py [FOLDER]   (../shared/data/us, or below QUANTLAB_SHARED, when absent)

FOLDER holds us_sp500_daily_*.parquet (all of them are read, so later years may lie in a file of their own), the
published factors (F-F_Research_Data_5_Factors_2x3_daily.csv, F-F_Momentum_Factor_daily.csv) and
sp500_sector_snapshots_*.parquet. The store has the market sp500, the members of each session as the files flag them;
the index MKT, the published return of the whole market, dividends included; the factors; and the sectors, each known
from the date of its snapshot on.
"""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.panel import as_panel
from quantlab.vendors.qlib_write import write_qlib

STORE = Path("data/lake/qlib/us_sp500")  # below the root; data/lake is not committed
SPIKES = ("GENZ", ("2001-04-30", "2001-05-07"))  # two prices of a source that nobody paid
PRICES = ["open", "high", "low", "close"]


def shared() -> Path:
    "Return the folder of the shared US files."
    return Path(os.environ.get("QUANTLAB_SHARED") or root().parent / "shared") / "data" / "us"


def stock_rows(folder: Path) -> pd.DataFrame:
    "Read the bars of every series, once where two files hold the same session; raise ConfigError where there are none."
    files = sorted(folder.glob("us_sp500_daily_*.parquet"))
    if not files:
        raise ConfigError(
            f"{folder.name} has no us_sp500_daily_*.parquet; set QUANTLAB_SHARED to the folder with data/us"
        )
    rows = pd.concat([pd.read_parquet(file) for file in files])
    rows = rows.assign(symbol=rows["symbol"].astype(str)).drop_duplicates(["date", "symbol"], keep="last")
    bad = rows["symbol"].eq(SPIKES[0]) & rows["date"].isin(pd.to_datetime(SPIKES[1]))
    return rows[~bad & rows["close"].gt(0)]


def read_factors(file: Path) -> pd.DataFrame:  # by date, decimal
    "Read one published table of daily factors, without the text above and below it."
    lines = file.read_text().splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith((",", "Date,")))
    table = pd.read_csv(file, skiprows=top, index_col=0)
    table.index = pd.to_datetime(table.index.astype(str), errors="coerce")  # the footer is text
    return table[table.index.notna()].rename(columns=str.strip).astype(float).rename_axis("date") / 100


def factors(folder: Path) -> pd.DataFrame:  # by date: Mkt-RF, SMB, HML, RMW, CMA, RF, Mom, decimal
    "Read the published five factors, the bill rate and momentum."
    return read_factors(folder / "F-F_Research_Data_5_Factors_2x3_daily.csv").join(
        read_factors(folder / "F-F_Momentum_Factor_daily.csv").set_axis(["Mom"], axis=1)
    )


def index_rows(folder: Path, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    "Return the market's level as a series of bars named MKT, from the published excess return and bill rate."
    table = factors(folder)
    level = 100 * (1 + (table["Mkt-RF"] + table["RF"]).reindex(sessions).fillna(0)).cumprod()
    return pd.DataFrame({"date": sessions, "symbol": "MKT", **{p: level.to_numpy() for p in PRICES}, "volume": 0.0})


def spells(rows: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:  # symbol, start, end
    "Turn the flag of membership into spells without a gap of sessions."
    inside = rows.loc[rows["in_sp500"], ["symbol", "date"]].sort_values(["symbol", "date"])
    place = pd.Series(sessions.searchsorted(inside["date"]), inside.index)
    new = place.diff().ne(1) | inside["symbol"].ne(inside["symbol"].shift())
    return (
        inside.groupby(new.cumsum())
        .agg(symbol=("symbol", "first"), start=("date", "min"), end=("date", "max"))
        .reset_index(drop=True)
    )


def main(folder: Path | None = None, place: Path | None = None) -> Path:
    "Write the store anew, whole or not at all."
    folder, place = folder or shared(), place or root() / STORE
    rows = stock_rows(folder)
    sessions = pd.DatetimeIndex(np.sort(rows["date"].unique()))
    bars = rows[["date", "symbol", *PRICES, "volume", "adj"]].astype(dict.fromkeys([*PRICES, "volume", "adj"], float))
    bars["high"], bars["low"] = bars[PRICES].max(axis=1), bars[PRICES].min(axis=1)  # a dozen opens lie outside
    bars = pd.concat([bars, index_rows(folder, sessions).assign(adj=1.0)])
    draft = place.with_name(f".{place.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    write_qlib(as_panel(bars), draft, {"sp500": spells(rows, sessions)})
    found = [pd.read_parquet(file) for file in sorted(folder.glob("sp500_sector_snapshots_*.parquet"))]
    sectors = pd.concat(found).rename(columns={"asof": "known_at"})[["known_at", "symbol", "sector"]]
    sectors.dropna().to_parquet(draft / "sectors.parquet", index=False)
    factors(folder).loc[sessions[0] : sessions[-1]].to_parquet(draft / "factors.parquet")
    shutil.rmtree(place, ignore_errors=True)
    draft.rename(place)
    return place


if __name__ == "__main__":
    try:
        made = main(*(Path(word) for word in sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    print(f"{made.relative_to(root())} is written")
