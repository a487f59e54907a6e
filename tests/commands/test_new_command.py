"quantlab new: each kind is made in a workspace of its own, runs, is tested, is used by name, and nothing is lost."

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from quantlab.commands.new_commands import KINDS, check_new_name, export_own, make_new, new_app, own_code, stale_own
from quantlab.core.config import import_named, root
from quantlab.core.errors import ConfigError
from quantlab.recipe.parts import make_model
from quantlab.recipe.spec import load
from quantlab.report.template import find_template, templates

PROGRAM = Path(sys.executable).parent / "quantlab"
NAMES = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO"
CELLS = """
import json, sys
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), globals())
"""


def workspace(folder):
    "Make a folder a workspace over the committed sample."
    (folder / "settings.ini").write_text((root() / "settings.ini").read_text())
    (folder / "data").mkdir()
    (folder / "reports").mkdir()
    (folder / "data" / "sample").symlink_to(root() / "data" / "sample")
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    workspace(tmp_path)
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A workspace in which one of each kind was made at the prompt."
    folder = workspace(tmp_path_factory.mktemp("workspace"))
    for kind in KINDS:
        done = call(folder, "new", kind, f"own_{kind}")
        assert done.returncode == 0, done.stderr
        assert "used as: " in done.stderr and f"mine/tests/test_own_{kind}.py" in done.stdout
    return folder


OTHERS = ("model", "policy", "strategy")  # their pages run in make test-slow


def call(folder, *words, program=PROGRAM):
    "Run a program in a workspace, with no other workspace and no store of the machine in sight."
    own = {f"QUANTLAB_RESEARCH_{key}": str(folder / key.lower()) for key in ("RUNS", "LEDGER", "TRACKING", "CACHE")}
    terms = {**os.environ, **own, "QUANTLAB_ROOT": str(folder), "MPLBACKEND": "agg"}
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, cwd=folder, env=terms)


@pytest.mark.parametrize("kind", ["factor", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)])
def test_the_page_runs_as_it_is(place, kind):
    file = place / "mine" / f"own_{kind}.ipynb"
    nbformat.validate(nbformat.read(file, as_version=4))
    cells = json.loads(file.read_text())["cells"]
    assert "".join(cells[0]["source"]).startswith(f"# own_{kind}\n\n> ")
    assert "**Why.**" in "".join(cells[1]["source"])
    assert "_figure(" in file.read_text(), "no picture"
    done = call(place, "-c", CELLS, file, program=sys.executable)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_their_tests_pass(place):
    done = call(place, "-m", "pytest", "-q", "mine", program=sys.executable)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"(\d+) passed", done.stdout)[1] == "21"


def test_factor_model_and_policy_are_used_by_name_in_a_recipe(place):
    (place / "all.yaml").write_text(f"""
data: {{universe: "{NAMES}", start: "2013-01-02", end: "2017-12-29"}}
features: {{use: [price, "mine.own_factor:own_factor"], transform: [rank]}}
model: {{kind: "mine.own_model:OwnModel", shrink: 50.0}}
policy: {{kind: "mine.own_policy:OwnPolicy", top_k: 3, buffer: 0, rebalance: 20}}
study: all
""")
    done = call(place, "run", "all.yaml")
    assert done.returncode == 0, done.stderr
    assert "rank IC" in done.stdout and "1 tried" in done.stdout


@pytest.mark.slow
def test_a_recipe_and_a_report_are_found_by_their_names(place):
    done = call(place, "run", "own_recipe", "-p", f"data.universe={NAMES}", "-p", "policy.top_k=3")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).name.startswith("own_recipe-")
    done = call(place, "report", "own_report", "-p", "end=2016-12-30", "--no-track")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()
    assert "own_report" in call(place, "templates").stdout


def test_a_setting_that_a_model_does_not_take_is_refused_in_one_line(empty):
    make_new("model", "slanted")
    assert make_model("mine.slanted:Slanted", 21, settings={"shrink": 3.0}).shrink == 3.0
    with pytest.raises(ConfigError, match="does not take shrnk"):
        make_model("mine.slanted:Slanted", 21, settings={"shrnk": 3.0})


