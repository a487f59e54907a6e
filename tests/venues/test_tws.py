"The stand-in of TWS itself, against ib_async's own types and IBKR's documented rules."

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

import pytest

ib_async = pytest.importorskip("ib_async", reason="ib_async is not installed: pip install 'quantlab[ib]'")
sys.path.insert(0, str(Path(__file__).parent))

from fakes.core import Core  # noqa: E402
from fakes.faults import FaultPlan  # noqa: E402
from fakes.tws import FakeIB, Hang, Tws  # noqa: E402
from ib_async import Fill, LimitOrder, MarketOrder, Stock, Trade  # noqa: E402

DAY = "2024-01-02"


def setup(opened=True, client=1, core=None, **settings):
    core = Core(instruments=["AAPL", "BA"], shorting=True, **(core or {}))
    core.set_price("AAPL", "100")
    if opened:
        core.open_session(DAY)
    tws = Tws(core, **settings)
    return core, tws, joined(tws, client), Stock("AAPL", "SMART", "USD")


def joined(tws, client=1):
    ib = FakeIB(tws)
    ib.errors = []
    ib.errorEvent += lambda about, code, text, contract: ib.errors.append((about, code))
    return ib.connect(clientId=client)


def codes(ib):
    ib.sleep()
    ib.sleep()
    return [code for _, code in ib.errors]


def test_it_is_the_librarys_own_class_and_gives_its_own_types():
    core, tws, ib, aapl = setup()
    assert isinstance(ib, ib_async.IB) and ib.isConnected() and ib.managedAccounts() == ["DU1234567"]
    assert ib.qualifyContracts(aapl, Stock("NONE", "SMART", "USD")) == [aapl, None] and aapl.conId
    trade = ib.placeOrder(aapl, LimitOrder("BUY", 3, 101.0, orderRef="a"))
    assert isinstance(trade, Trade) and trade.orderStatus.status == "PendingSubmit", "nothing came yet"
    ib.sleep()
    ib.sleep()
    assert (trade.orderStatus.status, trade.orderStatus.filled, trade.order.permId) == ("Filled", 3, 1900000001)
    assert [type(one) for one in ib.fills()] == [Fill] and ib.fills()[0].execution.orderRef == "a"
    assert [(one.contract.symbol, one.position, one.avgCost) for one in ib.positions()] == [("AAPL", 3, 100)]
    assert {one.tag: one.value for one in ib.accountValues()}["TotalCashValue"] == "99700.00"
    assert ib.portfolio()[0].marketValue == 300 and core.position("AAPL") == 3


def test_a_reference_may_be_used_twice_and_an_order_id_may_not():
    core, tws, ib, aapl = setup()
    ib.placeOrder(aapl, MarketOrder("BUY", 1, orderRef="a"))
    last = ib.placeOrder(aapl, MarketOrder("BUY", 1, orderRef="a")).order.orderId
    assert core.accepted_twice() == ["a"]
    assert codes(ib) == []
    ib.client.placeOrder(last, aapl, MarketOrder("BUY", 1, orderRef="b"))
    ib.client.placeOrder(last - 1, aapl, MarketOrder("BUY", 1))
    assert codes(ib) == [104, 104], "both are filled"
    other = joined(tws, 2)
    other.client.placeOrder(9, aapl, MarketOrder("BUY", 1))
    other.client.placeOrder(8, aapl, MarketOrder("BUY", 1))
    assert codes(other) == [103] and len(core.orders) == 3


def test_an_open_orders_id_modifies_it_and_a_message_sent_twice_is_one_order():
    core, tws, ib, aapl = setup(faults=FaultPlan(script=["duplicate"], only="placeOrder"))
    trade = ib.placeOrder(aapl, LimitOrder("BUY", 3, 90.0, orderRef="a"))
    trade.order.lmtPrice = 95.0
    assert ib.placeOrder(aapl, trade.order) is trade and core.orders[0].limit == 95
    assert len(core.orders) == 1 and codes(ib) == [] and trade.isActive()


def test_an_order_for_a_closed_market_is_held_with_a_warning_that_leaves_it_alive():
    core, tws, ib, aapl = setup(opened=False)
    trade = ib.placeOrder(aapl, MarketOrder("BUY", 1))
    assert ib.waitOnUpdate(1) and trade.orderStatus.status == "PreSubmitted"
    assert codes(ib) == [399] and trade.orderStatus.status == "ValidationError" and trade.isActive()
    core.open_session(DAY)
    codes(ib)
    assert trade.orderStatus.status == "Filled"


