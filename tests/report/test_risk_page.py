"The page about risk: what it prints are the numbers of the room, and what it cannot judge it refuses."

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError
from quantlab.report.run import run_report
from quantlab.risk.book import portfolio_risk

SMALL = {"symbols": ["KO", "XOM"], "methods": ["normal", "filtered"], "draws": 99, "start": "2018-01-01"}


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize(("wrong", "says"), [
    ({"methods": ["garsch"]}, "garch"),
    ({"methods": []}, "one or more"),
    ({"symbols": ["KO", "KO"]}, "each once"),
    ({"symbols": ["NOPE"]}, "NOPE"),
    ({"quantities": [5]}, "1 quantities for 2 symbols"),
    ({"confidence": 1.0}, "confidence"),
    ({"lookback": 10}, "lookback"),
    ({"start": "2023-01-01"}, "sessions"),
    ({"symbols": ["KO", "AET"]}, "AET"),
])  # fmt: skip
def test_what_the_page_cannot_judge_is_refused(wrong, says):
    with pytest.raises((ConfigError, ValueError), match=says):
        run_report("risk", SMALL | wrong, track=False)


@pytest.mark.slow
def test_the_page_prints_the_numbers_of_the_room():
    run = run_report("risk", SMALL | {"quantities": [100, -50]}, track=False)
    numbers = json.loads((run.html.parent / "metrics.json").read_text())
    bought = [{"symbol": "KO", "quantity": 100}, {"symbol": "XOM", "quantity": -50}]
    risk = portfolio_risk(bought)  # its last 500 shocks begin after 2018
    assert numbers["scenario.2020"] == pytest.approx(risk.scenario_losses["2020"])
    assert numbers["var"] == pytest.approx(risk.VaR, rel=1e-6)
    text = run.html.read_text()
    assert "Traceback" not in text and "Value at risk" in text and f"{risk.VaR:,.0f}" in text


@pytest.mark.slow
def test_the_page_on_a_file_of_bars(tmp_path):
    rng, dates = np.random.default_rng(3), pd.bdate_range("2015-01-01", periods=1500)
    rows = []
    for symbol in ("A", "B"):
        close = 100 * np.exp(np.cumsum(0.01 * rng.standard_t(5, 1500)))
        rows.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "symbol": symbol,
                    "open": close,
                    "high": close,
                    "low": close,
                    "close": close,
                    "volume": 1e4,
                }
            )
        )
    pd.concat(rows).to_parquet(tmp_path / "bars.parquet", index=False)
    run = run_report(
        "risk",
        {"data": str(tmp_path / "bars.parquet"), "symbols": ["A", "B"], "methods": ["t"], "draws": 99},
        track=False,
    )
    assert run.metrics["liquidity_risk"] > 0.5 and run.metrics["t.sessions"] == 999  # a thin market
