"What nobody should be able to count as no risk: NaN, wrong signs, other clocks, one name, shorts and leverage."

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.sample import sample_bars, sample_context
from quantlab.risk.bayes_var import bayes_tail, hierarchical_tail
from quantlab.risk.book import account_risk, portfolio_risk, position_values
from quantlab.risk.exam import (
    acerbi_szekely,
    exam_hits,
    fissler_ziegel,
    judged_losses,
    kupiec,
    kupiec_region,
    sign_test,
    tail_dof,
    tied_p,
    var_exam,
    z2_null,
)
from quantlab.risk.exposure import (
    account_attribution,
    attribute_returns,
    attribute_sectors,
    factor_exposures,
    sector_exposure,
    size_bias,
    style_factors,
    turnover_consistency,
)
from quantlab.risk.liquidity import daily_value, liquidation_cost, liquidation_days, liquidity_share
from quantlab.risk.stress import (
    COVID_2020,
    FLASH_2010,
    Scenario,
    correlation_stress,
    factor_shock,
    replay_scenario,
    standard_scenarios,
    stress_test,
)
from quantlab.risk.var import (
    check_confidence,
    check_returns,
    check_weights,
    component_var,
    cornish_fisher_tail,
    ewma_volatility,
    garch_forecast,
    historical_tail,
    normal_tail,
    t_tail,
    var_forecast,
)

RNG = np.random.default_rng(4)
DATES = pd.bdate_range("2015-01-01", periods=700)
ONE = pd.Series(RNG.normal(0, 0.01, 700), DATES, name="book")
WIDE = pd.DataFrame(RNG.normal(0, 0.01, (700, 3)), DATES, list("ABC"))
BETAS = pd.DataFrame({"m": [1.0, 2.0, 3.0]}, list("ABC"))
SECTORS = {"A": "x", "B": "x", "C": "y"}
ADV = pd.Series({"A": 10.0, "B": 0.0, "C": 1.0})


@pytest.fixture(scope="module")
def bars():
    return sample_bars(["AAPL", "KO", "XOM"])


@pytest.mark.parametrize("wrong", ["x", None, True, np.nan, 99])
def test_a_confidence_is_a_number(wrong):
    with pytest.raises(ConfigError, match="confidence"):
        check_confidence(wrong)


@pytest.mark.parametrize("call", [
    lambda: normal_tail(0, -0.01), lambda: normal_tail(0, np.nan), lambda: t_tail(4, 0, -1),
    lambda: cornish_fisher_tail(0, -1, 0, 0),
])  # fmt: skip
def test_a_negative_deviation_is_no_safety(call):
    with pytest.raises(ConfigError, match="deviation"):
        call()


def test_the_ends_of_the_t_and_of_its_domain():
    assert np.allclose(t_tail(np.inf), normal_tail(), atol=1e-6)
    for wrong in (np.nan, 1.0):
        with pytest.raises(ConfigError, match="dof"):
            t_tail(wrong)
    with pytest.raises(ConfigError, match="skew and kurtosis"):
        cornish_fisher_tail(0, 1, np.nan, 0)


@pytest.mark.parametrize("call", [
    var_forecast, ewma_volatility, garch_forecast, lambda x: judged_losses(x, None), lambda x: factor_exposures(x, WIDE)
])  # fmt: skip
def test_a_frame_of_names_is_no_book(call):
    with pytest.raises(PanelError, match="one book"):
        call(WIDE)


def test_prices_text_and_a_single_series_are_named():
    with pytest.raises(DataError, match="look like prices"):
        check_returns((1 + ONE).cumprod() * 100)
    for call in (historical_tail, bayes_tail):
        with pytest.raises(PanelError, match="no number"):
            call(["a"])
    with pytest.raises(PanelError, match="no frame of names"):
        hierarchical_tail(ONE)
    with pytest.raises(DataError, match="do not move"):
        garch_forecast(ONE * 0)
    with pytest.raises(ConfigError, match="whole number"):
        var_forecast(ONE, lookback=500.5)


