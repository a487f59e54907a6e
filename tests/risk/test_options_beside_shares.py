"Options beside shares in one value at risk and one set of crises."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_bars
from quantlab.pricing.black import black_price
from quantlab.pricing.chain import chain_volatilities, parity_forwards
from quantlab.pricing.option_book import book_greeks, book_scenarios, option_positions, price_book
from quantlab.risk.book import portfolio_risk, risk_market
from quantlab.risk.stress import CRISIS_2008, Scenario, replay_scenario
from quantlab.risk.var import historical_tail, normal_tail, var_forecast

ROOT = {"AAPL": "AAPL", "XOM": "XOM"}
SETTLES = {"AAPL": "16:00", "XOM": "16:00"}
BARS = sample_bars(["AAPL", "XOM"], start="2018-01-01")
MARKET = risk_market(BARS)
CLOSE = MARKET.closes.to_dict()
QUIET = Scenario("a point of volatility", names={"AAPL": 0.0, "XOM": 0.0}, volatility=0.01)


@pytest.fixture(scope="module")
def smile() -> pd.DataFrame:
    "Black's prices at 25 % around the last close, three weeks to go, no interest."
    strikes = np.arange(0.5, 1.55, 0.05).round(2)
    chains, years = [], 21 / 365
    for root in ROOT:
        rows = pd.MultiIndex.from_product([100 * strikes, [False, True]], names=["strike", "call"]).to_frame(
            index=False
        )
        rows["bid"] = rows["ask"] = black_price(100.0, rows["strike"], years, 0.25, 1.0, rows["call"])
        moments = [pd.Timestamp(f"{d} 16:00", tz="America/New_York") for d in ("2023-12-29", "2024-01-19")]
        quoted, expiry = (m.tz_convert("UTC").as_unit("us") for m in moments)
        chain = rows.assign(root=root, quoted=quoted, expiry=expiry)
        chains.append(chain_volatilities(chain, parity_forwards(chain, 0.0)))
    return pd.concat(chains, ignore_index=True)


def book_of(smile: pd.DataFrame, holdings: dict, spots=None):
    return price_book(option_positions(holdings, ROOT, settles=SETTLES), smile, spots or dict.fromkeys(ROOT, 100.0))


STRADDLE = {"AAPL240119C00100000": -50, "AAPL240119P00100000": -50}


def test_a_book_of_shares_alone_has_the_risk_of_the_shares(smile):
    held = {"AAPL": 500, "XOM": -300}
    shares = portfolio_risk(held, [0.99, 0.95], MARKET, scenarios=QUIET)
    there = portfolio_risk([], [0.99, 0.95], MARKET, scenarios=QUIET, options=book_of(smile, held, CLOSE))
    half = {"AAPL": 500}
    mixed = portfolio_risk(half, [0.99, 0.95], MARKET, scenarios=QUIET, options=book_of(smile, {"XOM": -300}, CLOSE))
    for one in (there, mixed):
        for name in ("value", "gross", "VaR", "expected_shortfall", "liquidity_risk"):
            assert getattr(one, name) == pytest.approx(getattr(shares, name), rel=1e-9)
        assert one.scenario_losses == pytest.approx(shares.scenario_losses, rel=1e-9)
        assert one.tails["0.95"] == pytest.approx(shares.tails["0.95"], rel=1e-9)


def test_value_at_risk_is_that_of_full_revaluation(smile):
    options, held = book_of(smile, STRADDLE), {"AAPL": 100}
    points = pd.Series(0.002, MARKET.returns.index)
    risk = portfolio_risk(
        held, 0.99, MARKET, method="historical", lookback=500, options=options, volatility_moves=points
    )
    past = MARKET.returns[["AAPL"]].dropna()
    gains = 100 * CLOSE["AAPL"] * past["AAPL"] + book_scenarios(options, past, points)["AAPL"]
    by_hand = historical_tail(gains.iloc[-500:], 0.99)
    assert (risk.VaR, risk.expected_shortfall) == pytest.approx(tuple(by_hand), rel=1e-9)
    filtered = portfolio_risk(held, 0.99, MARKET, options=options, volatility_moves=points)
    scaled = var_forecast(gains / 1e6, "filtered", 0.99, 500, last=1).iloc[-1] * 1e6  # whatever the scale
    assert filtered.VaR == pytest.approx(scaled["var"], rel=1e-9)


