"""micro.queue: every model equals a slow queue of orders, hftbacktest where both are defined, and the tape itself; the
laws of a position; and a chance of a fill whose truth is a matrix exponential."""

import importlib.util
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_book
from quantlab.labels.orders import fill_labels, order_outcomes
from quantlab.micro.book import MESSAGE_COLUMNS, book_columns, parse_book, parse_messages, rebuild_book
from quantlab.micro.queue import (
    FILL_MODELS,
    brier_gain,
    fit_fill_odds,
    ghost_orders,
    order_arrivals,
    queue_fills,
    queue_path,
    queue_share,
)
from quantlab.micro.simulate import FlowSpec, simulate_book

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "lob"
SPEC = FlowSpec(end=34_800.0)
SEEDS = st.integers(0, 10**6)


def tape(seed: int, n: int = 70) -> pd.DataFrame:
    "Messages with strict priority: trades take the oldest order of the best price."
    rng, rows, queue = random.Random(seed), [], {}
    for i in range(1, n):
        what, side = rng.choice(["new", "new", "cancel", "trade", "trade"]), rng.choice([1, -1])
        mine = sorted((p for s, p in queue if s == side), key=lambda p: -side * p)
        if what == "new" or not mine:
            price, size = 100 - side * rng.randint(1, 3), rng.randint(1, 5)
            queue.setdefault((side, price), []).append([i, size])
            rows.append((float(i), 1, i, size, price, side))
            continue
        price = mine[0] if what == "trade" else rng.choice(mine)
        line = queue[side, price]
        order = line[0] if what == "trade" else rng.choice(line)
        size = rng.randint(1, order[1])
        order[1] -= size
        kind = 4 if what == "trade" else 2 if order[1] else 3
        rows.append((float(i), kind, order[0], size, price, side))
        if not order[1]:
            line.remove(order)
        if not line:
            del queue[side, price]
    return pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS))


def totals(messages: pd.DataFrame) -> list[dict]:
    "Shares at each side and price after every message."
    now, after = {}, []
    for m in messages.itertuples():
        place = (m.direction, m.price)
        now = now | {place: now.get(place, 0) + (m.size if m.type == 1 else -m.size)}
        after.append(now)
    return after


