"Reports as entry points of MLflow: every template is one, and what -P gives is a parameter of it."

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from quantlab.core.config import root
from quantlab.report.run import list_runs

ENTRIES = yaml.safe_load((root() / "MLproject").read_text(encoding="utf-8"))["entry_points"]
BIN = Path(sys.executable).parent


def mlflow_run(folder: Path, *more: str) -> subprocess.CompletedProcess:
    "Run an entry point in this environment, with stores of its own."
    own = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "QUANTLAB_RESEARCH_RUNS": str(folder / "runs"),
        "QUANTLAB_RESEARCH_LEDGER": str(folder / "ledger.sqlite"),
        "QUANTLAB_RESEARCH_TRACKING": str(folder / "tracking.db"),
    }
    line = [BIN / "mlflow", "run", str(root()), "--env-manager", "local", *more]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **own}, cwd=folder, timeout=300)


def test_every_template_is_an_entry_point():
    assert {name: entry["command"] for name, entry in ENTRIES.items()} == {
        file.stem: f"quantlab report {file.stem}" for file in (root() / "reports").glob("*.ipynb")
    }


@pytest.mark.slow
def test_mlflow_runs_a_report_with_a_parameter_and_refuses_a_wrong_one(tmp_path):
    done = mlflow_run(tmp_path, "-e", "data_health", "-P", "stale=7")
    assert done.returncode == 0, done.stderr
    [run] = list_runs(tmp_path / "runs")
    assert run.manifest["template"] == "data_health" and run.manifest["parameters"]["stale"] == 7
    refused = mlflow_run(tmp_path, "-e", "data_health", "-P", "stele=7")
    assert refused.returncode != 0 and "stale" in refused.stderr and len(list_runs(tmp_path / "runs")) == 1


@pytest.mark.slow
def test_mlflow_trains_the_transformer_as_long_and_as_wide_as_it_is_told(tmp_path):
    pytest.importorskip("torch", reason="make deep")
    small = ["universe=AAPL,BAC,C,GE,IBM,JNJ,JPM,KO,PFE,WMT,XOM,CVX", "start=2014-01-01", "end=2016-12-30", "seeds=1"]
    small += ["train_sessions=252", "steps=10"]
    given = [word for one in ["num_epochs=2", "hidden_size=4", *small] for word in ("-P", one)]
    done = mlflow_run(tmp_path, "-e", "tft", *given)
    assert done.returncode == 0, done.stderr
    [run] = list_runs(tmp_path / "runs")
    assert run.manifest["parameters"]["num_epochs"] == 2 and run.manifest["parameters"]["hidden_size"] == 4
    assert 1 <= run.metrics["passes"] <= 2 and run.metrics["rows"] > 500
    refused = mlflow_run(tmp_path, "-e", "tft", "-P", "hidden_size=5")
    assert refused.returncode != 0 and "even number" in refused.stderr
