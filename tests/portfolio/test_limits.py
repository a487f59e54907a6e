"""Limits: what may be asked, what is measured, and the laws of water-filling on random books, feasible or not."""

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.portfolio.limits import Limits, fill_caps, limits_as_dict, limits_from, limits_used
from quantlab.portfolio.weights import cap_weights

LETTERS = np.array(list("abcd"))
weight = st.one_of(st.just(0.0), st.floats(-2, 2, allow_nan=False, width=32), st.sampled_from([1e-12, -1e-12, 1e-200]))


@st.composite
def books(draw, most: int = 12):
    "Draw weights, sectors and both caps: tight ones, wide ones, none."
    n = draw(st.integers(0, most))
    w = np.array(draw(st.lists(weight, min_size=n, max_size=n)), dtype=float)
    sectors = LETTERS[draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))]
    cap = draw(st.one_of(st.none(), st.floats(1e-3, 3.0)))
    sector = draw(st.one_of(st.none(), st.just(0.0), st.floats(1e-3, 5.0)))
    return w, sectors, Limits(max_weight=cap, max_sector=sector)


def sides(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(w, 0.0), np.maximum(-w, 0.0)


def room_for(side: np.ndarray, sectors: np.ndarray, limits: Limits) -> float:
    "Return the most that the caps let this side hold."
    name = np.inf if limits.max_weight is None else limits.max_weight
    sector = np.inf if limits.max_sector is None else limits.max_sector
    count = [(sectors[side > 0] == s).sum() for s in LETTERS]
    return float(sum(min(sector, name * k) for k in count if k))


def by_bisection(side: np.ndarray, sectors: np.ndarray, limits: Limits) -> np.ndarray:
    "Water-fill by search: one level for the book, a lower one for a sector that would run over."
    name = np.inf if limits.max_weight is None else limits.max_weight
    sector = np.inf if limits.max_sector is None else limits.max_sector

    def at(level, mine):
        return np.minimum(name, level * side[mine])

    def search(total, filled, high):
        low = 0.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if filled(middle) < total else (low, middle)
        return high

    groups = [sectors == s for s in LETTERS if (side[sectors == s] > 0).any()]
    top = 1e4
    own = [search(sector, lambda lv, g=g: at(lv, g).sum(), top) if at(top, g).sum() > sector else top for g in groups]

    def book(level):
        out = np.zeros(len(side))
        for g, most in zip(groups, own, strict=True):
            out[g] = at(min(level, most), g)
        return out

    return book(search(min(side.sum(), room_for(side, sectors, limits)), lambda lv: book(lv).sum(), top))


@settings(max_examples=300)
@given(books())
def test_caps_hold_and_no_side_is_larger_than_it_was(drawn):
    w, sectors, limits = drawn
    filled = fill_caps(w, limits, sectors)
    assert np.isfinite(filled).all() and filled.shape == w.shape
    assert (np.sign(filled) * np.sign(w) >= 0).all() and (filled[w == 0] == 0).all(), "a side is never changed"
    table = limits_used(filled, Limits(limits.max_weight, None, None, limits.max_sector, None), sectors=sectors)
    assert not table["breached"].any()
    for before, after in zip(sides(w), sides(filled), strict=True):
        if limits.max_sector is not None:
            assert all(after[sectors == s].sum() <= limits.max_sector + 1e-9 for s in LETTERS)
        assert after.sum() == pytest.approx(min(before.sum(), room_for(before, sectors, limits)), rel=1e-9, abs=1e-12)


@settings(max_examples=300)
@given(books())
def test_what_is_not_capped_keeps_its_proportion(drawn):
    w, sectors, limits = drawn
    filled = fill_caps(w, limits, sectors)
    name = np.inf if limits.max_weight is None else limits.max_weight
    sector = np.inf if limits.max_sector is None else limits.max_sector
    for before, after in zip(sides(w), sides(filled), strict=True):
        held = before > 1e-6
        full = [s for s in LETTERS if after[sectors == s].sum() >= sector * (1 - 1e-9)]
        free = held & (after < name * (1 - 1e-9))
        groups = [free & (sectors == s) for s in full] + [free & ~np.isin(sectors, full)]
        levels = [after[g] / before[g] for g in groups]
        assert all(np.allclose(level, level[0], rtol=1e-6) for level in levels if len(level))
        if len(levels[-1]) and full:  # a sector at its cap is filled to a lower level than the rest
            assert all((level <= levels[-1][0] * (1 + 1e-6)).all() for level in levels[:-1])


@settings(max_examples=150)
@given(books(8))
def test_filling_agrees_with_a_search_for_the_level(drawn):
    w, sectors, limits = drawn
    w = np.where(np.abs(w) < 1e-3, 0.0, w)
    filled = fill_caps(w, limits, sectors)
    expected = [by_bisection(side, sectors, limits) for side in sides(w)]
    assert filled == pytest.approx(expected[0] - expected[1], rel=1e-6, abs=1e-9)


@settings(max_examples=150)
@given(books(), st.randoms(use_true_random=False))
def test_order_side_and_a_second_filling_do_not_matter(drawn, random):
    w, sectors, limits = drawn
    filled = fill_caps(w, limits, sectors)
    order = random.sample(range(len(w)), len(w))
    assert fill_caps(w[order], limits, sectors[order]) == pytest.approx(filled[order], rel=1e-9, abs=1e-15)
    assert (fill_caps(-w, limits, sectors) == -filled).all()
    assert fill_caps(filled, limits, sectors) == pytest.approx(filled, rel=1e-9, abs=1e-12)
    scaled = {
        k: None if v is None else v / 4
        for k, v in (("max_weight", limits.max_weight), ("max_sector", limits.max_sector))
    }
    assert fill_caps(w / 4, Limits(**scaled), sectors) == pytest.approx(filled / 4, rel=1e-9, abs=1e-12)


@settings(max_examples=100)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=10), st.floats(0.01, 1))
def test_without_sectors_it_is_the_filling_of_cap_weights(values, cap):
    w = np.array(values)
    assert fill_caps(w, Limits(max_weight=cap)) == pytest.approx(cap_weights(w, cap), rel=1e-9)


