"""altdata.social: services on this machine that misbehave; nothing lost, nothing doubled, clear errors."""

import json
import sqlite3
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from quantlab.altdata.events import current_events, session_closes
from quantlab.altdata.sentiment import POST_COLUMNS
from quantlab.altdata.social import (
    CryptoPanic,
    Inbox,
    JsonFeed,
    Reddit,
    ask_json,
    collect_posts,
    read_posts,
)
from quantlab.core.errors import ConfigError, DataError, QuantlabError
from quantlab.vendors.base import TemporaryError

NOW = pd.Timestamp("2024-03-10 12:00", tz="UTC")
FIRST = pd.Timestamp("2024-03-01", tz="UTC")
KEY = "abc123abc123"
FIELDS = {
    "id": "id",
    "symbol": "on",
    "event_time": "at",
    "text": "text",
    "author": "who.name",
    "reach": "who.followers",
}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("REDDIT_TOKEN", KEY)
    monkeypatch.setenv("CRYPTOPANIC_API_KEY", KEY)
    monkeypatch.setenv("MINE_API_KEY", KEY)


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        noted = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                noted.append((self.path, dict(self.headers)))
                url = urlsplit(self.path)
                status, headers, body = answer(url.path, dict(parse_qsl(url.query)), len(noted))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                "Say nothing."

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        server.url, server.noted = f"http://127.0.0.1:{server.server_port}", noted
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Board:
    "A subreddit: posts newest first, a hundred at most a page, failures at given requests."

    def __init__(self, n, size=10, failures=()):
        self.posts = [self.post(i) for i in range(n)]
        self.size, self.failures = size, dict(failures)

    @staticmethod
    def post(i, text=None):
        at = FIRST.timestamp() + 60 * i
        return {"name": f"t3_{i}", "title": text or f"$BTC post {i}", "author": "ann", "score": i, "created_utc": at}

    def __call__(self, path, query, number):
        if number in self.failures:
            return self.failures[number]
        newest = self.posts[::-1]
        start = next((i + 1 for i, p in enumerate(newest) if p["name"] == query.get("after")), 0)
        page = newest[start : start + self.size]
        after = page[-1]["name"] if start + self.size < len(newest) else None
        return 200, {}, json.dumps({"data": {"children": [{"data": p} for p in page], "after": after}}).encode()


def board_feed(server, **options):
    naps = options.pop("naps", [])
    return Reddit("coins", {"BTC": "BTCUSDT"}, per_second=1e9, url=server.url, sleep=naps.append, **options)


def ids(inbox):
    return sorted(inbox.read()["id"], key=lambda name: int(name.split("_")[1]))


FAILURES = {
    "429": (429, {"Retry-After": "7"}, b"{}"),
    "500": (500, {}, b"<html>"),
    "503": (503, {}, b""),
    "truncated": (200, {}, b'{"data": {"children": [{"data": {"name": "t3_1"'),
    "short body": (200, {"Content-Length": "1000"}, b'{"data"'),
    "empty": (200, {}, b""),
    "not utf-8": (200, {}, b'{"data": {"children": "\xff\xfe\xfa"}}'),
    "no list": (200, {}, b'{"data": "later"}'),
    "nothing": (200, {}, b"null"),
}


@pytest.mark.parametrize("name", [n for n in FAILURES if n not in ("no list", "nothing")])
def test_what_passes_is_asked_again_and_nothing_is_lost_or_doubled(serve, tmp_path, name):
    server = serve(Board(35, failures={2: FAILURES[name], 4: FAILURES[name]}))
    inbox, naps = Inbox(tmp_path / "a" / "posts.sqlite"), []
    told = collect_posts(board_feed(server, naps=naps), inbox, lambda: NOW)
    assert told == {"new": 35, "revised": 0, "known": 0, "pages": 4}
    assert ids(inbox) == [f"t3_{i}" for i in range(35)]
    assert ([nap for nap in naps if nap >= 1] == [7, 7]) if name == "429" else len(naps) >= 2


