"""Clean rows plus rank IC on 500 names, 2,700 dates and three horizons, ours against alphalens.

Both sides start from one score with gaps and ties and one frame of closes, compute the returns from close to close over
each horizon, and end at the IC per date and horizon. The difference is that of the ICs when ours is fed the rows
alphalens cleaned; the timed run cleans by itself. `parts` has the same with our labels, which also say when each
outcome was known and which names were censored.
"""

import contextlib
import io
import time
import warnings

import alphalens
import harness
import numpy as np
import pandas as pd
from alphalens.performance import factor_information_coefficient
from alphalens.utils import get_clean_factor_and_forward_returns

from quantlab.core.panel import grid, to_long, to_wide
from quantlab.labels.forward import forward_returns
from quantlab.validation.scores import rank_ic

HORIZONS = (1, 5, 20)


def market(n_dates: int = 2700, n_names: int = 500) -> tuple[pd.DataFrame, pd.Series]:
    "Return random bars and a slow score in steps (ties), with a twentieth of the scores missing."
    rng = np.random.default_rng(5)
    dates = pd.bdate_range("2010-01-01", periods=n_dates, unit="us", name="date")
    index = pd.MultiIndex.from_product([dates, [f"S{i:03d}" for i in range(n_names)]], names=["date", "symbol"])
    close = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal((n_dates, n_names)), axis=0)).ravel()
    score = np.round(np.cumsum(rng.standard_normal((n_dates, n_names)), axis=0).ravel(), 1)
    score = np.where(rng.random(len(score)) < 0.05, np.nan, score)
    return pd.DataFrame({"open": close, "close": close}, index=index), pd.Series(score, index=index, name="score")


def main() -> dict:
    "Time both sides; the parts give the share of the cleaning."
    bars, score = market()
    prices, factor = to_wide(bars["close"]), score.rename_axis(["date", "asset"])

    def clean() -> pd.DataFrame:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return get_clean_factor_and_forward_returns(factor, prices, quantiles=5, periods=HORIZONS, max_loss=1.0)

    def correlate(rows: pd.DataFrame) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return factor_information_coefficient(rows).to_numpy()

    def returns() -> pd.DataFrame:
        at = grid(score.index)
        return pd.DataFrame({f"{h}D": to_long(prices.shift(-h) / prices - 1, score.index, at) for h in HORIZONS})

    def labels() -> pd.DataFrame:
        return pd.DataFrame({f"{h}D": forward_returns(bars, h, entry="close")["y"] for h in HORIZONS})

    rows = clean().rename_axis(["date", "symbol"])
    fed = rank_ic(rows["factor"], rows[[f"{h}D" for h in HORIZONS]]).to_numpy()
    began = time.perf_counter()
    rank_ic(score, labels())
    labelled = time.perf_counter() - began
    found = harness.compare(
        "ic", f"alphalens-reloaded {alphalens.__version__}", lambda: rank_ic(score, returns()),
        lambda: correlate(clean()),
        (lambda _: fed, lambda theirs: theirs), n=len(score), rounds=3, memory=False,
    )  # fmt: skip
    return found | {
        "parts": {
            "with labels.forward": {
                "ours_s": round(labelled, 5),
                "peer_s": found["peer_s"],
                "ratio": round(found["peer_s"] / labelled, 2),
            }
        }
    }
