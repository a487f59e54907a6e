#| export
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.stylised import check_history
from quantlab.validation.inference import newey_west

#| export
def return_windows(
    x: np.ndarray,  # float64[date, symbol], returns
    days: int = 20,  # of a window
    step: int | None = None,  # days from one start to the next; None = days, so that none overlap
) -> np.ndarray:  # float64[window, day, symbol]
    "Cut returns into windows; raise ConfigError where not one fits."
    if days < 2 or (step is not None and step < 1) or len(x) < days:
        raise ConfigError(f"windows of {days} of {len(x)} days, a step of {step}: at least 2 days, a step of 1")
    views = np.lib.stride_tricks.sliding_window_view(x, days, axis=0)
    return np.ascontiguousarray(views[:: step or days].transpose(0, 2, 1))


def _block_of(n: int, size: int) -> np.ndarray:  # int64[n]: block of a window, -1 for one left out between two
    "Number the blocks of windows in a row, with a window between two of them."
    at = np.arange(n)
    return np.where(at % (size + 1) == size, -1, at // (size + 1))

#| export
def window_features(
    cut: np.ndarray,  # float64[window, day, symbol], from return_windows
) -> pd.DataFrame:  # by window: 11 features, knowable at its last day
    "Describe windows of returns; what a window at rest has none of is 0."
    sd = cut.std(axis=1)
    z = (cut - cut.mean(axis=1, keepdims=True)) / np.where(sd > 1e-12, sd, 1.0)[:, None]
    size, market = np.abs(z), cut.mean(axis=2)
    pair = np.einsum("wdi,wdj->wij", z, z) / cut.shape[1]
    upper = pair[:, *np.triu_indices(cut.shape[2], 1)] if cut.shape[2] > 1 else np.zeros((len(cut), 1))
    centred = size - size.mean(axis=1, keepdims=True)
    out = {
        "log volatility": np.log(np.maximum(sd, 1e-12)).mean(axis=1),
        "log market volatility": np.log(np.maximum(market.std(axis=1), 1e-12)),
        "spread of volatility": np.log(np.maximum(sd, 1e-12)).std(axis=1),
        "skewness": (z**3).mean(axis=(1, 2)),
        "kurtosis": (z**4).mean(axis=(1, 2)),
        "worst day": z.min(axis=1).mean(axis=1),
        "best day": z.max(axis=1).mean(axis=1),
        "memory": (z[:, 1:] * z[:, :-1]).mean(axis=(1, 2)),
        "memory of sizes": (centred[:, 1:] * centred[:, :-1]).mean(axis=(1, 2)),
        "leverage": (z[:, :-1] * size[:, 1:]).mean(axis=(1, 2)),
        "correlation": upper.mean(axis=1),
    }
    return pd.DataFrame(out)

#| export
def _logistic(x: np.ndarray, y: np.ndarray, ridge: float = 1.0, steps: int = 5) -> np.ndarray:  # float64[features + 1]
    "Fit a logistic regression with a ridge by Newton's steps; the last coefficient is the constant."
    a = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag([ridge] * x.shape[1] + [1e-6])
    beta = np.zeros(a.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(a @ beta, -30, 30)))
        slope = a.T @ (y - p) - penalty @ beta
        beta = beta + np.linalg.solve((a * (p * (1 - p))[:, None]).T @ a + penalty, slope)
    return beta


