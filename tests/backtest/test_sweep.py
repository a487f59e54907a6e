"""Many settings in one call: as one run each, kept when killed, the same on processes and Dask, every one in the
ledger."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweep_strategies import failing, holding, loud
from test_engine import DATES, market, targets

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.backtest.sweep import SearchRange, SweepTerms, heat_map, sweep
from quantlab.broker.fill_model import next_close, next_open
from quantlab.broker.rules import Rules
from quantlab.core.compute import ComputeError
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.core.panel import as_panel, to_wide
from quantlab.core.state import save_state

HERE = Path(__file__).parent
SPACE = {"days": [1, 5, 7], "share": [0.2, 0.5, 0.9]}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture(scope="module")
def bars():
    return market(2, missing=0.05)


@pytest.mark.parametrize("fill", [next_open(), next_open(sized="fill"), next_close()])
def test_one_pass_is_as_many_runs(fill):
    bars, costs = market(3, missing=0.2), Costs(5, 20)
    sets = [targets(seed, seed % 2 == 1) for seed in range(12)]
    equity, totals = equity_curves(sets, bars, costs, Rules(stale_after=2), fill, 1e5)
    for m, weights in enumerate(sets):
        run = from_weights(weights, bars, costs, Rules(stale_after=2), fill, 1e5)
        assert equity[m].dropna().tolist() == run.equity.tolist()
        assert totals["fills"][m] == len(run.trades) and totals["turnover"][m] == pytest.approx(
            run.turnover.sum(), rel=1e-12
        )
    nothing, none = equity_curves([], bars)
    assert nothing.shape == (40, 0) and none.empty
    idle, zero = equity_curves([sets[0].iloc[:0]], bars)
    assert (idle[0] == 1e6).all() and zero["fills"][0] == 0


def test_members_are_runs_and_trials(bars, ledger):
    close = to_wide(bars["close"]).ffill()
    found = sweep(holding, SPACE, bars, ledger, "hold", close, workers=1, chunk=2)
    assert len(found.members) == 9 == len(ledger.trials("hold")) and found.settings == ["days", "share"]
    for m, row in found.members.iterrows():
        run = from_weights(holding(close, row["days"], row["share"]), bars)
        assert found.equity[m].dropna().tolist() == run.equity.tolist()
        assert row["sharpe"] == pytest.approx(run.returns.mean() / run.returns.std() * np.sqrt(252))
        assert row["drawdown"] == pytest.approx((run.equity / run.equity.cummax() - 1).min())
    trials = ledger.trials("hold").set_index("key")["sharpe"] * np.sqrt(252)
    pd.testing.assert_series_equal(
        trials.loc[found.members["key"]].reset_index(drop=True), found.members["sharpe"], check_names=False
    )
    head = ledger.head()
    again = sweep(holding, SPACE, bars, ledger, "hold", close, workers=1, chunk=2)
    pd.testing.assert_frame_equal(found.members, again.members)
    assert ledger.head() == head and ledger.verify() == 9  # a repeated sweep is not a new trial
    sweep(holding, SPACE, bars, ledger, "hold", close, SweepTerms(costs=Costs(0, 0)), workers=1)
    assert len(ledger.trials("hold")) == 18


@pytest.mark.slow
def test_processes_find_the_same(bars, ledger, monkeypatch, tmp_path):
    close = to_wide(bars["close"]).ffill()
    here = sweep(holding, SPACE, bars, ledger, "a", close, workers=1, chunk=4)
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "other"))
    there = sweep(holding, SPACE, bars, Ledger(tmp_path / "other.sqlite"), "a", close, workers=2, chunk=1)
    pd.testing.assert_frame_equal(here.members, there.members)
    pd.testing.assert_frame_equal(here.equity, there.equity)


@pytest.mark.slow
def test_dask_finds_the_same(bars, ledger, monkeypatch, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    close = to_wide(bars["close"]).ffill()
    here = sweep(holding, SPACE, bars, ledger, "a", close, workers=1)
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "other"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = sweep(
            holding,
            SPACE,
            bars,
            Ledger(tmp_path / "other.sqlite"),
            "a",
            close,
            chunk=2,
            scheduler=cluster.scheduler_address,
        )
    pd.testing.assert_frame_equal(here.members, there.members)


PROGRAM = """
import sys; sys.path.insert(0, {here!r})
import pandas as pd
from sweep_strategies import slow
from test_engine import market
from quantlab.backtest.sweep import sweep
from quantlab.core.ledger import Ledger
from quantlab.core.panel import to_wide
bars = market(2, missing=0.05)
found = sweep(slow, {{"share": [k / 40 for k in range(1, 31)]}}, bars, Ledger({ledger!r}), "kill",
              (to_wide(bars["close"]).ffill(), {marks!r}), chunk=2, workers=1)
