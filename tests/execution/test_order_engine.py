"The engine against a venue that does exactly what a test says."

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from quantlab.execution.engine import Engine
from quantlab.execution.intent import OrderIntent
from quantlab.execution.store import OrderStore, VenueFill
from quantlab.execution.venue import Busy, Refused, TradingVenue, Unsure, VenueOrder


class Scripted:
    "Answer as it is told, and write down what it was asked."

    name, settle = "scripted", 5.0

    def __init__(self):
        self.says = {"submit": "working", "cancel": None, "lookup": None, "fills": []}
        self.asked = []

    def _answer(self, what, order=None):
        self.asked.append(what if order is None else f"{what} {order.id}")
        said = self.says[what]
        if isinstance(said, Exception):
            raise said
        return VenueOrder(order.id, "v", said, Decimal(0)) if isinstance(said, str) else said

    def submit(self, order):
        return self._answer("submit", order)

    def cancel(self, order):
        return self._answer("cancel", order)

    def lookup(self, order):
        return self._answer("lookup", order)

    def fills(self, since):
        return self._answer("fills")

    def book(self):
        return {}, Decimal(0)


class Desk:
    "A store, a venue and a clock."

    def __init__(self, folder, deadline=""):
        self.at = datetime(2024, 1, 2, 12, tzinfo=UTC)
        self.store = OrderStore(folder / "orders.sqlite", now=lambda: self.at.isoformat(timespec="microseconds"))
        self.venue = Scripted()
        self.store.add([OrderIntent("a", "s", "2024-01-01", "A", Decimal(3), Decimal(1), deadline)])
        self.engine = Engine(self.store, self.venue, patience=20.0)
        self.engine.release()

    def step(self, seconds=1.0, **says):
        self.venue.says |= says
        self.venue.asked.clear()
        done = self.engine.step()
        self.at += timedelta(seconds=seconds)
        return done

    @property
    def state(self):
        return self.store.order("a").state

    def working(self):
        self.step(lookup="working")
        assert self.state == "working" and self.venue.asked.count("submit a") == 1
        return self


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.store.close()


def test_the_protocol_is_what_the_engine_asks():
    assert isinstance(Scripted(), TradingVenue)


def test_a_no_is_a_no(desk):
    desk.step(submit=Refused("no such name"))
    assert desk.state == "rejected" and desk.store.order("a").why == "no such name"
    assert desk.step().sent == 0


def test_busy_is_waited_for_and_not_asked_meanwhile(desk):
    desk.step(submit=Busy("later", 10.0), seconds=5.0)
    assert desk.state == "queued" and desk.venue.asked.count("submit a") == 1
    desk.step(submit="working", seconds=6.0)
    assert desk.venue.asked == [] and desk.state == "queued"
    desk.step(lookup="working")
    assert desk.state == "working"


def test_silence_is_asked_about_until_the_venue_would_know(desk):
    desk.step(submit=Unsure("lost"), seconds=2.0)
    assert desk.state == "ambiguous"
    desk.step(seconds=2.0)
    assert desk.state == "ambiguous" and desk.venue.asked.count("submit a") == 0, "too early to believe it"
    desk.step(lookup=Unsure("lost"), seconds=2.0)
    assert desk.state == "ambiguous", "no answer is no no"
    desk.step(lookup=None, submit="working")
    assert desk.venue.asked.count("submit a") == 1 and desk.state == "working", "sent again, under its one name"


@pytest.mark.parametrize("found", ["working", "partly_filled", "filled", "cancelled", "rejected", "expired"])
def test_what_was_ambiguous_becomes_what_the_venue_says(desk, found):
    desk.step(submit=Unsure("lost"))
    desk.step(lookup=found)
    assert desk.state == found and desk.venue.asked.count("submit a") == 0


def test_a_process_that_died_while_sending_asks_first(desk):
    desk.store.move("a", "sent", "engine")
    again = Engine(desk.store, desk.venue)
    assert desk.state == "ambiguous"
    desk.engine = again
    desk.step(lookup="filled")
    assert desk.state == "filled" and "submit a" not in desk.venue.asked


def test_a_known_order_is_not_given_up_before_its_session_is_over(tmp_path):
    desk = Desk(tmp_path, deadline="2024-01-02T12:02:00+00:00").working()
    desk.step(lookup=None, seconds=30.0)
    desk.step(seconds=30.0)
    assert desk.state == "ambiguous"
    desk.step(seconds=30.0)
    assert desk.state == "ambiguous" and "submit a" not in desk.venue.asked
    desk.step(seconds=60.0)
    desk.step()
    assert desk.state == "expired" and desk.store.order("a").why == "known no more"
    assert desk.engine.missed() == []


def test_a_known_order_without_a_deadline_stays_ambiguous_until_its_fills_are_whole(desk):
    desk.working().step(lookup=None, seconds=100.0)
    for _ in range(3):
        desk.step(seconds=1000.0)
        assert desk.state == "ambiguous" and "submit a" not in desk.venue.asked
    desk.step(fills=[VenueFill("x", "a", "A", Decimal(3), Decimal(1), Decimal(0), "2024-01-02")])
    assert desk.state == "filled"


