"""Transforms over time against plain loops, and what they do with gaps."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import binom
from test_price_and_vol_invariants import market

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, PanelError
from quantlab.features.transform import cusum, frac_diff, frac_return, frac_weights, frac_width, rolling_zscore

LIGHT = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 10**6)


def column(seed: int, n_dates: int = 40, missing: float = 0.1) -> pd.Series:
    rng = np.random.default_rng(seed)
    x = market(seed, n_dates=n_dates, symbols="ABC", missing=0)["close"].rename("x")
    return (x * 0 + rng.normal(size=len(x))).mask(rng.random(len(x)) < missing).mask(rng.random(len(x)) < 0.02, np.inf)


def loop_cusum(moves: np.ndarray, h: np.ndarray) -> list[float]:
    up = down = 0.0
    out = []
    for r, limit in zip(moves, h, strict=True):
        if not (np.isfinite(r) and np.isfinite(limit)):
            out.append(np.nan)
            continue
        up, down, event = max(0.0, up + r), min(0.0, down + r), 0.0
        if up > limit:
            up, event = 0.0, event + 1
        if down < -limit:
            down, event = 0.0, event - 1
        out.append(event)
    return out


@LIGHT
@given(seed=SEEDS, n=st.integers(2, 12))
def test_rolling_zscore_equals_a_loop(seed: int, n: int) -> None:
    x = column(seed)
    ours = rolling_zscore(x, n).unstack()
    wide = x.where(np.isfinite(x)).unstack()
    for t in range(len(wide)):
        part = wide.iloc[max(t - n + 1, 0) : t + 1]
        expected = ((part.iloc[-1] - part.mean()) / part.std()).where(part.count() >= np.ceil(0.8 * n))
        np.testing.assert_allclose(ours.iloc[t], expected, rtol=1e-9, atol=1e-12)
    assert rolling_zscore(x, n).abs().max() <= (n - 1) / np.sqrt(n) + 1e-9


@given(d=st.floats(0, 2.5), n=st.integers(1, 60))
def test_weights_are_binomial_coefficients(d: float, n: int) -> None:
    k = np.arange(n)
    np.testing.assert_allclose(frac_weights(d, n), (-1.0) ** k * binom(d, k), rtol=1e-9, atol=1e-12)


def test_known_weights() -> None:
    assert frac_weights(0.5, 6).tolist() == [1, -0.5, -0.125, -0.0625, -0.0390625, -0.02734375]
    assert frac_weights(1, 3).tolist() == [1, -1, 0]


@given(d=st.floats(0.05, 1), threshold=st.floats(1e-3, 0.5))
def test_width_is_where_the_weights_become_small(d: float, threshold: float) -> None:
    n = frac_width(d, threshold)
    w = np.abs(frac_weights(d, n + 1))
    assert (w[:n] >= threshold).all() and w[n] < threshold


@LIGHT
@given(seed=SEEDS, d=st.floats(0, 2), width=st.integers(1, 8))
def test_frac_diff_equals_a_loop(seed: int, d: float, width: int) -> None:
    x = column(seed)
    wide, ours, w = x.where(np.isfinite(x)).unstack(), frac_diff(x, d, width).unstack(), frac_weights(d, width)
    for t in range(len(wide)):
        expected = (
            wide.iloc[t - width + 1 : t + 1].iloc[::-1].mul(w, axis=0).sum(skipna=False)
            if t >= width - 1
            else wide.iloc[t] * np.nan
        )
        np.testing.assert_allclose(ours.iloc[t], expected, rtol=1e-9, atol=1e-12)


def test_frac_return_is_free_of_the_level_and_goes_from_trend_to_return() -> None:
    bars = market(3, n_dates=80, missing=0)
    logs = np.log(bars["close"]).unstack()
    np.testing.assert_allclose(frac_return(1, 10)(bars).unstack().iloc[9:], logs.diff().iloc[9:], atol=1e-12)
    np.testing.assert_allclose(frac_return(0, 10)(bars).unstack().iloc[9:], (logs - logs.shift(9)).iloc[9:], atol=1e-12)


@LIGHT
@given(seed=SEEDS, h=st.floats(0.1, 5))
def test_cusum_equals_a_loop(seed: int, h: float) -> None:
    x = column(seed)
    limit = (column(seed + 1, missing=0.05).abs() + h).where(np.isfinite)
    for threshold in (h, limit):
        each = limit if isinstance(threshold, pd.Series) else x * 0 + h
        each = each.fillna(h) if not isinstance(threshold, pd.Series) else each
        ours = cusum(x, threshold).unstack()
        for symbol in ours:
            assert np.array_equal(ours[symbol], loop_cusum(x.unstack()[symbol], each.unstack()[symbol]), equal_nan=True)


@LIGHT
@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_cusum_is_symmetric_and_scale_free(seed: int, scale: float) -> None:
    x = column(seed, missing=0)
    assert cusum(-x, 1.7).equals(-cusum(x, 1.7) + 0.0)
    assert cusum(x * 2.0**4, 1.7 * 2.0**4).equals(cusum(x, 1.7))


FUNCTIONS = {
    "zscore": lambda x: rolling_zscore(x, 5),
    "frac": lambda x: frac_diff(x, 0.4, 5),
    "cusum": lambda x: cusum(x, 1.0),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
class TestAll:
    def test_is_causal(self, function) -> None:
        assert audit(lambda frame: function(frame["x"]), column(1).to_frame()).status == "PASS"

    def test_symbols_do_not_mix(self, function) -> None:
        x = column(2)
        spoilt = x.copy()
        spoilt.loc[(slice(None), "B")] = np.nan
        a, b = function(x).unstack(), function(spoilt).unstack()
        pd.testing.assert_frame_equal(a[["A", "C"]], b[["A", "C"]])
        assert b["B"].isna().all()

    def test_a_gap_heals(self, function) -> None:
        x = column(3, missing=0).where(np.isfinite, 0.5)
        holed = x.copy()
        holed.iloc[30] = np.nan
        assert np.isnan(function(holed).iloc[30]) and function(holed).unstack().iloc[20:].notna().all().all()

    def test_degenerate(self, function) -> None:
        x = column(4)
        assert function(x.iloc[:0]).empty and len(function(x.iloc[:1])) == 1
        assert function(x * np.nan).isna().all() and not np.isinf(function(x)).any()
        with pytest.raises(PanelError, match="not sorted"):
            function(x.iloc[::-1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: frac_weights(-0.1, 3),
        lambda: frac_weights(np.nan, 3),
        lambda: frac_weights(0.5, 0),
        lambda: frac_width(0.1, 1e-9),
        lambda: rolling_zscore(column(0), 1),
    ],
)
def test_bad_arguments(call) -> None:
    with pytest.raises(ConfigError):
        call()


def test_bad_thresholds() -> None:
    x = column(0)
    for threshold in (0, -1.0, x.abs() * 0, x.abs().iloc[1:]):
        with pytest.raises(PanelError, match="threshold"):
            cusum(x, threshold)
