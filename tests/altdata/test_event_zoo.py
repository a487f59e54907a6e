"""Every planted leak of events is caught, every clean twin passes, on streams the audit was not tuned on."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.event_audit import audit_events, check_event_times
from quantlab.altdata.events import event_panel, session_closes
from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS
from quantlab.core.errors import ConfigError, DataError

sys.path.insert(0, str(Path(__file__).parent))
from event_zoo import EVENT_ZOO, market_closes, members, stream  # noqa: E402

each = pytest.mark.parametrize("pair", EVENT_ZOO, ids=lambda p: p.name)
CLOSES = market_closes()


@pytest.fixture(scope="module")
def events():
    return stream(0)


def last(frame):
    return event_panel(frame, CLOSES, "x")


@each
def test_the_leak_is_caught_and_the_twin_passes(pair, events):
    leak, twin = pair.leak(events, CLOSES), pair.twin(events, CLOSES)
    assert leak.status == LEAK and leak.column and leak.date is not None and leak.reason, leak
    assert leak.date.tz is None and leak.date <= CLOSES.index[-1] + pd.Timedelta(days=9)
    assert twin.status == PASS, twin


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
@each
def test_on_other_streams_too(pair, seed):
    closes = market_closes(50 + 7 * seed)
    other = stream(seed, closes, n=120 + 40 * seed)
    assert pair.leak(other, closes).status == LEAK
    assert pair.twin(other, closes).status == PASS


def test_the_zoo_is_large():
    assert len(EVENT_ZOO) >= 15 and len({p.name for p in EVENT_ZOO}) == len(EVENT_ZOO)


def test_the_order_of_events_and_the_zone_they_are_written_in_change_no_verdict(events):
    other = events.sample(frac=1, random_state=3)
    other = other.assign(known_at=other["known_at"].dt.tz_convert("Asia/Tokyo"))
    assert audit_events(last, other, CLOSES, "last", 2) == audit_events(last, events, CLOSES, "last", 2)


def test_a_maker_that_reads_the_zone_as_written_is_caught(events):
    def hours(frame):
        late = (frame["known_at"].dt.hour >= 12).astype("float64")
        return event_panel(frame.assign(x=late), CLOSES, "x")

    verdict = audit_events(hours, events, CLOSES, cuts=2)
    assert verdict.status == LEAK and "zone" in verdict.change


def test_what_cannot_be_assessed_says_why(events):
    rng = np.random.default_rng(0)
    makers = {
        "failed": lambda e: 1 / 0,
        "differ": lambda e: last(e) + rng.normal(),
        "no numbers": lambda e: last(e) * np.nan,
        "no event changes": lambda e: pd.DataFrame({"x": 1.0}, index=CLOSES.index.rename("date")),
    }
    for words, make in makers.items():
        verdict = audit_events(make, events, CLOSES, cuts=2)
        assert verdict.status == NOT_ASSESSED and words in verdict.reason, verdict
    assert audit_events(last, events[:0], CLOSES).status == NOT_ASSESSED
    assert audit_events(last, events[:1], CLOSES).status in (NOT_ASSESSED, PASS)
    for closes, cuts in ((CLOSES[:3], 6), (CLOSES, 0), (CLOSES, 1.5)):
        with pytest.raises(ConfigError, match="closes and a cut"):
            audit_events(last, events, closes, cuts=cuts)


def test_a_maker_that_remembers_its_first_run_is_caught(events):
    seen = []

    def remembers(frame):
        seen.append(last(events if not seen else frame))
        return seen[0]

    assert audit_events(remembers, events, CLOSES, cuts=2).status != PASS


def test_bars_that_never_stop_are_audited_alike():
    closes = session_closes(pd.date_range("2024-10-20", periods=200, freq="4h", tz="UTC"))
    rng = np.random.default_rng(1)
    known = closes.iloc[rng.integers(1, 199, 200)].reset_index(drop=True)
    known = known - pd.to_timedelta(rng.integers(0, 240, 200), unit="min")
    posts = pd.DataFrame({"event_time": known, "known_at": known, "symbol": rng.choice(["BTC", "ETH"], 200)})
    posts = posts.assign(source="p", kind="post", revision=0, id=np.arange(200).astype("str"), x=rng.normal(size=200))
    assert audit_events(lambda e: event_panel(e, closes, "x"), posts, closes).status == PASS
    floor = lambda e: e.assign(date=e["known_at"].dt.floor("4h")).groupby(["date", "symbol"])[["x"]].last()  # noqa: E731
    assert audit_events(floor, posts, closes).status == LEAK  # a bar named by its start


def test_a_maker_may_write_into_its_events(events):
    def writes(frame):
        frame["x"] = frame["x"] * 2
        return last(frame)

    before = events.copy()
    assert audit_events(writes, events, CLOSES, cuts=2).status == PASS and events.equals(before)


def test_the_checks_of_the_data_at_their_edges(events):
    assert [v.status for v in check_event_times(events[:0])] == [NOT_ASSESSED]
    one = check_event_times(events[:1])
    assert {v.status for v in one} <= {PASS, NOT_ASSESSED} and len(one) == 6
    with pytest.raises(DataError, match="universe"):
        check_event_times(events, universe=pd.Index(["A"]))
    gone = check_event_times(events, earlier=pd.concat([events, events.tail(1).assign(id="gone")]))[-1]
    assert gone.status == LEAK and "1 of" in gone.reason
    nobody_left = members(CLOSES)[members(CLOSES).get_level_values("symbol") < "U12"]
    assert check_event_times(events, universe=nobody_left)[4].status == NOT_ASSESSED


def test_one_silent_leaver_is_no_leak():
    universe = members(CLOSES)
    universe = universe[universe.get_level_values("symbol") < "U13"]  # U12 alone leaves
    known = CLOSES.repeat(12).reset_index(drop=True) - pd.Timedelta(minutes=7)
    names = [f"U{i:02}" for i in range(12)] * len(CLOSES)
    table = pd.DataFrame({"event_time": known, "known_at": known, "symbol": names}).assign(
        source="s", kind="k", revision=0
    )
    assert check_event_times(table, universe=universe)[4].status == PASS


def test_a_maker_that_ignores_half_days_or_the_clocks_is_caught():
    from quantlab.data.calendar import exchange_sessions

    closes = session_closes(exchange_sessions("XNYS", "2024-10-07", "2025-08-29"))
    label = pd.Series(closes.index, closes.index)
    four = (label + pd.Timedelta(hours=16)).dt.tz_localize("America/New_York").dt.tz_convert("UTC").rename("own")
    winter = (label + pd.Timedelta(hours=21)).dt.tz_localize("UTC").rename("own")  # 16:00 in New York, in winter
    rng = np.random.default_rng(0)
    some = closes.iloc[rng.integers(1, len(closes) - 2, 500)].reset_index(drop=True)
    half = (some - some.dt.normalize()) < pd.Timedelta(hours=20)
    wait = np.where(half, -30, rng.choice([-90, -20, 70, 150], 500))  # nothing in the hour behind a close
    quiet = some + pd.to_timedelta(wait, unit="min")
    gap = [closes["2024-11-29"], closes["2025-03-10"]]  # the half day, and the first session after the clocks went on
    for wrong, close in ((four, gap[0]), (winter, gap[1])):
        known = pd.concat([quiet, pd.Series([close + pd.Timedelta(minutes=40)])], ignore_index=True)
        posts = pd.DataFrame({"event_time": known, "known_at": known, "symbol": rng.choice(["A", "B"], 501)})
        posts = posts.assign(
            source="p", kind="post", revision=0, id=np.arange(501).astype("str"), x=rng.normal(size=501)
        )
        verdict = audit_events(lambda e, w=wrong: event_panel(e, w, "x"), posts, closes, cuts=3)
        assert verdict.status == LEAK and (wrong is winter or verdict.date == pd.Timestamp(close.date())), verdict
        assert audit_events(lambda e: event_panel(e, closes, "x"), posts, closes, cuts=3).status == PASS


def test_a_maker_that_never_reads_its_events_is_not_assessed(events):
    fixed = last(events)
    for exact in (True, False):
        verdict = audit_events(lambda e: fixed, events, CLOSES, cuts=2, exact=exact)
        assert verdict.status == NOT_ASSESSED and "no event changes what it says" in verdict.reason, verdict


def test_a_copy_with_nothing_to_compare_is_not_assessed(events):
    for earlier in (events[:0], events.drop(columns=["x", "received_at"]), events.drop(columns="id").head(1)):
        assert check_event_times(events, earlier=earlier)[-1].status == NOT_ASSESSED
    gone = events.drop(columns=["x", "received_at"]).assign(id=lambda e: e["id"] + "gone")
    assert check_event_times(events, earlier=gone)[-1].status == LEAK


def test_options_of_the_checks_are_named(events):
    hours = [("22:00", "06:00"), ("25:00", "26:00"), ("a", "b"), ("06:00",), "06:00", 5, ("06:70", "22:00")]
    wrong = [{"hours": h} for h in hours] + [{"zone": z} for z in ("Mars", None, 5)]
    wrong += [{"embargo": e} for e in ("soon", "-1d", 5, pd.NaT, [])]
    for options in wrong:
        for frame in (events, events[:0]):
            with pytest.raises(ConfigError, match=next(iter(options))):
                check_event_times(frame, **options)
    told = [check_event_times(events, embargo=e)[3] for e in ("1d", pd.Timedelta(days=1))]
    assert told[0] == told[1] and told[0].status == LEAK
