"""vendors.qlib against Qlib itself: what we write it reads equal, what it ships we read equal."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import compute
from quantlab.features.sets import feature_set
from quantlab.vendors.qlib import qlib_traits, read_members, read_qlib
from quantlab.vendors.qlib_write import write_qlib

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data"
FIELDS = ["open", "high", "low", "close", "volume", "factor"]
QLIB = pytest.mark.skipif(importlib.util.find_spec("qlib") is None, reason="the extra qlib is not installed")


def by_qlib(store, out, *requests, freq="day"):
    "Let Qlib answer requests of (instruments, fields) in a process of its own; return its frames by (date, symbol)."
    program = f"""
import qlib, pandas as pd
from qlib.data import D
if __name__ == "__main__":
    qlib.init(provider_uri={str(store)!r}, region="cn", kernels=1,
              expression_cache=None, dataset_cache=None, logging_level=40)
    frames = []
    for instruments, fields in {requests!r}:
        names = D.instruments(instruments) if isinstance(instruments, str) else instruments
        frame = D.features(names, [f if "(" in f else "$" + f for f in fields], freq={freq!r})
        frames.append(frame.swaplevel().sort_index().set_axis(fields, axis=1).rename_axis(["date", "symbol"]))
    pd.to_pickle(frames, {str(out)!r})
