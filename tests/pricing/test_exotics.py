"pricing.exotics: closed forms, published tables, mirrored pairs, and what a bridge, a scheme and a rule must keep."

import numpy as np
import pytest
from scipy.special import ndtr

from quantlab.core.errors import ConfigError, DataError
from quantlab.pricing.black import black_price
from quantlab.pricing.exotics import (
    Asian,
    Autocallable,
    Barrier,
    Bermudan,
    Digital,
    Estimate,
    Lookback,
    barrier_price,
    bermudan_lower,
    bermudan_upper,
    black_paths,
    estimate,
    heston_paths,
    local_vol_paths,
)
from quantlab.pricing.heston import HestonModel, heston_price

HAUG = [
    (Barrier(90, 95, rebate=3), 9.0246),
    (Barrier(100, 95, rebate=3), 6.7924),
    (Barrier(110, 95, rebate=3), 4.8759),
    (Barrier(90, 105, down=False, rebate=3), 2.6789),
    (Barrier(90, 95, knock_in=True, rebate=3), 7.7627),
    (Barrier(90, 105, down=False, knock_in=True, rebate=3), 14.1112),
    (Barrier(90, 95, call=False, rebate=3), 2.2798),
]
AMERICAN = [(36.0, 0.2, 1, 4.4778), (36.0, 0.2, 2, 4.8402), (36.0, 0.4, 1, 7.1012), (40.0, 0.2, 1, 2.3140)]
INDEX = HestonModel(0.0214, 0.0459, 8.92, 2.12, -0.727)


@pytest.fixture(scope="module")
def haug_paths():
    return black_paths(100.0, 0.08, 0.04, 0.25, np.linspace(0, 0.5, 26), 40_000, seed=1)


@pytest.mark.parametrize(("contract", "price"), HAUG)
def test_barriers_of_haug(contract, price, haug_paths):
    assert abs(barrier_price(contract, 100.0, 0.08, 0.04, 0.25, 0.5) - price) < 5.1e-5
    simulated = estimate(contract.present_values(haug_paths))
    assert simulated.errors_from(price) < 3 and simulated.error < 0.06


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize(("down", "barrier"), [(True, 90.0), (False, 112.0)])
@pytest.mark.parametrize("strike", [80.0, 100.0, 120.0])
def test_every_barrier_against_paths_and_parity(call, down, barrier, strike, haug_paths):
    parts = [
        barrier_price(Barrier(strike, barrier, down, n, call), 100.0, 0.08, 0.04, 0.25, 0.5) for n in (False, True)
    ]
    vanilla = black_price(100 * np.exp(0.02), strike, 0.5, 0.25, np.exp(-0.04), call)
    assert np.isclose(sum(parts), vanilla, atol=1e-10) and min(parts) > -1e-12
    for knock_in, price in zip((False, True), parts, strict=True):
        simulated = estimate(Barrier(strike, barrier, down, knock_in, call).present_values(haug_paths))
        assert simulated.errors_from(price) < 4 or abs(simulated.value - price) < 1e-9


def test_the_bridge_needs_one_step_and_dates_alone_are_too_dear():
    contract = Barrier(90.0, 95.0)
    exact = barrier_price(contract, 100.0, 0.08, 0.04, 0.25, 0.5)
    paths = black_paths(100.0, 0.08, 0.04, 0.25, [0.0, 0.5], 100_000, seed=2)
    assert estimate(contract.present_values(paths)).errors_from(exact) < 3
    seen = estimate(np.exp(-0.04) * (paths.spot[:, 1] > 95) * np.maximum(paths.spot[:, 1] - 90, 0))
    assert seen.value - exact > 20 * seen.error


