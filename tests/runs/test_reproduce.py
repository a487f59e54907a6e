"A stored run made again: what is found when a number, the page, the template or the ledger is not what it was."

import json
import random
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from quantlab.core.errors import ReportError
from quantlab.core.ledger import Ledger
from quantlab.report.run import ReportRun, read_run, run_report
from quantlab.report.template import read_parameters
from quantlab.runs.reproduce import (
    changed_inputs,
    find_run,
    is_edited,
    number_differences,
    page_differences,
    page_pieces,
    reproduce,
)

CELLS = [
    ("parameters", 'scale: float = 2.0  # of the answer\nledger_head: str = ""  # trials up to this row\n'),
    (
        "",
        """
import pandas as pd
from quantlab.core.config import path
from quantlab.core.ledger import Ledger
from quantlab.core.plot import figure
from quantlab.report.template import emit

counted = len(Ledger(path("research", "ledger")).trials("demo", until=ledger_head or None))
fig, ax = figure("A line", "", "", size=(3, 2))
_ = ax.plot([0, scale])
fig
""",
    ),
    ("", 'pd.DataFrame({"answer": [scale * 1.5, scale * 1.25], "share": ["12.5%", "7.1%"]}, index=["one", "two"])'),
    (
        "",
        """
trial = dict(key="k", study="demo", params={}, n_obs=99, periods_per_year=252, sharpe=0.1, skew=0.0, kurtosis=3.0)
emit({"answer": scale * 1.5, "trials": counted}, data_hash="d", headline=["answer"], trials=[trial])
""",
    ),
]


def written(folder: Path, cells=CELLS) -> Path:
    body = [nbformat.v4.new_code_cell(text.strip(), metadata={"tags": [tag] if tag else []}) for tag, text in cells]
    body.insert(0, nbformat.v4.new_markdown_cell("# A small page"))
    file = folder / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=body), file)
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        for key, name in {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite"}.items():
            patch.setenv(f"QUANTLAB_RESEARCH_{key}", str(folder / name))
        yield folder


@pytest.fixture(scope="module")
def stored(home) -> ReportRun:
    "A run that counted three trials of an earlier search."
    ledger = Ledger(home / "ledger.sqlite")
    for key in "abc":
        ledger.record("trial", key, "demo", {}, 99, 252, 0.1, 0.0, 3.0)
    ledger.record("trial", "x", "another", {}, 99, 252, 0.1, 0.0, 3.0)
    return run_report(written(home), {"scale": 3.0}, track=False)


@pytest.fixture
def copied(stored, tmp_path) -> Path:
    return Path(shutil.copytree(stored.folder, tmp_path / stored.folder.name))


def test_an_untouched_run_is_the_same_without_its_ledger(stored, home, tmp_path, monkeypatch):
    assert stored.metrics == {"answer": 4.5, "trials": 3}
    assert len(Ledger(stored.folder / "ledger.sqlite").rows()) == 4  # three trials, and the head's own row
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(tmp_path / "gone.sqlite"))
    found = reproduce(stored, template=home / "small.ipynb")
    assert found.same and found.why == "" and found.inputs == () and not found.edited
    import os

    assert os.environ["QUANTLAB_RESEARCH_LEDGER"] == str(tmp_path / "gone.sqlite")


def test_every_edit_of_twenty_is_found(stored):
    page, rng = stored.html.read_text(), random.Random(3)
    body = page.index("<body")
    shown = [m for m in re.finditer(r">[^<>]*\d[^<>]*<", page) if m.start() > body]
    for _ in range(20):
        spot = rng.choice(shown)
        digit = rng.choice([m.start() + spot.start() for m in re.finditer(r"\d", spot[0])])
        other = f"{page[:digit]}{(int(page[digit]) + rng.randint(1, 9)) % 10}{page[digit + 1 :]}"
        assert len(page_differences(page, other)) == 1


