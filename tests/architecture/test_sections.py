"""The documentation where the hand is: every public name shows numpydoc's sections, written from its notebook."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import house  # noqa: E402
import notebook_code  # noqa: E402
import notebook_examples  # noqa: E402
import run_examples  # noqa: E402
import sections  # noqa: E402

REMEDY = "write the comment behind the parameter, or a cell that uses the name, in the notebook; then run `make export`"


def test_the_package_was_not_written_by_a_plain_nbdev_export():
    code = house.exported("backtest.stats")
    assert '__name__ == "_modidx"' in (ROOT / "quantlab" / "_modidx.py").read_text(), (
        "run `make export`, not nbdev_export"
    )
    assert sections.HEADER.search(code), "the docstrings lack their sections: run `make export`, not nbdev_export"


def test_every_public_name_has_its_sections_and_one_meaning():
    found, known = house.gaps(), json.loads(house.GAPS.read_text())
    for kind, remedy in (("sections", REMEDY), ("two_meanings", "give one of them another name")):
        new = {name: what for name, what in found[kind].items() if name not in known[kind] or what != known[kind][name]}
        assert not new, f"{kind}: {new}; {remedy}"
        assert not known[kind].keys() - found[kind].keys(), "mended: run `python scripts/house.py --gaps` and commit"


def test_nbdev_update_is_refused(tmp_path):
    "It would carry the written sections back into the notebooks."
    for part in ("settings.ini", "pyproject.toml"):
        shutil.copy(ROOT / part, tmp_path / part)
    for part in ("nbs/core/000_errors.ipynb", "quantlab/core/errors.py", "quantlab/_modidx.py", "quantlab/__init__.py"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    before = (tmp_path / "nbs/core/000_errors.ipynb").read_bytes()
    update = Path(sys.executable).with_name("nbdev_update")
    environment = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    for words in ([], ["--fname", "quantlab/core/errors.py"]):
        done = subprocess.run([update, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode != 0 and "nbdev_update is refused" in done.stderr and "make export" in done.stderr
    assert (tmp_path / "nbs/core/000_errors.ipynb").read_bytes() == before


PROSE = "The mean over its error (Lo 2002; Mertens 2002; the rally of March 2020)."
CODE = """#| export
LIMIT = 3


def _check(
    n: int,  # rows
) -> None:
    if n < LIMIT:
        raise ValueError(f"{n} rows are too few; give {LIMIT} or more")


def ratio(
    x: list,  # decimal returns, [dates]
    rows: int = 1_000,  # at least, or fewer
    *,
    seed: int = 7,
) -> float:  # per period
    "Divide the mean by the spread; raise TypeError for no list."
    _check(len(x))
    return sum(x)


class Account:
    "Hold what is left."
    def __init__(
        self,
        cash: float = 1.0,  # money at the start
    ) -> None:
        self.cash = cash

    def spend(
        self,
        amount: float,  # money
    ) -> "Account":
        "Pay an amount."
        return self
"""
CELLS = [
    ("markdown", "# Ratio\n\nRead Lo (2002), *The Statistics of Sharpe Ratios*, first.", []),
    ("code", "#| export\nimport math", []),
    ("markdown", PROSE, []),
    ("code", CODE, []),
    ("code", "returns = [0.1, 0.2]\nunused = 3", []),
    ("code", "more = returns * 2\nvalue = ratio(more)\nvalue", "0.6"),
    ("code", "Account(2.0).spend(1.0).cash", "2.0"),
]


@pytest.fixture
def small(tmp_path):
    "One module, read from a notebook file."
    shown = lambda out: [{"output_type": "execute_result", "data": {"text/plain": [out]}}] if out else []
    cells = [{"cell_type": kind, "source": [text], "outputs": shown(out)} for kind, text, out in CELLS]
    file = tmp_path / "100_small.ipynb"
    file.write_text(json.dumps({"cells": cells}))
    return notebook_code.Module("room.small", file, notebook_code.read_cells(file))


def test_the_sections_of_a_function_say_what_its_notebook_says(small):
    text = sections.sections(small, "ratio", {"room.small": small})["ratio"]
    assert (
        text
        == """
Parameters
----------
x : list
    Decimal returns, [dates].
rows : int, default 1_000
    At least, or fewer.
seed : int, default 7
    Of the generator that draws; the same seed gives the same numbers.

Returns
-------
float
    Per period.

Raises
------
TypeError
    For no list.
ValueError
    "{n} rows are too few; give {LIMIT} or more"

References
----------
.. [1] Lo (2002), *The Statistics of Sharpe Ratios*.
.. [2] Mertens (2002).

