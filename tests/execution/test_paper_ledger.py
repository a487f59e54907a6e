"""The paper ledger: whatever is changed up to the last anchor is found; stamps of a real RFC 3161 authority."""

import json
import os
import random
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import pytest

from quantlab.core.errors import QuantlabError
from quantlab.data.calendar import schedule
from quantlab.execution.paper_ledger import (
    Anchor,
    DayRecord,
    PaperLedger,
    push_ledger,
    pushed,
    stamp_anchors,
    stamp_ledger,
    verify_ledger,
)

HOURS = schedule("XNYS", "2016-07-08", "2016-07-22")
N = 7
KINDS = ["edit", "amend", "commit", "delete", "anew", "price", "drop", "back-date", "late", "shorter", "terms"]
KINDS += ["object", "replace", "merge", "extra"]


def git(home, *words, at=""):
    "Run git as a cheat does, with all the freedom of its owner."
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.hooksPath="]
    times = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at} if at else {}
    done = subprocess.run(["git", *who, *words], cwd=home, env=os.environ | times, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(home, alter=lambda day: day, delay=lambda t: 10, skip=(), n=N, terms=None):
    "Write a ledger of n sessions, as the desk does or as somebody does who writes history anew."
    ledger = PaperLedger(home)
    ledger.begin(terms or {"strategy": "example", "cash": "1000"}, "2016-07-08T19:00:00+00:00")
    for t in range(n):
        if t in skip:
            continue
        close, opens = HOURS["close"].iloc[t], HOURS["open"].iloc[t + 1]
        targets = {"AAPL": str(10 + t)}
        orders = [[f"id{t}", "AAPL", "1"]]
        day = DayRecord(
            f"{HOURS.index[t]:%Y-%m-%d}", opens.isoformat(), ledger.head(), True, targets, {"AAPL": "24.17"}, orders,
            {"AAPL": str(9 + t)}, "1000.5",
        )  # fmt: skip
        ledger.add(alter(day), (close + pd.Timedelta(minutes=delay(t))).isoformat())
    return ledger


@pytest.fixture(scope="module")
def true(tmp_path_factory):
    "A ledger and what the outside holds of it, all of its days but the last."
    home = tmp_path_factory.mktemp("true") / "ledger"
    write(home)
    commits = git(home, "log", "--reverse", "--format=%H").split()
    anchors = [
        Anchor(commits[t + 1], (HOURS["close"].iloc[t] + pd.Timedelta("1h")).isoformat(), "outside")
        for t in range(N - 1)
    ]
    return home, anchors


def proof(home, anchors):
    return verify_ledger(home, anchors, HOURS.index)


def test_the_true_ledger_has_no_fault_and_its_anchored_days_are_proven(true):
    home, anchors = true
    found = proof(home, anchors)
    assert found.faults == [] and [day.state for day in found.days] == ["proven"] * (N - 1) + ["unproven"]
    assert found.proven() == N - 1
    assert proof(home, []).proven() == 0


def random_change(rng, home, source):
    "Do one of the things that a cheat could do to a day up to the last anchor; return what it was."
    t = rng.randrange(N - 1)
    date = f"{HOURS.index[t]:%Y-%m-%d}"
    file = f"days/{date}.json"
    kind = rng.choice(KINDS)
    on = lambda **other: {"alter": lambda day: day._replace(**other) if day.decided == date else day}
    again = {
        "anew": on(targets={"AAPL": str(rng.randrange(50, 90))}),
        "price": on(prices={"AAPL": "24.18"}),
        "drop": {"skip": (t,)},
        "back-date": {"delay": lambda at: 9 if at == t else 10},
        "late": {"delay": lambda at: 11 if at == t else 10},
        "shorter": {"n": t},
        "terms": {"terms": {"strategy": "example", "cash": str(rng.randrange(1001, 2000))}},
    }  # fmt: skip
    if kind in again:
        write(home, **again[kind])
        return kind, t
    shutil.copytree(source, home)
    path = home / file
    changed = json.dumps(json.loads(path.read_text()) | {"cash": "2000.5"}, sort_keys=True, indent=1) + "\n"
    if kind == "edit":
        path.write_text(changed)
    elif kind == "amend":
        path.write_text(changed)
        git(home, "commit", "-q", "-a", "--amend", "-m", "x", at="2016-07-18T20:10:00+00:00")
    elif kind == "commit":
        path.write_text(changed)
        git(home, "commit", "-q", "-a", "-m", "x", at="2016-07-18T20:20:00+00:00")
    elif kind == "delete":
        git(home, "rm", "-q", file)
        git(home, "commit", "-q", "-m", "x", at="2016-07-18T20:20:00+00:00")
    elif kind in ("object", "replace"):
        blob = git(home, "rev-parse", f"HEAD:{file}")
        path.write_text(changed)
        other = git(home, "hash-object", "-w", file)
        if kind == "replace":
            git(home, "replace", blob, other)
        else:
            place = home / ".git" / "objects"
            (place / blob[:2] / blob[2:]).chmod(0o644)
            shutil.copy(place / other[:2] / other[2:], place / blob[:2] / blob[2:])
    elif kind == "merge":
        git(home, "checkout", "-q", "-b", "side", "HEAD~2")
        (home / "note").write_text("x")
        git(home, "add", "note")
        git(home, "commit", "-q", "-m", "x", at="2016-07-18T20:20:00+00:00")
        git(home, "checkout", "-q", "-")
        git(home, "checkout", "-q", "main")
        git(home, "merge", "-q", "--no-ff", "-m", "x", "side", at="2016-07-18T20:30:00+00:00")
    else:
        (home / "days" / "2016-07-09.json").write_text(changed)
    return kind, t


def found_all(true, tmp_path, seeds):
    home, anchors = true
    kinds = set()
    for seed in seeds:
        other = tmp_path / f"ledger{seed}"
        kind, t = random_change(random.Random(seed), other, home)
        assert proof(other, anchors).faults, f"seed {seed}: {kind} of day {t} is not found"
        assert proof(other, anchors).proven() == 0
        kinds.add(kind)
        shutil.rmtree(other)
    return kinds


def test_changes_up_to_the_last_anchor_are_found(true, tmp_path):
    assert len(found_all(true, tmp_path, range(8))) > 4


@pytest.mark.slow
def test_a_hundred_changes_of_a_hundred_are_found(true, tmp_path):
    assert len(found_all(true, tmp_path, range(1000, 1100))) == 15


def test_what_nobody_outside_holds_can_be_written_anew_and_is_called_unproven(true, tmp_path):
    _, anchors = true
    last = f"{HOURS.index[N - 1]:%Y-%m-%d}"
    write(tmp_path / "x", alter=lambda day: day._replace(cash="7") if day.decided == last else day)
    found = proof(tmp_path / "x", anchors)
    assert found.faults == [] and found.days[-1].state == "unproven"


def test_an_anchor_after_the_open_holds_a_day_and_does_not_prove_its_time(true):
    home, anchors = true
    late = [Anchor(anchors[-1].commit, HOURS["open"].iloc[N].isoformat(), "outside")]
    assert {day.state for day in proof(home, late).days[:-1]} == {"held"}


def test_a_remote_holds_what_it_was_shown_and_says_when(true, tmp_path):
    home, _ = true
    git(tmp_path, "init", "-q", "--bare", "outside")
    git(tmp_path / "outside", "config", "core.logAllRefUpdates", "true")
    push_ledger(home, str(tmp_path / "outside"))
    held = pushed(home, str(tmp_path / "outside"))
    assert held[0].at and {day.state for day in proof(home, held).days} == {"held"}
    other = write(tmp_path / "other", skip=(2,))
    assert any(fault.startswith("rewritten") for fault in proof(other.home, held).faults)
    with pytest.raises(QuantlabError, match="git push failed"):
        push_ledger(other.home, str(tmp_path / "outside"))


def test_a_day_that_is_committed_is_never_written_again(true, tmp_path):
    ledger = write(tmp_path / "x")
    before = git(ledger.home, "rev-parse", "HEAD")
    ledger.add(ledger.days()[-1], "2016-07-18T20:10:00+00:00")
    assert git(ledger.home, "rev-parse", "HEAD") == before
    last = ledger.days()[-1]
    for day in (last._replace(cash="7"), last._replace(decided="2016-07-19"), ledger.days()[0]):
        with pytest.raises(QuantlabError):
            ledger.add(day, "2016-07-18T20:10:00+00:00")
    assert git(ledger.home, "rev-parse", "HEAD") == before


def test_a_commit_that_was_cut_off_is_done_again(tmp_path):
    ledger = write(tmp_path / "x", n=2)
    (ledger.home / "days" / "2016-07-12.json").write_text('{"half": ')
    git(ledger.home, "add", "-A")
    assert ledger.days()[-1].decided == "2016-07-11"
    day = ledger.days()[-1]._replace(decided="2016-07-12", opens="2016-07-13T13:30:00+00:00", previous=ledger.head())
    ledger.add(day, "2016-07-12T20:10:00+00:00")
    assert ledger.days()[-1] == day and verify_ledger(ledger.home, [], HOURS.index).faults == []


def test_hooks_and_signing_of_the_user_play_no_part(tmp_path, monkeypatch):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[core]\n\thooksPath = {hooks}\n[commit]\n\tgpgsign = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(settings.read_text())
    ledger = write(tmp_path / "x", n=2)
    monkeypatch.undo()
    assert len(ledger.days()) == 2


# ---- RFC 3161, with an authority of openssl's own over loopback

CONF = """
[ tsa ]
dir = {folder}
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    "A server that stamps, and the file of its certificate."
    if not shutil.which("openssl"):
        pytest.skip("the program openssl is not here")
    folder = tmp_path_factory.mktemp("authority")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem",
            "-days", "30", "-subj", "/CN=stamps", "-addext", "extendedKeyUsage=critical,timeStamping"]  # fmt: skip
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    (folder / "tsa.cnf").write_text(CONF.format(folder=folder))
    (folder / "serial").write_text("01\n")

    class Stamps(BaseHTTPRequestHandler):
        def do_POST(self):
            (folder / "asked.tsq").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            line = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "asked.tsq"]
            answer = (
                b"<html>" if "broken" in self.path else subprocess.run(line, cwd=folder, capture_output=True).stdout
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words):
            "Say nothing."

    server = HTTPServer(("127.0.0.1", 0), Stamps)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder / "tsa.pem"
    server.shutdown()


def test_a_time_stamp_holds_a_ledger(authority, tmp_path):
    address, certificate = authority
    ledger = write(tmp_path / "ledger")
    file = stamp_ledger(ledger.home, f"{address}/tsr")
    [anchor] = stamp_anchors(ledger.home, certificate)
    assert anchor.commit == file.stem == git(ledger.home, "rev-parse", "HEAD")
    assert abs(pd.Timestamp(anchor.at) - pd.Timestamp.now("UTC")) < pd.Timedelta("1h")
    found = verify_ledger(ledger.home, [anchor], HOURS.index)
    assert found.faults == [] and {day.state for day in found.days} == {"held"}
    shutil.rmtree(ledger.home)
    write(ledger.home, skip=(3,))
    assert any("a stamp by tsa.pem" in fault for fault in verify_ledger(ledger.home, [anchor], HOURS.index).faults)


def test_a_stamp_that_nobody_signed_is_refused(authority, tmp_path):
    address, certificate = authority
    ledger = write(tmp_path / "ledger", n=2)
    with pytest.raises(QuantlabError, match="answered with no time stamp"):
        stamp_ledger(ledger.home, f"{address}/broken")
    file = stamp_ledger(ledger.home, f"{address}/tsr")
    other = file.with_name("0" * 40 + ".tsr")
    file.rename(other)  # the stamp of another commit
    with pytest.raises(QuantlabError, match="is not signed by tsa.pem"):
        stamp_anchors(ledger.home, certificate)
    with pytest.raises(QuantlabError, match="stamps nothing"):
        stamp_ledger(ledger.home, "http://127.0.0.1:9/tsr")
    assert Path(other).exists()
