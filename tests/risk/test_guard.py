"The guard: each rule by hand, laws on random books, and looks that are none."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, LimitBreach, PanelError
from quantlab.portfolio.limits import Limits, limits_used
from quantlab.risk.limits import (
    GuardState,
    GuardVerdict,
    Snapshot,
    log_text,
    mean_entry,
    rearm,
    require_armed,
    state_from,
    state_text,
    watch,
)
from quantlab.risk.orders import cut_decision, cut_to_limits, pass_order

OPEN = Limits(None, None, max_turnover=None, kill_drawdown=None, stops={})
ARMED = GuardVerdict("armed", False, False, False, (), (), ())
TRIPPED = GuardVerdict("halted", True, True, False, (), (), (), ("daily_loss",))


def look(now, equity=1000.0, quantity=(1.0,), mark=(100.0,), entry=(100.0,), **more):
    "See a book of a few names."
    names = more.pop("symbols", [f"N{i}" for i in range(len(quantity))])
    return Snapshot(pd.Timestamp(now), equity, names, np.array(quantity), np.array(mark), np.array(entry), **more)


def told(limits, *looks, state=None):
    "Show looks in order; return the state, the last verdict and (event, limit, at) of each look."
    state, rows = state or GuardState(), []
    for one in looks:
        state, verdict = watch(state, limits, one)
        rows.append([(e.event, e.limit, e.at) for e in verdict.events])
    return state, verdict, rows


def test_a_kill_comes_at_fifteen_percent_and_stays():
    limits = Limits(None, None, stops={})
    days = [look(f"2020-01-0{d}", e) for d, e in ((1, 1000.0), (2, 850.01), (3, 850.0), (4, 2000.0), (5, 100.0))]
    state, verdict, rows = told(limits, *days)
    assert rows == [[], [], [("kill", "kill_drawdown", "")], [], []]
    assert state.mode == verdict.mode == "killed" and verdict.reduce_only and verdict.cancel and not verdict.flatten
    assert told(Limits(None, None, stops={}, flatten=True), *days)[1].flatten
    with pytest.raises(LimitBreach, match="killed by kill_drawdown.*written reason"):
        require_armed(verdict)


@pytest.mark.parametrize("next_look", ["2020-01-02 15:00", "2020-01-03 10:00"])
def test_a_kill_that_was_taken_back_is_counted_from_then(next_look):
    limits = Limits(None, None, stops={})
    state, _, _ = told(limits, look("2020-01-02 10:00", 1000.0), look("2020-01-02 11:00", 800.0))
    with pytest.raises(ConfigError, match="say in a sentence"):
        rearm(state, "ok", pd.Timestamp("2020-01-02 12:00"))
    with pytest.raises(ConfigError, match="before the last look"):
        rearm(state, "reviewed by two people", pd.Timestamp("2020-01-02 10:30"))
    state, note = rearm(state, " reviewed by two people ", pd.Timestamp("2020-01-02 12:00"))
    assert (note.event, note.reason) == ("rearm", "reviewed by two people") and state.peak == 800.0
    state, verdict, _ = told(limits, look(next_look, 800.0), state=state)
    assert verdict.mode == "armed"
    assert told(limits, look("2020-01-03 11:00", 680.0), state=state)[1].mode == "killed"


def test_losses_halt_for_what_is_left_of_a_session():
    day = Limits(None, None, kill_drawdown=None, daily_loss=0.02, stops={})
    rows = told(
        day, look("2020-01-01", 1000.0), look("2020-01-02 10:00", 980.0), look("2020-01-02 11:00", 1000.0),
        look("2020-01-03", 980.01), look("2020-01-04", 900.0), look("2020-01-05", 800.0),
    )[2]  # fmt: skip
    trip, clear = ("trip", "daily_loss", ""), ("clear", "daily_loss", "")
    assert rows == [[], [trip], [], [clear], [trip], []], "lost again on the next day: it never cleared"
    up_and_down = look("2020-01-01", 1000.0), look("2020-01-02 10:00", 1000.0), look("2020-01-02 11:00", 1100.0)
    assert told(day, *up_and_down, look("2020-01-03", 1078.0))[2][-1] == [trip], "of the close before, not of its open"
    inside = Limits(None, None, kill_drawdown=None, intraday_loss=0.01, stops={})
    _, verdict, rows = told(
        inside, look("2020-01-01", 1000.0), look("2020-01-02 10:00", 980.0, opened=985.0),
        look("2020-01-02 11:00", 975.15, opened=1.0), look("2020-01-02 12:00", 2000.0),
    )  # fmt: skip
    assert rows == [[], [], [("trip", "intraday_loss", "")], []] and verdict.why == ("intraday_loss",)


