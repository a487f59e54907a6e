"""Runs in vectorbt's environment: keep one account over wide arrays, on request, and say how long it took.

Reads the folder named on the command line (open, close, percent, amount: dates x symbols, .npy; terms.json with cash,
fees, slippage). Answers each line on standard input, "percent" or "amount", with the seconds of from_orders, the
seconds with value(), and the peak memory in MB, and leaves value.npy and fills.npy (row, column, signed shares) in the
folder.
"""

import ctypes
import gc
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import vectorbt as vbt

warnings.simplefilter("ignore")


def memory(key: str) -> float:
    "Return VmRSS (now) or VmHWM (the highest since the last reset) of this process in MB."
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def main(folder: Path) -> None:
    open_, close, percent, amount = (
        pd.DataFrame(np.load(folder / f"{name}.npy")) for name in ("open", "close", "percent", "amount")
    )
    terms = json.loads((folder / "terms.json").read_text())
    shared = {
        "price": open_,
        "val_price": open_,
        "call_seq": "auto",
        "cash_sharing": True,
        "group_by": True,
        "ffill_val_price": True,
    }
    shared |= {"fees": terms["fees"], "slippage": terms["slippage"], "init_cash": terms["cash"], "freq": "D"}
    print(vbt.__version__, flush=True)
    for line in sys.stdin:
        kind = line.strip()
        size = (
            {"size": percent, "size_type": "targetpercent"}
            if kind == "percent"
            else {"size": amount, "size_type": "amount"}
        )
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # give back what earlier passes left, so that it is not used again unseen
        Path("/proc/self/clear_refs").write_text("5")
        before, began = memory("VmRSS"), time.perf_counter()
        portfolio = vbt.Portfolio.from_orders(close, **size, **shared)
        filled = time.perf_counter() - began
        peak = memory("VmHWM") - before
        value = portfolio.value()
        valued = time.perf_counter() - began
        records = portfolio.orders.values
        np.save(folder / "value.npy", value.to_numpy())
        signed = records["size"] * np.where(records["side"] == 0, 1.0, -1.0)
        np.save(folder / "fills.npy", np.column_stack([records["idx"], records["col"], signed]))
        del portfolio, value, records, signed
        print(filled, valued, peak, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
