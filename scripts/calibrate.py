"""Measure how often the tests of validation.inference, validation.deflate, validation.events, validation.increment,
regime.bootstrap, risk and monitor.drift alarm falsely, and how often the intervals of pricing.calibrate and
altdata.satellite hold the truth.

Usage: python scripts/calibrate.py [inference] [deflated] [noise_search] [regimes] [var] [index] [stability] [drift]
[heston] [events] [filings] [increment] [generators] [stocknet] [robust] [satellite] [seeds]

Every finished chunk of seeds is kept under .cache/calibrate/, so an interrupted run goes on where it stopped; a change
of these worlds or of the tests themselves starts anew. The rates go to bench/results/calibration.json, which
nbs/validation/365_inference.ipynb shows, and to bench/results/regime_calibration.json, which
nbs/regime/464_bootstrap.ipynb shows. `var` measures the tests of risk.exam in years of 250 sessions, `index` examines
forecasts of the S&P 500 of 1990 to 2022 (skfolio's index: extra portfolio); both go to
bench/results/var_calibration.json, which nbs/risk/630_exam.ipynb shows; `stability` goes to
bench/results/stability_calibration.json, which nbs/risk/680_stability.ipynb shows; `deflated` and `noise_search` go to
bench/results/deflated_calibration.json, which nbs/validation/370_deflate.ipynb shows; `drift` goes to
bench/results/drift_calibration.json, which nbs/monitor/930_drift.ipynb shows; `heston` goes to
bench/results/heston_calibration.json, which nbs/pricing/282_calibrate.ipynb shows; `events` (simulated and the sample's
returns) and `filings` (8-K filings of ../shared) go to bench/results/event_study.json, which
nbs/validation/369_events.ipynb shows; `increment` goes to bench/results/increment_calibration.json, which
nbs/validation/371_increment.ipynb shows; `stocknet`, asked for by name, is scripts/stocknet.py and needs ../shared;
`robust`, by name too, plants campaigns and bursts among made-up posts and, with ../shared, StockNet's tweets, and goes
to bench/results/robust.json, which nbs/altdata/166_robust.ipynb shows; `satellite`, by name too, counts planted cars
under clouds and goes to bench/results/satellite_calibration.json, which nbs/altdata/180_satellite.ipynb shows.
`generators` is scripts/generators.py and goes to bench/results/generators_calibration.json, which
nbs/deep/493_realism.ipynb and its neighbours show.
`seeds` below 2,000 (10,000 for var, 100 for noise_search, 200 for drift, 500 for heston, 500 for increment, 200 for
generators, 20 for robust, 400 for satellite) is for a quick look: it prints the table and leaves the stored results
alone.

A world of regimes gives one statistic and, by the warp-speed bootstrap (Giacomini, Politis and White 2013), one more
from a single market drawn under the null; the critical value of a method is the quantile of all the latter together.
"""

import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import generators
import numpy as np
import pandas as pd
import stocknet
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from scipy.signal import lfilter
from scipy.stats import beta, ks_2samp, norm, ttest_1samp

from quantlab.altdata.events import event_sessions, session_closes
from quantlab.altdata.planted import bot_campaign, genuine_burst, plant, synth_posts
from quantlab.altdata.robust import post_votes, tone_score
from quantlab.altdata.satellite import (
    _contrast,
    _count_moments,
    _posterior,
    _simulated,
    _slots,
    count_cars,
    synth_car_park,
)
from quantlab.altdata.sentiment import check_posts, vader_tone
from quantlab.core.cache import content_hash
from quantlab.core.config import root
from quantlab.core.panel import to_wide
from quantlab.data.bars import adjust
from quantlab.data.calendar import schedule
from quantlab.data.sample import sample_bars, sample_context, sample_sectors
from quantlab.data.synth import synth_market
from quantlab.monitor.drift import drift_reference, drift_test
from quantlab.pricing.calibrate import fit_heston, simulate_quotes
from quantlab.pricing.heston import HestonModel, heston_slopes
from quantlab.regime.bootstrap import draw_garch, fit_garch, fit_two_states, two_state_gain
from quantlab.risk import exam, var
from quantlab.risk.stability import sharpe_difference
from quantlab.validation.deflate import deflate, dsr
from quantlab.validation.events import AbnormalReturns, abnormal_returns, event_tests
from quantlab.validation.increment import Increment, increment
from quantlab.validation.inference import ICRows, ic_test, newey_west, return_moments, sharpe_test
from quantlab.validation.scores import unit_rows

SEEDS, BOOTSTRAP_SEEDS, CHUNK = 2000, 500, 20
DATES, NAMES, MEMORY, HORIZONS = 1000, 50, 0.98, (1, 5, 20)
SHOWN = ["world", "confidence", "test", "horizon", "months", "method", "rate", "se", "n"]
ROWS = 1000  # of a world of regimes: four years of days
SEARCHES = 100  # of 10,000 policies each
LOTS, LOT_NOISE, LOT_CLOUDS = 400, (0.05, 0.07, 0.09), (0.0, 0.2, 0.4, 0.6)  # car parks of each noise and share hidden
LOT_SHAPE = (120, 120)  # pixels of a car park
DRIFT_WORLDS, DRIFT_MONTHS, PLANTED = 200, 36, 100  # worlds, months of each, synthetic markets with a drift
OTHER_TESTS, BEYOND = 20, 40  # worlds in which every test is asked; worlds with more memory than is promised
MONTH, PAST, WIDTH, COLUMNS, MOVED, SHIFT = 21, 1260, 50, 20, 4, 0.5  # sessions; names, features; a fifth moves by this
DEPENDENCE = {  # correlation of names, and of a session with the one before
    "none": (0.0, 0.0), "names 0.3": (0.3, 0.0), "names 0.3, sessions 0.9": (0.3, 0.9),
    "names 0.3, sessions 0.98": (0.3, 0.98),
}  # fmt: skip
CHAINS, EXPIRIES = 500, (0.08, 0.25, 0.5, 1.0, 2.0)  # synthetic option chains; years to their expiries
YEARS, YEAR = 10_000, 250  # worlds of value at risk, and sessions in each
TESTS, SPANS = ("t", "patell", "bmp", "kp"), ((0, 0), (0, 1), (-1, 1), (0, 5))  # of an event study
EVENT_WORLDS = {  # dates of events, names on each, sessions the dates lie in, industries; and what is unlike a normal
    "100 dates x 1 name": (100, 1, 250, 1, ""),
    "1 date x 30 names": (1, 30, 1, 1, ""),
    "1 date x 30 names, 3 industries": (1, 30, 1, 3, ""),
    "10 dates x 10 names": (10, 10, 250, 1, ""),
    "10 dates x 10 names, spans overlap": (10, 10, 12, 1, ""),
    "1 date x 30 names, t(4)": (1, 30, 1, 1, "t"),
    "10 dates x 10 names, t(4)": (10, 10, 250, 1, "t"),
    "1 date x 30 names, all variance doubled": (1, 30, 1, 1, "all"),
    "1 date x 30 names, own variance doubled": (1, 30, 1, 1, "own"),
    "sample, 1 date x 30 names": (1, 30, 1, 0, "sample"),
    "sample, 1 date x 14 names, energy": (1, 14, 1, 0, "energy"),
    "sample, 10 dates x 10 names": (10, 10, 250, 0, "sample"),
}
INCREMENTS = 500  # seeds of the verdicts on a new score
CROWDS, FIRST = 20, 1000  # seeds of crowds with a campaign; the first of them: nothing was tuned on them
CAMPAIGNS = {  # of a thousand posts
    "copies": {}, "copies of 50 texts": {"templates": 50}, "30 % reworded": {"share": 0.3},
    "30 % reworded, 10 templates": {"share": 0.3, "templates": 10},
    "30 % reworded, 50 templates, attack": {"share": 0.3, "templates": 50, "mood": -2},
    "30 % reworded, 20 templates, 1,000 accounts": {"share": 0.3, "templates": 20, "accounts": 1000},
}  # fmt: skip
CAPS = (1, 2, 3, 4, 6)  # of author_votes; 4 was chosen on seeds 0 to 3
TICKERS = {"XOM": "looked at", "BAC": "looked at", "GE": "untouched", "KO": "untouched"}
FILERS = {
    "1001039": "DIS", "100493": "TSN", "1000180": "SNDK", "1001250": "EL", "1048911": "FDX", "1002047": "NTAP",
}  # fmt: skip
LOOKBACK, TRUTH = 126, 0.05  # the momentum world: days of its own past, and the share of the outcome mixed in


