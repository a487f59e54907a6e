"""Recipes on a Qlib store: members of each day, a split by dates, a rule that is asked at each close; and the CSI 300
benchmark beside its study, where the data are."""

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from leaky_parts import FORTY

from quantlab.commands.recipe_commands import recipe_bars
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_bars
from quantlab.recipe.chain_audit import borders, law
from quantlab.recipe.decide import decide
from quantlab.recipe.market import load_market
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe, load
from quantlab.recipe.stages import Stages, dated_rows
from quantlab.vendors.qlib_write import write_qlib

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))
NAMES = [name.strip() for name in FORTY.split(",")][:24]
LEFT = "AIG"  # leaves the market, and comes back


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    "A store of 24 names, of which some come late, one leaves and comes back, one stops trading for a month."
    home = tmp_path_factory.mktemp("shared")
    bars = sample_bars(NAMES, "2010-01-04", "2013-06-28")
    date, symbol = (bars.index.get_level_values(level) for level in ("date", "symbol"))
    halt = (symbol == "IBM") & (date >= "2012-09-03") & (date < "2012-10-03")
    spells = pd.DataFrame({"symbol": NAMES, "start": "2010-01-04", "end": "2013-06-28"})
    spells.loc[spells["symbol"].isin(["GE", "F"]), "start"] = "2012-08-15"
    spells.loc[spells["symbol"] == LEFT, "end"] = "2012-08-31"
    spells = pd.concat([spells, pd.DataFrame({"symbol": [LEFT], "start": "2013-03-01", "end": "2013-06-28"})])
    write_qlib(bars[~halt], home / "data" / "tiny", {"few": spells})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_SHARED", str(home))
        patch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield home


def tiny(**paths):
    "A recipe of the same form as csi300."
    trees = {"n_estimators": 60, "num_leaves": 8, "num_threads": 1, "early_stopping": 5, "stop_on": "loss"}
    plain = Recipe().replace(
        name="tiny", data__source="qlib:tiny", data__universe="few", data__end="2013-06-28", features__use=["price"],
        features__transform=[], label__kind="close_returns", label__horizon=2, label__target="zscore",
        split__train_end="2011-12-30", split__valid_end="2012-06-29", split__embargo=0, model={"kind": "gbm", **trees},
        policy__kind="topk_drop", policy__top_k=6, policy__n_drop=2, policy__rebalance=1, limits__lot=100.0,
        limits__price_limit=0.095, limits__stale_after=None, costs__commission_bps=5.0, costs__slippage_bps=0.0,
        costs__minimum=5.0, costs__sell_tax_bps=10.0, fill="same_close", study="tiny",
    )  # fmt: skip
    return plain.replace(**paths) if paths else plain


def test_members_are_those_of_the_day_and_windows_see_the_whole_history():
    chain = Stages(tiny())
    rows = chain.features.index
    days = rows.get_level_values("date")[rows.get_level_values("symbol") == LEFT]
    assert not ((days > "2012-08-31") & (days < "2013-03-01")).any() and (days >= "2013-03-01").any()
    late = chain.features.xs("GE", level="symbol")
    assert late.index[0] == pd.Timestamp("2012-08-15") and late["mom_252_21"].notna().all()
    assert (chain.features.dtypes == "float32").all()
    halted = chain.features.loc["2012-09-10"]  # no bar, and still a member
    assert "IBM" in halted.index and np.isnan(chain.outcomes.loc[(pd.Timestamp("2012-09-10"), "IBM"), "y"])


def test_both_borders_are_purged_and_nothing_after_them_is_learned():
    chain = Stages(tiny())
    learned, watched, asked = dated_rows(chain.recipe, chain.features, chain.outcomes["t1"])
    day, t1 = chain.features.index.get_level_values("date"), chain.outcomes["t1"]
    assert t1.iloc[learned].max() < day[watched[0]] and t1.iloc[watched].max() < day[asked[0]]
    assert day[learned[-1]] <= pd.Timestamp("2011-12-30") < day[watched[0]]
    assert day[asked[0]] == pd.Timestamp("2012-07-02")
    sessions = day.unique()
    left = sessions.get_loc(day[watched[0]]) - sessions.get_loc(day[learned[-1]]) - 1
    assert left == 3  # a label of two sessions from the next close on reaches three sessions
    apart = dated_rows(tiny(split__embargo=10), chain.features, t1)
    assert sessions.get_loc(day[apart[0][-1]]) == sessions.get_loc(day[learned[-1]]) - 10
    model = chain.fits.models[0]
    assert model.early_stopping == 5 and model.best_iteration_ == model.history_["valid"].argmin() + 1


def test_the_law_holds_for_a_rule_at_its_border_and_around_a_suspension():
    recipe = tiny()
    whole = Stages(recipe)
    sessions = whole.bars.index.unique("date")
    (border,) = borders(whole)
    assert border == sessions[0] == pd.Timestamp("2012-07-02")
    dates = sessions[[0, 1, 44, 65, -1]]  # the border, the first session of a suspension and the one after it
    table = law(recipe, dates)
    assert table["holds"].all(), table.to_string()
    assert law(recipe, sessions[:1], market=whole.market, fresh=True)["holds"].all()


def test_a_plan_trades_whole_lots_and_leaves_what_stays_alone():
    recipe = tiny()
    chain = Stages(recipe)
    close = chain.bars.index.unique("date")[-5]
    evening = decide(recipe, close)
    orders = evening.orders
    assert 0 < len(orders) <= 4 and orders["held"].gt(0).any()
    assert (orders.loc[orders["held"] > 0, "target"] == 0).all()  # sold whole, or left alone
    factor = chain.bars["factor"].xs(close, level="date")
    bought = orders[orders["quantity"] > 0]
    lots = bought["quantity"] * factor.reindex(bought.index) / 100
    assert np.allclose(lots, lots.round(), atol=1e-6) and (lots >= 1).all()
    mine = decide(recipe, close, book=pd.Series({"HD": 1000.0}), cash=500_000.0)
    assert mine.orders["value"].clip(lower=0).sum() <= mine.equity and len(mine.orders) >= 5


