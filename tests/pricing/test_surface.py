"pricing.surface: the published smile, a hundred dents between strikes, a hundred clean surfaces, and the fit."

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quantlab.core.errors import DataError
from quantlab.data.sample import sample_options
from quantlab.pricing.black import black_price
from quantlab.pricing.chain import chain_from_contracts, chain_volatilities, parity_forwards, usable_quotes
from quantlab.pricing.surface import (
    JumpWings,
    Ssvi,
    Surface,
    Svi,
    _quotes_at,
    butterfly_spans,
    calendar_spans,
    certify_surface,
    fit_ssvi,
    fit_surface,
    fit_svi,
    slice_names,
    ssvi_conditions,
    surface_faults,
    surface_variance,
    svi_from_wings,
    svi_wings,
)

VOGT = Svi(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)  # Gatheral and Jacquier 2014, example 3.1
STRIKES = np.arange(-0.6, 0.61, 0.05)  # log moneyness at which quotes would stand


@pytest.fixture(scope="module")
def quotes():
    chain = chain_from_contracts(sample_options(), "2026-01-30 16:00-05:00")
    return usable_quotes(chain_volatilities(chain, parity_forwards(chain, 0.0365)))


@pytest.fixture(scope="module")
def fitted(quotes):
    return fit_surface(quotes)


def clean_surface(seed, count=5):
    "An SSVI surface inside the closed conditions."
    rng = np.random.default_rng(seed)
    while True:
        ssvi = Ssvi(rng.uniform(-0.9, 0.4), rng.uniform(0.2, 2.0), rng.uniform(0.0, 0.6))
        theta = np.cumsum(rng.uniform(0.001, 0.05, count))
        if (ssvi_conditions(ssvi, theta) >= 0).all().all():
            return as_surface([ssvi.slice(level) for level in theta])


def as_surface(slices):
    years = np.arange(1, len(slices) + 1) / 4
    return Surface(tuple(f"S{i}" for i in range(len(slices))), years, np.full(len(slices), 100.0), tuple(slices))


def slow_density(svi, x, step=1e-4):
    "The second derivative of the call price to strike, in differences: sign of the density."
    K = np.exp(x[:, None]) * (1 + step * np.array([-1, 0, 1]))
    price = black_price(1.0, K, 1.0, np.sqrt(svi.variance(np.log(K))), call=x[:, None] > 0)
    return (price[:, 0] - 2 * price[:, 1] + price[:, 2]) / (step * np.exp(x)) ** 2


def test_vogts_smile_is_the_published_one_and_is_caught():
    published = JumpWings(0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249)
    assert np.allclose(svi_wings(VOGT, 1), published, rtol=1e-6, atol=0)
    again = svi_from_wings(published, 1)
    assert np.allclose(again, VOGT, rtol=0, atol=2e-5)
    for svi in (VOGT, again):
        spans = butterfly_spans(svi)
        assert len(spans) == 1
        assert spans["worst"][0] == pytest.approx(-0.033, abs=5e-4) and spans["at"][0] == pytest.approx(0.88, abs=0.01)
    with pytest.raises(DataError, match=r"butterfly arbitrage at S0, log moneyness 0\.6"):
        certify_surface(as_surface([VOGT]))


@given(st.floats(0.001, 0.2), st.floats(0.01, 0.5), st.floats(-0.95, 0.95), st.floats(-0.3, 0.3), st.floats(0.01, 0.5))
@settings(max_examples=60)
def test_jump_wings_come_back(level, b, rho, m, sigma):
    svi = Svi(level, b, rho, m, sigma)
    wings = svi_wings(svi, 0.7)
    assume(wings.least > 0 and wings.variance / wings.least > 1.001)
    assert np.allclose(svi_from_wings(wings, 0.7).variance(STRIKES), svi.variance(STRIKES), rtol=1e-6)


def test_wings_that_do_not_say_a_slice_are_refused():
    with pytest.raises(DataError, match="least variance is at the money"):
        svi_from_wings(svi_wings(Svi(0.02, 0.2, 0.0, 0.0, 0.1), 1), 1)
    with pytest.raises(DataError, match="are of no SVI slice: beta"):
        svi_from_wings(JumpWings(0.04, -3.0, 0.5, 0.4, 0.03), 1)
    level = Svi(0.02, 0.2, -0.4, 0.0, 0.1)  # beta is 0
    assert np.allclose(svi_from_wings(svi_wings(level, 1), 1), level, atol=1e-12)


