"""The whole chain on markets whose truth is known: labels, inference, splits, model."""

import numpy as np
import pytest

from quantlab.data.synth import synth_market
from quantlab.features.xsection import rank
from quantlab.labels.forward import forward_returns
from quantlab.models.base import walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel
from quantlab.validation.inference import mean_ic
from quantlab.validation.splits import WalkForward


def fitted(world, model, horizon=1):
    "Out-of-sample score of a model and the outcome, by the same steps as the tearsheet."
    labels = forward_returns(world.bars, horizon).reindex(world.features.index)
    splits = WalkForward(train_sessions=300, test_sessions=150, embargo=2).split(world.features, t1=labels["t1"])
    score = walk_forward(model, world.features, rank(labels["y"]), splits).predictions["score"]
    return score, labels["y"].reindex(score.index)


@pytest.fixture(scope="module")
def planted():
    return synth_market(n_symbols=60, n_dates=750, ic=0.06, seed=11)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_true_factor_measures_as_planted(seed):
    world = synth_market(n_symbols=60, n_dates=750, ic=0.06, seed=seed)
    test = mean_ic(world.features["factor"], forward_returns(world.bars, 1)["y"])
    assert abs(test.mean - world.truth["ic"]) < 3 * test.se
    assert test.p < 0.01


@pytest.mark.parametrize(
    "model",
    [RidgeModel(), GBMModel(n_estimators=60, learning_rate=0.05, num_leaves=8, min_child_samples=500, num_threads=1)],
    ids=["ridge", "gbm"],
)
def test_a_fitted_model_finds_most_of_it(planted, model):
    score, y = fitted(planted, model)
    true = mean_ic(planted.features["factor"].reindex(score.index), y).mean
    assert mean_ic(score, y).mean >= 0.8 * true > 0


def test_an_overlapping_horizon_measures_as_planted():
    world = synth_market(n_symbols=60, n_dates=900, ic=0.06, horizon=5, persistence=0.5, seed=4)
    test = mean_ic(world.features["factor"], forward_returns(world.bars, 5)["y"])
    assert abs(test.mean - world.truth["ic"]) < 3 * test.se


def test_nothing_planted_is_called_significant_in_at_most_4_of_20_markets():
    found = []
    for seed in range(20):
        world = synth_market(n_symbols=40, n_dates=600, ic=0.0, seed=seed)
        score, y = fitted(world, RidgeModel())
        found.append(mean_ic(score, y).p < 0.05)
    assert sum(found) <= 4, np.flatnonzero(found)


def test_nothing_planted_but_persistent_stays_quiet_too():
    found = []
    for seed in range(20):
        world = synth_market(n_symbols=40, n_dates=600, ic=0.0, persistence=0.97, seed=seed)
        found.append(mean_ic(world.features["factor"], forward_returns(world.bars, 20)["y"]).p < 0.05)
    assert sum(found) <= 4, np.flatnonzero(found)
