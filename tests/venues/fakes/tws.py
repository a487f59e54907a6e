"""A stand-in of Interactive Brokers' TWS as ib_async 2.0.1 shows it, without a socket, an event loop or a wall clock.

`Tws` is TWS with the broker behind it, `FakeIB` is ib_async's own `IB` with its own `Wrapper` and `Client`: what the
library makes of a message is the library's doing. Only the wire is ours. A client sees nothing until it lets messages
in: by a request that waits for its answer, by `waitOnUpdate` (one packet) or by `sleep` (all packets).

From IBKR's documents (interactivebrokers.github.io/tws-api: order_submission, open_orders, executions_commissions,
message_codes, account_updates, account_summary, connection; the API users' guide for orderStatus; class Execution):
- an order id names one order of one client: used again while the order is open it modifies the order, afterwards it is
  refused (103, 104 for a filled order), as is an id below the next valid one, which outlives a restart; `orderRef` is
  free text, any number of orders may have the same; `permId` is unique and stays.
- `orderStatus` may come twice; for a market order that fills at once it commonly does not come at all (`quiet=True`).
- a fill's commission report is a message of its own; other clients' reports reach the master client only.
- an execution is corrected by one whose `execId` differs in the digits after the last dot (`revise`).
- executions are those since midnight; open orders are told per client, for all by reqAllOpenOrders; orders by hand have
  id 0 until client 0 binds them to negative ids; status and executions reach the order's own client and the master.
- 202 for an order that is cancelled, 201 for a rejected one, 200 for an unknown contract, 110 for a price off the grid,
  399 for an order that waits for the market to open, 10147 and 10148 for a cancel that is too late, 10243 for a
  fractional size, 387 for an order type that is not there, 326 for a client id in use, 1100 and 1102.
- account values and the summary come every three minutes, account values also when a position changes.
From the library's source: completed orders come without order id, client id and filled quantity in the status; they
come with size 0 and `filledQuantity` in logs quoted in public repositories (hadrianl/ibapi 18, scmhub/ibsync 11).
Not known from a document: the order of 202 and the status Cancelled and of 201 and Inactive; whether 100 names the
order; what becomes of an order sent while TWS has lost the broker (here: it vanishes without a word, as does a cancel);
whether a corrected execution is told beside the first one (here: both); what reqCompletedOrders says of a rejected
order (here: Inactive, and nothing of one that was refused at once); whether a restart keeps the order ids of open
orders (here: not, unless `keep_ids`); whether waiting day orders are told as Submitted at the open.
Not there: orders that are not transmitted, brackets, conditions, what-if, several accounts, market data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal

from ib_async import (
    IB,
    CommissionReport,
    Contract,
    ContractDetails,
    Execution,
    ExecutionFilter,
    IBDefaults,
    Order,
    OrderState,
    StartupFetch,
    StartupFetchALL,
    Stock,
)
from ib_async.client import Client
from ib_async.util import UNSET_DOUBLE
from ib_async.wrapper import Wrapper

from . import core as cores
from .core import NEW_YORK, ZERO, Core, Refused, Ticks, number
from .faults import FaultPlan

KINDS = {"ok", "drop_request", "drop_answer", "duplicate", "delay", "too_many", "outage"}
STATES = {"accepted": "PreSubmitted", "new": "Submitted", "partially_filled": "Submitted", "filled": "Filled",
          "pending_cancel": "PendingCancel", "canceled": "Cancelled", "expired": "Cancelled",
          "rejected": "Inactive"}  # fmt: skip
TYPES = {"MKT": ("market", ""), "LMT": ("limit", ""), "MOC": ("market", "cls"), "LOC": ("limit", "cls")}
TIMES = {"": "day", "DAY": "day", "GTC": "gtc", "OPG": "opg", "IOC": "ioc", "FOK": "fok"}
THREE_MINUTES = timedelta(minutes=3)

Call = Callable[[Wrapper], object]


class Hang(BaseException):
    """The real client would wait here for ever; no adapter may catch it."""


@dataclass
class Ticket:
    """What TWS knows of an order beside the core: its names, its owner and the order as it was sent."""

    perm_id: int
    client_id: int
    order_id: int
    contract: Contract
    order: Order
    core_id: str = ""
    state: str = ""
    by_hand: bool = False


@dataclass
class Line:
    """A connection. Packets wait in `queue`, each with the number of the turn from which it may be delivered."""

    client_id: int
    queue: deque[tuple[int, tuple[Call, ...]]] = field(default_factory=deque)
    turn: int = 0
    closed: bool = False
    summary: int | None = None
    updates: bool = False
    told: datetime | None = None

    def post(self, *calls: Call, after: int = 0) -> None:
        if not self.closed:
            self.queue.append((self.turn + after, calls))

    def next(self) -> tuple[Call, ...] | None:
        """The next packet that may come, an empty one for the end of the connection; None when there is none."""
        for index, (due, calls) in enumerate(self.queue):
            if due <= self.turn or not calls:
                del self.queue[index]
                return calls
        return None

    def skip(self) -> bool:
        """Let as many turns pass as the earliest packet waits for."""
        if self.queue:
            self.turn = max(self.turn, min(due for due, _ in self.queue))
        return bool(self.queue)

    def close(self) -> None:
        self.post()
        self.closed = True


def plain_order(order: Order, **new: object) -> Order:
    """A copy, as an order is after it went over the wire."""
    return Order(**{one.name: getattr(order, one.name) for one in fields(Order)} | new)


def error(code: int, text: str, about: int = -1) -> Call:
    return lambda wrapper: wrapper.error(about, code, text, "")


class Tws:
    """See the module's text.

    `lag`: how many turns of the client (requests and waits) a message stays on the way, by "execution", "status",
    "commission" (after its execution), "account"; `execution_first`: a fill's execution is told before its status;
    `quiet`: no status for market orders that fill at once; `twice`: each status comes twice; `master`: the master
    client id; `fractions`: sizes that are no whole numbers are taken."""

    def __init__(
        self,
        core: Core,
        faults: FaultPlan | None = None,
        account: str = "DU1234567",
        master: int | None = None,
        lag: dict[str, int] | None = None,
        execution_first: bool = True,
        quiet: bool = False,
        twice: bool = True,
        fractions: bool = False,
    ):
        self.core, self.faults, self.account, self.master = core, faults or FaultPlan(), account, master
        unknown = (set(self.faults.rates) | set(self.faults.script) | set(self.faults.at.values())) - KINDS
        if unknown:
            raise ValueError(f"faults that a line to TWS cannot have: {sorted(unknown)}")
        self.lag = {"execution": 0, "status": 0, "commission": 1, "account": 0} | (lag or {})
        self.execution_first, self.quiet, self.twice, self.fractions = execution_first, quiet, twice, fractions
        self.lines: dict[int, Line] = {}
        self.tickets: list[Ticket] = []
        self.next_ids: dict[int, int] = {}
        self.waiting: list[Callable[[], None]] = []
        self.withheld: list[Callable[[], None]] = []
        self.revisions: dict[int, list[tuple[Decimal, Decimal]]] = {}
        self.filled_at: dict[int, int] = {}
        self.up, self.broker, self.binds = True, True, False
        core.subscribe(self._on_event)

    # --- connections

    def open(self, client_id: int) -> Line:
        if not self.up:
            raise ConnectionRefusedError("no TWS listens here")
        if client_id in self.lines:
            raise ConnectionError(f"326: client id {client_id} is already in use")
        line = self.lines[client_id] = Line(client_id)
        line.post(lambda wrapper: wrapper.managedAccounts(self.account))
        return line

    def next_id(self, client_id: int) -> int:
        return self.next_ids.get(client_id, 1)

    def drop(self, line: Line | None = None) -> None:
        """Close a connection, or all of them."""
        for one in [line] if line else list(self.lines.values()):
            one.close()
            self.lines.pop(one.client_id, None)

    def stop(self) -> None:
        self.up = False
        self.drop()

    def start(self, keep_ids: bool = False) -> None:
        """Start TWS again: permanent ids stay, order ids of the last session are gone unless `keep_ids`."""
        self.up, self.binds = True, False
        for ticket in self.tickets if not keep_ids else ():
            ticket.order_id = 0

    def restart(self, keep_ids: bool = False) -> None:
        self.stop()
        self.start(keep_ids)

    def lose_broker(self) -> None:
        """1100: TWS has no connection to the broker; what happens is told when it is back."""
        if self.broker:
            self.broker = False
            for line in self.lines.values():
                line.post(error(1100, "Connectivity between IB and Trader Workstation has been lost."))

    def regain_broker(self) -> None:
        if not self.broker:
            self.broker = True
            text = "Connectivity between IB and Trader Workstation has been restored - data maintained."
            for line in self.lines.values():
                line.post(error(1102, text))
            withheld, self.withheld = self.withheld, []
            for post in withheld:
                post()

    # --- requests

    def request(self, line: Line, name: str, call: Callable[[], None], sure: bool = False, about: int = -1) -> None:
        """A message of a client meets the plan of faults (`sure`: it does not)."""
        kind = "ok" if sure else self.faults.decide("IB", name)
        if line.closed or kind == "drop_request":
            return self.drop(line) if not line.closed else None
        if kind == "delay":
            self.waiting.append(call)
            return None
        if kind == "too_many":
            return line.post(error(100, "Max rate of messages per second has been exceeded", about))
        if kind == "outage":
            self.lose_broker()
        elif not sure and self.faults.count("outage"):
            self.regain_broker()
        self.flush()  # a line keeps its order: what was delayed is read first
        before = len(line.queue)
        self.turn(line)
        orders = name in ("placeOrder", "cancelOrder", "reqGlobalCancel")
        for _ in range(2 if kind == "duplicate" and orders else 1):
            if self.broker or not orders:
                call()
        if kind == "drop_answer":
            while len(line.queue) > before:
                line.queue.pop()
            self.drop(line)
        return None

    def turn(self, line: Line) -> None:
        """A request or a wait has come: what waits in the core may happen."""
        line.turn += 1
        with self.core.lock:
            self.core.requests += 1
            if self.core.auto_step:
                self.core.step()
            if line.told and self.core.clock() - line.told >= THREE_MINUTES:
                self._tell_account(line)

    def flush(self) -> bool:
        """Take the requests that were delayed."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()
        return bool(waiting)

    def pass_time(self, seconds: float) -> None:
        if isinstance(self.core.clock, Ticks):
            self.core.clock.advance(seconds)

    # --- orders

    def place(self, line: Line, order_id: int, contract: Contract, order: Order) -> None:
        refuse = lambda code, text: line.post(error(code, text, order_id))
        known = self._ticket(line.client_id, order_id)
        if known:
            return self._modify(line, known, order)
        if order_id < self.next_id(line.client_id):
            return refuse(103, "Duplicate order id")
        if wrong := self._wrong(contract, order):
            return refuse(*wrong)
        self.next_ids[line.client_id] = order_id + 1
        self._take(Ticket(0, line.client_id, order_id, self._contract(contract.symbol), order))
        return None

    def by_hand(self, symbol: str, side: str, qty: object, limit: object = None) -> Ticket:
        """An order that somebody places in TWS itself."""
        price = {"lmtPrice": float(number(limit))} if limit is not None else {}
        order = Order(action=side.upper(), totalQuantity=float(number(qty)), orderType="LMT" if price else "MKT",
                      tif="DAY", **price)  # fmt: skip
        ticket = Ticket(0, 0, 0, self._contract(symbol), order, by_hand=True)
        if self.binds:
            self._bind(ticket)
        self._take(ticket)
        return ticket

    def bind(self, line: Line, on: bool) -> None:
        """reqAutoOpenOrders: orders by hand get negative ids, for client 0 only."""
        if line.client_id != 0:
            return line.post(error(321, "Error validating request:-'bH' : cause - Only the default client"))
        self.binds = on
        for ticket in self.tickets:
            if on and ticket.by_hand and not ticket.order_id and self._core(ticket).open:
                self._bind(ticket)
                line.post(*self._told(ticket))
        return None

    def _bind(self, ticket: Ticket) -> None:
        ticket.order_id = min([one.order_id for one in self.tickets] + [0]) - 1

    def _take(self, ticket: Ticket) -> None:
        order = ticket.order
        ticket.perm_id = 1900000000 + len(self.tickets) + 1
        ticket.order = plain_order(
            order, orderId=ticket.order_id, clientId=ticket.client_id, permId=ticket.perm_id, account=self.account,
            totalQuantity=float(number(order.totalQuantity)), tif=order.tif or "DAY",
            lmtPrice=float(number(order.lmtPrice)) if order.orderType in ("LMT", "LOC") else 0.0, auxPrice=0.0,
        )  # fmt: skip
        self.tickets.append(ticket)
        kind, tif = TYPES[order.orderType]
        try:
            self.core.submit(
                ticket.contract.symbol, "buy" if order.action == "BUY" else "sell", qty=number(order.totalQuantity),
                type=kind, tif=tif or TIMES[order.tif], client_id=order.orderRef, tws=ticket,
                limit=number(order.lmtPrice) if kind == "limit" else None,
            )  # fmt: skip
        except Refused as why:
            ticket.state = "Inactive"
            self._post(ticket, "status", error(201, f"Order rejected - reason:{why.text}", ticket.order_id),
                       *self._told(ticket))  # fmt: skip

    def _wrong(self, contract: Contract, order: Order) -> tuple[int, str] | None:
        """The code and the text for an order that TWS does not hand to the broker."""
        qty = number(order.totalQuantity)
        if self._find(contract) is None:
            return 200, "No security definition has been found for the request"
        if order.account not in ("", self.account):
            return 435, "You must specify an account."
        if order.orderType not in TYPES or order.tif not in TIMES or order.action not in ("BUY", "SELL"):
            return 387, "Unsupported order type for this exchange and security type."
        if qty <= 0:
            return 434, "The order size cannot be zero."
        if qty != qty.to_integral_value() and not self.fractions:
            return 10243, "Fractional-sized order cannot be placed via API. Please use desktop version"
        return self._wrong_price(order)

    def _wrong_price(self, order: Order) -> tuple[int, str] | None:
        if TYPES[order.orderType][0] != "limit":
            return None
        price = number(order.lmtPrice)
        step = Decimal("0.01") if price >= 1 else Decimal("0.0001")
        if price <= 0 or price == number(UNSET_DOUBLE) or price % step:
            return 110, "The price does not conform to the minimum price variation for this contract."
        return None

    def _modify(self, line: Line, ticket: Ticket, order: Order) -> None:
        """The order id of an order that TWS knows: what changed is changed, when it is still open."""
        core_order = self._core(ticket)
        if core_order is None or not core_order.open:
            filled = core_order is not None and core_order.status == "filled"
            code, text = (104, "Cannot modify a filled order.") if filled else (103, "Duplicate order id")
            return line.post(error(code, text, ticket.order_id))
        if order.action != ticket.order.action or order.orderType != ticket.order.orderType:
            return line.post(error(105, "Order being modified does not match original order", ticket.order_id))
        if wrong := self._wrong_price(order):
            return line.post(error(*wrong, ticket.order_id))
        with self.core.lock:
            qty = number(order.totalQuantity)
            limit = number(order.lmtPrice) if core_order.type == "limit" else None
            if (qty, limit) != (core_order.qty, core_order.limit):
                core_order.qty, core_order.limit = qty, limit
                ticket.order.totalQuantity, ticket.order.lmtPrice = float(qty), float(limit or 0)
                self.core.note("modified", core_order, limit=limit)
        self._post(ticket, "status", *self._told(ticket))
        if core_order.symbol in self.core.prices:
            self.core.set_price(core_order.symbol, self.core.prices[core_order.symbol])
        return None

    def cancel(self, line: Line, order_id: int) -> None:
        about = f"OrderId {order_id} that needs to be cancelled"
        ticket = self._ticket(line.client_id, order_id)
        if ticket is None:
            return line.post(error(10147, f"{about} is not found.", order_id))
        try:
            if ticket.core_id:
                self.core.cancel(ticket.core_id)
                return None
        except Refused:
            pass  # said below, after what the core did
        state = self._state(ticket)
        return line.post(error(10148, f"{about} cannot be cancelled, state: {state}.", order_id))

    def cancel_all(self) -> None:
        for order in self.core.open_orders():
            if not order.cancel_pending:
                try:
                    self.core.cancel(order.id)
                except Refused:
                    continue  # it filled first, and its messages say so

    def revise(self, execution: int, qty: object = None, price: object = None) -> None:
        """Correct the execution of a number (from 1): the same id with the next revision."""
        fill = self.core.executions[execution - 1]
        order = self.core.order(fill.order_id)
        with self.core.lock:
            old_qty, old_price = self._revisions(fill)[-1]
            new = (number(qty) if qty is not None else old_qty, number(price) if price is not None else old_price)
            instrument = self.core.instruments[order.symbol]
            change = new[0] * new[1] - old_qty * old_price
            self.core.balances[instrument.base] += (new[0] - old_qty) * order.sign
            self.core.balances[instrument.quote] -= change * order.sign
            self.core.costs[instrument.base] += change * order.sign
            order.filled, order.value = order.filled + new[0] - old_qty, order.value + change
            self.revisions.setdefault(fill.number, []).append(new)
            self.core.note("corrected", order, execution_id=fill.execution_id, fill_qty=new[0], price=new[1])
        self._tell_fill(order.extra["tws"], order, fill)

    # --- what happened, told to the clients

    def _on_event(self, line: dict, order: cores.Order) -> None:
        ticket = order.extra.get("tws")
        if ticket is None:
            return
        event, ticket.core_id = line["event"], order.id
        at_once = self.quiet and order.type == "market" and self.core.is_open
        if event == "fill":
            fill = order.fills[-1]
            self.filled_at[fill.number] = self.core.requests
            steps = [lambda: self._tell_fill(ticket, order, fill),
                     lambda: self._tell_status(ticket, order, at_once and fill.qty == order.qty)]  # fmt: skip
            for step in steps if self.execution_first else reversed(steps):
                step()
            return
        if event in ("canceled", "expired"):
            self._post(ticket, "status", error(202, "Order Canceled - reason:", ticket.order_id))
        if event == "rejected":
            self._post(ticket, "status", error(201, f"Order rejected - reason:{order.reason}", ticket.order_id))
        self._tell_status(ticket, order, at_once and event == "accepted")
        if event == "accepted" and not self.core.is_open:
            text = "Order Message:\nWarning: your order will not be placed at the exchange until the market opens"
            self._post(ticket, "status", error(399, text, ticket.order_id))

    def _tell_status(self, ticket: Ticket, order: cores.Order, silent: bool = False) -> None:
        opened, *status = self._told(ticket, order)
        self._post(ticket, "status", opened, *([] if silent else status * (2 if self.twice else 1)))

    def _tell_fill(self, ticket: Ticket, order: cores.Order, fill: cores.Fill) -> None:
        execution, report = self._executions(ticket, fill)[-1]
        self._post(ticket, "execution", lambda wrapper: wrapper.execDetails(-1, ticket.contract, execution()))
        self._post(ticket, "commission", lambda wrapper: wrapper.commissionReport(report()))  # never before it
        for line in self.lines.values():
            line.post(self._position(order.symbol), after=self.lag["account"])
            if line.updates:
                line.post(*self._portfolio([order.symbol]), *self._values(), after=self.lag["account"])

    def _post(self, ticket: Ticket, kind: str, *calls: Call) -> None:
        """To the order's own client and the master; later when the broker is away."""
        if not self.broker:
            return self.withheld.append(lambda: self._post(ticket, kind, *calls))
        for client_id in {ticket.client_id, self.master} & set(self.lines):
            if not ticket.by_hand or client_id in (0, self.master):
                later = self.lag["execution"] if kind == "commission" else 0
                self.lines[client_id].post(*calls, after=self.lag[kind] + later)
        return None

    def _told(self, ticket: Ticket, order: cores.Order | None = None) -> list[Call]:
        """openOrder and orderStatus of a ticket as it stands now, or as the core's event saw it."""
        order = order or self._core(ticket)
        state = STATES[order.status] if order else ticket.state
        sent = plain_order(ticket.order, orderId=ticket.order_id)
        done = float(order.filled) if order else 0.0
        left = 0.0 if state == "Filled" else max(float(sent.totalQuantity) - done, 0.0)
        average = float(order.average or 0) if order else 0.0
        last = float(order.fills[-1].price) if order and order.fills else 0.0
        opened = lambda wrapper: wrapper.openOrder(
            sent.orderId, ticket.contract, plain_order(sent), OrderState(status=state)
        )
        status = lambda wrapper: wrapper.orderStatus(
            sent.orderId, state, done, left, average, ticket.perm_id, 0, last, ticket.client_id, "", 0.0
        )
        return [opened, status]

    # --- listings

    def open_orders(self, line: Line, everyone: bool) -> None:
        calls: list[Call] = []
        for ticket in self.tickets:
            order = self._core(ticket)
            mine = ticket.client_id == line.client_id and (not ticket.by_hand or ticket.order_id != 0)
            if order and order.open and self._visible(order) and (everyone or mine):
                calls += self._told(ticket)
        line.post(*calls, lambda wrapper: wrapper.openOrderEnd())

    def completed_orders(self, line: Line, api_only: bool) -> None:
        calls: list[Call] = []
        for ticket in self.tickets:
            order = self._core(ticket)
            if order is None or order.open or not self._visible(order) or (api_only and ticket.by_hand):
                continue
            if self._today(order.updated):
                calls.append(self._completed(ticket, order))
        line.post(*calls, lambda wrapper: wrapper.completedOrdersEnd())

    def _completed(self, ticket: Ticket, order: cores.Order) -> Call:
        kept = ("action", "orderType", "lmtPrice", "auxPrice", "tif", "account", "orderRef", "permId")
        values = {name: getattr(ticket.order, name) for name in kept}
        done = Order(**values, totalQuantity=0.0, filledQuantity=float(order.filled))
        when = f"{order.updated.astimezone(NEW_YORK):%Y%m%d %H:%M:%S} America/New_York"
        size = f"Filled Size: {order.filled:f}"
        state = OrderState(status=STATES[order.status], completedStatus=size, completedTime=when)
        return lambda wrapper: wrapper.completedOrder(ticket.contract, done, state)

    def executions(self, line: Line, request: int, wanted: ExecutionFilter) -> None:
        calls: list[Call] = []
        for fill in self.core.executions:
            order = self.core.order(fill.order_id)
            ticket = order.extra.get("tws")
            if ticket is None or not self._visible(order) or not self._today(fill.time):
                continue
            if not self._wanted(ticket, fill, wanted):
                continue
            reported = self.core.requests - self.filled_at[fill.number] > self.lag["commission"]
            for execution, report in self._executions(ticket, fill):
                calls.append(self._detail(request, ticket.contract, execution))
                if reported and line.client_id in (ticket.client_id, self.master):
                    calls.append(lambda wrapper, report=report: wrapper.commissionReport(report()))
        line.post(*calls, lambda wrapper: wrapper.execDetailsEnd(request))

    def _detail(self, request: int, contract: Contract, execution: Callable[[], Execution]) -> Call:
        return lambda wrapper: wrapper.execDetails(request, contract, execution())

    def _wanted(self, ticket: Ticket, fill: cores.Fill, wanted: ExecutionFilter) -> bool:
        moment = fill.time.astimezone(NEW_YORK).strftime("%Y%m%d %H:%M:%S")
        return (
            wanted.clientId in (0, ticket.client_id)
            and wanted.acctCode in ("", self.account)
            and wanted.symbol in ("", ticket.contract.symbol)
            and wanted.secType in ("", "STK")
            and wanted.side in ("", ticket.order.action)
            and moment >= wanted.time.replace("-", " ")[:17]
        )

    def _executions(
        self, ticket: Ticket, fill: cores.Fill
    ) -> list[tuple[Callable[[], Execution], Callable[[], CommissionReport]]]:
        """The execution in each of its revisions with its report, made anew for each client that hears of it."""
        rows = []
        for index, (qty, price) in enumerate(self._revisions(fill), start=1):
            order = self.core.order(fill.order_id)
            name = f"0000e0d5.6593f{fill.number:03x}.01.{index:02d}"
            facts = dict(
                execId=name, time=fill.time.replace(microsecond=0), acctNumber=self.account, exchange="ISLAND",
                side="BOT" if order.side == "buy" else "SLD", shares=float(qty), price=float(price),
                permId=ticket.perm_id, clientId=ticket.client_id, orderId=ticket.order_id,
                cumQty=float(fill.cumulative + qty - fill.qty), avgPrice=float(order.average or 0),
                orderRef=ticket.order.orderRef, lastLiquidity=2,
            )  # fmt: skip
            report = dict(execId=name, commission=float(fill.fee), currency=self.core.currency,
                          realizedPNL=UNSET_DOUBLE, yield_=UNSET_DOUBLE)  # fmt: skip
            rows.append((lambda facts=facts: Execution(**facts), lambda report=report: CommissionReport(**report)))
        return rows

    def _revisions(self, fill: cores.Fill) -> list[tuple[Decimal, Decimal]]:
        return [(fill.qty, fill.price), *self.revisions.get(fill.number, [])]

    # --- positions and the account

    def positions(self, line: Line) -> None:
        line.post(*[self._position(one) for one in self._symbols()], lambda wrapper: wrapper.positionEnd())

    def _symbols(self) -> list[str]:
        return [one for one in sorted(self.core.instruments) if self.core.position(one)]

    def _position(self, symbol: str) -> Call:
        qty, cost = self._held(symbol)
        return lambda wrapper: wrapper.position(self.account, self._contract(symbol), qty, cost)

    def _held(self, symbol: str) -> tuple[float, float]:
        qty = self.core.position(symbol)
        return float(qty), float(self.core.costs[self.core.instruments[symbol].base] / qty) if qty else 0.0

    def _portfolio(self, symbols: Iterable[str]) -> list[Call]:
        calls: list[Call] = []
        for symbol in symbols:
            (qty, cost), price = self._held(symbol), float(self.core.mark(symbol))
            row = (self._contract(symbol), qty, price, qty * price, cost, qty * (price - cost), 0.0, self.account)
            calls.append(lambda wrapper, row=row: wrapper.updatePortfolio(*row))
        return calls

    def _facts(self) -> dict[str, Decimal]:
        core = self.core
        cash, equity = core.balances[core.currency], core.equity()
        free = max(core.free(core.currency) * core.cash_multiple, ZERO)
        return {
            "NetLiquidation": equity, "TotalCashValue": cash, "SettledCash": cash, "AccruedCash": ZERO,
            "BuyingPower": free, "EquityWithLoanValue": equity, "AvailableFunds": free, "ExcessLiquidity": free,
            "GrossPositionValue": sum((abs(core.position(one) * core.mark(one)) for one in core.instruments), ZERO),
        }  # fmt: skip

    def _rows(self) -> list[tuple[str, str, str]]:
        """Tag, value and currency, as reqAccountUpdates tells them: the ledger comes in the currency and in BASE."""
        facts, currency = self._facts(), self.core.currency
        rows = [(tag, f"{value:.2f}", currency) for tag, value in facts.items()]
        for name in (currency, "BASE"):
            rows += [("CashBalance", f"{facts['TotalCashValue']:.2f}", name),
                     ("TotalCashBalance", f"{facts['TotalCashValue']:.2f}", name),
                     ("NetLiquidationByCurrency", f"{facts['NetLiquidation']:.2f}", name)]  # fmt: skip
        return [("AccountCode", self.account, ""), ("AccountType", "INDIVIDUAL", ""), *rows]

    def _values(self) -> list[Call]:
        return [lambda wrapper, row=row: wrapper.updateAccountValue(*row, self.account) for row in self._rows()]

    def account_updates(self, line: Line) -> None:
        line.updates, line.told = True, self.core.clock()
        end = lambda wrapper: wrapper.accountDownloadEnd(self.account)
        line.post(*self._values(), *self._portfolio(self._symbols()), end)

    def account_updates_multi(self, line: Line, request: int) -> None:
        calls: list[Call] = [
            lambda wrapper, row=row: wrapper.accountUpdateMulti(request, self.account, "", *row) for row in self._rows()
        ]
        line.post(*calls, lambda wrapper: wrapper.accountUpdateMultiEnd(request))

    def account_summary(self, line: Line, request: int) -> None:
        line.summary, line.told = request, self.core.clock()
        line.post(*self._summary(request), lambda wrapper: wrapper.accountSummaryEnd(request))

    def _summary(self, request: int) -> list[Call]:
        rows = [(tag, f"{value:.2f}", self.core.currency) for tag, value in self._facts().items()]
        rows.append(("AccountType", "INDIVIDUAL", ""))
        return [lambda wrapper, row=row: wrapper.accountSummary(request, self.account, *row) for row in rows]

    def _tell_account(self, line: Line) -> None:
        line.told = self.core.clock()
        if line.updates:
            line.post(*self._values(), *self._portfolio(self._symbols()))
        if line.summary is not None:
            line.post(*self._summary(line.summary))

    # --- contracts and look-ups

    def details(self, line: Line, request: int, contract: Contract) -> None:
        found = self._find(contract)
        if found is None:
            return line.post(error(200, "No security definition has been found for the request", request))
        row = ContractDetails(contract=found, minTick=0.01, longName=found.symbol)
        return line.post(lambda wrapper: wrapper.contractDetails(request, row),
                         lambda wrapper: wrapper.contractDetailsEnd(request))  # fmt: skip

    def _contract(self, symbol: str) -> Contract:
        number_of = list(self.core.instruments).index(symbol) + 1
        return Stock(symbol, "SMART", self.core.currency, conId=265000 + number_of, primaryExchange="NASDAQ",
                     localSymbol=symbol, tradingClass="NMS")  # fmt: skip

    def _find(self, contract: Contract) -> Contract | None:
        for symbol in self.core.instruments:
            one = self._contract(symbol)
            if contract.conId and contract.conId == one.conId:
                return one
            named = contract.symbol == symbol and contract.secType in ("", "STK") and not contract.conId
            if named and contract.currency in ("", one.currency):
                return one
        return None

    def _ticket(self, client_id: int, order_id: int) -> Ticket | None:
        owned = [one for one in self.tickets if (one.client_id, one.order_id) == (client_id, order_id)]
        return owned[-1] if owned and order_id else None

    def _core(self, ticket: Ticket) -> cores.Order | None:
        return self.core.order(ticket.core_id) if ticket.core_id else None

    def _state(self, ticket: Ticket) -> str:
        order = self._core(ticket)
        return STATES[order.status] if order else ticket.state

    def _visible(self, order: cores.Order) -> bool:
        age = (self.core.clock() - order.created).total_seconds()
        return self.faults.shows(order.seen_at, self.core.requests, age)

    def _today(self, moment: datetime) -> bool:
        return moment.astimezone(NEW_YORK).date() == self.core.clock().astimezone(NEW_YORK).date()


