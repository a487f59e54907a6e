"Makers of markets: one form, planted parameters come back, and nothing after the fit is known."

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.generate import (
    GENERATORS,
    Generator,
    _moving,
    fit_block_bootstrap,
    fit_garch_margins,
    fit_garch_market,
    fit_generator,
    fit_heston_market,
    fit_moving_correlation,
    fit_regime_market,
    fit_seen_variance,
    garch_returns,
    made_by,
)
from quantlab.deep.learned import fit_vine_market
from quantlab.pricing.exotics import heston_paths
from quantlab.pricing.heston import HestonModel

LAW = pd.DataFrame({"mu": 0.0005, "omega": 2e-6, "alpha": 0.08, "beta": 0.9}, list("ABC"))


def world(n: int, seed: int) -> pd.DataFrame:
    root = np.linalg.cholesky(0.5 * np.eye(3) + 0.5)
    z = np.random.default_rng(seed).standard_normal((1, n, 3)) @ root.T
    x = garch_returns(LAW, z, np.full(3, 1e-4))[0]
    return pd.DataFrame(x, pd.bdate_range("2000-01-03", periods=n, name="date"), list("ABC"))


PAST = world(1500, 1)
MAKERS = GENERATORS


@pytest.mark.parametrize("method", MAKERS)
def test_every_maker_has_the_form_and_repeats_itself(method):
    made = fit_generator(PAST, method, MAKERS)
    out = made.generate(40, 3, seed=2)
    assert out.index.names == ["path", "date"] and list(out) == list(PAST) and len(out) == 120
    assert out.index.get_level_values("date").min() > PAST.index[-1] == made.until
    assert np.isfinite(out).all(axis=None) and (out > -1).all(axis=None)
    pd.testing.assert_frame_equal(out, fit_generator(PAST, method, MAKERS).generate(40, 3, seed=2))
    assert not out.equals(made.generate(40, 3, seed=3)) and not out.loc[0].equals(out.loc[1])


@pytest.mark.parametrize("method", MAKERS)
def test_what_is_made_has_the_volatility_and_correlation_of_the_days(method):
    out = fit_generator(PAST, method, MAKERS).generate(1500, 4)
    assert (out.std() / PAST.std()).between(0.75, 1.3).all()
    assert abs(out.corr().to_numpy() - PAST.corr().to_numpy()).max() < 0.12
    assert abs(out.mean() - PAST.mean()).max() < 5 * 0.01 / 6000**0.5 + 1e-4


def knows_only_its_days(fit) -> bool:
    "Fit on a part of a frame, with one future behind it and with another, which comes after the fit; ask the same."
    made = []
    for wilder in (1.0, 30.0, np.nan):
        days = world(1700, 1).to_numpy().copy()
        days[1500:] *= wilder
        dates = pd.bdate_range("2000-01-03", periods=1700, name="date")
        known = pd.DataFrame(days, dates, list("ABC"), copy=False).iloc[:1500]
        assert np.shares_memory(known.to_numpy(), days), "the part is a window on the whole, or nothing could leak"
        maker = fit(known)
        made.append(maker.generate(20))
        days[:] = 0.5
        made.append(maker.generate(20))
    return all(out.equals(made[0]) for out in made)


@pytest.mark.parametrize("method", GENERATORS)
def test_days_after_the_fit_change_nothing(method):
    assert knows_only_its_days(GENERATORS[method])


def of_the_whole(x: np.ndarray) -> np.ndarray:
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def reads_ahead(returns: pd.DataFrame):
    spread = float(np.nan_to_num(of_the_whole(returns.to_numpy())).std())
    return made_by(returns, "ahead", lambda n, paths, rng: rng.normal(0, spread, (paths, n, 3)), {})


def reads_when_it_draws(returns: pd.DataFrame):
    x = returns.to_numpy()
    return made_by(returns, "late", lambda n, paths, rng: x[rng.integers(0, len(x), (paths, n))], {})


@pytest.mark.parametrize("leak", [reads_ahead, reads_when_it_draws])
def test_a_planted_leak_is_seen(leak):
    assert not knows_only_its_days(leak)


@pytest.mark.parametrize("freq", ["W-FRI", "D", "B"])
def test_made_days_keep_the_spacing_of_the_fit(freq):
    dates = pd.date_range("2000-01-07", periods=len(PAST), freq=freq, name="date")
    later = pd.date_range(dates[-1], periods=31, freq=freq)[1:]
    made = fit_block_bootstrap(PAST.set_axis(dates)).generate(30, 2)
    assert list(made.loc[1].index) == list(later) and made.index.names == ["path", "date"]


def test_symbols_are_a_list_of_the_names_that_were_given():
    numbered = fit_block_bootstrap(PAST.set_axis([1, 2, 3], axis=1))
    assert numbered.symbols == [1, 2, 3] and list(numbered.generate(5)) == [1, 2, 3]
    with pytest.raises(ConfigError, match="give a list"):
        Generator("mine", "ABC", PAST.index, numbered.params, numbered.draw)
    with pytest.raises(DataError, match="two dates"):
        made_by(PAST.reset_index(drop=True), "mine", numbered.draw, {})


def test_importing_the_makers_brings_no_hidden_states():
    code = "import sys, quantlab.deep.generate; sys.exit('hmmlearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root())}).returncode == 0


def test_the_bootstrap_strings_real_days_together_in_blocks():
    rows = {row: i for i, row in enumerate(map(tuple, PAST.to_numpy()))}
    made = fit_block_bootstrap(PAST, 10).generate(6000)
    at = np.array([rows[tuple(row)] for row in made.to_numpy()])
    assert ((np.diff(at) % len(PAST)) != 1).mean() == pytest.approx(0.1, abs=0.012)


