"Importance: the planted factor first and noise around zero, the drop by hand, shap's own values."

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from quantlab.core.errors import ConfigError, PanelError
from quantlab.models.gbm import GBMModel
from quantlab.models.importance import alike, contributions, fold_spread, gain, permutation
from quantlab.models.linear import RidgeModel
from quantlab.validation.scores import rank_ic
from quantlab.validation.splits import PurgedKFold

TREES = GBMModel(n_estimators=30, num_leaves=6, min_child_samples=100, num_threads=1)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(11)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=240).as_unit("us"), [f"S{i:02d}" for i in range(40)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(rng.normal(size=(len(index), 5)), index=index, columns=["planted", "n1", "n2", "n3", "n4"])
    X["copy"] = X["planted"] + 0.05 * rng.normal(size=len(X))
    y = pd.Series(0.2 * X["planted"] + rng.normal(size=len(X)), index=index, name="y")
    t1 = pd.Series(index.get_level_values("date"), index=index)
    return X, y, list(PurgedKFold(4, embargo=1).split(X, t1=t1))


def fitted(model, X, y, splits):
    return [clone(model).fit(X.iloc[train], y.iloc[train]) for train, _ in splits], [test for _, test in splits]


@pytest.mark.parametrize("model", [RidgeModel(), TREES], ids=["ridge", "trees"])
def test_the_planted_factor_is_first_and_noise_around_zero(world, model):
    X, y, splits = world
    alone = X.drop(columns="copy")
    table = fold_spread(permutation(*fitted(model, alone, y, splits)[:1], alone, y, [t for _, t in splits]))
    assert table.index[0] == "planted" and table["mean"].iloc[0] > 0.1 and table["positive"].iloc[0] == 1
    noise = table.drop("planted")
    assert (noise["mean"].abs() < 0.02).all() and (noise["mean"].abs() < 4 * noise["se"] + 0.005).all()


def test_a_pair_is_missed_only_together(world):
    X, y, splits = world
    models, tests = fitted(TREES, X, y, splits)
    groups = alike(X)
    assert groups == {"copy + planted": ["copy", "planted"], "n1": ["n1"], "n2": ["n2"], "n3": ["n3"], "n4": ["n4"]}
    single, pair = permutation(models, X, y, tests), permutation(models, X, y, tests, groups)
    assert fold_spread(pair).index[0] == "copy + planted"
    assert pair.loc["copy + planted"].mean() > 1.2 * max(single.loc["planted"].mean(), single.loc["copy"].mean())


def test_a_drop_is_what_shuffling_by_hand_gives(world):
    X, y, splits = world
    models, tests = fitted(RidgeModel(), X, y, splits)
    found = permutation(models, X, y, tests, {"planted": ["planted"], "all": list(X)}, repeats=20)
    test = X.iloc[tests[0]]
    whole = rank_ic(models[0].predict(test)["score"], y.iloc[tests[0]]).mean()
    draws = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shuffled = test.assign(planted=np.concatenate([rng.permutation(x) for _, x in test["planted"].groupby("date")]))
        draws.append(whole - rank_ic(models[0].predict(shuffled)["score"], y.iloc[tests[0]]).mean())
    by_hand = np.mean(draws)
    assert found.loc["planted", 0] == pytest.approx(by_hand, abs=0.02) and found.loc["all"].mean() == pytest.approx(
        whole, abs=0.05
    )
    again = permutation(models, X, y, tests, {"planted": ["planted"]}, repeats=20)
    assert again.loc["planted"].equals(found.loc["planted"]), "what else is shuffled does not matter"


def test_a_shuffle_stays_within_its_date(world):
    X, y, splits = world
    rng = np.random.default_rng(5)
    X = X.assign(weather=np.repeat(rng.normal(size=240), 40))
    models, tests = fitted(TREES, X, y + X["weather"], splits)
    assert (gain(models).loc["weather"] > 0.1).all() and (
        permutation(models, X, y, tests, {"weather": ["weather"]}).abs() < 1e-12
    ).all(axis=None)


def test_missing_outcomes_do_not_count(world):
    X, y, splits = world
    models, tests = fitted(RidgeModel(), X, y, splits)
    gaps = y.where(np.random.default_rng(0).random(len(y)) > 0.3)
    assert fold_spread(permutation(models, X, gaps, tests)).index[0] in ("planted", "copy")
    with pytest.raises(PanelError, match="rows of X"):
        permutation(models, X, y.iloc[1:], tests)


def test_gain_is_shared_over_folds(world):
    X, y, splits = world
    models, _ = fitted(TREES, X, y, splits)
    table = gain(models)
    assert table.shape == (6, 4) and np.allclose(table.sum(), 1) and fold_spread(table).index[0] in ("planted", "copy")
    with pytest.raises(ConfigError, match="RidgeModel"):
        gain(fitted(RidgeModel(), X, y, splits)[0])


@pytest.mark.slow
def test_contributions_are_shaps(world):
    shap = pytest.importorskip("shap")
    X, y, splits = world
    train, test = splits[0]
    trees, line = (clone(m).fit(X.iloc[train], y.iloc[train]) for m in (TREES, RidgeModel()))
    some = X.iloc[test[:40]]
    ours = contributions(trees, some)
    theirs = shap.TreeExplainer(trees.booster_).shap_values(some[sorted(some)])
    assert np.allclose(ours[sorted(some)], theirs) and np.allclose(ours.sum(axis=1), trees.predict(some)["score"])
    background = X.iloc[train[:50]]
    parts = contributions(line, some, background)
    exact = (some - background.mean()) * (line.coef_ / pd.Series(line.pipeline_[1].scale_, index=line.coef_.index))
    assert np.allclose(parts[list(some)], exact[list(some)], atol=1e-9) and np.allclose(
        parts.sum(axis=1), line.predict(some)["score"]
    )
    with pytest.raises(ConfigError, match="needs a background"):
        contributions(line, some)


def test_what_cannot_be_judged_is_refused(world):
    X, y, splits = world
    models, tests = fitted(RidgeModel(), X, y, splits)
    calls = [
        lambda: permutation([], X, y, []),
        lambda: permutation(models, X, y.iloc[1:], tests),
        lambda: permutation(models, X, y, tests, repeats=0),
        lambda: gain([]),
        lambda: alike(X, 1.0),
        lambda: contributions(models[0], X.iloc[:5]),
    ]
    for call in calls:
        with pytest.raises((ConfigError, PanelError)):
            call()


def test_one_feature_is_alike_to_itself_and_one_fold_has_no_error(world):
    X, y, splits = world
    assert alike(X[["planted"]]) == {"planted": ["planted"]}
    models, tests = fitted(RidgeModel(), X, y, splits[:1])
    assert np.isnan(fold_spread(permutation(models, X, y, tests))["se"]).all()
