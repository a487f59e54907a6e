"""What is asked of every detector: bad input is refused or closed, never a NaN weight; the judge takes it."""

import numpy as np
import pandas as pd
import pytest
from every_detector import DETECTORS, inputs_of, read_by, small
from sklearn.exceptions import NotFittedError

from quantlab.core.errors import DataError, PanelError
from quantlab.regime.base import walk_forward_filter
from quantlab.regime.gate import gate, held_states, stale
from quantlab.regime.judge import delay_curve, false_alarms, gate_verdict, hindsight_sharpe, regime_performance
from quantlab.regime.simulated import simulated_regimes, state_accuracy

WORLD = simulated_regimes(900, transition=((0.98, 0.02), (0.05, 0.95)), seed=3)
ALL = inputs_of(WORLD.close())
each = pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)


def test_the_room_has_detectors():
    assert "HMM" in [kind.__name__ for kind in DETECTORS]


@each
def test_a_day_without_a_number_is_refused_and_the_gate_is_carried_and_then_closed(kind):
    X = read_by(kind, ALL)
    model, holes = small(kind).fit(X[:500]), X.copy()
    holes.iloc[[600, 601, 602, 603]] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        model.filter(holes)
    with pytest.raises(DataError, match="NaN or infinite"):
        small(kind).fit(holes)
    clean = holes.dropna()
    made = stale(gate(model.filter(clean).out_of_sample()), clean.index, limit=2, sessions=X.index[500:])
    assert made["gate"].notna().all() and made["gate"].between(0, 1).all()
    assert (made["gate"].iloc[[102, 103]] == 0).all() and made["reason"].iloc[102].startswith("the newest input is 3")
    assert made["gate"].iloc[101] == made["gate"].iloc[99] > 0


@each
@pytest.mark.parametrize("value", [0.0, 0.01, -1.0])
def test_a_constant_series_is_refused(kind, value):
    X = read_by(kind, ALL)
    with pytest.raises(DataError, match="do not vary"):
        small(kind).fit(X * 0 + value)


@each
def test_what_is_no_table_of_numbers_and_an_unfitted_detector_are_refused(kind):
    X = read_by(kind, ALL)
    with pytest.raises(PanelError, match="X is a Series, expected a frame"):
        small(kind).fit(X.iloc[:, 0])
    with pytest.raises(PanelError, match="X is a ndarray"):
        small(kind).fit(X.to_numpy())
    with pytest.raises(PanelError, match="no number"):
        small(kind).fit(X.astype(str) + "a")
    for ask in (small(kind).filter, small(kind).smooth):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            ask(X)
    with pytest.raises(PanelError, match="X is a Series"):
        small(kind).fit(X).filter(X.iloc[:, 0])


@each
@pytest.mark.parametrize("rows", [0, 1, 10])
def test_too_short_a_history_is_refused(kind, rows):
    X = read_by(kind, ALL)
    with pytest.raises(DataError):
        small(kind).fit(X[:rows])
    with pytest.raises(DataError, match="lengthen the history"):
        walk_forward_filter(X[:rows], small(kind), first=max(rows, 1))


@each
def test_infinities_other_columns_and_unsorted_dates_are_refused(kind):
    X = read_by(kind, ALL)
    model, endless = small(kind).fit(X), X.copy()
    endless.iloc[5, 0] = np.inf
    with pytest.raises(DataError):
        model.filter(endless)
    with pytest.raises(PanelError):
        model.filter(X.assign(more=1.0))
    with pytest.raises(PanelError):
        small(kind).fit(X.iloc[::-1])


@each
def test_data_of_one_state_give_a_gate_without_nan(kind):
    "Nothing to find: whatever is named, every weight is a number, or the fit says why there is none."
    drawn = np.random.default_rng(4).normal(0.0005, 0.01, 720)
    one = read_by(kind, inputs_of(pd.Series(100 * np.exp(drawn.cumsum()), WORLD.truth.index[:720])))
    try:
        model = small(kind).fit(one[:500])
    except DataError:
        return
    known = model.filter(one)
    assert np.isfinite(known.probabilities.to_numpy()).all()
    assert gate(known.out_of_sample())["gate"].between(0, 1).all()
    assert gate(held_states(known.out_of_sample()))["gate"].between(0, 1).all()


@each
def test_a_calm_history_followed_by_a_frozen_price_gives_a_gate_without_nan(kind):
    X = read_by(kind, ALL)
    frozen = X.copy()
    frozen.iloc[700:, 0] = 0.0
    made = gate(small(kind).fit(frozen[:500]).filter(frozen).out_of_sample())
    assert made["gate"].between(0, 1).all() and made["gate"].notna().all()


@each
def test_dates_in_a_time_zone_are_read_alike(kind):
    X = read_by(kind, ALL)
    zoned = X.tz_localize("UTC")
    a, b = small(kind).fit(X).filter(X).probabilities, small(kind).fit(zoned).filter(zoned).probabilities
    assert np.array_equal(a.to_numpy(), b.to_numpy()) and str(b.index.tz) == "UTC"


@each
def test_the_judge_takes_every_detector(kind):
    X = read_by(kind, ALL)
    model = small(kind).fit(X[:500])
    known, later, returns = model.filter(X).out_of_sample(), model.smooth(X), np.expm1(WORLD.returns)
    priced = hindsight_sharpe(known, later, returns, 252, draws=50)
    assert (
        priced.n_obs == len(X) - 500 and np.isfinite([priced.filtered, priced.smoothed, priced.gain, priced.se]).all()
    )
    assert priced.se >= 0 and priced.low <= priced.gain <= priced.high
    judged = gate_verdict(gate(known), returns, 252, draws=50)
    assert 0 < judged.p <= 1 or judged.reason
    table = regime_performance(known, returns, 252)
    assert table["sessions"].sum() == len(X) - 500 and list(table.index) == model.states_
    curve = delay_curve(known, WORLD.truth, 10)
    assert curve["right"].dropna().between(0, 1).all() and false_alarms(known, WORLD.truth, 252).a_year >= 0
    assert state_accuracy(known, WORLD.truth) > 0.4
