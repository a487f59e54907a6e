"pricing.chain: VIX against the Cboe's, forwards by hand and by law, junk by name; the whole chain where it is."

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.data.sample import sample_options, sample_vix
from quantlab.data.schemas import check
from quantlab.pricing.black import black_price
from quantlab.pricing.chain import (
    chain_from_contracts,
    chain_volatilities,
    discount_factors,
    parity_forwards,
    quote_faults,
    quote_names,
    term_variance,
    usable_quotes,
    vix_index,
    years_between,
)

WHOLE = (
    Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "options" / "SPX_chain_2026-02-01.csv"
)
START = pd.Timestamp("2026-01-30 21:00", tz="UTC").as_unit("us")  # a Friday's close


@pytest.fixture(scope="module")
def chain():
    return chain_from_contracts(sample_options(), "2026-01-30 16:00-05:00")


@pytest.fixture(scope="module")
def forwards(chain):
    return parity_forwards(chain, 0.0365)


STRIKES = np.arange(60.0, 160.0)


def made(days=(28, 35), strikes=STRIKES, volatility=0.2, forward=100.0, rate=0.0, half=0.0):
    grid = pd.MultiIndex.from_product([days, strikes, [False, True]], names=["days", "strike", "call"])
    rows = grid.to_frame(index=False)
    years = rows["days"] / 365
    fair = black_price(forward, rows["strike"], years, volatility, np.exp(-rate * years), rows["call"])
    rows = rows.assign(quoted=START, root="A", expiry=START + pd.to_timedelta(rows["days"], unit="D"))
    return rows.assign(bid=np.maximum(fair - half, 0), ask=fair + half)


def slow_vix_variance(term, rate):
    "The Cboe's white paper step by step, with lists."
    T = (term["expiry"].iloc[0] - term["quoted"].iloc[0]).total_seconds() / 60 / 525_600
    quotes = {(s, c): (b, a) for s, c, b, a in zip(term["strike"], term["call"], term["bid"], term["ask"], strict=True)}
    quotes = {key: (b, a) for key, (b, a) in quotes.items() if a >= b}
    mid = {key: (b + a) / 2 for key, (b, a) in quotes.items()}
    both = sorted(s for s, c in mid if c and (s, False) in mid and quotes[s, c][0] > 0 and quotes[s, False][0] > 0)
    center = min(both, key=lambda s: abs(mid[s, True] - mid[s, False]))
    F = center + np.exp(rate * T) * (mid[center, True] - mid[center, False])
    k0 = max(s for s in both if s <= F)
    used = {k0: (mid[k0, True] + mid[k0, False]) / 2}
    for call, strikes in ((False, sorted((s for s, c in mid if not c and s < k0), reverse=True)),
                          (True, sorted(s for s, c in mid if c and s > k0))):  # fmt: skip
        empty = 0
        for s in strikes:
            empty = empty + 1 if quotes[s, call][0] <= 0 else 0
            if empty == 2:
                break
            if not empty:
                used[s] = mid[s, call]
    K = sorted(used)
    width = [K[1] - K[0]] + [(K[i + 1] - K[i - 1]) / 2 for i in range(1, len(K) - 1)] + [K[-1] - K[-2]]
    total = sum(w / k**2 * np.exp(rate * T) * used[k] for w, k in zip(width, K, strict=True))
    return 2 / T * total - (F / k0 - 1) ** 2 / T


def test_vix_of_the_sample_is_that_of_its_process(chain):
    "Variance of the diffusion and of the jumps, from the numbers of data/sample/README.md."
    days = np.array([28.0, 30.0, 35.0])
    diffusion = 0.044 - 0.0265 * (1 - np.exp(-4 * days / 365)) / (4 * days / 365)
    truth = 100 * np.sqrt(diffusion + 1.4 * (np.exp(-0.06 + 0.07**2 / 2) - 1 + 0.06))
    ours = vix_index(chain, 0.0365)
    assert np.allclose(ours[["near", "vix", "far"]].tolist(), truth, rtol=0, atol=0.1)


