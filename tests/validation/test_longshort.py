"Long and short by score: what has no answer, and why."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError
from quantlab.validation.longshort import factor_alpha, factor_returns, factor_weights

DATES = pd.bdate_range("2020-01-01", periods=200, unit="us")
INDEX = pd.MultiIndex.from_product([DATES, list("ABCDEF")], names=["date", "symbol"])
SCORE, Y = (pd.Series(x, index=INDEX) for x in np.random.default_rng(7).normal(0, 0.02, (2, len(INDEX))))


def test_nothing_held_earns_nothing():
    weights = factor_weights(SCORE)
    assert factor_weights(SCORE.iloc[:0]).empty and factor_returns(weights.iloc[:0], Y).empty
    assert factor_weights(SCORE * np.nan).isna().all() and factor_returns(weights * np.nan, Y).isna().all()
    assert factor_weights(SCORE.iloc[:1]).tolist() == [0.0]


def test_an_alpha_that_cannot_be_estimated_comes_with_its_reason():
    earned, universe = factor_returns(factor_weights(SCORE), Y), Y.groupby("date").mean()
    with pytest.raises(ConfigError, match="whole number"):
        factor_alpha(earned, universe, 0)
    assert "it takes 10" in factor_alpha(earned.iloc[:5], universe, 20).reason
    assert factor_alpha(earned.iloc[:0], universe, 20).n_dates == 0
    assert "never varies" in factor_alpha(earned, universe * 0, 20).reason
