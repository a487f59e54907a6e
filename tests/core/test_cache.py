"""What changes a key, what a damaged or full cache does, and what is refused."""

import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest

from quantlab.core import cache
from quantlab.core.cache import content_hash, off, remember, trim
from quantlab.core.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    return tmp_path


def panel(n: int = 40) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([pd.date_range("2024-01-01", periods=n, unit="us"), pd.Index(["A", "B"], dtype="str")], names=["date", "symbol"])
    return pd.DataFrame({"close": np.arange(2.0 * n), "volume": np.ones(2 * n)}, index=index)


calls = []
FACTOR = 2.0


def deep(x: float) -> float:
    return x * FACTOR


def scaled(frame: pd.DataFrame, by: float = 1.0) -> pd.DataFrame:
    calls.append(by)
    return frame * deep(by)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_the_second_call_is_not_made() -> None:
    first, second = remember(scaled, panel(), by=3.0), remember(scaled, panel(), by=3.0)
    pd.testing.assert_frame_equal(first, second)
    assert calls == [3.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(close=f["close"].where(f["close"] != 7, np.nextafter(7, 8))),
        lambda f: f.iloc[:-1],
        lambda f: f.rename(columns={"close": "open"}),
        lambda f: f.rename(index={"B": "C"}, level="symbol"),
        lambda f: f[["volume", "close"]],
        lambda f: f.astype("float32"),
        lambda f: f.set_axis(f.index.set_levels(f.index.levels[0] + pd.Timedelta("1D"), level=0)),
    ],
)
def test_other_data_is_another_call(change) -> None:
    remember(scaled, panel())
    remember(scaled, change(panel()))
    assert len(calls) == 2


def test_a_constant_deep_below_counts(monkeypatch) -> None:
    remember(scaled, panel())
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert remember(scaled, panel()).iloc[1, 0] == 3.0
    assert len(calls) == 2


def test_captured_values_and_partials_count() -> None:
    def make(k):
        return lambda frame: frame + k

    assert content_hash(make(1)) == content_hash(make(1)) != content_hash(make(2))
    assert content_hash(partial(scaled, by=1.0)) != content_hash(partial(scaled, by=2.0))


def test_a_set_of_features_has_a_key() -> None:
    from quantlab.features.sets import SETS

    keys = {name: content_hash(features) for name, features in SETS.items()}
    assert len(set(keys.values())) == len(SETS)
    assert keys == {name: content_hash(features) for name, features in SETS.items()}


def test_a_changed_kernel_changes_the_key(monkeypatch) -> None:
    from quantlab.core import rolling
    from quantlab.features.sets import SETS

    before = content_hash(SETS["alpha158"])
    monkeypatch.setattr(rolling, "DUST", 1e-12)
    assert content_hash(SETS["alpha158"]) != before


@pytest.mark.parametrize("damage", [lambda b: b[:-50], lambda b: b"", lambda b: b[:200] + bytes([b[200] ^ 255]) + b[201:]])
def test_damage_is_reported_and_mended(folder, damage) -> None:
    remember(scaled, panel(4000))
    file = next(folder.glob("*.parquet"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match="computed again"):
        again = remember(scaled, panel(4000))
    pd.testing.assert_frame_equal(again, panel(4000) * 2)
    assert len(calls) == 2
    remember(scaled, panel(4000))
    assert len(calls) == 2


def test_off_neither_reads_nor_writes(folder) -> None:
    with off():
        remember(scaled, panel())
        remember(scaled, panel())
    assert len(calls) == 2 and not list(folder.glob("*"))
    with pytest.raises(ZeroDivisionError), off():
        raise ZeroDivisionError
    remember(scaled, panel())
    remember(scaled, panel())
    assert len(calls) == 3


def test_a_failing_write_leaves_nothing(folder, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(cache.pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        remember(scaled, panel())
    assert not list(folder.glob("*"))


def test_the_bound_holds(folder, monkeypatch) -> None:
    remember(scaled, panel(), by=0.0)
    size = next(folder.glob("*.parquet")).stat().st_size / 1e9
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE_GB", str(3.5 * size))
    for by in range(1, 8):
        remember(scaled, panel(), by=float(by))
    assert len(list(folder.glob("*.parquet"))) <= 4
    assert trim(0.0) == 0.0 and not list(folder.glob("*.parquet"))
    assert trim(1.0) == 0.0


@pytest.mark.parametrize(
    "value",
    [
        panel().iloc[:0],
        panel().iloc[:1],
        panel() * np.nan,
        panel()["close"].rename("a name"),
        panel()["close"].rename(None),
        panel().reset_index(),
        panel().xs("A", level="symbol"),
    ],
)
def test_comes_back_as_it_was(value) -> None:
    one, two = remember(lambda v: v, value), remember(lambda v: v, value)
    (pd.testing.assert_series_equal if isinstance(value, pd.Series) else pd.testing.assert_frame_equal)(one, two, check_freq=False)


@pytest.mark.parametrize("call", [lambda: remember(len, panel()), lambda: remember(scaled, open(__file__)), lambda: content_hash(iter([]))])
def test_refusals(call) -> None:
    with pytest.raises(ConfigError):
        call()


def test_many_at_once() -> None:
    threads = [threading.Thread(target=remember, args=(scaled, panel(), 5.0)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    pd.testing.assert_frame_equal(remember(scaled, panel(), 5.0), panel() * 10)


def test_the_suite_of_features_runs_with_the_cache_off(folder) -> None:
    from quantlab.features.base import Feature, check_feature

    seen = []

    def function(bars: pd.DataFrame) -> pd.Series:
        seen.append(remember(scaled, bars))
        return (bars["close"] / bars["close"]).rename("one")

    check_feature(Feature("one", function, 0, ("close",), ""), panel() + 1)
    assert len(seen) == len(calls) > 5 and not list(folder.glob("*"))


def test_an_estimator_is_its_class_and_its_parameters():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one = make_pipeline(StandardScaler(), Ridge(1.0))
    assert content_hash(one) == content_hash(make_pipeline(StandardScaler(), Ridge(1.0)).fit([[0.0], [1.0]], [0.0, 1.0]))
    assert content_hash(one) != content_hash(make_pipeline(StandardScaler(), Ridge(2.0))) != content_hash(make_pipeline(StandardScaler(with_mean=False), Ridge(2.0)))


def test_parts_of_long_work_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):


    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    key = content_hash("part")
    assert cache.kept(key) is None
    cache.keep(key, [1, "two"])
    assert cache.kept(key) == [1, "two"] and [f.suffix for f in tmp_path.iterdir()] == [".pickle"]
    with cache.off():
        assert cache.kept(key) is None
        cache.keep(content_hash("other"), 1)
    assert len(list(tmp_path.iterdir())) == 1
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.kept(key) is None
    with pytest.raises(TypeError):
        cache.keep(key, (n for n in [1]))
    assert [f.suffix for f in tmp_path.iterdir()] == [".pickle"], "no half file"
    cache.trim(0.0)
    assert not list(tmp_path.iterdir())
