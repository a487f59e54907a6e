"""vendors.qlib against Qlib itself: what we write it reads equal, what it ships we read equal."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.core.panel import as_panel
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.vendors.qlib import read_members, read_qlib, write_qlib

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data"
FIELDS = ["open", "high", "low", "close", "volume", "factor"]
QLIB = pytest.mark.skipif(importlib.util.find_spec("qlib") is None, reason="the extra qlib is not installed")


def by_qlib(store, out, *requests):
    "Let Qlib answer requests of (instruments, fields) in a process of its own; return its frames by (date, symbol)."
    program = f"""
import qlib, pandas as pd
from qlib.data import D
if __name__ == "__main__":
    qlib.init(provider_uri={str(store)!r}, region="cn", kernels=1, expression_cache=None, dataset_cache=None, logging_level=40)
    frames = []
    for instruments, fields in {requests!r}:
        names = D.instruments(instruments) if isinstance(instruments, str) else instruments
        frame = D.features(names, ["$" + f for f in fields], freq="day")
        frames.append(frame.swaplevel().sort_index().set_axis(fields, axis=1).rename_axis(["date", "symbol"]))
    pd.to_pickle(frames, {str(out)!r})
"""
    script = out.with_suffix(".py")
    script.write_text(program)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=out.parent, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"})
    assert done.returncode == 0, done.stderr[-2000:]
    return pd.read_pickle(out)


def same(ours, theirs):
    "Assert that the values are equal to the bit, rows without any value aside."
    theirs = theirs.dropna(how="all")
    assert theirs.index.get_level_values("symbol").tolist() == ours.index.get_level_values("symbol").tolist()
    assert (theirs.index.get_level_values("date") == ours.index.get_level_values("date")).all()
    assert (theirs.dtypes == "float32").all()
    np.testing.assert_array_equal(ours.to_numpy(), theirs.to_numpy(dtype="float64"))


def holed():
    "Bars of six names that start late, stop early and miss days."
    bars = sample_bars(["AAPL", "BAC", "GEN", "KO", "WFC", "XOM"], "2017-01-03", "2019-12-31").rename(index={"GEN": "CON", "KO": "7203.T"}).sort_index()
    rng = np.random.default_rng(3)
    keep = rng.random(len(bars)) < 0.97
    dates, symbols = (bars.index.get_level_values(i) for i in (0, 1))
    return bars[keep & ~((symbols == "BAC") & (dates < "2017-06-01")) & ~((symbols == "XOM") & (dates > "2019-06-03"))]


@QLIB
def test_qlib_reads_back_what_we_write(tmp_path):
    bars = holed()
    spells = pd.DataFrame({"symbol": ["XOM", "XOM", "CON"], "start": ["2018-01-02", "2019-01-02", "2017-02-01"], "end": ["2018-02-01", "2019-02-01", "2017-03-01"]})
    store = write_qlib(bars, tmp_path / "store", {"few": spells})
    everything, few = by_qlib(store, tmp_path / "q.pkl", ("all", FIELDS), ("few", ["close"]))
    ours = read_qlib(store)
    same(ours, everything)
    expected = adjust(bars).assign(volume=bars["volume"] / bars["adj"], factor=bars["adj"])[FIELDS]
    pd.testing.assert_frame_equal(ours, expected.astype("float32").astype("float64"))
    same(read_qlib(store, "few", ["close"]), few)


def test_traded_prices_come_back_within_two_roundings(tmp_path):
    bars = holed()
    split = bars.assign(split=np.where(bars.index.get_level_values("date") < "2018-06-01", 0.25, 1.0))
    back = read_qlib(write_qlib(split, tmp_path / "s"), prices="traded")
    pd.testing.assert_frame_equal(back.drop(columns=["adj"]), bars.drop(columns="adj"), rtol=3e-7)
    np.testing.assert_allclose(back["adj"], split["adj"] * split["split"], rtol=1e-7)
    pd.testing.assert_frame_equal(adjust(back)[["open", "close"]], adjust(split)[["open", "close"]], rtol=3e-7)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "B", "Z9"])), min_size=1, max_size=20, unique=True), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_any_shape_of_panel_survives(tmp_path_factory, keys, first, last):
    frame = pd.DataFrame(keys, columns=["day", "symbol"])
    prices = np.arange(len(frame)) + 10.0
    frame = frame.assign(date=pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["day"], unit="D"), open=prices, high=prices + 1, low=prices - 1, close=prices, volume=5.0)
    bars = as_panel(frame.drop(columns="day"))
    store = write_qlib(bars, tmp_path_factory.mktemp("q") / "s")
    pd.testing.assert_frame_equal(read_qlib(store).drop(columns="factor"), bars, check_index_type=False)
    days = bars.index.get_level_values("date").unique()
    low, high = days[min(first, len(days) - 1)], days[min(last, len(days) - 1)]
    assert len(read_qlib(store, start=low, end=high)) == len(bars.loc[low:high])
    assert (read_members(store).set_index("symbol")["start"] == bars.reset_index().groupby("symbol")["date"].min()).all()


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
    begin = time.perf_counter()
    ours = read_qlib(store, check=False)
    assert time.perf_counter() - begin < 60 and len(ours) == 2_359_876
    five = ["SH000300", "SH600000", "SH600011", "SZ000001", "SZ300601"]
    everything, members, some = by_qlib(store, tmp_path / "q.pkl", ("all", FIELDS), ("csi300", FIELDS), (five, [*FIELDS, "change"]))
    same(ours, everything)
    same(read_qlib(store, "csi300", skip_missing=True, check=False), members)
    same(read_qlib(store, five, [*FIELDS, "change"]), some)
    with pytest.raises(DataError, match=r"open is outside low..high: 223 row\(s\), first: \(2019-01-07, SH600000\)"):
        read_qlib(store)
    with pytest.raises(DataError, match=r"no values of 7 symbol"):
        read_qlib(store, "csi300")
