"""The panel and its wide form, on random panels."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import PanelError
from quantlab.core.panel import as_panel, check_panel, date_starts, grid, to_long, to_wide


@st.composite
def panels(draw):
    "A panel with random holes, in random row order before as_panel sorts it."
    n_dates, n_symbols = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    names = draw(
        st.lists(st.text("ABCxyz.-é", min_size=1, max_size=4), min_size=n_symbols, max_size=n_symbols, unique=True)
    )
    cells = [(d, s) for d in range(n_dates) for s in names]
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, unique=True))
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta([d for d, _ in kept], unit="D")
    values = draw(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=len(kept), max_size=len(kept)))
    return as_panel(pd.DataFrame({"date": dates, "symbol": [s for _, s in kept], "x": values}))


@given(panels())
def test_wide_and_back_is_the_identity(panel):
    wide = to_wide(panel["x"])
    assert to_long(wide, panel.index, name="x").equals(panel["x"])
    oracle = panel["x"].unstack()
    assert wide.columns.tolist() == sorted(oracle.columns) and wide.index.equals(oracle.index)
    np.testing.assert_array_equal(wide.to_numpy(), oracle[wide.columns].to_numpy())


@given(panels())
def test_slices_by_date_cover_every_row_once(panel):
    dates, starts = date_starts(panel.index)
    level = panel.index.get_level_values("date")
    for i, date in enumerate(dates):
        assert (level[starts[i] : starts[i + 1]] == date).all()
    assert starts[0] == 0 and starts[-1] == len(panel)


@given(panels(), st.data())
def test_a_part_of_a_panel_is_a_panel(panel, data):
    "Slicing leaves unused levels behind; they must not reach the wide form."
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(panel), max_size=len(panel))))
    part = panel[mask]
    check_panel(part)
    at = grid(part.index)
    assert set(at.dates) == set(part.index.get_level_values("date"))
    assert to_wide(part["x"], at).shape == (
        part.index.get_level_values(0).nunique(),
        part.index.get_level_values(1).nunique(),
    )


def test_duplicates_are_named_not_dropped():
    twice = pd.DataFrame({"date": ["2024-01-02"] * 2, "symbol": ["A", "A"], "x": [1.0, 2.0]})
    with pytest.raises(PanelError, match=r"2024-01-02, A"):
        as_panel(twice)


def test_symbols_sort_as_strings_even_when_levels_do_not():
    index = pd.MultiIndex.from_arrays(
        [pd.to_datetime(["2024-01-02"] * 2), pd.Categorical(["A", "B"], categories=["B", "A"])],
        names=["date", "symbol"],
    )
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=index)
    assert as_panel(frame.reset_index())["x"].tolist() == [1.0, 2.0]


@st.composite
def untidy(draw):
    """A panel, and the same rows on an index whose levels are shuffled, hold values that no row has, and may repeat
    some."""
    panel = draw(panels())
    levels, codes = [], []
    for number, level in enumerate(panel.index.levels):
        more = level.append(
            pd.DatetimeIndex(["1999-12-31", "2031-01-01"])
            if number == 0
            else pd.Index(["0 nobody", "~ nobody"], dtype="str")
        )
        if draw(st.booleans()):
            more = more.append(level[:1])  # the same value twice, as set_levels without a check leaves it
        order = np.array(draw(st.permutations(range(len(more)))))
        levels.append(more[order])
        codes.append(np.argsort(order)[panel.index.codes[number]])
    index = pd.MultiIndex(levels=levels, codes=codes, names=panel.index.names, verify_integrity=False)
    return panel, panel.set_axis(index)


@given(untidy())
@settings(max_examples=50, deadline=None)
def test_the_order_of_levels_does_not_show(both):
    "One symbol's numbers never become another's, whatever the codes say."
    panel, other = both
    if (
        not other.index.is_unique or not other.index.is_monotonic_increasing
    ):  # pandas itself is misled by repeated level values
        return
    assert list(other.index) == list(panel.index)
    at, straight = grid(other.index), grid(panel.index)
    assert all(np.array_equal(a, b) for a, b in zip(at, straight, strict=True)) and at.symbols.equals(straight.symbols)
    pd.testing.assert_frame_equal(to_wide(other["x"]), to_wide(panel["x"]))
    assert to_long(to_wide(panel["x"]), other.index, name="x").equals(other["x"])
    assert np.array_equal(date_starts(other.index)[1], date_starts(panel.index)[1])


@given(panels(), panels(), st.data())
@settings(max_examples=50, deadline=None)
def test_levels_after_concat_and_selection(first, second, data):
    "What pandas' own operations leave behind in the levels does not reach the wide form."
    second = second.rename(index={s: f"{s}2" for s in second.index.levels[1]}, level="symbol")
    both = pd.concat([second, first]).sort_index()
    names = data.draw(
        st.lists(st.sampled_from(sorted({*both.index.get_level_values("symbol")})), min_size=1, unique=True)
    )
    for part in (
        both,
        both.loc[both.index.get_level_values("symbol").isin(names)],
        both.loc[both.index[0][0] :],
        both.drop(index=both.index[:1]),
    ):
        wide = to_wide(part["x"])
        for (date, symbol), x in part["x"].items():
            found = wide.loc[date, symbol]
            assert found == x or (np.isnan(found) and np.isnan(x))
        assert wide.notna().sum().sum() == part["x"].notna().sum()


def test_symbols_as_categories_in_any_order():
    dates = pd.to_datetime(["2024-01-02", "2024-01-02", "2024-01-03"])
    symbols = pd.Categorical(["B", "A", "A"], categories=["Z", "B", "A"])
    long = pd.DataFrame({"date": dates, "symbol": symbols, "x": [2.0, 1.0, 3.0]})
    assert to_wide(as_panel(long)["x"]).to_dict() == {
        "A": {dates[0]: 1.0, dates[2]: 3.0},
        "B": {dates[0]: 2.0, dates[2]: pytest.approx(np.nan, nan_ok=True)},
    }
    with pytest.raises(PanelError, match="symbol holds category"):
        check_panel(long.set_index(["date", "symbol"]).sort_index())


def test_a_column_and_the_grid_of_another_index_are_refused():
    panel = as_panel(pd.DataFrame({"date": ["2024-01-02"] * 2, "symbol": ["A", "B"], "x": [1.0, 2.0]}))
    with pytest.raises(PanelError, match="1 rows, the coordinates 2"):
        to_wide(panel["x"].iloc[1:], grid(panel.index))


def test_only_this_module_reads_raw_codes():
    """A level's codes are coordinates only after grid has put the level in order; the cache hashes and keeps them,
    and locates nothing."""
    allowed = {"quantlab/core/panel.py", "quantlab/core/cache.py", "quantlab/core/state.py"}
    sources = [f for folder in ("quantlab", "bench", "scripts") for f in sorted((root() / folder).rglob("*.py"))]
    found = {
        f.relative_to(root()).as_posix(): re.findall(r".*index\.codes\[?.*|.*\.codes\[\d\].*", f.read_text())
        for f in sources
    }
    strangers = {
        name: lines
        for name, lines in found.items()
        if lines and name not in allowed and not all("nbytes" in line for line in lines)
    }
    assert not strangers and found["quantlab/core/panel.py"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[None, "A", 1.0]], "missing in rows"),
        ([["2024-01-02", None, 1.0]], "missing in rows"),
        ([["yesterday", "A", 1.0]], "use ISO dates"),
    ],
)
def test_a_door_names_what_keeps_rows_out(rows, says):
    with pytest.raises(PanelError, match=says):
        as_panel(pd.DataFrame(rows, columns=["date", "symbol", "x"]))


def test_an_index_of_other_types_is_none():
    empty = as_panel(pd.DataFrame([], columns=["date", "symbol", "x"]))
    assert len(empty) == 0 and check_panel(empty) is empty
    plain = pd.DataFrame({"x": [1.0]})
    with pytest.raises(PanelError, match="are missing"):
        as_panel(plain)
    for rows, says in (
        (pd.RangeIndex(1), "use as_panel"),
        ([(pd.Timestamp("2024-01-02"), 7)], "symbol"),
        ([("2024-01-02", "A")], "timestamps"),
    ):
        index = rows if isinstance(rows, pd.Index) else pd.MultiIndex.from_tuples(rows, names=["date", "symbol"])
        with pytest.raises(PanelError, match=says):
            check_panel(plain.set_axis(index))
    with pytest.raises(PanelError, match=r"columns \['open'\] are missing"):
        check_panel(as_panel(pd.DataFrame([["2024-01-02", "A", 1.0]], columns=["date", "symbol", "close"])), ["open"])


def test_a_series_where_columns_are_meant_is_named():
    index = pd.MultiIndex.from_product([pd.DatetimeIndex(["2024-01-02"]), ["A"]], names=["date", "symbol"])
    weight = pd.Series([1.0], index, name="weight")
    with pytest.raises(PanelError, match=r"a Series without columns; give a frame with \['weight'\]"):
        check_panel(weight, ["weight"])
    assert check_panel(weight) is weight
