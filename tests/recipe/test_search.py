"A search counts every member once: killed, side by side, on a cluster, over noise."

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger
from quantlab.recipe import search as module
from quantlab.recipe.run import run
from quantlab.recipe.search import kept_returns, returns_folder, search
from quantlab.recipe.space import WAYS, Space, read_space, space_of
from quantlab.recipe.spec import Recipe

SYMBOLS = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO, CVS, CVX"
SMALL = Recipe().replace(
    name="small", data__universe=SYMBOLS, data__start="2011-01-03", data__end="2012-12-31", features__use=["rev_21"],
    model__kind="feature", model__column="rev_21", policy__buffer=2, study="search test",
)  # fmt: skip
WIDE = {"policy.top_k": list(range(2, 12)), "policy.buffer": [0, 2, 4, 6], "policy.rebalance": [5, 10, 15, 20, 25]}
FEW = {"policy.top_k": [3, 5, 8], "policy.rebalance": [10, 20]}


def study_of(ledger, account="excess"):
    return ledger.trials(f"search test/committed sample/{account}")


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    "The same few members in this process."
    ledger = Ledger(tmp_path_factory.mktemp("one") / "ledger.sqlite")
    return search(SMALL, FEW, n_jobs=1, ledger=ledger), ledger


@pytest.mark.parametrize(
    ("vary", "members", "step"),
    [
        pytest.param(WIDE | {"policy.buffer": [0, 2]}, 100, 8, id="100"),
        pytest.param(WIDE, 200, 20, id="200", marks=pytest.mark.slow),
    ],
)
def test_members_of_a_search_that_is_killed_three_times_are_each_one_trial(tmp_path, vary, members, step):
    (tmp_path / "small.yaml").write_text(SMALL.save("-"))
    file, book = tmp_path / "search.yaml", Ledger(tmp_path / "ledger.sqlite")
    file.write_text(yaml.safe_dump({"recipe": "small.yaml", "vary": vary}))
    code = (
        "import sys; from quantlab.core.ledger import Ledger; from quantlab.recipe.search import search_file; "
        "print(search_file(sys.argv[1], n_jobs=int(sys.argv[3]), ledger=Ledger(sys.argv[2])).ran)"
    )
    folder, kept = returns_folder(book), []

    def start(jobs):
        words = [sys.executable, "-c", code, str(file), str(book.file), str(jobs)]
        return subprocess.Popen(words, cwd=root(), stdout=subprocess.PIPE, text=True)

    for jobs in (1, 2, 1):
        process, before = start(jobs), len(list(folder.glob("*.parquet")))
        deadline = time.monotonic() + 120
        while len(list(folder.glob("*.parquet"))) < before + step and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kept.append(len(list(folder.glob("*.parquet"))))
    assert 0 < kept[0] < kept[1] < kept[2] < members, kept
    out, _ = start(1).communicate()
    rows = book.rows()
    assert int(out) == members - kept[-1], "no member is carried out twice"
    for account in ("strategy", "excess"):
        mine = rows[rows["study"].str.endswith(f"/{account}")]
        assert len(mine) == mine["key"].nunique() == members
    assert len(kept_returns(folder, set(rows["key"]))) == len(list(folder.glob("*.parquet"))) == members
    assert book.verify() == 2 * members


def test_two_processes_give_what_one_gives_to_the_bit(one, ledger):
    alone, _ = one
    beside = search(SMALL, FEW, n_jobs=2, ledger=ledger)
    pd.testing.assert_frame_equal(beside.table, alone.table, check_exact=True)
    pd.testing.assert_frame_equal(beside.returns[alone.returns.columns], alone.returns, check_exact=True)
    assert beside.deflated == alone.deflated and beside.best_key == alone.best_key
    assert set(study_of(ledger)["key"]) == set(alone.table["key"])


