"Processors: against scikit-learn and scipy, fitted on training rows only, one estimator with the model behind them."

import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import QuantileTransformer

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.features.xsection import rank
from quantlab.models.base import check_model, walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel
from quantlab.models.processors import ByDate, FillMissing, RankNorm, RobustZ, chain

PROCESSORS = [
    FillMissing(),
    FillMissing(0.0),
    RobustZ(),
    RobustZ(None),
    RankNorm(50),
    ByDate(),
    ByDate("robust_zscore"),
]
each = pytest.mark.parametrize("processor", PROCESSORS, ids=repr)


@pytest.fixture
def X() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2021-01-01", periods=40).as_unit("us"), [f"S{i:02d}" for i in range(12)]],
        names=["date", "symbol"],
    )
    frame = pd.DataFrame(rng.standard_t(3, size=(len(index), 3)), index=index, columns=["c", "a", "b"])
    return frame.mask(rng.random(frame.shape) < 0.1)


def state(fitted) -> dict:
    return {name: value for name, value in vars(fitted).items() if name.endswith("_")}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[k].equals(b[k]) if hasattr(a[k], "equals") else a[k] == b[k] for k in a)


@each
def test_planted_outliers_of_the_test_span_never_move_the_state(processor, X):
    y = X["a"].fillna(0).rename("y")
    splits = [(np.arange(240), np.arange(240, 360)), (np.arange(360), np.arange(360, 480))]
    late = np.arange(len(X)) >= 360
    ruined = X.mul(np.where(late, 1e9, 1.0), axis=0)
    ruined[late & (np.arange(len(X)) % 7 == 0)] = np.nan
    model = chain(processor, FillMissing(0.0), RidgeModel())
    clean, dirty = (walk_forward(model, frame, y, splits) for frame in (X, ruined))
    for a, b in zip(clean.models, dirty.models, strict=True):
        assert equal(state(a[0]), state(b[0])) and a[-1].coef_.equals(b[-1].coef_)
    first = clean.predictions["fold"] == 0
    assert clean.predictions[first].equals(dirty.predictions[first])


@each
def test_rows_columns_and_holes_are_kept(processor, X):
    out = clone(processor).fit(X).transform(X)
    assert out.index.equals(X.index) and sorted(out) == ["a", "b", "c"]
    assert isinstance(processor, FillMissing) or (out.isna() == X[out.columns].isna()).all(axis=None)
    shuffled = clone(processor).fit(X[["b", "c", "a"]]).transform(X)
    pd.testing.assert_frame_equal(shuffled, out, check_exact=True)
    with pytest.raises(PanelError, match="unknown"):
        clone(processor).fit(X).transform(X.assign(d=1.0))
    with pytest.raises(DataError, match="infinite"):
        clone(processor).fit(X.replace(X.max().max(), np.inf))
    with pytest.raises(DataError, match="no rows"):
        clone(processor).fit(X.iloc[:0])


def test_fill_and_z_are_those_of_the_libraries(X):
    train, later = X.iloc[:300], X.iloc[300:]
    filled = FillMissing().fit(train).transform(later)
    assert (
        filled.to_numpy()
        == SimpleImputer(strategy="median").fit(train[filled.columns]).transform(later[filled.columns])
    ).all()
    z = RobustZ(None).fit(train).transform(later)
    expected = (later - train.median()) / median_abs_deviation(train, nan_policy="omit", scale="normal")
    pd.testing.assert_frame_equal(z, expected[z.columns], rtol=1e-5)
    assert RobustZ(2.0).fit(train).transform(later).abs().max().max() == 2.0


def test_ranks_are_scikit_learns_quantiles(X):
    train, later = X.iloc[:300], X.iloc[300:]
    ours = RankNorm(100).fit(train).transform(later)
    theirs = (
        QuantileTransformer(n_quantiles=100, subsample=None).fit(train[ours.columns]).transform(later[ours.columns])
    )
    assert np.allclose(ours, 2 * theirs - 1, atol=1e-9, equal_nan=True)
    assert ByDate().fit(train).transform(later).equals(rank(later[["a", "b", "c"]]))


@pytest.mark.parametrize(
    "model",
    [
        chain(RobustZ(), FillMissing(0.0), RidgeModel()),
        chain(ByDate(), GBMModel(10, min_child_samples=5, num_threads=1)),
        chain(RankNorm(), FillMissing(), RidgeModel()),
    ],
    ids=["z", "date", "rank"],
)
def test_a_chain_is_a_model(model, X):
    y = X["a"].fillna(0).rename("y")
    assert (check_model(model, X, y) == "pass").all()


def test_weights_reach_the_model_at_the_end(X):
    y, weight = X["a"].fillna(0), pd.Series(np.linspace(0, 1, len(X)), index=X.index)
    processed = FillMissing().fit(X).transform(X)
    expected = RidgeModel().fit(processed, y, weight).coef_
    assert chain(FillMissing(), RidgeModel()).fit(X, y, weight)[-1].coef_.equals(expected)
    with pytest.raises(ConfigError, match="ends with a model"):
        chain(FillMissing())
