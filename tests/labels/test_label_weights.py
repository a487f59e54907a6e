"""Concurrency, uniqueness, attribution, decay and the sequential bootstrap against plain loops."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.labels.weights import (
    _draw,
    attribution,
    concurrency,
    label_sessions,
    sequential_bootstrap,
    time_decay,
    uniqueness,
)

LIGHT = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10**6)
DAYS = pd.date_range("2024-01-01", periods=25, unit="us")


def some_labels(seed: int, symbols: str = "ABC", n: int = 25, longest: int = 6) -> pd.DataFrame:
    """Labels with random spans on some rows; entry today or tomorrow, end on the entry session or later."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([DAYS[:n], pd.Index(list(symbols), dtype="str")], names=["date", "symbol"])
    index = index[rng.random(len(index)) < 0.8]
    row = DAYS.get_indexer(index.get_level_values("date"))
    entry = row + rng.integers(0, 2, len(row))
    end = np.maximum(entry + rng.integers(0, longest, len(row)), row + 1)
    known = (end < n) & (rng.random(len(row)) < 0.9)
    pick = lambda x: pd.DatetimeIndex(DAYS.take(np.where(known, x, -1), allow_fill=True, fill_value=pd.NaT))
    return pd.DataFrame({"entry": pick(entry), "t1": pick(end)}, index=index)


def used(label) -> range:
    """The sessions that a label uses."""
    e, x = DAYS.get_loc(label.entry), DAYS.get_loc(label.t1)
    return range(min(e + 1, x), x + 1)


def plain_counts(labels: pd.DataFrame) -> dict:
    counted = {}
    for key, label in zip(labels.index, labels.itertuples(), strict=True):
        if label.t1 == label.t1:
            for t in used(label):
                counted[t, key[1]] = counted.get((t, key[1]), 0) + 1
    return counted


@LIGHT
@given(seed=SEEDS)
def test_concurrency_and_uniqueness_equal_the_definition(seed) -> None:
    labels = some_labels(seed)
    counted = plain_counts(labels)
    wide = concurrency(labels, DAYS)
    for t in range(len(DAYS)):
        for symbol in wide.columns:
            assert wide.loc[DAYS[t], symbol] == counted.get((t, symbol), 0)
    for (_, symbol), label, ours in zip(labels.index, labels.itertuples(), uniqueness(labels, DAYS), strict=True):
        if label.t1 != label.t1:
            assert np.isnan(ours)
        else:
            assert np.isclose(ours, np.mean([1 / counted[t, symbol] for t in used(label)]))


@LIGHT
@given(seed=SEEDS)
def test_attribution_equals_the_definition(seed) -> None:
    labels = some_labels(seed)
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([DAYS, pd.Index(list("ABC"), dtype="str")], names=["date", "symbol"])
    close = pd.Series(np.exp(rng.normal(0, 0.1, len(index))), index=index)
    counted = plain_counts(labels)
    size = []
    for (_, symbol), label in zip(labels.index, labels.itertuples(), strict=True):
        if label.t1 != label.t1:
            size.append(np.nan)
        else:
            move = lambda t, symbol=symbol: np.log(close[DAYS[t], symbol] / close[DAYS[t - 1], symbol]) if t else 0.0
            size.append(abs(sum(move(t) / counted[t, symbol] for t in used(label))))
    np.testing.assert_allclose(attribution(labels, close), np.array(size) / np.nanmean(size), atol=1e-9)
    np.testing.assert_allclose(attribution(labels, close * 8), attribution(labels, close), atol=1e-9)


@LIGHT
@given(seed=SEEDS)
def test_symbols_keep_their_own_accounts(seed) -> None:
    labels = some_labels(seed)
    names = dict(zip("ABC", "CAB", strict=True))
    moved = lambda x: x.rename(index=names, level="symbol").sort_index()
    pd.testing.assert_series_equal(uniqueness(moved(labels), DAYS), moved(uniqueness(labels, DAYS)))
    alone = labels[labels.index.get_level_values("symbol") == "B"]
    pd.testing.assert_series_equal(uniqueness(alone, DAYS), uniqueness(labels, DAYS)[alone.index])


