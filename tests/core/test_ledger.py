"""The ledger under concurrent writers, kill -9, and hands that change its file."""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

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


OLD = """
CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY, prev_hash TEXT NOT NULL UNIQUE, hash TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('fit', 'trial', 'run')),
    key TEXT NOT NULL, study TEXT NOT NULL, params TEXT NOT NULL, n_obs INTEGER, periods_per_year REAL,
    sharpe REAL, skew REAL, kurtosis REAL, written TEXT NOT NULL);
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


def row(i: int) -> tuple:
    return "trial", f"k{i}", "s", {"i": i}, 250, 252.0, 0.1 + i, None if i % 3 else 0.5, 3.0


def filled(file, n: int = 12) -> Ledger:
    ledger = Ledger(file)
    ledger.record_many([row(i) for i in range(n)])
    return ledger


def earlier(file, n: int = 4) -> Ledger:
    "A ledger as the version before wrote it: no seals, no head beside it."
    with closing(sqlite3.connect(file)) as store, store:
        store.executescript(OLD)
        head = GENESIS
        for i in range(n):
            kind, key, study, params, *numbers = row(i)
            values = (kind, key, study, json.dumps(params), *numbers)
            text = json.dumps(
                dict(
                    zip(
                        ("kind", "key", "study", "params", "n_obs", "periods_per_year", "sharpe", "skew", "kurtosis"),
                        values,
                        strict=True,
                    )
                ),
                sort_keys=True,
                separators=(",", ":"),
            )
            head, before = hashlib.sha256((head + text).encode()).hexdigest(), head
            store.execute(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (i + 1, before, head, *values, f"2024-01-0{i + 1}T00:00:00+00:00"),
            )
    return Ledger(file)


def forge(file, *statements) -> bool:
    "Change rows behind the triggers' back; say whether the file let it happen."
    with closing(sqlite3.connect(file)) as forger:
        try:
            with forger:
                forger.executescript(
                    "DROP TRIGGER IF EXISTS ledger_no_update; DROP TRIGGER IF EXISTS ledger_no_delete;"
                )
                before = forger.execute("SELECT * FROM ledger ORDER BY rowid").fetchall()
                for statement, values in statements:
                    forger.execute(statement, values)
                return forger.execute("SELECT * FROM ledger ORDER BY rowid").fetchall() != before
        except sqlite3.IntegrityError:
            return False


def found(ledger: Ledger) -> bool:
    try:
        ledger.verify()
    except LedgerError as error:
        assert "\n" not in str(error)
        return True
    return False


COLUMNS = (
    "seq",
    "prev_hash",
    "hash",
    "kind",
    "key",
    "study",
    "params",
    "n_obs",
    "periods_per_year",
    "sharpe",
    "skew",
    "kurtosis",
    "written",
    "seal",
)


def random_edit(dice: random.Random, n: int) -> list[tuple]:
    at, other = dice.sample(range(1, n + 1), 2)
    what = dice.choice(["edit"] * 8 + ["delete", "insert", "swap", "cut", "copy"])
    if what == "edit":
        text = (
            "",
            "x",
            "trial",
            "run",
            "{}",
            None,
            "2024-02-30",
            b"\xff\x00",
            "0" * 64,
            f"{dice.getrandbits(256):064x}",
        )
        value = dice.choice((*text, dice.random(), -1, 0, 250, 10**12, float("inf"), float("nan"), "1e3"))
        return [(f"UPDATE ledger SET {dice.choice(COLUMNS)} = ? WHERE seq = {at}", (value,))]
    if what == "delete":
        return [(f"DELETE FROM ledger WHERE seq = {at}", ())]
    if what == "cut":
        return [(f"DELETE FROM ledger WHERE seq >= {at}", ())]
    if what == "insert":
        marks = ", ".join("?" * len(COLUMNS))
        values = (
            n + dice.randint(1, 3),
            f"{dice.getrandbits(256):064x}",
            f"{dice.getrandbits(256):064x}",
            "trial",
            "new",
            "s",
            "{}",
            1,
            1.0,
            1.0,
            0.0,
            3.0,
            "2024-01-01",
            dice.choice([None, "0" * 64]),
        )
        return [(f"INSERT INTO ledger ({', '.join(COLUMNS)}) VALUES ({marks})", values)]
    if what == "swap":
        return [
            ("UPDATE ledger SET seq = -1 WHERE seq = ?", (at,)),
            ("UPDATE ledger SET seq = ? WHERE seq = ?", (at, other)),
            ("UPDATE ledger SET seq = ? WHERE seq = -1", (other,)),
        ]
    columns = ", ".join(c for c in COLUMNS if c not in ("seq", "prev_hash", "hash"))
    return [
        (f"UPDATE ledger SET ({columns}) = (SELECT {columns} FROM ledger WHERE seq = {other}) WHERE seq = {at}", ())
    ]


@pytest.mark.parametrize("edits", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_no_edit_of_any_row_escapes(tmp_path, edits):
    dice, whole, kinds = random.Random(11), filled(tmp_path / "whole.sqlite"), set()
    assert whole.verify() == 12
    done = 0
    while done < edits:
        copy = tmp_path / "copy.sqlite"
        shutil.copy(whole.file, copy)
        shutil.copy(whole.head_file, tmp_path / "copy.sqlite.head")
        statements = random_edit(dice, 12)
        if forge(copy, *statements):
            assert found(Ledger(copy)), statements
            kinds.add(statements[0][0].split("WHERE")[0])
            done += 1
    assert len(kinds) >= min(15, edits // 4)


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edit_of_each_column_is_found_in_the_first_a_middle_and_the_last_row(tmp_path, column):
    for at in (1, 3, 5):
        ledger = filled(tmp_path / f"{at}.sqlite", 5)
        value = {
            "seq": 99,
            "kind": "fit",
            "written": "2020-01-01T00:00:00+00:00",
            "seal": None,
            "n_obs": 251,
            "sharpe": 0.05,
        }.get(column, "1" * 64)
        assert forge(ledger.file, (f"UPDATE ledger SET {column} = ? WHERE seq = {at}", (value,)))
        assert found(ledger), (column, at)


def test_the_link_to_the_row_before_is_checked_by_itself(tmp_path):
    "The row's own hash still fits: it follows what stands above it, only its word for that is wrong."
    ledger = filled(tmp_path / "ledger.sqlite", 4)
    assert forge(ledger.file, ("UPDATE ledger SET prev_hash = ? WHERE seq = 3", ("a" * 64,)))
    with pytest.raises(LedgerError, match="row 3 .* does not follow"):
        ledger.verify()


def test_a_cut_tail_is_missed_by_the_head_and_by_a_manifest(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite", 6)
    manifest = {"ledger": {"before": GENESIS, "after": ledger.head()}, "parameters": {"ledger_head": ""}}
    assert ledger.verify(manifest, ledger.head()) == 6
    assert forge(ledger.file, ("DELETE FROM ledger WHERE seq > 4", ()))
    for call in (ledger.verify, lambda: ledger.record(*row(9))):
        with pytest.raises(LedgerError, match="has 4 rows and had 6"):
            call()
    ledger.head_file.unlink()
    for call in (ledger.verify, lambda: ledger.record(*row(9))):
        with pytest.raises(LedgerError, match="head is missing"):
            call()
    ledger.accept("a copy of last week")
    assert ledger.verify() == 5 and ledger.record(*row(9)) and ledger.verify() == 6
    assert json.loads(ledger.rows()["params"].iloc[4]) == {"reason": "a copy of last week", "rows": 4}
    for known in (manifest, manifest["ledger"]["after"], {"parameters": {"ledger_head": manifest["ledger"]["after"]}}):
        with pytest.raises(LedgerError, match="rows were cut off"):
            ledger.verify(known)


def test_a_whole_ledger_that_is_gone_is_missed(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite", 3)
    ledger.file.unlink()
    with pytest.raises(LedgerError, match="has 0 rows and had 3"):
        ledger.verify()
    with pytest.raises(LedgerError, match="has 0 rows and had 3"):
        ledger.record(*row(1))


def test_acceptance_does_not_cover_a_changed_row(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite", 4)
    assert forge(ledger.file, ("UPDATE ledger SET sharpe = 9 WHERE seq = 2", ()))
    with pytest.raises(LedgerError, match="row 2"):
        ledger.accept("never mind")


def test_a_head_that_lags_is_no_fault(tmp_path):
    "A writer may die between its row and the head; what it acknowledged earlier is still proved."
    ledger = filled(tmp_path / "ledger.sqlite", 3)
    before = ledger.head_file.read_text()
    ledger.record(*row(7))
    ledger.head_file.write_text(before)
    assert ledger.verify() == 4
    ledger.record(*row(8))
    assert ledger.verify() == 5 == json.loads(ledger.head_file.read_text())["rows"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"rows": "many", "hash": 1, "seal": 2}', "\x00"])
def test_a_broken_head_is_one_line(tmp_path, text):
    ledger = filled(tmp_path / "ledger.sqlite", 2)
    ledger.head_file.write_text(text)
    with pytest.raises(LedgerError, match=r"head cannot be read .* accept\(\)"):
        ledger.verify()
    ledger.accept("the head was lost")
    assert ledger.verify() == 3


def test_a_ledger_of_the_version_before_opens_and_says_what_is_not_protected(tmp_path):
    ledger = earlier(tmp_path / "old.sqlite")
    before = ledger.file.read_bytes()
    assert (
        ledger.verify() == 4 == ledger.unsealed()
        and len(ledger.trials("s")) == 4
        and ledger.rows()["seal"].isna().all()
    )
    assert ledger.file.read_bytes() == before and not ledger.head_file.exists(), "reading changes nothing"
    ledger.record(*row(8))
    assert ledger.verify() == 5 and ledger.unsealed() == 4
    assert ledger.record(*row(9)) == ledger.head() and ledger.verify() == 6
    for at, column, value in (
        (2, "written", "2020-01-01"),
        (5, "written", "2020-01-01"),
        (1, "seal", "0" * 64),
        (5, "seal", None),
        (3, "sharpe", 4.0),
    ):
        copy = tmp_path / f"{at}{column}.sqlite"
        shutil.copy(ledger.file, copy)
        shutil.copy(ledger.head_file, f"{copy}.head")
        assert forge(copy, (f"UPDATE ledger SET {column} = ? WHERE seq = {at}", (value,)))
        assert found(Ledger(copy)), (at, column)


def test_where_no_ledger_can_be(tmp_path):
    (tmp_path / "a_file").write_text("")
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "junk.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 40)
    for place in ("a_file/ledger.sqlite", "a_folder", "junk.sqlite"):
        with pytest.raises(LedgerError) as refused:
            Ledger(tmp_path / place).record(*row(1))
        assert "\n" not in str(refused.value) and "another file" in str(refused.value)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    empty = Ledger(tmp_path / "empty.sqlite")
    assert (
        empty.verify() == 0
        and empty.head() == GENESIS
        and empty.rows().empty
        and empty.record(*row(1))
        and empty.verify() == 1
    )


def test_a_full_disk_leaves_the_ledger_whole(tmp_path, monkeypatch):
    ledger = filled(tmp_path / "ledger.sqlite", 3)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(LedgerError, match="No space left"):
            ledger.record(*row(4))
    assert ledger.verify() >= 3 and not list(tmp_path.glob(".*"))
    ledger.record(*row(5))
    assert ledger.verify() == len(ledger.rows()) == json.loads(ledger.head_file.read_text())["rows"]


def test_another_whole_chain_in_its_place_is_found(tmp_path):
    "Rewritten from the first row with every hash right: the head beside the store remembers the other one."
    ledger, other = filled(tmp_path / "ledger.sqlite", 4), Ledger(tmp_path / "other.sqlite")
    other.record_many([row(i) for i in (1, 2, 3, 4, 5)])
    shutil.copy(other.file, ledger.file)
    with pytest.raises(LedgerError, match="row 4 .* is not the one that ledger.sqlite.head has seen"):
        ledger.verify()


def test_a_number_of_a_row_is_checked_where_no_seal_holds_it(tmp_path):
    ledger = earlier(tmp_path / "old.sqlite")
    assert forge(ledger.file, ("UPDATE ledger SET seq = 99 WHERE seq = 4", ()))
    with pytest.raises(LedgerError, match="row 99"):
        ledger.verify()


def test_a_head_that_is_lost_after_rows_were_sealed_is_missed_although_the_first_rows_never_were(tmp_path):
    ledger = earlier(tmp_path / "old.sqlite")
    ledger.record(*row(8))
    ledger.head_file.unlink()
    with pytest.raises(LedgerError, match="old.sqlite.head is missing"):
        ledger.verify()


def test_keys_and_messages_have_their_length():
    assert content_key(a=1, b="x") == hashlib.sha256(b'{"a":1,"b":"x"}').hexdigest()[:16]


def test_an_unknown_head_is_named_by_its_first_twelve_digits(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite", 3)
    with pytest.raises(LedgerError, match=r"head 0123456789ab\.\.\. is not in"):
        ledger.trials("s", until="0123456789abcdef" * 4)
    with pytest.raises(LedgerError, match=r"head 0123456789ab\.\.\. is not in"):
        ledger.verify("0123456789abcdef" * 4)


def test_what_json_cannot_say_has_no_hash():
    from quantlab.core.ledger import _row_hash

    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            _row_hash(GENESIS, {"sharpe": value})


def test_a_new_ledger_has_a_head_of_no_rows_before_its_first(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    monkeypatch.setattr("quantlab.core.ledger._row_hash", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger.record(*row(1))
    assert json.loads(ledger.head_file.read_text())["rows"] == 0


def test_trials_are_the_trials_of_one_study(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for kind, key, study in (
        ("trial", "a", "s"),
        ("fit", "b", "s"),
        ("run", "c", "s"),
        ("trial", "d", "other"),
        ("trial", "a", "s"),
    ):
        ledger.record(kind, key, study, {})
    assert (
        ledger.trials("s")["key"].tolist() == ["a"]
        and ledger.trials("other")["key"].tolist() == ["d"]
        and ledger.trials("none").empty
    )
