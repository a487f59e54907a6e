"""A stand-in of ib_async.IB 2.0.1: the methods that an adapter uses, over the core, without a socket.

From the source of ib_async 2.0.1 (`ib.py`, `wrapper.py`, `order.py`, `objects.py`): `placeOrder` returns a Trade with
`PendingSubmit` at once, whether or not anybody heard it; an error of an order makes it `Cancelled` with the code in its
log; `cancelOrder` writes `PendingCancel` by itself; `reqAllOpenOrders` and `reqCompletedOrders` give what TWS has, the
finished ones without their filled shares; `reqExecutions` gives fills of every client, whose commissions come apart and
are found in `fills()` only.
Not known from a document: the order in which TWS sends these, error 201 for every refusal, `Inactive` for an order that
is rejected later, and that a day order's end is told as `Cancelled`."""

from __future__ import annotations

from ib_async import Contract, Execution, Fill, Order, OrderStatus, Stock, Trade
from ib_async.objects import AccountValue, CommissionReport, Position, TradeLogEntry

from .core import Core, Refused, number
from .core import Order as CoreOrder
from .faults import FaultPlan, Lost, Wire

STATUS = {"accepted": "PreSubmitted", "new": "Submitted", "partially_filled": "Submitted", "filled": "Filled",
          "canceled": "Cancelled", "expired": "Cancelled", "rejected": "Inactive", "replaced": "Cancelled",
          "pending_cancel": "PendingCancel"}  # fmt: skip


class Tws:
    """What is on the other side: the core and the plan of faults. TWS takes every `orderRef`, however often it comes.
    A plan may lose requests and answers, and deliver late; TWS has no statuses of HTTP."""

    def __init__(self, core: Core, faults: FaultPlan | None = None):
        self.core, self.faults = core, faults or FaultPlan()
        unknown = set(self.faults.rates) | set(self.faults.script) | set(self.faults.at.values())
        if unknown - {"ok", "drop_request", "drop_answer", "delay"}:
            raise ValueError(f"faults that TWS cannot have: {sorted(unknown)}")
        self.wire = Wire(self.faults)

    def visible(self, order: CoreOrder) -> bool:
        age = (self.core.clock() - order.created).total_seconds()
        return self.faults.shows(order.seen_at, self.core.requests, age)


class FakeIB:
    """One client's objects: a new one knows nothing but what TWS tells."""

    def __init__(self, tws: Tws):
        self.tws, self.core = tws, tws.core
        self.trades: dict[str, Trade] = {}
        self._fills: dict[str, Fill] = {}

    def _call(self, method: str, path: str, call):
        def done():
            self.core.requests += 1
            return call()

        return self.tws.wire(method, path, done)

    # --- orders

    def placeOrder(self, contract: Contract, order: Order) -> Trade:
        trade = Trade(contract, order, OrderStatus(status="PendingSubmit"), [], [])

        def take():
            try:
                made = self.core.submit(
                    contract.symbol, order.action.lower(), number(order.totalQuantity), client_id=order.orderRef,
                    tif="opg" if order.tif == "OPG" else "cls" if order.orderType == "MOC" else "day",
                )  # fmt: skip
            except Refused as why:
                trade.orderStatus.status = "Cancelled"
                text = f"Error 201, reqId 1: Order rejected - reason:{why.text}"
                trade.log.append(TradeLogEntry(self.core.clock(), "Cancelled", text, 201))
                return None
            order.permId, self.trades[made.id] = made.number, trade
            return made

        heard = self._quietly("POST", "/placeOrder", take)
        if heard is not None:
            trade.orderStatus.status = STATUS[self.core.order(heard.id).status]
        return trade

    def _quietly(self, method: str, path: str, call):
        "Nobody hears that a message was lost."
        try:
            return self._call(method, path, call)
        except Lost:
            return None

    def cancelOrder(self, order: Order) -> Trade | None:
        mine = [one for one in self.trades.values() if one.order.permId == order.permId]
        for trade in mine:
            trade.orderStatus.status = "PendingCancel"

        def cancel():
            try:
                self.core.cancel(str(order.permId))
            except Refused:
                return None

        self._quietly("POST", "/cancelOrder", cancel)
        return mine[0] if mine else None

    def _told(self, one: CoreOrder) -> Trade:
        "What TWS says of an order; the object that is known already is changed."
        if one.id not in self.trades:
            order = Order(action=one.side.upper(), totalQuantity=float(one.qty), orderRef=one.client_id)
            self.trades[one.id] = Trade(Stock(one.symbol, "SMART", "USD"), order, OrderStatus(), [], [])
        trade = self.trades[one.id]
        trade.order.permId, trade.orderStatus.status = one.number, STATUS[one.status]
        if one.reason and not trade.log:
            trade.log.append(TradeLogEntry(self.core.clock(), "Inactive", f"Error 201: {one.reason}", 201))
        return trade

    def _orders(self, path: str, open: bool) -> list[Trade]:
        chosen = lambda: [self._told(one) for one in self.core.orders if one.open is open and self.tws.visible(one)]
        return self._call("GET", path, chosen)

    def reqAllOpenOrders(self) -> list[Trade]:
        return self._orders("/openOrders", True)

    def reqCompletedOrders(self, apiOnly: bool) -> list[Trade]:
        return self._orders("/completedOrders", False)

    def waitOnUpdate(self, timeout: float = 0) -> bool:
        return False

    # --- fills and the book

    def reqExecutions(self) -> list[Fill]:
        return self._call("GET", "/executions", self._executions)

    def _executions(self) -> list[Fill]:
        bare = []
        for one in self.core.executions:
            order = self.core.order(one.order_id)
            if not self.tws.visible(order):
                continue
            done = Execution(
                execId=f"{one.execution_id}.01", time=one.time, side="BOT" if order.side == "buy" else "SLD",
                shares=float(one.qty), price=float(one.price), permId=order.number, orderRef=order.client_id,
            )  # fmt: skip
            fill = Fill(Stock(order.symbol, "SMART", "USD"), done, CommissionReport(), one.time)
            bare.append(fill)
            paid = CommissionReport(execId=done.execId, commission=float(one.fee), currency="USD")
            self._fills[done.execId] = fill._replace(commissionReport=paid)
        return bare

    def fills(self) -> list[Fill]:
        return list(self._fills.values())

    def positions(self, account: str = "") -> list[Position]:
        held = {symbol: self.core.position(symbol) for symbol in self.core.instruments}
        rows = [(Stock(symbol, "SMART", "USD"), float(n)) for symbol, n in held.items() if n]
        return self._call("GET", "/positions", lambda: [Position(account, one, n, 0.0) for one, n in rows])

    def accountValues(self, account: str = "") -> list[AccountValue]:
        cash = f"{self.core.balances['USD']}"
        return [AccountValue(account, "CashBalance", cash, "USD", "")]
