"Properties of all splitters over random panels, and the audit against brute force."

from dataclasses import FrozenInstanceError
from datetime import UTC
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from quantlab.core.errors import ConfigError, LeakError, PanelError
from quantlab.validation.combinatorial import CombinatorialPurgedCV
from quantlab.validation.splits import PurgedKFold, WalkForward, audit_splits


def make_panel(
    rng, n_dates, n_symbols, max_span, missing=0.2, unknown=0.1, start="1969-12-01", intraday=False, far=0.0
):
    """A ragged panel with random label ends, with gaps in its dates; dates straddle the epoch, where integer time
    changes sign."""
    if intraday:
        dates = pd.date_range("1969-12-31 20:00", periods=n_dates, freq="5min", tz="UTC", unit="us")
    else:
        dates = pd.bdate_range(start, periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    index = index[rng.random(len(index)) >= missing] if n_symbols > 1 else index
    X = pd.DataFrame({"x": rng.standard_normal(len(index))}, index=index)
    where = dates.get_indexer(index.get_level_values("date")) + rng.integers(0, max_span + 1, len(index))
    where = np.where(rng.random(len(index)) < far, n_dates - 1, where)  # a few labels cross whole blocks
    ends = pd.Series(dates[np.minimum(where, n_dates - 1)], index=index)
    return X, ends.mask((where >= n_dates) | (rng.random(len(index)) < unknown))


def spans(index, t1):
    "Start and end of each label; an unknown end is None."
    return list(zip(index.get_level_values("date"), [None if pd.isna(e) else e for e in t1], strict=True))


def touches(train, test):
    "Whether two closed spans have a point in common; a test row without a label holds only its date."
    (a0, a1), (b0, b1) = train, test
    return a0 <= (b1 if b1 is not None else b0) and b0 <= a1


panels = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(4, 40),
    st.integers(1, 5),
    st.integers(0, 8),
    st.booleans(),
    st.sampled_from([0.0, 0.03]),
)


