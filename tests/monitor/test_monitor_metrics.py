"Figures for Prometheus: read from real stores, none from what is absent, torn files by name, no secret in a label."

import json
import math
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger
from quantlab.data.sample import sample_bars
from quantlab.data.store import Lake
from quantlab.execution.kill_switch import KillSwitch
from quantlab.execution.paper_ledger import DayRecord, PaperLedger
from quantlab.execution.store import OrderStore
from quantlab.monitor.drift import DriftTest
from quantlab.monitor.metrics import (
    BATCH_METRICS,
    SERVER_METRICS,
    MetricStores,
    Reading,
    batch_readings,
    ledger_readings,
    metrics_text,
    read_metrics,
    server_metrics,
    sessions_behind,
    slot_readings,
    trader_readings,
    write_metrics,
)
from quantlab.portfolio.limits import Limits
from quantlab.risk.limits import Snapshot
from quantlab.runs.schedule import Job, Schedule, SlotLedger, notice_slots, run_due

NOON = datetime(2025, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def valued(readings):
    "Return readings by name and labels."
    return {(one.name.removeprefix("quantlab_"), *one.labels.values()): one.value for one in readings}


def fail(job, slot):
    raise OSError("the vendor does not answer")


@pytest.fixture
def stores(tmp_path):
    "Every store, with a little in each."
    plan = Schedule(jobs=[Job(name="close", when={"every": "1h"}, steps=[{"report": {"template": "x"}}], retries=0)])
    slots = SlotLedger(tmp_path / "slots.sqlite")
    notice_slots(slots, plan.jobs[0], NOON)
    run_due(plan, slots, NOON + HOUR, lambda job, slot: "")
    run_due(plan, slots, NOON + 2 * HOUR, fail)
    Lake(tmp_path / "lake").write("us", "1d", sample_bars(["AAPL"], "2023-12-01"))
    Ledger(tmp_path / "ledger.sqlite").record("run", "abc", "a study", {})
    run = tmp_path / "runs" / "tearsheet-20251124T160000Z-0123abcd"
    run.mkdir(parents=True)
    manifest = {"template": "tearsheet", "started": "2025-11-24T16:00:00Z", "parameters": {}, "headline": [],
                "data_hash": None, "code": {"sources": "0"}, "timings": {"total_s": 7.5}}  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "metrics.json").write_text("{}")
    begin_trader(tmp_path / "paper" / "momentum")
    return MetricStores(slots.file, run.parent, tmp_path / "lake", tmp_path / "ledger.sqlite", tmp_path)


def begin_trader(home, book='{"cash": "3000", "shares": {"KO": "100"}}', equities=(10_000.0,), **terms):
    ledger = PaperLedger(home)
    said = {"strategy": "momentum", "aside": "0", "recipe": {"limits": {"kill_drawdown": 0.2}}}
    ledger.begin(said | terms, "2025-11-21T20:00:00+00:00")
    day = DayRecord(
        "2025-11-21", "2025-11-24T14:30:00+00:00", ledger.head(), True, {"KO": "100"}, {"KO": "70"}, [], {}, "0"
    )
    ledger.add(day, "2025-11-21T21:30:00+00:00")
    store = OrderStore(home / "trader" / "orders.sqlite")
    if book:
        store.set_fact("venue.book", book)
    switch = KillSwitch(store, Limits(kill_drawdown=0.5, intraday_loss=None))
    for equity in equities:
        switch.look(Snapshot(pd.Timestamp("2025-11-24T15:00Z"), equity, [], *[np.zeros(0)] * 3))
    store.close()
    return switch


