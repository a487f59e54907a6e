"Planted conflicts are named, duals are slopes, and the walk reads the past alone."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, QuantlabError
from quantlab.portfolio.conflict import (
    Mandate,
    Optimised,
    breaches,
    conflict,
    limit_prices,
    optimised_weights,
    optimum,
)
from quantlab.portfolio.limits import Limits

pytest.importorskip("cvxpy")
NAMES = [f"S{i:02d}" for i in range(12)]
KINDS = ("caps", "floors", "sector", "turnover", "gross", "adv", "tracking", "return")


def market(rng):
    r = rng.normal(size=(150, 12)) * rng.uniform(0.005, 0.02, 12) + rng.normal(size=(150, 1)) * 0.008
    return pd.DataFrame(r, columns=NAMES)


def group(first, last):
    return pd.Series([1.0 * (first <= i < last) for i in range(12)], NAMES)


def planted(seed):
    "Return a mandate with one conflict, and the limits it is made of."
    rng = np.random.default_rng(seed)
    S, kind = market(rng).cov() * 252, KINDS[seed % len(KINDS)]
    wide = {f"sector {k}": (group(3 * k, 3 * k + 3), 0.0, rng.uniform(0.6, 0.9)) for k in range(4)}
    base = Mandate(S, pd.Series(rng.normal(0.05, 0.03, 12), NAMES), upper=0.5, gross=1.8, net=1.5, rows=wide)
    held = group(0, 3) / 3
    if kind == "caps":
        return replace(base, upper=rng.uniform(0.02, 0.08)), {"budget", "max_weight"}
    if kind == "floors":
        return replace(base, lower=rng.uniform(0.09, 0.12)), {"budget", "min_weight"}
    if kind == "sector":
        floor = {"sector 0": (group(0, 3), rng.uniform(0.5, 0.8), 1.0)}
        return replace(base, rows=wide | floor, upper=rng.uniform(0.10, 0.15)), {"sector 0", "max_weight"}
    if kind == "turnover":
        rows = wide | {"sector 0": (group(0, 3), 0.0, rng.uniform(0.1, 0.4))}
        return replace(base, rows=rows, previous=held, turnover=0.2), {"sector 0", "turnover"}
    if kind == "gross":
        return replace(base, gross=rng.uniform(0.5, 0.9)), {"budget", "gross"}
    if kind == "adv":
        rows = wide | {"sector 0": (group(0, 3), 0.0, rng.uniform(0.1, 0.4))}
        return replace(base, rows=rows, previous=held, trade=0.05), {"sector 0", "max_adv"}
    if kind == "tracking":
        rows = wide | {"sector 1": (group(3, 6), 0.8, 1.0)}
        return replace(base, rows=rows, tracking_error=rng.uniform(0.002, 0.008)), {"sector 1", "tracking_error"}
    floor = {"return": (base.expected, float(base.expected.max()) * rng.uniform(1.05, 1.3), 1e3)}
    return replace(base, rows=wide | floor), {"return", "budget", "min_weight"}


def named(seed):
    "Say whether exactly the planted limits are named (a return also meets the cap on the best name)."
    mandate, truth = planted(seed)
    found = set(conflict(mandate).index)
    return found == truth or (KINDS[seed % len(KINDS)] == "return" and "return" in found and len(found) <= 4)


def test_planted_conflicts_are_named():
    assert np.mean([named(seed) for seed in range(20)]) >= 0.95


@pytest.mark.slow
def test_two_hundred_planted_conflicts_are_named():
    share = np.mean([named(seed) for seed in range(200)])
    print(f"named: {share:.3f}")
    assert share >= 0.95


def moved(mandate, name, h):
    "Return the mandate with one limit moved."
    if name in mandate.rows:
        a, low, high = mandate.rows[name]
        return replace(mandate, rows=dict(mandate.rows) | {name: (a, low, high + h)})
    key = {"max_weight": "upper", "min_weight": "lower"}.get(name, name)
    return replace(mandate, **{key: getattr(mandate, key) + h})


