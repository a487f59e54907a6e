"""What every adapter must do, whoever is behind it: judged by the venue's own log, not by what the adapter says."""

import sys
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

from rigs import KEY, RIGS, SECRET, SETTLE, an_order  # noqa: E402

from quantlab.execution.intent import ExecutionError  # noqa: E402
from quantlab.execution.venue import Busy, Refused, TradingVenue, Unsure  # noqa: E402

NAMES = list(RIGS)
CODED = [name for name, rig in RIGS.items() if rig.codes]  # they answer with HTTP's numbers


def accepted(rig):
    return [line["client_order_id"] for line in rig.core.events("accepted")]


def settled(rig):
    rig.core.clock.advance(SETTLE)
    return True


def booked(rig, venue):
    "Fills as they are told; each number once, and in the book what the venue's account has."
    fills = list(venue.fills(""))
    assert len({one.execution for one in fills}) == len(fills) == len(rig.core.events("fill"))
    for symbol in rig.symbols:
        assert sum(one.quantity for one in fills if one.symbol == symbol) == rig.position(symbol)
    assert rig.cash - sum(one.quantity * one.price + one.fee for one in fills) == rig.money()
    assert venue.book() == ({s: rig.position(s) for s in rig.symbols if rig.position(s)}, rig.money())
    return fills


@pytest.fixture(params=NAMES)
def kind(request):
    return RIGS[request.param]


def test_an_order_rests_fills_and_is_booked(kind, tmp_path):
    rig = kind(tmp_path)
    with rig.serve() as venue:
        order = an_order(rig)
        assert isinstance(venue, TradingVenue) and venue.settle == SETTLE and venue.lookup(order) is None
        made = venue.submit(order)
        assert (made.id, made.state, made.filled) == ("a1", "working", 0)
        found = venue.lookup(order)
        assert (found.id, found.state) == ("a1", "working") and list(venue.fills("")) == []
        rig.go()
        found = venue.lookup(order._replace(venue_id=made.venue_id))
        assert (found.state, found.filled) == ("filled", 10)
        [fill] = booked(rig, venue)
        assert (fill.id, fill.symbol, fill.price) == ("a1", rig.symbols[0], rig.core.executions[0].price)
        sold = an_order(rig, "s1", -4)
        rig.core.plan("s1", only_parts=True)
        venue.submit(sold)
        rig.core.fill(rig.core.by_client_id("s1")[0].id, 4, 100)
        assert venue.lookup(sold).filled == -4 and len(booked(rig, venue)) == 2
    assert accepted(rig) == ["a1", "s1"]


@pytest.mark.parametrize("name", ["binance", "coinbase"])
def test_a_market_order_at_a_crypto_exchange_is_done_at_once(name, tmp_path):
    rig = type("Market", (RIGS[name],), {"collar": "0"})(tmp_path)
    rig.core.plan("part", parts=["3"], only_parts=True)
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        assert venue.lookup(an_order(rig)).state == "filled"
        venue.submit(an_order(rig, "part"))
        found = venue.lookup(an_order(rig, "part"))
        assert found.filled == 3 and found.state in ("expired", "cancelled")
        assert len(booked(rig, venue)) == 2
        with pytest.raises(Refused):
            venue.cancel(an_order(rig))


def test_parts(kind, tmp_path):
    rig = kind(tmp_path)
    rig.core.plan("a1", parts=["3", "2"])
    with rig.serve() as venue:
        order = an_order(rig)
        venue.submit(order)
        rig.go()
        seen = [venue.lookup(order)]
        for _ in range(2):
            rig.core.step()
            seen.append(venue.lookup(order))
        assert [(one.state, one.filled) for one in seen] == [("partly_filled", 3), ("partly_filled", 5), ("filled", 10)]
        assert [one.quantity for one in sorted(booked(rig, venue), key=lambda one: one.at)][0] <= 3


def test_a_cancel_at_once_later_and_twice(kind, tmp_path):
    rig = kind(tmp_path)
    rig.core.plan("slow", cancel="later")
    with rig.serve() as venue:
        for name in ("plain", "slow"):
            venue.submit(an_order(rig, name))
            venue.cancel(an_order(rig, name))
        assert venue.lookup(an_order(rig, "plain")).state == "cancelled"
        assert venue.lookup(an_order(rig, "slow")).state in ("cancel_pending", "working")  # Binance has no such word
        rig.core.step()
        assert venue.lookup(an_order(rig, "slow")).state == "cancelled"
        for name in ("plain", "nobody"):
            with pytest.raises(Refused):
                venue.cancel(an_order(rig, name))
        assert booked(rig, venue) == []


