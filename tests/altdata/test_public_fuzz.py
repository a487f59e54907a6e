"""The rooms of events and texts: an argument of another kind gives a result or our own error."""

import inspect
import json
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata import (
    calls,
    edgar,
    event_audit,
    events,
    filings,
    planted,
    robust,
    satellite,
    sentiment,
    social,
    sources,
    stac,
)
from quantlab.core.errors import QuantlabError
from quantlab.features import events as features
from quantlab.validation import events as studies
from quantlab.validation import increment as added

DAYS = pd.bdate_range("2024-01-02", periods=40, unit="us").difference(pd.DatetimeIndex(["2024-01-15", "2024-02-19"]))
NAMES = ["A", "B", "C", "D"]


@lru_cache(maxsize=1)
def world():
    rng = np.random.default_rng(0)
    closes = events.session_closes(DAYS)
    posts = planted.synth_posts(closes, NAMES, 1.0).posts
    report = posts[["event_time", "known_at", "symbol", "source"]].iloc[:60]
    told = report.assign(kind="report", revision=0, id=[f"r{n}" for n in range(60)], eps=rng.normal(size=60))
    index = pd.MultiIndex.from_product([DAYS, NAMES], names=["date", "symbol"])
    score, y = (pd.Series(rng.normal(0, 0.01, len(index)), index) for _ in range(2))
    wide = pd.DataFrame(rng.normal(0, 0.01, (len(DAYS), 4)), DAYS, NAMES)
    first = pd.DataFrame({"date": DAYS[20:22], "symbol": ["A", "B"]})
    turns = calls.split_call("Jane Roe -- Chief Executive Officer\nA good year.\nJo Doe -- Analyst\nWhy?")
    at = pd.Timestamp("2024-01-05", tz="UTC")
    make = lambda frame: events.event_panel(frame, closes, "eps")
    votes = robust.post_votes(posts.head(30), closes)
    return {
        "closes": closes, "posts": posts, "events": told, "index": index, "score": score, "y": y, "wide": wide,
        "first": first, "turns": turns, "call": [calls.Transcript("A", at, at, "a", turns)], "make": make,
        "votes": votes.assign(tone=sentiment.vader_tone(votes["text"])),
        "t1": pd.Series(index.get_level_values(0), index), "market": wide.mean(axis=1),
        "filings": filings.sample_filings().head(3), "lexicon": sentiment.Lexicon(
            {"positive": frozenset(["GOOD"]), "negative": frozenset(["BAD"])}
        ),
        "lot": satellite.synth_car_park(3, (30, 30)), "record": dict.fromkeys(filings.FILING_COLUMNS, "x"),
        "leaves": satellite.Scene({"red": np.ones((16, 16)), "nir": np.ones((16, 16))}, np.zeros((16, 16), bool),
                                  (1, 0, 0, 0, -1, 0), "EPSG:32616", at, at),
        "measured": studies.abnormal_returns(wide, wide.mean(axis=1), first, (-1, 1), (-18, -3), least=10),
    }  # fmt: skip


SEEN = "2021-03-02 16:30+00:00"


def looked(scene):
    return satellite.Measurement(1.0, 0.5)


def written(scene):
    return satellite.write_raster(scene, Path("a.tif"), "uint8")