@pytest.mark.parametrize("seed", range(4))
def test_prices_are_slopes_of_the_utility(seed):
    rng = np.random.default_rng(seed)
    S = market(rng).cov() * 252
    rows = {"sector 0": (group(0, 3), 0.0, 0.2), "sector 1": (group(3, 6), 0.0, 0.25)}
    mandate = Mandate(S, pd.Series(rng.normal(0.05, 0.05, 12), NAMES), upper=0.18, rows=rows, tracking_error=0.05,
                      turnover=0.5, previous=pd.Series(1 / 12, NAMES), gross=1.0, budget=0.95)  # fmt: skip
    table, h, compared = limit_prices(mandate), 1e-4, 0
    value = lambda m: optimum(m, ("markowitz",)).objective
    middle = value(mandate)
    for name in table.index:
        up, down = (value(moved(mandate, name, s)) - middle for s in (h, -h))
        if abs(up + down) > 1e-3 * max(abs(up), abs(down), 1e-7):
            continue  # the active set changes here: the slope differs from side to side
        compared += 1
        assert abs((up - down) / (2 * h) - table.loc[name, "price"] / 100) < 1e-4, name
    assert compared >= 3 and (table["cost"].drop("budget") >= -1e-3).all()


def test_an_empty_conflict_and_the_chain_that_is_recorded():
    rng = np.random.default_rng(0)
    fine = Mandate(market(rng).cov() * 252, upper=0.2, gross=1.0)
    assert conflict(fine).empty and optimum(fine).status == "optimal"
    bad = replace(fine, upper=0.05)
    found = optimum(bad, ("markowitz", "min_variance", "equal_risk"))
    assert [m for m, _ in found.failures] == ["markowitz", "min_variance"] and found.method == "equal_risk"
    assert all("budget, max_weight" in why for _, why in found.failures) and "max_weight" in found.breaches
    soft = optimum(bad)
    assert soft.method == "relaxed" and set(soft.breaches) <= {"budget", "max_weight"}
    with pytest.raises(ConfigError, match="no method"):
        optimum(bad, ("markowitz",))
    with pytest.raises(ConfigError, match="chain"):
        optimum(fine, ("magic",))


@pytest.mark.parametrize("seed", range(12))
def test_random_mandates_end_in_weights_that_keep_what_they_say(seed):
    rng = np.random.default_rng(1000 + seed)
    S = market(rng).cov() * 252
    pick = lambda value: value if rng.random() < 0.5 else None
    mandate = Mandate(
        S, pd.Series(rng.normal(0, 0.1, 12), NAMES), lower=rng.uniform(-0.3, 0.05), upper=rng.uniform(0.06, 0.5),
        gross=pick(rng.uniform(0.8, 2)), net=pick(rng.uniform(0.5, 1.5)), turnover=pick(rng.uniform(0.1, 1)),
        previous=pd.Series(rng.dirichlet(np.ones(12)), NAMES), tracking_error=pick(rng.uniform(0.01, 0.1)),
        volatility=pick(rng.uniform(0.05, 0.3)), rows={"half": (group(0, 6), 0.2, rng.uniform(0.3, 0.7))},
    )  # fmt: skip
    found, bites = optimum(mandate), conflict(mandate)
    assert (found.method == "markowitz") == bites.empty
    assert breaches(mandate, found.weights, 1e-5) == {} if bites.empty else found.breaches


def bars(names=8, rows=260, seed=0):
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=rows, name="date").as_unit("us")
    close = 100 * np.exp(np.cumsum(rng.normal(size=(rows, names)) * 0.01, axis=0))
    index = pd.MultiIndex.from_product([dates, [f"S{i}" for i in range(names)]], names=["date", "symbol"])
    frame = pd.DataFrame({"close": close.ravel(), "volume": 1e6}, index)
    return frame, pd.DataFrame({"score": rng.normal(size=len(index))}, index)


@pytest.mark.parametrize("objective", ["min_variance", "views", "equal_risk", "hrp"])
def test_the_walk_reads_the_past_alone_and_keeps_its_limits(objective):
    frame, said = bars()
    said = said[frame.index.get_level_values("date") >= frame.index[-1][0] - pd.Timedelta(days=120)]
    rule = Optimised(5, 2, 15, objective, lookback=90, limits=Limits(max_weight=0.3, max_turnover=0.5))
    weights, log = optimised_weights(rule, said, frame)
    cut = said.index.unique("date")[40]
    spoiled = frame.copy()
    spoiled.loc[cut + pd.Timedelta(days=1) :, "close"] *= 3
    assert rule(said[:cut], frame[:cut]).equals(weights[:cut])
    assert rule(said, spoiled)[:cut].equals(weights[:cut])
    if objective in ("min_variance", "views"):
        wide = weights["weight"].unstack(fill_value=0.0)
        assert weights["weight"].max() <= 0.3 + 1e-6 and np.allclose(wide.sum(axis=1), 1, atol=1e-6)
        assert (log["status"] == "optimal").all()


