#| export
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from quantlab.backtest.costs import DEFAULT_COSTS, Costs
from quantlab.broker.blotter import Result, _held
from quantlab.broker.fill_model import DEFAULT_FILL
from quantlab.backtest.engine import _prices, _traded
from quantlab.backtest.stats import annual_return, annual_volatility, drawdowns, max_drawdown, sharpe
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import check_panel, to_wide
from quantlab.core.plot import COLORS, figure, number_axis
from quantlab.core.time import check_zones
from quantlab.validation.inference import newey_west, sharpe_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#| export
def block_length(
    returns: np.ndarray,  # [n], decimal
) -> float:  # sessions, at least 1
    "Return the mean block length that keeps both returns and volatility in their spells."
    if len(returns) < 10 or np.ptp(returns) < 1e-12:
        return 1.0
    from arch.bootstrap import optimal_block_length  # here: it takes two seconds to import

    both = [
        float(optimal_block_length(x)["stationary"].iloc[0])
        for x in (returns, (returns - returns.mean()) ** 2)
        if np.ptp(x) > 1e-18
    ]
    return float(np.clip(np.nanmax([*both, 1.0]), 1.0, len(returns)))


def bootstrap_returns(
    returns: pd.Series,  # decimal, by date; NaN days are dropped
    draws: int = 999,  # simulated histories
    block: float | None = None,  # mean length in sessions; None = block_length
    seed: int = 7,  # of the drawing; the same seed gives the same draws
    generator: str = "bootstrap",  # or "garch", "regime": a maker of deep.generate, fitted on these returns
) -> np.ndarray:  # float64[draws, n], histories of the same length
    "Draw histories by the stationary bootstrap or another maker; raise DataError on infinite returns."
    r = returns.dropna().to_numpy(dtype=float)
    if np.isinf(r).any():
        raise DataError(f"{np.isinf(r).sum()} returns are infinite; mend the prices they came from")
    if draws < 1 or (block is not None and not block >= 1):
        raise ConfigError(f"draws is {draws}, block {block}; both are at least 1")
    if block is not None and generator != "bootstrap":
        raise ConfigError(f"block is {block}, but {generator!r} draws no blocks; leave it out")
    if len(r) == 0:
        return np.zeros((draws, 0))
    if generator != "bootstrap":
        from quantlab.deep.generate import fit_generator

        made = fit_generator(returns.dropna().astype(float).to_frame("run"), generator).generate(len(r), draws, seed)
        return made.to_numpy().reshape(draws, len(r))
    from arch.bootstrap import StationaryBootstrap

    sampler = StationaryBootstrap(block_length(r) if block is None else float(block), r, seed=seed)
    return np.stack([data[0] for data, _ in sampler.bootstrap(draws)])

#| export
def bootstrap(
    returns: pd.Series,  # decimal, by date, after costs
    periods_per_year: float,  # 252 for trading days
    draws: int = 999,  # simulated histories
    block: float | None = None,  # mean length in sessions; None = block_length
    fall: float = 0.3,  # the drawdown one would not bear, decimal
    seed: int = 7,  # of the drawing; the same seed gives the same draws
    generator: str = "bootstrap",  # or "garch", "regime": a maker of deep.generate, fitted on these returns
) -> pd.DataFrame:  # by figure: value, median, se, low, high (95 % of the draws); the last two rows are chances
    "Show how far the figures of a run scatter when its days come in another order; no draws below 10 returns."
    r = returns.dropna().astype(float)
    h = bootstrap_returns(r, draws, block, seed, generator) if len(r) >= 10 else np.zeros((0, len(r)))
    rows = {}
    for name, function, args in (
        ("annual_return", annual_return, (periods_per_year,)),
        ("volatility", annual_volatility, (periods_per_year,)),
        ("sharpe", sharpe, (periods_per_year,)),
        ("max_drawdown", max_drawdown, ()),
    ):
        spread = pd.Series(function(h, *args) if len(h) else [], dtype=float)
        rows[name] = {
            "value": function(r, *args),
            "median": spread.median(),
            "se": spread.std(),
            "low": spread.quantile(0.025),
            "high": spread.quantile(0.975),
        }
    lost, fell = np.prod(1 + h, axis=1) < 1, (np.asarray(max_drawdown(h)) < -fall) if len(h) else np.zeros(0)
    for name, happened in {"chance_of_loss": lost, f"chance_of_fall_{fall:.0%}": fell}.items():
        p = happened.mean() if len(h) else np.nan
        rows[name] = {"value": p, "se": np.sqrt(p * (1 - p) / max(len(h), 1))}
    return pd.DataFrame(rows).T

