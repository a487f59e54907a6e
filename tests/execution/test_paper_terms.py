"Terms of a paper venue: latency, a queue, too few shares, rejects and halts; the default is the backtest's account."

import hashlib
import json
import math
import random
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from quantlab.backtest.account import account_terms
from quantlab.backtest.costs import Costs
from quantlab.broker.fill_model import DEFAULT_FILL, limit_queue, next_open
from quantlab.broker.rules import Rules
from quantlab.core.errors import ConfigError
from quantlab.core.panel import as_panel
from quantlab.execution.engine import Engine
from quantlab.execution.intent import ExecutionError, OrderIntent
from quantlab.execution.paper import DEFAULT_PAPER, PaperTerms, PaperVenue
from quantlab.execution.store import OrderRow, OrderStore
from quantlab.execution.venue import Refused

DAYS = pd.bdate_range("2024-01-02", periods=6)  # sessions of New York, which opens at 14:30 UTC
NAMES = ["A", "B", "C"]
COSTS, RULES = Costs(commission_bps=1, slippage_bps=5), Rules(lot=1.0, max_gross=np.inf)
OPENS = "2024-01-03T14:30:00+00:00"


def bars(seed=0, volume=200.0):
    rng = np.random.default_rng(seed)
    rows = []
    for day in DAYS:
        for i, name in enumerate(NAMES):
            low, *inside, high = np.sort(10 + i + rng.random(4)).tolist()
            rows.append((day, name, *rng.permutation(inside), high, low, volume))
    columns = ["date", "symbol", "open", "close", "high", "low", "volume"]
    return as_panel(pd.DataFrame(rows, columns=columns))


def flat(**changed):
    "Bars that open and close at 10, between 9 and 11, of 1,000 shares; but for A on the second day."
    table = pd.DataFrame(
        [(d, n, 10.0, 10.0, 11.0, 9.0, 1000.0) for d in DAYS for n in NAMES],
        columns=["date", "symbol", "open", "close", "high", "low", "volume"],
    )
    panel = as_panel(table)
    for column, value in changed.items():
        panel.loc[(DAYS[1], "A"), column] = value
    return panel


def asked(id, symbol="A", quantity="5", price="10"):
    numbers = (Decimal(quantity), Decimal(price))
    return OrderRow(id, "s", "2024-01-02", symbol, *numbers, "", "sent", "", "", "")


class Hand:
    "A clock that is set by hand."

    def __init__(self, now="2024-01-02T22:00:00+00:00"):
        self.now = now

    def __call__(self):
        return self.now

    def before(self, seconds, opens=OPENS):
        self.now = (pd.Timestamp(opens) - pd.Timedelta(seconds=seconds)).isoformat()


def venue(folder, terms=DEFAULT_PAPER, panel=None, now=None, fill=DEFAULT_FILL, name="paper.jsonl", **other):
    panel = flat() if panel is None else panel
    fixed = {"cash": 1e6, "costs": COSTS, "rules": RULES} | other
    return PaperVenue(panel, folder / name, DAYS[0], fill=fill, terms=terms, now=now or Hand(), **fixed)


def stands(made, *ids):
    seen = [made.lookup(asked(id)) for id in ids]
    return [(one.state, int(one.filled), one.why) if one else None for one in seen]


def test_the_default_writes_what_was_written_before_and_reads_it(tmp_path):
    said = account_terms(COSTS, RULES, DEFAULT_FILL, 1e6, flat())
    old = [
        {"start": "2024-01-02", "terms": f"{said}"},
        {"id": "a", "quantity": "5", "symbol": "A"},
        {"id": "b", "quantity": "7", "symbol": "B"},
        {"cancel": "b"},
        {"play": "2024-01-03"},
    ]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in old)
    (tmp_path / "old.jsonl").write_text(text)
    read, made = venue(tmp_path, name="old.jsonl"), venue(tmp_path)
    made.submit(asked("a"))
    made.submit(asked("b", "B", "7"))
    made.cancel(asked("b"))
    made.play()
    assert (tmp_path / "paper.jsonl").read_text() == text
    assert stands(read, "a", "b") == stands(made, "a", "b") == [("filled", 5, ""), ("cancelled", 0, "")]
    assert read.book() == made.book() and read.result().settings["cash"] == 1e6


