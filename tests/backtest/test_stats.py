"""Our statistics against empyrical-reloaded; where they differ, the difference is stated and tested."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest import stats
from quantlab.core.errors import ConfigError, DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import empyrical

returns_list = st.lists(st.floats(-0.2, 0.2).map(lambda x: round(x, 6)), min_size=3, max_size=60)


def series(values):
    return pd.Series(values, index=pd.bdate_range("2020-01-01", periods=len(values)), dtype=float)


@settings(max_examples=60, deadline=None)
@given(values=returns_list)
def test_same_as_empyrical(values):
    r = series(values)
    assert stats.annual_return(r, 252) == pytest.approx(empyrical.annual_return(r), rel=1e-9, abs=1e-12)
    assert stats.annual_volatility(r, 252) == pytest.approx(empyrical.annual_volatility(r), rel=1e-9, abs=1e-12)
    assert stats.max_drawdown(r) == pytest.approx(empyrical.max_drawdown(r), rel=1e-9, abs=1e-12)
    if np.quantile(values, 0.05) < -1e-6 and np.quantile(values, 0.95) > 0:
        assert stats.tail_ratio(r) == pytest.approx(empyrical.tail_ratio(r), rel=1e-9)
    if np.ptp(values) > 1e-6:
        assert stats.sharpe(r, 252) == pytest.approx(empyrical.sharpe_ratio(r), rel=1e-9, abs=1e-9)
    if min(values) < -1e-6:
        assert stats.sortino(r, 252) == pytest.approx(empyrical.sortino_ratio(r), rel=1e-9, abs=1e-9)
        assert stats.calmar(r, 252) == pytest.approx(empyrical.calmar_ratio(r), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(values=returns_list, seed=st.integers(0, 1000))
def test_beta_is_the_same_and_alpha_is_not_compounded(values, seed):
    b = series(values)
    if np.ptp(values) < 1e-3:
        return
    r = 0.4 * b + series(np.random.default_rng(seed).normal(0, 0.005, len(b)))
    ours = stats.alpha_beta(r, b, 252)
    assert ours.beta == pytest.approx(empyrical.beta(r, b), rel=1e-6, abs=1e-9)
    # empyrical compounds a daily alpha over the year, (1 + a)^252 - 1; a regression's alpha is additive.
    assert (1 + ours.alpha / 252) ** 252 - 1 == pytest.approx(empyrical.alpha(r, b), rel=1e-6, abs=1e-9)


def test_stated_differences_from_empyrical():
    flat = series([0.1] * 9)
    # Flat returns: rounding leaves empyrical a standard deviation of 1e-17 and a Sharpe ratio of 1e17; ours is NaN.
    assert np.isnan(stats.sharpe(flat, 252)) and not abs(empyrical.sharpe_ratio(flat)) < 1e6
    # No loss: empyrical's Sortino ratio is infinite; ours is NaN.
    assert np.isnan(stats.sortino(series([0.01, 0.02, 0.03]), 252))
    assert empyrical.sortino_ratio(series([0.01, 0.02, 0.03])) == np.inf
    # A NaN day: empyrical keeps it in the number of years of the annual return; we drop it.
    hole = series([0.01, np.nan, 0.02])
    assert stats.annual_return(hole, 252) == pytest.approx((1.01 * 1.02) ** (252 / 2) - 1)
    assert empyrical.annual_return(hole) == pytest.approx((1.01 * 1.02) ** (252 / 3) - 1)
    # Tail ratio: empyrical takes the size of both quantiles, so a history without a loss has one; ours is NaN, and
    # keeps the upper sign.
    rise = series([0.01, 0.02, 0.03])
    assert np.isnan(stats.tail_ratio(rise)) and empyrical.tail_ratio(rise) > 1
    assert stats.tail_ratio(-rise) == pytest.approx(-empyrical.tail_ratio(-rise))
    # After a total loss wealth stays at zero for both.
    assert stats.annual_return(series([0.1, -1.0, 0.5]), 252) == -1 == empyrical.annual_return(series([0.1, -1.0, 0.5]))


@settings(max_examples=40, deadline=None)
@given(values=returns_list, gap=st.integers(0, 59))
def test_a_missing_day_is_no_observation(values, gap):
    r = series(values)
    holed = pd.concat([r, pd.Series([np.nan], index=[r.index[min(gap, len(r) - 1)] + pd.Timedelta("1h")])]).sort_index()
    for function in (stats.annual_return, stats.annual_volatility, stats.sharpe, stats.sortino, stats.calmar):
        np.testing.assert_equal(function(holed, 252), function(r, 252))
    for function in (stats.hit_rate, stats.max_drawdown):
        np.testing.assert_equal(function(holed), function(r))


@pytest.mark.parametrize(
    "values", [[], [0.01], [np.nan], [0.0] * 20, [0.01, np.nan], [-1.0, 0.1], [-1.5, 0.2, 0.1], [1e-300] * 12]
)
def test_degenerate_histories_give_a_table(values):
    r = series(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = stats.summary(r, 252, benchmark=r, turnover=r.abs())
        falls = stats.drawdowns(r)
    assert list(table.columns) == ["value", "se", "low", "high"]
    assert list(table.index) == [
        "annual_return",
        "volatility",
        "sharpe",
        "sortino",
        "max_drawdown",
        "calmar",
        "hit_rate",
        "tail_ratio",
        "turnover",
        "alpha",
        "beta",
    ]
    assert not np.isinf(table.to_numpy()).any()
    assert list(falls.columns) == ["depth", "peak", "start", "trough", "end", "sessions"]
    if r.count() < 2:
        assert table.loc[["volatility", "sharpe", "sortino", "beta"]].isna().all(axis=None)


def test_a_benchmark_of_other_dates_changes_only_its_rows():
    rng = np.random.default_rng(1)
    r, b = series(rng.normal(0, 0.01, 300)), series(rng.normal(0, 0.01, 300)).iloc[100:250]
    alone, together = stats.summary(r, 252), stats.summary(r, 252, benchmark=b)
    pd.testing.assert_frame_equal(alone, together.loc[alone.index])
    assert together.at["beta", "value"] == stats.alpha_beta(r.iloc[100:250], b, 252).beta
    away = b.set_axis(b.index + pd.Timedelta(days=5000))
    assert stats.summary(r, 252, benchmark=away).loc[["alpha", "beta"]].isna().all(axis=None)


def test_intervals_cover():
    """95 % intervals of volatility and Sharpe hold the truth in 90 to 99 % of 200 histories of a year."""
    rng = np.random.default_rng(2)
    held = {"volatility": 0, "sharpe": 0, "hit_rate": 0}
    truth = {"volatility": 0.01 * np.sqrt(252), "sharpe": 0.05 * np.sqrt(252), "hit_rate": 0.519939}
    for _ in range(200):
        table = stats.summary(pd.Series(rng.normal(0.0005, 0.01, 252)), 252, draws=200)
        for name, value in truth.items():
            held[name] += table.at[name, "low"] <= value <= table.at[name, "high"]
    assert all(0.88 <= count / 200 <= 0.99 for count in held.values()), held


def test_bad_input_is_named():
    r = series([0.01, np.inf, 0.02])
    with pytest.raises(DataError, match="2020-01-02"):
        stats.sharpe(r, 252)
    with pytest.raises(ConfigError, match="periods_per_year"):
        stats.annual_volatility(r.iloc[:1], np.nan)
    with pytest.raises(ConfigError, match="block"):
        stats.bootstrap_rows(10, 5, block=0.5)


def account(trades):
    """A book of one name held at 50 on some days of ten, against equity of 100."""
    days = pd.bdate_range("2024-01-01", periods=10, name="date")
    held = pd.MultiIndex.from_product([days[trades], ["A"]], names=["date", "symbol"])
    return pd.DataFrame({"value": 50.0}, index=held), pd.Series(100.0, days)


def test_exposure_and_its_average():
    book, equity = account(slice(5, None))
    table = stats.summary(equity.pct_change().iloc[1:], 252, exposed=stats.exposure(book, equity))
    assert table.loc[["gross_exposure", "net_exposure", "in_market"], "value"].tolist() == [0.25, 0.25, 0.5]
    assert (table.loc["in_market", ["low", "high"]].between(0, 1)).all() and table.at["in_market", "se"] > 0
    flipped = stats.exposure(-book, equity)
    assert (flipped["net"] == -flipped["gross"]).all()
    none = stats.exposure(book.iloc[:0], equity)
    assert (none == 0).all(axis=None) and list(none.index) == list(equity.index)
    with pytest.raises(DataError, match="have no equity"):
        stats.exposure(book, equity.iloc[:7])


def test_turnover_has_an_error_that_knows_its_length():
    """A full change every 20 sessions: 25.2 a year; ten years know it better than one."""
    errors = []
    for years in (1, 10):
        turnover = series((np.arange(252 * years) % 20 == 0) * 2.0)
        row = stats.summary(0 * turnover, 252, turnover=turnover).loc["turnover"]
        assert row["low"] < 25.2 < row["high"]
        errors.append(row["se"])
    assert errors[1] < errors[0] / 2


def test_fall_dates_by_hand():
    r = pd.Series([0.1, -0.1, -0.1, 0.5, -0.5], index=pd.bdate_range("2024-01-01", periods=5))
    table = stats.drawdowns(r)
    assert table["depth"].tolist() == pytest.approx([-0.5, -0.19])
    assert table["peak"].tolist() == [r.index[3], r.index[0]] and table["trough"].tolist() == [r.index[4], r.index[2]]
    assert pd.isna(table["end"][0]) and table["end"][1] == r.index[3] and table["sessions"].tolist() == [1, 2]


DUSTY = [0.1 + 0.2 - 0.3 + 0.01, 0.01, 0.03 - 0.02, 0.01 * (1 - 1e-15)]  # one number, as arithmetic leaves it


@pytest.mark.parametrize("size", [1.0, -1.0, 1e-3, 10.0])
def test_returns_that_differ_by_rounding_have_no_ratio(size):
    flat, other = series(DUSTY * 30) * size, series(np.random.default_rng(0).normal(0, 0.01, 120))
    assert np.ptp(flat) > 0  # not equal to the last digit
    assert np.isnan(stats.sharpe(flat, 252)) and np.isnan(stats.sharpe(flat.to_numpy()[None], 252)).all()
    assert np.isnan(stats.alpha_beta(other, flat, 252)).all()
    assert stats.summary(flat, 252, benchmark=flat).loc[["sharpe", "beta"]].isna().all(axis=None)
    assert np.isfinite(stats.sharpe(series(other * 1e-6), 252))  # small is not flat


def test_a_balance_that_grows_evenly_has_no_ratio():
    balance = 1e6 * 1.00037 ** np.arange(500)
    assert np.isnan(stats.sharpe(pd.Series(balance).pct_change().dropna(), 252))
    rise = series(np.where(np.arange(40) % 2, 1e-17, 0.01))
    assert np.isnan(stats.sortino(rise - 1e-17, 252))


@pytest.mark.parametrize("fall", [0.1, 0.3, 0.07, 1 / 3])
def test_a_fall_that_recovered_has_ended(fall):
    r = series([0.05, -fall, 1 / (1 - fall) - 1, 0.0, -0.2])
    table = stats.drawdowns(r)
    ended = table[np.isclose(table["depth"], -fall)].iloc[0]
    assert ended["end"] == r.index[2] and ended["sessions"] == 1 and len(table) == 2
    long = np.random.default_rng(1).normal(0, 0.01, 5000)
    back = np.append(
        long, np.prod(1 + long) ** -1 * np.maximum(np.cumprod(1 + long).max(), 1) - 1
    )  # one day that regains the high
    assert pd.isna(stats.drawdowns(series(back), 1)["end"]).sum() == 0


def test_no_fall_is_an_empty_table_of_the_right_types():
    for r in (series([0.01, 0.02]), series([])):
        table, full = stats.drawdowns(r), stats.drawdowns(series([0.1, -0.2]))
        assert table.empty and table.dtypes.drop(["peak", "start", "trough", "end"]).equals(
            full.dtypes.drop(["peak", "start", "trough", "end"])
        )
        assert all(
            pd.api.types.is_datetime64_dtype(table[c]) and pd.api.types.is_datetime64_dtype(full[c])
            for c in ("peak", "start", "trough", "end")
        )
        assert table["peak"].dt.strftime("%Y-%m-%d").empty
    assert (
        stats.drawdowns(series([0.1, -0.2]).tz_localize("UTC"))["end"].dtype
        == stats.drawdowns(series([0.1]).tz_localize("UTC"))["end"].dtype
    )


def test_a_day_without_change_is_no_hit():
    assert stats.hit_rate(series([0.01, 0.0, -0.01, 0.02])) == 0.5
    assert stats.hit_rate(series([0.0, 0.0])) == 0.0 and np.isnan(stats.hit_rate(series([])))


@pytest.mark.parametrize("one", [0.01, -0.01, -1.0])
def test_one_return_has_no_ratio_and_two_have(one):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in (stats.sharpe, stats.sortino, stats.annual_volatility):
            assert np.isnan(measure(series([one]), 252)) and np.isfinite(measure(series([one, -0.02]), 252))
        assert np.isnan(stats.alpha_beta(series([one]), series([0.02]), 252)).all()
        assert stats.annual_return(series([0.01]), 12) == pytest.approx(1.01**12 - 1)
        assert stats.tail_ratio(series([one])) == (one / -one if one < 0 else pytest.approx(np.nan, nan_ok=True))


def test_by_hand():
    r = series([0.02, -0.01, 0.03, -0.02])
    down = np.sqrt((0.01**2 + 0.02**2) / 4)
    assert stats.sortino(r, 100) == pytest.approx(10 * 0.005 / down)
    assert stats.annual_volatility(r, 100) == pytest.approx(
        10 * np.sqrt((0.015**2 + 0.015**2 + 0.025**2 + 0.025**2) / 3)
    )
    assert stats.max_drawdown(r) == pytest.approx(-0.02) and stats.calmar(r, 4) == pytest.approx(
        (1.02 * 0.99 * 1.03 * 0.98 - 1) / 0.02
    )
    assert stats.annual_turnover(series([0.1, 0.0, 0.3]), 250) == pytest.approx(0.4 / 3 * 250) and np.isnan(
        stats.annual_turnover(series([]), 250)
    )
    assert stats.drawdown(series([-0.1, 0.2])).tolist() == pytest.approx([-0.1, 0.0])


def test_five_falls_are_listed_unless_told():
    r = series([x for depth in range(1, 8) for x in (-depth / 100, 0.2)])
    assert stats.drawdowns(r)["depth"].tolist() == pytest.approx([-0.07, -0.06, -0.05, -0.04, -0.03])
    assert len(stats.drawdowns(r, 7)) == 7
    ongoing = stats.drawdowns(series([0.1, -0.1, -0.1, -0.1]))
    assert ongoing["sessions"].tolist() == [3] and pd.isna(ongoing["end"][0])


@pytest.mark.parametrize(("block", "mean"), [(None, 10.0), (4.0, 4.0), (1.0, 1.0)])
def test_resampled_histories_are_blocks_of_the_mean_length(block, mean):
    """The stationary bootstrap: each position follows the one before it but for one in `block`, where a new block
    begins."""
    rows = stats.bootstrap_rows(1000, 200, block)
    assert rows.shape == (200, 1000) and rows.min() == 0 and rows.max() == 999
    broken = ((rows[:, 1:] - rows[:, :-1]) % 1000 != 1).mean()
    assert broken == pytest.approx((1 / mean) * 0.999, rel=0.02)
    assert (stats.bootstrap_rows(50, 3) == stats.bootstrap_rows(50, 3, None, 7)).all() and (
        stats.bootstrap_rows(50, 3) != stats.bootstrap_rows(50, 3, seed=8)
    ).any()
    assert stats.bootstrap_rows(0, 3).shape == (3, 0) and (stats.bootstrap_rows(1, 3) == 0).all()


def test_the_errors_of_a_summary_are_those_of_its_resampled_histories():
    rng = np.random.default_rng(3)
    b = series(rng.normal(0, 0.01, 400))
    r = 0.5 * b + series(rng.normal(0.0002, 0.005, 400))
    weights, equity = account(slice(7, None))
    table = stats.summary(r, 252, benchmark=b, turnover=r.abs(), exposed=stats.exposure(weights, equity))
    rows = stats.bootstrap_rows(400, 500, seed=7)
    drawn = stats.annual_volatility(r.to_numpy()[rows], 252)
    assert table.loc["volatility", ["se", "low", "high"]].tolist() == pytest.approx(
        [drawn.std(ddof=1), *np.quantile(drawn, [0.025, 0.975])]
    )
    lines = stats.alpha_beta(r.to_numpy()[rows], b.to_numpy()[rows], 252)
    assert table.at["beta", "se"] == pytest.approx(lines.beta.std(ddof=1)) and table.at["alpha", "se"] == pytest.approx(
        lines.alpha.std(ddof=1)
    )
    ratio, error = table.loc["sharpe", ["value", "se"]]
    assert table.loc["sharpe", ["low", "high"]].tolist() == pytest.approx([ratio - 1.96 * error, ratio + 1.96 * error])
    turned = (252 * r.abs().to_numpy())[rows].mean(axis=1)
    assert table.loc["turnover", ["value", "se"]].tolist() == pytest.approx([252 * r.abs().mean(), turned.std(ddof=1)])
    assert table.loc[["in_market", "gross_exposure", "net_exposure"], "value"].tolist() == pytest.approx(
        [0.3, 0.15, 0.15]
    )
    pd.testing.assert_frame_equal(stats.summary(r, 252), stats.summary(r, 252, None, None, 500, 7, None))


@pytest.mark.parametrize(("n", "known"), [(9, False), (10, True)])
def test_ten_observations_have_an_error(n, known):
    r = series(np.random.default_rng(0).normal(0, 0.01, n))
    table = stats.summary(r, 252, benchmark=series(np.random.default_rng(1).normal(0, 0.01, n)), turnover=r.abs())
    assert (table.loc[["volatility", "turnover", "beta"], ["se", "low", "high"]].notna() == known).all(axis=None)


def test_exposure_counts_and_signs_by_hand():
    days = pd.bdate_range("2024-01-01", periods=2, name="date")
    held = pd.MultiIndex.from_product([days[:1], ["A", "B"]], names=["date", "symbol"])
    got = stats.exposure(pd.DataFrame({"value": [30.0, -10.0]}, index=held), pd.Series([50.0, 50.0], days))
    assert got.iloc[0].tolist() == [0.8, 0.4, 2] and got.iloc[1].tolist() == [0, 0, 0]


def test_blocks_of_one_are_plain_draws():
    rng = np.random.default_rng(7)
    rng.random((3, 50))  # whether a block begins
    assert (stats.bootstrap_rows(50, 3, 1.0) == rng.integers(0, 50, (3, 50))).all()


@pytest.mark.parametrize("lost", [[-1.0, 0.5], [-1.5, 0.2], [0.1, -1.0]])
def test_what_is_lost_stays_lost(lost):
    assert stats.annual_return(series(lost), 252) == -1


@pytest.mark.parametrize("periods", [0, -1, -0.5, np.nan])
def test_a_year_has_periods(periods):
    with pytest.raises(ConfigError, match="periods_per_year"):
        stats.sharpe(series([0.01, 0.02]), periods)


def test_a_benchmark_that_doubles_evenly_is_flat():
    dusty = series([1.0, 1.0 + 4e-16, 1.0] * 20)
    assert (
        np.ptp(dusty) > 0
        and np.isnan(stats.alpha_beta(series(np.random.default_rng(0).normal(0, 0.01, 60)), dusty, 252)).all()
    )
