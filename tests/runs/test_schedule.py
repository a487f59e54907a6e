"The ledger of slots: each due slot once and in order, whatever crashes, whoever is killed, however many schedulers."

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from quantlab.core.errors import ConfigError, DataError, QuantlabError
from quantlab.runs import schedule as room
from quantlab.runs.schedule import Schedule, SlotLedger, claim_slot, notice_slots, read_schedule, run_due
from quantlab.runs.slots import SlotRule, due_slots

START = datetime(2025, 3, 7, 23, tzinfo=UTC)
HOURLY = {"every": "1h"}


def job(name="one", when=HOURLY, **more):
    return {"name": name, "when": when, "steps": [{"report": {"template": "x"}}], **more}


def plan(*jobs):
    return Schedule(jobs=list(jobs) or [job()])


@pytest.fixture
def store(tmp_path):
    return SlotLedger(tmp_path / "schedule.sqlite")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Let this process not wait for the disk: nothing here switches the machine off."
    connect = sqlite3.connect

    def opened(*given, **more):
        db = connect(*given, **more)
        db.execute("PRAGMA synchronous = OFF")
        return db

    monkeypatch.setattr(room.sqlite3, "connect", opened)


class Crash(BaseException):
    "Stand for the death of the process: nothing catches it, and the system frees the lock."


def outage(seed: int, folder) -> None:
    "Live through days in which the process dies at random moments, also between the transactions of the ledger."
    dice, now = random.Random(seed), START
    when = dice.choice([HOURLY, {"every": "4h"}, {"after_close": "XNYS", "delay": "30min"}])
    jobs = plan(job("one", when, retries=20), job("two", {"every": "6h"}, retries=20))
    begun, done, write, chance = [], [], SlotLedger._write, 0.0

    class Fragile(SlotLedger):
        def _write(self):
            if dice.random() < chance:
                raise Crash
            return write(self)

    def run(one, slot):
        begun.append((one.name, slot.at, slot.repeated))
        if dice.random() < chance:
            raise Crash
        done.append((one.name, slot.at))
        return "made"

    store = Fragile(folder / f"{seed}.sqlite")
    run_due(jobs, store, now, run)
    for _ in range(5):
        now += timedelta(hours=dice.choice([0.5, 1, 3, 9]))
        chance = 0.06
        try:
            run_due(jobs, store, now, run)
        except Crash:
            pass
    chance = 0.0
    run_due(jobs, store, now, run)
    for one in jobs.jobs:
        due = due_slots(one.when, START, now)
        rows = store.rows(one.name)
        assert [row.at for row in rows] == due and all(row.state == "done" for row in rows)
        assert list(dict.fromkeys(at for name, at in done if name == one.name)) == due, "in order, none missing"
        for row in rows:
            again = [repeated for name, at, repeated in begun if (name, at) == (one.name, row.at)]
            assert again[0] in (0, row.repeated) or again == sorted(again)
            assert len(again) == len(set(again)), "a second beginning is said to be a repetition"


@pytest.mark.parametrize("block", range(10))
def test_a_hundred_outages(block, tmp_path):
    for seed in range(10 * block, 10 * block + 10):
        outage(seed, tmp_path)


CHILD = """
import os, sys, time
from datetime import datetime
from quantlab.runs.schedule import Schedule, SlotLedger, run_due
file, log, now, die = sys.argv[1:5]
def run(job, slot):
    with open(log, "a") as out:
        out.write(f"begin {slot.at:%H} {slot.repeated}\\n")
    time.sleep(60 if die == f"{slot.at:%H}" else 0.05)
    with open(log, "a") as out:
        out.write(f"end {slot.at:%H}\\n")
    return ""
jobs = Schedule(jobs=[{"name": "one", "when": {"every": "1h"}, "steps": [{"report": {"template": "x"}}]}])
while True:
    run_due(jobs, SlotLedger(file), datetime.fromisoformat(now), run)
    if all(row.state == "done" for row in SlotLedger(file).rows()):
        break
    time.sleep(0.02)
"""


