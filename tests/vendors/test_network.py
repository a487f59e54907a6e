"""The network adapters against a server on this machine that speaks the documented formats, and fails in every way."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pytest
from sinks import Clock, Memory, Server

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.core.types import Interval
from quantlab.data.bars import adjust
from quantlab.data.calendar import bar_ends, schedule
from quantlab.data.sample import sample_bars
from quantlab.vendors.base import Pace, TemporaryError, fetch, redact_request
from quantlab.vendors.crypto import Crypto, _ask
from quantlab.vendors.download import Download, State, find_gaps
from quantlab.vendors.nasdaq import Nasdaq
from quantlab.vendors.polygon import Polygon
from quantlab.vendors.provider import Provider, find_provider, get_json, providers
from quantlab.vendors.web import dividend_product, get_bytes, later_product

SAMPLE = sample_bars(["KO", "XOM"], "2012-01-03", "2014-03-01")


def sample(symbol, start=None, end=None):
    "Cut from the sample, read once."
    return SAMPLE[SAMPLE.index.get_level_values("symbol").isin([symbol] if isinstance(symbol, str) else symbol)].loc[
        start:end
    ]


FAULTS = ["429", "418", "503", "502", "500", "cut", "short", "empty", "again"]


def job(folder, sink, clock, **options):
    return Download(sink, State(folder / "state.json"), sleep=clock.sleep, clock=clock, **options)


def broken(fault, good, before):
    "Spoil an answer."
    table = {
        "429": (429, {"Retry-After": "11"}, b'{"code": -1003}'),
        "418": (418, {"Retry-After": "13"}, b'{"code": -1003}'),
        "503": (503, {}, b"Service Unavailable"),
        "502": (502, {}, b'{"chart": {"result": null, "error": {"code": "Bad Gateway", "description": "try later"}}}'),
        "500": (500, {}, b""),
        "cut": (200, {}, good[: len(good) // 2]),
        "short": (200, {"Content-Length": str(len(good) + 99), "Connection": "close"}, good),
        "empty": (200, {}, b""),
        "again": (200, {}, before or good),
    }
    return table.get(fault, (200, {}, good))


def sent(script, good, last):
    "Answer as the script says, and remember the last whole page that left."
    fault = script.pop(0) if script else "ok"
    answer = broken(fault, good, last[-1] if last else None)
    if fault == "ok":
        last.append(good)
    return answer


# --- crypto


def klines(n=150, missing=(40, 41, 99), step=4 * 3_600_000):
    "Binance klines: open time, four prices and the volume as text."
    rng = np.random.default_rng(5)
    rows, price = [], 100.0
    for i in range(n):
        first, price = price, price * float(np.exp(rng.normal(0, 0.01)))
        if i not in missing:
            high, low = max(first, price) * 1.001, min(first, price) * 0.999
            rows.append(
                [
                    1_709_251_200_000 + i * step,
                    *(f"{x:.8f}" for x in (first, high, low, price)),
                    f"{rng.uniform(1, 9):.5f}",
                    0,
                    "0",
                    1,
                    "0",
                    "0",
                    "0",
                ]
            )
    return rows


def exchange(rows, script):
    "Serve Binance's exchangeInfo and klines; at each klines request do what the script says."
    market = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "isSpotTradingAllowed": True,
        "filters": [],
        "permissionSets": [["SPOT"]],
    }
    last = []

    def answer(path, number):
        url = urlsplit(path)
        if url.path.endswith("exchangeInfo"):
            return 200, {}, json.dumps({"symbols": [market]}).encode()
        query = dict(parse_qsl(url.query))
        page = [row for row in rows if row[0] >= int(query["startTime"])][: int(query["limit"])]
        good = json.dumps(page).encode()
        return sent(script, good, last)

    return answer


def crypto(url, **options):
    ccxt = pytest.importorskip("ccxt", reason="the extra vendors is not installed")
    client = ccxt.binance({"timeout": 3000, "options": {"fetchMarkets": {"types": ["spot"]}}})
    client.urls["api"] = {name: f"{url}/{name}" for name in client.urls["api"]}
    return Crypto(client=client, **options)


def truth(rows, interval="4h"):
    ends = pd.to_datetime([r[0] for r in rows], unit="ms", utc=True) + pd.Timedelta(interval)
    table = pd.DataFrame([[float(x) for x in r[1:6]] for r in rows], columns=["open", "high", "low", "close", "volume"])
    return as_panel(table.assign(date=ends, symbol="BTC/USDT"))


@pytest.mark.parametrize("fault", FAULTS)
def test_crypto_loses_and_doubles_nothing(tmp_path, fault):
    rows, sink, clock = klines(), Memory(), Clock()
    with Server(exchange(rows, ["ok", "ok", fault, "ok", fault])) as server:
        vendor = crypto(server.url, limit=40)
        job(tmp_path, sink, clock).backfill(vendor, ["BTC/USDT"], "2024-03-01", "2024-03-26", "4h")
        asked = len(server.requests)
        job(tmp_path, sink, clock).backfill(vendor, ["BTC/USDT"], "2024-03-01", "2024-03-26", "4h")
        assert len(server.requests) == asked
    pd.testing.assert_frame_equal(sink.read("binance", "4h"), truth(rows), check_exact=True)
    if fault in ("429", "418"):
        assert {"429": 11, "418": 13}[fault] in clock.naps
    gaps = find_gaps(sink.read("binance", "4h"), "24/7", "4h", "2024-03-01 04:00", "2024-03-26")
    assert gaps["bars"].tolist() == [2, 1]


def test_crypto_all_faults_in_a_row_and_a_kill(tmp_path):
    rows, sink, clock = klines(), Memory(), Clock()
    with Server(exchange(rows, [*FAULTS[:5], "ok", *FAULTS[3:], "ok", "429", "again", "again"])) as server:
        vendor = crypto(server.url, limit=25)

        def stop(symbol, number, of):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            job(tmp_path, sink, clock, progress=stop).backfill(vendor, ["BTC/USDT"], "2024-03-01", "2024-03-10", "4h")
        job(tmp_path, sink, clock).refresh(vendor, ["BTC/USDT"], "2024-03-26", "4h")
    pd.testing.assert_frame_equal(sink.read("binance", "4h"), truth(rows), check_exact=True)


def test_crypto_days_are_utc_days_and_running_bars_stay_out(tmp_path):
    rows, sink, clock = klines(30, (), 24 * 3_600_000), Memory(), Clock()
    with Server(exchange(rows, [])) as server:
        now = pd.Timestamp("2024-03-20 12:00", tz="UTC")
        job(tmp_path, sink, clock, now=lambda: now).backfill(
            crypto(server.url), ["BTC/USDT"], "2024-03-01", "2024-04-30", "1d"
        )
    dates = sink.read("binance", "1d").index.get_level_values("date")
    assert dates.tz is None and dates[0] == pd.Timestamp("2024-03-01") and dates[-1] == pd.Timestamp("2024-03-19")


def test_crypto_refusals(tmp_path):
    with Server(exchange(klines(), ["503"] * 99)) as server:
        vendor = crypto(server.url)
        with pytest.raises(DataError, match="failed 6 times in a row on BTC/USDT"):
            job(tmp_path, Memory(), Clock()).backfill(vendor, ["BTC/USDT"], "2024-03-01", "2024-03-26", "4h")
        with pytest.raises(DataError, match="binance refuses DOGE/USDT"):
            job(tmp_path, Memory(), Clock()).backfill(vendor, ["DOGE/USDT"], "2024-03-01", "2024-03-26", "4h")
    with pytest.raises(ConfigError, match="no exchange 'mtgox'"):
        Crypto("mtgox")


# --- Yahoo


def yahoo(url, **options):
    yfinance = pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    import requests
    from yfinance.data import SingletonMeta

    from quantlab.vendors.yahoo import Yahoo

    SingletonMeta._instances.clear()  # yfinance keeps one session, with its crumb, for the process

    yfinance.set_tz_cache_location(tempfile.mkdtemp())

    class Local(requests.Session):
        def request(self, method, address, **kwargs):
            return super().request(method, url + urlsplit(address).path, **kwargs)

    return Yahoo(session=Local(), **options)


def chart(bars, zone="America/New_York", clock="09:30", extra=()):
    "Write daily bars the way Yahoo writes a chart."
    stamps = (bars.index.get_level_values("date") + pd.Timedelta(f"{clock}:00")).tz_localize(zone)
    quote = {c: bars[c].tolist() for c in ("open", "high", "low", "close", "volume")}
    closes = (bars["close"] * bars["adj"]).tolist()
    for stamp in extra:  # rows of nulls
        stamps = stamps.append(pd.DatetimeIndex([stamp]))
        quote = {c: [*values, None] for c, values in quote.items()}
        closes.append(None)
    return {
        "meta": {"exchangeTimezoneName": zone, "symbol": bars.index[0][1]},
        "timestamp": [int(t.timestamp()) for t in stamps],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]},
    }


def finance(script):
    "Serve cookies, crumbs and charts; at each chart do what the script says."
    last = []

    def answer(path, number):
        url = urlsplit(path)
        if "chart" not in url.path:
            return 200, {"Set-Cookie": "A3=x"}, b"crumb"
        query, symbol = dict(parse_qsl(url.query)), url.path.split("/")[-1]
        if symbol == "EARLY":
            return (
                400,
                {},
                json.dumps(
                    {
                        "chart": {
                            "result": None,
                            "error": {
                                "code": "Bad Request",
                                "description": "Data doesn't exist for startDate = 1, endDate = 2",
                            },
                        }
                    }
                ).encode(),
            )
        if symbol not in ("KO", "XOM"):
            return (
                404,
                {},
                json.dumps(
                    {
                        "chart": {
                            "result": None,
                            "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"},
                        }
                    }
                ).encode(),
            )
        first, end = (pd.Timestamp(int(query[p]), unit="s").normalize() for p in ("period1", "period2"))
        end = min(end, pd.Timestamp("2014-03-01"))
        good = json.dumps({"chart": {"result": [chart(sample(symbol, first, end))], "error": None}}).encode()
        return sent(script, good, last)

    return answer


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "418"])
def test_yahoo_loses_and_doubles_nothing(tmp_path, fault):
    sink, clock = Memory(), Clock()
    with Server(finance([fault, fault, "ok", fault, fault, "ok", fault, "ok", fault, fault])) as server:
        vendor = yahoo(server.url)
        job(tmp_path, sink, clock).backfill(vendor, ["KO", "XOM"], "2012-01-03", "2013-12-31")
        charts = sum("chart" in r for r in server.requests)
        job(tmp_path, sink, clock).backfill(vendor, ["KO", "XOM"], "2012-01-03", "2013-12-31")
        assert sum("chart" in r for r in server.requests) == charts
        assert any("getcrumb" in r for r in server.requests)
        job(tmp_path, sink, clock).refresh(vendor, ["KO", "XOM"], "2014-01-15")
    pd.testing.assert_frame_equal(
        sink.read("yahoo", "1d"), sample(["KO", "XOM"], "2012-01-03", "2014-01-15"), rtol=1e-12
    )


def test_yahoo_refuses_what_it_does_not_know_and_believes_an_empty_past(tmp_path):
    with Server(finance([])) as server:
        vendor = yahoo(server.url)
        with pytest.raises(
            DataError, match="Yahoo has no LEH .No data found, symbol may be delisted.*others are stored"
        ):
            job(tmp_path, Memory(), Clock()).backfill(vendor, ["LEH", "KO"], "2012-01-03", "2012-01-31")
        assert list(vendor.pages("EARLY", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-01-31"), "1d")) == []


def test_yahoo_sessions_follow_the_exchange_and_nulls_are_no_bars():
    pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    from quantlab.vendors.yahoo import _panel

    bars = sample("KO", "2012-03-05", "2012-03-16")  # across the change of clocks
    for zone, clock in [
        ("America/New_York", "09:30"),
        ("Asia/Tokyo", "09:00"),
        ("Australia/Sydney", "10:00"),
        ("Pacific/Auckland", "10:00"),
    ]:
        got = _panel(chart(bars, zone, clock, [pd.Timestamp("2012-03-17 09:30", tz=zone)]), "KO", Interval.DAY, "XNYS")
        pd.testing.assert_frame_equal(got, bars, rtol=1e-12)
    torn = chart(bars)
    torn["indicators"]["quote"][0]["close"].pop()
    with pytest.raises(TemporaryError, match="10 stamps"):
        _panel(torn, "KO", Interval.DAY, "XNYS")


@pytest.mark.parametrize(("interval", "step"), [("1h", "1h"), ("5min", "5min"), ("1min", "1min")])
def test_yahoo_intraday_is_dated_by_its_end(interval, step):
    pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    from quantlab.vendors.yahoo import _panel

    hours = schedule("XNYS", "2024-03-08", "2024-03-12")
    hours = pd.concat([hours, schedule("XNYS", "2024-07-03", "2024-07-03")])
    starts = [t for day in hours.itertuples() for t in pd.date_range(day.open, day.close, freq=step, inclusive="left")]
    starts.append(hours["close"].iloc[-1] + pd.Timedelta(seconds=1))  # the last trade, which Yahoo appends
    starts.append(hours["open"].iloc[-1] - pd.Timedelta(minutes=5))  # before the open
    starts = sorted(starts)
    lists = {c: [1.0] * len(starts) for c in ("open", "high", "low", "close", "volume")}
    got = _panel(
        {"meta": {}, "timestamp": [int(t.timestamp()) for t in starts], "indicators": {"quote": [lists]}},
        "SPY",
        Interval(interval),
        "XNYS",
    )
    assert (got.index.get_level_values("date") == bar_ends(hours, interval)).all() and "adj" not in got


# --- a provider of one's own


def service(script, size=50):
    last = []

    def answer(path, number):
        query = dict(parse_qsl(urlsplit(path).query))
        if query["symbol"] == "LEH":
            return 404, {}, b"unknown"
        bars = sample(query["symbol"], query["start"], query["end"]).reset_index()
        page = int(query["page"])
        rows = bars.iloc[size * page : size * page + size].assign(date=lambda t: t["date"].dt.strftime("%Y-%m-%d"))
        good = json.dumps(
            {
                "bars": rows.drop(columns="symbol").to_dict("records"),
                "next": page + 1 if size * page + size < len(bars) else None,
            }
        ).encode()
        return sent(script, good, last)

    return answer


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "418"])
def test_provider_loses_and_doubles_nothing(tmp_path, fault):
    sink, clock = Memory(), Clock()
    with Server(service(["ok", fault, "ok", fault, fault])) as server:
        job(tmp_path, sink, clock).backfill(Provider(server.url), ["KO"], "2012-01-03", "2012-12-31")
    pd.testing.assert_frame_equal(
        sink.read("provider", "1d"), sample("KO", "2012-01-03", "2012-12-31"), check_exact=True
    )
    assert (11.0 in clock.naps) == (fault == "429")


def test_provider_does_not_believe_the_page_number_of_an_old_answer(tmp_path):
    sink, clock = Memory(), Clock()
    with Server(service(["ok", "ok", "503", "again", "ok", "503", "again"])) as server:
        job(tmp_path, sink, clock).backfill(Provider(server.url), ["KO"], "2012-01-03", "2012-12-31")
    pd.testing.assert_frame_equal(
        sink.read("provider", "1d"), sample("KO", "2012-01-03", "2012-12-31"), check_exact=True
    )


def test_provider_says_what_is_final(tmp_path):
    with Server(service([])) as server:
        with pytest.raises(DataError, match="404.*check the symbol"):
            job(tmp_path, Memory(), Clock()).backfill(Provider(server.url), ["LEH"], "2012-01-03", "2012-12-31")
    with pytest.raises(TemporaryError, match="did not answer whole"):
        get_json("http://127.0.0.1:9", {}, timeout=1)


HOSTILE = {
    "deep": (b"[" * 10_000 + b"]" * 10_000, DataError, "nested too deep"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, DataError, "nested too deep"),
    "deep and cut": (b"[" * 10_000, DataError, "nested too deep"),
    "no utf-8": (b'{"bars": "\xff\xfe\xfa"}', TemporaryError, "no UTF-8"),
    "half a letter": ('{"bars": "é'.encode()[:-1], TemporaryError, "no UTF-8"),
    "truncated": (b'{"bars": [{"close"', TemporaryError, "did not answer whole"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_json_that_cannot_be_read_is_one_error_of_ours_without_the_key(name):
    body, kind, said = HOSTILE[name]
    with Server(lambda *_: (200, {}, body)) as server:
        with pytest.raises(DataError, match=said) as error:
            get_json(f"{server.url}/bars?api_key=hush1", {"token": "hush1"}, headers={"X-Key": "hush1"})
    assert type(error.value) is kind and error.value.__cause__ is None and "hush1" not in str(error.value)


def test_a_refusal_with_brackets_two_thousand_deep_is_a_refusal():
    with Server(lambda *_: (404, {}, b"[" * 3000)) as server:
        with pytest.raises(DataError, match="404 Not Found to"):
            get_json(server.url, {})


def peak(work):
    "Return the most memory Python held during work, in bytes."
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("declared", [True, False])
def test_fifty_megabytes_are_refused_before_they_are_taken(declared):
    part, left = b"[0," * 20_000, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if declared:
                self.send_header("Content-Length", "50000000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(50_000_000 // len(part)):
                    left.append(self.wfile.write(part))

        def log_message(self, *_):
            "Say nothing."

    def refused(url, limit):
        with pytest.raises(DataError, match=f"more than {limit:,} bytes; ask for less") as error:
            get_json(url, {}, limit=limit)
        assert type(error.value) is DataError and error.value.__cause__ is None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert peak(lambda: refused(url, 1_000_000)) < 3_000_000 and sum(left) < 30_000_000
        with pytest.raises(DataError, match="more than 33,554,432 bytes"):
            get_json(url, {})
        server.shutdown()


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "7", "Connection": "close"}])
def test_a_document_of_the_limit_is_read_and_a_lost_byte_is_noticed(headers):
    with Server(lambda *_: (200, headers, b"[1, 23]")) as server:
        assert get_json(server.url, {}, limit=7) == [1, 23]
        with pytest.raises(DataError, match="more than 6 bytes"):
            get_json(server.url, {}, limit=6)
        for limit in (0, -1, -9):
            with pytest.raises(ConfigError, match="limit is"):
                get_json(server.url, {}, limit=limit)
    with Server(lambda *_: (200, {"Content-Length": "9", "Connection": "close"}, b"[1, 23]")) as server:
        with pytest.raises(TemporaryError, match="did not answer whole.*2 more expected"):
            get_json(server.url, {})
    assert get_json("data:application/json,[1, 23]", {}, limit=7) == [1, 23]
    with pytest.raises(DataError, match="more than 6 bytes"):
        get_json("data:application/json,[1, 23]", {}, limit=6)


def test_brackets_ten_thousand_deep_end_no_library_adapter_either():
    deep = b"[" * 10_000 + b"]" * 10_000
    first, last = pd.Timestamp("2024-03-01", tz="UTC"), pd.Timestamp("2024-03-02", tz="UTC")
    market = exchange(klines(), [])
    with Server(lambda path, n: market(path, n) if "exchangeInfo" in path else (200, {}, deep)) as server:
        with pytest.raises(DataError, match="nested too deep"):
            list(crypto(server.url).pages("BTC/USDT", first, last, "4h"))

    def too_deep(*_, **__):
        raise RecursionError  # what ccxt passes on where orjson is not installed

    nested = '{"a":' * 900 + "[1]" + "}" * 900  # Python reads it, and may not walk it
    for ask, answer in ((too_deep, ""), (lambda *_, **__: [], nested)):
        with pytest.raises(DataError, match="binance sent JSON nested too deep to read for BTC/USDT"):
            _ask(SimpleNamespace(id="binance", fetch_ohlcv=ask, last_http_response=answer), "BTC/USDT", "4h", 0, 9)
    requests = pytest.importorskip("requests", reason="the extra vendors is not installed")
    pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    from quantlab.vendors.yahoo import _chart

    class Door:
        def get(self, *_, **__):
            return requests.get(server.url, timeout=5)

    with Server(lambda *_: (200, {}, deep)) as server:
        with pytest.raises(DataError, match="nested too deep"):
            _chart(Door(), "KO", first, last, "1d")


# --- Polygon

KEY = "pk_live_0123456789abcdef"


@pytest.fixture
def keys(monkeypatch):
    for name in ("POLYGON_API_KEY", "NASDAQ_DATA_LINK_API_KEY"):
        monkeypatch.setenv(name, KEY)


def corporate(symbol="KO"):
    "Bars as traded, and the events behind them: a split, dividends before, after and on it."
    held = sample(symbol, "2012-01-03", "2013-12-31").droplevel("symbol")
    split = pd.Timestamp("2012-08-13")
    old = np.asarray(held.index < split)
    traded = held[["open", "high", "low", "close"]] * np.where(old, 2.0, 1.0)[:, None]
    traded["volume"] = held["volume"] * np.where(old, 0.5, 1.0)
    days = held.index[[40, 100, 153, 154, 300, 460]]
    assert days[3] == split or split in held.index
    cash = pd.Series([0.51, 0.51, 0.6, 0.255, 0.28, 0.28], index=days)
    return traded, split, cash


def holder(traded, split, cash):
    "The return of who holds the share, reinvests nothing and counts the cash: close, shares and dividends day by day."
    close, shares = traded["close"], pd.Series(np.where(traded.index == split, 2.0, 1.0), traded.index)
    return ((close + cash.reindex(traded.index).fillna(0.0)) * shares / close.shift(1) - 1).iloc[1:]


def aggregates(script=(), size=90, adjusted_now=1.0, step=None):
    "Serve Polygon's three documents for KO; at each page of aggregates do what the script says."
    traded, split, cash = corporate()
    script, last, url = list(script), [], []

    def page(rows, path, query, **more):
        at = int(query.get("cursor", 0))
        part = rows[at : at + size]
        if at + size < len(rows):
            more["next_url"] = f"{url[0]}{urlsplit(path).path}?cursor={at + size}"
        return json.dumps(
            {"results": part, "status": "OK", "request_id": "6a7e466379af0a71039d60cc78e72282", **more}
        ).encode(), part

    def answer(path, number):
        place, query = urlsplit(path).path, dict(parse_qsl(urlsplit(path).query))
        if place.endswith("splits"):
            rows = [{"execution_date": f"{split:%Y-%m-%d}", "id": "E1", "split_from": 1, "split_to": 2, "ticker": "KO"}]
            return (
                200,
                {},
                page([r for r in rows if r["execution_date"] >= query["execution_date.gte"]], path, query)[0],
            )
        if place.endswith("dividends"):
            rows = [
                {
                    "cash_amount": c,
                    "currency": "USD",
                    "dividend_type": "CD",
                    "ex_dividend_date": f"{d:%Y-%m-%d}",
                    "ticker": "KO",
                }
                for d, c in cash.items()
            ]
            return (
                200,
                {},
                page([r for r in rows if r["ex_dividend_date"] >= query.get("ex_dividend_date.gte", "")], path, query)[
                    0
                ],
            )
        symbol, first, end = place.split("/")[4], *place.split("/")[-2:]
        rows = traded.loc[first:end] if symbol == "KO" else traded.iloc[:0]
        if query.get("adjusted", asked["adjusted"]) == "true":
            old = np.where(rows.index < split, 0.5, 1.0)
            rows = rows[["open", "high", "low", "close"]].mul(old, axis=0).assign(volume=rows["volume"] / old)
        asked["adjusted"] = query.get("adjusted", asked["adjusted"])
        stamps = rows.index.tz_localize("America/New_York")
        table = [
            {
                "v": r.volume,
                "vw": (r.high + r.low) / 2,
                "o": r.open,
                "c": r.close,
                "h": r.high,
                "l": r.low,
                "t": int(s.timestamp() * 1000),
                "n": 9,
            }
            for s, r in zip(stamps, rows.itertuples(), strict=True)
        ]
        at = int(query.get("cursor", 0))
        part = table[at : at + size]
        good = page(
            table,
            path,
            query,
            ticker=symbol,
            queryCount=len(part),
            resultsCount=len(part),
            adjusted=asked["adjusted"] == "true",
        )[0]
        return sent(script, good, last)

    asked = {"adjusted": "false"}
    return answer, url


def polygon(answer, url, **options):
    server = Server(answer)
    url.append(server.url)
    return server, Polygon(url=server.url, pace=lambda: None, **options)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "418"])
def test_polygon_loses_and_doubles_nothing(tmp_path, keys, fault):
    sink, clock = Memory(), Clock()
    server, vendor = polygon(*aggregates(["ok", "ok", fault, "ok", fault, "ok", "ok", "ok"]), per_second=100.0)
    with server:
        job(tmp_path, sink, clock).backfill(vendor, ["KO"], "2012-01-03", "2013-12-31")
        asked = len(server.requests)
        job(tmp_path, sink, clock).backfill(vendor, ["KO"], "2012-01-03", "2013-12-31")
        assert len(server.requests) == asked
        assert KEY not in " ".join(server.requests)
    bars, columns = sink.read("polygon", "1d"), ["open", "high", "low", "close", "volume"]
    pd.testing.assert_frame_equal(bars.droplevel("symbol")[columns], corporate()[0], check_exact=True)
    assert (11.0 in clock.naps) == (fault == "429")
    assert bars.index.equals(sample("KO", "2012-01-03", "2013-12-31").index)


def test_polygon_factors_give_the_holders_return(keys):
    "A split, a dividend the day before it, one on its day: the total-return price moves as the holder's money does."
    traded, split, cash = corporate()
    truth = holder(traded, split, cash)
    for adjusted in (False, True):
        server, vendor = polygon(*aggregates(size=1000), adjusted=adjusted)
        with server:
            bars = pd.concat(vendor.pages("KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2013-12-31"), "1d"))
        assert ("split" in bars) != adjusted and vendor.name == ("polygon_adjusted" if adjusted else "polygon")
        got = adjust(bars)["close"].droplevel("symbol").pct_change().iloc[1:]
        calm = ~truth.index.isin([*cash.index, split])
        np.testing.assert_allclose(got[calm], truth[calm], atol=1e-12)
        # on an ex-day the factor reinvests the cash at the close before: (close + D) / before, to the second order in
        # D / close
        np.testing.assert_allclose(got[~calm], truth[~calm], atol=6e-4)
        split_price = adjust(bars, "split")["close"].droplevel("symbol")
        ex = cash.index[4]
        before = split_price[split_price.index < ex].iloc[-1]
        assert got[ex] == pytest.approx(split_price[ex] / (before - cash[ex]) - 1, rel=1e-9)
        assert bars["adj"].iloc[-1] == 1


def test_polygon_restates_the_store_after_a_split(tmp_path, keys):
    sink, clock = Memory(), Clock()
    server, vendor = polygon(*aggregates(size=1000))
    with server:
        job(tmp_path, sink, clock).backfill(vendor, ["KO"], "2012-01-03", "2012-06-29")
        assert sink.read("polygon", "1d")["split"].eq(1).all()
        job(tmp_path, sink, clock).refresh(vendor, ["KO"], "2013-12-31")
    bars, whole = sink.read("polygon", "1d"), corporate()[0]
    assert (
        len(bars) == len(whole)
        and bars["split"].droplevel("symbol").eq(np.where(whole.index < corporate()[1], 0.5, 1.0)).all()
    )
    moves = adjust(bars)["close"].pct_change().abs()
    assert moves.max() < 0.1  # no jump between the two deliveries


def test_polygon_minutes_are_dated_by_their_end_and_the_session_alone(keys):
    days = ["2024-03-08", "2024-03-11", "2024-07-03"]  # across the change of clocks, and a half day
    starts = [
        t for day in days for t in pd.date_range(f"{day} 04:00", f"{day} 19:59", freq="5min", tz="America/New_York")
    ]
    rows = [{"t": int(t.timestamp() * 1000), "o": 10, "h": 10, "l": 10, "c": 10, "v": 100, "vw": 10} for t in starts]

    def answer(path, number):
        place, query = urlsplit(path).path, dict(parse_qsl(urlsplit(path).query))
        if place.endswith("splits"):
            return (
                200,
                {},
                json.dumps(
                    {
                        "status": "OK",
                        "results": [{"execution_date": "2024-07-03", "split_from": 1, "split_to": 10, "ticker": "SPY"}],
                    }
                ).encode(),
            )
        first, last = map(int, place.split("/")[-2:])
        part = [r for r in rows if first <= r["t"] <= last and r["t"] > int(query.get("cursor", 0))]
        more = {"next_url": f"{server.url}{place}?cursor={part[199]['t']}"} if len(part) > 200 else {}
        return (
            200,
            {},
            json.dumps(
                {"status": "DELAYED", "ticker": "SPY", "resultsCount": len(part[:200]), "results": part[:200], **more}
            ).encode(),
        )

    with Server(answer) as server:
        vendor = Polygon(url=server.url, pace=lambda: None)
        start, end = (pd.Timestamp(t, tz="UTC") for t in ("2024-03-08 00:00", "2024-07-04 00:00"))
        got = pd.concat(fetch(vendor, "SPY", start, end, "5min", Pace(1e9)))
        few = pd.concat(
            vendor.pages("SPY", pd.Timestamp("2024-03-08 15:00Z"), pd.Timestamp("2024-03-08 15:10Z"), "5min")
        )
    hours = pd.concat([schedule("XNYS", day, day) for day in days])
    assert (got.index.get_level_values("date") == bar_ends(hours, "5min")).all() and "adj" not in got
    assert (
        got["split"]
        .eq(np.where(got.index.get_level_values("date") < pd.Timestamp("2024-07-03", tz="UTC"), 0.1, 1.0))
        .all()
    )
    assert [f"{t:%H:%M}" for t in few.index.get_level_values("date")] == ["15:00", "15:05", "15:10"]


def test_polygon_refusals_show_no_key(tmp_path, keys, monkeypatch):
    refusals = {
        "status": (200, {}, json.dumps({"status": "ERROR", "error": f"key {KEY} is odd"}).encode()),
        "401": (401, {}, json.dumps({"status": "ERROR", "error": f"Unknown API Key {KEY}"}).encode()),
        "403": (403, {}, json.dumps({"status": "NOT_AUTHORIZED", "message": f"apiKey={KEY} is not entitled"}).encode()),
    }
    for name, refused in refusals.items():
        with Server(lambda path, number, refused=refused: refused) as server:
            vendor = Polygon(url=server.url, pace=lambda: None)
            with pytest.raises(DataError) as error:
                job(tmp_path / name, Memory(), Clock()).backfill(vendor, ["KO"], "2012-01-03", "2012-12-31")
        assert KEY not in str(error.value) and KEY not in repr(error.value.__cause__) and KEY not in repr(vars(vendor))
    thief = []
    with Server(lambda path, number: (thief.append(path), (200, {}, b"{}"))[1]) as other:
        for found in ({"next_url": f"{other.url}/v2/aggs?cursor=1"}, "redirect"):

            def answer(path, number, found=found):
                if found == "redirect":
                    return 302, {"Location": f"{other.url}/steal"}, b""
                return 200, {}, json.dumps({"status": "OK", "results": [], **found}).encode()

            with Server(answer) as server:
                with pytest.raises(DataError, match="not sent there|302"):
                    list(
                        Polygon(url=server.url, pace=lambda: None).pages(
                            "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
                        )
                    )
    assert thief == []
    loop = lambda path, number: (
        200,
        {},
        json.dumps({"status": "OK", "results": [], "next_url": f"{server.url}/v3/reference/splits?cursor=x"}).encode(),
    )
    with Server(loop) as server:
        with pytest.raises(TemporaryError, match="its own next one"):
            list(
                Polygon(url=server.url, pace=lambda: None).pages(
                    "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
                )
            )
    monkeypatch.delenv("POLYGON_API_KEY")
    with pytest.raises(ConfigError, match="POLYGON_API_KEY is not set"):
        list(
            Polygon(url="http://127.0.0.1:9", pace=lambda: None).pages(
                "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
            )
        )


def test_polygon_keeps_the_pace_of_every_request(keys):
    clock, (answer, url) = Clock(), aggregates(size=200)
    with Server(answer) as server:
        url.append(server.url)
        vendor = Polygon(url=server.url, pace=Pace(5 / 60, clock.sleep, clock))
        bars = pd.concat(vendor.pages("KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2013-12-31"), "1d"))
        assert len(server.requests) == 5 and clock.naps == [12.0] * 4 and len(bars) > 400


# --- Nasdaq Data Link


def link(script=(), size=90, family="sep", order=-1):
    "Serve a table page by page, or WIKI's data sets; at each answer do what the script says."
    traded, split, cash = corporate()
    factor = np.where(traded.index < split, 0.5, 1.0)
    close = traded["close"] * factor
    adj = dividend_product(close, cash.index, cash.to_numpy() * later_product(cash.index, [split], [0.5]))
    days = traded.index.strftime("%Y-%m-%d")
    if family == "sep":
        table = (
            traded[["open", "high", "low", "close"]]
            .mul(factor, axis=0)
            .assign(
                volume=traded["volume"] / factor,
                closeadj=close * adj,
                closeunadj=traded["close"],
                lastupdated="2024-01-05",
            )
        )
        table = pd.concat([pd.DataFrame({"ticker": "KO", "date": days}, index=table.index), table], axis=1)
    else:
        more = {
            "ex-dividend": cash.reindex(traded.index).fillna(0.0),
            "split_ratio": np.where(traded.index == split, 2.0, 1.0),
            "adj_close": close * adj,
        }
        table = pd.concat(
            [pd.DataFrame({"ticker": "KO", "date": days}, index=traded.index), traded.assign(**more)], axis=1
        )
    script, last = list(script), []

    def answer(path, number):
        place, query = urlsplit(path).path, dict(parse_qsl(urlsplit(path).query))
        if "datatables" in place:
            rows = table[
                (table["ticker"] == query["ticker"])
                & (table["date"] >= query["date.gte"])
                & (table["date"] <= query["date.lte"])
            ][::order]
            at = int(query.get("qopts.cursor_id", "v1_0")[3:])
            said = {
                "datatable": {
                    "data": rows.iloc[at : at + size].to_numpy(dtype=object).tolist(),
                    "columns": [{"name": c, "type": "String"} for c in rows],
                }
            }
            said["meta"] = {"next_cursor_id": f"v1_{at + size}" if at + size < len(rows) else None}
        elif place.endswith("/KO.json"):
            names = {
                "date": "Date",
                "open": "Open",
                "high": "High",
                "low": "Low",
                "close": "Close",
                "volume": "Volume",
                "ex-dividend": "Ex-Dividend",
                "split_ratio": "Split Ratio",
                "adj_close": "Adj. Close",
            }
            rows = table[(table["date"] >= query["start_date"]) & (table["date"] <= query["end_date"])][
                list(names)
            ].rename(columns=names)
            said = {
                "dataset": {
                    "dataset_code": "KO",
                    "database_code": "WIKI",
                    "column_names": list(rows),
                    "frequency": "daily",
                    "data": rows.to_numpy(dtype=object).tolist(),
                }
            }
        else:
            return (
                404,
                {},
                b'{"quandl_error": {"code": "QECx02", "message": "You have submitted an incorrect Quandl code."}}',
            )
        return sent(script, json.dumps(said).encode(), last)

    return answer


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "418"])
def test_nasdaq_loses_and_doubles_nothing(tmp_path, keys, fault):
    sink, clock = Memory(), Clock()
    with Server(link(["ok", "ok", fault, "ok", fault, "ok"])) as server:
        vendor = Nasdaq(url=server.url, pace=lambda: None)
        job(tmp_path, sink, clock).backfill(vendor, ["KO"], "2012-01-03", "2013-12-31")
        asked = len(server.requests)
        job(tmp_path, sink, clock).backfill(vendor, ["KO"], "2012-01-03", "2013-12-31")
        assert len(server.requests) == asked and KEY not in " ".join(server.requests)
    bars = sink.read("nasdaq_sharadar_sep", "1d").droplevel("symbol")
    pd.testing.assert_frame_equal(bars[["open", "high", "low", "close", "volume"]], corporate()[0], rtol=1e-12)
    assert (11.0 in clock.naps) == (fault == "429")


@pytest.mark.parametrize(
    ("code", "family"), [("SHARADAR/SEP", "sep"), ("WIKI/PRICES", "wiki"), ("WIKI/{symbol}", "wiki")]
)
def test_nasdaq_families_of_columns_give_one_form(keys, code, family):
    traded, split, cash = corporate()
    with Server(link(family=family, size=5000, order=1)) as server:
        bars = pd.concat(
            Nasdaq(code, url=server.url, pace=lambda: None).pages(
                "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2013-12-31"), "1d"
            )
        )
    pd.testing.assert_frame_equal(
        bars.droplevel("symbol")[["open", "high", "low", "close", "volume"]], traded, rtol=1e-12
    )
    assert np.allclose(bars["split"], np.where(traded.index < split, 0.5, 1.0)) and bars["adj"].iloc[
        -1
    ] == pytest.approx(1)
    got, truth = adjust(bars)["close"].droplevel("symbol").pct_change().iloc[1:], holder(traded, split, cash)
    np.testing.assert_allclose(got, truth, atol=6e-4)


def test_nasdaq_refusals(tmp_path, keys, monkeypatch):
    with Server(link()) as server:
        with pytest.raises(DataError, match="404.*incorrect Quandl code.*check the symbol"):
            list(
                Nasdaq("WIKI/{symbol}", url=server.url, pace=lambda: None).pages(
                    "LEH", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
                )
            )
    said = lambda rows, columns, **meta: (
        lambda path, number: (
            200,
            {},
            json.dumps(
                {
                    "datatable": {"data": rows, "columns": [{"name": c} for c in columns]},
                    "meta": {"next_cursor_id": None} | meta,
                }
            ).encode(),
        )
    )
    for answer, kind, message in [
        (said([["PEP", "2012-01-03"]], ["ticker", "date"]), TemporaryError, "with .'PEP'."),
        (said([["KO", "2012-01-03", 1]], ["ticker", "date"]), TemporaryError, "do not fit"),
        (said([["KO", "2002-01-03"]], ["ticker", "date"]), TemporaryError, "with rows of 2002-01-03"),
        (said([["KO", "2012-01-03", 1.0]], ["ticker", "date", "settle"]), DataError, "name another table"),
        (said([], ["ticker", "date"], next_cursor_id="again"), TemporaryError, "its own next one"),
        (lambda path, number: (200, {}, b"[]"), TemporaryError, "without its datatable"),
        (
            lambda path, number: (
                403,
                {},
                json.dumps({"quandl_error": {"message": f"api_key={KEY} lacks a subscription"}}).encode(),
            ),
            DataError,
            "lacks a subscription",
        ),
    ]:
        with Server(answer) as server:
            with pytest.raises(kind, match=message) as error:
                list(
                    Nasdaq(url=server.url, pace=lambda: None).pages(
                        "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
                    )
                )
        assert KEY not in str(error.value) and "\n" not in str(error.value)
    monkeypatch.delenv("NASDAQ_DATA_LINK_API_KEY")
    with pytest.raises(ConfigError, match="NASDAQ_DATA_LINK_API_KEY is not set"):
        list(
            Nasdaq(url="http://127.0.0.1:9", pace=lambda: None).pages(
                "KO", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-12-31"), "1d"
            )
        )
    with pytest.raises(ConfigError, match="is none"):
        Nasdaq("../secrets")


# --- what they share


def test_no_error_of_any_provider_shows_a_secret(monkeypatch):
    monkeypatch.setenv("SOME_VENDOR_TOKEN", "zzz-very-secret-zzz")
    for text in (
        "https://api.host/v1?symbol=KO&apiKey=hush1&limit=2", "https://me:hush1@host/path",
        "{'api_key': 'hush1', 'page': 2}", '{"token": "hush1"}', "Authorization: Bearer hush1hush1",
        "X-Api-Token: hush1", "Max retries exceeded with url: /v8?crumb=hush1 (Caused by ...)",
        "signature=hush1&timestamp=1", "sent zzz-very-secret-zzz along", "password = hush1",
    ):  # fmt: skip
        shown = redact_request(text)
        assert "hush1" not in shown and "zzz-very" not in shown and "***" in shown, shown
        assert "hush1" not in str(TemporaryError(text))
    for text in (
        "KEY: Yahoo has no KEY (delisted); check the symbol",
        "http://127.0.0.1:8000/bars answered 404 Not Found to "
        "{'symbol': 'KO', 'page': 0}; check the symbol, the address and the key",
    ):
        assert redact_request(text) == text
    with pytest.raises(TemporaryError) as error:
        get_json("http://me:hush1@127.0.0.1:9/bars", {"api_key": "hush1"}, timeout=1)
    assert "hush1" not in str(error.value) and error.value.__cause__ is None
    with Server(lambda path, number: (404, {}, b"no")) as server:
        with pytest.raises(DataError, match="404") as error:
            get_json(f"{server.url}/bars", {"symbol": "KO", "api_key": "hush1"})
    assert "hush1" not in str(error.value) and "KO" in str(error.value)


def test_the_libraries_errors_show_no_secret_either(monkeypatch):
    ccxt = pytest.importorskip("ccxt", reason="the extra vendors is not installed")
    client = ccxt.binance()
    for kind, expected in ((ccxt.NetworkError, TemporaryError), (ccxt.BadSymbol, DataError)):
        monkeypatch.setattr(
            client,
            "fetch_ohlcv",
            lambda *a, kind=kind, **k: (_ for _ in ()).throw(
                kind("GET https://api.host/klines?apiKey=hush1&signature=hush1")
            ),
        )
        with pytest.raises(expected) as error:
            list(
                Crypto(client=client).pages(
                    "BTC/USDT", pd.Timestamp("2024-03-01", tz="UTC"), pd.Timestamp("2024-03-02", tz="UTC"), "4h"
                )
            )
        assert "hush1" not in str(error.value) and error.value.__cause__ is None
    pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    from quantlab.vendors.yahoo import _chart

    class Door:
        def get(self, *_, **__):
            raise OSError("Max retries exceeded with url: /v8/finance/chart/KO?crumb=hush1")

    with pytest.raises(TemporaryError) as error:
        _chart(Door(), "KO", pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-03"), "1d")
    assert "hush1" not in str(error.value) and error.value.__cause__ is None


def install(folder, package, module, **points):
    "Lay out what an installer makes of a small package."
    for name, text in module.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[quantlab.providers]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )


def test_a_provider_of_ones_own_is_found_by_its_entry_point(tmp_path):
    "An installed package, another process: no file of the workspace knows it."
    text = "from quantlab.vendors.provider import Provider\n\n\nclass Mine(Provider):\n    name = 'mine_daily'\n"
    install(tmp_path, "my-bars", {"my_bars": text}, mine="my_bars:Mine")
    with Server(service([])) as server:
        program = (
            "import pandas as pd; from quantlab.vendors.provider import find_provider, providers\n"
            f"vendor = find_provider('mine', url={server.url!r})\n"
            "bars = pd.concat(vendor.pages('KO', pd.Timestamp('2012-01-03'), pd.Timestamp('2012-03-30'), '1d'))\n"
            "print(vendor.name, len(bars), providers()['mine'])"
        )
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        }
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.split(maxsplit=2) == [
        "mine_daily",
        str(len(sample("KO", "2012-01-03", "2012-03-30"))),
        "my_bars:Mine of my-bars\n",
    ], done.stderr[-1500:]


def test_what_is_wrong_with_a_provider_of_ones_own_is_said(tmp_path, monkeypatch):
    assert {"yahoo", "crypto", "polygon", "nasdaq"} <= set(providers())
    assert find_provider("polygon", adjusted=True).name == "polygon_adjusted"
    monkeypatch.syspath_prepend(tmp_path)
    install(
        tmp_path,
        "one",
        {"one_mod": "class Half:\n    name = 'half'\n\n\ndef angry():\n    raise RuntimeError('token=hush1')\n"},
        half="one_mod:Half",
        angry="one_mod:angry",
        twice="one_mod:Half",
        yahoo="one_mod:Half",
    )
    install(tmp_path, "two", {"two_mod": "import nowhere_to_be_found\n"}, gone="two_mod:X", twice="two_mod:X")
    for name, message in {
        "half": "has no calendar, intervals, per_second, pages",
        "angry": r"cannot be made \(RuntimeError: token=\*\*\*\)", "gone": "ModuleNotFoundError",
        "twice": "one_mod:Half of one and two_mod:X of two; uninstall one",
        "yahoo": "of quantlab and one_mod:Half of one; uninstall one",
        "nobody": "there is no provider 'nobody'; there is .*polygon",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            find_provider(name)


def test_events_outside_the_rows_and_none_at_all_change_nothing():
    days = pd.date_range("2024-01-01", periods=4, unit="us")
    raw = pd.Series([100.0, 102, 50, 49], index=days)
    split = later_product(days, [days[2]], [1 / 2])
    assert later_product(days, [], []).tolist() == [1] * 4 and later_product(days[:0], [days[1]], [0.5]).size == 0
    assert dividend_product(raw[:0], [days[1]], [0.5]).size == 0 and dividend_product(raw, [], []).tolist() == [1] * 4
    once = dividend_product(raw * split, [days[3]], [1.0])
    assert np.allclose(
        dividend_product(raw * split, [days[3], days[3]], [0.5, 0.5]), once
    )  # a regular and a special one on a day
    assert dividend_product(raw, [days[0], days[3] + pd.Timedelta("9D")], [1.0, 1.0]).tolist() == [1] * 4
    with pytest.raises(TemporaryError, match="did not answer whole"):
        get_json("http://127.0.0.1:9/bars", {}, timeout=2)


@pytest.mark.parametrize(("made", "said"), [
    (lambda: Polygon(per_second=0), "above 0"), (lambda: Nasdaq(per_second=0), "above 0"),
    (lambda: Nasdaq("SEP"), "is none"),
])  # fmt: skip
def test_adapters_refuse_what_they_cannot_be_made_of(made, said):
    with pytest.raises(ConfigError, match=said):
        made()


def test_provider_that_is_not_there_and_symbols_without_bars():
    with pytest.raises(TemporaryError, match="did not answer whole"):
        get_json("http://127.0.0.1:9/bars", {}, timeout=2)
    day, last = pd.Timestamp("2012-01-03"), pd.Timestamp("2012-01-31")

    def answer(path, number):
        query = dict(parse_qsl(urlsplit(path).query))
        bars = sample(query["symbol"], query["start"], query["end"]) if query["symbol"] == "KO" else sample("KO")[:0]
        rows = bars.reset_index().assign(date=lambda t: t["date"].dt.strftime("%Y-%m-%d"))
        return 200, {}, json.dumps({"bars": rows.drop(columns="symbol").to_dict("records"), "next": None}).encode()

    with Server(answer) as server:
        assert list(fetch(Provider(server.url), "NOPE", day, last, "1d", Pace(1e9))) == []
        assert sum(map(len, fetch(Provider(server.url), "KO", day, day, "1d", Pace(1e9)))) == 1


@pytest.mark.parametrize(
    "url",
    ["x", "", "news.example/posts", None, 3, b"http://here", "http://here:99999/", "http://[here/", "http://here/\u00fc"],
)
@pytest.mark.parametrize("ask", [get_bytes, lambda url: get_json(url, {})])
def test_what_can_be_no_address_is_refused_before_anybody_is_asked(ask, url):
    with pytest.raises(ConfigError, match="is no address; write one|url is .*; give a str"):
        ask(url)


@pytest.mark.parametrize("limit", [True, "x", 0])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ConfigError, match="limit is .*; give"):
        get_bytes("data:,x", limit=limit)
