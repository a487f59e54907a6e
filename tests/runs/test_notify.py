"Messages: what a real web server and a real mail server of this machine get, and what a failure leaves."

import json
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import redact
from quantlab.core.errors import ConfigError, RunError
from quantlab.report.run import list_runs
from quantlab.runs.notify import find_recipients, send_message, slot_message, tell_slot
from quantlab.runs.schedule import Job, Schedule, Slot, SlotLedger, notice_slots, run_due
from quantlab.runs.unchanged import input_state

NOON = datetime(2025, 11, 24, 12, tzinfo=UTC)
STEPS = [{"report": {"template": "tearsheet"}}]


class Web:
    "Take what is posted; refuse it at /down."

    def __init__(self):
        got = self.got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(503 if self.path.startswith("/down") else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, place="desk"):
        return f"json://127.0.0.1:{self.server.server_port}/{place}"


class Mail:
    "Take what is sent to anybody but nobody@."

    def __init__(self):
        self.got = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.controller = Controller(self, hostname="127.0.0.1", port=port)
        self.controller.start()

    async def handle_RCPT(self, server, session, envelope, address, options):  # as aiosmtpd calls it
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.got.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"

    def address(self, to="desk@example.com"):
        return f"mailto://127.0.0.1:{self.controller.port}?from=quantlab@example.com&to={to}&mode=insecure"


@pytest.fixture(scope="module")
def web():
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture(scope="module")
def mail():
    mail = Mail()
    yield mail
    mail.controller.stop()


def test_both_servers_get_the_same_words(web, mail, monkeypatch):
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", f"{web.address()} {mail.address()}")
    title, text = "Überschuss: α = 3 % <b>", "erste Zeile\nsecond & last"
    send_message("team", title, text)
    path, posted = web.got[-1]
    assert (path, posted["title"], posted["message"]) == ("/desk", title, text)
    to, message = mail.got[-1]
    assert to == ["desk@example.com"] and message["subject"] == title and message["to"] == "desk@example.com"
    assert message.get_content().replace("\r\n", "\n").strip() == text


def test_a_server_that_refuses_is_an_error_and_the_others_are_told(web, mail, monkeypatch):
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", f"{web.address('down?token=geheim')} {mail.address()}")
    before = len(mail.got)
    with pytest.raises(RunError, match="team could not be told of 'late'.*503") as refused:
        send_message("team", "late", "text")
    assert len(mail.got) == before + 1 and "geheim" not in str(refused.value)
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", mail.address("nobody@example.com"))
    with pytest.raises(RunError, match="could not be told"):
        send_message("team", "late", "text")


def test_a_name_without_an_address_and_one_that_is_none_are_refused_unshown(monkeypatch):
    monkeypatch.delenv("QUANTLAB_NOTIFY_TEAM", raising=False)
    with pytest.raises(ConfigError, match="nobody is called team; write QUANTLAB_NOTIFY_TEAM="):
        send_message("team", "a", "b")
    for addresses, number in (("slak://geheim", 1), ("json://localhost/a geheim", 2)):
        monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", addresses)
        with pytest.raises(ConfigError, match=f"address {number} of QUANTLAB_NOTIFY_TEAM") as refused:
            find_recipients("team")
        assert "geheim" not in str(refused.value)
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", "slack://geheim/of/team")
    assert redact("cannot reach slack://geheim/of/team now") == "cannot reach *** now"


def test_an_address_is_no_input_of_a_report(tmp_path, monkeypatch):
    template = tmp_path / "any.ipynb"
    template.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    before = input_state(template, {})
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", "json://localhost")
    assert input_state(template, {}) == before


def carry_out(job, slot):
    "Fail at two and four o'clock, at every attempt."
    if slot.at.hour in (14, 16):
        raise OSError("the vendor does not answer")
    return "gone-1"


