"""Hawkes likelihood and gradient of a million events, beside hawkesbook; the size of the residual tests; a real day.

`ours_s` is one call for log-likelihood and gradient; hawkesbook (0.1.0, numba too) needs two, and both are warm. The
values compared are the log-likelihood and its three derivatives on equal events. `parts` holds:

- size: how often the Kolmogorov-Smirnov test refuses a right model at 5 %, in 2,000 simulated spans: with the planted
  parameters; with fitted ones and the table for known ones; with fitted ones and Lilliefors' table; with a bootstrap.
- AMZN: the trades (types 4 and 5, one event for each distinct time) of LOBSTER's sample of 2012-06-21, which is not
  redistributed: fits of the whole day, and models fitted up to 12:45 and scored from there to 16:00, once as they are
  and once fitted anew every half hour on what is past.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import harness
import numpy as np
import pandas as pd
from scipy.stats import kstest

from quantlab.micro.hawkes import (
    HawkesModel,
    event_times,
    fit_hawkes,
    hawkes_gradient,
    hawkes_residuals,
    power_law_sum,
    residual_test,
    simulate_hawkes,
)
from quantlab.micro.intensity import (
    acd_expected_count,
    acd_scores,
    count_table,
    expected_count,
    fit_acd,
    gain_table,
    hawkes_scores,
    liquidity_table,
)

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("QUANTLAB_SHARED", HERE.parents[1] / "shared"))
DAY = SHARED / "data" / "lob"
MESSAGES, BOOK = (DAY / f"AMZN_2012-06-21_34200000_57600000_{kind}_1.csv" for kind in ("message", "orderbook"))
RESULTS = HERE / "results" / "hawkes.json"
START, NOON, END = 34_200.0, 45_900.0, 57_600.0
KNOTS = (34_200.0, 35_100.0, 36_000.0, 37_800.0, 41_400.0, 45_000.0, 48_600.0, 52_200.0, 55_800.0, 56_700.0, 57_600.0)
MORNING_KNOTS = tuple(knot for knot in KNOTS if knot < NOON) + (NOON,)
KERNELS = {"one exponential": 1, "two exponentials": 2, "three exponentials": 3, "power law": "power"}


def trade_times() -> tuple[np.ndarray, str]:
    "Return the distinct times of the day's trades, and what was done to equal ones."
    rows = pd.read_csv(MESSAGES, header=None, usecols=[0, 1]).to_numpy()
    return event_times(rows[np.isin(rows[:, 1], (4, 5)), 0], "merge")


def fitted(fit) -> dict:
    "Return what is stored of a fit."
    rows = {name: [float(row["value"]), float(row["se"])] for name, row in fit.table.iterrows()}
    r = fit.residuals
    found = {"log_likelihood": fit.log_likelihood, "gain": fit.gain, "aic": fit.aic, "parameters": len(rows) - 1}
    found |= {"branching": fit.model.branching, "ks": r.ks, "p": r.p, "lag": r.lag, "p_lag": r.p_lag, "mean": r.mean}
    return found | {"verdict": r.verdict, "note": fit.note, "table": rows}


def whole_day(times: np.ndarray) -> dict:
    "Fit every kernel to the day, with a flat and with an intraday baseline."
    found = {"intraday Poisson": fitted(fit_hawkes(times, START, END, 0, KNOTS))}
    for name, decays in KERNELS.items():
        found[name] = fitted(fit_hawkes(times, START, END, decays))
        found[f"{name}, intraday"] = fitted(fit_hawkes(times, START, END, decays, KNOTS))
    cut, exponent = (found["power law, intraday"]["table"][name][0] for name in ("cut", "exponent"))
    branching = found["power law, intraday"]["table"]["branching"][0]
    return {"fits": found, "error_of_the_sum": power_law_sum(branching, cut, exponent)[2]}


def refitted(times: np.ndarray, kind: str, decays: object) -> tuple[np.ndarray, np.ndarray]:
    "Score each afternoon event and forecast each minute with the model of the last half hour's end."
    scores, counts = np.full(len(times), np.nan), []
    for cut in np.arange(NOON, END, 1800.0):
        past = times[times <= cut]
        here, at = (times > cut) & (times <= cut + 1800), np.arange(cut, min(cut + 1800, END), 60.0)
        if kind == "durations":
            model = fit_acd(past, START, cut)
            scores[here] = acd_scores(model, times, START, END)[0][here]
            counts.append(acd_expected_count(model, times, START, at))
        else:
            model = fit_hawkes(past, START, cut, decays).model
            scores[here] = hawkes_scores(model, times, START)[here]
            counts.append(expected_count(model, times, at))
    return scores, np.concatenate(counts)


def afternoon(times: np.ndarray) -> dict:
    "Fit in the morning, and score events, counts and liquidity of the afternoon."
    morning, at = times[times <= NOON], np.arange(NOON, END, 60.0)
    minutes, every = np.histogram(times, np.append(at, END))[0], np.arange(START, END, 60.0)
    models = {"Poisson": HawkesModel((len(morning) / (NOON - START),))}
    models |= {name: fit_hawkes(morning, START, NOON, decays).model for name, decays in KERNELS.items()}
    intraday = fit_hawkes(morning, START, NOON, 3, MORNING_KNOTS).model
    models["three exponentials, intraday held at its last level"] = intraday
    durations = fit_acd(morning, START, NOON)
    scores = {name: hawkes_scores(model, times, START) for name, model in models.items()}
    counts = {name: expected_count(model, times, at) for name, model in models.items()}
    ahead = {name: expected_count(model, times, every) for name, model in models.items()}
    scores["durations"] = acd_scores(durations, times, START, END)[0]
    counts["durations"] = acd_expected_count(durations, times, START, at)
    ahead["durations"] = acd_expected_count(durations, times, START, every)
    for name, decays in {"Poisson": 0, "durations": None, "three exponentials": 3, "power law": "power"}.items():
        label = f"{name}, fitted anew every half hour"
        scores[label], counts[label] = refitted(times, name, decays)
    counts["count of the last minute"] = np.maximum(np.histogram(times, np.append(at - 60, at[-1]))[0], 0.5)
    found = {
        "events_after_noon": int((times > NOON).sum()), "durations": vars(durations),
        "events": gain_table(scores, times, NOON).to_dict("index"), "gain by wait": by_wait(scores, times),
        "events over durations": gain_table({"durations": scores["durations"], **scores}, times, NOON).to_dict("index"),
        "counts": count_table(minutes, counts).to_dict("index"),
    }  # fmt: skip
    for what, values in liquidity(every).items():
        found[what] = liquidity_table(values, ahead, int((NOON - START) / 60)).to_dict("index")
    return found


def by_wait(scores: dict[str, np.ndarray], times: np.ndarray) -> dict:
    "Say which events the power law's gain comes from: those that come soon after another, or the others."
    late, wait = times > NOON, np.diff(times, prepend=START)
    found, lower = {}, 0.0
    for upper in (0.001, 0.01, 0.1, 1.0, np.inf):
        here = late & (wait >= lower) & (wait < upper)
        gain = lambda name, rows=here: float((scores["power law"] - scores[name])[rows].sum() / late.sum())
        over = {name: gain(name) for name in ("Poisson", "durations")}
        found[f"wait of {lower:g} to {upper:g} s"] = {"share of events": float(here.sum() / late.sum())} | {
            f"nats an event over {name}": value for name, value in over.items()
        }
        lower = upper
    return found


def liquidity(every: np.ndarray) -> dict[str, np.ndarray]:
    "Return the time-weighted spread (basis points) and depth at the touch (shares) of each minute."
    clock = pd.read_csv(MESSAGES, header=None, usecols=[0])[0].to_numpy()
    ask, ask_size, bid, bid_size = pd.read_csv(BOOK, header=None, sep=";").to_numpy(dtype=float).T
    grid = np.unique(np.concatenate([clock, every, [END]]))
    row = np.maximum(np.searchsorted(clock, grid[:-1], "right") - 1, 0)
    minute, width = np.searchsorted(every, grid[:-1], "right") - 1, np.diff(grid)
    inside = minute >= 0
    mean = lambda x: np.bincount(minute[inside], (x[row] * width)[inside]) / np.bincount(minute[inside], width[inside])
    return {"spread": mean(2e4 * (ask - bid) / (ask + bid)), "depth": mean((ask_size + bid_size) / 2)}


def size_of_tests(repeats: int = 2000, span: float = 300.0) -> dict:
    "Count how often a right model is refused at 5 %; the bootstrap with one repetition a span, pooled."
    truth, refused, distances = HawkesModel((0.5,), (1.0,), (2.0,)), np.zeros((repeats, 5)), np.zeros((repeats, 2))
    for seed in range(repeats):
        times = simulate_hawkes(truth, 0.0, span, seed)
        known, fit = residual_test(hawkes_residuals(truth, times, 0.0), fitted=False), fit_hawkes(times, 0.0, span)
        naive = kstest(hawkes_residuals(fit.model, times, 0.0), "expon").pvalue
        found = (known.p, naive, fit.residuals.p, known.p_lag, fit.residuals.p_lag)
        refused[seed] = np.array(found) < 0.05
        again = fit_hawkes(simulate_hawkes(fit.model, 0.0, span, repeats + seed), 0.0, span)
        distances[seed] = fit.residuals.ks, again.residuals.ks
    names = ["planted, KS", "fitted, KS as if known", "fitted, KS of Lilliefors", "planted, lag", "fitted, lag"]
    sizes = dict(zip(names, refused.mean(axis=0).tolist(), strict=True))
    sizes["fitted, KS by bootstrap"] = float((distances[:, 0] > np.quantile(distances[:, 1], 0.95)).mean())
    return {"repeats": repeats, "span_s": span, "refused": sizes}


def rounded(value: object) -> object:
    "Round every number to 6 significant digits."
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return None if value != value else float(f"{value:.6g}") if isinstance(value, float) else value


def main(rounds: int = 5) -> dict:
    "Time both sides, measure sizes, fit the day and score its afternoon."
    from hawkesbook import deriv_exp_log_likelihood, exp_log_likelihood

    truth, span = HawkesModel((0.5,), (1.0,), (2.0,)), 1e6
    times, theta = simulate_hawkes(truth, 0.0, span, 3), np.array([0.5, 1.0, 2.0])
    found = harness.compare(
        "hawkes", f"hawkesbook {version('hawkesbook')}", lambda: hawkes_gradient(truth, times, 0.0, span),
        lambda: (exp_log_likelihood(times, span, theta), deriv_exp_log_likelihood(times, span, theta)),
        (lambda ours: np.concatenate([np.ravel(v) for v in ours]), lambda peer: np.append(peer[0], np.ravel(peer[1]))),
        n=len(times), rounds=rounds, memory=False,
    )  # fmt: skip
    least = min(harness.timed(lambda: hawkes_gradient(truth, times, 0.0, span), 1) for _ in range(2 * rounds))
    equal = hawkes_gradient(truth, times, 0.0, span)[0] / exp_log_likelihood(times, span, theta) - 1
    began = time.perf_counter()
    parts = {"ours_least_s": least, "rel_diff_of_log_likelihood": abs(float(equal)), "size": size_of_tests()}
    if MESSAGES.exists():
        trades, note = trade_times()
        day = {"events": len(trades), "ties": note, "poisson": fit_hawkes(trades, START, END, 0).log_likelihood}
        parts["AMZN"] = day | whole_day(trades) | {"afternoon": afternoon(trades)}
    else:
        parts["AMZN"] = {"skipped": "no LOBSTER sample beside the project; set QUANTLAB_SHARED"}
    return found | {"parts": rounded(parts) | {"study_s": round(time.perf_counter() - began, 1)}}


if __name__ == "__main__":
    result = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    if "skipped" not in result["parts"]["AMZN"]:
        RESULTS.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(json.dumps(result))
