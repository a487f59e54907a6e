"""The trader: what it decides is what `decide` says, a crash at any write changes nothing, what is late is not sent."""

import random
import subprocess
from decimal import Decimal

import pandas as pd
import pytest

import quantlab.execution.paper as paper
from quantlab.core.errors import QuantlabError
from quantlab.core.ledger import Ledger
from quantlab.execution.paper_ledger import PaperLedger, verify_ledger
from quantlab.execution.store import OrderStore
from quantlab.execution.trader import BegunTrader, Trader, TraderTerms, profit_faults, session_hours
from quantlab.recipe.decide import decide
from quantlab.recipe.run import as_recipe

SPEC = as_recipe("momentum").replace(
    data__universe="AAPL,MSFT,XOM,KO,JPM,GE,T,PG", data__end="2016-07-13", policy__top_k=3, policy__buffer=0
)
TERMS = TraderTerms("1000000", "2016-07-07", clock="replayed")


def carry(home, spec=SPEC):
    "Carry a trader to the end of its bars; return it."
    trader = Trader(spec, home, TERMS)
    while trader.step():
        pass
    return trader


def told(trader):
    "What a trader has come to: days, orders, fills, book."
    orders = [(o.id, o.symbol, o.quantity, o.state) for o in trader.store.orders()]
    fills = [fill[1:] for fill in trader.store.fills()]
    return [day.text() for day in trader.ledger.days()], orders, fills, trader.store.book()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return carry(tmp_path_factory.mktemp("whole") / "trader")


def test_the_days_decide_what_decide_says_and_the_backtest_does(whole):
    due = [day for day in whole.ledger.days() if day.due]
    assert due and all(day.orders for day in due)
    for day in due:
        own = decide(SPEC, day.decided)  # the backtest's own row
        here = decide(SPEC, day.decided, book=pd.Series(dtype=float), cash=1e6)
        assert own.weights.equals(here.weights)
        for symbol, weight in own.weights.items():
            wanted = weight * 1e6 * 0.98 / float(day.prices[symbol])
            assert 0 <= wanted - float(day.targets[symbol]) < 1


def test_books_agree_and_the_profit_can_be_worked_out_again(whole, tmp_path):
    shares, cash = whole.venue.book()
    assert whole.store.book()[0] == shares and abs(whole.store.book()[1] - cash) < Decimal("0.005")
    assert {order.state for order in whole.store.orders()} == {"filled"}
    equity, faults = profit_faults(whole, tmp_path)
    assert faults == [] and len(equity) == len(whole.ledger.days())


def test_a_cent_that_was_written_otherwise_is_found(whole, tmp_path, monkeypatch):
    days = whole.ledger.days()
    last = days[-1]._replace(cash=str(Decimal(days[-1].cash) + Decimal("0.01")))
    monkeypatch.setattr(PaperLedger, "days", lambda self: [*days[:-1], last])
    _, faults = profit_faults(whole, tmp_path)
    assert len(faults) == 1 and last.decided in faults[0]
    share = days[-1]._replace(shares={name: "1" for name in days[-1].shares})
    monkeypatch.setattr(PaperLedger, "days", lambda self: [*days[:-1], share])
    _, faults = profit_faults(whole, tmp_path / "again")
    assert len(faults) == 1


class Off(BaseException):
    "The power is off."


def crash_at(monkeypatch, number):
    "Cut the power before or after the write of that number, counted over store, ledger and journal."
    count = [0]

    def cut(function):
        def write(*given, **named):
            count[0] += 1
            if count[0] == 2 * number:
                raise Off
            done = function(*given, **named)
            if count[0] == 2 * number + 1:
                raise Off
            return done

        return write

    monkeypatch.setattr(paper, "_append", cut(paper._append))
    monkeypatch.setattr(PaperLedger, "_commit", cut(PaperLedger._commit))
    for name in ("move", "add", "keep_decision", "book_fills"):
        monkeypatch.setattr(OrderStore, name, cut(getattr(OrderStore, name)))
    return count


def crashed(whole, home, monkeypatch, number):
    "Crash once, go on, and compare; return whether it came to the crash."
    with monkeypatch.context() as broken:
        crash_at(broken, number)
        try:
            carry(home)
            came = False
        except Off:
            came = True
    assert told(carry(home)) == told(whole), f"write {number}"
    sessions = whole.sessions[whole.sessions >= TERMS.start]
    assert verify_ledger(home, [], sessions).faults == []
    return came


def test_a_crash_changes_nothing(whole, tmp_path, monkeypatch):
    for number in (10, *random.Random(7).sample(range(1, 25), 2)):  # 10: orders are in the store, their day is not
        crashed(whole, tmp_path / str(number), monkeypatch, number)


@pytest.mark.slow
def test_a_crash_at_any_write_changes_nothing(whole, tmp_path, monkeypatch):
    number = 0
    while crashed(whole, tmp_path / str(number), monkeypatch, number):
        number += 1
    assert number > 15


