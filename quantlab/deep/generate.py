#| export
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.realism import classifier_test, forecast_gap, memorisation
from quantlab.deep.stylised import check_history, compare_facts
from quantlab.pricing.exotics import heston_paths
from quantlab.pricing.heston import HestonModel
from quantlab.regime.hmm import HMM
from quantlab.regime.simulated import _chain, _path

#| export
@dataclass(frozen=True)
class Generator:
    "Hold a fitted maker of markets, which knows the days up to `until` and none after."

    method: str  # of GENERATORS, or a name of your own
    symbols: list[str]  # columns of what it makes
    until: pd.Timestamp  # last date that the fit has seen; use it after that date only
    params: pd.DataFrame  # by name: value, se (NaN where the fit gives none)
    draw: Callable[[int, int, np.random.Generator], np.ndarray] = field(repr=False)  # -> [path, day, symbol]

    def generate(
        self,
        n_days: int,  # of each path
        n_paths: int = 1,  # independent ones
        seed: int = 7,  # the same seed gives the same paths
    ) -> pd.DataFrame:  # (path, date) x symbol, decimal; dates are business days after until
        "Make paths of returns; raise ConfigError for fewer than one day or path."
        if n_days < 1 or n_paths < 1:
            raise ConfigError(f"{n_paths} paths of {n_days} days; ask for one of each or more")
        drawn = self.draw(n_days, n_paths, np.random.default_rng(seed))
        dates = pd.bdate_range(self.until + pd.Timedelta(days=1), periods=n_days, unit="us")
        index = pd.MultiIndex.from_product([range(n_paths), dates], names=["path", "date"])
        return pd.DataFrame(drawn.reshape(-1, len(self.symbols)), index, self.symbols)


def made_by(
    returns: pd.DataFrame,  # date x symbol, decimal: what the maker was fitted on
    method: str,  # its name
    draw: Callable[[int, int, np.random.Generator], np.ndarray],  # (days, paths, generator) -> [path, day, symbol]
    params: dict[str, tuple[float, float]],  # by name: value and error
) -> Generator:
    "Put a drawing function into the common form."
    table = pd.DataFrame(params, ["value", "se"]).T.rename_axis("parameter")
    return Generator(method, [str(name) for name in returns.columns], pd.Timestamp(returns.index[-1]), table, draw)

#| export
def stationary_rows(
    n: int,  # days to draw from
    n_days: int,  # of a path
    n_paths: int,
    block: float,  # mean length of a stretch, days
    rng: np.random.Generator,
) -> np.ndarray:  # int64[path, day], rows of the history
    "Draw rows by the stationary bootstrap, round the end of the history."
    start = rng.integers(0, n, (n_paths, n_days))
    fresh = rng.random((n_paths, n_days)) < 1 / block
    fresh[:, 0] = True
    day = np.arange(n_days)
    since = np.maximum.accumulate(np.where(fresh, day, 0), axis=1)
    return (np.take_along_axis(start, since, axis=1) + day - since) % n


def fit_block_bootstrap(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    block: float | None = None,  # mean length of a stretch, days; None: Politis and White's
) -> Generator:
    "Make markets of stretches of the real days; raise ConfigError for a block below a day or beyond the history."
    x = check_history(returns)
    if block is None:
        from arch.bootstrap import optimal_block_length

        both = np.hstack([x, (x - x.mean(axis=0)) ** 2])
        block = float(np.clip(np.nanmax(optimal_block_length(both)["stationary"]), 1, len(x) / 2))
    if not 1 <= block <= len(x):
        raise ConfigError(f"block is {block}; give 1 to {len(x)} days")
    draw = lambda n_days, n_paths, rng: x[stationary_rows(len(x), n_days, n_paths, block, rng)]
    return made_by(returns, "bootstrap", draw, {"block": (block, np.nan)})

