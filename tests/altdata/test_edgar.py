"""altdata.edgar: a server that speaks EDGAR's addresses, and what goes wrong with it; nothing lost, nothing doubled."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pandas as pd
import pytest

from quantlab.altdata import edgar
from quantlab.altdata.edgar import (
    EdgarReader,
    company_ciks,
    edgar_identity,
    filing_list,
    parse_submission,
    read_store,
    store_filing,
    stored_filings,
    watch_filings,
    watch_list,
)
from quantlab.altdata.events import current_events
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.vendors.base import TemporaryError

DIS, FDX = "1001039", "1048911"
TICKERS, LISTING = "/files/company_tickers.json", f"/submissions/CIK{int(FDX):010d}.json"


def submission(accession, form="8-K", period="20240207", filed="20240207", clock="20240207160533", cik=FDX, **more):
    "Write a full submission as EDGAR does, with an exhibit that names items of its own."
    body = more.get("body", "<p>Item 2.02 Results</p><p>On February 7 ...</p><p>Item 9.01 Exhibits</p>")
    clock = f"<ACCEPTANCE-DATETIME>{clock}\n" if clock else ""
    return f"""<SEC-DOCUMENT>{accession}.txt : {filed}
<SEC-HEADER>{accession}.hdr.sgml : {filed}
{clock}ACCESSION NUMBER:\t\t{accession}
CONFORMED SUBMISSION TYPE:\t{form}
PUBLIC DOCUMENT COUNT:\t\t2
CONFORMED PERIOD OF REPORT:\t{period}
ITEM INFORMATION:\t\tResults of Operations and Financial Condition
FILED AS OF DATE:\t\t{filed}
DATE AS OF CHANGE:\t\t{filed}

FILER:

\tCOMPANY DATA:\t
\t\tCOMPANY CONFORMED NAME:\t\t\tFEDEX CORP
\t\tCENTRAL INDEX KEY:\t\t\t{int(cik):010d}
\t\tSTANDARD INDUSTRIAL CLASSIFICATION:\tAIR COURIER SERVICES [4513]
\t\tFISCAL YEAR END:\t\t\t0531

