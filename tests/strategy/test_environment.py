"""Environments: the engine's account to 1e-12, worlds whose best policy is the best, an audit that names a leak."""

import importlib.util
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from quantlab.backtest.costs import Costs, charge, liquidity
from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.backtest.orders import from_orders
from quantlab.broker.fill_model import next_close, next_open, vwap
from quantlab.broker.rules import Rules
from quantlab.core.cache import content_hash
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel
from quantlab.execution.slices import PriceImpact, almgren_chriss_curve, schedule_cost
from quantlab.strategy.environment import (
    BlockWorld,
    CoinWorld,
    ExecutionWorld,
    MertonWorld,
    PortfolioWorld,
    SignalWorld,
    audit_world,
    gym_env,
    hindsight_weights,
    need_gymnasium,
    play,
    policy_weights,
    scale_action,
    target_weights,
)

needs_gymnasium = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium") is None, reason="gymnasium is not installed: run `make deep`"
)
WORLDS = [CoinWorld(), MertonWorld(), SignalWorld(), ExecutionWorld(), ExecutionWorld(noisy=True)]


def made_bars(seed: int = 0, n: int = 3, t: int = 60, missing: float = 0.0) -> pd.DataFrame:
    "Random bars with gaps overnight; some missing, and one name that comes late."
    random = np.random.default_rng(seed)
    moves = 0.01 * random.standard_normal((2 * t, n)).cumsum(axis=0)
    opens, close = 50 * np.exp(moves[::2]), 50 * np.exp(moves[1::2])
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=t, unit="us"), [f"N{i}" for i in range(n)]], names=["date", "symbol"]
    )
    wide = {"open": opens, "high": np.maximum(opens, close) * 1.01, "low": np.minimum(opens, close) * 0.99}
    bars = pd.DataFrame({k: v.ravel() for k, v in (wide | {"close": close}).items()}, index).assign(volume=1e6)
    row, col = np.divmod(np.arange(len(bars)), n)
    gone = (random.random(len(bars)) < missing) & (row > 0) & (row < t - 1)
    return bars[~gone & ~((col == n - 1) & (row < t // 4) & (missing > 0))]


def week(bars: pd.DataFrame) -> pd.DataFrame:
    return (bars["close"].groupby("symbol").pct_change(5) / 0.03).rename("week").to_frame()


def world_of(bars: pd.DataFrame, **kwargs: object) -> PortfolioWorld:
    return PortfolioWorld(bars, week(bars), **kwargs)


TERMS = {
    "plain": {"costs": Costs(1, 5)},
    "free": {"costs": Costs(0, 0)},
    "taxed sales": {"costs": Costs(1, 5, sell_tax_bps=10)},
    "least commission": {"costs": Costs(1, 5, minimum=5.0)},
    "carry": {"costs": Costs(1, 5, borrow_bps=50, interest_bps=100), "low": -0.5, "high": 0.6},
    "lots": {"costs": Costs(1, 5), "rules": Rules(lot=100)},
    "next close": {"costs": Costs(1, 5), "fill": next_close()},
    "vwap": {"costs": Costs(1, 5), "fill": vwap()},
    "sized at the fill": {"costs": Costs(1, 5), "fill": replace(next_open(), sized="fill")},
    "participation": {"costs": Costs(1, 5), "fill": replace(next_open(), participation=0.001)},
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("missing", [0.0, 0.05])
def test_the_reward_is_the_growth_of_the_engines_account(terms, missing):
    bars, random = made_bars(1, missing=missing), np.random.default_rng(2)
    world = world_of(bars, **terms)
    draws = np.hstack([random.uniform(-0.2, 1, (world.episode, 3)), random.uniform(-0.5, 1.5, (world.episode, 1))])
    asked = iter(draws)
    reward = play(world, lambda seen: next(asked)[None]).reward[:, 0]
    asked = iter(draws)
    weights = policy_weights(world, lambda seen: next(asked)[None])
    kwargs = {name: terms[name] for name in ("costs", "rules", "fill") if name in terms}
    equity = from_weights(weights, bars, **kwargs).equity
    assert np.abs(reward - np.log(equity).diff().dropna().to_numpy()).max() < 1e-12


def test_a_policy_that_sells_all_is_told_to_the_backtest():
    bars = made_bars(3)
    world = world_of(bars, costs=Costs(1, 5))
    turn = iter([1 / 3, 0.0] * 30)
    alternating = lambda seen: np.append(np.full(3, next(turn)), 1.0)[None]
    weights = policy_weights(world, alternating)
    turn = iter([1 / 3, 0.0] * 30)
    growth = play(world, alternating).reward.sum()
    equity = from_weights(weights, bars, Costs(1, 5)).equity
    assert growth == pytest.approx(np.log(equity.iloc[-1] / equity.iloc[0]), abs=1e-12)


def test_a_policy_may_write_into_its_own_array_again():
    world, kept = world_of(made_bars(3), costs=Costs(1, 5)), np.array([[0.0, 0.0, 0.0, 1.0]])

    def policy(seen):
        kept[0, 0] = (kept[0, 0] + 0.3) % 1
        return kept

    assert play(world, policy).action[:3, 0, 0] == pytest.approx([0.3, 0.6, 0.9])


def test_a_policy_may_write_into_what_it_was_given():
    world = world_of(made_bars(3), costs=Costs(1, 5))
    plain = play(world, lambda seen: np.array([[0.3, 0.3, 0.3, 1.0]]))
    spoiled = play(world, lambda seen: (seen.fill(0), np.array([[0.3, 0.3, 0.3, 1.0]]))[1])
    assert (plain.seen == spoiled.seen).all() and plain.seen.any()


def test_a_share_of_the_way_is_traded_and_none_sends_nothing():
    bars = made_bars(8)
    world = world_of(bars, costs=Costs(0, 0))
    half = np.array([[0.8, 0.0, 0.0, 0.5]])
    seen = play(world, lambda seen: half).seen[:, 0, 3]
    opens, closes = bars["open"].unstack()["N0"], bars["close"].unstack()["N0"]
    paid, worth = 0.4 * opens.iloc[1] / closes.iloc[0], 0.4 * closes.iloc[1] / closes.iloc[0]
    assert seen[1] == pytest.approx(worth / (1 - paid + worth))  # half the way, sized at the close of the decision
    assert seen[8] == pytest.approx(0.8, abs=0.05)  # by halves it comes near
    shares = iter([1.0] + [0.0, -3.0] * 40)
    stays = lambda seen: np.array([[0.5, 0.3, 0.0, next(shares)]])
    weights = policy_weights(world, stays)
    assert weights.index.unique("date").tolist() == [world.dates[0]]
    assert len(from_weights(weights, bars, Costs(5, 20)).trades) == 2  # bought once, held to the end


def test_what_is_seen_is_the_close_of_the_decision():
    bars = made_bars(4)
    world = world_of(bars, costs=Costs(0, 0))
    quarter = lambda seen: np.array([[0.25, 0.25, 0.25, 1.0]])
    episode = play(world, quarter)
    features = week(bars)["week"].unstack().fillna(0.0).to_numpy()
    assert np.allclose(episode.seen[:, 0, :3], features) and world.names[:3] == ("week N0", "week N1", "week N2")
    positions = from_weights(policy_weights(world, quarter), bars, Costs(0, 0))
    value = (positions.positions["shares"] * bars["close"]).unstack().reindex(world.dates).fillna(0.0)
    assert np.allclose(episode.seen[:, 0, 3:], value.div(positions.equity, axis=0).to_numpy(), atol=1e-12)


def test_copies_begin_at_random_sessions_with_the_rewards_of_those():
    world = world_of(made_bars(5), costs=Costs(1, 5), length=10)
    third = lambda seen: np.tile([1 / 3, 1 / 3, 1 / 3, 1.0], (len(seen), 1))
    many = play(world, third, copies=40, seed=3)
    assert many.reward.shape == (10, 40) and len(np.unique(many.reward[3])) > 20
    again = play(world, third, copies=40, seed=3)
    assert all((a == b).all() for a, b in zip(many, again, strict=True))
    firsts = np.random.default_rng(3).integers(0, 50, 40)
    dates = world.dates
    for copy in (0, 7):
        part = made_bars(5)[lambda b, f=firsts[copy]: b.index.get_level_values("date") >= dates[f]]
        alone = play(PortfolioWorld(part, week(made_bars(5)).loc[part.index], Costs(1, 5)), third)
        assert np.allclose(many.reward[:, copy], alone.reward[:10, 0], atol=1e-14)


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=5), st.floats(1, 3))
@settings(max_examples=200, deadline=None)
def test_weights_are_always_such_as_the_account_carries(action, gross):
    weight = target_weights(np.array(action), -1.0, 1.0, gross)
    assert weight.sum() <= 1 + 1e-9 and np.abs(weight).sum() <= gross + 1e-9 and np.abs(weight).max() <= 1
    long_only = target_weights(np.array(action))
    assert long_only.min() >= 0 and np.allclose(target_weights(long_only), long_only)


def test_a_fall_to_nothing_is_paid_and_the_account_stays_there():
    bars = made_bars(6, n=1, t=6)
    bars.loc[bars.index[3:], ["open", "high", "low", "close"]] *= 5.0
    world = PortfolioWorld(bars, week(bars) / 10, Costs(0, 0), low=-1.0)
    reward = play(world, lambda seen: np.array([[-1.0, 1.0]])).reward[:, 0]
    assert reward.min() == pytest.approx(np.log(1e-3)) and np.isfinite(reward).all() and (reward[3:] == 0).all()


def test_the_audit_names_what_leaks():
    bars = made_bars(7, t=80)
    good = audit_world(lambda panel: PortfolioWorld(panel, week(panel), Costs(1, 5)), bars)
    ahead = lambda panel: week(panel).assign(ahead=panel["close"].groupby("symbol").shift(-1) / 50)
    bad = audit_world(lambda panel: PortfolioWorld(panel, ahead(panel), Costs(1, 5)), bars)
    assert (good.status, bad.status) == ("PASS", "LEAK") and bad.column.startswith("ahead ")


def test_features_from_elsewhere_are_not_assessed():
    bars = made_bars(7, t=80)
    ahead = week(bars).groupby("symbol").shift(-3)  # the future, and the same whatever bars are handed in
    found = audit_world(lambda panel: PortfolioWorld(panel, ahead, Costs(1, 5)), bars)
    assert found.status == "NOT_ASSESSED" and "make them from these bars" in found.reason


def test_costs_read_the_past_before_the_first_session_that_is_played():
    bars, random, costs = made_bars(1, t=80), np.random.default_rng(0), Costs(1, 5, impact=1.0)
    whole = world_of(bars, costs=costs, cash=1e8)
    late = replace(whole, since=whole.dates[30])
    assert late.dates.equals(whole.dates[30:]) and late.episode == 49
    draws = random.uniform(0, 1, (late.episode, 4))
    asked, again, short = iter(draws), iter(draws), iter(draws)
    reward = play(late, lambda seen: next(asked)[None]).reward[:, 0]
    weights = policy_weights(late, lambda seen: next(again)[None])
    equity = from_weights(weights, bars, costs, cash=1e8).equity
    assert np.abs(np.log(equity).diff().loc[late.dates[1:]].to_numpy() - reward).max() < 1e-12
    cut = PortfolioWorld(bars.loc[whole.dates[30] :], week(bars), costs, cash=1e8)
    assert np.abs(play(cut, lambda seen: next(short)[None]).reward[:, 0] - reward).max() > 1e-3  # without its past


def test_a_close_before_the_first_session_is_no_close_to_trade_at():
    bars = made_bars(2, t=20)
    dates = bars.index.unique("date")
    gone = (bars.index.get_level_values("symbol") == "N1") & (bars.index.get_level_values("date") >= dates[10])
    world = PortfolioWorld(bars[~gone], week(bars), Costs(1, 5), since=dates[10])
    weights = policy_weights(world, lambda seen: np.array([[0.3, 0.3, 0.3, 1.0]])).unstack("symbol")["weight"]
    assert (weights["N1"] == 0).all() and np.allclose(weights[["N0", "N2"]], 0.3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"low": 0.2}, "a weight of 0 lies within"), ({"low": -1.0, "high": -0.5}, "a weight of 0 lies within"),
     ({"low": "0"}, "low is '0', a str"), ({"length": 2.5}, "length is 2.5, a float"), ({"length": True}, "a bool"),
     ({"since": "2020-01-09"}, "since is '2020-01-09', a str"),
     ({"since": pd.Timestamp("2030-01-01")}, "0 sessions to play"),
     ({"since": pd.Timestamp("2020-01-09", tz="UTC")}, "time zone"),
     ({"features": made_bars()[["volume"]]}, "volume lie beyond 100"), ({"features": None}, "features is None"),
     ({"features": made_bars()["volume"]}, "a Series")],
)  # fmt: skip
def test_a_world_that_cannot_be_is_refused_in_words(wrong, said):
    with pytest.raises((ConfigError, PanelError), match=said):
        PortfolioWorld(**({"bars": made_bars(), "features": week(made_bars())} | wrong))