def slow_walk(messages, row, side, price, lots, model) -> tuple[list, list]:
    "Let a ghost stand in a list of orders (exact) or before a number (the others); return shares ahead and filled."
    after, line = totals(messages), []
    for m in messages.iloc[: row + 1].itertuples():
        if (m.direction, m.price) == (side, price):
            if m.type == 1:
                line.append([m.id, m.size])
            else:
                next(o for o in line if o[0] == m.id)[1] -= m.size
    before, a, got = {o[0]: o[1] for o in line if o[1]}, Fraction(after[row].get((side, price), 0)), 0
    ahead, filled = [a], [0]
    for i, m in enumerate(messages.iloc[row + 1 :].itertuples(), row + 1):
        old, new = after[i - 1].get((side, price), 0), after[i].get((side, price), 0)
        at_ours = (m.direction, m.price) == (side, price)
        beyond = (m.type == 4 and m.direction == side and side * m.price < side * price) or (
            m.type == 1 and m.direction != side and side * m.price <= side * price
        )
        if beyond or (at_ours and m.type == 4):
            reach = m.size if beyond else max(m.size - a, 0) if model != "optimistic" else lots
            a = Fraction(0) if model == "optimistic" and not beyond else a if beyond else max(a - m.size, Fraction(0))
            got, a = got + (lots if model == "optimistic" else reach), Fraction(0) if beyond else a
            before.pop(m.id, None) if at_ours and before.get(m.id, 0) == m.size else None
            if at_ours and m.id in before:
                before[m.id] -= m.size
        elif at_ours and m.type != 1:
            if m.id in before:
                before[m.id] -= m.size
            a = {
                "back": min(a, new), "optimistic": min(a, new), "proportional": a * Fraction(new, old),
                "exact": min(a, Fraction(sum(before.values()))),
            }[model]  # fmt: skip
        ahead.append(a)
        filled.append(min(int(got), lots))
    return ahead, filled


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.data())
def test_every_model_equals_a_slow_queue_and_keeps_the_laws_of_a_position(seed, data):
    messages = tape(seed)
    book = rebuild_book(messages, 2)
    row, side = data.draw(st.integers(0, len(messages) - 1)), data.draw(st.sampled_from([1, -1]))
    best = rebuild_book(messages, 1).iloc[row]
    price, lots = 100 - side * data.draw(st.integers(-2, 3)), data.draw(st.integers(1, 6))
    if side * price >= side * (best["ask_price_1"] if side > 0 else best["bid_price_1"]):
        price = 100 - side * 3  # it would have traded at once
    ahead = totals(messages)[row].get((side, price), 0)
    order = pd.DataFrame(
        {"row": [row], "time": [float(row + 1)], "id": 0, "side": side, "price": price, "size": lots, "ahead": ahead}
    )
    paths = {}
    for model in FILL_MODELS:
        paths[model] = walked = queue_path(messages, book, order, model, horizon=1e6)
        slow_ahead, slow_filled = slow_walk(messages, row, side, price, lots, model)
        done = np.flatnonzero(walked["filled"].to_numpy() == lots)
        stop = done[0] if len(done) else len(walked)  # what is filled stands nowhere
        np.testing.assert_allclose(walked["ahead"][:stop], [float(a) for a in slow_ahead[:stop]], atol=1e-9)
        assert walked["filled"].iloc[: stop + 1].tolist() == slow_filled[: stop + 1]
        assert (walked["ahead"] >= 0).all() and (walked["ahead"].diff().dropna() <= 0).all()
        assert walked["filled"].is_monotonic_increasing and walked["filled"].max() <= lots
        fills = queue_fills(messages, book, order, model, horizon=1e6).iloc[0]
        assert fills["filled"] == walked["filled"].iloc[-1]
        assert fills["first"] == pytest.approx(walked["time"][walked["filled"] > 0].min() - (row + 1), nan_ok=True)
        assert fills["whole"] == pytest.approx(walked["time"][walked["filled"] == lots].min() - (row + 1), nan_ok=True)
    for kind, harsh in (
        ("optimistic", "proportional"),
        ("proportional", "back"),
        ("optimistic", "exact"),
        ("exact", "back"),
    ):
        assert (paths[kind]["filled"] >= paths[harsh]["filled"]).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_exact_model_is_filled_by_the_message_that_executed_the_order(seed):
    path = simulate_book(SPEC, seed)
    told = order_outcomes(path.messages)
    for levels in (1, 3):
        book = rebuild_book(path.messages, levels)
        found = queue_fills(path.messages, book, order_arrivals(path.messages, book), "exact")
        seen = found["first"].where(found["first"] <= told["gone"].fillna(np.inf))
        pd.testing.assert_series_equal(seen, told["first"], check_names=False)
    whole = told["outcome"] == "filled"
    np.testing.assert_allclose(found.loc[whole, "whole"], told.loc[whole, "gone"])


@pytest.mark.skipif(importlib.util.find_spec("hftbacktest") is None, reason="needs the extra hft")
@pytest.mark.parametrize("model", ["back", "proportional"])
def test_the_books_of_hftbacktest_are_kept(model):
    import hftbacktest as hft

    path = simulate_book(FlowSpec(end=34_500.0, hidden=0.0), 5)
    messages, depth, both = path.messages, totals(path.messages), hft.EXCH_EVENT | hft.LOCAL_EVENT
    rows = []
    for m, after in zip(messages.itertuples(), depth, strict=True):
        clock, own = round(m.time * 1e9), hft.BUY_EVENT if m.direction > 0 else hft.SELL_EVENT
        if m.type == 4:
            hit = hft.SELL_EVENT if m.direction > 0 else hft.BUY_EVENT
            rows.append((hft.TRADE_EVENT | hit | both, clock, m.price / 1e4, m.size))
        rows.append((hft.DEPTH_EVENT | own | both, clock, m.price / 1e4, after[m.direction, m.price]))
    feed = np.array([(e, t, t, p, q, 0, 0, 0.0) for e, t, p, q in rows], dtype=hft.types.event_dtype)
    times = np.arange(34_205.0, 34_480.0, 20.0)
    ours = pd.concat([ghost_orders(messages, path.book, times, side) for side in (1, -1)], ignore_index=True)
    found = queue_fills(messages, path.book, ours, model, horizon=1e4)["first"] + ours["time"]
    theirs = []
    for order in ours.itertuples():
        asset = hft.BacktestAsset().data(feed).linear_asset(1.0).constant_order_latency(0, 0)
        asset = asset.risk_adverse_queue_model() if model == "back" else asset.power_prob_queue_model(1.0)
        asset = asset.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0).tick_size(0.01).lot_size(1.0)
        engine = hft.HashMapMarketDepthBacktest([asset])
        engine.elapse(round(order.time * 1e9) - int(feed["local_ts"][0]))
        send = engine.submit_buy_order if order.side > 0 else engine.submit_sell_order
        send(0, 1, order.price / 1e4, 100.0, hft.GTX, hft.LIMIT, False)
        engine.elapse(10**12)
        state = engine.orders(0).get(1)
        theirs.append(state.exch_timestamp / 1e9 if state.status == hft.FILLED else np.nan)
        engine.close()
    assert found.notna().sum() > 8
    np.testing.assert_allclose(found, theirs, atol=1e-6)


