"""The server: the library's numbers to the last digit, one sentence for whatever is sent, an orderly end."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_jobs import effects, start_worker, toys  # noqa: F401  toys is a fixture

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.execution.intent import FINAL_STATES, OPEN_STATES, OrderIntent
from quantlab.execution.paper_ledger import PaperLedger
from quantlab.execution.store import OrderStore
from quantlab.monitor.logs import open_log
from quantlab.ops.server import TraderWindow
from quantlab.recipe.decide import decide
from quantlab.risk.book import portfolio_risk

NAMES = ["AAPL", "AMZN", "BA", "BAC", "CAT", "CSCO", "CVX", "DIS", "GE", "IBM", "KO", "XOM"]


def asked(served, place, body):
    "Ask, and return the answer without its receipt."
    got = served.line.post(place, json=body)
    assert got.status_code == 200, (place, body, got.text)
    told = got.json()
    assert told.pop("receipt")["endpoint"] == place
    return told


class TestSameNumbers:
    def test_ten_thousand_scores_are_those_of_the_run(self, served):
        batch = served.done.predictions["score"].astype("float64")
        told = asked(served, "/predict", {"sessions": 2000})
        days, names = pd.to_datetime(told["dates"]), told["symbols"]
        over = pd.Series(told["scores"], pd.MultiIndex.from_arrays([days, names]), dtype="float64")
        assert len(over) == len(batch) >= 10_000 and set(names) == set(NAMES)
        assert over.index.equals(batch.index.set_names([None, None]))
        assert over.to_numpy().tobytes() == batch.to_numpy().tobytes(), "to the last bit"

    def test_parts_of_the_scores_are_those_of_the_whole(self, served):
        batch = served.done.predictions["score"]
        days = batch.index.unique("date")
        for at, sessions, names in ((300, 7, None), (-1, 1, ["KO"]), (0, 5, NAMES[:3]), (500, 250, NAMES[5:])):
            body = {"as_of": f"{days[at]:%Y-%m-%d}", "sessions": sessions} | ({"symbols": names} if names else {})
            told = asked(served, "/predict", body)
            chosen = days[days <= days[at]][-sessions:]
            own = batch[batch.index.isin(chosen, level="date") & batch.index.isin(names or NAMES, level="symbol")]
            assert told["scores"] == own.tolist() and told["symbols"] == own.index.get_level_values("symbol").tolist()
            assert told["dates"] == [f"{day:%Y-%m-%d}" for day in own.index.get_level_values("date")]

    def test_rows_of_features_that_are_sent_are_scored_as_the_last_model_does(self, served):
        features = served.done.features.loc[served.done.predictions.index[-24:]]
        rows = [
            [f"{day:%Y-%m-%d}", name, *map(float, row)]
            for (day, name), row in zip(features.index, features.to_numpy(), strict=True)
        ]
        told = asked(served, "/predict", {"features": {"columns": list(features), "rows": rows}})
        own = served.answers.snapshot().fitted.predict(features)["score"]
        assert told["scores"] == own.tolist() == served.done.predictions["score"].iloc[-24:].tolist()

    def test_risk_is_that_of_the_book(self, served):
        market, dice = served.answers.snapshot().risk, np.random.default_rng(3)
        for n in range(12):
            some = [str(name) for name in dice.permutation(NAMES)[: n + 1]]
            book = {name: float(dice.normal(0, 1000)) for name in some}
            confidence, cash = float(dice.uniform(0.9, 0.995)), float(dice.normal(0, 1e6))
            held = [{"symbol": name, "quantity": quantity} for name, quantity in book.items()]
            over = asked(served, "/risk", {"portfolio": held, "confidence": confidence, "cash": cash})
            assert_same_risk(over, portfolio_risk(book, confidence, market, cash=cash))
            assert_same_risk(asked(served, "/risk", {"portfolio": some}), portfolio_risk(some, 0.99, market, 1e6))

    def test_decisions_are_those_of_the_library(self, served):
        recipe, days = served.done.recipe, served.done.predictions.index.unique("date")
        for as_of in (None, f"{days[-30]:%Y-%m-%d}"):
            for book, cash in ((None, 0.0), ({"AAPL": 100.0, "KO": 50.5}, 1e6))[as_of is not None :]:
                body = {"as_of": as_of, "book": book, "cash": cash}
                over = asked(served, "/decide", {name: value for name, value in body.items() if value is not None})
                held = None if book is None else pd.Series(book, dtype="float64")
                own = decide(recipe, as_of or "2014-12-31", held, cash)
                assert over["weights"] == {name: float(share) for name, share in own.weights.items()}
                orders = own.orders.reset_index()
                assert [order["symbol"] for order in over["orders"]] == orders["symbol"].tolist()
                for name in orders.columns.drop("symbol"):
                    sent = [order[name] for order in over["orders"]]
                    assert sent == [plain(value) for value in orders[name]], name
                assert (over["due"], over["next_due"], over["equity"]) == (own.due, own.next_due, plain(own.equity))
                assert over["date"] == f"{own.date:%Y-%m-%d}" and over["left_out"] == list(own.left_out)


def plain(value):
    "A number as JSON has it."
    return value if isinstance(value, str) else float(value) if np.isfinite(value) else None


def assert_same_risk(over, own):
    told = own.to_dict()
    told.pop("tails")
    told["var"] = told.pop("VaR")
    assert over == json.loads(json.dumps(told)) and over["var"] == own.to_dict()["VaR"]


MARK = "s3same-" * 40  # of the caller; no answer may hold it
DEEP, LONG = 100_000, "x" * 1_000_000


def bodies():
    "Bodies that nobody means: by name, place and bytes."
    risk = lambda text: ("/risk", text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    hand = {
        "empty": "",
        "blank": "  \n",
        "null": "null",
        "true": "true",
        "number": "5",
        "text": f'"{MARK}"',
        "list": "[]",
        "half": '{"portfolio": ["AAPL"',
        "two": '{"portfolio": ["AAPL"]}{}',
        "comma": '{"portfolio": ["AAPL"],}',
        "single quotes": "{'portfolio': ['AAPL']}",
        "comment": '{"portfolio": ["AAPL"]} // x',
        "bom": b"\xef\xbb\xbf{}",
        "bytes": b"\xff\xfe\xfd",
        "cut utf-8": b'{"a": "\xc3"}',
        "overlong": b'{"portfolio": ["\xc0\xaf"]}',
        "surrogate": '{"portfolio": ["\\ud800"]}',
        "raw surrogate": '{"portfolio": ["\ud800"]}',
        "key surrogate": '{"portfolio": ["AAPL"], "\\ud800": 1}',
        "null byte": '{"portfolio": ["A\\u0000"]}',
        "raw null": '{"portfolio": ["A\0"]}',
        "NaN": '{"portfolio": ["AAPL"], "cash": NaN}',
        "Infinity": '{"portfolio": ["AAPL"], "cash": Infinity}',
        "-Infinity": '{"portfolio": [{"symbol": "AAPL", "quantity": -Infinity}]}',
        "1e400": '{"portfolio": ["AAPL"], "cash": 1e400}',
        "huge int": f'{{"portfolio": ["AAPL"], "cash": {"9" * 400}}}',
        "huger int": f'{{"portfolio": ["AAPL"], "cash": {"9" * 5000}}}',
        "huge quantity": f'{{"portfolio": [{{"symbol": "AAPL", "quantity": {"9" * 400}}}]}}',
        "1e308": '{"portfolio": [{"symbol": "AAPL", "quantity": 1e308}]}',
        "true as number": '{"portfolio": ["AAPL"], "confidence": true}',
        "text as number": '{"portfolio": ["AAPL"], "confidence": "0.99"}',
        "confidence 1": '{"portfolio": ["AAPL"], "confidence": 1}',
        "confidence -0": '{"portfolio": ["AAPL"], "confidence": -0.0}',
        "confidence almost 1": '{"portfolio": ["AAPL"], "confidence": 0.99999999999999}',
        "no names": '{"portfolio": []}',
        "no portfolio": '{"confidence": 0.99}',
        "object for list": '{"portfolio": {"AAPL": 5}}',
        "list for object": '{"portfolio": [["AAPL", 5]]}',
        "mixed": '{"portfolio": ["AAPL", {"symbol": "KO", "quantity": 5}]}',
        "empty name": '{"portfolio": [""]}',
        "long name": f'{{"portfolio": ["{LONG}"]}}',
        "many names": json.dumps({"portfolio": ["AAPL"] * 2001}),
        "zeros": '{"portfolio": [{"symbol": "AAPL", "quantity": 0}]}',
        "more": f'{{"portfolio": ["AAPL"], "{MARK}": 1}}',
        "marked": json.dumps({"portfolio": [{"symbol": "AAPL", "quantity": MARK}]}),
        "path": '{"portfolio": ["../../etc/passwd"]}',
        "sql": '{"portfolio": ["\'; DROP TABLE jobs; --"]}',
        "emoji": '{"portfolio": ["\U0001f600"]}',
        "right to left": '{"portfolio": ["\u202eLPAA"]}',
        "template": '{"portfolio": ["{{7*7}}${7*7}"]}',
        "__proto__": '{"__proto__": {"a": 1}, "portfolio": ["AAPL"]}',
        "duplicate": '{"portfolio": ["AAPL"], "portfolio": []}',
        "duplicate cash": '{"portfolio": ["AAPL"], "cash": 1, "cash": "x"}',
        "deep list": "[" * DEEP,
        "closed deep list": "[" * DEEP + "]" * DEEP,
        "deep object": '{"a":' * DEEP,
        "deep portfolio": '{"portfolio": ' + "[" * DEEP + "]" * DEEP + "}",
        "long key": f'{{"{LONG}": 1}}',
        "long text": f'"{LONG}"',
    }
    found = {f"risk {name}": risk(text) for name, text in hand.items()}
    dates = [
        "2013-02-30",
        "0000-00-00",
        "9999-12-31T",
        "2013-6-3",
        "20130603",
        "now",
        "",
        "2014-12-31\n",
        "\u0662\u0660\u0661\u0663-01-01",
        "-001-01-01",
        "2013-13-01",
        5,
        True,
        [],
        LONG,
    ]
    for n, date in enumerate(dates):
        for place in ("/predict", "/decide"):
            found[f"{place} date {n}"] = (place, json.dumps({"as_of": date}).encode())
    sessions = [0, -1, 2001, 1.5, "5", True, 10**400, 1e308, [5]]
    found |= {f"sessions {n}": ("/predict", json.dumps({"sessions": one}).encode()) for n, one in enumerate(sessions)}
    rows = [
        [],
        [[]],
        [["2013-01-02", "AAPL"]],
        [["2013-01-02", "AAPL", 1.0]],
        [["2013-01-02", "AAPL", 1.0, "x"]],
        [["x", "AAPL", 1.0, 1.0]],
        [["2013-01-02", "AAPL", 1.0, 1e308]],
        [["2013-01-02", "AAPL", 10**400, 1.0]],
        [["2013-01-02", "\ud800", 1.0, 1.0]],
        [["2013-01-02", "AAPL", 1.0, 1.0]] * 2,
        [["2013-01-02T00:00+01:00", "A", 1.0, 1.0], ["2013-01-02T00:00+02:00", "B", 1.0, 1.0]],
        [["now", "AAPL", 1.0, 1.0]],
        [[None, None, None, None]],
        [[1.0, 2.0, 3.0, 4.0]],
        [["2013-01-02", "AAPL", True, False]],
        [["99999-01-01", "AAPL", 1.0, 1.0]],
        [["2013-01-02", "A\0", 1.0, 1.0]],
        [["2013-01-02", LONG, 1.0, 1.0]],
        "x",
        {"a": 1},
        [["2013-01-02", "AAPL", [1.0], {}]],
    ]
    for n, some in enumerate(rows):
        found[f"rows {n}"] = (
            "/predict",
            json.dumps({"features": {"columns": ["rev_21", "mom_63_5"], "rows": some}}).encode(),
        )
    for n, some in enumerate([[], ["rev_21"], ["rev_21", "rev_21"], [5], ["rev_21", "x" * 41], "rev_21", None]):
        found[f"columns {n}"] = (
            "/predict",
            json.dumps({"features": {"columns": some, "rows": [["2013-01-02", "AAPL", 1.0, 1.0]]}}).encode(),
        )
    books = [
        [],
        "x",
        {"TSLA": 1.0},
        {"AAPL": "5"},
        {"AAPL": True},
        {"AAPL": None},
        {"": 1.0},
        {"\ud800": 1.0},
        {"A\0": 1.0},
        {LONG: 1.0},
        {"AAPL": {}},
        {"AAPL": 10**400},
    ]
    found |= {f"book {n}": ("/decide", json.dumps({"book": one, "cash": 1e6}).encode()) for n, one in enumerate(books)}
    jobs = [
        {},
        {"kind": "run"},
        {"kind": "order", "name": "small"},
        {"kind": "run", "name": "../small"},
        {"kind": "run", "name": "nobody"},
        {"kind": 5, "name": "small"},
        {"kind": "report", "name": "os:system"},
        {"kind": "report", "name": "tearsheet", "overrides": {"predictions": "/etc/passwd"}},
        {"kind": "run", "name": "small\0"},
        {"kind": "run", "name": "small", "overrides": {"model.kind": "os:system"}},
        {"kind": "run", "name": "small", "overrides": {"policy.top_k": {"a": LONG}}},
        {"kind": "run", "name": "small", "overrides": []},
        {"kind": "run", "name": "small", "overrides": {str(n): 1 for n in range(101)}},
        {"kind": "run", "name": "\ud800"},
        {"kind": "run", "name": "small", "overrides": {"\ud800": "\ud800"}},
        {"kind": "run", "name": "small", "overrides": {"policy.top_k": 10**400}},
        {"kind": "run", "name": "small", "overrides": {"data.universe": "\ud800"}},
        {"kind": "run", "name": "small", "idempotency": "a\0b"},
        {"kind": "run", "name": "small", "idempotency": "x" * 101},
        {
            "kind": "search",
            "name": "small",
            "overrides": {"vary": {"policy.top_k": {"low": 1, "high": 10**9, "step": 1}}},
        },
        {"kind": "run", "name": "small", "asked_by": "root"},
        {"kind": "run", "name": "small", "overrides": {"policy.top_k": [[[[[]]]]]}},
        {"kind": "report", "name": MARK},
        {"kind": MARK[:20], "name": "small"},
    ]
    found |= {f"job {n}": ("/jobs", json.dumps(one).encode()) for n, one in enumerate(jobs)}
    nan = b'{"kind": "run", "name": "small", "overrides": {"costs.slippage_bps": NaN}}'
    found |= {
        "job NaN": ("/jobs", nan),
        "job deep": (
            "/jobs",
            b'{"kind": "run", "name": "small", "overrides": {"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        ),
    }
    reasons = [
        {},
        {"reason": ""},
        {"reason": 5},
        {"reason": "x" * 1001},
        {"reason": None},
        {"reason": ["x"]},
        {"reason": "the feed is back", "who": "root"},
        {"reason": "\ud800 is no text at all"},
    ]
    for place in ("/switch/trip", "/switch/rearm"):
        found |= {f"{place} {n}": (place, json.dumps(one).encode()) for n, one in enumerate(reasons)}
    return found


def generated(count, seed=9):
    "Valid bodies with one part replaced by something else."
    dice = random.Random(seed)
    good = [
        ("/risk", {"portfolio": [{"symbol": "AAPL", "quantity": 5.0}], "confidence": 0.99, "cash": 1.0}),
        ("/predict", {"as_of": "2013-06-28", "sessions": 5, "symbols": ["AAPL"]}),
        ("/decide", {"book": {"AAPL": 5.0}, "cash": 1e6}),
        ("/jobs", {"kind": "run", "name": "small", "overrides": {"policy.top_k": 3}, "idempotency": "x"}),
    ]
    wrong = [
        None,
        True,
        -1,
        10**30,
        1e308,
        "",
        "\0",
        "\ud83d",
        "../x",
        MARK,
        [],
        {},
        [[]],
        {"a": {}},
        ["x"] * 50,
        "\u202e",
        0.1,
        "NaN",
        [None],
        {"": None},
    ]

    def spoil(value):
        if isinstance(value, dict) and value and dice.random() < 0.8:
            name = dice.choice(list(value))
            return value | {name: spoil(value[name])}
        if isinstance(value, list) and value and dice.random() < 0.8:
            return [spoil(value[0]), *value[1:]]
        return dice.choice(wrong)

    for _ in range(count):
        place, body = dice.choice(good)
        yield place, json.dumps(spoil(body)).encode()


def refused(got, what, least=400):
    "Hold an answer against what a refusal is."
    assert least <= got.status_code < 500, (what, got.status_code, got.text[:300])
    told = got.json()
    assert list(told) == ["error"] and 0 < len(told["error"]) < 1500, (what, got.text[:300])
    said = told["error"]
    assert MARK not in said and "x" * 200 not in said and "[[[[" not in said, (what, "an echo")
    assert "Traceback" not in said and 'File "' not in said and "\n" not in said, (what, said)
    assert got.headers["content-type"] == "application/json" and got.headers["x-request-id"]


class TestHostileBodies:
    def test_each_is_refused_in_one_sentence(self, served):
        there = bodies()
        assert len(there) >= 150
        for what, (place, body) in there.items():
            got = served.line.post(place, content=body, headers={"content-type": "application/json"})
            refused(got, what)
        assert served.jobs.rows() == [], "nothing was put down"
        assert asked(served, "/risk", {"portfolio": ["AAPL", "KO"]})["var"] > 0

    def test_a_spoiled_body_is_answered_or_refused(self, served):
        kinds = set()
        for place, body in generated(150):
            got = served.line.post(place, content=body, headers={"content-type": "application/json"})
            kinds.add(got.status_code // 100)
            if got.status_code >= 300:
                refused(got, (place, body))
            assert MARK not in got.text
        assert kinds == {2, 4}
        for row in served.jobs.rows(last=1000):
            served.jobs.cancel(row.id, "test")

    @pytest.mark.parametrize(
        "kind",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "",
            "\u00fc",
            "a/b/c",
            "application/json; charset=utf-16",
            "x" * 5000,
        ],
    )
    def test_only_json_is_read(self, served, kind):
        got = served.line.post(
            "/risk", content=b'{"portfolio": ["AAPL"], "cash": "x"}', headers={"content-type": kind.encode("latin-1")}
        )
        refused(got, kind)

    def test_a_body_that_is_too_large_is_not_read(self, served):
        big = b'{"portfolio": ["' + b"x" * 5_000_000 + b'"]}'
        got = talk(served, b"POST /risk HTTP/1.1\r\n%s\r\ncontent-length: %d\r\n\r\n" % (heads(served), len(big)), big)
        assert got.startswith(b"HTTP/1.1 413 ") and b"x" * 50 not in got and sentence(got)
        parts = (big[n : n + 100_000] for n in range(0, len(big), 100_000))
        got = talk(
            served,
            b"POST /risk HTTP/1.1\r\n%s\r\ntransfer-encoding: chunked\r\n\r\n" % heads(served),
            b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts),
        )
        assert got.startswith(b"HTTP/1.1 413 ") and sentence(got)

    def test_a_body_in_pieces_without_a_length_is_read(self, served):
        body = b'{"portfolio": ["AAPL"]}'
        parts = b"".join(b"1\r\n%c\r\n" % one for one in body) + b"0\r\n\r\n"
        got = talk(served, b"POST /risk HTTP/1.1\r\n%s\r\ntransfer-encoding: chunked\r\n\r\n" % heads(served), parts)
        assert got.startswith(b"HTTP/1.1 200 ")


def heads(served, host=b"127.0.0.1"):
    "Headers of somebody who may do everything."
    token = served.token["all"].encode()
    return b"host: %s\r\nauthorization: Bearer %s\r\ncontent-type: application/json" % (host, token)


def talk(served, *parts, seconds=10.0):
    "Send bytes as they are; return all that comes back until the server closes or has answered once."
    with socket.create_connection(("127.0.0.1", served.port), timeout=seconds) as line:
        try:
            for part in parts:
                line.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has refused already, and closed
        got = b""
        try:
            while part := line.recv(65_536):
                got += part
                head, gap, body = got.partition(b"\r\n\r\n")
                length = next(
                    (int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")), None
                )
                if gap and length is not None and len(body) >= length:
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return got


def sentence(got):
    "Return the sentence of a refusal that came as bytes."
    told = json.loads(got.partition(b"\r\n\r\n")[2])
    assert list(told) == ["error"]
    return told["error"]


class TestHostileLines:
    @pytest.mark.parametrize(
        "more",
        [
            b"content-length: -1",
            b"content-length: 5x",
            b"content-length: " + b"9" * 30,
            b"content-length: " + b"9" * 5000,
            b"content-length: 1, 2",
            b"content-length: 5\r\ncontent-length: 6",
            b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nZZ",
            b"transfer-encoding: gzip",
            b"x: a\0b",
            b"x: " + b"y" * 200_000,
            b": empty",
            b"no colon",
            b"x" * 70_000 + b": y",
            b"transfer-encoding: chunked\r\n\r\n-5\r\nabc",
            b"content-length: 0x10",
        ],
        ids=lambda one: repr(one[:40]),
    )
    def test_broken_headers(self, served, more):
        got = talk(served, b"POST /risk HTTP/1.1\r\n%s\r\n%s\r\n\r\n" % (heads(served), more), b"12345", seconds=4)
        assert got == b"" or got.startswith(b"HTTP/1.1 4"), got[:200]
        assert b"Traceback" not in got and served.line.get("/health").status_code == 200

    @pytest.mark.parametrize(
        "line",
        [
            b"GET\r\n\r\n",
            b"\r\n\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET /health\r\n\r\n",
            b"\0" * 1000,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /health HTTP/1.1\r\n\r\n",
            b"A" * 100_000,
            b"GET /\xff\xfe HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        ],
        ids=lambda one: repr(one[:30]),
    )
    def test_what_is_no_question_of_http(self, served, line):
        got = talk(served, line, seconds=0.5)
        assert got == b"" or got.startswith(b"HTTP/1.1 4"), got[:200]
        assert served.line.get("/health").status_code == 200

    @pytest.mark.parametrize(
        "place",
        [
            "/../settings.ini",
            "/jobs/../../etc/passwd",
            "/jobs/..%2f..%2fetc%2fpasswd",
            "/%2e%2e/x",
            "/jobs/%00",
            "/jobs/a%0ab",
            "/risk%00",
            "/risk/",
            "//risk",
            "/RISK",
            "/jobs/'%20OR%201=1",
            "/jobs/" + "a" * 65,
            "/jobs/" + "a" * 60_000,
            "/jobs/%ff%fe",
            "/jobs/\u00fc",
            "/\U0001f600",
            "/metrics/../metrics",
            "/risk;x=1",
            "/risk%3fx",
            "/risk\\",
        ],
        ids=lambda place: place[:30],
    )
    def test_places_that_are_none(self, served, place):
        for method in (b"GET", b"POST", b"DELETE"):
            got = talk(
                served,
                b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, place.encode("latin-1", "xmlcharrefreplace"), heads(served)),
                seconds=4,
            )
            assert got.startswith(b"HTTP/1.1 4") and b"root:" not in got and b"[data]" not in got, got[:200]
            if b"application/json" in got:
                assert sentence(got) and place[-30:].encode("utf-8") not in got.partition(b"\r\n\r\n")[2]

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "HEAD", "GET", "BREW"])
    def test_methods_that_are_none(self, served, method):
        got = served.line.request(method, "/risk")
        assert got.status_code == 405 and (method == "HEAD" or "is not asked with" in got.json()["error"])

    def test_ids_and_queries_that_are_none(self, served):
        for place, status in (
            ("/jobs/none", 404),
            ("/jobs?last=x", 422),
            ("/jobs?last=" + "9" * 5000, 422),
            ("/jobs?state=lost", 422),
            ("/jobs?state=%00", 422),
            ("/jobs?state=" + "x" * 9000, 422),
            ("/jobs?last=-1", 422),
            ("/jobs?last=0", 422),
            ("/jobs?last=1001", 422),
            ("/book", 404),
            ("/orders", 404),
            ("/switch", 404),
        ):
            got = served.line.get(place)
            assert got.status_code == status, (place[:40], got.text[:300])
            refused(got, place[:40])
        assert served.line.get("/jobs?state=done&last=1&more=1").json() == []

    def test_a_body_that_dribbles_is_given_up(self, served):
        began = time.monotonic()
        got = talk(served, b"POST /risk HTTP/1.1\r\n%s\r\ncontent-length: 23\r\n\r\n{" % heads(served))
        assert got.startswith(b"HTTP/1.1 408 ") and "did not arrive within 1 seconds" in sentence(got)
        assert 0.9 < time.monotonic() - began < 5

    def test_many_that_dribble_do_not_keep_others_waiting(self, served):
        lines = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(100)]
        try:
            for line in lines:
                line.sendall(b"POST /risk HTTP/1.1\r\n%s\r\ncontent-length: 23\r\n\r\n{" % heads(served))
            began = time.monotonic()
            assert served.line.get("/health").status_code == 200 and time.monotonic() - began < 1
            assert asked(served, "/risk", {"portfolio": ["AAPL"]})["var"] > 0
        finally:
            for line in lines:
                line.close()

    def test_no_websocket(self, served):
        more = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        more += b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
        got = talk(served, b"GET /risk HTTP/1.1\r\n%s\r\n%s\r\n\r\n" % (heads(served), more), seconds=3)
        assert got.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ", b"HTTP/1.1 426 "))


def test_an_order_that_is_open_is_shown_whatever_became_of_it(tmp_path, monkeypatch):
    home = tmp_path / "paper" / "momentum"
    window = TraderWindow(home, Ledger(tmp_path / "ledger.sqlite"))
    PaperLedger(home).begin({"strategy": "momentum", "recipe": {}}, "2024-01-02T21:00:00+00:00")
    store = OrderStore(home / "trader" / "orders.sqlite")
    states = (*OPEN_STATES, *FINAL_STATES)
    for day in ("2024-01-02", "2024-01-03"):
        store.add([OrderIntent(f"{day}{s}", "s", day, s.upper(), Decimal(1), Decimal(10)) for s in states])
    monkeypatch.setattr("quantlab.execution.store.check_move", lambda *_: None)
    for day, state in itertools.product(("2024-01-02", "2024-01-03"), states):
        if state != "created":
            store.move(day + state, state, "engine")
    store.close()
    assert {"trader": "momentum", "kind": "paper"}.items() <= window.book().items()
    shown = {one["id"] for one in window.orders()}
    assert shown == {f"2024-01-03{s}" for s in states} | {f"2024-01-02{s}" for s in OPEN_STATES}


def fuzz(served, examples):
    "Let schemathesis ask each operation."
    schemathesis = pytest.importorskip(
        "schemathesis", reason="schemathesis is not installed: pip install 'quantlab[dev]'"
    )
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    schema = schemathesis.openapi.from_dict(served.line.get("/openapi.json").json())
    schema.config.base_url = served.address
    headers, seen = {"Authorization": served.line.headers["Authorization"]}, []
    quiet = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            def ask(case):
                got = case.call(headers=headers, base_url=served.address, timeout=30)
                assert got.status_code < 500, (
                    case.operation.label,
                    got.status_code,
                    got.text[:300],
                    case.as_curl_command()[:500],
                )
                seen.append((case.operation.label, got.status_code // 100))

            try:
                quiet(given(case=operation.as_strategy(generation_mode=mode))(ask))()
            except Unsatisfiable:  # nothing can be wrong about an operation without parameters
                pass
    for row in served.jobs.rows(last=1000):
        if row.state in ("queued", "running"):
            served.jobs.cancel(row.id, "test")
    return seen


def test_what_schemathesis_makes_of_the_page(served):
    seen = fuzz(served, 4)
    assert len({label for label, _ in seen}) == 15


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_page_at_length(served):
    seen = fuzz(served, 50)
    assert len({label for label, _ in seen}) == 15 and {kind for _, kind in seen} >= {2, 4}


class Stub:
    "Answers that are told what to say."

    def __init__(self, ledger, answer=lambda place, body: {"ok": 1}):
        self.ledger, self.store, self.name, self.stage = ledger, None, "stub", "candidate"
        self.answer, self.looks, self.refused = answer, 0, None

    def refresh(self):
        self.looks += 1
        if self.refused:
            raise self.refused

    def standing(self):
        return "", "2014-12-31"


@pytest.fixture
def open_door(tmp_path):
    "Serve anything for one test: give answers, get address, tokens and log."
    from contextlib import ExitStack

    import httpx

    from quantlab.ops.jobs import JobTable
    from quantlab.ops.server import create_app, serving
    from quantlab.ops.tokens import SCOPES, TokenFile

    with ExitStack() as stack:

        def begin(answers, **more):
            tokens, log = TokenFile(tmp_path / "tokens.json"), tmp_path / "server.log"
            token = tokens.issue("ann", SCOPES)
            app = create_app(answers, tokens, JobTable(tmp_path / "jobs.sqlite"), log=open_log("server", log), **more)
            address = stack.enter_context(serving(app))
            line = stack.enter_context(httpx.Client(base_url=address, timeout=60))
            line.headers["Authorization"] = f"Bearer {token}"
            return SimpleNamespace(
                app=app,
                address=address,
                line=line,
                tokens=tokens,
                token=token,
                log=log,
                port=int(address.rpartition(":")[2]),
            )

        yield begin


@pytest.fixture
def stub(tmp_path):
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'quantlab[serve]'")
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    return Stub(Ledger(tmp_path / "stub.sqlite"))


def wait_until(what, seconds=20):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


class TestStanding:
    def test_old_bars_are_said_and_newer_ones_taken(self, registered_small, held, open_door, monkeypatch):
        from quantlab.ops import answers as module

        small, at = registered_small, [pd.Timestamp("2014-12-31 22:00", tz="UTC")]
        answers = module.Answers("small", "candidate", 1e6, small.store, small.ledger, lambda: at[0], pause="0s")
        answers._held = held.snapshot()
        door, real = open_door(answers, pause=3600.0), module.market_bars
        risk = lambda: door.line.post("/risk", json={"portfolio": ["AAPL", "KO"]})
        assert risk().json()["as_of"] == "2014-12-31" == door.line.get("/ready").json()["as_of"]
        at[0] = pd.Timestamp("2015-01-02 21:59:59", tz="UTC")
        assert risk().json()["as_of"] == "2014-12-31", "the next bars are not due yet"
        at[0] = pd.Timestamp("2015-01-02 22:00", tz="UTC")
        monkeypatch.setattr(module, "market_bars", lambda recipe, as_of: real(recipe, "2014-12-31"))
        for place in ("/risk", "/predict", "/decide"):
            got = door.line.post(place, json={"portfolio": ["AAPL"]} if place == "/risk" else {})
            assert got.status_code == 503 and got.headers["retry-after"] == "60", got.text
            assert got.json()["error"].startswith("no answer: ") and "2014-12-31" in got.json()["error"]
        ready = door.line.get("/ready")
        assert ready.status_code == 503 and not ready.json()["ready"] and ready.json()["why"] == got.json()["error"]
        assert door.line.get("/health").status_code == 200
        assert "quantlab_server_ready 0.0" in door.line.get("/metrics").text
        monkeypatch.setattr(module, "market_bars", real)
        told = risk().json()
        assert told["as_of"] == "2015-01-02" == told["receipt"]["as_of"] and door.line.get("/ready").status_code == 200
        assert_same_risk(
            {n: v for n, v in told.items() if n != "receipt"},
            portfolio_risk(["AAPL", "KO"], 0.99, answers.snapshot().risk, 1e6),
        )

    def test_a_version_that_was_promoted_is_taken_without_a_restart(
        self, registered_small, held, open_door, monkeypatch
    ):
        from quantlab.ops import answers as module

        small, told = registered_small, ["old"]
        second = held.snapshot().version._replace(version=2, run_id=held.snapshot().version.run_id)
        monkeypatch.setattr(module, "at_stage", lambda *_: held.snapshot().version if told[0] == "old" else second)
        read = []
        monkeypatch.setattr(module, "load_recipe", lambda *given: read.append(given) or held.snapshot().fitted)
        monkeypatch.setattr(module, "take_snapshot", lambda version, *_: replace(held.snapshot(), version=version))
        answers = module.Answers("small", "candidate", 1e6, small.store, small.ledger, held.clock)
        answers._held = held.snapshot()
        door = open_door(answers, pause=0.05)
        version = lambda: door.line.post("/risk", json={"portfolio": ["AAPL"]}).json()["receipt"]["version"]
        time.sleep(0.3)
        assert version() == 1 and not read, "what stands is not read again"
        told[0] = "new"
        wait_until(lambda: version() == 2)
        assert len(read) == 1 and door.line.get("/ready").status_code == 200

    def test_no_model_is_said(self, tmp_path, open_door, stub, monkeypatch):
        from quantlab.core.errors import ReportError
        from quantlab.ops import answers as module

        def nobody(*_):
            raise ReportError("no version of 'small' stands at production")

        monkeypatch.setattr(module, "at_stage", nobody)
        door = open_door(module.Answers("small", "production", 1e6, tmp_path / "x.sqlite", stub.ledger))
        got = door.line.post("/risk", json={"portfolio": ["AAPL"]})
        assert got.status_code == 503 and got.json()["error"] == "no version of 'small' stands at production"
        assert door.line.get("/ready").json() == {"ready": False, "as_of": None, "why": got.json()["error"]}

    def test_a_look_that_fails_is_not_the_last_one(self, open_door, stub):
        stub.refused = RuntimeError("the registry is locked")
        door = open_door(stub, pause=0.02)
        wait_until(lambda: stub.looks > 5)
        assert "refresh failed" in door.log.read_text() and door.line.get("/health").status_code == 200


class TestDoor:
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "127.0.0.2",
            "",
            "127.0.0.1@evil.example",
            "*",
            "[::2]",
            "evil.example\\127.0.0.1",
        ],
    )
    def test_a_name_that_is_not_its_own(self, served, host):
        for place in ("/health", "/risk"):
            got = served.line.get(place, headers={"host": host})
            assert got.status_code == 400, (host, got.text)
            refused(got, host)
            assert "asked by that name" in got.json()["error"]

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8321", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8321"])
    def test_its_own_names(self, served, host):
        assert served.line.get("/health", headers={"host": host}).status_code == 200

    def test_who_asks_too_often_waits_and_the_others_do_not(self, open_door, stub):
        from quantlab.ops.server import DoorLimits

        door = open_door(stub, limits=DoorLimits(rate=2))
        other = {"Authorization": f"Bearer {door.tokens.issue('bob')}"}
        ask = lambda **more: door.line.post("/risk", json={"portfolio": ["AAPL"]}, **more)
        got = [ask() for _ in range(12)]
        assert [one.status_code for one in got[:4]] == [200] * 4 and got[-1].status_code == 429
        assert got[-1].headers["retry-after"] == "1" and "more than 2 questions a second" in got[-1].json()["error"]
        assert ask(headers=other).status_code == 200
        unknown = [ask(headers={"Authorization": "Bearer x"}).status_code for _ in range(12)]
        assert unknown[0] == 401 and unknown[-1] == 429, "guessing is slowed down too"
        assert {door.line.get("/health").status_code for _ in range(20)} == {200}
        time.sleep(1)
        assert ask().status_code == 200

    def test_each_answer_has_a_name_that_the_log_knows_and_no_secret_is_in_it(self, served):
        token, before = served.token["all"], served.log.stat().st_size
        got = [
            served.line.post("/risk", json={"portfolio": ["AAPL"], "cash": 1.0}),
            served.line.post("/risk", json={"portfolio": [MARK]}),
            served.line.post("/risk", content=MARK),
            served.line.get(f"/jobs?token={token}"),
            served.line.get(f"/{token}"),
            served.line.get("/health"),
            served.line.get("/jobs", headers={"Authorization": f"Bearer {token}x"}),
            served.line.get("/jobs", headers={"cookie": MARK, "x-request-id": MARK, "user-agent": MARK}),
        ]
        ids = [one.headers["x-request-id"] for one in got]
        assert len({*ids}) == len(ids) and all(len(one) == 16 for one in ids)
        wait_until(lambda: ids[-1] in served.log.read_text())
        text = served.log.read_text()[before:]
        lines = {line["request"]: line for line in map(json.loads, text.splitlines())}
        assert [lines[id]["status"] for id in ids] == [one.status_code for one in got]
        assert (
            lines[ids[0]]["owner"] == "ann"
            and lines[ids[0]]["route"] == "/risk"
            and lines[ids[4]]["route"] == "unmatched"
        )
        whole = served.log.read_text()
        assert not any(secret[12:] in whole for secret in served.token.values()) and MARK[:20] not in whole
        assert all(one.headers["cache-control"] == "no-store" for one in got)

    def test_what_fails_here_is_one_sentence_and_the_log_has_the_rest(self, open_door, stub):
        def fail(place, body):
            raise ZeroDivisionError(f"with a password={MARK}")

        stub.answer = fail
        door = open_door(stub)
        got = door.line.post("/risk", json={"portfolio": ["AAPL"]})
        assert got.status_code == 500 and list(got.json()) == ["error"] and MARK not in got.text
        assert got.headers["x-request-id"] in got.json()["error"]
        assert "ZeroDivisionError" in door.log.read_text() and MARK not in door.log.read_text()

    def test_only_this_machine_without_tls(self, stub, tmp_path):
        from quantlab.ops.server import check_address, make_server

        for host in ("0.0.0.0", "::", "192.168.1.5", "10.0.0.1"):
            with pytest.raises(ConfigError, match="can be reached from outside"):
                make_server(None, host)
        for wrong in (
            dict(host="example.com"),
            dict(host="0.0.0.0", proxy="0.0.0.0/0"),
            dict(host="127.0.0.1", certificate=str(tmp_path / "none.pem")),
        ):
            with pytest.raises(ConfigError):
                check_address(**wrong)
        (
            check_address("127.0.0.1"),
            check_address("::1"),
            check_address("localhost"),
            check_address("0.0.0.0", proxy="10.0.0.7"),
        )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers_at(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def forked(call, *given):
    "Begin a process that has everything imported."
    process = multiprocessing.get_context("fork").Process(target=call, args=given, daemon=True)
    process.start()
    return process


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_to_end_answers_first(tmp_path, stub, monkeypatch, told):
    import httpx

    from quantlab.commands import serve_commands
    from quantlab.ops.tokens import TokenFile

    def slow(place, body):
        time.sleep(1.5)
        return {"late": 1}

    stub.answer, port = slow, free_port()
    token = TokenFile(tmp_path / "tokens.json").issue("ann")
    for name, value in {"TOKENS": "tokens.json", "JOBS": "jobs.sqlite", "WAKE": "wake.sqlite"}.items():
        monkeypatch.setenv(f"QUANTLAB_SERVE_{name}", str(tmp_path / value))
    monkeypatch.setattr(serve_commands, "_answers", lambda at: stub)
    process = forked(serve_commands.serve, "stub", "candidate", "127.0.0.1", port, "", False)
    try:
        wait_until(lambda: answers_at(port))
        got = []
        ask = lambda: got.append(
            httpx.post(
                f"http://127.0.0.1:{port}/risk",
                json={"portfolio": ["AAPL"]},
                headers={"Authorization": f"Bearer {token}"},
                timeout=20,
            )
        )
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.6)
        os.kill(process.pid, told)
        time.sleep(0.3)
        assert not answers_at(port), "nobody new is let in"
        thread.join(20)
        assert [(one.status_code, one.json()) for one in got] == [(200, {"late": 1})]
        process.join(20)
        assert process.exitcode == 0
    finally:
        process.kill()


@pytest.mark.slow
def test_the_command_serves_and_ends_in_order(registered_small, tmp_path):
    "The same through a shell: quantlab serve, asked by its own client."
    from quantlab.ops.client import QuantlabClient
    from quantlab.ops.tokens import TokenFile

    token, port = TokenFile(tmp_path / "tokens.json").issue("ann"), free_port()
    env = os.environ | {
        "QUANTLAB_RESEARCH_TRACKING": str(registered_small.store),
        "QUANTLAB_SERVE_TOKENS": str(tmp_path / "tokens.json"),
        "QUANTLAB_RESEARCH_LEDGER": str(registered_small.folder / "ledger.sqlite"),
        "QUANTLAB_SERVE_JOBS": str(tmp_path / "jobs.sqlite"),
        "QUANTLAB_SERVE_WAKE": str(tmp_path / "wake.sqlite"),
    }
    words = [
        sys.executable,
        "-c",
        "from quantlab.commands.cli import main; main()",
        "serve",
        "--recipe",
        "small",
        "--stage",
        "candidate",
        "--port",
        str(port),
        "--at",
        "2014-12-31T22:00Z",
    ]
    process = subprocess.Popen(words, cwd=root(), env=env, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: answers_at(port), 60)
        with QuantlabClient(f"http://127.0.0.1:{port}", token) as client:
            assert client.risk({"AAPL": 5})["receipt"]["model"] == "small"
        process.terminate()
        assert process.wait(30) == 0
        assert token not in process.stderr.read()
    finally:
        process.kill()


def kill_all_at_random(tmp_path, rig, stub, monkeypatch, kills):
    "Kill server and worker with signal 9 while a client asks; each job is there once, and its effect once."
    from quantlab.ops import server
    from quantlab.ops.client import QuantlabClient
    from quantlab.ops.jobs import JobTable
    from quantlab.ops.tokens import TokenFile

    monkeypatch.setattr(server, "check_job", lambda *_: None)  # the jobs are counted ones, of no template
    port, place, tokens = free_port(), tmp_path / "jobs.sqlite", TokenFile(tmp_path / "tokens.json")
    token, dice, table = tokens.issue("ann", ["read", "run"]), random.Random(4), JobTable(place, most_attempts=1000)

    def serve():
        ends = {"log": open_log("server", tmp_path / "log")}
        app = server.create_app(stub, tokens, JobTable(place, most_attempts=1000), **ends)
        server.make_server(app, port=port).run()

    given, asked_for, wrong, killed = {"effects": effects(tmp_path), "before": 0.05, "after": 0.4}, {}, [], [0]

    def ask():
        "Ask for each job twice, until nobody is killed any more."
        try:
            with QuantlabClient(f"http://127.0.0.1:{port}", token, patience=60) as client:
                while killed[0] < kills:
                    ids = asked_for.setdefault(f"key {len(asked_for)}", [])
                    for _ in range(2):
                        ids.append(client.ask_job("run", "toy", given, f"key {len(asked_for) - 1}")["id"])
                        time.sleep(0.05)
        except Exception as error:
            wrong.append(error)

    def begun():
        return sum(len(file.read_text().split()) for file in tmp_path.glob("begun-*"))

    def answered():
        return sum(map(len, asked_for.copy().values()))

    lives = {"server": forked(serve), "worker": start_worker(place, rig)}
    client = threading.Thread(target=ask, daemon=True)
    client.start()
    try:
        for n in range(kills):
            seen, what = ((answered(), answered), (begun(), begun))[n % 2]
            wait_until(lambda seen=seen, what=what: what() > seen or wrong, 60)  # a kill is to meet questions and jobs
            time.sleep(dice.uniform(0.0, 0.3))
            who = ("server", "worker")[n % 2]
            lives[who].kill()
            lives[who].join() if who == "server" else lives[who].wait()
            lives[who] = forked(serve) if who == "server" else start_worker(place, rig)
            killed[0] += 1
        client.join(120)
        assert not client.is_alive() and not wrong, wrong
        wait_until(lambda: table.counts()["done"] == len(asked_for), 240)
    finally:
        for one in lives.values():
            one.kill()
    rows = table.rows(last=10_000)
    assert all(len(ids) == 2 and len({*ids}) == 1 for ids in asked_for.values()), "the same key is the same job"
    assert {row.id for row in rows} == {ids[0] for ids in asked_for.values()}, "none is lost, none is there twice"
    assert len(rows) == len(asked_for)
    for row in rows:
        row = table.row(row.id)
        tries = [int(n) for n in (tmp_path / f"begun-{row.id}").read_text().split()]
        assert len(tries) == len({*tries}) and row.result["attempt"] == row.attempts, "each attempt began once"
    assert len(list(tmp_path.glob("effect-*"))) == len(rows)
    return sum(row.attempts - 1 for row in rows)


def test_no_job_is_lost_when_server_and_worker_are_killed(tmp_path, request, stub, monkeypatch):
    kill_all_at_random(tmp_path, request.getfixturevalue("toys"), stub, monkeypatch, 3)


@pytest.mark.slow
def test_fifty_kills_of_server_and_worker(tmp_path, request, stub, monkeypatch):
    rig = request.getfixturevalue("toys")
    assert kill_all_at_random(tmp_path, rig, stub, monkeypatch, 50) > 10, "the kills met jobs"


def as_json(served, body, place="/risk", **headers):
    "Send a body as it is."
    return served.line.post(place, content=body, headers={"content-type": "application/json", **headers})


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            (b"{", 400, "is not JSON: expecting property name"),
            (b'{"portfolio": ["AAPL"]} x', 400, "is not JSON: extra data, line 1, column 25"),
            (b" \n", 400, "the body is empty"),
            (b"[" * DEEP, 400, "nested too deeply"),
            (b"\xff\xfe", 400, "is not UTF-8 from byte 0 on"),
            (b'{"portfolio": ["AAPL"], "cash": %s}' % (b"9" * 5000), 400, "a number of too many digits"),
            (b'{"portfolio": ["AAPL"], "portfolio": ["KO"]}', 422, "'portfolio' stands twice"),
            (b'{"portfolio": [{"symbol": "KO", "quantity": 1, "quantity": 2}]}', 422, "'quantity' stands twice"),
        ],
        ids=lambda one: repr(one)[:20],
    )
    def test_of_a_body_that_cannot_be_read(self, served, body, status, said):
        got = as_json(served, body)
        refused(got, body[:40])
        assert got.status_code == status and said in got.json()["error"]

    def test_of_a_book_that_holds_a_name_twice(self, served):
        got = as_json(served, b'{"book": {"AAPL": 1, "AAPL": 2}, "cash": 1e6}', "/decide")
        assert got.status_code == 422 and "'AAPL' stands twice" in got.json()["error"]

    def test_no_depth_comes_through_without_its_sentence(self, served):
        for depth in range(880, 1000):
            got = as_json(served, b'{"portfolio": %s%s}' % (b"[" * depth, b"]" * depth))
            assert 400 <= got.status_code < 500 and "error parsing" not in got.text, (depth, got.text)

    @pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded"])
    def test_of_a_missing_content_type(self, served, kind):
        line = b"" if kind is None else b"content-type: %s\r\n" % kind.encode()
        told = heads(served).replace(b"\r\ncontent-type: application/json", b"")
        body = b'{"portfolio": ["AAPL"]}'
        got = talk(served, b"POST /risk HTTP/1.1\r\n%s\r\n%scontent-length: 23\r\n\r\n" % (told, line), body)
        assert got.startswith(b"HTTP/1.1 400 ") and "Content-Type: application/json" in sentence(got)

    def test_json_by_another_name_is_read(self, served):
        for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.desk+json"):
            assert as_json(served, b'{"portfolio": ["AAPL"]}', **{"content-type": kind}).status_code == 200

    def test_of_a_job_that_cannot_be(self, served):
        good = {"kind": "run", "name": "small", "overrides": {"policy.top_k": 3}, "idempotency": "one"}
        ask = lambda **other: served.line.post("/jobs", json=good | other)
        for wrong, said in (
            ({"idempotency": "a\0b"}, "the idempotency key"),
            ({"overrides": {"policy": {"top_k": 5}}}, "such as policy.top_k"),
            ({"kind": "order"}, "give one of report, run, search, backtest"),
        ):
            got = ask(**wrong)
            assert got.status_code == 422 and said in got.json()["error"], got.text
        first = ask()
        assert first.status_code == 202 and ask().json()["id"] == first.json()["id"]
        other = ask(overrides={"policy.top_k": 4})
        assert other.status_code == 409 and "given to another request" in other.json()["error"]
        assert served.line.delete(f"/jobs/{first.json()['id']}").status_code == 200

    @pytest.mark.parametrize("place", ["/health", "/ready"])
    def test_a_probe_may_ask_for_no_body(self, served, place):
        got = talk(served, b"HEAD %s HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n" % place.encode())
        head, _, body = got.partition(b"\r\n\r\n")
        whole = served.line.get(place)
        assert head.startswith(b"HTTP/1.1 200 ") and body == b""
        assert b"content-length: %d" % len(whole.content) in head.lower()


class TestPage:
    def test_it_is_for_who_asks_and_not_for_who_programs(self, served):
        import quantlab

        page = served.line.get("/openapi.json").json()
        text = json.dumps(page)
        assert not any(mark in text for mark in (">>>", "Examples", "----", '"detail"', "HTTPValidationError"))
        assert page["info"]["version"] == quantlab.__version__
        assert page["components"]["schemas"]["JobQuestion"]["properties"]["kind"]["enum"] == [
            "report", "run", "search", "backtest",
        ]  # fmt: skip
        assert page["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
        assert list(page["components"]["schemas"]["Refusal"]["properties"]) == ["error"]
        for place, methods in page["paths"].items():
            for told in methods.values():
                open_ = place in ("/health", "/ready")
                assert (told.get("security") == [{"token": []}]) is not open_, place
                for status in (
                    ("400", "405")
                    if open_
                    else ("400", "401", "403", "404", "405", "408", "409", "413", "422", "429", "503")
                ):
                    form = told["responses"][status]["content"]["application/json"]["schema"]
                    assert form == {"$ref": "#/components/schemas/Refusal"}, (place, status)
        assert "needs the scope re-arm" in page["paths"]["/switch/rearm"]["post"]["description"]

    @pytest.mark.parametrize("place", ["/docs", "/redoc"])
    def test_no_page_that_loads_scripts(self, served, place):
        assert served.line.get(place).status_code == 404


class TestBeforeItStarts:
    def test_what_went_wrong_is_what_ready_says(self, open_door, stub):
        said = ["registry and bars are being read"]
        stub.standing = lambda: (said[0], None)
        stub.refused = ValueError("unit abbreviation\nw/o a number, password=hush")
        door = open_door(stub, pause=0.02)
        why = lambda: door.line.get("/ready").json()["why"]
        wait_until(lambda: "ValueError" in why())
        assert why() == "registry and bars cannot be read: ValueError: unit abbreviation w/o a number, password=***"
        stub.refused, said[0] = None, "bars are late"
        wait_until(lambda: why() == "bars are late")
        said[0] = ""
        assert door.line.get("/ready").json() == {"ready": True, "as_of": None, "why": ""}

    @pytest.mark.parametrize("rate", [float("nan"), 0.0, -1.0])
    def test_a_rate_that_is_none(self, open_door, stub, rate):
        from quantlab.ops.server import DoorLimits

        with pytest.raises(ConfigError, match="rate is"):
            open_door(stub, limits=DoorLimits(rate=rate))

    def test_a_certificate_that_is_none(self, stub, tmp_path):
        from quantlab.ops.server import make_server

        pem, nothing = tmp_path / "garbage.pem", tmp_path / "tls" / "none.pem"
        pem.write_text("garbage")
        with pytest.raises(ConfigError, match="no PEM files of one key") as refused:
            make_server(stub, certificate=str(pem), key=str(pem))
        assert str(pem) in str(refused.value)
        with pytest.raises(ConfigError) as refused:
            make_server(stub, certificate=str(nothing), key=str(nothing))
        assert str(nothing) in str(refused.value), "the folder too"

    def test_a_port_that_is_taken(self):
        from quantlab.ops.server import open_port

        with open_port("127.0.0.1", 0) as line:
            port = line.getsockname()[1]
            with pytest.raises(ConfigError, match=f"port {port} is taken; choose another with --port"):
                open_port("127.0.0.1", port)
        open_port("127.0.0.1", port).close()
        for host, wrong in (("127.0.0.1", 70_000), ("203.0.113.7", 8321)):
            with pytest.raises(ConfigError, match=f"{host} port {wrong} cannot be listened on"):
                open_port(host, wrong)

    def test_the_first_question_of_a_rehearsal_works_as_it_is_printed(self, served):
        import shlex

        from quantlab.commands.serve_commands import _first_steps, _Rehearsal

        aimed = _Rehearsal("", NAMES, {"QUANTLAB_SERVE_JOBS": "a folder/jobs.sqlite"})
        lines = _first_steps(aimed, served.address, served.token["read"])
        assert "export QUANTLAB_SERVE_JOBS='a folder/jobs.sqlite'" in lines
        assert f"export QUANTLAB_SERVER_TOKEN={served.token['read']}" in lines
        curl, place, *words = shlex.split(lines[-1])
        told = [words[n + 1] for n in range(0, len(words), 2)]
        assert curl == "curl" and words[::2] == ["-H", "-H", "-d"]
        got = served.line.post(place, content=told[2], headers=dict(one.split(": ") for one in told[:2]))
        assert got.status_code == 200 and got.json()["var"] > 0
