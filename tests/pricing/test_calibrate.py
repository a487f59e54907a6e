"pricing.calibrate: the truth is found, intervals end where they should, misfit is told, and the shared SPX chain."

import os

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.pricing.calibrate import (
    QUOTE_COLUMNS,
    _Problem,
    _to_free,
    check_quotes,
    fit_heston,
    heston_ridge,
    simulate_quotes,
    thin_quotes,
)
from quantlab.pricing.chain import chain_from_contracts, chain_volatilities, parity_forwards, usable_quotes
from quantlab.pricing.heston import HestonModel

CHAIN = os.path.join(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"), "data", "options")
CHAIN = os.path.join(CHAIN, "SPX_chain_2026-02-01.csv")
TRUTH, YEARS = HestonModel(0.04, 0.05, 2.5, 0.7, -0.65), (0.1, 0.25, 0.5, 1.0, 2.0)


def test_quotes_without_noise_give_the_truth_from_each_start():
    quotes = simulate_quotes(TRUTH, YEARS, seed=0, half_spread=1e-6)
    for error in ("spread", "volatility"):
        fit = fit_heston(quotes, error, profile=False)
        assert np.allclose(fit.starts.iloc[:, :5], TRUTH.numbers[:5], rtol=2e-3)
        assert fit.rmse < 1e-5 and "low" not in fit.table
    assert np.allclose(fit_heston(quotes, profile=False, start=TRUTH).model.numbers[:5], TRUTH.numbers[:5], rtol=1e-3)


@pytest.mark.parametrize("jumps", [False, True])
@pytest.mark.parametrize("error", ["spread", "volatility"])
def test_jacobian_is_the_slope_of_the_residuals(jumps, error):
    problem = _Problem(check_quotes(simulate_quotes(TRUTH, YEARS, seed=1)), error, jumps)
    free = _to_free(np.array([0.03, 0.06, 2.0, 0.5, -0.5, 0.3, -0.1, 0.1])[: problem.count])
    residual, jacobian = (x.copy() for x in problem.solve(free))
    for i in range(problem.count):
        step = np.zeros(problem.count)
        step[i] = 1e-5
        bumped = (problem.solve(free + step)[0] - problem.solve(free - step)[0]) / 2e-5
        assert np.allclose(jacobian[:, i], bumped, atol=2e-4 * np.abs(bumped).max())
    assert len(residual) == 60


def test_intervals_hold_the_truth_and_end_where_the_chi_square_has_risen():
    held = []
    for seed in range(8):
        fit = fit_heston(simulate_quotes(TRUTH, YEARS, seed=seed))
        held += list((fit.table["low"] < TRUTH.numbers[:5]) & (TRUTH.numbers[:5] < fit.table["high"]))
        assert 0.5 < fit.chi2 / fit.dof < 1.7 and fit.widened < 1.3
        half = (fit.table["high"] - fit.table["low"]) / 2
        assert np.allclose(half, 1.96 * fit.table["error"], rtol=0.25), "near the Jacobian's where all is determined"
    assert sum(held) >= 34
    ends = heston_ridge(fit, fit.table.loc["kappa", ["low", "high"]])
    assert np.allclose(ends["rise"], 3.84, rtol=0.05)
    assert ends["sigma"].is_monotonic_increasing, "the ridge"


def test_a_wrong_model_is_told():
    jumps = HestonModel(0.03, 0.03, 2.0, 0.4, -0.5, 0.5, -0.15, 0.15)
    quotes = simulate_quotes(jumps, YEARS, seed=3)
    fit = fit_heston(quotes, profile=False)
    assert fit.p < 1e-6 and fit.widened > 1.5
    better = fit_heston(quotes, jumps=True, profile=False)
    assert better.p > 1e-3 and better.rmse < 0.0025 < 0.004 < fit.rmse
    assert np.allclose(better.table.loc[["v0", "theta"], "value"], 0.03, atol=0.006)
    assert fit.expiries["quotes"].sum() == len(quotes) and list(fit.expiries.index) == sorted(YEARS)
    assert np.isclose((fit.expiries["chi2"] * fit.expiries["quotes"]).sum(), fit.chi2)


def test_one_expiry_does_not_determine_the_return():
    fit = fit_heston(simulate_quotes(TRUTH, [0.25], seed=4, per_expiry=20))
    assert np.isinf(fit.table.loc["kappa", "high"]) or fit.table.loc["kappa", "high"] > 25
    assert abs(fit.correlation.loc["kappa", "sigma"]) <= 1 + 1e-9


def test_what_is_refused():
    quotes = simulate_quotes(TRUTH, YEARS, seed=5)
    assert set(quotes.columns) == set(QUOTE_COLUMNS)
    for wrong, match in (
        (quotes.drop(columns="bid"), "no column bid"),
        (quotes.assign(ask=quotes["bid"]), "60 of 60 quotes"),
        (quotes.assign(bid=0.0), "no bid"),
        (quotes.assign(forward=np.nan), "not numbers"),
        (quotes.iloc[:11], "12 or more"),
        (quotes.assign(bid=500.0, ask=501.0), "no implied volatility"),
    ):
        with pytest.raises(DataError, match=match):
            fit_heston(wrong)
    with pytest.raises(ConfigError, match="spread, volatility"):
        fit_heston(quotes, "price")
    with pytest.raises(DataError, match="widen the range"):
        thin_quotes(quotes, low=2.0, high=3.0)


def test_thinning_keeps_quotes_evenly_spread():
    quotes = simulate_quotes(TRUTH, YEARS, seed=6, per_expiry=50)
    thin = thin_quotes(quotes, 7)
    assert thin.groupby("years").size().max() <= 7 and not thin.duplicated(["years", "strike"]).any()
    part = thin[thin["years"] == 1.0]["strike"]
    inside = quotes[(quotes["years"] == 1.0) & (quotes["strike"] / 100).between(0.8, 1.1)]["strike"]
    assert part.min() == inside.min() and part.max() == inside.max()
    assert np.diff(part).max() < 2 * np.diff(part).min()
    assert len(thin_quotes(quotes.iloc[[20]], 7, 0.1, 10.0)) == 1


@pytest.mark.skipif(not os.path.exists(CHAIN), reason="no ../shared beside the project (or QUANTLAB_SHARED)")
def test_shared_chain():
    vendor = pd.read_csv(CHAIN, parse_dates=["expiration"])
    days = (vendor["expiration"] - pd.Timestamp("2026-01-30")).dt.days.isin([14, 28, 49, 77, 119, 151, 243, 335])
    vendor = vendor[days & vendor["contractSymbol"].str.startswith("SPXW")]
    chain = chain_from_contracts(vendor, "2026-01-30 16:00-05:00")
    usable = usable_quotes(chain_volatilities(chain, parity_forwards(chain, 0.0365)))
    quotes = thin_quotes(usable, low=0.85)
    assert len(quotes) == 160
    fit = fit_heston(quotes, "volatility", profile=False)
    assert (np.ptp(fit.starts.iloc[:, :5], axis=0) < 2e-3 * fit.table["value"].abs().to_numpy()).all()
    assert abs(fit.rmse - 0.0061) < 3e-4 and abs(fit.expiries["rmse"].iloc[0] - 0.0145) < 1e-3
    assert np.allclose(
        fit.table.loc[["v0", "theta", "rho"], "value"], [0.0214, 0.0459, -0.727], atol=[1e-3, 1e-3, 0.04]
    )
    assert fit.model.feller < 0.3


def test_roots_are_thinned_each_by_itself():
    made = {"years": 0.1, "forward": 100.0, "strike": [90.0, 95.0, 100.0, 105.0]}
    both = pd.concat([pd.DataFrame(made | {"root": root}) for root in "AB"], ignore_index=True)
    assert thin_quotes(both, 3).groupby("root").size().tolist() == [3, 3]