@pytest.mark.parametrize(
    ("seconds", "latency", "in_time"),
    [(2.0, 1.5, True), (1.0, 1.5, False), (0.5, 0.5, False), (0.500001, 0.5, True), (0.0, 0.0, False), (1e-6, 0, True)],
)
def test_an_order_must_be_there_before_the_open(tmp_path, seconds, latency, in_time):
    clock, terms = Hand(), PaperTerms(latency=latency, calendar="XNYS")
    clock.before(seconds)
    made = venue(tmp_path, terms, now=clock)
    assert made.submit(asked("a")).state == "working"
    made.play()
    late = ("expired", 0, "missed its session: arrived after the open")
    assert stands(made, "a") == [("filled", 5, "") if in_time else late]
    made.play()
    assert made.book()[0] == ({"A": 5} if in_time else {}), "what came too late is not for the next session"
    at = json.loads((tmp_path / "paper.jsonl").read_text().splitlines()[1])["at"]
    assert pd.Timestamp(at) == pd.Timestamp(clock.now) + pd.Timedelta(seconds=latency)


def test_a_cancel_that_comes_too_late_does_not_stop_the_fill(tmp_path):
    clock, terms = Hand(), PaperTerms(latency=1.0, calendar="XNYS")
    made = venue(tmp_path, terms, now=clock)
    for id in "abc":
        made.submit(asked(id))
    clock.before(3.0)
    made.cancel(asked("a"))
    assert stands(made, "a") == [("cancel_pending", 0, "")], "it is on its way"
    clock.before(0.5)
    assert stands(made, "a") == [("cancelled", 0, "")], "it is there"
    made.cancel(asked("a"))  # said twice: the first one stands
    made.cancel(asked("b"))
    clock.now = "2024-01-03T15:00:00+00:00"
    assert stands(made, "a", "b", "c") == [("cancelled", 0, ""), ("cancel_pending", 0, ""), ("working", 0, "")]
    made.play()
    assert stands(made, "a", "b", "c") == [("cancelled", 0, ""), ("filled", 5, ""), ("filled", 5, "")]
    with pytest.raises(Refused, match="does not wait"):
        made.cancel(asked("a"))


def test_the_clock_is_read_in_any_zone_and_the_calendar_knows_sessions_that_have_no_bars_yet(tmp_path):
    clock = Hand("2024-01-03T09:29:58-05:00")
    made = venue(tmp_path, PaperTerms(latency=1, calendar="XNYS"), panel=flat().loc[: DAYS[0]], now=clock)
    made.submit(asked("a"))
    made.submit(asked("b"))
    made.cancel(asked("b"))
    clock.now = "2024-01-03T09:29:59-05:00"
    assert made.due is None and stands(made, "a", "b") == [("working", 0, ""), ("cancelled", 0, "")]
    more = venue(tmp_path, PaperTerms(latency=1, calendar="XNYS"), now=clock)
    more.play()
    assert stands(more, "a", "b") == [("filled", 5, ""), ("cancelled", 0, "")]
    clock.now = "2024-01-03T09:29:58"
    with pytest.raises(ExecutionError, match="no time zone"):
        more.submit(asked("c"))


def test_bars_that_are_no_sessions_of_the_calendar_are_refused_before_anything_is_written(tmp_path):
    tokyo = PaperTerms(calendar="XTKS")  # closed on 3 January
    with pytest.raises(ExecutionError, match="2024-01-03 is no session of XTKS; name the bars' calendar"):
        venue(tmp_path, tokyo)
    with pytest.raises(ConfigError, match="open, high and low"):
        venue(tmp_path, PaperTerms(collar=0.1), panel=flat().drop(columns="high"))
    with pytest.raises(ConfigError, match="terms is a dict; give PaperTerms"):
        venue(tmp_path, {"latency": 1.0})
    assert not (tmp_path / "paper.jsonl").exists()


