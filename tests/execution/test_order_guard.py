"No order passes that a limit forbids, and none that makes a book larger after a trip: against a slow second opinion."

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.execution.engine import Engine
from quantlab.execution.guard import GuardView, OrderLimits, guard_view, order_refusal, reduces, seconds_of
from quantlab.execution.intent import ExecutionError, OrderIntent
from quantlab.execution.kill_switch import Guard, KillSwitch, compare_books, refused_orders
from quantlab.execution.store import OrderRow, OrderStore, VenueFill
from quantlab.execution.venue import Refused, VenueOrder
from quantlab.portfolio.limits import Limits
from quantlab.risk.limits import Snapshot, require_armed

NOW = seconds_of("2024-01-02T15:00:00+00:00")
MADE = "2024-01-02T14:59:00+00:00"
SMALL = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def order(quantity, symbol="A", price="10", deadline="", since=MADE, id="x"):
    return OrderRow(
        id, "s", "2024-01-01", symbol, Decimal(quantity), Decimal(price), deadline, "created", since, "", ""
    )


def view(**more):
    return GuardView(NOW, **({"marks": {"A": (10.0, NOW - 5), "B": (20.0, NOW - 50)}} | more))


def slow_opinion(held, working, marks, passed, limits, one, tripped):
    "Say whether an order may pass, from lists of tuples and nothing that the guard uses."
    symbol, q, price = one
    mine = [abs(w) for s, w in working if s == symbol and (w > 0) == (q > 0)]
    theirs = [w for s, w in working if s == symbol and (w > 0) != (q > 0)]
    position = held.get(symbol, 0)
    if tripped:
        worst = position + sum(mine) * (1 if q > 0 else -1) + q
        if position == 0 or (position > 0) == (q > 0) or worst * position < 0:
            return False
    mark, age = marks.get(symbol, (None, None))
    if mark is None or not 0 < mark < float("inf"):
        return False
    return (
        abs(q) <= limits.max_shares
        and abs(q) * mark <= limits.max_notional
        and abs(price - mark) <= (limits.collar + 1e-9) * mark
        and age <= limits.max_age
        and not theirs
        and len(mine) + 1 <= limits.max_working
        and passed + 1 <= limits.max_orders
    )


NAMES = st.sampled_from(["A", "B", "C", "unknown"])
SHARES = st.integers(-12, 12).filter(bool)
ORDERS = st.lists(st.tuples(NAMES, SHARES, st.sampled_from([9.0, 10.0, 10.5, 20.0])), min_size=1, max_size=12)
TIGHT = st.builds(
    OrderLimits,
    collar=st.sampled_from([0.01, 0.04, 0.6, 2.0]),
    max_shares=st.integers(1, 12),
    max_notional=st.sampled_from([30.0, 100.0, 1e6]),
    max_orders=st.integers(1, 12),
    max_working=st.integers(1, 4),
    max_age=st.sampled_from([10.0, 100.0]),
)


@SMALL
@given(ORDERS, TIGHT, st.dictionaries(NAMES, SHARES), st.booleans())
def test_what_passes_is_what_a_slow_opinion_lets_pass(orders, limits, held, tripped):
    marks = {"A": (10.0, 5), "B": (20.0, 50), "C": (float("nan"), 1)}
    now = view(
        held={s: Decimal(q) for s, q in held.items()},
        marks={s: (price, NOW - age) for s, (price, age) in marks.items()},
        reducing="killed" if tripped else "",
    )
    working, passed = [], 0
    for symbol, q, price in orders:
        why = order_refusal(now, limits, order(q, symbol, price))
        allowed = slow_opinion(held, working, marks, passed, limits, (symbol, q, price), tripped)
        assert (not why) == allowed, (why, symbol, q, price)
        if not why:
            now.admit(order(q, symbol, price))
            working.append((symbol, q))
            passed += 1


LOOSER = {"collar": 2, "max_shares": 3, "max_notional": 1.5, "max_orders": 2, "max_working": 2, "max_age": 20}


@SMALL
@given(ORDERS, TIGHT, st.sampled_from(sorted(LOOSER)), st.dictionaries(NAMES, SHARES), st.booleans())
def test_a_tighter_limit_never_lets_more_pass(orders, limits, name, held, none):
    looser = replace(limits, **{name: None if none else getattr(limits, name) * LOOSER[name]})
    now = view(held={s: Decimal(q) for s, q in held.items()})
    for symbol, q, price in orders:
        one = order(q, symbol, price)
        tripped = replace(now, reducing="killed")
        if not order_refusal(now, limits, one):
            assert not order_refusal(now, looser, one)
        if not order_refusal(tripped, limits, one):
            assert not order_refusal(now, limits, one), "armed, what passes when killed passes too"
        now.admit(one)


