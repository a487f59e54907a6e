"The stand-ins of venues themselves: by the real ccxt client, by plain HTTP, by a plain socket, and without any wire."

import asyncio
import datetime
import hashlib
import hmac
import importlib.util
import json
import re
import socket
import threading
import time
import uuid
from decimal import Decimal
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("aiohttp")

from fakes import fix  # noqa: E402
from fakes.alpaca import AlpacaVenue  # noqa: E402
from fakes.binance import BinanceVenue, spot  # noqa: E402
from fakes.coinbase import CoinbaseVenue, product  # noqa: E402
from fakes.core import Core, Refused, Ticks, wall_clock  # noqa: E402
from fakes.faults import Failed, FaultPlan, Lost, run  # noqa: E402
from fakes.serving import Request, redirect, serve  # noqa: E402

SHAPES = json.loads((Path(__file__).parent / "shapes.json").read_text())
KEYS = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}
DAY = "2024-01-02"


def stocks(**settings):
    core = Core(instruments=["AAPL", "MSFT"], **settings)
    core.set_price("AAPL", "100")
    core.set_price("MSFT", "300")
    return core


def statuses(core):
    return [one.status for one in core.orders]


# --- the core


def test_what_waits_fills_at_the_opening_price_whenever_it_came():
    core = stocks()
    core.submit("AAPL", "buy", "10", client_id="a")
    core.submit("AAPL", "buy", "0.5", client_id="b", type="limit", limit="105", tif="gtc")
    core.open_session(DAY, {"AAPL": "101.37"})
    core.submit("AAPL", "buy", "3", client_id="c")
    assert {one["price"] for one in core.events("fill")} == {Decimal("101.37")}
    assert core.position("AAPL") == Decimal("13.5")
    assert core.balances["USD"] == Decimal("100000") - Decimal("13.5") * Decimal("101.37")


def test_orders_for_the_open_and_the_close():
    core = stocks()
    core.submit("AAPL", "buy", 1, tif="opg", type="limit", limit="90")
    core.submit("AAPL", "buy", 1, tif="opg")
    core.submit("AAPL", "buy", 1, tif="cls")
    core.open_session(DAY, {"AAPL": "101"})
    assert statuses(core) == ["canceled", "filled", "accepted"]
    assert core.submit("AAPL", "buy", 1, tif="opg").status == "canceled"  # the open is over
    core.close_session({"AAPL": "103"})
    assert [one["price"] for one in core.events("fill")] == [101, 103]


def test_a_resting_limit_order_fills_at_its_limit_and_at_a_better_open():
    core = stocks()
    core.open_session(DAY)
    core.submit("AAPL", "buy", 1, type="limit", limit="95", tif="gtc")
    core.submit("AAPL", "buy", 1, type="limit", limit="90", tif="gtc")
    core.submit("AAPL", "buy", 1, type="limit", limit="80", tif="day")
    core.set_price("AAPL", "94")
    core.close_session()
    core.set_price("AAPL", "70")  # between the sessions nothing fills
    core.open_session("2024-01-03", {"AAPL": "88"})
    assert [one["price"] for one in core.events("fill")] == [95, 88]
    assert [f"{one.time:%m-%d %H:%M}" for one in core.executions] == ["01-02 14:30", "01-03 14:30"]
    assert statuses(core) == ["filled", "filled", "expired"]


def test_fills_in_parts_as_planned():
    core = stocks()
    core.plan("a", parts=["3", "4"])
    core.plan("b", parts=["2"], only_parts=True)
    core.open_session(DAY)
    first = core.submit("AAPL", "buy", "10", client_id="a")
    second = core.submit("AAPL", "buy", "10", client_id="b")
    seen = [first.filled]
    for _ in range(3):
        core.step()
        seen.append(first.filled)
    assert seen == [3, 7, 10, 10] and second.filled == 2
    core.close_session()
    assert (first.status, second.status) == ("filled", "expired")
    assert [one["fill_qty"] for one in core.events("fill")] == [3, 2, 4, 3]


def test_a_cancel_can_lose_the_race_wait_or_be_followed_by_a_fill():
    core = stocks()
    core.plan("race", cancel="filled_first")
    core.plan("late", cancel="late_fill", late="4")
    core.plan("slow", cancel="later")
    for name in ("race", "late", "slow", "plain"):
        core.submit("AAPL", "buy", "10", client_id=name, type="limit", limit="50", tif="gtc")
    orders = {one.client_id: one for one in core.orders}
    with pytest.raises(Refused) as why:
        core.cancel(orders["race"].id)
    assert why.value.reason == "done" and orders["race"].status == "filled"
    for name in ("late", "slow", "plain"):
        core.cancel(orders[name].id)
    assert [orders[name].status for name in ("late", "slow", "plain")] == ["pending_cancel"] * 2 + ["canceled"]
    with pytest.raises(Refused, match="pending"):
        core.cancel(orders["slow"].id)
    core.step()
    assert (orders["late"].status, orders["late"].filled) == ("canceled", 4)
    assert (orders["slow"].status, orders["slow"].filled) == ("canceled", 0)
    core.fill(orders["plain"].id, "1", "50")
    assert (orders["plain"].status, orders["plain"].filled) == ("canceled", 1)


def test_refusals_rejections_and_halts():
    core = stocks()
    core.plan("no", refuse="blocked")
    core.plan("later", reject="not shortable")
    core.open_session(DAY)
    with pytest.raises(Refused, match="blocked"):
        core.submit("AAPL", "buy", 1, client_id="no")
    order = core.submit("AAPL", "buy", 1, client_id="later")
    core.step()
    assert (order.status, order.reason) == ("rejected", "not shortable")
    core.halt("MSFT")
    waits = core.submit("MSFT", "buy", 1)
    assert waits.status == "new"
    core.resume("MSFT")
    assert waits.status == "filled"
    assert [one["reason"] for one in core.events("refused")] == ["blocked"]


def test_cash_and_holdings_are_checked_with_what_open_orders_hold():
    core = stocks(cash="1000")
    core.submit("AAPL", "buy", "6", type="limit", limit="100", tif="gtc")
    with pytest.raises(Refused) as why:
        core.submit("AAPL", "buy", "5", type="limit", limit="100", tif="gtc")
    assert why.value.facts == {"need": Decimal(500), "have": Decimal(400)}
    core.hold("MSFT", "4", "250")
    core.submit("MSFT", "sell", "3", type="limit", limit="400", tif="gtc")
    with pytest.raises(Refused) as why:
        core.submit("MSFT", "sell", "2")
    assert why.value.reason == "holdings" and why.value.facts["held"] == 3
    shorts = stocks(shorting=True)
    shorts.open_session(DAY)
    shorts.submit("AAPL", "sell", "5")
    shorts.submit("AAPL", "buy", "8")
    assert (shorts.position("AAPL"), shorts.costs["AAPL"]) == (3, 300)


def test_the_same_calls_give_the_same_log_and_nobody_rewrites_it():
    def play():
        core = stocks(clock=Ticks())
        core.plan("a", parts=["1"])
        core.submit("AAPL", "buy", "2", client_id="a")
        core.open_session(DAY, {"AAPL": "99"})
        core.step()
        core.close_session()
        return core

    first, second = play(), play()
    assert first.log == second.log and len(first.log) >= 5
    first.log.clear()
    first.log[0]["event"] = "nothing"
    assert first.log == second.log