class Answer:
    """The future of a request, without an event loop."""

    def __init__(self):
        self._done, self._result, self._error = False, None, None

    def done(self) -> bool:
        return self._done

    def set_result(self, result: object) -> None:
        self._done, self._result = True, result

    def set_exception(self, error: BaseException) -> None:
        self._done, self._error = True, error

    def result(self) -> object:
        if self._error:
            raise self._error
        return self._result

    def __await__(self):
        while not self._done:
            yield self
        return self.result()


class Ears(Wrapper):
    """ib_async's wrapper with TWS' clock and answers that need no loop."""

    def startReq(self, key, contract=None, container=None):
        future = self._futures[key] = Answer()
        self._results[key] = container if container is not None else []
        if contract:
            self._reqId2Contract[key] = contract
        return future

    def tcpDataArrived(self):
        self.lastTime = self.ib.tws.core.clock()
        self.time = self.lastTime.timestamp()


class Mouth(Client):
    """ib_async's client with a `Line` for a socket."""

    def __init__(self, wrapper: Wrapper, tws: Tws):
        super().__init__(wrapper)
        self.tws, self.line, self.sure = tws, None, False

    def open(self, host: str, port: int, client_id: int) -> None:
        if self.isConnected():
            raise ConnectionError("already connected")
        self.line = self.tws.open(client_id)
        self.host, self.port, self.clientId = host, int(port), client_id
        self.connState, self._apiReady, self._accounts = Client.CONNECTED, True, [self.tws.account]
        self.updateReqId(self.tws.next_id(client_id))

    def disconnect(self) -> None:
        if self.line and not self.line.closed:
            self.tws.drop(self.line)
        self.line = None
        self.reset()

    def deliver(self) -> bool:
        """Let the next packet in; False when none may come yet."""
        calls = self.line.next() if self.line else None
        if calls is None:
            return False
        if not calls:
            self.line = None
            self._onSocketDisconnected("Peer closed connection.")
            return True
        self._tcpDataArrived()
        for call in calls:
            call(self.wrapper)
        self._tcpDataProcessed()
        return True

    def _ask(self, name: str, call: Callable[..., None], *facts: object, about: int = -1) -> None:
        if not self.isConnected():
            raise ConnectionError("Not connected")
        line = self.line
        self.tws.request(line, name, lambda: call(line, *facts), self.sure, about)

    def send(self, *fields, makeEmpty=True):
        raise NotImplementedError(f"the stand-in of TWS does not know the message {fields[0]}")

    def placeOrder(self, orderId, contract, order):
        if not order.orderType.startswith("VOL"):
            order.volatility = None  # as the real client does
        self._ask("placeOrder", self.tws.place, orderId, contract, plain_order(order), about=orderId)

    def cancelOrder(self, orderId, manualCancelOrderTime=""):
        self._ask("cancelOrder", self.tws.cancel, orderId, about=orderId)

    def reqGlobalCancel(self):
        self._ask("reqGlobalCancel", lambda line: self.tws.cancel_all())

    def reqOpenOrders(self):
        self._ask("reqOpenOrders", self.tws.open_orders, False)

    def reqAllOpenOrders(self):
        self._ask("reqAllOpenOrders", self.tws.open_orders, True)

    def reqAutoOpenOrders(self, bAutoBind):
        self._ask("reqAutoOpenOrders", self.tws.bind, bAutoBind)

    def reqCompletedOrders(self, apiOnly):
        self._ask("reqCompletedOrders", self.tws.completed_orders, apiOnly)

    def reqExecutions(self, reqId, execFilter):
        self._ask("reqExecutions", self.tws.executions, reqId, execFilter, about=reqId)

    def reqPositions(self):
        self._ask("reqPositions", self.tws.positions)

    def reqAccountUpdates(self, subscribe, acctCode):
        self._ask("reqAccountUpdates", self.tws.account_updates)

    def reqAccountUpdatesMulti(self, reqId, account, modelCode, ledgerAndNLV):
        self._ask("reqAccountUpdatesMulti", self.tws.account_updates_multi, reqId, about=reqId)

    def reqAccountSummary(self, reqId, groupName, tags):
        self._ask("reqAccountSummary", self.tws.account_summary, reqId, about=reqId)

    def reqContractDetails(self, reqId, contract):
        self._ask("reqContractDetails", self.tws.details, reqId, contract, about=reqId)

    def reqCurrentTime(self):
        now = int(self.tws.core.clock().timestamp())
        self._ask("reqCurrentTime", lambda line: line.post(lambda wrapper: wrapper.currentTime(now)))


