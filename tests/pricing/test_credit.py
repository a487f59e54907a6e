"pricing.credit: closed forms within errors, one loss seen from both sides, dependence that keeps the curve, slopes."

import numpy as np
import pytest
from scipy.stats import norm

from quantlab.core.errors import ConfigError, DataError
from quantlab.pricing.black import black_greeks, black_price
from quantlab.pricing.credit import (
    HazardCurve,
    OwedForward,
    OwedOption,
    StockTerms,
    bilateral_adjustment,
    book_values,
    bump_slopes,
    copula_steps,
    credit_adjustment,
    credit_slopes,
    default_chances,
    exposure_profile,
    forward_credit,
    hazards_from_spreads,
    intensity_steps,
    likelihood_slopes,
    option_credit,
    pathwise_slopes,
)
from quantlab.pricing.exotics import black_paths

TERMS, SPOT = StockTerms(0.03, 0.01, 0.25), 100.0
CURVE = HazardCurve((0.5, 1.0, 2.0), (0.02, 0.06, 0.1))
DATES = np.linspace(0, 2, 25)
BOOK = [OwedForward(101.0, 2.0), OwedOption(105.0, 2.0), OwedOption(90.0, 1.0, call=False, amount=-1.0)]
FLAT = lambda hazard: HazardCurve((1.0,), (hazard,))


@pytest.fixture(scope="module")
def drawn():
    return black_paths(SPOT, *TERMS, DATES, 10_000, seed=1)


@pytest.fixture(scope="module")
def worth(drawn):
    return book_values(BOOK, drawn, TERMS)[0]


def test_hazards_add_up_over_steps_whatever_the_dates():
    fine = CURVE.steps(np.linspace(0, 3, 31))
    assert np.isclose(fine.sum(), 0.01 + 0.03 + 0.1 + 0.1) and np.isclose(fine[:7].sum(), CURVE.steps([0, 0.7])[0])
    late = HazardCurve((1.0, 2.0), (0.0, np.inf)).steps([0.0, 0.5, 1.0, 1.5])
    assert late.tolist() == [0.0, 0.0, np.inf]


def test_spreads_are_paid_back_by_the_hazards():
    curve = hazards_from_spreads([1.0, 3.0], [0.012, 0.02], 0.4)
    assert np.allclose(curve.steps([0.0, 1.0, 3.0]).cumsum() * 0.6, [0.012, 0.06])
    assert hazards_from_spreads([1.0], [0.0]).hazards == (0.0,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HazardCurve((), ()),
        lambda: HazardCurve((1.0,), (0.1, 0.2)),
        lambda: HazardCurve((1.0,), (-0.1,)),
        lambda: HazardCurve((1.0,), (np.nan,)),
        lambda: HazardCurve((2.0, 1.0), (0.1, 0.1)),
        lambda: HazardCurve((np.inf,), (0.1,)),
        lambda: CURVE.steps([0.0]),
        lambda: CURVE.steps([0.0, np.nan]),
        lambda: CURVE.steps([0.0, 1.0, 1.0]),
        lambda: hazards_from_spreads([1.0], [0.01], 1.0),
        lambda: hazards_from_spreads([1.0], [0.01], -0.1),
        lambda: hazards_from_spreads([1.0], [0.01], np.nan),
        lambda: hazards_from_spreads([1.0, 2.0], [0.03, 0.01]),
        lambda: hazards_from_spreads([1.0, 2.0], [0.03, np.nan]),
        lambda: hazards_from_spreads([1.0, 1.0], [0.03, 0.03]),
        lambda: hazards_from_spreads([1.0, 2.0], [0.03]),
    ],
)
def test_what_is_no_curve_is_refused(make):
    with pytest.raises((ConfigError, DataError)):
        make()


