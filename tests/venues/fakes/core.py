"""The matching core of a stand-in venue: accounts, orders, sessions, fills and a log, without any wire.

All numbers are `decimal.Decimal`. There is no wall clock inside: a time comes from the clock given (`Ticks` by default,
which moves by a microsecond at each reading, and to 9:30 and 16:00 in New York when a session opens and closes). Ids
are derived from counters, so the same calls give the same ids.

A market order that waits for a session fills at that session's opening price, whenever it arrived; an order that comes
during the session fills at the symbol's price as last set. A resting limit order fills at the opening price when that
is better than its limit, and at its limit when the price moves through it during the session.

What a plan can ask of an order, by client order id or by symbol (`core.plan`): fills in parts, a refusal, a later
rejection, and what happens to a request to cancel (taken at once, taken later, lost to a fill, followed by a late
fill).
`core.step()` lets pending things happen: the next part of a fill, a cancel or a rejection that waits."""

from __future__ import annotations

import functools
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_DOWN, Decimal
from zoneinfo import ZoneInfo

ZERO = Decimal(0)
OPEN = ("accepted", "new", "partially_filled", "pending_cancel")
NEW_YORK, OPENS, CLOSES = ZoneInfo("America/New_York"), time(9, 30), time(16)
NAMESPACE = uuid.UUID("6f1c1f2e-6a55-4f0e-9a57-0d7a54a6b1c0")


class Refused(Exception):
    """The venue does not take an order or a cancel; `reason` is a word for the fakes to put in their own language."""

    def __init__(self, reason: str, text: str = "", **facts: object):
        super().__init__(text or reason)
        self.reason = reason
        self.text = text or reason
        self.facts = facts


class Ticks:
    """A clock that moves by one microsecond at each reading and by `advance` when the test says so."""

    def __init__(self, start: datetime = datetime(2024, 1, 2, 14, 0, tzinfo=UTC)):
        self.now = start
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            self.now += timedelta(microseconds=1)
            return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def move_to(self, moment: datetime) -> None:
        """Forward to a moment; never back."""
        self.now = max(self.now, moment.astimezone(UTC))


def wall_clock() -> datetime:
    """The machine's time, for clients that compare the venue's times with their own."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Instrument:
    """A symbol of the venue: what is bought with what, and the steps that its numbers keep."""

    symbol: str
    base: str
    quote: str = "USD"
    price_step: Decimal = Decimal("0.01")
    qty_step: Decimal = Decimal("0.000000001")
    min_qty: Decimal = Decimal("0.000000001")
    max_qty: Decimal = Decimal("9000000")
    min_notional: Decimal = ZERO


@dataclass(frozen=True)
class Plan:
    """What the test wants to happen to an order.

    `parts`: the sizes of its fills, one at each step (what is left comes in one more fill unless `only_parts`);
    `refuse`: a word, the order is not taken; `reject`: a word, it is taken and rejected at the next step;
    `cancel`: "at_once", "later" (pending until a step), "filled_first" (the request arrives too late: the order fills
    and the cancel is refused), "late_fill" (pending; at the next step `late` more fills, and then the rest is
    cancelled)."""

    parts: tuple[Decimal, ...] = ()
    only_parts: bool = False
    refuse: str = ""
    reject: str = ""
    cancel: str = "at_once"
    late: Decimal = ZERO


@dataclass(frozen=True)
class Fill:
    number: int
    execution_id: str
    order_id: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    time: datetime
    cumulative: Decimal
    leaves: Decimal


@dataclass
class Order:
    number: int
    id: str
    client_id: str
    symbol: str
    side: str
    type: str
    tif: str
    qty: Decimal | None
    notional: Decimal | None
    limit: Decimal | None
    created: datetime
    updated: datetime
    status: str = "new"
    filled: Decimal = ZERO
    value: Decimal = ZERO
    fees: Decimal = ZERO
    fills: list[Fill] = field(default_factory=list)
    canceled: datetime | None = None
    expired: datetime | None = None
    failed: datetime | None = None
    replaced: datetime | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    cancel_asked: datetime | None = None
    reason: str = ""
    cancel_pending: bool = False
    seen_at: int = 0
    extra: dict = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    def left(self) -> Decimal:
        return (self.qty or ZERO) - self.filled

    @property
    def average(self) -> Decimal | None:
        return self.value / self.filled if self.filled else None

    @property
    def sign(self) -> int:
        return 1 if self.side == "buy" else -1


def number(value: object) -> Decimal:
    """A Decimal of a string, an int, a Decimal or a float as it is written."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def locked(method: Callable) -> Callable:
    @functools.wraps(method)
    def inner(self, *args, **kwargs):
        with self.lock:
            return method(self, *args, **kwargs)

    return inner


