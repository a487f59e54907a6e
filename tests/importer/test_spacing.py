"""data.spacing: no bar is known before it ends, whatever the sessions look like; what stamps do not show is asked."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quantlab.core.errors import DataError
from quantlab.core.types import Interval
from quantlab.importer.spacing import check_told, find_interval, sessions_of

INTRADAY = [i for i in Interval if i.intraday]


def layout(interval, opens, length, on_the_clock, days, kept):
    "Starts and true ends of the bars of some sessions; kept says which of them are in the file."
    step, starts, ends = interval.minutes, [], []
    for day in pd.bdate_range("2024-03-04", periods=days):
        at = opens
        while at < opens + length:
            stop = min((at // step + 1) * step if on_the_clock else at + step, opens + length)
            starts, ends, at = (
                [*starts, day + pd.Timedelta(minutes=at)],
                [*ends, day + pd.Timedelta(minutes=stop)],
                stop,
            )
    keep = np.resize(kept, len(starts)).astype(bool)
    return pd.Series(starts)[keep].reset_index(drop=True), pd.Series(ends)[keep].reset_index(drop=True)


@given(
    st.sampled_from(INTRADAY),
    st.integers(0, 95).map(lambda q: q * 15),
    st.integers(1, 48).map(lambda h: h * 30),
    st.booleans(),
    st.integers(1, 6),
    st.lists(st.booleans(), min_size=1, max_size=40) | st.just([True]),
)
@settings(max_examples=120, deadline=None)
@example(Interval.H12, 360, 1110, True, 2, [True])  # 06:00, 12:00 and midnight, half days
@example(Interval.H1, 570, 390, True, 1, [True, True] + [False] * 5)  # 09:30 and 10:00, hours
def test_a_bar_is_never_known_before_it_ends(interval, opens, length, on_the_clock, days, kept):
    starts, ends = layout(interval, opens, length, on_the_clock, days, kept)
    if starts.empty:
        return
    decided = find_interval(starts)
    if decided.interval is None:
        return
    if Interval(decided.interval).intraday:
        assert (starts + pd.Timedelta(decided.interval) >= ends).all(), (decided, starts.tolist()[:8])
    elif not decided.asks:
        assert (
            sessions_of(starts, decided.interval, decided.stamps) + pd.Timedelta(days=1) >= ends
        ).all() or opens + length > 1440


@pytest.mark.parametrize("interval", INTRADAY)
@pytest.mark.parametrize("stamps", ["start", "end"])
def test_whole_sessions_of_every_interval_are_recognised(interval, stamps):
    starts, ends = layout(interval, 0, 1440, False, 5, [True])
    assert find_interval(starts if stamps == "start" else ends).interval == interval.value


@pytest.mark.parametrize(
    ("clock", "answer"),
    [("05:00", "1d"), ("16:00", "1d"), ("21:00", "1d"), ("00:00", "1d"), ("09:30", "1d")],
)
def test_days_with_a_time_of_day_are_days_of_that_date(clock, answer):
    days = pd.Series(pd.bdate_range("2024-02-26", "2024-03-22"))
    shift = (
        pd.to_timedelta(np.where(days >= "2024-03-11", -1, 0), unit="h") if clock > "01:00" else pd.Timedelta(0)
    )  # summer time begins
    stamps = days + pd.Timedelta(f"{clock}:00") + shift
    decided = find_interval(stamps)
    assert decided.interval == answer and not decided.asks
    assert sessions_of(stamps, "1d").tolist() == days.tolist()


def test_days_that_begin_the_evening_before_are_asked_about():
    sessions = pd.Series(pd.bdate_range("2024-03-04", "2024-03-22"))
    evening = sessions - pd.Timedelta(hours=2)  # 22:00 of the day before, Sundays included
    assert find_interval(evening).asks
    assert sessions_of(evening, "1d", "start").tolist() == sessions.tolist()
    plain = evening.dt.normalize()  # dates of Tokyo written in UTC, the hour lost
    assert find_interval(plain).asks and sessions_of(plain, "1d", "start").tolist() == sessions.tolist()
    gulf = pd.Series([d for d in pd.date_range("2024-03-03", "2024-03-21") if d.day_of_week not in (4, 5)])
    assert find_interval(gulf).asks and sessions_of(gulf, "1d", "end").tolist() == gulf.tolist()


def test_round_the_clock_days_end_when_they_end():
    eight = pd.Series(pd.date_range("2024-03-01 08:00", periods=10, freq="D"))
    assert find_interval(eight).asks
    assert (sessions_of(eight, "1d", "start") == eight.dt.normalize() + pd.Timedelta(days=1)).all()
    assert (sessions_of(eight, "1d", "end") == eight.dt.normalize()).all()
    midnight = eight.dt.normalize()
    assert find_interval(midnight)[::2] == ("1d", None) and not find_interval(midnight).asks


def test_symbols_that_step_differently_are_named():
    minutes, fives = (
        pd.date_range("2024-03-04 10:00", periods=40, freq="1min"),
        pd.date_range("2024-03-04 10:00", periods=8, freq="5min"),
    )
    dates, names = pd.Series([*minutes, *fives]), pd.Series(["A"] * 40 + ["B"] * 8)
    assert find_interval(dates, names).interval is None and "B steps by 5 minutes" in find_interval(dates, names).why
    days, weeks = pd.bdate_range("2024-01-01", periods=60), pd.date_range("2024-01-05", periods=10, freq="W-FRI")
    mixed = find_interval(pd.Series([*days, *weeks]), pd.Series(["A"] * 60 + ["B"] * 10))
    assert mixed.interval is None and "B steps by 7 days" in mixed.why


def test_few_and_strange_stamps_are_questions():
    for stamps in (
        ["2024-03-07 09:30"],
        ["2024-03-07", "2024-03-18"],
        ["2024-03-07 09:30", "2024-03-07 09:37"],
        ["2024-03-07 09:00", "2024-03-07 09:45", "2024-03-07 10:30", "2024-03-07 11:15"],
    ):
        assert find_interval(pd.Series(pd.to_datetime(stamps))).interval is None, stamps
    stray = pd.Series([*pd.date_range("2024-03-07 09:00", periods=7, freq="1h"), pd.Timestamp("2024-03-07 11:20")])
    assert find_interval(stray).interval is None
    assert find_interval(pd.Series(pd.to_datetime(["2024-03-07"]))).interval == "1d"


def test_what_was_told_must_be_possible():
    hours = pd.Series(pd.date_range("2024-03-07 09:00", periods=6, freq="1h"))
    check_told(hours, None, "1h", "x")
    check_told(hours, None, "30min", "x")
    for told, message in (("2h", "overlap"), ("1d", "not 1d"), ("1w", "not 1w")):
        with pytest.raises(DataError, match=message):
            check_told(hours, None, told, "x")
    with pytest.raises(DataError, match="no time of day"):
        check_told(hours.dt.normalize(), pd.Series(range(6)).astype("str"), "1h", "x")
