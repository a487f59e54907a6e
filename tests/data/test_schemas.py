"""data.schemas: one door for every kind of frame, the verdict of check_bars, repairs that are named and counted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel
from quantlab.data.bars import check_bars, read_bars
from quantlab.data.schemas import REPAIRS, bars_schema, check, repair_bars

DAYS = pd.date_range("2024-01-01", periods=4)
GOOD = as_panel(
    pd.DataFrame(
        [
            {"date": d, "symbol": s, "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0, "adj": 0.9}
            for d in DAYS
            for s in "AB"
        ]
    )
)


def verdict(call):
    try:
        call()
    except DataError as error:
        return str(error).removeprefix("bars: ")
    return None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.sampled_from(list(GOOD.columns)),
            st.sampled_from([0.0, -1.0, np.nan, np.inf, 8.0, 10.0, 13.0]),
        ),
        max_size=3,
    )
)
@settings(max_examples=30, deadline=None)
def test_pandera_and_the_fast_check_agree(changes):
    bars = GOOD.copy()
    for row, column, value in changes:
        bars.iloc[row, bars.columns.get_loc(column)] = value
    assert verdict(lambda: check(bars, "bars")) == verdict(lambda: check_bars(bars))


def test_bars_door_refuses_each_input():
    "The list of the data room, one by one; what matters is the rule, the count, the place and the remedy."
    local = as_panel(GOOD.reset_index().assign(date=lambda f: f["date"] + pd.Timedelta("15h")))
    cases = [
        (GOOD.iloc[::-1], PanelError, ["not sorted", "as_panel"]),
        (pd.concat([GOOD, GOOD.iloc[:1]]).sort_index(), PanelError, ["twice", "(2024-01-01, A)"]),
        (
            GOOD.assign(high=GOOD["low"] - 1),
            DataError,
            ["high < low: 8 row(s)", "(2024-01-01, A) high=8 low=9", "correct the source"],
        ),
        (GOOD.assign(low=-1.0), DataError, ["low is not positive: 8 row(s)"]),
        (GOOD.assign(close=np.nan), DataError, ["close is missing or infinite: 8 row(s)", "close=nan volume=5"]),
        (local, DataError, ["no time zone"]),
        (GOOD.astype({"close": "str"}), DataError, ["close holds str", "numbers", "convert"]),
        (GOOD.drop(columns="volume"), PanelError, ["volume"]),
    ]
    for bars, error, parts in cases:
        with pytest.raises(error) as raised:
            check(bars, "bars")
        assert all(part in str(raised.value) for part in parts), str(raised.value)
        assert str(raised.value).count("(2024-") <= 5
    with pytest.raises(
        DataError, match=r"dated after 2024-01-03 .*2 row\(s\), first: \(2024-01-04, A\); \(2024-01-04, B\)"
    ):
        check(GOOD, "bars", until="2024-01-03")
    assert check(GOOD, "bars", until=pd.Timestamp("2024-01-04 00:01Z")) is GOOD


CSV = "date,symbol,open,high,low,close,volume\n2024-01-02,A,10,12,9,11,100\n2024-01-03,A,10,12,9,11,100\n"


@pytest.mark.parametrize(
    ("text", "form", "parts"),
    [
        ("", {}, ["empty"]),
        (CSV.replace(",", ";"), {}, ["separated by ';'", "separator=';'"]),
        (CSV.replace(",", "\t"), {}, ["separated by"]),
        (
            CSV.replace(",", ";").replace("9;", "9,5;"),
            {"separator": ";"},
            ["low are not numbers", "'9,5'", "decimal=','"],
        ),
        (CSV.replace(",9,", ',"9,5",'), {}, ["decimal=','"]),
        (CSV.replace(",9,", ",9,5,"), {}, ["more fields than its header", "decimal=','"]),
        (CSV.split("\n2024-01-03")[0].replace(",9,", ",9,5,") + "\n2024-01-03,A,10,12,9,11,100\n", {}, ["mine.csv"]),
        (CSV.replace("2024-01-03", "2024-01-02"), {}, ["repeat an earlier"]),
        (CSV.replace("9,11", "9,-11"), {}, ["close is not positive: 2 row(s)"]),
        (CSV.replace("9,11", "9,"), {}, ["close is missing", "volume=100"]),
        (CSV.replace("2024-01-03", "2024-01-03 10:30"), {}, ["no time zone"]),
        (CSV, {"until": "2024-01-02"}, ["dated after 2024-01-02", "(2024-01-03, A)"]),
    ],
)
def test_file_door_refuses_each_input(tmp_path, text, form, parts):
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(DataError) as raised:
        read_bars(file, **form)
    assert all(part in str(raised.value) for part in ["mine.csv", *parts]), str(raised.value)


def test_file_door_accepts_what_was_said(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(CSV)
    plain = read_bars(file)
    file.write_text(CSV, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_bars(file), plain)
    file.write_text(CSV.replace(",", ";").replace("9;", "9,0;"))
    pd.testing.assert_frame_equal(read_bars(file, separator=";", decimal=",", until="2024-01-03"), plain)
    with pytest.raises(ConfigError, match="must differ"):
        read_bars(file, separator=",", decimal=",")
    with pytest.raises(DataError, match="UTF-8"):
        file.write_text(CSV, encoding="utf-16")
        read_bars(file)


NOW = pd.Timestamp("2024-01-02 14:30", tz="UTC")
TRADES = pd.DataFrame({"time": [NOW] * 7, "symbol": "A", "price": 10.0, "size": 100})
QUOTES = pd.DataFrame(
    {
        "time": [NOW] * 2,
        "symbol": "A",
        "bid": [9.0, np.nan],
        "ask": [10.0, 10.0],
        "bid_size": [1.0, np.nan],
        "ask_size": 1.0,
    }
)
EVENTS = pd.DataFrame({"event_time": [NOW], "known_at": [NOW], "symbol": ["A"], "kind": ["earnings"]})
FACTS = pd.DataFrame({"known_at": pd.to_datetime(["2024-01-02", "2024-01-03"]), "symbol": "A", "sector": ["x", "y"]})
SPELLS = pd.DataFrame(
    {
        "symbol": ["A", "A"],
        "start": pd.to_datetime(["2020-01-01", "2022-01-01"]),
        "end": pd.to_datetime(["2021-01-01", None]),
    }
)
KINDS = {"trades": TRADES, "quotes": QUOTES, "events": EVENTS, "reference": FACTS, "universe": SPELLS}


@pytest.mark.parametrize("kind", KINDS)
def test_good_frames_pass_untouched(kind):
    frame = KINDS[kind]
    before = frame.copy()
    assert check(frame, kind) is frame and check(frame.iloc[:0], kind).empty
    pd.testing.assert_frame_equal(frame, before)
    for column in [c for c in frame.columns if c != "sector"]:
        with pytest.raises(DataError, match=f"column {column} is missing"):
            check(frame.drop(columns=column), kind)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (
            "trades",
            {"price": 0.0},
            r"price is not positive: 7 row\(s\), first: \(2024-01-02 14:30:00\+00:00, A\) price=0",
        ),
        ("trades", {"size": np.inf}, "size is missing or infinite"),
        ("trades", {"symbol": " "}, "symbol is missing"),
        ("trades", {"time": [NOW] * 6 + [NOW - pd.Timedelta("1us")]}, r"time goes backwards: 1 row"),
        ("trades", {"time": [NOW.tz_convert("America/New_York")] * 7}, "America/New_York"),
        ("trades", {"time": "10:30"}, "column time holds .* must hold timestamps"),
        ("quotes", {"bid": [11.0, 9.0]}, "bid > ask: 1 row"),
        ("quotes", {"ask": [10.0, np.nan]}, "neither bid nor ask"),
        ("quotes", {"bid_size": [0.0, 1.0]}, "bid_size is not a positive number"),
        ("quotes", {"ask": [-1.0, 1.0]}, "ask is not a positive number"),
        ("events", {"known_at": pd.NaT}, "known_at"),
        ("events", {"kind": ""}, "kind is missing"),
        ("reference", {"known_at": pd.Timestamp("2024-01-02")}, "known_at and symbol repeat an earlier row: 1 row"),
        ("universe", {"end": pd.Timestamp("2019-01-01")}, "end < start: 2 row"),
        ("universe", {"start": pd.Timestamp("2020-01-01")}, "repeat an earlier row"),
    ],
)
def test_each_rule_fires(kind, change, said):
    with pytest.raises(DataError, match=said):
        check(KINDS[kind].assign(**change), kind)


def test_unknown_kind_and_future():
    with pytest.raises(ConfigError, match="trades, quotes"):
        check(TRADES, "ticks")
    for kind, moment in {
        "trades": NOW,
        "events": NOW,
        "reference": pd.Timestamp("2024-01-03"),
        "universe": pd.Timestamp("2022-01-01"),
    }.items():
        assert check(KINDS[kind], kind, until=moment) is KINDS[kind]
        with pytest.raises(DataError, match="dated after"):
            check(KINDS[kind], kind, until=moment - pd.Timedelta("1min"))
    with pytest.raises(DataError, match="has no time zone"):
        check(TRADES, "trades", until="2024-01-03")


def test_messages_name_at_most_five_rows_and_schema_is_pandera():
    import pandera.pandas as pa

    with pytest.raises(DataError) as raised:
        check(TRADES.assign(price=-1.0), "trades")
    assert "7 row(s)" in str(raised.value) and str(raised.value).count("price=-1") == 5
    assert isinstance(bars_schema(), pa.DataFrameSchema) and "adj" in bars_schema(["adj"]).columns


DIRTY = {
    "sort": (lambda f: f.iloc[::-1], 8),
    "drop_duplicates": (lambda f: pd.concat([f, f.iloc[[0]]]), 1),
    "keep_first": (lambda f: pd.concat([f, f.iloc[[0]] * 2]), 1),
    "keep_last": (lambda f: pd.concat([f.iloc[[0]] * 2, f]), 1),
    "drop_missing": (lambda f: pd.concat([f, f.iloc[[0]].rename(index={"A": "Z"}, level=1) * np.nan]), 1),
    "drop_nonpositive": (lambda f: pd.concat([f, f.iloc[[0]].rename(index={"A": "Z"}, level=1) * -1]), 1),
    "drop_high_below_low": (
        lambda f: pd.concat([f, f.iloc[[0]].rename(index={"A": "Z"}, level=1).assign(high=1.0)]),
        1,
    ),
}


@pytest.mark.parametrize("step", DIRTY)
def test_each_repair_does_its_one_thing(step):
    spoil, rows = DIRTY[step]
    dirty = spoil(GOOD)
    with pytest.raises((DataError, PanelError)):
        check(dirty, "bars")
    steps = [step] if step == "sort" else [step, "sort"]
    fixed = repair_bars(dirty, steps)
    pd.testing.assert_frame_equal(fixed.bars, GOOD)
    assert fixed.steps.loc[step, "rows"] == rows


def test_repairs_that_change_values():
    fixed = repair_bars(GOOD.assign(high=10.0), ["widen_range"])
    assert (fixed.bars["high"] == 11.0).all() and fixed.steps["rows"].tolist() == [8]
    fixed = repair_bars(GOOD.assign(volume=-5.0), ["forget_negative_volume"])
    assert fixed.bars["volume"].isna().all() and fixed.steps["rows"].tolist() == [8]
    with pytest.raises(DataError, match="high < low"):  # what no step names is refused
        repair_bars(GOOD.assign(high=1.0), ["sort", "drop_nonpositive"])
    with pytest.raises(PanelError, match="not sorted"):
        repair_bars(GOOD.iloc[::-1], [])
    with pytest.raises(ConfigError, match="drop_duplicates"):
        repair_bars(GOOD, ["mend"])
    assert repair_bars(GOOD, list(REPAIRS)).steps["rows"].sum() == 0


def test_empty_frames_of_every_kind_pass_and_are_repaired_to_nothing():
    now = pd.Timestamp("2024-01-02 14:30", tz="UTC")
    frames = {
        "bars": GOOD,
        "trades": pd.DataFrame({"time": [now], "symbol": "A", "price": 10.0, "size": 100}),
        "quotes": pd.DataFrame(
            {"time": [now], "symbol": "A", "bid": 9.0, "ask": 10.0, "bid_size": 1.0, "ask_size": 1.0}
        ),
        "events": pd.DataFrame({"event_time": [now], "known_at": [now], "symbol": "A", "kind": "earnings"}),
    }
    for kind, frame in frames.items():
        assert check(frame, kind) is frame and check(frame.iloc[:0], kind).empty
    assert repair_bars(GOOD.iloc[:0], list(REPAIRS)).bars.empty


@pytest.mark.parametrize(("until", "said"), [("2024-01-02 14:00Z", "dated after"), ("2024-01-02", "has no time zone")])
def test_a_trade_of_the_future_is_refused_and_so_is_a_limit_without_a_zone(until, said):
    trade = pd.DataFrame({"time": [pd.Timestamp("2024-01-02 14:30Z")], "symbol": "A", "price": 10.0, "size": 100})
    with pytest.raises(DataError, match=said):
        check(trade, "trades", until=until)
