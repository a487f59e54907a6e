#| export
import numpy as np
import pandas as pd

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import to_wide

#| export
def complete_returns(
    bars: pd.DataFrame,  # (date, symbol): close, adjusted
) -> pd.DataFrame:  # date x symbol, decimal; symbols with a close on every date
    "Return the returns of the symbols without holes; raise DataError where none has every date."
    close = to_wide(bars["close"])
    whole = close.loc[:, (close > 0).all()]
    if whole.shape[1] == 0 or len(whole) < 2:
        raise DataError(f"none of {close.shape[1]} symbols has a close on all {len(close)} dates; take fewer years")
    return whole.pct_change().iloc[1:]

#| export
def day_shapes(
    bars: pd.DataFrame,  # date: open, high, low, close, volume of one symbol, without holes
) -> pd.DataFrame:  # by date, from the second: move, gap, above, below, volume (over its median); knowable at the close
    "Describe the days of one symbol by what is inside them; raise DataError for fewer than 100."
    before = bars["close"].shift()
    body_high, body_low = bars[["open", "close"]].max(axis=1), bars[["open", "close"]].min(axis=1)
    usual = bars["volume"].replace(0, np.nan).rolling(60, min_periods=1).median().shift()
    out = pd.DataFrame({"move": bars["close"] / before - 1, "gap": np.log(bars["open"] / before)})
    out["above"] = np.log(bars["high"] / body_high).clip(lower=0)
    out["below"] = np.log(body_low / bars["low"]).clip(lower=0)
    out["volume"] = (bars["volume"] / usual).fillna(1.0)
    out = out.iloc[1:].replace([np.inf, -np.inf], np.nan).dropna()
    if len(out) < 100:
        raise DataError(f"{len(out)} whole days; shapes need 100 or more")
    return out


def borrowed_rows(
    moves: np.ndarray,  # float64[day], made returns
    real: np.ndarray,  # float64[n], returns of real days
    rng: np.random.Generator,
    near: int = 10,  # ranks on each side that may be taken
) -> np.ndarray:  # int64[day], rows of real days
    "Choose for each made day a real one whose return has nearly the same rank."
    order = np.argsort(real, kind="stable")
    rank = np.searchsorted(real[order], moves) + rng.integers(-near, near + 1, len(moves))
    return order[np.clip(rank, 0, len(real) - 1)]

#| export
MARK = "SYN_"  # in front of every made symbol, so that no file of made bars passes for real ones


def _one_path(moves: pd.Series, bars: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:  # by date
    "Lay bars around the made returns of one symbol."
    shapes = day_shapes(bars)
    shape = shapes.iloc[borrowed_rows(moves.to_numpy(), shapes["move"].to_numpy(), rng)].to_numpy().T
    close = bars["close"].iloc[-1] * np.cumprod(1 + moves.to_numpy())
    before = np.concatenate([[bars["close"].iloc[-1]], close[:-1]])
    open_ = before * np.exp(shape[1])
    high, low = np.maximum(open_, close) * np.exp(shape[2]), np.minimum(open_, close) * np.exp(-shape[3])
    volume = np.round(shape[4] * bars["volume"].iloc[-60:].median())
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame(columns, moves.index)


def made_bars(
    bars: pd.DataFrame,  # (date, symbol): open, high, low, close, volume, adjusted: the real ones
    made: pd.DataFrame,  # date x symbol, decimal: one path of a generator fitted on these symbols
    seed: int = 7,  # of the borrowed days
) -> pd.DataFrame:  # (date, symbol) bars; symbols marked SYN_; dates are those of made
    "Make bars of made returns; raise DataError for symbols that are not there, ConfigError for a return of -1 or less."
    strange = [name for name in made.columns if name not in bars.index.unique("symbol")]
    if strange:
        raise DataError(f"made returns of {strange[:5]} have no real bars; fit the generator on these bars")
    if not (np.isfinite(made.to_numpy()) & (made.to_numpy() > -1)).all():
        raise ConfigError("made returns must be finite and above -1; a price cannot fall below nothing")
    parts, rng = {}, np.random.default_rng(seed)
    for name in made.columns:
        real = bars.xs(name, level="symbol")[["open", "high", "low", "close", "volume"]]
        parts[f"{MARK}{name}"] = _one_path(made[name], real, rng)
    out = pd.concat(parts, names=["symbol", "date"]).swaplevel().sort_index()
    out.attrs["synthetic"] = True
    return out