@pytest.mark.parametrize("name", FAILURES)
def test_what_does_not_pass_is_told_and_the_next_call_goes_on(serve, tmp_path, name):
    board = Board(35, failures={n: FAILURES[name] for n in range(3, 100)})
    server, inbox = serve(board), Inbox(tmp_path / "posts.sqlite")
    with pytest.raises(TemporaryError) as caught:
        collect_posts(board_feed(server, attempts=2), inbox, lambda: NOW)
    assert KEY not in str(caught.value) and len(inbox.read()) == 20
    board.failures = {}
    asked = len(server.noted)
    collect_posts(board_feed(server), inbox, lambda: NOW)
    assert ids(inbox) == [f"t3_{i}" for i in range(35)] and not inbox.read().duplicated(["id", "revision"]).any()
    assert "after=t3_15" in server.noted[asked][0], "it goes on at the page it had not stored"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_will_never_pass_is_not_asked_twice(serve, tmp_path, status):
    server = serve(lambda *_: (status, {}, json.dumps({"message": f"token {KEY} refused"}).encode()))
    with pytest.raises(DataError, match=str(status)) as caught:
        collect_posts(board_feed(server), Inbox(tmp_path / "p.sqlite"), lambda: NOW)
    assert len(server.noted) == 1 and KEY not in str(caught.value) and not isinstance(caught.value, TemporaryError)