#| export
def fit_garch_margins(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:  # by symbol: mu, omega, alpha, beta; errors; shocks[date, symbol]
    "Fit a GARCH(1,1) to each symbol with robust errors; shocks have mean 0 and variance 1."
    from arch import arch_model

    x, values, errors, shocks = check_history(returns), {}, {}, []
    unit = np.array([1e-2, 1e-4, 1, 1])  # arch is given percent
    for i, name in enumerate(returns.columns):
        model = arch_model(100 * x[:, i], mean="Constant", vol="GARCH", p=1, q=1, rescale=False)
        fit = model.fit(disp="off", show_warning=False)
        values[name], errors[name] = fit.params.to_numpy() * unit, fit.std_err.to_numpy() * unit
        shocks.append(np.asarray(fit.std_resid))
    z = np.column_stack(shocks)
    names = ["mu", "omega", "alpha", "beta"]
    return pd.DataFrame(values, names).T, pd.DataFrame(errors, names).T, (z - z.mean(axis=0)) / z.std(axis=0)


def garch_returns(
    params: pd.DataFrame,  # by symbol: mu, omega, alpha, beta
    shocks: np.ndarray,  # float64[path, day, symbol], mean 0 and variance 1
    first: np.ndarray,  # float64[symbol], variance of the first day
    most: np.ndarray | float = np.inf,  # float64[symbol], above which no variance goes
) -> np.ndarray:  # float64[path, day, symbol]
    "Return what the law of each symbol makes of shocks."
    mu, omega, alpha, beta = params[["mu", "omega", "alpha", "beta"]].to_numpy().T
    h, out = np.broadcast_to(first, shocks[:, 0].shape), np.empty(shocks.shape)
    for t in range(shocks.shape[1]):
        e = np.sqrt(h) * shocks[:, t]
        out[:, t] = mu + e
        h = np.minimum(omega + alpha * e**2 + beta * h, most)
    return out


def _long_run(params: pd.DataFrame, returns: pd.DataFrame) -> np.ndarray:  # float64[symbol]
    "Return the variance to which each law returns, at most nine times what was seen."
    room = np.maximum(1 - params["alpha"] - params["beta"], 1e-9)
    return np.minimum(params["omega"] / room, 9 * returns.var().to_numpy()).to_numpy()

#| export
def _moving(z: np.ndarray, a: float, b: float) -> np.ndarray:  # float64[date, pair, 3]: q11, q22, q12 of neighbours
    "Return Q of each pair of neighbouring symbols."
    from scipy.signal import lfilter

    left, right = z[:, :-1], z[:, 1:]
    outer = np.stack([left**2, right**2, left * right], axis=2)
    level = outer.mean(axis=0)
    before = np.concatenate([level[None], outer[:-1]])
    drive = (1 - a - b) * level + a * before
    start = (b * level)[None]
    return lfilter([1.0], [1.0, -b], drive, axis=0, zi=start)[0]


def fit_moving_correlation(
    z: np.ndarray,  # float64[date, symbol], shocks with mean 0 and variance 1
) -> tuple[float, float]:  # a, b; both 0 for one symbol
    "Fit how correlations move, by the likelihood of neighbouring pairs."
    if z.shape[1] < 2:
        return 0.0, 0.0
    from scipy.optimize import minimize

    left, right = z[:, :-1], z[:, 1:]

    def loss(p: np.ndarray) -> float:
        a, b = p
        if a < 0 or b < 0 or a + b > 0.999:
            return 1e9
        q = _moving(z, a, b)
        rho = np.clip(q[..., 2] / np.sqrt(q[..., 0] * q[..., 1]), -0.999, 0.999)
        rest = 1 - rho**2
        return float((np.log(rest) + (left**2 + right**2 - 2 * rho * left * right) / rest).mean())

    starts = [(0.01, 0.95), (0.03, 0.9), (0.05, 0.6)]
    found = minimize(loss, min(starts, key=loss), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7}).x
    return float(found[0]), float(found[1])


def _next_square(q: np.ndarray, z: np.ndarray, level: np.ndarray, a: float, b: float) -> np.ndarray:
    "Move Q of every path by a day."
    return (1 - a - b) * level + a * z[:, :, None] * z[:, None, :] + b * q


def _root(q: np.ndarray) -> np.ndarray:  # lower triangle of the correlation in Q
    "Return the Cholesky root of the correlation that Q stands for."
    d = 1 / np.sqrt(np.einsum("pii->pi", q))
    return np.linalg.cholesky(q * d[:, :, None] * d[:, None, :] + 1e-9 * np.eye(q.shape[1]))

#| export
_BURN = 100  # days that are thrown away, so that a path does not begin in the long run's weather


def _whitened(z: np.ndarray, a: float, b: float) -> np.ndarray:  # float64[date, symbol]
    "Take the moving correlation out of shocks, day by day."
    level = np.corrcoef(z, rowvar=False)
    q, out = level[None], np.empty_like(z)
    for t in range(len(z)):
        out[t] = np.linalg.solve(_root(q)[0], z[t])
        q = _next_square(q, z[t : t + 1], level, a, b)
    return out