"""
    script = out.with_suffix(".py")
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=out.parent,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return pd.read_pickle(out)


def same(ours, theirs):
    "Assert that the values are equal to the bit, rows without any value aside."
    ours, theirs = ours.dropna(how="all"), theirs.dropna(how="all")
    assert theirs.index.get_level_values("symbol").tolist() == ours.index.get_level_values("symbol").tolist()
    assert (theirs.index.get_level_values("date") == ours.index.get_level_values("date")).all()
    assert (theirs.dtypes == "float32").all()
    np.testing.assert_array_equal(ours.to_numpy(), theirs.to_numpy(dtype="float64"))


def holed():
    "Bars of six names that start late, stop early and miss days."
    bars = (
        sample_bars(["AAPL", "BAC", "GEN", "KO", "WFC", "XOM"], "2017-01-03", "2019-12-31")
        .rename(index={"GEN": "CON", "KO": "7203.T"})
        .sort_index()
    )
    rng = np.random.default_rng(3)
    keep = rng.random(len(bars)) < 0.97
    dates, symbols = (bars.index.get_level_values(i) for i in (0, 1))
    return bars[keep & ~((symbols == "BAC") & (dates < "2017-06-01")) & ~((symbols == "XOM") & (dates > "2019-06-03"))]


@QLIB
def test_qlib_reads_back_what_we_write(tmp_path):
    bars = holed()
    spells = pd.DataFrame(
        {
            "symbol": ["XOM", "XOM", "CON"],
            "start": ["2018-01-02", "2019-01-02", "2017-02-01"],
            "end": ["2018-02-01", "2019-02-01", "2017-03-01"],
        }
    )
    store = write_qlib(bars, tmp_path / "store", {"few": spells})
    everything, few = by_qlib(store, tmp_path / "q.pkl", ("all", FIELDS), ("few", ["close"]))
    ours = read_qlib(store)
    same(ours, everything)
    expected = adjust(bars).assign(volume=bars["volume"] / bars["adj"], factor=bars["adj"])[FIELDS]
    pd.testing.assert_frame_equal(ours, expected.astype("float32").astype("float64"))
    named = read_qlib(store, "few", ["close"])
    same(named[named["member"]][["close"]], few)
    assert named["member"].sum() == len(few)  # the days that a name misses are rows in both
    assert set(named.index.get_level_values("symbol")) == {"XOM", "CON"} and named["close"].notna().sum() == len(
        ours["close"][ours.index.get_level_values("symbol").isin(["XOM", "CON"])]
    )


def test_traded_prices_come_back_within_two_roundings(tmp_path):
    bars = holed()
    split = bars.assign(split=np.where(bars.index.get_level_values("date") < "2018-06-01", 0.25, 1.0))
    back = read_qlib(write_qlib(split, tmp_path / "s"), prices="traded")
    pd.testing.assert_frame_equal(back.drop(columns=["adj"]), bars.drop(columns="adj"), rtol=3e-7)
    np.testing.assert_allclose(back["adj"], split["adj"] * split["split"], rtol=1e-7)
    pd.testing.assert_frame_equal(adjust(back)[["open", "close"]], adjust(split)[["open", "close"]], rtol=3e-7)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "B", "Z9"])), min_size=1, max_size=20, unique=True),
    st.integers(0, 9),
    st.integers(0, 9),
)
@settings(max_examples=20, deadline=None)
def test_any_shape_of_panel_survives(tmp_path_factory, keys, first, last):
    frame = pd.DataFrame(keys, columns=["day", "symbol"])
    prices = np.arange(len(frame)) + 10.0
    frame = frame.assign(
        date=pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["day"], unit="D"),
        open=prices,
        high=prices + 1,
        low=prices - 1,
        close=prices,
        volume=5.0,
    )
    bars = as_panel(frame.drop(columns="day"))
    store = write_qlib(bars, tmp_path_factory.mktemp("q") / "s")
    pd.testing.assert_frame_equal(read_qlib(store).drop(columns="factor"), bars, check_index_type=False)
    days = bars.index.get_level_values("date").unique()
    low, high = days[min(first, len(days) - 1)], days[min(last, len(days) - 1)]
    if len(bars.loc[low:high]):
        assert len(read_qlib(store, start=low, end=high)) == len(bars.loc[low:high])
    else:
        with pytest.raises(DataError, match="ask within it"):
            read_qlib(store, start=low, end=high)
    assert (
        read_members(store).set_index("symbol")["start"] == bars.reset_index().groupby("symbol")["date"].min()
    ).all()


def test_a_crash_leaves_nothing(tmp_path, monkeypatch):
    bars = sample_bars(["KO"], "2017-01-03", "2017-01-31")
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_qlib(bars, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["NA", "null", "BTC/USDT", "A\tB", ".."])
def test_names_that_qlib_cannot_hold_are_refused(tmp_path, name):
    bars = sample_bars(["KO"], "2017-01-03", "2017-01-31").rename(index={"KO": name})
    with pytest.raises(DataError, match="rename them"):
        write_qlib(bars, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_two_names_in_one_folder_are_refused(tmp_path):
    bars = sample_bars(["KO", "XOM"], "2017-01-03", "2017-01-31").rename(index={"XOM": "ko"}).sort_index()
    with pytest.raises(DataError, match="kept apart"):
        write_qlib(bars, tmp_path / "store")


@QLIB
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "qlib_cn_csi300").is_dir(), reason="the shared Qlib folder is not on this machine")
def test_all_of_qlibs_own_data_is_read_equal(tmp_path):
    store = SHARED / "qlib_cn_csi300"
    ours = read_qlib(store, check=False)
    assert len(ours) == 2_359_876
    five = ["SH000300", "SH600000", "SH600011", "SZ000001", "SZ300601"]
    everything, members, some = by_qlib(
        store, tmp_path / "q.pkl", ("all", FIELDS), ("csi300", FIELDS), (five, [*FIELDS, "change"])
    )
    same(ours, everything)
    named = read_qlib(store, "csi300", skip_missing=True, check=False)
    same(named[named["member"]].drop(columns="member"), members)
    same(read_qlib(store, five, [*FIELDS, "change"]), some)
    with pytest.raises(DataError, match=r"open is outside low..high: 223 row\(s\), first: \(2019-01-07, SH600000\)"):
        read_qlib(store)
    with pytest.raises(DataError, match=r"no values of 7 symbol"):
        read_qlib(store, "csi300")


# --- a universe by name


def spelled():
    "Sample names that enter and leave a market."
    rows = [
        ("KO", "2018-03-05", "2018-06-29"),
        ("KO", "2019-02-01", "2019-05-31"),
        ("XOM", "2018-12-03", None),
        ("BAC", "2017-01-03", "2018-02-28"),
    ]
    return pd.DataFrame(rows, columns=["symbol", "start", "end"])


@QLIB
def test_a_universe_by_name_has_windows_on_whole_histories_as_qlib_has(tmp_path):
    """Alpha158 by Qlib on the market's name, and ours on the rows of members: every cell agrees, in the first days
    of a spell too."""
    bars = sample_bars(["BAC", "KO", "WFC", "XOM"], "2017-01-03", "2019-12-31")
    dates, symbols = (bars.index.get_level_values(i) for i in (0, 1))
    closed = (symbols != "WFC") & dates.isin(
        pd.DatetimeIndex(["2018-01-09", "2018-05-02", "2019-03-01"])
    )  # sessions that no member has
    halted = (
        (symbols == "KO") & (dates >= "2017-09-25") & (dates <= "2017-10-20")
    )  # from before the first row that is read
    store = write_qlib(bars[~closed & ~halted], tmp_path / "store", {"few": spelled()})
    program = f"""