def moved(features: pd.DataFrame, kind: str, change: object) -> pd.DataFrame:
    return features.set_axis(features.index.set_levels(change(features.index.levels[kind == "symbol"]), level=kind))


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda f: moved(f, "symbol", lambda names: names.str.lower()), "no symbol of the features"),
     (lambda f: moved(f, "date", lambda dates: dates + pd.Timedelta("16h")), "no date of the features"),
     (lambda f: moved(f, "date", lambda dates: dates.tz_localize("UTC")), "time zone"),
     (lambda f: f.iloc[:0], "no date of the features"),
     (lambda f: f.assign(sector="energy"), "sector hold no numbers"),
     (lambda f: pd.concat([f, f], axis=1), "week is there twice")],
)  # fmt: skip
def test_features_that_an_agent_could_not_see_are_refused(change, said):
    bars = made_bars(1)
    with pytest.raises(PanelError, match=said):
        PortfolioWorld(bars, change(week(bars)), Costs(1, 5))


@pytest.mark.parametrize(
    "terms",
    [{"rules": Rules(max_gross=0.5)}, {"rules": Rules(price_limit=0.01)}, {"costs": Costs(1, 5, interest_bps=100)},
     {"fill": replace(next_open(), participation=0.001)}],
)  # fmt: skip
def test_hindsight_is_refused_where_orders_may_not_fill(terms):
    with pytest.raises(ConfigError, match="hindsight"):
        hindsight_weights(world_of(made_bars(0), **({"costs": Costs(1, 5)} | terms)))


