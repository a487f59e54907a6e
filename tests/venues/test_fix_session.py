"The session of a FIX line, against the stand-in: numbers, gaps, restarts, beats, and what the broker takes back."

import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("simplefix", reason="simplefix is not installed: pip install 'quantlab[fix]'")
for library in ("aiohttp", "alpaca", "ccxt", "ib_async"):  # the rigs of the other adapters stand beside it
    pytest.importorskip(library)
sys.path.insert(0, str(Path(__file__).parent))

from fakes import fix  # noqa: E402
from rigs import RIGS, an_order  # noqa: E402

from quantlab.execution.intent import ExecutionError  # noqa: E402
from quantlab.execution.venue import Busy, Refused, Unsure  # noqa: E402
from quantlab.venues.fix import FixBroker, FixMemory, FixReader, fix_message  # noqa: E402


@pytest.fixture
def rig(tmp_path):
    return RIGS["fix"](tmp_path)


def heard(rig, kind):
    "What the broker heard of a type."
    return [message for message in rig.venue.heard if message.type == kind]


def test_our_bytes_are_read_by_the_stand_ins_own_parser_and_theirs_by_us():
    raw = fix_message("D", [(34, "2"), (49, "A"), (52, "20240103-14:30:00.000"), (56, "B")], [(11, "a1"), (38, "3")])
    [message], rest = fix.split(raw)
    assert rest == b"" and (message.type, message.seq, message.get(11)) == ("D", 2, "a1")
    theirs = fix.encode([(35, "8"), (34, 3), (58, "déjà vu")])
    reader = FixReader()
    assert [one[58] for byte in theirs for one in reader.read(bytes([byte]))] == ["déjà vu"], "byte by byte"


def test_the_numbers_go_on_after_a_restart(rig):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        venue.close()
        before = venue.memory.number("out")
        again = rig.restart()
        assert again.lookup(an_order(rig)).state == "working"
        assert [int(one.get(34)) for one in rig.venue.heard] == list(range(1, again.memory.number("out")))
        assert again.memory.number("out") > before and not [one for one in rig.venue.heard if one.get(141) == "Y"]


@pytest.mark.parametrize("how", ["lose_next", "garble_next"])
def test_a_report_that_was_lost_comes_again_and_is_booked_once(rig, how):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        setattr(rig.venue, how, 1)
        rig.go()  # the report that it is open, or the fill behind it
        assert [one.id for one in venue.fills("")] == ["a1"]
        assert len(heard(rig, "2")) == 1, "asked for once"
        kept = venue.memory.number("in")
        venue.memory.set("in", 2)  # as after a crash: everything comes again
        assert [one.id for one in rig.restart().fills("")] == ["a1"] and rig.adapter.memory.number("in") > kept


def test_an_order_is_never_sent_again_by_the_session(rig):
    rig.faults.script = ["drop_request"]
    with rig.serve() as venue:
        with pytest.raises(Unsure):
            venue.submit(an_order(rig))
        assert venue.lookup(an_order(rig)) is None, "the broker asks for the lost message, and gets a gap"
        assert [one.get(123) for one in heard(rig, "4")] == ["Y"] and rig.core.events("accepted") == []
        venue.submit(an_order(rig))
    assert [one["client_order_id"] for one in rig.core.events("accepted")] == ["a1"]


def test_what_somebody_waits_for_is_said_again(rig):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        rig.venue.sessions["QUANTLAB"].next_in -= 1  # the broker lost our last message, and says so with the next
        assert venue.lookup(an_order(rig)).state == "working"
        assert [one.get(43) for one in heard(rig, "4")] == ["Y"] and len(heard(rig, "D")) == 1
        assert [one.get(43) for one in heard(rig, "H")] == ["", "Y"], "it came early, and again; it is answered once"


def test_two_sides_that_disagree_about_the_past(rig, tmp_path):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        venue.close()
        (tmp_path / "fix.sqlite").unlink()
        rig.adapter = None
        with pytest.raises(ExecutionError, match="too low.*reset=True"):
            rig.restart().lookup(an_order(rig))
        place = "{}:{}".format(*rig.url)
        fresh = FixBroker(tmp_path / "new.sqlite", place, time_in_force="day", seconds=2.0, reset=True)
        assert fresh.lookup(an_order(rig)).state == "working" and fresh.memory.number("in") == 3
        with pytest.raises(Unsure, match="knows the name already"):
            fresh.submit(an_order(rig))
        fresh.close()