def test_fees_and_orders_for_an_amount_are_exact():
    core = Core(cash="1000", currency="USDT", instruments=[spot("BTC")], always_open=True, fee_rate="0.001",
                fee_in="received")  # fmt: skip
    core.set_price("BTCUSDT", "30000")
    order = core.submit("BTCUSDT", "buy", notional="100", tif="ioc")
    assert order.qty == Decimal("0.00333") and order.value == Decimal("99.9")
    assert core.position("BTCUSDT") == Decimal("0.00333") * Decimal("0.999")
    core.submit("BTCUSDT", "sell", "0.001", tif="ioc")
    assert core.balances["USDT"] == Decimal("1000") - Decimal("99.9") + Decimal(30) - Decimal("0.03")


# --- faults


def test_a_plan_is_the_same_for_the_same_seed_and_each_key_has_its_own_sequence():
    rates = {"drop_request": 0.3, "duplicate": 0.3}
    alone = [FaultPlan(7, rates).decide("POST", "/v2/orders") for _ in range(1)]
    one, two = FaultPlan(7, rates), FaultPlan(7, rates)
    posts = [one.decide("POST", "/v2/orders") for _ in range(40)]
    mixed = []
    for _ in range(40):
        two.decide("GET", "/v2/orders/12345678-aaaa")
        mixed.append(two.decide("POST", "/v2/orders"))
    assert posts == mixed and posts[:1] == alone and len(set(posts)) == 3
    assert posts != [one.decide("PUT", "/v2/orders") for _ in range(40)]
    assert posts != [FaultPlan(8, rates).decide("POST", "/v2/orders") for _ in range(40)]
    with pytest.raises(ValueError, match="no such faults"):
        FaultPlan(script=["melt"])


def test_a_plan_in_front_of_plain_calls():
    done = []

    def call(name):
        return "POST", "/orders", lambda: done.append(name) or name

    kinds = ["ok", "drop_request", "drop_answer", "delay", "duplicate", "too_many", "done_500", "outage", "ok", "ok"]
    plan = FaultPlan(script=kinds, outage=2, retry_after=7)
    answers = run(plan, [call(name) for name in "abcdefghij"])
    assert done == ["a", "c", "e", "e", "d", "g", "j"]
    assert [answers[0], answers[4], answers[9]] == ["a", "e", "j"]
    assert [type(one) for one in answers[1:4]] == [Lost] * 3
    assert [(one.status, one.retry_after) for one in answers[5:9]] == [(429, 7), (500, None), (503, None), (503, None)]
    assert all(isinstance(one, Failed) for one in answers[5:9]) and plan.count("outage") == 2


ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}


def client(url):
    return httpx.Client(base_url=url, headers=KEYS, timeout=5)


def posted(http, name, **changes):
    return http.post("/v2/orders", json=ORDER | {"client_order_id": name} | changes)


def test_each_fault_over_http_leaves_its_trace_in_what_the_venue_did():
    core = stocks()
    script = ["drop_request", "drop_answer", "duplicate", "too_many", "error_500", "done_503", "outage", "ok"]
    plan = FaultPlan(script=script, only="POST", outage=2)
    with AlpacaVenue(core, faults=plan).serve() as url, client(url) as http:
        seen = []
        for name in "abcdefghi":
            try:
                seen.append(posted(http, name).status_code)
            except httpx.HTTPError as error:
                seen.append(type(error).__name__)
    assert seen == ["RemoteProtocolError"] * 2 + [422, 429, 500, 503, 503, 503, 200]
    assert [one["client_order_id"] for one in core.events("accepted")] == ["b", "c", "f", "i"]
    assert [(one["client_order_id"], one["reason"]) for one in core.events("refused")] == [("c", "duplicate")]
    assert core.accepted_twice() == []


def test_a_delayed_request_is_served_after_a_later_one():
    core = stocks()
    plan = FaultPlan(at={0: "delay"}, only="POST", patience=10)
    with AlpacaVenue(core, faults=plan).serve() as url, client(url) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v2/orders", json=ORDER | {"client_order_id": "early"}, timeout=0.1)
        while not plan.history:
            time.sleep(0.005)
        assert core.log == []
        assert posted(http, "late").status_code == 200
        assert [one["client_order_id"] for one in core.wait_for("accepted", 2)] == ["late", "early"]
    with pytest.raises(TimeoutError, match="fewer than 3"):
        core.wait_for("accepted", 3, timeout=0.01)


def test_an_accepted_order_can_take_a_while_to_show():
    core = stocks()
    with AlpacaVenue(core, faults=FaultPlan(visibility=2)).serve() as url, client(url) as http:
        name = posted(http, "a").json()["id"]
        counts = [len(http.get("/v2/orders").json()) for _ in range(4)]
        assert counts == [0, 0, 1, 1] and http.get(f"/v2/orders/{name}").status_code == 200
    plan = FaultPlan(settle=60, hides="all")
    venue = AlpacaVenue(stocks(), faults=plan)
    with serve(venue) as url, client(url) as http:
        name = posted(http, "a").json()["id"]
        assert http.get(f"/v2/orders/{name}").status_code == 404
        assert http.get("/v2/orders:by_client_order_id?client_order_id=a").status_code == 404
        assert posted(http, "a").status_code == 422  # the venue knows
        venue.core.clock.advance(61)
        assert len(http.get("/v2/orders").json()) == 1 and http.get(f"/v2/orders/{name}").status_code == 200


# --- the forms of answers


def fits(kind, value):
    "Whether a value is of a kind of shapes.json."
    if isinstance(kind, list):
        return value in kind or value == ""
    if kind == "uuid":
        return str(uuid.UUID(value)) == value
    if kind == "time":
        form = bool(re.fullmatch(r"\d\d:\d\d", value))
        return form or bool(datetime.datetime.fromisoformat(value.replace("Z", "+00:00")))
    if kind == "number":
        return not isinstance(value, bool) and bool(Decimal(str(value)).is_finite())
    return isinstance(value, {"text": str, "flag": bool, "whole": int, "any": object}[kind])


def check_alpaca(model, answer):
    for name, one in SHAPES["alpaca"]["models"][model].items():
        assert not one["needed"] or answer.get(name) is not None, (model, name)
        if answer.get(name) is not None and name != "order":
            assert fits(one["kind"], answer[name]), (model, name, answer[name])


def check(venue, model, answer):
    for name, kind in SHAPES[venue]["models"][model].items():
        if name == "sors":  # optional
            continue
        assert name in answer, (model, name)
        assert answer[name] is None or fits(kind, answer[name]), (model, name, answer[name])


# --- Alpaca


def ask(venue, method, path, query="", body=None, headers=KEYS):
    sent = {name.lower(): value for name, value in headers.items()}
    answer = venue.handle(Request(method, path, query, sent, b"" if body is None else json.dumps(body).encode()))
    return answer.status, json.loads(json.dumps(answer.body))