def planted(seed: int, end: float, buy=0.5, join=0.6, cancel=0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
    "One price: single lots join, are cancelled, and are taken from the front."
    rng = random.Random(seed)
    rows, sizes, line, now, order = [(0.0, 1, 1, 10**6, 10_100, -1)], [0], [], 0.0, 1
    while True:
        now += rng.expovariate(buy + join + cancel * len(line))
        if now > end:
            break
        pick = rng.random() * (buy + join + cancel * len(line))
        if pick < join:
            order += 1
            line.append(order)
            rows.append((now, 1, order, 100, 10_000, 1))
        elif line:
            gone = line[0] if pick < join + buy else rng.choice(line)
            line.remove(gone)
            rows.append((now, 4 if pick < join + buy else 3, gone, 100, 10_000, 1))
        else:
            continue
        sizes.append(100 * len(line))
    book = pd.DataFrame({"ask_price_1": 10_100, "ask_size_1": 10**6, "bid_price_1": 10_000, "bid_size_1": sizes})
    return pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS)), book.astype("int64")


def truth(most: int, own: float, horizon=10.0, buy=0.5, cancel=0.05) -> np.ndarray:
    "Chance to be filled by the horizon with 0, 1 ... lots ahead; own is the hazard of our own cancellation."
    move = np.zeros((most + 3, most + 3))  # states: lots ahead, then filled, then gone
    for n in range(most + 1):
        move[n, n - 1 if n else most + 1] = buy + n * cancel
        move[n, most + 2] = own
        move[n, n] = -(buy + n * cancel + own)
    return expm(move * horizon)[: most + 1, most + 1]