def test_a_cancel_that_loses_the_race_and_a_fill_after_a_cancel(kind, tmp_path):
    rig = kind(tmp_path)
    rig.core.plan("race", cancel="filled_first")
    rig.core.plan("late", cancel="late_fill", late="4")
    with rig.serve() as venue:
        race, late, plain = (an_order(rig, name) for name in ("race", "late", "plain"))
        for one in (race, late, plain):
            venue.submit(one)
        try:
            venue.cancel(race)
        except Refused:
            pass  # or it is only asked for, as at Interactive Brokers
        assert venue.lookup(race).state == "filled"
        venue.cancel(late)
        venue.cancel(plain)
        rig.core.step()
        rig.core.fill(rig.core.by_client_id("plain")[0].id, "1", "100")  # it was on its way
        assert (venue.lookup(late).state, venue.lookup(late).filled) == ("cancelled", 4)
        assert (venue.lookup(plain).state, venue.lookup(plain).filled) == ("cancelled", 1)
        assert sorted(one.id for one in booked(rig, venue)) == ["late", "plain", "race"]


def test_a_name_that_comes_twice_is_one_order(kind, tmp_path):
    rig = kind(tmp_path)
    with rig.serve() as venue:
        order = an_order(rig)
        venue.submit(order)
        with pytest.raises(Unsure):
            venue.submit(order)
        rig.go()
        with pytest.raises(Unsure):  # Binance takes the name again after the fill: it must be asked for before
            venue.submit(order)
        with pytest.raises(Unsure):
            rig.restart().submit(order)
        assert accepted(rig) == ["a1"] and len(booked(rig, rig.adapter)) == 1


def test_what_was_taken_is_shown_late(kind, tmp_path):
    if kind.name == "fix":
        pytest.skip("a FIX line answers from the order desk itself")
    rig = kind(tmp_path, settle=SETTLE / 2, hides="all")
    with rig.serve() as venue:
        order = an_order(rig)
        venue.submit(order)
        assert venue.lookup(order) is None
        settled(rig)
        assert venue.lookup(order).state == "working"


@pytest.mark.parametrize("fault", ["drop_request", "drop_answer"])
def test_no_answer_is_no_answer(kind, fault, tmp_path):
    rig = kind(tmp_path, script=[fault])
    with rig.serve() as venue:
        order = an_order(rig)
        with pytest.raises(Unsure):
            venue.submit(order)
        assert accepted(rig) == ([] if fault == "drop_request" else ["a1"])
        found = venue.lookup(order)
        assert (found is None) is (fault == "drop_request")
        if found is None:
            assert venue.submit(order).state == "working"
        assert accepted(rig) == ["a1"]
        rig.go()
        assert len(booked(rig, venue)) == 1


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize(
    "fault, error, taken",
    [
        ("too_many", Busy, 0),
        ("error_500", Unsure, 0),
        ("error_503", Unsure, 0),
        ("done_500", Unsure, 1),
        ("done_503", Unsure, 1),
    ],
)
def test_numbers_of_http(name, fault, error, taken, tmp_path):
    rig = RIGS[name](tmp_path, script=[fault], retry_after=7)
    with rig.serve() as venue:
        with pytest.raises(error) as why:
            venue.submit(an_order(rig))
        assert len(accepted(rig)) == taken and rig.faults.count(fault) == 1, "spoken once"
        assert fault != "too_many" or why.value.seconds == 7
        assert (venue.lookup(an_order(rig)) is not None) is bool(taken)


@pytest.mark.parametrize("name", CODED)
def test_a_request_that_comes_twice_is_one_order_while_it_rests(name, tmp_path):
    rig = RIGS[name](tmp_path, script=["duplicate"])
    with rig.serve() as venue:
        try:
            venue.submit(an_order(rig))
        except Unsure:
            pass  # the venue answers the second one: it knows the name already
        assert accepted(rig) == ["a1"] and venue.lookup(an_order(rig)).state == "working"