def alpaca_day():
    "A day in which an order of every fate comes, and what the venue said of each."
    core = stocks(shorting=True)
    venue = AlpacaVenue(core)
    updates = []
    core.subscribe(lambda line, order: updates.append(venue._update(line, order)))
    made = [ask(venue, "POST", "/v2/orders", body=ORDER)[1]]
    core.plan("part", parts=["3"])
    core.plan("rejected", reject="halted")
    core.open_session(DAY, {"AAPL": "100", "MSFT": "300"})
    rests = {"type": "limit", "limit_price": "90.5", "time_in_force": "gtc"}
    for body in (
        {"client_order_id": "part"},
        {"client_order_id": "rejected"},
        {"qty": None, "notional": "333.33"},
        {"symbol": "MSFT", "side": "sell", "qty": "1"},
        rests,
        {"type": "limit", "limit_price": "91"},
    ):
        made.append(ask(venue, "POST", "/v2/orders", body=ORDER | body)[1])
    made.append(ask(venue, "PATCH", f"/v2/orders/{made[5]['id']}", body={"limit_price": "91.5"})[1])
    assert ask(venue, "DELETE", f"/v2/orders/{made[-1]['id']}") == (204, None)
    core.step()
    core.close_session()
    return venue, made, [one["data"] for one in updates if one]


def test_alpaca_answers_have_the_fields_and_kinds_of_its_own_client():
    venue, made, updates = alpaca_day()
    status, listed = ask(venue, "GET", "/v2/orders", "status=all&limit=500")
    assert status == 200 and {one["status"] for one in made} == {"accepted", "pending_new"}
    assert {one["status"] for one in listed} == {"filled", "rejected", "replaced", "canceled", "expired"}
    for one in made + listed + [update["order"] for update in updates]:
        check_alpaca("Order", one)
    for one in updates:
        check_alpaca("TradeUpdate", one)
    events = ["accepted", "new", "fill", "new", "partial_fill", "new", "rejected", "replaced", "canceled", "expired"]
    assert set(events) == {one["event"] for one in updates}
    check_alpaca("TradeAccount", ask(venue, "GET", "/v2/account")[1])
    check_alpaca("Clock", ask(venue, "GET", "/v2/clock")[1])
    for path, model in (("positions", "Position"), ("account/activities/FILL", "TradeActivity"), ("assets", "Asset"),
                        ("calendar", "Calendar")):  # fmt: skip
        rows = ask(venue, "GET", f"/v2/{path}")[1]
        assert len(rows) >= 2
        for one in rows:
            check_alpaca(model, one)


@pytest.mark.skipif(importlib.util.find_spec("alpaca") is None, reason="alpaca-py is not installed")
def test_alpaca_answers_are_read_by_the_models_of_alpaca_py():
    from alpaca.trading import models

    venue, made, updates = alpaca_day()
    for one in made + ask(venue, "GET", "/v2/orders", "status=all")[1]:
        models.Order(**one)
    for one in updates:
        models.TradeUpdate(**one)
    models.TradeAccount(**ask(venue, "GET", "/v2/account")[1])
    models.Clock(**ask(venue, "GET", "/v2/clock")[1])
    for path, model in (("positions", models.Position), ("assets", models.Asset), ("calendar", models.Calendar)):
        for one in ask(venue, "GET", f"/v2/{path}")[1]:
            model(**one)


def test_alpaca_a_client_order_id_stays_used_when_its_order_is_done():
    venue = AlpacaVenue(stocks())
    venue.core.open_session(DAY)
    rests = ORDER | {"type": "limit", "limit_price": "50", "client_order_id": "b"}
    assert ask(venue, "POST", "/v2/orders", body=ORDER | {"client_order_id": "a"})[0] == 200
    made = ask(venue, "POST", "/v2/orders", body=rests)[1]
    ask(venue, "DELETE", f"/v2/orders/{made['id']}")
    assert statuses(venue.core) == ["filled", "canceled"]
    for name in "ab":
        answer = ask(venue, "POST", "/v2/orders", body=ORDER | {"client_order_id": name})
        assert answer == (422, {"code": 40010001, "message": "client_order_id must be unique"})
    assert venue.core.accepted_twice() == [] and len(venue.core.events("refused")) == 2


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"qty": "2000"}, 403, 40310000),
        ({"side": "sell"}, 403, 40310000),
        ({"symbol": "NONE"}, 422, 42210000),
        ({"qty": None}, 422, 42210000),
        ({"qty": "-1"}, 422, 42210000),
        ({"qty": "x"}, 422, 42210000),
        ({"type": "limit", "limit_price": "290.123"}, 422, 42210000),
        ({"type": "limit"}, 422, 42210000),
        ({"qty": "0.5", "time_in_force": "gtc"}, 422, 42210000),
        ({"extended_hours": True}, 422, 42210000),
        ({"client_order_id": "x" * 49}, 422, 42210000),
        ({"side": "hold"}, 422, 42210000),
    ],
)
def test_alpaca_refuses(changes, status, code):
    venue = AlpacaVenue(stocks())
    got, body = ask(venue, "POST", "/v2/orders", body=ORDER | changes)
    assert (got, body["code"]) == (status, code) and body["message"]
    assert venue.core.orders == []


def test_alpaca_takes_no_order_for_the_open_during_the_session():
    venue = AlpacaVenue(stocks())
    assert ask(venue, "POST", "/v2/orders", body=ORDER | {"time_in_force": "opg"})[0] == 200
    venue.core.open_session(DAY)
    assert ask(venue, "POST", "/v2/orders", body=ORDER | {"time_in_force": "opg"})[0] == 422
    assert statuses(venue.core) == ["filled"]


def test_alpaca_checks_a_market_buy_with_a_price_above_the_market():
    venue = AlpacaVenue(stocks(cash="1020"))
    assert ask(venue, "POST", "/v2/orders", body=ORDER)[0] == 403  # 10 * 100 * 1.025
    assert ask(AlpacaVenue(stocks(cash="1025")), "POST", "/v2/orders", body=ORDER)[0] == 200
    assert ask(AlpacaVenue(stocks(cash="1020"), collared=False), "POST", "/v2/orders", body=ORDER)[0] == 200


def test_alpaca_over_http_keys_cancels_lists_and_pages():
    core = stocks()
    with AlpacaVenue(core).serve() as url, client(url) as http:
        assert httpx.get(url + "/v2/account").status_code == 401
        names = [posted(http, f"n{index}").json()["id"] for index in range(5)]
        assert http.get("/v2/orders:by_client_order_id", params={"client_order_id": "n3"}).json()["id"] == names[3]
        assert http.delete(f"/v2/orders/{names[4]}").status_code == 204
        again = http.delete(f"/v2/orders/{names[4]}")
        assert (again.status_code, again.json()["message"]) == (422, 'order is already in "canceled" state')
        assert http.delete(f"/v2/orders/{uuid.uuid4()}").status_code == 404
        core.open_session(DAY, {"AAPL": "101"})
        assert [one["id"] for one in http.get("/v2/orders?status=all&limit=2").json()] == [names[4], names[3]]
        oldest = http.get("/v2/orders?status=closed&direction=asc&limit=1").json()[0]
        later = {"status": "all", "after": oldest["submitted_at"], "direction": "asc"}
        assert [one["id"] for one in http.get("/v2/orders", params=later).json()] == names[1:]
        until = {"status": "all", "until": oldest["submitted_at"]}
        assert http.get("/v2/orders", params=until).json() == [] and http.get("/v2/orders").json() == []
        path, pages, token = "/v2/account/activities/FILL", [], None
        while True:
            page = http.get(path, params={"page_size": 2} | ({"page_token": token} if token else {})).json()
            if not page:
                break
            pages, token = pages + page, page[-1]["id"]
        assert [one["order_id"] for one in pages] == names[3::-1]
        assert http.get(path, params={"date": DAY}).json() == http.get(path).json()
        assert http.get(path, params={"date": "2024-01-03"}).json() == []
        posted(http, "x", type="limit", limit_price="50")
        assert [one["status"] for one in http.delete("/v2/orders").json()] == [200]


