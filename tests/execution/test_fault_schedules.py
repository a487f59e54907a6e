"""Random days between the engine, Alpaca's real client and a stand-in of Alpaca over loopback.

Requests and answers are dropped, doubled, delayed and refused for a while, the venue shows what it took late, and the
process dies at random statements and starts again. What was sent twice is judged by the venue's own log. The stand-in
fills at the session's price, whenever an order came. `QUANTLAB_SCHEDULES=1000` runs more (or `-m slow`).
"""

import os
import random
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("alpaca", reason="alpaca-py is not installed: pip install 'quantlab[alpaca]'")
sys.path.insert(0, str(Path(__file__).parents[1] / "venues"))

from fakes.alpaca import AlpacaVenue  # noqa: E402
from fakes.core import Core  # noqa: E402
from fakes.faults import FaultPlan  # noqa: E402

from quantlab.execution.engine import Engine  # noqa: E402
from quantlab.execution.intent import FINAL_STATES, FrozenDecision, intents_for  # noqa: E402
from quantlab.execution.store import OrderStore  # noqa: E402
from quantlab.venues.alpaca import AlpacaPaper  # noqa: E402

RATES = {
    "drop_request": 0.12, "drop_answer": 0.12, "duplicate": 0.06, "delay": 0.02, "too_many": 0.06, "error_500": 0.04,
    "error_503": 0.03, "done_500": 0.05, "done_503": 0.03, "outage": 0.02,
}  # fmt: skip
PRICES = {"AAPL": "101.37", "BA": "55.5", "CAT": "210.01", "GE": "12.34", "IBM": "140", "XOM": "61.77"}
HELD = {"AAPL": 30, "BA": 10, "CAT": 5}
TARGETS = {"AAPL": 10, "BA": 0, "CAT": 9, "GE": 100, "IBM": 7, "XOM": 40}
OPENINGS = [1, 2, 25]  # the round after which the session opens
OPENS = "2024-01-03T14:30:00+00:00"


class Lenient(AlpacaVenue):
    "Takes a name as often as it comes: what the engine sends twice is then bought twice."

    def _look_at_id(self, client_id):
        pass


class Crash(BaseException):
    "The process is gone."


class Dying(OrderStore):
    "Die at one statement, once."

    left = -1

    def _run(self, sql, values=()):
        if Dying.left == 0:
            Dying.left = -1
            raise Crash
        Dying.left -= Dying.left > 0
        return super()._run(sql, values)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("APCA_API_KEY_ID", "KEY")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "SECRET")


def venue_of(seed, lenient):
    "Build a desk whose faults depend on a seed."
    rates = {kind: rate for kind, rate in RATES.items() if not (lenient and kind == "duplicate")}
    plan = FaultPlan(seed, rates, settle=6.0, hides="all", patience=0.02, outage=4)
    core = Core("100000", instruments=PRICES)
    for symbol, price in PRICES.items():
        core.set_price(symbol, price)
    for symbol, shares in HELD.items():
        core.hold(symbol, shares, "1")
    return (Lenient if lenient else AlpacaVenue)(core, faults=plan)


