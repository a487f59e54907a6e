"pricing.arbitrage: a hundred planted trades found with their quotes, a hundred clean chains without alarm."

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from quantlab.core.errors import DataError
from quantlab.data.sample import sample_options
from quantlab.pricing.arbitrage import quote_arbitrage
from quantlab.pricing.black import black_price
from quantlab.pricing.chain import chain_from_contracts, chain_volatilities, parity_forwards, usable_quotes
from quantlab.pricing.surface import Ssvi, ssvi_conditions

START = pd.Timestamp("2026-01-30 21:00", tz="UTC").as_unit("us")
PLANTS = ("butterfly", "vertical", "calendar", "calendar between strikes")


def clean_chain(seed):
    "Quotes around an SSVI surface: the fair price lies anywhere between bid and ask. Strikes differ by expiry."
    rng = np.random.default_rng(seed)
    while True:
        ssvi = Ssvi(rng.uniform(-0.8, 0.2), rng.uniform(0.4, 1.4), rng.uniform(0.2, 0.5))
        days = np.array([20, 50, 110])
        theta = rng.uniform(0.12, 0.35) ** 2 * days / 365 * np.cumprod([1, *rng.uniform(1, 1.1, 2)])
        if (ssvi_conditions(ssvi, theta) >= 0).all().all():
            break
    rows, terms = [], []
    for day, level, forward in zip(days, theta, 100 * np.exp(0.03 * days / 365), strict=True):
        x = np.sort(rng.uniform(-2.5, 2.0, 11)) * np.sqrt(level)
        strike = np.round(forward * np.exp(x), 2)
        strike = np.unique(strike)
        w = ssvi.slice(level).variance(np.log(strike / forward))
        call = strike >= forward
        fair = black_price(forward, strike, 1.0, np.sqrt(w), np.exp(-0.03 * day / 365), call)
        spread = np.maximum(0.02, 0.04 * fair) * rng.uniform(0.5, 1.5, len(fair))
        bid = np.maximum(fair - spread * rng.uniform(0, 1, len(fair)), 0)
        expiry = START + pd.Timedelta(days=int(day))
        rows.append(pd.DataFrame({"quoted": START, "root": "A", "expiry": expiry, "strike": strike, "call": call,
                                  "bid": bid, "ask": bid + spread}))  # fmt: skip
        terms.append({"expiry": expiry, "root": "A", "forward": forward, "low": forward, "high": forward,
                      "discount": np.exp(-0.03 * day / 365)})  # fmt: skip
    return pd.concat(rows, ignore_index=True), pd.DataFrame(terms).set_index(["expiry", "root"])


def as_calls(chain, forwards):
    "Bid and ask of every quote as a call, over the discounted forward."
    rows = chain.join(forwards, on=["expiry", "root"])
    unit, lift = rows["forward"] * rows["discount"], np.where(rows["call"], 0, 1 - rows["strike"] / rows["forward"])
    out = pd.DataFrame({"x": rows["strike"] / rows["forward"], "bid": rows["bid"] / unit + lift})
    return out.assign(ask=rows["ask"] / unit + lift, unit=unit, place=rows.groupby("expiry").ngroup())


