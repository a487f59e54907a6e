"""Run every source notebook once: its cells must pass, and what they show must equal the outputs that are stored.

Usage: python scripts/test_notebooks.py [nbs/room/123_name.ipynb ...] [--workers 2] [--flags "slow net"]

A notebook runs as under `nbdev_test`: the cells flagged `slow` or `net` (settings.ini, tst_flags), those with
`#| eval: false` and the export call are left out, so are those flagged `deep` where what `make deep` installs is not
there; hidden cells are not; the working folder is the notebook's. Each gets
a process of its own, forked from one that has loaded the large libraries, so that no notebook sees another's state.

What is compared, and how closely:
- text and tables: all words and whole numbers exactly; numbers with a decimal point or an exponent to 1 part in a
  million, since sums round differently on other processors. Addresses of objects are removed first, as nbdev_clean
  does, and the random names that pandas gives to styled tables;
- pictures: sizes within 2 pixels, and seen at a third of their size at most 1 pixel in 10,000 that differs (a channel
  off by more than 96 of 255): where a margin is rounded, all that is drawn moves by a pixel. On the machine that stored
  them they are equal; a hash would call another processor's antialiasing a change;
- cells flagged `deep`: a network repeats to the bit on one processor alone, training makes a last digit a first one on
  another. So numbers with a decimal point are compared to a quarter, and pictures by their size; what such a cell
  claims stands in its asserts;
- what a cell writes to stderr is not compared: no stored output may hold any.
Where they differ, `python scripts/refresh.py NOTEBOOK` stores the fresh outputs; look at the diff before committing.
"""

import argparse
import atexit
import base64
import importlib
import io
import math
import multiprocessing
import os
import re
import sys
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from execnb.shell import CaptureShell
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.process import NBProcessor
from PIL import Image
from refresh import DEEP, EXPORT_CALL, ROOT, notebooks, shrink_picture

RELATIVE = 1e-6  # difference between numbers that rounding on another processor may make
LEARNED = 0.25  # that training may make of it, of a number or in all
COARSER, VISIBLE, SHARE = (
    3,
    96,
    0.0001,
)  # pictures are compared smaller; a difference that the eye sees; the share of pixels that may show it
LIMIT = 900  # seconds for a notebook
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
STYLED = re.compile(r"\bT_[0-9a-f]{5}(?![0-9a-f])")  # pandas names a styled table at random
NOT_REPRODUCIBLE: dict[str, str] = {}  # notebook -> why what it shows differs from run to run


class ZMQInteractiveShell(CaptureShell):
    "Run cells in this process; named as Jupyter's shell is, by which pandas and rich decide how wide a table may be."


def same_text(fresh: str, stored: str, learned: bool = False) -> bool:
    "Compare words and whole numbers exactly, other numbers closely; learned ones as far as training repeats."
    if fresh == stored:
        return True
    if learned:  # a minus takes the place of a blank
        fresh, stored = (re.sub(" +", " ", text) for text in (fresh, stored))
    a, b = (NUMBER.split(STYLED.sub("T_", text)) for text in (fresh, stored))
    return len(a) == len(b) and all(
        x == y or (i % 2 == 1 and close(x, y, learned)) for i, (x, y) in enumerate(zip(a, b, strict=True))
    )


def close(x: str, y: str, learned: bool) -> bool:
    "Compare two numbers as they are written."
    whole = x.lstrip("-").isdigit() and y.lstrip("-").isdigit()
    rel_tol, abs_tol = (LEARNED, LEARNED) if learned else (RELATIVE, 1e-12)
    return not whole and math.isclose(float(x), float(y), rel_tol=rel_tol, abs_tol=abs_tol)


