"A recipe with its fitted state: registered as data, loaded elsewhere to the same digits, refused when it is another."

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ReportError
from quantlab.core.ledger import Ledger
from quantlab.core.state import load_state, save_state
from quantlab.ops import papers, registry
from quantlab.ops.fitted_recipe import FittedRecipe, check_key, fitted_recipe
from quantlab.ops.risk_checks import risk_checks
from quantlab.recipe.chain_audit import ChainVerdict
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe
from quantlab.report import tracking
from quantlab.runs.reproduce import Reproduction

SYMBOLS = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO"
FEW = dict(n_estimators=10, num_leaves=4, num_threads=1)
SMALL = Recipe().replace(
    name="small", data__universe=SYMBOLS, data__end="2012-12-31", features__use=["rev_21", "mom_63_5"],
    model={"kind": "gbm", **FEW}, split__train_sessions=252, split__test_sessions=126, policy__top_k=4,
    policy__buffer=2, policy__rebalance=10, study="fitted",
)  # fmt: skip
PASSED = ChainVerdict("PASS", "small", "nothing moved")
pytestmark = pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def ledger(place):
    return Ledger(place / "ledger.sqlite")


@pytest.fixture(scope="module")
def done(ledger):
    "A run whose models are trees."
    return run(SMALL, ledger=ledger)


@pytest.fixture(scope="module")
def store(place, done, ledger, ann):
    "A registry that holds the run, at staging."
    store = place / "mlflow.sqlite"
    version = registry.register_recipe(done, store, ledger)
    with pytest.raises(ReportError, match=rf"no causality audit of recipe small, key {done.key},"):
        registry.promote("small", "staging", ledger, store, least=0.0)
    papers.record_audit(version.tags["study"], [PASSED], ledger, "another key")
    with pytest.raises(ReportError, match="no causality audit of recipe small"):
        registry.promote("small", "staging", ledger, store, least=0.0)
    papers.record_audit(version.tags["study"], [PASSED], ledger, done.key)
    papers.record_tests(ledger=ledger)
    papers.record_export(ledger=ledger)
    papers.open_out_of_sample(version.tags["study"], done.key, ledger)
    manifest = {"recipe": {"key": done.key}, "code": {"sources": tracking.sources_hash()}}
    page = SimpleNamespace(folder=place / "page-1", manifest=manifest)
    papers.record_reproduction(Reproduction(page, pd.DataFrame(), pd.DataFrame(), (), False), ledger=ledger)
    lacks = papers.evidence(version.tags, ledger, 0.0)
    assert not set(lacks.index[~lacks["held"]]) - {"costs", "risk"}, "a tiny recipe may have no edge"
    papers.record_checks(done.key, risk_checks(done).assign(held=True), ledger)
    registry.promote("small", "staging", ledger, store, least=0.0, **ann.given)
    return store


def test_the_evidence_of_a_promotion_names_the_key_and_the_file(store, done, ledger):
    rows = ledger.rows()
    [said] = [json.loads(text) for text in rows.loc[rows["study"] == "evidence: promotion", "params"]]
    version = registry.at_stage("small", "staging", store)
    assert said["key"] == done.key == version.tags["key"] and said["recipe"] == "small" and said["to"] == "staging"
    assert said["state"] == version.tags["state"] and ledger.verify() > 0
    assert done.key in set(ledger.trials(version.tags["study"])["key"]), "the trial that is deflated is the recipe's"


def test_a_fresh_process_decides_to_the_same_digits(store, done, place):
    """Nothing is fitted there: no estimator has a fit."""
    closes = done.weights.index.unique("date")
    day = closes[closes < pd.Timestamp(done.predictions[done.predictions["fold"] == 1].index[-1][0])][-1]
    code = (
        "import sys, json\n"
        "import lightgbm\n"
        "lightgbm.train = lightgbm.Booster.update = None\n"
        "from quantlab.ops.registry import load_recipe\n"
        "from quantlab.models.gbm import GBMModel\n"
        "GBMModel.fit = None\n"
        "fitted = load_recipe('small', 'staging')\n"
        "record = fitted.decide(sys.argv[1])\n"
        "scores = fitted.predict(__import__('pandas').read_parquet(sys.argv[2]))['score']\n"
        "print(json.dumps([record.due, record.weights.to_dict(), record.orders['quantity'].to_dict(), record.equity,\n"
        "                  scores.tolist()]))\n"
    )
    last = done.features.loc[[done.features.index[-1][0]]]
    last.to_parquet(place / "last.parquet")
    names = {"TRACKING": store, "LEDGER": place / "ledger.sqlite", "CACHE": place / "empty cache"}
    done_there = subprocess.run(
        [sys.executable, "-c", code, f"{day:%Y-%m-%d}", place / "last.parquet"], cwd=root(), text=True,
        capture_output=True,
        env={**os.environ, **{f"QUANTLAB_RESEARCH_{name}": str(file) for name, file in names.items()}},
    )  # fmt: skip
    assert done_there.returncode == 0, done_there.stderr[-2000:]
    due, weights, orders, equity, scores = json.loads(done_there.stdout)
    here = fitted_recipe(done).decide(day)
    assert due and weights == done.weights.loc[day, "weight"].to_dict() == here.weights.to_dict()
    assert orders == here.orders["quantity"].to_dict() and equity == done.account.equity[day] == here.equity
    assert scores == done.predictions.loc[last.index, "score"].tolist()


