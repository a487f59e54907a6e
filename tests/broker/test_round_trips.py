"""Round trips at their edges: none, one, both sides of the market, no loss."""

import numpy as np
import pandas as pd
import pytest

from quantlab.broker.round_trips import round_trip_summary, round_trips
from quantlab.core.errors import ConfigError

DAYS = pd.date_range("2024-01-01", periods=4)
FILLS = pd.DataFrame({
    "date": DAYS, "symbol": "A", "quantity": [5.0, -10.0, 5.0, 3.0], "price": [10.0, 12.0, 11.0, 20.0],
    "commission": [1.0, 2.0, 1.0, 1.0],
})  # fmt: skip
FOUR = pd.DataFrame({
    "entry": DAYS, "exit": DAYS + pd.Timedelta("2D"),
    "pnl": [30.0, -10.0, 20.0, -15.0], "return": [0.3, -0.1, 0.2, -0.15],
})  # fmt: skip


@pytest.mark.parametrize("last", [None, pd.Series({"A": 21.0}), pd.Series(dtype=float)])
def test_without_fills_there_are_no_trips(last):
    assert round_trips(FILLS.iloc[:0], last=last).empty


def test_few_trips_have_figures_without_errors():
    assert round_trip_summary(round_trips(FILLS.iloc[:0]))["value"].isna().all()
    assert round_trip_summary(FOUR.iloc[:1])["se"].isna().all()


def test_errors_need_a_draw():
    with pytest.raises(ConfigError, match="at least once"):
        round_trip_summary(FOUR, draws=0)


def test_the_mirror_of_fills_earns_what_they_lose():
    free = FILLS.assign(commission=0.0)
    mirror = round_trips(free.assign(quantity=-free["quantity"]))
    assert np.allclose(mirror["pnl"], -round_trips(free)["pnl"]) and (mirror["side"] == [-1, 1, -1]).all()


def test_without_a_loss_there_is_no_ratio_to_it():
    wins = round_trip_summary(FOUR.assign(pnl=[1.0, 2, 3, 4]))["value"]
    assert wins["win_rate"] == 1 and np.isnan(wins["profit_factor"]) and np.isnan(wins["payoff"])
