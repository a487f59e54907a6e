"""altdata.planted: made-up posts hold the mood they were given, and a campaign is what it says it is."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.events import event_sessions, session_closes
from quantlab.altdata.planted import (
    bot_campaign,
    build_sample_posts,
    genuine_burst,
    hidden_mood,
    plant,
    planted_texts,
    reword,
    sample_posts,
    synth_posts,
)
from quantlab.altdata.sentiment import POST_COLUMNS, check_posts, empty_posts, vader_tone
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError

DAYS = pd.bdate_range("2023-02-21", "2023-04-06", unit="us", name="date")
CLOSES = session_closes(DAYS)


def test_the_committed_sample_is_what_the_code_makes_and_the_readme_says():
    folder = root() / "data" / "sample" / "altdata"
    posts, readme = sample_posts(), (folder / "README.md").read_text()
    pd.testing.assert_frame_equal(build_sample_posts(), posts)
    digest = hashlib.sha256((folder / "posts.parquet").read_bytes()).hexdigest()
    row = re.search(rf"\| `posts.parquet` \| ([\d,]+) \| `{digest}`", readme)
    assert int(row[1].replace(",", "")) == len(posts) and (folder / "posts.parquet").stat().st_size < 250_000
    assert list(posts) == POST_COLUMNS and posts["text"].is_unique and posts["id"].is_unique
    assert sample_posts(["XOM"])["symbol"].unique().tolist() == ["XOM"] and sample_posts([]).empty
    with pytest.raises(DataError, match="no posts on"):
        sample_posts(["KO"])


def test_a_missing_sample_is_a_data_error(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_DATA_SAMPLE", str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        sample_posts()


def test_the_mood_of_coins_leads_and_that_of_stocks_does_not():
    from quantlab.data.sample import sample_bars
    from quantlab.data.synth import synth_coins

    posts = sample_posts()
    for symbols, bars, low, high in (
        (["BTCUSDT", "ETHUSDT", "SOLUSDT"], synth_coins().bars, 0.15, 0.6),
        (["AAPL", "JPM", "XOM"], sample_bars(["AAPL", "JPM", "XOM"], "2014-01-02", "2016-01-15"), -0.1, 0.1),
    ):
        after = bars["open"].groupby("symbol").transform(lambda x: x.shift(-7) / x.shift(-1) - 1)
        mine = posts[posts["symbol"].isin(symbols)]
        session = event_sessions(mine["known_at"], session_closes(bars.index.unique("date")))
        tone = vader_tone(mine["text"]).groupby([session.rename("date"), mine["symbol"]]).mean()
        assert low < tone.corr(after) < high


def test_posts_lie_inside_their_sessions_and_depend_on_the_seed_alone():
    made = synth_posts(CLOSES, ["A", "B"], 5.0, seed=1)
    again, other = synth_posts(CLOSES, ["A", "B"], 5.0, seed=1), synth_posts(CLOSES, ["A", "B"], 5.0, seed=2)
    pd.testing.assert_frame_equal(made.posts, again.posts)
    assert not made.posts["text"].equals(other.posts["text"]) and made.posts["text"].is_unique
    assert event_sessions(made.posts["known_at"], CLOSES).notna().all()
    assert made.posts.groupby("author")["reach"].nunique().max() == 1
    mood = made.mood.stack()
    session = event_sessions(made.posts["known_at"], CLOSES)
    tone = vader_tone(made.posts["text"]).groupby([session.rename("date"), made.posts["symbol"]]).mean()
    assert tone.corr(mood) > 0.7
    ends = session_closes(pd.date_range("2024-01-01 04:00", periods=30, freq="4h", tz="UTC", unit="us"))
    assert event_sessions(synth_posts(ends, ["A"], 3.0).posts["known_at"], ends).notna().all()
    one = synth_posts(CLOSES.iloc[:1], ["A"], 3.0, authors=1)
    assert len(one.mood) == 1 and len(one.posts)


def test_a_mood_of_correlation_one_is_what_comes_after():
    index = pd.MultiIndex.from_product([DAYS, ["A", "B"]], names=["date", "symbol"])
    ahead = pd.Series(np.random.default_rng(0).standard_normal(len(index)), index=index)
    assert hidden_mood(DAYS, ["A", "B"], ahead, 1.0).stack().corr(ahead) == pytest.approx(1)
    ahead[("2023-03-01", "A")] = np.nan
    assert hidden_mood(DAYS, ["A", "B"], ahead, 0.5).notna().all(axis=None)


def test_campaigns_and_bursts_are_as_asked():
    copies = bot_campaign(CLOSES, DAYS[20], "A", n=60, accounts=20, templates=3, seed=1)
    assert copies["text"].nunique() == 3 and copies["author"].nunique() == 20
    reworded = bot_campaign(CLOSES, DAYS[20], "A", n=60, accounts=60, share=0.3, mood=-2, seed=1)
    assert reworded["text"].nunique() > 50 and vader_tone(reworded["text"]).mean() < 0
    burst = genuine_burst(CLOSES, DAYS[20], "A", seed=1)
    assert len(burst) == burst["author"].nunique() == burst["text"].nunique() == 100
    for posts in (copies, reworded, burst):
        assert (event_sessions(posts["known_at"], CLOSES) == DAYS[20]).all()
    rng = np.random.default_rng(0)
    text = planted_texts([1.0])[0]
    new = reword(text, 0.5, rng).split()
    assert len(new) == len(text.split()) and sum(a != b for a, b in zip(new, text.split(), strict=True)) in (6, 7)
    assert reword(text, 0.0, rng) == text


def test_planting_keeps_every_post_and_asks_no_author_where_none_has_one():
    crowd = synth_posts(CLOSES, ["A"], 5.0).posts
    paid = bot_campaign(CLOSES, DAYS[20], "A", n=10, accounts=5)
    assert len(plant(crowd, paid)) == len(crowd) + 10
    nameless = plant(crowd.assign(author=np.nan, reach=np.nan), paid)
    assert nameless["author"].isna().all() and nameless["reach"].isna().all()
    assert len(plant(empty_posts(), paid)) == 10 and plant(crowd, empty_posts()).equals(check_posts(crowd))


@pytest.mark.parametrize(
    "call",
    [
        lambda: hidden_mood(DAYS, ["A"], lead=0.2),
        lambda: hidden_mood(DAYS, ["A"], persistence=1.0),
        lambda: synth_posts(CLOSES, []),
        lambda: synth_posts(CLOSES.iloc[:0], ["A"]),
        lambda: synth_posts(CLOSES, ["A"], 0.0),
        lambda: synth_posts(CLOSES, ["A"], float("nan")),
        lambda: bot_campaign(CLOSES, DAYS[0], "A", share=1.5),
        lambda: bot_campaign(CLOSES, DAYS[0], "A", n=0),
        lambda: bot_campaign(CLOSES, pd.Timestamp("2030-01-01"), "A"),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", n=0),
        lambda: planted_texts(["a"]),
        lambda: planted_texts([0.0, float("nan")]),
        lambda: planted_texts([float("inf")]),
        lambda: planted_texts([[0.0]]),
        lambda: planted_texts([0.0], seed=-1),
        lambda: planted_texts({0.0}),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", mood="x"),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", mood=float("nan")),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", hours=0.0),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", hours="x"),
        lambda: genuine_burst(CLOSES, DAYS[0], "A", seed=1.5),
        lambda: synth_posts(CLOSES, ["A"], seed=-1),
        lambda: synth_posts(CLOSES, ["A"], per_session=float("inf")),
        lambda: synth_posts(CLOSES, ["A"], per_session=1e18),
        lambda: synth_posts(CLOSES, {"A", "B"}),
        lambda: bot_campaign(CLOSES, DAYS[0], "A", n=True),
        lambda: bot_campaign(CLOSES, DAYS[0], "A", n=5, seed=-1),
        lambda: hidden_mood(DAYS, ["A"], pd.Series([1.0]), lead=0.5),
        lambda: hidden_mood(DAYS, ["A"], seed=-1),
    ],
)
def test_what_cannot_be_planted_is_refused(call):
    with pytest.raises(ConfigError, match="give|name one"):
        call()
