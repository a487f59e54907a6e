"""Trend scanning against a regression per window, and what a label may know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from quantlab.core.errors import ConfigError, PanelError
from quantlab.labels.trend import trend_scan

LIGHT = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 10**6)
HORIZONS = st.sampled_from([(3,), (2, 4, 6), (3, 4, 5, 6, 7)])


def market(seed: int, n_dates: int = 22, symbols: str = "ABCD", gaps: float = 0.04) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=n_dates, unit="us"), pd.Index(list(symbols), dtype="str")],
        names=["date", "symbol"],
    )
    close = 50 * np.exp(rng.normal(0, 0.02, (n_dates, len(symbols))).cumsum(axis=0)).ravel()
    bars = pd.DataFrame({"close": np.where(rng.random(len(index)) < gaps, np.nan, close)}, index=index)
    row, col = np.repeat(np.arange(n_dates), len(symbols)), np.tile(np.arange(len(symbols)), n_dates)
    last = rng.integers(n_dates // 2, 2 * n_dates, len(symbols))
    last[0] = n_dates
    return bars[(row <= last[col]) & ((rng.random(len(row)) > gaps) | (col == 0))]


def plain(bars: pd.DataFrame, horizons: tuple[int, ...]) -> pd.DataFrame:
    """The definition, one regression at a time."""
    dates = list(bars.index.levels[0])
    close = {k: v for k, v in bars["close"].items() if v == v}
    rows = []
    for date, symbol in bars.index:
        t = dates.index(date)
        row = {"y": np.nan, "t1": pd.NaT, "censored": False, "label": np.nan, "t_value": np.nan, "end": pd.NaT}
        rows.append(row)
        if t + max(horizons) >= len(dates):
            continue
        for h in horizons:
            points = [close.get((d, symbol), np.nan) for d in dates[t : t + h + 1]]
            if not np.isnan(points).any():
                fit = linregress(np.arange(h + 1), np.log(points))
                value = fit.slope / fit.stderr
                if not abs(row["t_value"]) >= abs(value):
                    plan = dates[t + max(horizons)]
                    row.update(
                        t_value=value,
                        label=np.sign(value),
                        end=dates[t + h],
                        y=points[-1] / points[0] - 1,
                        censored=(plan, symbol) not in close,
                        t1=plan,
                    )
    return pd.DataFrame(rows, index=bars.index).astype({"t1": "datetime64[us]", "end": "datetime64[us]"})


@LIGHT
@given(seed=SEEDS, horizons=HORIZONS)
def test_equals_a_regression_per_window(seed, horizons) -> None:
    bars = market(seed)
    expected = plain(bars, horizons)
    pd.testing.assert_frame_equal(trend_scan(bars, horizons)[expected.columns], expected, rtol=1e-6)


@LIGHT
@given(seed=SEEDS, horizons=HORIZONS)
def test_invariants(seed, horizons) -> None:
    bars = market(seed)
    labels = trend_scan(bars, horizons)
    known = labels["y"].notna()
    assert labels["t1"].notna().equals(known.rename("t1")) and (labels["end"] <= labels["t1"])[known].all()
    assert (labels["t1"] > labels.index.get_level_values("date"))[known].all()
    pd.testing.assert_frame_equal(trend_scan(bars * 4, horizons), labels)
    falling = trend_scan(1 / bars, horizons)
    np.testing.assert_allclose(falling["t_value"], -labels["t_value"], rtol=1e-6)
    names = dict(zip("ABCD", "CADB", strict=True))
    moved = lambda x: x.rename(index=names, level="symbol").sort_index()
    pd.testing.assert_frame_equal(trend_scan(moved(bars), horizons), moved(labels))


def test_degenerate_and_refusals() -> None:
    bars = market(0)
    labels = trend_scan(bars)
    pd.testing.assert_series_equal(trend_scan(bars.iloc[:0]).dtypes, labels.dtypes)
    for bad in (np.nan, 0.0, -1.0, np.inf):
        assert trend_scan(bars * 0 + bad)[["y", "t1", "label", "end"]].isna().all(axis=None)
    assert trend_scan(bars * 0 + 3.0)["label"].isna().all()  # nothing moves
    assert trend_scan(bars.loc[:"2024-01-01"])["label"].isna().all()
    line = pd.DataFrame(
        {"close": np.exp(-0.01 * np.arange(30.0))},
        index=pd.MultiIndex.from_product(
            [pd.date_range("2024-01-01", periods=30, unit="us"), ["A"]], names=["date", "symbol"]
        ),
    )
    perfect = trend_scan(line.rename(index=str, level="symbol"))["t_value"].dropna()
    assert len(perfect) == 10 and np.isfinite(perfect).all() and (perfect < -1e3).all()
    for horizons in ([], [1, 5], [2.5]):
        with pytest.raises(ConfigError, match="horizons are"):
            trend_scan(bars, horizons)
    with pytest.raises(PanelError, match="'close'"):
        trend_scan(bars.rename(columns={"close": "price"}))


def test_fast_on_the_size_of_the_sample() -> None:
    bars = market(0, n_dates=3500, symbols="".join(chr(0x4E00 + i) for i in range(120)), gaps=0.0)
    assert trend_scan(bars)["y"].notna().sum() > 250_000


def test_prices_that_say_nothing_have_no_trend_and_a_straight_line_has_one() -> None:
    bars = market(7, gaps=0.0)
    kinds = trend_scan(bars, (3, 4)).dtypes
    assert trend_scan(bars.iloc[:0], (3, 4)).dtypes.equals(kinds)
    assert trend_scan(bars.iloc[:1], (3, 4))["label"].isna().all()
    assert trend_scan(bars.assign(close=np.inf), (3, 4))[["y", "t1", "entry", "label", "end"]].isna().all(axis=None)
    assert trend_scan(bars.assign(close=7.0), (3, 4))[["y", "t1", "label", "end"]].isna().all(axis=None)
    index = pd.MultiIndex.from_product([pd.date_range("2024-01-01", periods=30, unit="us"), ["A"]])
    line = pd.DataFrame({"close": np.exp(0.01 * np.arange(30))}, index=index.set_names(["date", "symbol"]))
    rising = trend_scan(line)
    assert (rising["label"].iloc[:10] == 1).all() and np.isfinite(rising["t_value"].iloc[:10]).all()