def same_picture(fresh: str, stored: str, learned: bool = False) -> bool:
    "Compare two PNG pictures, both with their palette of 256 colours; learned ones by their size."
    if fresh == stored:
        return True
    a, b = (Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB") for p in (fresh, stored))
    if abs(a.width - b.width) > 2 or abs(a.height - b.height) > 2:
        return False
    if learned:
        return True
    size = (max(a.width, b.width) // COARSER, max(a.height, b.height) // COARSER)
    x, y = (np.asarray(p.resize(size, Image.Resampling.BOX), dtype=np.int16) for p in (a, b))
    return (np.abs(x - y).max(axis=2) > VISIBLE).mean() <= SHARE


def joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def shown(outputs: list[dict]) -> dict[str, list]:
    "Sort a cell's outputs by kind: what it printed, what it displayed, what its last line gave."
    printed = "".join(joined(o["text"]) for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout")
    data = {
        kind: [o["data"] for o in outputs if o["output_type"] == kind] for kind in ("display_data", "execute_result")
    }
    return {"printed": [{"text/plain": printed}] if printed else [], **data}


def first_difference(fresh: list[dict], stored: list[dict], learned: bool = False) -> str | None:
    "Describe the first difference between a cell's fresh and stored outputs."
    a, b = shown(fresh), shown(stored)
    for kind in a:
        if len(a[kind]) != len(b[kind]):
            return f"{kind}: {len(a[kind])} fresh, {len(b[kind])} stored"
        for x, y in zip(a[kind], b[kind], strict=True):
            if x.keys() != y.keys():
                return f"{kind}: {sorted(x)} fresh, {sorted(y)} stored"
            for form in x:
                if form == "image/png":
                    if not same_picture(shrink_picture(joined(x[form])), joined(y[form]), learned):
                        return "the picture differs"
                elif not same_text(joined(x[form]).rstrip("\n"), joined(y[form]).rstrip("\n"), learned):
                    return f"{form}\n{line_difference(joined(x[form]), joined(y[form]), learned)}"
    return None


def line_difference(fresh: str, stored: str, learned: bool) -> str:
    "Show the first line that differs."
    a, b = fresh.splitlines() or [""], stored.splitlines() or [""]
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if not same_text(x, y, learned)), min(len(a), len(b))
    )
    line = [(lines[at] if at < len(lines) else "(nothing)").strip()[:200] for lines in (b, a)]
    return f"      stored: {line[0]}\n      fresh:  {line[1]}"


def named(file: Path) -> str:
    "Name a notebook by its place in the project."
    return os.path.relpath(file, ROOT)


def run(file: Path, flags: set[str]) -> tuple[list[str], str]:
    "Run a notebook; return what differs, and the error that stopped it."
    import pandas as pd

    os.environ["IN_TEST"] = "1"
    os.chdir(file.parent)
    sys.path[:0] = [str(ROOT), str(file.parent)]
    pd.set_option(
        "display.max_columns", 20
    )  # pandas was loaded outside a notebook, where it takes the terminal's width
    source = NBProcessor(file, process=True).nb
    shell, differences = ZMQInteractiveShell(file, mpl_format="png"), []
    for number, cell in enumerate(source.cells):
        directives = getattr(cell, "directives_", None) or {}
        if (
            cell.cell_type != "code"
            or EXPORT_CALL.search(cell.source)
            or flags & directives.keys()
            or directives.get("eval:", [""])[0].lower() == "false"
        ):
            continue
        stored = [dict(o) for o in cell.get("outputs", [])]
        cell["outputs"] = shell.run(cell.source)
        if shell.exc:
            return differences, f"cell {number} failed\n{''.join(traceback.format_exception(shell.exc))}"
        clean_nb({"cells": [cell], "metadata": {}}, clean_ids=get_config().clean_ids)
        learned = "deep" in {name.rstrip(":") for name in directives}
        difference = None if named(file) in NOT_REPRODUCIBLE else first_difference(cell["outputs"], stored, learned)
        if difference:
            differences.append(f"cell {number}: {difference}")
    return differences, ""


def work(file: Path, flags: set[str], pipe: multiprocessing.connection.Connection) -> None:
    "Run a notebook in a process of its own and send what came of it."
    sys.stdout.flush()
    began = time.perf_counter()
    try:
        differences, error = run(file, flags)
        atexit._run_exitfuncs()  # what the notebook's libraries clear up at the end of a process
    except BaseException:  # whatever ends the run is the notebook's result
        differences, error = [], traceback.format_exc()
    pipe.send((differences, error, time.perf_counter() - began))
    pipe.close()
    sys.stdout.flush()
    os._exit(0)  # leave no time to threads and handlers that the notebook started


def collect(files: list[Path], flags: set[str], workers: int) -> dict[Path, tuple[list[str], str, float]]:
    "Run notebooks side by side; say of each how it went."
    context, waiting, running, done = multiprocessing.get_context("fork"), list(files), {}, {}
    while waiting or running:
        while waiting and len(running) < workers:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(waiting[0], flags, there))
            process.start()
            there.close()
            running[here] = (waiting.pop(0), process, time.perf_counter())
        for pipe in wait(list(running), timeout=1.0) or [
            p for p, (_, _, began) in running.items() if time.perf_counter() - began > LIMIT
        ]:
            file, process, began = running.pop(pipe)
            try:
                result = pipe.recv() if pipe.poll() else ([], f"no end after {LIMIT} s", time.perf_counter() - began)
            except EOFError:
                process.join()
                result = ([], f"its process died with exit code {process.exitcode}", time.perf_counter() - began)
            process.kill()
            process.join()
            done[file] = result
            state = "FAILED" if result[1] else "STALE" if result[0] else "ok"
            print(f"[{len(done)}/{len(files)}] {named(file)} {result[2]:.1f} s {state}")
            for text in [*result[0][:5], *([result[1]] if result[1] else [])]:
                print(f"  {text}")
            sys.stdout.flush()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--flags", default="", help="flags of cells to run that are left out otherwise")
    given = parser.parse_args()
    files = [file.resolve() for file in given.notebooks] or notebooks()
    if not files:
        print("no notebooks found")
        return 1
    for library in ("lightgbm", "matplotlib.pyplot", "numba", "pandas", "scipy.stats", "sklearn.linear_model"):
        importlib.import_module(library)  # loaded once, shared by all
    left_out = {*get_config().tst_flags.split(), *([] if DEEP else ["deep"])} - set(given.flags.split())
    done = collect(files, left_out, given.workers)
    bad = [file for file in files if done[file][0] or done[file][1]]
    if bad:
        print(
            f"\n{len(bad)} of {len(files)} notebooks fail or hold stale outputs: "
            f"{', '.join(map(named, bad))}; "
            f"mend the first, `python scripts/refresh.py NOTEBOOK` the second"
        )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
