"Every registered feature: audited on real bars, its look-back true, one name once."

import numpy as np
import pandas as pd
import pytest

from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import check_feature, compute
from quantlab.features.sets import SETS

NAMES = ["AAPL", "BAC", "CVX", "GE", "IBM", "JNJ", "JPM", "KO", "MSFT", "PFE", "WMT", "XOM"]


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    chosen = adjust(sample_bars(NAMES, "2014-01-02", "2020-12-31"), "total")
    return chosen.assign(vwap=chosen[["high", "low", "close"]].mean(axis=1), amount=chosen["close"] * chosen["volume"])


@pytest.mark.parametrize("name", SETS)
def test_every_registered_feature_passes_the_audit(bars, name):
    verdict = check_feature(SETS[name], bars)
    assert verdict.status == "PASS", verdict


@pytest.mark.parametrize("name", SETS)
def test_a_set_on_degenerate_bars_is_nan_or_a_number(bars, name):
    features = SETS[name]
    names = [f.name for f in features]
    assert len(set(names)) == len(names)
    one_day = bars[bars.index.get_level_values("date") == bars.index[-1][0]]
    one_name = bars.xs("KO", level="symbol", drop_level=False).tail(400)
    flat = one_name.assign(open=5.0, high=5.0, low=5.0, close=5.0, vwap=5.0)
    cases = {
        "no row": bars.iloc[:0], "one row": bars.iloc[:1], "one day": one_day, "one name": one_name, "flat price": flat,
        "no trades": one_name.assign(volume=0.0, amount=0.0), "all NaN": one_name * np.nan,
        "infinite": one_name.assign(close=np.inf),
        "every third day": bars[pd.factorize(bars.index.get_level_values("date"))[0] % 3 == 0].tail(3000),
    }  # fmt: skip
    for case, some in cases.items():
        values = compute(some, features)
        assert values.shape == (len(some), len(features)) and values.index.equals(some.index), case
        assert not np.isinf(values.to_numpy(dtype=float)).any(), case
        if case == "all NaN":
            counted = [n for n in names if n.startswith("CNT")]  # the reference counts rises: none among unknown prices
            assert values.drop(columns=counted).isna().all(axis=None) and (values[counted] == 0).all(axis=None)
