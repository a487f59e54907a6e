"""Forward returns against a plain loop, and what a label may and may not know."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.panel import ConfigError, PanelError
from quantlab.labels.forward import excess, forward_returns

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)
HORIZONS = st.integers(1, 8)
ENTRIES = st.sampled_from(["open", "close"])


def market(seed: int, n_dates: int = 20, symbols: str = "ABCDEF", gaps: float = 0.04) -> pd.DataFrame:
    """Random bars in which some names start late, some stop early, and some prices are missing or absurd."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([pd.date_range("2024-01-01", periods=n_dates, unit="us"), pd.Index(list(symbols), dtype="str")], names=["date", "symbol"])
    bars = pd.DataFrame(rng.uniform(10, 20, (len(index), 2)), index=index, columns=["open", "close"])
    bars = bars.mask(rng.random(bars.shape) < gaps).mask(rng.random(bars.shape) < gaps / 4, 0.0).mask(rng.random(bars.shape) < gaps / 4, np.inf)
    row = np.repeat(np.arange(n_dates), len(symbols))
    col = np.tile(np.arange(len(symbols)), n_dates)
    first, last = rng.integers(0, 4, len(symbols)), rng.integers(n_dates // 2, 2 * n_dates, len(symbols))
    first[0], last[0] = 0, n_dates
    return bars[(row >= first[col]) & (row <= last[col]) & ((rng.random(len(row)) > gaps) | (col == 0))]


def plain(bars: pd.DataFrame, horizon: int, entry: str) -> pd.DataFrame:
    """The definition, one row at a time."""
    dates = bars.index.get_level_values("date").unique()
    good = bars.where(np.isfinite(bars) & (bars > 0))
    price = {key: value for key, value in good[entry].items() if value == value}
    close = {key: value for key, value in good["close"].items() if value == value}
    last = {}
    for date, symbol in close:
        last[symbol] = max(date, last.get(symbol, date))
    rows = []
    for date, symbol in bars.index:
        i = dates.get_loc(date) + (entry == "open")
        y, t1, bought, censored = np.nan, pd.NaT, pd.NaT, False
        start = dates[i] if i < len(dates) else None
        if (start, symbol) in price:
            bought = start
            end = last.get(symbol)
            if i + horizon < len(dates):
                stop = dates[i + horizon]
                alive = end is not None and (end >= start if entry == "open" else end > start)
                if (stop, symbol) in price:
                    y, t1 = price[stop, symbol] / price[start, symbol] - 1, stop
                elif alive and end < stop:
                    y, t1, censored = close[end, symbol] / price[start, symbol] - 1, end, True
        rows.append((y, t1, bought, censored))
    frame = pd.DataFrame(rows, index=bars.index, columns=["y", "t1", "entry", "censored"])
    return frame.astype({"y": float, "t1": "datetime64[us]", "entry": "datetime64[us]", "censored": bool})


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_equals_the_definition(seed: int, horizon: int, entry: str) -> None:
    bars = market(seed)
    pd.testing.assert_frame_equal(forward_returns(bars, horizon, entry), plain(bars, horizon, entry))


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS)
def test_close_label_is_a_shift(seed: int, horizon: int) -> None:
    bars = market(seed, gaps=0)
    labels = forward_returns(bars, horizon, "close")
    shifted = bars["close"].groupby("symbol").shift(-horizon) / bars["close"] - 1
    whole = ~labels["censored"]
    np.testing.assert_allclose(labels.loc[whole, "y"], shifted[whole])
    assert shifted[labels["censored"]].isna().all()


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES, cut=st.integers(10, 18))
def test_a_label_reads_no_further_than_its_exit_session(seed: int, horizon: int, entry: str, cut: int) -> None:
    """Cut the panel: labels whose exit session is inside stay, all others are unknown."""
    bars = market(seed, gaps=0)
    dates = bars.index.levels[0]
    past = bars.loc[: dates[cut]]
    before, after = forward_returns(past, horizon, entry), forward_returns(bars, horizon, entry).loc[past.index]
    stop = dates.get_indexer(past.index.get_level_values("date")) + (entry == "open") + horizon
    whole = (stop <= cut) & ~before["censored"] & ~after["censored"]
    pd.testing.assert_frame_equal(before[whole], after[whole])
    assert before["y"][stop > cut].isna().all()


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_corrupting_the_present_and_past_moves_nothing(seed: int, horizon: int, entry: str) -> None:
    """With entry at the open, a label depends on no price of its decision date or before."""
    bars = market(seed)
    dates = bars.index.levels[0]
    spoilt = bars.copy()
    spoilt.loc[: dates[8]] = spoilt.loc[: dates[8]] * 3
    first = dates[8] if entry == "open" else dates[9]
    pd.testing.assert_frame_equal(forward_returns(bars, horizon, entry).loc[first:], forward_returns(spoilt, horizon, entry).loc[first:])


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_invariants(seed: int, horizon: int, entry: str) -> None:
    bars = market(seed)
    labels = forward_returns(bars, horizon, entry)
    date = labels.index.get_level_values("date")
    known = labels["y"].notna()
    assert labels.index.equals(bars.index)
    assert not np.isinf(labels["y"]).any() and (labels["y"].dropna() > -1).all()
    assert labels["t1"].notna().equals(known.rename("t1"))
    assert (labels["t1"] > date)[known].all() and (labels["t1"] >= labels["entry"])[known].all()
    assert known[labels["censored"]].all()
    scaled = forward_returns(bars * 7, horizon, entry)
    pd.testing.assert_frame_equal(scaled, labels)
    names = dict(zip("ABCDEF", "FBDCEA", strict=True))
    renamed = forward_returns(bars.rename(index=names, level="symbol").sort_index(), horizon, entry)
    pd.testing.assert_frame_equal(renamed, labels.rename(index=names, level="symbol").sort_index())