def test_a_book_is_worth_what_black_says_and_nothing_after_its_end(drawn, worth):
    at = 6  # half a year
    option, left = OwedOption(105.0, 2.0, call=False, amount=3.0), 1.5
    value, slope = book_values([option], drawn, TERMS)
    where = (drawn.spot[:, at] * np.exp(0.01 * left), 105.0, left, 0.25, np.exp(-0.03 * left), False)
    assert np.allclose(value[:, at], 3 * black_price(*where), rtol=1e-9, atol=1e-12)
    assert np.allclose(slope[:, at], 3 * black_greeks(*where).delta * np.exp(0.01 * left), rtol=1e-9, atol=1e-12)
    assert np.allclose(value[:, -1], 3 * np.maximum(105 - drawn.spot[:, -1], 0))
    parts = sum(book_values([contract], drawn, TERMS)[0] for contract in BOOK)
    assert np.allclose(worth, parts, atol=1e-12) and not book_values([], drawn, TERMS)[0].any()
    ended = book_values([OwedForward(101.0, 1.0)], drawn, TERMS)[0]
    assert np.allclose(ended[:, 12], drawn.spot[:, 12] - 101) and not ended[:, 13:].any()


def test_a_contract_that_ends_on_a_date_up_to_rounding_is_still_owed_there():
    paths = black_paths(SPOT, *TERMS, [0.0, 0.1 + 0.2], 4)
    assert book_values([OwedForward(50.0, 0.3)], paths, TERMS)[0][:, 1].all()
    assert book_values([OwedOption(1.0, 0.3)], paths, TERMS)[0][:, 1].all()


def test_without_volatility_an_option_is_its_payoff_on_the_forward():
    still = TERMS._replace(volatility=0.0)
    paths = black_paths(SPOT, *still, [0.0, 1.0], 4)
    value, slope = book_values([OwedOption(90.0, 1.0), OwedOption(90.0, 1.0, call=False)], paths, still)
    assert np.allclose(value[:, 0], np.exp(-0.03) * (100 * np.exp(0.01) - 90)) and np.allclose(
        slope[:, 0], np.exp(-0.02)
    )


@pytest.mark.parametrize("bad", [OwedForward(np.nan, 1.0), OwedForward(100.0, 0.0), OwedOption(-1.0, 1.0)])
def test_a_contract_without_terms_is_refused(bad, drawn):
    with pytest.raises(DataError, match="strike"):
        book_values([bad], drawn, TERMS)


def test_the_profile_of_a_forward_is_an_option_and_a_lognormal_quantile(drawn):
    table = exposure_profile(book_values(BOOK[:1], drawn, TERMS)[0], DATES, 0.9)
    for at in (1, 5, 11, 17, 24):
        t, left = DATES[at], 2 - DATES[at]
        bond, stock = np.exp(-0.03 * left), np.exp(-0.02 * left)
        strike, row = 101 * bond / stock, table.iloc[at]
        for name, call in (("epe", True), ("ene", False)):
            true = stock * float(black_price(100 * np.exp(0.01 * t), strike, t, 0.25, 1.0, call))
            assert abs(row[name] - true) < 3.5 * row[f"{name}_error"]
        move = (0.01 - 0.25**2 / 2) * t + 0.25 * np.sqrt(t) * norm.ppf(0.9)
        assert abs(row["pfe"] - stock * (100 * np.exp(move) - strike)) < 3.5 * row["pfe_error"]


def test_netting_never_adds_exposure(drawn, worth):
    alone = sum(exposure_profile(book_values([c], drawn, TERMS)[0], DATES)["epe"] for c in BOOK)
    assert (exposure_profile(worth, DATES)["epe"] <= alone + 1e-9).all()


def test_a_profile_without_paths_dates_or_numbers_is_refused(worth):
    for bad in (worth[:0], worth[:, :3], np.where(worth > 50, np.nan, worth), worth[0]):
        with pytest.raises(DataError):
            exposure_profile(bad, DATES)
    for quantile in (0.0, 1.0, np.nan):
        with pytest.raises(ConfigError):
            exposure_profile(worth, DATES, quantile)


def test_somebody_defaults_first_with_the_chance_that_somebody_defaults():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(0.1, (5, 8)), rng.exponential(0.2, (5, 8))
    a[0], b[1], a[2, 3:] = 0.0, 0.0, np.inf
    b[3, 4], a[3, 4] = np.inf, np.inf
    either = default_chances(a, b) + default_chances(b, a)
    assert np.allclose(either, default_chances(a + b), atol=1e-15)
    assert np.allclose(either.sum(axis=1), -np.expm1(-(a + b).sum(axis=1)))
    assert not default_chances(a, b)[0].any() and np.isclose(
        default_chances(a, b)[2].sum() + default_chances(b, a)[2].sum(), 1
    )
    assert np.isclose(default_chances(a, b)[3, 4], default_chances(b, a)[3, 4])