def test_g_has_the_sign_of_the_density():
    x = np.linspace(-1, 1.4, 49)
    density, g = slow_density(VOGT, x), VOGT.density_sign(x)
    far = np.abs(g) > 1e-3
    assert (np.sign(density[far]) == np.sign(g[far])).all() and (g[far] < 0).any()


@given(st.floats(-0.01, 0.05), st.floats(0.01, 1.2), st.floats(-0.95, 0.95), st.floats(-0.3, 0.3), st.floats(-3, 0))
@settings(max_examples=200)
def test_roots_and_a_fine_grid_agree(a, b, rho, m, size):
    svi = Svi(a, b, rho, m, 10**size)
    assume(a + b * svi.sigma * np.sqrt(1 - rho**2) > 1e-4)
    x = m + svi.sigma * np.sinh(np.linspace(-11, 11, 20_001))
    negative = svi.density_sign(x) < -1e-6
    spans = butterfly_spans(svi)
    inside = np.zeros(len(x), bool)
    for low, high in zip(spans["low"], spans["high"], strict=True):
        inside |= (x >= low - 1e-7) & (x <= high + 1e-7)
    assert not (negative & ~inside).any()  # nothing that a grid sees is missed
    assert (svi.density_sign(spans["at"].to_numpy()) < 0).all()


def test_no_alarm_on_a_hundred_clean_surfaces():
    for seed in range(100):
        surface = clean_surface(seed)
        assert surface_faults(surface).empty, seed
        margins = certify_surface(surface)
        assert (margins.to_numpy() >= -1e-12).all()


def narrow_dents(count):
    "Slices whose density is negative between two strikes only."
    rng, found = np.random.default_rng(5), []
    while len(found) < count:
        svi = Svi(rng.uniform(0, 0.03), rng.uniform(0.05, 0.3), rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3), 0.0)
        svi = svi._replace(sigma=10 ** rng.uniform(-3, -2))
        x = np.linspace(-3, 3, 6001)
        g = svi.density_sign(x)
        inside = x[g < 0]
        if len(inside) and (svi.density_sign(STRIKES) > 0).all() and svi.b * (1 + abs(svi.rho)) < 2:
            found.append((svi, x[g.argmin()]))
    return found


def test_fifty_butterflies_between_strikes_are_caught():
    for svi, worst in narrow_dents(50):
        spans = butterfly_spans(svi)
        assert ((spans["low"] <= worst) & (worst <= spans["high"])).any()
        with pytest.raises(DataError, match="butterfly arbitrage at S0"):
            certify_surface(as_surface([svi]))


def test_fifty_crossings_between_strikes_are_caught():
    rng, count = np.random.default_rng(6), 0
    while count < 50:
        early = clean_surface(int(rng.integers(10**6)), 2).slices[1]
        m, b, sigma = (
            rng.choice(STRIKES[4:-4]) + rng.uniform(0.015, 0.035),
            rng.uniform(0.2, 0.6),
            10 ** rng.uniform(-3, -2),
        )
        late = Svi(0.0, b, 0.0, m, sigma)
        late = late._replace(a=float(early.variance(m)) * rng.uniform(0.97, 0.999) - b * sigma)
        if late.a <= 0 or (late.variance(STRIKES) < early.variance(STRIKES)).any():
            continue
        count += 1
        spans = calendar_spans(early, late)
        assert ((spans["low"] <= m) & (m <= spans["high"])).any()
        assert "calendar" in set(surface_faults(as_surface([early, late]))["kind"])


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=60)
def test_crossings_and_a_fine_grid_agree(one, two):
    early, late = clean_surface(one, 1).slices[0], clean_surface(two, 1).slices[0]
    x = np.linspace(-9.99, 9.99, 20_001)
    negative = late.variance(x) - early.variance(x) < -1e-7
    inside = np.zeros(len(x), bool)
    for low, high in calendar_spans(early, late)[["low", "high"]].to_numpy():
        inside |= (x >= low - 1e-7) & (x <= high + 1e-7)
    assert not (negative & ~inside).any()
    gaps = calendar_spans(early, late)["at"].to_numpy()
    assert (late.variance(gaps) < early.variance(gaps)).all()


