"The S&P 500 by members of each day: the store that the script makes, and the page on a small one of the same form."

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, QuantlabError
from quantlab.data.sample import sample_bars
from quantlab.recipe.market import load_market, sector_snapshots
from quantlab.report.run import run_report

SOURCE = root()
TEMPLATE = SOURCE / "reports" / "us.ipynb"
NAMES = ["AAPL", "AIG", "CAT", "GE", "IBM", "JNJ", "JPM", "KO", "MSFT", "PEP", "T", "WMT", "XOM", "F", "HD", "CVX"]
HEAD = "This file was made for a test\n\n{columns}\n"


@pytest.fixture(scope="module")
def script():
    "The script as a module."
    spec = importlib.util.spec_from_file_location("us_store", SOURCE / "scripts" / "us.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "Shared files of sixteen names, one of which leaves and comes back, in the form of the real ones."
    folder = tmp_path_factory.mktemp("us")
    bars = sample_bars(NAMES, "2010-01-04", "2014-12-31").reset_index()
    bars["in_sp500"] = ~(bars["symbol"].eq("AIG") & bars["date"].between("2012-03-01", "2012-09-28"))
    bars["source"] = "made"
    half = bars["date"] < "2013-01-01"
    bars[half].to_parquet(folder / "us_sp500_daily_2010_2012.parquet")
    bars[~half | bars["date"].gt("2012-12-20")].to_parquet(folder / "us_sp500_daily_2013_2014.parquet")
    days, rng = bars["date"].unique(), np.random.default_rng(1)
    for name, columns in {
        "F-F_Research_Data_5_Factors_2x3_daily.csv": ["Mkt-RF", "SMB", "HML", "RMW", "CMA", "RF"],
        "F-F_Momentum_Factor_daily.csv": ["Mom"],
    }.items():
        table = pd.DataFrame(rng.normal(0.03, 0.8, (len(days), len(columns))).round(2), pd.DatetimeIndex(days), columns)
        text = table.to_csv(header=False, date_format="%Y-%m-%d")
        (folder / name).write_text(HEAD.format(columns=",".join(["Date", *columns])) + text + "\nCopyright of a test\n")
    sectors = pd.DataFrame({"asof": pd.Timestamp("2012-06-29"), "symbol": NAMES, "sector": ["A", "B"] * 8})
    sectors.to_parquet(folder / "sp500_sector_snapshots_2012.parquet")
    return folder


@pytest.fixture
def store(script, files, tmp_path, monkeypatch):
    "The small store, where a recipe finds it."
    monkeypatch.setenv("QUANTLAB_SHARED", str(tmp_path))
    return script.main(files, tmp_path / "data" / "us_small")


def test_the_store_holds_members_index_factors_and_sectors(script, files, store):
    assert script.main(files, store) == store, "made anew without complaint"
    market = load_market("qlib:us_small", "sp500", "2010-01-04", "2014-12-31", index="MKT")
    member = market.bars["member"].unstack()
    assert not member.loc["2012-03-01":"2012-09-28", "AIG"].any() and member.loc[:"2012-02-29", "AIG"].all()
    assert member.drop(columns="AIG").all(axis=None) and "MKT" not in member
    published = script.factors(files)
    told = market.index.pct_change().iloc[1:]
    assert np.allclose(told, (published["Mkt-RF"] + published["RF"]).reindex(told.index), atol=1e-5)
    real = sample_bars(["KO"], "2014-06-02", "2014-06-02").iloc[0]
    assert np.isclose(market.bars.loc[("2014-06-02", "KO"), "amount"], real["close"] * real["volume"], rtol=1e-5)
    assert np.isclose(market.bars.loc[("2014-06-02", "KO"), "close"], real["close"] * real["adj"], rtol=1e-6)
    known = sector_snapshots("qlib:us_small")
    assert set(known) == {"known_at", "symbol", "sector"} and len(known) == len(NAMES)


def test_a_folder_without_the_files_is_named(script, tmp_path):
    with pytest.raises(ConfigError, match="us_sp500_daily"):
        script.main(tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_page_on_a_small_store(store, workspace):
    (workspace / "small.yaml").write_text(
        "name: small\nchosen_until: 2013-06-28\nstudy: small us\n"
        "data: {source: 'qlib:us_small', universe: sp500, start: 2010-01-04, end: 2014-12-31, index: MKT,\n"
        "  periods_per_year: 252}\n"
        "model: {kind: feature, column: mom_126_21}\nfeatures: {use: [mom_126_21]}\nlabel: {horizon: 5}\n"
        "signals: {neutralise: sector_size}\npolicy: {kind: long_short, top_k: 3, buffer: 1, rebalance: 5}\n"
    )
    done = run_report(TEMPLATE, {"recipe": str(workspace / "small.yaml")})
    assert {"chosen.sharpe", "opened.sharpe", "opened.alpha", "power.80"} <= set(done.metrics)
    assert np.isclose(done.metrics["power.80"], 2.8 * done.metrics["opened.sharpe_se"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recipe": "momentum"}, "reads sample"),
        ({"data": "qlib:nowhere_at_all"}, "no"),
        ({"overrides": "chosen_until="}, "chosen_until"),
        ({"strat": "2020-01-01"}, "did you mean 'start'"),
    ],
)
def test_what_the_page_refuses(workspace, wrong, says):
    with pytest.raises(QuantlabError, match=says):
        run_report(TEMPLATE, wrong)


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(os.environ.get("QUANTLAB_SHARED", SOURCE.parent / "shared")) / "data" / "us").exists(),
    reason="needs ../shared/data/us (or QUANTLAB_SHARED)",
)
def test_the_page_on_the_real_store(script, workspace):
    if not (SOURCE / script.STORE).exists():
        script.main()
    metrics = run_report(TEMPLATE, {}).metrics
    assert metrics["trials"] >= 20 and metrics["opened.sharpe_se"] > 0.2
