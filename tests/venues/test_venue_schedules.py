"""Random days between the engine and each wire adapter, as tests/execution/test_fault_schedules.py has them for Alpaca.

Requests and answers are lost, doubled, delayed and refused, FIX lines are cut and their messages lost and garbled, and
the process dies at random statements. What was sent twice, and what was filled, is judged by the venue's own log.
`QUANTLAB_SCHEDULES=1000` runs more (or `-m slow`: 200 for each adapter).
"""

import os
import random
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

for library, extra in (
    ("aiohttp", "dev"),
    ("alpaca", "alpaca"),
    ("ccxt", "vendors"),
    ("simplefix", "fix"),
    ("ib_async", "ib"),
):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'quantlab[{extra}]'")
sys.path.insert(0, str(Path(__file__).parent))

import rigs  # noqa: E402

from quantlab.execution.engine import Engine  # noqa: E402
from quantlab.execution.intent import FINAL_STATES, FrozenDecision, intents_for  # noqa: E402
from quantlab.execution.store import OrderStore  # noqa: E402

HTTP = {
    "drop_request": 0.10, "drop_answer": 0.12, "delay": 0.02, "too_many": 0.06, "error_500": 0.04, "error_503": 0.03,
    "done_500": 0.05, "done_503": 0.03, "outage": 0.02,
}  # fmt: skip
HELD, TARGETS = (30, 10, 0, 5), (10, 0, 40, 9)  # shares of each symbol, before and wanted
OPENS = "2024-01-03T14:30:00+00:00"
ROUNDS, BAD = 40, 26  # rounds of a day, and those with faults


class Binance(rigs.Binance):
    rates = HTTP  # without "duplicate": Binance takes a name again after its fill
    symbols, coins, deadline = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"), ("BTC", "ETH", "SOL", "XRP"), ""


class Coinbase(rigs.Coinbase):
    rates = HTTP | {"duplicate": 0.06}
    symbols, coins, deadline = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD"), Binance.coins, ""


class Fix(rigs.Fix):
    rates = {"drop_request": 0.15, "drop_answer": 0.15}
    symbols, deadline, patience = ("AAPL", "BA", "CAT", "GE"), OPENS, 0.2

    def disturb(self, rng):
        self.venue.lose_next = int(rng.random() < 0.3)
        self.venue.garble_next = int(rng.random() < 0.2)
        if rng.random() < 0.3:
            self.venue.disconnect()


class Ib(rigs.InteractiveBrokers):
    rates = {"drop_request": 0.15, "drop_answer": 0.15, "delay": 0.05}
    symbols, deadline = Fix.symbols, OPENS


RIGS = {rig.name: rig for rig in (Binance, Coinbase, Fix, Ib)}


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


def rig_of(name, seed, folder):
    "Set up a venue whose faults depend on a seed."
    more = {} if name == "fix" else {"settle": rigs.SETTLE, "hides": "all"}
    rig = RIGS[name](folder, seed=seed, rates=RIGS[name].rates, only="", patience=0.02, outage=4, **more)
    rig.held = {symbol: Decimal(n) for symbol, n in zip(rig.symbols, HELD, strict=True)}
    for symbol, n in rig.held.items():
        rig.core.hold(symbol, n, "1")
    return rig


def a_round(rig, rng, store, number):
    "What one process does before it ends."
    wanted = {symbol: Decimal(n) for symbol, n in zip(rig.symbols, TARGETS, strict=True)}
    decision = FrozenDecision("made-up", "2024-01-02", "0" * 64, wanted, dict.fromkeys(rig.symbols, Decimal(100)))
    store.open_book(rig.cash, rig.held)
    store.add(intents_for(store.keep_decision(decision), rig.held, deadline=rig.deadline))
    engine = Engine(store, rig.restart(), patience=20.0)
    engine.release()
    if number in (4, 8):  # somebody changes their mind
        for order in store.orders("working")[:1]:
            store.move(order.id, "cancel_pending", "engine", "not wanted any more")
    for _ in range(rng.randrange(1, 4)):
        engine.step()
        rig.core.clock.advance(1.5)
    return all(order.state in FINAL_STATES for order in store.orders())


