"A passport: signed with a real key, proved by it, broken by any change, and written only when all papers have held."

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ReportError
from quantlab.core.ledger import Ledger
from quantlab.ops import papers
from quantlab.ops.passport import (
    decision_gap,
    draw_passport,
    passport_page,
    read_signers,
    sign_passport,
    verify_passport,
    write_passport,
)
from quantlab.recipe.evidence import openings

TAGS = {"study": "study", "key": "t4", "sources": "a" * 64, "data_hash": "0", "staging_ledger_head": "b" * 64}
HELD = pd.DataFrame(
    {"held": [True, False], "shown": ["all <b>well</b>", ""], "missing": ["", "no tests"]}, ["audit", "tests"]
)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    papers.open_out_of_sample("study", "t4", ledger)
    papers.open_out_of_sample("other", "t4", ledger)
    return ledger


@pytest.fixture
def drawn(ledger):
    return draw_passport("m", 3, "staging", TAGS, HELD, ledger)


def test_what_is_drawn_up(drawn, ledger):
    assert drawn["facts"] == {
        "name": "m", "version": 3, "to": "staging", "study": "study", "key": "t4", "sources": "a" * 64,
        "data_hash": "0", "ledger_head": ledger.head(),
    }  # fmt: skip
    said = [(one["paper"], one["held"], one["said"]) for one in drawn["papers"]]
    assert said == [("audit", True, "all <b>well</b>"), ("tests", False, "no tests")]
    assert [one["key"] for one in drawn["openings"]] == ["t4"] and openings("none", ledger) == []


def test_a_signature_is_proved_and_every_change_breaks_it(drawn, ledger, ann, tmp_path):
    signed = sign_passport(drawn, ann.signer)
    known = read_signers(ann.signers)
    assert (
        decision_gap(signed, known) == ""
        and verify_passport(write_passport(signed, tmp_path), ledger, ann.signers) == signed
    )
    leaves = [("facts", name) for name in signed["facts"]] + [("decision", "reason")]
    for part, name in leaves:
        other = json.loads(json.dumps(signed))
        other[part][name] = "another"
        assert "changed after it was signed" in decision_gap(other, known), name
    for change in (
        lambda p: p["papers"].pop(), lambda p: p["papers"][1].update(held=True), lambda p: p["openings"].clear(),
        lambda p: p.update(more=1), lambda p: p.update(signature=p["signature"][::-1]), lambda p: p.pop("signature"),
    ):  # fmt: skip
        other = json.loads(json.dumps(signed))
        change(other)
        assert decision_gap(other, known)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = letters[letters.index(signed["signature"][-3]) + 1]  # the same bytes, written otherwise
    assert decision_gap({**signed, "signature": f"{signed['signature'][:-3]}{spare}=="}, known)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_letter_of_the_file_passes(drawn_file, data):
    file, ledger, signers, text = drawn_file
    at = data.draw(st.integers(0, len(text) - 2))
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    changed = text[:at] + letter + text[at + 1 :]
    file.write_text(changed)
    try:
        same = json.loads(changed) == json.loads(text)  # another space between two values says the same
    except ValueError:
        same = False
    if same:
        verify_passport(file, ledger, signers)
    else:
        with pytest.raises(ReportError):
            verify_passport(file, ledger, signers)


@pytest.fixture(scope="module")
def drawn_file(tmp_path_factory, ann):
    folder = tmp_path_factory.mktemp("file")
    ledger = Ledger(folder / "ledger.sqlite")
    papers.open_out_of_sample("study", "t4", ledger)
    signed = sign_passport(draw_passport("m", 3, "staging", TAGS, HELD, ledger), ann.signer)
    file = write_passport(signed, folder)
    return file, ledger, ann.signers, file.read_text()


