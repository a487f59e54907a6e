"""Every label knows when it was knowable: cutting the bars at any date changes no label that ends by then, and makes
none."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import PanelError
from quantlab.core.panel import to_wide
from quantlab.labels.barrier import triple_barrier
from quantlab.labels.forward import excess, forward_returns, latest_t1, rank_normalise
from quantlab.labels.meta import meta_labels
from quantlab.labels.trend import trend_scan
from quantlab.labels.weights import attribution, concurrency, sequential_bootstrap, time_decay, uniqueness
from quantlab.validation.splits import PurgedKFold, WalkForward, audit_splits

SEEDS = st.integers(0, 10**6)
ENTRIES = st.sampled_from(["open", "close"])
PLANS = st.one_of(st.integers(1, 6), st.none())


def market(seed: int, n_dates: int = 16, symbols: str = "ABCDE") -> pd.DataFrame:
    """Bars with suspensions of several sessions, late starts, stops, holes and broken prices."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2024-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, pd.Index(list(symbols), dtype="str")], names=["date", "symbol"])
    close = 50 * np.exp(rng.normal(0, 0.03, (n_dates, len(symbols))).cumsum(axis=0))
    open_ = close * np.exp(rng.normal(0, 0.02, close.shape))
    prices = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.01,
        "low": np.minimum(open_, close) * 0.99,
        "close": close,
    }
    bars = pd.DataFrame({c: v.ravel() for c, v in prices.items()}, index=index)
    there = rng.random(close.shape) > 0.03
    for column in range(1, len(symbols)):
        there[: rng.integers(0, 4), column] = False
        there[rng.integers(n_dates // 2, 2 * n_dates) :, column] = False
        quiet = rng.integers(1, n_dates)
        there[quiet : quiet + rng.integers(0, 7), column] = False
    there[:, 0] = True
    bars = bars.mask(rng.random(bars.shape) < 0.02).mask(rng.random(bars.shape) < 0.005, 0.0)
    return bars[there.ravel()]


def delistings(bars: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Delistings on or after some names' last close, a few announced later still."""
    rng = np.random.default_rng([seed, 1])
    last = bars["close"].where(bars["close"] > 0).dropna().reset_index("date").groupby("symbol")["date"].max()
    date = last + pd.to_timedelta(rng.integers(0, 5, len(last)), unit="D")
    table = pd.DataFrame({"date": date, "return": rng.choice([-1.0, -0.3, 0.2, np.nan], len(last))})
    table["known_at"] = date + pd.to_timedelta(rng.choice([-3, 0, 0, 2], len(last)), unit="D")
    return table[rng.random(len(last)) < 0.6]


def holds_at_every_cut(make, bars: pd.DataFrame, table: pd.DataFrame | None) -> None:
    """Compare labels of all bars with labels of the bars up to each date, in both directions; the table is cut too,
    and is not."""
    whole, dates = make(bars, table), bars.index.unique("date")
    assert whole["t1"].notna().equals(whole["y"].notna().rename("t1"))
    assert (whole["t1"] > whole.index.get_level_values("date"))[whole["t1"].notna()].all()
    for date in dates:
        past = bars.loc[:date]
        for known in (
            [table] if table is None else [table, table[(table["date"] <= date) & ~(table["known_at"] > date)]]
        ):
            cut = make(past, known)
            then = whole.loc[past.index]
            settled = (then["t1"] <= date).to_numpy()
            assert cut["t1"].notna().to_numpy().tolist() == settled.tolist(), date
            pd.testing.assert_frame_equal(cut[settled], then[settled])


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, horizon=st.integers(1, 6), entry=ENTRIES)
def test_forward_returns(seed, horizon, entry) -> None:
    bars = market(seed)
    holds_at_every_cut(lambda b, t: forward_returns(b, horizon, entry, t), bars, delistings(bars, seed))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, horizon=PLANS, entry=ENTRIES, ambiguous=st.sampled_from(["both", "worst", "drop"]))
def test_barriers_and_what_is_made_of_them(seed, horizon, entry, ambiguous) -> None:
    bars = market(seed)
    rng = np.random.default_rng([seed, 2])
    width = pd.Series(rng.choice([0.01, 0.03, 0.06, np.nan], len(bars)), bars.index)
    side = pd.Series(rng.choice([1.0, -1.0, 0.0], len(bars)), bars.index)

    def make(b, t):
        labels = triple_barrier(b, width[b.index], 1.0, 2.0, horizon, side[b.index], entry, ambiguous, t)
        return meta_labels(labels, cost=0.001)

    holds_at_every_cut(make, bars, delistings(bars, seed))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, horizons=st.sampled_from([(3,), (2, 4, 6)]))
def test_trends(seed, horizons) -> None:
    holds_at_every_cut(lambda b, _: trend_scan(b, horizons), market(seed), None)


