"Promotion: every piece of evidence is asked for, each missing one is named, and nothing moves without all of them."

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from quantlab.core.audit import Verdict
from quantlab.core.config import root
from quantlab.core.errors import ReportError
from quantlab.core.ledger import Ledger
from quantlab.models.linear import RidgeModel
from quantlab.ops import papers, registry
from quantlab.ops.passport import verify_passport
from quantlab.recipe.search import keep_returns, returns_folder
from quantlab.report import tracking
from quantlab.runs.reproduce import Reproduction
from quantlab.validation.deflate import dsr

EVIDENCE = [
    "audit", "tests", "notebooks", "fresh kernel", "ledger", "overfitting", "costs", "risk", "out-of-sample"
]  # fmt: skip
CHECKS = ["largest position", "excess a year at twice the costs"]
STEPS = ["staging", "production"]
DAYS = pd.bdate_range("2020-01-01", periods=400)
PASSED = Verdict("PASS", "mom", "nothing moved")


def checks(*held: bool) -> pd.DataFrame:
    return pd.DataFrame({"value": 0.1, "rule": "at most", "limit": 0.2, "held": held}, index=CHECKS[: len(held)])


def stored(**manifest) -> SimpleNamespace:
    return SimpleNamespace(folder=Path("page-1"), manifest=manifest)


def again(same: bool = True, run: SimpleNamespace | None = None, inputs: tuple = ()) -> Reproduction:
    "What running a stored page again has shown."
    numbers = pd.DataFrame() if same else pd.DataFrame({"stored": [1.0], "again": [2.0]})
    run = run or stored(recipe={"key": "t4"}, code={"sources": tracking.sources_hash()})
    return Reproduction(run, numbers, pd.DataFrame(), inputs, False)


def bring(ledger: Ledger, piece: str) -> None:
    "Bring one paper; some need trials, which are a paper of their own."
    if piece == "audit":
        papers.record_audit("study", [PASSED], ledger)
    if piece == "tests":
        papers.record_tests(ledger=ledger)
    if piece == "notebooks":
        papers.record_export(ledger=ledger)
    if piece == "fresh kernel":
        papers.record_reproduction(again(), ledger=ledger)
    if piece == "ledger":
        for i in range(5):
            ledger.record("trial", f"t{i}", "study", {}, 1000, 252, 0.2 if i == 4 else 0.01 * i, 0.0, 3.0)
    if piece == "overfitting":
        rng = np.random.default_rng(0)
        for i in range(5):
            series = pd.DataFrame({"strategy": rng.normal(0.002 * (i == 4), 0.01, len(DAYS))}, index=DAYS)
            keep_returns(returns_folder(ledger), f"t{i}", series)
    if piece in ("costs", "risk"):
        one = checks(True, True).loc[[CHECKS[piece == "costs"]]]
        known = papers.testimonies(ledger, "risk", key="t4")
        papers.record_checks("t4", checks(True, True) if known else one, ledger)
    if piece == "out-of-sample":
        papers.open_out_of_sample("study", "t4", ledger)


def version(**changed: str) -> dict:
    return {"study": "study", "key": "t4", "sources": tracking.sources_hash(), "data_hash": "0", **changed}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("absent", EVIDENCE)
def test_each_paper_alone_is_asked_for(ledger, absent):
    for piece in EVIDENCE:
        if piece != absent:
            bring(ledger, piece)
    found = papers.evidence(version(), ledger)
    # without any trial there is nothing that could be chosen wrongly
    assert found.index[~found["held"]].tolist() == [absent] and found.loc[absent, "missing"]
    assert found.loc[found["held"], "shown"].all() and not found.loc[found["held"], "missing"].any()
    bring(ledger, absent)
    assert papers.evidence(version(), ledger)["held"].all() and ledger.verify() > 0