def test_first_default_agrees_with_drawn_times():
    a, b, rng = np.array([0.2, 0.4]), np.array([0.5, 0.1]), np.random.default_rng(2)
    mine, theirs = rng.exponential(1.0, (2, 400_000))
    when = lambda e, h: np.where(e < h[0], e / h[0], 1 + (e - h[0]) / h[1])
    first = (when(mine, a) < when(theirs, b)) & (when(mine, a) < 2)
    found = [np.mean(first & (when(mine, a) < 1)), np.mean(first & (when(mine, a) >= 1))]
    assert np.allclose(found, default_chances(a, b), atol=3 * 0.5 / np.sqrt(400_000))


@pytest.mark.parametrize("seed", range(5))
def test_our_loss_is_their_gain_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    paths = black_paths(SPOT, *TERMS, DATES, 400, seed)
    worth = book_values(BOOK, paths, TERMS)[0]
    ours, theirs = rng.exponential(0.01, 24), intensity_steps(rng.exponential(0.02, 24), np.log(paths.spot), 1.5)
    if seed == 3:
        ours[5] = np.inf
    us = bilateral_adjustment(worth, ours, theirs, paths, 0.25, 0.4)
    them = bilateral_adjustment(-worth, theirs, ours, paths, 0.4, 0.25)
    assert us.cva == them.dva and us.dva == them.cva
    assert us.net.value == -them.net.value and us.net.error == them.net.error
    assert np.isclose(us.net.value, us.dva.value - us.cva.value) and min(us.cva.value, us.dva.value) > 0


@pytest.mark.parametrize("strike", [80.0, 101.0, 130.0])
@pytest.mark.parametrize("amount", [2.0, -1.0])
def test_a_forward_costs_an_integral_of_options(drawn, strike, amount):
    contract = OwedForward(strike, 2.0, amount)
    worth = book_values([contract], drawn, TERMS)[0]
    chances = default_chances(CURVE.steps(DATES))
    cva, dva = credit_adjustment(worth, chances, drawn, 0.3), credit_adjustment(-worth, chances, drawn, 0.3)
    assert cva.errors_from(forward_credit(contract, SPOT, TERMS, CURVE, 0.3)) < 3
    assert dva.errors_from(forward_credit(contract, SPOT, TERMS, CURVE, 0.3, ours=True)) < 3


def test_the_errors_are_honest():
    "Sixty seeds: the distance from the closed form, in errors, has a deviation of about one."
    apart, chances = [], default_chances(CURVE.steps(DATES[::3]))
    true = option_credit(float(black_price(100 * np.exp(0.02), 105.0, 2.0, 0.25, np.exp(-0.06))), 2.0, CURVE)
    for seed in range(60):
        paths = black_paths(SPOT, *TERMS, DATES[::3], 1_000, seed)
        found = credit_adjustment(book_values(BOOK[1:2], paths, TERMS)[0], chances, paths)
        apart.append((found.value - true) / found.error)
    assert 0.75 < np.std(apart) < 1.3 and abs(np.mean(apart)) < 0.4


def test_one_step_prices_an_option_at_its_default_and_price():
    paths = black_paths(SPOT, *TERMS, [0.0, 2.0], 20_000, seed=4)
    option = book_values(BOOK[1:2], paths, TERMS)[0]
    found = credit_adjustment(option, default_chances(CURVE.steps([0.0, 2.0])), paths, 0.0)
    assert found.errors_from(option_credit(float(option[0, 0]), 2.0, CURVE, 0.0)) < 3
    assert credit_adjustment(option, default_chances(CURVE.steps([0.0, 2.0])), paths, 1.0).value == 0