def test_binance_buys_twice_what_comes_twice_after_the_fill_and_it_is_all_booked(tmp_path):
    "Binance's rule, which no adapter can mend: what something on the way says twice is bought twice."
    rig = type("Market", (RIGS["binance"],), {"collar": "0"})(tmp_path, script=["duplicate"])
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        assert rig.core.accepted_twice() == ["a1"] and len(booked(rig, venue)) == 2


def test_a_clear_no_is_a_no(kind, tmp_path):
    rig = kind(tmp_path)
    rig.core.plan("later", reject="not today")
    with rig.serve() as venue:
        for order in (an_order(rig, "much", 10**5), an_order(rig, "none", -5), an_order(rig, "what", 1, symbol="NONE")):
            with pytest.raises(Refused):
                venue.submit(order)
        venue.submit(an_order(rig, "later"))
        rig.core.reject(rig.core.by_client_id("later")[0].id, "not today")
        assert venue.lookup(an_order(rig, "later")).state == "rejected"
        assert accepted(rig) == ["later"] and booked(rig, venue) == []


def test_a_restart_in_the_middle(kind, tmp_path):
    rig = kind(tmp_path, script=["ok", "drop_answer"])
    rig.core.plan("a1", parts=["3"])
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        with pytest.raises(Unsure):
            venue.submit(an_order(rig, "a2", symbol=rig.symbols[1]))
        venue = rig.restart()
        rig.go()  # nobody is there when it fills
        venue = rig.restart()
        assert [
            venue.lookup(an_order(rig, n, symbol=s)).filled for n, s in zip(("a1", "a2"), rig.symbols, strict=True)
        ] == [3, 10]
        assert len(booked(rig, venue)) == 2
        rig.core.step()
        assert len(booked(rig, rig.restart())) == 3
    assert accepted(rig) == ["a1", "a2"]


@pytest.mark.parametrize("name", [*CODED, "fix"])
def test_keys_are_in_no_message(name, tmp_path, monkeypatch):
    faults = ["too_many", "error_500", "done_503", "drop_answer"] if name in CODED else ["drop_request", "drop_answer"]
    rig = RIGS[name](tmp_path, script=faults)
    said = []
    with rig.serve() as venue:

        def note(call, *given):
            try:
                call(*given)
            except ExecutionError as error:
                while error is not None:
                    said.append(f"{error!r} {error}")
                    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

        for n in range(len(faults) + 1):
            note(venue.submit, an_order(rig, f"a{n}", 10**5 if n == len(faults) else 1))
        for names in ("key", "secret", "password"):
            if hasattr(rig.venue, names):
                setattr(rig.venue, names, "another")
        for _ in range(20 if name == "fix" else 1):  # the broker may take a moment to see that the old line is gone
            note(rig.restart().fills, "")
            note(rig.restart().lookup, an_order(rig))
    assert len(said) >= 4 and not [one for one in said if KEY in one or SECRET in one]
    assert any("keys" in one or "password" in one for one in said)


def test_nothing_is_there(kind, tmp_path):
    "A line that cannot be made: the order was never sent, or nobody knows; never a wrong yes or no."
    if kind.name == "interactive_brokers":
        pytest.skip("the object is there or not")
    rig = kind(tmp_path)
    with rig.serve():
        pass
    with pytest.MonkeyPatch.context() as patched:
        for name, value in __import__("rigs").KEYS.items():
            patched.setenv(name, value)
        venue = rig.restart()
        for call in (venue.submit, venue.lookup, venue.cancel):
            with pytest.raises((Busy, Unsure)):
                call(an_order(rig))
        with pytest.raises((Busy, Unsure)):
            venue.fills("")


def test_fees_in_a_third_coin_are_a_line_of_their_own():
    from quantlab.execution.store import VenueFill
    from quantlab.venues.crypto import _with_fee

    fill = VenueFill("BTCUSDT-1", "a", "BTCUSDT", Decimal(-2), Decimal(100), Decimal(0), "2024-01-03T00:00:00+00:00")
    [sold] = _with_fee(fill, Decimal("0.01"), "BTC", "BTC", "USDT")
    assert sold.quantity == Decimal("-2.01") and -(sold.quantity * sold.price + sold.fee) == 200
    assert [one.quantity for one in _with_fee(fill, Decimal(3), "BNB", "BTC", "USDT")] == [-2, -3]
