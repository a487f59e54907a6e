"The installed command: help and refusals at once, one line for a mistake, exit codes, the path of the page."

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import quantlab
from quantlab.commands import cli
from quantlab.core.config import root
from quantlab.runs.pdf import BROWSERS

COMMAND = Path(sys.executable).with_name("quantlab")
BROWSER = any(map(shutil.which, BROWSERS))
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
    ("error", "remedy"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "b.csv"), "b.csv; give a path that is there"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "runs"), "runs; give a path that is there"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs; mend the permissions, then run again"),
        (OSError(errno.ENOSPC, "No space left on device"), "device; make room, then run again"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "peer; mend that, then run again"),
    ],
)
def test_what_the_system_refuses_comes_with_what_helps(monkeypatch, capsys, error, remedy):
    def refuse():
        raise error

    monkeypatch.setattr(cli, "app", refuse)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and capsys.readouterr().err.endswith(f"{remedy}\n")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["report", "smal"], "did you mean 'small'?"),
        (["report", "small", "-p", "windw=30"], "unknown parameter 'windw'; did you mean 'window'?"),
        (
            ["report", "small", "-p", "window=many"],
            "parameter window (int, default 21: sessions in the volatility window) cannot be 'many'",
        ),
        (["report", "small", "-p", "window"], "write name=value"),
        (["report", "small", "-p", "end=2001-01-01"], "end 2001-01-01 is before start 2019-01-01"),
        (["report", "small", "-p", "symbols="], "symbols is empty"),
        (["report", "small", "-p", "data=no/such.parquet"], "data file no/such.parquet does not exist"),
        (["templates", "smal"], "did you mean 'small'?"),
        (["report", "small", "--windw", "30"], "unknown parameter 'windw'; did you mean 'window'?"),
        (["report", "small", "--window=many"], "cannot be 'many'"),
        (["report", "small", "--window"], "as a parameter it has no value"),
        (["report", "small", "--ouput", "x"], "there is no option --ouput; did you mean 'output'?"),
        (["report", "small", "more"], "more is one argument too many"),
        (["report", "small", "--pdf", "--grid", "g.yaml"], "--pdf prints the page" if BROWSER else "a PDF needs"),
        (["runs", "one", "--html"], "runs named: 1"),
        (["doctor", "none"], "no run 'none'"),
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
    assert (
        Path(printed).is_file()
        and Path(printed).name == "report.html"
        and Path(printed).is_relative_to(workspace / "runs")
    )
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
    assert done.returncode == 0 and "metrics.highest" in done.stdout and "params." not in done.stdout, (
        "a run differs from itself"
    )
    refused = quantlab_line("runs", "--compare", name, "other")
    assert (
        refused.returncode == 2
        and refused.stderr.startswith("error: 0 runs are called 'other'")
        and refused.stderr.count("\n") == 1
    )


def test_two_runs_on_one_page_and_the_doctor_of_one(finished, quantlab_line, workspace):
    name = Path(finished.stdout.strip()).parent.name
    plain, page = quantlab_line("runs", name, name[:-4]), quantlab_line("runs", name, name[:-4], "--html")
    assert plain.returncode == 0 and "metrics.highest" in plain.stdout
    [printed] = page.stdout.splitlines()
    assert page.returncode == 0 and f'A is <a href="{name}/report.html">{name}</a>' in Path(printed).read_text()
    told = quantlab_line("doctor", name)
    assert told.returncode == 0 and told.stdout.startswith("nothing suspicious")
    Path(printed).unlink()


@pytest.mark.skipif(not BROWSER, reason="no chromium is installed (Debian package chromium)")
def test_the_page_of_a_run_as_pdf(finished, quantlab_line):
    page = Path(finished.stdout.strip())
    printed = quantlab_line("runs", page.parent.name, "--pdf")
    assert printed.returncode == 0 and Path(printed.stdout.strip()).read_bytes().startswith(b"%PDF"), printed.stderr
    page.with_suffix(".pdf").unlink()


def test_a_failing_cell_exits_one_without_a_traceback(quantlab_line, workspace):
    done = quantlab_line("report", "small", "-p", "accident=raise", "--output", str(workspace / "bad"), "--no-track")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(
        "error: cell 10 (# Here the tests break the report.) failed: RuntimeError: the last line; see "
    )
    assert done.stderr.count("\n") == 1
    [kept] = (workspace / "bad").glob("*/*")
    assert kept.name == "report.ipynb" and kept.parent.name.endswith("-failed") and "a long story" in kept.read_text()


