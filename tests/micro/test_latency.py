"""micro.latency: a slow loop over the rows of the book, a planted delay, a band that covers, and no look ahead."""

import os
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_book
from quantlab.micro.book import book_columns, parse_book, parse_messages
from quantlab.micro.latency import (
    DELAYS,
    PAID,
    delayed_prices,
    edge_gone_at,
    flow_signal,
    imbalance_signal,
    latency_curve,
)

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "lob"
SEEDS = st.integers(0, 10**6)


def small_book(seed: int, n: int = 120, empty: float = 0.05) -> tuple[pd.DataFrame, np.ndarray]:
    "A book on a grid of milliseconds, so that many times are equal; some sides hold nothing."
    rng = np.random.default_rng(seed)
    times = 34_200 + np.sort(rng.integers(0, 400, n)) / 1000
    bid = 10_000 + 100 * np.cumsum(rng.integers(-1, 2, n))
    ask = bid + 100 * rng.integers(1, 4, n)
    sizes = rng.integers(1, 9, (2, n)) * (rng.random((2, n)) > empty)
    book = pd.DataFrame(np.column_stack([ask, sizes[0], bid, sizes[1]]), columns=book_columns(1))
    return book, times


def slow_edges(book, times, signal, delays, horizon, paid, tick) -> tuple[list, int, int]:
    "Walk the rows one by one with exact fractions of milliseconds."
    exact = lambda x: Fraction(round(x * 10**9), 10**9)
    clock = [exact(t) for t in times]

    def touch(when):
        row = bisect_right(clock, when) - 1
        if row < 0 or when > clock[-1]:
            return None
        ask, ask_size, bid, bid_size = (int(x) for x in book.iloc[row, :4])
        return (ask, bid) if ask_size and bid_size else None

    trades, late, empty = [], 0, 0
    for time, side in zip(signal["time"], signal["side"], strict=True):
        if side == 0:
            continue
        if exact(time) + exact(delays[-1]) + exact(horizon) > clock[-1]:
            late += 1
            continue
        row = []
        for delay in (0, *delays):
            here, there = (touch(exact(time) + exact(delay) + wait) for wait in (0, exact(horizon)))
            if here is None or there is None:
                row = None
                break
            into = here[0 if side > 0 else 1] if paid != "none" else sum(here) / 2
            out = there[1 if side > 0 else 0] if paid == "both" else sum(there) / 2
            row.append((side * (out - into) / tick, here))
        if row is None:
            empty += 1
        else:
            trades.append(row)
    return trades, late, empty


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from(PAID), st.sampled_from([0.001, 0.02, 0.1]))
def test_the_curve_equals_a_slow_walk(seed, paid, horizon):
    book, times = small_book(seed)
    rng = np.random.default_rng(seed + 1)
    when = np.sort(rng.choice(times, 40) + rng.integers(0, 3, 40) / 1000)
    signal = pd.DataFrame({"time": when, "side": rng.integers(-1, 2, 40)})
    delays = (0.001, 0.005, 0.05)
    found = latency_curve(book, times, signal, delays, horizon, paid, tick=100, draws=20)
    trades, late, empty = slow_edges(book, times, signal, delays, horizon, paid, 100)
    assert found["trades"].tolist() == [len(trades)] * 3
    assert found["late"].tolist() == [late] * 3 and found["empty"].tolist() == [empty] * 3
    if not trades:
        assert found["edge"].isna().all()
        return
    mean = [np.mean([row[j][0] for row in trades]) for j in range(4)]
    np.testing.assert_allclose(found["edge"], mean[1:], atol=1e-9)
    np.testing.assert_allclose(found["lost"], [mean[0] - m for m in mean[1:]], atol=1e-9)
    moved = [np.mean([sum(row[j][1]) != sum(row[0][1]) for row in trades]) for j in range(1, 4)]
    np.testing.assert_allclose(found["moved"], moved)
    basis = [np.mean([row[j][0] * 100 / (sum(row[j][1]) / 2) * 1e4 for row in trades]) for j in range(1, 4)]
    np.testing.assert_allclose(found["edge_bp"], basis)
    if mean[0] > 0:
        np.testing.assert_allclose(found["kept"], np.array(mean[1:]) / mean[0])
    else:
        assert found["kept"].isna().all()


