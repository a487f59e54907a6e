"""Laws of the features that are made from events and from a score of text."""

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.event_audit import audit_events
from quantlab.altdata.events import event_panel, session_closes
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.calendar import exchange_sessions
from quantlab.features.base import check_feature, compute
from quantlab.features.events import days_since_event, event_count, event_value, text_posts, text_tone

DATES = exchange_sessions("XNYS", "2024-10-01", "2025-02-28")
CLOSES = session_closes(DATES)


def market(dates=DATES, symbols=("A", "B", "C"), seed=0):
    index = pd.MultiIndex.from_product([dates, symbols], names=["date", "symbol"])
    close = np.exp(np.random.default_rng(seed).normal(0, 0.01, len(index))) * 20
    return pd.DataFrame({"close": close}, index=index)


def stream(seed=0, n=250, closes=CLOSES, symbols=("A", "B", "C", "Z")):
    rng = np.random.default_rng(seed)
    known = closes.iloc[rng.integers(0, len(closes), n)].reset_index(drop=True)
    known = known + pd.to_timedelta(rng.integers(-600, 120, n), unit="min")
    frame = pd.DataFrame({"event_time": known, "known_at": known, "symbol": rng.choice(symbols, n)})
    kinds = rng.choice(["8-K", "post"], n)
    frame = frame.assign(source="s", kind=kinds, revision=0, id=np.arange(n).astype("str"), x=rng.normal(0, 1, n))
    return frame.assign(tone=np.tanh(frame["x"]), doubt=rng.uniform(0.05, 0.6, n), posts=rng.integers(1, 9, n) * 1.0)


def with_score(bars, events, closes=CLOSES):
    return bars.join(event_panel(events, closes, ["tone", "doubt", "posts"]))


def features(events):
    return (
        event_count(events, 5),
        event_count(events, 10, "8-K"),
        days_since_event(events, 15),
        event_value(events, "x", 15),
        event_value(events, "x", 15, 4, "post"),
    )


def test_they_pass_the_suite_of_the_room():
    bars = market(DATES[:60])
    assert check_feature(features(stream())[1:], bars).status == "PASS"
    assert check_feature((text_tone(4), text_posts(4)), with_score(bars, stream())).status == "PASS"


@pytest.mark.parametrize("which", range(5))
def test_they_pass_the_audit_of_events(which):
    verdict = audit_events(lambda e: features(e)[which](market()), stream(), CLOSES, cuts=2)
    assert verdict.status == "PASS", verdict


@pytest.mark.parametrize("feature", [text_tone(3), text_posts(3)], ids=lambda f: f.name)
def test_a_score_of_events_passes_too(feature):
    verdict = audit_events(lambda e: feature(with_score(market(), e)), stream(), CLOSES, cuts=2)
    assert verdict.status == "PASS", verdict


