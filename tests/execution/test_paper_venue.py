"The paper venue: the backtest's own account behind a venue's questions, the same after every restart."

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.backtest.account import Simulator, plain_rows, read_market
from quantlab.backtest.costs import Costs
from quantlab.broker.fill_model import next_close, next_open, vwap
from quantlab.broker.rules import SHARES, Rules
from quantlab.core.errors import PanelError
from quantlab.core.panel import as_panel
from quantlab.execution.engine import Engine
from quantlab.execution.intent import ExecutionError, OrderIntent
from quantlab.execution.paper import PaperVenue
from quantlab.execution.store import OrderRow, OrderStore
from quantlab.execution.venue import Refused, TradingVenue

DAYS = pd.bdate_range("2024-01-02", periods=6)
NAMES = ["A", "B", "C"]
COSTS = Costs(commission_bps=1, slippage_bps=5)


def bars(days=DAYS, names=NAMES, seed=0, volume=1e6):
    rng = np.random.default_rng(seed)
    rows = [(day, name, *(10 + i + rng.random(2)), volume) for day in days for i, name in enumerate(names)]
    return as_panel(pd.DataFrame(rows, columns=["date", "symbol", "open", "close", "volume"]))


def asked(id, symbol="A", quantity="5"):
    numbers = (Decimal(quantity), Decimal(1))
    return OrderRow(id, "s", "2024-01-02", symbol, *numbers, "", "sent", "", "", "")


def venue(folder, panel=None, **terms):
    panel = bars() if panel is None else panel
    return PaperVenue(panel, folder / "paper.jsonl", DAYS[0], **{"cash": 1000.0, "costs": COSTS} | terms)


def test_it_is_a_venue(tmp_path):
    made = venue(tmp_path)
    assert isinstance(made, TradingVenue) and made.session == DAYS[0] and made.due == DAYS[1]
    assert made.book() == ({}, Decimal(1000)) and made.fills("") == [] and made.lookup(asked("x")) is None


def test_an_order_fills_at_the_next_open_with_its_costs(tmp_path):
    made, panel = venue(tmp_path), bars()
    assert made.submit(asked("a")).state == "working"
    made.play()
    price = panel["open"][(DAYS[1], "A")] * (1 + 5e-4)
    [fill] = made.fills("")
    assert (fill.id, fill.symbol, fill.quantity, fill.at) == ("a", "A", 5, f"{DAYS[1]:%Y-%m-%d}")
    assert float(fill.price) == pytest.approx(price, rel=1e-12)
    assert float(fill.fee) == pytest.approx(5 * price * 1e-4, rel=1e-9)
    assert made.lookup(asked("a")).state == "filled"
    assert float(made.book()[1]) == pytest.approx(1000 - float(5 * fill.price + fill.fee), abs=1e-9)
    assert made.fills(f"{DAYS[2]:%Y-%m-%d}") == []


def test_a_repeated_name_is_one_order(tmp_path):
    made = venue(tmp_path)
    for _ in range(3):
        made.submit(asked("a"))
        made = venue(tmp_path)
    made.play()
    assert made.submit(asked("a", quantity="7")).state == "filled" and len(made.fills("")) == 1
    made.play()
    assert made.book()[0] == {"A": 5}


def test_what_cannot_be_paid_or_traded_expires_with_its_reason(tmp_path):
    made = venue(tmp_path, panel=bars().drop(index=[(DAYS[1], "B")]))
    made.submit(asked("much", quantity="1000"))
    made.submit(asked("stopped", "B", "1"))
    made.submit(asked("part", "C", "0.5"))
    made.play()
    found = {id: made.lookup(asked(id)) for id in ("much", "stopped", "part")}
    assert {one.state for one in found.values()} == {"expired"}
    assert (
        found["stopped"].why == "no bar" and found["part"].why == "less than a lot" and found["much"].why == "no cash"
    )
    assert 0 < found["much"].filled < 1000


def test_volume_that_is_not_there_leaves_a_part_unfilled(tmp_path):
    panel = bars(volume=30.0)
    made = venue(tmp_path, panel=panel.assign(vwap=panel["close"]), fill=vwap(participation=0.1))
    made.submit(asked("a"))
    made.play()
    found = made.lookup(asked("a"))
    assert (found.state, found.filled, found.why) == ("expired", 3, "volume"), "a tenth of the session's volume"