def test_what_is_seen_at_a_time():
    book = pd.DataFrame([[102, 5, 100, 5], [103, 5, 100, 5], [103, 5, 101, 0]], columns=book_columns(1))
    seen = delayed_prices(book, [0.3, 0.3, 0.4], [0.4, 0.1 + 0.2, 0.3 - 1e-9, 0.4 + 1e-9])
    assert seen["ask"].iloc[:2].tolist() == [103, 103] and seen["ask"].iloc[2:].isna().all()
    assert (
        np.isnan(seen["bid"].iloc[0]) and seen["middle"].iloc[1] == 101.5
    )  # the last row of one time; 0.1 + 0.2 > 0.3
    assert len(delayed_prices(book, [0.3, 0.3, 0.4], [])) == 0


def planted(
    lag: float, jump: int = 200, n: int = 1_200, seed: int = 2
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    "Both prices move with a coin that is known `lag` earlier, and by themselves now and then."
    rng = np.random.default_rng(seed)
    known, coin = 34_200 + np.sort(rng.uniform(1, 3_500, n)), rng.choice([-1, 1], n)
    other = 34_200 + np.sort(rng.uniform(0, 3_600, 2_000))
    times = np.r_[other, known + lag]
    order = np.argsort(times, kind="stable")
    moves = np.r_[100 * rng.choice([-1, 1], 2_000), jump * coin][order]
    bid = 1_000_000 + np.cumsum(moves)
    book = pd.DataFrame({"ask_price_1": bid + 200, "ask_size_1": 5, "bid_price_1": bid, "bid_size_1": 5})
    return book, times[order], pd.DataFrame({"time": known, "side": coin})


@pytest.mark.parametrize("lag", [60e-6, 0.75e-3, 10e-3, 40e-3])
def test_an_edge_is_gone_at_the_planted_delay(lag):
    curve = latency_curve(*planted(lag), horizon=1.0)
    first = next(d for d in DELAYS if d >= lag)
    found = edge_gone_at(curve)
    assert found.loc["band", "at"] == first and found.loc["band", "says"] == "gone"
    assert found.loc["band", "after"] == DELAYS[DELAYS.index(first) - 1]
    early = curve.index < lag
    assert ((curve["low"] < 2) & (2 < curve["high"]))[early].all() and (curve["low"] <= 0)[~early].all()
    assert (curve["lost_low"][~early] > 1).all() and (curve["lost"][early].abs() < 0.1).all()


def test_an_edge_that_stays_and_one_that_never_was():
    book, times, signal = planted(0.2)
    stays = edge_gone_at(latency_curve(book, times, signal, horizon=1.0))
    assert (stays["at"] == np.inf).all() and (stays["says"] == "still there").all() and (stays["after"] == 0.1).all()
    never = edge_gone_at(latency_curve(book, times, signal.assign(side=-signal["side"]), horizon=1.0))
    assert (never["says"] == "never there").all() and (never["at"] == DELAYS[0]).all() and never["after"].isna().all()
    costly = latency_curve(book, times, signal, horizon=1.0, paid="both")
    free = latency_curve(book, times, signal, horizon=1.0)
    np.testing.assert_allclose(free["edge"] - costly["edge"], 2.0)  # the spread of two ticks, half of it twice


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_rows_after_the_way_out_change_nothing(seed):
    book, times = small_book(seed, empty=0.0)
    delays, horizon = (0.001, 0.02), 0.05
    signal = pd.DataFrame({"time": times[:40], "side": np.random.default_rng(seed).choice([-1, 1], 40)})
    until = times[39] + delays[-1] + horizon
    after = np.searchsorted(np.rint(times * 1e9), np.rint(until * 1e9), "right")
    if after >= len(times):
        return
    other = book.copy()
    other.loc[after:, ["ask_price_1", "bid_price_1"]] += 10_000
    pairs = [latency_curve(b, times, signal, delays, horizon, draws=20) for b in (book, other)]
    pd.testing.assert_frame_equal(*pairs)
    cut = book.iloc[: after + 1], times[: after + 1]  # and so does their absence, but for the cells of the bootstrap
    columns = ["edge", "lost", "moved", "trades", "late", "empty"]
    pd.testing.assert_frame_equal(latency_curve(*cut, signal, delays, horizon)[columns], pairs[0][columns])


def test_a_signal_knows_only_its_past():
    messages, book = sample_book()
    times = messages["time"].to_numpy()
    for speak in (imbalance_signal, lambda b, t: flow_signal(b, t, 500.0)):
        whole = speak(book, times)
        assert len(whole) > 50 and whole["side"].isin([1, -1]).all() and (np.diff(whole["time"]) > 0).all()
        assert (whole["side"].to_numpy()[1:] != whole["side"].to_numpy()[:-1]).any()
        for cut in (1, 77, 3_000):
            part = speak(book.iloc[:cut], times[:cut])
            known = whole[whole["time"] < times[cut - 1]]  # the rows of the last time may not all be there
            pd.testing.assert_frame_equal(part[part["time"] < times[cut - 1]], known)
    bids = pd.DataFrame([[102, 1, 100, s] for s in (1, 9, 9, 1, 1, 9)], columns=book_columns(1))
    assert imbalance_signal(bids, [0, 1, 2, 3, 4, 4])["time"].tolist() == [1, 4]
    assert flow_signal(bids, [0, 1, 2, 3, 4, 4], 8.0)["side"].tolist() == [1, -1, 1]
    gone = bids.assign(ask_size_1=0)
    assert len(imbalance_signal(gone, range(6))) == 0  # one side alone has no imbalance


def test_the_bands_cover_noise():
    covered, lost, runs = 0, 0, 60
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        times = 34_200 + np.sort(rng.uniform(0, 7_200, 4_000))
        bid = 1_000_000 + 100 * np.cumsum(rng.choice([-1, 1], 4_000))
        book = pd.DataFrame({"ask_price_1": bid + 100, "ask_size_1": 5, "bid_price_1": bid, "bid_size_1": 5})
        when = np.sort(rng.uniform(times[0], 41_300, 400))
        signal = pd.DataFrame({"time": when, "side": rng.choice([-1, 1], 400)})
        one = latency_curve(book, times, signal, (0.1, 1.0), horizon=5.0, block=150.0, level=0.9, draws=200)
        covered += (one["low"].iloc[0] <= 0) & (0 <= one["high"].iloc[0])
        lost += (one["lost_low"].iloc[1] <= 0) & (0 <= one["lost_high"].iloc[1])
    assert 46 <= covered <= 60 and 46 <= lost <= 60, (covered, lost)  # 54 are expected, 3 deviations are 7


def test_a_band_of_what_hangs_together_is_wider():
    book, times, signal = planted(0.2, n=300)
    rng = np.random.default_rng(5)
    fate = np.repeat(rng.choice([-1, 1], 60), 60)  # one side for each minute
    signal = signal.assign(side=signal["side"] * fate[((signal["time"] - 34_200) // 60).astype(int)])
    wide, narrow = (latency_curve(book, times, signal, (0.001,), 1.0, block=b) for b in (600.0, 5.0))
    assert (wide["high"] - wide["low"]).iloc[0] > 1.3 * (narrow["high"] - narrow["low"]).iloc[0]
    again = latency_curve(book, times, signal, (0.001,), 1.0, block=600.0)
    pd.testing.assert_frame_equal(again, wide)
    other = latency_curve(book, times, signal, (0.001,), 1.0, block=600.0, seed=1)
    assert other["edge"].equals(wide["edge"]) and not other["low"].equals(wide["low"])


def test_nothing_one_block_and_one_row():
    book, times = small_book(1, empty=0.0)
    signal = pd.DataFrame({"time": times[:5], "side": 1})
    nothing = latency_curve(book, times, signal.iloc[:0])
    assert (nothing["trades"] == 0).all() and nothing[["edge", "low", "high", "kept"]].isna().all(axis=None)
    assert (edge_gone_at(nothing)["says"] == "no trades").all()
    late = latency_curve(book, times, signal, horizon=1e4)
    assert (late["trades"] == 0).all() and (late["late"] == 5).all()
    one = latency_curve(book, times, signal, (0.001,), 0.01)
    assert one["edge"].notna().all() and one[["low", "high"]].isna().all(axis=None)
    assert edge_gone_at(one).loc["band", "says"] == "no band" and edge_gone_at(one).loc["estimate", "says"] != "no band"
    assert latency_curve(book.iloc[:0], times[:0], signal.iloc[:0])["trades"].tolist() == [0] * len(DELAYS)
    single = latency_curve(book.iloc[:1], times[:1], signal.iloc[:1])
    assert single["late"].tolist() == [1] * len(DELAYS)
    bare = latency_curve(book.assign(bid_size_1=0), times, signal, (0.001,), 0.01)
    assert bare["empty"].tolist() == [5] and bare["trades"].tolist() == [0]
    assert len(imbalance_signal(book.iloc[:0], times[:0])) == 0
    same = latency_curve(book, times, signal, (0.0,), 0.01)
    assert same["lost"].tolist() == [0.0] and same["moved"].tolist() == [0.0]


def test_what_is_refused():
    book, times = small_book(1, empty=0.0)
    signal = pd.DataFrame({"time": times[:5], "side": 1})
    refused = [
        (DataError, "sort by time", lambda: latency_curve(book, times[::-1], signal)),
        (DataError, "one time a row", lambda: latency_curve(book, times[1:], signal)),
        (DataError, "drop it", lambda: latency_curve(book, np.where(times == times[9], np.nan, times), signal)),
        (DataError, "no number", lambda: latency_curve(book.assign(bid_price_1=np.nan), times, signal)),
        (DataError, "lies before the one above", lambda: latency_curve(book, times, signal[::-1].assign(side=1))),
        (DataError, "none of 1, -1 and 0", lambda: latency_curve(book, times, signal.assign(side=[1, 1, 2, 1, 1]))),
        (DataError, "none of 1, -1 and 0", lambda: latency_curve(book, times, signal.assign(side=np.nan))),
        (DataError, "lacks", lambda: latency_curve(book, times, signal[["time"]])),
        (DataError, "before the first row", lambda: latency_curve(book, times, signal.assign(time=1.0))),
        (DataError, "before the first row", lambda: latency_curve(book.iloc[:0], times[:0], signal)),
        (DataError, "lacks", lambda: edge_gone_at(pd.DataFrame({"edge": [1.0]}))),
        (ConfigError, "paid", lambda: latency_curve(book, times, signal, paid="some")),
        (ConfigError, "delays", lambda: latency_curve(book, times, signal, (0.1, 0.1))),
        (ConfigError, "delays", lambda: latency_curve(book, times, signal, (-0.1,))),
        (ConfigError, "delays", lambda: latency_curve(book, times, signal, ())),
        (ConfigError, "horizon", lambda: latency_curve(book, times, signal, horizon=0.0)),
        (ConfigError, "least", lambda: imbalance_signal(book, times, 0.0)),
        (ConfigError, "least", lambda: flow_signal(book, times, -1.0)),
    ]
    for error, words, call in refused:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day():
    start = "AMZN_2012-06-21_34200000_57600000"
    times = parse_messages((SHARED / f"{start}_message_1.csv").read_text())["time"]
    book = parse_book((SHARED / f"{start}_orderbook_1.csv").read_text())
    signal = imbalance_signal(book, times)
    curve = latency_curve(book, times, signal, horizon=1.0)
    assert np.isfinite(curve.to_numpy(dtype=float)).all()
    assert (curve["trades"] + curve["late"] + curve["empty"] == len(signal)).all() and curve["trades"].iloc[0] == 8_766
    assert 0.9 < curve["kept"].iloc[0] < 1 and 0.2 < curve["kept"].iloc[-1] < 0.5
    assert (curve["lost_low"][1e-4:] > 0).all() and (edge_gone_at(curve)["says"] == "still there").all()
    taken = latency_curve(book, times, signal, horizon=1.0, paid="in")
    assert (edge_gone_at(taken)["says"] == "never there").all()
    np.testing.assert_allclose(curve["edge"][[25e-6, 1e-3, 0.1]], [0.55, 0.42, 0.18], atol=0.005)
    first = latency_curve(book, times, signal, horizon=0.01)
    assert edge_gone_at(first).loc["band"].tolist() == [0.05, 0.1, "gone"] and first["low"].iloc[0] > 0.1
    np.testing.assert_allclose(first["edge"][[25e-6, 1e-3, 0.1]], [0.232, 0.098, -0.001], atol=0.0006)
