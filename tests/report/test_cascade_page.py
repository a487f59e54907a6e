"The page of the cascade, on few names and years."

import pytest

from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.report.run import run_report


def test_bad_parameters_are_refused_before_a_kernel_starts(workspace):
    with pytest.raises(ConfigError, match="encoder"):
        run_report("cascade", {"encoder": "magic"}, track=False)
    assert not (workspace / "runs").exists()


@pytest.mark.slow
def test_the_page(workspace):
    run = run_report(
        "cascade",
        {
            "universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM",
            "start": "2014-01-02",
            "train_sessions": 504,
            "n_kernels": 20,
        },
        track=False,
    )
    page = run.html.read_text()
    assert "Traceback" not in page and "7 distinct trials" in page
    assert run.metrics["trials"] == len(Ledger(workspace / "ledger.sqlite").trials("cascade/committed sample")) == 7
