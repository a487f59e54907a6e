"The account of from_rule: against a plain telling of it, against Qlib's own report, and what may never happen."

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest.account import Simulator, read_market
from quantlab.backtest.costs import QLIB_COSTS, Costs
from quantlab.backtest.orders import from_orders, from_rule
from quantlab.broker.fill_model import FillModel, next_close, next_open, same_close, vwap
from quantlab.broker.rules import QLIB_RULES, Rules
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel, to_wide
from quantlab.portfolio.topk_drop import TopKDrop

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import qlib_files  # noqa: E402

NEEDS_QLIB = pytest.mark.skipif(
    not qlib_files.CSI300.exists() or find_spec("qlib") is None,
    reason="needs pyqlib and ../shared/data/qlib_cn_csi300 (or QUANTLAB_SHARED)",
)
DATES = pd.bdate_range("2024-01-01", periods=30).as_unit("us")


def market(seed, n=8, missing=0.15, moves=0.05):
    "Random closes with holes, factors that step, and scores of most names."
    rng = np.random.default_rng(seed)
    close = np.exp(np.cumsum(rng.normal(0, moves, (30, n)), axis=0)) * rng.uniform(2, 60, n)
    factor = rng.uniform(0.3, 3, n) * np.where(np.arange(30)[:, None] > 15, rng.uniform(0.8, 1.2, n), 1.0)
    close[rng.random(close.shape) < missing] = np.nan
    t, i = np.indices(close.shape).reshape(2, -1)
    names = np.array([f"S{k}" for k in range(n)])[i]
    bars = as_panel(pd.DataFrame({"date": DATES[t], "symbol": names, "close": close.ravel(), "factor": factor.ravel()}))
    known = rng.random(len(t)) < 0.85
    scores = as_panel(pd.DataFrame({"date": DATES[t], "symbol": names, "score": rng.normal(size=len(t))})[known])
    return bars, scores


def told(rule, scores, bars, costs, rules, cash):
    "Keep the account with dictionaries, one order at a time."
    close, factor = to_wide(bars["close"]), to_wide(bars["factor"])
    score = to_wide(scores["score"]).reindex(index=close.index, columns=close.columns)
    change, mark = close / close.ffill().shift(1) - 1, close.ffill()
    shares, equity = dict.fromkeys(close.columns, 0.0), []
    for t, day in enumerate(close.index):
        if t and score.iloc[t - 1].notna().any():
            there = close.loc[day].notna()
            up, down = change.loc[day] >= rules.price_limit, change.loc[day] <= -rules.price_limit
            held = np.array([shares[s] > 0 for s in close.columns])
            names, sizes = rule(held, score.iloc[t - 1].to_numpy(), (there & ~up & ~down).to_numpy())
            for stage in (-1, 1):
                money = cash
                for i, size in zip(names, sizes, strict=True):
                    if np.sign(size) != stage:
                        continue
                    s = close.columns[i]
                    price, whole = close.loc[day, s], rules.lot / factor.loc[day, s] if rules.lot else 0.0
                    if stage < 0:
                        value = shares[s] * price
                        cash, shares[s] = cash + value - max(value * costs.sale, costs.minimum), 0.0
                    else:
                        n = size * money / price
                        n = np.floor(n / whole + 0.001) * whole if whole else n
                        if n > 0:
                            cash -= n * price + max(n * price * costs.commission, costs.minimum)
                            shares[s] += n
        equity.append(cash + sum(n * mark.loc[day, s] for s, n in shares.items() if n))
    return np.array(equity)


