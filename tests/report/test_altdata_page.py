"The page about texts: no where nothing is planted, yes where the future is, and what it cannot judge it refuses."

import re

import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.report.run import run_report

SMALL = {"universe": "AAPL, AMZN, BA, CAT, CVX, DIS, GE, HD, INTC, JPM, KO, XOM", "end": "2014-12-31", "draws": 99}


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize(("wrong", "says"), [
    ({"text": "no/such.csv"}, "no/such.csv does not exist"),
    ({"start": "2013-13-01"}, "2013-13-01"),
    ({"end": "2011-01-03"}, "end"),
    ({"universe": "AAPL, NOPE"}, "NOPE"),
    ({"universe": "AAPL"}, "symbols"),
    ({"text": "filings", "universe": "AAPL, KO"}, "DIS and FDX only"),
    ({"text": "sample", "universe": "KO, CAT"}, "0 texts"),
    ({"text": "lake:none"}, "holds no posts"),
    ({"end": "2012-06-29"}, "sessions"),
    ({"horizon": 0}, "horizon"),
    ({"text": "planted", "lead": 0.0}, "nothing is planted"),
    ({"draws": 3}, "draws"),
    ({"tried": 0}, "tried"),
])  # fmt: skip
def test_what_the_page_cannot_judge_is_refused_before_a_kernel_starts(wrong, says, tmp_path):
    with pytest.raises((ConfigError, DataError), match=re.escape(says)):
        run_report("altdata", SMALL | wrong, track=False)
    assert not list((tmp_path / "runs").glob("*/report.html"))


@pytest.mark.slow
def test_posts_that_know_nothing_are_not_a_yes_and_planted_ones_are():
    nothing = run_report("altdata", SMALL, track=False)
    planted = run_report("altdata", SMALL | {"text": "planted", "lead": 0.5}, track=False)
    text = nothing.html.read_text()
    assert nothing.metrics["yes"] == 0 and "Traceback" not in text and "Made-up posts" in text
    assert planted.metrics["yes"] == 1 and planted.metrics["gain"] > 2 * planted.metrics["gain.se"] > 0
    assert "<strong>Yes" in planted.html.read_text() and "<strong>Yes" not in text


@pytest.mark.slow
def test_the_filings_of_two_firms_are_not_enough():
    run = run_report("altdata", {"text": "filings", "end": "2018-12-31", "draws": 99}, track=False)
    assert run.metrics["yes"] == 0 and run.metrics["names"] == 2
    assert "dated by the day" in run.html.read_text()
