"Live messages: read exactly, each trade once and in order, holes filled or written down, bars never known too early."

import json
import random
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.venues.streams import BarMaker, NumberedTrades, StreamTrade, TimedTrades, stream_rows, stream_texts

sys.path.insert(0, str(Path(__file__).parent))
SECOND = 10**9


def trade(number, at=None, received=None, symbol="X", price="1", mark=""):
    at = number * SECOND if at is None else at
    return StreamTrade(at, at if received is None else received, "v", symbol, number, Decimal(price), Decimal(1), mark)


def test_numbers_are_as_they_were_written():
    [row] = stream_rows(
        "binance", b'{"e":"trade","s":"A","t":1,"p":"0.10","q":"12345678.00000001","T":1700000000123}', 5
    )
    assert (row.price, row.size, row.at, row.received) == (
        Decimal("0.10"),
        Decimal("12345678.00000001"),
        1700000000123000000,
        5,
    )
    text = '[{"T":"t","i":9,"S":"A","x":"D","p":0.1,"s":3,"t":"2024-01-03T14:30:00.123456789Z"}]'
    [row] = stream_rows("alpaca", text, 5)
    assert (row.price, row.at % SECOND, row.mark) == (Decimal("0.1"), 123456789, "D")


BROKEN = ("", "[", "7", '{"e":"trade"}', '[{"T":"t","i":"x"}]', '[{"T":"q","S":"A","t":"soon"}]')


@pytest.mark.parametrize("text", [*BROKEN, '{"e":"trade","s":"A","t":1,"p":"NaN","q":"1","T":1}'])
def test_what_cannot_be_read_is_said_in_one_line(text):
    for venue in ("binance", "alpaca"):
        try:
            assert stream_rows(venue, text, 0) == []
        except DataError as error:
            assert "\n" not in str(error) and "cannot be read" in str(error)
    with pytest.raises(ConfigError, match="no stream"):
        stream_rows("other", text, 0)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 8))
def test_whatever_is_lost_doubled_and_mixed_up_comes_out_once_and_in_order(seed, count, limit):
    rng = random.Random(seed)
    truth = [trade(n) for n in range(1, count + 1)]
    unknown = {n for n in range(2, count) if rng.random() < 0.1}  # not even REST has them
    heard = [one for one in truth if one.sequence not in unknown and rng.random() < 0.8]
    heard += [one for one in heard if rng.random() < 0.2]
    heard.sort(key=lambda one: one.sequence + rng.uniform(0, 4))
    fetch = lambda symbol, first, last: [t for t in truth if first <= t.sequence <= last and t.sequence not in unknown]
    stream = NumberedTrades(fetch, limit=limit, after={"X": 0})
    told = [one for each in heard for one in stream.push(each)] + stream.flush("X")
    numbers = [one.sequence for one in told]
    last = max((one.sequence for one in heard), default=0)
    assert numbers == [n for n in range(1, last + 1) if n not in unknown]
    holes = {n for _, first, end in stream.holes for n in range(first, end + 1)}
    assert holes == {n for n in unknown if n < last}
    assert len(heard) - stream.repeated <= len(numbers)


def test_a_fetch_that_fails_loses_nothing():
    state = ["down"]

    def fetch(symbol, first, last):
        if state[0] == "down":
            raise ConnectionError("REST is down")
        return [trade(n) for n in range(first, last + 1)]

    stream = NumberedTrades(fetch, limit=1)
    assert [one.sequence for one in stream.push(trade(1))] == [1]
    assert stream.push(trade(3)) == []
    with pytest.raises(ConnectionError):
        stream.push(trade(4))
    state[0] = "up"
    assert [one.sequence for one in stream.push(trade(5))] == [2, 3, 4, 5] and stream.holes == []


def test_one_that_waits_too_long_is_asked_for():
    stream = NumberedTrades(lambda symbol, first, last: [trade(n) for n in range(first, last + 1)], patience=2.0)
    stream.push(trade(1))
    assert stream.push(trade(3, received=10 * SECOND)) == [] and stream.push(trade(4, received=11 * SECOND)) == []
    assert [one.sequence for one in stream.push(trade(5, received=13 * SECOND))] == [2, 3, 4, 5]


def test_symbols_do_not_wait_for_each_other():
    stream = NumberedTrades(lambda *_: [], limit=5)
    stream.push(trade(1))
    stream.push(trade(3))
    assert [one.symbol for one in stream.push(trade(7, symbol="Y"))] == ["Y"]
    assert stream.flush("never") == []


