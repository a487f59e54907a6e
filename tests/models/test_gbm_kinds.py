"""Trees that rank dates, obey signs, stop on rank IC and read float32 where it lies."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.synth import synth_market
from quantlab.labels.forward import forward_returns
from quantlab.models import gbm
from quantlab.models.base import check_model
from quantlab.models.gbm import GBMModel, grade, hold_out
from quantlab.validation.scores import rank_ic

QUICK = dict(n_estimators=20, min_child_samples=20, num_threads=1)


def panel(n_dates: int = 60, n_symbols: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates, unit="us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(random.normal(size=(len(index), 3)), index=index, columns=["b", "a", "c"])
    return X, pd.Series(X["a"] + random.normal(size=len(X)), index=index, name="y")


@pytest.mark.parametrize(
    "kind",
    [
        {"objective": "lambdarank"},
        {"objective": "quantile", "alpha": 0.2},
        {"early_stopping": 3, "purge": 2},
        {"monotone": {"a": 1}},
        {"reg_alpha": 1.0, "max_depth": 2},
    ],
)
def test_the_contract_holds_for_every_kind(kind):
    assert (check_model(GBMModel(**{**QUICK, "n_estimators": 6}, **kind), *panel()) == "pass").all()


def test_a_planted_factor_is_ranked_by_returns_and_by_dates():
    made = synth_market(n_symbols=60, n_dates=500, ic=0.08, seed=1)
    y = forward_returns(made.bars, 1)["y"].dropna()
    X, early = made.features.loc[y.index], np.arange(len(y)) < 400 * 60
    for objective in ("regression", "lambdarank"):
        model = GBMModel(30, min_child_samples=200, num_leaves=8, objective=objective, num_threads=1).fit(
            X[early], y[early]
        )
        assert rank_ic(model.predict(X[~early])["score"], y[~early]).mean() > 0.04, objective
        assert model.importance().index[0] == "factor"


def test_lambdarank_is_lightgbms():
    X, y = panel()
    ours = GBMModel(**QUICK, objective="lambdarank", grades=4).fit(X, y)
    settings_ = {
        "objective": "lambdarank",
        "label_gain": [0, 1, 2, 3],
        "lambdarank_truncation_level": 20,
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 20,
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
    labels = np.ceil(y.groupby("date").rank() / 20 * 4 - 1e-9).astype(int) - 1
    theirs = lightgbm.train(settings_, lightgbm.Dataset(X[["a", "b", "c"]], labels, group=[20] * 60), 20)
    assert (ours.predict(X)["score"].to_numpy() == theirs.predict(X[["a", "b", "c"]])).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=30), st.integers(2, 10))
def test_grades_keep_order_and_range(values, n):
    index = pd.MultiIndex.from_product(
        [[pd.Timestamp("2020-01-01")], [f"S{i:02d}" for i in range(len(values))]], names=["date", "symbol"]
    )
    found = grade(pd.Series(values, index=index), n)
    assert found.between(0, n - 1).all()
    assert (np.diff(found.to_numpy()[np.argsort(values, kind="stable")]) >= 0).all()


def test_monotone_scores_only_rise():
    X, y = panel()
    model = GBMModel(**QUICK, monotone={"a": 1, "c": -1}).fit(X, y + 0.3 * X["c"])
    for name, sign in (("a", 1), ("c", -1)):
        line = X.iloc[:50] * 0.0
        line[name] = np.linspace(-3, 3, 50)
        assert (model.predict(line)["score"].diff().dropna() * sign >= 0).all()


def test_it_stops_at_the_best_rank_ic_of_whole_purged_dates():
    X, y = panel(100, 20)
    model = GBMModel(**{**QUICK, "n_estimators": 300}, early_stopping=10, validation=0.25, purge=5).fit(X, y)
    assert model.best_iteration_ == model.ic_.argmax() + 1 == len(model.ic_) - 10
    learn, watch = hold_out(X.index, 0.25, 5)
    assert (learn, watch) == (slice(0, 70 * 20), slice(75 * 20, 100 * 20))
    alone = GBMModel(**{**QUICK, "n_estimators": int(model.best_iteration_)}).fit(X.iloc[learn], y.iloc[learn])
    pd.testing.assert_frame_equal(model.predict(X), alone.predict(X), check_exact=True)
    patient = GBMModel(**{**QUICK, "n_estimators": len(model.ic_)}, early_stopping=500, validation=0.25, purge=5).fit(
        X, y
    )
    pd.testing.assert_frame_equal(
        model.predict(X), patient.predict(X), check_exact=True
    )  # the best trees count, stopped or not
    assert model.ic_.max() == pytest.approx(
        rank_ic(alone.predict(X.iloc[watch])["score"], y.iloc[watch]).mean(), abs=1e-12
    )


def test_the_purged_sessions_and_the_order_of_training_rows_do_not_matter_to_stopping():
    X, y = panel(100, 20)
    changed = y.copy()
    changed.iloc[70 * 20 : 75 * 20] = 99.0
    model = GBMModel(**QUICK, early_stopping=5, validation=0.25, purge=5)
    assert model.fit(X, y).predict(X).equals(model.fit(X, changed).predict(X))


def test_an_eval_set_stops_too_and_all_rows_are_trained_on():
    X, y = panel(100, 20)
    early, late = slice(0, 1400), slice(1500, None)
    inside = GBMModel(**QUICK, early_stopping=5, validation=0.25, purge=5).fit(X, y)
    given_ = GBMModel(**QUICK, early_stopping=5).fit(
        X.iloc[early], y.iloc[early], eval_set=(X.iloc[late], y.iloc[late])
    )
    assert given_.predict(X).equals(inside.predict(X))


def test_float32_gives_the_trees_of_float64_and_is_not_copied(monkeypatch):
    X, y = panel()
    small = X[["a", "b", "c"]].astype("float32")
    assert (
        GBMModel(**QUICK)
        .fit(small, y)
        .predict(small)
        .equals(GBMModel(**QUICK).fit(small.astype("float64"), y).predict(small))
    )
    taken, real = [], lightgbm.Dataset
    monkeypatch.setattr(
        gbm.lightgbm, "Dataset", lambda matrix, *rest, **more: taken.append(matrix) or real(matrix, *rest, **more)
    )
    GBMModel(**QUICK).fit(small, y)
    assert taken[0].dtype == np.float32 and np.shares_memory(taken[0], small.to_numpy())


def test_slices_do_not_show(monkeypatch):
    X, y = panel()
    whole = GBMModel(**QUICK).fit(X, y).predict(X)
    monkeypatch.setattr(gbm, "_SLICE", 7)
    assert GBMModel(**QUICK).fit(X, y).predict(X).equals(whole)
    X.iloc[1199, 0] = np.inf
    with pytest.raises(DataError, match="infinite for S19"):
        GBMModel(**QUICK).fit(X, y)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"monotone": {"z": 1}}, "monotone"),
        ({"monotone": {"a": 2}}, "monotone"),
        ({"early_stopping": 5}, "purge is None"),
        ({"early_stopping": 5, "purge": 50}, "leave none"),
        ({"grades": 1}, "grades"),
        ({"validation": 0.0, "early_stopping": 5, "purge": 1}, "validation"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, error):
    with pytest.raises(ConfigError, match=error):
        GBMModel(**QUICK, **wrong).fit(*panel())


def test_degenerate_panels_of_each_kind():
    X, y = panel()
    with pytest.raises(PanelError, match="at least one column"):
        GBMModel(**QUICK).fit(X[[]], y)
    with pytest.raises(DataError, match="no rows"):
        GBMModel(**QUICK, early_stopping=2, purge=1).fit(X.iloc[:0], y.iloc[:0])
    one = GBMModel(**QUICK, objective="lambdarank").fit(X.iloc[:1], y.iloc[:1])
    assert np.isfinite(one.predict(X)["score"]).all() and len(one.predict(X.iloc[:0])) == 0


def eight() -> tuple[pd.DataFrame, pd.Series]:
    X, _ = panel(1, 8)
    return X[["a"]].assign(a=[1.0] * 4 + [9.0] * 4), pd.Series([0.0, 2.0, 0.0, 2.0, 5.0, 7.0, 5.0, 7.0], X.index)


def test_one_row_to_train_on_gives_no_split():
    X, y = eight()
    one = GBMModel(num_threads=1).fit(X.iloc[:1], y.iloc[:1])
    assert one.predict(X)["score"].tolist() == [0.0] * 8 and one.importance().tolist() == [0.0]
    assert len(one.predict(X.iloc[:0])) == 0 and one.history_.empty


def test_a_feature_without_a_value_leaves_the_mean():
    X, y = eight()
    blank = GBMModel(min_child_samples=1, num_threads=1).fit(X * np.nan, y)
    assert np.allclose(blank.predict(X)["score"], y.mean())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"num_leaves": 1}, "num_leaves is 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"monotone": {"z": 1}}, "monotone has"),
        ({"early_stopping": 1, "purge": 1}, "dates leave none to learn from"),
    ],
)
def test_a_setting_out_of_range_names_itself(setting, named):
    with pytest.raises(ConfigError, match=named):
        GBMModel(**setting).fit(*eight())


def test_no_rows_to_train_on_are_refused_and_none_are_graded():
    X, y = eight()
    with pytest.raises(DataError, match="no rows to train on"):
        GBMModel().fit(X.iloc[:0], y.iloc[:0])
    assert len(grade(y.iloc[:0], 5)) == 0


def test_rows_that_are_watched_have_the_columns_of_the_training_rows():
    X, y = eight()
    with pytest.raises(PanelError, match="missing"):
        GBMModel().fit(X, y, eval_set=(X.rename(columns={"a": "z"}), y))