PLAIN, NO_END = Costs(0, 0), Rules(stale_after=np.inf)
TERMS = [
    (QLIB_COSTS, QLIB_RULES), (PLAIN, NO_END),
    (Costs(100, 0, minimum=50.0, sell_tax_bps=100), replace(QLIB_RULES, price_limit=0.04)),
    (QLIB_COSTS, Rules(lot=1.0, stale_after=np.inf)),
]  # fmt: skip
QLIB = (QLIB_COSTS, QLIB_RULES, same_close())


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_account_is_what_it_is_told_to_be(terms, seed):
    bars, scores = market(seed)
    rule = TopKDrop(3, 1, 0.9)
    run = from_rule(rule, scores, bars, *terms, same_close(), cash=200_000.0, start=DATES[0])
    np.testing.assert_allclose(run.equity, told(rule, scores, bars, *terms, 200_000.0), rtol=1e-12)
    assert len(run.trades) > 5


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(TERMS),
    st.integers(1, 5),
    st.integers(0, 3),
    st.sampled_from([3_000.0, 1e6]),
)
def test_what_may_never_happen(seed, terms, k, n_drop, cash):
    costs, rules = terms
    bars, scores = market(seed)
    run = from_rule(TopKDrop(k, n_drop), scores, bars, costs, rules, same_close(), cash=cash, start=DATES[0])
    trades = run.trades
    price = bars["close"].reindex(pd.MultiIndex.from_frame(trades[["date", "symbol"]])).to_numpy()
    assert (run.cash >= -1e-6).all() and (run.positions["shares"] > 0).all()
    assert np.array_equal(trades["price"], price)  # never without a close
    close = to_wide(bars["close"])
    change = (
        (close / close.ffill().shift(1) - 1)
        .stack()
        .reindex(pd.MultiIndex.from_frame(trades[["date", "symbol"]]))
        .fillna(0)
    )
    buys = (trades["quantity"] > 0).to_numpy()
    assert (change[buys] < rules.price_limit).all() and (change[~buys] > -rules.price_limit).all()
    assert (trades["commission"] >= costs.minimum).all()
    flow = (trades["quantity"] * trades["price"] + trades["commission"]).groupby(trades["date"]).sum()
    np.testing.assert_allclose(cash - flow.reindex(DATES, fill_value=0.0).cumsum(), run.cash, atol=1e-6)
    value = run.positions["value"].groupby("date").sum().reindex(DATES, fill_value=0.0)
    np.testing.assert_allclose(run.cash + value, run.equity, rtol=1e-12)
    np.testing.assert_allclose(run.costs.sum(axis=1).sum(), trades["commission"].sum())
    if rules.lot:
        factor = bars["factor"].reindex(pd.MultiIndex.from_frame(trades[["date", "symbol"]])).to_numpy()
        lots = (trades["quantity"] * factor / rules.lot)[buys]
        assert np.allclose(lots, np.round(lots), atol=1e-6) and (lots >= 1 - 1e-6).all()


@pytest.mark.parametrize("cut", [3, 11, 20])
def test_nothing_after_a_close_matters_to_it(cut):
    bars, scores = market(5)
    later = lambda frame: frame.index.get_level_values("date") > DATES[cut]
    spoiled, other = bars.copy(), scores.copy()
    spoiled.loc[later(bars), "close"] *= 5.0
    other.loc[later(scores), "score"] *= -1.0
    rule = TopKDrop(3, 1)
    a, b, short = (
        from_rule(rule, s, p, *QLIB, end=e, start=DATES[0])
        for s, p, e in ((scores, bars, None), (other, spoiled, None), (scores, bars, DATES[cut]))
    )
    assert a.equity.loc[: DATES[cut]].equals(b.equity.loc[: DATES[cut]]) and not a.equity.equals(b.equity)
    assert a.equity.loc[: DATES[cut]].equals(short.equity)
    before = scores.copy()
    before.loc[
        scores.index.get_level_values("date") == DATES[cut], "score"
    ] *= -1.0  # the scores of a day trade on the next
    assert (
        from_rule(rule, before, bars, *QLIB, start=DATES[0]).equity.loc[: DATES[cut]].equals(a.equity.loc[: DATES[cut]])
    )


def test_a_part_of_a_holding_can_be_sold():
    bars, scores = market(1, missing=0.0)
    plan = iter([([0], [0.5]), ([0], [-0.5])])
    rule = lambda held, score, tradable: tuple(np.array(x) for x in next(plan, ([], [])))
    run = from_rule(rule, scores.loc[DATES[:2]], bars, PLAIN, NO_END, same_close())
    first, second = run.trades["quantity"]
    assert np.isclose(second, -first / 2) and np.isclose(run.positions["shares"].iloc[-1], first / 2)


def test_a_lot_that_is_not_covered_is_not_bought():
    bars, scores = market(1, missing=0.0)
    bars = bars.assign(close=10.0, factor=1.0)
    plan = iter([([0], [1.0])])
    rule = lambda held, score, tradable: tuple(np.array(x) for x in next(plan, ([], [])))
    run = from_rule(rule, scores.loc[DATES[:2]], bars, PLAIN, Rules(lot=100.0), same_close(), cash=999.95)
    assert (
        run.trades.empty and (run.cash == 999.95).all()
    )  # five cents short of the lot that the guard would round up to


def test_change_of_the_source_counts_before_ours():
    bars, scores = market(2, missing=0.0)
    run = from_rule(TopKDrop(3, 1), scores, bars.assign(change=0.2), *QLIB, start=DATES[0])
    assert run.trades.empty and (run.equity == 1_000_000).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [({"cash": -1.0}, ConfigError, "cash"), ({"start": "2031-01-01"}, PanelError, "no session"),
    ({"bars": lambda b: b.assign(adj=0.5)}, DataError, "not applied"),
     ({"bars": lambda b: b.assign(close=-1.0)}, DataError, "positive"),
     ({"bars": lambda b: b.assign(factor=np.nan)}, DataError, "factor"),
     ({"bars": lambda b: b.assign(close=np.inf)}, DataError, "close of"),
     ({"predictions": lambda p: p.rename(columns={"score": "x"})}, PanelError, "score")],
)  # fmt: skip
def test_what_is_refused(change, error, words):
    bars, scores = market(3)
    arguments = {"bars": bars, "predictions": scores} | {
        k: v({"bars": bars, "predictions": scores}[k]) if callable(v) else v for k, v in change.items()
    }
    with pytest.raises(error, match=words):
        from_rule(TopKDrop(), **arguments, costs=QLIB_COSTS, rules=QLIB_RULES, fill=same_close())