BOOKS = {
    "twice": (pd.Series([0.1, 0.2], ["A", "A"]), PanelError, "twice"),
    "NaN": (pd.Series({"A": np.nan}), DataError, "no finite number"),
    "infinite": ({"A": np.inf}, DataError, "no finite number"),
    "text": ({"A": "x"}, DataError, "no finite number"),
}
CALLS = {
    "component_var": lambda w: component_var(w, WIDE),
    "stress_test": lambda w: stress_test(w, [Scenario("s", market=-0.1)], betas=dict.fromkeys("ABC", 1.0)),
    "factor_shock": lambda w: factor_shock(w, BETAS, {"m": -0.1}),
    "correlation_stress": lambda w: correlation_stress(w, WIDE),
    "sector_exposure": lambda w: sector_exposure(w, SECTORS),
    "size_bias": lambda w: size_bias(w, pd.Series({"A": 1.0, "B": 2.0, "C": 3.0})),
    "liquidation_days": lambda w: liquidation_days(w, ADV),
    "liquidity_share": lambda w: liquidity_share(w, ADV),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("what", BOOKS)
def test_a_holding_is_one_finite_number(name, what):
    weights, kind, said = BOOKS[what]
    with pytest.raises(kind, match=said):
        CALLS[name](weights)


@pytest.mark.parametrize("name", CALLS)
def test_a_dict_is_a_book_too(name):
    plain = {"A": 0.5, "B": -0.8, "C": 3.0}
    ours, theirs = CALLS[name](plain), CALLS[name](pd.Series(plain))
    assert np.allclose(np.nan_to_num(np.asarray(ours, float)), np.nan_to_num(np.asarray(theirs, float)))


def test_parts_sum_to_the_book_with_shorts_and_leverage():
    for confidence in (0.6, 0.95, 0.99):
        for weights in ({"A": 3.0, "B": -2.0}, {"A": 1.0}, {"A": 0.01, "B": -5.0, "C": 5.0}, dict.fromkeys("ABC", 0.0)):
            w = check_weights(weights)
            parts = component_var(weights, WIDE + 0.002, confidence)
            whole = historical_tail((WIDE + 0.002)[w.index] @ w, confidence)
            assert np.allclose(parts[["var", "expected_shortfall"]].sum(), whole, atol=1e-12)
            if len(w) > 1 and w.any():  # a part has the size that the name's own losses have
                assert parts["var"].abs().max() < (WIDE.abs().max() + 0.002).mul(w.abs()).max()


def test_a_shock_that_is_not_known_is_no_zero():
    w = pd.Series({"A": 0.5, "B": -0.8, "C": 3.0})
    for betas, shocks in ((BETAS.replace(2.0, np.nan), {"m": -0.1}), (BETAS, {"m": np.nan})):
        with pytest.raises(DataError, match="count as no loss"):
            factor_shock(w, betas, shocks)
    for strengths in ((), (np.nan,), (2.0,)):
        with pytest.raises(ConfigError, match="strengths"):
            correlation_stress(w, WIDE, strengths=strengths)


def zoned(bars: pd.DataFrame, zone: str) -> pd.DataFrame:
    return bars.set_index(bars.index.set_levels(bars.index.levels[0].tz_localize(zone), level="date"))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_crises_are_replayed_on_any_clock(bars, zone):
    for there, here in zip(standard_scenarios(zoned(bars, zone)), standard_scenarios(bars), strict=True):
        assert there == here
    here, there = portfolio_risk(["KO"], bars=bars), portfolio_risk(["KO"], bars=zoned(bars, zone))
    assert here == there and here.scenario_losses["2020"] != pytest.approx(339_000)


def test_bars_of_hours_are_read_by_the_day(bars):
    day = bars.loc[["2010-05-05", "2010-05-06"]]
    parts = []
    for hour, low, close in ((4, 0.99, 1.01), (12, 1.0, 1.02), (20, 1.03, 1.0)):
        part = day.assign(low=day["low"] * low, close=day["close"] * close).reset_index()
        parts.append(part.assign(date=part["date"] + pd.Timedelta(f"{hour}h")))
    hourly = pd.concat(parts).set_index(["date", "symbol"]).sort_index()
    moves = replay_scenario(hourly, "2010-05-05", "2010-05-06", FLASH_2010, to_low=True).names
    low, close = day["low"].unstack().loc["2010-05-06"], day["close"].unstack().loc["2010-05-05"]
    assert moves["KO"] == pytest.approx(0.99 * low["KO"] / close["KO"] - 1)


def test_a_replay_needs_dates_and_columns(bars):
    with pytest.raises(ConfigError, match="give two dates"):
        replay_scenario(bars, "x", "y", COVID_2020)
    with pytest.raises(PanelError, match="close and low"):
        standard_scenarios(bars.drop(columns="low"))
    with pytest.raises(PanelError):
        standard_scenarios(bars.reset_index())


def test_what_does_not_trade_costs_without_end():
    cost = liquidation_cost({"A": 1.0, "B": -1.0}, ADV, pd.Series({"A": 0.0, "B": 0.0}))
    assert cost.loc["A", "bps"] == 1.0 and np.isinf(cost.loc["B", ["bps", "money"]]).all()
    assert liquidation_days({"B": 0.0}, ADV).tolist() == [0.0]
    with pytest.raises(ConfigError, match="lookback"):
        daily_value(sample_bars(["KO"]), 2.5)


FORECAST = var_forecast(ONE)
EXAMS = [
    (lambda: judged_losses(ONE, FORECAST.assign(expected_shortfall=FORECAST["var"] / 2)), DataError, "below value at"),
    (lambda: judged_losses(ONE, -FORECAST), DataError, "above 0"),
    (lambda: var_exam(ONE, FORECAST, draws=0), ConfigError, "draws"),
    (lambda: exam_hits([np.nan] * 5), DataError, "true or false"),
    (lambda: exam_hits([2, 3]), DataError, "true or false"),
    (lambda: kupiec(np.nan, 250), ConfigError, "hits"),
    (lambda: kupiec_region(250, level=2), ConfigError, "level"),
    (lambda: acerbi_szekely([], [], []), DataError, "shapes"),
    (lambda: acerbi_szekely([0.1, 0.2, 0.3], [0.05, 0.1], [0.06, 0.1]), DataError, "shapes"),
    (lambda: acerbi_szekely([0.1], [0.05], [-0.06]), DataError, "above 0"),
    (lambda: fissler_ziegel([np.nan], [0.05], [0.06]), DataError, "finite"),
    (lambda: tail_dof(np.nan), DataError, "above 0"),
    (lambda: tied_p(np.nan, np.arange(9.0), RNG), DataError, "finite"),
    (lambda: tied_p(1.0, np.array([]), RNG), DataError, "null"),
    (lambda: z2_null(5.0, 0), ConfigError, "sessions"),
    (lambda: sign_test(np.arange(20.0), block=-1), ConfigError, "blocks"),
    (lambda: sign_test(np.arange(20.0), block=100), ConfigError, "blocks"),
    (lambda: sign_test(np.arange(20.0), draws=0), ConfigError, "draws"),
]


@pytest.mark.parametrize("case", range(len(EXAMS)))
def test_an_exam_of_nothing_is_refused(case):
    call, kind, said = EXAMS[case]
    with pytest.raises(kind, match=said):
        call()


FACTORS = WIDE[["A", "B"]].set_axis(["m", "s"], axis=1)
HELD = pd.DataFrame({"A": 1.0, "B": -2.0}, DATES[::21])
LONG = HELD.stack().rename("share").rename_axis(["date", "symbol"]).to_frame()
FITS = [
    (lambda: factor_exposures(ONE, FACTORS["m"]), PanelError, "a frame"),
    (lambda: factor_exposures(ONE, FACTORS.set_axis(["m", "m"], axis=1)), PanelError, "each name once"),
    (lambda: factor_exposures(ONE, FACTORS.set_axis(["alpha", "s"], axis=1)), PanelError, "alpha or total"),
    (lambda: factor_exposures(ONE * 0, FACTORS), DataError, "does not move"),
    (lambda: attribute_returns(ONE, FACTORS, 0), ConfigError, "periods_per_year"),
    (lambda: attribute_sectors(HELD[:0], WIDE, SECTORS, 252), PanelError, "have a date"),
    (lambda: attribute_sectors(HELD[::-1], WIDE, SECTORS, 252), PanelError, "order of time"),
    (lambda: attribute_sectors(HELD * np.inf, WIDE, SECTORS, 252), PanelError, "finite"),
    (lambda: attribute_sectors(HELD.tz_localize("UTC"), WIDE, SECTORS, 252), PanelError, "zone"),
    (lambda: turnover_consistency(LONG), PanelError, "column weight"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FITS)))
