"What every shipped feature says of bars that stand still, are broken, or hardly there; and what its builders refuse."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, PanelError
from quantlab.core.panel import as_panel, to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features import rolling, xsection
from quantlab.features.base import compute
from quantlab.features.factors import FACTORS, beta, idiosyncratic_volatility, residual_momentum, seasonality, turnover
from quantlab.features.price import PRICE, momentum
from quantlab.features.sets import feature_set
from quantlab.features.technical import TECHNICAL, anchored_vwap, bollinger, macd, rsi, stochastic, vwap_distance
from quantlab.features.transform import cusum, frac_diff, rolling_zscore
from quantlab.features.vol import RANGE_VOL, VOL, volatility, yang_zhang


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    raw = sample_bars(symbols=["AAPL", "BAC", "KO", "XOM"], end="2013-12-31")
    return adjust(raw.assign(amount=raw["close"] * raw["volume"]), "total")


def of_one_date(*values: float) -> pd.DataFrame:
    frame = pd.DataFrame({"x": np.array(values, dtype=float)})
    return as_panel(frame.assign(date="2024-01-02", symbol=[f"S{i:02}" for i in range(len(values))]))


def of_one_symbol(*values: float) -> pd.Series:
    frame = pd.DataFrame({"symbol": "A", "x": np.array(values, dtype=float)})
    return as_panel(frame.assign(date=pd.date_range("2024-01-01", periods=len(values))))["x"]


def growing(factors: list[float]) -> pd.DataFrame:
    "Bars of names that grow by one factor each."
    dates = pd.date_range("2015-01-01", periods=60, unit="us")
    names = pd.Index([f"S{i:02}" for i in range(len(factors))], dtype="str")
    close = np.cumprod(np.full((60, len(factors)), factors), axis=0)
    return pd.DataFrame(
        {"close": close.ravel()}, index=pd.MultiIndex.from_product([dates, names], names=["date", "symbol"])
    )


class TestShippedFeatures:
    @pytest.mark.parametrize("f", PRICE, ids=lambda f: f.name)
    def test_price(self, f, bars) -> None:
        values = f(bars.assign(open=5.0, high=5.0, low=5.0, close=5.0))
        assert not np.isinf(values).any() and values.dropna().isin([0.0, 1.0]).all()
        assert f(bars.iloc[:0]).empty and f(bars.iloc[:1]).isna().all()
        assert f(bars.assign(open=np.inf, high=np.nan, low=0.0, close=np.inf)).isna().all()

    @pytest.mark.parametrize("f", TECHNICAL, ids=lambda f: f.name)
    def test_technical(self, f, bars) -> None:
        still = f(bars.assign(open=5.0, high=5.0, low=5.0, close=5.0))
        assert not np.isinf(still).any() and (still.isna() | (still.abs() < 1e-12)).all()
        assert f(bars.iloc[:0]).empty and f(bars.iloc[:1]).isna().all()
        assert f(bars.assign(high=np.inf, low=0.0, close=np.nan, volume=-1.0)).isna().all()
        assert f(bars.assign(volume=0.0)).isna().all() == ("volume" in f.inputs)

    @pytest.mark.parametrize("f", VOL + RANGE_VOL, ids=lambda f: f.name)
    def test_volatility(self, f, bars) -> None:
        assert f(bars.assign(open=5.0, high=5.0, low=5.0, close=5.0, amount=0.0)).isna().all()
        assert f(bars.iloc[:0]).empty
        assert f(bars.assign(open=-1.0, high=np.nan, low=0.0, close=np.inf, amount=-1.0)).isna().all()

    @pytest.mark.parametrize("f", (*FACTORS, turnover(5)), ids=lambda f: f.name)
    def test_factors(self, f, bars) -> None:
        given = bars.assign(shares=1e9)
        flat = f(given.assign(close=5.0, volume=7.0))
        assert not np.isinf(flat).any() and flat.dropna().isin([0.0, 1.0, 7 / 1e9]).all()
        assert f(given.iloc[:0]).empty and f(given.iloc[:1]).isna().all()
        assert f(given.assign(close=np.inf, volume=0.0)).isna().all()

    def test_names_and_coverage(self, bars) -> None:
        assert [len(s) for s in (PRICE, TECHNICAL, VOL, RANGE_VOL)] == [11, 13, 8, 4]
        names = [f.name for f in (*PRICE, *TECHNICAL, *VOL, *RANGE_VOL)]
        assert len(set(names)) == len(names)
        table = compute(bars, [*PRICE, *TECHNICAL, *VOL])
        assert table.loc["2013"].notna().all(axis=None)
        base = feature_set("base")
        assert compute(bars.iloc[:0], base).shape == (0, 19) and compute(bars.iloc[:1], base).shape == (1, 19)
        assert not np.isinf(compute(bars, base).to_numpy()).any()


