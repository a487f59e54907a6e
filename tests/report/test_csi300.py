"The pages on the CSI 300, as published and chosen: they run where the data are, and say so in one line where not."

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import QuantlabError
from quantlab.report.run import run_report
from quantlab.report.template import read_cells

TEMPLATE = root() / "reports" / "csi300_published.ipynb"
CHOSEN = root() / "reports" / "csi300.ipynb"
STORED = [root() / "bench" / "results" / f"csi300{part}.json" for part in ("", "_trials", "_models")]
SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))


@pytest.mark.parametrize("template", [TEMPLATE, CHOSEN], ids=["published", "chosen"])
def test_one_clear_line_without_the_data(workspace, monkeypatch, template):
    monkeypatch.setenv("QUANTLAB_SHARED", str(workspace / "nowhere"))
    with pytest.raises(QuantlabError) as refused:
        run_report(template, {})
    message = str(refused.value)
    assert (
        "qlib_cn_csi300" in message
        and "QUANTLAB_SHARED" in message
        and "\n" not in message
        and str(workspace) not in message
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"top_kk": 20}, "did you mean 'top_k'"),
        ({"recipe": "momentum"}, "reads sample"),
        ({"overrides": "model.num_leafs=63"}, "did you mean num_leaves"),
        ({"seed": 9}, "parameter seed is 9"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_the_page_refuses(workspace, wrong, says):
    with pytest.raises(QuantlabError, match=says):
        run_report(TEMPLATE, wrong)


def test_the_page_trains_and_trades_nothing_itself():
    code = "\n".join(line for cell in read_cells(TEMPLATE) for line in cell["source"].splitlines())
    assert "run(spec" in code
    for word in (".fit(", "train(", "train_published", "predict(", "from_rule(", "study.account", "Data.read"):
        assert word not in code, word


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"recipe": "momentum"}, "reads sample"), ({"sed": 3}, "did you mean 'seed'"), ({"threads": 0}, "threads")],
)
def test_what_the_page_of_the_choice_refuses(workspace, wrong, says):
    with pytest.raises(QuantlabError, match=says):
        run_report(CHOSEN, wrong)


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "data" / "qlib_cn_csi300").exists(), reason="needs ../shared/data/qlib_cn_csi300 (or QUANTLAB_SHARED)"
)
def test_the_page_of_the_choice(workspace):
    "One seed in place of ten, which is what the table holds for seed 0."
    metrics = run_report(CHOSEN, {"overrides": "model.seeds=1"}).metrics
    stored = json.loads((root() / "bench" / "results" / "csi300_rolling.json").read_text())["opened"]["0"]
    assert abs(metrics["now.ic"] - stored["ic"]) < 1e-9
    assert abs(metrics["now.information_ratio"] - stored["information_ratio"]) < 1e-9
    assert metrics["trials"] >= 25 and 0 <= metrics["dsr"] <= 1


@pytest.mark.slow
@pytest.mark.skipif(
    not all(file.exists() for file in STORED),
    reason="needs the stored results of bench/csi300_search.py and make bench ONLY=csi300",
)
@pytest.mark.skipif(
    not (SHARED / "data" / "qlib_cn_csi300").exists(), reason="needs ../shared/data/qlib_cn_csi300 (or QUANTLAB_SHARED)"
)
def test_the_page(workspace):
    run = run_report(TEMPLATE, {})
    metrics = run.metrics
    assert abs(metrics["reproduction.ic_difference"]) <= 0.004 and metrics["account.difference"] < 1e-9
    assert abs(metrics["purged.ic_difference"]) <= 0.002  # from the stored fits whose borders are purged too
    assert 0.04 < metrics["now.ic"] < 0.05 and metrics["rows"] > 890_000 and metrics["trials"] >= 20


def test_the_study_reads_no_raw_codes(monkeypatch):
    "Label, membership and the growing universe on rows whose levels are out of order are those of the tidy rows."
    monkeypatch.syspath_prepend(str(root() / "bench"))
    import csi300_study as study
    import qlib_files as files

    dates, names = pd.date_range("2024-01-01", periods=9, unit="us"), ["A", "B", "C"]
    tidy = pd.MultiIndex.from_product([dates, names], names=["date", "symbol"])
    close = pd.Series(np.arange(27) ** 1.5 + 10.0, tidy)
    untidy = pd.MultiIndex(
        levels=[dates[::-1].append(pd.DatetimeIndex(["1999-01-01"])), pd.Index(["nobody", "C", "A", "B"], dtype="str")],
        codes=[np.repeat(np.arange(8, -1, -1), 3), np.tile([2, 3, 1], 9)], names=["date", "symbol"],
    )  # fmt: skip
    assert list(untidy) == list(tidy)
    bars, other = close.to_frame("close"), close.set_axis(untidy).to_frame("close")
    told = study.label(bars)
    assert np.array_equal(told, study.label(other), equal_nan=True)
    assert told[(dates[0], "B")] == pytest.approx(close[(dates[2], "B")] / close[(dates[1], "B")] - 1)
    spells = pd.DataFrame({"symbol": ["B", "C"], "start": dates[[2, 0]], "end": dates[[5, 1]]})
    monkeypatch.setattr(files, "spans", lambda *_: spells)
    inside = files.members(bars, "few", "2024-01-01")
    assert np.array_equal(inside, files.members(other, "few", "2024-01-01")) and inside.sum() == 4 + 2
    assert [untidy[i] for i in np.flatnonzero(inside)][:2] == [(dates[0], "C"), (dates[1], "C")]
    monkeypatch.setattr(files, "read_bars", lambda *_, **__: other)
    data = study.Data.read("ever")
    assert {s for _, s in data.index} == {"B", "C"} and len(data.index) == 7 + 9