@LIGHT
@given(seed=SEEDS, oldest=st.sampled_from([1.0, 0.5, 0.0, -0.3]))
def test_time_decay(seed, oldest) -> None:
    unique = uniqueness(some_labels(seed), DAYS)
    decay = time_decay(unique, oldest)
    assert decay.isna().equals(unique.isna()) and decay.dropna().between(0, 1).all()
    by_date = decay.groupby("date").agg(["min", "max"]).dropna()
    assert (
        np.allclose(by_date["min"], by_date["max"])
        and by_date["min"].is_monotonic_increasing
        and np.isclose(by_date["max"].iloc[-1], 1)
    )
    passed = unique.groupby("date").sum().cumsum() / unique.sum()
    for (date, _), value in decay.dropna().items():
        expected = (
            oldest + (1 - oldest) * passed[date] if oldest >= 0 else max((passed[date] + oldest) / (1 + oldest), 0)
        )
        assert np.isclose(value, expected)


def test_sequential_draws_follow_their_law() -> None:
    """The joint law of three draws from four labels equals the product of the book's probabilities."""
    index = pd.MultiIndex.from_arrays([DAYS[[0, 0, 1, 2]], ["A", "B", "A", "A"]], names=["date", "symbol"])
    labels = pd.DataFrame({"entry": DAYS[[0, 0, 1, 2]], "t1": DAYS[[3, 2, 4, 6]]}, index=index)
    cells = [set((t, s) for t in used(r)) for (_, s), r in zip(index, labels.itertuples(), strict=True)]

    def law(drawn):
        u = np.array([np.mean([1 / (1 + sum(cell in cells[j] for j in drawn)) for cell in own]) for own in cells])
        return u / u.sum()

    n = 60_000
    at, rng = label_sessions(labels, DAYS), np.random.default_rng(0)
    draws = np.array([_draw(at.first, at.last, at.col, np.zeros((2, len(DAYS))), 3, rng) for _ in range(n)])
    assert np.array_equal(draws[0], sequential_bootstrap(labels, 3, 0, DAYS))
    seen = np.zeros((4, 4, 4))
    np.add.at(seen, tuple(draws.T), 1 / n)
    expected = np.array(
        [[[law([])[i] * law([i])[j] * law([i, j])[k] for k in range(4)] for j in range(4)] for i in range(4)]
    )
    error = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(seen - expected) < 4.2 * error).all() and np.abs(expected - 1 / 64).max() > 0.01


@LIGHT
@given(seed=SEEDS)
def test_sequential_bootstrap_draws_labelled_rows_and_repeats_itself(seed) -> None:
    labels = some_labels(seed)
    rows = sequential_bootstrap(labels, seed=seed, sessions=DAYS)
    assert len(rows) == labels["t1"].notna().sum() and labels["t1"].iloc[rows].notna().all()
    assert np.array_equal(rows, sequential_bootstrap(labels, seed=seed, sessions=DAYS))


def test_refusals_and_degenerate() -> None:
    labels = some_labels(0)
    close = pd.Series(
        1.0, index=pd.MultiIndex.from_product([DAYS, pd.Index(list("ABC"), dtype="str")], names=["date", "symbol"])
    )
    empty = labels.iloc[:0]
    assert (
        uniqueness(empty).empty
        and concurrency(empty).empty
        and attribution(empty, close).empty
        and time_decay(uniqueness(empty)).empty
    )
    assert len(sequential_bootstrap(empty)) == 0 and len(sequential_bootstrap(labels, 0, sessions=DAYS)) == 0
    unknown = labels.assign(t1=pd.NaT)
    unknown["t1"] = unknown["t1"].astype("datetime64[us]")
    assert (
        uniqueness(unknown).isna().all()
        and attribution(unknown, close).isna().all()
        and time_decay(uniqueness(unknown)).isna().all()
    )
    assert attribution(labels, close).dropna().eq(0).all()  # nothing moved
    with pytest.raises(ConfigError, match="cannot draw"):
        sequential_bootstrap(unknown, 3)
    with pytest.raises(PanelError, match="pass the sessions"):
        uniqueness(labels, DAYS[:10])
    with pytest.raises(PanelError, match="lacks"):
        uniqueness(labels[["entry"]])
    with pytest.raises(PanelError, match="no close for"):
        attribution(labels, close[close.index.get_level_values("symbol") != "B"])
    for oldest in (-1, 1.5, np.nan):
        with pytest.raises(ConfigError, match="oldest"):
            time_decay(uniqueness(labels, DAYS), oldest)


