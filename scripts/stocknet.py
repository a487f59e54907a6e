"""Ask whether tweets say where a stock goes next, by StockNet's protocol (Xu and Cohen 2018), walk-forward.

Usage: python scripts/calibrate.py stocknet   (or python scripts/stocknet.py)

Reads ../shared/data/text/stocknet_*.parquet and writes bench/results/stocknet.json, which nbs/deep/484_text.ipynb
shows. A target is a stock and a day whose move from adjusted close to adjusted close, rounded to six decimals, is below
-0.5 % or at least 0.55 %, with a window of five sessions behind it that have a move each, whether there are tweets or
not. That counts the published targets exactly: 20,339 of train, 2,555 of dev, 3,720 of test. The authors' code
(github.com/yumoxu/stocknet-code, DataPipe) also demands tweets on every day, which would leave fewer than they publish.
A feature of day d is made of the tweets of the five calendar days before d that were out before the close
of the session before d; the paper's own window runs to midnight. Heads are fitted on targets of earlier months alone
and again every month. Without torch and the model (make deep) the embeddings are left out, and the result says so.
"""

import json
import os
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quantlab.altdata.events import session_closes
from quantlab.altdata.sentiment import clean_text, vader_tone
from quantlab.core.config import root
from quantlab.deep.text import embed_texts, embedding_ready

LOW, HIGH, DAYS = -0.005, 0.0055, 5  # a target's move; calendar days of tweets
PERIODS = {"train": "2014-01-01", "dev": "2015-08-01", "test": "2015-10-01", "end": "2016-01-01"}
COUNTS = {"train": 20_339, "dev": 2_555, "test": 3_720}  # published, and counted here
PUBLISHED = {"StockNet": (0.5823, 0.080796), "random": (0.5089, -0.002266)}  # Xu and Cohen 2018, table 1: test set
WALK = "2014-07-01"  # first month that is predicted
DRAWS, BLOCK, SEED = 2000, 5, 20181  # bootstrap and permutations; dates of a block


def folder() -> Path:
    "Return where the shared texts lie."
    return Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "text"


def read_moves(file: Path) -> pd.DataFrame:  # symbol, date, previous (session), move, y (1, 0, NaN = no target), period
    "Read prices and mark the targets."
    prices = pd.read_parquet(file, columns=["Date", "Adj Close", "symbol"])
    prices["date"] = pd.to_datetime(prices["Date"]).astype("datetime64[us]")
    prices = prices.sort_values(["symbol", "date"], ignore_index=True)
    by = prices.groupby("symbol")
    move = (prices["Adj Close"] / by["Adj Close"].shift() - 1).round(6)
    old = by.cumcount() > DAYS  # each session of a window of five has a move of its own
    y = pd.Series(np.where(old & (move >= HIGH), 1.0, np.where(old & (move < LOW), 0.0, np.nan)), prices.index)
    table = prices[["symbol", "date"]].assign(previous=by["date"].shift(), move=move, y=y)
    edges = pd.to_datetime(list(PERIODS.values()))
    table["period"] = pd.cut(table["date"], edges, right=False, labels=list(PERIODS)[:3]).astype("object")
    return table.dropna(subset=["period", "previous"]).reset_index(drop=True)


def read_tweets(file: Path) -> pd.DataFrame:  # symbol, created_at, text; by symbol and time
    "Read the tweets; take out the marks that the data set puts for names and links, and cashtags as it spells them."
    tweets = pd.read_parquet(file, columns=["symbol", "created_at", "text"])
    marks = re.compile(r"\bAT_USER\b|\bURL\b|\$ [a-z]{1,5}\b|^rt\b")
    once = {text: clean_text(marks.sub(" ", text)) for text in tweets["text"].unique()}
    tweets["text"] = tweets["text"].map(once)
    return tweets[tweets["text"] != ""].sort_values(["symbol", "created_at", "text"], ignore_index=True)


