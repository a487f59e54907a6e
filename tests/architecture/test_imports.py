"What an import may bring: core, features, validation and backtest stay within a moment of `import pandas, numba`."

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Packages that cost a tenth of a second and more, by scripts/import_times.py; whoever needs one imports it where it is
# used.
HEAVY = (
    "scipy.stats", "scipy.optimize", "scipy.signal", "sklearn", "lightgbm", "arch", "statsmodels", "hmmlearn",
    "matplotlib.pyplot", "duckdb", "pandera",
    "exchange_calendars", "optuna", "IPython", "nbformat", "papermill", "nbconvert", "mlflow", "psycopg", "backtrader",
    "qlib", "xgboost", "torch", "gymnasium", "stable_baselines3", "dask",
)  # fmt: skip
PROGRAM = """
import sys
import pandas, numba
there = set(sys.modules)
for name in sys.stdin.read().split():
    __import__(name)
    print(name, *sorted(heavy for heavy in sys.argv[1:] if heavy in sys.modules and heavy not in there))
    there |= set(sys.modules)
"""


def brought(rooms: list[str]) -> dict[str, list[str]]:
    "Import every module of some rooms, one after another; return which heavy packages each was the first to bring."
    names = [
        f"quantlab.{room}.{file.stem}"
        for room in rooms
        for file in sorted((ROOT / "quantlab" / room).glob("[a-z]*.py"))
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY],
        input=" ".join(names),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_core_features_validation_and_backtest_bring_nothing_heavy():
    found = brought(["core", "features", "validation", "backtest"])
    assert len(found) > 35 and {name: heavy for name, heavy in found.items() if heavy} == {}


def test_what_a_refusal_reads_brings_nothing_at_all():
    program = (
        "import sys; from quantlab.commands import cli; import quantlab.report.run, quantlab.report.checks; "
        "print(*[n for n in sys.argv[1:] if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "pandas", "numpy", "numba", *HEAVY],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.strip() == ""
