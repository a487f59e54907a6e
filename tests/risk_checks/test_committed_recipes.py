"""The risk checks that a proposal must pass before it is merged, asked of every committed recipe on the sample.

What each answers is compared with `checks.json`, which lists what has not held: a recipe that is added or changed and
newly fails a check is refused here. A check that a committed recipe fails is a fact about it, and stands on its page.
"""

import json
from pathlib import Path

import pytest

from quantlab.ops.risk_checks import risk_checks
from quantlab.recipe.run import run
from quantlab.recipe.spec import load, recipe_names

KNOWN = json.loads((Path(__file__).parent / "checks.json").read_text())
SAMPLE = [name for name in recipe_names() if load(name).data.source == "sample"]
PLAIN = [name for name in SAMPLE if load(name).model.kind == "feature"]


def ask(name: str) -> None:
    checks = risk_checks(run(name, record=False))
    assert sorted(checks.index[~checks["held"]]) == KNOWN[name], checks


@pytest.mark.parametrize("name", PLAIN)
def test_a_recipe_of_one_feature_holds_what_it_held(name):
    ask(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SAMPLE if name not in PLAIN])
def test_a_fitted_recipe_holds_what_it_held(name):
    ask(name)


def test_every_recipe_on_the_sample_is_asked():
    assert sorted(KNOWN) == sorted(SAMPLE)
