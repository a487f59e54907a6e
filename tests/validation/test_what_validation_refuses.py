"""The room's doors: spans that cannot be purged, folds that leak or are none, scores that cannot be paired; and
empty input."""

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import QuantlabError
from quantlab.validation.combinatorial import CombinatorialPurgedCV
from quantlab.validation.scores import (
    by_group,
    by_period,
    ic,
    quantile_returns,
    quantile_summary,
    quantile_turnover,
    rank_autocorrelation,
    rank_ic,
)
from quantlab.validation.splits import PurgedKFold, WalkForward, audit_splits

SESSIONS = pd.bdate_range("2024-01-01", periods=10, unit="us")
TINY = pd.DataFrame({"x": 0.0}, index=pd.MultiIndex.from_product([SESSIONS, ["A"]], names=["date", "symbol"]))
T1 = pd.Series(SESSIONS, index=TINY.index).shift(-2)


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("t1 lacks 1 of 10", lambda: WalkForward(5, 2).split(TINY, t1=T1.iloc[1:])),
        ("before it starts", lambda: WalkForward(5, 2).split(TINY, t1=T1 - pd.Timedelta(days=9))),
        ("time zone", lambda: WalkForward(5, 2).split(TINY, t1=T1.dt.tz_localize("UTC"))),
        ("too few for 3 blocks", lambda: PurgedKFold(3).split(TINY.iloc[:0], t1=T1)),
        ("too few for 3 blocks", lambda: PurgedKFold(3).split(TINY.iloc[:2], t1=T1)),
        ("n_splits is 1", lambda: PurgedKFold(1)),
        ("embargo is -1", lambda: PurgedKFold(5, -1)),
        ("nothing to learn", lambda: list(PurgedKFold(2, embargo=9).split(TINY, t1=T1))),
        ("t1 is missing", lambda: PurgedKFold(3).split(TINY)),
        ("train_sessions is 0", lambda: WalkForward(train_sessions=0)),
        ("embargo is 1.5", lambda: WalkForward(embargo=1.5)),
        ("leaves nothing", lambda: WalkForward(train_sessions=5, embargo=5)),
        ("0 sessions", lambda: WalkForward(5, 2).get_n_splits(TINY.iloc[:0])),
        ("1 sessions", lambda: WalkForward(5, 2).get_n_splits(TINY.iloc[:1])),
        ("nothing to learn", lambda: list(WalkForward(5, 2).split(TINY, t1=T1.mask(T1.notna())))),
        ("has not ended", lambda: audit_splits([([8], [9])], TINY.index, T1)),
        ("touch its test span", lambda: audit_splits([([3], [5])], TINY.index, T1)),
        ("touch its test span", lambda: audit_splits([([4], [0, 1, 2])], TINY.index, T1)),
        ("no rows", lambda: audit_splits([([], [5])], TINY.index, T1)),
        ("holds bool", lambda: audit_splits([([True], [5])], TINY.index, T1)),
        ("points at rows", lambda: audit_splits([([-1], [5])], TINY.index, T1)),
        ("no folds", lambda: audit_splits([], TINY.index, T1)),
        ("n_groups is 2.5", lambda: CombinatorialPurgedCV(2.5)),
        ("nothing to learn", lambda: list(CombinatorialPurgedCV(3, 2, embargo=9).split(TINY, t1=T1))),
        ("0 sessions", lambda: CombinatorialPurgedCV(3, 2).split(TINY.iloc[:0], t1=T1)),
        ("2 predictions for 3 splits", lambda: CombinatorialPurgedCV(3, 2).paths([TINY, TINY], TINY)),
    ],
)
def test_what_cannot_be_split_or_audited(part, call):
    with pytest.raises(QuantlabError, match=part):
        call()


def test_gaps_on_either_side():
    backwards = audit_splits([(np.array([6]), np.array([0, 1, 2]))], TINY.index, T1)  # trained after the test
    assert backwards["gap"].isna().all() and backwards["train_first"].iloc[0] == SESSIONS[6]
    assert backwards["gap_after"].tolist() == [1]  # the test is settled by 4; session 5 is free
    short = pd.Series(SESSIONS, index=TINY.index).shift(-1)
    between = audit_splits([(np.array([4]), np.array([0, 7]))], TINY.index, short)  # test blocks on both sides
    assert between[["gap", "gap_after"]].to_numpy().tolist() == [[1, 2]]


def panel(rows):
    dates = pd.bdate_range("2024-01-01", periods=len(rows), name="date", unit="us")
    return pd.DataFrame(rows, index=dates, columns=pd.Index(list("ABCDEFGHIJ")[: len(rows[0])], name="symbol")).stack(
        future_stack=True
    )


Y = panel(np.random.default_rng(0).normal(size=(6, 8)))
GROUPS = pd.Series("one", Y.index)
NOTHING = Y.iloc[:0]


def test_nothing_in_nothing_out():
    assert len(rank_ic(NOTHING, NOTHING)) == len(ic(NOTHING, Y)) == len(rank_autocorrelation(NOTHING)) == 0
    assert quantile_returns(NOTHING, NOTHING).shape == quantile_turnover(NOTHING).shape == (0, 5)
    assert len(by_group(rank_ic, NOTHING, NOTHING, GROUPS.iloc[:0])) == len(by_period(rank_ic(NOTHING, NOTHING))) == 0


def test_scores_of_holes_and_of_one_name_say_nothing():
    assert rank_ic(Y * np.nan, Y).isna().all() and quantile_returns(Y * np.nan, Y).isna().all(axis=None)
    assert quantile_summary(quantile_returns(Y * np.nan, Y))["mean"].isna().all()
    alone = Y.xs("A", level="symbol", drop_level=False)
    assert rank_ic(alone, alone).isna().all() and rank_ic(alone.iloc[:1], alone).isna().all()


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("no label", lambda: by_group(rank_ic, Y, Y, GROUPS.iloc[:0])),
        ("'fortnight'", lambda: by_period(rank_ic(Y, Y), "fortnight")),
        (r"y is infinite in 1 rows, first \(2024-01-01, C\)", lambda: ic(panel([[1, 2, 3]]), panel([[1, 2, np.inf]]))),
        ("one column", lambda: ic(Y.to_frame("y"), Y)),
        ("no row in common", lambda: ic(Y, NOTHING)),
        ("quantiles is 1", lambda: quantile_turnover(Y, quantiles=1)),
        ("lag is 0", lambda: rank_autocorrelation(Y, 0)),
    ],
)
def test_what_cannot_be_scored(part, call):
    with pytest.raises(QuantlabError, match=part):
        call()
