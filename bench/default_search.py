"""Search the default recipe again, on bars up to 2016-12-30 only, as recipes/default.trials.parquet records it.

The rule was set during the search, before 2017 to 2023 were opened: of the settings whose mean rank IC is positive on
both data, the one with the largest mean of the two Sharpe ratios of the excess over equal weight. The data: the
committed sample from 2010 on, and the S&P 500 of 2000 to 2009, which lies in ../shared and is not redistributed.
These spaces are a tidy version of that search, written after it and not carried out as a whole: some tries of it are
left out, such as other penalties and starts; the trials hold what was really tried. Takes about half an hour.

Usage: python bench/default_search.py LEDGER   (a new SQLite file; the return series lie beside it)
"""

import os
import sys
from pathlib import Path

import pandas as pd

from quantlab.core.config import root
from quantlab.core.errors import QuantlabError
from quantlab.core.ledger import Ledger
from quantlab.recipe.run import run
from quantlab.recipe.search import search
from quantlab.recipe.spec import Recipe

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))
OLD = Path("data/lake/us500_2000_2009.parquet")  # below the root; data/lake is not committed
TREES = {
    "model__kind": "gbm", "model__n_estimators": 100, "model__learning_rate": 0.03, "model__num_leaves": 8,
    "model__min_child_samples": 1000,
}  # fmt: skip
SETS = (["base"], ["price"], ["base", "technical", "range_vol"], ["alpha158"])
SINGLE = ("mom_252_21", "mom_126_21", "high_252", "ma_200", "overnight_21", "std_60", "rev_21", "rev_5")


def old_bars() -> None:
    "Write the bars of members of the S&P 500 while they were members, 2000 to 2009, less two spikes of a source."
    bars = pd.read_parquet(SHARED / "data" / "us" / "us_sp500_daily_2000_2023.parquet")
    bars = bars[(bars["date"] < "2010-01-01") & bars["in_sp500"]].drop(columns=["in_sp500", "source"])
    spikes = bars["symbol"].eq("GENZ") & bars["date"].isin(pd.to_datetime(["2001-04-30", "2001-05-07"]))
    bars = bars[~spikes].assign(symbol=lambda b: b["symbol"].astype(str))
    bars = bars[bars.groupby("symbol")["date"].transform("size") > 300]
    (root() / OLD).parent.mkdir(parents=True, exist_ok=True)
    bars.sort_values(["date", "symbol"]).to_parquet(root() / OLD, index=False)


def starts() -> dict[str, Recipe]:
    "Return what is varied: a quarter of the names is held in both data."
    first = Recipe(name="default", study="default").replace(
        regime__kind="none", policy__rebalance=20, split__expanding=True, split__train_sessions=504,
    )  # fmt: skip
    sample = first.replace(data__end="2016-12-30", policy__top_k=30, policy__buffer=15)
    old = {"data__source": str(OLD), "data__start": "2000-01-03", "data__end": "2009-12-31"}
    return {"sample": sample, "old": first.replace(**old, policy__top_k=100, policy__buffer=50)}


def feature(name: str) -> dict[str, object]:
    "Return the settings of a score that is one feature."
    return {"model__kind": "feature", "features__use": [name], "model__column": name}


def spaces(which: str, k: int) -> list[tuple[dict[str, object], dict[str, list]]]:
    "List what is tried: settings that stay, settings that vary."
    some = ["none", "sector"] if which == "sample" else ["none"]  # sectors are known from 2012 on
    rule = {"policy.rebalance": [20, 60], "policy.top_k": [k // 2, k, 2 * k], "sizing.weighting": ["equal", "rank"]}
    learned = {"label.horizon": [5, 20, 60], "split.train_sessions": [504, 756], "split.expanding": [False, True]}
    fm, ridge = {"model__kind": "fama_macbeth"}, {"model__kind": "ridge"}
    asked = [(feature(name), {"policy.rebalance": [20]}) for name in SINGLE]
    for use in SETS:
        asked.append(({**ridge, "features__use": use}, learned))
        asked.append(({**fm, "features__use": use}, {"label.horizon": [20, 60]}))
        asked.append(({**TREES, "features__use": use}, {"label.horizon": [20, 60], "split.expanding": [False, True]}))
    asked += [({**kind, **more}, rule) for kind in (ridge, fm, TREES) for more in ({}, {"label__horizon": 60})]
    asked += [
        ({**feature(n), "features__neutralise": s}, rule) for n in ("high_252", "mom_252_21", "rev_21") for s in some
    ]
    near = {"label.horizon": [5, 10, 20, 40], "policy.rebalance": [20, 40, 60], "policy.top_k": [k // 2, k]}
    chosen = {**fm, "sizing__weighting": "rank", "label__horizon": 10, "policy__rebalance": 40, "policy__top_k": k // 2}
    asked.append(({**fm, "sizing__weighting": "rank"}, near | {"split.train_sessions": [504, 756]}))
    asked.append((chosen, {"label.target": ["uniform", "excess", "normal"], "split.expanding": [True, False]}))
    asked.append((chosen, {"policy.buffer": [k // 4, k // 2, k], "sizing.weighting": ["rank", "equal"]}))
    asked.append((chosen | {"regime__kind": "hmm"}, {"regime.exposure.turbulent": [0.3, 0.7]}))
    return asked


def main(file: str) -> None:
    "Search, and print the tries of each space, best first."
    old_bars()
    ledger = Ledger(Path(file))
    for which, first in starts().items():
        for stays, varies in spaces(which, first.policy.top_k):
            try:
                found = search(first.replace(**stays), varies, ledger=ledger)
            except QuantlabError as error:  # some sets have more features than a date tells apart
                print(which, stays, f"none could be judged: {error}")
                continue
            print(which, stays, found.table.sort_values("excess", ascending=False).head(3).to_string(), sep="\n")
            best = run(found.best, ledger=ledger)
            print(best, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
