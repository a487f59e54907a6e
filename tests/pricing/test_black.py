"pricing.black: against QuantLib, against prices of 60 digits, and by its laws."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import DataError
from quantlab.pricing.black import black_greeks, black_price, implied_volatility, volatility_fault

# forward, strike, years, volatility, price: computed with 60 digits (mpmath) from Black's formula on these very floats
EXACT = [
    (100.0, 100.0, 1.0, 0.2, 7.965567455405797),
    (6949.0, 9000.0, 0.019230769230769232, 0.17, 4.4296447338522095e-27),
    (6949.0, 3000.0, 0.07671232876712329, 0.6, 3.0127315037849772e-05),
    (100.0, 100.01, 1e-06, 0.2, 0.003956283197947835),
    (100.0, 99.9, 2e-06, 0.15, 4.993790640087494e-09),
    (100.0, 250.0, 0.25, 0.15, 1.204257484037197e-34),
    (100.0, 20.0, 0.5, 0.4, 1.3215281444715857e-08),
    (100.0, 101.0, 1.902587519025875e-06, 0.3, 7.909843691038138e-131),
    (100.0, 400.0, 30.0, 0.8, 94.52364022218507),
    (100.0, 100.0, 2e-06, 0.01, 0.0005641895835430547),
    (1.0, 1.0000001, 0.0001, 0.1, 0.0003988922857206334),
    (100.0, 104.0, 0.01, 0.05, 1.3741294158667478e-16),
    (100.0, 160.0, 1.0, 0.35, 1.8191864132472813),
]


@pytest.mark.parametrize(("forward", "strike", "years", "volatility", "price"), EXACT)
def test_price_keeps_every_digit(forward, strike, years, volatility, price):
    got = black_price(forward, strike, years, volatility, call=strike >= forward)
    assert abs(got / price - 1) < 3e-14  # far out, rounding the distance to the money moves the price by h^2 roundings
    assert abs(implied_volatility(price, forward, strike, years, call=strike >= forward) / volatility - 1) < 1e-14


def test_price_and_greeks_agree_with_quantlib():
    ql = pytest.importorskip("QuantLib")
    rng = np.random.default_rng(1)
    for _ in range(200):
        F, K = 100.0, 100 * np.exp(rng.uniform(-0.5, 0.5))
        T, v, D = rng.uniform(0.05, 3), rng.uniform(0.1, 0.6), rng.uniform(0.8, 1)
        for call in (True, False):
            side = ql.Option.Call if call else ql.Option.Put
            theirs = ql.BlackCalculator(ql.PlainVanillaPayoff(side, float(K)), F, float(v * np.sqrt(T)), float(D))
            greeks = black_greeks(F, K, T, v, D, call)
            assert black_price(F, K, T, v, D, call) == pytest.approx(theirs.value(), rel=1e-10, abs=1e-12)
            assert greeks.delta == pytest.approx(theirs.deltaForward(), rel=1e-10)
            assert greeks.gamma == pytest.approx(theirs.gammaForward(), rel=1e-10)
            assert greeks.vega == pytest.approx(theirs.vega(float(T)), rel=1e-10)


def test_implied_volatility_agrees_with_quantlib():
    ql = pytest.importorskip("QuantLib")
    for K in (60.0, 90.0, 100.0, 120.0, 170.0):
        price = float(black_price(100, K, 0.7, 0.33, call=K > 100))
        side = ql.Option.Call if K > 100 else ql.Option.Put
        theirs = ql.blackFormulaImpliedStdDevLiRS(side, K, 100.0, price, 1.0, 0.0, 0.2, 1.0, 1e-15, 100)
        assert implied_volatility(price, 100, K, 0.7, call=K > 100) == pytest.approx(theirs / np.sqrt(0.7), rel=1e-12)


@pytest.mark.parametrize("greek", ["delta", "gamma", "vega", "theta", "vanna", "volga"])
@pytest.mark.parametrize("call", [True, False])
def test_greeks_are_derivatives(greek, call):
    at = {"forward": 100.0, "years": 0.6, "volatility": 0.3}
    moved, of, sign = {
        "delta": ("forward", None, 1),
        "gamma": ("forward", "delta", 1),
        "vega": ("volatility", None, 1),
        "theta": ("years", None, -1),
        "vanna": ("volatility", "delta", 1),
        "volga": ("volatility", "vega", 1),
    }[greek]
    step = 1e-4 * at[moved]

    def value(change):
        now = at | {moved: at[moved] + change}
        if of is None:
            return black_price(strike=110.0, discount=0.9, call=call, **now)
        return getattr(black_greeks(strike=110.0, discount=0.9, call=call, **now), of)

    slope = sign * (value(step) - value(-step)) / (2 * step)
    exact = getattr(black_greeks(strike=110.0, discount=0.9, call=call, **at), greek)
    assert exact == pytest.approx(slope, rel=1e-6)


moneyness, times, sigmas = st.floats(-3, 3), st.floats(1e-5, 30), st.floats(0.01, 3)


