"Value at risk: closed forms, no look-ahead, parts that sum, and refusals."

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from quantlab.core.errors import ConfigError, DataError, LeakError, PanelError
from quantlab.regime.base import Filtered, Smoothed
from quantlab.risk.bayes_var import (
    NormalInverseGamma,
    bayes_tail,
    hierarchical_tail,
    mixture_tail,
    pooled_variance,
    regime_var,
)
from quantlab.risk.var import (
    VAR_METHODS,
    check_returns,
    component_var,
    cornish_fisher_tail,
    ewma_volatility,
    garch_forecast,
    historical_tail,
    normal_tail,
    t_tail,
    var_forecast,
)


def made(rows: int = 700, seed: int = 0, names: int = 0) -> pd.Series | pd.DataFrame:
    "Draw fat-tailed returns whose volatility moves."
    rng = np.random.default_rng(seed)
    scale = 0.01 * np.exp(0.5 * np.sin(np.arange(rows) / 40))
    dates = pd.bdate_range("2015-01-01", periods=rows, name="date")
    if names:
        return pd.DataFrame(rng.standard_t(5, (rows, names)) * scale[:, None], dates, [f"N{i}" for i in range(names)])
    return pd.Series(rng.standard_t(5, rows) * scale, dates)


def test_closed_forms_equal_the_published_figures():
    assert np.allclose(normal_tail(), [2.326348, 2.665214], atol=5e-7)
    assert np.allclose(t_tail(4), [3.746947, 5.220584], atol=5e-7)
    assert normal_tail(0.01, 0.02, 0.95).var == pytest.approx(-0.01 + 0.02 * 1.6448536, abs=1e-8)


@pytest.mark.parametrize("confidence", [0.9, 0.975, 0.999])
@pytest.mark.parametrize("dof", [2.5, 4.0, 30.0])
def test_expected_shortfall_is_the_mean_of_value_at_risk_beyond(confidence, dof):
    beyond = integrate.quad(lambda u: -stats.t.ppf(u, dof), 0, 1 - confidence)[0] / (1 - confidence)
    assert t_tail(dof, confidence=confidence).expected_shortfall == pytest.approx(beyond, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-8, 8), st.floats(-3, 60), st.floats(0.9, 0.999))
def test_cornish_fisher_is_a_tail_whatever_the_moments(skew, kurtosis, confidence):
    tail = cornish_fisher_tail(0.0, 1.0, skew, kurtosis, confidence)
    assert np.isfinite(tail).all() and tail.expected_shortfall >= tail.var - 1e-9
    more = cornish_fisher_tail(0.0, 1.0, skew, kurtosis, min(confidence + 5e-4, 0.9999))
    assert more.var >= tail.var - 1e-9  # a quantile rises


def test_cornish_fisher_inside_its_domain_is_the_formula():
    z, s, k = stats.norm.ppf(0.01), -0.4, 2.0
    by_hand = z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36
    assert cornish_fisher_tail(0, 1, s, k).var == pytest.approx(-by_hand, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=300), st.sampled_from([0.9, 0.95, 0.975, 0.99]))
def test_history_is_the_smallest_loss_that_enough_sessions_keep(values, confidence):
    tail, losses = historical_tail(values, confidence), -np.array(values)
    kept = lambda x: (losses <= x).mean() >= confidence - 1e-12
    assert kept(tail.var) and not any(kept(x) for x in losses[losses < tail.var])
    assert tail.expected_shortfall >= tail.var - 1e-12
    fine = -np.quantile(-losses, (np.arange(20000) + 0.5) / 20000 * (1 - confidence), method="inverted_cdf").mean()
    assert tail.expected_shortfall == pytest.approx(fine, abs=2e-4)


@pytest.mark.parametrize("method", VAR_METHODS)
def test_a_forecast_reads_no_later_return(method):
    returns = made()
    whole, cut = var_forecast(returns, method, lookback=200), var_forecast(returns[:550], method, lookback=200)
    pd.testing.assert_frame_equal(whole.loc[cut.index], cut, rtol=1e-12)
    changed = returns.copy()
    changed.iloc[550:] = 0.3
    pd.testing.assert_frame_equal(var_forecast(changed, method, lookback=200).loc[cut.index], cut, rtol=1e-12)
    assert not np.allclose(var_forecast(changed, method, lookback=200).iloc[-1], whole.iloc[-1])  # it reads what it may


@pytest.mark.parametrize("method", ["historical", "filtered", "garch"])
def test_a_forecast_scales_with_the_returns(method):
    returns = made()
    assert np.allclose(
        var_forecast(2 * returns, method, lookback=200), 2 * var_forecast(returns, method, lookback=200), rtol=1e-3
    )


def test_filtered_history_by_hand():
    returns = made(300)
    sigma = ewma_volatility(returns)
    shocks = (returns / sigma.shift())[-200:]
    last = historical_tail(shocks, 0.95)
    assert np.allclose(var_forecast(returns, confidence=0.95, lookback=200).iloc[-1], np.array(last) * sigma.iloc[-1])


def test_garch_equals_arch():
    returns = made(400, 3)
    ours = garch_forecast(returns, first=400)["volatility"].iloc[-1]
    fit = arch_model(100 * returns, rescale=False).fit(disp="off")
    theirs = np.sqrt(fit.forecast(horizon=1).variance.iloc[-1, 0]) / 100
    assert ours == pytest.approx(theirs, rel=0.02)  # their first variance is smoothed backward


