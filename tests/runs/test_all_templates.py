"""Every template with its defaults, twice: the second run has the same numbers and the same page, to the last word.

Templates whose data is not here (a Qlib store), or torch, are skipped by name. `QUANTLAB_ONLY="factor risk"` runs
some.
"""

import os

import pytest
from test_accessible import inspected, needs_axe, needs_browser

from quantlab.core.errors import QuantlabError
from quantlab.report.run import read_run, run_report
from quantlab.report.template import templates
from quantlab.runs.reproduce import reproduce

NAMES = (os.environ.get("QUANTLAB_ONLY") or " ".join(templates())).split()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Runs and a ledger of their own, so that trials of another day do not count."
    folder = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNS", "LEDGER"):
            patch.setenv(f"QUANTLAB_RESEARCH_{name}", str(folder / name.lower()))
        yield folder


@pytest.fixture(scope="module")
def made(home):
    "Each template's run, made when it is first asked for."
    return {}


def run_of(name, home, made):
    if name not in made:
        try:
            made[name] = run_report(name, {}, home / "runs", track=False)
        except QuantlabError as error:
            made[name] = error
    if isinstance(made[name], QuantlabError):
        if any(word in str(made[name]) for word in ("store", "shared", "make deep")):
            pytest.skip(f"what {name} needs is not here: {made[name]}")
        raise made[name]
    return made[name]


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_same(name, home, made):
    run = run_of(name, home, made)
    assert run.metrics and read_run(run.folder).metrics == run.metrics
    found = reproduce(run.folder)
    assert found.same, (found.why, found.numbers.to_string(), found.page.to_string())


@needs_axe
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_accessible_and_its_console_silent(name, scheme, home, made, tmp_path):
    page = run_of(name, home, made).html
    found, console = inspected(page.read_text(), page.parent, scheme, tmp_path)
    assert found["grave"] == [] and console == [] and page.stat().st_size < 5_000_000