Examples
--------
>>> from quantlab.room.small import ratio
>>> returns = [0.1, 0.2]
>>> more = returns * 2
>>> value = ratio(more)
>>> value
0.6"""
    )


def test_a_class_and_its_methods(small):
    found = sections.sections(small, "Account", {})
    assert "cash : float, default 1.0\n    Money at the start." in found["Account"]
    assert (
        "amount : float\n    Money." in found["Account.spend"]
        and "Account\n    The same object." in found["Account.spend"]
    )
    assert found["Account"].endswith(
        ">>> from quantlab.room.small import Account\n>>> Account(2.0).spend(1.0).cash\n2.0"
    )


def test_a_message_stands_for_what_no_docstring_says(small):
    small.functions["ratio"].body[0].value.value = "Divide the mean by the spread."
    text = sections.sections(small, "ratio", {"room.small": small})["ratio"]
    assert "Raises\n------\n" in text and '"{n} rows are too few; give {LIMIT} or more"' in text


def test_writing_twice_changes_nothing_and_the_code_stays(small):
    code = small.code
    texts = {key: text for name in small.public for key, text in sections.sections(small, name, {}).items()}
    once = sections.write(code, texts)
    assert sections.write(once, texts) == once and sections.incomplete(small, once) == {}
    assert sections.incomplete(small, code)["ratio"] == ["x", "rows", "seed", "Returns", "Examples"]
    assert sections.write(once, dict.fromkeys(texts, "")) == once, "a name without sections is left alone"
    space: dict = {}
    exec(once, space)
    assert space["ratio"]([1, 2, 3]) == 6 and space["ratio"].__doc__.startswith("Divide the mean by the spread; raise")


def test_what_is_left_out_of_an_example_takes_its_output_along():
    "A list to which an omitted loop has added is not shown with its items."
    source = ["#| export\ndef f(x):\n    return x", "seen = []\n" + "\n".join(f"step_{k} = {k}" for k in range(3))]
    loop = "for k in range(3):\n" + "\n".join(f"    seen.append(f(k + {j}))" for j in range(40))
    cells = [notebook_code.Cell(s, True) for s in [*source, loop]]
    output = [{"output_type": "execute_result", "data": {"text/plain": "[0]"}}]
    cells.append(notebook_code.Cell("f(seen)", True, output))
    found = notebook_examples.build(notebook_code.Module("room.x", Path(), cells), cells, 3, 0, {"f"}, 0)
    assert found.output == [] and found.lines[-1] == ["f(seen)"]


@pytest.mark.parametrize(
    "text, found",
    [
        (
            "as in Jegadeesh and Titman (1993, *Journal of Finance* 48)",
            ["Jegadeesh and Titman (1993, *Journal of Finance* 48)"],
        ),
        (
            "(Politis and Romano 1994; Politis and White 2004, Patton, Politis and White 2009)",
            ["Politis and Romano (1994)", "Politis and White (2004)"],
        ),
        ("López de Prado (2018), van der Meer (1991)", ["López de Prado (2018)", "van der Meer (1991)"]),
        ("In March (2020) and since July (2018) nothing", []),
    ],
)
def test_citations_are_told_from_dates(text, found):
    assert list(sections.citations(text).values())[: len(found) or None] == found


def test_the_count_of_lines_in_a_row():
    cell = lambda source, out=(): notebook_code.Cell(source, True, list(out))
    imports, two, one = cell("#| export\nimport os"), cell("#| export\nx = 1\n\ny = 2"), cell("#| export\nz = 3")
    hidden, shows, call = cell("#| hide\nimport math"), cell("x"), cell("#| hide\nimport nbdev; nbdev.nbdev_export()")
    assert house.lines_in_a_row([imports, two, hidden, one, shows, one, cell("w = 1"), two, call]) == [3, 3]
    assert house.lines_in_a_row([two, cell("assert x"), one]) == [2, 1] and house.lines_in_a_row([shows]) == [0]
    assert house.lines_in_a_row([one, cell("f()\n'text'")]) == [1], "a constant displays nothing that was made"


def test_a_command_of_the_shell_keeps_its_help_short():
    from quantlab.commands import cli

    assert not sections.HEADER.search(cli.audit.__doc__ or "")


def test_an_example_that_is_wrong_is_told():
    "What it shows is compared with what is stored; the first error ends it."
    assert run_examples.run(">>> x = 1\n>>> x + 1\n2") == ""
    assert run_examples.run(">>> 1 + 1\n3") == "shows 2"
    assert run_examples.run(">>> y\n3").startswith("NameError") and run_examples.run(">>> 1 / 0") != ""


@pytest.mark.slow
def test_the_examples_run_and_give_what_they_show():
    "Each as a stranger pastes it, in the repository's root: two minutes for 700 of them."
    done = subprocess.run([sys.executable, "scripts/run_examples.py"], cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0 and int(last.split()[0]) > 600, done.stdout + done.stderr[-1000:]
