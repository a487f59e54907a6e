"A grid of reports: every combination once, refused early, ended when it is too much, resumed after a kill."

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from quantlab.core.errors import ConfigError
from quantlab.report.run import list_runs
from quantlab.report.template import read_parameters
from quantlab.runs import grid as room
from quantlab.runs.grid import GridRun, grid_page, read_grid, run_grid

PARAMETERS = """
scale: float = 2.0  # of the answer
wait: float = 0.0  # seconds
what: str = ""  # "fail", "die", "fill", "shout"
"""
CHECK = """
from quantlab.core.errors import ConfigError

if scale < 0:
    raise ConfigError(f"scale is {scale}, expected 0 or more")
"""
ANSWER = """
import os
import time

from quantlab.report.template import emit

time.sleep(wait)
if what == "fail":
    raise ValueError("as asked")
if what == "die":
    os._exit(1)
if what == "shout":
    os.write(2, b"x" * 500_000)
if what == "fill":
    held = bytearray(800_000_000)
    time.sleep(20)
emit({"answer": scale * 1.5}, headline=["answer"])
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for key, name in {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite"}.items():
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{key}", str(tmp_path / name))
    cells = [("parameters", PARAMETERS), ("check", CHECK), ("", ANSWER)]
    body = [nbformat.v4.new_code_cell(text.strip(), metadata={"tags": [tag] if tag else []}) for tag, text in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=body), tmp_path / "small.ipynb")
    return tmp_path


def read(home: Path, text: str) -> list[dict]:
    (home / "grid.yaml").write_text(text)
    return read_grid(home / "grid.yaml", read_parameters(home / "small.ipynb"))


def test_the_product_is_in_the_order_of_the_file(home):
    assert read(home, "scale: [1, 2]\nwait: [0.0, 0.5]\nwhat: x") == [
        {"scale": 1, "wait": 0.0, "what": "x"}, {"scale": 1, "wait": 0.5, "what": "x"},
        {"scale": 2, "wait": 0.0, "what": "x"}, {"scale": 2, "wait": 0.5, "what": "x"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scala: [1]", "unknown parameter 'scala'; did you mean 'scale'"),
        ("scale: [1, big]", "cannot be 'big'"),
        ("scale: []", "the grid's scale has no values"),
        ("- 1", "is no table"),
        ("", "is no table"),
        ("scale: [1", "cannot be read"),
    ],
)
def test_a_grid_that_cannot_be_asked_is_one_line(home, text, says):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")) as refused:
        read(home, text)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_grid(home / "none.yaml", {})


def test_a_combination_that_the_check_refuses_stops_all_before_a_kernel(home, monkeypatch):
    monkeypatch.setattr(room, "_one", lambda *_: pytest.fail("started"))
    with pytest.raises(ConfigError, match="expected 0 or more"):
        run_grid(home / "small.ipynb", [{"scale": 1.0}, {"scale": -1.0}])
    assert not (home / "runs").exists()


def test_failures_are_named_and_the_others_go_on(home, monkeypatch):
    asked = [{"scale": 1.0}, {"what": "fail"}, {"what": "die"}, {"what": "fill"}]
    heard = []
    found = run_grid(
        home / "small.ipynb", asked, workers=2, memory_gb=0.6, track=False,
        progress=lambda *step: heard.append(step[:2]),
    )  # fmt: skip
    assert [one.asked for one in found] == asked and sorted(heard) == [(n + 1, 4) for n in range(4)]
    assert found[0].run.metrics == {"answer": 1.5} and all(one.run is None for one in found[1:])
    says = ["ValueError: as asked", "the kernel died", "more than 0.6 GB"]
    assert all(word in one.error for word, one in zip(says, found[1:], strict=True))
    kept = [folder.name for folder in (home / "runs").iterdir() if folder.name.endswith("-failed")]
    assert len(kept) == 3, "each keeps its notebook"
    (late,) = run_grid(home / "small.ipynb", [{"wait": 60.0}], timeout=6, track=False)
    assert late.run is None and "longer than 6 s" in late.error
    page = grid_page(found, home / "small.ipynb").read_text()
    assert page.count('<tr class="run">') == 1 and page.count('<p class="meta">failed: ') == 3
    monkeypatch.setattr(room, "_one", lambda *_: pytest.fail("started"))
    again = run_grid(home / "small.ipynb", asked[:1], track=False)
    assert again[0].there and again[0].run.folder == found[0].run.folder, "a second grid starts no kernel"


def test_a_run_that_says_much_is_not_blocked(home):
    (found,) = run_grid(home / "small.ipynb", [{"what": "shout"}], timeout=120, track=False)
    assert found.run is not None, found.error


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_grid_goes_on_where_it_stopped(home, how):
    asked = [{"scale": float(n), "wait": 1.0} for n in range(4)]
    code = (
        "import json, signal, sys; from quantlab.runs.grid import run_grid; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background job begins by ignoring it
        f"run_grid({str(home / 'small.ipynb')!r}, json.loads(sys.argv[1]), track=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(asked)], env=os.environ)
    deadline = time.monotonic() + 120
    while len(list_runs()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(how)
    parent.wait(timeout=20)
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    there = len(list_runs())
    found = run_grid(home / "small.ipynb", asked, track=False)
    assert 2 <= there < 4 and [one.there for one in found] == [n < there for n in range(4)]
    assert [one.run.metrics["answer"] for one in found] == [0.0, 1.5, 3.0, 4.5] and len(list_runs()) == 4


@pytest.mark.slow
def test_twenty_runs_killed_at_the_eleventh_go_on_there_and_the_same_grid_starts_no_kernel(home, monkeypatch):
    "One kernel at a time, so that which run is the eleventh is no accident."
    asked = [{"scale": float(n), "wait": 0.3} for n in range(20)]
    code = (
        "import json, sys; from quantlab.runs.grid import run_grid; "
        f"run_grid({str(home / 'small.ipynb')!r}, json.loads(sys.argv[1]), workers=1, track=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(asked)], env=os.environ)
    deadline = time.monotonic() + 300
    while len(list_runs()) < 10 and parent.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait(timeout=20)
    psutil.wait_procs(children, timeout=20)
    assert len(list_runs()) == 10
    found = run_grid(home / "small.ipynb", asked, track=False)
    assert [one.there for one in found] == [True] * 10 + [False] * 10
    assert [one.run.metrics["answer"] for one in found] == [1.5 * n for n in range(20)]
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **how: started.append(words))
    monkeypatch.setattr("quantlab.report.run.execute", lambda *words, **how: started.append(words))
    again = run_grid(home / "small.ipynb", asked, track=False)
    assert all(one.there for one in again) and started == [] and len(list_runs()) == 20
    assert [one.run.folder for one in again] == [one.run.folder for one in found]


def test_the_page_of_a_grid_of_which_all_failed(home):
    page = grid_page([GridRun({"scale": 1.0}, None, error="<why>")], home / "small.ipynb").read_text()
    assert "&lt;why&gt;" in page and page.count('<tr class="run">') == 0
