#| export
from types import ModuleType

import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.generate import _BURN, Generator, _long_run, fit_garch_margins, garch_returns, made_by
from quantlab.deep.generate import stationary_rows
from quantlab.deep.stylised import check_history
from quantlab.pricing.exotics import heston_paths
from quantlab.pricing.heston import HestonModel

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