def test_alpaca_clock_and_calendar_follow_the_sessions():
    core = stocks()
    venue = AlpacaVenue(core, holidays=[datetime.date(2024, 1, 3)])
    assert ask(venue, "GET", "/v2/clock")[1]["next_open"] == "2024-01-02T09:30:00-05:00"
    core.open_session(DAY)
    clock = ask(venue, "GET", "/v2/clock")[1]
    assert clock["is_open"] and clock["next_close"] == "2024-01-02T16:00:00-05:00"
    core.close_session()
    clock = ask(venue, "GET", "/v2/clock")[1]
    assert not clock["is_open"] and clock["next_open"] == "2024-01-04T09:30:00-05:00"
    days = [one["date"] for one in ask(venue, "GET", "/v2/calendar", "start=2024-01-01&end=2024-01-08")[1]]
    assert days == ["2024-01-01", "2024-01-02", "2024-01-04", "2024-01-05", "2024-01-08"]


async def listen(url, keys, count, act):
    import aiohttp

    async with aiohttp.ClientSession() as web, web.ws_connect(url + "/stream") as line:
        await line.send_json({"action": "authenticate", "data": keys})
        said = [json.loads((await line.receive()).data)]
        await line.send_json({"action": "listen", "data": {"streams": ["trade_updates", "other"]}})
        said.append(json.loads((await line.receive()).data))
        act()
        return said + [json.loads((await line.receive(timeout=5)).data) for _ in range(count)]


def test_alpaca_streams_trade_updates():
    core = stocks()
    core.plan("a", parts=["4"])

    def act():
        core.submit("AAPL", "buy", "10", client_id="a")
        core.open_session(DAY, {"AAPL": "101"})
        core.step()

    with AlpacaVenue(core).serve() as url:
        wrong = asyncio.run(listen(url, {"key_id": "KEY", "secret_key": "no"}, 0, lambda: None))
        said = asyncio.run(listen(url, {"key_id": "KEY", "secret_key": "SECRET"}, 4, act))
    assert [one["data"]["status"] for one in wrong] == ["unauthorized"] * 2
    assert said[0]["data"] == {"status": "authorized", "action": "authenticate"}
    assert said[1] == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
    assert [one["data"]["event"] for one in said[2:]] == ["accepted", "new", "partial_fill", "fill"]
    fills = [one["data"] for one in said[4:]]
    assert [one["execution_id"] for one in fills] == [one["execution_id"] for one in core.events("fill")]
    assert [(one["qty"], one["position_qty"], one["price"]) for one in fills] == [("4", "4", "101"), ("6", "10", "101")]


def test_alpaca_goes_away_and_comes_back_at_the_same_address():
    core = stocks()
    venue = AlpacaVenue(core, binary=False)

    async def until_closed(url):
        import aiohttp

        async with aiohttp.ClientSession() as web, web.ws_connect(url + "/stream") as line:
            await line.send_json({"action": "authenticate", "data": {"key_id": "KEY", "secret_key": "SECRET"}})
            kinds = [(await line.receive()).type.name]
            venue.drop_streams()
            return kinds + [(await line.receive(timeout=5)).type.name]

    with venue.serve() as url, client(url) as http:
        assert asyncio.run(until_closed(url)) == ["TEXT", "CLOSE"]
        assert posted(http, "a").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/v2/account")
    with venue.serve(port=int(url.rsplit(":", 1)[1])) as again, client(again) as http:
        assert again == url and [one["client_order_id"] for one in http.get("/v2/orders").json()] == ["a"]


# --- Binance, by the real ccxt client


@pytest.fixture(scope="module")
def ccxt():
    return pytest.importorskip("ccxt")


def coins(**settings):
    core = Core(cash="10000", currency="USDT", instruments=[spot("BTC"), spot("ETH")], always_open=True,
                clock=wall_clock, **settings)  # fmt: skip
    core.set_price("BTCUSDT", "50000")
    core.set_price("ETHUSDT", "2000")
    return core


def binance(ccxt, url, **settings):
    return redirect(ccxt.binance({"apiKey": "KEY", "secret": "SECRET", "enableRateLimit": False} | settings), url)


def test_binance_by_ccxt(ccxt):
    core = coins(fee_rate="0.001", fee_in="received")
    with BinanceVenue(core).serve() as url:
        exchange = binance(ccxt, url)
        assert set(exchange.load_markets()) == {"BTC/USDT", "ETH/USDT"}
        limits = exchange.markets["BTC/USDT"]
        assert (limits["precision"]["amount"], limits["limits"]["cost"]["min"]) == (1e-5, 5)
        made = exchange.create_order("BTC/USDT", "market", "buy", 0.01, None, {"clientOrderId": "c1"})
        assert (made["status"], made["filled"], made["average"], made["clientOrderId"]) == ("closed", 0.01, 5e4, "c1")
        rests = exchange.create_order("BTC/USDT", "limit", "buy", 0.01, 40000, {"clientOrderId": "c2"})
        assert [one["clientOrderId"] for one in exchange.fetch_open_orders("BTC/USDT")] == ["c2"]
        assert exchange.fetch_balance()["USDT"] == {"free": 9100, "used": 400, "total": 9500}
        assert exchange.fetch_balance()["BTC"]["total"] == 0.00999
        assert exchange.cancel_order(rests["id"], "BTC/USDT")["status"] == "canceled"
        assert exchange.fetch_order(None, "BTC/USDT", {"origClientOrderId": "c2"})["status"] == "canceled"
        assert [one["id"] for one in exchange.fetch_closed_orders("BTC/USDT")] == [made["id"]]
        trades = exchange.fetch_my_trades("BTC/USDT", since=exchange.milliseconds() - 60000)
        assert [(one["order"], one["amount"], one["fee"]) for one in trades] == [
            (made["id"], 0.01, {"currency": "BTC", "cost": 1e-5})
        ]
        assert exchange.fetch_ticker("BTC/USDT")["last"] == 50000
        check("binance", "order_full", made["info"])
        check("binance", "fill_of_order", made["info"]["fills"][0])
        check("binance", "trade", exchange.private_get_mytrades({"symbol": "BTCUSDT"})[0] | trades[0]["info"])