FREE = OrderLimits(collar=None, no_self_trade=False)
ALONE = {
    "quantity": (FREE, view(), order(0)),
    "deadline": (FREE, view(), order(1, deadline="2024-01-02T15:00:00+00:00")),
    "session": (FREE, view(hours=[(NOW - 9, NOW), (NOW + 1, NOW + 9)]), order(1)),
    "max_latency": (replace(FREE, max_latency=59.0), view(), order(1)),
    "reduce_only": (FREE, view(reducing="killed"), order(1)),
    "max_shares": (replace(FREE, max_shares=2), view(), order(-3)),
    "mark": (replace(FREE, collar=0.1), view(), order(1, "unknown")),
    "max_age": (replace(FREE, max_age=4.0), view(), order(1)),
    "max_notional": (replace(FREE, max_notional=29.0), view(), order(3)),
    "collar": (replace(FREE, collar=0.1), view(), order(1, price="11.2")),
    "no_self_trade": (replace(FREE, no_self_trade=True), view(sells={"A": (1, Decimal(2))}), order(1)),
    "max_working": (replace(FREE, max_working=2), view(buys={"A": (2, Decimal(2))}), order(1)),
    "cancel_ratio": (replace(FREE, cancel_ratio=0.5), view(count=20, cancels=11), order(1)),
    "max_orders": (replace(FREE, max_orders=2, span=10.0), view(passed=[NOW - 9, NOW - 1]), order(1)),
}


@pytest.mark.parametrize("name", ALONE)
def test_each_check_refuses_alone_with_its_own_reason(name):
    limits, seen, one = ALONE[name]
    assert order_refusal(seen, limits, one).split(":")[0] == name
    assert order_refusal(view(), FREE, order(1)) == "" and order_refusal(view(), OrderLimits(), order(1)) == ""


def test_just_inside_passes():
    inside = OrderLimits(collar=0.1, max_shares=3, max_notional=30, max_orders=2, span=10.0, max_working=2, max_age=5)
    seen = view(passed=[NOW - 10, NOW - 1], buys={"A": (1, Decimal(2))}, hours=[(NOW, NOW + 1)])
    assert order_refusal(seen, inside, order(3, price="11", deadline="2024-01-02T15:00:00.000001+00:00")) == ""
    assert order_refusal(seen, replace(inside, max_latency=60.0), order(3)) == ""


@pytest.mark.parametrize("mark", [0.0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_a_mark_that_is_no_price_refuses(mark):
    for limits in (OrderLimits(), replace(FREE, max_notional=1e12), replace(FREE, max_age=1e6)):
        assert order_refusal(view(marks={"A": (mark, NOW)}), limits, order(1)).startswith("mark")


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "0"])
def test_a_quantity_or_price_that_is_none_refuses(text):
    assert order_refusal(view(), FREE, order(text)).startswith("quantity")
    assert order_refusal(view(), OrderLimits(), order(1, price=text)).startswith("collar")


def test_a_mark_from_the_future_is_stale():
    assert order_refusal(view(marks={"A": (10.0, NOW + 1)}), replace(FREE, max_age=60), order(1)).startswith("max_age")


def test_an_empty_book_with_one_name():
    seen = GuardView(NOW, marks={"A": (10.0, NOW)}, reducing="killed")
    assert order_refusal(seen, OrderLimits(), order(1)).startswith("reduce_only")
    assert order_refusal(seen, OrderLimits(), order(-1)).startswith("reduce_only")


def test_tenths_cross_no_zero_by_a_rounding():
    held, waiting = Decimal("0.3"), Decimal("0.2")
    assert reduces(held, waiting, Decimal("-0.1")) and not reduces(held, waiting, Decimal("-0.1000000000000000001"))


def test_other_zones_are_the_same_moments():
    late = order(1, deadline="2024-01-02T10:00:00-05:00")
    early = order(1, deadline="2024-01-03T00:00:01+09:00")
    assert order_refusal(view(), FREE, late).startswith("deadline") and not order_refusal(view(), FREE, early)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "5", []])
@pytest.mark.parametrize(
    "name", sorted(LOOSER) + ["max_rejects", "max_ambiguous", "max_latency", "cancel_ratio", "span"]
)
def test_nonsense_is_refused_in_one_line(name, wrong):
    if name == "cancel_ratio" and wrong == 0 and not isinstance(wrong, bool):
        assert OrderLimits(cancel_ratio=0).cancel_ratio == 0
        return
    with pytest.raises(ConfigError, match=f"OrderLimits: {name}") as said:
        OrderLimits(**{name: wrong})
    assert "\n" not in str(said.value)


