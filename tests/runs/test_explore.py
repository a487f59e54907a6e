"Looking around: the figure of given settings, the part of the years that is asked for, and sliders that say a slip."

import builtins

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.runs.explore import explore_factor, explore_run, with_sliders
from quantlab.validation.scores import rank_ic

DATES, SYMBOLS = pd.bdate_range("2015-01-01", periods=300, name="date"), list("ABCDEFGHIJ")
INDEX = pd.MultiIndex.from_product([DATES, SYMBOLS], names=["date", "symbol"])
DRAWN = np.random.default_rng(3)
SCORE = pd.Series(DRAWN.normal(size=len(INDEX)), INDEX, name="score")
RETURNS = pd.DataFrame(DRAWN.normal(0.001, 0.01, (300, 2)), DATES, ["own", "all"])


def outcome(horizon):
    "Follow the score the more closely, the longer one waits."
    noise = pd.Series(np.random.default_rng(horizon).normal(size=len(INDEX)), INDEX)
    return (SCORE * horizon / 10 + noise) / 100


def test_the_figure_shows_what_the_settings_ask_for():
    near, far = explore_factor(SCORE, outcome, 1, groups=2), explore_factor(SCORE, outcome, 60, groups=5, span=10_000)
    assert [len(one.axes[0].patches) for one in (near, far)] == [2, 5]
    assert f"{rank_ic(SCORE, outcome(60)).mean():.3f} over 60" in far.axes[0].get_title(loc="left")
    heights = [bar.get_height() for bar in far.axes[0].patches]
    assert heights == sorted(heights) and heights[0] < 0 < heights[-1]
    [line, _] = far.axes[1].lines
    assert line.get_ydata()[-1] == pytest.approx(rank_ic(SCORE, outcome(60)).mean())  # a span of all dates


def test_only_the_years_that_are_asked_for_count():
    part = explore_factor(SCORE, outcome, 60, start="2015-06-01", end="2015-12-31", span=20)
    there = SCORE.loc["2015-06-01":"2015-12-31"]
    assert f"{rank_ic(there, outcome(60).loc[there.index]).mean():.3f} over" in part.axes[0].get_title(loc="left")
    spoiled = SCORE.copy()
    spoiled.loc["2016-01-01":] = 0.0
    again = explore_factor(spoiled, outcome, 60, start="2015-06-01", end="2015-12-31", span=20)
    assert again.axes[1].lines[0].get_ydata()[-1] == part.axes[1].lines[0].get_ydata()[-1]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"horizon": 0}, ConfigError, "horizon is 0"),
        ({"groups": 1}, ConfigError, "groups is 1"),
        ({"span": 0}, ConfigError, "span is 0"),
        ({"start": "soon"}, ConfigError, "write dates"),
        ({"start": "2030-01-01"}, DataError, "no date lies between"),
        ({"start": "2016-01-01", "end": "2015-01-01"}, DataError, "no date lies between"),
    ],
)
def test_odd_settings_are_refused_in_one_line(settings, error, said):
    with pytest.raises(error, match=said) as caught:
        explore_factor(SCORE, outcome, **settings)
    assert "\n" not in str(caught.value)


def test_nothing_known_is_no_figure():
    with pytest.raises(DataError, match="three names"):
        explore_factor(SCORE, lambda horizon: SCORE * np.nan)


def test_a_run_is_shown_from_memory_or_from_its_folder(tmp_path):
    RETURNS.to_parquet(tmp_path / "returns.parquet")
    figures = [explore_run(one, 60, end="2015-12-31") for one in (RETURNS, tmp_path, str(tmp_path))]
    ends = [one.axes[0].lines[0].get_ydata()[-1] for one in figures]
    assert ends == [pytest.approx((1 + RETURNS["own"].loc[:"2015-12-31"]).prod())] * 3
    moving = figures[0].axes[2].lines[1].get_ydata()  # the second account
    assert moving[-1] == pytest.approx((1 + RETURNS["all"].loc[:"2015-12-31"]).tail(60).prod() - 1)
    with pytest.raises(ConfigError, match="keeps no returns.parquet"):
        explore_run(tmp_path / "none")
    with pytest.raises(ConfigError, match="span is 1"):
        explore_run(RETURNS, 1)


def test_sliders_draw_again_and_say_a_slip(capsys):
    pytest.importorskip("ipywidgets")
    seen = []

    def draw(first, span, start):
        if start:
            raise ConfigError("start is no date")
        seen.append((first, span))

    made = with_sliders(draw, "fixed", span=(10, 50, 10), start="")
    made.update()
    made.children[0].value = 40
    assert seen[-1] == ("fixed", 40) and not made.children[0].continuous_update
    made.children[1].value = "soon"
    assert seen[-1] == ("fixed", 40) and made.children[0].value == 40


def test_without_the_library_a_line_says_what_to_do(monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name == "ipywidgets":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="sliders need ipywidgets"):
        with_sliders(explore_run, RETURNS, span=(10, 50))


def test_an_account_that_loses_everything_stays_at_nothing(recwarn):
    lost = RETURNS.copy()
    lost.iloc[100, 0] = -1.0
    growth, fall, moving = explore_run(lost, span=50).axes
    own, other = (line.get_ydata() for line in growth.lines)
    assert own[99] > 0 and (own[100:] == 0).all() and (other > 0).all()
    assert explore_run(lost).axes[0].get_title(loc="left").startswith("own: -100% from ")
    year = moving.lines[0].get_ydata()
    assert (year[100:150] == -1).all() and (year[150:] > -1).all() and np.isnan(year[:49]).all()
    lowest = min(path.vertices[:, 1].min() for path in fall.collections[0].get_paths())
    assert lowest == -1 and not [one for one in recwarn if one.category is RuntimeWarning]
