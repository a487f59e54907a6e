"""The engine against Backtrader, to a cent; and a check that the comparison can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest.backtrader import compare_accounts, run_backtrader
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel, to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars

pytest.importorskip("backtrader", reason="the extra backtrader is not installed")

NAMES = ["AAPL", "AMZN", "BA", "CAT", "GE", "IBM", "JPM", "MSFT", "WMT", "XOM"]
HARSH = Costs(commission_bps=10, slippage_bps=20)


@pytest.fixture(scope="module")
def bars():
    return adjust(sample_bars(NAMES, "2014-10-01", "2016-12-30"), "total")


@pytest.fixture(scope="module")
def weights(bars):
    top = to_wide(bars["close"]).pct_change(60).iloc[60::10].rank(axis=1, ascending=False, method="first") <= 5
    return as_panel(top.stack().loc[lambda x: x].rename("weight").mul(0.2).reset_index())


@pytest.fixture(scope="module")
def theirs(weights, bars):
    return run_backtrader(weights, bars, HARSH)


def test_same_trades_and_same_equity_to_a_cent(weights, bars, theirs):
    ours = from_weights(weights, bars, HARSH)
    assert compare_accounts(ours, theirs).empty
    assert len(ours.trades) == len(theirs.trades) > 250
    assert ours.trades["symbol"].tolist() != [] and ours.equity.index.equals(theirs.equity.index)
    np.testing.assert_allclose(ours.equity, theirs.equity, rtol=1e-12)
    assert (ours.scale < 1).any()  # the slice contains buys that cash had to shrink


@pytest.mark.parametrize("costs", [Costs(0, 0), Costs()], ids=["free", "default"])
def test_random_long_and_short_weights(bars, costs):
    rng = np.random.default_rng(5)
    days = bars.index.levels[0][5:120:5]
    w = rng.uniform(-0.15, 0.25, (len(days), 10)) * (rng.random((len(days), 10)) < 0.6)
    w /= np.maximum(np.maximum(w.sum(axis=1), np.abs(w).sum(axis=1) / 2), 1)[:, None]
    frame = pd.DataFrame(w, index=days.rename("date"), columns=pd.Index(NAMES, name="symbol"))
    weights = as_panel(frame.stack().rename("weight").reset_index())
    part = bars[bars.index.get_level_values("date") <= days[-1]]
    assert compare_accounts(
        from_weights(weights, part, costs, cash=50_000.0), run_backtrader(weights, part, costs, cash=50_000.0)
    ).empty


def test_still_prices_and_a_repeated_wish_trade_once_in_both():
    """Rounding leaves orders of 1e-16 of equity on the second rebalance; neither engine may send them."""
    dates = pd.bdate_range("2024-01-01", periods=6)
    bars = as_panel(
        pd.DataFrame(
            [(d, s, p, p) for d in dates for s, p in (("A", 0.1), ("B", 3.7))],
            columns=["date", "symbol", "open", "close"],
        )
    )
    rows = [(d, s, w) for d in dates[:5] for s, w in (("A", 0.3), ("B", 0.1))]
    weights = as_panel(pd.DataFrame(rows, columns=["date", "symbol", "weight"]))
    ours, theirs = from_weights(weights, bars, Costs(0, 0)), run_backtrader(weights, bars, Costs(0, 0))
    assert len(ours.trades) == len(theirs.trades) == 2 and compare_accounts(ours, theirs).empty


DEFECTS = {
    "commission": lambda w, b: from_weights(w, b, Costs(10.1, 20)),
    "slippage": lambda w, b: from_weights(w, b, Costs(10, 20.1)),
    "fill at the close": lambda w, b: from_weights(w, b.assign(open=b["close"]), HARSH),
    "fill a session later": lambda w, b: from_weights(
        w, b.assign(open=b.groupby("symbol")["open"].shift(-1).fillna(b["open"])), HARSH
    ),
    "sized on the open": lambda w, b: from_weights(w, b.assign(close=b["open"]), HARSH),
    "one weight": lambda w, b: from_weights(w.assign(weight=[0.1999, *w["weight"].iloc[1:]]), b, HARSH),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught(weights, bars, theirs, defect):
    found = compare_accounts(DEFECTS[defect](weights, bars), theirs)
    assert not found.empty and "equity" in set(found["item"])


def test_a_lost_trade_and_a_lost_day_are_caught(weights, bars, theirs):
    ours = from_weights(weights, bars, HARSH)
    found = compare_accounts(
        ours, replace(theirs, trades=theirs.trades.drop(index=7), equity=theirs.equity.drop(theirs.equity.index[30]))
    )
    assert found["item"].tolist() == ["value", "commission", "equity"] and found["difference"].isna().all()


def test_bad_input_is_named(weights, bars):
    with pytest.raises(DataError, match="GE has no .* 2015-06-01"):
        run_backtrader(weights, bars.drop((pd.Timestamp("2015-06-01"), "GE")))
    with pytest.raises(PanelError, match="empty"):
        run_backtrader(weights.iloc[:0], bars)
    with pytest.raises(PanelError, match="2015-01-01"):
        run_backtrader(as_panel(pd.DataFrame({"date": ["2015-01-01"], "symbol": ["GE"], "weight": [0.5]})), bars)


def test_without_backtrader_the_message_says_what_to_install(weights, bars, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "backtrader", None)
    with pytest.raises(ConfigError, match=r"-e .\.\[backtrader\]"):
        run_backtrader(weights, bars)