def test_binance_a_client_order_id_is_free_again_after_the_fill(ccxt):
    core = coins()
    with BinanceVenue(core).serve() as url:
        exchange = binance(ccxt, url)
        for _ in range(2):
            exchange.create_order("BTC/USDT", "market", "buy", 0.01, None, {"clientOrderId": "same"})
        exchange.create_order("BTC/USDT", "limit", "buy", 0.01, 40000, {"clientOrderId": "rests"})
        with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
            exchange.create_order("BTC/USDT", "limit", "buy", 0.01, 40000, {"clientOrderId": "rests"})
    assert core.accepted_twice() == ["same"]
    assert [(one["client_order_id"], one["reason"]) for one in core.events("refused")] == [("rests", "duplicate")]


def test_binance_errors_by_ccxt(ccxt):
    core, plan = coins(), FaultPlan()
    with BinanceVenue(core, faults=plan).serve() as url:
        exchange = binance(ccxt, url)
        exchange.load_markets()
        for error, call in (
            (ccxt.OrderNotFound, lambda: exchange.fetch_order("9", "BTC/USDT")),
            (ccxt.OrderNotFound, lambda: exchange.cancel_order("9", "BTC/USDT")),
            (ccxt.InsufficientFunds, lambda: exchange.create_order("BTC/USDT", "limit", "buy", 1, 40000)),
            (ccxt.BadSymbol, lambda: exchange.private_get_mytrades({"symbol": "XX"})),
            (ccxt.BadRequest, lambda: exchange.create_order("BTC/USDT", "limit", "buy", 0.0001, 40000)),
        ):
            with pytest.raises(error):
                call()
        plan.script = ["too_many", "error_503", "drop_answer", "drop_request"]
        for error in (ccxt.DDoSProtection, ccxt.RequestTimeout, ccxt.NetworkError, ccxt.NetworkError):
            with pytest.raises(error):
                exchange.create_order("BTC/USDT", "market", "buy", 0.001)
        exchange.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError):
            exchange.fetch_balance()
        core.halt("BTCUSDT")
        exchange.secret = "SECRET"
        with pytest.raises(ccxt.ExchangeError, match="Market is closed"):
            exchange.create_order("BTC/USDT", "market", "buy", 0.001)
    assert len(core.events("accepted")) == 1


class Time:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


def signed(venue, method, path, when=None, key="KEY", secret=b"SECRET", body=False, **given):
    stamp = int((venue.timing() if when is None else when) * 1000)
    text = "&".join(f"{name}={value}" for name, value in (given | {"timestamp": stamp}).items())
    text += "&signature=" + hmac.new(secret, text.encode(), hashlib.sha256).hexdigest().upper()
    query, data = ("", text.encode()) if body else (text, b"")
    answer = venue.handle(Request(method, "/api/v3/" + path, query, {"x-mbx-apikey": key}, data))
    return answer.status, answer.body, answer.headers


MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "40000",
         "quantity": "0.01"}  # fmt: skip