found.members.to_parquet({out!r})
"""


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    marks, ledger, out = tmp_path / "marks", tmp_path / "ledger.sqlite", tmp_path / "members.parquet"
    marks.mkdir()
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(here=str(HERE), ledger=str(ledger), marks=str(marks), out=str(out)))
    environment = os.environ | {"QUANTLAB_RESEARCH_CACHE": str(tmp_path / "cache")}
    first = subprocess.Popen([sys.executable, script], env=environment)
    deadline = time.time() + 60
    while len(list(marks.iterdir())) < 9 and time.time() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(list(marks.iterdir()))
    assert 9 <= before < 30 and not out.exists()
    subprocess.run([sys.executable, script], env=environment, check=True, timeout=60)
    assert len(list(marks.iterdir())) <= 30 + 2  # at most the part in work is done twice
    found = pd.read_parquet(out)
    assert len(found) == 30 == len(Ledger(ledger).trials("kill")) and Ledger(ledger).verify() == 30
    assert found["share"].is_monotonic_increasing and found["sharpe"].notna().all()


def test_a_search_narrows(bars, ledger):
    close = to_wide(bars["close"]).ffill()
    found = sweep(holding, {"days": [5], "share": SearchRange(0.1, 0.9)}, bars, ledger, "n", close, rounds=3, workers=1)
    assert found.members.groupby("round").size().tolist()[0] == 3 and found.members["round"].max() == 3
    assert not found.members.duplicated(found.settings).any() and found.best["share"] in set(found.members["share"])
    widths = found.members.groupby("round")["share"].agg(np.ptp)
    assert widths.iloc[-1] < widths.iloc[0] and found.members["share"].between(0.1, 0.9).all()


def test_a_ruined_member_is_a_row(bars, ledger):
    close = to_wide(bars["close"]).ffill()
    up = as_panel(
        pd.DataFrame(
            {"date": DATES[:5], "symbol": close.columns[0], "open": [1, 1, 1, 3, 3.0], "close": [1, 1, 3, 3, 3.0]}
        )
    )
    found = sweep(loud, {"share": [0.1, 1.0]}, up, ledger, "r", to_wide(up["close"]), workers=1)
    assert found.members["ruined"].tolist() == [False, True] and np.isnan(found.members["sharpe"][1])
    assert found.best == {"share": 0.1} and len(ledger.trials("r")) == 2
    ruined = sweep(loud, {"share": [0.99, 1.0]}, up, ledger, "all", to_wide(up["close"]), workers=1)
    with pytest.raises(ConfigError, match="no member"):
        _ = ruined.best


def test_what_cannot_be_swept_is_named(bars, ledger):
    for space, options in (
        ({}, {}),
        ({"share": []}, {}),
        ({"share": [1.0]}, {"rounds": 2}),
        ({"share": [1.0]}, {"points": 2}),
        ({"share": [1.0]}, {"chunk": 0}),
    ):
        with pytest.raises(ConfigError):
            sweep(holding, space, bars, ledger, "x", **options)
    with pytest.raises(ComputeError, match="members 1 to 2 failed: ZeroDivisionError"):
        sweep(failing, {"share": [0.1, 0.2]}, bars, ledger, "x", workers=1)
    assert len(ledger.rows()) == 0


def test_heat_map(bars, ledger):
    found = sweep(holding, SPACE, bars, ledger, "h", to_wide(bars["close"]).ffill(), workers=1)
    image = heat_map(found, "share", "days").axes[0].images[0].get_array()
    assert image.shape == (3, 3) and image[-1, 2] == pytest.approx(  # the first value lies at the bottom
        found.members.query("days == 1 and share == 0.9")["sharpe"].iloc[0]
    )
    for x, y, value in (("share", "share", "sharpe"), ("share", "day", "sharpe"), ("share", "days", "sharp")):
        with pytest.raises(ConfigError, match="no column"):
            heat_map(found, x, y, value)


def test_the_best_settings_are_the_members_own(bars, ledger):
    close = to_wide(bars["close"]).ffill()
    best = sweep(holding, SPACE, bars, ledger, "own", close, workers=1).best
    assert (
        type(best["days"]) is int
        and type(best["share"]) is float
        and best["days"] in SPACE["days"]
        and best["share"] in SPACE["share"]
    )
    with pytest.raises(ConfigError, match="volatility"):
        sweep(holding, {"volatility": [1, 2]}, bars, ledger, "taken", close, workers=1)


@pytest.mark.parametrize(
    "held",
    [1, ([], pd.DataFrame()), ([{"sharpe": 9.0}] * 2, pd.DataFrame({0: [1.0]})), [1, 2]],
    ids=["number", "nothing", "other members", "a list"],
)
def test_what_is_no_part_is_computed_again(bars, ledger, tmp_path, held):
    "Whatever lies under a part's key, only its members' figures with their equity are taken."
    close = to_wide(bars["close"]).ffill()
    found = sweep(holding, SPACE, bars, ledger, "hold", close, workers=1, chunk=5)
    files = list((tmp_path / "cache").glob("*.zip"))
    assert len(files) == 2
    for file in files:
        with zipfile.ZipFile(file) as archive:
            key = json.loads(archive.read("value.json"))["key"]
        with file.open("wb") as target:
            save_state(held, target, key)
    pd.testing.assert_frame_equal(
        sweep(holding, SPACE, bars, ledger, "hold", close, workers=1, chunk=5).members, found.members
    )