def trade(seed, folder, lenient=False):
    "Trade one day; return the store and the venue's core, both at rest, and how often the process died."
    rng, venue, crashes = random.Random(seed), venue_of(seed, lenient), 0
    opens = rng.choice(OPENINGS)  # early: what did not get through has missed its session
    core, store = venue.core, None
    clock = lambda: core.clock().isoformat(timespec="microseconds")
    decision = FrozenDecision(
        "made-up", "2024-01-02", "0" * 64, {s: Decimal(n) for s, n in TARGETS.items()},
        {s: Decimal(p) for s, p in PRICES.items()},
    )  # fmt: skip
    with venue.serve() as url:
        opened = False
        for round_ in range(60):
            Dying.left = rng.randrange(120) if rng.random() < 0.4 and round_ < 45 else -1
            if round_ == 45:  # the faults are over
                venue.faults.rates = {}
            store, done = None, False
            try:
                store = Dying(folder / f"{seed}-{lenient}.sqlite", now=clock)
                store.open_book("100000", HELD)
                kept = store.keep_decision(decision)
                store.add(intents_for(kept, {s: Decimal(n) for s, n in HELD.items()}, deadline=OPENS))
                engine = Engine(store, AlpacaPaper(url, settle=6.0, seconds=5.0), patience=20.0)
                engine.release()
                if round_ in (4, 8):  # somebody changes their mind
                    for order in store.orders("working")[:2]:
                        store.move(order.id, "cancel_pending", "engine", "not wanted any more")
                for _ in range(rng.randrange(1, 4)):
                    engine.step()
                    core.clock.advance(1.5)
                Dying.left = -1
                done = all(order.state in FINAL_STATES for order in store.orders())
            except Crash:
                crashes += 1
            if store is not None:
                store.close()
            core.clock.advance(1.0)
            if round_ == opens:
                core.open_session("2024-01-03", PRICES)
                opened = True
            if opened and done and round_ > 46:
                break
    Dying.left = -1
    return OrderStore(folder / f"{seed}-{lenient}.sqlite", now=clock), core, crashes


def judged(seed, folder, lenient=False):
    "Check one day by the venue's log; return what happened in it."
    store, core, crashes = trade(seed, folder, lenient)
    orders = {order.id: order for order in store.orders()}
    accepted = Counter(line["client_order_id"] for line in core.events("accepted"))
    assert set(accepted) <= set(orders) and len(orders) == len({o.symbol for o in orders.values()}) == 6
    assert not [id for id, count in accepted.items() if count > 1], "sent twice"
    assert {order.state for order in orders.values()} <= {"filled", "expired", "cancelled"}
    standing = {order.client_id: order.status.replace("canceled", "cancelled") for order in core.orders}
    assert standing == {id: order.state for id, order in orders.items() if id in standing}, "as the venue has it"
    unwanted = {move.id for move in store.moves() if move.now == "cancel_pending"}
    cancelled = {id for id, order in orders.items() if order.state == "cancelled"}
    assert cancelled <= unwanted
    if random.Random(seed).choice(OPENINGS) == OPENINGS[-1]:  # a late open: time enough for every cancel
        assert cancelled == unwanted, "a cancel was forgotten"
    missed = {order.id for order in Engine(store, None).missed()}
    assert missed == {id for id, order in orders.items() if order.state == "expired"} <= set(orders) - set(accepted)
    assert {orders[id].state for id in set(orders) - set(accepted)} <= {"expired", "cancelled"}
    assert len(store.fills()) == len(core.events("fill")) == len(core.executions) and (accepted or not store.fills())
    shares, cash = store.book()
    assert cash == core.balances["USD"]
    assert shares == {symbol: core.position(symbol) for symbol in PRICES if core.position(symbol)}
    again = sum(1 for move in store.moves() if move.was == "ambiguous" and move.now == "queued")
    asked = sum(1 for move in store.moves() if move.now == "ambiguous")
    return Counter(
        cancelled=sum(order.state == "cancelled" for order in orders.values()),
        missed=len(missed),
        crashes=crashes,
        again=again,
        ambiguous=asked,
    )


@pytest.mark.parametrize("lenient", [False, True])
def test_nothing_twice_and_nothing_lost(lenient, tmp_path):
    seen = sum((judged(seed, tmp_path, lenient) for seed in range(3)), Counter())
    assert seen["crashes"] and seen["ambiguous"], "the days were too quiet to prove anything"


@pytest.mark.slow
def test_a_thousand_schedules(tmp_path):
    seen = Counter()
    for seed in range(100, 100 + int(os.environ.get("QUANTLAB_SCHEDULES") or 1000)):
        seen += judged(seed, tmp_path, lenient=seed % 2 == 1)
    print(dict(seen))
    assert seen["crashes"] > 1000 and seen["ambiguous"] > 1000 and seen["again"] > 100
    assert seen["missed"] > 0 and seen["cancelled"] > 0
