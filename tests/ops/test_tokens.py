"""Tokens: only a known one that has not ended and has the scope passes, at each address of the server."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from quantlab.core.errors import ConfigError
from quantlab.ops.tokens import SCOPES, NotAllowed, TokenFile, check_token

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    return TokenFile(tmp_path / "deep" / "tokens.json")


def status(file, header, scope="read", now=None):
    "Return 200, or the status of a refusal."
    try:
        check_token(file.rows(), header, scope, now)
    except NotAllowed as refused:
        assert len(refused.why) < 200 and (len(header or "") < 8 or header not in refused.why)
        return refused.status
    return 200


def test_a_token_passes_with_its_scopes_until_it_ends(file):
    token = file.issue("ann", ["read", "run"], days=2, now=NOW)
    for scope in SCOPES:
        assert status(file, f"Bearer {token}", scope, NOW) == (200 if scope in ("read", "run") else 403)
    assert status(file, f"bearer  {token} ", "run", NOW) == 200
    for days, wanted in ((1.999, 200), (2, 401), (20, 401)):
        assert status(file, f"Bearer {token}", "read", NOW + timedelta(days=days)) == wanted
        assert status(file, f"Bearer {token}", "trade", NOW + timedelta(days=days)) == (403 if wanted == 200 else 401)


def malformed(token):
    "Return headers that carry no token that is known."
    name, secret = token[3:11], token[12:]
    other = "B" if token[-1] == "A" else "A"
    return {
        "missing": None, "empty": "", "no kind": token, "another kind": f"Basic {token}", "kind only": "Bearer ",
        "one letter": f"Bearer {token[:-1]}{other}", "short": f"Bearer {token[:-1]}", "long": f"Bearer {token}x",
        "upper": f"Bearer {token.upper()}", "two": f"Bearer {token} {token}", "comma": f"Bearer {token}, {token}",
        "unknown name": f"Bearer ql_{'0' * 8 if name != '0' * 8 else '1' * 8}_{secret}", "quoted": f'Bearer "{token}"',
        "another secret": f"Bearer ql_{name}_{'x' * 43}", "name only": f"Bearer {name}",
        "letters": "Bearer \u00fc\u00ff",
        "huge": "Bearer " + "A" * 20_000, "sql": "Bearer ' OR 1=1 --", "star": "Bearer *", "null": "Bearer null",
    }  # fmt: skip


def test_what_is_no_token_is_refused(file):
    token = file.issue("ann", SCOPES)
    for what, header in malformed(token).items():
        assert status(file, header) == 401, what
    assert status(TokenFile(file.place.with_name("none.json")), f"Bearer {token}") == 401
    row = file.rows()[0]
    assert status(file, f"Bearer {row.digest}") == 401, "what is kept is no token"


def test_a_token_is_not_kept_and_nobody_else_reads_the_file(file):
    tokens = [file.issue("ann", ["read"]) for _ in range(3)]
    text = file.place.read_text()
    assert not any(token[12:] in text for token in tokens) and len({*tokens}) == 3
    assert stat.S_IMODE(file.place.stat().st_mode) == 0o600
    assert [path.name for path in file.place.parent.iterdir() if path.name.endswith(".new")] == []


def test_one_that_was_revoked_is_refused_and_the_others_are_not(file):
    first, second = file.issue("ann"), file.issue("bob")
    assert file.revoke(first[3:11]).owner == "ann"
    assert status(file, f"Bearer {first}") == 401 and status(file, f"Bearer {second}") == 200
    with pytest.raises(ConfigError, match="no token"):
        file.revoke(first[3:11])


def test_tokens_that_are_made_at_once_are_all_kept(file):
    with ThreadPoolExecutor(8) as pool:
        tokens = [*pool.map(lambda n: TokenFile(file.place).issue(f"w{n}"), range(24))]
    assert {row.name for row in file.rows()} == {token[3:11] for token in tokens}


@pytest.mark.parametrize(
    "wrong",
    [
        dict(owner=""), dict(owner="a b"), dict(owner="x" * 61), dict(owner="a\n"), dict(owner="../a"), dict(scopes=[]),
        dict(scopes=["admin"]), dict(scopes=["read", "READ"]), dict(scopes="read"), dict(days=0), dict(days=-1),
        dict(days=float("nan")), dict(days=float("inf")), dict(days=4000),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_token_to_make_is_refused(file, wrong):
    with pytest.raises(ConfigError):
        file.issue(**({"owner": "ann"} | wrong))
    assert file.rows() == []


ROW = {
    "name": "3f2a9c1e", "owner": "ann", "scopes": ["read"], "expires": "2999-01-01T00:00:00+00:00",
    "created": "2026-01-01T00:00:00+00:00", "digest": "0" * 64,
}  # fmt: skip
DAMAGED = {
    "empty": b"", "half": json.dumps([ROW]).encode()[:-9], "bytes": b"\xff\xfe\x00", "number": b"5", "null": b"null",
    "object": b"{}", "text": b'"x"', "rows of text": b'["a"]', "nested": b"[" * 100_000,
    "no scopes": b'[{"name": "x"}]',
    "more": json.dumps([ROW | {"more": 1}]).encode(), "less": json.dumps([{"scopes": []}]).encode(),
} | {
    f"{name} {value!r:.12}": json.dumps([ROW | {name: value}]).encode()
    for name, values in {
        "expires": ["tomorrow", "2999-01-01", "2999-01-01T00:00:00", 5, None],
        "scopes": [5, None, "read", [5], ["admin"]],
        "digest": [5, None, "\u00fc" * 64, "0"], "name": [5, None, "../x"], "owner": [5, None, ""],
    }.items()
    for value in values
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence(file, damage):
    file.issue("ann")
    file.place.write_bytes(damage)
    with pytest.raises(ConfigError, match="holds no tokens") as refused:
        file.rows()
    assert len(str(refused.value)) < 400
    with pytest.raises(ConfigError):
        file.issue("bob")
    assert file.place.read_bytes() == damage, "nothing is lost by making one"


def test_a_folder_in_place_of_the_file_is_one_sentence(file):
    file.place.mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no tokens"):
        file.rows()


def needs():
    from quantlab.ops.server import _NEEDS

    return [(method, place.replace("{id}", "a1"), scope) for (method, place), scope in _NEEDS.items()]


def error_of(answer):
    "Return the sentence of a refusal, which is all that it says."
    told = answer.json()
    assert list(told) == ["error"] and "\n" not in told["error"] and "Traceback" not in told["error"]
    return told["error"]


def test_every_address_refuses_who_may_not(served, monkeypatch):
    expired = served.tokens.issue("past", SCOPES, days=1, now=datetime.now(UTC) - timedelta(days=2))
    gone = served.tokens.issue("gone", SCOPES)
    assert served.line.get("/jobs", headers={"Authorization": f"Bearer {gone}"}).status_code == 200
    served.tokens.revoke(gone[3:11])
    bad = {
        what: text
        for what, text in malformed(served.token["all"]).items()
        if what not in ("missing", "letters", "kind only")
    }
    bad |= {"expired": f"Bearer {expired}", "revoked": f"Bearer {gone}"}
    import httpx

    with httpx.Client(base_url=served.address) as stranger:
        for method, place, scope in needs():
            for what, header in {**bad, "missing": None, "letters": b"Bearer \xfc\xff"}.items():
                got = stranger.request(
                    method, place, headers={} if header is None else {"Authorization": header}, content="{}"
                )
                assert got.status_code == 401 and got.headers["www-authenticate"] == "Bearer", (place, what)
                assert error_of(got)
            for other in SCOPES:
                got = stranger.request(
                    method, place, headers={"Authorization": f"Bearer {served.token[other]}"}, content="{}"
                )
                if other == scope:
                    assert got.status_code not in (401, 403, 500), (place, other)
                else:
                    assert got.status_code == 403 and f"needs the scope {scope}" in error_of(got), (place, other)
    assert len(needs()) == 13


def test_three_addresses_are_open_and_say_no_number_of_the_book(served):
    import httpx

    with httpx.Client(base_url=served.address) as stranger:
        told = {place: stranger.get(place) for place in ("/health", "/ready", "/openapi.json")}
        assert {answer.status_code for answer in told.values()} == {200}
        assert set(told["/ready"].json()) == {"ready", "as_of", "why"} and told["/health"].json() == {"status": "alive"}
        for place in ("/docs", "/redoc", "/", "/metrics/", "/jobs/", "//risk", "/static/x", "/admin"):
            assert stranger.get(place).status_code in (401, 404), place


def test_every_route_of_the_application_is_behind_the_door(served):
    from quantlab.ops.server import _NEEDS, _OPEN

    there = {(method.upper(), place) for place, told in served.app.openapi()["paths"].items() for method in told}
    assert there | {("GET", "/openapi.json")} == {*_NEEDS, *_OPEN}


@pytest.mark.parametrize("damage", ["half", "expires tomorrow", "digest 5", "nested", "bytes"])
def test_a_damaged_file_stops_questions_with_one_sentence_and_heals(served, damage):
    kept = served.tokens.place.read_bytes()
    before = served.log.stat().st_size
    name = next(key for key in DAMAGED if key.replace("'", "") == damage)
    try:
        served.tokens.place.write_bytes(DAMAGED[name])
        got = served.line.get("/jobs")
        assert got.status_code == 503 and "tokens" in error_of(got)
        assert served.line.get("/health").status_code == 200
        assert "Traceback" not in served.log.read_text()[before:]
    finally:
        served.tokens.place.write_bytes(kept)
        os.utime(served.tokens.place)
    assert served.line.get("/jobs").status_code == 200
