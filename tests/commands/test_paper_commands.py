"A trader on the command line, on a screen, in a schedule and on a bus: each close once, however it is called."

import json

import pytest
from typer.testing import CliRunner

from quantlab.commands.cli import app
from quantlab.commands.schedule_commands import run_steps
from quantlab.core.errors import QuantlabError
from quantlab.execution.paper import PaperVenue
from quantlab.execution.paper_ledger import PaperLedger
from quantlab.execution.store import OrderStore
from quantlab.execution.trader import Trader, TraderTerms
from quantlab.execution.venue import Unsure
from quantlab.runs.schedule import Job
from quantlab.venues.bus import MemoryBus

RECIPE = """name: six
data: {universe: 'AAPL,MSFT,XOM,KO,JPM,GE', end: '2016-07-13'}
features: {use: ['momentum(63, 5)'], transform: [rank]}
model: {kind: feature, column: mom_63_5}
policy: {top_k: 2, buffer: 0, rebalance: 1}
limits: {kill_drawdown: 0.2, max_weight: 0.5}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "six.yaml").write_text(RECIPE)
    return str(tmp_path / "six.yaml")


def call(*line):
    done = CliRunner().invoke(app, ["paper", *line], env={"COLUMNS": "110"})
    return done.exit_code, done.output + str(done.exception or "")


def test_watching_carries_what_waits_and_shows_book_orders_and_limits(recipe, tmp_path):
    home = ["--home", str(tmp_path / "x")]
    assert call("start", recipe, "--from", "2016-07-11", "--replay", *home)[0] == 0
    code, said = call("watch", recipe, "--rounds", "1", *home)
    assert code == 0 and len(PaperLedger(tmp_path / "x").days()) == 3, said
    for word in ("book", "orders", "limits", "kill_drawdown", "guard: armed", "0 closes wait", "clock: replayed"):
        assert word in said
    assert "0 closes carried" in call("step", recipe, *home)[1]


def test_a_replay_that_was_stopped_is_armed_again_by_another_process(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(tmp_path / "ledger.sqlite"))
    home = ["--home", str(tmp_path / "x")]
    call("start", recipe, "--from", "2016-07-11", "--replay", *home)
    call("step", recipe, *home)
    assert call("stop", recipe, "--reason", "halted to see whether it can be", *home)[0] == 0
    code, said = call("rearm", recipe, "--reason", "the halt was a drill and is over", *home)
    assert code == 0 and said.startswith("armed; "), said
    trader = Trader(recipe, tmp_path / "x")
    last = trader.ledger.days()[-1].decided
    assert [row["when"][:10] for row in trader.switch.log()[-2:]] == [last, last]
    assert "guard: armed" in call("status", recipe, *home)[1]


def test_watching_outlives_a_venue_that_does_not_answer(recipe, tmp_path, monkeypatch):
    home = ["--home", str(tmp_path / "x")]
    call("start", recipe, "--from", "2016-07-11", "--replay", *home)
    book, silent = PaperVenue.book, [True]

    def out_for_a_while(self):
        if silent and silent.pop():
            raise Unsure("no answer")
        return book(self)

    monkeypatch.setattr(PaperVenue, "book", out_for_a_while)
    code, said = call("watch", recipe, "--rounds", "2", "--seconds", "0.1", *home)
    assert code == 0 and len(PaperLedger(tmp_path / "x").days()) == 3, said


def test_a_schedule_carries_a_trader_and_a_slot_that_is_begun_again_carries_nothing(recipe, tmp_path):
    home = str(tmp_path / "x")
    job = Job(name="evening", when={"every": "1h"}, steps=[{"paper": {"recipe": recipe, "home": home}}])
    with pytest.raises(QuantlabError, match="no paper ledger"):
        run_steps(job, None)
    Trader(recipe, home, TraderTerms("100000", "2016-07-11", clock="replayed"))
    assert [run_steps(job, None), run_steps(job, None)] == ["3 closes of six", "0 closes of six"]
    file = tmp_path / "jobs.yaml"
    steps = f"[{{paper: {{recipe: {recipe}, home: {home}x}}}}]"
    file.write_text(f"jobs: [{{name: evening, when: {{every: 1h}}, steps: {steps}}}]")
    done = CliRunner().invoke(app, ["schedule", "check", str(file)])
    assert done.exit_code == 1 and "no paper ledger" in str(done.exception)


def test_a_bus_hears_each_decision_and_each_fill_once(recipe, tmp_path):
    bus, home = MemoryBus(), tmp_path / "x"

    def trader(tell=bus.publish):
        return Trader(recipe, home, tell=tell)

    Trader(recipe, home, TraderTerms("100000", "2016-07-11", clock="replayed"))
    trader().step()

    def dies(about):
        def publish(topic, text, key):
            if topic.endswith(about):
                raise KeyboardInterrupt
            bus.publish(topic, text, key)

        return publish

    for about in ("fills", "decisions"):
        with pytest.raises(KeyboardInterrupt):
            trader(dies(about)).step()  # what it could not say is said later
    assert len(bus.read("six.decisions")) < len(PaperLedger(home).days())
    while trader().step():
        pass
    trader().step()
    days = [json.loads(row.payload) for row in bus.read("six.decisions")]
    fills = [json.loads(row.payload) for row in bus.read("six.fills")]
    store = OrderStore(home / "trader" / "orders.sqlite")
    assert [fill["execution"] for fill in fills] == [fill.execution for fill in store.fills()] and fills
    assert [day["decided"] for day in days] == [day.decided for day in PaperLedger(home).days()]
