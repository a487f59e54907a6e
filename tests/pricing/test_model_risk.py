"pricing.model_risk: a chain's own terms, Dupire against prices, who fits, the planted truth inside the range."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_options
from quantlab.pricing.black import black_price
from quantlab.pricing.calibrate import simulate_quotes, thin_quotes
from quantlab.pricing.chain import chain_from_contracts, chain_volatilities, parity_forwards, usable_quotes
from quantlab.pricing.exotics import Asian, Barrier, Digital, Lookback, estimate, local_vol_paths
from quantlab.pricing.heston import HestonModel
from quantlab.pricing.model_risk import (
    ChainTerms,
    ExoticTerms,
    chain_terms,
    exotic_prices,
    fitted_dynamics,
    heston_dynamics,
    local_volatility,
    model_range,
    reprice_quotes,
)
from quantlab.pricing.surface import Surface, Svi, fit_surface

TRUTH = HestonModel(0.0175, 0.044, 4.0, 1.15, -0.74, 0.7, -0.06, 0.07)
YEARS = 139 / 365
VOGT = Svi(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
SKEWED = Surface(
    ("A", "B"), np.array([0.5, 1.0]), np.full(2, 100.0),
    (Svi(0.004, 0.05, -0.5, 0.02, 0.15), Svi(0.012, 0.06, -0.45, 0.02, 0.2)),
)  # fmt: skip


@pytest.fixture(scope="module")
def chain():
    made = chain_from_contracts(sample_options(), "2026-01-30 16:00-05:00")
    usable = usable_quotes(chain_volatilities(made, parity_forwards(made, 0.0365)))
    usable = usable[(usable["years"] > 14 / 365) & ((usable["root"] == "SPXW") | (usable["years"] > 0.8))]
    return thin_quotes(usable), fit_surface(usable)


@pytest.fixture(scope="module")
def models(chain):
    return fitted_dynamics(*chain)


@pytest.fixture(scope="module")
def fits(chain, models):
    return reprice_quotes(models, chain[0], YEARS, paths=8_000)


def test_a_chain_tells_its_spot_rate_and_carry():
    quotes = simulate_quotes(TRUTH, [0.1, 0.5, 1.0], seed=1, forward=100.0, rate=0.03)
    told = chain_terms(quotes)
    assert np.allclose(told, (100.0, 0.03, 0.0), atol=1e-12)
    with pytest.raises(DataError, match="second expiry"):
        chain_terms(quotes[quotes["years"] == 0.5])


def test_local_volatility_is_dupires_ratio_of_prices():
    local, t, h, e = local_volatility(SKEWED), 0.7, 1e-4, 1e-3
    blend = lambda years, x: sum(
        share * s.variance(x) for share, s in zip((2 - 2 * years, 2 * years - 1), SKEWED.slices, strict=True)
    )
    call = lambda years, k: black_price(1.0, k, 1.0, np.sqrt(blend(years, np.log(k))))
    k = np.exp(np.linspace(-0.3, 0.25, 12))
    rise = (call(t + h, k) - call(t - h, k)) / (2 * h)
    bend = (call(t, k + e) - 2 * call(t, k) + call(t, k - e)) / e**2
    assert np.allclose(local(t, np.log(k)), np.sqrt(2 * rise / (k**2 * bend)), rtol=2e-3)


def test_local_volatility_reprices_its_surface():
    drawn = local_vol_paths(local_volatility(SKEWED), 100.0, 0.0, 0.0, [0.0, 0.5, 1.0], 20_000, 3, 1 / 200)
    for place, svi in ((1, SKEWED.slices[0]), (2, SKEWED.slices[1])):
        for x in (-0.2, 0.0, 0.15):
            true = float(black_price(100.0, 100 * np.exp(x), 1.0, np.sqrt(svi.variance(np.array(x))), 1.0, x >= 0))
            pays = np.maximum((1 if x >= 0 else -1) * (drawn.spot[:, place] - 100 * np.exp(x)), 0)
            assert estimate(pays).errors_from(true) < 3.5


def test_a_flat_surface_is_its_own_local_one_and_bounds_hold():
    flat = Surface(("A",), np.array([1.0]), np.full(1, 100.0), (Svi(0.04, 0.0, 0.0, 0.0, 1.0),))
    x = np.linspace(-2, 2, 9)
    for t in (0.0, 0.3, 1.0):
        assert np.allclose(local_volatility(flat)(t, x), 0.2)
    assert (local_volatility(flat, least=0.3)(0.5, x) == 0.3).all()
    assert (local_volatility(flat, highest=0.1)(0.5, x) == 0.1).all()


def test_a_surface_with_arbitrage_or_a_date_beyond_it_has_no_local_volatility():
    with pytest.raises(DataError, match="butterfly"):
        local_volatility(Surface(("A",), np.array([1.0]), np.full(1, 100.0), (VOGT,)))
    local = local_volatility(SKEWED)
    for years in (1.1, -0.1, np.nan):
        with pytest.raises(DataError, match="within the surface"):
            local(years, np.zeros(2))


def test_only_models_that_reprice_the_chain_fit(fits):
    assert fits["fits"].to_dict() == {
        "Black at the strike": False, "Heston": True, "Bates": True, "local volatility": True,
    }  # fmt: skip
    assert fits.loc["Bates", "rmse"] < 0.003 and fits.loc["Black at the strike", "rmse"] > 0.02
    assert (fits["quotes"] == 120).all() and fits.loc["Bates", "inside"] > 0.9


def test_black_at_a_strike_reprices_that_strike(chain, models):
    quote = chain[0].query("0.38 < years < 0.382").iloc[10]
    paths = models["Black at the strike"].draw(np.array([0.0, quote["years"]]), float(quote["strike"]), 20_000, 2)
    sign = 1 if quote["call"] else -1
    found = estimate(quote["discount"] * np.maximum(sign * (paths.spot[:, 1] - quote["strike"]), 0))
    assert found.errors_from((quote["bid"] + quote["ask"]) / 2) < 3.5


def test_the_truth_lies_in_the_range_and_near_bates(chain, models, fits):
    terms, dates = chain_terms(chain[0]), np.linspace(0, YEARS, 97)
    contracts = {
        "barrier": ExoticTerms(Barrier(7000.0, 7600.0, down=False), dates, 7000.0),
        "lookback": ExoticTerms(Lookback(call=False), dates, 7000.0),
        "asian": ExoticTerms(Asian(7000.0), dates[::16], 7000.0),
        "digital": ExoticTerms(Digital(6400.0, call=False, cash=1000.0), dates[::16], 6400.0),
    }
    fitting = {name: model for name, model in models.items() if fits.loc[name, "fits"]}
    prices = exotic_prices(fitting, contracts, 8_000)
    assert prices.index.tolist() == [(c, m) for c in contracts for m in fitting]
    true = exotic_prices({"truth": heston_dynamics(TRUTH, terms)}, contracts, 16_000, 7).droplevel("model")
    bates, ranges = prices.xs("Bates", level="model"), model_range(prices, fits)
    assert ((bates["price"] - true["price"]).abs() < 3.5 * np.hypot(bates["error"], true["error"])).all()
    slack = 3.5 * np.hypot(ranges["error"], true["error"])
    assert ((true["price"] > ranges["low"] - slack) & (true["price"] < ranges["high"] + slack)).all()
    assert ranges.loc["barrier", "wide"] > 0.2 and ranges.loc["barrier", "apart"] > 8
    assert ranges.loc["digital", "wide"] < 0.08 and ranges.loc["asian", "wide"] < 0.05


def test_contracts_of_equal_dates_share_their_paths(models):
    dates = np.linspace(0, 0.2, 9)
    both = {
        name: ExoticTerms(Barrier(7000.0, 6500.0, knock_in=knock_in), dates, 7000.0)
        for name, knock_in in (("in", True), ("out", False))
    }
    prices = exotic_prices(models, both | {"all": ExoticTerms(Barrier(7000.0, 1.0), dates, 7000.0)}, 400)["price"]
    assert np.allclose(prices["in"] + prices["out"], prices["all"], rtol=1e-12)
    assert exotic_prices(models, both, 400).equals(exotic_prices(models, both, 400))


def test_a_range_is_lowest_and_highest_of_what_fits():
    names = pd.MultiIndex.from_product([["x", "free"], ["A", "B", "C"]], names=["contract", "model"])
    prices = pd.DataFrame({"price": [10.0, 12.0, 99.0, 1.0, 1.0, 5.0], "error": [0.3, 0.4, 1.0, 0.0, 0.0, 0.0]}, names)
    fits = pd.DataFrame({"rmse": [0.001, 0.002, 0.9], "fits": [True, True, False]}, ["A", "B", "C"])
    told = model_range(prices, fits)
    assert told.loc["x", ["low", "high", "lowest", "highest"]].tolist() == [10.0, 12.0, "A", "B"]
    assert np.allclose(told.loc["x", ["error", "wide", "apart"]].astype(float), [0.5, 2 / 11, 4.0])
    assert told.loc["free", "wide"] == 0 and np.isnan(told.loc["free", "apart"])
    with pytest.raises(DataError, match="a range needs two"):
        model_range(prices, fits.assign(fits=[True, False, False]))
    with pytest.raises(DataError, match="a range needs two"):
        model_range(prices.drop("B", level="model"), fits)


def test_what_cannot_be_priced_is_refused(chain, models):
    dates, terms = np.array([0.0, 0.2]), ChainTerms(100.0, 0.0, 0.0)
    one = {"one": ExoticTerms(Asian(100.0), dates, 100.0)}
    alone = {"truth": heston_dynamics(TRUTH, terms)}
    for call, error in (
        (lambda: exotic_prices({}, one), ConfigError),
        (lambda: exotic_prices(alone, {}), ConfigError),
        (lambda: exotic_prices(alone, one, paths=0), ConfigError),
        (lambda: exotic_prices(alone, {"one": one["one"]._replace(dates=np.array([0.0]))}), ConfigError),
        (lambda: exotic_prices(alone, {"bad": ExoticTerms(Asian(np.nan), dates, 100.0)}, 100), DataError),
        (lambda: exotic_prices(models, {"late": ExoticTerms(Asian(7e3), np.array([0.0, 2.0]), 7e3)}, 100), DataError),
        (lambda: reprice_quotes(alone, chain[0], 0.01), ConfigError),
        (lambda: reprice_quotes(alone, chain[0], YEARS, limit=0.0), ConfigError),
        (lambda: reprice_quotes(alone, chain[0].assign(bid=np.nan), YEARS), DataError),
    ):
        with pytest.raises(error):
            call()
    assert exotic_prices(alone, one, 100)["price"].gt(0).all()  # one date is enough
