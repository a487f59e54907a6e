"Calibration: scikit-learn as oracle, exact identities, planted truths, and errors that hold what they promise."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss, mean_pinball_loss

from quantlab.core.errors import ConfigError, DataError
from quantlab.validation.calibration import (
    IsotonicCalibration,
    TemperatureScaling,
    brier,
    calibration_error,
    coverage,
    pinball,
    reliability,
)

forecasts = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(2, 300),
    st.sampled_from(["mass", "width"]),
    st.integers(1, 12),
    st.booleans(),
)


def draw(seed, n, coarse=False):
    rng = np.random.default_rng(seed)
    prob = rng.uniform(size=n)
    prob = np.round(prob, 1) if coarse else prob
    return prob, (rng.uniform(size=n) < prob**1.5).astype(float)


@settings(max_examples=80, deadline=None)
@given(forecasts)
def test_brier_equals_scikit_learn_and_its_parts_add_up(given_):
    seed, n, how, bins, coarse = given_
    prob, y = draw(seed, n, coarse)
    got = brier(prob, y, bins, how)
    assert got.score == pytest.approx(brier_score_loss(y, prob), abs=1e-12)
    assert got.score == pytest.approx(got.reliability - got.resolution + got.uncertainty + got.within, abs=1e-12)
    assert min(got.reliability, got.resolution, got.uncertainty) >= 0 and got.resolution <= got.uncertainty + 1e-12
    assert got.uncertainty == pytest.approx(y.var())
    if coarse and how == "mass" and bins == 12 and len(np.unique(prob)) == 1:
        assert got.within == pytest.approx(0, abs=1e-12)


def test_nothing_is_left_within_when_each_bin_holds_one_forecast():
    prob, y = draw(1, 3000)
    prob = np.floor(prob * 10) / 10 + 0.05
    assert brier(prob, y, 10, "width").within == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 300), st.integers(1, 12))
def test_even_bins_equal_scikit_learn(seed, n, bins):
    prob, y = draw(seed, n)
    got = reliability(prob, y, bins, "width")
    frequency, mean = calibration_curve(y, prob, n_bins=bins, strategy="uniform")
    assert np.allclose(got["frequency"], frequency) and np.allclose(got["prob"], mean)
    assert (
        got["n"].sum() == n
        and ((got["low"] <= got["frequency"] + 1e-12) & (got["frequency"] <= got["high"] + 1e-12)).all()
    )
    assert calibration_error(prob, y, bins, "width").value == pytest.approx(
        (got["n"] * (got["prob"] - got["frequency"]).abs()).sum() / n
    )


def test_equal_mass_bins_are_equal_and_keep_ties_together():
    prob, y = draw(2, 1000)
    assert reliability(prob, y, 10)["n"].tolist() == [100] * 10
    tied = reliability(np.round(prob, 1), y, 4)
    assert tied["n"].sum() == 1000
    assert brier(np.full(50, 0.3), y[:50], 10).resolution == 0  # one forecast, one bin
    with_scikit = calibration_curve(y, prob, n_bins=10, strategy="quantile")
    assert np.allclose(reliability(prob, y, 10)["frequency"], with_scikit[0], atol=0.015)


def test_chance_is_what_honest_probabilities_show():
    rng = np.random.default_rng(3)
    for how in ("mass", "width"):
        seen = [
            calibration_error(p, (rng.uniform(size=800) < p).astype(float), 10, how) for p in rng.beta(2, 3, (150, 800))
        ]
        assert np.mean([e.value for e in seen]) == pytest.approx(np.mean([e.chance for e in seen]), rel=0.05)


