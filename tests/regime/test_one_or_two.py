"One state or two: each part against a peer, planted worlds, the size that is stored, and what is refused."

import json

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from hmmlearn.hmm import GaussianHMM

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.regime.bootstrap import draw_garch, fit_garch, fit_two_states, is_it_a_regime, two_state_gain


def garch(n=1000, seed=0, alpha=0.08, beta=0.90, shocks=None):
    rng, h, path = np.random.default_rng(seed), 1e-4, np.empty(n)
    shocks = rng.standard_normal(n) if shocks is None else shocks
    for t in range(n):
        path[t] = np.sqrt(h) * shocks[t]
        h = 1e-4 * (1 - alpha - beta) + alpha * path[t] ** 2 + beta * h
    return 4e-4 + path


def switching(n=1000, seed=0, calm=0.006, wild=0.018):
    rng, state = np.random.default_rng(seed), np.zeros(n, int)
    for t in range(1, n):
        state[t] = state[t - 1] ^ (rng.random() < (0.01, 0.025)[state[t - 1]])
    return rng.normal(np.array([6e-4, -5e-4])[state], np.array([calm, wild])[state])


def dated(x):
    return pd.Series(x, pd.bdate_range("2015-01-01", periods=len(x)).as_unit("us"))


@pytest.mark.parametrize("seed", range(4))
def test_garch_is_that_of_arch(seed):
    x = garch(seed=seed)
    ours, theirs = fit_garch(x), arch_model(100 * x, rescale=False).fit(disp="off")
    assert ours.log_density.sum() == pytest.approx(theirs.loglikelihood + len(x) * np.log(100), abs=0.02)
    assert ours.log_density.sum() > theirs.loglikelihood + len(x) * np.log(100) - 1e-3
    assert ours.params[2:] == pytest.approx(theirs.params.to_numpy()[2:], abs=0.01)
    assert ours.shocks.mean() == pytest.approx(0, abs=1e-12) and ours.shocks.std() == pytest.approx(1)
    theirs = theirs.std_resid / np.std(theirs.std_resid)
    assert np.corrcoef(ours.shocks, theirs)[0, 1] > 0.999


@pytest.mark.parametrize("seed", range(2))
def test_two_states_are_those_of_hmmlearn(seed):
    x = switching(seed=seed)
    ours, z = fit_two_states(x, n_iter=3000, tol=1e-8), ((x - x.mean()) / x.std())[:, None]
    fits = [
        GaussianHMM(2, n_iter=600, tol=1e-7, covars_prior=0, covars_weight=0, random_state=s).fit(z) for s in range(2)
    ]
    best = max(fits, key=lambda m: m.score(z))
    assert ours.log_density.sum() == pytest.approx(best.score(z) - len(x) * np.log(x.std()), abs=1e-3)
    order = np.argsort(best.covars_[:, 0, 0])
    assert ours.deviations == pytest.approx(np.sqrt(best.covars_[order, 0, 0]) * x.std(), rel=1e-3)
    assert ours.means == pytest.approx(x.mean() + x.std() * best.means_[order, 0], abs=1e-5)
    assert ours.moves == pytest.approx(best.transmat_[np.ix_(order, order)], abs=1e-3)


def test_parts_do_not_depend_on_the_unit():
    x = switching(seed=5)
    for fit in (fit_garch, fit_two_states):
        a, b = fit(x).log_density, fit(100 * x).log_density
        assert b == pytest.approx(a - np.log(100), abs=1e-6)
    gains = [two_state_gain(k * x, np.random.default_rng(0), 3)[0] for k in (1, 100)]
    assert gains[0] == pytest.approx(gains[1], abs=1e-4)


def test_a_drawn_market_has_the_garch_it_was_drawn_from():
    one = fit_garch(garch(6000, seed=3, alpha=0.1, beta=0.85))
    drawn = [fit_garch(draw_garch(one, np.random.default_rng(s))).params for s in range(8)]
    assert np.mean(drawn, axis=0)[2:] == pytest.approx(one.params[2:], abs=0.03)
    assert set(np.round(one.shocks, 9)) >= set(np.round(np.random.default_rng(0).choice(one.shocks, 50), 9))


