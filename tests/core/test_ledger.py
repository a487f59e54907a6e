"""The ledger under concurrent writers and kill -9."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from quantlab.core.ledger import GENESIS, Ledger, LedgerError, content_key

WRITER = """
import sys
from quantlab.core.ledger import Ledger
ledger = Ledger(sys.argv[1])
for i in range(int(sys.argv[3])):
    print(ledger.record("trial", f"{sys.argv[2]}-{i}", "study", {"i": i}, sharpe=0.1 * i), flush=True)
"""


def start(file, name, n):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(file), name, str(n)], stdout=subprocess.PIPE, text=True)


def test_two_writers_at_once_lose_nothing(tmp_path):
    file = tmp_path / "ledger.sqlite"
    writers = [start(file, name, 40) for name in ("a", "b")]
    heads = [line for w in writers for line in w.communicate(timeout=120)[0].split()]
    assert [w.returncode for w in writers] == [0, 0]
    ledger = Ledger(file)
    assert ledger.verify() == 80
    assert set(ledger.rows()["hash"]) == set(heads)
    assert len(ledger.trials("study")) == 80


def test_a_killed_writer_leaves_a_whole_chain_with_every_acknowledged_row(tmp_path):
    dice = random.Random(3)
    acknowledged = []
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for round_ in range(6):
        writer = start(ledger.file, f"r{round_}", 10_000)
        acknowledged.append(writer.stdout.readline().strip())  # it is at work
        time.sleep(dice.uniform(0.0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.read().split()
        writer.wait()
    whole = [h for h in acknowledged if len(h) == 64]  # the last line may be torn by the kill
    assert set(whole) <= set(ledger.rows()["hash"])
    assert ledger.verify() >= len(whole) > 6


def test_a_changed_row_is_found(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for i in range(5):
        ledger.record("trial", f"k{i}", "s", {}, sharpe=0.1)
    with sqlite3.connect(ledger.file) as forger, pytest.raises(sqlite3.IntegrityError):
        forger.execute("UPDATE ledger SET sharpe = 1 WHERE seq = 2")
    with sqlite3.connect(ledger.file) as forger:
        forger.execute("DROP TRIGGER ledger_no_update")
        forger.execute("UPDATE ledger SET params = '{\"x\": 1}' WHERE seq = 2")
    with pytest.raises(LedgerError, match="row 2"):
        ledger.verify()


def test_same_work_gives_the_same_hashes(tmp_path):
    "The clock is stored beside the hash, not in it."
    heads = []
    for name in ("a", "b"):
        ledger = Ledger(tmp_path / f"{name}.sqlite")
        ledger.record("trial", "k", "s", {"b": 1, "a": 2}, sharpe=0.1)
        heads.append(ledger.record("run", "k", "s", {"a": 2}))
        time.sleep(1.1 if name == "a" else 0)
    assert heads[0] == heads[1]


def test_counting_up_to_a_head_never_changes(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    heads = [GENESIS] + [ledger.record("trial", f"k{i % 3}", "s", {}) for i in range(6)]
    assert [len(ledger.trials("s", until=h)) for h in heads] == [0, 1, 2, 3, 3, 3, 3]


def test_a_key_depends_on_content_only():
    assert content_key(a=1, b=[1, 2]) == content_key(b=[1, 2], a=1) != content_key(a=1, b=[2, 1])
    with pytest.raises(ValueError):
        content_key(a=float("nan"))
