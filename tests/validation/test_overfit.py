"Probability of backtest overfitting: against brute force, calibrated on noise, near zero for real skill."

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.validation.overfit import pbo, pbo_null


def brute_force(returns, n_blocks):
    "The definition, half by half, with pandas."
    blocks = [returns.iloc[len(returns) * k // n_blocks : len(returns) * (k + 1) // n_blocks] for k in range(n_blocks)]
    rows = []
    for half in combinations(range(n_blocks), n_blocks // 2):
        inside = pd.concat([blocks[k] for k in half])
        outside = pd.concat([blocks[k] for k in range(n_blocks) if k not in half])
        seen, then = inside.mean() / inside.std(), outside.mean() / outside.std()
        best = seen.idxmax()
        omega = then.rank()[best] / (len(then) + 1)
        rows.append((best, seen[best], then[best], np.log(omega / (1 - omega))))
    return pd.DataFrame(rows, columns=["chosen", "in_sample", "out_of_sample", "logit"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.sampled_from([2, 4, 6]), st.integers(12, 60))
def test_equals_brute_force(seed, n_tries, n_blocks, n_dates):
    rng = np.random.default_rng(seed)
    returns = pd.DataFrame(
        rng.standard_normal((n_dates, n_tries)) * 0.01 + 0.002 * rng.standard_normal(n_tries),
        columns=[f"t{i}" for i in range(n_tries)],
    )
    got, want = pbo(returns, n_blocks), brute_force(returns, n_blocks)
    assert got.splits["chosen"].tolist() == want["chosen"].tolist()
    for column in ("in_sample", "out_of_sample", "logit"):
        assert np.allclose(got.splits[column], want[column])
    assert got.pbo == pytest.approx((want["logit"] <= 1e-12).mean()) and got.loss == pytest.approx(
        (want["out_of_sample"] < 0).mean()
    )
    assert got.slope == pytest.approx(np.polyfit(want["in_sample"], want["out_of_sample"], 1)[0])


def test_one_half_on_noise():
    "Over 250 searches without skill the mean is one half; the null of one of them says so too."
    rng = np.random.default_rng(1)
    found = [pbo(pd.DataFrame(rng.standard_normal((160, 20))), 8).pbo for _ in range(250)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / 250**0.5)
    assert np.std(found) > 0.15  # one search alone may show anything
    null = pbo_null(pd.DataFrame(rng.standard_normal((160, 20))), 8, draws=150)
    assert null.mean() == pytest.approx(0.5, abs=0.05) and np.std(null) == pytest.approx(np.std(found), rel=0.25)
    assert (
        pbo_null(pd.DataFrame(rng.standard_normal((40, 4))), 4, draws=5)
        == pbo_null(pd.DataFrame(np.random.default_rng(2).standard_normal((40, 4))), 4, draws=5)
    ).shape == (5,)


def test_near_zero_when_one_is_truly_better():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(20):
        x = rng.standard_normal((1000, 50))
        x[:, 7] += 0.2
        found.append(pbo(pd.DataFrame(x), 10))
    assert np.mean([f.pbo for f in found]) < 0.02 and np.mean([f.loss for f in found]) < 0.02
    assert all(f.splits["chosen"].mode()[0] == 7 for f in found)


def test_near_one_when_the_best_of_one_half_must_fall():
    "Every try has the same total, so what one half gives the other takes."
    x = np.random.default_rng(4).standard_normal((400, 30))
    got = pbo(pd.DataFrame(x - x.mean(axis=0)), 10)
    assert got.pbo > 0.95 and got.slope < -0.9 and got.loss > 0.95


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_free_of_scale_and_of_order(seed, scale):
    x = pd.DataFrame(np.random.default_rng(seed).standard_normal((80, 6)), columns=list("abcdef"))
    base = pbo(x, 4)
    assert pbo(x * scale, 4).pbo == base.pbo == pbo(x[list("fbdace")], 4).pbo
    dated = x.set_axis(pd.bdate_range("2024-01-01", periods=80))
    assert (
        pbo(pd.concat([dated, dated.shift(1, freq="D").iloc[-1:].assign(a=np.nan)]), 4).pbo == base.pbo
    )  # a date that lacks one is not used


def test_degenerate_and_refused():
    x = pd.DataFrame(np.random.default_rng(5).standard_normal((64, 4)))
    for bad in (x.iloc[:0], x.iloc[:1], x.iloc[:31], x[[0]], x * np.nan, x.assign(a=np.inf)):
        with pytest.raises(DataError, match="common dates"):
            pbo(bad)
    with pytest.raises(DataError, match="never varies"):
        pbo(x.assign(flat=0.001))
    for blocks in (0, 1, 3, 18, 4.0, -2):
        with pytest.raises(ConfigError, match="n_blocks"):
            pbo(x, blocks)
    idle = x.copy()
    idle.iloc[:32, 0] = 0.0  # no position in the first half: its ratio there is 0, not an error
    got = pbo(idle, 2)
    assert np.isfinite(got.splits[["in_sample", "out_of_sample", "logit"]]).all(axis=None)


@pytest.mark.parametrize("change", [lambda t: t.iloc[:0], lambda t: t.iloc[:31], lambda t: t * np.nan])
def test_too_few_common_dates_are_refused(change):
    tries = pd.DataFrame(np.random.default_rng(5).normal(0, 0.01, (200, 4)), columns=list("abcd"))
    with pytest.raises(DataError, match="on 32 common dates"):
        pbo(change(tries))
    with pytest.raises(DataError, match="on 32 common dates"):
        pbo(tries.assign(x=np.inf))
    for call in (lambda: pbo(tries, 18), lambda: pbo_null(tries, 4.0)):
        with pytest.raises(ConfigError, match="even number"):
            call()


def test_twins_share_the_middle_rank():
    line = np.random.default_rng(5).normal(0, 0.01, 200)
    twins = pbo(pd.DataFrame({"a": line, "b": line}))
    assert twins.pbo == 1.0 and np.allclose(twins.splits["logit"], 0)


def test_a_try_that_sleeps_in_one_half_has_the_ratio_0_there():
    swap = pd.DataFrame({"A": [0.02, 0.01, -0.02, -0.01], "B": [-0.02, -0.01, 0.02, 0.01]})
    sleeping = swap.assign(C=[0.0, 0.0, 0.03, 0.029])
    assert pbo(sleeping, 2).splits["chosen"].tolist() == ["A", "C"]
