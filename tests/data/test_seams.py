"""data.seams: rows that belong side by side, and rows that do not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.panel import as_panel
from quantlab.data import seams
from quantlab.data.bars import adjust
from quantlab.data.seams import Disagreement, restatements, split_jumps, upsert

DAYS = pd.bdate_range("2024-01-01", periods=40)
PRICES = ["open", "high", "low", "close"]


def market(symbols=("A", "B"), seed=0, days=DAYS, **more):
    "A random walk of prices with many digits."
    rng, tables = np.random.default_rng(seed), []
    for symbol in symbols:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, len(days))))
        first = close * np.exp(rng.normal(0, 0.01, len(days)))
        table = {
            "date": days,
            "symbol": symbol,
            "open": first,
            "high": np.maximum(first, close) * 1.01,
            "low": np.minimum(first, close) * 0.99,
        }
        tables.append(
            pd.DataFrame(table | {"close": close, "volume": rng.integers(1_000, 9_000, len(days)).astype(float)} | more)
        )
    return as_panel(pd.concat(tables))


def told(truth, last, factor):
    "What a vendor delivers who adjusts to a last day: events after it are not known."
    part = truth[truth.index.get_level_values("date") <= last]
    level = part[factor] / part[factor].groupby(level="symbol").transform("last")
    return part.assign(**{factor: level})


# --- jumps -------------------------------------------------------------------------------------------------------


@given(st.sampled_from([2, 3, 4, 5, 7, 10, 20]), st.booleans(), st.integers(1, 39), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_split_that_no_factor_carries_is_found_and_a_carried_one_is_not(ratio, reverse, day, with_adj):
    bars, size = market(), 1 / ratio if reverse else ratio
    old = (bars.index.get_level_values("date") < DAYS[day]) & (bars.index.get_level_values("symbol") == "B")
    traded = bars.assign(
        **{c: bars[c].where(~old, bars[c] * size) for c in PRICES},
        **({"adj": np.where(old, 1 / size, 1.0)} if with_adj else {}),
    )
    found = split_jumps(traded)
    if (
        with_adj
        or abs(np.log(bars["open"].unstack().iloc[day]["B"] / bars["close"].unstack().iloc[day - 1]["B"])) < 0.03
    ):
        assert (
            list(found.index) == [(DAYS[day], "B")]
            and found["ratio"].iloc[0] == pytest.approx(size)
            and found["proven"].iloc[0] == with_adj
        )
    if with_adj:
        assert split_jumps(adjust(traded, "total")).empty
    assert split_jumps(bars).empty and split_jumps(bars.iloc[:0]).empty


def test_special_dividends_and_crashes_are_no_proven_splits():
    bars = market("A", adj=1.0)
    bars.iloc[:20, bars.columns.get_indexer(PRICES)] *= 6.2
    bars.iloc[:20, bars.columns.get_loc("adj")] /= 6.2  # a payout, not a simple ratio
    assert not split_jumps(bars)["proven"].any()
    bars.iloc[:20, bars.columns.get_indexer(PRICES)] *= 1.7 / 6.2
    assert split_jumps(bars.drop(columns="adj")).empty, "minus 41 % is a bad day"


# --- two deliveries ----------------------------------------------------------------------------------------------


@given(
    st.integers(2, 37),
    st.integers(1, 10),
    st.floats(0.02, 50).filter(lambda k: abs(k - 1) > 1e-3),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=12, deadline=None)
@pytest.mark.filterwarnings("ignore:.*re-based")
def test_one_ratio_is_rebased_whichever_file_came_first(cut, overlap, ratio, shares, backwards):
    "Law: cut a history in two that overlap, rescale one: the stored returns are those of the history."
    truth = market()
    early, late = truth.loc[: DAYS[cut]], truth.loc[DAYS[max(0, cut - overlap)] :]
    late = late.assign(**{c: late[c] * ratio for c in PRICES}, volume=late["volume"] / (ratio if shares else 1))
    whole = upsert(*((late, early) if backwards else (early, late)))
    pd.testing.assert_frame_equal(whole[PRICES], truth[PRICES] * ratio, rtol=1e-9)
    money = truth["volume"] / (ratio if shares else 1)
    np.testing.assert_allclose(whole["volume"], money, rtol=1e-9)
    for again in (early, late):
        pd.testing.assert_frame_equal(upsert(whole, again), whole, rtol=1e-9)


@given(st.integers(3, 30), st.integers(0, 35), st.floats(0.5, 0.99), st.sampled_from([None, 2, 3, 7]))
@settings(max_examples=12, deadline=None)
@pytest.mark.filterwarnings("ignore:.*re-based")
def test_factors_of_two_vintages_join_to_the_last_one(first, event, payout, split):
    """Law: deliveries adjusted to different last days, with a dividend or a split on a random day, join to the later
    vintage."""
    factor = "split" if split else "adj"
    old = np.arange(len(DAYS)) < event
    truth = market(**{factor: np.where(old, 1 / split if split else payout, 1.0)})
    early, late = told(truth, DAYS[first], factor), truth.loc[DAYS[first - 2] :]
    whole = upsert(early, late)
    pd.testing.assert_frame_equal(whole, truth, rtol=1e-9)
    assert np.allclose(
        adjust(whole, factor.replace("adj", "total"))["close"], adjust(truth, factor.replace("adj", "total"))["close"]
    )


@given(st.integers(0, 9), st.sampled_from([*PRICES, "adj"]), st.floats(1.001, 3), st.sampled_from([1.0, 0.93]))
@settings(max_examples=12, deadline=None)
def test_a_changed_value_in_the_middle_is_refused_by_name_and_day(day, column, change, ratio):
    truth = market(adj=1.0)
    early, late = truth.loc[: DAYS[19]], truth.loc[DAYS[10] :].copy()
    late[PRICES] *= ratio
    late.loc[(DAYS[10 + day], "B"), column] *= change
    with pytest.raises(Disagreement, match=rf"^x: .*B on {DAYS[10 + day]:%Y-%m-%d}: {column} is .*revise=True"):
        restatements(early, late, "x")
    pd.testing.assert_frame_equal(upsert(early, late, revise=True).loc[DAYS[10] :], late)


def test_a_cent_is_no_rounding():
    truth = market().round(2)
    late = truth.loc[DAYS[10] :].copy()
    late.loc[(DAYS[15], "A"), "close"] += 0.01
    with pytest.raises(Disagreement, match="A on 2024-01-22: close"):
        restatements(truth, late)
    assert restatements(truth, market().loc[DAYS[10] :]).empty, "four digits more are no contradiction"


@given(st.floats(0.3, 0.999), st.integers(2, 4), st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
@pytest.mark.filterwarnings("ignore:.*re-based")
def test_printed_digits_explain_small_differences(ratio, digits, seed):
    "Prices that a vendor rounds after rescaling still show their one ratio."
    truth = market(seed=seed)
    early, late = truth.loc[: DAYS[25]].round(digits), truth.loc[DAYS[15] :]
    late = late.assign(**{c: (late[c] * ratio).round(digits) for c in PRICES})
    whole = upsert(early, late)
    move = np.log(whole["close"]).groupby(level="symbol").diff() - np.log(truth["close"]).groupby(level="symbol").diff()
    assert move.abs().max() < 4 * 10.0**-digits / (truth["low"].min() * ratio)


def test_equal_rows_and_corrected_volumes_are_no_contradiction():
    truth = market(adj=1.0)
    assert (
        restatements(truth, truth).empty
        and restatements(truth.iloc[:0], truth).empty
        and restatements(truth, truth.iloc[:0]).empty
    )
    late = truth.loc[DAYS[20] :].assign(volume=lambda f: f["volume"] * 1.1)
    assert (
        upsert(truth, late).loc[DAYS[20] :].equals(late)
        and restatements(truth, truth.astype("float32").astype("float64")).empty
    )
    other = truth.loc[[DAYS[3]]].rename(index={"A": "Z"})
    assert restatements(truth, other[other.index.get_level_values("symbol") == "Z"]).empty


def test_the_message_says_what_was_rebased():
    truth = market(adj=1.0)
    late = truth.loc[DAYS[10] :].assign(adj=lambda f: np.where(f.index.get_level_values("symbol") == "A", 0.97, 1.0))
    with pytest.warns(
        UserWarning, match=r"1 symbol\(s\) came on another price level.*stored rows were re-based \(A: adj x 0.97\)"
    ):
        whole = upsert(truth.loc[: DAYS[20]], late)
    assert set(whole["adj"].xs("A", level="symbol")) == {0.97} and set(whole["adj"].xs("B", level="symbol")) == {1.0}
    with pytest.warns(UserWarning, match="new rows were re-based"):
        assert upsert(whole, truth.loc[: DAYS[20]]).equals(whole)


def test_many_contradictions_are_counted():
    truth = market([f"S{i}" for i in range(8)])
    noise = np.random.default_rng(1).uniform(1.01, 1.1, len(truth))
    with pytest.raises(Disagreement, match=r"S0 on .*S1 on .*S2 on .*; and 5 more symbol\(s\)"):
        restatements(truth, truth.assign(**{c: truth[c] * noise for c in PRICES}))


def test_intraday_deliveries_too():
    ends = pd.date_range("2024-01-02 15:00", periods=40, freq="5min", tz="UTC")
    truth = market(days=ends)
    late = truth.loc[ends[20] :].assign(**{c: truth.loc[ends[20] :, c] * 0.5 for c in PRICES})
    with pytest.warns(UserWarning, match="re-based"):
        whole = upsert(truth.loc[: ends[30]], late)
    np.testing.assert_allclose(whole["close"], truth["close"] * 0.5)


def test_a_revised_row_replaces_and_nothing_changes_nothing():
    truth = market("A")
    changed = truth.iloc[[4]] * 2
    with pytest.raises(Disagreement, match="one row cannot tell a correction from a new price level"):
        upsert(truth, changed)
    revised = upsert(truth, changed, revise=True)
    assert revised.iloc[4].equals(changed.iloc[0]) and revised.drop(index=revised.index[4]).equals(
        truth.drop(index=truth.index[4])
    )
    assert upsert(truth.iloc[:0], truth).equals(truth) and upsert(truth, truth.iloc[:0]).equals(truth)


@pytest.mark.parametrize("share", [1.0, 0.8, 0.1])
def test_jumps_are_those_of_a_slow_search_however_rows_are_cut_into_pieces(monkeypatch, share):
    "Against pandas' shift by symbol, with names that come, go and miss days, over many small pieces of dates and rows."
    monkeypatch.setattr(seams, "_DATES", 4)
    monkeypatch.setattr(seams, "_ROWS", 7)
    rng = np.random.default_rng(int(10 * share))
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=40), [f"S{i}" for i in range(6)]], names=["date", "symbol"]
    )
    close = rng.choice([10.0, 20.0, 30.0], len(index))
    bars = pd.DataFrame({"open": rng.choice([10.0, 20.0, 30.0], len(index)), "close": close}, index=index)
    bars = bars[rng.random(len(bars)) < share]
    last = bars["close"].groupby(level="symbol").shift()
    move = last / bars["open"]
    stays = (bars["close"] / bars["open"]).between(np.exp(-0.15), np.exp(0.15))
    likely = move.index[
        stays & (np.isclose(move, 2) | np.isclose(move, 0.5) | np.isclose(move, 3) | np.isclose(move, 1 / 3))
    ]
    found = split_jumps(bars)
    assert list(found.index) == list(likely)
    assert len(found) and np.allclose(found["before"], last[likely]) and np.allclose(found["ratio"], move[likely])
