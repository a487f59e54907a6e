"""altdata.robust: campaigns are not heard, bursts are, and nothing later changes a score."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.events import event_sessions, session_closes
from quantlab.altdata.planted import bot_campaign, genuine_burst, plant, synth_posts
from quantlab.altdata.robust import (
    age_votes,
    author_votes,
    copy_votes,
    jaccard,
    near_copies,
    post_votes,
    reach_votes,
    robust_score,
    stranger_votes,
    tone_score,
    usual_counts,
    word_set,
)
from quantlab.altdata.sentiment import check_posts, empty_posts, vader_tone
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_bars

SESSIONS = sample_bars("AAPL", "2023-02-01", "2023-04-05").index.unique("date")
CLOSES, DAY = session_closes(SESSIONS), SESSIONS[40]
OFF = {"threshold": 1.0, "lookback": 0, "tolerance": 1e9, "burst": 1e9}
CAMPAIGNS = {
    "copies": {},
    "copies of 50": {"templates": 50},
    "reworded": {"share": 0.3},
    "reworded 10": {"share": 0.3, "templates": 10},
    "reworded 50, attack": {"share": 0.3, "templates": 50, "mood": -2},
    "a thousand accounts": {"share": 0.3, "templates": 20, "accounts": 1000},
}


@pytest.fixture(scope="module")
def crowd():
    return synth_posts(CLOSES, ["A"], per_session=20, seed=31).posts


KNOWN = {}


def read(texts):
    "Read each text once."
    new = pd.Series([text for text in texts.unique() if text not in KNOWN], dtype="str")
    KNOWN.update(zip(new, vader_tone(new), strict=True))
    return texts.map(KNOWN).astype("float64")


def tones(posts, closes=CLOSES, **options):
    return robust_score(posts, closes, read, **options)["tone"].droplevel("symbol")


def plain(posts, closes=CLOSES):
    return read(posts["text"]).groupby(event_sessions(posts["known_at"], closes)).mean()


@pytest.fixture(scope="module")
def clean(crowd):
    return tones(crowd)


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_thousand_bots_move_neither_their_session_nor_another(crowd, clean, name):
    both = plant(crowd, bot_campaign(CLOSES, DAY, "A", seed=41, **CAMPAIGNS[name]))
    moved, naive = (tones(both) - clean) / clean.std(), (plain(both) - plain(crowd)) / plain(crowd).std()
    assert "attack" in name or abs(naive[DAY]) > 0.5, "the plain mean is moved"
    assert abs(moved[DAY]) < 0.1 and moved.drop(DAY).abs().max() < 0.02


def test_bots_without_names_move_it_no_more(crowd, clean):
    nameless = crowd.assign(author=np.nan, reach=np.nan)
    base = tones(nameless)
    for seed, options in enumerate([CAMPAIGNS["copies"], CAMPAIGNS["reworded 10"]]):
        both = plant(nameless, bot_campaign(CLOSES, DAY, "A", seed=seed, **options))
        assert abs(tones(both) - base).max() < 0.1 * base.std()


@pytest.mark.parametrize("mood", [2.0, -2.0])
def test_a_burst_that_means_it_keeps_its_move(crowd, clean, mood):
    both = plant(crowd, genuine_burst(CLOSES, DAY, "A", mood=mood, seed=42))
    assert (tones(both) - clean)[DAY] / (plain(both) - plain(crowd))[DAY] > 0.8


def test_clean_days_are_left_alone(crowd, clean):
    off = tones(crowd, **OFF)
    assert ((off - clean) / clean.std()).abs().max() < 0.02
    votes = post_votes(crowd, CLOSES)
    assert votes["earlier"].mean() < 0.01 and (votes["text_vote"] > 0.9).mean() > 0.98


def test_nothing_later_changes_a_score(crowd):
    posts = plant(crowd, bot_campaign(CLOSES, DAY, "A", n=300, share=0.3, templates=5, seed=43))
    whole = robust_score(posts, CLOSES, read)
    for n in (39, 40):
        cut = robust_score(posts[posts["known_at"] <= CLOSES.iloc[n]], CLOSES.iloc[: n + 1], read)
        pd.testing.assert_frame_equal(cut, whole.loc[: SESSIONS[n]])
        later = posts["known_at"] > CLOSES.iloc[n]
        spoilt = posts.assign(
            text=posts["text"].where(~later, "great great great"), reach=posts["reach"].where(~later, 9e9)
        )
        pd.testing.assert_frame_equal(robust_score(spoilt, CLOSES, read).loc[: SESSIONS[n]], whole.loc[: SESSIONS[n]])


def test_order_of_rows_and_other_symbols_do_not_matter(crowd, clean):
    pd.testing.assert_series_equal(tones(crowd.sample(frac=1, random_state=0)), clean)
    other = bot_campaign(CLOSES, DAY, "B", n=50, seed=44)
    score = robust_score(plant(crowd, other), CLOSES)
    pd.testing.assert_series_equal(score["tone"].xs("A", level="symbol"), clean, check_names=False)
    assert score.index.is_monotonic_increasing and score.index.names == ["date", "symbol"]


def made(texts, minutes=None, **columns):
    at = CLOSES.iloc[10] - pd.to_timedelta(np.arange(len(texts))[::-1] if minutes is None else minutes, unit="min")
    frame = pd.DataFrame({"event_time": at, "known_at": at, "symbol": "A", "source": "hand", "kind": "post"})
    frame = frame.assign(revision=0, id=[f"p{n}" for n in range(len(texts))], author=None, reach=np.nan, text=texts)
    return check_posts(frame.assign(**columns))


def test_only_an_earlier_post_makes_a_copy():
    text = "the new factory opens before summer in texas"
    told = near_copies(
        made([text, "something else was said here", text.upper(), text + " https://a.b/c @you $A"]), CLOSES
    )
    assert told["earlier"].tolist() == [False, False, True, True] and told["copies"].tolist() == [3, 1, 3, 3]
    alone = near_copies(made([text, "later words are not the same at all"]), CLOSES)
    assert not alone["earlier"].any(), "a later copy makes no earlier post a duplicate"


def test_one_link_by_chance_joins_nobody_to_a_crowd():
    rng = np.random.default_rng(5)
    words = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "bdfgklm"]
    template, honest = rng.choice(words, 14, replace=False), rng.choice(words, 10, replace=False)
    bots = [" ".join(np.where(rng.permutation(14) < 4, rng.choice(words, 14), template)) for _ in range(30)]
    text = " ".join([*honest[:6], *bots[7].split()[:7]])
    told = near_copies(made([*bots, text]), CLOSES)
    assert sum(jaccard(word_set(text), word_set(bot)) >= 0.3 for bot in bots) == 1
    assert told["copies"].iloc[-1] == 1 and (told["copies"].iloc[:-1] == 30).all()


def test_honest_strangers_keep_their_vote_beside_a_campaign(crowd):
    both = plant(crowd, bot_campaign(CLOSES, DAY, "A", share=0.3, templates=50, mood=-2, seed=41))
    before, after = (post_votes(posts, CLOSES).query("session == @DAY") for posts in (crowd, both))
    bots = after["author"].str.startswith("bot")
    assert before["stranger"].any() and after["stranger_vote"][~bots].eq(1).all()
    assert after["vote"][bots].sum() < 0.1 and after["vote"][~bots].sum() > 0.9 * before["vote"].sum()


def test_a_campaign_does_not_become_usual(crowd):
    told = [near_copies(p, CLOSES).assign(symbol="A") for p in (crowd, plant(crowd, bot_campaign(CLOSES, DAY, "A")))]
    pd.testing.assert_frame_equal(*(usual_counts(part, CLOSES) for part in told))


def test_a_copy_is_remembered_for_the_lookback_and_no_longer():
    text = "the new factory opens before summer in texas"
    times = CLOSES.iloc[[2, 7, 13]].reset_index(drop=True)
    posts = made([text] * 3).assign(event_time=times, known_at=times)
    assert near_copies(posts, CLOSES)["earlier"].tolist() == [False, True, False]
    assert near_copies(posts, CLOSES, lookback=4)["earlier"].tolist() == [False] * 3
    near = "the new factory opens after autumn in texas"
    posts = posts.assign(text=[text, near, text])
    assert not near_copies(posts, CLOSES)["earlier"].any(), "a rewording of days ago is a text of its own"


def test_what_is_compared():
    assert word_set("RT @a $AAPL it is up!! https://t.co/1") == frozenset() and jaccard(frozenset(), frozenset()) == 1
    assert word_set("Größe, größe und MEHR") == {"größe", "und", "mehr"}
    assert near_copies(made(["up 5%", "up 7%", ""]), CLOSES)["earlier"].tolist() == [False, True, True]


def test_votes_by_hand():
    at = {"session": DAY, "symbol": "A"}
    frame = pd.DataFrame({"earlier": [False, True], "copies": [11, 11], "usual": [np.nan, 20.0]}).assign(**at)
    assert copy_votes(frame).tolist() == [0.5, 0]
    flood = pd.DataFrame({"earlier": False, "copies": [3] + [11] * 99, "usual": 10.0}).assign(**at)
    assert np.allclose(copy_votes(flood), [1 / 1.04] + [1 / 101] * 99), "more copies do not weigh on fewer"
    same = pd.DataFrame({"session": DAY, "symbol": "A", "author": ["x"] * 4 + [None] * 2, "vote": 1.0})
    assert author_votes(same, cap=1).tolist() == [0.25] * 4 + [1, 1] and author_votes(same, cap=2).sum() == 4
    crowd = same.assign(vote=[1.0, 0, 0, 0, 1, 0], stranger=[True] * 4 + [False] * 2, count=1000, usual=20.0)
    assert (stranger_votes(crowd.assign(usual_strangers=np.nan)) == 1).all(), "two votes are what strangers keep"
    crowd = pd.concat([crowd] * 8, ignore_index=True)  # 8 votes of 32 strangers
    assert stranger_votes(crowd.assign(usual_strangers=0.0)).tolist() == ([0.25] * 4 + [1] * 2) * 8
    assert stranger_votes(crowd.assign(usual_strangers=4.0)).eq(1).all()
    assert stranger_votes(crowd.assign(usual_strangers=0.0, count=60)).eq(1).all(), "no burst"
    loud = pd.DataFrame({"session": DAY, "symbol": "A", "author": ["x"] * 8 + ["y"] * 4, "vote": 1.0})
    assert author_votes(loud).tolist() == [0.5] * 8 + [1] * 4, "an author has four votes where nothing else is asked"
    assert age_votes(pd.Series([CLOSES.iloc[0]]), pd.Series([SESSIONS[0]]), CLOSES).tolist() == [1]
    assert reach_votes(pd.Series([np.nan, 100.0, 0.0, 1e12])).tolist() == [1, 1, 0.5, 2]


def test_the_score_by_hand():
    votes = pd.DataFrame({"session": SESSIONS[1], "symbol": "A", "vote": [1.0, 1.0], "tone": [0.5, 0.7]})
    score = tone_score(votes, CLOSES)
    s2 = (1.25 + 2 * 0.01) / 7
    told, prior = 2 / s2, 16
    assert len(score) == len(SESSIONS) - 1
    assert np.isclose(score["tone"].iloc[0], 0.6 * told / (told + prior))
    assert np.isclose(score["doubt"].iloc[0], (told + prior) ** -0.5) and score["posts"].iloc[0] == 2
    fade = 0.5**0.2
    assert np.isclose(score["tone"].iloc[1], fade * 1.2 / (10 + fade * 2)) and score["doubt"].iloc[1] == 0.25
    silent = tone_score(votes.assign(tone=np.nan), CLOSES)
    assert (silent["tone"] == 0).all() and (silent["posts"] == 0).all() and silent["raw_posts"].iloc[0] == 2


def test_doubt_falls_with_posts_and_tone_stays_inside(crowd):
    score = robust_score(crowd, CLOSES)
    few = robust_score(crowd.iloc[::10], CLOSES)
    assert (few["doubt"].mean() > 1.5 * score["doubt"].mean()) and (score["doubt"] > 0).all()
    assert score["tone"].between(-1, 1).all() and (score["posts"] > 0).all()
    loud = robust_score(made(["great excellent superb happy win"] * 1), CLOSES)
    assert 0 < loud["tone"].iloc[0] < 0.5, "one post is not believed"


def test_an_edit_enters_when_it_is_known_and_an_unchanged_one_not_at_all():
    first = made(["a great and superb day for the whole company"])
    later = CLOSES.iloc[12]
    small = first.assign(revision=1, known_at=later, text=first["text"] + " indeed")
    big = first.assign(revision=1, known_at=later, text="terrible awful news, horrible losses were announced here")
    base = tones(first)
    pd.testing.assert_series_equal(tones(pd.concat([first, small])), base)
    moved = tones(pd.concat([first, big])) - base
    assert (moved.loc[: SESSIONS[11]] == 0).all() and moved[SESSIONS[12]] < 0
    same_day = first.assign(revision=1, known_at=CLOSES.iloc[10], text="terrible awful news, horrible losses")
    assert tones(pd.concat([first, same_day])).iloc[0] < 0, "of several in a session the last counts"


def test_empty_and_outside():
    none = robust_score(empty_posts(), CLOSES)
    assert none.empty and list(none) == ["tone", "doubt", "posts", "raw_posts"] and none.index.nlevels == 2
    ancient = made(["great news today"]).assign(
        event_time=pd.Timestamp("2001-01-01", tz="UTC"), known_at=pd.Timestamp("2001-01-01", tz="UTC")
    )
    assert robust_score(ancient, CLOSES).empty
    unreadable = robust_score(made(["https://a.b/c", ""]), CLOSES)
    assert unreadable["tone"].eq(0).all() and unreadable["raw_posts"].iloc[0] == 2


def test_bars_around_the_clock(crowd):
    ends = session_closes(pd.date_range("2024-01-01 04:00", periods=60, freq="4h", tz="UTC", unit="us"))
    posts = synth_posts(ends, ["BTCUSDT"], 5.0, seed=1).posts
    score = robust_score(posts, ends)
    assert len(score) == 60 and score.index.get_level_values("date").tz is not None
    assert tones(posts, ends).corr(plain(posts, ends)) > 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"threshold": np.nan},
        {"lookback": -1},
        {"tolerance": 0.0},
        {"cap": 0.0},
        {"half_life": 0.0},
        {"memory": 0.0},
        {"tau": -1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(crowd, options):
    with pytest.raises(ConfigError):
        robust_score(crowd.head(30), CLOSES, **options)


def test_an_author_has_four_votes_in_the_score_too(crowd):
    one = crowd[event_sessions(crowd["known_at"], CLOSES) == DAY].head(9).assign(author="x", reach=np.nan)
    held = [post_votes(one, CLOSES, **cap)["author_vote"].sum() for cap in ({}, {"cap": 1})]
    assert np.allclose(held, [4, 1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda posts: near_copies(None, CLOSES), "posts is None; give a DataFrame"),
        (lambda posts: near_copies(posts, CLOSES, lookback=True), "lookback is True, a bool; give an int"),
        (lambda posts: near_copies(posts.drop(columns="text"), CLOSES), "posts lack the columns text; give known_at"),
        (lambda posts: tone_score(pd.DataFrame(), CLOSES), "votes lack the columns session, symbol, vote, tone; give"),
        (lambda posts: tone_score(posts, None), "votes lack the columns session, vote"),
        (lambda posts: copy_votes(None), "copies is None; give a DataFrame"),
        (lambda posts: author_votes(None), "votes is None; give a DataFrame"),
        (lambda posts: stranger_votes(pd.DataFrame()), "votes lack the columns session, symbol, stranger"),
        (lambda posts: usual_counts(posts, CLOSES), "told lack the columns session, copies"),
        (lambda posts: robust_score(posts, CLOSES, read, cap="x"), "cap is 'x', a str; give an int or a float"),
        (lambda posts: robust_score(posts, CLOSES, read, tau=np.inf), "tau inf"),
        (lambda posts: robust_score(posts, CLOSES, None), "read_tone is None; give a Callable"),
        (lambda posts: robust_score(posts, CLOSES, read, burst=0.0), "burst is 0.0; give"),
        (lambda posts: reach_votes([1.0]), "reach is [1.0], a list; give a Series"),
        (lambda posts: age_votes(None, None, CLOSES), "event_time is None; give a Series"),
        (lambda posts: jaccard({"a"}, "a"), "one is {'a'}, a set; give a frozenset"),
    ],
)
def test_what_is_no_table_or_no_number_is_named(crowd, call, says):
    with pytest.raises((ConfigError, DataError)) as caught:
        call(crowd.head(30))
    assert says in str(caught.value)


def test_the_stored_figures_are_those_that_the_notebook_tells():
    stored = json.loads((root() / "bench" / "results" / "robust.json").read_text())
    clean = pd.DataFrame(stored["clean"]).set_index("cap")
    assert clean.loc[4, "q95"] < 0.001 and clean.loc[4, "worst"] < 0.002 and clean.loc[1, "q95"] > 0.13
    moved = pd.DataFrame(stored["rates"])
    assert moved["max"].max() < 0.1 and moved["other_max"].max() < 0.02 and moved["kept"].min() > 0.8


def test_tones_out_of_bounds_and_an_unknown_reader_are_refused(crowd):
    with pytest.raises(DataError, match="from -1 to 1"):
        robust_score(crowd.head(30), CLOSES, read_tone=lambda texts: texts.str.len())


@pytest.mark.slow
def test_a_hundred_thousand_posts_in_a_minute():
    closes = session_closes(sample_bars("AAPL", "2021-01-04", "2022-12-30").index.unique("date"))
    posts = synth_posts(closes, list("ABCDEFGHIJ"), per_session=20, seed=1).posts
    start = time.process_time()
    robust_score(posts, closes, read_tone=lambda texts: pd.Series(0.0, index=texts.index))
    assert len(posts) > 99_000 and time.process_time() - start < 60


TWEETS = root().parent / "shared" / "data" / "text" / "stocknet_tweets_2014_2015.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not TWEETS.is_file(), reason="StockNet's tweets are not on this machine")
@pytest.mark.parametrize("symbol", ["XOM", "BAC", "GE", "KO"])
def test_recorded_tweets_that_nothing_was_tuned_on(symbol):
    from quantlab.data.calendar import schedule

    raw = pd.read_parquet(TWEETS).query("symbol == @symbol")
    at = raw["created_at"].dt.as_unit("us")
    posts = {"event_time": at, "known_at": at, "symbol": symbol, "source": "stocknet", "kind": "post", "revision": 0}
    posts = pd.DataFrame(posts | {"author": None, "reach": np.nan, "text": raw["text"]})
    posts = check_posts(posts.assign(id=[f"t{n}" for n in range(len(posts))]))
    closes = schedule("XNYS", pd.Timestamp("2013-12-30"), pd.Timestamp("2016-01-05"))["close"].rename("XNYS")
    clean, before = tones(posts, closes), plain(posts, closes)
    day = clean.index[240]
    for options in CAMPAIGNS.values():
        moved = (
            tones(plant(posts, bot_campaign(closes, day, symbol, seed=51, **options)), closes) - clean
        ) / clean.std()
        assert abs(moved[day]) < 0.1 and moved.drop(day).abs().max() < 0.02
    both = plant(posts, genuine_burst(closes, day, symbol, seed=51))
    assert (tones(both, closes) - clean)[day] / (plain(both, closes)[day] - before.get(day, 0.0)) > 0.8
