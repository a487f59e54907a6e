"""Runs in vectorbt's environment: keep many accounts over wide arrays, one broadcast after another, and time them.

Reads the folder named on the command line (open, close: dates x symbols; account, session, symbol, percent: one entry a
target weight, by account, .npy; terms.json with cash, fees, slippage, chunk). A chunk of accounts is one call of
Portfolio.from_orders, a group each: all at once would need more than ten GB. Answers each line on standard input, the
first account and the one after the last, with the seconds of from_orders, the seconds with value() and the peak memory
in MB; leaves value.npy (dates x accounts) in the folder. Sizes and prices are ready before the clock starts.
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
from vectorbt_orders import memory

warnings.simplefilter("ignore")


def sizes(targets: dict, first: int, stop: int, shape: tuple) -> np.ndarray:
    "Return target percents (dates x accounts and symbols): NaN between decisions, 0 where a decision names no weight."
    (dates, symbols), found = shape, np.full((shape[0], (stop - first) * shape[1]), np.nan)
    low, high = np.searchsorted(targets["account"], [first, stop])
    account, session, symbol, percent = (values[low:high] for values in targets.values())
    wide = found.reshape(dates, stop - first, symbols)
    wide[session, account - first] = 0.0
    wide[session, account - first, symbol] = percent
    return found


def main(folder: Path) -> None:
    open_, close = (np.load(folder / f"{name}.npy") for name in ("open", "close"))
    targets = {name: np.load(folder / f"{name}.npy") for name in ("account", "session", "symbol", "percent")}
    terms = json.loads((folder / "terms.json").read_text())
    shared = {"call_seq": "auto", "cash_sharing": True, "group_by": "account", "ffill_val_price": True, "freq": "D"}
    shared |= {"fees": terms["fees"], "slippage": terms["slippage"], "init_cash": terms["cash"]}
    print(vbt.__version__, flush=True)
    for line in sys.stdin:
        start, end = map(int, line.split())
        seconds, valued, peak, values = 0.0, 0.0, 0.0, []
        for first in range(start, end, terms["chunk"]):
            stop = min(first + terms["chunk"], end)
            columns = pd.MultiIndex.from_product(
                [range(stop - first), range(close.shape[1])], names=["account", "name"]
            )
            size = pd.DataFrame(sizes(targets, first, stop, close.shape), columns=columns)
            opens, closes = (pd.DataFrame(np.tile(x, (1, stop - first)), columns=columns) for x in (open_, close))
            prices = {"price": opens, "val_price": opens}
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # give back what earlier passes left, so that it is not used again unseen
            Path("/proc/self/clear_refs").write_text("5")
            before, began = memory("VmRSS"), time.perf_counter()
            portfolio = vbt.Portfolio.from_orders(closes, size=size, size_type="targetpercent", **prices, **shared)
            seconds += time.perf_counter() - began
            value = portfolio.value()
            valued += time.perf_counter() - began
            peak = max(peak, memory("VmHWM") - before)
            values.append(value.to_numpy())
            del portfolio, value, size, opens, closes, prices
        np.save(folder / "value.npy", np.column_stack(values))
        print(seconds, valued, peak, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