@settings(max_examples=80, deadline=None)
@given(panels, st.integers(1, 20), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_walk_forward_never_overlaps_and_tests_each_date_once(panel, train, test, embargo, expanding):
    seed, n_dates, n_symbols, max_span, intraday, far = panel
    assume(embargo < train)
    X, t1 = make_panel(np.random.default_rng(seed), n_dates, n_symbols, max_span, intraday=intraday, far=far)
    dates = X.index.get_level_values("date").unique()
    assume(len(dates) > train)
    splitter = WalkForward(train, test, embargo, expanding)
    try:
        folds = list(splitter.split(X, t1=t1))
    except ConfigError as error:
        assert "nothing to learn" in str(error)
        return
    assert len(folds) == splitter.get_n_splits(X)
    all_spans, row_dates, tested = spans(X.index, t1), X.index.get_level_values("date"), []
    for train_rows, test_rows in folds:
        for rows in (train_rows, test_rows):
            assert rows.dtype.kind == "i" and len(np.unique(rows)) == len(rows)
            assert rows.min() >= 0 and rows.max() < len(X)
        first = row_dates[test_rows].min()
        quiet = dates[dates.get_loc(first) - embargo]
        assert all(all_spans[i][1] is not None and all_spans[i][1] < quiet for i in train_rows)
        assert not any(touches(all_spans[i], all_spans[j]) for i in train_rows for j in test_rows)
        begin = 0 if expanding else dates.get_loc(first) - train
        eligible = {i for i, (d, e) in enumerate(all_spans) if d >= dates[begin] and e is not None and e < quiet}
        assert eligible == set(train_rows)  # nothing is purged without need
        assert set(np.flatnonzero(row_dates.isin(row_dates[test_rows]))) == set(test_rows)  # whole dates
        assert len(row_dates[test_rows].unique()) <= test
        tested.extend(row_dates[test_rows].unique())
    assert tested == list(dates[train:])
    report = audit_splits(folds, X.index, t1)
    assert (report["gap"] >= embargo).all()
    assert report["test_first"].tolist() == [row_dates[rows].min() for _, rows in folds]


def brute_force_training(X, t1, test_rows, embargo):
    "The rows that may be trained on, pair by pair; test_rows is one block or several."
    dates = X.index.get_level_values("date")
    sessions, row_spans = dates.unique(), spans(X.index, t1)
    where = sessions.get_indexer(dates)
    tested = sorted(set(where[test_rows]))
    blocks = np.split(tested, np.flatnonzero(np.diff(tested) > 1) + 1)
    allowed = {i for i, (_, end) in enumerate(row_spans) if end is not None} - set(test_rows)
    for i in list(allowed):
        if any(touches(row_spans[i], row_spans[j]) for j in test_rows):
            allowed.discard(i)
    for block in blocks:  # whole runs of test sessions
        held = [row_spans[j][1] or row_spans[j][0] for j in test_rows if where[j] in set(block)]
        last = max((sessions <= max(held)).sum() - 1, block[-1])
        allowed -= {i for i in allowed if block[-1] < where[i] <= last + embargo}
    return allowed


splitters = st.one_of(
    st.builds(PurgedKFold, st.integers(2, 6), st.integers(0, 4)),
    st.builds(CombinatorialPurgedCV, st.integers(3, 6), st.integers(1, 2), st.integers(0, 4)),
)


@settings(max_examples=70, deadline=None)
@given(panels, splitters)
def test_blocks_in_the_middle_never_overlap_and_purge_nothing_without_need(panel, splitter):
    seed, n_dates, n_symbols, max_span, intraday, far = panel
    X, t1 = make_panel(np.random.default_rng(seed), n_dates, n_symbols, max_span, intraday=intraday, far=far)
    dates = X.index.get_level_values("date")
    few = getattr(splitter, "n_splits", 0) or splitter.n_groups
    if dates.nunique() < few:
        with pytest.raises(ConfigError, match="too few for"):
            splitter.split(X, t1=t1)
        return
    try:
        folds = list(splitter.split(X, t1=t1))
    except ConfigError as error:
        assert "nothing to learn" in str(error)
        return
    assert len(folds) == splitter.get_n_splits()
    tested = np.zeros(len(X), dtype=int)
    for train_rows, test_rows in folds:
        tested[test_rows] += 1
        assert set(np.flatnonzero(dates.isin(dates[test_rows]))) == set(test_rows)  # whole dates
        assert set(train_rows) == brute_force_training(X, t1, test_rows, splitter.embargo)
        assert train_rows.dtype.kind == "i" and (np.diff(train_rows) > 0).all()
    assert (tested == tested[0]).all()  # each date is tested equally often: once by k-fold
    assert tested[0] == getattr(splitter, "n_paths", 1)
    report = audit_splits(folds, X.index, t1)
    assert (report["gap_after"].dropna() >= splitter.embargo).all()


def test_the_embargo_is_exact():
    dates = pd.bdate_range("2024-01-01", periods=60, unit="us")
    index = pd.MultiIndex.from_product([dates, ["A", "B"]], names=["date", "symbol"])
    X, t1 = pd.DataFrame({"x": 0.0}, index=index), pd.Series(dates.repeat(2), index=index).groupby("symbol").shift(-3)
    for embargo in range(6):
        report = audit_splits(PurgedKFold(4, embargo).split(X, t1=t1), index, t1)
        assert report["gap_after"].tolist()[:3] == [embargo] * 3 and report["gap"].tolist()[1:] == [0] * 3


@settings(max_examples=80, deadline=None)
@given(panels, st.integers(1, 30), st.integers(1, 10))
def test_audit_agrees_with_all_pairs(panel, n_train, n_test):
    seed, n_dates, n_symbols, max_span, intraday, far = panel
    rng = np.random.default_rng(seed)
    X, t1 = make_panel(rng, n_dates, n_symbols, max_span, intraday=intraday, far=far)
    assume(len(X) > 4)
    order = rng.permutation(len(X))
    train, test = order[: min(n_train, len(X) // 2)], order[-min(n_test, len(X) // 2) :]
    all_spans = spans(X.index, t1)
    unknown = any(all_spans[i][1] is None for i in train)
    overlap = not unknown and any(touches(all_spans[i], all_spans[j]) for i in train for j in test)
    if unknown or overlap:
        with pytest.raises(LeakError, match="has not ended" if unknown else "touch its test span"):
            audit_splits([(train, test)], X.index, t1)
    else:
        assert len(audit_splits([(train, test)], X.index, t1)) == 1


def test_splits_do_not_depend_on_what_comes_later():
    X, t1 = make_panel(np.random.default_rng(1), 60, 4, 5)
    dates = X.index.get_level_values("date")
    cut = dates.unique()[45]
    early = X[dates <= cut]
    full, short = (list(WalkForward(20, 5, 2).split(x, t1=t1)) for x in (X, early))
    for (train_a, test_a), (train_b, test_b) in zip(full, short, strict=False):
        assert (train_a == train_b).all() and (test_b == test_a[: len(test_b)]).all()


def test_t1_is_aligned_by_row_not_by_position():
    X, t1 = make_panel(np.random.default_rng(2), 40, 4, 5)
    shuffled = t1.sample(frac=1, random_state=3)
    for (a, b), (c, d) in zip(
        WalkForward(15, 5).split(X, t1=t1), WalkForward(15, 5).split(X, t1=shuffled), strict=True
    ):
        assert (a == c).all() and (b == d).all()


def test_scikit_learn_takes_it_as_cv():
    X, t1 = make_panel(np.random.default_rng(4), 60, 4, 3)
    y = pd.Series(np.random.default_rng(5).standard_normal(len(X)), index=X.index)
    scores = cross_val_score(Ridge(), X, y, cv=WalkForward(20, 10, t1=t1))
    assert len(scores) == 4 and np.isfinite(scores).all()


@pytest.mark.parametrize("make", [PurgedKFold, CombinatorialPurgedCV])
def test_scikit_learn_takes_blocks_in_the_middle(make):
    X, t1 = make_panel(np.random.default_rng(4), 60, 4, 3)
    y = pd.Series(np.random.default_rng(5).standard_normal(len(X)), index=X.index)
    cv = make(embargo=1, t1=t1)
    scores = cross_val_score(Ridge(), X, y, cv=cv)
    assert len(scores) == cv.get_n_splits(X, y) and np.isfinite(scores).all()
    assert GridSearchCV(Ridge(), {"alpha": [1.0, 9.0]}, cv=cv).fit(X, y).n_splits_ == len(scores)


def test_audit_catches_a_row_count_splitter():
    X, t1 = make_panel(np.random.default_rng(6), 60, 20, 5, missing=0.0, unknown=0.0)
    known = t1.notna().to_numpy()
    with pytest.raises(LeakError, match=r"fold 0 trains on \d+ rows whose labels touch .* 19\d\d-\d\d-\d\d"):
        audit_splits(TimeSeriesSplit(4, gap=5).split(X[known]), X.index[known], t1[known])


def test_audit_catches_one_planted_row():
    X, t1 = make_panel(np.random.default_rng(7), 60, 5, 5, unknown=0.0)
    folds = list(WalkForward(20, 10).split(X, t1=t1))
    train, test = folds[1]
    late = max(set(range(train.min(), test.min())) - set(train))  # one of the purged rows
    folds[1] = (np.append(train, late), test)
    symbol = X.index[late][1]
    with pytest.raises(LeakError, match=f"fold 1 trains on 1 rows .*{symbol}"):
        audit_splits(folds, X.index, t1)


@pytest.mark.parametrize(
    "bad",
    [
        {"train_sessions": 0},
        {"test_sessions": 0},
        {"embargo": -1},
        {"train_sessions": 5.0},
        {"test_sessions": True},
        {"train_sessions": 5, "embargo": 5},
    ],
)
def test_bad_windows_are_refused(bad):
    with pytest.raises(ConfigError):
        WalkForward(**bad)


def test_degenerate_panels():
    X, t1 = make_panel(np.random.default_rng(8), 30, 1, 2)
    assert len(list(WalkForward(10, 5).split(X, t1=t1))) == 4  # one symbol
    for n in (0, 1, 10):
        with pytest.raises(ConfigError, match=f"{n} sessions"):
            WalkForward(10, 5).split(X.iloc[:n], t1=t1)
    with pytest.raises(ConfigError, match="t1 is missing"):
        WalkForward(10, 5).split(X)
    with pytest.raises(PanelError):
        WalkForward(10, 5).split(X.iloc[::-1], t1=t1)
    for make in (PurgedKFold, CombinatorialPurgedCV):
        assert len(list(make(t1=t1).split(X))) == make().get_n_splits()  # one symbol
        for n in (0, 1, 4):
            with pytest.raises(ConfigError, match=f"{n} sessions.*too few"):
                make().split(X.iloc[:n], t1=t1)
        with pytest.raises(ConfigError, match="t1 is missing"):
            make().split(X)
        with pytest.raises(PanelError):
            make().split(X.iloc[::-1], t1=t1)
        with pytest.raises(ConfigError, match="embargo"):
            make(embargo=-1)


def test_label_ends_on_another_clock_are_refused():
    index = pd.MultiIndex.from_product([pd.bdate_range("2024-01-01", periods=12), list("AB")], names=["date", "symbol"])
    X = pd.DataFrame({"x": 1.0}, index)
    t1 = pd.Series(index.get_level_values("date"), index)
    utc = X.set_axis(index.set_levels(index.levels[0].tz_localize("UTC"), level="date"))
    for rows, ends in (
        (X, t1.dt.tz_localize("UTC")),
        (utc, t1),
        (utc, t1.set_axis(utc.index)),
        (X, t1.set_axis(utc.index)),
    ):
        for splitter in (WalkForward(4, 2), PurgedKFold(2)):
            with pytest.raises(PanelError, match="UTC.*without a time zone"):
                list(splitter.split(rows, t1=ends))


def test_utc_under_another_name_is_utc():
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=12, freq="4h", tz="UTC"), list("AB")], names=["date", "symbol"]
    )
    X, t1 = pd.DataFrame({"x": 1.0}, index), pd.Series(index.get_level_values("date"), index)
    for other in (UTC, ZoneInfo("UTC")):
        renamed = t1.dt.tz_convert(other)
        for (a, b), (c, d) in zip(
            WalkForward(4, 2).split(X, t1=t1), WalkForward(4, 2).split(X, t1=renamed), strict=True
        ):
            assert np.array_equal(a, c) and np.array_equal(b, d)