def test_a_cancel_is_taken_until_the_session(tmp_path):
    made = venue(tmp_path)
    made.submit(asked("a"))
    made.submit(asked("b"))
    made.cancel(asked("a"))
    assert venue(tmp_path).lookup(asked("a")).state == "cancelled"
    made.play()
    for id in "ab":
        with pytest.raises(Refused, match="does not wait"):
            made.cancel(asked(id))
    assert made.book()[0] == {"A": 5} and made.lookup(asked("a")).state == "cancelled"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.just("play"), st.tuples(st.sampled_from(NAMES), st.integers(-9, 9).filter(bool))), max_size=16
    )
)
def test_the_account_is_the_backtests_and_survives_every_restart(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("paper")
    _, market = read_market(bars(), COSTS)
    by_hand = Simulator(market, COSTS, Rules(lot=1.0), next_open(), 1000.0, 0)
    by_hand.step()
    waiting = []
    for n, step in enumerate(steps):
        made = venue(folder)  # anew for each step
        if step != "play":
            made.submit(asked(f"o{n}", step[0], str(step[1])))
            waiting.append((NAMES.index(step[0]), float(step[1])))
        elif made.due is not None:
            made.play()
            names, sizes = np.array([w[0] for w in waiting], int), np.array([w[1] for w in waiting])
            by_hand.send(plain_rows(names, sizes, SHARES))
            by_hand.step()
            waiting = []
    made = venue(folder)
    t = made._simulator.t
    assert t == by_hand.t and np.array_equal(made._simulator.days[: t + 1], by_hand.days[: t + 1])
    assert [float(f.quantity) for f in made.fills("")] == by_hand.log["quantity"][: by_hand.account.count[1]].tolist()
    cash = Decimal("1000") - sum(f.quantity * f.price + f.fee for f in made.fills(""))
    assert abs(cash - made.book()[1]) < Decimal("1e-6"), "its cash is the sum of its fills"


def test_a_journal_of_other_terms_is_refused(tmp_path):
    venue(tmp_path).play()
    for other in (
        {"cash": 5.0},
        {"costs": Costs(2, 5)},
        {"rules": Rules(lot=100.0)},
        {"fill": next_close()},
    ):
        with pytest.raises(ExecutionError, match="begun with another terms"):
            venue(tmp_path, **other)
    with pytest.raises(ExecutionError, match="begun with another start"):
        PaperVenue(bars(), tmp_path / "paper.jsonl", DAYS[1], 1000.0, COSTS)
    with pytest.raises(ExecutionError, match="bring the same bars"):
        venue(tmp_path, panel=bars(DAYS[[0, 2, 3]]))
    assert venue(tmp_path).session == DAYS[1]


def test_a_journal_that_was_cut_off_is_whole_up_to_there_and_a_broken_one_is_refused(tmp_path):
    made, file = venue(tmp_path), tmp_path / "paper.jsonl"
    made.submit(asked("a"))
    whole = file.read_bytes()
    for end in range(len(whole) + 1):
        file.write_bytes(whole[:end])
        again = venue(tmp_path)
        assert (again.lookup(asked("a")) is None) == (end < len(whole)) and file.read_bytes().endswith(b"\n")
        assert [json.loads(line) for line in file.read_text().splitlines()], "never empty: it begins anew"
    file.write_bytes(b"{\n" + whole)
    with pytest.raises(ExecutionError, match="paper.jsonl is broken"):
        venue(tmp_path)


def test_degenerate_bars(tmp_path):
    one = venue(tmp_path, panel=bars(DAYS[:1], ["A"]))
    assert one.due is None
    with pytest.raises(ExecutionError, match="the bars end at 2024-01-02"):
        one.play()
    with pytest.raises(Refused, match="ZZZ is not traded here"):
        one.submit(asked("z", "ZZZ"))
    with pytest.raises(PanelError, match="empty"):
        venue(tmp_path, panel=bars().iloc[:0])
    with pytest.raises(ExecutionError, match="the bars end before"):
        PaperVenue(bars(), tmp_path / "late.jsonl", "2025-01-01")
    hours = bars(pd.date_range("2024-01-02 15:00", periods=3, freq="h", tz="UTC"))
    with pytest.raises(ExecutionError, match="intraday"):
        PaperVenue(hours, tmp_path / "hours.jsonl", hours.index[0][0])


def test_a_day_by_the_engine(tmp_path):
    store = OrderStore(tmp_path / "orders.sqlite")
    store.open_book("1000")
    numbers = (Decimal(5), Decimal(1))
    store.add([OrderIntent(id, "s", "2024-01-02", id, *numbers) for id in (*NAMES, "ZZZ")])
    Engine(store, venue(tmp_path)).release()
    Engine(store, venue(tmp_path)).step()
    venue(tmp_path).play()
    Engine(store, venue(tmp_path)).step()
    assert {order.id: order.state for order in store.orders()} == dict.fromkeys(NAMES, "filled") | {"ZZZ": "rejected"}
    shares, cash = venue(tmp_path).book()
    assert store.book()[0] == shares and abs(store.book()[1] - cash) < Decimal("1e-9")
    store.close()