@pytest.mark.parametrize(
    ("side", "tier", "price", "hit"),
    [(1, "L1", 97.0, True), (1, "L1", 97.01, False), (1, "L2", 98.0, True), (1, "L2", 98.01, False),
     (1, "L3", 98.75, True), (1, "L3", 98.76, False), (-1, "L1", 103.0, True), (-1, "L3", 101.25, True),
     (-1, "L2", 101.99, False), (-1, "L1", 50.0, False), (1, "L1", 200.0, False)],
)  # fmt: skip
def test_stops_by_tier(side, tier, price, hit):
    limits = Limits(None, None, kill_drawdown=None)
    _, verdict, rows = told(limits, look("2020-01-01", quantity=(side * 2.0,), mark=(price,), tier=[tier]))
    assert verdict.close == (("N0",) if hit else ()) and verdict.mode == "armed"
    assert rows == [[("stop", tier, "N0")] if hit else []]


def test_a_position_without_a_tier_has_the_first():
    limits = Limits(None, None, kill_drawdown=None)
    assert not told(limits, look("2020-01-01", mark=(97.5,)))[1].close
    assert told(limits, look("2020-01-01", mark=(97.0,)))[1].close == ("N0",)


def test_a_stopped_name_is_told_once_and_until_it_is_flat():
    limits = Limits(None, None, kill_drawdown=None)
    days = [(5.0, 96.0), (5.0, 120.0), (2.0, 90.0), (0.0, 90.0), (1.0, 99.0)]
    state, closing = GuardState(), []
    for d, (q, p) in enumerate(days):
        state, verdict = watch(state, limits, look(f"2020-01-0{d + 1}", quantity=(q,), mark=(p,)))
        closing.append(verdict.close)
        if d == 3:
            assert [(e.event, e.at) for e in verdict.events] == [("flat", "N0")]
    assert closing == [("N0",), ("N0",), ("N0",), (), ()]


def test_what_cannot_be_seen_counts_as_tripped():
    rows = told(
        OPEN, look("2020-01-01"), look("2020-01-02", mark=(np.nan,)), look("2020-01-03", mark=(0.0,)),
        look("2020-01-04"), look("2020-01-05", np.nan), look("2020-01-06", -5.0), look("2020-01-07"),
    )[2]  # fmt: skip
    assert rows[:3] == [[], [("trip", "max_age", "N0")], []] and rows[3] == [("clear", "max_age", "")]
    assert rows[4:] == [[("trip", "equity", "")], [], [("clear", "equity", "")]]
    both = {"quantity": (1.0, 1.0), "mark": (np.nan,) * 2, "entry": (1.0, 1.0), "symbols": ["B", "A"]}
    assert told(OPEN, look("2020-01-01", **both))[2] == [[("trip", "max_age", "A")]], "the first by name, in any order"
    old = Limits(None, None, kill_drawdown=None, stops={}, max_age=pd.Timedelta("1h"))
    at = lambda hour: look("2020-01-01 12:00", marked=pd.DatetimeIndex([f"2020-01-01 {hour}"]))
    assert told(old, at("11:00"))[1].mode == "armed" and told(old, at("10:59"))[1].mode == "halted"
    never = look("2020-01-01 12:00", marked=pd.DatetimeIndex([pd.NaT]))
    assert told(old, never)[1].mode == "halted", "a mark that was never made is old"
    assert told(OPEN, look("2020-01-01", quantity=(0.0,), mark=(np.nan,), entry=(np.nan,)))[1].mode == "armed"


@pytest.mark.parametrize("equity", [np.nan, -1.0])
def test_nobody_knows_of_a_breach_without_an_equity(equity):
    limits = Limits(max_weight=0.05, max_gross=None, kill_drawdown=None, stops={})
    rows = told(limits, look("2020-01-01"), look("2020-01-02", equity), look("2020-01-03"), look("2020-01-04", 1e6))[2]
    over = [[e for e in row if e[1] == "max_weight"] for row in rows]
    assert over == [[("breach", "max_weight", "N0")], [], [], [("within", "max_weight", "N0")]]