@pytest.mark.parametrize("seed", range(2))
def test_hindsight_is_what_a_search_of_all_paths_finds(seed):
    from itertools import product

    bars = made_bars(seed, n=2, t=6)
    world = PortfolioWorld(bars, week(bars), Costs(3, 20))
    walks = [hindsight_weights(world)]
    for path in product([None, "N0", "N1"], repeat=5):
        rows = [(d, s or "N0", float(s is not None)) for d, s in zip(world.dates, path, strict=False)]
        walks.append(as_panel(pd.DataFrame(rows, columns=["date", "symbol", "weight"])))
    best, *tried = np.log(equity_curves(walks, bars, Costs(3, 20))[0].iloc[-1] / 1e6)
    assert best == pytest.approx(max(tried), abs=1e-8) and best > np.median(tried) + 0.01


@pytest.mark.parametrize("probability", [0.3, 0.6, 0.9])
def test_kellys_fraction_is_the_best(probability):
    world = CoinWorld(probability)
    mean = lambda f: -(probability * np.log1p(f) + (1 - probability) * np.log1p(-f))
    found = minimize_scalar(mean, bounds=(0, 0.99), method="bounded").x
    assert world.best(np.ones((1, 1)))[0, 0] == pytest.approx(found, abs=1e-4)


@pytest.mark.parametrize("aversion", [1.0, 2.0, 5.0])
def test_mertons_share_is_the_best_and_paid_as_integrated(aversion):
    world = MertonWorld(relative_aversion=aversion, pairs=64)
    nodes, mass = np.polynomial.hermite_e.hermegauss(60)

    def worth(share: float) -> float:
        growth = 0.02 + share * 0.06 - share**2 * 0.02 + share * 0.2 * nodes
        return float(mass @ world._utility(growth) / mass.sum() - world._utility(np.array(0.02)))

    found = minimize_scalar(lambda s: -worth(s), bounds=(0, 2), method="bounded").x
    assert world.best(np.ones((1, 1)))[0, 0] == pytest.approx(min(found, 2), abs=1e-4)
    paid = play(world, lambda seen: np.full((len(seen), 1), 0.7), copies=4000).reward
    assert paid.mean() == pytest.approx(worth(0.7), abs=4 * paid.std() / np.sqrt(4000) + 1e-12)


