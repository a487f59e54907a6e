"""Weights: what holds for every panel of scores, and what was worked out by hand."""

from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, PanelError
from quantlab.core.panel import to_wide
from quantlab.portfolio.weights import TopK, cap_weights, select, top_k_many, vol_scale

finite = st.floats(-5, 5, allow_nan=False)


def predictions(values: np.ndarray) -> pd.DataFrame:
    dates, symbols = pd.bdate_range("2020-01-01", periods=len(values)), [f"S{i:02d}" for i in range(values.shape[1])]
    index = pd.MultiIndex.from_product([dates.as_unit("us"), symbols], names=["date", "symbol"])
    return pd.DataFrame({"score": values.ravel()}, index=index)


def test_rank_weights_by_hand():
    weights = TopK(3, weighting="rank", rebalance=1)(predictions(np.array([[0.1, 0.4, 0.3, 0.2]])))["weight"]
    assert weights.droplevel("date").to_dict() == pytest.approx({"S01": 3 / 6, "S02": 2 / 6, "S03": 1 / 6})


def test_a_held_name_stays_within_the_buffer_and_leaves_beyond_it():
    first, within, beyond = [4, 3, 2, 1, 0], [3, 2, 4, 1, 0], [4, 1, 3, 2, 0]
    score = predictions(np.array([first, within, beyond], dtype=float))
    held = [set(w.index.get_level_values("symbol")) for _, w in TopK(2, buffer=1, rebalance=1)(score).groupby("date")]
    assert held == [{"S00", "S01"}, {"S00", "S01"}, {"S00", "S02"}]


def test_water_filling_by_hand():
    assert cap_weights(np.array([0.6, 0.3, 0.1]), 0.4) == pytest.approx([0.4, 0.4, 0.2])
    assert cap_weights(np.array([0.6, 0.4]), 0.2) == pytest.approx([0.2, 0.2])
    with pytest.raises(PanelError, match="separately"):
        cap_weights(np.array([0.5, -0.5]), 0.4)


@given(arrays(float, st.integers(1, 30), elements=st.floats(0, 1)), st.floats(0.01, 1))
def test_a_cap_is_kept_and_no_more_is_lost_than_it_must(raw, cap):
    weights = raw / raw.sum() if raw.sum() > 1e-6 else np.zeros(len(raw))
    capped = cap_weights(weights, cap)
    assert (capped >= 0).all() and (capped <= cap * (1 + 1e-9)).all()
    assert capped.sum() == pytest.approx(min(weights.sum(), cap * (weights > 0).sum()), abs=1e-9)
    order = np.argsort(weights)
    assert (np.diff(capped[order]) >= -1e-12).all(), "a cap keeps the order"


@settings(max_examples=60)
@given(
    arrays(float, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=st.one_of(finite, st.just(np.nan))),
    st.integers(1, 6),
    st.integers(0, 4),
    st.sampled_from(["equal", "rank"]),
    st.floats(0.05, 1),
)
def test_every_book_is_long_only_capped_and_affordable(values, k, buffer, weighting, cap):
    score = predictions(values)
    weights = TopK(k, buffer, weighting, cap, rebalance=2)(score)["weight"]
    total = weights.groupby("date").sum()
    assert (weights >= 0).all() and (weights <= cap * (1 + 1e-9)).all() and (total <= 1 + 1e-9).all()
    assert ((weights > 0).groupby("date").sum() <= k).all()
    held = weights[weights > 0].index
    assert score.loc[held, "score"].notna().all(), "only names with a score are bought"


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**31))
def test_select_fills_up_with_the_best_of_the_rest(k, buffer, seed):
    random = np.random.default_rng(seed)
    rank = random.permutation(8) + 1.0
    held = random.random(8) < 0.4
    chosen = select(rank, held, k, buffer)
    assert chosen.sum() == min(k, 8)
    newcomers, left = rank[chosen & ~held], rank[~chosen & ~held]
    assert not len(newcomers) or not len(left) or newcomers.max() < left.min()


