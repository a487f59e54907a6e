"""Every planted leak of an engine's fills is caught, every clean twin passes, and so do the engines of the house."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.backtest.orders import from_rule
from quantlab.broker.audit_fills import audit_fills
from quantlab.broker.fill_model import next_open, same_close
from quantlab.broker.rules import Rules
from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS
from quantlab.core.errors import ConfigError
from quantlab.core.panel import as_panel, to_wide
from quantlab.portfolio.topk_drop import TopKDrop

sys.path.insert(0, str(Path(__file__).parent))
from fills import PAIRS, account  # noqa: E402
from zoo import market  # noqa: E402

each = pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)


def targets(bars, every=5, seed=1):
    "Random long weights on every fifth session, for names that have a bar."
    close = to_wide(bars["close"])
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.random(close.shape), close.index, close.columns).where(close.notna()).iloc[30:-2:every]
    return as_panel((0.9 * table.div(table.sum(axis=1), axis=0)).stack().dropna().rename("weight").reset_index())


@pytest.fixture(scope="module")
def bars():
    return market(seed=0, n_dates=262)


@each
def test_the_leak_is_caught(pair, bars):
    verdict = audit_fills(pair.leak, targets(bars), bars, cuts=4, name=pair.name, more=0)
    assert verdict.status == LEAK and verdict.date is not None, verdict


@each
def test_the_clean_twin_passes(pair, bars):
    verdict = audit_fills(pair.twin, targets(bars), bars, cuts=4, name=pair.name, more=0)
    assert verdict.status == PASS, verdict


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@each
def test_on_other_markets_too(pair, seed):
    other = market(seed, n_dates=260 + 13 * seed)
    assert audit_fills(pair.leak, targets(other, 3 + seed), other).status == LEAK
    assert audit_fills(pair.twin, targets(other, 3 + seed), other).status == PASS


@pytest.mark.parametrize("fill", [next_open(), next_open(sized="fill"), next_open(cash="in turn")])
@pytest.mark.parametrize("stale_after", [1, 3])
def test_our_engine_passes(bars, fill, stale_after):
    engine = lambda weights, panel: from_weights(
        weights, panel, Costs(5, 20), rules=Rules(stale_after=stale_after), fill=fill, start=bars.index[0][0]
    )
    verdict = audit_fills(engine, targets(bars), bars, name="from_weights")
    assert verdict.status == PASS, verdict


def test_our_engine_with_a_leak_is_caught(bars):
    "The open of each session is replaced by the next one's, or by the same day's close."
    later, same_day = (lambda panel: panel["open"].groupby("symbol").shift(-1)), (lambda panel: panel["close"])
    for cheat in (later, same_day):
        engine = lambda weights, panel, cheat=cheat: from_weights(
            weights, panel.assign(open=cheat(panel)), start=bars.index[0][0]
        )
        assert audit_fills(engine, targets(bars), bars).status == LEAK


def test_an_account_that_fills_at_the_close_passes(bars):
    "Scores take the place of weights; the whole bar of the fill is known."
    scores = targets(bars, every=1)
    engine = lambda weights, panel: from_rule(
        TopKDrop(2, 1), weights.rename(columns={"weight": "score"}), panel[["close"]], Costs(5, 0, minimum=5.0),
        Rules(lot=100, price_limit=0.05, stale_after=np.inf), same_close(),
        start=bars.index[0][0],
    )  # fmt: skip
    verdict = audit_fills(engine, scores, bars, moment="close", cuts=4)
    assert verdict.status == PASS, verdict
    same_bar = lambda weights, panel: account(
        weights, panel, lag=0, price=lambda b, t: b["close"][t], value=lambda b, t: b["close"][t]
    )
    assert audit_fills(same_bar, scores, bars, moment="close", cuts=2).status == LEAK


def test_what_is_not_assessed_or_refused(bars):
    nothing = targets(bars).assign(weight=0.0)
    assert audit_fills(lambda w, b: from_weights(w, b), nothing, bars).status == NOT_ASSESSED
    with pytest.raises(ConfigError, match="moment"):
        audit_fills(account, targets(bars), bars, moment="noon")


def test_an_oracle_that_must_see_the_future_earns_nothing():
    """Each close it buys the names that will rise over the coming night, which the fill at the open has already left
    behind."""
    rng = np.random.default_rng(0)
    dates, names = pd.bdate_range("2020-01-01", periods=250).as_unit("us"), [f"S{i}" for i in range(8)]
    night, day = np.exp(rng.normal(0, 0.01, (250, 8))), np.ones((250, 8))
    open_ = np.cumprod(night * day, axis=0) * 50
    index = pd.MultiIndex.from_product([dates, names], names=["date", "symbol"])
    bars = pd.DataFrame({"open": open_.ravel(), "close": open_.ravel()}, index=index)
    rises = pd.DataFrame(np.vstack([night[1:], night[:1]]), dates, names)  # of the night that follows each close
    table = rises.iloc[:-1].rank(axis=1, ascending=False) <= 2
    weights = as_panel(
        table.rename_axis(index="date", columns="symbol")
        .stack()
        .loc[lambda x: x]
        .rename("weight")
        .mul(0.49)
        .reset_index()
    )
    honest = from_weights(weights, bars, Costs(0, 0))
    cheat = account(weights, bars.assign(high=bars["open"], low=bars["open"]), price=lambda b, t: b["close"][t - 1])
    assert cheat.equity.iloc[-1] > 5e6  # filled at the close it decided on, the oracle is rich
    daily = honest.returns.iloc[1:]
    assert abs(daily.mean()) < 3 * daily.std() / np.sqrt(len(daily))  # filled at the next open it is not
