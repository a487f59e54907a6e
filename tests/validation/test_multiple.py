"False discoveries against hand and simulation; the reality check, SPA and StepM against planted truth and their null."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from quantlab.core.errors import ConfigError, DataError
from quantlab.validation.inference import newey_west
from quantlab.validation.multiple import best_of, false_discoveries, superior


def strategies(rng, n=10, days=250, edge=0.0):
    "Correlated daily returns; the last two earn an edge."
    x = 0.01 * (rng.standard_normal((days, 1)) + rng.standard_normal((days, n))) / np.sqrt(2)
    x[:, -2:] += edge
    return pd.DataFrame(x, pd.bdate_range("2015-01-01", periods=days, unit="us"), [f"s{i}" for i in range(n)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=30),
    st.sampled_from(["bh", "by"]),
    st.sampled_from([0.05, 0.2]),
)
def test_step_up_rule_by_hand(ps, method, rate):
    p = pd.Series(ps, dtype=float)
    got, known = false_discoveries(p, rate, method), np.sort(p.dropna())
    m = len(known)
    level = rate / sum(1 / i for i in range(1, m + 1)) if method == "by" and m else rate
    passed = np.flatnonzero(known <= level * np.arange(1, m + 1) / max(m, 1) + 1e-15)
    cut = known[passed[-1]] if len(passed) else -1.0
    assert got.n_tests == m and got.adjusted.isna().equals(p.isna())
    assert not got.found[p.isna()].any()
    clear = (got.adjusted - rate).abs() > 1e-9  # not on the edge itself
    assert (got.found == (p <= cut))[clear].all()


def test_false_discovery_rate_is_kept():
    rng, shares, found = np.random.default_rng(1), {"bh": [], "by": []}, 0
    true = np.arange(200) < 30
    for _ in range(200):
        p = pd.Series(2 * norm.sf(abs(rng.standard_normal(200) + 3 * true)))
        for method in shares:
            hit = false_discoveries(p, 0.1, method).found.to_numpy()
            shares[method].append((hit & ~true).sum() / max(hit.sum(), 1))
            found += (hit & true).sum() * (method == "bh")
    assert 0.06 < np.mean(shares["bh"]) < 0.11 and np.mean(shares["by"]) < np.mean(shares["bh"]) / 2
    assert found / 200 / 30 > 0.6


def test_no_p_values():
    for bad in ({"a": -0.1}, {"a": 1.1}, {"a": np.inf}):
        with pytest.raises(DataError, match="at 'a'"):
            false_discoveries(pd.Series(bad))
    for options in ({"method": "holm"}, {"rate": 0.0}, {"rate": 1.0}):
        with pytest.raises(ConfigError):
            false_discoveries(pd.Series([0.1]), **options)


def test_best_of_worthless_strategies_is_rejected_as_often_as_promised():
    rng, ps = np.random.default_rng(2), []
    for seed in range(100):
        x = strategies(rng, days=500)
        test = best_of(x, draws=199, seed=seed)
        alone = x[test.best]
        ps.append([test.p_reality, test.p_spa, norm.sf(alone.mean() / alone.sem())])
    reality, spa, lone = (np.array(ps) <= 0.1).mean(axis=0)
    assert reality <= 0.2 and spa <= 0.2 and lone >= 0.3  # 10 % plus three errors; the best taken alone
    assert (np.array(ps)[:, 1] <= 0.5).mean() >= 0.36


def test_planted_strategies_are_found_and_named():
    rng = np.random.default_rng(3)
    tests, named = [], []
    for seed in range(15):
        x = strategies(rng, days=500, edge=0.002)
        tests.append(best_of(x, draws=199, seed=seed))
        named.append(set(superior(x, draws=199, seed=seed)))
    assert np.mean([t.p_spa <= 0.05 for t in tests]) > 0.8 and np.mean([t.p_reality <= 0.05 for t in tests]) > 0.8
    assert all(t.best in ("s8", "s9") for t in tests)
    assert np.mean([len(n & {"s8", "s9"}) for n in named]) > 1.4 and sum(bool(n - {"s8", "s9"}) for n in named) <= 3


def test_hopeless_strategies_blunt_the_reality_check_only():
    x = strategies(np.random.default_rng(4), n=4, days=500, edge=0.0015)
    noisy = pd.DataFrame(
        np.random.default_rng(5).standard_normal((500, 30)) * 0.05 - 0.02, x.index, [f"bad{i}" for i in range(30)]
    )
    alone, crowd = best_of(x), best_of(x.join(noisy))
    assert crowd.p_spa < 0.1 and crowd.p_reality > alone.p_reality + 0.1 and abs(crowd.p_spa - alone.p_spa) < 0.05


def test_p_values_are_those_of_arch_on_studentized_columns():
    from arch.bootstrap import SPA

    x = strategies(np.random.default_rng(9), n=5, edge=0.001)
    x["s0"] = 8 * (x["s0"] - x["s0"].mean())  # a wild one without merit, which studentizing tames
    errors = [newey_west(x[name].to_numpy(), 8) for name in x]
    got = best_of(x, draws=499, seed=4)
    for found, gains, which in ((got.p_reality, x, "upper"), (got.p_spa, x / errors, "consistent")):
        test = SPA(np.zeros(250), -gains.to_numpy(), block_size=8, reps=499, seed=4)
        test.compute()
        assert found == pytest.approx((1 + 499 * test.pvalues[which]) / 500)
    assert got.p_spa < got.p_reality - 0.05


def test_leverage_does_not_matter_to_the_studentized_tests():
    x = strategies(np.random.default_rng(10), days=500, edge=0.002)
    levered = x * np.arange(1, 11)
    assert best_of(levered, draws=199).p_spa == best_of(x, draws=199).p_spa and superior(
        levered, draws=199
    ) == superior(x, draws=199)
    assert best_of(levered, draws=199).p_reality != best_of(x, draws=199).p_reality


def test_benchmark_is_taken_off_on_common_dates():
    x = strategies(np.random.default_rng(6), edge=0.002)
    market = pd.Series(np.random.default_rng(7).standard_normal(250) / 50, x.index)
    shifted = best_of(x.add(market, axis=0), market.iloc[:-20], draws=99)
    plain = best_of(x.iloc[:-20], draws=99)
    assert shifted.n_obs == 230 and shifted.p_spa == plain.p_spa and shifted.mean == pytest.approx(plain.mean)
    assert superior(x.add(market, axis=0), market, draws=99) == superior(x, draws=99)


def test_degenerate_strategies():
    x = strategies(np.random.default_rng(8))
    assert "needs 20" in best_of(x.iloc[:10]).reason and np.isnan(best_of(x.iloc[:10]).p_spa)
    assert "s0 never differs" in best_of(x.assign(s0=0.01)).reason and best_of(x.iloc[:0]).n_obs == 0
    one = best_of(x[["s0"]], draws=99)
    assert one.n_strategies == 1 and 0 < one.p_spa <= 1
    for bad in (x.mask(x > 0.02), x.where(x < 0.02, np.inf), x[[]], x["s0"], x.set_axis(["s"] * 10, axis=1)):
        with pytest.raises(DataError):
            best_of(bad)
    with pytest.raises(DataError, match="cannot compare"):
        superior(x.iloc[:10])
