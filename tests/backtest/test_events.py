"""The event loop: against the fast path, against what must always hold, and against answers found by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.orders import from_orders, from_rule
from quantlab.broker.fill_model import FillModel, next_close, next_open, vwap
from quantlab.broker.round_trips import round_trip_summary, round_trips
from quantlab.broker.rules import QUANTITY_KINDS, TYPES, Rules
from quantlab.core.errors import ConfigError, DataError, PanelError, QuantlabError
from quantlab.core.panel import as_panel, to_wide

DATES = pd.bdate_range("2024-01-01", periods=30).as_unit("us")
NAMES = ["AA", "BB", "CC", "DD", "EE"]
FREE = Costs(0, 0)
seeds = st.integers(0, 10_000)


def market(seed, missing=0.1, moves=0.02, extras=True):
    """Random bars of five names over 30 sessions, with holes, splits, dividends, fees, funding and a currency; in
    odd seeds one name stops."""
    rng = np.random.default_rng(seed)
    there = rng.random((30, 5)) >= missing
    there[0], there[:, (seed + 1) % 5] = True, True
    if seed % 2:
        there[15:, seed % 5] = False
    level = np.exp(np.cumsum(rng.normal(0, moves, (60, 5)), axis=0)) * rng.uniform(5, 200, 5)
    split = np.where(rng.random((30, 5)) < 0.03, rng.choice([2.0, 0.5, 1.5], (30, 5)), 1.0) * np.ones((30, 5))
    split = np.where(there, split, 1.0) if extras else np.ones((30, 5))
    open_, close = (level[k::2] / np.cumprod(split, axis=0) for k in (0, 1))
    wide = {"open": open_, "close": close, "volume": rng.uniform(1e3, 1e5, (30, 5))}
    wide["high"] = np.maximum(open_, close) * (1 + moves * rng.random((30, 5)))
    wide["low"] = np.minimum(open_, close) * (1 - moves * rng.random((30, 5)))
    if extras:
        wide |= {
            "split_ratio": split, "dividend": close * 0.01 * (rng.random((30, 5)) < 0.05),
            "borrow": rng.uniform(0, 0.2, (30, 5)),
            "funding": rng.normal(0, 1e-4, (30, 5)), "rate": np.exp(np.cumsum(rng.normal(0, 0.003, (30, 5)), axis=0)),
            "multiplier": np.full((30, 5), 2.0),
        }  # fmt: skip
    t, i = np.nonzero(there)
    return as_panel(
        pd.DataFrame(
            {"date": DATES[t], "symbol": np.array(NAMES)[i]} | {name: values[t, i] for name, values in wide.items()}
        )
    )


def targets(seed, bars, n=60):
    """A random list of orders of every type and kind, some with brackets."""
    rng = np.random.default_rng(seed + 1)
    t, i, kind = rng.integers(0, 30, n), rng.integers(0, 5, n), rng.choice(QUANTITY_KINDS, n)
    type_ = rng.choice(TYPES, n)
    close = to_wide(bars["close"]).ffill().reindex(columns=NAMES).to_numpy()[t, i]
    size = rng.normal(0, 1, n) * np.select([kind == "shares", kind == "value"], [100.0, 1e4], 0.2)
    price = np.where(np.isin(type_, ["limit", "stop"]), close * (1 + rng.normal(0, 0.02, n)), np.nan)
    bracket = {
        name: np.where(rng.random(n) < 0.3, rng.uniform(0.01, 0.05, n), np.nan) for name in ("stop_loss", "take_profit")
    }
    plan = {
        "date": DATES[t],
        "symbol": np.array(NAMES)[i],
        "kind": kind,
        "size": size,
        "type": type_,
        "price": price,
        "valid": rng.integers(0, 4, n),
    }
    return pd.DataFrame(plan | bracket | {"reduce": rng.random(n) < 0.1})


FILLS = {"open": next_open, "close": next_close, "vwap": vwap}


def split_terms(fill="open", **settings):
    """Put settings where they belong: into rules or into the fill model."""
    mine = {
        name: settings.pop(name)
        for name in ("participation", "queue", "through", "gaps", "sized", "cash")
        if name in settings
    }
    return {"rules": Rules(**settings), "fill": FILLS[fill](**mine)}


term_sets = st.builds(
    split_terms, fill=st.sampled_from(["open", "close", "vwap"]), participation=st.sampled_from([np.inf, 0.01]),
    queue=st.sampled_from([0.0, 0.05]),
    through=st.sampled_from([0.0, 0.002]), sized=st.sampled_from(["decision", "fill"]),
    cash=st.sampled_from(["shared", "in turn"]), lot=st.sampled_from([0.0, 1.0, 10.0]),
    max_gross=st.sampled_from([1.0, 2.0]), delisting_return=st.sampled_from([0.0, -0.3]),
)  # fmt: skip
tariffs = st.sampled_from(
    [FREE, Costs(1, 5), Costs(5, 10, per_share=0.005, minimum=1.0, borrow_bps=100, interest_bps=300, funding_bps=200)]
)


def charged(result):
    return result.costs.drop(columns=["commission", "slippage"]).sum(axis=1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, terms=term_sets, costs=tariffs)
def test_conservation(seed, terms, costs):
    bars = market(seed)
    result = from_orders(targets(seed, bars), bars, costs, **terms, cash=1e6, start=DATES[0])
    value = result.positions["value"].groupby("date").sum().reindex(DATES, fill_value=0.0)
    np.testing.assert_allclose(result.cash + value, result.equity, rtol=1e-10)
    trades = result.trades
    spent = (
        (trades["quantity"] * trades["price"] + trades["commission"])
        .groupby(trades["date"])
        .sum()
        .reindex(DATES, fill_value=0.0)
    )
    np.testing.assert_allclose(result.cash, 1e6 - (spent + charged(result)).cumsum(), rtol=1e-9, atol=1e-4)
    assert (trades["decided"] < trades["date"]).where(trades["reason"] != "stopped", True).all()
    assert len(trades) > 0 and set(result.orders["reason"]) - {""}


@settings(max_examples=25, deadline=None)
@given(seed=seeds, terms=term_sets, costs=tariffs)
def test_every_order_gets_what_its_fills_say(seed, terms, costs):
    bars = market(seed, extras=False)
    result = from_orders(targets(seed, bars), bars, costs, **terms, start=DATES[0])
    orders, fills = result.orders, result.blotter.fills
    filled = np.bincount(fills.order[fills.order >= 0], fills.quantity[fills.order >= 0], len(orders))
    np.testing.assert_allclose(orders["filled"], filled, rtol=1e-9, atol=1e-9)
    assert (orders["filled"].abs() <= orders["quantity"].abs() * (1 + 1e-9) + 1e-12)[orders["quantity"].notna()].all()
    whole = np.isclose(orders["filled"], orders["quantity"], rtol=1e-9)
    assert (orders.loc[~whole, "reason"] != "").all()
    priced = orders.iloc[fills.order[fills.order >= 0]].reset_index(drop=True)
    paid, side = fills.price[fills.order >= 0], np.sign(fills.quantity[fills.order >= 0])
    limit = (priced["type"] == "limit").to_numpy()
    assert (side * (paid / priced["price"] - 1) <= 1e-12)[limit].all()  # never worse than the limit
    if terms["fill"].participation < 1:
        traded = np.zeros((30, 5))
        asked = fills.order >= 0
        np.add.at(traded, (fills.session[asked], fills.symbol[asked]), np.abs(fills.quantity[asked]))
        assert (traded <= terms["fill"].participation * to_wide(bars["volume"]).fillna(0.0).to_numpy() + 1e-9).all()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, terms=term_sets, costs=tariffs)
def test_still_prices_make_no_money(seed, terms, costs):
    bars = market(seed, moves=0.0, extras=False)
    result = from_orders(
        targets(seed, bars),
        bars,
        costs,
        replace(terms["rules"], delisting_return=0.0),
        terms["fill"],
        cash=1e6,
        start=DATES[0],
    )
    np.testing.assert_allclose(result.equity, 1e6 - result.costs.sum(axis=1).cumsum(), rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, fill=st.sampled_from(["open", "close", "vwap"]), scale=st.sampled_from([1e-3, 7.0, 1e4]))
def test_scale_of_cash(seed, fill, scale):
    bars = market(seed)
    plan, costs = targets(seed, bars), Costs(1, 5, borrow_bps=100, interest_bps=300)
    money = plan.assign(size=plan["size"] * np.where(plan["kind"].isin(["shares", "value"]), scale, 1.0))
    one = from_orders(plan, bars, costs, fill=FILLS[fill](), cash=1e6, start=DATES[0])
    many = from_orders(money, bars, costs, fill=FILLS[fill](), cash=1e6 * scale, start=DATES[0])
    np.testing.assert_allclose(many.equity, one.equity * scale, rtol=1e-9)
    assert len(many.trades) == len(one.trades) and many.orders["reason"].equals(one.orders["reason"])


@settings(max_examples=20, deadline=None)
@given(seed=seeds, terms=term_sets, costs=tariffs, order=st.permutations(NAMES))
def test_names_do_not_matter(seed, terms, costs, order):
    terms = terms | {"fill": replace(terms["fill"], cash="shared")}  # in turn, the first sent come first
    new = dict(zip(NAMES, order, strict=True))
    bars = market(seed)
    plan = targets(seed, bars).drop_duplicates(["date", "symbol"])
    renamed = as_panel(bars.reset_index().assign(symbol=lambda x: x["symbol"].map(new)))
    a = from_orders(plan, bars, costs, **terms, start=DATES[0])
    b = from_orders(plan.assign(symbol=plan["symbol"].map(new)), renamed, costs, **terms, start=DATES[0])
    np.testing.assert_allclose(a.equity, b.equity, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, terms=term_sets, cut=st.integers(3, 27))
def test_nothing_after_a_close_matters_to_it(seed, terms, cut):
    bars = market(seed)
    plan, costs = targets(seed, bars), Costs(1, 5, impact=0.5)
    late = bars.index.get_level_values("date") > DATES[cut]
    spoiled = bars.copy()
    prices = ["open", "high", "low", "close"]
    spoiled.loc[late, prices] *= 1.1
    spoiled.loc[late, ["volume", "borrow", "funding", "rate", "dividend"]] *= 1.1
    a, b = (from_orders(plan, frame, costs, **terms, start=DATES[0]) for frame in (bars, spoiled))
    known = lambda frame: frame[frame["date"] <= DATES[cut]].reset_index(drop=True)
    assert a.equity.loc[: DATES[cut]].equals(b.equity.loc[: DATES[cut]]) and a.cash.loc[: DATES[cut]].equals(
        b.cash.loc[: DATES[cut]]
    )
    assert known(a.trades).equals(known(b.trades))
    assert a.positions.loc[: DATES[cut]].equals(b.positions.loc[: DATES[cut]]) and a.costs.loc[: DATES[cut]].equals(
        b.costs.loc[: DATES[cut]]
    )
    short = from_orders(plan[plan["date"] <= DATES[cut]], bars[~late], costs, **terms, start=DATES[0])
    assert short.equity.equals(a.equity.loc[: DATES[cut]])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=st.sampled_from([FREE, Costs(1, 5), Costs(50, 100)]), short=st.booleans())
def test_equals_the_fast_path(seed, costs, short):
    bars, rng = market(seed, extras=False), np.random.default_rng(seed + 2)
    days = np.sort(rng.choice(30, 9, replace=False))
    w = rng.dirichlet(np.ones(5), 9) * (rng.random((9, 5)) < 0.7) * (rng.choice([1.0, -0.6], (9, 5)) if short else 1.0)
    weights = as_panel(
        pd.DataFrame(w, DATES[days].rename("date"), pd.Index(NAMES, name="symbol"))
        .stack()
        .rename("weight")
        .reset_index()
    )
    fast = from_weights(weights, bars, costs)
    slow = from_orders(
        weights.rename(columns={"weight": "size"}).assign(kind="target"), bars, costs, Rules(max_gross=np.inf)
    )
    np.testing.assert_allclose(slow.equity, fast.equity, rtol=1e-9)
    np.testing.assert_allclose(slow.trades["quantity"], fast.trades["quantity"], rtol=1e-7, atol=1e-9)
    assert slow.closed["symbol"].equals(fast.closed["symbol"]) and len(slow.unfilled) == len(fast.unfilled)


def flat(n=6, **columns):
    """One name: open and close 10, high 11, low 9, 1,000 shares a day."""
    return as_panel(
        pd.DataFrame(
            {"date": DATES[:n], "symbol": "A", "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1000.0}
            | columns
        )
    )


def trade(*rows, bars=None, costs=FREE, cash=10_000.0, **rules):
    return from_orders(
        pd.DataFrame([{"date": DATES[0], "symbol": "A"} | row for row in rows]),
        flat() if bars is None else bars,
        costs,
        **split_terms(**rules),
        cash=cash,
    )


@pytest.mark.parametrize(
    ("order", "rules", "price"),
    [
        ({"type": "market"}, {}, 10.5), ({"type": "market"}, {"fill": "close"}, 10.2),
        ({"type": "market"}, {"fill": "vwap"}, (11 + 9 + 10.2) / 3),
        ({"type": "close"}, {}, 10.2), ({"type": "limit", "price": 10.8}, {}, 10.5),
        ({"type": "limit", "price": 9.5}, {}, 9.5), ({"type": "limit", "price": 9.0}, {}, 9.0),
        ({"type": "limit", "price": 9.0}, {"through": 0.01}, None),
        ({"type": "limit", "price": 9.0}, {"queue": 0.1}, None), ({"type": "limit", "price": 8.9}, {}, None),
        ({"type": "stop", "price": 10.4}, {}, 10.5), ({"type": "stop", "price": 10.9}, {}, 10.9),
        ({"type": "stop", "price": 11.1}, {}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", [1, -1])
def test_the_price_of_an_order(order, rules, price, side):
    bars = flat(open=10.5, close=10.2)
    if side < 0:  # the bar turned over: what was above 10 lies as far below
        bars = bars.assign(open=9.5, close=9.8)
        order = order | ({"price": 20 - order["price"]} if "price" in order else {})
        price = None if price is None else 20 - price
    result = trade({"size": 10.0 * side} | order, bars=bars, **rules)
    assert result.trades["price"].round(9).tolist() == ([] if price is None else [round(price, 9)])
    assert result.orders["reason"].tolist() == ["" if price else "volume" if "queue" in rules else "price not reached"]


def test_a_bar_that_touches_stop_and_limit_takes_the_stop():
    for side in (1, -1):
        result = trade({"size": 10.0 * side, "stop_loss": 0.05, "take_profit": 0.05})
        assert result.trades["reason"].tolist() == ["market", "stop"] and result.trades["price"].tolist() == [
            10.0,
            10 - 0.5 * side,
        ]
        assert result.orders["reason"].tolist() == ["", "", "position closed"] and result.positions.empty


def test_a_stop_follows_an_entry_inside_the_bar_and_a_limit_does_not():
    entry = {"size": 10.0, "type": "limit", "price": 9.5}
    assert trade(entry | {"stop_loss": 0.04}).trades["date"].nunique() == 1
    assert trade(entry | {"take_profit": 0.04}).trades["date"].tolist() == [DATES[1], DATES[2]]
    gap = flat(
        open=[10, 10, 7, 7, 7, 7.0],
        low=[9.8, 9.8, 6, 6, 6, 6],
        high=[10.2, 10.2, 8, 8, 8, 8],
        close=[10, 10, 7, 7, 7, 7.0],
    )
    assert trade({"size": 10.0, "stop_loss": 0.1}, bars=gap).trades["price"].tolist() == [10.0, 7.0]  # not at 9


def test_a_stop_and_a_target_at_one_open_sell_once():
    gap = flat(
        open=[10, 10, 7, 7, 7, 7.0],
        low=[9.8, 9.8, 6, 6, 6, 6],
        high=[10.2, 10.2, 8, 8, 8, 8],
        close=[10, 10, 7, 7, 7, 7.0],
    )
    for target, left in ((0.0, 0.0), (0.005, 0.0), (-0.05, -50.0)):
        result = trade({"size": 10.0, "stop_loss": 0.1}, {"date": DATES[1], "kind": "target", "size": target}, bars=gap)
        assert np.isclose(result.positions["shares"].get((DATES[2], "A"), 0.0), left)


def test_partial_fills_and_their_life():
    assert trade({"size": 250, "valid": 0}, participation=0.1).trades["quantity"].tolist() == [100, 100, 50]
    two = trade({"size": 250, "valid": 2}, participation=0.1)
    assert two.trades["quantity"].tolist() == [100, 100] and two.orders[["filled", "reason"]].to_numpy().tolist() == [
        [200, "volume"]
    ]
    assert trade({"size": 5, "type": "limit", "price": 8.0, "valid": 3}).orders["date"].tolist() == [DATES[3]]
    assert trade({"size": 5, "type": "limit", "price": 8.0, "valid": 0}).orders["date"].isna().all()
    replaced = trade(
        {"size": 5, "type": "limit", "price": 8.0, "valid": 0}, {"date": DATES[2], "kind": "target", "size": 0.1}
    )
    assert replaced.orders["reason"].tolist() == ["replaced", ""]


def test_a_bracket_follows_an_order_that_fills_in_parts():
    bars = flat(8, low=[9.8, 9.8, 8, 9.8, 8, 9.8, 9.8, 9.8], volume=[0, 100, 1000, 100, 1000, 0, 0, 0.0])
    result = trade({"size": 25, "valid": 0, "stop_loss": 0.1}, bars=bars, participation=0.1)
    assert (
        result.trades["quantity"].tolist() == [10, 15, -25]
        and result.positions.index.get_level_values("date").max() == DATES[1]
    )
    late = flat(8, low=[9.8, 9.8, 8, 9.8, 8, 9.8, 9.8, 9.8], volume=[0, 100, 0, 100, 1000, 0, 0, 0.0]).assign(open=10.0)
    again = trade({"size": 15, "valid": 0, "stop_loss": 0.1}, bars=late, participation=0.1)
    assert again.trades["quantity"].sum() == 0 and again.positions.index.get_level_values("date").max() == DATES[3]


def test_two_orders_share_one_volume():
    result = trade({"size": 80}, {"size": 80}, participation=0.1)
    assert result.trades["quantity"].sum() == 100


def test_queue_is_its_closed_form_and_monotone():
    got = [
        trade({"size": 1e5, "type": "limit", "price": p}, queue=0.05, cash=1e9).trades["quantity"].sum()
        for p in np.linspace(9.0, 9.99, 12)
    ]
    np.testing.assert_allclose(got, [max((p - 9) / 2 - 0.05, 0) * 1000 for p in np.linspace(9.0, 9.99, 12)], atol=1e-9)
    assert (np.diff(got) >= 0).all()


def test_sizes_are_those_of_the_decision():
    bars = flat(close=[20, 10, 10, 10, 10, 10.0], high=21.0)
    sizes = {"shares": 7.0, "value": 1000.0, "percent": 0.1, "target": 0.2}
    quantity = {
        kind: trade({"kind": kind, "size": size}, bars=bars).trades["quantity"].item() for kind, size in sizes.items()
    }
    assert quantity == {"shares": 7.0, "value": 50.0, "percent": 50.0, "target": 100.0}


def test_lots_and_odd_rests():
    assert trade({"kind": "percent", "size": 0.5}, lot=300).trades["quantity"].tolist() == [300]
    assert trade({"size": 0.5}, lot=1).orders["reason"].tolist() == ["less than a lot"]
    odd = trade(
        {"size": 5.0},
        {"date": DATES[3], "kind": "target", "size": 0.0},
        bars=flat(split_ratio=[1, 1, 1.5, 1, 1, 1]),
        lot=1,
    )
    assert odd.trades["quantity"].tolist() == [5.0, -7.5]


def test_split_dividend_borrow_funding_and_interest():
    sale = {"size": -10, "type": "limit", "price": 26.0, "date": DATES[1]}
    split = trade({"size": 10}, sale, bars=flat(split_ratio=[1, 1, 2.5, 1, 1, 1]))
    assert split.trades[["quantity", "price"]].to_numpy().tolist() == [[10, 10], [-25, 10.4]]
    pays = flat(dividend=[0, 9, 0.3, 0, 0, 0], split_ratio=[1, 1, 2, 1, 1, 1])
    assert np.isclose(trade({"size": 10}, bars=pays).costs["dividends"].sum(), -10 * 2 * 0.3)
    assert np.isclose(trade({"size": -10}, bars=pays).costs["dividends"].sum(), 10 * 2 * 0.3)
    nights = (DATES[5] - DATES[1]).days
    assert np.isclose(trade({"size": -10}, bars=flat(borrow=0.365)).costs["borrow"].sum(), 100 * 0.001 * nights)
    assert np.isclose(
        trade({"size": -10}, costs=Costs(0, 0, borrow_bps=3650)).costs["borrow"].sum(), 100 * 0.001 * nights
    )
    assert trade({"size": 10}, bars=flat(borrow=0.365)).costs["borrow"].sum() == 0
    fees = trade({"size": -10}, bars=flat(borrow=[0, 0.365, 0, 0, 0, 0])).costs["borrow"]
    assert np.isclose(fees[DATES[2]], 0.1) and np.isclose(
        fees.sum(), 0.1
    )  # the fee known at the close before the night
    assert np.isclose(
        trade({"size": 10}, bars=flat(funding=[0.5, 0.001, 0.001, 0, 0, 0])).costs["funding"].sum(), 0.2
    )  # of the bars it was held at
    assert np.isclose(
        trade({"size": 10}, costs=Costs(0, 0, funding_bps=3650)).costs["funding"].sum(), 100 * 0.001 * nights
    )
    cash = trade({"size": 1e-9}, costs=Costs(0, 0, interest_bps=3650)).equity
    assert np.isclose(cash.iloc[1], 10_000 * 1.001) and cash.is_monotonic_increasing


def test_a_name_that_stops_is_closed_and_listed():
    bars = pd.concat(
        [flat(12).drop([(d, "A") for d in DATES[3:12]]), as_panel(flat(12).reset_index().assign(symbol="B"))]
    ).sort_index()
    result = trade(
        {"size": 10}, {"date": DATES[4], "size": 5, "valid": 0}, bars=bars, stale_after=3, delisting_return=-0.4
    )
    assert result.closed[["date", "last_bar", "quantity", "price"]].to_numpy().tolist() == [
        [DATES[5], DATES[2], -10.0, 6.0]
    ]
    assert np.isclose(result.cash.iloc[-1], 10_000 - 100 + 60) and result.orders["reason"].tolist() == ["", "stopped"]
    assert trade({"date": DATES[4], "size": 5}, bars=bars).orders["reason"].tolist() == ["no bar"]


def test_a_currency_and_a_multiplier():
    euro = trade({"size": 10}, bars=flat(rate=[1.1, 1.2, 1.2, 1.2, 1.3, 1.3], multiplier=5.0))
    assert np.isclose(euro.trades["price"].item(), 10 * 1.1 * 5)  # bought at the rate known before
    np.testing.assert_allclose(euro.equity, 10_000 + 500 * (np.array([1.1, 1.2, 1.2, 1.2, 1.3, 1.3]) - 1.1))


def test_cash_and_gross_are_kept():
    three = pd.concat([as_panel(flat().reset_index().assign(symbol=s)) for s in "ABC"]).sort_index()
    plan = pd.DataFrame(
        {"date": DATES[0], "symbol": list("ABC"), "size": [900.0, 900.0, 5.0], "stop_loss": [0.5, np.nan, np.nan]}
    )
    paid = from_orders(plan, three, Costs(10, 10, minimum=25.0), cash=10_000.0)
    assert -1e-6 < paid.cash.min() < 10 and set(paid.orders["reason"]) == {"no cash", "price not reached"}
    assert np.isclose(paid.trades["quantity"].iloc[0], paid.trades["quantity"].iloc[1])
    lots = from_orders(plan, three, Costs(10, 10, minimum=25.0), Rules(lot=100), cash=10_000.0)
    assert lots.trades["quantity"].tolist() == [400, 400] and lots.cash.min() > 0
    short = from_orders(plan.assign(size=-plan["size"]), three, FREE, Rules(max_gross=1.5), cash=10_000.0)
    assert np.isclose(-short.trades["quantity"].sum(), 1500) and set(short.orders["reason"]) == {
        "gross limit",
        "price not reached",
    }
    nothing = from_orders(plan, three, Costs(0, 0, minimum=20_000.0), cash=10_000.0)
    assert nothing.trades.empty and (nothing.equity == 10_000).all()


def test_a_list_that_knows_the_close_earns_nothing():
    """Every bar jumps from open to close and the next one opens where the last one opened: only a fill in the same
    bar could earn."""
    rng = np.random.default_rng(0)
    jump = rng.choice([-1.0, 1.0], 30)
    bars = as_panel(
        pd.DataFrame(
            {
                "date": DATES,
                "symbol": "A",
                "open": 10.0,
                "high": 10 + np.maximum(jump, 0),
                "low": 10 + np.minimum(jump, 0),
                "close": 10 + jump,
            }
        )
    )
    plan = pd.DataFrame(
        {"date": DATES[:-1], "symbol": "A", "size": np.where(np.diff(jump, prepend=0)[:-1] > 0, 10.0, -10.0)}
    )
    out = plan.assign(size=-plan["size"], date=DATES[1:])
    result = from_orders(pd.concat([plan, out]), bars, FREE, Rules(max_gross=np.inf), cash=10_000.0)
    assert (result.trades["price"] == 10).all() and len(result.trades) > 50
    assert np.isclose(
        result.cash.iloc[-1]
        + result.positions["shares"].groupby("date").sum().reindex(DATES, fill_value=0).iloc[-1] * 10,
        10_000,
    )


def test_impact_is_charged_from_the_past():
    bars = market(4, missing=0.0, extras=False)
    wide = pd.DataFrame({"date": DATES[25], "symbol": NAMES, "size": 500.0})
    result = from_orders(wide, bars, Costs(0, 0, impact=1.0), cash=1e7)
    close, volume = to_wide(bars["close"]), to_wide(bars["volume"])
    sigma, typical = close.pct_change().iloc[:26].tail(20).std(), volume.iloc[:26].tail(20).mean()
    expected = to_wide(bars["open"]).iloc[26] * (1 + sigma * np.sqrt(500 / typical))
    np.testing.assert_allclose(result.trades["price"], expected[result.trades["symbol"]], rtol=1e-9)
    early = from_orders(wide.assign(date=DATES[3]), bars, Costs(0, 0, impact=1.0))
    assert early.trades.empty and set(early.orders["reason"]) == {"unknown liquidity"}


def test_degenerate_lists_and_bars():
    empty = pd.DataFrame({"date": DATES[:0], "symbol": pd.Series([], dtype="str"), "size": []})
    none = from_orders(empty, flat())
    assert (
        none.trades.empty
        and none.orders.empty
        and none.positions.empty
        and (none.equity == 1e6).all()
        and none.turnover.eq(0).all()
    )
    assert trade({"size": 1.0}, bars=flat(1)).orders["reason"].tolist() == ["no next session"]
    dark = flat(open=np.nan, high=np.nan, low=np.nan, close=np.nan)
    assert trade({"size": 1.0}, {"kind": "percent", "size": 0.1}, bars=dark).orders["reason"].tolist() == [
        "no bar",
        "no price",
    ]
    assert trade({"kind": "target", "size": 0.0}).orders.empty
    with pytest.raises(QuantlabError, match="ruined"):
        trade(
            {"size": -1500.0}, bars=flat(open=[10, 10, 20, 20, 20, 20.0], close=[10, 10, 20, 20, 20, 20.0], high=21.0)
        ).equity


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"symbol": "ZZ"}, PanelError, "no such symbol"),
        ({"date": "2031-01-01"}, PanelError, "no session of the bars"), ({"size": np.inf}, PanelError, "not a number"),
        ({"size": np.nan}, PanelError, "not a number"), ({"kind": "lots"}, PanelError, "kind is unknown"),
        ({"type": "iceberg"}, PanelError, "type is unknown"),
        ({"type": "limit"}, PanelError, "positive price"),
        ({"type": "stop", "price": -1.0}, PanelError, "positive price"), ({"price": 5.0}, PanelError, "take no price"),
        ({"valid": -1}, PanelError, "valid counts"), ({"valid": 1.5}, PanelError, "valid counts"),
        ({"stop_loss": -0.1}, PanelError, "stop_loss"),
    ],
)  # fmt: skip
def test_orders_that_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        trade({"size": 1.0} | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"close": np.inf}, "close of A"), ({"low": -1.0}, "low of A"), ({"adj": 0.5}, "adj is not applied"),
    ({"split_ratio": 0.0}, "split_ratio of A"),
     ({"rate": -1.0}, "rate of A"), ({"dividend": np.inf}, "dividend of A"), ({"volume": -1.0}, "volume of A"),
     ({"borrow": np.inf}, "borrow of A")],
)  # fmt: skip
def test_bars_that_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        trade({"size": 1.0}, bars=flat(**change))


def test_empty_bars_and_wrong_accounts():
    with pytest.raises(PanelError, match="empty"):
        trade({"size": 1.0}, bars=flat().iloc[:0])
    with pytest.raises(ConfigError, match="cash"):
        trade({"size": 1.0}, cash=np.nan)
    with pytest.raises(PanelError, match="an order needs"):
        from_orders(pd.DataFrame({"symbol": ["A"]}), flat())
    with pytest.raises(PanelError, match="no session between"):
        from_orders(pd.DataFrame({"date": DATES[:1], "symbol": "A", "size": 1.0}), flat(), start="2030-01-01")
    for wrong in (
        {"moment": "noon"},
        {"lot": -1},
        {"queue": 2.0},
        {"max_gross": np.nan},
        {"sized": "later"},
        {"cash": "first"},
        {"rounding": -1},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            FillModel("mine", **wrong) if {"lot", "max_gross"}.isdisjoint(wrong) else Rules(**wrong)


def test_what_a_lot_leaves_over_says_so():
    days = pd.bdate_range("2024-01-01", periods=3).as_unit("us")
    bars = as_panel(
        pd.DataFrame(
            {"date": days, "symbol": "A", "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1e6}
        )
    )
    asked = pd.DataFrame({"date": [days[0]] * 2, "symbol": "A", "size": [814.82, 0.5]})
    orders = from_orders(asked, bars, rules=Rules(lot=1)).orders
    assert orders["filled"].tolist() == [814.0, 0.0] and orders["reason"].tolist() == ["less than a lot"] * 2


def flat_bars(symbols=("A", "B"), n=8, **columns):
    at = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n).as_unit("us"), list(symbols)], names=["date", "symbol"]
    )
    return pd.DataFrame({"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0, "volume": 1e6} | columns, index=at)


def test_a_sale_inside_the_bar_does_not_pay_for_a_buy_inside_it():
    bars = flat_bars()
    d = bars.index.unique("date")
    bars.loc[(d[2], "A"), "high"], bars.loc[(d[2], "B"), "low"] = 110.0, 90.0
    plan = pd.DataFrame(
        {
            "date": [d[0], d[1], d[1]],
            "symbol": ["A", "A", "B"],
            "size": [10000.0, -10000.0, 11000.0],
            "type": ["market", "limit", "limit"],
            "price": [np.nan, 110.0, 90.0],
        }
    )
    trades = from_orders(plan, bars, costs=Costs(0, 0)).trades
    assert trades.loc[trades["symbol"] == "B", "quantity"].sum() < 1e-3 and (trades["symbol"] == "A").sum() == 2


def test_a_queue_is_one_queue_for_all_our_orders():
    bars = flat_bars(("A",), volume=100.0, low=90.0, high=110.0)
    plan = pd.DataFrame({"date": [bars.index[0][0]] * 5, "symbol": "A", "size": 1000.0, "type": "limit", "price": 99.0})
    assert from_orders(plan, bars, Costs(0, 0), fill=next_open(queue=0.1)).orders["filled"].sum() == pytest.approx(35.0)


def test_impact_is_the_same_economics_before_and_after_a_split():
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 80)))
    days = pd.bdate_range("2020-01-01", periods=80).as_unit("us")
    whole = as_panel(
        pd.DataFrame(
            {"date": days, "symbol": "A", "open": close, "high": close, "low": close, "close": close, "volume": 1e6}
        )
    )
    after = np.arange(80) >= 50
    cut = whole.assign(split_ratio=np.where(np.arange(80) == 50, 4.0, 1.0), volume=np.where(after, 4e6, 1e6))
    for column in ("open", "high", "low", "close"):
        cut[column] = np.where(after, whole[column] / 4, whole[column])
    for day, size in ((49, 10_000.0), (55, 40_000.0)):
        paid = [
            from_orders(
                pd.DataFrame({"date": [days[day]], "symbol": "A", "size": s}),
                b,
                costs=Costs(0, 0, impact=1.0),
                cash=1e8,
            )
            .trades["slippage"]
            .iloc[0]
            for b, s in ((whole, 10_000.0), (cut, size))
        ]
        assert paid[0] == pytest.approx(paid[1], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"stoploss": 0.1}, "mean nothing"), ({"stop_loss": 5.0}, "below 1"), ({"date": pd.NaT}, "date is missing")],
)
def test_an_order_list_with_a_slip_is_refused(change, says):
    bars = flat_bars()
    with pytest.raises(PanelError, match=says):
        from_orders(pd.DataFrame({"date": [bars.index[0][0]], "symbol": "A", "size": 1.0}).assign(**change), bars)


def test_terms_of_another_kind_are_refused():
    bars, plan = flat_bars(), pd.DataFrame({"date": [pd.Timestamp("2020-01-01")], "symbol": "A", "size": 1.0})
    for wrong, words in (
        ({"rules": Costs()}, "give Rules"),
        ({"costs": Rules()}, "give Costs"),
        ({"fill": "open"}, "give FillModel"),
        ({"fill": next_open}, "call it: next_open"),
    ):
        with pytest.raises(ConfigError, match=words):
            from_orders(plan, bars, **wrong)
    with pytest.raises(ConfigError, match="column volume"):
        from_orders(plan, bars.drop(columns="volume"), fill=next_open(participation=0.1))
    weights = pd.DataFrame({"weight": [1.0]}, index=bars.index[:1])
    for column, value in (("split_ratio", 2.0), ("dividend", 1.0), ("rate", 0.5)):
        with pytest.raises(DataError, match=column):
            from_weights(weights, bars.assign(**{column: value}))


@pytest.mark.parametrize(
    "answer",
    [([7], [0.5]), ([0, 1], [0.5]), ([-1], [0.5]), ([0.7], [0.5]), ([0], [np.nan]), ([0, 0], [0.5, 0.5]), None],
)
def test_a_rule_that_answers_nonsense_is_refused(answer):
    bars = flat_bars()
    with pytest.raises(PanelError, match="cannot be traded"):
        from_rule(lambda held, score, tradable: answer, bars[["close"]].set_axis(["score"], axis=1), bars)


def priced(*bars):
    """One name with given open, high, low and close."""
    return as_panel(
        pd.DataFrame(bars, columns=["open", "high", "low", "close"], dtype=float).assign(
            date=DATES[: len(bars)], symbol="A", volume=1000.0
        )
    )


def test_a_leg_that_fills_ends_the_other_leg_of_its_own_bracket():
    """The first ten are stopped at 9.5; the second ten stay, and the first bracket's limit of 11 must not sell them."""
    bars = priced([10] * 4, [10] * 4, [10] * 4, [10, 10, 9.4, 9.6], [9.6, 11.2, 9.6, 11.1], [11.1, 11.2, 11, 11.1])
    rows = (
        {"size": 10.0, "stop_loss": 0.05, "take_profit": 0.1},
        {"date": DATES[1], "size": 10.0, "stop_loss": 0.5, "take_profit": 1.0},
    )
    for side in (1.0, -1.0):
        mirror = (
            bars
            if side > 0
            else bars.assign(
                **{
                    c: 20 - bars[d]
                    for c, d in zip(["open", "high", "low", "close"], ["open", "low", "high", "close"], strict=True)
                }
            )
        )
        plan = [
            row
            | {"size": side * row["size"]}
            | ({"take_profit": 0.9} if side < 0 and row["take_profit"] == 1.0 else {})
            for row in rows
        ]
        result = trade(*plan, bars=mirror)
        assert (
            result.orders["filled"].tolist() == [10 * side, -10 * side, 0, 10 * side, 0, 0]
            and result.orders["reason"].iloc[2] == "position closed"
        )
        assert result.positions["shares"].iloc[-1] == 10 * side