def test_the_formula_of_garleanu_and_pedersen_solves_the_bellman_equation():
    world = SignalWorld(impatience=0.1, decay=0.2, cost=2e-3)
    left, ratio = 0.9, world.cost / world.risk_price
    a, b, c = 0.0, 0.0, 0.0  # value: -a x^2 + 2 b x f + c f^2, iterated to its fixed point
    for _ in range(2000):
        curve = left * (1 + a) + ratio  # of the next position: -curve y^2 + 2 y (ratio x + pull f) - ratio x^2
        pull = left * (1 + b * 0.8)
        a, b, c = ratio - ratio**2 / curve, ratio * pull / curve, pull**2 / curve + left * c * 0.64
    best = lambda x, f: (ratio * x + pull * f) / curve - x
    for x, f in ((0.0, 1.0), (1.0, 0.0), (-0.4, 0.7)):
        assert world.best(np.array([[x, f]]))[0, 0] == pytest.approx(best(x, f), abs=1e-9)
    long = replace(world, episode=120)  # a step 120 ahead counts 3e-6
    paid = 0.9 ** np.arange(120) @ play(long, long.best, copies=10_000).reward
    value = c + left * c * 0.36 / (1 - left)  # of no position and a signal of variance 1, with all that is to come
    assert paid.mean() == pytest.approx(value, abs=4 * paid.std() / 100) and paid.std() / 25 < 0.05 * value