def test_a_feature_that_reads_the_calendar_day_is_caught():
    def by_day(events):
        day = events["known_at"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()
        wide = events.assign(date=day).groupby(["date", "symbol"])["x"].last().unstack().reindex(DATES)
        return wide.ffill().reindex(columns=["A", "B", "C"]).stack().rename_axis(["date", "symbol"])

    assert audit_events(by_day, stream(), CLOSES, cuts=2).status == "LEAK"


def test_counts_and_ages_agree_with_a_loop():
    events, bars = stream(3), market()
    count = event_count(events, 5)(bars)
    age = days_since_event(events, 15)(bars)
    for i in (10, 40, 41, 70):
        for name in ("A", "B", "C"):
            own = events[events["symbol"] == name]["known_at"]
            opens, close = CLOSES.iloc[i - 5], CLOSES.iloc[i]
            assert count[DATES[i], name] == ((own > opens) & (own <= close)).sum()
            last = own[own <= close].max()
            sessions = i - CLOSES.searchsorted(last, side="left")
            assert age[DATES[i], name] == sessions if sessions <= 15 else np.isnan(age[DATES[i], name])


def test_a_value_halves_and_is_forgotten():
    one = stream(n=1, closes=CLOSES.iloc[[20]], symbols=("A",)).assign(x=8.0)
    one = one.assign(known_at=CLOSES.iloc[20], event_time=CLOSES.iloc[20])
    kept = event_value(one, "x", 6, 2)(market()).xs("A", level="symbol")
    assert kept.iloc[20:27:2].tolist() == [8.0, 4.0, 2.0, 1.0] and kept.iloc[:20].isna().all()
    assert kept.iloc[27:].isna().all()
    age = days_since_event(one, 6)(market()).xs("A", level="symbol")
    assert age.iloc[20:27].tolist() == list(range(7)) and age.iloc[27:].isna().all()
    assert event_value(one, "x", 6)(market()).xs("A", level="symbol").iloc[20:28].tolist()[:7] == [8.0] * 7


def test_an_amendment_starts_the_age_anew_and_replaces_from_its_session_on():
    first = stream(n=1, symbols=("A",)).assign(known_at=CLOSES.iloc[20], event_time=CLOSES.iloc[19], x=1.0)
    both = pd.concat([first, first.assign(known_at=CLOSES.iloc[23], revision=1, x=5.0)])
    value = event_value(both, "x", 30)(market()).xs("A", level="symbol")
    assert value.iloc[20:25].tolist() == [1.0, 1.0, 1.0, 5.0, 5.0]
    assert days_since_event(both, 30)(market()).xs("A", level="symbol").iloc[20:25].tolist() == [0, 1, 2, 0, 1]


def test_tone_is_weighted_by_precision_and_posts_are_logs():
    bars = market(DATES[:3], ("A",)).assign(tone=[0.8, -0.2, np.nan], doubt=[0.1, 0.2, np.nan], posts=[99, 9, np.nan])
    tone, posts = text_tone(2)(bars), text_posts(2)(bars)
    assert np.isnan(tone.iloc[0]) and np.isclose(tone.iloc[1], (80 - 5) / 125) and np.isclose(tone.iloc[2], -0.2)
    assert np.allclose(posts.iloc[1:], np.log1p([54, 4.5]))
    for doubt in (0.0, -1.0, np.inf, np.nan):
        assert text_tone(1)(bars.assign(doubt=doubt)).isna().all()


def test_bars_around_the_clock_and_bars_with_gaps():
    stamps = pd.date_range("2024-10-01 04:00", periods=120, freq="4h", tz="UTC", unit="us")
    closes = session_closes(stamps)
    bars, events = market(stamps), stream(1, 200, closes)
    verdict = audit_events(lambda e: event_count(e, 3)(bars), events, closes, cuts=2)
    assert verdict.status == "PASS", verdict
    holed = market().drop([(DATES[30], "A"), (DATES[31], "A")])
    full, part = (event_count(stream(), 5)(b) for b in (market(), holed))
    pd.testing.assert_series_equal(part, full.reindex(part.index))  # what came while it did not trade is counted


def test_order_of_events_and_strangers_change_nothing():
    events = stream()
    other = pd.concat([events, stream(9).assign(symbol="STRANGER", source="t")]).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(compute(market(), features(events)), compute(market(), features(other)))


def test_what_is_empty_or_wrong():
    none = stream()[:0]
    assert (event_count(none, 3)(market()).dropna() == 0).all()
    assert days_since_event(none, 3)(market()).isna().all() and event_value(none, "x", 3)(market()).isna().all()
    for make in (event_count, days_since_event):
        with pytest.raises(ConfigError, match="lookback=0"):
            make(stream(), 0)
        early = make(stream(), 5, "10-K")(market()).dropna()  # of a kind that comes later
        assert (early == 0).all()
    for half_life in (0, -1, np.inf, np.nan):
        with pytest.raises(ConfigError, match="half_life"):
            event_value(stream(), "x", 5, half_life)
    with pytest.raises(ConfigError, match="no column 'y'"):
        event_value(stream(), "y")
    for make in (text_tone, text_posts):
        with pytest.raises(PanelError, match="join the score"):
            make(3)(market())
        with pytest.raises(ConfigError, match="lookback=0"):
            make(0)
    with pytest.raises(DataError, match="no sessions of XNYS"):
        event_count(stream(), 3)(market(pd.date_range("2024-10-01", periods=9, unit="us")))


def test_an_older_fact_revised_is_not_the_last_value_and_an_amendment_is_no_other_event():
    q1 = stream(n=1, symbols=("A",)).assign(known_at=CLOSES.iloc[20], event_time=CLOSES.iloc[19], id="q1", x=1.0)
    q2 = q1.assign(known_at=CLOSES.iloc[25], event_time=CLOSES.iloc[24], id="q2", x=2.0)
    told = pd.concat([q1, q2, q1.assign(known_at=CLOSES.iloc[30], revision=1, x=0.5)])
    value = event_value(told, "x", 40)(market()).xs("A", level="symbol")
    assert value.iloc[[20, 24, 25, 29, 30, 40]].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    newest = pd.concat([told, q2.assign(known_at=CLOSES.iloc[35], revision=1, x=3.0)])
    value = event_value(newest, "x", 40)(market()).xs("A", level="symbol")
    assert value.iloc[[34, 35, 40]].tolist() == [2.0, 3.0, 3.0]
    count = event_count(newest, 20)(market()).xs("A", level="symbol")
    assert count.iloc[[20, 25, 30, 35]].tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("wrong", [None, "a", 1.5, np.nan, True])
def test_spans_that_are_no_numbers_of_sessions_are_named(wrong):
    for make in (text_tone, text_posts, lambda w: event_count(stream(), w), lambda w: days_since_event(stream(), w)):
        with pytest.raises(ConfigError, match="lookback="):
            make(wrong)
    if wrong not in (None, 1.5):
        with pytest.raises(ConfigError, match="half_life"):
            event_value(stream(), "x", 5, wrong)
