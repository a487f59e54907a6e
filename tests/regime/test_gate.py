"""Gates by hand: the exposures, the dates that are refused, what holds still, times a leg, scales risk, grows old."""

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, LeakError, PanelError
from quantlab.regime.base import Filtered, Smoothed
from quantlab.regime.gate import (
    EXPOSURE,
    gate,
    held_states,
    hindsight_share,
    short_leg_timing,
    stale,
    volatility_managed,
)

DATES = pd.bdate_range("2020-01-06", periods=4).as_unit("us")
STATES = pd.DataFrame(
    {"calm": [0.5, 1.0, 0.0, 0.25], "normal": [0.25, 0.0, 0.0, 0.25], "turbulent": [0.25, 0.0, 1.0, 0.5]}, index=DATES
)


def test_default_exposures_by_hand():
    by_volatility = {"calm": 1.0, "normal": 1.0, "turbulent": 0.3, "crisis": 0.0}
    assert EXPOSURE == by_volatility | {"trending": 1.0, "mean_reverting": 1.0, "choppy": 0.3}
    got = gate(Filtered(STATES))
    assert got["gate"].tolist() == pytest.approx([0.825, 1.0, 0.3, 0.65]) and got.index.equals(DATES)


def test_each_state_meets_its_own_exposure():
    got = gate(Filtered(STATES), {"turbulent": 0.0, "normal": 0.4, "calm": 1.0})["gate"]
    assert got.tolist() == pytest.approx([0.6, 1.0, 0.0, 0.35])


def test_a_rounding_error_does_not_leave_the_unit_interval():
    over = STATES.iloc[:2].copy()
    over.iloc[0], over.iloc[1] = [1 + 9e-7, 0.0, 0.0], [0.0, 0.0, 1.0]
    got = gate(Filtered(over), {"calm": 1.0, "normal": 1.0, "turbulent": 0.0})["gate"]
    assert got.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_an_exposure_outside_the_unit_interval_is_leverage(value):
    with pytest.raises(ConfigError, match=r"leaves \[0, 1\]"):
        gate(Filtered(STATES), {"calm": 1.0, "normal": 1.0, "turbulent": value})
    for edge in (0.0, 1.0):
        assert len(gate(Filtered(STATES), {"calm": edge, "normal": edge, "turbulent": edge})) == 4


def test_dates_in_the_sample_of_the_fit_are_counted_and_named():
    trained = pd.Series(DATES[2], index=DATES)
    early = Filtered(STATES, trained)
    assert early.in_sample().tolist() == [
        True,
        True,
        False,
        False,
    ]  # the day of the last fitted row is known at its close
    with pytest.raises(LeakError, match="2 dates from 2020-01-06 use parameters fitted up to 2020-01-08"):
        gate(early)
    kept = early.out_of_sample()
    assert (
        kept.probabilities.index.equals(DATES[2:]) and kept.trained_to.index.equals(DATES[2:]) and len(gate(kept)) == 2
    )
    assert len(gate(early, allow_in_sample=True)) == 4
    assert Filtered(STATES).out_of_sample().trained_to is None and not Filtered(STATES).in_sample().any()


def test_probabilities_must_be_probabilities():
    for change in (2e-6, -2e-6):
        with pytest.raises(DataError, match="sum to 1"):
            Filtered(STATES.assign(calm=STATES["calm"] + change))
    Filtered(STATES.assign(calm=STATES["calm"] + 5e-7))
    with pytest.raises(DataError, match=">= 0"):
        Filtered(pd.DataFrame({"calm": [1.5], "turbulent": [-0.5]}, index=DATES[:1]))
    assert gate(Filtered(STATES.iloc[:0])).empty
    with pytest.raises(LeakError):
        Filtered(Smoothed(STATES).probabilities)


