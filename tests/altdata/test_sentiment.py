"""Sentiment: impossible posts are refused, hidden marks go, tones stand in their range, word lists know their year."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.altdata import sentiment
from quantlab.altdata.sentiment import (
    POST_COLUMNS,
    Lexicon,
    check_posts,
    clean_text,
    empty_posts,
    lexicon_tone,
    read_lexicon,
    vader_tone,
)
from quantlab.core.errors import ConfigError, DataError

HEADER = (
    "Word,Seq_num,Word Count,Negative,Positive,Uncertainty,Litigious,Strong_Modal,Weak_Modal,Constraining,Syllables"
)


def posts(**changes) -> pd.DataFrame:
    clock = pd.to_datetime(["2024-05-06T14:30:00Z", "2024-05-06T14:31:00Z"]).astype("datetime64[us, UTC]")
    made = {
        "event_time": clock,
        "known_at": clock,
        "symbol": ["A", "B"],
        "source": "made",
        "kind": "post",
        "revision": 0,
        "id": ["1", "2"],
        "author": ["ann", None],
        "reach": [3.0, np.nan],
        "text": ["up", "down"],
    }
    return pd.DataFrame(made | changes)


def lexicon_file(folder, lines: list[str], header: str = HEADER):
    file = folder / "dictionary.csv"
    file.write_text("\n".join([header, *lines]))
    return file


def test_good_posts_pass_in_order_and_are_left_as_they_were():
    given_posts = posts(known_at=pd.to_datetime(["2024-05-06T15:00:00Z", "2024-05-06T14:40:00Z"]))
    before = given_posts.copy()
    checked = check_posts(given_posts)
    assert checked["id"].tolist() == ["2", "1"] and checked["reach"].dtype == "float64"
    pd.testing.assert_frame_equal(given_posts, before)
    pd.testing.assert_frame_equal(check_posts(checked), checked)


def test_one_post_may_speak_of_two_symbols():
    assert len(check_posts(posts(id=["1", "1"]))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reach": [-1.0, 2.0]}, "reach"),
        ({"reach": [np.inf, 2.0]}, "reach"),
        ({"reach": ["many", "2"]}, "reach"),
        ({"tone": [1.2, 0.0]}, "tone"),
        ({"tone": [-np.inf, 0.0]}, "tone"),
        ({"tone": ["good", "bad"]}, "tone"),
        ({"text": [None, "x"]}, "text"),
        ({"text": [3, "x"]}, "text"),
        ({"author": [3, "x"]}, "author"),
        ({"kind": "filing"}, "kind"),
        ({"id": [None, "2"]}, "id"),
        ({"symbol": [None, "B"]}, "symbol"),
        ({"event_time": pd.to_datetime(["2024-05-06", "2024-05-06"])}, "event_time"),
        ({"known_at": pd.to_datetime(["2024-05-06", "2024-05-06"])}, "known_at"),
        ({"known_at": pd.to_datetime(["2024-05-05T00:00Z", "2024-05-06T15:00Z"])}, "known_at"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        check_posts(posts(**changes))


@pytest.mark.parametrize("column", POST_COLUMNS)
def test_a_missing_column_is_named(column):
    with pytest.raises(DataError, match=column):
        check_posts(posts().drop(columns=column))
    with pytest.raises(DataError, match=column):
        check_posts(empty_posts().drop(columns=column))


def test_the_same_post_twice_is_refused():
    twice = pd.concat([posts(), posts().iloc[:1]])
    with pytest.raises(DataError):
        check_posts(twice)


def test_empty_frames_keep_their_columns_and_types():
    kinds = empty_posts().dtypes
    assert list(empty_posts()) == POST_COLUMNS and str(kinds["known_at"]) == "datetime64[us, UTC]"
    pd.testing.assert_frame_equal(check_posts(pd.DataFrame(columns=POST_COLUMNS)), empty_posts())
    kept = check_posts(posts(tone=[0.1, 0.2]).iloc[:0])
    assert list(kept) == [*POST_COLUMNS, "tone"] and kept.empty
    pd.testing.assert_series_equal(check_posts(posts()).dtypes, kinds)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("see https://t.co/abc?x=1 now", "see now"),
        ("see www.example.com/a and t.co/xyz", "see and"),
        ("RT @ann_1: strong", "strong"),
        ("thanks @ann", "thanks"),
        ("u/ann and /u/bo said", "and said"),
        ("mail ann@example.com", "mail ann@example.com"),
        ("$AAPL up, $BRK.B, $BTC-USD and $btc.x", "up, , and"),
        ("it costs $5 or $5M", "it costs $5 or $5M"),
        ("a &amp; b &lt;3 &#39;x&#39;", "a & b <3 'x'"),
        ("a &amp;amp; b", "a & b"),
        ("b\u200bu\u200cy\ufeff n\u2060ow", "buy now"),
        ("\u202ebuy\u202c \u200fnow\u200e", "buy now"),
        ("&#8203;b&#x200b;uy", "buy"),
        ("soft\u00adware", "software"),
        ("isn\u2019t", "isn't"),
        ("goooood 1000 !!!! ---", "good 1000 !!!! ---"),
        ("\U0001d401\U0001d414\U0001d418 \uff22\uff35\uff39", "BUY BUY"),
        ("up \U0001f680\U0001f680\U0001f680 \U0001f600", "up \U0001f680\U0001f680\U0001f680 \U0001f600"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("a\x00b\x1b[0m\nline\ttwo", "ab[0m line two"),
        ("broken \ud800 half", "broken half"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_cleaning_by_example(text, clean):
    assert clean_text(text) == clean


PIECES = [
    "https://t.co/x",
    "@ann",
    "RT",
    "$AAPL",
    "&amp;",
    "&lt;",
    "\u200b",
    "\u202e",
    "gooood",
    "\U0001f680",
    "\u2019",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=8), st.sampled_from(["", " "]))
def test_cleaned_text_is_one_line_without_hidden_marks(parts, joint):
    clean = clean_text(joint.join(parts))
    assert "\u200b" not in clean and "\u202e" not in clean and clean == " ".join(clean.split())
    clean.encode("utf-8")


@given(st.lists(st.sampled_from([p for p in PIECES if p != "&amp;"]), max_size=8))
def test_cleaning_twice_changes_nothing(parts):
    clean = clean_text(" ".join(parts))
    assert clean_text(clean) == clean


@pytest.mark.parametrize(
    "text", ["a.a-" * 200_000, "@" * 500_000, "&amp;" * 200_000, "http" * 200_000, "but x " * 99_999]
)
def test_a_hostile_text_ends_soon(text):
    assert vader_tone([text]).between(-1, 1).all() or clean_text(text) == ""


@pytest.mark.parametrize("text", [None, 3, np.nan, b"x", ["x"]])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(DataError, match="give a str"):
        clean_text(text)


def test_vader_is_called_as_it_is_and_once_per_text(monkeypatch):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    said = ["a great day", "not a great day", "AWFUL!!!", "the day", "I love it \U0001f600"]
    theirs = [SentimentIntensityAnalyzer().polarity_scores(text)["compound"] for text in said]
    assert vader_tone(said).tolist() == theirs
    asked = []

    class Reader:
        def polarity_scores(self, text):
            asked.append(text)
            return {"compound": 0.5}

    monkeypatch.setattr(sentiment, "_vader", Reader)
    assert vader_tone(["same"] * 50 + ["other"]).tolist() == [0.5] * 51 and asked == ["same", "other"]


def test_tones_keep_their_index_and_their_gaps():
    texts = pd.Series(["good", None, "https://a.b/c", np.nan], index=list("wxyz"))
    tone = vader_tone(texts)
    assert tone.index.tolist() == list("wxyz") and tone.isna().tolist() == [False, True, True, True]
    assert tone.name == "tone" and vader_tone(pd.Series([], dtype="str")).dtype == "float64"
    with pytest.raises(DataError, match="give a str"):
        vader_tone(["good", 3])


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    sentiment._vader.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(ConfigError, match=r"\.\[text\]"):
        vader_tone(["good"])


def test_a_word_list_knows_its_year(tmp_path):
    lines = [
        "LOSS,1,5,2009,0,0,0,0,0,0,1",
        "DOUBTS,2,5,2020,0,2020,0,0,0,0,1",
        "COST,3,5,-2014,0,0,0,0,0,0,1",
        "GAIN,4,5,0,2009,0,0,0,0,0,1",
        "NULL,5,5,2009,0,0,0,0,0,0,1",
        "NAN,6,5,0,0,0,0,0,0,0,1",
    ]
    file = lexicon_file(tmp_path, lines)
    assert read_lexicon(file).categories["negative"] == {"LOSS", "DOUBTS", "NULL"}
    assert read_lexicon(file, 2013).categories["negative"] == {"LOSS", "COST", "NULL"}
    assert read_lexicon(file, 2014).categories["negative"] == {"LOSS", "NULL"}
    assert read_lexicon(file, 2020).categories["uncertainty"] == {"DOUBTS"}
    assert set(read_lexicon(file).categories) >= {"negative", "positive", "litigious", "strong_modal"}
    with pytest.raises(DataError, match="by the end of 1990"):
        read_lexicon(lexicon_file(tmp_path, [lines[0], lines[3]]), 1990)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no CSV"),
        ("Word,Positive\nGAIN,2009", "lacks the columns Negative"),
        (HEADER + "\nLOSS,1,5,many,0,0,0,0,0,0,1", "is no year"),
        (HEADER, "holds no positive or negative word"),
        (HEADER + '\nLOSS,1,5,2009,"0,0,0', "is no "),
    ],
)
def test_a_broken_word_list_is_refused(tmp_path, content, message):
    file = tmp_path / "dictionary.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_lexicon(file)


def test_a_path_without_a_word_list_says_where_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="Master Dictionary"):
        read_lexicon(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="Master Dictionary"):
        read_lexicon(tmp_path)


def test_bytes_of_another_encoding_do_not_stop_the_reader(tmp_path):
    file = tmp_path / "dictionary.csv"
    file.write_bytes(b"\xef\xbb\xbfWord,Negative,Positive\nLOSS,2009,0\nCAF\xe9,2009,0\nGAIN,0,2009\n")
    assert "LOSS" in read_lexicon(file).categories["negative"]


LIST = Lexicon({"negative": frozenset(["LOSS"]), "positive": frozenset(["GAIN"]), "uncertainty": frozenset(["MAY"])})


@pytest.mark.parametrize(
    ("text", "tone"),
    [
        ("a gain", 1.0),
        ("a loss", -1.0),
        ("gain, gain, loss", 1 / 3),
        ("not a gain", -1.0),
        ("not in any way a gain", 1.0),  # four words before
        ("not a loss", -1.0),
        ("a day", 0.0),
        ("123 !", np.nan),
        (None, np.nan),
    ],
)
def test_a_list_reads_by_hand(text, tone):
    assert lexicon_tone([text], LIST)["tone"][0] == pytest.approx(tone, nan_ok=True)


def test_shares_are_of_all_words():
    read = lexicon_tone(pd.Series(["it may gain", "LOSS"], index=[7, 7]), LIST)
    assert read.index.tolist() == [7, 7] and read["n_words"].tolist() == [3, 1]
    assert read["uncertainty"].tolist() == [pytest.approx(1 / 3), 0] and read["negative"].tolist() == [0, 1]
    assert list(lexicon_tone([], LIST)) == ["tone", "n_words", "negative", "positive", "uncertainty"]