def tweet_rows(moves: pd.DataFrame, tweets: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:  # first, past the last
    "Find for each row of moves its tweets: five calendar days back, out before the close of the session before."
    closes = session_closes(pd.DatetimeIndex(moves["previous"].unique()).sort_values())
    until = moves["previous"].map(closes)
    since = (moves["date"] - pd.Timedelta(days=DAYS)).dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    first, past = np.zeros(len(moves), dtype="int64"), np.zeros(len(moves), dtype="int64")
    place = tweets.groupby("symbol").indices
    for symbol, rows in moves.groupby("symbol").indices.items():
        if symbol in place:
            at, when = place[symbol][0], tweets["created_at"].iloc[place[symbol]]
            first[rows] = at + when.searchsorted(since.iloc[rows].array)
            past[rows] = at + when.searchsorted(until.iloc[rows].array)  # a tweet at the close itself is too late
    return first, np.maximum(first, past)


def means(values: np.ndarray, first: np.ndarray, past: np.ndarray) -> np.ndarray:  # by row; 0 where there is no tweet
    "Average columns over ranges of tweets."
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype="float64")])
    return (total[past] - total[first]) / np.maximum(past - first, 1)[:, None]


def features(moves: pd.DataFrame, tweets: pd.DataFrame, console: Console) -> tuple[dict, np.ndarray]:
    "Make the features of each method by row of moves, and count tweets by row."
    first, past = tweet_rows(moves, tweets)
    n = past - first
    tone = vader_tone(tweets["text"]).fillna(0.0).to_numpy()[:, None]
    counts = CountVectorizer(min_df=20, stop_words="english", dtype="float32").fit_transform(tweets["text"])
    at = np.repeat(first - np.concatenate([[0], np.cumsum(n)[:-1]]), n) + np.arange(n.sum())
    edges = np.concatenate([[0], np.cumsum(n)])
    pick = sparse.csr_matrix((np.ones(len(at), "float32"), at, edges), (len(n), len(tweets)))
    found = {"VADER": np.column_stack([means(tone, first, past), np.log1p(n)]), "TF-IDF": (pick @ counts).tocsr()}
    if embedding_ready():
        shown = partial(track, description="embedding", console=console)
        vectors = np.nan_to_num(embed_texts(tweets["text"], progress=shown))
        found["MiniLM"] = means(vectors, first, past)
    return found, n


def head(method: str, X: object, y: np.ndarray) -> tuple[object, object]:  # fitted head, columns it reads
    "Fit a method's head; no setting is tuned."
    if method == "TF-IDF":
        seen = np.flatnonzero(np.asarray((X > 0).sum(axis=0)).ravel() >= 20)  # words of the past alone
        model = make_pipeline(TfidfTransformer(sublinear_tf=True), LogisticRegression(max_iter=300))
        return model.fit(X[:, seen], y), seen
    C = 0.01 if method == "MiniLM" else 1.0
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300)).fit(X, y), slice(None)


def walk(method: str, X: object, moves: pd.DataFrame) -> np.ndarray:  # by row: 1, 0; NaN before the walk
    "Say up or down for every row of the walk, each month by a head that knows only targets before it."
    said, month = np.full(len(moves), np.nan), moves["date"].dt.to_period("M")
    target = moves["y"].notna().to_numpy()
    for now in track([m for m in sorted(month.unique()) if m >= pd.Period(WALK, "M")], f"{method}"):
        past, rows = target & (month < now).to_numpy(), np.flatnonzero(month == now)
        y = moves["y"].to_numpy()[past]
        if method == "majority":
            said[rows] = float(y.mean() >= 0.5)
            continue
        model, columns = head(method, X[past], y)
        said[rows] = model.predict(X[rows][:, columns])
    return said


