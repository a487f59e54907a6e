"""vendors.base and vendors.download: whatever fails and whenever it stops, the sink ends up with the source."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sinks import Clock, Memory

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.data.store import Lake
from quantlab.vendors.base import Pace, TemporaryError, fetch
from quantlab.vendors.download import Download, State, find_gaps, last_finished, missing_spans

DAYS = pd.bdate_range("2024-01-02", "2024-03-28").as_unit("us")


def bars_of(symbol, factor=1.0):
    "Bars on business days; every price differs."
    close = 10 + np.arange(len(DAYS)) + (symbol == "B") * 100.0
    table = {
        "date": DAYS,
        "symbol": symbol,
        "open": close,
        "high": close + 1,
        "low": close - 1,
        "close": close,
        "volume": 5.0,
        "adj": factor,
    }
    return as_panel(pd.DataFrame(table))


class Fake:
    "Serve bars in pages and do at each request what a script says: ok, fail, die, twice or empty."

    name, calendar, intervals, per_second = "fake", "24/7", ("1d",), 10.0

    def __init__(self, script=(), size=7, factor=1.0):
        self.script, self.size, self.factor, self.asked = list(script), size, factor, []

    def pages(self, symbol, start, end, interval):
        bars = bars_of(symbol, self.factor).loc[start:end]
        for first in range(0, len(bars), self.size):
            action = self.script.pop(0) if self.script else "ok"
            self.asked.append((symbol, start))
            page = bars.iloc[first : first + self.size]
            if action == "fail":
                raise TemporaryError("try again")
            if action == "die":
                raise KeyboardInterrupt
            if action == "empty":
                yield page.iloc[:0]
            yield page
            if action == "twice":
                yield page


def job(folder, sink, clock=None, **options):
    clock = clock or Clock()
    return Download(sink, State(folder / "state.json"), sleep=clock.sleep, clock=clock, **options)


@given(
    st.lists(st.sampled_from(["ok", "fail", "die", "twice", "empty"]), max_size=12),
    st.integers(6, 30),
    st.lists(st.tuples(st.integers(0, 62), st.integers(0, 62)), max_size=2),
)
@settings(max_examples=12, deadline=None)
def test_nothing_lost_nothing_doubled(tmp_path_factory, script, size, earlier):
    folder, sink, vendor = tmp_path_factory.mktemp("run"), Memory(), Fake(script, size)
    requests = [tuple(sorted(pair)) for pair in earlier] + [(0, len(DAYS) - 1)]
    for first, last in requests:
        for _ in range(len(script) + 2):
            try:
                job(folder, sink, attempts=30).backfill(vendor, ["A", "B"], DAYS[first], DAYS[last])
                break
            except KeyboardInterrupt:
                continue
        have, truth = sink.read("fake", "1d"), pd.concat([bars_of("A"), bars_of("B")]).sort_index()
        assert have.index.is_unique and set(truth.loc[DAYS[first] : DAYS[last]].index) <= set(have.index)
    pd.testing.assert_frame_equal(sink.read("fake", "1d"), truth)
    before = len(vendor.asked)
    job(folder, sink).backfill(vendor, ["A", "B"], DAYS[0], DAYS[-1])
    assert len(vendor.asked) == before


def test_a_crash_between_sink_and_state_repeats_one_page(tmp_path, monkeypatch):
    sink, vendor = Memory(), Fake()
    calls = iter(range(100))
    real = os.replace
    monkeypatch.setattr(
        os, "replace", lambda *a: real(*a) if next(calls) != 3 else (_ for _ in ()).throw(OSError("killed"))
    )
    with pytest.raises(OSError, match="killed"):
        job(tmp_path, sink).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    assert json.loads((tmp_path / "state.json").read_text())["fake/1d"]["A"][0][1] == str(DAYS[20].isoformat())
    job(tmp_path, sink).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    pd.testing.assert_frame_equal(sink.read("fake", "1d"), bars_of("A"))
    assert sink.received == len(DAYS) + 8  # the page that was written and not noted, and the edge


def test_refresh_asks_only_for_what_is_new(tmp_path):
    sink, vendor = Memory(), Fake()
    job(tmp_path, sink).backfill(vendor, ["A", "B"], DAYS[0], DAYS[40])
    vendor.asked.clear()
    report = job(tmp_path, sink).refresh(vendor, ["A", "B"], DAYS[45])
    assert vendor.asked == [("A", DAYS[40]), ("B", DAYS[40])] and report["rows"].tolist() == [6, 6]
    assert job(tmp_path, sink).refresh(vendor, ["A", "B"], DAYS[45])["rows"].tolist() == [0, 0]
    with pytest.raises(ConfigError, match=r"\['C'\] have never been fetched"):
        job(tmp_path, sink).refresh(vendor, ["A", "C"], DAYS[45])


@pytest.mark.parametrize("die", [False, True])
def test_a_restated_history_is_fetched_whole_even_after_a_crash(tmp_path, die):
    sink = Memory()
    job(tmp_path, sink).backfill(Fake(), ["A"], DAYS[0], DAYS[40])
    vendor = Fake(["ok", "ok", "ok", "die"] if die else [], factor=0.98)
    if die:
        with pytest.raises(KeyboardInterrupt):
            job(tmp_path, sink).refresh(vendor, ["A"], DAYS[-1])
    job(tmp_path, sink).refresh(vendor, ["A"], DAYS[-1])
    pd.testing.assert_frame_equal(sink.read("fake", "1d"), bars_of("A", 0.98))


def test_rounding_and_volume_do_not_count_as_restated(tmp_path):
    sink = Memory()
    job(tmp_path, sink).backfill(Fake(), ["A"], DAYS[0], DAYS[40])
    report = job(tmp_path, sink).refresh(Fake(factor=1 + 1e-7), ["A"], DAYS[45])
    assert report["rows"].tolist() == [6]


def test_running_bars_are_never_asked_for(tmp_path):
    sink = Memory()
    now = pd.Timestamp(DAYS[10]) + pd.Timedelta(hours=23)
    early = job(tmp_path, sink, now=lambda: now.tz_localize("UTC"))
    early.backfill(Fake(), ["A"], DAYS[0], DAYS[-1])
    assert sink.read("fake", "1d").index[-1][0] == DAYS[9]
    later = job(tmp_path, sink, now=lambda: (now + pd.Timedelta(hours=1)).tz_localize("UTC"))
    later.backfill(Fake(), ["A"], DAYS[0], DAYS[-1])
    assert sink.read("fake", "1d").index[-1][0] == DAYS[10]
    at = pd.Timestamp("2024-01-02 10:04:59", tz="UTC")
    assert last_finished("24/7", "5min", at) == pd.Timestamp("2024-01-02 10:00", tz="UTC")
    assert last_finished("24/7", "5min", at + pd.Timedelta(seconds=1)) == pd.Timestamp("2024-01-02 10:05", tz="UTC")


def test_pace_and_patience(tmp_path):
    clock = Clock()
    vendor = Fake(["ok", "fail", "fail", "ok"], size=31)
    vendor.script[1:1] = []
    job(tmp_path, Memory(), clock).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    assert [n for n in clock.naps if n >= 1] == [1, 2]
    assert all(abs(n - 0.1) < 1e-9 for n in clock.naps if n < 1)
    pace = Pace(4.0, clock.sleep, clock)
    begin = clock.seconds
    for _ in range(9):
        pace()
    assert clock.seconds - begin == pytest.approx(8 / 4)


def test_retry_after_is_obeyed_and_attempts_are_per_page():
    clock = Clock()

    class Limited(Fake):
        def pages(self, symbol, start, end, interval):
            if len(clock.naps) < 3:
                raise TemporaryError("429", wait=7.5)
            yield from super().pages(symbol, start, end, interval)

    pages = fetch(
        Limited(["fail", "fail", "ok"] * 20), "A", DAYS[0], DAYS[-1], "1d", Pace(1e9, clock.sleep, clock), attempts=6
    )
    assert sum(map(len, pages)) >= len(DAYS)
    assert clock.naps[0] == 7.5
    with pytest.raises(TemporaryError, match="try again"):
        list(fetch(Fake(["fail"] * 5), "A", DAYS[0], DAYS[-1], "1d", Pace(1e9, clock.sleep, clock), attempts=5))


def test_one_refused_symbol_does_not_stop_the_others(tmp_path):
    class Picky(Fake):
        def pages(self, symbol, start, end, interval):
            if symbol == "X":
                raise DataError("no such symbol X")
            yield from super().pages(symbol, start, end, interval)

    sink, seen = Memory(), []
    with pytest.raises(DataError, match="1 of 3 symbols were refused, X: no such symbol X; the others are stored"):
        job(tmp_path, sink, progress=lambda *news: seen.append(news)).backfill(
            Picky(), ["A", "X", "B"], DAYS[0], DAYS[-1]
        )
    assert len(sink.read("fake", "1d")) == 2 * len(DAYS) and seen == [("A", 1, 3), ("X", 2, 3), ("B", 3, 3)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), max_size=6),
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
)
@settings(max_examples=100, deadline=None)
def test_spans_cover_exactly(tmp_path_factory, spans, request):
    day = lambda n: pd.Timestamp("2024-01-01") + pd.Timedelta(days=n)
    state = State(tmp_path_factory.mktemp("s") / "state.json")
    for a, b in spans:
        state.add("d", "1d", "A", day(a), day(b))
    done = state.done("d", "1d", "A")
    assert done == sorted(done) and all(x[1] < y[0] for x, y in zip(done, done[1:], strict=False))
    covered = lambda parts, t: any(a <= t <= b for a, b in parts)
    parts = missing_spans(done, day(request[0]), day(request[1]))
    for half in range(2 * request[0], 2 * request[1] + 1):  # whole days and the time between them
        t = day(0) + pd.Timedelta(hours=12 * half)
        assert covered(done, t) == any(day(a) <= t <= day(b) for a, b in spans)
        assert covered(done, t) or covered(parts, t)
        if covered(parts, t) and covered(done, t):
            assert t in {edge for part in parts for edge in part}  # only edges are asked for twice
    assert State(state.file).spans == state.spans


def test_a_torn_state_is_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"fake/1d": ')
    with pytest.raises(DataError, match="delete it"):
        State(tmp_path / "state.json")


def test_gaps_are_counted_against_the_calendar():
    ends = pd.date_range("2024-07-03 13:35", "2024-07-03 17:00", freq="5min", tz="UTC").as_unit("us")
    table = {"date": ends, "symbol": "SPY", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}
    bars = as_panel(pd.DataFrame(table).drop(index=[0, 5, 6, 20]))
    gaps = find_gaps(bars, "XNYS", "5min", "2024-07-03", "2024-07-05")
    assert gaps[["bars", "where"]].to_numpy().tolist() == [[1, "before"], [2, "inside"], [1, "inside"]]
    assert str(gaps["start"].dtype) == "datetime64[us, UTC]"
    assert find_gaps(bars, "XNYS", "5min", "2024-07-03", "2024-07-06")["bars"].tolist() == [1, 2, 1, 78]
    assert find_gaps(bars.iloc[:0], "XNYS", "5min", "2024-07-03", "2024-07-04").empty


def test_the_lake_takes_what_comes_and_goes_on_after_a_stop(tmp_path):
    lake, vendor = Lake(tmp_path / "lake"), Fake()
    job(tmp_path, lake).backfill(vendor, ["A", "B"], DAYS[0], DAYS[40])
    job(tmp_path, lake).refresh(vendor, ["A", "B"], DAYS[45])
    truth = pd.concat([bars_of("A"), bars_of("B")]).sort_index().loc[: DAYS[45]]
    pd.testing.assert_frame_equal(lake.read("fake", "1d")[truth.columns], truth, check_freq=False)


def test_stored_rows_that_the_state_does_not_know_are_compared_too(tmp_path):
    "The state file is gone and the history was corrected since: it is fetched whole, and one level is stored."
    lake, first = Lake(tmp_path / "lake"), Fake(size=500)
    job(tmp_path, lake).backfill(first, ["A"], DAYS[0], DAYS[-1])
    (tmp_path / "state.json").unlink()

    class Corrected(Fake):
        def pages(self, symbol, start, end, interval):
            for page in super().pages(symbol, start, end, interval):
                yield page.assign(low=page["low"] - 0.5 * (page.index.get_level_values("date") == DAYS[20]))

    vendor = Corrected(["ok", "ok", "ok", "ok", "die"])
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, lake).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    assert lake.read("fake").equals(bars_of("A").astype("float64")), "half of a correction is none"
    job(tmp_path, lake).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    low = bars_of("A")["low"].astype("float64")
    assert lake.read("fake")["low"].equals(low.where(low.index.get_level_values("date") != DAYS[20], low - 0.5))
    asked = len(vendor.asked)
    job(tmp_path, lake).backfill(vendor, ["A"], DAYS[0], DAYS[-1])
    assert len(vendor.asked) == asked


def test_weeks_and_months_end_and_are_missed():
    now = pd.Timestamp("2024-03-28 20:30", tz="UTC")  # Thursday before Good Friday, half an hour after the close
    assert last_finished("XNYS", "1w", now) == pd.Timestamp("2024-03-28") and last_finished(
        "XNYS", "1mo", now
    ) == pd.Timestamp("2024-03-28")
    early = now - pd.Timedelta(hours=1)
    assert last_finished("XNYS", "1w", early) == pd.Timestamp("2024-03-22") and last_finished(
        "XNYS", "1mo", early
    ) == pd.Timestamp("2024-02-29")
    weeks = bars_of("A").loc[["2024-01-12", "2024-01-26"]]
    gaps = find_gaps(weeks, "XNYS", "1w", "2024-01-01", "2024-01-31")
    assert gaps[["start", "where"]].to_numpy().tolist() == [
        [pd.Timestamp("2024-01-05"), "before"],
        [pd.Timestamp("2024-01-19"), "inside"],
    ]


def test_a_page_that_answers_another_question_is_the_adapters_mistake(tmp_path):
    class Wide(Fake):
        def pages(self, symbol, start, end, interval):
            yield from super().pages(symbol, start - pd.Timedelta(days=30), end, interval)

    class Backward(Fake):
        def pages(self, symbol, start, end, interval):
            yield from reversed(list(super().pages(symbol, start, end, interval)))

    def collect(vendor, start="2024-02-01", end="2024-03-01"):
        clock = Clock()
        return list(fetch(vendor, "A", pd.Timestamp(start), pd.Timestamp(end), "1d", Pace(10.0, clock.sleep, clock)))

    with pytest.raises(DataError, match="mend the adapter"):
        collect(Wide())
    with pytest.raises(DataError, match="oldest page first"):
        collect(Backward())
    assert collect(Fake(), end="2024-01-31") == []


def test_progress_is_told_and_nothing_is_asked_for_nothing(tmp_path):
    progress, vendor = [], Fake()
    told = job(tmp_path, Memory(), progress=lambda *news: progress.append(news))
    told.backfill(vendor, ["A", "B"], "2024-01-02", "2024-01-31")
    assert progress == [("A", 1, 2), ("B", 2, 2)] and told.backfill(vendor, [], "2024-01-02", "2024-01-31").empty
    assert told.backfill(vendor, ["B"], "2024-03-01", "2024-02-01").loc["B"].tolist() == [0, 0]
    with pytest.raises(ConfigError, match="no bars of 5min"):
        told.backfill(vendor, ["B"], "2024-01-02", "2024-01-31", "5min")
    coin = find_gaps(bars_of("A").iloc[:0], "24/7", "4h", "2024-07-03", "2024-07-04", ["BTC"])
    assert coin["bars"].tolist() == [7] and coin["start"][0] == pd.Timestamp("2024-07-03", tz="UTC")
    assert find_gaps(bars_of("A").iloc[:0], "XNYS", "1d", "2024-07-03", "2024-07-05", ["KO"])["bars"].tolist() == [2]
