"""The audit finds planted look-ahead and leaves honest functions alone, whatever the panel."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS, audit, auditing, require_causal, settling
from quantlab.core.errors import ConfigError, LeakError
from quantlab.core.panel import to_long, to_wide


def random_panel(seed, n_dates=90, n_symbols=4, holes=0.05):
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates), [f"S{i}" for i in range(n_symbols)]], names=["date", "symbol"]
    )
    panel = pd.DataFrame({"close": np.exp(rng.normal(0, 0.02, len(index)).cumsum() * 0.1 + 4)}, index=index)
    return panel[rng.random(len(panel)) > holes]


def per_column(transform):
    return lambda panel: to_long(transform(to_wide(panel["close"])), panel.index, name="x")


LEAKS = {
    "next return": lambda w: w.shift(-1) / w - 1,
    "centred mean": lambda w: w.rolling(11, center=True).mean(),
    "full-sample rank": lambda w: w.rank(pct=True),
    "full-sample mean": lambda w: w - w.mean(),
    "back-fill": lambda w: w.rolling(15).mean().bfill(),
    "global standard deviation": lambda w: w / w.stack().std(),
}
CLEAN = {
    "last return": lambda w: w / w.shift(1) - 1,
    "trailing mean": lambda w: w.rolling(11).mean(),
    "expanding mean": lambda w: w - w.expanding().mean(),
    "trailing deviation": lambda w: w.rolling(20).std(),
    "cross-sectional rank": lambda w: w.rank(axis=1, pct=True),
    "exponential mean": lambda w: w.ewm(halflife=5).mean(),
    "forward fill": lambda w: w.ffill(),
    "running maximum": lambda w: w / w.cummax(),
}


@pytest.mark.parametrize("name", LEAKS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_planted_leaks_are_caught(name, seed):
    assert audit(per_column(LEAKS[name]), random_panel(seed), name=name).status == LEAK


@pytest.mark.parametrize("name", CLEAN)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_honest_twins_pass(name, seed):
    verdict = audit(per_column(CLEAN[name]), random_panel(seed), name=name)
    assert verdict.status == PASS, verdict


def test_the_verdict_names_the_earliest_place():
    panel = random_panel(1, holes=0)
    leak_at = panel.index.unique("date")[40]

    def late(p):
        x = p["close"].copy()
        x[p.index.get_level_values("date") == leak_at] += p["close"].iloc[-1]
        return x.rename("late")

    verdict = audit(late, panel)
    assert (verdict.status, verdict.column, verdict.date) == (LEAK, "late", leak_at)
    with pytest.raises(LeakError, match="late"):
        require_causal(late, panel)


def test_what_cannot_be_judged_is_not_a_pass():
    panel = random_panel(2)
    rng = np.random.default_rng(0)
    for function in (lambda p: p["close"] * rng.random(), lambda p: p["close"] * np.nan, lambda p: p["close"].iloc[:0]):
        assert audit(function, panel).status == NOT_ASSESSED
    assert audit(lambda p: p["close"], panel.iloc[:3]).status == NOT_ASSESSED


UNSEEDED = np.random.default_rng(1)  # goes on from run to run


class TestWhatIsNoVerdict:
    panel = random_panel(5, holes=0.0)

    @pytest.mark.parametrize(
        ("function", "says"),
        [
            (lambda p: p["close"] * np.nan, "no numbers"),
            (lambda p: p["close"].iloc[:0], "no numbers"),
            (lambda p: 1 / 0, "failed on the whole panel: ZeroDivisionError"),
            (lambda p: 1.0, "return a Series"),
            (lambda p: p["close"] + UNSEEDED.normal(size=len(p)), "fix the seed"),
            (lambda p: p["close"] * (1.0 if auditing() else 2.0), "not watched"),
        ],
        ids=["NaN", "no rows", "fails", "a number", "unseeded", "watches"],
    )
    def test_is_not_assessed(self, function, says):
        verdict = audit(function, self.panel, name="f")
        assert verdict.status == NOT_ASSESSED and says in verdict.reason and not auditing()

    def test_of_too_little_history(self):
        assert audit(per_column(CLEAN["last return"]), self.panel.iloc[:0]).status == NOT_ASSESSED
        with pytest.raises(LeakError, match="NOT_ASSESSED"):
            require_causal(per_column(CLEAN["last return"]), self.panel.head(6))

    def test_a_refusal_of_some_panels_is_told(self):
        def picky(p):
            if p["close"].isna().any() or len(p) < 50:
                raise ValueError("holes, or too short")
            return p["close"]

        verdict = audit(picky, self.panel)
        assert verdict.status == PASS and "refused in part" in verdict.reason


@pytest.mark.parametrize(
    ("function", "where"),
    [
        (lambda p: p["close"].groupby("symbol").transform("max"), "close"),
        (lambda p: p["close"][p["close"] > p["close"].mean()], "rows"),
        (lambda p: p["close"].gt(p["close"].groupby("symbol").shift(-1)).map({True: "up", False: "down"}), "close"),
        (lambda p: per_column(LEAKS["centred mean"])(p) * 1e-12, "x"),
    ],
    ids=["maximum", "rows that go", "text", "tiny numbers"],
)
def test_where_it_moves(function, where):
    verdict = audit(function, random_panel(5, holes=0.0), name="f")
    assert (verdict.status, verdict.column) == (LEAK, where)


@pytest.mark.parametrize(
    "function",
    [
        lambda p: p["close"].groupby("date").mean(),
        lambda p: p["close"].gt(p["close"].groupby("symbol").shift(1)).map({True: "up", False: "down"}),
    ],
    ids=["by date", "text"],
)
def test_what_stays(function):
    assert audit(function, random_panel(5, holes=0.0), name="f").status == PASS


def test_settling_refuses_and_says_nothing_of_nothing():
    panel = random_panel(5, holes=0.0)
    with pytest.raises(ConfigError, match="tolerance"):
        settling(per_column(CLEAN["last return"]), panel, 0.0)
    assert np.isnan(settling(lambda p: p["close"] * np.nan, panel)["close"])
