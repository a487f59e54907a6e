"Stress, liquidity, exposure and the risk of a book: by hand, without look-ahead, and refusals."

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.sample import sample_bars, sample_context
from quantlab.risk.book import portfolio_risk, position_values
from quantlab.risk.exposure import (
    attribute_returns,
    attribute_sectors,
    factor_exposures,
    sector_exposure,
    sector_neutrality,
    size_bias,
    turnover_consistency,
)
from quantlab.risk.liquidity import daily_value, liquidation_cost, liquidation_days, liquidity_share
from quantlab.risk.stress import (
    COVID_2020,
    CRISIS_2008,
    Scenario,
    correlation_stress,
    factor_shock,
    market_betas,
    replay_scenario,
    scenario_moves,
    standard_scenarios,
    stress_test,
)

SYMBOLS = ["AAPL", "KO", "XOM"]


@pytest.fixture(scope="module")
def bars():
    return sample_bars(SYMBOLS)


def made(rows: int = 300, names: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.normal(0, 0.01, (rows, names)), pd.bdate_range("2020-01-01", periods=rows), SYMBOLS[:names])


def test_own_move_then_sector_then_beta():
    scenario = Scenario("x", {"A": -0.1}, {"Energy": -0.2}, -0.3)
    moves = scenario_moves(scenario, ["A", "B", "C"], {"A": "Energy", "B": "Energy"}, {"A": 9, "B": 9, "C": 2})
    assert moves.tolist() == pytest.approx([-0.1, -0.2, -0.6])
    assert scenario_moves(scenario, ["C"], betas={"C": 5})["C"] == -1.0  # nothing falls by more than all of it
    with pytest.raises(DataError, match="D"):
        scenario_moves(scenario, ["D"], betas={"D": np.nan})


def test_a_book_loses_the_sum_of_its_positions():
    weights = pd.Series({"A": 0.5, "B": -1.0})
    table = stress_test(
        weights, [Scenario("x", {"A": -0.1, "B": -0.3}), Scenario("y", market=0.1)], betas={"A": 1, "B": 2}
    )
    assert table["total"].tolist() == pytest.approx([0.05 - 0.3, -0.05 + 0.2])
    assert table.loc["x", "A"] == pytest.approx(0.05)


def test_crises_are_replayed_where_the_bars_reach(bars):
    old, covid, flash = standard_scenarios(bars)
    assert not old.names and old.sectors == CRISIS_2008.sectors
    close, low = bars["close"].unstack(), bars["low"].unstack()
    assert covid.names["XOM"] == pytest.approx(close.loc["2020-03-23", "XOM"] / close.loc["2020-02-19", "XOM"] - 1)
    assert flash.names["KO"] == pytest.approx(low.loc["2010-05-06", "KO"] / close.loc["2010-05-05", "KO"] - 1)
    with pytest.raises(ConfigError, match="not after"):
        replay_scenario(bars, "2020-03-23", "2020-02-19", COVID_2020)
    with pytest.raises(DataError, match="no name has bars"):
        replay_scenario(bars, "2001-01-01", "2001-02-01", Scenario("only names", {"Z": -0.1}))


def test_betas_equal_least_squares_and_need_sessions():
    returns = made()
    market = returns.mean(axis=1)
    returns.iloc[:260, 2] = np.nan
    betas = market_betas(returns, market)
    assert betas["AAPL"] == pytest.approx(np.polyfit(market, returns["AAPL"], 1)[0]) and np.isnan(betas["XOM"])
    assert market_betas(returns, market * 0).isna().all()
    with pytest.raises(PanelError, match="time zone"):
        market_betas(returns, market.tz_localize("UTC"))


def test_correlations_move_to_the_worst():
    returns, w = made(), pd.Series([0.5, 0.8, -0.3], SYMBOLS)
    table = correlation_stress(w, returns)
    assert table["var"].is_monotonic_increasing and table.loc[0.0, "volatility"] == pytest.approx((returns @ w).std())
    assert table.loc[1.0, "volatility"] == pytest.approx((w.abs() * returns.std()).sum())
    with pytest.raises(PanelError, match="no returns"):
        correlation_stress(pd.Series({"Z": 1.0}), returns)
    shock = factor_shock(w, pd.DataFrame({"m": [1.0, 2.0, 0.5]}, SYMBOLS), {"m": -0.1})
    assert shock["total"] == pytest.approx(0.1 * (0.5 + 1.6 - 0.15))