def fit_garch_market(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    correlation: str = "constant",  # or "dynamic" (Engle 2002)
) -> Generator:
    "Make markets of GARCH volatility and real shocks; raise ConfigError for another kind of correlation."
    if correlation not in ("constant", "dynamic"):
        raise ConfigError(f"correlation is {correlation!r}; use 'constant' or 'dynamic'")
    check_history(returns)
    logs = np.log1p(returns.clip(lower=-0.99))
    values, errors, z = fit_garch_margins(logs)
    params = {f"{p} {s}": (values.at[s, p], errors.at[s, p]) for s in values.index for p in values}
    moving = correlation == "dynamic" and z.shape[1] > 1
    a, b = fit_moving_correlation(z) if moving else (0.0, 0.0)
    params |= {"a": (a, np.nan), "b": (b, np.nan)} if moving else {}
    first, level, drawn = _long_run(values, logs), np.corrcoef(z, rowvar=False), values.assign(mu=logs.mean())
    most = (logs**2).max().to_numpy()
    pool = _whitened(z, a, b) if moving else z

    def draw(n_days: int, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        shocks = pool[rng.integers(0, len(pool), (n_paths, n_days + _BURN))]
        if moving:
            q = np.repeat(level[None], n_paths, axis=0)
            for t in range(shocks.shape[1]):
                shocks[:, t] = np.einsum("pij,pj->pi", _root(q), shocks[:, t])
                q = _next_square(q, shocks[:, t], level, a, b)
        return np.expm1(garch_returns(drawn, shocks, first, most)[:, _BURN:])

    return made_by(returns, "garch", draw, params)

#| export
def fit_regime_market(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    n_states: int = 2,  # of the hidden chain
    seed: int = 7,  # of the search for the states
) -> Generator:
    "Make markets of real days under a chain of hidden states; raise DataError where the states are not found."
    x = check_history(returns)
    market = pd.DataFrame({"return": x.mean(axis=1)}, returns.index)
    model = HMM(n_states=n_states, seed=seed, n_starts=2).fit(market)
    weight = model.smooth(market).probabilities.to_numpy()
    if (weight.sum(axis=0) < 1).any():
        raise DataError(f"a state holds less than one of {len(x)} days; ask for fewer than {n_states} states")
    matrix, first = _chain(model.transition_table().to_numpy(), n_states)
    ladder = np.cumsum(weight / weight.sum(axis=0), axis=0)
    stay = 1 / np.maximum(1 - np.diag(matrix), 1e-9)
    params = {f"stay in {name}, days": (days, np.nan) for name, days in zip(model.states_, stay, strict=True)}

    def draw(n_days: int, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        out = np.empty((n_paths, n_days, x.shape[1]))
        for path in range(n_paths):
            state, chance = _path(matrix, first, n_days, rng), rng.random(n_days)
            for s in range(n_states):
                at = state == s
                out[path, at] = x[np.minimum(np.searchsorted(ladder[:, s], chance[at]), len(x) - 1)]
        return out

    return made_by(returns, "regime", draw, params)

#| export
YEAR = 252  # trading days


def fit_seen_variance(
    variance: np.ndarray,  # float64[day + 1], a year's, above zero
    log_returns: np.ndarray,  # float64[day], from each day of variance to the next
) -> pd.DataFrame:  # by name: value, se; kappa, theta, sigma, rho
    "Fit Heston's numbers where the variance is seen; raise DataError for short paths or a variance at zero."
    v, w = variance[:-1], variance[1:]
    if len(v) < 100 or len(log_returns) != len(v) or not (variance > 0).all():
        raise DataError(f"{len(variance)} variances, {len(log_returns)} returns: 101 above zero, returns one less")
    root = np.sqrt(v)
    a = np.column_stack([1 / root, root])
    inverse = np.linalg.inv(a.T @ a)
    level, slope = inverse @ (a.T @ (w / root))
    e = float(np.clip(slope, 1e-6, 1 - 1e-6))
    kappa, theta, years = -np.log(e) * YEAR, level / (1 - slope), len(v) / YEAR
    rest = w / root - a @ [level, slope]
    cov = inverse * rest.var()
    spread = e * (1 - e) / kappa + theta * (1 - e) ** 2 / (2 * kappa) / v
    squares = rest**2 / spread
    sigma = np.sqrt(squares.mean())
    toward = np.array([1 / (1 - slope), theta / (1 - slope)])
    shock = (log_returns - log_returns.mean() + 0.5 * (v - v.mean()) / YEAR) / np.sqrt(0.5 * (v + w) / YEAR)
    rho = float(np.corrcoef(rest / np.sqrt(spread), shock)[0, 1])
    errors = [np.sqrt(cov[1, 1]) / e * YEAR, np.sqrt(toward @ cov @ toward)]
    errors.append(squares.std() / (2 * sigma * len(v) ** 0.5))
    values = [max(kappa - 4 / years, 1e-3), theta, sigma, rho]
    return pd.DataFrame(
        {"value": values, "se": [*errors, (1 - rho**2) / len(v) ** 0.5]}, ["kappa", "theta", "sigma", "rho"]
    )

#| export
def _unseen_heston(market: pd.Series) -> tuple[HestonModel, float]:  # the model; growth a year
    "Take Heston's numbers from the returns of a market by moments."
    values, _, z = fit_garch_margins(market.to_frame("market"))
    alpha, beta = values["alpha"].iloc[0], values["beta"].iloc[0]
    theta = float(_long_run(values, market.to_frame("market"))[0] * YEAR)
    kappa = float(np.clip((1 - alpha - beta) * YEAR, 0.5, 60.0))
    sigma = float(np.clip(alpha * np.sqrt(YEAR * ((z**4).mean() - 1) * theta), 0.01, 3.0))
    weeks = market.to_numpy()[: len(market) // 5 * 5].reshape(-1, 5)
    rough = np.log(np.maximum((weeks**2).sum(axis=1), 1e-12))
    rho = float(np.clip(np.corrcoef(weeks[1:].sum(axis=1), np.diff(rough))[0, 1], -0.95, 0.95))
    return HestonModel(theta, theta, kappa, sigma, rho), float(np.log1p(market.mean()) * YEAR)


def fit_heston_market(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    block: float = 20.0,  # mean length of a stretch of what symbols do beyond their market, days
) -> Generator:
    "Make markets whose mean has Heston's variance; raise DataError as check_history."
    x = check_history(returns)
    market = pd.Series(x.mean(axis=1), returns.index)
    model, growth = _unseen_heston(market)
    centred = market.to_numpy() - market.mean()
    slope = centred @ x / (centred @ centred)
    rest = x - x.mean(axis=0) - np.outer(centred, slope)

    def draw(n_days: int, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        times = np.arange(n_days + 1) / YEAR
        seed = int(rng.integers(0, 2**31))
        spot = heston_paths(model, 1.0, 0.0, growth, times, 2 * max(n_paths, 2), seed).spot[:n_paths]
        moved = spot[:, 1:] / spot[:, :-1] - 1 - market.mean()
        own = rest[stationary_rows(len(rest), n_days, n_paths, block, rng)]
        return x.mean(axis=0) + moved[:, :, None] * slope + own

    numbers = zip(("theta", "kappa", "sigma", "rho"), (model.theta, model.kappa, model.sigma, model.rho), strict=True)
    return made_by(returns, "heston", draw, {name: (value, np.nan) for name, value in numbers})

#| export
GENERATORS: dict[str, Callable[[pd.DataFrame], Generator]] = {
    "bootstrap": fit_block_bootstrap,
    "garch": fit_garch_market,
    "regime": fit_regime_market,
    "heston": fit_heston_market,
}


def fit_generator(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    method: str = "bootstrap",  # a key of makers
    makers: dict[str, Callable[[pd.DataFrame], Generator]] = GENERATORS,  # deep.made_bars has all of the room
) -> Generator:
    "Fit a maker of markets by its name; raise ConfigError, with a near word, for one that is not there."
    if method not in makers:
        from difflib import get_close_matches

        near = get_close_matches(method, makers, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"there is no generator {method!r}; {hint}use {', '.join(makers)}")
    return makers[method](returns)


def judge_generator(
    generator: Generator,  # fitted on returns
    returns: pd.DataFrame,  # date x symbol, decimal: the days it was fitted on
    later: pd.DataFrame,  # date x symbol, decimal: days after them
    n_paths: int = 4,  # each as long as returns
    draws: int = 99,  # permutations of the classifier's labels
    seed: int = 7,  # of the paths
) -> pd.Series:  # missed, facts, auc, auc_se, auc_p, gap, gap_se, copied, copied_p
    "Judge what a generator makes, by facts, classifier, forecast and copies; raise DataError as these do."
    made = generator.generate(len(returns), n_paths, seed)
    off = compare_facts(returns, made)["difference"].dropna().abs()
    told, lost = classifier_test(later, made, draws=draws), forecast_gap(returns, later, made)
    copy = memorisation(returns, later, made)
    row = {"missed": (off > 3).sum(), "facts": len(off), "auc": told.auc, "auc_se": told.se, "auc_p": told.p}
    row |= {"gap": lost.gap, "gap_se": lost.se, "copied": copy.copied, "copied_p": copy.p}
    return pd.Series(row, name=generator.method)
