"""The mean IC's nulls against brute force and their calibration; the Sharpe tests against simulation, statsmodels
and arch."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from quantlab.core.errors import ConfigError, DataError
from quantlab.validation.inference import (
    ICRows,
    block_length,
    ic_rows,
    ic_test,
    mean_ic,
    newey_west,
    return_moments,
    sharpe_error,
    sharpe_se,
    sharpe_test,
    stationary_rows,
)
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
@example(52048, 3, 3)  # all offsets have the mean 0
@example(2956, 3, 3)  # those of the forward half
def test_full_panel_equals_brute_force(seed, dates, names):
    rng = np.random.default_rng(seed)
    score, y = rng.standard_normal((2, dates, names))
    got = mean_ic(as_panel(score), as_panel(y), "shift")
    u, v = unit_rows(score, True), unit_rows(y, True)
    null = np.array([(u * np.roll(v, -k, axis=0)).sum(axis=1).mean() for k in range(dates)])
    if np.abs(null).max() < 1e-12:
        assert "no spread" in got.reason
        return
    forward = mean_ic(as_panel(score), as_panel(y))
    half = null[: dates // 2 + 1]
    assert forward.method == "forward" and forward.mean == got.mean
    if np.abs(half).max() < 1e-12:
        assert "no spread" in forward.reason
    else:
        assert forward.se == pytest.approx(np.sqrt((half**2).mean()))
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
        shift.append(mean_ic(score, y, "shift").p)
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
        null.append(mean_ic(as_panel(score), as_panel(y), "forward").p)
        true.append(mean_ic(as_panel(score / score.std() + 0.2 * y / y.std()), as_panel(y), "forward").p)
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
    for bad in (
        {"method": "ttest"},
        {"method": "hac"},
        {"method": "hac", "horizon": 0},
        {"method": "hac", "horizon": 2.5},
        {"method": None},
    ):
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


def ragged(seed=11, dates=63, names=9):
    "Rows of a panel with gaps."
    rng = np.random.default_rng(seed)
    score, y = rng.standard_normal((2, dates, names))
    return ic_rows(as_panel(np.where(rng.random(score.shape) < 0.4, np.nan, score)), as_panel(y))


def test_gaps_bring_every_offset_to_the_spread_of_the_first():
    rows = ragged()
    share = rows.there / rows.there.sum(axis=1, keepdims=True)
    means, overlap = (
        np.array([(a * np.roll(b, -k, axis=0)).sum() for k in range(len(a))])
        for a, b in ((rows.u, rows.v), (share, share))
    )
    null = (means / len(share) * np.sqrt(overlap[0] / overlap))[overlap >= 0.1 * overlap[0]]
    assert ic_test(rows, "shift").se == pytest.approx(np.sqrt((null**2).mean())) and len(null) > 50


def test_blocks_equal_a_loop_over_deals():
    rows, seed = ragged(), 5
    got, length = ic_test(rows, "block", seed=seed), len(rows.u) // 10
    deals = np.random.default_rng(seed).permuted(np.tile(np.arange(10), (999, 1)), axis=1)
    blocks = lambda x: x[len(x) - 10 * length :].reshape(10, length, -1)
    share = rows.there / rows.there.sum(axis=1, keepdims=True)

    def dealt(deal):
        mean, overlap = ((blocks(a) * blocks(b)[deal]).sum() for a, b in ((rows.u, rows.v), (share, share)))
        return mean / (10 * length), overlap

    observed, most = dealt(np.arange(10))
    null = np.array([m * np.sqrt(most / o) for m, o in map(dealt, deals)])
    assert got.p == pytest.approx((1 + (abs(null) >= abs(observed) - 1e-12).sum()) / 1000)
    assert got.se == pytest.approx(np.sqrt((np.append(null, observed) ** 2).mean()))


def test_bootstrap_equals_arch_and_sees_the_dependence():
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    score, y = world(np.random.default_rng(12), 500, 20, 10)
    daily = rank_ic(as_panel(score), as_panel(y)).dropna().to_numpy()
    got = mean_ic(as_panel(score), as_panel(y), "bootstrap", seed=3)
    means = StationaryBootstrap(optimal_block_length(daily)["stationary"].iloc[0], daily, seed=3).apply(np.mean, 999)[
        :, 0
    ]
    assert got.se == pytest.approx((means - daily.mean()).std())
    assert got.p == pytest.approx((1 + (abs(means - daily.mean()) >= abs(daily.mean())).sum()) / 1000)
    assert got.se > 1.5 * daily.std() / np.sqrt(len(daily))
    assert mean_ic(as_panel(score), as_panel(y), "bootstrap", seed=3) == got


def test_every_method_finds_a_strong_signal_and_agrees_on_the_mean():
    rng = np.random.default_rng(13)
    y = rng.standard_normal((300, 20))
    rows = ic_rows(as_panel(y + 3 * rng.standard_normal(y.shape)), as_panel(y))
    tests = [ic_test(rows, m, horizon=1) for m in ("shift", "forward", "block", "bootstrap", "hac")]
    assert len({t.mean for t in tests}) == 1 and all(t.p <= 0.002 and not t.reason for t in tests)


@pytest.mark.parametrize("method", ["shift", "forward", "block", "bootstrap", "hac"])
def test_what_is_too_little_gives_nan_and_a_reason(method):
    rng = np.random.default_rng(14)
    y = as_panel(rng.standard_normal((30, 5)))
    for score in (y.iloc[:0], y.iloc[:5], y * np.nan, y * 0 + 1.0, y.xs("S000", level="symbol", drop_level=False)):
        got = mean_ic(score, y, method, horizon=1)
        assert np.isnan([got.se, got.t, got.p]).all() and got.reason and got.n_dates <= 1
    with pytest.raises(DataError, match="infinite"):
        mean_ic(y * np.inf, y, method, horizon=1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["shift", "forward", "block", "bootstrap", "hac"])
)
def test_p_is_a_probability_or_nan_with_a_reason(seed, dates, method):
    rng = np.random.default_rng(seed)
    score, y = np.where(rng.random((2, dates, 6)) < 0.3, np.nan, rng.integers(0, 4, (2, dates, 6)))
    got = ic_test(ICRows(*ic_rows(as_panel(score), as_panel(y))), method, horizon=2)
    assert (0 < got.p <= 1 and got.se > 0 and not got.reason) or (np.isnan(got.p) and got.reason)


def test_influence_is_the_derivative_of_the_sharpe_ratio():
    x = np.random.default_rng(15).standard_t(5, 300) / 100 + 0.001
    ratio = lambda v, w: (w @ v) / np.sqrt(w @ v**2 - (w @ v) ** 2)
    even, step = np.full(300, 1 / 300), 1e-6
    slopes = [(ratio(x, (1 - step) * even + step * np.eye(300)[i]) - ratio(x, even)) / step for i in range(0, 300, 37)]
    from quantlab.validation.inference import _influence

    assert np.allclose(_influence(x, ratio(x, even))[::37], slopes, atol=1e-3)
    assert newey_west(_influence(x, ratio(x, even)), 0) == pytest.approx(sharpe_error(x), rel=0.01)


def test_sharpe_tests_are_calibrated_where_independence_fails():
    rng, rejected = np.random.default_rng(16), {"iid": 0, "hac": 0}
    for _ in range(150):
        x = lfilter([1.0], [1.0, -0.5], rng.standard_normal(700))[100:] / 100
        for method in rejected:
            rejected[method] += sharpe_test(pd.Series(x), method).p <= 0.05
    assert rejected["hac"] / 150 <= 0.12 and rejected["iid"] / 150 >= 0.18
    bootstrap, hac, iid = (sharpe_test(pd.Series(x), m).se for m in ("bootstrap", "hac", "iid"))
    assert 0.7 < bootstrap / hac < 1.4 and hac > 1.3 * iid


@pytest.mark.parametrize("method", ["hac", "iid", "bootstrap"])
def test_sharpe_of_degenerate_returns(method):
    for few in ([], [0.1] * 5, [0.1] * 50, [np.nan] * 50):
        got = sharpe_test(pd.Series(few, dtype=float), method)
        assert np.isnan([got.se, got.t, got.p, got.low, got.high]).all() and got.reason
    with pytest.raises(DataError, match="infinite"):
        sharpe_test(pd.Series([0.1, np.inf] * 20), method)
    x = pd.Series(np.random.default_rng(17).standard_normal(200) / 100 + 0.01)
    got = sharpe_test(x.where(x.index % 3 > 0), method)
    assert got.n_obs == 133 and got.low < got.sharpe < got.high and got.p < 0.01


def test_known_error_and_interval_of_a_sharpe_ratio():
    "By hand: 0.5 a month over 25 months, normal returns: sqrt((1 + 0.5**2 / 2) / 24)."
    assert sharpe_se(0.5, 25) == pytest.approx(0.216506350946, abs=1e-12)  # skew 0 and kurtosis 3 are the defaults
    assert np.isnan(sharpe_se(0.5, 2)) and sharpe_se(0.5, 3) == pytest.approx((1.125 / 2) ** 0.5)
    with pytest.raises(ConfigError, match=r"1 \+ skew\^2 = 5,"):
        sharpe_se(0.1, 100, 2.0, 4.0)
    x = pd.Series(np.random.default_rng(18).standard_normal(60) / 100 + 0.002)
    for method in ("iid", "hac"):
        got = sharpe_test(x, method)
        assert (got.low, got.high) == pytest.approx((got.sharpe - 1.96 * got.se, got.sharpe + 1.96 * got.se))
    assert (
        sharpe_test(x[:19], "iid").reason == "19 returns; a test needs 20"
        and sharpe_test(x[:20] * 0 + 0.1).reason == "the returns do not vary"
    )


def test_hac_and_bootstrap_of_a_sharpe_ratio_equal_their_definitions():
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    x = lfilter([1.0], [1.0, -0.3], np.random.default_rng(20).standard_normal(200)) / 100 + 0.002
    z = (x - x.mean()) / x.std()
    ratio = x.mean() / x.std(ddof=1)
    influence, lag = z - ratio / 2 * (z**2 - 1), round(1.3 * 200 ** (1 / 3))
    weights = 1 - np.arange(1, lag + 1) / (lag + 1)
    spread = np.mean(influence**2) + 2 * sum(
        w * (influence[k:] @ influence[:-k]) / 200 for k, w in enumerate(weights, 1)
    )  # its mean is 0
    assert lag == 8 and sharpe_test(pd.Series(x)).se == pytest.approx(np.sqrt(spread / 200))
    draws = StationaryBootstrap(optimal_block_length(x)["stationary"].iloc[0], x, seed=7)
    strayed = draws.apply(lambda d: d.mean() / d.std(ddof=1), 999)[:, 0] - ratio
    got = sharpe_test(pd.Series(x), "bootstrap")
    assert got.se == pytest.approx(strayed.std(), rel=1e-9)
    assert (got.low, got.high) == pytest.approx(tuple(ratio - np.quantile(strayed, [0.975, 0.025])), rel=1e-9)


def test_results_cannot_be_edited():
    x = pd.Series(np.random.default_rng(21).standard_normal(60))
    for result in (sharpe_test(x), ic_test(ragged())):
        with pytest.raises(AttributeError):
            result.p = 0.01


def test_the_default_seed_is_the_projects():
    score, y = world(np.random.default_rng(19), 120, 10, 3)
    x = pd.Series(np.random.default_rng(19).standard_normal(60) / 100)
    for method in ("block", "bootstrap"):
        assert mean_ic(as_panel(score), as_panel(y), method) == mean_ic(as_panel(score), as_panel(y), method, seed=7)
        assert ic_test(ic_rows(as_panel(score), as_panel(y)), method) == mean_ic(
            as_panel(score), as_panel(y), method, seed=7
        )
    assert sharpe_test(x, "bootstrap") == sharpe_test(x, "bootstrap", seed=7) != sharpe_test(x, "bootstrap", seed=6)


ROOT = Path(__file__).resolve().parents[2]


def test_stored_calibration_keeps_the_promise():
    stored = json.loads((ROOT / "bench" / "results" / "calibration.json").read_text())
    rates = {(r["world"], r["horizon"], r["method"]): r for r in stored["rates"]}
    assert stored["about"]["seeds"] == 2000 and stored["about"]["names"] == 50 and stored["about"]["dates"] == 1000
    for horizon in (1, 5, 20):
        default = rates["slow noise", horizon, "shift"]
        assert default["n"] == 2000 and 0.03 <= default["rate"] <= 0.07
    assert rates["slow noise", 5, "t-test"]["rate"] > 0.3 and rates["slow noise", 20, "t-test"]["rate"] > 0.55


def test_calibration_goes_on_where_it_stopped(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "scripts"))
    import calibrate

    monkeypatch.setattr(calibrate, "BOOTSTRAP_SEEDS", 0)
    first = calibrate.chunk(0, 2, tmp_path, calibrate.inference)
    assert {row[3] for row in first} == {0, 1} and all(0 <= row[4] <= 1 for row in first)
    assert first == json.loads((tmp_path / "00000-00002.json").read_text()) and len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "slow_noise", lambda seed: 1 / 0)
        assert calibrate.chunk(0, 2, tmp_path, calibrate.inference) == first  # read, not run again
        with pytest.raises(ZeroDivisionError):
            calibrate.chunk(2, 4, tmp_path, calibrate.inference)
    assert len(list(tmp_path.iterdir())) == 1  # what broke off left nothing behind
    table = calibrate.rates([["w", 1, "m", seed, p] for seed, p in enumerate([0.01, 0.2, 0.04, 0.9])])
    assert (
        table.loc[0, ["rejected", "n", "rate"]].tolist() == [2, 4, 0.5]
        and table.loc[0, "low"] < 0.5 < table.loc[0, "high"]
    )


@pytest.mark.parametrize("method", ["hac", "iid"])
def test_a_sharpe_ratio_is_tested_on_both_sides(method):
    returns = pd.Series(np.random.default_rng(5).normal(0.0005, 0.01, 300))
    up, down = sharpe_test(returns, method), sharpe_test(-returns, method)
    assert (
        up.p == pytest.approx(2 * stats.norm.sf(abs(up.t)), rel=1e-12)
        and down.p == pytest.approx(up.p)
        and down.t == pytest.approx(-up.t)
    )
    assert (up.low, up.high) == pytest.approx((up.sharpe - 1.96 * up.se, up.sharpe + 1.96 * up.se))


def test_moments_that_no_returns_have_are_refused_and_the_extreme_ones_are_not():
    assert sharpe_se(0.1, 100, 0.5, 1.25) > 0  # two values: kurtosis = 1 + skew squared
    with pytest.raises(ConfigError):
        sharpe_se(0.1, 100, 0.5, 1.2)


def small(rows):
    "A small panel: one list per date."
    return as_panel(np.array(rows, dtype=float))


def test_what_cannot_be_tested_is_refused_or_told():
    rng = np.random.default_rng(3)
    score, y = (as_panel(rng.standard_normal((60, 8))) for _ in range(2))
    rows = ic_rows(score, y)
    assert "5 dates" in ic_test(ICRows(*(part[:5] for part in rows)), "block").reason
    with pytest.raises(ConfigError, match="'bootstrap' or 'hac'"):
        mean_ic(score, y, method="ttest")
    empty = mean_ic(y.iloc[:0], y)
    assert empty.n_dates == 0 and np.isnan(empty.mean) and np.isnan(empty.p) and empty.reason
    lone = mean_ic(score.loc[score.index.get_level_values("date") == score.index[0][0]], y)
    assert lone.n_dates == 1 and np.isfinite(lone.mean) and np.isnan(lone.se) and "needs 3" in lone.reason
    assert mean_ic(y * np.nan, y).n_dates == mean_ic(y * 0, y).n_dates == 0


def test_outcomes_without_spread_come_with_a_reason():
    even = [[1, 2, 3], [1, 2, 3], [3, 2, 1], [3, 2, 1]]
    assert "no spread" in mean_ic(small([[1, 2, 3]] * 4), small(even)).reason, "each offset has the mean 0"
    same = mean_ic(small([[1, 2, 3]] * 4), small([[1, 2, 3]] * 4), method="hac", horizon=1)
    assert np.isclose(same.mean, 1.0) and np.isnan(same.p) and "same on every date" in same.reason


@pytest.mark.parametrize("short", [[], [0.1], [0.1, 0.2], [0.1] * 9, [np.nan] * 9])
def test_too_few_or_constant_returns_have_no_sharpe_error(short):
    assert np.isnan(sharpe_error(pd.Series(short, dtype=float)))


def test_returns_that_are_no_series_of_numbers_are_refused():
    with pytest.raises(DataError, match="infinite"):
        sharpe_error(pd.Series([0.1, np.inf, 0.2]))
    with pytest.raises(DataError, match=r"shape \(3, 2\)"):
        sharpe_error(pd.DataFrame(np.ones((3, 2))))
    assert "20" in sharpe_test(pd.Series([0.01, 0.02, 0.03])).reason
    assert "vary" in sharpe_test(pd.Series([0.1] * 30)).reason
    with pytest.raises(ConfigError, match="'hac', 'iid' or 'bootstrap'"):
        sharpe_test(pd.Series(np.random.default_rng(1).normal(size=50)), "ttest")


def test_a_test_shows_itself_as_a_small_table():
    rng = np.random.default_rng(4)
    found = mean_ic(*(as_panel(rng.standard_normal((60, 8))) for _ in range(2)))
    head, row = repr(found).splitlines()
    assert head.split() == ["mean", "rank", "IC", "se", "t", "p", "dates", "method"]
    assert row.split()[-2:] == ["60", "forward"] and f"{found.mean:.4f}" in row
    assert "<table" in found._repr_html_() and "forward" in found._repr_html_()
    assert "needs 3" in repr(mean_ic(small([[1, 2, 3]]), small([[1, 2, 3]])))


def test_stationary_rows_have_the_block_asked_for_and_the_spread_of_arch():
    rows = stationary_rows(500, 4000, 2, 10, np.random.default_rng(0))
    assert rows.shape == (2, 4000) and rows.min() >= 0 and rows.max() < 500
    assert ((np.diff(rows) % 500) != 1).mean() == pytest.approx(0.1 * 499 / 500, abs=0.012)
    x = np.abs(np.cumsum(np.random.default_rng(1).standard_normal(1500)))
    theirs = np.std([d[0][0].mean() for d in StationaryBootstrap(10, x, seed=1).bootstrap(400)])
    ours = x[stationary_rows(len(x), len(x), 400, 10, np.random.default_rng(2))].mean(axis=1).std()
    assert ours == pytest.approx(theirs, rel=0.2)
    for block in (0.5, 0, np.nan):
        with pytest.raises(ConfigError, match="at least 1 row"):
            stationary_rows(10, 10, 1, block, np.random.default_rng(0))


def test_a_block_is_the_longest_that_returns_or_their_sizes_ask_for():
    noise = np.random.default_rng(3).standard_normal((1000, 2))
    spells = noise[:, 0] * np.repeat([1.0, 3.0] * 10, 50)
    alone = [block_length(x) for x in (noise[:, 0], noise[:, 1], spells)]
    assert block_length(np.column_stack([noise, spells])) == max(alone) > 10
    assert alone[2] == optimal_block_length((spells - spells.mean()) ** 2)["stationary"].iloc[0]
    for still in (np.zeros(0), np.zeros((0, 3)), np.ones(50), np.arange(9.0)):
        assert block_length(still) == 1.0