def test_fast_on_the_size_of_the_sample() -> None:
    dates = pd.date_range("2010-01-01", periods=3500, unit="us")
    index = pd.MultiIndex.from_product(
        [dates[:-25], pd.Index([f"S{i:03}" for i in range(120)], dtype="str")], names=["date", "symbol"]
    )
    row = np.repeat(np.arange(3475), 120)
    labels = pd.DataFrame({"entry": dates[row + 1], "t1": dates[row + 21]}, index=index)
    sequential_bootstrap(labels, 10, sessions=dates)
    unique = uniqueness(labels, dates)
    rows = sequential_bootstrap(labels, sessions=dates)
    assert np.isclose(unique.median(), 1 / 20) and len(rows) == len(labels)


def test_the_defaults_are_these() -> None:
    labels = some_labels(1)
    unique = uniqueness(labels, DAYS)
    pd.testing.assert_series_equal(time_decay(unique), time_decay(unique, 0.5))
    assert np.array_equal(
        sequential_bootstrap(labels, sessions=DAYS), sequential_bootstrap(labels, labels["t1"].notna().sum(), 0, DAYS)
    )
    assert not np.array_equal(
        sequential_bootstrap(labels, sessions=DAYS), sequential_bootstrap(labels, seed=1, sessions=DAYS)
    )
    pd.testing.assert_frame_equal(
        concurrency(labels), concurrency(labels, DAYS), check_freq=False, check_names=False
    )  # every day has a row
    for size in (-1, -5):
        with pytest.raises(ConfigError, match=f"cannot draw {size} labels from"):
            sequential_bootstrap(labels, size, sessions=DAYS)
    assert len(sequential_bootstrap(labels, 1, sessions=DAYS)) == 1


def test_one_label_by_hand() -> None:
    "Bought at the open of day 1 and sold on day 3: its returns are those of days 2 and 3."
    index = pd.MultiIndex.from_product([DAYS[:1], ["A", "B"]], names=["date", "symbol"])
    labels = pd.DataFrame({"entry": DAYS[[1, 1]], "t1": DAYS[[3, 2]]}, index=index)
    at = label_sessions(labels, DAYS[:5])
    assert at.first.tolist() == [2, 2] and at.last.tolist() == [3, 2] and at.shape == (5, 2)
    assert concurrency(labels, DAYS[:5])["A"].tolist() == [0, 0, 1, 1, 0]
    assert uniqueness(labels, DAYS[:5]).tolist() == [1.0, 1.0]
    prices = pd.MultiIndex.from_product([DAYS[:5], ["A", "B"]], names=["date", "symbol"])
    close = pd.Series([1, 1, 2, 1, 4, 3, 8, 3, 9, 9], prices, dtype=float)
    size = np.array([np.log(4), np.log(3)])
    np.testing.assert_allclose(attribution(labels, close), size / size.mean())
    holed = close.where(close != 4)  # the move into day 2 is seen on day 3
    np.testing.assert_allclose(attribution(labels, holed), size / size.mean())
    np.testing.assert_allclose(attribution(labels, close.where(close != 4, 0.0)), size / size.mean())


def test_labels_off_the_calendar_are_named() -> None:
    index = pd.MultiIndex.from_product([DAYS[:2], ["A", "B"]], names=["date", "symbol"])
    labels = pd.DataFrame(
        {"entry": DAYS[[1, 1, 2, 2]], "t1": DAYS[[3, 3, 1, 3]]}, index=index
    )  # one ends before it begins
    with pytest.raises(
        PanelError,
        match=r"label of \(Timestamp\('2024-01-02 00:00:00'\), 'A'\) runs from 2024-01-03 00:00:00 to 2024-01-02",
    ):
        label_sessions(labels, DAYS)
    late = labels.assign(t1=DAYS[[3, 9, 3, 3]])
    with pytest.raises(PanelError, match=r"'B'\) runs from 2024-01-02 00:00:00 to 2024-01-10"):
        label_sessions(late, DAYS[:5])
    assert label_sessions(labels.assign(t1=DAYS[[3, 3, 2, 3]]), DAYS).first.tolist() == [
        2,
        2,
        2,
        3,
    ]  # sold on the day of the purchase
    with pytest.raises(PanelError, match=r"no close for \['B'\]"):
        attribution(
            labels.assign(t1=DAYS[3]),
            pd.Series(1.0, pd.MultiIndex.from_product([DAYS, ["A"]], names=["date", "symbol"])),
        )