COMPARED = {
    "median": lambda x: excess(x),
    "mean": lambda x: excess(x, "mean"),
    "sector": lambda x: excess(x, pd.Series({"A": "x", "B": "x", "C": "y", "D": "y", "E": "y"})),
    "normal": lambda x: rank_normalise(x),
    "uniform": lambda x: rank_normalise(x, "uniform"),
}


@settings(max_examples=5, deadline=None)
@given(
    seed=SEEDS, horizon=st.integers(1, 6), entry=ENTRIES, how=st.sampled_from(sorted(COMPARED)), touching=st.booleans()
)
def test_comparisons_within_a_date(seed, horizon, entry, how, touching) -> None:
    bars = market(seed)
    width = pd.Series(0.03, bars.index)

    def make(b, t):
        labels = (
            triple_barrier(b, width[b.index], 1, 1, horizon, entry=entry, delisted=t)
            if touching
            else forward_returns(b, horizon, entry, t)
        )
        return COMPARED[how](labels)

    holds_at_every_cut(make, bars, delistings(bars, seed))
    labels = forward_returns(bars, horizon, entry, delistings(bars, seed))
    together = COMPARED[how](labels)
    assert (together["t1"].dropna() >= labels["t1"][together["t1"].notna()]).all()
    assert together["t1"].groupby("date").nunique().max() <= 1
    same = together["t1"].notna()
    pd.testing.assert_series_equal(together["y"][same], COMPARED[how](labels["y"])[same], check_names=False)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, horizon=st.integers(1, 6), touching=st.booleans())
def test_weights_of_what_was_known_are_those_of_the_cut_panel(seed, horizon, touching) -> None:
    """A weight belongs to a training set: that of the labels known at T, whether found by cutting bars or by reading
    t1."""
    bars = market(seed)
    table, dates = delistings(bars, seed), bars.index.unique("date")
    width = pd.Series(0.03, bars.index)
    make = lambda b: (
        triple_barrier(b, width[b.index], 1, 1, horizon, delisted=table)
        if touching
        else forward_returns(b, horizon, delisted=table)
    )
    whole = make(bars)
    for date in dates[6::3]:
        past, now = bars.loc[:date], dates[dates <= date]
        live, kept = make(past), whole.loc[past.index]
        kept = kept.assign(t1=kept["t1"].where(kept["t1"] <= date))
        pd.testing.assert_series_equal(uniqueness(live, now), uniqueness(kept, now))
        pd.testing.assert_frame_equal(concurrency(live, now), concurrency(kept, now))
        pd.testing.assert_series_equal(attribution(live, past["close"]), attribution(kept, bars["close"]), rtol=1e-9)
        pd.testing.assert_series_equal(time_decay(uniqueness(live, now)), time_decay(uniqueness(kept, now)))
        if live["t1"].notna().any():
            assert np.array_equal(
                sequential_bootstrap(live, 20, sessions=now), sequential_bootstrap(kept, 20, sessions=now)
            )


def two(closes: dict[str, list[float]], n: int = 10) -> pd.DataFrame:
    """Bars whose open is their close; None = no bar."""
    dates = pd.date_range("2024-01-01", periods=n, unit="us")
    rows = [(d, s, c, c) for s, values in closes.items() for d, c in zip(dates, values, strict=False) if c is not None]
    return (
        pd.DataFrame(rows, columns=["date", "symbol", "open", "close"])
        .astype({"symbol": "str"})
        .set_index(["date", "symbol"])
        .sort_index()
    )


def test_a_suspension_and_an_end_look_alike_until_the_planned_exit() -> None:
    """Bought at 20 on the 3rd, last close 24 on the 4th, exit planned for the 6th: what comes later does not matter."""
    a = [10.0] * 10
    stops = two({"A": a, "B": [20.0, 20.0, 20.0, 24.0]})
    returns_ = two({"A": a, "B": [20.0, 20.0, 20.0, 24.0, None, None, None, None, 99.0, 99.0]})
    for bars in (stops, returns_):
        label = forward_returns(bars, 3).loc[("2024-01-02", "B")]
        assert np.isclose(label["y"], 0.2) and label["censored"] and label["t1"] == pd.Timestamp("2024-01-06")
        assert pd.isna(forward_returns(bars.loc[:"2024-01-05"], 3).loc[("2024-01-02", "B"), "y"])


