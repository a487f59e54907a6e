"Parts of recipes with a leak each, and honest ones; named in recipes as leaky_parts:NAME."

import pandas as pd

from quantlab.features.base import Feature
from quantlab.labels.forward import forward_returns
from quantlab.portfolio.weights import TopK
from quantlab.recipe.spec import Recipe
from quantlab.regime.base import Filtered

FORTY = (
    "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO, CVS, CVX, DIS, F, GE, GILD, GOOGL, GS, HD, HPQ, "
    "IBM, INTC, JNJ, JPM, KO, LLY, LOW, MCD, MRK, MSFT, ORCL, PEP, PFE, PG, T, WFC, WMT, XOM"
)
TREES = {"n_estimators": 20, "num_leaves": 8, "num_threads": 1}


def small(end="2013-06-28", **paths):
    "Return a recipe that takes a second: forty names, ridge, half a year between fits, a decision each ten sessions."
    plain = Recipe().replace(
        name="small", data__universe=FORTY, data__end=end, features__use=["price"], model__kind="ridge",
        split__train_sessions=252, split__test_sessions=126, policy__top_k=8, policy__buffer=4, policy__rebalance=10,
    )  # fmt: skip
    return plain.replace(**paths) if paths else plain


def with_model(kind, **settings):
    "Return the small recipe with another model."
    return small(model={"kind": kind, **settings})


def halted(market):
    """Drop rows: two names are suspended, two are delisted, two come late, one session of one name is missing.

    IBM for thirty sessions and XOM for one, KO and AAPL for good; GE and F begin late.
    """
    dates, symbols = (market.bars.index.get_level_values(level) for level in ("date", "symbol"))
    day = market.bars.index.unique("date")
    gone = ((symbols == "IBM") & (dates >= day[600]) & (dates < day[630])) | ((symbols == "XOM") & (dates == day[640]))
    gone |= ((symbols == "KO") & (dates >= day[560])) | ((symbols == "AAPL") & (dates >= day[700]))
    gone |= ((symbols == "GE") & (dates < day[300])) | ((symbols == "F") & (dates < day[540]))
    return market._replace(bars=market.bars[~gone], raw=market.raw[~gone])


TOMORROW = Feature("tomorrow", lambda close: close.shift(-1) / close - 1, 1, ("close",))


def tomorrows_row(X):
    "A transform that reads the next session of each name."
    return X.groupby(level="symbol").shift(-1).fillna(X)


def ends_too_early(bars):
    "A label of twenty sessions that says it is known after one."
    labels = forward_returns(bars, 20)
    return labels.assign(t1=forward_returns(bars, 1)["t1"].reindex(labels.index))


def ragged(bars):
    "A label of which every third name is known after five sessions, the others after twenty."
    slow, fast = forward_returns(bars, 20), forward_returns(bars, 5)
    early = pd.factorize(bars.index.get_level_values("symbol"))[0] % 3 == 0
    return pd.concat([slow[~early], fast[early]]).sort_index()


def hindsight(close):
    "A detector that reads five sessions ahead: volatility in a centred window."
    wild = close.pct_change().rolling(11, center=True, min_periods=1).std().fillna(0.0) > 0.01
    return Filtered(pd.DataFrame({"calm": 1.0 - wild, "turbulent": wild.astype(float)}))


def foresight_free(close):
    "The same detector, honest."
    wild = close.pct_change().rolling(11, min_periods=1).std().fillna(0.0) > 0.01
    return Filtered(pd.DataFrame({"calm": 1.0 - wild, "turbulent": wild.astype(float)}))


def told_expert(X, y=None, t1=None):
    "An expert that believes what came."
    score = (X["rev_5"] if y is None else y.fillna(0.0)).astype("float64")
    return pd.DataFrame({"score": score, "doubt": 1.0}, X.index)


def tomorrows_rank(predictions, past_bars=None, gate=None, held=()):
    "A policy that reads the scores of the next session."
    later = predictions.groupby(level="symbol")["score"].shift(-1).fillna(predictions["score"])
    return TopK(8, 4, rebalance=10)(predictions.assign(score=later), past_bars, gate, held=held)


def todays_rank(predictions, past_bars=None, gate=None, held=()):
    "The same policy, honest."
    return TopK(8, 4, rebalance=10)(predictions, past_bars, gate, held=held)


def empty(bars):
    "Names nothing."
    return pd.DataFrame()
