"""A day of 20 orders, killed with SIGKILL at each statement that writes, in turn: started again, it loses nothing.

The venue is a stand-in of Alpaca over loopback in the parent; the engine is a forked child with Alpaca's real client.
`make test` takes every 40th statement; `-m slow` takes all.
"""

import os
import signal
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
from quantlab.execution.intent import FrozenDecision, intents_for  # noqa: E402
from quantlab.execution.store import OrderStore  # noqa: E402
from quantlab.venues.alpaca import AlpacaPaper  # noqa: E402

NAMES = [f"N{n:02d}" for n in range(20)]
PRICES = {name: Decimal(10 + n) + Decimal("0.01") for n, name in enumerate(NAMES)}
HELD = {name: 5 for name in NAMES[:8]}
DECISION = FrozenDecision(
    "made-up", "2024-01-02", "0" * 64, {name: Decimal(2 if name in HELD else 7) for name in NAMES}, PRICES
)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("APCA_API_KEY_ID", "KEY")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "SECRET")


class Counted(OrderStore):
    "Count the statements that write, and die at one of them: before it is carried out, or, for a commit, after it."

    written, last = 0, 0

    def _run(self, sql, values=()):
        if sql.split()[0] not in ("SELECT", "CREATE"):
            Counted.written += 1
            if Counted.written == Counted.last:
                if sql == "COMMIT":
                    super()._run(sql, values)
                os.kill(os.getpid(), signal.SIGKILL)
        return super()._run(sql, values)


def morning(url, file, clock):
    "What a process does that is started anew: from the book to orders that are sent."
    store = Counted(file, now=clock)
    store.open_book("100000", HELD)
    kept = store.keep_decision(DECISION)
    store.add(intents_for(kept, {name: Decimal(n) for name, n in HELD.items()}, deadline="2024-01-03T14:30:00+00:00"))
    engine = Engine(store, AlpacaPaper(url, settle=1.0, seconds=5.0))
    engine.release()
    engine.step()
    return store, engine


def in_a_child(work):
    "Run work in a forked process; return how it ended."
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number, file):
    "Kill the morning at one statement, open the session, kill the afternoon at one too, and judge by the venue's log."
    core = Core("100000", instruments=NAMES)
    for name, price in PRICES.items():
        core.set_price(name, price)
    for name, shares in HELD.items():
        core.hold(name, shares, "1")
    clock = lambda: core.clock().isoformat(timespec="microseconds")
    with AlpacaVenue(core, faults=FaultPlan()).serve() as url:
        Counted.written, Counted.last = 0, number
        ended = in_a_child(lambda: morning(url, file, clock))
        Counted.last = 0
        core.clock.advance(2.0)
        store, engine = morning(url, file, clock)
        core.clock.advance(2.0)
        engine.step()
        core.open_session("2024-01-03", PRICES)
        Counted.written, Counted.last = 0, number
        in_a_child(lambda: (Counted(file, now=clock), Engine(Counted(file, now=clock), engine.venue).step()))
        Counted.last = 0
        for _ in range(4):
            Engine(store, AlpacaPaper(url, settle=1.0, seconds=5.0)).step()
            core.clock.advance(2.0)
    accepted = Counter(line["client_order_id"] for line in core.events("accepted"))
    assert len(accepted) == 20 and set(accepted.values()) == {1}, number
    assert {order.state for order in store.orders()} == {"filled"} and len(store.fills()) == len(core.executions)
    assert store.book() == ({name: core.position(name) for name in NAMES}, core.balances["USD"]), number
    store.close()
    return ended


def statements(folder):
    "Count the statements of a morning that nobody kills."
    core = Core("100000", instruments=NAMES)
    for name, price in PRICES.items():
        core.set_price(name, price)
    for name, shares in HELD.items():
        core.hold(name, shares, "1")
    with AlpacaVenue(core).serve() as url:
        Counted.written, Counted.last = 0, 0
        morning(url, folder / "whole.sqlite", lambda: core.clock().isoformat(timespec="microseconds"))[0].close()
    return Counted.written


def test_killed_at_some_statements(tmp_path):
    count = statements(tmp_path)
    assert count > 300
    ends = {number: killed_at(number, tmp_path / f"{number}.sqlite") for number in range(7, count + 1, count // 8)}
    assert set(ends.values()) == {-signal.SIGKILL}, ends


@pytest.mark.slow
def test_killed_at_every_statement(tmp_path):
    count = statements(tmp_path)
    for number in range(1, count + 1):
        assert killed_at(number, tmp_path / f"{number}.sqlite") == -signal.SIGKILL
    assert killed_at(count + 1, tmp_path / "past.sqlite") == 0, "there was no statement more"
    print(f"{count} statements, each killed once in the morning and once after the open")
