"What a recipe takes out of features and scores, puts beside them, and blends into its target; and sectors of a store."

import numpy as np
import pandas as pd
import pytest
from leaky_parts import small

from quantlab.core.errors import ConfigError
from quantlab.core.panel import to_wide
from quantlab.data.sample import sample_bars
from quantlab.labels.forward import forward_returns, rank_normalise
from quantlab.recipe.market import sector_snapshots
from quantlab.recipe.stages import Stages
from quantlab.vendors.qlib_write import write_qlib


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "Begin with an empty cache."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def residual(y, X):
    "Return what least squares with a constant leaves, one date at a time: slow and plain."
    X = np.column_stack([np.ones(len(X)), X])
    return y - X @ np.linalg.lstsq(X, y, rcond=None)[0]


def test_neutral_ranks_are_what_least_squares_leaves_of_ranks():
    plain, beside = Stages(small()), Stages(small(features__transform=[], features__beside="neutral_ranks"))
    raw = beside.features[[c for c in beside.features if not c.startswith("r_")]]
    assert {f"r_{c}" for c in raw} | set(raw) == set(beside.features)
    ranked = plain.features[raw.columns]
    for date in raw.index.unique("date")[[0, 100, -1]]:
        bars = beside.market.bars
        past = bars[bars.index.get_level_values("date") <= date]
        amount = to_wide(past["amount"]).iloc[-21:].mean()
        spread = to_wide(past["close"]).pct_change(fill_method=None).iloc[-60:].std()
        styles = np.column_stack([s.rank() / len(s) for s in (amount, spread)])
        for column in list(raw)[:4]:
            told = beside.features.loc[date, f"r_{column}"]
            assert np.allclose(told, residual(ranked.loc[date, column].to_numpy(), styles), atol=1e-6), (date, column)


def test_a_score_without_sector_and_size_has_neither():
    chain = Stages(small(signals__neutralise="sector_size"))
    score = chain.signals["score"].dropna()
    known = sector_snapshots("sample").sort_values("known_at")
    money = to_wide(chain.market.bars["amount"]).rolling(21, min_periods=10).mean()
    for date in score.index.unique("date")[[0, 50, -1]]:
        one = score.loc[date]
        now = known[known["known_at"] <= date].groupby("symbol")["sector"].last().reindex(one.index).fillna("none")
        assert one.groupby(now).mean().abs().max() < 1e-9
        within = np.log(money.loc[date, one.index])
        assert abs((within - within.groupby(now).transform("mean")) @ one) < 1e-8
    assert not np.allclose(score, chain.predictions["score"].reindex(score.index))
    plain = Stages(small())
    assert plain.signals is plain.predictions


def test_a_blend_is_the_weighted_sum_and_known_when_the_longest_is():
    chain = Stages(small(label__horizon=5, label__target="normal", label__blend={20: 0.25, 2: 0.25}))
    rows = chain.features.index
    parts = {h: rank_normalise(forward_returns(chain.market.bars, h).reindex(rows), "normal") for h in (5, 20, 2)}
    y = 0.5 * parts[5]["y"] + 0.25 * parts[20]["y"] + 0.25 * parts[2]["y"]
    assert np.allclose(chain.outcomes["target"], y, equal_nan=True)
    known = y.notna()
    assert (chain.outcomes["t1"][known] == parts[20]["t1"][known]).all() and chain.outcomes["t1"][~known].isna().all()
    assert np.allclose(chain.outcomes["y"], forward_returns(chain.market.bars, 5)["y"].reindex(y.index), equal_nan=True)
    train, test = chain.folds[0]
    assert chain.outcomes["t1"].iloc[train].max() < chain.features.index[test[0]][0]
    assert chain.recipe.label.reach == 20


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label__blend": {5: 1.0}}, "less than 1"),
        ({"label__blend": {5: 0.6, 10: 0.5}}, "below 1"),
        ({"label__horizon": 5, "label__blend": {5: 0.5}}, "other horizons than 5"),
        ({"label__target": "none", "label__blend": {5: 0.5}}, "target"),
        ({"features__beside": "rank"}, "ranks"),
        ({"signals__neutralise": "industry"}, "sector"),
    ],
)
def test_what_a_page_refuses(changes, says):
    with pytest.raises(ConfigError, match=says):
        small(**changes)


def test_sectors_of_a_store_are_read_as_of_their_day(tmp_path, monkeypatch):
    names = ["AAPL", "CAT", "JNJ", "JPM", "KO", "MSFT", "PEP", "XOM", "GE", "WMT", "T", "IBM"]
    bars = sample_bars(names, "2010-01-04", "2013-06-28")
    spells = pd.DataFrame({"symbol": names, "start": "2010-01-04", "end": "2013-06-28"})
    folder = write_qlib(bars, tmp_path / "data" / "dozen", {"few": spells})
    monkeypatch.setenv("QUANTLAB_SHARED", str(tmp_path))
    recipe = small(
        data__source="qlib:dozen", data__universe="few", data__end="2013-06-28", policy__top_k=4, policy__buffer=2,
        signals__neutralise="sector",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"sectors\.parquet"):
        _ = Stages(recipe).signals
    half = pd.Timestamp("2012-06-29")
    table = pd.DataFrame({"known_at": half, "symbol": names, "sector": ["A"] * 6 + ["B"] * 6})
    table.to_parquet(folder / "sectors.parquet")
    score = Stages(recipe).signals["score"]
    group = pd.Series(["A"] * 6 + ["B"] * 6, names)
    dates = score.index.unique("date")
    before, after = dates[dates < half][-1], dates[dates > half][0]
    assert score.loc[after].groupby(group).mean().abs().max() < 1e-9
    assert abs(score.loc[before].mean()) < 1e-9 and score.loc[before].groupby(group).mean().abs().max() > 1e-3