@pytest.mark.parametrize("aversion", [0.0, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("slots", [1, 2, 7])
def test_the_block_is_sold_as_execution_slices_says_at_its_cost(aversion, slots):
    world = ExecutionWorld(aversion=aversion, episode=slots, tau=0.5)
    episode = play(world, world.best)
    impact = PriceImpact(0.95, 2.5e-7, 2.5e-6, 0.0625)
    curve = almgren_chriss_curve(slots, impact, aversion, 0.5)
    left = episode.seen[:, 0, 0]
    assert np.allclose(-np.diff(left), curve, atol=1e-9) and left[-1] == 0
    cost = schedule_cost(1e6 * curve, impact, 0.5)
    least = cost.expected + aversion * cost.deviation**2
    assert -episode.reward.sum() * world.equal_cost == pytest.approx(least, rel=1e-9)
    equal = play(world, lambda seen: 1 / np.round(seen[:, 1:] * slots))
    assert equal.reward.sum() == pytest.approx(-1.0)


def flat_bars(t: int = 60) -> pd.DataFrame:
    "One name that opens at 100 and closes a half above or below it in turn: volatility and volume stand still."
    close = 100 + 0.5 * (-1.0) ** np.arange(t)
    table = {"open": 100.0, "high": 101.0, "low": 99.0, "close": close, "volume": 1e6, "symbol": "N0"}
    return as_panel(pd.DataFrame(table | {"date": pd.bdate_range("2020-01-01", periods=t, unit="us")}))


def one_name(seed: int = 1, t: int = 80, missing: float = 0.0) -> pd.DataFrame:
    "Bars of one name whose volume swells and ebbs; after the first month some sessions have none."
    bars = made_bars(seed, n=1, t=t).assign(volume=lambda b: 1e6 + 2e5 * np.sin(np.arange(len(b))))
    bars.iloc[22 + np.flatnonzero(np.random.default_rng(seed).random(t - 22) < missing)] = np.nan
    return bars


BLOCKS = {
    "bought": {}, "sold": {"shares": -2e5}, "no impact": {"costs": Costs(1, 5)},
    "taxed sale": {"shares": -1e5, "costs": Costs(1, 5, impact=0.5, sell_tax_bps=10)},
    "least commission": {"costs": Costs(1, 5, impact=1.0, minimum=50.0, per_share=0.01)},
    "lots": {"shares": 2e5 + 33, "rules": Rules(lot=100)}, "next close": {"fill": next_close()},
    "vwap": {"fill": vwap()},
    "little volume": {"fill": replace(next_open(), participation=0.02)},
}  # fmt: skip


def block_of(bars: pd.DataFrame, **kwargs: object) -> BlockWorld:
    return BlockWorld(**({"bars": bars, "shares": 2e5, "since": bars.index.unique("date")[25]} | kwargs))


@pytest.mark.parametrize("terms", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("noisy", [False, True])
def test_a_block_pays_what_the_engine_charges_for_its_orders(terms, missing, noisy):
    bars = one_name(missing=missing)
    world = block_of(bars, episode=6, noisy=noisy, **terms)
    random = np.random.default_rng(3)
    episode = play(world, lambda seen: random.uniform(-0.1, 0.9, (8, 1)), copies=8, seed=4)
    dates = world._portfolio.dates
    firsts = np.random.default_rng(4).choice(world._starts, 8)
    settings_ = {name: getattr(world, name) for name in ("costs", "rules", "fill")}
    for copy, first in enumerate(firsts):
        left, part = world.shares * episode.seen[:, copy, 0], np.clip(episode.action[:, copy, 0], 0, 1)
        part[-1] = 1.0
        rows = pd.DataFrame({"date": dates[first : first + 6], "symbol": "N0", "size": left[:-1] * part})
        rules = replace(world.rules, max_gross=np.inf)
        known = bars[bars.index.get_level_values("date") <= dates[first + 6]]
        done = from_orders(rows[rows["size"] != 0], known, **settings_ | {"rules": rules}, cash=1e12).trades
        arrival = known.loc[: dates[first], "close"].iloc[-1]
        walk = (done["quantity"] * (done["price"] - arrival)).sum() if noisy else done["slippage"].sum()
        rest = world.shares - done["quantity"].sum()
        assert rest == pytest.approx(left[-1], abs=1e-3)
        assert left[-1] == 0 or missing or "rules" in terms or world.fill.participation < 1
        late = pd.Series({"commission": 0.0, "slippage": 0.0})
        if left[-1]:
            at = liquidity(known).droplevel("symbol").loc[: dates[first + 5]].dropna().iloc[-1]
            last = known["close"].ffill().iloc[-1]
            late = charge([rest], [last], world.costs, [at["volatility"]], [at["volume"]]).iloc[0]
            walk += rest * (last - arrival) if noisy else 0.0
        cost = done["commission"].sum() + walk + late["commission"] + late["slippage"]
        paid = -episode.reward[:, copy].sum()
        assert paid == pytest.approx(100 * cost / (abs(world.shares) * arrival), rel=1e-12)


@pytest.mark.parametrize("slots", [1, 4, 9])
def test_where_nothing_moves_equal_parts_are_best_and_the_law_is_exact(slots):
    world = block_of(flat_bars(), costs=Costs(0, 0, impact=1.0), episode=slots)
    cost = lambda policy: -play(world, policy, copies=2).reward.sum(axis=0)
    deviation = liquidity(flat_bars())["volatility"].iloc[-1]
    at_once, equal = cost(lambda seen: np.ones((2, 1))), cost(world.best)
    law = 100 * deviation * np.sqrt(2e5 / 1e6)  # percent of what the block is worth at the open of 100
    assert np.isclose(at_once[:, None], law / np.array([0.995, 1.005]), rtol=1e-9).any(axis=1).all()
    assert at_once / equal == pytest.approx(np.sqrt(slots), rel=1e-9)
    assert np.allclose(play(world, world.best).seen[:, 0, 2], 0, atol=1e-9)
    others = np.random.default_rng(1)
    for _ in range(20 * (slots > 1)):
        asked = iter(others.uniform(0, 1, slots))
        assert (cost(lambda seen, asked=asked: np.full((2, 1), next(asked))) > equal).all()


def test_the_impact_that_is_seen_tells_the_next_order_and_no_future():
    bars = one_name(2)
    world = block_of(bars, episode=10, since=bars.index.unique("date")[60], shares=-3e5)
    whole = play(world, world.best, copies=30, seed=1)
    known = liquidity(bars).droplevel("symbol").loc[world._portfolio.dates]
    law = np.log(known["volatility"] / np.sqrt(known["volume"])).to_numpy()
    for copy, first in enumerate(np.random.default_rng(1).choice(world._starts, 30)):
        assert np.allclose(whole.seen[:-1, copy, 2], (law[first : first + 10] - law[first]), atol=1e-12)
    assert np.abs(whole.seen[1:, :, 2]).max() > 0.01
    end = world._portfolio.dates[-1]
    changed = bars.copy()
    changed.loc[bars.index.get_level_values("date") == end, ["open", "high", "low", "close", "volume"]] *= 3.0
    again = play(replace(world, bars=changed), world.best, copies=30, seed=1)
    last = np.random.default_rng(1).integers(0, 10, 30) == 9  # the only copies whose last session is the last of bars
    assert (again.seen == whole.seen).all() and (again.reward[:-1] == whole.reward[:-1]).all()
    assert (again.reward[-1, ~last] == whole.reward[-1, ~last]).all() and last.any()
    assert (again.reward[-1, last] != whole.reward[-1, last]).all()
    per_share = -whole.reward / np.abs(np.diff(whole.seen[:, :, 0], axis=0)) - 0.01 - 0.05  # impact of equal parts
    assert np.corrcoef(np.log(per_share[1:]).ravel(), whole.seen[1:-1, :, 2].ravel())[0, 1] > 0.5


def test_with_hindsight_a_block_costs_little_less_than_equal_parts():
    bars = one_name(5, t=200)
    world = block_of(bars, costs=Costs(0, 0, impact=1.0), episode=10)
    paid = -play(world, world.best, copies=20, seed=2).reward.sum(axis=0)
    tables = world._portfolio._tables
    slope = tables.market.open[:, 0] * tables.market.impact[:, 0]
    for copy, first in enumerate(np.random.default_rng(2).integers(0, len(slope) - 10, 20)):
        least = 2e5**1.5 / np.sqrt((slope[first + 1 : first + 11] ** -2).sum())  # parts go with slope^-2
        least *= 100 / (2e5 * tables.market.close[first, 0])
        assert least <= paid[copy] < 1.05 * least


def test_what_never_fills_pays_at_the_last_close():
    bars = one_name(t=60)
    dates = bars.index.unique("date")
    gone = bars.copy()
    gone.loc[dates[40] :] = np.nan  # the name ends, the sessions go on
    world = block_of(gone, episode=15, since=dates[39])
    episode = play(world, world.best, copies=3, seed=0)
    assert (
        (episode.seen[:, :, 0] == 1).all() and (episode.reward[:-1] == 0).all() and (episode.reward[-1] < -0.06).all()
    )
    with pytest.raises(PanelError, match="no session of N0 has a close, a known impact and 15 sessions to come"):
        block_of(gone, episode=15, since=dates[40])


def test_a_holding_that_the_engine_closes_is_not_left_again():
    bars = one_name(t=60)
    dates = bars.index.unique("date")
    gone = bars.copy()
    gone.loc[dates[43] :] = np.nan
    episode = play(block_of(gone, episode=15, since=dates[39]), lambda seen: np.ones((1, 1)), seed=1)
    assert (episode.seen[1:, 0, 0] == 0).all() and (episode.reward[1:] == 0).all() and episode.reward[0, 0] < 0


def test_a_block_begins_where_the_impact_is_known():
    world = block_of(one_name(), since=None)
    assert world._starts[0] == 10  # ten returns
    assert block_of(one_name(), since=None, costs=Costs(1, 5))._starts[0] == 0


def test_what_a_lot_leaves_of_a_number_is_no_second_order():
    world = block_of(one_name(), shares=0.3, costs=Costs(1, 5, minimum=1.0), rules=Rules(lot=0.1), episode=2)
    episode = play(world, lambda seen: np.ones((len(seen), 1)))
    assert (episode.seen[1:, 0, 0] == 0).all() and episode.reward[1, 0] == 0 > episode.reward[0, 0]


def test_a_name_that_stands_still_has_no_impact_to_compare():
    bars = one_name()
    still = bars.index.get_level_values("date") <= bars.index.unique("date")[35]
    bars.loc[still, ["open", "high", "low", "close"]] = 50.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = play(block_of(bars), lambda seen: 1 / np.round(seen[:, 1:2] * 5).clip(1), copies=50).seen[..., 2]
    assert np.isfinite(seen).all() and (seen == 0).any() and (seen != 0).any()


def test_what_is_played_stays_as_it_was_when_the_world_was_made():
    for make in (block_of, lambda bars: world_of(bars, costs=Costs(1, 5))):
        bars = one_name()
        world = make(bars)
        policy = lambda seen, n=world.bounds.shape[1]: np.full((len(seen), n), 0.5)
        before, key = play(world, policy, seed=1).reward, content_hash(world)
        bars[["open", "high", "low", "close"]] *= 2
        bars["volume"] /= 50
        world.__dict__.pop("_tables", None), world.__dict__.pop("_portfolio", None)
        assert (play(world, policy, seed=1).reward == before).all() and content_hash(world) == key


def test_only_a_portfolio_has_weights():
    world = block_of(one_name())
    for call in (lambda: policy_weights(world, world.best), lambda: hindsight_weights(world)):
        with pytest.raises(ConfigError, match="give a PortfolioWorld"):
            call()
    found = audit_world(lambda bars: BlockWorld(bars, 1e5), one_name())
    assert found.status == "NOT_ASSESSED" and "PortfolioWorld" in found.reason


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"shares": 0.0}, "a block to buy"), ({"shares": np.nan}, "a block to buy"),
     ({"shares": "9"}, "shares is '9', a str"),
     ({"episode": 0}, "episode is 0; the bars have room for 1 to 54"), ({"episode": 55}, "episode is 55"),
     ({"episode": 2.0}, "a float"), ({"costs": 5}, "costs"), ({"noisy": "no"}, "noisy is 'no'"),
     ({"shares": 10**400}, "worth at most"), ({"shares": 1e13}, "worth at most"), ({"bars": None}, "bars is None"),
     ({"bars": made_bars(t=80)}, "3 names"), ({"bars": one_name().iloc[:0], "since": None}, "0 sessions"),
     ({"bars": one_name().assign(volume=np.nan)}, "no session of N0 has a close, a known impact and 5 sessions"),
     ({"bars": one_name().assign(close="a")}, "close holds"), ({"bars": one_name().drop(columns="volume")}, "volume"),
     ({"bars": one_name().assign(split=2.0)}, "split")],
)  # fmt: skip
def test_a_block_that_cannot_be_is_refused_in_words(wrong, said):
    with pytest.raises((ConfigError, PanelError, DataError), match=said):
        block_of(one_name(), **wrong) if "bars" not in wrong else BlockWorld(**({"shares": 1e5} | wrong))


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: type(w).__name__)
def test_no_other_policy_is_paid_more_on_the_same_draws(world):
    discount = 0.95 if isinstance(world, SignalWorld) else 1.0
    factor = discount ** np.arange(world.episode)
    value = lambda policy: float(factor @ play(world, policy, 3000, 5).reward.mean(axis=1))
    best = value(world.best)
    for change in (0.8, 1.2):
        assert value(lambda seen, c=change: world.best(seen) * c) < best