def test_pairs_give_the_error_and_seeds_the_paths():
    told = estimate(np.array([1.0, 2.0, 3.0, 5.0, 4.0, 3.0]))  # means of pairs 3, 3, 3
    assert told == Estimate(3.0, 0.0, 6) and told.errors_from(3.0) == 0 and told.errors_from(3.1) == np.inf
    one, two = (black_paths(100.0, 0.05, 0.05, 0.2, [0, 1.0], 1000, seed=s) for s in (1, 1))
    assert np.array_equal(one.spot, two.spot)
    assert not np.array_equal(one.spot, black_paths(100.0, 0.05, 0.05, 0.2, [0, 1.0], 1000, seed=2).spot)
    calls = [
        estimate(np.maximum(black_paths(100.0, 0, 0, 0.2, [0, 1.0], 200, s).spot[:, 1] - 100, 0)) for s in range(400)
    ]
    z = (np.array([c.value for c in calls]) - black_price(100, 100, 1, 0.2)) / np.array([c.error for c in calls])
    assert 0.9 < z.std() < 1.15 and abs(z.mean()) < 0.2, "the error is the error"


CASES = [
    (HestonModel(0.010201, 0.019, 6.21, 0.61, -0.7), 0.0319, 1.0),
    (HestonModel(0.09, 0.09, 2.0, 1.0, -0.3), 0.05, 5.0),
    (INDEX, 0.03, 0.25),
    (HestonModel(0.04, 0.05, 2.0, 0.6, -0.6, 0.4, -0.12, 0.15), 0.02, 1.0),
]


@pytest.mark.parametrize(("model", "rate", "years"), CASES)
def test_paths_of_heston_keep_prices_and_the_forward(model, rate, years):
    paths = heston_paths(model, 100.0, rate, rate, [0.0, years], 60_000, seed=4)
    discount, end = np.exp(-rate * years), paths.spot[:, 1]
    assert estimate(discount * end).errors_from(100.0) < 3
    for strike in (80.0, 100.0, 120.0):
        exact = heston_price(model, 100 / discount, strike, years, discount)
        assert estimate(discount * np.maximum(end - strike, 0)).errors_from(exact) < 3.5
    mean = model.theta + (model.v0 - model.theta) * np.exp(-model.kappa * years)
    assert estimate(paths.variance[:, 1]).errors_from(mean) < 4 and paths.variance.min() >= 0
    within = model.total_variance(years) - model.jump_rate * years * (model.jump_mean**2 + model.jump_std**2)
    assert abs(paths.within.mean() / within - 1) < 0.02


def test_local_volatility_of_time_alone_is_black():
    paths = local_vol_paths(
        lambda t, x: np.full(len(x), 0.1 + 0.2 * t), 100.0, 0.03, 0.01, [0, 0.5, 1.0], 40_000, seed=5
    )
    volatility = np.sqrt(paths.within[0].sum())
    assert abs(volatility - np.sqrt((0.3**3 - 0.1**3) / 0.6)) < 1e-3
    exact = black_price(100 * np.exp(0.01), 105, 1.0, volatility, np.exp(-0.03))
    assert estimate(np.exp(-0.03) * np.maximum(paths.spot[:, 2] - 105, 0)).errors_from(exact) < 3


def test_averages_extremes_and_digitals():
    times = np.linspace(0, 1, 13)
    paths, vol, carry = black_paths(100.0, 0.05, 0.03, 0.3, times, 60_000, seed=6), 0.3, 0.03
    mean, variance = (
        np.log(100) + (carry - vol**2 / 2) * times[1:].mean(),
        vol**2 * np.minimum.outer(*[times[1:]] * 2).mean(),
    )
    exact = black_price(np.exp(mean + variance / 2), 95, 1, np.sqrt(variance), np.exp(-0.05), False)
    assert estimate(Asian(95.0, False, True).present_values(paths)).errors_from(exact) < 3
    assert (Asian(95.0).present_values(paths) >= Asian(95.0, True, True).present_values(paths)).all()
    exact = np.exp(-0.05) * ndtr(-(carry - vol**2 / 2) / vol)
    assert estimate(Digital(100.0, False).present_values(paths)).errors_from(exact) < 3
    a1, power = (carry + vol**2 / 2) / vol, 2 * carry / vol**2
    exact = 100 * np.exp(carry - 0.05) * ndtr(a1) - 100 * np.exp(-0.05) * ndtr(a1 - vol)
    exact += 100 * np.exp(-0.05) / power * (ndtr(-a1 + 2 * carry / vol) - np.exp(carry) * ndtr(-a1))
    assert estimate(Lookback().present_values(paths)).errors_from(exact) < 3
    fixed, floating = Lookback(strike=1e-9).present_values(paths), Lookback(call=False).present_values(paths)
    gap = np.exp(-0.05) * paths.spot[:, -1]
    assert np.allclose(fixed, floating + gap, atol=1e-6), "the highest is the end and what is missing"