class Taking:
    "Take, refuse or lose orders as it is told; keep what arrived."

    name, settle = "taking", 0.0

    def __init__(self):
        self.taken, self.refuse, self.state, self.cancelled = [], False, "working", []

    def submit(self, order):
        if self.refuse:
            raise Refused("no")
        self.taken.append(order.id)
        return VenueOrder(order.id, f"v{order.id}", "working", Decimal(0))

    def cancel(self, order):
        self.cancelled.append(order.id)

    def lookup(self, order):
        state = "cancelled" if order.id in self.cancelled else self.state
        return VenueOrder(order.id, f"v{order.id}", state, Decimal(0)) if order.id in self.taken else None

    def fills(self, since):
        return []

    def book(self):
        return {}, Decimal(0)


class Room:
    "A store with a clock, a switch, a guard and a venue."

    def __init__(self, folder, limits=FREE, zone="UTC", hours=None, **held):
        self.at = datetime(2024, 1, 2, 15, tzinfo=UTC)
        self.store = OrderStore(folder / "orders.sqlite", now=lambda: self.at.isoformat(timespec="microseconds"))
        self.store.open_book("1000", {s: Decimal(q) for s, q in held.items()})
        self.switch = KillSwitch(self.store, Limits(), zone)
        self.guard, self.venue = Guard(self.switch, limits, hours), Taking()
        self.ledger, self.number = Ledger(folder / "ledger.sqlite"), 0

    def engine(self):
        return Engine(self.store, self.venue, guard=self.guard)

    def ask(self, *sizes, symbol="A"):
        "Make orders and let the engine release them; return their states."
        ids = []
        for q in sizes:
            self.number += 1
            ids.append(f"o{self.number}")
            self.store.add([OrderIntent(ids[-1], "s", "2024-01-01", symbol, Decimal(q), Decimal(10))])
        self.engine().release()
        return [self.store.order(id).state for id in ids]

    def fill(self, id, quantity):
        row = self.store.order(id)
        self.store.book_fills(
            [VenueFill(f"f{id}{quantity}", id, row.symbol, Decimal(quantity), Decimal(10), Decimal(0), MADE)]
        )


@pytest.fixture
def room(tmp_path):
    rooms = []

    def make(*given, **more):
        rooms.append(Room(tmp_path, *given, **more))
        return rooms[-1]

    yield make
    for one in rooms:
        one.store.close()


def test_a_refusal_is_kept_with_its_reason_and_never_sent(room):
    it = room(replace(FREE, max_shares=5))
    assert it.ask(3, 6, -5) == ["queued", "rejected", "queued"]
    it.engine().step()
    assert it.venue.taken == ["o1", "o3"] and it.store.order("o2").why.startswith("guard: max_shares: 6 shares")
    assert refused_orders(it.store)[["id", "limit", "state"]].values.tolist() == [["o2", "max_shares", "rejected"]]


def test_without_a_guard_all_pass(room):
    it = room()
    it.store.add([OrderIntent("free", "s", "2024-01-01", "A", Decimal(10**9), Decimal(10))])
    assert Engine(it.store, it.venue).release() == 1


def test_orders_of_one_round_are_counted_together(room):
    it = room(replace(FREE, max_orders=2, span=60.0))
    assert it.ask(1, 1, 1) == ["queued", "queued", "rejected"]
    it.at += timedelta(seconds=59)
    assert it.ask(1) == ["rejected"]
    it.at += timedelta(seconds=1)
    assert it.ask(1) == ["queued"]


def test_own_orders_on_two_sides_meet(room):
    it = room(OrderLimits(collar=None), A=10)
    assert it.ask(5, -5) == ["queued", "rejected"]
    assert it.store.order("o2").why.startswith("guard: no_self_trade")


def test_two_that_reduce_do_not_cross_zero_together(room):
    it = room(A=10)
    it.switch.trip("a test")
    assert it.ask(-6, -6, 1, -4) == ["queued", "rejected", "rejected", "queued"]
    it.engine().step()
    it.fill("o1", -6)
    assert it.ask(-1) == ["rejected"], "four are held, and four are on their way"


def test_what_is_filled_and_not_booked_is_still_waiting(room):
    it = room(A=10)
    it.switch.trip("a test")
    assert it.ask(-10) == ["queued"]
    it.venue.state = "filled"
    it.engine().step()
    assert it.store.order("o1").state == "filled" and it.store.book()[0] == {"A": 10}
    assert it.ask(-1) == ["rejected"]


