"The tearsheet as a page about a recipe: what it refuses, what it keeps, and that it prints what it printed before."

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.spec import load, recipe_names
from quantlab.report.checks import PAGE_FIELDS
from quantlab.report.run import run_report
from quantlab.report.template import find_template, read_parameters

GOLDEN = json.loads((Path(__file__).parent / "golden_tearsheet.json").read_text())
SMALL = {
    "recipe": "gated_trees",
    "universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2013-01-02", "end": "2016-12-30",
    "feature_set": "rev_5, std_20", "model": "ridge", "train_sessions": 252, "test_sessions": 126, "top_k": 4,
    "buffer": 1,
    "max_weight": 0.25, "gate": False, "reconcile": "none", "draws": 10,
}  # fmt: skip


def test_every_committed_recipe_loads_and_is_called_as_its_file():
    assert {"default", "momentum"} <= set(recipe_names())
    assert all(load(name).name == name for name in recipe_names())


@pytest.mark.parametrize("template", ["tearsheet", "model", "cascade"])
def test_each_line_of_the_page_says_where_it_leads(template):
    spec = read_parameters(find_template(template))
    shared = {name: p for name, p in spec.items() if name in PAGE_FIELDS}
    assert len(shared) > 15
    for name, parameter in shared.items():
        assert parameter.default is None and parameter.comment.startswith(PAGE_FIELDS[name]), name
        assert parameter.comment.endswith("None: the recipe's")


def test_every_line_stands_on_some_page():
    pages = ("tearsheet", "factor", "model", "cascade")
    assert set(PAGE_FIELDS) <= {name for page in pages for name in read_parameters(find_template(page))}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"top_kk": 20}, "did you mean 'top_k'"),
        ({"recipe": "defualt"}, "did you mean default"),
        ({"recipe": "gated_trees", "overrides": "model.num_leafs=63"}, "did you mean num_leaves"),
        ({"recipe": "gated_trees", "overrides": "model.num_leaves=1"}, "between 2 and 1024"),
        ({"recipe": "momentum", "gate": True}, "nothing to gate by"),
        ({"predictions": "no/such.parquet"}, "does not exist"),
        ({"universe": "AAPL"}, "symbol"),
        ({"end": "2011-06-30"}, "sessions"),
    ],
)
def test_what_cannot_be_is_refused_before_a_kernel_starts(workspace, wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("tearsheet", wrong, track=False)
    assert not (workspace / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("top_kk", "20", "unknown parameter 'top_kk'; did you mean 'top_k'?"),
        ("draws", "5", "parameter draws is 5"),
        ("reconcile", "al", "parameter reconcile is 'al'"),
    ],
)
def test_plain_papermill_refuses_what_is_not_declared(workspace, tmp_path, name, value, said):
    template = str(find_template("tearsheet"))
    line = [sys.executable, "-m", "papermill", template, str(tmp_path / "out.ipynb"), "-p", name, value]
    done = subprocess.run(line, cwd=root() / "reports", capture_output=True, text=True)
    assert done.returncode != 0 and said in done.stderr


@pytest.mark.slow
def test_a_run_keeps_its_recipe_and_frames_and_its_predictions_are_judged_alike(workspace):
    first = run_report("tearsheet", SMALL | {"overrides": "model.alpha=10"}, track=False)
    kept = {file.name for file in first.folder.glob("*")}
    assert {"recipe.yaml", *(f"{name}.parquet" for name in ("predictions", "weights", "returns", "trades"))} <= kept
    spec = load(first.folder / "recipe.yaml")
    assert spec.model.settings == {"alpha": 10} and spec.policy.top_k == 4 and not spec.regime.gate
    assert first.manifest["recipe"]["spec"]["name"] == "gated_trees" and len(first.manifest["recipe"]["key"]) == 16
    page = first.html.read_text()
    assert "Traceback" not in page and "No gate was traded" in page
    there = {"predictions": str(first.folder / "predictions.parquet")}
    again = run_report("tearsheet", {k: v for k, v in SMALL.items() if k != "model"} | there, track=False)
    returns = [pd.read_parquet(run.folder / "returns.parquet") for run in (first, again)]
    pd.testing.assert_frame_equal(*returns)
    assert again.metrics["ic.mean"] == first.metrics["ic.mean"] and "made elsewhere" in again.html.read_text()
    assert again.metrics["trials"] == 2 and first.metrics["trials"] == 1
    assert len(Ledger(workspace / "ledger.sqlite").trials("tearsheet/committed sample/strategy")) == 2


@pytest.mark.slow
def test_momentum_needs_no_model(workspace):
    run = run_report("tearsheet", {"recipe": "momentum", "reconcile": "none", "draws": 10}, track=False)
    page = run.html.read_text()
    assert "Traceback" not in page and "Nothing was fitted" in page and "no regime" in page
    assert run.metrics["folds"] == 0


@pytest.mark.slow
def test_a_recipe_prints_what_the_template_before_it_printed(workspace):
    "golden_tearsheet.json holds the numbers of the last template that traded by itself, on a ledger of its own."
    run = run_report("tearsheet", GOLDEN["parameters"] | {"recipe": "gated_trees"}, track=False)
    assert set(run.metrics) == set(GOLDEN["metrics"])
    for name, value in GOLDEN["metrics"].items():
        assert run.metrics[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), name


@pytest.mark.slow
def test_the_default_page_tells_the_years_it_was_chosen_on_from_those_held_out(workspace):
    run = run_report("tearsheet", {"reconcile": "none", "draws": 10}, track=False)
    page = run.html.read_text()
    assert "Traceback" not in page and "held out, 2017-01-03 to 2023-12-29" in page
    assert "opened once, on 2026-11-27" in page and "smallest excess a year" in page
    assert run.metrics["trials"] > 700, "every committed try counts"
