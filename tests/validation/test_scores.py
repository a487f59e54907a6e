"Scores against scipy and pandas; alphalens has its own file."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import to_wide
from quantlab.validation.scores import (
    by_group,
    by_period,
    ic,
    quantile_cells,
    quantile_returns,
    quantile_turnover,
    rank_autocorrelation,
    rank_ic,
    unit_rows,
)


def make_pair(rng, n_dates=12, n_symbols=15, missing=0.2, levels=None):
    "A score and an outcome on a ragged panel; few levels make ties."
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    index = index[rng.random(len(index)) >= missing / 2]
    draw = (
        (lambda: rng.integers(0, levels, len(index)).astype(float))
        if levels
        else (lambda: rng.standard_normal(len(index)))
    )
    score, y = (pd.Series(draw(), index=index).mask(rng.random(len(index)) < missing) for _ in range(2))
    return score, y


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([None, 2, 4, 9]), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.8])
)
def test_correlations_match_scipy_with_ties_and_gaps(seed, levels, n_symbols, missing):
    score, y = make_pair(np.random.default_rng(seed), 8, n_symbols, missing, levels)
    ranked, plain = rank_ic(score, y), ic(score, y)
    assert ranked.index.equals(score.index.get_level_values("date").unique())
    for date in ranked.index:
        pairs = pd.concat([score.xs(date), y.xs(date)], axis=1).dropna().to_numpy()
        if len(pairs) < 3 or np.ptp(pairs, axis=0).min() == 0:
            assert np.isnan(ranked[date]) and np.isnan(plain[date])
        else:
            assert ranked[date] == pytest.approx(stats.spearmanr(pairs).statistic, abs=1e-12)
            assert plain[date] == pytest.approx(stats.pearsonr(*pairs.T).statistic, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(2, 14))
def test_quantiles_match_qcut(seed, n, n_symbols):
    "Edges that fall on a name fall on the same side as pandas', so whole-number scores are part of it."
    rng = np.random.default_rng(seed)
    score, y = make_pair(rng, 6, n_symbols, 0.2)
    if seed % 2:
        score = score.groupby("date").rank()
    got = quantile_returns(score, y, n)
    for date in got.index:
        known = score.xs(date).dropna()
        if len(known) < n:
            assert got.loc[date].isna().all()
            continue
        groups = pd.qcut(known, n, labels=range(1, n + 1))
        expected = y.xs(date).reindex(known.index).groupby(groups, observed=False).mean()
        assert np.allclose(got.loc[date], expected, equal_nan=True)


@pytest.mark.parametrize("n", [10, 23, 49])
def test_edges_of_shares_that_floats_cannot_hold(n):
    score, y = make_pair(np.random.default_rng(n), 4, 2 * n + 1, 0.0)
    got, names = quantile_returns(score.groupby("date").rank(), y, n), score.groupby("date").rank()
    for date in got.index:
        groups = pd.qcut(names.xs(date), n, labels=range(1, n + 1))
        assert np.allclose(got.loc[date], y.xs(date).groupby(groups, observed=False).mean())


def test_groups_do_not_look_at_outcomes():
    score, y = make_pair(np.random.default_rng(1), missing=0.0)
    hidden = y.copy()
    hidden.iloc[::3] = np.nan
    wide = quantile_returns(score, hidden * 0 + 1.0)
    assert set(np.unique(wide.dropna())) <= {1.0}
    by_hand = pd.DataFrame({"g": quantile_groups(score), "y": hidden}).groupby(["date", "g"])["y"].mean().unstack()
    assert np.allclose(by_hand, quantile_returns(score, hidden), equal_nan=True)


def quantile_groups(score):
    "pandas' own quintiles, date by date."
    return score.groupby("date", group_keys=False).apply(
        lambda s: pd.Series(pd.qcut(s, 5, labels=False) + 1, index=s.index)
    )


def test_rows_of_y_that_were_not_scored_do_not_matter():
    score, y = make_pair(np.random.default_rng(2), 20)
    part = score[score.index.get_level_values("date") >= "2020-01-15"]
    assert rank_ic(part, y).equals(rank_ic(score, y).loc["2020-01-15":])
    renamed = pd.concat([y, y.rename(lambda s: f"Z{s}", level="symbol")]).sort_index()
    assert rank_ic(score, renamed).equals(rank_ic(score, y))


def test_symbols_in_any_order_give_the_same():
    score, y = make_pair(np.random.default_rng(3), missing=0.0)
    symbols = sorted(score.index.levels[1])
    swap = dict(zip(symbols, symbols[::-1], strict=True))
    renamed = [x.rename(swap, level="symbol").sort_index() for x in (score, y)]
    assert np.allclose(rank_ic(*renamed), rank_ic(score, y))


def test_autocorrelation_and_turnover_match_a_loop():
    score, _ = make_pair(np.random.default_rng(4), 10, 20)
    wide, lag = to_wide(score), 3
    moved, turned = rank_autocorrelation(score, lag), quantile_turnover(score, 4, lag)
    groups = wide.apply(lambda row: pd.qcut(row, 4, labels=False) + 1, axis=1)
    for i, date in enumerate(wide.index):
        if i < lag:
            assert np.isnan(moved[date]) and turned.loc[date].isna().all()
            continue
        both = pd.concat([wide.iloc[i].rank(), wide.iloc[i - lag].rank()], axis=1).dropna()
        assert moved[date] == pytest.approx(both.corr().iloc[0, 1])
        for group in range(1, 5):
            now, before = (set(g.index[g == group]) for g in (groups.iloc[i], groups.iloc[i - lag]))
            assert turned.loc[date, group] == pytest.approx(len(now - before) / len(now))