def test_what_the_broker_or_tws_refuses():
    core, tws, ib, aapl = setup()
    orders = [
        (201, aapl, MarketOrder("BUY", 1001)), (200, Stock("NONE", "SMART", "USD"), MarketOrder("BUY", 1)),
        (110, aapl, LimitOrder("BUY", 1, 99.995)), (10243, aapl, MarketOrder("BUY", 0.5)),
        (387, aapl, MarketOrder("BUY", 1, tif="GTX")),
    ]  # fmt: skip
    trades = [ib.placeOrder(contract, order) for _, contract, order in orders]
    assert codes(ib) == [code for code, _, _ in orders] and core.orders == []
    assert [one.orderStatus.status for one in trades] == ["Inactive"] + ["Cancelled"] * 4
    core.plan("late", reject="halted")
    trade = ib.placeOrder(aapl, MarketOrder("BUY", 1, orderRef="late"))
    ib.sleep()
    assert trade.orderStatus.status == "Submitted"
    core.step()
    assert codes(ib)[-1] == 201 and trade.orderStatus.status == "Inactive"


def test_a_cancel_is_taken_or_too_late():
    core, tws, ib, aapl = setup()
    core.plan("slow", cancel="later")
    first = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0))
    slow = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef="slow"))
    assert ib.cancelOrder(first.order).orderStatus.status == "PendingCancel"
    assert codes(ib) == [202] and first.orderStatus.status == "Cancelled"
    ib.cancelOrder(slow.order)
    ib.cancelOrder(slow.order)
    assert codes(ib) == [202, 10148] and slow.orderStatus.status == "Cancelled", "the library says so and is wrong"
    assert [one.orderStatus.status for one in ib.reqAllOpenOrders()] == ["PendingCancel"]
    core.step()
    ib.client.cancelOrder(77)
    assert codes(ib)[2:] == [202, 10147] and core.orders[1].status == "canceled"


def test_a_cancel_that_loses_to_a_fill():
    for lag, after in ((0, ["Filled"]), (3, ["Cancelled", "Filled"])):
        core, tws, ib, aapl = setup(lag={"execution": lag, "status": lag})
        core.plan("AAPL", cancel="filled_first")
        trade = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0))
        for _ in range(4):
            ib.sleep()
        seen = []
        trade.statusEvent += lambda one, seen=seen: seen.append(one.orderStatus.status)
        ib.cancelOrder(trade.order)
        for _ in range(5):
            ib.sleep()
        assert seen == ["PendingCancel", *after] and ib.errors == [(trade.order.orderId, 10148)]
        assert trade.filled() == 1


def test_a_market_order_that_fills_at_once_may_come_without_a_status():
    core, tws, ib, aapl = setup(quiet=True)
    trade = ib.placeOrder(aapl, MarketOrder("BUY", 1))
    codes(ib)
    assert trade.orderStatus.status == "PendingSubmit" and trade.filled() == 1 and ib.openTrades() == [trade]
    assert ib.reqAllOpenOrders() == []


def test_a_fill_comes_before_its_status_and_its_report_later():
    core, tws, ib, aapl = setup(core={"fee_rate": "0.001"}, lag={"commission": 3})
    trade = ib.placeOrder(aapl, MarketOrder("BUY", 2))
    seen = []
    ib.execDetailsEvent += lambda one, fill: seen.append(("fill", one.orderStatus.status, fill.commissionReport.execId))
    ib.commissionReportEvent += lambda one, fill, report: seen.append(("report", report.commission))
    while ib.waitOnUpdate(1):
        pass
    assert seen == [("fill", "Submitted", ""), ("report", 0.2)] and trade.orderStatus.status == "Filled"
    again = joined(tws, 2)
    assert [one.commissionReport.execId for one in again.fills()] == [""], "reports go to the order's own client"
    assert [one.commissionReport.commission for one in joined(tws, 3).reqExecutions()] == [0.0]
    ib.disconnect()
    assert [one.commissionReport.commission for one in joined(tws, 1).fills()] == [0.2]


def test_a_corrected_execution_has_the_next_revision():
    core, tws, ib, aapl = setup()
    trade = ib.placeOrder(aapl, MarketOrder("BUY", 2, orderRef="a"))
    codes(ib)
    tws.revise(1, price="100.50")
    codes(ib)
    ids = [one.execution.execId for one in trade.fills]
    assert ids[0][:-2] == ids[1][:-2] and [one[-2:] for one in ids] == ["01", "02"]
    assert [one.execution.price for one in ib.reqExecutions()] == [100.0, 100.5]
    assert core.balances["USD"] == Decimal("100000") - 201 and trade.filled() == 4, "the library counts both"


def test_listings_are_per_client_and_executions_of_the_day():
    core, tws, ib, aapl = setup()
    other = joined(tws, 2)
    ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, tif="GTC", orderRef="open"))
    ib.placeOrder(aapl, MarketOrder("BUY", 1, orderRef="done"))
    assert other.reqOpenOrders() == [] and other.trades() == []
    [trade] = other.reqAllOpenOrders()
    assert (trade.order.orderRef, trade.order.clientId, trade.orderStatus.remaining) == ("open", 1, 1)
    assert other.client.getReqId() > trade.order.orderId, "ids stay above all that were seen"
    [done] = other.reqCompletedOrders(True)
    assert (done.order.orderRef, done.order.orderId, done.order.totalQuantity, done.order.filledQuantity) == (
        "done", 0, 0, 1,
    )  # fmt: skip
    assert done.orderStatus.status == "Filled" and done.orderStatus.filled == 0 and done.fills == []
    wanted = ib_async.ExecutionFilter(side="SELL")
    assert [len(other.reqExecutions()), len(other.reqExecutions(wanted))] == [1, 0]
    core.close_session()
    core.open_session("2024-01-03")
    assert other.reqExecutions() == [] and other.reqCompletedOrders(False) == []
    assert [one.order.orderRef for one in other.reqAllOpenOrders()] == ["open"]