def test_breaches_of_the_book_are_written_once_and_stop_nothing():
    limits = Limits(0.3, 0.9, max_net=0.2, max_sector=0.35, max_turnover=None, kill_drawdown=None, stops={})
    book = {"quantity": (4.0, 1.0, -5.0), "mark": (100.0,) * 3, "entry": (100.0,) * 3, "sectors": ["a b", "a b", "c"]}
    _, verdict, rows = told(limits, *(look(f"2020-01-0{d}", **book) for d in (1, 2)), look("2020-01-03", 1e6, **book))
    wanted = {("max_weight", "N0"), ("max_weight", "N2"), ("max_sector", "a b"), ("max_sector", "c"), ("max_gross", "")}
    assert {row[1:] for row in rows[0]} == wanted and {row[0] for row in rows[0]} == {"breach"} and rows[1] == []
    assert {row[1:] for row in rows[2]} == wanted and {row[0] for row in rows[2]} == {"within"}
    assert verdict.mode == "armed" and not verdict.breaches


numbers = st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 3))


def history(seed, days=25):
    "Draw looks at a random book: gaps in marks, an equity that cannot be told, several looks a session."
    rng = np.random.default_rng(seed)
    n, now, looks = int(rng.integers(1, 6)), pd.Timestamp("2020-01-01 10:00"), []
    equity, mark = 1000.0, np.full(n, 100.0)
    quantity = rng.integers(-4, 5, n).astype(float)
    entry = np.where(quantity != 0, 100.0, np.nan)
    for _ in range(days):
        now += pd.Timedelta(hours=int(rng.choice([1, 24])))
        mark = mark * np.exp(rng.normal(0, 0.03, n))
        if rng.random() < 0.3:
            quantity = np.where(rng.random(n) < 0.5, 0.0, quantity)
            entry = np.where(quantity != 0, entry, np.nan)
        equity *= float(np.exp(rng.normal(0, 0.03)))
        blind, gone = rng.random() < 0.05, rng.random(n) < 0.03
        tier, sectors = rng.choice(["L1", "L2"], n), np.array(["a", "b", "a b"])[np.arange(n) % 3]
        looks.append(
            Snapshot(now, np.nan if blind else equity, np.array([f"N{i}" for i in range(n)]), quantity,
                     np.where(gone, np.nan, mark), entry, tier, sectors, opened=equity * 1.01)
        )  # fmt: skip
    return looks


LIMITS = Limits(
    0.3, 1.0, max_net=0.4, max_sector=0.4, daily_loss=0.04, intraday_loss=0.05, kill_drawdown=0.25,
    stops={"L1": 0.08, "L2": 0.04},
)  # fmt: skip


def play(looks, between=lambda state: state):
    "Show a history; return the log and the verdicts."
    state, log, verdicts = GuardState(), [], []
    for one in looks:
        state, verdict = watch(between(state), LIMITS, one)
        log, verdicts = [*log, *verdict.events], [*verdicts, verdict]
    return log, verdicts


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_a_guard_that_was_stopped_and_read_again_says_the_same(seed):
    looks = history(seed)
    log, verdicts = play(looks)
    again, said = play(looks, lambda state: state_from(state_text(state)))
    assert log_text(log) == log_text(again) and verdicts == said
    modes = [v.mode for v in verdicts]
    if "killed" in modes:
        assert set(modes[modes.index("killed") :]) == {"killed"}
    for verdict in verdicts:
        assert verdict.reduce_only == verdict.cancel == (verdict.mode != "armed") == bool(verdict.why)
    for kind, begins, ends in (("over", "breach", "within"), ("stopped", "stop", "flat")):
        on = set()  # what begins has not begun, what ends had
        for e in log:
            key = (e.limit if kind == "over" else "", e.at)
            assert (e.event != begins or key not in on) and (e.event != ends or key in on), (kind, e)
            on = on | {key} if e.event == begins else on - {key} if e.event == ends else on


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_neither_the_order_of_names_nor_the_currency_matters(seed):
    looks = history(seed)
    order = np.random.default_rng(seed).permutation(len(looks[0].symbols))
    turned = [x._replace(**{k: getattr(x, k)[order] for k in x._fields[2:8]}) for x in looks]
    rich = [x._replace(equity=x.equity * 4, mark=x.mark * 4, entry=x.entry * 4, opened=x.opened * 4) for x in looks]
    log = lambda looks: sorted((e.when, e.event, e.limit, e.at) for e in play(looks)[0])
    assert log(looks) == log(turned) == log(rich)