def test_what_is_late_is_written_down_as_missed_and_not_sent(tmp_path):
    trader = Trader(SPEC, tmp_path / "late", TERMS._replace(start="2016-07-08", clock="real"))
    day = trader.step()
    assert day.due and day.note.startswith("missed") and not day.orders and not trader.store.orders()
    assert verify_ledger(tmp_path / "late").faults == []


def test_a_session_that_is_not_over_does_not_decide(tmp_path):
    trader = Trader(SPEC, tmp_path / "x", TERMS._replace(start="2016-07-12", clock="real"))
    trader.clock = lambda: "2016-07-13T19:59:00.000000+00:00"  # a minute before the close in New York
    assert [f"{date:%Y-%m-%d}" for date in trader.pending()] == ["2016-07-12"]
    trader.clock = lambda: "2016-07-13T20:00:00.000000+00:00"
    assert len(trader.pending()) == 2


def test_in_time_by_the_machine_s_clock_is_sent_and_filled_the_next_evening(tmp_path):
    trader = Trader(SPEC, tmp_path / "x", TERMS._replace(start="2016-07-08", clock="real"))
    day = {}
    for date in ("2016-07-08", "2016-07-11"):
        trader.clock = lambda date=date: f"{date}T20:30:00.000000+00:00"
        day[date] = trader.step()
    assert day["2016-07-08"].orders and not day["2016-07-08"].note and day["2016-07-11"].shares
    assert {order.state for order in trader.store.orders()} == {"filled"}


def test_whoever_has_a_clone_can_check_it_and_what_was_refused_is_named(tmp_path):
    trader = Trader(SPEC, tmp_path / "x", TERMS)
    first, second = trader.step(), trader.pending()[0]
    assert not first.due
    trader.settle(second)
    trader.decide(second)  # committed, and then somebody pulls the switch before it is sent
    trader.switch.trip("the feed is wrong")
    while trader.step():
        pass
    named = [one for day in trader.ledger.days() for one in day.unsent]
    assert len(named) == len([d for d in trader.ledger.days() if d.due][0].orders) and "killed" in named[0][2]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", trader.ledger.home, clone], check=True, capture_output=True)
    read = BegunTrader(SPEC, clone)
    equity, faults = profit_faults(read, tmp_path / "scratch")
    assert faults == [] and equity.iloc[-1] == 1e6
    assert verify_ledger(clone, [], read.sessions[read.sessions >= TERMS.start]).faults == []
    assert not (clone / "trader").exists()


def test_a_switch_that_was_armed_again_lets_the_next_decision_pass(tmp_path):
    trader = Trader(SPEC.replace(policy__rebalance=2), tmp_path / "x", TERMS)
    while not trader.step().due:
        pass
    trader.switch.trip("the feed is wrong")
    trader.switch.rearm("the feed was mended and compared", Ledger(tmp_path / "ledger.sqlite"))
    while trader.step():
        pass
    assert {order.state for order in trader.store.orders()} >= {"filled"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"capital": "x"}, "capital is x; a finite number"),
        ({"capital": "0"}, "give money above 0"),
        ({"reserve": "1"}, "from 0 to below 1"),
        ({"start": "soon"}, "which is no date"),
        ({"start": "2030-01-01"}, "the bars end at 2016-07-13"),
        ({"calendar": "NOPE"}, "there is no calendar"),
        ({"clock": "sun"}, "give real or replayed"),
    ],
)
def test_terms_that_cannot_be_leave_nothing_behind(tmp_path, wrong, said):
    with pytest.raises(QuantlabError, match=said):
        BegunTrader(SPEC, tmp_path / "x", TERMS._replace(**wrong))
    assert not (tmp_path / "x").exists()


def test_a_market_that_never_closes_is_refused():
    with pytest.raises(QuantlabError, match="opens as it closes"):
        session_hours("24/7", "2024-01-03")
    with pytest.raises(QuantlabError, match="is no session of XNYS"):
        session_hours("XNYS", "2024-01-06")


def test_a_tripped_switch_lets_nothing_increase(tmp_path):
    trader = Trader(SPEC, tmp_path / "x", TERMS)
    trader.switch.trip("the feed is wrong")
    while trader.step():
        pass
    assert {order.state for order in trader.store.orders()} == {"rejected"} and trader.venue.book()[0] == {}
    assert all("killed" in order.why for order in trader.store.orders())


def test_another_recipe_other_terms_and_a_foreign_holding_are_refused(whole, tmp_path):
    with pytest.raises(QuantlabError, match="was begun with another momentum"):
        Trader(SPEC.replace(policy__top_k=2), whole.ledger.home)
    with pytest.raises(QuantlabError, match="was begun on other terms"):
        Trader(SPEC, whole.ledger.home, TERMS._replace(capital="5"))
    with pytest.raises(QuantlabError, match="there is no paper ledger"):
        Trader(SPEC, tmp_path / "none")
