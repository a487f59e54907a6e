"""Settings, and the operations that decide when something is knowable."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core import config
from quantlab.core.errors import ConfigError
from quantlab.core.time import add_sessions, as_of


def test_environment_wins_over_the_file(monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_SEED", "99")
    assert config.setting("research", "seed", int) == 99


def test_root_is_found_from_below_and_from_outside(monkeypatch, tmp_path):
    root = config.root()
    monkeypatch.chdir(root / "nbs" / "core")
    assert config.root() == root
    monkeypatch.chdir(tmp_path)
    assert config.root() == root  # falls back to the folder that holds the package
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError):
        config.root()


def test_nbdev_settings_are_not_ours():
    with pytest.raises(ConfigError):
        config.setting("research", "lib_name")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=30), st.lists(st.integers(0, 70), min_size=1, max_size=20))
def test_as_of_never_reads_a_later_value(values, decisions):
    base = pd.Timestamp("2024-01-01")
    known = pd.DataFrame({"known_at": [base + pd.Timedelta(days=d) for d, _ in values], "v": [float(d) for d, _ in values]})
    asked = pd.DataFrame({"date": [base + pd.Timedelta(days=d) for d in decisions]})
    seen = as_of(known, asked)
    for day, value in zip(decisions, seen["v"], strict=True):
        past = [d for d, _ in values if d <= day]
        assert (np.isnan(value) and not past) or value == max(past)


@given(st.integers(-20, 20))
def test_sessions_forward_and_back(n):
    calendar = pd.bdate_range("2024-01-01", periods=15)
    moved = add_sessions(calendar, calendar, n)
    there = moved.notna()
    assert add_sessions(moved[there], calendar, -n).equals(calendar[there])
    assert there.sum() == max(15 - abs(n), 0)