def test_every_store_is_told(stores):
    found = valued(batch_readings(NOON + 2 * HOUR, stores, feeds={"us": "XNYS"}))
    assert found["written_timestamp_seconds",] == (NOON + 2 * HOUR).timestamp()
    assert [found["store_readable", one] for one in ("schedule", "runs", "lake", "ledger", "paper momentum")] == [1] * 5
    assert found["slots", "close", "done"] == found["slots", "close", "failed"] == 1
    assert found["job_last_failed", "close"] == 1 and found["job_last_success_timestamp_seconds", "close"] > 0
    assert found["job_last_due_timestamp_seconds", "close"] == (NOON + 2 * HOUR).timestamp()
    assert (
        found["report_runs", "tearsheet", "finished"] == 1 and found["report_last_duration_seconds", "tearsheet"] == 7.5
    )
    assert found["dataset_rows", "us", "1d"] == 20 and found["dataset_behind_sessions", "us", "1d"] > 400
    last = datetime(2023, 12, 29, tzinfo=UTC).timestamp()
    assert found["dataset_last_session_timestamp_seconds", "us", "1d"] == last
    assert found["ledger_rows", "run"] == 1
    assert (
        found["trader_equity", "momentum", "paper"] == 10_000 and found["trader_open_orders", "momentum", "paper"] == 0
    )
    assert found["trader_gross_ratio", "momentum", "paper"] == 0.7


def test_of_nothing_only_the_moment_is_told_and_nothing_is_made(tmp_path):
    nothing = MetricStores(*[tmp_path / name for name in "abcde"])
    assert [one.name for one in batch_readings(NOON, nothing)] == ["quantlab_written_timestamp_seconds"]
    assert list(tmp_path.iterdir()) == []


def test_empty_stores_are_readable_and_say_nothing(tmp_path):
    SlotLedger(tmp_path / "slots.sqlite")
    (tmp_path / "runs").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "ledger.sqlite").touch()
    stores = MetricStores(
        tmp_path / "slots.sqlite", tmp_path / "runs", tmp_path / "lake", tmp_path / "ledger.sqlite", tmp_path
    )
    found = valued(batch_readings(NOON, stores))
    assert len(found) == 5 and all(found["store_readable", one] == 1 for one in ("schedule", "runs", "lake", "ledger"))


@pytest.mark.parametrize(
    ("file", "store"),
    [
        ("slots.sqlite", "schedule"),
        ("ledger.sqlite", "ledger"),
        ("lake/dataset=us/manifest.json", "lake us"),
        ("paper/momentum/trader/orders.sqlite", "paper momentum"),
    ],
)
def test_a_torn_store_is_named_and_the_others_are_told(stores, tmp_path, file, store):
    whole = valued(batch_readings(NOON, stores))
    for part in (tmp_path / file).parent.glob(f"{(tmp_path / file).name}-*"):
        part.unlink()
    (tmp_path / file).write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    found = valued(batch_readings(NOON, stores))
    assert found["store_readable", store] == 0
    readable = [key for key in whole if key[0] == "store_readable" and key[1] != store]
    assert len(readable) >= 4 and all(found[key] == 1 for key in readable)
    assert len(found) > 15


def test_a_feed_that_the_lake_does_not_have_is_no_silence(stores):
    found = valued(batch_readings(NOON, stores, feeds={"gone": "XNYS"}))
    assert found["store_readable", "lake gone"] == 0


def test_a_broken_run_and_a_failed_one_are_counted(stores, tmp_path):
    for name in (
        "a-b-20251125T160000Z-0123abcd-failed",
        "a-b-20251125T160000Z-0123abcd.2-failed",
        "a-b-20251126T160000Z-0123abcd",
    ):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / "notes").mkdir()
    found = valued(batch_readings(NOON, stores))
    assert found["report_runs", "a-b", "failed"] == 2 and found["report_runs", "a-b", "broken"] == 1
    assert sum(key[0] == "report_runs" for key in found) == 3