def test_binance_signatures_and_times():
    venue = BinanceVenue(coins(), timing=Time())
    now = venue.timing()
    codes = []
    for when, more in ((now, {}), (now + 0.999, {}), (now - 5, {}), (now + 1, {}), (now - 5.001, {}),
                       (now - 9, {"recvWindow": "10000"}), (now, {"recvWindow": "60001"})):  # fmt: skip
        body = signed(venue, "GET", "account", when, **more)[1]
        codes.append(body.get("code", "ok"))
    assert codes == ["ok", "ok", "ok", -1021, -1021, "ok", -1131]
    assert signed(venue, "GET", "account", secret=b"x")[1]["code"] == -1022
    assert signed(venue, "GET", "account", key="x")[:2] == (401, {
        "code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})  # fmt: skip
    assert venue.handle(Request("GET", "/api/v3/account")).body["code"] == -2014
    unsigned = Request("GET", "/api/v3/account", "timestamp=1", {"x-mbx-apikey": "KEY"})
    assert venue.handle(unsigned).body["code"] == -1102
    assert signed(venue, "POST", "order", body=True, **MARKET)[0] == 200


def test_binance_filters_and_order_forms():
    venue = BinanceVenue(coins(), timing=Time())
    tries = [
        ({"price": "40000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.0001"}, -1013, "Filter failure: NOTIONAL"),
        ({"timeInForce": ""}, -1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"symbol": "XX"}, -1121, "Invalid symbol."),
        ({"type": "LIMIT_MAKER", "price": "50001"}, -2010, "Order would immediately match and take."),
        ({"newClientOrderId": "a b"}, -1100, None),
    ]
    for changes, code, text in tries:
        status, body, _ = signed(venue, "POST", "order", **(LIMIT | changes))
        assert (status, body["code"]) == (400, code) and (text is None or body["msg"] == text)
    assert venue.core.orders == []
    made = signed(venue, "POST", "order", **(LIMIT | {"timeInForce": "FOK"}))[1]
    assert (made["status"], made["fills"]) == ("EXPIRED", [])
    spent = signed(venue, "POST", "order", symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty="100")[1]
    assert (spent["executedQty"], spent["cummulativeQuoteQty"]) == ("0.00200000", "100.00000000")
    assert set(signed(venue, "POST", "order", newOrderRespType="ACK", **MARKET)[1]) == {
        "symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}  # fmt: skip
    for model, answer in (
        ("order", signed(venue, "GET", "order", symbol="BTCUSDT", orderId=1)[1]),
        ("account", signed(venue, "GET", "account")[1]),
        ("info", venue.handle(Request("GET", "/api/v3/exchangeInfo")).body),
        ("symbol", venue.handle(Request("GET", "/api/v3/exchangeInfo")).body["symbols"][0]),
    ):
        check("binance", model, answer)


def test_binance_ids_lists_and_windows():
    venue = BinanceVenue(coins(), timing=Time())
    for index in range(6):
        signed(venue, "POST", "order", newClientOrderId=f"n{index}", **LIMIT)
    both = {"symbol": "BTCUSDT", "orderId": 2, "origClientOrderId": "n3"}
    assert signed(venue, "GET", "order", **both)[1]["code"] == -2013
    assert signed(venue, "GET", "order", symbol="BTCUSDT")[1]["code"] == -1102
    listed = signed(venue, "GET", "allOrders", symbol="BTCUSDT", limit=2)[1]
    assert [one["orderId"] for one in listed] == [5, 6]
    listed = signed(venue, "GET", "allOrders", symbol="BTCUSDT", limit=2, orderId=3)[1]
    assert [one["orderId"] for one in listed] == [3, 4]
    listed = signed(venue, "GET", "allOrders", symbol="BTCUSDT", limit=2, startTime=0)[1]
    assert [one["orderId"] for one in listed] == [1, 2]
    assert signed(venue, "GET", "allOrders", symbol="BTCUSDT", startTime=0, endTime=10**9)[1]["code"] == -1127
    gone = signed(venue, "DELETE", "order", symbol="BTCUSDT", origClientOrderId="n0")[1]
    check("binance", "cancel", gone)
    assert (gone["status"], gone["origClientOrderId"]) == ("CANCELED", "n0")
    assert signed(venue, "DELETE", "order", symbol="BTCUSDT", origClientOrderId="n0")[1] == {
        "code": -2011, "msg": "Unknown order sent."}  # fmt: skip
    assert len(signed(venue, "DELETE", "openOrders", symbol="BTCUSDT")[1]) == 5


def test_binance_limits_then_bans_who_goes_on():
    venue = BinanceVenue(coins(), timing=Time(), weight_limit=40, ban_after=2)
    answers = [signed(venue, "GET", "account") for _ in range(5)]
    assert [one[0] for one in answers] == [200, 200, 429, 429, 418]
    assert answers[1][2]["X-MBX-USED-WEIGHT-1M"] == "40" and answers[2][1]["code"] == -1003
    assert answers[2][2]["Retry-After"] == str(60 - int(venue.timing()) % 60)
    assert answers[4][2]["Retry-After"] == "120"
    venue.timing.now += 121
    assert signed(venue, "GET", "account")[0] == 200


# --- Coinbase, by the real ccxt client


def dollars(**settings):
    core = Core(cash="10000", instruments=[product("BTC")], always_open=True, clock=wall_clock, **settings)
    core.set_price("BTC-USD", "50000")
    return core


def coinbase(ccxt, url, **settings):
    return redirect(ccxt.coinbase({"apiKey": "KEY", "secret": "SECRET", "enableRateLimit": False} | settings), url)


def test_coinbase_by_ccxt(ccxt):
    core = dollars(fee_rate="0.006")
    with CoinbaseVenue(core).serve() as url:
        exchange = coinbase(ccxt, url)
        assert set(exchange.load_markets()) == {"BTC/USD"}
        made = exchange.create_order("BTC/USD", "market", "buy", 0.01, 50000, {"client_order_id": "c1"})
        read = exchange.fetch_order(made["id"], "BTC/USD")
        assert (read["status"], read["clientOrderId"], read["average"]) == ("closed", "c1", 50000)
        spent = Decimal(str(read["filled"])) * 50000 * Decimal("1.006")
        assert 499.99 < spent <= 500 and core.balances["USD"] == 10000 - spent
        rests = exchange.create_order("BTC/USD", "limit", "buy", 0.01, 40000, {"client_order_id": "c2"})
        assert [one["clientOrderId"] for one in exchange.fetch_open_orders("BTC/USD")] == ["c2"]
        closed, trades = exchange.fetch_closed_orders("BTC/USD"), exchange.fetch_my_trades("BTC/USD")
        assert [one["id"] for one in closed] == [made["id"]]
        assert [one["id"] for one in trades] == [one["execution_id"] for one in core.events("fill")]
        balance = exchange.fetch_balance({"v3": True})
        assert balance["USD"]["used"] == 402.4 and balance["BTC"]["total"] == read["filled"]
        exchange.cancel_order(rests["id"], "BTC/USD")
        assert exchange.fetch_order(rests["id"], "BTC/USD")["status"] == "canceled"
        assert [one["status"] for one in exchange.fetch_orders("BTC/USD")] == ["closed", "canceled"]
        assert exchange.fetch_ticker("BTC/USD")["last"] == 50000
        check("coinbase", "order", read["info"])
        check("coinbase", "fill", trades[0]["info"])
        for one in exchange.v3_private_get_brokerage_accounts()["accounts"]:
            check("coinbase", "account", one)


def test_coinbase_a_repeated_client_order_id_gives_the_existing_order(ccxt):
    core = dollars()
    with CoinbaseVenue(core).serve() as url:
        exchange = coinbase(ccxt, url)
        made = [exchange.create_order("BTC/USD", "market", "buy", 0.01, 50000, {"client_order_id": "same"})["id"]
                for _ in range(3)]  # fmt: skip
    assert len(set(made)) == 1 and len(core.events("accepted")) == 1 and len(core.events("returned_existing")) == 2
    assert core.accepted_twice() == [] and core.position("BTC-USD") == Decimal("0.01")


def test_coinbase_errors_by_ccxt(ccxt):
    core, plan = dollars(), FaultPlan()
    with CoinbaseVenue(core, faults=plan).serve() as url:
        exchange = coinbase(ccxt, url)
        exchange.load_markets()
        with pytest.raises(ccxt.InsufficientFunds):
            exchange.create_order("BTC/USD", "limit", "buy", 1, 40000)
        with pytest.raises(ccxt.ExchangeError, match="order with this orderID was not found"):
            exchange.fetch_order("9")
        post_only = {"order_configuration": {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "60000",
                                                                 "post_only": True}}}  # fmt: skip
        with pytest.raises(ccxt.ExchangeError, match="POST_ONLY"):
            exchange.v3_private_post_brokerage_orders({"client_order_id": "p", "product_id": "BTC-USD", "side": "BUY"}
                                                      | post_only)  # fmt: skip
        gone = exchange.v3_private_post_brokerage_orders_batch_cancel({"order_ids": ["9"]})["results"]
        assert gone == [{"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": "9"}]
        plan.script = ["too_many", "outage", "drop_answer"]
        plan.outage = 1
        for error in (ccxt.RateLimitExceeded, ccxt.ExchangeNotAvailable, ccxt.NetworkError):
            with pytest.raises(error):
                exchange.create_order("BTC/USD", "market", "buy", 0.01, 50000)
        exchange.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError):
            exchange.v3_private_get_brokerage_accounts()
    assert len(core.events("accepted")) == 1


def test_coinbase_checks_the_token_of_a_key_pair(ccxt):
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    from cryptography.hazmat.primitives import serialization as form

    def pair():
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        return private.decode(), public

    (private, public), (other, _) = pair(), pair()
    name = "organizations/a/apiKeys/b"
    with CoinbaseVenue(dollars(), key=name, public_key=public).serve() as url:
        good, bad = (coinbase(ccxt, url, apiKey=name, secret=one) for one in (private, other))
        assert good.v3_private_get_brokerage_accounts()["has_next"] is False
        with pytest.raises(ccxt.AuthenticationError):
            bad.v3_private_get_brokerage_accounts()


def coinbase_call(venue, method, path, query="", body=None):
    data = b"" if body is None else json.dumps(body).encode()
    stamp = str(int(venue.timing()))
    text = stamp + method + "/api/v3/brokerage/" + path + data.decode()
    headers = {"cb-access-key": "KEY", "cb-access-timestamp": stamp,
               "cb-access-sign": hmac.new(b"SECRET", text.encode(), hashlib.sha256).hexdigest()}  # fmt: skip
    answer = venue.handle(Request(method, "/api/v3/brokerage/" + path, query, headers, data))
    return answer.status, answer.body


def test_coinbase_pages_and_cancels_that_wait():
    core = dollars()
    core.plan("n4", cancel="later")
    venue = CoinbaseVenue(core)
    form = {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "40000"}}
    names = [
        coinbase_call(venue, "POST", "orders", body={"client_order_id": f"n{index}", "product_id": "BTC-USD",
                                                     "side": "BUY", "order_configuration": form})[1]["order_id"]
        for index in range(5)
    ]  # fmt: skip
    pages, cursor = [], ""
    while True:
        page = coinbase_call(venue, "GET", "orders/historical/batch", f"limit=2&cursor={cursor}")[1]
        pages.append([one["order_id"] for one in page["orders"]])
        cursor = page["cursor"]
        if not page["has_next"]:
            break
    assert pages == [[names[4], names[3]], [names[2], names[1]], [names[0]]]
    assert coinbase_call(venue, "GET", "orders/historical/batch", "order_status=OPEN&order_status=FILLED")[0] == 400
    body = {"order_ids": [names[4], names[4], names[3], names[3]]}
    results = coinbase_call(venue, "POST", "orders/batch_cancel", body=body)[1]["results"]
    assert [one["failure_reason"] for one in results] == [
        "UNKNOWN_CANCEL_FAILURE_REASON", "DUPLICATE_CANCEL_REQUEST", "UNKNOWN_CANCEL_FAILURE_REASON",
        "INVALID_CANCEL_REQUEST"]  # fmt: skip
    order = coinbase_call(venue, "GET", f"orders/historical/{names[4]}")[1]["order"]
    assert (order["status"], order["pending_cancel"]) == ("CANCEL_QUEUED", True)
    core.step()
    assert coinbase_call(venue, "GET", f"orders/historical/{names[4]}")[1]["order"]["status"] == "CANCELLED"


