"The runner: what a run leaves behind, that it repeats to the byte, and what it refuses."

import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, QuantlabError, ReportError, RunError
from quantlab.core.ledger import GENESIS, Ledger
from quantlab.report import run as runner
from quantlab.report import tracking
from quantlab.report.run import OWNER, clear_killed, list_runs, run_report, staged
from quantlab.report.template import read_emitted


def left_behind(folder: Path) -> list[str]:
    "Names in a run folder's parent, hidden ones included."
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_a_run_is_a_folder_of_four_files(pair):
    run = pair[0]
    assert sorted(file.name for file in run.folder.iterdir()) == [
        "manifest.json",
        "metrics.json",
        "report.html",
        "report.ipynb",
    ]
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
    assert re.fullmatch("[0-9a-f]{16}", manifest["data_hash"]) and re.fullmatch(
        "[0-9a-f]{64}", manifest["code"]["sources"]
    )
    assert (
        manifest["seed"] == 7
        and manifest["libraries"]["pandas"]
        and manifest["timings"]["total_s"] > manifest["timings"]["execute_s"] > 0
    )
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
    assert (
        logged["run_id"].tolist() == [pair[0].manifest["tracking"]]
        and pair[1].manifest["tracking"] == "mlflow not installed"
    )
    row = logged.iloc[0]
    assert row["run"] == pair[0].folder.name and row["params.window"] == "63"
    assert row["metrics.highest"] == pair[0].metrics["highest"]
    copied = {file.name for file in (home / "mlflow").rglob("*") if file.is_file()}
    assert copied == {"manifest.json", "metrics.json", "report.html", "report.ipynb"}


def test_plain_papermill_gives_the_same_numbers(pair, template, workspace):
    out = workspace / "out.ipynb"
    papermill = Path(sys.executable).with_name("papermill")
    subprocess.run(
        [papermill, template, out, "-p", "window", "63", "--no-progress-bar", "--log-level", "ERROR"],
        cwd=root(),
        check=True,
    )
    assert read_emitted(out)["metrics"] == pair[0].metrics


def test_plain_papermill_checks_its_values_too(template, workspace):
    papermill = Path(sys.executable).with_name("papermill")
    line = [
        papermill,
        template,
        workspace / "out.ipynb",
        "-p",
        "window",
        "1",
        "--no-progress-bar",
        "--log-level",
        "ERROR",
    ]
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
    cell, source = (
        nbformat.v4.new_code_cell,
        f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)",
    )
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell("x: int = 1", metadata={"tags": ["parameters"]}), cell(source)]), sleepy
    )
    # A shell may start children with SIGINT ignored; the command line is started with Python's own handler.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from quantlab.commands.cli import main; main()"
    )
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


@pytest.fixture
def quick(pair, monkeypatch):
    "Runs without a kernel: what it would have made is taken from a finished run."
    monkeypatch.setattr(runner, "execute", lambda *_: nbformat.read(pair[0].notebook, as_version=4))


@pytest.mark.parametrize("name", ["report.ipynb", "metrics.json", "report.html", "manifest.json", OWNER])
def test_a_full_disk_is_one_line_and_leaves_nothing(quick, workspace, template, monkeypatch, name):
    write_text, write = Path.write_text, nbformat.write

    def full(file, *args, **kwargs):
        "Write half of it, then find the disk full."
        file = Path(file)
        if file.name in (name, f".{name}"):
            write_text(file, "half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return write_text(file, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(
        nbformat, "write", lambda notebook, file: full(file) if name == "report.ipynb" else write(notebook, file)
    )
    with pytest.raises(RunError, match="No space left on device") as caught:
        run_report(template, track=False)
    assert "make room" in str(caught.value) and "\n" not in str(caught.value)
    assert left_behind(workspace / "runs") == []


def test_a_disk_that_fills_after_the_run_leaves_the_run_whole(quick, workspace, template, monkeypatch):
    write_json, seen = runner._write_json, []

    def full(file, content):
        seen.append(file.name)
        if seen.count("manifest.json") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        write_json(file, content)

    monkeypatch.setattr(runner, "_write_json", full)
    with pytest.raises(RunError, match="the run is complete in .*No space left"):
        run_report(template, track=False)
    [name] = left_behind(workspace / "runs")
    assert left_behind(workspace / "runs" / name) == ["manifest.json", "metrics.json", "report.html", "report.ipynb"]
    assert len(list_runs(workspace / "runs")) == 1


