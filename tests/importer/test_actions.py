"""data.actions: however a vendor writes a split, the adjusted returns are the true ones; what contradicts the price
is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quantlab.core.errors import DataError
from quantlab.importer.actions import apply_actions, cash_factor, read_split, take_splits

USUAL = [2.0, 3.0, 1.5, 4.0, 7.0, 10.0, 20.0, 0.5, 0.1, 0.05]


def market(seed, ratio, at, days=60):
    "Traded closes of two symbols, the first with one split; its true factor."
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [["A", "B"], pd.bdate_range("2020-01-01", periods=days)], names=["symbol", "date"]
    ).swaplevel()
    smooth = pd.Series(
        100 * np.exp(np.concatenate([rng.normal(0, 0.02, days).cumsum() for _ in range(2)])), index=index
    )
    split = pd.Series(1.0, index=index)
    split.iloc[:at] = 1 / ratio
    return smooth / split, split, smooth


WAYS = {
    "event": lambda split, event: event,
    "Yahoo": lambda split, event: event.where(event != 1, 0.0),
    "premium": lambda split, event: event - 1,
    "factor": lambda split, event: split,
    "growing factor": lambda split, event: split * 7,
    "divisor": lambda split, event: 1 / split,
}


def read_or_asked(close, column, way):
    "What read_split answers; None where it asks: 9 or 10 for one, 0.05 or a stock dividend of 5 %, on a wild day."
    try:
        return read_split(close, column, "split")
    except DataError as error:  # a question, never a wrong answer
        assert "do not show" in str(error) and way in ("Yahoo", "premium")
        return None


@given(st.integers(0, 10**6), st.sampled_from(USUAL), st.integers(2, 58), st.sampled_from(list(WAYS)))
@example(seed=245701, ratio=0.05, at=2, way="Yahoo")
@settings(max_examples=40, deadline=None)
def test_every_way_of_writing_gives_the_true_returns(seed, ratio, at, way):
    traded, split, smooth = market(seed, ratio, at)
    event = pd.Series(1.0, index=split.index)
    event.iloc[at] = ratio
    answer = read_or_asked(traded, WAYS[way](split, event), way)
    if answer is None:
        return
    reading, found = answer
    assert reading not in (None, "none")
    pd.testing.assert_series_equal(
        (traded * found).groupby(level="symbol").pct_change(),
        smooth.groupby(level="symbol").pct_change(),
        check_names=False,
    )
    held = read_or_asked(smooth, WAYS[way](split, event), way)
    assert held is None or held[0] == "none", "prices that hold the split already"


@given(st.integers(0, 10**6), st.sampled_from([r for r in USUAL if abs(np.log(r)) > 0.5]), st.integers(2, 58))
@settings(max_examples=15, deadline=None)
def test_a_wrong_ratio_is_refused(seed, ratio, at):
    traded, split, _ = market(seed, ratio, at)
    event = pd.Series(1.0, index=split.index)
    event.iloc[at] = 1 / ratio
    with pytest.raises(DataError, match="contradicts the prices: A on"):
        read_split(traded, event, "split")


@given(
    st.integers(0, 10**6),
    st.sampled_from([2.0, 3.0, 7.0, 0.1]),
    st.integers(2, 58),
    st.lists(st.integers(1, 59), max_size=4, unique=True),
)
@settings(max_examples=20, deadline=None)
def test_an_adjusted_close_parts_into_splits_and_dividends(seed, ratio, at, paid):
    traded, split, _ = market(seed, ratio, at)
    cash = pd.Series(0.0, index=traded.index)
    cash.iloc[[d for d in paid if d != at]] = 0.01 * traded.iloc[[d for d in paid if d != at]]
    adj = cash_factor(traded, split, cash, "cash")
    found, rest = take_splits(traded, split * adj, "Adj Close")
    np.testing.assert_allclose(found, split)
    np.testing.assert_allclose(rest, adj)
    back, reading, _ = apply_actions(
        traded.to_frame("close").sort_index(),
        {"adj_close": (traded * split * adj).sort_index()},
        {"adj_close": "Adj Close"},
    )
    np.testing.assert_allclose(back["adj"] * back["split"], (split * adj).sort_index())
    assert reading == "factor"


def test_cash_is_checked_where_it_is_large():
    traded, split, _ = market(1, 2.0, 30)
    cash = pd.Series(0.0, index=traded.index)
    cash.iloc[10] = 0.6 * traded.iloc[9]
    with pytest.raises(DataError, match="pays .* on a close of"):
        cash_factor(traded, split, cash, "divCash")
    with pytest.raises(DataError, match="no cash on single days"):
        cash_factor(traded, split, cash + 1, "divCash")


def test_degenerate_columns_are_defined():
    traded, split, smooth = market(2, 2.0, 30)
    one = traded.iloc[:1]
    assert read_split(one, one * 0, "split")[0] is None and (read_split(one, one * 0, "split")[1] == 1).all()
    assert read_split(smooth, split * np.nan, "split")[0] is None
    constant = read_split(smooth, split * 0 + 0.25, "split")
    assert constant[0] is None and (constant[1] == 0.25).all()
    with pytest.raises(DataError, match="neither ratios of splits nor a factor"):
        read_split(smooth, split * 0 - 3, "split")
    assert apply_actions(smooth.to_frame("close"), {}, {})[1:] == (None, [])
