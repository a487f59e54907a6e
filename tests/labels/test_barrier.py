"""The triple barrier against a plain loop, against 1-minute paths, and against what a label may know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel
from quantlab.features.vol import volatility
from quantlab.labels.barrier import atr_width, triple_barrier, volatility_width
from quantlab.labels.forward import forward_returns, label_counts

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)
HORIZONS = st.one_of(st.integers(1, 8), st.none())
ENTRIES = st.sampled_from(["open", "close"])
MULTIPLES = st.sampled_from([0.5, 1.0, 2.0, None, np.inf])


def market(seed: int, n_dates: int = 20, symbols: str = "ABCDE", gaps: float = 0.05) -> pd.DataFrame:
    """Random bars with nights; some names start late, some stop early, some bars are missing or lack a price."""
    rng = np.random.default_rng(seed)
    shape = (n_dates, 12, len(symbols))
    steps = rng.normal(0, 0.01, shape)
    steps[:, 0] += rng.normal(0, 0.02, (n_dates, len(symbols)))
    path = 50 * np.exp(np.cumsum(steps.reshape(-1, len(symbols)), axis=0)).reshape(shape)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=n_dates, unit="us"), pd.Index(list(symbols), dtype="str")],
        names=["date", "symbol"],
    )
    prices = {"open": path[:, 0], "high": path.max(axis=1), "low": path.min(axis=1), "close": path[:, -1]}
    bars = pd.DataFrame({c: v.ravel() for c, v in prices.items()}, index=index)
    bars = bars.mask(rng.random(bars.shape) < gaps / 4)
    row, col = np.repeat(np.arange(n_dates), len(symbols)), np.tile(np.arange(len(symbols)), n_dates)
    first, last = rng.integers(0, 4, len(symbols)), rng.integers(n_dates // 2, 2 * n_dates, len(symbols))
    first[0], last[0] = 0, n_dates
    return bars[(row >= first[col]) & (row <= last[col]) & ((rng.random(len(row)) > gaps) | (col == 0))]


def bets(bars: pd.DataFrame, seed: int) -> tuple[pd.Series, pd.Series]:
    """Random widths and sides, some of them unusable."""
    rng = np.random.default_rng([seed, 1])
    width = pd.Series(
        rng.choice([0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.0, np.nan, np.inf], len(bars)), index=bars.index
    )
    return width, pd.Series(rng.choice([1.0, 1.0, 1.0, -1.0, -1.0, 0.0, np.nan], len(bars)), index=bars.index)


def ends_of(bars: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Delistings of some names, a few days after their last bar, some with a return."""
    rng = np.random.default_rng([seed, 2])
    last = bars.dropna()["close"].reset_index().groupby("symbol")["date"].max()
    table = pd.DataFrame(
        {
            "date": last + pd.to_timedelta(rng.integers(0, 4, len(last)), unit="D"),
            "return": rng.choice([-1.0, -0.3, 0.1, np.nan], len(last)),
        }
    )
    return table[rng.random(len(last)) < 0.5]


