"""Stability: DeMiguel's table, the Sharpe test by hand and its size, and the spread of weights."""

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.risk.stability import (
    PLUG_IN,
    bayes_stein_rule,
    earned_after,
    equal_rule,
    minimum_rule,
    sharpe_difference,
    tangency_rule,
    weight_stability,
)

PUBLISHED = {"1/N": 0.2240, "mv": 0.2186, "bs": 0.2536, "min": 0.2493, "mv in-sample": 0.2851}
REVISED = {"1/N": 0.2348, "mv": 0.2103, "bs": 0.2507, "min": 0.2546, "mv in-sample": 0.2832}


@pytest.fixture(scope="module")
def factors() -> pd.DataFrame:
    "MKT, SMB and HML, July 1963 to November 2004, decimal."
    from arch.data import frenchdata

    raw = frenchdata.load()
    raw.index = pd.to_datetime(raw.index.asi8.astype(str), format="%Y%m").as_unit("us")
    return raw.loc["1963-07":"2004-11", ["Mkt-RF", "SMB", "HML"]] / 100


def test_demiguel_garlappi_uppal_table_3(factors):
    earned = pd.DataFrame({name: earned_after(factors, rule, 120) for name, rule in PLUG_IN.items()})
    assert len(factors) == 497 and len(earned) == 377
    hindsight = factors.iloc[120:] @ tangency_rule(factors.to_numpy()[120:])
    found = (earned.mean() / earned.std()).to_dict() | {"mv in-sample": hindsight.mean() / hindsight.std()}
    assert found == pytest.approx(REVISED, abs=5e-5)
    assert found == pytest.approx(PUBLISHED, abs=0.011), "French revised the history since"
    order = lambda table: sorted(set(table) - {"bs", "min"}, key=table.get)
    assert order(found) == order(PUBLISHED) == ["mv", "1/N", "mv in-sample"]
    assert found["min"] > found["bs"] and PUBLISHED["min"] < PUBLISHED["bs"], "the one pair that changed places"


def test_rules_by_hand():
    past = np.array([[0.02, 0.01], [0.0, 0.01], [0.02, -0.01], [0.0, -0.01], [0.01, 0.02], [0.01, -0.02]])
    covariance = np.cov(past.T)
    assert covariance[0, 1] == pytest.approx(0)
    inverse = 1 / np.diag(covariance)
    assert minimum_rule(past) == pytest.approx(inverse / inverse.sum())
    assert tangency_rule(past) == pytest.approx([1, 0]), "the second earned nothing"
    assert equal_rule(past).tolist() == [0.5, 0.5]
    same = past - past.mean(axis=0) + 0.01  # equal means: nothing to draw together, so the least variance
    assert bayes_stein_rule(same) == pytest.approx(minimum_rule(same))
    towards = bayes_stein_rule(past)
    assert min(minimum_rule(past)[0], 1) < towards[0] < 1


def test_a_rule_needs_a_past_that_can_be_inverted(factors):
    values = factors.to_numpy()
    for rule in (tangency_rule, minimum_rule, bayes_stein_rule):
        with pytest.raises(DataError, match="6 or more"):
            rule(values[:5])
        with pytest.raises(DataError, match="singular"):
            rule(np.column_stack([values, values[:, 0]]))
        with pytest.raises(DataError, match="singular"):
            rule(np.column_stack([values, np.zeros(len(values))]))
        with pytest.raises(DataError, match="not finite"):
            rule(np.where(values == values[3, 0], np.nan, values))
    mirrored = np.column_stack([values[:, 0], -values[:, 0]]) + np.random.default_rng(1).normal(0, 0.01, (497, 2))
    assert np.isfinite(minimum_rule(mirrored)).all()