def test_the_next_run_clears_what_killed_ones_left(workspace):
    "kill -9 in the middle of a run leaves a hidden folder; only such folders go, and only when their process is gone."
    runs, stamp = workspace / "runs", "20240102T030405Z"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom quantlab.report.run import staged\n"
        "with staged(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'report.ipynb').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(runs / f"small-{stamp}-0123abcd.2")], cwd=root())
    assert killed.returncode == -signal.SIGKILL and left_behind(runs) == [f".small-{stamp}-0123abcd.2"]
    dead = (runs / f".small-{stamp}-0123abcd.2" / OWNER).read_text().split()[1]

    def hidden(name: str, owner: str | None) -> str:
        (runs / name).mkdir()
        (runs / name / "mine.txt").write_text("keep")
        if owner is not None:
            (runs / name / OWNER).write_text(owner)
        return name

    kept = [
        hidden(f".small-{stamp}-00000001", f"{platform.node()} {os.getpid()}\n"),  # this process writes it
        hidden(f".small-{stamp}-00000002", f"another-machine {dead}\n"),
        hidden(f".small-{stamp}-00000003", None),
        hidden(f".small-{stamp}-00000004", "no number"),
        hidden(f".small-{stamp}-00000005", f"{platform.node()} -1\n"),
        hidden(".notes", f"{platform.node()} {dead}\n"),  # not a run's name
        hidden(f"small-{stamp}-00000006", f"{platform.node()} {dead}\n"),  # not hidden
    ]
    (workspace / "elsewhere").mkdir()
    (workspace / "elsewhere" / OWNER).write_text(f"{platform.node()} {dead}\n")
    (runs / f".small-{stamp}-00000007").symlink_to(workspace / "elsewhere")
    with staged(runs / f"small-{stamp}-89abcdef"):
        pass
    assert left_behind(runs) == sorted([*kept, f".small-{stamp}-00000007", f"small-{stamp}-89abcdef"])
    assert (workspace / "elsewhere" / OWNER).exists() and clear_killed(runs) == []


def test_places_that_cannot_be_written_are_one_line(workspace, monkeypatch):
    (workspace / "file").write_text("kept")
    for place in (workspace / "file", workspace / "file" / "deeper"):
        with pytest.raises(ReportError, match="there is a file where the folder is meant"), staged(place / "run"):
            pass
    assert (workspace / "file").read_text() == "kept"

    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ReportError, match="Permission denied"), staged(workspace / "runs" / "run"):
        pass


def test_a_ledger_that_cannot_be_written_is_told_before_the_kernel(workspace, template, monkeypatch):
    (workspace / "file").write_text("kept")
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(workspace / "file" / "ledger.sqlite"))
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(ReportError, match="the ledger .* cannot be written"):
        run_report(template, track=False)
    assert left_behind(workspace / "runs") == []


def test_no_file_of_a_run_holds_a_secret_of_the_environment(quick, workspace, template, monkeypatch):
    monkeypatch.setenv("POLYGON_API_KEY", "open-sesame")
    monkeypatch.setenv("QUANTLAB_DATA_POSTGRES", "postgresql://quant:open-sesame@db/prices")
    run = run_report(template, track=False)
    assert len(left_behind(run.folder)) == 4 and not [
        file for file in run.folder.iterdir() if "sesame" in file.read_text()
    ]
    assert (
        set(run.manifest["environment"]) == set(runner.FIXED) and run.manifest["environment"]["PYTHONSAFEPATH"] == "1"
    )


def test_an_address_is_no_place_for_runs(workspace, monkeypatch):
    "A setting that names a file would otherwise make a folder that is called by its password."
    monkeypatch.setenv("QUANTLAB_RESEARCH_TRACKING", "postgresql://quant:open-sesame@db/mlflow")
    with pytest.raises(ConfigError, match="a file or folder is meant") as caught:
        tracking.runs()
    assert "sesame" not in str(caught.value)


