"""A dozen strategies on the committed sample whose figures are kept. Renew them on purpose only: python
tests/backtest/golden.py

Read the difference of golden.json before committing it: a figure that moves without a change of the rules is a defect.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from quantlab.backtest.costs import QLIB_COSTS, Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.orders import from_rule
from quantlab.broker.blotter import Result
from quantlab.broker.fill_model import next_open, same_close
from quantlab.broker.rules import QLIB_RULES, Rules
from quantlab.core.panel import as_panel, to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.portfolio.topk_drop import TopKDrop

FILE = Path(__file__).with_name("golden.json")


def sample() -> pd.DataFrame:
    "Return four years of the sample; six names stop in July 2018."
    return adjust(sample_bars(start="2015-01-02", end="2018-12-31"), "total")


def panel(table: pd.DataFrame) -> pd.DataFrame:
    "Turn a table of weights, NaN = none, into a panel."
    return as_panel(table.rename_axis(index="date", columns="symbol").stack().dropna().rename("weight").reset_index())


def top(score: pd.DataFrame, k: int, every: int, size: float = 1.0) -> pd.DataFrame:
    "Hold the k highest scores in equal parts."
    chosen = score.iloc[252::every].rank(axis=1, ascending=False, method="first") <= k
    return panel(chosen.astype(float).where(chosen) * (size / k))


def long_short(score: pd.DataFrame, every: int) -> pd.DataFrame:
    "Hold the best fifth and sell the worst, half of equity each."
    rank = score.iloc[252::every].rank(axis=1, pct=True)
    side = (rank > 0.8).astype(float) - (rank <= 0.2).astype(float)
    return panel((side / side.abs().sum(axis=1).to_numpy()[:, None]).where(side != 0))


def strategies(bars: pd.DataFrame) -> dict[str, Result]:
    "Run every golden strategy."
    close, open_ = to_wide(bars["close"]), to_wide(bars["open"])
    past = lambda days, skip=0: close.shift(skip) / close.shift(days) - 1
    daily = close.pct_change(fill_method=None)
    calm, level = -daily.rolling(60).std(), close * 0 + 1
    names = ["AAPL", "GE", "JPM", "MSFT", "XOM"]
    scores = as_panel(
        (-past(5)).iloc[252:].rename_axis(index="date", columns="symbol").stack().dropna().rename("score").reset_index()
    )
    run = lambda weights, **options: from_weights(weights, bars, **options)
    return {
        "momentum": run(top(past(252, 21), 30, 20)),
        "momentum, sized at the fill": run(top(past(252, 21), 30, 20, 0.98), fill=next_open(sized="fill")),
        "reversal": run(top(-past(5), 20, 5)),
        "daily reversal": run(top(-daily, 10, 1), costs=Costs(0, 2)),
        "low volatility": run(top(calm, 40, 60), costs=Costs(2, 10)),
        "equal weight": run(top(level, 114, 20)),
        "long and short": run(long_short(past(120), 20), costs=Costs(1, 5)),
        "five names": run(panel(level[names].iloc[252::10] * 0.19), cash=10_000.0),
        "one name": run(panel(level[["AAPL"]].iloc[[300]] * 0.9)),
        "overnight losers": run(top(-(open_ / close.shift(1) - 1), 15, 3), costs=Costs(50, 100)),
        "stopped names, quickly closed": run(
            panel(level[["AET", "APC", "DO"]].iloc[252::4].where(close.notna()) * 0.3), rules=Rules(stale_after=2)
        ),
        "top and drop at the close": from_rule(
            TopKDrop(30, 3), scores, bars, QLIB_COSTS, replace(QLIB_RULES, lot=0.0), same_close()
        ),
    }


def figures(result: Result) -> dict[str, object]:
    "Return exact figures of an account and a hash of its order list."
    orders = result.orders
    rows = zip(
        orders["decided"],
        orders["symbol"],
        orders["quantity"],
        orders["type"],
        orders["filled"],
        orders["reason"],
        strict=True,
    )
    text = "\n".join(
        f"{day:%Y-%m-%d} {name} {asked:.9g} {kind} {got:.9g} {why}" for day, name, asked, kind, got, why in rows
    )
    return {
        "equity": float(result.equity.iloc[-1]), "lowest": float(result.equity.min()),
        "volatility": float(result.returns.std()),
        "turnover": float(result.turnover.sum()), "costs": float(np.sum(result.costs.to_numpy())),
        "sessions": len(result.equity),
        "orders": len(orders), "trades": len(result.trades), "unfilled": len(result.unfilled),
        "closed": len(result.closed),
        "order_list": hashlib.sha256(text.encode()).hexdigest(),
    }  # fmt: skip


if __name__ == "__main__":
    found = {name: figures(result) for name, result in strategies(sample()).items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
