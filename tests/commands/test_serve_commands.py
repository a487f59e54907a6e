"What a server is started with is looked at before its address is printed; an account in a file is the account."

import os
import socket
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands import serve_commands
from quantlab.commands.serve_commands import worker_app
from quantlab.core.errors import ConfigError
from quantlab.ops.jobs import JobTable
from quantlab.ops.tokens import TokenFile, check_token

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'quantlab[serve]'")
pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A folder that the settings point to, and no server that starts."

    def start(*_, **__):
        raise AssertionError("it started")

    monkeypatch.setattr("quantlab.ops.server.make_server", start)
    files = {"SERVE_TOKENS": "tokens.json", "SERVE_JOBS": "jobs.sqlite", "SERVE_WAKE": "wake.sqlite"}
    files |= {"RESEARCH_TRACKING": "mlflow.sqlite", "RESEARCH_LEDGER": "ledger.sqlite"}
    env = {f"QUANTLAB_{name}": str(tmp_path / file) for name, file in files.items()}
    with patch.dict(os.environ, env | {"QUANTLAB_SERVE_RECIPE": "small", "QUANTLAB_SERVE_PORT": "0"}):
        yield tmp_path


def serve(*words):
    "Type quantlab serve; return what it printed, and what it was refused with."
    done = CliRunner().invoke(serve_commands.serve_app, list(words))
    return done.output, done.exception


class TestGarbage:
    @pytest.mark.parametrize(
        ("setting", "value", "words", "said"),
        [
            ("DELAY", "foo", [], "delay is 'foo', expected a time such as 1h"),
            ("DELAY", "-1h", [], "delay is '-1h'"),
            ("DELAY", "", [], "delay is ''"),
            ("RATE", "nan", [], "rate is nan"),
            ("CALENDAR", "XXXX", [], "there is no calendar 'XXXX'"),
            ("STAGE", "foo", [], "stage is 'foo'; give one of candidate, staging, production"),
            ("STAGE", "candidate", ["--stage", "foo"], "stage is 'foo'"),
            ("STAGE", "candidate", ["--at", "2999-12-31T22:00Z"], "not over yet"),
            ("JOBS", "{folder}/file/jobs.sqlite", [], "mend [serve] jobs"),
            ("TOKENS", "{folder}/file", [], "holds no tokens"),
            ("CERTIFICATE", "{folder}/tls/none.pem", [], "/tls/none.pem, which is not there"),
            ("PORT", "70000", [], "70000 cannot be listened on"),
            ("RECIPE", "small", ["--rehearsal", "--recipe", "nope"], "there is no recipe 'nope'"),
        ],
    )
    def test_is_refused_before_the_address_is_said(self, place, setting, value, words, said):
        (place / "file").write_text("these are no tokens")
        with patch.dict(os.environ, {f"QUANTLAB_SERVE_{setting}": value.format(folder=place)}):
            printed, error = serve(*words)
        assert isinstance(error, ConfigError) and said in str(error), repr(error)
        assert "make room" not in str(error) and "http" not in printed

    def test_a_port_that_is_taken(self, place):
        with socket.create_server(("127.0.0.1", 0)) as line:
            port = str(line.getsockname()[1])
            printed, error = serve("--port", port)
        assert str(error) == f"port {port} is taken; choose another with --port" and printed == ""

    def test_a_rehearsal_of_nothing_makes_nothing(self, place):
        with pytest.raises(ConfigError, match="no recipe 'nope'"):
            serve_commands._rehearse("nope", place / "rehearsal")
        assert not (place / "rehearsal").exists()


