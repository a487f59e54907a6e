"The doctor of a run: planted faults are each named, heaviest first, and a clean run has none of them."

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from quantlab.core.ledger import Ledger
from quantlab.ops.papers import open_out_of_sample
from quantlab.recipe.market import market_bars
from quantlab.recipe.spec import Recipe, as_dict
from quantlab.report.run import ReportRun, read_run, run_report
from quantlab.runs.doctor import examine_run

DAYS = pd.bdate_range("2015-01-02", periods=1000)


def kept(folder: Path, fault: str = "") -> ReportRun:
    "Write the files of a run, with one fault or none."
    returns = pd.Series(np.random.default_rng(7).normal(0.0006, 0.01, 1000), DAYS, name="strategy")
    returns = returns.iloc[:300] if fault == "sessions" else returns
    if fault == "only three days":
        returns = returns * 0.0
        returns.iloc[[3, 40, 99]] = 0.1
    if fault == "returns are infinite":
        returns.iloc[7] = np.inf
    returns.to_frame().to_parquet(folder / "returns.parquet")
    first = DAYS[:100]
    trades = pd.DataFrame(
        {"decided": first, "date": first + pd.offsets.BDay(1), "symbol": ["KO", "PG", "GE", "XOM"] * 25}
    ).assign(quantity=10.0, price=50.0, commission=1.0, slippage=1.0)
    if fault == "close of their decision":
        trades["date"] = trades["decided"]
    if fault == "costs are zero":
        trades[["commission", "slippage"]] = 0.0
    if fault == "of all that was traded":
        trades.loc[20:, "symbol"] = "KO"
    trades.to_parquet(folder / "trades.parquet")
    metrics = {"strategy.sharpe": 1.2, "dsr": 0.97, "trials": 4, "equity.last": 1_002_000.0}
    metrics |= {"dsr": 0.1} if fault == "best of 4 tries" else {}
    metrics |= {"equity.last": 1_000_010.0} if fault == "gross profit" else {}
    return ReportRun(folder, metrics, {"template": "no such", "recipe": {"spec": {"capital": 1_000_000.0}}})


FAULTS = (
    "sessions", "only three days", "close of their decision", "costs are zero", "of all that was traded",
    "best of 4 tries", "gross profit", "returns are infinite",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(tmp_path, fault):
    found = [one for one in examine_run(kept(tmp_path, fault)) if one.weight > 0.3]
    assert len(found) == 1 and fault.removeprefix("only ") in found[0].what and found[0].remedy


def test_what_happened_after_the_run_is_named(tmp_path, monkeypatch):
    "Its data revised, or gone; its sealed period opened again."
    recipe = Recipe().replace(data__universe="KO, PG", data__start="2018-01-02", data__end="2018-12-31", study="late")
    spec, ledger = as_dict(recipe, all_of_it=True), Ledger(tmp_path / "ledger.sqlite")
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(ledger.file))

    def said(**changed):
        manifest = {"template": "no such", "data_hash": market_bars(recipe).hash, "recipe": {"spec": spec}} | changed
        manifest["inputs"] = {"trials": {"late/committed sample/excess": "0"}}
        return [one.what for one in examine_run(ReportRun(tmp_path, {}, manifest)) if one.weight > 0.3]

    assert said() == []
    assert "no longer those that it read: committed sample reaches 2018-12-31 now" in said(data_hash="0")[0]
    gone = said(recipe={"spec": spec | {"data": spec["data"] | {"source": "lake:gone"}}})
    assert "its data cannot be read any more" in gone[0]
    assert said(recipe={"spec": spec | {"more": 1}})[0].startswith("its data cannot be read any more")
    for study in ("late/committed sample/excess", "later/committed sample/excess"):
        open_out_of_sample(study, "one", ledger)
    assert said() == []
    open_out_of_sample("late/committed sample/excess", "two", ledger)
    assert said() == ["the sealed period of study late was opened 2 times"]


def test_a_clean_run_has_none_of_them_and_says_what_cannot_be_told(tmp_path):
    [only] = examine_run(kept(tmp_path))
    assert only.weight == 0.3 and "cannot be told" in only.what


@pytest.mark.parametrize(("returns", "told"), [([], "only 0 sessions"), ([np.nan] * 9, "only 0"), ([0.1], "only 1 s")])
def test_what_is_too_little_is_said_and_nothing_else(tmp_path, returns, told):
    pd.DataFrame({"strategy": np.array(returns, float)}, DAYS[: len(returns)]).to_parquet(tmp_path / "returns.parquet")
    found = [one.what for one in examine_run(ReportRun(tmp_path, {}, {"template": "no such"})) if one.weight > 0.3]
    assert len(found) == 1 and found[0].startswith(told)


def test_an_edited_number_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("QUANTLAB_RESEARCH_TEMPLATES", str(tmp_path))
    code = "from quantlab.report.template import emit\nemit({'answer': 2.0 * size}, data_hash='d')"
    cells = [nbformat.v4.new_code_cell("size: int = 1  # of it", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)]), tmp_path / "tiny.ipynb")
    run = run_report("tiny", output=tmp_path / "runs", track=False)
    assert examine_run(run) == []
    (run.folder / "metrics.json").write_text(json.dumps({"answer": 3.0}))
    [found] = examine_run(read_run(run.folder))
    assert found.weight == 1.0 and "not those of its notebook" in found.what