@given(moneyness, times, sigmas, st.booleans())
def test_round_trip_is_as_good_as_the_price_allows(x, years, volatility, call):
    strike = 100 * np.exp(x)
    price = black_price(100, strike, years, volatility, call=call)
    back = implied_volatility(price, 100, strike, years, call=call)
    fault = volatility_fault(price, 100, strike, years, call=call)
    vega = black_greeks(100, strike, years, volatility).vega
    floor = max(100 - strike if call else strike - 100, 0)
    doubt = np.finfo(float).eps * max(float(price), floor) / (vega * volatility) if vega > 0 else np.inf
    if fault == "":
        assert abs(back / volatility - 1) <= 8 * doubt + 4e-15
        if doubt < 1e-13:
            assert abs(back / volatility - 1) < 1e-12
    else:
        assert np.isnan(back) and (doubt > 1e-3 or price < 1e-290)


@given(moneyness, times, sigmas)
def test_parity_bounds_and_order(x, years, volatility):
    strike = 100 * np.exp(x)
    call, put = black_price(100, strike, years, volatility, 0.9, [True, False])
    assert call - put == pytest.approx(0.9 * (100 - strike), abs=1e-12 * (100 + strike))
    assert max(0.9 * (100 - strike), 0) <= call <= 90 and max(0.9 * (strike - 100), 0) <= put <= 0.9 * strike
    assert black_price(100, strike, years, volatility * 1.01) >= black_price(100, strike, years, volatility)
    assert black_price(100, strike * 1.01, years, volatility) <= black_price(100, strike, years, volatility)
    strikes = strike * np.array([0.98, 1.0, 1.02])
    low, mid, high = black_price(100, strikes, years, volatility)
    assert low + high - 2 * mid >= -1e-13 * max(low, 1e-300) - 4e-14 * max(100 - strike, 0)


def test_degenerate_inputs_are_defined():
    assert black_price(100, 90, 0, 0.2) == 10 and black_price(100, 110, 1, 0) == 0
    assert np.isnan(black_price(100, [90, np.nan], 1, 0.2)).tolist() == [False, True]
    assert black_price(100, [], 1, 0.2).shape == (0,) and implied_volatility([], 100, 90, 1).shape == (0,)
    assert np.isnan(black_greeks(100, 90, 0, 0.2).gamma) and np.isnan(black_greeks(100, 90, 1, 0).gamma)
    assert black_price(100, 100, 1, 200) == pytest.approx(100) and black_price(1, 1e300, 1, 0.1) == 0
    assert implied_volatility([[1.0], [2.0]], 100, [100, 101, 102], 1).shape == (2, 3)


@pytest.mark.parametrize(
    ("price", "terms", "reason"),
    [
        (np.nan, {}, "missing"),
        (5.0, {"years": 0.0}, "expired"),
        (-1.0, {}, "below intrinsic value"),
        (9.0, {"strike": 90.0}, "below intrinsic value"),
        (10.0, {"strike": 90.0}, "no time value"),
        (0.0, {}, "no time value"),
        (np.nextafter(10.0, 11.0), {"strike": 90.0}, "no time value"),
        (1e-305, {"strike": 300.0}, "no time value"),
        (100.0, {}, "not below its upper bound"),
        (120.0, {"strike": 120.0, "call": False}, "not below its upper bound"),
        (5.0, {}, ""),
    ],
)
def test_a_price_without_a_volatility_says_why(price, terms, reason):
    terms = {"forward": 100.0, "strike": 100.0, "years": 1.0} | terms
    assert volatility_fault(price, **terms) == reason
    assert np.isnan(implied_volatility(price, **terms)) == (reason != "")


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"strike": [90, 0, -5]}, "2 of 3 values of strike are not finite and positive, first 0"),
        ({"forward": np.inf}, "1 of 1 values of forward"),
        ({"volatility": -0.1}, "volatility are not finite and zero or more"),
        ({"years": [-1.0, 1.0]}, "1 of 2 values of years"),
        ({"discount": 0.0}, "discount"),
        ({"strike": [90, 95, 100], "years": [1, 2]}, "do not fit each other"),
    ],
)
def test_wrong_terms_are_refused(terms, said):
    with pytest.raises(DataError, match=said):
        black_price(**({"forward": 100, "strike": 100, "years": 1, "volatility": 0.2} | terms))


def test_a_whole_chain_is_inverted_at_once():
    rng = np.random.default_rng(3)
    n = 20_000
    K, T, v = 100 * np.exp(rng.normal(0, 0.3, n)), rng.uniform(0.01, 3, n), rng.uniform(0.1, 0.8, n)
    price = black_price(100, K, T, v, call=K > 100)
    back = implied_volatility(price, 100, K, T, call=K > 100)
    known = np.isfinite(back)
    assert np.abs(back[known] / v[known] - 1).max() < 1e-12 and known.mean() > 0.99
    assert (price[~known] < 1e-290).all()
