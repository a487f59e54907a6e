"""A year of daily minimum-variance books of 100 names, ours beside skfolio called at each close.

Names are the 100 of the committed sample with the longest history, the covariance that of the last 252 returns, shrunk,
long only, at most 5 % a name. Both sides get the same covariance's returns and the same limits; skfolio fits its own
Ledoit-Wolf estimate inside. `parts` holds equal risk by coordinate descent, and the compiled problem with sector-like
rows, turnover and tracking error, which skfolio would answer anew each day. `max_rel_diff` compares the weights.
"""

import json
import sys
import warnings
from pathlib import Path

import harness
import numpy as np
import pandas as pd

from quantlab.core.panel import to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.portfolio.conflict import Mandate, optimum
from quantlab.portfolio.covariance import covariance
from quantlab.portfolio.optimise import equal_risk, min_variance, skfolio_weights

RESULTS = Path(__file__).resolve().parent / "results" / "portfolio.json"
DAYS, NAMES = 252, 100
TIGHT = {"solver_params": {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12}}


def windows() -> list[pd.DataFrame]:
    "Return the past returns at each of 252 closes."
    wide = to_wide(adjust(sample_bars(start="2015-06-01", end="2017-12-29"))["close"]).pct_change(fill_method=None)[1:]
    wide = wide.dropna(axis=1).iloc[:, :NAMES]
    return [wide.iloc[t - 252 : t] for t in range(len(wide) - DAYS + 1, len(wide) + 1)]


def limited(past: pd.DataFrame, held: pd.Series) -> pd.Series:
    "Return a book within rows, turnover and tracking error."
    names = past.columns
    groups = {f"group {k}": (pd.Series(1.0 * (np.arange(NAMES) % 10 == k), names), 0.0, 0.15) for k in range(10)}
    mandate = Mandate(covariance(past).matrix * 252, upper=0.05, rows=groups, turnover=0.2, previous=held,
                      tracking_error=0.06)  # fmt: skip
    return optimum(mandate).weights


def year_of_limited(past: list[pd.DataFrame]) -> list[pd.Series]:
    "Walk the year, each day from the weights of the day before."
    books, held = [], pd.Series(1 / NAMES, past[0].columns)
    for window in past:
        held = limited(window, held)
        books.append(held)
    return books


def main(rounds: int = 3) -> dict:
    "Time minimum variance, equal risk and the limited problem."
    warnings.simplefilter("ignore")
    from skfolio.moments import LedoitWolf
    from skfolio.prior import EmpiricalPrior

    past, prior = windows(), EmpiricalPrior(covariance_estimator=LedoitWolf())
    ours = lambda: [min_variance(covariance(p).matrix, upper=0.05) for p in past]
    theirs = lambda: [skfolio_weights(p, "mean_risk", max_weights=0.05, prior_estimator=prior, **TIGHT) for p in past]
    import skfolio

    label = f"skfolio {skfolio.__version__}"
    found = harness.compare("portfolio", label, ours, theirs, (np.array, np.array), n=DAYS, rounds=rounds, memory=False)
    found["parts"] = {
        "equal risk": {"ours_s": harness.timed(lambda: [equal_risk(covariance(p).matrix) for p in past], 3)},
        "rows, turnover, tracking error": {"ours_s": harness.timed(lambda: year_of_limited(past), 1)},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)))
