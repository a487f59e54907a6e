"""What every benchmark shares: alternating rounds, medians, peak memory, one dictionary of results."""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np


def _timed(call: Callable[[], object]) -> tuple[float, object]:
    gc.collect()
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def timed(call: Callable[[], object], rounds: int = 3) -> float:
    "Return the median seconds of a call that has run before."
    call()
    return statistics.median(_timed(call)[0] for _ in range(rounds))


def peak_mb(call: Callable[[], object]) -> float:
    "Return the most memory that Python and numpy held during a call, in MB. Not timed: tracing is slow."
    gc.collect()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def max_rel_diff(ours: np.ndarray, peer: np.ndarray) -> float:
    "Return max |a - b| / max(|b|, 1) over the values that both have; infinite when they miss different ones."
    ours, peer = np.asarray(ours, dtype=float), np.asarray(peer, dtype=float)
    if ours.shape != peer.shape or (np.isnan(ours) != np.isnan(peer)).any():
        return float("inf")
    both = ~np.isnan(ours)
    return float((np.abs(ours - peer)[both] / np.maximum(np.abs(peer[both]), 1)).max(initial=0.0))


def compare(
    name: str,
    peer: str,  # whose work is measured beside ours, with its version
    ours: Callable[[], object],
    theirs: Callable[[], object],
    values: tuple[Callable, Callable],  # result of ours -> array, of theirs -> array, for max_rel_diff
    n: int,  # rows, bars or trades: the size of the work
    rounds: int = 5,
    parts: dict | None = None,
    memory: bool = True,
) -> dict:
    "Time both sides in alternating rounds after one cold call each and return the benchmark's one JSON object."
    cold, mine = _timed(ours)
    peer_cold, other = _timed(theirs)
    warm = [(_timed(ours)[0], _timed(theirs)[0]) for _ in range(rounds)]
    ours_s, peer_s = (statistics.median(side) for side in zip(*warm, strict=True))
    return {
        "name": name, "peer": peer, "ours_s": round(ours_s, 5), "peer_s": round(peer_s, 5),
        "ratio": round(peer_s / ours_s, 2),
        "cold_s": round(cold, 4), "peer_cold_s": round(peer_cold, 4),
        "ours_mb": round(peak_mb(ours), 1) if memory else None,
        "peer_mb": round(peak_mb(theirs), 1) if memory else None,
        "max_rel_diff": max_rel_diff(values[0](mine), values[1](other)), "n": n, "parts": parts or {},
    }  # fmt: skip