def test_a_picture_and_a_word_are_seen_and_a_style_is_not(stored):
    page = stored.html.read_text()
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    assert len(page_differences(page, page.replace(picture, picture[:-8] + "AAAAAAA="))) == 1
    assert len(page_differences(page, page.replace("A small page", "A small pace", 1))) == 1
    assert page_differences(page, page.replace("<style>", "<style>p {color: red}", 1)).empty
    assert page_pieces("<p>a&lt;b</p><script>1</script><!-- 2 -->") == ["a<b"]


def test_an_edit_of_page_or_numbers_is_told_from_a_template_that_does_not_repeat(copied, home):
    spec = read_parameters(home / "small.ipynb")
    assert not is_edited(read_run(copied), spec)
    (copied / "metrics.json").write_text(json.dumps({"answer": 4.6, "trials": 3}))
    found = reproduce(copied, template=home / "small.ipynb")
    assert found.numbers.to_dict("index") == {"answer": {"stored": 4.6, "again": 4.5}}
    assert found.edited and "edited after the run" in found.why and not found.same
    restless = home / "restless" / "small.ipynb"
    restless.parent.mkdir()
    answer = CELLS[3][1].replace("scale * 1.5", "__import__('time').time()")
    run = run_report(written(restless.parent, [*CELLS[:3], ("", answer)]), track=False)
    found = reproduce(run, template=restless)
    assert not found.same and not found.edited and "not repeatable" in found.why


def test_what_went_in_is_named(stored, home, tmp_path):
    changed = written(tmp_path, [*CELLS[:2], ("", CELLS[2][1].replace("1.25", "1.26")), CELLS[3]])
    found = reproduce(stored, template=changed)
    assert found.numbers.empty and len(found.page) == 1 and found.why.startswith("template: ")
    before = stored.manifest
    code = before["code"] | {"sources": "0" * 64}
    now = before | {"data_hash": "other", "code": code, "libraries": before["libraries"] | {"numpy": "0.1"}}
    kinds = [text.partition(":")[0] for text in changed_inputs(before, now)]
    assert kinds == ["data", "code", "library"] and changed_inputs(before, before) == []


@pytest.mark.parametrize(
    ("stored", "again", "names"),
    [
        ({}, {}, []),
        ({"a": None}, {"a": None}, []),
        ({"a": None}, {"a": 1.0}, ["a"]),
        ({"a": 1.0}, {"b": 1.0}, ["a", "b"]),
        ({"a": 0.0}, {"a": 0.0}, []),
        ({"a": 0.0}, {"a": 1e-30}, ["a"]),
        ({"a": 1.0}, {"a": 1 + 1e-10}, []),
        ({"a": 1.0}, {"a": 1 + 1e-8}, ["a"]),
        ({"a": 1}, {"a": -1}, ["a"]),
    ],
)
def test_numbers_are_compared_by_a_share(stored, again, names):
    assert number_differences(stored, again).index.tolist() == names


def test_what_cannot_be_run_again_is_refused(stored, copied, home, tmp_path):
    with pytest.raises(ReportError, match="no run 'smal-1'; "):
        find_run("smal-1")
    assert find_run(stored.folder.name).folder == find_run(stored.folder.name[:-3]).folder == stored.folder
    lost = written(tmp_path, [("parameters", 'ledger_head: str = ""'), *CELLS[1:]])
    with pytest.raises(ReportError, match="no parameter scale any more"):
        reproduce(copied, template=lost)
    with pytest.raises(ReportError, match="no template 'small'"):
        reproduce(copied)
    page = (copied / "report.html").read_text()
    (copied / "report.html").unlink()
    with pytest.raises(ReportError, match=r"has no report.html; there is nothing to compare with"):
        reproduce(copied, template=home / "small.ipynb")
    (copied / "report.html").write_text(page)
    silent = tmp_path / "silent"
    silent.mkdir()
    with pytest.raises(ReportError, match="emitted 0 sets"):
        reproduce(copied, template=written(silent, CELLS[:3]))
    (copied / "manifest.json").write_text("{}")
    with pytest.raises(ReportError, match="is broken"):
        reproduce(copied, template=home / "small.ipynb")
