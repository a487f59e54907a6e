"Bars of made returns: whole by construction, marked, and wild on wild days."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import to_wide
from quantlab.data.bars import check_bars
from quantlab.data.synth import synth_market
from quantlab.strategy import made_bars as module
from quantlab.strategy.made_bars import MARK, borrowed_rows, complete_returns, day_shapes, made_bars

BARS = synth_market(5, 300, ic=0.0, seed=1).bars
RETURNS = complete_returns(BARS)


def made(seed: int = 0, n: int = 200) -> pd.DataFrame:
    rows = np.random.default_rng(seed).integers(0, len(RETURNS), n)
    return RETURNS.iloc[rows].set_axis(pd.bdate_range("2030-01-01", periods=n, name="date", unit="us"))


def test_bars_are_whole_marked_and_follow_the_returns():
    path = made()
    out = made_bars(BARS, path)
    check_bars(out)
    assert [s.removeprefix(MARK) for s in out.index.unique("symbol")] == sorted(RETURNS)
    assert out.index.unique("symbol").str.startswith("SYN_").all() and out.attrs["synthetic"]
    close = to_wide(out["close"])
    for name in path:
        start = BARS.xs(name, level="symbol")["close"].iloc[-1]
        assert close[MARK + name].to_numpy() == pytest.approx(start * np.cumprod(1 + path[name]))
    assert (out["volume"] >= 0).all() and out.equals(made_bars(BARS, path)) and not out.equals(made_bars(BARS, path, 8))


def test_a_made_day_borrows_a_day_of_nearly_the_same_rank():
    real = np.arange(100.0)
    rows = borrowed_rows(np.full(500, 50.0), real, np.random.default_rng(1), near=5)
    assert rows.min() >= 45 and rows.max() <= 55 and len(set(rows)) == 11
    assert borrowed_rows(np.array([-9.0, 999.0]), real, np.random.default_rng(1), near=0).tolist() == [0, 99]
    assert borrowed_rows(np.array([3.4, 3.6]), real, np.random.default_rng(1), near=0).tolist() == [3, 4]


@pytest.mark.parametrize(("move", "first"), [(-9.0, 0), (0.0, 0), (5.0, 0), (6.0, 1), (97.0, 89), (999.0, 89)])
def test_at_the_ends_each_of_the_nearest_ranks_is_as_likely(move, first):
    rows = borrowed_rows(np.full(11_000, move), np.arange(100.0)[::-1], np.random.default_rng(1), near=5)
    count = np.bincount(99 - rows, minlength=100)
    assert np.flatnonzero(count).tolist() == list(range(first, first + 11)) and abs(count[count > 0] - 1000).max() < 130


def test_few_real_days_are_all_borrowed_and_none_is_refused():
    assert set(borrowed_rows(np.zeros(200), np.arange(3.0), np.random.default_rng(1))) == {0, 1, 2}
    assert borrowed_rows(np.zeros(3), np.ones(1), np.random.default_rng(1)).tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="no real days"):
        borrowed_rows(np.zeros(3), np.zeros(0), np.random.default_rng(1))


def test_shapes_are_not_drawn_from_the_stream_of_the_returns(monkeypatch):
    streams = []
    monkeypatch.setattr(module, "borrowed_rows", lambda moves, real, rng: streams.append(rng) or np.arange(len(moves)))
    made_bars(BARS, made(), seed=7)
    assert not np.isclose(streams[0].random(5), np.random.default_rng(7).random(5)).any()
    assert len({id(rng) for rng in streams}) == 1 and len(streams) == RETURNS.shape[1]


def test_large_days_are_wide_where_real_ones_are():
    bars = BARS.copy()
    moved = bars["close"].groupby(level="symbol").pct_change().abs().fillna(0)
    bars["high"] = bars[["open", "close"]].max(axis=1) * (1 + moved)
    bars["low"] = bars[["open", "close"]].min(axis=1)
    out = made_bars(bars, made())
    wide = np.log(out["high"] / out[["open", "close"]].max(axis=1))
    size = out["close"].groupby(level="symbol").pct_change().abs()
    assert wide.corr(size) > 0.6


def test_holes_leave_a_symbol_out_and_slips_are_refused():
    first = BARS.index[7]
    assert first[1] not in complete_returns(BARS.drop(index=[first]))
    with pytest.raises(DataError, match="none of"):
        complete_returns(BARS.iloc[:0])
    with pytest.raises(DataError, match="no real bars"):
        made_bars(BARS, made().rename(columns=lambda c: f"X{c}"))
    with pytest.raises(ConfigError, match="above -1"):
        made_bars(BARS, made() * 0 - 1)
    with pytest.raises(DataError, match="100 or more"):
        day_shapes(BARS.xs(first[1], level="symbol").iloc[:60])