@pytest.mark.slow
def test_fits_made_in_other_processes_are_the_same_fits(tmp_path, monkeypatch):
    used = ["rev_21", "std_20", "mom_126_21"]
    learned = SMALL.replace(model__kind="ridge", features__use=used, split__train_sessions=120, split__test_sessions=60)
    vary = {"label.horizon": [5, 20], "policy.top_k": [3, 6, 9]}
    found = []
    for jobs in (1, 2):
        monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / f"cache{jobs}"))
        found.append(search(learned, vary, n_jobs=jobs, ledger=Ledger(tmp_path / f"{jobs}.sqlite")))
    pd.testing.assert_frame_equal(found[0].table, found[1].table, check_exact=True)


@pytest.mark.slow
def test_a_cluster_gives_the_same_numbers(one, ledger):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = search(SMALL, FEW, scheduler=cluster.scheduler_address, ledger=ledger)
    pd.testing.assert_frame_equal(there.table, one[0].table, check_exact=True)
    pd.testing.assert_frame_equal(there.returns[one[0].returns.columns], one[0].returns, check_exact=True)


def test_a_member_is_the_run_of_its_recipe(one):
    found, book = one
    finished = run(found.best, record=False, ledger=book)
    assert finished.key == found.best_key
    pd.testing.assert_series_equal(finished.active, found.returns[found.best_key], check_names=False, check_exact=True)


def test_a_finished_search_runs_nothing_and_a_wider_one_only_what_is_new(one, monkeypatch):
    found, book = one
    assert search(SMALL, FEW, n_jobs=1, ledger=book).ran == 0
    wider = search(SMALL, FEW | {"policy.top_k": [3, 5, 8, 10]}, n_jobs=1, ledger=book)
    assert wider.ran == 2 and wider.deflated.n_trials == 8
    assert search(SMALL, FEW, n_jobs=1, ledger=book).deflated.n_trials == 8, "earlier tries of the study count"


def test_ctrl_c_keeps_what_is_finished(ledger):
    def stop(done, total, label):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(SMALL, WIDE | {"policy.buffer": [2]}, n_jobs=1, ledger=ledger, progress=stop)
    kept = len(study_of(ledger))
    assert 0 < kept < 50 and not module._WARM
    assert search(SMALL, WIDE | {"policy.buffer": [2]}, n_jobs=1, ledger=ledger).ran == 50 - kept


def test_a_series_whose_row_was_not_written_gets_one(one, tmp_path):
    found, book = one
    orphan = Ledger(tmp_path / "orphan.sqlite")
    again = search(SMALL, FEW, n_jobs=1, ledger=orphan, folder=returns_folder(book))
    assert again.ran == 0 and len(study_of(orphan)) == 6


def test_the_best_of_noise_is_no_discovery(ledger):
    vary = {"policy.top_k": list(range(2, 14)), "policy.rebalance": [5, 10, 20]}
    found = search(SMALL, vary, n_jobs=1, ledger=ledger)
    assert found.deflated.dsr < 0.9 and 1 < found.deflated.n_effective < 36 and found.null > 0


def test_a_planted_edge_among_noise_is_found(monkeypatch, ledger):
    days, made = pd.bdate_range("2012-01-02", periods=750), np.random.default_rng(5)

    def planted(members, data_hash):
        edge = [0.002 if one.policy.top_k == 7 else 0.0 for one in members]
        return [pd.DataFrame({"strategy": made.normal(e, 0.01, 750), "equal weight": 0.0}, index=days) for e in edge]

    monkeypatch.setattr(module, "carry_out_all", planted)
    vary = {"policy.top_k": list(range(2, 13)), "policy.rebalance": [5, 10]}
    none = {"policy.top_k": list(range(20, 31)), "policy.rebalance": [5, 10]}
    found = search(SMALL, vary, n_jobs=1, ledger=ledger)
    assert found.best.policy.top_k == 7 and found.deflated.dsr > 0.95 and found.overfit.pbo < 0.2
    lucky = search(SMALL.replace("study", "noise"), none, n_jobs=1, ledger=ledger)
    assert lucky.deflated.dsr < 0.95


