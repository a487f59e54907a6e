"""Passes: a training that was killed goes on to the same bits, and what cannot be trained is refused."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from quantlab.core.cache import content_hash
from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.passes import PassPlan, give_weights, net_weights, train_passes

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 2)).astype("float32")
Y = (X[:, 0] * X[:, 1]).astype("float32")
LEARN, WATCH = np.arange(400), np.arange(450, 600)
PLAN = PassPlan(epochs=12, patience=12, batch=100, rate=1e-2)
KEY = content_hash([X, Y, PLAN])


def build(torch):
    "A net with dropout, so that random numbers are drawn inside each pass."
    return torch.nn.Sequential(
        torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
    )  # fmt: skip


def loss(torch, net, rows):
    return (net(torch.from_numpy(X[rows]))[:, 0] - torch.from_numpy(Y[rows])) ** 2


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    "setting",
    [{"epochs": 0}, {"patience": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": np.inf}, {"rate": np.nan}, {"decay": -1.0}],
)
def test_settings_that_train_nothing_are_refused(setting):
    with pytest.raises(ConfigError, match="positive"):
        PassPlan(**setting)


def test_without_torch_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        train_passes(build, loss, LEARN, WATCH)


def test_no_rows_are_refused_before_torch_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DataError, match="rows"):
        train_passes(build, loss, LEARN[:0], WATCH)


def test_the_best_pass_is_kept_and_patience_ends_the_training():
    torch = pytest.importorskip("torch", reason="make deep")
    record = train_passes(build, loss, LEARN, WATCH, PassPlan(epochs=200, patience=3, batch=50, rate=3e-2))
    assert record.best == record.history["valid"].argmin() and len(record.history) == record.best + 4
    net = give_weights(torch, build(torch), record.weights).eval()
    with torch.no_grad():
        assert float(loss(torch, net, WATCH).mean()) == pytest.approx(record.history["valid"].min(), rel=1e-5)


def test_without_watched_rows_the_last_of_all_passes_is_kept():
    pytest.importorskip("torch", reason="make deep")
    record = train_passes(build, loss, LEARN, LEARN[:0], PLAN)
    assert record.best == len(record.history) - 1 == 11 and record.history["valid"].isna().all()


def test_watched_rows_teach_nothing():
    pytest.importorskip("torch", reason="make deep")
    plan = PassPlan(epochs=4, patience=9, batch=100)
    one, two = (train_passes(build, loss, LEARN, watch, plan) for watch in (WATCH, np.arange(401, 420)))
    assert one.history["train"].equals(two.history["train"])


def test_a_loss_that_is_no_number_ends_the_training():
    pytest.importorskip("torch", reason="make deep")
    with pytest.raises(DataError, match="rate"):
        train_passes(build, lambda *a: loss(*a) * float("inf"), LEARN, WATCH, PLAN)


def test_weights_of_another_layout_are_refused():
    torch = pytest.importorskip("torch", reason="make deep")
    with pytest.raises(DataError, match="layout"):
        give_weights(torch, build(torch), net_weights(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("fault", [0, 1, 7, 11])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch, fault):
    pytest.importorskip("torch", reason="make deep")
    whole = train_passes(build, loss, LEARN, WATCH, PLAN)
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    calls, begun = [], []

    def falls(torch, net, rows):
        "Break down in the middle of a pass."
        calls.append(1)
        if len(calls) == 5 * fault + 3:
            raise KeyboardInterrupt
        return loss(torch, net, rows)

    with pytest.raises(KeyboardInterrupt):
        train_passes(build, falls, LEARN, WATCH, PLAN, key=KEY)
    again = train_passes(build, loss, LEARN, WATCH, PLAN, key=KEY, progress=lambda r: begun.append(r) or r)
    assert begun == [range(fault, 12)]
    assert same(again.weights, whole.weights) and again.history.equals(whole.history) and again.best == whole.best


def test_a_finished_training_is_read_and_another_key_is_not(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="make deep")
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    begun, plan = [], PassPlan(epochs=200, patience=2, batch=50, rate=3e-2)
    runs = [
        train_passes(build, loss, LEARN, WATCH, plan, key=key, progress=lambda r: begun.append(len(r)) or r)
        for key in (KEY, KEY, content_hash("another"))
    ]
    assert begun == [200, 0, 200] and same(runs[0].weights, runs[1].weights)


CHILD = """
import sys, time
sys.path.insert(0, {folder!r})
from test_passes import KEY, LEARN, PLAN, WATCH, build, loss
from quantlab.deep.passes import train_passes

def waits(numbers):
    for number in numbers:
        print(number, flush=True)
        if number == 5:
            time.sleep(600)
        yield number

train_passes(build, loss, LEARN, WATCH, PLAN, key=KEY, progress=waits)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_its_passes_to_the_next(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="make deep")
    whole = train_passes(build, loss, LEARN, WATCH, PLAN)
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    code = CHILD.format(folder=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) as child:
        told = [child.stdout.readline().strip() for _ in range(6)]
        os.kill(child.pid, signal.SIGKILL)
    assert told == list("012345") and child.returncode == -signal.SIGKILL
    begun = []
    again = train_passes(build, loss, LEARN, WATCH, PLAN, key=KEY, progress=lambda r: begun.append(r) or r)
    assert begun == [range(5, 12)] and same(again.weights, whole.weights) and again.history.equals(whole.history)
