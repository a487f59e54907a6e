"The STAC adapter against a local server: pages, failures, hostile answers, files fetched once and whole."

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from quantlab.altdata import stac as stac_module
from quantlab.altdata.stac import Stac, StacAsset, StacItem, stored_scenes
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.vendors.base import TemporaryError

BOX, SPAN = [-90, 30, -80, 40], ("2021-03-01T00:00Z", "2021-04-01T00:00Z")


class Service:
    "Answer requests by a function of method, path, body and number; note each of them."

    def __init__(self, answer):
        self.requests, self.headers, self.bodies, self.answer = [], [], [], answer
        noted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                noted.requests.append(f"{self.command} {self.path}")
                noted.headers.append(dict(self.headers))
                noted.bodies.append(json.loads(body or b"null"))
                status, headers, said = noted.answer(self.path, noted.bodies[-1], len(noted.requests))
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(said))} | headers).items():
                        if value is not None:
                            self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(said)
                except OSError:
                    pass

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"


@pytest.fixture
def serve():
    made = []

    def start(answer):
        made.append(Service(answer))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()


class Naps:
    "Count what would be slept."

    def __init__(self):
        self.slept = []

    def __call__(self):
        pass

    def sleep(self, seconds):
        self.slept.append(seconds)


def feature(i, href=None, **changes):
    times = {"datetime": f"2021-03-{i + 1:02d}T16:30:00Z", "published": f"2021-03-{i + 2:02d}T00:00:00Z"}
    made = {"id": f"s{i}", "collection": "lots", "properties": times}
    return made | {"assets": {"pan": {"href": href or f"/files/{i}.tif"}}} | changes


def pages(features, size=2, **more):
    "Serve features by pages, the next one by POST with a merged token."

    def answer(path, body, _):
        first = int((body or {}).get("token", 0))
        said = {"features": features[first : first + size]} | more
        if first + size < len(features):
            link = {"rel": "next", "method": "POST", "href": "/search", "body": {"token": first + size}, "merge": True}
            said["links"] = [{"rel": "self", "href": "x"}, link]
        return 200, {}, json.dumps(said).encode()

    return answer


def ask(service, **options):
    options = {"pace": Naps(), "attempts": 3} | options
    return Stac(service.url, **options).search(["lots"], BOX, *SPAN)


# ---- search


def test_all_pages_come_once_with_the_question_in_each(serve):
    service = serve(pages([feature(i) for i in range(7)], numberMatched=7))
    items = ask(service)
    assert [i.name for i in items] == [f"s{i}" for i in range(7)] and service.requests == ["POST /search"] * 4
    assert all(b["collections"] == ["lots"] and b["bbox"] == BOX for b in service.bodies)
    assert service.bodies[0]["datetime"] == "2021-03-01T00:00:00.000000Z/2021-04-01T00:00:00.000000Z"
    assert items[0].acquired == pd.Timestamp("2021-03-01 16:30", tz="UTC")
    assert items[0].published == pd.Timestamp("2021-03-02", tz="UTC")


def test_next_by_get_and_without_merge(serve):
    def answer(path, body, number):
        links = [{"rel": "next", "href": "search?page=2"}] if number == 1 else []
        return 200, {}, json.dumps({"features": [feature(number)], "links": links}).encode()

    service = serve(answer)
    assert [i.name for i in ask(service)] == ["s1", "s2"] and service.requests == ["POST /search", "GET /search?page=2"]


def test_an_item_on_two_pages_comes_once_and_the_later_publication_stays(serve):
    newer = feature(1)
    newer["properties"] = newer["properties"] | {"updated": "2021-03-20T00:00:00Z"}
    items = ask(serve(pages([feature(0), feature(1), newer, feature(0)])))
    assert [i.name for i in items] == ["s0", "s1"] and items[1].published == pd.Timestamp("2021-03-20", tz="UTC")


def test_lost_items_are_noticed(serve):
    with pytest.raises(DataError, match="matched 9 items and sent 3"):
        ask(serve(pages([feature(i) for i in range(3)], numberMatched=9)))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_asked_again(serve, status):
    whole = pages([feature(i) for i in range(4)])

    def answer(path, body, number):
        return (status, {"Retry-After": "7"}, b"busy") if number in (1, 3) else whole(path, body, number)

    service, naps = serve(answer), Naps()
    assert len(ask(service, pace=naps)) == 4 and len(service.requests) == 4 and naps.slept == [7, 7]