def test_the_volatility_target_scales_down_only_and_reads_the_past_only():
    random = np.random.default_rng(0)
    past = random.normal(0, 0.02, (60, 2))
    book = np.array([0.5, 0.5])
    measured = (past @ book).std(ddof=1) * np.sqrt(252)
    assert vol_scale(book, past, measured / 2, 252) == pytest.approx(0.5)
    assert vol_scale(book, past, 10.0, 252) == 1.0 and vol_scale(book, past[:19], 0.01, 252) == 1.0

    score = predictions(random.normal(size=(120, 3)))
    bars = pd.DataFrame({"close": np.exp(random.normal(0, 0.02, (120, 3)).cumsum(axis=0)).ravel()}, index=score.index)
    policy = TopK(2, rebalance=10, vol_target=0.1)
    joined = score.join(bars)
    verdict = audit(lambda panel: policy(panel[["score"]], panel[["close"]]), joined)
    assert verdict.status == "PASS", verdict


def test_a_gate_scales_the_book_and_must_cover_it():
    score = predictions(np.ones((3, 2)))
    dates = score.index.unique("date")
    gate = pd.DataFrame({"gate": [1.0, 0.5, 0.0]}, index=dates)
    total = TopK(2, rebalance=1)(score, gate=gate)["weight"].groupby("date").sum()
    assert total.tolist() == [1.0, 0.5, 0.0]
    with pytest.raises(PanelError, match="1 dates, first 2020-01-03"):
        TopK(2, rebalance=1)(score, gate=gate.iloc[:2])
    with pytest.raises(PanelError, match=r"\[0, 1\]"):
        TopK(2, rebalance=1)(score, gate=gate * 1.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"buffer": -1},
        {"weighting": "best"},
        {"max_weight": 0.0},
        {"rebalance": 0},
        {"vol_target": -0.1},
        {"vol_target": 0.0},
        {"vol_lookback": 19},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TopK(**wrong)


@pytest.mark.parametrize(
    "values", [np.empty((0, 3)), np.full((4, 3), np.nan), np.full((4, 3), np.inf)], ids=["empty", "all NaN", "infinite"]
)
def test_nothing_to_hold(values):
    weights = TopK(2, rebalance=1)(predictions(values))
    assert weights.empty and list(weights.columns) == ["weight"] and weights.index.names == ["date", "symbol"]


def test_one_date_and_one_symbol():
    assert TopK(5)(predictions(np.array([[0.3]])))["weight"].tolist() == [1.0]


def test_a_book_that_loses_every_score_is_sold():
    weights = TopK(2, rebalance=1)(predictions(np.array([[1.0, 2.0], [np.nan, np.nan]])))["weight"]
    assert weights.groupby("date").sum().tolist() == [1.0, 0.0]


def at_hours(frame: pd.DataFrame) -> pd.DataFrame:
    """The same panel with the ends of 4-hour bars as dates."""
    hours = pd.date_range("2021-01-01 04:00", periods=frame.index.unique("date").size, freq="4h", tz="UTC", unit="us")
    return frame.set_axis(frame.index.set_levels(hours, level="date"))


@pytest.mark.parametrize("vol_target", [None, 0.1])
def test_intraday_scores_make_the_same_book_on_their_own_clock(vol_target):
    rng = np.random.default_rng(0)
    score = predictions(rng.normal(size=(90, 4)))
    bars = predictions(50 * np.exp(rng.normal(0, 0.01, (90, 4)).cumsum(axis=0))).rename(columns={"score": "close"})
    gate = pd.DataFrame({"gate": 0.5}, index=score.index.unique("date"))
    told = {"vol_target": vol_target, "periods_per_year": 252}
    daily = TopK(2, rebalance=4, **told)(score, bars, gate)
    hours = at_hours(score).index.unique("date")
    intraday = TopK(2, rebalance=4, **told)(at_hours(score), at_hours(bars), gate.set_axis(hours))
    assert (
        intraday.index.unique("date").tolist() == hours[::4].tolist()
        and str(intraday.index.levels[0].dtype) == "datetime64[us, UTC]"
    )
    assert intraday["weight"].to_numpy().tobytes() == daily["weight"].to_numpy().tobytes()
    assert str(TopK(2)(at_hours(score).iloc[:0]).index.levels[0].dtype) == "datetime64[us, UTC]"


def test_a_volatility_target_counts_the_bars_of_a_year():
    """Four-hour bars have 2,190 in a year: the same book is scaled to the root of 252 / 2190 of the daily one."""
    rng = np.random.default_rng(1)
    score = predictions(rng.normal(size=(90, 4)))
    bars = predictions(50 * np.exp(rng.normal(0, 0.05, (90, 4)).cumsum(axis=0))).rename(columns={"score": "close"})
    daily, hourly = (
        TopK(2, rebalance=30, vol_target=0.1)(score, bars),
        TopK(2, rebalance=30, vol_target=0.1)(at_hours(score), at_hours(bars)),
    )
    assert np.allclose(hourly["weight"].iloc[2:].to_numpy(), daily["weight"].iloc[2:].to_numpy() * np.sqrt(252 / 2190))


