"The page about options: it prints the numbers of the room, goes on without QuantLib, and refuses what it cannot price."

import json

import numpy as np
import pytest

from quantlab.core.errors import ConfigError, DataError, ReportError
from quantlab.data.sample import sample_options
from quantlab.report.run import run_report


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"chain": "no/such.csv"}, "chain"),
        ({"quoted": "2026-01-30"}, "a moment with its zone"),
        ({"rate": 3.65}, "rate"),
        ({"curve_years": [1.0, 0.5], "curve_rates": [0.03, 0.04]}, "rising years"),
        ({"curve_years": [1.0]}, "1 curve_years and 0 curve_rates"),
        ({"settles": []}, "settles is empty"),
        ({"settles": ["SPXW 4pm"]}, r"settles\[0\]"),
        ({"drop": ["June"]}, r"drop\[0\]"),
        ({"contracts": [], "quantities": []}, "name one or more"),
        ({"contracts": ["SPX"]}, "1 contracts and 4 quantities"),
        ({"exotic_days": 1}, "exotic_days"),
        ({"barrier_low": 1.2}, "barrier_low"),
        ({"barrier_high": 0.9}, "barrier_high"),
        ({"paths": 10}, "paths"),
        ({"confidence": 1.0}, "confidence"),
        ({"data": "nowhere.csv"}, "nowhere"),
    ],
)
def test_a_slip_is_refused_before_anything_is_read(wrong, said):
    with pytest.raises(ConfigError, match=said):
        run_report("options", wrong, track=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"settles": ["SPX 09:30"]}, "SPXW"),
        ({"contracts": ["SPXW260227C06950001"], "quantities": [1]}, "no such contract"),
        ({"contracts": ["SPXW260130C06950000"], "quantities": [1]}, "expired"),
        ({"quoted": "2023-01-30 16:00-05:00"}, "reaches beyond the quotes"),
        ({"exotic_days": 400}, "the chain ends after 321.7 days"),
        ({"start": "2023-01-01"}, "540 are needed"),
    ],
)
def test_what_cannot_be_priced_is_refused_before_a_kernel_starts(wrong, said):
    with pytest.raises((ConfigError, DataError, ReportError), match=said):
        run_report("options", wrong, track=False)


@pytest.mark.slow
def test_the_page_on_the_sample_finds_what_made_it():
    run = run_report("options", {"paths": 4000}, track=False)
    numbers, text = json.loads((run.html.parent / "metrics.json").read_text()), run.html.read_text()
    truth = {"v0": 0.0175, "theta": 0.044, "kappa": 4.0, "sigma": 1.15, "rho": -0.74}
    assert all(numbers[f"bates.{name}"] == pytest.approx(value, rel=0.03) for name, value in truth.items())
    assert numbers["certified"] == 1 and numbers["bates.rmse"] < numbers["heston.rmse"] / 3
    assert numbers["book.var"] > 3 * numbers["book.var_by_delta"] > 0
    assert numbers["spot"] == pytest.approx(6936, abs=0.5) and numbers["models_that_fit"] >= 2
    assert "Traceback" not in text and "simulated sample" in text and "A second opinion" in text


@pytest.mark.slow
def test_the_page_on_a_file_says_what_it_cannot_show(tmp_path):
    "Two expiries too far for VIX, a curve."
    vendor = sample_options()
    days = vendor["contractSymbol"].str.extract(r"SPXW(\d{6})")[0]
    file = tmp_path / "chain.csv"
    vendor[days.isin(["260417", "260618"])].to_csv(file, index=False)
    told = {"contracts": ["SPXW260417P06200000"], "quantities": [-5], "curve_years": [0.1, 1.0]}
    told |= {"curve_rates": [0.036, 0.037], "paths": 2000, "exotic_days": 100}
    run = run_report("options", {"chain": str(file), **told}, track=False)
    text = run.html.read_text()
    assert "No VIX" in text and "noise, points" in text and "is simulated" not in text and "Traceback" not in text
    assert np.isfinite(run.metrics["book.var"])
