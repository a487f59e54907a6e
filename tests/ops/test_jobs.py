"""Jobs: each once, by whoever is alive; a worker that lost its lease writes nothing; nothing foreign is let in.

PostgreSQL and Redis: `apt-get install postgresql redis-server` runs those tests. Fake jobs lie in the module toy_jobs,
which is written beside the table: a job runs in a fresh process, and is imported there."""

import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, ReportError
from quantlab.core.ledger import Ledger
from quantlab.ops import jobs
from quantlab.ops.jobs import (
    JOB_STATES,
    JobError,
    JobTable,
    NoJobError,
    NoRequestError,
    Worker,
    check_job,
    run_job,
    wake_workers,
)
from quantlab.recipe.spec import Recipe
from quantlab.report import tracking
from quantlab.report.template import plain

TOYS = """
import json, os, sys, time
from pathlib import Path

def add(row, beat):
    return {"sum": row.overrides["a"] + row.overrides["b"], "nothing": float("nan")}

def linger(row, beat):
    "Leave one effect, however often it is begun, and take some time before and after it."
    time.sleep(row.overrides["before"])
    folder = Path(row.overrides["effects"].replace("|", "/"))
    with open(folder / f"begun-{row.id}", "a") as file:
        file.write(f"{row.attempts}\\n")
    try:
        with open(folder / f"effect-{row.id}", "x") as file:
            file.write(str(row.attempts))
    except FileExistsError:
        pass
    time.sleep(row.overrides["after"])
    return {"attempt": row.attempts}

def hang(row, beat):
    Path(row.overrides["effects"].replace("|", "/"), f"begun-{row.id}").write_text(str(os.getpid()))
    time.sleep(600)

def until_told(row, beat):
    "Go on as long as the job is ours, and say when it is not."
    folder = Path(row.overrides["effects"].replace("|", "/"))
    (folder / f"begun-{row.id}").write_text("")
    while beat():
        time.sleep(0.02)
    (folder / f"told-{row.id}").write_text("")
    time.sleep(600)

def talk(row, beat):
    print("a job may print")
    sys.stderr.write("and complain\\n")
    return {"words": ["\\u00fc", "\\ud83d\\ude00"], "big": "x" * 300_000}

def die(row, beat):
    os.kill(os.getpid(), 9)

def secret(row, beat):
    raise ValueError("cannot reach postgresql://ann:s3same@db/quant\\nand more\\x00")
"""
ME, OTHER = "a worker", "another worker"


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    "The module of fake jobs."
    folder = tmp_path_factory.mktemp("toys")
    (folder / "toy_jobs.py").write_text(TOYS)
    sys.path.append(str(folder))
    import toy_jobs

    yield toy_jobs
    sys.path.remove(str(folder))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    "Where a table may lie."
    return tmp_path / "jobs.sqlite" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def database(postgres_server):
    "An empty database of a real server."
    import psycopg

    told = dict(word.split("=") for word in postgres_server.split())
    name = f"jobs_{time.monotonic_ns()}"
    with psycopg.connect(postgres_server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    return f"postgresql://{told['user']}@{told['host']}:{told['port']}/{name}"


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory):
    "A Redis server of its own."
    pytest.importorskip("redis", reason="redis is not installed: pip install 'quantlab[bus]'")
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server here: apt-get install redis-server runs these tests")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]
    server = subprocess.Popen([*words, tmp_path_factory.mktemp("redis")], stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()


class Clock:
    "A clock that stands until it is moved."

    def __init__(self):
        self.at = datetime(2025, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.at.isoformat(timespec="microseconds")

    def move(self, seconds):
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


def ask(table, overrides=None, key="", who="ann"):
    return table.ask("run", "toy", overrides or {}, key, who)


def wait_for(what, seconds=90):
    "Wait until something is true."
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)
    return found


def at_once(function, processes):
    "Call a function with 0, 1, ... in as many processes, which begin together; return what they returned."
    fork = multiprocessing.get_context("fork")
    start, answers = fork.Barrier(processes), [fork.Pipe(duplex=False) for _ in range(processes)]

    def call(number):
        start.wait(30)
        answers[number][1].send(function(number))

    started = [fork.Process(target=call, args=(number,)) for number in range(processes)]
    for one in started:
        one.start()
    try:
        assert all(ours.poll(60) for ours, _ in answers), "a process said nothing"
        return [ours.recv() for ours, _ in answers]
    finally:
        for one in started:
            one.join(5)
            one.kill()


def in_thread(worker):
    "Let a worker work; return how to stop it and its thread."
    stop = threading.Event()
    thread = threading.Thread(target=worker.work, args=(stop,), daemon=True)
    thread.start()

    def end():
        stop.set()
        thread.join(30)
        assert not thread.is_alive()

    return end


class TestAsking:
    def test_the_same_request_under_one_key_is_one_job(self, place):
        table = JobTable(place)
        first = ask(table, {"b": 1, "a": [0.1, None, "ü"]}, "key")
        assert ask(table, {"a": [0.1, None, "ü"], "b": 1}, "key") == first == JobTable(place).row(first.id)
        for other in (("report", "toy", first.overrides), ("run", "toi", first.overrides), ("run", "toy", {"b": 1})):
            with pytest.raises(JobError, match="given to another request"):
                table.ask(*other, "key", "ann")
        assert table.counts() == dict.fromkeys(JOB_STATES, 0) | {"queued": 1}
        assert ask(table, first.overrides, "key", "bob").id != first.id, "the keys of two people are two"
        assert ask(table).id != ask(table).id, "no key, no memory"

    def test_many_processes_that_ask_at_once_make_one_job(self, place):
        JobTable(place)

        def same(_):
            return [ask(JobTable(place), {"a": 1}, f"key {n}").id for n in range(5)]

        asked = at_once(same, 4)
        assert asked == [asked[0]] * 4 and len(JobTable(place).rows()) == 5

    def test_many_processes_that_open_a_new_table_at_once(self, place):
        assert at_once(lambda _: JobTable(place).counts()["queued"], 6) == [0] * 6

    @pytest.mark.parametrize(
        "wrong",
        [
            dict(kind="order"), dict(kind=None), dict(name="x" * 101), dict(name="a\nb"), dict(name=5),
            dict(overrides={"a": float("nan")}), dict(overrides={"a": float("inf")}), dict(overrides={"a": {1, 2}}),
            dict(overrides={"a": "x" * 30_000}), dict(overrides={"a": b"bytes"}), dict(idempotency="k" * 201),
            dict(idempotency="a\0b"), dict(idempotency=7), dict(asked_by="ann\n"), dict(asked_by="x" * 101),
        ],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_request_is_refused(self, tmp_path, wrong):
        table = JobTable(tmp_path / "jobs.sqlite")
        good = dict(kind="run", name="toy", overrides={}, idempotency="k", asked_by="ann")
        with pytest.raises(NoRequestError):
            table.ask(**(good | wrong))
        assert table.rows() == []

    def test_numbers_come_back_to_the_last_digit(self, place):
        table, numbers = JobTable(place), [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 2**60 + 1, 1e22]
        row = ask(table, {"x": numbers})
        claimed = table.claim(ME, 30)
        assert claimed.overrides["x"] == numbers and str(claimed.overrides["x"][3]) == "-0.0"
        assert table.finish(row.id, ME, {"x": numbers, "none": float("inf")}).result == {"x": numbers, "none": None}

    def test_rows_are_newest_first_and_a_job_that_is_not_there_is_said(self, place):
        table = JobTable(place)
        asked = [ask(table).id for _ in range(5)]
        assert [row.id for row in table.rows()] == asked[::-1] and [row.id for row in table.rows(last=2)] == asked[
            :2:-1
        ]
        assert table.rows("done") == [] and len(table.rows("queued")) == 5
        for call in (table.row, lambda id: table.cancel(id, "ann")):
            with pytest.raises(NoJobError, match="there is no job"):
                call("'; DROP TABLE serve_jobs; --")
        with pytest.raises(NoRequestError, match="state is"):
            table.rows("lost")

    @pytest.mark.parametrize("text", ["mysql://ann@db/x", "sqlite:///x.sqlite", "http://db", "redis://x", "x://"])
    def test_only_two_databases(self, text):
        with pytest.raises(ConfigError):
            JobTable(text)

    def test_a_database_that_refuses_is_one_line_without_its_password(self, tmp_path):
        (tmp_path / "text").write_text("no database " * 100)
        with pytest.raises(DataError, match="refuses"):
            JobTable(tmp_path / "text")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(DataError) as refused:
                JobTable(f"postgresql://ann:s3same@127.0.0.1:{taken.getsockname()[1]}/x")
        assert "s3same" not in str(refused.value) and "\n" not in str(refused.value)


class TestHolding:
    def test_a_worker_that_lost_its_lease_writes_nothing(self, place, clock):
        table = JobTable(place, clock)
        row = ask(table)
        mine = table.claim(ME, 30)
        assert table.claim(OTHER, 30) is None
        clock.move(29)
        assert table.beat(row.id, ME, 30) and table.row(row.id).lease_until == jobs._later(clock(), 30)
        clock.move(30)
        theirs = table.claim(OTHER, 30)
        assert (theirs.id, theirs.attempts, theirs.worker) == (row.id, 2, OTHER)
        before = table.row(row.id)
        assert not table.beat(row.id, ME, 30) and not table.beat(row.id, ME, 30, mine.attempts)
        for write in (
            lambda: table.finish(row.id, ME, {"mine": 1}), lambda: table.fail(row.id, ME, "mine"),
            lambda: table.hand_back(row.id, ME, "mine"), lambda: table.hand_back(row.id, ME),
        ):  # fmt: skip
            with pytest.raises(JobError, match="held by another worker"):
                write()
        assert table.row(row.id) == before
        assert table.finish(row.id, OTHER, {"theirs": 1}, 2).result == {"theirs": 1}
        for write in (lambda: table.finish(row.id, OTHER, {"again": 1}), lambda: table.fail(row.id, OTHER, "x")):
            with pytest.raises(JobError, match="it is done"):
                write()

    def test_two_attempts_of_one_name_are_two(self, place, clock):
        table = JobTable(place, clock)
        row, first = ask(table), table.claim(ME, 30)
        clock.move(31)
        second = table.claim(ME, 30)
        assert not table.beat(row.id, ME, 30, first.attempts) and table.beat(row.id, ME, 30, second.attempts)
        with pytest.raises(JobError):
            table.finish(row.id, ME, {}, first.attempts)
        assert table.finish(row.id, ME, {}, second.attempts).state == "done"

    def test_a_job_that_kills_its_workers_fails(self, place, clock):
        table = JobTable(place, clock, most_attempts=2)
        row = ask(table)
        for attempt in (1, 2):
            assert table.claim(ME, 30).attempts == attempt
            clock.move(30)
        assert table.claim(ME, 30) is None
        ended = table.row(row.id)
        assert (ended.state, ended.attempts, ended.finished) == ("failed", 2, clock()) and "2 attempts" in ended.error
        assert "no more are allowed" in ended.error and ended.lease_until == ""

    def test_the_oldest_comes_first_and_what_was_handed_back_before_what_came_later(self, place, clock):
        table = JobTable(place, clock)
        first, second = ask(table), ask(table)
        assert table.claim(ME, 30).id == first.id
        assert table.hand_back(first.id, ME).attempts == 0
        assert [table.claim(ME, 30).id for _ in range(2)] == [first.id, second.id]

    def test_cancelling(self, place):
        table = JobTable(place)
        waits, runs, done = ask(table), ask(table), ask(table)
        assert table.cancel(waits.id, "bob").error == "cancelled by bob"
        assert table.claim(ME, 30).id == runs.id and table.claim(ME, 30).id == done.id
        table.finish(done.id, ME, {"x": 1})
        assert table.cancel(runs.id, "bob").state == "cancelled" == table.cancel(runs.id, "eve").state
        assert table.row(runs.id).error == "cancelled by bob"
        assert not table.beat(runs.id, ME, 30)
        with pytest.raises(JobError, match="it is cancelled"):
            table.finish(runs.id, ME, {"x": 1})
        with pytest.raises(JobError, match="only one that waits or runs"):
            table.cancel(done.id, "bob")
        assert table.claim(ME, 30) is None and table.row(done.id).result == {"x": 1}

    def test_an_error_is_one_line_that_any_database_takes(self, place):
        table = JobTable(place)
        row = ask(table)
        table.claim(ME, 30)
        said = table.fail(row.id, ME, "postgresql://ann:s3same@db\0\n\ud800 " + "x" * 9000).error
        assert "s3same" not in said and len(said) <= 1000 and said.isprintable()

    def test_each_of_200_jobs_is_claimed_once_by_eight_processes(self, place):
        table = JobTable(place)
        asked = {ask(table, {"n": n}).id for n in range(200)}

        def claims(number):
            mine, me = JobTable(place), f"w{number}"
            found = []
            while (row := mine.claim(me, 60)) is not None:
                found.append((row.id, row.attempts, row.worker))
            return found

        claimed = [one for found in at_once(claims, 8) for one in found]
        assert Counter(id for id, *_ in claimed) == dict.fromkeys(asked, 1) and {n for _, n, _ in claimed} == {1}
        by = {id: worker for id, _, worker in claimed}
        assert {row.id: row.worker for row in table.rows(last=300)} == by
        assert table.counts()["running"] == 200 and len(set(by.values())) > 1, "the work was shared"


class JobMachine(RuleBasedStateMachine):
    "The table against a dict, by a clock that is moved."

    known, held = Bundle("known"), Bundle("held")

    def __init__(self):
        super().__init__()
        self.folder = Path(os.environ["JOBS_TEST_FOLDER"])
        self.file = self.folder / f"{time.monotonic_ns()}.sqlite"
        self.clock = Clock()
        self.table = JobTable(self.file, self.clock, most_attempts=2)
        self.model, self.keys = {}, {}

    def teardown(self):
        self.file.unlink()

    @rule(target=known, key=st.sampled_from(["", "a", "b"]), n=st.integers(0, 1), who=st.sampled_from(["ann", "bob"]))
    def ask(self, key, n, who):
        before = self.keys.get((who, key)) if key else None
        if before is not None and self.model[before]["n"] != n:
            with pytest.raises(JobError):
                ask(self.table, {"n": n}, key, who)
            return multiple()
        row = ask(self.table, {"n": n}, key, who)
        if before is not None:
            assert row.id == before
            return multiple()
        assert row.id not in self.model
        self.model[row.id] = {"state": "queued", "attempts": 0, "worker": "", "until": None, "n": n, "result": {}}
        self.keys[(who, key)] = row.id
        return row.id

    @rule(seconds=st.integers(1, 20))
    def move(self, seconds):
        self.clock.move(seconds)

    @rule(target=held, worker=st.sampled_from("uvw"), seconds=st.integers(1, 30))
    def claim(self, worker, seconds):
        for one in self.model.values():
            if one["state"] == "running" and one["until"] <= self.clock.at and one["attempts"] == 2:
                one.update(state="failed")
        free = [
            id for id, one in self.model.items()
            if one["state"] == "queued" or (one["state"] == "running" and one["until"] <= self.clock.at)
        ]  # fmt: skip
        row = self.table.claim(worker, seconds)
        if not free:
            assert row is None
            return multiple()
        one = self.model[free[0]]
        one.update(state="running", worker=worker, until=self.clock.at + timedelta(seconds=seconds))
        one["attempts"] += 1
        assert (row.id, row.attempts, row.worker) == (free[0], one["attempts"], worker)
        return row.id, worker, row.attempts

    def holds(self, claim):
        id, worker, attempt = claim
        one = self.model[id]
        return (one["state"], one["worker"], one["attempts"]) == ("running", worker, attempt)

    @rule(claim=held, seconds=st.integers(1, 30))
    def beat(self, claim, seconds):
        id, worker, attempt = claim
        assert self.table.beat(id, worker, seconds, attempt) == self.holds(claim)
        if self.holds(claim):
            self.model[id]["until"] = self.clock.at + timedelta(seconds=seconds)

    def end(self, claim, call, **change):
        if not self.holds(claim):
            with pytest.raises(JobError):
                call()
            return
        self.model[claim[0]].update(change)
        call()

    @rule(claim=held, x=st.floats(allow_nan=False, allow_infinity=False))
    def finish(self, claim, x):
        id, worker, attempt = claim
        self.end(claim, lambda: self.table.finish(id, worker, {"x": x}, attempt), state="done", result={"x": x})

    @rule(claim=held)
    def fail(self, claim):
        id, worker, attempt = claim
        self.end(claim, lambda: self.table.fail(id, worker, "no", attempt), state="failed")

    @rule(claim=held, why=st.sampled_from(["", "killed"]))
    def hand_back(self, claim, why):
        id, worker, attempt = claim
        dead = why and attempt == 2
        change = {"state": "failed" if dead else "queued", "attempts": attempt - (not why)}
        self.end(claim, lambda: self.table.hand_back(id, worker, why, attempt), **change)

    @rule(id=known)
    def cancel(self, id):
        one = self.model[id]
        if one["state"] in ("done", "failed"):
            with pytest.raises(JobError):
                self.table.cancel(id, "ann")
            return
        self.table.cancel(id, "ann")
        one.update(state="cancelled")

    @invariant()
    def same(self):
        rows = {row.id: row for row in self.table.rows(last=1000)}
        assert set(rows) == set(self.model)
        for id, one in self.model.items():
            row = rows[id]
            assert (row.state, row.attempts, row.result) == (one["state"], one["attempts"], one["result"])
            assert bool(row.lease_until) == (row.state == "running")
            assert bool(row.finished) == (row.state in ("done", "failed", "cancelled"))
        assert self.table.counts() == {s: sum(one["state"] == s for one in self.model.values()) for s in JOB_STATES}


def test_the_table_is_a_dict_with_leases(tmp_path, monkeypatch):
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("JOBS_TEST_FOLDER", str(tmp_path))
    run_state_machine_as_test(JobMachine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))


def effects(tmp_path):
    "Where a fake job leaves its effect; a request takes no slashes."
    return str(tmp_path).replace("/", "|")


class TestWorker:
    def test_it_does_what_is_free_and_writes_how_it_ended(self, place, toys):
        table = JobTable(place)
        good, bad = ask(table, {"a": 1, "b": 0.2}), ask(table, {"a": 1})
        told = []
        assert Worker(table, runner=toys.add, tell=told.append).work(once=True) == 2
        done, failed = table.row(good.id), table.row(bad.id)
        assert (done.state, done.result) == ("done", {"sum": 1.2, "nothing": None})
        assert (failed.state, failed.error) == ("failed", "KeyError: 'b'")
        assert done.attempts == failed.attempts == 1 and done.lease_until == ""
        assert done.created < done.started < done.finished and len(told) == 4

    def test_what_a_job_prints_is_no_answer_and_a_long_answer_comes_whole(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table)
        Worker(table, runner=toys.talk).work(once=True)
        assert table.row(row.id).result["words"] == ["ü", "😀"] and len(table.row(row.id).result["big"]) == 300_000

    def test_an_error_tells_no_password(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table)
        Worker(table, runner=toys.secret).work(once=True)
        assert "s3same" not in table.row(row.id).error and table.row(row.id).error.isprintable()

    def test_a_job_that_kills_its_process_does_not_kill_its_worker(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        bad, good = ask(table), ask(table)
        worker = Worker(table, runner=toys.die)
        assert worker.work(once=True) == 2, "both have failed"
        row = table.row(bad.id)
        assert (row.state, row.attempts) == ("failed", 3) and "exit code -9" in row.error and table.row(good.id).error

    def test_a_job_that_hangs_is_ended(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table, {"effects": effects(tmp_path)})
        assert Worker(table, runner=toys.hang, limit_seconds=0.7).work(once=True) == 1
        pid = int((tmp_path / f"begun-{row.id}").read_text())
        assert table.row(row.id).state == "failed" and "longer than 0.7 seconds" in table.row(row.id).error
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_a_job_that_outlives_its_lease_is_kept_by_its_beats(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table, {"effects": effects(tmp_path), "before": 2, "after": 0})
        end = in_thread(Worker(table, runner=toys.linger, lease_seconds=1))
        wait_for(lambda: table.row(row.id).state == "running")
        while table.row(row.id).state != "done":
            assert table.claim("thief", 30) is None
            time.sleep(0.02)
        end()
        assert table.row(row.id).attempts == 1

    def test_a_cancelled_job_is_ended(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table, {"effects": effects(tmp_path)})
        end = in_thread(Worker(table, runner=toys.hang, lease_seconds=1))
        pid = int(
            wait_for(lambda: (tmp_path / f"begun-{row.id}").exists() and (tmp_path / f"begun-{row.id}").read_text())
        )
        table.cancel(row.id, "ann")

        def gone():
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        wait_for(gone, 10)
        end()
        assert (table.row(row.id).state, table.row(row.id).result) == ("cancelled", {})

    def test_the_work_itself_can_ask_whether_the_job_is_its_own(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        row = ask(table, {"effects": effects(tmp_path)})
        end = in_thread(Worker(table, runner=toys.until_told, lease_seconds=60))  # its own beats come late
        wait_for((tmp_path / f"begun-{row.id}").exists)
        table.cancel(row.id, "ann")
        wait_for((tmp_path / f"told-{row.id}").exists)
        end()

    def test_a_worker_that_is_to_stop_finishes_or_hands_back(self, tmp_path, toys):
        table = JobTable(tmp_path / "jobs.sqlite")
        for before, patience, state in ((0.5, 20, "done"), (60, 0.2, "queued")):
            row = ask(table, {"effects": effects(tmp_path), "before": before, "after": 0})
            end = in_thread(Worker(table, runner=toys.linger, drain_seconds=patience))
            wait_for(lambda row=row: table.row(row.id).state == "running")
            end()
            assert (table.row(row.id).state, table.row(row.id).attempts) == (state, int(state == "done"))

    def test_a_function_without_a_name_is_refused(self, tmp_path):
        table = JobTable(tmp_path / "jobs.sqlite")
        ask(table)
        with pytest.raises(ConfigError, match="cannot be imported"):
            Worker(table, runner=lambda row, beat: {}).work(once=True)

    def test_a_database_that_is_away_is_waited_for(self, tmp_path, toys, monkeypatch):
        table, told = JobTable(tmp_path / "jobs.sqlite"), []
        row, claim, times = ask(table, {"a": 1, "b": 2}), table.claim, iter(range(2))

        def away(*given):
            if next(times, None) is not None:
                raise DataError("the table of jobs refuses: away")
            return claim(*given)

        monkeypatch.setattr(table, "claim", away)
        end = in_thread(Worker(table, runner=toys.add, poll_seconds=0.05, tell=told.append))
        wait_for(lambda: table.row(row.id).state == "done")
        end()
        assert told[:2] == ["the table of jobs refuses: away"] * 2


WORKER = """
import sys
sys.path.append(sys.argv[2])
import toy_jobs
from quantlab.ops.jobs import JobTable, Worker, stop_on_signals
told = [float(word) for word in sys.argv[4:]]
table = JobTable(sys.argv[1], most_attempts=int(told[1]))
Worker(table, runner=getattr(toy_jobs, sys.argv[3]), lease_seconds=told[0], poll_seconds=0.1).work(stop_on_signals())
"""


def start_worker(place, toys, runner="linger", lease=1.0, most=1000):
    folder = str(Path(toys.__file__).parent)
    words = [sys.executable, "-c", WORKER, str(place), folder, runner, str(lease), str(most)]
    return subprocess.Popen(words, cwd=root())


def test_sigterm_drains_a_process(tmp_path, toys):
    table = JobTable(tmp_path / "jobs.sqlite")
    row = ask(table, {"effects": effects(tmp_path), "before": 1, "after": 0})
    worker = start_worker(table.place, toys)
    wait_for(lambda: table.row(row.id).state == "running")
    worker.terminate()
    assert worker.wait(20) == 0 and table.row(row.id).state == "done" and table.row(row.id).attempts == 1


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_job_ends_with_its_worker(tmp_path, toys):
    table = JobTable(tmp_path / "jobs.sqlite")
    row = ask(table, {"effects": effects(tmp_path)})
    worker = start_worker(table.place, toys, "hang")
    begun = tmp_path / f"begun-{row.id}"
    pid = int(wait_for(lambda: begun.exists() and begun.read_text()))
    worker.kill()
    worker.wait()
    wait_for(lambda: not alive(pid))


def kill_at_random(place, tmp_path, toys, kills, jobs_asked):
    "Kill workers with signal 9 while jobs run; each job is done, with one effect, and its result is one attempt's."
    table, dice = JobTable(place, most_attempts=1000), random.Random(11)
    told = {"effects": effects(tmp_path), "before": 0.1, "after": 0.2}
    rows = [ask(table, told) for _ in range(jobs_asked)]
    workers, killed = [start_worker(place, toys) for _ in range(2)], 0
    try:
        while killed < kills:
            time.sleep(dice.uniform(0.3, 1.2))
            i = dice.randrange(2)
            workers[i].kill()
            workers[i].wait()
            killed += 1
            workers[i] = start_worker(place, toys)
            if table.counts()["queued"] == 0:  # a kill is to meet a job
                rows.append(ask(table, told))
        wait_for(lambda: table.counts()["done"] == len(rows), 60)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for row in (table.row(row.id) for row in rows):
        begun = [int(n) for n in (tmp_path / f"begun-{row.id}").read_text().split()]
        assert (tmp_path / f"effect-{row.id}").exists() and len(begun) == len(set(begun)), "an attempt began twice"
        assert row.result["attempt"] == row.attempts, "the result is that of the attempt that holds the job"
    assert len(list(tmp_path.glob("effect-*"))) == len(rows)
    return sum(table.row(row.id).attempts > 1 for row in rows)


def test_no_job_is_lost_and_none_done_twice_when_workers_are_killed(tmp_path, toys):
    kill_at_random(tmp_path / "jobs.sqlite", tmp_path, toys, 5, 4)


@pytest.mark.slow
def test_fifty_kills(place, tmp_path, toys):
    assert kill_at_random(place, tmp_path, toys, 50, 20) > 5, "the kills met jobs"


class TestWaking:
    def rung(self, table, wake, toys):
        "Return the seconds that a job waits for a worker that looks once an hour."
        end = in_thread(Worker(table, wake, runner=toys.add, poll_seconds=3600))
        time.sleep(0.3)  # it has looked, and waits
        row, began = ask(table, {"a": 1, "b": 2}), time.monotonic()
        assert wake_workers(wake)
        wait_for(lambda: table.row(row.id).state != "queued")
        took = time.monotonic() - began
        wait_for(lambda: table.row(row.id).state == "done")
        end()
        return took

    def test_a_file_wakes(self, tmp_path, toys):
        assert self.rung(JobTable(tmp_path / "jobs.sqlite"), tmp_path / "wake.sqlite", toys) < 5

    def test_redis_wakes(self, tmp_path, toys, redis_address):
        assert self.rung(JobTable(tmp_path / "jobs.sqlite"), redis_address, toys) < 5

    @pytest.mark.parametrize("wake", ["", "lost", "redis://127.0.0.1:1/0"])
    def test_every_bell_is_lost_and_every_job_is_done(self, tmp_path, toys, monkeypatch, wake):
        if wake.startswith("redis"):
            pytest.importorskip("redis", reason="redis is not installed: pip install 'quantlab[bus]'")
        wake = str(tmp_path / "wake.sqlite") if wake == "lost" else wake
        if wake.endswith(".sqlite"):
            monkeypatch.setattr(jobs._bell(wake), "dequeue", lambda: None)
        table = JobTable(tmp_path / "jobs.sqlite")
        end = in_thread(Worker(table, wake, runner=toys.add, poll_seconds=0.1))
        asked = [ask(table, {"a": n, "b": n}) for n in range(3)]
        rung = [wake_workers(wake) for _ in asked]
        assert rung == [wake.endswith(".sqlite")] * 3
        wait_for(lambda: table.counts()["done"] == 3)
        end()
        assert [table.row(row.id).result["sum"] for row in asked] == [0, 2, 4]

    def test_a_bell_that_nobody_hears_does_not_grow_for_ever(self, tmp_path):
        wake = str(tmp_path / "wake.sqlite")
        bell = jobs._bell(wake)
        for _ in range(1005):
            bell.enqueue(b"look") if bell.queue_size() < 999 else wake_workers(wake)
        assert bell.queue_size() == 1000

    def test_nothing_that_lies_in_the_queue_is_run(self, tmp_path, toys):
        import pickle

        class Trap:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "sprung"),))

        wake, table = str(tmp_path / "wake.sqlite"), JobTable(tmp_path / "jobs.sqlite")
        jobs._bell(wake).enqueue(pickle.dumps(Trap()))
        end = in_thread(Worker(table, wake, runner=toys.add, poll_seconds=3600))
        wait_for(lambda: jobs._bell(wake).queue_size() == 0)
        end()
        assert not (tmp_path / "sprung").exists()


