"Heartbeats: who is late by a length or by an exchange's closes, after an outage, and by a clock that was set back."

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.monitor.heartbeat import beat, beat_readings, last_beats, missing_beats, read_expected
from quantlab.runs.slots import SlotRule

NOON = datetime(2025, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUARTER = {"schedule": timedelta(minutes=15)}
CLOSE = read_expected("close=XNYS+2h")


def at(text):
    return datetime.fromisoformat(f"2025-11-{text}+00:00")


def test_a_length_is_kept_to_the_second(tmp_path):
    file = tmp_path / "b.sqlite"
    beat("schedule", NOON, file)
    assert missing_beats(QUARTER, NOON + 15 * MINUTE, file) == []
    [late] = missing_beats(QUARTER, NOON + 15 * MINUTE + timedelta(seconds=1), file)
    assert (late.last, late.since) == (NOON, NOON + 15 * MINUTE) and "was heard of at 2025-11-24 12:00" in late.why


@pytest.mark.parametrize(
    ("last", "now", "late"),
    [
        ("24T23:30", "25T23:09", False),
        ("24T23:30", "25T23:10", True),  # Tuesday: the close at 21:00, two hours, ten minutes
        ("24T22:59", "24T23:09", False),
        ("24T22:59", "24T23:10", True),  # what ran before the slot does not count for it
        ("26T23:30", "28T20:09", False),  # Thanksgiving between, half a day on Friday
        ("26T23:30", "28T20:10", True),
        ("28T20:30", "30T12:00", False),  # a weekend
    ],
)
def test_a_close_is_expected_on_sessions_only(tmp_path, last, now, late):
    beat("close", at(last), tmp_path / "b.sqlite")
    assert bool(missing_beats(CLOSE, at(now), tmp_path / "b.sqlite")) == late


def test_after_an_outage_all_are_late_until_they_beat(tmp_path):
    file, expected = tmp_path / "b.sqlite", QUARTER | CLOSE
    for name in expected:
        beat(name, at("24T23:30"), file)
    found = missing_beats(expected, at("27T08:00"), file)
    assert [one.name for one in found] == ["schedule", "close"] and found[1].since == at("25T23:10")
    for name in expected:
        beat(name, at("27T08:01"), file)
    assert missing_beats(expected, at("27T08:02"), file) == []


def test_a_new_name_is_late_only_when_its_time_has_passed(tmp_path):
    file = tmp_path / "b.sqlite"
    assert missing_beats(QUARTER, NOON, file) == [] == missing_beats(QUARTER, NOON + 15 * MINUTE, file)
    [late] = missing_beats(QUARTER, NOON + 16 * MINUTE, file)
    assert late.last is None and "was never heard of" in late.why
    values = {one.name: one.value for one in beat_readings(QUARTER, NOON + 16 * MINUTE, file)}
    assert values == {"quantlab_heartbeat_last_timestamp_seconds": 0, "quantlab_heartbeat_late": 1}


def test_a_clock_that_was_set_back_is_told_until_it_has_caught_up(tmp_path):
    file = tmp_path / "b.sqlite"
    beat("schedule", NOON, file)
    assert missing_beats(QUARTER, NOON - MINUTE, file) == [], "a correction by seconds is none"
    [told] = missing_beats(QUARTER, NOON - timedelta(hours=3), file)
    assert "the clock was set back" in told.why
    beat("schedule", NOON - timedelta(hours=3), file)
    [told] = missing_beats(QUARTER, NOON - timedelta(hours=3), file)
    assert "the clock was set back" in told.why and last_beats(file) == {"schedule": NOON - timedelta(hours=3)}
    beat("schedule", NOON, file)
    assert missing_beats(QUARTER, NOON + MINUTE, file) == []


def test_a_new_name_under_a_clock_that_was_set_back_is_measured_from_now(tmp_path):
    file = tmp_path / "b.sqlite"
    missing_beats(QUARTER, NOON + timedelta(days=400), file)
    assert missing_beats(QUARTER, NOON, file) == []
    assert len(missing_beats(QUARTER, NOON + 16 * MINUTE, file)) == 1


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 60))
def test_late_is_exactly_what_has_not_beaten_in_time(tmp_path_factory, gaps, wait):
    file, now = tmp_path_factory.mktemp("b") / "b.sqlite", NOON
    for gap in gaps:
        now += gap * MINUTE
        beat("schedule", now, file)
    assert bool(missing_beats(QUARTER, now + wait * MINUTE, file)) == (wait > 15)


def test_what_is_expected_is_read_from_one_line():
    rule = SlotRule(after_close="XNYS", delay="2h")
    assert read_expected("a=15min, b=4h c=2d\nd=XNYS+2h e=24/7") == {
        "a": timedelta(minutes=15),
        "b": timedelta(hours=4),
        "c": timedelta(days=2),
        "d": rule,
        "e": SlotRule(after_close="24/7"),
    }
    assert read_expected("") == {}


@pytest.mark.parametrize(
    "text", ["a", "a=", "=1h", "A=1h", "a=0h", "a=-1h", "a=1w", "a=XNYS+", "a=XNYS+2", "a=1h a=2h", "a=NONE", "a=1h=2"]
)
def test_what_expects_nothing_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as refused:
        read_expected(text)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", "A", "a b", "1a", "a" * 65, "é", "a\n"])
def test_a_bad_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot beat"):
        beat(name, NOON, tmp_path / "b.sqlite")
    with pytest.raises(ConfigError, match="cannot beat"):
        missing_beats({name: MINUTE}, NOON, tmp_path / "b.sqlite")


def test_a_torn_file_and_a_time_without_a_zone_are_refused(tmp_path):
    (tmp_path / "torn.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    for call in (lambda: beat("a", NOON, tmp_path / "torn.sqlite"), lambda: missing_beats(QUARTER, NOON, tmp_path)):
        with pytest.raises(DataError, match=r"mend or move the file of \[monitor\] beats"):
            call()
    with pytest.raises(ConfigError, match="has no zone"):
        beat("a", datetime(2025, 1, 1), tmp_path / "b.sqlite")