@pytest.mark.parametrize(
    ("opened", "low", "collar", "told"),
    [
        (10.0, 9.0, 0.05, ("filled", 900, "")),  # at the open, below its limit of 10.5
        (10.6, 9.5, 0.05, ("expired", 566, "volume")),  # 1.0 of 1.5 is beyond, less a tenth: 566.67 of 1,000
        (10.6, 10.4, 0.05, ("expired", 66, "volume")),
        (10.6, 10.45, 0.05, ("expired", 0, "volume")),  # touched, and all of that goes to those before it
        (10.9, 10.6, 0.05, ("expired", 0, "price not reached")),
        (10.1, 9.0, 0.0, ("expired", 400, "volume")),  # half of the range, less a tenth
    ],
)
def test_a_limit_waits_in_a_queue(tmp_path, opened, low, collar, told):
    panel = flat(open=opened, close=opened, low=low)
    made = venue(tmp_path, PaperTerms(collar=collar), panel=panel, fill=limit_queue(0.1))
    made.submit(asked("a", quantity="900"))
    made.play()
    assert stands(made, "a") == [told]
    for fill in made.fills(""):
        limit = 10 * (1 + collar)
        assert float(fill.price) == pytest.approx(min(min(opened, limit) * (1 + 5e-4), limit), rel=1e-12)
    assert made.book()[0] == ({"A": told[1]} if told[1] else {})


def by_hand(bar, orders, queue, through):
    "Work out one name's session slowly: orders are (shares, limit); return what each gets, and what it pays."
    got, used = [(0, None)] * len(orders), 0.0
    for stage in ("open", "later"):
        for side in (-1, 1):
            for n, (shares, limit) in enumerate(orders):
                if shares * side <= 0 or got[n][0] == shares:
                    continue
                if stage == "open":
                    if (bar["open"] > limit) if side > 0 else (bar["open"] < limit):
                        continue
                    room, price = math.inf, bar["open"]
                else:
                    far = bar["low"] if side > 0 else bar["high"]
                    reached = far <= limit * (1 - through) if side > 0 else far >= limit * (1 + through)
                    if not reached:
                        continue
                    traded = (limit - bar["low"] if side > 0 else bar["high"] - limit) / (bar["high"] - bar["low"])
                    room, price = max(bar["volume"] * max(traded - queue, 0.0) - used, 0.0), limit
                    room = room if queue else math.inf  # nobody waits before us: what is reached is ours
                shares_now = abs(shares) if abs(shares) <= room else math.floor(room + 1e-9)
                used += shares_now
                paid = price * (1 + side * 5e-4)
                got[n] = (side * shares_now, min(paid, limit) if side > 0 else max(paid, limit))
    return got


@pytest.mark.parametrize("seed", range(6))
def test_the_queue_is_what_a_slow_count_says(tmp_path, seed):
    rng, panel = random.Random(seed), bars(seed)
    queue, through, collar = (
        0.0 if seed == 5 else rng.choice([0.02, 0.05, 0.2]),
        rng.choice([0.0, 0.002]),
        rng.choice([0.0, 0.003, 0.02]),
    )
    made = venue(tmp_path, PaperTerms(collar=collar), panel, fill=limit_queue(queue, through=through), cash=1e9)
    parts = 0
    for day in DAYS[1:]:
        sent = {}
        for name in NAMES:
            bar = panel.loc[(day, name)]
            for n in range(rng.randint(1, 3)):
                price = round(rng.uniform(bar["low"], bar["high"]), 4)
                shares = rng.choice([-1, 1]) * rng.randint(1, 150)
                sent[f"{day:%d}{name}{n}"] = (name, shares, price, price * (1 + math.copysign(collar, shares)))
        for id, (name, shares, price, _) in sent.items():
            made.submit(asked(id, name, str(shares), str(price)))
        made.play()
        fills = {fill.id: fill for fill in made.fills(f"{day:%Y-%m-%d}")}
        for name in NAMES:
            mine = {id: one for id, one in sent.items() if one[0] == name}
            found = by_hand(panel.loc[(day, name)], [(o[1], o[3]) for o in mine.values()], queue, through)
            for (id, one), (shares, paid) in zip(mine.items(), found, strict=True):
                seen = made.lookup(asked(id))
                assert seen.filled == shares, (seed, id)
                assert seen.state == ("filled" if shares == one[1] else "expired")
                assert not shares or float(fills[id].price) == pytest.approx(paid, rel=1e-12)
                parts += 0 < abs(shares) < abs(one[1])
    assert parts > 3 or not queue, "some were filled in part"


