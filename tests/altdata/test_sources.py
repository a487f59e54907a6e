"""Sources: what is configured is read in turn, once and whole; what is wrong is said before anything is asked."""

import json
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pandas as pd
import pytest

from quantlab.altdata.events import session_closes
from quantlab.altdata.social import Inbox
from quantlab.altdata.sources import (
    Sources,
    inbox_file,
    ingest_sources,
    posts_by_bar,
    read_sources,
    source_posts,
    stored_summary,
)
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.calendar import schedule
from quantlab.data.sample import sample_bars

NOW = lambda: pd.Timestamp("2024-02-01 12:00", tz="UTC")


@pytest.fixture
def server():
    "Two pages of posts, newest first, and one address that is broken."
    state = {"posts": list(range(8)), "broken": False}

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            second = "page=2" in self.path
            shown = state["posts"][::-1][4:] if second else state["posts"][::-1][:4]
            rows = [
                {"n": f"p{i}", "on": "KO", "at": f"2024-01-{i + 1:02d}T10:00:00Z", "said": f"fine {i}"} for i in shown
            ]
            here = f"http://127.0.0.1:{self.server.server_port}/posts?page=2"
            body = json.dumps({"posts": rows, "next": None if second else here}).encode()
            broken = state["broken"] or self.path.startswith("/gone")
            self.send_response(404 if broken else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", state
    made.shutdown()


def feed(name, url):
    fields = {"id": "n", "symbol": "on", "event_time": "at", "text": "said"}
    return {"kind": "json", "name": name, "url": url, "rows": "posts", "next_page": "next", "fields": fields}


def test_each_source_is_read_once_and_one_that_fails_keeps_nobody(server, tmp_path):
    address, state = server
    asked = Sources.model_validate({"posts": [feed("gone", f"{address}/gone"), feed("mine", f"{address}/posts")]})
    seen = []
    first = ingest_sources(asked, tmp_path, NOW, lambda *step: seen.append(step))
    again = ingest_sources(asked, tmp_path, NOW)
    state["posts"] = list(range(10))
    third = ingest_sources(asked, tmp_path, NOW)
    assert [row.new for row in first] == [0, 8] and "404" in first[0].error and not first[1].error
    assert again[1].new == 0 and third[1].new == 2
    assert seen == [(0, 2, "gone"), (1, 2, "mine"), (2, 2, "done")]
    posts = Inbox(tmp_path / "altdata" / "posts.sqlite").read()
    assert posts["id"].is_unique and len(posts) == 10 and (posts["known_at"] == NOW()).all()
    table = stored_summary(tmp_path)
    assert table[["source", "kind", "rows", "symbols"]].values.tolist() == [["mine", "post", 10, 1]]


def test_transcripts_are_read_where_they_lie(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    row = ingest_sources(Sources.model_validate({"calls": {"folder": str(folder)}}), tmp_path, NOW)[0]
    assert (row.source, row.new, row.known) == ("calls", 0, 0)
    lost = ingest_sources(Sources.model_validate({"calls": {"folder": str(tmp_path / "no")}}), tmp_path, NOW)[0]
    assert "no" in lost.error


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "names no source"),
        ("- a", "altdata.yaml: the file"),
        ("{", "is no YAML"),
        ("posts: [{kind: twitter}]", "posts.0.kind"),
        ("filings: {tickers: []}", "filings.tickers"),
        ("filings: {tickers: [F_X]}", "is no ticker"),
        ("posts: [{kind: json}]", "needs name, url, rows"),
        ("posts: [{kind: reddit, subreddit: 'a b'}]", "subreddit"),
        ("calls: {folders: x}", "calls.folder"),
        ("scenes: [{name: x}]", "scenes.0.url"),
        ("a: !!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_a_slip_is_refused_with_its_place(tmp_path, text, said):
    file = tmp_path / "altdata.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_sources(file)


def test_a_path_may_be_a_text(server, tmp_path):
    file = tmp_path / "altdata.yaml"
    file.write_text("filings: {tickers: [fdx]}")
    assert read_sources(str(file)) == read_sources(file)
    with pytest.raises(ConfigError, match="none.yaml is not there"):
        read_sources(str(tmp_path / "none.yaml"))
    asked = Sources.model_validate({"posts": [feed("mine", f"{server[0]}/posts")]})
    assert ingest_sources(asked, str(tmp_path / "lake"), NOW)[0].new == 8
    assert stored_summary(str(tmp_path / "lake")).equals(stored_summary(tmp_path / "lake"))
    assert stored_summary(str(tmp_path / "lake"))["rows"].tolist() == [8]
    for odd in (3, b"x", ["lake"]):
        for call in (read_sources, stored_summary, lambda lake: ingest_sources(asked, lake, NOW)):
            with pytest.raises(ConfigError, match="give a str or Path"):
                call(odd)


def test_bars_that_are_no_panel_are_said():
    index = sample_bars(["KO", "XOM"], "2014-01-02", "2014-02-28").index
    cases = {"index levels are": index.rename([None, None]), "not sorted": index[::-1], "no bars": index[:0]}
    for said, odd in (cases | {"appear twice": index.append(index[:1])}).items():
        with pytest.raises(PanelError, match=said):
            posts_by_bar("synth", odd, "XNYS")


def test_the_setting_names_the_file(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no source is configured"):
        read_sources()
    file = tmp_path / "mine.yaml"
    file.write_text("filings: {tickers: [fdx]}")
    monkeypatch.setenv("QUANTLAB_ALTDATA_SOURCES", str(file))
    assert read_sources().filings.tickers == ("fdx",)
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="is no YAML"):
        read_sources()


def test_posts_of_an_inbox_stand_beside_bars_from_when_they_were_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path))
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    bars = sample_bars(["KO"], "2014-01-02", "2014-02-28")
    written = pd.Timestamp("2014-01-10 15:00", tz="UTC")
    row = {"id": "1", "symbols": ["KO"], "event_time": written, "author": "a", "reach": 5.0, "text": "very good news"}
    Inbox(inbox_file()).add("mine", [row], written + pd.Timedelta(days=4))
    beside = posts_by_bar("lake:posts", bars.index, "XNYS")
    told = beside["posts"].xs("KO", level="symbol")
    assert told[told > 0].index.tolist() == [pd.Timestamp("2014-01-14")]
    assert beside["tone"].loc["2014-01-14"].iloc[0] > 0 == beside["tone"].loc[:"2014-01-13"].abs().max()


