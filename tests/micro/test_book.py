"""micro.book: the replay equals a slow book of dictionaries, names what it cannot know, and finds planted faults."""

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.core.panel import check_panel
from quantlab.data.sample import sample_book
from quantlab.micro.book import (
    EMPTY_PRICE,
    MESSAGE_COLUMNS,
    book_columns,
    check_book,
    check_messages,
    event_stamps,
    parse_book,
    parse_messages,
    quote_panel,
    rebuild_book,
    replay_book,
    replay_summary,
)

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "lob"
KNOWN = [19302, 19303, 19304, 19305, 19308, 19525, 47774, 47796]  # rows of the recording that contradict its messages


def slow_book(messages: pd.DataFrame, levels: int) -> pd.DataFrame:
    "Keep the orders in a dictionary and sum them anew after every message."
    orders, rows = {}, []
    for m in messages.itertuples():
        if m.type == 1:
            orders[m.id] = [m.direction, m.price, m.size]
        elif m.type in (2, 3, 4):
            orders[m.id][2] -= m.size
            assert orders[m.id][2] >= 0
        rests = {1: defaultdict(int), -1: defaultdict(int)}
        for side, price, size in orders.values():
            if size:
                rests[side][price] += size
        asks, bids = sorted(rests[-1].items()), sorted(rests[1].items(), reverse=True)
        row = []
        for n in range(levels):
            row += [
                *(asks[n] if n < len(asks) else (EMPTY_PRICE, 0)),
                *(bids[n] if n < len(bids) else (-EMPTY_PRICE, 0)),
            ]
        rows.append(row)
    return pd.DataFrame(rows, columns=book_columns(levels), dtype="int64")


@st.composite
def flows(draw):
    "Draw messages that never cross the book: buys below 100, sales above."
    rows, alive = [], {}
    for i in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from([1, 1, 2, 3, 4, 5]))
        if kind == 1 or (kind < 5 and not alive):
            side, size = draw(st.sampled_from([1, -1])), draw(st.integers(1, 5))
            price = 100 - side * draw(st.integers(1, 5))
            alive[i] = [side, price, size]
            rows.append((float(i), 1, i, size, price, side))
        elif kind == 5:
            rows.append((float(i), 5, 0, 1, 100, draw(st.sampled_from([1, -1]))))
        else:
            order = draw(st.sampled_from(sorted(alive)))
            side, price, left = alive[order]
            size = left if kind == 3 else draw(st.integers(1, left))
            alive[order][2] -= size
            if alive[order][2] == 0:
                del alive[order]
            rows.append((float(i), kind, order, size, price, side))
    return pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS))


@settings(max_examples=25)
@given(flows(), st.integers(1, 4))
def test_rebuild_and_replay_equal_a_book_kept_in_dictionaries(messages, levels):
    slow = slow_book(messages, levels)
    pd.testing.assert_frame_equal(rebuild_book(messages, levels), slow)
    replayed = replay_book(messages, slow)
    assert replayed["equal"].iloc[1:].all() and not replayed["determined"].iloc[0]
    full = slow[f"ask_size_{levels}"].shift(), slow[f"bid_size_{levels}"].shift()
    emptied = replayed["step"] == "empty"
    was_full = np.where(messages["direction"] < 0, full[0] > 0, full[1] > 0)
    assert (replayed["determined"].iloc[1:] == ~(emptied & was_full).iloc[1:]).all()


@settings(max_examples=25)
@given(flows(), st.data())
def test_a_number_changed_in_the_book_is_found(messages, data):
    book = slow_book(messages, 2)
    replayed = replay_book(messages, book)
    rows = np.flatnonzero(replayed["determined"])
    sizes = [(i, c) for i in rows for c in ("ask_size_1", "bid_size_1") if book.loc[i, c] > 0]
    if not sizes:
        return
    row, column = data.draw(st.sampled_from(sizes))
    changed = book.copy()
    changed.loc[row, column] += 1
    found = replay_book(messages, changed)
    assert found.loc[row, "determined"] and not found.loc[row, "equal"]


