"Interactive Brokers: what TWS cannot know, says twice, or never says; its stand-in has not seen the adapter."

import sys
from decimal import Decimal
from pathlib import Path

import pytest

ib_async = pytest.importorskip("ib_async", reason="ib_async is not installed: pip install 'quantlab[ib]'")
sys.path.insert(0, str(Path(__file__).parent))

from fakes.core import Core  # noqa: E402
from fakes.tws import FakeIB, Tws  # noqa: E402
from ib_async import MarketOrder, Stock  # noqa: E402

import quantlab.venues.interactive_brokers as module  # noqa: E402
from quantlab.execution.store import OrderRow  # noqa: E402
from quantlab.execution.venue import Refused, Unsure  # noqa: E402
from quantlab.venues.interactive_brokers import IbPaper  # noqa: E402

ORDER = OrderRow("a1", "made-up", "2024-01-01", "AAPL", Decimal(10), Decimal(100), "", "sent", "", "", "")


def setup(opened=True, **settings):
    core = Core(instruments=["AAPL", "BA"])
    core.set_price("AAPL", "100")
    if opened:
        core.open_session("2024-01-02")
    tws = Tws(core, **settings)
    return core, tws, IbPaper(FakeIB(tws).connect(clientId=1), time_in_force="day", seconds=0.01)


def test_two_orders_of_one_name_are_nobody_s():
    _, tws, venue = setup(opened=False)
    venue.submit(ORDER)
    assert venue.lookup(ORDER).state == "working"
    other = FakeIB(tws).connect(clientId=7)
    other.placeOrder(Stock("AAPL", "SMART", "USD"), MarketOrder("BUY", 1, orderRef="a1"))
    other.sleep()
    with pytest.raises(Unsure, match="2 orders under the name a1"):
        venue.lookup(ORDER)


def test_while_tws_has_no_line_its_no_is_no_no():
    _, tws, venue = setup(opened=False)
    venue.submit(ORDER)
    tws.lose_broker()
    for ask in (lambda: venue.lookup(ORDER), lambda: venue.lookup(ORDER._replace(id="b")), lambda: venue.fills("")):
        with pytest.raises(Unsure):
            ask()
    tws.regain_broker()
    venue._client.sleep()
    assert venue.lookup(ORDER).state == "working" and venue.lookup(ORDER._replace(id="b")) is None


def test_a_fill_whose_status_never_comes_is_a_fill():
    _, _, venue = setup(quiet=True)
    try:
        venue.submit(ORDER)
    except Unsure:
        pass  # TWS has said nothing of it
    first = venue.lookup(ORDER)
    assert (first.state, first.filled) == ("filled", 10)


def test_the_book_s_shares_are_asked_anew():
    core, _, venue = setup(opened=False, lag={"account": 4})
    venue.submit(ORDER)
    core.open_session("2024-01-02")
    assert venue.book()[0] == {"AAPL": Decimal(10)}


def test_a_line_that_was_ours_is_opened_again(monkeypatch):
    _, tws, _ = setup()
    made = []

    def connected(*place):
        made.append(FakeIB(tws).connect(clientId=len(made) + 2))
        return made[-1]

    monkeypatch.setattr(module, "_connected", connected)
    venue = IbPaper(time_in_force="day", seconds=0.01)
    made[0].disconnect()
    assert venue.lookup(ORDER) is None and len(made) == 2


@pytest.mark.parametrize(("code", "kind"), [(100, Unsure), (103, Unsure), (201, Refused)])
def test_too_many_messages_and_a_used_number_are_no_clear_no(code, kind):
    from ib_async import OrderStatus, Trade
    from ib_async.objects import TradeLogEntry

    _, _, venue = setup()

    def place(contract, order):
        log = [TradeLogEntry(None, "Cancelled", f"Error {code}", code)]
        return Trade(contract, order, OrderStatus(status="Cancelled"), [], log)

    venue._client.placeOrder = place
    with pytest.raises(kind):
        venue.submit(ORDER)
