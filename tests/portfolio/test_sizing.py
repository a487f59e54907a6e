"""Sizing: by hand, for random books, and on input that means nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.types import MARKETS
from quantlab.portfolio.sizing import atr_weights, doubt_weights, risk_curve, risk_weight, target_volatility, to_units
from quantlab.portfolio.weights import vol_scale

DATES = pd.bdate_range("2020-01-01", periods=120, name="date").as_unit("us")
NAMES = ["A", "B", "C"]
INDEX = pd.MultiIndex.from_product([DATES, NAMES], names=["date", "symbol"])
RNG = np.random.default_rng(3)
BARS = pd.DataFrame({"close": 100 * np.exp(RNG.normal(0, 0.01, (120, 3)).cumsum(axis=0)).ravel()}, INDEX)
EQUAL = pd.DataFrame({"weight": 1 / 3}, INDEX)


def test_vol_scale_goes_up_only_as_far_as_it_may():
    past = RNG.normal(0, 0.01, (60, 1))
    own = past.std(ddof=1) * np.sqrt(252)
    one = np.array([1.0])
    assert vol_scale(one, past, own * 2, 252) == 1.0
    assert vol_scale(one, past, own * 2, 252, most=3.0) == pytest.approx(2)
    assert vol_scale(one, past, own * 9, 252, most=3.0) == 3.0


@pytest.mark.parametrize("most", [0.5, 1.0, 3.0])
def test_a_target_scales_both_ways_within_the_gross(most):
    got = target_volatility(EQUAL, BARS, 0.2, most, 40, 252)["weight"]
    gross = got.abs().groupby("date").sum()
    assert (gross <= most * (1 + 1e-12)).all()
    date = DATES[100]
    past = BARS["close"].unstack().pct_change().loc[:date].iloc[-40:].mean(axis=1)
    assert gross[date] == pytest.approx(min(most, 0.2 / (past.std(ddof=1) * np.sqrt(252))))
    assert gross[DATES[10]] == pytest.approx(min(most, 1)), "ten returns say nothing: as it is"
    short = target_volatility(-EQUAL, BARS, 0.2, most, 40, 252)["weight"]
    assert np.allclose(short, -got)


share = st.floats(-2, 2).map(lambda x: x if abs(x) > 1e-100 else 0.0)  # the square of a smaller one is zero
weights = arrays(float, (120, 3), elements=st.one_of(st.just(0.0), share))


@settings(max_examples=25)
@given(weights, st.floats(0.01, 1.0), st.floats(0.1, 4.0), st.permutations(range(3)), st.floats(0.1, 10))
def test_any_book_is_scaled_as_a_whole_within_its_gross(values, target, most, order, size):
    book = pd.DataFrame({"weight": values.ravel()}, INDEX).loc[DATES[-4:]]
    got = target_volatility(book, BARS, target, most, 60, 252)["weight"]
    assert np.isfinite(got).all() and (got * book["weight"] >= 0).all()
    assert (got.abs().groupby("date").sum() <= most * (1 + 1e-9)).all()
    ratio = (got / book["weight"]).where(book["weight"] != 0).groupby("date")
    assert (ratio.max() - ratio.min()).fillna(0).abs().max() <= 1e-9 * ratio.max().fillna(1).max(), "one factor a date"
    moves = BARS["close"].unstack().pct_change()
    for date, row in got.groupby("date"):
        volatility = (moves.loc[:date].iloc[-60:] @ row.droplevel("date")).std() * 252**0.5
        full = row.abs().sum() >= most * (1 - 1e-9)
        assert volatility <= target * (1 + 1e-9) and (full or volatility == pytest.approx(target) or not row.any())
    larger = target_volatility(book * size, BARS, target, most, 60, 252)["weight"]
    assert larger.to_numpy() == pytest.approx(got.to_numpy(), abs=1e-9), "the size it came with does not matter"
    names = dict(zip(NAMES, np.array(NAMES)[list(order)], strict=True))
    renamed = [panel.rename(index=names, level="symbol").sort_index() for panel in (book, BARS)]
    other = target_volatility(*renamed, target, most, 60, 252)["weight"]
    assert other.reindex(got.rename(index=names, level="symbol").index).to_numpy() == pytest.approx(got.to_numpy())


@settings(max_examples=40)
@given(
    weights, arrays(float, (120, 3), elements=st.one_of(st.just(np.nan), st.floats(0, 0.2))),
    st.floats(0, 0.05), st.floats(0.01, 1), st.floats(0.05, 2),
)  # fmt: skip
def test_any_book_sized_by_range_keeps_cap_gross_and_loss(values, spread, risk, cap, most):
    book, ranges = pd.DataFrame({"weight": values.ravel()}, INDEX), pd.Series(spread.ravel(), INDEX)
    got = atr_weights(book, ranges, risk, 2.0, cap, most)["weight"]
    assert np.isfinite(got).all() and (got.abs() <= cap * (1 + 1e-9)).all()
    assert (got.abs().groupby("date").sum() <= most * (1 + 1e-9)).all()
    assert (got * book["weight"] >= 0).all() and (got[ranges.isna() | (book["weight"] == 0)] == 0).all()
    assert ((got.abs() * 2 * ranges).fillna(0) <= risk * (1 + 1e-9)).all(), "no stop loses more than was risked"


def test_a_target_reads_the_past_only():
    panel = BARS.join(EQUAL)
    verdict = audit(lambda p: target_volatility(p[["weight"]], p[["close"]], 0.1, 2.0, 20, 252), panel)
    assert verdict.status == "PASS"


def test_risk_weight_by_hand():
    assert risk_weight(0.005, 0.03) == pytest.approx(1 / 6)
    assert risk_weight(0.02, 0.01) == 0.25 and risk_weight(0.02, 0.01, 3.0) == 2.0
    assert risk_weight(np.array([0.01, 0.0]), np.array([np.nan, 0.1])).tolist() == [0, 0]
    assert risk_weight(0.01, 0.0) == 0 and risk_weight(0.01, np.inf) == 0 and risk_weight(np.nan, 0.1) == 0
    for risk, cap in ((-0.01, 0.25), (0.01, 0.0), (0.01, np.nan)):
        with pytest.raises(ConfigError, match="risk"):
            risk_weight(risk, 0.1, cap)


def test_each_side_loses_the_same_on_a_bad_day():
    ranges = pd.Series(np.tile([0.01, 0.02, np.nan], 120), INDEX)
    book = EQUAL.assign(weight=np.tile([0.5, -0.1, 0.4], 120))
    got = atr_weights(book, ranges, risk=0.005)["weight"].loc[DATES[0]]
    assert got.tolist() == pytest.approx([0.25, -0.125, 0])
    assert atr_weights(book, ranges, risk=0.1, max_weight=9.0)["weight"].abs().groupby("date").sum().max() <= 1 + 1e-12
    with pytest.raises(ConfigError, match="multiple"):
        atr_weights(book, ranges, multiple=0.0)


@settings(max_examples=60)
@given(st.floats(0, 0.02), st.floats(0.02, 0.1), st.floats(0.01, 100), st.floats(0, 1))
def test_the_curve_meets_its_ends_and_never_falls(low, high, steepness, middle):
    risk = risk_curve(np.linspace(0, 1, 50), low, high, steepness, middle)
    assert risk[0] == pytest.approx(low) and risk[-1] == pytest.approx(high)
    assert (np.diff(risk) >= -1e-15).all()


def test_the_curve_by_hand_and_refusals():
    assert risk_curve(0.5) == pytest.approx(0.015) and risk_curve(0.25) < 0.5 * (0.005 + 0.015)
    assert risk_curve(np.array([np.nan]))[0] == 0 and risk_curve(np.array([])).shape == (0,)
    for wrong in (-0.1, 1.1, np.inf):
        with pytest.raises(DataError, match="outside"):
            risk_curve(wrong)
    for settings_ in ({"low": 0.03}, {"steepness": 0.0}, {"middle": 2.0}, {"high": np.nan}):
        with pytest.raises(ConfigError, match="S|risk"):
            risk_curve(0.5, **settings_)


def test_doubt_only_makes_smaller():
    opinions = pd.DataFrame({"score": 0.0, "doubt": RNG.uniform(0.5, 2, len(INDEX))}, INDEX)
    got = doubt_weights(EQUAL, opinions, floor=0.4)["weight"]
    assert (got <= 1 / 3).all() and (got >= 0.4 / 3 - 1e-12).all()
    last = opinions["doubt"].loc[DATES[-1]]
    assert got.loc[DATES[-1]].idxmax() == last.idxmin()
    assert doubt_weights(EQUAL, opinions.iloc[:0], floor=0.4)["weight"].eq(0.4 / 3).all()


@settings(max_examples=150)
@given(
    arrays(float, 4, elements=st.floats(-2, 2)), arrays(float, 4, elements=st.floats(0.01, 5000)),
    st.floats(100, 1e7), st.sampled_from([*MARKETS, None]), st.sampled_from([None, 0.0, 0.1, 1.0, 100.0]),
)  # fmt: skip
def test_rounding_never_exceeds_what_was_asked(weights, prices, equity, market, lot):
    names = list("ABCD")
    mixed = dict(zip(names, [*MARKETS][:4], strict=True))
    got = to_units(pd.Series(weights, names), pd.Series(prices, names), equity, market or mixed, lot)
    assert (got["weight"].abs() <= np.abs(weights) * (1 + 1e-9) + 1e-15).all()
    assert (got["weight"] * weights >= 0).all() and np.allclose(got["weight"] + got["left"], weights)
    spec = [MARKETS[market or mixed[n]] for n in names]
    steps = np.array([s.lot if lot is None else lot for s in spec])
    worth = prices * np.array([s.multiplier for s in spec])
    assert np.allclose(got["value"], got["units"] * worth)
    assert (got["left"].abs() * equity <= worth * steps * (1 + 1e-6) + 1e-6).all(), "less than one lot is left"
    whole = got["units"][steps > 0] / steps[steps > 0]
    assert np.allclose(whole, whole.round(), atol=1e-6)


def test_units_by_hand():
    es = pd.Series({"ES": 3000.0})
    for share, equity, contracts in ((0.1, 1e5, 0), (2.0, 1e6, 13), (-2.0, 1e6, -13), (1.5, 1e5, 1)):
        assert to_units(pd.Series({"ES": share}), es, equity, "us_index_future")["units"].item() == contracts
    assert to_units(pd.Series({"M": 0.5}), pd.Series({"M": 30.0}), 1e5, "cn_equity")["units"].item() == 1600
    assert to_units(pd.Series({"X": 0.3}), pd.Series({"X": 1.0}), 10.0, lot=0.1)["units"].item() == pytest.approx(3.0)
    assert to_units(pd.Series(dtype=float), pd.Series(dtype=float), 1e5).empty
    assert to_units(pd.Series({"A": 0.0}), pd.Series(dtype=float), 1e5)["units"].item() == 0


def test_units_that_cannot_be_counted_are_refused():
    half, price = pd.Series({"A": 0.5}), pd.Series({"A": 10.0})
    for prices in (price * np.nan, price * 0, -price, price * np.inf, pd.Series({"B": 1.0})):
        with pytest.raises(DataError, match="first A"):
            to_units(half, prices, 1e5)
    for equity, lot in ((0.0, None), (np.nan, None), (1e5, -1.0), (1e5, np.inf)):
        with pytest.raises(DataError, match="equity"):
            to_units(half, price, equity, lot=lot)
    with pytest.raises(DataError, match="twice"):
        to_units(pd.concat([half, half]), price, 1e5)
    with pytest.raises(ConfigError, match="for A"):
        to_units(half, price, 1e5, {"B": "fx"})
    with pytest.raises(ConfigError, match="no market"):
        to_units(half, price, 1e5, "moon")


def test_targets_that_mean_nothing_are_refused():
    for wrong in ({"target": 0.0}, {"target": np.inf}, {"max_gross": 0.0}, {"lookback": 19}):
        with pytest.raises(ConfigError, match="target"):
            target_volatility(EQUAL, BARS, **wrong)
    for wrong in (np.nan, np.inf):
        with pytest.raises(DataError, match="not finite"):
            target_volatility(EQUAL.assign(weight=wrong), BARS)
    with pytest.raises(PanelError, match="first C"):
        target_volatility(EQUAL, BARS.drop("C", level="symbol"))
    aware = BARS.set_axis(BARS.index.set_levels(BARS.index.levels[0].tz_localize("UTC"), level="date"))
    with pytest.raises(PanelError, match="zone"):
        target_volatility(EQUAL, aware)
    flat = target_volatility(EQUAL, BARS.assign(close=100.0), max_gross=2.0, per_year=252)
    assert np.allclose(flat, EQUAL), "prices that stand still say nothing of risk"
