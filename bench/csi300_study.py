"""The published CSI 300 study: its rows, label, split, features, model and numbers, for the benchmark, the search and the report."""

from dataclasses import asdict, dataclass
from functools import cached_property

import lightgbm as lgb
import numpy as np
import pandas as pd
import qlib_files as files
from scipy.stats import norm, rankdata

from quantlab.core.panel import date_starts, to_wide
from quantlab.features.base import compute
from quantlab.features.sets import SETS
from quantlab.features.xsection import by_date, zscore
from quantlab.validation.scores import ic, rank_ic

START, TRAIN_END, VALID_END, TEST_END = "2008-01-01", "2014-12-31", "2016-12-31", "2020-08-01"
GAP = 2  # sessions that the published label reaches beyond its row
WARM_UP = 300  # sessions before START, for the longest extra feature
PUBLISHED = {
    "objective": "mse", "learning_rate": 0.2, "feature_fraction": 0.8879, "bagging_fraction": 0.8789, "lambda_l1": 205.6999,
    "lambda_l2": 580.9768, "max_depth": 8, "num_leaves": 210,
}  # fmt: skip
EXTRA = ("factors", "technical", "range_vol", "vol", "price")


def read_bars(warm_up: int = WARM_UP) -> pd.DataFrame:
    "Read the bars of every name, with rows for sessions without a trade."
    bars = files.read_bars(START, TEST_END, warm_up=warm_up)
    return bars


def label(bars: pd.DataFrame, horizon: int = 1) -> pd.Series:
    "Return Qlib's label, bought at the next close and sold `horizon` closes later, on the rows of the bars."
    close = to_wide(bars["close"])
    held = (close.shift(-1 - horizon) / close.shift(-1) - 1).to_numpy()
    row, col = (np.asarray(codes) for codes in bars.index.codes)
    return pd.Series(held[row, col], bars.index, name=f"y{horizon}")


def normal_score(y: pd.Series) -> pd.Series:
    "Replace outcomes by the normal quantiles of their ranks within the date."
    return by_date(y, lambda wide: pd.DataFrame(norm.ppf((wide.rank(axis=1) - 0.5).div(wide.count(axis=1), axis=0))))


def uniform_score(y: pd.Series) -> pd.Series:
    "Replace outcomes by their ranks within the date, mean 0 and variance 1."
    return by_date(y, lambda wide: ((wide.rank(axis=1) - 0.5).div(wide.count(axis=1), axis=0) - 0.5) * np.sqrt(12))


TARGETS = {"zscore": zscore, "normal": normal_score, "uniform": uniform_score}