def test_a_strategy_is_imported_from_the_workspace(empty):
    make_new("strategy", "stepwise")
    made = import_named("mine.stepwise:Stepwise")
    assert made().lookback == 100


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("factr", "dip", "did you mean factor"),
        ("factor", "2nd", "cannot be a name"),
        ("factor", "two words", "cannot be a name"),
        ("factor", "../dip", "cannot be a name"),
        ("factor", "Dip", "cannot be a name"),
        ("model", "class", "cannot be a name"),
        ("factor", "test_dip", "cannot be a name"),
        ("factor", "signal", "something else"),  # of the library: a kernel that starts in mine/ would import ours
        ("factor", "numpy", "something else"),
        ("policy", "top_k", "something else"),
        ("factor", "bars", "something else"),
        ("model", "slope", None),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_and_nothing_is_written(empty, kind, name, said):
    if said is None:
        check_new_name(kind, name)
        return
    with pytest.raises(ConfigError, match=said):
        make_new(kind, name)
    assert not (empty / "mine").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_over(empty, kind):
    *files, _ = make_new(kind, "dip")
    for file in files:  # any of them is enough
        for other in files:
            (empty / other).unlink(missing_ok=True)
        (empty / file).write_text("mine")
        with pytest.raises(ConfigError, match="is there already"):
            make_new(kind, "dip")
        assert (empty / file).read_text() == "mine"
        assert [other for other in files if (empty / other).exists()] == [file]


def test_a_committed_recipe_and_report_keep_their_names(empty):
    for folder, file in (("recipes", "calm.yaml"), ("reports", "calm.ipynb")):
        (empty / folder).mkdir(exist_ok=True)
        (empty / folder / file).write_text("{}")
        with pytest.raises(ConfigError, match=f"{folder}/{file} is there already"):
            make_new(folder[:-1], "calm")


def test_the_committed_one_of_two_of_a_name_is_taken(empty):
    make_new("recipe", "calm")
    make_new("report", "calm_page")
    assert load("calm").title == "calm" and find_template("calm_page").parent.parent.name == "mine"
    for folder, file in (("recipes", "calm.yaml"), ("reports", "calm_page.ipynb")):
        (empty / folder).mkdir(exist_ok=True)
        (empty / folder / file).write_text("title: Committed\n")
    assert load("calm").title == "Committed"
    assert templates()["calm_page"].parent.name == "reports" and find_template("calm_page").parent == empty / "reports"


def test_what_half_was_written_is_taken_away(empty, monkeypatch):
    from quantlab.commands import new_commands

    def full(name):
        raise OSError("no room")

    monkeypatch.setattr(new_commands, "export_own", full)
    with pytest.raises(OSError, match="no room"):
        make_new("factor", "dip")
    assert [file for file in empty.glob("mine/**/*") if file.is_file()] == []


def test_an_edited_notebook_is_stale_until_it_is_exported(empty):
    make_new("factor", "dip")
    file = empty / "mine" / "dip.ipynb"
    assert not stale_own("dip")
    file.write_text(file.read_text().replace("close.shift(10)", "close.shift(20)"))
    assert stale_own("dip")
    export_own("dip")
    assert not stale_own("dip") and "close.shift(20)" in (empty / "mine" / "dip.py").read_text()
    file.write_text(file.read_text().replace("return 1 -", "return 1 - ("))
    with pytest.raises(ConfigError, match="no Python"):
        export_own("dip")
    assert "close.shift(20)" in (empty / "mine" / "dip.py").read_text()
    file.write_text("[]")
    with pytest.raises(ConfigError, match="saved notebook"):
        own_code(file)


def test_the_same_name_gives_the_same_files(empty):
    *files, _ = make_new("policy", "dip")
    first = [(empty / file).read_bytes() for file in files]
    for file in files:
        (empty / file).unlink()
    make_new("policy", "dip")
    assert [(empty / file).read_bytes() for file in files] == first


def test_the_command_is_one_line_of_the_command_line():
    done = CliRunner().invoke(new_app, ["--help"])
    assert done.exit_code == 0 and "factor, model, policy, strategy, recipe or report" in " ".join(done.output.split())
    assert " new " in subprocess.run([PROGRAM, "--help"], capture_output=True, text=True).stdout
