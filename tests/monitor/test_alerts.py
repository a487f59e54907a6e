"Alerts: what is wrong by the figures, and a law of silence, escalation and restarts: none lost, none twice."

import math
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, RunError
from quantlab.monitor.alerts import (
    ALERTS,
    Alert,
    AlertBook,
    AlertPlan,
    AlertTerms,
    acknowledge,
    alert_subjects,
    due_alerts,
    lift_silence,
    note_alerts,
    send_alerts,
    silence_alert,
    silences,
)
from quantlab.monitor.metrics import MetricStores, Reading, batch_readings, metrics_text, read_metrics

NOON = datetime(2025, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRADER = {"trader": "momentum", "kind": "paper"}
FEED = Alert("FeedStale", "us 1d", "critical", "us 1d is 2 session(s) behind its exchange")
SWITCH = Alert("KillSwitchTripped", "paper momentum", "critical", "the kill switch of paper momentum is tripped")


def names(*readings, now=NOON, written=NOON):
    "Return the names of what is wrong by readings that are of now."
    whole = [Reading("quantlab_written_timestamp_seconds", {}, written.timestamp()), *readings]
    return [one.name for one in due_alerts(whole, now)]


def job(name, value, **labels):
    return Reading(f"quantlab_job_{name}", {"job_name": "close"} | labels, value)


@pytest.mark.parametrize(
    ("metric", "labels", "bad", "good", "alert"),
    [
        ("store_readable", {"store": "ledger"}, [0], [1], "StoreUnreadable"),
        ("job_last_failed", {"job_name": "close"}, [1], [0], "SlotFailed"),
        ("dataset_behind_sessions", {"dataset": "us", "interval": "1d"}, [1, 7], [0], "FeedStale"),
        ("trader_kill_switch_tripped", TRADER, [1], [0], "KillSwitchTripped"),
        ("trader_equity", TRADER, [math.nan], [0, -1, 1e6, math.inf], "EquityUnknown"),
        ("drift_alarm", {"study": "momentum"}, [1], [0], "DriftAlarm"),
        ("heartbeat_late", {"name": "schedule"}, [1], [0], "HeartbeatMissing"),
    ],
)
def test_one_figure_is_an_alert(metric, labels, bad, good, alert):
    one = lambda value: Reading(f"quantlab_{metric}", labels, value)
    assert all(names(one(value)) == [alert] for value in bad) and all(names(one(value)) == [] for value in good)
    [told] = due_alerts([Reading("quantlab_written_timestamp_seconds", {}, NOON.timestamp()), one(bad[0])], NOON)
    assert told.severity == ALERTS[alert] and told.about in told.text
    assert all(value in told.about for value in labels.values())


def test_a_slot_is_missed_when_it_is_late_and_not_done_and_has_not_failed():
    due, at = NOON.timestamp(), NOON + timedelta(hours=2)
    late = [job("last_due_timestamp_seconds", due), job("last_success_timestamp_seconds", due - 86400)]
    assert names(*late, now=at, written=at) == ["SlotMissed"]
    assert names(*late, now=NOON + 60 * MINUTE, written=NOON + 60 * MINUTE) == []
    assert names(*late, job("last_failed", 1), now=at, written=at) == ["SlotFailed"]
    assert names(*late[:1], job("last_success_timestamp_seconds", due + 60), now=at, written=at) == []
    assert names(late[0], now=at, written=at) == ["SlotMissed"], "it was never done"


@pytest.mark.parametrize(
    ("fall", "limit", "wrong"), [(0.17, 0.2, True), (0.15, 0.2, False), (math.nan, 0.2, False), (0.5, None, False)]
)
def test_a_fall_is_compared_with_its_own_limit(fall, limit, wrong):
    told = [Reading("quantlab_trader_drawdown_ratio", TRADER, fall)]
    other = Reading("quantlab_trader_drawdown_limit_ratio", TRADER | {"kind": "live"}, 0.01)
    if limit:
        told.append(Reading("quantlab_trader_drawdown_limit_ratio", TRADER, limit))
    assert names(*told, other) == ["DrawdownNearLimit"] * wrong


@pytest.mark.parametrize("age", [61, -61, 10_000])
def test_figures_that_are_not_of_now_are_an_alert(age):
    assert names(written=NOON - age * MINUTE) == ["FiguresOld"] and names(written=NOON - 59 * MINUTE) == []


def test_no_figures_and_figures_that_are_none():
    assert [one.name for one in due_alerts([], NOON)] == ["FiguresOld"]
    broken = [Reading("quantlab_written_timestamp_seconds", {}, math.nan)]
    assert [one.name for one in due_alerts(broken, NOON)] == ["FiguresOld"]


def test_the_file_says_the_same_as_the_stores(tmp_path):
    readings = batch_readings(NOON, MetricStores(*[tmp_path / n for n in "abcd"], tmp_path), feeds={"gone": "XNYS"})
    assert due_alerts(read_metrics(metrics_text(readings)), NOON) == due_alerts(readings, NOON) != []


@pytest.mark.parametrize("terms", [{"drawdown": 0}, {"drawdown": 1.1}, {"slot": timedelta(0)}, {"figures": -MINUTE}])
def test_terms_that_mean_nothing_are_refused(terms):
    with pytest.raises(ConfigError):
        AlertTerms(**terms)


@pytest.mark.parametrize(
    "plan", [{"recipients": ()}, {"recipients": ("a", "")}, {"recipients": ("a", "a")}, {"repeat": timedelta(0)}]
)
def test_plans_that_tell_nobody_are_refused(plan):
    with pytest.raises(ConfigError):
        AlertPlan(**{"recipients": ("a",)} | plan)


PLAN = AlertPlan(("team", "lead"), repeat=timedelta(hours=4), escalate=timedelta(minutes=30))
STEP = st.fixed_dictionaries(
    {
        "minutes": st.sampled_from([1, 5, 29, 30, 31, 120, 239, 240, 241, 2000]),
        "wrong": st.sets(st.sampled_from([FEED, SWITCH])),
        "act": st.sampled_from(["", "", "", "silence", "silence all", "lift", "ack"]),
        "down": st.sets(st.sampled_from(["team", "lead"])),
        "dies": st.sampled_from(["", "", "before sending", "while sending"]),
    }
)


@settings(max_examples=60)
@given(st.lists(STEP, max_size=15))
def test_the_law_of_silence_escalation_and_restarts(steps):
    "No alert lost, none twice within its silence, whoever dies when; the next are told when nobody has answered."
    with tempfile.TemporaryDirectory() as folder:
        file, now, arrived = Path(folder) / "alerts.sqlite", NOON, []
        queued, since, silent, acked = {}, {}, {}, set()
        active, level = set(), {}
        for step in steps:
            now += step["minutes"] * MINUTE
            book = AlertBook(file)  # a restart at each step
            if step["act"].startswith("silence"):
                about = "" if step["act"].endswith("all") else FEED.about
                silence_alert(book, FEED.name, now + 100 * MINUTE, "a reason", now, about)
                silent[about] = max(silent.get(about, now), now + 100 * MINUTE)
            elif step["act"] == "lift":
                lift_silence(book, FEED.name, now)
                silent = {}
            elif step["act"] == "ack" and FEED in active:
                acknowledge(book, FEED.name, "Ann", now)
                acked.add(FEED)
            before = len(book.messages())
            note_alerts(book, sorted(step["wrong"]), PLAN, now)
            fresh = book.messages()[before:]
            for alert in (FEED, SWITCH):
                mine = [
                    one.recipients
                    for one in fresh
                    if f": {alert.name}" in one.title and "over" not in one.title.split(":")[0]
                ]
                assert len(mine) == len(set(mine))
                quiet = alert is FEED and any(now < until for until in silent.values())
                if alert not in step["wrong"]:
                    acked.discard(alert)
                    since.pop(alert, None)
                    level.pop(alert, None)
                    assert mine == []
                    continue
                if quiet or alert in acked:
                    since.pop(alert, None)
                    assert mine == [], "silent, or taken over"
                    continue
                if alert in since and level.get(alert, 0) == 0 and now - since[alert] >= PLAN.escalate:
                    level[alert] = 1
                since.setdefault(alert, now)
                for place, who in enumerate(PLAN.recipients):
                    last = queued.get((alert, who))
                    due = place <= level.get(alert, 0) and (last is None or now - last >= PLAN.repeat)
                    assert (who in mine) == due, (alert.name, who)
                    if due:
                        queued[alert, who] = now
            active = set(step["wrong"])

            def send(who, title, text, step=step, taken=[]):
                if step["dies"] == "while sending" and taken:
                    raise KeyboardInterrupt  # the process ends; what was taken is noted, the rest is not
                if who in step["down"]:
                    raise RunError(f"{who} could not be told")
                taken.append(who)
                arrived.append((who, title, text))

            if step["dies"] != "before sending":
                try:
                    send_alerts(book, now, send)
                except KeyboardInterrupt:
                    pass
        book = AlertBook(file)
        assert send_alerts(book, now, lambda *one: arrived.append(one)) == []
        assert sorted(arrived) == sorted((m.recipients, m.title, m.text) for m in book.messages()), "each once"


def test_what_comes_and_goes_is_not_told_each_time_and_over_is_told_last(tmp_path):
    book, said = AlertBook(tmp_path / "a.sqlite"), []
    for minute in range(0, 600, 5):
        wrong = [FEED] if minute < 120 and minute % 10 == 0 else []
        note_alerts(book, wrong, AlertPlan(("team",)), NOON + minute * MINUTE)
    for one in book.messages():
        said.append((one.title.split(":")[0], (one.made - NOON) / MINUTE))
    assert said == [("quantlab critical", 0), ("quantlab over", 240)]
    assert "It began at 2025-11-24 13:50 and was over at 2025-11-24 13:55 UTC." in book.messages()[-1].text


def test_a_clock_that_is_set_back_makes_nothing_silent_for_long(tmp_path):
    book, plan = AlertBook(tmp_path / "a.sqlite"), AlertPlan(("team", "lead"))
    note_alerts(book, [FEED], plan, NOON + timedelta(days=400))
    for minute in (0, 31, 241):
        note_alerts(book, [FEED], plan, NOON + minute * MINUTE)
    assert [one.recipients for one in book.messages()] == ["team", "lead", "team"]


def test_a_message_waits_for_as_long_as_nobody_takes_it(tmp_path):
    book = AlertBook(tmp_path / "a.sqlite")
    note_alerts(book, [FEED, SWITCH], AlertPlan(("team",)), NOON)

    def refuse(who, title, text):
        raise (OSError if "Feed" in title else RunError)("password=hunter22 was wrong")

    for tries in (1, 2, 3):
        waits = send_alerts(AlertBook(book.file), NOON, refuse)
        assert [one.attempts for one in waits] == [tries] * 2
    assert {one.error for one in waits} == {"OSError: password=*** was wrong", "RunError: password=*** was wrong"}
    got = []
    assert send_alerts(book, NOON, lambda *one: got.append(one)) == [] and len(got) == 2
    assert send_alerts(book, NOON, lambda *one: got.append(one)) == [] and len(got) == 2


def test_another_process_that_sends_is_left_to_it(tmp_path):
    book, got = AlertBook(tmp_path / "a.sqlite"), []
    note_alerts(book, [FEED], AlertPlan(("team",)), NOON)
    with FileLock(f"{book.file}.lock"):
        assert send_alerts(book, NOON, lambda *one: got.append(one)) == [] and not got
    assert len(book.messages(waiting=True)) == 1


def test_nobody_is_late_with_an_answer_while_it_is_silent(tmp_path):
    book, plan = AlertBook(tmp_path / "a.sqlite"), AlertPlan(("team", "lead"))
    note_alerts(book, [FEED], plan, NOON)
    silence_alert(book, "FeedStale", NOON + 60 * MINUTE, "the vendor moves", NOON)
    for minute in range(5, 95, 5):
        note_alerts(book, [FEED], plan, NOON + minute * MINUTE)
    told = [(one.recipients, (one.made - NOON) / MINUTE) for one in book.messages()]
    assert told == [("team", 0), ("lead", 90)], "half an hour after the silence"


def test_a_silence_is_of_one_thing_or_of_all_and_ends(tmp_path):
    book = AlertBook(tmp_path / "a.sqlite")
    other = FEED._replace(about="crypto 1d")
    silence_alert(book, "FeedStale", NOON + 60 * MINUTE, "the vendor moves", NOON, "us 1d")
    note_alerts(book, [FEED, other], AlertPlan(("team",)), NOON)
    assert [one.title for one in book.messages()] == ["quantlab critical: FeedStale crypto 1d"]
    note_alerts(book, [FEED, other], AlertPlan(("team",)), NOON + 59 * MINUTE)
    assert len(book.messages()) == 1
    note_alerts(book, [FEED, other], AlertPlan(("team",)), NOON + 60 * MINUTE)
    assert book.messages()[-1].title == "quantlab critical: FeedStale us 1d"
    assert silences(book, NOON)[0][3] == "the vendor moves" and lift_silence(book, "FeedStale", NOON) == 1


@pytest.mark.parametrize(
    "slip",
    [
        lambda book: silence_alert(book, "FeedStal", NOON + MINUTE, "a", NOON),
        lambda book: silence_alert(book, "FeedStale", NOON, "a", NOON),
        lambda book: silence_alert(book, "FeedStale", NOON + MINUTE, "\n", NOON),
        lambda book: silence_alert(book, "FeedStale", datetime(2030, 1, 1), "a", NOON),
        lambda book: silence_alert(book, "FeedStale", NOON + timedelta(days=7, seconds=1), "a", NOON),
        lambda book: silence_alert(book, "DriftAlarm", NOON + timedelta(days=30, seconds=1), "a", NOON),
        lambda book: acknowledge(book, "FeedStale", "Ann", NOON),
        lambda book: acknowledge(book, "Feed", "Ann", NOON),
        lambda book: lift_silence(book, "", NOON),
        lambda book: note_alerts(book, [FEED._replace(name="x")], PLAN, NOON),
        lambda book: note_alerts(book, [FEED], PLAN, datetime(2025, 1, 1)),
        lambda book: due_alerts([], datetime(2025, 1, 1)),
    ],
)
def test_slips_are_refused_and_nothing_is_written(tmp_path, slip):
    book = AlertBook(tmp_path / "a.sqlite")
    with pytest.raises(ConfigError):
        slip(book)
    assert book.alerts() == book.messages() == silences(book, NOON) == []


def test_an_acknowledgement_is_of_what_is_wrong_now(tmp_path):
    book = AlertBook(tmp_path / "a.sqlite")
    note_alerts(book, [FEED, SWITCH], PLAN, NOON)
    with pytest.raises(ConfigError, match="wrong: FeedStale us 1d, KillSwitchTripped paper momentum"):
        acknowledge(book, "FeedStale", "Ann", NOON, "crypto 1d")
    assert acknowledge(book, "FeedStale", "Ann, token=abcdef", NOON) == 1
    kept = {one.name: one.acked for one in book.alerts()}
    assert kept == {"FeedStale": "2025-11-24T12:00 Ann, token=***", "KillSwitchTripped": ""}


def test_what_is_noted_without_a_plan_is_told_by_the_first_that_there_is(tmp_path):
    book = AlertBook(tmp_path / "a.sqlite")
    note_alerts(book, [FEED], PLAN, NOON)
    note_alerts(book, [SWITCH], None, NOON + 600 * MINUTE)
    assert len(book.messages()) == 1 and [one.active for one in book.alerts()] == [True, False]
    note_alerts(book, [SWITCH], PLAN, NOON + 605 * MINUTE)
    titles = [one.title.partition(" ")[2] for one in book.messages()]
    assert titles == [
        f"critical: {FEED.name} {FEED.about}",
        f"critical: {SWITCH.name} {SWITCH.about}",
        f"over: {FEED.name} {FEED.about}",
    ]


def test_an_alert_can_be_about_what_has_figures(tmp_path):
    told = [Reading("quantlab_trader_drawdown_limit_ratio", TRADER, 0.2), job("last_due_timestamp_seconds", 0.0)]
    assert alert_subjects(told, "DrawdownNearLimit") == ["paper momentum"] and alert_subjects(told, "SlotMissed") == [
        "close"
    ]
    assert alert_subjects(told, "KillSwitchTripped") == []


def test_a_torn_file_and_a_folder_are_refused_in_one_line(tmp_path):
    (tmp_path / "torn.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    for place in (tmp_path / "torn.sqlite", tmp_path):
        with pytest.raises(DataError, match=r"mend or move the file of \[monitor\] alerts"):
            AlertBook(place)


def test_a_transaction_that_dies_leaves_nothing(tmp_path):
    book = AlertBook(tmp_path / "a.sqlite")
    with pytest.raises(KeyboardInterrupt), book.change() as db:
        db.execute("INSERT INTO silences (name, about, until, reason, made) VALUES ('FeedStale', '', '9', 'a', 'b')")
        raise KeyboardInterrupt
    assert silences(book, NOON) == []
    with sqlite3.connect(book.file) as db:
        assert db.execute("SELECT count(*) FROM silences").fetchone() == (0,)


def test_no_secret_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKER_TOKEN", "PLANTED77")
    book = AlertBook(tmp_path / "a.sqlite")
    note_alerts(book, [FEED._replace(about="PLANTED77", text="password=hunter22 PLANTED77")], PLAN, NOON)
    said = str(book.messages())
    assert "PLANTED77" not in said and "hunter22" not in said
