"Track records against a plain telling, outcome by outcome; nothing moves with what was not known."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.regime.base import Filtered
from quantlab.signals.base import one_scale
from quantlab.signals.record import known_outcomes, shrink_ic, trailing_ic

N = 40


def world(seed=0, names=12, ragged=False):
    "Draw opinions of two experts, outcomes, when each was known (ragged: each row at its own time) and weather."
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=N, name="date").as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(names)]], names=["date", "symbol"])
    y = pd.Series(rng.normal(size=N * names), index)
    later = np.repeat(np.arange(N), names) + (rng.integers(0, 9, N * names) if ragged else 3)
    t1 = pd.Series(
        pd.DatetimeIndex(np.where(later < N, dates.to_numpy()[np.minimum(later, N - 1)], np.datetime64("NaT"))), index
    )
    gaps = rng.random(N * names) < 0.1
    scores = {name: pd.Series(rng.normal(size=N * names), index) for name in ("a", "b")}
    scores["b"] = scores["b"].mask(gaps)
    said = {name: pd.DataFrame({"score": s, "doubt": 1.0}).where(s.notna()) for name, s in scores.items()}
    storm = rng.random(N)
    return said, y.where(t1.notna()), t1, Filtered(pd.DataFrame({"calm": 1 - storm, "turbulent": storm}, dates))


def plainly(said, y, t1, table, t, lookback, expert, state):
    "Tell one IC with loops: Spearman of what is known at a close, weighed by the weather of each decision."
    dates = y.index.unique("date")
    rows, weight, span = [], [], []
    for d in range(max(0, t + 1 - lookback), t + 1):
        day = y.xs(dates[d]), t1.xs(dates[d]), said[expert]["score"].xs(dates[d])
        known = day[1] <= dates[t]
        use = known & day[2].notna()
        if not use.any():
            continue
        rows.append(spearmanr(day[2][use], day[0][use]).statistic)
        weight.append(1.0 if state == "all" else table[state].iloc[d])
        span.append(max(dates.get_loc(day[1][known].max()) - d, 1))
    w, ic = np.array(weight), np.array(rows)
    n = w.sum() ** 2 / (w**2).sum() / ((w * span).sum() / w.sum())
    mean = (w * ic).sum() / w.sum()
    return mean, np.sqrt(((w * ic**2).sum() / w.sum() - mean**2) / (n - 1)), n


@pytest.mark.parametrize("t", [25, 39])
@pytest.mark.parametrize("state", ["calm", "turbulent", "all"])
@pytest.mark.parametrize("expert", ["a", "b"])
def test_a_record_is_what_a_plain_telling_gives(t, state, expert):
    said, y, t1, weather = world()
    record = trailing_ic(said, y, t1, weather, lookback=20, min_names=5)
    told = record.loc[(y.index.unique("date")[t], expert, state)]
    assert told.tolist() == pytest.approx(plainly(said, y, t1, weather.probabilities, t, 20, expert, state))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("names", [1, 12])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, N - 2))
def test_nothing_moves_with_what_was_not_known(ragged, names, seed, cut):
    said, y, t1, weather = world(seed, names, ragged)
    last = y.index.unique("date")[cut]
    whole = trailing_ic(said, y, t1, weather)
    here = y.index.get_level_values("date") <= last
    short = trailing_ic(
        {name: one[here] for name, one in said.items()}, y.where(t1 <= last)[here], t1.where(t1 <= last)[here],
        Filtered(weather.probabilities[:last]),
    )  # fmt: skip
    assert short.equals(whole[:last])
    false = trailing_ic(said, y.where(~(t1 > last), 7 - y), t1, weather)
    assert false[:last].equals(whole[:last])


def test_an_outcome_counts_from_its_close_on_and_not_before():
    said, y, t1, weather = world()
    close = t1.iloc[0]
    day = y.index.unique("date").get_loc(close)
    moved = y.copy()
    moved.iloc[:12] = -moved.iloc[:12]
    before, after = (trailing_ic(said, v, t1, weather) for v in (y, moved))
    same = (before.fillna(9) == after.fillna(9)).all(axis=1).groupby(level="date").all()
    assert same.iloc[:day].all() and before["n"].xs(("a", "all"), level=("expert", "state")).gt(0).iloc[day]
    found = list(known_outcomes(y, t1))
    assert found[0].at == day and (found[0].row, len(found[0].y)) == (0, 12)


def test_outcomes_told_bit_by_bit_are_told_again_with_all_that_is_known():
    _, y, t1, _ = world(3, ragged=True)
    seen = {}
    for event in known_outcomes(y, t1):
        seen.setdefault(event.row, []).append((event.at, len(event.y), event.fresh.sum()))
    one = seen[5]
    assert [n for _, n, _ in one] == np.cumsum([new for *_, new in one]).tolist() and one == sorted(one)
    assert sum(new for days in seen.values() for *_, new in days) == y.notna().sum()


def test_what_cannot_be_a_record_is_refused():
    said, y, t1, weather = world()
    with pytest.raises(ConfigError, match="no expert"):
        trailing_ic({}, y, t1)
    with pytest.raises(ConfigError, match="lookback"):
        trailing_ic(said, y, t1, lookback=0)
    with pytest.raises(DataError, match="before its date"):
        trailing_ic(said, y, t1 - pd.Timedelta("30D"))
    with pytest.raises(DataError, match="infinite"):
        trailing_ic(said, y.where(np.arange(len(y)) > 0, np.inf), t1)
    with pytest.raises(PanelError, match="rows"):
        trailing_ic(said, y, t1.iloc[1:])
    with pytest.raises(PanelError, match="zone"):
        aware = y.index.set_levels(y.index.levels[0].tz_localize("UTC"), level="date")
        trailing_ic(said, y.set_axis(aware), t1.dt.tz_localize("UTC").set_axis(aware))


def test_nothing_known_one_row_and_constant_scores_are_no_record():
    said, y, t1, weather = world()
    nothing = trailing_ic(said, y * np.nan, t1.where(t1.isna()), weather)
    assert nothing["ic"].isna().all() and nothing["n"].eq(0).all()
    assert len(trailing_ic({"a": said["a"].iloc[:1]}, y.iloc[:1], t1.iloc[:1])) == 1
    flat = {"a": said["a"].assign(score=1.0)}
    assert trailing_ic(flat, y, t1, weather)["ic"].isna().all()
    alike = trailing_ic(said, y * 0 + 0.01, t1, weather)
    assert alike["ic"].isna().all()


def test_noise_keeps_little_and_skill_most():
    assert shrink_ic(
        np.array([0.03, 0.01, -0.05, -0.01, np.nan]), np.array([0.01, 0.02, 0.01, 0.02, 0.0])
    ).tolist() == (pytest.approx([0.03 * 8 / 9, 0, 0, 0, 0]))
    series = shrink_ic(pd.Series([0.03, -0.01, np.nan]), pd.Series([0.01, 0.02, np.nan]))
    assert series.tolist() == pytest.approx([0.03 * 8 / 9, 0.0, 0.0])
    assert shrink_ic(np.array([0.03]), np.array([0.01]), hurdle=3.0).tolist() == [0.0]


def test_scores_are_scaled_before_they_are_compared():
    said, y, t1, weather = world()
    louder = {name: one * 50 for name, one in said.items()}
    assert trailing_ic(louder, y, t1).round(9).equals(trailing_ic(said, y, t1).round(9))
    assert one_scale(said["a"])["score"].std() == pytest.approx(1, abs=0.05)