TABLE = {
    events.check_events: {"events": "events", "name": ...}, events.session_closes: {"dates": DAYS},
    events.event_sessions: {"known_at": lambda w: w["events"]["known_at"], "closes": "closes"},
    events.event_coverage: {"events": "events", "closes": "closes"},
    events.known_next_close: {"dates": DAYS[:3], "closes": "closes"},
    events.current_events: {"events": "events", "as_of": pd.Timestamp("2024-02-01", tz="UTC")},
    events.restated: {"events": "events"},
    events.event_panel: {"events": "events", "closes": "closes", "columns": lambda w: "eps"},
    event_audit.audit_events: {"make": "make", "events": "events", "closes": "closes", "cuts": lambda w: 2},
    event_audit.check_event_times: {"events": "events"},
    filings.filing_items: {"text": lambda w: "Item 2.02 Results"}, filings.check_filings: {"filings": "filings"},
    filings.acceptance_time: {"text": lambda w: "20240207160533"},
    filings.filing_events: {"filings": "filings", "closes": lambda w: None},
    filings.filing_lag: {"period": lambda w: w["filings"]["period"], "filed": lambda w: w["filings"]["filed"]},
    filings.read_filings: {"source": lambda w: "none.zip", "symbols": lambda w: {"1": "A"}},
    edgar.watch_list: {"tickers": lambda w: "DIS"},
    edgar.read_store: {"store": lambda w: "none", "symbols": lambda w: {"1": "A"}},
    edgar.stored_filings: {"store": lambda w: "none"}, edgar.company_ciks: {"reader": lambda w: None},
    edgar.filing_list: {"reader": lambda w: None, "cik": lambda w: "1"},
    edgar.parse_submission: {"body": lambda w: b"", "symbol": lambda w: "A"},
    edgar.watch_filings: {"tickers": lambda w: "F_X", "store": lambda w: "none"},
    edgar.store_filing: {"store": lambda w: "none", "record": ..., "body": lambda w: b""},
    sentiment.check_posts: {"posts": "posts"}, sentiment.clean_text: {"text": lambda w: "x"},
    sentiment.vader_tone: {"texts": lambda w: ["good"]}, sentiment.read_lexicon: {"path": lambda w: "none.csv"},
    sentiment.lexicon_tone: {"texts": lambda w: ["good"], "lexicon": "lexicon"},
    calls.split_call: {"text": lambda w: "Jane Roe -- Chief Executive Officer\nA good year."},
    calls.call_tone: {"turns": "turns", "lexicon": "lexicon"}, calls.call_events: {"calls": "call"},
    calls.read_transcript: {"file": lambda w: "none.txt", "closes": "closes"},
    calls.read_transcripts: {"folder": lambda w: "none"},
    planted.sample_posts: {"symbols": lambda w: ["AAPL"]},
    planted.hidden_mood: {"sessions": DAYS, "symbols": lambda w: NAMES, "ahead": "y", "lead": lambda w: 0.3},
    planted.planted_texts: {"moods": lambda w: np.zeros(3), "seed": lambda w: 1},
    planted.synth_posts: {"closes": "closes", "symbols": lambda w: NAMES, "per_session": lambda w: 0.1,
                          "seed": lambda w: 1},
    planted.reword: {"text": lambda w: "a b c", "share": lambda w: 0.5, "rng": lambda w: np.random.default_rng(0)},
    planted.bot_campaign: {"closes": "closes", "session": lambda w: DAYS[3], "symbol": lambda w: "A",
                            "n": lambda w: 5, "mood": lambda w: 1.0, "hours": lambda w: 4.0, "seed": lambda w: 1},
    planted.genuine_burst: {"closes": "closes", "session": lambda w: DAYS[3], "symbol": lambda w: "A",
                            "n": lambda w: 5, "mood": lambda w: 1.0, "hours": lambda w: 4.0, "seed": lambda w: 1},
    planted.plant: {"posts": "posts", "planted": "posts"},
    robust.word_set: {"text": lambda w: "a great day"},
    robust.jaccard: {"one": lambda w: frozenset(["a"]), "other": lambda w: frozenset(["a", "b"])},
    robust.near_copies: {"posts": "posts", "closes": "closes", "threshold": lambda w: 0.3, "lookback": lambda w: 5},
    robust.usual_counts: {"told": "votes", "closes": "closes", "trailing": lambda w: 20},
    robust.copy_votes: {"copies": "votes", "tolerance": lambda w: 10.0},
    robust.stranger_votes: {"votes": "votes", "burst": lambda w: 3.0},
    robust.author_votes: {"votes": "votes", "cap": lambda w: 4.0},
    robust.age_votes: {"event_time": lambda w: w["posts"]["event_time"], "closes": "closes", "half_life": lambda w: 1.0,
                       "session": lambda w: events.event_sessions(w["posts"]["known_at"], w["closes"])},
    robust.reach_votes: {"reach": lambda w: w["posts"]["reach"]},
    robust.post_votes: {"posts": "posts", "closes": "closes", "threshold": lambda w: 0.3, "lookback": lambda w: 5,
                        "tolerance": lambda w: 10.0, "burst": lambda w: 3.0, "cap": lambda w: 4.0,
                        "half_life": lambda w: 1.0},
    robust.tone_score: {"votes": "votes", "closes": "closes", "memory": lambda w: 5.0, "tau": lambda w: 0.25},
    robust.robust_score: {"posts": "posts", "closes": "closes", "read_tone": lambda w: sentiment.vader_tone,
                          "memory": lambda w: 5.0, "tau": lambda w: 0.25, "cap": lambda w: 4.0},
    social.ask_json: {"url": lambda w: "ftp://x", "params": lambda w: {}},
    social.read_posts: {"file": lambda w: "none.csv", "closes": "closes"},
    social.collect_posts: {"feed": lambda w: None, "inbox": lambda w: None, "now": lambda w: None},
    sources.inbox_file: {"name": lambda w: "posts"}, sources.read_sources: {"file": lambda w: Path("none.yaml")},
    sources.source_posts: {"source": lambda w: "synth", "closes": "closes", "symbols": lambda w: NAMES},
    sources.posts_by_bar: {"source": lambda w: "none.csv", "index": "index", "calendar": lambda w: "XNYS"},
    sources.ingest_sources: {"sources": lambda w: sources.Sources(), "lake": lambda w: "none"},
    sources.stored_summary: {"lake": lambda w: Path("none")},
    satellite.cloud_mask: {"quality": lambda w: np.zeros((2, 2)), "kind": lambda w: "scl"},
    satellite.write_raster: {"scene": "lot", "path": lambda w: "a.tif", "dtype": lambda w: "uint8"},
    satellite.read_raster: {
        "path": lambda w: written(w["lot"]), "bands": lambda w: ["pan"], "bounds": lambda w: w["lot"].bounds,
        "cloud": lambda w: "cloud", "cloud_kind": lambda w: "cloud", "acquired": lambda w: SEEN,
        "published": lambda w: SEEN, "name": lambda w: "a", "max_pixels": lambda w: 10_000,
    },
    satellite.read_windows: {"path": lambda w: written(w["lot"]), "size": lambda w: 20},
    satellite.crop_scene: {"scene": "lot", "bounds": lambda w: w["lot"].bounds},
    satellite.ndvi: {"red": lambda w: np.ones((2, 2)), "nir": lambda w: np.ones((2, 2))},
    satellite.mean_ndvi: {"scene": "leaves", "red": lambda w: "red", "nir": lambda w: "nir"},
    satellite.scene_change: {"before": "lot", "after": "lot", "image": lambda w: lambda s: s.bands["pan"]},
    satellite.synth_car_park: {
        "n_cars": lambda w: 3, "shape": lambda w: (30, 30), "noise": lambda w: 0.1, "clouds": lambda w: 0.1,
        "seed": lambda w: 1, "acquired": lambda w: SEEN, "published": lambda w: SEEN,
    },
    satellite.count_cars: {"scene": "lot", "band": lambda w: "pan"},
    satellite.synth_tanks: {
        "levels": lambda w: [0.5], "sun_elevation": lambda w: 45.0, "sun_azimuth": lambda w: 135.0,
        "noise": lambda w: 0.03, "seed": lambda w: 1, "radius": lambda w: 6.0, "height": lambda w: 6.0,
    },
    satellite.tank_fill: {"scene": lambda w: satellite.synth_tanks([0.5])[0], "radius": lambda w: 9.6,
                          "sun_azimuth": lambda w: 135.0, "band": lambda w: "pan"},
    satellite.region_events: {
        "scenes": lambda w: [w["lot"]], "regions": lambda w: {"a": w["lot"].bounds}, "measure": lambda w: looked,
        "names": lambda w: {"a": "A"}, "max_cloud": lambda w: 0.3, "kind": lambda w: "n", "source": lambda w: "s",
    },
    satellite.name_events: {
        "events": lambda w: satellite.region_events([w["lot"]], {"a": w["lot"].bounds}, looked, {"a": "A"}),
        "names": lambda w: {"a": "A"},
    },
    stac.stored_scenes: {"folder": lambda w: "none"},
    features.event_count: {"events": "events", "lookback": lambda w: 5, "kind": lambda w: "report"},
    features.days_since_event: {"events": "events", "lookback": lambda w: 5, "kind": lambda w: "report"},
    features.event_value: {"events": "events", "column": lambda w: "eps", "half_life": lambda w: 3.0},
    features.text_tone: {"lookback": lambda w: 5}, features.text_posts: {"lookback": lambda w: 5},
    studies.abnormal_returns: {
        "returns": "wide", "market": "market", "events": "first", "event_span": lambda w: (-1, 1),
        "estimation": lambda w: (-18, -3), "least": lambda w: 10,
    },
    studies.event_tests: {"measured": "measured", "spans": lambda w: ((0, 1),)},
    added.increment: {"score": "score", "base": "score", "y": "y", "t1": "t1", "past": lambda w: 5,
                      "draws": lambda w: 19},
}  # fmt: skip