def test_delta_normal_understates_a_straddle_that_was_sold(smile):
    options = book_of(smile, STRADDLE)
    risk = portfolio_risk([], 0.99, MARKET, method="historical", options=options)
    delta, past = book_greeks(options)["delta"].sum(), MARKET.returns["AAPL"].dropna().iloc[-500:]
    assert risk.VaR > 3 * normal_tail(0.0, abs(delta) * past.std(), 0.99).var


def test_crises_revalue_options_on_spot_and_volatility(smile):
    options = book_of(smile, STRADDLE)
    fall = Scenario("fall", names={"AAPL": -0.2}, volatility=0.3)
    risk = portfolio_risk([], bars=MARKET, scenarios=[fall, QUIET], options=options)
    years = 21 / 365
    worth = sum(float(black_price(80.0, 100, years, 0.55, 1.0, call)) for call in (True, False))
    assert risk.scenario_losses["fall"] == pytest.approx(5000 * worth + options.rows["value"].sum(), rel=1e-6)
    vega = book_greeks(options)["vega"].sum()
    assert risk.scenario_losses["a point of volatility"] == pytest.approx(-vega / 100, rel=0.01)
    replayed = replay_scenario(BARS, "2020-02-19", "2020-03-23", CRISIS_2008)
    assert replayed.volatility == CRISIS_2008.volatility > 0.5


def test_a_call_deep_in_the_money_is_its_share(smile):
    deep = portfolio_risk([], bars=MARKET, options=book_of(smile, {"AAPL240119C00050000": 10}))
    share = portfolio_risk([], bars=MARKET, options=book_of(smile, {"AAPL": 1000}))
    assert deep.VaR == pytest.approx(share.VaR, rel=1e-3)
    assert deep.value == pytest.approx(share.value / 2, rel=1e-3)


def test_what_options_need_is_asked_for(smile):
    options = book_of(smile, STRADDLE)
    with pytest.raises(DataError, match="no bars of AAPL, which options are on"):
        portfolio_risk({"XOM": 1}, bars=BARS.drop("AAPL", level="symbol"), options=options)
    later = BARS.rename(index=lambda d: d + pd.Timedelta(days=30), level="date")
    with pytest.raises(DataError, match="after the chain's 2023-12-29"):
        portfolio_risk([], bars=later, options=options)
    with pytest.raises(DataError, match="bars end on 2024-01-28"):
        portfolio_risk({"XOM": 1}, bars=later, options=options)
    with pytest.raises(ConfigError, match="positions are"):
        portfolio_risk([], bars=MARKET)
    with pytest.raises(ConfigError, match="adds a volatility of nan"):
        Scenario("x", market=-0.1, volatility=float("nan"))


def test_both_legs_of_a_hedge_must_be_sold_and_both_are_of_one_day(smile):
    size = 4_000_000
    calls = {"AAPL240119C00100000": -size}
    options = book_of(smile, calls)
    hedge = {"AAPL": -float(book_greeks(options)["delta"].sum()) / CLOSE["AAPL"]}
    shares = portfolio_risk(hedge, 0.99, MARKET, scenarios=QUIET).liquidity_risk
    hedged = portfolio_risk(hedge, 0.99, MARKET, scenarios=QUIET, options=options).liquidity_risk
    assert 0 < shares <= hedged
    earlier = risk_market(BARS[BARS.index.get_level_values("date") < "2023-12-01"])
    with pytest.raises(DataError, match="bars end on 2023-11-30, options are of 2023-12-29"):
        portfolio_risk({"AAPL": 100}, 0.99, earlier, options=options)
    with pytest.raises(DataError, match="of no shares and no contracts"):
        portfolio_risk([], 0.99, MARKET, options=book_of(smile, {"AAPL240119C00100000": 0}))