def test_nobody_defaults_without_hazard_and_all_at_once_with_an_infinite_one(drawn, worth):
    never, at_once = default_chances(FLAT(0.0).steps(DATES)), default_chances(FLAT(np.inf).steps(DATES))
    assert not never.any() and at_once.tolist() == [1.0, *[0.0] * 23]
    assert credit_adjustment(worth, never, drawn) == credit_adjustment(np.zeros_like(worth), at_once, drawn)
    ends = np.maximum(worth[:, :2], 0) * np.exp(-0.03 * DATES[:2])
    assert np.isclose(credit_adjustment(worth, at_once, drawn, 0.4).value, 0.6 * ends.mean())
    deep = OwedForward(80.0, 2.0)
    owed = np.exp(-0.04) * 100 - np.exp(-0.06) * 80
    assert np.isclose(forward_credit(deep, SPOT, TERMS, FLAT(np.inf), 0.0), owed)
    assert forward_credit(deep, SPOT, TERMS, FLAT(0.0)) == 0 and option_credit(5.0, 1.0, FLAT(np.inf), 0.4) == 3.0
    both = bilateral_adjustment(worth, FLAT(np.inf).steps(DATES), FLAT(np.inf).steps(DATES), drawn, 0.4, 0.4)
    assert np.isclose(both.cva.value, 0.3 * ends.mean())


@pytest.mark.parametrize("recovery", [-0.1, 1.1, np.nan])
def test_a_recovery_outside_its_bounds_is_refused(drawn, worth, recovery):
    chances = default_chances(CURVE.steps(DATES))
    for call in (
        lambda: credit_adjustment(worth, chances, drawn, recovery),
        lambda: bilateral_adjustment(worth, chances, chances, drawn, recovery),
        lambda: option_credit(1.0, 1.0, CURVE, recovery),
        lambda: forward_credit(BOOK[0], SPOT, TERMS, CURVE, recovery),
        lambda: credit_slopes(worth, worth, chances, drawn, recovery),
    ):
        with pytest.raises(ConfigError, match="recovery"):
            call()


def test_values_and_chances_that_do_not_fit_the_paths_are_refused(drawn, worth):
    chances = default_chances(CURVE.steps(DATES))
    for bad in (worth[:, :-1], worth[:0], np.full_like(worth, np.nan), np.full_like(worth, np.inf)):
        with pytest.raises(DataError):
            credit_adjustment(bad, chances, drawn)
    for bad in (chances[:-1], np.full_like(chances, np.nan), np.ones((3, 24)), 0.5):
        with pytest.raises(DataError):
            credit_adjustment(worth, bad, drawn)
    for bad in ([-0.1, 0.2], [np.nan, 0.1], 0.3):
        with pytest.raises(DataError):
            default_chances(bad)
    for other in ([0.1, 0.2, 0.3], [-0.1, 0.1], [np.nan, 0.1]):
        with pytest.raises(DataError):
            default_chances([0.1, 0.2], other)


@pytest.mark.parametrize("tied", ["copula", "intensity"])
def test_dependence_keeps_the_curve_and_orders_the_loss(drawn, worth, tied):
    steps, logs, costs = CURVE.steps(DATES), np.log(drawn.spot), []
    for lean in (-0.8, 0.0, 0.8):
        by_path = copula_steps(steps, logs[:, -1], lean) if tied == "copula" else intensity_steps(steps, logs, 3 * lean)
        lived = np.exp(-by_path.cumsum(axis=1)).mean(axis=0)
        assert np.abs(lived - np.exp(-steps.cumsum())).max() < (1e-3 if tied == "copula" else 1e-12)
        costs.append(credit_adjustment(worth, default_chances(by_path), drawn).value)
    assert costs[0] < 0.7 * costs[1] and costs[2] > 1.5 * costs[1]
    assert np.isclose(costs[1], credit_adjustment(worth, default_chances(steps), drawn).value, rtol=1e-9)


@pytest.mark.parametrize("tied", ["copula", "intensity"])
def test_dependent_losses_agree_with_drawn_defaults(drawn, worth, tied):
    steps, logs = CURVE.steps(DATES), np.log(drawn.spot)
    by_path = copula_steps(steps, logs[:, -1], 0.6) if tied == "copula" else intensity_steps(steps, logs, 2.0)
    expected = credit_adjustment(worth, default_chances(by_path), drawn)
    owed = np.maximum(worth, 0) * np.exp(-0.03 * DATES)
    owed, rng, draws = (owed[:, 1:] + owed[:, :-1]) / 2, np.random.default_rng(5), []
    for _ in range(40):
        when = (by_path.cumsum(axis=1) < rng.exponential(1.0, (len(worth), 1))).sum(axis=1)
        draws.append(0.6 * np.mean(np.where(when < 24, owed[np.arange(len(worth)), np.minimum(when, 23)], 0.0)))
    assert abs(np.mean(draws) - expected.value) < 3.5 * np.std(draws) / np.sqrt(40)