class Core:
    """A venue without a wire. See the module's text; `always_open=True` for a venue that has no sessions."""

    def __init__(
        self,
        cash: object = "100000",
        currency: str = "USD",
        instruments: Iterable[Instrument | str] = (),
        clock: Callable[[], datetime] | None = None,
        always_open: bool = False,
        auto_fill: bool = True,
        auto_step: bool = False,
        shorting: bool = False,
        fee_rate: object = "0",
        fee_in: str = "quote",
        unfilled_end: str = "canceled",
    ):
        self.lock = threading.RLock()
        self._news = threading.Condition(self.lock)
        self.currency, self.clock = currency, clock or Ticks()
        self.always_open, self.auto_fill, self.auto_step = always_open, auto_fill, auto_step
        self.shorting, self.fee_rate, self.fee_in = shorting, number(fee_rate), fee_in
        self.unfilled_end = unfilled_end
        self.instruments: dict[str, Instrument] = {}
        for one in instruments:
            self.list_symbol(one)
        self.balances: dict[str, Decimal] = defaultdict(lambda: ZERO, {currency: number(cash)})
        self.costs: dict[str, Decimal] = defaultdict(lambda: ZERO)
        self.prices: dict[str, Decimal] = {}
        self.last_close: dict[str, Decimal] = {}
        self.orders: list[Order] = []
        self.executions: list[Fill] = []
        self.plans: dict[str, Plan] = {}
        self.halted: set[str] = set()
        self.session: date | None = None
        self.sessions: list[date] = []
        self.is_open = always_open
        self.cash_multiple = Decimal(1)
        self.collar: Callable[[Decimal], Decimal] = lambda price: ZERO
        self.requests = 0
        self._log: list[dict] = []
        self._listeners: list[Callable[[dict, Order], None]] = []
        self._steps: dict[str, int] = defaultdict(int)

    # --- what the test sets and reads

    @property
    @locked
    def log(self) -> list[dict]:
        """What the venue did, in order; a copy, since nobody takes a line back."""
        return [dict(line) for line in self._log]

    def events(self, event: str) -> list[dict]:
        return [line for line in self.log if line["event"] == event]

    def wait_for(self, event: str, count: int = 1, timeout: float = 5.0) -> list[dict]:
        """The lines of an event as soon as there are `count` of them; TimeoutError when they do not come."""
        with self._news:
            if not self._news.wait_for(lambda: sum(one["event"] == event for one in self._log) >= count, timeout):
                raise TimeoutError(f"fewer than {count} lines of {event} after {timeout} s")
        return self.events(event)

    def accepted_twice(self) -> list[str]:
        """The client order ids under which the venue took more than one order."""
        seen, twice = set(), []
        for line in self.events("accepted"):
            (twice.append if line["client_order_id"] in seen else seen.add)(line["client_order_id"])
        return twice

    @locked
    def list_symbol(self, instrument: Instrument | str) -> Instrument:
        one = instrument if isinstance(instrument, Instrument) else Instrument(instrument, instrument)
        self.instruments[one.symbol] = one
        return one

    @locked
    def plan(self, key: str, **what: object) -> None:
        """A plan for the orders of a client order id or of a symbol; the id comes first."""
        if "parts" in what:
            what["parts"] = tuple(number(one) for one in what["parts"])
        if "late" in what:
            what["late"] = number(what["late"])
        self.plans[key] = Plan(**what)

    @locked
    def deposit(self, asset: str, amount: object) -> None:
        self.balances[asset] += number(amount)
        self._write("deposit", asset=asset, amount=number(amount))

    @locked
    def hold(self, symbol: str, qty: object, price: object = "0") -> None:
        """A position that is there from the start."""
        base = self._instrument(symbol).base
        self.balances[base] += number(qty)
        self.costs[base] += number(qty) * number(price)

    @locked
    def set_price(self, symbol: str, price: object) -> None:
        """The symbol's price; during a session, resting limit orders that it reaches fill at their limits."""
        if symbol not in self.instruments:
            self.list_symbol(symbol)
        self.prices[symbol] = number(price)
        if self.is_open and self.auto_fill:
            self._match(symbol, at_limit=True)

    @locked
    def open_session(self, day: date | str, prices: Mapping[str, object] | None = None) -> None:
        """Open the session of a day: what waits fills at the opening prices."""
        self.session = date.fromisoformat(day) if isinstance(day, str) else day
        self.sessions.append(self.session)
        self._move_to(OPENS)
        for symbol, price in (prices or {}).items():
            if symbol not in self.instruments:
                self.list_symbol(symbol)
            self.prices[symbol] = number(price)
        self.is_open = True
        self._write("session_open", session=self.session.isoformat())
        for order in self.open_orders():
            if order.status == "accepted" and order.tif != "cls":
                self._become(order, "new", "new")
        if self.auto_fill:
            for symbol in sorted(self.instruments):
                self._match(symbol)
        for order in [one for one in self.open_orders() if one.tif == "opg"]:
            self._end(order, "canceled")

    @locked
    def close_session(self, prices: Mapping[str, object] | None = None) -> None:
        """Close the session: orders for the close fill at the closing prices, and day orders expire."""
        self._move_to(CLOSES)
        self.prices.update({symbol: number(price) for symbol, price in (prices or {}).items()})
        for order in [one for one in self.open_orders() if one.tif == "cls"]:
            if self.auto_fill:
                self._try(order, self.prices.get(order.symbol))
            if order.open:
                self._end(order, "canceled")
        for order in [one for one in self.open_orders() if one.tif == "day" or one.cancel_pending]:
            self._end(order, "canceled" if order.cancel_pending else "expired")
        self.last_close.update(self.prices)
        self.is_open = self.always_open
        self._write("session_close", session=self.session.isoformat() if self.session else None)

    @locked
    def halt(self, symbol: str) -> None:
        self.halted.add(symbol)
        self._write("halt", symbol=symbol)

    @locked
    def resume(self, symbol: str) -> None:
        self.halted.discard(symbol)
        self._write("resume", symbol=symbol)
        if self.is_open and self.auto_fill:
            self._match(symbol)

    @locked
    def step(self) -> None:
        """Let what is pending happen: the next part of each fill, cancels and rejections that wait."""
        for order in list(self.orders):
            if order.open:
                self._step(order)

    @locked
    def fill(self, order_id: str, qty: object = None, price: object = None) -> Fill:
        """Fill an order by hand, also one that is already cancelled (a late fill that the venue had on its way)."""
        order = self.order(order_id)
        return self._fill(order, number(qty) if qty is not None else order.left, self._price_for(order, price))

    @locked
    def reject(self, order_id: str, reason: str) -> None:
        self._reject(self.order(order_id), reason)

    def subscribe(self, listener: Callable[[dict, Order], None]) -> Callable[[], None]:
        """Call `listener(line, order)` for each event of an order; gives the function that stops it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- what the fakes ask of it

    @locked
    def submit(
        self,
        symbol: str,
        side: str,
        qty: object = None,
        type: str = "market",
        limit: object = None,
        tif: str = "day",
        client_id: str = "",
        notional: object = None,
        check: Callable[[], None] | None = None,
        **extra: object,
    ) -> Order:
        """Take an order, or raise Refused. `check` is the fake's own look (a repeated id), made under the same lock."""
        self._seen = dict(client_order_id=client_id, symbol=symbol, side=side, qty=qty)
        try:
            if check:
                check()
            order = self._new(symbol, side, qty, type, limit, tif, client_id, notional, extra)
            self._check(order)
        except Refused as why:
            self._write("refused", reason=why.reason, **self._seen)
            raise
        self._take(order)
        return order

    @locked
    def cancel(self, order_id: str) -> Order:
        """Ask for a cancel; Refused when the order is unknown, done, or fills first."""
        order = self.order(order_id)
        self._write("cancel_requested", order)
        if not order.open:
            return self._cancel_refused(order, "done")
        if order.cancel_pending:
            return self._cancel_refused(order, "pending")
        plan = self._plan(order)
        if plan.cancel == "filled_first":
            self._fill(order, order.left, self._price_for(order))
            return self._cancel_refused(order, "done")
        order.cancel_asked = self.clock()
        if plan.cancel == "at_once":
            self._end(order, "canceled")
        else:
            order.cancel_pending = True
            self._become(order, "pending_cancel", "pending_cancel")
        return order

    @locked
    def replace(self, order_id: str, client_id: str = "", check: Callable[[], None] | None = None, **new: object):
        """A new order in the place of an open one, with what is left of it and what `new` changes."""
        old = self.order(order_id)
        if not old.open or old.cancel_pending or old.filled:
            raise Refused("done", f"order is {old.status}", status=old.status)
        if check:
            check()
        fields = {key: number(value) if key in ("qty", "limit") else value for key, value in new.items()}
        order = self._new(
            old.symbol, old.side, fields.get("qty", old.qty), old.type, fields.get("limit", old.limit),
            fields.get("tif", old.tif), client_id, None, dict(old.extra),
        )  # fmt: skip
        old.status = "replaced"
        order.replaces, old.replaced_by, old.replaced = old.id, order.id, self.clock()
        try:
            self._check(order)
        except Refused:
            old.status, old.replaced_by, old.replaced = "new", None, None
            raise
        self._write("replaced", old, by=order.id)
        self._tell(old)
        self._take(order)
        return order

    @locked
    def order(self, order_id: str) -> Order:
        for one in self.orders:
            if one.id == order_id or str(one.number) == str(order_id):
                return one
        raise Refused("unknown", f"no order {order_id}")

    @locked
    def by_client_id(self, client_id: str) -> list[Order]:
        return [one for one in self.orders if one.client_id == client_id]

    @locked
    def open_orders(self) -> list[Order]:
        return [one for one in self.orders if one.open]

    @locked
    def position(self, symbol: str) -> Decimal:
        return self.balances[self._instrument(symbol).base]

    @locked
    def reserved(self, asset: str, but: Order | None = None) -> Decimal:
        """How much of an asset the open orders hold: cash for buys, holdings for sells."""
        total = ZERO
        for one in self.open_orders():
            if one is but:
                continue
            instrument = self._instrument(one.symbol)
            if one.side == "buy" and instrument.quote == asset:
                total += self._needs(one)
            if one.side == "sell" and instrument.base == asset:
                total += one.left
        return total

    @locked
    def free(self, asset: str) -> Decimal:
        return self.balances[asset] - self.reserved(asset)

    @locked
    def equity(self) -> Decimal:
        values = [self.position(one) * self.mark(one) for one in self.instruments]
        return sum(values, self.balances[self.currency])

    def _move_to(self, at: time) -> None:
        if self.session and isinstance(self.clock, Ticks) and not self.always_open:
            self.clock.move_to(datetime.combine(self.session, at, NEW_YORK))

    def mark(self, symbol: str) -> Decimal:
        return self.prices.get(symbol, self.last_close.get(symbol, ZERO))

    # --- how it works

    def _instrument(self, symbol: str) -> Instrument:
        try:
            return self.instruments[symbol]
        except KeyError:
            raise Refused("symbol", f"no symbol {symbol}") from None

    def _plan(self, order: Order) -> Plan:
        return self.plans.get(order.client_id) or self.plans.get(order.symbol) or Plan()

    def _new(self, symbol, side, qty, type, limit, tif, client_id, notional, extra) -> Order:
        self._instrument(symbol)
        index, now = len(self.orders) + 1, self.clock()
        name = uuid.uuid5(NAMESPACE, f"order {index}")
        return Order(
            number=index, id=str(name), client_id=client_id or str(uuid.uuid5(NAMESPACE, f"client {index}")),
            symbol=symbol, side=side, type=type, tif=tif, qty=number(qty) if qty is not None else None,
            notional=number(notional) if notional is not None else None,
            limit=number(limit) if limit is not None else None, created=now, updated=now, extra=extra,
        )  # fmt: skip

    def _check(self, order: Order) -> None:
        plan = self._plan(order)
        if plan.refuse:
            raise Refused(plan.refuse)
        instrument = self._instrument(order.symbol)
        if order.side == "buy":
            have, need = self.free(instrument.quote) * self.cash_multiple, self._needs(order)
            if need > have:
                raise Refused("cash", f"needs {need} {instrument.quote}, has {have}", need=need, have=have)
        elif not self.shorting:
            have = self.free(instrument.base)
            if (order.qty or ZERO) > have:
                raise Refused("holdings", f"sells {order.qty}, has {have}", need=order.qty, have=have,
                              held=self.reserved(instrument.base), total=self.balances[instrument.base])  # fmt: skip

    def _needs(self, order: Order) -> Decimal:
        if order.notional is not None and order.qty is None:
            return order.notional
        price = order.limit
        if price is None:
            price = self.mark(order.symbol)
            price += price * self.collar(price)
        return order.left * price * (1 + (self.fee_rate if self.fee_in == "quote" else ZERO))

    def _take(self, order: Order) -> None:
        order.seen_at = self.requests
        self.orders.append(order)
        waits = not self.is_open or order.tif == "cls"
        order.status = "accepted" if waits else "new"
        self._write("accepted", order, type=order.type, limit=order.limit, tif=order.tif, status=order.status)
        self._tell(order)
        if self.is_open and order.tif == "opg":
            return self._end(order, "canceled")
        if self._plan(order).reject or waits:
            return None
        if self.auto_fill:
            self._try(order, self.prices.get(order.symbol))
        if order.open and order.tif in ("ioc", "fok"):
            self._end(order, self.unfilled_end)
        return None

    def _match(self, symbol: str, at_limit: bool = False) -> None:
        for order in self.open_orders():
            if order.symbol == symbol and order.tif != "cls":
                price = self.prices.get(symbol)
                if at_limit and price is not None and order.limit is not None and self._reached(order, price):
                    price = order.limit
                self._try(order, price)

    def _reached(self, order: Order, price: Decimal) -> bool:
        return order.limit is None or (order.limit - price) * order.sign >= 0

    def _try(self, order: Order, price: Decimal | None) -> None:
        """Fill an order, or its next part, when there is a price that it takes."""
        if price is None or order.symbol in self.halted or order.cancel_pending or not self._reached(order, price):
            return
        plan, step = self._plan(order), self._steps[order.id]
        if plan.reject:
            return
        if order.qty is None:
            self._size(order, price)
        if step < len(plan.parts):
            size = min(plan.parts[step], order.left)
        elif plan.only_parts:
            return
        else:
            size = order.left
        if order.tif == "fok" and size < order.left:
            return
        self._steps[order.id] += 1
        if size > 0:
            self._fill(order, size, price)

    def _size(self, order: Order, price: Decimal) -> None:
        step = self._instrument(order.symbol).qty_step
        spend = order.notional / (1 + (self.fee_rate if self.fee_in == "quote" else ZERO))
        order.qty = (spend / price / step).to_integral_value(ROUND_DOWN) * step

    def _price_for(self, order: Order, price: object = None) -> Decimal:
        if price is not None:
            return number(price)
        at = self.prices.get(order.symbol)
        if at is None or not self._reached(order, at):
            at = order.limit
        if at is None:
            raise Refused("price", f"no price of {order.symbol}")
        return at

    def _step(self, order: Order) -> None:
        plan = self._plan(order)
        if plan.reject and order.status == "new":
            self._reject(order, plan.reject)
        elif order.cancel_pending:
            if plan.cancel == "late_fill" and plan.late:
                self._fill(order, min(plan.late, order.left), self._price_for(order))
            if order.open:
                self._end(order, "canceled")
        elif self.is_open and self.auto_fill:
            self._try(order, self.prices.get(order.symbol))

    def _fill(self, order: Order, qty: Decimal, price: Decimal) -> Fill:
        if order.qty is None:
            self._size(order, price)
            qty = order.left
        count = len(self.executions) + 1
        fee, asset = self._settle(order, qty, price)
        order.filled, order.value, order.fees = order.filled + qty, order.value + qty * price, order.fees + fee
        fill = Fill(
            number=count, execution_id=str(uuid.uuid5(NAMESPACE, f"execution {count}")), order_id=order.id, qty=qty,
            price=price, fee=fee, fee_asset=asset, time=self.clock(), cumulative=order.filled, leaves=order.left,
        )  # fmt: skip
        self.executions.append(fill)
        order.fills.append(fill)
        order.updated = fill.time
        if order.open:
            order.status = "filled" if order.left <= 0 else ("pending_cancel" if order.cancel_pending else
                                                             "partially_filled")  # fmt: skip
        elif order.left <= 0:
            order.status = "filled"
        self._write("fill", order, execution_id=fill.execution_id, fill_qty=qty, price=price, fee=fee)
        self._tell(order)
        return fill

    def _settle(self, order: Order, qty: Decimal, price: Decimal) -> tuple[Decimal, str]:
        instrument = self._instrument(order.symbol)
        base, quote = instrument.base, instrument.quote
        received = self.fee_in == "received" and order.side == "buy"
        fee, asset = (qty * self.fee_rate, base) if received else (qty * price * self.fee_rate, quote)
        held = self.balances[base]
        closed = min(qty, abs(held)) if held * order.sign < 0 else ZERO
        self.costs[base] = self.costs[base] * (abs(held) - closed) / abs(held) if held else ZERO
        self.costs[base] += (qty - closed) * price * order.sign
        self.balances[base] += qty * order.sign
        self.balances[quote] -= qty * price * order.sign
        self.balances[asset] -= fee
        return fee, asset

    def _cancel_refused(self, order: Order, reason: str) -> Order:
        self._write("cancel_refused", order, reason=reason, status=order.status)
        raise Refused(reason, f"order is {order.status}", status=order.status)

    def _reject(self, order: Order, reason: str) -> None:
        order.failed, order.reason = self.clock(), reason
        self._become(order, "rejected", "rejected", reason=reason)

    def _end(self, order: Order, status: str) -> None:
        order.cancel_pending = False
        setattr(order, status, self.clock())
        self._become(order, status, status)

    def _become(self, order: Order, status: str, event: str, **facts: object) -> None:
        order.status, order.updated = status, self.clock()
        self._write(event, order, **facts)
        self._tell(order)

    @locked
    def _write(self, event: str, order: Order | None = None, **facts: object) -> None:
        line = {"n": len(self._log) + 1, "event": event, "time": self.clock()}
        if order is not None:
            line |= {
                "order_id": order.id, "client_order_id": order.client_id, "symbol": order.symbol, "side": order.side,
                "qty": order.qty, "filled": order.filled,
            }  # fmt: skip
        self._log.append(line | facts)
        self._news.notify_all()

    @locked
    def note(self, event: str, order: Order | None = None, **facts: object) -> None:
        """A line of a fake's own doing, e.g. an existing order that it gave back for a repeated id."""
        self._write(event, order, **facts)

    def _tell(self, order: Order) -> None:
        line = dict(self._log[-1])
        snapshot = replace(order, fills=list(order.fills), extra=dict(order.extra))
        for listener in list(self._listeners):
            listener(line, snapshot)
