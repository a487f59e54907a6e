"""commands.altdata_commands: quantlab altdata watch, once and for ever, against a server that speaks EDGAR."""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from quantlab.altdata.edgar import read_store, stored_filings
from quantlab.commands.altdata_commands import altdata_app, filing_line
from quantlab.commands.cli import app
from quantlab.core.config import root

LISTING = "/submissions/CIK0001048911.json"


def name_of(number):
    return f"0001193125-24-{number:06d}"


def submission(number, filed, form="8-K"):
    day = filed.replace("-", "")
    return (
        f"<SEC-DOCUMENT>\n<SEC-HEADER>\n<ACCEPTANCE-DATETIME>{day}160533\nACCESSION NUMBER:\t{name_of(number)}\n"
        f"CONFORMED SUBMISSION TYPE:\t{form}\nPUBLIC DOCUMENT COUNT:\t1\nCONFORMED PERIOD OF REPORT:\t20240207\n"
        f"FILED AS OF DATE:\t{day}\n\nFILER:\n\n\tCOMPANY DATA:\t\n\t\tCOMPANY CONFORMED NAME:\tFEDEX CORP\n"
        f"\t\tCENTRAL INDEX KEY:\t0001048911\n</SEC-HEADER>\n<DOCUMENT>\n<TYPE>{form}\n<SEQUENCE>1\n<FILENAME>m.htm\n"
        "<TEXT>\n<html><body><p>Item 2.02 Results</p><p>On February 7</p></body></html>\n</TEXT>\n</DOCUMENT>\n"
        "</SEC-DOCUMENT>\n"
    )


@pytest.fixture
def server(monkeypatch):
    bodies, asked, faults = {}, [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = bodies.get(self.path, "").encode()
            self.send_response(faults.pop() if faults else 200 if body else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()

    def serve(*rows):
        names, forms, days = (list(column) for column in zip(*rows, strict=True))
        recent = {"accessionNumber": [name_of(n) for n in names], "form": forms, "filingDate": days}
        for number, form, filed in rows:
            name = name_of(number)
            bodies[f"/Archives/edgar/data/1048911/{name.replace('-', '')}/{name}.txt"] = submission(number, filed, form)
        bodies[LISTING] = json.dumps({"tickers": ["FDX"], "filings": {"recent": recent, "files": []}})

    bodies["/files/company_tickers.json"] = json.dumps({"0": {"cik_str": 1048911, "ticker": "FDX"}})
    serve((1, "8-K", "2024-02-07"), (2, "8-K/A", "2024-02-15"))
    monkeypatch.setenv("QUANTLAB_EDGAR_URL", f"http://127.0.0.1:{http.server_port}")
    monkeypatch.setenv("QUANTLAB_EDGAR_IDENTITY", "test@example.com")
    http.serve_rows, http.asked, http.faults = serve, asked, faults
    yield http
    http.shutdown()
    http.server_close()


def call(*words):
    return CliRunner().invoke(altdata_app, ["watch", *map(str, words)])


def test_one_pass_prints_a_line_for_each_new_filing(server, tmp_path):
    done = call("--tickers", "fdx", "--once", "--store", tmp_path)
    assert done.exit_code == 0 and done.stdout.splitlines() == [
        f"2024-02-07 21:05:33+00:00  FDX  8-K  {name_of(1)}  2.02",
        f"2024-02-15 21:05:33+00:00  FDX  8-K/A  {name_of(2)}  2.02",
    ]
    assert done.stderr == "2 new filings of 1 companies\n"
    again = call("--tickers", "FDX", "--once", "--store", tmp_path)
    assert again.stdout == "" and again.stderr.startswith("0 new")
    assert stored_filings(tmp_path)["revision"].tolist() == [0, 1]


def test_since_and_the_lake(server, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path))
    done = call("--tickers", "1048911", "--once", "--since", "2024-02-10")
    assert name_of(2) in done.stdout and name_of(1) not in done.stdout
    assert len(read_store(tmp_path / "filings")) == 1 and "/files/company_tickers.json" not in server.asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tickers", "FDX"], "say --once for one pass, or --follow"),
        (["--tickers", "FDX", "--once", "--follow"], "say --once for one pass, or --follow"),
        (["--tickers", "FDX,F_X", "--once"], "'F_X' is no ticker"),
        (["--tickers", "", "--once"], "no ticker is given; name one or more, or CIKs: DIS, BRK-B, 1001039"),
        (["--tickers", " , ", "--follow"], "no ticker is given; name one or more, or CIKs: DIS, BRK-B, 1001039"),
        (["--tickers", "FDX", "--once", "--since", "soon"], "since='soon' is no day"),
    ],
)
def test_a_slip_is_refused_before_anything_is_asked(server, tmp_path, words, said):
    done = call(*words, "--store", tmp_path / "none")
    assert done.exit_code == 1 and said in str(done.exception)
    assert server.asked == [] and not (tmp_path / "none").exists()


