"""Measure how often the tests of validation.inference raise a false alarm. Usage: python scripts/calibrate.py [seeds]

Every finished chunk of seeds is kept under .cache/calibrate/, so an interrupted run goes on where it stopped; a change
of these worlds or of the tests themselves starts anew. The rates go to bench/results/calibration.json, which
nbs/validation/365_inference.ipynb shows. `seeds` below 2,000 is for a quick look: it prints the table and leaves the
stored results alone.
"""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from scipy.signal import lfilter
from scipy.stats import beta, norm, ttest_1samp

from quantlab.core.cache import content_hash
from quantlab.core.config import root
from quantlab.validation.inference import ICRows, ic_test, newey_west, sharpe_test
from quantlab.validation.scores import unit_rows

SEEDS, BOOTSTRAP_SEEDS, CHUNK = 2000, 500, 20
DATES, NAMES, MEMORY, HORIZONS = 1000, 50, 0.98, (1, 5, 20)
LOOKBACK, TRUTH = 126, 0.05  # the momentum world: days of its own past, and the share of the outcome mixed in


def slow_noise(seed: int) -> dict[tuple, float]:
    "Return the p-values of every test of the mean IC on one slow worthless score, by horizon."
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((DATES, NAMES)) * np.sqrt(1 - MEMORY**2)
    shocks[0] = rng.standard_normal(NAMES)
    u = unit_rows(lfilter([1.0], [1.0, -MEMORY], shocks, axis=0), True)
    paths = np.vstack([np.zeros(NAMES), np.cumsum(rng.standard_normal((DATES + max(HORIZONS), NAMES)), axis=0)])
    there, found = np.ones((DATES, NAMES), bool), {}
    for h in HORIZONS:
        rows = ICRows(u, unit_rows(paths[h : h + DATES] - paths[:DATES], True), there)
        daily = (rows.u * rows.v).sum(axis=1)
        ps = {
            "t-test": ttest_1samp(daily, 0).pvalue,
            "t-test, dates apart": ttest_1samp(daily[::h], 0).pvalue,
            "HAC, lag = horizon": short_hac(daily, h),
            "HAC, lag = 2 horizon + 10": ic_test(rows, "hac", horizon=h).p,
            "block permutation": ic_test(rows, "block", seed=seed).p,
            "forward": ic_test(rows, "forward").p,
            "shift": ic_test(rows).p,
        }
        if seed < BOOTSTRAP_SEEDS:
            ps["stationary bootstrap"] = ic_test(rows, "bootstrap", seed=seed).p
        found |= {("slow noise", h, method): p for method, p in ps.items()}
    return found


def short_hac(daily: np.ndarray, lag: int) -> float:
    "Return the p-value of Newey and West with the lag that textbooks give."
    return float(2 * norm.sf(abs(daily.mean()) / newey_west(daily, lag)))


def momentum(seed: int) -> dict[tuple, float]:
    """Return the p-values of the shift test on a score made of past returns, worthless and with a faint truth,
    horizon 20."""
    rng, h, found = np.random.default_rng(10**6 + seed), 20, {}
    paths = np.cumsum(rng.standard_normal((LOOKBACK + DATES + h, NAMES)), axis=0)
    t = np.arange(LOOKBACK, LOOKBACK + DATES)
    past, y = paths[t] - paths[t - LOOKBACK], paths[t + h] - paths[t]
    v, there = unit_rows(y, True), np.ones((DATES, NAMES), bool)
    for world, score in (
        ("momentum, worthless", past),
        ("momentum, with a truth", past / past.std() + TRUTH * y / y.std()),
    ):
        rows = ICRows(unit_rows(score, True), v, there)
        found[world, h, "shift"] = ic_test(rows).p
        found[world, h, "forward"] = ic_test(rows, "forward").p
    return found


def sharpes(seed: int) -> dict[tuple, float]:
    "Return the p-values of the Sharpe tests on returns without a mean."
    rng = np.random.default_rng(2 * 10**6 + seed)
    shocks = rng.standard_normal(DATES + 100)
    worlds = {
        "returns, independent": shocks[100:],
        "returns, fat tails": rng.standard_t(4, DATES),
        "returns, autocorrelated 0.3": lfilter([1.0], [1.0, -0.3], shocks)[100:],
    }
    methods = ("iid", "hac", "bootstrap") if seed < BOOTSTRAP_SEEDS else ("iid", "hac")
    return {
        (world, 1, m): sharpe_test(pd.Series(x / 100), m, seed=seed).p for world, x in worlds.items() for m in methods
    }


def chunk(first: int, last: int, folder: Path) -> list[list]:
    "Return [world, horizon, method, seed, p] of a range of seeds; computed once, then read from its file."
    file = folder / f"{first:05d}-{last:05d}.json"
    if not file.exists():
        found = [
            [*key, seed, float(p)]
            for seed in range(first, last)
            for key, p in (slow_noise(seed) | momentum(seed) | sharpes(seed)).items()
        ]
        write(file, found)
    return json.loads(file.read_text())


def write(file: Path, content: object) -> None:
    "Write JSON to a temporary name and rename it: an interrupt leaves the old file whole."
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(file)


def rates(found: list[list]) -> pd.DataFrame:
    "Return the share of p <= 5 % by world, horizon and method with its error and 95 % interval (Clopper and Pearson)."
    frame = pd.DataFrame(found, columns=["world", "horizon", "method", "seed", "p"])
    table = (
        (frame["p"] <= 0.05)
        .groupby([frame["world"], frame["horizon"], frame["method"]])
        .agg(rejected="sum", n="size")
        .reset_index()
    )
    k, n = table["rejected"], table["n"]
    table["rate"], table["se"] = k / n, np.sqrt(k / n * (1 - k / n) / n)
    table["low"], table["high"] = beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)
    return table.fillna({"low": 0.0, "high": 1.0})


def main(seeds: int = SEEDS) -> None:
    "Run what is not done yet, with a bar, then store and show the rates."
    console = Console()
    folder = root() / ".cache" / "calibrate" / content_hash([slow_noise, momentum, sharpes])[:12]
    edges, found = [*range(0, seeds, CHUNK), seeds], []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("worlds", total=seeds)
        for first, last in pairwise(edges):
            found += chunk(first, last, folder)
            progress.update(task, advance=last - first)
    table = rates(found)
    if seeds == SEEDS:
        about = {
            "seeds": SEEDS,
            "bootstrap_seeds": BOOTSTRAP_SEEDS,
            "dates": DATES,
            "names": NAMES,
            "memory": MEMORY,
            "lookback": LOOKBACK,
            "truth": TRUTH,
        }
        write(
            root() / "bench" / "results" / "calibration.json",
            {"about": about, "rates": json.loads(table.round(6).to_json(orient="records"))},
        )
    shown = Table("world", "horizon", "method", "rate", "se", "n", title="Share of worlds with p <= 5 %")
    for row in table.itertuples():
        shown.add_row(row.world, str(row.horizon), row.method, f"{row.rate:.2%}", f"{row.se:.2%}", str(row.n))
    console.print(shown)


if __name__ == "__main__":
    try:
        main(*(int(a) for a in sys.argv[1:2]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the finished seeds are kept, run it again to go on")