def test_a_part_is_told_to_the_store_as_it_is(tmp_path):
    store = OrderStore(tmp_path / "orders.sqlite")
    store.open_book("1000000")
    store.add([OrderIntent(id, "s", "2024-01-02", id, Decimal(n), Decimal(10)) for id, n in (("A", 50), ("B", -500))])
    made = venue(tmp_path, fill=next_open(participation=0.1))
    engine = Engine(store, made)
    engine.release()
    engine.step()
    made.play()
    engine.step()
    whole, part = store.order("A"), store.order("B")
    assert (whole.state, store.filled("A")) == ("filled", 50)
    assert (part.state, part.why, store.filled("B")) == ("expired", "volume", -100), "a tenth of 1,000"
    assert store.book()[0] == made.book()[0] and abs(store.book()[1] - made.book()[1]) < Decimal("1e-6")
    assert stands(made, "B") == [("expired", -100, "volume")]
    store.close()


def test_a_late_cancel_ends_in_a_fill_for_the_engine_too(tmp_path):
    clock = Hand()
    store = OrderStore(tmp_path / "orders.sqlite", now=clock)
    store.open_book("1000000")
    store.add([OrderIntent(id, "s", "2024-01-02", id, Decimal(5), Decimal(10)) for id in ("A", "B", "C")])
    made = venue(tmp_path, PaperTerms(latency=1, calendar="XNYS", halts={"C": DAYS[1]}), now=clock)
    engine = Engine(store, made)
    clock.before(3.0)
    engine.release()
    engine.step()
    store.move("A", "cancel_pending", "engine", "wanted no more")
    engine.step()
    clock.before(0.5)
    store.move("B", "cancel_pending", "engine", "wanted no more")
    engine.step()
    assert [store.order(id).state for id in "ABC"] == ["cancelled", "cancel_pending", "working"]
    made.play()
    engine.step()
    assert [store.order(id).state for id in "ABC"] == ["cancelled", "filled", "expired"]
    assert store.order("C").why == "halted" and store.book()[0] == {"B": 5}
    store.close()


def test_random_rejects_follow_from_the_id_alone(tmp_path):
    terms = PaperTerms(reject_share=0.3, seed=7)
    ids = [f"o{n}" for n in range(400)]
    numbers = {id: int.from_bytes(hashlib.sha256(f"7:{id}".encode()).digest()[:8], "big") / 2**64 for id in ids}
    refused, made = set(), venue(tmp_path, terms)
    for id in ids:
        try:
            made.submit(asked(id))
        except Refused as no:
            assert str(no) == f"order {id} was refused at random"
            refused.add(id)
    assert refused == {id for id, number in numbers.items() if number < 0.3} and 90 < len(refused) < 150
    again = venue(tmp_path, terms)
    for id in ids[:40]:
        assert (again.lookup(asked(id)) is None) == (id in refused)
        if id in refused:
            with pytest.raises(Refused, match="at random"):
                again.submit(asked(id))
    none, all_ = (venue(tmp_path, PaperTerms(reject_share=p), name=f"{p}.jsonl") for p in (0.0, 1.0))
    assert none.submit(asked("x")).state == "working"
    with pytest.raises(Refused, match="at random"):
        all_.submit(asked("x"))


def test_what_makes_no_sense_is_refused_at_once(tmp_path):
    panel = flat().assign(split_ratio=1.0)
    panel.loc[(DAYS[2], "A"), "split_ratio"] = 1.5
    made = venue(tmp_path, PaperTerms(strict=True, collar=0.1), panel)
    for order, why in (
        (asked("x", "ZZZ"), "ZZZ is not traded here"),
        (asked("x", quantity="0"), "order x is for no shares"),
        (asked("x", quantity="-1.5"), "order x is for -1.5 A, and a lot is 1"),
        (asked("x", price="0"), "order x would have a limit at 0; it must be above 0"),
        (asked("x", price="-3"), "order x would have a limit at -3; it must be above 0"),
        (asked("x", price="NaN"), "order x would have a limit at NaN; it must be above 0"),
    ):
        with pytest.raises(Refused) as told:
            made.submit(order)
        assert str(told.value) == why
    assert len((tmp_path / "paper.jsonl").read_text().splitlines()) == 1, "nothing was taken"
    made.submit(asked("a"))
    made.play()
    made.play()
    assert made.book()[0] == {"A": Decimal("7.5")}, "a split left half a share"
    with pytest.raises(Refused, match="a lot is 1"):
        made.submit(asked("b", quantity="-6.5"))
    made.submit(asked("b", quantity="-7.5"))
    made.play()
    assert made.book()[0] == {}