def test_a_member_that_cannot_be_is_a_value(ledger):
    small = SMALL.replace("policy.top_k", 5)
    found = search(small, {"model.column": ["rev_21", "std_20"]}, n_jobs=1, ledger=ledger)
    assert found.table["failed"].str.contains("std_20").sum() == 1 and len(study_of(ledger)) == 1
    with pytest.raises(DataError, match="none of the 1 members"):
        search(SMALL, {"model.column": ["std_20"]}, n_jobs=1, ledger=ledger)


@pytest.mark.parametrize("method", ["staged", "optuna"])
def test_ways_that_choose_stay_in_the_space_and_are_repeatable(method, ledger):
    vary = {"policy.top_k": {"low": 2, "high": 12, "step": 1}, "policy.rebalance": [5, 10, 20]}
    found = search(SMALL, vary, method=method, trials=14, n_jobs=1, ledger=ledger)
    again = search(SMALL, vary, method=method, trials=14, n_jobs=2, ledger=ledger)
    assert again.ran == 0 and again.table.equals(found.table)
    assert len(found.table) <= 14 and found.table["policy.top_k"].between(2, 12).all()
    assert len(study_of(ledger)) == len(found.table)


def test_staged_climbs_every_smooth_hill():
    space = Space(vary={"a": tuple(range(40)), "b": tuple(range(40)), "c": ("x", "y")}, method="staged")
    for top in [(0, 0), (39, 17), (21, 38), (8, 8)]:
        seen = []

        def ask(asked, top=top, seen=seen):
            seen.extend(asked)
            return [-((s["a"] - top[0]) ** 2) - (s["b"] - top[1]) ** 2 - (s["c"] == "x") for s in asked]

        WAYS["staged"](space, ask)
        assert {"a": top[0], "b": top[1], "c": "y"} in seen and len(seen) < 150


@pytest.mark.parametrize(
    ("page", "line", "said"),
    [
        ("vary:\n  policy.top_k: [5]\nmetod: grid", 3, "did you mean method"),
        ("vary:\n  policy.top_k: [5]\n  policy.bufer: [5]", 3, "did you mean buffer"),
        ("vary:\n  policy.top_k:\n    - 5\n    - 0", 4, "greater than or equal to 1"),
        ("vary:\n  policy.top_k: {low: 9, high: 3, step: 1}", 2, "low is below high"),
        ("vary:\n  policy.top_k: [5]\nmethod: optna", 3, "did you mean optuna"),
        ("vary:\n  policy.top_k: [5]\ntrials: -1", 3, "greater than or equal to 0"),
        ("method: grid", None, "vary is missing"),
        ("vary:\n  study: [a, b]", 2, "changes nothing"),
        ("vary: [", 1, "not YAML"),
    ],
)
def test_a_slip_in_the_file_is_one_line_with_its_number(page, line, said, tmp_path):
    SMALL.save(tmp_path / "small.yaml")
    (tmp_path / "s.yaml").write_text(f"{page}\nrecipe: small.yaml\n" if page != "vary: [" else page)
    with pytest.raises(ConfigError) as caught:
        read_space(tmp_path / "s.yaml")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert line is None or f"s.yaml, line {line}" in str(caught.value), str(caught.value)


def test_values_that_repeat_are_one_member():
    assert space_of(SMALL, {"vary": {"policy.top_k": [5, 5, 6]}}).size == 2
    with pytest.raises(ConfigError, match="100 members"):
        WAYS["grid"](Space(vary={"a": tuple(range(10)), "b": tuple(range(10))}, trials=50), lambda asked: [])


@pytest.mark.parametrize("limits", [{}, {"limits__lot": 100.0}, {"limits__price_limit": 0.02}])
def test_equal_weight_of_a_member_obeys_the_rules_that_its_run_obeys(ledger, limits):
    recipe = SMALL.replace(capital=20_000.0, **limits)
    done = run(recipe, ledger=ledger, record=False)
    found = module.carry_out(recipe)
    for account in ("strategy", "equal weight"):
        pd.testing.assert_series_equal(found[account], done.returns[account], check_names=False)