@needs_gymnasium
@pytest.mark.parametrize("world", [*WORLDS, "portfolio", "short", "block"], ids=str)
def test_gymnasiums_own_checker_has_nothing_to_say(world):
    from gymnasium.utils.env_checker import check_env

    if world == "block":
        world = block_of(one_name())
    elif isinstance(world, str):
        world = world_of(made_bars(), length=8) if world == "short" else world_of(made_bars(t=12))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym_env(world), skip_render_check=True)


@needs_gymnasium
def test_behind_the_door_an_episode_is_the_same():
    world, env = SignalWorld(episode=6), gym_env(SignalWorld(episode=6))
    seen, _ = env.reset(seed=3)
    for step in range(6):
        asked = np.array([0.1 * step - 0.2], dtype="float32")
        seen, reward, ended, cut, _ = env.step(asked)
        assert not ended and cut == (step == 5)
    rng = np.random.default_rng(3)
    state, now = world.start(1, rng)
    for step in range(6):
        state, now, paid = world.step(state, scale_action(np.float32([[0.1 * step - 0.2]]), world.bounds), rng)
    assert np.allclose(seen, now[0], atol=1e-6) and reward == pytest.approx(paid[0])


@needs_gymnasium
@pytest.mark.parametrize("world", ["block", "portfolio", CoinWorld()], ids=str)
def test_behind_the_door_nothing_follows_an_episode_but_reset(world):
    if isinstance(world, str):
        world = block_of(one_name(), episode=2) if world == "block" else world_of(made_bars(), length=2)
    env, action = gym_env(world), np.zeros(world.bounds.shape[1], "float32")
    with pytest.raises(ConfigError, match="call reset"):
        env.step(action)
    for _ in range(2):
        env.reset(seed=1)
        with pytest.raises(ConfigError, match="give numbers"):
            env.step(action * np.nan)
        for _ in range(world.episode):
            env.step(action)
        with pytest.raises(ConfigError, match="call reset"):
            env.step(action)