def test_orders_by_hand_have_no_id_until_client_0_binds_them():
    core, tws, ib, aapl = setup()
    tws.by_hand("AAPL", "buy", 1, limit="90")
    [trade] = ib.reqAllOpenOrders()
    assert (trade.order.orderId, trade.order.orderRef) == (0, "") and trade.order.permId
    ib.cancelOrder(trade.order)
    assert codes(ib) == [10147] and core.orders[0].open
    zero = joined(tws, 0)
    [bound] = zero.openTrades()
    assert bound.order.orderId == -1
    ib.reqGlobalCancel()
    assert core.orders[0].status == "canceled"


def test_a_connection_that_ends_forgets_and_a_new_one_learns_again():
    core, tws, ib, aapl = setup(faults=FaultPlan(script=["drop_request", "drop_answer"], only="placeOrder"))
    ended = []
    ib.disconnectedEvent += lambda: ended.append(True)
    for name in ("lost", "taken"):
        trade = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef=name))
        assert trade.orderStatus.status == "PendingSubmit" and ib.isConnected(), "nobody knows yet"
        with pytest.raises(ConnectionError):
            ib.reqAllOpenOrders()
        assert not ib.isConnected() and ib.trades() == [] and trade.orderStatus.status == "PendingSubmit"
        with pytest.raises(ConnectionError):
            ib.placeOrder(aapl, MarketOrder("BUY", 1))
        ib.connect(clientId=1)
    assert len(ended) == 2 and [one.client_id for one in core.orders] == ["taken"]
    assert [one.order.orderRef for one in ib.openTrades()] == ["taken"]
    with pytest.raises(ConnectionError):
        joined(tws, 1)


def test_after_a_restart_order_ids_are_gone_and_permanent_ids_stay():
    core, tws, ib, aapl = setup()
    trade = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef="a"))
    tws.restart()
    assert ib.waitOnUpdate(1) and ib.waitOnUpdate(1) and not ib.isConnected()
    ib.connect(clientId=1)
    [again] = ib.openTrades()
    assert (again.order.orderId, again.order.permId, again.order.orderRef) == (0, 1900000001, "a")
    assert tws.next_id(1) == trade.order.orderId + 1
    tws.stop()
    with pytest.raises(ConnectionRefusedError):
        joined(tws, 5)


def test_orders_are_hidden_from_listings_for_a_while_and_late_requests_are_read_in_order():
    core, tws, ib, aapl = setup(faults=FaultPlan(script=["delay"], only="placeOrder", visibility=2))
    ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef="late"))
    assert core.orders == []
    ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef="next"))
    assert [one.client_id for one in core.orders] == ["late", "next"] and codes(ib) == []
    ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0, orderRef="new"))
    ib.sleep()  # else the library takes the order's own openOrder for a part of the listing
    assert [len(ib.reqAllOpenOrders()), len(ib.reqAllOpenOrders())] == [2, 3]


def test_while_the_broker_is_away_nothing_is_told():
    core, tws, ib, aapl = setup(faults=FaultPlan(script=["ok", "outage"], only="placeOrder", outage=1))
    trade = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0))
    vanished = ib.placeOrder(aapl, LimitOrder("BUY", 1, 90.0))
    core.set_price("AAPL", "89")
    assert codes(ib) == [1100] and trade.orderStatus.status == "Submitted"
    assert vanished.orderStatus.status == "PendingSubmit" and len(core.orders) == 1
    ib.reqAllOpenOrders()
    assert codes(ib) == [1100, 1102] and trade.orderStatus.status == "Filled"


def test_waiting_takes_no_time_of_ours_and_hangs_are_said():
    core, tws, ib, aapl = setup(faults=FaultPlan(at={0: "outage"}, only="nothing"))
    start = core.clock()
    assert ib.waitOnUpdate(30) is False and (core.clock() - start).total_seconds() >= 30
    with pytest.raises(Hang):
        ib.waitOnUpdate()
    ib.client.reqPositions = lambda: None
    with pytest.raises(Hang):
        ib.reqPositions()
    ib.RequestTimeout = 5
    with pytest.raises(asyncio.TimeoutError):
        ib.reqPositions()


def test_the_summary_is_told_every_three_minutes():
    core, tws, ib, aapl = setup()
    cash = lambda: {one.tag: one.value for one in ib.accountSummary()}["TotalCashValue"]
    assert cash() == "100000.00"
    core.deposit("USD", "5")
    codes(ib)
    codes(ib)
    assert cash() == "100000.00"
    ib.sleep(180)
    ib.sleep()
    assert cash() == "100005.00"
