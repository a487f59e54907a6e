"""data.synth: the planted truth is what independent code measures, and nothing else is planted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import check_panel, to_wide
from quantlab.data.bars import adjust, check_bars, data_hash, symbol_coverage
from quantlab.data.synth import (
    GARCH,
    STATES,
    correlation_of,
    expected_ic_decay,
    garch_volatility,
    rank_ic_of,
    synth_damage,
    synth_fills,
    synth_market,
    synth_minutes,
)
from quantlab.labels.forward import forward_returns
from quantlab.validation.scores import rank_ic


def mean_ic(market, column="factor", horizon=None):
    h = horizon or market.truth["horizon"]
    opens = to_wide(market.bars["open"]).to_numpy()
    score = to_wide(market.features[column]).to_numpy()[: -h - 1]
    a, b = (rankdata(x, axis=1) for x in (score, opens[h + 1 :] / opens[1:-h] - 1))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return float(((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))).mean())


@given(st.floats(-0.99, 0.99), st.integers(2, 500))
def test_correlation_and_rank_ic_are_inverse(ic, n):
    assert rank_ic_of(correlation_of(ic, n), n) == pytest.approx(ic, abs=1e-10)
    assert abs(correlation_of(ic, n)) <= 1


def test_moran_against_simulation():
    rng = np.random.default_rng(11)
    n, rho = 12, 0.4
    x, e = rng.standard_normal((2, 4000, n))
    got = [spearmanr(a, b).statistic for a, b in zip(x, rho * x + np.sqrt(1 - rho**2) * e, strict=True)]
    assert abs(np.mean(got) - rank_ic_of(rho, n)) < 3 * np.std(got) / np.sqrt(len(got))


PLANS = [
    {},
    {"ic": 0.0},
    {"ic": 0.1, "n_symbols": 5},
    {"ic": 0.1, "n_symbols": 2},
    {"ic": -0.4, "n_symbols": 10},
    {"ic": 0.05, "horizon": 5},
    {"ic": 0.1, "horizon": 20, "persistence": 0.95},
    {"ic": 0.8, "horizon": 5, "persistence": 0.99},
    {"ic": 0.0, "horizon": 20, "persistence": 0.95},
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_measured_ic_is_unbiased_for_the_truth(plan):
    settings_ = {"n_symbols": 25, "n_dates": 150} | plan
    got = np.array([mean_ic(synth_market(**settings_, seed=s)) for s in range(80)])
    error = got.std(ddof=1) / np.sqrt(len(got))
    assert abs(got.mean() - settings_.get("ic", 0.05)) < 3.5 * error and error < 0.02


def test_measured_with_the_house_label_and_score():
    for horizon in (1, 5):
        market = synth_market(80, 800, ic=0.1, horizon=horizon, seed=5)
        y = forward_returns(adjust(market.bars), horizon=horizon, entry="open")["y"]
        house = rank_ic(market.features["factor"], y)
        assert house.mean() == pytest.approx(mean_ic(market), abs=1e-9)
        assert house.mean() == pytest.approx(0.1, abs=0.025)
        assert house.notna().sum() == 800 - horizon - 1


def test_noise_is_noise_and_the_past_is_past():
    market = synth_market(100, 1000, ic=0.2, seed=1)
    assert mean_ic(market) == pytest.approx(0.2, abs=0.015)
    assert all(abs(mean_ic(market, f"noise_{i}")) < 0.015 for i in range(1, 5))
    columns = market.features.corr().to_numpy()
    assert np.abs(columns - np.eye(5)).max() < 0.02
    close, factor = to_wide(market.bars["close"]).to_numpy(), to_wide(market.features["factor"]).to_numpy()
    past = np.log(close[1:] / close[:-1])
    past -= past.mean(axis=1, keepdims=True)
    assert abs(np.corrcoef(past.ravel(), factor[1:].ravel())[0, 1]) < 0.01


def test_nothing_moves_but_what_was_asked():
    base = synth_market(20, 100, seed=4)
    pd.testing.assert_frame_equal(synth_market(20, 100, seed=4, n_noise=9).bars, base.bars)
    pd.testing.assert_frame_equal(
        synth_market(20, 100, seed=4, n_noise=2).features, base.features[["factor", "noise_1", "noise_2"]]
    )
    pd.testing.assert_frame_equal(synth_market(20, 100, seed=4, ic=0.5).features, base.features)
    pd.testing.assert_series_equal(synth_market(20, 100, seed=4, ic=0.5, persistence=0.5).regime, base.regime)
    assert not synth_market(20, 100, seed=5).bars.equals(base.bars)


def test_seed_is_pinned():
    "The same seed gives the same market in every version: known answers elsewhere depend on it."
    made = synth_market(10, 50, seed=3)
    rounded = made.bars.round(6)
    assert data_hash(rounded) == "4381af7d4a1fbbc8" and data_hash(made.features.round(6)) == "d4450c02216f54b3"


@given(
    st.integers(1, 12),
    st.integers(1, 40),
    st.floats(-0.5, 0.5),
    st.integers(1, 6),
    st.floats(0, 0.95),
    st.integers(0, 3),
    st.integers(0, 2**31),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_market_is_valid(n, dates, ic, horizon, persistence, n_noise, seed, regimes):
    assume(not (n == 1 and ic))
    try:
        market = synth_market(n, dates, ic, horizon, persistence, n_noise, seed, regimes)
    except ConfigError as error:
        assert "out of reach" in str(error) and horizon > 1
        return
    assert check_bars(market.bars) is market.bars and check_panel(market.features) is market.features
    assert market.bars.shape == (n * dates, 6) and market.features.shape == (n * dates, 1 + n_noise)
    assert market.features.index.equals(market.bars.index) and np.isfinite(market.features.to_numpy()).all()
    assert (market.bars["volume"] >= 1).all() and (market.bars["adj"] == 1).all()
    assert market.regime.index.equals(market.bars.index.levels[0]) and set(market.regime) <= set(STATES.index)
    assert regimes or (market.regime == "calm").all()
    assert market.truth["ic"] == ic and market.truth["horizon"] == horizon and abs(market.truth["step"]) <= 1
    with pytest.raises(AttributeError):
        market.bars = None


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_features_are_stationary_with_the_persistence_asked_for(phi):
    features = synth_market(200, 400, persistence=phi, seed=2).features
    for column in ("factor", "noise_1"):
        wide = to_wide(features[column]).to_numpy()
        assert abs(wide[:50].std() - 1) < 0.06 and abs(wide[-50:].std() - 1) < 0.06
        assert abs(np.corrcoef(wide[:-1].ravel(), wide[1:].ravel())[0, 1] - phi) < 0.02


def test_regimes_are_the_planted_ones():
    market = synth_market(50, 6000, seed=8)
    returns = np.log(to_wide(market.bars["close"])).diff().mean(axis=1)
    measured = returns.groupby(market.regime).std()
    assert ((measured / STATES["volatility"] - 1).abs() < 0.15).all()
    codes = market.regime.map({name: i for i, name in enumerate(STATES.index)}).to_numpy()
    stays = pd.Series(codes[1:] == codes[:-1]).groupby(codes[:-1]).mean()
    assert np.abs(stays.to_numpy() - STATES["stay"].to_numpy()).max() < 0.02
    assert abs(returns.autocorr()) < 0.06  # day and night are independent: no bounce in the market


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"n_symbols": 0}, "n_symbols=0"),
        ({"n_dates": 0}, "n_dates=0"),
        ({"n_dates": 2.5}, "n_dates=2.5"),
        ({"horizon": 0}, "horizon=0"),
        ({"n_noise": -1}, "n_noise=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"ic": 1.0}, "ic=1.0"),
        ({"ic": float("nan")}, "ic=nan"),
        ({"persistence": 1.0}, "persistence=1.0"),
        ({"persistence": -0.1}, "persistence=-0.1"),
        ({"n_symbols": 1}, "cannot carry"),
        ({"ic": 0.5, "horizon": 20}, "out of reach"),
        ({"regimes": "arch"}, "regimes='arch'"),
        ({"calendar": "lunar"}, "calendar='lunar'"),
    ],
)
def test_what_cannot_be_planted_is_refused(change, part):
    with pytest.raises(ConfigError, match=part):
        synth_market(**({"n_symbols": 5, "n_dates": 10} | change))


@pytest.mark.parametrize(("horizon", "persistence"), [(1, 0.0), (5, 0.9)])
def test_decay_is_what_is_measured_at_every_horizon(horizon, persistence):
    markets = [synth_market(40, 250, ic=0.1, horizon=horizon, persistence=persistence, seed=s) for s in range(40)]
    true = expected_ic_decay(markets[0].truth, [1, 3, 10, 30])
    assert (
        expected_ic_decay(markets[0].truth, [horizon])[horizon] == pytest.approx(0.1, abs=1e-12)
        and expected_ic_decay(markets[0].truth, []).empty
    )
    for h, expected in true.items():
        got = np.array([mean_ic(m, horizon=h) for m in markets])
        assert abs(got.mean() - expected) < 3.5 * got.std(ddof=1) / np.sqrt(len(got))


def test_garch_is_its_recursion_and_clusters():
    z = np.random.default_rng(3).standard_normal(50_000)
    sigma = garch_volatility(z, **GARCH)
    variance = GARCH["omega"] / (1 - GARCH["alpha"] - GARCH["beta"])
    for t in range(5):
        assert sigma[t] == pytest.approx(np.sqrt(variance))
        variance = GARCH["omega"] + GARCH["alpha"] * (sigma[t] * z[t]) ** 2 + GARCH["beta"] * variance
    squares = pd.Series((sigma * z) ** 2)
    a, b = GARCH["alpha"], GARCH["beta"]
    assert squares.autocorr(1) == pytest.approx(
        a * (1 - a * b - b**2) / (1 - 2 * a * b - b**2), abs=0.05
    )  # Bollerslev 1986
    assert abs(squares.sample(frac=1, random_state=1).reset_index(drop=True).autocorr(1)) < 0.02


def test_a_garch_market_says_what_its_market_did():
    made = synth_market(400, 300, ic=0.0, regimes="garch", seed=2)
    opens = np.log(to_wide(made.bars["open"])).diff().shift(-1).iloc[:-1]
    assert (
        opens.mean(axis=1).sub(made.market["return"].iloc[:-1]).abs().max() < 0.005
    )  # 400 names average their own noise away
    assert (made.regime == "calm").all() and made.market.index.equals(made.regime.index)
    assert check_bars(made.bars) is made.bars
    plain = synth_market(400, 300, ic=0.0, regimes=False, seed=2)
    assert (
        plain.features.equals(made.features) and (plain.market["volatility"] == STATES.loc["calm", "volatility"]).all()
    )


def test_the_planted_ic_does_not_depend_on_the_calendar_or_the_volatility():
    for change in ({"calendar": "24/7"}, {"regimes": "garch"}):
        got = np.array([mean_ic(synth_market(30, 150, ic=0.1, seed=s, **change)) for s in range(30)])
        assert abs(got.mean() - 0.1) < 3.5 * got.std(ddof=1) / np.sqrt(len(got))
    dates = synth_market(2, 400, calendar="24/7").bars.index.levels[0]
    assert (np.diff(dates) == np.timedelta64(1, "D")).all()


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 1440), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_minutes_add_up_to_their_day(n, days, minutes, seed):
    bars = synth_market(n, days, ic=0.0, seed=seed).bars
    fine, truth = synth_minutes(bars, minutes, opens="00:00", seed=seed)
    assert check_bars(fine) is fine and len(fine) == len(bars) * minutes
    day = (fine.index.get_level_values("date") - pd.Timedelta("1min")).normalize().tz_localize(None)
    daily = fine.groupby([day, fine.index.get_level_values("symbol")]).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    assert (
        daily[["open", "high", "low", "close"]].to_numpy() == bars[["open", "high", "low", "close"]].to_numpy()
    ).all()
    np.testing.assert_allclose(daily["volume"], bars["volume"], rtol=1e-12)
    for side in ("high", "low"):
        there = pd.MultiIndex.from_arrays([truth[f"{side}_at"], bars.index.get_level_values("symbol")])
        assert (fine.loc[there, side].to_numpy() == bars[side].to_numpy()).all()


def test_minutes_are_continuous_and_as_rough_as_planted():
    bars = synth_market(10, 60, ic=0.0, seed=1).bars
    fine, truth = synth_minutes(bars, seed=1)
    close, open_ = (to_wide(fine[c]).to_numpy().reshape(60, 390, 10) for c in ("close", "open"))
    assert (open_[:, 1:] == close[:, :-1]).all()
    realised = (np.log(close / open_) ** 2).sum(axis=1).ravel()
    assert np.sqrt(realised / truth["volatility"].to_numpy() ** 2).mean() == pytest.approx(1, abs=0.02)
    assert synth_minutes(bars, seed=1)[0].equals(fine) and not synth_minutes(bars, seed=2)[0].equals(fine)
    assert (truth["high_at"] < truth["low_at"]).mean() == pytest.approx(0.5, abs=0.07)


def test_minutes_of_a_flat_bar_and_of_none():
    flat = synth_market(1, 1, ic=0.0).bars.assign(open=5.0, high=5.0, low=5.0, close=5.0)
    fine, truth = synth_minutes(flat)
    assert (fine[["open", "high", "low", "close"]] == 5.0).all().all() and truth["volatility"].tolist() == [0.0]
    assert synth_minutes(flat.iloc[:0])[0].empty
    for wrong in (0, 1441):
        with pytest.raises(ConfigError, match=f"minutes={wrong}"):
            synth_minutes(flat, wrong)


@pytest.mark.parametrize(("spread", "impact"), [(10.0, 0.7), (0.0, 0.3), (40.0, 0.0)])
def test_a_regression_finds_the_planted_costs(spread, impact):
    bars = synth_market(30, 250, ic=0.0, seed=1).bars
    fills, truth = synth_fills(bars, 8000, spread, impact, noise_bps=5, seed=1)
    paid = np.sign(fills["quantity"]) * (fills["price"] / fills["mid"] - 1)
    design = np.column_stack([np.full(len(fills), 0.5e-4), fills["volatility"] * np.sqrt(fills["participation"])])
    assert np.linalg.lstsq(design, paid)[0] == pytest.approx([spread, impact], abs=0.5) and truth["impact"] == impact
    assert np.linalg.lstsq(design, paid)[0][1] == pytest.approx(impact, abs=0.02)
    rows = pd.MultiIndex.from_frame(fills[["date", "symbol"]])
    assert (bars.loc[rows, "open"].to_numpy() == fills["mid"]).all()
    np.testing.assert_allclose(fills["quantity"].abs() / bars.loc[rows, "volume"].to_numpy(), fills["participation"])
    with pytest.raises(DataError, match="longer bars"):
        synth_fills(bars.iloc[:30])


@given(st.integers(0, 500), st.floats(0, 0.1), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_the_list_of_damage_is_the_damage(seed, missing, delisted, censored, spikes):
    whole = synth_market(15, 120, ic=0.0, seed=1).bars
    bars, truth = synth_damage(whole, missing, delisted, censored, spikes, seed)
    assert check_bars(bars) is bars
    found, full = symbol_coverage(bars), whole.loc[bars.index]
    lost = truth[truth["rule"] == "missing"]
    assert (
        found["missing"].sum() == len(lost)
        and not pd.MultiIndex.from_frame(lost[["date", "symbol"]]).isin(bars.index).any()
    )
    ends = truth[truth["rule"].isin(["delisted", "ends_together"])].set_index("symbol")["date"]
    early = found.loc[found["last"] < whole.index.levels[0][-1], "last"]
    assert sorted(zip(early.index, early, strict=True)) == sorted(zip(ends.index, ends, strict=True))
    changed = bars.index[(bars["close"] != full["close"]).to_numpy()]
    torn = truth[truth["rule"] == "spike"]
    assert sorted(changed) == sorted(zip(torn["date"], torn["symbol"], strict=True))
    assert (bars.loc[changed, "close"] == full.loc[changed, "close"] / 2).all() and bars["volume"].equals(
        full["volume"]
    )


def test_damage_that_does_not_fit_is_refused():
    whole = synth_market(5, 60, ic=0.0).bars
    assert synth_damage(whole)[0].equals(whole) and synth_damage(whole)[1].empty
    for change in (
        {"missing": 0.5},
        {"missing": -0.1},
        {"delisted": 0.6, "censored": 0.6},
        {"spikes": 6},
        {"delisted": -0.4},
    ):
        with pytest.raises(ConfigError, match="cannot lose"):
            synth_damage(whole, **change)
    for frame in (whole.iloc[:-1], whole.iloc[:0], synth_market(5, 59, ic=0.0).bars):
        with pytest.raises(ConfigError, match="cannot lose"):
            synth_damage(frame, missing=0.01)


def test_a_planted_drift_moves_what_it_names_and_nothing_else():
    plain = synth_market(10, 60, persistence=0.5, horizon=3, seed=4)
    moved = synth_market(
        10, 60, persistence=0.5, horizon=3, seed=4, drift={"factor": -0.5, "noise_3": 2.0}, drift_from=40
    )
    assert moved.bars.equals(plain.bars) and moved.market.equals(plain.market) and moved.regime.equals(plain.regime)
    for name in plain.features:
        by = {"factor": -0.5, "noise_3": 2.0}.get(name, 0.0)
        expected = to_wide(plain.features[name]).to_numpy().copy()
        expected[40:] += by
        np.testing.assert_array_equal(to_wide(moved.features[name]).to_numpy(), expected)
    assert moved.truth == plain.truth | {"drift_factor": -0.5, "drift_noise_3": 2.0, "drift_from": 40}
    none = synth_market(10, 60, persistence=0.5, horizon=3, seed=4, drift={}, drift_from=3)
    assert none.features.equals(plain.features) and none.truth == plain.truth


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drift": {"noise_9": 1.0}}, "drift of 'noise_9', there is factor, noise_1"),
        ({"drift": {"factor": np.nan}}, "by nan, expected a finite number"),
        ({"drift": {"factor": 1.0}, "drift_from": 30}, "drift_from=30, expected a whole number from 0 to 29"),
        ({"drift_from": -1}, "drift_from=-1"),
        ({"drift_from": 1.5}, "drift_from=1.5"),
    ],
)
def test_a_drift_that_cannot_be_planted_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        synth_market(3, 30, ic=0.0, **change)
