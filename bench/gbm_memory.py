"""What a fit of LightGBM on a float32 panel holds beside the panel itself, ours against a copy in float64.

Each fit runs in a process of its own, on 250 thousand, 500 thousand and 1 million rows of 158 features; the peak is the
process's own, less what it held before the fit. A straight line through the three says what a row costs, and what 10
million rows would take beside their 6.3 GB; where 12 GB are free, ours is run at that size as well.
"""

import json
import subprocess
import sys
import time

COLUMNS, ROWS, GOAL = 158, (250_000, 500_000, 1_000_000), 10_000_000


def held_gb() -> float:
    "Return what this process holds now."
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1e6


def fit(rows: int, how: str) -> dict:
    "Fit five trees on a panel of random numbers and return the peak beside the panel."
    import resource

    import lightgbm
    import numpy as np
    import pandas as pd

    from quantlab.models.gbm import GBMModel

    rng, dates = np.random.default_rng(0), pd.bdate_range("2000-01-03", periods=-(-rows // 1000), unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:04d}" for i in range(1000)]], names=["date", "symbol"])[:rows]
    X = pd.DataFrame(
        rng.standard_normal((rows, COLUMNS), dtype="float32"), index, [f"f{i:03d}" for i in range(COLUMNS)], copy=False
    )
    y = pd.Series(X["f000"].to_numpy("float64") + rng.standard_normal(rows), index=index)
    model, before, began = GBMModel(5, num_threads=1), held_gb(), time.perf_counter()
    if how == "ours":
        model.fit(X, y)
    else:
        parameters = model._parameters(list(X.columns), rows)
        lightgbm.train(parameters, lightgbm.Dataset(X.astype("float64"), y, params=parameters), 5)
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "rows": rows,
        "panel_gb": round(rows * COLUMNS * 4 / 1e9, 3),
        "beside_gb": round(peak - before, 3),
        "seconds": round(seconds, 1),
    }


def measure(rows: int, how: str) -> dict:
    "Run one fit in a fresh process."
    done = subprocess.run([sys.executable, __file__, str(rows), how], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> dict:
    "Measure both sides at each size and extrapolate."
    import lightgbm
    import numpy as np
    import psutil

    sides, parts = {}, {}
    for how in ("ours", "float64 copy"):
        runs = [measure(rows, how) for rows in ROWS]
        slope, base = np.polyfit([r["rows"] for r in runs], [r["beside_gb"] for r in runs], 1)
        total = GOAL * COLUMNS * 4 / 1e9 + base + slope * GOAL
        parts[how] = {
            "runs": runs,
            "bytes_per_row_beside": round(slope * 1e9),
            "fixed_gb": round(base, 3),
            "gb_at_10_million_rows": round(total, 1),
            "within_24_gb": bool(total < 24),
        }
        sides[how] = runs[-1]
    if psutil.virtual_memory().available > 12e9:
        parts["ours"]["at_10_million_rows"] = measure(GOAL, "ours")
    ours, peer = sides.values()
    return {
        "name": "gbm_memory", "peer": f"lightgbm {lightgbm.__version__} on a float64 copy of the frame",
        "ours_s": ours["seconds"], "peer_s": peer["seconds"],
        "ratio": round(peer["seconds"] / ours["seconds"], 2), "cold_s": None, "peer_cold_s": None,
        "ours_mb": ours["beside_gb"] * 1000, "peer_mb": peer["beside_gb"] * 1000, "max_rel_diff": None, "n": ROWS[-1],
        "parts": parts,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(fit(int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 2 else main()))
