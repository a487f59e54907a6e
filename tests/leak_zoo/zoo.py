"""Planted leaks and their clean twins: what a leak checker must catch, and what it must leave alone.

Each animal is a pair of functions panel -> panel that differ by the one mistake. `seen` says where such a mistake was
found in practice. The levels follow the floors of the house.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import detrend, filtfilt, lfilter
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from quantlab.core.panel import to_long, to_wide
from quantlab.labels.forward import forward_returns
from quantlab.models.base import walk_forward
from quantlab.models.linear import RidgeModel
from quantlab.portfolio.weights import TopK
from quantlab.regime.base import walk_forward_filter
from quantlab.regime.hmm import HMM
from quantlab.validation.splits import WalkForward


@dataclass(frozen=True)
class Pair:
    "One mistake and the honest way to do the same."

    level: str
    name: str
    leak: Callable[[pd.DataFrame], pd.DataFrame | pd.Series]
    twin: Callable[[pd.DataFrame], pd.DataFrame | pd.Series]
    seen: str  # where it was found
    cuts: int = 6  # a leak that lives only beside a fold's boundary needs cuts close to each other


def market(seed: int = 0, n_dates: int = 320, n_symbols: int = 6) -> pd.DataFrame:
    "Bars with gaps, a late listing and a name that stops."
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates).as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"S{i}" for i in range(n_symbols)]], names=["date", "symbol"])
    close = np.exp(rng.normal(0, 0.02, (n_dates, n_symbols)).cumsum(axis=0) + rng.normal(3, 0.5, n_symbols))
    open_ = close * np.exp(rng.normal(0, 0.005, close.shape))
    bars = pd.DataFrame({"open": open_.ravel(), "close": close.ravel()}, index=index)
    bars["high"] = bars[["open", "close"]].max(axis=1) * np.exp(np.abs(rng.normal(0, 0.004, len(bars))))
    bars["low"] = bars[["open", "close"]].min(axis=1) / np.exp(np.abs(rng.normal(0, 0.004, len(bars))))
    bars["volume"] = np.exp(rng.normal(12, 0.6, len(bars)))
    when, who = index.get_level_values("date"), index.get_level_values("symbol")
    gone = ((who == "S4") & (when < dates[60])) | ((who == "S5") & (when > dates[250])) | (rng.random(len(bars)) < 0.02)
    return bars[~gone]


def wide(
    transform: Callable[[pd.DataFrame], pd.DataFrame], column: str = "close"
) -> Callable[[pd.DataFrame], pd.Series]:
    "Apply a function of dates x symbols to one column."
    return lambda panel: to_long(transform(to_wide(panel[column])).astype("float64"), panel.index, name="x")


def returns(w: pd.DataFrame) -> pd.DataFrame:
    return w / w.shift(1) - 1


def after(w: pd.DataFrame, rows: int) -> pd.DataFrame:
    "Blank the rows of a warm-up."
    return w.where(np.broadcast_to(np.arange(len(w))[:, None] >= rows, w.shape))


# features


def filtered(w: pd.DataFrame, both_ways: bool) -> pd.DataFrame:
    filled = w.ffill().fillna(0.0)
    b, a = [0.2], [1.0, -0.8]
    if len(w) < 10:
        return filled * np.nan
    return pd.DataFrame((filtfilt if both_ways else lfilter)(b, a, filled.to_numpy(), axis=0), w.index, w.columns)


def pivots(w: pd.DataFrame, confirmed: bool) -> pd.DataFrame:
    "Mark local highs over 5 sessions on each side, at the high or when it is confirmed."
    high = (w == w.rolling(11, center=True).max()).astype(float)
    return (w == w.shift(-0)).astype(float) * high if not confirmed else high.shift(5)


def lowpass(w: pd.DataFrame) -> pd.DataFrame:
    spectrum = np.fft.rfft(w.ffill().fillna(0.0).to_numpy(), axis=0)
    spectrum[max(2, len(w) // 20) :] = 0
    return pd.DataFrame(np.fft.irfft(spectrum, len(w), axis=0), w.index, w.columns)


FEATURES = [
    Pair(
        "features",
        "next day's return",
        wide(lambda w: w.shift(-1) / w - 1),
        wide(returns),
        "the classic shift of the wrong sign",
    ),
    Pair(
        "features",
        "centred window",
        wide(lambda w: w / w.rolling(21, center=True).mean()),
        wide(lambda w: w / w.rolling(21).mean()),
        "smoothers with center=True",
    ),
    Pair(
        "features",
        "zero-phase filter",
        wide(lambda w: filtered(w, True)),
        wide(lambda w: filtered(w, False)),
        "scipy filtfilt on prices",
    ),
    Pair(
        "features",
        "interpolated gaps",
        wide(lambda w: w.iloc[::7].reindex(w.index).interpolate()),
        wide(lambda w: w.iloc[::7].reindex(w.index).ffill()),
        "slow series filled by interpolation",
    ),
    Pair(
        "features",
        "back-filled start",
        wide(lambda w: w.rolling(40).mean().bfill()),
        wide(lambda w: w.rolling(40).mean()),
        "indicator libraries that back-fill the warm-up",
    ),
    Pair(
        "features",
        "smoothing both ways",
        wide(lambda w: w.ewm(span=9).mean()[::-1].ewm(span=9).mean()[::-1]),
        wide(lambda w: w.ewm(span=9).mean()),
        "exponential smoothing run twice",
    ),
    Pair(
        "features",
        "lagging span drawn back",
        wide(lambda w: w.shift(-26)),
        wide(lambda w: w.shift(26)),
        "Ichimoku's chikou span as a feature",
    ),
    Pair(
        "features",
        "pivot marked at the pivot",
        wide(lambda w: pivots(w, False)),
        wide(lambda w: pivots(w, True).fillna(0)),
        "zigzag and fractal indicators",
    ),
    Pair(
        "features",
        "full-sample trend removed",
        wide(lambda w: pd.DataFrame(detrend(w.ffill().fillna(0.0), axis=0), w.index, w.columns)),
        wide(lambda w: w - w.rolling(60).mean()),
        "scipy detrend on prices",
    ),
    Pair(
        "features",
        "low pass over the whole series",
        wide(lowpass),
        wide(lambda w: w.ewm(span=20).mean()),
        "Fourier and wavelet denoising before the split",
    ),
    Pair(
        "features",
        "high of the whole sample",
        wide(lambda w: w / w.max()),
        wide(lambda w: w / w.cummax()),
        "distance to the all-time high",
    ),
    Pair(
        "features",
        "rolling over descending dates",
        wide(lambda w: w[::-1].rolling(10).mean()[::-1]),
        wide(lambda w: w.rolling(10).mean()),
        "files sorted newest first",
    ),
]


# normalisation


def rolled_pca(w: pd.DataFrame, whole: bool) -> pd.DataFrame:
    moves = returns(w).fillna(0.0)
    if len(w) <= 100:
        return w * np.nan
    fitted = PCA(1, svd_solver="full").fit(moves if whole else moves.iloc[:100])
    first = fitted.transform(moves) * np.sign(fitted.components_[0].sum())
    return after(pd.DataFrame(np.repeat(first, w.shape[1], axis=1), w.index, w.columns), 100)


NORMALISATION = [
    Pair(
        "normalisation",
        "full-sample z-score",
        wide(lambda w: (w - w.mean()) / w.std()),
        wide(lambda w: (w - w.expanding(20).mean()) / w.expanding(20).std()),
        "scalers fitted before the split",
    ),
    Pair(
        "normalisation",
        "full-sample min-max",
        wide(lambda w: (w - w.min()) / (w.max() - w.min())),
        wide(lambda w: (w - w.rolling(60).min()) / (w.rolling(60).max() - w.rolling(60).min())),
        "MinMaxScaler in price-prediction tutorials",
    ),
    Pair(
        "normalisation",
        "rank over all dates",
        wide(lambda w: w.rank(pct=True)),
        wide(lambda w: w.expanding(20).rank(pct=True)),
        "percentile of the whole history",
    ),
    Pair(
        "normalisation",
        "full-sample winsor limits",
        wide(lambda w: returns(w).clip(returns(w).quantile(0.05), returns(w).quantile(0.95), axis=1)),
        wide(
            lambda w: returns(w).clip(returns(w).expanding(50).quantile(0.05), returns(w).expanding(50).quantile(0.95))
        ),
        "outlier removal in preprocessing",
    ),
    Pair(
        "normalisation",
        "components of the whole sample",
        wide(lambda w: rolled_pca(w, True)),
        wide(lambda w: rolled_pca(w, False)),
        "PCA factors estimated once",
    ),
    Pair(
        "normalisation",
        "holes filled by the full mean",
        wide(lambda w: returns(w).fillna(returns(w).mean())),
        wide(lambda w: returns(w).fillna(returns(w).expanding(5).mean())),
        "SimpleImputer before the split",
    ),
    Pair(
        "normalisation",
        "volatility of the whole sample",
        wide(lambda w: returns(w) / returns(w).std()),
        wide(lambda w: returns(w) / returns(w).rolling(30).std()),
        "position sizing by sample volatility",
    ),
]


# labels used as features


def past_labels(panel: pd.DataFrame, known: bool) -> pd.Series:
    "The 5-day outcome on its decision date, or on the date on which it was known."
    labels = forward_returns(panel, 5)
    if not known:
        return labels["y"]
    done = labels[~labels["censored"]].dropna(subset=["y"]).reset_index()  # that a name has stopped is known only later
    done = done[["t1", "symbol", "y"]].rename(columns={"t1": "date"}).drop_duplicates(["date", "symbol"], keep="last")
    return done.set_index(["date", "symbol"])["y"].reindex(panel.index)


def encoded(panel: pd.DataFrame, honest: bool) -> pd.Series:
    "The mean outcome of each name: of all its labels, or of those that were known."
    y = to_wide(past_labels(panel, honest))
    mean = y.expanding(1).mean() if honest else y * 0 + y.mean()
    return to_long(mean, panel.index, name="x")


LABELS = [
    Pair(
        "labels",
        "outcome as a feature",
        lambda p: past_labels(p, False),
        lambda p: past_labels(p, True),
        "the target column left in X",
    ),
    Pair(
        "labels",
        "target encoding",
        lambda p: encoded(p, False),
        lambda p: encoded(p, True),
        "category encoders fitted on all outcomes",
    ),
    Pair(
        "labels",
        "barrier touched, marked at entry",
        wide(lambda w: w[::-1].rolling(10).max()[::-1].shift(-1) > 1.03 * w),
        wide(lambda w: w > 1.03 * w.rolling(10).min().shift(1)),
        "triple-barrier outcome dated at the event",
    ),
    Pair(
        "labels",
        "life left of the name",
        wide(lambda w: w.notna()[::-1].cumsum()[::-1]),
        wide(lambda w: w.notna().cumsum()),
        "counts of rows per name, time to delisting",
    ),
]


# resampling


def periods(w: pd.DataFrame, rule: str) -> pd.PeriodIndex:
    return w.index.to_period(rule)


RESAMPLING = [
    Pair(
        "resampling",
        "weekly close on the week's own days",
        wide(lambda w: w.groupby(periods(w, "W-FRI")).transform("last")),
        wide(lambda w: w.groupby(periods(w, "W-FRI")).last().shift(1).reindex(periods(w, "W-FRI")).set_axis(w.index)),
        "informative timeframes merged by their start",
    ),
    Pair(
        "resampling",
        "monthly mean on the month's own days",
        wide(lambda w: w.groupby(periods(w, "M")).transform("mean")),
        wide(lambda w: w.groupby(periods(w, "M")).mean().shift(1).reindex(periods(w, "M")).set_axis(w.index)),
        "macro data on the first of its month",
    ),
    Pair(
        "resampling",
        "month's high before it is made",
        wide(lambda w: w.groupby(periods(w, "M")).transform("max")),
        wide(lambda w: w.groupby(periods(w, "M")).cummax()),
        "period highs by transform",
    ),
    Pair(
        "resampling",
        "left-labelled weekly bars",
        wide(lambda w: w.resample("W-FRI", label="left").last().reindex(w.index, method="ffill")),
        wide(lambda w: w.resample("W-FRI").last().shift(1).reindex(w.index, method="ffill")),
        "resample's label='left'",
    ),
    Pair(
        "resampling",
        "volume profile of the whole month",
        wide(lambda w: w / w.groupby(periods(w, "M")).transform("sum"), "volume"),
        wide(lambda w: w / w.groupby(periods(w, "M")).cumsum(), "volume"),
        "share of the period's volume",
    ),
]


# joins


def joined(direction: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    "Join a value published every tenth session to every session."

    def join(w: pd.DataFrame) -> pd.DataFrame:
        right = w.iloc[9::10].reset_index(names="published")
        if right.empty:
            return w * np.nan
        left = pd.DataFrame({"date": w.index})
        found = pd.merge_asof(left, right, left_on="date", right_on="published", direction=direction)
        return found[list(w.columns)].set_axis(w.index)

    return join


def quarterly(w: pd.DataFrame, lag: int) -> pd.DataFrame:
    quarter = periods(w, "Q")
    return w.groupby(quarter).last().shift(lag).reindex(quarter).set_axis(w.index)


JOINS = [
    Pair(
        "joins",
        "nearest publication",
        wide(joined("nearest")),
        wide(joined("backward")),
        "merge_asof with direction='nearest'",
    ),
    Pair(
        "joins",
        "next publication",
        wide(joined("forward")),
        wide(joined("backward")),
        "merge_asof with direction='forward'",
    ),
    Pair(
        "joins",
        "fundamentals by fiscal period",
        wide(lambda w: quarterly(w, 0)),
        wide(lambda w: quarterly(w, 1)),
        "reports merged on the quarter they describe",
    ),
    Pair(
        "joins",
        "reindexed to the nearest",
        wide(lambda w: w.iloc[9::5].reindex(w.index, method="nearest") if len(w) > 9 else w * np.nan),
        wide(lambda w: w.iloc[9::5].reindex(w.index, method="ffill")),
        "alignment of slow series",
    ),
]


# universe


def largest(w: pd.DataFrame, whole: bool) -> pd.DataFrame:
    size = pd.DataFrame([w.mean()] * len(w), w.index) if whole else w.rolling(20, min_periods=1).mean()
    return (size.rank(axis=1, ascending=False) <= 3).astype(float).where(w.notna())


def survivors(panel: pd.DataFrame) -> pd.Series:
    last = panel.index.get_level_values("date").max()
    alive = panel.xs(last, level="date").index
    return panel["close"][panel.index.get_level_values("symbol").isin(alive)]


UNIVERSE = [
    Pair("universe", "today's members", survivors, lambda p: p["close"], "index lists of today"),
    Pair(
        "universe",
        "names with a full history",
        lambda p: (
            to_wide(p["close"]).dropna(axis=1, thresh=int(0.9 * p.index.get_level_values("date").nunique())).stack()
        ),
        lambda p: to_wide(p["close"]).ffill().stack().dropna(),
        "dropna over the whole sample",
    ),
    Pair(
        "universe",
        "largest by the whole sample's volume",
        wide(lambda w: largest(w, True), "volume"),
        wide(lambda w: largest(w, False), "volume"),
        "liquidity screens run once",
    ),
]


# model selection


def chosen_lookback(w: pd.DataFrame, whole: bool) -> pd.DataFrame:
    "Momentum over the look-back that worked best: in the whole sample, or up to each date."
    moves, signals = returns(w), {n: w / w.shift(n) - 1 for n in (5, 10, 20)}
    gains = pd.DataFrame({n: (np.sign(s.shift(1)) * moves).mean(axis=1) for n, s in signals.items()}).fillna(0.0)
    score = gains.cumsum()
    best = pd.Series(score.iloc[-1].idxmax(), score.index) if whole else score.idxmax(axis=1)
    return sum(s.mul(best == n, axis=0).fillna(0.0) for n, s in signals.items())


def learning_panel(panel: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    close = to_wide(panel["close"])
    X = pd.DataFrame({f"r{n}": to_long(close / close.shift(n) - 1, panel.index) for n in (1, 5, 20)})
    return X, forward_returns(panel, 10)


def in_sample(panel: pd.DataFrame) -> pd.Series:
    X, labels = learning_panel(panel)
    known = labels["y"].notna() & X.notna().all(axis=1)
    if known.sum() < 20:
        return labels["y"] * np.nan
    model = Ridge(alpha=1e-3).fit(X[known], labels["y"][known])
    return pd.Series(model.predict(X.fillna(0.0)), X.index, name="score")


def walked(panel: pd.DataFrame, purge: bool) -> pd.Series:
    X, labels = learning_panel(panel)
    ends = (
        labels["t1"]
        if purge
        else labels["t1"].mask(labels["t1"].notna(), pd.Series(X.index.get_level_values("date"), X.index))
    )
    splits = WalkForward(train_sessions=120, test_sessions=40).split(X, t1=ends)
    return walk_forward(RidgeModel(1e-3), X.fillna(0.0), labels["y"], splits).predictions["score"]


SELECTION = [
    Pair(
        "model selection",
        "look-back chosen on the whole sample",
        wide(lambda w: chosen_lookback(w, True)),
        wide(lambda w: chosen_lookback(w, False)),
        "grid search, then a backtest on the same data",
    ),
    Pair(
        "model selection",
        "fitted and predicted on the same rows",
        in_sample,
        lambda p: walked(p, True),
        "fit on all, predict on all",
    ),
    Pair(
        "model selection",
        "labels that reach over the boundary",
        lambda p: walked(p, False),
        lambda p: walked(p, True),
        "walk-forward without purging",
        cuts=24,
    ),
]


# regime


def states(panel: pd.DataFrame, how: str) -> pd.DataFrame:
    "States of the equal-weight market, by date."
    moves = returns(to_wide(panel["close"])).mean(axis=1).dropna().to_frame("log_return")
    model = HMM(2, n_iter=15, n_starts=1)
    if len(moves) <= 150:
        return pd.DataFrame({"turbulent": moves["log_return"]}).iloc[:0].rename_axis("date")
    if how == "walk-forward":
        return walk_forward_filter(moves, model, 150, 100).probabilities[["turbulent"]].rename_axis("date")
    fitted = model.fit(moves)
    found = {"smoothed": lambda: fitted.smooth(moves), "in-sample": lambda: fitted.filter(moves)}[how]()
    return found.probabilities[["turbulent"]].rename_axis("date")


def viterbi(panel: pd.DataFrame) -> pd.DataFrame:
    moves = returns(to_wide(panel["close"])).mean(axis=1).dropna().to_frame("log_return")
    if len(moves) <= 150:
        return pd.DataFrame({"turbulent": moves["log_return"] * np.nan})
    fitted = HMM(2, n_iter=15, n_starts=1).fit(moves)
    return pd.DataFrame(
        {"turbulent": fitted.hmm_.predict((moves - fitted.center_) / fitted.scale_)}, moves.index
    ).rename_axis("date")


def turbulent(panel: pd.DataFrame, whole: bool) -> pd.DataFrame:
    level = returns(to_wide(panel["close"])).mean(axis=1).rolling(20).std()
    limit = level.quantile(0.8) if whole else level.expanding(30).quantile(0.8)
    return pd.DataFrame({"turbulent": (level > limit).astype(float)}).rename_axis("date")


REGIME = [
    Pair(
        "regime",
        "smoothed states",
        lambda p: states(p, "smoothed"),
        lambda p: states(p, "walk-forward"),
        "hmmlearn predict_proba",
    ),
    Pair("regime", "Viterbi path", viterbi, lambda p: states(p, "walk-forward"), "hmmlearn predict"),
    Pair(
        "regime",
        "filtered with later parameters",
        lambda p: states(p, "in-sample"),
        lambda p: states(p, "walk-forward"),
        "a filter on parameters of the whole sample",
    ),
    Pair(
        "regime",
        "volatility limit of the whole sample",
        lambda p: turbulent(p, True),
        lambda p: turbulent(p, False),
        "regimes by sample quantiles",
    ),
]


# decisions and fills; what happens inside a bar is wired up in the backtest room


def book(panel: pd.DataFrame, tradable: pd.DataFrame) -> pd.DataFrame:
    "Weights on 20-day momentum among the names that count as tradable."
    close = to_wide(panel["close"])
    score = (close / close.shift(20) - 1).where(tradable)
    return TopK(2, rebalance=5)(to_long(score, panel.index, name="score").to_frame())


def limit_free(panel: pd.DataFrame, shift: int) -> pd.DataFrame:
    moves = returns(to_wide(panel["close"])).shift(shift)
    return ~(moves.abs() > 0.03)


def marked(panel: pd.DataFrame, at_next_open: bool) -> pd.DataFrame:
    "The value of one share of each name, by date."
    price = to_wide(panel["open"]).shift(-1) if at_next_open else to_wide(panel["close"])
    return pd.DataFrame({"equity": price.sum(axis=1)}).rename_axis("date")


FILLS = [
    Pair(
        "fills",
        "limit flag of the fill day",
        lambda p: book(p, limit_free(p, -1)),
        lambda p: book(p, limit_free(p, 0)),
        "tradable masks joined on the execution date",
    ),
    Pair(
        "fills",
        "only names with a bar tomorrow",
        lambda p: book(p, to_wide(p["open"]).shift(-1).notna()),
        lambda p: book(p, to_wide(p["open"]).notna()),
        "orders dropped because the fill bar is missing",
    ),
    Pair(
        "fills",
        "equity marked at the next open",
        lambda p: marked(p, True),
        lambda p: marked(p, False),
        "marks and fills in one step",
    ),
]

ZOO = [*FEATURES, *NORMALISATION, *LABELS, *RESAMPLING, *JOINS, *UNIVERSE, *SELECTION, *REGIME, *FILLS]
