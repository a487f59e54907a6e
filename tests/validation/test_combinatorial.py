"Combinatorial purged splits: how many there are, and that every path is one whole history."

from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.validation.combinatorial import CombinatorialPurgedCV, path_table
from quantlab.validation.splits import PurgedKFold


def market(seed=0, n_dates=48, n_symbols=3):
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2024-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i}" for i in range(n_symbols)]], names=["date", "symbol"])
    index = index[rng.random(len(index)) < 0.8]
    where = np.minimum(dates.get_indexer(index.get_level_values("date")) + rng.integers(0, 3, len(index)), n_dates - 1)
    return pd.DataFrame({"x": rng.standard_normal(len(index))}, index=index), pd.Series(dates[where], index=index)


def split_numbers(cv, X, t1):
    "Predictions that say which split made them."
    return [
        pd.DataFrame({"score": 0.0, "fold": k}, index=X.index[test]) for k, (_, test) in enumerate(cv.split(X, t1=t1))
    ]


def test_six_groups_two_tested_make_15_splits_and_5_paths():
    X, t1 = market()
    cv = CombinatorialPurgedCV(6, 2, embargo=1)
    assert (
        (cv.get_n_splits(), cv.n_paths)
        == (15, 5)
        == (len(list(cv.split(X, t1=t1))), len(cv.paths(split_numbers(cv, X, t1), X)))
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(1, 6), st.integers(14, 60))
def test_every_path_covers_each_date_once_and_every_prediction_is_used_once(seed, n_groups, n_test, n_dates):
    if n_test >= n_groups:
        with pytest.raises(ConfigError, match="n_test_groups"):
            CombinatorialPurgedCV(n_groups, n_test)
        return
    X, _ = market(seed, n_dates)
    t1 = pd.Series(X.index.get_level_values("date"), index=X.index)  # no purge: the arithmetic of paths alone
    cv = CombinatorialPurgedCV(n_groups, n_test)
    predictions = split_numbers(cv, X, t1)
    paths = cv.paths(predictions, X)
    assert len(predictions) == comb(n_groups, n_test) and len(paths) == comb(n_groups - 1, n_test - 1)
    assert all(path.index.equals(X.index) for path in paths)
    used = pd.concat(paths).set_index("fold", append=True).index
    made = pd.concat(predictions).set_index("fold", append=True).index
    assert not used.has_duplicates and set(used) == set(made)
    group = np.repeat(path_table(cv).index, [len(rows) for _, rows in PurgedKFold(n_groups).split(X, t1=t1)])
    for path in paths:  # a path takes each group whole, from one split
        assert path["fold"].groupby(group).nunique().eq(1).all()


def test_known_table_of_six_and_two():
    "Lopez de Prado 2018, figure 12.1-12.2: group 1 is tested by splits 1-5, in paths 1-5."
    table = path_table(CombinatorialPurgedCV(6, 2))
    assert table.loc[0].tolist() == [0, 1, 2, 3, 4] + [-1] * 10
    assert table.loc[1].tolist() == [0, -1, -1, -1, -1, 1, 2, 3, 4] + [-1] * 6
    assert table.loc[5, [4, 8, 11, 13, 14]].tolist() == [0, 1, 2, 3, 4]
    assert ((table >= 0).sum() == 2).all() and ((table >= 0).sum(axis=1) == 5).all()


def test_one_test_group_is_a_purged_kfold():
    X, t1 = market(3)
    both = zip(CombinatorialPurgedCV(5, 1, 2).split(X, t1=t1), PurgedKFold(5, 2).split(X, t1=t1), strict=True)
    assert all((a == c).all() and (b == d).all() for (a, b), (c, d) in both)


def test_paths_refuse_what_does_not_fit():
    X, t1 = market()
    cv = CombinatorialPurgedCV(4, 2)
    good = split_numbers(cv, X, t1)
    with pytest.raises(PanelError, match="5 predictions for 6 splits"):
        cv.paths(good[:-1], X)
    with pytest.raises(PanelError, match="split 2"):
        cv.paths(good[:2] + [good[2].iloc[1:]] + good[3:], X)
    with pytest.raises(PanelError, match="split 0"):
        cv.paths([good[1], good[0], *good[2:]], X)
    assert [p.name for p in cv.paths([one["score"] for one in good], X)] == ["score"] * 3  # a Series stays one
