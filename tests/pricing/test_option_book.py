"A book of options: known values, slopes against bumps, parity, the days of the past, and what is refused."

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from quantlab.core.errors import DataError
from quantlab.pricing.black import black_price
from quantlab.pricing.chain import chain_volatilities, parity_forwards
from quantlab.pricing.option_book import (
    book_greeks,
    book_scenarios,
    bumped_greeks,
    option_positions,
    price_book,
    scenario_grid,
)
from quantlab.pricing.surface import Surface, Svi

SPOT, RATE, CARRY, VOL = 100.0, 0.04, 0.02, 0.25
ROOTS, SETTLES = {"XYZ": "XYZ", "ABC": "ABC"}, {"XYZ": "16:00", "ABC": "16:00"}
QUOTED = pd.Timestamp("2026-01-30 16:00", tz="America/New_York").tz_convert("UTC").as_unit("us")


def chain_of(root: str = "XYZ", spot: float = SPOT) -> pd.DataFrame:
    "Quotes of Black's prices at one volatility, without a spread."
    strikes = np.arange(0.5, 1.55, 0.05).round(2) * spot
    rows = pd.MultiIndex.from_product([[28, 35], strikes, [False, True]], names=["days", "strike", "call"])
    rows = rows.to_frame(index=False)
    years = rows["days"] / 365
    price = black_price(spot * np.exp(CARRY * years), rows["strike"], years, VOL, np.exp(-RATE * years), rows["call"])
    expiry = QUOTED + pd.to_timedelta(rows["days"], unit="D")
    return rows.drop(columns="days").assign(
        bid=price, ask=price, quoted=QUOTED, expiry=expiry.dt.as_unit("us"), root=root
    )


def volatilities_of(chain: pd.DataFrame) -> pd.DataFrame:
    return chain_volatilities(chain, parity_forwards(chain, RATE))


SMILE = volatilities_of(chain_of())
CALL, PUT = "XYZ260227C00100000", "XYZ260227P00100000"


def book_of(holdings: dict, smile: pd.DataFrame = SMILE, spots=None, surface=None):
    return price_book(option_positions(holdings, ROOTS, settles=SETTLES), smile, spots or {"XYZ": SPOT}, surface)


def returns_of(days: int = 2000, seed: int = 3) -> pd.DataFrame:
    dates = pd.bdate_range(end="2026-01-30", periods=days)
    return pd.DataFrame({"XYZ": 0.01 * np.random.default_rng(seed).standard_normal(days)}, dates)


def test_values_are_those_of_black():
    rows = book_of({CALL: -3, PUT: 2, "XYZ": 50}).rows
    years = 28 / 365
    F, D = SPOT * np.exp(CARRY * years), np.exp(-RATE * years)
    assert rows["value"].iloc[0] == pytest.approx(-300 * float(black_price(F, 100, years, VOL, D)), rel=1e-9)
    assert rows["value"].iloc[1] == pytest.approx(200 * float(black_price(F, 100, years, VOL, D, False)), rel=1e-9)
    assert rows["value"].iloc[2] == 5000
    other = option_positions({CALL: 1}, ROOTS, multiplier=10, settles=SETTLES)
    assert price_book(other, SMILE, {"XYZ": SPOT}).rows["value"].iloc[0] == pytest.approx(rows["value"].iloc[0] / -30)


def test_an_option_in_the_money_has_the_volatility_of_its_partner():
    chain = chain_of()
    inside = (chain["strike"] == 80) & chain["call"]
    chain.loc[inside, ["bid", "ask"]] *= 1.05  # a stale quote in the money
    bought = book_of({"XYZ260227C00080000": 1, "XYZ260227P00080000": -1}, volatilities_of(chain))
    assert np.allclose(bought.rows["volatility"], VOL, atol=1e-6)


def test_a_surface_values_strikes_that_nobody_quotes():
    flat = Surface(("2026-02-27 XYZ", "2026-03-06 XYZ"), np.array([28, 35]) / 365, np.full(2, SPOT),
                   tuple(Svi(VOL**2 * days / 365, 0, 0, 0, 1) for days in (28, 35)))  # fmt: skip
    odd = {"XYZ260227C00101230": 1, "XYZ260306P00090000": 4}
    assert np.allclose(book_of(odd, surface=flat).rows["volatility"], VOL, atol=1e-12)
    with pytest.raises(DataError, match=r"101.23 call: no such contract"):
        book_of(odd)