def test_what_is_earned_is_not_in_the_weights(factors):
    base = earned_after(factors, tangency_rule, 120)
    later = factors.copy()
    later.iloc[300:] *= -3
    moved = earned_after(later, tangency_rule, 120)
    assert base.iloc[:180].equals(moved.iloc[:180]) and moved.iloc[180] == pytest.approx(-3 * base.iloc[180])
    held = earned_after(factors, tangency_rule, 120, rebalance=12)
    assert held.iloc[0] == base.iloc[0] and held.iloc[12] == base.iloc[12] and held.iloc[5] != base.iloc[5]
    for lookback, rebalance in ((497, 1), (0, 1), (120, 0)):
        with pytest.raises(ConfigError, match="lookback"):
            earned_after(factors, equal_rule, lookback, rebalance)


def pair(seed: int, n: int = 300) -> tuple[pd.Series, pd.Series]:
    rng = np.random.default_rng(seed)
    dates = pd.date_range("1990-01-31", periods=n, freq="ME").as_unit("us")
    common = rng.normal(0.008, 0.04, n)
    return pd.Series(common + rng.normal(0, 0.02, n), dates), pd.Series(common + rng.normal(0, 0.02, n), dates)


def test_jobson_korkie_memmel_by_its_formula():
    a, b = pair(1)
    test = sharpe_difference(a, b, "jkm")
    s, v = [x.mean() / x.std(ddof=0) for x in (a, b)]
    rho, n = np.corrcoef(a, b)[0, 1], len(a)
    error = np.sqrt((2 - 2 * rho + (s**2 + v**2 - 2 * s * v * rho**2) / 2) / n)
    assert (test.difference, test.se, test.n_obs) == (pytest.approx(s - v), pytest.approx(error), n)


@pytest.mark.parametrize("method", ["waves", "hac", "jkm", "bootstrap"])
def test_the_difference_is_scale_free_antisymmetric_and_found_when_it_is_there(method):
    a, b = pair(2)
    one, other = sharpe_difference(a, b, method), sharpe_difference(b, a, method)
    assert one.difference == pytest.approx(-other.difference) and one.se == pytest.approx(other.se)
    assert sharpe_difference(10 * a, 0.5 * b, method).p == pytest.approx(one.p)
    assert one.p > 0.05
    gifted = sharpe_difference(a + 0.02, b, method)
    assert gifted.p < 0.01 and gifted.difference > 0 and gifted.first > gifted.second


def test_the_errors_agree_where_months_are_independent_and_normal():
    "With ratios of 1 a third of the variance comes from their denominators: all errors must know it."
    rng = np.random.default_rng(11)
    dates = pd.date_range("1900-01-31", periods=3000, freq="ME").as_unit("us")
    a, b = (pd.Series(rng.normal(0.04, 0.04, 3000), dates) for _ in range(2))
    closed = sharpe_difference(a, b, "jkm").se
    assert closed == pytest.approx(np.sqrt(3 / 3000), rel=0.05)
    assert sharpe_difference(a, b, "hac").se == pytest.approx(closed, rel=0.08)
    assert sharpe_difference(a, b, "waves").se == pytest.approx(closed, rel=0.15)


def test_size_under_the_null_quickly():
    "A seeded handful of worlds; scripts/calibrate.py stability measures it."
    ps = np.array([sharpe_difference(*pair(seed, 120)).p for seed in range(400)])
    assert 0.025 <= (ps <= 0.05).mean() <= 0.08 and 0.4 < np.median(ps) < 0.6


def test_the_stored_size_is_3_to_7_percent_where_months_are_independent():
    table = pd.DataFrame(json.loads((root() / "bench/results/stability_calibration.json").read_text())["rates"])
    waves = table[table["method"] == "waves"].set_index(["world", "months"])
    assert len(waves) == 6 and (waves["n"] == 2000).all()
    assert waves["rate"].drop("GARCH", level="world").between(0.03, 0.07).all()
    storms = table[(table["world"] == "GARCH") & (table["months"] == 377)]
    assert len(storms) == 4 and (storms["rate"] > 0.07).all(), "what the notebook says of storms is no longer so"