def _held_out_scores(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:  # float64[n]
    "Score every row by a classifier that saw the other folds only; features are scaled by the rows it saw."
    out = np.empty(len(y))
    for f in np.unique(fold):
        seen, asked = fold != f, fold == f
        mean, sd = x[seen].mean(axis=0), x[seen].std(axis=0)
        z = np.clip((x - mean) / np.where(sd > 1e-12, sd, 1.0), -5, 5)
        z = np.hstack([z, z**2 - 1])
        beta = _logistic(z[seen], y[seen])
        out[asked] = z[asked] @ beta[:-1] + beta[-1]
    return out


def _area(scores: np.ndarray, y: np.ndarray) -> float:  # in [0, 1]
    "Return the chance that a row of class 1 scores above one of class 0; ties count half."
    order = np.searchsorted(np.sort(scores[y == 0]), scores[y == 1], side="left")
    after = np.searchsorted(np.sort(scores[y == 0]), scores[y == 1], side="right")
    return float((order + after).mean() / 2 / max((y == 0).sum(), 1))

#| export
@dataclass(frozen=True)
class ClassifierTest:
    "Hold what a classifier between real and made windows could do."

    auc: float  # chance that a made window looks more made than a real one; 0.5: no difference seen
    se: float  # of auc, by leaving out blocks
    p: float  # share of permutations of blocks with as high an auc, this one counted
    windows: int  # of the two together
    telling: pd.Series = field(repr=False)  # by feature: auc of it alone, held to 0.5 or more


def _labelled(returns: pd.DataFrame, made: pd.DataFrame, days: int, size: int) -> tuple:
    "Cut both sides into windows; return features, label (1 = made) and block of each window."
    parts = [(check_history(returns), 0)] + [(check_history(path.droplevel(0)), 1) for _, path in made.groupby(level=0)]
    features, label, block = [], [], []
    for x, made_up in parts:
        seen = window_features(return_windows(x, days))
        number = _block_of(len(seen), size)
        keep = number >= 0
        features.append(seen[keep])
        label.append(np.full(keep.sum(), made_up))
        block.append(number[keep] + (block[-1].max() + 1 if block else 0))
    return pd.concat(features, ignore_index=True), np.concatenate(label), np.concatenate(block)


def classifier_test(
    returns: pd.DataFrame,  # date x symbol, decimal; better days that the generator did not see
    made: pd.DataFrame,  # (path, date) x symbol, decimal, from a generator
    days: int = 20,  # of a window
    size: int = 12,  # windows of a block
    folds: int = 5,
    draws: int = 199,  # permutations of blocks
    seed: int = 7,  # of folds and permutations
) -> ClassifierTest:
    "Ask a classifier to tell made windows from real ones; raise DataError where a side has fewer blocks than folds."
    features, label, block = _labelled(returns, made, days, size)
    first = np.unique(block, return_index=True)[1]
    of_block = label[first]
    if min((of_block == 0).sum(), (of_block == 1).sum()) < folds or folds < 2:
        count = [(of_block == side).sum() for side in (0, 1)]
        raise DataError(f"{count[0]} real and {count[1]} made blocks for {folds} folds; give more days")
    rng, x, auc = np.random.default_rng(seed), features.to_numpy(), []
    for draw in range(draws + 1):
        kind = of_block if draw == 0 else rng.permutation(of_block)
        fold = np.empty(len(kind), dtype=int)
        for side in (0, 1):  # each fold has its share of both
            at = rng.permutation(np.flatnonzero(kind == side))
            fold[at] = np.arange(len(at)) % folds
        y = kind[block]
        scores = _held_out_scores(x, y, fold[block])
        auc.append(_area(scores, y))
        if draw == 0:
            without = np.array([_area(scores[block != b], y[block != b]) for b in range(len(kind))])
            se = np.sqrt((len(kind) - 1) * without.var())
    alone = {name: _area(features[name].to_numpy(), label) for name in features}
    telling = pd.Series({name: max(a, 1 - a) for name, a in alone.items()}).sort_values(ascending=False)
    return ClassifierTest(auc[0], float(se), float(np.mean(np.array(auc) >= auc[0] - 1e-12)), len(x), telling)

#| export
def _size_task(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # float64[date, symbol, 3]; float64[date, symbol]
    "Return mean sizes of the last day, week and month, and the size of the next day."
    total = np.cumsum(np.vstack([np.zeros((1, x.shape[1])), np.abs(x)]), axis=0)
    ends = np.arange(20, len(x))
    past = np.stack([(total[ends] - total[ends - days]) / days for days in (1, 5, 20)], axis=2)
    return past, np.abs(x[20:])


def _without_blocks(parts: list[np.ndarray], count: int = 10) -> list[list[np.ndarray]]:
    "Return the histories without each of some blocks of days; where a block lay, a history falls in two."
    out = []
    for b in range(count):
        left = []
        for x in parts:
            first, last = b * len(x) // count, (b + 1) * len(x) // count
            left += [piece for piece in (x[:first], x[last:]) if len(piece) > 21]
        out.append(left)
    return out


def _lesson(parts: list[np.ndarray], ridge: float) -> np.ndarray:  # float64[4]: three slopes and the constant
    "Fit the task on one or several histories."
    tasks = [_size_task(x) for x in parts]
    a, y = (np.concatenate([t[i].reshape(-1, *t[i].shape[2:]) for t in tasks]) for i in (0, 1))
    mean, level = a.mean(axis=0), y.mean()
    a, scale = a - mean, a.std()
    slope = np.linalg.solve(a.T @ a + ridge * len(a) * scale**2 * np.eye(3), a.T @ (y - level))
    return np.append(slope, level - mean @ slope)


@dataclass(frozen=True)
class ForecastGap:
    "Hold what is lost by learning on a made market."

    real: float  # R2 on the later days, learned on the real past
    made: float  # R2 on the same days, learned on made paths
    gap: float  # real less made
    se: float  # of the gap: the luck of the days that are forecast, and of both lessons


def forecast_gap(
    returns: pd.DataFrame,  # date x symbol, decimal: the real past, which the generator may have seen
    later: pd.DataFrame,  # date x symbol, decimal: real days after it
    made: pd.DataFrame,  # (path, date) x symbol, decimal, from a generator
    ridge: float = 0.01,  # of the slopes, in variances of the inputs
) -> ForecastGap:
    "Learn a forecast of sizes on made days and ask it on real ones; raise DataError where later is not later."
    past, ahead = check_history(returns), check_history(later)
    if later.index[0] <= returns.index[-1]:
        raise DataError(f"later begins on {later.index[0]:%Y-%m-%d}, the past ends on {returns.index[-1]:%Y-%m-%d}")
    lessons = [[past], [check_history(path.droplevel(0)) for _, path in made.groupby(level=0)]]
    a, y = _size_task(ahead)
    spread = ((y - y.mean(axis=0)) ** 2).mean()
    wrong = lambda parts: ((y - a @ (b := _lesson(parts, ridge))[:3] - b[3]) ** 2).mean(axis=1) / spread
    real, other = wrong(lessons[0]), wrong(lessons[1])
    luck = [np.array([wrong(left).mean() for left in _without_blocks(parts)]) for parts in lessons]
    lesson = sum((len(values) - 1) * values.var() for values in luck)
    se = float(np.sqrt(newey_west(other - real, 20) ** 2 + lesson))
    return ForecastGap(float(1 - real.mean()), float(1 - other.mean()), float(other.mean() - real.mean()), se)

#| export
def nearest_distances(
    cut: np.ndarray,  # float64[window, day, symbol], asked
    known: np.ndarray,  # float64[window, day, symbol], training windows
) -> np.ndarray:  # float64[window], 0 for a copy, about 2**0.5 for what has nothing in common
    "Return the distance of each window to the nearest known one, every window scaled to size one."
    flat = [w.reshape(len(w), -1) for w in (cut, known)]
    asked, there = (w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-12) for w in flat)
    return np.sqrt(np.maximum(2 - 2 * (asked @ there.T).max(axis=1), 0.0))


def _whitened_windows(parts: list[np.ndarray], days: int, step: int) -> np.ndarray:  # float64[window, day, symbol]
    "Cut histories of one side into windows, without its own means, volatilities and correlations."
    together = np.concatenate(parts)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(together, rowvar=False)))
    root = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max())) @ vectors.T
    return np.concatenate([return_windows((x - together.mean(axis=0)) @ root, days, step) for x in parts])


