"""Search S&P 500 books on members of each day up to 2014, as recipes/us.trials.parquet records it; open 2015 on once.

Usage: python bench/us_search.py search    every trial is kept as soon as it is known; a killed one goes on
       python bench/us_search.py open      record the opening, then run the four chosen books to the last session
       python bench/us_search.py commit    write recipes/us.yaml and recipes/us.trials.parquet

Rules, set before the first trial. Four books are chosen, long only and dollar neutral, decided weekly and monthly: of
each kind the one with the largest Sharpe ratio up to 2014 after costs and impact, of the return over equal weight for a
book that is long, of its own return for one that is neutral. The recipe is the best of the four.
No session after 2014-12-31 is read by a trial. The spaces were cut while it ran, for time: Alpha158, and single
features by the week. The first ten minutes, weekly books on `base`, were thrown away and run again with one thread:
their settings count once. Store: python scripts/us.py.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
from quantlab.backtest.stats import summary  # noqa: E402
from quantlab.core.config import root  # noqa: E402
from quantlab.core.errors import QuantlabError  # noqa: E402
from quantlab.core.ledger import Ledger, content_key  # noqa: E402
from quantlab.ops.papers import open_out_of_sample  # noqa: E402
from quantlab.recipe.evidence import OPENED, save_trials  # noqa: E402
from quantlab.recipe.market import store_folder  # noqa: E402
from quantlab.recipe.search import kept_returns, returns_folder  # noqa: E402
from quantlab.recipe.search import search as search_recipes  # noqa: E402
from quantlab.recipe.spec import Recipe, as_dict  # noqa: E402
from quantlab.recipe.stages import Stages  # noqa: E402
from quantlab.risk.exposure import attribute_returns, factor_exposures  # noqa: E402
from quantlab.validation.scores import rank_ic  # noqa: E402

WORK = root() / ".cache" / "us"
STORED = HERE / "results" / "us_search.json"
FIRST = Recipe(name="us", title="S&P 500, members of each day", study="us", chosen_until="2014-12-31").replace(
    data={"source": "qlib:us_sp500", "universe": "sp500", "start": "2000-01-03", "end": "2014-12-31", "index": "MKT",
          "periods_per_year": 252},
    split={"train_sessions": 756, "test_sessions": 252, "expanding": True, "learn_every": 5},
    costs={"commission_bps": 1.0, "slippage_bps": 0.0, "half_spread_bps": 2.0, "impact": 0.7, "borrow_bps": 50.0},
    limits__max_weight=0.05, capital=10_000_000.0,
)  # fmt: skip
TREES = {
    "kind": "gbm", "n_estimators": 100, "learning_rate": 0.03, "num_leaves": 16, "min_child_samples": 1000,
    "colsample": 0.3, "num_threads": 1,
}  # fmt: skip
LEARNERS = {
    "ridge": {"model": {"kind": "ridge", "alpha": 100.0}},
    "trees": {"model": TREES, "features__transform": [], "features__beside": "ranks"},
    "neutral trees": {"model": TREES, "features__transform": [], "features__beside": "neutral_ranks"},
}
SETS = (["base"], ["base", "technical", "range_vol"])
SINGLE = ("mom_252_21", "high_252", "std_60", "rev_5")
HORIZONS = {"weekly": 5, "monthly": 20}
BOOKS = {
    "long": {"policy.kind": ["topk"], "policy.top_k": [50, 100], "policy.buffer": [50, 150],
             "signals.neutralise": ["none", "sector_size"]},
    "neutral": {"policy.kind": ["long_short"], "policy.top_k": [50, 100], "policy.buffer": [50, 150],
                "signals.neutralise": ["none", "sector_size"]},
}  # fmt: skip


def spaces() -> list[tuple[str, str, Recipe]]:
    "List what is fitted: horizon, name, recipe."
    made = []
    for pace, horizon in HORIZONS.items():
        one = FIRST.replace(label__horizon=horizon, policy__rebalance=horizon)
        for use in SETS:
            for name, changes in LEARNERS.items():
                made.append((pace, f"{name} on {'+'.join(use)}", one.replace(features__use=use, **changes)))
        for name in SINGLE if pace == "monthly" else ():
            sign = {"model": {"kind": "feature", "column": name}, "features__use": [name]}
            made.append((pace, name, one.replace(**sign)))
    return made


def ledger() -> Ledger:
    WORK.mkdir(parents=True, exist_ok=True)
    return Ledger(WORK / "ledger.sqlite")


def search() -> None:
    "Try every book on every score, and keep the tables."
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"tables": {}}
    for pace, name, recipe in spaces():
        for book, varies in BOOKS.items():
            key, began = f"{pace}, {book}: {name}", time.time()
            if key in stored["tables"]:
                continue
            try:
                by = "excess" if book == "long" else "strategy"
                found = search_recipes(recipe, varies, by=by, n_jobs=1, ledger=ledger())
            except QuantlabError as error:
                stored["tables"][key] = {"failed": str(error)}
                print(key, error, flush=True)
                continue
            rows = found.table.sort_values(found.column, ascending=False)
            stored["tables"][key] = {"by": found.column, "rows": json.loads(rows.to_json(orient="records"))}
            STORED.write_text(json.dumps(stored, indent=1) + "\n")
            top = rows.iloc[0]
            print(f"{time.strftime('%H:%M:%S')} {key}: {top[found.column]:.2f} {time.time() - began:.0f} s", flush=True)


def chosen() -> dict[str, tuple[Recipe, float]]:
    "Return the best book of each kind and pace, and the ratio it was chosen by."
    stored, recipes = json.loads(STORED.read_text())["tables"], {(p, name): one for p, name, one in spaces()}
    found: dict[str, tuple[Recipe, float]] = {}
    for key, table in stored.items():
        kind, _, name = key.partition(": ")
        if "failed" in table:
            continue
        best = table["rows"][0]
        if kind not in found or best[table["by"]] > found[kind][1]:
            varied = {path: best[path] for path in BOOKS[kind.split(", ")[1]]}
            one = recipes[(kind.split(", ")[0], name)]
            for path, value in varied.items():
                one = one.replace(path, value)
            found[kind] = one, best[table["by"]]
    return found


def active(chain: Stages) -> pd.Series:
    "Return what a book is judged by: above equal weight where it is long only, its own return where it is neutral."
    own = chain.account.returns
    return own if chain.recipe.policy.kind == "long_short" else own - chain.benchmark.returns


def look(recipe: Recipe, end: str) -> dict:
    "Carry one book out to the end, and return its figures before and after the opening."
    chain = Stages(recipe.replace("data.end", end))
    factors = pd.read_parquet(store_folder(recipe.data.source) / "factors.parquet")
    scores, outcomes = chain.signals["score"], chain.outcomes["y"]
    ic = rank_ic(scores, outcomes.reindex(scores.index)).dropna()
    found: dict = {
        "recipe": as_dict(recipe),
        "ic": {str(y): float(v) for y, v in ic.groupby(ic.index.year).mean().items()},
    }
    series = {"active": active(chain), "account": chain.account.returns, "equal weight": chain.benchmark.returns}
    for name, span in {"chosen": slice(None, "2014-12-31"), "opened": slice("2015-01-01", None)}.items():
        tables = {k: summary(r.loc[span].dropna(), 252) for k, r in series.items()}
        part = {k: {m: float(t.at[m, "value"]) for m in ("annual_return", "volatility", "sharpe", "max_drawdown")}
                | {"sharpe_se": float(t.at["sharpe", "se"])} for k, t in tables.items()}  # fmt: skip
        days = chain.account.equity.loc[span].index
        costs = chain.account.costs.sum(axis=1).reindex(days) / chain.account.equity.reindex(days)
        part["costs"], part["turnover"] = (
            float(costs.mean() * 252),
            float(chain.account.turnover.reindex(days).mean() * 252),
        )
        own = series["account"].loc[span].dropna()
        less_cash = own - (factors["RF"].reindex(own.index) if recipe.policy.kind != "long_short" else 0.0)
        known = factors.drop(columns="RF").reindex(own.index).dropna()
        split = attribute_returns(less_cash.loc[known.index], known, 252)
        part["factors"] = json.loads(split.round(6).to_json(orient="index"))
        part["alpha_t"] = float(factor_exposures(less_cash.loc[known.index], known).table.at["alpha", "t"])
        part["sessions"] = len(own)
        found[name] = part
    weeks = series["active"].fillna(0).add(1).cumprod().resample("W").last()
    found["growth"] = {"date": [f"{d:%Y-%m-%d}" for d in weeks.index], "active": weeks.round(5).tolist()}
    return found


def open_years() -> None:
    "Record the opening of the four books, then run them to the last session of the store; a killed run goes on."
    stored, books = json.loads(STORED.read_text()), chosen()
    rows = ledger().rows()
    if not (rows["study"] == OPENED).any():
        best = max(books, key=lambda kind: books[kind][1])
        open_out_of_sample(
            "us/qlib:us_sp500/books", content_key(**{k: as_dict(one) for k, (one, _) in books.items()}), ledger()
        )
        stored["chosen"] = {"best": best} | {kind: ratio for kind, (_, ratio) in books.items()}
    last = (store_folder("qlib:us_sp500") / "calendars" / "day.txt").read_text().split()[-1]
    for kind, (recipe, _) in books.items():
        if kind not in stored.get("opened", {}):
            stored.setdefault("opened", {})[kind] = look(recipe, last)
            STORED.write_text(json.dumps(stored, indent=1) + "\n")
            found = stored["opened"][kind]
            ratios = {p: round(found[p]["active"]["sharpe"], 2) for p in ("chosen", "opened")}
            print(time.strftime("%H:%M:%S"), kind, ratios, round(found["opened"]["alpha_t"], 2), flush=True)


def commit() -> None:
    "Write the recipe, and the trials with the opening beside it."
    stored = json.loads(STORED.read_text())
    recipe = chosen()[stored["chosen"]["best"]][0]
    last = (store_folder("qlib:us_sp500") / "calendars" / "day.txt").read_text().split()[-1]
    recipe.replace("data.end", last).save(root() / "recipes" / "us.yaml")
    rows = ledger().rows()
    series = kept_returns(returns_folder(ledger()), rows.loc[rows["kind"] == "trial", "key"])
    print(save_trials(root() / "recipes" / "us.trials.parquet", ledger(), "us", series), "rows")


if __name__ == "__main__":
    {"search": search, "open": open_years, "commit": commit}[sys.argv[1]]()
