"What moves an account without an order: booked once, told by whoever can, and paid to a paper account."

import random
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.backtest.costs import Costs
from quantlab.broker.rules import Rules
from quantlab.core.errors import QuantlabError
from quantlab.core.panel import as_panel
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.execution.engine import Engine
from quantlab.execution.intent import ExecutionError
from quantlab.execution.paper import PaperVenue
from quantlab.execution.store import VENUE_FLOW_KINDS, OrderRow, OrderStore, VenueFill, VenueFlow
from quantlab.execution.trader import Trader, TraderTerms, account_bars, entry_prices, paper_account, profit_faults
from quantlab.execution.venue import Busy, TellsFlows, TradingVenue, Unsure
from quantlab.recipe.market import market_bars
from quantlab.recipe.run import as_recipe

NAMES = ["A", "B", "C"]
DAYS = pd.bdate_range("2024-01-02", periods=14)
ZERO, CENT = Decimal(0), Decimal("0.005")


def flow(id, kind="dividend", symbol="A", shares="0", cash="1.25", at="2024-01-03"):
    return VenueFlow(id, kind, symbol, Decimal(shares), Decimal(cash), at)


def asked(id, symbol="A", quantity="5"):
    return OrderRow(id, "s", "2024-01-02", symbol, Decimal(quantity), Decimal(1), "", "sent", "", "", "")


# --- the store


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        yield tmp_path / "orders.sqlite"
        return
    import psycopg

    dsn = request.getfixturevalue("postgres_server")
    words = dict(word.split("=") for word in dsn.split())
    yield f"postgresql://{words['user']}@{words['host']}:{words['port']}/{words['dbname']}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in ("decisions", "orders", "outbox", "moves", "fills", "flows", "facts"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def test_a_flow_is_booked_once_and_the_book_holds_it(place):
    store = OrderStore(place)
    store.open_book("100", {"A": Decimal(3)}, since="2024-01-02")
    split, paid = flow("s", "split", shares="-1.5", cash="0"), flow("d", symbol="")
    assert (store.book_flows([paid, split, paid]), store.book_flows([split])) == (2, 0)
    store.close()
    again = OrderStore(place)
    assert again.flows() == [paid, split] and again.flows("split") == [split] and again.flows("fee") == []
    assert again.book() == ({"A": Decimal("1.5")}, Decimal("101.25"))
    again.open_book("100", {"A": Decimal(3)}, since="2024-01-09")
    assert again.facts()["flows.since"] == "2024-01-02", "the first one stays"
    again.close()


def test_what_was_booked_otherwise_is_no_flow_or_moves_nothing_is_refused_with_its_batch(place):
    store = OrderStore(place)
    store.book_flows([flow("x")])
    for wrong, said in (
        (flow("x", cash="1.26"), "booked otherwise"),
        (flow("x", kind="interest"), "booked otherwise"),
        (flow("x", symbol="B"), "booked otherwise"),
        (flow("x", shares="1"), "booked otherwise"),
        (flow("y", kind="gift"), "a flow is one of dividend, interest"),
        (flow("y", symbol="", shares="2"), "2 shares of no name"),
    ):
        with pytest.raises(ExecutionError, match=said):
            store.book_flows([flow("new"), wrong])
    assert store.flows() == [flow("x")], "all of a batch, or nothing"
    assert store.book_flows([flow("x", at="2024-01-03T00:00:00+00:00")]) == 0, "the same, told with its hour"
    store.close()


def test_a_database_without_the_table_opens(place):
    old = OrderStore(place)
    old.open_book("7")
    with old._change() as run:
        run("DROP TABLE flows")
    old.close()
    store = OrderStore(place)
    assert store.flows() == [] and store.book() == ({}, Decimal(7))
    store.open_book("7", since="2024-01-02")
    assert store.book_flows([flow("x")]) == 1 and store.book()[1] == Decimal("8.25")
    store.close()


