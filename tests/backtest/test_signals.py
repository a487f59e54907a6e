"""Signals at their edges: none, one session, and where the account begins."""

import pandas as pd
import pytest

from quantlab.backtest.signals import from_signals
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars


@pytest.fixture(scope="module")
def bars():
    return adjust(sample_bars(["KO", "PG"], "2014-01-02", "2014-06-30"), "total").drop(columns="adj")


def test_no_signal_is_no_trade(bars):
    nothing = from_signals(pd.Series(False, bars.index), None, bars)
    assert nothing.trades.empty and (nothing.equity == 1e6).all()


def test_an_entry_of_the_last_session_has_no_next_one(bars):
    one = from_signals(pd.Series(True, bars.index[:1]), None, bars.iloc[:1])
    assert one.trades.empty and one.orders["reason"].tolist() == ["no next session"]


def test_the_account_begins_with_the_first_decision(bars):
    dates = bars.index.unique("date")
    late = pd.Series(True, bars.loc[dates[40] :].index)
    begun = from_signals(late, None, bars)
    assert begun.equity.index[0] == dates[40] == begun.trades["decided"].iloc[0]
    whole = from_signals(late, None, bars, start=dates[0])
    assert whole.equity.index[0] == dates[0] and whole.equity.loc[dates[40] :].equals(begun.equity)
    short = from_signals(late, None, bars, short_entries=pd.Series(False, bars.loc[dates[20] :].index))
    assert short.equity.index[0] == dates[20]
    assert from_signals(late.iloc[:0], None, bars).equity.index[0] == dates[0]