\tFILING VALUES:
\t\tFORM TYPE:\t\t{form}
\t\tSEC ACT:\t\t1934 Act
</SEC-HEADER>
<DOCUMENT>
<TYPE>{form}
<SEQUENCE>1
<FILENAME>main.htm
<DESCRIPTION>{form}
<TEXT>
<html><body>{body}<p>SIGNATURES</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-99.1
<SEQUENCE>2
<FILENAME>ex.htm
<DESCRIPTION>EX-99.1
<TEXT>
<html><body><p>Item 5.02 A trap</p></body></html>
</TEXT>
</DOCUMENT>
</SEC-DOCUMENT>
""".encode()


def name_of(number):
    return f"0001193125-24-{number:06d}"


def path_of(number, cik=FDX):
    return f"/Archives/edgar/data/{cik}/{name_of(number).replace('-', '')}/{name_of(number)}.txt"


def columns(*rows):
    "Write rows (number, form, filed) as a page of EDGAR's list, newest first."
    rows = sorted(rows, key=lambda row: row[2], reverse=True)
    return {
        "accessionNumber": [name_of(row[0]) for row in rows],
        "filingDate": [row[2] for row in rows],
        "reportDate": [row[2] for row in rows],
        "acceptanceDateTime": [f"{row[2]}T21:05:33.000Z" for row in rows],
        "form": [row[1] for row in rows],
        "items": ["2.02,9.01" for row in rows],
    }


class Server:
    "Answer GET requests on this machine: bodies by path, faults by path (taken once each, or for ever)."

    def __init__(self):
        self.bodies, self.faults, self.always, self.asked, self.agents = {}, {}, {}, [], set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                outer.agents.add(self.headers["User-Agent"])
                queue = outer.faults.get(self.path)
                fault = queue.pop(0) if queue else outer.always.get(self.path)
                body = outer.bodies.get(self.path)
                status, headers, body = fault or (200 if body is not None else 404, {}, body or b"<html>none</html>")
                if callable(body):
                    body(self)
                    return
                self.send_response(status)
                for key, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(key, str(value))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def texts(self):
        return [path for path in self.asked if path.endswith(".txt")]

    def serve(self, *recent, pages=(), cik=FDX, ticker="FDX"):
        "List filings and serve their documents; pages are lists of rows."
        files = []
        for number, rows in enumerate(pages, 1):
            name = f"CIK{int(cik):010d}-submissions-{number:03d}.json"
            days = sorted(row[2] for row in rows)
            files.append({"name": name, "filingCount": len(rows), "filingFrom": days[0], "filingTo": days[-1]})
            self.bodies[f"/submissions/{name}"] = json.dumps(columns(*rows)).encode()
        listing = {
            "cik": cik,
            "tickers": [ticker] if ticker else [],
            "filings": {"recent": columns(*recent), "files": files},
        }
        self.bodies[f"/submissions/CIK{int(cik):010d}.json"] = json.dumps(listing).encode()
        for number, form, filed in [*recent, *(row for rows in pages for row in rows)]:
            day = filed.replace("-", "")
            self.bodies[path_of(number, cik)] = submission(name_of(number), form, day, day, f"{day}160533", cik)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("QUANTLAB_EDGAR_IDENTITY", "Test Fund test@example.com")
    monkeypatch.delenv("QUANTLAB_EDGAR_URL", raising=False)
    server = Server()
    tickers = {"0": {"cik_str": int(FDX), "ticker": "FDX", "title": "FEDEX CORP"}}
    tickers["1"] = {"cik_str": int(DIS), "ticker": "DIS", "title": "Walt Disney Co"}
    tickers["2"] = {"cik_str": 1067983, "ticker": "BRK-B", "title": "BERKSHIRE HATHAWAY INC"}
    server.bodies[TICKERS] = json.dumps(tickers).encode()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def naps():
    return []


@pytest.fixture
def reader(server, naps):
    return EdgarReader(server.url, per_second=10, attempts=4, sleep=naps.append)


def accessions(records):
    return [record["accession"][-6:].lstrip("0") for record in records]


THREE = (1, "8-K", "2024-02-07"), (2, "8-K", "2024-02-08"), (3, "8-K", "2024-02-09")


def test_filings_are_stored_once_and_read_without_a_network(server, reader, tmp_path, monkeypatch):
    server.serve((9, "10-Q", "2024-02-01"), *THREE)
    assert accessions(watch_filings("fdx", tmp_path, reader=reader)) == ["1", "2", "3"]
    assert list(watch_filings(["FDX", FDX], tmp_path, reader=reader)) == [] and len(server.texts()) == 3
    assert server.agents == {"Test Fund test@example.com"}
    monkeypatch.setattr(socket, "socket", None)
    events = stored_filings(tmp_path)
    assert events["item"].tolist() == ["2.02", "9.01"] * 3 and set(events["symbol"]) == {"FDX"}
    assert events["known_at"].iloc[0] == pd.Timestamp("2024-02-07 21:05:33", tz="UTC")  # the header's, not the list's Z
    raw = gzip.decompress((tmp_path / f"{int(FDX):010d}" / f"{name_of(1)}.txt.gz").read_bytes())
    assert raw == server.bodies[path_of(1)]


def test_older_pages_are_read_where_since_asks_for_them(server, reader, tmp_path):
    older, oldest = (
        [(4, "8-K", "2020-03-01"), (5, "4", "2019-06-01")],
        [(6, "8-K", "2010-01-05"), (4, "8-K", "2020-03-01")],
    )
    server.serve(*THREE, pages=[older, oldest])
    assert len(filing_list(reader, FDX, "2024-02-08")[1]) == 2 and len(server.asked) == 1
    assert filing_list(reader, FDX, "2020-01-01")[1]["accession"].str[-1].tolist() == ["4", "1", "2", "3"]
    assert accessions(watch_filings(FDX, tmp_path, reader=reader)) == ["6", "4", "1", "2", "3"]
    before = len(server.asked)
    assert list(watch_filings(FDX, tmp_path, reader=reader)) == []
    assert server.asked[before:] == [LISTING]  # an older page that has not changed is not asked for again


def test_limits_and_broken_servers_are_asked_again(server, reader, naps):
    server.faults[TICKERS] = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), (500, {"Retry-After": "90000"}, b"")]
    assert company_ciks(reader) == {"FDX": FDX, "DIS": DIS, "BRK-B": "1067983"}
    waits = [nap for nap in naps if nap >= 1]
    assert waits == [7.0, 2.0, 600.0]
    server.always[TICKERS] = (503, {}, b"")
    with pytest.raises(TemporaryError, match="^/files/company_tickers.json answered 503 .*; run again later$"):
        company_ciks(reader)
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    "fault",
    [
        (200, {}, b'{"0": {"cik_str": 10489'),  # truncated by the service
        (200, {"Content-Length": 5000}, b'{"0": {"cik_str": 10489'),  # by the way
        (200, {}, b'{"0": "\xff\xfe"}'),
        (200, {}, b""),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""),
    ],
)
def test_half_an_answer_is_asked_again_and_named_at_the_end(server, reader, fault):
    server.faults[TICKERS] = [fault]
    assert company_ciks(reader)["DIS"] == DIS and len(server.asked) == 2
    server.always[TICKERS] = fault
    with pytest.raises(TemporaryError, match=r"^/files/company_tickers.json .*run again later") as caught:
        company_ciks(reader)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("body", [b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_json_nested_ten_thousand_deep_is_refused_at_once(server, reader, tmp_path, body):
    server.serve(*THREE)
    server.bodies[LISTING] = body
    with pytest.raises(DataError, match=f"{LISTING} is nested too deep"):
        list(watch_filings(FDX, tmp_path, reader=reader))
    assert len(server.asked) == 1


def pour(handler):
    "Send 50 MB without saying so before."
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(b" " * 2**20)
    except OSError:
        pass  # the reader has left


@pytest.mark.parametrize("said", [True, False])
def test_fifty_megabytes_are_refused_without_being_held(server, reader, said):
    server.always[TICKERS] = (200, {"Content-Length": 50 * 2**20}, b"{") if said else (200, {}, pour)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="/files/company_tickers.json has more than 33,554,432 bytes") as caught:
            company_ciks(reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not isinstance(caught.value, TemporaryError) and len(server.asked) == 1
    assert peak < (2 if said else 110) * 2**20


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((301, {"Location": "http://elsewhere.example/"}, b""), "answered 301 and points elsewhere"),
        ((302, {"Location": LISTING}, b""), "answered 302 and points elsewhere"),
        ((403, {}, b""), "answered 403 .*QUANTLAB_EDGAR_IDENTITY"),
        ((404, {}, b""), "answered 404 .*check the ticker or the CIK"),
        ((200, {}, b"[]"), "holds no tickers"),
        ((200, {}, b'{"0": {"ticker": 5}}'), "holds no tickers"),
        ((200, {}, b'{"0": {"ticker": "FDX", "cik_str": "../x"}}'), "holds no tickers"),
    ],
)
def test_what_will_not_pass_is_asked_once(server, reader, fault, words):
    server.always[TICKERS] = fault
    with pytest.raises(DataError, match=f"^/files/company_tickers.json {words}"):
        company_ciks(reader)
    assert server.asked == [TICKERS]


def test_a_server_that_is_not_there(server, naps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        reader = EdgarReader(f"http://127.0.0.1:{free.getsockname()[1]}", attempts=2, sleep=naps.append)
        with pytest.raises(TemporaryError, match="^/files/company_tickers.json did not answer .*check the network"):
            company_ciks(reader)


@pytest.mark.parametrize(
    "ticker", ["F_X", "../FDX", "FDX\r\nX: y", "DISNEY CO!", "", ",", "12345678901", "0", "ﬀ", "DIS.."]
)
def test_a_bad_ticker_is_refused_before_anything_is_asked(server, reader, tmp_path, ticker):
    for tickers in (ticker, ["DIS", ticker]):
        with pytest.raises(ConfigError, match="is no ticker and no CIK|no ticker is given"):
            watch_filings(tickers, tmp_path, reader=reader)
    assert server.asked == []


@pytest.mark.parametrize("none", ["", " , ", [], ()])
def test_an_empty_list_says_that_no_ticker_is_given_and_how_one_is(none):
    with pytest.raises(ConfigError, match="^no ticker is given; name one or more, or CIKs: DIS, BRK-B, 1001039$"):
        watch_list(none)


def test_the_watch_list():
    assert watch_list("dis, BRK.B\nBRK-B 0000320193 320193 DIS") == ["DIS", "BRK.B", "BRK-B", "320193"]


def test_a_class_of_shares_and_an_unknown_ticker(server, reader, tmp_path):
    server.serve((1, "8-K", "2024-02-07"), cik="1067983", ticker="BRK-B")
    assert [record["symbol"] for record in watch_filings("BRK.B", tmp_path, reader=reader)] == ["BRK.B"]
    with pytest.raises(DataError, match="knows no ticker FDZ; close to it: FDX.*; give the CIK"):
        list(watch_filings("DIS,FDZ", tmp_path, reader=reader))
    assert server.asked[-1] == TICKERS  # nothing of DIS was fetched


@pytest.mark.parametrize("identity", [None, "", "me", "me@here", "x@example.com\r\nX: y", "Ünï x@example.com"])
def test_a_contact_is_asked_for_before_the_network(server, tmp_path, monkeypatch, identity):
    monkeypatch.delenv("QUANTLAB_EDGAR_IDENTITY")
    if identity is not None:
        monkeypatch.setenv("QUANTLAB_EDGAR_IDENTITY", identity)
    monkeypatch.setenv("QUANTLAB_EDGAR_URL", server.url)
    with pytest.raises(ConfigError, match="QUANTLAB_EDGAR_IDENTITY .*; the SEC asks for a contact: Your Name you@"):
        watch_filings("FDX", tmp_path)
    with pytest.raises(ConfigError):
        edgar_identity()
    assert server.asked == []


def test_settings_of_the_reader(server, monkeypatch):
    for pace in (0, -1, 11, float("nan")):
        with pytest.raises(ConfigError, match="ten requests a second"):
            EdgarReader(per_second=pace)
    monkeypatch.setenv("QUANTLAB_EDGAR_URL", "sec.gov")
    with pytest.raises(ConfigError, match="QUANTLAB_EDGAR_URL is no address"):
        EdgarReader()
    with pytest.raises(ConfigError, match="since='soon' is no day"):
        watch_filings("FDX", ".", "soon", EdgarReader(server.url))


def test_the_pace_is_kept(server):
    reader, begin = EdgarReader(server.url, per_second=10), time.monotonic()
    for _ in range(4):
        company_ciks(reader)
    assert time.monotonic() - begin >= 0.3


def test_a_filing_that_cannot_be_had_holds_up_nobody(server, reader, tmp_path):
    server.serve(*THREE)
    del server.bodies[path_of(1)]
    server.bodies[path_of(2)] = submission(name_of(7))  # another filing than the one asked for
    got = []
    with pytest.raises(DataError, match=r"000001.txt answered 404 .*\(and 1 more\); what was fetched is stored"):
        got.extend(watch_filings("FDX", tmp_path, reader=reader))  # extend keeps what came before the error
    assert read_store(tmp_path)["accession"].tolist() == [name_of(3)]
    server.serve(*THREE)
    assert accessions(watch_filings("FDX", tmp_path, reader=reader)) == ["1", "2"]


def test_half_a_submission_is_never_stored(server, reader, tmp_path):
    server.serve(*THREE)
    whole = server.bodies[path_of(2)]
    server.bodies[path_of(2)] = whole[: len(whole) // 2]
    with pytest.raises(DataError, match=r"000002.txt: the submission does not come to its end; run again later"):
        list(watch_filings("FDX", tmp_path, reader=reader))
    assert len(read_store(tmp_path)) == 2
    server.bodies[path_of(2)] = whole
    assert accessions(watch_filings("FDX", tmp_path, reader=reader)) == ["2"]


def test_a_pass_ends_when_the_service_is_away(server, reader, tmp_path):
    server.serve(*[(n, "8-K", "2024-02-07") for n in range(1, 10)])
    server.always = {path_of(n): (503, {}, b"") for n in range(2, 10)}
    with pytest.raises(DataError, match=r"answered 503 .*\(and 2 more\)"):
        list(watch_filings("FDX", tmp_path, reader=reader))
    assert len(set(server.texts())) == 4 and len(read_store(tmp_path)) == 1
    server.always = {}
    assert len(list(watch_filings("FDX", tmp_path, reader=reader))) == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recent": []}, "lists no filings"),
        ({"recent": {"accessionNumber": [name_of(1)], "form": ["8-K"], "filingDate": []}}, "lists no filings"),
        (
            {"recent": {"accessionNumber": ["../../x"], "form": ["8-K"], "filingDate": ["2024-02-07"]}},
            "is no accession",
        ),
        ({"recent": {"accessionNumber": [name_of(1)], "form": ["8-K"], "filingDate": ["7 Feb"]}}, "is no filed"),
        ({"files": [{"name": "../../etc/passwd", "filingTo": "2030-01-01"}]}, "names a page"),
        ({"files": ["x"]}, "names a page"),
    ],
)
def test_a_hostile_list_is_refused(server, reader, tmp_path, change, words):
    listing = {"tickers": ["FDX"], "filings": {"recent": columns(*THREE), "files": []} | change}
    server.bodies[LISTING] = json.dumps(listing).encode()
    with pytest.raises(DataError, match=f"^{LISTING}:? .*{words}"):
        list(watch_filings(FDX, tmp_path, reader=reader))
    assert server.asked == [LISTING] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listing", [b"null", b"[]", b'{"filings": 5}', b'{"filings": {"recent": {"form": 1}}}'])
def test_a_list_of_another_shape(server, reader, listing):
    server.bodies[LISTING] = listing
    with pytest.raises(DataError, match="lists no filings as EDGAR does"):
        filing_list(reader, FDX)


def test_a_cik_is_filed_under_the_lists_ticker_or_itself(server, reader, tmp_path):
    server.serve((1, "8-K", "2024-02-07"), ticker="")
    server.serve((2, "8-K", "2024-02-07"), cik=DIS, ticker="dis")
    watched = {record["cik"]: record["symbol"] for record in watch_filings(f"{FDX} 000{DIS}", tmp_path, reader=reader)}
    assert watched == {FDX: f"CIK{int(FDX):010d}", DIS: "DIS"} and TICKERS not in server.asked
    assert set(read_store(tmp_path, {int(FDX): "FDX"})["symbol"]) == {"FDX", "DIS"}


def test_amendments_and_late_filings(server, reader, tmp_path):
    server.serve((1, "8-K", "2024-02-14"), (2, "8-K/A", "2024-02-20"))
    late = {"period": "20240207", "filed": "20240214", "clock": "20240214170000"}
    server.bodies[path_of(1)] = submission(name_of(1), **late)
    server.bodies[path_of(2)] = submission(name_of(2), "8-K/A", "20240207", "20240220", "20240220083000")
    list(watch_filings("FDX", tmp_path, reader=reader))
    events = stored_filings(tmp_path).query("item == '2.02'")
    assert events["revision"].tolist() == [0, 1] and events["late"].tolist() == [True, False]
    known = [current_events(stored_filings(tmp_path), f"2024-02-{day} 00:00+00:00") for day in (14, 15, 21)]
    assert [frame["accession"].str[-1].tolist() for frame in known] == [[], ["1", "1"], ["2", "2"]]


def test_documents_of_every_age_and_letter(server):
    old = "<p>Item 5. Other Events</p><p>Caf\xe9 \x93opened\x94</p><p>Item 7. Exhibits</p>"
    body = (
        submission(name_of(1), clock="", period="19990105", filed="19990106", body=old)
        .decode()
        .encode("cp1252", "replace")
    )
    plain = (
        body.replace(b"<html><body>", b"")
        .replace(b"<p>", b"\n")
        .replace(b"</p>", b"\n")
        .replace(b"</body></html>", b"")
    )
    for one in (body, plain):
        record = parse_submission(one, "FDX")
        assert record["items"] == "5,7" and record["accepted"] is None and record["period"] == "1999-01-05"
    assert "Caf\xe9" in parse_submission(body.replace(b"?", b""), "FDX")["text"]
    assert parse_submission(submission(name_of(1), "8-K12B"), "FDX")["items"] == "2.02,9.01"
    broken = submission(name_of(1)).replace(b"On February 7", b"On \xff\xfe\x00 7")
    assert parse_submission(broken, "FDX")["items"] == "2.02,9.01"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"</SEC-DOCUMENT>",
        b"<html>no</html></SEC-DOCUMENT>",
        b"\x00" * 5000 + b"</SEC-DOCUMENT>",
        submission(name_of(1))[:700] + b"</SEC-DOCUMENT>",
        submission(name_of(1), clock="20241399000000"),
        submission(name_of(1)).replace(b"0001048911", b"no number"),
    ],
)
def test_what_is_no_submission_is_a_data_error(body, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)  # the parser asks nobody
    with pytest.raises(DataError):
        parse_submission(body, "FDX")


@pytest.mark.slow  # it loads edgartools in a process of its own
def test_edgartools_leaves_nothing_in_the_home_and_no_variable_behind(tmp_path):
    (tmp_path / "body.txt").write_bytes(submission(name_of(1)))
    program = (
        "import os, pathlib\nfrom quantlab.altdata.edgar import parse_submission\n"
        f"body, before = pathlib.Path({str(tmp_path / 'body.txt')!r}).read_bytes(), dict(os.environ)\n"
        "assert parse_submission(body, 'FDX')['items'] == '2.02,9.01' and dict(os.environ) == before\n"
        "os.environ['EDGAR_CACHE_DIR'] = os.environ['HOME'] + '/mine'\n"
        "parse_submission(body, 'FDX'), print(os.environ['EDGAR_CACHE_DIR'])\n"
    )
    (home := tmp_path / "home").mkdir()
    told = {name: value for name, value in os.environ.items() if not name.startswith("EDGAR_")} | {"HOME": str(home)}
    told |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(root())}
    done = subprocess.run([sys.executable, "-c", program], env=told, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == f"{home}/mine", done.stderr
    assert {path.name for path in home.iterdir()} <= {"mine"} and not list(tmp_path.glob("edgartools-*"))


def test_the_variables_of_edgartools_are_as_before_after_a_call_that_fails(monkeypatch):
    monkeypatch.setenv("EDGAR_LOCAL_DATA_DIR", "/mine")
    monkeypatch.setenv("EDGAR_CACHE_DIR", "")
    with pytest.raises(KeyError), edgar._not_at_home():
        inside = os.environ["EDGAR_LOCAL_DATA_DIR"], os.environ["EDGAR_CACHE_DIR"]
        raise KeyError
    assert inside[0] == "/mine" and inside[1] and os.environ["EDGAR_CACHE_DIR"] == ""


def test_two_threads_that_parse_leave_the_variables_of_edgartools_as_they_were(monkeypatch):
    "Without a lock the one that ends first takes the variables from the other."
    monkeypatch.setenv("EDGAR_LOCAL_DATA_DIR", "")
    monkeypatch.delenv("EDGAR_CACHE_DIR", raising=False)
    first_is_in, second_is_in, seen = Event(), Event(), []

    def first():
        with edgar._not_at_home():
            first_is_in.set()
            second_is_in.wait(0.3)  # in vain: the second one waits for the first
            seen.append(("first", os.environ["EDGAR_LOCAL_DATA_DIR"], os.environ["EDGAR_CACHE_DIR"]))

    def second():
        first_is_in.wait(30)
        with edgar._not_at_home():
            second_is_in.set()
            threads[0].join(30)  # until the first one has put back what it found
            seen.append(("second", os.environ.get("EDGAR_LOCAL_DATA_DIR"), os.environ.get("EDGAR_CACHE_DIR")))

    threads = [Thread(target=first), Thread(target=second)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    place = edgar._folder().name
    assert seen == [("first", place, place), ("second", place, place)]
    assert os.environ["EDGAR_LOCAL_DATA_DIR"] == "" and "EDGAR_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("odd", [{}, {"cik": "1"}, "path", "number", "kind", "none"])
def test_a_record_that_is_none_is_refused_before_anything_is_written(tmp_path, odd):
    whole = dict.fromkeys(edgar.FILING_COLUMNS, "x") | {"cik": FDX, "accession": name_of(1)}
    changes = {
        "path": {"accession": "../../up"},
        "number": {"cik": "x"},
        "kind": {"filed": pd.NaT},
        "none": {"cik": None},
    }
    record = odd if isinstance(odd, dict) else whole | changes[odd]
    with pytest.raises(DataError, match="the record has no .*; store what parse_submission gives"):
        store_filing(tmp_path / "store", record, b"")
    assert list(tmp_path.iterdir()) == []
    assert store_filing(tmp_path / "store", whole | {"accepted": None}, b"").is_file()


def test_a_cik_that_is_none_is_refused_before_anything_is_asked(server, reader):
    for cik in ("x", "", "-5", "1" * 11):
        with pytest.raises(ConfigError, match="is no CIK"):
            filing_list(reader, cik)
    assert server.asked == []


def test_without_edgartools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgar", None)
    with pytest.raises(ConfigError, match=r"pip install 'quantlab\[filings\]'"):
        parse_submission(submission(name_of(1)), "FDX")


def test_a_broken_record_is_named_and_comes_again(server, reader, tmp_path):
    server.serve(*THREE)
    list(watch_filings("FDX", tmp_path, reader=reader))
    file = tmp_path / f"{int(FDX):010d}" / f"{name_of(2)}.json"
    for content in (b"", b"[]", b'{"symbol": "FDX"}', b"\xff", b"[" * 100_000):
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"record 0001048911/{file.name} is broken; delete it"):
            stored_filings(tmp_path)
    file.unlink()
    assert accessions(watch_filings("FDX", tmp_path, reader=reader)) == ["2"] and len(read_store(tmp_path)) == 3


def test_an_empty_store_is_empty_events(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        assert read_store(folder).empty and stored_filings(folder).empty


def test_a_writer_killed_at_any_step_loses_and_doubles_nothing(server, reader, tmp_path, monkeypatch):
    server.serve(*THREE[:2])
    real, n = os.replace, 0
    for killed in range(1, 4):
        store, calls = tmp_path / str(killed), []

        def replace(source, target, calls=calls, killed=killed):
            calls.append(target)
            if len(calls) == killed:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(edgar.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            list(watch_filings("FDX", store, reader=reader))
        monkeypatch.setattr(edgar.os, "replace", real)
        done = set(read_store(store)["accession"])
        fresh = {record["accession"] for record in watch_filings("FDX", store, reader=reader)}
        assert done | fresh == {name_of(1), name_of(2)} and not done & fresh
        assert len(stored_filings(store)) == 4
        n += len([file for file in store.rglob("*") if file.is_file()])
    assert n == 3 * 4  # a record and a packed text for each filing, nothing else


PROGRAM = """
import re, sys
from quantlab.altdata import edgar
def parse(body, symbol):  # without edgartools, whose import takes seconds
    name, day = re.search("NUMBER:\\t+(.*)", body.decode())[1], re.search("AS OF DATE:\\t+(.*)", body.decode())[1]
    told = {"symbol": symbol, "cik": "1048911", "company": "", "form": "8-K", "accession": name, "period": day}
    return told | {"filed": day, "accepted": None, "items": "2.02,9.01", "text": ""}