def plain(bars, width, profit, loss, horizon, side, entry, delisted) -> pd.DataFrame:
    """The definition, one bet and one bar at a time, in plain Python."""
    dates = list(bars.index.get_level_values("date").unique())
    whole = {
        k: v
        for k, v in zip(bars.index, bars[["open", "high", "low", "close"]].itertuples(index=False), strict=True)
        if all(x == x for x in v)
    }
    close = {k: v.close for k, v in whole.items()}
    rows = []
    for date, symbol in width.index:
        t, w, s = dates.index(date), width[date, symbol], side[date, symbol]
        out = {
            "y": np.nan,
            "t1": pd.NaT,
            "entry": pd.NaT,
            "censored": False,
            "delisted": False,
            "label": np.nan,
            "touched": None,
            "ambiguous": False,
            "y_other": np.nan,
        }
        rows.append(out)
        start = t + (entry == "open")
        if not (w > 0 and w < np.inf and s in (1, -1)) or start >= len(dates) or (dates[start], symbol) not in whole:
            continue
        paid = getattr(whole[dates[start], symbol], entry)
        out["entry"] = dates[start]
        target, stop_ = (np.inf if m is None else m * w for m in (profit, loss))
        upper, lower = (
            (paid * (1 + target), paid * (1 - stop_)) if s == 1 else (paid * (1 + stop_), paid * (1 - target))
        )
        stop = start + horizon if horizon else 10**9

        def end(touched, price, day, out=out, s=s, paid=paid, other=None):
            out.update(
                touched=touched,
                y=s * (price / paid - 1),
                t1=dates[day],
                y_other=s * ((price if other is None else other) / paid - 1),
            )
            out["label"] = {"upper": s, "lower": -s}.get(touched, 0)

        def gap(price, day, otherwise, upper=upper, lower=lower, end=end):
            end("upper" if price >= upper else "lower" if price <= lower else otherwise, price, day)

        for day in range(t + 1, len(dates)):
            bar = whole.get((dates[day], symbol))
            if day > stop or (day == stop and entry == "open"):
                break
            if bar is None:
                continue
            if bar.open >= upper or bar.open <= lower:
                gap(bar.open, day, None)
            elif bar.high >= upper and bar.low <= lower:
                out["ambiguous"] = True
                end("lower", lower, day, other=upper) if s == 1 else end("upper", upper, day, other=lower)
            elif bar.high >= upper:
                end("upper", upper, day)
            elif bar.low <= lower:
                end("lower", lower, day)
            else:
                continue
            break
        if out["touched"]:
            continue
        held = range(start + (entry == "close"), min(stop, len(dates) - 1) + 1)
        known = [i for i, d in enumerate(dates) if symbol in delisted.index and d >= delisted.loc[symbol, "date"]][:1]
        seen = [close[dates[i], symbol] for i in held if (dates[i], symbol) in close]
        if stop < len(dates) and (dates[stop], symbol) in whole:
            gap(getattr(whole[dates[stop], symbol], entry), stop, "vertical")
        elif known and known[0] in held:
            gain, final = delisted.loc[symbol, "return"], [v for (_, s_), v in close.items() if s_ == symbol][-1]
            out["delisted"] = True
            gap(final * (1 + (gain if gain == gain else 0)), known[0], "end")
        elif stop < len(dates) and seen:
            out["censored"] = True
            end("end", seen[-1], stop)
    frame = pd.DataFrame(rows, index=width.index)
    frame["touched"] = pd.Categorical(frame["touched"], ["upper", "lower", "vertical", "end"])
    return frame.astype({"t1": "datetime64[us]", "entry": "datetime64[us]", "label": float})


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, profit=MULTIPLES, loss=MULTIPLES, horizon=HORIZONS, entry=ENTRIES)
def test_equals_the_definition(seed, profit, loss, horizon, entry) -> None:
    if horizon is None and profit in (None, np.inf) and loss in (None, np.inf):
        return
    bars = market(seed)
    width, side = bets(bars, seed)
    table = ends_of(bars, seed)
    ours = triple_barrier(bars, width, profit, loss, horizon, side, entry, delisted=table)
    expected = plain(bars, width, profit, loss, horizon, side, entry, table)
    pd.testing.assert_frame_equal(ours[expected.columns], expected)


