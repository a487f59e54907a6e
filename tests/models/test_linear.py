"Fama-MacBeth: numpy's least squares date by date, statsmodels' HAC errors, planted premia, shocks, degenerate dates."

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from quantlab.core.errors import ConfigError, DataError
from quantlab.models.base import check_model
from quantlab.models.linear import FamaMacBeth, RidgeModel


def world(n_dates: int = 250, n_symbols: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates).as_unit("us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(rng.normal(size=(len(index), 3)), index=index, columns=["b", "a", "c"])
    shock = np.repeat(rng.normal(0, 5, n_dates), n_symbols)
    premium = np.repeat(0.3 + 0.2 * rng.normal(size=n_dates), n_symbols)
    return X, pd.Series(premium * X["a"] - 0.1 * X["c"] + shock + rng.normal(size=len(X)), index=index, name="y")


@pytest.mark.parametrize("weighted", [False, True])
def test_each_date_is_numpys_least_squares(weighted):
    X, y = world(60)
    weight = pd.Series(np.random.default_rng(1).uniform(0.1, 2, len(X)), index=X.index) if weighted else None
    model = FamaMacBeth().fit(X, y, weight)
    for date in X.index.unique("date"):
        root = 1.0 if weight is None else np.sqrt(weight.loc[date].to_numpy())
        design = sm.add_constant(X.loc[date, ["a", "b", "c"]].to_numpy()) * np.atleast_1d(root).reshape(-1, 1)
        expected = np.linalg.lstsq(design, y.loc[date].to_numpy() * root)[0]
        assert model.by_date_.loc[date].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert model.coef_.to_numpy() == pytest.approx(model.by_date_[["a", "b", "c"]].mean().to_numpy())


@pytest.mark.parametrize("lag", [0, 5, 40])
def test_errors_are_those_of_statsmodels(lag):
    model = FamaMacBeth(lag).fit(*world())
    for name in ("a", "b", "c"):
        x = model.by_date_[name].to_numpy()
        theirs = sm.OLS(x, np.ones(len(x))).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})
        assert model.summary().loc[name, ["se", "t"]].to_numpy() == pytest.approx(
            [theirs.bse[0], theirs.tvalues[0]], rel=1e-9
        )


def test_planted_premia_are_found_and_shocks_ignored():
    X, y = world()
    summary = FamaMacBeth(5).fit(X, y).summary()
    assert (summary["coefficient"] - pd.Series({"a": 0.3, "b": 0.0, "c": -0.1})).abs().lt(3 * summary["se"]).all()
    assert summary.loc["a", "t"] > 10 and abs(summary.loc["b", "t"]) < 3 and summary.loc["c", "t"] < -4
    assert FamaMacBeth(5).fit(X, y + 100.0).coef_.to_numpy() == pytest.approx(summary["coefficient"].to_numpy())


def test_the_contract_holds():
    X, y = world(30)
    assert (check_model(FamaMacBeth(), X.mask(X > 2.5), y) == "pass").all()


def test_degenerate_dates_are_left_out_and_counted():
    X, y = world(20)
    X.loc[X.index.unique("date")[3], "b"] = 1.0
    model = FamaMacBeth().fit(X, y)
    assert model.skipped_ == 1 and X.index.unique("date")[3] not in model.by_date_.index
    for bad in (X.assign(b=0.0), X.assign(d=X["a"] + X["c"]), X * np.nan):
        with pytest.raises(DataError, match="no date tells"):
            FamaMacBeth().fit(bad, y)
    one = X.index.get_level_values("symbol") == "S00"
    with pytest.raises(DataError, match="no date tells"):
        FamaMacBeth().fit(X[one], y[one])
    with pytest.raises(ConfigError, match="lag"):
        FamaMacBeth(float("nan")).fit(X, y)


def test_single_precision_is_computed_in_double():
    X, y = world(30)
    small = X.astype("float32")
    for model in (RidgeModel(), FamaMacBeth()):
        assert (
            model.fit(small, y).predict(small)["score"]
            == model.fit(small.astype("float64"), y).predict(small.astype("float64"))["score"]
        ).all()


def two_rows() -> tuple[pd.DataFrame, pd.Series]:
    index = pd.MultiIndex.from_product([pd.DatetimeIndex(["2020-01-02"]).as_unit("us"), ["A", "B"]])
    index.names = ["date", "symbol"]
    return pd.DataFrame({"x": [-1.0, 1.0]}, index), pd.Series([-1.0, 1.0], index)


def test_a_column_that_is_empty_or_constant_gets_the_coefficient_zero():
    X, y = two_rows()
    model = RidgeModel().fit(X.assign(empty=np.nan, constant=7.0), y)
    assert model.coef_[["empty", "constant"]].tolist() == [0.0, 0.0]


def test_one_row_is_its_own_mean_and_no_rows_give_no_scores():
    X, y = two_rows()
    assert RidgeModel().fit(X.iloc[:1], y.iloc[:1]).predict(X.iloc[:1])["score"].tolist() == [-1.0]
    assert len(RidgeModel().fit(X, y).predict(X.iloc[:0])) == 0


@pytest.mark.parametrize(("model", "error"), [(RidgeModel(float("nan")), ConfigError), (FamaMacBeth(-1), ConfigError)])
def test_a_setting_out_of_range_is_refused(model, error):
    with pytest.raises(error, match="expected a number >= 0"):
        model.fit(*two_rows())


@pytest.mark.parametrize("model", [RidgeModel(), FamaMacBeth()])
def test_no_rows_to_train_on_are_refused(model):
    X, y = two_rows()
    with pytest.raises(DataError, match="no rows to train on"):
        model.fit(X.iloc[:0], y.iloc[:0])


def test_a_date_with_one_name_is_skipped_and_alone_refused():
    X, y = world(2, 3)
    X, y = X[["a"]], 2 * X["a"]
    ragged = FamaMacBeth().fit(X.iloc[:4], y.iloc[:4])
    assert ragged.skipped_ == 1 and ragged.coef_["a"] == pytest.approx(2) and np.isnan(ragged.summary()["t"]["a"])
    assert len(ragged.predict(X.iloc[:0])) == 0
    with pytest.raises(DataError, match="no date tells"):
        FamaMacBeth().fit(X.iloc[:1], y.iloc[:1])