def test_hindsight_share_by_hand():
    known, later = (
        STATES[["calm", "turbulent"]].iloc[1:3],
        pd.DataFrame({"turbulent": [0.2, 0.4], "calm": [0.8, 0.6]}, index=DATES[1:3]),
    )
    assert hindsight_share(Filtered(known), Smoothed(later)) == pytest.approx((0.2 + 0.6) / 2)
    assert hindsight_share(Filtered(known), Smoothed(later.iloc[1:])) == pytest.approx(0.6)  # the common date only
    assert np.isnan(hindsight_share(Filtered(known), Smoothed(later.set_axis(DATES[[0, 3]]))))
    with pytest.raises(PanelError, match="states differ"):
        hindsight_share(Filtered(known), Smoothed(later.rename(columns={"turbulent": "wild"})))
    for pair in (
        (Filtered(known), Filtered(known)),
        (Smoothed(later), Smoothed(later)),
        (Smoothed(later), Filtered(known)),
    ):
        with pytest.raises(PanelError, match="mind the order"):
            hindsight_share(*pair)


def test_no_dates_give_no_gate_and_one_date_gives_one():
    empty = Filtered(STATES[:0])
    assert len(gate(empty)) == 0 and np.isnan(hindsight_share(empty, Smoothed(STATES)))
    assert len(gate(Filtered(STATES[:1]))) == 1


@pytest.mark.parametrize("calm", [2.0, np.nan])
def test_an_exposure_outside_the_unit_interval_is_refused(calm):
    with pytest.raises((ConfigError, DataError)):
        gate(Filtered(STATES), {"calm": calm, "normal": 1, "turbulent": 0})


def test_a_frame_without_its_type_and_states_of_other_names_are_refused():
    with pytest.raises((LeakError, PanelError, ConfigError)):
        gate(STATES)
    with pytest.raises((LeakError, PanelError, ConfigError)):
        hindsight_share(Filtered(STATES), Filtered(STATES))
    with pytest.raises((LeakError, PanelError, ConfigError)):
        hindsight_share(Filtered(STATES), Smoothed(STATES.rename(columns={"calm": "x"})))


def test_weathers_have_their_default_and_strange_states_have_none():
    weather = STATES.set_axis(["trending", "mean_reverting", "choppy"], axis=1)
    assert gate(Filtered(weather))["gate"].tolist() == pytest.approx([0.825, 1.0, 0.3, 0.65])  # choppy loses 70 %
    with pytest.raises(ConfigError, match=r"\['odd'\] have no default exposure"):
        gate(Filtered(STATES.rename(columns={"normal": "odd"})))


def turbulent(*p: float) -> Filtered:
    "Two states, the second with these probabilities."
    days = pd.bdate_range("2020-01-06", periods=len(p)).as_unit("us")
    return Filtered(pd.DataFrame({"calm": 1 - np.array(p), "turbulent": p}, days), pd.Series(days[0], days))


def held(states: Filtered, *settings: float) -> list[int]:
    return held_states(states, *settings).probabilities["turbulent"].astype(int).tolist()


def test_a_state_is_held_until_another_leads_by_the_margin():
    said = turbulent(0.1, 0.59, 0.61, 0.45, 0.41, 0.39, 0.5, 0.9)
    assert held(said, 0.2, 1) == [0, 0, 1, 1, 1, 0, 0, 1]
    assert held(said, 0.0, 1) == [0, 1, 1, 0, 0, 0, 0, 1]
    assert held(said, 0.85, 1) == [0] * 8


def test_a_state_is_kept_for_its_dwell_the_first_one_too():
    said = turbulent(0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1)
    assert held(said, 0.0, 1) == [1, 0, 0, 1, 0, 0, 0]
    assert held(said, 0.0, 2) == [1, 1, 0, 0, 0, 0, 0]
    assert held(said, 0.0, 3) == [1, 1, 1, 1, 0, 0, 0]
    assert held(said, 0.0, 99) == [1] * 7


@pytest.mark.parametrize("seed", range(3))
def test_held_states_do_not_read_the_future_and_keep_their_spells(seed):
    said = turbulent(*np.random.default_rng(seed).random(300))
    whole = held(said, 0.3, 4)
    for cut in (1, 7, 150, 299):
        part = Filtered(said.probabilities[:cut], said.trained_to[:cut])
        assert held(part, 0.3, 4) == whole[:cut]
    turns = np.flatnonzero(np.diff(whole)) + 1
    assert len(turns) > 5 and turns[0] >= 4 and np.diff(turns).min() >= 4
    assert held_states(said).trained_to.equals(said.trained_to)