NUMBERS = st.integers(-999, 999).map(lambda n: Decimal(n) / 100)
FLOWS = st.builds(
    lambda kind, symbol, shares, cash, day: (kind, symbol, shares if symbol else ZERO, cash, f"2024-01-{day:02d}"),
    st.sampled_from(VENUE_FLOW_KINDS), st.sampled_from(["", *NAMES]), NUMBERS, NUMBERS, st.integers(1, 9),
)  # fmt: skip
FILLS = st.tuples(st.sampled_from(NAMES), NUMBERS, NUMBERS.map(abs), NUMBERS, st.integers(1, 9))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FLOWS, max_size=6), st.lists(FILLS, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_book(tmp_path_factory, flows, fills, dice):
    booked = [VenueFlow(f"f{n}", *one) for n, one in enumerate(flows)]
    for n, (symbol, quantity, price, fee, day) in enumerate(fills):
        booked.append(VenueFill(f"x{n}", "", symbol, quantity, price, fee, f"2024-01-{day:02d}"))
    told = [*booked, *dice.choices(booked, k=5)] if booked else []
    dice.shuffle(told)
    store = OrderStore(tmp_path_factory.mktemp("law") / "x.sqlite")
    store.open_book("10", {"A": Decimal(1)})
    new = sum((store.book_fills if isinstance(one, VenueFill) else store.book_flows)([one]) for one in told)
    cash, shares = Decimal(10), dict.fromkeys(NAMES, ZERO) | {"A": Decimal(1)}
    for one in booked:
        if isinstance(one, VenueFill):
            shares[one.symbol] += one.quantity
            cash -= one.quantity * one.price + one.fee
        else:
            cash += one.cash
            if one.symbol:
                shares[one.symbol] += one.shares
    assert new == len(booked) and store.book() == ({name: n for name, n in shares.items() if n}, cash)
    store.close()


# --- the engine


class Told:
    "Say what it is given; a step in front of it may be an error."

    name, settle = "told", 0.0

    def __init__(self, *answers):
        self.answers, self.since = list(answers), []

    def flows(self, since):
        self.since.append(since)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return said

    def fills(self, since):
        return []

    def book(self):
        return {}, ZERO

    submit = cancel = lookup = fills


def test_the_engine_books_flows_where_it_books_fills_and_treats_silence_alike(tmp_path):
    now = ["2024-01-03T20:00:00.000000+00:00"]
    store = OrderStore(tmp_path / "x.sqlite", now=lambda: now[0])
    store.open_book("1", since="2024-01-02")
    venue = Told(Unsure("no answer"), Busy("later", 30.0), [flow("x")])
    assert isinstance(venue, TellsFlows) and isinstance(venue, TradingVenue)
    engine = Engine(store, venue)
    assert engine.step().unsure == 1 and store.flows() == [] and len(venue.since) == 2
    engine.step()
    assert len(venue.since) == 2, "a busy venue is left alone"
    now[0] = "2024-01-03T20:00:31.000000+00:00"
    done = engine.step()
    assert done.fills == 0 and store.flows() == [flow("x")] and set(venue.since) == {"2024-01-02"}
    venue.answers = [[flow("x", cash="9")]]
    with pytest.raises(ExecutionError, match="booked otherwise"):
        engine.step()
    store.close()


def test_a_venue_that_cannot_tell_flows_is_not_asked(tmp_path):
    class Mute(Told):
        flows = None

    store = OrderStore(tmp_path / "x.sqlite")
    assert not isinstance(Mute([]), TellsFlows)
    Engine(store, Mute([])).step()
    assert store.flows() == []
    store.close()


# --- the paper venue


def random_bars(seed, stops=True):
    "Bars with dividends, splits and borrow; C has none after its eighth session."
    rng = np.random.default_rng(seed)
    rows = [
        (day, name, *(20 + 3 * i + rng.random(2)), rng.choice([0.0, 0.0, 0.31, 1.1]),
         rng.choice([1.0, 1.0, 1.0, 2.0, 0.1, 1.5, 1 / 3]), 0.07)
        for n, day in enumerate(DAYS) for i, name in enumerate(NAMES) if not (stops and name == "C" and n > 7)
    ]  # fmt: skip
    columns = ["date", "symbol", "open", "close", "dividend", "split_ratio", "borrow"]
    return as_panel(pd.DataFrame(rows, columns=columns))


COSTS = Costs(commission_bps=3, slippage_bps=7, interest_bps=300, funding_bps=40)


def paper(folder, seed, lot=1.0):
    rules = Rules(lot=lot, stale_after=3, delisting_return=-0.3)
    return PaperVenue(random_bars(seed), folder / "paper.jsonl", DAYS[0], 10_000.0, COSTS, rules)


@pytest.mark.parametrize(("seed", "lot"), [(0, 1.0), (1, 1.0), (2, 0.0), (3, 0.0), (4, 0.01)])
def test_the_store_follows_the_paper_account_to_the_cent_and_to_the_last_share(tmp_path, seed, lot):
    venue, store, dice = paper(tmp_path, seed, lot), OrderStore(tmp_path / "x.sqlite"), random.Random(seed)
    store.open_book("10000", since=f"{DAYS[0]:%Y-%m-%d}")
    paid = 0.0
    for n in range(len(DAYS) - 1):
        for name in NAMES[: 3 if n < 7 else 2]:
            size = dice.choice([-9, -4, 0, 5, 11]) * (1 if lot == 1 else dice.random())
            if size:
                venue.submit(asked(f"{n}{name}", name, str(round(size, 4))))
        held = venue._simulator.account.shares[venue._simulator.t].copy()
        venue.play()
        t = venue._simulator.t
        paid += float((held * venue._simulator.market.split[t] * venue._simulator.market.dividend[t]).sum())
        Engine(store, venue).step()
        shares, cash = venue.book()
        assert store.book()[0] == shares and abs(store.book()[1] - cash) < CENT, f"session {n}"
    assert "C" not in venue.book()[0] and "" in {fill.id for fill in store.fills()}, "C was closed by the rules"
    kinds = {one.kind for one in store.flows()}
    assert kinds >= {"dividend", "interest", "borrow", "funding", "split"} and (lot == 1 or "rounding" in kinds)
    assert sum(float(one.cash) for one in store.flows("dividend")) == pytest.approx(paid)
    assert min(one.cash for one in store.flows("dividend")) < 0 or seed > 1, "who is short pays"
    store.close()


def test_flows_have_names_of_their_own_and_are_the_same_after_a_restart(tmp_path):
    venue = paper(tmp_path, 5)
    for n in range(6):
        venue.submit(asked(f"{n}", NAMES[n % 3], "7"))
        venue.play()
    told = list(venue.flows(""))
    assert isinstance(venue, TellsFlows) and len({one.id for one in told}) == len(told) > 8
    assert list(paper(tmp_path, 5).flows("")) == told == sorted(told, key=lambda one: one.at)
    later = f"{DAYS[4]:%Y-%m-%d}T20:00:00+00:00"
    assert list(venue.flows(later)) == [one for one in told if one.at >= f"{DAYS[4]:%Y-%m-%d}"] != told


# --- bars of an account


def test_dividends_come_out_of_the_factor_as_they_were_declared():
    bars = account_bars(sample_bars(["KO", "JPM"], "2015-01-02", "2016-12-30"))
    paid = bars["dividend"][bars["dividend"] > 0]
    assert list(paid.xs("KO", level="symbol")) == [0.33] * 4 + [0.35] * 4
    assert list(paid.xs("JPM", level="symbol")) == [0.4] + [0.44] * 4 + [0.48] * 2
    assert "adj" not in bars and not (bars["dividend"] < 0).any() and len(paid) == 15


def test_the_noise_of_a_factor_is_no_dividend():
    bars = sample_bars(["GE", "KO"], "2015-01-02", "2015-12-31")
    noise = 1 + 1e-7 * np.random.default_rng(0).standard_normal(len(bars))
    assert (account_bars(bars.assign(adj=bars["adj"] * noise))["dividend"] > 0).sum() == 8


def test_a_dividend_and_a_split_make_the_total_return():
    days = pd.bdate_range("2024-01-02", periods=4)
    numbers = {"close": (100.0, 102.0, 51.0, 34.3), "split": (1 / 6, 1 / 6, 1 / 3, 0.5), "adj": (0.99, 0.99, 0.99, 1.0)}
    rows = [(day, name, *row) for name in "AB" for day, *row in zip(days, *numbers.values(), strict=True)]
    raw = as_panel(pd.DataFrame(rows, columns=["date", "symbol", *numbers]))
    raw = raw.drop(index=[(days[1], "B")])  # no bar in front of the split
    bars, total = account_bars(raw), adjust(raw, "total")["close"].unstack()
    close, paid, ratio = (bars[name].unstack() for name in ("close", "dividend", "split_ratio"))
    assert list(ratio["A"]) == [1, 1, 2, 1.5] and "split" not in bars
    assert (
        paid.loc[days[3], "A"] == pytest.approx(51 / 1.5 * 0.01, abs=5e-5)
        and (paid.iloc[:3].fillna(0) == 0).all().all()
    )
    for name in "AB":
        held, cash, one = 1.0, 0.0, close[name].dropna()
        for day in one.index[1:]:
            held *= ratio.loc[day, name]
            cash += held * paid.loc[day, name]
        grown = (held * one.iloc[-1] + cash * one.iloc[-1] / (51 / 1.5 * 0.99)) / one.iloc[
            0
        ]  # reinvested on the ex date
        assert grown == pytest.approx(total[name].iloc[-1] / total[name].iloc[0], abs=5e-6)


def test_what_a_source_says_itself_is_taken():
    raw = sample_bars(["KO"], "2016-03-01", "2016-03-31").assign(dividend=0.5, split_ratio=2.0, split=3.0)
    bars = account_bars(raw)
    assert (bars["dividend"] == 0.5).all() and (bars["split_ratio"] == 2).all() and not {"adj", "split"} & set(bars)
    plain = raw[["open", "close"]]
    assert account_bars(plain).equals(plain)


# --- the trader

SPEC = as_recipe("momentum").replace(
    data__universe="AAPL,MSFT,XOM,KO,JPM,GE,T,PG", data__end="2016-08-10", policy__top_k=4, policy__buffer=0
)
TERMS = TraderTerms("1000000", "2016-07-08", clock="replayed")


def test_buy_and_hold_on_paper_is_paid_what_was_declared(tmp_path):
    market = market_bars(SPEC)
    venue = paper_account(SPEC, market, TERMS._replace(start="2016-01-04"), tmp_path / "x.jsonl")
    for name, size in (("KO", "1000"), ("JPM", "500")):
        venue.submit(asked(name, name, size))
    while venue.due is not None:
        venue.play()
    spent = sum(fill.quantity * fill.price + fill.fee for fill in venue.fills(""))
    declared = 1000 * (Decimal("0.35") * 2) + 500 * (Decimal("0.44") + Decimal("0.48"))  # the January date was before
    assert len(venue.fills("")) == 2 and spent > 0
    assert abs(venue.book()[1] - (1_000_000 - spent + declared)) < CENT
    total, first = market.bars["close"].unstack(), pd.Timestamp("2016-01-05")
    for name, cash in (("KO", 0.70), ("JPM", 0.92)):
        raw = market.raw["close"].unstack()[name]
        simple = (raw.iloc[-1] + cash) / raw[first]
        assert simple == pytest.approx(total[name].iloc[-1] / total[name][first], rel=2e-3), "but for reinvesting"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    trader = Trader(SPEC, tmp_path_factory.mktemp("flows") / "trader", TERMS)
    while trader.step():
        pass
    return trader


def test_a_trader_is_paid_and_its_store_agrees_with_its_venue(whole, tmp_path):
    shares, cash = whole.venue.book()
    assert shares and whole.store.book()[0] == shares and abs(whole.store.book()[1] - cash) < CENT
    raw = whole.market.raw
    off = 1 - raw["adj"].unstack().shift(1) / raw["adj"].unstack()
    paid, last = 0.0, {}
    for day in whole.ledger.days():
        date = pd.Timestamp(day.decided)
        before = raw["close"].unstack().shift(1).loc[date]
        paid += sum(float(n) * before[name] * off.loc[date, name] for name, n in last.items())
        last = {name: Decimal(n) for name, n in day.shares.items()}
    told = float(sum(one.cash for one in whole.store.flows("dividend")))
    assert told > 500 and told == pytest.approx(paid, rel=1e-3)
    equity, faults = profit_faults(whole, tmp_path)
    assert faults == [] and len(equity) == len(whole.ledger.days())
    assert whole.guard.verdict().mode == "armed"


def test_a_trader_that_was_begun_on_other_bars_is_refused(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("quantlab.execution.trader.account_bars", lambda raw: raw.drop(columns="adj"))
    with pytest.raises(QuantlabError, match="begun with another terms"):
        Trader(SPEC, whole.ledger.home)


def test_a_split_at_the_venue_halts_nothing(tmp_path):
    names = SPEC.data.universe.split(",")
    raw, ex = sample_bars(names, "2010-01-04", "2016-08-31"), pd.Timestamp("2016-07-20")
    early = raw.index.get_level_values("date") < ex
    for column in ("open", "high", "low", "close"):
        raw.loc[early, column] *= 2
    raw.loc[early, "volume"] /= 2
    raw["split"] = np.where(early, 0.5, 1.0)
    raw.reset_index().to_parquet(tmp_path / "raw.parquet")
    spec = SPEC.replace(data__source=str(tmp_path / "raw.parquet"), data__end="2016-07-21")
    trader = Trader(spec, tmp_path / "trader", TERMS)
    while trader.step():
        pass
    days = {day.decided: day for day in trader.ledger.days()}
    before, after = (days[day].shares for day in ("2016-07-19", "2016-07-20"))
    assert before and after == {name: str(2 * int(n)) for name, n in before.items()}
    assert trader.store.book()[0] == trader.venue.book()[0] and trader.guard.verdict().mode == "armed"
    assert {one.kind for one in trader.store.flows()} == {"split"}
    first = {fill.symbol: float(fill.price) for fill in reversed(trader.store.fills())}
    held = [name for name in after if sum(fill.symbol == name for fill in trader.store.fills()) == 1]
    assert held and entry_prices(trader.store, held) == pytest.approx([first[name] / 2 for name in held])
    assert profit_faults(trader, tmp_path)[1] == []


def test_entry_prices_follow_splits_of_either_side(tmp_path):
    store = OrderStore(tmp_path / "x.sqlite")
    store.open_book("0", {"C": Decimal(8)})
    for n, (name, size, price) in enumerate((("A", 10, 30), ("B", -6, 12))):
        store.book_fills([VenueFill(f"{n}", "", name, Decimal(size), Decimal(price), ZERO, "2024-01-03")])
    splits = {"A": "20", "B": "3", "C": "8"}  # three for one, one for two, and what was there before
    store.book_flows([flow(name, "split", name, n, "0", "2024-01-05") for name, n in splits.items()])
    assert entry_prices(store, NAMES) == pytest.approx([10.0, 24.0, np.nan], nan_ok=True)
    for n, name in enumerate("AC"):  # at the open after the split
        store.book_fills([VenueFill(f"9{n}", "", name, Decimal(30), Decimal(20), ZERO, "2024-01-05")])
    assert entry_prices(store, NAMES) == pytest.approx([15.0, 24.0, 20.0])
    store.close()