@pytest.mark.parametrize("wrong", [dict(market=np.nan), dict(market=-1.5), dict(names={"A": np.inf}), {}])
def test_a_scenario_moves_something_possible(wrong):
    with pytest.raises(ConfigError, match="scenario 'x'"):
        Scenario("x", **wrong)


def test_days_cost_and_share_by_hand():
    held, adv = pd.Series({"A": 1e6, "B": -4e6}), pd.Series({"A": 1e7, "B": 1e7})
    assert liquidation_days(held, adv).tolist() == [1, 4] and liquidity_share(held, adv) == pytest.approx(0.6)
    dry = pd.Series({"A": 0.0, "B": 1e7})
    assert np.isinf(liquidation_days(held, dry)["A"]) and np.isinf(liquidation_cost(held, dry, adv * 1e-9)["bps"]["A"])
    assert liquidity_share(held, dry) == pytest.approx(4 / 5)
    assert liquidity_share(held * 0, adv) == 0 and liquidity_share(held, adv, horizon=10) == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_liquidity_of_the_unknown_is_refused(wrong):
    with pytest.raises(DataError, match="daily value of A"):
        liquidity_share(pd.Series({"A": 1.0}), pd.Series({"A": wrong}))


def test_value_traded_reads_the_past(bars):
    whole, date = daily_value(bars), pd.Timestamp("2015-06-30")
    cut = daily_value(bars[bars.index.get_level_values("date") <= date])
    pd.testing.assert_frame_equal(whole[:date], cut)


def test_factor_errors_equal_statsmodels():
    f, y = made(400, 3, 1), made(400, 1, 2)["AAPL"].rename("y")
    y = y + 0.7 * f["KO"] * (1 + 50 * f["KO"].shift().fillna(0))
    fit = factor_exposures(y, f, lag=6)
    peer = sm.OLS(y, sm.add_constant(f)).fit(cov_type="HAC", cov_kwds={"maxlags": 6, "use_correction": True})
    assert np.allclose(fit.table["beta"], peer.params) and np.allclose(fit.table["se"], peer.bse)
    assert np.allclose(fit.covariance, peer.cov_params()) and fit.r2 == pytest.approx(peer.rsquared)
    split = attribute_returns(y, f, 252)
    assert split["contribution"].drop("total").sum() == pytest.approx(split.loc["total", "contribution"])


def test_factors_that_cannot_be_told_apart_are_refused():
    f, y = made(400), made(400, 1, 2)["AAPL"]
    for wrong in (f.assign(again=f["KO"] * 2), f.assign(still=0.0)):
        with pytest.raises(DataError, match="repeat each other or do not move"):
            factor_exposures(y, wrong)
    with pytest.raises(DataError, match="common sessions"):
        factor_exposures(y[:30], f)
    with pytest.raises(PanelError, match="time zone"):
        factor_exposures(y.tz_localize("UTC"), f)


def test_sectors_size_and_turnover_by_hand():
    sectors = {"A": "x", "B": "x", "C": "y"}
    w = pd.Series({"A": 0.5, "B": -0.25, "C": 0.25})
    assert sector_exposure(w, sectors).loc["x", ["net", "gross"]].tolist() == [0.25, 0.75]
    assert sector_neutrality(w, sectors) == pytest.approx(0.5) and np.isnan(sector_neutrality(w * 0, sectors))
    size = pd.Series({"A": 1.0, "B": 2.0, "C": 3.0})
    assert size_bias(pd.Series({"A": 0.2}), size) == pytest.approx(-size_bias(pd.Series({"C": 0.2}), size)) != 0
    dates = pd.to_datetime(["2020-01-01", "2020-02-01"])
    index = pd.MultiIndex.from_product([dates, ["A", "B"]], names=["date", "symbol"])
    assert turnover_consistency(pd.DataFrame({"weight": [1.0, 0, 0, 1]}, index))["mean"].iloc[0] == 2
    with pytest.raises(DataError, match="two or more"):
        turnover_consistency(pd.DataFrame({"weight": [1.0, 0]}, index[:2]))
    with pytest.raises(PanelError, match="no sector"):
        sector_exposure(pd.Series({"Z": 1.0}), sectors)