@pytest.mark.parametrize("method", ["historical", "normal"])
def test_parts_sum_to_the_book_and_scale_with_it(method):
    returns = made(500, 1, 6)
    for seed in range(20):
        w = pd.Series(np.random.default_rng(seed).normal(0, 1, 6), returns.columns)
        parts, book = component_var(w, returns, method=method), returns @ w
        whole = historical_tail(book) if method == "historical" else normal_tail(book.mean(), book.std())
        assert np.allclose(parts[["var", "expected_shortfall"]].sum(), whole) and np.isclose(
            parts["var_share"].sum(), 1
        )
        assert np.allclose(component_var(2 * w, returns, method=method)["var"], 2 * parts["var"])


def test_nothing_held_has_no_risk():
    returns = made(100, 1, 3)
    for method in ("historical", "normal"):
        parts = component_var(pd.Series(0.0, returns.columns), returns, method=method)
        assert np.allclose(parts, 0)


DEGENERATE = {
    "no rows": (made()[:0], DataError, "0 rows"),
    "one row": (made()[:1], DataError, "1 rows"),
    "all NaN": (made() * np.nan, DataError, "NaN or infinite"),
    "infinite": (made().replace(made().iloc[5], np.inf), DataError, "NaN or infinite on"),
    "no dates": (made().reset_index(drop=True), PanelError, "sorted, distinct dates"),
    "unsorted": (made()[::-1], PanelError, "sorted, distinct dates"),
    "text": (made().astype(str) + "x", PanelError, "no number"),
}


@pytest.mark.parametrize("what", DEGENERATE)
def test_what_is_no_past_is_refused(what):
    returns, kind, said = DEGENERATE[what]
    for call in (check_returns, var_forecast, ewma_volatility, garch_forecast):
        with pytest.raises(kind, match=said):
            call(returns)


def test_a_price_that_does_not_move():
    still = made() * 0
    with pytest.raises(DataError, match="does not move"):
        var_forecast(still)
    for method in ("historical", "normal", "t", "cornish_fisher"):
        assert np.allclose(var_forecast(still, method), 0)


@pytest.mark.parametrize("wrong", [0.5, 1.0, 99, 0.01])
def test_a_confidence_is_a_share(wrong):
    for call in (
        lambda: normal_tail(confidence=wrong),
        lambda: historical_tail([0.1], wrong),
        lambda: bayes_tail([0.1], wrong),
    ):
        with pytest.raises(ConfigError, match="confidence"):
            call()


def test_another_time_zone_is_only_another_label():
    returns = made()
    there = returns.tz_localize("UTC").tz_convert("Asia/Tokyo")
    assert np.allclose(var_forecast(there, lookback=200), var_forecast(returns, lookback=200))
    with pytest.raises(PanelError, match="time zone"):
        regime_var(there, Filtered(pd.DataFrame({"one": 1.0}, returns.index)))


def test_belief_by_hand():
    after = NormalInverseGamma().update(1, 0.02, 0.02**2)
    assert (after.mean, after.weight, after.shape) == (0.01, 2.0, 2.5)
    assert after.scale == pytest.approx(2e-4 + 0.02**2 / 4)  # half of half the square: the mean takes the other half


def test_belief_equals_its_integral():
    prior, x = NormalInverseGamma(0.001, 2.0, 3.0, 3e-4), made(30, 4).to_numpy()
    after = prior.update(len(x), x.sum(), (x**2).sum())
    rng = np.random.default_rng(1)
    variance = stats.invgamma.rvs(after.shape, scale=after.scale, size=400_000, random_state=rng)
    drawn = rng.normal(rng.normal(after.mean, np.sqrt(variance / after.weight)), np.sqrt(variance))
    tail = t_tail(*after.predictive(), 0.99)
    assert np.allclose(historical_tail(drawn, 0.99), tail, rtol=0.02)
    assert np.isfinite(bayes_tail([])).all()  # nothing seen: the prior's own tail


def test_a_mixture_is_between_its_curves_and_equals_draws():
    tail = mixture_tail([0.5, 0.5], [4, 10], [0.0, -0.01], [0.01, 0.03])
    low, high = t_tail(4, 0, 0.01).var, t_tail(10, -0.01, 0.03).var
    assert low < tail.var < high
    tail_chance = 0.5 * stats.t.cdf(-tail.var / 0.01, 4) + 0.5 * stats.t.cdf((-tail.var + 0.01) / 0.03, 10)
    assert tail_chance == pytest.approx(0.01, abs=1e-10)


def test_regimes_read_the_past_only():
    returns, rng = made(), np.random.default_rng(0)
    p = pd.DataFrame({"calm": rng.random(700)}, returns.index).assign(wild=lambda x: 1 - x["calm"])
    whole, cut = regime_var(returns, Filtered(p)), regime_var(returns[:500], Filtered(p[:500]))
    pd.testing.assert_frame_equal(whole.loc[cut.index], cut)
    late = pd.Series(returns.index[-1], returns.index)
    with pytest.raises(LeakError, match="later"):
        regime_var(returns, Filtered(p, late))
    with pytest.raises(LeakError, match="Smoothed"):
        regime_var(returns, Smoothed(p))


def test_pooling_finds_what_was_planted_and_nothing_where_nothing_is():
    rng = np.random.default_rng(2)
    true = 1e-4 * 12 / rng.chisquare(12, 5000)
    d0, s0 = pooled_variance(true * rng.chisquare(30, 5000) / 30, 30)
    assert d0 == pytest.approx(12, rel=0.15) and s0 == pytest.approx(1e-4, rel=0.05)
    assert np.isinf(pooled_variance(np.full(10, 1e-4), 30)[0])
    table = hierarchical_tail(made(60, 5, 20))
    assert (table["pooled"].max() <= table["own"].max()) and table["shrinkage"].between(0, 1).all()
    one = hierarchical_tail(made(60, 5, 1))
    assert np.isfinite(one[["var", "expected_shortfall"]].to_numpy(dtype=float)).all()
