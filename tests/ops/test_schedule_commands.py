"The schedule at the prompt: what runs once, what is refused, and the exit codes that a watcher reads."

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest

from quantlab.core.errors import ConfigError
from quantlab.ops.schedule_commands import next_slots, timer_lines
from quantlab.report.run import list_runs
from quantlab.runs.schedule import SlotLedger, notice_slots, read_schedule
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


def test_what_cannot_run_is_refused_by_check(desk):
    assert call(desk, "check desk.yaml --count 2")[0] == 0
    text = (desk / "desk.yaml").read_text()
    for new, word in {"parameters: {sise: 4}": "size", "parameters: {size: four}": "size"}.items():
        (desk / "odd.yaml").write_text(text.replace("parameters: {size: 4}", new))
        code, _, error = call(desk, "check odd.yaml")
        assert code == 2 and word in error and error.count("\n") == 1
    (desk / "odd.yaml").write_text(text.replace("retries: 0", "notify: desk"))
    code, _, error = call(desk, "run odd.yaml --once")
    assert code == 2 and "no message can be sent" in error


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


def test_an_unknown_job_is_named(desk):
    code, _, error = call(desk, "run desk.yaml --once --job lunch")
    assert code == 2 and "lunch" in error and "tiny" in error
    with pytest.raises(ConfigError, match="cannot be read"):
        read_schedule(desk / "none.yaml")
