"""Policies: what holds of every one on random scores, feasible or not, and what was worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, PanelError
from quantlab.portfolio.long_short import LongShort
from quantlab.portfolio.policies import (
    BetaNeutral,
    Proportional,
    RankWeighted,
    ScoreWeighted,
    SectorNeutral,
    Softmax,
    past_betas,
    strengths,
    without_exposure,
)
from quantlab.portfolio.weights import TopK

DAYS, NAMES = 70, [f"S{i:02d}" for i in range(12)]
DATES = pd.bdate_range("2020-01-01", periods=DAYS, name="date").as_unit("us")
SECTORS = {name: "abc"[i % 3] for i, name in enumerate(NAMES)}
finite = st.floats(-5, 5, allow_nan=False, width=32)
cells = st.one_of(finite, st.just(np.nan), st.just(np.inf), st.just(-np.inf))
random_scores = arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=cells)


def predictions(values: np.ndarray) -> pd.DataFrame:
    "Scores whose last row is the last of DATES."
    index = pd.MultiIndex.from_product([DATES[-len(values) :], NAMES[: values.shape[1]]], names=["date", "symbol"])
    return pd.DataFrame({"score": values.ravel()}, index=index)


def market(seed: int = 0) -> pd.DataFrame:
    "Bars of all names, with betas from 0.2 to 2.4."
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.01, (DAYS, 1)) * np.linspace(0.2, 2.4, 12) + rng.normal(0, 0.003, (DAYS, 12))
    index = pd.MultiIndex.from_product([DATES, NAMES], names=["date", "symbol"])
    return pd.DataFrame({"close": 100 * np.exp(moves.cumsum(axis=0)).ravel()}, index=index)


BARS = market()


def each(k, buffer, cap, gross, weighting):
    "Every policy of the room that can be asked for these limits."
    common = {"top_k": k, "buffer": buffer, "rebalance": 1, "max_weight": cap, "gross": gross}
    yield ScoreWeighted(**common, weighting=weighting)
    yield ScoreWeighted(**common, weighting=weighting, long_short=True)
    yield BetaNeutral(**common, weighting=weighting, lookback=60)
    yield SectorNeutral(**common, weighting=weighting, sectors=SECTORS)


asked = (
    st.one_of(st.none(), st.integers(1, 8)),
    st.integers(0, 3),
    st.floats(0.02, 0.6),
    st.floats(0.1, 3.0),
    st.sampled_from(["proportional", "rank", "softmax"]),
)


@settings(max_examples=60)
@given(random_scores, *asked)
def test_every_book_keeps_its_limits_feasible_or_not(values, k, buffer, cap, gross, weighting):
    score = predictions(values)
    known = np.isfinite(score["score"])
    for policy in each(k, buffer, cap, gross, weighting):
        weights = policy(score, BARS)["weight"]
        assert not weights.isna().any() and np.isfinite(weights).all()
        assert (weights.abs() <= cap * (1 + 1e-9)).all(), policy
        assert (weights.abs().groupby("date").sum() <= gross * (1 + 1e-9)).all(), policy
        held = weights[weights != 0].index
        assert known[held].all(), "a name without a score is held"
        sides = (weights > 0).groupby("date").sum(), (weights < 0).groupby("date").sum()
        if k is not None:
            assert all((side <= k).all() for side in sides) or isinstance(policy, BetaNeutral | SectorNeutral)
        if policy.long_short:
            assert np.allclose(weights.groupby("date").sum(), 0, atol=1e-9 * max(gross, 1))
        else:
            assert (weights >= 0).all()


@settings(max_examples=40)
@given(random_scores, st.integers(1, 4), st.floats(0.05, 0.6))
def test_neutral_books_have_no_exposure(values, k, cap):
    score = predictions(values)
    by_sector = SectorNeutral(top_k=None, rebalance=1, max_weight=cap, sectors=SECTORS)(score)["weight"]
    sector = by_sector.index.get_level_values("symbol").map(SECTORS)
    assert np.allclose(by_sector.groupby(["date", sector]).sum(), 0, atol=1e-9)
    by_beta = BetaNeutral(top_k=max(k, 3), rebalance=1, lookback=60)(score, BARS)["weight"]
    moves = BARS["close"].unstack().pct_change()
    for date, book in by_beta.groupby("date"):
        past = moves.loc[:date].iloc[-60:]
        betas = pd.Series(past_betas(past.to_numpy()), past.columns)
        assert abs((book.droplevel("date") * betas).sum()) < 1e-9


@settings(max_examples=40)
@given(
    arrays(float, (2, 8), elements=finite, unique=True), st.permutations(range(8)), st.floats(1e-3, 1e3), *asked[:1],
    asked[4],
)  # fmt: skip
def test_names_may_be_shuffled_and_scores_rescaled(values, order, scale, k, weighting):
    score = predictions(values)
    symbols = np.array(NAMES[:8])
    renamed = dict(zip(symbols, symbols[list(order)], strict=True))
    level = score.index.get_level_values("symbol").map(renamed)
    shuffled = score.set_axis(pd.MultiIndex.from_arrays([score.index.get_level_values("date"), level])).sort_index()
    shuffled.index.names = ["date", "symbol"]
    for policy in (
        ScoreWeighted(k, rebalance=1, weighting=weighting),
        ScoreWeighted(k, rebalance=1, weighting=weighting, long_short=True),
    ):
        book = policy(score)["weight"]
        again = policy(shuffled)["weight"]
        for (date, symbol), weight in book.items():
            assert again.get((date, renamed[symbol]), 0.0) == pytest.approx(weight, abs=1e-7)
        scaled = policy(score * scale)["weight"]
        assert np.allclose(scaled.sort_index(), book.sort_index(), atol=1e-6)


def test_strengths_by_hand():
    three = np.array([3.0, 1.0, -1.0, np.nan])
    assert strengths(three) == pytest.approx([0.75, 0.25, 0, 0])
    assert strengths(three, centre=-1.0) == pytest.approx([4 / 6, 2 / 6, 0, 0])
    assert strengths(three, "rank") == pytest.approx([1 / 2, 1 / 3, 1 / 6, 0])
    spread = np.std([3.0, 1.0, -1.0])
    soft = np.exp(np.array([3.0, 1.0, -1.0]) / spread / 2)
    assert strengths(three, "softmax", temperature=2.0)[:3] == pytest.approx(soft / soft.sum())


@pytest.mark.parametrize("weighting", ["proportional", "rank", "softmax"])
def test_degenerate_scores_have_a_defined_book(weighting):
    assert strengths(np.array([]), weighting).shape == (0,)
    assert strengths(np.full(3, np.nan), weighting).tolist() == [0, 0, 0]
    assert strengths(np.full(4, 2.0), weighting) == pytest.approx([0.25] * 4)  # no differences: all alike
    assert strengths(np.array([1e-300, 3e-300]), weighting).sum() == pytest.approx(1)
    assert strengths(np.array([1e300, 3e300]), weighting).sum() == pytest.approx(1)
    one = ScoreWeighted(rebalance=1, weighting=weighting, max_weight=0.5)(predictions(np.ones((1, 1))))
    assert one["weight"].tolist() == [0.5]
    two_sides = ScoreWeighted(rebalance=1, weighting=weighting, long_short=True)
    assert two_sides(predictions(np.ones((2, 5)))).empty, "no best and no worst: nothing to hold, nothing to sell"
    nothing = ScoreWeighted(rebalance=1, weighting=weighting)(predictions(np.array([[1.0, 2.0], [np.nan, np.nan]])))
    assert nothing.loc[DATES[-1], "weight"].tolist() == [0.0, 0.0], "an evening without a score sells the book"


def test_the_buffer_keeps_what_is_held_on_either_side():
    score = predictions(np.array([[4.0, 3.0, 2.0, 1.0, 0.5, 0.0]]))
    policy = ScoreWeighted(top_k=1, buffer=1, rebalance=1, weighting="rank", long_short=True)
    book = policy(score, held=pd.Series({"S01": 0.4, "S04": -0.4}))["weight"].droplevel("date")
    assert book.to_dict() == {"S01": 0.25, "S04": -0.25}
    assert policy(score)["weight"].droplevel("date").to_dict() == {"S00": 0.25, "S05": -0.25}


def test_each_side_is_capped_at_half_of_the_gross():
    score = predictions(np.array([[4.0, 3.0, 2.0, 0.0, -1.0, -1.0, -1.0]]))
    policy = ScoreWeighted(rebalance=1, long_short=True, gross=1.0, max_weight=0.2)
    book = policy(score)["weight"].droplevel("date")
    longs = np.array([0.2, 0.18, 0.12])  # 4 : 3 : 2 of a half is 0.22, 0.17, 0.11; the first is cut, the others fill up
    assert book[book > 0].to_numpy() == pytest.approx(longs) and book[book < 0].to_numpy() == pytest.approx(
        [-1 / 6] * 3
    )


def test_the_named_ones_are_the_settings():
    score = predictions(np.random.default_rng(1).normal(size=(3, 12)))
    for named, weighting in ((Proportional, "proportional"), (RankWeighted, "rank"), (Softmax, "softmax")):
        assert named(top_k=4, rebalance=1)(score).equals(ScoreWeighted(4, rebalance=1, weighting=weighting)(score))
    best = RankWeighted(top_k=4, rebalance=1, max_weight=1.0)(score)
    assert np.allclose(best, TopK(4, weighting="rank", rebalance=1)(score))
    both = RankWeighted(top_k=4, rebalance=1, max_weight=1.0, long_short=True)(score)["weight"]
    other = LongShort(4, weighting="rank", rebalance=1)(score)["weight"]
    assert np.allclose(both, other / 2)  # a leg of LongShort is a whole book


def test_betas_by_hand_and_of_the_past():
    m = np.tile([0.01, -0.01, 0.02, -0.02], 20)
    returns = np.column_stack([2 * m, np.zeros(80), -m + 0.001])
    assert past_betas(returns, m) == pytest.approx([2, 0, -1])
    assert np.isnan(past_betas(returns[:59], m[:59])).all(), "59 returns are too few"
    assert np.isnan(past_betas(returns, np.full(80, 0.01))).all(), "a market that does not move has no slope"
    returns[:30, 0] = np.nan
    assert np.isnan(past_betas(returns, m)[0]) and past_betas(returns, m, 50)[0] == pytest.approx(2)
    assert past_betas(np.empty((0, 3))).shape == (3,)
    score = predictions(np.random.default_rng(1).normal(size=(6, 12))).join(BARS)
    verdict = audit(lambda p: BetaNeutral(rebalance=2, lookback=60)(p[["score"]], BARS.loc[: p.index[-1][0]]), score)
    assert verdict.status == "PASS"


def test_betas_that_read_the_future_would_show():
    "The same book from bars cut at the decision: later bars do not matter."
    score = predictions(np.random.default_rng(1).normal(size=(6, 12)))
    first = score.index[0][0]
    policy = BetaNeutral(rebalance=6, lookback=60)
    later = BARS.copy()
    later.loc[first + pd.Timedelta("1D") :, "close"] *= np.random.default_rng(2).uniform(0.5, 2, (5 * 12))
    expected = policy(score, BARS)
    assert policy(score, later).equals(expected) and len(expected)


def test_neutralise_by_hand():
    ones = np.ones((2, 1))
    assert without_exposure(np.array([0.8, 0.2]), ones) == pytest.approx([0.5, -0.5])
    assert without_exposure(np.array([0.8, 0.2]), ones, gross=2.0, cap=0.3) == pytest.approx([0.3, -0.3])
    assert without_exposure(np.array([0.5, 0.5]), ones).tolist() == [0, 0]
    three = without_exposure(np.array([0.6, 0.3, 0.1]), np.ones((3, 1)), cap=0.25)
    assert three == pytest.approx([0.25, -0.03125, -0.21875]), "scaled as a whole: a name clipped alone would tilt it"
    assert without_exposure(np.array([0.8, 0.2, 0.5]), np.array([[1.0], [1.0], [np.nan]])) == pytest.approx(
        [0.5, -0.5, 0]
    )
    assert without_exposure(np.zeros(2), ones).tolist() == [0, 0] and without_exposure(
        np.zeros(0), np.ones((0, 1))
    ).shape == (0,)
    twice = np.column_stack([np.ones(4), 1e9 * np.ones(4)])  # the same exposure twice, on another scale
    assert without_exposure(np.array([0.4, 0.3, 0.2, 0.1]), twice).sum() == pytest.approx(0)
    with pytest.raises(PanelError, match="one row a name"):
        without_exposure(np.zeros(3), ones)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0}, {"top_k": 2.5}, {"buffer": -1}, {"rebalance": 0}, {"weighting": "best"}, {"gross": 0.0},
        {"gross": np.inf}, {"max_weight": -0.1}, {"temperature": 0.0}, {"temperature": np.nan}, {"gross": "1"},
        {"max_weight": None}, {"temperature": True}, {"long_short": "no"}, {"long_short": 1},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"ScoreWeighted: {next(iter(wrong))}="):
        ScoreWeighted(**wrong)


@pytest.mark.parametrize("wrong", [0, -3, 19, 60.5, None])
def test_a_beta_needs_sessions(wrong):
    with pytest.raises(ConfigError, match="BetaNeutral: lookback="):
        BetaNeutral(lookback=wrong)


@settings(max_examples=40)
@given(random_scores, *asked[:2], st.floats(0.02, 0.6), st.sampled_from(["equal", "rank"]))
def test_the_policies_of_places_keep_their_limits_too(values, k, buffer, cap, weighting):
    "TopK and LongShort: caps, gross, known names only; two legs that overlap are one clear error."
    score = predictions(values)
    known = np.isfinite(score["score"])
    best = TopK(k or 5, buffer, weighting, max_weight=cap, rebalance=1)(score)["weight"]
    legs = LongShort(k or 5, buffer, weighting, max_weight=cap, rebalance=1)
    try:
        both = legs(score)["weight"]
    except ConfigError as error:
        assert "two legs" in str(error)
        both = best * 0.0
    for weights, most in ((best, 1.0), (both, 2.0)):
        assert np.isfinite(weights).all() and (weights.abs() <= cap * (1 + 1e-9)).all()
        assert (weights.abs().groupby("date").sum() <= most + 1e-9).all()
        assert known[weights[weights != 0].index].all()
    assert (best >= 0).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighting", ["proportional", "rank", "softmax"])
def test_neutral_books_follow_their_names_and_no_scale(seed, weighting):
    rng = np.random.default_rng(seed)
    score, order = predictions(rng.normal(size=(1, 12))), rng.permutation(12)
    renamed = dict(zip(NAMES, np.array(NAMES)[order], strict=True))
    under_new_names = lambda panel: panel.rename(index=renamed, level="symbol").sort_index()
    sectors = {renamed[name]: sector for name, sector in SECTORS.items()}
    terms = {"rebalance": 1, "weighting": weighting, "max_weight": 0.3}
    for policy, again in (
        (BetaNeutral(**terms, lookback=60), BetaNeutral(**terms, lookback=60)),
        (SectorNeutral(**terms, sectors=SECTORS), SectorNeutral(**terms, sectors=sectors)),
    ):
        book = policy(score, BARS)["weight"].droplevel("date")
        other = again(under_new_names(score), under_new_names(BARS))["weight"].droplevel("date")
        assert len(book) > 3 and other.to_dict() == pytest.approx(book.rename(index=renamed).to_dict(), abs=1e-12)
        scaled = policy(score * 37.5, BARS)["weight"].droplevel("date")
        assert scaled.to_dict() == pytest.approx(book.to_dict(), abs=1e-12)


def test_what_cannot_be_neutral_is_refused():
    score = predictions(np.ones((1, 3)))
    with pytest.raises(ConfigError, match="long_short=True"):
        BetaNeutral(long_short=False)
    with pytest.raises(ConfigError, match="past_bars"):
        BetaNeutral()(score)
    with pytest.raises(ConfigError, match="SPY"):
        BetaNeutral(market="SPY")(score, BARS)
    with pytest.raises(ConfigError, match="no sector of S00"):
        SectorNeutral()(score)
    with pytest.raises(ConfigError, match="give a sector by symbol"):
        SectorNeutral(sectors=["a", "b"])
    with pytest.raises(ConfigError, match="weighting 'x'"):
        strengths(np.ones(3), "x")
    other = score.set_axis(score.index.set_levels(score.index.levels[0].tz_localize("UTC"), level="date"))
    with pytest.raises(PanelError, match="zone"):
        BetaNeutral()(other, BARS)


def test_a_market_of_its_own_names_it():
    score = predictions(np.random.default_rng(3).normal(size=(1, 11)))
    book = BetaNeutral(rebalance=1, lookback=60, market="S11")(score, BARS)["weight"].droplevel("date")
    moves = BARS["close"].unstack().pct_change().iloc[-60:]
    betas = pd.Series(past_betas(moves.to_numpy(), moves["S11"].to_numpy()), moves.columns)
    assert abs((book * betas).sum()) < 1e-12 and (book != 0).sum() > 2


def test_a_gate_scales_each_decision_and_must_cover_it():
    score = predictions(np.random.default_rng(4).normal(size=(3, 12)))
    gate = pd.DataFrame({"gate": [1.0, 0.5, 0.0]}, index=DATES[-3:])
    for policy in (RankWeighted(rebalance=1), RankWeighted(rebalance=1, long_short=True)):
        gross = policy(score, gate=gate)["weight"].abs().groupby("date").sum()
        assert gross.tolist() == pytest.approx([1.0, 0.5, 0.0])
    with pytest.raises(PanelError, match="gate has no value"):
        RankWeighted(rebalance=1)(score, gate=gate.iloc[:2])
