"""Every indicator against TA-Lib once its start is forgotten, and the smoothing against pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_price_and_vol_invariants import market

from quantlab.core.errors import ConfigError, PanelError
from quantlab.features.technical import (
    adx,
    anchored_vwap,
    average_true_range,
    bollinger,
    macd,
    memory,
    rsi,
    smooth,
    stochastic,
    vwap_distance,
)

talib = pytest.importorskip("talib", reason="TA-Lib is a development dependency")
LIGHT = settings(max_examples=25, deadline=None)
BARS = market(8, n_dates=900, symbols="ABC", missing=0)


def one(symbol: str) -> dict[str, np.ndarray]:
    part = BARS.xs(symbol, level="symbol")
    return {c: part[c].to_numpy() for c in part.columns}


PEERS = {
    rsi(14): lambda b: talib.RSI(b["close"], 14),
    rsi(2): lambda b: talib.RSI(b["close"], 2),
    average_true_range(14): lambda b: talib.NATR(b["high"], b["low"], b["close"], 14) / 100,
    adx(14): lambda b: talib.ADX(b["high"], b["low"], b["close"], 14),
    adx(14, "plus_di"): lambda b: talib.PLUS_DI(b["high"], b["low"], b["close"], 14),
    adx(14, "minus_di"): lambda b: talib.MINUS_DI(b["high"], b["low"], b["close"], 14),
    macd(part="line"): lambda b: talib.MACD(b["close"], 12, 26, 9)[0] / b["close"],
    macd(part="signal"): lambda b: talib.MACD(b["close"], 12, 26, 9)[1] / b["close"],
    macd(part="hist"): lambda b: talib.MACD(b["close"], 12, 26, 9)[2] / b["close"],
    stochastic(14, 3): lambda b: talib.STOCH(b["high"], b["low"], b["close"], 14, 3, 0, 3, 0)[0],
    stochastic(14, 3, "d"): lambda b: talib.STOCH(b["high"], b["low"], b["close"], 14, 3, 0, 3, 0)[1],
}


@pytest.mark.parametrize("f", PEERS, ids=lambda f: f.name)
@pytest.mark.parametrize("symbol", list("ABC"))
def test_equals_talib_after_its_memory(f, symbol: str) -> None:
    ours, theirs = f(BARS).xs(symbol, level="symbol").to_numpy(), PEERS[f](one(symbol))
    settled = slice(max(f.lookback, 20), None)  # TA-Lib starts %K together with %D
    assert np.isfinite(ours[settled]).all() and len(ours[settled]) > 400
    np.testing.assert_allclose(ours[settled], theirs[settled], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("symbol", list("ABC"))
def test_bands_equal_talib(symbol: str) -> None:
    b = one(symbol)
    upper, _, lower = talib.BBANDS(b["close"], 20, 2, 2, 0)
    ours = bollinger(20, 2)(BARS).xs(symbol, level="symbol").to_numpy()[19:]
    np.testing.assert_allclose(ours, ((b["close"] - lower) / (upper - lower))[19:], rtol=1e-7, atol=1e-9)


def test_the_start_of_ours_is_not_worse_than_talibs() -> None:
    "Both start unsettled; with weights that sum to one the first months are nearer to the settled value."
    late = BARS.loc[BARS.index.levels[0][400] :]
    for f in (rsi(14), average_true_range(14), adx(14)):
        settled = f(BARS).xs("A", level="symbol").to_numpy()[400:]
        ours = f(late).xs("A", level="symbol").to_numpy()
        assert np.nanmax(np.abs(ours / settled - 1)[60:70]) < 0.05
        assert np.nanmax(np.abs(ours / settled - 1)[200:]) < 1e-3


@LIGHT
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.05, 1))
def test_smooth_equals_pandas_where_enough_is_there(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    wide = pd.DataFrame(rng.normal(size=(60, 3))).mask(rng.random((60, 3)) < 0.2)
    ours = smooth(wide, alpha)
    expected = wide.ewm(alpha=alpha, adjust=True, ignore_na=False).mean().where(ours.notna())
    pd.testing.assert_frame_equal(ours, expected, rtol=1e-10)
    lags = alpha * (1 - alpha) ** np.arange(60)
    share = [[lags[: t + 1] @ wide[c].notna().to_numpy()[t::-1] for c in wide] for t in range(60)]
    clear = np.abs(np.array(share) - 0.8) > 1e-9
    assert (ours.notna().to_numpy() == (wide.notna().to_numpy() & (np.array(share) >= 0.8)))[clear].all()


@LIGHT
@given(seed=st.integers(0, 10**6), n=st.integers(2, 20), weight=st.floats(1e-6, 0.1))
def test_memory_bounds_what_the_past_can_do(seed: int, n: int, weight: float) -> None:
    wide = pd.DataFrame(np.random.default_rng(seed).random((memory(1 / n, weight=1e-9) + 50, 1)))
    late = wide.iloc[-memory(1 / n, weight=weight) :]
    assert abs(smooth(wide, 1 / n).iloc[-1, 0] - smooth(late, 1 / n).iloc[-1, 0]) <= weight


def test_vwap_equals_its_definition() -> None:
    part = BARS.xs("B", level="symbol")
    typical = part[["high", "low", "close"]].mean(axis=1)
    last = (typical * part["volume"]).iloc[-10:].sum() / part["volume"].iloc[-10:].sum()
    assert vwap_distance(10)(BARS).xs("B", level="symbol").iloc[-1] == pytest.approx(part["close"].iloc[-1] / last - 1)
    month = part.loc["2025-03-01":"2025-03-17"]
    last = (typical * part["volume"]).loc[month.index].sum() / month["volume"].sum()
    assert anchored_vwap("month")(BARS)[pd.Timestamp("2025-03-17"), "B"] == pytest.approx(
        month["close"].iloc[-1] / last - 1
    )


def test_the_anchor_waits_for_a_whole_period() -> None:
    values = anchored_vwap("month")(BARS)
    assert values.loc[:"2024-01-31"].isna().all() and values.loc["2024-02-01":].notna().all()


@pytest.mark.parametrize("lost", ["high", "low", "close"])
def test_direction_counts_the_same_sessions_above_and_below_the_line(lost: str) -> None:
    "With gaps, both sums of a directional indicator run over the sessions on which all of it is known."
    rng = np.random.default_rng(4)
    bars = BARS.xs("A", level="symbol", drop_level=False).iloc[:300]
    bars = bars.assign(**{lost: bars[lost].mask(rng.random(300) < 0.05)})
    h, lo, c = (bars[x].to_numpy() for x in ("high", "low", "close"))
    up, down = np.diff(h), -np.diff(lo)
    reach = np.maximum(h[1:], c[:-1]) - np.minimum(lo[1:], c[:-1])
    there = np.isfinite(up) & np.isfinite(down) & np.isfinite(reach)
    weights = (13 / 14) ** np.arange(299)[::-1] * there
    rise = np.where((up > down) & (up > 0), up, 0.0)
    assert there[-1] and there.mean() < 0.98
    expected = 100 * np.nansum(weights * rise) / np.nansum(weights * reach)
    assert adx(14, "plus_di")(bars).iloc[-1] == pytest.approx(expected, rel=1e-9)


def test_a_price_that_rises_or_falls_only() -> None:
    up = BARS.xs("A", level="symbol", drop_level=False).assign(
        close=np.arange(1.0, 901), high=np.arange(1.5, 901.5), low=np.arange(0.5, 900.5)
    )
    assert rsi(14)(up).dropna().eq(100).all()
    assert adx(14)(up).dropna().eq(100).all() and adx(14, "minus_di")(up).dropna().eq(0).all()


def test_equal_moves_up_and_down_count_for_neither_after_adjusting() -> None:
    "Ties in cents must not be decided by the last digit of an adjustment factor."
    rng = np.random.default_rng(0)
    middle = 50 + np.cumsum(rng.integers(-3, 4, 200)) / 100
    reach = rng.integers(1, 4, 200) / 100
    bars = market(0, n_dates=200, symbols="A", missing=0).assign(high=middle + reach, low=middle - reach, close=middle)
    for factor in (1 / 3, 0.7, 0.123456):
        scaled = bars.assign(**{c: bars[c] * factor for c in ("high", "low", "close")})
        np.testing.assert_allclose(adx(14)(scaled), adx(14)(bars), rtol=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rsi(0), lambda: adx(0), lambda: adx(14, "x"), lambda: macd(26, 12), lambda: macd(signal=0),
        lambda: macd(part="x"), lambda: bollinger(20, 0),
        lambda: bollinger(0), lambda: stochastic(0), lambda: stochastic(14, 3, "x"), lambda: vwap_distance(0),
        lambda: anchored_vwap("hour"), lambda: memory(0), lambda: memory(1.5),
    ],
)  # fmt: skip
def test_bad_arguments(call) -> None:
    with pytest.raises(ConfigError):
        call()


def test_intraday_has_no_anchor() -> None:
    with pytest.raises(PanelError, match="time zone"):
        anchored_vwap()(BARS.tz_localize("UTC", level="date"))