def test_greeks_are_those_of_bumps_of_the_whole_book_by_underlying():
    smile = pd.concat([SMILE, volatilities_of(chain_of("ABC", 40.0))], ignore_index=True)
    holdings = {CALL: -7, "XYZ260306P00085000": 12, "ABC260306C00042000": 30, "ABC": -400, "XYZ": 90}
    book = book_of(holdings, smile, {"XYZ": SPOT, "ABC": 40.0})
    closed = book_greeks(book).groupby("underlying").sum()
    assert list(closed.index) == ["ABC", "XYZ"]
    np.testing.assert_allclose(bumped_greeks(book, 1e-4)[closed.columns], closed, rtol=2e-5, atol=0.02)


def test_parity_has_no_gamma_and_no_vega():
    synthetic = book_greeks(book_of({CALL: 5, PUT: -5}))
    total, years = synthetic.drop(columns="underlying").sum(), 28 / 365
    assert total["gamma"] == pytest.approx(0, abs=1e-6) and total["vega"] == pytest.approx(0, abs=1e-6)
    forward = 500 * np.exp(-RATE * years) * (SPOT * np.exp(CARRY * years) - 100)
    assert total["value"] == pytest.approx(forward, rel=1e-6)
    assert total["delta"] == pytest.approx(500 * SPOT * np.exp((CARRY - RATE) * years), rel=1e-9)


def test_a_call_deep_in_the_money_behaves_like_its_share():
    deep, share = book_of({"XYZ260227C00050000": 1}), book_of({"XYZ": 100})
    one, other = book_greeks(deep).iloc[0], book_greeks(share).iloc[0]
    assert one["delta"] == pytest.approx(other["delta"], rel=0.003) and abs(one["gamma"]) < 1e-3 * one["delta"]
    past = returns_of()
    gap = book_scenarios(deep, past) - book_scenarios(share, past)
    assert gap.abs().to_numpy().max() < 0.003 * book_scenarios(share, past).abs().to_numpy().max()


def test_the_grid_is_full_revaluation_and_its_slopes_are_right_for_small_moves():
    book = book_of({CALL: -10, PUT: -10, "XYZ": 100})
    grid = scenario_grid(book, (-0.1, 0.0, 0.001), (0.0, 0.001, 0.1))
    years = 28 / 365
    F, D = 0.9 * SPOT * np.exp(CARRY * years), np.exp(-RATE * years)
    by_hand = -1000 * sum(float(black_price(F, 100, years, VOL + 0.1, D, call)) for call in (True, False))
    by_hand += 0.9 * SPOT * 100 - book.rows["value"].sum()
    assert grid.loc[(-0.1, 0.1), "full"] == pytest.approx(by_hand, rel=1e-6)
    assert tuple(grid.loc[(0.0, 0.0)]) == (0, 0)
    small = grid.loc[(0.001, 0.001)]
    assert small["full"] == pytest.approx(small["approximate"], rel=0.02)
    assert (
        grid.loc[(-0.1, 0.0), "full"] > 1.2 * grid.loc[(-0.1, 0.0), "approximate"]
    )  # gamma fades away from the strike


def test_the_days_of_the_past_are_revalued_one_by_one():
    book, past = book_of({CALL: 2, "XYZ": -10}), returns_of(50)
    points = pd.Series(0.01, past.index)
    gains = book_scenarios(book, past, points)
    grid = scenario_grid(book, (past["XYZ"].iloc[7],), (0.01,))
    assert gains["XYZ"].iloc[7] == pytest.approx(grid["full"].iloc[0])
    pd.testing.assert_index_equal(gains.index, past.index)
    pd.testing.assert_frame_equal(gains.iloc[:20], book_scenarios(book, past.iloc[:20], points))  # no day reads another
    calm = book_scenarios(book, past, points * 0)
    pd.testing.assert_frame_equal(calm, book_scenarios(book, past))


