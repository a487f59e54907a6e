"""labels.orders: facts by hand and against a slow walk, counts that add up, nothing from after a cut, and weights that
equal Kaplan-Meier and Aalen-Johansen and find a planted chance."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_book
from quantlab.labels.orders import ORDER_OUTCOMES, censoring_weights, fill_labels, order_outcomes, outcome_counts
from quantlab.micro.book import MESSAGE_COLUMNS, parse_messages
from quantlab.micro.simulate import FlowSpec, simulate_book

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "lob"
SEEDS = st.integers(0, 10**6)


def tape(seed: int, n: int = 60) -> pd.DataFrame:
    "Orders placed, executed, cut and deleted at random, at times that often tie."
    rng = np.random.default_rng(seed)
    rows, left, now = [], {}, 0.0
    for i in range(n):
        now += float(rng.integers(0, 3))
        if not left or rng.random() < 0.4:
            left[i] = int(rng.integers(1, 4))
            rows.append((now, 1, i, left[i], 100, 1))
            continue
        order, kind = int(rng.choice(sorted(left))), int(rng.choice([2, 3, 4, 4, 5]))
        if kind == 5:
            rows.append((now, 5, 0, 1, 100, 1))
            continue
        size = left[order] if kind == 3 else int(rng.integers(1, left[order] + 1))
        left[order] -= size
        if not left[order]:
            del left[order]
        rows.append((now, kind, order, size, 100, 1))
    return pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS))


def slow(messages: pd.DataFrame, horizon: float, end: float) -> list[tuple]:
    "Follow each order by itself, message by message."
    told = []
    for i, m in enumerate(messages.itertuples()):
        if m.type != 1 or m.time > end:
            continue
        left, executed, first, gone = m.size, 0, None, None
        for x in messages.iloc[i + 1 :].itertuples():
            if x.id != m.id or x.time > min(m.time + horizon, end) or x.type not in (2, 3, 4):
                continue
            left -= x.size
            if x.type == 4:
                executed += x.size
                first = x.time - m.time if first is None else first
            if left <= 0 or x.type == 3:
                gone = x.time - m.time if gone is None else gone
        if executed == m.size:
            what = "filled"
        elif gone is None and m.time + horizon > end:
            what = "censored"
        elif executed:
            what = "part"
        else:
            what = "open" if gone is None else "cancelled"
        told.append((what, executed, np.nan if first is None else first, np.nan if gone is None else gone))
    return told


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([1.0, 3.0, 10.0]), st.integers(0, 80))
def test_outcomes_equal_a_slow_walk_and_a_cut_moves_nothing_that_was_known(seed, horizon, cut):
    messages = tape(seed)
    end = float(messages["time"].iloc[-1])
    whole = order_outcomes(messages, horizon)
    want = pd.DataFrame(slow(messages, horizon, end), columns=["outcome", "executed", "first", "gone"])
    got = whole[["outcome", "executed", "first", "gone"]].astype({"outcome": "str"}).reset_index(drop=True)
    pd.testing.assert_frame_equal(got, want.astype({"outcome": "str"}))
    part = order_outcomes(messages, horizon, end=float(cut))
    known = part["t1"] <= cut
    pd.testing.assert_frame_equal(part[known], order_outcomes(messages, horizon, end=1e9).loc[part.index[known]])
    assert part["late"].equals(~known)
    for one in (whole, part):
        counts = outcome_counts(one)
        assert counts[list(ORDER_OUTCOMES)].sum() == counts["orders"] == len(one)
        assert counts["late"] == counts["censored"] + counts["late, settled"]
        labels = fill_labels(one)
        assert (labels["y"].isna() == one["late"]).all() and (labels["weight"] == ~one["late"]).all()


def survival(age, event, h):
    "Kaplan-Meier by hand: the share that has had no event by h."
    s = 1.0
    for a in sorted(set(age)):
        if a <= h:
            s *= 1 - sum(e and x == a for x, e in zip(age, event, strict=True)) / sum(x >= a for x in age)
    return s


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["fill", "other", "lost"])), min_size=1, max_size=30))
def test_weights_give_kaplan_meier_and_aalen_johansen(rows):
    age, kind = np.array([float(a) for a, _ in rows]), np.array([k for _, k in rows])
    n, latest = len(rows), float(age.max())
    lost = kind == "lost"
    weight = censoring_weights(age, lost)
    assert (weight[lost] == 0).all() and (weight[~lost] >= 1).all()
    alone = censoring_weights(age, kind != "fill")  # every other end is a loss
    s, incidence = 1.0, 0.0
    for a in sorted(set(age)):
        at_risk = (age >= a).sum()
        incidence += s * ((age == a) & (kind == "fill")).sum() / at_risk
        s *= 1 - ((age == a) & ~lost).sum() / at_risk
    assert np.isclose((alone * (kind == "fill")).sum() / n, 1 - survival(age, kind == "fill", latest))
    assert np.isclose((weight * (kind == "fill")).sum() / n, incidence)


def test_a_planted_chance_is_found_with_weights_and_missed_without():
    rng, n, horizon = np.random.default_rng(5), 6_000, 10.0
    start = np.sort(rng.uniform(0, 3_000, n))
    fill, cancel = rng.exponential(10.0, n), rng.exponential(12.0, n)
    new = pd.DataFrame({"time": start, "type": 1, "id": np.arange(n)})
    leave = pd.DataFrame(
        {"time": start + np.minimum(fill, cancel), "type": np.where(fill < cancel, 4, 3), "id": new["id"]}
    )
    messages = pd.concat([new, leave]).assign(size=100, price=10_000, direction=1).sort_values("time", kind="stable")
    told = order_outcomes(messages[list(MESSAGE_COLUMNS)].reset_index(drop=True), horizon, end=3_000.0)
    error = 4 * 0.5 / n**0.5
    stays, rate = 1 - np.exp(-1.0), 1 / 10 + 1 / 12
    labels = fill_labels(told, censored="weight", cancelled="censored")
    assert abs((labels["y"].fillna(0) * labels["weight"]).sum() / n - stays) < 1.5 * error
    assert (
        abs(fill_labels(told, cancelled="censored")["y"].mean() - stays) > 2 * error
    )  # who cancels is left out: biased
    both = fill_labels(told, censored="weight")
    assert abs((both["y"].fillna(0) * both["weight"]).sum() / n - (1 - np.exp(-rate * horizon)) / 10 / rate) < error


def test_an_order_that_was_filled_in_the_last_seconds_is_not_kept_alone():
    rows = [(0.0, 1, 1, 100, 100, 1), (1.0, 1, 2, 100, 100, 1), (1.5, 4, 1, 100, 100, 1), (2.0, 5, 0, 1, 101, 1)]
    told = order_outcomes(pd.DataFrame(rows, columns=list(MESSAGE_COLUMNS)))
    assert told["outcome"].tolist() == ["filled", "censored"] and fill_labels(told)["y"].isna().all()
    assert fill_labels(told, censored="weight")["y"].fillna(-1).tolist() == [1, -1]


def test_empty_one_row_and_all_cancelled():
    messages, _ = sample_book()
    nothing = order_outcomes(messages.iloc[:0])
    assert (
        len(nothing) == 0 and outcome_counts(nothing).sum() == 0 and len(fill_labels(nothing, censored="weight")) == 0
    )
    one = order_outcomes(messages.iloc[:1])
    assert one["outcome"].tolist() == ["censored"] and fill_labels(one)["weight"].tolist() == [0]
    new = messages[messages["type"] == 1].iloc[:50].assign(time=0.0)
    gone = pd.concat([new, new.assign(time=1.0, type=3)], ignore_index=True)
    told = order_outcomes(gone, end=20.0)
    assert (told["outcome"] == "cancelled").all() and (fill_labels(told)["y"] == 0).all()
    assert fill_labels(told, cancelled="censored")["y"].isna().all()
    assert len(censoring_weights(np.array([]), np.array([], dtype=bool))) == 0


def test_what_is_refused():
    messages, _ = sample_book()
    for horizon in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="horizon"):
            order_outcomes(messages, horizon)
    told = order_outcomes(messages)
    for key in ("censored", "cancelled"):
        with pytest.raises(ConfigError, match=key):
            fill_labels(told, **{key: "kept"})
    with pytest.raises(DataError, match="second time"):
        order_outcomes(messages.assign(id=1))
    with pytest.raises(DataError, match="placed after it"):
        order_outcomes(pd.concat([messages.iloc[[33]], messages[messages["time"] >= messages["time"][33]]]).assign(
            id=lambda m: np.where(np.arange(len(m)) == 0, m["id"].iloc[2], m["id"])
        ))  # fmt: skip
    for age in ([1.0, np.nan], [1.0, -1.0], [1.0]):
        with pytest.raises(DataError, match="ages"):
            censoring_weights(np.array(age), np.array([True, False]))


def test_the_planted_hazard_of_a_simulated_book():
    spec = FlowSpec(cut=0.0, end=37_800.0)
    lives = order_outcomes(simulate_book(spec, seed=1).messages, horizon=30.0)
    taken = (lives["gone"].notna() & (lives["executed"] < lives["size"])).to_numpy()
    weight = censoring_weights(
        lives["gone"].fillna(lives["watched"]).to_numpy(), ~taken & (lives["gone"].notna() | lives["late"])
    )
    assert abs((weight * taken).sum() / len(lives) - (1 - np.exp(-0.6))) < 4 * 0.5 / len(lives) ** 0.5


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day():
    messages = parse_messages((SHARED / "AMZN_2012-06-21_34200000_57600000_message_1.csv").read_text())
    counts = outcome_counts(order_outcomes(messages))
    assert counts.to_dict() == {
        "orders": 27_845, "filled": 3_525, "part": 321, "cancelled": 12_929, "open": 11_056, "censored": 14,
        "late": 66, "late, settled": 52,
    }  # fmt: skip


def test_an_end_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="the end is no number"):
        order_outcomes(sample_book("SIMA")[0], end=float("nan"))