def minute_market(seed: int, days: int = 60, minutes: int = 390, names: int = 12) -> np.ndarray:
    """Prices at the end of each minute, days x minutes x names, with a night before each first minute and calm and
    wild names."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(0.005, 0.03, names)
    steps = rng.normal(0, 1, (days, minutes, names)) * scale / np.sqrt(minutes)
    steps[:, 0] += rng.normal(0, 0.6, (days, names)) * scale
    return 100 * np.exp(np.cumsum(steps.reshape(-1, names), axis=0)).reshape(days, minutes, names)


def daily(path: np.ndarray) -> pd.DataFrame:
    """Build daily bars out of minutes."""
    days, _, names = path.shape
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=days, unit="us"), [f"S{i:02}" for i in range(names)]],
        names=["date", "symbol"],
    )
    prices = {"open": path[:, 0], "high": path.max(axis=1), "low": path.min(axis=1), "close": path[:, -1]}
    return as_panel(pd.DataFrame({c: v.ravel() for c, v in prices.items()}, index=index).reset_index())


def on_minutes(path, width, profit, loss, horizon, side, entry) -> pd.DataFrame:
    """Walk each bet along its minutes: the truth."""
    days, minutes, names = path.shape
    rows = []
    for i, (w, s) in enumerate(zip(width, side, strict=True)):
        flat, day = path[:, :, i % names].ravel(), i // names
        start = (day + 1) * minutes if entry == "open" else (day + 1) * minutes - 1
        stop = start + horizon * minutes
        if start >= len(flat):
            rows.append((np.nan, None, -1, np.nan))
            continue
        walk = flat[start + (entry == "close") : stop + 1]  # at the close, the entry minute itself is over
        target, stop_ = (profit, loss) if s > 0 else (loss, profit)
        upper, lower = flat[start] * (1 + target * w), flat[start] * (1 - stop_ * w)
        hit = np.flatnonzero((walk >= upper) | (walk <= lower))
        at = start + (entry == "close") + (hit[0] if len(hit) else len(walk) - 1)
        touched = "vertical" if not len(hit) else "upper" if flat[at] >= upper else "lower"
        known = len(hit) or stop < len(flat)
        jump = abs(flat[at] - flat[at - 1]) / flat[start]
        rows.append(
            (s * (flat[at] / flat[start] - 1), touched, at // minutes, jump) if known else (np.nan, None, -1, np.nan)
        )
    return pd.DataFrame(rows, columns=["y", "touched", "day", "jump"], index=width.index)


@pytest.mark.parametrize(
    ("seed", "profit", "loss", "horizon", "entry"),
    [(0, 1.0, 1.0, 10, "open"), (1, 2.0, 1.0, 5, "open"), (2, 1.0, 1.5, 10, "close"), (3, 0.5, 0.5, 3, "open")],
)
def test_daily_labels_are_right_on_the_minutes(seed, profit, loss, horizon, entry) -> None:
    """Every unflagged label has the true barrier, day and (within a minute's jump) return; every error is flagged."""
    path = minute_market(seed)
    bars = daily(path)
    rng = np.random.default_rng([seed, 1])
    scale = np.tile(np.geomspace(0.005, 0.03, path.shape[2]), path.shape[0])
    width = pd.Series(scale * rng.choice([0.5, 0.7, 1.0, 1.5], len(bars)), index=bars.index)
    side = pd.Series(rng.choice([-1.0, 1.0], len(bars)), index=bars.index)
    labels = triple_barrier(bars, width, profit, loss, horizon, side, entry)
    truth = on_minutes(path, width, profit, loss, horizon, side, entry)
    assert labels["y"].notna().equals(truth["y"].notna())
    known = labels["y"].notna()
    day = bars.index.levels[0].get_indexer(labels["t1"])
    wrong = known & (
        (labels["touched"].astype(object) != truth["touched"])
        | (day != truth["day"])
        | ((labels["y"] - truth["y"]).abs() > truth["jump"] + 1e-12)
    )
    assert not (wrong & ~labels["ambiguous"]).any()
    assert (wrong & labels["ambiguous"]).any(), "without an error to catch the test would prove nothing"
    assert known.mean() > 0.8
    flagged = labels[labels["ambiguous"]]
    true = truth.loc[flagged.index]
    assert (true["day"] == day[labels["ambiguous"]]).all()
    assert (flagged["y"] - true["jump"] <= true["y"] + 1e-12).all() and (
        true["y"] <= flagged["y_other"] + true["jump"] + 1e-12
    ).all()


@LIGHT
@given(seed=SEEDS, horizon=st.integers(1, 8), entry=ENTRIES)
def test_without_barriers_it_is_the_forward_return(seed, horizon, entry) -> None:
    bars = market(seed).dropna()
    table = ends_of(bars, seed)
    ours = triple_barrier(bars, pd.Series(0.01, bars.index), None, None, horizon, entry=entry, delisted=table)
    expected = forward_returns(bars, horizon, entry, delisted=table)
    pd.testing.assert_frame_equal(ours[expected.columns], expected)


@LIGHT
@given(seed=SEEDS, entry=ENTRIES)
def test_the_past_does_not_matter(seed, entry) -> None:
    bars = market(seed)
    width, side = bets(bars, seed)
    dates = bars.index.levels[0]
    spoilt = bars.copy()
    spoilt.loc[: dates[8]] = spoilt.loc[: dates[8]] * 3
    first = dates[8] if entry == "open" else dates[9]
    a, b = (triple_barrier(x, width, 1, 1, 5, side, entry).loc[first:] for x in (bars, spoilt))
    pd.testing.assert_frame_equal(a, b)


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_invariants(seed, horizon, entry) -> None:
    bars = market(seed)
    width, side = bets(bars, seed)
    run = lambda b, w, s, **k: triple_barrier(b, w, 1.0, 2.0, horizon, s, entry, **k)
    labels = run(bars, width, side)
    date, known = labels.index.get_level_values("date"), labels["y"].notna()
    assert labels["t1"].notna().equals(known.rename("t1")) and labels["touched"].notna().equals(known.rename("touched"))
    assert (labels["t1"] > date)[known].all() and (labels["t1"] >= labels["entry"])[known].all()
    assert (labels["y"] <= labels["y_other"])[known].all() and (labels["y"] == labels["y_other"])[
        known & ~labels["ambiguous"]
    ].all()
    assert (labels.loc[labels["label"] == 1, "y"] > 0).all() and (labels.loc[labels["label"] == -1, "y"] < 0).all()
    pd.testing.assert_frame_equal(run(bars * 4, width, side), labels)
    names = dict(zip("ABCDE", "EBDCA", strict=True))
    moved = lambda x: x.rename(index=names, level="symbol").sort_index()
    pd.testing.assert_frame_equal(run(moved(bars), moved(width), moved(side)), moved(labels))
    some = np.random.default_rng(seed).random(len(bars)) < 0.3
    pd.testing.assert_frame_equal(run(bars, width[some], side), labels[some])
    worst, dropped = (run(bars, width, side, ambiguous=c) for c in ("worst", "drop"))
    pd.testing.assert_frame_equal(worst, labels.drop(columns="y_other"))
    pd.testing.assert_frame_equal(dropped[~labels["ambiguous"]], worst[~labels["ambiguous"]])
    assert dropped.loc[labels["ambiguous"], ["y", "t1", "label", "touched"]].isna().all(axis=None)
    assert dropped["ambiguous"].equals(labels["ambiguous"]) and dropped["entry"].equals(labels["entry"])


@LIGHT
@given(seed=SEEDS, profit=st.sampled_from([0.5, 1.0, 3.0]), entry=ENTRIES, horizon=HORIZONS)
def test_a_short_bet_is_a_long_bet_in_the_mirror(seed, profit, entry, horizon) -> None:
    """Reflect the prices about 200: a short bet becomes a long one with the same barriers in money."""
    bars = market(seed)
    mirror = 200 - bars.rename(columns={"high": "low", "low": "high"})
    width = bets(bars, seed)[0]
    money = triple_barrier(bars, width, profit, 1.0, horizon, -1.0, entry)
    paid = bars[entry].unstack().shift(-1 if entry == "open" else 0).stack().reindex(bars.index)
    reflected = triple_barrier(mirror, width * paid / (200 - paid), profit, 1.0, horizon, 1.0, entry)
    sure = money["entry"].notna()
    for c in ("t1", "entry", "censored", "label", "ambiguous"):
        assert money.loc[sure, c].equals(reflected.loc[sure, c]), c
    np.testing.assert_allclose(
        money.loc[sure, "y"] * paid[sure], reflected.loc[sure, "y"] * (200 - paid[sure]), atol=1e-9
    )
    swapped = {"upper": "lower", "lower": "upper"}
    assert (
        money.loc[sure, "touched"].astype(object).replace(swapped).equals(reflected.loc[sure, "touched"].astype(object))
    )


def test_a_drop_in_the_night_is_worse_than_the_stop() -> None:
    bars = market(0).xs("A", level="symbol", drop_level=False).dropna().iloc[:3]
    bars.iloc[:] = [[100, 101, 99, 100], [100, 101, 99, 100], [80, 81, 79, 80]]
    y = triple_barrier(bars, pd.Series(0.05, bars.index[:1]), 1, 1, 5)["y"]
    assert np.allclose(y, -0.2)


@pytest.mark.parametrize("entry", ["open", "close"])
def test_degenerate(entry: str) -> None:
    bars = market(0)
    width = pd.Series(0.02, index=bars.index)
    full = triple_barrier(bars, width, entry=entry, horizon=2)
    empty = triple_barrier(bars.iloc[:0], width.iloc[:0], entry=entry)
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)
    pd.testing.assert_series_equal(triple_barrier(bars, width.iloc[:0], entry=entry).dtypes, full.dtypes)
    for bad in (np.nan, 0.0, -1.0, np.inf):
        labels = triple_barrier(bars * 0 + bad, width, entry=entry)
        assert labels[["y", "t1", "entry", "label", "touched"]].isna().all(axis=None) and not labels[
            ["censored", "ambiguous"]
        ].any(axis=None)
    for bad in (np.nan, 0.0, np.inf):
        labels = triple_barrier(bars, width * 0 + bad, entry=entry)
        assert labels[["y", "t1", "entry"]].isna().all(axis=None)
    alone = bars.xs("A", level="symbol", drop_level=False)
    assert len(triple_barrier(alone, width[alone.index], entry=entry)) == len(alone)
    one_date = bars.loc[:"2024-01-01"]
    assert triple_barrier(one_date, width[one_date.index], entry=entry)["y"].isna().all()
    huge = triple_barrier(bars, width, 1.0, 1000.0, 2, entry=entry)  # a stop below zero is never touched
    assert (huge["touched"] != "lower").all()
    assert volatility_width(bars.iloc[:0]).empty and atr_width(bars.iloc[:0]).empty