def test_an_attribution_of_nothing_is_refused(case):
    call, kind, said = FITS[case]
    with pytest.raises(kind, match=said):
        call()


def planted(names: int = 30, sessions: int = 800) -> pd.DataFrame:
    "Bars whose names n00, n01 ... trade ever more and earn ever less, with a market that moves all of them."
    rng, dates = np.random.default_rng(2), pd.bdate_range("2012-01-02", periods=sessions)
    market = rng.normal(0.0003, 0.01, sessions)
    rows = []
    for i in range(names):
        drift = 0.0006 * (names - i) / names
        close = 50 * np.cumprod(1 + market + drift + rng.normal(0, 0.004, sessions))
        frame = {"open": close, "high": close, "low": close, "close": close, "volume": 1e6 * (i + 1) ** 2 / close}
        rows.append(pd.DataFrame(frame, pd.MultiIndex.from_product([dates, [f"n{i:02}"]], names=["date", "symbol"])))
    return pd.concat(rows).sort_index()


def test_size_and_momentum_are_those_that_were_planted():
    bars = planted()
    closes = bars["close"].unstack()
    moves, own = closes.pct_change(), style_factors(bars)
    small, large = moves.iloc[:, :10].mean(axis=1), moves.iloc[:, 20:].mean(axis=1)
    assert np.allclose(own["size"], (small - large)[own.index])  # the order of what is traded never changes
    assert own["momentum"].corr(own["size"]) > 0.4  # who trades least earns most
    book = 0.8 * own["market"] + 0.5 * own["size"] - 0.2 * own["momentum"]
    fit = factor_exposures(book + 1e-9 * ONE.iloc[: len(book)].to_numpy(), own)
    assert np.allclose(fit.table["beta"], [0, 0.8, 0.5, -0.2], atol=1e-6)


