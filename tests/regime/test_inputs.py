"Regime inputs: by hand, against pandas, known at the close, and refused where they cannot be made."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.regime.inputs import INPUTS, regime_inputs

DAYS = pd.bdate_range("2018-01-01", periods=420).as_unit("us")
RNG = np.random.default_rng(5)
CLOSE = pd.Series(100 * np.exp(np.cumsum(RNG.normal(3e-4, 0.01, 420))), DAYS, name="close")
WIDE = pd.DataFrame(50 * np.exp(np.cumsum(RNG.normal(0, 0.02, (420, 7)), axis=0)), DAYS, list("ABCDEFG"))
PANEL = WIDE.rename_axis("date").rename_axis("symbol", axis=1).stack()
ALL = regime_inputs(CLOSE, columns=INPUTS, panel=PANEL, slow=50)


def test_the_default_is_what_it_was_to_the_last_digit():
    r = pd.Series(np.diff(np.log(CLOSE.to_numpy()), prepend=np.nan), index=DAYS)
    want = pd.DataFrame({"log_return": r, "log_vol_21": 0.5 * np.log((r**2).rolling(21).mean())}).dropna()
    pd.testing.assert_frame_equal(regime_inputs(CLOSE), want, check_exact=True)
    assert len(want) == 399 and want.index.equals(DAYS[21:])


def test_columns_come_on_demand_and_in_the_order_asked_for():
    assert list(ALL) == ["log_return", "log_vol_21", "trend_50", "autocorr_21", "breadth_50"]
    few = regime_inputs(CLOSE, 10, ("log_return", "breadth", "autocorr"), 50, PANEL)
    assert list(few) == ["log_return", "breadth_50", "autocorr_10"]
    assert few["breadth_50"].loc[ALL.index].equals(ALL["breadth_50"])
    assert len(regime_inputs(CLOSE, columns=("log_return",))) == 419
    assert ALL.index.equals(DAYS[50:])  # the trend's volatility needs 50 returns


def test_each_column_against_a_plain_loop():
    r, log_price = np.diff(np.log(CLOSE.to_numpy()), prepend=np.nan), np.log(CLOSE.to_numpy())
    for t in (50, 51, 200, 419):
        day = DAYS[t]
        window = r[t - 20 : t + 1]
        together = (window[1:] * window[:-1]).sum()
        size = np.sqrt((window[1:] ** 2).sum() * (window[:-1] ** 2).sum())
        assert ALL.loc[day, "autocorr_21"] == pytest.approx(together / size, abs=1e-12)
        away = log_price[t] - log_price[t - 49 : t + 1].mean()
        wander = np.sqrt(50 * (r[t - 49 : t + 1] ** 2).mean())
        assert ALL.loc[day, "trend_50"] == pytest.approx(away / wander, abs=1e-9)
        above = WIDE.iloc[t] > WIDE.iloc[t - 49 : t + 1].mean()
        assert ALL.loc[day, "breadth_50"] == pytest.approx(above.mean())


def test_by_hand():
    zigzag = pd.Series([1.0, 2.0] * 4, DAYS[:8])
    doubling = pd.Series(2.0 ** np.arange(8), DAYS[:8])
    asked = ("log_return", "autocorr", "trend")
    assert regime_inputs(zigzag, 3, asked, 4)["autocorr_3"].to_numpy() == pytest.approx(-1)
    up = regime_inputs(doubling, 3, asked, 4)
    assert up["autocorr_3"].to_numpy() == pytest.approx(1) and up["trend_4"].to_numpy() == pytest.approx(0.75)


@pytest.mark.parametrize("cut", [51, 52, 130, 300, 419])
def test_no_row_moves_when_the_future_is_cut_off_or_changed(cut):
    day = DAYS[cut]
    part = regime_inputs(CLOSE[:day], columns=INPUTS, panel=PANEL[:day], slow=50)
    pd.testing.assert_frame_equal(part, ALL[:day], check_exact=True)
    other = CLOSE.copy()
    other[day:] *= 3.0
    moved = regime_inputs(other, columns=INPUTS, panel=PANEL, slow=50)
    before = ALL[: DAYS[cut - 1]]
    pd.testing.assert_frame_equal(moved[: DAYS[cut - 1]], before, check_exact=True)


def test_a_name_counts_from_its_first_full_window_and_a_hole_is_not_a_vote():
    late = PANEL.drop([(d, s) for d in DAYS[:100] for s in "ABC"])
    found = regime_inputs(CLOSE, 21, ("log_return", "breadth"), 50, late)["breadth_50"]
    above = WIDE.gt(WIDE.rolling(50).mean())
    assert found[DAYS[120]] == pytest.approx(above.loc[DAYS[120], list("DEFG")].mean())
    assert found[DAYS[149]] == pytest.approx(above.loc[DAYS[149]].mean())
    gone = PANEL.drop([(DAYS[200], s) for s in "ABCDEFG"])
    with pytest.raises(DataError, match="no name of the panel can be judged on"):
        regime_inputs(CLOSE, 21, ("log_return", "breadth"), 50, gone)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: regime_inputs(CLOSE, columns=()), ConfigError),
        (lambda: regime_inputs(CLOSE, columns=("log_vol", "log_return")), ConfigError),
        (lambda: regime_inputs(CLOSE, columns=("log_return", "mood")), ConfigError),
        (lambda: regime_inputs(CLOSE, columns=("log_return", "log_return")), ConfigError),
        (lambda: regime_inputs(CLOSE, slow=1), ConfigError),
        (lambda: regime_inputs(CLOSE, lookback=1), ConfigError),
        (lambda: regime_inputs(CLOSE, columns=("log_return", "breadth")), PanelError),
        (lambda: regime_inputs(CLOSE, columns=("log_return", "breadth"), panel=CLOSE), PanelError),
        (lambda: regime_inputs(CLOSE * np.nan), DataError),
        (lambda: regime_inputs(CLOSE * np.inf), DataError),
        (lambda: regime_inputs(CLOSE * 0 + 1, columns=("log_return", "autocorr")), DataError),
        (lambda: regime_inputs(CLOSE.iloc[::-1]), PanelError),
    ],
)
def test_what_cannot_be_made_is_refused(call, error):
    with pytest.raises(error):
        call()


def test_short_and_zoned_histories():
    asked = {"columns": INPUTS, "panel": PANEL, "slow": 50}
    assert len(regime_inputs(CLOSE[:0], **asked)) == len(regime_inputs(CLOSE[:1], **asked)) == 0
    assert len(regime_inputs(CLOSE[:50], **asked)) == 0 and len(regime_inputs(CLOSE[:51], **asked)) == 1
    zoned = CLOSE.tz_localize("America/New_York")
    assert regime_inputs(zoned, columns=INPUTS[:4], slow=50).to_numpy() == pytest.approx(ALL[list(ALL)[:4]].to_numpy())
