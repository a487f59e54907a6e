"""The client: the library's numbers through a network, patience while a server restarts, a token that stays here."""

import contextlib
import multiprocessing
import socket
import threading
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger
from quantlab.monitor.logs import open_log
from quantlab.risk.book import portfolio_risk


@pytest.fixture
def client(served):
    from quantlab.ops.client import QuantlabClient

    with QuantlabClient(served.address, served.token["all"], patience=5.0) as client:
        yield client


def test_it_gets_the_numbers_of_the_library(served, client):
    batch = served.done.predictions["score"].astype("float64")
    scores, receipt = client.predict(sessions=2000)
    assert scores.index.equals(batch.index) and scores.to_numpy().tobytes() == batch.to_numpy().tobytes()
    assert receipt["as_of"] == f"{batch.index[-1][0]:%Y-%m-%d}"
    some, _ = client.predict(as_of="2014-06-30", sessions=3, symbols=["KO", "BA"])
    assert some.equals(batch.loc["2014-06-26":"2014-06-30"].loc[:, ["BA", "KO"]])
    own = portfolio_risk({"AAPL": 5.0, "KO": -3.5}, 0.95, served.answers.snapshot().risk, cash=100.0).to_dict()
    told = client.risk({"AAPL": 5, "KO": -3.5}, 0.95, 100.0)
    assert told["var"] == own["VaR"] and told["value"] == own["value"]
    assert client.risk([{"symbol": "AAPL", "quantity": 5.0}])["var"] == client.risk({"AAPL": 5})["var"]
    assert (
        client.decide(book={"AAPL": 10}, cash=1e6)["weights"] == client.decide(book={"AAPL": 10}, cash=1e6)["weights"]
    )
    assert client.look("ready") == {"ready": True, "as_of": receipt["as_of"], "why": ""}


def test_refusals_have_the_kind_of_the_library(served, client):
    from quantlab.ops.client import QuantlabClient, ServerError

    for call in (
        lambda: client.risk(["TSLA"]),
        lambda: client.risk([]),
        lambda: client.risk(["AAPL"], confidence=2),
        lambda: client.predict("2014-02-30"),
        lambda: client.ask_job("run", "nobody"),
        lambda: client.ask_job("order", "small"),
    ):
        with pytest.raises(DataError) as refused:
            call()
        assert "\n" not in str(refused.value)
    with QuantlabClient(served.address, served.token["read"]) as weak:
        for call, status in (
            (lambda: weak.trip("a test of the switch"), 403),
            (lambda: weak.rearm("a test of the switch"), 403),
            (lambda: weak.ask_job("run", "small"), 403),
            (lambda: weak.job("none"), 404),
            (lambda: weak.look("book"), 404),
        ):
            with pytest.raises(ServerError) as refused:
                call()
            assert refused.value.status == status
    with (
        QuantlabClient(served.address, "ql_none") as stranger,
        pytest.raises(ServerError, match="not known") as refused,
    ):
        stranger.jobs()
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com",
        "http://127.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://127.0.0.1:80@evil.example",
        "http://[::1]@evil.example",
        "http://192.168.1.5",
        "http://0.0.0.0:8321",
        "ftp://127.0.0.1",
        "127.0.0.1:8321",
        "",
        "//127.0.0.1",
        "http://",
        "http://[::1",
        "http://127.0.0.1:x",
        "HTTP://EXAMPLE.COM",
        "http://10.0.0.1#@127.0.0.1",
        "http:///127.0.0.1",
    ],
)
def test_a_token_does_not_leave_this_machine_in_the_open(address):
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops.client import QuantlabClient

    with pytest.raises(ConfigError):
        QuantlabClient(address, "ql_x")


def test_addresses_that_are_taken(monkeypatch):
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops.client import QuantlabClient

    for address in (
        "http://127.0.0.1:8321",
        "http://localhost",
        "http://[::1]:8321",
        "http://127.5.5.5",
        "https://example.com",
        "HTTPS://10.0.0.1:8",
    ):
        QuantlabClient(address, "ql_x").close()


def test_a_proxy_of_the_environment_does_not_get_the_token(served, monkeypatch):
    from quantlab.ops.client import QuantlabClient

    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with QuantlabClient(served.address, served.token["all"], patience=0.5, timeout=2.0) as client:
            assert client.look("ready")["ready"]
        with pytest.raises(TimeoutError):
            proxy.accept()