def slow_noise(seed: int) -> dict[tuple, float]:
    "Return the p-values of every test of the mean IC on one slow worthless score, by horizon."
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((DATES, NAMES)) * np.sqrt(1 - MEMORY**2)
    shocks[0] = rng.standard_normal(NAMES)
    u = unit_rows(lfilter([1.0], [1.0, -MEMORY], shocks, axis=0), True)
    paths = np.vstack([np.zeros(NAMES), np.cumsum(rng.standard_normal((DATES + max(HORIZONS), NAMES)), axis=0)])
    there, found = np.ones((DATES, NAMES), bool), {}
    for h in HORIZONS:
        rows = ICRows(u, unit_rows(paths[h : h + DATES] - paths[:DATES], True), there)
        daily = (rows.u * rows.v).sum(axis=1)
        ps = {
            "t-test": ttest_1samp(daily, 0).pvalue,
            "t-test, dates apart": ttest_1samp(daily[::h], 0).pvalue,
            "HAC, lag = horizon": short_hac(daily, h),
            "HAC, lag = 2 horizon + 10": ic_test(rows, "hac", horizon=h).p,
            "block permutation": ic_test(rows, "block", seed=seed).p,
            "forward": ic_test(rows, "forward").p,
            "shift": ic_test(rows).p,
        }
        if seed < BOOTSTRAP_SEEDS:
            ps["stationary bootstrap"] = ic_test(rows, "bootstrap", seed=seed).p
        found |= {("slow noise", h, method): p for method, p in ps.items()}
    return found


def short_hac(daily: np.ndarray, lag: int) -> float:
    "Return the p-value of Newey and West with the lag that textbooks give."
    return float(2 * norm.sf(abs(daily.mean()) / newey_west(daily, lag)))


def momentum(seed: int) -> dict[tuple, float]:
    """Return the p-values of the shift test on a score made of past returns, worthless and with a faint truth,
    horizon 20."""
    rng, h, found = np.random.default_rng(10**6 + seed), 20, {}
    paths = np.cumsum(rng.standard_normal((LOOKBACK + DATES + h, NAMES)), axis=0)
    t = np.arange(LOOKBACK, LOOKBACK + DATES)
    past, y = paths[t] - paths[t - LOOKBACK], paths[t + h] - paths[t]
    v, there = unit_rows(y, True), np.ones((DATES, NAMES), bool)
    for world, score in (
        ("momentum, worthless", past),
        ("momentum, with a truth", past / past.std() + TRUTH * y / y.std()),
    ):
        rows = ICRows(unit_rows(score, True), v, there)
        found[world, h, "shift"] = ic_test(rows).p
        found[world, h, "forward"] = ic_test(rows, "forward").p
    return found


def sharpes(seed: int) -> dict[tuple, float]:
    "Return the p-values of the Sharpe tests on returns without a mean."
    rng = np.random.default_rng(2 * 10**6 + seed)
    shocks = rng.standard_normal(DATES + 100)
    worlds = {
        "returns, independent": shocks[100:],
        "returns, fat tails": rng.standard_t(4, DATES),
        "returns, autocorrelated 0.3": lfilter([1.0], [1.0, -0.3], shocks)[100:],
    }
    methods = ("iid", "hac", "bootstrap") if seed < BOOTSTRAP_SEEDS else ("iid", "hac")
    return {
        (world, 1, m): sharpe_test(pd.Series(x / 100), m, seed=seed).p for world, x in worlds.items() for m in methods
    }


def inference(seed: int) -> list[list]:
    "Return [world, horizon, method, seed, p] of every test of validation.inference."
    return [[*key, seed, float(p)] for key, p in (slow_noise(seed) | momentum(seed) | sharpes(seed)).items()]


def garch_world(shocks: np.ndarray, leverage: float = 0.0) -> np.ndarray:
    "Return returns with one regime: a GARCH(1,1) of 1 % a day, with a leverage effect if asked for."
    alpha, beta = 0.08 - leverage / 2, 0.90
    h, path = 1e-4, np.empty(len(shocks))
    for t, shock in enumerate(shocks):
        path[t] = np.sqrt(h) * shock
        h = 1e-4 * 0.02 + (alpha + leverage * (shock < 0)) * path[t] ** 2 + beta * h
    return 4e-4 + path[len(path) - ROWS :]


def switching(rng: np.random.Generator, calm: float, turbulent: float) -> np.ndarray:
    "Return returns with two regimes that stay for 100 and 40 sessions."
    state, draws = np.zeros(ROWS, dtype=int), rng.random(ROWS)
    for t in range(1, ROWS):
        state[t] = state[t - 1] ^ (draws[t] < (0.01, 0.025)[state[t - 1]])
    return rng.normal(np.array([6e-4, -5e-4])[state], np.array([calm, turbulent])[state])


def regimes(seed: int) -> list[list]:
    "Return [world, method, seed, statistic, the same in a market drawn under the null] of the tests of two regimes."
    rng = np.random.default_rng(3 * 10**6 + seed)
    normal, fat, other = rng.standard_normal(ROWS + 500), rng.standard_t(6, ROWS + 500), rng.standard_normal(ROWS + 500)
    worlds = {
        "one regime, GARCH": garch_world(normal),
        "one regime, GARCH with fat tails": garch_world(fat / np.sqrt(1.5)),
        "two regimes, far apart": switching(rng, 0.006, 0.018),
        "two regimes, near": switching(rng, 0.008, 0.012),
        "one regime, GARCH with leverage": garch_world(other, leverage=0.12),
    }
    found = []
    for world, x in worlds.items():
        gain, one = two_state_gain(x, rng)
        null = draw_garch(one, rng)
        ratios = [likelihood_ratio(x), likelihood_ratio(null)]
        plain = [uncentred(x), uncentred(null)]
        found.append([world, "two_state_gain", seed, gain, two_state_gain(null, rng)[0]])
        found.append([world, "not centred", seed, *plain])
        found.append([world, "likelihood ratio", seed, *ratios])
        found.append([world, "BIC", seed, 2 * ratios[0], 5 * np.log(ROWS)])
    return found


def uncentred(x: np.ndarray) -> float:
    "Return the log likelihood of two states less that of GARCH, over its deviation."
    gain = fit_two_states(x).log_density - fit_garch(x).log_density
    return float(gain.mean() / gain.std())


def likelihood_ratio(x: np.ndarray) -> float:
    "Return the log likelihood of two Gaussian states less that of one."
    return float(fit_two_states(x).log_density.sum() + 0.5 * ROWS * (np.log(2 * np.pi * x.var()) + 1))