CIK, FILED = "1048911", "0001193125-24-000001"
SUBMITTED = f"""<SEC-DOCUMENT>
<SEC-HEADER>
<ACCEPTANCE-DATETIME>20240207160533
ACCESSION NUMBER:\t{FILED}
CONFORMED SUBMISSION TYPE:\t8-K
PUBLIC DOCUMENT COUNT:\t1
CONFORMED PERIOD OF REPORT:\t20240207
FILED AS OF DATE:\t20240207

FILER:

\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\tFEDEX CORP
\t\tCENTRAL INDEX KEY:\t{int(CIK):010d}
</SEC-HEADER>
<DOCUMENT>
<TYPE>8-K
<SEQUENCE>1
<FILENAME>m.htm
<TEXT>
<html><body><p>Item 2.02 Results</p><p>On February 7</p></body></html>
</TEXT>
</DOCUMENT>
</SEC-DOCUMENT>
""".encode()
RECENT = {"accessionNumber": [FILED], "form": ["8-K"], "filingDate": ["2024-02-07"]}
EDGAR = {  # what the SEC answers, by address
    "files/company_tickers.json": json.dumps({"0": {"cik_str": int(CIK), "ticker": "FDX"}}).encode(),
    f"submissions/CIK{int(CIK):010d}.json": json.dumps(
        {"tickers": ["FDX"], "filings": {"recent": RECENT, "files": []}}
    ).encode(),
    f"Archives/edgar/data/{CIK}/{FILED.replace('-', '')}/{FILED}.txt": SUBMITTED,
}