@pytest.fixture
def restarted(tmp_path):
    "A server of jobs alone that can be killed and begun again at one port, in a process that has everything imported."
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'quantlab[serve]'")
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops import server
    from quantlab.ops.jobs import JobTable
    from quantlab.ops.tokens import TokenFile

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tokens, running = TokenFile(tmp_path / "tokens.json"), []
    answers = SimpleNamespace(
        ledger=Ledger(tmp_path / "l.sqlite"), store=None, name="stub", refresh=lambda: None, standing=lambda: ("", None)
    )

    def serve():
        server.check_job = lambda *_: None  # of this process alone
        app = server.create_app(
            answers, tokens, JobTable(tmp_path / "jobs.sqlite"), log=open_log("server", tmp_path / "log")
        )
        server.make_server(app, port=port).run()

    def begin():
        running.append(multiprocessing.get_context("fork").Process(target=serve, daemon=True))
        running[-1].start()

    def kill():
        running[-1].kill()
        running[-1].join()

    yield SimpleNamespace(
        begin=begin,
        kill=kill,
        address=f"http://127.0.0.1:{port}",
        token=tokens.issue("ann", ["read", "run", "trade"]),
        table=JobTable(tmp_path / "jobs.sqlite"),
    )
    for one in running:
        one.kill()


def test_it_waits_for_a_server_that_restarts(restarted):
    from quantlab.ops.client import QuantlabClient, ServerError

    with QuantlabClient(restarted.address, restarted.token, patience=0.3) as hasty:
        began = time.monotonic()
        with pytest.raises(ServerError, match="no answer from") as away:
            hasty.jobs()
        assert time.monotonic() - began < 3 and away.value.status == 0 and restarted.token not in str(away.value)
    with QuantlabClient(restarted.address, restarted.token, patience=20.0) as client:
        threading.Timer(0.5, restarted.begin).start()
        first = client.ask_job("run", "toy", {"a": 1}, "key")
        restarted.kill()
        threading.Timer(0.5, restarted.begin).start()
        again = client.ask_job("run", "toy", {"a": 1}, "key")
        assert again["id"] == first["id"] and len(restarted.table.rows()) == 1
        assert client.ask_job("run", "toy", {"a": 1})["id"] != client.ask_job("run", "toy", {"a": 1})["id"]
        restarted.kill()
        threading.Timer(0.5, restarted.begin).start()
        assert client.cancel(first["id"])["state"] == "cancelled"


def test_the_switch_is_pulled_once_or_not_at_all(restarted):
    "What is no question may have been done before the line broke: the caller is told, and asks what stands."
    from quantlab.ops.client import QuantlabClient, ServerError

    with QuantlabClient(restarted.address, restarted.token, patience=20.0) as client:
        threading.Timer(0.5, restarted.begin).start()
        began = time.monotonic()
        with pytest.raises(ServerError, match="no answer from"):
            client.trip("a test of the switch")
        assert time.monotonic() - began < 0.4
        client.jobs()


