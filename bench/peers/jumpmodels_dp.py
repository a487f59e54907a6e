"""Runs in jumpmodels' environment: solve a dynamic programme of jump models, on request, and say how long it took.

Reads the folder named on the command line. Answers each line on standard input, a name and a number of passes, with
the seconds of so many passes over NAME_loss.npy and NAME_moves.npy, and leaves NAME_costs.npy and NAME_path.npy.
"""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jumpmodels.jump import dp


def main(folder: Path) -> None:
    print(version("jumpmodels"), flush=True)
    for line in sys.stdin:
        name, passes = line.split()
        loss, moves = (np.load(folder / f"{name}_{what}.npy") for what in ("loss", "moves"))
        began = time.perf_counter()
        for _ in range(int(passes)):
            path, _ = dp(loss, moves)
        seconds = time.perf_counter() - began
        np.save(folder / f"{name}_costs.npy", dp(loss, moves, return_value_mx=True))
        np.save(folder / f"{name}_path.npy", path)
        print(seconds, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
