"pricing.heston: published prices, an adaptive integral of the plain formula, limits, slopes, speed."

import json

import numpy as np
import pytest
from scipy.integrate import quad

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.pricing.black import black_price
from quantlab.pricing.heston import (
    HestonModel,
    heston_chance_above,
    heston_characteristic,
    heston_price,
    heston_slopes,
)

INDEX = HestonModel(0.0214, 0.0459, 8.92, 2.12, -0.727)
BATES = HestonModel(0.04, 0.05, 2.0, 0.6, -0.6, 0.4, -0.12, 0.15)
OOSTERLEE = HestonModel(0.0175, 0.0398, 1.5768, 0.5751, -0.5711)
CASES = [
    (HestonModel(0.010201, 0.019, 6.21, 0.61, -0.7), 0.0319, 1.0, 6.806113, 1e-6),
    (HestonModel(0.09, 0.09, 2.0, 1.0, -0.3), 0.05, 5.0, 34.999758, 1e-6),
    (OOSTERLEE, 0.0, 1.0, 5.785155450, 2e-8),
    (OOSTERLEE, 0.0, 10.0, 22.318945791, 2e-8),
]


def plain(model, u, t):
    "The textbook's characteristic function, written anew."
    v0, theta, kappa, sigma, rho, rate, mean, std = model.numbers
    d = np.sqrt((rho * sigma * 1j * u - kappa) ** 2 + sigma**2 * (1j * u + u**2))
    g = (kappa - rho * sigma * 1j * u - d) / (kappa - rho * sigma * 1j * u + d)
    c = kappa * theta / sigma**2
    c *= (kappa - rho * sigma * 1j * u - d) * t - 2 * np.log((1 - g * np.exp(-d * t)) / (1 - g))
    v = (kappa - rho * sigma * 1j * u - d) / sigma**2 * (1 - np.exp(-d * t)) / (1 - g * np.exp(-d * t)) * v0
    jump = np.exp(1j * u * mean - std**2 * u**2 / 2) - 1 - 1j * u * (np.exp(mean + std**2 / 2) - 1)
    return np.exp(c + v + rate * t * jump)


def adaptive(model, strike, t, top):
    "The call on a forward of 100 by Lewis' integral, piece by piece."
    k, edges = np.log(100 / strike), top * np.linspace(0, 1, 161) ** 2
    inside = lambda u: (np.exp(1j * u * k) * plain(model, u - 0.5j, t)).real / (u**2 + 0.25)
    total = sum(quad(inside, a, b, epsabs=1e-14, epsrel=1e-12)[0] for a, b in zip(edges[:-1], edges[1:], strict=True))
    return 100 - np.sqrt(100 * strike) / np.pi * total


@pytest.mark.parametrize(("model", "rate", "years", "price", "within"), CASES)
def test_published_prices(model, rate, years, price, within):
    discount = np.exp(-rate * years)
    assert abs(heston_price(model, 100 / discount, 100.0, years, discount) - price) < within


@pytest.mark.parametrize("model", [INDEX, BATES, OOSTERLEE])
@pytest.mark.parametrize(("years", "top"), [(1 / 365, 4500.0), (0.25, 900.0), (10.0, 150.0), (30.0, 80.0)])
def test_short_long_and_far(model, years, top):
    strikes = np.array([50.0, 97.0, 100.0, 104.0, 200.0])
    ours = heston_price(model, 100.0, strikes, years)
    assert np.allclose(ours, [adaptive(model, s, years, top) for s in strikes], atol=2e-10)


def test_parity_shape_and_order():
    strikes = np.linspace(20, 400, 300)
    for model in (INDEX, BATES):
        for years in (1 / 365, 1.0, 15.0):
            call, put = (heston_price(model, 100.0, strikes, years, 0.9, c) for c in (True, False))
            assert np.allclose(call - put, 0.9 * (100 - strikes), atol=1e-11)
            assert (np.diff(call) < 1e-11).all() and (np.diff(call, 2) > -1e-10).all(), "falling and convex"
            assert (call > 0.9 * np.maximum(100 - strikes, 0) - 1e-11).all()
    order = np.random.default_rng(0).permutation(300)
    years = np.tile([0.1, 0.5, 2.0], 100)
    one = heston_price(INDEX, 100.0, strikes, years)
    assert np.allclose(heston_price(INDEX, 100.0, strikes[order], years[order]), one[order], atol=1e-12)
    assert np.allclose(heston_price(INDEX, 700.0, 7 * strikes, years), 7 * one, atol=1e-10)


