"""Carry recipes/crypto.yaml out on real bars of four hours, without each of its parts, and with each number moved.

Usage: python scripts/crypto.py [SHARE]   (0.2 when absent)

Imports ../shared/data/crypto (QUANTLAB_SHARED) into the lake as dataset crypto where that is not there yet, and writes
bench/results/crypto.json, which reports/crypto.ipynb shows. Fits and regimes are kept in the cache: an interrupted run
goes on where it stopped.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from quantlab.backtest.stats import summary
from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.data.store import Lake
from quantlab.importer.files import guess_columns, import_file
from quantlab.recipe.run import compared, plain_accounts
from quantlab.recipe.space import nudged, taken_out, without_posts
from quantlab.recipe.spec import as_dict, load
from quantlab.recipe.stages import Stages

COINS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FIGURES = ["annual_return", "volatility", "sharpe", "max_drawdown"]


def fill_lake() -> None:
    "Import the shared files; raise ConfigError where they are not."
    if "crypto" in set(Lake().datasets()["dataset"]):
        return
    shared = Path(os.environ.get("QUANTLAB_SHARED") or root().parent / "shared") / "data" / "crypto"
    for coin in COINS:
        file = next(iter(sorted(shared.glob(f"{coin}_4h_*.parquet"))), None)
        if file is None:
            raise ConfigError(f"{coin} is not in {shared.name}; set QUANTLAB_SHARED to the folder with data/crypto")
        mapping = replace(guess_columns(file), symbol=coin, stamps="start")
        Lake().write("crypto", "4h", import_file(file, mapping))


def figures(returns: pd.Series, year: float) -> dict[str, float]:
    "Return the figures of an account, the Sharpe ratio with its error."
    table = summary(returns, year, draws=200)
    return {name: float(table.at[name, "value"]) for name in FIGURES} | {"sharpe_se": float(table.at["sharpe", "se"])}


def by_year(returns: pd.Series) -> dict[str, float]:
    "Return what each year brought, years of a few bars left out."
    known = returns.dropna()
    return {str(y): float(np.prod(1 + r) - 1) for y, r in known.groupby(known.index.year) if len(r) > 9}


def main(share: float = 0.2) -> None:
    "Carry everything out and store what it came to."
    fill_lake()
    recipe = without_posts(load("crypto")).replace("data.source", "lake:crypto")  # no posts of these years are at hand
    chain, year = Stages(recipe), float(recipe.data.periods_per_year)
    accounts = {"the system": chain.account.returns, "equal weight": chain.benchmark.returns}
    accounts |= {name: one.returns for name, one in plain_accounts(chain).items()}
    parts = compared(chain, taken_out(recipe))
    around = {
        f"{path} {'lower' if side == 0 else 'higher'}": one
        for path, pair in nudged(recipe, share).items() for side, one in enumerate(pair) if one is not None
    }  # fmt: skip
    moved = {}
    for name, one in track(around.items(), "numbers moved"):
        moved[name] = figures(compared(chain, {name: one})[name], year)["sharpe"]
    growth = (1 + pd.DataFrame(accounts)).cumprod().resample("W").last()
    found = {
        "about": {
            "data": chain.market.hash, "bars": len(chain.market.bars), "share": share, "recipe": as_dict(recipe),
            "first": f"{chain.bars.index[0][0]:%Y-%m-%d}", "last": f"{chain.bars.index[-1][0]:%Y-%m-%d}",
        },
        "accounts": {name: figures(r, year) for name, r in accounts.items()},
        "by_year": {name: by_year(one) for name, one in accounts.items()},
        "parts": {name: figures(parts[name], year) for name in parts},
        "moved": moved,
        "log": [one._asdict() for one in chain.guard.log],
        "growth": {"date": [f"{d:%Y-%m-%d}" for d in growth.index]}
        | {name: growth[name].round(5).tolist() for name in growth},
    }  # fmt: skip
    file = root() / "bench" / "results" / "crypto.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(found["accounts"]).T.round(3))


if __name__ == "__main__":
    main(*(float(word) for word in sys.argv[1:]))
