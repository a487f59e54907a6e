"""Properties that the technical indicators, factors, range estimators and transformed features keep, and the audit
of the whole sets on the sample."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_price_and_vol_invariants import market, same

from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import Feature, check_feature, compute
from quantlab.features.factors import (
    FACTORS,
    beta,
    idiosyncratic_volatility,
    relative_volume,
    residual_momentum,
    seasonality,
    turnover,
)
from quantlab.features.price import reversal
from quantlab.features.technical import (
    TECHNICAL,
    adx,
    anchored_vwap,
    average_true_range,
    bollinger,
    macd,
    rsi,
    stochastic,
    vwap_distance,
)
from quantlab.features.transform import frac_return, rolling_scored
from quantlab.features.vol import RANGE_VOL, garman_klass, realised, rogers_satchell, volatility, yang_zhang

LIGHT = settings(max_examples=2, deadline=None)
SEEDS = st.integers(0, 10**6)
N_DATES = 100
INDEX = pd.Series(
    np.random.default_rng(9).normal(0, 0.01, N_DATES),
    pd.date_range("2024-01-01", periods=N_DATES, unit="us"),
    name="index",
)
# The shipped formulas with short windows, so that a panel of 100 sessions is longer than their memory.
RECURSIVE = (
    rsi(2),
    average_true_range(2),
    adx(2),
    adx(2, "plus_di"),
    adx(2, "minus_di"),
    *(macd(2, 4, 2, part) for part in ("line", "signal", "hist")),
)
WINDOWED = (
    bollinger(6, 2),
    stochastic(5, 2),
    stochastic(5, 2, "d"),
    vwap_distance(5),
    anchored_vwap("week"),
    realised(6),
    garman_klass(6),
    rogers_satchell(6),
    yang_zhang(6),
    relative_volume(3, 8),
    turnover(5),
    rolling_scored(reversal(2), 8),
    beta(10, market=INDEX),
    beta(10, 0.6, INDEX),
    idiosyncratic_volatility(8, INDEX),
    residual_momentum(12, 2, 20, INDEX),
)
COMMON = (beta(10), idiosyncratic_volatility(8), residual_momentum(12, 2, 20))  # the market is the panel's mean
STRICT = (frac_return(0.4, 8),)  # a window with a gap has no value


def bars_of(seed: int, missing: float = 0.05) -> pd.DataFrame:
    return market(seed, n_dates=N_DATES, symbols="ABCD", missing=missing).assign(shares=1e6)


def prices_times(bars: pd.DataFrame, scale: float) -> pd.DataFrame:
    return bars.assign(**{c: bars[c] * scale for c in ("open", "high", "low", "close")})


@pytest.mark.parametrize("f", RECURSIVE + WINDOWED + COMMON + STRICT, ids=lambda f: f.name)
class TestEveryFeature:
    def test_keeps_the_suite(self, f: Feature) -> None:
        assert check_feature(f, bars_of(7)).status == "PASS"

    @LIGHT
    @given(seed=SEEDS, cut=st.integers(40, 98))
    def test_a_corrupt_future_moves_nothing(self, f: Feature, seed: int, cut: int) -> None:
        bars, corrupt = bars_of(seed), bars_of(seed)
        end = bars.index.levels[0][cut]
        later = corrupt.index.get_level_values("date") > end
        corrupt.loc[later] = corrupt.loc[later] * 1e3
        assert same(f(corrupt).loc[:end], f(bars).loc[:end])

    @LIGHT
    @given(seed=SEEDS, scale=st.floats(1e-3, 1e3))
    def test_price_scale_does_not_matter(self, f: Feature, seed: int, scale: float) -> None:
        bars = bars_of(seed)
        assert same(f(bars), f(prices_times(bars, scale)))

    @LIGHT
    @given(seed=SEEDS, order=st.permutations(list("ABCD")))
    def test_names_do_not_matter(self, f: Feature, seed: int, order: list[str]) -> None:
        bars, names = bars_of(seed), dict(zip("ABCD", order, strict=True))
        renamed = bars.rename(index=names, level="symbol").sort_index()
        assert same(f(bars).rename(index=names, level="symbol").sort_index(), f(renamed))

    def test_degenerate_bars(self, f: Feature) -> None:
        bars = bars_of(1)
        assert f(bars.iloc[:0]).empty
        assert f(bars.iloc[:1]).isna().all()
        for value in (np.nan, np.inf, -np.inf, 0.0, -1.0):
            assert f(bars.assign(**dict.fromkeys(bars.columns, value))).isna().all()
        assert not np.isinf(f(bars.assign(open=5.0, high=5.0, low=5.0, close=5.0))).any()
        assert f(bars.assign(volume=0.0)).isna().all() == ("volume" in f.inputs)

    def test_one_symbol_alone(self, f: Feature) -> None:
        bars = bars_of(3, missing=0)
        alone = f(bars.loc[bars.index.get_level_values("symbol") == "B"])
        assert alone.isna().all() if f in COMMON else same(f(bars).xs("B", level="symbol"), alone.droplevel("symbol"))


@pytest.mark.parametrize("f", RECURSIVE + WINDOWED + STRICT, ids=lambda f: f.name)
@pytest.mark.parametrize("how", ["row dropped", "row of NaN"])
def test_a_lost_bar_stays_with_its_symbol_and_heals(f: Feature, how: str) -> None:
    bars = bars_of(2, missing=0)
    row = (bars.index.levels[0][50], "C")
    holed = bars.drop(index=[row]) if how == "row dropped" else bars.copy()
    if how == "row of NaN":
        holed.loc[row] = np.nan
    before, after = (f(b).unstack() for b in (bars, holed))
    assert same(before[["A", "B", "D"]], after[["A", "B", "D"]])
    assert same(before["C"].iloc[:50], after["C"].iloc[:50])
    assert after["C"].iloc[-30:].notna().all()


@pytest.mark.parametrize(
    "f", [beta(20), idiosyncratic_volatility(20), residual_momentum(30, 2, 60)], ids=lambda f: f.name
)
def test_a_growing_price_has_no_line(f: Feature) -> None:
    bars = bars_of(4, missing=0)
    day = bars.groupby("symbol").cumcount()
    assert f(bars.assign(close=1.01**day)).isna().all()


def test_a_given_market_is_not_changed_by_the_panel() -> None:
    bars = bars_of(5, missing=0)
    few = bars[bars.index.get_level_values("symbol") != "D"]
    for f, moved in ((beta(10, market=INDEX), False), (beta(10), True)):
        assert same(f(few), f(bars).loc[few.index]) != moved


def test_names_say_their_arguments() -> None:
    features = (
        *FACTORS,
        *TECHNICAL,
        *RANGE_VOL,
        frac_return(),
        rolling_scored(volatility(20), 252),
        turnover(),
        beta(weight=0.6),
        beta(market=INDEX),
        rsi(2),
        seasonality(3),
    )
    names = [f.name for f in features]
    assert len(set(names)) == len(names)
    assert {
        "rsi_14",
        "natr_14",
        "adx_14",
        "macd_hist_12_26_9",
        "bollinger_20_2",
        "stoch_d_14_3",
        "vwap_20",
        "vwap_month",
        "beta_252_w0.6",
        "beta_252_index",
    } <= set(names)
    assert all(f.citation and f.inputs and f.lookback > 0 for f in features)


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    raw = sample_bars(symbols=["AAPL", "KO", "T", "XOM"], start="2012-01-01", end="2018-12-31")
    return adjust(raw.assign(amount=raw["close"] * raw["volume"], shares=1e9), "total")


REGISTERED = (*TECHNICAL, *FACTORS, *RANGE_VOL, turnover(21), frac_return(), rolling_scored(volatility(20), 252))


@pytest.mark.parametrize("f", REGISTERED, ids=lambda f: f.name)
def test_passes_the_audit_on_the_sample(f: Feature, sample: pd.DataFrame) -> None:
    assert f.lookback + 2 < len(sample.index.levels[0]), "the sample is too short to test the look-back"
    assert check_feature(f, sample).status == "PASS"


def test_the_look_back_is_not_wasteful(sample: pd.DataFrame) -> None:
    "Half the stated look-back is not enough: the last value differs."
    dates = sample.index.levels[0]
    full = compute(sample, REGISTERED).loc[dates[-1] :]
    for f in REGISTERED:
        short = f(sample.loc[dates[-f.lookback // 2] :]).loc[dates[-1] :]
        assert not np.allclose(short, full[f.name], rtol=1e-12, atol=0) or f.name == "vwap_month", f.name
