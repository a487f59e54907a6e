"""StockNet's protocol: its counts, tweets from before the last close alone, heads that know the past alone."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root

sys.path.insert(0, str(root() / "scripts"))
import stocknet

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "text"
needs_shared = pytest.mark.skipif(
    not (SHARED / "stocknet_tweets_2014_2015.parquet").is_file(),
    reason="needs ../shared/data/text (or QUANTLAB_SHARED)",
)


@needs_shared
def test_the_published_targets_are_counted():
    moves = stocknet.read_moves(SHARED / "stocknet_prices_2012_2017.parquet").dropna(subset=["y"])
    assert moves["period"].value_counts().to_dict() == {"train": 20_339, "dev": 2_555, "test": 3_720}
    assert moves["y"].mean() == pytest.approx(0.502, abs=0.0005)


def made_moves(previous: list[str], date: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"symbol": "A", "previous": pd.to_datetime(previous), "date": pd.to_datetime(date)})


def test_a_tweet_counts_from_before_the_last_close_and_five_days_back():
    at = ["2014-05-06T03:59", "2014-05-06T04:00", "2014-05-09T19:59", "2014-05-09T20:00", "2014-05-11T12:00"]
    tweets = pd.DataFrame({"symbol": "A", "created_at": pd.to_datetime([f"{t}:00Z" for t in at]), "text": "x"})
    moves = made_moves(["2014-05-09"], ["2014-05-12"])  # a Friday and the Monday after it
    first, past = stocknet.tweet_rows(moves.assign(date=pd.to_datetime(["2014-05-11"])), tweets)
    assert (first[0], past[0]) == (1, 3)  # midnight in New York is 04:00 UTC, the close is 20:00 UTC
    first, past = stocknet.tweet_rows(moves, tweets)
    assert (first[0], past[0]) == (2, 3)


def test_a_half_day_closes_early_and_a_stock_without_tweets_has_none():
    moves = made_moves(["2014-11-28", "2014-11-28"], ["2014-12-01", "2014-12-01"]).assign(symbol=["A", "B"])
    at = pd.to_datetime(["2014-11-28T17:59:00Z", "2014-11-28T18:01:00Z"])
    first, past = stocknet.tweet_rows(moves, pd.DataFrame({"symbol": "A", "created_at": at, "text": "x"}))
    assert (past - first).tolist() == [1, 0]


def test_means_over_ranges_by_hand():
    values = np.array([[1.0], [2.0], [6.0]])
    assert stocknet.means(values, np.array([0, 1, 2]), np.array([3, 3, 2])).ravel().tolist() == [3, 4, 0]


def test_accuracy_and_mcc_by_hand():
    accuracy, mcc = stocknet.rates(np.array([[3, 2, 1, 4], [5, 0, 5, 0]]))
    assert accuracy.tolist() == [0.5, 0.5]
    assert mcc.tolist() == [pytest.approx((3 * 2 - 1 * 4) / np.sqrt(4 * 7 * 3 * 6)), 0]


def world(signal: bool, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2014-01-01", "2014-12-31")
    moves = pd.DataFrame([(s, d) for s in "ABCDEFGH" for d in dates], columns=["symbol", "date"])
    X = random.normal(size=(len(moves), 2))
    y = (X[:, 0] + random.normal(size=len(moves)) > 0) if signal else random.random(len(moves)) > 0.5
    return moves.assign(y=y.astype("float64")), X


def test_heads_know_the_past_alone():
    moves, X = world(True)
    said = stocknet.walk("VADER", X, moves)
    assert np.isnan(said[moves["date"] < stocknet.WALK]).all()
    later = moves["date"] >= "2014-10-01"
    other = stocknet.walk("VADER", X, moves.assign(y=moves["y"].where(~later, 1 - moves["y"])))
    until = ((moves["date"] >= stocknet.WALK) & (moves["date"] < "2014-11-01")).to_numpy()
    assert (said[until] == other[until]).all()  # October's own outcomes come too late for October


def test_what_is_there_is_found_and_what_is_not_is_not():
    for signal in (True, False):
        moves, X = world(signal)
        told = (moves["date"] >= stocknet.WALK).to_numpy()
        said = stocknet.walk("VADER", X, moves)
        found = stocknet.score(said[told], moves[told])
        assert found["n"] == told.sum()
        assert found["accuracy"] == pytest.approx((said[told] == moves["y"][told]).mean())
        assert (found["p_mcc"] < 0.01) == signal and (found["mcc"] > 5 * found["mcc_se"]) == signal
