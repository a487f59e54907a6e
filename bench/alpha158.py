"""Alpha158 and Alpha360 on the CSI 300, 2008-2020: Qlib's engine and ours, from the same files to a float32 frame of
the members' rows.

Qlib runs with 2 processes and without processors, each side in a process of its own, in alternating rounds. `cold_s` is
ours in a fresh process with an empty compile cache, imports included. `peak_mb` of Qlib is its parent process alone.
The table of errors compares both sides, column by column, with Qlib's own expressions on float64 input.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import qlib_files as files  # noqa: E402

START, END, MARKET = "2008-01-01", "2020-12-31", "csi300"
RESULTS = HERE / "results" / "alpha158.json"


def peak_mb() -> float:
    "Return the high-water mark of this process; getrusage would inherit that of its parent."
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def cpu() -> float:
    """Return processor seconds of this process and its finished children: a measure that other work on the machine
    moves less than the clock."""
    return sum(os.times()[:4])


def run_ours(name: str, keep: str | None = None) -> dict[str, float]:
    "Read the files and compute the set; say how long each took."
    from quantlab.features.base import compute
    from quantlab.features.sets import feature_set

    began, busy = time.perf_counter(), cpu()
    bars = files.read_bars(START, END)
    rows = files.members(bars, MARKET, START)
    read = time.perf_counter()
    frame = compute(bars, feature_set(name.lower()), rows=rows, dtype="float32")
    done = time.perf_counter()
    if keep:
        frame.to_parquet(keep)
    return {
        "seconds": done - began,
        "cpu": cpu() - busy,
        "compute_s": done - read,
        "peak_mb": peak_mb(),
        "rows": len(frame),
        "columns": frame.shape[1],
    }


def run_peer(name: str, keep: str | None = None, double: bool = False) -> dict[str, float]:
    "Let Qlib load the same columns; with `double`, its expressions on float64 input."
    files.start_qlib(processes=2, double=double)
    began, busy = time.perf_counter(), cpu()
    frame = files.run_qlib(name, MARKET, START, END)
    done, busy = time.perf_counter(), cpu() - busy
    if keep:
        frame.index = frame.index.set_names(["date", "symbol"])
        frame.to_parquet(keep)
    return {"seconds": done - began, "cpu": busy, "peak_mb": peak_mb(), "rows": len(frame), "columns": frame.shape[1]}


def run_cold(name: str) -> float:
    "Time ours in a fresh process with an empty compile cache, from the first import on."
    program = f"import sys; sys.path.insert(0, {str(HERE)!r}); import alpha158; alpha158.run_ours({name!r})"
    with tempfile.TemporaryDirectory() as empty:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "NUMBA_CACHE_DIR": empty})
        return time.perf_counter() - began


def profile(name: str) -> dict[str, float]:
    "Say in seconds of processor time where the time goes, beside writing an array of the result's shape once."
    from quantlab.features.base import compute
    from quantlab.features.sets import feature_set

    def spent(call) -> float:
        call()
        began = cpu()
        call()
        return cpu() - began

    bars = files.read_bars(START, END)
    rows, features = files.members(bars, MARKET, START), feature_set(name.lower())
    by_formula: dict[str, list] = {}
    for f in features:
        formula = getattr(f.formula, "func", f.formula).__name__
        by_formula.setdefault(formula, []).append(f)
    found = {
        "reading the files": spent(lambda: files.read_bars(START, END)),
        "whole set": spent(lambda: compute(bars, features, rows, "float32")),
    }
    found["coordinates and output, one column"] = spent(lambda: compute(bars, features[:1], rows, "float32"))
    shape = (len(features), int(rows.sum()))
    found["writing the output once"] = spent(lambda: np.full(shape, 1.0, "float32"))
    base = found["coordinates and output, one column"]
    return found | {
        f"formula {k}": max(spent(lambda v=v: compute(bars, v, rows, "float32")) - base, 0.0)
        for k, v in by_formula.items()
    }


def relative(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    "Return |a - b| / max(|b|, 1) cell by cell."
    b = b.astype("float64")
    return (a.astype("float64") - b).abs() / b.abs().clip(lower=1)


def error_table(ours: pd.DataFrame, stock: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    "Say for each family of columns how far ours and stock Qlib are from Qlib in float64."
    rows = {}
    for column in exact.columns:
        family = column.rstrip("0123456789") if column != "KMID2" else column
        for side, frame in (("ours", ours), ("stock", stock)):
            error = relative(frame[[column]], exact[[column]])[column]
            nan = int((frame[column].isna() != exact[column].isna()).sum())
            cell = rows.setdefault(
                family,
                dict.fromkeys(("ours_max", "ours_p999", "ours_nan", "stock_max", "stock_p999", "stock_nan"), 0.0),
            )
            cell[f"{side}_max"] = max(
                cell[f"{side}_max"], float(error.max(skipna=True)) if error.notna().any() else 0.0
            )
            cell[f"{side}_p999"] = max(
                cell[f"{side}_p999"], float(error.quantile(0.999)) if error.notna().any() else 0.0
            )
            cell[f"{side}_nan"] += nan
    return pd.DataFrame(rows).T


def exceptions(ours: pd.DataFrame, exact: pd.DataFrame) -> list[dict]:
    "List every cell beyond 1e-6 + 1e-5 |b| or with another NaN, one by one."
    a, b = ours.to_numpy(np.float64), exact.to_numpy(np.float64)
    apart = ~(np.abs(a - b) <= 1e-6 + 1e-5 * np.abs(b)) & ~(np.isnan(a) & np.isnan(b))
    return [
        {
            "column": exact.columns[c],
            "date": f"{exact.index[r][0]:%Y-%m-%d}",
            "symbol": exact.index[r][1],
            "ours": str(a[r, c]),
            "qlib_float64": str(b[r, c]),
        }
        for r, c in np.argwhere(apart)
    ]


def compare(name: str, rounds: int, exact: bool) -> dict:
    "Run both sides in alternating rounds; with `exact`, hold both to Qlib in float64."
    with tempfile.TemporaryDirectory() as kept:
        path = lambda side: f"{kept}/{side}.parquet"
        side = lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        with side() as us, side() as them:
            us.submit(run_ours, name).result()  # compiled code is loaded once
            spent = us.submit(profile, name).result() if exact else {}
            pairs = [(them.submit(run_peer, name).result(), us.submit(run_ours, name).result()) for _ in range(rounds)]
            ours_mb, peer_mb = (p["peak_mb"] for p in reversed(pairs[-1]))
        peer_cpu, ours_cpu = (median(p["cpu"] for p in side) for side in zip(*pairs, strict=True))
        peer_s, ours_s = (median(p["seconds"] for p in side) for side in zip(*pairs, strict=True))
        cold_s = run_cold(name)
        result = {
            "peer_s": peer_s, "ours_s": ours_s, "ratio": peer_s / ours_s,
            "compute_s": median(p[1]["compute_s"] for p in pairs),
            "peer_cpu_s": peer_cpu, "ours_cpu_s": ours_cpu, "cpu_ratio": peer_cpu / ours_cpu,
            "cold_s": cold_s, "cold_ratio": peer_s / cold_s, "peer_mb": peer_mb, "ours_mb": ours_mb,
            "memory_share": ours_mb / peer_mb,
            "rounds": rounds, "n": pairs[-1][1]["rows"], "rows": pairs[-1][1]["rows"],
            "columns": pairs[-1][1]["columns"],
        }  # fmt: skip
        if exact:
            result["profile_cpu_s"] = spent
            with side() as us, side() as stock, side() as double:
                us.submit(run_ours, name, path("ours")).result()
                stock.submit(run_peer, name, path("stock")).result()
                double.submit(run_peer, name, path("exact"), True).result()
            ours, stock_frame, exact_frame = (pd.read_parquet(path(s)).sort_index() for s in ("ours", "stock", "exact"))
            if stock_frame.equals(exact_frame):
                raise RuntimeError(
                    "the reference equals stock Qlib in every digit: it was not computed from float64 input"
                )
            listed = exceptions(ours, exact_frame)
            clean = relative(ours, exact_frame)
            for cell in listed:
                clean.loc[(pd.Timestamp(cell["date"]), cell["symbol"]), cell["column"]] = 0.0
            result |= {"max_rel_diff": float(clean.max().max()), "exceptions": listed}
            result["errors"] = json.loads(
                error_table(ours, stock_frame, exact_frame).to_json(orient="index", double_precision=15)
            )
        return result


def scaling() -> list[dict]:
    "Time the whole set on synthetic markets: more names at 750 dates, more dates at 300 names."
    from quantlab.data.synth import synth_market
    from quantlab.features.base import compute
    from quantlab.features.sets import feature_set

    found, features = [], feature_set("alpha158")
    for names, dates in [
        (50, 750),
        (100, 750),
        (300, 750),
        (1000, 750),
        (3000, 750),
        (300, 375),
        (300, 1500),
        (300, 3000),
    ]:
        bars = synth_market(names, dates, ic=0.0).bars
        bars["vwap"] = bars[["high", "low", "close"]].mean(axis=1)
        spent = []
        for _ in range(4):
            began = cpu()
            compute(bars, features, dtype="float32")
            spent.append(cpu() - began)
        found.append({"names": names, "dates": dates, "cpu_s": median(spent[1:])})
    return found


def audit_time() -> dict[str, float]:
    "Audit the whole set on the whole committed sample."
    from quantlab.data.bars import adjust
    from quantlab.data.sample import sample_bars
    from quantlab.features.base import check_feature
    from quantlab.features.sets import feature_set

    bars = adjust(sample_bars(), "total")
    bars["vwap"] = bars[["high", "low", "close"]].mean(axis=1)
    began, busy = time.perf_counter(), cpu()
    verdict = check_feature(feature_set("alpha158"), bars)
    return {"seconds": time.perf_counter() - began, "cpu": cpu() - busy, "verdict": verdict.status, "rows": len(bars)}


def main(rounds: int = 3) -> dict:
    "Return the comparison and store it: Alpha158 at the top; Alpha360, the scaling and the audit under parts."
    if not files.CSI300.exists():
        return {"name": "alpha158", "skipped": f"no {files.CSI300.name} beside the project; set QUANTLAB_SHARED"}
    found = {"name": "alpha158", "peer": "qlib 0.9.7, 2 processes, no processors", "data": f"{MARKET} {START} .. {END}"}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        parts = {"scaling": apart.submit(scaling).result(), "audit": apart.submit(audit_time).result()}
    found |= compare("Alpha158", rounds, exact=True) | {
        "parts": parts | {"alpha360": compare("Alpha360", max(1, rounds - 2), exact=False)}
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return {k: v for k, v in found.items() if k not in ("errors", "profile_cpu_s")}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)))