def trade(name, seed, folder):
    "Trade one day; return the store and the rig, both at rest, and how often the process died."
    folder = folder / f"{name}-{seed}"
    folder.mkdir()
    rng, rig, crashes, rest = random.Random(seed), rig_of(name, seed, folder), 0, 0
    opens, clock = rng.choice([2, 15]), lambda: rig.core.clock().isoformat(timespec="microseconds")
    with rig.serve():
        for number in range(ROUNDS):
            store, done = None, False
            Dying.left = rng.randrange(90) if rng.random() < 0.4 and number < BAD else -1
            if number == BAD:
                rig.faults.rates = {}
            elif number < BAD and hasattr(rig, "disturb"):
                rig.disturb(rng)
            try:
                store = Dying(folder / "orders.sqlite", now=clock)
                done = a_round(rig, rng, store, number)
            except Crash:
                crashes += 1
            Dying.left = -1
            if store is not None:
                store.close()
            rig.core.clock.advance(1.0)
            if number == opens:
                rig.go()
            if done and number > BAD:  # one more look, once everything that was taken is shown
                rig.core.clock.advance(rigs.SETTLE)
                if (rest := rest + 1) == 2:
                    break
    return OrderStore(folder / "orders.sqlite", now=clock), rig, crashes


def judged(name, seed, folder):
    "Check one day by the venue's log; return what happened in it."
    store, rig, crashes = trade(name, seed, folder)
    core, orders = rig.core, {order.id: order for order in store.orders()}
    accepted = Counter(line["client_order_id"] for line in core.events("accepted"))
    assert set(accepted) <= set(orders) and len(orders) == 4
    assert not [id for id, count in accepted.items() if count > 1], "sent twice"
    assert {order.state for order in orders.values()} <= {"filled", "expired", "cancelled"}
    standing = {order.client_id: order.status.replace("canceled", "cancelled") for order in core.orders}
    assert standing == {id: order.state for id, order in orders.items() if id in standing}, "as the venue has it"
    unwanted = {move.id for move in store.moves() if move.now == "cancel_pending"}
    assert {id for id, order in orders.items() if order.state == "cancelled"} <= unwanted
    missed = {id for id, order in orders.items() if order.state == "expired"}
    assert missed <= set(orders) - set(accepted) and (rig.deadline or not missed)
    assert len(store.fills()) == len(core.events("fill")), "a fill was lost"
    shares, cash = store.book()
    assert cash == rig.money() and shares == {s: rig.position(s) for s in rig.symbols if rig.position(s)}
    moves = store.moves()
    return Counter(
        days=1,
        fills=len(store.fills()),
        crashes=crashes,
        ambiguous=sum(move.now == "ambiguous" for move in moves),
        again=sum(move.was == "ambiguous" and move.now == "queued" for move in moves),
        missed=len(missed),
        cancelled=sum(order.state == "cancelled" for order in orders.values()),
    )


@pytest.mark.parametrize("name", list(RIGS))
def test_nothing_twice_and_nothing_lost_at_each_venue(name, tmp_path):
    seen = sum((judged(name, seed, tmp_path) for seed in range(2 if name == "fix" else 3)), Counter())
    assert seen["crashes"] and seen["ambiguous"] and seen["fills"], "the days were too quiet to prove anything"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RIGS))
def test_many_schedules(name, tmp_path):
    seen = Counter()
    for seed in range(100, 100 + int(os.environ.get("QUANTLAB_SCHEDULES") or 200)):
        seen += judged(name, seed, tmp_path)
    print(name, dict(seen))
    days = seen["days"]
    assert (
        seen["crashes"] > days
        and seen["ambiguous"] > days / 2
        and seen["again"] > days / 5
        and seen["cancelled"] > days / 20 - 1
    )