import sys; sys.path.insert(0, {str(root() / "bench")!r})
import pathlib, qlib_files
if __name__ == "__main__":
    qlib_files.start_qlib(1, double=True, root=pathlib.Path({str(store)!r}))
    found = qlib_files.run_qlib("Alpha158", "few", "2018-01-02", "2019-12-31")
    found.index = found.index.set_names(["date", "symbol"])
    found.to_parquet({str(tmp_path / "f.parquet")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = pd.read_parquet(tmp_path / "f.parquet").sort_index().drop(columns="VWAP0")  # these bars have no vwap
    ours = read_qlib(store, "few", start="2018-01-02", warm_up=61)
    rows = ours["member"] & (ours.index.get_level_values("date") >= "2018-01-02")
    found = compute(ours, [f for f in feature_set("alpha158") if f.name != "VWAP0"], rows=rows)
    assert [tuple(i) for i in found.index] == [tuple(i) for i in theirs.index] and list(found.columns) == list(
        theirs.columns
    )
    apart = ~np.isclose(found, theirs, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert not apart.any(), [(found.index[r], found.columns[c]) for r, c in np.argwhere(apart)[:5]]
    cut = compute(ours[rows], [f for f in feature_set("alpha158") if f.name == "MA60"])
    assert (
        ~np.isclose(cut["MA60"], theirs["MA60"], rtol=1e-5)
    ).mean() > 0.2  # what reading within the spells would have given


def test_members_are_marked_and_none_are_lost(tmp_path):
    bars = sample_bars(["BAC", "KO", "WFC", "XOM"], "2017-01-03", "2019-12-31")
    store = write_qlib(bars, tmp_path / "store", {"few": spelled()})
    named = read_qlib(store, "FEW")  # Qlib's own files are in lower case
    truth = pd.Series(False, bars.index)
    for symbol, start, end in spelled().fillna("2099-12-31").itertuples(index=False):
        truth |= (
            (truth.index.get_level_values("symbol") == symbol)
            & (truth.index.get_level_values("date") >= start)
            & (truth.index.get_level_values("date") <= end)
        )
    assert named["member"].equals(truth[named.index].rename("member")) and truth.sum() == named["member"].sum()
    assert "member" not in read_qlib(store) and "member" not in read_qlib(store, ["KO"])
    late = read_qlib(store, "few", start="2019-01-02", warm_up=5)
    days = late.index.get_level_values("date").unique()
    assert (days < "2019-01-02").sum() == 5 and days[4] == pd.Timestamp("2018-12-31")


# --- stores that others built


def rewrite(store, symbol, **values):
    "Overwrite fields of a symbol with functions of what its files hold."
    home = store / "features" / symbol.lower()
    held = {f.name.split(".")[0]: np.fromfile(f, dtype="<f4") for f in home.iterdir()}
    for field, change in values.items():
        new = held[field].copy()
        new[1:] = change({name: v[1:].astype("float64") for name, v in held.items()})
        new.tofile(home / f"{field}.day.bin")


def others(folder, splits=True, n=6, days=400):
    "A store as Qlib has it: whole shares, a factor of dividends, and splits that move the traded price and the shares."
    rng, sessions, parts = np.random.default_rng(8), pd.bdate_range("2015-01-05", periods=days, unit="us"), []
    for i in range(n):
        close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, days)))
        held = np.where(np.arange(days) < 100 + 20 * i, 0.5, 1.0) if splits else np.ones(days)
        factor = held * np.where(np.arange(days) < 250, 0.97, 1.0)
        shares = (np.exp(rng.normal(13.5, 0.4, days)) * held).round()
        frame = (
            pd.DataFrame({"open": close * 0.999, "high": close * 1.01, "low": close * 0.99, "close": close})
            / factor[:, None]
        )
        parts.append(frame.assign(volume=shares, split=factor, date=sessions, symbol=f"SH60000{i}"))
    bars = as_panel(pd.concat(parts))
    return bars, write_qlib(bars, folder)


