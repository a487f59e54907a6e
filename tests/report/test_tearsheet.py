"The tables and the sentence of the tearsheet: too little data is said, never judged."

import numpy as np
import pandas as pd

from quantlab.backtest.stats import summary
from quantlab.report.tearsheet import format_table, metrics_table, verdict

SHORT = summary(pd.Series([0.01], index=pd.bdate_range("2020-01-01", periods=1)), 252)


def test_one_return_is_no_verdict():
    assert verdict(SHORT, float("nan"), float("nan")).startswith("**No verdict")


def test_what_is_missing_is_a_dash():
    assert (metrics_table({"one": SHORT}) != "").all().all()
    assert format_table(pd.DataFrame({"a": [1.0, np.nan]}), {"a": "{:.1f}"})["a"].tolist() == ["1.0", "–"]
