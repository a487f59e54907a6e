"""Monte Carlo: what is held fixed stays fixed, nulls are nulls, and planted truth is found."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.backtest import montecarlo as mc
from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.stats import exposure, sharpe
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import to_wide
from quantlab.data.synth import synth_market


def series(values):
    return pd.Series(values, index=pd.bdate_range("2020-01-01", periods=len(values)), dtype=float)


@pytest.fixture(scope="module")
def market():
    return synth_market(n_symbols=30, n_dates=260, seed=3).bars


def random_book(market, seed, k=5, every=10):
    """k names drawn anew every ten sessions, equally weighted: no skill."""
    close, rng = to_wide(market["close"]), np.random.default_rng(seed)
    rows = [(d, s, 1 / k) for d in close.index[20:-20:every] for s in rng.choice(close.columns, k, replace=False)]
    return pd.DataFrame(rows, columns=["date", "symbol", "weight"]).set_index(["date", "symbol"]).sort_index()


def test_histories_are_made_of_the_days_there_are():
    r = series(np.random.default_rng(0).normal(0, 0.01, 200)).mask(lambda x: x.index == x.index[7])
    h = mc.bootstrap_returns(r, 50, block=5)
    assert h.shape == (50, 199) and np.isin(h, r.dropna()).all()
    assert not np.array_equal(h[0], h[1]) and np.array_equal(h, mc.bootstrap_returns(r, 50, block=5))
    assert not np.array_equal(h, mc.bootstrap_returns(r, 50, block=5, seed=8))


def test_errors_of_independent_normal_returns_are_the_textbooks():
    rng = np.random.default_rng(1)
    r = series(rng.normal(0.0005, 0.01, 1500))
    table = mc.bootstrap(r, 252, block=1)
    assert table.at["sharpe", "se"] == pytest.approx(np.sqrt(252 / 1500), rel=0.12)
    assert table.at["volatility", "se"] == pytest.approx(0.01 * np.sqrt(252) / np.sqrt(3000), rel=0.12)
    assert table.loc["sharpe", "low"] < table.loc["sharpe", "value"] < table.loc["sharpe", "high"]


def test_long_memory_gets_long_blocks():
    rng = np.random.default_rng(2)
    noise, persistent = rng.normal(0, 0.01, 1000), np.zeros(1000)
    for t in range(1, 1000):
        persistent[t] = 0.9 * persistent[t - 1] + noise[t]
    spells = noise * np.repeat(rng.choice([0.3, 3.0], 20), 50)
    assert mc.block_length(noise) < 6 < mc.block_length(persistent) and mc.block_length(spells) > 10
    assert (
        mc.bootstrap(series(persistent), 252, 300).at["sharpe", "se"]
        > 2 * mc.bootstrap(series(persistent), 252, 300, block=1).at["sharpe", "se"]
    )


@given(pnl=st.lists(st.integers(-50, 50), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_shuffles_keep_the_sum_and_bound_the_fall(pnl):
    trips = pd.DataFrame(
        {
            "entry": pd.date_range("2024-01-01", periods=len(pnl)),
            "exit": pd.date_range("2024-02-01", periods=len(pnl)),
            "pnl": np.array(pnl, float),
        }
    )
    table = mc.shuffle_round_trips(trips, 99)
    worst = min(sum(x for x in pnl if x < 0), 0)
    assert worst - 1e-9 <= table.at["max_fall", "low"] <= table.at["max_fall", "high"] <= 0
    assert table["p"].between(1 / 100, 1).all() and table.at["losing_streak", "value"] <= sum(x < 0 for x in pnl)


def test_clustered_losses_are_found_and_a_shuffled_order_is_not():
    days = pd.date_range("2020-01-01", periods=200)
    rng = np.random.default_rng(5)
    frame = lambda pnl: pd.DataFrame({"entry": days, "exit": days, "pnl": pnl})
    sorted_, mixed = np.r_[np.ones(120), -np.ones(80)], rng.permutation(np.r_[np.ones(120), -np.ones(80)])
    assert (mc.shuffle_round_trips(frame(sorted_))["p"] <= 0.002).all()
    assert (mc.shuffle_round_trips(frame(mixed))["p"] > 0.05).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_weights_keep_dates_weights_and_turnover(market, seed):
    book = random_book(market, seed, k=4).mul(np.random.default_rng(seed).uniform(-0.5, 1.0))
    can = to_wide(market["close"]).notna()
    other = mc.random_weights(book, can, seed)
    wide = [to_wide(w["weight"]).reindex(columns=can.columns).fillna(0.0) for w in (book, other)]
    assert wide[0].index.equals(wide[1].index)
    assert np.allclose(np.sort(wide[0], axis=1), np.sort(wide[1], axis=1))
    assert np.allclose(*(w.diff().abs().sum(axis=1) for w in wide))  # name by name: the same turnover, exactly
    assert other.equals(mc.random_weights(book, can, seed))


def test_random_weights_hold_only_what_is_eligible(market):
    book, can = random_book(market, 1), to_wide(market["close"]).notna()
    can.iloc[100:, :15] = False  # half of the names stop
    other = mc.random_weights(book, can)
    late = other.loc[can.index[100] :]
    assert not late.index.get_level_values("symbol").isin(can.columns[:15]).any()
    assert (late.groupby("date").size() == 5).all()
    with pytest.raises(DataError, match="more are held than are eligible"):
        mc.random_weights(book, can.iloc[:, :3])
    with pytest.raises(DataError, match="eligible"):
        mc.random_weights(book, can.iloc[:0])
    assert mc.random_weights(book.iloc[:0], can).empty


def test_dates_in_cash_stay_decisions(market):
    book = random_book(market, 2)
    day = book.index[10][0]
    book.loc[day] = 0.0
    other = mc.random_weights(book, to_wide(market["close"]).notna())
    assert (other.loc[day, "weight"] == 0).all() and other.index.get_level_values("date").unique().equals(
        book.index.get_level_values("date").unique()
    )


def test_an_oracle_beats_random_names_and_chance_does_not(market):
    close = to_wide(market["close"])
    ahead = (close.shift(-11) / close.shift(-1)).iloc[20:-20:10]
    best = ahead.rank(axis=1, ascending=False) <= 5
    oracle = (
        best.stack().loc[lambda x: x].rename_axis(["date", "symbol"]).rename("weight").mul(0.2).astype(float).to_frame()
    )
    own = from_weights(oracle, market, Costs(0, 0))
    gross = exposure(own.positions, own.equity)["gross"].mean()
    one = mc.random_portfolios(oracle, market, 252, Costs(0, 0), draws=0).loc["run"]
    assert one["exposure"] == pytest.approx(gross, rel=1e-12) and one["sharpe"] == sharpe(own.returns, 252)
    table = mc.against_random(mc.random_portfolios(oracle, market, 252, Costs(0, 0), draws=30))
    assert table.at["sharpe", "p"] == 1 / 31 and table.at["annual_return", "value"] > table.at["annual_return", "high"]
    assert table.at["turnover", "mean"] == pytest.approx(table.at["turnover", "value"], rel=0.1) and table.at[
        "exposure", "mean"
    ] == pytest.approx(table.at["exposure", "value"], abs=0.02)
    lucky = [
        mc.against_random(mc.random_portfolios(random_book(market, s), market, 252, Costs(0, 0), draws=19)).at[
            "sharpe", "p"
        ]
        for s in range(5)
    ]
    assert sum(p <= 0.1 for p in lucky) <= 2
    assert 0.2 < np.mean(lucky) < 0.8


def peaked(**p):
    """Returns whose Sharpe ratio falls with the distance of a from 10; b does nothing."""
    noise = np.random.default_rng(0).normal(0, 0.01, 500)
    return series(noise - noise.mean() + 0.001 * (1 - abs(p["a"] - 10) / 2))


def test_a_planted_peak_is_fragile_and_a_plateau_is_not():
    table = mc.perturb(peaked, {"a": 10, "b": 5.0, "c": "x", "d": True, "e": 0}, 252)
    assert table["parameter"].tolist() == ["run", "a", "a", "b", "b"] and table["setting"].tolist()[1:] == [
        8,
        12,
        4.0,
        6.0,
    ]
    assert np.allclose(table["change"].iloc[3:], 0) and np.allclose(table["se"].iloc[3:], 0)
    worst = mc.fragility(table)
    assert worst["parameter"] == "a" and worst["loss"] == pytest.approx(1.0) and worst["t"] < -5
    flat = mc.fragility(mc.perturb(peaked, {"a": 10.0, "b": 5.0}, 252, step=0.01))
    assert flat["loss"] == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize(
    "value, down, up",
    [
        (10, 8, 12),
        (2, 1, 3),
        (1, None, 2),
        (0.5, 0.4, 0.6),
        (-10, -8, -12),
        (True, None, None),
        ("x", None, None),
        (0, None, None),
        (None, None, None),
    ],
)
def test_what_moves(value, down, up):
    assert mc._moved(value, 0.8) == (pytest.approx(down) if down else None) and mc._moved(value, 1.2) == (
        pytest.approx(up) if up else None
    )


def test_what_a_neighbour_raises_is_raised():
    def picky(a):
        if a != 10:
            raise ConfigError("a is not 10")
        return series([0.01] * 20)

    with pytest.raises(ConfigError, match="a is not 10"):
        mc.perturb(picky, {"a": 10}, 252)


def test_weather_follows_its_rules():
    path = np.r_[
        np.linspace(100, 200, 101),
        np.linspace(200, 150, 51)[1:],
        np.linspace(150, 260, 111)[1:],
        np.linspace(260, 230, 6)[1:],
        np.full(20, 230.0),
    ]
    close = series(path)
    weather = mc.market_regimes(close)
    assert (
        weather["bear"].sum() == 50 and weather["bear"].iloc[101:151].all()
    )  # the fall of 25 %, not the one of 11.5 %
    assert (
        weather["crash"].sum() == 14 and weather["crash"].iloc[257:271].all()
    )  # the high is 260; windows ending 266 to 270 lost 10 %
    assert (weather["bull"] ^ weather["bear"]).all()
    assert mc.market_regimes(close, bear=0.1)["bear"].sum() == 55
    for bad in (close * -1, close[::-1], pd.concat([close, close])):
        with pytest.raises(PanelError):
            mc.market_regimes(bad)


def test_stress_by_hand():
    r = series([0.01, -0.02, 0.03, 0.0, -0.01, 0.02])
    flags = pd.DataFrame({"a": [True, True, False, False, True, False], "none": False}, index=r.index)
    table = mc.stress(r, flags, 252)
    assert table.loc["a", ["n", "spells", "worst_day"]].tolist() == [3, 2, -0.02]
    assert table.at["a", "total"] == pytest.approx(1.01 * 0.98 * 0.99 - 1) and table.at["a", "mean"] == pytest.approx(
        252 * -0.02 / 3
    )
    assert table.at["none", "n"] == 0 and np.isnan(table.at["none", "sharpe"])
    independent = series(np.random.default_rng(4).normal(0, 0.01, 2000))
    se = mc.stress(independent, pd.DataFrame({"all": True}, index=independent.index), 252).at["all", "se"]
    assert se == pytest.approx(252 * 0.01 / np.sqrt(2000), rel=0.15)


def test_little_is_defined():
    for values in ([], [0.01], [np.nan] * 3, [0.0] * 30):
        r = series(values)
        assert mc.bootstrap(r, 252).shape == (6, 5) and len(mc.fan(r, 20)) == r.count()
    with pytest.raises(DataError, match="infinite"):
        mc.bootstrap_returns(series([0.1, np.inf]))
    with pytest.raises(ConfigError, match="draws"):
        mc.bootstrap_returns(series([0.1, 0.2]), 0)


def test_an_account_that_never_moves_has_no_sharpe_ratio_in_any_draw():
    table = mc.bootstrap(series(np.zeros(50)), 252)
    assert table.loc["volatility", "value"] == 0 and np.isnan(table.loc["sharpe", "value"])


def test_no_returns_are_no_histories():
    nothing = series(np.zeros(5)).iloc[:0]
    assert mc.fan(nothing).empty and mc.bootstrap_returns(nothing, 3).shape == (3, 0)
    assert mc.bootstrap(nothing, 252)["value"].isna().all()


def test_stress_of_too_few_sessions_is_not_known():
    r = series(np.random.default_rng(0).normal(0, 0.01, 50))
    weather = mc.market_regimes((1 + r).cumprod())
    assert mc.stress(r.iloc[:0], weather, 252)["n"].eq(0).all()
    assert np.isnan(mc.stress(r.iloc[:1], weather, 252)["se"]).all()


def test_what_is_no_number_has_no_neighbours():
    r = series(np.random.default_rng(0).normal(0, 0.01, 50))
    alone = mc.perturb(lambda name: r, {"name": "x"}, 252)
    assert len(alone) == 1 and np.isnan(mc.fragility(alone)["loss"])


def test_another_maker_draws_histories_of_the_same_length_and_mean_and_the_default_stays():
    r = series(np.random.default_rng(0).normal(0.0005, 0.01, 400))
    plain = mc.bootstrap_returns(r, 40, seed=3)
    assert np.array_equal(plain, mc.bootstrap_returns(r, 40, seed=3, generator="bootstrap"))
    for name in ("garch", "regime"):
        h = mc.bootstrap_returns(r, 40, seed=3, generator=name)
        assert h.shape == plain.shape and not np.array_equal(h, plain)
        assert abs(h.mean() - r.mean()) < 4 * 0.01 / (40 * 400) ** 0.5 and 0.8 < h.std() / r.std() < 1.2
    table = mc.by_generator(r, 252, draws=20)
    assert list(table.index.unique("generator")) == ["bootstrap", "garch", "regime"] and len(table) == 60
    assert table.loc["bootstrap", "sharpe"].tolist() == list(sharpe(mc.bootstrap_returns(r, 20), 252))
    assert len(mc.generator_figure(table).axes[0].lines) == 6
    with pytest.raises(ConfigError, match="did you mean 'garch'"):
        mc.bootstrap_returns(r, 3, generator="grach")
    with pytest.raises(ConfigError, match="draws no blocks"):
        mc.bootstrap_returns(r, 3, block=5, generator="garch")
    with pytest.raises(DataError, match="100 dates"):
        mc.bootstrap_returns(r.iloc[:50], 3, generator="garch")
