"Confidence, decay and combination: by hand, monotone, and from the past only."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.signals.combine import combination_weights, combine_scores, unit_scores
from quantlab.signals.decay import decay_scores, decay_tradeoff, score_turnover
from quantlab.signals.record import trailing_ic
from quantlab.signals.uncertainty import confidence, confidence_size, conformal_width, interval_width, size_weights

N = 120
DATES = pd.bdate_range("2020-01-01", periods=N, name="date").as_unit("us")


def panel(values, dates=DATES):
    names = [f"S{i:02d}" for i in range(values.shape[1])]
    return pd.Series(values.ravel(), pd.MultiIndex.from_product([dates, names], names=["date", "symbol"]))


def world(seed=0, names=12):
    "Opinions whose doubt is true, outcomes known three sessions later."
    rng = np.random.default_rng(seed)
    sigma = np.exp(rng.normal(size=(N, names)))
    opinions = pd.DataFrame({"score": panel(np.zeros((N, names))), "doubt": panel(sigma)})
    y = panel(sigma * rng.normal(size=(N, names)))
    t1 = pd.Series(np.repeat(pd.DatetimeIndex(np.append(DATES[3:], [pd.NaT] * 3)), names), y.index)
    return opinions, y.where(t1.notna()), t1


# ---------------------------------------------------------------- uncertainty


def test_widths_hold_what_they_promise_and_lies_are_corrected():
    opinions, y, t1 = world(names=40)
    late = y.index.get_level_values("date") >= DATES[40]
    inside = lambda w: ((y - opinions["score"]).abs() <= w / 2)[late & y.notna().to_numpy()].mean()
    lied = opinions.assign(doubt=opinions["doubt"] / 5)
    assert inside(interval_width(opinions)) == pytest.approx(0.8, abs=0.03)
    assert inside(interval_width(lied)) < 0.3
    assert inside(conformal_width(lied, y, t1)) == pytest.approx(0.8, abs=0.03)
    assert inside(conformal_width(lied, y, t1, level=0.5)) == pytest.approx(0.5, abs=0.03)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, N - 2))
def test_width_and_confidence_know_the_past_only(seed, cut):
    opinions, y, t1 = world(seed, names=5)
    last, here = DATES[cut], y.index.get_level_values("date") <= DATES[cut]
    whole = conformal_width(opinions, y, t1, lookback=20)
    assert conformal_width(opinions[here], y.where(t1 <= last)[here], t1.where(t1 <= last)[here], lookback=20).equals(
        whole[here]
    )
    assert conformal_width(opinions, y.where(~(t1 > last), 99.0), t1, lookback=20)[here].equals(whole[here])
    sure = confidence(whole, lookback=20)
    assert confidence(whole[here], lookback=20).equals(sure[here])
    assert confidence(whole, lookback=20, dates=DATES[[cut]]).equals(sure.loc[[last]])
    assert sure.between(0, 1).all()
    day = sure.loc[last].loc[whole.loc[last].sort_values().index]
    assert day.is_monotonic_decreasing


def test_confidence_by_hand_and_ties():
    width = panel(np.array([[1.0, 2.0], [2.0, np.nan]]), DATES[:2])
    assert confidence(width).tolist() == pytest.approx([0.75, 0.25, 1 / 3, np.nan], nan_ok=True)
    assert confidence(width, lookback=1).iloc[2] == 0.5
    flat = confidence(panel(np.ones((5, 3)), DATES[:5]))
    assert (flat == 0.5).all() and confidence(width.iloc[:0]).empty


def test_sizes_stay_within_their_bounds():
    sure = panel(np.array([[0.0, 0.5, 1.0, np.nan]]), DATES[:1])
    assert confidence_size(sure, 0.2).tolist() == pytest.approx([0.2, 0.6, 1.0, 0.2])
    weights = pd.DataFrame({"weight": [0.3, -0.3, 0.1, 0.2]}, sure.index)
    assert size_weights(weights, confidence_size(sure, 0.0))["weight"].tolist() == pytest.approx([0, -0.15, 0.1, 0])
    with pytest.raises(DataError, match="outside"):
        size_weights(weights, sure + 1)
    for floor in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="floor"):
            confidence_size(sure, floor)


def test_widths_that_are_none_are_refused():
    opinions, y, t1 = world()
    for level in (0.0, 1.0, 2.0):
        with pytest.raises(ConfigError, match="level"):
            interval_width(opinions, level)
    for value in (-1.0, np.inf):
        with pytest.raises(DataError, match="negative or infinite"):
            confidence(opinions["doubt"].where(np.arange(len(opinions)) != 5, value))
    with pytest.raises(PanelError, match="rows of the opinions"):
        conformal_width(opinions, y.iloc[1:], t1.iloc[1:])
    with pytest.raises(ConfigError, match="lookback"):
        confidence(opinions["doubt"], lookback=0)
    assert conformal_width(opinions, y * np.nan, t1.where(t1.isna())).equals(interval_width(opinions))


# ---------------------------------------------------------------- decay


def plain_average(values, half_life):
    "Average one name's past with loops."
    out = []
    for t in range(len(values)):
        weight = 0.5 ** ((t - np.arange(t + 1)) / half_life)
        use = np.isfinite(values[: t + 1])
        out.append((values[: t + 1][use] * weight[use]).sum() / weight[use].sum() if use[-1] else np.nan)
    return out


