"One call for work side by side: the same results here, in processes and on Dask, named errors, no process left behind."

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from quantlab.core import compute
from quantlab.core.compute import ComputeError
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 60)))


def inverse(item: int, frame: pd.DataFrame) -> np.ndarray:
    "Linear algebra whose last digits move with the number of threads."
    return np.linalg.solve(frame.T @ frame + item * np.eye(frame.shape[1]), frame.T.to_numpy()[:, :5])


def fails(item: str, kind: type = DataError) -> str:
    if item == "bad":
        raise kind("no rows")
    return item


def dies(item: int) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def dies_once(item: int, frame: pd.DataFrame, marker: str) -> float:
    "Kill the own worker in the middle of the work, the first time it is asked."
    time.sleep(0.05)
    if item == 5 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(inverse(item + 1, frame).sum())


def test_one_and_two_processes_agree_and_keep_the_order():
    came, steps, others = (
        [],
        [],
        set(psutil.Process().children(recursive=True)),
    )  # a database of another test may be running
    alone = compute.map(inverse, range(1, 6), [FRAME], workers=1)
    beside = compute.map(
        inverse,
        range(1, 6),
        [FRAME],
        workers=2,
        each=lambda i, r: came.append(i),
        progress=lambda *step: steps.append(step),
    )
    assert all((a == b).all() for a, b in zip(alone, beside, strict=True)) and not (alone[0] == alone[1]).all()
    assert sorted(came) == [0, 1, 2, 3, 4]
    assert [s[:2] for s in steps] == [(i, 5) for i in range(6)] and sorted(s[2] for s in steps) == [
        "",
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    left = [c for c in psutil.Process().children(recursive=True) if c not in others and "python" in c.name()]
    assert all("resource_tracker" in " ".join(c.cmdline()) for c in left)


@pytest.mark.parametrize(
    ("workers", "kind", "message"),
    [
        (1, DataError, "^second: no rows$"),
        (1, KeyError, "second failed: KeyError: 'no rows'"),
        (2, DataError, "^second: no rows$"),
    ],
)
def test_an_error_names_its_item_and_what_came_before_is_delivered(workers, kind, message):
    came = []
    with pytest.raises(DataError if kind is DataError else ComputeError, match=message):
        compute.map(
            fails, ["good", "bad"], [kind], workers=workers, names=["first", "second"], each=lambda i, r: came.append(r)
        )
    assert workers == 2 or came == ["good"]


def test_a_dead_worker_is_one_clear_error():
    with pytest.raises(ComputeError, match="a worker process died"):
        compute.map(dies, range(4), workers=2)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 1.5}, {"workers": True}, {"names": ["a"]}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ConfigError):
        compute.map(len, ["a", "b"], **wrong)


def test_nothing_to_do():
    steps = []
    assert compute.map(len, [], progress=lambda *step: steps.append(step)) == [] and steps == [(0, 0, "")]


SCRIPT = """
import sys, time
from quantlab.core import compute
def slow(item):
    time.sleep(60)
compute.map(slow, range(4), workers=2, progress=lambda *step: print("started", flush=True))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_no_worker_outlives_its_parent(how):
    heard = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # what runs in the background of a shell is deaf to ctrl-c, and so are its children
    job = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=root(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=heard
    )
    job.stdout.readline()
    workers, end = [], time.time() + 40
    while len(workers) < 2 and time.time() < end:
        workers = [c for c in psutil.Process(job.pid).children(recursive=True) if "popen_loky" in " ".join(c.cmdline())]
        time.sleep(0.2)
    time.sleep(3)
    job.send_signal(how)
    assert job.wait(60) != 0  # a busy machine takes its time to stop the workers
    gone, alive = psutil.wait_procs(workers, timeout=15)
    assert len(gone) == 2 and not alive


def test_dask_gives_the_same_though_a_worker_is_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    items, came = range(12), []
    expected = compute.map(dies_once, [i for i in items if i != 5], [FRAME, str(tmp_path)], workers=1)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        found = compute.map(
            dies_once,
            items,
            [FRAME, str(tmp_path / "killed")],
            scheduler=cluster.scheduler_address,
            each=lambda i, r: came.append(i),
        )
        with pytest.raises(DataError, match="^bad: no rows$"):
            compute.map(fails, ["good", "bad"], scheduler=cluster.scheduler_address)
    assert (tmp_path / "killed").exists() and sorted(came) == list(items)
    assert [r for i, r in enumerate(found) if i != 5] == expected and found[5] == float(inverse(6, FRAME).sum())


def test_no_message_shows_a_password(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setenv("QUANTLAB_RESEARCH_SCHEDULER", "tcp://me:hunter2@127.0.0.1:1")
    with pytest.raises(ConfigError, match="no Dask scheduler answers at") as refused:
        compute.map(abs, [1])
    assert "hunter2" not in str(refused.value) and refused.value.__cause__ is None


def test_the_setting_names_the_scheduler(monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_SCHEDULER", "tcp://127.0.0.1:1")
    pytest.importorskip("distributed")
    distributed = importlib.import_module("distributed")
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("nobody listens: Dask is not started"))
    with pytest.raises(ConfigError, match="no Dask scheduler answers at 'tcp://127.0.0.1:1'"):
        compute.map(len, ["a"])
    assert compute.map(len, ["a"], workers=1) == [1]


@pytest.mark.parametrize("given", [{"workers": 1.5}, {"workers": True}, {"workers": 0}, {"names": ["x"]}])
def test_bad_arguments_of_the_call(given):
    with pytest.raises(ConfigError):
        compute.map(len, ["a", "b"], **given)


def test_an_error_of_ours_keeps_its_class_and_gains_the_name():
    with pytest.raises(DataError, match="^bad: no rows$"):
        compute.map(fails, ["good", "bad"], workers=1)
