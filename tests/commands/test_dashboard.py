"The page to steer by: with nothing there, with a server, with one that refuses, and in Chromium."

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands import dashboard
from quantlab.commands.cli import app
from quantlab.core.errors import ConfigError, ReportError
from quantlab.core.ledger import Ledger
from quantlab.ops import papers

pytest.importorskip("streamlit", reason="install quantlab with the extra [dashboard]")
from streamlit.testing.v1 import AppTest  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "quantlab" / "commands" / "pages" / "dashboard_page.py"
STORES = {
    "RESEARCH_RUNS": "runs",
    "RESEARCH_LEDGER": "own.sqlite",
    "RESEARCH_TRACKING": "mlflow.sqlite",
    "DATA_LAKE": "lake",
}
PARTS = dashboard._PARTS
RECIPE = """name: six
data: {universe: 'AAPL,MSFT,XOM,KO,JPM,GE', start: '2015-07-01', end: '2016-07-13'}
features: {use: ['momentum(63, 5)'], transform: [rank]}
model: {kind: feature, column: mom_63_5}
policy: {top_k: 2, buffer: 0, rebalance: 1}
limits: {kill_drawdown: 0.2, max_weight: 0.5}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "Serve a trader that was begun; nothing is registered."
    from quantlab.execution.trader import Trader, TraderTerms
    from quantlab.monitor.logs import open_log
    from quantlab.ops.answers import Answers
    from quantlab.ops.jobs import JobTable
    from quantlab.ops.server import TraderWindow, create_app, serving
    from quantlab.ops.tokens import TokenFile

    here = tmp_path_factory.mktemp("served")
    (here / "six.yaml").write_text(RECIPE)
    trader = Trader(str(here / "six.yaml"), here / "six", TraderTerms("100000", "2016-07-12", clock="replayed"))
    while trader.step():
        pass
    ledger, tokens, jobs = Ledger(here / "own.sqlite"), TokenFile(here / "tokens.json"), JobTable(here / "jobs.sqlite")
    answers = Answers("six", "candidate", 1e6, here / "mlflow.sqlite", ledger)
    log, window = open_log("server", here / "server.log"), TraderWindow(here / "six", ledger)
    scopes = {"all": ["read", "run", "trade", "re-arm"], "read": ["read"], "trade": ["read", "trade"]}
    known = {name: tokens.issue(name, may) for name, may in scopes.items()}
    with serving(create_app(answers, tokens, jobs, trader=window, log=log)) as address:
        yield SimpleNamespace(address=address, jobs=jobs, window=window, ledger=ledger, here=here, **known)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    "Point every store to a folder of its own, and no server anywhere."
    for name, file in STORES.items():
        monkeypatch.setenv(f"QUANTLAB_{name}", str(tmp_path / file))
    for name in ("MONITOR_FEEDS", "SERVER_ADDRESS", "SERVER_TOKEN"):
        monkeypatch.setenv(f"QUANTLAB_{name}", "")
    return tmp_path


def drawn(part="Trader"):
    "Draw a part of the page."
    page = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
    if part != "Trader":
        page.button_group[0].set_value(part).run()
    assert not page.exception, page.exception
    return page


def said(page):
    "Return every text that the page shows, as a reader sees it."
    kinds = (
        "title",
        "header",
        "subheader",
        "caption",
        "info",
        "warning",
        "error",
        "success",
        "markdown",
        "code",
        "text",
    )
    texts = [str(one.value) for kind in kinds for one in getattr(page, kind)]
    texts += [one.value.to_string() for one in page.dataframe] + [str(one.label) for one in page.button]
    return re.sub(r"\\([^\w\s])", r"\1", "\n".join(texts))


def fill(page, label, text):
    "Write into a field."
    next(one for one in page.text_input if one.label == label).set_value(text)


def press(page, label):
    "Press a button, and return the page that follows."
    next(one for one in page.button if one.label == label).click()
    page.run()
    assert not page.exception, page.exception
    return page


def log_in(monkeypatch, served, token):
    monkeypatch.setenv("QUANTLAB_SERVER_ADDRESS", served.address)
    monkeypatch.setenv("QUANTLAB_SERVER_TOKEN", token)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_drawn_with_nothing_there(part, bare):
    nothing = {
        "Runs": "No report yet", "Drift": "No alarm", "Registry": "Nothing is registered",
        "Data": "quantlab data import FILE --dataset NAME",
    }  # fmt: skip
    text = said(drawn(part))
    assert nothing.get(part, "Trader and jobs need a server") in text and "No server is asked: no token" in text
    assert text.count("quantlab token new") == text.count("on a narrow screen the arrows at the top left open it") == 1
    assert list(bare.iterdir()) == [], "looking makes nothing"


def test_a_server_that_is_away_is_one_sentence(bare, monkeypatch):
    monkeypatch.setenv("QUANTLAB_SERVER_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("QUANTLAB_SERVER_TOKEN", "ql_of_nobody")
    text = said(drawn())
    assert text.count("No server answers: no answer from http://127.0.0.1:9") == 1 and "need none" in text
    assert "No report yet" in said(drawn("Runs"))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_drawn_with_a_server_and_shows_no_token(part, bare, served, monkeypatch):
    log_in(monkeypatch, served, served.all)
    page = drawn(part)
    shown = {
        "Trader": ("Kill switch", "GE", "kill_drawdown", "armed", "not told", "Equity "),
        "Jobs": ("Ask for it", "Nothing was asked for"),
    }
    text = said(page)
    assert all(word in text for word in shown.get(part, ())), text
    assert served.all not in text and not [one for one in page.text_input if served.all in (one.value or "")]
    assert served.all not in str(page.main) + str(page.sidebar), "nor in what no reader sees"


def test_a_token_that_is_refused_is_told_in_the_words_of_the_server(bare, served):
    page = drawn()
    fill(page, "Address", served.address)
    fill(page, "Token", "ql_00000000_nobody")
    page.run()
    text = said(page)
    assert "the token is not known; it was mistyped or revoked (quantlab token list)" in text and "Book" not in text
    assert "ql_00000000_nobody" not in text


def test_the_token_of_the_environment_goes_nowhere_else(bare, served, monkeypatch):
    monkeypatch.setenv("QUANTLAB_SERVER_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("QUANTLAB_SERVER_TOKEN", served.all)
    page = drawn()
    fill(page, "Address", served.address)
    assert "no token for this address" in said(page.run())
    known = dict(os.environ)
    for address in (
        "http://127.0.0.1.far.example",
        "http://localhost@far.example",
        "http://u:p@127.0.0.1",
        "ftp://x",
        "x",
    ):
        with pytest.raises(ConfigError, match="in the open"):
            dashboard.choose_access(address, "ql_typed", known)
    for token in ("ql_ä", "ql a", "ql\x07"):
        with pytest.raises(ConfigError, match="no token has") as refused:
            dashboard.choose_access("", token, known)
        assert token not in str(refused.value)


def test_pulling_asks_for_a_reason_and_arming_for_a_sentence(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.all)
    page = press(drawn(), "Pull the switch")
    assert "no reason was given" in said(page), said(page)
    assert served.window.switch()["mode"] == "armed"
    fill(page, "Why it is pulled", "the feed *stands* still")
    page = press(page, "Pull the switch")
    text = said(page)
    assert not any(one.value for one in page.text_input), "what was typed is gone when it was done"
    assert served.window.switch()["mode"] == "killed" and "the feed *stands* still (all)" in text
    assert "The switch is **killed**" in text
    page = press(page, "Arm it again")
    assert served.window.switch()["mode"] == "killed" and "no reason was given" in said(page)
    fill(page, "Why trading may go on, in a sentence", "ok")
    page = press(page, "Arm it again")
    assert served.window.switch()["mode"] == "killed" and "say in a sentence" in said(page)
    fill(page, "Why trading may go on, in a sentence", "the feed is back and was compared")
    text = said(press(page, "Arm it again"))
    assert served.window.switch()["mode"] == "armed" and "the ledger has the reason" in text
    assert any("compared" in str(row) for row in served.ledger.rows()["params"])


def test_a_reason_is_not_kept_for_another_caller(bare, served):
    page = drawn()
    fill(page, "Address", served.address)
    fill(page, "Token", served.all)
    fill(page.run(), "Why it is pulled", "said by the first")
    fill(page, "Token", served.trade)
    page = press(page.run(), "Pull the switch")
    assert "no reason was given" in said(page) and served.window.switch()["mode"] == "armed"
    fill(page, "Why it is pulled", "said by the second")
    fill(page, "Token", "")
    fill(page.run(), "Token", served.trade)
    assert not next(one for one in page.run().text_input if one.label == "Why it is pulled").value


def test_stops_of_names_stand_beside_the_switch(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.read)
    event = {
        "when": "2016-07-13T16:00:00-04:00",
        "limit": "L1",
        "at": "EMR",
        "used": 0.04,
        "allowed": 0.03,
        "reason": "",
    }
    log = [{**event, "event": name} for name in ("stop", "flat")]
    log.append({**event, "event": "kill", "limit": "hand", "at": "", "reason": "why"})
    view = dashboard.ServerView({"switch": {"mode": "killed", "why": ["hand"], "log": log}}, {})
    monkeypatch.setattr(dashboard, "view_server", lambda *_: view)
    page = drawn()
    switch, stops = (one.value for one in page.dataframe[:2])
    assert switch["event"].tolist() == ["kill"] and "Stops of single names" in said(page)
    assert stops[["at (UTC)", "event", "symbol"]].values.tolist() == [
        ["2016-07-13 20:00:00", "closed", "EMR"], ["2016-07-13 20:00:00", "stop reached", "EMR"]
    ]  # fmt: skip


def test_a_stop_that_nobody_saw_is_not_taken_back(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.all)
    served.window.trip("first", "ann")
    page = drawn()
    served.window.trip("second", "bob")
    fill(page, "Why trading may go on, in a sentence", "the first one is understood")
    assert "something else by now" in said(press(page, "Arm it again"))
    assert served.window.switch()["mode"] == "killed"
    press(page, "Arm it again")
    assert served.window.switch()["mode"] == "armed"


def test_a_token_without_the_scope_changes_nothing_and_is_told_why(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.trade)
    page = drawn()
    fill(page, "Why trading may go on, in a sentence", "because I should like it to")
    assert "this needs the scope re-arm, the token has read, trade" in said(press(page, "Arm it again"))
    log_in(monkeypatch, served, served.read)
    page = drawn()
    fill(page, "Why it is pulled", "because I should like it to")
    assert "this needs the scope trade, the token has read" in said(press(page, "Pull the switch"))
    assert "this needs the scope run" in said(asked(drawn("Jobs"), "report", "tearsheet"))
    assert served.window.switch()["mode"] == "armed"


def asked(page, kind, name, changes=""):
    "Ask for a job on the page."
    page.selectbox[0].set_value(kind)
    fill(page, "Name of a template (report), or of a registered recipe", name)
    page.text_area[0].set_value(changes)
    return press(page, "Ask for it")


def test_a_job_is_asked_for_seen_and_taken_back(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.all)
    page = drawn("Jobs")
    assert "no value or no name" in said(asked(page, "report", "tearsheet", "top_k")) and not served.jobs.rows()
    assert "letters, digits" in said(asked(page, "report", "../secrets")) and not served.jobs.rows()
    text = said(asked(page, "report", "tearsheet", "top_k=7"))
    [row] = served.jobs.rows()
    assert (row.state, row.overrides, row.asked_by) == ("queued", {"top_k": 7}, "all")
    assert "asked for report tearsheet" in text and "queued" in text
    assert "cancelled" in said(press(page, "Take it back")) and served.jobs.row(row.id).state == "cancelled"


def test_a_server_without_a_trader_says_so(bare, served, monkeypatch):
    log_in(monkeypatch, served, served.read)
    monkeypatch.setattr(served.window, "home", served.here / "nobody")
    text = said(drawn())
    assert text.count("no trader was begun in nobody; quantlab paper start nobody") == 1 and "Pull" not in text


def test_what_others_wrote_is_text(bare, served, monkeypatch):
    "A refusal quotes what was asked for: a picture in it would be fetched by the browser."
    log_in(monkeypatch, served, served.all)
    page = asked(drawn("Jobs"), "report", "![x](http://far.example/p)")
    assert "![x](http://far.example/p)" in said(page)
    assert not [one for kind in ("error", "warning", "markdown") for one in getattr(page, kind) if "![x](" in one.value]


def stored_run(folder):
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>the page</p>")
    (folder / "metrics.json").write_text(json.dumps({"sharpe": 1.5, "none": None}))
    told = {"template": "ride", "started": "2026-01-01T10:00:00Z", "parameters": {}, "headline": ["sharpe", "none"]}
    (folder / "manifest.json").write_text(json.dumps(told | {"data_hash": "d", "code": {"sources": "0"}}))


def test_runs_searches_drift_and_data_that_are_there(bare, monkeypatch):
    from quantlab.data.sample import sample_bars
    from quantlab.data.store import Lake

    stored_run(bare / "runs" / "ride-20260101T100000Z-0123abcd")
    (bare / "runs" / "search-six-1").mkdir()
    (bare / "runs" / "search-six-1" / "report.html").write_text("a search")
    pd.DataFrame({"key": ["a", "b", "c"]}).to_parquet(bare / "runs" / "search-six-1" / "members.parquet")
    (bare / "runs" / "broken-1").mkdir()
    (bare / "runs" / "broken-1" / "manifest.json").write_text("{")
    (bare / "runs" / "six-0123abcd").mkdir()
    (bare / "runs" / "six-0123abcd" / "recipe.yaml").write_text("name: six")
    days = pd.DatetimeIndex(["2016-07-12", "2016-07-13"], name="date")
    pd.DataFrame({"strategy": [0.0, 0.1]}, days).to_parquet(bare / "runs" / "six-0123abcd" / "returns.parquet")
    page = drawn("Runs")
    text = said(page)
    assert page.dataframe[1].value.iloc[0, :4].tolist() == ["six-0123abcd", 2, "2016-07-12", "2016-07-13"]
    assert all(
        word in text for word in ("sharpe 1.5, none -", "search-six-1", "broken-1 is broken", "quantlab runs --html")
    )
    assert [one.options for one in page.selectbox] == [["ride-20260101T100000Z-0123abcd"], ["search-six-1"]]

    alarm = {"start": "2019-11-01", "end": "2019-11-29", "action": "wait", "reason": "dear", "p": 0.01, "waiting": 0.0}
    alarm |= {"trial": 0.0, "left": 3, "named": [], "terms": {}}
    ledger = Ledger(bare / "own.sqlite")
    for end, p in (("2019-11-29", 0.01), ("2020-01-31", 0.002)):
        ledger.record("run", end, "drift alarm: six", alarm | {"end": end, "p": p}, *[None] * 5)
    first, both = (one.value for one in drawn("Drift").dataframe)
    assert first[["study", "month end", "p"]].values.tolist() == [["six", "2020-01-31", 0.002]] and len(both) == 2

    (bare / "own.sqlite").rename(bare / "elsewhere.sqlite")
    lost = said(drawn("Drift"))
    assert "own.sqlite has 0 rows and had 2: the last were cut off" in lost and "No alarm" not in lost

    Lake(bare / "lake").write("us", "1d", sample_bars("KO", start="2019-12-02", end="2019-12-30"))
    monkeypatch.setenv("QUANTLAB_MONITOR_FEEDS", "us=XNYS uk=XLON")
    table = drawn("Data").dataframe[0].value
    assert table["state"].tolist() == ["stale", "not there"] and table["last"][0] == "2019-12-30"


def test_a_registry_that_is_lost_is_not_an_empty_one(bare):
    papers.testify(Ledger(bare / "own.sqlite"), "promotion", {"name": "six", "to": "staging"})
    text = said(drawn("Registry"))
    assert "The registry is lost: the ledger has promotions of six" in text and "Nothing is registered" not in text


@pytest.mark.slow
def test_a_registry_says_what_a_promotion_lacks_and_how_it_is_typed(bare):
    "MLflow makes its tables first, which takes seconds."
    from quantlab.report import tracking

    service = tracking.client(bare / "mlflow.sqlite")
    service.create_registered_model("six")
    service.create_model_version("six", str(bare), tags=dict.fromkeys(("study", "key", "sources", "data_hash"), "0"))
    service.set_registered_model_alias("six", "candidate", "1")
    page = drawn("Registry")
    assert "candidate" in said(page) and page.code[0].value.startswith("quantlab promote six --to staging --by")
    assert (
        "papers have held; nothing is promoted from here" in said(page)
        and said(page).count("- lacks, **") + said(page).count("- held, **") == 9
    )
    page.selectbox[1].set_value("production").run()
    assert "no version of model 'six' is at staging" in said(page) and not page.exception
    with pytest.raises(ReportError, match="cannot promote"):
        dashboard.promotion_frame("six", "the moon")


def test_a_limit_whose_use_nobody_knows_is_not_a_number():
    book = {"cash": 10.0, "limits": {"max_gross": 1.0, "flatten": True}}
    held = [{"symbol": "KO", "quantity": 1.0, "price": None, "value": None}]
    assert dashboard.limit_frame(book | {"positions": held})["used"].isna().all()
    known = {"symbol": "GE", "quantity": 1.0, "price": 5.0, "value": 5.0}
    assert dashboard.book_frame(book | {"positions": [*held, known]})["weight"].isna().all(), "nor is any share known"
    assert dashboard.limit_frame(book | {"positions": []})["used"].tolist() == [0.0]
    table = dashboard.book_frame(book | {"cash": -20.0, "positions": [held[0] | {"price": 5.0, "value": 5.0}]})
    assert table["weight"].isna().all(), "no share of an equity below zero"


def test_whose_book_it_is_and_what_it_is_worth():
    held = [{"symbol": "KO", "quantity": 1.0, "price": 5.0, "value": 5.0}]
    book = {"trader": "six", "kind": "paper", "cash": 10.0, "positions": held, "limits": {}}
    assert dashboard.book_line(book) == "Paper trader six. Equity 15.00, of it cash 10.00."
    assert dashboard.book_line(book | {"kind": ""}).startswith("Trader six. Equity")
    unknown = [{"symbol": "KO", "quantity": 1.0, "price": None, "value": None}]
    assert "Equity unknown" in dashboard.book_line(book | {"positions": unknown})
    stops = book | {"limits": {"stops": {"L1": 0.03}, "collar": 0.05, "flatten": True}}
    assert dashboard.limit_frame(stops)["limit"].tolist() == ["stops L1", "collar"]


def test_the_command_listens_on_this_machine_and_tells_nobody(monkeypatch):
    line = []
    monkeypatch.setattr(dashboard.os, "execv", lambda program, words: line.extend(words))
    for host in ("0.0.0.0", "192.168.0.1", "example.com", ""):
        refused = CliRunner().invoke(app, ["dashboard", "--host", host])
        assert "expected 127.0.0.1" in str(refused.exception) and not line
    monkeypatch.setenv("QUANTLAB_SERVER_TOKEN", "ql_of_somebody")
    done = CliRunner().invoke(app, ["dashboard", "--port", "9000"])
    assert done.exit_code == 0 and "http://127.0.0.1:9000" in done.output
    flags = {"--server.address=127.0.0.1", "--server.port=9000", "--server.headless=true"}
    assert flags | {"--browser.gatherUsageStats=false"} <= set(line) and "ql_of_somebody" not in " ".join(line)
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "streamlit" else found(name, *more))
    assert "extra [dashboard]" in str(CliRunner().invoke(app, ["dashboard"]).exception)


@pytest.mark.slow
def test_the_page_in_a_browser(bare, served, monkeypatch):
    "No error in its console, nothing asked of another machine, no token in it."
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "report"))
    from browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no chromium is installed (Debian package chromium)")
    log_in(monkeypatch, served, served.all)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "quantlab.commands.cli", "dashboard", "--port", str(port)]
    line[1:3] = ["-c", "from quantlab.commands.cli import main; main()"]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    async def look():
        async with Browser() as tab:
            await tab.do("Page.navigate", url=f"http://127.0.0.1:{port}")
            text = ""
            for _ in range(300):
                text = await tab.ask("document.body ? document.body.innerText : ''")
                if "Orders" in text:
                    break
                await asyncio.sleep(0.1)
            asked = await tab.ask("performance.getEntriesByType('resource').map(one => one.name)")
            return text, asked, await tab.ask("document.documentElement.outerHTML"), tab.said

    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
        text, asked, page, console = asyncio.run(look())
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert "Kill switch" in text and "Orders" in text, text
    assert not [one for one in console if '"error"' in one or "exceptionDetails" in one], console
    assert not [one for one in asked if not one.startswith(f"http://127.0.0.1:{port}/")], asked
    assert served.all not in page and served.all not in told
