"quantlab monitor: figures, alerts told once, answers to them, heartbeats; exit codes, refusals in one line."

import json
import os
import shlex
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab.commands.cli import app
from quantlab.commands.monitor_commands import read_feeds, read_time
from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.monitor.metrics import Reading, read_metrics, write_metrics
from quantlab.runs.schedule import Schedule, SlotLedger, notice_slots

PROGRAM = Path(sys.executable).parent / "quantlab"
STORES = {"RESEARCH_SCHEDULE": "slots.sqlite", "RESEARCH_RUNS": "runs", "RESEARCH_LEDGER": "ledger.sqlite",
          "DATA_LAKE": "lake", "MONITOR_ALERTS": "alerts.sqlite", "MONITOR_BEATS": "beats.sqlite"}  # fmt: skip


@pytest.fixture
def stores(tmp_path, monkeypatch):
    "A workspace with stores of its own, and no trader."
    (tmp_path / "settings.ini").write_text((root() / "settings.ini").read_text())
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    for name, file in STORES.items():
        monkeypatch.setenv(f"QUANTLAB_{name}", str(tmp_path / file))
    for name in ("RECIPIENTS", "FEEDS", "EXPECTS"):
        monkeypatch.setenv(f"QUANTLAB_MONITOR_{name}", "")
    return tmp_path


def call(line):
    "Run one line; return its exit code as main gives it, and all it said."
    done = CliRunner().invoke(app, ["monitor", *shlex.split(line)])
    refused = done.exception is not None and not isinstance(done.exception, SystemExit)
    return (2 if refused else done.exit_code), str(done.exception) if refused else done.output


@pytest.fixture
def team(monkeypatch):
    "A web server that takes messages, and can refuse them."
    got, state = [], {"status": 200}

    class Take(BaseHTTPRequestHandler):
        def do_POST(self):
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state["status"] == 200:
                got.append(said["title"])
            self.send_response(state["status"])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", f"json://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("QUANTLAB_MONITOR_RECIPIENTS", "team")
    yield got, state
    server.shutdown()
    server.server_close()


def test_figures_of_nothing_and_of_a_schedule(stores):
    code, said = call("metrics")
    assert code == 0 and [one.name for one in read_metrics(said)] == ["quantlab_written_timestamp_seconds"]
    plan = {"name": "close", "when": {"every": "1h"}, "steps": [{"report": {"template": "x"}}]}
    (stores / "jobs.yaml").write_text(json.dumps({"jobs": [plan]}))
    ledger = SlotLedger(stores / "slots.sqlite")
    for hours in (6, 3):
        notice_slots(ledger, Schedule(jobs=[plan]).jobs[0], datetime.now(UTC) - timedelta(hours=hours))
    code, said = call(f"metrics --file {stores / 'quantlab.prom'} --schedule {stores / 'jobs.yaml'}")
    found = {one.name: one.value for one in read_metrics((stores / "quantlab.prom").read_text())}
    assert code == 0 and said.endswith("figures in quantlab.prom\n")
    assert datetime.now(UTC).timestamp() - found["quantlab_job_last_due_timestamp_seconds"] < 3600


def test_an_alert_is_told_once_taken_over_and_answered(stores, team, monkeypatch):
    got, _ = team
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "us=XNYS")
    for _ in range(2):
        code, said = call("alerts")
        assert code == 1 and said.startswith("warning StoreUnreadable lake us: ")
    assert got == ["quantlab warning: StoreUnreadable lake us"]
    assert call("ack StoreUnreadable --by Ann") == (0, "StoreUnreadable: 1 taken over\n")
    assert call("silence StoreUnreadable --until 4h --reason 'it moves'")[0] == 0
    assert call("unsilence StoreUnreadable") == (0, "1 silences of StoreUnreadable ended\n")
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "")
    assert call("alerts") == (0, "")


def test_what_is_shown_can_be_taken_over_also_where_nobody_is_told(stores, monkeypatch):
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "us=XNYS")
    assert "StoreUnreadable lake us" in call("alerts")[1]
    assert call("ack StoreUnreadable --about 'lake us' --by Ann") == (0, "StoreUnreadable: 1 taken over\n")
    assert call("silence StoreUnreadable --until 4h --reason x")[0] == call("unsilence StoreUnreadable")[0] == 0
    assert call("ack StoreUnreadable --by Ben")[0] == 0, "a silence that was lifted changes nothing"


def test_a_silence_about_nothing_that_is_known_is_kept_and_said(stores, monkeypatch):
    monkeypatch.setenv("QUANTLAB_MONITOR_EXPECTS", "schedule=15min")
    code, said = call("silence HeartbeatMissing --about schedul --until 4h --reason x")
    assert code == 0 and "did you mean schedule?; known: schedule" in said
    assert call("silence HeartbeatMissing --about schedule --until 4h --reason x")[1].count("\n") == 1
    assert "known: nothing" in call("silence DriftAlarm --about six --until 30d --reason x")[1]


def test_a_ledger_that_is_lost_is_an_alert(stores):
    Ledger(stores / "ledger.sqlite").record("run", "a", "drift alarm: six", {})
    (stores / "ledger.sqlite").unlink()
    code, said = call("alerts")
    assert code == 1 and "StoreUnreadable ledger" in said
    assert 'quantlab_store_readable{store="ledger"} 0.0' in call("metrics")[1]