HOSTILE = [
    "", " ", ".", "..", "/", "\\", "tearsheet/", "/tearsheet", "./tearsheet", "../tearsheet", "..\\tearsheet",
    "reports/tearsheet", "tearsheet.ipynb", "tearsheet.yaml", "momentum.yml", "small.py", "small.json", ".env", "~ann",
    "/etc/passwd", "C:\\x", "file:///etc/passwd", "http://x/y", "s3://x", "lake:x", "os:system", "a:b", "tearsheet\n",
    "\ntearsheet", "tear\0sheet", "tear\x1bsheet", "tear\u202esheet", "tearsheet\u200b", "t\u00ebarsheet", "x" * 101,
    "x" * 10_000, "a b", "a;b", "a'b", 'a"b', "a|b", "$(id)", "`id`", "%2e%2e", "name: small\ndata: {}", "{}", "-x",
    "__class__", None, 7, ["tearsheet"], {"name": "x"}, b"tearsheet", True,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:30])
def test_a_hostile_name_is_refused(name):
    assert len(HOSTILE) >= 50
    for kind in jobs.JOB_KINDS:
        with pytest.raises(ConfigError, match="name is ") as refused:
            check_job(kind, name, {})
        assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


@pytest.mark.parametrize(
    "overrides",
    [
        {"data": "sample"}, {"data": "/etc/passwd"}, {"overrides": "data.source=/etc/passwd"},
        {"predictions": "x.parquet"}, {"recipe": "mine/x.yaml"}, {"recipe": "../x"}, {"recipe": ["momentum"]},
        {"model": "os:system"}, {"study": "mine"}, {"feature_set": "os:system"}, {"feature_set": "base, os:system"},
        {"universe": "../../x"}, {"universe": "x.csv"}, {"top_k": 2.5}, {"top_k": True}, {"top_k": "many"},
        {"top_k": [1]}, {"topk": 3}, {"draws": 10**30}, {"start": "a\0b"}, {"max_weight": float("nan")},
        {"max_weight": "NaN"}, {"max_weight": float("inf")}, {"top_k": {"a": 1}}, {"universe": "A," * 1000}, {7: 1},
        {"x" * 200: 1}, {f"x{n}": 1 for n in range(31)}, {"gate": "perhaps"},
    ],
    ids=lambda asked: repr(asked)[:40],
)  # fmt: skip
def test_what_a_report_is_not_asked_from_outside(overrides):
    with pytest.raises(ConfigError) as refused:
        check_job("report", "tearsheet", overrides)
    assert len(str(refused.value)) < 800 and str(refused.value).isprintable()


