"""Costs: today's numbers to the bit, closed forms, monotone in size, one formula in two shapes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest.costs import DEFAULT_COSTS, Costs, carry_cost, charge, liquidity, square_root_impact
from quantlab.broker.session import fill_cost
from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars

sizes = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
prices = st.floats(0.01, 1e4)
some_costs = st.builds(
    Costs,
    commission_bps=st.floats(0, 50),
    slippage_bps=st.floats(0, 50),
    per_share=st.floats(0, 0.1),
    minimum=st.floats(0, 10),
    half_spread_bps=st.floats(0, 20),
    impact=st.floats(0, 2),
)


@given(quantity=sizes, price=prices, commission=st.floats(0, 100), slippage=st.floats(0, 100))
def test_two_rates_are_what_they_were_to_the_last_bit(quantity, price, commission, slippage):
    fill = charge([quantity], [price], Costs(commission, slippage)).iloc[0]
    paid = price * (1 + slippage / 10_000 * np.sign(quantity))
    assert fill["price"] == paid
    assert fill["commission"] == np.abs(quantity) * paid * (commission / 10_000)
    assert fill["slippage"] == np.abs(quantity * (paid - price))


@settings(max_examples=80, deadline=None)
@given(quantity=sizes, price=prices, costs=some_costs, volatility=st.floats(0, 0.1), volume=st.floats(1, 1e9))
def test_the_jitted_fill_is_the_vectorised_one(quantity, price, costs, volatility, volume):
    ours = charge([quantity], [price], costs, volatility, volume).iloc[0]
    paid = fill_cost(quantity, price, np.nan, 1.0, costs.impact * volatility / np.sqrt(volume), costs.rates)
    np.testing.assert_allclose(paid, ours[["price", "commission"]], rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("volume", [0.0, -1.0, np.nan])
def test_no_market_is_no_price(volume):
    costs = Costs(impact=1.0)
    assert charge([5.0], [10.0], costs, 0.02, volume).isna().all(axis=None)
    assert np.isnan(fill_cost(5.0, 10.0, np.nan, 1.0, np.nan, costs.rates)).all()
    assert fill_cost(0.0, 10.0, np.nan, 1.0, np.nan, costs.rates) == (10.0, 0.0)
    assert charge([5.0], [10.0], DEFAULT_COSTS, np.nan, volume)["price"].item() == pytest.approx(
        10.005
    )  # without impact nobody asks


def test_cost_curve_meets_its_closed_form_and_rises():
    "Total cost of an order of value x: x (h + s) + c x + Y sigma sqrt(shares / volume) x, to first order within 1 %."
    value, price, volatility, volume = np.geomspace(1e3, 1e8, 60), 50.0, 0.015, 4e6
    costs = Costs(commission_bps=2, slippage_bps=3, half_spread_bps=1, impact=0.9)
    for side in (1, -1):
        fills = charge(side * value / price, np.full(60, price), costs, volatility, volume)
        total = fills["commission"] + fills["slippage"]
        form = value * (6e-4 + 0.9 * volatility * np.sqrt(value / price / volume))
        assert np.allclose(total, form, rtol=0.01)
        assert (np.diff(total) > 0).all() and (
            np.diff(total / value) > 0
        ).all()  # a larger order costs more, and more per dollar
        assert np.allclose(np.diff(np.log(fills["slippage"] / value - 4e-4)) / np.diff(np.log(value)), 0.5)  # the root


def test_impact_rises_in_every_argument():
    assert square_root_impact(100.0, 0.02, 1e4, 2.0) == 2 * square_root_impact(100.0, 0.02, 1e4)
    assert square_root_impact(-100.0, 0.02, 1e4) == square_root_impact(100.0, 0.02, 1e4)
    assert (np.diff(square_root_impact(100.0, np.linspace(0, 0.1, 9), 1e4)) > 0).all()
    assert (np.diff(square_root_impact(100.0, 0.02, np.geomspace(1e2, 1e8, 9))) < 0).all()
    assert square_root_impact([], [], []).shape == (0,)


def test_smallest_fee_and_per_share():
    costs = Costs(0, 0, per_share=0.005, minimum=1.0)
    assert charge([1, 200, 201, 0, -1000], np.full(5, 10.0), costs)["commission"].tolist() == pytest.approx(
        [1, 1, 1.005, 0, 5]
    )
    assert not costs.proportional and DEFAULT_COSTS.proportional and Costs(half_spread_bps=3).proportional


def test_carry_by_hand():
    costs = Costs(borrow_bps=100, interest_bps=-50, funding_bps=-200)
    assert carry_cost(0.0, 100.0, 300.0, costs.rates, 2.0) == pytest.approx((2.0, 3.0, 4.0))
    long, short = np.array([1.0, 2.0]), np.array([0.0, 1.0])
    assert np.allclose(carry_cost(long, short, long, costs.rates, 1.0), [[0, 0.01], [0.005, 0.01], [-0.02, -0.02]])


@pytest.mark.parametrize("name", Costs.__dataclass_fields__)
def test_bad_costs_are_named(name):
    for value in (np.nan, np.inf):
        with pytest.raises(ConfigError, match=name):
            Costs(**{name: value})
    if name not in ("interest_bps", "funding_bps"):
        with pytest.raises(ConfigError, match=name):
            Costs(**{name: -1.0})
    assert getattr(Costs(**{name: 0.0}), name) == 0


def test_liquidity_is_known_at_its_date_and_counts_the_engines_shares():
    raw = sample_bars(["KO", "XOM", "GE"], start="2015-01-02", end="2016-12-30")
    assert audit(lambda past: liquidity(past)["volatility"], raw).status == "PASS"
    known, applied = liquidity(raw), liquidity(adjust(raw))
    assert known.index.equals(raw.index) and np.allclose(known["volatility"], applied["volatility"], equal_nan=True)
    day = ("2016-12-30", "KO")
    value = (raw["volume"] * raw["close"]).xs("KO", level="symbol").iloc[-20:].mean()
    assert known.loc[day, "volume"] * adjust(raw).loc[day, "close"] == pytest.approx(
        value, rel=0.03
    )  # dollars traded, at about today's price
    split = raw.assign(split=0.5, volume=raw["volume"] / 2)
    assert np.allclose(liquidity(split)["volume"], known["volume"], equal_nan=True)


def test_liquidity_of_little():
    raw = sample_bars(["KO", "XOM"], start="2015-01-02", end="2015-03-31")
    assert liquidity(raw.iloc[:0]).empty and liquidity(raw.iloc[:2]).isna().all(axis=None)
    assert liquidity(raw.assign(volume=np.nan))["volume"].isna().all()
    rows = liquidity(raw, 20)["volume"].xs("KO", level="symbol")
    assert rows.iloc[:9].isna().all() and rows.iloc[9:].notna().all()
    gone = raw.drop(index=[("2015-02-02", "KO")])
    assert pd.notna(liquidity(gone).loc[("2015-02-03", "KO")]).all()
