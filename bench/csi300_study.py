"""The published CSI 300 study: its rows, label, split, features, model and numbers, for the benchmark, the searches
and the report. Store, universe and years are a `Market`: another one runs through the same code."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import qlib_files as files
from scipy.stats import norm, rankdata

from quantlab.backtest.costs import QLIB_COSTS
from quantlab.backtest.orders import from_rule
from quantlab.broker.blotter import Result
from quantlab.broker.fill_model import same_close
from quantlab.broker.rules import QLIB_RULES
from quantlab.core.panel import date_starts, grid, to_long, to_wide
from quantlab.features.base import compute
from quantlab.features.sets import SETS
from quantlab.features.xsection import by_date, neutralise, rank, zscore
from quantlab.portfolio.topk_drop import TopKDrop
from quantlab.validation.scores import ic, rank_ic

START, TRAIN_END, VALID_END, TEST_END = "2008-01-01", "2014-12-31", "2016-12-31", "2020-08-01"
LAST = "2020-08-31"  # bars are read a little further, for the outcomes of the last rows


@dataclass(frozen=True)
class Market:
    "Name the store, its universe and index, and the first and last session that are read."

    store: Path = files.CSI300
    universe: str = "csi300"
    index: str = "SH000300"
    start: str = START  # first row that is learned from
    last: str = LAST  # last bar that is read
    year: float = 238.0  # sessions


GAP = 2  # sessions that the published label reaches beyond its row
WARM_UP = 300  # sessions before START, for the longest extra feature
PUBLISHED = {
    "objective": "mse", "learning_rate": 0.2, "feature_fraction": 0.8879, "bagging_fraction": 0.8789,
    "lambda_l1": 205.6999,
    "lambda_l2": 580.9768, "max_depth": 8, "num_leaves": 210,
}  # fmt: skip
EXTRA = ("factors", "technical", "range_vol", "vol", "price")


def label(bars: pd.DataFrame, horizon: int = 1) -> pd.Series:
    "Return Qlib's label, bought at the next close and sold `horizon` closes later, on the rows of the bars."
    close = to_wide(bars["close"])
    return to_long(close.shift(-1 - horizon) / close.shift(-1) - 1, bars.index, name=f"y{horizon}")


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
    """Hold the rows of index members, or of all that have been members by then: features and outcomes; each made
    when first asked for."""

    bars: pd.DataFrame
    rows: np.ndarray  # bool by row of the bars: what is kept
    member: np.ndarray  # bool by kept row: a member on that day
    kind: str = "member"  # or "ever"

    @classmethod
    def read(cls, rows: str = "member", warm_up: int = WARM_UP, market: Market | None = None) -> "Data":
        m = market or Market()
        bars = files.read_bars(m.start, m.last, warm_up=warm_up, root=m.store)
        member = files.members(bars, m.universe, m.start, m.store)
        kept = member if rows == "member" else pd.Series(member).groupby(grid(bars.index).col).cummax().to_numpy()
        return cls(bars, kept, member[kept], rows)

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
        priced = [f for f in SETS["alpha158"] if f.name != "VWAP0"]  # these bars have no vwap
        return compute(self.bars, priced, rows=self.rows, dtype="float32")

    @cached_property
    def extra(self) -> pd.DataFrame:
        bars = self.bars.astype("float64").assign(amount=lambda b: b["close"] * b["volume"])
        chosen = {f.name: f for name in EXTRA for f in SETS[name]}
        return compute(bars, list(chosen.values()), rows=self.rows, dtype="float32")

    def _ranked(self, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            ranked(frame.to_numpy(), date_starts(frame.index)[1]), frame.index, frame.columns
        ).add_prefix("r_")

    @cached_property
    def rank(self) -> pd.DataFrame:
        return self._ranked(self.raw)

    @cached_property
    def extrarank(self) -> pd.DataFrame:
        return self._ranked(self.extra)

    @cached_property
    def neutral(self) -> pd.DataFrame:
        "Ranks, holes in the middle, less what the date's ranks of traded amount and of volatility say of them."
        bars = self.bars.assign(amount=self.bars["close"] * self.bars["volume"])
        chosen = [f for name in ("price", "vol") for f in SETS[name] if f.name in ("amount_21", "std_60")]
        styles = compute(bars, chosen, rows=self.rows, dtype="float32")
        left = neutralise(rank(self.raw).fillna(0), exposures=rank(styles).fillna(0))
        return left.astype("float32").add_prefix("r_")

    def features(self, names: str) -> np.ndarray:
        "Return float32 columns of the sets in a name such as raw+rank; the last answer is kept."
        if getattr(self, "_last", ("", None))[0] != names:
            parts = [getattr(self, name).to_numpy() for name in names.split("+")]
            self._last = names, parts[0] if len(parts) == 1 else np.hstack(parts)
        return self._last[1]

    def columns(self, names: str) -> list[str]:
        return [c for name in names.split("+") for c in getattr(self, name).columns]

    def span(self, first: str, last: str, gap: int = 0) -> np.ndarray:
        "Say which rows lie in a span of dates, its last `gap` sessions left out."
        days = self.date.unique()
        days = days[(days >= first) & (days <= last)]
        return np.asarray((self.date >= days[0]) & (self.date <= days[len(days) - 1 - gap]))

    def judged(self, first: str, last: str, gap: int = 0) -> np.ndarray:
        "Say which rows of a span are members on their day."
        return self.span(first, last, gap) & self.member


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
    rows: str = "member"  # what is trained on: members of the day, or "ever": names that have been members by then

    @property
    def gap(self) -> int:  # sessions between the last training row and the first that is judged
        "Return how far the longest outcome reaches."
        return 1 + max(horizon for horizon, _ in self.horizons)

    def parameters(self, seed: int, threads: int) -> dict:
        return {
            "objective": "mse", "metric": "None", "verbosity": -1, "deterministic": True, "force_col_wise": True,
            "seed": seed, "num_threads": threads,
            "learning_rate": self.learning_rate, "num_leaves": self.num_leaves,
            "feature_fraction": self.feature_fraction, "lambda_l1": self.lambda_l1,
            "lambda_l2": self.lambda_l2, "min_data_in_leaf": self.min_data, "bagging_fraction": self.bagging,
            "bagging_freq": int(self.bagging < 1),
            "max_bin": self.max_bin, "feature_pre_filter": False, "bin_construct_sample_cnt": 100_000,
        }  # fmt: skip

    def plain(self) -> dict:
        return asdict(self) | {"horizons": [list(h) for h in self.horizons]}


def target(data: Data, config: Config) -> np.ndarray:
    """Return what is fitted: the blend of the outcomes, each put on one scale within its date; NaN where the one-day
    outcome is."""
    blend = sum(
        share * np.nan_to_num(TARGETS[config.target](data.y(horizon)).to_numpy()) for horizon, share in config.horizons
    )
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


class Rows(lgb.Sequence):
    "Hand rows of a matrix to LightGBM piece by piece, so that no second matrix is made."

    batch_size = 16384

    def __init__(self, values: np.ndarray, rows: np.ndarray):
        self.values, self.rows = values, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at):
        found = self.values[self.rows[at]]
        return found.astype("float64") if found.ndim == 1 else np.ascontiguousarray(found)


def train(
    data: Data,
    config: Config,
    train_rows: np.ndarray,  # bool by row
    valid_rows: np.ndarray | None,  # bool by row; None = grow `trees` trees
    seed: int = 0,
    threads: int = 1,
    trees: int | None = None,
    binned: dict | None = None,  # kept between calls: the binned rows, for the next seed
) -> lgb.Booster:
    "Fit one booster, stopped early on the rank IC of the validation rows when there are any."
    X, y = data.features(config.features), target(data, config)
    use = train_rows & np.isfinite(y)
    parameters = config.parameters(seed, threads)
    weight = weights(data, config, str(data.date[train_rows].max()))
    key = (config.rows, config.features, config.start, str(data.date[train_rows].max()), config.max_bin)
    binned = {} if binned is None else binned
    if key not in binned:
        binned.clear()
        binned[key] = lgb.Dataset(Rows(X, np.flatnonzero(use)), y[use], params=parameters).construct(), use
    dataset, same = binned[key]
    if not (same == use).all():
        raise RuntimeError("rows of a stored data set differ")
    dataset.set_label(y[use])
    dataset.set_weight(None if weight is None else weight[use])
    if valid_rows is None:
        return lgb.train(parameters, dataset, trees)
    watched = data.y().to_numpy()
    seen = valid_rows & np.isfinite(watched)
    held = lgb.Dataset(Rows(X, np.flatnonzero(seen)), watched[seen], reference=dataset, params=parameters)
    stop = lgb.early_stopping(config.patience, verbose=False)
    return lgb.train(parameters, dataset, config.trees, [held], feval=mean_rank_ic(data.y()[seen]), callbacks=[stop])


def train_published(
    data: Data,
    seed: int,
    gap: int = 0,  # sessions left out before each border: GAP purges both
    threads: int = 1,
    max_bin: int = 255,
    sorted_columns: bool = False,  # True: one matrix, columns by name, one histogram layout, as models.gbm fits
    horizon: int = 1,  # sessions of the outcome
    rows: tuple[np.ndarray, np.ndarray] | None = None,  # bool by row, to learn from and to watch; None: as published
) -> lgb.Booster:
    """Fit as Qlib's benchmark does: squared error on z-scores, 1,000 trees at most, stopped after 50 without gain."""
    y = zscore(data.y(horizon)).to_numpy()
    parameters = PUBLISHED | {"seed": seed, "num_threads": threads, "verbosity": -1, "max_bin": max_bin}
    parts = rows or tuple(data.span(*span, gap) for span in ((START, TRAIN_END), ("2015-01-01", VALID_END)))
    fit, held = (part & np.isfinite(y) for part in parts)
    if sorted_columns:  # columns are drawn by their place, and bins are found in another sample of a sequence
        X = data.raw[sorted(data.raw)].to_numpy()
        parameters |= {"deterministic": True, "force_col_wise": True}
        dataset = lgb.Dataset(X[fit], y[fit], params=parameters)
        watched = lgb.Dataset(X[held], y[held], reference=dataset)
    else:
        X = data.features("raw")
        dataset = lgb.Dataset(Rows(X, np.flatnonzero(fit)), y[fit], params=parameters)
        watched = lgb.Dataset(Rows(X, np.flatnonzero(held)), y[held], reference=dataset)
    return lgb.train(parameters, dataset, 1000, [watched], callbacks=[lgb.early_stopping(50, verbose=False)])