def pair_panel(n=8):
    "Two names on n business days; each label ends a session later, the last is not known."
    dates = pd.bdate_range("2024-01-01", periods=n, unit="us")
    index = pd.MultiIndex.from_product([dates, list("AB")], names=["date", "symbol"])
    return pd.DataFrame({"x": 0.0}, index), pd.Series(dates.repeat(2), index).groupby("symbol").shift(-1), dates


def test_settings_are_fixed_and_labels_are_not_shown():
    X, t1, _ = pair_panel()
    for splitter in (WalkForward(t1=t1), PurgedKFold(t1=t1)):
        with pytest.raises(FrozenInstanceError):
            splitter.embargo = 3
        assert "t1" not in repr(splitter) and splitter == type(splitter)()
    assert WalkForward() == WalkForward(756, 63, 0, False) and PurgedKFold() == PurgedKFold(5, 0)
    for least in (1, 0):
        with pytest.raises(ConfigError, match="n_splits is .*at least 2"):
            PurgedKFold(least)
    assert len(list(PurgedKFold(2).split(X, t1=t1))) == 2 and WalkForward(2, 1, 1).embargo == 1


@pytest.mark.parametrize(("train", "test", "message"), [
    ([0, 1], [14, 16], "test points at rows 14 to 16 of 16"), ([-1, 0], [8], "train points at rows -1 to 0 of 16"),
    ([], [8], "fold 0, train has no rows"), ([0.0], [8], "train holds float64"), ([True], [8], "train holds bool"),
])  # fmt: skip
def test_positions_that_are_none_are_refused(train, test, message):
    X, t1, _ = pair_panel()
    with pytest.raises(PanelError, match=message):
        audit_splits([(np.array(train), np.array(test))], X.index, t1)
    audit_splits([(np.array([0], dtype=np.uint8), np.array([15]))], X.index, t1)


