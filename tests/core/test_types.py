"The records of the house: what they refuse, and what follows from their signs."

from datetime import datetime

import pytest

from quantlab.core.errors import PanelError
from quantlab.core.types import Bar, Fill, Order, OrderType, Side, Signal, record_names

DAY = datetime(2024, 1, 2)


def test_a_bar_holds_finite_numbers_in_order() -> None:
    with pytest.raises(PanelError, match="nan"):
        Bar(DAY, "MSFT", 10.0, 11.0, 9.0, float("nan"), 100.0)
    with pytest.raises(PanelError, match=r"within \[low, high\]"):
        Bar(DAY, "MSFT", 10.0, 11.0, 9.0, 12.0, 100.0)


def test_an_order_has_a_price_where_it_needs_one() -> None:
    with pytest.raises(PanelError, match="takes no price"):
        Order(DAY, "MSFT", 1, OrderType.MARKET, 5.0)
    with pytest.raises(PanelError, match="needs a price"):
        Order(DAY, "MSFT", 1, OrderType.STOP)
    assert Order(DAY, "MSFT", -1).side is Side.SELL


def test_signs() -> None:
    assert Fill(DAY, DAY, "MSFT", -2, 10.0, 1.0).cash_flow == 19.0
    assert record_names(Signal) == ("date", "symbol", "score")