def test_a_line_that_breaks_in_the_middle_of_an_answer_is_asked_again():
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops.client import QuantlabClient, ServerError

    said = [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[1",
        b"nonsense\r\n\r\n",
        b'HTTP/1.1 429 Too Many\r\ncontent-length: 16\r\n\r\n{"error": "late"}',
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n[1, 2]",
    ]
    with socket.create_server(("127.0.0.1", 0)) as door:

        def speak():
            for text in said:
                line, _ = door.accept()
                with line:
                    line.recv(65_536)
                    line.sendall(text)

        threading.Thread(target=speak, daemon=True).start()
        with QuantlabClient(f"http://127.0.0.1:{door.getsockname()[1]}", "ql_x", patience=20.0) as client:
            assert client.jobs() == [1, 2]
    with socket.create_server(("127.0.0.1", 0)) as door:
        said = [b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>"]
        threading.Thread(target=speak, daemon=True).start()
        with QuantlabClient(f"http://127.0.0.1:{door.getsockname()[1]}", "ql_x", patience=1.0) as client:
            with pytest.raises(ServerError, match="the server answered 502") as refused:
                client.jobs()
            assert refused.value.status == 502


DEEP = b"[" * 10_000
UNREAD = {
    "deep": (b"200 OK", DEEP, "no JSON that can be read", 200),
    "no utf-8": (b"200 OK", b'"\xff\xfe\xfa"', "no JSON that can be read", 200),
    "a page": (b"200 OK", b"<html>", "no JSON that can be read", 200),
    "a deep refusal": (b"502 Bad Gateway", DEEP, "the server answered 502", 502),
}


def answered(head, body, ask):
    "Answer one request with bytes."
    with socket.create_server(("127.0.0.1", 0)) as door:

        def speak():
            line, _ = door.accept()
            with line, contextlib.suppress(OSError):
                line.recv(65_536)
                line.sendall(b"HTTP/1.1 " + head + b"\r\nconnection: close\r\n\r\n")
                line.sendall(body)

        threading.Thread(target=speak, daemon=True).start()
        ask(f"http://127.0.0.1:{door.getsockname()[1]}")


@pytest.mark.parametrize("name", UNREAD)
def test_an_answer_that_cannot_be_read_is_one_error_of_ours(name):
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops.client import QuantlabClient, ServerError

    status, body, said, number = UNREAD[name]

    def ask(address):
        with QuantlabClient(address, "ql_x", patience=1.0) as client:
            with pytest.raises(ServerError, match=said) as refused:
                client.jobs()
        assert refused.value.status == number and refused.value.__cause__ is None

    answered(status, body, ask)


@pytest.mark.parametrize("head", [b"200 OK", b"200 OK\r\ncontent-length: 50000000"])
def test_an_answer_of_fifty_megabytes_is_refused_before_it_is_taken(monkeypatch, head):
    pytest.importorskip("httpx", reason="httpx is not installed: pip install 'quantlab[client]'")
    from quantlab.ops.client import QuantlabClient, ServerError

    monkeypatch.setattr("quantlab.ops.client._MOST", 1_000_000)
    body = b"[0," * (50_000_000 // 3)  # made before memory is looked at

    def ask(address):
        with QuantlabClient(address, "ql_x", patience=1.0) as client:
            tracemalloc.start()
            try:
                with pytest.raises(ServerError, match="more than 1,000,000 bytes"):
                    client.jobs()
                assert tracemalloc.get_traced_memory()[1] < 5_000_000
            finally:
                tracemalloc.stop()

    answered(head, body, ask)


@pytest.fixture
def worker(request, served, monkeypatch):
    "Somebody who does the server's jobs: a thread of this process, or where it takes its time a real worker."
    from quantlab.ops.jobs import Worker, run_job

    monkeypatch.setenv("QUANTLAB_RESEARCH_TRACKING", str(served.store))
    monkeypatch.setenv("QUANTLAB_RESEARCH_LEDGER", str(served.ledger.file))
    stop, real = threading.Event(), Worker(served.jobs, name="test", poll_seconds=0.1)

    def work():
        while not stop.wait(0.05):
            if row := served.jobs.claim("test", 60):
                served.jobs.finish(row.id, "test", run_job(row, lambda: True))

    slow = request.node.get_closest_marker("slow")
    thread = threading.Thread(target=lambda: real.work(stop) if slow else work(), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(30)


def assert_same_account(told, own):
    "Every number of an account, to the last bit."
    parts = {"equity": own.equity, "cash": own.cash, "returns": own.returns, "turnover": own.turnover}
    parts |= {name: own.costs[name] for name in own.costs}
    assert set(told.columns) == set(parts) and told.index.equals(pd.DatetimeIndex(own.equity.index, name="date"))
    for name, series in parts.items():
        ours, over = series.reindex(own.equity.index).to_numpy(dtype="float64"), told[name].to_numpy()
        assert np.array_equal(ours, over, equal_nan=True), name
    assert told.notna().any().all() and told[list(own.costs)].to_numpy().sum() > 0


def test_a_backtest_through_the_network_is_the_librarys_to_the_last_digit(served, client, worker):
    from quantlab.ops.client import simulate

    account, said = simulate(client, "small", seconds=120)
    assert_same_account(account, served.done.account)
    assert said["key"] == served.done.key


@pytest.mark.slow
def test_a_backtest_with_other_settings_is_the_librarys_too(served, client, worker):
    from quantlab.ops.client import simulate
    from quantlab.recipe.run import run

    other, told = simulate(client, "small", {"policy.top_k": 3, "costs.slippage_bps": 7.5}, seconds=120)
    own = run(
        served.done.recipe.replace("policy.top_k", 3).replace("costs.slippage_bps", 7.5),
        record=False,
        ledger=served.ledger,
    )
    assert_same_account(other, own.account)
    assert told["key"] == own.key != served.done.key and not other["equity"].equals(served.done.account.equity)


def test_a_job_that_fails_or_takes_too_long_is_said(served, client):
    from quantlab.ops.client import ServerError

    row = client.ask_job("backtest", "small", {"policy.top_k": 2})
    with pytest.raises(ServerError, match="is a worker there"):
        client.await_job(row["id"], seconds=0.2)
    client.cancel(row["id"])
    with pytest.raises(ServerError, match="cancelled by ann"):
        client.await_job(row["id"], seconds=5)