def ridge(data: Data, config: Config, train_rows: np.ndarray, rows: np.ndarray) -> np.ndarray:
    "Return scores of a ridge regression of the target on the ranked features, holes at the median."
    X, y = np.nan_to_num(data.features("rank")), target(data, config)
    use = train_rows & np.isfinite(y)
    gram = X[use].T @ X[use]
    slopes = np.linalg.solve(gram.astype("float64") + 0.001 * len(y) / 12 * np.eye(X.shape[1]), X[use].T @ y[use])
    return X[rows] @ slopes


def predict(data: Data, config: Config, booster: lgb.Booster, rows: np.ndarray, threads: int = 1) -> pd.Series:
    "Return the booster's scores of some rows."
    return pd.Series(
        booster.predict(data.features(config.features)[rows], num_threads=threads), data.index[rows], name="score"
    )


def account(
    scores: pd.Series,
    start: str,
    end: str,
    market: Market | None = None,
    n_drop: int = 5,  # names that may go a day
    step: int = 1,  # sessions between decisions
) -> Result:
    "Trade scores as published: top 50 / drop 5, costs, lots and limits of the Chinese market, filled at the close."
    store = (market or Market()).store
    bars = files.read_bars(start, end, warm_up=1, root=store, fields=("close", "factor", "change"))
    if step > 1:
        days = scores.index.unique("date")
        scores = scores[scores.index.get_level_values("date").isin(days[::step])]
    terms = (QLIB_COSTS, QLIB_RULES, same_close())
    return from_rule(TopKDrop(50, n_drop), scores.to_frame("score"), bars, *terms, cash=1e8, start=start, end=end)