@pytest.mark.parametrize("side", ["gate", "past_bars"])
def test_two_clocks_are_refused_and_named(side):
    score = predictions(np.ones((3, 2)))
    other = {
        "gate": pd.DataFrame({"gate": 1.0}, index=score.index.unique("date")),
        "past_bars": score.rename(columns={"score": "close"}),
    }
    with pytest.raises(PanelError, match="predictions is dated in UTC.*without a time zone"):
        TopK(1)(at_hours(score), **{side: other[side]})


def test_a_row_on_a_day_when_nobody_trades_does_not_become_the_book():
    score = predictions(np.tile(np.arange(6.0), (10, 1)))
    saturday = (
        score.xs("S01", level="symbol", drop_level=False)
        .iloc[[3]]
        .rename(index={score.index[18][0]: pd.Timestamp("2020-01-11")}, level="date")
    )
    mixed = pd.concat([score, saturday]).sort_index()
    with pytest.raises(PanelError, match="2020-01-11 with S01 alone"):
        TopK(3, rebalance=1)(mixed)
    meant = TopK(3, rebalance=1, sparse=True)(mixed)
    assert meant.loc["2020-01-11", "weight"].to_dict() == {"S01": 1.0}
    pd.testing.assert_frame_equal(
        TopK(3, rebalance=1)(mixed.drop(pd.Timestamp("2020-01-11"))), TopK(3, rebalance=1)(score)
    )


def test_the_defaults_are_these():
    assert TopK() == TopK(30, 0, "equal", 1.0, 20, None, 63, None, False)


def test_a_score_of_minus_infinity_is_no_score():
    row = np.array([[np.inf, -np.inf, 0.2, 0.1, -0.1]])
    held = TopK(5, rebalance=1)(predictions(row))
    assert set(held.index.get_level_values("symbol")) == {"S02", "S03", "S04"}


@pytest.mark.parametrize("value", [-0.5, -1.0, 1.01, np.nan])
def test_a_gate_outside_the_unit_interval_is_refused_with_its_date(value):
    score = predictions(np.arange(20.0).reshape(4, 5))
    gate = pd.DataFrame({"gate": [1.0, 0.0, value, 0.5]}, index=score.index.unique("date"))
    with pytest.raises(PanelError, match=r"no value in \[0, 1\] on 1 dates, first 2020-01-03"):
        TopK(2, rebalance=1)(score, gate=gate)


def test_the_volatility_that_scales_is_the_books_own_by_hand():
    rng = np.random.default_rng(4)
    past = rng.normal(0, 0.02, (40, 3))
    weights = np.array([0.5, -1.0, 0.0])
    book = past[:, 0] * 0.5 - past[:, 1]
    want = 0.1 / (book.std(ddof=1) * 252**0.5)
    assert vol_scale(weights, past, 0.1, 252) == pytest.approx(want) and want < 1
    assert vol_scale(weights, past[:20], 0.1, 252) == pytest.approx(0.1 / (book[:20].std(ddof=1) * 252**0.5))
    assert vol_scale(weights, past[:19], 0.1, 252) == 1.0 and vol_scale(weights, past * 0, 0.1, 252) == 1.0
    assert vol_scale(weights, past, 100.0, 252) == 1.0


def test_the_window_of_a_volatility_target_is_the_last_sessions():
    rng = np.random.default_rng(5)
    quiet, wild = rng.normal(0, 0.001, (80, 3)), rng.normal(0, 0.03, (25, 3))
    close = pd.DataFrame(
        100 * np.exp(np.vstack([quiet, wild]).cumsum(axis=0)),
        index=pd.bdate_range("2019-06-03", periods=105).as_unit("us"),
        columns=["S00", "S01", "S02"],
    )
    bars = close.rename_axis(index="date", columns="symbol").stack().rename("close").to_frame()
    last = predictions(np.array([[3.0, 2.0, 1.0]])).rename(
        index={pd.Timestamp("2020-01-01"): close.index[-1]}, level="date"
    )
    book = close.pct_change().mean(axis=1)
    for window in (20, 63):
        got = TopK(3, rebalance=1, vol_target=0.1, vol_lookback=window, periods_per_year=252.0)(last, bars)[
            "weight"
        ].sum()
        assert got == pytest.approx(min(1.0, 0.1 / (book.iloc[-window:].std() * 252**0.5)))