def test_raw_volume_beside_adjusted_prices(tmp_path):
    bars, store = others(tmp_path / "right")
    truth = read_qlib(store, prices="traded")
    np.testing.assert_allclose(truth["volume"], bars["volume"], rtol=1e-6)
    assert qlib_traits(store)["volume"].startswith("divided by the factor")
    bars, odd = others(tmp_path / "odd")
    for symbol in bars.index.unique("symbol"):
        rewrite(odd, symbol, volume=lambda v: (v["volume"] * v["factor"]).round())
    for prices in ("traded", "adjusted"):
        with pytest.raises(DataError, match="raw shares beside adjusted prices; pass volume='raw'"):
            read_qlib(odd, prices=prices)
        right = read_qlib(odd, prices=prices, volume="raw")
        np.testing.assert_allclose(right["volume"], read_qlib(store, prices=prices)["volume"], rtol=1e-6)
    with pytest.raises(DataError, match="volume='raw'"):
        read_qlib(odd, prices="traded", check=False)  # nothing is multiplied unseen
    assert (read_qlib(odd, fields=["volume"])["volume"] == read_qlib(odd, check=False)["volume"]).all()  # as it is held


@pytest.mark.parametrize("evidence", ["amount", "jumps", "whole shares"])
@pytest.mark.parametrize("raw", [True, False])
def test_each_evidence_of_raw_volume_decides_alone(tmp_path, evidence, raw):
    bars, store = others(tmp_path / "s", splits=evidence != "whole shares")
    for symbol in bars.index.unique("symbol"):
        home = store / "features" / symbol.lower()
        if evidence == "amount":
            money = np.fromfile(home / "close.day.bin", "<f4") * np.fromfile(home / "volume.day.bin", "<f4") / 1000
            np.r_[0, money[1:]].astype("<f4").tofile(home / "amount.day.bin")
        if evidence != "whole shares":  # lots of a hundred, rounded to hundredths: whole in neither reading
            rewrite(store, symbol, volume=lambda v: (v["volume"] / 123.4).round(2))
        if raw:
            rewrite(
                store,
                symbol,
                volume=lambda v: (v["volume"] * v["factor"]).round(0 if evidence == "whole shares" else 3),
            )
    assert qlib_traits(store)["volume"].startswith("volume is raw" if raw else "divided by")