@pytest.mark.parametrize("place_in_file", [0.02, 0.5, 0.98])
def test_a_file_that_was_touched_is_not_loaded(store, ledger, place_in_file):
    version = registry.at_stage("small", "staging", store)
    file = tracking.artifact(version.run_id, "model/model.zip", store)
    whole = file.read_bytes()
    at = int(len(whole) * place_in_file)
    try:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ReportError, match="not those that were registered"):
            registry.load_recipe("small", "staging", store, ledger)
    finally:
        file.write_bytes(whole)
    assert registry.load_recipe("small", "staging", store, ledger).name == "small"


def test_a_file_that_was_exchanged_with_its_tag_is_told_by_the_promotion(store, ledger, done):
    """Whoever can write the store can write the tag; the row of the ledger stands."""
    version = registry.at_stage("small", "staging", store)
    file = tracking.artifact(version.run_id, "model/model.zip", store)
    whole, service = file.read_bytes(), tracking.client(store)
    with file.open("rb") as source:
        held = load_state(source, known=[FittedRecipe, type(done.fits.models[0])])
    try:
        with file.open("wb") as target:
            save_state(held | {"scores": held["scores"] * 1.0, "more": 1}, target, "", held["model"].kinds)
        service.set_model_version_tag("small", str(version.version), "state", registry._digest(file))
        with pytest.raises(ReportError, match="not those that were registered"):
            registry.load_recipe("small", "staging", store, ledger)
    finally:
        file.write_bytes(whole)
        service.set_model_version_tag("small", str(version.version), "state", version.tags["state"])


def test_a_page_that_asks_for_something_else_and_other_code_are_refused(store, ledger, done, monkeypatch):
    version = registry.at_stage("small", "staging", store)
    page = tracking.artifact(version.run_id, "recipe.yaml", store)
    text = page.read_text()
    try:
        page.write_text(text.replace("top_k: 4", "top_k: 5"))
        with pytest.raises(ReportError, match=rf"under the key {done.key}, .*fit it again: quantlab register small"):
            registry.load_recipe("small", "staging", store, ledger)
        page.write_text(text.replace("study: fitted", "study: other"))
        with pytest.raises(ReportError, match="not that of its models"):
            registry.load_recipe("small", "staging", store, ledger)
    finally:
        page.write_text(text)
    from quantlab.recipe import evidence

    monkeypatch.setattr(evidence, "code_hash", lambda recipe: "0" * 64)
    with pytest.raises(ReportError, match=r"settings or sources have changed since; fit it again"):
        registry.load_recipe("small", "staging", store, ledger)


def test_a_window_that_no_model_was_fitted_for_is_refused(done):
    early = fitted_recipe(run(SMALL.replace("data.end", "2012-06-29"), record=False))
    with pytest.raises(ReportError, match=r"a window began on .*, after the last model was fitted; .*register small"):
        early.decide("2012-12-17")
    assert len(early.models) < len(done.fits.models) and early.key != done.key


def test_a_feature_needs_no_model_and_a_model_is_no_recipe(place, ledger):
    plain = SMALL.replace(name="plain", model={"kind": "feature", "column": "rev_21"})
    finished, store = run(plain, ledger=ledger), place / "other.sqlite"
    assert registry.register_recipe(finished, store).version == 1
    fitted = registry.load_recipe("plain", "candidate", store, ledger)
    day = finished.weights.index[-1][0]
    assert fitted.models == [] and check_key(fitted.recipe, fitted.key, fitted.data_hash) == []
    assert fitted.decide(day).weights.equals(finished.weights.loc[day, "weight"])
    with pytest.raises(ReportError, match="no version of model 'small' is at production"):
        registry.load_recipe("small", "production", store, ledger)
