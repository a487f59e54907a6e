"Opinions: what is refused, one scale by hand and from the past only, and a suite that finds who looks ahead."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import DataError, LeakError, PanelError, QuantlabError
from quantlab.regime.base import Filtered, Smoothed
from quantlab.signals.base import check_expert, check_opinions, one_scale, root_mean_square, state_table
from quantlab.signals.experts import ModelExpert, TechnicalExpert, error_size, stated_doubt

DATES = pd.bdate_range("2020-01-01", periods=60, name="date").as_unit("us")


def panel(values, dates=DATES, tz=None):
    "Make a panel of one column from dates x symbols."
    names = [f"S{i:02d}" for i in range(values.shape[1])]
    index = pd.MultiIndex.from_product([dates.tz_localize(tz), names], names=["date", "symbol"])
    return pd.Series(values.ravel(), index)


def outcomes(seed=0, names=12, tz=None):
    "Draw features and outcomes known five sessions later."
    rng = np.random.default_rng(seed)
    X = panel(rng.normal(size=(60, names)), tz=tz).to_frame("mom_252_21")
    y = panel(rng.normal(size=(60, names)), tz=tz)
    told = np.append(DATES.tz_localize(tz)[5:], [pd.NaT] * 5)
    t1 = pd.Series(np.repeat(pd.DatetimeIndex(told), names), X.index)
    return X, y.where(t1.notna()), t1


def opinions(values, doubt=1.0, **more):
    score = panel(values, **more)
    return pd.DataFrame({"score": score, "doubt": doubt}).where(score.notna())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("score", np.inf, "infinite"), ("doubt", -np.inf, "infinite"), ("doubt", -0.1, "negative"),
        ("doubt", np.nan, "without a doubt"), ("score", np.nan, "without a doubt"),
    ],
)  # fmt: skip
def test_an_opinion_that_nobody_could_weigh_is_refused_with_its_place(column, value, word):
    bad = opinions(np.ones((60, 3)))
    bad.loc[(DATES[7], "S01"), column] = value
    with pytest.raises(DataError, match=word) as error:
        check_opinions(bad)
    assert f"S01 on {DATES[7]:%Y-%m-%d}" in str(error.value)


def test_silence_is_an_opinion_and_a_missing_column_is_not():
    assert check_opinions(opinions(np.full((60, 3), np.nan)))["score"].isna().all()
    with pytest.raises(PanelError, match="doubt"):
        check_opinions(opinions(np.ones((60, 3)))[["score"]])


# ---------------------------------------------------------------- one scale