@pytest.mark.parametrize(("on", "hours"), [("end", [13, 14, 15, 16, 17]), ("failure", [14, 16])])
def test_each_slot_that_ended_is_told_once(tmp_path, web, monkeypatch, on, hours):
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", web.address(f"desk-{on}"))
    job = Job(name="page", when={"every": "1h"}, steps=STEPS, notify="team", notify_on=on, retries=1)
    plan, store = Schedule(jobs=[job]), SlotLedger(tmp_path / "slots.sqlite")
    notice_slots(store, job, NOON)
    for hour in (2, 2, 5, 5):
        run_due(plan, store, NOON + timedelta(hours=hour), carry_out, tell_slot)
    told = [posted for path, posted in web.got if path == f"/desk-{on}"]
    assert [int(one["title"].split(":")[1][-2:]) for one in told] == hours
    assert [one["message"] for one in told if "failed, attempt 2" in one["title"]] == [
        "OSError: the vendor does not answer"
    ] * 2
    assert {slot.at.hour: slot.notice for slot in store.rows()} == {h: "sent" * (h in hours) for h in range(13, 18)}


def test_a_message_that_did_not_arrive_stays_in_the_ledger_and_the_result_too(tmp_path, web, monkeypatch):
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", web.address("down"))
    job = Job(name="page", when={"every": "1h"}, steps=STEPS, notify="team")
    store, before = SlotLedger(tmp_path / "slots.sqlite"), len(web.got)
    notice_slots(store, job, NOON)
    for _ in range(3):
        run_due(Schedule(jobs=[job]), store, NOON + timedelta(hours=1), carry_out, tell_slot)
    [slot] = store.rows()
    assert slot.state == "done" and "503" in slot.notice and len(web.got) == before + 1


def test_a_page_is_told_with_its_headline(tmp_path, monkeypatch):
    "A made folder of a run, as report.run leaves it."
    import nbformat

    from quantlab.report.run import run_report

    cell = "from quantlab.report.template import emit\nemit({'sharpe': 1.25, 'days': 3}, headline=['sharpe'])"
    file = tmp_path / "tiny.ipynb"
    parameters = nbformat.v4.new_code_cell("size: int = 1  # of it", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(cell)]), file)
    monkeypatch.setenv("QUANTLAB_RESEARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(tmp_path / "ledger.sqlite"))
    run_report(file, {}, track=False)
    [run] = list_runs(tmp_path / "runs")
    slot = Slot("page", NOON, "done", 1, 0, f"{run.folder.name}, gone-1", "", "due", "")
    _, text = slot_message(Job(name="page", when={"every": "1h"}, steps=STEPS), slot)
    page, figure, _, gone = text.splitlines()
    assert page.endswith(f"{run.folder.name}/report.html") or page.endswith(".html")
    assert (figure, gone) == ("sharpe: 1.25", "gone-1") and os.path.exists(page)


@settings(max_examples=15, deadline=None)
@given(title=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=60))
def test_any_title_arrives_unchanged(web, title):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_NOTIFY_TEAM", web.address("any"))
        send_message("team", title, "text")
    assert web.got[-1][1]["title"] == title


def test_refresh_report_notify_at_the_prompt(tmp_path, web, mail, monkeypatch, capsys):
    "A failure is told by run, shown by status, and so is a message that did not arrive; tell sends a first one."
    from quantlab.commands import cli

    def call(*line):
        monkeypatch.setattr("sys.argv", ["quantlab", "schedule", *map(str, line)])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli, "load_env", lambda: [], raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("QUANTLAB_RESEARCH_SCHEDULE", str(tmp_path / "slots.sqlite"))
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", f"{web.address('prompt')} {mail.address()}")
    step = {"report": {"template": "none_such"}}
    job = Job(name="page", when={"every": "1h"}, steps=[step], notify="team", retries=0)
    file = tmp_path / "desk.yaml"
    file.write_text(
        json.dumps({"jobs": [job.model_dump(exclude_none=True, exclude={"when"}) | {"when": {"every": "1h"}}]})
    )
    notice_slots(SlotLedger(tmp_path / "slots.sqlite"), job, datetime.now(UTC) - timedelta(hours=1))
    code, said, _ = call("run", file, "--once")
    told = [posted for path, posted in web.got if path == "/prompt"]
    assert code == 1 and len(told) == 1 and "none_such" in told[0]["message"] and "none_such" in said
    assert mail.got[-1][1]["subject"] == told[0]["title"]
    assert call("tell", "team")[:2] == (0, "team was told\n")
    code, said, _ = call("status")
    assert code == 1 and "sent" in said
    monkeypatch.setenv("QUANTLAB_NOTIFY_TEAM", web.address("down"))
    code, _, error = call("tell", "team")
    assert code == 1 and "503" in error and error.count("\n") == 1
