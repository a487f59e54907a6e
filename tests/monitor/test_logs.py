"Logs: one JSON line an event whatever it holds, no secret in it, and nothing that is logged stops the work."

import asyncio
import json
import math
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.monitor.logs import log_context, log_value, open_log

AT = datetime(2025, 11, 24, 21, 0, 3, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    return open_log("server", tmp_path / "x.log", clock=lambda: AT, run_id="r-1")


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "x.log").read_text().splitlines()]


class Odd:
    "Fail at whatever is asked; hypothesis shows its repr."

    def __str__(self):
        raise RuntimeError("gone")

    def __repr__(self):
        return "Odd()"

    def __len__(self):
        raise RuntimeError("gone")


class OddMapping(dict):
    def items(self):
        raise RuntimeError("gone")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(Odd())
    | st.builds(OSError, st.text()),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.binary(), parts, max_size=4)
        | st.tuples(parts)
    ),
    max_leaves=12,
)


@given(VALUES, st.text() | st.binary())
def test_whatever_is_logged_is_one_line_of_json(tmp_path_factory, value, event):
    file = tmp_path_factory.mktemp("log") / "x.log"
    open_log("server", file, clock=lambda: AT).info(event, value=value, more=OddMapping(a=1))
    raw = file.read_bytes()
    assert raw.count(b"\n") == 1 and raw.endswith(b"\n")
    line = json.loads(raw, parse_constant=lambda name: pytest.fail(name))
    assert (
        line["level"] == "info"
        and line["time"] == "2025-11-24T21:00:03.000000Z"
        and list(line)[:4] == ["time", "level", "log", "event"]
    )


def test_what_is_bound_and_what_is_nested(log, tmp_path):
    log.bind(job="j-1").warning("late", seconds=math.inf, by=b"\xff", ring=(ring := [], ring.append(ring)))
    log.msg("plain")
    [late, plain] = lines(tmp_path)
    assert (late["run_id"], late["job"], late["seconds"], late["by"]) == ("r-1", "j-1", "inf", "\\xff")
    assert plain["level"] == "info"


@pytest.mark.parametrize(
    "planted",
    [
        {"token": "PLANTED"},
        {"Authorization": "PLANTED"},
        {"headers": {"authorization": "Bearer PLANTED", "x-api-key": "PLANTED"}},
        {"config": [{"db": {"PGPASSWORD": "PLANTED"}}]},
        {"client_secret": b"PLANTED"},
        {"said": "Bearer PLANTED"},
        {"said": b"authorization: basic PLANTED=="},
        {"said": "postgresql://user:PLANTED@host/db"},
        {"said": OSError("password='PLANTED'")},
        {"said": {"password=PLANTED": 1}},
        {"cookie": "PLANTED"},
        {"apiKey": "PLANTED"},
        {"said": "the value from the environment is SECRET-OF-ENV-PLANTED"},
    ],
)
def test_no_secret_is_written(log, tmp_path, planted, monkeypatch):
    monkeypatch.setenv("BROKER_SECRET", "SECRET-OF-ENV-PLANTED")
    log.info("it began", **planted, harmless=7)
    try:
        raise ValueError(f"went wrong with {planted}" if "said" not in planted else str(planted["said"]))
    except ValueError:
        log.exception("it failed") if "said" in planted else None
    text = (tmp_path / "x.log").read_text()
    assert "PLANTED" not in text and lines(tmp_path)[0]["harmless"] == 7


def test_the_event_itself_loses_its_secret(log, tmp_path):
    log.info("Authorization: Bearer PLANTED")
    log.info(b"token=PLANTED")
    assert "PLANTED" not in (tmp_path / "x.log").read_text()


def test_a_traceback_is_a_text_in_one_line(log, tmp_path):
    try:
        raise OSError("no route")
    except OSError as error:
        log.exception("one")
        log.error("two", exc_info=True)
        log.error("three", exc_info=error)
        log.error("four", exc_info=(OSError, error, error.__traceback__))
    log.exception("five, outside")
    log.error("six", exc_info=True)
    told = lines(tmp_path)
    assert all(one["traceback"].endswith("OSError: no route\n") and one["level"] == "error" for one in told[:4])
    assert all("traceback" not in one for one in told[4:]) and len(told) == 6


def test_levels(tmp_path):
    log = open_log("server", tmp_path / "x.log", level="warning")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("said")
    assert [one["level"] for one in lines(tmp_path)] == ["warning", "error", "critical"]
    with pytest.raises(ConfigError, match="is no level"):
        open_log("server", level="loud")


def test_a_request_is_bound_to_its_own_lines_across_await(log, tmp_path):
    async def request(name):
        with log_context(request_id=name):
            await asyncio.sleep(0.001)
            log.info(f"of {name}")

    async def serve():
        await asyncio.gather(*[request(f"q-{n}") for n in range(20)])

    asyncio.run(serve())
    log.info("after")
    told = lines(tmp_path)
    assert (
        len(told) == 21
        and all(one["event"] == f"of {one['request_id']}" for one in told[:20])
        and "request_id" not in told[20]
    )


def test_lines_of_threads_do_not_mix_and_a_rotated_file_is_made_anew(log, tmp_path):
    def write(name):
        for number in range(50):
            log.info("tick", name=name, number=number, text="x" * 5000)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path)) == 200
    (tmp_path / "x.log").rename(tmp_path / "x.log.1")
    log.info("new")
    assert [one["event"] for one in lines(tmp_path)] == ["new"]


def test_a_full_disk_sends_lines_to_stderr(log, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        log.info("goes on")
    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["the log x.log takes nothing (No space left on device)", "goes on"]
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", None)
        open_log("nowhere").info("nobody hears it")


def test_stderr_is_that_of_the_moment_and_a_bad_file_is_refused_at_once(tmp_path, capsys):
    open_log("here").info("seen")
    assert json.loads(capsys.readouterr().err)["event"] == "seen"
    with pytest.raises(DataError, match="takes no line"):
        open_log("server", tmp_path)


def test_a_long_word_costs_no_second():
    began = time.perf_counter()
    log_value("x" * 10**6)
    assert time.perf_counter() - began < 0.2  # it was a second, when redact looked for an address at each letter


def test_a_long_text_is_cut_and_a_wide_one_too():
    assert len(log_value("x" * 10**6)) < 10_100 and len(log_value(list(range(10_000)))) == 200


def test_nothing_of_structlog_is_configured(log):
    import structlog

    log.info("x")
    assert not structlog.is_configured()
