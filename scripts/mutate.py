"""Change one operator, number or condition of a module at a time and see whether its tests notice.

Usage: python scripts/mutate.py [--sample 60] [--seed 0] [--jobs 2] [--list] [room.module ...]

Each module is mutated in a copy of the committed tree (a kernel is compiled anew, because numba looks at its file's
time), with the tests named in TESTS; the notebooks' own assertions do not count. cosmic-ray makes the mutants and
keeps their fate in `.cache/mutate/<module>/session.sqlite`: a run that was stopped goes on where it was, until the
module changes. When only its tests have changed, the survivors are tried again; remove the folder after a test went.
Each mutant is tried in a fork of a process that has the libraries loaded: half the time. The result is stored in
bench/results/mutation.json. A survivor that cannot be killed, because it computes the same, has its reason in
tests/equivalent_mutants.toml, under the hash of its change.
"""

import argparse
import ast
import difflib
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".cache" / "mutate"
RESULTS = ROOT / "bench" / "results" / "mutation.json"
REASONS = ROOT / "tests" / "equivalent_mutants.toml"
TESTS = {  # module: the test files that speak of it
    "backtest.stats": "tests/backtest/test_stats.py",
    "validation.splits": "tests/validation/test_splits.py",
    "labels.barrier": "tests/labels/test_barrier.py",
    "labels.forward": "tests/labels/test_forward.py",
    "backtest.engine": "tests/backtest/test_engine.py tests/backtest/test_costs.py",
    "broker.session": "tests/backtest/test_slow_broker.py tests/backtest/test_events.py "
    "tests/backtest/test_strategy.py",
    "validation.deflate": "tests/validation/test_deflate.py",
    "validation.inference": "tests/validation/test_inference.py",
    "regime.hmm": "tests/regime/test_hmm_known_values.py tests/regime/test_hmm.py",
    "regime.gate": "tests/regime/test_gate.py",
    "portfolio.weights": "tests/portfolio/test_weights.py",
    "labels.weights": "tests/labels/test_label_weights.py",
    "data.store": "tests/data/test_files.py tests/data/test_store.py tests/data/test_read_and_universe.py",
    "core.ledger": "tests/core/test_ledger.py",
}
# Tests that start processes, or only show that something large works, take half a minute a mutant.
QUICK = "not killed and not two_writers and not may_not_be_written and not real_limit and not fast_on_the_size"
# Operators whose mutants run: `a >> b` for `a + b` of floats, or a removed @njit, says nothing of a test.
OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|"
    r"FloorDiv_Mul|Mod_Mul|Pow_Mul|BitAnd_BitOr|BitOr_BitAnd)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|"
    r"Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_(Delete_\w+|USub_UAdd)|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr"
    r"|ReplaceOrWithAnd|ReplaceBreakWithContinue|ReplaceContinueWithBreak|NumberReplacer|ZeroIterationForLoop)"
)
PROFILE = """
from hypothesis import Phase, settings
settings.register_profile(
    "mutate", phases=(Phase.explicit, Phase.generate), derandomize=True, deadline=None, database=None
)
settings.load_profile("mutate")


def pytest_collection_modifyitems(items):
    "Tests by hand first: most mutants die there, before the many examples of the others."
    items.sort(key=lambda item: hasattr(getattr(item, "obj", None), "hypothesis"))
"""


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    "Return the places (start, end) of type hints: `int | None` is no computation."
    hints = []
    for node in ast.walk(ast.parse(source)):
        hints += [getattr(node, name, None) for name in ("annotation", "returns")]
    return [((h.lineno, h.col_offset), (h.end_lineno, h.end_col_offset)) for h in hints if isinstance(h, ast.AST)]


def changed(diff: str) -> list[str]:
    "Return the removed and the added lines of a change."
    return [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def key(diff: str) -> str:
    "Return the hash of a change, wherever it stands."
    return hashlib.sha256("\n".join(changed(diff)).encode()).hexdigest()[:12]


def committed() -> list[str]:
    "Return the names of the files that git tracks."
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def copy_tree(folder: Path) -> Path:
    "Copy the committed sources, without what a test of one module does not need."
    tree = folder / "work" / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in committed():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    (tree / "conftest.py").write_text(PROFILE)
    shared = tree.parent / "shared"
    if not shared.exists() and (ROOT.parent / "shared").exists():
        shared.symlink_to(ROOT.parent / "shared")
    return tree


def enter(folder: Path, tree: Path) -> None:
    "Make the copy what this process imports, with caches of its own, and load what every test loads."
    own = {
        "NUMBA_CACHE_DIR": folder / "numba",
        "XDG_CACHE_HOME": folder / "xdg",
        "QUANTLAB_RESEARCH_LEDGER": folder / "ledger.sqlite",
    }
    os.environ |= {name: str(value) for name, value in own.items()} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    os.chdir(tree)
    for name in (
        "pytest",
        "pandas",
        "numba",
        "scipy.stats",
        "scipy.optimize",
        "sklearn",
        "hypothesis",
        "pyarrow.parquet",
        "arch.bootstrap",
    ):
        importlib.import_module(name)


def tests_pass(arguments: list[str], timeout: float | None = None) -> tuple[bool, str]:
    "Run pytest in a fork of this process; too slow is a failure too. Return what it printed as well."
    with tempfile.TemporaryFile("w+") as out:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            os._exit(
                int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "-k", QUICK, *arguments]))
            )
        deadline = time.monotonic() + (timeout or 3600)
        while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02)
        out.seek(0)
        return done[1] == 0, out.read()