def test_autocall_by_hand():
    paths = black_paths(100.0, 0.0, 0.0, 0.2, [0, 1.0, 2.0], 4, seed=0)
    spot = np.array([[100, 105, 90], [100, 95, 101], [100, 90, 80], [100, 90, 60.0]])
    paths = type(paths)(paths.times, spot, paths.variance, paths.within, 0.1, 0)
    note = Autocallable(1000.0, 100.0, 0.05, 70.0, 100.0)
    e1, e2 = np.exp(-0.1), np.exp(-0.2)
    assert np.allclose(note.present_values(paths), [1050 * e1, 1100 * e2, 1000 * e2, 600 * e2])


@pytest.mark.parametrize(("spot", "volatility", "years", "price"), AMERICAN)
def test_puts_of_longstaff_and_schwartz(spot, volatility, years, price):
    dates = np.linspace(0, years, 50 * years + 1)
    learn, judge = (black_paths(spot, 0.06, 0.06, volatility, dates, n, s) for n, s in ((20_000, 17), (20_000, 18)))
    lower = bermudan_lower(Bermudan(40.0), learn, judge)
    assert lower.errors_from(price) < 3 and lower.error < 0.02
    few = black_paths(spot, 0.06, 0.06, volatility, dates, 600, 19)
    upper = bermudan_upper(Bermudan(40.0), learn, few, 0.06, volatility)
    assert price - 3 * upper.error < upper.value < price + 0.08
    assert lower.value - 3 * lower.error < upper.value + 3 * upper.error


def test_exercise_is_worth_something_and_a_call_without_dividends_is_never_exercised():
    dates = np.linspace(0, 1, 11)
    learn, judge = (heston_paths(INDEX, 100.0, 0.05, 0.05, dates, 20_000, s) for s in (1, 2))
    put = bermudan_lower(Bermudan(110.0), learn, judge)
    european = heston_price(INDEX, 100 * np.exp(0.05), 110.0, 1.0, np.exp(-0.05), False)
    assert put.value > european + 3 * put.error and put.value >= 10 - 3 * put.error
    call = bermudan_lower(Bermudan(100.0, call=True), learn, judge)
    european = heston_price(INDEX, 100 * np.exp(0.05), 100.0, 1.0, np.exp(-0.05))
    assert call.value < european + 3 * call.error and call.value > european - 0.2


def test_what_is_refused():
    with pytest.raises(ConfigError, match="even number"):
        black_paths(100.0, 0, 0, 0.2, [0, 1.0], 1001)
    for times in ([0.0], [0.1, 1.0], [0.0, 1.0, 1.0]):
        with pytest.raises(ConfigError, match="rise from 0"):
            heston_paths(INDEX, 100.0, 0, 0, times)
    with pytest.raises(ConfigError, match="black_paths"):
        heston_paths(HestonModel(0.04, 0.04, 1.0, 0.0, 0.0), 100.0, 0, 0, [0, 1.0])
    with pytest.raises(DataError, match="pairs"):
        estimate(np.ones(5))
    with pytest.raises(DataError, match="touched"):
        barrier_price(Barrier(100, 95), 94.0, 0, 0, 0.2, 1.0)
    one = black_paths(36.0, 0.06, 0.06, 0.2, np.linspace(0, 1, 6), 100, 1)
    with pytest.raises(ConfigError, match="different seeds"):
        bermudan_lower(Bermudan(40.0), one, one)


def test_coarse_steps_keep_the_forward():
    for seed in (1, 2):
        paths = heston_paths(HestonModel(0.09, 0.09, 1.0, 1.0, -0.9), 100.0, 0, 0, [0, 5.0], 100_000, seed, longest=0.5)
        assert estimate(paths.spot[:, 1]).errors_from(100.0) < 3, "Andersen's correction"