# --- FIX, by a plain socket


class Desk:
    "A client that does what it is told and no more."

    def __init__(self, address, seq=1):
        self.line = socket.create_connection(address)
        self.line.settimeout(5)
        self.seq, self.buffer, self.waiting = seq, b"", []

    def send(self, type, *fields, seq=None, dup=False, sender="CLIENT", when=None):
        number = self.seq if seq is None else seq
        self.seq += seq is None
        stamp = fix.moment(time.time() if when is None else when)
        head = [(35, type), (34, number), (49, sender), (52, stamp), (56, "VENUE")]
        self.line.sendall(fix.encode(head + ([(43, "Y"), (122, stamp)] if dup else []) + list(fields)))

    def hear(self):
        "The next message as a dict, or None when the line is closed."
        while not self.waiting:
            chunk = self.line.recv(65536)
            if not chunk:
                return None
            messages, self.buffer = fix.split(self.buffer + chunk)
            self.waiting += messages
        message = self.waiting.pop(0)
        return message and dict(message.fields)

    def logon(self, *more, **how):
        self.send("A", (98, 0), (108, 30), *more, **how)
        return self.hear()

    def order(self, name, *more, **how):
        body = [(11, name), (55, "AAPL"), (54, 1), (60, fix.moment(time.time())), (38, 10)]
        self.send("D", *body, *(more or [(40, 1)]), **how)

    def cancel(self, name, original):
        self.send("F", (41, original), (11, name), (55, "AAPL"), (54, 1), (60, fix.moment(time.time())))


def picked(message, *tags):
    return tuple(message.get(str(tag)) for tag in tags)


@pytest.fixture
def desk():
    core = stocks()
    venue = fix.FixVenue(core)
    with venue.serve() as address:
        one = Desk(address)
        one.venue, one.core, one.address = venue, core, address
        yield one
        one.line.close()


def test_fix_messages_are_counted_and_summed():
    raw = fix.encode([(35, "0"), (34, 2), (49, "A"), (52, "20240102-00:00:00.000"), (56, "B")])
    body = raw.split(b"\x01", 2)[2].rsplit(b"10=", 1)[0]
    assert raw.startswith(b"8=FIX.4.4\x019=%d\x01" % len(body))
    assert raw.endswith(b"10=%03d\x01" % (sum(raw[: raw.rindex(b"10=")]) % 256))
    wrong = raw[:-4] + b"%03d\x01" % ((int(raw[-4:-1]) + 1) % 256)
    short = raw.replace(b"9=%d" % len(body), b"9=%d" % (len(body) - 1))
    messages, rest = fix.split(b"noise" + raw + wrong + raw + short + raw + raw[:20])
    assert [one is not None for one in messages] == [True, False, True, False, True] and rest == raw[:20]


def test_fix_an_order_from_the_queue_to_the_fill(desk):
    assert picked(desk.logon(), 35, 34, 98, 108) == ("A", "1", "0", "30")
    desk.core.plan("a", parts=["4"])
    desk.order("a")
    assert picked(desk.hear(), 35, 11, 150, 39, 151) == ("8", "a", "A", "A", "10")
    desk.core.open_session(DAY, {"AAPL": "101"})
    desk.core.step()
    reports = [desk.hear() for _ in range(3)]
    assert [picked(one, 150, 39, 14, 151) for one in reports] == [
        ("0", "0", "0", "10"), ("F", "1", "4", "6"), ("F", "2", "10", "0")]  # fmt: skip
    assert [one["17"] for one in reports[1:]] == [one["execution_id"] for one in desk.core.events("fill")]
    assert picked(reports[2], 31, 32, 6) == ("101", "6", "101.00000000")
    desk.order("a")
    assert picked(desk.hear(), 150, 39, 103, 37) == ("8", "8", "6", "NONE")
    desk.send("H", (11, "a"), (55, "AAPL"), (54, 1))
    assert picked(desk.hear(), 150, 17, 39) == ("I", "0", "2")
    desk.order("a", (40, 1), (97, "Y"))
    assert picked(desk.hear(), 150, 39) == ("I", "2")
    assert len(desk.core.events("accepted")) == 1


def test_fix_cancels(desk):
    desk.logon()
    desk.core.plan("race", cancel="filled_first")
    desk.core.plan("slow", cancel="late_fill", late="3")
    desk.core.open_session(DAY)
    for name in ("plain", "race", "slow"):
        desk.order(name, (40, 2), (44, "50"), (59, 1))
        assert picked(desk.hear(), 150, 11) == ("0", name)
    desk.cancel("c1", "plain")
    assert picked(desk.hear(), 35, 150, 39, 11, 41, 151) == ("8", "4", "4", "c1", "plain", "0")
    desk.cancel("c2", "plain")
    assert picked(desk.hear(), 35, 102, 39, 434) == ("9", "0", "4", "1")
    desk.cancel("c3", "nobody")
    assert picked(desk.hear(), 35, 102, 37) == ("9", "1", "NONE")
    desk.cancel("c4", "race")
    assert [picked(desk.hear(), 35, 150, 102, 39) for _ in range(2)] == [("8", "F", None, "2"), ("9", None, "0", "2")]
    desk.cancel("c5", "slow")
    assert picked(desk.hear(), 150, 39, 11) == ("6", "6", "c5")
    desk.cancel("c6", "slow")
    assert picked(desk.hear(), 35, 102) == ("9", "3")
    desk.core.step()
    assert [picked(desk.hear(), 150, 39, 14, 151) for _ in range(2)] == [("F", "6", "3", "7"), ("4", "4", "3", "0")]
    desk.cancel("c1", "slow")
    assert picked(desk.hear(), 35, 102) == ("9", "6")


def test_fix_refusals(desk):
    desk.logon()
    desk.core.plan("bad", reject="not today")
    desk.core.open_session(DAY)
    desk.order("rich", (40, 2), (44, "99999"))
    assert picked(desk.hear(), 150, 103) == ("8", "3")
    desk.send("D", (11, "sym"), (55, "NONE"), (54, 1), (60, "20240102-00:00:00"), (38, 1), (40, 1))
    assert picked(desk.hear(), 150, 103) == ("8", "1")
    desk.order("stop", (40, 3))
    assert picked(desk.hear(), 150, 103) == ("8", "11")
    desk.order("nolimit", (40, 2))
    assert picked(desk.hear(), 35, 380) == ("j", "5")
    desk.send("G", (11, "x"))
    assert picked(desk.hear(), 35, 372, 380) == ("j", "G", "3")
    desk.order("bad")
    assert picked(desk.hear(), 150) == ("0",)
    desk.core.step()
    assert picked(desk.hear(), 150, 39, 58) == ("8", "8", "not today")