def digest(names: list[str], more: str = "") -> str:
    "Return the hash of files of the committed tree."
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names) + more.encode()).hexdigest()


def source_of(module: str) -> str:
    "Return the short hash of a module as it stands: a stored score speaks of the one that it was measured on."
    return digest([f"quantlab/{module.replace('.', '/')}.py"])[:12]


def prepare(module: str, sample: int, seed: int) -> tuple[Path, Path, Path, float]:
    "Copy the tree, check that the tests pass, and draw the sample unless the same one is there already."
    folder, file = HOME / module, Path("quantlab", *module.split(".")).with_suffix(".py")
    identity = digest([str(file)], f"{sample} {seed} {OPERATORS.pattern}")
    stamp = folder / "identity"
    fresh = not stamp.is_file() or stamp.read_text() != identity
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    tree = copy_tree(folder)
    enter(folder, tree)
    passed, printed = tests_pass(TESTS[module].split())  # compiles the kernels of the other modules
    started = time.monotonic()
    passed = passed and tests_pass(TESTS[module].split())[0]
    if not passed:
        raise SystemExit(f"{module}: its tests fail without any mutant:\n{printed[-2000:]}")
    if fresh:
        draw(folder / "session.sqlite", tree / file, sample, seed)
        stamp.write_text(identity)
    return folder, tree, file, 20 + 4 * (time.monotonic() - started)


def draw(session: Path, file: Path, sample: int, seed: int) -> None:
    "Make all mutants and keep a seeded sample of those that stand in code."
    hints = annotations(file.read_text(encoding="utf-8"))
    with use_db(session, WorkDB.Mode.create) as db:
        init([file], db, {})
        items = [item for item in db.work_items if OPERATORS.fullmatch(item.mutations[0].operator_name)]
        items = [
            i for i in items if not any(a <= i.mutations[0].start_pos and i.mutations[0].end_pos <= b for a, b in hints)
        ]
        items.sort(key=lambda i: (i.mutations[0].start_pos, i.mutations[0].operator_name, i.mutations[0].occurrence))
        db.clear()
        db.add_work_items(random.Random(seed).sample(items, min(sample, len(items))))


def judge(file: Path, mutation: MutationSpec, tests: list[str], timeout: float) -> WorkResult:
    "Write one mutant over the module, run the tests, and put the module back."
    source = file.read_text(encoding="utf-8")
    mutant = MutationVisitor.mutate_code(
        source, get_operator(mutation.operator_name)(**mutation.operator_args), mutation.occurrence
    )
    diff = "\n".join(difflib.unified_diff(source.splitlines(), mutant.splitlines(), lineterm=""))
    file.write_text(mutant, encoding="utf-8")
    try:
        alive, _ = tests_pass(tests, timeout)
    finally:
        file.write_text(source, encoding="utf-8")
    return WorkResult(WorkerOutcome.NORMAL, None, TestOutcome.SURVIVED if alive else TestOutcome.KILLED, diff)


def run(module: str, sample: int, seed: int) -> dict:
    "Run what is left of a module's sample and return its score."
    folder, tree, file, timeout = prepare(module, sample, seed)
    tests, judges = digest(TESTS[module].split()), folder / "tests"
    with use_db(folder / "session.sqlite", WorkDB.Mode.open) as db:
        again = not judges.is_file() or judges.read_text() != tests
        survivors = [item for item, result in db.completed_work_items if again and not result.is_killed]
        for item in [*db.pending_work_items, *survivors]:
            db.set_result(item.job_id, judge(tree / file, item.mutations[0], TESTS[module].split(), timeout))
        fates = [(result.is_killed, result.diff) for _, result in db.completed_work_items]
    judges.write_text(tests)
    shutil.rmtree(folder / "work")
    known = tomllib.loads(REASONS.read_text(encoding="utf-8")) if REASONS.is_file() else {}
    alive = [diff for killed, diff in fates if not killed]
    excused = [diff for diff in alive if key(diff) in known]
    killed, counted = len(fates) - len(alive), len(fates) - len(excused)
    return {
        "source": source_of(module), "mutants": len(fates), "killed": killed,
        "score": killed / counted if counted else None,
        "equivalent": {key(diff): known[key(diff)]["why"] for diff in excused},
        "survivors": {key(diff): "\n".join(changed(diff)) for diff in alive if diff not in excused},
    }  # fmt: skip


def main() -> None:
    "Run the modules asked for and store their results."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", help="room.module; all when absent")
    parser.add_argument("--sample", type=int, default=60, help="mutants a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time")
    parser.add_argument("--list", action="store_true", help="show the stored scores and survivors, run nothing")
    asked = parser.parse_args()
    unknown = set(asked.modules) - set(TESTS)
    if unknown:
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}; choose from {', '.join(TESTS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    wanted = [] if asked.list else asked.modules or list(TESTS)
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for module, result in zip(wanted, pool.map(run, wanted, repeat(asked.sample), repeat(asked.seed)), strict=True):
            results[module] = result
            RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")
            print(f"{module}: {result['killed']} of {result['mutants']} killed", flush=True)
    for module, result in results.items():
        now = "" if result["source"] == source_of(module) else ", of an earlier text of the module"
        print(
            f"{module:22} {result['mutants']:3} mutants, {len(result['equivalent'])} equivalent, "
            f"{len(result['survivors'])} survive: score {result['score']:.1%}{now}"
        )
        for name, text in result["survivors"].items() if asked.list or module in asked.modules else ():
            print(f"  {name}\n" + "\n".join("    " + line for line in text.splitlines()))


if __name__ == "__main__":
    main()