def test_wings_and_variance_are_conditions_too():
    steep = Svi(0.01, 1.2, 0.8, 0.0, 0.1)
    assert set(surface_faults(as_surface([steep]))["kind"]) >= {"wing"}
    for bad in (VOGT._replace(a=-0.2), VOGT._replace(b=-0.1), VOGT._replace(rho=1.0), VOGT._replace(a=np.nan)):
        assert surface_faults(as_surface([bad]))["kind"].tolist() == ["variance"]


def test_closed_conditions_of_ssvi_imply_the_polynomial():
    rng, broken = np.random.default_rng(8), 0
    for _ in range(300):
        ssvi = Ssvi(rng.uniform(-0.95, 0.95), rng.uniform(0.1, 4), rng.uniform(0, 1))
        theta = np.sort(rng.uniform(0.001, 1.0, 3))
        holds = (ssvi_conditions(ssvi, theta) >= 0).all().all()
        faults = surface_faults(as_surface([ssvi.slice(t) for t in theta]))
        broken += len(faults) > 0
        assert faults.empty or not holds
        assert "calendar" not in set(faults["kind"])  # theta rises: theorem 4.1 holds for the power law
    assert broken > 30
    assert (ssvi_conditions(Ssvi(-0.5, 1, 0.4), [0.02, 0.01])["theta rises"] < 0).any()


def test_the_sample_is_fitted_and_certified(quotes, fitted):
    margins = certify_surface(fitted, quotes)
    assert len(margins) == 12 and (margins >= 0).all().all()
    rows = quotes.assign(x=np.log(quotes["strike"] / quotes["forward"]), slice=slice_names(quotes))
    rows = rows[rows["x"].abs() < 2.5 * rows["volatility_mid"] * np.sqrt(rows["years"])]
    for name, years, svi in zip(fitted.names, fitted.years, fitted.slices, strict=True):
        mine = rows[rows["slice"] == name]
        miss = np.sqrt(svi.variance(mine["x"]) / years) - mine["volatility_mid"]
        assert np.sqrt((miss**2).mean()) < 0.01, name


def test_a_free_fit_is_refused_by_name(quotes):
    free = fit_surface(quotes, penalty=0)
    with pytest.raises(DataError) as refusal:
        certify_surface(free, quotes)
    said = str(refusal.value)
    assert "arbitrage at 2026-" in said and "strikes" in said and "quotes SPX" in said and "more in" in said


def test_a_refusal_names_the_neighbours_of_a_dent_between_strikes(quotes, fitted):
    place = fitted.names.index("2026-02-27 SPXW")
    strikes = np.sort(quotes.loc[slice_names(quotes) == fitted.names[place], "strike"])
    low, high = strikes[strikes < 6000][-1], strikes[strikes >= 6000][0]
    middle = np.log((low + high) / 2 / fitted.forwards[place])
    slices = list(fitted.slices)
    dip = Svi(float(slices[place - 1].variance(middle)) * 0.999 - 3e-6, 3.0, 0.0, float(middle), 1e-6)
    slices[place] = dip
    spans = calendar_spans(slices[place - 1], dip)
    reach = fitted.forwards[place] * np.exp(spans[["low", "high"]].iloc[0])
    assert low < reach["low"] and reach["high"] < high
    fault = surface_faults(fitted._replace(slices=tuple(slices)))
    fault = fault[(fault["kind"] == "calendar") & (fault["slice"] == place)].iloc[0]
    said = _quotes_at(fault, fitted, quotes)
    assert f"2026-02-27 {low:g} put" in said and f"2026-02-27 {high:g} put" in said


def test_a_fit_finds_its_own_slice_and_forgives_one_stale_quote():
    x = np.linspace(-0.4, 0.25, 30)
    for seed in range(10):
        truth = clean_surface(seed, 1).slices[0]
        w = truth.variance(x)
        back = fit_svi(x, w, np.full(30, 0.005) * w)
        assert np.abs(np.sqrt(back.variance(x) / w) - 1).max() < 2e-3
        stale = w.copy()
        stale[10] *= 1.6
        back = fit_svi(x, stale, np.full(30, 0.005) * w)
        assert np.abs(np.sqrt(np.delete(back.variance(x) / w, 10)) - 1).max() < 0.02


def test_a_slice_is_kept_above_the_one_before():
    x = np.linspace(-0.4, 0.25, 30)
    early = clean_surface(1, 1).slices[0]
    w = early.variance(x) * 0.99
    late = fit_svi(x, w, 0.01 * w, before=early)
    assert calendar_spans(early, late).empty and butterfly_spans(late).empty
    free = fit_svi(x, w, 0.01 * w, before=early, penalty=0)
    assert len(calendar_spans(early, free))


