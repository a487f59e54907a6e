"""Finished accounts sent through Backtrader: twelve strategies agree to a cent; a defect in either engine is found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest import backtrader as adapter
from quantlab.backtest.backtrader import EXPLANATIONS, reconcile, run_predictions
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.orders import from_orders, from_rule
from quantlab.broker.fill_model import next_close, next_open, same_close
from quantlab.broker.rules import Rules
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel, to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.portfolio.topk_drop import TopKDrop
from quantlab.portfolio.weights import TopK

pytest.importorskip("backtrader", reason="the extra backtrader is not installed")

NAMES = ["AAPL", "AET", "BA", "CAT", "DO", "GE", "JPM", "MSFT", "WMT", "XOM"]  # AET and DO stop on 2018-07-18
FREE, HIGH = Costs(0, 0), Costs(50, 100)


@pytest.fixture(scope="module")
def bars():
    return adjust(sample_bars(NAMES, "2018-01-02", "2018-10-31"), "total")[["open", "close"]]


def holding(table):
    "Turn a dates x symbols table of weights into a panel."
    return as_panel(table.rename_axis(index="date", columns="symbol").stack().dropna().rename("weight").reset_index())


def best(score, k, every, size=1.0, offset=40):
    "Hold the k highest scores in equal parts, decided every so many sessions."
    chosen = score.iloc[offset::every].rank(axis=1, ascending=False, method="first") <= k
    return holding(chosen.astype(float).where(chosen) * size / k)


def momentum(bars):
    return best(to_wide(bars["close"]).pct_change(40, fill_method=None), 4, 10), bars, {}


def reversal(bars):
    return best(-to_wide(bars["close"]).pct_change(5, fill_method=None), 3, 5), bars, {}


def equal_weight(bars):
    return best(to_wide(bars["close"]) * 0 + 1, 10, 20), bars, {}


def single_name(bars):
    return holding(to_wide(bars["close"])[["MSFT"]].iloc[3::15] * 0 + 0.9), bars, {}


def long_short(bars):
    rank = to_wide(bars["close"]).pct_change(20, fill_method=None).iloc[40:120:8].rank(axis=1, pct=True)
    return holding((rank - 0.5).fillna(0.0) * 0.3), bars, {}


def high_turnover(bars):
    return best(to_wide(bars["open"]).pct_change(fill_method=None), 5, 1), bars, {}


def gaps(bars):
    "One bar in seven is missing; the first session is whole."
    rng = np.random.default_rng(3)
    keep = (rng.random(len(bars)) > 1 / 7) | (bars.index.get_level_values("date") == bars.index[0][0])
    holed = bars[keep]
    return best(to_wide(holed["close"]).ffill().pct_change(10, fill_method=None), 5, 4), holed, {}


def delisting(bars):
    "Hold the two names that stop, decide again while they are silent."
    days = to_wide(bars["close"]).loc["2018-07-02":"2018-07-31"].index[::4]
    return holding(pd.DataFrame(0.2, index=days, columns=["AET", "DO", "JPM"])), bars, {"rules": Rules(stale_after=4)}


def cash_starved(bars):
    "Opens far above the closes that sized the orders, so every buy is cut."
    return (
        best(to_wide(bars["close"]).pct_change(10, fill_method=None), 3, 5),
        bars.assign(open=bars["open"] * 1.08),
        {},
    )


def cost_free(bars):
    return *momentum(bars)[:2], {"costs": FREE}


def high_cost(bars):
    return *reversal(bars)[:2], {"costs": HIGH}


def one_rebalance(bars):
    return (
        best(to_wide(bars["close"]).drop(columns=["AET", "DO"]) * 0 + 1, 7, 1000, 0.98),
        bars,
        {"fill": next_open(sized="fill")},
    )


SCENARIOS = [
    momentum,
    reversal,
    equal_weight,
    single_name,
    long_short,
    high_turnover,
    gaps,
    delisting,
    cash_starved,
    cost_free,
    high_cost,
    one_rebalance,
]
EXPECTED = {
    "gaps": {"no bar"},
    "delisting": {"no bar", "stale closing"},
    "cash_starved": {"cash"},
    "one_rebalance": set(),
    "single_name": set(),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_every_difference_has_a_name(bars, scenario):
    weights, market, options = scenario(bars)
    result = from_weights(weights, market, **options)
    found = reconcile(result, market, sessions=None)
    assert (
        len(result.trades) >= 1
        and (found["rule"] != "").all()
        and set(found["rule"]) <= {*EXPLANATIONS.values(), "stale closing"}
    )
    assert (found["item"] == "order").sum() == (result.orders["reason"] != "").sum() and (
        found["item"] == "closing"
    ).sum() == len(result.closed)
    assert EXPECTED.get(scenario.__name__, set()) <= set(found["rule"])
    if scenario.__name__ in ("one_rebalance", "single_name"):
        assert found.empty


@pytest.mark.parametrize("seed", range(4))
def test_a_window_starts_from_the_holdings(bars, seed):
    weights, market, options = high_turnover(bars)
    result = from_weights(weights, market, **options)
    found = reconcile(result, market, sessions=25, seed=seed)
    assert found["date"].nunique() <= 25 and len(found) < len(reconcile(result, market, sessions=None))


def first(change):
    "Change the first entry of a column."

    def changed(column):
        new = column.copy()
        new[0] = change(new[0])
        return new

    return changed


OURS = {
    "wrong price": {"price": first(lambda x: x * 1.0005)},
    "lost commission": {"commission": first(lambda x: 0.0)},
    "doubled fill": {"quantity": first(lambda x: 2 * x)},
    "sign": {"quantity": first(lambda x: -x)},
    "another name": {"symbol": first(lambda x: x + 1)},
    "a session late": {"session": lambda c: c + (c == c[0])},
}


@pytest.mark.parametrize("defect", OURS)
def test_a_defect_of_ours_is_found(bars, defect):
    weights, market, _ = one_rebalance(bars)
    result = from_weights(weights, market, costs=Costs(10, 20), fill=next_open(sized="fill"))
    fills = result.blotter.fills
    new = fills._replace(**{name: change(getattr(fills, name)) for name, change in OURS[defect].items()})
    broken = replace(result, blotter=result.blotter._replace(fills=new))
    with pytest.raises(DataError, match="unexplained"):
        reconcile(broken, market, sessions=None)
    listed = reconcile(broken, market, sessions=None, strict=False)
    assert (listed["rule"] == "").any()


def test_a_lost_fill_and_a_false_reason_are_found(bars):
    weights, market, _ = one_rebalance(bars)
    result = from_weights(weights, market, fill=next_open(sized="fill"))
    blotter = result.blotter
    short = replace(
        result, blotter=blotter._replace(fills=type(blotter.fills)(*(column[1:] for column in blotter.fills)))
    )
    assert set(reconcile(short, market, sessions=None, strict=False).query("rule == ''")["item"]) == {
        "value",
        "commission",
        "equity",
    } - {"equity"}
    for word in map(blotter.reasons.index, ("no open", "no cash", "no next session")):  # none is true
        orders = blotter.orders._replace(reason=np.where(np.arange(len(blotter.orders.reason)) == 2, word, 0))
        excuse = replace(result, blotter=blotter._replace(orders=orders))
        found = reconcile(excuse, market, sessions=None, strict=False)
        assert found["rule"].tolist() == [""] and found["item"].tolist() == ["order"]


def test_a_wrong_equity_is_found(bars):
    weights, market, _ = one_rebalance(bars)
    result = from_weights(weights, market)
    wrong = replace(
        result, blotter=result.blotter._replace(equity=result.blotter.equity + np.arange(len(result.blotter.equity)))
    )
    assert "equity" in set(reconcile(wrong, market, sessions=None, strict=False).query("rule == ''")["item"])


def dearer(bt, feeds, strategy, costs, cash, analyze=False):
    return RUN(bt, feeds, strategy, Costs(costs.commission_bps + 1, costs.slippage_bps), cash, analyze)


def poorer(bt, feeds, strategy, costs, cash, analyze=False):
    return RUN(bt, feeds, strategy, costs, cash / 2, analyze)


def deaf(bt, feeds, strategy, costs, cash, analyze=False):
    return RUN(bt, feeds, type("Deaf", (strategy,), {"next_open": lambda self: None}), costs, cash, analyze)


def shifted(*arguments, **keywords):
    return FEEDS(arguments[0], arguments[1].groupby("symbol").shift(1), *arguments[2:], **keywords)


RUN, FEEDS = adapter._run, adapter._feeds


@pytest.mark.parametrize("name, broken", [("_run", dearer), ("_run", poorer), ("_run", deaf), ("_feeds", shifted)])
def test_a_defect_of_theirs_is_found(bars, monkeypatch, name, broken):
    weights, market, _ = momentum(bars)
    result = from_weights(weights, market)
    monkeypatch.setattr(adapter, name, broken)
    with pytest.raises(DataError, match="unexplained"):
        reconcile(result, market, sessions=None)


def test_what_cannot_be_sent_is_named(bars):
    weights, market, _ = one_rebalance(bars)
    result = from_weights(weights, market)
    with pytest.raises(ConfigError, match="give costs"):
        reconcile(replace(result, settings={}), market)
    with pytest.raises(ConfigError, match="proportional"):
        reconcile(result, market, costs=Costs(minimum=5.0))
    scores = as_panel(
        to_wide(market["close"]).pct_change(5, fill_method=None).stack().dropna().rename("score").reset_index()
    )
    at_close = from_rule(TopKDrop(3, 1), scores, market, FREE, fill=same_close())
    with pytest.raises(ConfigError, match="type close"):
        reconcile(at_close, market, costs=FREE)


TERMS = {
    "plain": {},
    "whole shares": {"rules": Rules(lot=1.0)},
    "capped": {"rules": Rules(lot=10.0), "fill": next_open(participation=0.001)},
    "close": {"fill": next_close()},
}


@pytest.mark.parametrize("name", TERMS)
def test_orders_of_the_event_loop(name):
    bars = adjust(sample_bars(NAMES, "2018-01-02", "2018-10-31"), "total")
    rng, days = np.random.default_rng(1), bars.index.unique("date")[5:180:4]
    rows = [
        (day, name, 10.0 * round(rng.normal(0, 90)))
        for day in days
        for name in rng.choice(NAMES, 3, replace=False)
        if (day, name) in bars.index
    ]
    result = from_orders(pd.DataFrame(rows, columns=["date", "symbol", "size"]), bars, **TERMS[name])
    if name == "close":
        with pytest.raises(ConfigError, match="away from the open"):
            reconcile(result, bars, sessions=None)
        return
    found = reconcile(result, bars, sessions=None)
    assert len(result.trades) > 50 and (found["rule"] != "").all()


def test_degenerate_accounts(bars):
    weights, market, _ = one_rebalance(bars)
    assert reconcile(from_weights(weights.iloc[:0], market), market).empty
    last = market.index[-1][0]
    late = holding(pd.DataFrame({"MSFT": [0.5]}, index=[last]))
    assert reconcile(from_weights(late, market), market)["rule"].tolist() == ["no bar"]


def test_predictions_and_analyzers(bars):
    whole = bars[~bars.index.get_level_values("symbol").isin(["AET", "DO"])]
    scores = as_panel(
        to_wide(whole["close"])
        .pct_change(20, fill_method=None)
        .iloc[20:]
        .stack()
        .dropna()
        .rename("score")
        .reset_index()
    )
    policy = TopK(top_k=3, rebalance=10)
    run = run_predictions(scores, whole, policy, analyze=True)
    assert run.equity.equals(run_predictions(scores, whole, policy).equity)
    told = run.analyzers.set_index(["analyzer", "name"])["value"]
    assert told["DrawDown", "max.drawdown"] == pytest.approx(100 * (1 - run.equity / run.equity.cummax()).max())
    assert len(told["TimeReturn"]) == len(run.equity) and (1 + told["TimeReturn"]).prod() == pytest.approx(
        run.equity.iloc[-1] / 1e6
    )
    assert (
        set(run.analyzers["analyzer"]) == {"TradeAnalyzer", "DrawDown", "SharpeRatio", "TimeReturn"}
        and (run.orders["status"] == "Completed").all()
    )
    with pytest.raises(PanelError, match="score"):
        run_predictions(scores.rename(columns={"score": "x"}), whole, policy)


@pytest.mark.parametrize(("freq", "first"), [("4h", "2021-01-01 04:00"), ("5min", "2021-01-04 14:35")])
def test_an_account_of_intraday_bars_agrees_to_a_cent_and_in_time(bars, freq, first):
    """The daily account with other stamps: the same money, and every difference dated by the bar's own end."""
    whole = bars[~bars.index.get_level_values("symbol").isin(["AET", "DO"])]
    ends = pd.date_range(first, periods=whole.index.unique("date").size, freq=freq, tz="UTC", unit="us")
    stamped = whole.set_axis(whole.index.set_levels(ends, level="date"))
    accounts = [
        from_weights(best(to_wide(b["close"]).pct_change(40, fill_method=None), 4, 10), b, Costs(1, 5))
        for b in (whole, stamped)
    ]
    assert accounts[0].equity.to_numpy().tobytes() == accounts[1].equity.to_numpy().tobytes()
    assert reconcile(accounts[1], stamped, sessions=None)["rule"].ne("").all()
    assert len(reconcile(accounts[1], stamped, sessions=40, seed=2)) == len(
        reconcile(accounts[0], whole, sessions=40, seed=2)
    )
    run, _ = adapter.replay(accounts[1], stamped, Costs(1, 5), 45, 100)
    assert (
        run.equity.index.equals(ends[45:101].rename("date")) and run.trades["date"].isin(ends).all() and len(run.trades)
    )