def test_parameters_have_the_types_that_the_template_declares():
    asked = {"top_k": "20", "max_weight": "0.05", "gate": "true", "universe": "AAPL, XOM", "end": "2015-12-31"}
    assert check_job("report", "tearsheet", asked | {"recipe": "momentum", "cash": 5}) == {
        "top_k": 20, "max_weight": 0.05, "gate": True, "universe": "AAPL, XOM", "end": "2015-12-31",
        "recipe": "momentum", "cash": 5.0,
    }  # fmt: skip
    assert check_job("report", "risk", {"symbols": "AAPL, KO"}) == {"symbols": ["AAPL", "KO"]}
    with pytest.raises(ConfigError, match="no template 'tearshet'"):
        check_job("report", "tearshet", {})
    with pytest.raises(ConfigError, match="kind is 'order'"):
        check_job("order", "tearsheet", {})


def test_a_worker_checks_what_lies_in_the_table(tmp_path):
    "Whoever can write into the database has not been asked anything yet."
    table = JobTable(tmp_path / "jobs.sqlite")
    table.ask("report", "../tearsheet", {}, "", "ann")
    table.ask("report", "tearsheet", {"predictions": "/etc/passwd"}, "", "ann")
    for match in ("name is ", "predictions is "):
        with pytest.raises(ConfigError, match=match):
            run_job(table.claim(ME, 30), lambda: True)


