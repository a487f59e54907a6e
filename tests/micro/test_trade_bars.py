"""micro.trades: every kind of bar equals a slow loop, is known when it says, and is the same without the future."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import check_panel
from quantlab.data.sample import sample_book
from quantlab.micro.trades import (
    book_trades,
    check_trades,
    dollar_bars,
    imbalance_bars,
    runs_bars,
    tick_bars,
    tick_rule,
    time_bars,
    volume_bars,
)

START = pd.Timestamp("2012-06-21 13:30", tz="UTC")
MAKERS = {
    "tick": lambda t: tick_bars(t, 7),
    "volume": lambda t: volume_bars(t, 900),
    "dollar": lambda t: dollar_bars(t, 60_000),
    "imbalance": lambda t: imbalance_bars(t, warm_up=10, shortest=2, longest=40),
    "imbalance of volume": lambda t: imbalance_bars(t, "volume", warm_up=10, shortest=1),
    "runs": lambda t: runs_bars(t, "dollar", warm_up=10, shortest=2, longest=40),
}


@pytest.fixture(scope="module")
def sample():
    both = [book_trades(sample_book(s)[0], s, "2012-06-21") for s in ("SIMA", "SIMB")]
    return pd.concat(both, ignore_index=True)


@st.composite
def flows(draw):
    "Draw trades of one symbol, some at equal stamps."
    n = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 7, 61]), min_size=n, max_size=n))
    whole = lambda low, high: np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), dtype=float)
    signs = draw(st.lists(st.sampled_from([-1, 0, 1, 1]), min_size=n, max_size=n))
    dates = (START + pd.to_timedelta(np.cumsum(gaps), unit="s")).as_unit("us")
    return pd.DataFrame({"date": dates, "symbol": "A", "price": whole(90, 110), "size": whole(1, 9), "sign": signs})


def slow_ends(trades: pd.DataFrame, by: str, kind: str, step=None, warm=4, low=2, high=20, bars=5, span=9) -> list:
    "Find where bars end by the words of the book, one trade after the other; (end, mark) of each."
    worth = {"tick": 1.0 + 0 * trades["size"], "volume": trades["size"], "dollar": trades["size"] * trades["price"]}[by]
    rows = list(zip(trades["date"], worth, trades["sign"], strict=True))
    a, b = 2 / (bars + 1), 2 / (span + 1)
    found, held = [], []
    length = mean = share = None
    side = {1: 0.0, -1: 0.0}
    for i, row in enumerate(rows):
        held.append(row)
        if i + 1 < len(rows) and rows[i + 1][0] == row[0]:
            continue
        signed = [v * s for _, v, s in held]
        totals = {s: sum(v for _, v, x in held if x == s) for s in (1, -1)}
        mark = np.nan
        if kind == "full":
            done = sum(v for _, v, _ in held) >= step
        elif length is None:
            done = len(held) >= warm
        else:
            reach = {"imbalance": abs(sum(signed)), "runs": max(totals.values())}[kind]
            mark = length * (abs(mean) if kind == "imbalance" else max(share * side[1], (1 - share) * side[-1]))
            done = (len(held) >= low and reach >= mark - 1e-9) or len(held) >= high
        if not done:
            continue
        found.append((i, mark))
        signs = [s for *_, s in held if s]
        bought = signs.count(1) / len(signs) if signs else 0.0
        if length is None:
            length, mean, share = len(held), sum(signed) / len(held), bought
            side = {s: totals[s] / max(signs.count(s), 1) for s in (1, -1)}
        else:
            length, share = length + a * (len(held) - length), share + a * (bought - share)
            for x, (_, v, s) in zip(signed, held, strict=True):
                mean += b * (x - mean)
                if s:
                    side[s] += b * (v - side[s])
        held = []
    return found


def slow_rows(trades: pd.DataFrame, ends: list[int]) -> pd.DataFrame:
    "Sum the trades of each bar with pandas."
    rows, first = {}, 0
    for end in ends:
        some = trades.iloc[first : end + 1]
        bought, sold = (some.loc[some["sign"] == s, "size"].sum() for s in (1, -1))
        money = (some["size"] * some["price"]).sum()
        rows[some["date"].iloc[-1]] = (
            some["price"].iloc[0], some["price"].max(), some["price"].min(), some["price"].iloc[-1], some["size"].sum(),
            money, money / some["size"].sum(), bought, sold, len(some),
            (some["date"].iloc[-1] - some["date"].iloc[0]).total_seconds(),
        )  # fmt: skip
        first = end + 1
    return pd.DataFrame.from_dict(rows, orient="index")


@settings(max_examples=25)
@given(flows(), st.sampled_from(["tick", "volume", "dollar"]), st.sampled_from([1.0, 3.0, 25.0, 900.0]))
def test_bars_by_trades_shares_and_money_equal_a_slow_loop(trades, by, step):
    bars = {"tick": tick_bars, "volume": volume_bars, "dollar": dollar_bars}[by](trades, step)
    slow = slow_rows(trades, [end for end, _ in slow_ends(trades, by, "full", step)])
    assert len(bars) == len(slow)
    if len(slow):
        assert (bars.index.get_level_values("date") == slow.index).all()
        np.testing.assert_allclose(bars, slow, rtol=1e-12)


@settings(max_examples=25)
@given(flows(), st.sampled_from(["tick", "volume", "dollar"]), st.sampled_from(["imbalance", "runs"]))
def test_bars_by_imbalance_and_runs_equal_a_slow_loop(trades, by, kind):
    make = {"imbalance": imbalance_bars, "runs": runs_bars}[kind]
    bars = make(trades, by, warm_up=4, bar_span=5, trade_span=9, shortest=2, longest=20)
    slow = slow_ends(trades, by, kind)
    rows = slow_rows(trades, [end for end, _ in slow])
    assert len(bars) == len(slow)
    if len(slow):
        np.testing.assert_allclose(bars.iloc[:, :11], rows, rtol=1e-12)
        np.testing.assert_allclose(bars["threshold"], [mark for _, mark in slow], rtol=1e-9, atol=1e-9)
        closed = bars["theta"].abs() >= bars["threshold"] - 1e-9
        assert (closed | (bars["forced"] == 1) | bars["threshold"].isna()).all()


@settings(max_examples=25)
@given(flows())
def test_time_bars_equal_a_resample(trades):
    bars = time_bars(trades, 60)
    if len(bars):
        by_end = trades.set_index("date").resample("60s", closed="right", label="right")["size"].sum()
        volume = bars["volume"].droplevel("symbol")
        np.testing.assert_allclose(volume, by_end.reindex(volume.index, fill_value=0))
        assert bars.loc[bars["count"] == 0, ["open", "close", "vwap"]].isna().all(axis=None)
        assert volume.index[-1] <= trades["date"].iloc[-1] and (volume.index.second == 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_a_bar_is_the_same_without_the_future_and_with_a_false_one(name, sample):
    whole = check_panel(MAKERS[name](sample))
    rng = np.random.default_rng(0)
    for cut in whole.index.get_level_values("date")[[0, 3, 11, len(whole) // 2, len(whole) - 2]]:
        before = sample["date"] <= cut
        false = sample.copy()
        false.loc[~before, "sign"] = rng.choice([-1, 1], (~before).sum())
        false.loc[~before, ["price", "size"]] *= rng.uniform(0.5, 2, ((~before).sum(), 1))
        for other in (sample[before], false):
            pd.testing.assert_frame_equal(MAKERS[name](other).loc[:cut], whole.loc[:cut])


def test_a_bar_is_dated_by_its_last_trade_and_no_stamp_is_split(sample):
    for make in MAKERS.values():
        bars = make(sample)
        for symbol, own in bars.groupby("symbol"):
            trades = sample[sample["symbol"] == symbol]
            ends = own.index.get_level_values("date")
            assert ends.isin(trades["date"]).all()
            held = trades.groupby(ends.searchsorted(trades["date"]))["size"].agg(["count", "sum"]).iloc[: len(ends)]
            assert (held["count"].to_numpy() == own["count"].to_numpy()).all()
            np.testing.assert_allclose(held["sum"], own["volume"])
            assert (own["low"] <= own["vwap"]).all() and (own["vwap"] <= own["high"]).all()


def test_symbols_do_not_mix(sample):
    for make in MAKERS.values():
        alone = [make(some) for _, some in sample.groupby("symbol")]
        pd.testing.assert_frame_equal(pd.concat(alone).sort_index(), make(sample))


def test_signs_are_those_of_the_side_that_came(sample):
    messages, book = sample_book("SIMA")
    own = sample[sample["symbol"] == "SIMA"]
    rows = messages[messages["type"].isin([4, 5])]
    assert (own["sign"].to_numpy() == -rows["direction"].to_numpy()).all()
    assert own["hidden"].sum() == (rows["type"] == 5).sum() > 0
    before = book.shift().loc[rows.index]
    middle = (before["ask_price_1"] + before["bid_price_1"]).to_numpy() / 2e4
    seen = ~own["hidden"].to_numpy()
    assert (np.sign(own["price"].to_numpy() - middle)[seen] == own["sign"].to_numpy()[seen]).all()


def test_tick_rule_by_hand_and_on_nothing():
    assert tick_rule([5, 5, 6, 6, 5, 5]).tolist() == [0, 0, 1, 1, -1, -1]
    assert len(tick_rule([])) == 0 and tick_rule([3.0]).tolist() == [0]


def test_nothing_gives_no_bar(sample):
    for make in (*MAKERS.values(), lambda t: time_bars(t, 60)):
        assert len(make(sample.iloc[:0])) == 0
    assert len(tick_bars(sample.iloc[:1], 2)) == 0 and len(tick_bars(sample.iloc[:1], 1)) == 1


def test_what_is_no_trade_is_refused(sample):
    for column, value in (("price", np.nan), ("price", 0.0), ("size", np.inf), ("sign", 2), ("date", pd.NaT)):
        bad = sample.copy()
        bad.loc[7, column] = value
        with pytest.raises(DataError, match="trade 7 "):
            check_trades(bad)
    with pytest.raises(DataError, match="sort by date"):
        tick_bars(sample.iloc[::-1], 5)
    with pytest.raises(DataError, match="UTC"):
        check_trades(sample.assign(date=sample["date"].dt.tz_localize(None)))
    for call in (
        lambda: time_bars(sample, 7), lambda: tick_bars(sample, 0), lambda: runs_bars(sample, "shares"),
        lambda: imbalance_bars(sample, warm_up=0), lambda: runs_bars(sample, shortest=9, longest=3),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            call()


def test_another_zone_and_a_price_that_is_none_are_refused():
    trades = book_trades(sample_book("SIMA")[0], "SIMA", "2012-06-21")
    with pytest.raises(DataError, match="give UTC stamps"):
        volume_bars(trades.assign(date=trades["date"].dt.tz_convert("America/New_York")), 1_000)
    with pytest.raises(DataError, match="price 1 is no number"):
        tick_rule([10.0, np.nan, 11.0])
