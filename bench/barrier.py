"""Triple-barrier labels of 500 US stocks over 2,700 sessions, ours against ml4t-engineer and mlfinpy, each in an
environment of its own (make bench-peers).

ml4t-engineer labels the whole panel with highs and lows, entry at the close, as ours does; it wants bars whose open
lies inside high and low, so both sides get bars mended that way, and only the rows that have a width. Its frame is
ready before its clock starts; ours reads the panel. `ours_s` is the second call on an index: the first also sorts out
the index, and its figures have that too; they stand in `parts` under its name. Labels, ends and returns are compared
one by one, and what differs is counted by its cause. mlfinpy looks at closes only and takes milliseconds a label, so
it labels five of the names, and ours the same five beside it, from bars whose four prices are the close. `parts` holds
ours on the whole panel, with closes only and with highs and lows, and the time per label of both sides. Differences in
the labels are counted by their cause. mlfinpy's process is started once and times its own passes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
import pandas as pd

from quantlab.core.panel import as_panel, grid, to_wide
from quantlab.labels.barrier import triple_barrier, volatility_width

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("QUANTLAB_SHARED", HERE.parents[1] / "shared"))
BARS = SHARED / "data" / "us" / "us_sp500_daily_2000_2023.parquet"
PYTHON = HERE.parent / ".cache" / "peers" / "mlfinpy" / "bin" / "python"
PYTHON_ML4T = HERE.parent / ".cache" / "peers" / "ml4t" / "bin" / "python"
RESULTS = HERE / "results" / "barrier.json"
START, SESSIONS, NAMES, PEER_NAMES, HORIZON, WIDTHS = "2013-01-02", 2700, 500, 5, 10, 2.0


def read_bars() -> pd.DataFrame:
    "Return total-return bars of the first names, by alphabet, that trade on every session."
    columns = ["date", "symbol", "open", "high", "low", "close", "adj"]
    frame = pd.read_parquet(BARS, columns=columns, filters=[("date", ">=", pd.Timestamp(START))])
    frame = frame[frame["date"].isin(np.sort(frame["date"].unique())[:SESSIONS])].astype({"symbol": "str"})
    size = frame.groupby("symbol").size()
    frame = frame[frame["symbol"].isin(sorted(size.index[size == SESSIONS])[:NAMES])]
    prices = frame[["open", "high", "low", "close"]].astype("float64").mul(frame["adj"].astype("float64"), axis=0)
    return as_panel(pd.concat([frame[["date", "symbol"]], prices], axis=1))


class Peer:
    "Keep a peer's process and ask it for passes over some names."

    def __init__(self, python: Path, script: str, folder: Path, wide: dict[str, pd.DataFrame]):
        self.folder, self.seconds = folder, []
        np.save(folder / "dates.npy", wide["widths"].index.to_numpy())
        for name, frame in wide.items():
            np.save(folder / f"{name}.npy", frame.to_numpy())
        command = [str(python), str(HERE / "peers" / script), str(folder), str(HORIZON)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        self.version = self.process.stdout.readline().strip()

    def run(self) -> np.ndarray:
        "Return label, return and row of t1, dates x names, of one pass."
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))
        return np.load(self.folder / "labels.npy")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def differences(ours: pd.DataFrame, theirs: np.ndarray, width: pd.DataFrame) -> dict[str, int]:
    "Count the labels that differ, by cause."
    label, t1 = to_wide(ours["label"]).to_numpy(), ours["t1"].unstack().to_numpy()
    y, dates, size = to_wide(ours["y"]).to_numpy(), to_wide(ours["y"]).index, width.to_numpy()
    both = ~np.isnan(label) & ~np.isnan(theirs[0])
    apart = both & (label != theirs[0])
    vertical = apart & (label == 0) & (theirs[0] == -1) & (y < -size / (1 + size)) & (y > -size)
    return {
        "labels": int((~np.isnan(label)).sum()),
        "labelled_by_one_side_only": int((np.isnan(label) != np.isnan(theirs[0])).sum()),
        "other_end_date": int((both & (dates.get_indexer(t1.ravel()).reshape(t1.shape) != theirs[2])).sum()),
        "other_label": int(apart.sum()),
        "of_these_peer_calls_a_vertical_exit_a_stop": int(vertical.sum()),
        "not_explained": int((apart & ~vertical).sum()),
    }  # fmt: skip


def apart(ours: pd.DataFrame, theirs: np.ndarray, flat: np.ndarray) -> dict[str, float]:
    "Compare labels with those of ml4t-engineer one by one; count what differs by its cause."
    label, y = (to_wide(ours[c]).to_numpy() for c in ("label", "y"))
    t1, unsure = ours["t1"].unstack(), to_wide(ours["ambiguous"].astype(float)).to_numpy() > 0
    ends = to_wide(ours["y"]).index.get_indexer(t1.to_numpy().ravel()).reshape(label.shape)
    one, both = np.isnan(label) != np.isnan(theirs[0]), ~np.isnan(label) & ~np.isnan(theirs[0])
    tail = one & (np.arange(len(label))[:, None] + HORIZON >= len(label))
    other, late = both & (label != theirs[0]), both & (ends != theirs[2])
    gap = np.abs(y - theirs[1])[both]
    row, name = np.nonzero(other | late)
    still = flat[theirs[2][row, name].astype(int), name]  # the peer ends a bet on a bar whose high is its low
    return {
        "labels": int(both.sum()), "labelled_by_one_side_only": int(one.sum()),
        "of_these_vertical_barrier_beyond_the_panel": int(tail.sum()), "other_label": int(other.sum()),
        "other_end_date": int(late.sum()), "bars_that_touch_both": int((unsure & both).sum()),
        "of_these_peer_takes_the_stop_as_ours": int((unsure & both & (theirs[0] == -1)).sum()),
        "of_these_peer_ends_on_a_bar_without_range": int(still.sum()),
        "not_explained": int((one & ~tail).sum() + (~still).sum()), "max_difference_of_y": float(gap.max()),
    }  # fmt: skip


def against_ml4t(bars: pd.DataFrame, width: pd.Series, rounds: int) -> dict:
    "Time the whole panel, highs and lows, beside ml4t-engineer in alternating rounds, and compare every label."
    mended = bars.assign(high=bars.max(axis=1), low=bars.min(axis=1))
    label = lambda: triple_barrier(mended, width, 1.0, 1.0, HORIZON, entry="close")
    with tempfile.TemporaryDirectory() as folder:
        wide = {name: to_wide(mended[name]) for name in mended} | {"widths": to_wide(width)}
        peer = Peer(PYTHON_ML4T, "ml4t_barrier.py", Path(folder), wide)
        began = time.perf_counter()
        mine = label()
        cold = time.perf_counter() - began
        theirs = peer.run()
        times = []
        for _ in range(rounds):
            times.append(harness.timed(label, 1))
            peer.run()
        peer.close()
    fresh = mended.reset_index().set_index(mended.index.names)  # an index of which nothing is known yet
    again = pd.Series(width.to_numpy(), fresh.index)
    began = time.perf_counter()
    triple_barrier(fresh, again, 1.0, 1.0, HORIZON, entry="close")
    first = time.perf_counter() - began
    ours_s, peer_s = float(np.median(times)), float(np.median(peer.seconds[1:]))
    counted = apart(mine, theirs, to_wide(mended["high"]).to_numpy() == to_wide(mended["low"]).to_numpy())
    return {
        "peer": f"ml4t-engineer {peer.version}", "ours_s": round(ours_s, 5), "peer_s": round(peer_s, 5),
        "ratio": round(peer_s / ours_s, 2), "ours_least_s": min(times), "peer_least_s": min(peer.seconds[1:]),
        "first_call_of_the_process_s": cold, "peer_first_call_s": peer.seconds[0], "first_call_on_an_index_s": first,
        "n": len(bars), "bars_mended": int(((mended["high"] != bars["high"]) | (mended["low"] != bars["low"])).sum()),
        "differences": counted,
    }  # fmt: skip


def main(rounds: int = 3) -> dict:
    "Time the sides and count what differs."
    if not BARS.exists():
        return {"name": "barrier", "skipped": f"no {BARS.name} beside the project; set QUANTLAB_SHARED"}
    if not PYTHON.exists():
        return {"name": "barrier", "skipped": "mlfinpy's environment is not there; make bench-peers builds it"}
    if not PYTHON_ML4T.exists():
        return {"name": "barrier", "skipped": "ml4t's environment is not there; make bench-peers builds it (3.12)"}
    bars = read_bars()
    flat = pd.DataFrame({c: bars["close"] for c in ("open", "high", "low", "close")})
    width = WIDTHS * volatility_width(bars)
    names = grid(bars.index).symbols[:: NAMES // PEER_NAMES][:PEER_NAMES]
    few = flat[flat.index.get_level_values("symbol").isin(names)]
    some = width[few.index]
    label = lambda b, w: triple_barrier(b, w, 1.0, 1.0, HORIZON, entry="close")
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(
            PYTHON, "mlfinpy_barrier.py", Path(folder), {"closes": to_wide(few["close"]), "widths": to_wide(some)}
        )
        values = (lambda ours: to_wide(ours["y"]).to_numpy(), lambda theirs: theirs[1])
        found = harness.compare(
            "barrier",
            f"mlfinpy {peer.version}",
            lambda: label(few, some),
            peer.run,
            values,
            n=len(few),
            rounds=rounds,
            memory=False,
        )
        theirs = peer.run()
        peer.close()
    counted = differences(label(few, some), theirs, to_wide(some))
    whole = {
        "closes only": harness.timed(lambda: label(flat, width), 5),
        "highs and lows": harness.timed(lambda: label(bars, width), 5),
    }
    peer_us = 1e6 * float(np.median(peer.seconds[1:])) / counted["labels"]
    labels = int(label(bars, width)["y"].notna().sum())
    parts = {
        "names": list(names),
        "peer_own_clock_s": float(np.median(peer.seconds[1:])),
        "peer_us_per_label": peer_us,
        "differences": counted,
    }
    for kind, seconds in whole.items():
        own = 1e6 * seconds / labels
        parts[f"whole panel, {kind}"] = {
            "ours_s": seconds,
            "names": NAMES,
            "sessions": SESSIONS,
            "labels": labels,
            "us_per_label": own,
            "ratio_per_label": peer_us / own,
        }
    parts["ml4t-engineer"] = against_ml4t(bars, width, 2 * rounds + 1)
    return found | {"parts": parts}


if __name__ == "__main__":
    result = main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    if "skipped" not in result:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