def _first_are_made(made: np.ndarray, held: np.ndarray) -> float:
    "Return the chance that as many of the smallest distances are made, were all orders as likely."
    ahead = int((made < held.min()).sum())
    steps = np.arange(ahead)
    return float(np.prod((len(made) - steps) / (len(made) + len(held) - steps)))


def _ranked_nearer(made: np.ndarray, held: np.ndarray) -> float:
    "Return the one-sided p-value of Mann and Whitney that made distances are smaller."
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(made, held, alternative="less").pvalue)

#| export
@dataclass(frozen=True)
class Memorisation:
    "Hold whether made windows lie nearer to the training windows than real ones do."

    p: float  # that an honest generator shows as much; twice the smaller of the two below, at most 1
    p_first: float  # that as many of the smallest distances are all made
    p_order: float  # of the whole order (Mann and Whitney)
    copied: float  # share of made windows nearer than any held-out one
    made: np.ndarray = field(repr=False)  # distances of made windows
    held: np.ndarray = field(repr=False)  # distances of held-out windows


def memorisation(
    returns: pd.DataFrame,  # date x symbol, decimal: what the generator was fitted on
    held: pd.DataFrame,  # date x symbol, decimal: real days that it was not fitted on, of the same kind
    made: pd.DataFrame,  # (path, date) x symbol, decimal, from a generator
    days: int = 10,  # of a window
) -> Memorisation:
    "Ask whether a generator copies the days it was fitted on; raise DataError for days that are in both."
    if returns.index.isin(held.index).any():
        raise DataError("held-out days are among the fitted ones; cut the history in two, with a gap")
    known = _whitened_windows([check_history(returns)], days, 1)
    sides = [[check_history(path.droplevel(0)) for _, path in made.groupby(level=0)], [check_history(held)]]
    near = [nearest_distances(_whitened_windows(parts, days, days), known) for parts in sides]
    first, order = _first_are_made(*near), _ranked_nearer(*near)
    copied = float((near[0] < near[1].min()).mean())
    return Memorisation(min(1.0, 2 * min(first, order)), first, order, copied, *near)
