"""The event loop against a second broker in plain Python, on random order books; and no fill of any engine outside
its bar."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from slow_broker import Bar, SlowBroker

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.orders import from_orders, from_rule
from quantlab.broker.fill_model import next_close, next_open, same_close, vwap
from quantlab.broker.rules import QUANTITY_KINDS, TYPES, Rules
from quantlab.core.errors import QuantlabError
from quantlab.core.panel import as_panel, to_wide

T, NAMES = 14, ["A", "B", "C"]
DATES = pd.bdate_range("2024-01-01", periods=T).as_unit("us")
YEARS = [0.0, *np.diff((DATES - DATES[0]) / pd.Timedelta(days=365))]
TICK = 0.25  # prices on ticks touch limits and stops exactly


def on_tick(x):
    return np.maximum(np.round(x / TICK), 2) * TICK


def random_bars(rng):
    """Bars of three names on ticks, with gaps, holes, splits, dividends, a currency, fees; sometimes one name stops
    for good."""
    n, moves = len(NAMES), rng.choice([0.01, 0.03, 0.1])
    close = rng.uniform(20, 60, n) * np.exp(np.cumsum(rng.normal(0, moves, (T, n)), axis=0))
    open_ = np.roll(close, 1, axis=0) * np.exp(rng.normal(0, moves * rng.choice([0, 0.5, 2], (T, n))))
    open_[0] = close[0]
    split = np.where(rng.random((T, n)) < 0.03, rng.choice([2.0, 0.5, 4.0], (T, n)), 1.0)
    split[0] = 1.0
    there = rng.random((T, n)) >= 0.05
    there[0] = True
    if rng.random() < 0.2:
        there[rng.integers(4, T - 3) :, rng.integers(n)] = False
    there[:, rng.integers(n)] = True  # a session has a bar
    split = np.where(there, split, 1.0)
    level = np.cumprod(split, axis=0)
    open_, close = on_tick(open_ / level), on_tick(close / level)
    wide = {"open": open_, "close": close, "high": np.maximum(open_, close) + TICK * rng.integers(0, 5, (T, n))}
    wide["low"] = np.maximum(np.minimum(open_, close) - TICK * rng.integers(0, 5, (T, n)), TICK)
    wide["volume"] = rng.uniform(1e3, 2e4, (T, n)).round()
    wide |= {"split_ratio": split, "dividend": np.where(rng.random((T, n)) < 0.05, 0.5, 0.0)}
    if rng.random() < 0.3:
        wide |= {
            "rate": np.exp(np.cumsum(rng.normal(0, 0.003, (T, n)), axis=0)),
            "borrow": rng.uniform(0, 0.2, (T, n)),
            "funding": rng.normal(0, 1e-4, (T, n)),
        }
    t, i = np.nonzero(there)
    return as_panel(
        pd.DataFrame(
            {"date": DATES[t], "symbol": np.array(NAMES)[i]} | {name: values[t, i] for name, values in wide.items()}
        )
    )


def random_orders(rng, bars):
    """Up to 40 orders of every type and kind, with brackets, copies of targets and orders that only reduce."""
    n = int(rng.integers(1, 40))
    t, i, kind, type_ = (
        rng.integers(0, T, n),
        rng.integers(0, len(NAMES), n),
        rng.choice(QUANTITY_KINDS, n),
        rng.choice(TYPES, n),
    )
    close = to_wide(bars["close"]).ffill().reindex(columns=NAMES).to_numpy()[t, i]
    size = (
        rng.normal(0, 1, n)
        * np.select([kind == "shares", kind == "value"], [300.0, 1e4], 0.5)
        * np.where(rng.random(n) < 0.1, 0.0, 1.0)
    )
    priced = np.isin(type_, ["limit", "stop"])
    price = np.where(priced, on_tick(close + TICK * rng.integers(-8, 9, n)), np.nan)
    bracket = {
        name: np.where(rng.random(n) < 0.4, rng.choice([1e-4, 0.01, 0.03, 0.1], n), np.nan)
        for name in ("stop_loss", "take_profit")
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
    plan = pd.DataFrame(plan | bracket | {"reduce": rng.random(n) < 0.15})
    return pd.concat([plan, plan[rng.random(n) < 0.1]], ignore_index=True)


def random_terms(rng):
    """Rules and costs, each dial off as often as on."""
    pick = lambda *values: values[rng.integers(len(values))]
    model = pick(next_open, next_close, vwap)
    fill = model(
        through=pick(0.0, 0.0, 0.002), queue=pick(0.0, 0.0, 0.1), participation=pick(np.inf, np.inf, 0.01, 0.05)
    )
    rules = Rules(
        lot=pick(0.0, 1.0, 10.0), max_gross=pick(np.inf, 2.0, 1.0), stale_after=pick(2, 5),
        delisting_return=pick(0.0, -0.3),
    )  # fmt: skip
    costs = pick(
        Costs(0, 0),
        Costs(1, 5),
        Costs(
            5, 20, per_share=0.005, minimum=1.0, half_spread_bps=3, borrow_bps=100, interest_bps=300, funding_bps=200
        ),
    )
    return {"costs": costs, "rules": rules, "fill": fill}, float(pick(5_000.0, 50_000.0, 1e6))


def reference(orders, bars, costs, rules, fill, cash):
    """Play a book through the slow broker."""
    word = {"next open": "open", "next close": "close", "next vwap": "vwap"}[fill.name]
    rules = SimpleNamespace(
        **vars(rules), fill=word, through=fill.through, queue=fill.queue, participation=fill.participation
    )
    days = [dict.fromkeys(NAMES) for _ in range(T)]
    place = {date: t for t, date in enumerate(DATES)}
    for row in bars.reset_index().to_dict("records"):
        typical = (row["high"] + row["low"] + row["close"]) / 3
        more = {
            ours: row[theirs]
            for ours, theirs in (
                ("split", "split_ratio"),
                ("dividend", "dividend"),
                ("rate", "rate"),
                ("funding", "funding"),
            )
            if theirs in row
        }
        bar = Bar(
            *(row[c] for c in ("open", "high", "low", "close")),
            typical,
            row["volume"],
            **more,
            borrow=row.get("borrow", np.nan),
        )
        days[place[row["date"]]][row["symbol"]] = bar
    broker = SlowBroker(days, YEARS, rules, costs, cash)
    sent = [[] for _ in range(T)]
    for o in orders.sort_values(["date", "symbol"], kind="stable").to_dict("records"):
        words = ("symbol", "size", "kind", "type", "price", "valid", "reduce", "stop_loss", "take_profit")
        sent[place[o["date"]]].append([o[word] for word in words])
    for t in range(T):
        broker.session(t)
        for order in sent[t]:
            broker.send(t, *order)
    return broker


def compare(seed):
    """Play one random book twice; every fill, the cash and the equity of every close must agree."""
    rng = np.random.default_rng(seed)
    bars, (terms, cash) = random_bars(rng), random_terms(rng)
    orders = random_orders(rng, bars)
    slow = reference(orders, bars, **terms, cash=cash)
    try:
        fast = from_orders(orders, bars, **terms, cash=cash, start=DATES[0])
    except QuantlabError as error:
        assert "ruined" in str(error) and min(equity for _, equity in slow.log) <= 0
        return None
    trades = fast.trades
    assert [(DATES[f[0]], f[1]) for f in slow.fills] == list(zip(trades["date"], trades["symbol"], strict=True)), seed
    scale = max(cash, 1.0)
    for column, values in (
        ("quantity", [f[2] for f in slow.fills]),
        ("price", [f[3] for f in slow.fills]),
        ("commission", [f[4] for f in slow.fills]),
    ):
        np.testing.assert_allclose(trades[column], values, rtol=1e-9, atol=1e-9, err_msg=f"{column} of book {seed}")
    np.testing.assert_allclose(
        fast.cash, [c for c, _ in slow.log], rtol=1e-9, atol=1e-9 * scale, err_msg=f"cash of book {seed}"
    )
    np.testing.assert_allclose(
        fast.equity, [e for _, e in slow.log], rtol=1e-9, atol=1e-9 * scale, err_msg=f"equity of book {seed}"
    )
    inside(fast, bars)
    return fast


def inside(result, bars):
    """No fill of any kind outside its bar's low and high; only what nobody ordered, the closing of a name that
    stopped, has no bar."""
    trades = result.trades[result.trades["reason"] != "stopped"]
    bar = bars.loc[pd.MultiIndex.from_frame(trades[["date", "symbol"]])]
    market = (trades["price"] - trades["slippage"] / trades["quantity"]).to_numpy()
    if "rate" in bars:
        rate = to_wide(bars["rate"]).ffill().bfill()
        before, same = rate.shift(1).bfill(), rate
        close = trades["reason"].eq("close") | (
            trades["reason"].eq("market") & (result.settings["fill"].split("next session's ")[1].startswith("close"))
        )
        at = [(same if c else before).at[d, s] for c, d, s in zip(close, trades["date"], trades["symbol"], strict=True)]
        market = market / np.array(at, dtype=float)
    assert (market >= bar["low"].to_numpy() * (1 - 1e-9)).all() and (
        market <= bar["high"].to_numpy() * (1 + 1e-9)
    ).all(), trades[(market < bar["low"].to_numpy()) | (market > bar["high"].to_numpy())]


@pytest.fixture(scope="module")
def played():
    return [compare(seed) for seed in range(200)]


def test_random_books_agree_with_the_slow_broker(played):
    assert sum(result is not None for result in played) > 180


def test_the_random_books_meet_every_rule(played):
    kinds = set().union(*(r.trades["reason"] for r in played if r is not None))
    assert {*TYPES, "stopped"} <= kinds
    words = set().union(*(r.orders["reason"] for r in played if r is not None))
    assert {
        "",
        "no cash",
        "position closed",
        "replaced",
        "volume",
        "price not reached",
        "no bar",
        "less than a lot",
        "gross limit",
        "stopped",
    } <= words


@pytest.mark.parametrize("seed", range(5))
def test_no_fill_of_the_other_engines_leaves_its_bar(seed):
    """from_weights fills at the open, a rule's orders at the close; the bars have every trap but splits."""
    rng = np.random.default_rng(seed)
    bars = random_bars(rng).drop(columns=["split_ratio", "dividend", "rate", "funding", "borrow"], errors="ignore")
    weights = (bars[["close"]].sample(frac=0.6, random_state=seed).sort_index() * 0 + 0.3).set_axis(["weight"], axis=1)
    result = from_weights(weights, bars, Costs(1, 5), Rules(stale_after=2))
    inside(result, bars)
    scores = (bars[["close"]] * 0 + rng.normal(size=(len(bars), 1))).set_axis(["score"], axis=1)
    rule = lambda held, score, tradable: (
        np.flatnonzero(tradable & ~np.isnan(score)),
        np.where(held, -1.0, 0.2)[tradable & ~np.isnan(score)],
    )
    result = from_rule(
        rule, scores, bars, Costs(5, 0, minimum=5.0, sell_tax_bps=10), Rules(stale_after=np.inf), same_close(), cash=1e5
    )
    assert len(result.trades) > 5
    inside(result, bars)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_twenty_thousand_random_books_agree_with_the_slow_broker(block):
    for seed in range(1000 * (block + 1), 1000 * (block + 2)):
        compare(seed)