@pytest.mark.parametrize("wrong", [{"lot": np.inf}, {"price_limit": np.nan}, {"price_limit": -0.1}])
def test_rules_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Rules(**wrong)


@NEEDS_QLIB
@pytest.mark.slow
def test_equals_qlib_day_by_day(tmp_path):
    """Value, cash, cost and turnover over four months with limit days, suspensions and members that leave; scores
    without ties."""
    start, end = "2018-01-02", "2018-04-27"
    bars = qlib_files.read_bars(start, end, warm_up=1, fields=("close", "factor", "change"))
    rows = qlib_files.members(bars, "csi300", "2000-01-01")
    noise = pd.Series(np.random.default_rng(0).normal(size=rows.sum()), bars.index[rows])
    scores = noise.groupby(level="symbol").transform(lambda s: s.ewm(halflife=10).mean()).rename("score").to_frame()
    scores.to_parquet(tmp_path / "scores.parquet")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'bench')!r}); import qlib_files as q, pandas as pd\n"
        f"if __name__ == '__main__':\n    q.start_qlib()\n"
        f"    s = pd.read_parquet({str(tmp_path / 'scores.parquet')!r})['score']\n"
        f"    q.qlib_account(s, {start!r}, {end!r}).to_parquet({str(tmp_path / 'report.parquet')!r})\n"
    )
    script = tmp_path / "peer.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = pd.read_parquet(tmp_path / "report.parquet")
    ours = from_rule(TopKDrop(50, 5), scores, bars, *QLIB, cash=1e8, start=start, end=end)
    assert len(theirs) == len(ours.equity) > 70 and (
        ours.unfilled.empty or set(ours.unfilled["reason"]) == {"less than a lot"}
    )
    for mine, other in (
        (ours.equity, theirs["account"]), (ours.cash, theirs["cash"]),
        (ours.costs.sum(axis=1).cumsum(), theirs["total_cost"]), (ours.turnover, theirs["turnover"]),
    ):  # fmt: skip
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


def test_a_share_of_no_cash_is_no_order():
    days = pd.bdate_range("2024-01-01", periods=4).as_unit("us")
    bars = as_panel(pd.DataFrame({"date": np.repeat(days, 2), "symbol": ["A", "B"] * 4, "close": 10.0}))
    scores = bars[["close"]].set_axis(["score"], axis=1)
    one = lambda held, score, tradable: (np.array([0]), np.array([1.0]))
    result = from_rule(one, scores, bars, PLAIN, NO_END, same_close(), cash=1000.0)
    assert result.trades["quantity"].sum() == pytest.approx(100) and np.isfinite(result.equity).all()
    poor = from_rule(one, scores, bars, QLIB_COSTS, NO_END, same_close(), cash=1000.0)
    assert (poor.cash >= 0).all() and np.isfinite(poor.equity).all()


MODELS = [
    next_open(),
    next_open(sized="fill"),
    next_close(),
    vwap(),
    same_close(),
    next_open(cash="in turn"),
    next_open(participation=0.01),
]


@pytest.mark.parametrize("fill", MODELS, ids=lambda f: f"{f.name}, {f.sized}, {f.cash}, {f.participation:g}")
@pytest.mark.parametrize("seed", range(3))
def test_a_rule_trades_by_every_fill_model(fill, seed):
    "The holdings say what was bought, cash never runs out, and nothing after a close matters to it."
    bars, scores = market(seed)
    bars = bars.assign(open=bars["close"] * 0.99, high=bars["close"] * 1.01, low=bars["close"] * 0.98, volume=1e4)
    run = from_rule(
        TopKDrop(3, 1), scores, bars, Costs(1, 5), Rules(lot=1.0, price_limit=0.2), fill, cash=1e5, start=DATES[0]
    )
    assert (run.cash >= -1e-6).all() and (run.trades["decided"] < run.trades["date"]).all() and len(run.trades) > 5
    late = bars.index.get_level_values("date") > DATES[15]
    again = from_rule(
        TopKDrop(3, 1),
        scores,
        bars.mul(np.where(late, 2.0, 1.0), axis=0),
        Costs(1, 5),
        Rules(lot=1.0, price_limit=0.2),
        fill,
        cash=1e5,
        start=DATES[0],
    )
    assert again.equity.loc[: DATES[15]].equals(run.equity.loc[: DATES[15]]) and not again.equity.equals(run.equity)
    column = {"open": "open", "close": "close", "session": None}[fill.moment]
    market_price = (run.trades["price"] - run.trades["slippage"] / run.trades["quantity"]).to_numpy()
    at = pd.MultiIndex.from_frame(run.trades[["date", "symbol"]])
    expected = bars[column].loc[at] if column else bars[["high", "low", "close"]].mean(axis=1).loc[at]
    asked = (run.trades["reason"] != "stopped").to_numpy()
    np.testing.assert_allclose(market_price[asked], expected.to_numpy()[asked])


