"The page about regimes: runs on the sample and on a file, prints its numbers, refuses what it cannot judge."

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError
from quantlab.regime.simulated import simulated_regimes
from quantlab.report.run import run_report

SMALL = {"detectors": ["hmm"], "worlds": 1, "draws": 49}


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


def test_the_page_on_a_file_of_simulated_bars(tmp_path):
    world = simulated_regimes(1500, means=(0.002, -0.004), seed=11)
    close = world.close()
    bars = pd.DataFrame({"date": close.index, "symbol": "SIM", "close": close.to_numpy(), "volume": 1e6})
    bars["open"] = close.shift(fill_value=100.0).to_numpy()
    bars["high"], bars["low"] = bars[["open", "close"]].max(axis=1) * 1.001, bars[["open", "close"]].min(axis=1) * 0.999
    bars.to_parquet(tmp_path / "bars.parquet", index=False)
    span = {"start": "2000-01-01", "end": "2030-01-01"}
    run = run_report("regime", {"data": str(tmp_path / "bars.parquet"), "symbol": "SIM", **span, **SMALL}, track=False)
    text, numbers = run.html.read_text(), json.loads((run.html.parent / "metrics.json").read_text())
    assert "Traceback" not in text and "hidden Markov" in text and "Deflated Sharpe ratio" in text
    assert numbers["hmm.gain"] > numbers["hmm.gain_se"] > 0 and numbers["hmm.p"] <= 0.04  # the edge was planted
    assert numbers["trials"] == 2 and np.isfinite(numbers["hmm.hindsight_se"])


@pytest.mark.slow
def test_the_page_of_every_detector_on_the_sample():
    run = run_report("regime", {}, track=False)
    numbers = run.metrics
    for name in ("hmm", "markov", "jump", "changepoint", "kernel_cut"):
        assert numbers[f"{name}.hindsight"] > 2 * numbers[f"{name}.hindsight_se"] > 0
    assert "No gate is told from luck" in run.html.read_text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"detectors": []}, "name one or more"), ({"detectors": ["hmm", "hmm"]}, "each once"),
        ({"detectors": ["hnm"]}, "did you mean hmm"), ({"n_states": 5}, "n_states"), ({"turbulent": 1.5}, "turbulent"),
        ({"delay": 0}, "delay"), ({"draws": 5}, "draws"), ({"symbol": "A,B"}, "one symbol"), ({"study": ""}, "study"),
        ({"symbol": "NOPE"}, "NOPE"), ({"start": "2022-01-01"}, "300 are needed"), ({"ledger_head": "x"}, "ledger"),
        ({"start": "2020", "end": "2019"}, "swap"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_before_a_kernel_starts(wrong, said):
    with pytest.raises(ConfigError, match=said):
        run_report("regime", SMALL | wrong, track=False)