def test_planted_garch_parameters_lie_within_their_errors():
    held = []
    for seed in range(4):
        value, se, z = fit_garch_margins(world(2500, seed + 10))
        held.append((abs(value - LAW) < 2.5 * se).to_numpy())
        assert z.mean(axis=0) == pytest.approx(0, abs=1e-9) and z.std(axis=0) == pytest.approx(1)
    assert np.mean(held) >= 0.9


def test_a_path_of_the_fitted_maker_is_fitted_back():
    made = fit_garch_market(PAST)
    value, se, _ = fit_garch_margins(np.log1p(made.generate(3000).loc[0]))
    for name in LAW.index:
        first = made.params.loc[f"beta {name}", "value"]
        assert abs(value.at[name, "beta"] - first) < 4 * se.at[name, "beta"]


def test_moving_correlation_is_the_recursion_and_constant_ones_do_not_move():
    z = np.random.default_rng(3).standard_normal((50, 2))
    q, level = _moving(z, 0.05, 0.9), np.array([*(z**2).mean(axis=0), (z[:, 0] * z[:, 1]).mean()])
    now = level
    for t in range(50):
        assert q[t, 0] == pytest.approx(now)
        now = 0.05 * level + 0.05 * np.array([z[t, 0] ** 2, z[t, 1] ** 2, z[t, 0] * z[t, 1]]) + 0.9 * now
    assert fit_moving_correlation(z[:, :1]) == (0.0, 0.0)
    steady = np.random.default_rng(4).multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 3000)
    assert fit_moving_correlation(steady / steady.std(axis=0))[0] < 0.02
    dynamic = fit_garch_market(PAST, "dynamic").generate(1500, 2)
    assert abs(dynamic.corr().to_numpy() - PAST.corr().to_numpy()).max() < 0.15


def test_regimes_take_whole_days_and_keep_their_stays():
    rng = np.random.default_rng(5)
    state = np.repeat([0, 1] * 10, 75)
    x = np.where(state[:, None] == 0, 0.005, 0.03) * rng.standard_normal((1500, 2))
    made = fit_regime_market(pd.DataFrame(x, PAST.index, ["A", "B"]))
    assert made.params["value"].between(40, 140).all()
    out = made.generate(500)
    day = {tuple(row) for row in x}
    assert all(tuple(row) in day for row in out.to_numpy())


def test_heston_numbers_come_back_from_a_seen_variance():
    held, truth = [], np.array([5.0, 0.04, 0.4, -0.6])
    for seed in range(6):
        drawn = heston_paths(HestonModel(0.04, 0.04, 5.0, 0.4, -0.6), 1, 0, 0, np.arange(2521) / 252, 4, seed)
        found = fit_seen_variance(drawn.variance[0], np.diff(np.log(drawn.spot[0])))
        held.append(abs(found["value"] - truth) < 2.5 * found["se"])
    assert np.mean(held) >= 0.85


def test_paths_of_heston_are_not_mirrors_of_each_other():
    out = fit_heston_market(PAST).generate(800, 4)
    market = out.mean(axis=1).unstack("path").corr().to_numpy()
    assert abs(market - np.eye(4)).max() < 0.2


def test_a_vine_keeps_falls_together_that_a_normal_loses():
    pytest.importorskip("pyvinecopulib", reason="pip install -e '.[vine]'")
    rng = np.random.default_rng(6)
    shared = rng.gamma(1.0, size=(1500, 1))
    clayton = (1 - np.log(rng.random((1500, 2))) / shared) ** -1.0  # uniform, together below
    x = pd.DataFrame(0.02 * (clayton - 0.5), PAST.index, ["A", "B"])
    made = fit_vine_market(x, "empirical").generate(1500, 4)
    both = lambda f, low: ((f.rank(pct=True) < 0.05) if low else (f.rank(pct=True) > 0.95)).all(axis=1).mean() / 0.05
    assert both(made, True) > 0.4 and both(made, False) < 0.25
    assert abs(both(made, True) - both(x, True)) < 0.12
    with pytest.raises(ConfigError, match="two symbols"):
        fit_vine_market(x[["A"]])
    assert fit_vine_market(PAST).generate(30, 2).equals(fit_vine_market(PAST).generate(30, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fit_generator(PAST, "bootstrp"), "did you mean 'bootstrap'"),
        (lambda: fit_generator(PAST, "zzz"), "use bootstrap, garch, regime, heston"),
        (lambda: fit_block_bootstrap(PAST, 0.5), "block is 0.5"),
        (lambda: fit_garch_market(PAST, "moving"), "correlation is 'moving'"),
        (lambda: fit_block_bootstrap(PAST).generate(0), "ask for one"),
        (lambda: fit_vine_market(PAST, "normal"), "margins is 'normal'"),
    ],
)
def test_slips_are_refused(call, said):
    with pytest.raises(ConfigError, match=said):
        call()


@pytest.mark.parametrize("method", MAKERS)
def test_frames_without_a_market_are_refused(method):
    for bad in (PAST.iloc[:0], PAST.iloc[:1], PAST.assign(A=0.0), PAST.assign(A=np.nan), PAST.assign(A=np.inf)):
        with pytest.raises(DataError):
            fit_generator(bad, method, MAKERS)


def test_one_symbol_is_a_market():
    for method in MAKERS:
        assert fit_generator(PAST[["A"]], method, MAKERS).generate(5).shape == (5, 1)
