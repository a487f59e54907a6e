"""Laws of the event frame and of its clock: what is knowable at a close, and nothing more."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.altdata.events import (
    EVENT_COLUMNS,
    check_events,
    current_events,
    event_coverage,
    event_panel,
    event_sessions,
    known_next_close,
    restated,
    session_closes,
)
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import check_panel
from quantlab.data.calendar import exchange_sessions, schedule

MINUTE = pd.Timedelta(minutes=1)
HOURS = schedule("XNYS", "2024-10-25", "2025-03-31")  # both changes of clocks, three half days
CLOSES = session_closes(HOURS.index)
STAMPS = session_closes(pd.date_range("2025-03-08 04:00", periods=40, freq="4h", tz="UTC"))
quick = settings(max_examples=25, deadline=None)


def events(known, symbols="A", x=0.0, revision=0, ids=None, event_time=None):
    known = pd.Series(pd.to_datetime(known, utc=True)).dt.as_unit("us").reset_index(drop=True)
    frame = pd.DataFrame({"event_time": known if event_time is None else event_time, "known_at": known})
    frame = frame.assign(symbol=symbols, source="test", kind="report", revision=revision)
    return frame.assign(id=[str(i) for i in range(len(frame))] if ids is None else ids, x=x)


@st.composite
def streams(draw, closes=CLOSES, revised=True):
    "Facts at any minute around the closes, some revised later, in any order."
    n = draw(st.integers(0, 12))
    span = int((closes.iloc[-1] - closes.iloc[0]) / MINUTE)
    start, base = closes.iloc[0], []
    for i in range(n):
        near = draw(st.booleans())
        at = closes.iloc[draw(st.integers(0, len(closes) - 1))] if near else start
        known = at + MINUTE * draw(st.integers(-2, 2) if near else st.integers(-500, span + 500))
        fact = known - MINUTE * draw(st.integers(0, 5000))
        symbol = draw(st.sampled_from(["A", "B", "C"]))
        value = draw(st.one_of(st.just(np.nan), st.integers(-5, 5).map(float)))
        base.append((fact, known, symbol, "test", "report", 0, f"i{i}", value))
        for r in range(draw(st.integers(0, 2)) if revised else 0):
            known = known + MINUTE * draw(st.integers(0, 3000))
            base.append((fact, known, symbol, "test", "report", r + 1, f"i{i}", draw(st.integers(-5, 5).map(float))))
    frame = pd.DataFrame(draw(st.permutations(base)), columns=[*EVENT_COLUMNS, "id", "x"])
    times = {c: pd.to_datetime(frame[c], utc=True).dt.as_unit("us") for c in ("event_time", "known_at")}
    return frame.assign(**times)


def test_a_minute_across_the_close_is_exactly_one_session_at_every_close():
    assert HOURS["half"].sum() >= 2 and CLOSES.dt.hour.nunique() == 3  # 18:00, 20:00, 21:00 UTC
    for closes in (CLOSES, STAMPS):
        at = event_sessions(closes.reset_index(drop=True), closes)
        later = event_sessions(closes.reset_index(drop=True) + MINUTE, closes)
        assert (at.to_numpy() == closes.index.to_numpy()).all()
        assert (later.iloc[:-1].to_numpy() == closes.index[1:].to_numpy()).all() and later.isna().iloc[-1]
        moment = pd.Timedelta(microseconds=1)
        assert event_sessions(closes.reset_index(drop=True) + moment, closes).equals(later)


@pytest.mark.parametrize("name", ["XLON", "XHKG", "24/7", "CMES"])
def test_the_same_holds_for_other_exchanges(name):
    days = exchange_sessions(name, "2025-03-03", "2025-04-11")
    closes = session_closes(days, name)
    assert (event_sessions(closes.reset_index(drop=True), closes).to_numpy() == days.to_numpy()).all()
    assert (event_sessions(closes.reset_index(drop=True) + MINUTE, closes).to_numpy()[:-1] == days[1:].to_numpy()).all()


@quick
@given(st.integers(-4000, 190 * 1440))
def test_the_session_is_the_first_whose_close_is_not_before(minute):
    known = pd.Series([CLOSES.iloc[0] + MINUTE * minute])
    found = event_sessions(known, CLOSES).iloc[0]
    before = schedule("XNYS", "2024-10-20", "2024-10-24")["close"].iloc[-1]
    fits = [d for d, c in CLOSES.items() if c >= known[0]]
    assert pd.isna(found) if known[0] <= before or not fits else found == fits[0]


def test_the_first_session_reaches_back_over_a_weekend_to_the_close_before_it_and_no_further():
    closes = session_closes(exchange_sessions("XNYS", "2024-12-02", "2024-12-06"))  # Friday 29 November is a half day
    known = pd.Series(pd.to_datetime(["2024-11-29 18:00", "2024-11-29 18:01", "2024-12-01 12:00"], utc=True))
    assert event_sessions(known, closes).isna().tolist() == [True, False, False]
    assert event_coverage(events([*known, "2025-01-01"]), closes).tolist() == [1, 2, 1]
    assert event_panel(events(known), closes, "x", "count")["x"].sum() == 2
    stamp = STAMPS.iloc[[0]] - pd.Timedelta(hours=4)
    assert event_sessions(stamp, STAMPS).isna().all()
    assert event_sessions(stamp + MINUTE, STAMPS).iloc[0] == STAMPS.index[0]


@quick
@given(streams(), st.integers(0, len(CLOSES) - 1), st.sampled_from(["last", "sum", "count"]))
def test_a_panel_of_what_was_known_equals_the_full_one_up_to_there(stream, cut, how):
    full = event_panel(stream, CLOSES, "x", how)
    known = stream[stream["known_at"] <= CLOSES.iloc[cut]]
    for closes in (CLOSES, CLOSES.iloc[: cut + 1]):
        part = event_panel(known, closes, "x", how).loc[: CLOSES.index[cut]]
        pd.testing.assert_frame_equal(part, full.loc[: CLOSES.index[cut]])


@quick
@given(streams(STAMPS), st.integers(0, len(STAMPS) - 1))
def test_it_holds_for_bars_that_never_stop(stream, cut):
    full = event_panel(stream, STAMPS, "x", symbols=["A", "B"])
    part = event_panel(stream[stream["known_at"] <= STAMPS.iloc[cut]], STAMPS, "x", symbols=["A", "B"])
    end = STAMPS.index[cut]
    pd.testing.assert_frame_equal(part.loc[:end], full.loc[:end])


@quick
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_and_labels_of_rows_change_nothing(stream, random):
    order = list(range(len(stream)))
    random.shuffle(order)
    other = stream.iloc[order].set_axis(order[::-1], axis=0)
    pd.testing.assert_frame_equal(check_events(other), check_events(stream))
    for how in ("last", "sum", "count"):
        pd.testing.assert_frame_equal(event_panel(other, CLOSES, "x", how), event_panel(stream, CLOSES, "x", how))
    pd.testing.assert_frame_equal(check_events(check_events(stream)), check_events(stream))


@quick
@given(streams(), st.sampled_from(["America/New_York", "Asia/Tokyo", "UTC"]))
def test_the_zone_in_which_an_instant_is_written_changes_nothing(stream, zone):
    other = stream.assign(**{c: stream[c].dt.tz_convert(zone) for c in ("event_time", "known_at")})
    pd.testing.assert_frame_equal(check_events(other), check_events(stream))


@quick
@given(streams(), st.integers(0, len(CLOSES) - 1))
def test_as_of_is_the_latest_revision_of_each_fact_known_by_then(stream, at):
    instant = CLOSES.iloc[at]
    found = current_events(stream, instant)
    known = stream[stream["known_at"] <= instant]
    latest = known.groupby("id")["revision"].max()
    assert found.set_index("id")["revision"].to_dict() == latest.to_dict()
    assert (found["known_at"] <= instant).all()


@quick
@given(streams())
def test_panels_agree_with_a_loop(stream):
    panel, place = event_panel(stream, CLOSES, "x", "sum"), event_sessions(stream["known_at"], CLOSES)
    told = {}
    for (session, _fact), rows in stream.assign(session=place).groupby(["session", "id"]):
        row = rows.sort_values("revision").iloc[-1]
        if not np.isnan(row["x"]):
            told[session, row["symbol"]] = told.get((session, row["symbol"]), 0.0) + row["x"]
    said = panel["x"].dropna().to_dict()
    assert said == told


def test_a_revision_enters_its_own_session_and_rewrites_nothing():
    fact = pd.to_datetime(["2024-11-04 12:00"] * 2, utc=True)
    both = events(["2024-11-04 22:00", "2024-11-08 15:00"], revision=[0, 1], ids="a", x=[0.5, -0.2], event_time=fact)
    panel = event_panel(both, CLOSES, "x")["x"].droplevel("symbol")
    assert panel.dropna().to_dict() == {pd.Timestamp("2024-11-05"): 0.5, pd.Timestamp("2024-11-08"): -0.2}
    told = restated(both).iloc[0]
    assert (told["x"], told["x_latest"], told["revision_latest"]) == (0.5, -0.2, 1)
    assert restated(both.head(1)).empty and list(restated(both.head(1))) == list(restated(both))
    same_day = both.assign(known_at=pd.to_datetime(["2024-11-04 12:00", "2024-11-04 13:00"], utc=True))
    assert event_panel(same_day, CLOSES, "x", "sum")["x"].dropna().tolist() == [-0.2]  # one fact, one statement


def test_a_day_alone_is_known_at_the_close_of_the_next_session():
    days = pd.Series(pd.to_datetime(["2024-11-27", "2024-11-28", "2024-11-29", "2024-11-30", "2025-03-31"]))
    days = days + pd.to_timedelta([0, 0, 0, 13, 0], unit="h")  # an hour says nothing more
    found = event_sessions(known_next_close(days, CLOSES), CLOSES)
    assert found.dt.strftime("%m-%d").tolist()[:4] == ["11-29", "11-29", "12-02", "12-02"] and found.isna().iloc[4]
    around = known_next_close(pd.Series(pd.to_datetime(["2025-03-09", "2025-03-20"])), STAMPS)
    assert around[0] == pd.Timestamp("2025-03-11", tz="UTC") and pd.isna(around[1])
    assert known_next_close(pd.DatetimeIndex([]), CLOSES).empty
    for wrong in (pd.Series(days.dt.tz_localize("UTC")), pd.Series([pd.NaT], dtype="datetime64[us]")):
        with pytest.raises(DataError, match="days without a zone"):
            known_next_close(wrong, CLOSES)


@quick
@given(st.dates(pd.Timestamp("2024-10-26").date(), pd.Timestamp("2025-03-20").date()))
def test_a_day_alone_is_never_early(day):
    known = known_next_close(pd.DatetimeIndex([day]), CLOSES).iloc[0]
    assert known > (pd.Timestamp(day) + pd.Timedelta(days=1)).tz_localize("America/New_York")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda e: e.drop(columns="known_at"), "no column"),
        (lambda e: e.assign(known_at=e["known_at"].dt.tz_localize(None)), "no time zone"),
        (lambda e: e.assign(known_at=e["known_at"].where([False, True])), "known_at is missing in 1 row.*symbol A"),
        (lambda e: e.assign(event_time=e["known_at"] + MINUTE), "before event_time"),
        (lambda e: e.assign(id="a"), "stands twice"),
        (lambda e: e.assign(id="a", revision=[1, 0], event_time=e["event_time"].min()), "known before an earlier"),
        (lambda e: e.assign(revision=[0, -1]), "whole number"),
        (lambda e: e.assign(revision=[0, 0.5]), "whole number"),
        (lambda e: e.assign(revision=[0, np.inf]), "whole number"),
        (lambda e: e.assign(revision=["0", None]), "whole number"),
        (lambda e: e.assign(symbol=["A", None]), "symbol is missing"),
        (lambda e: e.assign(kind=["", "b"]), "kind is missing"),
        (lambda e: pd.concat([e, e[["x"]]], axis=1), "twice"),
    ],
)
def test_what_cannot_be_true_is_refused(change, words):
    two = events(["2024-11-04 22:00", "2024-11-08 15:00"])
    if words in ("stands twice", "known before an earlier"):
        two = two.assign(event_time=two["event_time"].min())
    with pytest.raises(DataError, match=words):
        check_events(change(two))


def test_closes_come_from_the_calendar_and_strangers_are_named():
    assert session_closes(pd.DatetimeIndex(["2024-11-29"])).iloc[0] == pd.Timestamp("2024-11-29 18:00", tz="UTC")
    with pytest.raises(DataError, match="2024-11-28.*calendar of the"):
        session_closes(pd.DatetimeIndex(["2024-11-27", "2024-11-28"]))
    with pytest.raises(DataError, match="no sessions"):
        session_closes(pd.DatetimeIndex(["2024-11-27 09:30"]))
    with pytest.raises(DataError, match="missing"):
        session_closes(pd.DatetimeIndex(["2024-11-27", pd.NaT]))
    with pytest.raises(DataError, match="expected timestamps"):
        session_closes(pd.Index(["2024-11-27"]))
    with pytest.raises(ConfigError, match="no calendar"):
        session_closes(CLOSES.index, "NYSE!")
    index = pd.MultiIndex.from_product([CLOSES.index, ["A", "B"]], names=["date", "symbol"])
    assert session_closes(index).equals(CLOSES) and session_closes(CLOSES.index[::-1]).equals(CLOSES)


def test_closes_that_are_none_are_refused():
    for wrong in (CLOSES[::-1], CLOSES.dt.tz_localize(None), list(CLOSES), CLOSES.set_axis(CLOSES.index[::-1])):
        with pytest.raises(DataError, match="session_closes"):
            event_sessions(CLOSES, wrong)
    with pytest.raises(DataError, match="time zone"):
        event_sessions(CLOSES.dt.tz_localize(None), CLOSES)


def test_what_is_empty_single_or_missing():
    none = events([])[:0]
    assert check_events(none).empty and list(check_events(none)) == list(none)
    untyped = pd.DataFrame(columns=[*EVENT_COLUMNS, "x"])
    assert str(check_events(untyped)["known_at"].dtype) == "datetime64[us, UTC]"
    for closes in (CLOSES, CLOSES.iloc[:0], CLOSES.iloc[:1]):
        for frame in (none, untyped, events(["2024-10-25 15:00"], x=np.nan)):
            panel = check_panel(event_panel(frame, closes, "x"))
            assert panel["x"].isna().all() and panel["x"].dtype == np.float64
    assert len(event_panel(none, CLOSES, "x", symbols=["B", "A", "A"])) == 2 * len(CLOSES)
    assert current_events(none, CLOSES.iloc[0]).empty and restated(none).empty
    assert event_sessions(none["known_at"], CLOSES).empty
    assert session_closes(pd.DatetimeIndex([])).empty
    gone = pd.Series(pd.to_datetime(["2024-11-04 12:00", None], utc=True))
    assert event_sessions(gone, CLOSES).isna().tolist() == [False, True]


def test_panel_options_and_values():
    two = events(["2024-11-04 12:00", "2024-11-04 13:00"], x=[1.0, np.nan])
    assert event_panel(two, CLOSES, ["x"], "last")["x"].dropna().tolist() == [1.0]
    assert event_panel(two, CLOSES, ["x", "kind"], "count").dropna().to_numpy().tolist() == [[1.0, 2.0]]
    assert event_panel(two, CLOSES, "x", symbols=["B"])["x"].isna().all()
    for how, columns, words in (("mean", "x", "mean"), ("last", "y", "y"), ("last", [], "columns")):
        with pytest.raises(ConfigError, match=words):
            event_panel(two, CLOSES, columns, how)
    with pytest.raises(DataError, match="not numbers"):
        event_panel(two, CLOSES, "kind")
    with pytest.raises(DataError, match="infinite in 1 row"):
        event_panel(two.assign(x=[np.inf, 0]), CLOSES, "x")
    for wrong in ("2024-11-04", pd.NaT):
        with pytest.raises(DataError, match="time zone"):
            current_events(two, wrong)


@pytest.mark.slow
def test_a_million_events_in_two_seconds():
    rng, n = np.random.default_rng(0), 1_000_000
    closes = session_closes(exchange_sessions("XNYS", "2010-01-01", "2020-12-31"))
    known = pd.to_datetime(rng.integers(1_262_304_000, 1_609_372_800, n), unit="s", utc=True)
    many = events(known, symbols=np.array([f"S{i}" for i in range(500)])[rng.integers(0, 500, n)], x=rng.normal(size=n))
    start = time.process_time()
    panel = event_panel(many, closes, "x", "count")
    spent = time.process_time() - start
    assert panel["x"].sum() == event_coverage(many, closes)["inside"] and spent < 3, spent


def quarters():
    "Two quarters' figures, the first of which is revised after the second is out."
    facts = pd.to_datetime(["2024-10-30", "2024-11-30", "2024-10-30"], utc=True)
    known = ["2024-11-05 15:00", "2024-12-05 15:00", "2024-12-20 15:00"]
    return events(known, revision=[0, 0, 1], ids=["q1", "q2", "q1"], x=[1.0, 2.0, 0.5], event_time=facts)


def test_the_revision_of_an_older_fact_is_not_the_last_value():
    told = event_panel(quarters(), CLOSES, "x")["x"].droplevel("symbol")
    assert told.dropna().to_dict() == {pd.Timestamp("2024-11-05"): 1.0, pd.Timestamp("2024-12-05"): 2.0}
    late = event_panel(quarters(), CLOSES["2024-12-10":], "x", symbols=["A"])  # the newer fact is older than the closes
    assert late["x"].isna().all()
    assert event_panel(quarters(), CLOSES, "x", "sum")["x"].sum() == 3.5  # sums and counts are of statements
    newest = quarters().assign(x=[1.0, np.nan, 0.5])  # a fact without the number is none of this column
    assert event_panel(newest, CLOSES, "x")["x"].dropna().tolist() == [1.0, 0.5]
    own = quarters().assign(id=["q1", "q2", "q2"], event_time=quarters()["event_time"].iloc[[0, 1, 1]].to_numpy())
    assert event_panel(own, CLOSES, "x")["x"].dropna().tolist() == [1.0, 2.0, 0.5]


def test_a_day_alone_is_over_everywhere_before_it_is_known():
    for name in ("XNZE", "XASX", "XTKS", "XHKG", "XLON", "XNYS"):
        closes = session_closes(exchange_sessions(name, "2024-01-02", "2024-06-28"), name)
        days = pd.date_range("2024-02-01", "2024-05-31", unit="us")
        known = known_next_close(days, closes)
        assert (known - days.tz_localize("UTC") >= pd.Timedelta(hours=36)).all(), name  # midnight at UTC-12
        assert (event_sessions(known, closes) > days).all()
        assert (known - days.tz_localize("UTC")).max() <= pd.Timedelta(days=12)
    wellington = session_closes(exchange_sessions("XNZE", "2024-01-02", "2024-06-28"), "XNZE")
    los_angeles = pd.Timestamp("2024-02-12 23:50", tz="America/Los_Angeles")
    assert known_next_close(pd.DatetimeIndex(["2024-02-12"]), wellington).iloc[0] > los_angeles


def test_old_days_do_not_pile_up_on_the_first_close():
    closes = session_closes(exchange_sessions("XNYS", "2024-01-02", "2024-03-28"))
    days = pd.DatetimeIndex(["2020-05-05", "2023-12-28", "2023-12-29", "2024-01-01", "2024-01-02"])
    known = known_next_close(days, closes)
    assert known.isna().tolist() == [True, True, False, False, False]
    assert known.dropna().tolist() == [closes.iloc[0], closes.iloc[0], closes.iloc[1]]
    assert known_next_close(pd.DatetimeIndex(["2025-01-01"]), STAMPS).isna().all()


def test_what_lies_between_two_microseconds_is_known_at_the_later():
    one = events(["2024-11-04 15:00"])
    late = pd.Series(pd.DatetimeIndex([CLOSES.iloc[5]]).as_unit("ns") + pd.Timedelta(500, "ns"))
    one = one.assign(event_time=CLOSES.iloc[0], known_at=late)
    assert check_events(one)["known_at"].iloc[0] == CLOSES.iloc[5] + pd.Timedelta(microseconds=1)
    assert event_sessions(late, CLOSES).iloc[0] == CLOSES.index[6]
    assert event_panel(one, CLOSES, "x")["x"].first_valid_index()[0] == CLOSES.index[6]


@pytest.mark.parametrize("symbol", ["  ", " A", "A ", "\t"])
def test_symbols_with_blanks_are_refused(symbol):
    with pytest.raises(DataError, match="symbol.*blank"):
        check_events(events(["2024-11-04 15:00"], symbols=symbol))


def test_wrong_arguments_are_named():
    one, twice = events(["2024-11-04 15:00"]), CLOSES.set_axis([CLOSES.index[0], *CLOSES.index[:-1]])
    frame = CLOSES.to_frame()
    wrong = [
        (DataError, "no time", lambda: current_events(one, "soon")),
        (DataError, "no time", lambda: current_events(one, {})),
        (ConfigError, "calendar=None", lambda: session_closes(CLOSES.index, None)),
        (DataError, "DataFrame", lambda: session_closes(frame)),
        (DataError, "NoneType", lambda: session_closes(None)),
        (ConfigError, "columns None", lambda: event_panel(one, CLOSES, None)),
        (ConfigError, "columns", lambda: event_panel(one, CLOSES, [["x"]])),
        (ConfigError, "symbols=", lambda: event_panel(one, CLOSES, "x", symbols=[1, "A"])),
        (ConfigError, "symbols='AAPL'", lambda: event_panel(one, CLOSES, "x", symbols="AAPL")),
        (ConfigError, "symbols=5", lambda: event_panel(one, CLOSES, "x", symbols=5)),
        (DataError, "no dates", lambda: event_panel(one, CLOSES.reset_index(drop=True), "x")),
        (DataError, "repeated", lambda: event_panel(one, twice, "x")),
        (DataError, "NoneType", lambda: check_events(None)),
        (DataError, "dict", lambda: check_events({})),
        (DataError, "whole number", lambda: check_events(one.assign(revision=1e30))),
    ]
    for error, words, call in wrong:
        with pytest.raises(error, match=words):
            call()
