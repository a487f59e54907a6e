"""data.sample: the files are the documented ones, load fast and offline, and the README's counts are true."""

import hashlib
import re
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.core.panel import check_panel
from quantlab.data.bars import adjust, check_bars, symbol_coverage
from quantlab.data.sample import (
    sample_bars,
    sample_book,
    sample_context,
    sample_members,
    sample_options,
    sample_sectors,
    sample_vix,
)

FOLDER = root() / "data" / "sample"
README = (FOLDER / "README.md").read_text()
LOADERS = [sample_bars, sample_book, sample_context, sample_members, sample_options, sample_sectors, sample_vix]


@pytest.fixture(scope="module")
def bars():
    return sample_bars()


@pytest.fixture(scope="module")
def context():
    return sample_context()


def test_files_match_their_checksums_and_the_readme():
    sums = dict(line.split()[::-1] for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    files = sorted(f for f in FOLDER.iterdir() if f.suffix in (".parquet", ".csv"))
    assert sorted(sums) == [f.name for f in files] and len(files) == 7
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert sums[file.name] == digest and f"{digest}  {file.name}" in README
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) <= 10 * 2**20


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("us_bars.parquet", sample_bars),
        ("market_context.parquet", sample_context),
        ("sp500_members.csv", sample_members),
        ("sp500_sectors.parquet", sample_sectors),
        ("vix.csv", sample_vix),
        ("option_chain.parquet", sample_options),
        ("book_events.parquet", lambda: pd.concat([sample_book(s)[0] for s in ("SIMA", "SIMB")])),
    ],
)
def test_row_counts_stand_in_the_readme(file, load):
    rows = int(re.search(rf"\| `{file}` \| ([\d,]+) \|", README)[1].replace(",", ""))
    assert len(load()) == rows


def test_loads_without_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the sample opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    for load in LOADERS:
        assert len(load())


def test_bars_are_a_valid_float_panel(bars, context):
    for frame, columns in ((bars, "open high low close volume adj"), (context, "open high low close volume")):
        assert check_bars(frame) is frame and check_panel(frame) is frame
        assert list(frame.columns) == columns.split() and (frame.dtypes == "float64").all()
        assert frame.index.levels[0].dtype == "datetime64[us]" and frame.index.levels[1].dtype == "str"
        assert frame.to_numpy().flags.writeable and not frame.index.has_duplicates


@pytest.mark.parametrize(
    ("symbols", "start", "end"),
    [
        (["XOM", "AAPL"], "2020-01-01", "2020-01-31"),
        ("AABA", None, "2018-07-18"),
        (None, "2023-12-28", None),
        (["AET", "AET"], "2018-07-17", "2018-07-20"),
    ],
)
def test_selection_equals_selecting_from_everything(bars, symbols, start, end):
    got = sample_bars(symbols, start, end)
    names = bars.index.get_level_values("symbol")
    dates = bars.index.get_level_values("date")
    keep = (
        np.ones(len(bars), bool) if symbols is None else names.isin([symbols] if isinstance(symbols, str) else symbols)
    )
    keep &= (dates >= pd.Timestamp(start or "1900-01-01")) & (dates <= pd.Timestamp(end or "2100-01-01"))
    pd.testing.assert_frame_equal(got, bars[keep])
    assert set(got.index.levels[1]) == set(got.index.get_level_values("symbol"))  # no unused levels
    assert len(got.index.levels[0]) == got.index.get_level_values("date").nunique()


def test_empty_and_unknown_selections():
    for empty in (sample_bars([]), sample_bars(start="2030-01-01"), sample_bars(start="2020-02-01", end="2020-01-01")):
        assert empty.empty and list(empty.columns) == ["open", "high", "low", "close", "volume", "adj"]
        check_bars(empty)
        assert symbol_coverage(empty).empty
    with pytest.raises(DataError, match=r"no \['GOOG'\]; close to them: .*GOOGL"):
        sample_bars("GOOG")
    with pytest.raises(DataError, match="it has AABA"):
        sample_bars(["...."])


