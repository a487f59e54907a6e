"The model page and the models that the tearsheet knows by name, on few names and years."

import pandas as pd
import pytest

from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.report.checks import MODELS
from quantlab.report.run import run_report

FEW = {"universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2013-01-02", "end": "2018-06-29"}
PAGE = FEW | {
    "train_sessions": 504,
    "test_sessions": 252,
    "lengths": [252, 504],
    "families": 2,
    "feature_set": "vol",
    "n_estimators": 15,
    "min_child_samples": 30,
}
SHEET = FEW | {
    "train_sessions": 504,
    "learn_every": 5,
    "top_k": 4,
    "buffer": 1,
    "max_weight": 0.25,
    "feature_set": "price",
}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": "gmb"}, "gbm, lambdarank"),
        ({"model": "nowhere:X"}, "no module"),
        ({"model": "math:X"}, "cannot import"),
        ({"lengths": [600]}, "lengths"),
        ({"learn_every": 0}, "learn_every"),
        ({"universe": "AAPL"}, "symbol"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(workspace, wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("model", PAGE | wrong, track=False)
    assert not (workspace / "runs").exists()


def test_the_page_of_quantiles(workspace):
    run = run_report("model", PAGE | {"model": "quantile"}, track=False)
    metrics, page = run.metrics, run.html.read_text()
    assert "Traceback" not in page and "Less of it" in page and "after the adaptive correction" in page
    assert (
        abs(metrics["coverage.after_the_adaptive_correction"] - 0.8) <= abs(metrics["coverage.as_fitted"] - 0.8) + 0.01
    )
    assert metrics["ic.sessions_504"] == metrics["ic.mean"] and metrics["folds"] >= 2
    assert sum(key.startswith("change.without_") for key in metrics) == 2
    looked_at = Ledger(workspace / "ledger.sqlite").trials("model/committed sample")
    assert metrics["trials"] == len(looked_at) >= 8, "the whole model and each variant that is shown"
    assert f"{len(looked_at)} distinct trials" in page and metrics["dsr"] <= metrics["psr"]


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
    small = "" if name in ("ridge", "fama_macbeth", "cascade") else "model.n_estimators=15, model.min_child_samples=30"
    given = PAGE if template == "model" else SHEET | {"overrides": small}
    run = run_report(template, given | {"model": name}, track=False)
    assert "Traceback" not in run.html.read_text()
    assert pd.Series(run.metrics)["ic.mean"] == run.metrics["ic.mean"]
