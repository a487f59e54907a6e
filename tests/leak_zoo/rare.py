"""Leaks that hide: on few dates, in text, in memory, or from whoever watches; each beside its clean twin.

A leak on few dates is the honest 10-day gap except on those dates, where it is tomorrow's return; its twin takes
yesterday's. What a function remembers, and who watches it, is planted in the ways that Python offers.
"""

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import loaded
import numpy as np
import pandas as pd
from zoo import returns, wide

from quantlab.core.audit import LEAK, NOT_ASSESSED
from quantlab.core.panel import to_long, to_wide

Feature = Callable[[pd.DataFrame], pd.DataFrame | pd.Series]


@dataclass(frozen=True)
class Hidden:
    "One hidden mistake and the honest way to do the same."

    name: str
    leak: Feature
    twin: Feature
    verdict: str = LEAK  # on the leak; NOT_ASSESSED where it cannot be told from noise or from a stranger's file


# on few dates


def on_days(days: Callable[[pd.DataFrame], np.ndarray | pd.DataFrame], ahead: int) -> Feature:
    "The gap to the 10-day mean; on some days the return of tomorrow (ahead 1) or of today (ahead 0)."

    def feature(w: pd.DataFrame) -> pd.DataFrame:
        chosen = np.asarray(days(w))
        chosen = chosen if chosen.ndim == 2 else np.broadcast_to(chosen[:, None], w.shape)
        return pd.DataFrame(
            np.where(chosen, returns(w).shift(-ahead), w / w.rolling(10).mean() - 1), w.index, w.columns
        )

    return wide(feature)


def days_of(name: str, days: Callable) -> Hidden:
    return Hidden(name, on_days(days, 1), on_days(days, 0))


def last_business_day(rule: str) -> Callable[[pd.DataFrame], np.ndarray]:
    "The last weekday of a month, quarter or year, by the calendar alone."
    return lambda w: (
        w.index.isin(w.index + pd.tseries.frequencies.to_offset(rule) - pd.tseries.frequencies.to_offset(rule))
        & (w.index.day > 20)
    )


def wild(w: pd.DataFrame, together: bool) -> np.ndarray | pd.DataFrame:
    size = returns(w).abs()
    size = size.mean(axis=1) if together else size
    return size > size.rolling(60, min_periods=30).quantile(0.97)


def reversed_order(panel: pd.DataFrame, whole: bool) -> pd.Series:
    "Rows of each date ordered by the close: of the whole sample, or of the date."
    key = panel["close"].groupby(level="symbol").transform("mean") if whole else panel["close"]
    order = np.lexsort((key.to_numpy(), panel.index.get_level_values("date")))
    return panel["close"].iloc[order]


def quantised(w: pd.DataFrame, whole: bool) -> pd.DataFrame:
    top = w.max() if whole else w.cummax()
    return (w / top * 127).round()


def last_rows(w: pd.DataFrame, whole: bool) -> pd.DataFrame:
    "The last five dates carry the mean of those five, or the running one."
    out = w / w.rolling(10).mean() - 1
    if whole and len(out) > 5:
        out.iloc[-5:] = out.iloc[-5:].mean().to_numpy()
    return out


def ranked(w: pd.DataFrame, ahead: int, every: int) -> pd.DataFrame:
    "A rank across names; every so many days of the return of tomorrow or today."
    chosen = (w.index.day_of_year % every == 0)[:, None]
    return pd.DataFrame(np.where(chosen, returns(w).shift(-ahead), w / w.shift(5) - 1), w.index, w.columns).rank(
        axis=1, pct=True
    )


def centred_forever(w: pd.DataFrame, ahead: int) -> pd.DataFrame:
    "The gap to the running mean of the whole market, which remembers for ever; at month ends tomorrow's return."
    gap = w.sub(w.expanding().mean().mean(axis=1), axis=0)
    return gap.where(~last_business_day("BME")(w)[:, None] & np.ones(w.shape, dtype=bool), returns(w).shift(-ahead))


def only_for(name: str, ahead: int) -> Feature:
    def feature(w: pd.DataFrame) -> pd.DataFrame:
        out = w / w.rolling(10).mean() - 1
        return out.assign(**{name: returns(w)[name].shift(-ahead)}) if name in out else out

    return wide(feature)


