"""Engines with a planted leak in their fills, and their clean twins: pairs of (weights, bars) -> account."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd

from quantlab.core.panel import to_wide

COST = 0.0005


def account(
    weights: pd.DataFrame,
    bars: pd.DataFrame,
    lag: int = 1,  # sessions from the decision to the fill
    price: Callable = lambda b, t: b["open"][t],  # of the fill
    blocked: Callable = lambda b, t: np.zeros(b["open"].shape[1], bool),  # names that do not trade
    value: Callable = lambda b, t: b["close"][t - 1],  # what sizes the order
) -> SimpleNamespace:
    "Keep an account with fractional shares and a proportional commission; names without a price do not trade."
    wide = {c: to_wide(bars[c]) for c in ("open", "high", "low", "close")}
    dates, names = wide["close"].index, wide["close"].columns
    b = {c: w.to_numpy() for c, w in wide.items()}
    mark, shares, cash, rows, equity = wide["close"].ffill().to_numpy(), np.zeros(len(names)), 1e6, [], []
    targets = {
        date: part.droplevel("date").reindex(names).fillna(0.0).to_numpy()
        for date, part in weights["weight"].groupby("date")
    }
    for t in range(len(dates)):
        wanted = targets.get(dates[t - lag]) if t >= max(lag, 1) else None
        if wanted is not None:
            sizing, paid = np.where(np.isnan(value(b, t)), mark[t - 1], value(b, t)), price(b, t)
            worth = cash + np.nansum(shares * sizing)
            order = np.where(np.isnan(sizing) | np.isnan(paid) | blocked(b, t), 0.0, wanted * worth / sizing - shares)
            for i in np.flatnonzero(order):
                fee = abs(order[i]) * paid[i] * COST
                rows.append((dates[t], names[i], order[i], paid[i], fee))
                cash -= order[i] * paid[i] + fee
            shares = shares + order
        equity.append(cash + np.nansum(shares * mark[t]))
    trades = pd.DataFrame(rows, columns=["date", "symbol", "quantity", "price", "commission"]).astype({"symbol": "str"})
    return SimpleNamespace(trades=trades, equity=pd.Series(equity, dates), closed=trades.iloc[:0])


def with_(**options) -> Callable:
    return lambda weights, bars: account(weights, bars, **options)


def at_limit(b, t, day):
    "Say which names closed 4 % up or down on a day."
    return (
        ~(np.abs(b["close"][day] / b["close"][day - 1] - 1) < 0.04) if day > 0 else np.zeros(b["close"].shape[1], bool)
    )


def spread(b, t, day):
    "Return the open and a tenth of the range of a day, as a share of its close, on top."
    return b["open"][t] * (1 + 0.1 * np.nan_to_num((b["high"][day] - b["low"][day]) / b["close"][day]))


def best_of_next(b, t):
    "Return the lower of this open and the next one."
    return np.fmin(b["open"][t], b["open"][min(t + 1, len(b["open"]) - 1)])


@dataclass(frozen=True)
class Pair:
    "One mistake of an engine and the honest way to do the same."

    name: str
    leak: Callable
    twin: Callable
    seen: str  # where it was found


PAIRS = [
    Pair("same-bar fill", with_(lag=0), with_(lag=1), "signals of a bar filled at that bar's own open"),
    Pair(
        "same-bar fill at the close",
        with_(lag=0, price=lambda b, t: b["close"][t], value=lambda b, t: b["close"][t]),
        with_(),
        "weights times the same day's return",
    ),
    Pair(
        "same-day limit flag",
        with_(blocked=lambda b, t: at_limit(b, t, t)),
        with_(blocked=lambda b, t: at_limit(b, t, t - 1)),
        "a limit seen at the close blocks a fill at the open",
    ),
    Pair(
        "slippage from the day's close",
        with_(price=lambda b, t: b["open"][t] + 0.1 * np.abs(b["close"][t] - b["open"][t])),
        with_(price=lambda b, t: b["open"][t] * (1 + COST)),
        "slippage as a share of the day's move",
    ),
    Pair(
        "slippage from the day's range",
        with_(price=lambda b, t: spread(b, t, t)),
        with_(price=lambda b, t: spread(b, t, t - 1)),
        "slippage from the range of the bar it fills in",
    ),
    Pair(
        "future fill bar",
        with_(price=lambda b, t: b["open"][min(t + 1, len(b["open"]) - 1)]),
        with_(),
        "an off-by-one in the fill index",
    ),
    Pair(
        "the better of two opens",
        with_(price=best_of_next),
        with_(),
        "a fill that waits for a better price and knows it comes",
    ),
    Pair(
        "the middle of the day",
        with_(price=lambda b, t: (b["high"][t] + b["low"][t]) / 2),
        with_(),
        "a price inside the bar for an order at the open",
    ),
    Pair(
        "sized on the day's close",
        with_(value=lambda b, t: b["close"][t]),
        with_(),
        "shares from the close after the fill",
    ),
]
