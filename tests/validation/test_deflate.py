"Deflation: published answers, simulation of the best of many, and the ledger's frame."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.ledger import Ledger, content_key
from quantlab.core.panel import ConfigError, DataError
from quantlab.validation.deflate import deflate, dsr, expected_max_sharpe, psr
from quantlab.validation.inference import return_moments


def test_published_answers():
    assert psr(0.458, 24, -2.448, 10.164) == pytest.approx(0.9134, abs=5e-5)
    annual = {"sharpe": 2.5 / np.sqrt(250), "n_obs": 1250, "skew": -3, "kurtosis": 10, "trial_variance": 0.5 / 250}
    assert dsr(n_trials=100, **annual) == pytest.approx(0.9004, abs=5e-5)
    assert dsr(n_trials=46, **annual) == pytest.approx(0.9505, abs=5e-5)
    assert dsr(n_trials=1, **annual) == psr(annual["sharpe"], 1250, -3, 10)


def test_psr_is_the_share_of_samples_below():
    "Under the benchmark as the truth, PSR is uniform: it passes 95 % in about 5 % of samples."
    draws = 0.1 + np.random.default_rng(1).standard_normal((2000, 250))
    passed = [psr(m.sharpe, m.n_obs, m.skew, m.kurtosis, benchmark=0.1) > 0.95 for m in map(return_moments, draws)]
    assert np.mean(passed) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_expected_maximum_matches_simulation(n):
    simulated = np.random.default_rng(2).normal(0, 0.1, (3000, n)).max(axis=1).mean()
    assert expected_max_sharpe(n, 0.01) == pytest.approx(simulated, rel=0.04)


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.5, 0.5), st.integers(3, 5000), st.floats(-2, 2), st.floats(0, 20), st.integers(1, 1000), st.floats(0, 0.1))
def test_bounds_and_order(sharpe, n_obs, skew, above, n_trials, variance):
    kurtosis = 1 + skew**2 + above
    plain, deflated = psr(sharpe, n_obs, skew, kurtosis), dsr(sharpe, n_obs, skew, kurtosis, n_trials, variance)
    if np.isnan(plain):  # the error is exactly zero
        assert np.isnan(deflated)
        return
    assert 0 <= deflated <= plain <= 1
    assert dsr(sharpe, n_obs, skew, kurtosis, n_trials + 1, variance) <= deflated + 1e-12


def test_the_best_of_worthless_searches_is_not_called_skill():
    "The winner of 50 worthless strategies: PSR believes nearly all of them, DSR few."
    rng, believed, deflated = np.random.default_rng(3), [], []
    for _ in range(100):
        returns = pd.DataFrame(rng.normal(0, 0.01, (500, 50)))
        trials = pd.DataFrame({"sharpe": returns.mean() / returns.std()})
        verdict = deflate(returns[trials["sharpe"].idxmax()], trials)
        believed.append(verdict.psr > 0.95)
        deflated.append(verdict.dsr > 0.95)
    assert np.mean(believed) > 0.8 and np.mean(deflated) < 0.1


def test_ledger_round_trip(tmp_path):
    returns, ledger = np.random.default_rng(4).normal(0.001, 0.01, (4, 300)), Ledger(tmp_path / "l.sqlite")
    for repeat in range(2):  # a repeated run is not a new trial
        for i, r in enumerate(returns):
            m = return_moments(r)
            ledger.record("trial", content_key(i=i), "s", {"i": i, "again": repeat}, m.n_obs, 252, m.sharpe, m.skew, m.kurtosis)
    got = deflate(pd.Series(returns[0]), ledger.trials("s"))
    ratios = [return_moments(r).sharpe for r in returns]
    assert got.n_trials == 4 and got.trial_variance == pytest.approx(np.var(ratios, ddof=1))
    none = deflate(pd.Series(returns[0]), ledger.trials("another study"))
    assert none.n_trials == 1 and none.benchmark == 0 and none.dsr == none.psr


def test_degenerate_and_refused():
    good, trials = pd.Series([0.01, -0.02, 0.03, 0.01]), pd.DataFrame({"sharpe": [0.1, 0.2, 0.0]})
    for few in ([], [0.1], [0.1, 0.2], [0.0] * 30, [np.nan] * 30):
        got = deflate(pd.Series(few, dtype=float), trials)
        assert np.isnan([got.sharpe, got.se, got.psr, got.dsr]).all() and got.n_trials == 3
    assert np.isnan(deflate(good, pd.DataFrame({"sharpe": [None, None]})).dsr)
    with pytest.raises(DataError, match="mix"):
        deflate(good, trials.assign(periods_per_year=[252, 12, 252]))
    with pytest.raises(DataError, match="sharpe"):
        deflate(good, trials.rename(columns={"sharpe": "sr"}))
    with pytest.raises(ConfigError):
        expected_max_sharpe(0, 0.1)
    with pytest.raises(ConfigError):
        expected_max_sharpe(10, -0.1)
    with pytest.raises(ConfigError, match="raw"):
        psr(0.1, 100, 0.0, 0.0)