def test_three_states_are_held_by_their_lead_over_the_held_one():
    table = pd.DataFrame(
        [[0.5, 0.3, 0.2], [0.3, 0.45, 0.25], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]], columns=["calm", "normal", "turbulent"]
    ).set_axis(DATES)
    found = held_states(Filtered(table), 0.2, 1).probabilities
    assert found.idxmax(axis=1).tolist() == ["calm", "calm", "normal", "turbulent"]


@pytest.mark.parametrize("settings", [(-0.1, 1), (1.0, 1), (0.2, 0), (np.nan, 1)])
def test_impossible_margins_and_dwells_are_refused(settings):
    with pytest.raises(ConfigError, match="hysteresis"):
        held_states(turbulent(0.5), *settings)


def test_smoothed_states_are_not_held():
    with pytest.raises(LeakError):
        held_states(Smoothed(STATES))
    assert held_states(Filtered(STATES[:0])).probabilities.empty


def prices(*values: float) -> pd.Series:
    return pd.Series(values, pd.bdate_range("2020-01-06", periods=len(values)).as_unit("us"), dtype="float64")


def test_the_short_leg_follows_the_year_without_its_last_month():
    close = prices(10, 11, 9, 12, 12, 8)
    # at row 3: 9 against 10, falling; row 4: 12 against 11; row 5: 12 against 9
    assert short_leg_timing(close, 3, 1)["gate"].tolist() == [0, 0, 0, 1, 0, 0]
    assert short_leg_timing(close, 3, 1, falling=0.25, rising=0.75)["gate"].tolist() == [0, 0, 0, 0.25, 0.75, 0.75]
    assert short_leg_timing(close, 3, 0)["gate"].tolist() == [0, 0, 0, 0, 0, 1]  # 12/10, 12/11, 8/9
    assert short_leg_timing(prices(5, 5, 5, 5), 2, 1)["gate"].tolist() == [0, 0, 0, 0]  # no change is no fall


def test_the_defaults_look_back_twelve_months_without_the_last():
    close = pd.Series(np.arange(300.0, 0, -1), pd.bdate_range("2020-01-06", periods=300))
    made = short_leg_timing(close)["gate"]
    assert made[:252].eq(0).all() and made[252:].eq(1).all()
    rebound = close.copy()
    rebound.iloc[-21:] = 1000.0  # the last month is not looked at
    assert short_leg_timing(rebound)["gate"].iloc[-1] == 1


@pytest.mark.parametrize("rows", [0, 1, 252])
def test_too_short_a_history_closes_the_timed_gates(rows):
    close = pd.Series(100.0 + np.arange(rows) % 3, pd.bdate_range("2020-01-06", periods=rows))
    for made in (short_leg_timing(close), volatility_managed(close, lookback=252)):
        assert len(made) == rows and made["gate"].eq(0).all()


def test_volatility_managed_by_hand():
    up = np.exp(np.cumsum([0, 0.01, -0.01, 0.02, 0.0]))
    made = volatility_managed(prices(*up), target=0.1, lookback=2, periods_per_year=100)["gate"]
    want = [0, 0, 1.0, 0.1 / (10 * np.sqrt(2.5e-4)), 0.1 / (10 * np.sqrt(2e-4))]
    assert made.tolist() == pytest.approx(want)
    assert volatility_managed(prices(*up), 0.1, 2, 0.5, 100)["gate"].max() == 0.5


def test_a_frozen_price_closes_the_gate_and_a_move_opens_it():
    close = prices(100, 101, 100, *[100] * 6, 101, 100)
    made = volatility_managed(close, lookback=3)["gate"]
    assert (made.iloc[5:9] == 0).all() and made.iloc[9] > 0 and made.notna().all()
    assert volatility_managed(prices(*[7] * 50), lookback=3)["gate"].eq(0).all()