def test_the_report_of_a_fold_by_hand():
    X, t1, dates = pair_panel()
    report = audit_splits([(np.arange(0, 4), np.arange(8, 12)), (np.arange(12, 14), np.arange(0, 2))], X.index, t1)
    first = report.loc[0]
    assert first[["train_first", "train_last", "train_last_t1"]].tolist() == [dates[0], dates[1], dates[2]]
    assert first[["test_first", "test_last", "train_rows", "test_rows"]].tolist() == [dates[4], dates[5], 4, 4]
    assert first["gap"] == 1 and np.isnan(first["gap_after"])  # dates[3] lies between the last label's end and the test
    assert report.loc[1, "gap_after"] == 4 and np.isnan(report.loc[1, "gap"]) and report.index.name == "fold"
    assert (
        audit_splits([(np.arange(12, 14), np.arange(3))], X.index, t1).loc[0, "gap_after"] == 3
    )  # the last test label ends a session later
    with pytest.raises(ConfigError, match="no folds to audit"):
        audit_splits([], X.index, t1)


def test_a_leak_is_named_with_its_dates():
    X, t1, dates = pair_panel()
    with pytest.raises(
        LeakError,
        match=(
            r"fold 1 trains on 2 rows whose labels touch its test span from 2024-01-04, "
            r"first \(2024-01-03, A\) with its label open until 2024-01-04"
        ),
    ):
        audit_splits([(np.arange(2), np.arange(10, 12)), (np.arange(6), np.arange(6, 8))], X.index, t1)
    longer = t1.mask(t1.index == t1.index[5], dates[5])
    with pytest.raises(LeakError, match=r"first \(2024-01-03, A\) with its label open until 2024-01-04"):
        audit_splits([(np.arange(6), np.arange(6, 8))], X.index, longer)
    with pytest.raises(LeakError, match=r"trains on 1 rows whose label has not ended, first \(2024-01-10, B\)"):
        audit_splits([(np.array([0, 15]), np.array([6]))], X.index, t1)