def by_hand(closes):
    days = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"])
    rows = [(day, name, values[d]) for d, day in enumerate(days) for name, values in closes.items()]
    bars = as_panel(pd.DataFrame(rows, columns=["date", "symbol", "close"]).astype({"close": float}))
    score = pd.DataFrame({"date": days[[0, 0, 0, 1, 1, 1]], "symbol": list("ABCABC"), "score": [3.0, 2, 1, 1, 3, 2]})
    return days, bars, as_panel(score)


CLOSES = {"A": [10, 10, 11, 11], "B": [20, 20, 20, 21], "C": [5, 5, 5, np.nan]}
TERMS = (Costs(0, 0), Rules(stale_after=np.inf), same_close(), 1000.0)


def test_an_empty_list_of_orders_trades_nothing():
    days, bars, _ = by_hand(CLOSES)
    none = from_orders(pd.DataFrame({"date": days[:0], "symbol": [], "size": []}), bars.assign(open=bars["close"]))
    assert none.trades.empty and none.orders.empty and (none.equity == 1e6).all()


def test_an_order_of_the_last_session_has_no_next_one():
    days, bars, scores = by_hand(CLOSES)
    first = bars.loc[days[:1]].assign(open=bars["close"])
    one = from_orders(pd.DataFrame({"date": days[:1], "symbol": "A", "size": 10.0}), first)
    assert one.orders["reason"].tolist() == ["no next session"] and one.equity.tolist() == [1e6]
    one = from_rule(TopKDrop(1, 1), scores.loc[days[:1]], first, *TERMS)
    assert one.equity.tolist() == [1000.0] and one.trades.empty and one.positions.empty


def test_a_rule_without_scores_is_not_asked():
    _, bars, scores = by_hand(CLOSES)
    assert from_rule(TopKDrop(1, 1), scores.iloc[:0], bars, *TERMS).trades.empty


def test_a_name_that_stops_for_good_keeps_its_last_close():
    days, bars, scores = by_hand(CLOSES)
    dead = from_rule(TopKDrop(1, 1), scores, bars.drop([(days[2], "A"), (days[3], "A")]), *TERMS)
    assert dead.positions.xs("A", level="symbol")["price"].tolist() == [10.0, 10.0, 10.0]


def test_buys_for_more_than_the_cash_shrink_alike():
    _, bars, scores = by_hand(CLOSES)
    ask = lambda held, score, can: (np.array([0, 1]), np.array([0.9, 0.9]))
    broke = from_rule(ask, scores, bars, *TERMS)
    assert np.isclose(broke.cash.iloc[1], 0.0) and np.isclose(broke.scale.iloc[0], 1 / 9)


def plain_bars() -> pd.DataFrame:
    return market(1, n=2, missing=0.0)[0].drop(columns="factor").assign(open=lambda b: b["close"])


def test_an_account_that_has_played_its_sessions_says_so():
    _, table = read_market(plain_bars())
    account = Simulator(table, Costs(), Rules(), next_open(), 1e6, 0)
    for _ in range(30):
        account.step()
    for _ in range(2):
        with pytest.raises(ConfigError, match="played all of its 30 sessions; begin anew"):
            account.step()
    assert account.t == 29


@pytest.mark.parametrize("price", [lambda m: m.close[:5], lambda m: 5.0, lambda m: m.close[:, 0]])
def test_a_price_of_its_own_is_one_for_each_session_and_name(price):
    with pytest.raises(ConfigError, match=r"the price of mine is of shape .*, \(30, 2\)"):
        read_market(plain_bars(), fill=FillModel("mine", "session", price))


@pytest.mark.parametrize("column", ["open", "close", "volume", "dividend", "rate", "factor"])
def test_bars_of_text_are_named(column):
    bars = plain_bars().assign(**{column: "7"})
    rows = pd.DataFrame({"date": [DATES[3]], "symbol": ["S0"], "size": [1.0]})
    for call in (lambda: from_orders(rows, bars), lambda: read_market(bars)):
        with pytest.raises(DataError, match=f"{column} holds .*, no numbers"):
            call()