def test_a_rehearsal_says_how_the_other_commands_find_it(place, monkeypatch):
    class Server:
        started, handle_exit = True, lambda *_: None

        def run(self, sockets):
            self.port = sockets[0].getsockname()[1]

    server, at = Server(), []
    made = serve_commands._Rehearsal("2023-12-30T00:00Z", ["AAPL", "KO"], {"QUANTLAB_SERVE_JOBS": "x y.sqlite"})
    answers = SimpleNamespace(name="small", stage="candidate")
    monkeypatch.setattr(serve_commands, "_rehearse", lambda *_: made)
    monkeypatch.setattr(serve_commands, "_application", lambda moment: at.append(moment) or (answers, None))
    monkeypatch.setattr("quantlab.ops.server.make_server", lambda *_, **__: server)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    printed, error = serve("--rehearsal")
    assert error is None and at == ["2023-12-30T00:00Z"]
    lines = printed.splitlines()
    address = f"http://127.0.0.1:{server.port}"
    assert lines[0] == f"small at candidate: {address}", "the port that it has, not the 0 that was asked for"
    told = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    assert told["QUANTLAB_SERVE_JOBS"] == "'x y.sqlite'" and told["QUANTLAB_SERVER_ADDRESS"] == address
    rows = TokenFile(place / "tokens.json").rows()
    for scope in ("read", "run"):
        assert check_token(rows, f"Bearer {told['QUANTLAB_SERVER_TOKEN']}", scope).owner == "rehearsal"
    assert lines[-1].startswith(f"curl {address}/risk ") and told["QUANTLAB_SERVER_TOKEN"] in lines[-1]


def test_an_account_in_a_file_is_the_account_to_the_last_digit(tmp_path, monkeypatch):
    days = pd.date_range("2024-01-02", periods=6, freq="D", name="date")
    hard = [0.1 + 0.2, 1e6, 5e-324, 1.7976931348623157e308, -1 / 3, np.nan]
    account = pd.DataFrame({"equity": hard, "cash": hard[::-1]}, days)
    monkeypatch.setattr("quantlab.ops.client.simulate", lambda *_, **__: (account, {"key": "k"}))
    monkeypatch.setenv("QUANTLAB_SERVER_TOKEN", "ql_x")
    file = tmp_path / "account.csv"
    done = CliRunner().invoke(serve_commands.simulate_app, ["small", "--output", str(file)])
    assert done.exception is None and "float64" not in file.read_text()
    again = pd.read_csv(file, index_col="date", parse_dates=True, float_precision="round_trip")
    assert again.to_numpy().tobytes() == account.to_numpy().tobytes()
    assert [float(line.split(",")[1]) for line in file.read_text().splitlines()[1:-1]] == hard[:-1]


def test_a_job_that_nobody_takes_is_said_once(capsys, monkeypatch):
    now, shown = [0.0], []
    monkeypatch.setattr(serve_commands.time, "monotonic", lambda: now[0])
    tell = serve_commands._tell_job(lambda *given: shown.append(given))
    for at, state in ((0, "queued"), (4.9, "queued"), (5.1, "running"), (5.2, "queued"), (9, "queued")):
        now[0] = at
        tell({"state": state, "attempts": 0})
        assert ("quantlab worker" in capsys.readouterr().err) == (at == 5.2)
    assert len(shown) == 5


def test_the_list_of_jobs_says_what_was_asked_and_why_it_failed(place):
    table = JobTable(place / "jobs.sqlite")
    for name in ("waits", "works", "ended", "broke"):
        table.ask("run", name, {"policy.top_k": 7, "title": f"{name} " * 30}, "", "ann")
    for _ in range(3):
        table.claim("lab", 60)  # the oldest first: waits, works, ended
    rows = {row.name: row for row in table.rows()}
    table.finish(rows["works"].id, "lab", {"x": 1})
    table.fail(rows["ended"].id, "lab", "no bars")
    done = CliRunner().invoke(worker_app, ["jobs"])
    told = {line.split()[2]: line for line in done.output.splitlines() if " run " in line}
    assert "no bars" in told["ended"] and "policy.top_k" not in told["ended"]
    for name in ("waits", "works", "broke"):
        assert f'policy.top_k=7, title="{name} ' in told[name] and "..." in told[name]
    assert ["lab" in told[name] for name in ("waits", "works", "ended", "broke")] == [True, True, True, False]