def plant(chain, forwards, kind, rng):
    "Move one quote until a trade with its neighbours gains half of its spread; return the chain and the quote's row."
    c = as_calls(chain, forwards)
    slices = [rows for _, rows in c.groupby("place")]
    if kind == "vertical":
        rows = slices[rng.integers(3)]
        i = rng.integers(1, len(rows))
        bound, row = rows["ask"].iloc[i - 1], rows.index[i]
    elif kind == "butterfly":
        rows = slices[rng.integers(3)]
        i = rng.integers(1, len(rows) - 1)
        bound, row = (
            np.interp(rows["x"].iloc[i], rows["x"].iloc[[i - 1, i + 1]], rows["ask"].iloc[[i - 1, i + 1]]),
            rows.index[i],
        )
    else:
        early = rng.integers(2)
        rows, late = slices[early], slices[rng.integers(early + 1, 3)]
        inside = rows[(rows["x"] > late["x"].min()) & (rows["x"] < late["x"].max())]
        row = rng.choice(inside.index)
        if kind == "calendar":  # an option of the same strike over forward
            later = late["x"].sub(inside.at[row, "x"]).abs().idxmin()
            F = forwards["forward"].to_numpy()[int(c.at[row, "place"])]
            chain = chain.copy()
            strike = F * c.at[later, "x"]
            chain.loc[row, ["strike", "call"]] = [strike, strike >= F]
            if chain.at[row, "call"] != chain.at[later, "call"] or chain.duplicated(["expiry", "strike"]).any():
                return None
            bound = c.at[later, "ask"] - (0 if chain.at[row, "call"] else 1 - c.at[later, "x"])
            return shifted(chain, row, bound * c.at[row, "unit"]), row
        bound = np.interp(inside.at[row, "x"], late["x"], late["ask"])
    lift = 0 if chain.at[row, "call"] else 1 - c.at[row, "x"]
    moved = shifted(chain, row, (bound - lift) * c.at[row, "unit"])
    assert moved.at[row, "bid"] - chain.at[row, "bid"] >= (chain.at[row, "ask"] - chain.at[row, "bid"]) / 2
    return moved, row


def shifted(chain, row, bound):
    "Quote a row half a spread above the price at which the others can replace it."
    spread = chain.at[row, "ask"] - chain.at[row, "bid"]
    moved = chain.copy()
    moved.loc[row, ["bid", "ask"]] = [bound + spread / 2, bound + spread * 1.5]
    return moved


def test_no_alarm_on_a_hundred_clean_chains():
    alarms = [seed for seed in range(100) if len(quote_arbitrage(*clean_chain(seed)))]
    assert alarms == []


def test_a_hundred_planted_trades_are_found_with_their_quotes():
    missed, count, seed = [], dict.fromkeys(PLANTS, 0), 1000
    while sum(count.values()) < 100:
        kind = min(count, key=count.get)
        chain, forwards = clean_chain(seed)
        planted = plant(chain, forwards, kind, np.random.default_rng(seed))
        seed += 1
        if planted is None:
            continue
        count[kind] += 1
        moved, row = planted
        found = quote_arbitrage(moved, forwards)
        half = (moved.at[row, "ask"] - moved.at[row, "bid"]) / 2
        sold = row in found.index and (found.loc[[row], "units"] < 0).any()
        if not sold or found["profit"].max() < 0.9 * half:
            missed.append((seed - 1, kind))
    assert missed == [] and set(count.values()) == {25}


def test_a_move_within_the_spreads_is_no_alarm():
    chain, forwards = clean_chain(7)
    wide = chain.assign(bid=np.maximum(chain["bid"] - 0.01, 0), ask=chain["ask"] + 0.01)
    assert quote_arbitrage(wide, forwards).empty


def test_the_trade_never_loses():
    "The legs, paid at their quotes, with cash and forwards: a payoff that is never negative, a gain at once."
    for seed in range(2000, 2010):
        chain, forwards = clean_chain(seed)
        moved, _ = plant(chain, forwards, "butterfly", np.random.default_rng(seed))
        found = quote_arbitrage(moved, forwards)
        found = found[found["profit"] == found["profit"].max()]
        legs = moved.loc[found.index].join(forwards, on=["expiry", "root"])
        units = found["units"]
        assert legs["expiry"].nunique() == 1
        F, D = legs["forward"].iloc[0], legs["discount"].iloc[0]
        S = np.concatenate([[0], np.sort(legs["strike"]), [1e3 * F]])
        sign = np.where(legs["call"], 1, -1)
        payoff = np.maximum(sign * (S[:, None] - legs["strike"].to_numpy()), 0) @ units.to_numpy()
        net = payoff - (units * found["price"]).sum() / D
        # forwards cost nothing: how many make the worst outcome best?
        best = linprog([-1, 0], np.column_stack([np.ones_like(S), F - S]), net, bounds=[(None, None)] * 2)
        assert best.x[0] == pytest.approx(found["profit"].iloc[0] / D, rel=1e-5)


