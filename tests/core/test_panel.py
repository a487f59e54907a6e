"""The panel and its wide form, on random panels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import PanelError
from quantlab.core.panel import as_panel, check_panel, date_starts, grid, to_long, to_wide


@st.composite
def panels(draw):
    "A panel with random holes, in random row order before as_panel sorts it."
    n_dates, n_symbols = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    names = draw(st.lists(st.text("ABCxyz.-é", min_size=1, max_size=4), min_size=n_symbols, max_size=n_symbols, unique=True))
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
    assert to_wide(part["x"], at).shape == (part.index.get_level_values(0).nunique(), part.index.get_level_values(1).nunique())


def test_duplicates_are_named_not_dropped():
    twice = pd.DataFrame({"date": ["2024-01-02"] * 2, "symbol": ["A", "A"], "x": [1.0, 2.0]})
    with pytest.raises(PanelError, match=r"2024-01-02, A"):
        as_panel(twice)


def test_symbols_sort_as_strings_even_when_levels_do_not():
    index = pd.MultiIndex.from_arrays([pd.to_datetime(["2024-01-02"] * 2), pd.Categorical(["A", "B"], categories=["B", "A"])], names=["date", "symbol"])
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=index)
    assert as_panel(frame.reset_index())["x"].tolist() == [1.0, 2.0]