def test_filling_by_hand():
    limits = Limits(max_weight=0.4)
    assert fill_caps(np.array([0.6, 0.3, 0.1]), limits) == pytest.approx([0.4, 0.4, 0.2])
    assert fill_caps(np.array([0.6, 0.4]), limits) == pytest.approx([0.4, 0.4]), "two names hold no more than 0.8"
    assert fill_caps(np.array([0.6, 0.0, -0.5, -0.1]), limits) == pytest.approx([0.4, 0, -0.4, -0.2])
    tech = Limits(max_weight=0.5, max_sector=0.6)
    got = fill_caps(np.array([0.4, 0.4, 0.1, 0.1]), tech, np.array(["t", "t", "u", "v"]))
    assert got == pytest.approx([0.3, 0.3, 0.2, 0.2])
    neutral = Limits(max_weight=0.5, max_sector=0.0)
    assert fill_caps(np.array([0.4, 0.6]), neutral, np.array(["t", "u"])).tolist() == [0, 0]
    assert fill_caps(np.array([]), tech, np.array([])).shape == (0,)
    assert fill_caps(np.array([0.2]), tech, np.array(["t"])).tolist() == [0.2]
    assert fill_caps(np.array([9.0, -9.0]), Limits(max_weight=None)).tolist() == [9.0, -9.0], "nothing is limited"


def test_weights_and_sectors_that_lack_are_refused():
    limits = Limits(max_sector=0.3)
    for wrong, message in (
        (np.array([0.1, np.nan]), "number 1 is nan"),
        (np.array([np.inf, 0.1]), "number 0 is inf"),
        (np.ones((2, 2)), "shape"),
    ):
        with pytest.raises(PanelError, match=message):
            fill_caps(wrong, limits, np.array(["a", "b"]))
    for sectors, message in (
        (None, "max_sector needs sectors"),
        (np.array(["a"]), "there are 1"),
        (np.array(["a", None]), "number 1 has none"),
    ):
        with pytest.raises(PanelError, match=message):
            fill_caps(np.array([0.1, 0.1]), limits, sectors)
    assert fill_caps(np.array([0.5, 0.5]), Limits(max_weight=0.5), np.array(["a", None])).tolist() == [0.5, 0.5]


@settings(max_examples=100)
@given(books(), st.lists(weight, min_size=12, max_size=12))
def test_what_is_measured_is_what_the_words_say(drawn, before):
    w, sectors, _ = drawn
    held, limits = np.array(before[: len(w)]), Limits(0.5, 1.0, 0.2, 0.3, 0.4)
    used = limits_used(w, limits, held, sectors)["used"]
    assert used["max_weight"] == pytest.approx(np.abs(w).max(initial=0))
    assert used["max_gross"] == pytest.approx(np.abs(w).sum()) and used["max_net"] == pytest.approx(abs(w.sum()))
    assert used["max_sector"] == pytest.approx(max((abs(w[sectors == s].sum()) for s in LETTERS), default=0))
    assert ("max_turnover" in used) == held.any(), "a book that is built up has no turnover"
    if held.any():
        assert used["max_turnover"] == pytest.approx(np.abs(w - held).sum())
    table = limits_used(w, limits, held, sectors)
    assert (table["breached"] == (table["used"] > table["allowed"] + 1e-9)).all()