def test_planted_worlds_are_told_apart():
    two = is_it_a_regime(dated(switching(seed=1)), draws=39, inner=3)
    assert two.p <= 0.05 and two.gain > np.quantile(two.null, 0.95)
    assert two.states["deviation"].to_numpy() == pytest.approx([0.006, 0.018], rel=0.15)
    assert (two.states["expected_stay"] > 15).all()
    ps = [is_it_a_regime(dated(garch(seed=s)), draws=19, inner=3).p for s in range(6)]
    assert np.median(ps) > 0.15 and min(ps) >= 0.05
    assert two.p == (1 + (two.null >= two.gain).sum()) / 40


def test_the_answer_is_the_same_twice_and_follows_its_seed():
    x = dated(garch(400, seed=2))
    a, b, c = (is_it_a_regime(x, draws=9, inner=2, seed=s) for s in (0, 0, 1))
    assert a.gain == b.gain and np.array_equal(a.null, b.null) and not np.array_equal(a.null, c.null)
    assert a.garch.index.tolist() == ["mean", "omega", "alpha", "beta"] and len(a.null) == 9


def test_one_wild_day_is_not_a_state():
    x = 0.01 * np.random.default_rng(4).standard_normal(500)
    x[250] = 1.0
    two = fit_two_states(x)
    assert (two.deviations >= 0.1 * x.std() * (1 - 1e-9)).all() and np.isfinite(two.log_density).all()


def test_the_stored_size_is_within_bounds_and_stands_beside_its_power():
    stored = json.loads((root() / "bench" / "results" / "regime_calibration.json").read_text())
    table = pd.DataFrame(stored["rates"]).pivot(index="world", columns="method", values="rate")
    assert stored["about"]["seeds"] >= 1000
    assert (
        table.loc[["one regime, GARCH", "one regime, GARCH with fat tails"], "two_state_gain"].between(0.03, 0.07).all()
    )
    assert table.loc["two regimes, far apart", "two_state_gain"] > 0.8
    assert table.loc["one regime, GARCH", "BIC"] > 0.8  # why the test is needed


@pytest.mark.slow
def test_size_and_power_again_in_fresh_worlds():
    "Warp speed: one bootstrap market a world. 300 worlds each, so the size lies within 5 % +- 4 %."
    rates = {}
    for kind in (garch, switching):
        pairs = []
        for seed in range(300):
            rng = np.random.default_rng(10_000 + seed)
            gain, one = two_state_gain(kind(seed=20_000 + seed), rng, 5)
            pairs.append((gain, two_state_gain(draw_garch(one, rng), rng, 5)[0]))
        gains, null = np.array(pairs).T
        rates[kind.__name__] = (gains > np.quantile(null, 0.95)).mean()
    assert 0.01 <= rates["garch"] <= 0.10 and rates["switching"] > 0.8


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: is_it_a_regime(x[:249]), DataError),
        (lambda x: is_it_a_regime(x[:0]), DataError),
        (lambda x: is_it_a_regime(x[:1]), DataError),
        (lambda x: is_it_a_regime(x * 0), DataError),
        (lambda x: is_it_a_regime(x * 0 + 0.1), DataError),
        (lambda x: is_it_a_regime(x * np.nan), DataError),
        (lambda x: is_it_a_regime(x * np.inf), DataError),
        (lambda x: is_it_a_regime(x.to_frame()), DataError),
        (lambda x: is_it_a_regime(x.iloc[::-1]), PanelError),
        (lambda x: is_it_a_regime(x, draws=0), ConfigError),
        (lambda x: is_it_a_regime(x, inner=0), ConfigError),
    ],
)
def test_what_cannot_be_tested_is_refused(call, error):
    with pytest.raises(error):
        call(dated(garch(400)))