@pytest.mark.parametrize("correlation", [-0.7, 0.5])
def test_the_copula_has_an_integral(drawn, correlation):
    option, steps = book_values(BOOK[1:2], drawn, TERMS)[0], CURVE.steps(DATES)
    found = credit_adjustment(option, default_chances(copula_steps(steps, drawn.spot[:, -1], correlation)), drawn)
    z = np.linspace(-8.5, 8.5, 2001)
    bound = np.concatenate([[-np.inf], norm.ppf(-np.expm1(-steps.cumsum()))])
    rho, t = correlation * np.sqrt(DATES / 2)[:, None], DATES[:, None]
    spots = SPOT * np.exp((0.01 - 0.25**2 / 2) * t + 0.25 * np.sqrt(t) * z)
    values = np.array([BOOK[1].values(s, u, TERMS)[0] * np.exp(-0.03 * u) for s, u in zip(spots, DATES, strict=True)])
    chance = norm.cdf((bound[:, None, None] + rho * z) / np.sqrt(1 - rho**2))  # step, date, z
    owed = np.diff(chance, axis=0) * values * norm.pdf(z) * (z[1] - z[0])
    true = 0.6 * sum(owed[i, i].sum() + owed[i, i + 1].sum() for i in range(24)) / 2
    assert found.errors_from(true) < 3.5


def test_infinite_and_absent_hazards_pass_through_dependence(drawn):
    logs = np.log(drawn.spot)
    steps = np.array([0.0, 0.1, np.inf, 0.2, *[0.1] * 20])
    for by_path in (copula_steps(steps, logs[:, -1], 0.5), intensity_steps(steps, logs, 1.0)):
        assert not by_path[:, 0].any() and np.isinf(by_path[:, 2:]).all() and np.isfinite(by_path[:, 1]).all()
        assert np.allclose(default_chances(by_path).sum(axis=1), 1)
    tiny = copula_steps(np.array([1e-20]), logs[:, -1], 0.3)
    assert (tiny >= 0).all() and 0 < tiny.mean() < 1e-18


def test_dependence_without_a_factor_is_refused(drawn):
    steps, logs = CURVE.steps(DATES), np.log(drawn.spot)
    for factor in (np.zeros(10), np.array([]), np.array([np.nan, 1.0]), logs):
        with pytest.raises(DataError):
            copula_steps(steps, factor, 0.5)
    for correlation in (-1.0, 1.0, np.nan):
        with pytest.raises(ConfigError):
            copula_steps(steps, logs[:, -1], correlation)
    for factor, lean in ((logs[:, :-1], 1.0), (logs, np.nan), (np.full_like(logs, np.nan), 1.0)):
        with pytest.raises(DataError):
            intensity_steps(steps, factor, lean)


def test_slopes_agree_with_the_closed_form_and_each_other():
    strike, end = 95.0, np.exp(-0.03)
    last = black_paths(SPOT, *TERMS, [0.0, 1.0], 20_000, seed=8)
    payoff = lambda s, v: (
        end * np.maximum(black_paths(s, 0.03, 0.01, v, [0.0, 1.0], 20_000, seed=8).spot[:, 1] - strike, 0)
    )
    by_spot = np.stack([np.zeros(20_000), end * (last.spot[:, 1] > strike)], axis=1)
    greeks = black_greeks(100 * np.exp(0.01), strike, 1.0, 0.25, end)
    true = np.array([float(greeks.delta) * np.exp(0.01), float(greeks.vega)])
    ways = bump_slopes(payoff, SPOT, 0.25), pathwise_slopes(by_spot, last, TERMS)
    for found in (*ways, likelihood_slopes(payoff(SPOT, 0.25), last, TERMS)):
        assert (np.abs(found["value"] - true) < 3 * found["error"]).all()
    assert (np.abs(ways[0]["value"] - ways[1]["value"]) < 0.5 * ways[1]["error"]).all()
    assert (
        ways[1].loc["delta", "error"] < 0.5 * likelihood_slopes(payoff(SPOT, 0.25), last, TERMS).loc["delta", "error"]
    )


