"Alphalens' layout: what has no score, no outcome or no dates is refused."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import DataError
from quantlab.report.alphalens import alphalens_frame


@pytest.fixture
def panel():
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=4).as_unit("us"), list("ABCDEF")], names=["date", "symbol"]
    )
    return pd.Series(np.arange(24.0), index, name="score")


def test_buckets_are_cut_within_each_date(panel):
    frame = alphalens_frame(panel, panel, horizon=5, quantiles=3)
    assert frame.groupby("date")["factor_quantile"].agg(list).map(lambda q: q == [1, 1, 2, 2, 3, 3]).all()
    assert list(frame) == ["5D", "factor", "factor_quantile"] and frame.index.names == ["date", "asset"]


@pytest.mark.parametrize("spoil", [lambda s: s * np.nan, lambda s: s.iloc[:0], lambda s: s.groupby("date").head(4)])
def test_no_date_with_a_name_for_each_bucket_is_refused(panel, spoil):
    with pytest.raises(DataError, match="no date has 5 names with both a score and an outcome"):
        alphalens_frame(spoil(panel), panel, 20)
