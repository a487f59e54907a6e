"""Flow files of other schedulers: what each starts runs once. They run in environments of their own, which
`make bench-peers ONLY="prefect dagster airflow"` builds; without them the tests skip."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest

from quantlab.commands.schedule_commands import FLOW_KINDS, flow_file
from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.runs.schedule import SlotLedger, notice_slots, read_schedule

PROGRAM = Path(sys.executable).parent / "quantlab"
TINY = "from quantlab.report.template import emit\nemit({'twice': 2 * size})"


@pytest.fixture
def desk(tmp_path):
    "A schedule of one tiny report, whose slot of an hour ago nobody ran."
    folder = tmp_path / "a 'desk' of 50 %"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell("size: int = 1  # of it", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(TINY)]), folder / "tiny.ipynb")
    steps = [{"report": {"template": str(folder / "tiny.ipynb")}}]
    job = {"name": "tiny", "when": {"every": "1h"}, "steps": steps, "retries": 0}
    (folder / "desk.yaml").write_text(json.dumps({"jobs": [job]}))
    an_hour_ago(folder)
    return folder


def an_hour_ago(folder):
    "Let the job be seen an hour ago, by a scheduler that then was switched off."
    [job] = read_schedule(folder / "desk.yaml").jobs
    notice_slots(SlotLedger(folder / "schedule.sqlite"), job, datetime.now(UTC) - timedelta(hours=1))


LINES = {
    "prefect": [["python", "-c", "import desk_flow; desk_flow.ask()"]],
    "dagster": [["dagster", "job", "execute", "-f", "desk_flow.py", "-j", "quantlab_desk"]],
    "airflow": [["airflow", "db", "migrate"], ["airflow", "dags", "test", "quantlab_desk"]],
}


def run_flow(desk, kind):
    "Run the written file in the environment of its scheduler; return the last process."
    own = {f"QUANTLAB_RESEARCH_{name}": str(desk / name.lower()) for name in ("LEDGER", "RUNS")}
    own["QUANTLAB_RESEARCH_TRACKING"] = str(desk / "tracking.db")
    own |= {"QUANTLAB_RESEARCH_SCHEDULE": str(desk / "schedule.sqlite"), "QUANTLAB_ROOT": str(root())}
    own |= {"AIRFLOW_HOME": str(desk.parent / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(desk), "DAGSTER_HOME": ""}
    own |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "false", "PREFECT_HOME": str(desk / "home"), "DO_NOT_TRACK": "1"}
    bin = root() / ".cache" / "peers" / kind / "bin"
    environment = {**os.environ, **own, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("DAGSTER_HOME")
    for line in LINES[kind]:
        done = subprocess.run(
            [bin / line[0], *line[1:]], cwd=desk, env=environment, capture_output=True, text=True, timeout=400
        )
    return done


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_what_a_scheduler_starts_runs_a_slot_once(desk, kind):
    if not (root() / ".cache" / "peers" / kind).is_dir():
        pytest.skip(f"make bench-peers ONLY={kind} builds the environment of {kind}")
    (desk / "desk_flow.py").write_text(flow_file(desk / "desk.yaml", kind, desk, PROGRAM))
    for _ in range(2):
        done = run_flow(desk, kind)
        assert done.returncode == 0, done.stdout + done.stderr
    [slot] = SlotLedger(desk / "schedule.sqlite").rows()[:1]
    assert (slot.state, slot.attempts) == ("done", 1) and len(list((desk / "runs").glob("tiny-*"))) == 1
    for file in ("tiny.ipynb", "schedule.sqlite"):
        (desk / file).unlink()
    an_hour_ago(desk)
    done = run_flow(desk, kind)
    assert kind == "airflow" or done.returncode != 0, done.stdout  # airflow dags test exits 0 and prints the state
    assert "failed" in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_the_command_of_a_flow_runs_and_its_failure_is_seen(desk, kind):
    "Here no scheduler is needed: the function that all three call."
    text = flow_file(desk / "desk.yaml", kind, desk, Path(sys.executable))
    compile(text, kind, "exec")
    names = {}
    exec("import subprocess\n" + text[text.index("JOBS = ") : text.index("check=True)") + len("check=True)")], names)
    assert names["JOBS"] == ["tiny"]
    asked = {}
    names["subprocess"] = type("Fake", (), {"run": staticmethod(lambda line, **how: asked.update(line=line, **how))})
    names["run_job"]("tiny")
    wanted = [sys.executable, "schedule", "run", str(desk / "desk.yaml"), "--once", "--job", "tiny"]
    assert asked == {"line": wanted, "cwd": str(desk), "check": True}


def test_a_slip_in_the_name_of_a_scheduler_is_told(desk):
    with pytest.raises(ConfigError, match="did you mean prefect"):
        flow_file(desk / "desk.yaml", "perfect", desk, PROGRAM)
