"Alpaca's dividends, interest, fees, splits and transfers: told by page, booked once, and in the book what it has."

import sys
from decimal import Decimal
from pathlib import Path

import pytest

for library, extra in (
    ("aiohttp", "dev"),
    ("alpaca", "alpaca"),
    ("ccxt", "vendors"),
    ("simplefix", "fix"),
    ("ib_async", "ib"),
):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'quantlab[{extra}]'")
sys.path.insert(0, str(Path(__file__).parent))

from rigs import Alpaca, an_order  # noqa: E402

from quantlab.execution.engine import Engine  # noqa: E402
from quantlab.execution.intent import ExecutionError, OrderIntent  # noqa: E402
from quantlab.execution.store import OrderStore  # noqa: E402
from quantlab.execution.venue import Busy, TellsFlows, Unsure  # noqa: E402

DAY = "2024-02-15"


@pytest.fixture
def rig(tmp_path):
    return Alpaca(tmp_path)


def held(venue, rig):
    "Buy ten shares."
    venue.submit(an_order(rig))
    rig.go()


def test_the_store_follows_what_the_account_is_paid_and_charged(rig, tmp_path):
    store = OrderStore(tmp_path / "x.sqlite")
    store.open_book(str(rig.cash), since="2024-01-02")
    store.add([OrderIntent("a1", "s", "2024-01-02", "AAPL", Decimal(10), Decimal(100))])
    book = rig.venue.book
    with rig.serve() as venue:
        assert isinstance(venue, TellsFlows) and venue.flows("") == []
        engine = Engine(store, venue)
        engine.release()
        engine.step()
        rig.go()
        book("DIV", DAY, "2.40", "AAPL", "10", per_share_amount="0.24")
        book("DIVNRA", DAY, "-0.36", "AAPL", "10", per_share_amount="0.036")
        book("INT", "2024-02-29", "-1.07")
        book("FEE", "2024-01-03", "-0.02", description="TAF fee")
        book("SPLIT", "2024-02-20", "0", "AAPL", "30", "30")
        book("SSP", "2024-02-21", "0", "AAPL", "-20", "-20")
        book("CFEE", "2024-02-21", "0", "BA", "0", "0", price="3")
        book("CSD", "2024-03-01", "500")
        book("CSW", "2024-03-04", "-20.5")
        book("JNLC", "2024-03-05", "7")
        book("JNLS", "2024-03-06", "0", "BA", "2", "2")
        for _ in range(2):
            engine.step()
            assert store.book() == venue.book() == ({"AAPL": 20, "BA": 2}, rig.money())
        told = {(one.kind, one.symbol, one.shares, one.cash) for one in store.flows()}
        assert ("dividend", "AAPL", 0, Decimal("2.4")) in told and ("dividend", "AAPL", 0, Decimal("-0.36")) in told
        assert ("interest", "", 0, Decimal("-1.07")) in told and ("fee", "", 0, Decimal("-0.02")) in told
        assert ("split", "AAPL", 30, 0) in told and ("transfer", "", 0, 500) in told and len(store.flows()) == 11
        assert len(store.fills()) == 1 and {one.at for one in store.flows("interest")} == {"2024-02-29"}
    store.close()


@pytest.mark.parametrize("hour", [0, 12])
def test_pages_and_days(rig, hour):
    rig.venue.booked_at = hour
    with rig.serve() as venue:
        held(venue, rig)
        for n in range(1, 206):
            rig.venue.book("FEE", f"2024-02-{1 + n // 41:02d}", f"-0.{n:03d}")
        told = venue.flows("")
        assert len({one.id for one in told}) == 205 and sum(one.cash for one in told) == Decimal("-21.115")
        assert [one.at for one in told] == sorted(one.at for one in told)
        later = venue.flows("2024-02-04T21:00:00.000000+00:00")
        assert later == [one for one in told if one.at >= "2024-02-04"] and 0 < len(later) < 205


def test_what_is_not_known_is_booked_with_its_money_alone_and_what_was_taken_back_is_nothing(rig):
    with rig.serve() as venue:
        held(venue, rig)
        rig.venue.book("VOF", DAY, "3", "AAPL", "5", "5")
        rig.venue.book("INT", DAY, "-9", status="canceled")
        news, back = venue.flows("")
        assert (news.kind, news.shares, news.cash) == ("other", 0, 3) and (back.shares, back.cash) == (0, 0)
        assert venue.book()[0] == {"AAPL": 15}, "the guard sees that the books differ by five shares"


def test_a_flow_that_was_taken_back_after_it_was_booked_is_refused(rig, tmp_path):
    store = OrderStore(tmp_path / "x.sqlite")
    with rig.serve() as venue:
        row = rig.venue.book("DIV", DAY, "2.40", "AAPL", "10")
        Engine(store, venue).step()
        row["status"] = "canceled"
        with pytest.raises(ExecutionError, match="booked otherwise"):
            Engine(store, venue).step()
    assert store.book()[1] == Decimal("2.4")
    store.close()


@pytest.mark.parametrize(("fault", "means"), [("too_many", Busy), ("error_500", Unsure), ("drop_answer", Unsure)])
def test_no_answer_and_a_later_mean_what_they_mean_for_fills(tmp_path, fault, means):
    rig = Alpaca(tmp_path, only="activities", at={0: fault})
    with rig.serve() as venue:
        rig.venue.book("DIV", DAY, "2.40", "AAPL", "10")
        with pytest.raises(means):
            venue.flows("")
        assert len(venue.flows("")) == 1


@pytest.mark.parametrize("shape", [None, 3])
def test_an_answer_of_another_shape_cannot_be_read(rig, shape):
    with rig.serve() as venue:
        rig.venue.book("DIV", DAY, "2.40", "AAPL", "10", activity_type=shape)
        with pytest.raises(Unsure, match="cannot be read as flows"):
            venue.flows(DAY)
