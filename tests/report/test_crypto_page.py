"The page about the crypto system: runs on the market made up, shows the stored run, refuses what it cannot judge."

import json

import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.recipe.space import without_posts
from quantlab.recipe.spec import load
from quantlab.report.run import run_report


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


def test_what_the_page_shows_is_what_the_recipe_comes_to():
    run = run_report("crypto", {"parts": False, "draws": 50}, track=False)
    text, stored = run.html.read_text(), json.loads((root() / "recipes" / "crypto.metrics.json").read_text())
    assert "Traceback" not in text and "The market is made up" in text and "On the real market" in text
    assert run.metrics["the_system.sharpe"] == pytest.approx(stored["accounts"]["strategy"]["sharpe"], rel=1e-9)
    assert run.metrics["trials"] == 1 and run.metrics["kills"] == 0


@pytest.mark.slow
def test_every_part_and_a_kill():
    told = {"overrides": "limits.kill_drawdown=0.02", "nudge": 0.2, "draws": 50}
    run = run_report("crypto", told, track=False)
    assert run.metrics["kills"] == 1 and run.metrics["without.the_model"] != run.metrics["the_system.sharpe"]
    assert run.metrics["moved.policy.rebalance.lower"] != run.metrics["moved.policy.rebalance.higher"]


def test_the_stored_run_is_of_the_recipe_that_is_committed():
    about = json.loads((root() / "bench" / "results" / "crypto.json").read_text())["about"]
    real = without_posts(load("crypto")).replace("data.source", "lake:crypto")
    written = {k: v for k, v in about["recipe"].items() if k not in ("name", "title")}
    told = json.loads(json.dumps({k: v for k, v in real.model_dump(mode="json", exclude_defaults=True).items()}))
    for section in ("features", "label", "split", "model", "regime", "signals", "policy", "sizing"):
        assert written.get(section) == told.get(section), f"{section} changed: run scripts/crypto.py again"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recipe": "cryptp"}, "did you mean crypto"), ({"nudge": 1.5}, "nudge"), ({"draws": 5}, "draws"),
        ({"data": "synth:nothing"}, "synth"), ({"universe": "BTCUSDT"}, "BTCUSDT|2"),
        ({"end": "2020-03-01"}, "sessions"),
        ({"overrides": "policy.kind=proportinal"}, "did you mean proportional"), ({"ledger_head": "x"}, "ledger"),
    ],
)  # fmt: skip
def test_what_the_page_cannot_judge_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        run_report("crypto", wrong, track=False)
