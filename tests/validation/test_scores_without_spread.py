"""A score that differs only by rounding holds nothing, and a universe that never varies has no beta."""

import numpy as np
import pandas as pd
import pytest

from quantlab.validation.longshort import factor_alpha, factor_weights
from quantlab.validation.scores import flat, ic, quantile_returns, rank_autocorrelation, rank_ic

AT = pd.MultiIndex.from_product([pd.bdate_range("2020-01-01", periods=30), list("ABCD")], names=["date", "symbol"])
DUSTY = pd.Series(np.tile([0.1 + 0.2, 0.3, 0.3 * (1 + 1e-15), 0.3], 30), AT)


@pytest.mark.parametrize("options", [{}, {"equal": True}, {"equal": True, "demeaned": True}])
@pytest.mark.parametrize("size", [1.0, -1.0, 1e6, 1e-9])
def test_a_score_that_differs_by_rounding_holds_nothing(options, size):
    assert (factor_weights(DUSTY * size, **options) == 0).all()
    assert (factor_weights(DUSTY * size + pd.Series(np.arange(120.0), AT), **options) != 0).any()


def test_a_score_that_differs_by_rounding_orders_nothing():
    y = pd.Series(np.random.default_rng(1).normal(size=120), AT)
    for size in (1.0, 1e-12, 1e12):
        assert (
            rank_ic(DUSTY * size, y).isna().all()
            and ic(DUSTY * size, y).isna().all()
            and rank_ic(y, DUSTY * size).isna().all()
        )
        assert rank_autocorrelation(DUSTY * size).isna().all() and quantile_returns(DUSTY * size, y, 2)[2].isna().all()
        assert rank_ic(y * size, y).notna().all()  # small is not flat


def test_a_flat_universe_has_no_beta_and_a_perfect_fit_no_t():
    dates = AT.unique("date")
    r, dust = (
        pd.Series(np.random.default_rng(2).normal(0, 0.01, 30), dates),
        pd.Series([0.1 + 0.2 - 0.29, 0.01, 0.03 - 0.02] * 10, dates),
    )
    line = factor_alpha(r, dust, 5)
    assert np.isnan([line.alpha, line.beta, line.t]).all() and "never varies" in line.reason
    assert np.isnan(factor_alpha(2 * r + 0.001, r, 5).t) and factor_alpha(2 * r + 0.001, r, 5).beta == pytest.approx(2)
    assert (
        flat(np.array([[1.0, 1 + 1e-15], [1.0, 1.1]])).tolist() == [True, False]
        and flat(np.zeros(5))
        and not flat(np.array([0.0, 1e-300]))
    )
