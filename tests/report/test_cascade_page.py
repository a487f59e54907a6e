"The page of the cascade, on few names and years."

import sys

import pytest

from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.spec import load
from quantlab.report.run import run_report

SMALL = {
    "universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2016-06-01", "end": "2018-06-29",
    "feature_set": "vol", "train_sessions": 250, "test_sessions": 250, "blocks": 4, "n_kernels": 12,
    "path_lookback": 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"encoder": "magic"}, "encoder is 'magic', expected one of kernels, cnn"),
        ({"validator": "xgbost"}, "did you mean xgboost"),
        ({"validator": "none"}, "beside one that has it"),
        ({"blocks": 3}, "between 4 and 20"),
        ({"train_sessions": 100}, "4 blocks with outcomes of 20 sessions need 140"),
        ({"recipe": "trees"}, "has the model gbm"),
        ({"horizn": 20}, "did you mean 'horizon'"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(workspace, wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("cascade", (SMALL if "recipe" not in wrong else {}) | wrong, track=False)
    assert not (workspace / "runs").exists()


def test_the_page(workspace):
    run = run_report("cascade", SMALL, track=False)
    page = run.html.read_text()
    assert "Traceback" not in page and "7 distinct trials" in page
    assert run.metrics["trials"] == len(Ledger(workspace / "ledger.sqlite").trials("cascade/committed sample")) == 7
    spec = load(run.folder / "recipe.yaml")
    assert spec.split.expanding and spec.model.settings["n_kernels"] == 12 and spec.label.target == "excess"


class NoTorch:
    "A finder for which torch is not installed."

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")


@pytest.mark.parametrize("asked", [{"encoder": "cnn"}, {"head": "net"}, {"encoder": "cnn", "head": "net"}])
def test_without_torch_a_network_is_refused_in_one_line_before_a_kernel_starts(workspace, monkeypatch, asked):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoTorch(), *sys.meta_path])
    with pytest.raises(ConfigError) as refused:
        run_report("cascade", SMALL | asked, track=False)
    said = str(refused.value)
    assert "make deep" in said and "encoder='kernels' and head='trees'" in said and "\n" not in said
    assert not (workspace / "runs").exists()


@pytest.mark.slow
def test_the_page_with_networks(workspace):
    pytest.importorskip("torch", reason="make deep")
    run = run_report("cascade", SMALL | {"encoder": "cnn", "head": "net"}, track=False)
    page = run.html.read_text()
    assert "Traceback" not in page and "7 distinct trials" in page
    assert "a convolutional network" in page and "one network with two outputs" in page
    settings = load(run.folder / "recipe.yaml").model.settings
    assert settings["encoder"] == "cnn" and settings["head"] == "net"
    assert abs(run.metrics["ic.all_three_stages"]) < 0.3 and 0 <= run.metrics["calibration.after"] < 0.2