def year_of_losses(seed: int) -> dict[str, tuple[np.ndarray, float, np.ndarray]]:
    "Return by world the losses of a year, the degrees of freedom of its shocks and the scale that is forecast."
    rng = np.random.default_rng(4 * 10**6 + seed)
    normal, fat = rng.standard_normal(YEAR), rng.standard_t(5, YEAR)
    shocks, h, scale = rng.standard_t(5, YEAR + 250) * np.sqrt(3 / 5), 1.0, np.empty(YEAR + 250)
    for t, shock in enumerate(shocks):
        scale[t] = np.sqrt(h)
        h = 0.02 + (0.1 * shock**2 + 0.88) * h
    scale, shocks, flat = scale[250:] * np.sqrt(3 / 5), shocks[250:] / np.sqrt(3 / 5), np.ones(YEAR)
    return {
        "normal": (normal, 1e6, flat),
        "t, 5": (fat, 5.0, flat),
        "GARCH, t 5": (-scale * shocks, 5.0, scale),
        "GARCH, blind": (-scale * shocks, 5.0, flat * np.sqrt(3 / 5)),
    }


def var_tests(seed: int) -> list[list]:
    "Return [world, confidence, test, method, p] of every test of risk.exam, on one year of each world."
    found = []
    for world, (loss, dof, scale) in year_of_losses(seed).items():
        for confidence in (0.95, 0.975, 0.99):
            tail = var.t_tail(dof, scale=scale, confidence=confidence)
            table = exam.exam_hits(loss > tail.var, confidence, seed=seed)
            for test, row in table.iterrows():
                found.append([world, confidence, test, "Monte Carlo", row["p"]])
                found.append([world, confidence, test, "asymptotic", row["asymptotic"]])
            found.append([world, confidence, "count (Kupiec)", "exact", table["exact"].iloc[0]])
            z2 = exam.acerbi_szekely(loss, *tail, confidence)
            null = exam.z2_null(dof, YEAR, confidence)
            p = exam.tied_p(-z2, -null, np.random.default_rng([seed, 1]))
            found.append([world, confidence, "depth (Acerbi and Szekely)", "Monte Carlo", p])
            noise = np.exp(0.2 * np.random.default_rng([seed, 2]).standard_normal((2, YEAR)))  # two as good as another
            one, two = (exam.fissler_ziegel(loss, tail.var * n, tail.expected_shortfall * n, confidence) for n in noise)
            if "blind" not in world:
                p = exam.sign_test(one - two, 999)
                found.append([world, confidence, "equal score (Fissler and Ziegel)", "Monte Carlo", p])
    return [[*row[:4], float(row[4])] for row in found]


def var_rates(found: list[list]) -> pd.DataFrame:
    "Return the share of years with p <= 5 % by world, confidence, test and method, with its error."
    frame = pd.DataFrame(found, columns=["world", "confidence", "test", "method", "p"]).dropna()
    groups = (frame["p"] <= 0.05).groupby([frame[c] for c in ("world", "confidence", "test", "method")], sort=False)
    table = groups.agg(rejected="sum", n="size").reset_index()
    table["rate"] = table["rejected"] / table["n"]
    return table.assign(se=np.sqrt(table["rate"] * (1 - table["rate"]) / table["n"]))


def index_exam() -> pd.DataFrame:
    "Examine every forecast of the S&P 500, 1990 to 2022, at 99 %."
    from skfolio.datasets import load_sp500_index

    returns, pages = load_sp500_index()["SP500"].pct_change().dropna(), []
    for method in var.VAR_METHODS:
        forecast = var.var_forecast(returns, method, 0.99)
        done = exam.var_exam(returns, forecast, 0.99, draws=1999)
        page = done.table[["statistic", "p", "asymptotic"]].reset_index()
        pages.append(page.assign(forecast=method, sessions=done.sessions, hits=done.hits))
    return pd.concat(pages, ignore_index=True)


def pair_of(rng: np.random.Generator, n: int, tail: float | None = None, garch: bool = False) -> np.ndarray:
    "Return two series of months with one Sharpe ratio, correlated by a half, the second twice as volatile."
    shape = (n + 200, 2)
    shocks = rng.standard_normal(shape) if tail is None else rng.standard_t(tail, shape) / np.sqrt(tail / (tail - 2))
    shocks[:, 1] = 0.5 * shocks[:, 0] + np.sqrt(0.75) * shocks[:, 1]
    if garch:
        h = np.ones(2)
        for t in range(len(shocks)):
            shocks[t] *= np.sqrt(h)
            h = 0.05 + 0.15 * shocks[t] ** 2 + 0.80 * h
    return (0.2 + shocks[-n:]) * np.array([0.04, 0.08])


def stability(seed: int) -> list[list]:
    "Return [world, months, method, seed, p] of the tests of two equal Sharpe ratios."
    rng, found = np.random.default_rng(4 * 10**6 + seed), []
    worlds = {
        "independent, normal": {}, "independent, fat tails (t 6)": {"tail": 6.0}, "GARCH": {"garch": True},
    }  # fmt: skip
    methods = ("jkm", "hac", "waves", "bootstrap") if seed < BOOTSTRAP_SEEDS * 2 else ("jkm", "hac", "waves")
    for n in (120, 377):
        for world, how in worlds.items():
            first, second = map(pd.Series, pair_of(rng, n, **how).T)
            found += [[world, n, m, seed, sharpe_difference(first, second, m, seed=seed).p] for m in methods]
    return found


def tried(rng: np.random.Generator, world: str, n_obs: int, tries: int) -> np.ndarray:
    "Return the returns of strategies without skill, mean 0 and deviation 1."
    if world == "skewed":  # gamma shocks turned round: many small gains, few large losses; skew -1, kurtosis 4.5
        return 2.0 - rng.gamma(4.0, 0.5, (n_obs, tries))
    shocks = rng.standard_normal((n_obs, tries))
    return lfilter([np.sqrt(1 - 0.2**2)], [1, -0.2], shocks, axis=0) if world == "AR(1), 0.2" else shocks


def deflated(seed: int) -> list[list]:
    """Return [world, sessions, tries, skill, form, passes] for the best of many: whether its deflated ratio is above
    95 %, and where one has a true annual ratio, whether that is the one."""
    rng, found = np.random.default_rng(5 * 10**6 + seed), []
    for world in ("normal", "skewed", "AR(1), 0.2"):
        for n_obs, tries in ((250, 10), (250, 100), (1000, 10), (1000, 100), (1000, 1000))[
            : 5 if world == "normal" else 4
        ]:
            x = tried(rng, world, n_obs, tries)
            ratios = x.mean(axis=0) / x.std(axis=0, ddof=1)
            for skill in (0.0, 1.0, 2.0, 3.0):
                x[:, 0] += skill / np.sqrt(252)
                ratios[0] = x[:, 0].mean() / x[:, 0].std(ddof=1)
                best = int(ratios.argmax())
                m, variance = return_moments(x[:, best]), max(float(ratios.var(ddof=1)), 1 / (n_obs - 1))
                x[:, 0] -= skill / np.sqrt(252)
                for form in ("2014", "max", "exact", "none"):
                    told = 1 if form == "none" else tries
                    p = dsr(m.sharpe, m.n_obs, m.skew, m.kurtosis, told, variance, "2014" if form == "none" else form)
                    found.append([world, n_obs, tries, skill, form, bool(p > 0.95 and (skill == 0 or best == 0))])
    return found


def deflated_rates(found: list[list]) -> pd.DataFrame:
    "Return the share of searches whose best passes, by world, size and skill, with its error."
    frame = pd.DataFrame(found, columns=["world", "sessions", "tries", "skill", "method", "passes"])
    table = (
        frame.groupby(["world", "sessions", "tries", "skill", "method"])["passes"].agg(["mean", "size"]).reset_index()
    )
    table = table.rename(columns={"mean": "rate", "size": "n"})
    return table.assign(se=np.sqrt(table["rate"] * (1 - table["rate"]) / table["n"]))


