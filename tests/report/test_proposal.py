"The proposal refuses what would make its held-out year worth nothing, in one line and before a kernel starts."

import pytest
from typer.testing import CliRunner

from quantlab.commands.cli import app
from quantlab.core.errors import ConfigError
from quantlab.report.template import fill_parameters, find_template, read_parameters, run_check


@pytest.fixture
def refused(monkeypatch, tmp_path):
    "Ask the template's own check, with a ledger that knows nothing."
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(tmp_path / "ledger.sqlite"))
    template = find_template("proposal")
    return lambda **given: run_check(template, fill_parameters(read_parameters(template), given))


def test_the_committed_proposal_is_taken_with_its_year_sealed(refused):
    refused()
    refused(recipe="default", out_of_sample=2017)  # chosen on data up to the day before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"out_of_sample": 2031}, "out_of_sample is 2031, and the recipe's data ends 2023-12-29; name a year"),
        (
            {"out_of_sample": 2031, "overrides": "data.end=2040-01-01"},
            "the data of sample ends 2023-12-29; name a year",
        ),
        ({"overrides": "data.end=2018-06-29"}, "out_of_sample is 2019, and the recipe's data ends 2018-06-29"),
        (
            {"recipe": "default", "out_of_sample": 2016},
            "default was chosen on data up to 2016-12-30; name a later year",
        ),
        ({"out_of_sample": 1980}, "out_of_sample is 1980, expected between 1990 and 2100"),
        ({"opened": True}, "2019 is still sealed for this recipe; say that you open it first: quantlab open momentum"),
        ({"assumptions": [" "]}, "assumptions are empty"),
        ({"fails_if": " "}, "parameter fails_if is ' '"),
        ({"ledger_head": "abc"}, "ledger_head"),
    ],
)
def test_a_year_that_cannot_judge_is_refused_in_one_line(refused, given, said):
    with pytest.raises(ConfigError) as caught:
        refused(**given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_year_is_shown_after_it_was_opened_and_only_for_that_recipe(refused):
    told = CliRunner().invoke(app, ["open", "momentum"])
    assert told.exit_code == 0, told.output
    refused(opened=True)
    with pytest.raises(ConfigError, match="still sealed"):
        refused(opened=True, overrides="policy.top_k=20")
