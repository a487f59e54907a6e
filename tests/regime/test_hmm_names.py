"States that keep their names: two to four of them, by volatility or by weather; accuracy beside Bayes; no flip."

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from quantlab.core.errors import ConfigError
from quantlab.regime import hmm
from quantlab.regime.base import NAMES, dwell_times, forward_filter, gaussian_log_density, match_states
from quantlab.regime.hmm import HMM, WEATHER, names_deserved, walk_forward_names
from quantlab.regime.inputs import regime_inputs


def separated(n, states=2, seed=0):
    "Returns of states whose deviations are three times as large from one to the next, the truth and its parameters."
    rng, stay = np.random.default_rng(seed), 0.98
    moves = np.full((states, states), (1 - stay) / (states - 1)) + np.eye(states) * (stay - (1 - stay) / (states - 1))
    deviations, state = 0.004 * 3.0 ** np.arange(states), np.zeros(n, int)
    for t in range(1, n):
        state[t] = rng.choice(states, p=moves[state[t - 1]])
    days = pd.bdate_range("2000-01-03", periods=n).as_unit("us")
    return pd.DataFrame({"log_return": rng.normal(0, deviations[state])}, days), state, moves, deviations


@pytest.mark.parametrize("states", [2, 3])
def test_the_filter_is_within_two_points_of_bayes(states):
    X, truth, moves, deviations = separated(4000, states)
    model = HMM(states, n_starts=2).fit(X[:2000])
    ours = model.filter(X).probabilities.to_numpy()[2000:].argmax(axis=1)
    density = gaussian_log_density(X.to_numpy(), np.zeros((states, 1)), deviations[:, None, None] ** 2)
    bayes = forward_filter(density, np.full(states, 1 / states), moves)[2000:].argmax(axis=1)
    right, best = (ours == truth[2000:]).mean(), (bayes == truth[2000:]).mean()
    assert best > 0.9 and right > best - 0.02


def flips(refits: int, starts: int = 5) -> tuple[int, list[int]]:
    "Count names that changed hands in expanding refits, each from other starts, judged by the simulated truth."
    X, truth, *_ = separated(500 + 10 * refits, 3, seed=1)
    previous, found = None, 0
    for k in range(refits):
        rows = 500 + 10 * k
        fitted = HMM(3, seed=100 + k, n_starts=starts).fit(X[:rows])
        if previous is None:
            fitted.reorder(np.array([2, 0, 1]))  # names that no later fit would give by itself
            first = fitted.filter(X[:rows]).probabilities.to_numpy().argmax(axis=1)
            owner = [np.bincount(truth[:rows][first == j], minlength=3).argmax() for j in range(3)]
        else:
            fitted.reorder(match_states(previous, fitted))
        said = fitted.filter(X[:rows]).probabilities.to_numpy().argmax(axis=1)
        now = [np.bincount(truth[:rows][said == j], minlength=3).argmax() for j in range(3)]
        found, previous = found + (now != owner), fitted
    return found, owner


def test_no_name_changes_hands_in_20_expanding_refits():
    found, owner = flips(20)
    assert found == 0 and owner == [2, 0, 1]


@pytest.mark.slow
def test_no_name_changes_hands_in_100_expanding_refits():
    assert flips(100, starts=10)[0] == 0  # of five starts, six of the hundred fits end in a lesser maximum


def weathers(seed, spell=150, rounds=3):
    rng, kind, last, path = np.random.default_rng(seed), np.tile(np.repeat([0, 1, 2], spell), rounds), 0.0, []
    for k in kind:
        last = (0.45, -0.45, 0.0)[k] * last + rng.normal((6e-4, 0, 0)[k], (0.006, 0.006, 0.018)[k])
        path.append(last)
    days = pd.bdate_range("2010-01-01", periods=len(kind)).as_unit("us")
    X = regime_inputs(pd.Series(100 * np.exp(np.cumsum(path)), days), columns=("log_return", "log_vol", "autocorr"))
    return X, pd.Series(np.array(WEATHER)[kind], days).loc[X.index]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_weathers_are_named_rightly(seed):
    X, told = weathers(seed)
    model = HMM(3, n_starts=3, names="weather").fit(X)
    said = model.filter(X).probabilities.idxmax(axis=1)
    assert (said == told).groupby(told).mean().min() > 0.6
    assert names_deserved(model)["deserved"].all() and model.states_ == WEATHER
    plain = HMM(3, n_starts=3).fit(X)  # the same fit under other names
    both = [np.sort(m.moments()[0][:, 0]) for m in (model, plain)]
    assert both[0] == pytest.approx(both[1])
    assert model.transition_table().index.tolist() == WEATHER and dwell_times(model).index.tolist() == WEATHER