def test_fix_the_session_rejects_what_is_malformed(desk):
    desk.logon()
    desk.send("D", (11, "x"), (55, "AAPL"))
    assert picked(desk.hear(), 35, 45, 371, 373) == ("3", "2", "54", "1")
    desk.send("0", (112, ""))
    assert picked(desk.hear(), 35, 371, 373) == ("3", "112", "4")
    desk.send("1", (112, "a"), (112, "b"))
    assert picked(desk.hear(), 35, 371, 373) == ("3", "112", "13")
    desk.send("*")
    assert picked(desk.hear(), 35, 373) == ("3", "11")
    desk.send("1", (112, "still there"))
    assert picked(desk.hear(), 35, 112) == ("0", "still there")
    desk.send("0", when=time.time() - 1000)
    assert picked(desk.hear(), 35, 373) == ("3", "10")
    assert picked(desk.hear(), 35) == ("5",) and desk.hear() is None


def test_fix_numbers_too_low_end_it_and_too_high_ask_again(desk):
    assert picked(desk.logon(seq=3), 35, 34) == ("A", "1")
    assert picked(desk.hear(), 35, 7, 16) == ("2", "1", "0")
    desk.send("4", (36, 4), (123, "Y"), seq=1, dup=True)
    desk.send("1", (112, "late"), seq=6)
    assert picked(desk.hear(), 35, 7, 16) == ("2", "4", "0")
    desk.order("once", seq=4, dup=True)
    assert picked(desk.hear(), 35, 11) == ("8", "once")
    desk.send("0", seq=5, dup=True)
    assert picked(desk.hear(), 35, 112) == ("0", "late")
    desk.order("once", seq=4, dup=True)  # seen before: passed over
    desk.send("1", (112, "x"), seq=7)
    assert picked(desk.hear(), 35, 112) == ("0", "x")
    desk.send("0", seq=5)
    assert picked(desk.hear(), 35, 58) == ("5", "MsgSeqNum too low, expecting 8 but received 5")
    assert desk.hear() is None and len(desk.core.events("accepted")) == 1


def test_fix_resends_reports_and_fills_the_gaps_between(desk):
    desk.logon()
    desk.order("a")
    first = desk.hear()
    for index in range(3):
        desk.send("1", (112, index))
        desk.hear()
    desk.send("2", (7, 1), (16, 0))
    again = [desk.hear() for _ in range(3)]
    assert [picked(one, 35, 34, 36, 43) for one in again] == [
        ("4", "1", "2", "Y"), ("8", "2", None, "Y"), ("4", "3", "6", "Y")]  # fmt: skip
    assert again[1]["17"] == first["17"] and again[1]["122"] == first["52"]
    desk.send("4", (36, 20), seq=99)
    desk.seq = 20
    desk.send("1", (112, "far"))
    assert picked(desk.hear(), 35, 112, 34) == ("0", "far", "6")


def test_fix_what_happened_while_nobody_was_there_comes_with_a_resend(desk):
    desk.logon()
    desk.venue.faults.script = ["drop_answer"]
    desk.order("a")
    assert desk.hear() is None
    desk.core.open_session(DAY, {"AAPL": "101"})
    back = Desk(desk.address, seq=desk.seq)
    welcome = back.logon()
    assert int(welcome["34"]) == 5  # 2 to 4 were missed
    back.send("2", (7, 2), (16, 4))
    assert [picked(back.hear(), 34, 150) for _ in range(3)] == [("2", "A"), ("3", "0"), ("4", "F")]
    back.send("5")
    assert picked(back.hear(), 35) == ("5",) and back.hear() is None
    fresh = Desk(desk.address)
    assert picked(fresh.logon((141, "Y")), 34, 141) == ("1", "Y")
    fresh.order("a")
    assert picked(fresh.hear(), 150, 103) == ("8", "6")  # the numbers are new, the orders are not
    fresh.line.close()


def test_fix_a_dropped_request_and_lost_or_garbled_answers(desk):
    desk.logon()
    desk.venue.faults.script = ["drop_request"]
    desk.order("a")
    assert desk.hear() is None and desk.core.log == []
    back = Desk(desk.address, seq=desk.seq)
    assert picked(back.logon(), 35) == ("A",)
    assert picked(back.hear(), 35, 7) == ("2", "2")
    back.order("a", seq=2, dup=True)
    assert picked(back.hear(), 35, 11) == ("8", "a")
    back.send("4", (36, 4), (123, "Y"), seq=3, dup=True)
    desk.venue.lose_next = 1
    back.order("b")
    desk.venue.garble_next = 1
    back.order("c")
    assert back.hear() is None  # garbled
    back.send("1", (112, "x"))
    assert picked(back.hear(), 35, 34) == ("0", "7")  # 5 was lost, 6 garbled
    back.line.close()


def test_fix_who_may_log_on(desk):
    for how in ({"sender": "NOBODY"}, {"when": time.time() - 1000}):
        one = Desk(desk.address)
        assert one.logon(**how) is None
    one = Desk(desk.address)
    one.send("0")
    assert one.hear() is None
    assert picked(desk.logon(), 35) == ("A",)
    assert Desk(desk.address).logon() is None  # the same identity twice
    with pytest.raises(ValueError, match="cannot have"):
        fix.FixVenue(stocks(), faults=FaultPlan(script=["delay"]))
    low = fix.FixVenue(stocks(), password="good")
    with low.serve() as address:
        assert picked(Desk(address).logon((554, "bad")), 35, 58) == ("5", "wrong password")
        assert picked(Desk(address, seq=2).logon((554, "good")), 35) == ("A",)


def test_fix_beats_and_asks_whether_somebody_is_there():
    with fix.FixVenue(stocks(), beat=0.05).serve() as address:
        desk = Desk(address)
        desk.send("A", (98, 0), (108, 1))
        assert picked(desk.hear(), 35, 108) == ("A", "1")
        heard = []
        while len(heard) < 50:
            message = desk.hear()
            heard.append(message and message["35"])
            if message is None:
                break
    assert heard[0] == "0" and "1" in heard and heard[-2:] == ["5", None]


# --- the server


def test_many_clients_at_once_see_each_order_once():
    core = stocks(cash="10000000")
    plan = FaultPlan(3, {"drop_answer": 0.2, "duplicate": 0.2, "drop_request": 0.1}, only="POST")
    with AlpacaVenue(core, faults=plan).serve() as url:

        def place(part):
            with client(url) as http:
                for index in range(10):
                    for _ in range(20):
                        try:
                            if posted(http, f"{part}-{index}").status_code in (200, 422):
                                break
                        except httpx.HTTPError:
                            continue

        threads = [threading.Thread(target=place, args=(part,)) for part in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    names = [one["client_order_id"] for one in core.events("accepted")]
    assert sorted(names) == sorted(f"{part}-{index}" for part in range(4) for index in range(10))
    assert plan.count("drop_answer") and plan.count("duplicate") and core.events("refused")
