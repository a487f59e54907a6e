"""Markov switching: the columns that Eviews and Stata printed, Hamilton's figures, and a filter that reads the past.

The published columns ship with statsmodels' own tests; where that package was cut down, these tests are skipped.
"""

import ast
import contextlib
import importlib.util
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.regime import markov
from quantlab.regime.base import check_detector, forward_filter, match_states, walk_forward_filter
from quantlab.regime.markov import MarkovSwitching


def folder() -> Path:
    "Where statsmodels keeps its tests."
    try:
        found = importlib.util.find_spec("statsmodels.tsa.regime_switching.tests.test_markov_autoregression")
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip("statsmodels was installed without its tests, which hold the published figures")
    return Path(found.origin).parent


def published(name: str) -> SimpleNamespace:
    "The lists of figures in a module of statsmodels' tests, read and not run."
    tree = ast.parse((folder() / f"{name}.py").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            with contextlib.suppress(ValueError):  # a list with a name in it, such as np.nan
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return SimpleNamespace(**found)


def table(name: str) -> pd.DataFrame:
    "A table of statsmodels' tests with printed columns."
    file = folder() / "results" / name
    if not file.exists():
        pytest.skip(f"statsmodels was installed without {name}, which holds the printed columns")
    return pd.read_csv(file)


def by_quarter(values) -> pd.DataFrame:
    return pd.DataFrame(
        {"y": np.asarray(values, dtype=float)}, pd.date_range("1900-03-31", periods=len(values), freq="QE")
    )


def given(means, variances, moves, memory) -> MarkovSwitching:
    "A detector with printed parameters."
    model = MarkovSwitching(len(means), order=np.shape(memory)[1])
    model.means_, model.variances_ = np.array(means), np.array(variances)
    model.moves_, model.memory_ = np.array(moves), np.array(memory, dtype=float)
    model.center_, model.scale_, model.columns_, model.trained_to_ = (
        np.zeros(1),
        np.ones(1),
        ["y"],
        pd.Timestamp("1900"),
    )
    model.states_ = [f"s{i}" for i in range(len(means))]
    return model


def test_eviews_prints_the_same_filtered_and_smoothed_probabilities_of_hamiltons_model():
    theirs = published("test_markov_autoregression")
    memory = np.tile([0.013486, -0.057521, -0.246983, -0.212923], (2, 1))
    moves = [[0.754673, 1 - 0.754673], [0.095915, 1 - 0.095915]]
    model = given([-0.358811, 1.163516], np.full(2, np.exp(-0.262658) ** 2), moves, memory)
    X = by_quarter(theirs.rgnp)
    filtered, smoothed = model.filter(X).probabilities, model.smooth(X).probabilities
    assert len(filtered) == 135 and len(theirs.hamilton_ar4_filtered) == 131
    assert filtered["s1"].to_numpy()[4:] == pytest.approx(np.array(theirs.hamilton_ar4_filtered), abs=1e-5)
    assert smoothed["s1"].to_numpy()[4:] == pytest.approx(np.array(theirs.hamilton_ar4_smoothed), abs=1e-5)
    apart = np.abs(filtered["s1"].to_numpy()[4:] - np.array(theirs.hamilton_ar4_smoothed)).max()
    assert apart > 0.3  # the two columns differ: to equal the one is not to equal the other


def test_eviews_prints_the_same_when_the_memory_switches_too():
    theirs = published("test_markov_autoregression")
    moves = [[0.85472458, 1 - 0.85472458], [0.53662099, 1 - 0.53662099]]
    model = given([1.041419, -0.479157], np.full(2, np.exp(-0.231404) ** 2), moves, [[0.243128], [0.713029]])
    found = model.filter(by_quarter(theirs.rgnp)).probabilities["s0"].to_numpy()[1:]
    assert found == pytest.approx(np.array(theirs.hamilton_ar1_switch_filtered), abs=1e-5)


def test_stata_prints_the_same_of_growth_with_two_switching_lags():
    printed = table("results_predict_rgnp.csv").iloc[3:]
    moves = [[0.3812383, 1 - 0.3812383], [0.3564492, 1 - 0.3564492]]
    model = given(
        [-0.0055216, 1.195482], np.full(2, 0.6677098**2), moves, [[0.3710719, 0.7002937], [0.4621503, -0.3206652]]
    )
    X = by_quarter(published("test_markov_autoregression").rgnp)
    rows = slice(2, 2 + len(printed))
    filtered, smoothed = model.filter(X).probabilities.iloc[rows], model.smooth(X).probabilities.iloc[rows]
    assert len(printed) == len(X) - 2
    assert filtered.to_numpy() == pytest.approx(printed[["switchar2_f1", "switchar2_f2"]].to_numpy(), abs=1e-5)
    assert smoothed.to_numpy() == pytest.approx(printed[["switchar2_sm1", "switchar2_sm2"]].to_numpy(), abs=1e-5)
    ahead = model.filter(X).ahead.iloc[1 : 1 + len(printed)]  # what the row before said of this one
    assert ahead.to_numpy()[1:] == pytest.approx(printed[["switchar2_p1", "switchar2_p2"]].to_numpy()[1:], abs=1e-5)


def test_stata_prints_the_same_of_the_federal_funds_rate():
    printed = table("results_predict_fedfunds.csv")
    theirs = published("test_markov_regression")
    moves = [[0.9820939, 1 - 0.9820939], [0.0503587, 1 - 0.0503587]]
    model = given([3.70877, 9.556793], np.full(2, 2.107562**2), moves, np.empty((2, 0)))
    X = by_quarter(theirs.fedfunds)
    found = model.filter(X)
    assert found.probabilities.to_numpy() == pytest.approx(printed[["const_f1", "const_f2"]].to_numpy(), abs=1e-5)
    assert found.ahead.to_numpy()[:-1] == pytest.approx(printed[["const_p1", "const_p2"]].to_numpy()[1:], abs=1e-5)
    smoothed = model.smooth(X).probabilities.to_numpy()
    assert smoothed == pytest.approx(printed[["const_sm1", "const_sm2"]].to_numpy(), abs=1e-5)


def test_filardo_whose_transitions_follow_a_leading_index():
    "Moves that change from month to month: the filter is run row by row, each with the moves of its month."
    printed = table("mar_filardo.csv")
    y, leading = printed["dlip"].to_numpy()[1:], printed["dmdlleading"].to_numpy()[:-1]
    logistic = lambda a, b: 1 / (1 + np.exp(-(a + b * leading)))
    stay, back = logistic(4.35941747, 1.7702123), logistic(-1.6493936, 0.9945672)
    moves = np.stack([np.stack([stay, 1 - stay], 1), np.stack([back, 1 - back], 1)], 1)  # [month, from, to]
    histories = markov._histories(2, 4)
    memory = np.tile([0.189474, 0.079344, 0.110944, 0.122251], (2, 1))
    density = markov._history_density(
        y, np.array([0.517298, -0.865888]), np.full(2, np.exp(-0.362469) ** 2), memory, histories
    )
    start = markov._stationary(moves[0])[histories[:, 4]]
    for lag in range(4):  # from the oldest month of the history to the newest
        start = start * moves[4 - lag][histories[:, lag + 1], histories[:, lag]]
    found = np.empty_like(density)
    for t in range(len(density)):
        found[t] = forward_filter(density[t : t + 1], start, np.eye(32))[0]
        if t + 1 < len(density):
            goes_on = (histories[:, None, :-1] == histories[None, :, 1:]).all(axis=2)
            start = found[t] @ (goes_on * moves[t + 5][np.ix_(histories[:, 0], histories[:, 0])])
    state = found[:, histories[:, 0] == 0].sum(axis=1)
    assert len(state) == 514
    assert state == pytest.approx(printed["filtered_0"].to_numpy()[5:], abs=1e-5)


def test_hamiltons_fit_is_the_published_one():
    rgnp = published("test_markov_autoregression").rgnp
    model = MarkovSwitching(order=4, switching_variance=False).fit(by_quarter(rgnp))
    means, variances = model.moments()
    assert model.converged_ and model.log_likelihood_ == pytest.approx(-181.26339, abs=1e-4)
    assert means[:, 0] == pytest.approx([1.163516, -0.358811], abs=1e-3)
    assert variances[:, 0, 0] == pytest.approx(np.full(2, np.exp(-0.262658) ** 2), abs=1e-3)
    assert np.diag(model.moves_) == pytest.approx([1 - 0.095915, 0.754673], abs=1e-3)
    assert model.memory_[0] == pytest.approx([0.013486, -0.057521, -0.246983, -0.212923], abs=1e-3)


def planted(n=500, seed=2, columns=("log_return",)) -> tuple[pd.DataFrame, np.ndarray]:
    rng, state = np.random.default_rng(seed), np.zeros(n, int)
    for t in range(1, n):
        state[t] = state[t - 1] ^ (rng.random() < (0.02, 0.05)[state[t - 1]])
    values = rng.normal(np.array([5e-4, -1e-3])[state], np.array([0.005, 0.02])[state])
    return pd.DataFrame({"log_return": values}, pd.bdate_range("2015-01-01", periods=n).as_unit("us")), state


@pytest.mark.parametrize(("order", "own"), [(0, False), (1, True), (2, False)])
def test_our_filter_equals_statsmodels_on_a_fitted_market(order, own):
    X, _ = planted(400)
    model = MarkovSwitching(order=order, switching_ar=own).fit(X)
    y = X["log_return"].to_numpy() / model.scale_[0]
    common = {"k_regimes": 2, "switching_variance": True}
    peer = (
        markov._autoregression()(y, order=order, switching_ar=own, **common) if order else MarkovRegression(y, **common)
    )
    params = np.empty(len(peer.start_params))
    for s in range(2):
        params[peer.parameters[s, "regime_transition"]] = model.moves_[s, 0]
        params[peer.parameters[s, "exog"]] = model.means_[s]
        params[peer.parameters[s, "variance"]] = model.variances_[s]
        if order:
            params[peer.parameters[s, "autoregressive"]] = model.memory_[s]
    theirs = peer.smooth(params)
    assert model.filter(X).probabilities.to_numpy()[order:] == pytest.approx(
        theirs.filtered_marginal_probabilities, abs=1e-8
    )
    assert model.smooth(X).probabilities.to_numpy()[order:] == pytest.approx(
        theirs.smoothed_marginal_probabilities, abs=1e-8
    )
    gap = theirs.llf - (len(y) - order) * np.log(model.scale_[0]) - model.log_likelihood_
    assert abs(gap) < 1e-6


@pytest.mark.parametrize("order", [2, 3])
def test_each_row_has_the_deviation_of_its_own_state(order):
    "statsmodels takes that of an earlier row; the likelihood is summed by hand over every path."
    X, _ = planted(400)
    y = X["log_return"].to_numpy() / X["log_return"].std()
    moves, means, variances = np.array([[0.95, 0.05], [0.1, 0.9]]), np.array([0.05, -0.1]), np.array([0.3, 2.5])
    memory = np.array([-0.05, 0.1, 0.02])[:order]
    short, total = y[: order + 3], 0.0
    for path in itertools.product(range(2), repeat=len(short)):
        chance = markov._stationary(moves)[path[0]] * np.prod([moves[a, b] for a, b in itertools.pairwise(path)])
        for t in range(order, len(short)):
            error = short[t] - means[path[t]]
            error -= sum(memory[k - 1] * (short[t - k] - means[path[t - k]]) for k in range(1, order + 1))
            chance *= np.exp(-0.5 * error**2 / variances[path[t]]) / np.sqrt(2 * np.pi * variances[path[t]])
        total += chance
    small = markov._autoregression()(short, k_regimes=2, order=order, switching_ar=False, switching_variance=True)
    params = np.r_[0.95, 0.1, means, variances, memory]
    assert small.loglike(params) == pytest.approx(np.log(total), abs=1e-10)


def test_it_is_a_detector_and_finds_planted_states():
    X, state = planted(900)
    check_detector(MarkovSwitching(), X[:300], cuts=30)
    check_detector(MarkovSwitching(order=1), X[:300], cuts=10)
    turbulent = walk_forward_filter(X, MarkovSwitching(), first=400, refit=250)
    assert ((turbulent.probabilities["turbulent"] > 0.5) == (state[400:] == 1)).mean() > 0.93
    assert not turbulent.in_sample().any()


def test_the_first_rows_have_learned_nothing():
    X, _ = planted(300)
    model = MarkovSwitching(order=3).fit(X)
    shares = markov._stationary(model.moves_)
    assert shares @ model.moves_ == pytest.approx(shares) and shares.sum() == pytest.approx(1)
    assert model.filter(X).probabilities.to_numpy()[:3] == pytest.approx(np.tile(shares, (3, 1)))
    assert model.filter(X[:2]).probabilities.to_numpy() == pytest.approx(np.tile(shares, (2, 1)))
    assert model.filter(X[:0]).probabilities.empty and model.smooth(X[:0]).probabilities.empty


def test_names_follow_the_deviation_and_reordering_moves_states_not_names():
    X, _ = planted(500)
    model = MarkovSwitching().fit(X)
    assert model.moments()[1][0, 0, 0] < model.moments()[1][1, 0, 0] and model.states_ == ["calm", "turbulent"]
    before, other = model.filter(X).probabilities, MarkovSwitching().fit(X).reorder(np.array([1, 0]))
    assert match_states(model, other).tolist() == [1, 0]
    assert other.filter(X).probabilities.iloc[:, ::-1].to_numpy() == pytest.approx(before.to_numpy())
    assert list(other.transition_table().index) == model.states_
    assert other.transition_table().to_numpy() == pytest.approx(model.transition_table().to_numpy()[::-1, ::-1])


def test_a_search_that_ran_out_of_steps_says_so():
    X, _ = planted(300)
    assert MarkovSwitching().fit(X).converged_ and not MarkovSwitching(n_iter=1).fit(X).converged_


def test_what_it_cannot_read_is_refused():
    X, _ = planted(300)
    for model, frame, error in (
        (MarkovSwitching(), X.assign(more=X["log_return"] ** 2), ConfigError),
        (MarkovSwitching(order=-1), X, ConfigError),
        (MarkovSwitching(n_states=1), X, ConfigError),
        (MarkovSwitching(n_iter=0), X, ConfigError),
        (MarkovSwitching(), X[:39], DataError),
        (MarkovSwitching(), X[:0], DataError),
        (MarkovSwitching(), X[:1], DataError),
        (MarkovSwitching(), X * 0 + 1, DataError),
        (MarkovSwitching(), X * np.nan, DataError),
        (MarkovSwitching(), X * np.inf, DataError),
        (MarkovSwitching(), X.iloc[::-1], PanelError),
    ):
        with pytest.raises(error):
            model.fit(frame)
    zoned = X.tz_localize("America/New_York")
    assert MarkovSwitching().fit(zoned).filter(zoned).probabilities.index.equals(zoned.index)
