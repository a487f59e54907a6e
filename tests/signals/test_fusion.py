"Fusion finds the expert of the weather, forgets noise, and cannot be reached by the future."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import LeakError, PanelError
from quantlab.regime.base import Filtered, Smoothed
from quantlab.signals.fusion import fuse, fusion_weights, mixture_of_experts
from quantlab.validation.scores import rank_ic


def world(seed, sessions=420, names=20, skill=0.15):
    "Two experts, each right in its weather, and noise; outcomes known five sessions later."
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2015-01-01", periods=sessions, name="date").as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(names)]], names=["date", "symbol"])
    storm = np.cumsum(rng.random(sessions) < 1 / 40) % 2 == 1
    scores = {name: rng.normal(size=(sessions, names)) for name in ("calm", "storm", "noise")}
    planted = np.where(storm[:, None], scores["storm"], scores["calm"])
    y = pd.Series((skill * planted + rng.normal(size=(sessions, names))).ravel(), index)
    t1 = pd.Series(np.repeat(pd.DatetimeIndex(np.append(dates[5:], [pd.NaT] * 5)), names), index)
    sure = np.where(storm, 0.9, 0.1)
    said = {n: pd.DataFrame({"score": s.ravel(), "doubt": 1.4}, index) for n, s in scores.items()}
    return said, y.where(t1.notna()), t1, Filtered(pd.DataFrame({"calm": 1 - sure, "turbulent": sure}, dates))


def judged(seed, **more):
    "Return the IC of each way out of sample, and the mean weight of noise."
    said, y, t1, weather = world(seed, **more)
    weights = fusion_weights(said, y, t1, weather)
    ways = {name: one["score"] for name, one in said.items()} | {"fusion": fuse(said, weights)["score"]}
    ways["all weathers alike"] = mixture_of_experts(said, y, t1)["score"]
    later = y.index.unique("date")[220]
    found = {name: rank_ic(s[later:], y[later:]).mean() for name, s in ways.items()}
    return pd.Series(found | {"weight of noise": weights.loc[later:, "noise"].mean()})


def beats(table):
    "Say by how many errors fusion beats each other way."
    gain = table.drop(columns="weight of noise").rsub(table["fusion"], axis=0).drop(columns="fusion")
    return gain.mean() / gain.sem()


@pytest.fixture(scope="module")
def five():
    return pd.DataFrame([judged(seed) for seed in range(5)])


def test_fusion_beats_every_single_expert_and_forgets_noise(five):
    assert (beats(five) > 3).all(), beats(five)
    assert five["weight of noise"].mean() < 0.05 and five["weight of noise"].max() < 0.15


@pytest.mark.slow
def test_fusion_beats_every_single_expert_on_twenty_markets():
    table = pd.DataFrame([judged(seed, sessions=1000) for seed in range(100, 120)])
    assert (beats(table) > 6).all() and table["weight of noise"].mean() < 0.03


@pytest.mark.slow
def test_where_nobody_knows_anything_nothing_is_won_or_lost():
    table = pd.DataFrame([judged(seed, skill=0.0) for seed in range(20)])
    assert abs(table["fusion"].mean()) < 3 * table["fusion"].sem()


def test_before_anything_is_known_all_are_alike():
    said, y, t1, weather = world(1, sessions=60)
    weights = fusion_weights(said, y, t1, weather)
    assert np.allclose(weights.iloc[:5], 1 / 3) and np.allclose(weights.sum(axis=1), 1)
    nothing = fusion_weights(said, y * np.nan, t1.where(t1.isna()), weather)
    assert np.allclose(nothing, 1 / 3)


def test_the_future_cannot_reach_it():
    said, y, t1, weather = world(2, sessions=200)
    whole = mixture_of_experts(said, y, t1, weather)
    for cut in (1, 60, 130, 198):
        last = y.index.unique("date")[cut]
        here = y.index.get_level_values("date") <= last
        short = mixture_of_experts(
            {n: one[here] for n, one in said.items()}, y.where(t1 <= last)[here], t1.where(t1 <= last)[here],
            Filtered(weather.probabilities[:last]),
        )  # fmt: skip
        assert short.equals(whole[:last])
        assert mixture_of_experts(said, y.where(~(t1 > last), -y), t1, weather)[:last].equals(whole[:last])


def test_the_doubt_of_a_mixture_grows_with_disagreement():
    said, y, t1, _ = world(3, sessions=60)
    same = {"a": said["calm"], "b": said["calm"]}
    apart = {"a": said["calm"], "b": said["calm"].assign(score=-said["calm"]["score"])}
    half = pd.DataFrame(0.5, y.index.unique("date"), ["a", "b"])
    one, two = fuse(same, half), fuse(apart, half)
    assert (two["doubt"] > one["doubt"]).all() and np.allclose(two["score"], 0)


def test_who_is_silent_says_average_and_where_all_are_silent_there_is_no_opinion():
    said, y, _, _ = world(4, sessions=60)
    quiet = said["storm"].copy()
    quiet.iloc[:20] = np.nan
    half = pd.DataFrame(0.5, y.index.unique("date"), ["a", "b"])
    mixed = fuse({"a": said["calm"], "b": quiet}, half).iloc[:20]
    alone = fuse({"a": said["calm"]}, half[["a"]] * 2).iloc[:20]
    assert np.allclose(mixed["score"], alone["score"] / 2) and mixed.notna().all(axis=None)
    assert fuse({"a": quiet, "b": quiet}, half).iloc[:20].isna().all(axis=None)


def test_what_cannot_be_mixed_is_refused():
    said, y, t1, weather = world(5, sessions=60)
    with pytest.raises(LeakError, match="smoothed"):
        mixture_of_experts(said, y, t1, Smoothed(weather.probabilities))
    half = pd.DataFrame(1 / 3, y.index.unique("date"), list(said))
    with pytest.raises(PanelError, match="same rows"):
        fuse(said | {"noise": said["noise"].iloc[1:]}, half)
    with pytest.raises(PanelError, match="weight"):
        fuse(said, half.drop(columns="noise"))
    with pytest.raises(PanelError, match="lengthen y"):
        fuse(said, half.iloc[:-1])


@pytest.mark.parametrize("weather", [None, "told"])
def test_nothing_in_nothing_out(weather):
    said, y, t1, states = world(0, sessions=30)
    none = {name: one.iloc[:0] for name, one in said.items()}
    mixed = mixture_of_experts(none, y.iloc[:0], t1.iloc[:0], states if weather else None)
    assert mixed.empty and list(mixed) == ["score", "doubt"]
    assert fusion_weights(none, y.iloc[:0], t1.iloc[:0]).shape == (0, 3)


def test_one_symbol_is_judged_over_time():
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2015-01-01", periods=1200, name="date").as_unit("us")
    index = pd.MultiIndex.from_product([dates, ["ONE"]], names=["date", "symbol"])
    good, noise = rng.normal(size=(2, 1200))
    y = pd.Series(0.01 * (0.15 * good + rng.normal(size=1200)), index)
    t1 = pd.Series(pd.DatetimeIndex(np.append(dates[1:], [pd.NaT])), index)
    said = {n: pd.DataFrame({"score": s, "doubt": 1.0}, index) for n, s in {"good": good, "noise": noise}.items()}
    weights = fusion_weights(said, y.where(t1.notna()), t1)
    assert weights["good"].iloc[500:].mean() > 0.85
