"The router finds the split that was planted, and no route is beyond its caps."

from decimal import Decimal
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.execution.intent import ExecutionError
from quantlab.execution.router import DEFAULT_WEIGHTS, PlantedVenue, Router, planted_split, routed, split_of

SIZE, MISSED = 1000, 0.012
SMALL = settings(max_examples=60, deadline=None, derandomize=True)


def planted(seed):
    "Plant three venues with a queue, a fee and a markout of their own."
    rng = np.random.default_rng([seed, 99])
    return {
        name: PlantedVenue(
            rng.uniform(0.15, 0.8) * SIZE, rng.uniform(-0.002, 0.003), rng.uniform(0.0, 0.004), rng.uniform(0.001, 0.01)
        )
        for name in ("a", "b", "c")
    }


def best_on_a_grid(venues):
    "Return the split of least cost among those in hundredths, by the mean of what an exponential depth fills."
    grid = np.array([(i, j, 100 - i - j) for i, j in product(range(101), repeat=2) if i + j <= 100]) / 100
    depth = np.array([one.depth for one in venues.values()]) / SIZE
    cost = np.array([one.fee + one.markout for one in venues.values()])
    filled = depth * (1 - np.exp(-grid / depth))
    return grid[(filled * cost + (grid - filled) * MISSED).sum(axis=1).argmin()]


def gap_of(seed):
    "Return by how much the router's split is off the best one after a thousand child orders."
    venues = planted(seed)
    _, weights, _ = routed(venues, SIZE, 1000, MISSED, seed)
    return float(np.abs(weights[-1] - best_on_a_grid(venues)).max())


def test_the_formula_of_the_best_split_is_that_of_the_grid():
    for seed in range(20):
        venues = planted(seed)
        assert np.abs(planted_split(list(venues.values()), SIZE, MISSED) - best_on_a_grid(venues)).max() < 0.01


def test_the_planted_split_is_not_the_prior():
    far = [np.abs(best_on_a_grid(planted(seed)) - DEFAULT_WEIGHTS).max() > 0.05 for seed in range(100)]
    assert sum(far) > 80, "who learns nothing fails"


def test_it_finds_the_planted_split_of_some_seeds():
    assert sum(gap_of(seed) <= 0.05 for seed in range(4)) >= 3


@pytest.mark.slow
def test_it_finds_the_planted_split_of_ninety_in_a_hundred_seeds():
    gaps = [gap_of(seed) for seed in range(100)]
    near = sum(gap <= 0.05 for gap in gaps)
    print(f"within 5 points: {near} of 100; median {np.median(gaps):.3f}, worst {max(gaps):.3f}")
    assert near >= 90


CAPS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0, 2000), max_size=3)


@SMALL
@given(st.integers(-3000, 3000), CAPS, st.floats(0.01, 1.0), st.sampled_from(["1", "100", "0.5"]), st.integers(0, 9))
def test_no_route_is_beyond_its_caps(quantity, displayed, share, step, seed):
    unit = Decimal(step)
    parent = quantity * unit
    router = Router(["a", "b", "c"], SIZE, MISSED, seed=seed)
    sent = router.route(parent, displayed, share, step)
    for name, q in sent.items():
        assert q % unit == 0 and q * parent >= 0
        assert name not in displayed or float(abs(q)) <= share * displayed[name] + 1e-9
    room = [int(share * displayed[n] / float(unit) + 1e-12) * unit if n in displayed else abs(parent) for n in "abc"]
    assert abs(sum(sent.values())) <= abs(parent) and abs(sum(sent.values())) >= min(abs(parent), sum(room)) - unit


def test_caps_hold_while_it_learns():
    venues, rng = planted(3), np.random.default_rng(0)
    router = Router(list(venues), SIZE, MISSED)
    for _ in range(300):
        displayed = dict(zip(venues, rng.uniform(0, 3000, 3), strict=True))
        for name, q in router.route(SIZE, displayed, 0.2).items():
            assert 0 <= q <= Decimal(str(0.2 * displayed[name]))
            if q:
                router.record(name, float(q), *venues[name].trade(float(q), rng))


