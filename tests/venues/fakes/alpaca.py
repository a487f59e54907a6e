"""A stand-in of Alpaca's Trading API v2 (paper), over loopback.

From the documents (repository alpacahq/alpaca-docs, 2025-04):
- `oas/trading/openapi.yaml`, `data/webapi/endpoints/orders.yaml`: paths, parameters (status, limit 50 to 500, after and
  until exclusive, direction desc, nested, side, symbols), the fields of an answer, 403 for buying power or shares, 404
  for an unknown order, 422 for bad input and for a cancel of an order that is done, 204 for a cancel taken, 207 for
  "cancel all", `client_order_id` of at most 48 characters.
- `content/trading/orders.md`: life cycle and statuses, day, gtc, opg, cls, ioc and fok, orders of a closed market wait
  (`accepted`), the buying power of a market buy is checked with a price 2.5% (from 50 dollars) or 4% above the
  market's, open buys hold buying power, limit prices in cents (four decimals below one dollar) with error 42210000.
- `content/api-references/trading-api/account-activities.md`: paging by `page_token` and `page_size` (at most 100), ids
  "<time>::<uuid>", types and fields of what is no fill (date, net_amount, symbol; qty and per_share_amount of a
  dividend); `streaming.md`: authenticate, listen, the events, binary frames on paper.
From the changelog of docs.alpaca.markets, 2026-11-06: SPLIT and SPIN are the codes of today, SSP and SSO former ones
that are told and not taken as a filter.
From alpacahq/alpaca-py (models and enums; issue 260: an id stays used after its order was cancelled, "client_order_id
must be unique") the fields `order_status`, `status` (executed, correct, canceled) and `description` of an activity, the
two values of `category`, and the event `accepted`.
From error bodies quoted in public repositories, not from a document: the codes 40010001, 40310000, 40410000, 42210000
("order is already in \"filled\" state", "order pending cancel"), 42910000 and 40110000.
Not known from a document: that the `qty` of a split, a journal of shares or a crypto fee is the signed number that
came, and that `category` goes without types; the words for an unknown symbol, for missing fields and for opg during a
session; that the answer of a POST in a session says `pending_new`; that day orders end as `expired` (the text says
cancelled, the stream has `expired` for the end of an order's time in force)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from aiohttp import WSMsgType, web

from .core import NAMESPACE, ZERO, Core, Fill, Order, Refused, number
from .faults import FaultPlan
from .serving import Answer, HttpVenue, Request

NEW_YORK = ZoneInfo("America/New_York")
DONE = ("filled", "canceled", "expired", "replaced", "rejected")
EVENTS = {"accepted": "new", "new": "new", "canceled": "canceled", "expired": "expired", "rejected": "rejected",
          "replaced": "replaced", "pending_cancel": "pending_cancel"}  # fmt: skip


def plain(value: Decimal | None) -> str | None:
    """A number as Alpaca writes it: a string without exponent and without needless zeros."""
    if value is None:
        return None
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def stamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def asset_id(symbol: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"asset {symbol}"))


def collar(price: Decimal) -> Decimal:
    return Decimal("0.025") if price >= 50 else Decimal("0.04")


def order_json(order: Order) -> dict:
    return {
        "id": order.id, "client_order_id": order.client_id, "created_at": stamp(order.created),
        "updated_at": stamp(order.updated), "submitted_at": stamp(order.created),
        "filled_at": stamp(order.fills[-1].time) if order.status == "filled" and order.fills else None,
        "expired_at": stamp(order.expired), "canceled_at": stamp(order.canceled), "failed_at": stamp(order.failed),
        "replaced_at": stamp(order.replaced), "replaced_by": order.replaced_by, "replaces": order.replaces,
        "asset_id": asset_id(order.symbol), "symbol": order.symbol, "asset_class": "us_equity",
        "notional": plain(order.notional), "qty": plain(order.qty) if order.notional is None else None,
        "filled_qty": plain(order.filled), "filled_avg_price": plain(_round(order.average)), "order_class": "",
        "order_type": order.type, "type": order.type, "side": order.side, "time_in_force": order.tif,
        "limit_price": plain(order.limit), "stop_price": None, "status": order.status,
        "extended_hours": bool(order.extra.get("extended_hours", False)), "legs": None, "trail_percent": None,
        "trail_price": None, "hwm": None, "subtag": None, "source": None,
    }  # fmt: skip


def _round(value: Decimal | None) -> Decimal | None:
    return None if value is None else round(value, 9)


def fill_json(fill: Fill, order: Order) -> dict:
    return {
        "activity_type": "FILL", "id": activity_id(fill), "cum_qty": plain(fill.cumulative),
        "leaves_qty": plain(fill.leaves), "price": plain(fill.price), "qty": plain(fill.qty), "side": order.side,
        "symbol": order.symbol, "transaction_time": stamp(fill.time), "order_id": order.id,
        "type": "fill" if fill.leaves <= 0 else "partial_fill",
        "order_status": "filled" if fill.leaves <= 0 else "partially_filled",
    }  # fmt: skip


def activity_id(fill: Fill) -> str:
    return f"{fill.time:%Y%m%d%H%M%S}{fill.time.microsecond // 1000:03d}::{fill.execution_id}"


class AlpacaVenue(HttpVenue):
    """See the module's text. `core.log` tells what was done; the execution ids are the second half of an activity's
    id and the `execution_id` of a stream's message."""

    routes = (
        ("GET", "/v2/account", "account"),
        ("GET", "/v2/account/activities(/(?P<type>[A-Z]+))?", "activities"),
        ("POST", "/v2/orders", "submit"),
        ("GET", "/v2/orders", "list_orders"),
        ("DELETE", "/v2/orders", "cancel_all"),
        ("GET", "/v2/orders:by_client_order_id", "by_client_id"),
        ("GET", "/v2/orders/(?P<id>[^/]+)", "get_order"),
        ("PATCH", "/v2/orders/(?P<id>[^/]+)", "change"),
        ("DELETE", "/v2/orders/(?P<id>[^/]+)", "cancel"),
        ("GET", "/v2/positions", "positions"),
        ("GET", "/v2/positions/(?P<symbol>[^/]+)", "position"),
        ("GET", "/v2/clock", "market_clock"),
        ("GET", "/v2/calendar", "calendar"),
        ("GET", "/v2/assets", "assets"),
        ("GET", "/v2/assets/(?P<symbol>[^/]+)", "asset"),
    )

    def __init__(
        self,
        core: Core,
        faults: FaultPlan | None = None,
        key: str = "KEY",
        secret: str = "SECRET",
        holidays: Iterable[date] = (),
        collared: bool = True,
        multiplier: int = 1,
        binary: bool = True,
        client_id_limit: int = 48,
    ):
        super().__init__(core, faults)
        self.key, self.secret, self.holidays = key, secret, set(holidays)
        self.multiplier, self.binary, self.client_id_limit = multiplier, binary, client_id_limit
        core.cash_multiple = Decimal(multiplier)
        if collared:
            core.collar = collar
        self.streams: set[asyncio.Queue] = set()
        self.booked: list[dict] = []  # activities that are no fills
        self.booked_at = 0  # their hour of the day: no document says how `after` counts a date

    # --- errors

    def fail(self, status: int, code: int, message: str, **facts: object) -> Answer:
        return Answer({"code": code, "message": message} | facts, status)

    def not_found(self, request: Request) -> Answer:
        return self.fail(404, 40410000, "endpoint not found")

    def too_many(self, retry_after: float) -> Answer:
        answer = self.fail(429, 42910000, "rate limit exceeded")
        answer.headers = {"Retry-After": f"{retry_after:g}", "X-RateLimit-Remaining": "0"}
        return answer

    def broken(self, status: int) -> Answer:
        words = {500: "internal server error occurred", 503: "service unavailable"}
        return self.fail(status, status * 100000 + 10000, words.get(status, "error"))

    def refusal(self, why: Refused) -> Answer:
        facts = why.facts
        if why.reason == "duplicate":
            return self.fail(422, 40010001, "client_order_id must be unique")
        if why.reason == "cash":
            have, need = plain(facts.get("have", ZERO)), plain(facts.get("need", ZERO))
            return self.fail(403, 40310000, "insufficient buying power", buying_power=have, cost_basis=need)
        if why.reason == "holdings":
            need, have = plain(facts.get("need", ZERO)), plain(facts.get("have", ZERO))
            text = f"insufficient qty available for order (requested: {need}, available: {have})"
            return self.fail(403, 40310000, text, available=have, existing_qty=plain(facts.get("total", ZERO)),
                             held_for_orders=plain(facts.get("held", ZERO)), related_orders=[])  # fmt: skip
        if why.reason == "unknown":
            return self.fail(404, 40410000, why.text)
        if why.reason == "pending":
            return self.fail(422, 42210000, "order pending cancel")
        if why.reason == "done":
            return self.fail(422, 42210000, f'order is already in "{facts.get("status")}" state')
        return self.fail(422, 42210000, why.text)

    def before(self, request: Request, name: str) -> Answer | None:
        keys = request.header("apca-api-key-id"), request.header("apca-api-secret-key")
        return None if keys == (self.key, self.secret) else self.fail(401, 40110000, "request is not authorized")

    # --- orders

    def submit(self, request: Request) -> Answer:
        try:
            body = json.loads(request.body)
        except ValueError:
            return self.fail(400, 40010000, "request body format is invalid")
        wants = self._read(body)
        client_id = str(body.get("client_order_id") or "")
        order = self.core.submit(client_id=client_id, check=lambda: self._look(body, client_id), **wants)
        return Answer(order_json(self._as_taken(order)))

    def _read(self, body: dict) -> dict:
        fields = {name: _number(body, name) for name in ("qty", "notional", "limit_price")}
        extra = {"extended_hours": body.get("extended_hours", False)}
        return dict(
            symbol=str(body.get("symbol", "")), side=str(body.get("side", "")), qty=fields["qty"],
            type=str(body.get("type", "")), tif=str(body.get("time_in_force", "")), limit=fields["limit_price"],
            notional=fields["notional"], **extra,
        )  # fmt: skip

    def _look(self, body: dict, client_id: str) -> None:
        """What Alpaca checks before the order itself, under the core's lock."""
        self._look_at_words(body)
        self._look_at_numbers(body)
        self._look_at_id(client_id)
        if body.get("time_in_force") == "opg" and self.core.is_open:
            raise Refused("bad", "opg orders must be submitted after 7:00pm and before 9:28am")

    def _look_at_words(self, body: dict) -> None:
        if body.get("symbol") not in self.core.instruments:
            raise Refused("bad", f'asset "{body.get("symbol")}" not found')
        for name, allowed in (
            ("side", ("buy", "sell")),
            ("type", ("market", "limit")),
            ("time_in_force", ("day", "gtc", "opg", "cls", "ioc", "fok")),
        ):
            if body.get(name) not in allowed:
                raise Refused("bad", f"invalid {name}")
        if body.get("extended_hours") and (body["type"], body["time_in_force"]) != ("limit", "day"):
            raise Refused("bad", "extended hours order must be DAY limit orders")

    def _look_at_numbers(self, body: dict) -> None:
        qty, notional, limit = (_number(body, name) for name in ("qty", "notional", "limit_price"))
        if (qty is None) == (notional is None):
            raise Refused("bad", "qty or notional is required" if qty is None else "only one of qty or notional")
        if (qty if qty is not None else notional) <= 0:
            raise Refused("bad", "qty must be > 0" if qty is not None else "notional must be > 0")
        if body["type"] == "limit" and limit is None:
            raise Refused("bad", "limit orders require limit price")
        if body["type"] == "market" and limit is not None:
            raise Refused("bad", "market orders require no stop or limit price")
        self._look_at_price(limit)
        fraction = notional is not None or qty != qty.to_integral_value()
        if fraction and body["time_in_force"] != "day":
            raise Refused("bad", "fractional orders must be DAY orders")

    def _look_at_price(self, limit: Decimal | None) -> None:
        if limit is None:
            return
        step = Decimal("0.01") if limit >= 1 else Decimal("0.0001")
        if limit <= 0:
            raise Refused("bad", "limit price must be > 0")
        if limit % step:
            text = f"invalid limit_price {plain(limit)}. sub-penny increment does not fulfill minimum pricing criteria"
            raise Refused("bad", text)

    def _look_at_id(self, client_id: str) -> None:
        if len(client_id) > self.client_id_limit:
            raise Refused("bad", f"client_order_id must be no more than {self.client_id_limit} characters")
        if client_id and self.core.by_client_id(client_id):
            raise Refused("duplicate")

    def _as_taken(self, order: Order) -> Order:
        """The order as it was when it was taken: the answer to a POST does not know of the fills."""
        status = "pending_new" if self.core.is_open else "accepted"
        qty = None if order.notional is not None else order.qty
        return replace(order, status=status, filled=ZERO, value=ZERO, fills=[], qty=qty, canceled=None, expired=None,
                       updated=order.created)  # fmt: skip

    def list_orders(self, request: Request) -> Answer:
        query = request.query
        limit = int(query.get("limit") or 50)
        if not 0 < limit <= 500:
            return self.fail(422, 42210000, "limit must be between 1 and 500")
        status, symbols = query.get("status") or "open", query.get("symbols")
        chosen = [one for one in self.core.orders if self.visible(one) and _has_status(one, status)]
        if symbols:
            chosen = [one for one in chosen if one.symbol in symbols.split(",")]
        if query.get("side"):
            chosen = [one for one in chosen if one.side == query["side"]]
        chosen = _between(chosen, query, lambda one: one.created)
        if query.get("direction", "desc") == "desc":
            chosen.reverse()
        return Answer([order_json(one) for one in chosen[:limit]])

    def get_order(self, request: Request) -> Answer:
        return Answer(order_json(self._find(request.ids["id"])))

    def by_client_id(self, request: Request) -> Answer:
        name = request.query.get("client_order_id", "")
        found = [one for one in self.core.by_client_id(name) if self.visible(one, lookup=True)]
        if not found:
            return self.fail(404, 40410000, f"order not found for {name}")
        return Answer(order_json(found[0]))

    def _find(self, name: str) -> Order:
        try:
            uuid.UUID(name)
        except ValueError:
            raise Refused("bad", "order_id is not a valid uuid") from None
        found = [one for one in self.core.orders if one.id == name and self.visible(one, lookup=True)]
        if not found:
            raise Refused("unknown", f"order not found for {name}")
        return found[0]

    def change(self, request: Request) -> Answer:
        old, body = self._find(request.ids["id"]), request.json
        limit = _number(body, "limit_price")
        self._look_at_price(limit)
        new = {"qty": _number(body, "qty"), "limit": limit, "tif": body.get("time_in_force")}
        client_id = str(body.get("client_order_id") or "")
        given = {name: value for name, value in new.items() if value is not None}
        order = self.core.replace(old.id, client_id, lambda: self._look_at_id(client_id), **given)
        return Answer(order_json(self._as_taken(order)))

    def cancel(self, request: Request) -> Answer:
        self.core.cancel(self._find(request.ids["id"]).id)
        return Answer(None, 204)

    def cancel_all(self, request: Request) -> Answer:
        results = []
        for order in self.core.open_orders():
            try:
                results.append({"id": order.id, "status": 200, "body": order_json(self.core.cancel(order.id))})
            except Refused as why:
                results.append({"id": order.id, "status": 500, "body": self.refusal(why).body})
        return Answer(results, 207)

    # --- account, positions, activities

    def account(self, request: Request) -> Answer:
        with self.core.lock:
            return Answer(self._account())

    def _account(self) -> dict:
        core = self.core
        cash, equity = core.balances[core.currency], core.equity()
        values = [core.position(one) * core.mark(one) for one in core.instruments]
        long, short = sum((one for one in values if one > 0), ZERO), sum((one for one in values if one < 0), ZERO)
        power = plain(max(core.free(core.currency) * self.multiplier, ZERO))
        return {
            "id": asset_id("account"), "account_number": "PA0000000001", "status": "ACTIVE", "crypto_status": "ACTIVE",
            "currency": core.currency, "cash": plain(cash), "portfolio_value": plain(equity), "equity": plain(equity),
            "last_equity": plain(equity), "pattern_day_trader": False, "trade_suspended_by_user": False,
            "trading_blocked": False, "transfers_blocked": False, "account_blocked": False,
            "created_at": "2024-01-01T00:00:00Z", "shorting_enabled": core.shorting, "long_market_value": plain(long),
            "short_market_value": plain(short), "multiplier": str(self.multiplier), "buying_power": power,
            "daytrading_buying_power": "0", "regt_buying_power": power, "non_marginable_buying_power": power,
            "initial_margin": "0", "maintenance_margin": "0", "last_maintenance_margin": "0", "sma": "0",
            "daytrade_count": 0, "accrued_fees": "0", "pending_transfer_in": "0",
        }  # fmt: skip

    def positions(self, request: Request) -> Answer:
        with self.core.lock:
            held = [one for one in sorted(self.core.instruments) if self.core.position(one)]
            return Answer([self._position(one) for one in held])

    def position(self, request: Request) -> Answer:
        symbol = self._symbol(request.ids["symbol"])
        with self.core.lock:
            if not symbol or not self.core.position(symbol):
                return self.fail(404, 40410000, "position does not exist")
            return Answer(self._position(symbol))

    def _symbol(self, name: str) -> str | None:
        return next((one for one in self.core.instruments if name in (one, asset_id(one))), None)

    def _position(self, symbol: str) -> dict:
        core = self.core
        base = core.instruments[symbol].base
        qty, cost, price = core.position(symbol), core.costs[base], core.mark(symbol)
        last, value = core.last_close.get(symbol, price), qty * price
        gain, share = value - cost, (value - cost) / abs(cost) if cost else ZERO
        return {
            "asset_id": asset_id(symbol), "symbol": symbol, "exchange": "NASDAQ", "asset_class": "us_equity",
            "asset_marginable": True, "qty": plain(qty), "avg_entry_price": plain(_round(cost / qty)),
            "side": "long" if qty > 0 else "short", "market_value": plain(value), "cost_basis": plain(_round(cost)),
            "unrealized_pl": plain(_round(gain)), "unrealized_plpc": plain(_round(share)),
            "unrealized_intraday_pl": plain(_round(gain)), "unrealized_intraday_plpc": plain(_round(share)),
            "current_price": plain(price), "lastday_price": plain(last),
            "change_today": plain(_round(price / last - 1)) if last else "0",
            "qty_available": plain(qty - core.reserved(base) if qty > 0 else qty),
        }  # fmt: skip

    def book(self, type: str, day: date | str, net_amount: object = "0", symbol: str = "", qty: object = None,
             moves: object = "0", **more: object) -> dict:  # fmt: skip
        """Book what no order did: cash by its net amount, and shares by `moves`, which Alpaca may not tell."""
        core, number_of = self.core, len(self.booked)
        with core.lock:
            core.balances[core.currency] += number(net_amount)
            if number(moves):
                core.balances[core.instruments[symbol].base] += number(moves)
        day = date.fromisoformat(str(day))
        name = f"{day:%Y%m%d}000000000::{uuid.uuid5(NAMESPACE, f'activity {number_of}')}"
        row = {"activity_type": type, "id": name, "date": day.isoformat(), "net_amount": plain(number(net_amount)),
               "description": "", "status": "executed"}  # fmt: skip
        row |= {"symbol": symbol} if symbol else {}
        row |= {"qty": plain(number(qty))} if qty is not None else {}
        self.booked.append(row | more)
        return self.booked[-1]

    def activities(self, request: Request) -> Answer:
        query = request.query
        types = request.ids.get("type") or query.get("activity_types") or ""
        if types and query.get("category"):
            return self.fail(422, 42210000, "category cannot be used with activity_types")
        if unknown := [one for one in types.split(",") if one in ("SSO", "SSP")]:
            return self.fail(422, 42210000, f"invalid activity type: {unknown[0]}")
        size = int(query.get("page_size") or 100)
        if not 0 < size <= 100:
            return self.fail(422, 42210000, "page_size must be between 1 and 100")
        if query.get("date") and (query.get("after") or query.get("until")):
            return self.fail(422, 42210000, "date cannot be used with after or until")
        return Answer(self._activities(query, [one for one in types.split(",") if one], size))

    def _activities(self, query: dict, types: list[str], size: int) -> list[dict]:
        fills = [one for one in self.core.executions if self.visible(self.core.order(one.order_id))]
        rows = [(one.time, fill_json(one, self.core.order(one.order_id))) for one in fills]
        moment = lambda one: datetime.fromisoformat(one["date"]).replace(hour=self.booked_at, tzinfo=UTC)
        rows += [(moment(one), one) for one in self.booked]
        wanted = {"trade_activity": lambda one: one == "FILL", "non_trade_activity": lambda one: one != "FILL"}
        chosen = wanted.get(query.get("category"), lambda one: not types or one in types)
        rows = _between([one for one in rows if chosen(one[1]["activity_type"])], query, lambda one: one[0])
        if query.get("date"):
            on = lambda at, row: row.get("date") or at.astimezone(NEW_YORK).date().isoformat()
            rows = [one for one in rows if on(*one) == query["date"][:10]]
        rows.sort(key=lambda one: one[0])
        if query.get("direction", "desc") == "desc":
            rows.reverse()
        names = [one["id"] for _, one in rows]
        token = query.get("page_token")
        start = names.index(token) + 1 if token in names else 0
        return [one for _, one in rows[start : start + size]]

    # --- clock, calendar, assets

    def _is_day(self, day: date) -> bool:
        return day.weekday() < 5 and day not in self.holidays

    def _next_day(self, day: date) -> date:
        day += timedelta(days=1)
        while not self._is_day(day):
            day += timedelta(days=1)
        return day

    def market_clock(self, request: Request) -> Answer:
        core = self.core
        now = core.clock()
        today = core.session or now.astimezone(NEW_YORK).date()
        waits = core.session is None and self._is_day(today) and now.astimezone(NEW_YORK).time() < time(9, 30)
        opens = today if waits else self._next_day(today)
        closes = today if core.is_open else opens
        return Answer({
            "timestamp": now.astimezone(NEW_YORK).isoformat(), "is_open": core.is_open,
            "next_open": datetime.combine(opens, time(9, 30), NEW_YORK).isoformat(),
            "next_close": datetime.combine(closes, time(16), NEW_YORK).isoformat(),
        })  # fmt: skip

    def calendar(self, request: Request) -> Answer:
        query, today = request.query, self.core.session or self.core.clock().astimezone(NEW_YORK).date()
        day = date.fromisoformat(query["start"][:10]) if query.get("start") else today
        end = date.fromisoformat(query["end"][:10]) if query.get("end") else day + timedelta(days=30)
        days = []
        while day <= end:
            if self._is_day(day):
                days.append({"date": day.isoformat(), "open": "09:30", "close": "16:00", "session_open": "0400",
                             "session_close": "2000", "settlement_date": self._next_day(day).isoformat()})  # fmt: skip
            day += timedelta(days=1)
        return Answer(days)

    def assets(self, request: Request) -> Answer:
        return Answer([self._asset(one) for one in sorted(self.core.instruments)])

    def asset(self, request: Request) -> Answer:
        symbol = self._symbol(request.ids["symbol"])
        if not symbol:
            return self.fail(404, 40410000, f"asset not found for {request.ids['symbol']}")
        return Answer(self._asset(symbol))

    def _asset(self, symbol: str) -> dict:
        return {
            "id": asset_id(symbol), "class": "us_equity", "exchange": "NASDAQ", "symbol": symbol, "name": symbol,
            "status": "active", "tradable": symbol not in self.core.halted, "marginable": True,
            "shortable": self.core.shorting, "easy_to_borrow": self.core.shorting, "fractionable": True,
            "maintenance_margin_requirement": 30, "attributes": [],
        }  # fmt: skip

    # --- the stream of trade updates

    def extra_routes(self, app: web.Application) -> None:
        app.router.add_get("/stream", self._stream)
        stop = self.core.subscribe(lambda line, order: self.threads.call(self._spread, self._update(line, order)))

        async def end(_app: web.Application) -> None:
            stop()
            self.drop_streams()

        app.on_shutdown.append(end)

    def drop_streams(self) -> None:
        """Close every stream, as a venue does when it restarts; what happens until a client comes back is not sent."""
        for queue in list(self.streams):
            self.threads.call(queue.put_nowait, None)

    def _spread(self, update: dict | None) -> None:
        for queue in self.streams if update else ():
            queue.put_nowait(update)

    def _update(self, line: dict, order: Order) -> dict | None:
        event = EVENTS.get(line["event"])
        data = {"event": event, "order": order_json(order), "timestamp": stamp(line["time"])}
        if line["event"] == "accepted" and order.status == "accepted":
            data["event"] = "accepted"
        if line["event"] == "fill":
            data["event"] = "partial_fill" if order.left > 0 else "fill"
            data["timestamp"] = stamp(order.fills[-1].time)
            data |= {"price": plain(line["price"]), "qty": plain(line["fill_qty"]),
                     "position_qty": plain(self.core.position(order.symbol))}  # fmt: skip
        if not data["event"]:
            return None
        data["execution_id"] = line.get("execution_id") or str(uuid.uuid5(NAMESPACE, f"event {line['n']}"))
        return {"stream": "trade_updates", "data": data}

    async def _stream(self, raw: web.Request) -> web.WebSocketResponse:
        socket, queue, state = web.WebSocketResponse(), asyncio.Queue(), {"known": False, "streams": []}
        await socket.prepare(raw)
        sender = asyncio.ensure_future(self._send_updates(socket, queue))
        self.streams.add(queue)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    queue.put_nowait(self._hear(json.loads(message.data), state, queue))
        finally:
            self.streams.discard(queue)
            sender.cancel()
        return socket

    def _hear(self, message: dict, state: dict, queue: asyncio.Queue) -> dict:
        action, data = message.get("action"), message.get("data") or {}
        if action in ("authenticate", "auth"):
            given = data or message
            keys = given.get("key_id", given.get("key")), given.get("secret_key", given.get("secret"))
            state["known"] = keys == (self.key, self.secret)
        if not state["known"] or action in ("authenticate", "auth"):
            status = "authorized" if state["known"] else "unauthorized"
            return {"stream": "authorization", "data": {"status": status, "action": action}}
        state["streams"] = [one for one in data.get("streams", []) if one == "trade_updates"]
        queue.listening = bool(state["streams"])
        return {"stream": "listening", "data": {"streams": state["streams"]}}

    async def _send_updates(self, socket: web.WebSocketResponse, queue: asyncio.Queue) -> None:
        while True:
            message = await queue.get()
            if message is None:
                await socket.close()
                return
            if message["stream"] == "trade_updates" and not getattr(queue, "listening", False):
                continue
            text = json.dumps(message)
            await (socket.send_bytes(text.encode()) if self.binary else socket.send_str(text))


def _number(body: dict, name: str) -> Decimal | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        return number(value)
    except InvalidOperation:
        raise Refused("bad", f"invalid {name}") from None


def _has_status(order: Order, status: str) -> bool:
    return {"open": order.open, "closed": order.status in DONE}.get(status, True)


def _between(items: list, query: dict, when) -> list:
    after, until = (_moment(query.get(name)) for name in ("after", "until"))
    kept = [one for one in items if not after or when(one) > after]
    return [one for one in kept if not until or when(one) < until]


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