#| export
def by_generator(
    returns: pd.Series,  # decimal, by date, after costs; 100 days or more
    periods_per_year: float,  # 252 for trading days
    generators: tuple[str, ...] = ("bootstrap", "garch", "regime"),  # makers of deep.generate
    draws: int = 499,  # simulated histories of each
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> pd.DataFrame:  # (generator, draw): sharpe, max_drawdown
    "Judge a run's made histories, maker by maker; raise ConfigError for a maker that is not there."
    parts = {}
    for name in generators:
        h = bootstrap_returns(returns, draws, seed=seed, generator=name)
        figures = {"sharpe": sharpe(h, periods_per_year), "max_drawdown": max_drawdown(h)}
        parts[name] = pd.DataFrame(figures, pd.RangeIndex(draws, name="draw"))
    return pd.concat(parts, names=["generator"])


def generator_figure(
    table: pd.DataFrame,  # from by_generator
) -> "Figure":
    "Draw the deepest falls of made histories against their Sharpe ratios, one colour a maker."
    middle = table["max_drawdown"].groupby(level="generator", sort=False).median()
    title = f"Half of the histories fall by {-middle.max():.0%} to {-middle.min():.0%} or more, by maker"
    fig, ax = figure(title, "Sharpe ratio of a history", "deepest fall", size=(8, 3.6))
    for i, (name, part) in enumerate(table.groupby(level="generator", sort=False)):
        ax.plot(part["sharpe"], part["max_drawdown"], ".", ms=3, alpha=0.5, color=COLORS[i], label=name)
        ax.axhline(part["max_drawdown"].quantile(0.05), color=COLORS[i], lw=1, ls=":")
    ax.legend(title="maker; dotted: one in twenty falls deeper", loc="lower right", markerscale=3)
    return fig

#| export
def fan(
    returns: pd.Series,  # decimal, by date
    draws: int = 999,  # simulated histories
    block: float | None = None,  # mean length in sessions; None = block_length
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> pd.DataFrame:  # by date: q05, q25, q50, q75, q95 and run (wealth, start = 1)
    "Return the quantiles of resampled wealth by date."
    r = returns.dropna().astype(float)
    wealth = np.cumprod(1 + bootstrap_returns(r, draws, block, seed), axis=1)
    levels = np.quantile(wealth, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0) if len(r) else np.zeros((5, 0))
    return pd.DataFrame(levels.T, r.index, ["q05", "q25", "q50", "q75", "q95"]).assign(run=np.cumprod(1 + r))


def fan_figure(
    table: pd.DataFrame,  # from fan
) -> "Figure":
    "Draw resampled wealth as a fan, with the run in it."
    low, high = table[["q05", "q95"]].iloc[-1]
    fig, ax = figure(
        f"Nine in ten reorderings end between {low:.2g} and {high:.2g} times the start", "", "wealth, start = 1 (log)"
    )
    ax.fill_between(
        table.index, table["q05"], table["q95"], color=COLORS[0], alpha=0.15, lw=0, label="90 % of the draws"
    )
    ax.fill_between(table.index, table["q25"], table["q75"], color=COLORS[0], alpha=0.25, lw=0, label="50 %")
    ax.plot(table["q50"], color=COLORS[0], lw=1, label="median")
    ax.plot(table["run"], color=COLORS[1], label="the run")
    ax.set_yscale("log")
    number_axis(ax.yaxis)
    ax.legend(loc="upper left")
    return fig

#| export
def _streak(
    lost: np.ndarray,  # bool[draws, n]
) -> np.ndarray:  # int64[draws]
    "Return the longest run of True in each row."
    step = np.arange(1, lost.shape[1] + 1)
    return (step - np.maximum.accumulate(np.where(lost, 0, step), axis=1)).max(axis=1, initial=0)


def shuffle_round_trips(
    round_trips: pd.DataFrame,  # from broker.round_trips: entry, exit, pnl
    draws: int = 999,  # simulated histories
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> pd.DataFrame:  # by figure: value, median, low, high (95 % of shuffles), p (share of shuffles at least as bad)
    "Reorder the profits of round trips; max_fall is money, losing_streak trips; knowable after the last exit."
    if draws < 1:
        raise ConfigError(f"draws is {draws}; shuffle at least once")
    end = round_trips["exit"].fillna(round_trips[["entry", "exit"]].max().max())
    pnl = round_trips["pnl"].to_numpy(dtype=float)[np.lexsort((round_trips["entry"], end))]
    if len(pnl) == 0:
        return pd.DataFrame(np.nan, ["max_fall", "losing_streak"], ["value", "median", "low", "high", "p"])
    deals = np.vstack([pnl, np.random.default_rng(seed).permuted(np.tile(pnl, (draws, 1)), axis=1)])
    path = np.cumsum(deals, axis=1)
    fall = (path - np.maximum(np.maximum.accumulate(path, axis=1), 0.0)).min(axis=1)
    rows = {}
    for name, values, sign in (("max_fall", fall, -1), ("losing_streak", _streak(deals < 0), 1)):
        low, high = np.quantile(values[1:], [0.025, 0.975])
        worse = (sign * values >= sign * values[0] - 1e-9 * abs(values[0])).mean()
        rows[name] = {"value": values[0], "median": np.median(values[1:]), "low": low, "high": high, "p": worse}
    return pd.DataFrame(rows).T

#| export
def _deal_names(
    wanted: np.ndarray,  # [rebalances, symbols], weights of the run
    can: np.ndarray,  # bool[rebalances, symbols], what may be held
    rng: np.random.Generator,
) -> np.ndarray:  # [rebalances, symbols], the same weights on other names
    "Give every holding another name and keep it as long as the run keeps its own."
    stand, out = np.full(wanted.shape[1], -1), np.zeros(wanted.shape)
    for r in range(len(wanted)):
        held, used = np.flatnonzero(wanted[r]), stand[stand >= 0]
        gone = stand[held][(stand[held] >= 0) & ~can[r, stand[held]]]
        stand[(wanted[r] == 0) | np.isin(stand, gone)] = -1
        free = can[r].copy()
        free[used] = False  # a name just sold is not bought back
        new = held[stand[held] < 0]
        if len(new) > free.sum():
            free = can[r].copy()
            free[stand[held][stand[held] >= 0]] = False
        stand[new] = rng.choice(np.flatnonzero(free), len(new), replace=False)
        out[r, stand[held]] = wanted[r, held]
    return out


def _wanted(
    weights: pd.DataFrame,  # (date, symbol): weight
    eligible: pd.DataFrame,  # bool, dates x symbols
) -> tuple[pd.DataFrame, np.ndarray]:  # weights and what may be held, [rebalances, symbols]; no weight is 0
    "Spread a portfolio beside what could have been held; raise DataError where fewer are eligible than are held."
    check_panel(weights, ["weight"])
    wide = to_wide(weights["weight"])
    can = eligible.reindex(index=wide.index, columns=eligible.columns.union(wide.columns), fill_value=False)
    wanted = wide.reindex(columns=can.columns).fillna(0.0)
    short = (wanted.to_numpy() != 0).sum(axis=1) - can.to_numpy().sum(axis=1)
    if len(short) and short.max() > 0:
        day = wide.index[int(np.argmax(short))]
        raise DataError(f"on {day:%Y-%m-%d} {short.max()} names more are held than are eligible; widen eligible")
    return wanted, can.to_numpy(dtype=bool)


def _other_names(
    wanted: pd.DataFrame,  # of _wanted
    can: np.ndarray,  # of _wanted
    seed: int | list[int],
) -> pd.DataFrame:  # (date, symbol): weight; a date that goes to cash stays a decision
    "Deal the weights of each rebalance to other names."
    out = _deal_names(wanted.to_numpy(), can, np.random.default_rng(seed))
    row, col = np.nonzero(out)
    idle = np.flatnonzero((out == 0).all(axis=1))
    row, col = np.concatenate([row, idle]), np.concatenate([col, np.full(len(idle), (wanted != 0).any().to_numpy().argmax())])
    order = np.lexsort((col, row))
    index = pd.MultiIndex.from_arrays([wanted.index[row[order]], wanted.columns[col[order]]], names=["date", "symbol"])
    return pd.DataFrame({"weight": out[row, col][order]}, index)


def random_weights(
    weights: pd.DataFrame,  # (date, symbol): weight, decided at the close of date
    eligible: pd.DataFrame,  # bool, dates x symbols: what could have been held, known at the close of date
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> pd.DataFrame:  # (date, symbol): weight, same dates, same weights, other names
    "Permute the names of a portfolio; raise DataError where fewer are eligible than are held."
    return _other_names(*_wanted(weights, eligible), seed)

#| export
def _mean_gross(
    account: Result,
    marks: np.ndarray,  # [dates, symbols], last known closes
) -> float:
    "Return what exposure() says of an account on average, without a table of its positions."
    b, fills = account.blotter, account.blotter.fills
    value = np.abs(_held(fills.session, fills.symbol, fills.quantity, b.close.shape) * marks)
    return float((np.nansum(value, axis=1)[b.first :] / account.equity.to_numpy()).mean())


def random_portfolios(
    weights: pd.DataFrame,  # (date, symbol): weight
    bars: pd.DataFrame,  # panel with open and close, total-return adjusted
    periods_per_year: float,  # 252 for trading days
    costs: Costs = DEFAULT_COSTS,  # charged on every fill of each portfolio
    eligible: pd.DataFrame | None = None,  # bool, dates x symbols; None = names with a close on the date
    draws: int = 200,  # random portfolios
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> (
    pd.DataFrame
):  # by portfolio ("run", 1, 2 ...): annual_return, sharpe, max_drawdown, turnover (a year), exposure (gross)
    "Trade a portfolio and others of other names, by one engine at one cost; knowable after the last close."
    eligible = to_wide(bars["close"]).notna() if eligible is None else eligible
    wanted, prices, rows = _wanted(weights, eligible), _prices(bars, costs, DEFAULT_FILL), {}
    marks = pd.DataFrame(prices[2]).ffill().to_numpy()
    for number in range(draws + 1):
        account = _traded(_other_names(*wanted, [seed, number]) if number else weights, bars, prices, costs)
        r = account.returns
        row = {"annual_return": annual_return(r, periods_per_year), "sharpe": sharpe(r, periods_per_year)}
        row |= {"max_drawdown": max_drawdown(r), "turnover": account.turnover.mean() * periods_per_year}
        rows[number or "run"] = row | {"exposure": _mean_gross(account, marks)}
    return pd.DataFrame(rows).T.rename_axis("portfolio")


def against_random(
    table: pd.DataFrame,  # from random_portfolios
) -> (
    pd.DataFrame
):  # by figure: value, mean, se (spread of the random ones), low, high, p (one-sided, the run counted once)
    "Rank a run among its random portfolios; p is the share that does at least as well, NaN where more is not better."
    run, others = table.loc["run"], table.drop(index="run")
    spread = {
        "value": run,
        "mean": others.mean(),
        "se": others.std(),
        "low": others.quantile(0.025),
        "high": others.quantile(0.975),
    }
    better = (1 + (others >= run).sum()) / (1 + len(others))
    return pd.DataFrame(spread).assign(p=better.drop(["turnover", "exposure"])).where(run.notna(), np.nan, axis=0)

#| export
def _moved(
    value: object,
    factor: float,
) -> object:  # None where nothing can move
    "Move a number by a factor, whole numbers by at least 1 and never below 1."
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, (int, float, np.integer, np.floating))
        or value == 0
    ):
        return None
    if isinstance(value, (float, np.floating)):
        return float(value * factor)
    near = int(round(value * factor))
    near = near if near != value else int(value) + (1 if factor > 1 else -1)
    return near if near >= 1 or value < 0 else None

#| export
def perturb(
    function: Callable[..., pd.Series],  # parameters by name -> returns by date, after costs
    parameters: dict[str, object],  # the run's own; what is not a number stays
    periods_per_year: float,  # 252 for trading days
    step: float = 0.2,  # relative move, down and up
    draws: int = 300,  # resampled histories behind an error
    seed: int = 7,  # of the drawing; the same seed gives the same draws
) -> pd.DataFrame:  # parameter, setting, sharpe, change (of the Sharpe ratio), se (of the change); row 0 is the run
    "Run every neighbour of a parameter set; what the function raises is raised."
    if not 0 < step < 1:
        raise ConfigError(f"step is {step}; give a relative move between 0 and 1, 0.2 for 20 %")
    from arch.bootstrap import StationaryBootstrap

    base = function(**parameters).dropna().astype(float)
    rows = [{"parameter": "run", "setting": None, "sharpe": sharpe(base, periods_per_year), "change": 0.0, "se": 0.0}]
    for name, value in parameters.items():
        for setting in filter(lambda x: x is not None, (_moved(value, 1 - step), _moved(value, 1 + step))):
            r = function(**{**parameters, name: setting}).dropna().astype(float)
            both = pd.concat([base, r], axis=1, join="inner").to_numpy()
            se = np.nan
            if len(both) >= 10:
                blocks = StationaryBootstrap(block_length(both[:, 0]), both, seed=seed)
                se = blocks.apply(
                    lambda x: sharpe(x[:, 1], periods_per_year) - sharpe(x[:, 0], periods_per_year), draws
                ).std(ddof=1)
            ratio = sharpe(r, periods_per_year)
            rows.append(
                {"parameter": name, "setting": setting, "sharpe": ratio, "change": ratio - rows[0]["sharpe"], "se": se}
            )
    return pd.DataFrame(rows).assign(setting=pd.Series([row["setting"] for row in rows], dtype=object))

#| export
def fragility(
    table: pd.DataFrame,  # from perturb
) -> (
    pd.Series
):  # sharpe, mean_near, spread, worst, loss (share of the run's ratio), t (change over its error), parameter, setting
    "Sum up a perturbation by its worst neighbour; NaN without neighbours."
    run, near = table["sharpe"].iloc[0], table.iloc[1:]
    if near["sharpe"].notna().sum() == 0:
        return pd.Series(
            {
                "sharpe": run,
                **dict.fromkeys(["mean_near", "spread", "worst", "loss", "t"], np.nan),
                "parameter": "",
                "setting": None,
            }
        )
    worst = near.loc[near["sharpe"].idxmin()]
    loss, t = (
        -worst["change"] / abs(run) if run else np.nan,
        worst["change"] / worst["se"] if worst["se"] > 0 else np.nan,
    )
    head = {
        "sharpe": run,
        "mean_near": near["sharpe"].mean(),
        "spread": near["sharpe"].std(),
        "worst": worst["sharpe"],
        "loss": loss,
        "t": t,
    }
    return pd.Series(head | {"parameter": worst["parameter"], "setting": worst["setting"]})

#| export
def market_regimes(
    close: pd.Series,  # a market's total-return closes by date, positive
    bear: float = 0.2,  # fall from a high
    lookback: int = 21,  # sessions behind the volatility
    crash: tuple[float, int] = (0.1, 10),  # loss, within so many sessions
) -> pd.DataFrame:  # bool by date: bull, bear, high_volatility, crash; with hindsight, for judging only
    "Date a market's weather from its whole history."
    if not (close > 0).all() or not close.index.is_monotonic_increasing or not close.index.is_unique:
        raise PanelError("closes must be positive, sorted and one a date; drop what is missing")
    r = close.pct_change(fill_method=None).iloc[1:]
    falls = drawdowns(r, n=len(r))
    bears = pd.Series(False, close.index)
    for fall in falls[falls["depth"] <= -bear].itertuples():
        bears.loc[fall.start : fall.trough] = True
    roughness = r.rolling(lookback).std().reindex(close.index)
    drop = (close / close.shift(crash[1]) - 1 <= -crash[0]).astype(float)
    crashed = drop[::-1].rolling(crash[1], min_periods=1).max()[::-1] > 0
    return pd.DataFrame(
        {"bull": ~bears, "bear": bears, "high_volatility": roughness > roughness.quantile(0.8), "crash": crashed},
        index=close.index,
    )

#| export
def stress(
    returns: pd.Series,  # decimal, by date, after costs
    regimes: pd.DataFrame,  # bool by date, from market_regimes
    periods_per_year: float,  # 252 for trading days
    lag: int = 10,  # sessions of memory in the error of the mean
) -> pd.DataFrame:  # by regime: n (sessions), spells, mean (a year), se, sharpe, sharpe_se, worst_day, total
    "Judge a run window by window; NaN below 2 sessions. Null: a mean of 0."
    rows, root = {}, np.sqrt(periods_per_year)
    r = returns.dropna().astype(float)
    for name in regimes:
        check_zones(returns=r, regimes=regimes)
        flag = regimes[name].reindex(r.index, fill_value=False).astype(bool)
        x, spells = r[flag], int((flag & ~flag.shift(fill_value=False)).sum())
        rows[name] = {
            "n": len(x),
            "spells": spells,
            "total": np.prod(1 + x) - 1 if len(x) else np.nan,
            "worst_day": x.min(),
        }
        if len(x) > 1:
            error = newey_west(x.to_numpy(), lag) * periods_per_year
            rows[name] |= {
                "mean": x.mean() * periods_per_year,
                "se": error,
                "sharpe": sharpe(x, periods_per_year),
                "sharpe_se": sharpe_error(x) * root,
            }
    columns = ["n", "spells", "mean", "se", "sharpe", "sharpe_se", "worst_day", "total"]
    return pd.DataFrame(rows).T.reindex(columns=columns).rename_axis("regime")