@SMALL
@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(-1, 1), st.floats(0, 2e3)), min_size=1, max_size=6),
    st.floats(1, 5e3),
)
def test_a_split_is_whole_inside_its_caps_and_marginally_equal(venues, quantity):
    depth, gain, caps = map(np.array, zip(*venues, strict=True))
    shares = split_of(quantity, depth, gain, caps)
    assert (shares >= 0).all() and (shares <= caps + 1e-9).all() and (shares[gain <= 0] == 0).all()
    assert np.isclose(shares.sum(), min(quantity, caps[gain > 0].sum()), rtol=1e-6)
    inner = (shares > 1e-6) & (shares < caps - 1e-6)
    if inner.sum() > 1:
        level = np.log(gain[inner]) - shares[inner] / depth[inner]
        assert np.allclose(level, level[0], atol=1e-3)


def test_the_first_split_is_the_prior():
    router = Router(["a", "b", "c"], SIZE, MISSED)
    assert np.allclose(list(router.weights().values()), DEFAULT_WEIGHTS, atol=1e-6)
    even = Router(["x", "y"], SIZE, MISSED, weights=[0.5, 0.5])
    assert np.allclose(list(even.weights().values()), 0.5)


def test_the_same_seed_and_fills_give_the_same_routes():
    one, two = routed(planted(1), SIZE, 50, MISSED, 4), routed(planted(1), SIZE, 50, MISSED, 4)
    assert (one[1] == two[1]).all() and (one[2] == two[2]).all()
    assert (one[1] != routed(planted(1), SIZE, 50, MISSED, 5)[1]).any()


def test_a_venue_that_saves_nothing_gets_next_to_nothing():
    venues = planted(2) | {"c": PlantedVenue(5 * SIZE, fee=0.05, noise=0.001)}
    _, weights, _ = routed(venues, SIZE, 200, MISSED, 0)
    assert weights[-1][2] == 0.0


def test_where_nothing_is_gained_the_order_is_split_all_the_same():
    router = Router(["a"], SIZE, MISSED, weights=[1.0])
    for _ in range(50):
        router.record("a", 10, 10, 1.0)
    assert (
        router.route(7) == {"a": 7}
        and router.route(-7, {"a": 3}) == {"a": -3}
        and router.route(7, {"a": np.nan}) == {"a": 0}
    )
    assert router.route(0) == {"a": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        ("z", 1, 1, 0.0),
        ("a", 0, 0, 0.0),
        ("a", 1, 2, 0.0),
        ("a", 1, -1, 0.0),
        ("a", 2, 1, np.nan),
        ("a", np.nan, 0, 0.0),
    ],
)
def test_what_cannot_have_been_measured_is_refused(wrong):
    router = Router(["a", "b", "c"], SIZE, MISSED)
    with pytest.raises(ExecutionError, match="give a venue of a, b, c"):
        router.record(*wrong)


def test_a_full_fill_says_at_least_and_a_short_one_says_how_deep():
    full, short = (Router(["a", "b", "c"], SIZE, MISSED) for _ in range(2))
    for _ in range(100):
        full.record("a", 50, 50, 0.001)
        short.record("a", 60, 50, 0.001)
    assert (
        full.depths()[0] == (5 * 0.4 * SIZE + 100 * 50) / 5 and short.depths()[0] == (5 * 0.4 * SIZE + 100 * 50) / 105
    )


def test_what_a_cap_takes_is_split_anew_and_not_handed_to_the_neighbour():
    router = Router(["a", "b", "c"], SIZE, MISSED, strength=1e6)
    sent = router.route(SIZE, {"a": 100.0})
    assert sent["a"] == 100 and abs(sent["b"] - 450) < 10 and abs(sent["c"] - 450) < 10
