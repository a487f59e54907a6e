"The store of orders: the same on SQLite and PostgreSQL, and the same after every restart."

import threading
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.execution.intent import (
    FINAL_STATES,
    ORDER_STATES,
    ExecutionError,
    FrozenDecision,
    OrderIntent,
    check_move,
)
from quantlab.execution.store import OrderStore, VenueFill

TABLES = ("decisions", "orders", "outbox", "moves", "fills", "flows", "facts")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        yield tmp_path / "orders.sqlite"
        return
    import psycopg

    dsn = request.getfixturevalue("postgres_server")
    words = dict(word.split("=") for word in dsn.split())
    yield f"postgresql://{words['user']}@{words['host']}:{words['port']}/{words['dbname']}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def intent(name, quantity="5", deadline=""):
    return OrderIntent(name, "s", "2024-01-02", f"S{name}", Decimal(quantity), Decimal("1.5"), deadline)


def fill(execution, id="a", quantity="1", price="2", fee="0", at="2024-01-03T14:30:00+00:00"):
    return VenueFill(execution, id, f"S{id}", Decimal(quantity), Decimal(price), Decimal(fee), at)


def test_an_order_is_made_once_and_comes_back_the_same(place):
    store = OrderStore(place)
    assert store.add([intent("a"), intent("b", "-0.000001")]) == 2
    assert store.add([intent("a", "99"), intent("c")]) == 1
    store.close()
    again = OrderStore(place)
    assert [(o.id, o.quantity, o.price, o.state) for o in again.orders()] == [
        ("a", Decimal(5), Decimal("1.5"), "created"),
        ("b", Decimal("-0.000001"), Decimal("1.5"), "created"),
        ("c", Decimal(5), Decimal("1.5"), "created"),
    ]
    assert again.order("b") == again.orders()[1] and again.orders("filled") == []
    again.close()


def test_the_outbox_changes_with_the_state(place):
    store = OrderStore(place)
    store.add([intent("b"), intent("a")])
    for id in "ab":
        store.move(id, "queued", "engine")
    assert store.outbox() == [("b", "submit"), ("a", "submit")], "in the order in which they were made"
    store.move("b", "sent", "engine")
    store.move("b", "working", "venue", venue_id="v")
    store.move("b", "cancel_pending", "engine", "asked for")
    assert store.outbox() == [("b", "cancel"), ("a", "submit")]
    store.done("b", "cancel")
    store.move("b", "cancelled", "venue")
    assert store.outbox() == [("a", "submit")] and store.order("b").venue_id == "v"
    store.move("a", "expired", "engine", "missed")
    assert store.outbox() == [] and store.order("a").why == "missed"
    assert [(m.was, m.now, m.mover) for m in store.moves("b")][-2:] == [
        ("working", "cancel_pending", "engine"),
        ("cancel_pending", "cancelled", "venue"),
    ]
    store.close()


def test_a_wrong_move_changes_nothing(place):
    store = OrderStore(place)
    store.add([intent("a")])
    before = store.orders(), store.moves(), store.outbox()
    for to in set(ORDER_STATES) - {"queued", "rejected", "expired"}:
        with pytest.raises(ExecutionError, match="may not move"):
            store.move("a", to, "engine")
    with pytest.raises(ExecutionError, match="not in the store"):
        store.move("z", "queued", "engine")
    assert (store.orders(), store.moves(), store.outbox()) == before
    store.close()


def test_fills_are_booked_once_in_every_state(place):
    store = OrderStore(place)
    store.open_book("100", {"Sa": Decimal(2), "Sz": Decimal(0)})
    store.add([intent("a")])
    assert store.book_fills([fill("x"), fill("y", quantity="-0.5", price="3", fee="0.01")]) == 2
    assert store.book_fills([fill("y", quantity="-0.5", price="3", fee="0.01"), fill("x")]) == 0
    store.move("a", "rejected", "engine")
    assert store.book_fills([fill("late"), fill("strange", id="")]) == 2, "late fills and those of others too"
    shares, cash = store.book()
    assert shares == {"S": Decimal(1), "Sa": Decimal("3.5")}
    assert cash == Decimal("100") - 2 + Decimal("1.5") - Decimal("0.01") - 2 - 2
    assert store.filled("a") == Decimal("1.5") and len(store.fills("a")) == 3
    with pytest.raises(ExecutionError, match="booked otherwise"):
        store.book_fills([fill("new"), fill("x", price="2.01")])
    assert len(store.fills()) == 4, "all of a batch, or nothing"
    store.close()