def test_json_ten_thousand_deep_is_refused_by_name(serve):
    for body in (b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        server = serve(lambda *_, body=body: (200, {}, body))
        with pytest.raises(DataError, match="deep|whole"):
            ask_json(server.url, {}, attempts=1)


def test_fifty_megabytes_are_read_whole_and_a_long_text_is_cut(serve, tmp_path):
    rows = [
        {"id": str(i), "on": "A", "at": "2024-03-01T10:00:00Z", "text": f"{i} " + "x" * 50_000} for i in range(1000)
    ]
    rows[0]["text"] = "y" * 1_000_000
    server = serve(lambda *_: (200, {}, json.dumps({"posts": rows}).encode()))
    inbox = Inbox(tmp_path / "p.sqlite")
    assert collect_posts(JsonFeed("big", server.url, FIELDS, "posts"), inbox, lambda: NOW)["new"] == 1000
    got = inbox.read().set_index("id")
    assert len(got) == 1000 and got.loc["0", "text"] == "y" * 100_000 and got.loc["7", "text"] == rows[7]["text"]


def test_half_letters_zero_bytes_and_wrong_kinds_do_not_end_a_pass(serve, tmp_path):
    rows = (
        '[{"id": 1, "on": ["A", "B"], "at": 1709287200, "text": "half \\ud83d", "who": {"followers": "many"}},'
        '{"id": "2", "on": "A", "at": "2024-03-01T10:00:00+05:00", "text": "zero \\u0000", "who": ["x"]},'
        '{"id": "3", "on": null, "at": "2024-03-01T10:00:00Z", "text": "on nothing"},'
        '{"id": "4", "on": "A", "at": "2024-03-01T10:00:00Z", "text": null, "who": {"name": 7, "followers": -3}},'
        '{"id": "5", "on": "A", "at": "2024-03-01T10:00:00Z", "text": "x", "who": {"followers": Infinity}},'
        '{"id": "6", "on": "A", "at": "2024-03-01T10:00:00Z", "text": "y", "who": {"name": 7, "followers": -3}}]'
    )
    server, inbox = serve(lambda *_: (200, {}, ('{"posts": ' + rows + "}").encode())), Inbox(tmp_path / "p.sqlite")
    collect_posts(JsonFeed("odd", server.url, FIELDS, "posts"), inbox, lambda: NOW)
    got = inbox.read().set_index(["id", "symbol"])
    assert sorted(got.index) == [("1", "A"), ("1", "B"), ("2", "A"), ("5", "A"), ("6", "A")], "no text is no post"
    assert got["text"].to_dict()["1", "A"] == "half ?" and got["text"].to_dict()["2", "A"] == "zero "
    assert got["reach"].to_dict()["6", "A"] == 0 and np.isnan(got["reach"].to_dict()["5", "A"])
    assert got["event_time"].to_dict()["2", "A"] == pd.Timestamp("2024-03-01 05:00", tz="UTC")


@pytest.mark.parametrize(
    "time",
    ["2024-03-01 10:00", "soon", None, "", True, 1e300, [1], {"a": 1}, 1709640000000, -1e11, float("nan")]
    + ["0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "17:00Z", "1700Z", "17:00 UTC 2024", "2024-13-45T10:00Z"],
)
def test_a_time_that_is_none_is_a_data_error_and_stores_nothing(serve, tmp_path, time):
    rows = [{"id": "1", "on": "A", "at": "2024-03-01T10:00:00Z", "text": "x"}, {"id": "2", "on": "A", "at": time}]
    server, inbox = serve(lambda *_: (200, {}, json.dumps({"posts": rows}).encode())), Inbox(tmp_path / "p.sqlite")
    with pytest.raises(DataError, match="post 2 of odd is dated"):
        collect_posts(JsonFeed("odd", server.url, FIELDS, "posts"), inbox, lambda: NOW)
    assert inbox.read().empty


def test_a_killed_pass_goes_on_whenever_it_is_killed(serve, tmp_path):
    for after in range(1, 5):
        board = Board(35)
        server, inbox, calls = serve(board), Inbox(tmp_path / f"{after}.sqlite"), []

        def clock(calls=calls, after=after):
            calls.append(0)
            if len(calls) == after:
                raise KeyboardInterrupt
            return NOW

        with pytest.raises(KeyboardInterrupt):
            collect_posts(board_feed(server), inbox, clock)
        assert len(inbox.read()) == 10 * (after - 1)
        board.posts += [Board.post(i) for i in range(35, 48)]  # the board goes on while we are away
        collect_posts(board_feed(server), inbox, lambda: NOW)
        assert ids(inbox) == [f"t3_{i}" for i in range(48)]


def test_a_later_pass_stops_at_the_mark_and_sees_edits(serve, tmp_path):
    board = Board(3000, size=100)
    server, inbox = serve(board), Inbox(tmp_path / "p.sqlite")
    collect_posts(board_feed(server), inbox, lambda: NOW)
    board.posts[2990] = Board.post(2990, "$BTC edited")
    board.posts += [Board.post(i) for i in range(3000, 3005)]
    asked, later = len(server.noted), NOW + pd.Timedelta(hours=1)
    told = collect_posts(board_feed(server), inbox, lambda: later, overlap=2.0)
    assert told["new"] == 5 and told["revised"] == 1 and len(server.noted) - asked < 5
    two = inbox.read().query("id == 't3_2990'")
    assert two["revision"].tolist() == [0, 1] and two["known_at"].tolist() == [NOW, later]
    assert current_events(inbox.read(), NOW).query("id == 't3_2990'")["text"].tolist() == ["$BTC post 2990"]


def test_live_reads_prove_themselves_and_backfills_say_what_they_are(serve, tmp_path):
    server = serve(Board(3))
    live, back = Inbox(tmp_path / "live.sqlite"), Inbox(tmp_path / "back.sqlite")
    collect_posts(board_feed(server), live, lambda: NOW)
    collect_posts(board_feed(server), back, lambda: NOW, backfill=True)
    assert (live.read()["known_at"] == NOW).all() and not live.read()["backfilled"].any()
    past = back.read()
    assert (past["known_at"] == past["event_time"]).all() and past["backfilled"].all()
    assert (past["first_seen"] == NOW).all()


def test_since_ends_a_first_pass(serve, tmp_path):
    server, inbox = serve(Board(100)), Inbox(tmp_path / "p.sqlite")
    told = collect_posts(board_feed(server), inbox, lambda: NOW, since=FIRST + pd.Timedelta(minutes=75))
    assert told["pages"] == 4 and {f"t3_{i}" for i in range(75, 100)} <= set(ids(inbox))


def test_a_service_that_goes_in_circles_or_sends_the_key_away_is_refused(serve, tmp_path):
    circle = serve(lambda *_: (200, {}, b'{"data": {"children": [], "after": "t3_1"}}'))
    with pytest.raises(DataError, match="again"):
        collect_posts(board_feed(circle), Inbox(tmp_path / "p.sqlite"), lambda: NOW)
    other = serve(lambda *_: (200, {}, b"{}"))
    away = serve(lambda *_: (200, {}, json.dumps({"posts": [], "results": [], "next": other.url + "/2"}).encode()))
    moved = serve(lambda *_: (302, {"Location": other.url}, b""))
    for feed in (
        JsonFeed("mine", away.url, FIELDS, "posts", "next", key="MINE_API_KEY"),
        CryptoPanic({"BTC": "BTCUSDT"}, url=away.url),
        JsonFeed("mine", moved.url, FIELDS, "posts", key="MINE_API_KEY"),
    ):
        with pytest.raises(DataError) as caught:
            list(feed.pages())
        assert KEY not in str(caught.value)
    assert other.noted == []


def test_cryptopanic_pages_and_stores_no_key(serve, tmp_path):
    def answer(path, query, number):
        at = int(query.get("page", 1))
        assert query["auth_token"] == KEY
        rows = [
            {
                "id": 10 * at + i,
                "title": f"news {at}{i}",
                "published_at": "2024-03-01T10:00:00Z",
                "currencies": [{"code": "BTC"}, {"code": "ETH"}, {"code": "XRP"}],
                "votes": {"liked": 2, "positive": 3},
                "source": {"domain": "a.example"},
            }
            for i in range(4)
        ]
        following = f"{server.url}/posts/?auth_token={KEY}&currencies=BTC&page={at + 1}" if at < 3 else None
        return 200, {}, json.dumps({"results": rows, "next": following}).encode()

    server, inbox = serve(answer), Inbox(tmp_path / "p.sqlite")
    feed, calls = CryptoPanic({"BTC": "BTCUSDT", "ETH": "ETHUSDT"}, per_second=1e9, url=server.url), []

    def clock():
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return NOW

    with pytest.raises(KeyboardInterrupt):
        collect_posts(feed, inbox, clock)
    assert KEY.encode() not in (tmp_path / "p.sqlite").read_bytes()
    collect_posts(feed, inbox, lambda: NOW)
    got = inbox.read()
    assert len(got) == 24 and got["id"].nunique() == 12 and (got["reach"] == 5).all()


def test_a_post_from_the_future_or_without_an_id_is_refused_whole(tmp_path):
    inbox = Inbox(tmp_path / "p.sqlite")
    good = {"id": "1", "symbols": ["A"], "event_time": FIRST, "author": None, "reach": np.nan, "text": "x"}
    for bad in (good | {"id": ""}, good | {"event_time": NOW + pd.Timedelta(hours=1)}):
        with pytest.raises(DataError, match="of hand is dated"):
            inbox.add("hand", [good, bad], NOW)
    assert inbox.read().empty and list(inbox.read())[:4] == POST_COLUMNS[:4] or inbox.read().empty
    with pytest.raises(DataError, match="time zone"):
        inbox.add("hand", [good], pd.Timestamp("2024-03-10"))
    skewed = good | {"event_time": NOW + pd.Timedelta(minutes=2)}
    assert inbox.add("hand", [skewed], NOW)["new"] == 1, "a clock two minutes ahead is a clock"
    assert (inbox.read()["known_at"] >= inbox.read()["event_time"]).all()


def test_a_file_that_is_no_inbox_is_refused(tmp_path):
    (tmp_path / "p.sqlite").write_text("not a database, but text of some length " * 50)
    with pytest.raises(DataError, match="inbox"):
        Inbox(tmp_path / "p.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("create table posts (a int)")
    with pytest.raises(DataError, match="inbox"):
        Inbox(tmp_path / "other.sqlite").read()


@pytest.mark.parametrize(
    "call",
    [
        lambda: Reddit("a/b", {}),
        lambda: Reddit("coins", {}, per_second=0),
        lambda: Reddit("coins", {}, attempts=0),
        lambda: JsonFeed("mine", "http://x", {"id": "id"}, "rows"),
        lambda: ask_json("data:application/json,{}", {}, attempts=0),
    ],
)
def test_feeds_that_cannot_run_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_a_missing_key_is_a_config_error(monkeypatch):
    monkeypatch.delenv("REDDIT_TOKEN")
    with pytest.raises(ConfigError, match="REDDIT_TOKEN"):
        next(Reddit("coins", {}).pages())


CSV = 'symbol,event_time,text,author\nA,{},"a, b",ann\nNA,{},None,\n'


def test_files_of_each_kind_say_the_same(tmp_path):
    frame = pd.DataFrame(
        {"symbol": ["A", "NA"], "event_time": ["2024-03-01T10:00Z", "2024-03-01T11:00Z"], "text": ["a, b", "None"]}
    )
    frame["author"] = ["ann", None]
    frame.to_parquet(tmp_path / "p.parquet")
    frame.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    (tmp_path / "p.csv").write_text(CSV.format("2024-03-01T10:00Z", "2024-03-01T11:00Z"))
    got = [read_posts(tmp_path / f"p.{end}") for end in ("csv", "parquet", "jsonl")]
    for other in got[1:]:
        pd.testing.assert_frame_equal(got[0][sorted(got[0])], other[sorted(other)])
    assert got[0]["symbol"].tolist() == ["A", "NA"] and got[0]["author"].isna().tolist() == [False, True]


def test_a_time_without_a_zone_is_refused_and_a_day_means_the_next_close(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text(CSV.format("2024-07-01 16:00", "2024-07-01 16:01"))
    with pytest.raises(DataError, match="time zone"):
        read_posts(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_posts(file, zone="Mars/Olympus")
    assert read_posts(file, "America/New_York")["known_at"].iloc[0] == pd.Timestamp("2024-07-01 20:00", tz="UTC")
    file.write_text(CSV.format("2024-11-03 01:30", "2024-11-03 03:30"))
    with pytest.raises(DataError, match="cannot be read"):
        read_posts(file, "America/New_York")  # half past one comes twice that night
    file.write_text(CSV.format("2024-07-03", "2024-07-05"))
    with pytest.raises(DataError, match="by day"):
        read_posts(file)
    closes = session_closes(pd.DatetimeIndex(["2024-07-03", "2024-07-05", "2024-07-08"]))
    known = read_posts(file, closes=closes)["known_at"]
    assert known.tolist() == [pd.Timestamp("2024-07-05 20:00", tz="UTC"), pd.Timestamp("2024-07-08 20:00", tz="UTC")]
    with pytest.raises(DataError, match="give more"):
        read_posts(file, closes=closes.iloc[:2])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("p.jsonl", b'{"symbol": "A", "event_time": "2024-03-01T10:00Z", "text": "x"}\n{"symbol": '),
        ("p.jsonl", b"[" * 10_000),
        ("p.jsonl", b"[1]"),
        ("p.jsonl", b'{"a": "\xff"}'),
        ("p.csv", b"symbol,event_time,text\nA,2024-03-01T10:00Z,\xff\xfe\n"),
        ("p.csv", b'symbol,event_time,text\nA,"2024\n'),
        ("p.csv", b"a,b\n1,2\n"),
        ("p.csv", b"symbol,event_time,text\nA,soon,x\n"),
        ("p.csv", b"symbol,event_time,text\nA,,x\n"),
        ("p.parquet", b"PAR1 not"),
        ("p.xlsx", b""),
        ("absent.csv", None),
    ],
)
def test_broken_files_are_told(tmp_path, name, body):
    if body is not None:
        (tmp_path / name).write_bytes(body)
    with pytest.raises(QuantlabError):
        read_posts(tmp_path / name)


def test_an_empty_file_has_no_posts(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b"\n")
    (tmp_path / "p.csv").write_text("symbol,event_time,text\n")
    for name in ("p.jsonl", "p.csv"):
        assert read_posts(tmp_path / name).empty and list(read_posts(tmp_path / name)) == POST_COLUMNS


SESSIONS = session_closes(pd.DatetimeIndex(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]))


def close(day):
    return SESSIONS[day]


def posts_file(folder, rows, head="symbol,event_time,known_at"):
    file = folder / "mine.csv"
    file.write_text("\n".join([f"{head},text", *(f"A,{row},x" for row in rows)]) + "\n")
    return file


def test_a_day_with_a_known_at_of_its_own_is_known_at_the_later(tmp_path):
    rows = ["2024-01-02,2024-03-01T12:00:00Z", "2024-01-03,2024-01-03T12:00:00Z", "2024-01-02T10:00Z,2024-01-04"]
    known = read_posts(posts_file(tmp_path, rows), closes=SESSIONS).sort_values("id")["known_at"]
    assert known.tolist() == [pd.Timestamp("2024-03-01 12:00", tz="UTC"), close("2024-01-04"), close("2024-01-05")]


@pytest.mark.parametrize("day", ["2024-01-03", "20240103", "2024/01/03", "2024-01-03 00:00", "2024-01-03T00:00:00.000"])
def test_a_day_is_a_day_in_its_own_row(tmp_path, day):
    head = "symbol,event_time"
    file = posts_file(tmp_path, [day, "2024-01-03T15:00-05:00", "2024-01-03 16:30"], head)
    got = read_posts(file, "America/New_York", SESSIONS).sort_values("id")["known_at"].tolist()
    own = [pd.Timestamp("2024-01-03 20:00", tz="UTC"), pd.Timestamp("2024-01-03 21:30", tz="UTC")]
    assert got == [close("2024-01-04"), *own]
    with pytest.raises(DataError, match="row 0 by day"):
        read_posts(file, "America/New_York")
    alone = posts_file(tmp_path, [day], head)
    assert read_posts(alone, closes=SESSIONS)["known_at"].tolist() == [close("2024-01-04")]


@pytest.mark.parametrize(
    "time",
    ["2024-01", "2024", "2024-13-45", "0001-01-01", "9999-12-31", "0001-01-01T10:00Z", "17:00Z", "May 2, 2024", "soon"]
    + ["2024-01-03T25:00Z", "1709640000", ""],
)
@pytest.mark.parametrize("more", [[], ["2024-01-03T10:00Z"], ["2024-01-03"]])
def test_a_time_that_cannot_be_is_told_with_its_row(tmp_path, time, more):
    file = posts_file(tmp_path, [*more, f'"{time}"'], "symbol,event_time")
    with pytest.raises(DataError, match=f"row {len(more)} holds"):
        read_posts(file, "UTC", SESSIONS)


def test_days_outside_the_closes_are_told_with_their_row(tmp_path, monkeypatch):
    file = posts_file(tmp_path, ["2024-01-02", "2024-01-08"], "symbol,event_time")
    with pytest.raises(DataError, match="row 1 holds '2024-01-08'.*give more"):
        read_posts(file, closes=SESSIONS)
    nothing = lambda days, closes: pd.Series(pd.NaT, index=days.index, dtype="datetime64[us, UTC]")
    monkeypatch.setattr("quantlab.altdata.social.known_next_close", nothing)
    with pytest.raises(DataError, match="row 0 holds '2024-01-02'.*give more"):
        read_posts(file, closes=SESSIONS)


@pytest.mark.filterwarnings("error")
def test_stored_times_of_each_kind(tmp_path):
    times = pd.DatetimeIndex(["2024-01-03 00:00", "2024-01-03 15:00"])
    frame = pd.DataFrame({"symbol": "A", "event_time": times, "text": ["x", "y"]})
    arrow = pd.ArrowDtype(pa.timestamp("us", tz="UTC"))
    kinds = {
        "naive": (frame, [close("2024-01-04"), pd.Timestamp("2024-01-03 20:00", tz="UTC")]),
        "zoned": (frame.assign(event_time=times.tz_localize("UTC")), list(times.tz_localize("UTC"))),
        "arrow": (frame.assign(event_time=pd.Series(times.tz_localize("UTC")).astype(arrow)), None),
        "dates": (frame.assign(event_time=[at.date() for at in times]), [close("2024-01-04")] * 2),
    }
    for name, (table, known) in kinds.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
        got = read_posts(tmp_path / f"{name}.parquet", "America/New_York", SESSIONS).sort_values("id")["known_at"]
        assert got.tolist() == (known or list(times.tz_localize("UTC"))), name
    mixed = ["2024-11-01T10:00:00-04:00", "2024-11-04T10:00:00-05:00", "2024-11-04 10:00"]
    got = read_posts(posts_file(tmp_path, mixed, "symbol,event_time"), "America/New_York")["known_at"]
    assert got.dt.hour.tolist() == [14, 15, 15]


@pytest.mark.parametrize("time", ["2024-03-10 02:30", "2024-11-03 01:30"])
def test_an_hour_that_comes_twice_or_never_is_told(serve, tmp_path, time):
    with pytest.raises(DataError, match="row 1 holds .* twice or never"):
        read_posts(posts_file(tmp_path, ["2024-03-01 10:00", time], "symbol,event_time"), "America/New_York")
    rows = {"posts": [{"id": "2", "on": "A", "at": time, "text": "x"}]}
    server = serve(lambda *_: (200, {}, json.dumps(rows).encode()))
    with pytest.raises(DataError, match="twice or never"):
        list(JsonFeed("odd", server.url, FIELDS, "posts", zone="America/New_York").pages())


@pytest.mark.parametrize(
    "url", ["nourl", "http://[::1", "file:///etc/passwd", "", "http://", "http://a:b/", "ftp://a/b"]
)
def test_an_address_that_is_not_of_the_web_is_refused_before_it_is_opened(url):
    calls = [
        lambda: JsonFeed("mine", url, FIELDS, "posts"),
        lambda: Reddit("coins", {}, url=url),
        lambda: CryptoPanic({}, url=url),
        lambda: ask_json(url, {}),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="address"):
            call()


def test_a_next_page_that_is_no_address_is_a_data_error(serve):
    server = serve(lambda *_: (200, {}, b'{"posts": [], "next": "http://[::1"}'))
    with pytest.raises(DataError, match="no address"):
        list(JsonFeed("mine", server.url, FIELDS, "posts", "next").pages())


@pytest.mark.parametrize("zone", ["Mars", "", 7, "../etc"])
def test_a_zone_that_is_none_is_refused_before_anything_is_asked(zone):
    with pytest.raises(ConfigError, match="zone"):
        JsonFeed("mine", "http://127.0.0.1:9", FIELDS, "posts", zone=zone)


@pytest.mark.parametrize("symbol", [[["A", "B"]], {"a": 1}, "['A', 'B']", True, [{"a": 1}]])
def test_a_symbol_that_is_no_name_is_refused(serve, symbol):
    rows = {"posts": [{"id": "2", "on": symbol, "at": "2024-03-01T10:00Z", "text": "x"}]}
    server = serve(lambda *_: (200, {}, json.dumps(rows).encode()))
    with pytest.raises(DataError, match="post 2 of odd has the symbol"):
        list(JsonFeed("odd", server.url, FIELDS, "posts").pages())


def coin_news(path, query, number):
    "Twenty days of news on each coin, two a page, newest first."
    wanted, at = query["currencies"].split(","), int(query.get("page", 1))
    rows = [
        {"id": f"{c}{d}", "title": "x", "published_at": f"2024-02-{d:02}T10:00Z", "currencies": [{"code": c}]}
        for d in range(20, 0, -1)
        for c in wanted
    ]
    base = f"http://{{host}}/posts/?currencies={query['currencies']}&page={at + 1}"
    return 200, {}, json.dumps({"results": rows[10 * at - 10 : 10 * at], "next": base if 10 * at < len(rows) else None})


def test_twins_of_one_service_lose_nothing_and_a_symbol_may_come_later(serve, tmp_path):
    def answer(*asked):
        status, headers, body = coin_news(*asked)
        return status, headers, body.replace("{host}", f"127.0.0.1:{server.server_port}").encode()

    server, inbox = serve(answer), Inbox(tmp_path / "p.sqlite")
    make = lambda *coins: CryptoPanic({c: c for c in coins}, per_second=1e9, url=server.url)
    for feed in (make("BTC"), make("ETH")):
        collect_posts(feed, inbox, lambda: NOW)
    assert inbox.read()["symbol"].value_counts().to_dict() == {"BTC": 20, "ETH": 20}
    told = collect_posts(make("BTC", "XRP"), inbox, lambda: NOW)
    assert told["new"] == 20 and set(inbox.read()["source"]) == {"cryptopanic"}
    assert collect_posts(make("BTC"), inbox, lambda: NOW)["new"] == 0, "its own mark is kept"
    assert inbox.mark(make("BTC").place) == inbox.mark(make("BTC", "XRP").place) != inbox.mark("cryptopanic")
    board = serve(Board(35))
    for symbols in ({"BTC": "BTCUSDT"}, {"post": "POST"}):
        collect_posts(Reddit("coins", symbols, per_second=1e9, url=board.url), inbox, lambda: NOW)
    got = inbox.read(sources=["reddit_coins"])
    assert got["symbol"].value_counts().to_dict() == {"BTCUSDT": 35, "POST": 35}