def clustered_world(rng, dates=120, names=12, run=1):
    "Outcomes of forecasts of 0.3 that share a date's (or a run of dates') news."
    news = np.repeat(rng.beta(0.3 * 2, 0.7 * 2, -(-dates // run)), run)[:dates]
    return (rng.uniform(size=(dates, names)) < news[:, None]).astype(float).ravel()


@pytest.mark.parametrize("run", [1, 5])
def test_intervals_hold_when_names_and_dates_share_news(run):
    "About 95 % of 150 worlds have the truth inside; with rows taken for independent far fewer do."
    rng, inside, careless, covered = np.random.default_rng(4), [], [], []
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=120, unit="us"), list("ABCDEFGHIJKL")], names=["date", "symbol"]
    )
    for _ in range(150):
        prob, y = pd.Series(0.3, index=index), pd.Series(clustered_world(rng, run=run), index=index)
        for kept, table in (
            (inside, reliability(prob, y, 1, block=run)),
            (careless, reliability(prob.to_numpy(), y.to_numpy(), 1)),
        ):
            kept.append(table["low"].iloc[0] <= 0.3 <= table["high"].iloc[0])
        share = coverage(y, y * 0 - 1, y * 0 + 0.5, block=run).iloc[0]
        covered.append(abs(share["coverage"] - 0.7) <= 1.96 * share["se"])
    assert 0.9 <= np.mean(inside) <= 0.985 and 0.88 <= np.mean(covered) <= 0.985
    assert np.mean(careless) < 0.8


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 5))
def test_planted_temperature_is_recovered(seed, temperature):
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.5, 20_000)
    y = pd.Series(rng.uniform(size=len(odds)) < expit(odds)).astype(float)
    said = pd.DataFrame({"prob": expit(temperature * odds), "score": odds})
    model = TemperatureScaling().fit(said, y)
    assert model.temperature_ == pytest.approx(temperature, rel=0.1)
    got = model.predict(said)
    assert got["score"].equals(said["score"]) and got.index.equals(said.index)
    assert log_loss(y, got["prob"]) <= log_loss(y, said["prob"]) + 1e-9
    assert calibration_error(got["prob"], y).value < 3 * calibration_error(got["prob"], y).chance


def test_isotonic_is_scikit_learns_and_mends_a_wrong_base_rate():
    prob, y = draw(6, 4000)
    X, y = pd.DataFrame({"prob": prob}), pd.Series(y)
    got = IsotonicCalibration().fit(X, y).predict(X)["prob"]
    want = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(prob, y).predict(prob)
    assert np.allclose(got, want) and got[np.argsort(prob)].is_monotonic_increasing
    assert calibration_error(got, y).value < 0.02 < calibration_error(prob, y).value
    assert IsotonicCalibration().fit(X, y).predict(pd.DataFrame({"prob": [0.0, np.nan, 1.0]}))[
        "prob"
    ].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("make", [TemperatureScaling, IsotonicCalibration])
def test_calibrators_keep_the_grammar(make):
    prob, y = draw(7, 500)
    X, y = pd.DataFrame({"prob": prob * 0.98 + 0.01}), pd.Series(y)
    once, again = (clone(make()).fit(X, y).predict(X) for _ in range(2))
    assert once.equals(again)
    late = y.where(y.index < 400)
    assert (
        make().fit(X, late).predict(X).equals(make().fit(X.iloc[:400], y.iloc[:400]).predict(X))
    )  # unknown outcomes are left out
    weighted = make().fit(X, y, sample_weight=(y.index < 400).astype(float) * pd.Series(1.0, y.index)).predict(X)
    assert np.allclose(weighted["prob"], make().fit(X.iloc[:400], y.iloc[:400]).predict(X)["prob"], atol=1e-4)
    for bad_X, bad_y in (
        (X.rename(columns={"prob": "p"}), y),
        (X * 2, y),
        (X, y * 2),
        (X, y * 0),
        (X.iloc[:0], y.iloc[:0]),
        (X, y.iloc[1:]),
    ):
        with pytest.raises(DataError):
            make().fit(bad_X, bad_y)