@pytest.mark.parametrize(
    ("date", "known_at", "y", "t1"),
    [
        ("2024-01-04", None, -0.4, "2024-01-04"),  # announced on its last day
        ("2024-01-05", None, -0.4, "2024-01-05"),
        ("2024-01-04", "2024-01-06", -0.4, "2024-01-06"),  # announced after it
        ("2024-01-05", "2024-01-02", -0.4, "2024-01-05"),  # announced long before: the last close is known later
        ("2024-01-06", None, -0.4, "2024-01-06"),
        ("2024-01-07", None, 0.2, "2024-01-06"),  # too late: the planned exit came first
        ("2024-01-05", "2024-01-07", 0.2, "2024-01-06"),
    ],
)
def test_a_delisting_is_known_when_it_is_announced(date, known_at, y, t1) -> None:
    bars = two({"A": [10.0] * 10, "B": [20.0, 20.0, 20.0, 24.0]})
    table = pd.DataFrame({"date": [pd.Timestamp(date)], "return": [-0.5]}, index=["B"])
    if known_at:
        table["known_at"] = pd.Timestamp(known_at)
    wide = bars.assign(high=bars["open"], low=bars["open"])
    for labels in (
        forward_returns(bars, 3, delisted=table),
        triple_barrier(wide, pd.Series(9.0, bars.index), None, None, 3, delisted=table),
    ):
        label = labels.loc[("2024-01-02", "B")]
        assert (
            np.isclose(label["y"], y)
            and label["t1"] == pd.Timestamp(t1)
            and label["delisted"] == (y < 0)
            and label["censored"] == (y > 0)
        )


def test_two_clocks_are_refused() -> None:
    bars = two({"A": [10.0] * 10, "B": [20.0, 20.0, 20.0, 24.0]})
    utc = bars.set_axis(bars.index.set_levels(bars.index.levels[0].tz_localize("UTC"), level="date"))
    plain = pd.Series({"B": pd.Timestamp("2024-01-05")})
    for panel, when in ((utc, plain), (bars, plain.dt.tz_localize("UTC"))):
        with pytest.raises(PanelError, match="UTC.*without a time zone"):
            forward_returns(panel, 2, delisted=when)
    labels = forward_returns(utc, 2)
    benchmark = pd.Series(0.0, bars.index.unique("date"))
    with pytest.raises(PanelError, match="UTC.*without a time zone"):
        excess(labels["y"], benchmark)
    assert excess(labels["y"], benchmark.tz_localize("UTC")).equals(labels["y"])
    with pytest.raises(PanelError, match="lacks"):
        latest_t1(bars)
    assert latest_t1(labels.iloc[:0]).empty


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, horizon=st.integers(1, 4))
def test_a_split_trains_on_nothing_that_the_cut_panel_does_not_know(seed, horizon) -> None:
    """The training rows of each fold are labelled, and alike, in the bars that end before the test block."""
    bars = market(seed, n_dates=24)
    table = delistings(bars, seed)
    make = lambda b: rank_normalise(forward_returns(b, horizon, delisted=table), "uniform")
    labels = make(bars)
    folds = list(WalkForward(train_sessions=10, test_sessions=4).split(bars, t1=labels["t1"]))
    audit_splits(folds, bars.index, labels["t1"])
    for train, test in folds:
        before = bars.index[test[0]][0]
        live = make(bars[bars.index.get_level_values("date") < before]).reindex(bars.index[train])
        pd.testing.assert_frame_equal(live, labels.iloc[train], check_dtype=False)
    audit_splits(list(PurgedKFold(3).split(bars, t1=labels["t1"])), bars.index, labels["t1"])
    assert to_wide(labels["y"]).shape[0] == 24


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_label_on_many_panels(part) -> None:
    for seed in range(part * 25, part * 25 + 25):
        bars, rng = market(seed, n_dates=14), np.random.default_rng([seed, 3])
        table, horizon, entry = delistings(bars, seed), int(rng.integers(1, 6)), str(rng.choice(["open", "close"]))
        width = pd.Series(rng.choice([0.01, 0.03, 0.06], len(bars)), bars.index)
        barrier = lambda b, t: triple_barrier(
            b, width[b.index], 1, 2, None if seed % 5 == 0 else horizon, entry=entry, delisted=t
        )
        forward = lambda b, t: forward_returns(b, horizon, entry, t)
        for make in (
            forward,
            barrier,
            lambda b, t: trend_scan(b, (2, 4)),
            lambda b, t: rank_normalise(forward(b, t)),
            lambda b, t: excess(barrier(b, t)),
        ):
            holds_at_every_cut(make, bars, table)


def test_a_bar_that_does_not_tell_keeps_no_date_open() -> None:
    """Labels that were dropped as ambiguous never come; the comparison of the others does not wait for them."""
    a, b, c = ([100.0, 100.0, 100.0, 100.0, 100.0] for _ in range(3))
    bars = two({"A": a, "B": b, "C": c}, n=5).assign(high=lambda x: x["open"], low=lambda x: x["open"])
    bars.loc[("2024-01-02", "A"), ["high", "low"]] = [120.0, 80.0]  # both barriers in one bar
    bars.loc[("2024-01-02", "B"), "high"] = bars.loc[("2024-01-03", "C"), "high"] = 120.0
    labels = triple_barrier(bars, pd.Series(0.1, bars.index), 1, 1, 50, ambiguous="drop")
    first = latest_t1(labels).loc["2024-01-01"]
    assert first.isna().tolist() == [True, False, False] and (first.dropna() == pd.Timestamp("2024-01-03")).all()
    assert latest_t1(labels).loc["2024-01-02"].isna().all()  # A and B of the next date are still open