def test_missing_folder_is_a_data_error(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_DATA_SAMPLE", str(tmp_path))
    for load in LOADERS:
        with pytest.raises(DataError, match="does not exist"):
            load()


def test_bars_flaws_are_as_documented(bars):
    found = symbol_coverage(bars)
    assert len(found) == 120 and bars.index.levels[0].size == 3522 and (found["missing"] == 0).all()
    stops = found[found["last"] < "2023-12-29"]
    assert stops.index.tolist() == ["AABA", "AET", "APC", "ARNC", "DO", "STI"]
    assert (stops["last"] == "2018-07-18").all() and (stops["rows"] == 2150).all()
    flat = bars[bars["volume"] == 0]
    assert flat.index.tolist() == [(pd.Timestamp("2019-10-18"), "BKR"), (pd.Timestamp("2019-11-05"), "GEN")]
    assert (flat[["open", "high", "low"]].to_numpy() == flat[["close"]].to_numpy()).all()
    by = bars.groupby(level="symbol")
    jumps = by["adj"].pct_change()
    assert (jumps > 0.05).sum() == 7 and (jumps >= -1e-6).sum() == len(bars) - 120
    last = by["adj"].last()
    assert (last < 1).sum() == 86 and round(last.min(), 4) == 0.9737
    change = adjust(bars)["close"].groupby(level="symbol").pct_change()
    assert (change.abs() > 0.25).sum() == 32 and (change.loc["2020-02-01":"2020-11-30"].abs() > 0.25).sum() == 23
    assert round(change[("2019-06-03", "DD")], 3) == 0.178 and round(change[("2016-11-01", "ARNC")], 3) == -0.121
    closes = by["close"].pct_change()
    back = closes.groupby(level="symbol").shift(-1)
    spikes = closes[(closes.abs() > 0.15) & (back.abs() > 0.15) & (closes * back < 0)]
    assert len(spikes) == 17 and set(spikes.index.get_level_values("date").strftime("%Y-%m")) == {"2011-08", "2020-03"}
    part = ((bars["close"] * 100 - (bars["close"] * 100).round()).abs() > 0.01).groupby(level="symbol").mean()
    assert (part > 0.01).sum() == 41 and set(part[part > 0.7].index) == set(
        "GE T GOOGL EXC IBM AMZN MRK ARNC PFE RTX".split()
    )
    assert (bars["volume"] % 100 == 0).all()
    same = bars["close"].groupby(level="symbol").diff().eq(0).unstack()
    run = same & same.shift(1, fill_value=False) & same.shift(2, fill_value=False)
    assert run.any().any() and not (run & same.shift(3, fill_value=False)).any().any()


def test_no_series_is_shifted_by_a_session(bars):
    wide = adjust(bars)["close"].unstack().pct_change(fill_method=None)
    market = wide.mean(axis=1)
    here = wide.corrwith(market)
    assert (
        (here > 0.2).all()
        and wide.corrwith(market.shift(1)).max() < 0.05
        and wide.corrwith(market.shift(-1)).max() < 0.05
    )


def test_context_flaws_are_as_documented(context, bars):
    assert context.index.levels[0].equals(bars.index.levels[0])
    assert (
        context.index.levels[1].tolist() == "GLD GSPC HYG IWM QQQ SPY TLT VIX XLE XLF XLI XLK XLP XLU XLV XLY".split()
    )
    assert (symbol_coverage(context)["rows"] == 3522).all()
    zero = context[context["volume"] == 0].groupby(level="symbol").size()
    assert zero.to_dict() == {"GSPC": 1, "VIX": 3522}
    own, cboe = context.xs("VIX", level="symbol"), sample_vix()
    differ = {
        c: int(((own[c] - cboe[c].reindex(own.index)).abs() > 0.005).sum()) for c in ("open", "high", "low", "close")
    }
    assert differ == {"open": 18, "high": 8, "low": 16, "close": 8}
    spx = context.xs("GSPC", level="symbol")
    copied = spx["open"] == spx["close"].shift()
    assert copied.sum() == 158 and copied.loc["2011":"2013"].sum() == 152
    assert (context.xs("XLF", level="symbol")["volume"] % 100 != 0).sum() == 1664
    assert round(context.loc[("2023-12-29", "SPY"), "close"].item(), 2) == 462.58
    with pytest.raises(DataError, match="adj"):
        adjust(context)


def test_members():
    members = sample_members()
    assert list(members.columns) == ["symbol", "start", "end"] and members["symbol"].nunique() == 1181
    assert members["end"].isna().sum() == 503 and not members.duplicated(["symbol", "start"]).any()
    assert not (members["end"] < members["start"]).any()
    assert set(sample_bars().index.levels[1]) <= set(members["symbol"])
    days = pd.bdate_range("1996-01-02", "2025-07-08")
    inside = [int(((members["start"] <= d) & ~(members["end"] < d)).sum()) for d in days[::20]]
    assert min(inside) >= 487 and max(inside) <= 507
    after = members.sort_values(["symbol", "start"]).groupby("symbol")["end"].shift()
    assert not (members["start"] <= after).any()  # spells of one ticker do not overlap
    assert members.isin(["BKR"]).any().any() and members.loc[
        members["symbol"] == "RTX", "start"
    ].item() == pd.Timestamp("2020-04-03")


def test_sectors():
    sectors = sample_sectors()
    assert list(sectors.columns) == ["known_at", "asof", "symbol", "name", "sector", "sub_industry", "valid"]
    assert (sectors["known_at"] == sectors["asof"] + pd.Timedelta(days=1)).all() and not sectors.duplicated(
        ["asof", "symbol"]
    ).any()
    wrong = sectors[~sectors["valid"]]
    assert len(wrong) == 521 and (wrong["asof"] == "2023-03-07").sum() == 502
    rest = wrong[wrong["asof"] != "2023-03-07"].groupby("symbol").size().to_dict()
    assert rest == {"American Airlines Group": 1, "GMCR": 2, "LYB": 5, "NLSN": 5, "TSCO": 2, "TYL": 4}
    assert sectors["name"].isna().sum() == 503 and sectors["sub_industry"].isna().sum() == 29_737
    assert sectors["asof"].nunique() == 185 and sectors["symbol"].nunique() == 829
    assert set(sample_bars().index.levels[1]) - set(sectors["symbol"]) == {"AABA"}


def test_vix():
    vix = sample_vix()
    assert (
        list(vix.columns) == ["open", "high", "low", "close"]
        and vix.index.is_monotonic_increasing
        and vix.index.is_unique
    )
    outside = (vix["open"] > vix["high"]) | (vix["open"] < vix["low"])
    assert outside.sum() == 47 and vix.index[outside].max() == pd.Timestamp("2006-02-08")
    assert ((vix["close"] <= vix["high"]) & (vix["close"] >= vix["low"])).all()
    assert vix.eq(vix["close"], axis=0).all(axis=1).sum() == 506


SOURCE = root().parent / "shared" / "data"


@pytest.mark.skipif(not (SOURCE / "embed").is_dir(), reason="the source files are not on this machine")
def test_build_reproduces_the_values_and_drops_nothing(tmp_path, bars):
    (tmp_path / "build.py").write_text((FOLDER / "build.py").read_text())
    subprocess.run([sys.executable, tmp_path / "build.py", SOURCE], check=True, capture_output=True)
    for file in FOLDER.glob("*.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / file.name), pd.read_parquet(file))
    for file in FOLDER.glob("*.csv"):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    source = (
        pd.read_parquet(SOURCE / "embed" / "us120_2010_2023.parquet")
        .astype({"symbol": "str"})
        .sort_values(["date", "symbol"])
    )
    prices = ["open", "high", "low", "close", "adj"]
    assert (bars[prices].to_numpy() == source[prices].to_numpy(dtype=float)).all()
    assert (bars["volume"].to_numpy() == source["volume_100"].to_numpy(dtype=float) * 100).all()
    assert (bars.index.get_level_values("symbol") == source["symbol"].to_numpy()).all()


def test_options_flaws_are_as_documented():
    chain = sample_options().set_index("contractSymbol")
    crossed = chain[chain["ask"] < chain["bid"]]
    assert crossed.index.tolist() == ["SPX260220C01000000", "SPX260618C05800000"]
    assert crossed[["bid", "ask"]].to_numpy().tolist() == [[5947.9, 5922.8], [1232.6, 0.0]]
    assert (chain["bid"] == 0).sum() == 267 and (chain["impliedVolatility"] < 1e-4).sum() == 540
    assert chain["volume"].isna().sum() == 476 and chain["expiration"].nunique() == 8
    assert str(chain["lastTradeDate"].min().date()) == "2025-10-14"
    assert chain["lastTradeDate"].max() < pd.Timestamp("2026-01-30 21:00", tz="UTC")
