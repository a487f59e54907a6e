"""What changes a key, what a damaged or full cache does, and what is refused."""

import hashlib
import os
import pickle
import threading
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path

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
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=n, unit="us"), pd.Index(["A", "B"], dtype="str")], names=["date", "symbol"]
    )
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


def test_what_a_function_says_of_itself_changes_no_result() -> None:
    def make(text):
        space = {"__name__": __name__}
        exec(f"def told(x):\n    {text!r}\n    return x + 'a'\n", space)
        return space["told"]

    assert content_hash(make("one")) == content_hash(make("another, with an example"))
    assert content_hash(lambda: "a") != content_hash(lambda: "b")


def test_a_set_of_features_has_a_key() -> None:
    from quantlab.features.sets import SETS

    keys = {name: content_hash(features) for name, features in SETS.items()}
    assert len(set(keys.values())) == len(SETS)
    assert keys == {name: content_hash(features) for name, features in SETS.items()}


def test_a_record_whose_default_is_made_has_a_key() -> None:
    from quantlab.portfolio.limits import Limits

    assert content_hash(Limits) == content_hash(Limits) != content_hash(Limits())
    assert content_hash(Limits(max_weight=0.1)) != content_hash(Limits()) == content_hash(Limits())


def test_what_keeps_results_and_what_else_is_imported_change_no_key() -> None:
    from quantlab.recipe.stages import _fit

    before = content_hash(_fit)
    import quantlab.ops.fitted_recipe  # noqa: F401  which tells core.state of another kind

    assert content_hash(_fit) == before


def test_a_changed_kernel_changes_the_key(monkeypatch) -> None:
    from quantlab.features import rolling
    from quantlab.features.sets import SETS

    before = content_hash(SETS["alpha158"])
    monkeypatch.setattr(rolling, "_DUST", 1e-12)
    assert content_hash(SETS["alpha158"]) != before


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-50], lambda b: b"", lambda b: b[:200] + bytes([b[200] ^ 255]) + b[201:]]
)
def test_damage_is_reported_and_mended(folder, damage) -> None:
    remember(scaled, panel(4000))
    file = next(folder.glob("*.zip"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match="passed over: it.* computed again"):
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


@pytest.fixture
def untold(monkeypatch):
    "No folder has been named as unwritable yet."
    monkeypatch.setattr(cache, "_TOLD", set())


def fail(reason: str, number: int):
    def raising(*args, **kwargs):
        raise OSError(number, reason)

    return raising


@pytest.mark.parametrize("step", ["save_state", "replace", "mkstemp"])
def test_a_cache_that_cannot_be_written_says_so_once_and_stops_nothing(folder, monkeypatch, untold, step):
    with monkeypatch.context() as full:
        place = {"save_state": cache, "replace": cache.os, "mkstemp": cache.tempfile}[step]
        full.setattr(place, step, fail("No space left on device", 28))
        with pytest.warns(UserWarning) as told:
            for _ in range(3):
                pd.testing.assert_frame_equal(remember(scaled, panel(), 2.0), panel() * 4)
        assert [str(w.message) for w in told] == [
            m for m in [str(told[0].message)] if "cannot be written (No space left on device)" in m
        ] and "\n" not in str(told[0].message)
        assert not cache.keep("1" * 64, 1)
    assert calls == [2.0] * 3 and not list(folder.glob("*")), "nothing half-written"
    remember(scaled, panel(), 2.0)
    remember(scaled, panel(), 2.0)
    assert len(calls) == 4


@pytest.mark.parametrize("place", ["a_file", "a_file/below"])
def test_a_file_where_the_folder_is_meant(folder, monkeypatch, untold, place):
    (folder / "a_file").write_text("mine")
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(folder / place))
    with pytest.warns(UserWarning, match="cannot be written") as told:
        assert remember(scaled, panel()).equals(remember(scaled, panel()))
    assert len(told) == 1 and trim(0.0) == 0.0 and (folder / "a_file").read_text() == "mine"