@pytest.mark.parametrize(
    ("oldest", "want"),
    [(0.5, [0.75, 1.0]), (0.0, [0.5, 1.0]), (1.0, [1.0, 1.0]), (-0.5, [0.0, 1.0]), (-0.25, [1 / 3, 1.0])],
)
def test_decay_by_hand(oldest, want) -> None:
    unique = pd.Series([0.5, 0.5], pd.MultiIndex.from_product([DAYS[:2], ["A"]], names=["date", "symbol"]))
    assert time_decay(unique, oldest).tolist() == pytest.approx(want)
    assert time_decay(unique * 0, oldest).tolist() == pytest.approx([max(oldest, 0.0) if oldest >= 0 else 0.0] * 2)


def test_more_limits_by_hand() -> None:
    labels = some_labels(2)
    index = pd.MultiIndex.from_product([DAYS[:2], ["A", "B"]], names=["date", "symbol"])
    strays = pd.DataFrame({"entry": DAYS[[2, 1, 3, 2]], "t1": DAYS[[1, 3, 1, 3]]}, index=index)
    with pytest.raises(PanelError, match="'A'. runs from 2024-01-03 00:00:00 to 2024-01-02 00:00:00"):
        label_sessions(strays, DAYS)  # the first of two that end before they begin
    with pytest.raises(ConfigError, match="cannot draw 1 labels from 0"):
        sequential_bootstrap(
            labels.assign(t1=pd.Series(pd.NaT, labels.index, dtype="datetime64[us]")), 1, sessions=DAYS
        )
    six = pd.MultiIndex.from_product([DAYS[:1], list("ABCDEFG")], names=["date", "symbol"])
    many = pd.DataFrame({"entry": DAYS[[1] * 7], "t1": DAYS[[3] * 7]}, index=six)
    with pytest.raises(PanelError, match=r"no close for \['B', 'C', 'D', 'E', 'F'\];"):
        attribution(many, pd.Series(1.0, pd.MultiIndex.from_product([DAYS, ["A"]], names=["date", "symbol"])))
    first = pd.Series([np.nan, 0.5], pd.MultiIndex.from_product([DAYS[:2], ["A"]], names=["date", "symbol"]))
    assert time_decay(first, 0.2).tolist()[1] == 1.0 and time_decay(first.iloc[1:], 0.2).tolist() == [1.0]


def test_no_label_is_more_than_wholly_its_own() -> None:
    "Sums that are taken apart leave a rounding above 1 here and there; the share never is."
    for seed in range(40):
        unique = uniqueness(some_labels(seed, longest=4), DAYS).dropna()
        assert (unique <= 1).all() and (unique > 0).all()
    index = pd.MultiIndex.from_product([DAYS[:20], ["A"]], names=["date", "symbol"])
    row = np.arange(20)
    labels = pd.DataFrame(
        {"entry": DAYS[row], "t1": DAYS[np.where(row < 12, np.minimum(row + 3, 13), row + 1)]}, index=index
    )
    assert uniqueness(labels, DAYS).max() == 1.0


def test_a_label_of_the_first_session_counts_there_and_none_is_no_warning() -> None:
    index = pd.MultiIndex.from_product([DAYS[:1], ["A"]], names=["date", "symbol"])
    labels = pd.DataFrame({"entry": DAYS[:1], "t1": DAYS[:1]}, index=index)
    assert concurrency(labels, DAYS[:3])["A"].tolist() == [1, 0, 0]
    close = pd.Series(1.0, pd.MultiIndex.from_product([DAYS[:3], ["A"]], names=["date", "symbol"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attribution(labels.assign(t1=pd.DatetimeIndex([pd.NaT])), close).isna().all()
        assert attribution(labels.iloc[:0], close).empty and attribution(labels, close).tolist() == [0.0]


def test_no_labels_have_no_weights_and_unknown_ones_are_not_drawn() -> None:
    labels = some_labels(5)
    close = pd.Series(100.0, index=labels.index)
    nobody, unknown = labels.iloc[:0], labels[labels["t1"].isna()]
    assert len(unknown) and uniqueness(nobody).empty and concurrency(nobody).empty and attribution(nobody, close).empty
    assert time_decay(uniqueness(nobody)).empty and len(sequential_bootstrap(nobody)) == 0
    assert uniqueness(unknown).isna().all() and time_decay(uniqueness(unknown)).isna().all()
    assert attribution(unknown, close).isna().all() and len(sequential_bootstrap(unknown)) == 0
    assert np.array_equal(sequential_bootstrap(labels, 50, seed=3), sequential_bootstrap(labels, 50, seed=3))
    with pytest.raises(ConfigError, match="cannot draw"):
        sequential_bootstrap(unknown, 5)
    with pytest.raises(PanelError, match="lacks"):
        uniqueness(close.to_frame("close"))
