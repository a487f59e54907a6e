#| export
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.generate import (
    _BURN,
    GENERATORS,
    Generator,
    _long_run,
    fit_garch_margins,
    garch_returns,
    made_by,
)
from quantlab.deep.networks import deterministic_torch
from quantlab.deep.realism import return_windows
from quantlab.deep.stylised import check_history

#| export
def need_vine() -> ModuleType:  # pyvinecopulib
    "Import pyvinecopulib; raise ConfigError naming the extra where it is not installed."
    try:
        import pyvinecopulib
    except ImportError as error:
        raise ConfigError("pyvinecopulib is not installed: pip install -e '.[vine]'") from error
    return pyvinecopulib


def _ranks(z: np.ndarray) -> np.ndarray:  # float64[date, symbol], in (0, 1)
    "Return ranks over n + 1; ties stay in the order of their days."
    return (np.argsort(np.argsort(z, axis=0, kind="stable"), axis=0) + 1) / (len(z) + 1)


def fit_vine_market(
    returns: pd.DataFrame,  # date x symbol, decimal, complete, two symbols or more
    margins: str = "garch",  # or "empirical": days without memory
    trees: int | None = None,  # of the vine; None: all up to 20 symbols, two beyond, since all take hours there
) -> Generator:
    "Make markets of a vine copula; raise ConfigError without pyvinecopulib, for other margins, for one symbol."
    if margins not in ("garch", "empirical"):
        raise ConfigError(f"margins is {margins!r}; use 'garch' or 'empirical'")
    x = check_history(returns)
    if x.shape[1] < 2 or (trees is not None and trees < 1):
        raise ConfigError(f"{x.shape[1]} symbols, trees={trees}: a vine joins two symbols or more, by a tree or more")
    vine = need_vine()
    logs = np.log1p(returns.clip(lower=-0.99))
    values, _, z = fit_garch_margins(logs) if margins == "garch" else (None, None, x)
    family = vine.BicopFamily
    offered = [family.indep, family.gaussian, family.student, family.clayton, family.gumbel]
    trees = 2 if trees is None and x.shape[1] > 20 else trees
    depth = {} if trees is None else {"trunc_lvl": trees}
    controls = vine.FitControlsVinecop(family_set=offered, num_threads=1, **depth)
    fitted = vine.Vinecop.from_data(_ranks(z), controls=controls)
    drawn = None if values is None else values.assign(mu=logs.mean())
    most = (logs**2).max().to_numpy()
    levels, grid = np.sort(z, axis=0), np.arange(1, len(z) + 1) / (len(z) + 1)
    params = {f"tau, pair {i + 1}": (float(c.tau), np.nan) for i, c in enumerate(fitted.pair_copulas[0])}

    def draw(n_days: int, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        rows = n_paths * (n_days + _BURN)
        u = fitted.sample(rows, num_threads=1, seeds=[int(s) for s in rng.integers(1, 2**31 - 1, 5)])
        shocks = np.column_stack([np.interp(u[:, i], grid, levels[:, i]) for i in range(x.shape[1])])
        shocks = shocks.reshape(n_paths, n_days + _BURN, -1)
        if drawn is None:
            return shocks[:, _BURN:]
        return np.expm1(garch_returns(drawn, shocks, _long_run(drawn, logs), most)[:, _BURN:])

    return made_by(returns, "vine", draw, params)

#| export
def to_normal(
    x: np.ndarray,  # float64[date, symbol]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # normal scores [date, symbol]; table [date, symbol]; its scores [date]
    "Send each column through its ranks to a normal."
    from scipy.special import ndtri

    ranks = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0)
    scores = ndtri((np.arange(len(x)) + 0.5) / len(x))
    return scores[ranks], np.sort(x, axis=0), scores


def from_normal(
    z: np.ndarray,  # float64[..., symbol], normal scores
    table: np.ndarray,  # float64[date, symbol], sorted returns
    scores: np.ndarray,  # float64[date], of the rows of the table
) -> np.ndarray:  # float64[..., symbol], never beyond what the table holds
    "Read returns from a table by their normal scores."
    return np.stack([np.interp(z[..., i], scores, table[:, i]) for i in range(table.shape[1])], axis=-1)

#| export
DAYS, STEPS = 10, 40  # of a window; of noise


def noise_levels(
    steps: int = STEPS,
) -> np.ndarray:  # float64[steps], what is left of the window after each step, falling from 1 to 0
    "Return the cosine schedule (Nichol and Dhariwal 2021)."
    at = (np.arange(steps + 1) / steps + 0.008) / 1.008
    left = np.cos(at * np.pi / 2) ** 2
    return np.clip(left[1:] / left[0], 1e-4, 0.9999)


def before_window(
    z: np.ndarray,  # float64[path, day, symbol], the last 20 days or more
) -> np.ndarray:  # float64[path, 3 + symbol]: log sizes of the last day, week and month; the last day
    "Describe what a window begins from."
    size = np.abs(z).mean(axis=2)
    logs = [np.log(size[:, -days:].mean(axis=1) + 0.05) for days in (1, 5, 20)]
    return np.column_stack([*logs, z[:, -1]])

#| export
def _net(nn: ModuleType, size: int, told: int, hidden: int) -> Any:
    "Lay out the network: window, step and what came before in, v out."
    return nn.Sequential(
        nn.Linear(size + told + 8, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, size)
    )


def _clock(steps: np.ndarray) -> np.ndarray:  # float32[n, 8]
    "Tell the step of noise by sines."
    at = steps[:, None] / STEPS * np.pi * 2.0 ** np.arange(4)
    return np.hstack([np.sin(at), np.cos(at)]).astype("float32")


def _train(z: np.ndarray, passes: int, hidden: int, seed: int) -> tuple[list[np.ndarray], list[float]]:
    "Train the network on every window of normal scores; return averaged weights and the loss of each pass."
    cut = return_windows(z, 20 + DAYS, 1)
    told, target = before_window(cut[:, :20]).astype("float32"), cut[:, 20:].reshape(len(cut), -1).astype("float32")
    left, rng, losses = noise_levels(), np.random.default_rng(seed), []
    with deterministic_torch(seed) as torch:
        net = _net(torch.nn, target.shape[1], told.shape[1], hidden)
        steps = torch.optim.Adam(net.parameters(), lr=1e-3)
        held, count = [p.detach().clone() for p in net.parameters()], 0
        for _ in range(passes):
            total = 0.0
            for rows in np.array_split(rng.permutation(len(cut)), max(1, len(cut) // 128)):
                step, noise = rng.integers(0, STEPS, len(rows)), rng.standard_normal((len(rows), target.shape[1]))
                a = left[step][:, None]
                drowned = np.sqrt(a) * target[rows] + np.sqrt(1 - a) * noise
                seen = np.hstack([drowned, told[rows], _clock(step)]).astype("float32")
                goal = torch.from_numpy((np.sqrt(a) * noise - np.sqrt(1 - a) * target[rows]).astype("float32"))
                loss = ((net(torch.from_numpy(seen)) - goal) ** 2).mean()
                steps.zero_grad()
                loss.backward()
                steps.step()
                share, count = max(0.005, 9 / (10 + count)), count + 1  # the first steps are soon forgotten
                for kept, now in zip(held, net.parameters(), strict=True):
                    kept.mul_(1 - share).add_(now.detach(), alpha=share)
                total += float(loss.detach()) * len(rows)
            losses.append(total / len(cut))
        return [kept.numpy().copy() for kept in held], losses


def _say_v(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    "Run the trained network in numpy: the same digits wherever it is asked."
    for i in range(0, len(weights), 2):
        x = x @ weights[i].T + weights[i + 1]
        x = x / (1 + np.exp(-x)) if i + 2 < len(weights) else x
    return x

#| export
def _draw_window(weights: list[np.ndarray], told: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    "Draw windows from noise, given what came before."
    left = noise_levels()
    w = rng.standard_normal((len(told), size))
    for step in range(STEPS - 1, -1, -1):
        a, before = left[step], left[step - 1] if step else 1.0
        said = _say_v(weights, np.hstack([w, told, _clock(np.full(len(told), step))]))
        clean = np.clip(np.sqrt(a) * w - np.sqrt(1 - a) * said, -4, 4)
        share = a / before
        mean = np.sqrt(before) * (1 - share) / (1 - a) * clean + np.sqrt(share) * (1 - before) / (1 - a) * w
        spread = np.sqrt((1 - before) / (1 - a) * (1 - share))
        w = mean + spread * rng.standard_normal(w.shape) if step else clean
    return w


def fit_learned_market(
    returns: pd.DataFrame,  # date x symbol, decimal, complete, 250 dates or more
    passes: int = 30,  # over the windows
    hidden: int = 128,  # units of each of two layers
    seed: int = 7,  # of weights, noise and order
) -> Generator:
    "Train a diffusion model that makes markets; raise ConfigError without torch, DataError for a short history."
    x = check_history(returns)
    if len(x) < 250:
        raise DataError(f"{len(x)} days; a network needs 250 or more")
    if passes < 1 or hidden < 1:
        raise ConfigError(f"passes is {passes}, hidden {hidden}; both are at least 1")
    z, table, scores = to_normal(x)
    weights, losses = _train(z, passes, hidden, seed)

    def draw(n_days: int, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        start = rng.integers(0, len(z) - 20, n_paths)
        path = np.stack([z[s : s + 20] for s in start])
        for _ in range(-(-n_days // DAYS) + 2):
            w = _draw_window(weights, before_window(path[:, -20:]), DAYS * x.shape[1], rng)
            path = np.concatenate([path, w.reshape(n_paths, DAYS, -1)], axis=1)
        return from_normal(path[:, -n_days:], table, scores)

    return made_by(returns, "learned", draw, {"loss": (losses[-1], np.nan), "passes": (passes, np.nan)})

#| export
MAKERS: dict[str, Callable[[pd.DataFrame], Generator]] = GENERATORS | {
    "vine": fit_vine_market,
    "learned": fit_learned_market,
}


def beats_yardstick(
    judged: pd.DataFrame,  # by method: rows of judge_generator
    method: str = "learned",
    yardstick: str = "vine",
) -> str:  # one sentence
    "Say whether a maker beats another: the classifier's area lower by more than two errors, no copies, no gap."
    missing = [name for name in (method, yardstick) if name not in judged.index]
    if missing:
        raise ConfigError(f"{missing} were not judged; there are {list(judged.index)}")
    one, other = judged.loc[method], judged.loc[yardstick]
    lead = (other["auc"] - one["auc"]) / np.hypot(one["auc_se"], other["auc_se"])
    if one["copied_p"] < 0.01:
        return f"{method} does not beat {yardstick}: it copies the days it was fitted on"
    if one["gap"] - other["gap"] > 2 * one["gap_se"]:
        return f"{method} does not beat {yardstick}: a forecast learned on it is worse"
    if lead <= 2:
        return f"{method} does not beat {yardstick}: the classifier's area is no lower by two errors (by {lead:.1f})"
    return f"{method} beats {yardstick}: the classifier's area is lower by {lead:.1f} errors"