def noise_search(seed: int) -> list[list]:
    """Return [seed, dsr, dsr_max, dsr_exact, effective tries, annual ratio] of the best of 10,000 policies on noise: 3
    to 22 of 60 names, those with the best mean over one of 25 spans, held for 1 to 20 sessions, less the mean of
    all."""
    x = 0.01 * np.random.default_rng(6 * 10**6 + seed).standard_normal((1100, 60))
    total, series = np.vstack([np.zeros(60), x.cumsum(axis=0)]), {}
    active = x - x.mean(axis=1, keepdims=True)
    for lookback in range(4, 104, 4):
        order = np.argsort(-(total[lookback:-1] - total[: -lookback - 1]), axis=1)  # known before the session's return
        for hold in range(1, 21):
            at = np.arange(1000) // hold * hold + 100 - lookback  # the row on which the session's names were chosen
            best = np.take_along_axis(active[100:], order[at], axis=1).cumsum(axis=1)[:, 2:22] / np.arange(3, 23)
            series |= {(lookback, hold, n + 3): best[:, n] for n in range(20)}
    every = pd.DataFrame(series)
    ratios = every.mean() / every.std()
    found = deflate(every[ratios.idxmax()], pd.DataFrame({"sharpe": ratios}), every)
    return [[seed, found.dsr, found.dsr_max, found.dsr_exact, found.n_effective, found.sharpe * 252**0.5]]


def dependent(rng: np.random.Generator, sessions: int, common: float, memory: float) -> pd.DataFrame:
    "Return features that share a factor across names and remember the session before; nothing drifts."
    shocks = [rng.standard_normal((sessions, n, COLUMNS)) for n in (1, WIDTH)]
    for x in shocks:
        x[1:] *= np.sqrt(1 - memory**2)
    factor, own = (lfilter([1.0], [1.0, -memory], x, axis=0) for x in shocks)
    x = np.sqrt(common) * factor + np.sqrt(1 - common) * own
    dates = pd.bdate_range("2010-01-01", periods=sessions, name="date")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(WIDTH)]], names=["date", "symbol"])
    return pd.DataFrame(x.reshape(-1, COLUMNS), index, [f"f{i:02d}" for i in range(COLUMNS)])


def by_custom(year: np.ndarray, month: np.ndarray) -> dict[str, bool]:
    "Say whether the customary alarms ring for one feature, rows taken for draws."
    edges = np.quantile(year, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) + 1e-6 for x in (month, year))
    psi = float(((p - q) * np.log(p / q)).sum())
    ks = bool(ks_2samp(month, year, method="asymp").pvalue < 0.05)
    return {"PSI > 0.1, one feature": psi > 0.1, "KS p < 5 %, one feature": ks}


def drift_world(seed: int) -> list[list]:
    """Return [world, method, seed, months, alarms, planted, found, moved and named, false share of the named] of one
    world for each dependence."""
    rows = []
    for world, (common, memory) in DEPENDENCE.items():
        if memory > 0.9 and seed >= BEYOND:
            continue
        rng = np.random.default_rng([7 * 10**6 + seed, int(100 * common), int(100 * memory)])
        x = dependent(rng, PAST + DRIFT_MONTHS * MONTH, common, memory)
        reference = drift_reference(x.iloc[: PAST * WIDTH])
        year, found = x.iloc[(PAST - 252) * WIDTH : PAST * WIDTH, 0].to_numpy(), {}
        for i in range(DRIFT_MONTHS):
            month = x.iloc[(PAST + i * MONTH) * WIDTH : (PAST + (i + 1) * MONTH) * WIDTH]
            shift = np.zeros(COLUMNS)
            shift[rng.choice(COLUMNS, MOVED, replace=False)] = SHIFT * rng.choice([-1, 1], MOVED)
            hits = {"months, PSI": drift_test(reference, month, distances=("psi",)).alarm}
            hits |= by_custom(year, month.iloc[:, 0].to_numpy())
            if seed < OTHER_TESTS and i % 3 == 0:
                hits["months, PSI, maximum"] = drift_test(reference, month, distances=("psi",), combine="max").alarm
                for name in ("kl", "ks", "wasserstein"):
                    hits[f"months, {name}"] = drift_test(reference, month, distances=(name,)).alarm
            for method, hit in hits.items():
                tally = found.setdefault(method, np.zeros(6))
                tally[:2] += 1, hit
            if i % 6 == 0:
                told = drift_test(reference, month + shift, distances=("psi",))
                true = sum(shift[x.columns.get_loc(c)] != 0 for c in told.named)
                false = (len(told.named) - true) / max(len(told.named), 1)
                found["months, PSI"][2:] += 1, told.alarm, true, false
        rows += [[world, method, seed, *map(float, tally)] for method, tally in found.items()]
    return rows


def possible(common: float, memory: float) -> float:
    """Return the power at 5 % of the likelihood ratio that knows the null exactly, and that MOVED of COLUMNS features
    move by SHIFT up or down, from the sessions of one month."""
    variance = common + (1 - common) / WIDTH
    weight = (MONTH * (1 - memory) + 2 * memory) / (1 + memory) / variance  # of a month's mean, best weighted
    rng, size = np.random.default_rng(8 * 10**6), SHIFT * np.sqrt(weight)

    def ratio(z: np.ndarray) -> np.ndarray:
        total = np.zeros((MOVED + 1, len(z)))
        total[0] = 1.0
        for column in np.cosh(np.clip(size * z, -100.0, 100.0)).T:  # sums over all choices of MOVED features
            total[1:] = total[1:] + total[:-1] * column
        return total[MOVED]

    null, z = rng.standard_normal((2, 100_000, COLUMNS))
    z[:, :MOVED] += size * rng.choice([-1, 1], (len(z), MOVED))
    return float((ratio(z) > np.quantile(ratio(null), 0.95)).mean())


def drift_rates(found: list[list]) -> pd.DataFrame:
    "Return size and power by world and method; months of one world share a reference, so errors are over worlds."
    columns = ["world", "method", "seed", "months", "alarms", "planted", "found", "true", "false"]
    frame, rows = pd.DataFrame(found, columns=columns), []
    for (world, method), part in frame.groupby(["world", "method"], sort=False):
        size, n = part["alarms"] / part["months"], len(part)
        row = {"world": world, "method": method, "worlds": n, "months": int(part["months"].sum())}
        row |= {"size": size.mean(), "size_se": size.std() / np.sqrt(n)}
        if part["planted"].sum():
            power, hits = part["found"] / part["planted"], part["found"].sum()
            row |= {"power": power.mean(), "power_se": power.std() / np.sqrt(n)}
            row["possible"] = possible(*DEPENDENCE[world])
            row |= {"named": part["true"].sum() / (MOVED * hits), "false_names": part["false"].sum() / hits}
            row["fdr"] = part["false"].sum() / part["planted"].sum()
        rows.append(row)
    return pd.DataFrame(rows)


def planted_drift(seed: int) -> list[list]:
    "Return [seed, alarm, the moved feature is named, others named, alarm without a drift] of a synthetic market."
    rows = []
    for drift in ({"noise_2": SHIFT}, {}):
        x = synth_market(n_dates=PAST + MONTH, seed=9 * 10**6 + seed, drift=drift, drift_from=PAST).features
        dates = x.index.unique("date")
        rows.append(drift_test(drift_reference(x.loc[: dates[PAST - 1]]), x.loc[dates[PAST] :], distances=("psi",)))
    named = rows[0].named
    return [[seed, rows[0].alarm, "noise_2" in named, len(set(named) - {"noise_2"}), rows[1].alarm]]


def heston_chain(seed: int) -> list[list]:
    "Return [parameter, seed, inside the profile's interval, inside the Jacobian's, chi-square] of one drawn chain."
    rng = np.random.default_rng(10**7 + seed)
    variances, speed = rng.uniform(0.02, 0.09, 2), rng.uniform(1.0, 5.0)
    truth = HestonModel(*variances, speed, rng.uniform(0.3, 1.0), rng.uniform(-0.85, -0.3))
    fit = fit_heston(simulate_quotes(truth, EXPIRIES, seed=11 * 10**6 + seed))
    table = fit.table.assign(truth=truth.numbers[:5])
    near = ((table["truth"] - table["value"]).abs() <= 1.96 * table["error"]).tolist()
    inside = ((table["low"] <= table["truth"]) & (table["truth"] <= table["high"])).tolist()
    rows = zip(table.index, inside, near, strict=True)
    return [[name, seed, bool(held), bool(close), fit.chi2 / fit.dof] for name, held, close in rows]