def test_a_style_is_sorted_by_the_past():
    bars = planted()
    cut = bars.index.get_level_values("date").unique()[600]
    early = bars[bars.index.get_level_values("date") <= cut]
    pd.testing.assert_frame_equal(style_factors(early), style_factors(bars)[:cut])
    leap = bars.copy()  # the smallest name doubles on a day of sorting, in a trade that makes it the largest
    dates = bars.index.get_level_values("date").unique()
    day = dates[252 + 21 * 5]
    late = leap.index.get_level_values("date") >= day
    leap.loc[late & (leap.index.get_level_values("symbol") == "n00"), "close"] *= 2.0
    leap.loc[(day, "n00"), "volume"] *= 1e6
    there, here = style_factors(leap), style_factors(bars)
    assert there.loc[day, "size"] > here.loc[day, "size"] + 0.05  # that day it was still held as a small one
    assert not np.isclose(there.loc[dates[252 + 21 * 5 + 1], "size"], here.loc[dates[252 + 21 * 5 + 1], "size"])
    before = day - pd.Timedelta("1D")
    assert np.allclose(there.loc[:before], here.loc[:before])


def test_a_universe_too_small_leaves_the_market():
    bars = planted()
    with pytest.raises(DataError, match="6 names"):
        style_factors(bars.loc[(slice(None), ["n00", "n01"]), :])
    closes = bars["close"].unstack()
    index = closes.mean(axis=1)
    held = pd.DataFrame({"n00": 0.5, "n01": 0.5}, closes.index)
    earned = (held.shift() * closes.pct_change()[held.columns]).sum(axis=1)[1:] - 0.0001
    few = account_attribution(earned, held, bars.loc[(slice(None), ["n00", "n01"]), :], index, 252, {"n00": "x"})
    assert "6 names" in few.left_out and list(few.fit.table.index) == ["alpha", "market"]
    assert set(few.sectors.index) == {"x", "not known", "trading, costs, cash", "total"}
    assert few.sectors.loc["trading, costs, cash", "contribution"] == pytest.approx(-0.0252)
    assert few.sectors["contribution"].drop("total").sum() == pytest.approx(few.sectors.loc["total", "contribution"])