def test_a_slice_needs_five_good_quotes():
    x = np.linspace(-0.1, 0.1, 5)
    for at, w, error in (
        (x[:4], np.full(4, 0.04), np.full(4, 0.01)),
        (x, np.full(5, np.nan), np.full(5, 0.01)),
        (x, np.full(5, 0.04), np.zeros(5)),
    ):
        with pytest.raises(DataError, match="needs five finite quotes"):
            fit_svi(at, w, error)


def test_between_expiries_no_arbitrage_appears(fitted):
    x = np.linspace(-0.5, 0.2, 141)
    years = np.concatenate([np.linspace(0.003, 0.88, 40), fitted.years])
    grid = np.array([surface_variance(fitted, x, t) for t in np.sort(years)])
    assert (np.diff(grid, axis=0) >= -1e-12).all()
    for t, svi in zip(fitted.years, fitted.slices, strict=True):
        assert np.allclose(surface_variance(fitted, x, t), svi.variance(x), rtol=1e-12)
        assert np.allclose(surface_variance(fitted, x[40:], t - 1e-7), svi.variance(x[40:]), rtol=1e-4)
    for w in grid:
        price = black_price(1.0, np.exp(x), 1.0, np.sqrt(w))
        slope = np.diff(price) / np.diff(np.exp(x))
        assert (np.diff(slope) > -1e-9).all() and (slope <= 0).all() and (slope >= -1).all()
    level = [float(s.variance(0.0)) for s in fitted.slices]
    for t in (0.03, 0.11, 0.3, 0.6):  # at the money total variance is a straight line in time
        assert surface_variance(fitted, 0.0, t) == pytest.approx(np.interp(t, fitted.years, level), rel=0.01)
    for bad in (0.0, -1.0, 2.0, np.nan):
        with pytest.raises(DataError, match="not within the surface"):
            surface_variance(fitted, x, bad)


def test_ssvi_of_the_sample_keeps_its_conditions(quotes):
    ssvi, surface = fit_ssvi(quotes)
    theta = [float(s.variance(0.0)) for s in surface.slices]
    assert (ssvi_conditions(ssvi, theta) >= -1e-9).all().all() and surface_faults(surface).empty
    assert -0.9 < ssvi.rho < -0.4


def test_ssvi_comes_back_from_its_own_quotes():
    start = pd.Timestamp("2026-01-30 21:00", tz="UTC").as_unit("us")
    truth, days = Ssvi(-0.6, 1.1, 0.4), np.array([30, 90, 180])
    rows = []
    for day, level in zip(days, 0.04 * days / 365, strict=True):
        strike = 100 * np.exp(np.linspace(-2.5, 2, 15) * np.sqrt(level))
        sigma = np.sqrt(truth.slice(level).variance(np.log(strike / 100)) / (day / 365))
        rows.append(pd.DataFrame({"expiry": start + pd.Timedelta(days=int(day)), "root": "A", "strike": strike,
                                  "forward": 100.0, "years": day / 365, "volatility_mid": sigma,
                                  "volatility_bid": sigma * 0.99, "volatility_ask": sigma * 1.01}))  # fmt: skip
    found, surface = fit_ssvi(pd.concat(rows, ignore_index=True))
    assert np.allclose(found, truth, rtol=1e-3) and np.allclose(surface.years * 365, days)
    assert [float(s.variance(0.0)) for s in surface.slices] == pytest.approx(list(0.04 * days / 365), rel=1e-4)


def test_slices_of_one_level_and_too_few_quotes(quotes):
    flat = Surface(("a", "b"), np.array([0.5, 1.0]), np.array([100.0, 100.0]), (Svi(0.04, 0.0, 0.0, 0.0, 0.1),) * 2)
    certify_surface(flat)
    assert np.allclose(surface_variance(flat, np.array([-0.1, 0.0, 0.2]), 0.75), 0.04)
    for few in (quotes[:0], quotes[:1]):
        for fit in (fit_surface, fit_ssvi):
            with pytest.raises(DataError, match="needs 5 or more"):
                fit(few)
    with pytest.raises(DataError, match="variance arbitrage"):
        certify_surface(flat._replace(slices=(Svi(np.nan, 0.0, 0.0, 0.0, 0.1),) * 2))