def test_who_may_not_sign(drawn, ann, tmp_path):
    signed, known = sign_passport(drawn, ann.signer), read_signers(ann.signers)
    assert decision_gap(drawn, known).startswith("nobody has signed")
    assert "ann is not among those who may sign (nobody is)" in decision_gap(signed, {})
    assert "ann is not among those who may sign (bob, eve)" in decision_gap(signed, {"eve": set(), "bob": set()})
    assert "is not one of ann's" in decision_gap(signed, {"ann": {"ssh-ed25519 AAAA"}})
    with pytest.raises(ReportError, match="needs a reason"):
        sign_passport(drawn, ann.signer._replace(reason=" \n"))
    with pytest.raises(ReportError, match="cannot be used"):
        sign_passport(drawn, ann.signer._replace(key_file=tmp_path / "none"))
    rsa = tmp_path / "rsa"
    rsa.write_bytes(
        generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    with pytest.raises(ReportError, match="is no ed25519 key; make one with ssh-keygen"):
        sign_passport(drawn, ann.signer._replace(key_file=rsa))


def test_a_key_with_a_passphrase(drawn, ann, tmp_path):
    secret = load_ssh_private_key(ann.signer.key_file.read_bytes(), None)
    locked = tmp_path / "locked"
    locked.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"open")))
    signer = ann.signer._replace(key_file=locked)
    for phrase in ("", "shut"):
        with pytest.raises(ReportError, match="cannot be used"):
            sign_passport(drawn, signer._replace(passphrase=phrase))
    assert decision_gap(sign_passport(drawn, signer._replace(passphrase="open")), read_signers(ann.signers)) == ""


@pytest.mark.parametrize(
    ("text", "answer"),
    [("ann\n", "line 1"), ("# nobody\n\nann AAAA ssh-ed25519\n", "line 3"), ("ann ssh-ed25519", "line 1")],
)
def test_a_file_of_signers_that_is_none(tmp_path, text, answer):
    file = tmp_path / "signers"
    file.write_text(text)
    with pytest.raises(ReportError, match=answer):
        read_signers(file)
    file.write_text("# a comment\n\nann ssh-ed25519 AAAA her laptop\nann ssh-ed25519 BBBB # at home\n")
    assert read_signers(file) == {"ann": {"ssh-ed25519 AAAA", "ssh-ed25519 BBBB"}}
    assert read_signers(tmp_path / "none") == {}


def test_ssh_keygen_prints_the_same_fingerprint(drawn, ann, tmp_path):
    "An independent program reads the key and names it alike."
    signed = sign_passport(drawn, ann.signer)
    file = tmp_path / "key.pub"
    file.write_text(signed["decision"]["public_key"] + "\n")
    try:
        said = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed (apt-get install openssh-client)")
    assert said.split()[1] == signed["decision"]["fingerprint"]


def test_the_page_says_what_lacks_first_and_escapes(drawn, ann, ledger):
    page = passport_page(drawn)
    assert "1 of 2 papers are missing: tests." in page and "Nobody has signed" in page and "<b>well" not in page
    signed = passport_page(sign_passport({**drawn, "papers": drawn["papers"][:1]}, ann.signer))
    assert "All 1 papers have held; ann has signed." in signed and "small, old and paid for" in signed
    papers.open_out_of_sample("study", "t9", ledger)
    twice = passport_page(draw_passport("m", 3, "staging", TAGS, HELD, ledger))
    assert "Opened again" in twice and "t9" in twice and "Opened again" not in page


def test_a_second_opening_is_seen_when_a_passport_is_proved(drawn, ledger, ann, tmp_path):
    file = write_passport(sign_passport(drawn, ann.signer), tmp_path)
    papers.open_out_of_sample("other", "t9", ledger)
    verify_passport(file, ledger, ann.signers)
    papers.open_out_of_sample("study", "t9", ledger)
    with pytest.raises(ReportError, match="the sealed period was opened again, .* for t9"):
        verify_passport(file, ledger, ann.signers)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"facts": 3}', "\x00"])
def test_what_is_no_passport(tmp_path, ledger, ann, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ReportError, match="is no passport"):
        verify_passport(file, ledger, ann.signers)
    with pytest.raises(ReportError, match="is no passport"):
        verify_passport(tmp_path / "none.json", ledger, ann.signers)


def test_a_draft_never_overwrites_what_was_signed(drawn, ann, tmp_path):
    signed = write_passport(sign_passport(drawn, ann.signer), tmp_path)
    before = signed.read_bytes()
    draft = write_passport(drawn, tmp_path)
    assert draft != signed and signed.read_bytes() == before and not list(tmp_path.glob("*.part"))


def test_the_command_in_a_process_of_its_own(tmp_path, monkeypatch):
    command = Path(sys.executable).with_name("quantlab")
    for name in ("LEDGER", "TRACKING", "RUNS", "SIGNERS"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / f"{name.lower()}.sqlite"))
    for line in (["passport", "m"], ["passport", str(tmp_path / "x.json")]):
        done = subprocess.run([command, *line], capture_output=True, text=True)
        assert done.returncode in (1, 2) and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