def test_differences_that_cannot_be_tested_say_why():
    a, b = pair(3)
    assert "19 common" in sharpe_difference(a.iloc[:19], b).reason
    assert "vary" in sharpe_difference(a, a).reason and "vary" in sharpe_difference(a * 0 + 0.01, b).reason
    for method in ("waves", "hac", "jkm", "bootstrap"):
        scaled = sharpe_difference(a, 2 * a, method)
        assert np.isnan(scaled.p) and "multiple" in scaled.reason, "a lever is no other Sharpe ratio"
    assert np.isnan(sharpe_difference(a, a).p) and sharpe_difference(a.iloc[:0], b.iloc[:0]).n_obs == 0
    assert sharpe_difference(a.where(a.index > a.index[9]), b).n_obs == 290
    with pytest.raises(ConfigError, match="method is 'exact'"):
        sharpe_difference(a, b, "exact")
    with pytest.raises(DataError, match="1 returns are infinite"):
        sharpe_difference(a.where(a.index != a.index[4], np.inf), b)
    with pytest.raises(PanelError, match="zone"):
        sharpe_difference(a.tz_localize("UTC"), b)


def test_the_spread_of_a_mean_is_its_error():
    "A rule that answers with the mean: the spread of the draws is s / sqrt(n) for independent returns."
    rng = np.random.default_rng(5)
    dates = pd.bdate_range("2015-01-01", periods=600).as_unit("us")
    returns = pd.DataFrame(rng.normal(0, [0.01, 0.03], (600, 2)), dates, ["A", "B"])
    spread = weight_stability(returns, lambda past: past.mean(axis=0), draws=400, block=1)
    assert spread.table()["spread"].to_numpy() == pytest.approx(np.array([0.01, 0.03]) / np.sqrt(600), rel=0.1)
    table = spread.table(0.5)
    assert (table["low"] < table["median"]).all() and (table["median"] < table["high"]).all()
    inside = ((spread.draws >= table["low"]) & (spread.draws <= table["high"])).mean()
    assert inside.to_numpy() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("method", ["stationary", "block"])
def test_draws_repeat_by_seed_and_follow_the_names(factors, method):
    part = factors.iloc[-120:]
    one = weight_stability(part, minimum_rule, 20, method)
    assert one.draws.equals(weight_stability(part, minimum_rule, 20, method).draws)
    assert not one.draws.equals(weight_stability(part, minimum_rule, 20, method, seed=8).draws)
    order = ["HML", "Mkt-RF", "SMB"]
    other = weight_stability(part[order], minimum_rule, 20, method)
    assert np.allclose(other.draws[list(part)], one.draws) and np.allclose(other.weights[list(part)], one.weights)
    assert np.allclose(one.draws.sum(axis=1), 1) and one.failed == 0 and one.reason == ""


def test_failures_are_counted_and_nonsense_refused(factors):
    short = weight_stability(factors.iloc[:6], minimum_rule, draws=30)
    assert short.failed > 0 and short.failed + len(short.draws) == 30 and "singular" in short.reason
    with pytest.raises(DataError, match="SMB has no finite return on 1963-09"):
        weight_stability(factors.assign(SMB=factors["SMB"].where(factors.index != factors.index[2])), equal_rule)
    with pytest.raises(DataError, match="sort them"):
        weight_stability(factors[::-1], equal_rule)
    with pytest.raises(DataError, match="shape"):
        weight_stability(factors[[]], equal_rule)
    for wrong in ({"method": "iid"}, {"draws": 1}, {"block": 0}, {"block": 500}):
        with pytest.raises(ConfigError, match="blocks within"):
            weight_stability(factors, equal_rule, **wrong)
    with pytest.raises(ConfigError, match="returns"):
        weight_stability(factors.iloc[:0], equal_rule)
    with pytest.raises(ConfigError, match="level"):
        weight_stability(factors, equal_rule, draws=2).table(1.0)
    one = weight_stability(factors[["SMB"]], minimum_rule, draws=5)
    assert (one.draws == 1).all(axis=None)