def test_legs_share_what_their_order_bought():
    """A limit that sells 4 of 10 leaves 6 to the stop, whatever else is held."""
    bars = priced([10] * 4, [10] * 4, [10, 11.5, 10, 10], [10, 10, 9, 9], [9] * 4)
    bars["volume"] = [1000.0, 1000.0, 40.0, 1000.0, 1000.0]
    result = trade({"size": 10.0, "stop_loss": 0.05, "take_profit": 0.1}, {"size": 20.0}, bars=bars, participation=0.1)
    assert (
        result.orders["filled"].tolist() == [10, -6, -4, 20]
        and result.orders["reason"].tolist()[1:3] == ["position closed"] * 2
    )


def test_a_stop_cut_by_its_goal_is_done():
    "It may only reduce: it sells the 4 that are there, and not the 10 that are bought at the close of the same day."
    bars = priced([10] * 4, [10] * 4, [10, 10, 9, 9], [9, 9, 8, 8], [8] * 4)
    cut = {"date": DATES[0], "size": -10.0, "type": "stop", "price": 9.5, "valid": 0, "reduce": True}
    result = trade({"size": 4.0}, cut, {"date": DATES[1], "size": 10.0, "type": "close"}, bars=bars)
    assert result.trades["quantity"].tolist() == [4, -4, 10] and result.positions["shares"].iloc[-1] == 10
    sold = trade(
        {"size": 4.0, "stop_loss": 0.15},
        {"date": DATES[1], "size": -4.0},
        {"date": DATES[1], "size": 10.0, "type": "close"},
        bars=bars,
    )
    assert (
        sold.trades["quantity"].tolist() == [4, -4, 10] and sold.positions["shares"].iloc[-1] == 10
    )  # sold at the open: the stop went with it


