"""Features on disk: the same values and the same trees as in memory; a file that is whole or not there."""

import shutil
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.features.base import Feature, compute
from quantlab.models.gbm import GBMModel
from quantlab.models.out_of_core import FeatureFile, fit_file, predict_file, write_features

FEATURES = [
    Feature("ret_1", lambda close: close / close.shift() - 1, 1, "close"),
    Feature("ma_5", lambda close: close.rolling(5).mean() / close, 5, "close"),
    Feature("bell", lambda close, open_: open_ / close - 1, 0, ["close", "open"]),
]


def panel(names: int = 7, sessions: int = 90, seed: int = 0) -> pd.DataFrame:
    "Bars of some names; one in ten is missing, and one name is listed late."
    rng = np.random.default_rng(seed)
    wide = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (sessions, names)), axis=0))
    there = rng.random(wide.shape) > 0.1
    there[: sessions // 2, 3] = False
    dates, symbols = pd.bdate_range("2024-01-01", periods=sessions, unit="us"), sorted(f"S{i}" for i in range(names))
    index = pd.MultiIndex.from_product([dates, pd.Index(symbols, dtype="str")], names=["date", "symbol"])
    frame = pd.DataFrame({"open": (wide * 1.01).ravel(), "close": wide.ravel()}, index)[there.ravel()]
    frame.index = frame.index.remove_unused_levels()
    return frame


def reader(bars: pd.DataFrame):
    return lambda symbols: bars[bars.index.get_level_values("symbol").isin(symbols)]


@pytest.mark.parametrize("names", [1, 3, 100])
def test_blocks_write_what_memory_would_hold(tmp_path, names):
    bars = panel()
    found = write_features(reader(bars), bars.index, FEATURES, tmp_path / "f.npy", names=names, workers=1)
    held = compute(bars, FEATURES, dtype="float32")
    assert found.columns == ["bell", "ma_5", "ret_1"] and held["ma_5"].notna().any()
    pd.testing.assert_frame_equal(pd.concat(list(found.slices(37))), held[found.columns])
    assert np.array_equal(np.load(found.file), held[found.columns].to_numpy(), equal_nan=True)
    assert [file.name for file in tmp_path.iterdir()] == ["f.npy"]


def test_rows_are_those_asked_for(tmp_path):
    values = np.random.default_rng(1).random((50, 4), dtype="float32")
    np.save(tmp_path / "x.npy", values)
    index = pd.MultiIndex.from_product([pd.bdate_range("2024-01-01", periods=10), list("ABCDE")])
    found = FeatureFile(tmp_path / "x.npy", index, list("wxyz"))
    for rows in ([], [0], [49], [3, 4, 5, 9, 11, 12, 49], range(50)):
        rows = np.array(rows, dtype="int64")
        assert np.array_equal(found.values(rows), values[rows])
    short = (tmp_path / "x.npy").read_bytes()[: -4 * 4]
    with pytest.raises(DataError, match="another size"):
        (tmp_path / "x.npy").write_bytes(short)
        found.values(np.arange(50))


def test_trees_are_the_same_up_to_the_rows_that_choose_the_bins(tmp_path):
    rng = np.random.default_rng(2)
    dates = pd.bdate_range("2020-01-01", periods=450, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:03d}" for i in range(500)]], names=["date", "symbol"])
    X = rng.normal(size=(len(index), 3)).astype("float32")
    X[rng.random(X.shape) < 0.1], X[rng.random(X.shape) < 0.1] = np.nan, 0.0
    np.save(tmp_path / "x.npy", X)
    y = pd.Series(np.nan_to_num(X[:, 0]) ** 2 + rng.normal(size=len(index)), index)
    y[rng.random(len(y)) < 0.2] = np.nan
    assert y.notna().sum() < 200_000  # LightGBM looks at so many for its bins; beyond, at another sample of a file
    file, known = FeatureFile(tmp_path / "x.npy", index, list("abc")), y.dropna()
    frame = pd.DataFrame(X, index, list("abc"))
    there = fit_file(GBMModel(3, num_leaves=7, num_threads=1), file, y)
    here = GBMModel(3, num_leaves=7, num_threads=1).fit(frame.loc[known.index], known)
    assert there.booster_.model_to_string() == here.booster_.model_to_string() and here.booster_.num_trees() == 3
    start = dates[400]
    pd.testing.assert_frame_equal(predict_file(there, file, start), here.predict(frame.loc[start:]))
    assert len(predict_file(there, file, dates[-1] + pd.Timedelta("1D"))) == 0
    with pytest.raises(PanelError, match="rows of X"):
        fit_file(GBMModel(), file, y.iloc[1:])
    for bad, what in ((y * np.nan, "0 rows"), (y.where(y < 3, np.inf), "infinite")):
        with pytest.raises(DataError, match=what):
            fit_file(GBMModel(), file, bad)
    for model in (GBMModel(early_stopping=3), GBMModel(objective="lambdarank")):
        with pytest.raises(ConfigError, match="one block of rows"):
            fit_file(model, file, y)


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    bars, file = panel(), tmp_path / "f.npy"
    with pytest.raises(PanelError, match="read gave"):
        write_features(lambda symbols: reader(bars)(symbols).iloc[:-1], bars.index, FEATURES, file, 3, workers=1)
    with pytest.raises(PanelError, match="S0 and 2 more names"):  # which block it was
        write_features(lambda symbols: bars, bars.index, FEATURES, file, 3, workers=1)
    assert not file.exists()
    for names, index in ((0, bars.index), (True, bars.index), (3, bars.index[:0])):
        with pytest.raises(ConfigError, match="1 name or more"):
            write_features(reader(bars), index, FEATURES, file, names, workers=1)
    usage = namedtuple("usage", "total used free")(10, 10, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="are free"):
        write_features(reader(bars), bars.index, FEATURES, file, 3, workers=1)
    assert not file.exists()


@pytest.mark.slow
def test_dask_workers_write_the_same_file_and_grow_the_same_trees(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    from quantlab.core.compute import map as map_items

    bars = panel(12, 200)
    here = write_features(reader(bars), bars.index, FEATURES, tmp_path / "here.npy", 3, workers=1)
    y = bars["close"].groupby(level="symbol").pct_change().fillna(0.0)
    mine = fit_file(GBMModel(5, min_child_samples=20, num_threads=1), here, y)
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "4GB", "dashboard_address": None}
    with distributed.LocalCluster(processes=True, **options) as cluster:
        where = {"scheduler": cluster.scheduler_address}
        there = write_features(reader(bars), bars.index, FEATURES, tmp_path / "there.npy", 3, **where)
        theirs = map_items(fit_file, [GBMModel(5, min_child_samples=20, num_threads=1)], [there, y], **where)[0]
        scores = map_items(predict_file, [theirs], [there], **where)[0]
    assert here.file.read_bytes() == there.file.read_bytes()
    assert mine.booster_.model_to_string() == theirs.booster_.model_to_string()
    pd.testing.assert_frame_equal(predict_file(mine, here), scores)
