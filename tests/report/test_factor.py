"report.factor and its template: a planted factor is found, a worthless one is not, a leak stops the page."

import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, RunError
from quantlab.data.synth import synth_market
from quantlab.report.factor import break_even, factor_table, find_factors, methods_table, tranche_returns
from quantlab.report.run import run_report
from quantlab.validation.scores import rank_ic

SMALL = {"lags": [0, 5, 10], "horizon": 5, "start": "2000-01-01", "end": "2040-01-01"}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    "A market whose planted factor has an IC of 0.1 over 5 sessions, its bars in a file, and a module with three factors."
    folder = tmp_path_factory.mktemp("factor")
    made = synth_market(40, 500, ic=0.1, horizon=5, persistence=0.9, seed=5)
    made.bars.reset_index().to_parquet(folder / "bars.parquet", index=False)
    made.features.to_pickle(folder / "features.pkl")
    (folder / "my_factors_for_test.py").write_text(
        "import pandas as pd\n"
        f"KNOWN = pd.read_pickle({str(folder / 'features.pkl')!r})\n"
        "def planted(bars):\n    return KNOWN['factor'].reindex(bars.index)\n"
        "def noise(bars):\n    return KNOWN['noise_1'].reindex(bars.index)\n"
        "def tomorrow(bars):\n    return bars.groupby('symbol')['close'].pct_change().groupby('symbol').shift(-1)\n"
        "BOTH = [planted, noise]\n"
    )
    return folder, made


@pytest.fixture
def page(market, monkeypatch, tmp_path):
    folder, _ = market
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(folder), *sys.path]))
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))
    return lambda **change: run_report("factor", {"data": str(folder / "bars.parquet"), **SMALL, **change}, track=False)


def test_a_planted_factor_is_found_and_noise_is_not(page):
    run = page(factor="my_factors_for_test:BOTH")
    text = run.html.read_text()
    assert run.metrics["factors"] == 2 and run.metrics["found"] == 1 and run.metrics["left_out"] == 0
    assert "1 of 2 factors predict the 5-session return" in text and "planted" in text and "Traceback" not in text
    assert run.metrics["ic.mean"] == pytest.approx(0.1, abs=0.03) and run.metrics["ic.p"] < 0.01


def test_a_leak_stops_the_page_and_is_named(page):
    with pytest.raises(RunError, match=r"none of the 1 factors passes the causality audit, first tomorrow: column tomorrow"):
        page(factor="my_factors_for_test:tomorrow")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"factor": "mom_25"}, "no set"), ({"factor": "nowhere:x"}, "cannot import"), ({"relative": "sector"}, "sectors of the sample"), ({"lags": [5, 0]}, "rising"),
        ({"costs": [-1.0]}, "bps"), ({"quantiles": 1}, "quantiles"), ({"rate": 0.9}, "rate"), ({"entry": "vwap"}, "entry"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_before_a_kernel_starts(page, change, part, tmp_path):
    with pytest.raises(ConfigError, match=part):
        page(**change)
    assert not (tmp_path / "runs").exists()


def test_many_worthless_factors_are_seldom_found(market):
    _, made = market
    rng = np.random.default_rng(11)
    y = made.bars.groupby("symbol")["close"].pct_change(fill_method=None).groupby("symbol").shift(-1)
    scores = pd.DataFrame({f"n{i}": rng.normal(size=len(y)) for i in range(40)}, index=y.index)
    table = factor_table(scores, y, 1, rate=0.1)
    assert table["found"].sum() <= 1 and (table["adjusted"] >= table["p"]).all()
    assert np.isclose(table.loc["n3", "ic"], rank_ic(scores["n3"], y).mean())


def test_methods_agree_on_independent_dates(market):
    _, made = market
    y = made.bars.groupby("symbol")["close"].pct_change(fill_method=None).groupby("symbol").shift(-1)
    table = methods_table(pd.Series(np.random.default_rng(2).normal(size=len(y)), y.index), y, 1)
    errors = table["standard error"]
    assert (errors / errors.iloc[-1]).between(0.75, 1.33).all(), "one-session outcomes do not overlap: every method sees the same error"


def test_tranches_are_the_mean_of_their_parts(market):
    _, made = market
    score, step = made.features["factor"], made.bars.groupby("symbol")["close"].pct_change(fill_method=None).groupby("symbol").shift(-1)
    one, five = (tranche_returns(score, step, h) for h in (1, 5))
    late = [tranche_returns(score.groupby("symbol").shift(k), step, 1)["gross"] for k in range(5)]
    assert np.allclose(five["gross"].iloc[10:], sum(late).div(5).reindex(five.index).iloc[10:], equal_nan=True)
    assert five["turnover"].mean() < one["turnover"].mean() and break_even(five) > 0


def test_every_word_of_the_help_names_factors():
    assert [f.name for f in find_factors("rev_21")] == ["rev_21"] and len(find_factors("alpha360")) == 360
