"""Sides, bets and their quality against definitions in plain Python."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from quantlab.core.errors import ConfigError, PanelError
from quantlab.labels.meta import bet_quality, meta_labels, primary_side

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)


def scores(seed: int) -> pd.Series:
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=6, unit="us"), pd.Index(list("ABCDEFG"), dtype="str")],
        names=["date", "symbol"],
    )
    return pd.Series(rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0, np.nan, np.inf], len(index)), index=index)


@LIGHT
@given(seed=SEEDS, share=st.sampled_from([0.1, 0.2, 0.3, 0.5]), short=st.booleans())
def test_sides_follow_the_ranks(seed, share, short) -> None:
    score = scores(seed)
    side = primary_side(score, share, short)
    finite = score.where(np.isfinite(score))
    place = (finite.groupby("date").rank() - 0.5) / finite.groupby("date").transform("count")
    expected = (place > 1 - share + 1e-9).astype(float) - (short & (place < share - 1e-9)).astype(float)
    np.testing.assert_array_equal(side, expected)
    mirrored = primary_side(-score, share, True)
    np.testing.assert_array_equal(mirrored, -primary_side(score, share, True))


@LIGHT
@given(seed=SEEDS, cost=st.sampled_from([0.0, 0.01]))
def test_bets_equal_the_definition(seed, cost) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice([-0.02, 0.0, 0.005, 0.01, 0.02, np.nan], 40)
    labels = pd.DataFrame(
        {"y": y, "y_other": y + rng.choice([0.0, 0.0, 0.01, 0.03], 40), "side": rng.choice([-1.0, 0.0, 1.0], 40)}
    )
    for frame in (labels, labels.drop(columns="y_other")):
        out = meta_labels(frame, cost)
        for row in out.itertuples():
            best = row.y_other if hasattr(row, "y_other") else row.y
            if row.y != row.y or row.side == 0 or row.y <= cost < best:
                assert np.isnan(row.bet)
            else:
                assert row.bet == float(row.y > cost)
        pd.testing.assert_frame_equal(out.drop(columns="bet"), frame)


@LIGHT
@given(seed=SEEDS)
def test_quality_equals_scikit_learn(seed) -> None:
    rng = np.random.default_rng(seed)
    bet = pd.Series(rng.choice([0.0, 1.0, np.nan], 50))
    taken = pd.Series(rng.random(50) < 0.5)
    known = bet.notna()
    if bet.sum() and (taken & known).any():
        precision, recall, f1, _ = precision_recall_fscore_support(
            bet[known], taken[known], average="binary", zero_division=0
        )
        np.testing.assert_allclose(
            bet_quality(bet, taken).loc["taken", ["precision", "recall", "f1"]].astype(float), [precision, recall, f1]
        )


def test_refusals_and_degenerate() -> None:
    score = scores(0)
    for share in (0, 0.6, np.nan):
        with pytest.raises(ConfigError, match="share is"):
            primary_side(score, share)
    assert primary_side(score.iloc[:0]).empty and (primary_side(score * np.nan) == 0).all()
    assert (primary_side(score.groupby("date").head(1), 0.2) == 0).all()  # alone on a date: neither end
    labels = pd.DataFrame({"y": [0.1], "side": [1.0]})
    for cost in (-0.1, np.nan, np.inf):
        with pytest.raises(ConfigError, match="cost is"):
            meta_labels(labels, cost)
    with pytest.raises(PanelError, match="side"):
        meta_labels(labels[["y"]])
    with pytest.raises(PanelError, match="reindex"):
        bet_quality(labels["y"], pd.Series([True], index=[5]))
    assert meta_labels(labels.iloc[:0])["bet"].dtype == float
    assert bet_quality(labels["y"].iloc[:0], labels["y"].iloc[:0] > 0).loc["taken", "bets"] == 0


def test_no_scores_no_labels_and_no_outcomes_give_nothing() -> None:
    score = scores(1)
    assert primary_side(score.iloc[:0]).empty and (primary_side(score * np.nan) == 0).all()
    assert (primary_side(score.iloc[-1:] * 0 + np.inf) == 0).all()
    labels = pd.DataFrame({"y": [0.01, -0.02], "y_other": [0.01, 0.0], "side": [1.0, -1.0]}, index=score.index[:2])
    assert meta_labels(labels.iloc[:0])["bet"].empty
    assert meta_labels(labels.assign(y=np.nan, y_other=np.nan))["bet"].isna().all()
    with pytest.raises(ConfigError, match="cost is"):
        meta_labels(labels, cost=-1)


def test_the_quality_of_no_bets_is_not_a_number() -> None:
    six = pd.Series([1.0, 1.0, 0.0, 0.0, 1.0, np.nan])
    assert bet_quality(six.iloc[:0], six.iloc[:0].astype(bool))["precision"].isna().all()
    assert bet_quality(six * np.nan, six.notna())["f1"].isna().all()
    with pytest.raises(PanelError, match="reindex"):
        bet_quality(six, six.notna().iloc[:3])