def test_the_traded_volume_limits_the_change_and_the_gate_scales():
    frame, said = bars()
    said = said[frame.index.get_level_values("date") >= frame.index[-1][0] - pd.Timedelta(days=60)]
    rule = Optimised(8, 0, 10, lookback=90, limits=Limits(max_adv=0.01, max_turnover=None), capital=1e8)
    plain = rule(said, frame)
    gate = pd.DataFrame({"gate": 0.5}, said.index.unique("date"))
    assert np.allclose(rule(said, frame, gate)["weight"], plain["weight"] / 2)
    for bad in (said.iloc[:0], said * np.nan, said.tz_localize("UTC", level="date")):
        with pytest.raises(QuantlabError):
            rule(bad, frame)
    with pytest.raises(ConfigError, match="past_bars"):
        rule(said)
    with pytest.raises(QuantlabError, match="no date could decide"):
        rule(said, frame.loc[said.index[0][0] :])


@pytest.mark.parametrize("limits", [Limits(max_turnover=0.04), Limits(max_adv=0.004, max_turnover=None)])
def test_changes_are_measured_from_the_book_that_has_drifted(limits):
    frame, said = bars()
    said = said[frame.index.get_level_values("date") >= frame.index[-1][0] - pd.Timedelta(days=120)]
    rule = Optimised(8, 0, 10, lookback=60, limits=limits, capital=1e8)
    wide, close = rule(said, frame)["weight"].unstack(fill_value=0.0), frame["close"].unstack()
    money = (frame["close"] * frame["volume"]).unstack()
    bites = 0
    for before, date in zip(wide.index[:-1], wide.index[1:], strict=True):
        grown = wide.loc[before] * close.loc[date] / close.loc[before]
        change = (wide.loc[date] - grown / grown.sum()).abs()
        if limits.max_turnover is not None:
            assert change.sum() <= limits.max_turnover + 1e-6
            bites += change.sum() > limits.max_turnover - 1e-4
        else:
            most = 0.004 * money.loc[:date].iloc[-63:].mean() / 1e8
            assert (change <= most + 1e-6).all()
            bites += (change > most - 1e-4).any()
    assert bites  # the limit was needed at least once


@pytest.mark.parametrize("turnover", [0.2, 0.05, None])
def test_caps_that_cannot_hold_all_the_money_leave_cash_and_sell_what_left_the_list(turnover):
    frame, said = bars()
    said = said[frame.index.get_level_values("date") >= frame.index[-1][0] - pd.Timedelta(days=120)]
    rule = Optimised(4, 0, 10, lookback=90, limits=Limits(max_weight=0.1, max_turnover=turnover))
    weights, log = optimised_weights(rule, said, frame)
    wide = weights["weight"].unstack(fill_value=0.0)
    assert np.allclose(wide.sum(axis=1), 0.4, atol=0.02) and wide.to_numpy().max() <= 0.1 + 1e-6
    assert (log["status"] == "optimal").all()


def test_a_book_in_cash_is_filled_as_fast_as_the_turnover_allows():
    frame, said = bars()
    said = said[frame.index.get_level_values("date") >= frame.index[-1][0] - pd.Timedelta(days=120)]
    dates = said.index.unique("date")
    few = said.index.get_level_values("symbol").isin(["S0", "S1", "S2"])
    said = said[few | (said.index.get_level_values("date") > dates[20])]  # three names first, then all eight
    rule = Optimised(8, 0, 10, lookback=90, limits=Limits(0.2, max_turnover=0.1))
    weights, log = optimised_weights(rule, said, frame)
    total = weights["weight"].groupby(level="date").sum()
    assert np.allclose(total.iloc[:3], 0.6, atol=0.02) and total.iloc[-1] <= 1 + 1e-6
    assert 0.05 < total.diff().iloc[3:6].min() and total.diff().iloc[3:].max() <= 0.1 + 1e-2
    assert (log["status"] == "optimal").all()