def test_a_stop_born_behind_the_market_sells_there():
    """Bought on a stop of 11 at the high, 1 % worse with slippage: a stop of 0.01 % below the price paid would lie
    above the bar."""
    bars = priced([10] * 4, [10, 11, 10, 10.5], [10.5] * 4)
    trades = trade(
        {"size": 10.0, "type": "stop", "price": 11.0, "stop_loss": 1e-4}, bars=bars, costs=Costs(0, 100)
    ).trades
    market = trades["price"] - trades["slippage"] / trades["quantity"]
    assert np.allclose(market, [11.0, 11.0])


def test_one_target_sent_twice_is_one_order():
    two = pd.concat([as_panel(flat().reset_index().assign(symbol=s)) for s in "AB"]).sort_index()
    plan = pd.DataFrame({"date": DATES[0], "symbol": list("AAB"), "size": 0.5, "kind": "target"})
    result = from_orders(plan, two, FREE, cash=10_000.0)
    assert np.allclose(result.trades["quantity"], [500, 500]) and result.orders["reason"].tolist() == [
        "replaced",
        "",
        "",
    ]
    other = from_orders(plan.assign(size=[0.5, 0.2, 0.5]), two, FREE, cash=10_000.0)  # the later one is meant
    assert np.allclose(other.trades["quantity"], [200, 500])
    both = trade(
        {"size": 0.0, "kind": "target", "type": "limit", "price": 10.5},
        {"size": 0.0, "kind": "target", "type": "stop", "price": 9.5},
        {"size": 0.5, "kind": "target", "type": "market"},
    )
    assert np.isclose(both.trades["quantity"].sum(), 500)  # two ways to a target are two orders, and none leads past it


