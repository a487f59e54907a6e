"Promotion: every piece of evidence is asked for, each missing one is named, and nothing moves without all of them."

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.audit import Verdict
from quantlab.core.config import root
from quantlab.core.errors import ReportError
from quantlab.core.ledger import Ledger
from quantlab.models.linear import RidgeModel
from quantlab.ops import registry
from quantlab.report import tracking
from quantlab.validation.deflate import dsr

EVIDENCE = ["audit", "tests", "ledger", "out-of-sample"]
PASSED = Verdict("PASS", "mom", "nothing moved")


def bring(ledger: Ledger, piece: str) -> None:
    if piece == "audit":
        registry.record_audit("study", [PASSED], ledger)
    if piece == "tests":
        registry.record_tests(ledger=ledger)
    if piece == "ledger":
        for i in range(5):
            ledger.record("trial", f"t{i}", "study", {}, 1000, 252, 0.2 if i == 4 else 0.01 * i, 0.0, 3.0)
    if piece == "out-of-sample":
        registry.open_out_of_sample("study", "t4", ledger)


def version(**changed: str) -> registry.Version:
    return registry.Version(
        "m", 1, "run", {"study": "study", "key": "t4", "sources": tracking.sources_hash(), "data_hash": "0", **changed}
    )


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("absent", EVIDENCE)
def test_each_piece_of_evidence_is_asked_for(ledger, absent):
    for piece in EVIDENCE:
        if piece != absent:
            bring(ledger, piece)
    found = registry.evidence(version(), ledger)
    assert found.index[~found["held"]].tolist() == [absent] and found.loc[absent, "missing"]
    bring(ledger, absent)
    assert registry.evidence(version(), ledger)["held"].all() and ledger.verify() > 0


def test_evidence_of_other_code_studies_and_trials_do_not_count(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    lacks = {
        "sources": ["audit", "tests"],
        "study": ["audit", "ledger", "out-of-sample"],
        "key": ["ledger", "out-of-sample"],
    }
    for tag, pieces in lacks.items():
        found = registry.evidence(version(**{tag: "another"}), ledger)
        assert found.index[~found["held"]].tolist() == pieces


def test_the_last_verdict_counts(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    registry.record_audit("study", [PASSED, Verdict("LEAK", "peek", "column x moves")], ledger)
    registry.record_tests(False, ledger)
    registry.open_out_of_sample("study", "t4", ledger)
    missing = registry.evidence(version(), ledger)["missing"]
    assert (
        "LEAK peek" in missing["audit"]
        and "tests failed" in missing["tests"]
        and "opened 2 times" in missing["out-of-sample"]
    )
    registry.record_audit("study", iter([PASSED]), ledger)
    registry.record_tests(True, ledger)
    found = registry.evidence(version(), ledger)
    assert found.index[~found["held"]].tolist() == ["out-of-sample"], "what was opened twice stays opened twice"


def test_the_sharpe_ratio_is_deflated_by_all_trials(ledger):
    for piece in EVIDENCE:
        bring(ledger, piece)
    trials = ledger.trials("study")
    expected = dsr(0.2, 1000, 0.0, 3.0, 5, trials["sharpe"].var())
    assert registry._deflated(trials, "t4") == pytest.approx(expected) and expected > 0.95
    rng = np.random.default_rng(0)
    for i in range(60):
        ledger.record("trial", f"more{i}", "study", {}, 1000, 252, rng.normal(0, 0.1), 0.0, 3.0)
    text = registry.evidence(version(), ledger).loc["ledger", "missing"]
    assert "over 65 trials, asked is 0.95" in text
    assert registry.evidence(version(), ledger, least=0.0).loc["ledger", "held"]
    ledger.record("trial", "bare", "study", {})
    assert "no trial bare" in registry.evidence(version(key="bare"), ledger).loc["ledger", "missing"]


@pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")
def test_a_model_climbs_one_step_at_a_time(ledger, tmp_path):
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=5).as_unit("us"), list("ABC")], names=["date", "symbol"]
    )
    X = pd.DataFrame({"x": np.arange(15.0)}, index=index)
    store, model = tmp_path / "mlflow.sqlite", RidgeModel().fit(X, X["x"])
    tags = {"run": "one", "study": "study", "key": "t4", **tracking.made_of(X)}
    run_id = tracking.log_run("m", {}, {}, tags=tags, store=store, model=model, example=X)
    with pytest.raises(ReportError, match="no version of model 'm' is at candidate"):
        registry.promote("m", "staging", ledger, store)
    assert registry.register("m", run_id, store).version == 1
    with pytest.raises(ReportError) as refused:
        registry.promote("m", "staging", ledger, store)
    assert "4 of 4 pieces of evidence are missing: (1) no causality audit" in str(refused.value) and all(
        f"({i})" in str(refused.value) for i in range(1, 5)
    )
    with pytest.raises(ReportError, match="is at staging"):
        registry.at_stage("m", "staging", store)
    for piece in EVIDENCE:
        bring(ledger, piece)
    with pytest.raises(ReportError, match="no version of model 'm' is at staging"):
        registry.promote("m", "production", ledger, store)
    assert [registry.promote("m", to, ledger, store).version for to in ("staging", "production")] == [1, 1]
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
    assert not registry.evidence(version(), ledger)["held"].any()
    registry.record_audit("study", [Verdict("LEAK", "peek", "moved")], ledger)
    registry.record_tests(False, ledger)
    missing = registry.evidence(version(), ledger)["missing"]
    assert "LEAK peek" in missing["audit"] and "failed" in missing["tests"]
    with pytest.raises(ReportError, match="no verdicts"):
        registry.record_audit("study", [], ledger)
    with pytest.raises(ReportError, match="cannot promote to 'candidate'"):
        registry.promote("m", "candidate", ledger)