def test_every_term_equals_the_white_paper_in_lists(chain):
    for _, term in chain.groupby(["expiry", "root"]):
        assert term_variance(term, 0.0365)["variance"] == pytest.approx(slow_vix_variance(term, 0.0365), rel=1e-12)


def test_two_empty_bids_end_a_wing_and_one_does_not():
    term = made(days=(28,), half=0.01)
    full = term_variance(term, 0.0)["strikes"]
    assert term_variance(term.assign(bid=term["bid"].mask(term["strike"] == 90, 0)), 0.0)["strikes"] == full - 1
    low = term.assign(bid=term["bid"].mask(term["strike"].isin([90, 91]), 0))
    kept = (term[(term["bid"] > 0) & ~term["call"] & (term["strike"] > 91)]["strike"] < 100).sum()
    puts = (term[(term["bid"] > 0) & ~term["call"]]["strike"] < 100).sum()
    assert full - term_variance(low, 0.0)["strikes"] == puts - kept
    assert slow_vix_variance(low, 0.0) == pytest.approx(term_variance(low, 0.0)["variance"], rel=1e-12)


def test_a_row_that_nobody_quotes_counts_as_an_empty_bid():
    term = made(days=(28,), half=0.01)
    gone = term.assign(bid=term["bid"].mask(term["strike"].isin([90, 91]), 0))
    none = gone.assign(ask=gone["ask"].mask(term["strike"].isin([90, 91]), 0))
    assert term_variance(none, 0.0)["strikes"] == term_variance(gone, 0.0)["strikes"]


def test_a_flat_smile_gives_its_own_level():
    flat = vix_index(made(strikes=np.arange(50, 200, 0.25), volatility=0.2, rate=0.04), 0.04)
    assert flat["vix"] == pytest.approx(20, abs=0.01)


def test_vix_needs_its_two_fridays(chain):
    with pytest.raises(DataError, match="one 31 to 36 days away"):
        vix_index(chain[chain["expiry"].dt.month == 2], 0.0365)
    on_saturdays = made().assign(expiry=lambda f: f["expiry"] + pd.Timedelta(days=1))
    with pytest.raises(DataError, match="Friday"):
        vix_index(on_saturdays, 0.0)


def test_morning_and_afternoon_settle_at_their_minute(chain):
    local = chain["expiry"].dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    assert local[chain["root"] == "SPX"].unique().tolist() == ["09:30"]
    assert local[chain["root"] == "SPXW"].unique().tolist() == ["16:00"]
    march = chain.loc[chain["expiry"].dt.strftime("%m-%d") == "03-20", "expiry"].unique()  # after clocks went forward
    assert sorted(str(m) for m in march) == ["2026-03-20 13:30:00+00:00", "2026-03-20 20:00:00+00:00"]
    assert years_between(START, START + pd.Timedelta(minutes=525_600)) == 1


def test_junk_is_named_and_stays(chain):
    faults = quote_faults(chain)
    assert quote_names(chain[faults == "ask < bid"]).tolist() == [
        "SPX 2026-02-20 1000 call 5947.9/5922.8",
        "SPX 2026-06-18 5800 call 1232.6/0",
    ]
    assert len(faults) == len(chain) and (faults.str.startswith("nobody") == (chain["bid"] == 0)).all()
    rows = pd.DataFrame({"bid": [np.nan, 2.0, 0.0, 0.0, 1.0, 1.0], "ask": [1.0, 1.0, 0.0, 1.0, 1.0, 2.0]})
    assert quote_faults(rows).tolist() == ["missing", "ask < bid", "nobody offers", "nobody bids", "", ""]


