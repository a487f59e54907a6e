"""The doctor finds each planted defect, and nothing in a clean run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest.capacity import capacity
from quantlab.backtest.costs import Costs, liquidity
from quantlab.backtest.doctor import SEVERITY, THRESHOLDS, diagnose, findings_figure
from quantlab.backtest.engine import from_weights
from quantlab.backtest.montecarlo import perturb
from quantlab.backtest.orders import from_orders
from quantlab.broker.rules import Rules
from quantlab.core.errors import ConfigError, PanelError
from quantlab.core.panel import as_panel

N, S = 500, 24
DAYS = pd.bdate_range("2020-01-01", periods=N, name="date").as_unit("us")
NAMES = [f"N{i:02d}" for i in range(S)]


def moves(drift=0.001, seed=0):
    """Returns by session and name: a steady drift and independent noise."""
    noise = np.random.default_rng(seed).normal(0, 0.01, (N, S))
    return noise - noise.mean() + drift


def market(returns, there=None, volume=1e6):
    close = 50 * np.cumprod(1 + returns, axis=0)
    open_ = np.vstack([close[:1], close[:-1]]) * (1 + 0.5 * returns)  # halfway between the closes
    t, i = np.nonzero(np.ones((N, S), bool) if there is None else there)
    frame = pd.DataFrame(
        {
            "date": DAYS[t],
            "symbol": np.array(NAMES)[i],
            "open": open_[t, i],
            "close": close[t, i],
            "volume": np.broadcast_to(volume, (N, S))[t, i],
        }
    )
    return as_panel(frame)


def book(every=5, k=8, first=20):
    """Eight names in turn, changed every week: many trips, nothing chosen by the future."""
    rows = [
        (DAYS[t], NAMES[(j * 5 + n) % S], 0.98 / k) for n, t in enumerate(range(first, N - 2, every)) for j in range(k)
    ]
    return as_panel(pd.DataFrame(rows, columns=["date", "symbol", "weight"]))


def near(sharpe):
    """A perturbation table whose worst neighbour has the given Sharpe ratio."""
    return pd.DataFrame(
        {
            "parameter": ["run", "a"],
            "setting": [None, 8],
            "sharpe": [2.0, sharpe],
            "change": [0.0, sharpe - 2.0],
            "se": [0.0, 0.2],
        }
    )


def room(half):
    return pd.DataFrame({"value": [half], "low": [half / 2], "high": [half * 2]}, index=["half_sharpe_assets"])


@pytest.fixture(scope="module")
def clean():
    bars = market(moves())
    return from_weights(book(), bars, Costs(1, 2)), bars


@pytest.fixture(scope="module")
def given(clean):
    """What a careful user hands in, all of it healthy."""
    weak = pd.Series(np.random.default_rng(9).normal(0.0001, 0.01, N), DAYS)
    return {
        "parameters": 3,
        "gate_hindsight": 0.04,
        "perturbation": near(1.8),
        "benchmark": weak,
        "capacity": room(1e9),
    }


def row(result, bars, finding, **given):
    return diagnose(result, bars, 252, **given).set_index("finding").loc[finding]


def test_the_clean_run_has_no_finding(clean, given):
    table = diagnose(*clean, 252, **given)
    assert (table["severity"] == "ok").all(), table[["finding", "severity", "evidence", "detail"]]
    assert (
        set(table["finding"]) == set(THRESHOLDS)
        and (table["evidence"] <= table["threshold"]).all()
        and (table["remedy"] == "").all()
    )


def noise(clean):
    bars = market(moves(drift=0.0))
    return from_weights(book(), bars, Costs(1, 2)), bars, {}


def few_trades(clean):
    held = from_weights(book(), market(moves(0.0)), Costs(0, 0)).positions.loc[DAYS[62]].index[0]
    r = moves(drift=0.0001)
    r[61:64, NAMES.index(held)] += 0.6  # three days of one name that is held then
    bars = market(r)
    return from_weights(book(), bars, Costs(1, 2)), bars, {}


def one_day(clean):
    r = moves(drift=0.0002)
    r[200] += 0.2
    bars = market(r)
    return from_weights(book(), bars, Costs(1, 2)), bars, {}


def stale_fills(clean):
    volume = np.full((N, S), 1e6)
    volume[:, :3] = 0.0
    return clean[0], market(moves(), volume=volume), {}


def unmoved_fills(clean):
    r = moves()
    r[:, 0] = 0.0  # open, close and the close before are one number
    bars = market(r).drop(columns="volume")
    return from_weights(book(), bars, Costs(1, 2)), bars, {}


def censored(clean):
    there = np.ones((N, S), bool)
    for i in range(16):
        there[61 + 25 * i :, i] = False
    bars = market(moves(), there)
    weights = book(every=20)
    last = pd.Series({name: DAYS[60 + 25 * i] for i, name in enumerate(NAMES[:16])}).reindex(NAMES).fillna(DAYS[-1])
    dates, names = (weights.index.get_level_values(n) for n in ("date", "symbol"))
    return (
        from_weights(weights[dates <= last.reindex(names).to_numpy()], bars, Costs(1, 2), Rules(stale_after=2)),
        bars,
        {},
    )


def benchmark(clean):
    return *clean, {"benchmark": clean[0].returns + 0.002}


def cost_share(clean):
    bars = clean[1]
    return from_weights(book(every=1), bars, Costs(20, 20)), bars, {}


PLANTED = {
    "noise": noise, "few_trades": few_trades, "one_day": one_day, "stale_fills": stale_fills, "unmoved": unmoved_fills,
    "censored": censored, "benchmark": benchmark, "cost_share": cost_share,
    "parameters": lambda clean: (*clean, {"parameters": 40}),
    "hindsight": lambda clean: (*clean, {"gate_hindsight": 0.4}),
    "fragility": lambda clean: (*clean, {"perturbation": near(0.5)}),
    "capacity": lambda clean: (*clean, {"capacity": room(1e5)}),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_each_planted_defect_is_found(defect, clean, given):
    name = "stale_fills" if defect == "unmoved" else defect
    result, bars, plant = PLANTED[defect](clean)
    found = row(result, bars, name, **(given | plant))
    assert (
        found["severity"] in ("medium", "high")
        and found["evidence"] > found["threshold"]
        and found["remedy"] == THRESHOLDS[name].remedy
    ), found


def test_every_finding_is_planted():
    assert {name if name != "unmoved" else "stale_fills" for name in PLANTED} == set(THRESHOLDS)


def test_what_is_not_given_is_not_assessed(clean):
    table = diagnose(*clean, 252).set_index("finding")
    missing = ["benchmark", "parameters", "hindsight", "fragility", "capacity"]
    assert (table.loc[missing, "severity"] == "not assessed").all() and table.loc[missing, "detail"].str.contains(
        "pass "
    ).all()
    assert (table["severity"].drop(missing) == "ok").all() and table.index[-1] in missing


def test_ranks_by_severity_then_by_how_far(clean, given):
    worse = given | {"gate_hindsight": 0.9, "parameters": 20, "capacity": room(1e3)}
    table = diagnose(*clean, 252, **worse)
    assert table["severity"].map(SEVERITY.index).is_monotonic_increasing
    far = (table["evidence"] / table["threshold"]).groupby(table["severity"])
    assert all(group.is_monotonic_decreasing for _, group in far) and table["finding"].iloc[0] == "capacity"
    titles = findings_figure(table).axes[0].get_title(loc="left")
    assert titles.startswith("3 of 11")


def test_thresholds_can_be_argued_with(clean, given):
    strict = row(*clean, "cost_share", thresholds={"cost_share": 1e-9}, **given)
    assert strict["severity"] == "medium" and strict["threshold"] == 1e-9
    mild = row(*clean, "hindsight", thresholds={"hindsight": 0.99}, **(given | {"gate_hindsight": 0.9}))
    assert mild["severity"] == "ok"
    for bad, what in (({"thresholds": {"fate": 1.0}}, "fate"), ({"gate_hindsight": -0.1}, "gate_hindsight")):
        with pytest.raises(ConfigError, match=what):
            diagnose(*clean, 252, **bad)
    with pytest.raises(PanelError):
        diagnose(clean[0], clean[1].drop(columns="close"), 252)


def test_cost_share_by_hand(clean):
    result = clean[0]
    paid, profit = result.costs.sum().sum(), result.equity.iloc[-1] - result.equity.iloc[0]
    assert row(*clean, "cost_share")["evidence"] == pytest.approx(paid / (profit + paid))
    broke = from_weights(book(every=1), market(moves(drift=-0.001)), Costs(20, 20))
    assert (
        row(broke, clean[1], "cost_share")["evidence"] == np.inf
        and row(broke, clean[1], "cost_share")["severity"] == "high"
    )


def test_with_the_real_tables(clean):
    """The tables of capacity and perturb go in as they come out."""
    result, bars = clean
    table = capacity(result, liquidity(bars), Costs(1, 2, impact=1.0))
    half = table.loc["half_sharpe_assets", "value"]
    assert row(result, bars, "capacity", capacity=table, assets=2 * half)["evidence"] == pytest.approx(2)
    moved = perturb(lambda k: from_weights(book(k=k), bars, Costs(1, 2)).returns, {"k": 8}, 252, draws=50)
    assert row(result, bars, "fragility", perturbation=moved)["severity"] == "ok"


@pytest.mark.parametrize("sessions", [1, 2, 5])
def test_short_and_idle_runs_are_not_assessed_but_do_not_break(clean, sessions):
    full, bars = clean
    days = full.equity.index[:sessions]
    short = SimpleNamespace(
        equity=full.equity[days], returns=full.returns[full.returns.index.isin(days)], costs=full.costs.loc[days],
        closed=full.closed,
        trades=full.trades[full.trades["date"].isin(days)], positions=full.positions.loc[days[0] : days[-1]],
    )  # fmt: skip
    table = diagnose(short, bars, 252, benchmark=full.returns, parameters=3)
    assert len(table) == len(THRESHOLDS) and table["severity"].isin(SEVERITY).all()
    idle = from_weights(book().iloc[:0], bars)
    assert (diagnose(idle, bars, 252, parameters=2)["severity"] == "not assessed").all()


def test_trips_that_do_not_add_up_to_the_account_are_not_judged():
    days = pd.bdate_range("2020-01-01", periods=8).as_unit("us")
    bars = as_panel(
        pd.DataFrame(
            {"date": days, "symbol": "A", "volume": 1e6, "split_ratio": 1.0}
            | dict.fromkeys(["open", "high", "low", "close"], 100.0)
        )
    )
    bars["dividend"] = np.where(bars.index.get_level_values("date") == days[4], 20.0, 0.0)
    orders = pd.DataFrame(
        {"date": [days[0], days[5]], "symbol": "A", "size": [1000.0, 0.0], "kind": ["shares", "target"]}
    )
    run = from_orders(orders, bars, costs=Costs(0, 0))
    row = diagnose(run, bars, 252).set_index("finding").loc["few_trades"]
    assert (
        run.equity.iloc[-1] == 1_020_000 and row["severity"] == "not assessed" and "total-return bars" in row["detail"]
    )


def test_an_account_without_trades_is_not_assessed():
    bars = market(moves())
    idle = from_weights(pd.DataFrame({"weight": [0.5]}, bars.index[:1]).iloc[:0], bars)
    assert (diagnose(idle, bars, 252)["severity"] == "not assessed").all()
    assert diagnose(idle, bars, 252, parameters=3)["severity"].nunique() == 1
    assert len(findings_figure(diagnose(idle, bars, 252)).axes) == 1
