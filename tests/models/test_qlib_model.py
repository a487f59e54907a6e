"Models of Qlib as estimators of the house: what goes in arrives, what comes out is theirs, nothing is left behind."

import os
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.models.base import check_model
from quantlab.models.qlib import QlibModel, qlib_model, to_dataset

pytestmark = pytest.mark.skipif(find_spec("qlib") is None, reason="the extra qlib is not installed")
TREES = {
    "num_boost_round": 15,
    "early_stopping_rounds": 50,
    "num_threads": 1,
    "seed": 3,
    "deterministic": True,
    "force_col_wise": True,
    "min_data_in_leaf": 5,
}
ZSCORE = {"class": "ZScoreNorm", "kwargs": {"fields_group": "feature"}}


@pytest.fixture(scope="module")
def market():
    "Twelve names, 60 dates, three features with holes, an outcome that depends on two of them."
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=60).as_unit("us"), [f"S{i:02d}" for i in range(12)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(rng.normal(size=(len(index), 3)), index, ["c", "a", "b"])
    y = (X["a"] - X["b"] ** 2 + rng.normal(size=len(index))).rename("y")
    X.iloc[rng.random(len(index)) < 0.05, 1] = np.nan
    drop = rng.random(len(index)) < 0.1  # not every name on every date
    return X[~drop], y[~drop]


def test_trees_are_those_of_lightgbm_itself(market):
    import lightgbm

    X, y = market
    ours = QlibModel(settings=TREES, valid=0).fit(X, y).predict(X)["score"]
    parameters = {k: v for k, v in TREES.items() if k not in ("num_boost_round", "early_stopping_rounds")} | {
        "objective": "mse",
        "verbosity": -1,
    }
    columns = sorted(X.columns)
    booster = lightgbm.train(parameters, lightgbm.Dataset(X[columns].to_numpy(), y.to_numpy()), 15)
    np.testing.assert_array_equal(ours, booster.predict(X[columns].to_numpy()))


def test_early_stopping_sees_the_last_dates_after_the_gap(market):
    X, y = market
    dates = X.index.unique("date")
    before = QlibModel(settings=TREES, valid=0.25, gap=5).fit(X, y).predict(X)
    gap = (X.index.get_level_values("date") >= dates[40]) & (X.index.get_level_values("date") < dates[45])
    same = QlibModel(settings=TREES, valid=0.25, gap=5).fit(X, y.where(~gap, 99.0)).predict(X)
    assert same.equals(before)  # what lies in the gap is neither trained on nor watched
    train = X.index.get_level_values("date") < dates[40]
    fewer = QlibModel(settings=TREES | {"early_stopping_rounds": 1}, valid=0.25, gap=5).fit(X, y.where(train, -y))
    assert fewer.model_.model.best_iteration == 1  # an outcome turned round stops at once


def test_processors_learn_from_training_dates_alone(market):
    X, y = market
    late = X.index.get_level_values("date") >= X.index.unique("date")[45]
    model = lambda: QlibModel(
        "qlib.contrib.model.linear.LinearModel", {"fit_intercept": True}, [ZSCORE, {"class": "Fillna"}], valid=0.25
    )
    a = model().fit(X, y)
    other = X.copy()
    other[late] = other[late] * 50 + 7
    b = model().fit(other, y)  # the last quarter is the validation segment
    assert np.array_equal(a.model_.coef_, b.model_.coef_) and np.array_equal(
        a.processors_[0].mean_train, b.processors_[0].mean_train
    )
    assert not np.isnan(a.predict(X)["score"]).any()
    assert np.allclose(a.predict(X[late])["score"], a.predict(X)["score"][late])


def test_weights_reach_the_model(market):
    X, y = market
    X = X.fillna(0.0)
    half = np.arange(len(X)) % 2 == 0
    line = lambda: QlibModel("qlib.contrib.model.linear.LinearModel", {"fit_intercept": True}, valid=0)
    weighted = line().fit(X, y.where(half, 1e3), sample_weight=pd.Series(half.astype(float), X.index))
    assert np.allclose(weighted.model_.coef_, line().fit(X[half], y[half]).model_.coef_)


def test_nothing_is_left_behind(market, tmp_path, monkeypatch, capsys):
    import logging

    from qlib.workflow import R

    monkeypatch.chdir(tmp_path)
    X, y = market
    before, level = R._provider, logging.root.manager.disable
    QlibModel(settings=TREES).fit(X, y).predict(X)
    with pytest.raises(ConfigError, match="cannot be made"):
        QlibModel(
            settings={"loss": "mse", "nonsense": object, "early_stopping_rounds": 1} | {"loss": "x"},
            path="qlib.contrib.model.linear.LinearModel",
        ).fit(X, y)
    assert os.listdir(tmp_path) == [] and R._provider is before and logging.root.manager.disable == level
    assert capsys.readouterr().out == ""


def test_learn_processors_and_order_of_rows(market):
    X, y = market
    dataset = to_dataset(
        X,
        y,
        {"train": ("2020-01-01", "2020-12-31")},
        learn=[{"class": "CSZScoreNorm", "kwargs": {"fields_group": "label"}}],
    )
    learned = dataset.prepare("train", col_set="label", data_key="learn").iloc[:, 0]
    expected = (y - y.groupby(level="date").transform("mean")) / y.groupby(level="date").transform("std")
    np.testing.assert_allclose(learned.to_numpy(), expected.to_numpy(), rtol=1e-9)


def test_contract_and_refusals(market):
    X, y = market
    assert (check_model(QlibModel(settings=TREES, gap=2), X, y) == "pass").all()
    with pytest.raises(DataError, match="leave none to train on"):
        QlibModel(valid=0.5, gap=40).fit(X, y)
    for wrong in ({"valid": 1.0}, {"valid": -0.1}, {"gap": -1}):
        with pytest.raises(ConfigError, match="valid is"):
            QlibModel(**wrong).fit(X, y)
    for path in ("qlib.nothing.Here", "LGBModel", "qlib.contrib.model.gbdt.Nobody"):
        with pytest.raises(ConfigError):
            QlibModel(path).fit(X, y)


def test_a_model_of_qlib_by_its_name_is_that_class_with_what_it_needs(market):
    X, y = market
    named = qlib_model("LightGBM", TREES, gap=2)
    assert named.path.endswith("gbdt.LGBModel") and named.gap == 2 and not named.processors
    direct = QlibModel("qlib.contrib.model.gbdt.LGBModel", TREES, gap=2)
    assert np.array_equal(named.fit(X, y).predict(X)["score"], direct.fit(X, y).predict(X)["score"])
    line = qlib_model("Linear", {"estimator": "ols"}).fit(X, y)  # holes are filled, features standardised
    assert line.valid == 0 and np.isfinite(line.predict(X)["score"]).all()
    for wrong in ("Lightgbm", "lightgbm.LGBMRegressor"):
        with pytest.raises(ConfigError, match="DoubleEnsemble"):
            qlib_model(wrong)


def test_rows_that_are_watched_stop_the_trees_and_are_not_learned_from(market):
    X, y = market
    day = X.index.get_level_values("date")
    early, late = day < day.unique()[40], day >= day.unique()[45]
    fits = [
        qlib_model("LightGBM", TREES).fit(X[early], y[early], eval_set=(X[late], sign * y[late])).model_.model
        for sign in (1, -1)
    ]
    first = [one.model_to_string().partition("end of trees")[0].split("Tree=")[1].strip() for one in fits]
    assert first[0] == first[1] and "split_gain" in first[0]
    assert fits[0].best_iteration > fits[1].best_iteration  # against its own sign nothing is gained