def test_templates_shows_every_parameter(quantlab_line):
    done = quantlab_line("templates")
    assert done.returncode == 0
    assert (
        "window" in done.stdout
        and "sessions in the volatility window" in done.stdout
        and "['AAPL', 'JPM', 'XOM']" in done.stdout
    )


def commands_of(app):
    "List every command of an application and of its groups."
    for name, command in typer.main.get_command(app).commands.items():
        yield from command.commands.items() if hasattr(command, "commands") else [(name, command)]


def test_help_of_a_command_is_a_sentence_without_the_sections_of_a_docstring():
    found = dict(commands_of(cli.app))
    assert {"run", "decide", "search", "diff", "report", "import"} <= set(found)
    for name, command in found.items():
        assert command.help and "------" not in command.help and len(command.help) < 200, name


def test_version_and_help(quantlab_line):
    assert quantlab_line("version").stdout.startswith(f"quantlab {quantlab.__version__}, Python 3.")
    assert all(command in quantlab_line("--help").stdout for command in ("report", "runs", "templates", "version"))


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], {"pandas", "papermill", "nbformat", "mlflow", "IPython"}),
        (
            ["report", str(SMALL), "-p", "windw=1"],
            {"papermill", "nbformat", "nbconvert", "mlflow", "IPython", "matplotlib"},
        ),
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(words, heavy):
    code = (
        "import atexit, sys; from quantlab.commands.cli import main\n"
        f"atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root(), capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].strip() == "LOADED"


REFUSED = {
    "report tearshet": "did you mean 'tearsheet'?",
    "report tearsheet -p topk=3": "did you mean 'top_k'?",
    "report tearsheet -p top_k=many": "give a value of type int",
    "report tearsheet -p top_k=0": "parameter top_k: policy.top_k is 0",
    "report tearsheet -p recipe=defualt": "did you mean default?",
    "report tearsheet -p recipe=gated_trees -p overrides=model.num_leafs=63": "did you mean num_leaves?",
    "report tearsheet --predictions no/such.parquet": "does not exist",
    "report tearsheet -p reconcile=al": "did you mean all?",
    "report tearsheet -p feature_set=bas": "did you mean base?",
    "report tearsheet -p model=gmb": "did you mean gbm?",
    "report tearsheet -p model=nowhere_at_all:X": "cannot import 'nowhere_at_all:X'",
    "report tearsheet -p start=soon": "parameter start is 'soon'",
    "report tearsheet -p end=2001-01-01": "swap them",
    "report tearsheet -p ledger_head=abc": "the hash of a row of the ledger",
    "report tearsheet -p data=no/such.csv": "data file no/such.csv does not exist",
    "report factor -p entry=opn": "parameter entry: label.entry is 'opn'",
    "report factor -p lags=5,0": "lags are [5, 0]",
    "report factor -p universe=,": "'all' or symbols separated by commas",
    "report factor -p study=": "expected a name",
    "report model -p horizon=0": "parameter horizon: label.horizon is 0",
    "report model -p learn_every=0": "parameter learn_every: split.learn_every is 0",
    "report model -p lengths=600,500": "lengths are [600.0, 500.0]",
    "report model -p data=smple": "did you mean sample?",
    "report cascade -p encoder=kernel": "did you mean kernels?",
    "report cascade -p blocks=2": "blocks is 2, expected between 4 and 20",
    "report csi300_published -p seed=9": "parameter seed is 9",
    "report data_health -p stale=0": "parameter stale is 0",
    "report data_health -p end=never": "parameter end is 'never'",
}


def test_what_needs_no_data_is_refused_where_pandas_cannot_be_imported():
    """One process in which pandas and numba do not exist: names, types, ranges and choices of every template are
    told all the same."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys("
        "['pandas', 'numba', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'duckdb'], None))\n"
        "from quantlab.commands.cli import main\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    sys.argv = ['quantlab', *line.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        print('CODE', stop.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(REFUSED), cwd=root(), capture_output=True, text=True
    )
    said = done.stderr.replace("\nCODE 2", "").splitlines()
    assert done.stdout == "" and len(said) == len(REFUSED), done.stderr[-2000:]
    for (line, words), answer in zip(REFUSED.items(), said, strict=True):
        assert answer.startswith("error: ") and words in answer, f"{line}: {answer}"


ASKED = {
    "report tearsheet -p universe=AAPLE": "nearest: AAPL",
    "report cascade -p start=2030-01-01 -p end=2031-01-01": "the data runs from 2010-01-04",
    "report factor -p factor=mom_252_2": "did you mean mom_252_21?",
}


def test_what_needs_the_data_loads_only_what_reads_it():
    heavy = {
        "sklearn",
        "matplotlib",
        "duckdb",
        "pandera",
        "exchange_calendars",
        "statsmodels",
        "arch",
        "lightgbm",
        "mlflow",
        "IPython",
        "papermill",
    }
    code = (
        "import sys\n"
        "from quantlab.report import run\n"
        "run._PATIENCE = 600.0\n"  # what the check itself loads: no kernel is started beside it
        "from quantlab.commands.cli import main\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    sys.argv = ['quantlab', *line.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert stop.code == 2\n"
        f"print('LOADED', *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(ASKED), cwd=root(), capture_output=True, text=True
    )
    *said, loaded = done.stderr.splitlines()
    assert loaded.strip() == "LOADED" and len(said) == len(ASKED), done.stderr
    assert all(words in answer for words, answer in zip(ASKED.values(), said, strict=True)), said


def evil(folder: Path) -> Path:
    "Fill a folder with modules that must not be imported, and one that may."
    trap = "raise SystemExit('the current folder was imported')\n"
    for name in (
        "pandas",
        "typing",
        "numba",
        "json",
        "typer",
        "papermill",
        "ipykernel_launcher",
        "IPython",
        "sitecustomize",
        "usercustomize",
        "joblib",
    ):
        (folder / f"{name}.py").write_text(trap)
    for name in ("quantlab", "numpy", "nbformat"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(trap)
    (folder / "mine_here.py").write_text("import pandas as pd\n\n\ndef signal(bars):\n    return bars['close'] * 1.0\n")
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["templates"], 0),
        (["audit", "mine_here:signal", "--universe", "AAPL,MSFT", "--cuts", "1"], 0),
    ],
)
def test_the_current_folder_comes_after_what_is_installed(tmp_path, words, code):
    environment = {**os.environ, "QUANTLAB_ROOT": str(root()), "QUANTLAB_DATA_LAKE": str(tmp_path / "lake")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([COMMAND, *words], cwd=evil(tmp_path), env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "the current folder" not in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_a_kernel_looks_last_into_the_folder_its_caller_stands_in(tmp_path):
    """A template imports a module of the caller's folder, and the installed ones in spite of their namesakes there
    and beside it."""
    import nbformat

    cell = nbformat.v4.new_code_cell
    source = (
        "import typing, json, pandas, numpy, joblib, quantlab, mine_here\n"
        "from quantlab.report.template import emit\nprint(pandas.__file__)\n"
        "emit({'found': float(callable(mine_here.signal))})"
    )
    (tmp_path / "here").mkdir()
    place = evil(tmp_path / "here")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell("x: int = 1", metadata={"tags": ["parameters"]}), cell(source)]),
        place / "mine.ipynb",
    )
    names = {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite", "TEMPLATES": "here"}
    environment = {
        **os.environ,
        "QUANTLAB_ROOT": str(root()),
        **{f"QUANTLAB_RESEARCH_{key}": str(tmp_path / name) for key, name in names.items()},
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [COMMAND, "report", "mine.ipynb", "--no-track"], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((Path(done.stdout.strip()).parent / "metrics.json").read_text()) == {"found": 1.0}


def test_one_broken_run_does_not_hide_the_others(finished, quantlab_line, workspace, tmp_path):
    whole, runs = Path(finished.stdout.strip()).parent, tmp_path / "runs"
    shutil.copytree(whole, runs / whole.name)
    for name, text in {
        "half": '{"started": "2024',
        "list": "[]",
        "empty": "",
        "foreign": '{"started": "2024-01-01T00:00:00Z"}',
        "bytes": "\udcff",
    }.items():
        shutil.copytree(whole, runs / f"broken-{name}")
        (runs / f"broken-{name}" / "manifest.json").write_text(text, errors="surrogateescape")
    shutil.copytree(whole, runs / "broken-numbers")
    (runs / "broken-numbers" / "metrics.json").write_text('{"highest": "high"}')
    shutil.copytree(whole, runs / "broken-missing")
    (runs / "broken-missing" / "metrics.json").unlink()
    done = quantlab_line("runs", "--output", str(runs))
    assert done.returncode == 0 and whole.name in done.stdout and done.stdout.count("\n") == 2
    told = done.stderr.splitlines()
    assert len(told) == 7 and all(
        line.startswith("passed over: run broken-") and "is broken" in line for line in told
    ), done.stderr
    refused = quantlab_line("runs", "--output", str(runs / whole.name / "report.html"))
    assert (
        refused.returncode == 2
        and "is a file, and a folder of runs is meant" in refused.stderr
        and refused.stderr.count("\n") == 1
    )


def test_no_line_shows_a_password(quantlab_line, workspace, monkeypatch):
    for line in (
        ["report", "small", "-p", "data=postgresql://quant:open-sesame@db/prices"],
        ["report", "small", "-p", "window=password=open-sesame"],
        ["report", "api_key=open-sesame"],
    ):
        done = quantlab_line(*line)
        assert done.returncode == 2 and "***" in done.stderr and "open-sesame" not in done.stdout + done.stderr, (
            done.stderr
        )
    environment = {**os.environ, "POLYGON_API_KEY": "open-sesame"}
    done = subprocess.run(
        [COMMAND, "report", "open-sesame"], cwd=root(), env=environment, capture_output=True, text=True
    )
    assert "no template '***'" in done.stderr and "open-sesame" not in done.stderr


def test_a_file_where_a_folder_is_meant_is_one_line(quantlab_line, workspace):
    (workspace / "in_the_way").write_text("a file")
    done = quantlab_line("report", "small", "--output", str(workspace / "in_the_way"), "--no-track")
    assert (
        done.returncode == 2
        and "there is a file where the folder is meant" in done.stderr
        and done.stderr.count("\n") == 1
    )
    assert (workspace / "in_the_way").read_text() == "a file"
    environment = {
        **os.environ,
        "QUANTLAB_RESEARCH_LEDGER": str(workspace / "in_the_way" / "ledger.sqlite"),
        "QUANTLAB_RESEARCH_RUNS": str(workspace / "never"),
    }
    done = subprocess.run(
        [COMMAND, "report", str(SMALL), "--no-track"], cwd=root(), env=environment, capture_output=True, text=True
    )
    assert (
        done.returncode == 2
        and "the ledger" in done.stderr
        and "cannot be written" in done.stderr
        and done.stderr.count("\n") == 1
    )
    assert not (workspace / "never").exists(), "no minutes were spent on what could not be recorded"


def test_the_env_file_fills_what_is_not_set(tmp_path):
    "The command reads .env of its workspace: settings and keys, nothing that changes where programs are found."
    for name in ("settings.ini",):
        shutil.copy(root() / name, tmp_path / name)
    (tmp_path / "mine").mkdir()
    shutil.copy(SMALL, tmp_path / "mine" / "small_own.ipynb")
    (tmp_path / ".env").write_text("QUANTLAB_RESEARCH_TEMPLATES=mine\nPYTHONPATH=/elsewhere\nPATH=/nowhere\n")
    done = subprocess.run(
        [COMMAND, "templates"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("QUANTLAB_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "small_own" in done.stdout, done.stderr
    (tmp_path / ".env").write_text("A_TOKEN open-sesame\n")
    done = subprocess.run(
        [COMMAND, "templates"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("QUANTLAB_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "line 1 of .env is not NAME=value" in done.stderr and "sesame" not in done.stderr


def test_the_ledger_is_proved_with_the_heads_that_runs_name(quantlab_line, workspace, finished):
    whole = quantlab_line("ledger")
    assert whole.returncode == 0 and "rows in one chain, the heads of " in whole.stdout, whole.stderr
    file = workspace / "ledger.sqlite"
    kept = {name: name.read_bytes() for name in workspace.glob("ledger.sqlite*")}
    for harm in (
        "UPDATE ledger SET written = '2001-01-01T00:00:00' WHERE seq = (SELECT max(seq) FROM ledger)",
        "DELETE FROM ledger",
    ):
        with sqlite3.connect(file) as connection:
            connection.executescript("DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete;")
            connection.execute(harm)
        (workspace / "ledger.sqlite.head").unlink()  # whoever cuts the tail takes the note of its head as well
        done = quantlab_line("ledger")
        for name, content in kept.items():
            name.write_bytes(content)
        assert (
            done.returncode == 2
            and done.stdout == ""
            and done.stderr.startswith("error: ")
            and done.stderr.count("\n") == 1
        )
    assert quantlab_line("ledger").stdout == whole.stdout