RARE = [
    days_of("month ends", last_business_day("BME")),
    days_of("year ends", last_business_day("BYE")),
    days_of("one day in 50", lambda w: np.arange(len(w)) % 50 == 49),
    days_of("one day in 97", lambda w: np.arange(len(w)) % 97 == 13),
    days_of("one day a year", lambda w: (w.index.month == 9) & (w.index.day == 10)),
    days_of("wild days of the market", lambda w: wild(w, True)),
    days_of("wild days of a name", lambda w: wild(w, False)),
    days_of("days after a gap", lambda w: w.shift(1).isna() & w.notna()),
    Hidden("last rows", wide(lambda w: last_rows(w, True)), wide(lambda w: last_rows(w, False))),
    Hidden("one name", only_for("S3", 1), only_for("S3", 0)),
    Hidden("a rank, one day in 41", wide(lambda w: ranked(w, 1, 41)), wide(lambda w: ranked(w, 0, 41))),
    Hidden(
        "a market that remembers, at month ends",
        wide(lambda w: centred_forever(w, 1)),
        wide(lambda w: centred_forever(w, 0)),
    ),
    Hidden(
        "a big jump tomorrow",
        wide(lambda w: (returns(w).shift(-1) > 0.05).astype(float) + w),
        wide(lambda w: (returns(w) > 0.05).astype(float) + w),
    ),
]


# in holes, order, types and text


def direction(panel: pd.DataFrame, ahead: int) -> pd.Series:
    close = to_wide(panel["close"])
    return to_long(returns(close).shift(-ahead), panel.index, name="x")


def words(panel: pd.DataFrame, ahead: int, kind: str) -> pd.Series:
    move = direction(panel, ahead)
    return pd.Series(np.where(move.isna(), None, np.where(move > 0, "up", "down")), panel.index, name="word").astype(
        kind
    )


def mood(panel: pd.DataFrame, ahead: int) -> pd.Series:
    "A number made of a column of text."
    text = panel.assign(mood=np.where(panel["close"] > panel["open"], "calm", "wild"))
    return text.groupby(level="symbol")["mood"].shift(-ahead).eq("calm").astype(float)


def codes(panel: pd.DataFrame, whole: bool) -> pd.Series:
    "The number of a price level: among the levels of the whole sample, or a fixed one."
    level = np.log(panel["close"]).round(1)
    return level.astype("category").cat.codes.astype(float).rename("x") if whole else (level * 10).rename("x")


def chosen_columns(panel: pd.DataFrame, whole: bool) -> pd.DataFrame:
    close = to_wide(panel["close"])
    size = close.loc[:, close.mean().nlargest(3).index] if whole else close
    return size.rename_axis("date")


TYPES = [
    Hidden(
        "holes only", wide(lambda w: w.where(returns(w).shift(-1) > -0.03)), wide(lambda w: w.where(returns(w) > -0.03))
    ),
    Hidden("order of rows", lambda p: reversed_order(p, True), lambda p: reversed_order(p, False)),
    Hidden(
        "levels of the whole sample's scale", wide(lambda w: quantised(w, True)), wide(lambda w: quantised(w, False))
    ),
    Hidden("a column of text", lambda p: words(p, 1, "object"), lambda p: words(p, 0, "object")),
    Hidden("a column of categories", lambda p: words(p, 1, "category"), lambda p: words(p, 0, "category")),
    Hidden("codes of the whole sample's categories", lambda p: codes(p, True), lambda p: codes(p, False)),
    Hidden("text of tomorrow as a number", lambda p: mood(p, 1), lambda p: mood(p, 0)),
    Hidden("true or false", lambda p: direction(p, 1) > 0, lambda p: direction(p, 0) > 0),
    Hidden("how many rows there are", lambda p: p["close"] * len(p), lambda p: p["close"] * 2),
    Hidden("only on long panels", lambda p: direction(p, int(len(p) > 1200)), lambda p: direction(p, 0)),
    Hidden("columns chosen by the whole sample", lambda p: chosen_columns(p, True), lambda p: chosen_columns(p, False)),
]


# in memory

MEANS: dict = {}
SETTINGS = {"window": 10}
_KEPT = None
_BOOK: dict = {}


def in_a_global_dict(panel: pd.DataFrame) -> pd.Series:
    if "mean" not in MEANS:
        MEANS["mean"] = to_wide(panel["close"]).mean()
    close = to_wide(panel["close"])
    return to_long(close - MEANS["mean"].reindex(close.columns), panel.index, name="x")


def in_a_global_name(panel: pd.DataFrame) -> pd.Series:
    global _KEPT
    if _KEPT is None:
        _KEPT = float(panel["close"].mean())
    return panel["close"] - _KEPT


