"""Continuous futures: the holder's returns, no roll from the future, a history as of a date, and refusals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.bars import adjust, check_bars
from quantlab.vendors.futures import ROLLS, continuous_future, front_contracts

DAYS = pd.bdate_range("2020-01-01", "2020-12-31").as_unit("us").rename("date")
ENDS = pd.Series(pd.to_datetime(["2020-03-20", "2020-06-19", "2020-09-18", "2021-01-15"]), ["H", "M", "U", "Z"])


def made(seed: int = 0, gap: float = 0.03) -> pd.DataFrame:
    "Four contracts on one random index, each with a carry of its own, volume moving over at random."
    rng = np.random.default_rng(seed)
    index = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(DAYS))))
    parts = []
    for k, (name, end) in enumerate(ENDS.items()):
        live = (DAYS <= end) & (DAYS > end - pd.Timedelta(days=200))
        close = (index * (1 + gap * rng.uniform(-1, 1)) + k)[live]
        high, low = close * 1.01, close * 0.99
        volume = rng.uniform(1, 100, live.sum()).round()
        frame = pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": volume}, DAYS[live])
        parts.append(frame.assign(symbol=name).set_index("symbol", append=True))
    return pd.concat(parts).sort_index()


def slow_front(bars, roll, days):
    "Walk the sessions in plain Python, each from the rows before it."
    held, out = 0, []
    names = list(ENDS.index)
    volume = bars["volume"].unstack("symbol")
    for t, day in enumerate(volume.index):
        begun = held
        weekdays = lambda k: len(pd.bdate_range(day, ENDS.iloc[k])) - 1 if day <= ENDS.iloc[k] else -1
        while held + 1 < len(names) and weekdays(held) < (days if roll == "calendar" else 1):
            held += 1
        if roll == "volume" and held == begun and t >= 2 and held + 1 < len(names):
            seen = volume.iloc[t - 2].fillna(0.0)
            held += int(seen[names[held + 1]] > seen[names[held]])
        out.append(names[held])
    return out


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), roll=st.sampled_from(ROLLS), days=st.integers(1, 20))
def test_the_holder_earns_what_the_history_says(seed, roll, days):
    bars = made(seed)
    found = continuous_future(bars, ENDS, "X", roll, days)
    assert found.contracts.tolist() == slow_front(bars, roll, days)
    closes = bars["close"].unstack("symbol")
    held = [closes.at[d, c] / closes[c].shift()[d] - 1 for d, c in found.contracts.iloc[1:].items()]
    assert adjust(found.bars)["close"].pct_change().iloc[1:].to_numpy() == pytest.approx(held, abs=1e-13)
    points = continuous_future(bars, ENDS, "X", roll, days, "difference").bars["close"].diff().iloc[1:]
    moved = [closes.at[d, c] - closes[c].shift()[d] for d, c in found.contracts.iloc[1:].items()]
    assert points.to_numpy() == pytest.approx(moved, abs=1e-9)
    check_bars(found.bars)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), roll=st.sampled_from(ROLLS), cut=st.integers(5, len(DAYS) - 1))
def test_a_later_bar_moves_no_earlier_answer(seed, roll, cut):
    bars, day = made(seed), DAYS[cut]
    whole = continuous_future(bars, ENDS, "X", roll)
    part = continuous_future(bars, ENDS, "X", roll, as_of=day)
    assert part.contracts.equals(whole.contracts[:day])
    assert part.rolls.to_dict() == whole.rolls[whole.rolls.index < day].to_dict()
    ours, theirs = adjust(part.bars)["close"], adjust(whole.bars, as_of=day)["close"]
    assert ours.to_numpy() == pytest.approx(theirs.to_numpy(), rel=1e-13) and part.bars["adj"].iloc[-1] == 1.0
    wild = bars.copy()
    late = wild.index.get_level_values("date") > day
    wild.loc[late, "volume"] = wild.loc[late, "volume"].to_numpy()[::-1]
    assert front_contracts(wild, ENDS, roll)[:day].equals(whole.contracts[:day])


def test_a_forced_roll_is_not_followed_by_another_on_the_same_session():
    bars = made(5)
    day = next(d for d in DAYS if np.busday_count(d.date(), ENDS["H"].date()) < 1)  # H must be left on it
    seen = DAYS[DAYS.get_loc(day) - 2]
    for name, volume in (("H", 100.0), ("M", 10.0), ("U", 50.0)):  # two closes before, U trades more than M
        bars.loc[(seen, name), "volume"] = volume
    quiet = bars["volume"].where(bars.index.get_level_values("date") >= seen, 1.0)
    front = front_contracts(bars.assign(volume=quiet), ENDS, "volume")
    assert front[DAYS[DAYS.get_loc(day) - 1]] == "H" and front[day] == "M"


def test_none_is_the_contracts_own_prices():
    bars = made(3)
    found = continuous_future(bars, ENDS, "X", adjustment="none")
    own = [bars.at[(d, c), "close"] for d, c in found.contracts.items()]
    assert found.bars["close"].tolist() == own and "adj" not in found.bars


def test_a_front_contract_without_a_bar_leaves_the_session_out():
    bars = made(1)
    found = continuous_future(bars, ENDS, "X", "calendar")
    gone = bars.drop((DAYS[10], found.contracts[DAYS[10]]))
    assert DAYS[10] not in continuous_future(gone, ENDS, "X", "calendar").bars.index.get_level_values("date")


def test_one_contract_and_one_row():
    one = made()[lambda b: b.index.get_level_values("symbol") == "Z"]
    found = continuous_future(one, ENDS, "X")
    assert found.rolls.empty and (found.bars["adj"] == 1).all() and len(found.bars) == len(one)
    assert len(continuous_future(one.iloc[:1], ENDS, "X").bars) == 1


def test_refusals():
    bars = made()
    for bad, kind, words in (
        (lambda: continuous_future(bars, ENDS, "X", roll="oi"), ConfigError, "one of volume, calendar"),
        (lambda: continuous_future(bars, ENDS, "X", "calendar", 0), ConfigError, "at least 1 weekday"),
        (lambda: continuous_future(bars, ENDS, "X", adjustment="log"), ConfigError, "ratio, difference, none"),
        (lambda: continuous_future(bars, ENDS.drop("U"), "X"), DataError, r"no expiry is known of \['U'\]"),
        (lambda: continuous_future(bars, ENDS.where(ENDS.index != "U"), "X"), DataError, "no expiry is known"),
        (lambda: continuous_future(bars.iloc[:0], ENDS, "X"), PanelError, "rows and a column volume"),
        (lambda: continuous_future(bars[["close"]], ENDS, "X"), PanelError, "column volume"),
        (lambda: continuous_future(bars, ENDS - pd.Timedelta("60D"), "X"), DataError, "no contract is left"),
        (lambda: continuous_future(bars, ENDS.replace(ENDS["U"], ENDS["M"]), "X"), DataError, "end on one day"),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            bad()
    found = continuous_future(bars, ENDS, "X").rolls
    with pytest.raises(DataError, match="no factor for the roll"):
        continuous_future(bars.drop((found.index[0], found["new"].iloc[0])), ENDS, "X")
    dear = bars.copy()  # the first contract costs fifty times the others
    dear.loc[dear.index.get_level_values("symbol") != "H", ["open", "high", "low", "close"]] /= 50
    with pytest.raises(DataError, match="X is not above 0 on 2020-0.*; use ratio"):
        continuous_future(dear, ENDS, "X", "calendar", adjustment="difference")
