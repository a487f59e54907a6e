"""Ask how often the judges of made markets are wrong, and whether fitted parameters come back.

Usage: python scripts/calibrate.py generators [worlds]

A world is four symbols whose common factor and whose own parts are each a GARCH(1,1) of 1 % a day. Two draws of it are
an honest maker beside its market: every judge of quantlab.deep.stylised and quantlab.deep.realism must stay silent. A
maker without spells, and makers that copy, must be found. Parameters: a GARCH(1,1) from 2,500 returns, Heston's numbers
from twenty years of a path whose variance is seen. `kind` in the results: alarm (share of worlds in which a judge
speaks where there is nothing, nominal 5 %), found (share in which it speaks where there is something), held (share of
95 % intervals that hold the truth). What facts have in truth is their mean over all worlds.
"""

import numpy as np
import pandas as pd

from quantlab.deep.generate import fit_garch_margins, fit_seen_variance, garch_returns
from quantlab.deep.realism import classifier_test, forecast_gap, memorisation
from quantlab.deep.stylised import compare_facts
from quantlab.pricing.exotics import heston_paths
from quantlab.pricing.heston import HestonModel

WORLDS, DAYS, PATHS = 200, 2500, 2
GARCH = pd.DataFrame({"mu": [0.0005], "omega": [2e-6], "alpha": [0.08], "beta": [0.90]}, ["A"])
HESTON = HestonModel(0.04, 0.04, 5.0, 0.4, -0.6)


def market(n: int, seed: list[int], alpha: float = 0.08, beta: float = 0.90) -> pd.DataFrame:
    "Draw four symbols of a common factor and own parts, each a GARCH."
    law = pd.DataFrame({"mu": 0.0, "omega": 1e-4 * (1 - alpha - beta), "alpha": alpha, "beta": beta}, range(5))
    shocks = np.random.default_rng(seed).standard_normal((1, n, 5))
    paths = garch_returns(law, shocks, np.full(5, 1e-4))[0]
    drawn = 0.4**0.5 * paths[:, :1] + 0.6**0.5 * paths[:, 1:]
    return pd.DataFrame(drawn, pd.bdate_range("2000-01-03", periods=n, unit="us", name="date"), list("ABCD"))


def maker(seed: int, number: int, **law) -> pd.DataFrame:
    "Draw paths of the law, in the form of a generator."
    return pd.concat({i: market(DAYS, [seed, number, i], **law) for i in range(PATHS)}, names=["path"])


def copier(past: pd.DataFrame, seed: int, noise: float, share: float) -> pd.DataFrame:
    "String stretches of ten training days together, with noise; the rest is honest."
    rng, made = np.random.default_rng([seed, 9]), maker(seed, 8)
    values = made.to_numpy().copy()
    for start in range(0, len(values) - 10, 10):
        if rng.random() < share:
            at = rng.integers(0, len(past) - 10)
            shaken = noise * past.to_numpy().std() * rng.standard_normal((10, 4))
            values[start : start + 10] = past.to_numpy()[at : at + 10] + shaken
    return pd.DataFrame(values, made.index, made.columns)


def generators(seed: int) -> list[list]:
    "Judge the makers of one world; return rows of seed, kind, what, value, se."
    both = market(2 * DAYS, [seed, 0])
    past, later = both.iloc[:DAYS], both.iloc[DAYS:]
    honest, flat = maker(seed, 1), maker(seed, 2, alpha=0.0, beta=0.0)
    rows = []
    for fact, row in compare_facts(past, honest).iterrows():
        rows += [["difference", fact, row["difference"], 1.0], ["fact", fact, row["real"], row["real_se"]]]
    for kind, made in (("alarm", honest), ("found", flat)):
        name = "of the same law" if kind == "alarm" else "without spells"
        rows.append([kind, f"classifier, {name}", classifier_test(later, made, draws=59, seed=seed).p, np.nan])
        lost = forecast_gap(past, later, made)
        rows.append([kind, f"forecast gap, {name}", lost.gap, lost.se])
    copies = [("alarm", "honest", honest)]
    for noise, share in ((0.0, 1.0), (0.3, 1.0), (1.0, 1.0), (0.0, 0.05)):
        copies.append(("found", f"copies, noise {noise:g}, share {share:g}", copier(past, seed, noise, share)))
    rows += [[kind, f"memorisation, {name}", memorisation(past, later, made).p, np.nan] for kind, name, made in copies]
    shocks = np.random.default_rng([seed, 3]).standard_normal((1, DAYS + 100, 1))
    x = garch_returns(GARCH, shocks, np.array([1e-4]))[0, 100:]
    value, error, _ = fit_garch_margins(pd.DataFrame(x, past.index, ["A"]))
    rows += [["held", f"GARCH {p}", value.at["A", p] - GARCH.at["A", p], error.at["A", p]] for p in GARCH]
    path = heston_paths(HESTON, 1.0, 0.0, 0.05, np.arange(20 * 252 + 1) / 252, 4, seed)
    found = fit_seen_variance(path.variance[0], np.diff(np.log(path.spot[0])))
    for name, row in found.iterrows():
        rows.append(["held", f"Heston {name}", row["value"] - getattr(HESTON, name), row["se"]])
    return [[seed, *row[:2], float(row[2]), float(row[3])] for row in rows]


def generator_rates(rows: list[list]) -> pd.DataFrame:  # kind, what, rate, se, n
    "Sum worlds up: how often each judge spoke, and how often each interval held."
    table = pd.DataFrame(rows, columns=["seed", "kind", "what", "value", "se"])
    out = []
    for (kind, what), part in table.groupby(["kind", "what"], sort=False):
        told, beyond = part["se"].isna().all(), abs(part["value"]) > 1.96 * part["se"]
        name, beyond = kind, part["value"] <= 0.05 if told else beyond
        if kind == "difference":
            name, what = "alarm", f"facts, {what}"
        elif kind in ("fact", "held"):
            centre = part["value"].mean() if kind == "fact" else 0.0
            name, what = "held", f"fact, {what}" if kind == "fact" else what
            beyond = abs(part["value"] - centre) <= 1.96 * part["se"]
        elif what.startswith("forecast gap, without"):
            beyond = part["value"] > 1.96 * part["se"]
        rate = beyond.mean()
        out.append([name, what, rate, np.sqrt(rate * (1 - rate) / len(part)), len(part)])
    return pd.DataFrame(out, columns=["kind", "what", "rate", "se", "n"])