BROKEN = {
    "nan": (prices(1, np.nan, 2), DataError), "zero": (prices(1, 0, 2), DataError),
    "infinite": (prices(1, np.inf, 2), DataError), "unsorted": (prices(1, 2, 3).iloc[::-1], PanelError),
    "repeated": (pd.concat([prices(1, 2)] * 2).sort_index(), PanelError),
    "undated": (pd.Series([1.0, 2.0]), PanelError),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("made", [short_leg_timing, volatility_managed])
def test_prices_that_are_none_are_refused(made, name):
    close, error = BROKEN[name]
    with pytest.raises(error):
        made(close)


@pytest.mark.parametrize(
    "call",
    [
        lambda c: short_leg_timing(c, 2, 2), lambda c: short_leg_timing(c, 1, 0), lambda c: short_leg_timing(c, 5, -1),
        lambda c: short_leg_timing(c, falling=1.1), lambda c: short_leg_timing(c, rising=-0.1),
        lambda c: short_leg_timing(c, falling=np.nan),
        lambda c: volatility_managed(c, target=0), lambda c: volatility_managed(c, target=np.inf),
        lambda c: volatility_managed(c, max_exposure=1.01), lambda c: volatility_managed(c, max_exposure=0),
        lambda c: volatility_managed(c, lookback=1), lambda c: volatility_managed(c, periods_per_year=0),
    ],
)  # fmt: skip
def test_settings_of_timed_gates_are_checked(call):
    with pytest.raises(ConfigError):
        call(prices(1, 2, 3))


def test_an_old_input_closes_the_gate_and_says_how_old():
    days = pd.bdate_range("2020-01-06", periods=10).as_unit("us")
    made = stale(pd.DataFrame({"gate": 0.5}, days[:4]), days[:4], limit=2, sessions=days)
    assert made["gate"].tolist() == [0.5] * 6 + [0.0] * 4
    assert made["reason"].tolist()[:6] == [""] * 6
    assert made["reason"].iloc[6] == "the newest input is 3 sessions old, the limit is 2"
    again = stale(pd.DataFrame({"gate": 0.5}, days), days[[0, 5]], limit=3)["gate"].tolist()
    assert again == [0.5] * 4 + [0.0] + [0.5] * 4 + [0.0]
    assert stale(pd.DataFrame({"gate": 0.5}, days), days[::2], limit=0)["gate"].tolist() == [0.5, 0.0] * 5


def test_nothing_known_is_closed():
    days = pd.bdate_range("2020-01-06", periods=4).as_unit("us")
    late = stale(pd.DataFrame({"gate": 1.0}, days[2:]), days[1:], sessions=days)
    assert late["gate"].tolist() == [0, 0, 1, 1]
    assert late["reason"].tolist()[:2] == ["no input is known yet", "no gate is known yet"]
    hole = stale(pd.DataFrame({"gate": [1.0, np.nan, 1.0, 1.0]}, days), days)
    assert hole["gate"].tolist() == [1, 0, 1, 1] and hole["reason"].iloc[1] == "no gate is known yet"
    assert stale(pd.DataFrame({"gate": 1.0}, days), days[:0])["gate"].eq(0).all()
    assert stale(pd.DataFrame({"gate": 1.0}, days[:0]), days).empty


def test_a_hole_in_the_calendar_counts_its_weekdays():
    days = pd.DatetimeIndex(["2020-01-06", "2020-01-07"])
    later = pd.DatetimeIndex(["2020-03-02", "2020-03-03"])  # eight weeks on
    made = stale(pd.DataFrame({"gate": 1.0}, days), days, limit=30, sessions=later)
    assert made["gate"].eq(0).all() and made["reason"].iloc[0].startswith("the newest input is 39 sessions old")


def test_stale_refuses_other_calendars_and_frames():
    days = pd.bdate_range("2020-01-06", periods=4).as_unit("us")
    made = pd.DataFrame({"gate": 1.0}, days)
    with pytest.raises(PanelError, match="time zone"):
        stale(made, days.tz_localize("UTC"))
    with pytest.raises(PanelError, match="column gate"):
        stale(made.rename(columns={"gate": "x"}), days)
    with pytest.raises(PanelError):
        stale(made.iloc[::-1], days)
    with pytest.raises(ConfigError, match="limit"):
        stale(made, days, limit=-1)
