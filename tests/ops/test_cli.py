"The installed command: help and refusals at once, one line for a mistake, exit codes, the path of the page."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import quantlab
from quantlab.core.config import root

COMMAND = Path(sys.executable).with_name("quantlab")
SMALL = Path(__file__).parents[1] / "report" / "template_small.ipynb"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    "A folder with one template, called small."
    folder = tmp_path_factory.mktemp("cli")
    (folder / "templates").mkdir()
    shutil.copy(SMALL, folder / "templates" / "small.ipynb")
    return folder


@pytest.fixture(scope="module")
def quantlab_line(workspace):
    "Type a line; get the finished process."
    names = {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite", "TEMPLATES": "templates"}
    environment = {**os.environ, **{f"QUANTLAB_RESEARCH_{key}": str(workspace / name) for key, name in names.items()}}

    def line(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([COMMAND, *words], cwd=root(), env=environment, capture_output=True, text=True)

    return line


@pytest.fixture(scope="module")
def finished(quantlab_line) -> subprocess.CompletedProcess:
    return quantlab_line("report", "small", "-p", "window=63", "-p", "symbols=AAPL,MSFT", "--no-track")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["report", "smal"], "did you mean 'small'?"),
        (["report", "small", "-p", "windw=30"], "unknown parameter 'windw'; did you mean 'window'?"),
        (["report", "small", "-p", "window=many"], "parameter window (int, default 21: sessions in the volatility window) cannot be 'many'"),
        (["report", "small", "-p", "window"], "write name=value"),
        (["report", "small", "-p", "end=2001-01-01"], "end 2001-01-01 is before start 2019-01-01"),
        (["report", "small", "-p", "symbols="], "symbols is empty"),
        (["report", "small", "-p", "data=no/such.parquet"], "data file no/such.parquet does not exist"),
        (["templates", "smal"], "did you mean 'small'?"),
    ],
)
def test_a_refusal_is_one_line(quantlab_line, workspace, words, answer):
    before = sorted(workspace.rglob("*"))
    done = quantlab_line(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and answer in done.stderr
    assert sorted(workspace.rglob("*")) == before


def test_the_last_line_is_the_page(finished, workspace):
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    [printed] = finished.stdout.splitlines()
    assert Path(printed).is_file() and Path(printed).name == "report.html" and Path(printed).is_relative_to(workspace / "runs")
    manifest = json.loads((Path(printed).parent / "manifest.json").read_text())
    assert manifest["parameters"]["symbols"] == ["AAPL", "MSFT"] and manifest["parameters"]["window"] == 63
    assert manifest["tracking"] == "off" and not (workspace / "mlflow.sqlite").exists()


def test_runs_lists_the_run_with_its_headline(finished, quantlab_line):
    done = quantlab_line("runs")
    folder = Path(finished.stdout.strip()).parent
    metrics = json.loads((folder / "metrics.json").read_text())
    assert done.returncode == 0 and folder.name in done.stdout
    assert f"highest {metrics['highest']:.4g}, ratio {metrics['ratio']:.4g}" in done.stdout


def test_two_runs_side_by_side(finished, quantlab_line):
    name = Path(finished.stdout.strip()).parent.name
    done = quantlab_line("runs", "--compare", name, name[:-4])
    assert done.returncode == 0 and "metrics.highest" in done.stdout and "params." not in done.stdout, "a run differs from itself"
    refused = quantlab_line("runs", "--compare", name, "other")
    assert refused.returncode == 2 and refused.stderr.startswith("error: 0 runs are called 'other'") and refused.stderr.count("\n") == 1


def test_a_failing_cell_exits_one_without_a_traceback(quantlab_line, workspace):
    done = quantlab_line("report", "small", "-p", "accident=raise", "--output", str(workspace / "bad"), "--no-track")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: cell 10 (# Here the tests break the report.) failed: RuntimeError: the last line; see ")
    assert done.stderr.count("\n") == 1
    [kept] = (workspace / "bad").glob("*/*")
    assert kept.name == "report.ipynb" and kept.parent.name.endswith("-failed") and "a long story" in kept.read_text()


def test_templates_shows_every_parameter(quantlab_line):
    done = quantlab_line("templates")
    assert done.returncode == 0
    assert "window" in done.stdout and "sessions in the volatility window" in done.stdout and "['AAPL', 'JPM', 'XOM']" in done.stdout


def test_version_and_help(quantlab_line):
    assert quantlab_line("version").stdout.startswith(f"quantlab {quantlab.__version__}, Python 3.")
    assert all(command in quantlab_line("--help").stdout for command in ("report", "runs", "templates", "version"))


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], {"pandas", "papermill", "nbformat", "mlflow", "IPython"}),
        (["report", str(SMALL), "-p", "windw=1"], {"papermill", "nbformat", "nbconvert", "mlflow", "IPython", "matplotlib"}),
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(words, heavy):
    code = (
        "import atexit, sys; from quantlab.ops.cli import main\n"
        f"atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root(), capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].strip() == "LOADED"


def test_a_module_of_the_current_folder_can_be_named(tmp_path):
    (tmp_path / "mine_here.py").write_text("def signal(bars):\n    return bars['close']\n")
    environment = {**os.environ, "QUANTLAB_ROOT": str(root())}
    words = ["report", "factor", "-p", "factor=mine_here:signal", "-p", "lags=5,0"]
    done = subprocess.run([COMMAND, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "lags are [5, 0]" in done.stderr, done.stderr
