"A feed that is late or half there halts a trader before it decides; holidays, half days and days that are over do not."

from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands.cli import app
from quantlab.commands.paper_commands import carry_closes, require_feed
from quantlab.commands.schedule_commands import run_steps
from quantlab.core.errors import DataError, QuantlabError
from quantlab.data.sample import sample_bars
from quantlab.execution import trader as traders
from quantlab.execution.trader import Trader, TraderTerms, check_trader_terms
from quantlab.runs.schedule import Job, Schedule, SlotLedger, run_due

NAMES = ["AAPL", "MSFT", "XOM", "KO", "JPM", "GE", "T", "PG", "CVX", "INTC"]
RECIPE = """name: ten
data: {{source: '{file}', start: '2015-01-02', end: '2030-01-01'}}
features: {{use: ['momentum(63, 5)'], transform: [rank]}}
model: {{kind: feature, column: mom_63_5}}
policy: {{top_k: 2, buffer: 0, rebalance: 1}}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A trader of ten names whose bars and whose time are set."
    (tmp_path / "ten.yaml").write_text(RECIPE.format(file=tmp_path / "bars.parquet"))
    clock = SimpleNamespace(now="")
    monkeypatch.setattr(traders, "utc_now", lambda: clock.now)

    def feed(last, lost=0, since=None):
        bars = sample_bars(NAMES, "2015-01-02", last).reset_index()
        gone = bars["symbol"].isin(NAMES[:lost]) & (bars["date"] >= (since or last))
        bars[~gone].to_parquet(tmp_path / "bars.parquet", index=False)

    def at(now):
        clock.now = pd.Timestamp(now).isoformat(timespec="microseconds")

    recipe, home = str(tmp_path / "ten.yaml"), tmp_path / "x"

    def begin(last, now, **terms):
        feed(last)
        at(now)
        return Trader(recipe, home, TraderTerms("100000", **terms))

    return SimpleNamespace(recipe=recipe, home=home, feed=feed, at=at, begin=begin, trader=lambda: Trader(recipe, home))


def call(*line):
    done = CliRunner().invoke(app, ["paper", *line], env={"COLUMNS": "200"})
    return done.exit_code, done.output + str(done.exception or "")


def test_a_late_feed_halts_each_way_in_and_a_fresh_one_goes_on(place):
    place.begin("2016-07-12", "2016-07-12 20:10Z")
    where = [place.recipe, "--home", str(place.home)]
    assert "1 closes carried" in call("step", *where)[1]
    place.at("2016-07-13 21:00Z")
    code, said = call("step", *where)
    assert code == 1 and "no decision of ten: the bars end on 2016-07-12; 1 session(s) up to 2016-07-13" in said
    assert "refresh the data, then step again" in said and len(place.trader().ledger.days()) == 1
    assert {order.state for order in place.trader().store.orders()} == {"working"}
    code, seen = call("watch", *where, "--rounds", "2", "--seconds", "0.1")
    assert code == 0 and "feed: halted at 2016-07-13 21:00Z" in seen and len(place.trader().ledger.days()) == 1
    place.feed("2016-07-13")
    code, said = call("step", *where)
    assert code == 0 and "1 closes carried; 2 in all" in said
    assert "feed: halted" not in call("status", *where)[1]


@pytest.mark.parametrize("since", ["2016-07-13", "2016-07-11"])
def test_a_feed_that_lost_a_third_of_its_names_decides_nothing(place, since):
    place.begin("2016-07-12", "2016-07-12 20:10Z")
    place.feed("2016-07-13", lost=3, since=since)
    place.at("2016-07-13 20:10Z")
    with pytest.raises(DataError, match="30% of the names of the sessions before have no close on 2016-07-13"):
        carry_closes(place.trader())
    assert place.trader().ledger.days() == [] and len(place.trader().pending()) == 2
    place.feed("2016-07-13")
    assert [day.decided for day in carry_closes(place.trader())] == ["2016-07-12", "2016-07-13"]


@pytest.mark.parametrize(
    ("last", "now"),
    [
        ("2016-07-01", "2016-07-05 19:59Z"),  # Independence Day is a Monday
        ("2015-11-27", "2015-11-27 18:00Z"),  # the day after Thanksgiving closes early
        ("2015-11-25", "2015-11-27 17:59Z"),
        ("2016-07-08", "2016-07-10 12:00Z"),  # a Sunday
        ("2016-07-13", "2016-07-13 15:00Z"),  # with the bar of a session that goes on
    ],
)
def test_no_holiday_halts(place, last, now):
    require_feed(place.begin(last, now))


def test_the_vendor_may_take_its_time_and_the_check_may_be_left_out(place):
    place.begin("2016-07-12", "2016-07-12 20:10Z", delay="2h")
    place.at("2016-07-13 21:00Z")
    assert len(carry_closes(place.trader())) == 1
    place.at("2016-07-13 22:00Z")
    with pytest.raises(DataError, match="no decision"):
        require_feed(place.trader())
    place.home = place.home.with_name("y")
    other = Trader(place.recipe, place.home, TraderTerms("100000", "2016-07-12", feed="off"))
    assert len(carry_closes(other)) == 1
    replayed = Trader(place.recipe, place.home.with_name("z"), TraderTerms("100000", "2016-07-11", clock="replayed"))
    assert len(carry_closes(replayed)) == 2


def test_terms_that_mean_nothing_are_refused():
    days = pd.DatetimeIndex(["2016-07-08", "2016-07-11"])
    for wrong in ({"feed": "1.5"}, {"feed": "on"}, {"delay": "soon"}, {"delay": "-1h"}, {"delay": "NaT"}):
        with pytest.raises(QuantlabError, match=next(iter(wrong))):
            check_trader_terms(TraderTerms(**wrong), days)
    assert check_trader_terms(TraderTerms(feed="off", delay="90min"), days).feed == "off"


def test_a_schedule_tries_again_keeps_the_reason_and_goes_on_when_the_bars_are_there(place, tmp_path):
    place.begin("2016-07-12", "2016-07-13 21:00Z")
    step = {"paper": {"recipe": place.recipe, "home": str(place.home)}}
    schedule = Schedule(jobs=[Job(name="evening", when={"every": "1h"}, steps=[step], retries=1)])
    ledger, hours = (
        SlotLedger(tmp_path / "slots.sqlite"),
        [datetime(2016, 7, 13, n, 30, tzinfo=UTC) for n in (20, 21, 22)],
    )
    assert run_due(schedule, ledger, hours[0], run_steps) == []
    failed = run_due(schedule, ledger, hours[1], run_steps)
    assert [(slot.state, slot.attempts) for slot in failed] == [("failed", 2)]
    assert "DataError: no decision of ten: the bars end on 2016-07-12" in failed[0].error
    place.feed("2016-07-13")
    done = run_due(schedule, ledger, hours[2], run_steps)
    assert [(slot.state, slot.result) for slot in done] == [("done", "2 closes of ten")]
