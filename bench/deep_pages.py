"""The pages with networks from end to end on the committed sample, at their defaults: minutes, memory, figures.

Each page runs as a command in a process of its own, with an empty cache and a workspace of its own, on one thread of
the processor. Usage: python bench/deep_pages.py [cascade] [deep] [tft]; needs `make deep`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from quantlab.core.config import root

RESULTS = Path(__file__).resolve().parent / "results" / "deep_pages.json"
PAGES = {"cascade": {"encoder": "cnn", "head": "net"}, "deep": {}, "tft": {}}
RUN = """
import json, sys
from quantlab.report.run import run_report
run = run_report(sys.argv[1], json.loads(sys.argv[2]), track=False)
print(json.dumps(run.metrics))
"""


def held_mb(process: psutil.Process) -> float:
    "Return what a process and its children hold."
    held = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            held += one.memory_info().rss / 1e6
        except psutil.Error:  # it has just ended
            continue
    return held


def used() -> float:
    "Return the processor seconds of all children that have ended."
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def page(name: str) -> dict:
    "Run one page; return wall and processor minutes, the highest memory seen each half second, and its figures."
    with TemporaryDirectory() as folder:
        own = {key: f"{folder}/{value}" for key, value in {
            "QUANTLAB_RESEARCH_CACHE": "cache", "QUANTLAB_RESEARCH_LEDGER": "ledger.sqlite",
            "QUANTLAB_RESEARCH_RUNS": "runs"
        }.items()}  # fmt: skip
        began, before, most, told = time.perf_counter(), used(), 0.0, Path(folder) / "told"
        with told.open("w") as out:
            command = [sys.executable, "-c", RUN, name, json.dumps(PAGES[name])]
            run = subprocess.Popen(command, cwd=root(), env=os.environ | own | {"OMP_NUM_THREADS": "1"}, stdout=out)
            while run.poll() is None:
                most = max(most, held_mb(psutil.Process(run.pid)))
                time.sleep(0.5)
        if run.returncode:
            raise SystemExit(f"{name} ended with {run.returncode}")
        wall = time.perf_counter() - began
        figures = json.loads(told.read_text().strip().splitlines()[-1])
    kept = {key: round(value, 4) for key, value in figures.items() if isinstance(value, int | float)}
    minutes = {"minutes": round(wall / 60, 1), "processor_minutes": round((used() - before) / 60, 1)}
    return {"asked": PAGES[name], **minutes, "mb": round(most), "figures": kept}


def main(names: tuple[str, ...] = tuple(PAGES)) -> dict:
    "Run pages and store what they took beside what is stored of the others."
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"name": "deep_pages", "parts": {}}
    for name in names:
        found["parts"][name] = page(name)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    print(json.dumps(main(tuple(sys.argv[1:]) or tuple(PAGES))))
