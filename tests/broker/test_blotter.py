"""The tables of an account that did nothing, and what it says of itself."""

import numpy as np
import pandas as pd
import pytest

from quantlab.broker.blotter import Blotter, Fills, Orders, Result

DATES = pd.bdate_range("2024-01-02", periods=4).as_unit("us")


@pytest.fixture
def idle():
    none = Orders(*(np.zeros(0, dtype=int) for _ in range(3)), np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))
    nothing = Fills(
        *(np.zeros(0, dtype=int) for _ in range(3)), *(np.zeros(0) for _ in range(4)), np.zeros(0, dtype=int)
    )
    money, close = np.full(4, 5.0), np.full((4, 2), 10.0)
    blotter = Blotter(DATES, pd.Index(["A", "B"], dtype="str"), 1, close, money, money, none, nothing, ("",))
    return Result(blotter, {}, pd.Series(dtype=float))


def test_an_account_that_never_traded_has_empty_tables(idle):
    assert idle.trades.empty and idle.orders.empty and idle.closed.empty and idle.positions.empty
    assert (idle.turnover == 0).all() and len(idle.equity) == 3


def test_an_account_that_never_traded_says_so(idle):
    assert "fills     0" in repr(idle) and "not known" in repr(idle) and "<table" in idle._repr_html_()


@pytest.mark.parametrize(("bps", "says"), [(0.0, "not in excess of cash"), (200.0, "in excess of 2.00% on cash")])
def test_the_sharpe_ratio_says_whether_cash_is_taken_off(bps, says):
    dates = pd.bdate_range("2024-01-01", periods=300).as_unit("us")
    returns = np.random.default_rng(7).normal(0.0005, 0.01, 300)
    equity = np.cumprod(1 + returns)
    no, none = np.zeros(0, dtype=int), np.zeros(0)
    orders, fills = Orders(no, no, no, none, none, no), Fills(no, no, no, none, none, none, none, no)
    blotter = Blotter(dates, pd.Index(["A"], dtype="str"), 0, equity[:, None], equity, equity, orders, fills, ("",))
    shown = Result(blotter, {"interest_bps": bps}, pd.Series(dtype=float)).glance["Sharpe"]
    r = pd.Series(equity, dates).pct_change().iloc[1:]
    r -= bps / 10_000 * np.diff(dates) / pd.Timedelta(days=365)
    year = 299 / ((dates[-1] - dates[0]) / pd.Timedelta(days=365.25))
    assert shown.endswith(says) and shown.startswith(f"{r.mean() / r.std() * year**0.5:.2f} ± ")
