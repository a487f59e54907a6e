"""Run the example of every public name as a stranger would: pasted into a fresh Python, in the repository's root.

Usage: python scripts/run_examples.py [room | room.module | room.module.name ...] [--seconds 60]

Prints each example that fails: the name, the error, and what the example shows instead of its stored output. The
modules are imported once; each module's examples run in a fork of that process, each in a namespace of its own, at most
`--seconds` long. Trials are recorded in a ledger that is thrown away.
"""

import argparse
import ast
import contextlib
import doctest
import importlib
import inspect
import io
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Examples\n--------\n"


def settle(folder: str) -> None:
    "Keep what the examples record in a folder of its own, and draw into files only."
    own = {"LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite", "RUNS": "runs"}
    os.environ |= {f"QUANTLAB_RESEARCH_{key}": f"{folder}/{name}" for key, name in own.items()}
    os.environ |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    os.chdir(ROOT)
    sys.path.insert(0, "")  # as in a Python that is started there
    warnings.simplefilter("ignore")


def examples(module: str) -> dict[str, str]:
    "Return the examples of a module's public names, as they stand in the docstrings."
    loaded = importlib.import_module(f"quantlab.{module}")
    found = {}
    for name in getattr(loaded, "__all__", []):
        thing = getattr(loaded, name)
        if (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__ == loaded.__name__:
            text = inspect.cleandoc(thing.__doc__ or "").partition(TITLE)[2]
            found |= {name: text} if text else {}
    return found


def evaluate(source: str, space: dict) -> object:
    "Run the statements of a source and return the value of the last, if it has one."
    *lines, last = ast.parse(source).body
    exec(compile(ast.Module(lines, []), "example", "exec"), space)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "example", "eval"), space)
    exec(compile(ast.Module([last], []), "example", "exec"), space)
    return None


def run(text: str) -> str:
    "Run an example and return what is wrong with it, or nothing."
    from IPython.lib.pretty import pretty

    space: dict = {"__name__": "__main__"}
    said = io.StringIO()
    try:
        for part in doctest.DocTestParser().get_examples(text.replace("\n\n", "\n<BLANKLINE>\n")):
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                value = evaluate(part.source, space)
            if part.want and pretty(value).split() != part.want.replace("<BLANKLINE>", "").split():
                return f"shows {' '.join(pretty(value).split())[:200]}"
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def stop(_signal: int, _frame: object) -> None:
    raise TimeoutError("takes too long")


def run_module(module: str, wanted: list[str], seconds: int) -> int:
    "Run the examples of a module in a fork; print what fails and return how many did."
    sys.stdout.flush()
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    import matplotlib.pyplot as plt
    import pandas as pd

    failed = 0
    signal.signal(signal.SIGALRM, stop)
    for name, text in examples(module).items():
        if wanted and name not in wanted:
            continue
        start = time.perf_counter()
        signal.alarm(seconds)
        with pd.option_context("display.max_columns", 20):
            wrong = run(text)
        signal.alarm(0)
        plt.close("all")
        took = time.perf_counter() - start
        failed += bool(wrong)
        if wrong or took > seconds / 4:
            print(f"{module}.{name}: {wrong or 'slow'} ({took:.0f} s)", flush=True)
    os._exit(min(failed, 100))


def main(words: list[str], seconds: int) -> int:
    "Run the examples that the words ask for, else all; return how many failed."
    from notebook_code import read_modules

    with tempfile.TemporaryDirectory() as folder:
        settle(folder)
        wanted: dict[str, list[str]] = {}
        for module in read_modules():
            asked = [w for w in words if w == module or f"{module}.".startswith(f"{w}.") or w.startswith(f"{module}.")]
            if asked or not words:
                wanted[module] = [w.removeprefix(f"{module}.") for w in asked if w.startswith(f"{module}.")]
        count = sum(len(found) if not names else len(names) for m, names in wanted.items() for found in [examples(m)])
        failed = sum(run_module(module, names, seconds) for module, names in wanted.items())
    print(f"{count} examples, {failed} fail")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="room, room.module or room.module.name")
    parser.add_argument("--seconds", type=int, default=60, help="the longest that one example may take")
    chosen = parser.parse_args()
    sys.exit(bool(main(chosen.names, chosen.seconds)))
