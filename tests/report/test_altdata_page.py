"The page about texts: no where nothing is planted, yes where the future is, and what it cannot judge it refuses."

import re
from pathlib import Path

import nbformat
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.report.run import _outline, run_report
from quantlab.report.template import find_template

SMALL = {"universe": "AAPL, AMZN, BA, CAT, CVX, DIS, GE, HD, INTC, JPM, KO, XOM", "end": "2014-12-31", "draws": 99}


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize(("wrong", "says"), [
    ({"text": "no/such.csv"}, "no/such.csv does not exist"),
    ({"text": "synht"}, "expected one of synth, planted, sample, filings, lake:NAME, a file such as posts.csv; did "
     "you mean synth?"),
    ({"text": "FILING"}, "did you mean filings?"),
    ({"text": ""}, "parameter text is '', expected one of synth"),
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


@pytest.mark.parametrize(("text", "title"), [
    ("synth", "Altdata: synth"), ("lake:mine", "Altdata: lake mine"),
    ("data/my_posts_x.csv", "Altdata: my_posts_x.csv"),
])  # fmt: skip
def test_the_title_of_the_page_names_the_text_that_was_judged(text, title):
    from nbconvert.filters import markdown2html

    cells = nbformat.read(find_template("altdata"), 4).cells
    shown = [markdown2html(cells[0].source)]
    (cell,) = (cell.source for cell in cells if "# The title of this page" in cell.source)
    given = {"display": lambda one: shown.append(markdown2html(one)), "Markdown": str, "Path": Path, "text": text}
    exec(cell, given)
    assert _outline("".join(shown))["title"].rstrip("¶") == title


@pytest.mark.slow
def test_posts_that_know_nothing_are_not_a_yes_and_planted_ones_are():
    nothing = run_report("altdata", SMALL, track=False)
    planted = run_report("altdata", SMALL | {"text": "planted", "lead": 0.5}, track=False)
    text = nothing.html.read_text()
    assert nothing.metrics["yes"] == 0 and "Traceback" not in text and "Made-up posts" in text
    assert planted.metrics["yes"] == 1 and planted.metrics["gain"] > 2 * planted.metrics["gain.se"] > 0
    assert "<h1>Altdata: synth</h1>" in text and "<h1>Altdata: planted</h1>" in planted.html.read_text()
    assert "<strong>Yes" in planted.html.read_text() and "<strong>Yes" not in text


@pytest.mark.slow
def test_the_filings_of_two_firms_are_not_enough():
    run = run_report("altdata", {"text": "filings", "end": "2018-12-31", "draws": 99}, track=False)
    assert run.metrics["yes"] == 0 and run.metrics["names"] == 2
    assert "dated by the day" in run.html.read_text()
