"Random leveraged and short books under a guard: limits hold, nothing grows after a trip, the log can be told again."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest.costs import Costs
from quantlab.backtest.engine import from_weights
from quantlab.broker.fill_model import next_close, next_open
from quantlab.broker.rules import Rules
from quantlab.core.errors import ConfigError, PanelError, QuantlabError
from quantlab.portfolio.limits import Limits, limits_used
from quantlab.risk.limits import log_text, replay_guard
from quantlab.risk.orders import cut_to_limits
from quantlab.strategy.guarded import guarded

NONE = Limits(None, None, max_turnover=None, kill_drawdown=None, stops={})


def bars_of(rng, n, t, volatility=0.03, zone=None):
    "Random prices with gaps overnight, some bars missing, one name that comes late."
    steps = rng.standard_t(4, (t, n)) * volatility / 2 + 0.3 * rng.standard_t(4, (t, 1)) * volatility
    close = 50 * np.exp(np.cumsum(steps, axis=0))
    open_ = close * np.exp(rng.standard_normal((t, n)) * volatility / 3)
    dates = pd.bdate_range("2020-01-01", periods=t, tz=zone).as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"N{i}" for i in range(n)]], names=["date", "symbol"])
    wide = {"open": open_, "high": np.maximum(open_, close) * 1.01, "low": np.minimum(open_, close) * 0.99}
    bars = pd.DataFrame({k: v.ravel() for k, v in (wide | {"close": close}).items()}, index).assign(volume=1e6)
    gone = rng.random(len(bars)) < 0.02
    row, col = np.divmod(np.arange(len(bars)), n)
    return bars[~(gone & (row > 0)) & ~((col == n - 1) & (row < t // 4))]


def weights_of(rng, bars, gross):
    "Random books, long and short, that sum to at most 1, of names that have been quoted."
    dates, every = bars.index.unique("date"), int(rng.integers(1, 10))
    first = bars.reset_index("date").groupby("symbol")["date"].min()
    rows = []
    for date in dates[::every]:
        names = list(first.index[first <= date])
        w = rng.standard_normal(len(names))
        w *= gross / np.abs(w).sum()
        w = w - max(w.sum() - 0.95, 0.0) / len(w)
        rows.append(pd.Series(w, pd.MultiIndex.from_product([[date], names], names=["date", "symbol"])))
    return pd.concat(rows).rename("weight").to_frame()


def case(seed):
    "Draw a market, books, limits and sectors."
    rng = np.random.default_rng(seed)
    n, t = int(rng.integers(2, 9)), int(rng.integers(40, 90))
    bars = bars_of(rng, n, t)
    some = lambda low, high: float(rng.uniform(low, high)) if rng.random() < 0.6 else None
    stops = {"L1": float(rng.uniform(0.02, 0.15)), "L2": float(rng.uniform(0.01, 0.1))} if rng.random() < 0.5 else {}
    limits = Limits(
        max_weight=some(0.15, 0.8), max_gross=some(0.5, 2.0), max_net=some(0.0, 0.6), max_sector=some(0.1, 0.8),
        max_turnover=some(0.05, 1.0), daily_loss=some(0.01, 0.06), intraday_loss=some(0.01, 0.06),
        kill_drawdown=some(0.05, 0.2), stops=stops,
        flatten=bool(rng.random() < 0.4),
    )  # fmt: skip
    sectors = {f"N{i}": "ab"[i % 2] for i in range(n)}
    weights = weights_of(rng, bars, float(rng.uniform(0.3, 2.2)))
    ends = [weights.index.unique("date")[:1], ["N0", f"N{n - 1}"]]  # one name may have a tier and never be held
    named = weights.index.union(pd.MultiIndex.from_product(ends, names=["date", "symbol"]))
    tiers = pd.Series(rng.choice(["L1", "L2"], len(named)), named, name="tier")
    tiers = tiers[rng.random(len(tiers)) < 0.7] if stops and rng.random() < 0.7 else None
    return bars, weights, limits, sectors, tiers


def shown(positions, dates, symbols, column):
    "Spread one column of positions over all dates and names."
    return positions[column].unstack("symbol").reindex(index=dates, columns=symbols).to_numpy(float)


def book_breaches(w, limits, sectors):
    "List what a book breaks, in a way of its own: names of limits and where."
    found = set()
    for name, x in w.items():
        if limits.max_weight is not None and abs(x) > limits.max_weight + 1e-9:
            found.add(("max_weight", name))
    for sector in ("a", "b"):
        x = sum(v for k, v in w.items() if sectors[k] == sector)
        if limits.max_sector is not None and abs(x) > limits.max_sector + 1e-9:
            found.add(("max_sector", sector))
    if limits.max_gross is not None and sum(abs(v) for v in w.values()) > limits.max_gross + 1e-9:
        found.add(("max_gross", ""))
    if limits.max_net is not None and abs(sum(w.values())) > limits.max_net + 1e-9:
        found.add(("max_net", ""))
    return found


def closing(log, date):
    "List the names that hit their stop and are not flat yet, after the look of a date."
    names = set()
    for e in log:
        if pd.Timestamp(e.when) <= date and e.event in ("stop", "flat"):
            names = names | {e.at} if e.event == "stop" else names - {e.at}
    return names


def check_decisions(run, limits, sectors):
    "Every decision is within the limits of the book, and its turnover but for what had to be cut."
    for date, day in run.decided.groupby(level="date"):
        stopped = closing(run.log, date)
        day = day.droplevel("date")
        kinds = [sectors[s] for s in day.index]
        w, held = day["weight"].to_numpy(), day["held"].to_numpy()
        book = replace(limits, max_turnover=None)
        assert not limits_used(w, book, sectors=kinds)["breached"].any(), (date, day)
        assert (w[np.isin(day.index, list(stopped))] == 0).all(), (date, day)
        if limits.max_turnover is None or not held.any() or (run.modes[date] != "armed" and limits.flatten):
            continue
        kept = np.where(np.isin(day.index, list(stopped)), 0.0, held)
        forced = np.abs(cut_to_limits(kept, limits, kinds) - held).sum()
        assert np.abs(w - held).sum() <= max(limits.max_turnover, forced) + 1e-9, (date, day)


def check_nothing_grows(run):
    "After a close that is not armed no position is larger, none on another side, until the next close says otherwise."
    symbols = run.result.positions.index.unique("symbol")
    shares = np.nan_to_num(shown(run.result.positions, run.modes.index, symbols, "shares"))
    for t in np.flatnonzero(run.modes.to_numpy() != "armed"):
        if t + 1 < len(shares):
            before, after = shares[t], shares[t + 1]
            assert (np.abs(after) <= np.abs(before) * (1 + 1e-12)).all() and (after * before >= 0).all()


def check_breaches(run, limits, sectors):
    "What drifted beyond a limit is in the log on the day it did, and gone from it on the day it did not."
    symbols, dates = run.result.positions.index.unique("symbol"), run.modes.index
    shares = np.nan_to_num(shown(run.result.positions, dates, symbols, "shares"))
    price = shown(run.result.positions, dates, symbols, "price")
    events = {}
    for e in run.log:
        if e.event in ("breach", "within"):
            events.setdefault(e.when, set()).add((e.event, e.limit, e.at))
    over = set()
    for t, date in enumerate(dates):
        equity = run.result.equity.iloc[t]
        w = {s: q * p / equity for s, q, p in zip(symbols, shares[t], price[t], strict=True) if q != 0}
        now = book_breaches(w, limits, sectors)
        wanted = {("breach", *k) for k in now - over} | {("within", *k) for k in over - now}
        assert events.get(date.isoformat(), set()) == wanted, date
        assert not now or date in run.decided.index.unique("date"), (
            "what is over is cut, whether or not a decision is due"
        )
        over = now


def check_losses(run, limits, bars, rearmed):
    "The mode of every close follows from equity alone: losses halt for a session, a kill lasts until it is taken back."
    equity, opened = run.result.equity, opening_equity(run, bars)
    peak, last, killed = equity.iloc[0], 0.0, False
    for date, now in equity.items():
        if date in rearmed:
            killed, peak = False, last
        begun = opened[date] if limits.intraday_loss is not None else now
        peak = max(peak, now, begun)
        far = lambda limit, base, now=now: limit is not None and base > 0 and 1 - now / base >= limit - 1e-12
        killed |= far(limits.kill_drawdown, peak)
        halted = far(limits.daily_loss, last) or far(limits.intraday_loss, begun)
        assert run.modes[date] == ("killed" if killed else "halted" if halted else "armed"), (date, now, peak, last)
        last = now


def check_stops(run, limits, tiers):
    "A position is stopped on the first close that is far enough below what was paid for it, by plain bookkeeping."
    if not limits.stops:
        return
    paid, held, stopped, tier = {}, {}, set(), {}
    price = run.result.positions["price"]
    fills = {date: day for date, day in run.result.trades.groupby("date")}
    for date in run.modes.index:
        for fill in fills[date].itertuples() if date in fills else ():
            q, p, had = fill.quantity, fill.price, held.get(fill.symbol, 0.0)
            if had * q > 0:
                paid[fill.symbol] = (had * paid[fill.symbol] + q * p) / (had + q)
            elif abs(q) > abs(had):
                paid[fill.symbol] = p
            held[fill.symbol] = had + q
        held = {s: q for s, q in held.items() if abs(q) > 1e-9}
        stopped &= set(held)
        lost = {s: -np.sign(q) * (price[(date, s)] / paid[s] - 1) for s, q in held.items()}
        hit = {s for s, loss in lost.items() if loss >= limits.stops[tier.get(s, "L1")] * (1 - 1e-9)}
        new = {e.at for e in run.log if e.event == "stop" and e.when == date.isoformat()}
        assert new == hit - stopped, (date, new, hit - stopped)
        stopped |= hit
        if tiers is not None and date in tiers.index.unique("date"):
            tier |= tiers.xs(date).to_dict()  # of a decision: in force from the next session on


def check_cut(run, weights):
    "A cut that was forced between decisions is done at the next fill, in shares."
    due, dates = set(weights.index.unique("date")), run.modes.index
    positions = run.result.positions
    symbols = positions.index.unique("symbol")
    shares = pd.DataFrame(np.nan_to_num(shown(positions, dates, symbols, "shares")), dates, symbols)
    filled = run.result.trades.groupby(["date", "symbol"])["quantity"].sum()
    done = 0
    for date, day in run.decided.groupby(level="date"):
        at = dates.get_loc(date)
        if date in due or at + 1 >= len(dates):
            continue
        for symbol, row in day.droplevel("date").iterrows():
            key = (dates[at + 1], symbol)
            if abs(row["weight"]) < abs(row["held"]) * (1 - 1e-9) and key in filled.index:
                wanted = shares.at[date, symbol] * (row["weight"] / row["held"] - 1)
                paid = run.result.scale.get(dates[at + 1], 1.0) if wanted > 0 else 1.0  # what cash there was for buys
                assert filled[key] == pytest.approx(wanted * paid, rel=1e-9), key
                done += 1
    return done


def run_one(seed):
    "Run one random history and check it; return what happened in it."
    bars, weights, limits, sectors, tiers = case(seed)
    dates = bars.index.unique("date")
    rng, rearmed = np.random.default_rng([seed, 1]), {}
    fill = replace(next_open(), sized="fill") if rng.random() < 0.5 else next_open()
    if rng.random() < 0.3:  # somebody reviews, whether or not there was a kill
        try:
            first = guarded(weights, bars, limits, sectors=sectors, tiers=tiers, fill=fill)
        except QuantlabError as error:
            assert "ruined" in str(error), error
            return {}
        kills = [pd.Timestamp(e.when) for e in first.log if e.event == "kill"]
        at = dates.get_loc(kills[0]) + 5 if kills else len(dates)
        rearmed = {dates[at]: "reviewed by two people"} if at < len(dates) else {}
    try:
        run = guarded(weights, bars, limits, sectors=sectors, tiers=tiers, rearmed=rearmed, fill=fill)
    except QuantlabError as error:
        assert "ruined" in str(error), error
        return {}
    check_decisions(run, limits, sectors)
    check_nothing_grows(run)
    check_breaches(run, limits, sectors)
    check_losses(run, limits, bars, rearmed)
    check_stops(run, limits, tiers)
    cuts = check_cut(run, weights)
    if limits.intraday_loss is not None:
        assert run.opened.to_numpy() == pytest.approx(opening_equity(run, bars).to_numpy(), rel=1e-12)
    told = replay_guard(
        run.result.equity, run.result.positions, run.result.trades, limits, tiers=tiers, sectors=sectors,
        opened=run.opened, rearmed=rearmed,
    )  # fmt: skip
    assert log_text(told) == log_text(run.log)
    kinds = pd.Series([e.event for e in run.log]).value_counts().to_dict()
    return kinds | {"cuts": cuts}


def opening_equity(run, bars):
    "Value what was held overnight at the open, from the result alone."
    dates, positions = run.modes.index, run.result.positions
    symbols = positions.index.unique("symbol")
    shares = np.nan_to_num(shown(positions, dates, symbols, "shares"))
    price = shown(positions, dates, symbols, "price")
    open_ = bars["open"].unstack("symbol").reindex(index=dates, columns=symbols).to_numpy()
    cash, worth = run.result.cash.to_numpy(), [run.result.equity.iloc[0]]
    for t in range(1, len(dates)):
        kept = np.flatnonzero(shares[t - 1])
        now = np.where(np.isfinite(open_[t]), open_[t], price[t - 1])
        worth.append(float(cash[t - 1] + (shares[t - 1][kept] * now[kept]).sum()))
    return pd.Series(worth, dates)


def many(seeds):
    total = pd.DataFrame([run_one(seed) for seed in seeds]).sum()
    for event in ("breach", "within", "kill", "trip", "clear", "stop", "flat", "rearm", "cuts"):
        assert total.get(event, 0) > 0, f"no history had a {event}: the test shows nothing of it"
    return total


def test_random_leveraged_and_short_books():
    many(range(60))


@pytest.mark.slow
def test_a_thousand_random_leveraged_and_short_books():
    print(many(range(1000, 2000)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "terms", [{}, {"fill": next_close()}, {"costs": Costs(3, 7, borrow_bps=50)}, {"rules": Rules(lot=1)}]
)
def test_without_a_limit_it_is_the_plain_account(seed, terms):
    rng = np.random.default_rng(seed)
    bars = bars_of(rng, 5, 60)
    weights = weights_of(rng, bars, 0.9)
    free, run = from_weights(weights, bars, **terms), guarded(weights, bars, NONE, **terms)
    assert np.allclose(run.result.equity, free.equity, rtol=1e-12, atol=0) and run.log == ()
    assert len(run.result.trades) == len(free.trades)
    assert np.allclose(run.result.trades["quantity"], free.trades["quantity"], rtol=1e-9)


def test_another_time_zone_one_row_one_name():
    rng = np.random.default_rng(3)
    bars = bars_of(rng, 3, 30, zone="Asia/Tokyo")
    weights = weights_of(rng, bars, 0.8)
    run = guarded(weights, bars, Limits(max_turnover=None))
    assert str(run.modes.index.tz) == "Asia/Tokyo"
    one = bars.xs("N0", level="symbol", drop_level=False)
    alone = guarded(weights[weights.index.isin(one.index)].clip(upper=0.2), one, Limits())
    assert len(alone.result.equity) == len(one)
    last = one.index[-1:]
    single = guarded(pd.DataFrame({"weight": 0.1}, last), one, Limits())
    assert len(single.modes) == 1 and single.result.trades.empty and single.verdict.mode == "armed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"limits": Limits(max_sector=0.2)}, "max_sector needs the sector"),
        ({"limits": Limits(max_age="1D")}, "live feed"),
        ({"weights": 3.0}, "cash pays"),
        ({"weights": np.nan}, "not a number"),
    ],
)
def test_what_cannot_be_watched_is_refused(change, says):
    rng = np.random.default_rng(5)
    bars = bars_of(rng, 3, 30)
    weights = weights_of(rng, bars, 0.8)
    if "weights" in change:
        weights = weights.assign(weight=change["weights"])
    with pytest.raises((ConfigError, PanelError), match=says):
        guarded(weights, bars, change.get("limits", Limits()))


def test_volume_is_asked_for_where_a_limit_reads_it():
    rng = np.random.default_rng(5)
    bars = bars_of(rng, 3, 40)
    weights = weights_of(rng, bars, 0.8)
    with pytest.raises(ConfigError, match="volume"):
        guarded(weights, bars.drop(columns="volume"), Limits(max_adv=0.1))
    thin = guarded(weights, bars.assign(volume=10.0), replace(NONE, max_adv=0.1))
    value = thin.result.trades["quantity"].abs() * thin.result.trades["price"]
    assert value.max() < 100, "a tenth of ten shares of fifty"


def small():
    "A market of four names, and books of three of them."
    rng = np.random.default_rng(3)
    bars = bars_of(rng, 4, 60)
    weights = weights_of(rng, bars, 0.8)
    return bars, weights[weights.index.get_level_values("symbol") != "N3"]


def test_a_tier_of_a_name_that_is_never_held_is_nobody_elses():
    bars, weights = small()
    limits, first = replace(NONE, stops={"L1": 0.05, "L2": 0.02}), weights.index[:1].get_level_values("date")
    tiers = pd.Series("L2", pd.MultiIndex.from_product([first, ["N3"]], names=["date", "symbol"]))
    run, without = guarded(weights, bars, limits, tiers=tiers), guarded(weights, bars, limits)
    told = replay_guard(run.result.equity, run.result.positions, run.result.trades, limits, tiers=tiers)
    assert log_text(told) == log_text(run.log) == log_text(without.log) != ""


def test_a_name_without_a_sector_counts_with_others_that_have_none():
    bars, weights = small()
    limits, known = replace(NONE, max_sector=0.1), {"N0": "a"}
    run = guarded(weights, bars, limits, sectors=known)
    told = replay_guard(run.result.equity, run.result.positions, run.result.trades, limits, sectors=known)
    assert log_text(told) == log_text(run.log) and {e.at for e in run.log} == {"a", ""}


def test_what_was_asked_and_would_not_be_heard_is_refused():
    bars, weights = small()
    date = weights.index[0][0]
    nobody = pd.Series("L1", pd.MultiIndex.from_tuples([(date, "N9")], names=["date", "symbol"]))
    for how, says in (
        ({"tiers": nobody}, "N9"), ({"tiers": {"N0": "L1"}}, "tiers are no Series"),
        ({"rearmed": {"2020-01-20": "reviewed by two"}}, "no session"),
        ({"rearmed": {date - pd.Timedelta(days=700): "reviewed by two"}}, "no session"),
        ({"rearmed": {date: "reviewed by two"}}, "nothing to re-arm"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            guarded(weights, bars, Limits(max_turnover=None), **how)
    with pytest.raises(ConfigError, match="limits_from"):
        guarded(weights, bars, {"max_weight": 0.1})
    run = guarded(weights, bars, replace(NONE, intraday_loss=0.01))
    with pytest.raises(ConfigError, match="opened"):
        replay_guard(run.result.equity, run.result.positions, run.result.trades, Limits(intraday_loss=0.01))
