"""Forward returns against a plain loop, and what a label may and may not know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.labels.forward import excess, forward_returns, label_counts, rank_normalise

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)
HORIZONS = st.integers(1, 8)
ENTRIES = st.sampled_from(["open", "close"])


def market(seed: int, n_dates: int = 20, symbols: str = "ABCDEF", gaps: float = 0.04) -> pd.DataFrame:
    """Random bars in which some names start late, some stop early, and some prices are missing or absurd."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=n_dates, unit="us"), pd.Index(list(symbols), dtype="str")],
        names=["date", "symbol"],
    )
    bars = pd.DataFrame(rng.uniform(10, 20, (len(index), 2)), index=index, columns=["open", "close"])
    bars = (
        bars.mask(rng.random(bars.shape) < gaps)
        .mask(rng.random(bars.shape) < gaps / 4, 0.0)
        .mask(rng.random(bars.shape) < gaps / 4, np.inf)
    )
    row = np.repeat(np.arange(n_dates), len(symbols))
    col = np.tile(np.arange(len(symbols)), n_dates)
    first, last = rng.integers(0, 4, len(symbols)), rng.integers(n_dates // 2, 2 * n_dates, len(symbols))
    first[0], last[0] = 0, n_dates
    return bars[(row >= first[col]) & (row <= last[col]) & ((rng.random(len(row)) > gaps) | (col == 0))]


def table_of(bars: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Delistings of some names, up to three days after their last close, with and without a return."""
    rng = np.random.default_rng([seed, 1])
    last = (
        bars["close"]
        .where(np.isfinite(bars["close"]) & (bars["close"] > 0))
        .dropna()
        .reset_index()
        .groupby("symbol")["date"]
        .max()
    )
    table = pd.DataFrame(
        {
            "date": last + pd.to_timedelta(rng.integers(0, 4, len(last)), unit="D"),
            "return": rng.choice([-1.0, -0.3, 0.2, np.nan], len(last)),
        }
    )
    return table[rng.random(len(last)) < 0.5]


def plain(bars: pd.DataFrame, horizon: int, entry: str, delisted: pd.DataFrame) -> pd.DataFrame:
    """The definition, one row at a time: nothing after the planned exit session is looked at."""
    dates = list(bars.index.get_level_values("date").unique())
    good = bars.where(np.isfinite(bars) & (bars > 0))
    price = {key: value for key, value in good[entry].items() if value == value}
    close = {key: value for key, value in good["close"].items() if value == value}
    rows = []
    for date, symbol in bars.index:
        i = dates.index(date) + (entry == "open")
        y, t1, bought, censored, gone = np.nan, pd.NaT, pd.NaT, False, False
        if i < len(dates) and (dates[i], symbol) in price:
            bought = dates[i]
            least, stop = i + (entry == "close"), dates[i + horizon] if i + horizon < len(dates) else None
            held = dates[least : i + horizon + 1]  # the sessions on which the holder can be paid
            seen = [close[d, symbol] for d in held if (d, symbol) in close]
            told = [d for d in dates if symbol in delisted.index and d >= delisted.loc[symbol, "date"]][:1]
            if (stop, symbol) in price:
                y, t1 = price[stop, symbol] / price[bought, symbol] - 1, stop
            elif (stop, symbol) in close:
                pass  # a bar without its price
            elif told and told[0] in held:
                gain, last = (
                    delisted.loc[symbol, "return"],
                    [close[d, symbol] for d in dates if (d, symbol) in close][-1],
                )
                y, t1, gone = last * (1 + (gain if gain == gain else 0)) / price[bought, symbol] - 1, told[0], True
            elif stop is not None and seen:
                y, t1, censored = seen[-1] / price[bought, symbol] - 1, stop, True
        rows.append((y, t1, bought, censored, gone))
    frame = pd.DataFrame(rows, index=bars.index, columns=["y", "t1", "entry", "censored", "delisted"])
    return frame.astype(
        {"y": float, "t1": "datetime64[us]", "entry": "datetime64[us]", "censored": bool, "delisted": bool}
    )


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_equals_the_definition(seed: int, horizon: int, entry: str) -> None:
    bars = market(seed)
    table = table_of(bars, seed)
    pd.testing.assert_frame_equal(forward_returns(bars, horizon, entry, table), plain(bars, horizon, entry, table))


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS)
def test_close_label_is_a_shift(seed: int, horizon: int) -> None:
    bars = market(seed, gaps=0)
    labels = forward_returns(bars, horizon, "close")
    shifted = bars["close"].groupby("symbol").shift(-horizon) / bars["close"] - 1
    whole = ~labels["censored"]
    np.testing.assert_allclose(labels.loc[whole, "y"], shifted[whole])
    assert shifted[labels["censored"]].isna().all()


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_corrupting_the_present_and_past_moves_nothing(seed: int, horizon: int, entry: str) -> None:
    """With entry at the open, a label depends on no price of its decision date or before."""
    bars = market(seed)
    dates = bars.index.levels[0]
    spoilt = bars.copy()
    spoilt.loc[: dates[8]] = spoilt.loc[: dates[8]] * 3
    first = dates[8] if entry == "open" else dates[9]
    pd.testing.assert_frame_equal(
        forward_returns(bars, horizon, entry).loc[first:], forward_returns(spoilt, horizon, entry).loc[first:]
    )


@LIGHT
@given(seed=SEEDS, horizon=HORIZONS, entry=ENTRIES)
def test_invariants(seed: int, horizon: int, entry: str) -> None:
    bars = market(seed)
    labels = forward_returns(bars, horizon, entry)
    date = labels.index.get_level_values("date")
    known = labels["y"].notna()
    assert labels.index.equals(bars.index)
    assert not np.isinf(labels["y"]).any() and (labels["y"].dropna() > -1).all()
    assert labels["t1"].notna().equals(known.rename("t1"))
    assert (labels["t1"] > date)[known].all() and (labels["t1"] >= labels["entry"])[known].all()
    assert known[labels["censored"]].all()
    scaled = forward_returns(bars * 7, horizon, entry)
    pd.testing.assert_frame_equal(scaled, labels)
    names = dict(zip("ABCDEF", "FBDCEA", strict=True))
    renamed = forward_returns(bars.rename(index=names, level="symbol").sort_index(), horizon, entry)
    pd.testing.assert_frame_equal(renamed, labels.rename(index=names, level="symbol").sort_index())


@pytest.mark.parametrize("entry", ["open", "close"])
def test_degenerate(entry: str) -> None:
    bars = market(0)
    empty = forward_returns(bars.iloc[:0], 2, entry)
    assert len(empty) == 0 and list(empty.columns) == ["y", "t1", "entry", "censored", "delisted"]
    assert [str(t) for t in empty.dtypes] == ["float64", "datetime64[us]", "datetime64[us]", "bool", "bool"]
    for bad in (np.nan, 0.0, -1.0, np.inf):
        labels = forward_returns(bars.assign(open=bad, close=bad), 2, entry)
        assert labels[["y", "t1", "entry"]].isna().all().all() and not labels["censored"].any()
    assert forward_returns(bars.loc[:"2024-01-01"], 2, entry)["y"].isna().all()
    assert forward_returns(bars, 1000, entry)["y"].isna().all()
    alone = bars.loc[bars.index.get_level_values("symbol") == "A"]
    assert len(forward_returns(alone, 2, entry)) == len(alone)


def test_refusals() -> None:
    bars = market(0)
    with pytest.raises(ConfigError, match="at least 1"):
        forward_returns(bars, 0)
    with pytest.raises(ConfigError, match="'open'"):
        forward_returns(bars, 1, "vwap")
    with pytest.raises(PanelError, match="'open'"):
        forward_returns(bars.drop(columns="open"))
    with pytest.raises(PanelError, match="not sorted"):
        forward_returns(bars.iloc[::-1])


@LIGHT
@given(seed=SEEDS)
def test_excess_equals_pandas(seed: int) -> None:
    y = forward_returns(market(seed), 2)["y"]
    pd.testing.assert_series_equal(excess(y), y - y.groupby("date").transform("median"))


@LIGHT
@given(seed=SEEDS)
def test_excess_over_each_yardstick(seed: int) -> None:
    bars = market(seed)
    y = forward_returns(bars, 2)["y"]
    date, symbol = (y.index.get_level_values(k) for k in ("date", "symbol"))
    pd.testing.assert_series_equal(excess(y, "mean"), y - y.groupby("date").transform("mean"))
    market_return = pd.Series(
        np.random.default_rng(seed).normal(size=15), index=bars.index.levels[0][:15]
    )  # unknown on the last dates
    np.testing.assert_allclose(excess(y, market_return), y - market_return.reindex(date).to_numpy())
    sector = pd.Series({"A": "x", "B": "x", "C": "x", "D": "y", "E": "y"})  # F has none
    parts = [excess(y[symbol.isin(list(group))]) for group in ("ABC", "DE")]
    expected = pd.concat(parts).reindex(y.index)
    pd.testing.assert_series_equal(excess(y, sector), expected)
    by_row = pd.Series(sector.reindex(symbol).to_numpy(), index=y.index)
    pd.testing.assert_series_equal(excess(y, by_row), expected)
    pd.testing.assert_series_equal(excess(y, by_row.astype("category")), expected)


@LIGHT
@given(seed=SEEDS)
def test_ranks_keep_the_order_and_nothing_else(seed: int) -> None:
    y = forward_returns(market(seed), 2)["y"]
    for to in ("normal", "uniform"):
        scores = rank_normalise(y, to)
        pd.testing.assert_series_equal(scores, rank_normalise(y**3 * 5, to))
        assert scores.isna().equals(y.isna())
        ranks = pd.DataFrame({"a": y, "b": scores}).groupby("date").rank()
        assert ranks["a"].equals(ranks["b"])
        assert np.allclose(scores.groupby("date").mean().dropna(), 0)
    assert rank_normalise(y, "uniform").abs().max() < 0.5
    assert (
        rank_normalise(y.iloc[:0]).empty
        and rank_normalise(y * np.nan).isna().all()
        and rank_normalise(y * np.inf).isna().all()
    )
    assert (rank_normalise(y.dropna().groupby("date").head(1)) == 0).all()  # alone on a date


@LIGHT
@given(seed=SEEDS, entry=ENTRIES)
def test_counts_add_up(seed: int, entry: str) -> None:
    bars = market(seed)
    labels = forward_returns(bars, 3, entry, table_of(bars, seed))
    counts = label_counts(labels)
    assert counts.loc["rows", "count"] == counts.loc[["labelled", "no entry", "no exit"], "count"].sum() == len(bars)
    assert (
        counts.loc["delisted", "count"] == labels["delisted"].sum()
        and not (labels["delisted"] & labels["censored"]).any()
    )
    assert label_counts(labels.iloc[:0])["count"].eq(0).all()


def test_a_delisting_without_a_return_is_the_last_close_and_a_plain_series_of_dates_will_do() -> None:
    bars = market(1, gaps=0)
    last = bars.reset_index("date").groupby("symbol")["date"].max()
    dates = last[last < last.max()]
    a, b = forward_returns(bars, 3, delisted=dates), forward_returns(bars, 3)
    both = a["delisted"] & b["censored"]
    assert both.any() and a.loc[both, "y"].equals(b.loc[both, "y"])
    assert forward_returns(bars, 3, delisted=pd.Series({"ZZ": pd.Timestamp("2024-01-05")})).equals(b)


def test_refused_delistings_and_yardsticks() -> None:
    bars = market(0, gaps=0)
    y = forward_returns(bars, 2)["y"]
    day = pd.Timestamp("2024-03-01")
    for words, table in {
        "no date": pd.DataFrame({"when": [day]}, index=["B"]),
        "delisting of B": pd.DataFrame({"date": [day], "return": [-1.5]}, index=["B"]),
        "delisting of C": pd.Series([pd.NaT], index=["C"], dtype="datetime64[us]"),
        "second row": pd.Series([day, day], index=["B", "B"]),
        "after its delisting": pd.Series({"A": pd.Timestamp("2024-01-02")}),
    }.items():
        with pytest.raises(DataError, match=words):
            forward_returns(bars, 2, delisted=table)
    with pytest.raises(ConfigError, match="'median'"):
        excess(y, "sector")
    with pytest.raises(PanelError, match="drop the symbol level"):
        excess(y, y)
    with pytest.raises(ConfigError, match="'uniform'"):
        rank_normalise(y, "rank")
    with pytest.raises(PanelError, match="lacks"):
        label_counts(bars)


def test_intraday_labels_keep_their_clock() -> None:
    bars = market(0, gaps=0)
    ends = pd.date_range("2024-01-02 15:00", periods=20, freq="5min", tz="UTC", unit="us")
    intraday = bars.set_axis(bars.index.set_levels(ends, level="date"))
    labels, plain_ = forward_returns(intraday, 3), forward_returns(bars, 3)
    assert str(labels["t1"].dtype) == str(labels["entry"].dtype) == "datetime64[us, UTC]"
    assert labels["y"].to_numpy().tobytes() == plain_["y"].to_numpy().tobytes()


def test_fast_on_the_size_of_the_sample() -> None:
    bars = market(0, n_dates=3500, symbols="".join(chr(0x4E00 + i) for i in range(120)), gaps=0.0)
    forward_returns(bars.iloc[:500])
    labels = forward_returns(bars, 20)
    assert len(labels) > 300_000


def two_names(n: int = 30) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2024-01-01", periods=n, unit="us"), ["A", "B"]], names=["date", "symbol"]
    )
    price = np.linspace(10, 20, len(index))
    return pd.DataFrame({"open": price, "close": price + 0.5}, index=index)


def test_the_defaults_and_the_first_label_by_hand() -> None:
    bars = two_names()
    labels = forward_returns(bars)
    pd.testing.assert_frame_equal(labels, forward_returns(bars, 20, "open", None))
    first = labels.iloc[0]
    open_ = bars["open"].xs("A", level="symbol")
    assert (
        first["y"] == pytest.approx(open_.iloc[21] / open_.iloc[1] - 1)
        and first["t1"] == open_.index[21]
        and first["entry"] == open_.index[1]
    )
    assert labels["y"].notna().sum() == 2 * 9 and not labels[["censored", "delisted"]].any(axis=None)
    close = forward_returns(bars, 1, "close").iloc[0]
    assert (
        close["y"] == pytest.approx(bars["close"].iloc[2] / bars["close"].iloc[0] - 1) and close["t1"] == open_.index[1]
    )


def test_a_loss_of_everything_and_of_more() -> None:
    bars = two_names(10).drop(index=[(d, "B") for d in pd.bdate_range("2024-01-08", periods=5)])
    day = pd.Timestamp("2024-01-09")
    table = lambda gain: pd.DataFrame({"date": [day], "return": [gain]}, index=["B"])
    assert forward_returns(bars, 3, delisted=table(-1.0)).xs("B", level="symbol")["y"].iloc[-2] == -1.0
    for gain in (-1.0001, np.inf):
        with pytest.raises(DataError, match="the delisting of B has no date, a return below -1"):
            forward_returns(bars, 3, delisted=table(gain))


def test_a_delisting_is_known_when_it_was_told_and_never_before_it() -> None:
    bars = two_names(12).drop(index=[(d, "B") for d in pd.bdate_range("2024-01-08", periods=7)])
    last = pd.Timestamp("2024-01-08")
    for told, row in ((pd.Timestamp("2024-01-10"), 7), (pd.Timestamp("2024-01-01"), 5), (None, 5)):
        table = pd.DataFrame(
            {"date": [last], "return": [-0.5], "known_at": pd.Series([told], dtype="datetime64[us]").to_numpy()},
            index=["B"],
        )
        got = forward_returns(bars, 6, delisted=table).xs("B", level="symbol")
        assert got["delisted"].iloc[3] and got["t1"].iloc[3] == pd.bdate_range("2024-01-01", periods=12)[row]


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "5", None])
def test_a_horizon_is_a_whole_number_of_sessions(wrong) -> None:
    with pytest.raises(ConfigError, match="horizon is .*at least 1"):
        forward_returns(two_names(), wrong)


def test_comparisons_are_known_with_the_latest_of_their_date() -> None:
    from quantlab.labels.forward import latest_t1

    day, later = pd.bdate_range("2024-01-01", periods=2, unit="us"), pd.bdate_range("2024-01-10", periods=4, unit="us")
    index = pd.MultiIndex.from_product([day, list("ABC")], names=["date", "symbol"])
    labels = pd.DataFrame(
        {
            "y": [0.1, 0.2, 0.3, 0.1, np.nan, 0.3],
            "t1": [later[0], later[2], later[1], later[1], pd.NaT, later[1]],
            "entry": day[1],
        },
        index=index,
    )
    labels["censored"], labels["delisted"] = False, False
    assert latest_t1(labels).tolist()[:3] == [later[2]] * 3
    gone = labels.assign(delisted=[False] * 3 + [True, False, True])  # only the paid ones are known, B is still open
    assert latest_t1(gone).isna().tolist() == [False] * 3 + [True] * 3
    assert (
        latest_t1(gone.assign(entry=gone["entry"].mask(gone["y"].isna()))).tolist()[3::2] == [later[1]] * 2
    )  # B was never bought
    assert latest_t1(gone.assign(ambiguous=[False] * 4 + [True, False])).tolist()[3::2] == [later[1]] * 2
    touched = labels.assign(touched=["upper", "vertical", "lower", "upper", None, "lower"])
    assert latest_t1(touched).isna().tolist() == [False] * 3 + [True] * 3
    assert latest_t1(touched.assign(censored=[False] * 3 + [True, False, False])).tolist()[3::2] == [later[1]] * 2
    with pytest.raises(PanelError, match=r"lacks \['t1'\]"):
        latest_t1(labels.drop(columns="t1"))
    assert rank_normalise(labels)["t1"].tolist()[:3] == [later[2]] * 3


def test_counts_by_hand() -> None:
    labels = pd.DataFrame(
        {
            "y": [0.1, np.nan, np.nan, np.nan],
            "entry": pd.to_datetime(["2024-01-02"] * 3 + [None]),
            "censored": [True, False, False, False],
            "ambiguous": [False, True, False, False],
        }
    )
    counts = label_counts(labels)
    assert counts["count"].to_dict() == {
        "rows": 4,
        "labelled": 1,
        "censored": 1,
        "ambiguous": 1,
        "no entry": 1,
        "no exit": 1,
    }
    assert counts["share"].to_dict() == {
        "rows": 1.0,
        "labelled": 0.25,
        "censored": 0.25,
        "ambiguous": 0.25,
        "no entry": 0.25,
        "no exit": 0.25,
    }


def test_normal_scores_by_hand() -> None:
    index = pd.MultiIndex.from_product([pd.DatetimeIndex(["2024-01-01"]), list("ABCD")], names=["date", "symbol"])
    y = pd.Series([4.0, 1.0, 3.0, 2.0], index)
    assert rank_normalise(y, "uniform").tolist() == [0.375, -0.375, 0.125, -0.125]
    assert rank_normalise(y).tolist() == pytest.approx([1.15035, -1.15035, 0.31864, -0.31864], abs=1e-5)


def test_the_first_of_two_delistings_that_cannot_be_is_named() -> None:
    bars = two_names(6)
    with pytest.raises(DataError, match="A has bars until 2024-01-08 00:00:00, after its delisting"):
        forward_returns(bars, 2, delisted=pd.Series({"A": pd.Timestamp("2024-01-02"), "B": pd.Timestamp("2024-01-02")}))


def test_shares_of_no_rows_and_of_one() -> None:
    labels = forward_returns(two_names(4), 1)
    assert label_counts(labels.iloc[:1]).loc["rows", "share"] == 1.0
    with np.errstate(all="raise"):
        assert (label_counts(labels.iloc[:0])["share"] == 0).all()


def test_sectors_by_symbol_have_no_clock() -> None:
    bars = two_names(6)
    hours = bars.set_axis(
        bars.index.set_levels(pd.date_range("2024-01-02", periods=6, freq="h", tz="UTC", unit="us"), level="date")
    )
    sector = pd.Series({"A": "x", "B": "x"})
    y, daily = (forward_returns(b, 1)["y"] for b in (hours, bars))
    assert excess(y, sector).to_numpy().tobytes() == excess(daily, sector).to_numpy().tobytes()
    with pytest.raises(PanelError, match="UTC.*without a time zone"):
        excess(y, pd.Series("x", daily.index))


def one(symbol: str, opens: list[float], closes: list[float]) -> pd.DataFrame:
    """The bars of one symbol."""
    dates = pd.date_range("2024-01-01", periods=len(opens), unit="us")
    index = pd.MultiIndex.from_product([dates, pd.Index([symbol], dtype="str")], names=["date", "symbol"])
    return pd.DataFrame({"open": opens, "close": closes}, index=index)


FIRST = one("A", [10.0, 11.0, 12.0, 15.0, 12.0, 18.0], [10.5, 11.5, 14.0, 13.0, 17.0, 18.5])


def test_nothing_in_gives_an_empty_frame_of_the_same_kinds() -> None:
    bars = market(3)
    kinds = forward_returns(bars).dtypes
    assert forward_returns(bars.iloc[:0]).dtypes.equals(kinds)
    told = pd.DataFrame({"date": pd.to_datetime(["2024-02-01"]), "return": -0.3}, index=["A"])
    assert forward_returns(bars.iloc[:0], delisted=told).dtypes.equals(kinds)
    assert forward_returns(bars.iloc[:1])[["y", "t1", "entry"]].isna().all(axis=None)


def test_bars_without_a_usable_price_have_no_label() -> None:
    bars = market(4, gaps=0.0)
    nothing = forward_returns(bars.assign(open=np.nan, close=np.inf), 2)
    assert nothing["y"].isna().all() and nothing["t1"].isna().all() and not nothing["censored"].any()
    assert forward_returns(bars.assign(open=0.0), 2)["y"].isna().all()
    labels = forward_returns(bars, 2)
    assert excess(labels["y"].iloc[:0]).empty and excess(labels["y"] * np.nan).isna().all()
    assert (labels["t1"] > labels.index.get_level_values("date"))[labels["y"].notna()].all()
    assert labels["t1"].isna().equals(labels["y"].isna().rename("t1"))


@pytest.mark.parametrize(
    ("price", "row", "horizon", "lost"),
    [(np.nan, 1, 1, [0, 4, 5]), (np.nan, 3, 2, [0, 2, 3, 4, 5]), (0.0, 1, 1, [0, 4, 5])],
)
def test_a_missing_open_loses_the_labels_that_enter_or_leave_there(price, row, horizon, lost) -> None:
    holed = FIRST.copy()
    holed.iloc[row, 0] = price
    assert np.flatnonzero(forward_returns(holed, horizon)["y"].isna()).tolist() == lost


def stopped(opens: list[float], closes: list[float], entry: str) -> pd.DataFrame:
    """The labels of a name that stops on the fourth of six days."""
    both = pd.concat([FIRST, one("B", opens, closes)]).sort_index()
    return forward_returns(both, 2, entry).xs("B", level="symbol")


def test_a_name_that_stops_is_censored_only_where_it_was_held() -> None:
    at_close = stopped([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0], "close")
    assert at_close["censored"].tolist() == [False, False, True, False]  # the last day holds nothing
    assert np.allclose(at_close["y"], [0, 1, 1, np.nan], equal_nan=True)
    late_open = stopped([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 2.0, np.nan], "open")
    assert late_open["censored"].tolist() == [False, True, False, False]  # no close after the last open
    unbought = stopped([1.0, 1.0, np.nan, 1.0], [1.0, 1.0, 1.0, 2.0], "open")
    assert unbought["censored"].tolist() == [False, False, True, False]
    assert unbought["y"].isna().tolist() == [False, True, False, True]
