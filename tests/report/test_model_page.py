"The page about a model, on few names and years: it stands on recipes, and each variant that it shows is a trial."

import ast
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.spec import Recipe, load
from quantlab.recipe.stages import Stages
from quantlab.report.checks import MODELS
from quantlab.report.model import judged_rows, variant_scores
from quantlab.report.run import run_report
from quantlab.report.template import find_template, read_cells

FEW = {"universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2013-01-02", "end": "2018-06-29"}
TREES = "model.n_estimators=15, model.min_child_samples=30"
PAGE = FEW | {
    "train_sessions": 500,
    "test_sessions": 250,
    "lengths": [250, 500],
    "families": 2,
    "feature_set": "vol",
}
SHEET = FEW | {
    "train_sessions": 504,
    "learn_every": 5,
    "top_k": 4,
    "buffer": 1,
    "max_weight": 0.25,
    "feature_set": "price",
}
MADE_ELSEWHERE = ("quantlab.labels", "quantlab.features", "quantlab.models.base", "quantlab.models.gbm", "sklearn")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recipe": "tree"}, "did you mean trees"),
        ({"recipe": "momentum"}, "learns nothing"),
        ({"model": "gmb"}, "gbm, lambdarank"),
        ({"model": "nowhere:X"}, "no module"),
        ({"model": "math:X"}, "cannot import"),
        ({"n_estimators": 0}, "n_estimators"),
        ({"overrides": "model.num_leafs=7"}, "did you mean num_leaves"),
        ({"lengths": [600]}, "lengths"),
        ({"lengths": []}, "lengths"),
        ({"learn_every": 0}, "learn_every"),
        ({"train_sessions": 80}, "train_sessions"),
        ({"universe": "AAPL"}, "symbol"),
        ({"horizn": 20}, "did you mean 'horizon'"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(workspace, wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("model", PAGE | wrong, track=False)
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize("template", ["model", "cascade"])
def test_the_cells_of_a_page_make_nothing_themselves(template):
    source = [cell["source"] for cell in read_cells(find_template(template)) if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join(source))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = [f"{line.module}.{name.name}" for line in lines for name in line.names]
    assert not [name for name in imported if name.startswith(MADE_ELSEWHERE)]
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not called & {"fit", "set_params"} and not named & {"make_model", "walk_forward", "WalkForward"}


def test_the_first_cell_refuses_a_name_that_nobody_declared_before_pandas_is_loaded():
    cells = {tag: c["source"] for c in read_cells(find_template("model")) for tag in c["tags"]}
    program = f"exec({cells['parameters']!r}); horizn = 20\ntry:\n    exec({cells['check']!r})\n"
    program += "except Exception as error:\n    import sys; print(error, 'pandas' in sys.modules)"
    line = [sys.executable, "-c", program]
    said = subprocess.run(line, cwd=root() / "reports", capture_output=True, text=True, check=True).stdout
    assert said.strip() == "unknown parameter 'horizn'; did you mean 'horizon'? False"


@pytest.mark.slow
@pytest.mark.parametrize("template", ["model", "cascade"])
def test_plain_papermill_refuses_a_misspelt_name(workspace, tmp_path, template):
    page = str(find_template(template))
    line = [sys.executable, "-m", "papermill", page, str(tmp_path / "out.ipynb"), "-p", "horizn", "20"]
    done = subprocess.run(line, cwd=root() / "reports", capture_output=True, text=True)
    assert done.returncode != 0 and "unknown parameter 'horizn'; did you mean 'horizon'?" in done.stderr


def test_the_page_of_quantiles(workspace):
    run = run_report("model", PAGE | {"model": "quantile", "overrides": TREES}, track=False)
    metrics, page = run.metrics, run.html.read_text()
    assert "Traceback" not in page and "Less of it" in page and "after the adaptive correction" in page
    assert (
        abs(metrics["coverage.after_the_adaptive_correction"] - 0.8) <= abs(metrics["coverage.as_fitted"] - 0.8) + 0.01
    )
    assert metrics["ic.sessions_500"] == metrics["ic.mean"] and metrics["folds"] >= 2
    assert sum(key.startswith("change.without_") for key in metrics) == 2
    looked_at = Ledger(workspace / "ledger.sqlite").trials("model/committed sample")
    assert metrics["trials"] == len(looked_at) >= 8, "the whole model and each variant that is shown"
    assert f"{len(looked_at)} distinct trials" in page and metrics["dsr"] <= metrics["psr"]
    spec = load(run.folder / "recipe.yaml")
    assert spec.model.kind == "quantile" and spec.model.settings["n_estimators"] == 15
    assert json.loads((run.folder / "manifest.json").read_text())["recipe"]["spec"]["name"] == "trees"
    assert "score" in pd.read_parquet(run.folder / "predictions.parquet")


def test_an_ablation_keeps_the_dates_of_the_whole():
    base = Recipe().replace(
        data__universe=FEW["universe"], data__end="2013-12-31", features__use=["rev_5", "mom_252_21"],
        split__train_sessions=250, split__test_sessions=125, split__learn_every=5, model__kind="ridge",
    )  # fmt: skip
    chain, rev = Stages(base), base.replace("features.drop", ["mom_*"])
    fewer = variant_scores(chain, {"the model": base, "alone": rev}, judged_rows(chain).X.index)
    assert fewer.notna().all().all() and not np.allclose(fewer["the model"], fewer["alone"])
    kept = Stages(rev, market=chain.market)
    assert kept.features.index.equals(chain.features.index) and list(kept.features) == ["rev_5"]
    pd.testing.assert_series_equal(kept.features["rev_5"], chain.features["rev_5"])


@pytest.mark.slow
def test_the_tearsheet_takes_a_model_of_ones_own(workspace, tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from quantlab.models.linear import RidgeModel\nstiff = RidgeModel(alpha=1e4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = run_report("tearsheet", SHEET | {"model": "my_models:stiff"}, track=False)
    assert "Traceback" not in run.html.read_text() and run.metrics["folds"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("template", ["model", "tearsheet"])
def test_every_model_by_name(workspace, template, name):
    small = "" if name in ("ridge", "fama_macbeth", "cascade") else TREES
    given = PAGE if template == "model" else SHEET
    run = run_report(template, given | {"model": name, "overrides": small}, track=False)
    assert "Traceback" not in run.html.read_text()
    assert pd.Series(run.metrics)["ic.mean"] == run.metrics["ic.mean"]