@settings(max_examples=30)
@given(st.floats(50, 200), st.floats(-0.05, 0.1), st.floats(0.0, 0.5), st.floats(0.05, 0.8))
def test_parity_finds_the_forward_of_a_made_chain(forward, rate, half, volatility):
    rows = made(
        days=(90,), strikes=np.arange(60.0, 160.0, 10), forward=forward, rate=rate, half=half, volatility=volatility
    )
    good = quote_faults(rows) == ""
    if (good & rows["call"]).sum() == 0 or good.groupby(rows["strike"]).all().sum() == 0:
        return
    one = parity_forwards(rows, rate).iloc[0]
    assert one["forward"] == pytest.approx(forward, abs=1e-9)
    assert one["low"] - 1e-9 <= forward <= one["high"] + 1e-9 and one["astray"] in range(int(one["pairs"]) + 1)


def test_a_stale_pair_does_not_move_the_forward():
    rows = made(days=(90,), strikes=np.arange(90.0, 111.0, 2), half=0.05)
    stale = rows.copy()
    stale.loc[(stale["strike"] == 92) & stale["call"], ["bid", "ask"]] += 3
    one = parity_forwards(stale, 0.0).iloc[0]
    assert one["forward"] == pytest.approx(100, abs=0.01) and one["astray"] == 1
    assert one["low"] <= one["forward"] <= one["high"]


def test_tight_pairs_lead_the_forward_and_wide_ones_follow():
    rows = made(days=(90,), strikes=np.arange(90.0, 111.0, 2), half=0.05)
    wide = rows["strike"].between(94, 106)
    biased = rows.assign(
        bid=rows["bid"] - wide * np.where(rows["call"], 0.5, 1.5),
        ask=rows["ask"] + wide * np.where(rows["call"], 1.5, 0.5),
    )
    one = parity_forwards(biased, 0.0).iloc[0]  # most pairs say a dollar too much, between sides two dollars apart
    assert wide.mean() > 0.5 and one["forward"] == pytest.approx(100, abs=0.01) and one["astray"] == 0


def test_roots_of_one_day_have_their_own_forwards(forwards):
    by_day = forwards["forward"].reset_index()
    by_day["day"] = by_day["expiry"].dt.date
    pairs = by_day.pivot(index="day", columns="root", values="forward").dropna()
    assert len(pairs) == 4 and (pairs["SPXW"] > pairs["SPX"]).all()
    assert (forwards["low"] <= forwards["forward"]).all() and (forwards["forward"] <= forwards["high"]).all()


def test_an_expiry_without_a_pair_is_refused(chain):
    calls = chain[chain["call"] | (chain["expiry"] != chain["expiry"].iloc[0])]
    with pytest.raises(DataError, match="no strike of 2026-02-06 SPXW"):
        parity_forwards(calls, 0.0365)


def test_volatilities_reprice_and_name_what_they_cannot(chain, forwards):
    smiles = chain_volatilities(chain, forwards)
    use = usable_quotes(smiles)
    assert len(use) > 2_500 and (use["fault"] == "").all() and use["out"].all()
    for side in ("bid", "mid", "ask"):
        back = black_price(
            use["forward"], use["strike"], use["years"], use[f"volatility_{side}"], use["discount"], use["call"]
        )
        assert np.allclose(back, use[side], rtol=1e-12)
    bare = smiles[smiles["volatility_mid"].isna()]
    assert (bare["fault"] != "").all() and (smiles["fault"] == "ask below intrinsic value").sum() > 100
    with pytest.raises(DataError, match="have no forward, first SPXW 2026-02-06"):
        chain_volatilities(chain, forwards.iloc[1:])


def test_a_made_smile_comes_back():
    rows = made(days=(30, 90), strikes=np.arange(80.0, 125.0, 5), volatility=0.3, rate=0.03)
    smiles = usable_quotes(chain_volatilities(rows, parity_forwards(rows, 0.03)))
    assert len(smiles) == 18 and np.allclose(smiles["volatility_mid"], 0.3, rtol=1e-9)


