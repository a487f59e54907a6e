"""Models: the contract, against scikit-learn and LightGBM themselves, planted truth, degenerate panels."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge

from quantlab.core.errors import ConfigError, DataError, LeakError, PanelError, QuantlabError
from quantlab.models.base import as_scores, check_model, walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel

SMALL = GBMModel(n_estimators=20, min_child_samples=10, num_threads=1)
MODELS = [RidgeModel(), SMALL]
names = pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)


def panel(n_dates: int = 40, n_symbols: int = 10, seed: int = 0, signal: float = 1.0) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates).as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    X = pd.DataFrame(random.normal(size=(len(index), 3)), index=index, columns=["b", "a", "c"])
    return X, pd.Series(signal * X["a"] - 0.5 * signal * X["c"] + random.normal(size=len(X)), index=index, name="y")


@names
def test_the_contract_holds(model):
    X, y = panel()
    assert (check_model(model, X.mask(X > 2.2), y) == "pass").all()


@names
def test_planted_weights_are_found_and_noise_is_not(model):
    X, y = panel(200, 20)
    cut = X.index.get_level_values("date") < X.index.unique("date")[150]
    score = model.fit(X[cut], y[cut]).predict(X[~cut])["score"]
    truth = X["a"][~cut] - 0.5 * X["c"][~cut]
    assert score.corr(truth) > 0.85
    X, y = panel(200, 20, signal=0.0)
    assert abs(model.fit(X[cut], y[cut]).predict(X[~cut])["score"].corr(y[~cut])) < 0.1


def test_ridge_is_scikit_learns_ridge():
    X, y = panel()
    columns = X[["a", "b", "c"]]
    scaled = (columns - columns.mean()) / columns.std(ddof=0)
    expected = Ridge(alpha=3.0).fit(scaled, y).predict(scaled)
    assert RidgeModel(3.0).fit(X, y).predict(X)["score"].to_numpy() == pytest.approx(expected, rel=1e-9)


def test_the_gbm_is_lightgbms():
    X, y = panel()
    settings = {
        "objective": "regression",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 10,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "lambda_l2": 1.0,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "seed": 7,
        "verbosity": -1,
    }
    booster = lightgbm.train(settings, lightgbm.Dataset(X[["a", "b", "c"]], y), 20)
    assert (SMALL.fit(X, y).predict(X)["score"].to_numpy() == booster.predict(X[["a", "b", "c"]])).all()


def test_importance_sums_to_one_and_knows_the_planted_column():
    X, y = panel(100, 20)
    share = SMALL.fit(X, y).importance()
    assert share.sum() == pytest.approx(1) and share.index[0] == "a"
    assert (GBMModel(5, min_child_samples=10_000).fit(X, y).importance() == 0).all()


def test_what_was_watched_does_not_change_the_trees():
    X, y = panel(100, 10)
    cut = X.index.get_level_values("date") < X.index.unique("date")[70]
    alone, watched = (
        SMALL.fit(X[cut], y[cut]).predict(X),
        SMALL.fit(X[cut], y[cut], eval_set=(X[~cut], y[~cut])).predict(X),
    )
    pd.testing.assert_frame_equal(alone, watched, check_exact=True)


@pytest.mark.parametrize(
    "wrong", [{"n_estimators": 0}, {"num_leaves": 1}, {"learning_rate": 0}, {"subsample": 1.5}, {"num_threads": 0}]
)
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GBMModel(**wrong).fit(*panel())


@names
def test_degenerate_panels(model):
    X, y = panel()
    with pytest.raises(DataError, match="no rows"):
        model.fit(X.iloc[:0], y.iloc[:0])
    one = model.fit(X.iloc[:1], y.iloc[:1])
    assert one.predict(X)["score"].nunique() == 1
    blank = model.fit(X * np.nan, y).predict(X * np.nan)["score"]
    assert np.allclose(blank, y.mean(), atol=1e-9)
    symbol = X.index.get_level_values("symbol") == "S00"
    assert len(model.fit(X[symbol], y[symbol]).predict(X[symbol])) == 40
    with pytest.raises(DataError, match="infinite"):
        model.fit(X.replace(X.iloc[3, 0], np.inf), y)


class ZScores(BaseEstimator):
    "A model with a leak: it normalises over all rows it is asked about."

    def fit(self, X, y, sample_weight=None):
        return self

    def predict(self, X):
        return as_scores(((X - X.mean()) / X.std())["a"], X.index)


def test_a_model_that_looks_at_other_rows_is_caught():
    with pytest.raises(LeakError, match="other rows"):
        check_model(ZScores(), *panel())


class Careless(RidgeModel):
    "A model that swallows what it cannot know."

    def fit(self, X, y, sample_weight=None):
        return super().fit(X.replace([np.inf, -np.inf], np.nan), y.reindex(X.index).fillna(0.0), sample_weight)


def test_a_model_that_swallows_missing_outcomes_is_caught():
    with pytest.raises(QuantlabError, match="refuses a NaN outcome"):
        check_model(Careless(), *panel())


def folds(n_dates: int, width: int, train: int, test: int) -> list[tuple[np.ndarray, np.ndarray]]:
    starts = range(train, n_dates - test + 1, test)
    return [(np.arange((s - train) * width, s * width), np.arange(s * width, (s + test) * width)) for s in starts]


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 1000))
def test_walk_forward_predicts_each_test_row_once_and_as_by_hand(train, test, seed):
    X, y = panel(24, 5, seed)
    splits = folds(24, 5, train, test)
    run = walk_forward(RidgeModel(), X, y, splits)
    assert run.predictions.index.equals(X.index[np.concatenate([t for _, t in splits])])
    learn, predict = splits[-1]
    by_hand = RidgeModel().fit(X.iloc[learn], y.iloc[learn]).predict(X.iloc[predict])["score"]
    pd.testing.assert_series_equal(run.predictions["score"].iloc[-len(predict) :], by_hand)


def test_later_outcomes_do_not_reach_earlier_predictions():
    X, y = panel(30, 5)
    splits, changed = folds(30, 5, 10, 5), y.copy()
    changed.iloc[20 * 5 :] = 99.0
    a, b = (walk_forward(SMALL, X, target, splits).predictions["score"] for target in (y, changed))
    early = a.index.get_level_values("date") < X.index.unique("date")[25]
    pd.testing.assert_series_equal(a[early], b[early], check_exact=True)
    assert not a[~early].equals(b[~early])


def test_a_fold_that_trains_on_its_future_is_refused():
    X, y = panel(20, 5)
    with pytest.raises(LeakError, match="fold 0 trains on"):
        walk_forward(RidgeModel(), X, y, [(np.arange(60), np.arange(50, 80))])
    with pytest.raises(PanelError, match="predicted by fold 0 and again by fold 1"):
        walk_forward(RidgeModel(), X, y, [(np.arange(25), np.arange(50, 80)), (np.arange(25), np.arange(50, 60))])
    with pytest.raises(PanelError, match="no folds"):
        walk_forward(RidgeModel(), X, y, [])