def test_a_planted_chance_is_found():
    messages, book = planted(1, 16_000.0)
    arrivals, told = order_arrivals(messages, book), order_outcomes(messages)
    bids = arrivals["side"] > 0
    arrivals, told = arrivals[bids & (arrivals["row"] > 2)], told[bids & (arrivals["row"] > 2)]
    lots = (arrivals["ahead"] // 100).to_numpy()
    known, labels = pd.Series(truth(lots.max(), 0.05)[lots], arrivals.index), fill_labels(told)
    gap = (labels["y"] - known).dropna()
    assert abs(gap.mean()) < 4 * 2 * gap.std() / len(gap) ** 0.5  # twice: orders of one moment share their fate
    middle = 8_000.0
    fitted = fit_fill_odds(arrivals[labels["t1"] <= middle], labels["y"])
    late = arrivals[arrivals["time"] > middle]
    said = fitted.predict(late)
    assert (said - known[late.index]).abs().mean() < 0.03
    ours, best = (
        brier_gain(p, labels["y"], arrivals["time"], fitted.base) for p in (said, known[late.index].where(said.notna()))
    )
    assert ours["gain"] > 4 * ours["se"] and abs(ours["brier"] - best["brier"]) < 0.003
    stays = fill_labels(told, censored="weight", cancelled="censored")
    patient = truth(lots.max(), 0.0)[lots].mean()
    assert abs((stays["y"].fillna(0) * stays["weight"]).sum() / len(stays) - patient) < 0.04
    waits = queue_fills(messages, book, arrivals.assign(id=0, size=100), "exact")  # ghosts never cancel
    in_full = arrivals["time"] + 10 <= messages["time"].iloc[-1]
    assert abs((waits["filled"] > 0)[in_full].mean() - patient) < 0.03


def test_arrivals_know_nothing_of_what_comes():
    messages, book = sample_book()
    whole = order_arrivals(messages, book)
    for cut in (21, 500, 4_000):
        part = order_arrivals(messages.iloc[:cut], book.iloc[:cut])
        pd.testing.assert_frame_equal(part, whole.loc[part.index])
    own = book[book_columns(1)]
    later = order_arrivals(messages, own)
    shown = whole["distance"] <= 0
    pd.testing.assert_series_equal(later.loc[shown, "ahead"], whole.loc[shown, "ahead"])
    assert (later["ahead"] == whole["ahead"]).all()  # the sample begins with an empty book: messages know the rest


def test_hits_are_executions_before_the_order():
    messages, book = sample_book()
    whole = order_arrivals(messages, book)
    for row in whole.index[[30, 700, 2_000]]:
        order, past = whole.loc[row], messages.iloc[:row]
        near = past[past["type"].isin([4, 5]) & (past["time"] >= order["time"] - 10)]
        assert order["hits_10"] == (near["direction"] == order["side"]).sum()
        assert order["misses_10"] == (near["direction"] == -order["side"]).sum()


def test_a_gain_by_hand_and_its_error():
    time = pd.Series(np.repeat(np.arange(200) * 60.0, 5))
    rng = np.random.default_rng(1)
    y = pd.Series((rng.random(1_000) < 0.3).astype(float))
    same = brier_gain(pd.Series(np.full(1_000, 0.3)), y, time, 0.3)
    assert same["gain"] == 0 and same["se"] == 0 and same["blocks"] == 200
    told = brier_gain(y * 0.8 + 0.1, y, time, 0.3)
    assert told["brier"] == pytest.approx(0.01) and told["gain"] == pytest.approx(((0.3 - y) ** 2).mean() - 0.01)
    each = ((0.3 - y) ** 2).groupby(time).sum()
    assert told["se"] == pytest.approx(each.std() / 5 / 200**0.5, rel=0.1)
    together = brier_gain(y.groupby(time).transform("first") * 0.8 + 0.1, y.groupby(time).transform("first"), time, 0.3)
    assert together["se"] > 2 * 0.9 * each.std() / 5 / 200**0.5  # five that share a fate are one


def test_empty_one_row_and_all_cancelled():
    messages, book = sample_book()
    nothing = order_arrivals(messages.iloc[:0], book.iloc[:0])
    assert len(nothing) == 0 and len(queue_fills(messages, book, nothing)) == 0
    one = order_arrivals(messages.iloc[:1], book.iloc[:1])
    assert one["ahead"].tolist() == [0] and np.isnan(one["spread"].iloc[0])
    for model in FILL_MODELS:
        assert queue_fills(messages.iloc[:1], book.iloc[:1], one, model)["filled"].tolist() == [0]
        assert len(queue_path(messages.iloc[:1], book.iloc[:1], one, model)) == 1
    new = pd.DataFrame({"time": 0.0, "type": 1, "id": range(1, 41), "size": 5, "price": 100, "direction": 1})
    gone = pd.concat([new, new.assign(time=1.0, type=3)], ignore_index=True)
    flat = rebuild_book(gone, 1)
    arrived = order_arrivals(gone, flat)
    for model in FILL_MODELS:
        assert (queue_fills(gone, flat, arrived, model)["filled"] == 0).all()
        assert queue_path(gone, flat, arrived.iloc[[39]], model)["ahead"].iloc[-1] == 0
    with pytest.raises(DataError, match="0 fills"):
        fit_fill_odds(arrived, fill_labels(order_outcomes(gone, end=30.0))["y"])
    with pytest.raises(DataError, match="blocks"):
        brier_gain(pd.Series(dtype=float), pd.Series(dtype=float), pd.Series(dtype=float), 0.5)


def test_what_is_refused():
    messages, book = sample_book()
    arrivals = order_arrivals(messages, book)
    with pytest.raises(ConfigError, match="model"):
        queue_fills(messages, book, arrivals, "kind")
    with pytest.raises(ConfigError, match="horizon"):
        queue_fills(messages, book, arrivals, horizon=0.0)
    with pytest.raises(DataError, match="lack"):
        queue_fills(messages, book, arrivals.drop(columns="ahead"))
    with pytest.raises(DataError, match="not there"):
        queue_fills(messages, book, arrivals.assign(row=10**6))
    with pytest.raises(DataError, match="belongs to one"):
        queue_path(messages, book, arrivals)
    with pytest.raises(DataError, match="two files"):
        order_arrivals(messages.iloc[1:], book)
    with pytest.raises(DataError, match="first message"):
        ghost_orders(messages, book, np.array([0.0]), 1)


SHARED_MODELS = ("back", "proportional", "optimistic")


def bars_by_hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    "Three bars of 10 s: 300 rest on the bid at 100 and 500 on the ask at 102; what trades is known line by line."
    rows = [
        (0.5, 1, 1, 100, 100, 1), (0.6, 1, 2, 200, 100, 1), (0.7, 1, 9, 500, 102, -1),  # before the first whole bar
        (12.0, 3, 2, 150, 100, 1),  # 300 -> 150: back 150 ahead, proportional 150; a cancellation of half
        (13.0, 1, 3, 150, 100, 1), (14.0, 3, 1, 75, 100, 1),  # 300 -> 225: back 150, proportional 112.5
        (15.0, 4, 1, 25, 100, 1), (15.0, 4, 2, 50, 100, 1), (15.0, 4, 3, 105, 100, 1),  # 180 trade on the bid
        (16.0, 4, 9, 20, 102, -1),  # and 20 on the ask: the bar's volume is 200
        (25.0, 4, 9, 40, 102, -1),  # the second bar: nothing but 40 on the ask, of 480
        (34.0, 5, 0, 60, 101, 1), (39.0, 1, 10, 5, 100, 1),  # the third: hidden trades at the middle alone
        (40.0, 1, 11, 5, 99, 1),
    ]  # fmt: skip
    messages = pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS))
    return messages, rebuild_book(messages, 1)


