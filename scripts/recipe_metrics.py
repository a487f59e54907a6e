"""Run committed recipes and write what they came to into recipes/<name>.metrics.json, on an empty ledger.

Usage: python scripts/recipe_metrics.py [NAME ...]   (all whose data is here, when none is named)
"""

import json
import sys
import tempfile
from pathlib import Path

import pandas as pd

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.run import Run, run
from quantlab.recipe.spec import load, recipe_names


def metrics_file(name: str) -> Path:
    "Return where the figures of a committed recipe lie."
    return root() / "recipes" / f"{name}.metrics.json"


def plain(values: pd.Series) -> dict[str, float | None]:
    "Return figures as JSON knows them."
    return {name: None if pd.isna(value) else float(value) for name, value in values.items()}


def metrics_of(done: Run) -> dict[str, object]:
    "Return the figures of a run that do not depend on who runs it."
    days, found = done.returns.index, done.evidence
    summaries = {name: plain(table["value"]) for name, table in found.summaries.items()}
    return {
        "recipe": done.recipe.name, "data": done.market.hash, "first": f"{days[0]:%Y-%m-%d}",
        "last": f"{days[-1]:%Y-%m-%d}", "sessions": len(days), "accounts": summaries,
        "ic": plain(pd.Series({n: getattr(found.ic_test, n) for n in ("mean", "se", "p", "n_dates")})),
        "trials": found.counted, "deflated": plain(pd.Series({name: d.dsr for name, d in found.deflated.items()})),
        "windows": len(done.fits.models),
    }  # fmt: skip


def fresh(name: str) -> dict[str, object]:
    "Run a recipe on an empty ledger and return its figures."
    with tempfile.TemporaryDirectory() as folder:
        return metrics_of(run(load(name), ledger=Ledger(Path(folder) / "ledger.sqlite")))


def main(names: list[str]) -> None:
    "Write the figures of recipes."
    for name in names or recipe_names():
        try:
            found = fresh(name)
        except ConfigError as error:
            if names:
                raise
            print(f"{name}: left as it is ({error})")
            continue
        metrics_file(name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {found['first']} to {found['last']}, {found['sessions']:,} sessions")


if __name__ == "__main__":
    main(sys.argv[1:])