def test_evidence_of_other_code_studies_and_trials_do_not_count(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    lacks = {
        "sources": ["audit", "tests", "notebooks", "fresh kernel", "costs", "risk"],
        "study": ["audit", "ledger", "out-of-sample"],
        "key": ["fresh kernel", "ledger", "overfitting", "costs", "risk", "out-of-sample"],
    }
    for tag, pieces in lacks.items():
        found = papers.evidence(version(**{tag: "another"}), ledger)
        assert found.index[~found["held"]].tolist() == pieces


def test_the_last_verdict_counts(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    papers.record_audit("study", [PASSED, Verdict("LEAK", "peek", "column x moves")], ledger)
    papers.record_tests(False, ledger)
    papers.open_out_of_sample("study", "t4", ledger)
    missing = papers.evidence(version(), ledger)["missing"]
    assert (
        "LEAK peek" in missing["audit"]
        and "tests failed" in missing["tests"]
        and "opened 2 times" in missing["out-of-sample"]
    )
    papers.record_audit("study", iter([PASSED]), ledger)
    papers.record_tests(True, ledger)
    found = papers.evidence(version(), ledger)
    assert found.index[~found["held"]].tolist() == ["out-of-sample"], "what was opened twice stays opened twice"


def test_the_sharpe_ratio_is_deflated_by_all_trials(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    trials = ledger.trials("study")
    expected = dsr(0.2, 1000, 0.0, 3.0, 5, trials["sharpe"].var())
    assert papers._deflated(trials, "t4") == pytest.approx(expected) and expected > 0.95
    rng = np.random.default_rng(0)
    for i in range(60):
        ledger.record("trial", f"more{i}", "study", {}, 1000, 252, rng.normal(0, 0.1), 0.0, 3.0)
    text = papers.evidence(version(), ledger).loc["ledger", "missing"]
    assert "over 65 trials, asked is 0.95" in text
    assert papers.evidence(version(), ledger, least=0.0).loc["ledger", "held"]
    ledger.record("trial", "bare", "study", {})
    assert "no trial bare" in papers.evidence(version(key="bare"), ledger).loc["ledger", "missing"]


@pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")
def test_a_model_climbs_one_step_at_a_time(ledger, tmp_path, ann):
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=5).as_unit("us"), list("ABC")], names=["date", "symbol"]
    )
    X = pd.DataFrame({"x": np.arange(15.0)}, index=index)
    store, model = tmp_path / "mlflow.sqlite", RidgeModel().fit(X, X["x"])
    passports = lambda: sorted(ann.folder.rglob("*"))  # shared by every test of the session
    before = passports()
    tags = {"run": "one", "study": "study", "key": "t4", **tracking.made_of(X)}
    run_id = tracking.log_run("m", {}, {}, tags=tags, store=store, model=model, example=X)
    with pytest.raises(ReportError, match="no version of model 'm' is at candidate"):
        registry.promote("m", "staging", ledger, store)
    assert registry.register("m", run_id, store).version == 1
    with pytest.raises(ReportError) as refused:
        registry.promote("m", "staging", ledger, store)
    said = str(refused.value)  # nothing was tried yet, so nothing was chosen wrongly
    assert "9 of 10 papers are missing: (1) no causality audit" in said and all(f"({i})" in said for i in range(1, 10))
    with pytest.raises(ReportError, match="is at staging"):
        registry.at_stage("m", "staging", store)
    for piece in EVIDENCE:
        bring(ledger, piece)
    with pytest.raises(ReportError, match="no version of model 'm' is at staging"):
        registry.promote("m", "production", ledger, store, **ann.given)
    with pytest.raises(ReportError, match=r"1 of 10 papers are missing: \(1\) nobody has signed"):
        registry.promote("m", "staging", ledger, store)
    bob = {**ann.given, "signer": ann.signer._replace(by="bob")}
    with pytest.raises(ReportError, match=r"1 of 10 papers are missing: \(1\) bob is not among those who may sign"):
        registry.promote("m", "staging", ledger, store, **bob)
    assert passports() == before, "what is refused leaves no passport"
    steps = [registry.promote("m", to, ledger, store, **ann.given).version for to in ("staging", "production")]
    assert steps == [1, 1]
    assert [verify_passport(ann.folder / f"m-1-{to}.json", ledger, ann.signers)["facts"]["to"] for to in STEPS] == STEPS
    heads = registry.at_stage("m", "production", store).tags
    assert heads["production_ledger_head"] == ledger.head() and heads["staging_ledger_head"] != ledger.head()
    bare = tracking.log_run("m", {}, {}, tags={"run": "two", "study": "study"}, store=store)
    with pytest.raises(ReportError, match="lacks the tag key, the tag sources, the tag data_hash"):
        registry.register("m", bare, store)
    plain = tracking.log_run("m", {}, {}, tags={**tags, "run": "three"}, store=store)
    with pytest.raises(ReportError, match="lacks a model"):
        registry.register("m", plain, store)


def test_the_command_refuses_in_one_line(tmp_path):
    command = Path(sys.executable).with_name("quantlab")
    environment = {
        **os.environ,
        "QUANTLAB_RESEARCH_TRACKING": str(tmp_path / "none.sqlite"),
        "QUANTLAB_RESEARCH_LEDGER": str(tmp_path / "l.sqlite"),
    }
    done = subprocess.run([command, "promote", "m"], cwd=root(), env=environment, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: no version of model 'm' is at candidate")
        and done.stderr.count("\n") == 1
    )


