"The mean IC's null against brute force and its calibration; the Sharpe error against simulation and statsmodels."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from quantlab.core.panel import ConfigError, DataError
from quantlab.validation.inference import mean_ic, return_moments, sharpe_error, sharpe_se
from quantlab.validation.scores import rank_ic, unit_rows


def as_panel(wide):
    "A panel from an array of dates x names."
    dates = pd.bdate_range("2010-01-01", periods=len(wide), name="date", unit="us")
    names = pd.Index([f"S{i:03d}" for i in range(wide.shape[1])], name="symbol")
    return pd.DataFrame(wide, index=dates, columns=names).stack(future_stack=True)


def world(rng, dates, names, horizon, memory=0.98, listed=1.0):
    "A slow worthless score, overlapping outcomes that end before the panel does, names listed for a part of it."
    noise = rng.standard_normal((dates, names)) * np.sqrt(1 - memory**2)
    noise[0] = rng.standard_normal(names)
    score = lfilter([1.0], [1.0, -memory], noise, axis=0)
    paths = np.cumsum(rng.standard_normal((dates, names)), axis=0)
    y = np.full((dates, names), np.nan)
    y[:-horizon] = paths[horizon:] - paths[:-horizon]
    first, day = rng.integers(0, int(dates * (1 - listed)) + 1, names), np.arange(dates)[:, None]
    score[(day < first) | (day >= first + int(dates * listed))] = np.nan
    return score, y


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(3, 8))
def test_full_panel_equals_brute_force(seed, dates, names):
    rng = np.random.default_rng(seed)
    score, y = rng.standard_normal((2, dates, names))
    got = mean_ic(as_panel(score), as_panel(y))
    u, v = unit_rows(score, True), unit_rows(y, True)
    null = np.array([(u * np.roll(v, -k, axis=0)).sum(axis=1).mean() for k in range(dates // 2 + 1)])
    assert got.mean == pytest.approx(rank_ic(as_panel(score), as_panel(y)).mean())
    assert got.mean == pytest.approx(null[0])
    assert got.se == pytest.approx(np.sqrt((null**2).mean()))
    assert got.p == pytest.approx(2 * stats.norm.sf(abs(got.t)))


def test_dates_without_outcomes_do_not_matter():
    score, y = world(np.random.default_rng(1), 200, 20, 20)
    cut = 200 - 20
    whole, part = mean_ic(as_panel(score), as_panel(y)), mean_ic(as_panel(score[:cut]), as_panel(y[:cut]))
    assert whole == part and whole.n_dates == cut


def test_sign_and_scale():
    score, y = world(np.random.default_rng(2), 200, 20, 5, listed=0.7)
    a, b, c = (mean_ic(as_panel(s), as_panel(y)) for s in (score, -score, np.exp(score)))
    assert a == c and b.mean == pytest.approx(-a.mean) and b.p == pytest.approx(a.p)


@pytest.mark.parametrize(("horizon", "listed"), [(1, 1.0), (20, 1.0), (20, 0.5)])
def test_shift_is_calibrated_where_the_t_test_is_not(horizon, listed):
    rng, shift, naive = np.random.default_rng(3), [], []
    for _ in range(80):
        score, y = (as_panel(x) for x in world(rng, 400, 25, horizon, listed=listed))
        daily = rank_ic(score, y).dropna()
        shift.append(mean_ic(score, y).p)
        naive.append(stats.ttest_1samp(daily, 0).pvalue)
    assert np.mean(np.array(shift) <= 0.05) <= 0.125  # 5 % plus three standard errors
    assert np.mean(np.array(shift) <= 0.5) >= 0.35  # and not by never rejecting
    if horizon == 20:
        assert np.mean(np.array(naive) <= 0.05) >= 0.35


def test_score_made_of_past_returns_is_calibrated_and_found():
    "A momentum score meets its own inputs at negative offsets; those must not count as chance."
    rng, null, true = np.random.default_rng(4), [], []
    for _ in range(60):
        paths = np.cumsum(rng.standard_normal((780, 25)), axis=0)
        t = np.arange(160, 760)
        score, y = paths[t - 21] - paths[t - 150], paths[t + 20] - paths[t]
        null.append(mean_ic(as_panel(score), as_panel(y)).p)
        true.append(mean_ic(as_panel(score / score.std() + 0.2 * y / y.std()), as_panel(y)).p)
    assert np.mean(np.array(null) <= 0.05) <= 0.15
    assert np.mean(np.array(true) <= 0.05) >= 0.8


def test_hac_matches_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    score, y = world(np.random.default_rng(5), 300, 15, 5)
    daily = rank_ic(as_panel(score), as_panel(y)).dropna().to_numpy()
    fit = sm.OLS(daily, np.ones(len(daily))).fit(cov_type="HAC", cov_kwds={"maxlags": 20})
    got = mean_ic(as_panel(score), as_panel(y), method="hac", horizon=5)
    assert got.se == pytest.approx(fit.bse[0]) and got.p == pytest.approx(fit.pvalues[0])


def test_bad_arguments():
    score, y = (as_panel(x) for x in world(np.random.default_rng(6), 30, 5, 2))
    for bad in ({"method": "ttest"}, {"method": "hac"}, {"method": "hac", "horizon": 0}, {"method": "hac", "horizon": 2.5}):
        with pytest.raises(ConfigError):
            mean_ic(score, y, **bad)


def test_sharpe_error_matches_the_spread_of_simulated_ratios():
    rng = np.random.default_rng(7)
    draws = 0.3 + (rng.exponential(1.0, (4000, 400)) - 1) * -1  # skew -2, kurtosis 9
    ratios = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    assert sharpe_se(0.3, 400, -2, 9) == pytest.approx(ratios.std(), rel=0.05)
    assert np.mean([sharpe_error(row) for row in draws[:200]]) == pytest.approx(ratios.std(), rel=0.1)


def test_moments_match_scipy():
    x = np.random.default_rng(8).standard_t(5, 500) / 100
    got = return_moments(pd.Series(np.append(x, np.nan)))
    assert got.n_obs == 500 and got.sharpe == pytest.approx(x.mean() / x.std(ddof=1))
    assert got.skew == pytest.approx(stats.skew(x)) and got.kurtosis == pytest.approx(stats.kurtosis(x, fisher=False))


def test_moments_of_degenerate_returns():
    for few in ([], [0.1], [0.1, 0.2], [0.1] * 20, [np.nan] * 5):
        assert np.isnan(return_moments(pd.Series(few, dtype=float))[1:]).all()
    with pytest.raises(DataError, match="1 infinite"):
        return_moments(pd.Series([0.1, -np.inf, 0.3]))
    with pytest.raises(ConfigError, match="raw kurtosis"):
        sharpe_se(0.1, 100, 0.0, 0.2)
