"""A stand-in of Binance's spot REST API (/api/v3), over loopback.

From the documents (repository binance/binance-spot-api-docs, 2026-07):
- `rest-api.md`: the paths and the fields of their answers; SIGNED requests (HMAC-SHA-256 of query string and body, in
  any letter case; `timestamp < server + 1 s` and `server - timestamp <= recvWindow`, 5000 by default, 60000 at most);
  `newClientOrderId` "a unique id among open orders": a used id is refused while its order is open and taken again when
  the first is filled; `orderId` is looked up first and `origClientOrderId` is checked against it; lists in
  chronological order, 500 by default and 1000 at most, at most 24 hours between `startTime` and `endTime`; 429 with
  `Retry-After`, 418 for who goes on after it, `X-MBX-USED-WEIGHT-1M`; 5XX: "the execution status is UNKNOWN".
- `errors.md`: the codes and their words; "Duplicate order sent.", "Unknown order sent.", "Market is closed.",
  "Account has insufficient balance for requested action.", "Filter failure: ...".
- `filters.md`: PRICE_FILTER, LOT_SIZE, NOTIONAL. `enums.md`: statuses (`PENDING_CANCEL` is unused), a market, IOC or
  FOK order that does not fill ends as `EXPIRED`.
Not known from a document: whether the id of a cancelled order is free again (the text names only filled ones in its
second sentence and "open orders" in its first; here it is free), HTTP 401 for -2014 and -2015, -1003 as the body of a
planned 429, and the number of 429s until a 418 (`ban_after`).

The venue's order and trade times come from the core's clock, the times of requests from `timing` (the wall clock,
since clients sign with theirs): give the core `wall_clock` when a client asks for orders since a time of its own."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from .core import ZERO, Core, Fill, Instrument, Order, Refused, number
from .faults import FaultPlan
from .serving import Answer, HttpVenue, Request

STATUS = {"accepted": "NEW", "new": "NEW", "partially_filled": "PARTIALLY_FILLED", "filled": "FILLED",
          "canceled": "CANCELED", "expired": "EXPIRED", "rejected": "REJECTED", "replaced": "CANCELED"}  # fmt: skip
WEIGHTS = {"exchange_info": 20, "ticker": 2, "account": 20, "get_order": 4, "open_orders": 6, "all_orders": 20,
           "my_trades": 20}  # fmt: skip
OPEN_TO_ALL = ("ping", "server_time", "exchange_info", "price", "ticker", "book_ticker", "nothing")
ID_FORM = "^[a-zA-Z0-9-_]{1,36}$"
DAY = 24 * 3600 * 1000


class Rejected(Refused):
    """A refusal with Binance's code."""

    def __init__(self, code: int, text: str, status: int = 400):
        super().__init__(f"binance {code}", text)
        self.code, self.status = code, status


def spot(base: str, quote: str = "USDT", **steps: object) -> Instrument:
    """A spot symbol with the usual steps: `spot("BTC")` is BTCUSDT."""
    given = {"price_step": "0.01", "qty_step": "0.00001", "min_qty": "0.00001", "min_notional": "5"} | steps
    return Instrument(base + quote, base, quote, **{name: number(value) for name, value in given.items()})


def eight(value: Decimal | None) -> str:
    return f"{value or ZERO:.8f}"


def millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class BinanceVenue(HttpVenue):
    """See the module's text. `weight_limit` (a minute) and `ban_after` are off (None) unless given."""

    routes = (
        ("GET", "/api/v3/ping", "ping"),
        ("GET", "/api/v3/time", "server_time"),
        ("GET", "/api/v3/exchangeInfo", "exchange_info"),
        ("GET", "/api/v3/ticker/price", "price"),
        ("GET", "/api/v3/ticker/24hr", "ticker"),
        ("GET", "/api/v3/ticker/bookTicker", "book_ticker"),
        ("POST", "/api/v3/order", "submit"),
        ("POST", "/api/v3/order/test", "submit_test"),
        ("GET", "/api/v3/order", "get_order"),
        ("DELETE", "/api/v3/order", "cancel"),
        ("GET", "/api/v3/openOrders", "open_orders"),
        ("DELETE", "/api/v3/openOrders", "cancel_all"),
        ("GET", "/api/v3/allOrders", "all_orders"),
        ("GET", "/api/v3/myTrades", "my_trades"),
        ("GET", "/api/v3/account", "account"),
        # what a client asks of the other APIs when it loads the markets: there is nothing
        ("GET", "/(fapi|dapi)/v1/exchangeInfo", "nothing"),
        ("GET", "/sapi/v1/(capital/config/getall|margin/allPairs|margin/isolated/allPairs)", "nothing"),
    )

    def __init__(
        self,
        core: Core,
        faults: FaultPlan | None = None,
        key: str = "KEY",
        secret: str = "SECRET",
        timing: Callable[[], float] = time.time,
        weight_limit: int | None = None,
        ban_after: int | None = None,
    ):
        super().__init__(core, faults)
        self.key, self.secret, self.timing = key, secret, timing
        self.weight_limit, self.ban_after = weight_limit, ban_after
        core.unfilled_end = "expired"
        self._minute, self._used = 0, 0
        self._wait_until, self._ignored, self._banned_until = 0.0, 0, 0.0

    # --- errors and limits

    def fail(self, status: int, code: int, text: str) -> Answer:
        return Answer({"code": code, "msg": text}, status)

    def not_found(self, request: Request) -> Answer:
        return Answer("<html><body><h2>404 Not found</h2></body></html>", 404)

    def too_many(self, retry_after: float) -> Answer:
        self._wait_until = self.timing() + retry_after
        answer = self.fail(429, -1003, "Too many requests queued.")
        answer.headers = {"Retry-After": f"{retry_after:g}"}
        return answer

    def broken(self, status: int) -> Answer:
        if status == 503:
            return self.fail(503, -1007, "Timeout waiting for response from backend server. Send status unknown; "
                                         "execution status unknown.")  # fmt: skip
        return self.fail(status, -1001, "Internal error; unable to process your request. Please try again.")

    def refusal(self, why: Refused) -> Answer:
        if isinstance(why, Rejected):
            return self.fail(why.status, why.code, why.text)
        words = {
            "cash": (-2010, "Account has insufficient balance for requested action."),
            "holdings": (-2010, "Account has insufficient balance for requested action."),
            "symbol": (-1121, "Invalid symbol."),
            "done": (-2011, "Unknown order sent."),
            "pending": (-2011, "Unknown order sent."),
        }
        return self.fail(400, *words.get(why.reason, (-2010, why.text)))

    def before(self, request: Request, name: str) -> Answer | None:
        return self._limit(name) or (None if name in OPEN_TO_ALL else self._signed(request))

    def _limit(self, name: str) -> Answer | None:
        now = self.timing()
        if now < self._banned_until:
            return self._ban(now)
        if now < self._wait_until and self.ban_after is not None:
            self._ignored += 1
            if self._ignored >= self.ban_after:
                self._banned_until = now + 120
                return self._ban(now)
        return self._weigh(name, now) if self.weight_limit is not None else None

    def _weigh(self, name: str, now: float) -> Answer | None:
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        self._used += WEIGHTS.get(name, 1)
        if self._used <= self.weight_limit:
            return None
        answer = self.too_many(math.ceil(60 - now % 60))
        answer.body["msg"] = (
            f"Too much request weight used; current limit is {self.weight_limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return answer

    def _ban(self, now: float) -> Answer:
        text = (
            f"Way too much request weight used; IP banned until {int(self._banned_until * 1000)}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        answer = self.fail(418, -1003, text)
        answer.headers = {"Retry-After": f"{self._banned_until - now:.0f}"}
        return answer

    def handle(self, request: Request) -> Answer:
        answer = super().handle(request)
        answer.headers = {"X-MBX-USED-WEIGHT-1M": str(self._used)} | answer.headers
        return answer

    def _signed(self, request: Request) -> Answer | None:
        key = request.header("x-mbx-apikey")
        if not key:
            return self.fail(401, -2014, "API-key format invalid.")
        if key != self.key:
            return self.fail(401, -2015, "Invalid API-key, IP, or permissions for action.")
        given = self.params(request)
        self._need(given, "timestamp")
        self._need(given, "signature")
        self._on_time(given)
        payload = _unsigned(request.query_string) + _unsigned(request.body.decode())
        expected = hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, given["signature"].lower()):
            return self.fail(400, -1022, "Signature for this request is not valid.")
        return None

    def _on_time(self, given: dict) -> None:
        stamp, window = _decimal(given, "timestamp"), _decimal(given, "recvWindow", "5000")
        if window > 60000:
            raise Rejected(-1131, "'recvWindow' must be less than 60000.")
        if stamp > 10**14:
            stamp /= 1000
        now = number(self.timing() * 1000)
        if stamp >= now + 1000:
            raise Rejected(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - stamp > window:
            raise Rejected(-1021, "Timestamp for this request is outside of the recvWindow.")

    def params(self, request: Request) -> dict[str, str]:
        """The parameters of query string and body; the query string's win."""
        body = request.body.decode() if request.method != "GET" else ""
        return dict(parse_qsl(body, keep_blank_values=True)) | request.query

    def _need(self, given: dict, name: str) -> str:
        if not given.get(name):
            raise Rejected(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return given[name]

    def _symbol(self, given: dict) -> str:
        symbol = self._need(given, "symbol")
        if symbol not in self.core.instruments:
            raise Rejected(-1121, "Invalid symbol.")
        return symbol

    # --- orders

    def submit(self, request: Request) -> Answer:
        given = self.params(request)
        order = self.core.submit(**self._wanted(given))
        kind = given.get("newOrderRespType", "FULL")
        return Answer(self._ack(order) | ({} if kind == "ACK" else self._result(order, kind == "FULL")))

    def submit_test(self, request: Request) -> Answer:
        self._wanted(self.params(request))["check"]()
        return Answer({})

    def _wanted(self, given: dict) -> dict:
        symbol, side, type = self._symbol(given), self._need(given, "side"), self._need(given, "type")
        if side not in ("BUY", "SELL"):
            raise Rejected(-1117, "Invalid side.")
        if type not in ("MARKET", "LIMIT", "LIMIT_MAKER"):
            raise Rejected(-1116, "Invalid orderType.")
        tif = self._time_in_force(given, type)
        qty, quote = (_decimal(given, name) for name in ("quantity", "quoteOrderQty"))
        if qty is None and (type != "MARKET" or quote is None):
            self._need(given, "quantity")
        limit = number(self._need(given, "price")) if type != "MARKET" else None
        client_id = given.get("newClientOrderId", "")
        if client_id and not re.match(ID_FORM, client_id):
            raise Rejected(-1100, "Illegal characters found in parameter 'newClientOrderId'; "
                                  f"legal range is '{ID_FORM}'.")  # fmt: skip
        return dict(
            symbol=symbol, side=side.lower(), qty=qty, notional=quote if qty is None else None, limit=limit,
            type="market" if type == "MARKET" else "limit", tif=tif, client_id=client_id, shown_type=type,
            check=lambda: self._look(symbol, side, type, qty, limit, client_id),
        )  # fmt: skip

    def _time_in_force(self, given: dict, type: str) -> str:
        if type != "LIMIT":
            return "ioc" if type == "MARKET" else "gtc"
        tif = self._need(given, "timeInForce")
        if tif not in ("GTC", "IOC", "FOK"):
            raise Rejected(-1115, "Invalid timeInForce.")
        return tif.lower()

    def _look(self, symbol, side, type, qty, limit, client_id) -> None:
        """What Binance checks of an order, under the core's lock: filters, the market's state, the id."""
        self._filters(self.core.instruments[symbol], qty, limit, self.core.mark(symbol))
        if symbol in self.core.halted or not self.core.is_open:
            raise Rejected(-2010, "Market is closed.")
        if client_id and any(one.open for one in self.core.by_client_id(client_id)):
            duplicate = Rejected(-2010, "Duplicate order sent.")
            duplicate.reason = "duplicate"
            raise duplicate
        price = self.core.prices.get(symbol)
        if type == "LIMIT_MAKER" and price is not None and (limit - price) * (1 if side == "BUY" else -1) >= 0:
            raise Rejected(-2010, "Order would immediately match and take.")

    def _filters(self, one: Instrument, qty: Decimal | None, limit: Decimal | None, mark: Decimal) -> None:
        if limit is not None and (limit <= 0 or limit % one.price_step):
            raise Rejected(-1013, "Filter failure: PRICE_FILTER")
        if qty is None:
            return
        if qty < one.min_qty or qty > one.max_qty or qty % one.qty_step:
            raise Rejected(-1013, "Filter failure: LOT_SIZE")
        price = mark if limit is None else limit
        if price and price * qty < one.min_notional:
            raise Rejected(-1013, "Filter failure: NOTIONAL")

    def _find(self, given: dict, lookup: bool = True) -> Order | None:
        symbol, name, client_id = self._symbol(given), given.get("orderId"), given.get("origClientOrderId")
        if not name and not client_id:
            raise Rejected(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        found = [one for one in self.core.orders if one.symbol == symbol and not (lookup and self._hidden(one))]
        if name:
            found = [one for one in found if str(one.number) == name]
        if client_id:
            found = [one for one in found if one.client_id == client_id]
        return found[-1] if found else None

    def _hidden(self, order: Order) -> bool:
        return not self.visible(order, lookup=True)

    def get_order(self, request: Request) -> Answer:
        order = self._find(self.params(request))
        if order is None:
            raise Rejected(-2013, "Order does not exist.")
        return Answer(self._order(order))

    def cancel(self, request: Request) -> Answer:
        given = self.params(request)
        order = self._find(given, lookup=False)
        if order is None:
            raise Rejected(-2011, "Unknown order sent.")
        self._restrictions(given.get("cancelRestrictions"), order)
        self.core.cancel(order.id)
        return Answer(self._canceled(order, given.get("newClientOrderId")))

    def _restrictions(self, rule: str | None, order: Order) -> None:
        if rule not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
            raise Rejected(-1145, "Invalid cancelRestrictions")
        if rule and "ONLY_" + self._status(order) != rule:
            raise Rejected(-2011, "Order was not canceled due to cancel restrictions.")

    def cancel_all(self, request: Request) -> Answer:
        symbol = self._symbol(self.params(request))
        orders = [one for one in self.core.open_orders() if one.symbol == symbol]
        if not orders:
            raise Rejected(-2011, "Unknown order sent.")
        return Answer([self._canceled(self.core.cancel(one.id), None) for one in orders])

    def open_orders(self, request: Request) -> Answer:
        given = self.params(request)
        symbol = self._symbol(given) if given.get("symbol") else None
        chosen = [one for one in self.core.open_orders() if symbol in (None, one.symbol) and self.visible(one)]
        return Answer([self._order(one) for one in chosen])

    def all_orders(self, request: Request) -> Answer:
        given = self.params(request)
        symbol = self._symbol(given)
        chosen = [one for one in self.core.orders if one.symbol == symbol and self.visible(one)]
        if given.get("orderId"):
            first = int(given["orderId"])
            chosen = [one for one in chosen if one.number >= first]
            return Answer([self._order(one) for one in chosen[: _limit(given)]])
        return Answer([self._order(one) for one in _window(chosen, given, lambda one: one.created)])

    def my_trades(self, request: Request) -> Answer:
        given = self.params(request)
        symbol = self._symbol(given)
        pairs = [(one, self.core.order(one.order_id)) for one in self.core.executions]
        pairs = [pair for pair in pairs if pair[1].symbol == symbol and self.visible(pair[1])]
        if given.get("orderId"):
            pairs = [pair for pair in pairs if str(pair[1].number) == given["orderId"]]
        if given.get("fromId"):
            first = int(given["fromId"])
            pairs = [pair for pair in pairs if pair[0].number >= first][: _limit(given)]
        else:
            pairs = _window(pairs, given, lambda pair: pair[0].time)
        return Answer([self._trade(*pair) for pair in pairs])

    # --- the forms of the answers

    def _status(self, order: Order) -> str:
        if order.status == "pending_cancel":
            return "PARTIALLY_FILLED" if order.filled else "NEW"
        return STATUS[order.status]

    def _ack(self, order: Order) -> dict:
        return {"symbol": order.symbol, "orderId": order.number, "orderListId": -1, "clientOrderId": order.client_id,
                "transactTime": millis(order.updated)}  # fmt: skip

    def _result(self, order: Order, full: bool) -> dict:
        result = self._body(order) | {"workingTime": millis(order.created)}
        if full:
            result["fills"] = [
                {"price": eight(one.price), "qty": eight(one.qty), "commission": eight(one.fee),
                 "commissionAsset": one.fee_asset, "tradeId": one.number}
                for one in order.fills
            ]  # fmt: skip
        return result

    def _body(self, order: Order) -> dict:
        type = order.extra.get("shown_type", order.type.upper())
        return {
            "price": eight(order.limit), "origQty": eight(order.qty), "executedQty": eight(order.filled),
            "origQuoteOrderQty": eight(order.notional), "cummulativeQuoteQty": eight(order.value),
            "status": self._status(order), "timeInForce": "GTC" if type == "MARKET" else order.tif.upper(),
            "type": type, "side": order.side.upper(), "selfTradePreventionMode": "NONE",
        }  # fmt: skip

    def _canceled(self, order: Order, client_id: str | None) -> dict:
        name = client_id or f"cancel{order.number}"
        return self._ack(order) | {"origClientOrderId": order.client_id, "clientOrderId": name} | self._body(order)

    def _order(self, order: Order) -> dict:
        times = {"time": millis(order.created), "updateTime": millis(order.updated), "isWorking": True,
                 "workingTime": millis(order.created), "stopPrice": eight(ZERO), "icebergQty": eight(ZERO)}  # fmt: skip
        ids = {name: value for name, value in self._ack(order).items() if name != "transactTime"}
        return ids | self._body(order) | times

    def _trade(self, fill: Fill, order: Order) -> dict:
        return {
            "symbol": order.symbol, "id": fill.number, "orderId": order.number, "orderListId": -1,
            "price": eight(fill.price), "qty": eight(fill.qty), "quoteQty": eight(fill.qty * fill.price),
            "commission": eight(fill.fee), "commissionAsset": fill.fee_asset, "time": millis(fill.time),
            "isBuyer": order.side == "buy", "isMaker": order.type == "limit" and order.tif == "gtc",
            "isBestMatch": True,
        }  # fmt: skip

    # --- account and market

    def account(self, request: Request) -> Answer:
        core = self.core
        with core.lock:
            assets = sorted({core.currency, *core.balances, *(one.base for one in core.instruments.values())})
            balances = [{"asset": one, "free": eight(core.free(one)), "locked": eight(core.reserved(one))}
                        for one in assets]  # fmt: skip
        if self.params(request).get("omitZeroBalances") == "true":
            balances = [one for one in balances if number(one["free"]) or number(one["locked"])]
        rate = eight(core.fee_rate)
        rates = {"maker": rate, "taker": rate, "buyer": eight(ZERO), "seller": eight(ZERO)}
        return Answer({
            "makerCommission": int(core.fee_rate * 10000), "takerCommission": int(core.fee_rate * 10000),
            "buyerCommission": 0, "sellerCommission": 0, "commissionRates": rates, "canTrade": True,
            "canWithdraw": True, "canDeposit": True, "brokered": False, "requireSelfTradePrevention": False,
            "preventSor": False, "updateTime": millis(core.clock()), "accountType": "SPOT", "balances": balances,
            "permissions": ["SPOT"], "uid": 354937868,
        })  # fmt: skip

    def ping(self, request: Request) -> Answer:
        return Answer({})

    def nothing(self, request: Request) -> Answer:
        return Answer({"symbols": []} if "exchangeInfo" in request.path else [])

    def server_time(self, request: Request) -> Answer:
        return Answer({"serverTime": int(self.timing() * 1000)})

    def exchange_info(self, request: Request) -> Answer:
        given = self.params(request)
        symbols = [self._symbol(given)] if given.get("symbol") else sorted(self.core.instruments)
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                  {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100}]  # fmt: skip
        return Answer({
            "timezone": "UTC", "serverTime": int(self.timing() * 1000), "rateLimits": limits, "exchangeFilters": [],
            "symbols": [self._info(self.core.instruments[one]) for one in symbols],
        })  # fmt: skip

    def _info(self, one: Instrument) -> dict:
        filters = [
            {"filterType": "PRICE_FILTER", "minPrice": eight(one.price_step), "maxPrice": "1000000.00000000",
             "tickSize": eight(one.price_step)},
            {"filterType": "LOT_SIZE", "minQty": eight(one.min_qty), "maxQty": eight(one.max_qty),
             "stepSize": eight(one.qty_step)},
            {"filterType": "NOTIONAL", "minNotional": eight(one.min_notional), "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
        ]  # fmt: skip
        return {
            "symbol": one.symbol, "status": "HALT" if one.symbol in self.core.halted else "TRADING",
            "baseAsset": one.base, "baseAssetPrecision": 8, "quoteAsset": one.quote, "quotePrecision": 8,
            "quoteAssetPrecision": 8, "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "icebergAllowed": False, "ocoAllowed": False,
            "otoAllowed": False, "opoAllowed": False, "quoteOrderQtyMarketAllowed": True, "allowTrailingStop": False,
            "cancelReplaceAllowed": False, "amendAllowed": False, "pegInstructionsAllowed": False,
            "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "filters": filters, "permissions": [],
            "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "NONE",
            "allowedSelfTradePreventionModes": ["NONE"],
        }  # fmt: skip

    def price(self, request: Request) -> Answer:
        return self._each(request, lambda one: {"symbol": one, "price": eight(self.core.mark(one))})

    def book_ticker(self, request: Request) -> Answer:
        return self._each(request, self._book)

    def ticker(self, request: Request) -> Answer:
        return self._each(request, self._ticker)

    def _each(self, request: Request, form: Callable[[str], dict]) -> Answer:
        given = self.params(request)
        if given.get("symbol"):
            return Answer(form(self._symbol(given)))
        return Answer([form(one) for one in sorted(self.core.prices)])

    def _book(self, symbol: str) -> dict:
        price = eight(self.core.mark(symbol))
        return {"symbol": symbol, "bidPrice": price, "bidQty": "1000.00000000", "askPrice": price,
                "askQty": "1000.00000000"}  # fmt: skip

    def _ticker(self, symbol: str) -> dict:
        price, now = eight(self.core.mark(symbol)), int(self.timing() * 1000)
        same = ("weightedAvgPrice", "prevClosePrice", "lastPrice", "openPrice", "highPrice", "lowPrice")
        zeros = {"priceChange": eight(ZERO), "priceChangePercent": "0.000", "lastQty": eight(ZERO),
                 "volume": eight(ZERO), "quoteVolume": eight(ZERO)}  # fmt: skip
        times = {"openTime": now - DAY, "closeTime": now, "firstId": -1, "lastId": -1, "count": 0}
        return self._book(symbol) | dict.fromkeys(same, price) | zeros | times


def _unsigned(text: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith("signature=")) if text else ""


def _decimal(given: dict, name: str, default: str | None = None) -> Decimal | None:
    value = given.get(name) or default
    try:
        return number(value) if value is not None else None
    except InvalidOperation:
        raise Rejected(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.") from None


def _limit(given: dict) -> int:
    return min(int(given.get("limit") or 500), 1000)


def _window(items: list, given: dict, when: Callable) -> list:
    """Oldest from `startTime`, else the most recent up to `endTime`."""
    start, end = (int(given[name]) if given.get(name) else None for name in ("startTime", "endTime"))
    if start is not None and end is not None and end - start > DAY:
        raise Rejected(-1127, "More than 24 hours between startTime and endTime.")
    kept = [one for one in items if (start is None or millis(when(one)) >= start)
            and (end is None or millis(when(one)) <= end)]  # fmt: skip
    return kept[: _limit(given)] if start is not None else kept[-_limit(given) :]