@settings(max_examples=200)
@given(numbers, numbers, st.booleans(), st.booleans())
def test_no_order_grows_a_position_that_may_only_be_reduced(quantity, held, tripped, stopped):
    verdict = (TRIPPED if tripped else ARMED)._replace(close=("KO",) if stopped else ())
    passed = pass_order(quantity, held, "KO", verdict)
    if not (tripped or stopped):
        assert passed == quantity and pass_order(quantity, held, "PG", verdict) == quantity
        return
    assert abs(held + passed) <= abs(held) and (held + passed) * held >= 0 and abs(passed) <= abs(quantity)
    if quantity * held < 0:
        assert abs(passed) == min(abs(quantity), abs(held)), "what reduces passes, all of it"


books = st.lists(numbers, min_size=1, max_size=8)
caps = st.sampled_from([None, 0.05, 0.3, 1.0])
within = st.builds(
    lambda w, g, net, s: Limits(w, g, max_net=net, max_sector=s, max_turnover=None, kill_drawdown=None, stops={}),
    caps, st.sampled_from([None, 0.2, 1.0, 2.0]), st.sampled_from([None, 0.0, 0.1, 1.0]), caps,
)  # fmt: skip


def ok(weights, limits, sectors):
    "Say whether weights are within the limits of a book."
    return not limits_used(weights, limits, sectors=sectors)["breached"].any()


@settings(max_examples=200)
@given(books, within)
def test_a_cut_book_is_within_its_limits_by_reductions_alone(weights, limits):
    w, sectors = np.array(weights), ["abc"[i % 3] for i in range(len(weights))]
    cut = cut_to_limits(w, limits, sectors)
    assert ok(cut, limits, sectors) and (np.abs(cut) <= np.abs(w) + 1e-15).all() and (cut * w >= 0).all()
    assert np.allclose(cut_to_limits(cut, limits, sectors), cut, atol=1e-12), "a cut book needs no cut"
    if ok(w, limits, sectors):
        assert np.allclose(cut, w, atol=1e-9)


def test_what_rounding_leaves_of_a_net_is_no_lean():
    w, sectors = [-0.2, -0.8, 0.1, 0.2, 0.8, -0.1], list("abcabc")
    assert np.sum(w) != 0.0, "the sectors are neutral, their sum is 8e-17"
    neutral = Limits(None, None, max_net=0.0, max_turnover=None, max_sector=1.0, kill_drawdown=None, stops={})
    with np.errstate(all="raise"):
        assert np.allclose(cut_to_limits(w, neutral, sectors), w)