def test_degenerate_inputs():
    score, y = make_pair(np.random.default_rng(6))
    with pytest.raises(DataError, match=r"score is infinite in 1 rows, first \(2020-01-01"):
        rank_ic(score.where(score.index != score.index[0], np.inf), y)
    with pytest.raises(PanelError, match="no row in common"):
        rank_ic(score, y.rename(lambda s: f"Z{s}", level="symbol"))
    with pytest.raises(PanelError):
        rank_ic(score.iloc[::-1], y)
    with pytest.raises(PanelError, match="one column"):
        rank_ic(score.to_frame(), y)
    tenth = pd.Series(0.1, index=score.index)  # a constant whose mean is not exactly itself
    assert ic(tenth, y).isna().all() and rank_ic(tenth, y).isna().all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 2, 5]), st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0])
)
def test_unit_ranks_match_pandas(seed, levels, n, missing):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((7, n)) if levels is None else rng.integers(0, levels, (7, n)).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    assert np.allclose(
        unit_rows(values, True), unit_rows(pd.DataFrame(values).rank(axis=1).to_numpy()), rtol=0, atol=1e-14
    )


def test_a_frame_of_outcomes_equals_its_columns():
    score, y = make_pair(np.random.default_rng(7), 12, 15, 0.3, levels=4)
    other = y.mask(np.random.default_rng(8).random(len(y)) < 0.5)
    for function in (ic, rank_ic):
        both = function(score, pd.DataFrame({"a": y, 5: other}))
        assert both.columns.tolist() == ["a", 5]
        assert np.allclose(both["a"], function(score, y), equal_nan=True) and np.allclose(
            both[5], function(score, other), equal_nan=True
        )


def test_groups_are_ranked_within_and_missing_labels_left_out():
    score, y = make_pair(np.random.default_rng(9), 8, 20, 0.1)
    labels = pd.Series(np.random.default_rng(10).choice(["a", "b", "none"], len(score)), index=score.index).replace(
        "none", np.nan
    )
    split = by_group(rank_ic, score, y, labels)
    assert split.columns.tolist() == ["a", "b"] and split.index.equals(rank_ic(score, y).index)
    for name in "ab":
        assert np.allclose(split[name], rank_ic(score[labels == name], y).reindex(split.index), equal_nan=True)
    within, overall = (by_group(quantile_returns, score, y, labels, within=way, quantiles=2) for way in (True, False))
    assert np.allclose(within["a"], quantile_returns(score[labels == "a"], y, quantiles=2), equal_nan=True)
    assert np.allclose(overall["a"], quantile_returns(score, y.where(labels == "a"), quantiles=2), equal_nan=True)
    with pytest.raises(PanelError, match="no label"):
        by_group(rank_ic, score, y, labels * np.nan if labels.dtype == float else pd.Series(np.nan, score.index))


def test_periods_average_the_dates_that_are_there():
    dates = pd.to_datetime(["2020-01-02", "2020-01-03", "2020-02-03", "2021-03-01"]).as_unit("us")
    values = pd.Series([1.0, np.nan, 3.0, 5.0], index=dates)
    assert by_period(values)["mean"].tolist() == [2.0, 5.0] and by_period(values)["count"].tolist() == [2, 1]
    assert by_period(values, "ME")["count"].sum() == 3
    with pytest.raises(ConfigError, match="freq is 'often'"):
        by_period(values, "often")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 3]))
def test_cells_add_up(seed, levels):
    score, y = make_pair(np.random.default_rng(seed), 6, 20, 0.2, levels)
    cells, plain = quantile_cells(score, y, 4, demeaned=True), quantile_cells(score, y, 4)
    judged = cells.count.sum(axis=1) > 0
    assert np.allclose((cells.mean * cells.count).sum(axis=1)[judged], 0)  # what is taken off is the mean of all
    assert np.allclose(cells.se, plain.se, equal_nan=True)  # and moves no spread
    assert (cells.count.sum(axis=1)[judged] == (score.notna() & y.notna()).groupby("date").sum()[judged]).all()
    assert plain.mean.isna().equals(plain.count == 0) and plain.se.isna().equals(plain.count < 2)


@pytest.mark.parametrize("function", [rank_ic, ic, quantile_returns])
def test_scores_and_outcomes_on_two_clocks_are_refused(function):
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2024-01-01", periods=4), list("ABCDE")], names=["date", "symbol"]
    )
    y = pd.Series(np.arange(20.0), index)
    utc = y.set_axis(index.set_levels(index.levels[0].tz_localize("UTC"), level="date"))
    assert len(function(utc, utc)) == 4
    for a, b in ((utc, y), (y, utc)):
        with pytest.raises(PanelError, match="UTC.*without a time zone"):
            function(a, b)
    with pytest.raises(PanelError, match="groups is dated in UTC, score without"):
        by_group(function, y, y, utc.astype(int).astype(str))
