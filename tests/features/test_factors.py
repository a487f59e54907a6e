"""Factors and range estimators against numpy on one symbol and one date at a time."""

import numpy as np
import pandas as pd
import pytest
from test_price_and_vol_invariants import market

from quantlab.core.errors import ConfigError
from quantlab.features.factors import (
    beta,
    idiosyncratic_volatility,
    relative_volume,
    residual_momentum,
    seasonality,
    turnover,
)
from quantlab.features.vol import garman_klass, realised, rogers_satchell, yang_zhang

BARS = market(21, n_dates=150, symbols="ABCDEF", missing=0.1)
CLOSE = BARS["close"].unstack()
RETURNS = CLOSE / CLOSE.shift() - 1
MARKET = RETURNS.mean(axis=1)
GIVEN = pd.Series(
    np.random.default_rng(2).normal(0, 0.01, 150), pd.date_range("2024-01-01", periods=150, unit="us"), name="given"
)


def pairs(symbol: str, t: int, n: int, common: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    r, m = RETURNS[symbol].iloc[t - n + 1 : t + 1], common.iloc[t - n + 1 : t + 1]
    there = r.notna() & m.notna()
    return r[there].to_numpy(), m[there].to_numpy()


@pytest.mark.parametrize("common", [None, GIVEN], ids=["mean", "given"])
def test_lines_equal_polyfit(common: pd.Series | None) -> None:
    line = MARKET if common is None else common
    found = {
        f: f(BARS).unstack()
        for f in (beta(20, market=common), idiosyncratic_volatility(20, common), residual_momentum(20, 4, 60, common))
    }
    compared = 0
    for symbol in CLOSE:
        for t in range(62, 150, 9):
            r, m = pairs(symbol, t, 20, line)
            slope, level = np.polyfit(m, r, 1)
            e = r - level - slope * m
            long_r, long_m = pairs(symbol, t, 60, line)
            long_slope, long_level = np.polyfit(long_m, long_r, 1)
            r, m = pairs(symbol, t - 4, 16, line)
            past = r - long_level - long_slope * m
            if len(e) >= 16 and len(past) >= 13 and len(long_r) >= 48 and np.isfinite(CLOSE[symbol].iloc[t]):
                expected = [slope, np.sqrt(e @ e / (len(e) - 2)), past.mean() / past.std()]
                np.testing.assert_allclose([x[symbol].iloc[t] for x in found.values()], expected, rtol=1e-8)
                compared += 1
    assert compared > 30


def test_market_known_at_the_close_counts_the_same_day() -> None:
    "A shock of today moves today's beta; one of tomorrow does not."
    for day, moved in ((149, True), (150, False)):
        shocked = pd.concat([GIVEN, pd.Series([0.01], [GIVEN.index[-1] + pd.Timedelta(days=1)])]).rename("given")
        shocked.iloc[day] += 0.5
        now, then = (beta(20, market=m)(BARS).unstack().iloc[149] for m in (GIVEN, shocked))
        assert np.allclose(now, then, equal_nan=True) != moved


def test_shrinking_is_a_mean_with_one() -> None:
    np.testing.assert_allclose(beta(20, 0.6)(BARS), 0.6 * beta(20)(BARS) + 0.4, rtol=1e-12)


def test_turnover_and_volume() -> None:
    bars = market(5, n_dates=40, missing=0).assign(shares=2e5)
    volume = bars["volume"].unstack()
    np.testing.assert_allclose(turnover(5)(bars).unstack().iloc[-1], volume.iloc[-5:].mean() / 2e5)
    np.testing.assert_allclose(
        relative_volume(5, 20)(bars).unstack().iloc[-1], volume.iloc[-5:].mean() / volume.iloc[-20:].mean()
    )


def test_seasonality_is_the_month_that_followed() -> None:
    "At the end of a month it is the mean of the coming calendar month in past years, from plain month-end prices."
    bars = market(6, n_dates=365 * 5 + 2, symbols="AB", missing=0)
    close = bars["close"].unstack()
    ends = close.resample("ME").last()
    months = ends / ends.shift() - 1
    found = seasonality(3, 366)(bars).unstack()
    for day in ("2027-04-30", "2027-12-31", "2028-10-31"):
        coming = [months.asof(pd.Timestamp(day) - pd.DateOffset(years=k) + pd.offsets.MonthEnd(1)) for k in (1, 2, 3)]
        if pd.Timestamp(day).day == 31:  # from the 31st to the last of the next month: whole calendar months
            np.testing.assert_allclose(found.loc[day], sum(coming) / 3, rtol=1e-9)
    past = [close.loc[f"{y}-05-10"] / close.loc[f"{y}-04-10"] - 1 for y in (2024, 2025, 2026)]
    np.testing.assert_allclose(found.loc["2027-04-10"], sum(past) / 3, rtol=1e-9)


def test_range_estimators_equal_their_formulas() -> None:
    bars = market(9, n_dates=30, symbols="A", missing=0)
    o, h, lo, c = (np.log(bars[x].to_numpy()) for x in ("open", "high", "low", "close"))
    rs = (h - c) * (h - o) + (lo - c) * (lo - o)
    gk = 0.5 * (h - lo) ** 2 - (2 * np.log(2) - 1) * (c - o) ** 2
    k = 0.34 / (1.34 + 11 / 9)
    night, day = (o[1:] - c[:-1])[-10:], (c - o)[-10:]
    expected = {
        realised(10): np.mean(np.diff(c)[-10:] ** 2),
        garman_klass(10): gk[-10:].mean(),
        rogers_satchell(10): rs[-10:].mean(),
    }
    expected[yang_zhang(10)] = night.var(ddof=1) + k * day.var(ddof=1) + (1 - k) * rs[-10:].mean()
    for f, variance in expected.items():
        assert f(bars).iloc[-1] == pytest.approx(np.sqrt(variance), rel=1e-9), f.name


@pytest.mark.parametrize(
    "call",
    [
        lambda: beta(1), lambda: beta(weight=0), lambda: beta(weight=1.5), lambda: idiosyncratic_volatility(3),
        lambda: residual_momentum(252, 21, 252),
        lambda: residual_momentum(21, 21), lambda: relative_volume(20, 20), lambda: seasonality(0),
        lambda: yang_zhang(1), lambda: garman_klass(0),
        lambda: beta(market=GIVEN.rename(None)), lambda: beta(market=GIVEN.reset_index(drop=True)),
        lambda: beta(market=pd.concat([GIVEN, GIVEN])),
    ],
)  # fmt: skip
def test_bad_arguments(call) -> None:
    with pytest.raises(ConfigError):
        call()