@pytest.mark.parametrize("entry", ["open", "close"])
def test_degenerate(entry: str) -> None:
    bars = market(0)
    empty = forward_returns(bars.iloc[:0], 2, entry)
    assert len(empty) == 0 and list(empty.columns) == ["y", "t1", "entry", "censored"]
    assert [str(t) for t in empty.dtypes] == ["float64", "datetime64[us]", "datetime64[us]", "bool"]
    for bad in (np.nan, 0.0, -1.0, np.inf):
        labels = forward_returns(bars.assign(open=bad, close=bad), 2, entry)
        assert labels[["y", "t1", "entry"]].isna().all().all() and not labels["censored"].any()
    assert forward_returns(bars.loc[:"2024-01-01"], 2, entry)["y"].isna().all()
    assert forward_returns(bars, 1000, entry)["y"].isna().all()
    alone = bars.loc[bars.index.get_level_values("symbol") == "A"]
    assert len(forward_returns(alone, 2, entry)) == len(alone)


def test_refusals() -> None:
    bars = market(0)
    with pytest.raises(ConfigError, match="at least 1"):
        forward_returns(bars, 0)
    with pytest.raises(ConfigError, match="'open'"):
        forward_returns(bars, 1, "vwap")
    with pytest.raises(PanelError, match="'open'"):
        forward_returns(bars.drop(columns="open"))
    with pytest.raises(PanelError, match="not sorted"):
        forward_returns(bars.iloc[::-1])


@LIGHT
@given(seed=SEEDS)
def test_excess_equals_pandas(seed: int) -> None:
    y = forward_returns(market(seed), 2)["y"]
    pd.testing.assert_series_equal(excess(y), y - y.groupby("date").transform("median"))


def test_fast_on_the_size_of_the_sample() -> None:
    bars = market(0, n_dates=3500, symbols="".join(chr(0x4E00 + i) for i in range(120)), gaps=0.0)
    forward_returns(bars.iloc[:500])
    start = time.process_time()
    labels = forward_returns(bars, 20)
    assert len(labels) > 300_000 and time.process_time() - start < 1
