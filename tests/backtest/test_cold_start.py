"""A cold first call: what is not imported, and the one line that says what one waits for."""

import os
import subprocess
import sys

HEAVY = ("arch", "statsmodels", "scipy.stats", "scipy.signal", "scipy.optimize", "matplotlib", "sklearn")
LIGHT = (
    "core.plot", "features.rolling", "features.sets", "features.technical", "features.transform", "validation.scores",
    "validation.inference", "validation.deflate",
    "validation.longshort", "backtest.account", "backtest.engine", "backtest.orders", "backtest.stats",
    "backtest.capacity", "backtest.montecarlo", "backtest.doctor", "backtest.strategy", "strategy.examples",
)  # fmt: skip


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=True
    )


def test_heavy_libraries_wait_until_they_are_needed():
    imports = "".join(f"import quantlab.{name}\n" for name in LIGHT)
    found = python(f"import sys\n{imports}print([name for name in {HEAVY!r} if name in sys.modules])").stdout
    assert found.strip() == "[]"


def at_a_terminal(code, **environment):
    "Run code with its errors at a terminal; return what it wrote there and what it printed."
    ours, theirs = os.openpty()
    environment = os.environ | environment
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment, check=True
    )
    os.write(theirs, b"end")  # a terminal without a line would be read for ever
    written = os.read(ours, 10_000).decode().removesuffix("end")
    os.close(ours), os.close(theirs)
    return written, done.stdout


COMPILES = """
import numpy as np
from quantlab.backtest.account import tell_compiling
from quantlab.backtest.engine import _first_bad
from quantlab.broker.rebalance import _value_at
tell_compiling(), tell_compiling()
assert _first_bad(np.ones((2, 2))) == (-1, -1)
assert _value_at(*np.ones((4, 3))) == 3.0
"""


def test_who_waits_for_a_compilation_at_a_terminal_is_told_once(tmp_path):
    cold, warm = (at_a_terminal(COMPILES, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert cold[0].count("compiling kernels, once") == 1 and cold[0].count("\n") == 1 and cold[1] == ""
    assert warm == ("", "")


def test_output_that_goes_to_a_file_or_a_pipe_has_no_word_of_compiling(tmp_path):
    cold = python(COMPILES, NUMBA_CACHE_DIR=str(tmp_path))
    assert cold.stderr == cold.stdout == ""
