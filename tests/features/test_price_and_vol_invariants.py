"""Properties every feature keeps, and pandas groupby as the oracle for a few."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, LeakError, PanelError
from quantlab.features.base import Feature, check_feature, compute, window
from quantlab.features.price import PRICE, best_day, distance, high_52w, intraday, momentum, overnight, reversal
from quantlab.features.sets import SETS, feature_set
from quantlab.features.vol import VOL, amihud, dollar_volume, downside, parkinson, true_range, volatility, volume_trend

LIGHT = settings(max_examples=12, deadline=None)
# The shipped formulas with short windows, so that a panel of 40 sessions reaches all of them.
SHORT = (
    momentum(12, 3),
    reversal(5),
    high_52w(10),
    overnight(6),
    intraday(6),
    distance(8),
    best_day(6),
    volatility(8),
    downside(8),
    parkinson(6),
    true_range(5),
    amihud(6),
    dollar_volume(6),
    volume_trend(4, 10),
)


def market(seed: int = 0, n_dates: int = 40, symbols: str = "ABCDE", missing: float = 0.05) -> pd.DataFrame:
    """Random bars with gaps: rows that are absent and values that are NaN."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=n_dates, unit="us"), pd.Index(list(symbols), dtype="str")],
        names=["date", "symbol"],
    )
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (n_dates, len(symbols))), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, close.shape)))
    volume = rng.integers(1_000, 100_000, close.shape).astype(float)
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": volume, "amount": close * volume}
    bars = pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index)
    bars = bars.mask(rng.random(bars.shape) < missing / 5)
    return bars[rng.random(len(bars)) >= missing / 2]


