"The rule against a plain telling of it, one name at a time."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.portfolio.topk_drop import TopKDrop, orders, topk_drop


def told(held, score, tradable, k, n_drop):
    "Tell the rule with lists and loops."
    key = lambda i: (np.isnan(score[i]), -score[i] if not np.isnan(score[i]) else 0.0, i)
    own = [i for i in range(len(score)) if held[i]]
    others = sorted((i for i in range(len(score)) if not held[i] and not np.isnan(score[i])), key=key)
    candidates = others[: max(n_drop + k - len(own), 0)]
    together = sorted(own + candidates, key=key)
    bottom = together[-n_drop:] if n_drop else []
    leaving = [i for i in own if i in bottom]
    coming = candidates[: max(len(leaving) + k - len(own), 0)]
    return {i for i in leaving if tradable[i]}, [i for i in coming if tradable[i]], len(coming)


@st.composite
def days(draw):
    n = draw(st.integers(0, 14))
    values = st.one_of(st.just(np.nan), st.integers(-3, 3).map(float))  # many ties
    flags = lambda: np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    return (
        flags(),
        np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=float),
        flags(),
        draw(st.integers(1, 8)),
        draw(st.integers(0, 5)),
    )


@settings(max_examples=400, deadline=None)
@given(days())
def test_the_rule_is_what_it_is_told_to_be(day):
    sell, buy, wanted = topk_drop(*day)
    assert (set(sell.tolist()), buy.tolist(), wanted) == told(*day)


@settings(max_examples=200, deadline=None)
@given(days())
def test_what_may_never_happen(day):
    held, score, tradable, k, n_drop = day
    sell, buy, _ = topk_drop(*day)
    assert held[sell].all() and not held[buy].any() and tradable[sell].all() and tradable[buy].all()
    assert len(sell) <= n_drop and not np.isnan(score[buy]).any()
    assert len(buy) <= max(n_drop + k - held.sum(), 0)
    if tradable.all():
        assert held.sum() - len(sell) + len(buy) <= max(k, held.sum())
    enough = (
        ~held & ~np.isnan(score)
    ).sum() >= n_drop + k - held.sum()  # else Qlib's rule sells a name though only worse ones are left
    if enough and tradable.all() and held.sum() <= k and len(sell) and len(buy) and not np.isnan(score[sell]).any():
        assert score[buy].min() >= score[sell].max()  # never the worse for the better


@settings(max_examples=100, deadline=None)
@given(days(), st.floats(0.1, 10))
def test_only_the_order_of_scores_counts(day, factor):
    held, score, tradable, k, n_drop = day
    for a, b in zip(topk_drop(*day)[:2], topk_drop(held, np.exp(score / factor), tradable, k, n_drop)[:2], strict=True):
        assert a.tolist() == b.tolist()


def test_money_is_split_over_what_was_wanted():
    policy = TopKDrop(top_k=4, n_drop=1, invested=0.8)
    none, score = np.zeros(4, dtype=bool), np.array([4.0, 3, 2, 1])
    names, sizes = policy(none, score, np.array([True, False, True, True]))
    assert names.tolist() == [0, 2, 3] and np.allclose(sizes, 0.2)


def test_orders_by_name():
    found = orders(
        TopKDrop(top_k=2, n_drop=1),
        pd.Series({"A": 10.0, "Z": 5.0, "GONE": 0.0}),
        pd.Series({"A": 1.0, "B": 2.0, "C": 3.0}),
        pd.Series({"A": True, "B": True, "C": True, "Z": True}),
    )
    assert found.to_numpy().tolist() == [["Z", "SELL", 1.0], ["C", "BUY", 0.95]]
    stuck = orders(
        TopKDrop(top_k=2, n_drop=1),
        pd.Series({"A": 10.0, "Z": 5.0}),
        pd.Series({"A": 1.0, "B": 2.0}),
        pd.Series({"B": True}),
    )
    assert stuck["symbol"].tolist() == ["B"]  # Z is not in tradable


@pytest.mark.parametrize(
    "wrong",
    [{"top_k": 0}, {"top_k": 1.5}, {"n_drop": -1}, {"invested": 0}, {"invested": 1.01}, {"invested": float("nan")}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="out of range"):
        TopKDrop(**wrong)


def test_twice_named():
    twice = pd.Series([1.0, 2.0], ["A", "A"])
    for position in range(3):
        given_ = [pd.Series({"A": 1.0}), pd.Series({"A": 1.0}), pd.Series({"A": True})]
        given_[position] = twice
        with pytest.raises(PanelError, match="twice"):
            orders(TopKDrop(), *given_)


def test_scores_of_almost_nobody_are_no_session_for_the_names_held():
    held, everyone = pd.Series(1.0, list("ABCDEF")), pd.Series(True, list("ABCDEFGH"))
    with pytest.raises(PanelError, match="6 names are held and 1 has a score \\(G\\)"):
        orders(TopKDrop(3, 2), held, pd.Series({"G": 1.0, "H": np.nan}), everyone)
    assert len(orders(TopKDrop(3, 2), held, pd.Series({"G": 1.0, "H": 0.5}), everyone))
    assert len(orders(TopKDrop(3, 2), held.iloc[:2], pd.Series({"G": 1.0}), everyone))


def test_nobody_scored_means_no_orders():
    none = np.zeros(0, dtype=bool)
    assert [len(part) for part in TopKDrop()(none, np.zeros(0), none)] == [0, 0]
    empty = pd.Series(dtype=float)
    assert orders(TopKDrop(), empty, empty, pd.Series(dtype=bool)).empty


def test_infinite_scores_are_ordered_and_a_missing_one_is_not_bought():
    nobody = np.zeros(3, dtype=bool)
    names, sizes = TopKDrop(top_k=2)(nobody, np.array([np.inf, -np.inf, np.nan]), ~nobody)
    assert names.tolist() == [0, 1] and np.allclose(sizes, 0.475)
