"""The law of the room: `decide` on bars cut at a close equals what `run` gave for it, to the last digit."""

import pandas as pd
import pytest
from leaky_parts import TREES, halted, small, with_model

from quantlab.core.errors import ConfigError
from quantlab.data.sample import sample_bars
from quantlab.recipe.chain_audit import borders, halts, law, law_dates
from quantlab.recipe.decide import decide
from quantlab.recipe.market import store_folder
from quantlab.recipe.spec import load, recipe_names
from quantlab.recipe.stages import Stages


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "Begin with an empty cache."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def market():
    "Two suspensions, two delistings, two names that come late."
    return halted(Stages(small()).market)


def holds(table, least):
    "Say whether every close of a law holds, and show those that do not."
    broken = table[~table["holds"]]
    assert broken.empty, f"\n{broken.to_string()}"
    assert len(table) >= least
    return True


def test_the_closes_that_are_asked(market):
    whole = Stages(small(), market=market)
    dates = law_dates(whole, 30)
    sessions = whole.bars.index.unique("date")
    for border in borders(whole):
        at = sessions.get_loc(border)
        assert set(sessions[max(0, at - 1) : at + 2]) <= set(dates)
    stops, ends = halts(market.bars.index)
    day = Stages(small()).market.bars.index.unique("date")
    assert set(day[[599, 600, 630, 639, 640, 641]]) == set(stops) and set(day[[559, 560, 699, 700]]) == set(ends)
    assert set(dates) & set(stops) and set(dates) & set(ends) and len(dates) >= 30 and dates.is_unique
    assert set(dates) <= set(sessions) and dates.equals(law_dates(whole, 30))


QUICK = {
    "ridge": small(),
    "gbm": with_model("gbm", **TREES),
    "feature": with_model("feature", column="mom_126_21"),
    "hmm": small(regime__kind="hmm", regime__refit=126),
    "signals": small(
        regime__kind="hmm", regime__refit=126, signals__experts=["model", "rev_5", "-max_21"], signals__half_life=10,
        signals__confidence=True, signals__lookback=126,
    ),
    "long and short": with_model("feature", column="mom_126_21").replace(
        policy__kind="long_short", regime__short_leg="momentum", regime__max_stale=5
    ),
    "guarded": with_model("feature", column="mom_126_21").replace(
        limits__kill_drawdown=0.12, limits__stop=0.04, limits__max_turnover=0.3, limits__max_adv=0.5,
        policy__rebalance=5,
    ),
    "neutral beside, blended, many seeds": with_model("gbm", **TREES).replace(
        features__beside="neutral_ranks", label__target="normal", label__blend={5: 0.3}, model__seeds=3,
        signals__neutralise="size",
    ),
    "barriers, strength and doubt": with_model("quantile", **TREES).replace(
        label__kind="triple_barrier", label__target="none", label__profit=1.5, policy__kind="proportional",
        signals__confidence=True, sizing__atr_risk=0.002, sizing__sure_risk=0.01,
    ),
}  # fmt: skip
MORE = {
    "volatility target": small(sizing__vol_target=0.1, data__periods_per_year=252),
    "a target that may lever": small(
        sizing__vol_target=0.2, sizing__max_gross=1.5, data__periods_per_year=252, regime__kind="hmm"
    ),
    "softmax on both sides": small(policy__kind="softmax", policy__shorts=True, policy__temperature=0.5),
    "ranks": small(policy__kind="rank_weighted", sizing__vol_target=0.1, data__periods_per_year=252),
    "beta-neutral": small(policy__kind="beta_neutral", policy__lookback=126),
    "sector-neutral": small(policy__kind="sector_neutral", end="2015-12-31", split__train_sessions=600),
    "sectors limited": small(limits__max_sector=0.2, end="2015-12-31", split__train_sessions=600),
    "least variance": small(policy__kind="optimised", policy__lookback=126, data__periods_per_year=252),
    "views": small(
        policy__kind="optimised", policy__objective="views", policy__covariance="ewma", data__periods_per_year=252,
        limits__max_turnover=0.3,
    ),
    "equal risk, a killed book": small(
        policy__kind="optimised", policy__objective="equal_risk", data__periods_per_year=252,
        limits__kill_drawdown=0.05, limits__flatten=True,
    ),
    "rank weights, capped": small(sizing__weighting="rank", limits__max_weight=0.13),
    "rank weights": small(sizing__weighting="rank"),
    "sector": small(features__neutralise="sector"),
    "zscore": small(features__transform=["zscore"]),
    "robust and winsorised": small(features__transform=["robust_zscore", "winsorise"]),
    "as it is": small(features__transform=[]),
    "expanding": small(split__expanding=True),
    "every fifth": small(split__learn_every=5),
    "no embargo": small(split__embargo=0, split__test_sessions=21),
    "each session": small(policy__rebalance=1, policy__top_k=3, policy__buffer=0),
    "normal": small(label__target="normal"),
    "excess": small(label__target="excess", label__entry="close", label__horizon=5),
    "quantile": with_model("quantile", **TREES),
    "lambdarank": with_model("lambdarank", **TREES),
    "ensemble": with_model("ensemble", seeds=2, **TREES),
    "fama_macbeth": with_model("fama_macbeth"),
    "cascade": with_model("cascade", blocks=4, n_kernels=40),
    "another cascade": with_model("cascade", blocks=4, n_kernels=40, validator="none", path_lookback=20),
    "a path beside the features": small(features__path=20, features__drop=["mom_*"]),
    "weights by uniqueness": small(label__weight="uniqueness", split__learn_every=5),
    "the latest of each window": small(split__learn_last=120),
    "next close": small(fill="next_close"),
    "vwap": small(fill="vwap"),
    "same close": small(fill="same_close"),
    "costs": small(costs__interest_bps=100.0, costs__impact=0.1, costs__half_spread_bps=2.0),
    "regime described": small(regime__kind="hmm", regime__gate=False),
    "two states that dwell": small(
        regime__kind="hmm",
        regime__n_states=2,
        regime__exposure={"turbulent": 0.5},
        regime__hysteresis=0.2,
        regime__min_dwell=5,
    ),
    "jump": small(regime__kind="jump", regime__n_states=2, regime__refit=126),
    "markov": small(regime__kind="markov", regime__n_states=2, regime__refit=252),
    "changepoint": small(regime__kind="changepoint", regime__refit=126),
    "kernel cut": small(regime__kind="kernel_cut", regime__refit=126),
    "weather": small(regime__kind="hmm", regime__names="weather", regime__refit=126),
    "managed": small(regime__managed=0.1, data__periods_per_year=252),
    "managed in a weather": small(
        regime__kind="hmm", regime__managed=0.1, regime__max_stale=3, data__periods_per_year=252
    ),
    "decay": small(signals__half_life=63),
    "experts beside a feature": with_model("feature", column="mom_126_21").replace(
        signals__experts=["model", "rev_21"], policy__rebalance=1
    ),
    "a gate before a feature": with_model("feature", column="mom_126_21").replace(regime__kind="changepoint"),
    "experts and barriers": small(
        label__kind="leaky_parts:ragged", label__target="none", signals__experts=["model", "rev_5"]
    ),
    "sure quantiles": with_model("quantile", **TREES).replace(signals__confidence=True, signals__floor=0.0),
    "sure members": with_model("ensemble", seeds=2, **TREES).replace(signals__confidence=True),
    "weather described, experts mixed": small(
        regime__kind="hmm", regime__gate=False, signals__experts=["rev_5", "-max_21"], policy__kind="long_short"
    ),
    "technical": small(features__use=["technical", "range_vol", "momentum(100, 5)"]),
    "factors": small(features__use=["price", "factors"], end="2017-12-29"),  # looks back five years
}


