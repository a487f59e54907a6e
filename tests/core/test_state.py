"What is written comes back as it was, what would not is refused, and no file runs anything."

import ast
import io
import json
import math
import os
import pickle
import random
import string
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantlab
from quantlab.core import state
from quantlab.core.state import StateError, keepable, load_state, save_state


def there_and_back(value, **given):
    file = io.BytesIO()
    save_state(value, file, **given)
    return load_state(file, **given)


def same(one, two) -> bool:
    "Equal in type, values and all that hangs on them."
    if type(one) is not type(two):
        return False
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, check_freq=True, check_exact=True)
        return one.attrs == two.attrs and same(one.index, two.index) and same(one.columns, two.columns)
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, two, check_freq=True, check_exact=True)
        return one.attrs == two.attrs and same(one.index, two.index)
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, two, exact=True)
        levels = zip(one.levels, two.levels, strict=True) if isinstance(one, pd.MultiIndex) else ()
        return getattr(one, "freq", None) == getattr(two, "freq", None) and all(same(a, b) for a, b in levels)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two)
        return (
            one.dtype == two.dtype
            and one.shape == two.shape
            and two.flags.writeable
            and one.flags.f_contiguous == two.flags.f_contiguous
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, two)) and all(map(same, one.values(), two.values()))
    return repr(one) == repr(two)


DATES = pd.date_range("2024-03-29", periods=3, tz="Europe/Berlin", unit="us")
PANEL = pd.MultiIndex.from_product([DATES, pd.Index(["B", "A"], dtype="str")], names=["date", "symbol"])
MIXED = pd.DataFrame(
    {
        "whole": [1, 2], "text": ["x", None], "kind": pd.Categorical(["q", "p"], ["q", "p", "unused"], ordered=True),
        "holes": pd.array([1, None], "Int64"),
        "time": pd.to_datetime(["2020-01-01", None], utc=True), "true": [True, False],
        "string": pd.array(["x", None], "string"),
        "month": pd.period_range("2020", periods=2, freq="M"), "span": pd.interval_range(0, 2),
        "wait": pd.to_timedelta([1, 2], unit="s"),
        "anything": pd.Series([1, "a"], dtype=object), "words": pd.Series(["u", "v"], dtype=object),
        "flag": pd.array([True, None], "boolean"),
    }
)  # fmt: skip
VALUES = [
    pd.DataFrame(np.arange(18.0).reshape(6, 3), PANEL, list("abc")),
    pd.DataFrame(np.arange(18.0).reshape(6, 3), PANEL, list("abc")).iloc[:0],
    pd.DataFrame(np.arange(18.0).reshape(6, 3), PANEL, list("abc")).iloc[2:4], pd.DataFrame(index=PANEL),
    pd.DataFrame(), MIXED, MIXED.iloc[:0],
    pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame([[1.0, 2]], columns=[0, 1]),
    pd.DataFrame({("a", 1): [1.0], ("b", 2): [2]}),
    pd.DataFrame({"x": [1.0, np.inf, -0.0]}, pd.date_range("2020-01-01", periods=3, freq="B", name="d")),
    pd.DataFrame({"x": [1.0]}, pd.Index([5], name=("a", 1))),
    pd.DataFrame({"x": np.arange(3, dtype="int8"), "y": np.arange(3, dtype="float32")}),
    pd.DataFrame({"x": [np.nan, np.nan]}).astype("float32"),
    pd.Series([1.5, np.nan], name=("a", 2)), pd.Series(["a", None], name=None), pd.Series([], dtype="datetime64[ns]"),
    pd.Series(pd.Categorical(["a"])),
    pd.RangeIndex(2, 8, 3, name="n"), pd.CategoricalIndex(["a"]), pd.Index(["a", 1], dtype=object),
    pd.period_range("2020", periods=2, freq="Q"), DATES,
    pd.timedelta_range("1D", periods=3), pd.DatetimeIndex([]), PANEL[:0], PANEL,
    np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::3].copy(),
    np.array(3.0), np.array([]), np.array([1j]), np.array(["a", "bcd"]),
    np.array([True, False]), np.array(["2020-01-01", "NaT"], "M8[D]"), np.array([1, "a", None], object),
    np.arange(3).astype(">i4"), np.arange(4, dtype="f2"), np.zeros((0, 3)),
    None, True, 1, 10**50, -0.0, math.nan, -math.inf, "a\x00b", "\ud800", b"\x00\xff",
    [1, (2, {3: 4.0, "a": {1.5}, (1, None): frozenset({"x"})})],
    np.float32(1.1), np.int64(3), np.bool_(True), np.datetime64("2020-01-01"), np.float64("nan"), np.dtype("float32"),
    np.dtype(">i4"),
    pd.Timestamp("2024-01-01", tz="America/New_York"), pd.Timestamp("2024-01-01").as_unit("s"), pd.Timedelta("1D"),
    pd.NaT, pd.NA,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_comes_back_as_it_was(value):
    assert same(value, there_and_back(value))