def test_bad_news_counts_against_a_study_and_nothing_is_no_news(ledger):
    assert not papers.evidence(version(), ledger)["held"].drop("overfitting").any()
    papers.record_audit("study", [Verdict("LEAK", "peek", "moved")], ledger)
    papers.record_tests(False, ledger)
    missing = papers.evidence(version(), ledger)["missing"]
    assert "LEAK peek" in missing["audit"] and "failed" in missing["tests"]
    with pytest.raises(ReportError, match="no verdicts"):
        papers.record_audit("study", [], ledger)
    with pytest.raises(ReportError, match="cannot promote to 'candidate'"):
        registry.promote("m", "candidate", ledger)


def test_a_page_that_came_out_differently_or_of_other_code_is_no_paper(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    old = stored(recipe={"key": "t4"}, code={"sources": "0" * 64})
    for found, words in (
        (again(same=False), "came out differently: nothing went in differently: the template is not repeatable"),
        (again(same=False, inputs=("pandas is 3.1.2, was 3.1.1",)), "came out differently: pandas is 3.1.2"),
        (again(run=old), "the stored run is of code 00000000"),
    ):
        papers.record_reproduction(found, ledger=ledger)
        row = papers.evidence(version(), ledger).loc["fresh kernel"]
        assert not row["held"] and words in row["missing"]
    papers.record_reproduction(again(), ledger=ledger)
    assert papers.evidence(version(), ledger)["held"].all()
    with pytest.raises(ReportError, match="page-1 says of no recipe that it was run"):
        papers.record_reproduction(again(run=stored()), ledger=ledger)
    papers.record_reproduction(again(run=stored(code={"sources": tracking.sources_hash()})), "other", ledger)
    assert papers.testimonies(ledger, "fresh kernel", key="other")[0]["why"] == ""


def test_a_risk_check_that_has_not_held_is_named_and_costs_apart(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    for held, lacks in (((False, True), "risk"), ((True, False), "costs")):
        papers.record_checks("t4", checks(*held), ledger)
        found = papers.evidence(version(), ledger)
        assert found.index[~found["held"]].tolist() == [lacks]
        assert (
            CHECKS[lacks == "costs"] in found.loc[lacks, "missing"]
            and "0.1, asked is at most 0.2" in found.loc[lacks, "missing"]
        )
    with pytest.raises(ReportError, match="no answers"):
        papers.record_checks("t4", checks(), ledger)


def test_the_best_of_noise_is_overfitted_and_a_planted_edge_is_not(ledger):
    "What is kept decides: twenty rules of noise, and the same with one that earns."
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, (20, 400))
    noise -= noise.mean(axis=1, keepdims=True)  # what earned in one half is lost in the other
    for edge, held in ((0.0, False), (0.003, True)):
        for i in range(20):
            ledger.record("trial", f"t{i}", "study", {}, 400, 252, 0.01 * i, 0.0, 3.0)
            series = pd.DataFrame({"strategy": noise[i] + edge * (i == 4)}, index=DAYS)
            keep_returns(returns_folder(ledger), f"t{i}", series)
        row = papers.evidence(version(), ledger).loc["overfitting"]
        assert row["held"] == held and "of 20 trials 20 have kept returns" in row["shown"] + row["missing"]
    ledger.record("trial", "t99", "study", {}, 400, 252, 0.1, 0.0, 3.0)
    text = papers.evidence(version(key="t99"), ledger).loc["overfitting", "missing"]
    assert "of 21 trials 20 have kept returns, t99 not among them" in text


def test_what_was_committed_beside_a_recipe_counts_in_every_workspace(ledger):
    "The 1,500 tries of the default recipe, and its opening under the other account, are not forgotten by a new ledger."
    study = "default/committed sample/excess"
    tags = version(recipe="default", study=study, key="mine")
    ledger.record("trial", "mine", study, {}, 1000, 252, 0.1, 0.0, 3.0)
    alone = papers.evidence({**tags, "recipe": "none"}, ledger)
    found = papers.evidence(tags, ledger)
    assert "over 1 trial," in alone.loc["ledger", "shown"] + alone.loc["ledger", "missing"]
    assert "over 1 trial," not in found.loc["ledger", "shown"] + found.loc["ledger", "missing"]
    assert "not opened" in alone.loc["out-of-sample", "missing"]
    assert "opened for trial 7fc38135cb260a96" in found.loc["out-of-sample", "missing"]
    papers.open_out_of_sample(study, "mine", ledger)
    assert papers.evidence({**tags, "recipe": "none"}, ledger).loc["out-of-sample", "held"]
    assert "opened 2 times" in papers.evidence(tags, ledger).loc["out-of-sample", "missing"]
    assert alone.loc["overfitting", "held"] and not found.loc["overfitting", "held"]