def test_curve_is_linear_between_and_flat_outside():
    curve = pd.Series({0.5: 0.02, 1.5: 0.04})
    assert np.allclose(-np.log(discount_factors(curve, [0.1, 1.0, 3.0])) / [0.1, 1.0, 3.0], [0.02, 0.03, 0.04])
    for bad in (pd.Series(dtype=float), pd.Series({1.0: 0.02, 0.5: 0.03}), pd.Series({1.0: np.nan})):
        with pytest.raises(DataError, match="a curve is"):
            discount_factors(bad, 1.0)


def test_a_frame_that_is_no_chain_is_refused(chain):
    cases = {
        "strike is not positive": chain.assign(strike=-1.0),
        "side of the quote is negative": chain.assign(bid=-0.1),
        "expiry is not after quoted": chain.assign(quoted=chain["expiry"]),
        "repeat an earlier row": pd.concat([chain, chain.iloc[:1]]),
        "no zone": chain.assign(
            quoted=chain["quoted"].dt.tz_localize(None), expiry=chain["expiry"].dt.tz_localize(None)
        ),
        "column bid is missing": chain.drop(columns="bid"),
    }
    for said, frame in cases.items():
        with pytest.raises(DataError, match=said):
            check(frame, "options")
    vendor = sample_options()
    with pytest.raises(DataError, match="1 names do not say root"):
        chain_from_contracts(vendor.assign(strike=vendor["strike"].mask(vendor.index == 7, 1.0)), START)
    with pytest.raises(DataError, match=r"no time of settlement for root \['SPXW'\]"):
        chain_from_contracts(vendor, START, {"SPX": "09:30"})
    with pytest.raises(DataError, match="no time zone"):
        chain_from_contracts(vendor, "2026-01-30")


@pytest.mark.skipif(not WHOLE.exists(), reason="needs ../shared/data/options (or QUANTLAB_SHARED)")
def test_the_whole_chain():
    chain = chain_from_contracts(pd.read_csv(WHOLE), "2026-01-30 16:00-05:00")
    assert len(chain) == 17_107 and chain["expiry"].dt.date.nunique() == 54
    assert (quote_faults(chain) == "ask < bid").sum() == 13
    ours, cboe = vix_index(chain, 0.0365), sample_vix().loc["2026-01-30", "close"]
    assert cboe == 17.44 and abs(ours["vix"] - cboe) <= 0.15 and ours["vix"] == pytest.approx(17.504, abs=0.01)
    assert ours["near"] == pytest.approx(17.37, abs=0.01) and ours["far"] == pytest.approx(17.77, abs=0.01)
    with pytest.raises(DataError, match="no strike of 2026-03-10 SPXW"):
        parity_forwards(chain, 0.0365)
    forwards = parity_forwards(chain[chain["expiry"].dt.strftime("%m-%d") != "03-10"], 0.0365)
    first = forwards["forward"].groupby("root").diff().dropna()
    assert (first > -1).mean() > 0.95 and (forwards["low"] <= forwards["high"]).all()


def test_a_forward_below_every_strike_and_a_chain_without_quotes_are_refused():
    strikes, expiry = [100.0, 105.0, 110.0, 115.0], pd.Timestamp("2026-02-27 21:00", tz="UTC").as_unit("us")
    rows = pd.MultiIndex.from_product([strikes, [False, True]], names=["strike", "call"]).to_frame(index=False)
    quoted = pd.Timestamp("2026-01-30 21:00", tz="UTC").as_unit("us")
    price = black_price(99.0, rows["strike"], 28 / 365, 0.3, 1.0, rows["call"])
    made = rows.assign(bid=price, ask=price + 0.01, root="A", quoted=quoted, expiry=expiry)
    with pytest.raises(DataError, match="at or below the forward 99"):
        term_variance(made, 0.0)
    with pytest.raises(DataError, match="without quotes"):
        parity_forwards(made.iloc[:0], 0.0)