def test_temperature_refuses_certainty_in_fit_and_keeps_it_in_predict():
    X, y = pd.DataFrame({"prob": [0.0, 0.2, 0.8, 1.0]}), pd.Series([0.0, 1.0, 0.0, 1.0])
    with pytest.raises(DataError, match="2 probabilities are exactly 0 or 1"):
        TemperatureScaling().fit(X, y)
    model = TemperatureScaling().fit(X.iloc[1:3], pd.Series([0.0, 1.0], index=[1, 2]))
    assert model.predict(X)["prob"].iloc[[0, 3]].tolist() == [0.0, 1.0]
    assert TemperatureScaling().fit(
        pd.DataFrame({"prob": [0.9] * 10}), pd.Series([1.0] * 6 + [0.0] * 4)
    ).temperature_ == pytest.approx(logit(0.9) / logit(0.6), rel=1e-5)


def test_coverage_by_group():
    rng = np.random.default_rng(8)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2019-01-01", "2021-12-31", unit="us"), list("ABCD")], names=["date", "symbol"]
    )
    y = pd.Series(rng.standard_normal(len(index)), index=index)
    year = index.get_level_values("date").year
    wide = pd.Series(np.where(year == 2020, 0.5, 1.2816), index=index)
    got = coverage(y, -wide, wide, by=year)
    assert got.index.tolist() == ["all", 2019, 2020, 2021]
    assert got.loc[[2019, 2021], "coverage"].to_numpy() == pytest.approx(0.8, abs=0.04) and got.loc[
        2020, "coverage"
    ] == pytest.approx(0.383, abs=0.04)
    assert np.allclose(got["coverage"] + got["below"] + got["above"], 1)
    rows_as_draws = np.sqrt(got["coverage"] * (1 - got["coverage"]) / got["n"])
    assert np.allclose(
        got["se"].iloc[1:], rows_as_draws.iloc[1:], rtol=0.12
    )  # independent rows: clusters change little
    exact = coverage(y, y, y)
    assert exact.loc["all", "coverage"] == 1 and exact.loc["all", "se"] == 0  # ends included
    with pytest.raises(DataError, match="crossed"):
        coverage(y, wide, -wide)
    with pytest.raises(DataError, match="do not match"):
        coverage(y, wide.iloc[1:], wide)


def test_pinball_equals_scikit_learn():
    rng = np.random.default_rng(9)
    y, q = (
        pd.Series(rng.standard_normal(400)),
        pd.DataFrame(rng.standard_normal((400, 3)), columns=["q5", "q50", "q95"]),
    )
    got = pinball(y, q.assign(score=1.0))
    assert got.to_dict() == pytest.approx(
        {f"q{p}": mean_pinball_loss(y, q[f"q{p}"], alpha=p / 100) for p in (5, 50, 95)}
    )
    assert pinball(y.where(y.index < 100), q).to_dict() == pytest.approx(pinball(y.iloc[:100], q.iloc[:100]).to_dict())
    assert pinball(y * np.nan, q).isna().all()
    for bad in (q.iloc[1:], q[[]], q.rename(columns=str.upper), q[["q5"]].rename(columns={"q5": "q0"})):
        with pytest.raises(DataError):
            pinball(y, bad)


def test_degenerate_and_refused():
    none = pd.Series([], dtype=float)
    assert (
        np.isnan(brier(none, none)).all()
        and np.isnan(calibration_error(none, none)).all()
        and reliability(none, none).empty
    )
    one = reliability(pd.Series([0.4]), pd.Series([1.0]))
    assert one["n"].tolist() == [1] and one["high"].iloc[0] == 1 and 0 < one["low"].iloc[0] < 0.5
    assert np.isnan(brier(none.reindex([1, 2]), none.reindex([1, 2])).score)
    for prob, y in (([0.5, 1.5], [0, 1]), ([0.5, 0.5], [0, 2]), ([np.inf, 0.5], [0, 1]), ([0.5], [0, 1])):
        with pytest.raises(DataError):
            brier(np.array(prob, dtype=float), np.array(y, dtype=float))
    prob, y = draw(10, 50)
    for bad in ({"bins": 0}, {"bins": 2.5}, {"how": "depth"}, {"block": 0}, {"confidence": 1.0}):
        with pytest.raises(ConfigError):
            reliability(prob, y, **bad)
