"The schedule at the prompt: what runs once, what is refused, and the exit codes that a watcher reads."

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
import typer

from quantlab.commands import schedule_commands
from quantlab.commands.schedule_commands import next_slots, run_steps, timer_lines
from quantlab.core.errors import ConfigError
from quantlab.monitor.heartbeat import last_beats
from quantlab.report.run import list_runs
from quantlab.runs.schedule import Schedule, SlotLedger, notice_slots, read_schedule, run_due
from quantlab.runs.slots import SlotRule

PROGRAM = Path(sys.executable).parent / "quantlab"
TINY = "from quantlab.report.template import emit\nemit({'twice': 2 * size})"


@pytest.fixture
def desk(tmp_path):
    "A schedule of one tiny report, and an environment with stores of its own."
    cells = [nbformat.v4.new_code_cell("size: int = 1  # of it", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(TINY)]), tmp_path / "tiny.ipynb")
    report = f"report: {{template: {tmp_path}/tiny.ipynb, parameters: {{size: 4}}}}"
    (tmp_path / "desk.yaml").write_text(
        f"jobs: [{{name: tiny, when: {{every: 1h}}, steps: [{{{report}}}], retries: 0}}]"
    )
    return tmp_path


def call(desk, line):
    "Run quantlab schedule in a process of its own."
    names = ("schedule.sqlite", "ledger.sqlite", "tracking.db", "runs")
    own = {f"QUANTLAB_RESEARCH_{name.partition('.')[0].upper()}": str(desk / name) for name in names}
    own["QUANTLAB_MONITOR_BEATS"] = str(desk / "beats.sqlite")
    words = [PROGRAM, "schedule", *shlex.split(line)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=desk, env={**os.environ, **own}, timeout=120)
    return done.returncode, done.stdout, done.stderr


def noticed(desk, hours):
    "Let a job be seen some hours ago, as a scheduler that then was switched off left it."
    store, [job] = SlotLedger(desk / "schedule.sqlite"), read_schedule(desk / "desk.yaml").jobs
    notice_slots(store, job, datetime.now(UTC) - timedelta(hours=hours))
    return store


def test_an_outage_of_two_hours_is_made_up_once_and_the_second_page_is_found(desk):
    store = noticed(desk, 2)
    code, said, error = call(desk, "run desk.yaml --once")
    assert (code, error) == (0, ""), said
    assert said.count("done tiny-") == 2
    assert [slot.state for slot in store.rows()] == ["done", "done"]
    [run] = list_runs(desk / "runs")  # nothing had changed between the two slots
    assert run.metrics == {"twice": 8} and all(slot.result == run.folder.name for slot in store.rows())
    assert call(desk, "run desk.yaml --once") == (0, "", "")
    code, said, _ = call(desk, "status")
    assert code == 0 and said.count("done") == 2


def test_a_failure_is_seen_by_the_run_and_by_the_status(desk):
    noticed(desk, 1)
    (desk / "tiny.ipynb").unlink()
    code, said, _ = call(desk, "run desk.yaml --once")
    assert code == 1 and "failed ReportError" in said
    code, said, _ = call(desk, "status")
    assert code == 1 and "failed" in said


def test_each_look_beats_and_a_beat_that_cannot_be_written_stops_nothing(desk):
    noticed(desk, 1)
    (desk / "beats.sqlite").write_bytes(b"no database" * 100)
    code, said, error = call(desk, "run desk.yaml --once")
    assert code == 0 and "done" in said and error.count("no beat was written: ") == 1
    (desk / "beats.sqlite").unlink()
    began = datetime.now(UTC)
    assert call(desk, "run desk.yaml --once") == (0, "", "")
    assert list(last_beats(desk / "beats.sqlite")) == ["schedule"]
    assert began <= last_beats(desk / "beats.sqlite")["schedule"] <= datetime.now(UTC)