def test_an_account_is_examined_on_what_it_did(bars):
    index = sample_context("SPY")["close"].droplevel("symbol")
    returns = index.pct_change().dropna()
    values = position_values({"KO": 100, "XOM": -50}, bars)
    told = account_risk(returns, values, 10_000.0, bars, index, draws=99)
    assert told.exams["filtered"].hits == var_exam(returns, var_forecast(returns), draws=99).hits and not told.left_out
    book = portfolio_risk({"KO": 100, "XOM": -50}, bars=bars, market=index)
    assert {k: v * 10_000 for k, v in told.losses.items()} == pytest.approx(book.scenario_losses, rel=0.01)
    nothing = account_risk(returns[:700], values[:0], 10_000.0, bars, index, draws=99)
    assert nothing.losses.empty and nothing.selling.empty and nothing.liquidity_risk == 0 and nothing.exams
    flat = account_risk(returns * 0, values, 1.0, bars, index, draws=99)
    assert set(flat.left_out) == {"filtered", "normal"} and not flat.forecasts and len(flat.losses) == 3
    with pytest.raises(ConfigError, match="equity"):
        account_risk(returns, values, 0.0, bars, index)


def test_positions_as_a_dict_a_series_and_rows(bars):
    rows = [{"symbol": "KO", "quantity": 100}, {"symbol": "XOM", "quantity": -50}]
    plain = {"KO": 100, "XOM": -50}
    assert (
        portfolio_risk(plain, bars=bars)
        == portfolio_risk(rows, bars=bars)
        == portfolio_risk(pd.Series(plain), bars=bars)
    )
    for wrong in ({}, None, {"KO": True}, {"KO": "many"}, {"KO": 0}):
        with pytest.raises(ConfigError):
            portfolio_risk(wrong, bars=bars)
    with pytest.raises(PanelError, match="close"):
        portfolio_risk(plain, bars=bars.drop(columns="close"))
    with pytest.raises(PanelError):
        position_values(plain, bars.reset_index())


def test_levels_cash_and_currency(bars):
    risk = portfolio_risk({"KO": 100}, [0.95, 0.99], bars, cash=-1000.0, currency="EUR")
    deep = portfolio_risk({"KO": 100}, 0.99, bars)
    assert risk.confidence == 0.95 and risk.tails["0.99"]["VaR"] == deep.VaR > risk.VaR == risk.tails["0.95"]["VaR"]
    assert risk.equity == risk.value - 1000 and deep.equity == deep.value and risk.gross == deep.gross
    told = risk.to_dict()
    assert json.loads(json.dumps(told)) == told and told["equity"] == risk.equity and told["currency"] == "EUR"
    one = portfolio_risk({"KO": 100}, 0.99, bars, scenarios=Scenario("half", market=-0.5))
    assert one.scenario_losses["half"] == pytest.approx(0.5 * one.value)
    wrong = [
        {"cash": np.nan},
        {"cash": True},
        {"currency": "dollars"},
        {"currency": 3},
        {"confidence": []},
        {"confidence": [0.9, 0.9]},
    ]
    for more in wrong:
        with pytest.raises(ConfigError, match=next(iter(more))):
            portfolio_risk({"KO": 100}, bars=bars, **more)
