"""Very many settings: figures as of the smaller sweep, shards that are whole or not there, each member in the ledger
once, whatever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from sweep_strategies import holding, many
from test_engine import market

from quantlab.backtest import sweep as module
from quantlab.backtest.sweep import SweepTerms, sweep, sweep_shards
from quantlab.core.cache import off
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.core.panel import to_wide
from quantlab.core.types import grid_of

HERE = Path(__file__).parent
SETTINGS = grid_of({"days": [1, 3, 5, 7], "share": [round(0.03 * k, 2) for k in range(1, 31)]})
FIGURES = ["sharpe", "se", "growth", "volatility", "drawdown", "turnover", "fills", "ruined"]


@pytest.fixture(scope="module")
def bars():
    return market(2, missing=0.05)


@pytest.fixture(scope="module")
def close(bars):
    return to_wide(bars["close"]).ffill()


def run(bars, close, folder, marks="", seconds=0.0, settings=SETTINGS, **where):
    inputs = (close, str(marks), seconds)
    book, where = Ledger(Path(folder) / "ledger.sqlite"), where or {"workers": 1}
    return sweep_shards(many, settings, bars, book, "many", Path(folder) / "shards", inputs, chunk=7, **where)


def complete(found, expected, folder):
    "Hold a table and its ledger to an undisturbed one: no setting twice, none lost, every figure the same."
    pd.testing.assert_frame_equal(found.drop(columns="key"), expected.drop(columns="key"))
    book = Ledger(Path(folder) / "ledger.sqlite")
    assert book.verify() == len(SETTINGS) and list(book.rows()["key"].sort_values()) == sorted(found["key"])
    assert found["key"].is_unique and len(list((Path(folder) / "shards").glob("*.parquet"))) == -(-len(SETTINGS) // 7)


def test_figures_are_those_of_a_sweep(bars, close, tmp_path):
    found = run(bars, close, tmp_path)
    with off():
        space = {"days": [1, 3, 5, 7], "share": sorted({one["share"] for one in SETTINGS})}
        other = sweep(holding, space, bars, Ledger(tmp_path / "other.sqlite"), "a", close, workers=1).members
    columns = ["days", "share", *FIGURES]
    pd.testing.assert_frame_equal(found[columns], other[columns].rename_axis(None))
    trials = Ledger(tmp_path / "ledger.sqlite").trials("many").set_index("key").loc[found["key"]]
    assert trials["sharpe"].tolist() == found["sharpe_period"].tolist() and found["sharpe"].notna().all()
    assert np.allclose(found["sharpe"], found["sharpe_period"] * 252**0.5)
    complete(found, found, tmp_path)


def test_what_is_there_is_not_made_again(bars, close, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    made = lambda: len(list(marks.iterdir()))
    first = run(bars, close, tmp_path, marks)
    assert made() == 18
    shards = sorted((tmp_path / "shards").iterdir())
    shards[3].unlink()
    shards[5].write_bytes(shards[5].read_bytes()[:100])
    pd.read_parquet(shards[7]).iloc[1:].to_parquet(shards[7])
    again = run(bars, close, tmp_path, marks)
    assert made() == 18 + 3
    complete(again, first, tmp_path)
    other = run(bars, close, tmp_path, marks, settings=SETTINGS[:7])  # the first shard alone is found
    assert made() == 18 + 3 and other.equals(first.iloc[:7])


def test_a_shard_that_was_not_recorded_is_recorded_by_the_next_call(bars, close, tmp_path, monkeypatch):
    expected, calls = run(bars, close, tmp_path / "whole"), []

    def dying(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return enter(*given)

    enter = module._enter
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "_enter", dying)
        run(bars, close, tmp_path)
    assert len(list((tmp_path / "shards").iterdir())) == 4 and len(Ledger(tmp_path / "ledger.sqlite").rows()) == 21
    complete(run(bars, close, tmp_path), expected, tmp_path)


def test_other_terms_are_other_members(bars, close, tmp_path):
    inputs, book = (close, "", 0.0), Ledger(tmp_path / "ledger.sqlite")
    call = lambda terms: sweep_shards(many, SETTINGS[:8], bars, book, "a", tmp_path / "s", inputs, terms, workers=1)
    assert not set(call(SweepTerms())["key"]) & set(call(SweepTerms(cash=5e5))["key"]) and book.verify() == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "give settings"),
        ([{"days": 1, "share": 0.1}] * 2, "1 settings are there twice"),
        ([{"days": 1, "share": 0.1}, {"share": 0.1, "days": 1}], "different names"),
        ([{"sharpe": 1}], "as figures of the table are"),
    ],
)
def test_settings_that_cannot_be_swept_are_named(bars, close, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(bars, close, tmp_path, settings=settings)
    assert not (tmp_path / "shards").exists()


def test_a_killed_parent_goes_on(bars, close, tmp_path):
    expected, marks, rng = run(bars, close, tmp_path / "whole"), tmp_path / "marks", random.Random(7)
    marks.mkdir()
    for kill in range(1, 5):
        child = os.fork()
        if child == 0:  # nothing of the test may go on in it
            try:
                run(bars, close, tmp_path, marks, 0.02)
            finally:
                os._exit(0)
        limit = time.time() + 60
        while len(list(marks.iterdir())) < 4 * kill and time.time() < limit:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    complete(run(bars, close, tmp_path, marks, 0.02), expected, tmp_path)
    assert len(list(marks.iterdir())) <= 18 + 4  # at most the shard in work is made twice


PROGRAM = """
import sys; sys.path.insert(0, {here!r})
from test_engine import market
from test_sweep_shards import run
from quantlab.core.panel import to_wide
bars = market(2, missing=0.05)
found = run(bars, to_wide(bars["close"]).ffill(), {folder!r}, {marks!r}, 0.3, **{where!r})
"""


class Cluster:
    "Keep a scheduler and two workers, each a process of its own that may be killed."

    def __init__(self, folder: Path):
        self.folder, self.processes, self.number = folder, {}, 0

    def start(self) -> str:
        self.stop()
        self.number += 1
        told = self.folder / f"scheduler{self.number}.json"
        options = ["--no-dashboard", "--scheduler-file", str(told)]
        self.open("scheduler", ["scheduler", "--port", "0", "--host", "127.0.0.1", *options])
        for name in ("one", "two"):
            more = ["--nthreads", "1", "--memory-limit", "4GB", "--name", name, "--local-directory", str(self.folder)]
            self.open(name, ["worker", *options, "--no-nanny", *more])
        limit = time.time() + 120
        while not (told.exists() and told.read_text().endswith("}")) and time.time() < limit:
            time.sleep(0.05)
        return json.loads(told.read_text())["address"]

    def open(self, name: str, command: list[str]) -> None:
        paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | {"PYTHONPATH": paths}}
        program = [sys.executable, "-m", f"distributed.cli.dask_{command[0]}"]
        self.processes[name] = subprocess.Popen([*program, *command[1:]], **quiet)

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes = {}


@pytest.mark.slow
def test_twenty_kills_of_scheduler_worker_or_parent_leave_the_same_table(bars, close, tmp_path):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    expected, marks, rng = run(bars, close, tmp_path / "whole"), tmp_path / "marks", random.Random(11)
    marks.mkdir()
    cluster, killed = Cluster(tmp_path), []
    try:
        address = cluster.start()
        while len(killed) < 20:
            whom = rng.choice(["scheduler", "worker", "parent"])
            given = {"here": str(HERE), "folder": str(tmp_path), "marks": str(marks), "where": {"scheduler": address}}
            program = subprocess.Popen([sys.executable, "-c", PROGRAM.format(**given)], stderr=subprocess.DEVNULL)
            before, limit = len(list(marks.iterdir())), time.time() + 120
            while len(list(marks.iterdir())) == before and time.time() < limit and program.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            victim = {"parent": program, "scheduler": cluster.processes["scheduler"]}.get(
                whom, cluster.processes["one"]
            )
            victim.kill()
            victim.wait()
            killed.append(whom)
            if whom == "worker":  # the other one goes on
                program.wait(timeout=300)
            program.kill()
            program.wait()
            if whom != "parent":
                address = cluster.start()
            for file in (tmp_path / "shards").glob("*.parquet"):  # so that there is always work left to disturb
                if rng.random() < 0.5:
                    file.unlink()
        found = run(bars, close, tmp_path, marks, 0.3, scheduler=address)
    finally:
        cluster.stop()
    assert set(killed) == {"scheduler", "worker", "parent"}
    complete(found, expected, tmp_path)
    assert not [child for child in psutil.Process().children(recursive=True) if "dask" in " ".join(child.cmdline())]