def test_a_trip_stops_what_is_queued_and_cancels_what_works(room):
    it = room(A=10)
    it.ask(5)
    it.engine().step()
    it.ask(7, -3)
    it.switch.trip("a test")
    it.engine().step()
    assert it.venue.taken == ["o1", "o3"] and it.venue.cancelled == ["o1"]
    assert [it.store.order(f"o{n}").state for n in (2, 3)] == ["cancelled", "working"]
    it.engine().step()
    assert it.store.order("o1").state == "cancelled"


def test_what_comes_back_to_the_queue_after_a_trip_is_stopped(room):
    it = room()
    it.ask(5)
    for state, by in (("sent", "engine"), ("ambiguous", "timeout")):
        it.store.move("o1", state, by)
    it.switch.trip("a test")
    it.at += timedelta(seconds=1)
    it.engine().step()  # the venue never heard of it: reconciliation puts it on the queue
    assert it.venue.taken == [] and it.store.order("o1").state == "cancelled"


def test_a_trip_between_two_sends_stops_the_second(room):
    it = room()
    it.ask(5, 6)
    engine, submit = it.engine(), it.venue.submit
    it.venue.submit = lambda order: (submit(order), it.switch.trip("a test"))[0]
    engine.step()
    assert it.venue.taken == ["o1"] and it.store.order("o2").why.startswith("guard: reduce_only: the guard is killed")


def test_latency_and_hours_count_until_the_order_is_sent(room):
    it = room(replace(FREE, max_latency=60.0))
    it.ask(5)
    it.at += timedelta(seconds=61)
    it.engine().step()
    assert it.venue.taken == [] and it.store.order("o1").why.startswith("guard: max_latency: 61 seconds")
    it.guard.limits = FREE
    it.ask(5)
    it.guard.hours = [(0.0, seconds_of("2024-01-02T15:00:00+00:00"))]
    it.engine().step()
    assert it.venue.taken == [] and it.store.order("o2").why == "guard: session: closed now"


def test_a_stopped_name_takes_no_new_order(room):
    it = room(A=10, B=10)
    names = ["A", "B"]
    look = Snapshot(
        pd.Timestamp(it.at), 1200.0, names, np.array([10.0, 10.0]), np.array([9.0, 10.0]), np.array([10.0, 10.0])
    )
    require_armed(it.switch.look(look))
    assert it.switch.verdict().close == ("A",)
    assert it.ask(1, -10) == ["rejected", "queued"] and it.ask(1, symbol="B") == ["queued"]


@pytest.mark.parametrize("breaker", ["max_rejects", "max_ambiguous"])
def test_breakers_halt_for_the_session(room, breaker):
    it = room(replace(FREE, **{breaker: 2}), A=10)
    assert it.ask(1, 1) == ["queued", "queued"]
    for id in ("o1", "o2"):
        it.store.move(id, "sent", "engine")
        it.store.move(id, *(("rejected", "venue") if breaker == "max_rejects" else ("ambiguous", "timeout")))
    assert it.guard.verdict().mode == "halted" and it.ask(1, -1) == ["rejected", "queued"]
    assert len(it.switch.log()) == 1, "asked often, written once"
    it.at += timedelta(days=1)
    lost = breaker == "max_ambiguous"  # nobody knows yet
    assert it.guard.verdict().mode == ("halted" if lost else "armed") and it.ask(1) == [
        "rejected" if lost else "queued"
    ]


def test_the_guards_own_refusals_and_cancels_trip_nothing(room):
    it = room(replace(FREE, max_rejects=1, max_shares=1, cancel_ratio=0.0), A=50)
    assert it.ask(*[1] * 20) == ["queued"] * 20 and it.ask(2) == ["rejected"]
    it.switch.trip("a test")
    it.engine().step()
    it.switch.rearm("it was a test only", it.ledger)
    assert it.guard.verdict().mode == "armed" and guard_view(it.store, {}).cancels == 0 and it.ask(1) == ["queued"]


@pytest.mark.parametrize("zone, day", [("UTC", 2), ("Asia/Tokyo", 3), ("America/New_York", 2)])
def test_sessions_are_the_dates_of_a_zone(room, zone, day):
    it = room(zone=zone)
    it.switch.halt("book", "a test")
    assert it.switch.verdict().mode == "halted" and it.switch._state().session == f"2024-01-0{day}"


