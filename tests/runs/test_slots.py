"Slots: adjacent stretches of time join, moments rise, a closed exchange has none, clocks that change are defined."

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quantlab.core.errors import ConfigError
from quantlab.data.calendar import schedule
from quantlab.runs.slots import SlotRule, due_slots

RULES = [
    {"every": "15min"}, {"every": "4h"}, {"every": "1d"}, {"every": "3d"},
    {"after_close": "XNYS"}, {"after_close": "XNYS", "delay": "30min"}, {"after_close": "XTKS", "delay": "30h"},
    {"after_close": "XLON", "delay": "1d"},
    {"weekly": "sat 06:00", "zone": "UTC"}, {"weekly": "sun 02:30", "zone": "America/New_York"},
    {"weekly": "sun 01:30", "zone": "America/New_York"}, {"weekly": "mon,sun 02:15", "zone": "Australia/Lord_Howe"},
    {"weekly": "fri,sat 00:00", "zone": "Pacific/Apia"},
]  # fmt: skip
MOMENTS = st.datetimes(datetime(2023, 1, 2), datetime(2025, 11, 28), timezones=st.just(UTC))
SPANS = st.timedeltas(timedelta(0), timedelta(days=20))


@pytest.mark.parametrize("tree", RULES, ids=str)
@settings(max_examples=30, deadline=None)
@given(start=MOMENTS, one=SPANS, two=SPANS, on_a_slot=st.booleans())
def test_adjacent_stretches_join_and_moments_rise(tree, start, one, two, on_a_slot):
    rule = SlotRule(**tree)
    whole = due_slots(rule, start, start + one + two)
    middle = whole[len(whole) // 2] if on_a_slot and whole else start + one
    assert due_slots(rule, start, middle) + due_slots(rule, middle, start + one + two) == whole
    assert all(early < late for early, late in zip(whole, whole[1:], strict=False))
    assert all(start < at <= start + one + two and at.tzinfo is UTC for at in whole)


@pytest.mark.parametrize("name", ["XNYS", "XTKS", "XLON"])
def test_every_session_has_one_slot_and_a_holiday_none(name):
    year = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    closes = schedule(name, "2025-01-01", "2025-12-31")["close"]
    slots = due_slots(SlotRule(after_close=name, delay="30min"), *year)
    assert slots == [at.to_pydatetime() + timedelta(minutes=30) for at in closes]
    days = {pd.Timestamp(at).tz_convert(closes.dt.tz).date() for at in slots}
    shut = {"XNYS": "2025-11-27", "XTKS": "2025-05-05", "XLON": "2025-12-26"}[name]
    assert pd.Timestamp(shut).date() not in days and not any(day.weekday() > 4 for day in days)


def test_an_early_close_is_early():
    day = datetime(2025, 11, 28, tzinfo=UTC)
    assert due_slots(SlotRule(after_close="XNYS"), day, day + timedelta(days=1)) == [day.replace(hour=18)]


@pytest.mark.parametrize(
    ("weekly", "zone", "day", "utc"),
    [
        ("sun 02:30", "America/New_York", "2025-03-09", "2025-03-09T07:00"),  # skipped: the first that exists, 03:00
        ("sun 02:00", "America/New_York", "2025-03-09", "2025-03-09T07:00"),
        ("sun 01:59", "America/New_York", "2025-03-09", "2025-03-09T06:59"),
        ("sun 03:00", "America/New_York", "2025-03-09", "2025-03-09T07:00"),
        ("sun 01:30", "America/New_York", "2025-11-02", "2025-11-02T05:30"),  # twice: the first
        ("sun 02:15", "Australia/Lord_Howe", "2025-10-05", "2025-10-04T15:30"),  # half an hour is skipped
        ("sun 01:45", "Australia/Lord_Howe", "2025-04-06", "2025-04-05T14:45"),
        ("fri 06:00", "Pacific/Apia", "2011-12-30", "2011-12-30T10:00"),  # the whole day is skipped
        ("sat 06:00", "Europe/Berlin", "2025-07-05", "2025-07-05T04:00"),
    ],
)
def test_clocks_that_change(weekly, zone, day, utc):
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
    found = due_slots(SlotRule(weekly=weekly, zone=zone), noon - timedelta(days=2), noon + timedelta(days=2))
    assert found == [datetime.fromisoformat(utc).replace(tzinfo=UTC)]


def test_two_days_that_fall_on_one_moment_are_one_slot():
    rule = SlotRule(weekly="fri,sat 00:00", zone="Pacific/Apia")
    found = due_slots(rule, datetime(2011, 12, 29, tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC))
    assert [at.astimezone(ZoneInfo("Pacific/Apia")).day for at in found] == [31]


def test_steps_have_one_phase_for_everybody():
    start = datetime(2025, 1, 1, 5, 7, 9, tzinfo=UTC)
    assert [at.hour for at in due_slots(SlotRule(every="6h"), start, start + timedelta(days=1))] == [6, 12, 18, 0]
    later = due_slots(SlotRule(every="3d"), start + timedelta(days=1), start + timedelta(days=30))
    assert all((at - datetime(1970, 1, 1, tzinfo=UTC)).days % 3 == 0 and at.hour == 0 for at in later)


def test_no_time_has_no_slot():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    assert due_slots(SlotRule(every="1h"), at, at) == due_slots(SlotRule(every="1h"), at, at - timedelta(days=1)) == []


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"every": "7h"}, "does not divide a day"), ({"every": "0h"}, "does not divide"), ({"every": 90}, "no length"),
        ({"every": "36h"}, "does not divide"), ({"every": "4h", "after_close": "XNYS"}, "write one of"),
        ({}, "write one of"), ({"every": "4h", "delay": "5min"}, "belongs to after_close"),
        ({"weekly": "sat 06:00"}, "belong together"), ({"every": "4h", "zone": "UTC"}, "belong together"),
        ({"weekly": "sat 6:00", "zone": "UTC"}, "write a day"), ({"weekly": "sat 24:00", "zone": "UTC"}, "write a day"),
        ({"weekly": "sat 06:00", "zone": "Mars/Olympus"}, "no time zone"), ({"evry": "4h"}, "Extra inputs"),
    ],
)  # fmt: skip
def test_what_is_no_rule(tree, said):
    with pytest.raises(ValidationError, match=said):
        SlotRule(**tree)


def test_an_exchange_that_nobody_knows():
    with pytest.raises(ConfigError, match="close to it: .*XNYS"):
        due_slots(SlotRule(after_close="XNYE"), datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))
