"""Regimes: the filter against brute force and hmmlearn, planted states, and no way to trade on hindsight."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, LeakError, PanelError
from quantlab.regime.base import Filtered, Smoothed, forward_filter, match_states, walk_forward_filter
from quantlab.regime.gate import gate, hindsight_share
from quantlab.regime.hmm import HMM
from quantlab.regime.inputs import regime_inputs

QUICK = HMM(n_states=2, n_iter=50, n_starts=2)


def planted(n: int = 800, seed: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    "A calm and a turbulent state that stay for 100 and 25 sessions on average."
    random = np.random.default_rng(seed)
    state = np.zeros(n, dtype=int)
    for t in range(1, n):
        state[t] = state[t - 1] ^ (random.random() < (0.01, 0.04)[state[t - 1]])
    returns = random.normal(np.array([0.0006, -0.001])[state], np.array([0.005, 0.02])[state])
    dates = pd.bdate_range("2015-01-01", periods=n).as_unit("us")
    return pd.DataFrame({"log_return": returns}, index=dates), state


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 6))
def test_the_filter_is_bayes_rule_over_all_paths(seed, states, n):
    random = np.random.default_rng(seed)
    start, moves = random.dirichlet(np.ones(states)), random.dirichlet(np.ones(states), states)
    density = random.normal(size=(n, states))
    found = forward_filter(density, start, moves)
    for t in range(n):
        total = np.zeros(states)
        for path in itertools.product(range(states), repeat=t + 1):
            chance = start[path[0]] * np.prod([moves[a, b] for a, b in itertools.pairwise(path)])
            total[path[-1]] += chance * np.exp(sum(density[i, s] for i, s in enumerate(path)))
        assert found[t] == pytest.approx(total / total.sum(), abs=1e-10)


def test_the_last_filtered_row_is_the_last_smoothed_row_of_hmmlearn():
    X, _ = planted()
    model = QUICK.fit(X)
    assert isinstance(model.hmm_, GaussianHMM)
    both = model.filter(X).probabilities.iloc[-1], model.smooth(X).probabilities.iloc[-1]
    assert both[0].to_numpy() == pytest.approx(both[1].to_numpy(), abs=1e-8)


def test_filtered_rows_do_not_move_when_the_future_is_cut_off():
    X, _ = planted()
    whole = walk_forward_filter(X, first=300, refit=200, model=QUICK)
    for end in (301, 420, 777):
        part = walk_forward_filter(X.iloc[:end], first=300, refit=200, model=QUICK)
        pd.testing.assert_frame_equal(part.probabilities, whole.probabilities.iloc[: end - 300])
    assert (whole.trained_to < whole.probabilities.index).all()


def test_smoothed_rows_do_move():
    X, _ = planted()
    model = QUICK.fit(X)
    whole = model.smooth(X).probabilities
    moved = [
        (whole.iloc[:end] - model.smooth(X.iloc[:end]).probabilities).abs().to_numpy().max()
        for end in range(300, 800, 7)
    ]
    assert max(moved) > 0.1


def test_planted_states_are_found_on_the_past_alone():
    X, state = planted(1500)
    turbulent = walk_forward_filter(X, first=504, refit=252, model=QUICK).probabilities["turbulent"]
    assert ((turbulent > 0.5) == (state[504:] == 1)).mean() > 0.93


def test_names_follow_volatility_whatever_the_start():
    X, _ = planted()
    for seed in range(4):
        table = HMM(2, seed=seed, n_starts=1).fit(X).hmm_
        assert table.covars_[0, 0, 0] < table.covars_[1, 0, 0]
    a, b = HMM(2, seed=1).fit(X), HMM(2, seed=5).fit(X.iloc[:600])
    assert match_states(a, b).tolist() == [0, 1]


def test_two_fits_agree_to_the_last_digit():
    X, _ = planted()
    pd.testing.assert_frame_equal(
        QUICK.fit(X).filter(X).probabilities,
        HMM(2, n_iter=50, n_starts=2).fit(X).filter(X).probabilities,
        check_exact=True,
    )


def test_a_gate_is_the_expected_exposure():
    X, _ = planted()
    filtered = walk_forward_filter(X, first=504, refit=400, model=QUICK)
    values = gate(filtered, {"calm": 1.0, "turbulent": 0.2})["gate"]
    assert values.to_numpy() == pytest.approx(1 - 0.8 * filtered.probabilities["turbulent"].to_numpy())


def test_a_gate_refuses_every_kind_of_hindsight():
    X, _ = planted()
    model = QUICK.fit(X)
    two = {"calm": 1.0, "turbulent": 0.2}
    with pytest.raises(LeakError, match="smoothed"):
        gate(model.smooth(X), two)
    with pytest.raises(LeakError, match="smoothed"):
        Filtered(model.smooth(X).probabilities)
    with pytest.raises(LeakError, match="fitted up to"):
        gate(model.filter(X), two)
    with pytest.raises(PanelError, match="Filtered"):
        gate(model.filter(X).probabilities, two)
    assert len(gate(model.filter(X), two, allow_in_sample=True)) == len(X)


def test_hindsight_share_lies_between_none_and_all():
    X, _ = planted()
    model = QUICK.fit(X)
    assert 0 < hindsight_share(model.filter(X), model.smooth(X)) < 0.5
    sure = pd.DataFrame({"calm": [1.0, 0.0], "turbulent": [0.0, 1.0]}, index=X.index[:2])
    assert hindsight_share(Filtered(sure), Smoothed(sure)) == 0.0
    assert hindsight_share(Filtered(sure), Smoothed(1 - sure)) == 1.0


@pytest.mark.parametrize(
    "exposure", [{"calm": 1.0}, {"calm": 1.0, "turbulent": 1.2}, {"calm": 1.0, "turbulent": np.nan}]
)
def test_an_exposure_that_is_none_is_refused(exposure):
    X, _ = planted(600)
    with pytest.raises(ConfigError, match="exposure"):
        gate(walk_forward_filter(X, first=504, refit=400, model=QUICK), exposure)


def test_what_cannot_be_filtered_is_refused():
    X, _ = planted(200)
    hole, odd = X.copy(), X.copy()
    hole.iloc[5] = np.nan
    odd.iloc[7] = np.inf
    for frame in (hole, odd):
        with pytest.raises(DataError, match="NaN or infinite on 2015-01"):
            QUICK.fit(frame)
    for frame, what in (
        (X.iloc[:39], "cannot tell 2 states"),
        (X * 0 + 1, "do not vary"),
        (X.iloc[:0], "cannot tell"),
        (X.iloc[:1], "cannot tell"),
    ):
        with pytest.raises(DataError, match=what):
            HMM(2).fit(frame)
    with pytest.raises(PanelError, match="sorted, distinct"):
        HMM(2).fit(X.iloc[::-1])
    with pytest.raises(DataError, match="nothing to filter"):
        walk_forward_filter(X, HMM(), first=200)
    for price in (X["log_return"] * 0 - 1, X["log_return"] * 0 + 5):
        with pytest.raises(DataError):
            regime_inputs(price)
    assert regime_inputs(pd.Series([], index=X.index[:0], dtype=float)).empty


SPY = pd.Series(
    100 * np.exp(np.cumsum(np.random.default_rng(4).normal(0, 0.01, 600))), pd.bdate_range("2020-01-01", periods=600)
)
X = planted(600)[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: regime_inputs(SPY.where(SPY.index != SPY.index[5])),
        lambda: regime_inputs(-SPY),
        lambda: regime_inputs(SPY * 0 + 1),
        lambda: regime_inputs(SPY.iloc[::-1]),
        lambda: regime_inputs(SPY, lookback=1),
        lambda: HMM(n_states=0).fit(X),
        lambda: QUICK.fit(X.assign(flat=1.0)),
        lambda: QUICK.fit(X * np.inf),
        lambda: QUICK.fit(X).filter(X.assign(more=1.0)),
        lambda: walk_forward_filter(X[:504], HMM()),
        lambda: walk_forward_filter(X, HMM(), refit=0),
        lambda: Filtered(X),
    ],
)
def test_what_no_regime_can_be_read_from(call):
    with pytest.raises((ConfigError, DataError, PanelError)):
        call()


def test_no_rows_and_one_state():
    assert len(regime_inputs(SPY[:0])) == len(regime_inputs(SPY[:1])) == len(regime_inputs(SPY[:21])) == 0
    model = HMM(n_states=2, n_iter=50, n_starts=2).fit(X)
    assert len(model.filter(X[:0]).probabilities) == len(model.smooth(X[:0]).probabilities) == 0
    assert HMM(n_states=1).fit(X).filter(X).probabilities["calm"].eq(1).all()
    assert HMM(n_states=2, n_iter=50, n_starts=2).fit(X).filter(X).probabilities.equals(model.filter(X).probabilities)
    assert pickle.loads(pickle.dumps(model)).filter(X).probabilities.equals(model.filter(X).probabilities)