def test_one_scale_by_hand():
    z = one_scale(opinions(np.array([[1.0, 2.0, 3.0]]), dates=DATES[:1]), min_names=3)
    assert z["score"].tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5]) and z["doubt"].iloc[0] == pytest.approx(
        1.5**0.5
    )
    few = one_scale(opinions(np.array([[3.0], [4.0]]), dates=DATES[:2]))
    assert few["score"].tolist() == pytest.approx([1.0, 4.0 / 12.5**0.5])
    short = one_scale(opinions(np.array([[3.0], [4.0]]), dates=DATES[:2]), lookback=1)
    assert short["score"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("values", [np.full((60, 12), 5.0), np.full((60, 12), 0.1 + 0.2), np.zeros((60, 1))])
def test_scores_that_are_all_alike_order_nothing(values):
    assert one_scale(opinions(values)).isna().all(axis=None)


@pytest.mark.parametrize("names", [1, 12])
def test_one_scale_knows_the_past_only_and_takes_gaps(names):
    rng = np.random.default_rng(1)
    values = np.where(rng.random((60, names)) < 0.1, np.nan, rng.normal(size=(60, names)))
    whole = one_scale(opinions(values))
    for cut in DATES[[0, 1, 17, 58]]:
        assert one_scale(opinions(values)[:cut]).equals(whole[:cut])
    changed = values.copy()
    changed[40:] *= -9
    assert one_scale(opinions(changed))[: DATES[39]].equals(whole[: DATES[39]])
    assert (whole["score"].isna() == panel(values).isna()).all()


@pytest.mark.parametrize("names", [3, 41])
def test_a_name_that_comes_later_leaves_every_digit_alone(names):
    rng = np.random.default_rng(names)
    values, y = rng.normal(size=(60, names)), rng.normal(size=(60, names))
    late = values.copy()
    late[:, names // 2] = np.nan
    told = pd.Series(np.repeat(pd.DatetimeIndex(np.append(DATES[5:], [pd.NaT] * 5)), names), panel(values).index)
    keep = ~panel(late).isna().to_numpy()
    assert one_scale(opinions(late)[keep], 3).equals(one_scale(opinions(late), 3)[keep])
    said, outcome = opinions(late)["score"].to_frame("f"), panel(y).where(told.notna().to_numpy() & keep)
    both = [TechnicalExpert("f", min_names=3)(said[k], outcome[k], told[k]) for k in (slice(None), keep)]
    assert both[1].equals(both[0][keep])


def test_empty_and_one_row():
    assert one_scale(opinions(np.ones((60, 3))).iloc[:0]).empty
    assert one_scale(opinions(np.ones((60, 3))).iloc[:1])["score"].tolist() == [1.0]
    assert len(root_mean_square(np.empty(0), np.empty(0, dtype=int), 5)) == 0


# ---------------------------------------------------------------- the weather


def weather(**more):
    table = pd.DataFrame({"calm": 0.75, "turbulent": 0.25}, DATES[10:])
    return Filtered(table, **more)


def test_a_date_without_weather_is_anybodys_guess():
    table = state_table(weather(), DATES)
    assert table.iloc[0].tolist() == [0.5, 0.5] and table.iloc[10].tolist() == [0.75, 0.25]
    assert state_table(None, DATES)["all"].eq(1).all()


def test_weather_that_read_later_rows_is_refused():
    with pytest.raises(LeakError, match="smoothed"):
        state_table(Smoothed(weather().probabilities), DATES)
    with pytest.raises(LeakError, match="later dates"):
        state_table(weather(trained_to=pd.Series(DATES[-1], DATES[10:])), DATES)
    with pytest.raises(PanelError, match="Filtered"):
        state_table(weather().probabilities, DATES)
    with pytest.raises(PanelError, match="zone"):
        state_table(weather(), DATES.tz_localize("UTC"))


# ---------------------------------------------------------------- experts


@pytest.mark.parametrize("names", [1, 12])
@pytest.mark.parametrize("tz", [None, "UTC"])
def test_every_expert_keeps_the_contract(names, tz):
    X, y, t1 = outcomes(names=names, tz=tz)
    assert (check_expert(TechnicalExpert("mom_252_21"), X, y, t1) == "pass").all()
    said = X.set_axis(["score"], axis=1)
    for predictions in (said, said.assign(doubt=0.3), said.assign(q10=-9.0, q90=9.0)):
        assert (check_expert(ModelExpert(), predictions, y, t1) == "pass").all()


def early(X, y=None, t1=None):
    "Trust outcomes a session before they are known."
    good = TechnicalExpert("mom_252_21")
    if y is None:
        return good(X)
    dates = X.index.unique("date")
    before = dates[np.maximum(dates.get_indexer(t1.dropna()) - 1, 0)]
    return good(X, y, t1.where(t1.isna(), pd.Series(before, t1.dropna().index).reindex(t1.index)))


def test_an_expert_that_knows_an_outcome_a_session_early_is_found():
    with pytest.raises(LeakError):
        check_expert(early, *outcomes())


def test_the_suite_names_the_rule_that_is_broken():
    deaf = lambda X, y=None, t1=None: TechnicalExpert("mom_252_21")(X.replace(np.inf, 0.0))
    with pytest.raises(QuantlabError, match="refuses infinite"):
        check_expert(deaf, *outcomes())


def test_who_is_right_doubts_less_and_who_is_sure_and_wrong_learns_to_doubt():
    X, y, t1 = outcomes(names=30)
    right, wrong = (TechnicalExpert("f")((s * y.fillna(X["mom_252_21"])).to_frame("f"), y, t1) for s in (1, -1))
    last = lambda said: said["doubt"].loc[DATES[-1]].mean()
    assert last(right) < 0.8 < 2**0.5 < last(wrong)
    sure = X.set_axis(["score"], axis=1).assign(doubt=0.01)
    assert last(ModelExpert()(sure, y, t1)) == pytest.approx(2**0.5, rel=0.15)
    honest = X.set_axis(["score"], axis=1).assign(doubt=5.0)
    assert last(ModelExpert()(honest, y, t1)) == pytest.approx(last(ModelExpert()(sure, y, t1)))


def test_a_model_that_doubts_one_row_more_still_does():
    X, y, t1 = outcomes(names=30)
    doubt = panel(np.tile(np.where(np.arange(30) < 15, 1.0, 3.0), (60, 1)))
    said = ModelExpert()(X.set_axis(["score"], axis=1).assign(doubt=doubt), y, t1)["doubt"]
    ratio = said.groupby(level="date").max() / said.groupby(level="date").min()
    assert np.allclose(ratio, 3.0)


def test_quantiles_that_cross_and_columns_that_are_not_there():
    X, y, t1 = outcomes()
    with pytest.raises(DataError, match="lies below"):
        stated_doubt(X.assign(q10=1.0, q90=0.0))
    with pytest.raises(QuantlabError, match="have no rev_5"):
        TechnicalExpert("rev_5")(X)
    with pytest.raises(QuantlabError, match="sign"):
        TechnicalExpert("mom_252_21", 2)(X)
    with pytest.raises(PanelError, match="without t1"):
        ModelExpert()(X.set_axis(["score"], axis=1).assign(doubt=1.0), y)


def test_each_outcome_is_an_error_once_though_its_date_is_told_again():
    rng = np.random.default_rng(5)
    later = np.repeat(np.arange(60), 12) + rng.integers(1, 9, 720)
    dates = pd.DatetimeIndex(np.where(later < 60, DATES.to_numpy()[np.minimum(later, 59)], np.datetime64("NaT")))
    zero = panel(np.zeros((60, 12)))
    t1 = pd.Series(dates, zero.index)
    y = zero.where(t1.notna())  # all alike: no error, and what is left tells how many were counted
    size = error_size(zero, y, t1, half_life=1e12, own=False)
    assert size.iloc[-1] ** 2 == pytest.approx(2 * 63 / (y.notna().sum() + 63))


def test_the_doubt_of_quantiles_is_that_of_a_normal():
    said = panel(np.zeros((60, 3))).to_frame("score").assign(q10=-1.2816, q50=0.0, q90=1.2816)
    assert np.allclose(stated_doubt(said), 1.0, atol=1e-4)
    assert np.allclose(stated_doubt(said.drop(columns="q90").assign(q30=-0.5244, q70=0.5244)), 1.0, atol=1e-4)
