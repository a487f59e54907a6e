"""A feature that looks ahead only where no audit is loaded, and its twin. It imports nothing of ours, or it would
load one."""

import sys

import pandas as pd


def leak(panel: pd.DataFrame) -> pd.Series:
    ahead = 0 if "quantlab.core.audit" in sys.modules else -1
    return panel["close"].groupby(level="symbol").pct_change(fill_method=None).groupby(level="symbol").shift(ahead)


def twin(panel: pd.DataFrame) -> pd.Series:
    assert "numpy" in sys.modules
    return panel["close"].groupby(level="symbol").pct_change(fill_method=None)