def test_a_refresh_asks_for_its_symbols_and_one_that_is_interrupted_is_taken_up_again(tmp_path, monkeypatch):
    asked, now = [], datetime(2025, 3, 7, 12, 30, tzinfo=UTC)
    step = {"refresh": {"vendor": "yahoo", "symbols": ["SPY", "QQQ"], "start": "2020-01-01"}}
    plan = Schedule(jobs=[{"name": "bars", "when": {"every": "1h"}, "steps": [step], "retries": 1}])
    store = SlotLedger(tmp_path / "slots.sqlite")

    def interrupted(*given):
        asked.append(given)
        raise typer.Exit(130)  # as the command does after Ctrl-C

    notice_slots(store, plan.jobs[0], now)
    monkeypatch.setattr(schedule_commands, "refresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_due(plan, store, now + timedelta(hours=1), run_steps)
    assert [slot.state for slot in store.rows()] == ["claimed"] and asked == [("yahoo", "SPY,QQQ", "2020-01-01", "1d")]
    monkeypatch.setattr(schedule_commands, "refresh", lambda *given: asked.append(given))
    [done] = run_due(plan, store, now + timedelta(hours=1), run_steps)
    assert (done.state, done.repeated, len(asked)) == ("done", 1, 2)


def test_what_cannot_run_is_refused_by_check(desk):
    assert call(desk, "check desk.yaml --count 2")[0] == 0
    text = (desk / "desk.yaml").read_text()
    for new, word in {"parameters: {sise: 4}": "size", "parameters: {size: four}": "size"}.items():
        (desk / "odd.yaml").write_text(text.replace("parameters: {size: 4}", new))
        code, _, error = call(desk, "check odd.yaml")
        assert code == 2 and word in error and error.count("\n") == 1
    (desk / "odd.yaml").write_text(text.replace("retries: 0", "notify: desk"))
    code, _, error = call(desk, "run odd.yaml --once")
    assert code == 2 and "nobody is called desk; write QUANTLAB_NOTIFY_DESK=" in error


def test_slots_are_found_however_far_they_are_and_a_calendar_ends():
    after = datetime(2025, 7, 3, 12, tzinfo=UTC)
    assert [f"{at:%m-%d %H:%M}" for at in next_slots(SlotRule(after_close="XNYS"), after, 2)] == [
        "07-03 17:00",
        "07-07 20:00",
    ]
    far = next_slots(SlotRule(weekly="sat 06:00", zone="UTC"), after, 60)
    assert len(far) == 60 and far == sorted(set(far)) and far[0] > after


def test_timers_hold_the_place_and_the_program(tmp_path):
    line = timer_lines(tmp_path / "a b.yaml", "cron", Path("desk of mine"), PROGRAM)
    assert line.startswith("*/5 * * * * cd 'desk of mine' && ") and f"'{tmp_path}/a b.yaml' --once" in line
    units = timer_lines(tmp_path / "d.yaml", "systemd", Path("desk"), PROGRAM)
    assert "Persistent=true" in units and "WorkingDirectory=desk" in units and f"ExecStart={PROGRAM} " in units
    assert "# quantlab-d.timer" in units
    odd = timer_lines(tmp_path / "50%.yaml", "cron", Path("desk"), PROGRAM)  # cron ends a line at a percent sign
    assert r"50\%.yaml" in odd and "50%%.yaml" in timer_lines(tmp_path / "50%.yaml", "systemd", Path("desk"), PROGRAM)


@pytest.mark.parametrize("text", ["", "jobs: []", "- 1", "jobs: [{name: a, when: {every: 1h}, steps: []}]"])
def test_an_empty_schedule_says_what_to_write(tmp_path, text):
    (tmp_path / "empty.yaml").write_text(text)
    with pytest.raises(ConfigError, match="line 1: .*(begin it with jobs|write at least one)"):
        read_schedule(tmp_path / "empty.yaml")


def test_an_unknown_job_is_named(desk):
    code, _, error = call(desk, "run desk.yaml --once --job lunch")
    assert code == 2 and "lunch" in error and "tiny" in error
    with pytest.raises(ConfigError, match="cannot be read"):
        read_schedule(desk / "none.yaml")
