"""core.errors: a refusal names the argument, what was given, and what is taken."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, check_kind


class _Feed:
    "Stand for a class that is not public."


@pytest.mark.parametrize(
    ("kinds", "value", "says"),
    [
        (int, "many", "n is 'many', a str; give an int"),
        ((int, np.integer), 1.5, "n is 1.5, a float; give an int"),
        ((int, float, np.number), None, "n is None; give an int or a float"),
        ((pd.Series, type(None)), 3, "n is 3, an int; give a Series or None"),
        ((list, tuple, pd.Index), "x", "n is 'x', a str; give a list, a tuple or an Index"),
        (Callable, 3, "n is 3, an int; give a Callable"),
        (_Feed, 3, "n is 3, an int; give a Feed"),
    ],
)
def test_the_sentence_of_a_refusal(kinds, value, says):
    with pytest.raises(ConfigError) as caught:
        check_kind(kinds, n=value)
    assert str(caught.value) == says


@pytest.mark.parametrize("kinds", [int, (int, float), (int, np.integer), (int, float, np.number), (int, type(None))])
@pytest.mark.parametrize("value", [True, False])
def test_a_truth_is_no_number(kinds, value):
    with pytest.raises(ConfigError, match=f"n is {value}, a bool; give an int"):
        check_kind(kinds, n=value)


def test_a_truth_is_taken_where_bool_is_named_and_numbers_are_numbers():
    check_kind((bool, int), n=True)
    check_kind(bool, n=False)
    check_kind((int, float, np.number), a=1, b=1.5, c=np.float32(2), d=np.int64(3))
    check_kind(object, n=True)


LONG = ["x" * 10_000, [1.0] * 10_000, {"a": ["b"] * 10_000}, pd.DataFrame(np.ones((99, 99)))]


@pytest.mark.parametrize("value", LONG)
def test_what_was_given_is_shown_in_one_short_line(value):
    with pytest.raises(ConfigError) as caught:
        check_kind(int, n=value)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_the_first_wrong_argument_is_named():
    with pytest.raises(ConfigError, match="^second is 'x'"):
        check_kind(int, first=1, second="x", third=None)
