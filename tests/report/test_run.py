"The runner: what a run leaves behind, that it repeats to the byte, and what it refuses."

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from quantlab.core.config import root
from quantlab.core.errors import QuantlabError, RunError
from quantlab.core.ledger import GENESIS, Ledger
from quantlab.report import tracking
from quantlab.report.run import list_runs, run_report
from quantlab.report.template import read_emitted


def left_behind(folder: Path) -> list[str]:
    "Names in a run folder's parent, hidden ones included."
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_a_run_is_a_folder_of_four_files(pair):
    run = pair[0]
    assert sorted(file.name for file in run.folder.iterdir()) == ["manifest.json", "metrics.json", "report.html", "report.ipynb"]
    assert re.fullmatch(r"template_small-\d{8}T\d{6}Z-[0-9a-f]{8}", run.folder.name)


def test_equal_questions_give_equal_bytes(pair):
    first, second = ((run.folder / "metrics.json").read_bytes() for run in pair)
    assert first == second
    assert pair[0].folder.name[-8:] == pair[1].folder.name[-8:]
    numbers = json.loads(first)
    assert list(numbers) == sorted(numbers) == ["highest", "median", "ratio", "rows", "undefined"]
    assert numbers["undefined"] is None and numbers["rows"] == 3 * 505 and 0.3 < numbers["highest"] < 2.0


def test_the_numbers_are_right(pair):
    from quantlab.data.sample import sample_bars

    close = sample_bars(["AAPL", "JPM", "XOM"]).loc["2019-01-01":"2020-12-31", "close"].unstack()
    volatility = close.pct_change().rolling(63).std() * 252**0.5
    assert pair[0].metrics["highest"] == pytest.approx(volatility.max().max(), rel=1e-12)


def test_the_manifest_says_what_went_in(pair, home):
    manifest = json.loads((pair[0].folder / "manifest.json").read_text())
    assert manifest["parameters"]["window"] == 63 and manifest["parameters"]["end"] == "2020-12-31"
    assert manifest["parameters"]["ledger_head"] == manifest["ledger"]["before"] == GENESIS
    assert re.fullmatch("[0-9a-f]{16}", manifest["data_hash"]) and re.fullmatch("[0-9a-f]{64}", manifest["code"]["sources"])
    assert manifest["seed"] == 7 and manifest["libraries"]["pandas"] and manifest["timings"]["total_s"] > manifest["timings"]["execute_s"] > 0
    assert str(home) not in (pair[0].folder / "manifest.json").read_text()


def test_the_stored_notebook_names_no_machine_path(pair, home):
    text = pair[0].notebook.read_text()
    assert str(home) not in text and str(root()) not in text


def test_the_ledger_counts_one_trial_for_two_runs(pair, home):
    ledger = Ledger(home / "ledger.sqlite")
    assert ledger.rows()["kind"].tolist() == ["trial", "run"] * 2
    assert len(ledger.trials("small")) == 1 and ledger.verify() == 4
    assert pair[1].manifest["ledger"]["before"] == pair[0].manifest["ledger"]["after"]
    runs = ledger.rows().query("kind == 'run'")
    assert runs["study"].tolist() == ["small", "small"]


def test_runs_are_listed_newest_first(pair, home):
    (home / "runs" / ".half-written").mkdir(exist_ok=True)
    assert [run.folder for run in list_runs(home / "runs")] == [pair[1].folder, pair[0].folder]


@pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")
def test_a_run_is_copied_to_mlflow(pair, home):
    logged = tracking.runs("template_small", home / "mlflow.sqlite")
    assert logged["run_id"].tolist() == [pair[0].manifest["tracking"]] and pair[1].manifest["tracking"] == "mlflow not installed"
    row = logged.iloc[0]
    assert row["run"] == pair[0].folder.name and row["params.window"] == "63"
    assert row["metrics.highest"] == pair[0].metrics["highest"]
    copied = {file.name for file in (home / "mlflow").rglob("*") if file.is_file()}
    assert copied == {"manifest.json", "metrics.json", "report.html", "report.ipynb"}


def test_plain_papermill_gives_the_same_numbers(pair, template, workspace):
    out = workspace / "out.ipynb"
    papermill = Path(sys.executable).with_name("papermill")
    subprocess.run([papermill, template, out, "-p", "window", "63", "--no-progress-bar", "--log-level", "ERROR"], cwd=root(), check=True)
    assert read_emitted(out)["metrics"] == pair[0].metrics


def test_plain_papermill_checks_its_values_too(template, workspace):
    papermill = Path(sys.executable).with_name("papermill")
    line = [papermill, template, workspace / "out.ipynb", "-p", "window", "1", "--no-progress-bar", "--log-level", "ERROR"]
    done = subprocess.run(line, cwd=root(), capture_output=True, text=True)
    assert done.returncode != 0 and "window is 1" in done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"windw": 30}, "did you mean 'window'"),
        ({"window": "many"}, "parameter window (int, default 21"),
        ({"end": "2018-01-01"}, "is before start"),
        ({"symbols": []}, "symbols is empty"),
        ({"data": "data/no-such-file.parquet"}, "data/no-such-file.parquet does not exist"),
    ],
)
def test_a_bad_parameter_leaves_nothing(template, workspace, given, words):
    with pytest.raises(QuantlabError, match=re.escape(words)) as caught:
        run_report(template, given)
    assert not isinstance(caught.value, RunError)
    assert left_behind(workspace) == []


def test_a_dead_kernel_is_a_failing_cell_and_keeps_the_notebook(template, workspace):
    with pytest.raises(RunError) as caught:
        run_report(template, {"accident": "die"})
    message = str(caught.value)
    assert message.startswith("cell 10 (# Here the tests break the report.) failed: the kernel died")
    [name] = left_behind(workspace / "runs")
    assert re.fullmatch(r"template_small-\d{8}T\d{6}Z-[0-9a-f]{8}-failed", name) and name in message
    assert left_behind(workspace / "runs" / name) == ["report.ipynb"]
    kept = nbformat.read(workspace / "runs" / name / "report.ipynb", as_version=4)
    assert any("median" in str(cell.get("outputs")) for cell in kept.cells)
    assert Ledger(workspace / "ledger.sqlite").rows().empty


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_leaves_nothing(workspace, how):
    mark, sleepy = workspace / "kernel.pid", workspace / "sleepy.ipynb"
    cell, source = nbformat.v4.new_code_cell, f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell("x: int = 1", metadata={"tags": ["parameters"]}), cell(source)]), sleepy)
    # A shell may start children with SIGINT ignored; the command line is started with Python's own handler.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from quantlab.ops.cli import main; main()"
    job = subprocess.Popen([sys.executable, "-c", code, "report", str(sleepy), "--no-track"], cwd=root())
    try:
        for _ in range(600):
            if mark.exists() and mark.read_text():
                break
            time.sleep(0.1)
        assert left_behind(workspace / "runs")[0].startswith(".sleepy-")
        job.send_signal(how)
        assert job.wait(timeout=60) != 0
    finally:
        job.kill()
    assert left_behind(workspace / "runs") == []
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(mark.read_text()), 0)
            time.sleep(0.1)