def excess(result: Result, market: Market | None = None) -> pd.Series:
    "Return the account's return after costs less the index's, by date, as Qlib's report has it."
    m, days = market or Market(), result.equity.index
    span = str(days[0].date()), str(days[-1].date())
    index = files.read_bars(*span, warm_up=1, symbols=[m.index], root=m.store, fields=("close",))["close"]
    index = index.droplevel("symbol").astype("float64")
    own = result.equity.div(result.equity.shift(1).fillna(1e8)) - 1
    return (own - index.pct_change().reindex(days)).rename("excess")


def risk(returns: pd.Series) -> dict[str, float]:
    "Return Qlib's annualised return, information ratio and drawdown: sums, 238 sessions a year."
    mean, sd, total = returns.mean(), returns.std(), returns.cumsum()
    return {
        "excess_return": float(mean * 238),
        "information_ratio": float(mean / sd * np.sqrt(238)),
        "max_drawdown": float((total - total.cummax()).min()),
    }


def numbers(scores: pd.Series, y: pd.Series) -> dict[str, float]:
    "Return Qlib's four correlations of scores and outcomes."
    a, b = ic(scores, y).dropna(), rank_ic(scores, y).dropna()
    found = {"ic": a.mean(), "icir": a.mean() / a.std(), "rank_ic": b.mean(), "rank_icir": b.mean() / b.std()}
    return {name: float(value) for name, value in found.items()}