def test_slopes_of_the_credit_loss_agree_by_bump_and_by_path(drawn, worth):
    chances = default_chances(CURVE.steps(DATES))

    def losses(spot, volatility):
        paths, terms = (
            black_paths(spot, 0.03, 0.01, volatility, DATES, 10_000, 1),
            TERMS._replace(volatility=volatility),
        )
        owed = np.maximum(book_values(BOOK, paths, terms)[0], 0) * np.exp(-0.03 * DATES)
        return 0.6 * ((owed[:, 1:] + owed[:, :-1]) / 2 * chances).sum(axis=1)

    high, low = (book_values(BOOK, drawn, TERMS._replace(volatility=v))[0] for v in (0.2501, 0.2499))
    valued = credit_slopes(worth, (high - low) / 2e-4, chances, drawn).sum(axis=1)
    by_spot = credit_slopes(worth, book_values(BOOK, drawn, TERMS)[1], chances, drawn)
    along, bumped = pathwise_slopes(by_spot, drawn, TERMS, valued), bump_slopes(losses, SPOT, 0.25)
    assert np.allclose(along["value"], bumped["value"], rtol=2e-3)
    assert (np.abs(along["value"] - bumped["value"]) < 3 * bumped["error"]).all()


def test_slopes_without_noise_or_size_are_refused(drawn):
    still = TERMS._replace(volatility=0.0)
    for call in (
        lambda: pathwise_slopes(drawn.spot, drawn, still),
        lambda: likelihood_slopes(drawn.spot[:, -1], drawn, still),
        lambda: bump_slopes(lambda s, v: drawn.spot[:, -1], SPOT, 0.2, 0.0),
    ):
        with pytest.raises(ConfigError):
            call()


def test_a_contract_is_charged_up_to_its_end_and_not_beyond():
    put, times = OwedOption(90.0, 1.0, call=False), DATES
    paths, chances = black_paths(SPOT, *TERMS, times, 40_000, seed=3), default_chances(CURVE.steps(times))
    worth, after = (book_values([put], paths, TERMS, later)[0] for later in (False, True))
    assert worth[:, 12].any() and not after[:, 12].any() and np.array_equal(worth[:, :12], after[:, :12])
    price = float(black_price(SPOT * np.exp(0.01), 90.0, 1.0, 0.25, np.exp(-0.03), call=False))
    true = option_credit(price, 1.0, CURVE)
    found = credit_adjustment(worth, chances, paths, after=after)
    assert found.errors_from(true) < 3 < 10 < credit_adjustment(worth, chances, paths).errors_from(true)
    ours, theirs = FLAT(0.05).steps(times), CURVE.steps(times)
    us = bilateral_adjustment(worth, ours, theirs, paths, 0.25, 0.4, after)
    them = bilateral_adjustment(-worth, theirs, ours, paths, 0.4, 0.25, -after)
    assert us.cva == them.dva and us.net.value == -them.net.value
    slopes = [book_values([put], paths, TERMS, later)[1] for later in (False, True)]
    exact = credit_slopes(worth, slopes[0], chances, paths, after=(after, slopes[1]))
    moved = []
    for s in (SPOT * 1.001, SPOT / 1.001):
        there = black_paths(s, *TERMS, times, 40_000, seed=3)
        owed, begun = (book_values([put], there, TERMS, later)[0] for later in (False, True))
        moved.append(credit_adjustment(owed, chances, there, after=begun).value)
    by_bump = (moved[0] - moved[1]) / (SPOT * (1.001 - 1 / 1.001))
    assert np.isclose((exact * paths.spot / SPOT).sum(axis=1).mean(), by_bump, rtol=0.01)


def test_a_volatility_or_a_price_that_is_none_is_refused(drawn):
    for wrong in (-0.2, np.nan, np.inf):
        with pytest.raises(DataError, match="volatility"):
            book_values(BOOK, drawn, TERMS._replace(volatility=wrong))
        with pytest.raises(DataError, match="volatility"):
            black_paths(SPOT, 0.03, 0.01, wrong, DATES, 100)
    with pytest.raises(DataError, match="an option bought"):
        option_credit(-5.0, 1.0, CURVE)
    with pytest.raises(ConfigError, match="volatility 0"):
        bump_slopes(lambda s, v: drawn.spot[:, -1], SPOT, 0.0)