def test_a_flat_book_is_not_divided_by():
    with np.errstate(all="raise"):
        assert vol_scale(np.array([0.5, 0.5]), np.zeros((30, 2)), 0.1, 252) == 1.0


def test_a_policy_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TopK().buffer = 3


def test_weights_of_nothing_by_rank_capped_and_of_infinite_scores():
    many = predictions(np.random.default_rng(0).normal(size=(30, 12)))
    assert len(TopK(5)(many.iloc[:0])) == 0
    with pytest.raises(ConfigError, match="vol_target needs past_bars"):
        TopK(5, vol_target=0.1)(many)
    with pytest.raises(PanelError, match="weights >= 0"):
        cap_weights(np.array([-0.1]), 0.5)
    assert np.allclose(sorted(TopK(3, weighting="rank", rebalance=10_000)(many)["weight"]), [1 / 6, 2 / 6, 3 / 6])
    capped = TopK(5, max_weight=0.1)(many)["weight"]
    assert (capped <= 0.1 + 1e-12).all() and np.allclose(capped.groupby("date").sum(), 0.5)
    endless = many.copy()
    endless.iloc[:5] = np.inf
    assert not set(TopK(5, rebalance=10_000)(endless).index) & set(endless.index[:5]), "an infinite score is no score"


def date_by_date(policy: TopK, score: pd.DataFrame, bars: pd.DataFrame, gate: pd.DataFrame) -> pd.DataFrame:
    """The policy as its definition reads, one decision and one frame at a time."""
    wide = to_wide(score["score"])
    ranks = wide.rank(axis=1, ascending=False, method="first").to_numpy()
    returns = to_wide(bars["close"]).pct_change(fill_method=None).reindex(columns=wide.columns)
    held, rows = np.zeros(wide.shape[1], dtype=bool), []
    for row in range(0, len(wide), policy.rebalance):
        chosen = select(ranks[row], held, policy.top_k, policy.buffer)
        raw = chosen.astype(float)
        if policy.weighting == "rank":
            order = np.argsort(np.where(chosen, ranks[row], np.inf), kind="stable")[: chosen.sum()]
            raw[order] = np.arange(chosen.sum(), 0, -1)
        weights = cap_weights(raw / raw.sum(), policy.max_weight) if chosen.any() else raw
        weights = weights * gate["gate"].iloc[row]
        if policy.vol_target is not None and chosen.any():
            known = returns.loc[: wide.index[row]].iloc[-policy.vol_lookback :].to_numpy()
            weights = weights * vol_scale(weights, known, policy.vol_target, policy.periods_per_year)
        shown = chosen if chosen.any() else held
        rows.append(pd.DataFrame({"date": wide.index[row], "symbol": wide.columns[shown], "weight": weights[shown]}))
        held = chosen
    return pd.concat(rows).astype({"symbol": "str"}).set_index(["date", "symbol"]).sort_index()


def test_many_policies_at_once_are_the_definition_to_the_bit():
    rng = np.random.default_rng(11)
    values = rng.normal(size=(90, 12)).round(1)  # with ties
    values[rng.random(values.shape) < 0.2] = np.nan
    values[40:48] = np.nan  # everything is sold, once
    score = predictions(values)
    close = 50 * np.exp(rng.normal(0, 0.02, values.shape).cumsum(axis=0))
    bars = predictions(close).rename(columns={"score": "close"})
    gate = pd.DataFrame({"gate": rng.choice([0.0, 0.3, 1.0], 90)}, index=score.index.unique("date"))
    policies = [
        TopK(k, buffer, weighting, cap, every, target, periods_per_year=252.0)
        for k in (1, 4, 20)
        for buffer in (0, 3)
        for weighting in ("equal", "rank")
        for cap in (1.0, 0.23)
        for every in (1, 7)
        for target in (None, 0.05)
    ]
    for policy, book in zip(policies, top_k_many(policies, score, bars, gate), strict=True):
        alone = date_by_date(policy, score, bars, gate)
        pd.testing.assert_frame_equal(book, alone, check_exact=True)
        assert book.equals(policy(score, bars, gate)) and book.index.equal_levels(alone.index)