def child(store, log, now, die="none"):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(store.file), str(log), now.isoformat(), die])


def test_killed_between_claim_and_done(store, tmp_path):
    log, now = tmp_path / "log", START + timedelta(hours=4)
    run_due(plan(), store, START, lambda *_: "")
    for hour in ("01", "02"):
        process = child(store, log, now, hour)
        deadline = time.monotonic() + 30
        while not (log.exists() and f"begin {hour}" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert child(store, log, now).wait(30) == 0
    said = log.read_text().split("\n")[:-1]
    assert said == [
        "begin 00 0", "end 00", "begin 01 0", "begin 01 1", "end 01", "begin 02 0", "begin 02 1", "end 02",
        "begin 03 0", "end 03",
    ]  # fmt: skip
    assert [row.repeated for row in store.rows()] == [0, 1, 1, 0]


def test_two_schedulers_at_once(store, tmp_path):
    log, now = tmp_path / "log", START + timedelta(hours=20)
    run_due(plan(), store, START, lambda *_: "")
    both = [child(store, log, now) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    due = [f"{at:%H}" for at in due_slots(SlotRule(**HOURLY), START, now)]
    assert log.read_text().split("\n")[:-1] == [x for hour in due for x in (f"begin {hour} 0", f"end {hour}")]


def test_a_slot_is_one_row(store):
    with store._write() as db:
        db.execute("INSERT INTO slots (job, at) VALUES ('one', 'x')")
    with pytest.raises(DataError, match="UNIQUE"), store._write() as db:
        db.execute("INSERT INTO slots (job, at) VALUES ('one', 'x')")


def test_two_that_notice_at_once_write_one_row(store, monkeypatch):
    one = plan().jobs[0]
    notice_slots(store, one, START)
    first = room.due_slots

    def late(rule, after, until):
        monkeypatch.setattr(room, "due_slots", first)
        notice_slots(store, one, until)  # another one, between our look and our write
        return first(rule, after, until)

    monkeypatch.setattr(room, "due_slots", late)
    notice_slots(store, one, START + timedelta(hours=3))
    assert [row.at.hour for row in store.rows()] == [0, 1, 2]


def test_what_is_done_is_not_claimed(store):
    jobs, now = plan(), START + timedelta(hours=1)
    run_due(jobs, store, START, lambda *_: "")
    (slot,) = run_due(jobs, store, now, lambda *_: "made")
    assert slot.result == "made" and claim_slot(store, jobs.jobs[0], slot.at) is None


def test_oldest_first_over_all_jobs_then_in_the_order_of_the_page(store):
    jobs, ran = plan(job("z"), job("a", {"every": "2h"})), []
    run_due(jobs, store, START, lambda *_: "")
    run_due(jobs, store, START + timedelta(hours=3), lambda one, slot: ran.append(f"{one.name}{slot.at.hour}") or "")
    assert ran == ["z0", "a0", "z1", "z2", "a2"]


def test_a_failure_is_kept_and_the_others_go_on(store, monkeypatch):
    monkeypatch.setenv("VENDOR_TOKEN", "s3cr3t-token")
    jobs, waited, told = plan(job(retries=2, notify="team"), job("two")), [], []
    run_due(jobs, store, START, lambda *_: "")

    def run(one, slot):
        if one.name == "one":
            raise QuantlabError("403 for\ns3cr3t-token")
        return "made"

    def tell(one, slot):
        told.append((one.name, slot.state))
        raise DataError("team did not answer")

    ended = run_due(jobs, store, START + timedelta(hours=1), run, tell, lambda: waited.append(1))
    assert [(s.job, s.state, s.attempts) for s in ended] == [("one", "failed", 3), ("two", "done", 1)]
    assert ended[0].error == "QuantlabError: 403 for ***" and len(waited) == 2 and told == [("one", "failed")]
    run_due(jobs, store, START + timedelta(hours=1), run, tell)
    assert told == [("one", "failed")] and store.rows("one")[0].notice == "team did not answer"
    assert store.rows("one")[0].state == "failed"


def test_a_job_that_kills_its_process_does_not_do_so_for_ever(store):
    jobs, begun = plan(job(retries=1)), []
    run_due(jobs, store, START, lambda *_: "")

    def run(one, slot):
        begun.append(slot.repeated)
        raise Crash

    for _ in range(4):
        try:
            run_due(jobs, store, START + timedelta(hours=1), run)
        except Crash:
            pass
    assert begun == [0, 1] and store.rows()[0].state == "failed" and "ended in the middle" in store.rows()[0].error


@pytest.mark.parametrize(("how", "hours"), [("all", [0, 1, 2, 3]), ("last", [3]), ("none", [3])])
def test_catching_up(store, how, hours):
    jobs, ran = plan(job(catch_up=how)), []
    run_due(jobs, store, START, lambda *_: "")
    run_due(jobs, store, START + timedelta(hours=4, minutes=5), lambda one, slot: ran.append(slot.at.hour) or "")
    assert ran == hours and len(store.rows()) == 4
    assert [row.state for row in store.rows()].count("skipped") == 4 - len(hours)


def test_a_clock_set_back_and_a_changed_rule_repeat_nothing(store):
    ran, run = [], lambda one, slot: ran.append(slot.at) or ""
    for hours in (0, 3, 1, 3):
        run_due(plan(), store, START + timedelta(hours=hours), run)
    run_due(plan(job(when={"every": "30min"})), store, START + timedelta(hours=4), run)
    assert ran == [START + timedelta(hours=h) for h in (1, 2, 3, 3.5, 4)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs:\n- name: a\n  wen: {every: 1h}\n", "line 3: jobs.0.wen: .*did you mean when"),
        ("jobs:\n- name: A\n  when: {every: 1h}\n  steps: [report: {template: x}]\n", "line 2: jobs.0.name"),
        ("jobs:\n- name: a\n  when: {every: 7h}\n  steps: [report: {template: x}]\n", "line 3: .*divide a day"),
        ("jobs:\n- name: a\n  when: {every: 1h}\n  steps: [{}]\n", "line 4: .*one of refresh, report and paper"),
        ("jobz: []\n", "line 1: .*did you mean jobs"),
        ("jobs: [\n", "cannot be read"),
        ("", "line 1: the schedule"),
    ],
)
def test_what_is_no_schedule(tmp_path, text, said):
    (tmp_path / "jobs.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_schedule(tmp_path / "jobs.yaml")


def test_a_ledger_that_is_none(tmp_path):
    (tmp_path / "x").write_text("text " * 300)
    with pytest.raises(DataError, match="not a database"):
        SlotLedger(tmp_path / "x")


def test_a_clock_that_goes_back_brings_no_slot_of_before_the_job_was_seen(store):
    one = plan().jobs[0]
    for hours in (0, -5, 0.5, 1):
        notice_slots(store, one, START + timedelta(hours=hours))
    assert [slot.at for slot in store.rows()] == [START + timedelta(hours=1)]


def test_who_looks_at_old_rows_tells_nobody_again(store):
    told, jobs = [], plan(job(notify="desk"))
    notice_slots(store, jobs.jobs[0], START)
    run_due(jobs, store, START + timedelta(hours=1), lambda *given: "made")  # nobody is told yet
    old = store.rows()
    store.rows = lambda job=None: old  # as another scheduler read them a moment ago
    for _ in range(2):
        room._tell_ended(store, {"one": jobs.jobs[0]}, lambda one, slot: told.append(slot.at))
    assert old[0].notice == "due" and told == [START + timedelta(hours=1)]
