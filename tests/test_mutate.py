"""The mutation runner itself, a small part of its work, and what the stored run must show."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import mutate  # noqa: E402


def test_hints_are_no_code():
    hints = mutate.annotations("def f(x: int | None = 1 + 1) -> float | None:\n    y: str | int = 3\n    return y\n")
    assert sorted(hints) == [((1, 9), (1, 19)), ((1, 32), (1, 44)), ((2, 7), (2, 16))]


def test_a_change_is_known_by_its_lines_not_by_its_place():
    one, other = (
        "--- a\n+++ b\n@@ -1 +1 @@\n-x = a + b\n+x = a - b",
        "--- c\n+++ d\n@@ -9 +9 @@\n-x = a + b\n+x = a - b",
    )
    assert mutate.key(one) == mutate.key(other) != mutate.key(one.replace("a - b", "a * b"))


def test_every_reason_is_a_sentence():
    reasons = tomllib.loads(mutate.REASONS.read_text(encoding="utf-8"))
    assert all(
        set(r) == {"module", "change", "why"} and len(r["why"].split()) >= 4 and r["module"] in mutate.TESTS
        for r in reasons.values()
    )


def test_every_named_test_file_is_there():
    assert all((ROOT / name).is_file() for names in mutate.TESTS.values() for name in names.split())
    assert all((ROOT / "quantlab" / (module.replace(".", "/") + ".py")).is_file() for module in mutate.TESTS)


STORED = json.loads(mutate.RESULTS.read_text())


def test_every_module_has_a_stored_run_that_says_of_which_text():
    assert set(STORED) == set(mutate.TESTS) and all(len(result["source"]) == 12 for result in STORED.values())


@pytest.mark.parametrize("module", STORED)
def test_a_stored_run_kills_nine_of_ten(module):
    result = STORED[module]
    assert module in mutate.TESTS and (result["mutants"] >= 60 or module == "regime.gate") and result["score"] >= 0.9


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mutate
tree, home = Path(sys.argv[2]), Path(sys.argv[3])
mutate.ROOT, mutate.HOME, mutate.REASONS = tree, home, home / "none.toml"
mutate.TESTS = {"toy.sums": "tests/test_sums.py"}
mutate.committed = lambda: ["quantlab/__init__.py", "quantlab/toy/sums.py", "tests/test_sums.py"]
print(json.dumps(mutate.run("toy.sums", 60, 0)))
"""


def test_a_planted_mutant_dies_and_an_untested_one_lives(tmp_path):
    """The whole way on a module of two functions, one of which its test does not look at; a run changes its process,
    so it has one of its own."""
    tree = tmp_path / "tree"
    (tree / "quantlab" / "toy").mkdir(parents=True)
    (tree / "tests").mkdir()
    (tree / "quantlab" / "__init__.py").touch()
    (tree / "quantlab" / "toy" / "sums.py").write_text(
        "def add(a, b):\n    return a + b\n\n\ndef lost(a, b):\n    return a - b\n"
    )
    (tree / "tests" / "test_sums.py").write_text(
        "from quantlab.toy.sums import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
    )
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "scripts"), str(tree), str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["mutants"], result["killed"], result["score"]) == (2, 1, 0.5)
    assert "a + b" in next(iter(result["survivors"].values()))