def test_what_does_not_pass_is_passed_on(serve):
    service = serve(lambda *_: (500, {}, b'{"message": "broken"}'))
    with pytest.raises(TemporaryError, match="500.*broken"):
        ask(service)
    assert len(service.requests) == 3
    for status in (400, 401, 403, 404, 302):
        service = serve(lambda *_, s=status: (s, {"Location": "http://127.0.0.1:9/x"}, b"{}"))
        with pytest.raises(DataError, match=str(status)):
            ask(service)
        assert len(service.requests) == 1


def said(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize(
    ("body", "match", "asked"),
    [
        (b'{"features": [', "no whole JSON", 3),
        (b"\xff\xfe\x00{", "no whole JSON", 3),
        (b'{"features": "\xff"}', "no whole JSON", 3),
        (b"", "no whole JSON", 3),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deep", 1),
        (b'{"features": [' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"]}", "nested too deep", 1),
        ([1, 2], "no list of features", 1),
        ({"features": {}}, "no list of features", 1),
        ({"features": [None]}, "lacks its id", 1),
        ({"features": [{"id": 5}]}, "lacks its id", 1),
        ({"features": [feature(1, assets=[])]}, "lacks its id", 1),
        ({"features": [feature(1, assets={"pan": 3})]}, "no address", 1),
        ({"features": [feature(1, href="http://[bad")]}, "address that is none", 1),
        ({"features": [feature(1, assets={"pan": {"href": "x", "file:size": -1}})]}, "file:size", 1),
        ({"features": [feature(1, assets={"pan": {"href": "x", "file:size": True}})]}, "file:size", 1),
        ({"features": [feature(1, collection="other")]}, "asked was", 1),
        ({"features": [feature(1, properties={})]}, "datetime", 1),
        ({"features": [feature(1, properties={"datetime": None, "published": "2021-03-02T00:00:00Z"})]}, "datetime", 1),
        ({"features": [feature(1, properties={"datetime": "2021-03-02T00:00:00"})]}, "time zone", 1),
        ({"features": [feature(1, properties={"datetime": "now"})]}, "time zone", 1),
        ({"features": [feature(1, properties={"datetime": [1]})]}, "time zone", 1),
        ({"features": [feature(1, properties={"datetime": "2021-03-02T00:00:00Z"})]}, "state lag=", 1),
        ({"features": [feature(1, properties={"datetime": "2021-03-02T00:00:00Z",
                                              "created": "2021-03-01T00:00:00Z"})]}, "before it was taken", 1),
        ({"features": [], "links": [{"rel": "next", "href": "http://elsewhere.example/x"}]}, "not the catalogue's", 1),
        ({"features": [], "links": [{"rel": "next", "href": "file:///etc/passwd"}]}, "not the catalogue's", 1),
        ({"features": [], "links": [{"rel": "next"}]}, "without an address", 1),
    ],
)  # fmt: skip
def test_hostile_answers_give_one_clear_error(serve, body, match, asked):
    service = serve(lambda *_: (200, {}, said(body)))
    with pytest.raises(DataError, match=match) as caught:
        ask(service)
    assert len(service.requests) == asked and len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_page_that_is_its_own_next_ends(serve):
    link = {"rel": "next", "href": "/search?again", "method": "GET"}
    service = serve(lambda *_: (200, {}, said({"features": [], "links": [link]})))
    with pytest.raises(DataError, match="its own next"):
        ask(service)
    assert len(service.requests) == 2


@pytest.mark.parametrize("declared", [True, False])
def test_fifty_megabytes_are_not_read(serve, declared):
    body = b'{"features": ["' + b"x" * 50_000_000 + b'"]}'
    service = serve(lambda *_: (200, {} if declared else {"Content-Length": None}, body))
    start = time.monotonic()
    with pytest.raises(DataError, match="more than 1000000"):
        ask(service, max_page=1_000_000)
    assert time.monotonic() - start < 5 and len(service.requests) == 1


def test_a_length_that_lies_is_half_an_answer(serve):
    service = serve(lambda *_: (200, {"Content-Length": "5000"}, said({"features": []})))
    with pytest.raises(TemporaryError):
        ask(service)
    assert len(service.requests) == 3


def test_lag_stands_in_for_the_publication_only_where_there_is_none(serve):
    bare = feature(1, properties={"datetime": "2021-03-02T00:00:00Z"})
    ranged = feature(2, properties={"datetime": None, "end_datetime": "2021-03-03T00:00:00Z"})
    items = ask(serve(pages([bare, ranged, feature(3)])), lag="2D")
    assert [str(i.published)[:10] for i in items] == ["2021-03-04", "2021-03-05", "2021-03-05"]


def test_settings_that_cannot_be(serve):
    for wrong in ({"url": "file:///x"}, {"url": "ftp://h"}, {"url": "https://me:pw@h"},
                  {"url": "https://h", "per_second": 0},
                  {"url": "https://h", "lag": "-1D"}, {"url": "http://far.example", "key": "STAC_KEY"}):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            Stac(**wrong)
        assert "me:pw" not in str(caught.value)
    stac = Stac("https://h.example", pace=Naps())
    for box in ([0, 0, 1], [0, 5, 1, 1], [0, 0, float("nan"), 1]):
        with pytest.raises(ConfigError, match="bbox"):
            stac.search(["lots"], box, *SPAN)
    with pytest.raises(ConfigError, match="a list"):
        stac.search("lots", BOX, *SPAN)
    with pytest.raises(DataError, match="time zone"):
        stac.search(["lots"], BOX, "2021-03-01", "2021-04-01")


def test_the_key_goes_to_the_catalogue_alone_and_is_never_shown(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("STAC_TEST_KEY", "topsecretvalue99")
    other = serve(lambda *_: (200, {}, b"abc"))
    service = serve(lambda p, b, n: pages([feature(0, href=f"{other.url}/a.tif")])(p, b, n))
    stac = Stac(service.url, key="STAC_TEST_KEY", pace=Naps(), attempts=1, allowed=[other.host])
    items = stac.search(["lots"], BOX, *SPAN)
    stac.download(items, tmp_path, ["pan"])
    assert service.headers[0]["Authorization"] == "Bearer topsecretvalue99" and "Authorization" not in other.headers[0]
    refusing = serve(lambda *_: (403, {}, b'{"message": "topsecretvalue99 is not welcome"}'))
    with pytest.raises(DataError) as caught:
        Stac(refusing.url, key="STAC_TEST_KEY", pace=Naps()).search(["lots"], BOX, *SPAN)
    assert "topsecretvalue99" not in str(caught.value)
    monkeypatch.delenv("STAC_TEST_KEY")
    with pytest.raises(ConfigError, match="STAC_TEST_KEY"):
        stac.search(["lots"], BOX, *SPAN)


# ---- files

BODY = bytes(range(256)) * 1000


def item(href, name="s1", size=None, checksum=None, published="2021-03-03", collection="lots"):
    times = (pd.Timestamp("2021-03-02", tz="UTC"), pd.Timestamp(published, tz="UTC"))
    return StacItem(name, collection, *times, {"pan": StacAsset(href, size, checksum)})


def stored(folder):
    files = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return sorted(f for f in files if not f.endswith(("items.json", ".lock")))


def test_a_file_is_fetched_once_checked_and_kept(serve, tmp_path):
    service = serve(lambda *_: (200, {}, BODY))
    one = item(f"{service.url}/a.tif?sign=1", size=len(BODY), checksum="1220" + hashlib.sha256(BODY).hexdigest())
    stac = Stac(service.url, pace=Naps())
    got = stac.download([one, one], tmp_path, ["pan"])
    assert got["path"].tolist() == ["lots/s1/20210303T000000000000/pan.tif"] and len(service.requests) == 1
    assert (tmp_path / got["path"][0]).read_bytes() == BODY and stored(tmp_path) == got["path"].tolist()
    assert stac.download([one], tmp_path, ["pan"]).equals(got) and len(service.requests) == 1
    later = item(one.assets["pan"].href, published="2021-03-09")  # published anew: kept beside
    assert len(stac.download([one, later], tmp_path, ["pan"])) == 2 and len(stored(tmp_path)) == 2
    (tmp_path / got["path"][0]).write_bytes(b"changed")
    with pytest.raises(DataError, match="on the disk"):
        stac.download([one], tmp_path, ["pan"])
    assert stac.download([], tmp_path, ["pan"]).columns.tolist() == got.columns.tolist()


@pytest.mark.parametrize("method", [("1114", "sha1"), ("1220", "sha256"), ("1340", "sha512"), ("d50110", "md5")])
def test_checksums(serve, tmp_path, method):
    service, stac = serve(lambda *_: (200, {}, BODY)), None
    stac = Stac(service.url, pace=Naps(), attempts=2)
    right = method[0] + hashlib.new(method[1], BODY).hexdigest()
    stac.download([item(f"{service.url}/a.tif", checksum=right.upper())], tmp_path, ["pan"])
    with pytest.raises(DataError, match="checksum"):
        stac.download([item(f"{service.url}/b.tif", "s2", checksum=right[:-2] + "xx")], tmp_path, ["pan"])
    assert len(stored(tmp_path)) == 1


@pytest.mark.parametrize(
    ("headers", "body", "size", "error"),
    [
        ({"Content-Length": str(len(BODY) + 99)}, BODY, None, TemporaryError),  # longer than what comes
        ({"Content-Length": "100"}, BODY, len(BODY), DataError),  # shorter than what the catalogue says
        ({}, BODY, len(BODY) - 1, DataError),  # more than the catalogue says
        ({"Content-Length": None}, BODY, len(BODY) - 1, DataError),
        ({"Content-Length": None}, BODY, len(BODY) + 1, DataError),
        ({"Content-Length": str(10**15)}, b"x", None, DataError),  # over the limit
        ({"Content-Length": None}, b"x" * 400_000, None, DataError),
        ({"Content-Length": "-5"}, b"", 7, DataError),
    ],
)
def test_a_length_that_lies_leaves_nothing(serve, tmp_path, headers, body, size, error):
    service = serve(lambda *_: (200, headers, body))
    with pytest.raises(error) as caught:
        Stac(service.url, pace=Naps(), attempts=2, max_asset=300_000).download(
            [item(f"{service.url}/a.tif", size=size)], tmp_path, ["pan"]
        )
    assert stored(tmp_path) == [] and len(str(caught.value)) < 300


def test_half_a_file_is_asked_again(serve, tmp_path):
    service = serve(lambda p, b, n: (200, {"Content-Length": str(len(BODY))}, BODY[:1000] if n == 1 else BODY))
    got = Stac(service.url, pace=Naps()).download([item(f"{service.url}/a.tif")], tmp_path, ["pan"])
    assert (tmp_path / got["path"][0]).read_bytes() == BODY and len(service.requests) == 2


@pytest.mark.parametrize("href", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://elsewhere.example/x", "data:,x",
                                  "",
                                  "s3://bucket/x", "http://127.0.0.1:1/x", "//evil.example/x", "http://a b/",
                                  "gopher://x",
                                  "HOST@evil.example/x", "HOST\r\nX: y", "HOST:99999999/x", "HOST/ü"])  # fmt: skip
def test_other_addresses_are_refused_before_anything_is_asked(serve, tmp_path, href):
    service = serve(lambda *_: (200, {}, b"x"))
    fine = item(f"{service.url}/a.tif", "s0")
    with pytest.raises(DataError, match="not the catalogue's host"):
        Stac(service.url, pace=Naps()).download([fine, item(href.replace("HOST", service.url))], tmp_path, ["pan"])
    assert service.requests == [] and stored(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["../../up", "..", ".", "/etc/x", "a\\..\\b", "nul\0", "x\n", "", "y" * 500, "S2A:31/1", "ü"]
)
def test_names_stay_in_the_folder(serve, tmp_path, name):
    service = serve(lambda *_: (200, {}, b"x"))
    stac, inner = Stac(service.url, pace=Naps()), tmp_path / "in"
    for one in (item(f"{service.url}/a", name), item(f"{service.url}/a", collection=name)):
        try:
            stac.download([one], inner, ["pan"])
        except DataError as error:
            assert "file's name" in str(error) and name in ("..", ".", "", "y" * 500)
    assert all(f.startswith("in/") and f.count("/") == 4 for f in stored(tmp_path))


def test_an_asset_that_is_not_there_is_named(serve, tmp_path):
    with pytest.raises(DataError, match=r"has \['pan'\]"):
        Stac("https://h.example", pace=Naps()).download([item("https://h.example/a")], tmp_path, ["nir"])


def test_killed_between_two_files_and_resumed(serve, tmp_path):
    bodies = {f"/files/{i}.tif": bytes([i]) * (200_000 + i) for i in range(4)}
    reached, release, killed = threading.Event(), threading.Event(), threading.Event()

    def answer(path, body, number):
        if path == "/search":
            return pages([feature(i) for i in range(4)])(path, body, number)
        if path == "/files/2.tif" and not killed.is_set():  # the header and a half, then silence until it is dead
            reached.set()
            release.wait(20)
        return 200, {}, bodies[path]

    service = serve(answer)
    code = f"""
from quantlab.altdata.stac import Stac
stac = Stac({service.url!r}, per_second=1000)
stac.download(stac.search(["lots"], {BOX}, *{SPAN}), {str(tmp_path)!r}, ["pan"])
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=root(), env=os.environ | {"PYTHONPATH": str(root())})
    try:
        assert reached.wait(60)
        assert len([f for f in stored(tmp_path) if f.endswith(".tif")]) == 2
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert stored_scenes(tmp_path)["item"].tolist() == ["s0", "s1"]  # a run that dies has listed what it fetched
    killed.set()
    release.set()
    (tmp_path / "lots/s2/20210304T000000000000").mkdir(parents=True, exist_ok=True)
    (tmp_path / "lots/s2/20210304T000000000000/pan.tif.part").write_bytes(b"half")  # what a kill in mid-file leaves
    stac = Stac(service.url, pace=Naps())
    got = stac.download(stac.search(["lots"], BOX, *SPAN), tmp_path, ["pan"])
    assert stored(tmp_path) == sorted(got["path"]) and len(got) == 4
    for i, path in enumerate(got["path"]):
        assert (tmp_path / path).read_bytes() == bodies[f"/files/{i}.tif"]
    asked = [r for r in service.requests if "files" in r]
    assert [asked.count(f"GET /files/{i}.tif") for i in range(4)] == [1, 1, 2, 1]


# ---- times that a catalogue can hide

COMPOSITE = {"datetime": "2024-03-01T00:00:00Z", "end_datetime": "2024-03-17T00:00:00Z"}


def test_a_composite_is_acquired_with_its_last_pixels(serve):
    one = ask(serve(pages([feature(1, properties=COMPOSITE)])), lag="1D")[0]
    assert [str(t)[:10] for t in (one.acquired, one.published)] == ["2024-03-17", "2024-03-18"]
    inside = feature(1, properties=COMPOSITE | {"end_datetime": "2024-02-28T00:00:00Z"})  # the later of the two holds
    assert ask(serve(pages([inside])), lag="1D")[0].acquired == pd.Timestamp("2024-03-01", tz="UTC")
    early = feature(1, properties=COMPOSITE | {"created": "2024-03-02T00:00:00Z"})
    with pytest.raises(DataError, match="before it was taken"):
        ask(serve(pages([early])))


@pytest.mark.parametrize("end", ["", "soon", "2024-03-17", [1], 5])
def test_an_end_that_cannot_be_read_is_not_passed_over(serve, end):
    with pytest.raises(DataError, match="end_datetime"):
        ask(serve(pages([feature(1, properties=COMPOSITE | {"end_datetime": end})])), lag="1D")


@pytest.mark.parametrize("lag", ["16", "5 ", "-3", "", "soon", "1M", "1e3", "NaT", "999999999999D", 5, 1.5, True, [1],
                                 pd.NaT, "-1D", float("nan")])  # fmt: skip
def test_a_lag_without_a_unit_is_refused(lag):
    with pytest.raises(ConfigError, match="lag=") as caught:
        Stac("https://h.example", lag=lag)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("lag", ["16h", "P1D", "1 days 02:00:00", "0h", pd.Timedelta(days=1), timedelta(hours=5), None])
def test_a_lag_with_a_unit_is_taken(lag):
    assert Stac("https://h.example", lag=lag).lag == (None if lag is None else pd.Timedelta(lag))


@pytest.mark.parametrize("when", ["10:00Z", "T10:00Z", "Mar 2 10:00Z", "2021-03T10:00Z", "2021T10:00Z", "now", "today"])
def test_a_time_without_a_day_is_refused(serve, when):
    for times in ({"datetime": when, "published": "2099-01-01T00:00:00Z"}, COMPOSITE | {"updated": when}):
        with pytest.raises(DataError, match="a day and a time zone"):
            ask(serve(pages([feature(1, properties=times)])))
    with pytest.raises(DataError, match="a day and a time zone"):
        Stac("https://h.example", pace=Naps()).search(["lots"], BOX, when, SPAN[1])


# ---- the list of a store


def test_a_store_lists_what_it_holds_once(serve, tmp_path):
    service = serve(lambda *_: (200, {}, BODY))
    stac, first = Stac(service.url, pace=Naps()), item(f"{service.url}/a.tif", "s1", published="2021-03-09")
    assert stored_scenes(tmp_path / "nothing").empty and not (tmp_path / "nothing").exists()
    stac.download([], tmp_path / "nothing", ["pan"])
    assert not (tmp_path / "nothing").exists()
    got = stac.download([first], tmp_path, ["pan"])
    assert stored_scenes(tmp_path).equals(got)
    assert stored_scenes(tmp_path / "nothing").dtypes.equals(got.dtypes)
    stac.download([item(f"{service.url}/b.tif", "s2"), first], tmp_path, ["pan"])
    listed = stored_scenes(str(tmp_path))
    assert listed["item"].tolist() == ["s2", "s1"] and listed["known_at"].is_monotonic_increasing  # by publication
    assert listed.dtypes.equals(got.dtypes) and listed["bytes"].tolist() == [len(BODY)] * 2
    before = (tmp_path / "items.json").read_bytes()
    stac.download([first], tmp_path, ["pan"])
    assert (tmp_path / "items.json").read_bytes() == before and not list(tmp_path.rglob("*.part"))
    (tmp_path / listed["path"][0]).unlink()
    assert stored_scenes(tmp_path)["item"].tolist() == ["s1"]


def test_the_lock_of_a_store_is_taken_once_a_file_and_each_is_listed_before_the_next_is_asked_for(
    serve, tmp_path, monkeypatch
):
    service = serve(lambda path, *_: (404, {}, b"") if path == "/s2.tif" else (200, {}, BODY))
    held, taken, listed = stac_module._alone, [], []

    def alone(folder, *more):
        taken.append(len(service.requests))
        if len(taken) > 3:  # another process has come by: whoever asks once more waits for it
            raise TemporaryError("another process")
        return held(folder, *more)

    monkeypatch.setattr(stac_module, "_alone", alone)
    items = [item(f"{service.url}/s{i}.tif", f"s{i}") for i in range(3)]
    with pytest.raises(DataError, match="404"):  # the failure itself, not the wait for the lock
        Stac(service.url, pace=Naps()).download(
            items, tmp_path, ["pan"], lambda path: listed.append(stored_scenes(tmp_path)["path"].tolist())
        )
    assert taken == [0, 1, 2] and [len(paths) for paths in listed] == [1, 2]


def test_a_file_that_was_there_and_not_listed_is_listed_and_a_list_that_is_right_is_left_alone(
    serve, tmp_path, monkeypatch
):
    stac = Stac(serve(lambda *_: (200, {}, BODY)).url, pace=Naps())
    one = item(f"{stac.url}/a.tif")
    got = stac.download([one], tmp_path, ["pan"])
    (tmp_path / "items.json").unlink()  # as after a kill between the renaming and the list
    assert stac.download([one], tmp_path, ["pan"]).equals(got) and stored_scenes(tmp_path).equals(got)
    monkeypatch.setattr(stac_module, "_list_scenes", lambda *_: pytest.fail("the list is right"))
    assert stac.download([one], tmp_path, ["pan"]).equals(got)


def test_what_was_fetched_before_a_failure_is_listed(serve, tmp_path):
    service = serve(lambda path, *_: (200, {}, BODY) if path == "/a.tif" else (404, {}, b""))
    with pytest.raises(DataError, match="404"):
        Stac(service.url, pace=Naps()).download(
            [item(f"{service.url}/a.tif", "s1"), item(f"{service.url}/b.tif", "s2")], tmp_path, ["pan"]
        )
    assert stored_scenes(tmp_path)["item"].tolist() == ["s1"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[1]", b'{"item": 1}', b'[{"item": "s1"}]', b"[" * 10_000, "times"]
)
def test_a_damaged_list_is_refused_before_anything_is_asked(serve, tmp_path, content):
    service = serve(lambda *_: (200, {}, BODY))
    stac, one = Stac(service.url, pace=Naps()), item(f"{service.url}/a.tif")
    stac.download([one], tmp_path, ["pan"])
    file = tmp_path / "items.json"
    file.write_bytes(file.read_bytes().replace(b"2021-03-02T", b"T") if content == "times" else content)
    for call in (lambda: stored_scenes(tmp_path), lambda: stac.download([one], tmp_path, ["pan"])):
        with pytest.raises(DataError, match="items.json of the store is damaged"):
            call()
    assert len(service.requests) == 1


def test_two_processes_fetch_each_file_of_a_store_once_and_list_all(serve, tmp_path):
    bodies = {f"/files/{i}.tif": bytes([i]) * (100_000 + i) for i in range(8)}
    both = threading.Barrier(2, timeout=60)

    def answer(path, body, number):
        if path != "/search":
            time.sleep(0.05)  # long enough for the other one to come by
            return 200, {}, bodies[path]
        if not (body or {}).get("token"):
            both.wait()  # neither begins before the other
        return pages([feature(i) for i in range(8)], 4)(path, body, number)

    service = serve(answer)
    code = f"""
import sys
from quantlab.altdata.stac import Stac
stac, new = Stac({service.url!r}, per_second=1000), []
items = stac.search(["lots"], {BOX}, *{SPAN})
assert len(items) == 8
rows = stac.download(items[:6] if sys.argv[1] == "first" else items[2:], {str(tmp_path)!r}, ["pan"], new.append)
print(len(rows), len(new))
"""
    env = os.environ | {"PYTHONPATH": str(root())}
    children = [
        subprocess.Popen([sys.executable, "-c", code, which], cwd=root(), env=env, stdout=subprocess.PIPE, text=True)
        for which in ("first", "second")
    ]
    said = [child.communicate(timeout=120)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert [rows for rows, _ in said] == ["6", "6"] and sum(int(new) for _, new in said) == 8
    asked = [r for r in service.requests if "files" in r]
    assert sorted(asked) == [f"GET /files/{i}.tif" for i in range(8)]  # none twice
    listed = stored_scenes(tmp_path)
    assert stored(tmp_path) == sorted(listed["path"]) and len(listed) == 8
    for one in listed.itertuples():
        assert (tmp_path / one.path).read_bytes() == bodies[f"/files/{one.item[1:]}.tif"]


def test_a_store_that_another_process_holds_is_said(tmp_path):
    said = "another process has been fetching one file .* wait until it is done, or end it, and download again"
    with stac_module._alone(tmp_path), pytest.raises(TemporaryError, match=said):
        with stac_module._alone(tmp_path, 0.1):
            pass
    with pytest.raises(KeyError), stac_module._alone(tmp_path):
        raise KeyError
    with stac_module._alone(tmp_path, 0.1):  # given back, also after a failure
        pass


def test_a_collection_does_not_take_the_place_of_the_list(serve, tmp_path):
    service = serve(lambda *_: (200, {}, BODY))
    with pytest.raises(DataError, match="own list"):
        Stac(service.url, pace=Naps()).download([item(f"{service.url}/a", collection="Items.JSON")], tmp_path, ["pan"])
    assert service.requests == []