def rates(hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # accuracy, MCC
    "Score counts [..., 4] of true ups, true downs, false ups, false downs."
    tp, tn, fp, fn = np.moveaxis(hits.astype("float64"), -1, 0)
    below = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    mcc = np.where(below > 0, (tp * tn - fp * fn) / np.where(below > 0, below, 1), 0.0)
    return (tp + tn) / (tp + tn + fp + fn), mcc


def score(said: np.ndarray, moves: pd.DataFrame) -> dict[str, float]:
    "Score one period: errors from blocks of dates, p from dates changed against each other."
    table = moves.assign(said=said)
    y, guess = (table.pivot(index="date", columns="symbol", values=c).to_numpy() for c in ("y", "said"))
    def count(guess: np.ndarray) -> np.ndarray:  # [dates, 4]
        return np.stack([((guess == g) & (y == t)).sum(axis=1) for g, t in ((1, 1), (0, 0), (1, 0), (0, 1))], axis=1)
    daily, rng = count(guess), np.random.default_rng(SEED)
    n = len(daily)
    starts = rng.integers(0, n, (DRAWS, -(-n // BLOCK)))
    drawn = (starts[:, :, None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, :n] % n
    accuracy, mcc = rates(daily[drawn].sum(axis=1))
    filled = np.where(np.isnan(guess), np.nanmean(guess) >= 0.5, guess)  # a stock that is not there on the other date
    moved = np.array([rates(count(filled[rng.permutation(n)]).sum(axis=0)) for _ in range(DRAWS)])
    at = rates(daily.sum(axis=0))
    return {
        "n": int(daily.sum()), "dates": n, "accuracy": float(at[0]), "accuracy_se": float(accuracy.std(ddof=1)),
        "mcc": float(at[1]), "mcc_se": float(mcc.std(ddof=1)),
        "p_accuracy": float((1 + (moved[:, 0] >= at[0] - 1e-12).sum()) / (DRAWS + 1)),
        "p_mcc": float((1 + (moved[:, 1] >= at[1] - 1e-12).sum()) / (DRAWS + 1)),
    }  # fmt: skip


def measure(console: Console) -> None:
    "Walk, score, store and show."
    if not folder().is_dir():
        sys.exit(f"no texts in {folder()}; say where shared is by QUANTLAB_SHARED")
    moves = read_moves(folder() / "stocknet_prices_2012_2017.parquet")
    tweets = read_tweets(folder() / "stocknet_tweets_2014_2015.parquet")
    counts = moves.dropna(subset=["y"])["period"].value_counts().to_dict()
    made, n = features(moves, tweets, console)
    rows = []
    for method, X in {"majority": np.zeros((len(moves), 1)), **made}.items():
        said = walk(method, X, moves)
        told = moves["date"] >= WALK
        for period, part in {
            "test": moves["period"] == "test", "test, with tweets": (moves["period"] == "test") & (n > 0), "walk": told,
        }.items():  # fmt: skip
            at = part.to_numpy()
            rows.append({"method": method, "period": period, **score(said[at], moves[at])})
    about = {
        "targets": {name: int(counts[name]) for name in COUNTS}, "published_targets": COUNTS,
        "with_tweets": int((moves["y"].notna().to_numpy() & (n > 0)).sum()), "up": round(float(moves["y"].mean()), 4),
        "tweets": len(tweets), "walk_from": WALK, "block": BLOCK, "draws": DRAWS, "embeddings": "MiniLM" in made,
    }  # fmt: skip
    published = [{"method": name, "accuracy": a, "mcc": m} for name, (a, m) in PUBLISHED.items()]
    table = pd.DataFrame(rows).round(4)
    result = {"about": about, "rows": json.loads(table.to_json(orient="records")), "published": published}
    file = root() / "bench" / "results" / "stocknet.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    console.print(about, table.to_string(), sep="\n")
    if "MiniLM" not in made:
        console.print("torch or the model is not installed (make deep): MiniLM is left out")


if __name__ == "__main__":
    measure(Console())
