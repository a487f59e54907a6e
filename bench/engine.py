"""The same target weights through our engine and through Backtrader: 10 names, 2016-2017, decided every 5 sessions."""

import backtrader
import harness
import numpy as np
import pandas as pd

from quantlab.backtest.backtrader import compare_accounts, run_backtrader
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars


def inputs() -> tuple[pd.DataFrame, pd.DataFrame]:
    "Return random target weights and the bars they trade on."
    names = ["AAPL", "BAC", "C", "GE", "INTC", "JPM", "MSFT", "ORCL", "PFE", "WFC"]
    bars = adjust(sample_bars(names, "2016-01-04", "2017-12-29"))
    dates = bars.index.unique("date")[:-1:5]
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), len(dates))
    index = pd.MultiIndex.from_product([dates, names], names=["date", "symbol"])
    return pd.DataFrame({"weight": shares.ravel()}, index=index), bars


def main() -> dict:
    "Time both engines; max_rel_diff is that of the daily equity."
    weights, bars = inputs()
    costs = Costs(1.0, 5.0)
    ours, theirs = (lambda: from_weights(weights, bars, costs)), (lambda: run_backtrader(weights, bars, costs))
    equity = (lambda run: run.equity.to_numpy(),) * 2
    found = harness.compare("engine", f"backtrader {backtrader.__version__}", ours, theirs, equity, n=len(bars))
    differences = len(compare_accounts(ours(), theirs()))
    return found | {"parts": {"differences_over_one_cent": differences, "trades": len(ours().trades)}}