def test_measures_that_lack_something_are_refused():
    w = np.array([0.1, 0.2])
    with pytest.raises(PanelError, match="2 weights and 1 before"):
        limits_used(w, Limits(), np.array([0.1]))
    with pytest.raises(PanelError, match="max_adv needs traded"):
        limits_used(w, Limits(max_adv=0.05))
    with pytest.raises(PanelError, match="traded has shape"):
        limits_used(w, Limits(max_adv=0.05), traded=np.array([1.0]))
    table = limits_used(w, Limits(max_adv=0.05), traded=np.array([np.nan, 1e9]))
    assert table.loc["max_adv", "used"] == np.inf and table.loc["max_adv", "at"] == 0, "nobody knows what is traded"
    assert limits_used(np.array([]), Limits()).loc["max_weight", "used"] == 0


NUMBERS = [f.name for f in fields(Limits) if f.name not in ("stops", "max_age", "flatten")]


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_has_a_range_and_none_is_no_limit(name):
    for wrong in (-0.1, np.nan, np.inf, True, "0.1", [0.1], 1e6):
        with pytest.raises(ConfigError, match=f"Limits: {name}="):
            Limits(**{name: wrong})
    assert getattr(Limits(**{name: None}), name) is None and getattr(Limits(**{name: 0.5}), name) == 0.5
    if name in ("max_net", "max_sector"):
        assert getattr(Limits(**{name: 0}), name) == 0, "neutral"
    else:
        with pytest.raises(ConfigError, match=name):
            Limits(**{name: 0.0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"stops": {"L1": 0.0}}, {"stops": {"L1": 1.5}}, {"stops": {1: 0.1}}, {"stops": None}, {"stops": 0.1},
        {"stops": {"L1": np.nan}}, {"flatten": 1}, {"flatten": None}, {"max_age": "soon"}, {"max_age": "0s"},
        {"max_age": pd.NaT}, {"max_age": -pd.Timedelta("1D")}, {"max_age": 900}, {"max_age": 0.5}, {"max_age": True},
    ],
)  # fmt: skip
def test_the_others_have_their_kind(wrong):
    with pytest.raises(ConfigError, match=f"Limits: {next(iter(wrong))}="):
        Limits(**wrong)


def test_a_record_stays_as_it_was_written():
    mine = {"L1": 0.05}
    limits = Limits(stops=mine, max_age="15min")
    mine["L1"] = 0.5
    assert limits.stops == {"L1": 0.05} and limits.max_age == pd.Timedelta(minutes=15)
    with pytest.raises(FrozenInstanceError):
        limits.max_weight = 1.0
    assert hash(Limits()) == hash(Limits()) and Limits() == Limits()


some = st.fixed_dictionaries(
    {},
    optional={name: st.one_of(st.none(), st.floats(0.001, 0.999)) for name in NUMBERS}
    | {
        "stops": st.dictionaries(st.sampled_from(["L1", "L2", "L9"]), st.floats(0.001, 1.0)),
        "max_age": st.one_of(st.none(), st.integers(1, 10**7).map(lambda s: pd.Timedelta(seconds=s))),
        "flatten": st.booleans(),
    },
)


@settings(max_examples=150)
@given(some, st.booleans())
def test_limits_survive_json_and_yaml(given_limits, everything):
    limits = Limits(**given_limits)
    plain = limits_as_dict(limits, everything)
    assert limits_from(plain) == limits
    assert limits_from(json.loads(json.dumps(plain))) == limits
    assert limits_from(yaml.safe_load(yaml.safe_dump(plain))) == limits
    assert set(plain) == {f.name for f in fields(Limits)} if everything else set(plain) <= set(given_limits)


def test_names_that_are_no_limits_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean max_weight"):
        limits_from({"max_wieght": 0.2})
    with pytest.raises(ConfigError, match="is no limit"):
        limits_from({"colour": "red"})
    with pytest.raises(ConfigError, match="give names and values"):
        limits_from([("max_weight", 0.2)])
    assert limits_from({}) == Limits() and limits_as_dict(Limits()) == {}