def test_the_share_that_goes_first_by_hand():
    messages, book = bars_by_hand()
    found = queue_share(messages, book, 10.0, SHARED_MODELS)
    # orders with volume: bid and ask of each of three bars. Bid 1: 180 of 200 come to it. Ask 1: 20 of 200, before 500.
    # Bid 2: nothing. Ask 2: all 40, before 480. Bid 3, ask 3: volume 60, hidden: nothing comes to the touch.
    assert found["orders"].tolist() == [6] * 3 and found["silent"].tolist() == [0] * 3
    assert found["untouched"].tolist() == [3] * 3
    assert found["censored"].tolist() == [2, 2, 0] and found["filled"].tolist() == [1, 1, 3]
    first = {"back": 150, "proportional": 112, "optimistic": 0}  # of the 180; whole shares are filled, 67.5 are 67
    for model, ahead in {**first, "proportional": 113}.items():
        share = 0.0 if model == "optimistic" else ahead / 200
        assert found.loc[model, "share"] == found.loc[model, "median"] == pytest.approx(share)
        least = (ahead / 200 + 20 / 200 + 40 / 40) / 3
        assert found.loc[model, "least"] == pytest.approx(0.0 if model == "optimistic" else least)
        more = 0.0 if model == "optimistic" else (ahead / 200 + (20 + 480) / 200 + (40 + 440) / 40) / 3
        assert found.loc[model, "most"] == pytest.approx(more)
        got = 180 - ahead if model != "optimistic" else 240
        u = found.loc[model, "queue"]
        assert 200 * max(0.9 - u, 0) + 200 * max(0.1 - u, 0) + 40 * max(1 - u, 0) == pytest.approx(got, abs=1e-6)
        # what the bars know: range 100 ... 102 in the first (bid at its low: 0, ask: 0), flat at 102 in the second
        # (ask 1, bid at 100 does not reach), flat at 101 in the third (bid 100 and ask 102 do not)
        v = found.loc[model, "by_range"]
        assert v == pytest.approx(max(1 - got / 40, 0.0), abs=1e-6)
    assert found[["share_se", "queue_se"]].isna().all(axis=None)  # one block


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_harsher_models_let_more_go_first_and_no_order_is_lost(seed):
    messages = tape(seed)
    found = queue_share(messages, rebuild_book(messages, 2), 7.0, SHARED_MODELS, block=7.0, draws=20)
    assert (found["orders"] == found[["untouched", "censored", "filled"]].sum(axis=1)).all()
    assert found["orders"].nunique() == found["untouched"].nunique() == 1
    assert (found["orders"] + found["silent"] == 2 * 8).all()  # whole bars of 7 s in 1 ... 69
    for column in ("least", "most", "queue", "by_range"):
        values = found[column].dropna().tolist()
        assert values == sorted(values, reverse=True), column
    assert (found["least"].dropna() <= found["most"].dropna() + 1e-12).all()