def test_a_volatility_does_not_fall_below_zero_and_an_underlying_may_lose_all():
    book = book_of({CALL: 1, PUT: 1})
    worst = scenario_grid(book, (-1.0, 0.0), (-5.0,))["full"] + book.rows["value"].sum()
    years = 28 / 365
    D, F = np.exp(-RATE * years), SPOT * np.exp(CARRY * years)
    assert worst.tolist() == pytest.approx([100 * D * 100, 100 * D * (F - 100)], rel=1e-6)


def test_delta_normal_understates_a_short_straddle_as_planted():
    "Normal returns of a known deviation: the loss in full is nearly -gamma r^2 / 2, whose quantile is known."
    straddle, past = {CALL: -10, PUT: -10}, returns_of(4000)
    shares = -book_greeks(book_of(straddle))["delta"].sum() / SPOT
    hedged = book_of(straddle | {"XYZ": shares})
    greeks = book_greeks(hedged).drop(columns="underlying").sum()
    full = -book_scenarios(hedged, past)["XYZ"].quantile(0.01)
    by_delta = abs(greeks["delta"]) * 0.01 * norm.ppf(0.99)
    assert by_delta == pytest.approx(0, abs=1e-6)
    assert full == pytest.approx(-greeks["gamma"] / 2 * (0.01 * norm.ppf(0.995)) ** 2, rel=0.1)


BAD = SMILE.assign(volatility_mid=SMILE["volatility_mid"].mask(SMILE["strike"] == 100))
JUNK = volatilities_of(chain_of().assign(bid=lambda c: c["bid"].mask(c["strike"] == 90, 0.0)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: book_of({}), "the book is empty"),
        (lambda: book_of({CALL: np.nan}), "no finite number"),
        (lambda: book_of({"QQQ260227C00100000": 1}), "whose options"),
        (lambda: book_of({"XYZ261327C00100000": 1}), "no day of expiry"),
        (lambda: book_of({"XYZ260130C00100000": 1}), "2026-01-30 100 call: expired"),
        (lambda: book_of({"XYZ260320C00100000": 1}), "no such expiry"),
        (lambda: book_of({"XYZ260227C00101000": 1}), "no such contract"),
        (lambda: book_of({"XYZ260227P00090000": 1}, JUNK), "nobody bids"),
        (lambda: book_of({CALL: 1}, BAD), "no finite volatility"),
        (lambda: book_of({"ABC": 1}), r"underlying \['ABC'\]"),
        (lambda: book_of({CALL: 1}, pd.concat([SMILE, SMILE.assign(quoted=QUOTED - pd.Timedelta("1D"))])), "moment"),
        (lambda: price_book(option_positions({CALL: 1}, ROOTS, settles=SETTLES).assign(quantity=np.inf), SMILE,
                            {"XYZ": SPOT}), "no finite number"),
        (lambda: scenario_grid(book_of({CALL: 1}), (-1.5,)), "moves must be"),
        (lambda: book_scenarios(book_of({CALL: 1}), returns_of().rename(columns={"XYZ": "A"})), r"no column \['XYZ'\]"),
        (lambda: book_scenarios(book_of({CALL: 1}), returns_of() * np.nan), "returns must be finite"),
        (lambda: book_scenarios(book_of({CALL: 1}), returns_of().iloc[:0]), "one row or more"),
        (lambda: book_scenarios(book_of({CALL: 1}), returns_of().shift(1, freq="D")), "after the chain's 2026-01-30"),
        (lambda: book_scenarios(book_of({CALL: 1}), returns_of(), returns_of(9)), "volatility_moves must be finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_valued_is_named(make, said):
    with pytest.raises(DataError, match=said):
        make()


def test_one_surface_is_not_asked_for_two_underlyings():
    both = volatilities_of(pd.concat([chain_of(), chain_of("ABC")], ignore_index=True))
    flat = Surface(("a",), np.array([1.0]), np.array([SPOT]), (Svi(0.0625, 0.0, 0.0, 0.0, 0.1),))
    held = {CALL: 1, "ABC260227C00100000": 1}
    with pytest.raises(DataError, match="one surface for options on XYZ, ABC"):
        book_of(held, both, {"XYZ": SPOT, "ABC": SPOT}, flat)
    assert len(book_of(held, both, {"XYZ": SPOT, "ABC": SPOT}).rows) == 2