def test_a_folder_that_may_only_be_read_still_serves(folder, monkeypatch, untold):
    remember(scaled, panel())
    for name in ("utime", "replace"):
        monkeypatch.setattr(cache.os, name, fail("Read-only file system", 30))
    monkeypatch.setattr(cache.tempfile, "mkstemp", fail("Read-only file system", 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remember(scaled, panel())
    assert len(calls) == 1


def test_the_bound_holds(folder, monkeypatch) -> None:
    remember(scaled, panel(), by=0.0)
    size = next(folder.glob("*.zip")).stat().st_size / 1e9
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE_GB", str(3.5 * size))
    for by in range(1, 8):
        remember(scaled, panel(), by=float(by))
    assert len(list(folder.glob("*.zip"))) <= 4
    assert trim(0.0) == 0.0 and not list(folder.glob("*.zip"))
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
    (pd.testing.assert_series_equal if isinstance(value, pd.Series) else pd.testing.assert_frame_equal)(
        one, two, check_freq=False
    )


@pytest.mark.parametrize(
    "call", [lambda: remember(len, panel()), lambda: remember(scaled, open(__file__)), lambda: content_hash(iter([]))]
)
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

    check_feature(Feature("one", function, 0, "bars"), panel() + 1)
    assert len(seen) == len(calls) > 5 and not list(folder.glob("*"))


def test_an_estimator_is_its_class_and_its_parameters():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one = make_pipeline(StandardScaler(), Ridge(1.0))
    assert content_hash(one) == content_hash(
        make_pipeline(StandardScaler(), Ridge(1.0)).fit([[0.0], [1.0]], [0.0, 1.0])
    )
    assert (
        content_hash(one)
        != content_hash(make_pipeline(StandardScaler(), Ridge(2.0)))
        != content_hash(make_pipeline(StandardScaler(with_mean=False), Ridge(2.0)))
    )


def test_parts_of_long_work_are_kept_whole_or_not_at_all(folder):
    key = content_hash("part")
    assert cache.kept(key) is None
    assert cache.keep(key, [1, "two"])
    assert cache.kept(key) == [1, "two"] and [f.suffix for f in folder.iterdir()] == [".zip"]
    with cache.off():
        assert cache.kept(key) is None
        assert not cache.keep(content_hash("other"), 1)
    assert len(list(folder.iterdir())) == 1
    with pytest.warns(UserWarning, match="a generator cannot be kept"):
        assert not cache.keep(key, (n for n in [1]))
    assert [f.suffix for f in folder.iterdir()] == [".zip"] and cache.kept(key) == [1, "two"], "no half file"
    [file] = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="passed over"):
        assert cache.kept(key) is None
    cache.trim(0.0)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("key", ["", "../../etc", "short", "0" * 31, "A" * 64, "0" * 31 + "/" + "0" * 32])
def test_a_key_is_no_path(key):
    for call in (lambda: cache.kept(key), lambda: cache.keep(key, 1)):
        with pytest.raises(ConfigError, match="32 hex digits"):
            call()


class Trap:
    "Unpickled, it leaves a file."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_no_pickle_in_the_folder_is_opened(folder, tmp_path_factory):
    mark = tmp_path_factory.mktemp("mark") / "ran"
    blob, key = pickle.dumps(Trap(mark)), content_hash("a part")
    remember(scaled, panel())
    names = [f"{key[:32]}.zip", f"{key[:32]}.pickle", f"{key[:32]}.parquet", *(f.name for f in folder.iterdir())]
    for name in names:
        (folder / name).write_bytes(hashlib.sha256(blob).digest() + blob if name.endswith(".pickle") else blob)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cache.kept(key) is None and remember(scaled, panel()).equals(panel() * 2)
    trim(0.0)
    assert not mark.exists() and len(calls) == 2
    pickle.loads(blob)
    assert mark.exists(), "the trap is a real one"


def test_an_entry_under_another_key_is_not_taken_for_it(folder):
    one, other = content_hash("one"), content_hash("other")
    cache.keep(one, [1])
    (folder / f"{one[:32]}.zip").rename(folder / f"{other[:32]}.zip")
    with pytest.warns(UserWarning, match="belongs to another key"):
        assert cache.kept(other) is None
    (folder / f"{other[:32]}.zip").rename(folder / f"{one[:16]}{other[:16]}.zip")
    with pytest.warns(UserWarning, match="belongs to another key"):
        assert cache.kept(one[:16] + other[:16] + one[32:]) is None


def test_no_link_is_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    key = content_hash("linked")
    cache.keep(key, [1])
    entry = folder / f"{key[:32]}.zip"
    entry.rename(outside / "moved.zip")
    entry.symlink_to(outside / "moved.zip")
    with pytest.warns(UserWarning, match="passed over"):
        assert cache.kept(key) is None
    trim(0.0)
    assert (outside / "moved.zip").exists() and entry.is_symlink(), "a link is neither followed nor counted"
    cache.keep(key, [2])
    assert not entry.is_symlink() and cache.kept(key) == [2] and (outside / "moved.zip").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_passed_over(folder, make):
    key = content_hash("odd")
    make(folder / f"{key[:32]}.zip")
    with pytest.warns(UserWarning, match="passed over"):
        assert cache.kept(key) is None
    trim(0.0)
    assert list(folder.iterdir())


def test_only_what_the_cache_wrote_is_deleted(folder):
    cache.keep(content_hash(1), list(range(100)))
    mine = {
        "notes.txt": b"x",
        "prices.parquet": b"PAR1",
        "model.pickle": b"x",
        f"{'a' * 32}.zip": b"PK a photo album",
        f"{'b' * 32}.parquet": b"no parquet",
        f"{'c' * 32}.pickle": b"y" * 50,
        f"{'d' * 32}.csv": b"x",
    }
    for name, content in mine.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / f"{'e' * 32}.zip", "w") as album:
        album.writestr("photo.jpg", "x")
    (folder / f"{'f' * 32}").mkdir()
    blob = pickle.dumps([1])
    (folder / f"{'1' * 32}.pickle").write_bytes(hashlib.sha256(blob).digest() + blob)  # of the version before
    panel().to_parquet(folder / f"{'2' * 32}.parquet")
    left_a_day_ago, left_now = folder / f"{'3' * 32}.abc123.part", folder / f"{'4' * 32}.abc123.part"
    for part in (left_a_day_ago, left_now):
        part.write_text("half")
    os.utime(left_a_day_ago, (time.time() - 90_000,) * 2)
    assert trim(0.0) == 0.0
    assert {f.name for f in folder.iterdir()} == {*mine, f"{'e' * 32}.zip", "f" * 32, left_now.name}


