"""Print how many seconds of processor time each module of quantlab takes to import, beyond `import pandas, numba`.

Usage: python scripts/import_times.py [room ...]     (core, features, backtest ...; all rooms when none is named)

Every module is imported in a fresh interpreter that has pandas and numba already, three times; the table shows the
fastest of them, and the packages that were loaded on the way and are heavy. Processor time, because a busy machine
stretches the clock.
"""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "scipy.stats", "scipy.optimize", "sklearn", "lightgbm", "arch", "statsmodels", "hmmlearn", "matplotlib.pyplot",
    "duckdb", "pandera", "exchange_calendars",
    "joblib", "optuna", "IPython", "nbformat", "papermill", "nbconvert", "mlflow", "rich", "psycopg", "backtrader",
    "qlib", "ccxt", "yfinance", "xgboost", "torch", "gymnasium", "stable_baselines3",
    "dask", "pyarrow.dataset", "sqlite3",
)  # fmt: skip
PROGRAM = """
import sys, time
import pandas, numba
before, began = set(sys.modules), time.process_time()
__import__(sys.argv[1])
took = time.process_time() - began
print(took, *[name for name in sys.argv[2:] if name in sys.modules and name not in before])
"""


def modules(rooms: list[str]) -> list[str]:
    "Return the names of the package's modules, room by room."
    files = sorted((ROOT / "quantlab").glob("*/[a-z]*.py"))
    return [f"quantlab.{file.parent.name}.{file.stem}" for file in files if not rooms or file.parent.name in rooms]


def measure(module: str, rounds: int = 3) -> tuple[float, float, list[str]]:
    "Return the least and the median seconds of an import, and the heavy packages that came with it."
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, module, *HEAVY], capture_output=True, text=True, check=True
        )
        seconds, *heavy = done.stdout.split()
        runs.append(float(seconds))
    return min(runs), statistics.median(runs), heavy


if __name__ == "__main__":
    print(f"{'module':34} {'least s':>8} {'median s':>9}  heavy packages")
    for name in modules(sys.argv[1:]):
        least, median, heavy = measure(name)
        print(f"{name:34} {least:8.2f} {median:9.2f}  {', '.join(heavy)}", flush=True)