def test_the_tearsheet_is_one_call(workspace, template, monkeypatch):
    "The template of that name, what differs from its parameters by keyword, and a wrong word refused before a kernel."
    (workspace / "templates").mkdir()
    (workspace / "templates" / "tearsheet.ipynb").write_bytes(template.read_bytes())
    monkeypatch.setenv("QUANTLAB_RESEARCH_TEMPLATES", str(workspace / "templates"))
    with pytest.raises(ConfigError, match="did you mean 'window'"):
        runner.tearsheet(windw=63)
    with pytest.raises(ConfigError, match="unknown parameter 'recipe'"):
        runner.tearsheet("momentum")
    assert not (workspace / "runs").exists()
    made = runner.tearsheet(window=63)
    assert made.manifest["template"] == "tearsheet" and made.manifest["parameters"]["window"] == 63
    assert made.html.is_file() and made.folder.parent == workspace / "runs"


def kernels() -> set[str]:
    "Return the kernels of this process that are running."
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if "ipykernel" in line and "defunct" not in line}


def written(folder: Path, check: str, code: str) -> Path:
    "Write a template of three cells."
    make = nbformat.v4.new_code_cell
    tagged = [("parameters", "n: int = 1  # a number"), ("check", check), ("", code)]
    cells = [make(source, metadata={"tags": [tag]} if tag else {}) for tag, source in tagged]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "own.ipynb")
    return folder / "own.ipynb"


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_a_kernel_beside_the_check_is_told_the_same_as_any_other(patience, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PATIENCE", patience)
    code = """
    import os, sys
    from quantlab.report.template import emit, run_folder
    assert os.environ["PYTHONHASHSEED"] == "0" and run_folder().is_dir()
    emit({"had": float("fractions" in early), "n": n})
    """
    code = "import sys\nearly = set(sys.modules)\nimport fractions\n" + code.replace("\n    ", "\n")
    run = run_report(written(tmp_path, "pass", code), {"n": 3}, tmp_path / "runs", track=False)
    assert run.metrics == {"had": 1.0, "n": 3}
    assert not kernels()


def test_a_backend_of_the_environment_takes_no_picture_away(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # as servers have it, and as importing streamlit leaves it
    code = "import matplotlib.pyplot as plt\nfrom quantlab.report.template import emit\n"
    code += "emit({'n': n})\nplt.plot([1, 2]);"
    run = run_report(written(tmp_path, "pass", code), {"n": 3}, tmp_path / "runs", track=False)
    assert run.html.read_text().count("<img") == 1


def test_a_refusal_that_takes_long_leaves_no_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PATIENCE", 0.0)
    seen = []
    look = "from quantlab.core.errors import ConfigError\nlook()\nraise ConfigError('no')"
    import builtins

    def wait():
        "Return when a kernel is there, however slow the machine is."
        for _ in range(600):
            if kernels():
                return seen.append(kernels())
            time.sleep(0.1)

    monkeypatch.setattr(builtins, "look", wait, raising=False)
    with pytest.raises(ConfigError, match="no"):
        run_report(written(tmp_path, look, "raise SystemExit"), None, tmp_path / "runs", track=False)
    gone(seen[0])
    assert len(seen[0]) == 1 and left_behind(tmp_path / "runs") == []


def test_a_refusal_does_not_wait_for_a_kernel_that_is_starting(tmp_path, monkeypatch):
    begun, wait = threading.Event(), threading.Event()
    start = runner._Kernel._start

    def slow(kernel):
        begun.set()
        wait.wait(60)
        start(kernel)

    monkeypatch.setattr(runner, "_PATIENCE", 0.0)
    monkeypatch.setattr(runner._Kernel, "_start", slow)
    with runner.kernel_beside(written(tmp_path, "pass", "pass")) as kernel:
        assert begun.wait(60)
    assert not wait.is_set(), "the block has ended, and the kernel has not begun"
    wait.set()
    kernel.thread.join(60)
    assert kernel.manager is None and kernel.error is None
    gone(kernels())


def gone(processes):
    "Wait until none of some kernels is there."
    for _ in range(600):
        if not kernels() & processes:
            return
        time.sleep(0.1)
    raise AssertionError("a kernel that nobody took is still there")


def test_a_kernel_that_does_not_start_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_imports", lambda template: 1 / 0)
    with pytest.raises(RunError, match="the kernel did not start .division by zero.; try"):
        run_report(written(tmp_path, "pass", "pass"), None, tmp_path / "runs", track=False)
    assert left_behind(tmp_path / "runs") == []
