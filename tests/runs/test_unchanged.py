"A finished run is found again while nothing that goes into it has changed, and made again when something has."

import json
import os
from pathlib import Path

import nbformat
import pytest

from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.report import run as runner
from quantlab.report.run import list_runs
from quantlab.runs import unchanged
from quantlab.runs.unchanged import disk_state, find_unchanged, input_state, run_once, trials_state

CELLS = [
    (
        "parameters",
        'scale: float = 2.0  # of the answer\nfile: str = ""  # read\nledger_head: str = ""  # of the ledger',
    ),
    (
        "",
        """
from quantlab.core.config import path, root
from quantlab.core.ledger import Ledger
from quantlab.report.template import emit

counted = len(Ledger(path("research", "ledger")).trials("demo", until=ledger_head or None))
trial = dict(key="k", study="demo", params={}, n_obs=99, periods_per_year=252, sharpe=0.1, skew=0.0, kurtosis=3.0)
emit({"answer": scale * 1.5, "trials": counted}, headline=["answer"], trials=[trial])
""",
    ),
]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for key, name in {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite"}.items():
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{key}", str(tmp_path / name))
    body = [nbformat.v4.new_code_cell(text.strip(), metadata={"tags": [tag] if tag else []}) for tag, text in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=body), tmp_path / "small.ipynb")
    return tmp_path


def once(home: Path, **parameters):
    return run_once(home / "small.ipynb", parameters, track=False)


@pytest.fixture
def kernels(monkeypatch) -> list:
    "Count the kernels that are started."
    started, execute = [], runner.execute
    monkeypatch.setattr(runner, "execute", lambda *given: started.append(given) or execute(*given))
    return started


def test_the_same_question_starts_one_kernel(home, kernels):
    first, there = once(home)
    assert not there and first.manifest["inputs"]["trials"] and len(kernels) == 1
    again, there = once(home)
    assert there and again.folder == first.folder and again.metrics == first.metrics and len(kernels) == 1
    assert run_once(home / "small.ipynb", {}, track=False, force=True)[1] is False and len(kernels) == 2


def test_what_goes_in_makes_it_again(home, kernels, monkeypatch):
    extra = home / "extra.csv"
    extra.write_text("1")
    once(home, file=str(extra))
    assert once(home, file=str(extra))[1]
    extra.write_text("2")
    assert not once(home, file=str(extra))[1], "a file that a parameter names"
    Ledger(home / "ledger.sqlite").record("trial", "z", "another", {}, 99, 252, 0.1, 0.0, 3.0)
    assert once(home, file=str(extra))[1], "a try of another study"
    Ledger(home / "ledger.sqlite").record("trial", "z", "demo", {}, 99, 252, 0.1, 0.0, 3.0)
    found, there = once(home, file=str(extra))
    assert not there and found.metrics["trials"] == 2, "a try of its study"
    assert once(home, file=str(extra))[1]
    monkeypatch.setattr(unchanged, "environment", lambda: {"numpy": "0.1"})
    assert not once(home, file=str(extra))[1], "a library"
    assert len(kernels) == 4


def test_a_run_whose_page_is_gone_is_made_again(home, kernels):
    first, _ = once(home)
    first.html.unlink()
    assert not once(home)[1]


def test_every_file_counts_by_its_content_and_a_large_one_by_its_time(tmp_path, monkeypatch):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    file, states = tmp_path / "a" / "deep" / "x.csv", set()
    for text in ("1", "2"):
        file.write_text(text)
        os.utime(file, ns=(10**9, 10**9))
        states.add(disk_state([tmp_path / "a"]))
    file.rename(file.with_name("y.csv"))
    states.add(disk_state([tmp_path / "a"]))
    assert len(states) == 3
    before = disk_state([tmp_path / "a"])
    for name in ("ledger.sqlite", "ledger.sqlite.head", "mlflow/run/model", "__pycache__/x.pyc"):
        made = tmp_path / "a" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text("1")
    assert disk_state([tmp_path / "a"]) == before, "what runs write is no input"
    monkeypatch.setattr(unchanged, "_HASHED", 0)
    large = disk_state([tmp_path / "a"])
    os.utime(file.with_name("y.csv"), ns=(10**9, 2 * 10**9))
    assert disk_state([tmp_path / "a"]) != large


def test_order_of_parameters_is_no_difference_and_a_value_is(home):
    file = home / "small.ipynb"
    values = {"scale": 2.0, "file": "", "ledger_head": ""}
    assert input_state(file, values) == input_state(file, dict(reversed(values.items())))
    assert input_state(file, values) != input_state(file, values | {"scale": 2.5})
    assert find_unchanged(file, input_state(file, values)) is None and trials_state([]) == {}


def test_settings_own_modules_and_stores_go_in(home, monkeypatch):
    file, values = home / "small.ipynb", {"scale": 2.0, "file": "", "ledger_head": ""}
    seen = [input_state(file, values)]
    monkeypatch.setenv("QUANTLAB_RESEARCH_SEED", "8")
    seen.append(input_state(file, values))
    monkeypatch.setenv("QUANTLAB_RESEARCH_RUNS", str(home / "elsewhere"))
    assert input_state(file, values) == seen[-1], "where runs are written moves no number"
    monkeypatch.syspath_prepend(home)
    module = home / "my_alphas.py"
    recipe = home / "mine.yaml"
    recipe.write_text("model: {kind: my_alphas:Model}")
    for text in ("a = 1", "a = 2"):
        module.write_text(text)
        seen.append(input_state(file, values | {"file": str(recipe)}))
    store = home / "shared" / "data" / "some"
    for name in ("features", "calendars", "instruments"):
        (store / name).mkdir(parents=True)
    monkeypatch.setenv("QUANTLAB_SHARED", str(home / "shared"))
    for text in ("1", "2"):
        (store / "calendars" / "day.txt").write_text(text)
        seen.append(input_state(file, values | {"file": "data.source=qlib:some"}))
    assert len(set(seen)) == len(seen)


def test_a_wrong_word_is_refused_before_anything_is_hashed(home, monkeypatch):
    monkeypatch.setattr(unchanged, "input_state", lambda *_: pytest.fail("hashed"))
    with pytest.raises(ConfigError, match="did you mean 'scale'"):
        once(home, scala=1.0)
    assert list_runs() == []


def test_a_run_of_before_without_inputs_is_not_taken(home, kernels):
    first, _ = once(home)
    manifest = json.loads((first.folder / "manifest.json").read_text())
    del manifest["inputs"]
    (first.folder / "manifest.json").write_text(json.dumps(manifest))
    assert not once(home)[1]


def test_the_ledger_of_slots_is_no_input(tmp_path, monkeypatch):
    (tmp_path / "bars").write_text("1")
    before = disk_state([tmp_path]), unchanged._settings()
    (tmp_path / "schedule.sqlite").write_text("2")
    monkeypatch.setenv("QUANTLAB_RESEARCH_SCHEDULE", "elsewhere.sqlite")
    assert (disk_state([tmp_path]), unchanged._settings()) == before