def test_foreign_files_do_not_drive_out_entries(folder):
    for i in range(3):
        cache.keep(content_hash(i), [i])
    for i in "abc":
        (folder / f"{i * 32}.zip").write_bytes(b"x" * 1_000_000)
        os.utime(folder / f"{i * 32}.zip", (1, 1))
    trim(0.5e-3)
    assert [cache.kept(content_hash(i)) for i in range(3)] == [[0], [1], [2]]


def test_what_cannot_be_kept_is_computed_each_time():
    def odd(x: float) -> pd.DataFrame:
        calls.append(x)
        return pd.DataFrame({"f": [print]})

    for _ in range(2):
        with pytest.warns(UserWarning, match="is not kept, and is computed again each time"):
            assert remember(odd, 1.0)["f"].iloc[0] is print
    assert calls == [1.0, 1.0]


def test_frames_without_rows_or_numbers_come_back():
    frame = panel()
    for some in (frame.iloc[:0], frame.iloc[:1], frame * np.nan, frame["close"].rename("name")):
        one, two = remember(lambda x: x, some), remember(lambda x: x, some)
        assert one.equals(two) and type(one) is type(two) and getattr(two, "name", None) == getattr(some, "name", None)


def test_what_cannot_be_kept_is_said(folder):
    key = content_hash(["the third fold"])
    with pytest.warns(UserWarning, match="function cannot be kept"):
        assert not cache.keep(key, lambda: 0)
    assert cache.keep(key, 3)
    file = folder / f"{key[:32]}.zip"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is passed over"):
        assert cache.kept(key) is None
    with pytest.raises(ConfigError, match="at least 32 hex digits"):
        cache.kept("../elsewhere")