def test_the_account_is_that_of_the_rule_and_costs_move_its_plan():
    chain = Stages(tiny())
    dear = chain.like(tiny(costs__commission_bps=100.0))
    assert dear.predictions is chain.predictions and not dear.weights["weight"].equals(chain.weights["weight"])
    assert dear.account.equity.iloc[-1] < chain.account.equity.iloc[-1]
    held = chain.account.positions.groupby(level="date").size()
    assert held.iloc[10:].between(5, 8).all() and chain.account.costs["commission"].gt(0).any()
    fifth = Stages(tiny(policy__rebalance=5), market=chain.market)
    assert fifth.account.trades["decided"].nunique() <= -(-chain.bars.index.unique("date").size // 5)


def test_a_run_is_judged_and_the_index_is_the_one_that_was_named():
    done = run(tiny(data__index="HD"), record=False)
    assert done.market.index_name == "HD" and len(done.evidence.trials) == 2 and len(done.folds) == 1
    assert done.benchmark.positions.groupby(level="date").size().max() > 15


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data__source": "qlib:tinny"}, "did you mean qlib:tiny"),
        ({"data__source": "qlib:another"}, "set QUANTLAB_SHARED to the folder with data/another"),
        ({"data__universe": "HD, APPL"}, "universe names APPL"),
        ({"data__index": "NOBODY"}, "NOBODY"),
        ({"data__interval": "5min"}, "read by day"),
        ({"split__train_end": "2030-01-01", "split__valid_end": "2031-01-01"}, "must lie within"),
    ],
)
def test_what_is_not_there_is_said_at_once(changes, says):
    began = time.perf_counter()
    with pytest.raises((ConfigError, DataError), match=says):
        _ = Stages(tiny(**changes)).predictions
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split__valid_end": "2011-06-30"}, "is not after a train_end"),
        ({"split__train_end": "soon"}, "split.train_end"),
        ({"model__stop_on": "luck"}, "expected one of rank_ic, loss"),
        ({"model__early_stopping": 0}, "nothing stops"),
        ({"sizing__weighting": "rank"}, "topk_drop"),
        ({"regime__kind": "hmm"}, "topk_drop"),
        ({"limits__price_limit": 0.0}, "price_limit"),
    ],
)
def test_a_page_that_contradicts_itself_is_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        tiny(**changes)


def test_symbols_of_a_store_have_no_members():
    market = load_market("qlib:tiny", "HD, IBM", "2012-01-03", "2013-06-28")
    assert "member" not in market.bars and market.bars["close"].isna().sum() > 10  # the sessions that IBM missed


# ---------------------------------------------------------------- the benchmark itself

needs_data = pytest.mark.skipif(
    not (SHARED / "data" / "qlib_cn_csi300").exists(), reason="needs ../shared/data/qlib_cn_csi300 (or QUANTLAB_SHARED)"
)


def kept_days(chain):
    "Return the sessions of a chain's rows."
    return chain.features.index.unique("date")


@pytest.mark.slow
@needs_data
def test_the_recipe_is_the_study(monkeypatch):
    "The same rows, features, targets, trees and scores as the study's own fit, and the same account."
    monkeypatch.setenv("QUANTLAB_SHARED", str(SHARED))
    monkeypatch.syspath_prepend(str(root() / "bench"))
    import csi300_study as study

    recipe = load("csi300_published")
    chain, data = Stages(recipe), study.Data.read(warm_up=61)
    kept = data.date <= study.TEST_END
    assert chain.features.index.equals(data.index[kept])
    raw = data.raw.to_numpy()
    assert np.array_equal(chain.features.to_numpy(), raw[kept], equal_nan=True)
    y = study.zscore(data.y())[kept]
    known = chain.outcomes["target"].notna()
    assert np.array_equal(chain.outcomes["target"][known], y[known])
    more = y[~known].dropna().index.unique("date")  # the study reads on: outcomes of the last two sessions
    assert list(more) == list(kept_days(chain)[-2:])
    booster = study.train_published(data, recipe.seed, study.GAP, sorted_columns=True)
    rows = data.judged("2017-01-01", study.TEST_END)
    said = booster.predict(data.raw[sorted(data.raw)].to_numpy()[rows], num_threads=1)
    assert chain.fits.models[0].best_iteration_ == booster.best_iteration
    assert np.array_equal(chain.predictions["score"], said) and chain.predictions.index.equals(data.index[rows])
    account = study.account(chain.predictions["score"], "2017-01-01", study.TEST_END)
    for part in ("equity", "cash", "turnover"):
        assert getattr(chain.account, part).equals(getattr(account, part)), part
    assert chain.account.trades.equals(account.trades)
    index = chain.market.index.pct_change().reindex(account.returns.index)
    assert np.array_equal(chain.account.returns - index, study.excess(account)[1:])


def test_the_command_line_reads_the_market_that_a_run_reads():
    recipe = tiny(data__index="HD", data__periods_per_year=238)
    mine, theirs = recipe_bars(recipe), Stages(recipe).market
    assert mine.index_name == theirs.index_name == "HD" and mine.periods_per_year == 238
    pd.testing.assert_series_equal(mine.index, theirs.index)
    assert mine.bars.equals(theirs.bars)
