"""Runs in the environment of ml4t-backtest: a monthly strategy over an event loop, on request; each pass is timed.

Reads the folder named on the command line (bars.parquet: timestamp, symbol, open, high, low, close, volume;
terms.json), runs the strategy once for each line on standard input and answers with the seconds of the pass (feed,
engine, loop and result) and the highest memory this process has had, MB. The equity of every close stays there as
equity.npy, the fills as fills.npy (number of the session, name, signed shares, price).
"""

import json
import sys
import time
from collections import deque
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from ml4t.backtest import BacktestConfig, DataFeed, Engine, RebalanceConfig, Strategy, TargetWeightExecutor
from ml4t.backtest.config import CommissionType, ShareType, SlippageType


class Winners(Strategy):
    "Keep the closes of each name; at the first session of a month hold those that rose most, in equal parts."

    def __init__(self, terms: dict):
        self.terms, self.month = terms, None
        self.closes = deque(maxlen=terms["lookback"] + 1)
        self.executor = TargetWeightExecutor(RebalanceConfig(allow_fractional=True))

    def on_data(self, timestamp, data, context, broker) -> None:
        self.closes.append({name: bar["close"] for name, bar in data.items()})
        if len(self.closes) < self.closes.maxlen or timestamp.month == self.month:
            return
        self.month, before = timestamp.month, self.closes[0]
        rise = {name: close / before[name] for name, close in self.closes[-1].items()}
        best = sorted(rise, key=lambda name: (-rise[name], name))[: self.terms["top_k"]]
        self.executor.execute(dict.fromkeys(best, self.terms["gross"] / len(best)), data, broker)


def peak_mb() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(folder: Path) -> None:
    terms = json.loads((folder / "terms.json").read_text())
    bars = pl.read_parquet(folder / "bars.parquet")
    dates, names = bars["timestamp"].unique().sort().to_list(), bars["symbol"].unique().sort().to_list()
    row, col = ({value: place for place, value in enumerate(values)} for values in (dates, names))
    config = BacktestConfig(
        initial_cash=terms["cash"], share_type=ShareType.FRACTIONAL, commission_type=CommissionType.PERCENTAGE,
        commission_rate=terms["commission"], slippage_type=SlippageType.PERCENTAGE, slippage_rate=terms["slippage"],
        calendar=None,
    )  # fmt: skip
    print(version("ml4t-backtest"), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        feed = DataFeed(prices_df=bars, calendar=None)
        strategy = Winners(terms)
        found = Engine(feed, strategy, config).run()
        seconds = time.perf_counter() - began
        np.save(folder / "equity.npy", np.array([value for _, value in found.equity_curve]))
        fills = [
            (row[f.timestamp], col[f.asset], f.quantity * (1 if f.side.value == "buy" else -1), f.price)
            for f in found.fills
        ]
        np.save(folder / "fills.npy", np.array(fills, dtype=float).reshape(-1, 4))
        print(seconds, peak_mb(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