@settings(max_examples=200)
@given(
    books, st.integers(0, 10**6), within, st.sampled_from([None, 0.02, 0.2]), st.sampled_from([None, 0.1]),
    st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_decision_is_within_every_limit(wanted, seed, limits, turnover, adv, tripped, stopped, flatten):
    rng, n = np.random.default_rng(seed), len(wanted)
    wish, held = np.array(wanted), np.where(rng.random(n) < 0.7, rng.normal(0, 0.6, n), 0.0)
    names, sectors, traded = [f"N{i}" for i in range(n)], ["abc"[i % 3] for i in range(n)], rng.exponential(2, n)
    own = {f: getattr(limits, f) for f in ("max_weight", "max_gross", "max_net", "max_sector")}
    limits = Limits(**own, max_turnover=turnover, max_adv=adv, kill_drawdown=None, stops={})
    verdict = (TRIPPED if tripped else ARMED)._replace(close=("N0",) if stopped else (), flatten=tripped and flatten)
    goal = cut_decision(wish, held, limits, verdict, names, sectors, traded)
    book = Limits(**own, max_turnover=None, kill_drawdown=None, stops={})
    assert ok(goal, book, sectors)
    if verdict.flatten:
        assert not goal.any()
        return
    base = cut_to_limits(np.where([stopped, *[False] * (n - 1)], 0.0, held), book, sectors)
    if stopped:
        assert goal[0] == 0
    if tripped:
        assert (np.abs(goal) <= np.abs(base) + 1e-12).all() and (goal * held >= 0).all(), "nothing grows after a trip"
    if turnover is not None and held.any():
        assert np.abs(goal - held).sum() <= max(turnover, np.abs(base - held).sum()) + 1e-9
    if adv is not None:
        assert (np.abs(goal - base) <= adv * traded + 1e-9).all()
    free = cut_decision(wish, held, book, ARMED, names, sectors)
    if not (tripped or stopped):
        moved, whole = goal - base, free - base
        assert np.allclose(moved * np.abs(whole).sum(), whole * np.abs(moved).sum(), atol=1e-9), "the same way, shorter"


def test_entry_prices_by_plain_bookkeeping():
    rng = np.random.default_rng(4)
    held, entry, lots = np.zeros(1), np.full(1, np.nan), 0.0
    for _ in range(500):
        q, p = float(rng.integers(-3, 4)), float(rng.integers(90, 111))
        entry = mean_entry(entry, held, np.array([q]), np.array([p]))
        had = held[0]
        if had * q >= 0:
            lots += q * p
        elif abs(q) <= abs(had):
            lots *= (had + q) / had
        else:
            lots = (had + q) * p
        held = held + q
        assert np.isnan(entry[0]) if held[0] == 0 else entry[0] == pytest.approx(lots / held[0], rel=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: told(OPEN, look("2020-01-02"), look("2020-01-01")), PanelError, "looks in order"),
        (lambda: told(OPEN, look("2020-01-02"), look("2020-01-03")._replace(now=pd.Timestamp("2020-01-03", tz="UTC"))),
         PanelError, "zone"),
        (lambda: told(OPEN, look("2020-01-02", quantity=(np.nan,))), PanelError, "no quantity"),
        (lambda: told(OPEN, look("2020-01-02", mark=(1.0, 2.0))), PanelError, r"columns of \[1, 2\]"),
        (lambda: told(OPEN, look("2020-01-02", tier=[])), PanelError, r"columns of \[0, 1\]"),
        (lambda: told(OPEN, look("2020-01-02", quantity=(1.0, 1.0), mark=(1.0, 1.0), entry=(1.0, 1.0),
                                 symbols=["A", "A"])), PanelError, "twice"),
        (lambda: told(OPEN, look("2020-01-02", opened=np.nan)), PanelError, "opened with nan"),
        (lambda: told(Limits(), look("2020-01-02", entry=(np.nan,))), PanelError, "N0 is held and has no entry"),
        (lambda: told(Limits(), look("2020-01-02", tier=["L9"])), ConfigError, "L9"),
        (lambda: told(Limits(max_sector=0.1), look("2020-01-02")), PanelError, "sector of each name"),
        (lambda: told(Limits(max_age="1h"), look("2020-01-02")), PanelError, "marked"),
        (lambda: rearm(GuardState(), "reviewed by two people", pd.Timestamp("2020-01-01")), ConfigError, "armed"),
        (lambda: rearm(GuardState("killed", seen="2020-01-01"), "two words", pd.Timestamp("2020-01-02", tz="UTC")),
         PanelError, "zone"),
        (lambda: state_from("nothing"), ConfigError, "no state"),
        (lambda: state_from('{"peak": "high"}'), ConfigError, "no state"),
        (lambda: state_from('{"mode": "asleep"}'), ConfigError, "asleep"),
        (lambda: state_from('{"moods": 1}'), ConfigError, "no state"),
        (lambda: require_armed(TRIPPED), LimitBreach, "halted by daily_loss.*next session"),
        (lambda: pass_order(np.inf, 0.0, "KO", ARMED), PanelError, "KO"),
        (lambda: cut_to_limits(np.array([np.nan]), Limits()), PanelError, "finite"),
        (lambda: cut_to_limits(np.ones((2, 2)), Limits()), PanelError, "shape"),
        (lambda: cut_to_limits(np.ones(2), Limits(max_sector=0.1), ["a"]), PanelError, "sector"),
        (lambda: cut_decision(np.ones(1), np.ones(1), Limits(), ARMED, ["A", "B"]), PanelError, "each name"),
        (lambda: cut_decision(np.ones(1), np.ones(1), Limits(max_adv=0.1), ARMED, ["A"], traded=np.ones(2)),
         PanelError, "traded has shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_numbers_of_any_kind_and_no_names_at_all():
    whole = Snapshot(pd.Timestamp("2020-01-01"), 1000, ["KO"], [1], [100], [100], opened=np.float32(1000))
    assert watch(GuardState(), Limits(), whole)[1].mode == "armed"
    state, verdict = watch(GuardState(), Limits(), look("2020-01-01", quantity=(), mark=(), entry=()))
    assert verdict.events == () and state.peak == 1000.0
    assert cut_to_limits([], Limits()).size == 0 and cut_decision([], [], Limits(), ARMED, []).size == 0
    zoned = look("2020-01-01")._replace(now=pd.Timestamp("2020-01-01 23:30", tz="America/New_York"))
    assert watch(GuardState(), Limits(), zoned)[0].session == "2020-01-01", "the session is that of the look's own zone"