@pytest.mark.parametrize("half_life", [1, 10.5, 63])
def test_decay_is_a_weighted_mean_of_the_past(half_life):
    rng = np.random.default_rng(0)
    values = np.where(rng.random((N, 3)) < 0.2, np.nan, rng.normal(size=(N, 3)))
    scores = panel(values).to_frame("score")
    slow = decay_scores(scores, half_life)
    for i in range(3):
        name = f"S{i:02d}"
        assert slow.xs(name, level="symbol")["score"].tolist() == pytest.approx(
            plain_average(values[:, i], half_life), nan_ok=True
        )
    for cut in (0, 50, N - 2):
        assert decay_scores(scores[: DATES[cut]], half_life).equals(slow[: DATES[cut]])


def test_decay_of_nothing_one_row_and_what_is_refused():
    scores = panel(np.ones((N, 2))).to_frame("score").assign(doubt=2.0)
    assert decay_scores(scores, 0) is scores and decay_scores(scores.iloc[:0]).empty
    assert decay_scores(scores.iloc[:1])["score"].tolist() == [1.0] and np.allclose(decay_scores(scores)["doubt"], 2)
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ConfigError, match="half_life"):
            decay_scores(scores, bad)
    with pytest.raises(DataError, match="infinite"):
        decay_scores(scores.replace(1.0, np.inf))
    with pytest.raises(PanelError, match="score"):
        decay_scores(scores[["doubt"]])


def test_slower_scores_turn_over_less():
    rng = np.random.default_rng(1)
    scores, y = panel(rng.normal(size=(N, 20))).to_frame("score"), panel(rng.normal(size=(N, 20)))
    table = decay_tradeoff(scores, y, (0, 5, 20))
    assert table["turnover"].is_monotonic_decreasing and list(table.columns) == ["ic", "se", "turnover"]
    swap = panel(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 1.0]]), DATES[:3])
    assert score_turnover(swap).tolist() == [2.0, 0.0]


# ---------------------------------------------------------------- combination


def strategies(seed=0, names=15):
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(2, N, names))
    y = panel(0.3 * s[0] + rng.normal(size=(N, names)))
    t1 = pd.Series(np.repeat(pd.DatetimeIndex(np.append(DATES[1:], [pd.NaT])), names), y.index)
    return {"good": panel(s[0]).to_frame("score"), "none": panel(s[1]).to_frame("score")}, y.where(t1.notna()), t1


def test_the_good_strategy_gets_the_weight_and_the_future_none():
    said, y, t1 = strategies()
    by_ic = combination_weights(said, y, t1)
    assert by_ic["good"].iloc[-1] > 0.9 and by_ic.iloc[0].tolist() == [0.5, 0.5] and np.allclose(by_ic.sum(axis=1), 1)
    assert (combination_weights(said, y, t1, "equal") == 0.5).all(axis=None)
    steady = combination_weights(said, y, t1, "inverse_variance").iloc[-1]
    units = unit_scores(said)
    opinions = {name: units[[name]].set_axis(["score"], axis=1).assign(doubt=1.0) for name in units}
    se = trailing_ic(opinions, y, t1).xs("all", level="state").loc[DATES[-1], "se"]
    assert steady.sum() == pytest.approx(1) and steady["good"] / steady["none"] == pytest.approx(
        (se["none"] / se["good"]) ** 2
    )
    for how in ("ic", "inverse_variance"):
        whole, last = combination_weights(said, y, t1, how), DATES[70]
        here = y.index.get_level_values("date") <= last
        cut = {n: one[here] for n, one in said.items()}
        assert combination_weights(cut, y.where(t1 <= last)[here], t1.where(t1 <= last)[here], how).equals(whole[:last])


def test_strategies_of_other_symbols_are_combined_name_by_name():
    day = pd.to_datetime(["2020-01-02"])
    make = lambda names, s: pd.DataFrame(
        {"score": s}, pd.MultiIndex.from_product([day, names], names=["date", "symbol"])
    )
    two = {"a": make(["A", "B", "C"], [1.0, 2.0, 3.0]), "b": make(["C", "D"], [5.0, 9.0])}
    assert combine_scores(two)["score"].tolist() == [-0.5, 0.0, 0.0, 0.5]
    assert combine_scores(two, scale="z")["score"].tolist() == pytest.approx(
        [-(1.5**0.5) / 2, 0, 1.5**0.5 / 2 - 0.5, 0.5]
    )
    lone = unit_scores({"a": make(["A"], [3.0])})
    assert lone["a"].tolist() == [0.0]
    silent = two | {"b": make(["C", "D"], [np.nan, np.nan])}
    assert np.isnan(combine_scores(silent)["score"].iloc[3])


def test_what_cannot_be_combined_is_refused():
    said, y, t1 = strategies()
    with pytest.raises(ConfigError, match="how"):
        combination_weights(said, y, t1, "best")
    with pytest.raises(ConfigError, match="scale"):
        unit_scores(said, "raw")
    with pytest.raises(ConfigError, match="0 strategies"):
        unit_scores({})
    with pytest.raises(DataError, match="infinite"):
        unit_scores(said | {"none": said["none"].where(np.arange(15 * N)[:, None] != 3, np.inf)})
    with pytest.raises(PanelError, match="weight"):
        combine_scores(said, pd.DataFrame({"good": 1.0}, DATES))
    with pytest.raises(PanelError, match="lengthen y"):
        combine_scores(said, pd.DataFrame({"good": 1.0, "none": 0.0}, DATES[:-1]))
