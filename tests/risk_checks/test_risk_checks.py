"Each risk check sees the fault it is for and no other; its figures are those of a slow count."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from quantlab.ops.risk_checks import risk_checks, stressed_excess
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe

SYMBOLS = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO"
SMALL = Recipe().replace(
    name="small", data__universe=SYMBOLS, data__end="2012-06-29", features__use=["rev_21"], model__kind="feature",
    model__column="rev_21", policy__top_k=4, policy__buffer=2, policy__rebalance=10, limits__max_weight=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def done():
    return run(SMALL, record=False)


def failed(run):
    checks = risk_checks(run)
    return set(checks.index[~checks["held"]])


def test_the_figures_are_those_of_a_slow_count(done):
    value = risk_checks(done)["value"]
    by_date = [w["weight"] for _, w in done.weights.groupby("date")]
    assert value["largest position"] == max(abs(w).max() for w in by_date)
    assert value["gross exposure"] == pytest.approx(max(abs(w).sum() for w in by_date))
    equity, peak, deepest = 1.0, 1.0, 0.0
    for r in done.returns["strategy"].fillna(0.0):
        equity *= 1 + r
        peak = max(peak, equity)
        deepest = max(deepest, 1 - equity / peak)
    assert value["drawdown"] == pytest.approx(deepest)
    bars, largest = done.market.bars, 0.0
    for trade in done.account.trades.itertuples():
        past = bars.xs(trade.symbol, level="symbol").loc[: trade.decided].tail(21)
        largest = max(largest, abs(trade.quantity * trade.price) / (past["close"] * past["volume"]).mean())
    assert value["share of a day's volume"] == pytest.approx(largest)
    assert value["cost of trading, bps"] == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize("multiple", [0.0, 2.0, 3.0])
def test_stressed_costs_are_those_of_a_new_run(done, multiple):
    changed = {"costs.commission_bps": 1.0 * multiple, "costs.slippage_bps": 5.0 * multiple}
    again = run(SMALL, changed, record=False).returns["strategy"] - done.returns["equal weight"]
    difference = stressed_excess(done, multiple) - again  # of second order
    assert np.abs(difference).max() < 1e-4 and abs(difference.mean()) * 252 < 1e-4 * max(multiple, 1.0)
    assert stressed_excess(done, 1.0).equals(done.returns["strategy"] - done.returns["equal weight"])


def test_each_fault_is_seen_by_its_own_check(done):
    was, trades, equity = failed(done), done.account.trades, done.account.equity
    account = lambda **changed: SimpleNamespace(trades=trades.assign(**changed), equity=equity)
    one, wide = done.weights.copy(), done.weights.copy()
    one.iloc[0, one.columns.get_loc("weight")] = -0.31
    wide["weight"] = wide["weight"].where(wide["weight"] == 0, 0.29) * 1.0
    more = pd.concat([wide, wide.rename(index=lambda s: s + "2", level="symbol")]).sort_index()
    crash = done.returns.copy()
    crash.iloc[5, 0] = -0.6
    low = done.market.bars.copy()
    low["volume"] *= 1e-4
    planted = {
        "largest position": replace(done, weights=one),
        "gross exposure": replace(done, weights=more),
        "cost of trading, bps": replace(done, account=account(commission=0.0, slippage=0.0)),
        "fills at their decision": replace(done, account=account(date=trades["decided"])),
        "drawdown": replace(done, returns=crash),
        "share of a day's volume": replace(done, market=done.market._replace(bars=low)),
    }
    seen = {name: failed(odd) - was - {"excess a year at twice the costs"} for name, odd in planted.items()}
    assert seen == {name: {name} for name in planted}


def test_an_excess_that_costs_eat_is_seen_and_one_that_is_left_is_not(done):
    for gain, held in ((0.01, True), (-0.01, False)):
        odd = replace(done, returns=done.returns.assign(strategy=done.returns["equal weight"] + gain))
        assert ("excess a year at twice the costs" not in failed(odd)) == held


def test_a_book_that_never_traded_has_not_held_by_its_cost(done):
    nothing = SimpleNamespace(trades=done.account.trades.iloc[:0], equity=done.account.equity)
    checks = risk_checks(replace(done, account=nothing))
    assert not checks.loc["cost of trading, bps", "held"] and np.isnan(checks.loc["cost of trading, bps", "value"])
    assert checks.loc["share of a day's volume", "value"] == 0.0 and checks.loc["fills at their decision", "held"]
    for volume, share in ((np.nan, np.nan), (0.0, np.inf)):
        bars = done.market.bars.assign(volume=volume)
        row = risk_checks(replace(done, market=done.market._replace(bars=bars))).loc["share of a day's volume"]
        assert not row["held"] and (row["value"] == share or np.isnan(share) and np.isnan(row["value"]))
    broken = replace(done, returns=done.returns.assign(strategy=np.inf))
    assert {"drawdown", "excess a year at twice the costs"} <= failed(broken)