def heston_rates(found: list[list]) -> pd.DataFrame:
    "Return by parameter the share of chains whose 95 % interval holds the truth, with its error."
    frame = pd.DataFrame(found, columns=["parameter", "seed", "profile", "jacobian", "chi2"])
    table = frame.groupby("parameter", sort=False)[["profile", "jacobian", "chi2"]].mean().reset_index()
    n = frame["seed"].nunique()
    return table.assign(n=n, se=np.sqrt(table["profile"] * (1 - table["profile"]) / n))


def car_parks(seed: int) -> list[list]:
    "Return [noise, clouds, seed, planted, counted, doubt] of a made car park for each noise and share of clouds."
    rows = []
    for noise in LOT_NOISE:
        for share in LOT_CLOUDS:
            rng = np.random.default_rng([7, round(100 * noise), round(10 * share), seed])
            planted = int(rng.integers(0, len(_slots(LOT_SHAPE)) + 1))  # from empty to full
            lot = synth_car_park(planted, LOT_SHAPE, noise, share, int(rng.integers(1 << 31)))
            rows.append([noise, share, seed, planted, *count_cars(lot)[:2]])
    return rows


def car_park_rates(found: list[list]) -> pd.DataFrame:
    "Return by noise and clouds the share of lots whose 95 % interval holds the planted count, its width and the error."
    frame = pd.DataFrame(found, columns=["noise", "clouds", "seed", "planted", "counted", "doubt"])
    error = (frame["counted"] - frame["planted"]).abs()
    frame = frame.assign(held=(error <= 1.96 * frame["doubt"]).astype(float), off=error, width=3.92 * frame["doubt"])
    table = frame.groupby(["noise", "clouds"])[["held", "width", "off"]].mean().reset_index()
    n = frame["seed"].nunique()
    return table.assign(n=n, se=np.sqrt(table["held"] * (1 - table["held"]) / n))


def industry_returns(rng: np.random.Generator, sessions: int, names: int, industries: int, odd: str) -> list:
    "Return market, industry part and own part of returns (sessions x names) whose industries no market model removes."
    draw = lambda *shape: rng.standard_t(4, shape) / np.sqrt(2) if odd == "t" else rng.standard_normal(shape)
    market = 0.0003 + 0.01 * draw(sessions)
    shared = 0.008 * draw(sessions, industries)[:, np.arange(names) % industries] * rng.uniform(0.5, 1.5, names)
    own = 0.015 * draw(sessions, names) * rng.uniform(0.6, 1.4, names)
    return [market, np.outer(market, rng.uniform(0.5, 1.5, names)), shared, own]


@cache
def sample_returns() -> tuple[pd.DataFrame, pd.Series, list[str]]:
    "Return daily returns of the committed sample, of SPY, and the names of energy."
    wide = to_wide(adjust(sample_bars(), "total")["close"]).pct_change(fill_method=None)
    spy = sample_context("SPY")["close"].droplevel("symbol").pct_change().reindex(wide.index)
    sectors = sample_sectors()
    energy = set(sectors.loc[sectors["valid"] & (sectors["sector"] == "Energy"), "symbol"]) & set(wide.columns)
    return wide, spy, sorted(energy)


def event_world(rng: np.random.Generator, world: str) -> AbnormalReturns:
    "Measure events at which nothing happens."
    dates, each, width, industries, odd = EVENT_WORLDS[world]
    if industries:
        days, names = 265 + width, dates * each
        market, *parts = industry_returns(rng, days, names, industries, odd)
        rows = np.sort(rng.choice(width, dates, replace=False)) + 255
        if odd in ("all", "own"):
            parts[2][rows[0] - 1 :] *= np.sqrt(2)
            parts[1][rows[0] - 1 :] *= np.sqrt(2) if odd == "all" else 1
        index = pd.bdate_range("2020-01-01", periods=days, unit="us")
        returns, market = pd.DataFrame(sum(parts), index), pd.Series(market, index)
        chosen = np.arange(names)
    else:
        returns, market, energy = sample_returns()
        rows = np.sort(rng.choice(width, dates, replace=False)) + rng.integers(255, len(returns) - width - 6)
        whole = returns.iloc[rows[0] - 100 : rows[-1] + 6].notna().all()
        some = whole.index[whole & (returns.columns.isin(energy) if odd == "energy" else True)]
        chosen = rng.choice(some, min(dates * each, len(some)), replace=False)
        returns = returns.iloc[rows[0] - 255 : rows[-1] + 7]
        rows = rows - rows[0] + 255
    at = np.repeat(rows, each)[: len(chosen)]
    events = pd.DataFrame({"date": returns.index[at], "symbol": chosen})
    return abnormal_returns(returns, market, events)


def events(seed: int) -> list[list]:
    "Return [world, span, seed, p of every test, p of Kolari and Pynnonen with a planted percent, correlation]."
    found = []
    for world in EVENT_WORLDS:
        rng = np.random.default_rng([12 * 10**6 + seed, len(found)])
        nothing = event_world(rng, world)
        planted = replace(nothing, abnormal=nothing.abnormal + 0.01 * (nothing.sessions == 0))
        tables = (event_tests(measured, SPANS).table.to_dict("index") for measured in (nothing, planted))
        for (span, row), other in zip(*(table.items() for table in tables), strict=True):
            ps = [round(row[f"p_{test}"], 6) for test in TESTS]
            found.append([world, span, seed, *ps, round(other[1]["p_kp"], 6), round(row["correlation"], 6)])
    return found


def event_rates(found: list[list]) -> pd.DataFrame:
    "Return the share of worlds with p <= 5 % by world, span and test, with its error, and the power at one percent."
    names = [f"p_{test}" for test in TESTS]
    frame = pd.DataFrame(found, columns=["world", "span", "seed", *names, "planted", "correlation"])
    rows = []
    for (world, span), part in frame.groupby(["world", "span"], sort=False):
        told = {"world": world, "span": span, "n": len(part), "correlation": part["correlation"].mean()}
        for test, name in zip(TESTS, names, strict=True):
            rate = (part[name] <= 0.05).mean()
            told |= {test: rate, f"{test}_se": np.sqrt(rate * (1 - rate) / len(part))}
        rows.append(told | {"power": (part["planted"] <= 0.05).mean()})
    return pd.DataFrame(rows)


