"Names of orders, frozen decisions, and who may move an order."

import itertools
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.execution.intent import (
    FINAL_STATES,
    MOVERS,
    OPEN_STATES,
    ORDER_STATES,
    ExecutionError,
    FrozenDecision,
    check_move,
    decimal,
    decimal_text,
    decision_from,
    freeze,
    intent_id,
    intents_for,
)
from quantlab.recipe.decide import DecisionRecord

numbers = st.decimals(-(10**9), 10**9, allow_nan=False, places=6)
symbols = st.text("ABCDEFGHIJ.-", min_size=1, max_size=6)
books = st.dictionaries(symbols, numbers, max_size=8)


CLOSES = dict.fromkeys("ABCZ", 10.0)


def record(shares, due=True):
    "A decision for an equity of 1000 at closes of 10, with another price in its own orders."
    orders = pd.DataFrame({"held": 0.0, "target": pd.Series(shares, dtype=float)})
    orders["quantity"], orders["price"] = orders["target"], 7.0
    weights = pd.Series(shares, dtype=float) / 100
    return DecisionRecord("r", pd.Timestamp("2024-01-02"), due, 0 if due else 3, weights, orders, 1.0, "next open")


def frozen(shares, due=True, closes=CLOSES, equity=1000, **terms):
    return freeze(record(shares, due), closes, equity, "0", **terms)


def allowed(was, to, by):
    try:
        check_move(was, to, by)
    except ExecutionError:
        return False
    return True


@given(numbers)
def test_a_number_has_one_text(value):
    text = decimal_text(value)
    assert decimal(text) == value and decimal_text(decimal(text)) == text
    assert decimal_text(value * Decimal("1.000")) == text and "E" not in text
    assert text not in ("-0", "") and not (("." in text) and text.endswith(("0", ".")))


@pytest.mark.parametrize("wrong", ["nan", "inf", "", None, "1,5", np.nan])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(ExecutionError, match="price of A is .*finite"):
        decimal(wrong, "price of A")


@given(st.tuples(symbols, symbols, symbols, numbers, symbols), st.integers(0, 9999))
def test_names_are_short_plain_and_the_same_everywhere(what, child):
    name = intent_id(*what, child)
    assert re.fullmatch("[a-z0-9]{1,32}", name) and name == intent_id(*what, child)
    assert name == intent_id(*what[:3], what[3] * Decimal("1.00"), what[4], child), "7 and 7.00 are one target"


def test_a_name_is_known_from_elsewhere():
    "Worked out by sha256sum."
    assert intent_id("s", "2024-01-02", "AAPL", Decimal("7"), "0" * 4) == "82318423b88271a7cf4f12e69ae30000"


def test_names_differ_in_every_part():
    base = ("s", "2024-01-02", "AAPL", Decimal(7), "0" * 64)
    changed = [("t", *base[1:]), ("s", "2024-01-03", *base[2:]), (*base[:2], "AAP", *base[3:])]
    changed += [(*base[:3], Decimal(-7), base[4]), (*base[:4], "1" * 64)]
    assert len({intent_id(*one) for one in [base, *changed]} | {intent_id(*base, 1)}) == 7
    assert intent_id("a", "b", "c", Decimal(1), "d") != intent_id("ab", "", "c", Decimal(1), "d")
    for child in (-1, 10000):
        with pytest.raises(ExecutionError, match="9999"):
            intent_id(*base, child)


@given(books, books)
def test_orders_lead_from_the_book_to_the_target(targets, book):
    decision = FrozenDecision("r", "2024-01-02", "0", targets, dict.fromkeys(targets, Decimal(1)))
    assert decision_from(decision.text()) == decision
    held = {symbol: shares for symbol, shares in book.items() if symbol in targets}
    after = dict(held)
    orders = intents_for(decision, held)
    for one in orders:
        assert one.quantity and one.id == intent_id("r", "2024-01-02", one.symbol, targets[one.symbol], "0")
        after[one.symbol] = after.get(one.symbol, Decimal(0)) + one.quantity
    assert all(after.get(symbol, 0) == target for symbol, target in targets.items())
    sides = [one.quantity > 0 for one in orders]
    assert sides == sorted(sides) and intents_for(decision, after) == []
    if strange := {s: n for s, n in book.items() if n and s not in targets}:
        with pytest.raises(ExecutionError, match="does not know"):
            intents_for(decision, strange)


@pytest.mark.parametrize(("step", "wanted"), [("1", [3, -3, 0]), ("0.5", [3.5, -3.5, 0.5]), ("5", [0, 0, 0])])
def test_targets_are_cut_towards_zero(step, wanted):
    found = frozen({"A": 3.9, "B": -3.9, "C": 0.9}, step=step)
    assert [float(found.targets[s]) for s in "ABC"] == wanted


def test_shares_are_counted_at_traded_closes():
    found = frozen({"A": 4.0, "B": 0.0}, closes={"A": 5.0, "B": 1.0})
    assert found.targets == {"A": 8, "B": 0} and found.prices == {"A": 5, "B": 1}
    assert frozen({"A": 4.0}, equity=500).targets == {"A": 2}


def test_nothing_is_frozen_where_nothing_is_due():
    with pytest.raises(ExecutionError, match="in 3 sessions"):
        frozen({"A": 1.0}, due=False)
    for step in (0, -1, "x"):
        with pytest.raises(ExecutionError, match="step"):
            frozen({"A": 1.0}, step=step)
    for reserve in (1, -0.1, "x"):
        with pytest.raises(ExecutionError, match="reserve"):
            frozen({"A": 1.0}, reserve=reserve)
    for wrong, says in ((np.inf, "weight of A"), (np.nan, "weight of A")):
        with pytest.raises(ExecutionError, match=says):
            frozen({"A": wrong})
    for closes in ({}, {"A": 0.0}, {"A": np.nan}, {"A": -1.0}):
        with pytest.raises(ExecutionError, match="close of A"):
            frozen({"A": 1.0}, closes=closes)
    with pytest.raises(ExecutionError, match="equity"):
        frozen({"A": 1.0}, equity=np.nan)
    assert frozen({}).targets == {}
    assert frozen({"A": 99.9, "B": -101.0}, reserve="0.02").targets == {"A": 97, "B": -98}


def test_moves():
    for state, to, by in itertools.product(FINAL_STATES, ORDER_STATES, MOVERS):
        assert not allowed(state, to, by), "final is final"
    for state, to in itertools.product(OPEN_STATES, ORDER_STATES):
        assert not allowed(state, "created", "engine") and not allowed("created", "sent", "engine")
        for by in ("engine", "venue", "timeout"):
            assert not allowed("ambiguous", to, by), "only reconciliation leaves that"
    assert {was for was in ORDER_STATES if allowed(was, "sent", "engine")} == {"queued"}
    silent = {was for was in ORDER_STATES if allowed(was, "ambiguous", "timeout")}
    assert silent == {"sent", "working", "partly_filled", "cancel_pending"}
    with pytest.raises(ExecutionError, match="nobody may: it is final"):
        check_move("filled", "working", "venue")
    with pytest.raises(ExecutionError, match="only engine may"):
        check_move("queued", "sent", "venue")
    with pytest.raises(ExecutionError, match="nobody may"):
        check_move("lost", "sent", "somebody")