def test_what_nobody_noticed_is_due_by_the_schedule(tmp_path):
    plan = Schedule(jobs=[Job(name="close", when={"every": "1h"}, steps=[{"report": {"template": "x"}}])])
    slots = SlotLedger(tmp_path / "slots.sqlite")
    fresh = valued(slot_readings(slots.file, NOON, plan))
    assert ("job_last_due_timestamp_seconds", "close") not in fresh, "a new job has no slot yet"
    notice_slots(slots, plan.jobs[0], NOON)
    notice_slots(slots, plan.jobs[0], NOON + HOUR)
    known, by_plan = (valued(slot_readings(slots.file, NOON + 30 * HOUR, one)) for one in (None, plan))
    assert known["job_last_due_timestamp_seconds", "close"] == (NOON + HOUR).timestamp()
    assert by_plan["job_last_due_timestamp_seconds", "close"] == (NOON + 30 * HOUR).timestamp()
    assert known["job_last_success_timestamp_seconds", "close"] == 0 and known["slots", "close", "due"] == 1
    assert known["job_oldest_open_timestamp_seconds", "close"] == (NOON + HOUR).timestamp()


@pytest.mark.parametrize(
    ("last", "exchange", "now", "behind"),
    [
        ("2025-11-26", "XNYS", "2025-11-28 11:00+00:00", 0),  # Thanksgiving between
        ("2025-11-26", "XNYS", "2025-11-28 19:59+00:00", 0),  # half a day, two hours for the vendor
        ("2025-11-26", "XNYS", "2025-11-28 20:00+00:00", 1),
        ("2025-12-31", "XNYS", "2025-11-28 20:00+00:00", 0),  # ahead of the clock
        ("2025-11-26", "24/7", "2025-11-28 11:00+00:00", 1),
    ],
)
def test_a_feed_is_behind_by_sessions_that_are_over(last, exchange, now, behind):
    assert sessions_behind(pd.Timestamp(last), exchange, datetime.fromisoformat(now)) == behind


def test_an_equity_that_nobody_knows_is_not_a_number_and_its_drawdown_neither(tmp_path):
    begin_trader(tmp_path / "x", '{"cash": "3000", "shares": {"KO": "100", "NEW": "5"}}')
    found = valued(trader_readings(tmp_path / "x", "paper", NOON))
    for name in ("equity", "gross_ratio", "drawdown_ratio"):
        assert math.isnan(found[f"trader_{name}", "x", "paper"])
    text = metrics_text(trader_readings(tmp_path / "x", "paper", NOON))
    assert 'quantlab_trader_equity{kind="paper",trader="x"} NaN' in text


@pytest.mark.parametrize("cash", ["-7000", "-9000"])
def test_a_book_that_is_worth_nothing_has_no_gross(tmp_path, cash):
    begin_trader(tmp_path / "x", f'{{"cash": "{cash}", "shares": {{"KO": "100"}}}}')
    found = valued(trader_readings(tmp_path / "x", "paper", NOON))
    assert math.isnan(found["trader_gross_ratio", "x", "paper"]) and found["trader_drawdown_ratio", "x", "paper"] >= 1


def test_the_switch_and_the_fall_from_the_highest_equity(tmp_path):
    begin_trader(tmp_path / "x", equities=(20_000.0,))
    found = valued(trader_readings(tmp_path / "x", "live", NOON))
    assert (
        found["trader_drawdown_ratio", "x", "live"] == 0.5 and found["trader_drawdown_limit_ratio", "x", "live"] == 0.2
    )
    assert found["trader_kill_switch_tripped", "x", "live"] == 0
    begin_trader(tmp_path / "y", equities=(20_000.0, 9_000.0))
    assert valued(trader_readings(tmp_path / "y", "live", NOON))["trader_kill_switch_tripped", "y", "live"] == 1


def test_a_trader_that_carried_nothing_yet_has_no_equity(tmp_path):
    begin_trader(tmp_path / "x", book="")
    found = valued(trader_readings(tmp_path / "x", "paper", NOON))
    assert ("trader_equity", "x", "paper") not in found and found["trader_open_orders", "x", "paper"] == 0