PARAMETERS = 'span: int = 21  # sessions\nnote: str = ""  # said on the page'
ANSWER = """
from quantlab.report.template import emit

emit({"span": span}, headline=["span"])
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    "A workspace with one small template, and a ledger of its own."
    body = [
        {
            "cell_type": "code",
            "metadata": {"tags": tags},
            "source": text,
            "outputs": [],
            "execution_count": None,
            "id": i,
        }
        for tags, text, i in ((["parameters"], PARAMETERS, "a"), ([], ANSWER, "b"))
    ]
    (tmp_path / "reports").mkdir()
    page = {"cells": body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "reports" / "tiny.ipynb").write_text(json.dumps(page))
    for name, file in {
        "TEMPLATES": "reports", "RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / file))
    return tmp_path


def test_a_real_report_is_made_once_however_often_its_job_is_begun(workspace):
    "The second attempt is that of a worker whose first one was killed before it could say that it was done."
    table = JobTable(workspace / "jobs.sqlite")
    row = table.ask("report", "tiny", check_job("report", "tiny", {"span": "5"}), "", "ann")
    assert Worker(table, lease_seconds=60).work(once=True) == 1
    done = table.row(row.id)
    assert done.state == "done", done.error
    folder = workspace / "runs" / done.result["run"]
    assert done.result["headline"] == {"span": 5} and (folder / "report.html").is_file()
    again = run_job(done, lambda: True)
    assert again == done.result | {"there": True} and not done.result["there"]
    manifest = json.loads((folder / "manifest.json").read_text())  # a kill before the runner wrote what went in
    (folder / "manifest.json").write_text(json.dumps({n: v for n, v in manifest.items() if n != "inputs"}))
    assert run_job(done, lambda: True)["run"] == done.result["run"]
    assert len(list((workspace / "runs").glob("tiny-*"))) == 1
    assert (Ledger(workspace / "ledger.sqlite").rows()["kind"] == "run").sum() == 1
    with pytest.raises(JobError, match="writes nothing"):
        run_job(done._replace(overrides={"span": 6}), lambda: False)
    assert len(list((workspace / "runs").glob("*"))) == 1


SYMBOLS = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO"
SMALL = Recipe().replace(
    name="small", data__universe=SYMBOLS, data__end="2012-12-31", features__use=["rev_21"], model__kind="feature",
    model__column="rev_21", policy__top_k=4, policy__buffer=2, policy__rebalance=10, study="jobs",
)  # fmt: skip


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    "A registry that holds a small recipe, and a ledger; both as environment variables."
    if not tracking.available():
        pytest.skip("mlflow is not installed")
    from quantlab.ops.registry import register_recipe
    from quantlab.recipe.run import run

    folder = tmp_path_factory.mktemp("registered")
    ledger = Ledger(folder / "ledger.sqlite")
    register_recipe(run(SMALL, ledger=ledger), folder / "mlflow.sqlite", ledger)
    return folder


@pytest.fixture
def registry_here(registered, monkeypatch):
    for name in ("ledger", "mlflow"):
        setting = "TRACKING" if name == "mlflow" else "LEDGER"
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{setting}", str(registered / f"{name}.sqlite"))
    return Ledger(registered / "ledger.sqlite")


def claimed(tmp_path, kind, overrides, name="small"):
    table = JobTable(tmp_path / "jobs.sqlite")
    table.ask(kind, name, check_job(kind, name, overrides), "", "ann")
    return table.claim(ME, 60)


def test_a_real_recipe_leaves_one_trial_however_often_its_job_is_begun(registry_here, tmp_path):
    from quantlab.recipe.run import run

    row, before = claimed(tmp_path, "backtest", {"policy__top_k": "3"}), len(registry_here.rows())
    assert row.overrides == {"policy.top_k": 3}
    first, again = (plain(run_job(row, lambda: True)) for _ in range(2))
    trials = registry_here.rows().iloc[before:]
    assert first == again and sorted(trials["study"].str.rpartition("/")[2]) == ["excess", "strategy"]
    by_hand = run(SMALL.replace("policy.top_k", 3), record=False, ledger=registry_here)
    assert first["key"] == by_hand.key == set(trials["key"]).pop()
    back = json.loads(jobs._result_json(first))["account"]
    for name in ("equity", "cash"):
        assert back[name] == getattr(by_hand.account, name).tolist(), "to the last digit"
    assert back["dates"] == [day.isoformat() for day in by_hand.account.equity.index]
    assert back["positions"]["shares"] == by_hand.account.positions["shares"].tolist()
    short = plain(run_job(row._replace(kind="run"), lambda: True))
    assert short == {name: value for name, value in first.items() if name != "account"}
    assert short["figures"]["strategy"]["sharpe"] == by_hand.evidence.summaries["strategy"]["value"]["sharpe"]
    with pytest.raises(JobError, match="writes nothing"):
        run_job(row._replace(overrides={"policy.top_k": 5}), lambda: False)
    assert len(registry_here.rows()) == before + 2


def test_a_real_search_goes_on_where_it_was(registry_here, tmp_path):
    before = len(registry_here.rows())
    row = claimed(
        tmp_path, "search", {"vary": {"policy.top_k": [2, 6], "policy.buffer": [0, 1]}, "costs.slippage_bps": 6}
    )
    found, beats = None, iter([True])
    with pytest.raises(JobError, match="writes nothing"):  # lost after the first members
        run_job(row, lambda: next(beats, False))
    kept = len(registry_here.rows()) - before
    assert 0 < kept < 8
    found = run_job(row, lambda: True)
    assert found["ran"] == 4 - kept // 2 and len(registry_here.rows()) == before + 8
    again = run_job(row, lambda: True)
    assert again["ran"] == 0 and again["members"] == found["members"] and again["key"] == found["key"]
    assert len(registry_here.rows()) == before + 8 and json.loads(jobs._result_json(found))["best"]["policy"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"data.source": "sample"}, {"data__source": "/etc/passwd"}, {"data": {"source": "x"}}, {"name": "other"},
        {"study": "mine"}, {"title": "x"}, {"model.kind": "os:system"}, {"features.use": ["os:system"]},
        {"policy.kind": "os:system"}, {"signals.experts": ["os:system"]}, {"fill": "os:system"}, {"policy.top_k": 0},
        {"policy.top_k": 2.5}, {"policy.top_k": "x"}, {"policy.topk": 3}, {"policy": {"kind": "os:system"}},
        {"model": {"kind": "qlib", "name": "MLP"}}, {"model.kind": "qlib", "model.name": "MLP"},
        {"policy.top_k": 3, "policy__top_k": 3}, {"__class__": 1}, {"policy.__class__": 1}, {"": 1}, {"a.b.c.d": 1},
        {"features.use": "[" * 900}, {"data.universe": "../x"}, {"data": "x"}, {"policy": {"top_k": 5}}, {"costs": 1},
    ],
    ids=lambda asked: repr(asked)[:40],
)  # fmt: skip
def test_what_a_recipe_is_not_asked_from_outside(registry_here, overrides):
    for kind, asked in (("run", overrides), ("search", overrides | {"vary": {"policy.buffer": [1]}})):
        with pytest.raises(ConfigError) as refused:
            check_job(kind, "small", asked)
        assert len(str(refused.value)) < 1100


@pytest.mark.parametrize(
    "told",
    [
        {}, {"vary": {}}, {"vary": []}, {"vary": {"policy.top_k": 3}}, {"vary": {"data.source": ["x"]}},
        {"vary": {"model.kind": ["os:system"]}}, {"vary": {"name": ["x"]}}, {"vary": {"study": ["x"]}},
        {"vary": {"policy.top_k": {"low": 1, "high": 10**9, "step": 1}}}, {"vary": {"policy.top_k": {"low": 1}}},
        {"vary": {"costs.impact": {"low": 0, "high": 1, "points": 10**9}}},
        {"vary": {"policy.top_k": list(range(999))}},
        {"vary": {"policy.top_k": list(range(1, 100)), "policy.buffer": [0, 1, 2]}}, {"trials": 10**6},
        {"vary": {"policy.top_k": [3]}, "trials": 201}, {"vary": {"policy.top_k": [3]}, "trials": "9"},
        {"vary": {"policy.top_k": [3]}, "method": "all"}, {"vary": {"policy.top_k": [3]}, "folder": "x"},
    ],
    ids=lambda asked: repr(asked)[:40],
)  # fmt: skip
def test_what_a_search_is_not_asked(registry_here, told):
    with pytest.raises(ConfigError):
        check_job("search", "small", told)


def test_a_recipe_that_was_never_registered_is_no_job(registry_here):
    for kind in ("run", "backtest", "search"):
        with pytest.raises(ConfigError, match="no recipe 'momentum' is registered"):
            check_job(kind, "momentum", {})


def test_a_page_that_was_changed_in_the_registry_is_not_run(registry_here, tmp_path):
    version = jobs.registered_page("small")[0]
    page = tracking.artifact(version.run_id, "recipe.yaml", Path(os.environ["QUANTLAB_RESEARCH_TRACKING"]))
    text, row = page.read_text(), claimed(tmp_path, "run", {})
    try:
        page.write_text(text.replace("top_k: 4", "top_k: 5"))
        with pytest.raises(ReportError, match="have changed since"):
            run_job(row, lambda: True)
    finally:
        page.write_text(text)
