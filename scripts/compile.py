"""Compile the kernels once, so that nobody waits for them later: make each first call with a small input.

Usage: python scripts/compile.py   (`make install` does it; numba keeps the code where NUMBA_CACHE_DIR says, else beside
the sources)
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.backtest.orders import from_rule
from quantlab.backtest.strategy import from_strategy
from quantlab.core.panel import as_panel
from quantlab.features.base import compute
from quantlab.features.sets import SETS
from quantlab.labels.barrier import triple_barrier, volatility_width
from quantlab.labels.forward import forward_returns
from quantlab.regime.hmm import HMM
from quantlab.signals.record import trailing_ic
from quantlab.strategy.examples import Momentum
from quantlab.validation.scores import rank_ic


def small_bars(sessions: int = 320, names: int = 4) -> pd.DataFrame:
    "Make a panel of random bars, long enough for every look-back."
    rng = np.random.default_rng(7)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, (sessions, names)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.002, close.shape))
    wide = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.01,
        "low": np.minimum(open_, close) * 0.99,
        "close": close,
        "volume": np.full(close.shape, 1e6),
    }
    wide["amount"] = close * wide["volume"]
    dates, symbols = pd.bdate_range("2020-01-01", periods=sessions).as_unit("us"), [f"N{k}" for k in range(names)]
    at = {"date": np.repeat(dates, names), "symbol": symbols * sessions}
    return as_panel(pd.DataFrame(at | {name: values.ravel() for name, values in wide.items()}))


def first_calls(bars: pd.DataFrame) -> dict[str, Callable[[], object]]:
    "Name the calls that compile what people call first."
    weights = bars[["close"]].iloc[400:800:40].assign(weight=0.2)[["weight"]]
    score = bars["close"].groupby("symbol").pct_change(5).rename("score")
    labels = forward_returns(bars, 5)
    outcome, opinion = labels["y"], score.to_frame().assign(doubt=score * 0.0 + 1.0)
    market = bars["close"].groupby("symbol").pct_change().groupby("date").mean().dropna().to_frame("market")
    calls = {
        "from_weights": lambda: from_weights(weights, bars).trades,
        "equity_curves": lambda: equity_curves([weights], bars),
        "from_strategy": lambda: from_strategy(Momentum(top_k=2), bars).trades,
        "from_rule": lambda: from_rule(
            lambda held, s, ok: (np.array([0]), np.array([0.1])), score.to_frame().dropna(), bars
        ),
        "track record": lambda: trailing_ic({"one": opinion}, labels["y"], labels["t1"], min_names=2),
        "rank_ic": lambda: rank_ic(score, outcome),
        "triple_barrier": lambda: triple_barrier(bars, volatility_width(bars).dropna()),
        "hidden Markov filter": lambda: HMM(2, n_starts=1).fit(market).filter(market),
    }
    return calls | {
        f"features {name}": lambda features=features: compute(bars, list(features)) for name, features in SETS.items()
    }


def main() -> int:
    begin = time.perf_counter()
    for name, call in first_calls(small_bars()).items():
        start = time.perf_counter()
        call()
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    print(f"kernels are compiled: {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
