"The page about deep models: refusals before a kernel starts, the whole page with torch, and what it says without."

import json

import nbformat
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.spec import load
from quantlab.report.run import run_report
from quantlab.report.template import find_template

SMALL = {
    "universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2012-06-01", "end": "2016-06-30",
    "feature_set": "price", "train_sessions": 300, "test_sessions": 250, "top_k": 4, "buffer": 2, "models": ["mlp"],
    "seeds": 2, "folds": 1, "steps": 60, "batch": 128,
}  # fmt: skip
DATED = "split.train_end=2014-06-30,split.valid_end=2014-12-31"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"models": ["mlp", "mlp"]}, "none twice"),
        ({"models": ["transformer"]}, "each is one of mlp, tcn, lstm, gru, tft, agent"),
        ({"models": ["ridge"]}, "beside ridge and lightgbm"),
        ({"seeds": 0}, "seeds is 0"),
        ({"folds": -1}, "folds is -1"),
        ({"lookback": 1}, "lookback is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"batch": 1}, "batch"),
        ({"epochs": 0}, "epochs is 0"),
        ({"agent_steps": 100}, "agent_steps is 100"),
        ({"top_k": 12}, "every score would hold the same"),
        ({"recipe": "momentum"}, "learns nothing"),
        ({"train_sessions": 3000}, "sessions"),
        ({"ledger_head": "abc"}, "hash"),
        ({"seds": 3}, "did you mean 'seeds'"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(workspace, wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("deep", SMALL | wrong, track=False)
    assert not (workspace / "runs").exists()


def test_the_page_is_an_entry_of_mlflow():
    assert "quantlab report deep\n" in (root() / "MLproject").read_text()


def up_to_the_models(**given) -> dict:
    "Run the page's cells up to the one that lays out the models; return what they hold."
    sources = [cell.source for cell in nbformat.read(find_template("deep"), 4).cells if cell.cell_type == "code"]
    (last,) = (i for i, source in enumerate(sources) if source.startswith("# The models."))
    space: dict = {}
    exec(sources[0], space)
    space |= SMALL | given
    for source in sources[1 : last + 1]:
        exec(source, space)
    return space


@pytest.mark.parametrize(("given", "purge"), [
    ({"horizon": 20, "learn_every": 3}, 7),  # an entry and 20 sessions reach over 7 of the dates that are learned from
    ({"horizon": 5, "learn_every": 1}, 6),
    ({"overrides": f"{DATED},model.early_stopping=20"}, 0),  # the dates are purged already
])  # fmt: skip
def test_every_model_that_stops_early_leaves_out_the_same_dates(workspace, given, purge):
    pytest.importorskip("torch", reason="make deep")
    space = up_to_the_models(models=["mlp", "tcn", "gru", "tft"], **given)
    asked = {name: model.get_params() for name, model in space["made"].items() if name != "ridge"}
    assert list(asked) == ["lightgbm", "mlp", "tcn", "gru", "tft"] and space["stop"]["purge"] == purge
    gaps = {name: (told["purge"], told["validation"]) for name, told in asked.items() if told.get("early_stopping", 1)}
    assert len(gaps) >= 4 and set(gaps.values()) == {(purge, space["stop"]["validation"])}


@pytest.mark.slow
def test_the_page_with_networks_that_read_paths(workspace):
    pytest.importorskip("torch", reason="make deep")
    run = run_report("deep", SMALL | {"models": ["mlp", "gru", "tft"], "epochs": 1, "seeds": 1}, track=False)
    page, m = run.html.read_text(), run.metrics
    assert "Traceback" not in page and "gru, tft read 20 daily returns" in page and "nan<" not in page
    assert page.count("error unknown") >= 8  # Sharpe and profit factor of what draws: it has one seed
    assert {f"{what}.{name}" for what in ("ic", "dsr", "rank_ic") for name in ("mlp", "gru", "tft")} <= set(m)
    assert m["networks"] == 3 and m["missing"] == 0 and m["trials"] == 6  # ridge, lightgbm, three nets and a hybrid


@pytest.mark.slow
def test_the_page_with_torch(workspace):
    pytest.importorskip("torch", reason="make deep")
    run = run_report("deep", SMALL, track=False)
    page, m = run.html.read_text(), run.metrics
    assert "Traceback" not in page and "the best seed is shown nowhere" in page
    assert {"ic.ridge", "ic.lightgbm", "ic.mlp", "dsr.hybrid", "sharpe_se.mlp", "profit_factor.ridge"} <= set(m)
    assert m["networks"] == 1 and m["missing"] == 0 and m["seed_sd.ridge"] is None and m["seed_sd.mlp"] > 0
    assert ("No: " in page) == (m["better"] == 0)
    trials = Ledger(workspace / "ledger.sqlite").trials("deep/committed sample")
    assert m["trials"] == len(trials) == 4  # ridge, lightgbm, mlp, hybrid: seeds are no trials
    assert load(run.folder / "recipe.yaml").policy.top_k == 4
    stored = json.loads((root() / "bench" / "results" / "deep.json").read_text())
    assert all(f"stored: {name}" in page for name in stored["table"]) and "published: TFT" in page
    again = run_report("deep", SMALL | {"seeds": 1}, track=False)
    assert "One seed says nothing about its spread" in again.html.read_text()
    assert again.metrics["ic.ridge"] == m["ic.ridge"] and again.metrics["seed_sd.mlp"] is None


@pytest.mark.slow
def test_without_torch_the_page_says_so_and_shows_the_rest(workspace, tmp_path, monkeypatch):
    (tmp_path / "lame").mkdir()
    (tmp_path / "lame" / "torch.py").write_text("raise ImportError('no torch here')\n")
    monkeypatch.syspath_prepend(tmp_path / "lame")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lame"), prepend=":")
    run = run_report("deep", SMALL, track=False)
    page = run.html.read_text()
    assert "Not answered: no network could run" in page and "make deep" in page and "Traceback" not in page
    assert run.metrics["networks"] == 0 and run.metrics["missing"] == 1
    assert "ic.lightgbm" in run.metrics and "ic.mlp" not in run.metrics and "dsr.hybrid" not in run.metrics


@pytest.mark.slow
def test_an_agent_stands_in_the_table_of_accounts_and_has_no_score(workspace):
    pytest.importorskip("stable_baselines3", reason="make deep")
    run = run_report("deep", SMALL | {"models": ["agent"], "agent_steps": 3840}, track=False)
    page, m = run.html.read_text(), run.metrics
    assert "agent (PPO)" in page and "Traceback" not in page
    assert {"dsr.agent", "sharpe_se.agent", "profit_factor.agent"} <= set(m) and "ic.agent" not in m
    assert m["networks"] == 0 == m["missing"] and m["trials"] == 3  # ridge, lightgbm, agent


@pytest.mark.slow
def test_an_agent_of_too_many_names_is_left_out_with_the_reason(workspace):
    pytest.importorskip("stable_baselines3", reason="make deep")
    run = run_report("deep", SMALL | {"models": ["agent"], "universe": "all", "seeds": 1}, track=False)
    assert run.metrics["missing"] == 1 and "more than 60" in run.html.read_text()
