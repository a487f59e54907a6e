"Two legs: each is what TopK says of its end, the short one under its own gate."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, PanelError
from quantlab.portfolio.long_short import LongShort
from quantlab.portfolio.weights import TopK

DATES = pd.bdate_range("2020-01-01", periods=30, name="date").as_unit("us")


def scores(seed=0, names=12):
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([DATES, [f"S{i:02d}" for i in range(names)]], names=["date", "symbol"])
    return pd.DataFrame({"score": rng.normal(size=len(index))}, index)


@pytest.mark.parametrize("weighting", ["equal", "rank"])
def test_each_leg_is_what_top_k_says_of_its_end(weighting):
    said = scores()
    both = LongShort(3, 2, weighting, 0.5, rebalance=5)(said)["weight"]
    leg = TopK(3, 2, weighting, 0.5, 5)
    up, down = leg(said)["weight"], leg(-said)["weight"]
    assert both[both > 0].equals(up[up > 0]) and (-both[both < 0]).equals(down[down > 0])
    total = both.groupby(level="date").sum()
    assert np.allclose(total, 0) and np.allclose(both.abs().groupby(level="date").sum(), 2)


def test_the_short_leg_has_a_gate_of_its_own():
    said, rule = scores(), LongShort(3, 2, rebalance=5)
    plain = rule(said)["weight"]
    gate = pd.DataFrame({"gate": 0.8, "short": np.where(np.arange(30) < 15, 0.5, 0.0)}, DATES)
    found = rule(said, gate=gate)["weight"]
    early = found[: DATES[14]]
    assert np.allclose(early[early > 0], 0.8 * plain[: DATES[14]][plain[: DATES[14]] > 0])
    assert np.allclose(early[early < 0], 0.4 * plain[: DATES[14]][plain[: DATES[14]] < 0])
    assert (found[DATES[15] :] >= 0).all() and not np.signbit(found[DATES[15] :]).any()
    assert rule(said, gate=gate[["gate"]])["weight"].equals(rule(said, gate=gate.assign(short=1.0))["weight"])


def test_a_book_of_both_signs_keeps_its_places_and_the_future_does_not_matter():
    said, rule = scores(1), LongShort(2, 4, rebalance=1)
    first = said.loc[DATES[0]]["score"].sort_values()
    held = pd.Series({first.index[-4]: 5.0, first.index[3]: -5.0})
    kept = rule(said[: DATES[0]], held=held)["weight"].droplevel("date")
    assert kept[first.index[-4]] > 0 > kept[first.index[3]]
    whole = rule(said)
    assert rule(said[: DATES[10]]).equals(whole[: DATES[10]])


@pytest.mark.parametrize(("few", "word"), [(5, "two legs of 3 need 6"), (0, "two legs")])
def test_too_few_names_are_refused(few, word):
    said = scores()
    said.loc[(DATES[5], [f"S{i:02d}" for i in range(few, 12)]), "score"] = np.nan
    with pytest.raises(ConfigError, match=word):
        LongShort(3, rebalance=5)(said)


def test_a_short_gate_beyond_one_is_refused():
    with pytest.raises(PanelError, match="short leg"):
        LongShort(3)(scores(), gate=pd.DataFrame({"gate": 1.0, "short": 1.5}, DATES))
