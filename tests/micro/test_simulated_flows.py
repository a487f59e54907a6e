"The simulated book against a replay in plain Python, its planted rates, and its own accounts."

from dataclasses import replace

import numpy as np
import pytest

from quantlab.core.errors import ConfigError
from quantlab.micro.hawkes import residual_test
from quantlab.micro.simulate import FLOWS, FlowSpec, Quoting, flow_residuals, simulate_book, without_excitation

SPEC = FlowSpec(end=35_100.0)


def replay(messages):
    "Rebuild every queue from messages: the best level, and whether each execution took the first in its queue."
    queues, rows, first = {1: {}, -1: {}}, [], True
    for m in messages.itertuples():
        side = queues[m.direction]
        if m.type == 1:
            side.setdefault(m.price, {})[m.id] = m.size
        elif m.type != 5:
            queue = side[m.price]
            first &= m.type != 4 or next(iter(queue)) == m.id
            queue[m.id] -= m.size
            assert queue[m.id] >= 0 and (m.type == 2) <= (queue[m.id] > 0) and (m.type == 3) <= (queue[m.id] == 0)
            if queue[m.id] == 0:
                del queue[m.id]
            if not queue:
                del side[m.price]
        ask, bid = min(queues[-1], default=9_999_999_999), max(queues[1], default=-9_999_999_999)
        rows.append((ask, sum(queues[-1].get(ask, {}).values()), bid, sum(queues[1].get(bid, {}).values())))
    return np.array(rows), first


@pytest.mark.parametrize("quoting", [None, Quoting(1.0, skew=2e-4, lots=2, pause=0.2)])
def test_a_replay_of_the_messages_is_the_book_and_queues_are_first_come_first_served(quoting):
    for seed in range(2):
        path = simulate_book(SPEC, seed, quoting)
        rows, first = replay(path.messages)
        assert (rows == path.book.to_numpy()).all() and first
        assert (
            path.messages["time"].is_monotonic_increasing
            and (path.book["bid_price_1"] < path.book["ask_price_1"]).all()
        )
        assert list(path.messages) == ["time", "type", "id", "size", "price", "direction"]
        assert set(path.messages["type"]) == {1, 2, 3, 4, 5} and (path.messages["size"] > 0).all()


def test_one_seed_is_one_path():
    one, same, other = (simulate_book(SPEC, seed).messages for seed in (1, 1, 2))
    assert one.equals(same) and not one.equals(other)


def test_rates_and_residuals_are_those_planted():
    spec = replace(SPEC, end=39_600.0)
    for kind in (spec, without_excitation(spec)):
        assert np.allclose(kind.rates, spec.rates)
        flows = simulate_book(kind, 4).flows
        tests = {name: residual_test(r, fitted=False) for name, r in flow_residuals(flows, kind).items()}
        assert all(t.p > 1e-3 and t.p_lag > 1e-3 for t in tests.values())
    counts = np.array(
        [simulate_book(SPEC, seed).flows["flow"].value_counts().reindex(FLOWS) / 900 for seed in range(30)]
    )
    assert (abs(counts.mean(0) - SPEC.rates) < 4 * counts.std(0, ddof=1) / 30**0.5 + 0.01 * SPEC.rates).all()


def test_orders_die_at_the_planted_hazard():
    spec = FlowSpec(baseline=(0.0, 0.0, 2.0, 2.0), branching=((0.0,) * 4,) * 4, cut=0.0, cancel=0.05, end=36_000.0)
    messages = simulate_book(spec, 1).messages
    born, dead = (messages[messages["type"] == kind].set_index("id")["time"] for kind in (1, 3))
    lives = (dead - born[born.between(spec.start, spec.end - 200)]).dropna()
    assert abs(lives.mean() - 20) < 4 * 20 / len(lives) ** 0.5


def test_fills_account_for_the_quoter():
    path = simulate_book(SPEC, 4, Quoting(0.5, limit=3))
    fills = path.fills
    assert len(fills) > 20 and (fills["inventory"] == (fills["side"] * fills["size"]).cumsum()).all()
    assert fills["inventory"].abs().max() <= 300 and (fills["ahead"] >= 0).all() and set(fills["side"]) == {-1, 1}
    trades = path.messages[path.messages["type"] == 4]
    met = fills.merge(
        trades, left_on=["time", "price", "side", "size"], right_on=["time", "price", "direction", "size"]
    )
    assert len(met.drop_duplicates(["time", "price", "side"])) == len(fills.drop_duplicates(["time", "price", "side"]))


def test_a_fill_waits_for_those_ahead():
    "What is executed at our price between posting and our fill, or leaves, is at least what stood before us."
    path = simulate_book(SPEC, 6, Quoting(0.5, pause=0.2))
    assert (path.fills["ahead"] > 0).any()
    long = path.fills[path.fills["ahead"] >= 1_000]
    for fill in long.itertuples():
        before = path.messages[path.messages["time"] <= fill.time]
        here = before[
            (before["price"] == fill.price) & (before["direction"] == fill.side) & before["type"].isin([2, 3, 4])
        ]
        assert here["size"].sum() >= fill.ahead


@pytest.mark.parametrize(
    "change, match",
    [({"branching": ((1.0, 0, 0, 0),) * 4}, "spectral radius"), ({"baseline": (-1, 0, 0, 0)}, "below 0"),
     ({"baseline": (1, 1)}, "4 rates"), ({"end": 0.0}, "end after start"), ({"tick": 3}, "tick is even"),
     ({"nearness": 0.0}, "nearness"), ({"hidden": 1.5}, "chances"), ({"lots": 0.5}, "lots")],
)  # fmt: skip
def test_what_cannot_run_is_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        replace(SPEC, **change)


def test_a_price_that_runs_away_is_said():
    wild = FlowSpec(
        baseline=(20.0, 0.0, 0.1, 5.0), branching=((0.0,) * 4,) * 4, nearness=0.01, cancel=0.5, end=45_000.0
    )
    with pytest.raises(ConfigError, match="the price left"):
        for seed in range(3):
            simulate_book(wild, seed)
