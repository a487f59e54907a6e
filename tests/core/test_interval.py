"""core.types.as_interval: the lengths of bars as people write them."""

import pytest

from quantlab.core.errors import ConfigError
from quantlab.core.types import Interval, as_interval


@pytest.mark.parametrize(("typed", "name"), [
    ("15m", "15min"), ("15min", "15min"), ("60min", "1h"), ("1wk", "1w"), ("Weekly", "1w"), ("1M", "1mo"),
    ("1m", "1min"),
    ("1mon", "1mo"), ("D", "1d"), ("4H", "4h"), ("2 hours", "2h"), (" 120min ", "2h"),
])  # fmt: skip
def test_intervals_are_read_as_people_write_them(typed, name):
    assert as_interval(typed) == name and as_interval(typed) is Interval(name)


@pytest.mark.parametrize("typed", ["7min", "0min", "2d", "90min", "hour and a half", "", "min1", "1.5h", "day 1"])
def test_what_is_no_length_of_a_bar_is_refused_with_those_there_are(typed):
    with pytest.raises(ConfigError, match="there is no interval .*; use one of 1mo, 1w, 1d"):
        as_interval(typed)


def test_every_length_reads_as_itself():
    assert [as_interval(interval) for interval in Interval] == list(Interval)
