"""Pictures: axes whose ticks are distinct and true, the fall of the first day, the groups that exist."""

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from quantlab.backtest.stats import drawdown
from quantlab.core.errors import DataError
from quantlab.core.plot import figure, number_axis, percent_axis
from quantlab.report.factor import factor_table
from quantlab.report.figures import (
    equity_figure,
    ic_figure,
    importance_figure,
    monthly_figure,
    quantile_figure,
    regime_figure,
    rolling_sharpe_figure,
)
from quantlab.report.tearsheet import format_table
from quantlab.validation.scores import quantile_returns, quantile_turnover, rank_ic

DAYS = pd.bdate_range("2020-01-01", periods=300)


def labels(axis):
    """Return the labels in view, by the value at which they stand."""
    axis.get_figure().canvas.draw()
    low, high = sorted(axis.get_view_interval())
    found = {}
    for minor in (False, True):
        for text, at in zip(
            axis.get_ticklabels(which="minor" if minor else "major"), axis.get_ticklocs(minor=minor), strict=False
        ):
            if low <= at <= high and text.get_text():
                found[at] = text.get_text()
    return found


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", "").rstrip("%")) / (100 if text.endswith("%") else 1)


@pytest.mark.parametrize(
    ("low", "high"), [(1.6, 2.6), (1.0, 1.04), (0.2, 0.9), (90, 4200), (3e-5, 7e-5), (31_000, 64_000), (0.01, 500)]
)
def test_a_price_axis_tells_its_ticks_apart(low, high):
    close = pd.Series(np.linspace(low, high, 300), DAYS)
    found = labels(regime_figure(close, pd.DataFrame({"calm": 1.0, "turbulent": 0.0}, DAYS)).axes[0].yaxis)
    assert len(found) >= 2 and len(set(found.values())) == len(found)
    assert all(number(text) == pytest.approx(at, rel=1e-6) for at, text in found.items())


@pytest.mark.parametrize("top", [1e-5, 0.004, 0.013, 0.3, 2.5, 40.0])
def test_a_percent_axis_tells_its_ticks_apart(top):
    fig, ax = figure("t")
    ax.plot([-top, top / 3])
    found = labels(percent_axis(ax).yaxis)
    assert (
        len(found) >= 3
        and len(set(found.values())) == len(found)
        and all(text.endswith("%") for text in found.values())
    )
    assert all(number(text) == pytest.approx(at, abs=1e-6 * top) for at, text in found.items())


def test_money_is_written_out():
    fig, ax = figure("t")
    ax.plot([0, 3_000_000])
    number_axis(ax.yaxis)
    assert "1,000,000" in labels(ax.yaxis).values()
    shares = pd.DataFrame({"one": [0.004, 0.002, 0.001]}, index=list("abc"))
    found = labels(importance_figure(shares).axes[0].xaxis)
    assert len(set(found.values())) == len(found)


def test_the_fall_of_the_first_day_is_drawn():
    r = pd.Series([-0.10, -0.10, 0.05, 0.01], DAYS[:4])
    below = equity_figure(pd.DataFrame({"strategy": r, "index": -r})).axes[1]
    for line, returns in zip(below.lines, (r, -r), strict=True):
        np.testing.assert_allclose(line.get_ydata(), drawdown(returns))


def test_returns_that_never_vary_have_no_rolling_ratio():
    r = pd.Series(np.where(np.arange(300) < 150, 0.1 + 0.2 - 0.29, 0.01), DAYS)
    drawn = rolling_sharpe_figure(r, 252, lookback=20).axes[0].lines[0].get_ydata()
    assert np.isnan(np.asarray(drawn, dtype=float)).all()


def panel(draw, n=12):
    at = pd.MultiIndex.from_product([DAYS[:250], [f"N{k:02d}" for k in range(n)]], names=["date", "symbol"])
    g = np.random.default_rng(0)
    return pd.Series(draw(g, len(at)), at, dtype=float), pd.Series(g.normal(0, 0.02, len(at)), at)


@pytest.mark.parametrize(
    ("values", "groups"), [([-1, 0, 1], [1, 3, 5]), ([0, 1], [1, 5]), ([1, 2, 3, 4], [1, 2, 4, 5])]
)
def test_a_score_of_few_values_is_drawn_with_the_groups_that_exist(values, groups):
    score, y = panel(lambda g, n: g.choice(values, n))
    means = quantile_returns(score, y, 5)
    assert means.columns[means.notna().any()].tolist() == groups
    whole = y[score == values[-1]].groupby("date").mean()
    np.testing.assert_allclose(means[5].dropna(), whole.reindex(means[5].dropna().index))
    ax = quantile_figure(means, 5).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        str(g) for g in groups
    ] and "have no names" in ax.get_xlabel()
    assert quantile_turnover(score, 5)[5].notna().any()


def test_a_constant_score_is_said_before_anything_is_judged():
    for dust in (0.0, 1e-16):
        score, y = panel(lambda g, n, dust=dust: 0.3 + dust * g.choice([0, 1], n))
        assert rank_ic(score, y).isna().all()
        with pytest.raises(DataError, match="one value"):
            quantile_figure(quantile_returns(score, y, 5), 5)
        with pytest.raises(DataError, match="flat gives all names one value"):
            factor_table(score.to_frame("flat"), y, 5)


def test_text_in_a_table_is_shown_whole():
    remedy = "get a longer history, or trade more names, or believe it less " * 3
    table = format_table(pd.DataFrame({"remedy": [remedy], "x": [1.0]}), {"x": "{:.1f}"})
    assert (
        remedy.strip() in table._repr_html_()
        and remedy.strip() in table[["remedy"]].head(1)._repr_html_()
        and remedy.strip() in repr(table)
    )
    assert pd.get_option("display.max_colwidth") == 50


@pytest.mark.parametrize("days", [0, 1])
def test_an_account_of_a_day_or_none_is_drawn(days):
    returns = pd.DataFrame({"strategy": 0.01, "SPY": 0.02}, DAYS[:days])
    drawn = [equity_figure(returns), monthly_figure(returns["SPY"])]
    if days:
        drawn += [rolling_sharpe_figure(returns["SPY"], 252), ic_figure(returns["SPY"])]
    assert all(isinstance(one, Figure) for one in drawn)