def test_made_up_posts_repeat_and_hang_on_the_bars(tmp_path, monkeypatch):
    bars = sample_bars(["KO", "XOM"], "2014-01-02", "2014-02-28")
    dates = bars.index.unique("date")
    closes = session_closes(dates)
    one, other = (source_posts("synth", closes, ["XOM", "KO"]) for _ in range(2))
    assert one.equals(other) and set(one["symbol"]) == {"KO", "XOM"}
    saturday = pd.MultiIndex.from_product([[pd.Timestamp("2014-01-04")], ["KO"]], names=["date", "symbol"])
    with pytest.raises(DataError, match="XNYS"):  # a day that is no session of the calendar
        posts_by_bar("synth", saturday, "XNYS")


def test_daily_bars_close_with_their_own_exchange(tmp_path, monkeypatch):
    "A post at 15:00 UTC comes before New York's close of that day and after Shanghai's."
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "posts.csv"
    file.write_text("symbol,event_time,text\nA,2024-03-05T15:00:00Z,very good\n")
    days = schedule("XSHG", "2024-03-01", "2024-03-08").index
    index = pd.MultiIndex.from_product([days, ["A", "B"]], names=["date", "symbol"])
    entered = {}
    for calendar in ("XNYS", "XSHG"):
        told = posts_by_bar(str(file), index, calendar)["posts"].xs("A", level="symbol")
        entered[calendar] = f"{told[told > 0].index[0]:%m-%d}"
    assert entered == {"XNYS": "03-05", "XSHG": "03-06"}
    with pytest.raises(ConfigError, match="with which exchange"):
        posts_by_bar(str(file), index)
    monkeypatch.setenv("QUANTLAB_ALTDATA_CALENDAR", "XSHG")
    assert posts_by_bar(str(file), index)["posts"].loc["2024-03-06", "A"] > 0


def test_posts_of_another_time_are_no_posts(tmp_path):
    file = tmp_path / "posts.csv"
    file.write_text("symbol,event_time,text\nKO,2010-03-05T15:00:00Z,very good\n")
    index = sample_bars(["KO"], "2014-01-02", "2014-02-28").index
    with pytest.raises(ConfigError, match="no posts on KO from 2014-01-02 to 2014-02-28"):
        posts_by_bar(str(file), index, "XNYS")


def test_foreign_databases_are_left_as_they_are(tmp_path):
    folder = tmp_path / "altdata"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "mine.sqlite")) as store:
        store.execute("CREATE TABLE my (x)")
    (folder / "junk.sqlite").write_bytes(b"no database at all")
    before = (folder / "mine.sqlite").read_bytes()
    assert stored_summary(tmp_path).empty and (folder / "mine.sqlite").read_bytes() == before


SEARCH = "collections: [c], bbox: [0, 0, 1, 1], assets: [a]"


@pytest.mark.parametrize(
    "text, said",
    [
        ("filings: {tickers: [FDX], since: soon}", "filings.since"),
        (f"scenes: [{{name: ../x, url: 'http://a', start: x, {SEARCH}}}]", "name"),
        (f"scenes: [{{name: x, url: 'http://a', start: soon, {SEARCH}}}]", "start"),
        (f"scenes: [{{name: x, url: 'file:///a', start: '2024-01-01T00:00Z', {SEARCH}}}]", "http"),
    ],
)
def test_a_slip_in_a_value_is_refused_before_anything_is_asked(tmp_path, text, said):
    file = tmp_path / "altdata.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_sources(file)


def test_a_day_of_yaml_is_a_day(tmp_path):
    file = tmp_path / "altdata.yaml"
    file.write_text("filings: {tickers: [FDX], since: 2024-01-01}")
    assert str(read_sources(file).filings.since) == "2024-01-01"
