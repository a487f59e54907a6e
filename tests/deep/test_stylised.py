"Facts of a market: known laws are found within their errors, and frames that no fact can be read from are refused."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.stylised import (
    FACTS,
    check_history,
    compare_facts,
    kurtosis_over,
    lagged_correlation,
    leverage_effect,
    pair_correlations,
    stylised_facts,
    tail_index,
    yearly_falls,
)


def frame(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, pd.bdate_range("2000-01-03", periods=len(x), name="date"), list("ABCDEF")[: x.shape[1]])


def paths(x: np.ndarray) -> pd.DataFrame:
    return pd.concat({i: frame(part) for i, part in enumerate(x)}, names=["path"])


NORMAL = np.random.default_rng(0).normal(0, 0.01, (2000, 3))


def test_kurtosis_is_that_of_scipy_and_of_sums():
    x = np.random.default_rng(1).standard_t(5, (500, 2))
    assert kurtosis_over(x) == pytest.approx(kurtosis(x))
    sums = np.lib.stride_tricks.sliding_window_view(x, 5, axis=0).sum(axis=2)
    assert kurtosis_over(x, 5) == pytest.approx(kurtosis(sums))


@pytest.mark.parametrize("alpha", [2.0, 3.0, 5.0])
def test_the_tail_index_of_a_pareto_is_found_within_three_errors(alpha):
    losses = np.random.default_rng(2).pareto(alpha, (20_000, 3)) + 1
    assert abs(tail_index(-losses) - alpha).max() < 3 * alpha / 1000**0.5


def test_losses_count_for_the_tail_and_gains_do_not():
    x = np.abs(NORMAL)
    assert np.isnan(tail_index(x)).all()
    assert np.isfinite(tail_index(-x)).all()


def test_leverage_has_the_sign_that_was_planted():
    rng = np.random.default_rng(3)
    z, sd = rng.standard_normal(5000), np.ones(5000)
    for t in range(1, 5000):
        sd[t] = 1 + 0.9 * (sd[t - 1] - 1) + 0.3 * (z[t - 1] < -1)
    x = (sd * z)[:, None]
    assert leverage_effect(x)[0] < -0.03 < 0.03 < leverage_effect(-x)[0]


def test_falls_and_pairs_by_hand():
    assert yearly_falls(np.array([[0.1], [-0.2], [-0.5], [1.0]]), 4)[0] == pytest.approx(0.6)
    x = np.array([[1.0, 1, -1], [-1, -1, 1], [2, 2, -2]])
    assert pair_correlations(x) == pytest.approx([1, -1, -1]) and pair_correlations(x[:, :1]).size == 0


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_only_volatility_and_falls_know_the_scale(scale, seed):
    x = np.random.default_rng(seed).standard_t(4, (300, 3)) * 1e-3
    for name, fact in FACTS.items():
        if name not in ("volatility", "yearly fall"):
            assert fact(x * scale) == pytest.approx(fact(x), rel=1e-6, abs=1e-9), name
    assert FACTS["volatility"](x * scale) == pytest.approx(scale * FACTS["volatility"](x))


def test_errors_of_independent_normals_are_those_of_the_books():
    table = stylised_facts(frame(np.random.default_rng(4).normal(0, 0.01, (4000, 1))))
    known = {"kurtosis, 1 day": (24 / 4000) ** 0.5, "memory of returns, lag 1": 4000**-0.5}
    for name, se in known.items():
        assert 0.5 < table.at[name, "se"] / se < 1.8 and abs(table.at[name, "value"]) < 4 * se
    assert table.loc[["correlation", "spread of correlations"], "value"].isna().all()


def test_a_maker_of_the_same_law_is_not_found_and_one_of_another_is():
    rng = np.random.default_rng(5)
    same = compare_facts(frame(NORMAL), paths(rng.normal(0, 0.01, (4, 2000, 3))))["difference"].dropna().abs()
    other = compare_facts(frame(NORMAL), paths(0.01 * rng.standard_t(3, (4, 2000, 3))))["difference"].abs()
    assert (same > 3).sum() == 0 and other["kurtosis, 1 day"] > 3 and other["volatility"] > 3


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (NORMAL[:50], "give 100 dates"),
        (np.zeros((200, 2)), "never move"),
        (np.where(np.arange(600).reshape(200, 3) == 7, np.nan, NORMAL[:200]), "missing or infinite"),
        (np.where(np.arange(600).reshape(200, 3) == 7, np.inf, NORMAL[:200]), "missing or infinite"),
        (np.empty((0, 2)), "give 100 dates"),
    ],
)
def test_what_has_no_facts_is_refused(x, said):
    with pytest.raises(DataError, match=said):
        check_history(frame(x))


def test_order_and_names_are_checked():
    with pytest.raises(DataError, match="must rise"):
        check_history(frame(NORMAL)[::-1])
    with pytest.raises(DataError, match="name them alike"):
        compare_facts(frame(NORMAL), paths(NORMAL[None, :, :2]))
    with pytest.raises(DataError, match="two or more"):
        compare_facts(frame(NORMAL), paths(NORMAL[None]))
    with pytest.raises(ConfigError, match="batches"):
        stylised_facts(frame(NORMAL), 2)
    with pytest.raises(ConfigError, match="share"):
        tail_index(NORMAL, 0.0)


def test_memory_by_hand():
    x = np.array([[1.0], [2], [3], [4], [5]])
    assert lagged_correlation(x, x, 1)[0] == pytest.approx(np.mean([2, 0, 0, 2]) / 2)