def ranked(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    "Rank float32 columns within each date, NaN kept."
    out = np.empty_like(values)
    for a, b in zip(starts[:-1], starts[1:], strict=True):
        there = (~np.isnan(values[a:b])).sum(axis=0)
        out[a:b] = (rankdata(values[a:b], axis=0, nan_policy="omit") - 0.5) / np.maximum(there, 1) - 0.5
    return out


@dataclass
class Data:
    "Hold the rows of the index members: features and outcomes; each made when first asked for."

    bars: pd.DataFrame
    rows: np.ndarray

    @classmethod
    def read(cls) -> "Data":
        bars = read_bars()
        return cls(bars, files.members(bars, "csi300", START))

    @cached_property
    def index(self) -> pd.MultiIndex:
        return self.bars.index[self.rows]

    @cached_property
    def date(self) -> pd.DatetimeIndex:
        return self.index.get_level_values("date")

    def y(self, horizon: int = 1) -> pd.Series:
        return label(self.bars, horizon)[self.rows]

    @cached_property
    def raw(self) -> pd.DataFrame:
        return compute(self.bars, SETS["alpha158"], rows=self.rows, dtype="float32").drop(columns="VWAP0")

    @cached_property
    def extra(self) -> pd.DataFrame:
        bars = self.bars.astype("float64").assign(amount=lambda b: b["close"] * b["volume"])
        chosen = {f.name: f for name in EXTRA for f in SETS[name]}
        return compute(bars, list(chosen.values()), rows=self.rows, dtype="float32")

    def _ranked(self, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(ranked(frame.to_numpy(), date_starts(frame.index)[1]), frame.index, frame.columns).add_prefix("r_")

    @cached_property
    def rank(self) -> pd.DataFrame:
        return self._ranked(self.raw)

    @cached_property
    def extrarank(self) -> pd.DataFrame:
        return self._ranked(self.extra)

    def features(self, names: str) -> np.ndarray:
        "Return float32 columns of the sets in a name such as raw+rank."
        return np.hstack([getattr(self, name).to_numpy() for name in names.split("+")])

    def columns(self, names: str) -> list[str]:
        return [c for name in names.split("+") for c in getattr(self, name).columns]

    def span(self, first: str, last: str, gap: int = 0) -> np.ndarray:
        "Say which rows lie in a span of dates, its last `gap` sessions left out."
        days = self.date.unique()
        days = days[(days >= first) & (days <= last)]
        return (self.date >= days[0]) & (self.date <= days[len(days) - 1 - gap])


@dataclass(frozen=True)
class Config:
    "Describe one way to fit; everything that is searched."

    features: str = "raw"  # sets joined by +: raw, rank, extra, extrarank
    target: str = "normal"  # zscore, normal, uniform
    horizons: tuple = ((1, 1.0),)  # (sessions, share) of the outcomes that make the target
    start: str = START  # first training row
    half_life: float = 0.0  # years after which a row counts half; 0 = all alike
    learning_rate: float = 0.1
    num_leaves: int = 64
    feature_fraction: float = 0.3
    lambda_l1: float = 50.0
    lambda_l2: float = 200.0
    min_data: int = 200
    bagging: float = 1.0
    trees: int = 200  # at most
    patience: int = 40  # trees without a better rank IC
    max_bin: int = 63

    @property
    def gap(self) -> int:  # sessions between the last training row and the first that is judged
        "Return how far the longest outcome reaches."
        return 1 + max(horizon for horizon, _ in self.horizons)

    def parameters(self, seed: int, threads: int) -> dict:
        return {
            "objective": "mse", "metric": "None", "verbosity": -1, "deterministic": True, "force_col_wise": True, "seed": seed, "num_threads": threads,
            "learning_rate": self.learning_rate, "num_leaves": self.num_leaves, "feature_fraction": self.feature_fraction, "lambda_l1": self.lambda_l1,
            "lambda_l2": self.lambda_l2, "min_data_in_leaf": self.min_data, "bagging_fraction": self.bagging, "bagging_freq": int(self.bagging < 1),
            "max_bin": self.max_bin, "feature_pre_filter": False,
        }  # fmt: skip

    def plain(self) -> dict:
        return asdict(self) | {"horizons": [list(h) for h in self.horizons]}


def target(data: Data, config: Config) -> np.ndarray:
    "Return what is fitted: the blend of the outcomes, each put on one scale within its date; NaN where the one-day outcome is."
    blend = sum(share * np.nan_to_num(TARGETS[config.target](data.y(horizon)).to_numpy()) for horizon, share in config.horizons)
    return np.where(data.y().notna(), blend, np.nan)


def weights(data: Data, config: Config, last: str) -> np.ndarray | None:
    "Return row weights that halve with age, or none."
    if not config.half_life:
        return None
    years = (pd.Timestamp(last) - data.date).days / 365.25
    return 0.5 ** (np.asarray(years) / config.half_life)


def mean_rank_ic(y: pd.Series):
    "Return a LightGBM metric: the mean rank IC by date of a segment's rows."
    index = y.index

    def metric(scores, _):
        return "rank_ic", float(rank_ic(pd.Series(scores, index), y).mean()), True

    return metric


def train(data: Data, config: Config, train_rows: np.ndarray, valid_rows: np.ndarray | None, seed: int = 0, threads: int = 1, trees: int | None = None, binned: dict | None = None) -> lgb.Booster:
    "Fit one booster, stopped early on the rank IC of the validation rows when there are any."
    X, y = data.features(config.features), target(data, config)
    use = train_rows & np.isfinite(y)
    parameters = config.parameters(seed, threads)
    weight = weights(data, config, str(data.date[train_rows].max()))
    key = (config.features, config.start, str(data.date[train_rows].max()), config.max_bin)
    binned = {} if binned is None else binned
    if key not in binned:
        binned.clear()
        binned[key] = lgb.Dataset(X[use], y[use], params=parameters, free_raw_data=False).construct(), use
    dataset, same = binned[key]
    if not (same == use).all():
        raise RuntimeError("rows of a stored data set differ")
    dataset.set_label(y[use])
    dataset.set_weight(None if weight is None else weight[use])
    if valid_rows is None:
        return lgb.train(parameters, dataset, trees)
    watched = data.y().to_numpy()
    seen = valid_rows & np.isfinite(watched)
    held = lgb.Dataset(X[seen], watched[seen], reference=dataset, params=parameters)
    stop = lgb.early_stopping(config.patience, verbose=False)
    return lgb.train(parameters, dataset, config.trees, [held], feval=mean_rank_ic(data.y()[seen]), callbacks=[stop])


def numbers(scores: pd.Series, y: pd.Series) -> dict[str, float]:
    "Return Qlib's four correlations of scores and outcomes."
    a, b = ic(scores, y).dropna(), rank_ic(scores, y).dropna()
    found = {"ic": a.mean(), "icir": a.mean() / a.std(), "rank_ic": b.mean(), "rank_icir": b.mean() / b.std()}
    return {name: float(value) for name, value in found.items()}
