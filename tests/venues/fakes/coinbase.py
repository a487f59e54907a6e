"""A stand-in of Coinbase's Advanced Trade REST API (/api/v3/brokerage), over loopback.

From Coinbase's reference of "Create Order" as it is quoted in generated clients: `client_order_id` "if the ID provided
is not unique, the order fails to be created and the order corresponding to that ID is returned"; the other venues
refuse, this one answers as if it had worked.
From coinbase/coinbase-advanced-py (2026-06, `coinbase/rest/types/orders_types.py`): the fields of answers
(`success_response`, `error_response`, `results` of a cancel, `has_next`, `cursor`, order configurations).
From ccxt (its static fixtures of coinbase, responses of fetchClosedOrders and fetchMyTrades; the comments of its
client): every field of an order, a fill, an account, a product and a transaction summary; the legacy key
(CB-ACCESS-SIGN over time, method, path and body) and the JWT (ES256, `sub`, `nbf`, `exp`, `uri`).
Not known from a document: the failure reasons of a cancel of an order that is done (`ORDER_IS_FULLY_FILLED`,
`INVALID_CANCEL_REQUEST`), the status shown while a cancel waits (`CANCEL_QUEUED`), the bodies of 401, 429 and 5xx,
`UNKNOWN_FAILURE_REASON` with a preview reason for a wrong size or price, HTTP 200 for a refused order, and that an
order whose market has no price ends as `CANCELLED`. The key of type Ed25519 is not checked. Orders until a date
(`limit_limit_gtd`) are taken, and expire only when the test closes a session."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from .core import NAMESPACE, ZERO, Core, Fill, Instrument, Order, Refused, number
from .faults import FaultPlan
from .serving import Answer, HttpVenue, Request

STATUS = {"accepted": "PENDING", "new": "OPEN", "partially_filled": "OPEN", "filled": "FILLED",
          "canceled": "CANCELLED", "expired": "EXPIRED", "rejected": "FAILED", "replaced": "CANCELLED",
          "pending_cancel": "CANCEL_QUEUED"}  # fmt: skip
FORMS = {"market_market_ioc": ("market", "ioc", "IMMEDIATE_OR_CANCEL"),
         "limit_limit_gtc": ("limit", "gtc", "GOOD_UNTIL_CANCELLED"),
         "limit_limit_gtd": ("limit", "day", "GOOD_UNTIL_DATE_TIME"),
         "limit_limit_fok": ("limit", "fok", "FILL_OR_KILL"),
         "sor_limit_ioc": ("limit", "ioc", "IMMEDIATE_OR_CANCEL")}  # fmt: skip
FIAT = ("USD", "EUR", "GBP")


def product(base: str, quote: str = "USD", **steps: object) -> Instrument:
    """A spot product with the usual steps: `product("BTC")` is BTC-USD."""
    given = {"price_step": "0.01", "qty_step": "0.00000001", "min_qty": "0.00000001", "min_notional": "1"} | steps
    return Instrument(f"{base}-{quote}", base, quote, **{name: number(value) for name, value in given.items()})


def plain(value: Decimal | None) -> str:
    text = f"{value or ZERO:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Bad(Refused):
    """A malformed request: 400 with INVALID_ARGUMENT."""


class CoinbaseVenue(HttpVenue):
    """See the module's text. `public_key` (PEM of P-256) lets it check the signature of a JWT; without it, only the
    claims are checked."""

    routes = (
        ("GET", "/api/v3/brokerage/time", "server_time"),
        ("GET", "/api/v3/brokerage/(market/)?products", "products"),
        ("GET", "/api/v3/brokerage/(market/)?products/(?P<id>[^/]+)", "one_product"),
        ("GET", "/api/v3/brokerage/(market/)?products/(?P<id>[^/]+)/ticker", "ticker"),
        ("GET", "/api/v3/brokerage/best_bid_ask", "best_bid_ask"),
        ("GET", "/api/v3/brokerage/accounts", "accounts"),
        ("GET", "/api/v3/brokerage/accounts/(?P<id>[^/]+)", "one_account"),
        ("GET", "/api/v3/brokerage/transaction_summary", "summary"),
        ("POST", "/api/v3/brokerage/orders", "submit"),
        ("POST", "/api/v3/brokerage/orders/batch_cancel", "cancel"),
        ("GET", "/api/v3/brokerage/orders/historical/batch", "orders"),
        ("GET", "/api/v3/brokerage/orders/historical/fills", "fills"),
        ("GET", "/api/v3/brokerage/orders/historical/(?P<id>[^/]+)", "one_order"),
        # what a client asks of the older API: the wallets (balances without holds), and what it needs for its markets
        ("GET", "/v2/accounts", "wallets"),
        ("GET", "/v2/currencies(/crypto)?", "currencies"),
        ("GET", "/v2/exchange-rates", "rates"),
    )
    open_to_all = ("server_time", "currencies", "rates")

    def __init__(
        self,
        core: Core,
        faults: FaultPlan | None = None,
        key: str = "KEY",
        secret: str = "SECRET",
        public_key: str | bytes | None = None,
        timing: Callable[[], float] = time.time,
    ):
        super().__init__(core, faults)
        self.key, self.secret, self.timing = key, secret, timing
        self.public_key = public_key.encode() if isinstance(public_key, str) else public_key

    # --- errors

    def fail(self, status: int, error: str, text: str) -> Answer:
        return Answer({"error": error, "error_details": text, "message": text}, status)

    def not_found(self, request: Request) -> Answer:
        return self.fail(404, "NOT_FOUND", "not found")

    def too_many(self, retry_after: float) -> Answer:
        answer = self.fail(429, "rate_limit_exceeded", "too many requests")
        answer.headers = {"Retry-After": f"{retry_after:g}"}
        return answer

    def broken(self, status: int) -> Answer:
        return self.fail(status, "INTERNAL", "internal error") if status == 500 else Answer("", status)

    def refusal(self, why: Refused) -> Answer:
        if isinstance(why, Bad):
            return self.fail(400, "INVALID_ARGUMENT", why.text)
        if why.reason == "unknown":
            return self.fail(404, "NOT_FOUND", "order with this orderID was not found")
        return self.fail(400, "UNKNOWN", why.text)

    def before(self, request: Request, name: str) -> Answer | None:
        if name in self.open_to_all or "/market/" in request.path:
            return None
        bearer = request.header("authorization")
        known = self._jwt(request, bearer[7:]) if bearer.startswith("Bearer ") else self._legacy(request)
        return None if known else Answer("Unauthorized\n", 401)

    def _legacy(self, request: Request) -> bool:
        sent = request.header("cb-access-timestamp")
        query = "?" + request.query_string if request.path.startswith("/v2/") and request.query_string else ""
        text = sent + request.method + request.path + query + request.body.decode()
        expected = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        fresh = sent.isdigit() and abs(self.timing() - int(sent)) <= 30
        same = hmac.compare_digest(expected, request.header("cb-access-sign"))
        return fresh and same and request.header("cb-access-key") == self.key

    def _jwt(self, request: Request, token: str) -> bool:
        try:
            head, claims, signature = token.split(".")
            said = json.loads(_decode(claims))
        except ValueError:
            return False
        now = self.timing()
        uris = [said["uri"]] if "uri" in said else said.get("uris", [])
        fits = any(one.startswith(request.method + " ") and one.endswith(request.path) for one in uris)
        fresh = said.get("nbf", 0) <= now + 5 and now <= said.get("exp", 0)
        return said.get("sub") == self.key and fresh and fits and self._verifies(f"{head}.{claims}", signature)

    def _verifies(self, text: str, signature: str) -> bool:
        if self.public_key is None:
            return True
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        raw = _decode(signature)
        pair = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            public = serialization.load_pem_public_key(self.public_key)
            public.verify(pair, text.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    # --- orders

    def submit(self, request: Request) -> Answer:
        body = _json(request)
        client_id = body.get("client_order_id")
        if not client_id:
            raise Bad("bad", "client_order_id is required")
        with self.core.lock:
            earlier = self.core.by_client_id(client_id)
            if earlier:
                self.core.note("returned_existing", earlier[0])
                return self._taken(earlier[0])
            return self._submit(body, client_id)

    def _submit(self, body: dict, client_id: str) -> Answer:
        form, details = self._configuration(body)
        type, tif, _ = FORMS[form]
        sizes = {name: _decimal(details, name) for name in ("base_size", "quote_size", "limit_price")}
        try:
            order = self.core.submit(
                symbol=body.get("product_id", ""), side=str(body.get("side", "")).lower(), qty=sizes["base_size"],
                type=type, limit=sizes["limit_price"], tif=tif, client_id=client_id, notional=sizes["quote_size"],
                check=lambda: self._look(body, details, sizes), form=form, details=details,
            )  # fmt: skip
        except Bad:
            raise
        except Refused as why:
            return self._failed(why, body)
        return self._taken(order)

    def _configuration(self, body: dict) -> tuple[str, dict]:
        given = body.get("order_configuration") or {}
        if body.get("side") not in ("BUY", "SELL"):
            raise Bad("bad", "side must be BUY or SELL")
        if len(given) != 1 or next(iter(given)) not in FORMS:
            raise Bad("bad", "order_configuration is not supported")
        return next(iter(given.items()))

    def _look(self, body: dict, details: dict, sizes: dict) -> None:
        one = self.core.instruments.get(body.get("product_id"))
        if one is None:
            raise Bad("bad", "product_id is not known")
        qty, quote, limit = sizes["base_size"], sizes["quote_size"], sizes["limit_price"]
        if (qty is None) == (quote is None):
            raise Bad("bad", "exactly one of base_size and quote_size is needed")
        if one.symbol in self.core.halted or not self.core.is_open:
            raise Refused("PREVIEW_MARKET_ORDERS_DISABLED_FOR_PRODUCT", "trading is disabled")
        if limit is not None and (limit <= 0 or limit % one.price_step):
            raise Refused("PREVIEW_INVALID_LIMIT_PRICE_PRECISION", "too many decimals in the price")
        if qty is not None and (qty < one.min_qty or qty % one.qty_step):
            raise Refused("PREVIEW_INVALID_BASE_SIZE_TOO_SMALL", "base size is too small or has too many decimals")
        if quote is not None and quote < one.min_notional:
            raise Refused("PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL", "quote size is too small")
        self._post_only(body, details, limit, self.core.prices.get(one.symbol))

    def _post_only(self, body: dict, details: dict, limit: Decimal | None, price: Decimal | None) -> None:
        sign = 1 if body["side"] == "BUY" else -1
        if details.get("post_only") and price is not None and (limit - price) * sign >= 0:
            raise Refused("PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY", "post only order would match")

    def _failed(self, why: Refused, body: dict) -> Answer:
        short = why.reason in ("cash", "holdings")
        error = {
            "error": "INSUFFICIENT_FUND" if short else "UNKNOWN_FAILURE_REASON",
            "message": "Insufficient balance in source account" if short else "", "error_details": "",
            "preview_failure_reason": "PREVIEW_INSUFFICIENT_FUND" if short else why.reason,
        }  # fmt: skip
        return Answer({"success": False, "failure_reason": error["error"], "order_id": "", "error_response": error,
                       "order_configuration": body["order_configuration"]})  # fmt: skip

    def _taken(self, order: Order) -> Answer:
        made = {"order_id": order.id, "product_id": order.symbol, "side": order.side.upper(),
                "client_order_id": order.client_id}  # fmt: skip
        return Answer({"success": True, "failure_reason": "UNKNOWN_FAILURE_REASON", "order_id": order.id,
                       "success_response": made, "order_configuration": self._form(order)})  # fmt: skip

    def _form(self, order: Order) -> dict:
        return {order.extra["form"]: order.extra["details"]} if "form" in order.extra else {}

    def cancel(self, request: Request) -> Answer:
        names = _json(request).get("order_ids")
        if not isinstance(names, list) or not names or len(names) > 100:
            raise Bad("bad", "order_ids must be a list of 1 to 100 ids")
        return Answer({"results": [self._cancel(one) for one in names]})

    def _cancel(self, name: str) -> dict:
        reason = "UNKNOWN_CANCEL_FAILURE_REASON"
        try:
            self.core.cancel(name)
        except Refused as why:
            filled = why.facts.get("status") == "filled"
            done = "ORDER_IS_FULLY_FILLED" if filled else "INVALID_CANCEL_REQUEST"
            reason = {"unknown": "UNKNOWN_CANCEL_ORDER", "pending": "DUPLICATE_CANCEL_REQUEST"}.get(why.reason, done)
            return {"success": False, "failure_reason": reason, "order_id": name}
        return {"success": True, "failure_reason": reason, "order_id": name}

    def one_order(self, request: Request) -> Answer:
        found = [one for one in self.core.orders if one.id == request.ids["id"] and self.visible(one, lookup=True)]
        if not found:
            raise Refused("unknown")
        return Answer({"order": self._order(found[0])})

    def orders(self, request: Request) -> Answer:
        asked = _Query(request)
        statuses = asked.all("order_status")
        if "OPEN" in statuses and len(set(statuses)) > 1:
            raise Bad("bad", "OPEN cannot be combined with other statuses")
        chosen = [one for one in reversed(self.core.orders) if self.visible(one)]
        for names, value in (
            (asked.all("order_status"), lambda one: STATUS[one.status]),
            (asked.all("product_id", "product_ids"), lambda one: one.symbol),
            (asked.all("order_ids"), lambda one: one.id),
            (asked.all("order_side"), lambda one: one.side.upper()),
        ):
            chosen = [one for one in chosen if not names or value(one) in names]
        chosen = asked.between(chosen, "start_date", "end_date", lambda one: one.created)
        page, cursor = asked.page(chosen, lambda one: one.number)
        rows = [self._order(one) for one in page]
        return Answer({"orders": rows, "sequence": "0", "has_next": bool(cursor), "cursor": cursor})

    def fills(self, request: Request) -> Answer:
        asked = _Query(request)
        pairs = [(one, self.core.order(one.order_id)) for one in reversed(self.core.executions)]
        pairs = [pair for pair in pairs if self.visible(pair[1])]
        for names, value in (
            (asked.all("order_id", "order_ids"), lambda pair: pair[1].id),
            (asked.all("product_id", "product_ids"), lambda pair: pair[1].symbol),
            (asked.all("trade_ids"), lambda pair: pair[0].execution_id),
        ):
            pairs = [pair for pair in pairs if not names or value(pair) in names]
        names = "start_sequence_timestamp", "end_sequence_timestamp"
        pairs = asked.between(pairs, *names, lambda pair: pair[0].time)
        page, cursor = asked.page(pairs, lambda pair: pair[0].number)
        return Answer({"fills": [self._fill(*pair) for pair in page], "cursor": cursor})

    # --- the forms of the answers

    def _order(self, order: Order) -> dict:
        form = order.extra.get("form", "limit_limit_gtc")
        value, fees = order.value, order.fees
        done = 100 * order.filled / order.qty if order.qty else ZERO
        return {
            "order_id": order.id, "product_id": order.symbol, "user_id": self._name("user"),
            "order_configuration": self._form(order), "side": order.side.upper(),
            "client_order_id": order.client_id, "status": STATUS[order.status], "time_in_force": FORMS[form][2],
            "created_time": stamp(order.created), "completion_percentage": f"{done:.2f}",
            "filled_size": plain(order.filled), "average_filled_price": plain(round(order.average or ZERO, 12)),
            "fee": "", "number_of_fills": str(len(order.fills)), "filled_value": plain(value),
            "pending_cancel": order.status == "pending_cancel", "size_in_quote": order.notional is not None,
            "total_fees": plain(fees), "size_inclusive_of_fees": order.notional is not None,
            "total_value_after_fees": plain(value + fees * order.sign), "trigger_status": "INVALID_ORDER_TYPE",
            "order_type": order.type.upper(),
            "reject_reason": "REJECT_REASON_UNSPECIFIED", "settled": order.status == "filled",
            "product_type": "SPOT", "reject_message": order.reason, "cancel_message": "",
            "order_placement_source": "RETAIL_ADVANCED",
            "outstanding_hold_amount": plain(self._hold(order)), "is_liquidation": False,
            "last_fill_time": stamp(order.fills[-1].time) if order.fills else None, "edit_history": [],
            "leverage": "", "margin_type": "UNKNOWN_MARGIN_TYPE", "retail_portfolio_id": self._name("portfolio"),
        }  # fmt: skip

    def _hold(self, order: Order) -> Decimal:
        if not order.open:
            return ZERO
        return order.left if order.side == "sell" else order.left * (order.limit or ZERO)

    def _fill(self, fill: Fill, order: Order) -> dict:
        resting = order.type == "limit" and order.tif in ("gtc", "day")
        return {
            "entry_id": hashlib.sha256(fill.execution_id.encode()).hexdigest(), "trade_id": fill.execution_id,
            "order_id": order.id, "trade_time": stamp(fill.time), "trade_type": "FILL", "price": plain(fill.price),
            "size": plain(fill.qty), "commission": plain(fill.fee), "product_id": order.symbol,
            "sequence_timestamp": stamp(fill.time), "liquidity_indicator": "MAKER" if resting else "TAKER",
            "size_in_quote": False, "user_id": self._name("user"), "side": order.side.upper(),
            "retail_portfolio_id": self._name("portfolio"),
        }  # fmt: skip

    def _name(self, of: str) -> str:
        return str(uuid.uuid5(NAMESPACE, f"coinbase {of}"))

    # --- accounts and products

    def accounts(self, request: Request) -> Answer:
        with self.core.lock:
            bases = {one.base for one in self.core.instruments.values()}
            rows = [self._account(one) for one in sorted({self.core.currency, *self.core.balances, *bases})]
        asked = _Query(request)
        start, limit = int(asked.first("cursor") or 0), min(int(asked.first("limit") or 49), 250)
        page, more = rows[start : start + limit], len(rows) > start + limit
        return Answer({"accounts": page, "has_next": more, "cursor": str(start + limit) if more else "",
                       "size": len(page)})  # fmt: skip

    def wallets(self, request: Request) -> Answer:
        with self.core.lock:
            assets = sorted({self.core.currency, *self.core.balances})
            rows = [self._wallet(one, plain(self.core.balances[one])) for one in assets]
        ends = {"ending_before": None, "starting_after": None, "previous_ending_before": None, "previous_uri": None,
                "next_starting_after": None, "next_uri": None}  # fmt: skip
        return Answer({"data": rows, "pagination": ends | {"limit": len(rows), "order": "desc"}})

    def _wallet(self, asset: str, amount: str) -> dict:
        fiat = asset in FIAT
        return {
            "id": self._name(asset), "name": f"{asset} Wallet", "primary": True, "type": "fiat" if fiat else "wallet",
            "balance": {"amount": amount, "currency": asset}, "created_at": "2024-01-01T00:00:00Z",
            "updated_at": "2024-01-01T00:00:00Z", "resource": "account",
            "resource_path": f"/v2/accounts/{self._name(asset)}",
            "currency": {"code": asset, "name": asset, "exponent": 2 if fiat else 8,
                         "type": "fiat" if fiat else "crypto"},
            "allow_deposits": True, "allow_withdrawals": True,
        }  # fmt: skip

    def one_account(self, request: Request) -> Answer:
        found = [one for one in sorted(self.core.balances) if self._name(one) == request.ids["id"]]
        return Answer({"account": self._account(found[0])}) if found else self.not_found(request)

    def _account(self, asset: str) -> dict:
        free, held = self.core.free(asset), self.core.reserved(asset)
        return {
            "uuid": self._name(asset), "name": f"{asset} Wallet", "currency": asset,
            "available_balance": {"value": plain(free), "currency": asset}, "default": True, "active": True,
            "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "deleted_at": None,
            "type": "ACCOUNT_TYPE_FIAT" if asset in FIAT else "ACCOUNT_TYPE_CRYPTO", "ready": True,
            "hold": {"value": plain(held), "currency": asset}, "retail_portfolio_id": self._name("portfolio"),
            "platform": "ACCOUNT_PLATFORM_CONSUMER",
        }  # fmt: skip

    def summary(self, request: Request) -> Answer:
        rate = plain(self.core.fee_rate)
        tier = {"pricing_tier": "Advanced 1", "usd_from": "0", "usd_to": "1000", "taker_fee_rate": rate,
                "maker_fee_rate": rate, "aop_from": "", "aop_to": ""}  # fmt: skip
        return Answer({"total_volume": 0, "total_fees": 0, "fee_tier": tier, "margin_rate": None,
                       "goods_and_services_tax": None, "advanced_trade_only_volume": 0,
                       "advanced_trade_only_fees": 0, "coinbase_pro_volume": 0, "coinbase_pro_fees": 0,
                       "total_balance": "", "has_promo_fee": False})  # fmt: skip

    def products(self, request: Request) -> Answer:
        kind = request.query.get("product_type", "SPOT")
        rows = [self._product(one) for one in self.core.instruments.values()] if kind == "SPOT" else []
        return Answer({"products": rows, "num_products": len(rows)})

    def one_product(self, request: Request) -> Answer:
        one = self.core.instruments.get(request.ids["id"])
        return Answer(self._product(one)) if one else self.not_found(request)

    def _product(self, one: Instrument) -> dict:
        off = one.symbol in self.core.halted
        return {
            "product_id": one.symbol, "price": plain(self.core.mark(one.symbol)), "price_percentage_change_24h": "0",
            "volume_24h": "0", "volume_percentage_change_24h": "0", "base_increment": plain(one.qty_step),
            "quote_increment": plain(one.price_step), "quote_min_size": plain(one.min_notional),
            "quote_max_size": "150000000", "base_min_size": plain(one.min_qty), "base_max_size": plain(one.max_qty),
            "base_name": one.base, "quote_name": one.quote, "watched": False, "is_disabled": False, "new": False,
            "status": "online", "cancel_only": False, "limit_only": False, "post_only": False,
            "trading_disabled": off, "auction_mode": False, "product_type": "SPOT", "quote_currency_id": one.quote,
            "base_currency_id": one.base, "fcm_trading_session_details": None, "mid_market_price": "", "alias": "",
            "alias_to": [], "base_display_symbol": one.base, "quote_display_symbol": one.quote, "view_only": False,
            "price_increment": plain(one.price_step), "display_name": one.symbol, "product_venue": "CBE",
        }  # fmt: skip

    def ticker(self, request: Request) -> Answer:
        symbol = request.ids["id"]
        if symbol not in self.core.instruments:
            return self.not_found(request)
        price = plain(self.core.mark(symbol))
        trade = {"trade_id": "1", "product_id": symbol, "price": price, "size": "1", "time": stamp(self.core.clock()),
                 "side": "BUY", "bid": "", "ask": "", "exchange": ""}  # fmt: skip
        return Answer({"trades": [trade], "best_bid": price, "best_ask": price})

    def best_bid_ask(self, request: Request) -> Answer:
        names = _Query(request).all("product_ids") or list(self.core.instruments)
        books = []
        for one in names:
            level = [{"price": plain(self.core.mark(one)), "size": "1000"}]
            books.append({"product_id": one, "bids": level, "asks": level, "time": stamp(self.core.clock())})
        return Answer({"pricebooks": books})

    def server_time(self, request: Request) -> Answer:
        now = self.timing()
        iso = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
        return Answer({"iso": iso, "epochSeconds": str(int(now)), "epochMillis": str(int(now * 1000))})

    def currencies(self, request: Request) -> Answer:
        assets = sorted({name for one in self.core.instruments.values() for name in (one.base, one.quote)})
        if request.path.endswith("crypto"):
            return Answer({"data": [{"asset_id": self._name(one), "code": one, "name": one, "color": "", "type":
                                     "crypto", "sort_index": 1, "exponent": 8, "address_regex": ""}
                                    for one in assets if one not in FIAT]})  # fmt: skip
        return Answer({"data": [{"id": one, "name": one, "min_size": "0.01"} for one in assets if one in FIAT]})

    def rates(self, request: Request) -> Answer:
        return Answer({"data": {"currency": "USD", "rates": {"USD": "1"}}})


class _Query:
    """The query of a list: parameters that may repeat, a window of times, pages by cursor."""

    def __init__(self, request: Request):
        self.pairs = parse_qsl(request.query_string)

    def all(self, *names: str) -> list[str]:
        return [part for name, value in self.pairs if name in names for part in value.split(",")]

    def first(self, name: str) -> str | None:
        return next((value for one, value in self.pairs if one == name), None)

    def between(self, items: list, start: str, end: str, when: Callable) -> list:
        after, before = (_moment(self.first(name)) for name in (start, end))
        return [one for one in items if (not after or when(one) >= after) and (not before or when(one) < before)]

    def page(self, items: list, mark: Callable) -> tuple[list, str]:
        """Newest first; the cursor is the number of the last item given, and empty at the end."""
        limit, cursor = int(self.first("limit") or 100), self.first("cursor")
        if cursor:
            items = [one for one in items if mark(one) < int(cursor)]
        page = items[:limit]
        return page, str(mark(page[-1])) if len(items) > limit else ""


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _json(request: Request) -> dict:
    try:
        return request.json
    except ValueError:
        raise Bad("bad", "the body is not JSON") from None


def _decimal(details: dict, name: str) -> Decimal | None:
    value = details.get(name)
    try:
        return number(value) if value not in (None, "") else None
    except InvalidOperation:
        raise Bad("bad", f"{name} is not a number") from None


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
