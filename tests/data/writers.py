"""Writers that the tests of data.store start, race and kill: a process that has imported everything forks them in
milliseconds.

Commands on standard input, one a line: `write FOLDER FIRST`, `rival FOLDER NAME COUNT`, `hold FOLDER` start a child and
answer `pid N`; `reap N` waits for the child and answers `dead STATUS`. A child that writes answers `done K` after each
commit.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from quantlab.core.panel import as_panel
from quantlab.data.store import Lake

UNIVERSE = ["A", "B", "C", "D"]
SESSIONS = pd.bdate_range("2019-06-03", periods=1500)  # six years


def make_bars(dates, symbols, seed=0, **more):
    "Valid bars of every symbol on every date."
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.DatetimeIndex(dates).as_unit("us"), pd.Index(symbols, dtype="str")], names=["date", "symbol"]
    )
    inside = np.sort(np.exp(rng.normal(3, 1, (len(index), 4))), axis=1)
    values = {
        "open": inside[:, 1],
        "high": inside[:, 3],
        "low": inside[:, 0],
        "close": inside[:, 2],
        "volume": rng.integers(0, 10**6, len(index)).astype(float),
    }
    return as_panel(pd.DataFrame(values | more, index=index).reset_index())


def version(k):
    "Write number k: one day more, and a revision of some days in other years, all marked by their volume."
    dates = sorted({SESSIONS[k % 1500], *SESSIONS[(k % 7) :: 600]})
    return make_bars(dates, UNIVERSE, seed=k).assign(volume=float(k))


def say(text):
    "Answer in one write, so that a kill leaves a whole line or none."
    os.write(1, f"{text}\n".encode())


def write(folder, first):
    lake, k = Lake(folder, timeout=30), int(first)
    while True:
        lake.write("us", "1d", version(k), revise=True)
        say(f"done {k}")
        k += 1


def rival(folder, name, count):
    lake = Lake(folder, timeout=60)
    for k in range(int(count)):
        lake.write("us", "1d", make_bars(SESSIONS[k * 20 : k * 20 + 2], [name, "SHARED"], seed=k), revise=True)


def hold(folder):
    with FileLock(Path(folder) / "dataset=us" / ".lock"):
        say("held")
        time.sleep(60)


def serve():
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "reap":
            say(f"dead {os.waitstatus_to_exitcode(os.waitpid(int(arguments[0]), 0)[1])}")
            continue
        child = os.fork()
        if child == 0:
            {"write": write, "rival": rival, "hold": hold}[command](*arguments)
            os._exit(0)
        say(f"pid {child}")


if __name__ == "__main__":
    serve()