def test_refusals() -> None:
    bars = market(0)
    width = pd.Series(0.02, index=bars.index)
    for words, call in {
        "horizon": lambda: triple_barrier(bars, width, horizon=0),
        "'open'": lambda: triple_barrier(bars, width, entry="vwap"),
        "'worst'": lambda: triple_barrier(bars, width, ambiguous="ignore"),
        "no barrier at all": lambda: triple_barrier(bars, width, None, np.inf, None),
        "profit is": lambda: triple_barrier(bars, width, profit=0),
        "loss is": lambda: triple_barrier(bars, width, loss=np.nan),
    }.items():
        with pytest.raises(ConfigError, match=words):
            call()
    with pytest.raises(DataError, match="width of .* is -0.02"):
        triple_barrier(bars, -width)
    with pytest.raises(DataError, match="side of .* is 2"):
        triple_barrier(bars, width, side=2.0)
    with pytest.raises(PanelError, match="that the bars lack"):
        triple_barrier(bars, width.rename(index={"A": "Z"}, level="symbol").sort_index())
    with pytest.raises(PanelError, match="'high'"):
        triple_barrier(bars.drop(columns="high"), width)


def test_counts() -> None:
    bars = market(5)
    labels = triple_barrier(bars, *[bets(bars, 5)[0]], horizon=3, ambiguous="drop")
    counts = label_counts(labels)["count"]
    assert counts["rows"] == counts["labelled"] + counts["no entry"] + counts["no exit"] + counts["ambiguous"]


