"""The head that learns what text foretold: from known outcomes only, equal to a slow reference, calibrated."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from quantlab.core.errors import ConfigError, DataError
from quantlab.signals.base import check_expert
from quantlab.signals.fusion import mixture_of_experts
from quantlab.signals.sentiment import SentimentExpert, demeaned_outcomes, head_scores, rise_probability


def world(dates=160, names=12, horizon=5, planted=0.3, seed=0, zone=None):
    "Text that carries a little of what comes, and outcomes that are known `horizon` dates later."
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2020-01-01", periods=dates, unit="us", tz=zone)
    index = pd.MultiIndex.from_product([days, [f"N{i:02d}" for i in range(names)]], names=["date", "symbol"])
    y = pd.Series(rng.normal(0, 0.02, len(index)), index)
    tone = planted * y / 0.02 + rng.normal(size=len(index))
    X = pd.DataFrame({"text_tone_5": tone, "text_posts_5": rng.gamma(2.0, size=len(index))})
    ends = pd.Series(np.repeat(np.r_[days[horizon:], [pd.NaT] * horizon], names), index)
    t1 = pd.to_datetime(ends, utc=zone is not None).astype(f"datetime64[us, {zone}]" if zone else "datetime64[us]")
    return X, y.where(t1.notna()), t1


def slow(X, y, t1, refit, least, penalty, min_names):
    "The same head by loops and scikit-learn, date by date."
    out, days = pd.Series(np.nan, X.index), X.index.unique("date")
    for first in range(0, len(days), refit):
        known = (t1 <= days[first]) & y.notna() & X.notna().all(axis=1)
        if known.sum() < least:
            continue
        seen, target = X[known], y[known].copy()
        for day, rows in target.groupby(level="date"):
            if len(rows) >= min_names:
                target.loc[day] = (rows - rows.mean()).to_numpy()
        middle, size = seen.mean(), seen.std(ddof=0)
        fit = Ridge(alpha=penalty * known.sum(), fit_intercept=False).fit((seen - middle) / size, target)
        for day in days[first : first + refit]:
            out.loc[day] = fit.predict(((X.loc[[day]] - middle) / size).to_numpy())
    return out


def test_the_head_is_the_slow_one():
    X, y, t1 = world(90, 11)
    ours = head_scores(X, y, t1, refit=10, least=100, penalty=0.3)
    theirs = slow(X, y, t1, 10, 100, 0.3, 10)
    assert ours.notna().sum() > 500 and np.allclose(ours, theirs, equal_nan=True, rtol=1e-9)


def test_chances_are_logistic_and_held_out():
    X, y, t1 = world(400, 12)
    scores = X["text_tone_5"] * 0.01
    ours = rise_probability(scores, y, t1, refit=50, least=100)
    days = X.index.unique("date")
    known = t1 <= days[350]
    size = scores[known].std(ddof=0)
    rose = demeaned_outcomes(y[known]) > 0
    fit = LogisticRegression(C=1e9, tol=1e-10).fit((scores[known] / size).to_frame().to_numpy(), rose)
    theirs = fit.predict_proba((scores.loc[days[350:]] / size).to_frame().to_numpy())[:, 1]
    assert np.allclose(ours.loc[days[350] :], theirs, atol=2e-3)
    later = pd.DataFrame({"p": ours, "rose": (demeaned_outcomes(y) > 0) * 1.0}).loc[days[200] : days[390]].dropna()
    assert abs(later["p"].mean() - later["rose"].mean()) < 0.03
    assert later.loc[later["p"] > 0.6, "rose"].mean() > 0.55 > 0.45 > later.loc[later["p"] < 0.4, "rose"].mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 89), st.sampled_from([3, 12]))
def test_a_cut_says_the_same(seed, last, names):
    X, y, t1 = world(90, names, seed=seed)
    close = X.index.unique("date")[last]
    expert = SentimentExpert(refit=7, least=40)
    cut = X.index.get_level_values("date") <= close
    short = expert(X[cut], y[cut].where(t1[cut] <= close), t1[cut].where(t1[cut] <= close))
    assert short.equals(expert(X, y, t1)[cut])


def test_a_mean_over_outcomes_that_are_not_known_yet_does_not_enter():
    "Outcomes of one date are known one after the other, as barriers are."
    X, y, t1 = world(80, 12)
    rng, days = np.random.default_rng(1), X.index.unique("date")
    ends = np.minimum(np.repeat(np.arange(80), 12) + rng.integers(1, 12, len(X)), 79)
    t1 = pd.Series(days[ends], X.index)
    for last in (30, 55, 70):
        moved = y.where(t1 <= days[last], y + 10.0)
        before = X.index.get_level_values("date") <= days[last]
        assert head_scores(X, moved, t1, 7, 40)[before].equals(head_scores(X, y, t1, 7, 40)[before])


@pytest.mark.parametrize("names, zone", [(12, None), (3, "UTC"), (1, None)])
def test_the_contract_holds(names, zone):
    X, y, t1 = world(150, names, zone=zone)
    assert (check_expert(SentimentExpert(refit=5, least=40), X, y, t1) == "pass").all()


def test_noise_is_worth_nothing_and_truth_something():
    found = {}
    for planted in (0.0, 0.3, -0.3):
        ics = []
        for seed in range(6):
            X, y, t1 = world(200, 20, planted=planted, seed=seed)
            both = pd.DataFrame({"s": head_scores(X, y, t1), "y": y}).dropna()
            ics.append(both.groupby(level="date").corr(method="spearman").iloc[0::2, 1].mean())
        found[planted] = np.mean(ics)
    assert abs(found[0.0]) < 0.04 and found[0.3] > 0.15 and found[-0.3] > 0.15  # the sign is learned


def test_silent_rows_stay_silent():
    X, y, t1 = world(120, 12)
    X.loc[X.index.get_level_values("symbol") == "N03", "text_tone_5"] = np.nan
    said = SentimentExpert(refit=5, least=50)(X, y, t1)
    assert said.xs("N03", level="symbol")["score"].isna().all() and said["score"].notna().sum() > 500
    mixed = mixture_of_experts(
        {"sentiment": said, "other": said.assign(score=said["score"].fillna(0.5), doubt=1.0)}, y, t1
    )
    assert mixed.xs("N03", level="symbol")["score"].notna().any()


@pytest.mark.parametrize(
    "spoil", [lambda X: X * np.nan, lambda X: X * 0.0 + 0.3, lambda X: X.iloc[:1], lambda X: X.iloc[:0]]
)
def test_degenerate_text_says_nothing(spoil):
    X, y, t1 = world(60, 12)
    X = spoil(X)
    said = SentimentExpert(refit=5, least=30)(X, y.reindex(X.index), t1.reindex(X.index))
    assert len(said) == len(X) and said["score"].isna().all() and said["doubt"].isna().all()


def test_refusals_say_what_to_do():
    X, y, t1 = world(40, 3)
    with pytest.raises(ConfigError, match="add text_tone"):
        SentimentExpert()(X.rename(columns=lambda c: c.removeprefix("text_")), y, t1)
    with pytest.raises(DataError, match="text_tone_5 of N00 on 2020-01-01 is infinite"):
        spoilt = X.copy()
        spoilt.iloc[0, 0] = -np.inf
        head_scores(spoilt, y, t1)
    with pytest.raises(ConfigError, match="at least 1 date"):
        rise_probability(X["text_tone_5"], y, t1, refit=-1)
