"Lagged outcomes against a shift by hand, and half-lives of curves that are known."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import to_wide
from quantlab.data.synth import synth_market
from quantlab.labels.forward import forward_returns
from quantlab.validation.decay import half_life, ic_decay, lagged_outcomes
from quantlab.validation.inference import mean_ic


def ragged(seed=0, dates=40, names=6):
    "A panel with missing rows and missing values."
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=dates, unit="us"), list("ABCDEF")[:names]], names=["date", "symbol"]
    )
    return pd.Series(rng.standard_normal(len(index)), index=index).mask(rng.random(len(index)) < 0.1)[
        rng.random(len(index)) > 0.2
    ]


def test_lags_count_sessions_of_the_panel():
    y = ragged()
    wide, got = to_wide(y), lagged_outcomes(y, [0, 1, 7])
    assert got.index.equals(y.index) and got.columns.tolist() == [0, 1, 7]
    for (date, symbol), row in got.iloc[::11].iterrows():
        at = wide.index.get_loc(date)
        for lag in (0, 1, 7):
            expected = wide[symbol].iloc[at + lag] if at + lag < len(wide) else np.nan
            assert np.array_equal(row[lag], expected, equal_nan=True)
    assert lagged_outcomes(y, [400])[400].isna().all()
    for bad in ([], [-1], [1, 1], [2, 1], [0.5]):
        with pytest.raises(ConfigError, match="rising"):
            lagged_outcomes(y, bad)


def test_curve_is_the_test_of_each_column():
    score, outcomes = ragged(1), lagged_outcomes(ragged(2), [0, 3])
    curve = ic_decay(score, outcomes)
    for lag in (0, 3):
        test = mean_ic(score, outcomes[lag], "forward")
        assert curve.loc[lag, ["mean", "se", "p", "n_dates"]].tolist() == [test.mean, test.se, test.p, test.n_dates]


@pytest.mark.parametrize(("persistence", "seed"), [(0.8, 1), (0.93, 2)])
def test_planted_half_life_is_inside_the_interval(persistence, seed):
    world = synth_market(n_symbols=60, n_dates=1200, ic=0.12, persistence=persistence, seed=seed)
    found = half_life(
        ic_decay(
            world.features["factor"],
            lagged_outcomes(forward_returns(world.bars, 1)["y"], [0, 1, 2, 3, 4, 6, 8, 10, 13, 17, 22]),
        )
    )
    assert found.low < np.log(0.5) / np.log(persistence) < found.high


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 50), st.floats(0.01, 0.3), st.sampled_from([-1, 1]))
def test_exponential_curves_give_their_half_life(life, start, sign):
    lags = np.arange(0, 61)
    means = sign * start * 0.5 ** (lags / life)
    found = half_life(pd.DataFrame({"mean": means, "se": start / 1000}, index=lags))
    assert found.sessions == pytest.approx(life, abs=0.5) and found.low <= found.sessions <= found.high or life > 45
    shifted = half_life(pd.DataFrame({"mean": means, "se": start / 1000}, index=lags + 5))
    assert shifted.sessions == pytest.approx(found.sessions)  # counted from the first lag on


@pytest.mark.parametrize(
    ("mean", "se", "reason"),
    [
        ([0.01, 0.005, 0.0], 0.01, "nothing to halve"),
        ([0.1, 0.09, 0.08], 0.001, "still 80% of its first value at lag 2"),
        ([0.1], 0.001, "it takes two"),
        ([], 0.001, "it takes two"),
        ([np.nan, np.nan, 0.1], 0.001, "it takes two"),
        ([0.1, np.inf, 0.0], 0.001, "finite"),
    ],
)
def test_no_half_life_comes_with_its_reason(mean, se, reason):
    found = half_life(pd.DataFrame({"mean": mean, "se": se}, dtype=float))
    assert np.isnan(found.sessions) and reason in found.reason


def test_a_lag_that_is_missing_is_bridged_and_rising_lags_are_asked_for():
    frame = pd.DataFrame({"mean": [0.1, np.nan, 0.0], "se": 0.001})
    assert half_life(frame).sessions == pytest.approx(1.0)
    assert "rising" in half_life(frame.dropna().iloc[::-1]).reason


def test_no_scores_have_a_curve_without_numbers_and_a_reason():
    y = ragged(3)
    nothing = ic_decay(y.iloc[:0], lagged_outcomes(y, [0, 1]))
    assert nothing["mean"].isna().all() and (nothing["reason"] != "").all() and half_life(nothing).reason
    assert lagged_outcomes(y.iloc[:0], [0, 1]).shape == (0, 2)
    with pytest.raises(DataError, match="infinite"):
        ic_decay(y * np.inf, lagged_outcomes(y, [0]))