class Shelf(edgar.EdgarReader):
    "Read what lies ready, and ask nobody."

    def __init__(self):
        super().__init__("http://127.0.0.1:9", per_second=10, attempts=1, sleep=lambda seconds: None)

    def _body(self, path):
        return EDGAR[path]


CALL = "Jane Roe -- Chief Executive Officer\nA good year.\nJo Doe -- Analyst\nWhy?\n"
FILES = {
    "lexicon.csv": "Word,Negative,Positive\nLOSS,2009,0\nGAIN,0,2009\n",
    "posts.csv": "symbol,event_time,text\nA,2024-01-03T10:00Z,a good year\n",
    "calls/a.txt": f"Symbol: A\nDate: 2024-01-03T17:00-05:00\nPublished: 2024-01-03T21:00-05:00\n\n{CALL}",
    "sources.yaml": "filings: {tickers: [FDX]}\n",
    "filings/one.json": json.dumps({
        "cik": CIK, "company": "FEDEX CORP", "filing_type": "8-K", "filing_date": "2016-05-10",
        "period_of_report": "2016-05-10", "item_2.02": "Item 2.02 Results",
        "complete_text_filing_link": f"https://www.sec.gov/Archives/edgar/data/{CIK}/{FILED}.txt",
    }),
}  # fmt: skip
PLACES = {"id": "id", "symbol": "on", "event_time": "at", "text": "text"}
ANSWER = {"posts": [{"id": 1, "on": "A", "at": "2024-01-03T10:00Z", "text": "a good year"}]}


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    "Lay files where a call looks for them, and stand in for the services."
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTLAB_EDGAR_IDENTITY", "Test Fund test@example.com")
    monkeypatch.setattr(social, "get_json", lambda *asked, **more: ANSWER)


