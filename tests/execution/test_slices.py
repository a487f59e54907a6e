"Slices: whole steps that add up, caps that hold, schedules that look back only, and the closed form of 2000."

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.execution.intent import ExecutionError, FrozenDecision, intents_for
from quantlab.execution.slices import (
    PriceImpact,
    almgren_chriss_curve,
    child_orders,
    cut,
    minute_orders,
    pov_slices,
    schedule_cost,
    simulated_costs,
    twap_curve,
    urgency,
    volume_curve,
)

SMALL = settings(max_examples=80, deadline=None, derandomize=True)
STEPS = st.sampled_from(["1", "100", "0.001", "0.5"])
CURVES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=30).filter(lambda c: 0 < sum(c) < np.inf)


@SMALL
@given(st.integers(-(10**9), 10**9), STEPS, CURVES)
def test_the_sum_is_the_parent_in_whole_steps(count, step, curve):
    parent, unit = count * Decimal(step), Decimal(step)
    slices = cut(parent, curve, step)
    assert sum(slices, Decimal(0)) == parent and len(slices) == len(curve)
    assert all(q % unit == 0 and q * parent >= 0 for q in slices)
    done = np.cumsum([float(q / unit) for q in slices])
    assert np.allclose(done, count * np.cumsum(curve) / sum(curve), atol=0.51, rtol=1e-9)


@SMALL
@given(st.integers(0, 200), CURVES, st.data())
def test_caps_hold_or_the_order_is_refused(count, curve, data):
    caps = data.draw(st.lists(st.floats(0, 40), min_size=len(curve), max_size=len(curve)))
    room = [int(cap) for cap in caps]
    if sum(room) < count:
        with pytest.raises(ExecutionError, match="under their caps"):
            cut(count, curve, caps=caps)
        return
    slices = cut(count, curve, caps=caps)
    assert sum(slices) == count and all(0 <= q <= cap for q, cap in zip(slices, room, strict=True))
    assert cut(-count, curve, caps=caps) == [-q for q in slices]
    assert cut(count, curve, caps=[np.inf] * len(curve)) == cut(count, curve)


@SMALL
@given(st.integers(1, 500), st.lists(st.floats(0, 300), min_size=2, max_size=20), st.floats(0.01, 1.0), st.data())
def test_pov_looks_back_only_and_never_takes_more_than_its_rate(count, volume, rate, data):
    slices = pov_slices(count, volume, rate, finish=False)
    seen = np.concatenate([[0], np.cumsum(volume)[:-1]])
    assert (np.cumsum([float(q) for q in slices]) <= rate * seen + 1e-6).all() and sum(slices) <= count
    at = data.draw(st.integers(0, len(volume) - 1))
    other = [*volume[:at], *(v * 7 + 1 for v in volume[at:])]
    assert pov_slices(count, other, rate, finish=False)[: at + 1] == slices[: at + 1]
    assert sum(pov_slices(count, volume, rate)) == count == -sum(pov_slices(-count, volume, rate))


def test_pov_of_a_volume_that_is_not_known_waits():
    assert pov_slices(5, [10, np.nan, 10, 10], 0.2, finish=False) == [0, 2, 0, 2]


@pytest.mark.parametrize("wrong", [[], [0, 0], [1, -1], [1, np.nan], [np.inf], [[1, 1]]])
def test_what_is_no_curve_is_refused(wrong):
    with pytest.raises(ExecutionError, match="the curve"):
        cut(10, wrong)


@pytest.mark.parametrize("quantity, step", [("1.5", "1"), ("5", "0"), ("5", "-1"), ("NaN", "1"), ("5", "2")])
def test_what_is_no_whole_order_is_refused(quantity, step):
    with pytest.raises(ExecutionError):
        cut(quantity, [1], step)


PAPER = PriceImpact(0.95, 2.5e-7, 2.5e-6, 0.0625)  # the example of section 3.4


def paper_trajectory(n, impact, aversion, tau):
    "Return what is left after each interval, by equation 17."
    kappa = np.arccosh(
        tau**2 * aversion * impact.volatility**2 / (impact.temporary - impact.permanent * tau / 2) / 2 + 1
    )
    kappa /= tau
    return np.sinh(kappa * (n - np.arange(n + 1)) * tau) / np.sinh(kappa * n * tau)


@pytest.mark.parametrize("aversion", [1e-8, 1e-7, 1e-6, 5e-6])
@pytest.mark.parametrize("n, tau", [(5, 1.0), (50, 0.1), (1, 1.0), (7, 0.3)])
def test_the_trajectory_is_the_papers(n, tau, aversion):
    curve = almgren_chriss_curve(n, PAPER, aversion, tau)
    assert np.allclose(curve, -np.diff(paper_trajectory(n, PAPER, aversion, tau)), rtol=1e-8, atol=1e-12)
    assert np.isclose(curve.sum(), 1) and (np.diff(curve) <= 1e-15).all(), "sells more at the beginning"


def test_the_papers_example():
    assert round(urgency(PAPER, 1e-6, 1.0), 2) == 0.61
    all_at_once = schedule_cost([1e6, 0, 0, 0, 0], PAPER)
    equal = schedule_cost([2e5] * 5, PAPER)
    assert all_at_once.deviation == 0 and np.isclose(equal.deviation, 0.95 * 1e6 * np.sqrt(30) / 5)
    assert np.isclose(equal.expected, 0.5 * 2.5e-7 * 1e12 + 0.0625e6 + (2.5e-6 - 1.25e-7) * 1e12 / 5)


