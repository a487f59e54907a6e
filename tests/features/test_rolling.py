"""The rolling operators against pandas and plain loops, and the properties they keep."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.features import rolling as r

LIGHT = settings(max_examples=25, deadline=None)
OPERATORS = {
    "total": r.total,
    "mean": r.mean,
    "std": lambda x, n: r.mean_std(x, n)[1],
    "slope": lambda x, n: r.trend(x, n)[0],
    "fit": lambda x, n: r.trend(x, n)[1],
    "rest": lambda x, n: r.trend(x, n)[2],
    "highest": r.highest,
    "lowest": r.lowest,
    "since_highest": r.since_highest,
    "since_lowest": r.since_lowest,
    "rank": lambda x, n: r.ts_rank(x, n)[0],
    "quantile": lambda x, n: r.ts_rank(x, n, (0.8,))[1],
    "rises": lambda x, n: r.rise_fall(r.delta(x, 1), n)[0],
    "falls": lambda x, n: r.rise_fall(r.delta(x, 1), n)[1],
    "corr": lambda x, n: r.corr(x, np.abs(x) ** 0.5, n),
}


def tile(seed: int, rows: int = 90, symbols: int = 5, missing: float = 0.1, digits: int = 2) -> np.ndarray:
    "Prices with gaps, whole blocks of gaps, and ties."
    rng = np.random.default_rng(seed)
    x = np.exp(np.cumsum(rng.normal(0, 0.05, (rows, symbols)), axis=0)).round(digits) + 1
    x[rng.random(x.shape) < missing] = np.nan
    x[20:32, 0] = np.nan
    x[:7, 1] = np.nan
    x[50:70, 2] = x[49, 2]
    return x


def plain(x: np.ndarray, n: int, call) -> np.ndarray:
    "Apply a function of one window, NaN included, to each window that holds a value."
    out = np.full(x.shape, np.nan)
    for t, s in np.ndindex(x.shape):
        w = x[max(t - n + 1, 0) : t + 1, s]
        if not np.isnan(w).all():
            out[t, s] = call(w)
    return out


def line(w: np.ndarray) -> tuple[float, float, float]:
    "Fit a line through the values that are there: slope, R squared, residual of the last."
    i = np.arange(len(w), dtype=float)[~np.isnan(w)]
    y = w[~np.isnan(w)]
    if len(y) < 2:
        return np.nan, np.nan, np.nan
    i0, y0 = i - i.mean(), y - y.mean()
    slope = (i0 * y0).sum() / (i0**2).sum()
    fit = (i0 * y0).sum() ** 2 / (i0**2).sum() / (y0**2).sum() if len(set(y)) > 1 else np.nan
    return slope, fit, w[-1] - y.mean() - slope * (len(w) - 1 - i.mean())


@LIGHT
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40))
def test_words_that_pandas_has(seed: int, n: int) -> None:
    x, y = tile(seed), tile(seed + 1)
    frame, other = pd.DataFrame(x), pd.DataFrame(y)
    window = frame.rolling(n, min_periods=1)
    oracles = {
        "total": window.sum(), "mean": window.mean(), "std": window.std(), "highest": window.max(),
        "lowest": window.min(),
        "rank": window.rank(pct=True), "quantile": window.quantile(0.8),
        "rises": frame.diff().clip(lower=0).rolling(n, min_periods=1).sum(),
        "falls": -frame.diff().clip(upper=0).rolling(n, min_periods=1).sum(),
    }  # fmt: skip
    for word, expected in oracles.items():
        np.testing.assert_allclose(OPERATORS[word](x, n), expected, rtol=1e-7, atol=1e-7, err_msg=word)
    np.testing.assert_array_equal(r.count(x, n), window.count())
    ours, theirs = r.corr(x, y, n), window.corr(other).to_numpy()
    steady = (r.mean_std(np.where(np.isnan(y), np.nan, x), n)[1] > 1e-6) & (
        r.mean_std(np.where(np.isnan(x), np.nan, y), n)[1] > 1e-6
    )
    np.testing.assert_allclose(ours[steady], theirs[steady], rtol=1e-6, atol=1e-7)
    assert np.isnan(ours[~steady]).all()


@LIGHT
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30))
def test_trend_and_positions(seed: int, n: int) -> None:
    x = tile(seed, rows=60)
    slope, fit, rest = r.trend(x, n)
    np.testing.assert_allclose(slope, plain(x, n, lambda w: line(w)[0]), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit, plain(x, n, lambda w: line(w)[1]), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(rest, plain(x, n, lambda w: line(w)[2]), rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(r.since_highest(x, n), plain(x, n, lambda w: len(w) - 1 - w.argmax()))
    np.testing.assert_array_equal(r.since_lowest(x, n), plain(x, n, lambda w: len(w) - 1 - w.argmin()))


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_order_in_single_precision_is_the_same_order(n: int) -> None:
    x = tile(8, rows=150, symbols=9, digits=1).astype(np.float32)
    single, double = (r.ts_rank(v, n, (0.0, 0.2, 0.5, 1.0)) for v in (x, x.astype(float)))
    for one, two in zip(single, double, strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == np.float64


def test_an_extreme_is_never_infinite() -> None:
    x = np.array([[1.0], [np.inf], [-np.inf], [np.nan], [2.0]])
    np.testing.assert_array_equal(r.highest(x, 2)[:, 0], [1, np.nan, np.nan, np.nan, 2])
    np.testing.assert_array_equal(r.lowest(x, 2)[:, 0], [1, 1, np.nan, np.nan, 2])


@pytest.mark.parametrize("word", OPERATORS)
class TestEveryWord:
    @pytest.mark.parametrize("n", [1, 2, 5, 60])
    def test_is_causal_and_forgets(self, word: str, n: int) -> None:
        x = tile(3, rows=150)
        full = OPERATORS[word](x, n)
        np.testing.assert_allclose(OPERATORS[word](x[:100], n), full[:100], rtol=1e-9)
        np.testing.assert_allclose(OPERATORS[word](x[80:], n)[n:], full[80 + n :], rtol=1e-7, atol=1e-9)

    def test_symbols_do_not_meet(self, word: str) -> None:
        x = tile(4, symbols=37)
        full = OPERATORS[word](x, 10)
        np.testing.assert_array_equal(OPERATORS[word](x[:, 11:12], 10), full[:, 11:12])
        np.testing.assert_array_equal(OPERATORS[word](x[:, ::-1], 10), full[:, ::-1])

    def test_degenerate_arrays(self, word: str) -> None:
        for x in (np.empty((0, 3)), np.empty((4, 0)), np.full((3, 2), np.nan)):
            assert OPERATORS[word](x, 5).shape == x.shape
            assert np.isnan(OPERATORS[word](x, 5)).all()
        flat = OPERATORS[word](np.full((30, 1), 0.1), 7)
        assert not np.isinf(flat).any()

    def test_leaves_its_input_alone(self, word: str) -> None:
        x = tile(5)
        before = x.copy()
        OPERATORS[word](x, 10)
        np.testing.assert_array_equal(x, before)

    def test_refuses_an_empty_window(self, word: str) -> None:
        with pytest.raises(ConfigError, match="empty"):
            OPERATORS[word](tile(6), 0)
        with pytest.raises(PanelError, match="dimensions"):
            OPERATORS[word](np.ones(5), 2)


def test_no_drift() -> None:
    "Ten million of a second, then small numbers: the window forgets the large ones exactly."
    x = np.concatenate([np.full(50, 1e15), np.linspace(1, 2, 50)]).reshape(-1, 1)
    np.testing.assert_allclose(
        r.total(x, 7)[60:], pd.DataFrame(x[50:]).rolling(7, min_periods=1).sum()[10:], rtol=1e-15
    )
    np.testing.assert_allclose(r.mean_std(x, 7)[1][60:], r.mean_std(x[50:], 7)[1][10:], rtol=1e-12)


def test_a_constant_window_has_exactly_no_deviation() -> None:
    x = np.concatenate([np.full(40, 7.3), np.full(40, 0.1)]).reshape(-1, 1)
    assert (r.mean_std(x, 9)[1][50:] == 0).all()
    assert np.isnan(r.trend(x, 9)[1][50:]).all() and np.isnan(r.corr(x, np.arange(80.0).reshape(-1, 1), 9)[50:]).all()


def test_levels_far_above_the_deviation() -> None:
    x = tile(7, missing=0)
    np.testing.assert_allclose(r.mean_std(x + 1e8, 20)[1], r.mean_std((x + 1e8) - 1e8, 20)[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "call", [lambda x: r.ref(x, -1), lambda x: r.ts_rank(x, 5, (1.5,)), lambda x: r.corr(x, x[1:], 3)]
)
def test_clear_errors(call) -> None:
    with pytest.raises((ConfigError, PanelError)):
        call(tile(8))
