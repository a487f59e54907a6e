"""A strategy asked at every close, monthly the 30 of 500 US names that rose most in a year: from_strategy
beside the event loop of ml4t-backtest in an environment of its own (make bench-peers).

Both sides get the same bars, decide at the first close of a month, size at that close and fill at the next open, with
the same commission and slippage, in fractions of shares. The peer's process is started once and times feed, engine,
loop and result of each of its passes; ours reads the panel. `ours_mb` and `peer_mb` are the highest memory of a
process that has loaded the bars from the same file and run the strategy once.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from quantlab.backtest.costs import Costs
from quantlab.backtest.strategy import from_strategy
from quantlab.broker.blotter import Result
from quantlab.data.files import lay_panel

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "strategy.json"
CASH, COSTS, LOOKBACK, TOP_K, GROSS = 1_000_000.0, Costs(1.0, 5.0), 252, 30, 0.98
TERMS = {
    "cash": CASH, "commission": COSTS.commission, "slippage": COSTS.slippage, "lookback": LOOKBACK, "top_k": TOP_K,
    "gross": GROSS,
}  # fmt: skip


class Winners:
    "At the first close of a month hold the names that rose most over a lookback, in equal parts."

    def __init__(self):
        self.month = None

    def on_bar(self, now, past, book):
        if len(past.dates) <= LOOKBACK or now.month == self.month:
            return None
        self.month = now.month
        close = past.array("close")
        size = np.zeros(close.shape[1])
        size[np.argsort(-close[-1] / close[-1 - LOOKBACK], kind="stable")[:TOP_K]] = GROSS / TOP_K
        touched = (size > 0) | (book.shares.to_numpy() != 0)
        return pd.DataFrame({"symbol": past.symbols[touched], "size": size[touched], "kind": "target"})

    def on_fill(self, fill):
        "Need nothing: the book shows what is held."


def account(bars: pd.DataFrame) -> Result:
    return from_strategy(Winners(), bars, COSTS, cash=CASH)


def peak_mb() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def read_bars(file: Path) -> pd.DataFrame:
    "Read the bars a row group at a time, as the lake reads its files."
    source = pyarrow.parquet.ParquetFile(file, read_dictionary=["symbol"])
    names = ["date" if name == "timestamp" else name for name in source.schema_arrow.names]
    groups = (source.read_row_group(g).rename_columns(names) for g in range(source.num_row_groups))
    symbols = pd.Index(sorted(set(source.read_row_group(0, columns=["symbol"])["symbol"].to_pylist())), dtype="str")
    return lay_panel(groups, source.metadata.num_rows, symbols, names[2:], None)


def alone(folder: Path) -> None:
    "Load the bars, run the strategy once and print this process's highest memory: in a process of its own."
    account(read_bars(folder / "bars.parquet"))
    print(peak_mb())


class Peer:
    "Keep the peer's process and ask it for accounts."

    def __init__(self, python: Path, folder: Path):
        self.folder, self.seconds, self.mb = folder, [], []
        command = [str(python), str(HERE / "peers" / "ml4t_strategy.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        self.version = self.process.stdout.readline().strip()

    def run(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, mb = map(float, self.process.stdout.readline().split())
        self.seconds.append(seconds), self.mb.append(mb)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def compared(ours: Result, folder: Path) -> dict[str, float]:
    "Say how far the two accounts are apart."
    equity, fills, mine = np.load(folder / "equity.npy"), np.load(folder / "fills.npy"), ours.blotter.fills
    theirs = {(int(t), int(i)): (quantity, price) for t, i, quantity, price in fills}
    own = {(t, i): (q, p) for t, i, q, p in zip(mine.session, mine.symbol, mine.quantity, mine.price, strict=True)}
    both = sorted(theirs.keys() & own.keys())
    price = max((abs(own[key][1] / theirs[key][1] - 1) for key in both), default=np.nan)
    gap = np.abs(equity / ours.equity.to_numpy() - 1)
    return {
        "fills": len(own), "peer_fills": len(theirs), "fills_of_both": len(both), "max_rel_diff_of_price": price,
        "end_equity": float(ours.equity.iloc[-1]), "peer_end_equity": float(equity[-1]),
        "max_rel_diff_of_equity": float(gap.max()),
    }  # fmt: skip


def main(rounds: int = 3) -> dict:
    "Time both event loops in alternating rounds and say how far the accounts are apart."
    import barrier  # here: the process whose memory is measured needs none of it
    import harness

    if not barrier.BARS.exists():
        return {"name": "strategy", "skipped": f"no {barrier.BARS.name} beside the project; set QUANTLAB_SHARED"}
    if not barrier.PYTHON_ML4T.exists():
        return {"name": "strategy", "skipped": "ml4t's environment is not there; make bench-peers builds it (3.12)"}
    bars = barrier.read_bars()
    bars = bars.assign(high=bars.max(axis=1), low=bars.min(axis=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bars.reset_index().rename(columns={"date": "timestamp"}).to_parquet(
            folder / "bars.parquet", index=False, row_group_size=100_000
        )
        (folder / "terms.json").write_text(json.dumps(TERMS))
        mb = subprocess.run(
            [sys.executable, __file__, name], capture_output=True, text=True, check=True, env=os.environ
        ).stdout
        peer = Peer(barrier.PYTHON_ML4T, folder)
        began = time.perf_counter()
        ours = account(bars)
        cold = time.perf_counter() - began
        peer.run()
        times = []
        for _ in range(rounds):
            times.append(harness.timed(lambda: account(bars), 1))
            peer.run()
        peer.close()
        parts = compared(ours, folder)
    ours_s, peer_s = statistics.median(times), statistics.median(peer.seconds[1:])
    found = {
        "name": "strategy", "peer": f"ml4t-backtest {peer.version}", "ours_s": round(ours_s, 5),
        "peer_s": round(peer_s, 5), "ratio": round(peer_s / ours_s, 2), "cold_s": round(cold, 4),
        "peer_cold_s": round(peer.seconds[0], 4), "ours_mb": round(float(mb), 1), "peer_mb": round(peer.mb[0], 1),
        "max_rel_diff": parts["max_rel_diff_of_equity"], "n": len(bars),
        "parts": parts | {"ours_least_s": min(times), "peer_least_s": min(peer.seconds[1:])},
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        alone(Path(sys.argv[1]))
    else:
        print(json.dumps(main(), indent=1))