def test_sectors_earn_what_was_held_the_evening_before():
    returns = made()
    weights = pd.DataFrame(0.0, returns.index[[0, 100]], SYMBOLS)
    weights["KO"] = [1.0, -2.0]
    table = attribute_sectors(weights, returns, {"KO": "x"}, 252)
    earned = (
        returns["KO"].iloc[1:101].sum() - 2 * returns["KO"].iloc[101:].sum()
    )  # decided at a close, held from then on
    assert table.loc["x", "contribution"] == pytest.approx(earned / 299 * 252)
    assert table.loc["total", "se"] > 0


def test_the_record_of_a_book_is_plain_and_linear():
    risk = portfolio_risk(SYMBOLS, capital=3e6)
    told = risk.to_dict()
    assert json.loads(json.dumps(told)) == told and set(risk.scenario_losses) == {"2008", "2020", "flash crash"}
    close = sample_bars(SYMBOLS)["close"].xs(pd.Timestamp(risk.as_of), level="date")
    same = portfolio_risk([{"symbol": s, "quantity": 1e6 / close[s]} for s in SYMBOLS])
    assert same.VaR == pytest.approx(risk.VaR) and same.scenario_losses == pytest.approx(risk.scenario_losses)
    other = portfolio_risk(SYMBOLS, 0.95, capital=3e6)
    assert other.VaR < risk.VaR <= risk.expected_shortfall
    mine = portfolio_risk(SYMBOLS, scenarios=[Scenario("mine", {s: -0.5 for s in SYMBOLS})])
    assert mine.scenario_losses["mine"] == pytest.approx(5e5)
    short = portfolio_risk([{"symbol": "KO", "quantity": -1000}])
    assert short.value < 0 < short.VaR and short.scenario_losses["2020"] < 0


def test_a_book_reads_no_later_bar(bars):
    market = sample_context("SPY")["close"].droplevel("symbol")
    sectors = dict.fromkeys(SYMBOLS, "Energy")
    date = pd.Timestamp("2019-06-28")
    cut = bars[bars.index.get_level_values("date") <= date]
    long, brief = (portfolio_risk(SYMBOLS, bars=cut, market=m, sectors=sectors) for m in (market, market[:date]))
    assert long == brief and long.as_of == "2019-06-28"


@pytest.mark.parametrize(("wrong", "kind", "said"), [
    ([], ConfigError, "a list"),
    ("AAPL", ConfigError, "a list"),
    ({"symbol": "AAPL", "quantity": 1}, ConfigError, "a list"),
    (["AAPL", {"symbol": "KO", "quantity": 1}], ConfigError, "mix"),
    ([1, 2], ConfigError, "something else"),
    ([{"symbol": "AAPL", "shares": 1}], ConfigError, "must have symbol and quantity"),
    ([{"symbol": "AAPL", "quantity": "many"}], ConfigError, "no number"),
    ([{"symbol": "AAPL", "quantity": np.nan}], ConfigError, "not finite"),
    ([{"symbol": "AAPL", "quantity": 0}], ConfigError, "all of them are 0"),
    (["NOPE"], DataError, "no bars of NOPE"),
    (["AET"], DataError, "no close of AET"),
])  # fmt: skip
def test_what_is_no_position_is_refused(wrong, kind, said):
    with pytest.raises(kind, match=said):
        portfolio_risk(wrong)


def test_positions_that_cancel_or_are_too_young_are_refused(bars):
    with pytest.raises(ConfigError, match="0"):
        position_values([{"symbol": "KO", "quantity": 5}, {"symbol": "KO", "quantity": -5}], bars)
    blank = bars.copy()
    blank.iloc[-3, blank.columns.get_loc("close")] = np.nan
    with pytest.raises(DataError, match="no close of AAPL"):
        position_values(SYMBOLS, blank)
    with pytest.raises(DataError, match="520 are needed"):
        portfolio_risk(SYMBOLS, bars=sample_bars(SYMBOLS, start="2023-01-01"))
