"""1,000 policies on one set of predictions, beside vectorbt's broadcast of the same accounts; and 10,000 crossovers.

Policies differ in how many names they hold, the buffer, the rebalance and the weighting; predictions are 12-1 momentum
on the committed sample. Ours starts at the predictions (ranks, selection, weights, accounts); vectorbt has no such
policy, so its clock starts at the wide target percents that ours made, and stops at the value of every close. Only
names with a bar on every session take part: where a held name cannot be sold, the two engines scale the buys by
different rules. Passes alternate; cold is the first pass over the first accounts only.

The second part repeats a published figure that cannot be run here: a Rust engine that judged 10,000 parameter sets on
200,000 bars in 4.4 s and 344 MB on 4 processors. What its strategy was is not known; ours is a crossover of two moving
averages, filled at the next open, after costs, in two threads. Its loop knows that there is one name with a bar at
every step; a hundred sets are carried out by the engine's loop too, and three by from_weights, and must agree to the
last digit. Like any search of that size it keeps the figures of each set, not its curve.

The third part times recipe.search by one process and by two: members that each need fits, and members that share them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from unittest.mock import patch

import harness
import numpy as np
import pandas as pd
from backtest import PYTHON, lift
from numba import njit

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import equity_curves, from_weights
from quantlab.broker.fill_model import DEFAULT_FILL, next_open, terms_of
from quantlab.broker.rebalance import rebalance
from quantlab.broker.rules import DEFAULT_RULES
from quantlab.broker.session import CASH_RESERVE, LEAST_ORDER
from quantlab.core.ledger import Ledger
from quantlab.core.panel import to_wide
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import compute
from quantlab.features.price import momentum
from quantlab.portfolio.weights import TopK, top_k_many
from quantlab.recipe.search import search
from quantlab.recipe.spec import Recipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "search.json"
COSTS, CASH, INVESTED, CHUNK = Costs(1.0, 5.0), 1_000_000.0, 0.98, 20
STRETCH = 1024  # bars whose averages fit into the cache of a core
PUBLISHED = {"sets": 10_000, "bars": 200_000, "s": 4.4, "mb": 344, "processors": 4}


def policies() -> list[TopK]:
    "Return 1,000 settings, mixed, so that a chunk of them is like any other."
    space = product(range(5, 55, 5), (0, 5, 10, 20, 30), ("equal", "rank"), (5, 10, 15, 20, 25, 30, 35, 40, 50, 60))
    every = [TopK(k, buffer, weighting, rebalance=days) for k, buffer, weighting, days in space]
    return [every[m] for m in np.random.default_rng(0).permutation(len(every))]


def inputs() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    "Return predictions, bars of the names that trade on every session, and a gate that leaves a hair of cash."
    bars = adjust(sample_bars(), "total")
    sessions = bars.groupby("symbol")["close"].transform("count")
    bars = bars[sessions == bars.index.unique("date").size]
    scores = compute(bars, [momentum(252, 21)]).iloc[:, 0].dropna().rename("score").to_frame()
    return scores, bars[["open", "close"]], pd.DataFrame({"gate": INVESTED}, index=scores.index.unique("date"))


def accounts(many: list[TopK], scores: pd.DataFrame, bars: pd.DataFrame, gate: pd.DataFrame) -> np.ndarray:
    "Return the equity at each close, dates x policies: ours, from the predictions on."
    weights = top_k_many(many, scores, gate=gate)
    return equity_curves(weights, bars, COSTS, fill=next_open(sized="fill"), cash=CASH)[0].to_numpy()


class Peer:
    "Keep vectorbt's process and ask it for accounts."

    def __init__(self, folder: Path, weights: list[pd.DataFrame], bars: pd.DataFrame):
        self.folder, close = folder, to_wide(bars["close"])
        found = {"account": [], "session": [], "symbol": [], "percent": []}
        for m, one in enumerate(weights):
            dates, names = one.index.get_level_values("date"), one.index.get_level_values("symbol")
            session = close.index.get_indexer(dates) + 1  # filled a session after the decision
            inside = session < len(close)
            for column, values in zip(
                found, (np.full(len(one), m), session, close.columns.get_indexer(names), one["weight"]), strict=True
            ):
                found[column].append(np.asarray(values)[inside])
        arrays = {name: np.concatenate(values) for name, values in found.items()}
        arrays |= {"open": to_wide(bars["open"]).to_numpy(), "close": close.to_numpy()}
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
        terms = {"cash": CASH, "fees": COSTS.commission, "slippage": COSTS.slippage, "chunk": CHUNK}
        (folder / "terms.json").write_text(json.dumps(terms))
        command = [str(PYTHON), str(HERE / "peers" / "vectorbt_search.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        self.version = self.process.stdout.readline().strip()

    def run(self, stop: int) -> tuple[list[float], np.ndarray]:
        "Return seconds of the fills, seconds with the values, MB; and the value at each close, dates x accounts."
        self.process.stdin.write(f"0 {stop}\n")
        self.process.stdin.flush()
        figures = [float(part) for part in self.process.stdout.readline().split()]
        return figures, np.load(self.folder / "value.npy")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def against_vectorbt(members: int, rounds: int) -> dict:
    "Time both in alternating rounds and compare the equity of every account at every close."
    many, given = policies()[:members], inputs()
    first = many[: min(CHUNK, members)]
    began = time.perf_counter()
    accounts(first, *given)
    cold = time.perf_counter() - began
    weights = top_k_many(many, given[0], gate=given[2])
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(Path(folder), weights, given[1])
        (_, peer_cold, _), _ = peer.run(len(first))
        times, curves = [], None
        for _ in range(rounds):
            began = time.perf_counter()
            curves = accounts(many, *given)
            mine = time.perf_counter() - began
            figures, value = peer.run(members)
            times.append((mine, *figures))
        peer.close()
    ours_s, fills_s, peer_s, peer_mb = (statistics.median(side) for side in zip(*times, strict=True))
    value[np.isnan(curves)] = np.nan  # ours has no account before its first decision
    apart = harness.max_rel_diff(curves, value)
    del curves, value
    ours_mb = lift(lambda: accounts(many, *given))
    made = harness.timed(lambda: top_k_many(many, given[0], gate=given[2]), 1)
    close = to_wide(given[1]["close"])
    parts = {
        "policies": members, "names": close.shape[1], "sessions": len(close), "target_weights": sum(map(len, weights)),
        "rounds": rounds, "policies_per_s": members / ours_s, "peer_policies_per_s": members / peer_s,
        "weights_alone_s": made, "peer_without_value_s": fills_s, "ratio_without_value": fills_s / ours_s,
        "accounts_per_broadcast": CHUNK, "cold_policies": len(first),
    }  # fmt: skip
    return {
        "name": "search", "peer": f"vectorbt {peer.version}",
        "ours_s": round(ours_s, 4), "peer_s": round(peer_s, 4), "ratio": round(peer_s / ours_s, 2),
        "cold_s": round(cold, 4), "peer_cold_s": round(peer_cold, 4),
        "ours_mb": round(ours_mb, 1), "peer_mb": round(peer_mb, 1),
        "max_rel_diff": apart, "n": members * close.size, "parts": {"policies": parts},
    }  # fmt: skip


@njit(nogil=True)
def by_engine(open_, close, fast, slow, cash, terms, rates):
    "Keep the account of one pair by the engine's loop; return money left, Sharpe, fall, fills."
    n, k, long = len(close), 0, False
    decision, weight = np.zeros(n, np.int64), np.zeros((n, 1))
    for t in range(n):
        decision[t] = -1
        if (fast[t] > slow[t]) != long:  # NaN, until the slow one is known, is not above
            long = not long
            decision[t], weight[k, 0] = k, 1.0 if long else 0.0
            k += 1
    run = rebalance(open_, close, decision, weight[:k], cash, terms, rates)
    worth, total, square, top, fall = run[5], 0.0, 0.0, cash, 0.0
    for t in range(1, n):
        change = worth[t] / worth[t - 1] - 1.0
        total += change
        square += change * change
        top = max(top, worth[t])
        fall = min(fall, worth[t] / top - 1.0)
    return worth[-1], sharpe_of(total, square, n), fall, float(run[3])


@njit(nogil=True)
def sharpe_of(total, square, n):
    "Return mean over spread of n - 1 returns, from their sum and the sum of their squares; 0 without spread."
    mean = total / (n - 1)
    spread = np.sqrt(max(square / (n - 1) - mean * mean, 0.0))
    return mean / spread if spread > 0.0 else 0.0


@njit(nogil=True)
def order_of(long, held, worth, close):
    "Return the shares that bring a book to all or nothing, none when that moves less than the engine's least order."
    move = (worth / close if long else 0.0) - held
    return 0.0 if long and abs(move) * close < LEAST_ORDER * worth else move


@njit(nogil=True)
def filled(asked, market, cash, rates):
    "Fill an order at the open as the engine does; return shares and the cash that is left."
    if asked < 0.0:
        return asked, cash - asked * market * (1.0 - rates.slippage) * (1.0 - rates.sale)
    need = asked * market * (1.0 + rates.slippage) * (1.0 + rates.commission)
    budget = max(cash * (1.0 - CASH_RESERVE), 0.0)
    scale = budget / need if need > budget else 1.0
    return asked * scale, cash - need * scale


@njit(nogil=True)
def average(summed, window, first, found):
    "Write the moving average of some bars from running sums; NaN until there are enough."
    for i in range(len(found)):
        t = first + i + 1
        found[i] = (summed[t] - summed[t - window]) / window if t >= window else np.nan


@njit(nogil=True)
def crossovers(open_, close, windows, pairs, cash, rates):
    """Keep the account of each pair, long while its first average is above; return money left, Sharpe, fall, fills.

    One name that trades on every bar needs less than the engine's loop: between two fills its value is cash and
    shares times the close. All pairs go through a stretch of bars that stays in the cache before the next begins.
    """
    n, found = len(close), np.zeros((len(pairs), 4))
    summed, averages = np.zeros(n + 1), np.empty((len(windows), STRETCH))
    summed[1:] = np.cumsum(close)
    money, shares, asked, last = np.full(len(pairs), cash), np.zeros(len(pairs)), np.zeros(len(pairs)), found[:, 0]
    total, square, top = np.zeros(len(pairs)), np.zeros(len(pairs)), np.full(len(pairs), cash)
    longs, low = np.zeros(len(pairs), np.bool_), np.full(len(pairs), cash)
    last[:] = cash
    for first in range(0, n, STRETCH):
        stop = min(first + STRETCH, n)
        for k in range(len(windows)):
            average(summed, windows[k], first, averages[k, : stop - first])
        for m in range(len(pairs)):
            fast, slow, t = averages[pairs[m, 0]], averages[pairs[m, 1]], first
            purse, held, order, worth, long = money[m], shares[m], asked[m], last[m], longs[m]
            up, squared, peak, trough, fall = total[m], square[m], top[m], low[m], found[m, 2]
            while t < stop:
                if not long and held == 0.0 and order == 0.0:  # nothing is held: on to the next crossing
                    while t < stop and not fast[t - first] > slow[t - first]:
                        t += 1
                    if t == stop:
                        break
                if order != 0.0:
                    moved, purse = filled(order, open_[t], purse, rates)
                    held += moved
                    order = 0.0
                    found[m, 3] += moved != 0.0
                before, worth = worth, purse + held * close[t]
                change = worth / before - 1.0
                up += change
                squared += change * change
                if worth >= peak:
                    peak = trough = worth
                elif worth < trough:  # the fall below one peak is worst where the value is least
                    trough = worth
                    fall = min(fall, worth / peak - 1.0)
                if (fast[t - first] > slow[t - first]) != long:
                    long = not long
                    order = order_of(long, held, worth, close[t])
                t += 1
            money[m], shares[m], asked[m], last[m], longs[m] = purse, held, order, worth, long
            total[m], square[m], top[m], low[m], found[m, 2] = up, squared, peak, trough, fall
    for m in range(len(pairs)):
        found[m, 1] = sharpe_of(total[m], square[m], n)
    return found


def crossover_inputs(bars: int, sets: int) -> tuple:
    "Return opens and closes of one seeded walk, the windows of its averages, and which two of them each set compares."
    rng, side = np.random.default_rng(0), int(np.sqrt(sets))
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.001, bars)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0.0, 0.0001, bars))
    windows = np.array([*range(5, 5 + side), *range(120, 120 + 5 * side, 5)])
    return open_, close, windows, np.array(list(product(range(side), range(side, 2 * side))))


def judge(open_: np.ndarray, close: np.ndarray, windows: np.ndarray, pairs: np.ndarray, threads: int) -> np.ndarray:
    "Return the figures of every pair, in their order."
    shares = [pairs[k::threads] for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda share: crossovers(open_, close, windows, share, CASH, COSTS.rates), shares))
    figures = np.empty((len(pairs), 4))
    for k, part in enumerate(found):
        figures[k::threads] = part
    return figures


def averages_of(close: np.ndarray, windows: np.ndarray) -> list[np.ndarray]:
    "Return moving averages, NaN until there are enough closes."
    summed = np.concatenate([[0.0], np.cumsum(close)])
    return [np.r_[np.full(w - 1, np.nan), (summed[w:] - summed[:-w]) / w] for w in windows]


def as_by_engine(m: int, figures: np.ndarray, bars: int, sets: int) -> bool:
    "Say whether the engine's loop leaves a pair's account with the same figures, to the last digit."
    open_, close, windows, pairs = crossover_inputs(bars, sets)
    terms, both = terms_of(DEFAULT_RULES, DEFAULT_FILL), averages_of(close, windows[pairs[m]])
    return by_engine(open_[:, None], close[:, None], *both, CASH, terms, COSTS.rates) == tuple(figures[m])


def as_from_weights(m: int, figures: np.ndarray, bars: int, sets: int) -> bool:
    "Say whether from_weights leaves a pair's account with the same money, to the last digit, and as many fills."
    open_, close, windows, pairs = crossover_inputs(bars, sets)
    fast, slow = averages_of(close, windows[pairs[m]])
    dates = pd.date_range("2020-01-01", periods=bars, freq="min", unit="us")
    index = pd.MultiIndex.from_product([dates, ["WALK"]], names=["date", "symbol"])
    above = fast > slow
    turns = np.flatnonzero(np.diff(above, prepend=False))
    weights = pd.DataFrame({"weight": above[turns].astype(float)}, index[turns])
    run = from_weights(weights, pd.DataFrame({"open": open_, "close": close}, index), COSTS, cash=CASH)
    return bool(run.equity.iloc[-1] == figures[m, 0] and len(run.trades) == figures[m, 3])


def many_crossovers(sets: int, bars: int, rounds: int, threads: int = 2) -> dict:
    "Repeat the published work: from closes to figures after costs."
    run = lambda: judge(*crossover_inputs(bars, sets), threads)
    began = time.perf_counter()
    judge(*crossover_inputs(bars, 16), threads)
    cold = time.perf_counter() - began
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        figures = run()
        times.append(time.perf_counter() - began)
    differences = sum(not as_from_weights(m, figures, bars, sets) for m in (0, sets // 2, sets - 1))
    checked = range(0, len(figures), max(len(figures) // 100, 1))
    apart = sum(not as_by_engine(m, figures, bars, sets) for m in checked)
    seconds = statistics.median(times)
    steps = sets * bars / seconds / threads
    theirs = PUBLISHED["sets"] * PUBLISHED["bars"] / PUBLISHED["s"] / PUBLISHED["processors"]
    return {
        "sets": len(figures), "bars": bars, "processors": threads, "s": seconds, "cold_s": cold, "mb": lift(run),
        "fills": int(figures[:, 3].sum()), "differences_to_from_weights": differences,
        "checked_by_engine": len(checked), "differences_to_engine": apart,
        "bars_per_s_and_processor": steps, "published": PUBLISHED, "published_bars_per_s_and_processor": theirs,
        "ratio_per_processor": steps / theirs, "rounds": rounds,
    }  # fmt: skip


def workers(rounds: int, trees: int = 300, groups: int = 68) -> dict:
    "Time a search by one process and by two, in alternating rounds, each with an empty cache of its own."
    used = ["AAPL", "ABT", "AMZN", "BA", "BAC", "C", "CAT", "COP", "CSCO", "CVS", "CVX", "DIS", "F", "GE", "GS", "HD"]
    recipe = Recipe().replace(
        name="bench", data__universe=", ".join(used), data__end="2014-12-31", features__use=["price"], study="bench",
        model__kind="gbm", model__n_estimators=trees, model__num_threads=1, split__train_sessions=252,
        split__test_sessions=126, policy__buffer=2,
    )  # fmt: skip
    learned = {"model.num_leaves": [3 + k for k in range(groups // 4)], "model.min_child_samples": [20, 40, 80, 160]}
    work = {"fits": learned | {"policy.top_k": [3, 5, 8]}, "policies": {"policy.top_k": [*range(2, 12)]}}
    work["policies"] |= {"policy.buffer": [0, 2, 4, 6], "policy.rebalance": [5, 10, 15, 20, 25]}
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for (kind, vary), jobs in product(work.items(), (1, 2)):
            with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"QUANTLAB_RESEARCH_CACHE": folder}):
                asked = recipe if kind == "fits" else recipe.replace(model__kind="feature", model__column="rev_21")
                began = time.perf_counter()
                found = search(asked, vary, n_jobs=jobs, ledger=Ledger(f"{folder}/ledger.sqlite"))
                seconds.setdefault((kind, jobs), []).append(time.perf_counter() - began)
                assert found.ran == len(found.table)
    middle = {key: statistics.median(times) for key, times in seconds.items()}
    return {
        kind: {"one_s": middle[kind, 1], "two_s": middle[kind, 2], "ratio": middle[kind, 1] / middle[kind, 2]}
        for kind in work
    } | {"rounds": rounds, "members": {"fits": 3 * groups, "policies": 200}, "trees": trees}


def main(rounds: int = 3, members: int = 1000, sets: int = 10_000, bars: int = 200_000) -> dict:
    "Time both searches; figures of the full size are kept."
    if not PYTHON.exists():
        return {"name": "search", "skipped": "vectorbt's environment is not there; make bench-peers builds it"}
    found = against_vectorbt(members, rounds)
    found["parts"]["crossovers"] = many_crossovers(sets, bars, rounds)
    found["parts"]["workers"] = workers(rounds, *(() if members == 1000 else (20, 4)))
    if (members, sets, bars) == (1000, 10_000, 200_000):
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