def test_change_in_percent(tmp_path):
    bars, store = others(tmp_path / "s")
    fields = ["close", "change"]
    right = read_qlib(store, fields=fields)
    for symbol in bars.index.unique("symbol"):
        rewrite(store, symbol, change=lambda v: 100 * v["change"])
    with pytest.raises(DataError, match="change='percent', which divides it by 100"):
        read_qlib(store, fields=fields)
    with pytest.raises(DataError, match="change='percent'"):
        read_qlib(store, fields=["change"])  # the closes are looked at all the same
    pd.testing.assert_frame_equal(read_qlib(store, fields=fields, change="percent"), right, rtol=1e-5)
    assert read_qlib(store, fields=["close"]).shape == (len(bars), 1)  # who does not read it is not asked
    rng = np.random.default_rng(0)
    for symbol in bars.index.unique("symbol"):
        rewrite(store, symbol, change=lambda v: rng.normal(0, 1000, len(v["change"])))
    with pytest.raises(DataError, match="neither the return of the close nor its percent"):
        read_qlib(store, fields=fields)
    assert read_qlib(store, fields=fields, change="decimal")["change"].abs().max() > 100


def test_flat_bars_of_suspended_days(tmp_path):
    bars, store = others(tmp_path / "s")

    def stand(field):
        def change(v):
            new = v[field].copy()
            new[200:215] = 0.0 if field == "volume" else v["close"][199]
            return new

        return change

    rewrite(store, "SH600002", **{f: stand(f) for f in ("volume", "open", "high", "low", "close")})
    with pytest.raises(
        DataError, match=r"first \(2015-10-12, SH600002\), stand still without volume.*suspended='drop'"
    ):
        read_qlib(store)
    assert len(read_qlib(store, suspended="keep")) == len(bars)
    dropped = read_qlib(store, suspended="drop", prices="traded")
    gone = bars.index.difference(dropped.index)
    assert len(gone) == 15 and set(gone.get_level_values("symbol")) == {"SH600002"} and (dropped["volume"] > 0).all()
    assert len(read_qlib(store, check=False)) == len(bars)
    emptied = read_qlib(store, "all", suspended="drop")
    assert (
        len(emptied) == len(bars)
        and emptied["close"].isna().sum() == 15
        and emptied["member"].all()
        and emptied["member"].dtype == bool
    )
    pd.testing.assert_frame_equal(
        emptied.dropna().drop(columns="member"),
        read_qlib(store, "all", suspended="drop", gaps=False).drop(columns="member"),
    )


def test_folders_in_upper_case_are_read_and_named(tmp_path):
    bars, store = others(tmp_path / "s")
    right = read_qlib(store)
    for home in list((store / "features").iterdir()):
        home.rename(home.with_name(home.name.upper()))
    pd.testing.assert_frame_equal(read_qlib(store), right)
    assert "6 with capitals" in qlib_traits(store)["folders"]
    (store / "features" / "sh600000").mkdir(exist_ok=True)
    if len(list((store / "features").iterdir())) == 7:  # where case matters
        with pytest.raises(DataError, match="one symbol to Qlib"):
            read_qlib(store)


def test_members_without_folders(tmp_path):
    bars, store = others(tmp_path / "s")
    listed = store / "instruments" / "some.txt"
    listed.write_text("SH600001\t2015-01-05\t2016-07-15\nSH600087\t2015-01-05\t2015-12-31\n")
    with pytest.raises(
        DataError, match=r"no values of 1 symbol\(s\), \['SH600087'\]; skip_missing=True leaves them out"
    ):
        read_qlib(store, "some")
    assert set(read_qlib(store, "some", skip_missing=True).index.get_level_values("symbol")) == {"SH600001"}
    assert "1 of some" in qlib_traits(store)["members without folders"]
    listed.write_text("600001.SH\t2015-01-05\t2016-07-15\n")
    for skip in (False, True):  # nothing is not an answer
        with pytest.raises(DataError, match=r"none of the 1 symbols wanted.*folders are called \['sh600000'"):
            read_qlib(store, "some", skip_missing=skip)
    listed.write_text("")
    with pytest.raises(DataError, match="the market 'some' lists no symbol"):
        read_qlib(store, "some")
    with pytest.raises(DataError, match=r"close to them: \['SH60000\d'.*skip_missing"):
        read_qlib(store, ["SH600001", "SH600010"])


