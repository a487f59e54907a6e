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


def test_who_waits_for_a_compilation_is_told_once(tmp_path):
    code = """
import numpy as np
from quantlab.backtest.account import tell_compiling
from quantlab.backtest.engine import _first_bad
from quantlab.broker.session import _value_at
tell_compiling(), tell_compiling()
assert _first_bad(np.ones((2, 2))) == (-1, -1)
assert _value_at(*np.ones((4, 3))) == 3.0
"""
    cold, warm = (python(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert cold.stderr.count("compiling kernels, once") == 1 and cold.stderr.count("\n") == 1 and cold.stdout == ""
    assert warm.stderr == warm.stdout == ""
