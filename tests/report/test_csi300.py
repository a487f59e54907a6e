"The page on the published benchmark: it runs where the data are, and says so in one line where they are not."

import os
from pathlib import Path

import pytest

from quantlab.core.config import root
from quantlab.core.errors import QuantlabError
from quantlab.report.run import run_report

TEMPLATE = root() / "reports" / "csi300.ipynb"
STORED = [root() / "bench" / "results" / f"csi300{part}.json" for part in ("", "_trials", "_models")]
SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))


def test_one_clear_line_without_the_data(workspace, monkeypatch):
    monkeypatch.setenv("QUANTLAB_SHARED", str(workspace / "nowhere"))
    with pytest.raises(QuantlabError) as refused:
        run_report(TEMPLATE, {})
    message = str(refused.value)
    assert "qlib_cn_csi300" in message and "QUANTLAB_SHARED" in message and "\n" not in message and str(workspace) not in message


@pytest.mark.slow
@pytest.mark.skipif(not all(file.exists() for file in STORED), reason="needs the stored results of bench/csi300_search.py and make bench ONLY=csi300")
@pytest.mark.skipif(not (SHARED / "data" / "qlib_cn_csi300").exists(), reason="needs ../shared/data/qlib_cn_csi300 (or QUANTLAB_SHARED)")
def test_the_page(workspace):
    run = run_report(TEMPLATE, {})
    metrics = run.metrics
    assert abs(metrics["reproduction.ic_difference"]) <= 0.002 and metrics["account.difference"] < 1e-9
    assert 0.04 < metrics["now.ic"] < 0.05 and metrics["rows"] > 890_000 and metrics["trials"] >= 20
