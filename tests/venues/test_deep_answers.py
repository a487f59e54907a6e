"""An answer of a hundred thousand brackets is an answer that cannot be read, and no RecursionError."""

import pytest

from quantlab.core.errors import DataError
from quantlab.venues.alpaca import _failure
from quantlab.venues.crypto import _said
from quantlab.venues.streams import stream_rows

DEEP = "[" * 100_000


def test_refusals_that_are_nested_too_deep_say_nothing():
    assert _said(DEEP) == {}
    assert "ValueError" in str(_failure(ValueError(DEEP)))


def test_a_message_of_a_stream_that_is_nested_too_deep_is_refused():
    with pytest.raises(DataError, match="cannot be read"):
        stream_rows("binance", DEEP, 0)