edgar.parse_submission = parse
for record in edgar.watch_filings("FDX", sys.argv[1], reader=edgar.EdgarReader(sys.argv[2], per_second=10)):
    print(record["accession"], flush=True)
"""


def test_killed_between_two_filings_and_started_again(server, reader, tmp_path):
    rows = [(n, "8-K", f"2024-02-{n:02d}") for n in range(1, 13)]
    server.serve(*rows)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root()) as process:
        said = [process.stdout.readline().strip() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    stored = set(read_store(tmp_path)["accession"])
    assert process.returncode == -signal.SIGKILL and set(said) <= stored and len(stored) < 12
    fresh = [record["accession"] for record in watch_filings("FDX", tmp_path, reader=reader)]
    assert sorted([*stored, *fresh]) == [name_of(n) for n, _, _ in rows]
    fetched = Counter(server.texts())
    assert len(fetched) == 12 and sum(fetched.values()) <= 13  # at most the one in flight twice
    assert len(stored_filings(tmp_path)) == 24


def test_two_monitors_on_one_store_write_the_same(server, reader, tmp_path):
    record = parse_submission(submission(name_of(1)), "FDX")
    first = store_filing(tmp_path, record, submission(name_of(1)))
    before = {file.name: file.read_bytes() for file in first.parent.iterdir()}
    store_filing(tmp_path, record, submission(name_of(1)))
    assert before == {file.name: file.read_bytes() for file in first.parent.iterdir()} and len(before) == 2


def test_progress_names_the_company_and_how_far(server, reader, tmp_path):
    server.serve(*THREE)
    server.serve((4, "8-K", "2024-02-07"), cik=DIS, ticker="DIS")
    seen = []
    list(watch_filings("FDX,DIS", tmp_path, reader=reader, progress=lambda *step: seen.append(step)))
    assert seen[0] == (0, 2, "FDX") and (0, 2, "FDX 2 of 3") in seen and seen[-1] == (2, 2, "done")
