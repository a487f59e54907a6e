"A workspace of its own for each test: runs, ledger and tracking store in a temporary folder."

from pathlib import Path

import pytest

from quantlab.report import tracking
from quantlab.report.run import ReportRun, run_report

TEMPLATE = Path(__file__).parent / "template_small.ipynb"


def private(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    "Point the settings that are written to at a folder."
    for key, name in {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite"}.items():
        patch.setenv(f"QUANTLAB_RESEARCH_{key}", str(folder / name))
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return private(tmp_path, monkeypatch)


@pytest.fixture
def template() -> Path:
    return TEMPLATE


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The folder of the two equal runs."
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="session")
def pair(home: Path) -> tuple[ReportRun, ReportRun]:
    "Two runs of one question: the first copied to MLflow where it is installed, the second as if it were not."
    with pytest.MonkeyPatch.context() as patch:
        private(home, patch)
        first = run_report(TEMPLATE, {"window": 63})
        patch.setattr(tracking, "available", lambda: False)
        return first, run_report(TEMPLATE, {"window": 63})