@needs_gymnasium
def test_a_class_is_no_world():
    with pytest.raises(ConfigError, match="CoinWorld is a class; give a world that was made"):
        gym_env(CoinWorld)


def test_without_gymnasium_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    for call in (need_gymnasium, lambda: gym_env(CoinWorld())):
        with pytest.raises(ConfigError, match="make deep"):
            call()


@pytest.mark.parametrize(
    "kwargs",
    [{"low": 1.0}, {"high": np.inf}, {"length": 0}, {"length": 60}, {"cash": 0.0}, {"costs": 5}],
)
def test_portfolios_that_cannot_be_are_refused(kwargs):
    with pytest.raises(ConfigError):
        world_of(made_bars(), **kwargs)


def test_degenerate_bars_and_features():
    bars = made_bars(t=3)
    with pytest.raises(PanelError):
        world_of(bars.iloc[:3])
    with pytest.raises(PanelError):
        PortfolioWorld(bars.iloc[:0], week(bars))
    with pytest.raises(DataError):
        world_of(bars.assign(split=2.0))
    wild = pd.DataFrame({"f": [np.nan, np.inf, -np.inf] * 3}, bars.index)
    for part in ([np.nan] * 4, [0.3, 0.3, np.inf, 1.0]):
        with pytest.raises(ConfigError, match="at step 0; give numbers"):
            play(PortfolioWorld(bars, wild), lambda seen, part=part: np.array([part]))
    episode = play(PortfolioWorld(bars, wild), lambda seen: np.zeros((1, 4)))
    assert (episode.seen == 0).all() and (episode.reward == 0).all()
    none = play(PortfolioWorld(bars, pd.DataFrame(index=bars.index)), lambda seen: np.zeros((1, 4)))
    assert none.seen.shape == (3, 1, 3)
    assert (policy_weights(PortfolioWorld(bars, wild), lambda seen: np.zeros((1, 4)))["weight"] == 0).all()