def test_labels_that_do_not_fit_are_named():
    X, t1, dates = pair_panel()
    with pytest.raises(PanelError, match=r"t1 lacks 1 of 16 rows, first \(2024-01-02, A\)"):
        WalkForward(3, 2).split(X, t1=t1.drop(t1.index[2]))
    early = t1.mask(t1.index == t1.index[5], dates[0])
    with pytest.raises(PanelError, match=r"label of \(2024-01-03, B\) ends at 2024-01-01 00:00:00, before it starts"):
        WalkForward(3, 2).split(X, t1=early)
    with pytest.raises(
        ConfigError, match="the panel has 8 sessions, 2024-01-01 to 2024-01-10; train_sessions=8 leaves none"
    ):
        WalkForward(8, 2).split(X, t1=t1)
    assert len(list(WalkForward(7, 2).split(X, t1=t1))) == 1
    far = t1.mask(t1.index.isin(t1.index[:8]), dates[7])
    with pytest.raises(
        ConfigError,
        match=(
            "tested from 2024-01-03 has nothing to learn from: "
            "no label decided since 2024-01-01 ends before 2024-01-03"
        ),
    ):
        list(WalkForward(2, 2).split(X, t1=far))
    with pytest.raises(ConfigError, match="tested 2024-01-01 to 2024-01-04 has nothing to learn from"):
        list(PurgedKFold(2, 4).split(X, t1=t1))


def test_a_label_that_ends_where_the_test_begins_is_purged_and_one_before_is_not():
    X, t1, dates = pair_panel()
    train, test = next(iter(WalkForward(4, 2).split(X, t1=t1)))
    assert train.tolist() == [0, 1, 2, 3, 4, 5] and test.tolist() == [
        8,
        9,
        10,
        11,
    ]  # the rows of dates[3] end on dates[4]
    train, test = list(PurgedKFold(4).split(X, t1=t1))[1]
    assert test.tolist() == [4, 5, 6, 7] and train.tolist() == [
        0,
        1,
        10,
        11,
        12,
        13,
    ]  # dates[1] ends on dates[2]; the test's last label ends on dates[4]
