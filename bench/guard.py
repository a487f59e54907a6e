"""The guard's whole battery on one order after another, against the same checks over pandas frames.

Every limit is set: collar, shares, notional, rate, own orders on both sides, cancels, age of the mark, hours, latency;
for some names only reducing is allowed. 500 names, 20,000 orders for ours and the first 2,000 of them for pandas, whose
time is scaled to all. An order that passes counts for those after it. `parts` has the time of single orders in
microseconds, each clocked alone on a warm view. `max_rel_diff` is 0 where both let the same pass.
"""

import json
import statistics
import sys
import time
from decimal import Decimal

import harness
import numpy as np
import pandas as pd

from quantlab.execution.guard import GuardView, OrderLimits, order_refusal
from quantlab.execution.store import OrderRow

NOW, NAMES, ORDERS, PANDAS = 1_704_207_600.0, 500, 20_000, 2_000
LIMITS = OrderLimits(
    collar=0.05, max_shares=900, max_notional=80_000.0, max_orders=15_000, span=60.0, max_working=30, cancel_ratio=0.5,
    max_age=900.0, max_latency=60.0,
)  # fmt: skip


def work() -> tuple[pd.DataFrame, list[OrderRow]]:
    "Return the names with their marks and holdings, and the orders."
    rng = np.random.default_rng(0)
    names = pd.DataFrame(
        {
            "mark": rng.uniform(5, 200, NAMES).round(2),
            "made": NOW - rng.uniform(0, 1_000, NAMES).round(),
            "held": rng.integers(-500, 500, NAMES),
            "stopped": rng.random(NAMES) < 0.1,
        },
        index=[f"N{n:03d}" for n in range(NAMES)],
    )
    symbols, sizes = rng.choice(names.index, ORDERS), rng.integers(1, 1_000, ORDERS)
    sizes = np.where(rng.random(ORDERS) < 0.98, np.sign(names.loc[symbols, "held"]) * -sizes, sizes)
    prices = (names.loc[symbols, "mark"].to_numpy() * rng.normal(1, 0.02, ORDERS)).round(2)
    row = lambda n: OrderRow(
        f"{n}", "s", "2024-01-01", symbols[n], Decimal(int(sizes[n]) or 1), Decimal(str(prices[n])),
        "2024-01-02T21:00:00+00:00", "created", "2024-01-02T14:59:30+00:00", "", "",
    )  # fmt: skip
    return names, [row(n) for n in range(ORDERS)]


def view_of(names: pd.DataFrame) -> GuardView:
    "Prepare what the orders are compared with."
    return GuardView(
        NOW,
        held={s: Decimal(int(q)) for s, q in names["held"].items()},
        marks={s: (float(p), float(at)) for s, p, at in zip(names.index, names["mark"], names["made"], strict=True)},
        hours=[(NOW - 3_600.0, NOW + 3_600.0)],
        stopped=dict.fromkeys(names.index[names["stopped"]], "at its stop"),
    )


def ours(names: pd.DataFrame, orders: list[OrderRow], clock: list | None = None) -> np.ndarray:
    "Judge all orders in turn."
    view, passed = view_of(names), np.zeros(len(orders))
    for n, order in enumerate(orders):
        began = time.perf_counter()
        why = order_refusal(view, LIMITS, order)
        if not why:
            view.admit(order)
        if clock is not None:
            clock.append(1e6 * (time.perf_counter() - began))
        passed[n] = not why
    return passed


def by_pandas(names: pd.DataFrame, orders: list[OrderRow]) -> np.ndarray:
    "Judge the orders by look-ups in frames, as one would write it first."
    working = pd.DataFrame({"shares": 0.0, "count": 0}, pd.MultiIndex.from_product([names.index, [-1, 1]]))
    passed, now, out = [], pd.Timestamp(NOW, unit="s", tz="UTC"), []
    for order in orders:
        row, q = names.loc[order.symbol], float(order.quantity)
        mine, other = working.loc[(order.symbol, int(np.sign(q)))], working.loc[(order.symbol, -int(np.sign(q)))]
        reduces = row["held"] * q < 0 and mine["shares"] + abs(q) <= abs(row["held"])
        recent = pd.Series(passed[-LIMITS.max_orders :], dtype=float)
        fine = (
            now < pd.Timestamp(order.deadline)
            and (now - pd.Timestamp(order.since)).total_seconds() <= LIMITS.max_latency
            and (reduces or not row["stopped"])
            and abs(q) <= LIMITS.max_shares
            and NOW - row["made"] <= LIMITS.max_age
            and abs(q) * row["mark"] <= LIMITS.max_notional
            and abs(float(order.price) / row["mark"] - 1) <= LIMITS.collar
            and other["count"] == 0
            and mine["count"] < LIMITS.max_working
            and (recent > NOW - LIMITS.span).sum() < LIMITS.max_orders
        )
        if fine:
            working.loc[(order.symbol, int(np.sign(q)))] = (mine["shares"] + abs(q), mine["count"] + 1)
            passed.append(NOW)
        out.append(fine)
    return np.array(out, dtype=float)


def main(rounds: int = 3) -> dict:
    "Time both sides."
    names, orders = work()
    first = orders[:PANDAS]
    found = harness.compare(
        "guard", f"pandas {pd.__version__}", lambda: ours(names, orders), lambda: by_pandas(names, first),
        (lambda passed: passed[:PANDAS], lambda passed: passed), n=ORDERS, rounds=rounds,
    )  # fmt: skip
    found["peer_s"] = round(found["peer_s"] * ORDERS / PANDAS, 5)
    found["ratio"] = round(found["peer_s"] / found["ours_s"], 2)
    clock: list[float] = []
    passed = ours(names, orders, clock)
    found["parts"] = {
        "median_us": round(statistics.median(clock), 2),
        "p99_us": round(float(np.quantile(clock, 0.99)), 2),
        "passed": int(passed.sum()),
        "peer_orders": PANDAS,
    }
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)))
