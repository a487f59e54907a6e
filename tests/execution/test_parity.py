"""Parity: every cent between backtest, paper and a venue has a cause from a log; a planted cent is not explained."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.execution.intent import ExecutionError
from quantlab.execution.parity import (
    CAUSES,
    AccountLog,
    AskedOrder,
    FillMark,
    backtest_log,
    book_faults,
    parity,
    quote_marks,
    shortfall,
    shortfall_table,
    trader_log,
)
from quantlab.execution.store import VenueFill, VenueFlow
from quantlab.execution.trader import BegunTrader, Trader, TraderTerms, session_hours
from quantlab.recipe.run import as_recipe

SPEC = as_recipe("momentum").replace(
    data__universe="AAPL,MSFT,XOM,KO,JPM,GE,T,PG", data__end="2016-08-31", policy__top_k=3, policy__buffer=0
)
TERMS = TraderTerms("1000000", "2016-07-01", clock="replayed")
CENT = Decimal("0.01")


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    trader = Trader(SPEC, tmp_path_factory.mktemp("paper") / "trader", TERMS)
    while trader.step():
        pass
    return trader


@pytest.fixture(scope="module")
def logs(paper):
    return backtest_log(SPEC, paper.market, TERMS), trader_log(paper)


def test_backtest_and_paper_leave_no_cent_over(logs):
    first, second = logs
    for log in logs:
        found = shortfall(log)
        assert found.unexplained == 0 and found.where == [] and len(log.fills) > 3
        assert found.causes["spread"] > 0 and found.causes["fees"] > 0 and found.causes["delay"] != 0
    pair = parity(first, second)
    assert pair.unexplained == 0 and pair.where == []
    assert abs(sum(pair.rows["amount"]) - pair.difference) < CENT / 2
    table = shortfall_table(logs)
    assert list(table.columns) == ["backtest", "paper"] and (table.loc["unexplained"] == 0).all()


def test_the_backtest_s_log_ends_where_the_engine_of_weights_ends(logs, paper):
    "Another engine on the same bars without dividends: what it lacks is what the log calls carry."
    from quantlab.backtest.engine import from_weights
    from quantlab.execution.parity import log_equity
    from quantlab.execution.trader import paper_terms
    from quantlab.recipe.stages import Stages

    weights = Stages(SPEC).sent
    weights = weights[weights.index.get_level_values("date") >= TERMS.start]
    bars, own = paper_terms(SPEC, paper.market)
    part = weights.assign(weight=weights["weight"] * 0.98)
    result = from_weights(part, bars.drop(columns="dividend"), cash=1e6, start=TERMS.start, **own)
    dividends = sum(flow.cash for flow in logs[0].flows if flow.kind == "dividend")
    assert dividends > 0 and shortfall(logs[0]).causes["carry"] <= -dividends
    assert abs(float(log_equity(logs[0]) - dividends) - result.equity.iloc[-1]) < 200, "a share or two by the dividends"


def test_a_backtest_without_reserve_differs_by_size_alone_in_its_decisions(logs, paper):
    other = backtest_log(SPEC, paper.market, TERMS._replace(reserve="0.1"))
    pair = parity(other, logs[1])
    assert pair.unexplained == 0 and "size" in set(pair.rows["cause"])
    sizes = pair.rows[pair.rows["cause"] == "size"]
    assert all("shares against" in why for why in sizes["why"])


def test_one_day_on_which_nothing_was_decided(tmp_path):
    spec, terms = SPEC.replace(data__universe="AAPL,MSFT", policy__top_k=1), TERMS._replace(start="2016-08-31")
    trader = Trader(spec, tmp_path / "x", terms)
    while trader.step():
        pass
    both = backtest_log(spec, trader.market, terms), trader_log(trader)
    assert all(log.orders == log.fills == [] and shortfall(log).equity == 10**6 for log in both)
    assert parity(*both).unexplained == 0 and len(parity(*both).rows) == 0


def test_a_name_that_stops_is_worth_its_last_close(paper):
    raw = paper.market.raw
    held = {one.symbol for one in backtest_log(SPEC, paper.market, TERMS, "2016-08-25").fills if one.quantity > 0}
    gone = raw.index.get_level_values("symbol").isin([sorted(held)[0]])
    short = raw[~(gone & (raw.index.get_level_values("date") > "2016-08-23"))]
    for end in ("2016-08-25", None):  # not bought out yet; bought out at its last close, which nobody asked for
        log = backtest_log(SPEC, paper.market._replace(raw=short), TERMS, end)
        found = shortfall(log)
        assert found.unexplained == 0 and found.where == []
    assert any(not one.id for one in log.fills)


money = st.integers(1, 10**6).map(lambda n: Decimal(n) / 100)
size = st.integers(-500, 500).filter(bool).map(Decimal)


@st.composite
def accounts(draw):
    "An account that keeps its books: orders, fills at the price that their marks say, flows, and what they make."
    names = ["A", "B", "C"]
    orders, fills, marks, flows = [], [], {}, []
    for n in range(draw(st.integers(0, 6))):
        symbol, quantity, close = draw(st.sampled_from(names)), draw(size), draw(money)
        orders.append(AskedOrder(f"o{n}", f"2016-07-{n + 1:02}", symbol, quantity, close, "volume"))
        for part in range(draw(st.integers(0, 2))):
            mid, touch, reached = draw(money), draw(money), draw(money)
            done = (quantity / 2).to_integral_value()
            if done:
                fills.append(VenueFill(f"x{n}.{part}", f"o{n}", symbol, done, reached, draw(money), "2016-07-30"))
                marks[f"x{n}.{part}"] = FillMark(mid, touch, reached)
    for n in range(draw(st.integers(0, 2))):
        fills.append(
            VenueFill(f"hand{n}", "", draw(st.sampled_from(names)), draw(size), draw(money), CENT, "2016-07-30")
        )
    for n in range(draw(st.integers(0, 3))):
        split = draw(st.booleans())
        cash, shares = (Decimal(0), draw(size)) if split else (draw(money), Decimal(0))
        kind = "split" if split else "dividend"
        flows.append(VenueFlow(f"f{n}", kind, draw(st.sampled_from(names)), shares, cash, "2016-07-30"))
    capital, closes = Decimal(10**6), {name: draw(money) for name in names}
    cash, shares = capital, {}
    for one in fills:
        cash -= one.quantity * one.price + one.fee
        shares[one.symbol] = shares.get(one.symbol, Decimal(0)) + one.quantity
    for flow in flows:
        cash += flow.cash
        shares[flow.symbol] = shares.get(flow.symbol, Decimal(0)) + flow.shares
    return AccountLog("any", capital, orders, fills, marks, flows, {s: n for s, n in shares.items() if n}, cash, closes)


@settings(max_examples=150, deadline=None)
@given(accounts())
def test_books_that_are_kept_leave_nothing(log):
    found = shortfall(log)
    assert found.unexplained == 0 and found.where == []
    assert found.ideal - found.equity == sum(found.causes.values())


@settings(max_examples=150, deadline=None)
@given(accounts(), st.data())
def test_a_cent_that_is_planted_anywhere_is_left_over(log, data):
    places = ["cash", "share"] + ["price", "fee"] * bool(log.fills) + ["flow"] * bool(log.flows)
    place = data.draw(st.sampled_from(places))
    if place == "cash":
        lie = log._replace(cash=log.cash + CENT)
    elif place == "share":
        lie = log._replace(shares=log.shares | {"A": log.shares.get("A", Decimal(0)) + 1})
    elif place == "flow":
        lie = log._replace(flows=[log.flows[0]._replace(cash=log.flows[0].cash + CENT), *log.flows[1:]])
    else:
        n = data.draw(st.integers(0, len(log.fills) - 1))
        one = log.fills[n]
        told = one._replace(fee=one.fee + CENT) if place == "fee" else one._replace(price=one.price + CENT)
        lie = log._replace(fills=[*log.fills[:n], told, *log.fills[n + 1 :]])
    found = shortfall(lie)
    assert found.unexplained != 0 and found.where and book_faults(lie)


@settings(max_examples=60, deadline=None)
@given(accounts(), accounts())
def test_two_accounts_differ_by_what_is_listed(a, b):
    b = b._replace(closes=a.closes)
    pair = parity(a, b)
    assert pair.unexplained == 0 and abs(sum(pair.rows["amount"], Decimal(0)) - pair.difference) < CENT / 2


def test_a_price_beyond_its_quote_is_left_over_though_the_book_agrees(logs):
    one = logs[1].fills[0]
    dear = one._replace(price=one.price + CENT)
    lie = logs[1]._replace(fills=[dear, *logs[1].fills[1:]], cash=logs[1].cash - one.quantity * CENT)
    found = shortfall(lie)
    assert book_faults(lie) == [] and found.unexplained == abs(one.quantity * CENT).quantize(CENT)
    assert any("beyond what its quote says" in said for said in found.where)


def test_quotes_are_the_last_ones_that_were_there_and_other_zones_are_the_same_time():
    fill = VenueFill("x", "o", "A", Decimal(-5), Decimal("9.97"), Decimal(0), "2016-07-11T15:30:05+02:00")
    rows = [
        ("A", "2016-07-11T13:30:06Z", "1", "2"), ("A", "2016-07-11T13:29:59Z", "9.98", "10.02"),
        ("A", "2016-07-11T13:30:05.000000+00:00", "9.97", "10.01"), ("B", "2016-07-11T13:29:59Z", "1", "2"),
    ]  # fmt: skip
    quotes = pd.DataFrame(rows, columns=["symbol", "at", "bid", "ask"])
    marks = quote_marks([fill], {"o": "2016-07-11T13:30:00Z"}, quotes)
    assert marks == {"x": FillMark(Decimal("10.00"), Decimal("9.98"), Decimal("9.97"))}
    assert quote_marks([fill], {"o": "2016-07-11T13:00:00Z"}, quotes) == {}, "no quote was there yet"
    assert quote_marks([fill], {}, quotes) == {} and quote_marks([], {}, quotes.iloc[:0]) == {}


def test_what_cannot_be_compared_is_refused(logs, tmp_path):
    with pytest.raises(ExecutionError, match="carry both accounts to one close"):
        parity(logs[0], logs[1]._replace(closes=logs[1].closes | {"AAPL": Decimal(1)}))
    with pytest.raises(ExecutionError, match="has no close at the end"):
        shortfall(logs[1]._replace(closes={}))
    with pytest.raises(ExecutionError, match="no day and no store"):
        trader_log(BegunTrader(SPEC, tmp_path / "x", TERMS))
    empty = AccountLog("none", Decimal(5), [], [], {}, [], {}, Decimal(5), {})
    assert shortfall(empty).unexplained == 0 and set(shortfall(empty).causes) == set(CAUSES)


# --- an account at a venue: the real client against a stand-in, day by day

sys.path.insert(0, str(Path(__file__).parents[1] / "venues"))


def at_the_venue(home, monkeypatch, plans=()):
    """Carry the recipe at the stand-in through its sessions; return trader, its core and the quotes.

    An order meets a market with a spread of two cents, which moves one cent further before the fill.
    """
    pytest.importorskip("alpaca", reason="alpaca-py is not installed: pip install 'quantlab[alpaca]'")
    from fakes.alpaca import AlpacaVenue
    from fakes.core import Core, Ticks

    from quantlab.venues.alpaca import AlpacaPaper

    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, "k")
    names = SPEC.data.universe.split(",")
    core = Core("1234567.89", instruments=names, clock=Ticks(datetime(2016, 6, 30, tzinfo=UTC)))
    rows = []
    with AlpacaVenue(core, key="k", secret="k").serve() as url:
        venue = AlpacaPaper(url, seconds=5.0)
        trader = Trader(SPEC, home, TERMS._replace(venue="alpaca"), venue=venue)
        bars = trader.market.raw
        for plan in plans:
            core.plan(plan[0], **plan[1])
        for date in trader.pending():
            day = bars.xs(date, level="date").round(2)
            opens = pd.Timestamp(session_hours("XNYS", trader.sessions[trader.sessions < date][-1])[1])
            sides = {order.symbol: 1 if order.quantity > 0 else -1 for order in trader.store.orders("working")}
            price = {}
            for symbol in names:
                mid, side = Decimal(str(day["open"][symbol])), sides.get(symbol, 1)
                price[symbol] = mid + side * 2 * CENT
                moved = [(opens - pd.Timedelta("1s"), mid), (opens + pd.Timedelta("1us"), mid + side * CENT)]
                rows += [(symbol, at.isoformat(), str(now - CENT), str(now + CENT)) for at, now in moved]
            core.open_session(f"{date:%Y-%m-%d}", price)
            core.close_session({symbol: str(day["close"][symbol]) for symbol in names})
            assert trader.step() is not None
        trader.step()
    return trader, core, pd.DataFrame(rows, columns=["symbol", "at", "bid", "ask"])


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("live") / "trader"
        yield at_the_venue(home, patch, [("XOM", {"parts": ("100",), "only_parts": True})])


def test_the_same_two_months_at_a_venue_leave_no_cent_over(live, logs):
    trader, core, quotes = live
    log = trader_log(trader, "live", quotes)
    found = shortfall(log)
    assert found.unexplained == 0 and found.where == [] and len(log.fills) > 3
    spread = sum(abs(one.quantity) for one in log.fills) * CENT
    assert found.causes["spread"] == spread == found.causes["impact"]
    assert (
        Decimal(trader.terms.aside) == Decimal("234567.89") and log.cash + Decimal("234567.89") == core.balances["USD"]
    )
    for first in logs:
        pair = parity(first, log)
        assert pair.unexplained == 0 and pair.where == [] and abs(pair.difference) > 1


def test_what_the_venue_did_not_fill_is_named_as_missed(live, logs):
    trader, _, quotes = live
    log = trader_log(trader, "live", quotes)
    short = [row for row in shortfall(log).rows.to_dict("records") if row["asked"] != row["filled"]]
    why = {row["symbol"]: row["why"] for row in short}
    assert why["XOM"] == "cancelled" and all(said.startswith("guard:") for name, said in why.items() if name != "XOM")
    rows = parity(logs[1], log).rows
    assert set(rows["cause"]) >= {"spread", "impact", "fees"}


def test_a_cent_that_the_venue_took_is_reported(live):
    trader, _, quotes = live
    log = trader_log(trader, "live", quotes)
    found = shortfall(log._replace(cash=log.cash - CENT))
    assert found.unexplained == CENT and found.where[0].startswith("cash is")


def test_without_quotes_each_fill_is_named(live):
    log = trader_log(live[0], "live")
    found = shortfall(log)
    assert found.unexplained != 0 and len([one for one in found.where if "has no quote" in one]) == len(log.fills)
