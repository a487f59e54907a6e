"""Quantiles: order, planted spread, coverage of the sample by year, and that only known outcomes steer."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import compute
from quantlab.features.price import momentum, reversal
from quantlab.features.vol import volatility
from quantlab.labels.forward import excess, forward_returns
from quantlab.models.base import check_model, walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.quantile import QuantileModel, conformal, crossed, quantile_names, rearrange
from quantlab.validation.calibration import coverage, pinball
from quantlab.validation.splits import WalkForward

TREES = GBMModel(20, learning_rate=0.1, num_leaves=4, min_child_samples=50, num_threads=1)


def index_of(n_dates: int, n_symbols: int) -> pd.MultiIndex:
    return pd.MultiIndex.from_product(
        [pd.bdate_range("2015-01-01", periods=n_dates, unit="us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )


def ends_after(index: pd.MultiIndex, sessions: int) -> pd.Series:
    dates = index.unique("date")
    later = pd.Series(dates, index=dates).shift(-sessions)
    return pd.Series(later.reindex(index.get_level_values("date")).to_numpy(), index=index)


def wandering(n_dates: int = 800, n_symbols: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "Quantiles of a unit normal for outcomes whose size and place wander."
    random, index = np.random.default_rng(seed), index_of(n_dates, n_symbols)
    size = np.exp(0.5 * np.sin(np.arange(n_dates) / 80)).repeat(n_symbols)
    y = pd.Series(size * random.normal(size=len(index)) + 0.3, index=index)
    fixed = {"q10": -1.2816, "q50": 0.0, "q90": 1.2816}
    return pd.DataFrame(fixed, index=index), y, ends_after(index, 10)


def test_the_contract_holds():
    random, index = np.random.default_rng(0), index_of(40, 10)
    X = pd.DataFrame(random.normal(size=(400, 2)), index=index, columns=["b", "a"])
    y = pd.Series(random.normal(size=400), index=index)
    assert (check_model(QuantileModel(TREES, (0.1, 0.5, 0.9)), X, y) == "pass").all()


def test_planted_spread_is_found_and_levels_hold():
    random, index = np.random.default_rng(0), index_of(300, 20)
    X = pd.DataFrame(
        {"size": random.choice([1.0, 4.0], len(index)), "noise": random.normal(size=len(index))}, index=index
    )
    y = X["size"] * random.normal(size=len(index))
    early = np.arange(len(index)) < 4000
    found = (
        QuantileModel(GBMModel(60, learning_rate=0.1, num_leaves=4, min_child_samples=50, num_threads=1))
        .fit(X[early], y[early])
        .predict(X[~early])
    )
    width = (found["q90"] - found["q10"]).groupby(X["size"]).mean()
    assert np.allclose(width, [2.56, 4 * 2.56], rtol=0.1)
    for name in [c for c in found if c != "score"]:
        assert (y[~early] <= found[name]).mean() == pytest.approx(int(name[1:]) / 100, abs=0.03)
    assert not crossed(found.drop(columns="score")).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_sorting_never_raises_the_loss(seed):
    random, index = np.random.default_rng(seed), index_of(3, 4)
    q = pd.DataFrame(random.normal(size=(12, 4)), index=index, columns=["q10", "q30", "q60", "q90"])
    y = pd.Series(random.normal(size=12), index=index)
    assert pinball(y, rearrange(q)).sum() <= pinball(y, q).sum() + 1e-12
    assert not crossed(rearrange(q)).any()


def test_steering_mends_quantiles_that_are_wrong():
    q, y, t1 = wandering()
    steered = conformal(q, y, t1)
    known = y.index.get_level_values("date") >= y.index.unique("date")[100]
    for name in q:
        level = int(name[1:]) / 100
        assert abs((y <= steered[name])[known].mean() - level) < 0.01 < abs((y <= q[name])[known].mean() - level)
    assert not crossed(steered).any()


def test_good_quantiles_stay_good():
    index = index_of(500, 20)
    y = pd.Series(np.random.default_rng(1).normal(size=len(index)), index=index)
    q = pd.DataFrame({"q10": -1.2816, "q90": 1.2816}, index=index)
    steered = conformal(q, y, ends_after(index, 5))
    assert (steered - q).abs().mean().max() < 0.1
    assert coverage(y, steered["q10"], steered["q90"])["coverage"]["all"] == pytest.approx(0.8, abs=0.01)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 119), st.integers(1, 30), st.integers(0, 100))
def test_only_outcomes_that_have_come_in_steer(cut, delay, seed):
    random, index = np.random.default_rng(seed), index_of(120, 5)
    q = pd.DataFrame({"q10": -1.0, "q50": 0.0, "q90": 1.0}, index=index)
    y, t1 = pd.Series(random.normal(size=len(index)), index=index), ends_after(index, delay)
    date = index.unique("date")[cut]
    open_then = (t1 >= date) | t1.isna()
    ruined = conformal(q, y.where(~open_then, 50.0), t1.where(~open_then, pd.NaT) if seed % 2 else t1)
    honest, until = conformal(q, y, t1), index.get_level_values("date") <= date
    pd.testing.assert_frame_equal(ruined[until], honest[until], check_exact=True)


def test_an_outcome_that_has_just_come_in_does_steer():
    q, y, t1 = wandering(60, 5)
    date = y.index.unique("date")[40]
    known = t1 == y.index.unique("date")[39]
    at = y.index.get_level_values("date") == date
    assert known.any() and not conformal(q, y.mask(known, 50.0), t1)[at].equals(conformal(q, y, t1)[at])


def test_coverage_of_the_sample_is_within_three_points_overall_and_by_year():
    bars = adjust(sample_bars())
    X = compute(bars, [momentum(252, 21), reversal(21), volatility(20), volatility(60)]).dropna()
    labels = forward_returns(bars, 20).reindex(X.index)
    y, dates = excess(labels["y"]), X.index.get_level_values("date")
    thin = y.where(dates.isin(dates.unique()[::10]))
    model = QuantileModel(TREES.set_params(min_child_samples=100), (0.1, 0.3, 0.7, 0.9))
    found = walk_forward(
        model, X, thin, WalkForward(train_sessions=756, test_sessions=252).split(X, t1=labels["t1"])
    ).predictions
    outcome = y.reindex(found.index)
    steered = conformal(found, outcome, labels["t1"].reindex(found.index))
    assert not crossed(steered[["q10", "q30", "q70", "q90"]]).any()
    for low, high, nominal in (("q10", "q90", 0.8), ("q30", "q70", 0.4)):
        held = coverage(outcome, steered[low], steered[high], by=found.index.get_level_values("date").year)["coverage"]
        assert len(held) == 11 and (held - nominal).abs().max() < 0.03, held.to_dict()
    raw = coverage(outcome, found["q10"], found["q90"], by=found.index.get_level_values("date").year)["coverage"]
    assert (raw - 0.8).abs().max() > 0.04  # the correction had something to do


@pytest.mark.parametrize("levels", [(), (0.5,), (0.9, 0.1), (0.1, 0.1), (0.0, 0.5), (0.123, 0.5), (0.5, 1.0)])
def test_levels_without_a_name_are_refused(levels):
    with pytest.raises(ConfigError, match="levels"):
        quantile_names(levels)


def test_what_cannot_be_steered_is_refused():
    q, y, t1 = wandering(50, 5)
    with pytest.raises(ConfigError, match="would swing"):
        conformal(q, y, t1, step=0.5)
    with pytest.raises(ConfigError, match="at least two quantiles"):
        conformal(q[["q10"]], y, t1)
    with pytest.raises(ConfigError, match="rising"):
        conformal(q[["q90", "q10"]], y, t1)
    with pytest.raises(PanelError, match="y does not have the rows"):
        conformal(q, y.iloc[1:], t1)
    with pytest.raises(DataError, match="NaN or infinite"):
        conformal(q.assign(q10=np.nan), y, t1)


def test_degenerate_predictions():
    q, y, t1 = wandering(50, 5)
    assert conformal(q.iloc[:0], y.iloc[:0], t1.iloc[:0]).empty
    for part in (slice(0, 1), slice(0, 5)):
        assert conformal(q.iloc[part], y.iloc[part], t1.iloc[part]).equals(q.iloc[part])
    assert conformal(q, y * np.nan, t1).equals(q)
    only = y.index.get_level_values("symbol") == "S00"
    assert np.isfinite(conformal(q[only], y[only], t1[only])).all().all()
    flat = q * 0.0
    assert conformal(flat, y, t1).equals(flat)  # a width of nothing cannot be widened, and does not become NaN


def some_quantiles() -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    index = index_of(60, 5)
    outcome = pd.Series(np.random.default_rng(3).normal(size=len(index)), index)
    return pd.DataFrame({"score": 0.0, "q10": -1.28, "q90": 1.28}, index), outcome, ends_after(index, 2)


def test_no_rows_are_steered_to_no_rows_and_unknown_outcomes_steer_nothing():
    raw, outcome, ends = some_quantiles()
    empty = conformal(raw.iloc[:0], outcome.iloc[:0], ends.iloc[:0])
    assert len(empty) == 0 and list(empty) == list(raw)
    assert conformal(raw, outcome * np.nan, ends).equals(raw)


def test_rows_that_do_not_match_and_missing_quantiles_are_refused():
    raw, outcome, ends = some_quantiles()
    with pytest.raises(PanelError):
        conformal(raw, outcome.iloc[1:], ends)
    with pytest.raises((DataError, PanelError)):
        conformal(raw.assign(q10=np.nan), outcome, ends)