def test_fast_on_the_size_of_the_sample() -> None:
    index = pd.MultiIndex.from_product(
        [pd.date_range("2010-01-01", periods=3500, unit="us"), [f"S{i:03}" for i in range(120)]],
        names=["date", "symbol"],
    )
    close = 50 * np.exp(np.random.default_rng(0).normal(0, 0.01, (3500, 120)).cumsum(axis=0)).ravel()
    bars = pd.DataFrame({"open": close, "high": close * 1.01, "low": close / 1.01, "close": close}, index=index)
    width = pd.Series(0.03, index=index)
    triple_barrier(bars.iloc[:1200], width.iloc[:1200])
    labels = triple_barrier(bars, width)
    assert labels["y"].notna().sum() > 400_000


def test_intraday_labels_keep_their_clock() -> None:
    bars = market(0)
    ends = pd.date_range("2024-01-02 15:00", periods=20, freq="5min", tz="UTC", unit="us")
    intraday = bars.set_axis(bars.index.set_levels(ends, level="date"))
    labels, daily_ = (triple_barrier(b, pd.Series(0.02, b.index), horizon=5) for b in (intraday, bars))
    assert str(labels["t1"].dtype) == str(labels["entry"].dtype) == "datetime64[us, UTC]"
    np.testing.assert_array_equal(labels["y"], daily_["y"])


