"""A dozen strategies keep their figures and the hash of their order list; golden.py renews them on purpose."""

import json
from dataclasses import replace

import golden
import pytest

EXACT = ("sessions", "orders", "trades", "unfilled", "closed", "order_list")


@pytest.fixture(scope="module")
def runs():
    return golden.strategies(golden.sample())


@pytest.fixture(scope="module")
def stored():
    return json.loads(golden.FILE.read_text(encoding="utf-8"))


def test_there_are_a_dozen_and_they_differ(stored):
    assert len(stored) == 12 and len({figures["order_list"] for figures in stored.values()}) == 12
    assert any(figures["closed"] for figures in stored.values()) and any(
        figures["unfilled"] for figures in stored.values()
    )


@pytest.mark.parametrize("name", json.loads(golden.FILE.read_text(encoding="utf-8")) if golden.FILE.exists() else [])
def test_a_strategy_is_what_it_was(runs, stored, name):
    now, then = golden.figures(runs[name]), stored[name]
    assert {k: now[k] for k in EXACT} == {k: then[k] for k in EXACT}
    rest = {k: v for k, v in then.items() if k not in EXACT}
    assert {k: now[k] for k in rest} == pytest.approx(rest, rel=1e-11)


def test_the_hash_sees_one_order(runs):
    run = runs["one name"]
    orders = run.blotter.orders
    more = replace(run, blotter=run.blotter._replace(orders=orders._replace(quantity=orders.quantity * (1 + 1e-7))))
    assert golden.figures(more)["order_list"] != golden.figures(run)["order_list"]