def test_a_range_that_the_store_does_not_reach(tmp_path):
    bars, store = others(tmp_path / "s")
    for start, end in [
        ("2017-01-02", None),
        (None, "2014-12-31"),
        ("2016-01-05", "2016-01-04"),
        ("2015-01-10", "2015-01-11"),
    ]:
        with pytest.raises(DataError, match="its calendar runs from 2015-01-05 to 2016-07-15: ask within it"):
            read_qlib(store, start=start, end=end)
    for field in ("open", "high", "low", "close", "volume", "factor"):
        rewrite(store, "SH600003", **{field: lambda v: np.where(np.arange(400) < 300, v["close"], np.nan)})
    with pytest.raises(DataError, match="no value of these 1 symbol"):
        read_qlib(store, ["SH600003"], start="2016-06-01", check=False)
    with pytest.raises(ConfigError, match="start='soon' is no date"):
        read_qlib(store, start="soon")
    with pytest.raises(DataError, match="has a time zone"):
        read_qlib(store, start="2016-01-04 00:00Z")


def test_a_torn_calendar_or_list_is_one_line(tmp_path):
    bars, store = others(tmp_path / "s")
    days = (store / "calendars" / "day.txt").read_text()
    for text, message in [
        ("", "not a list of increasing dates"),
        (days + "2015-01-05\n", "not a list of increasing dates"),
        (days + "soon\n", "no date"),
    ]:
        (store / "calendars" / "day.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_qlib(store)
    (store / "calendars" / "day.txt").write_text(days)
    (store / "instruments" / "all.txt").write_text("SH600000\t2015-01-05\tlater\n")
    with pytest.raises(DataError, match="a spell without dates"):
        read_qlib(store)


# --- minutes


def minutes(interval, zone="Asia/Shanghai"):
    "Bars of two sessions of Shanghai, with the lunch break, stamped with their end in UTC; one name misses some."
    step, parts = pd.Timedelta(interval), []
    for day in ("2020-09-24", "2020-09-25"):
        for first, last in (("09:30", "11:30"), ("13:00", "15:00")):
            ends = (
                pd.date_range(f"{day} {first}", f"{day} {last}", freq=step, tz=zone, inclusive="right")
                .tz_convert("UTC")
                .as_unit("us")
            )
            parts.append(ends)
    ends = parts[0].append(parts[1:])
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product(
        [ends, pd.Index(["SH600000", "SZ000001"], dtype="str")], names=["date", "symbol"]
    )
    close = 10 + rng.normal(0, 0.1, len(index)).cumsum().round(2)
    bars = pd.DataFrame(
        {
            "open": close,
            "high": close + 0.05,
            "low": close - 0.05,
            "close": close,
            "volume": rng.integers(1, 99, len(index)) * 100.0,
            "split": 0.5,
        },
        index=index,
    )
    return bars[(index.get_level_values("symbol") == "SH600000") | (rng.random(len(index)) < 0.9)]


@QLIB
@pytest.mark.parametrize("interval", ["1min", pytest.param("5min", marks=pytest.mark.slow)])
def test_qlib_reads_the_minutes_that_we_write_and_we_read_them_back(tmp_path, interval):
    bars, told = minutes(interval), {"interval": interval, "zone": "Asia/Shanghai", "stamps": "start"}
    spells = pd.DataFrame({"symbol": ["SZ000001"], "start": ["2020-09-24"], "end": ["2020-09-24"]})
    store = write_qlib(bars, tmp_path / "store", {"one": spells}, **told)
    assert (store / "calendars" / f"{interval}.txt").read_text().splitlines()[0] == "2020-09-24 09:30:00"
    whole, one = by_qlib(store, tmp_path / "q.pkl", ("all", FIELDS), ("one", FIELDS), freq=interval)
    ours = read_qlib(store, **told)
    local = (ours.index.get_level_values("date") - pd.Timedelta(interval)).tz_convert("Asia/Shanghai").tz_localize(None)
    same(
        ours.set_axis(
            pd.MultiIndex.from_arrays([local, ours.index.get_level_values("symbol")], names=["date", "symbol"])
        ),
        whole,
    )
    named = read_qlib(store, "one", **told)
    assert named["member"].sum() == len(one) and len(named) > len(one)  # the whole first day, the last minute of it too
    np.testing.assert_array_equal(named.loc[named["member"], FIELDS].to_numpy(), one.to_numpy(dtype="float64"))
    assert (store / "features" / "sh600000" / f"close.{interval}.bin").is_file()
    back = read_qlib(store, prices="traded", **told)
    pd.testing.assert_frame_equal(back.drop(columns="adj"), bars.drop(columns="split"), rtol=3e-7)
    assert back["adj"].eq(0.5).all()


def test_stamps_of_minutes_are_told_never_guessed(tmp_path):
    bars, told = minutes("5min"), {"interval": "5min", "zone": "Asia/Shanghai", "stamps": "end"}
    store = write_qlib(bars, tmp_path / "store", **told)
    assert (store / "calendars" / "5min.txt").read_text().splitlines()[:1] == ["2020-09-24 09:35:00"]
    pd.testing.assert_index_equal(read_qlib(store, **told).index, bars.index)
    pd.testing.assert_index_equal(
        read_qlib(store, interval="5min", zone="Asia/Shanghai", stamps="start").index.levels[0],
        bars.index.levels[0] + pd.Timedelta("5min"),
    )
    for lacking in ({"zone": None}, {"stamps": None}, {"stamps": "middle"}):
        for call in (
            lambda told=told | lacking: read_qlib(store, **told),
            lambda told=told | lacking: write_qlib(bars, tmp_path / "other", **told),
        ):
            with pytest.raises(ConfigError, match="neither zone nor meaning"):
                call()
    with pytest.raises(ConfigError, match="zone='Mars' is unknown"):
        read_qlib(store, **told | {"zone": "Mars"})
    with pytest.raises(ConfigError, match="interval='7 parsecs' is unknown"):
        read_qlib(store, interval="7 parsecs")
    with pytest.raises(DataError, match=r"the store has \['5min'\]"):
        read_qlib(store)
    with pytest.raises(DataError, match="needs bars of 1d"):
        write_qlib(bars, tmp_path / "other")
    with pytest.raises(DataError, match="needs bars of 5min"):
        write_qlib(sample_bars(["KO"], "2017-01-03", "2017-01-31"), tmp_path / "other", **told)
    with pytest.raises(ConfigError, match="leave zone and stamps out"):
        write_qlib(sample_bars(["KO"], "2017-01-03", "2017-01-31"), tmp_path / "other", zone="UTC", stamps="end")
    assert not (tmp_path / "other").exists()
    flat = bars.assign(high=bars["close"], low=bars["close"], volume=bars["volume"] * (bars["volume"] > 5000))
    assert len(read_qlib(write_qlib(flat, tmp_path / "flat", **told), **told)) == len(
        flat
    )  # minutes without a trade are nothing unusual
    day = read_qlib(store, start="2020-09-25", end="2020-09-25", **told).index.get_level_values("date")
    assert day.min() == pd.Timestamp("2020-09-25 01:35Z") and day.max() == pd.Timestamp("2020-09-25 07:00Z")
    with pytest.raises(DataError, match="no time zone; write it in UTC"):
        read_qlib(store, start="2020-09-25 10:00", **told)


def test_hours_that_a_clock_shows_twice_are_refused(tmp_path):
    ends = pd.date_range("2024-11-03 04:00", periods=6, freq="1h", tz="UTC", unit="us")
    bars = pd.DataFrame(
        {c: 1.0 for c in ("open", "high", "low", "close", "volume")},
        index=pd.MultiIndex.from_product([ends, ["BTC"]], names=["date", "symbol"]),
    )
    with pytest.raises(DataError, match="clock of America/New_York shows 2024-11-03 01:00:00 twice.*zone='UTC'"):
        write_qlib(bars, tmp_path / "s", interval="1h", zone="America/New_York", stamps="end")
    store = write_qlib(bars, tmp_path / "s", interval="60min", zone="UTC", stamps="end")
    assert (store / "calendars" / "60min.txt").is_file()
    assert read_qlib(store, interval="1h", zone="UTC", stamps="end").drop(columns="factor").equals(bars)


@pytest.mark.slow
def test_a_refusal_comes_before_a_large_store_is_read(tmp_path):
    "Five thousand names: what is wrong is said from their names, their calendar and a few of their files."
    bars, store = others(tmp_path / "s", n=1)
    home = store / "features" / "sh600000"
    rewrite(store, "SH600000", volume=lambda v: (v["volume"] * v["factor"]).round(), change=lambda v: 100 * v["change"])
    lines = []
    for i in range(5763):
        twin = store / "features" / f"sz{i:06d}"
        twin.mkdir()
        for file in home.iterdir():
            os.link(file, twin / file.name)
        lines.append(f"SZ{i:06d}\t2015-01-05\t2016-07-15\n")
    (store / "instruments" / "all.txt").write_text("".join(lines))
    (store / "instruments" / "far.txt").write_text("".join(lines[:3000]).replace("SZ", "BJ"))
    opened, stock = [], np.fromfile
    for call in (
        lambda: read_qlib(store, prices="traded"), lambda: read_qlib(store, fields=["change"]),
        lambda: read_qlib(store, start="2030-01-01"),
        lambda: read_qlib(store, "far"), lambda: read_qlib(store, "far", skip_missing=True),
        lambda: read_qlib(store, [f"BJ{i}" for i in range(5000)]),
    ):  # fmt: skip
        before = len(opened)
        try:
            np.fromfile = lambda *a, **k: opened.append(a) or stock(*a, **k)
            with pytest.raises(DataError):
                call()
        finally:
            np.fromfile = stock
        assert len(opened) - before <= 48 * 8  # of 40,000 files


def test_what_a_store_does_not_have_is_named_and_no_drafts_are_left(tmp_path):
    bars = sample_bars(["KO", "XOM"], "2012-01-03", "2013-12-31")
    store = write_qlib(bars, tmp_path / "us")
    for said, call in {
        "us exists": lambda: write_qlib(bars, store),
        "prices='wrong' is unknown": lambda: read_qlib(store, prices="wrong"),
        "no market 'csi300'": lambda: read_qlib(store, "csi300"),
        r"pass \['KO'\]": lambda: read_qlib(store, "KO"),
        "vwap.day.bin does not exist": lambda: read_qlib(store, fields=["vwap"]),
        "calendars": lambda: read_qlib(tmp_path / "nothing", ["KO"], skip_missing=True),
        "at least one row": lambda: write_qlib(bars.iloc[:0], tmp_path / "empty"),
        "runs from 2012-01-03 to 2013-12-31": lambda: read_qlib(store, ["KO"], start="2030-01-01"),
    }.items():
        with pytest.raises((ConfigError, DataError), match=said):
            call()
    assert read_qlib(store, [], check=False).empty and read_qlib(write_qlib(bars.iloc[:1], tmp_path / "one")).shape == (
        1,
        6,
    )
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
    os.truncate(store / "features" / "ko" / "low.day.bin", 101)
    with pytest.raises(DataError, match="is the file whole"):
        read_qlib(store)