def test_a_halt_holds_the_order_back_and_keeps_the_bar(tmp_path):
    panel = flat(close=9.5)
    terms = PaperTerms(halts={"A": ["2024-01-04"], "B": pd.Timestamp("2024-01-03"), "not here": ["2024-01-03"]})
    made = venue(tmp_path, terms, panel)
    for name in "ABC":
        made.submit(asked(name, name))
    made.play()
    assert stands(made, *"ABC") == [("filled", 5, ""), ("expired", 0, "halted"), ("filled", 5, "")]
    made.submit(asked("sale", quantity="-5"))
    made.play()
    assert stands(made, "sale") == [("expired", 0, "halted")]
    shares, cash = made.book()
    assert shares == {"A": 5, "C": 5}
    assert made.result().equity.iloc[-1] == pytest.approx(float(cash) + 5 * 10 + 5 * 10), "worth its close"
    told = venue(tmp_path, DEFAULT_PAPER, panel)  # the journal alone: what was played stays as it was played
    assert stands(told, *"ABC", "sale") == stands(made, *"ABC", "sale") and told.book() == made.book()
    more = venue(tmp_path, PaperTerms(halts={"A": "2024-01-05", "C": "2024-01-03"}), panel)
    more.submit(asked("again", quantity="-5"))
    more.play()
    assert stands(more, "C", "again") == [("filled", 5, ""), ("expired", 0, "halted")]


def test_halts_are_the_same_in_every_form():
    pairs = {("A", "2024-01-03"), ("A", "2024-01-04"), ("B", "2024-01-03")}
    table = pd.DataFrame(sorted(pairs), columns=["symbol", "date"])
    dated = table.assign(date=pd.to_datetime(table["date"]))
    forms = [
        {"A": ["2024-01-03", pd.Timestamp("2024-01-04")], "B": "2024-01-03"},
        {"A": pd.DatetimeIndex(["2024-01-03", "2024-01-04"]), "B": {pd.Timestamp("2024-01-03").date()}},
        {"A": np.array(["2024-01-03", "2024-01-04"], "datetime64[D]"), "B": np.datetime64("2024-01-03")},
        table,
        dated,
        dated.assign(why="news").set_index(["date", "symbol"]),
        pairs,
        PaperTerms(halts=pairs).halts,
    ]
    for form in forms:
        assert PaperTerms(halts=form).halts == pairs
    assert PaperTerms(halts={}).halts == PaperTerms(halts=table[:0]).halts == frozenset()
    assert hash(PaperTerms(halts=table)) == hash(PaperTerms(halts=pairs))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latency": -1.0, "calendar": "XNYS"}, "latency is -1.0; give a number from 0 to below inf"),
        ({"latency": math.nan, "calendar": "XNYS"}, "latency is nan"),
        ({"latency": math.inf, "calendar": "XNYS"}, "latency is inf"),
        ({"latency": "1", "calendar": "XNYS"}, "latency is '1'"),
        ({"latency": 1.0}, "latency is 1 s and there is no calendar"),
        ({"calendar": "NOWHERE"}, "there is no calendar 'NOWHERE'"),
        ({"calendar": None}, "calendar is None; give a str"),
        ({"collar": 1.0}, "collar is 1.0; give a number from 0 to below 1"),
        ({"collar": -0.01}, "collar is -0.01"),
        ({"collar": True}, "collar is True"),
        ({"collar": math.nan}, "collar is nan"),
        ({"reject_share": 1.1}, "reject_share is 1.1; give a number from 0 to 1"),
        ({"reject_share": math.nan}, "reject_share is nan"),
        ({"seed": 1.5}, "seed is 1.5; give a int"),
        ({"seed": True}, "seed is True"),
        ({"strict": 1}, "strict is 1; give a bool"),
        ({"halts": {"A": 5}}, "halts cannot be read"),
        ({"halts": {"A": [20240103]}}, "halts cannot be read"),
        ({"halts": {"A": ["no date"]}}, "halts cannot be read"),
        ({"halts": {"A": [pd.NaT]}}, "halts cannot be read"),
        ({"halts": {1: ["2024-01-03"]}}, "halts cannot be read"),
        ({"halts": ["A"]}, "halts cannot be read"),
        ({"halts": None}, "halts cannot be read"),
        ({"halts": pd.DataFrame({"symbol": ["A"]})}, "halts cannot be read"),
    ],
)
def test_terms_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigError) as told:
        PaperTerms(**given)
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_a_journal_of_other_paper_terms_is_refused(tmp_path):
    terms = PaperTerms(latency=1.0, calendar="XNYS", collar=0.1)
    venue(tmp_path, terms).play()
    for other in (DEFAULT_PAPER, PaperTerms(calendar="XNYS", collar=0.1), PaperTerms(latency=1.0, calendar="XNYS")):
        with pytest.raises(ExecutionError, match="begun with another terms"):
            venue(tmp_path, other)
    assert venue(tmp_path, PaperTerms(latency=1, calendar="XNYS", collar=0.1)).result().settings["collar"] == 0.1