FITS = {  # of calls that need a file, a store or a service
    "read_filings": {"source": lambda w: "filings", "symbols": lambda w: {CIK: "FDX"}},
    "company_ciks": {"reader": lambda w: Shelf()}, "filing_list": {"reader": lambda w: Shelf(), "cik": lambda w: CIK},
    "parse_submission": {"body": lambda w: SUBMITTED, "symbol": lambda w: "FDX"},
    "watch_filings": {"tickers": lambda w: "FDX", "store": lambda w: "kept", "reader": lambda w: Shelf()},
    "store_filing": {"record": lambda w: dict.fromkeys(filings.FILING_COLUMNS, "x") | {"cik": CIK, "accession": FILED}},
    "read_lexicon": {"path": lambda w: "lexicon.csv"}, "read_transcript": {"file": lambda w: "calls/a.txt"},
    "read_transcripts": {"folder": lambda w: "calls"}, "read_posts": {"file": lambda w: "posts.csv"},
    "ask_json": {"url": lambda w: "https://news.example/posts"},
    "collect_posts": {
        "feed": lambda w: social.JsonFeed("mine", "https://news.example/posts", PLACES, "posts", per_second=1e9),
        "inbox": lambda w: social.Inbox("posts.sqlite"), "now": lambda w: lambda: pd.Timestamp("2024-02-01", tz="UTC"),
        "since": lambda w: pd.Timestamp("2024-01-01", tz="UTC"), "overlap": lambda w: 24.0,
    },
    "read_sources": {"file": lambda w: Path("sources.yaml")}, "posts_by_bar": {"source": lambda w: "synth"},
    "plant": {"planted": lambda w: planted.genuine_burst(w["closes"], DAYS[3], "A", 5)},
}  # fmt: skip
TABLE = {function: told | FITS.get(function.__name__, {}) for function, told in TABLE.items()}


@pytest.mark.parametrize("function", TABLE, ids=lambda x: x.__name__)
def test_what_is_spoilt_below_succeeds_as_it_stands(function):
    if function in (edgar.parse_submission, edgar.watch_filings):
        pytest.importorskip("edgar", reason="extra filings")
    got = function(**{key: value_of(told) for key, told in TABLE[function].items() if told is not ...})
    if isinstance(got, Iterator):
        assert list(got)


def wrong():
    other = pd.DataFrame({"a": [1.0, 2.0]}, pd.date_range("2024-01-01", periods=2, tz="Asia/Tokyo"))
    return {"None": None, "3": 3, "x": "x", "no frame": pd.DataFrame(), "another index": other}


def value_of(told):
    return world()[told] if isinstance(told, str) else told(world()) if callable(told) else told


CASES = [
    (function, name, odd) for function, table in TABLE.items() for name, told in table.items() if told is not ...
    for odd in wrong()
]  # fmt: skip


