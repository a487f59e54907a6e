"""altdata.social: answers of another shape are one error of ours; a day alone is known at its end, never before."""

import json
from unittest.mock import patch

import pandas as pd
import pytest

from quantlab.altdata import social
from quantlab.altdata.events import event_sessions, known_next_close, session_closes
from quantlab.altdata.filings import acceptance_time
from quantlab.altdata.social import CryptoPanic, Inbox, JsonFeed, Reddit, collect_posts
from quantlab.core.errors import DataError, QuantlabError
from quantlab.vendors.base import TemporaryError

FIELDS = {"id": "id", "symbol": "on", "event_time": "at", "text": "text", "author": "who", "reach": "n"}
ODD = [None, 7, 10**400, "x", True, [], [3], [[]], [None], {}, {"a": 1}, {"": 1}]
TIME = "2024-03-01T10:00:00Z"
GOOD = {
    "cryptopanic": {
        "results": [{"id": 1, "title": "t", "published_at": TIME, "currencies": [{"code": "BTC"}],
                     "votes": {"liked": 3}, "source": {"domain": "d"}}], "next": None,
    },
    "reddit_coins": {"data": {"children": [{"data": {"name": "t3_1", "title": "BTC", "created_utc": 1.7e9,
                                                     "author": "ann", "score": 3}}], "after": None}},
    "mine": {"posts": [{"id": 1, "on": "A", "at": TIME, "text": "t", "who": "ann", "n": 3}], "meta": {"next": None}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("REDDIT_TOKEN", "abc123abc123")
    monkeypatch.setenv("CRYPTOPANIC_API_KEY", "abc123abc123")


def feed_of(name, **more):
    return {
        "cryptopanic": lambda: CryptoPanic({"BTC": "BTCUSDT"}, per_second=1e9),
        "reddit_coins": lambda: Reddit("coins", {"BTC": "BTCUSDT"}, per_second=1e9),
        "mine": lambda: JsonFeed(
            "mine", "https://news.example/p", FIELDS, "posts", "meta.next", per_second=1e9, sleep=lambda s: None, **more
        ),
    }[name]()


def places(tree, at=()):
    "List the paths of everything in a document, the whole first."
    yield at
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, part in parts:
        yield from places(part, (*at, name))


def altered(tree, at, value):
    if not at:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = altered(tree[at[0]], at[1:], value)
    return copy


@pytest.mark.parametrize("name", GOOD)
def test_whatever_stands_anywhere_in_an_answer_it_is_read_or_refused_in_the_name_of_the_service(tmp_path, name):
    inbox, refused = Inbox(tmp_path / "p.sqlite"), 0
    for at in places(GOOD[name]):
        for value in ODD:
            answer = altered(GOOD[name], at, value)
            with patch.object(social, "get_json", lambda *a, answer=answer, **b: answer):
                try:
                    list(feed_of(name).pages())
                    collect_posts(feed_of(name), inbox, lambda: pd.Timestamp("2024-04-01", tz="UTC"))
                    inbox.read()
                except DataError as error:
                    refused += 1
                    assert name in str(error) and error.__cause__ is None, (at, value)
    assert refused > 40


@pytest.mark.parametrize(("name", "at", "value", "says"), [
    ("mine", (), [], "mine sent a list with nothing at 'posts', expected a list of posts"),
    ("mine", (), None, "mine sent nothing with nothing at 'posts'"),
    ("mine", ("posts", 0), 5, "mine sent a number in the list at 'posts'"),
    ("mine", ("meta", "next"), {"a": 1}, "mine names as next page an object, no address; expected one, or nothing"),
    ("mine", ("meta", "next"), 0, "mine names as next page a number"),
    ("reddit_coins", ("data", "after"), [1], "reddit_coins has a list at 'data.after', expected a text"),
    ("reddit_coins", ("data", "children", 0, "data"), [1], "has a list at 'data', expected an object"),
    ("cryptopanic", ("results", 0, "currencies"), 3, "post 1 of cryptopanic has a number at 'currencies', expected a"),
    ("cryptopanic", ("results", 0, "currencies", 0, "code"), [], "has a list at 'code', expected a text"),
    ("cryptopanic", ("results", 0, "source", "domain"), {}, "has an object at 'source.domain', expected a text"),
])  # fmt: skip
def test_the_error_says_who_what_came_and_what_was_expected(name, at, value, says):
    with patch.object(social, "get_json", lambda *a, **b: altered(GOOD[name], at, value)):
        with pytest.raises(DataError) as caught:
            list(feed_of(name).pages())
    assert says in str(caught.value)


def test_an_empty_body_is_told_in_the_name_of_the_service():
    empty = patch.object(social, "get_json", side_effect=TemporaryError("https://news.example/p did not answer whole"))
    with empty, pytest.raises(TemporaryError, match="^mine: https://news.example/p did not answer whole"):
        list(feed_of("mine").pages())


NEW_YORK = session_closes(pd.DatetimeIndex(["2024-03-04", "2024-03-05", "2024-03-06"]))


DAYS_ALONE = ["2024-03-04", "2024/03/04", "20240304", "Mon, 4 Mar 2024", " 4 Mar 2024 "]
MIDNIGHTS = ["2024-03-04 00:00", "2024-03-04T00:00:00.000", "4 Mar 2024 00:00", "4 Mar 2024 12:00 AM", "20240304T00"]


@pytest.mark.parametrize("written", [*DAYS_ALONE, *MIDNIGHTS, "2024-03-04 -10:00", "2024-03-04 -1000"])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
def test_a_day_alone_is_known_when_it_has_ended_everywhere(tmp_path, written, zone):
    inbox, later = Inbox(tmp_path / "p.sqlite"), pd.Timestamp("2024-04-01", tz="UTC")
    answer = json.loads(json.dumps(GOOD["mine"]))
    answer["posts"][0]["at"] = written
    with patch.object(social, "get_json", lambda *a, **b: answer):
        collect_posts(feed_of("mine", zone=zone), inbox, lambda: later, backfill=True)
    post = inbox.read().iloc[0]
    assert post["known_at"] == pd.Timestamp("2024-03-05 12:00", tz="UTC") and post["event_time"] < post["known_at"]
    session = event_sessions(inbox.read()["known_at"], NEW_YORK).iloc[0]
    assert NEW_YORK[session] == known_next_close(pd.DatetimeIndex(["2024-03-04"]), NEW_YORK).iloc[0]


def test_a_day_alone_that_was_seen_before_it_ended_is_known_when_it_was_seen(tmp_path):
    inbox, seen = Inbox(tmp_path / "p.sqlite"), pd.Timestamp("2024-03-04 15:00", tz="UTC")
    answer = {"posts": [GOOD["mine"]["posts"][0] | {"at": "2024-03-04"}]}
    with patch.object(social, "get_json", lambda *a, **b: answer):
        for backfill in (True, False):
            collect_posts(feed_of("mine", zone="UTC"), inbox, lambda: seen, backfill=backfill)
    assert inbox.read()["known_at"].tolist() == [seen]


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        *((f"2024-03-04{gap}10:00{end}", "10:00") for gap in (" - ", " T", " ", "T", " at ") for end in ("Z", "+0000")),
        ("2024-03-04 - 10:00", "10:00"), ("4 Mar 2024 - 11:00 +0100", "10:00"), ("4 Mar 2024 10:00 GMT", "10:00"),
        ("2024-03-04T00:00Z", "00:00"), ("2024-03-04 - 00:00Z", "00:00"), ("2024-03-04 T00:00+00:00", "00:00"),
        ("4 Mar 2024 12:00 AM +0000", "00:00"), ("20240304T00Z", "00:00"), ("4 Mar 2024 00:00 GMT", "00:00"),
        (1709510400, "00:00"), ("2024-03-04T00:00:01", "00:00:01"),
    ],
)  # fmt: skip
def test_an_hour_that_is_told_is_an_instant_and_so_is_a_midnight_with_its_offset(tmp_path, written, utc):
    inbox = Inbox(tmp_path / "p.sqlite")
    answer = {"posts": [GOOD["mine"]["posts"][0] | {"at": written}]}
    with patch.object(social, "get_json", lambda *a, **b: answer):
        collect_posts(feed_of("mine", zone="UTC"), inbox, lambda: pd.Timestamp("2024-04-01", tz="UTC"), backfill=True)
    assert inbox.read()["known_at"].iloc[0] == pd.Timestamp(f"2024-03-04 {utc}", tz="UTC")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"since": 3}, "since is 3, an int; give a Timestamp or None"), ({"since": pd.NaT}, "since is NaT"),
        ({"since": pd.Timestamp("2024-03-04")}, "an instant without a zone; give one"),
        ({"now": lambda: None}, "'None' is a NoneType, no instant; give one"), ({"now": None}, "now is None"),
        ({"now": lambda: TIME}, "is a str, no instant"), ({"overlap": "x"}, "overlap is 'x'"),
        ({"overlap": float("nan")}, "overlap is nan; give hours"), ({"overlap": -1.0}, "overlap is -1.0; give hours"),
        ({"backfill": "x"}, "backfill is 'x', a str; give a bool"),
    ],
)  # fmt: skip
def test_a_pass_refuses_what_it_cannot_use_and_stores_nothing(tmp_path, given, says):
    inbox = Inbox(tmp_path / "p.sqlite")
    usual = {"feed": feed_of("mine"), "inbox": inbox, "now": lambda: pd.Timestamp("2024-04-01", tz="UTC")}
    with patch.object(social, "get_json", lambda *a, **b: GOOD["mine"]), pytest.raises(QuantlabError) as caught:
        collect_posts(**(usual | given))
    assert says in str(caught.value) and inbox.read().empty


def test_an_acceptance_at_midnight_tells_the_day_alone():
    assert acceptance_time("20240207000000") is pd.NaT and acceptance_time("1995-05-10T00:00:00.000Z") is pd.NaT