def test_hindsight_refuses_what_it_has_no_formula_for():
    bars = made_bars()
    for kwargs in ({"low": -1.0}, {"fill": next_close()}, {"rules": Rules(lot=1)}, {"costs": Costs(1, 5, minimum=1)}):
        with pytest.raises(ConfigError, match="hindsight"):
            hindsight_weights(world_of(bars, **kwargs))
    with pytest.raises(PanelError, match="hindsight"):
        hindsight_weights(world_of(made_bars(missing=0.1)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: CoinWorld(1.0), lambda: CoinWorld(0.5, 0), lambda: MertonWorld(volatility=0.0),
        lambda: SignalWorld(decay=0.0), lambda: SignalWorld(impatience=1.0), lambda: SignalWorld(episode=0),
        lambda: ExecutionWorld(temporary=1e-9), lambda: ExecutionWorld(shares=0.0),
        lambda: ExecutionWorld(aversion=-1.0), lambda: ExecutionWorld(episode=0),
        lambda: play(CoinWorld(), lambda seen: seen, copies=0), lambda: play(CoinWorld(), lambda seen: seen[0]),
        lambda: play(CoinWorld(), lambda seen: seen, copies=2.5), lambda: play(CoinWorld(), lambda seen: seen, seed=-1),
        lambda: play(CoinWorld(), None), lambda: play(CoinWorld, lambda seen: seen),
        lambda: play(CoinWorld(), lambda seen: "half"), lambda: play(CoinWorld(), lambda seen: [[1], [2, 3]]),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(build):
    with pytest.raises(ConfigError):
        build()
