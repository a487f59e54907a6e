"The daily solvers against skfolio and closed forms, and random requests that cannot be met."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.portfolio.optimise import (
    black_litterman,
    equal_risk,
    hrp_weights,
    min_variance,
    skfolio_weights,
    views_from_scores,
)


def past(rows=150, names=15, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, names)) * rng.uniform(0.005, 0.02, names) + rng.normal(size=(rows, 1)) * 0.008
    return pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=rows), [f"S{i:02d}" for i in range(names)])


@pytest.mark.parametrize("seed", range(3))
def test_the_answers_are_those_of_skfolio(seed):
    pytest.importorskip("skfolio")
    r = past(seed=seed)
    S = r.cov() * 252
    tight = {"solver_params": {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13}}
    peer, ours = skfolio_weights(r, "mean_risk", max_weights=0.2, **tight), min_variance(S, upper=0.2)
    assert (peer - ours).abs().max() < 1e-4 and abs(ours @ S @ ours / (peer @ S @ peer) - 1) < 1e-6
    assert (skfolio_weights(r, "risk_budgeting", **tight) - equal_risk(S)).abs().max() < 1e-4
    assert (skfolio_weights(r, "hrp") - hrp_weights(S)).abs().max() < 1e-10


@given(
    seed=st.integers(0, 10**6), rows=st.integers(3, 60), names=st.integers(1, 25), budget=st.floats(-1.2, 1.2),
    low=st.floats(-0.5, 0.1), high=st.floats(0.0, 0.7), gross=st.one_of(st.none(), st.floats(0.2, 3.0)),
)  # fmt: skip
@settings(max_examples=60)
def test_random_boxes_are_kept_or_refused(seed, rows, names, budget, low, high, gross):
    S = past(rows, names, seed).cov() * 252
    try:
        w = min_variance(S, low, high, budget, gross)
    except ConfigError:
        return
    assert abs(w.sum() - budget) < 1e-5 and w.min() >= low - 1e-6 and w.max() <= high + 1e-6
    assert gross is None or w.abs().sum() <= gross + 1e-5
    rng = np.random.default_rng(seed)
    for _ in range(20):  # nobody in the box is better along a feasible direction
        i, j = rng.integers(0, names, 2)
        step = np.zeros(names)
        step[i] += 1e-3
        step[j] -= 1e-3
        other = w + step
        inside = other.min() >= low and other.max() <= high and (gross is None or other.abs().sum() <= gross)
        assert not inside or other @ S @ other >= w @ S @ w - 1e-7 * np.diag(S).mean()


@pytest.mark.parametrize("solver", [min_variance, equal_risk, hrp_weights])
@pytest.mark.parametrize("kind", ["short", "ill", "twins", "one"])
def test_singular_and_ill_conditioned_matrices_have_weights(solver, kind):
    r = past(8 if kind == "short" else 150, 1 if kind == "one" else 15)
    if kind == "ill":
        r = r * np.geomspace(1e-4, 1, 15)
    if kind == "twins":
        r["S14"] = r["S13"]
    w = solver(r.cov())
    assert np.isfinite(w).all() and np.isclose(w.sum(), 1) and w.min() >= 0


def test_the_example_of_maillard_roncalli_and_teiletche():
    pairs = np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, -0.5], [0, 0, -0.5, 1]])
    sd = np.array([0.1, 0.2, 0.3, 0.4])
    S = pd.DataFrame(pairs * np.outer(sd, sd), list("ABCD"), list("ABCD"))
    assert (100 * equal_risk(S)).round(1).tolist() == [38.4, 19.2, 24.3, 18.2]
    w = equal_risk(S, pd.Series([0.4, 0.3, 0.2, 0.1], list("ABCD")))
    assert np.allclose(w * (S @ w) / (w @ S @ w), [0.4, 0.3, 0.2, 0.1])


def test_a_certain_view_is_met_and_a_doubted_one_is_not_heard():
    S, market = past().cov() * 252, pd.Series(1 / 15, past().columns)
    view = pd.DataFrame(np.eye(1, 15), ["first"], S.index)
    told = black_litterman(S, market, view, pd.Series([0.5], ["first"]), pd.Series([0.0], ["first"]))
    assert np.isclose(told.expected["S00"], 0.5)
    deaf = black_litterman(S, market, view, pd.Series([0.5], ["first"]), pd.Series([1e9], ["first"]))
    assert np.allclose(deaf.expected, deaf.prior, atol=1e-9) and np.allclose(deaf.prior, 2.5 * S @ market)
    assert np.allclose(deaf.covariance, 1.05 * S)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda S: min_variance(S.iloc[:, :3]), PanelError, "same symbols"),
        (lambda S: min_variance(S * np.nan), DataError, "covariance of S00 and S00"),
        (lambda S: min_variance(-S), DataError, "semi-definite"),
        (lambda S: min_variance(S * 0), DataError, "zero"),
        (lambda S: min_variance(S, upper=pd.Series({"S00": 1.0})), PanelError, "upper has no number for S01"),
        (lambda S: min_variance(S, lower=0.3, upper=0.2), ConfigError, "no weights sum"),
        (lambda S: equal_risk(S, pd.Series(0.0, S.index)), ConfigError, "not above 0"),
        (lambda S: hrp_weights(S, "centroid"), ConfigError, "linkage"),
        (lambda S: views_from_scores(S["S00"] * 0, S["S00"] * 0, S, S["S00"]), DataError, "do not differ"),
        (lambda S: skfolio_weights(past().iloc[:0], "hrp"), DataError, "no row"),
        (lambda S: skfolio_weights(past(), "magic"), ConfigError, "no estimator"),
    ],
)
def test_degenerate_requests_have_one_clear_error(call, error, word):
    with pytest.raises(error, match=word):
        call(past().cov())