HARD = {"latency": 1.0, "calendar": "XNYS", "collar": 0.01, "strict": True, "reject_share": 0.2, "seed": 3}
HARD_HALTS = {"A": ["2024-01-04"], "B": ["2024-01-03", "2024-01-08"]}


def scenario(seed):
    "Draw what is done, and when: seconds to the open, what, to which order."
    rng, steps, ids = random.Random(seed), [], []
    for day in DAYS[1:]:
        for n in range(rng.randint(1, 4)):
            id = f"{day:%d}-{n}"
            shares = rng.choice([-1, 1]) * rng.randint(1, 150)
            ids.append((id, rng.choice(NAMES), str(shares), str(round(rng.uniform(10, 13), 2))))
            steps.append((day, rng.choice([5.0, 2.0, 0.5]), "submit", ids[-1]))
            if rng.random() < 0.4:
                steps.append((day, rng.choice([4.0, 1.5, 0.2]), "cancel", rng.choice(ids[-2:])))
        steps.append((day, -30000.0, "play", None))
    return steps, [one[0] for one in ids]


def do(made, clock, step):
    day, seconds, what, order = step
    clock.before(seconds, f"{day:%Y-%m-%d}T14:30:00+00:00")
    try:
        if what == "play":
            made.play()
        else:
            getattr(made, what)(asked(*order))
    except Refused:
        pass


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_line_changes_nothing(tmp_path, seed):
    steps, ids = scenario(seed)
    panel, fill = bars(seed), limit_queue(0.05, participation=0.5)
    terms, bare = PaperTerms(**HARD, halts=HARD_HALTS), PaperTerms(**HARD)

    def made_of(name, clock, terms=terms):
        return venue(tmp_path, terms, panel, clock, fill, name)

    def told(made):
        return stands(made, *ids), made.fills(""), made.book(), made.session

    clock, file = Hand(), tmp_path / "whole.jsonl"
    made = made_of("whole.jsonl", clock)
    kept = {1: (told(made), clock.now, 0)}  # lines -> what was so after them, when, and how many steps were done
    for n, step in enumerate(steps):
        do(made, clock, step)
        kept[len(file.read_text().splitlines())] = (told(made), clock.now, n + 1)
    lines = file.read_bytes().splitlines(keepends=True)
    assert set(kept) == set(range(1, len(lines) + 1)) and b"without" in file.read_bytes()
    for count, (then, now, done) in kept.items():
        half = lines[count][: len(lines[count]) // 2] if count < len(lines) else b""
        (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:count]) + half)
        again = Hand(now)
        assert told(made_of("cut.jsonl", again, bare)) == then, f"{count} lines, and no halts told"
        if count % 4 == 1:  # and what comes after it comes out the same
            for step in steps[done:]:
                do(made_of("cut.jsonl", again), again, step)
            assert (tmp_path / "cut.jsonl").read_bytes() == b"".join(lines)
    states = {state for state, *_ in filter(None, told(made)[0])}
    assert {"filled", "expired"} <= states