def longest_seen(panel: pd.DataFrame) -> pd.Series:
    "Keep the mean of the longest panel ever seen."
    if len(panel) > _BOOK.get("rows", 0):
        _BOOK.update(rows=len(panel), mean=float(panel["close"].mean()))
    return panel["close"] - _BOOK["mean"]


def in_a_default(panel: pd.DataFrame, kept: list = []) -> pd.Series:  # noqa: B006  # the mistake
    kept.append(panel["close"].mean())
    return panel["close"] - kept[0]


def in_an_attribute(panel: pd.DataFrame) -> pd.Series:
    if not hasattr(in_an_attribute, "mean"):
        in_an_attribute.mean = panel["close"].mean()
    return panel["close"] - in_an_attribute.mean


_NOW: dict = {}


@lru_cache
def mean_of(symbol: str) -> float:
    return float(_NOW["panel"]["close"].xs(symbol, level="symbol").mean())


def in_lru_cache(panel: pd.DataFrame) -> pd.Series:
    _NOW["panel"] = panel
    return panel["close"] - panel.index.get_level_values("symbol").map(mean_of)


class Scaler:
    "Learn from the first panel it sees; or from nothing."

    def __init__(self, learns: bool):
        self.learns, self.learned = learns, {}

    def __call__(self, panel: pd.DataFrame) -> pd.Series:
        if self.learns:
            self.learned.setdefault("mean", panel["close"].mean())
        return panel["close"] - self.learned.get("mean", 1.0)


def closure() -> Feature:
    kept = {}

    def feature(panel: pd.DataFrame) -> pd.Series:
        kept.setdefault("mean", panel["close"].mean())
        return panel["close"] - kept["mean"]

    return feature


FILE = Path(tempfile.gettempdir()) / "leak_zoo_means.pkl"


def in_a_file(panel: pd.DataFrame) -> pd.Series:
    if not FILE.exists():
        panel["close"].groupby(level="symbol").mean().to_pickle(FILE)
    means = pd.read_pickle(FILE)
    return panel["close"] - means.reindex(panel.index.get_level_values("symbol")).to_numpy()


def with_settings(panel: pd.DataFrame) -> pd.Series:
    "Read a table of settings, which is no memory."
    return to_long(to_wide(panel["close"]).rolling(SETTINGS["window"]).mean(), panel.index, name="x")


def counts_its_calls(panel: pd.DataFrame,
calls: list = []) -> pd.Series:  # noqa: B006  # it remembers, but uses nothing of it
    calls.append(len(panel))
    return panel["close"]


MEMORY = [
    Hidden("global dictionary", in_a_global_dict, with_settings),
    Hidden("global name", in_a_global_name, with_settings),
    Hidden("longest panel seen", longest_seen, with_settings),
    Hidden("mutable default", in_a_default, counts_its_calls),
    Hidden("attribute of the function", in_an_attribute, with_settings),
    Hidden("lru_cache", in_lru_cache, with_settings),
    Hidden("object that learns once", Scaler(True), Scaler(False)),
    Hidden("closure", closure(), with_settings),
    Hidden("file", in_a_file, with_settings, NOT_ASSESSED),
]


# from whoever watches


def leaks_if(free: Callable[[], bool]) -> Feature:
    def feature(panel: pd.DataFrame) -> pd.Series:
        return direction(panel, int(free()))

    return feature


def stack_is_free() -> bool:
    return not any(frame.filename.endswith("audit.py") for frame in inspect.stack(0))


def no_flag() -> bool:
    from quantlab.core.audit import auditing

    return not auditing()


def noisy(panel: pd.DataFrame,
rng: np.random.Generator = np.random.default_rng(0)) -> pd.Series:  # noqa: B008  # the mistake
    return panel["close"] + rng.normal(size=len(panel))


def seeded(panel: pd.DataFrame) -> pd.Series:
    noise = np.random.default_rng(0).normal(size=panel.index.get_level_values("symbol").nunique() + 1)
    return panel["close"] + noise[0]


WATCHED = [
    Hidden("looks at the stack", leaks_if(stack_is_free), leaks_if(lambda: False)),
    Hidden("looks at the flag", leaks_if(no_flag), leaks_if(lambda: False)),
    Hidden("looks at the loaded modules", loaded.leak, loaded.twin),
    Hidden("noise", noisy, seeded, NOT_ASSESSED),
]

HIDDEN = [*RARE, *TYPES, *MEMORY, *WATCHED]