def test_no_contact_is_refused_before_anything_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.delenv("QUANTLAB_EDGAR_IDENTITY")
    done = call("--tickers", "FDX", "--once", "--store", tmp_path)
    assert "QUANTLAB_EDGAR_IDENTITY is not set" in str(done.exception) and server.asked == []


def test_a_line_says_late_and_what_is_not_known():
    told = {
        "symbol": "KO",
        "form": "8-K",
        "accession": name_of(1),
        "filed": "2024-02-14",
        "accepted": None,
        "items": "",
    }
    assert filing_line(told | {"period": "2024-02-07"}) == (
        f"2024-02-14, hour unknown  KO  8-K  {name_of(1)}  late, 5 business days"
    )
    for period in ("2024-02-08", None):
        assert "late" not in filing_line(told | {"period": period})


def test_it_is_under_quantlab():
    done = CliRunner().invoke(app, ["altdata", "watch", "--help"])
    assert done.exit_code == 0 and all(word in done.stdout for word in ("--once", "--follow", "--since", "--tickers"))


@pytest.mark.slow  # it loads edgartools in a process of its own
def test_follow_goes_on_through_a_broken_answer_until_interrupted(server, tmp_path):
    program = "from quantlab.commands.cli import main; main()"
    words = ["altdata", "watch", "--tickers", "FDX", "--follow", "--pause", "1", "--store", str(tmp_path)]
    command = [sys.executable, "-c", program, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root(), env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes) as process:
        said = [process.stdout.readline() for _ in range(2)]
        server.faults.append(404)  # the next answer, whichever it is
        error = process.stderr.readline()
        server.serve_rows((3, "8-K", "2024-02-20"), (1, "8-K", "2024-02-07"), (2, "8-K/A", "2024-02-15"))
        said.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)
    assert [line.split()[4] for line in said] == [name_of(n) for n in (1, 2, 3)] and rest[0] == ""
    assert error.startswith("error: /") and "answered 404" in error and "Traceback" not in rest[1]
    assert process.returncode != 0 and len(read_store(tmp_path)) == 3


def test_ingest_reads_what_is_configured_and_show_lists_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path / "lake"))
    listed = tmp_path / "altdata.yaml"
    listed.write_text("filings: {tickers: ['1048911']}\ncalls: {folder: no/such/folder}\n")
    first = CliRunner().invoke(app, ["altdata", "ingest", "--sources", str(listed)])
    assert first.exit_code == 1 and "filings: " in first.stdout and "calls: failed" in first.stdout
    listed.write_text("filings: {tickers: ['1048911']}\n")
    again = CliRunner().invoke(app, ["altdata", "ingest", "--sources", str(listed)])
    assert again.exit_code == 0 and again.stdout == "filings: 0 new, 0 known\n"
    shown = CliRunner().invoke(app, ["altdata", "show"])
    assert shown.exit_code == 0 and "8-K" in shown.stdout
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path / "empty"))
    assert "nothing is stored" in CliRunner().invoke(app, ["altdata", "show"]).stdout


def test_ingest_without_a_file_says_what_to_write():
    done = CliRunner().invoke(app, ["altdata", "ingest"])
    assert done.exit_code != 0 and "no source is configured" in str(done.exception)