def test_the_line_is_cut_between_two_questions(rig):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        for _ in range(5):
            rig.venue.disconnect()
            try:
                seen = venue.lookup(an_order(rig))
            except (Busy, Unsure):
                seen = venue.lookup(an_order(rig))
            assert seen.state == "working"
    assert len(heard(rig, "A")) >= 5 and len(rig.core.events("accepted")) == 1


def test_beats_and_test_requests(tmp_path):
    rig = RIGS["fix"](tmp_path)
    rig.venue.beat = 0.1  # the broker takes our second for a tenth
    with rig.serve():
        quick = FixBroker(tmp_path / "quick.sqlite", "{}:{}".format(*rig.url), seconds=2.0, beat=0.1)
        assert list(quick.fills("")) == []
        while len(heard(rig, "0")) < 5:
            time.sleep(0.02)
        assert quick._up and len(heard(rig, "A")) == 1
        quick.close()


def test_a_trade_that_is_taken_back_or_mended(rig):
    with rig.serve() as venue:
        venue.submit(an_order(rig))
        rig.go()
        [first] = venue.fills("")
        session = rig.venue.sessions["QUANTLAB"]
        base = [(37, "o"), (11, "a1"), (39, "2"), (54, "1"), (55, "AAPL"), (60, "20240103-15:00:00.000")]
        mended = [(17, "m1"), (150, "G"), (19, first.execution), (32, "10"), (31, "99.5"), *base]
        rig.venue.threads.call(rig.venue.send, session, "8", mended)
        rig.venue.threads.call(rig.venue.send, session, "8", [(17, "b1"), (150, "H"), (19, "m1"), *base])
        amounts = [(one.quantity, one.price) for one in venue.fills("")]
        assert amounts == [(10, 100), (-10, 100), (10, Decimal("99.5")), (-10, Decimal("99.5"))]
        assert venue.book() == ({}, rig.cash)


def test_a_report_without_a_needed_field_is_rejected_and_counted(rig):
    with rig.serve() as venue:
        assert list(venue.fills("")) == []
        rig.venue.threads.call(rig.venue.send, rig.venue.sessions["QUANTLAB"], "8", [(37, "o"), (11, "a1")])
        assert list(venue.fills("")) == []
        assert [(one.get(371), one.get(373)) for one in heard(rig, "3")] == [("17", "1")]


def test_what_the_broker_does_not_understand(rig):
    "A refusal of the message is a no; that the application is away is a later."
    with rig.serve() as venue:
        order = an_order(rig)
        rig.venue.application = lambda session, message: rig.venue.business_reject(session, message, "4", "later")
        with pytest.raises(Busy, match="later"):
            venue.submit(order)
        rig.venue.application = lambda session, message: rig.venue.business_reject(session, message, "5", "what")
        for call in (venue.submit, venue.lookup, venue.cancel):
            with pytest.raises(Refused, match="what"):
                call(order)


def test_a_session_file_that_is_none(tmp_path):
    (tmp_path / "text").write_text("no database, but some text that is long enough to be looked at" * 40)
    with pytest.raises(ExecutionError, match="cannot be used"):
        FixBroker(tmp_path / "text", "127.0.0.1:1")


def test_a_write_that_fails_leaves_nothing_behind_and_the_next_one_goes_on(tmp_path):
    memory = FixMemory(tmp_path / "session.sqlite")
    memory.set("in", 5)
    memory._link.execute("CREATE TRIGGER full BEFORE INSERT ON refused BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(ExecutionError, match="cannot be used"):
        memory.set("in", 6, (), ("a", "no"))
    assert memory.number("in") == 5
    memory._link.execute("DROP TRIGGER full")
    memory.set("in", 6, (), ("a", "no"))
    assert memory.number("in") == 6 and memory.refused("a") == "no"
