#| export
from collections.abc import Callable

import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError

#| export
def check_history(
    returns: pd.DataFrame,  # date x symbol, decimal
    least: int = 100,  # dates
) -> np.ndarray:  # float64[date, symbol]
    "Return complete returns as an array; raise DataError for a frame that is short, has holes or a column at rest."
    x = returns.to_numpy(dtype="float64")
    if x.ndim != 2 or len(x) < least or x.shape[1] < 1:
        raise DataError(f"returns have shape {x.shape}; give {least} dates or more of at least one symbol")
    if not returns.index.is_monotonic_increasing or not returns.index.is_unique or not returns.columns.is_unique:
        raise DataError("dates of returns must rise and symbols be named once; sort them and drop doubles")
    holes = ~np.isfinite(x)
    if holes.any():
        row, col = np.argwhere(holes)[0]
        raise DataError(f"{holes.sum()} returns are missing or infinite, {returns.columns[col]}, row {row}; drop them")
    still = np.ptp(x, axis=0) < 1e-12
    if still.any():
        raise DataError(f"{list(returns.columns[still])} never move; leave them out")
    return x

#| export
def kurtosis_over(
    x: np.ndarray,  # float64[date, symbol], returns
    days: int = 1,  # in a row that are summed
) -> np.ndarray:  # float64[symbol]
    "Return the excess kurtosis of sums of days that overlap."
    total = np.cumsum(np.vstack([np.zeros((1, x.shape[1])), x]), axis=0)
    sums = total[days:] - total[:-days]
    z = sums - sums.mean(axis=0)
    return (z**4).mean(axis=0) / (z**2).mean(axis=0) ** 2 - 3


def tail_index(
    x: np.ndarray,  # float64[date, symbol], returns
    share: float = 0.05,  # of the days, the worst, that are the tail
) -> np.ndarray:  # float64[symbol], NaN where fewer than two losses are that large
    "Estimate the tail index of losses (Hill 1975); raise ConfigError for a share outside 0 to 1."
    if not 0 < share < 1:
        raise ConfigError(f"share is {share}; give a part of the days, such as 0.05")
    m = max(2, round(share * len(x)))
    worst = -np.sort(x, axis=0)[: m + 1]
    worst = np.where(worst > 0, worst, np.nan)
    return 1 / np.log(worst[:-1] / worst[-1]).mean(axis=0)

#| export
def lagged_correlation(
    first: np.ndarray,  # float64[date, symbol]
    later: np.ndarray,  # float64[date, symbol], on the same dates
    lag: int,  # days between, at least 1
) -> np.ndarray:  # float64[symbol]
    "Correlate one series with another some days later."
    a, b = first - first.mean(axis=0), later - later.mean(axis=0)
    return (a[:-lag] * b[lag:]).mean(axis=0) / (a.std(axis=0) * b.std(axis=0))


def leverage_effect(
    x: np.ndarray,  # float64[date, symbol], returns
    lags: int = 10,  # days after, over which the mean is taken
) -> np.ndarray:  # float64[symbol]
    "Correlate returns with the sizes of the days after them."
    return np.mean([lagged_correlation(x, np.abs(x), lag) for lag in range(1, lags + 1)], axis=0)

#| export
def pair_correlations(
    x: np.ndarray,  # float64[date, symbol], returns
) -> np.ndarray:  # float64[pairs]; empty for one symbol
    "Return the correlation of each pair of symbols."
    return np.corrcoef(x, rowvar=False)[np.triu_indices(x.shape[1], 1)] if x.shape[1] > 1 else np.zeros(0)