def test_attributes_zones_and_unused_levels_stay():
    frame = pd.DataFrame({"p": [0.5] * 6}, PANEL)
    frame.attrs["timing"] = "smoothed"
    back = there_and_back(frame.loc[DATES[:1]])
    assert (
        same(back, frame.loc[DATES[:1]])
        and back.attrs == {"timing": "smoothed"}
        and str(back.index.levels[0].tz) == "Europe/Berlin"
        and len(back.index.levels[0]) == 3
    )


def test_a_frame_that_comes_back_is_its_reader_s_own(tmp_path):
    "A large entry is mapped: what is read must neither be locked nor change with the file."
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20_000, 8)), columns=list("abcdefgh")).assign(
        s=[f"text {i % 100}" * 9 for i in range(20_000)]
    )
    file = tmp_path / "entry.zip"
    with file.open("wb") as target:
        save_state(
            {"all": frame, "numbers": frame[list("abc")], "array": frame["a"].to_numpy(), "one": frame["b"]}, target
        )
    with file.open("rb") as source:
        back = load_state(source)
    with file.open("r+b") as target:
        target.write(b"\x00" * file.stat().st_size)
    assert same(back["all"], frame) and same(back["numbers"], frame[list("abc")]) and same(back["one"], frame["b"])
    back["all"].iloc[0, 0] = back["numbers"].iloc[0, 0] = back["array"][0] = back["one"].iloc[0] = 5.0
    assert (back["all"].iloc[0, 0], back["numbers"].iloc[0, 0], back["array"][0], back["one"].iloc[0]) == (5.0,) * 4


NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=5)
TREES = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_tree_comes_back(tree):
    assert same(tree, there_and_back(tree))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["f8", "f4", "i8", "i2", "u1", "b1", "M8[us]", "m8[s]", "U3", "c16"]), max_size=5),
    st.integers(0, 6),
    st.sampled_from([None, "UTC", "Asia/Tokyo"]),
    st.integers(0, 2**32 - 1),
)
def test_any_frame_comes_back(kinds, n, zone, seed):
    rng = np.random.default_rng(seed)
    columns = [
        np.frombuffer(rng.bytes(8 * n), "i8").astype(kind)
        if kind[0] in "fiubMmc"
        else rng.integers(0, 99, n).astype(kind)
        for kind in kinds
    ]
    index = pd.DatetimeIndex(rng.integers(0, 10**15, n).astype("M8[us]"), tz=zone, name="date")
    frame = pd.DataFrame({f"{i}": column for i, column in enumerate(columns)}, index=index)
    assert same(frame, there_and_back(frame))


def test_the_same_value_makes_the_same_bytes():
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        save_state(
            {"panel": pd.DataFrame(np.arange(18.0).reshape(6, 3), PANEL), "set": {"c", "a", "b"}}, file, key="1" * 32
        )
    assert files[0].getvalue() == files[1].getvalue()


class Plain:
    def __init__(self, depth=1):
        self.depth = depth

    def fit(self):
        self.seen_ = np.arange(self.depth)
        return self


class Pair(NamedTuple):
    low: float
    high: float