class FakeIB(IB):
    """ib_async's IB, connected to a `Tws` instead of a socket. The methods that wait do so without an event loop."""

    def __init__(self, tws: Tws, defaults: IBDefaults | None = None):
        self.tws, defaults = tws, defaults or IBDefaults()
        super().__init__(defaults)
        self.wrapper = Ears(self, defaults=defaults)
        self.client = Mouth(self.wrapper, tws)
        self.client.apiEnd += self.disconnectedEvent

    def connect(
        self,
        host: str = "127.0.0.1",
        port: int = 7497,
        clientId: int = 1,
        timeout: float = 4,
        readonly: bool = False,
        account: str = "",
        raiseSyncErrors: bool = False,
        fetchFields: StartupFetch = StartupFetchALL,
    ):
        """As `connectAsync` does it, one request after the other; faults spare it (`Tws.stop` does not)."""
        try:
            self.client.open(host, port, int(clientId))
            self.wrapper.clientId = int(clientId)
            self.client.deliver()
            self.client.sure = True
            if int(clientId) == 0:
                self.reqAutoOpenOrders(True)
            self.reqPositions()
            if not readonly and fetchFields & StartupFetch.ORDERS_OPEN:
                self.reqOpenOrders()
            if not readonly and fetchFields & StartupFetch.ORDERS_COMPLETE:
                self.reqCompletedOrders(False)
            if fetchFields & StartupFetch.ACCOUNT_UPDATES:
                self.reqAccountUpdates(account or self.tws.account)
            if fetchFields & StartupFetch.SUB_ACCOUNT_UPDATES:
                self.reqAccountUpdatesMulti(self.tws.account)
            if fetchFields & StartupFetch.EXECUTIONS:
                self.reqExecutions()
            self.connectedEvent.emit()
        except BaseException:
            self.disconnect()
            raise
        finally:
            self.client.sure = False
        return self

    async def connectAsync(self, *args, **kwargs):
        return self.connect(*args, **kwargs)

    def qualifyContracts(self, *contracts: Contract) -> list[Contract | None]:
        """In place, with None for what is unknown, as version 2 of the library gives it."""
        found = []
        for contract in contracts:
            rows = self.reqContractDetails(contract)
            if rows:
                for one in fields(Contract):
                    if (value := getattr(rows[0].contract, one.name)) != one.default:
                        setattr(contract, one.name, value)
            found.append(contract if rows else None)
        return found

    def _run(self, *awaitables):
        results = [self._finish(one) for one in awaitables]
        return results[0] if len(results) == 1 else results

    def _finish(self, awaitable):
        if isinstance(awaitable, Answer):
            self._wait_for(awaitable)
            return awaitable.result()
        try:
            while True:
                self._wait_for(awaitable.send(None))
        except StopIteration as end:
            return end.value

    def _wait_for(self, answer: Answer) -> None:
        while not answer.done():
            line = self.client.line
            if self.client.deliver() or (line and line.skip()) or self.tws.flush():
                continue
            if not self.RequestTimeout:
                raise Hang("a request without RequestTimeout is never answered")
            self.tws.pass_time(self.RequestTimeout)
            raise TimeoutError

    def waitOnUpdate(self, timeout: float = 0) -> bool:
        """Let one packet in; False, and the time has passed, when there is none."""
        line = self.client.line
        if line and not line.closed:
            self.tws.turn(line)
        if self.client.deliver() or ((self.tws.flush() or line and line.skip()) and self.client.deliver()):
            return True
        if not timeout:
            raise Hang("waitOnUpdate without a timeout, and nothing comes")
        self.tws.pass_time(timeout)
        return False

    def sleep(self, secs: float = 0.02) -> bool:
        """Let all packets in that may come, and the time pass."""
        line = self.client.line
        if line and not line.closed:
            self.tws.turn(line)
        self.tws.flush()
        while self.client.deliver():
            pass
        self.tws.pass_time(secs)
        return True

    def _onError(self, reqId, errorCode, errorString, contract):
        if errorCode == 1102:
            self.reqAccountSummaryAsync()  # the library asks again; nobody waits for the answer
