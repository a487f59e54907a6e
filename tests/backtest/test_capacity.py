"""Capacity against closed forms: a market in which every trade has the same size, volatility and volume."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest import capacity as cap
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel

N, PRICE, VOLATILITY, VOLUME, TRADED = 1000, 50.0, 0.02, 1e6, 0.4
DAYS = pd.bdate_range("2020-01-01", periods=N, name="date").as_unit("us")
KNOWN = pd.DataFrame(
    {"volatility": VOLATILITY, "volume": VOLUME},
    index=pd.MultiIndex.from_product([DAYS, ["A", "B"]], names=["date", "symbol"]),
)


def planted(mean=0.001, sd=0.01, seed=0, cash=1e6):
    """An account that trades 40 % of its equity every session, half in A and half in B, and has paid nothing so far."""
    r = np.random.default_rng(seed).normal(0, sd, N - 1)
    r = r - r.mean() + mean
    equity = pd.Series(cash * np.cumprod(np.r_[1.0, 1 + r]), DAYS, name="equity")
    when = np.repeat(DAYS[1:], 2)
    shares = np.repeat(TRADED / 2 * equity.to_numpy()[:-1] / PRICE, 2) * np.where(np.arange(2 * N - 2) % 4 < 2, 1, -1)
    trades = pd.DataFrame(
        {
            "date": when,
            "decided": np.repeat(DAYS[:-1], 2),
            "symbol": np.tile(["A", "B"], N - 1),
            "quantity": shares,
            "price": PRICE,
            "commission": 0.0,
            "slippage": 0.0,
        }
    )
    held = pd.DataFrame({"shares": np.repeat(equity.to_numpy() * 0.5 / PRICE, 2), "price": PRICE}, index=KNOWN.index)
    return SimpleNamespace(
        equity=equity,
        trades=trades,
        positions=held.assign(value=held["shares"] * PRICE),
        returns=equity.pct_change().iloc[1:],
    )


def drag(assets, coefficient=1.0):
    """Impact a session as a share of assets: two orders of 20 % of the assets each."""
    return TRADED * coefficient * VOLATILITY * np.sqrt(TRADED / 2 * assets / PRICE / VOLUME)


def test_curve_against_assets_meets_its_closed_form():
    run, assets = planted(), np.geomspace(1e5, 1e9, 21)
    curve = cap.against_assets(run, KNOWN, Costs(1, 2, half_spread_bps=1, impact=0.9), 252, assets)
    net = 0.001 - TRADED * 4e-4 - drag(assets, 0.9)
    assert np.allclose(curve["net_return"], 252 * net, rtol=0.01, atol=252 * 1e-6)
    assert np.allclose(curve["sharpe"], np.sqrt(252) * net / run.returns.std(), rtol=0.01, atol=0.02)
    assert np.allclose(curve["cost_bps"], 1e4 * (4e-4 + drag(assets, 0.9) / TRADED), rtol=0.01)
    assert np.allclose(curve["participation"], TRADED / 2 * assets / PRICE / VOLUME)
    assert (
        (np.diff(curve["sharpe"]) < 0).all()
        and (np.diff(curve["net_return"]) < 0).all()
        and (np.diff(curve["cost_bps"]) > 0).all()
    )


@settings(max_examples=15, deadline=None)
@given(keep=st.floats(0, 0.9), coefficient=st.floats(0.2, 3), mean=st.floats(0.0003, 0.003))
def test_assets_at_a_share_of_the_ratio(keep, coefficient, mean):
    """Impact that is the same every day moves the mean alone: A = ((1 - keep) m / drag(1))^2."""
    got = cap.assets_at(planted(mean), KNOWN, Costs(0, 2, impact=coefficient), keep, draws=50)
    form = ((1 - keep) * (mean - TRADED * 2e-4) / drag(1.0, coefficient)) ** 2
    assert got["value"] == pytest.approx(form, rel=0.01)
    assert got["low"] <= got["value"] * 1.5 and got["high"] >= got["value"] / 1.5


def test_half_falls_with_impact_and_cost_and_rises_with_keep():
    run = planted()
    half = [
        cap.assets_at(run, KNOWN, Costs(0, s, impact=y), draws=10)["value"]
        for s, y in ((0, 0.5), (0, 1), (5, 1), (20, 1))
    ]
    assert (np.diff(half) < 0).all()
    share = [cap.assets_at(run, KNOWN, Costs(impact=1.0), keep, draws=10)["value"] for keep in (0, 0.3, 0.6, 0.9)]
    assert (np.diff(share) < 0).all()


def test_flat_cost_and_break_even():
    run = planted()
    level = cap.break_even(run)
    assert level["value"] == pytest.approx(1e4 * 0.001 / TRADED)
    # Turnover is constant, so the error of the break-even cost is that of the mean over the turnover.
    assert level["se"] == pytest.approx(1e4 * run.returns.std() / np.sqrt(N - 1) / TRADED, rel=0.15)
    curve = cap.against_cost(run, 252, [0, 10, 25, 40])
    assert np.allclose(curve["net_return"], 252 * (0.001 - TRADED * curve.index.to_numpy() / 1e4), atol=1e-9)
    assert (np.diff(curve["sharpe"]) < 0).all() and curve["se"].between(0.45, 0.55).all()


def test_the_account_size_of_the_run_does_not_matter():
    costs, small, large = Costs(1, 2, impact=1.0), planted(cash=1e3), planted(cash=1e9)
    pd.testing.assert_frame_equal(
        cap.against_assets(small, KNOWN, costs, 252, [1e7]), cap.against_assets(large, KNOWN, costs, 252, [1e7])
    )


def test_days_to_liquidate_by_hand():
    run = planted()
    out = cap.days_to_liquidate(run, KNOWN, 1e9, participation=0.05)  # 10 million shares of each, 50,000 a day
    assert np.allclose(out["days"], 200) and np.allclose(out["one_day"], 1 / 200)
    thin = KNOWN.copy()
    thin.loc[(slice(None), "B"), "volume"] /= 4
    slow = cap.days_to_liquidate(run, thin, 1e9, participation=0.05)
    assert (slow["symbol"] == "B").all() and np.allclose(slow["days"], 800)
    names = cap.by_name(run, thin, Costs(0, 0, impact=1.0), 1e8)
    assert (
        names.index[0] == "B"
        and names.loc["B", "cost_share"] == pytest.approx(2 / 3)
        and names["traded"].sum() == pytest.approx(TRADED * (N - 1))
    )


def test_costs_of_a_run_are_undone_before_they_are_charged():
    """A run that paid 10 bps and one that paid nothing look alike once both are repriced."""
    rng = np.random.default_rng(3)
    days = DAYS[:300]
    path = np.exp(np.cumsum(rng.normal(0.0005, 0.01, (300, 2)), axis=0)) * 20
    rows = [
        {"date": d, "symbol": s, "open": path[t, i], "close": path[t, i]}
        for t, d in enumerate(days)
        for i, s in enumerate("AB")
    ]
    bars = as_panel(pd.DataFrame(rows))
    weights = pd.DataFrame(
        {"weight": rng.uniform(0.1, 0.4, 60)},
        index=pd.MultiIndex.from_product([days[::10], ["A", "B"]], names=["date", "symbol"]),
    )
    runs = [from_weights(weights, bars, Costs(0, level)) for level in (0, 10)]
    books = [cap.against_assets(run, KNOWN, Costs(1, 1, impact=1.0), 252, [1e6, 1e8]) for run in runs]
    assert np.allclose(books[0]["sharpe"], books[1]["sharpe"], atol=2e-3) and not np.allclose(
        *(run.returns.mean() for run in runs), rtol=0.01
    )
    dear = from_weights(weights, bars, Costs(20, 200))
    same = cap.against_assets(dear, KNOWN, Costs(20, 200), 252, [1e6])
    assert same["net_return"].item() == pytest.approx(
        dear.returns.mean() * 252, abs=1e-9
    )  # its own costs give the run back


def test_liquidity_of_later_does_not_matter():
    run, spoiled = planted(), KNOWN.copy()
    last = run.trades["decided"].max()
    spoiled.loc[spoiled.index.get_level_values("date") > last] = [9.0, 1.0]
    a, b = (cap.against_assets(run, k, Costs(impact=1.0), 252, [1e7]) for k in (KNOWN, spoiled))
    pd.testing.assert_frame_equal(a, b)


def test_what_is_not_known_is_an_error():
    run = planted()
    for bad in (KNOWN.iloc[20:], KNOWN.assign(volume=0.0), KNOWN.drop("B", level="symbol"), KNOWN.iloc[:0]):
        with pytest.raises(DataError, match="is not known"):
            cap.against_assets(run, bad, Costs(impact=1.0), 252)
    for call in (
        lambda: cap.against_assets(run, KNOWN, Costs(impact=1.0), 252, [0.0]),
        lambda: cap.assets_at(run, KNOWN, Costs(), -0.1),
        lambda: cap.days_to_liquidate(run, KNOWN, -1.0),
    ):
        with pytest.raises(ConfigError):
            call()


def test_a_loser_and_a_run_of_one_session():
    loser = planted(mean=-0.0005)
    table = cap.capacity(loser, KNOWN, Costs(impact=1.0))
    assert (table.loc[["half_sharpe_assets", "zero_assets"], "value"] == 0).all() and table.loc[
        "break_even", "value"
    ] < 0
    full = planted()
    one = SimpleNamespace(
        equity=full.equity.iloc[:1],
        trades=full.trades.iloc[:0],
        positions=full.positions.iloc[:0],
        returns=full.returns.iloc[:0],
    )
    assert np.isnan(cap.capacity(one, KNOWN, Costs(impact=1.0))["value"]).all()


def idle():
    dates = pd.MultiIndex.from_product([DAYS[:30], ["A"]], names=["date", "symbol"])
    bars = pd.DataFrame({"open": PRICE, "close": PRICE}, dates)
    return from_weights(pd.DataFrame({"weight": [0.5]}, dates[:1]).iloc[:0], bars)


def test_without_a_trade_there_is_no_break_even_and_nothing_to_sell():
    run, costs = idle(), Costs(1.0, 2.0, impact=1.0)
    assert np.isnan(cap.break_even(run)["value"])
    assert (cap.against_assets(run, KNOWN, costs, 252)["cost_bps"] == 0).all()
    assert cap.days_to_liquidate(run, KNOWN, 1e6).empty and cap.by_name(run, KNOWN, costs, 1e6).empty
    assert list(cap.capacity(run, KNOWN, costs).index) == ["half_sharpe_assets", "zero_assets", "break_even"]


def test_without_impact_any_money_does_and_with_ruinous_costs_none():
    run = planted()
    assert cap.assets_at(run, KNOWN, Costs(1.0, 2.0))["value"] == np.inf
    assert cap.assets_at(run, KNOWN, Costs(500.0, 500.0, impact=1.0))["value"] == 0
