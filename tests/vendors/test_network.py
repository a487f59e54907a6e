"""The network adapters against a server on this machine that speaks the documented formats, and fails in every way."""

import json
import tempfile
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pytest
from sinks import Clock, Memory, Server

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.core.types import Interval
from quantlab.data.calendar import bar_ends, schedule
from quantlab.data.sample import sample_bars
from quantlab.vendors.base import TemporaryError
from quantlab.vendors.crypto import Crypto
from quantlab.vendors.download import Download, State, find_gaps
from quantlab.vendors.provider import Provider, get_json

SAMPLE = sample_bars(["KO", "XOM"], "2012-01-03", "2014-03-01")


def sample(symbol, start=None, end=None):
    "Cut from the sample, read once."
    return SAMPLE[SAMPLE.index.get_level_values("symbol").isin([symbol] if isinstance(symbol, str) else symbol)].loc[start:end]


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
            rows.append([1_709_251_200_000 + i * step, *(f"{x:.8f}" for x in (first, high, low, price)), f"{rng.uniform(1, 9):.5f}", 0, "0", 1, "0", "0", "0"])
    return rows


def exchange(rows, script):
    "Serve Binance's exchangeInfo and klines; at each klines request do what the script says."
    market = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "isSpotTradingAllowed": True, "filters": [], "permissionSets": [["SPOT"]]}
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
        job(tmp_path, sink, clock, now=lambda: now).backfill(crypto(server.url), ["BTC/USDT"], "2024-03-01", "2024-04-30", "1d")
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
    return {"meta": {"exchangeTimezoneName": zone, "symbol": bars.index[0][1]}, "timestamp": [int(t.timestamp()) for t in stamps], "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]}}


def finance(script):
    "Serve cookies, crumbs and charts; at each chart do what the script says."
    last = []

    def answer(path, number):
        url = urlsplit(path)
        if "chart" not in url.path:
            return 200, {"Set-Cookie": "A3=x"}, b"crumb"
        query, symbol = dict(parse_qsl(url.query)), url.path.split("/")[-1]
        if symbol == "EARLY":
            return 400, {}, json.dumps({"chart": {"result": None, "error": {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"}}}).encode()
        if symbol not in ("KO", "XOM"):
            return 404, {}, json.dumps({"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}}).encode()
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
    pd.testing.assert_frame_equal(sink.read("yahoo", "1d"), sample(["KO", "XOM"], "2012-01-03", "2014-01-15"), rtol=1e-12)


def test_yahoo_refuses_what_it_does_not_know_and_believes_an_empty_past(tmp_path):
    with Server(finance([])) as server:
        vendor = yahoo(server.url)
        with pytest.raises(DataError, match="Yahoo has no LEH .No data found, symbol may be delisted.*others are stored"):
            job(tmp_path, Memory(), Clock()).backfill(vendor, ["LEH", "KO"], "2012-01-03", "2012-01-31")
        assert list(vendor.pages("EARLY", pd.Timestamp("2012-01-03"), pd.Timestamp("2012-01-31"), "1d")) == []


def test_yahoo_sessions_follow_the_exchange_and_nulls_are_no_bars():
    pytest.importorskip("yfinance", reason="the extra vendors is not installed")
    from quantlab.vendors.yahoo import _panel

    bars = sample("KO", "2012-03-05", "2012-03-16")  # across the change of clocks
    for zone, clock in [("America/New_York", "09:30"), ("Asia/Tokyo", "09:00"), ("Australia/Sydney", "10:00"), ("Pacific/Auckland", "10:00")]:
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
    got = _panel({"meta": {}, "timestamp": [int(t.timestamp()) for t in starts], "indicators": {"quote": [lists]}}, "SPY", Interval(interval), "XNYS")
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
        good = json.dumps({"bars": rows.drop(columns="symbol").to_dict("records"), "next": page + 1 if size * page + size < len(bars) else None}).encode()
        return sent(script, good, last)

    return answer


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "418"])
def test_provider_loses_and_doubles_nothing(tmp_path, fault):
    sink, clock = Memory(), Clock()
    with Server(service(["ok", fault, "ok", fault, fault])) as server:
        job(tmp_path, sink, clock).backfill(Provider(server.url), ["KO"], "2012-01-03", "2012-12-31")
    pd.testing.assert_frame_equal(sink.read("provider", "1d"), sample("KO", "2012-01-03", "2012-12-31"), check_exact=True)
    assert (11.0 in clock.naps) == (fault == "429")


def test_provider_does_not_believe_the_page_number_of_an_old_answer(tmp_path):
    sink, clock = Memory(), Clock()
    with Server(service(["ok", "ok", "503", "again", "ok", "503", "again"])) as server:
        job(tmp_path, sink, clock).backfill(Provider(server.url), ["KO"], "2012-01-03", "2012-12-31")
    pd.testing.assert_frame_equal(sink.read("provider", "1d"), sample("KO", "2012-01-03", "2012-12-31"), check_exact=True)


def test_provider_says_what_is_final(tmp_path):
    with Server(service([])) as server:
        with pytest.raises(DataError, match="404.*check the symbol"):
            job(tmp_path, Memory(), Clock()).backfill(Provider(server.url), ["LEH"], "2012-01-03", "2012-12-31")
    with pytest.raises(TemporaryError, match="did not answer whole"):
        get_json("http://127.0.0.1:9", {}, timeout=1)