def test_books_that_differ_halt(room):
    it = room(A=10)
    it.ask(-4)
    assert compare_books(it.guard, {"A": Decimal(6)}) == {} and it.guard.verdict().mode == "armed"
    assert compare_books(it.guard, {"A": Decimal(5), "B": Decimal(1)}) == {"A": Decimal(-1), "B": Decimal(1)}
    assert it.guard.verdict().mode == "halted" and it.ask(-1, 1) == ["queued", "rejected"]


def test_only_a_written_reason_arms_again(room):
    it = room(A=10)
    it.switch.trip("a test")
    with pytest.raises(ConfigError, match="say in a sentence"):
        it.switch.rearm("ok", it.ledger)
    assert it.switch.verdict().mode == "killed" and it.ledger.rows().empty
    head = it.switch.rearm("the cause was found and mended", it.ledger)
    assert it.ledger.verify(head) == 1 and it.ledger.rows()["params"][0].count("the cause was found") == 1
    assert [one["event"] for one in it.switch.log()] == ["kill", "rearm"] and it.switch.log()[1]["ledger"] == head
    assert it.ask(1) == ["queued"]
    with pytest.raises(ConfigError, match="nothing to re-arm"):
        it.switch.rearm("the cause was found and mended", it.ledger)


def test_a_ledger_that_cannot_be_written_arms_nothing(room, tmp_path):
    it = room()
    it.switch.trip("a test")
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="cannot be used"):
        it.switch.rearm("the cause was found", Ledger(tmp_path / "broken.sqlite"))
    assert it.switch.verdict().mode == "killed"


def test_a_reason_undoes_no_loss_of_the_session(room):
    it = room()
    look = lambda hour, equity: Snapshot(
        pd.Timestamp(f"2024-01-02 {hour}:00", tz="America/New_York"),
        equity,
        [],
        np.array([]),
        np.array([]),
        np.array([]),
    )
    it.switch.limits = Limits(intraday_loss=0.02, kill_drawdown=None)
    it.switch.look(look(9, 100.0))
    assert it.switch.look(look(10, 97.0)).mode == "halted"
    with pytest.raises(ConfigError, match="not killed"):
        it.switch.rearm("it will come back", it.ledger)
    it.switch.halt("book", "a test")
    it.switch.rearm("the book was looked at", it.ledger)
    assert it.switch.verdict().why == ("intraday_loss",) and it.switch.verdict().mode == "halted"
    with pytest.raises(ExecutionError, match="no time zone"):
        it.switch.look(look(11, 97.0)._replace(now=pd.Timestamp("2024-01-02 11:00")))


def test_nothing_passes_while_the_switch_cannot_be_read(room):
    it = room(A=10)
    it.store.set_fact("guard.switch", '{"guard": 5}')
    with pytest.raises(ExecutionError, match="cannot be read"):
        it.ask(-1)
    assert [one.state for one in it.store.orders()] == ["created"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "fill", "step", "crash"]), st.sampled_from(["A", "B"]), SHARES),
    min_size=4,
    max_size=14,
)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(0, 4))
def test_after_a_trip_no_position_grows(tmp_path_factory, steps, tripped):
    it = Room(tmp_path_factory.mktemp("grow"), A=7, B=-5)
    rng, before = np.random.default_rng(len(steps)), None
    for n, (what, symbol, q) in enumerate(steps):
        it.at += timedelta(seconds=1)
        if n == tripped:
            it.switch.trip("a test")
            it.engine().step()
            for one in it.store.orders("working", "cancel_pending"):  # cancelled before anything else happens
                it.venue.cancelled.append(one.id)
            it.engine().step()
            before = dict(it.store.book()[0])
        if what == "ask":
            it.ask(q, symbol=symbol)
        elif what == "step":
            it.engine().step()
        elif what == "crash":
            it.store.close()
            it.store = OrderStore(it.store.place, now=it.store.now)
            it.switch = KillSwitch(it.store, Limits())
            it.guard = Guard(it.switch, FREE)
        for one in it.store.orders("working") if what == "fill" else []:
            left = abs(one.quantity - it.store.filled(one.id))
            some = int(rng.integers(0, int(left) + 1)) * (1 if one.quantity > 0 else -1)
            if some:
                it.number += 1
                it.store.book_fills(
                    [VenueFill(f"g{it.number}", one.id, one.symbol, Decimal(some), Decimal(10), Decimal(0), MADE)]
                )
        if before is not None:
            now = it.store.book()[0]
            for name in ("A", "B"):
                was, new = before.get(name, Decimal(0)), now.get(name, Decimal(0))
                assert was * new >= 0 and abs(new) <= abs(was), (name, was, new)
            before = dict(now)
    it.store.close()