@pytest.mark.parametrize(
    "value",
    [lambda: 1, print, open, (n for n in [1]), object(), Plain(), Pair(1, 2), int, os, Path("x"), np.longdouble(1),
    random.Random(1), {1: [len]}, pd.offsets.Day(), range(3),
     np.rec.array([(1, 2.0)]), np.ma.array([1]), pd.Series([{1: print}])],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_would_not_come_back_is_refused(value):
    with pytest.raises(StateError) as refused:
        there_and_back(value)
    assert "cannot be kept" in str(refused.value) and "\n" not in str(refused.value)


def test_a_loop_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(StateError, match="cannot be kept"):
        there_and_back(loop)


def test_only_a_class_that_is_known_is_made(monkeypatch):
    monkeypatch.setattr(state, "_KNOWN", dict(state._KNOWN))
    file = io.BytesIO()
    save_state(Plain(3).fit(), file, known=[Plain])
    assert load_state(file, known=[Plain]).seen_.tolist() == [0, 1, 2]
    with pytest.raises(StateError, match="not among the classes that keepable knows"):
        load_state(file)
    keepable(Plain)
    assert load_state(file).depth == 3
    keepable(Pair)
    assert same(there_and_back([Pair(1.0, math.inf)]), [Pair(1.0, math.inf)])


def forged(said=None, *, value=None, mime=state.STATE_MIME, entries=(), packed=False) -> io.BytesIO:
    "Write an archive by hand."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("mimetype", mime)
        archive.writestr(
            "value.json", json.dumps({"format": state.FORMAT, "key": "", "value": value} if said is None else said)
        )
        for name, content in entries:
            archive.writestr(name, content)
    return file


def made(label, **held):
    return {
        "is": "object",
        "of": label,
        "state": {"is": "dict", "items": [[name, value] for name, value in held.items()]},
    }


def test_a_file_names_no_module_that_is_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("open('ran', 'w')\nclass C: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    labels = [
        "planted:C",
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "quantlab.core.errors:planted",
        "quantlab:os",
        "quantlab.core.ledger:os.system",
        "quantlab.ops.planted:C",
        "quantlab...planted:C",
        ":",
        "",
    ]
    for label in labels:
        with pytest.raises(StateError):
            load_state(forged(value=made(label, args=["touch ran"])))
    assert not (tmp_path / "ran").exists() and "planted" not in __import__("sys").modules


def test_no_attribute_takes_the_place_of_a_method():
    with pytest.raises(StateError, match="would hide its fit"):
        load_state(forged(value=made(f"{Plain.__module__}:Plain", depth=1, fit=2)), known=[Plain])


FOREIGN = {
    "nothing": b"", "text": b"hello", "pickle": pickle.dumps([1]),
    "a zip of another kind": forged(mime=b"application/epub+zip").getvalue(),
    "packed": forged(value=1, packed=True).getvalue(),
    "a format to come": forged({"format": state.FORMAT + 1, "key": "", "value": 1}).getvalue(),
    "no format": forged({"key": "", "value": 1}).getvalue(), "a list": forged([1]).getvalue(),
    "another key": forged({"format": state.FORMAT, "key": "2", "value": 1}).getvalue(),
    "an unknown kind": forged(value={"is": "pickle", "text": "gASVAA=="}).getvalue(),
    "deep": forged(value=None).getvalue().replace(b"null", b"[[[["),
    "no entry": forged(value={"is": "array", "type": "<f8", "cells": 3, "shape": [1], "order": "C"}).getvalue(),
    "no Arrow": forged(value={"is": "array", "type": "<f8", "cells": 0, "shape": [1], "order": "C"},
    entries=[("0.arrow", b"ARROW1\x00\x00 no")]).getvalue(),
    "a path": forged(value={"is": "array", "type": "<f8", "cells": "../../etc/passwd", "shape": [1],
    "order": "C"}).getvalue(),
    "an object type": forged(value={"is": "dtype", "text": {"is": 1}}).getvalue(),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_one_clear_line(name):
    with pytest.raises(StateError) as refused:
        load_state(io.BytesIO(FOREIGN[name]))
    assert str(refused.value).startswith(("it ", "its "))


def deepest() -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", state.STATE_MIME)
        archive.writestr("value.json", '{"format": 1, "key": "", "value": ' + "[" * 200_000 + "]" * 200_000 + "}")
    return file


def test_a_bottomless_file_is_one_clear_line():
    with pytest.raises(StateError, match="RecursionError"):
        load_state(deepest())


@pytest.mark.parametrize("tries", [250, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_refused_or_says_the_same(tries):
    value = {
        "panel": pd.DataFrame(np.arange(18.0).reshape(6, 3), PANEL, list("abc")),
        "text": "x" * 40,
        "numbers": [1, 2.5, None],
    }
    file, dice, refused = io.BytesIO(), random.Random(5), 0
    save_state(value, file)
    whole = file.getvalue()
    for _ in range(tries):
        hurt, at = bytearray(whole), dice.randrange(len(whole))
        match dice.randrange(4):
            case 0:
                hurt[at] ^= 1 << dice.randrange(8)
            case 1:
                del hurt[at:]
            case 2:
                del hurt[at : at + dice.randint(1, 40)]
            case 3:
                hurt[at:at] = dice.randbytes(dice.randint(1, 40))
        try:
            assert same(value, load_state(io.BytesIO(bytes(hurt))))
        except StateError as error:
            assert "\n" not in str(error)[:60]
            refused += 1
    assert refused > 0.8 * tries


PACKAGE = Path(quantlab.__file__).parent
FORBIDDEN = {
    "pickle",
    "dill",
    "marshal",
    "shelve",
    "joblib.load",
    "joblib.dump",
    "joblib.Memory",
    "pandas.read_pickle",
    "numpy.load",
    "yaml.load",
    "yaml.unsafe_load",
    "torch.load",
    "torch.save",
    "mlflow.pyfunc",
    "mlflow.sklearn",
}
ATTRIBUTES = {"read_pickle", "to_pickle", "unsafe_load", "allow_pickle"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_no_exported_code_opens_a_pickle(file):
    """The one exception is a Dask worker's copy of what it was sent, in memory; a template's check cell is our own
    source."""
    tree, name = ast.parse(file.read_text(encoding="utf-8")), file.relative_to(PACKAGE).as_posix()
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            imported.add(f"{ {'np': 'numpy', 'pd': 'pandas'}.get(node.value.id, node.value.id) }.{node.attr}")
        assert not (isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES), name
        assert not (isinstance(node, ast.keyword) and node.arg in ATTRIBUTES), name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            assert name == "report/template.py" and node.func.id == "exec"
    assert not imported & FORBIDDEN
    assert "cloudpickle" not in imported or name == "core/compute.py"


def test_text_is_not_taken_for_a_number():
    assert same(
        there_and_back([string.printable, "1", 1, True, "true", "NaN"]), [string.printable, "1", 1, True, "true", "NaN"]
    )


def test_a_file_of_another_kind_is_refused():
    def forged(**changes) -> io.BytesIO:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("mimetype", state.STATE_MIME)
            archive.writestr("value.json", json.dumps({"format": state.FORMAT, "key": "", "value": 1} | changes))
        return file

    for file, says in (
        (forged(key="1" * 32), "another key"),
        (forged(value={"is": "nothing"}), "cannot be read"),
        (io.BytesIO(b""), "not a zip file"),
    ):
        with pytest.raises(StateError, match=says):
            load_state(file)
    with pytest.raises(StateError, match="function cannot be kept"):
        there_and_back(lambda: 0)


def test_little_and_nothing_come_back():
    dates = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=3, unit="us"), ["A", "B"]], names=["date", "symbol"]
    )
    bars = pd.DataFrame({"close": np.arange(6.0), "volume": 1.0}, index=dates)
    for value in (
        bars.iloc[:0],
        bars.iloc[:1],
        bars * np.nan,
        bars["close"].rename(None),
        bars.reset_index(),
        pd.NaT,
        -0.0,
        np.array(3.0),
    ):
        back = there_and_back(value)
        assert type(back) is type(value) and (
            back.equals(value) if isinstance(value, (pd.DataFrame, pd.Series)) else repr(back) == repr(value)
        )


def test_a_text_of_several_megabytes_comes_back(tmp_path):
    "The text of many trees lies in the JSON itself, which is then mapped rather than read."
    held = {"text": "tree " * 700_000, "numbers": np.arange(400_000.0)}
    with (tmp_path / "long.zip").open("wb") as file:
        save_state(held, file)
    with (tmp_path / "long.zip").open("rb") as file:
        found = load_state(file)
    assert found["text"] == held["text"] and np.array_equal(found["numbers"], held["numbers"])