def test_money_that_is_not_the_traders_is_not_told(tmp_path):
    begin_trader(tmp_path / "x", aside="2500")
    assert valued(trader_readings(tmp_path / "x", "paper", NOON))["trader_equity", "x", "paper"] == 7_500


def test_drift_is_that_of_the_last_month_that_is_known(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for end, p in (("2025-02-28", 0.04), ("2025-01-31", 0.01)):
        told = {"start": "2025-01-01", "end": end, "action": "wait", "p": p}
        ledger.record("run", end, "drift alarm: momentum", told)
    found = valued(ledger_readings(ledger.file))
    assert found["drift_p_value", "momentum"] == 0.04 and found["drift_alarms", "momentum", "wait"] == 2
    for end, p in (("2025-03-31", 0.5), ("2024-12-31", 0.6)):
        test = DriftTest(
            pd.Timestamp("2024-12-01"), pd.Timestamp(end), p, p < 0.05, 0.05, 0.0, np.zeros(1), pd.DataFrame()
        )
        found = valued(ledger_readings(ledger.file, {"momentum": test}))
        assert found["drift_alarm", "momentum"] == (end < "2025"), "an older test than the last alarm says nothing"


def test_no_secret_and_no_account_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKER_API_KEY", "PLANTED-KEY-77")
    begin_trader(tmp_path / "paper" / "x", account="U1234567", live={"account": "U1234567"}, note="password=hunter22")
    said = metrics_text(batch_readings(NOON, MetricStores(*[tmp_path / n for n in "abcd"], tmp_path)))
    for planted in ("U1234567", "hunter22", "PLANTED"):
        assert planted not in said
    label = metrics_text([Reading("quantlab_drift_alarm", {"study": "a PLANTED-KEY-77 token=abcdef"}, 1)])
    assert "PLANTED" not in label and "abcdef" not in label
    server = server_metrics()
    for route in ("/jobs?token=abcdef", "/book/\nx", "PLANTED-KEY-77", "/" + "a" * 300, "/ü"):
        server.begin()
        server.end("GET", route, 200, 0.1)
    assert server.text()[0].count('route="unmatched",status="200"} 5.0') == 1 and "abcdef" not in server.text()[0]


LABEL = st.text(max_size=30)


@given(st.lists(st.tuples(LABEL, st.floats()), max_size=8))
def test_whatever_a_label_holds_the_text_is_read_back(rows):
    readings = [Reading("quantlab_drift_p_value", {"study": study}, value) for study, value in rows]
    found = read_metrics(metrics_text(readings))
    assert len(found) <= len(rows)
    if rows:
        assert found and (
            found[-1].value == rows[-1][1] or len({study for study, _ in rows}) > 1 or math.isnan(rows[-1][1])
        )


@pytest.mark.parametrize("bad", [Reading("quantlab_slot", {}, 1), Reading("quantlab_slots", {"state": "done"}, 1)])
def test_what_is_no_reading_is_refused(bad):
    with pytest.raises(ConfigError, match="is no reading"):
        metrics_text([bad])


@pytest.mark.parametrize(
    "text", ["quantlab_slots{", "quantlab_ledger_rows 4", 'quantlab_slots{job_name="a} 1\n', "x y z\n", "\x00"]
)
def test_a_torn_text_is_refused(text):
    with pytest.raises(DataError, match="no whole figures"):
        read_metrics(text)


def test_a_file_is_replaced_whole_and_readable_by_another_user(tmp_path, monkeypatch):
    old, new = ([Reading("quantlab_ledger_rows", {"kind": "run"}, n)] for n in (1, 2))
    (tmp_path / "sub").mkdir()
    file = write_metrics(tmp_path / "sub" / "quantlab.prom", old)
    assert file.stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match="No space left"):
        write_metrics(file, new)
    assert read_metrics(file.read_text()) == old and [one.name for one in file.parent.iterdir()] == ["quantlab.prom"]
    monkeypatch.undo()
    seen = []

    def watch():
        for _ in range(200):
            seen.append(len(read_metrics(file.read_text())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(30):
        write_metrics(file, new * 2)
    watcher.join()
    assert set(seen) == {1}


@pytest.mark.parametrize("name", ["quantlab.txt", "quantlab", "quantlab.prom.bak"])
def test_a_file_that_node_exporter_does_not_read_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"ends in \.prom"):
        write_metrics(tmp_path / name, [])


def test_no_folder_is_made_of_a_slip(tmp_path):
    with pytest.raises(ConfigError, match="none is not there; make it"):
        write_metrics(tmp_path / "none" / "quantlab.prom", [])
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_lost_its_end_cannot_be_read(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(
        "run", "a", "drift alarm: six", {"start": "2025-01-01", "end": "2025-01-31", "action": "wait", "p": 0.01}
    )
    stores = MetricStores(*[tmp_path / name for name in ("slots", "runs", "lake")], ledger.file, tmp_path / "none")
    assert valued(batch_readings(NOON, stores))["drift_alarm", "six"] == 1
    ledger.file.unlink()
    found = valued(batch_readings(NOON, stores))
    assert found["store_readable", "ledger"] == 0 and not [key for key in found if "drift" in key[0]]


def test_a_server_counts_by_template_and_two_servers_do_not_mix():
    server, other = server_metrics(), server_metrics()
    server.begin()
    server.begin()
    server.end("get", "/jobs/{id}", 200, 0.004)
    server.end("BREW", "/jobs/{id}", 500, float("nan"))
    server.begin()
    server.set_ready(True)
    server.set_jobs({"waiting": 2, "running": 1}, NOON)
    server.set_jobs({"waiting": 1})
    families = {one.name: one for one in text_string_to_metric_families(server.text()[0])}
    samples = {(s.name, *s.labels.values()): s.value for one in families.values() for s in one.samples}
    assert samples["quantlab_http_requests_total", "GET", "/jobs/{id}", "200"] == 1
    assert samples["quantlab_http_requests_total", "OTHER", "/jobs/{id}", "500"] == 1
    assert samples["quantlab_http_requests_in_flight",] == 1 and samples["quantlab_server_ready",] == 1
    assert samples["quantlab_http_request_duration_seconds_bucket", "0.005", "GET", "/jobs/{id}"] == 1
    assert samples["quantlab_jobs", "waiting"] == 1 and ("quantlab_jobs", "running") not in samples
    assert samples["quantlab_oldest_open_job_timestamp_seconds",] == 0
    assert server.text()[1].startswith("text/plain; version=") and "_created" not in server.text()[0]
    assert "GET" not in other.text()[0]


def test_nothing_is_told_in_the_librarys_own_registry(stores):
    from prometheus_client import REGISTRY, generate_latest

    server_metrics().begin()
    batch_readings(NOON, stores)
    assert b"quantlab" not in generate_latest(REGISTRY)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here: apt-get install prometheus runs this")
def test_promtool_finds_nothing_to_complain_of(stores):
    server = server_metrics()
    server.begin()
    server.end("GET", "/book", 200, 0.1)
    server.set_jobs({"waiting": 1}, NOON)
    every = [Reading(name, {label: "x" for label in labels}, 1) for name, (_, labels) in BATCH_METRICS.items()]
    for text in (metrics_text(every), metrics_text(batch_readings(NOON, stores)), server.text()[0]):
        assert list(text_string_to_metric_families(text))
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert {one.name for one in text_string_to_metric_families(server.text()[0])} == {
        name.removesuffix("_total") for name in SERVER_METRICS
    }


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ConfigError, match="has no zone"):
        batch_readings(datetime(2025, 1, 1), MetricStores(*[Path("none")] * 5))