def test_what_was_not_sent_in_time_missed_its_session(tmp_path):
    desk = Desk(tmp_path, deadline="2024-01-02T12:00:03+00:00")
    desk.step(submit=Busy("later", 60.0), seconds=5.0)
    desk.step()
    assert desk.state == "expired" and [order.id for order in desk.engine.missed()] == ["a"]


def test_patience_is_counted_from_the_last_answer(desk):
    desk.working()
    for _ in range(10):
        desk.step(lookup="working", seconds=15.0)
    desk.step(lookup=Unsure("lost"), seconds=15.0)
    assert desk.state == "working"
    desk.step(seconds=15.0)
    desk.step()
    assert desk.state == "ambiguous"


def test_a_cancel_is_said_until_it_is_heard(desk):
    desk.working().store.move("a", "cancel_pending", "engine")
    desk.step(cancel=Unsure("lost"), lookup="partly_filled")
    assert desk.state == "cancel_pending" and desk.store.outbox() == [("a", "cancel")], "a fill does not undo it"
    desk.step(cancel=None)
    assert desk.venue.asked.count("cancel a") == 1 and desk.store.outbox() == []
    desk.step(lookup="cancelled")
    assert desk.state == "cancelled" and "cancel a" not in desk.venue.asked


def test_a_cancel_survives_that_the_order_was_ambiguous(desk):
    desk.working().store.move("a", "cancel_pending", "engine")
    desk.step(cancel=Unsure("lost"), lookup=Unsure("lost"), seconds=30.0)
    desk.step(seconds=1.0)
    assert desk.state == "ambiguous"
    desk.step(lookup="working", cancel=None)
    assert desk.venue.asked.count("cancel a") == 1 and desk.state == "cancel_pending"


@pytest.mark.parametrize("stands", ["filled", "working", "partly_filled", "expired"])
def test_a_refused_cancel_leaves_the_order_as_it_stands(desk, stands):
    desk.working().store.move("a", "cancel_pending", "engine")
    desk.step(cancel=Refused("too late"), lookup=stands)
    assert desk.state == stands and desk.store.outbox() == []


def test_what_is_not_wanted_any_more_is_not_sent_again(desk):
    desk.step(submit="working", lookup="working")
    desk.store.move("a", "cancel_pending", "engine")
    desk.store.move("a", "ambiguous", "timeout")
    with desk.store._change() as run:
        run("UPDATE orders SET venue_id = ''")
    desk.at += timedelta(seconds=60)
    desk.step(lookup=None)
    assert desk.state == "cancelled" and "submit a" not in desk.venue.asked


def test_fills_are_booked_for_orders_that_are_done(desk):
    desk.step(submit=Refused("no"))
    done = desk.step(fills=[VenueFill("late", "a", "A", Decimal(1), Decimal(2), Decimal(0), "2024-01-02")])
    assert done.fills == 1 and desk.state == "rejected" and desk.store.book() == ({"A": Decimal(1)}, Decimal(-2))
    assert desk.step().fills == 0


def test_silence_counts_from_the_answer_before_it(desk):
    desk.working().step(lookup="working", seconds=25.0)
    assert desk.step(lookup=Unsure("lost")).unsure == 1
    assert desk.state == "ambiguous"


def test_what_never_arrived_in_time_is_not_sent_late(tmp_path):
    desk = Desk(tmp_path, deadline="2024-01-02T12:00:03+00:00")
    assert desk.step(submit=Unsure("lost"), seconds=10.0).unsure == 1
    desk.step(lookup=None, submit="working")
    assert desk.state == "expired" and "submit a" not in desk.venue.asked
    assert [order.id for order in desk.engine.missed()] == ["a"]


def test_a_busy_venue_is_left_alone_with_a_cancel_too(desk):
    desk.working().store.move("a", "cancel_pending", "engine")
    desk.step(cancel=Busy("later", 10.0), seconds=5.0)
    desk.step(seconds=6.0)
    assert desk.venue.asked == [] and desk.store.outbox() == [("a", "cancel")]
    desk.step(cancel=None)
    assert desk.venue.asked.count("cancel a") == 1 and desk.store.outbox() == []


@pytest.mark.parametrize(
    "deadline", ["2024-01-02T12:00:03Z", "2024-01-02T07:00:03-05:00", "2024-01-02T12:00:03.000000+00:00"]
)
def test_a_deadline_is_a_moment_however_it_is_written(tmp_path, deadline):
    desk = Desk(tmp_path, deadline=deadline)
    desk.step(submit=Busy("later", 1.0), seconds=2.0)
    assert desk.state == "queued"
    desk.step(seconds=1.0)
    desk.at = datetime(2024, 1, 2, 12, 0, 3, tzinfo=UTC)
    desk.step()
    assert desk.state == "expired"
