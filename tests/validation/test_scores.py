"Scores against scipy, pandas and alphalens."

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quantlab.core.panel import DataError, PanelError, to_wide
from quantlab.validation.scores import ic, quantile_returns, quantile_turnover, rank_autocorrelation, rank_ic


def make_pair(rng, n_dates=12, n_symbols=15, missing=0.2, levels=None):
    "A score and an outcome on a ragged panel; few levels make ties."
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    index = index[rng.random(len(index)) >= missing / 2]
    draw = (lambda: rng.integers(0, levels, len(index)).astype(float)) if levels else (lambda: rng.standard_normal(len(index)))
    score, y = (pd.Series(draw(), index=index).mask(rng.random(len(index)) < missing) for _ in range(2))
    return score, y


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 2, 4, 9]), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.8]))
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
    rng = np.random.default_rng(seed)
    score, y = make_pair(rng, 6, n_symbols, 0.2)
    got = quantile_returns(score, y, n)
    for date in got.index:
        known = score.xs(date).dropna()
        if len(known) < n:
            assert got.loc[date].isna().all()
            continue
        edges = known.rank().to_numpy()  # ranks are exact, so are qcut's groups up to its rounding of edges
        groups = pd.Series(np.maximum(np.ceil((edges - 1) * n / max(len(known) - 1, 1)), 1).astype(int), index=known.index)
        agree = (pd.qcut(edges, n, labels=False) + 1 == groups).mean()
        assert agree == 1 or len(known) % n  # where edges fall on a name, floating point may move it in qcut
        expected = y.xs(date).reindex(known.index).groupby(groups).mean().reindex(range(1, n + 1))
        assert np.allclose(got.loc[date], expected, equal_nan=True)


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
    return score.groupby("date", group_keys=False).apply(lambda s: pd.Series(pd.qcut(s, 5, labels=False) + 1, index=s.index))


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
    groups = wide.apply(lambda row: np.ceil((row.rank() - 1) * 4 / (row.count() - 1)).clip(1), axis=1)
    for i, date in enumerate(wide.index):
        if i < lag:
            assert np.isnan(moved[date]) and turned.loc[date].isna().all()
            continue
        both = pd.concat([wide.iloc[i], wide.iloc[i - lag]], axis=1).dropna()
        assert moved[date] == pytest.approx(stats.spearmanr(both).statistic)
        for group in range(1, 5):
            now, before = (set(g.index[g == group]) for g in (groups.iloc[i], groups.iloc[i - lag]))
            assert turned.loc[date, group] == pytest.approx(len(now - before) / len(now))


@pytest.fixture(scope="module")
def peer():
    "The same small panel as alphalens sees it."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import alphalens as al
    rng = np.random.default_rng(5)
    dates, names = pd.bdate_range("2020-01-01", periods=40, unit="us"), [f"S{i:02d}" for i in range(23)]
    prices = pd.DataFrame(100 * np.exp(np.cumsum(0.02 * rng.standard_normal((40, 23)), axis=0)), index=dates, columns=names)
    slow = np.cumsum(rng.standard_normal((40, 23)), axis=0)
    score = pd.DataFrame(slow, index=pd.Index(dates, name="date"), columns=pd.Index(names, name="symbol")).stack().rename("score")
    factor = score.copy()
    factor.index = factor.index.set_names(["date", "asset"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = al.utils.get_clean_factor_and_forward_returns(factor, prices, quantiles=5, periods=(5,), max_loss=1.0)
    y = (prices.shift(-5) / prices - 1).rename_axis(index="date", columns="symbol").stack(future_stack=True)
    return al, data, score, y


@pytest.mark.filterwarnings("ignore")
def test_alphalens_ic(peer):
    al, data, score, y = peer
    theirs = al.performance.factor_information_coefficient(data)["5D"]
    assert np.allclose(rank_ic(score, y).dropna().to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_alphalens_quantile_returns(peer):
    al, data, score, y = peer
    theirs, _ = al.performance.mean_return_by_quantile(data, by_date=True, demeaned=False)
    theirs = theirs["5D"].unstack("factor_quantile")
    assert np.allclose(quantile_returns(score, y).dropna().to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_alphalens_turnover_and_autocorrelation(peer):
    al, data, score, _ = peer
    theirs = al.performance.quantile_turnover(data["factor_quantile"], 5, period=5).dropna()
    ours = quantile_turnover(score, 5, lag=5)[5]
    assert np.allclose(ours.loc[theirs.index].to_numpy(), theirs.to_numpy())
    theirs = al.performance.factor_rank_autocorrelation(data, period=5).dropna()
    assert np.allclose(rank_autocorrelation(score, 5).loc[theirs.index].to_numpy(), theirs.to_numpy())


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
