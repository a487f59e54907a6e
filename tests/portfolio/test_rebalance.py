"""Rebalancing: schedules against calendars, bands by hand, and what holds for random books."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.calendar import exchange_sessions
from quantlab.portfolio.rebalance import (
    SCHEDULES,
    Rebalance,
    band_trades,
    drifted,
    follow,
    no_trade_width,
    scheduled,
)

SESSIONS = exchange_sessions("XNYS", "2012-09-01", "2013-03-31")
share = st.floats(-1, 1, allow_nan=False, width=32)
books = arrays(float, 6, elements=share)


@pytest.mark.parametrize("word", SCHEDULES[1:])
def test_each_period_decides_once_on_its_edge(word):
    chosen = SESSIONS[scheduled(SESSIONS, word)]
    base, _, end = word.partition("_")
    code = {"week": "W", "month": "M", "quarter": "Q"}[base]
    periods = SESSIONS.to_series().groupby(SESSIONS.to_period(code))
    edges = pd.DatetimeIndex(periods.last() if end else periods.first())
    assert chosen.equals(edges) or set(edges) - set(chosen) <= {SESSIONS[0], SESSIONS[-1]}


def test_hurricane_sandy_closed_two_days():
    "29 and 30 October 2012 had no session: the week of it began on Wednesday."
    week = SESSIONS[scheduled(SESSIONS, "week")]
    assert pd.Timestamp("2012-10-31") in week and pd.Timestamp("2012-10-29") not in week


@pytest.mark.parametrize("every", [*SCHEDULES, 1, 7])
def test_a_schedule_does_not_move_when_later_sessions_are_cut(every):
    whole = scheduled(SESSIONS, every)
    for n in (0, 1, 20, 21, 22, 63):
        assert (scheduled(SESSIONS[:n], every) == whole[:n]).all()


def test_schedules_that_mean_nothing_are_refused():
    for wrong in ("monthly", 0, -2, 1.5, True, None):
        with pytest.raises(ConfigError, match="rebalance is"):
            scheduled(SESSIONS, wrong)
    with pytest.raises(ConfigError, match="no calendar"):
        scheduled(SESSIONS, "month", "NOWHERE")
    with pytest.raises(PanelError, match="without a zone"):
        scheduled(SESSIONS.tz_localize("UTC"), "month")
    with pytest.raises(PanelError, match="sorted"):
        scheduled(SESSIONS[::-1], "month")


def test_drift_by_hand():
    assert drifted(np.array([0.5, 0.5]), np.array([0.1, -0.1])) == pytest.approx([0.55, 0.45])
    assert drifted(np.array([0.5, -0.5]), np.array([0.2, 0.2])) == pytest.approx([0.6, -0.6])
    assert drifted(np.array([0.5]), np.array([np.nan])).tolist() == [0.5]
    assert drifted(np.array([0.5]), np.array([1.0])) == pytest.approx([1 / 1.5])
    assert drifted(np.array([]), np.array([])).shape == (0,)
    with pytest.raises(DataError, match="lost 100% of its equity"):
        drifted(np.array([1.0]), np.array([-1.0]))


def test_bands_by_hand():
    held, goal = np.array([0.40, 0.32, 0.28]), np.array([0.34, 0.33, 0.33])
    assert band_trades(held, goal, absolute=0.055) == pytest.approx([0.34, 0.32, 0.28])
    assert band_trades(held, goal, absolute=0.055, to="edge") == pytest.approx([0.395, 0.32, 0.28])
    assert band_trades(held, goal, relative=0.1, to="edge") == pytest.approx([0.374, 0.32, 0.297])
    assert band_trades(held, goal, absolute=0.06, relative=0.16) == pytest.approx([0.34, 0.32, 0.28])
    assert band_trades(held, goal, book=0.061) == pytest.approx(held), "the book is within its band"
    assert band_trades(held, goal, book=0.059) == pytest.approx(goal)
    assert band_trades(held, goal) == pytest.approx(goal)
    assert band_trades(np.array([0.01, 0.9]), np.array([0.0, 0.9]), absolute=0.5) == pytest.approx([0, 0.9])
    assert band_trades(np.array([-0.4]), np.array([-0.3]), absolute=0.05, to="edge") == pytest.approx([-0.35])


@settings(max_examples=200)
@given(books, books, st.floats(0, 0.5), st.floats(0, 1), st.sampled_from(["target", "edge"]), st.floats(0, 0.2))
def test_a_trade_ends_between_what_is_held_and_what_is_wanted(held, goal, absolute, relative, to, small):
    rule = Rebalance(absolute=absolute, relative=relative, to=to, min_trade=small)
    after = rule.trade(held, goal)
    low, high = np.minimum(held, goal), np.maximum(held, goal)
    assert ((after >= low - 1e-12) & (after <= high + 1e-12)).all(), "no trade goes past the target or away from it"
    assert np.abs(after).sum() <= max(np.abs(held).sum(), np.abs(goal).sum()) + 1e-9
    inside = (np.abs(held - goal) <= np.minimum(absolute, relative * np.abs(goal))) & (goal != 0)
    assert np.allclose(after[inside], held[inside]), "within the band nothing is traded"
    assert (after[goal == 0] == 0).all(), "what is not wanted is sold"
    assert np.allclose(rule.trade(goal, goal), goal)
    size = np.abs(after - held)
    assert ((size < 1e-9) | (size >= small - 1e-9) | (after == 0)).all(), "a trade that money cut short is made small"


def test_a_purchase_that_money_cut_short_is_not_made():
    held, goal = np.array([-0.65, 0.0, 0.0, -0.75]), np.array([-0.525, 0.43, 0.0, -0.96])
    after = Rebalance(min_trade=0.18).trade(held, goal)
    assert after[3] == -0.75 and after[0] == -0.65, "0.17 is left for it, and 0.17 is small"
    assert after[1] > 0.3 and np.abs(after).sum() <= np.abs(goal).sum()
    turned = Rebalance(min_trade=0.12).trade(np.array([-0.05, 0.5]), np.array([0.10, 0.45]))
    assert turned.tolist() == [0.0, 0.5], "money for 0.05 is left: too small to turn round, but the short is closed"


@settings(max_examples=60)
@given(books, books, st.permutations(range(6)))
def test_names_may_be_shuffled(held, goal, order):
    rule, order = Rebalance(cost=0.002, to="edge", min_trade=0.01), list(order)
    goal = goal / 2
    assert rule.trade(held[order], goal[order]) == pytest.approx(rule.trade(held, goal)[order], abs=1e-12)


def test_the_no_trade_zone_by_its_formula():
    assert no_trade_width(np.array([0.5]), 0.001, 3.0) == pytest.approx([(0.0005 / 16) ** (1 / 3)])
    assert no_trade_width(np.array([0.2]), 0.008) == pytest.approx(2 * no_trade_width(np.array([0.2]), 0.001))
    assert no_trade_width(np.array([0.0, 1.0]), 0.01).tolist() == [0, 0] and no_trade_width(np.array([0.3]), 0.0) == 0
    for cost, aversion in ((-0.1, 3.0), (np.nan, 3.0), (0.01, 0.0), (0.01, np.nan)):
        with pytest.raises(ConfigError, match="cost"):
            no_trade_width(np.array([0.5]), cost, aversion)


def world(days: int = 90, seed: int = 0, names: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Equal targets on every session, and bars."
    rng = np.random.default_rng(seed)
    symbols = [f"S{i}" for i in range(names)]
    index = pd.MultiIndex.from_product([SESSIONS[:days].rename("date"), symbols], names=["date", "symbol"])
    close = 100 * np.exp(rng.normal(0, 0.02, (days, names)).cumsum(axis=0))
    return pd.DataFrame({"weight": 1 / names}, index), pd.DataFrame({"close": close.ravel()}, index)


@pytest.mark.parametrize(
    "rule",
    [Rebalance(), Rebalance("month_end"), Rebalance(5), Rebalance(relative=0.05), Rebalance(cost=0.001, to="edge")],
)
def test_a_followed_book_is_causal_and_stays_within_its_rule(rule):
    targets, bars = world()
    panel = targets.join(bars)
    assert audit(lambda p: follow(p[["weight"]], p[["close"]], rule), panel).status == "PASS"
    weights = follow(targets, bars, rule)["weight"]
    assert (weights.groupby("date").sum() <= 1 + 1e-9).all() and (weights >= 0).all()
    on = scheduled(SESSIONS[:90], rule.rebalance)
    assert set(weights.index.unique("date")) <= set(SESSIONS[:90][on])


def test_follow_by_hand():
    "One name doubles over night; a month later the book is looked at again."
    dates = pd.DatetimeIndex(["2012-10-31", "2012-11-01", "2012-11-30"])
    index = pd.MultiIndex.from_product([dates, ["A", "B"]], names=["date", "symbol"])
    bars = pd.DataFrame({"close": [10.0, 10.0, 20.0, 10.0, 20.0, 10.0]}, index)
    targets = pd.DataFrame({"weight": [0.5, 0.5, 0.4, 0.4, 0.4, 0.0]}, index)
    got = follow(targets, bars, Rebalance("month_end"))["weight"].unstack()
    assert list(got.index) == [dates[0], dates[2]]
    assert got.iloc[0].tolist() == [0.5, 0.5] and got.iloc[1].tolist() == [0.4, 0.0]
    banded = follow(targets.iloc[:2], bars, Rebalance(absolute=0.2))["weight"].unstack()
    assert list(banded.index) == [dates[0]], "2/3 and 1/3 are within 0.2 of a half"
    tight = follow(targets.iloc[:2], bars, Rebalance(absolute=0.1))["weight"].unstack()
    assert tight.loc[dates[1]].tolist() == [0.5, 0.5]


def test_degenerate_input_has_one_clear_error():
    targets, bars = world(5)
    with pytest.raises(PanelError, match="5 target dates"):
        follow(targets, bars.iloc[:0].reindex(bars.index[:3]).assign(close=1.0).iloc[:0], Rebalance())
    with pytest.raises(PanelError, match="1 names"):
        follow(targets, bars.drop("S1", level="symbol"), Rebalance())
    with pytest.raises(DataError, match="not finite"):
        follow(targets.assign(weight=np.inf), bars, Rebalance())
    aware = bars.set_axis(bars.index.set_levels(bars.index.levels[0].tz_localize("UTC"), level="date"))
    with pytest.raises(PanelError, match="zone"):
        follow(targets, aware, Rebalance())
    hours = targets.set_axis(aware.index)
    assert len(follow(hours, aware, Rebalance(2)).index.unique("date")) == 3
    with pytest.raises(ConfigError, match="within a session"):
        follow(hours, aware, Rebalance("month"))
    assert follow(targets * 0, bars, Rebalance()).empty
    one = follow(targets.iloc[:1], bars, Rebalance())
    assert one["weight"].iloc[0] == pytest.approx(1 / 3)
    for wrong in (
        {"cost": 0.1, "relative": 0.1},
        {"min_trade": -0.1},
        {"to": "x"},
        {"absolute": -1.0},
        {"book": np.nan},
    ):
        with pytest.raises(ConfigError):
            Rebalance(**wrong)
    for wrong in (
        {"absolute": "wide"}, {"min_trade": "a"}, {"min_trade": None}, {"min_trade": np.nan}, {"min_trade": 1.0},
        {"risk_aversion": 0.0}, {"risk_aversion": np.nan}, {"relative": True}, {"cost": -0.1},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"Rebalance: {next(iter(wrong))}|min_trade"):
            Rebalance(**wrong)
    with pytest.raises(DataError, match="wanted weight is not finite"):
        follow(targets.assign(weight=np.nan), bars, Rebalance())
    for held, goal in ((np.array([0.5]), np.array([0.5, 0.5])), (np.array([np.nan]), np.array([0.5]))):
        with pytest.raises(DataError, match="missing or not finite"):
            band_trades(held, goal, absolute=0.1)
        with pytest.raises(DataError, match="1 weights"):
            drifted(held, goal if len(goal) == 2 else np.array([0.1]))