def test_neighbours_agree_and_four_legs_do_not():
    "No three neighbours can be traded, but a curve must bend twice: only all strikes together say so."
    strikes = np.array([80.0, 90.0, 100.0, 110.0, 120.0])
    fair = black_price(100, strikes, 0.5, 0.3)
    chain = pd.DataFrame({"quoted": START, "root": "A", "expiry": START + pd.Timedelta(days=182), "strike": strikes})
    chain = chain.assign(call=True, bid=fair * 0.9, ask=fair * 1.1)
    index = pd.MultiIndex.from_tuples([(chain["expiry"].iloc[0], "A")], names=["expiry", "root"])
    terms = pd.DataFrame({"forward": 100.0, "low": 100.0, "high": 100.0, "discount": 1.0}, index=index)
    assert quote_arbitrage(chain, terms).empty
    chain.loc[2, ["bid", "ask"]] = [(chain["ask"][0] * 0.5 + chain["ask"][4] * 0.5) * 1.02] * 2
    chain.loc[[1, 3], "ask"] = 50.0  # wide: the neighbours say nothing
    found = quote_arbitrage(chain, terms)
    assert sorted(found.index) == [0, 2, 4] and found["units"].tolist() == pytest.approx([0.5, -1, 0.5])


def test_parity_is_a_trade_within_the_bounds_of_the_forward():
    sides = pd.DataFrame({"call": [True, False], "bid": [5.0, 4.0], "ask": [5.2, 4.2]})
    pair = sides.assign(quoted=START, root="A", expiry=START + pd.Timedelta(days=30), strike=100.0)
    index = pd.MultiIndex.from_tuples([(pair["expiry"].iloc[0], "A")], names=["expiry", "root"])
    terms = pd.DataFrame({"forward": 100.0, "low": 100.0, "high": 100.0, "discount": 1.0}, index=index)
    found = quote_arbitrage(pair, terms)
    assert found["units"].tolist() == [-1, 1] and found["profit"].iloc[0] == pytest.approx(0.8)
    assert quote_arbitrage(pair, terms.assign(high=100.7))["profit"].iloc[0] == pytest.approx(0.1)
    assert quote_arbitrage(pair, terms.assign(high=100.9)).empty


@pytest.mark.slow
def test_the_sample_out_of_the_money_cannot_be_traded():
    chain = chain_from_contracts(sample_options(), "2026-01-30 16:00-05:00")
    forwards = parity_forwards(chain, 0.0365)
    use = usable_quotes(chain_volatilities(chain, forwards))[list(chain.columns)]
    assert quote_arbitrage(use, forwards).empty and len(use) > 2500
    found = quote_arbitrage(chain, forwards)
    assert len(found) and set(found["kind"]) == {"butterfly"}


def test_quotes_without_a_forward_are_refused():
    chain, forwards = clean_chain(1)
    with pytest.raises(DataError, match="quotes have no forward, first A 2026-02-19"):
        quote_arbitrage(chain, forwards.iloc[1:])


def test_a_calendar_trade_pays_its_profit_and_never_loses_where_discounts_differ():
    "Four weeks at 40 % are worth more than five years at 3 %: what is bought and sold, in options, brings the profit."
    strikes, rows, terms = np.array([90.0, 95.0, 100.0, 105.0, 110.0]), [], []
    for days, volatility in ((28, 0.4), (1825, 0.03)):
        expiry, discount = START + pd.Timedelta(days=days), np.exp(-0.05 * days / 365)
        call = strikes >= 100
        fair = black_price(100.0, strikes, days / 365, volatility, discount, call)
        made = {"quoted": START, "root": "A", "expiry": expiry, "strike": strikes, "call": call}
        rows.append(pd.DataFrame(made | {"bid": fair, "ask": fair}))
        flat = dict.fromkeys(("forward", "low", "high"), 100.0)
        terms.append({"expiry": expiry, "root": "A", "discount": discount} | flat)
    found = quote_arbitrage(pd.concat(rows, ignore_index=True), pd.DataFrame(terms).set_index(["expiry", "root"]))
    assert set(found["kind"]) == {"calendar"}
    assert -(found["units"] * found["price"]).sum() == pytest.approx(found["profit"].iloc[0], rel=1e-6)
    early, late = found[found["units"] < 0], found[found["units"] > 0]
    assert late["units"].sum() == pytest.approx(-early["units"].sum() * np.exp(0.05 * (1825 - 28) / 365), rel=1e-6)
