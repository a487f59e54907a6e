"""data.calendar: bars belong to sessions, are labelled by their end, and nothing unfinished is shown."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.core.time import end_stamps
from quantlab.data.bars import adjust
from quantlab.data.calendar import (
    bar_ends,
    exchange_sessions,
    expected_ends,
    monthly,
    next_session,
    previous_session,
    resample,
    schedule,
    session_of,
    week_as_of,
    weekly,
)
from quantlab.data.sample import sample_bars

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data"
HOURS = schedule("XNYS", "2025-03-06", "2025-03-11")  # the clocks change between the second and the third
FRIDAY = schedule("XNYS", "2025-11-28", "2025-11-28")  # closes at 13:00


def walk(ends, symbols=("A", "B"), seed=0):
    "Bars of a random walk on the given ends."
    rng = np.random.default_rng(seed)
    tables = []
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(ends))))
        first = close * np.exp(rng.normal(0, 1e-3, len(ends)))
        table = {
            "date": ends,
            "symbol": symbol,
            "open": first,
            "high": np.maximum(first, close) * 1.001,
            "low": np.minimum(first, close) * 0.999,
        }
        tables.append(pd.DataFrame(table | {"close": close, "volume": rng.integers(0, 1000, len(ends)).astype(float)}))
    return as_panel(pd.concat(tables))


def by_loop(bars, hours, minutes):
    "Resample one bar at a time, straight from the definition."
    rows, step = {}, pd.Timedelta(minutes=minutes)
    for (end, symbol), bar in bars.iterrows():
        for day in hours.itertuples():
            if day.open < end <= day.close:
                label = day.open
                while label < end:
                    label = min(label + step, day.close)
                rows.setdefault((label, symbol), []).append(bar)
    out = {
        k: [b[0].open, max(x.high for x in b), min(x.low for x in b), b[-1].close, sum(x.volume for x in b)]
        for k, b in rows.items()
    }
    return pd.DataFrame(
        out.values(), index=pd.MultiIndex.from_tuples(out, names=["date", "symbol"]), columns=list(bars.columns)
    ).sort_index()


@pytest.mark.parametrize(
    "hours",
    [
        HOURS.iloc[:2],
        FRIDAY,
        schedule("24/7", "2025-03-09", "2025-03-09"),
        schedule("CMES", "2025-03-10", "2025-03-10", settle="15:00"),
    ],
)
@pytest.mark.parametrize(("interval", "to", "minutes"), [("5min", "1h", 60), ("5min", "4h", 240), ("1h", "4h", 240)])
def test_equals_a_loop_over_the_definition(hours, interval, to, minutes):
    bars = walk(bar_ends(hours, interval))
    kept = bars[np.random.default_rng(1).random(len(bars)) < 0.8]
    until = hours["close"].max()
    pd.testing.assert_frame_equal(
        resample(kept, interval, to, hours, until=until), by_loop(kept, hours, minutes), check_index_type=False
    )


@given(st.integers(0, 779), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_what_comes_later_changes_nothing_that_was_known(position, seed):
    ends = bar_ends(HOURS.iloc[1:3], "1min")
    bars = walk(ends, ("A",), seed)
    bars = bars[np.random.default_rng(seed).random(len(bars)) < 0.7]
    cut = ends[position]
    dates = bars.index.get_level_values("date")
    for to in ("5min", "1h", "1d"):
        whole = resample(bars, "1min", to, HOURS, until=ends[-1])
        before = resample(bars[dates <= cut], "1min", to, HOURS, until=cut)
        label = whole.index.get_level_values("date")
        known = pd.DatetimeIndex(HOURS["close"].reindex(label)) if to == "1d" else label
        assert set(before.index) == set(whole.index[known <= cut])
        pd.testing.assert_frame_equal(before, whole.loc[before.index])


def test_hours_across_the_change_of_clocks_and_half_days():
    assert HOURS["open"].dt.strftime("%H:%M").tolist() == ["14:30", "14:30", "13:30", "13:30"]
    assert (
        not HOURS["half"].any() and FRIDAY["half"].all() and str(FRIDAY["close"].iloc[0]) == "2025-11-28 18:00:00+00:00"
    )
    london = schedule("XLON", "2025-10-24", "2025-10-27")  # leaves summer time a week before New York
    assert london["open"].dt.strftime("%H:%M").tolist() == ["07:00", "08:00"]
    assert HOURS.index.dtype == "datetime64[us]" and {str(t) for t in HOURS.dtypes[:4]} == {"datetime64[us, UTC]"}


def test_settlement_bounds_tile_time():
    hours = schedule("CMES", "2025-11-24", "2025-12-02", settle="15:00")
    assert (hours["open"].iloc[1:].to_numpy() == hours["close"].iloc[:-1].to_numpy()).all()
    assert hours["close"].dt.strftime("%d %H:%M").tolist() == [
        "24 21:00",
        "25 21:00",
        "26 21:00",
        "27 18:00",
        "28 18:00",
        "01 21:00",
        "02 21:00",
    ]
    bars = walk(pd.date_range("2025-11-25", "2025-12-01", freq="1h", tz="UTC").as_unit("us"), ("ES",))
    days = resample(bars, "1h", "1d", hours, until=hours["close"].max())
    assert days["volume"].sum() == bars["volume"].sum()  # nothing falls between two sessions


def test_session_edges():
    ends = pd.DatetimeIndex(
        [
            "2025-03-06 14:30",
            "2025-03-06 14:31",
            "2025-03-06 21:00",
            "2025-03-06 21:01",
            "2025-03-08 15:00",
            "2025-03-12 15:00",
        ],
        tz="UTC",
    )
    found = session_of(ends, HOURS)
    assert (
        found.isna().tolist() == [True, False, False, True, True, True]
        and (found.dropna() == pd.Timestamp("2025-03-06")).all()
    )
    midnight = session_of(pd.DatetimeIndex(["2025-01-02"], tz="UTC"), schedule("24/7", "2025-01-01", "2025-01-02"))
    assert midnight[0] == pd.Timestamp("2025-01-01")
    with pytest.raises(DataError, match="time zone"):
        session_of(ends.tz_localize(None), HOURS)


@pytest.mark.parametrize("name", ["XNYS", "XHKG", "24/7"])
@pytest.mark.parametrize("interval", ["1min", "5min", "1h", "4h"])
def test_bar_ends_are_on_their_own_grid(name, interval):
    hours = schedule(name, "2025-11-24", "2025-12-01")
    ends = bar_ends(hours, interval)
    assert ends.is_monotonic_increasing and ends.is_unique and ends.dtype == "datetime64[us, UTC]"
    assert not session_of(ends, hours).isna().any() and set(session_of(ends, hours)) == set(hours.index)
    bars = walk(ends, ("A",))
    if interval != "4h":
        assert resample(bars, interval, "1d", hours).index.get_level_values("date").equals(hours.index.rename("date"))


def test_next_and_previous_skip_what_is_closed():
    days = exchange_sessions("XNYS", "2024-12-01", "2025-02-01")
    inner = days[1:-1]
    assert (next_session(inner, "XNYS") == days[2:]).all() and (previous_session(inner, "XNYS") == days[:-2]).all()
    assert next_session(pd.DatetimeIndex(["2025-01-08 17:00"]), "XNYS")[0] == pd.Timestamp(
        "2025-01-10"
    )  # the 9th was a day of mourning
    assert previous_session(pd.DatetimeIndex(["2025-01-10 17:00"]), "XNYS")[0] == pd.Timestamp("2025-01-08")


def test_refusals_name_the_rows():
    bars = walk(bar_ends(HOURS, "1min"), ("A",))
    with pytest.raises(DataError, match="beyond the hours"):
        resample(bars, "1min", "5min", HOURS.iloc[:1])
    with pytest.raises(ConfigError, match="multiple"):
        resample(bars, "1min", "1min", HOURS)
    with pytest.raises(ConfigError, match="multiple"):
        resample(bars, "1h", "5min", HOURS)
    with pytest.raises(ConfigError, match="outside"):
        resample(bars, "1min", "5min", HOURS, outside="keep")
    late = walk(bar_ends(HOURS, "1min")[-1:] + pd.Timedelta(minutes=1), ("A",))
    with pytest.raises(DataError, match=r"1 bar\(s\) end outside trading hours, first: \(2025-03-11 20:01, A\)"):
        resample(late, "1min", "5min", HOURS)
    assert resample(late, "1min", "5min", HOURS, outside="drop").empty
    with pytest.raises(DataError, match="off the 5min grid"):
        resample(bars, "5min", "1h", HOURS)
    with pytest.raises(ConfigError, match="does not cover"):
        schedule("XKRX", "1900-01-01", "1901-01-01")


def test_missing_volume_stays_missing():
    bars = walk(bar_ends(FRIDAY, "1min"), ("A",))
    bars.iloc[:5, 4] = np.nan
    bars.iloc[5, 4] = np.nan
    five = resample(bars, "1min", "5min", FRIDAY)
    assert five["volume"].isna().tolist() == [True] + [False] * 41
    assert five["volume"].iloc[1] == bars["volume"].iloc[6:10].sum()


def test_weeks_of_the_sample_are_dated_on_real_sessions():
    bars = sample_bars(["AAPL", "XOM", "GEN"], "2010-01-04", "2023-12-27")
    weeks = weekly(bars, "XNYS")
    dates = bars.index.get_level_values("date").unique()
    last = weeks.index.get_level_values("date").unique()
    assert last.isin(dates).all() and last.max() == pd.Timestamp("2023-12-22")  # the week of the 27th is not over
    by_hand = bars["volume"].xs("XOM", level="symbol").loc[: last.max()].resample("W-SUN").sum()
    np.testing.assert_array_equal(weeks["volume"].xs("XOM", level="symbol").to_numpy(), by_hand[by_hand > 0].to_numpy())
    seen = week_as_of(weeks, bars.index)
    age = bars.index.get_level_values("date") - seen["known_at"]
    assert (age.dropna() >= pd.Timedelta(0)).all() and age.max() <= pd.Timedelta(days=7)
    changed = bars.copy()
    later = bars.index.get_level_values("date") > "2015-06-17"
    changed.loc[later, ["open", "high", "low", "close"]] *= 3
    again = week_as_of(weekly(changed, "XNYS"), bars.index)
    pd.testing.assert_frame_equal(again[~later], seen[~later])


def test_a_name_halted_on_friday_waits_for_the_week_to_end():
    bars = sample_bars(["AAPL", "XOM"], "2010-04-05", "2010-04-14").drop((pd.Timestamp("2010-04-09"), "XOM"))
    weeks = weekly(bars, "XNYS")
    assert weeks.index.tolist() == [(pd.Timestamp("2010-04-09"), s) for s in ("AAPL", "XOM")]
    assert weeks["close"].iloc[1] == bars.loc[(pd.Timestamp("2010-04-08"), "XOM"), "close"]
    with pytest.raises(DataError, match="daily"):
        weekly(walk(bar_ends(FRIDAY, "1h")), "XNYS")


@pytest.mark.skipif(not (SHARED / "intraday").is_dir(), reason="the shared intraday file is not on this machine")
def test_real_five_minute_bars():
    raw = pd.read_parquet(SHARED / "intraday" / "us_5min_2025-05_2025-11.parquet")
    raw = raw[raw["symbol"].isin(["AAPL", "SPY"])]
    ends = end_stamps(pd.DatetimeIndex(raw["datetime"]).tz_localize("America/New_York"), "5min")
    bars = as_panel(raw.drop(columns="datetime").assign(date=ends)).astype("float64")
    hours = schedule("XNYS", "2025-05-12", "2025-11-28")
    with pytest.raises(DataError, match="outside trading hours"):
        resample(bars, "5min", "1h", hours)
    day = resample(bars, "5min", "1d", hours, outside="drop")
    assert len(day) == 2 * len(hours)
    local = raw[(raw["symbol"] == "SPY") & (raw["datetime"].dt.time >= pd.Timestamp("09:30").time())]
    close = pd.Timestamp("16:00").time()
    local = local[
        (local["datetime"].dt.time < close)
        & ~(
            (local["datetime"].dt.date.isin([pd.Timestamp(d).date() for d in ("2025-07-03", "2025-11-28")]))
            & (local["datetime"].dt.hour >= 13)
        )
    ]
    volume = local.groupby(local["datetime"].dt.normalize())["volume"].apply(lambda v: v.astype("float64").sum())
    np.testing.assert_array_equal(day["volume"].xs("SPY", level="symbol").to_numpy(), volume.to_numpy())


@pytest.mark.skipif(not (SHARED / "crypto").is_dir(), reason="the shared crypto files are not on this machine")
def test_real_crypto_days():
    raw = pd.read_parquet(SHARED / "crypto" / "BTCUSDT_4h_2019_2024.parquet")
    bars = as_panel(raw.drop(columns="t").assign(date=end_stamps(pd.DatetimeIndex(raw["t"]), "4h"), symbol="BTC/USDT"))
    hours = schedule("24/7", "2019-01-01", "2024-12-31")
    expected = bar_ends(hours, "4h")
    assert len(expected.difference(bars.index.get_level_values("date"))) == 5  # the exchange's outages
    days = resample(bars, "4h", "1d", hours)
    by_open = raw.groupby(raw["t"].dt.tz_localize(None).dt.normalize()).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    np.testing.assert_allclose(days.to_numpy(), by_open.to_numpy(), rtol=1e-12)
    assert (days.index.get_level_values("date") == by_open.index).all()


# --- one price level ---------------------------------------------------------------------------------------------

PRICES = ["open", "high", "low", "close"]
QUARTER = exchange_sessions("XNYS", "2024-01-02", "2024-03-28")


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from([1 / 7, 0.5, 3.0, 10.0]),
    st.floats(0.9, 0.999),
    st.sampled_from([weekly, monthly]),
)
@settings(max_examples=6, deadline=None)
def test_combining_equals_combining_the_adjusted_history(split_day, dividend_day, size, payout, combine):
    "Law: adjust then combine, and combine then adjust, are one; on a random day a split, on another a dividend."
    total = walk(QUARTER).assign(amount=1e6)
    day = total.index.get_level_values("date")
    split, adj = np.where(day < QUARTER[split_day], size, 1.0), np.where(day < QUARTER[dividend_day], payout, 1.0)
    traded = total.assign(
        **{c: total[c] / split / adj for c in PRICES}, volume=total["volume"] * split, split=split, adj=adj
    ).assign(vwap=lambda f: (f["open"] + f["close"]) / 2)
    one, other = adjust(combine(traded, "XNYS"), "total"), combine(adjust(traded, "total"), "XNYS")
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    pd.testing.assert_frame_equal(one[PRICES], combine(total, "XNYS")[PRICES], rtol=1e-9)
    splits = traded.drop(columns="adj")
    pd.testing.assert_frame_equal(
        adjust(combine(splits, "XNYS"), "split"), combine(adjust(splits, "split"), "XNYS"), rtol=1e-9
    )


@given(
    st.integers(1, 25), st.sampled_from([0.25, 4.0]), st.sampled_from([("5min", "1h"), ("1h", "1d"), ("5min", "1d")])
)
@settings(max_examples=8, deadline=None)
def test_a_split_inside_a_session_too(at, size, way):
    total = walk(bar_ends(HOURS, way[0]))
    old = total.index.get_level_values("date") < total.index.levels[0][at]
    traded = total.assign(
        **{c: np.where(old, total[c] / size, total[c]) for c in PRICES},
        volume=np.where(old, total["volume"] * size, total["volume"]),
        split=np.where(old, size, 1.0),
    )
    got = adjust(resample(traded, *way, HOURS), "split")
    pd.testing.assert_frame_equal(got[[*PRICES, "volume"]], resample(total, *way, HOURS), rtol=1e-9)


def test_a_split_that_no_factor_carries_is_named(recwarn):
    bars = walk(QUARTER)
    clean = weekly(bars, "XNYS")
    assert not [w for w in recwarn.list if "inside a bar" in str(w.message)]
    tuesday = QUARTER[5]  # 9 January 2024
    old = (bars.index.get_level_values("date") < tuesday) & (bars.index.get_level_values("symbol") == "A")
    traded = bars.assign(**{c: bars[c].where(~old, bars[c] * 5) for c in PRICES})
    with pytest.warns(UserWarning, match=r"1 move\(s\) inside a bar .*A 2024-01-09"):
        weekly(traded, "XNYS")
    monday = QUARTER[4]
    between = bars.assign(
        **{
            c: bars[c].where(
                ~((bars.index.get_level_values("date") < monday) & (bars.index.get_level_values("symbol") == "A")),
                bars[c] * 5,
            )
            for c in PRICES
        }
    )
    got = weekly(between, "XNYS")  # between two weeks nothing is mixed
    assert len([w for w in recwarn.list if "inside a bar" in str(w.message)]) == 0 and got.loc["2024-01-12":].equals(
        clean.loc["2024-01-12":]
    )


def test_months_and_long_bars_that_are_expected():
    bars = sample_bars(["AAPL"], "2023-10-16", "2023-12-29")
    months = monthly(bars, "XNYS")
    assert list(months.index.get_level_values("date")) == [
        pd.Timestamp(d) for d in ("2023-10-31", "2023-11-30", "2023-12-29")
    ]
    assert months["volume"].iloc[1] == bars.loc["2023-11", "volume"].sum() and monthly(bars.iloc[:-1], "XNYS").index[
        -1
    ][0] == pd.Timestamp("2023-11-30")
    weeks = weekly(bars, "XNYS").index.get_level_values("date")
    assert expected_ends("XNYS", "1w", weeks[0], weeks[-1]).equals(weeks.rename("session"))
    assert expected_ends("XNYS", "1mo", "2023-10-01", "2023-12-31").equals(
        months.index.get_level_values("date").rename("session")
    )
    with pytest.raises(DataError, match="without a time zone"):
        expected_ends("XNYS", "1d", "2024-01-02 15:00Z", "2024-01-03 15:00Z")
    with pytest.raises(ConfigError, match="then call monthly"):
        resample(walk(bar_ends(HOURS, "1h")), "1h", "1mo", HOURS)


def minutes(ends):
    "Minute bars whose close counts up by one a minute, 100 shares each."
    close = np.arange(len(ends)) + 100.0
    prices = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 100.0}
    return as_panel(pd.DataFrame({"date": ends, "symbol": "SPY"} | prices))


def test_nothing_becomes_nothing():
    bars = sample_bars(["AAPL", "XOM"], "2010-03-15", "2010-04-14")
    empty = minutes(bar_ends(HOURS, "1min")).iloc[:0]
    assert resample(empty, "1min", "5min", HOURS).empty and weekly(bars.iloc[:0], "XNYS").empty
    assert weekly(bars.iloc[:1], "XNYS").empty  # one Monday is no week
    assert resample(empty, "1min", "1d", HOURS).index.levels[0].tz is None
    assert week_as_of(weekly(bars, "XNYS"), bars.index[:0]).empty
    ends = pd.DatetimeIndex(["2025-07-02 13:35Z", "2025-07-02 20:00Z"])
    assert session_of(ends, FRIDAY.iloc[:0]).isna().all() and bar_ends(FRIDAY.iloc[:0], "5min").empty


def test_a_bar_that_has_not_ended_is_not_shown_unless_its_end_is_told():
    whole = minutes(bar_ends(FRIDAY, "1min"))
    assert len(resample(whole.iloc[:5], "1min", "5min", FRIDAY)) == 1
    assert resample(whole.iloc[:4], "1min", "5min", FRIDAY).empty
    until = pd.Timestamp("2025-11-28 14:35", tz="UTC")
    assert len(resample(whole.iloc[:4], "1min", "5min", FRIDAY, until=until)) == 1


def test_resample_knows_the_columns_it_combines():
    whole = minutes(bar_ends(FRIDAY, "1min"))
    paid = whole.assign(vwap=whole["close"], adj=0.5, amount=1.0)
    assert resample(paid, "1min", "5min", FRIDAY)[["vwap", "adj", "amount"]].iloc[0].tolist() == [102, 0.5, 5]
    with pytest.raises(DataError, match="'wind'"):
        resample(whole.assign(wind=1.0), "1min", "5min", FRIDAY)
    with pytest.raises((ConfigError, DataError), match="call weekly"):
        resample(whole.iloc[:0], "1min", "1w", FRIDAY)


def test_expected_ends_of_weeks_months_and_of_a_market_that_never_closes():
    weeks = bar_ends(schedule("XNYS", "2010-03-29", "2010-04-12"), "1w")
    assert weeks.strftime("%m-%d").tolist() == ["04-01", "04-09"]
    months = expected_ends("XNYS", "1mo", "2010-03-01", "2010-05-01")
    assert months.strftime("%m-%d").tolist() == ["03-31", "04-30"]
    halves = expected_ends("24/7", "12h", "2025-03-08 00:00Z", "2025-03-09 00:00Z")
    assert halves.strftime("%d %H").tolist() == ["08 00", "08 12", "09 00"]
