"""What a market is: a year in bars, lots and fees in the units an account trades, and who reads them."""

from dataclasses import fields

import pandas as pd
import pytest
import yaml

from quantlab.backtest.costs import Costs, market_costs
from quantlab.backtest.engine import from_weights
from quantlab.core.errors import ConfigError
from quantlab.core.types import MARKETS, MarketSpec, bars_a_year, market_spec, market_terms
from quantlab.data.bars import adjust
from quantlab.data.calendar import exchange_sessions
from quantlab.data.sample import sample_bars
from quantlab.recipe.spec import CostTerms, Recipe, as_dict, parse


@pytest.mark.parametrize("name", MARKETS)
def test_a_year_has_the_sessions_of_its_calendar(name):
    spec = MARKETS[name]
    counted = len(exchange_sessions(spec.calendar, "2015-01-01", "2018-12-31")) / 4
    assert spec.sessions == pytest.approx(counted, abs=7), "within a week of the exchange's own calendar"
    assert bars_a_year(spec) == spec.sessions and bars_a_year(spec, "1mo") == 12


def test_the_length_of_a_bar_counts():
    crypto, shares = MARKETS["crypto_spot"], MARKETS["us_equity"]
    assert [bars_a_year(crypto, i) for i in ("1min", "1h", "4h", "12h")] == [525600, 8760, 2190, 730]
    assert [bars_a_year(shares, i) for i in ("1min", "30min", "1w")] == [98280, 3276, 52]
    with pytest.raises(ConfigError, match="no interval '7min'"):
        bars_a_year(shares, "7min")


@pytest.mark.parametrize(
    ("field", "value"),
    [("sessions", 0), ("minutes", -1), ("multiplier", float("nan")), ("lot", -1.0), ("commission_bps", float("inf"))],
)
def test_a_market_that_cannot_be_is_refused(field, value):
    given = {f.name: getattr(MARKETS["us_equity"], f.name) for f in fields(MarketSpec)} | {field: value}
    with pytest.raises(ConfigError, match=f"market us_equity: {field} is"):
        MarketSpec(**given)


def test_an_unknown_market_names_those_there_are():
    with pytest.raises(ConfigError, match="no market 'nyse'; use one of us_equity, cn_equity"):
        market_spec("nyse")


def test_contracts_are_units_of_price():
    terms = market_terms(MARKETS["us_index_future"])
    assert terms["lot"] == 50 and terms["per_share"] * 50 == pytest.approx(2.25)
    assert market_costs(MARKETS["cn_equity"], 0.0) == Costs(commission_bps=2.5, slippage_bps=0.0, sell_tax_bps=5.0)


def test_an_account_pays_what_the_market_asks():
    bars = adjust(sample_bars(["KO"], "2015-01-02", "2015-03-31"))
    days = bars.index.unique("date")
    decided = pd.MultiIndex.from_product([days[[2, 20]], ["KO"]], names=bars.index.names)
    asked = pd.DataFrame({"weight": [0.5, 0.0]}, decided)
    result = from_weights(asked, bars, costs=market_costs(MARKETS["cn_equity"], 0.0))
    value = (result.trades["quantity"] * result.trades["price"]).abs()
    assert result.trades["commission"].tolist() == pytest.approx([2.5e-4 * value.iloc[0], 7.5e-4 * value.iloc[1]])


def test_a_recipe_takes_its_markets_terms_and_keeps_its_own():
    coins = parse("data: {market: crypto_perpetual, interval: 4h}\ncosts: {commission_bps: 4}", "coins")
    assert (coins.data.periods_per_year, coins.costs.commission_bps, coins.costs.funding_bps) == (2190, 4.0, 1095.0)
    assert coins.costs.slippage_bps == CostTerms().slippage_bps, "no term of a market"
    own = parse("data: {market: cn_equity, periods_per_year: 250}\nlimits: {lot: 1}", "own")
    assert (own.data.periods_per_year, own.limits.lot, own.costs.sell_tax_bps) == (250, 1.0, 5.0)


@pytest.mark.parametrize("name", MARKETS)
def test_a_saved_recipe_comes_back(name):
    recipe = Recipe().replace(data__market=name, costs__commission_bps=1.0, costs__slippage_bps=5.0)
    assert recipe.costs.commission_bps == 1.0, "a value that is written stands, though it is the default"
    assert parse(yaml.safe_dump(as_dict(recipe)), "recipe") == recipe


def test_another_market_brings_its_own_terms():
    shares = Recipe().replace(data__market="cn_equity").replace(data__market="crypto_spot")
    assert shares == Recipe().replace(data__market="crypto_spot") and shares.limits.lot == 0
    assert shares.replace(data__market="") == Recipe()
    mine = Recipe().replace(costs__borrow_bps=70.0).replace(data__market="us_equity")
    assert mine.costs.borrow_bps == 70.0, "what was chosen stays"


@pytest.mark.parametrize(
    "text",
    ["data: {market: us_equty}", "data: {market: fx, interval: 7}", "data: 3", "costs: 3\ndata: {market: fx}"],
)
def test_what_is_wrong_is_said_with_its_line(text):
    with pytest.raises(ConfigError, match="x.yaml, line [12]"):
        parse(text, "x", "x.yaml")
