"""micro.liquidity and micro.variance: closed forms, slow references, planted truths, the audit and a planted leak."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.audit import LEAK, audit
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, LeakError, PanelError
from quantlab.core.panel import as_panel, check_panel
from quantlab.data.sample import sample_book
from quantlab.features.base import Feature, check_feature, compute
from quantlab.micro.book import parse_book, parse_messages
from quantlab.micro.liquidity import (
    LIQUIDITY,
    book_bars,
    bulk_vpin,
    flow_imbalance,
    kyle_lambda,
    order_flow,
    queue_imbalance,
    quoted_spread,
    roll_spread,
    touch_depth,
    vpin,
)
from quantlab.micro.trades import book_trades, volume_bars
from quantlab.micro.variance import (
    MICRO_SETS,
    bipower_variance,
    jump_share,
    plugin_entropy,
    realised_variance,
    sign_entropy,
)

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "lob"
DAY = "2012-06-21"


@pytest.fixture(scope="module")
def bars():
    return pd.concat([book_bars(*sample_book(s), s, DAY) for s in ("SIMA", "SIMB")]).sort_index()


def one(**columns) -> pd.DataFrame:
    "Return bars of one symbol, a second apart."
    n = len(next(iter(columns.values())))
    dates = pd.date_range("2012-06-21 13:30", periods=n, freq="s", tz="UTC").as_unit("us")
    return as_panel(pd.DataFrame({"date": dates, "symbol": "A"} | columns))


def quoted(returns) -> pd.DataFrame:
    "Return bars whose middle has these log returns."
    mid = 50 * np.exp(np.concatenate([[0], np.cumsum(returns)]))
    return one(bid=mid - 0.01, ask=mid + 0.01)


@pytest.mark.parametrize("name", ["micro"])  # the other sets are its parts
def test_every_registered_feature_passes_the_audit(name, bars):
    verdict = check_feature(MICRO_SETS[name], bars)
    assert verdict.status == "PASS", verdict
    assert set(MICRO_SETS[name]) == {f for some in MICRO_SETS.values() for f in some}
    names = [f.name for f in MICRO_SETS[name]]
    assert len(set(names)) == len(names) and all(f.normalised for f in MICRO_SETS[name])


def test_a_planted_leak_is_found(bars):
    late = Feature("late", lambda b: flow_imbalance(5).formula(b).shift(-1), 4, "bars")
    with pytest.raises(LeakError, match="late"):
        check_feature(late, bars)

    def whole_day(panel):
        "Divide the flow by its deviation over the whole day."
        return (panel["ofi"] / panel.groupby("symbol")["ofi"].transform("std")).rename("scaled")

    assert audit(whole_day, bars).status == LEAK
    short = Feature("short", kyle_lambda(30).formula, 20, "bars")
    with pytest.raises(PanelError, match="reads more than its lookback"):
        check_feature(short, bars)


def test_minutes_from_messages_do_not_know_what_comes_later(bars):
    messages, book = sample_book("SIMA")
    whole = bars.xs("SIMA", level="symbol", drop_level=False)
    rng = np.random.default_rng(0)
    for minutes in (3, 40, 88):
        before = messages["time"] <= 34_200 + 60 * minutes
        until = pd.Timestamp(DAY + " 13:30", tz="UTC") + pd.Timedelta(minutes=minutes)
        false_m, false_b = messages.copy(), book.copy()
        false_m.loc[~before, "size"] = rng.integers(1, 999, (~before).sum())
        false_b.loc[~before, [c for c in book if "size" in c]] *= 7
        after = book_bars(false_m, false_b, "SIMA", DAY).loc[:until]
        pd.testing.assert_frame_equal(after, whole.loc[:until], check_exact=True)
        cut = book_bars(messages[before], book[before], "SIMA", DAY)
        pd.testing.assert_frame_equal(cut, whole.loc[: cut.index[-1][0]], check_exact=True)
        assert until - cut.index[-1][0] <= pd.Timedelta(minutes=1)


def test_minutes_equal_a_slow_walk_over_the_events(bars):
    messages, book = sample_book("SIMB")
    own = check_panel(bars).xs("SIMB", level="symbol")
    ends = 34_200 + 60 * np.arange(len(own))
    flow = np.append(0.0, [slow_push(*pair) for pair in zip(book.to_numpy()[:-1], book.to_numpy()[1:], strict=True)])
    assert (order_flow(book) == flow).all()
    for k in (1, 17, 60):
        inside = ((messages["time"] > ends[k - 1]) & (messages["time"] <= ends[k])).to_numpy()
        rows = np.flatnonzero(inside)
        times = np.concatenate([[ends[k - 1]], messages["time"].iloc[rows], [ends[k]]])
        states = book.iloc[np.concatenate([[rows[0] - 1], rows])]
        stood = np.diff(times)
        spread = (states["ask_price_1"] - states["bid_price_1"]) / 1e4
        depth = (states["ask_size_1"] + states["bid_size_1"]) / 2
        assert np.isclose(own["mean_spread"].iloc[k], np.average(spread, weights=stood))
        assert np.isclose(own["mean_depth"].iloc[k], np.average(depth, weights=stood))
        assert own["ofi"].iloc[k] == flow[rows].sum()
        last = book.iloc[rows[-1]]
        assert own["bid"].iloc[k] == last["bid_price_1"] / 1e4 and own["ask_size"].iloc[k] == last["ask_size_1"]
        some = messages.iloc[rows][messages["type"].iloc[rows].isin([4, 5])]
        assert own["buy"].iloc[k] == some.loc[some["direction"] == -1, "size"].sum()
        assert own["count"].iloc[k] == len(some) and own["close"].iloc[k] == some["price"].iloc[-1] / 1e4


def slow_push(before, after) -> float:
    "Say what an event did to both best queues, side by side."
    (a0, qa0, b0, qb0), (a1, qa1, b1, qb1) = before[:4], after[:4]
    bid = qb1 - qb0 if b1 == b0 else qb1 if b1 > b0 else -qb0
    ask = qa1 - qa0 if a1 == a0 else qa1 if a1 < a0 else -qa0
    return float(bid - ask)


def test_minutes_without_a_trade_and_without_an_event():
    rows = [(34_200.0, 1, 1, 5, 99, 1), (34_200.0, 1, 2, 5, 101, -1), (34_500.0, 1, 3, 5, 98, 1)]
    messages = pd.DataFrame(rows, columns=["time", "type", "id", "size", "price", "direction"])
    book = pd.DataFrame([[9_999_999_999, 0, 99, 5], [101, 5, 99, 5], [101, 5, 99, 5]])
    book.columns = ["ask_price_1", "ask_size_1", "bid_price_1", "bid_size_1"]
    quiet = book_bars(messages, book, "A", DAY)
    assert len(quiet) == 6 and (quiet["count"] == 0).all() and quiet["close"].isna().all()
    assert (quiet["bid"] == 0.0099).all() and np.allclose(quiet["mean_spread"].iloc[1:], 0.0002)
    values = compute(quiet, [f for f in LIQUIDITY if not f.name.startswith(("amihud", "roll", "bulk"))])
    assert not np.isinf(values.to_numpy()).any() and (values["queue_imbalance"] == 0).all()


def test_features_equal_slow_windows(bars):
    own = bars.xs("SIMA", level="symbol")
    n, last = 30, own.iloc[-31:]
    mid = np.log((last["bid"] + last["ask"]) / 2).diff().iloc[1:]
    net = ((last["buy"] - last["sell"]) * (last["bid"] + last["ask"]) / 2e6).iloc[1:]
    asked = [kyle_lambda(n), vpin(n), flow_imbalance(5), realised_variance(n), bipower_variance(n), touch_depth(n)]
    value = compute(bars, asked).xs("SIMA", level="symbol").iloc[-1]
    assert np.isclose(value["kyle_30"], np.polyfit(net, 1e4 * mid, 1)[0])
    some = last.iloc[1:]
    assert np.isclose(value["vpin_30"], (some["buy"] - some["sell"]).abs().sum() / some["volume"].sum())
    assert np.isclose(value["ofi_5"], some["ofi"].tail(5).sum() / some["mean_depth"].tail(5).mean())
    assert np.isclose(value["rvar_30"], (mid**2).sum())
    products = (mid.abs() * mid.abs().shift()).sum()
    assert np.isclose(value["bpvar_30"], np.pi / 2 * 30 / 29 * products)
    money = some["bid"] * some["bid_size"] + some["ask"] * some["ask_size"]
    assert np.isclose(value["depth_30"], np.log(money.iloc[-1] / money.mean()))


def test_kyle_finds_a_planted_slope_and_its_noise():
    rng = np.random.default_rng(5)
    n, lam = 4_000, 2.5
    money, noise = rng.normal(0, 3e5, n), rng.normal(0, 2.0, n)
    mid = 100 * np.exp(1e-4 * np.cumsum(lam * money / 1e6 + noise))
    panel = one(bid=mid - 0.01, ask=mid + 0.01, buy=np.maximum(money, 0) / mid, sell=np.maximum(-money, 0) / mid)
    error = 2.0 / (0.3 * np.sqrt(n))
    assert abs(kyle_lambda(n - 1)(panel).iloc[-1] - lam) < 4 * error
    assert compute(panel.assign(buy=0.0, sell=0.0).tail(40), kyle_lambda(30)).isna().all(axis=None)


def test_roll_is_twice_the_root_of_minus_the_covariance():
    log = np.array([0.0, 1, 0, 1, 0, 1]) * 1e-3  # changes 1, -1, 1, -1, 1
    x, y = np.array([-1, 1, -1, 1]) * 1e-3, np.array([1, -1, 1, -1]) * 1e-3
    expected = 2e4 * np.sqrt(-np.mean(x * y) + x.mean() * y.mean())
    assert np.isclose(roll_spread(4)(one(close=50 * np.exp(log))).iloc[-1], expected) and np.isclose(expected, 20)
    trend = one(close=50 * np.exp(np.cumsum(np.cumsum(np.ones(40)) * 1e-4)))
    assert roll_spread(10)(trend).isna().all()


def test_vpin_by_hand_and_bulk_near_it_where_prices_follow_buyers(bars):
    hand = one(buy=[3.0, 0.0, 2.0], sell=[1.0, 4.0, 2.0], volume=[4.0, 4.0, 4.0])
    assert vpin(3)(hand).iloc[-1] == pytest.approx(0.5) and vpin(1)(hand).tolist() == [0.5, 1, 0]
    trades = book_trades(sample_book("SIMA")[0], "SIMA", DAY)
    equal = volume_bars(trades, 5_000)
    value = vpin(len(equal))(equal).iloc[-1]
    assert value == pytest.approx((equal["buy"] - equal["sell"]).abs().sum() / equal["volume"].sum())
    bulk = bulk_vpin(10)(equal).dropna()
    assert len(bulk) and bulk.between(0, 1).all()


def test_bounds_and_scale(bars):
    values = compute(bars, MICRO_SETS["micro"])
    assert values["queue_imbalance"].abs().max() <= 1 and (values["spread_bps"].dropna() > 0).all()
    for name in ("vpin_30", "bulk_vpin_30", "jump_share_30"):
        assert values[name].dropna().between(0, 1).all() and values[name].notna().any()
    assert values["entropy_60_1"].dropna().between(0, np.log2(3) + 1e-12).all()
    shares = bars.assign(**{c: bars[c] * 8 for c in ("ofi", "mean_depth", "bid_size", "ask_size")})
    free = [quoted_spread(), queue_imbalance(), touch_depth(30), flow_imbalance(5)]
    np.testing.assert_allclose(compute(shares, free), compute(bars, free), rtol=1e-9)
    flipped = bars.assign(bid_size=bars["ask_size"], ask_size=bars["bid_size"], ofi=-bars["ofi"])
    for f in (queue_imbalance(), flow_imbalance(5)):
        np.testing.assert_allclose(f(flipped), -f(bars))


def test_bipower_is_blind_to_jumps_and_realised_is_not():
    rng = np.random.default_rng(7)
    n = 5_000
    calm = rng.normal(0, 1e-3 / np.sqrt(n), n)
    jumps = np.zeros(n)
    jumps[[900, 2_500, 4_100]] = [6e-4, -6e-4, 6e-4]
    asked = [realised_variance(n), bipower_variance(n), jump_share(n)]
    a, b = (compute(quoted(x), asked).iloc[-1] for x in (calm, calm + jumps))
    assert b.iloc[0] - a.iloc[0] == pytest.approx(3 * 3.6e-7, rel=0.15)
    assert abs(b.iloc[1] / a.iloc[1] - 1) < 0.1 and a.iloc[2] < 0.06 < 0.45 < b.iloc[2] < 0.6


def test_the_night_is_no_return():
    dates = pd.to_datetime(["2012-06-21 20:59", "2012-06-21 21:00", "2012-06-22 13:31", "2012-06-22 13:32"], utc=True)
    frame = pd.DataFrame({"date": dates.as_unit("us"), "symbol": "A", "bid": [10.0, 10.0, 20.0, 20.0]})
    value = realised_variance(1)(as_panel(frame.assign(ask=frame["bid"] + 0.01)))
    assert value.isna().tolist() == [True, False, True, False] and (value.dropna() == 0).all()


def test_entropy_equals_counting():
    rng = np.random.default_rng(3)
    returns = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.5, 0.2, 0.3]) * 1e-3
    for word in (1, 2, 3):
        words = pd.Series(list(zip(*(np.sign(returns[i : 400 - word + 1 + i]) for i in range(word)), strict=True)))
        p = words.value_counts(normalize=True)
        assert np.isclose(plugin_entropy(returns, word), -(p * np.log2(p)).sum() / word)
        tail = words.tail(90).value_counts(normalize=True)
        feature = sign_entropy(90, word)(quoted(returns)).iloc[-1]
        assert np.isclose(feature, -(tail * np.log2(tail)).sum() / word)
    assert np.isnan(plugin_entropy([])) and np.isnan(plugin_entropy([np.nan] * 5)) and plugin_entropy([1.0]) == 0


def test_degenerate_bars_give_nan_or_numbers(bars):
    one_name = bars.xs("SIMA", level="symbol", drop_level=False)
    flat = one_name.assign(bid=10.0, ask=10.01, close=10.0)
    cases = {
        "no row": bars.iloc[:0], "one row": bars.iloc[:1], "flat": flat, "all NaN": one_name * np.nan,
        "no trades": one_name.assign(volume=0.0, amount=0.0, buy=0.0, sell=0.0),
        "infinite": one_name.assign(bid=np.inf),
        "empty book": one_name.assign(bid_size=0.0, ask_size=0.0, mean_depth=0.0),
    }  # fmt: skip
    for case, some in cases.items():
        values = compute(some, MICRO_SETS["micro"])
        assert values.index.equals(some.index) and not np.isinf(values.to_numpy()).any(), case
    assert compute(cases["all NaN"], MICRO_SETS["micro"]).isna().all(axis=None)
    for call in (
        lambda: kyle_lambda(2),
        lambda: roll_spread(1),
        lambda: bipower_variance(1),
        lambda: sign_entropy(5, 2),
    ):
        with pytest.raises(ConfigError):
            call()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day_flow_moves_the_price_and_the_set_is_causal():
    start = "AMZN_2012-06-21_34200000_57600000"
    messages = parse_messages((SHARED / f"{start}_message_1.csv").read_text())
    book = parse_book((SHARED / f"{start}_orderbook_1.csv").read_text())
    day = book_bars(messages, book, "AMZN", DAY)
    assert len(day) == 390 - 1 and day["count"].sum() <= 8_974 + 2_445
    assert check_feature(MICRO_SETS["micro"], day).status == "PASS"
    move = np.log((day["bid"] + day["ask"]) / 2).diff()
    assert flow_imbalance(1)(day).corr(move) > 0.4
    assert compute(day, [kyle_lambda(120), realised_variance(120)]).iloc[-1].gt(0).all()