def test_the_first_decision_and_the_first_book_stay(place):
    store = OrderStore(place)
    first, second = (FrozenDecision("s", "2024-01-02", h, {"A": Decimal(1)}, {"A": Decimal(2)}) for h in "12")
    assert store.keep_decision(first) == first and store.keep_decision(second) == first
    store.open_book("5", {"A": Decimal(1)})
    store.open_book("5.00", {"A": Decimal("1.0")})
    for cash, shares in (("6", {"A": Decimal(1)}), ("5", {}), ("5", {"A": Decimal(2)})):
        with pytest.raises(ExecutionError, match="another store"):
            store.open_book(cash, shares)
    assert store.book() == ({"A": Decimal(1)}, Decimal(5))
    store.close()


def test_two_processes_write_one_log(place):
    stores = [OrderStore(place) for _ in range(4)] if "postgresql" in str(place) else []
    names = [[f"{n}{m}" for m in range(10)] for n in range(4)]

    def work(n):
        store = stores[n] if stores else OrderStore(place)
        store.add([intent(name) for name in names[n]] + [intent("shared")])
        for name in names[n]:
            store.move(name, "queued", "engine")
        store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    store = OrderStore(place)
    assert len(store.orders("queued")) == 40 and len(store.orders("created")) == 1
    assert [m.number for m in store.moves()] == list(range(1, 82))
    store.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(ORDER_STATES), st.sampled_from(["engine", "venue", "timeout", "reconciliation"]))
    )
)
def test_the_log_is_a_walk_on_the_table(tmp_path_factory, steps):
    store = OrderStore(tmp_path_factory.mktemp("walk") / "orders.sqlite")
    store.add([intent("a")])
    for to, by in steps:
        try:
            store.move("a", to, by)
        except ExecutionError:
            pass
    moves = store.moves("a")
    assert [m.was for m in moves[1:]] == [m.now for m in moves[:-1]] and moves[-1].now == store.order("a").state
    for move in moves[1:]:
        check_move(move.was, move.now, move.mover)
    waiting = {"queued": [("a", "submit")], "cancel_pending": [("a", "cancel")]}
    assert store.outbox() == waiting.get(store.order("a").state, [])
    assert not (store.order("a").state in FINAL_STATES and store.outbox())
    store.close()


def test_an_error_names_the_place_without_its_password(tmp_path):
    with pytest.raises(ExecutionError, match="cannot be used") as error:
        OrderStore("postgresql://quant:s3cret@127.0.0.1:9/orders")
    assert "s3cret" not in str(error.value)
    (tmp_path / "text").write_text("no database" * 200)
    with pytest.raises(ExecutionError, match="cannot be used .file is not a database"):
        OrderStore(tmp_path / "text")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExecutionError, match="cannot be used"):
        OrderStore(tmp_path / "file" / "orders.sqlite")


def test_a_store_that_breaks_later_says_so_in_one_line(place):
    store = OrderStore(place)
    with store._change() as run:
        run("DROP TABLE moves")
    with pytest.raises(ExecutionError, match="cannot be used .*moves.*make room") as error:
        store.add([intent("a")])
    assert "\n" not in str(error.value) and store.orders is not None
    store.close()
    again = OrderStore(place)  # makes what is missing
    assert again.orders() == [] and again.add([intent("a")]) == 1, "nothing of the half-made order was kept"
    again.close()


@pytest.mark.parametrize("deadline", ["tomorrow", "2024-01-03T14:30:00", "2024-01-03"])
def test_a_deadline_without_a_zone_is_refused(tmp_path, deadline):
    store = OrderStore(tmp_path / "orders.sqlite")
    with pytest.raises(ExecutionError, match="write it like 2024-01-03T14:30:00.00:00"):
        store.add([intent("a", deadline=deadline)])
    assert store.orders() == []
    store.close()
