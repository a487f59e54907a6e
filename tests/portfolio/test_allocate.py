"""Allocation: shares by hand and on planted truth, causality, and the one book against the sum of its parts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtri

from quantlab.core.audit import audit
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.calendar import exchange_sessions
from quantlab.portfolio.allocate import ALLOCATIONS, Allocation, one_book, strategy_evidence, strategy_shares

SESSIONS = exchange_sessions("XNYS", "2010-01-01", "2019-12-31").rename("date")


def made(seed: int, ratios=(1.0, 0.0), days: int = 2500, volatility=0.01, common: float = 0.0) -> pd.DataFrame:
    "Daily returns with known Sharpe ratios a year."
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(days, len(ratios))) * np.sqrt(1 - common) + rng.normal(size=(days, 1)) * np.sqrt(common)
    values = (noise + np.array(ratios) / 252**0.5) * volatility
    return pd.DataFrame(values, SESSIONS[:days], [f"s{k}" for k in range(len(ratios))])


def test_shares_by_hand():
    past = made(1, (0, 0, 0), volatility=np.array([0.01, 0.02, 0.04]))
    assert strategy_shares(past, "equal").tolist() == pytest.approx([1 / 3] * 3)
    spread = past.iloc[-252:].std()
    assert strategy_shares(past, "inverse_risk").tolist() == pytest.approx(((1 / spread) / (1 / spread).sum()).tolist())
    assert strategy_shares(past, "inverse_risk").tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7], rel=0.1)
    short = strategy_shares(past, "inverse_risk", lookback=60, min_history=60)
    assert short.tolist() == pytest.approx(((1 / past.iloc[-60:].std()) / (1 / past.iloc[-60:].std()).sum()).tolist())


def test_equal_risk_sees_that_two_are_one_bet():
    one = made(2, (0, 0))
    twins = one.assign(again=one["s0"] + np.random.default_rng(3).normal(0, 1e-5, len(one)))
    by_spread, by_risk = strategy_shares(twins, "inverse_risk"), strategy_shares(twins, "equal_risk")
    assert by_spread["s1"] == pytest.approx(1 / 3, abs=0.03), "inverse risk does not see it"
    window = twins.iloc[-252:].cov() * 251 / 252
    part = by_risk * (window @ by_risk)
    assert (part / part.sum()).tolist() == pytest.approx([1 / 3] * 3, abs=0.01), "each carries a third of the risk"
    assert by_risk["s1"] == pytest.approx(1 / (1 + np.sqrt(2)), abs=0.03)


def test_evidence_by_hand():
    past = made(4, (1.5, 1.0, 0.0))
    table = strategy_evidence(past, level=0.05)
    sharpe = past.mean() / past.std()
    assert table["sharpe"].tolist() == pytest.approx(sharpe.tolist())
    assert table["se"].tolist() == pytest.approx([1 / np.sqrt(2500)] * 3, rel=0.15), "independent returns: 1 / sqrt(n)"
    hurdle = ndtri(1 - 0.05 / 3)
    left = (table["sharpe"] * (1 - (hurdle * table["se"] / table["sharpe"]) ** 2)).where(
        table["sharpe"] > hurdle * table["se"], 0.0
    )
    assert table["left"].tolist() == pytest.approx(left.tolist())
    paid = table[table["left"] > 0]
    assert list(paid.index) == ["s0", "s1"]
    shares = strategy_shares(past, "evidence")
    assert shares["s2"] == 0
    assert shares.sum() == pytest.approx(np.sqrt((paid["left"] ** 2).sum() / (paid["sharpe"] ** 2).sum()))
    cov = past.iloc[-252:][["s0", "s1"]].cov().to_numpy()
    w = shares[["s0", "s1"]].to_numpy()
    part = w * (cov @ w)
    assert part[0] / part[1] == pytest.approx((paid["left"].iloc[0] / paid["left"].iloc[1]) ** 2, rel=0.1)


def test_noise_gets_next_to_nothing_and_skill_more_with_the_years():
    short = pd.DataFrame([strategy_shares(made(seed)[:756], "evidence") for seed in range(60)])
    long = pd.DataFrame([strategy_shares(made(seed), "evidence") for seed in range(60)])
    assert short["s1"].mean() < 0.02 and long["s1"].mean() < 0.02
    assert long["s0"].mean() > 0.35 and long["s0"].mean() > short["s0"].mean() + 0.1
    by_risk = strategy_shares(made(0), "equal_risk")
    assert by_risk["s1"] > 0.4, "risk alone feeds noise as well"


def test_when_all_are_noise_something_is_paid_as_rarely_as_promised():
    worlds = [made(1000 + seed, (0.0,) * 5, days=1260) for seed in range(300)]
    paid = np.mean([(strategy_evidence(world)["left"] > 0).any() for world in worlds])
    assert 0.01 <= paid <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("how", ALLOCATIONS)
def test_later_returns_do_not_matter(how):
    returns = made(5, (2.0, 1.0, 0.0), days=400, common=0.3)
    rule = Allocation(how, lookback=60, min_history=40, rebalance="week_end")
    whole = rule(returns)
    decided = [SESSIONS.get_loc(date) + 1 for date in whole.index[[9, 40, 60]]]
    for cut in (1, 43, *decided):  # some right after a decision, some between two
        assert rule(returns.iloc[:cut]).equals(whole.loc[: SESSIONS[cut - 1]])
    later = returns.copy()
    later.iloc[decided[1] :] *= -7
    moved = rule(later)
    assert moved.iloc[:41].equals(whole.iloc[:41]), "the return of tomorrow is not known tonight"
    assert how == "equal" or not moved.equals(whole)


def test_decisions_fall_on_the_calendar():
    returns = made(6, days=252)
    shares = Allocation("equal", rebalance="month_end")(returns)
    assert [f"{d:%m-%d}" for d in shares.index[:3]] == ["01-29", "02-26", "03-31"]
    assert len(Allocation("equal", rebalance=21)(returns)) == 12
    hours = returns.set_axis(pd.date_range("2020-01-01", periods=252, freq="4h", tz="UTC", name="date"))
    assert len(Allocation("equal", rebalance=42)(hours)) == 6
    with pytest.raises(ConfigError, match="within a session"):
        Allocation("equal")(hours)


@settings(max_examples=60)
@given(
    arrays(float, (70, 4), elements=st.one_of(st.floats(-0.1, 0.1), st.just(np.nan), st.just(0.0))),
    st.sampled_from(ALLOCATIONS),
    st.permutations(range(4)),
)
def test_shares_of_any_past_are_shares(values, how, order):
    past = pd.DataFrame(values, SESSIONS[:70], list("abcd"))
    try:
        shares = strategy_shares(past, how, 60, 20)
    except DataError as error:
        assert "hedge" in str(error)
        return
    assert np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() <= 1 + 1e-9
    assert how == "evidence" or shares.sum() == pytest.approx(1) or (shares == 0).all()
    assert (shares[past.iloc[-1].isna()] == 0).all(), "a strategy that has stopped gets nothing"
    again = strategy_shares(past.iloc[:, list(order)], how, 60, 20)
    assert again[past.columns].tolist() == pytest.approx(shares.tolist(), abs=1e-6)
    doubled = strategy_shares(past * 2, how, 60, 20)
    assert doubled.tolist() == pytest.approx(shares.tolist(), abs=1e-6), "all twice as wild: the same shares"


def test_degenerate_pasts_have_a_defined_answer():
    past = made(7, (1.0, 0.5), days=300)
    for how in ALLOCATIONS:
        assert strategy_shares(past.iloc[:0], how).tolist() == [0, 0]
        assert strategy_shares(past[[]], how).empty
        one = strategy_shares(past[["s0"]], how)
        assert one.tolist() == ([1.0] if how != "evidence" else one.tolist()) and 0 <= one.iloc[0] <= 1
        flat = strategy_shares(past.assign(s1=0.0), how)
        assert flat["s1"] == (0.5 if how == "equal" else 0.0), "what does not move has no risk to share"
        gone = strategy_shares(past.assign(s1=past["s1"].where(past.index < past.index[-1])), how)
        assert gone["s1"] == 0
        young = strategy_shares(past.iloc[:100], how)
        assert young.tolist() == ([0.5, 0.5] if how == "equal" else [0, 0])
        with pytest.raises(DataError, match="s1 are infinite"):
            strategy_shares(past[["s1"]].mul(np.where(past.index == past.index[3], np.inf, 1.0), axis=0), how)
        with pytest.raises(PanelError, match="sorted"):
            strategy_shares(past[::-1], how)
        with pytest.raises(PanelError, match="distinct"):
            strategy_shares(past[["s0", "s0"]], how)
    assert Allocation()(past.iloc[:0]).shape == (0, 2)
    with pytest.raises(PanelError, match="dates"):
        Allocation()(past.reset_index(drop=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"how": "best"}, {"min_history": 19}, {"min_history": 60.5}, {"lookback": 100}, {"level": 0.0}, {"level": 1.0},
        {"level": np.nan}, {"rebalance": "monthly"}, {"rebalance": 0},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        Allocation(**wrong)


def book(rows: dict) -> pd.DataFrame:
    "Weights from {day number: {symbol: weight}}."
    flat = {(SESSIONS[t], s): w for t, names in rows.items() for s, w in names.items()}
    index = pd.MultiIndex.from_tuples(flat, names=["date", "symbol"])
    return pd.DataFrame({"weight": list(flat.values())}, index).sort_index()


def test_one_book_by_hand():
    a = book({0: {"A": 0.6, "B": 0.4}, 4: {"B": 1.0}})  # at 4 it leaves A
    b = book({2: {"A": -0.5, "C": 0.5}})
    shares = pd.DataFrame({"a": [0.5, 0.2], "b": [0.5, 0.8]}, SESSIONS[[1, 3]])
    got = one_book({"a": a, "b": b}, shares)["weight"].unstack()
    assert list(got.index) == list(SESSIONS[[1, 2, 3, 4]]), "nothing is held before there are shares"
    assert got.iloc[0].dropna().to_dict() == pytest.approx({"A": 0.3, "B": 0.2}), "b has not decided: cash"
    assert got.iloc[1].dropna().to_dict() == pytest.approx({"A": 0.05, "B": 0.2, "C": 0.25})
    assert got.iloc[2].dropna().to_dict() == pytest.approx({"A": -0.28, "B": 0.08, "C": 0.4})
    assert got.iloc[3].dropna().to_dict() == pytest.approx({"A": -0.4, "B": 0.2, "C": 0.4})
    ended = one_book({"a": a}, pd.DataFrame({"a": [1.0, 0.0]}, SESSIONS[[1, 3]]))["weight"].unstack()
    assert ended.loc[SESSIONS[3]].dropna().to_dict() == {"A": 0, "B": 0}, "a share of nothing sells the book"


weights = arrays(float, (6, 3), elements=st.floats(-1, 1, width=32))


@settings(max_examples=60)
@given(weights, weights, arrays(float, (3, 2), elements=st.floats(0, 1, width=32)))
def test_one_book_is_the_sum_and_never_larger(first, second, parts):
    index = pd.MultiIndex.from_product([SESSIONS[:6], list("ABC")], names=["date", "symbol"])
    books = {k: pd.DataFrame({"weight": w.ravel()}, index) for k, w in (("x", first), ("y", second))}
    shares = pd.DataFrame(parts, SESSIONS[[0, 2, 4]], ["x", "y"])
    got = one_book(books, shares)["weight"]
    wide = got.unstack().reindex(index=SESSIONS[:6], columns=list("ABC")).fillna(0.0).to_numpy()
    at = np.repeat(parts, 2, axis=0)
    expected = first * at[:, :1] + second * at[:, 1:]
    assert wide == pytest.approx(expected, abs=1e-12)
    apart = np.abs(first).sum(axis=1) * at[:, 0] + np.abs(second).sum(axis=1) * at[:, 1]
    assert (np.abs(wide).sum(axis=1) <= apart + 1e-9).all(), "what cancels is not traded"
    swapped = one_book(dict(reversed(books.items())), shares[["y", "x"]])["weight"]
    assert np.allclose(swapped.reindex(got.index).fillna(0), got, atol=1e-12)


def test_one_book_knows_nothing_of_later_decisions():
    rng = np.random.default_rng(8)
    index = pd.MultiIndex.from_product([SESSIONS[:60], list("ABC")], names=["date", "symbol"])
    panel = pd.DataFrame({"x": rng.normal(size=180), "y": rng.normal(size=180)}, index)
    returns = made(9, (3.0, 0.0), days=60).set_axis(["x", "y"], axis=1)
    rule = Allocation("inverse_risk", 30, 20, rebalance=3)

    def decide(p):
        books = {k: p[[k]].set_axis(["weight"], axis=1) for k in ("x", "y")}
        return one_book(books, rule(returns.loc[: p.index[-1][0]]))

    assert audit(decide, panel).status == "PASS"


def test_books_that_cannot_be_added_are_refused():
    a, shares = book({0: {"A": 1.0}}), pd.DataFrame({"a": [1.0]}, SESSIONS[[0]])
    for books in ({}, {"b": a}, {"a": a, "b": a}):
        with pytest.raises(ConfigError, match="one of each"):
            one_book(books, shares)
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(DataError, match="a share is below 0"):
            one_book({"a": a}, shares * 0 + wrong)
    with pytest.raises(DataError, match="a weight of a is not finite"):
        one_book({"a": a * np.nan}, shares)
    with pytest.raises(PanelError, match="zone"):
        one_book({"a": a}, shares.tz_localize("UTC"))
    assert one_book({"a": a}, shares.iloc[:0]).empty
    assert one_book({"a": a}, shares.set_axis(SESSIONS[[5]]))["weight"].tolist() == [1.0]