def filings_8k(shared: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Return the 8-K filings of firms with prices (symbol, filed, one column per item), and returns with their market."
    with zipfile.ZipFile(shared / "data" / "text" / "edgar_8k_extracted.zip") as archive:
        texts = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    rows = [
        {"symbol": FILERS[t["cik"]], "filed": t["filing_date"]}
        | {name[5:]: bool((text or "").strip()) for name, text in t.items() if name.startswith("item_")}
        for t in texts
        if t["cik"] in FILERS
    ]
    bars = pd.read_parquet(
        shared / "data" / "us" / "us_sp500_daily_2000_2023.parquet",
        columns=["date", "symbol", "close", "adj", "in_sp500"],
    )
    bars["close"] = bars["close"].astype("float64") * bars["adj"]
    close = bars.pivot(index="date", columns="symbol", values="close")
    member = bars.pivot(index="date", columns="symbol", values="in_sp500").fillna(False).astype(bool)
    returns = close.pct_change(fill_method=None)
    returns = returns.where(returns.abs() < 1)  # two spikes of the source
    market = returns.where(member).mean(axis=1)
    return pd.DataFrame(rows).assign(filed=lambda f: pd.to_datetime(f["filed"])), returns[
        sorted(FILERS.values())
    ].assign(market=market)


def filing_study(shared: Path) -> dict[str, list[dict]]:
    "Study the filings by item; the event is the first session after the filing date, as the hour is unknown."
    filed, returns = filings_8k(shared)
    at = returns.index.searchsorted(filed["filed"], side="right")
    filed = filed.assign(date=returns.index.append(pd.DatetimeIndex([pd.NaT]))[np.minimum(at, len(returns))])
    market, tables, paths = returns.pop("market"), [], []
    groups = {
        "all": filed, "2.02 results": filed[filed["2.02"]], "5.02 officers": filed[filed["5.02"]],
        "8.01 other events": filed[filed["8.01"]], "1.01 agreements": filed[filed["1.01"]],
        "5.07 votes": filed[filed["5.07"]],
    }  # fmt: skip
    for group, part in groups.items():
        measured = abnormal_returns(returns, market, part[["date", "symbol"]])
        study = event_tests(measured, SPANS)
        lost = study.dropped["reason"].str.extract(r"^(\D+)")[0].str.strip(" :").value_counts().to_dict()
        told = {"group": group, "filings": len(part), "dropped": lost, "dates": int(study.used["date"].nunique())}
        tables += [told | {"span": span} | row.to_dict() for span, row in study.table.iterrows()]
        paths += [{"group": group, "session": int(s)} | row.to_dict() for s, row in study.path.iterrows()]
    return {"filings": tables, "paths": paths}


def keep_events(part: dict) -> None:
    "Store one part of the event study's figures beside the other."
    file = root() / "bench" / "results" / "event_study.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    rounded = json.loads(json.dumps(part), parse_float=lambda text: round(float(text), 6))
    write(file, dict(sorted((before | rounded).items())))


def said_by_prices(rng: np.random.Generator, dates: int, names: int) -> tuple[pd.DataFrame, pd.Series, np.ndarray]:
    "Return one base score (column base) that knows a little, with 5-session outcomes (y, t1), and the outcomes' shape."
    memory = lambda a: lfilter([np.sqrt(1 - a**2)], [1.0, -a], rng.standard_normal((dates + 105, names)), axis=0)[100:]
    base, shared = memory(0.9), rng.standard_normal((dates + 5, 3))[:, np.arange(names) % 3]
    daily = 0.01 * (0.06 * base + 0.4 * shared + rng.standard_normal((dates + 5, names)))
    ahead = daily.cumsum(axis=0)
    y = ahead[5:] - ahead[:-5]
    days = pd.bdate_range("2015-01-01", periods=dates + 5, unit="us", name="date")
    index = pd.MultiIndex.from_product([days[:-5], [f"N{i:02}" for i in range(names)]], names=["date", "symbol"])
    frame = pd.DataFrame({"base": base[:-5].ravel(), "y": y.ravel(), "t1": np.repeat(days[5:], names)}, index=index)
    return frame, y / y.std(), memory(0.95)[:-5]


def increments(seed: int) -> list[list]:
    "Return [world, seed, verdict, p of the deals, p for many, p of the residual, p of the gain, gain, least seen]."
    rng, found = np.random.default_rng(13 * 10**6 + seed), []
    frame, truth, own = said_by_prices(rng, 400, 20)
    few, few_truth, few_own = said_by_prices(rng, 400, 3)

    def judge(world: str, values: np.ndarray, told: pd.DataFrame = frame, **settings: object) -> Increment:
        score = pd.Series(values.ravel(), told.index)
        done = increment(score, told["base"], told["y"], told["t1"], past=120, seed=seed, **{"draws": 199} | settings)
        ps = (done.p_permutation, done.p_deflated, done.residual.p, done.gain.p, done.gain.mean, done.least_seen)
        found.append([world, seed, done.verdict, *(round(float(p), 6) for p in ps)])
        return done

    echo = frame["base"].to_numpy().reshape(400, 20) + own
    judge("memory 0.95", own)
    judge("echo of the base", echo)
    judge("echo, 70 % silent", np.where(rng.random(own.shape) < 0.7, np.nan, echo))
    judge("echo with a truth of 0.05", echo + 0.075 * truth)
    tries = [lfilter([1.0], [1.0, -0.9], rng.standard_normal(own.shape), axis=0) for _ in range(10)]
    means = [abs(judge("tries", values, draws=19).residual.mean) for values in tries]
    del found[-10:]
    judge("best of 10, told of 10", tries[int(np.argmax(means))], n_trials=10, draws=399)
    judge("best of 10, told of 1", tries[int(np.argmax(means))])
    judge("3 names, echo", few["base"].to_numpy().reshape(400, 3) + few_own, few, within="symbol")
    judge("3 names, truth of 0.2", few_own + 0.2 * few_truth, few, within="symbol")
    return found


def increment_rates(found: list[list]) -> pd.DataFrame:
    "Return by world how often the verdict is yes, with its error, and how often each p is at most 5 %."
    names = ["p_permutation", "p_deflated", "p_residual", "p_gain"]
    frame = pd.DataFrame(found, columns=["world", "seed", "verdict", *names, "gain", "least_seen"])
    rows = []
    for world, part in frame.groupby("world", sort=False):
        rate = (part["verdict"] == "yes").mean()
        told = {"world": world, "n": len(part), "yes": rate, "yes_se": np.sqrt(rate * (1 - rate) / len(part))}
        told |= {n: (part[n] <= 0.05).mean() for n in names[:3]}
        rows.append(told | {"least_seen": part["least_seen"].mean()})
    return pd.DataFrame(rows)


def tones_of(texts: pd.Series, known: dict) -> pd.Series:
    "Read each text once."
    new = pd.Series([text for text in texts.unique() if text not in known], dtype="str")
    known.update(zip(new, vader_tone(new), strict=True))
    return texts.map(known).astype("float64")


def planted_moves(crowd: str, posts: pd.DataFrame, closes: pd.Series, days: dict) -> list[list]:
    "Plant campaigns and bursts on a day for each seed; return what they move, in deviations of the clean score."
    known, symbol, found = {}, posts["symbol"].iloc[0], []

    def votes(posts: pd.DataFrame) -> pd.DataFrame:
        made = post_votes(posts, closes)
        return made.assign(tone=tones_of(made["text"], known))

    def score(votes: pd.DataFrame) -> pd.Series:
        return tone_score(votes, closes)["tone"].droplevel("symbol")

    def plain(posts: pd.DataFrame) -> pd.Series:
        return tones_of(posts["text"], known).groupby(event_sessions(posts["known_at"], closes)).mean()

    alone, simple = votes(posts), plain(posts)
    clean = score(alone)
    for seed, day in days.items():
        for kind, options in CAMPAIGNS.items():
            planted = votes(plant(posts, bot_campaign(closes, day, symbol, seed=seed, **options)))
            moved = (score(planted) - clean) / clean.std()
            found.append([crowd, kind, seed, abs(moved[day]), moved.drop(day).abs().max(), *[np.nan] * 3])
        told, moves, base = {}, {}, simple.get(day, 0.0)
        for mood in (2.0, -2.0):
            burst = genuine_burst(closes, day, symbol, mood=mood, seed=seed)
            both = plant(posts, burst)
            made = votes(both)
            own = made[made["text"].isin(burst["text"]) & (made["session"] == day)]
            honest = pd.concat([alone, own.assign(vote=own["age_vote"] * own["reach_vote"])])
            told[mood], moves[mood] = (score(made) - clean)[day], plain(both)[day] - base
            heard = abs(moves[mood]) > simple.std() / 2  # the crowd is not of the burst's mood already
            share = told[mood] / moves[mood] if heard else np.nan
            kept = told[mood] / (score(honest) - clean)[day]
            found.append([crowd, "burst", seed, np.nan, np.nan, kept, share, np.nan])
        span = (told[2.0] - told[-2.0]) / (moves[2.0] - moves[-2.0])
        found.append([crowd, "burst for and against", seed, *[np.nan] * 4, span])
    return found


def clean_changes(crowd: str, posts: pd.DataFrame, closes: pd.Series, loud: object) -> list[list]:
    "Return by cap [crowd, cap, changes of the score by its defences, what one loud author moves on his session]."
    known, found, symbol = {}, [], posts["symbol"].iloc[0]

    def score(votes: pd.DataFrame) -> pd.Series:
        return tone_score(votes.assign(tone=tones_of(votes["text"], known)), closes)["tone"].droplevel("symbol")

    alone = post_votes(posts, closes)
    bare = score(alone.assign(vote=alone["age_vote"] * alone["reach_vote"]))
    shouting = plant(posts, genuine_burst(closes, loud, symbol, n=1000, seed=7).assign(author="loud"))
    for cap in CAPS:
        clean = score(post_votes(posts, closes, cap=cap))
        shouted = score(post_votes(shouting, closes, cap=cap))
        found.append([crowd, cap, ((bare - clean) / clean.std()).abs(), abs(shouted[loud] - clean[loud]) / clean.std()])
    return found


def clean_rates(found: list[list]) -> list[dict]:
    "Return by crowd and cap the median and 95th percentile of the changes, and the largest 95th percentile of a seed."
    rows, names = [], ["crowd", "cap", "changes", "loud"]
    for (crowd, cap), part in pd.DataFrame(found, columns=names).groupby(names[:2], sort=False):
        days, worst = np.concatenate([*part["changes"]]), max(np.quantile(x, 0.95) for x in part["changes"])
        told = {"crowd": crowd, "cap": cap, "median": np.median(days), "q95": np.quantile(days, 0.95), "worst": worst}
        rows.append(told | {"loud": part["loud"].mean()})
    return rows


def robust_moves(seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Measure the robust score among made-up posts, with and without names, and recorded tweets: moves, clean days."
    sessions = sample_bars("AAPL", "2023-02-01", "2023-04-28").index.unique("date")
    closes, found, quiet = session_closes(sessions), [], []
    for seed in range(FIRST, FIRST + seeds):
        posts, day = synth_posts(closes, ["A"], per_session=20, seed=seed).posts, {seed: sessions[25 + seed % 30]}
        found += planted_moves("made up", posts, closes, day)
        quiet += clean_changes("made up", posts, closes, *day.values())
        nameless = posts.assign(author=np.nan, reach=np.nan)
        found += planted_moves("made up, without names", nameless, closes, day)
    file = stocknet.folder() / "stocknet_tweets_2014_2015.parquet"
    closes = schedule("XNYS", pd.Timestamp("2013-12-30"), pd.Timestamp("2016-01-05"))["close"].rename("XNYS")
    for symbol, known in TICKERS.items() if file.is_file() else ():
        raw = pd.read_parquet(file).query("symbol == @symbol")
        at = raw["created_at"].dt.as_unit("us")
        posts = pd.DataFrame({"event_time": at, "known_at": at, "symbol": symbol, "source": "stocknet", "kind": "post"})
        posts = posts.assign(revision=0, author=None, reach=np.nan, text=raw["text"])
        posts = check_posts(posts.assign(id=[f"t{n}" for n in range(len(posts))]))
        some = range(FIRST, FIRST + seeds // 10)
        days = {seed: closes.index[np.random.default_rng(seed).integers(60, len(closes) - 20)] for seed in some}
        found += planted_moves(f"tweets, {symbol} ({known})", posts, closes, days)
    table = pd.DataFrame(found, columns=["crowd", "kind", "seed", "day", "other", "kept", "share", "span"])
    by = table.assign(below=table["share"] < 0.8).groupby(["crowd", "kind"], sort=False)
    day, other, share = by["day"], by["other"], by["share"]
    told = {"n": by.size(), "mean": day.mean(), "q95": day.quantile(0.95), "max": day.max(), "other_max": other.max()}
    told |= {"kept": by["kept"].min(), "share_mean": share.mean(), "share_min": share.min()}
    told |= {"share_n": share.count(), "share_below": by["below"].sum(), "span_min": by["span"].min()}
    return pd.DataFrame(told).reset_index(), pd.DataFrame(clean_rates(quiet))


def chunk(first: int, last: int, folder: Path, world: Callable[[int], list[list]]) -> list[list]:
    "Return the rows of a range of seeds; computed once, then read from their file."
    file = folder / f"{first:05d}-{last:05d}.json"
    if not file.exists():
        write(file, [row for seed in range(first, last) for row in world(seed)])
    return json.loads(file.read_text())


def write(file: Path, content: object) -> None:
    "Write JSON to a temporary name and rename it: an interrupt leaves the old file whole."
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(file)


def rates(found: list[list]) -> pd.DataFrame:
    "Return the share of p <= 5 % by world, horizon and method with its error and 95 % interval (Clopper and Pearson)."
    frame = pd.DataFrame(found, columns=["world", "horizon", "method", "seed", "p"])
    table = (
        (frame["p"] <= 0.05)
        .groupby([frame["world"], frame["horizon"], frame["method"]])
        .agg(rejected="sum", n="size")
        .reset_index()
    )
    k, n = table["rejected"], table["n"]
    table["rate"], table["se"] = k / n, np.sqrt(k / n * (1 - k / n) / n)
    table["low"], table["high"] = beta.ppf(0.025, k, n - k + 1), beta.ppf(0.975, k + 1, n - k)
    return table.fillna({"low": 0.0, "high": 1.0})


def regime_rates(found: list[list]) -> pd.DataFrame:
    "Return the share of worlds whose statistic is beyond the 5 % point of all the null's, by world and method."
    frame = pd.DataFrame(found, columns=["world", "method", "seed", "statistic", "null"])
    rows = []
    for (world, method), part in frame.groupby(["world", "method"], sort=False):
        beyond = part["statistic"] > part["null"].quantile(0.95)
        rate, n, sides = beyond.mean(), len(part), 1 if method == "BIC" else 2  # a drawn critical value errs as well
        rows.append([world, method, int(beyond.sum()), n, rate, np.sqrt(sides * rate * (1 - rate) / n)])
    return pd.DataFrame(rows, columns=["world", "method", "rejected", "n", "rate", "se"])


def run(world: Callable[[int], list[list]], code: list, seeds: int, console: Console, size: int = CHUNK) -> list[list]:
    "Run what is not done yet, with a bar."
    folder = root() / ".cache" / "calibrate" / content_hash(code)[:12]
    edges, found = [*range(0, seeds, size), seeds], []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"worlds of {world.__name__}", total=seeds)
        for first, last in pairwise(edges):
            found += chunk(first, last, folder, world)
            progress.update(task, advance=last - first)
    return found


def show(table: pd.DataFrame, console: Console) -> None:
    "Print a table of rates."
    shown = Table(*table.columns.intersection(SHOWN), title="Share of worlds with p <= 5 %")
    for _, row in table[table.columns.intersection(SHOWN)].iterrows():
        shown.add_row(*(f"{v:.2%}" if isinstance(v, float) else str(v) for v in row))
    console.print(shown)


def store(file: str, about: dict, table: pd.DataFrame) -> None:
    "Store the rates that a notebook shows."
    rates = json.loads(table.round(6).to_json(orient="records"))
    write(root() / "bench" / "results" / file, {"about": about, "rates": rates})


def keep(part: str, table: pd.DataFrame) -> None:
    "Store one part of the figures of value at risk beside the other."
    file = root() / "bench" / "results" / "var_calibration.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    told = {part: json.loads(table.round(6).to_json(orient="records")), "about": {"years": YEARS, "sessions": YEAR}}
    write(file, dict(sorted((before | told).items())))


def keep_deflated(part: str, content: object) -> None:
    "Store one part of the figures of deflated ratios beside the other."
    file = root() / "bench" / "results" / "deflated_calibration.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    write(file, dict(sorted((before | {part: content}).items())))


def measure_drift(worlds: int, console: Console) -> None:
    "Measure the monthly test of drift, and show it; store it where all worlds were asked for."
    seeds = run(planted_drift, [planted_drift, SHIFT, PAST, MONTH], min(worlds, PLANTED), console, 10)
    names = ["seed", "found", "named", "others_named", "false_alarm"]
    planted = pd.DataFrame(seeds, columns=names).astype(float).sum().drop("seed").astype(int).to_dict()
    code = [drift_world, DEPENDENCE, DRIFT_MONTHS, OTHER_TESTS, BEYOND, WIDTH, COLUMNS, MOVED]
    table = drift_rates(run(drift_world, code, worlds, console, 2))
    if worlds == DRIFT_WORLDS:
        about = {"worlds": DRIFT_WORLDS, "months": DRIFT_MONTHS, "seeds": PLANTED}
        rates = json.loads(table.round(6).to_json(orient="records"))
        file = root() / "bench" / "results" / "drift_calibration.json"
        write(file, {"about": about, "planted": planted, "rates": rates})
    console.print(table.round(4).to_string(), f"planted in {min(worlds, PLANTED)} seeds: {planted}", sep="\n")


def main(*words: str) -> None:
    "Measure what was asked for, or everything; then store and show the rates."
    asked = next((int(w) for w in words if w.isdigit()), None)
    seeds, everything = (
        asked or SEEDS,
        ["inference", "deflated", "noise_search", "regimes", "var", "index", "stability", "drift", "heston", "events",
         "filings", "increment", "generators"],
    )
    chosen = [w for w in words if not w.isdigit()] or everything
    if set(chosen) - {*everything, "stocknet", "robust", "satellite"}:
        sys.exit(f"calibrate what? {' '.join(chosen)}; there is {', '.join(everything)}, stocknet, robust, satellite")
    console = Console()
    if "stocknet" in chosen:
        stocknet.measure(console)
    if "robust" in chosen:
        table, quiet = robust_moves(asked or CROWDS)
        if (asked or CROWDS) == CROWDS:
            rates_of, clean = (json.loads(part.round(6).to_json(orient="records")) for part in (table, quiet))
            content = {"about": {"seeds": CROWDS, "first": FIRST}, "rates": rates_of, "clean": clean}
            write(root() / "bench" / "results" / "robust.json", content)
        console.print(table.round(3).to_string(), quiet.round(3).to_string(), sep="\n")
    if "satellite" in chosen:
        code = [car_parks, LOT_NOISE, LOT_CLOUDS, LOT_SHAPE, synth_car_park, count_cars, _contrast, _posterior]
        code += [getattr(made, "__wrapped__", made) for made in (_simulated, _count_moments)]
        table = car_park_rates(run(car_parks, code, asked or LOTS, console))
        if (asked or LOTS) == LOTS:
            store("satellite_calibration.json", {"lots": LOTS, "slots": len(_slots(LOT_SHAPE))}, table)
        console.print(table.round(3).to_string())
    if "inference" in chosen:
        table = rates(run(inference, [slow_noise, momentum, sharpes], seeds, console))
        about = {
            "seeds": SEEDS, "bootstrap_seeds": BOOTSTRAP_SEEDS, "dates": DATES, "names": NAMES, "memory": MEMORY,
            "lookback": LOOKBACK, "truth": TRUTH,
        }  # fmt: skip
        if seeds == SEEDS:
            store("calibration.json", about, table)
        show(table, console)
    if "deflated" in chosen:
        table = deflated_rates(run(deflated, [deflated, tried, dsr], seeds, console))
        if seeds == SEEDS:
            keep_deflated("rates", json.loads(table.round(6).to_json(orient="records")))
        console.print(table.round(4).to_string())
    if "noise_search" in chosen:
        rows = run(noise_search, [noise_search, deflate], asked or SEARCHES, console, 2)
        table = pd.DataFrame(rows, columns=["seed", "dsr", "dsr_max", "dsr_exact", "effective", "annual"])
        if (asked or SEARCHES) == SEARCHES:
            keep_deflated("noise_search", json.loads(table.round(6).to_json(orient="records")))
        above = (table[["dsr", "dsr_max", "dsr_exact"]] > 0.95).sum()
        console.print(table.describe().round(3).to_string(), f"above 0.95: {above.to_dict()} of {len(table)}", sep="\n")
    if "regimes" in chosen:
        table = regime_rates(run(regimes, [regimes], seeds, console))
        if seeds == SEEDS:
            store("regime_calibration.json", {"seeds": SEEDS, "rows": ROWS}, table)
        show(table, console)
    if "var" in chosen:
        table = var_rates(run(var_tests, [year_of_losses, var_tests], asked or YEARS, console, 250))
        if (asked or YEARS) == YEARS:
            keep("rates", table)
        show(table, console)
    if "index" in chosen:
        table = index_exam()
        keep("index", table)
        console.print(table.round(4).to_string())
    if "stability" in chosen:
        table = rates(run(stability, [stability, pair_of, sharpe_difference], seeds, console))
        table = table.rename(columns={"horizon": "months"})
        if seeds == SEEDS:
            store("stability_calibration.json", {"seeds": SEEDS, "bootstrap_seeds": 2 * BOOTSTRAP_SEEDS}, table)
        show(table, console)
    if "drift" in chosen:
        measure_drift(asked or DRIFT_WORLDS, console)
    if "heston" in chosen:
        code = [heston_chain, EXPIRIES, fit_heston, simulate_quotes, heston_slopes]
        table = heston_rates(run(heston_chain, code, asked or CHAINS, console, 10))
        if (asked or CHAINS) == CHAINS:
            store("heston_calibration.json", {"chains": CHAINS, "expiries": EXPIRIES}, table)
        console.print(table.round(4).to_string())
    if "events" in chosen:
        code = [events, event_world, industry_returns, EVENT_WORLDS, SPANS, abnormal_returns, event_tests]
        table = event_rates(run(events, code, seeds, console))
        if seeds == SEEDS:
            keep_events({"about": {"seeds": SEEDS}, "rates": table.to_dict("records")})
        console.print(table[["world", "span", *TESTS, "power", "correlation"]].round(4).to_string())
    if "filings" in chosen:
        shared = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))
        if not (shared / "data" / "text" / "edgar_8k_extracted.zip").exists():
            sys.exit(f"filings need {shared}/data/text/edgar_8k_extracted.zip; point QUANTLAB_SHARED at shared")
        study = filing_study(shared)
        keep_events(study)
        console.print(pd.DataFrame(study["filings"]).round(4).to_string())
    if "generators" in chosen:
        code = [generators.generators, generators.market, generators.copier, generators.DAYS]
        rows = run(generators.generators, code, asked or generators.WORLDS, console, 5)
        table = generators.generator_rates(rows)
        if (asked or generators.WORLDS) == generators.WORLDS:
            about = {"worlds": generators.WORLDS, "days": generators.DAYS, "paths": generators.PATHS}
            store("generators_calibration.json", about, table)
        console.print(table.round(4).to_string())
    if "increment" in chosen:
        code = [increments, said_by_prices, increment]
        table = increment_rates(run(increments, code, asked or INCREMENTS, console))
        if (asked or INCREMENTS) == INCREMENTS:
            store("increment_calibration.json", {"seeds": INCREMENTS}, table)
        console.print(table.round(4).to_string())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("interrupted; the finished seeds are kept, run it again to go on")
