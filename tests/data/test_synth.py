"""data.synth: the planted truth is what independent code measures, and nothing else is planted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from quantlab.core.panel import ConfigError, check_panel, to_wide
from quantlab.data.bars import adjust, check_bars, data_hash
from quantlab.data.synth import STATES, correlation_of, rank_ic_of, synth_market


def mean_ic(market, column="factor", horizon=None):
    h = horizon or market.truth["horizon"]
    opens = to_wide(market.bars["open"]).to_numpy()
    score = to_wide(market.features[column]).to_numpy()[: -h - 1]
    a, b = (rankdata(x, axis=1) for x in (score, opens[h + 1 :] / opens[1:-h] - 1))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return float(((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))).mean())


@given(st.floats(-0.99, 0.99), st.integers(2, 500))
def test_correlation_and_rank_ic_are_inverse(ic, n):
    assert rank_ic_of(correlation_of(ic, n), n) == pytest.approx(ic, abs=1e-10)
    assert abs(correlation_of(ic, n)) <= 1


def test_moran_against_simulation():
    rng = np.random.default_rng(11)
    n, rho = 12, 0.4
    x, e = rng.standard_normal((2, 4000, n))
    got = [spearmanr(a, b).statistic for a, b in zip(x, rho * x + np.sqrt(1 - rho**2) * e, strict=True)]
    assert abs(np.mean(got) - rank_ic_of(rho, n)) < 3 * np.std(got) / np.sqrt(len(got))


PLANS = [
    {},
    {"ic": 0.0},
    {"ic": 0.1, "n_symbols": 5},
    {"ic": 0.1, "n_symbols": 2},
    {"ic": -0.4, "n_symbols": 10},
    {"ic": 0.05, "horizon": 5},
    {"ic": 0.1, "horizon": 20, "persistence": 0.95},
    {"ic": 0.8, "horizon": 5, "persistence": 0.99},
    {"ic": 0.0, "horizon": 20, "persistence": 0.95},
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_measured_ic_is_unbiased_for_the_truth(plan):
    settings_ = {"n_symbols": 25, "n_dates": 150} | plan
    got = np.array([mean_ic(synth_market(**settings_, seed=s)) for s in range(80)])
    error = got.std(ddof=1) / np.sqrt(len(got))
    assert abs(got.mean() - settings_.get("ic", 0.05)) < 3.5 * error and error < 0.02


def test_measured_with_the_house_label_and_score():
    labels = pytest.importorskip("quantlab.labels.forward")
    scores = pytest.importorskip("quantlab.validation.scores")
    for horizon in (1, 5):
        market = synth_market(80, 800, ic=0.1, horizon=horizon, seed=5)
        y = labels.forward_returns(adjust(market.bars), horizon=horizon, entry="open")["y"]
        house = scores.rank_ic(market.features["factor"], y)
        assert house.mean() == pytest.approx(mean_ic(market), abs=1e-9)
        assert house.mean() == pytest.approx(0.1, abs=0.025)
        assert house.notna().sum() == 800 - horizon - 1


def test_noise_is_noise_and_the_past_is_past():
    market = synth_market(100, 1000, ic=0.2, seed=1)
    assert mean_ic(market) == pytest.approx(0.2, abs=0.015)
    assert all(abs(mean_ic(market, f"noise_{i}")) < 0.015 for i in range(1, 5))
    columns = market.features.corr().to_numpy()
    assert np.abs(columns - np.eye(5)).max() < 0.02
    close, factor = to_wide(market.bars["close"]).to_numpy(), to_wide(market.features["factor"]).to_numpy()
    past = np.log(close[1:] / close[:-1])
    past -= past.mean(axis=1, keepdims=True)
    assert abs(np.corrcoef(past.ravel(), factor[1:].ravel())[0, 1]) < 0.01


def test_nothing_moves_but_what_was_asked():
    base = synth_market(20, 100, seed=4)
    pd.testing.assert_frame_equal(synth_market(20, 100, seed=4, n_noise=9).bars, base.bars)
    pd.testing.assert_frame_equal(synth_market(20, 100, seed=4, n_noise=2).features, base.features[["factor", "noise_1", "noise_2"]])
    pd.testing.assert_frame_equal(synth_market(20, 100, seed=4, ic=0.5).features, base.features)
    pd.testing.assert_series_equal(synth_market(20, 100, seed=4, ic=0.5, persistence=0.5).regime, base.regime)
    assert not synth_market(20, 100, seed=5).bars.equals(base.bars)


def test_seed_is_pinned():
    "The same seed gives the same market in every version: known answers elsewhere depend on it."
    made = synth_market(10, 50, seed=3)
    rounded = made.bars.round(6)
    assert data_hash(rounded) == "4381af7d4a1fbbc8" and data_hash(made.features.round(6)) == "d4450c02216f54b3"


@given(st.integers(1, 12), st.integers(1, 40), st.floats(-0.5, 0.5), st.integers(1, 6), st.floats(0, 0.95), st.integers(0, 3), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_market_is_valid(n, dates, ic, horizon, persistence, n_noise, seed, regimes):
    assume(not (n == 1 and ic))
    try:
        market = synth_market(n, dates, ic, horizon, persistence, n_noise, seed, regimes)
    except ConfigError as error:
        assert "out of reach" in str(error) and horizon > 1
        return
    assert check_bars(market.bars) is market.bars and check_panel(market.features) is market.features
    assert market.bars.shape == (n * dates, 6) and market.features.shape == (n * dates, 1 + n_noise)
    assert market.features.index.equals(market.bars.index) and np.isfinite(market.features.to_numpy()).all()
    assert (market.bars["volume"] >= 1).all() and (market.bars["adj"] == 1).all()
    assert market.regime.index.equals(market.bars.index.levels[0]) and set(market.regime) <= set(STATES.index)
    assert regimes or (market.regime == "calm").all()
    assert market.truth["ic"] == ic and market.truth["horizon"] == horizon and abs(market.truth["step"]) <= 1
    with pytest.raises(AttributeError):
        market.bars = None


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_features_are_stationary_with_the_persistence_asked_for(phi):
    features = synth_market(200, 400, persistence=phi, seed=2).features
    for column in ("factor", "noise_1"):
        wide = to_wide(features[column]).to_numpy()
        assert abs(wide[:50].std() - 1) < 0.06 and abs(wide[-50:].std() - 1) < 0.06
        assert abs(np.corrcoef(wide[:-1].ravel(), wide[1:].ravel())[0, 1] - phi) < 0.02


def test_regimes_are_the_planted_ones():
    market = synth_market(50, 6000, seed=8)
    returns = np.log(to_wide(market.bars["close"])).diff().mean(axis=1)
    measured = returns.groupby(market.regime).std()
    assert ((measured / STATES["volatility"] - 1).abs() < 0.15).all()
    codes = market.regime.map({name: i for i, name in enumerate(STATES.index)}).to_numpy()
    stays = pd.Series(codes[1:] == codes[:-1]).groupby(codes[:-1]).mean()
    assert np.abs(stays.to_numpy() - STATES["stay"].to_numpy()).max() < 0.02
    assert abs(returns.autocorr()) < 0.06  # day and night are independent: no bounce in the market


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"n_symbols": 0}, "n_symbols=0"),
        ({"n_dates": 0}, "n_dates=0"),
        ({"n_dates": 2.5}, "n_dates=2.5"),
        ({"horizon": 0}, "horizon=0"),
        ({"n_noise": -1}, "n_noise=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"ic": 1.0}, "ic=1.0"),
        ({"ic": float("nan")}, "ic=nan"),
        ({"persistence": 1.0}, "persistence=1.0"),
        ({"persistence": -0.1}, "persistence=-0.1"),
        ({"n_symbols": 1}, "cannot carry"),
        ({"ic": 0.5, "horizon": 20}, "out of reach"),
    ],
)
def test_what_cannot_be_planted_is_refused(change, part):
    with pytest.raises(ConfigError, match=part):
        synth_market(**({"n_symbols": 5, "n_dates": 10} | change))
