"""Simulated regimes: the drawn world has the parameters it says, and Bayes' filter is the best there is."""

import itertools

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, PanelError
from quantlab.regime.hmm import HMM
from quantlab.regime.simulated import simulated_regimes, state_accuracy

THREE = {
    "means": (0.001, 0.0, -0.002), "vols": (0.004, 0.01, 0.03),
    "transition": ((0.98, 0.02, 0.0), (0.01, 0.97, 0.02), (0.0, 0.05, 0.95)),
}  # fmt: skip


def test_a_seed_is_a_world():
    one, two, other = simulated_regimes(200, seed=3), simulated_regimes(200, seed=3), simulated_regimes(200, seed=4)
    assert one.returns.equals(two.returns) and one.truth.equals(two.truth)
    assert one.bayes.probabilities.equals(two.bayes.probabilities) and not one.returns.equals(other.returns)


def test_the_world_has_its_parameters():
    world = simulated_regimes(60_000, **THREE, seed=1)
    drawn = world.returns.groupby(world.truth).agg(["mean", "std", "count"]).loc[list(world.means.index)]
    assert list(drawn.index) == ["calm", "normal", "turbulent"]
    assert np.abs(drawn["mean"] - world.means).lt(4 * drawn["std"] / np.sqrt(drawn["count"])).all()
    assert drawn["std"].to_numpy() == pytest.approx(world.vols.to_numpy(), rel=0.02)
    now, then = world.truth.to_numpy()[:-1], world.truth.to_numpy()[1:]
    moved = pd.crosstab(now, then, normalize="index").to_numpy()
    assert moved == pytest.approx(world.transition.to_numpy(), abs=0.006)
    stay = np.linalg.matrix_power(world.transition.to_numpy(), 5000)[0]
    assert world.truth.value_counts(normalize=True)[list(world.means.index)].to_numpy() == pytest.approx(stay, abs=0.03)


def test_bayes_filter_is_the_sum_over_all_paths():
    world = simulated_regimes(7, seed=2)
    moves, r = world.transition.to_numpy(), world.returns.to_numpy()
    start = np.linalg.matrix_power(moves, 5000)[0]
    mean, vol = world.means.to_numpy(), world.vols.to_numpy()
    density = np.exp(-((r[:, None] - mean) ** 2) / (2 * vol**2)) / vol
    for t in range(7):
        total = np.zeros(2)
        for path in itertools.product((0, 1), repeat=t + 1):
            chance = start[path[0]] * np.prod([moves[a, b] for a, b in itertools.pairwise(path)])
            total[path[-1]] += chance * np.prod([density[i, s] for i, s in enumerate(path)])
        assert world.bayes.probabilities.iloc[t].to_numpy() == pytest.approx(total / total.sum(), abs=1e-9)
        assert world.bayes.ahead.iloc[t].to_numpy() == pytest.approx(total / total.sum() @ moves, abs=1e-9)


def test_probabilities_of_bayes_are_calibrated():
    "Of the days with a probability near p, a share near p is turbulent: only the right filter can say so."
    world = simulated_regimes(60_000, seed=6)
    p, wild = world.bayes.probabilities["turbulent"], world.truth.eq("turbulent")
    bins = pd.cut(p, [0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
    table = pd.DataFrame({"said": p, "was": wild}).groupby(bins, observed=True).agg(["mean", "count"])
    error = np.sqrt(0.25 / table[("said", "count")])
    assert len(table) == 7 and (table[("said", "mean")] - table[("was", "mean")]).abs().lt(5 * error + 0.01).all()


def test_nobody_filters_better_than_bayes_and_a_fitted_model_comes_within_two_points():
    gaps = []
    for seed in range(8):
        world = simulated_regimes(3000, seed=seed)
        X = world.inputs()
        known = HMM(2, n_starts=1).fit(X[:2000]).filter(X).probabilities[2000:]
        gaps.append(state_accuracy(world.bayes.probabilities[2000:], world.truth) - state_accuracy(known, world.truth))
    assert -0.005 < np.mean(gaps) < 0.02


def test_accuracy_by_hand():
    days = pd.bdate_range("2020-01-06", periods=4)
    said = pd.DataFrame({"calm": [0.9, 0.2, 0.6, 0.4], "turbulent": [0.1, 0.8, 0.4, 0.6]}, days)
    truth = pd.Series(["calm", "turbulent", "turbulent", "turbulent"], days)
    assert state_accuracy(said, truth) == 0.75 and state_accuracy(said[:2], truth) == 1.0
    assert np.isnan(state_accuracy(said[:0], truth))
    with pytest.raises(PanelError, match="name them alike"):
        state_accuracy(said.rename(columns={"calm": "quiet"}), truth)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_dates": 1}, {"vols": (0.02, 0.01)}, {"vols": (0.01, 0.01)}, {"vols": (0.0, 0.01)}, {"vols": (-0.01, 0.01)},
        {"vols": (0.01, np.inf)}, {"means": (0.0,)}, {"means": (0.0, np.nan)},
        {"means": (0.0,) * 5, "vols": (0.01, 0.02, 0.03, 0.04, 0.05)},
        {"transition": ((0.9, 0.2), (0.1, 0.9))}, {"transition": ((1.1, -0.1), (0.1, 0.9))},
        {"transition": ((1.0,),)}, {"transition": ((np.nan, 0.5), (0.5, 0.5))},
    ],
)  # fmt: skip
def test_parameters_that_make_no_world_are_refused(bad):
    with pytest.raises(ConfigError):
        simulated_regimes(**bad)


def test_one_state_is_a_world_too():
    world = simulated_regimes(50, means=(0.0,), vols=(0.01,), transition=((1.0,),))
    assert world.truth.eq("calm").all() and world.bayes.probabilities.eq(1.0).all().all()
    assert world.close().iloc[-1] == pytest.approx(100 * np.exp(world.returns.sum()))