def test_orders_of_one_stage_do_not_ask_twice_for_what_one_of_them_sells():
    """Two orders that may only reduce ask for ten shares in all: the third, unbound, has the rest of the volume."""
    sell = {"date": DATES[1], "size": -10.0, "reduce": True}
    result = trade(
        {"size": 10.0}, sell, sell, {"date": DATES[1], "size": -90.0}, bars=flat(volume=1000.0), participation=0.1
    )
    assert result.trades["quantity"].tolist() == [10, -10, -90]


def test_what_a_stop_sold_inside_the_bar_does_not_pay_for_a_limit_inside_it():
    bars = flat_bars()
    d = bars.index.unique("date")
    bars.loc[(d[2], slice(None)), "low"] = 90.0
    plan = pd.DataFrame(
        {
            "date": [d[0], d[1], d[1]],
            "symbol": ["A", "A", "B"],
            "size": [10000.0, -10000.0, 11000.0],
            "type": ["market", "stop", "limit"],
            "price": [np.nan, 95.0, 90.0],
        }
    )
    assert np.allclose(from_orders(plan, bars, costs=Costs(0, 0)).orders["filled"], [10000, -10000, 0], atol=1e-3)


def test_a_stop_covers_a_short_whatever_the_cash():
    """The proceeds of the short have bought another name: the stop is filled on credit, at its price and on its day."""
    bars = flat_bars()
    d = bars.index.unique("date")
    bars.loc[(slice(d[3], None), "A"), ["open", "high", "low", "close"]] = [100.0, 115.0, 100.0, 112.0]
    plan = pd.DataFrame(
        {"date": [d[0], d[1]], "symbol": ["A", "B"], "size": [-50.0, 149.0], "stop_loss": [0.1, np.nan]}
    )
    result = from_orders(plan, bars, Costs(0, 0), Rules(max_gross=np.inf), cash=10_000.0)
    assert result.trades[["date", "quantity", "price"]].to_numpy().tolist()[-1] == [
        d[3],
        50.0,
        pytest.approx(110.0),
    ] and result.cash.iloc[-1] == pytest.approx(-5_400)