def test_the_share_does_not_see_what_comes_after_its_last_bar():
    messages, book = sample_book()
    cut = int(np.searchsorted(messages["time"], 34_200.0 + 20 * 60.0, "right"))
    whole = queue_share(messages.iloc[: cut + 1], book.iloc[: cut + 1])
    other = messages.iloc[: cut + 1].copy()
    other.loc[cut, ["type", "size"]] = 4, 10**6
    pd.testing.assert_frame_equal(queue_share(other, book.iloc[: cut + 1]), whole)
    again = queue_share(messages, book, block=600.0)
    assert again["queue_se"].between(0, 0.05).all() and again.equals(queue_share(messages, book, block=600.0))


def test_shares_of_nothing_are_refused():
    messages, book = sample_book()
    with pytest.raises(ConfigError, match="bar"):
        queue_share(messages, book, 0.0)
    with pytest.raises(ConfigError, match="model"):
        queue_share(messages, book, models=("kind",))
    for part in (0, 1, 20):
        with pytest.raises(DataError, match="no whole bar"):
            queue_share(messages.iloc[:part], book.iloc[:part], 3_600.0)
    quiet = pd.DataFrame({"time": [0.0, 0.0, 30.0], "type": 1, "id": [1, 2, 3], "size": 5, "direction": [1, -1, 1]})
    quiet = quiet.assign(price=[100, 102, 99])[list(MESSAGE_COLUMNS)]
    with pytest.raises(DataError, match="none of the 6 orders"):
        queue_share(quiet, rebuild_book(quiet, 1), 10.0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day():
    start = "AMZN_2012-06-21_34200000_57600000"
    messages = parse_messages((SHARED / f"{start}_message_1.csv").read_text())
    book = parse_book((SHARED / f"{start}_orderbook_1.csv").read_text())
    arrivals, told = order_arrivals(messages, book), order_outcomes(messages)
    fills = {m: queue_fills(messages, book, arrivals, m)["first"] for m in FILL_MODELS}
    executed = told["first"].notna()
    equal = {m: np.isclose(f[executed], told["first"][executed]).mean() for m, f in fills.items()}
    assert equal["exact"] > 0.997 > equal["back"] > 0.99 and equal["proportional"] > 0.99 and equal["optimistic"] < 0.9
    labels, middle = fill_labels(told), messages["time"].iloc[[0, -1]].mean()
    fitted = fit_fill_odds(arrivals[labels["t1"] <= middle], labels["y"])
    late = arrivals[arrivals["time"] > middle]
    judged = brier_gain(fitted.predict(late), labels["y"], arrivals["time"], fitted.base, block=300.0)
    assert judged["gain share"] > 0.15 and judged["gain"] > 4 * judged["se"]
    minute = queue_share(messages, book, 60.0)
    assert minute["orders"].tolist() == [770] * 3 and minute["untouched"].tolist() == [343] * 3
    assert 0.03 < minute.loc["proportional", "queue"] < minute.loc["back", "queue"] < 0.06
    assert minute.loc["optimistic", "queue"] == 0 < minute.loc["back", "queue_se"] < 0.02


def test_a_ghost_has_a_side_and_a_time():
    rows = [(0.0, 1, 1, 100, 1_000_000, 1), (0.1, 1, 2, 100, 1_000_200, -1)]
    told = pd.DataFrame(rows, columns=["time", "type", "id", "size", "price", "direction"])
    for side, size in ((0, 100), (1, 0)):
        with pytest.raises(ConfigError, match="1 for bids or -1 for asks"):
            ghost_orders(told, rebuild_book(told), [0.2], side, size)
    with pytest.raises(DataError, match="time 0 is no number"):
        ghost_orders(told, rebuild_book(told), [np.nan], 1)