def same(a: pd.Series, b: pd.Series, rtol: float = 1e-9) -> bool:
    return np.allclose(a, b, rtol=rtol, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("f", SHORT, ids=lambda f: f.name)
class TestEveryFeature:
    @LIGHT
    @given(seed=st.integers(0, 10**6))
    def test_keeps_the_suite(self, f: Feature, seed: int) -> None:
        assert check_feature(f, market(seed)).status == "PASS"

    @LIGHT
    @given(seed=st.integers(0, 10**6), cut=st.integers(15, 38))
    def test_truncation_moves_nothing(self, f: Feature, seed: int, cut: int) -> None:
        bars = market(seed)
        end = bars.index.levels[0][cut]
        pd.testing.assert_series_equal(f(bars.loc[:end]), f(bars).loc[:end], rtol=1e-12)

    @LIGHT
    @given(seed=st.integers(0, 10**6))
    def test_a_corrupt_future_moves_nothing(self, f: Feature, seed: int) -> None:
        bars, corrupt = market(seed), market(seed)
        end = bars.index.levels[0][25]
        later = corrupt.index.get_level_values("date") > end
        corrupt.loc[later] = corrupt.loc[later] * 1e6
        pd.testing.assert_series_equal(f(corrupt).loc[:end], f(bars).loc[:end], rtol=1e-12)

    @LIGHT
    @given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
    def test_price_scale_does_not_matter(self, f: Feature, seed: int, scale: float) -> None:
        bars = market(seed)
        scaled = bars.assign(**{c: bars[c] * scale for c in ("open", "high", "low", "close")})
        assert same(f(bars), f(scaled))

    @LIGHT
    @given(seed=st.integers(0, 10**6), order=st.permutations(list("ABCDE")))
    def test_names_do_not_matter(self, f: Feature, seed: int, order: list[str]) -> None:
        bars = market(seed)
        names = dict(zip("ABCDE", order, strict=True))
        renamed = bars.rename(index=names, level="symbol").sort_index()
        assert same(f(bars).rename(index=names, level="symbol").sort_index(), f(renamed))

    def test_one_symbol_alone_gives_its_own_values(self, f: Feature) -> None:
        bars = market(3, missing=0)
        alone = bars.loc[bars.index.get_level_values("symbol") == "B"]
        assert same(f(bars).xs("B", level="symbol"), f(alone).droplevel("symbol"))

    def test_degenerate_bars(self, f: Feature) -> None:
        bars = market(1)
        assert f(bars.iloc[:0]).empty
        assert len(f(bars.iloc[:1])) == 1
        for value in (np.nan, np.inf, -np.inf, 0.0, -1.0):
            assert (
                f(bars * 0 + value if np.isfinite(value) else bars.assign(**dict.fromkeys(bars.columns, value)))
                .isna()
                .all()
            )
        constant = f(bars.assign(open=5.0, high=5.0, low=5.0, close=5.0))
        assert not np.isinf(constant).any()

    def test_dead_volume(self, f: Feature) -> None:
        values = f(market(1).assign(volume=0.0, amount=0.0))
        assert not np.isinf(values).any()
        assert values.isna().all() == ("amount" in f.inputs)

    def test_one_lost_bar_heals(self, f: Feature) -> None:
        bars = market(2, missing=0)
        date = bars.index.levels[0][15]
        holed = f(bars.drop(index=[(date, "C")]))
        assert holed.loc[bars.index.levels[0][-1]].notna().all()
        assert same(holed.xs("A", level="symbol"), f(bars).xs("A", level="symbol"))


def by_symbol(column: pd.Series):
    return column.groupby("symbol")


class TestOracles:
    """Groupby-apply, slow and plain, on panels without gaps."""

    bars = market(11, missing=0)
    close, high, low, amount = bars["close"], bars["high"], bars["low"], bars["amount"]
    ret = by_symbol(close).pct_change(fill_method=None)

    def test_momentum(self) -> None:
        assert same(momentum(12, 3)(self.bars), by_symbol(self.close).shift(3) / by_symbol(self.close).shift(12) - 1)

    def test_reversal(self) -> None:
        assert same(reversal(5)(self.bars), -by_symbol(self.close).pct_change(5, fill_method=None))

    def test_high(self) -> None:
        top = by_symbol(self.high).transform(lambda x: x.rolling(10, min_periods=8).max())
        assert same(high_52w(10)(self.bars), self.close / top)

    def test_night_and_day_make_the_whole(self) -> None:
        night, day = overnight(1)(self.bars), intraday(1)(self.bars)
        assert same((1 + night) * (1 + day) - 1, self.ret.where(night.notna()))

    def test_volatility(self) -> None:
        assert same(
            volatility(8)(self.bars), by_symbol(self.ret).transform(lambda x: x.rolling(8, min_periods=7).std())
        )

    def test_downside(self) -> None:
        expected = by_symbol(self.ret).transform(
            lambda x: x.rolling(8, min_periods=7).apply(lambda w: np.sqrt(np.nanmean(np.minimum(w, 0) ** 2)))
        )
        assert same(downside(8)(self.bars), expected.where(expected > 0), rtol=1e-7)

    def test_true_range(self) -> None:
        before = by_symbol(self.close).shift()
        tr = pd.concat([self.high - self.low, (self.high - before).abs(), (self.low - before).abs()], axis=1).max(
            axis=1, skipna=False
        )
        expected = by_symbol(tr).transform(lambda x: x.rolling(5, min_periods=4).mean()) / self.close
        assert same(true_range(5)(self.bars), expected)

    def test_amihud(self) -> None:
        expected = by_symbol(self.ret.abs() / self.amount * 1e9).transform(lambda x: x.rolling(6, min_periods=5).mean())
        assert same(amihud(6)(self.bars), expected)

    def test_parkinson_finds_the_volatility_of_a_random_walk(self) -> None:
        rng = np.random.default_rng(5)
        steps = np.exp(np.cumsum(rng.normal(0, 0.02 / np.sqrt(2000), (250, 2000)), axis=1))
        index = pd.MultiIndex.from_product(
            [pd.date_range("2024-01-01", periods=250, unit="us"), pd.Index(["A"], dtype="str")],
            names=["date", "symbol"],
        )
        bars = pd.DataFrame(
            {"high": np.maximum(steps.max(axis=1), 1), "low": np.minimum(steps.min(axis=1), 1)}, index=index
        )
        assert parkinson(250)(bars).iloc[-1] == pytest.approx(0.02, rel=0.06)


class TestSuite:
    bars = market(4, missing=0)

    @pytest.mark.parametrize(
        ("formula", "lookback", "error"),
        [
            (lambda close: close.shift(-1) / close, 0, LeakError),
            (lambda close: close / close.rolling(5, center=True).mean(), 2, LeakError),
            (lambda close: close / close.mean(), 0, LeakError),
            (lambda close: close.bfill() / close.shift(1), 1, None),
            (lambda close: close, 0, LeakError),
            (lambda close: close.rank(axis=1), 0, LeakError),
            (lambda close: close / close.shift(6), 5, PanelError),
            (lambda close: close / close.ewm(span=10).mean(), 10, PanelError),
            (lambda close: close / close.shift(6), 6, None),
        ],
    )
    def test_verdicts(self, formula, lookback: int, error: type | None) -> None:
        f = Feature("x", formula, lookback, ["close"], "")
        if error is None:
            assert check_feature(f, self.bars).status == "PASS"
        else:
            with pytest.raises(error):
                check_feature(f, self.bars)

    def test_a_back_filled_gap_is_a_leak(self) -> None:
        holed = self.bars.copy()
        holed.loc[holed.index.get_level_values("date").isin(holed.index.levels[0][18:36]), "close"] = np.nan
        with pytest.raises(LeakError):
            check_feature(Feature("x", lambda close: close.bfill() / close.shift(1), 1, ["close"], ""), holed)

    def test_changing_the_bars_is_refused(self) -> None:
        def spoil(bars: pd.DataFrame) -> pd.Series:
            result = bars["close"].rename("x") / bars["open"]
            bars["close"] = 1.0
            return result.rename("x")

        with pytest.raises(PanelError, match="changes the bars"):
            check_feature(Feature("x", spoil, 0, "bars"), self.bars.copy())

    def test_missing_column_names_feature_and_column(self) -> None:
        with pytest.raises(PanelError, match=r"feature amihud_6 needs column amount.*before adjusting"):
            compute(self.bars.drop(columns="amount").assign(adj=1.0), [amihud(6)])

    def test_amount_wins_over_adjusted_prices(self) -> None:
        paid = self.bars.assign(**{c: self.bars[c] * 0.3 for c in ("open", "high", "low", "close")})
        assert same(dollar_volume(6)(paid), dollar_volume(6)(self.bars))

    @pytest.mark.parametrize(
        "call",
        [
            lambda: momentum(5, 5),
            lambda: momentum(5, -1),
            lambda: volume_trend(10, 10),
            lambda: reversal(-1),
            lambda: feature_set("none"),
        ],
    )
    def test_bad_arguments(self, call) -> None:
        with pytest.raises(ConfigError):
            call()


class TestSets:
    def test_names_are_unique_and_cited(self) -> None:
        names = [f.name for f in SETS["base"]]
        assert len(set(names)) == len(names) == len(PRICE) + len(VOL)
        assert all(f.citation and f.inputs and f.lookback >= 0 for f in SETS["base"])

    def test_columns_follow_the_order_asked(self) -> None:
        bars = market(6)
        both = compute(bars, SHORT)
        assert list(both.columns) == [f.name for f in SHORT]
        assert same(compute(bars, SHORT[::-1])["rev_5"], both["rev_5"])

    def test_window_wants_four_fifths(self) -> None:
        x = pd.DataFrame({"A": [1.0, np.nan, 1.0, 1.0, 1.0, np.nan]})
        assert window(x, 5).mean()["A"].notna().tolist() == [False] * 4 + [True, False]