def test_without_randomness_it_is_black():
    strikes = np.array([60.0, 100.0, 150.0])
    for sigma in (0.0, 1e-7, 1e-5):
        model = HestonModel(0.04, 0.09, 2.0, sigma, -0.5)
        volatility = np.sqrt(model.total_variance(1.5) / 1.5)
        assert np.allclose(
            heston_price(model, 100, strikes, 1.5), black_price(100, strikes, 1.5, volatility), atol=1e-5
        )
    merton = HestonModel(0.04, 0.04, 1.0, 0.0, 0.0, 0.5, -0.1, 0.2)
    assert np.allclose(heston_price(merton, 100.0, strikes, 1.0), merton_sum(strikes), atol=1e-9)


def merton_sum(strikes):
    "Merton's sum over the number of jumps in a year."
    rate, mean, std, chance, total = 0.5, -0.1, 0.2, np.exp(-0.5), 0.0
    lost = np.exp(mean + std**2 / 2) - 1
    for n in range(60):
        forward = 100 * np.exp(-rate * lost + n * (mean + std**2 / 2))
        total = total + chance * black_price(forward, strikes, 1.0, np.sqrt(0.04 + n * std**2))
        chance *= rate / (n + 1)
    return total


def test_characteristic_function_and_chance():
    u = np.linspace(-30, 30, 41) - 0.3j
    for model in (INDEX, BATES):
        assert np.allclose(heston_characteristic(model, u, 0.7), plain(model, u, 0.7), atol=1e-13)
        strikes = np.array([50.0, 95.0, 100.0, 130.0])
        h = 1e-3
        slope = (heston_price(model, 100, strikes - h, 0.3) - heston_price(model, 100, strikes + h, 0.3)) / (2 * h)
        assert np.allclose(heston_chance_above(model, 100.0, strikes, 0.3), slope, atol=1e-6)


def test_slopes_by_every_number():
    strikes, years = np.array([70.0, 95, 100, 105, 140, 100]), np.array([0.05, 0.1, 0.5, 1, 2, 2.0])
    for model in (BATES, HestonModel(*INDEX.numbers[:5], 0.2, -0.3, 0.1)):
        calls, slopes = heston_slopes(model, np.full(6, 100.0), strikes, years)
        assert np.allclose(calls, heston_price(model, 100.0, strikes, years), atol=1e-8)
        for i in range(8):
            up, down = model.numbers.copy(), model.numbers.copy()
            h = 1e-5 * max(abs(up[i]), 0.1)
            up[i] += h
            down[i] -= h
            bumped = heston_price(HestonModel(*up), 100.0, strikes, years)
            bumped = (bumped - heston_price(HestonModel(*down), 100.0, strikes, years)) / (2 * h)
            assert np.allclose(slopes[:, i], bumped, atol=1e-6 * max(1, np.abs(bumped).max())), i
    assert heston_slopes(INDEX, [100.0], [100.0], [1.0], jumps=False)[1].shape == (1, 5)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="rho"):
        HestonModel(0.04, 0.04, 1.0, 0.5, 1.01)
    for wrong in ((0.0, 0.04, 1.0, 0.5), (0.04, 0.04, 0.0, 0.5), (0.04, 0.04, 1.0, -0.1), (np.nan, 0.04, 1.0, 0.5)):
        with pytest.raises(ConfigError, match="above zero"):
            HestonModel(*wrong, -0.5)
    for wrong in ((-1.0, 100.0, 1.0), (100.0, 0.0, 1.0), (100.0, 100.0, 0.0), (100.0, np.nan, 1.0), (100, 100, np.inf)):
        with pytest.raises(DataError, match="not positive and finite"):
            heston_price(INDEX, *wrong)
    with pytest.raises(ConfigError, match="0.001"):
        heston_slopes(HestonModel(0.04, 0.04, 1.0, 0.0, 0.0), [100.0], [100.0], [1.0])
    assert heston_price(INDEX, 100.0, np.empty(0), 1.0).shape == (0,)


@pytest.mark.slow
def test_the_stored_figures_hold_what_was_promised():
    stored = json.loads((root() / "bench" / "results" / "heston.json").read_text(encoding="utf-8"))
    assert stored["n"] == 10_000 and stored["max_rel_diff"] < 1e-8 and stored["ours_s"] < 0.2
    assert stored["parts"]["adaptive"]["max_rel_diff"] < 1e-11 and stored["parts"]["fit"]["three_starts_s"] < 2