def test_widths_by_hand() -> None:
    rng = np.random.default_rng(2)
    close = pd.Series(
        50 * np.exp(rng.normal(0, 0.01, 60).cumsum()), pd.bdate_range("2024-01-01", periods=60, unit="us")
    )
    index = pd.MultiIndex.from_product([close.index, ["A"]], names=["date", "symbol"])
    bars = pd.DataFrame(
        {
            "open": close.to_numpy(),
            "high": close.to_numpy() * 1.01,
            "low": close.to_numpy() * 0.99,
            "close": close.to_numpy(),
        },
        index=index,
    )
    day = volatility_width(bars)
    np.testing.assert_allclose(day.to_numpy(), volatility(20)(bars).to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(volatility_width(bars, 20, 9), 3 * day)  # nine sessions move three times as far
    pd.testing.assert_series_equal(day, volatility_width(bars, 20, 1))
    assert day.name == "width" == atr_width(bars).name
    pd.testing.assert_series_equal(atr_width(bars), atr_width(bars, 14))
    assert not atr_width(bars).equals(atr_width(bars, 13))
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match=f"sessions is {wrong}; a width needs at least 1"):
            volatility_width(bars, 20, wrong)


def test_the_defaults_are_these() -> None:
    bars = market(3)
    width = pd.Series(0.01, index=bars.index)
    pd.testing.assert_frame_equal(
        triple_barrier(bars, width), triple_barrier(bars, width, 1.0, 1.0, 20, 1.0, "open", "both", None)
    )
    steady = pd.DataFrame(
        {c: 100.0 for c in ("open", "high", "low", "close")},
        index=pd.MultiIndex.from_product(
            [pd.bdate_range("2024-01-01", periods=40, unit="us"), ["A"]], names=["date", "symbol"]
        ),
    )
    patient = triple_barrier(steady, pd.Series(0.01, steady.index))
    assert (
        patient["t1"].iloc[0] == steady.index[21][0]
        and patient["touched"].iloc[0] == "vertical"
        and patient["y"].iloc[0] == 0
    )


def bars_of(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2024-01-01", periods=len(rows), unit="us"), ["A"]], names=["date", "symbol"]
    )
    return pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index, dtype=float)


@pytest.mark.parametrize(("bar", "touched", "y"), [
    ((100, 112.5, 95, 100), "upper", 0.125), ((100, 112.4, 87.5, 100), "lower", -0.125),
    ((112.5, 113, 100, 105), "upper", 0.125),
    ((87.5, 100, 85, 95), "lower", -0.125), ((115, 120, 80, 100), "upper", 0.15), ((85, 120, 80, 100), "lower", -0.15),
    ((100, 112.4, 87.6, 100), "vertical", 0.05),
])  # fmt: skip
def test_a_price_on_the_barrier_touches_it_and_a_gap_is_paid_at_the_open(bar, touched, y) -> None:
    bars = bars_of((100, 101, 99, 100), (100, 105, 95, 100), bar, (105, 106, 104, 105))
    got = triple_barrier(bars, pd.Series(0.125, bars.index[:1]), horizon=2).iloc[0]
    assert (
        got["touched"] == touched
        and got["y"] == pytest.approx(y)
        and got["label"] == {"upper": 1, "lower": -1, "vertical": 0}[touched]
    )


def test_what_is_wrong_is_named_where_it_stands_first() -> None:
    bars = bars_of(*[(100, 101, 99, 100)] * 4)
    width = pd.Series(0.1, bars.index)
    with pytest.raises(DataError, match=r"width of \(Timestamp\('2024-01-02 00:00:00'\), 'A'\) is -0.3;"):
        triple_barrier(bars, width.where([True, False, False, True], [0, -0.3, -0.4, 0]))
    with pytest.raises(DataError, match=r"side of \(Timestamp\('2024-01-03 00:00:00'\), 'A'\) is 0.5;"):
        triple_barrier(bars, width, side=pd.Series([1, -1, 0.5, 3], bars.index))
    with pytest.raises(PanelError, match="2 widths have a date or symbol that the bars lack, first .*2024-01-03"):
        triple_barrier(bars.iloc[:2], width)


def test_no_bars_one_bar_and_some_rows_of_many():
    bars = market(5)
    width = pd.Series(0.02, bars.index)
    labels = triple_barrier(bars, width)
    assert triple_barrier(bars.iloc[:0], width.iloc[:0]).dtypes.equals(labels.dtypes)
    assert triple_barrier(bars.iloc[:1], width.iloc[:1])["y"].isna().all()
    assert triple_barrier(bars, width * np.inf)["entry"].isna().all()
    assert triple_barrier(bars, width.iloc[20:40])[["y", "t1"]].equals(labels[["y", "t1"]].iloc[20:40])
    alone = bars.xs("A", level="symbol", drop_level=False)
    assert triple_barrier(alone, width[alone.index])["y"].equals(labels.loc[alone.index, "y"])