def yearly_falls(
    x: np.ndarray,  # float64[date, symbol], returns
    year: int = 252,  # days; a last part below half of them is left out
) -> np.ndarray:  # float64[symbol], decimal, above zero
    "Return the deepest fall from a high within a year, the mean over years."
    years = [x[i : i + year] for i in range(0, len(x), year)]
    falls = []
    for part in [p for p in years if 2 * len(p) >= min(year, len(x))]:
        wealth = np.vstack([np.ones((1, x.shape[1])), np.cumprod(1 + part, axis=0)])
        falls.append((1 - wealth / np.maximum.accumulate(wealth, axis=0)).max(axis=0))
    return np.mean(falls, axis=0)

#| export
FACTS: dict[str, Callable[[np.ndarray], float]] = {
    "volatility": lambda x: float(x.std(axis=0).mean()),
    "kurtosis, 1 day": lambda x: float(kurtosis_over(x).mean()),
    "kurtosis, 5 days": lambda x: float(kurtosis_over(x, 5).mean()),
    "kurtosis, 20 days": lambda x: float(kurtosis_over(x, 20).mean()),
    "tail index of losses": lambda x: float(tail_index(x).mean()),
    "memory of returns, lag 1": lambda x: float(lagged_correlation(x, x, 1).mean()),
    "memory of sizes, lag 1": lambda x: float(lagged_correlation(np.abs(x), np.abs(x), 1).mean()),
    "memory of sizes, lag 5": lambda x: float(lagged_correlation(np.abs(x), np.abs(x), 5).mean()),
    "memory of sizes, lag 20": lambda x: float(lagged_correlation(np.abs(x), np.abs(x), 20).mean()),
    "leverage": lambda x: float(leverage_effect(x).mean()),
    "correlation": lambda x: float(np.mean(pair_correlations(x))) if x.shape[1] > 1 else np.nan,
    "spread of correlations": lambda x: float(np.std(pair_correlations(x))) if x.shape[1] > 2 else np.nan,
    "yearly fall": lambda x: float(yearly_falls(x).mean()),
}


def stylised_facts(
    returns: pd.DataFrame,  # date x symbol, decimal, complete
    batches: int = 20,  # stretches of days that are left out in turn, at least 5
) -> pd.DataFrame:  # by fact: value, se; knowable at the last date
    "Measure the facts of a market with their errors; raise ConfigError for few batches, DataError as check_history."
    if batches < 5:
        raise ConfigError(f"batches is {batches}; an error needs 5 or more")
    x = check_history(returns, 20 * batches)
    parts = np.array_split(np.arange(len(x)), batches)
    kept = [np.delete(x, part, axis=0) for part in parts]
    rows = {}
    for name, fact in FACTS.items():
        without = np.array([fact(rest) for rest in kept])
        rows[name] = [fact(x), np.sqrt((batches - 1) * without.var())]
    return pd.DataFrame(rows, ["value", "se"]).T.rename_axis("fact")

#| export
def compare_facts(
    returns: pd.DataFrame,  # date x symbol, decimal, the real market
    made: pd.DataFrame,  # (path, date) x symbol, decimal, from a generator
    batches: int = 20,  # stretches of days behind the errors of the real market
) -> pd.DataFrame:  # by fact: real, real_se, made, made_se, difference (made less real, in errors)
    "Hold the facts of made paths against the real ones; raise DataError for other symbols, short or single paths."
    if list(made.columns) != list(returns.columns):
        raise DataError(f"made are {list(made.columns)}, real ones {list(returns.columns)}; name them alike")
    paths = [check_history(path.droplevel(0)) for _, path in made.groupby(level=0)]
    if len(paths) < 2:
        raise DataError("one path has no spread; generate two or more")
    real = stylised_facts(returns, batches)
    values = pd.DataFrame([{name: fact(x) for name, fact in FACTS.items()} for x in paths])
    table = pd.DataFrame({"real": real["value"], "real_se": real["se"], "made": values.mean()}).rename_axis("fact")
    table["made_se"] = values.std() / np.sqrt(len(paths))
    return table.assign(difference=(table["made"] - table["real"]) / np.hypot(table["real_se"], table["made_se"]))