@pytest.mark.parametrize(("function", "name", "odd"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_wrong_argument_is_a_result_or_one_of_our_errors(function, name, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if function in (satellite.read_raster, satellite.read_windows, satellite.write_raster):
        pytest.importorskip("rasterio")
    given = {key: value_of(told) for key, told in TABLE[function].items() if told is not ...}
    try:
        got = function(**(given | {name: wrong()[odd]}))
        list(got) if inspect.isgenerator(got) else None
    except QuantlabError as error:
        assert len(str(error)) > 20


SCENE = {
    "bands": {"pan": np.ones((3, 3))}, "cloudy": np.zeros((3, 3), bool), "transform": (1, 0, 0, 0, -1, 0),
    "crs": "EPSG:32616", "acquired": SEEN, "published": SEEN, "name": "a", "revision": 0,
}  # fmt: skip
ASSET = {"pan": stac.StacAsset("https://a.example/a.tif")}
AT = pd.Timestamp(SEEN)
API = {"url": "https://a.example", "key": None, "per_second": 1.0, "allowed": (), "lag": "1D", "attempts": 1}
MADE = {  # what makes, or is made by, a class: its call and the arguments that fit
    "Scene": (satellite.Scene, SCENE),
    "Stac": (stac.Stac, API),
    "EdgarReader": (edgar.EdgarReader, {"url": "http://127.0.0.1:9", "per_second": 1.0, "attempts": 1, "limit": 9}),
    "search": (stac.Stac("https://127.0.0.1:9", attempts=1, pace=lambda: None).search,
               {"collections": ["a"], "bbox": [0, 0, 1, 1], "start": SEEN, "end": SEEN, "limit": 5}),
    "download": (stac.Stac("https://a.example", pace=lambda: None).download,
                 {"items": [], "folder": "none", "assets": ["pan"]}),
    "download one": (partial(stac.Stac("https://b.example", pace=lambda: None).download, folder="none"),
                     {"items": [stac.StacItem("a", "c", AT, AT, ASSET)], "assets": ["pan"]}),
}  # fmt: skip


@pytest.mark.parametrize("odd", list(wrong()))
@pytest.mark.parametrize(("made", "name"), [(made, name) for made, (_, fits) in MADE.items() for name in fits])
def test_a_wrong_argument_of_a_class_is_one_of_our_errors_too(made, name, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTLAB_EDGAR_IDENTITY", "Test Fund test@example.com")
    call, fits = MADE[made]
    try:
        call(**(fits | {name: wrong()[odd]}))
    except QuantlabError as error:
        assert len(str(error)) > 20


@pytest.mark.parametrize(
    "call",
    [
        lambda: satellite.count_cars(None),
        lambda: satellite.synth_car_park(None),
        lambda: satellite.region_events(None, {}, looked, {}),
        lambda: satellite.region_events([world()["lot"]], {"a": world()["lot"].bounds}, lambda s: 3.0, {"a": "A"}),
        lambda: edgar.store_filing("none", {}, b""),
        lambda: sources.posts_by_bar("synth", world()["index"].rename([None, None]), "XNYS"),
    ],
)
def test_what_is_none_of_ours_is_refused_and_not_taken(call):
    with pytest.raises(QuantlabError, match="give a|has no|index levels are"):
        call()


ROOMS = (events, event_audit, filings, edgar, sentiment, calls, planted, robust, social, sources, satellite, stac,
         features, studies, added)  # fmt: skip
PLAIN = {"empty_posts", "edgar_identity", "sample_filings", "build_sample_posts", "sample_scenes"}


def test_no_public_function_of_these_rooms_is_left_out():
    public = {
        x
        for room in ROOMS
        for name in room.__all__
        if name not in PLAIN and inspect.isfunction(x := getattr(room, name))
    }
    assert not {one.__name__ for one in public} - {one.__name__ for one in TABLE}
