"""Our numbers are those of alphalens to 1e-9, on a random panel with ties and gaps and on the sample; ours is fed
the rows alphalens cleaned."""

import contextlib
import io
import warnings

import numpy as np
import pandas as pd
import pytest

from quantlab.core.panel import to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.data.universe import sectors_asof
from quantlab.validation.longshort import factor_alpha, factor_returns, factor_weights
from quantlab.validation.scores import (
    by_group,
    by_period,
    quantile_cells,
    quantile_returns,
    quantile_summary,
    quantile_turnover,
    rank_autocorrelation,
    rank_ic,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import alphalens as al

pytestmark = pytest.mark.filterwarnings("ignore")
COLUMNS = ("1D", "5D", "20D")


def random_market():
    "Prices, a score in steps (ties) with gaps, names that start late, and four groups."
    rng = np.random.default_rng(5)
    dates, names = pd.bdate_range("2020-01-01", periods=90, unit="us"), [f"S{i:02d}" for i in range(50)]
    prices = pd.DataFrame(
        100 * np.exp(np.cumsum(0.02 * rng.standard_normal((90, 50)), axis=0)), index=dates, columns=names
    )
    wide = pd.DataFrame(np.round(np.cumsum(rng.standard_normal((90, 50)), axis=0), 1), index=dates, columns=names)
    wide = wide.mask(rng.random(wide.shape) < 0.1)
    wide.iloc[:40, :12] = np.nan
    score = wide.rename_axis(index="date", columns="asset").stack()
    groups = pd.Series(rng.choice(list("wxyz"), len(score)), index=score.index)
    return prices, score, groups


def sample_market():
    "Momentum on half a year of the sample, with its sectors."
    bars = adjust(sample_bars(start="2016-01-01", end="2016-10-15"))
    close = to_wide(bars["close"])
    wide = close.shift(21) / close.shift(126) - 1
    score = wide.rename_axis(index="date", columns="asset").stack().dropna()
    groups = sectors_asof(score.index.set_names(["date", "symbol"])).fillna("none").to_numpy()
    return close.rename_axis(index=None, columns=None), score, pd.Series(groups, index=score.index)


@pytest.fixture(scope="module", params=[random_market, sample_market], ids=["random", "sample"])
def rows(request):
    "What alphalens cleaned, and the same under our names."
    prices, score, groups = request.param()
    with contextlib.redirect_stdout(io.StringIO()):
        data = al.utils.get_clean_factor_and_forward_returns(
            score, prices, groupby=groups, quantiles=5, periods=(1, 5, 20), max_loss=1.0
        )
    dated = data.index.get_level_values("date").unique()
    data.index = data.index.set_levels(pd.DatetimeIndex(data.index.levels[0], freq=None), level=0)
    assert len(dated) > 45 and data.groupby("date")["factor"].apply(lambda x: x.duplicated().any()).any() == (
        request.param is random_market
    )
    ours = data.rename_axis(["date", "symbol"])
    return data, ours


def same(ours, theirs):
    "Equal to 1e-9, NaN in the same places."
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    assert ours.shape == theirs.shape and np.isfinite(theirs).any()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_information_coefficient(rows):
    data, ours = rows
    same(rank_ic(ours["factor"], ours[list(COLUMNS)]), al.performance.factor_information_coefficient(data))


def test_information_coefficient_by_group(rows):
    data, ours = rows
    theirs = al.performance.factor_information_coefficient(data, by_group=True)
    sizes = data.groupby(["date", "group"], observed=True).size()
    for column in COLUMNS:
        mine = by_group(rank_ic, ours["factor"], ours[column], ours["group"].astype(str)).stack().dropna()
        one = theirs[column][sizes.reindex(theirs.index) >= 3].dropna()  # alphalens calls two names +1 or -1
        same(mine.reindex(one.index.set_names(mine.index.names)), one)
        assert len(mine) == len(one)


def test_information_coefficient_against_the_group_mean_and_by_time(rows):
    data, ours = rows
    crowded = (
        data.groupby(["date", "group"], observed=True)["factor"].transform("size") > 1
    ).to_numpy()  # a lone name is its own mean
    theirs = al.performance.factor_information_coefficient(data[crowded], group_adjust=True)["5D"]
    some = ours[crowded]
    adjusted = some["5D"] - some["5D"].groupby(
        [some.index.get_level_values("date"), some["group"].astype(str)]
    ).transform("mean")
    same(rank_ic(some["factor"], adjusted), theirs)
    monthly = al.performance.mean_information_coefficient(data, by_time="ME")
    same(by_period(rank_ic(ours["factor"], ours["20D"]), "ME")["mean"], monthly["20D"])


@pytest.mark.parametrize("demeaned", [False, True])
def test_quantile_means_and_errors(rows, demeaned):
    data, ours = rows
    mean, error = al.performance.mean_return_by_quantile(data, by_date=True, demeaned=demeaned)
    overall, overall_error = al.performance.mean_return_by_quantile(data, demeaned=demeaned)
    for column in COLUMNS:
        cells = quantile_cells(ours["factor"], ours[column], 5, demeaned)
        same(cells.mean, mean[column].unstack("factor_quantile"))
        same(cells.se, error[column].unstack("factor_quantile"))
        summary = quantile_summary(cells.mean)
        same(summary["mean"], overall[column])
        same(summary["se"], overall_error[column])


def test_quantile_counts_and_groups(rows):
    data, ours = rows
    counts = data.groupby(["date", "factor_quantile"]).size().unstack()
    same(quantile_cells(ours["factor"], ours["5D"]).count.where(lambda c: c > 0), counts)
    theirs, _ = al.performance.mean_return_by_quantile(data, by_date=True, by_group=True, demeaned=False)
    mine = by_group(quantile_returns, ours["factor"], ours["5D"], ours["group"].astype(str), within=False)
    theirs = theirs["5D"].unstack(["group", "factor_quantile"])
    same(mine[[(str(g), q) for g, q in theirs.columns]], theirs)


@pytest.mark.parametrize("lag", [1, 5, 20])
def test_turnover_and_autocorrelation(rows, lag):
    """Where a quantile is empty on a date ours is NaN; alphalens goes on to the last date that has members. Here
    none is."""
    data, ours = rows
    turnover = quantile_turnover(ours["factor"], 5, lag)
    for quantile in (1, 3, 5):
        theirs = al.performance.quantile_turnover(data["factor_quantile"], quantile, lag).dropna()
        same(turnover[quantile].dropna(), theirs)
        assert turnover[quantile].dropna().index.equals(theirs.index)
    theirs = al.performance.factor_rank_autocorrelation(data, lag)
    same(rank_autocorrelation(ours["factor"], lag), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"demeaned": False},
        {"equal": True},
        {"equal": True, "demeaned": False},
        {"groups": True},
        {"groups": True, "equal": True},
    ],
    ids=str,
)
def test_factor_weights_returns_alpha_and_beta(rows, options):
    late = rows[0].index.get_level_values("date").unique()[-20:]
    data, ours = (side.loc[late[0] :] for side in rows)
    there = {
        "demeaned": options.get("demeaned", True),
        "equal_weight": options.get("equal", False),
        "group_adjust": "groups" in options,
    }
    mine = factor_weights(
        ours["factor"], **(options | ({"groups": ours["group"].astype(str)} if "groups" in options else {}))
    )
    same(mine, al.performance.factor_weights(data, **there).reindex(data.index))
    theirs = al.performance.factor_returns(data, **there)
    figures = al.performance.factor_alpha_beta(data, returns=theirs.copy())
    for column, horizon in (("1D", 1), ("5D", 5), ("20D", 20)):
        earned = factor_returns(mine, ours[column])
        same(earned, theirs[column])
        line = factor_alpha(earned, ours[column].groupby("date").mean(), horizon)
        assert line.annual_alpha == pytest.approx(figures.loc["Ann. alpha", column], abs=1e-9)
        assert line.beta == pytest.approx(figures.loc["beta", column], abs=1e-9)


def test_errors_of_alpha_and_beta_match_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(9)
    market = pd.Series(rng.standard_normal(300) / 50, pd.bdate_range("2020-01-01", periods=300, unit="us"))
    earned = (
        0.002 - 0.4 * market + pd.Series(np.convolve(rng.standard_normal(304), np.ones(5), "valid") / 100, market.index)
    )
    fit = sm.OLS(earned, sm.add_constant(market)).fit(cov_type="HAC", cov_kwds={"maxlags": 20})
    line = factor_alpha(earned, market, 5)
    assert [line.alpha, line.beta, line.alpha_se, line.beta_se, line.p] == pytest.approx(
        [*fit.params, *fit.bse, fit.pvalues.iloc[0]]
    )
