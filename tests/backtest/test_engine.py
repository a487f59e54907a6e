"""The engine's account: nothing is made from nothing, and nothing depends on what should not matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest.costs import Costs, charge
from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.broker.fill_model import limit_queue, next_close, next_open, same_close, vwap
from quantlab.broker.rules import Rules
from quantlab.core.errors import ConfigError, DataError, PanelError, QuantlabError
from quantlab.core.panel import as_panel, to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars

DATES = pd.bdate_range("2024-01-01", periods=40).as_unit("us")
NAMES = ["AA", "BB", "CC", "DD", "EE"]


def market(seed, missing=0.1, moves=0.02):
    """Random opens and closes of five names over 40 sessions; some bars are missing, in odd seeds one name stops."""
    rng = np.random.default_rng(seed)
    steps = np.exp(np.cumsum(rng.normal(0, moves, (80, 5)), axis=0)) * rng.uniform(5, 200, 5)
    there = rng.random((40, 5)) >= missing
    there[0], there[:, (seed + 1) % 5] = True, True  # every session has a bar
    if seed % 2:
        there[20:, seed % 5] = False
    t, i = np.nonzero(there)
    rows = {"date": DATES[t], "symbol": np.array(NAMES)[i], "open": steps[0::2][t, i], "close": steps[1::2][t, i]}
    return as_panel(pd.DataFrame(rows))


def targets(seed, short=False, gross=1.0):
    """Random weights on a dozen random sessions; long only, or with shorts and a net of at most 1."""
    rng = np.random.default_rng(seed + 1)
    days = np.sort(rng.choice(40, 12, replace=False))
    w = rng.random((12, 5)) * (rng.random((12, 5)) < 0.7)
    w = gross * w / np.maximum(w.sum(axis=1, keepdims=True), 1e-9) * rng.uniform(0.2, 1, (12, 1))
    if short:
        w = w * rng.choice([1.0, -0.6], (12, 5))
    frame = pd.DataFrame(w, index=DATES[days].rename("date"), columns=pd.Index(NAMES, name="symbol"))
    return as_panel(frame.stack().rename("weight").reset_index())


def rebuilt(result, cash):
    """Rebuild cash and equity by date from the list of trades alone."""
    trades = result.trades
    spent = (trades["quantity"] * trades["price"] + trades["commission"]).groupby(trades["date"]).sum()
    money = cash - spent.reindex(result.equity.index, fill_value=0.0).cumsum()
    shares = trades.pivot_table(index="date", columns="symbol", values="quantity", aggfunc="sum")
    shares = shares.reindex(result.equity.index).fillna(0.0).cumsum()
    return money, shares


cost_levels = st.builds(
    Costs, commission_bps=st.sampled_from([0.0, 1.0, 50.0]), slippage_bps=st.sampled_from([0.0, 5.0, 100.0])
)
seeds = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, costs=cost_levels, short=st.booleans())
def test_conservation(seed, costs, short):
    bars = market(seed)
    result = from_weights(targets(seed, short), bars, costs, cash=1e5)
    value = result.positions["value"].groupby("date").sum().reindex(result.equity.index, fill_value=0.0)
    np.testing.assert_allclose(result.cash + value, result.equity, rtol=1e-11)
    money, shares = rebuilt(result, 1e5)
    np.testing.assert_allclose(money, result.cash, rtol=1e-9, atol=1e-6)
    marks = to_wide(bars["close"]).ffill().loc[shares.index, shares.columns]
    np.testing.assert_allclose(money + (shares * marks).sum(axis=1), result.equity, rtol=1e-9)
    if not short:
        assert (result.cash >= 0).all() and (result.positions["shares"] > 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=cost_levels, short=st.booleans())
def test_still_prices_make_no_money(seed, costs, short):
    bars = market(seed, moves=0.0)
    result = from_weights(targets(seed, short), bars, costs, cash=1e5)
    paid = result.costs.sum(axis=1).cumsum()
    np.testing.assert_allclose(result.equity, 1e5 - paid, rtol=1e-11)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=cost_levels, short=st.booleans(), scale=st.sampled_from([1e-3, 7.0, 1e4]))
def test_scale_of_cash(seed, costs, short, scale):
    bars, weights = market(seed), targets(seed, short)
    one, many = (from_weights(weights, bars, costs, cash=c) for c in (1e5, 1e5 * scale))
    np.testing.assert_allclose(many.equity, one.equity * scale, rtol=1e-10)
    np.testing.assert_allclose(many.turnover, one.turnover, rtol=1e-9, atol=1e-12)
    assert len(many.trades) == len(one.trades) and many.closed["symbol"].equals(one.closed["symbol"])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=cost_levels, short=st.booleans(), order=st.permutations(NAMES))
def test_names_do_not_matter(seed, costs, short, order):
    new = dict(zip(NAMES, order, strict=True))
    bars, weights = market(seed), targets(seed, short)
    renamed = [as_panel(f.reset_index().assign(symbol=lambda x: x["symbol"].map(new))) for f in (weights, bars)]
    a, b = from_weights(weights, bars, costs), from_weights(*renamed, costs)
    np.testing.assert_allclose(a.equity, b.equity, rtol=1e-11)
    keys = ["date", "symbol"]
    left = a.trades.assign(symbol=a.trades["symbol"].map(new)).sort_values(keys)["quantity"]
    np.testing.assert_allclose(left, b.trades.sort_values(keys)["quantity"], rtol=1e-8, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=cost_levels)
def test_costs_follow_from_trades(seed, costs):
    result = from_weights(targets(seed), market(seed), costs)
    trades = result.trades
    traded = (trades["quantity"] * trades["price"]).abs()
    np.testing.assert_allclose(trades["commission"], traded * costs.commission, atol=1e-12)
    before = result.equity.shift(1)
    np.testing.assert_allclose(
        result.costs["commission"].iloc[1:],
        (result.turnover * before * costs.commission).iloc[1:],
        rtol=1e-9,
        atol=1e-9,
    )
    at_market = traded / (1 + costs.slippage * np.sign(trades["quantity"]))
    np.testing.assert_allclose(trades["slippage"], at_market * costs.slippage, rtol=1e-9, atol=1e-9)
    again = charge(
        trades["quantity"],
        traded / trades["quantity"].abs() / (1 + costs.slippage * np.sign(trades["quantity"])),
        costs,
    )
    np.testing.assert_allclose(
        again[["price", "commission", "slippage"]], trades[["price", "commission", "slippage"]], rtol=1e-9, atol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(seed=seeds, cut=st.integers(5, 35))
def test_future_bars_and_weights_do_not_matter(seed, cut):
    bars, weights = market(seed), targets(seed)
    late = {
        True: bars.index.get_level_values("date") > DATES[cut],
        False: weights.index.get_level_values("date") > DATES[cut],
    }
    full = from_weights(weights, bars, start=DATES[0])
    spoiled = bars.copy()
    spoiled.loc[late[True]] *= 3.0
    other = from_weights(weights[~late[False]], spoiled, start=DATES[0])
    assert full.equity.loc[: DATES[cut]].equals(other.equity.loc[: DATES[cut]])
    cut_off = from_weights(weights[~late[False]], bars[~late[True]], start=DATES[0])
    assert full.equity.loc[: DATES[cut]].equals(cut_off.equity)
    assert from_weights(weights, bars, start=DATES[0], end=DATES[cut]).equity.equals(cut_off.equity)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_every_order_fills_or_is_listed(seed):
    bars, weights = market(seed, missing=0.3), targets(seed)
    result = from_weights(weights, bars)
    opens = to_wide(bars["open"])
    for row in result.unfilled.itertuples():
        if row.reason == "no next session":
            assert row.decided == opens.index[-1] and pd.isna(row.date)
        else:
            assert row.reason == "no open" and np.isnan(opens.at[row.date, row.symbol])
            assert row.date == opens.index[opens.index.get_loc(row.decided) + 1]
    filled = result.trades[result.trades["reason"] == "rebalance"]
    assert not opens.stack().reindex(pd.MultiIndex.from_frame(filled[["date", "symbol"]])).isna().any()
    assert not result.trades.duplicated(["date", "symbol", "reason"]).any()


def two_names():
    rows = [("A", 10, 10), ("B", 20, 20), ("A", 10, 12), ("B", 20, 20), ("A", 12, 12), ("B", 25, 25)]
    dates = np.repeat(pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04"]), 2)
    return as_panel(
        pd.DataFrame(rows, columns=["symbol", "open", "close"])
        .assign(date=dates)
        .astype({"open": float, "close": float})
    )


def weights_of(*rows):
    return as_panel(pd.DataFrame(rows, columns=["date", "symbol", "weight"]))


def test_known_answer():
    weights = weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", 0.5), ("2024-01-03", "A", 1.0))
    result = from_weights(weights, two_names(), Costs(0, 0), cash=1000.0)
    np.testing.assert_allclose(result.equity, [1000, 1100, 1225])
    np.testing.assert_allclose(result.trades["quantity"], [50, 25, -25, 500 / 12], rtol=1e-8)
    assert result.trades["symbol"].tolist() == ["A", "B", "B", "A"]
    assert result.trades["decided"].tolist() == [pd.Timestamp("2024-01-02")] * 2 + [pd.Timestamp("2024-01-03")] * 2


def test_short_known_answer():
    """Short 25 B at 20 (1 % slippage: sold at 19.80), marked at 25: 1000 + 25 x 19.8 - 25 x 25 = 870."""
    result = from_weights(weights_of(("2024-01-02", "B", -0.5)), two_names(), Costs(0, 100), cash=1000.0)
    np.testing.assert_allclose(result.equity, [1000, 995, 870])
    np.testing.assert_allclose(result.cash, [1000, 1495, 1495])


def test_a_stop_is_charged_and_may_be_undone():
    """25 B bought at 20, no bar on the third and fourth session, back on the fifth."""
    dates = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"])
    rows = [(d, "A", 10.0, 10.0) for d in dates] + [(dates[t], "B", 20.0, 20.0) for t in (0, 1, 4)]
    bars = as_panel(pd.DataFrame(rows, columns=["date", "symbol", "open", "close"]))
    weights = weights_of(("2024-01-02", "B", 0.5), ("2024-01-05", "B", 0.5))
    result = from_weights(weights, bars, Costs(100, 100), cash=1000.0, rules=Rules(stale_after=2))
    assert result.trades["reason"].tolist() == ["rebalance", "stopped", "rebalance"]
    assert result.closed.loc[0, ["symbol", "last_bar", "date", "price"]].tolist() == ["B", dates[1], dates[3], 20.0]
    stop = result.trades.loc[1]
    assert (
        stop["price"] == pytest.approx(19.8)
        and stop["commission"] == pytest.approx(25 * 19.8 * 0.01)
        and stop["slippage"] == pytest.approx(5.0)
    )
    assert stop["decided"] == stop["date"] == dates[3] and result.trades.loc[0, "decided"] == dates[0]
    assert result.trades.loc[2, ["decided", "date"]].tolist() == [dates[3], dates[4]]
    later = from_weights(weights, bars, Costs(100, 100), cash=1000.0, rules=Rules(stale_after=3))
    assert later.closed.empty


def test_covering_a_stopped_short_may_take_cash_below_zero_and_buys_then_wait():
    """Long 1.3, short 0.3 at 10: cash 0. The short stops and costs 300 to cover; the next buys find no cash."""
    dates = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"])
    rows = [(d, "A", 10.0, 10.0) for d in dates] + [(d, "B", 10.0, 10.0) for d in dates[:2]]
    bars = as_panel(pd.DataFrame(rows, columns=["date", "symbol", "open", "close"]))
    weights = weights_of(("2024-01-02", "A", 1.3), ("2024-01-02", "B", -0.3))
    result = from_weights(weights, bars, Costs(0, 0), cash=1000.0, rules=Rules(stale_after=1))
    np.testing.assert_allclose(result.cash, [1000, 0, -300, -300], atol=1e-5)
    np.testing.assert_allclose(result.equity, 1000.0)
    assert result.closed["quantity"].tolist() == [30.0]
    more = pd.concat([weights, weights_of(("2024-01-04", "A", 1.0))])
    back = from_weights(more, bars, Costs(0, 0), cash=1000.0, rules=Rules(stale_after=1))
    np.testing.assert_allclose(back.cash.iloc[-1], 0, atol=1e-5)
    bars.loc[("2024-01-04", "A"), "close"] = 9.0
    hungry = from_weights(
        pd.concat([weights, weights_of(("2024-01-04", "A", 1.0), ("2024-01-04", "B", 0.0))]),
        bars,
        Costs(0, 0),
        cash=1000.0,
        rules=Rules(stale_after=1),
    )
    assert hungry.equity.iloc[-2] == pytest.approx(870) and hungry.trades.iloc[-1]["quantity"] < 0


def test_buys_without_cash_are_listed():
    """Cash is below zero after the cover and nothing is sold, so the buy of C lapses whole."""
    dates = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"])
    rows = [(d, s, 10.0, 10.0) for d in dates for s in "AC"] + [(d, "B", 10.0, 10.0) for d in dates[:2]]
    bars = as_panel(pd.DataFrame(rows, columns=["date", "symbol", "open", "close"]).drop(index=6))  # no A on 5 January
    weights = weights_of(
        ("2024-01-02", "A", 1.3), ("2024-01-02", "B", -0.3), ("2024-01-04", "A", 0.9), ("2024-01-04", "C", 0.1)
    )
    result = from_weights(weights, bars, Costs(0, 0), cash=1000.0, rules=Rules(stale_after=1))
    assert result.unfilled[["symbol", "reason"]].to_numpy().tolist() == [["A", "no open"], ["C", "no cash"]]
    assert result.scale.iloc[-1] == 0.0


def test_an_account_that_starts_before_and_ends_early():
    weights = weights_of(("2024-01-02", "A", 0.5), ("2024-01-03", "A", 1.0))
    late = from_weights(weights, two_names(), start="2024-01-03", cash=1000.0)
    assert late.equity.index[0] == pd.Timestamp("2024-01-03") and late.equity.iloc[0] == 1000.0
    assert late.trades["decided"].tolist() == [pd.Timestamp("2024-01-03")]
    early = from_weights(weights_of(("2024-01-03", "A", 1.0)), two_names(), start="2024-01-02", end="2024-01-03")
    assert early.equity.tolist() == [1e6, 1e6] and early.unfilled["reason"].tolist() == ["no next session"]


BAD = {
    "leverage": (lambda w, b: (w * 1.5, b), PanelError, "sum to 1.5, above 1"),
    "gross": (
        lambda w, b: (weights_of(("2024-01-02", "A", 1.5), ("2024-01-02", "B", -0.8)), b),
        PanelError,
        "absolute value to 2.3",
    ),
    "nan": (lambda w, b: (w.mask(w > 0), b), PanelError, "weight of A on 2024-01-02 is not a number"),
    "inf": (lambda w, b: (w * np.inf, b), PanelError, "not a number"),
    "date": (lambda w, b: (weights_of(("2024-01-06", "A", 0.5)), b), PanelError, "2024-01-06"),
    "symbol": (lambda w, b: (weights_of(("2024-01-02", "ZZ", 0.5)), b), PanelError, "ZZ"),
    "column": (lambda w, b: (w.rename(columns={"weight": "w"}), b), PanelError, "weight"),
    "unpriced": (lambda w, b: (w, b.drop(("2024-01-02", "B"))), PanelError, "B has a weight on 2024-01-02"),
    "zero price": (lambda w, b: (w, b.where(b != 25, 0.0)), DataError, "open of B on 2024-01-04 is 0.0"),
    "inf price": (lambda w, b: (w, b.where(b != 25, np.inf)), DataError, "open of B on 2024-01-04"),
    "not adjusted": (lambda w, b: (w, b.assign(adj=0.5)), DataError, "adjust"),
    "empty bars": (lambda w, b: (w, b.iloc[:0]), PanelError, "empty"),
    "unsorted": (lambda w, b: (w, b.iloc[::-1]), PanelError, "sorted"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    change, error, words = BAD[case]
    weights = weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", 0.5))
    with pytest.raises(error, match=words):
        from_weights(*change(weights, two_names()))


def test_bad_parameters_are_named():
    weights = weights_of(("2024-01-02", "A", 0.5))
    for keywords in ({"cash": 0.0}, {"cash": np.nan}):
        with pytest.raises(ConfigError, match="cash"):
            from_weights(weights, two_names(), **keywords)
    with pytest.raises(ConfigError, match="stale_after"):
        Rules(stale_after=0)
    with pytest.raises(PanelError, match="no session"):
        from_weights(weights, two_names(), start="2025-01-01")
    with pytest.raises(PanelError, match="no session"):
        from_weights(weights, two_names(), end="2023-01-01")
    with pytest.raises(ConfigError, match="slippage_bps"):
        Costs(slippage_bps=np.nan)


def test_ruin_is_an_error():
    bars = two_names()
    bars.loc[("2024-01-04", "A"), ["open", "close"]] = 30.0
    with pytest.raises(QuantlabError, match="ruined on 2024-01-04"):
        from_weights(weights_of(("2024-01-02", "A", -1.0)), bars)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, costs=cost_levels, short=st.booleans(), sized=st.sampled_from(["decision", "fill"]))
def test_every_frame_follows_from_orders_and_fills(seed, costs, short, sized):
    """Orders say what each fill was asked for; positions are the sum of the fills; a frame is built once."""
    result = from_weights(targets(seed, short), market(seed), costs, cash=1e5, fill=next_open(sized=sized))
    orders, trades = result.orders, result.trades
    assert result.orders is orders and result.trades is trades
    asked = trades[trades["reason"] == "rebalance"].set_index(["decided", "symbol"])["quantity"].sort_index()
    got = orders[orders["filled"] != 0].set_index(["decided", "symbol"])["filled"].sort_index()
    pd.testing.assert_series_equal(asked, got, check_names=False)
    whole = orders["reason"] == ""
    assert (orders.loc[whole, "filled"] == orders.loc[whole, "quantity"]).all()
    assert (orders.loc[~whole, "filled"].abs() < orders.loc[~whole, "quantity"].abs()).all()
    assert set(orders["reason"]) <= {"", "no cash", "no open", "no next session"} and set(orders["type"]) <= {"market"}
    assert len(result.unfilled) == (orders["filled"] == 0).sum()
    shares = (
        trades.pivot_table(index="date", columns="symbol", values="quantity", aggfunc="sum")
        .reindex(result.equity.index)
        .fillna(0)
        .cumsum()
    )
    held = result.positions["shares"].unstack().reindex(index=shares.index, columns=shares.columns).fillna(0)
    np.testing.assert_allclose(held, shares, atol=1e-6)


def test_sized_at_the_fill():
    """The holdings fetch 50 x 12 + 25 x 25 = 1225 at the opens; half of it is asked of each name."""
    weights = weights_of(*[(d, s, 0.5) for d in ("2024-01-02", "2024-01-03") for s in "AB"])
    result = from_weights(weights, two_names(), Costs(0, 0), cash=1000.0, fill=next_open(sized="fill"))
    np.testing.assert_allclose(result.positions["shares"].loc["2024-01-04"], [1225 / 2 / 12, 1225 / 2 / 25])
    np.testing.assert_allclose(result.equity, [1000, 1100, 1225])
    gone = two_names().drop([("2024-01-04", "B")])  # no open: it counts at its last close, and its order lapses
    lapsed = from_weights(weights, gone, Costs(0, 0), cash=1000.0, fill=next_open(sized="fill"))
    np.testing.assert_allclose(lapsed.orders["quantity"].iloc[-2:], [1100 / 2 / 12 - 50, 1100 / 2 / 20 - 25])
    assert lapsed.orders["reason"].iloc[-1] == "no open"
    last = from_weights(weights, two_names(), end="2024-01-03", fill=next_open(sized="fill")).orders.iloc[-1]
    assert last["reason"] == "no next session" and pd.isna(last["date"]) and last["filled"] == 0
    with pytest.raises(ConfigError, match="sized"):
        next_open(sized="open")


def test_missing_rows_and_nan_rows_are_the_same():
    bars = market(3)
    full = bars.reindex(pd.MultiIndex.from_product([DATES, NAMES], names=["date", "symbol"]))
    a, b = from_weights(targets(3), bars), from_weights(targets(3), full)
    assert a.equity.equals(b.equity) and a.closed.equals(b.closed)


def test_golden_run():
    """Ten names of the sample over two years, five held, changed every ten sessions. Figures of the first release."""
    names = ["AAPL", "AMZN", "BA", "CAT", "GE", "IBM", "JPM", "MSFT", "WMT", "XOM"]
    bars = adjust(sample_bars(names, "2014-10-01", "2016-12-30"), "total")
    change = to_wide(bars["close"]).pct_change(60).iloc[60::10]
    top = change.rank(axis=1, ascending=False, method="first") <= 5
    weights = as_panel(top.stack().loc[lambda x: x].rename("weight").mul(0.2).reset_index())
    result = from_weights(weights, bars)
    assert len(result.trades) == GOLDEN["trades"] and len(result.unfilled) == GOLDEN["unfilled"]
    assert result.equity.iloc[-1] == pytest.approx(GOLDEN["equity"], rel=1e-10)
    assert result.costs.sum().to_dict() == pytest.approx(GOLDEN["costs"], rel=1e-9)
    assert result.turnover.sum() == pytest.approx(GOLDEN["turnover"], rel=1e-9)


GOLDEN = {
    "trades": 293,
    "unfilled": 0,
    "equity": 1395720.1013795496,
    "costs": {"commission": 1914.1812910790638, "slippage": 9570.659326604362},
    "turnover": 16.824198690703735,
}


def test_the_defaults_are_these():
    bars, weights = market(4), targets(4)
    result = from_weights(weights, bars)
    told = from_weights(weights, bars, Costs(1.0, 5.0), Rules(stale_after=5), next_open(), 1_000_000.0, None, None)
    assert result.equity.equals(told.equity) and result.settings == told.settings
    assert (
        result.equity.iloc[0] == 1e6
        and result.equity.index[0] == weights.index[0][0]
        and result.equity.index[-1] == DATES[-1]
    )
    said = result.settings
    assert (said["commission_bps"], said["slippage_bps"], said["cash"], said["stale_after"], said["fill_model"]) == (
        1.0,
        5.0,
        1e6,
        5,
        "next open",
    )
    assert (
        said["start"] == f"{weights.index[0][0]:%Y-%m-%d}"
        and said["end"] == "2024-02-23"
        and said["max_gross"] == 2.0
        and " 5 sessions" in said["missing"]
    )


def test_many_accounts_at_once_are_each_what_it_is_alone():
    bars, sets = market(6), [targets(s, s % 2 == 1) for s in (1, 2, 3)]
    for keywords in (
        {},
        {"costs": Costs(50, 100), "cash": 5e4, "rules": Rules(stale_after=2), "fill": next_open(sized="fill")},
    ):
        worth, counts = equity_curves(sets, bars, **keywords)
        for m, weights in enumerate(sets):
            one = from_weights(weights, bars, **keywords)
            assert worth[m].dropna().to_numpy().tobytes() == one.equity.to_numpy().tobytes()
            assert worth[m].first_valid_index() == one.equity.index[0]
            assert counts.loc[m, "fills"] == len(one.trades) and counts.loc[m, "turnover"] == pytest.approx(
                one.turnover.sum(), rel=1e-12
            )
    nothing, none = equity_curves([], bars)
    assert nothing.shape == (40, 0) and none.empty
    idle, zero = equity_curves([sets[0].iloc[:0]], bars)
    assert (idle == 1e6).all(axis=None) and zero.to_numpy().tolist() == [[0.0, 0.0]]


def test_buys_are_scaled_to_the_cash_and_leave_a_hair():
    "100 shares at 10 and 1 % on top: 1010 of money is asked, 1000 is there, a billionth of it stays."
    result = from_weights(weights_of(("2024-01-02", "A", 1.0)), two_names(), Costs(0, 100), cash=1000.0)
    assert result.scale.tolist() == [1000 * (1 - 1e-9) / 1010] and result.cash.iloc[-1] == pytest.approx(1e-6, rel=1e-3)
    assert result.trades["quantity"].tolist() == pytest.approx([100 * 1000 * (1 - 1e-9) / 1010], rel=1e-14)
    assert result.orders["reason"].tolist() == ["no cash"]  # in part
    free = from_weights(weights_of(("2024-01-02", "A", 1.0)), two_names(), Costs(0, 0), cash=1000.0)
    assert free.orders["reason"].tolist() == [""] and free.scale.tolist() == [1 - 1e-9]
    half = from_weights(weights_of(("2024-01-02", "A", 0.5)), two_names(), Costs(0, 100), cash=1000.0)
    assert half.scale.tolist() == [1.0] and half.trades["quantity"].tolist() == [50.0]


def test_what_is_held_already_is_not_traded():
    steady = two_names().assign(open=10.0, close=10.0)
    same = weights_of(*[(d, s, 0.25) for d in ("2024-01-02", "2024-01-03") for s in "AB"])
    assert len(from_weights(same, steady, Costs(0, 0)).trades) == 2
    dust = same.copy()
    dust.loc[("2024-01-03", "A"), "weight"] += 5e-13  # of equity: below what is worth an order
    assert len(from_weights(dust, steady, Costs(0, 0)).orders) == 2
    dust.loc[("2024-01-03", "A"), "weight"] += 5e-12
    assert len(from_weights(dust, steady, Costs(0, 0)).orders) == 3
    out = weights_of(("2024-01-02", "A", 4e-13), ("2024-01-02", "B", 0.5), ("2024-01-03", "B", 0.5))
    assert from_weights(out, steady, Costs(0, 0)).orders["symbol"].tolist() == ["B"]


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (1.5, -0.5, None),
        (1.5, -0.501, "absolute value to 2.001, above 2"),
        (1.0, 0.0, None),
        (0.6, 0.401, "sum to 1.001, above 1: cash pays"),
        (-2.0, 0.0, None),
        (-1.0, -1.001, "2.001, above 2"),
    ],
)
def test_the_limits_of_weights(a, b, words):
    weights = weights_of(("2024-01-02", "A", 0.1), ("2024-01-03", "A", a), ("2024-01-03", "B", b))
    steady = two_names().assign(open=10.0, close=10.0)
    if words is None:
        assert from_weights(weights, steady, Costs(0, 0)).equity.iloc[-1] == pytest.approx(1e6)
    else:
        with pytest.raises(PanelError, match=f"2024-01-03 .*{words}"):
            from_weights(weights, steady)


@pytest.mark.parametrize(
    "costs", [Costs(minimum=1), Costs(per_share=0.01), Costs(borrow_bps=1), Costs(interest_bps=1), Costs(funding_bps=1)]
)
def test_costs_that_the_fast_way_cannot_carry_are_kept_session_by_session(costs):
    weights = weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", -0.25))
    dear, cheap = (from_weights(weights, two_names(), c).equity.iloc[-1] for c in (costs, Costs(1, 5)))
    assert dear != cheap and abs(dear / cheap - 1) < 1e-3
    with pytest.raises(ConfigError, match="from_weights"):
        equity_curves([weights], two_names(), costs)


def test_terms_and_spans_are_named():
    weights = weights_of(("2024-01-02", "A", 0.5))
    with pytest.raises(ConfigError, match="costs is a dict"):
        from_weights(weights, two_names(), {"commission": 1})
    for keywords in ({"start": "2024-01-05"}, {"end": "2024-01-01"}, {"start": "2024-01-04", "end": "2024-01-03"}):
        with pytest.raises(PanelError, match="no session between .*bars run from 2024-01-02 to 2024-01-04"):
            from_weights(weights, two_names(), **keywords)
    assert len(from_weights(weights, two_names(), start="2024-01-04").equity) == 1
    assert from_weights(weights, two_names(), Costs(0, 0), Rules(stale_after=1)).closed.empty
    many = weights_of(*[("2024-01-02", f"Z{i}", 0.01) for i in range(7)])
    with pytest.raises(PanelError, match="symbol that is not in bars: Z0, Z1, Z2, Z3, Z4; use"):
        from_weights(many, two_names())
    for column, value in (
        ("split_ratio", 2.0),
        ("dividend", 0.5),
        ("rate", 1.1),
        ("multiplier", 50.0),
        ("funding", 0.01),
        ("split", 0.5),
    ):
        with pytest.raises(DataError, match=f"factor {column} is not applied yet"):
            from_weights(weights, two_names().assign(**{column: value}))
    from_weights(weights, two_names().assign(split=1.0, dividend=0.0, adj=np.nan))


def test_a_name_without_a_close_yet_cannot_be_wished_and_one_with_can():
    bars = two_names().drop(("2024-01-02", "B"))
    with pytest.raises(PanelError, match="B has a weight on 2024-01-02 but no close up to then"):
        from_weights(weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", 0.5)), bars)
    assert (
        len(
            from_weights(
                weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", 0.0), ("2024-01-03", "B", 0.5)), bars
            ).trades
        )
        == 3
    )


@pytest.mark.parametrize("sized", ["decision", "fill"])
def test_a_name_that_begins_later_is_worth_nothing_before(sized):
    bars = two_names().drop([("2024-01-02", "B"), ("2024-01-03", "B")])
    weights = weights_of(*[(d, "A", 0.5) for d in ("2024-01-02", "2024-01-03")])
    alone = two_names().xs("A", level="symbol", drop_level=False)
    assert from_weights(weights, bars, fill=next_open(sized=sized)).equity.equals(
        from_weights(weights, alone, fill=next_open(sized=sized)).equity
    )


@pytest.mark.parametrize("quiet", [True, False])
def test_a_first_compilation_is_told_once_where_somebody_waits(monkeypatch, capsys, quiet):
    from types import SimpleNamespace

    from quantlab.backtest import account

    heard = []
    monkeypatch.setattr(account, "_QUIET", quiet)
    monkeypatch.setattr(account.sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(account.event, "register", lambda kind, listener: heard.append((kind, listener)))
    account.tell_compiling.__wrapped__()
    assert [kind for kind, _ in heard] == ([] if quiet else ["numba:compile"])
    for module in ("somebody.elses", "quantlab.backtest.engine", "quantlab.broker.session"):
        begun = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=SimpleNamespace(__module__=module))})
        for _, listener in heard:
            listener.on_start(begun)
    assert capsys.readouterr().err.count("compiling kernels") == len(heard)


MODELS = [next_open(), next_open(sized="fill"), next_close(), next_close(sized="fill"), vwap(), vwap(sized="fill")]


@pytest.mark.parametrize("fill", MODELS, ids=lambda f: f"{f.name}, {f.sized}")
@pytest.mark.parametrize("costs", [Costs(1, 5), Costs(5, 0, sell_tax_bps=10)])
def test_at_once_and_session_by_session_are_one_account(fill, costs):
    """Target orders one session after another reach the equity of the whole history traded at once."""
    bars, weights = market(4), targets(4) * 0.5
    bars = bars.assign(high=bars[["open", "close"]].max(axis=1) * 1.01, low=bars[["open", "close"]].min(axis=1) * 0.99)
    fast = from_weights(weights, bars, costs, fill=fill)
    slow = from_weights(weights, bars, costs, Rules(price_limit=1e9), fill)  # a limit that nothing reaches
    np.testing.assert_allclose(fast.equity, slow.equity, rtol=1e-11)
    np.testing.assert_allclose(fast.cash, slow.cash, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(fast.trades["commission"], slow.trades["commission"], rtol=1e-9)
    assert fast.orders["reason"].tolist() == slow.orders["reason"].tolist() and fast.trades["symbol"].equals(
        slow.trades["symbol"]
    )


def test_weights_pay_fees_per_order_trade_lots_and_respect_limits():
    weights = weights_of(("2024-01-02", "A", 0.5), ("2024-01-02", "B", 0.5))
    whole = from_weights(weights, two_names(), Costs(0, 0, minimum=2.0), Rules(lot=7.0), cash=1000.0)
    assert whole.trades["quantity"].tolist() == [49, 21] and whole.trades["commission"].tolist() == [2, 2]
    limited = from_weights(
        weights_of(("2024-01-03", "B", 0.5)), two_names(), Costs(0, 0), Rules(price_limit=0.2), cash=1000.0
    )
    assert limited.trades.empty and limited.unfilled["reason"].tolist() == [
        "at the limit"
    ]  # B opens a quarter above its last close
    with pytest.raises(ConfigError, match="at once"):
        equity_curves([weights], two_names(), Costs(minimum=1.0))


@pytest.mark.parametrize(
    "fill",
    [
        next_open(),
        next_close(),
        vwap(),
        same_close(),
        limit_queue(),
        next_open(cash="in turn"),
        next_open(participation=0.01),
        next_open(sized="fill"),
    ],
    ids=str,
)
def test_every_fill_model_keeps_an_account_of_weights(fill):
    bars = market(8).assign(
        high=lambda b: b[["open", "close"]].max(axis=1), low=lambda b: b[["open", "close"]].min(axis=1), volume=1e4
    )
    result = from_weights(targets(8), bars, fill=fill)
    value = result.positions["value"].groupby("date").sum().reindex(result.equity.index, fill_value=0.0)
    np.testing.assert_allclose(result.cash + value, result.equity, rtol=1e-11)
    assert (
        len(result.trades)
        and result.settings["fill_model"]
        and set(result.orders["reason"]) <= set(result.blotter.reasons)
    )


def test_an_audit_is_named_as_its_feature():
    from quantlab.core.audit import audit
    from quantlab.features.price import momentum

    assert audit(momentum(5, 1), market(2), cuts=2).function == momentum(5, 1).name