@pytest.mark.parametrize("aversion", [0, 1e-30, 1e-16])
def test_who_fears_nothing_trades_in_equal_parts(aversion):
    assert np.allclose(almgren_chriss_curve(20, PAPER, aversion), twap_curve(20), rtol=1e-6)
    assert cut("1000000", almgren_chriss_curve(20, PAPER, aversion)) == cut("1000000", twap_curve(20))


def test_who_fears_everything_trades_at_once():
    assert almgren_chriss_curve(10_000, PAPER, 1e9)[0] > 1 - 1e-12


@pytest.mark.parametrize("aversion", [0, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("sign", [1, -1])
def test_simulated_costs_are_those_of_the_closed_form(aversion, sign):
    plan = cut(sign * 1_000_000, almgren_chriss_curve(20, PAPER, aversion, 0.25))
    costs, closed = simulated_costs(plan, PAPER, 0.25, 20_000, seed=3), schedule_cost(plan, PAPER, 0.25)
    assert abs(costs.mean() / closed.expected - 1) < 0.05 and abs(costs.std() / closed.deviation - 1) < 0.05


def test_no_schedule_near_it_is_better():
    rng, curve = np.random.default_rng(5), almgren_chriss_curve(12, PAPER, 1e-6)
    worth = lambda shares: (lambda c: c.expected + 1e-6 * c.deviation**2)(schedule_cost(1e6 * shares, PAPER))
    for _ in range(200):
        other = np.clip(curve + rng.normal(0, 0.01, 12), 0, None)
        assert worth(other / other.sum()) >= worth(curve) * (1 - 1e-12)


DECISION = FrozenDecision("s", "2024-01-02", "0" * 64, {"A": Decimal(20_000)}, {"A": Decimal(10)})


def test_children_are_named_once_and_at_most_9999():
    parent = intents_for(DECISION, {})[0]
    times = pd.date_range("2024-01-03T14:30:00Z", periods=10_001, freq="1s").map(lambda t: t.isoformat()).tolist()
    slices = cut(20_000, twap_curve(9_999))
    children = child_orders(parent, DECISION, slices, times[:10_000])
    assert len({one.intent.id for one in children} | {parent.id}) == 10_000
    assert children[-1].intent.id.endswith("9999") and sum(one.intent.quantity for one in children) == 20_000
    assert children == child_orders(parent, DECISION, slices, times[:10_000]), "worked out again, named the same"
    with pytest.raises(ExecutionError, match="at most 9999"):
        child_orders(parent, DECISION, cut(20_000, twap_curve(10_000)), times)
    with pytest.raises(ExecutionError, match="does not follow"):
        child_orders(parent._replace(id="f" * 32), DECISION, slices, times[:10_000])


def test_moments_of_other_zones_are_written_in_utc():
    parent = intents_for(DECISION, {})[0]
    times = ["2024-01-03T09:30:00-05:00", "2024-01-03T15:30:00+00:00", "2024-01-04T01:30:00+09:00"]
    one, two = child_orders(parent, DECISION, cut(20_000, [1, 1]), times)
    assert one.at == "2024-01-03T14:30:00.000000+00:00" and one.intent.deadline == two.at < two.intent.deadline
    with pytest.raises(ExecutionError, match="each after"):
        child_orders(parent, DECISION, cut(20_000, [1, 1]), times[::-1])


def minute_bars(seed=0, sessions=3, slots=10):
    days = pd.bdate_range("2024-01-02", periods=sessions)
    stamps = [d.tz_localize("UTC") + pd.Timedelta(hours=14, minutes=31 + m) for d in days for m in range(slots)]
    index = pd.MultiIndex.from_product([stamps, ["A", "B"]], names=["date", "symbol"])
    rng = np.random.default_rng(seed)
    return pd.DataFrame({c: rng.uniform(9, 11, len(index)) for c in ("open", "high", "low", "close")}, index).assign(
        volume=rng.uniform(10, 1000, len(index))
    )


def test_minutes_of_a_session_do_not_know_its_volume():
    bars = minute_bars()
    asked = pd.DataFrame({"date": [pd.Timestamp("2024-01-03")], "symbol": ["A"], "size": [1000]})
    rows = minute_orders(asked, bars, volume_curve)
    changed = bars.copy()
    changed.loc[changed.index.get_level_values("date") >= pd.Timestamp("2024-01-04", tz="UTC"), "volume"] *= 3
    pd.testing.assert_frame_equal(rows, minute_orders(asked, changed, volume_curve))
    first = bars.index.get_level_values("date").unique()[19]
    assert rows["size"].sum() == 1000 and rows["date"].iloc[0] == first, "the first is decided before the session"
    assert rows["date"].max() == bars.index.get_level_values("date").unique()[28]


def test_a_first_session_has_no_bar_before_it():
    asked = pd.DataFrame({"date": ["2024-01-01"], "symbol": ["B"], "size": [-10.0]})
    rows = minute_orders(asked, minute_bars(), lambda past: twap_curve(10))
    assert rows["size"].tolist() == [-1.0] * 10 and rows["date"].is_monotonic_increasing