@pytest.mark.parametrize("symbol", ["SIMA", "SIMB"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_sample_proves_itself(symbol, levels):
    messages, book = sample_book(symbol)
    recorded = book[book_columns(levels)]
    pd.testing.assert_frame_equal(rebuild_book(messages, levels), recorded)
    replayed = replay_book(messages, recorded)
    summary = replay_summary(replayed)
    assert replayed["equal"].iloc[1:].all() and summary["share determined"] >= 0.75
    assert summary["determined"] + summary["not determined"] == summary["rows"] - 1
    emptied = replayed["step"] == "empty"
    assert (emptied | replayed["determined"]).iloc[1:].all()


def test_a_level_behind_an_emptied_one_must_lie_behind_it():
    messages = pd.DataFrame(
        [(0.0, 1, 1, 5, 102, -1), (1.0, 1, 2, 5, 101, -1), (2.0, 3, 2, 5, 101, -1)], columns=list(MESSAGE_COLUMNS)
    )
    book = rebuild_book(messages, 1)
    assert replay_book(messages, book)["equal"].tolist() == [False, True, True]
    book.loc[2, "ask_price_1"] = 101  # the price that has just been emptied
    found = replay_book(messages, book)
    assert not found.loc[2, "determined"] and not found.loc[2, "equal"]
    book.loc[2, ["ask_price_1", "bid_size_1", "bid_price_1"]] = [102, 1, 50]  # the other side moved by itself
    assert not replay_book(messages, book).loc[2, "equal"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day_contradicts_its_messages_in_eight_rows():
    start = "AMZN_2012-06-21_34200000_57600000"
    messages = parse_messages((SHARED / f"{start}_message_1.csv").read_text())
    book = parse_book((SHARED / f"{start}_orderbook_1.csv").read_text())
    assert len(messages) == 57_515 and messages["type"].value_counts().to_dict() == {
        1: 27_845, 3: 18_235, 4: 8_974, 5: 2_445, 2: 16,
    }  # fmt: skip
    replayed = replay_book(messages, book)
    summary = replay_summary(replayed)
    assert np.flatnonzero(replayed["determined"] & ~replayed["equal"]).tolist() == KNOWN
    assert summary["determined"] == 43_559 and round(summary["share determined"], 3) == 0.757
    assert summary["of these, equal as far as known"] == summary["not determined"]


def test_empty_and_single_rows():
    messages, book = sample_book()
    nothing = replay_book(messages.iloc[:0], book.iloc[:0])
    assert len(nothing) == 0 and np.isnan(replay_summary(nothing)["share determined"])
    assert len(rebuild_book(messages.iloc[:0], 2)) == 0
    one = replay_book(messages.iloc[:1], book.iloc[:1])
    assert one["step"].tolist() == ["first"] and not one["determined"].any()
    hidden = messages.iloc[:1].assign(type=5)
    assert (rebuild_book(hidden, 1)[["ask_size_1", "bid_size_1"]] == 0).all(axis=None)


def test_what_is_no_message_is_refused_and_named():
    messages, _ = sample_book()
    for column, value, words in (
        ("time", np.nan, "finite time"), ("time", np.inf, "finite time"), ("time", 0.0, "before the row above"),
        ("type", 9, "none of 1"), ("size", 0, "no size"), ("price", -1, "no price"), ("direction", 0, "neither"),
    ):  # fmt: skip
        bad = messages.copy()
        bad.loc[40, column] = value
        with pytest.raises(DataError, match=f"message 40 .*{words}"):
            check_messages(bad)
    halt = messages.iloc[:1].assign(type=7, size=0, price=-1, direction=-1)
    assert check_messages(halt) is halt
    with pytest.raises(DataError, match="lack"):
        check_messages(messages.drop(columns="size"))


def test_what_is_no_book_is_refused_and_named():
    _, book = sample_book()
    for column, value, words in (
        ("bid_price_1", 2_000_000, "crossed"), ("ask_size_1", -1, "below 0"), ("ask_price_2", 1, "asks out of order"),
        ("bid_size_1", 0, "bids out of order"),
    ):  # fmt: skip
        bad = book.copy()
        bad.loc[100, column] = value
        with pytest.raises(DataError, match=f"row 100 .*{words}"):
            check_book(bad)
    with pytest.raises(DataError, match="no number"):
        check_book(book.astype(float).mask(book == 999_900))
    with pytest.raises(DataError, match="columns"):
        check_book(book.iloc[:, :3])


def test_texts_are_read_as_they_are_written():
    text = "34200.017459617,5,0,1,2238200,-1\n34200.18960767,1,11885113,21,2238100,1\n"
    messages = parse_messages(text)
    assert messages["time"].tolist() == [34200.017459617, 34200.18960767]
    assert messages.iloc[1, 1:].tolist() == [1, 11885113, 21, 2238100, 1] and messages["price"].dtype == "int64"
    semicolons, commas = parse_book("2239500;100;2231800;100\n"), parse_book("2239500,100,2231800,100")
    assert semicolons.equals(commas) and semicolons.iloc[0].tolist() == [2239500, 100, 2231800, 100]
    for bad in ("", "1,2\n", "34200.0,1,1,1.5,100,1\n", "34200.0,1,x,1,100,1\n", text + "1,2,3\n"):
        with pytest.raises(DataError):
            parse_messages(bad)
    with pytest.raises(DataError):
        parse_book("1,2,3")


def test_a_rebuild_refuses_a_message_about_nothing():
    messages, _ = sample_book()
    with pytest.raises(DataError, match="order 5,"):
        rebuild_book(messages.iloc[:1].assign(type=3, id=5))
    with pytest.raises(DataError, match="levels"):
        rebuild_book(messages, 0)


def test_no_stamp_lies_before_its_event_and_the_last_state_of_a_stamp_counts():
    stamps = event_stamps([34_200.0, 34_200.0000001, 34_200.000001], "2012-06-21")
    seconds = (stamps - pd.Timestamp("2012-06-21 13:30", tz="UTC")).total_seconds()
    assert np.allclose(seconds, [0, 1e-6, 1e-6], atol=1e-9) and str(stamps.dtype) == "datetime64[us, UTC]"
    messages, book = sample_book()
    panel = check_panel(quote_panel(messages, book, "SIMA", "2012-06-21"))
    last = messages.index[~messages["time"].duplicated(keep="last")]
    assert len(panel) == len(last) and (panel["bid"].to_numpy() == book.loc[last, "bid_price_1"].to_numpy() / 1e4).all()
    assert panel["ask_size_3"].to_numpy().tolist() == book.loc[last, "ask_size_3"].tolist()
    emptied = rebuild_book(messages.iloc[:1], 1)
    assert quote_panel(messages.iloc[:1], emptied, "X", "2012-06-21")["ask"].isna().all()


def test_the_stored_figures_hold_what_was_promised():
    stored = json.loads((root() / "bench" / "results" / "replay.json").read_text(encoding="utf-8"))
    assert stored["n"] > 10**6 and stored["messages_per_s"] > 10**6 and stored["max_rel_diff"] == 0
    assert stored["counts"]["determined and different"] == len(stored["different_rows"]) == 8


def test_a_message_that_moves_an_order_is_refused_and_files_of_two_days_are():
    rows = [(1.0, 1, 1, 100, 1_000_000, 1), (2.0, 1, 2, 100, 999_900, 1), (3.0, 3, 1, 100, 999_900, 1)]
    astray = pd.DataFrame(rows, columns=MESSAGE_COLUMNS)
    with pytest.raises(DataError, match="message 2 takes 100 shares from order 1"):
        rebuild_book(astray)
    whole = astray.iloc[:2]
    for read in (replay_book, lambda m, b: quote_panel(m, b, "A", "2012-06-21")):
        with pytest.raises(DataError, match="2 messages and 1 rows"):
            read(whole, rebuild_book(whole).iloc[:1])
    with pytest.raises(DataError, match="time 1 is no number"):
        event_stamps([34_200.0, np.nan], "2012-06-21")