@given(st.integers(0, 10**6))
def test_by_time_each_once_and_in_order(seed):
    rng = random.Random(seed)
    truth = [trade(rng.randrange(5), at=n * SECOND // 3, mark=rng.choice("DV")) for n in range(1, 40)]
    heard = sorted(truth + truth[10:20], key=lambda one: one.at + rng.uniform(0, 0.9) * SECOND)
    stream = TimedTrades(lambda *_: [], late=1.0)
    told = [one for each in heard for one in stream.push(each)] + stream.flush("X")
    assert told == truth and stream.repeated == 10 and stream.too_late == []


def test_by_time_what_comes_too_late_is_counted_and_a_cut_is_filled():
    stream = TimedTrades(
        lambda symbol, since, until: [trade(n) for n in range(since // SECOND, until // SECOND + 1)], late=1.0
    )
    told = [one.sequence for n in (1, 2, 3, 9, 2, 4) for one in stream.push(trade(n))]
    assert told == [1, 2, 3, 4] and stream.repeated == 1
    assert stream.push(trade(3, at=3 * SECOND + 1)) == [] and len(stream.too_late) == 1
    assert [one.sequence for one in stream.flush("X", 5 * SECOND, 8 * SECOND)] == [5, 6, 7, 8, 9]


@given(st.lists(st.integers(0, 600), min_size=1, max_size=60), st.integers(0, 3))
def test_a_bar_is_never_known_before_its_end_and_no_trade_is_lost(seconds, late):
    trades = [
        trade(n, at=s * SECOND, received=s * SECOND + late, price=f"{1 + n % 7}") for n, s in enumerate(sorted(seconds))
    ]
    maker = BarMaker("1min")
    bars = [bar for one in trades for bar in maker.push(one)]
    assert maker.tick(trades[-1].at) == [] or trades[-1].at % (60 * SECOND) == 0
    bars += maker.tick(3600 * SECOND)
    assert all(bar.known >= bar.end == bar.start + 60 * SECOND for bar in bars) and maker.left_out == 0
    assert sum(bar.trades for bar in bars) == len(trades) == sum(bar.volume for bar in bars)
    for bar in bars:
        inside = [one.price for one in trades if bar.start <= one.at < bar.end]
        assert (bar.open, bar.high, bar.low, bar.close) == (inside[0], max(inside), min(inside), inside[-1])


def test_a_trade_for_a_bar_that_was_told_changes_nothing():
    maker = BarMaker("1min", late=5.0)
    maker.push(trade(1, at=30 * SECOND))
    assert maker.tick(64 * SECOND) == []
    [bar] = maker.tick(65 * SECOND)
    assert (bar.end, bar.known) == (60 * SECOND, 65 * SECOND)
    assert maker.push(trade(2, at=59 * SECOND)) == [] and maker.left_out == 1 and maker.tick(999 * SECOND) == []
    for length in ("", "0s", "-1min", "soon"):
        with pytest.raises(DataError, match="length of a bar"):
            BarMaker(length)


def test_the_stand_in_of_alpaca_hangs_up_and_the_line_is_made_anew():
    pytest.importorskip("websockets", reason="websockets is not installed: pip install 'quantlab[alpaca]'")
    pytest.importorskip("aiohttp")
    from fakes.alpaca import AlpacaVenue
    from fakes.core import Core

    core = Core(instruments=["AAPL"])
    core.set_price("AAPL", "100")
    venue = AlpacaVenue(core)
    hello = [
        json.dumps({"action": "authenticate", "data": {"key_id": "KEY", "secret_key": "SECRET"}}),
        json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}),
    ]
    events, cuts = [], 0
    with venue.serve() as url:
        texts = stream_texts(
            url.replace("http", "ws") + "/stream", hello, silence=5.0, pause=0.01, stop=lambda: len(events) == 2
        )
        for text, _ in texts:
            said = json.loads(text) if text else None
            cuts += text is None
            if said and said["stream"] == "listening":
                core.submit("AAPL", "buy", 1, client_id=f"a{cuts}")
            if said and said["stream"] == "trade_updates":
                assert stream_rows("alpaca", text, 0) == [], "no market data"
                events.append(said["data"]["order"]["client_order_id"])
                if len(events) == 1:
                    venue.drop_streams()
    assert events == ["a0", "a1"] and cuts == 1


def test_nobody_is_there():
    pytest.importorskip("websockets")
    seen = []
    for text, at in stream_texts("ws://127.0.0.1:1", silence=1.0, pause=0.0, stop=lambda: len(seen) == 3):
        seen.append(text)
        assert at > 1_700_000_000 * SECOND and threading.active_count() < 50
    assert seen == [None] * 3
