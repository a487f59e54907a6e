"""Strategies and signals: the same account as their orders, and nothing seen that was not written yet."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_events import DATES, FREE, NAMES, market, seeds, targets, term_sets

from quantlab.backtest.costs import Costs
from quantlab.backtest.orders import from_orders
from quantlab.backtest.signals import from_signals
from quantlab.backtest.strategy import Strategy, from_strategy, load_strategy
from quantlab.core.errors import ConfigError, PanelError
from quantlab.core.panel import to_wide
from quantlab.strategy.examples import Crossover, Momentum, PairsTrading

ROOT = Path(__file__).resolve().parents[2]


class Listed:
    "Send the orders of a list, each on its date, and keep what is shown."

    def __init__(self, plan):
        self.plan, self.fills, self.books, self.seen = plan, [], [], []

    def on_bar(self, now, past, book):
        self.books.append((now, book.cash, book.equity, book.shares, len(book.pending)))
        self.seen.append({name: past.array(name).copy() for name in ("open", "close")})
        assert past.dates[-1] == now and len(past["close"]) == len(past.dates)
        return self.plan[self.plan["date"] == now].drop(columns="date")

    def on_fill(self, fill):
        self.fills.append(fill)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, terms=term_sets)
def test_a_strategy_and_its_orders_agree_to_the_last_bit(seed, terms):
    bars, costs = market(seed), Costs(1, 5, borrow_bps=50)
    plan, strategy = targets(seed, bars), None
    strategy = Listed(plan)
    asked = from_strategy(strategy, bars, costs, **terms)
    listed = from_orders(plan, bars, costs, **terms, start=DATES[0])
    assert (
        asked.equity.equals(listed.equity)
        and asked.cash.equals(listed.cash)
        and asked.positions.equals(listed.positions)
    )
    assert asked.trades.equals(listed.trades) and asked.orders.equals(listed.orders)
    assert [(f.date, f.symbol, f.quantity, f.price) for f in strategy.fills] == list(
        asked.trades[["date", "symbol", "quantity", "price"]].itertuples(index=False, name=None)
    )
    np.testing.assert_array_equal([cash for _, cash, *_ in strategy.books], asked.cash)
    np.testing.assert_array_equal([equity for _, _, equity, *_ in strategy.books], asked.equity)


def test_the_past_ends_now_and_cannot_be_written():
    bars = market(3)
    strategy = Listed(targets(3, bars))
    from_strategy(strategy, bars)
    close = to_wide(bars["close"]).to_numpy()
    for t, seen in enumerate(strategy.seen):
        np.testing.assert_array_equal(seen["close"], close[: t + 1])

    class Vandal(Listed):
        def on_bar(self, now, past, book):
            view = past.array("close")
            with pytest.raises(ValueError, match="read-only"):
                view[0, 0] = 1.0
            assert view.base is None or np.isnan(view.base[len(view) :]).all()
            with pytest.raises(PanelError, match="no column"):
                past["volumes"]
            book.shares[:] = 1e6  # a copy

    vandal = from_strategy(Vandal(None), bars)
    assert vandal.trades.empty and (vandal.equity == 1e6).all()


@pytest.mark.parametrize(
    "strategy", [lambda: Momentum(2, 10, 2, 5), lambda: PairsTrading("AA", "BB", 8, 1.0, 0.2), lambda: Crossover(3, 8)]
)
def test_examples_trade_and_see_no_future(strategy):
    bars = market(8, missing=0.0, extras=False, moves=0.03)
    assert isinstance(strategy(), Strategy)
    run = from_strategy(strategy(), bars)
    late = bars.index.get_level_values("date") > DATES[20]
    noise = np.where(late, np.random.default_rng(1).uniform(0.9, 1.1, len(bars)), 1.0)
    again = from_strategy(strategy(), bars.mul(noise, axis=0))
    assert len(run.trades) > 1 and again.equity.loc[: DATES[20]].equals(run.equity.loc[: DATES[20]])


def test_a_book_shows_what_is_pending():
    bars = market(2, missing=0.0, extras=False)
    low = float(bars["low"].min()) / 2
    plan = pd.DataFrame({"date": DATES[:1], "symbol": "AA", "size": 5.0, "type": "limit", "price": low, "valid": 3})
    strategy = Listed(plan)
    from_strategy(strategy, bars)
    assert [n for *_, n in strategy.books][:5] == [0, 1, 1, 0, 0]


def test_a_strategy_is_found_by_its_name(tmp_path, monkeypatch):
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[quantlab.strategies]\ntheirs = quantlab.strategy.examples:Crossover\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_strategy("theirs", fast=3, slow=8) == Crossover(3, 8)
    assert len(from_strategy("theirs", market(1)).equity) == 30
    with pytest.raises(ConfigError, match="known: .*theirs"):
        load_strategy("nobody")


def test_the_examples_are_registered():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["quantlab.strategies"]
    assert known == {
        name: f"quantlab.strategy.examples:{cls}"
        for name, cls in (("momentum", "Momentum"), ("pairs", "Pairs"), ("crossover", "Crossover"))
    }


def flags(seed, bars, share):
    return pd.Series(np.random.default_rng(seed).random(len(bars)) < share, bars.index)


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    stop=st.sampled_from([None, 0.02]),
    take=st.sampled_from([None, 0.03]),
    kind=st.sampled_from(["percent", "value"]),
)
def test_signals_hold_one_position_a_name(seed, stop, take, kind):
    bars = market(seed, extras=False)
    buy, sell, short, cover = (flags(seed + k, bars, 0.2) for k in range(4))
    short = short & ~(buy & ~sell)
    run = from_signals(
        buy,
        sell,
        bars,
        FREE,
        size=0.1 if kind == "percent" else 1e5,
        kind=kind,
        short_entries=short,
        short_exits=cover,
        stop_loss=stop,
        take_profit=take,
    )
    worth = run.positions["value"].abs() / run.equity.reindex(run.positions.index.get_level_values("date")).to_numpy()
    assert worth.max() < 0.2 and len(run.trades)
    fills = run.trades[run.trades["reason"] == "market"]
    flag = pd.DataFrame({"buy": buy, "sell": sell, "short": short, "cover": cover}).reindex(
        pd.MultiIndex.from_frame(fills[["decided", "symbol"]].set_axis(["date", "symbol"], axis=1))
    )
    up = (fills["quantity"] > 0).to_numpy()
    assert (flag["buy"] | flag["cover"])[up].all() and (flag["sell"] | flag["short"])[~up].all()
    assert (fills["date"] > fills["decided"]).all()
    if stop is None and take is None:
        assert set(run.trades["reason"]) <= {"market", "stopped"}


def test_signals_of_the_same_close_are_not_filled_at_it():
    bars = market(5, missing=0.0, extras=False)
    late = bars.index.get_level_values("date") > DATES[15]
    buy, sell = flags(1, bars, 0.3), flags(2, bars, 0.3)
    a = from_signals(buy, sell, bars, stop_loss=0.02)
    b = from_signals(
        buy & ~late, sell | pd.Series(late, bars.index), bars.mul(np.where(late, 1.1, 1.0), axis=0), stop_loss=0.02
    )
    assert a.equity.loc[: DATES[15]].equals(b.equity.loc[: DATES[15]])
    sized = from_signals(buy, sell, bars, size=pd.Series(0.05, bars.index))
    assert sized.equity.equals(from_signals(buy, sell, bars, size=0.05).equity)


def test_degenerate_signals():
    bars = market(6, extras=False)
    never = pd.Series(False, bars.index)
    assert from_signals(never, None, bars).trades.empty
    assert from_signals(never.iloc[:0].astype(bool), None, bars).trades.empty
    for wrong, error in (
        ({"size": 0.0}, ConfigError),
        ({"size": np.inf}, ConfigError),
        ({"kind": "lots"}, ConfigError),
        ({"stop_loss": 0.0}, PanelError),
        ({"start": "2030-01-01"}, PanelError),
    ):
        with pytest.raises(error):
            from_signals(never, None, bars, **wrong)
    with pytest.raises(PanelError, match="boolean"):
        from_signals(never.astype(object).where(never, None), None, bars)
    with pytest.raises(PanelError, match="not in bars"):
        from_signals(never.rename(index={NAMES[0]: "ZZ"}).sort_index(), None, bars)
    with pytest.raises(ConfigError, match="on_bar"):
        from_strategy(object(), bars)


class Silent:
    "Order nothing."

    def on_bar(self, now, past, book):
        return None

    def on_fill(self, fill):
        raise AssertionError("nothing was ordered")


def test_a_strategy_that_orders_nothing_holds_cash():
    bars = market(3)
    run = from_strategy(Silent(), bars)
    assert run.trades.empty and (run.equity == 1e6).all() and run.equity.index[0] == bars.index[0][0]


def test_one_session_is_a_backtest():
    bars = market(3)
    assert from_strategy(Silent(), bars.loc[[bars.index[0][0]]]).equity.tolist() == [1e6]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no strategy is called 'no such strategy'; known: crossover"):
        load_strategy("no such strategy")