def test_a_buy_that_only_the_hair_cut_is_whole():
    result = trade({"kind": "percent", "size": 1.0})
    assert result.orders["reason"].tolist() == [""] and result.cash.iloc[-1] < 1e-4
    weights = pd.DataFrame({"weight": [1.0]}, index=flat().index[:1])
    assert from_weights(weights, flat(), FREE).orders["reason"].tolist() == [""]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"open": 12.0}, "open of A"),
        ({"close": 8.0}, "close of A"),
        ({"vwap": 12.0}, "vwap of A"),
        ({"high": 8.0}, "outside its bar"),
    ],
)
def test_bars_at_whose_prices_nobody_traded_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        trade({"size": 1.0}, bars=flat(**change))
    assert len(trade({"size": 1.0}, bars=flat(open=11.0 + 1e-7)).trades) == 1  # a vendor's rounding


def test_round_trips_know_splits_and_add_up_to_the_account():
    rng = np.random.default_rng(3)
    for seed in range(8):
        bars = market(seed).drop(columns=["dividend", "borrow", "funding"])
        result = from_orders(targets(seed, bars), bars, Costs(1, 5), Rules(max_gross=np.inf), cash=1e7, start=DATES[0])
        trips = round_trips(result.trades, result.positions.groupby("symbol")["price"].last())
        assert trips["pnl"].sum() == pytest.approx(result.equity.iloc[-1] - result.equity.iloc[0], rel=1e-9, abs=1e-4)
        summary = round_trip_summary(trips, draws=int(rng.integers(1, 5)))
        assert summary.at["expectancy", "value"] * len(trips) == pytest.approx(trips["pnl"].sum())
    one = trade(
        {"size": 10.0}, {"date": DATES[3], "kind": "target", "size": 0.0}, bars=flat(split_ratio=[1, 1, 4, 1, 1, 1.0])
    )
    trips = round_trips(one.trades)
    assert (
        len(trips) == 1 and trips["exit"].notna().all() and trips["pnl"].item() == 300
    )  # ten became forty, at the old price
    assert "split_after" not in trade({"size": 10.0}).trades