@pytest.mark.parametrize(
    ("autocorr", "drift", "deviation", "want"),
    [
        ([0.0, -0.2, 0.3], [0.0, 0.0, 0.1], [0.02, 0.01, 0.01], [2, 1, 0]),
        ([0.3, 0.0, -0.2], [0.1, 0.0, 0.0], [0.01, 0.02, 0.01], [0, 2, 1]),
        ([0.02, -0.47, 0.37], [0.044, 0.031, 0.007], [0.0174, 0.0073, 0.0067], [2, 1, 0]),  # drift is noise in all
        ([0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.01, 0.01, 0.03], [0, 1, 2]),
    ],
)
def test_weather_by_hand(autocorr, drift, deviation, want):
    table = pd.DataFrame({"autocorr": autocorr, "drift": drift, "deviation": deviation})
    assert hmm._weather_order(table).tolist() == want


def test_a_name_that_is_no_longer_deserved_is_reported():
    X, *_ = separated(900, 3, seed=2)
    model = HMM(3, n_starts=1).fit(X)
    assert names_deserved(model)["deserved"].tolist() == [True, True, True]
    model.reorder(np.array([1, 0, 2]))
    assert names_deserved(model)["deserved"].tolist() == [False, False, True]
    W, _ = weathers(1)
    weather = HMM(3, n_starts=2, names="weather").fit(W)
    for order, held in (([1, 0, 2], [False, False, True]), ([2, 1, 0], [False, True, False])):
        turned = clone(weather).fit(W).reorder(np.array(order))
        assert names_deserved(turned)["deserved"].tolist() == held
    weather.hmm_.means_[:, 2] += 5.0  # every state now trends: the mean-reverting one lies
    assert names_deserved(weather)["deserved"].tolist() == [True, False, True]


def test_the_walk_is_reported_fit_by_fit():
    X, *_ = separated(700, 2, seed=3)
    found = walk_forward_names(X, HMM(2, n_starts=1), first=300, refit=150)
    assert found.index.tolist() == [X.index[i] for i in (299, 449, 599)]
    assert found.columns.tolist() == ["calm", "turbulent", "converged"] and found.to_numpy().all()


def test_convergence_is_told_and_not_raised():
    X, *_ = separated(600, 2)
    good, hasty = HMM(2, n_starts=3).fit(X), HMM(2, n_iter=2, n_starts=3).fit(X)
    assert good.converged_ and good.starts_["converged"].any() and good.starts_.index.tolist() == [7, 8, 9]
    assert not hasty.converged_ and not hasty.starts_["converged"].any() and (hasty.starts_["steps"] == 2).all()
    scaled = good._scaled(X)
    assert good.starts_["log_likelihood"].max() == pytest.approx(good.hmm_.score(scaled))


def test_two_to_four_states_have_their_names():
    X, *_ = separated(900, 3, seed=4)
    for n in (2, 3, 4):
        model = HMM(n, n_starts=1, n_iter=30).fit(X)
        assert model.states_ == NAMES[n] and (np.diff(model.moments()[1][:, 0, 0]) > 0).all()


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({"names": "zodiac"}, ["log_return", "autocorr_21"]),
        ({"names": "weather"}, ["log_return"]),
        ({"names": "weather", "n_states": 2}, ["log_return", "autocorr_21"]),
        ({"names": "weather", "n_states": 4}, ["log_return", "autocorr_21"]),
    ],
)
def test_names_that_cannot_be_given_are_refused(settings, columns):
    X, _ = weathers(1)
    with pytest.raises(ConfigError):
        HMM(**settings, n_starts=1, n_iter=5).fit(X[columns])
