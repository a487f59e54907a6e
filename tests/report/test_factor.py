"report.factor and its template: a planted factor is found, a worthless one is not, a leak stops the page."

import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, RunError
from quantlab.data.synth import synth_market
from quantlab.features.sets import SETS
from quantlab.report.factor import (
    check_factors,
    factor_break_even,
    factor_table,
    find_factors,
    group_table,
    methods_table,
    tranche_returns,
)
from quantlab.report.run import run_report
from quantlab.validation.scores import rank_ic

SMALL = {"lags": [0, 5, 10], "horizon": 5, "start": "2000-01-01", "end": "2040-01-01"}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A market whose planted factor has an IC of 0.1 over 5 sessions, its bars in a file, and a module with three
    factors."""
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
    with pytest.raises(
        RunError, match=r"none of the 1 features passes the causality audit, first: column tomorrow"
    ):
        page(factor="my_factors_for_test:tomorrow")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"factor": "mom_25"}, "no feature set"), ({"factor": "nowhere:x"}, "cannot import"),
        ({"relative": "sector"}, "sectors of the sample"), ({"lags": [5, 0]}, "rising"),
        ({"costs": [-1.0]}, "bps"), ({"quantiles": 1}, "quantiles"), ({"rate": 0.9}, "rate"),
        ({"entry": "vwap"}, "entry"),
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
    assert (errors / errors.iloc[-1]).between(0.75, 1.33).all(), (
        "one-session outcomes do not overlap: every method sees the same error"
    )


def test_tranches_are_the_mean_of_their_parts(market):
    _, made = market
    score, step = (
        made.features["factor"],
        made.bars.groupby("symbol")["close"].pct_change(fill_method=None).groupby("symbol").shift(-1),
    )
    one, five = (tranche_returns(score, step, h) for h in (1, 5))
    late = [tranche_returns(score.groupby("symbol").shift(k), step, 1)["gross"] for k in range(5)]
    assert np.allclose(five["gross"].iloc[10:], sum(late).div(5).reindex(five.index).iloc[10:], equal_nan=True)
    assert five["turnover"].mean() < one["turnover"].mean() and factor_break_even(five) > 0


def test_every_word_of_the_help_names_factors():
    assert [f.name for f in find_factors("rev_21")] == ["rev_21"] and len(find_factors("alpha360")) == 360


def test_a_factor_that_says_nothing_is_refused_before_a_kernel_starts(tmp_path, monkeypatch):
    "On all dates for a function that declares no look-back, at once for a factor that differs somewhere."
    source = """
def constant(bars):
    return bars["close"] * 0 + 1

def seldom(bars):
    first = bars.index.get_level_values("date") == bars.index[0][0]
    return (bars["close"] * first).where(first, 1.0)

def broken(bars):
    return bars["clsoe"]
"""
    (tmp_path / "own_factors.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    output = tmp_path / "runs"
    for name, part in {
        "constant": "constant gives all names one value on every date",
        "broken": "factor broken fails on these bars .KeyError: 'clsoe'",
    }.items():
        with pytest.raises(DataError, match=part):
            run_report(
                "factor", {"factor": f"own_factors:{name}", "universe": "AAPL, KO, MSFT, PEP, XOM"}, output, track=False
            )
    assert not output.exists()


def test_one_date_on_which_a_factor_differs_is_enough(market):
    bars, dull, good = market_bars(), find_factors("quantlab.features.price:PRICE")[0], SETS["base"][0]
    assert check_factors([dull], bars) is None and check_factors([good], bars.iloc[:4]) is None, "too few rows to tell"
    flat = bars.assign(open=7.0, high=7.0, low=7.0, close=7.0)
    with pytest.raises(DataError, match=f"{good.name} gives all names one value"):
        check_factors([good], flat)


def market_bars():
    "Bars of five names that walk apart."
    rng = np.random.default_rng(5)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=400, unit="us"), list("ABCDE")], names=["date", "symbol"]
    )
    close = pd.Series(50 * np.exp(np.cumsum(rng.normal(0, 0.01, (400, 5)), axis=0)).ravel(), index)
    bars = pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1000.0})
    return bars.assign(amount=bars["close"] * bars["volume"])


def test_too_little_data_is_no_finding_and_a_group_without_names_no_row():
    rng = np.random.default_rng(6)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=10, unit="us"), list("ABCDEF")], names=["date", "symbol"]
    )
    scores, y = pd.DataFrame(rng.normal(size=(60, 2)), index, ["one", "two"]), pd.Series(rng.normal(size=60), index)
    table = factor_table(scores * np.nan, y, 20)
    assert len(table) == 2 and table["p"].isna().all() and not table["found"].any()
    assert group_table(scores["one"], y, pd.Series(np.nan, index, dtype=object), 20).empty
    for word, part in (("quantlab.nowhere:x", "cannot import"), ("quantlab.core.plot:COLORS", "neither")):
        with pytest.raises(ConfigError, match=part):
            find_factors(word)
