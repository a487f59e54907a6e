"The gate by hand: the default exposures, the dates it refuses, and the share of hindsight."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, LeakError, PanelError
from quantlab.regime.base import Filtered, Smoothed
from quantlab.regime.gate import EXPOSURE, gate, hindsight_share

DATES = pd.bdate_range("2020-01-06", periods=4).as_unit("us")
STATES = pd.DataFrame(
    {"calm": [0.5, 1.0, 0.0, 0.25], "normal": [0.25, 0.0, 0.0, 0.25], "turbulent": [0.25, 0.0, 1.0, 0.5]}, index=DATES
)


def test_default_exposures_by_hand():
    assert EXPOSURE == {"calm": 1.0, "normal": 1.0, "turbulent": 0.3}
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