@pytest.mark.parametrize("name", QUICK)
def test_the_law_holds(market, name):
    assert holds(law(QUICK[name], n=12, market=market), 12)


def test_the_law_holds_on_bars_of_four_hours_around_the_clock():
    assert holds(law("crypto", n=8), 8)


def test_the_law_holds_when_nothing_comes_from_the_cache(market):
    whole = Stages(QUICK["gbm"], market=market)
    assert holds(law(QUICK["gbm"], borders(whole)[1:3], market=market, fresh=True), 2)


@pytest.mark.parametrize("first", [0, 1, 5, 20])
def test_the_law_holds_on_the_first_closes_of_a_feature(market, first):
    recipe = QUICK["feature"]
    sessions = Stages(recipe, market=market).bars.index.unique("date")
    assert holds(law(recipe, sessions[[first]], market=market), 1)


@pytest.fixture(scope="module")
def strays(tmp_path_factory):
    "Write bars with Saturdays on which one name has a row, a Sunday on which all but two do, and names that come late."
    names = [n.strip() for n in small().data.universe.split(",")]
    bars = sample_bars(names, "2010-01-04", "2013-06-28")
    dates = bars.index.unique("date")
    fridays, one = dates[dates.day_of_week == 4], pd.Timedelta("1D")
    lone = [bars.loc[[(day, "IBM")]].rename({day: day + one}, level="date") for day in fridays[[20, 110, 119, 140]]]
    many = bars.loc[[fridays[125]]].iloc[2:].rename({fridays[125]: fridays[125] + 2 * one}, level="date")
    late = bars.index.get_level_values("symbol").isin(["GE", "F"]) & (bars.index.get_level_values("date") < dates[540])
    file = tmp_path_factory.mktemp("data") / "strays.parquet"
    pd.concat([bars[~late], *lone, many]).sort_index().reset_index().to_parquet(file)
    return file


def test_the_law_holds_around_dates_on_which_almost_nobody_traded(strays):
    recipe = small(data__source=str(strays), data__universe="all", policy__rebalance=5)
    whole = Stages(recipe)
    sessions = whole.bars.index.unique("date")
    assert len(whole.market.stray) == 5
    at = [sessions.searchsorted(day) for day in whole.market.stray if day > sessions[0]]
    around = [sessions[place + k] for place in at for k in (-1, 0, 1)]
    assert len(around) >= 9
    assert holds(law(recipe, sorted(set(around) | set(law_dates(whole, 0)))), 20)


def test_a_close_that_is_none_is_the_one_before_it(strays):
    recipe = small(data__source=str(strays), data__universe="all")
    sessions = Stages(recipe).bars.index.unique("date")
    friday = sessions[sessions.day_of_week == 4][5]
    assert decide(recipe, friday + pd.Timedelta("1D")).date == decide(recipe, friday).date == friday


# ---------------------------------------------------------------- minutes


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_the_law_holds_for_every_part(market, name):
    recipe = MORE[name]
    assert holds(law(recipe, n=20, market=market if recipe.data.end == small().data.end else None), 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_the_law_holds_on_every_committed_recipe(name, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    recipe = load(name)
    if recipe.data.source.startswith("lake:"):
        pytest.importorskip("duckdb")
    if recipe.data.source.startswith("qlib:"):
        try:
            store_folder(recipe.data.source)
        except ConfigError as error:
            pytest.skip(str(error))
    assert holds(law(recipe, n=40), 40)