class TestMarketModel:
    def test_one_name_is_no_market(self, bars) -> None:
        alone = bars[bars.index.get_level_values("symbol") == "KO"]
        assert compute(alone, FACTORS[:3]).isna().all(axis=None)

    def test_a_market_of_itself_leaves_nothing(self, bars) -> None:
        close = to_wide(bars["close"])[["KO"]].to_numpy()[:300]
        dates = pd.date_range("2015-01-01", periods=300, unit="us")
        index = pd.MultiIndex.from_product([dates, pd.Index(["A", "B"], dtype="str")], names=["date", "symbol"])
        twice = pd.DataFrame({"close": np.repeat(close, 2, axis=1).ravel()}, index=index)
        assert idiosyncratic_volatility(21)(twice).isna().all() and np.allclose(beta(21)(twice).dropna(), 1)

    def test_steady_growth_has_no_line(self) -> None:
        steady = growing([1.001, 1.01, 1.02])
        assert (
            compute(steady, [beta(21), idiosyncratic_volatility(21), residual_momentum(21, 2, 40)])
            .isna()
            .all(axis=None)
        )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: residual_momentum(252, 21, 252), "out of order"),
        (lambda: beta(weight=0), "not defined"),
        (lambda: seasonality(0), "nothing in it"),
        (lambda: idiosyncratic_volatility(3), "too little"),
        (lambda: yang_zhang(1), "no variance"),
        (lambda: bollinger(20, 0), "no inside"),
        (lambda: rsi(0), "0 sessions"),
        (lambda: macd(signal=0), "not shares"),
        (lambda: stochastic(0), "hold nothing"),
        (lambda: vwap_distance(0), "lookback -1"),
        (lambda: rolling_zscore(of_one_symbol(1, 2), 1), "no deviation"),
        (lambda: rolling.ts_rank(np.ones((4, 1)), 3, (80,)), "leave"),
    ],
)
def test_a_builder_refuses(call, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()


def test_other_refusals(bars) -> None:
    with pytest.raises(PanelError, match="time zone"):
        anchored_vwap()(bars.tz_localize("UTC", level="date"))
    with pytest.raises(PanelError, match="reindex"):
        cusum(of_one_symbol(1, 2, 3), of_one_symbol(1, 2))
    with pytest.raises(PanelError, match="dimensions"):
        rolling.mean(np.ones(4), 3)


class TestWindows:
    @pytest.mark.parametrize(
        "empty",
        [np.empty((0, 3)), np.empty((5, 0)), np.full((4, 2), np.nan)],
        ids=["no dates", "no symbols", "no numbers"],
    )
    def test_nothing_in_nothing_out(self, empty) -> None:
        r = rolling
        found = [r.mean(empty, 3), *r.mean_std(empty, 3), *r.trend(empty, 3), r.highest(empty, 3), r.lowest(empty, 3)]
        found += [*r.ts_rank(empty, 3, (0.5,)), r.corr(empty, empty, 3), r.since_highest(empty, 3), r.total(empty, 3)]
        assert all(v.shape == empty.shape and np.isnan(v).all() for v in found)

    def test_symbols_do_not_mix_and_long_windows_are_means(self, bars) -> None:
        close = to_wide(bars["close"]).to_numpy()
        assert np.array_equal(rolling.mean(close[:, :1], 20), rolling.mean(close, 20)[:, :1])
        assert np.allclose(rolling.mean(close, 10_000)[-1], close.mean(axis=0))


class TestAcrossNames:
    @pytest.fixture(scope="class")
    def features(self, bars) -> pd.DataFrame:
        return compute(bars.loc["2012":], [volatility(60), volatility(20), momentum(63, 5)])

    @pytest.mark.parametrize(
        "f",
        [
            xsection.rank,
            xsection.zscore,
            xsection.robust_zscore,
            xsection.winsorise,
            lambda x: xsection.neutralise(x, pd.Series("a", index=x.index)),
        ],
        ids=["rank", "zscore", "robust_zscore", "winsorise", "neutralise"],
    )
    def test_shapes_and_holes(self, f, features) -> None:
        assert f(features.iloc[:0]).shape == (0, 3) and f(features["std_60"].iloc[:0]).empty
        assert f(features[[]]).shape == (len(features), 0)
        assert f(of_one_date(np.nan, np.nan))["x"].isna().all()
        assert not np.isinf(f(of_one_date(1, np.inf, 2, -np.inf))["x"]).any()
        assert f(of_one_date(1, np.inf, 2))["x"].isna().tolist() == [False, True, False]
        assert isinstance(f(features["std_60"]), pd.Series) and f(features["std_60"]).name == "std_60"
        two_days = slice("2012-06-01", "2012-06-04")
        assert f(features).loc[two_days].equals(f(features.loc[two_days]))

    def test_one_name(self, features) -> None:
        one = of_one_date(4)
        assert xsection.rank(one)["x"].tolist() == [0] and xsection.winsorise(one)["x"].tolist() == [4]
        assert xsection.zscore(one)["x"].isna().all() and xsection.robust_zscore(one)["x"].isna().all()
        assert xsection.neutralise(one, pd.Series([None], index=one.index))["x"].isna().all()
        assert xsection.neutralise(features.iloc[:0], None, features["std_60"].iloc[:0]).shape == (0, 3)


class TestOverTime:
    @pytest.mark.parametrize(
        "f", [lambda x: rolling_zscore(x, 3), lambda x: frac_diff(x, 0.5, 2)], ids=["rolling_zscore", "frac_diff"]
    )
    def test_shapes_and_holes(self, f, bars) -> None:
        both = compute(bars, [volatility(20), momentum()])
        assert f(both.iloc[:0]).shape == (0, 2) and f(both[[]]).shape == (len(both), 0)
        assert f(of_one_symbol(np.inf, 1, 2, -np.inf)).isin([np.inf, -np.inf]).sum() == 0
        assert f(of_one_symbol(np.nan, np.nan, np.nan)).isna().all() and f(of_one_symbol(4)).isna().all()
        assert f(both)["std_20"].equals(f(both["std_20"]))

    def test_cusum(self) -> None:
        assert cusum(of_one_symbol(np.inf, 1, 1, 1), 2).fillna(9).tolist() == [9, 0, 0, 1]
        assert cusum(of_one_symbol(1, 2).iloc[:0], 1.0).empty and cusum(of_one_symbol(4), 2).tolist() == [1]