def test_a_message_that_nobody_took_is_sent_at_the_next_look(stores, team, monkeypatch):
    got, state = team
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "us=XNYS")
    state["status"] = 503
    code, said = call("alerts")
    assert code == 1 and "not sent to team (1 attempts)" in said and "127.0.0.1" not in said and not got
    state["status"] = 200
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "")
    assert call("alerts")[0] == 0 and got == ["quantlab warning: StoreUnreadable lake us"]


def test_figures_of_another_machine_are_looked_at(stores):
    now = datetime.now(UTC).timestamp()
    written = Reading("quantlab_written_timestamp_seconds", {}, now)
    tripped = Reading("quantlab_trader_kill_switch_tripped", {"trader": "momentum", "kind": "live"}, 1)
    write_metrics(stores / "theirs.prom", [written, tripped])
    code, said = call(f"alerts --figures {stores / 'theirs.prom'}")
    assert code == 1 and said.startswith("critical KillSwitchTripped live momentum: ") and "nobody is told" in said
    (stores / "torn.prom").write_text((stores / "theirs.prom").read_text()[:-3])
    assert call(f"alerts --figures {stores / 'torn.prom'}")[0] == 2
    (stores / "torn.prom").write_bytes(b"\xff\xfe")
    assert "it is no text" in call(f"alerts --figures {stores / 'torn.prom'}")[1]
    assert call(f"alerts --figures {stores}")[0] == 2
    write_metrics(stores / "old.prom", [written._replace(value=now - 7200)])
    assert "FiguresOld" in call(f"alerts --figures {stores / 'old.prom'}")[1]


def test_a_heartbeat_that_is_missing_is_an_alert(stores, monkeypatch):
    monkeypatch.setenv("QUANTLAB_MONITOR_EXPECTS", "schedule=15min")
    assert call("beat schedule") == (0, "") and call("alerts")[0] == 0
    assert call("beats")[0] == 0 and call("beats")[1].startswith("schedule: 20")
    from quantlab.monitor.heartbeat import beat

    beat("report", datetime.now(UTC) - timedelta(hours=1))
    monkeypatch.setenv("QUANTLAB_MONITOR_EXPECTS", "schedule=15min report=30min")
    code, said = call("beats")
    assert code == 1 and said.splitlines()[-1].startswith("late: report was heard of at ")
    code, said = call("alerts")
    assert code == 1 and "critical HeartbeatMissing report: " in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("metrics --file figures.txt", "ends in .prom"),
        ("metrics --file no_such_folder/x.prom", "no_such_folder is not there"),
        ("metrics --schedule none.yaml", "cannot be read"),
        ("alerts --figures none.prom", "No such file"),
        ("silence FeedStal --until 4h --reason x", "did you mean FeedStale?"),
        ("silence FeedStale --until soon --reason x", "is no moment"),
        ("silence FeedStale --until 2099-01-01T00:00 --reason x", "has no zone"),
        ("silence FeedStale --until 2020-01-01T00:00Z --reason x", "which is over"),
        ("silence FeedStale --until 2020-01-01Z --reason x", "which is over"),
        ("silence FeedStale --until 2020-01-01 --reason x", "write 2020-01-01Z for UTC"),
        ("silence FeedStale --until 9999d --reason x", "is critical and can be silent for 7 days"),
        ("silence DriftAlarm --until 31d --reason x", "is warning and can be silent for 30 days"),
        ("silence FeedStale --until 0min --reason x", "which is over"),
        ("silence FeedStale --until 4h --reason ' '", "without a word"),
        ("unsilence Feed", "no alert is called Feed"),
        ("ack FeedStale --by Ann", "was not wrong at the last look"),
        ("beat 'Close report'", "cannot beat"),
    ],
)
def test_bad_input_is_refused_in_one_line(stores, line, said):
    code, told = call(line)
    assert code == 2 and said in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("FEEDS", "us"), ("FEEDS", "us=NONE"), ("EXPECTS", "a=soon"), ("RECIPIENTS", "team team")]
)
def test_a_slip_in_the_settings_is_refused(stores, name, value, monkeypatch):
    monkeypatch.setenv(f"QUANTLAB_MONITOR_{name}", value)
    (stores / "lake").mkdir()
    code, told = call("alerts")
    assert code == 2 and len(told.splitlines()) == 1, told


def test_the_installed_command_exits_2_with_one_line(stores):
    done = subprocess.run([PROGRAM, "monitor", "beat", "A"], capture_output=True, text=True, env=os.environ, cwd=stores)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: 'A' cannot beat; ")


def test_moments_and_feeds():
    noon = datetime(2025, 11, 24, 12, tzinfo=UTC)
    assert [read_time(text, noon) - noon for text in ("90min", "4h", "2d")] == [
        timedelta(minutes=90), timedelta(hours=4), timedelta(days=2)
    ]  # fmt: skip
    assert read_time("2025-11-24T07:00-05:00", noon) == noon and read_feeds("a=XNYS, b=24/7") == {
        "a": "XNYS",
        "b": "24/7",
    }
    for slip in ("", "h", "-1h", "1.5h", "²h", "999999d"):
        with pytest.raises(ConfigError):
            read_time(slip, noon)
