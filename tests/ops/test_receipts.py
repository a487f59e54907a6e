"""Receipts: each answer comes out again to the last digit; what was changed since is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from quantlab.core.errors import ConfigError
from quantlab.data.bars import data_hash
from quantlab.ops import answers as answers_module
from quantlab.ops.answers import reproduce_receipt
from quantlab.ops.receipts import Receipt, ReceiptError, canonical_json, json_hash, read_receipt
from quantlab.recipe import market

TAKEN = pytest.StashKey[dict]()
ENDPOINTS = ("/risk", "/predict", "/decide")


def questions(count, done, seed=5):
    "Questions of every kind, with other books, dates and names in each."
    dice, days = np.random.default_rng(seed), done.predictions.index.unique("date")
    names = sorted(done.predictions.index.unique("symbol"))
    late = [f"{day:%Y-%m-%d}" for day in days[[-21, -2]]]  # few, for a close that is over is read anew
    asked = []
    for n in range(count):
        some = [str(name) for name in dice.permutation(names)[: int(dice.integers(1, len(names)))]]
        book = {name: round(float(dice.normal(0, 500)), 3) for name in some}
        held = [{"symbol": name, "quantity": quantity} for name, quantity in book.items()]
        bodies = {
            "/risk": [
                {"portfolio": some}, {"portfolio": held, "confidence": float(dice.uniform(0.9, 0.995))},
                {"portfolio": held, "cash": float(dice.normal(0, 1e6))},
            ],
            "/predict": [
                {"sessions": n + 1}, {"sessions": int(dice.integers(1, 300)), "symbols": some},
                {"as_of": f"{days[int(dice.integers(0, len(days)))]:%Y-%m-%d}", "sessions": 20},
            ],
            "/decide": [
                {"book": {}, "cash": 1e5 + n}, {"book": {name: abs(held) for name, held in book.items()}, "cash": 1e6},
                {"as_of": late[n % len(late)], "book": {some[0]: 10.0}, "cash": float(dice.uniform(1e5, 1e6))},
            ],
        }  # fmt: skip
        endpoint = ENDPOINTS[n % 3]
        asked.append((endpoint, bodies[endpoint][(n // 3) % 3]))
    return asked


def given_to(served, count):
    "Ask a server; return the answers as they came."
    told = []
    for place, body in questions(count, served.done):
        got = served.line.post(place, json=body)
        assert got.status_code == 200, (place, body, got.text)
        told.append(got.text)
    return told


@pytest.fixture(autouse=True)
def scored_once(request, monkeypatch):
    "Registry and bars are read each time; what is scored from one close is scored once, but where it takes its time."
    take, taken = answers_module.take_snapshot, request.config.stash.setdefault(TAKEN, {})

    def once(version, stage, fitted, bars, until=None):
        key = (version.version, stage, fitted.key, bars.hash, until)
        if key not in taken:
            taken[key] = take(version, stage, fitted, bars, until)
        return replace(taken[key], sources=answers_module.sources_hash())

    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr(answers_module, "take_snapshot", once)


def all_come_out_again(served, told):
    receipts = [read_receipt(text) for text in told]
    assert {one.endpoint for one in receipts} == set(ENDPOINTS) and len({one.id for one in receipts}) == len(told)
    for text, receipt in zip(told, receipts, strict=True):
        found = reproduce_receipt(receipt, served.store, served.ledger)
        answer = {name: value for name, value in json.loads(text).items() if name != "receipt"}
        assert found == (True, answer, ()), (receipt.endpoint, receipt.request, found.differs)
        assert json_hash(answer) == receipt.answer, "the receipt is that of what was sent"


def test_ten_answers_come_out_again(served):
    all_come_out_again(served, given_to(served, 10))


@pytest.mark.slow
def test_a_hundred_answers_come_out_again(served):
    all_come_out_again(served, given_to(served, 100))


@pytest.fixture
def one(served):
    "A risk answer's receipt."
    body = {
        "portfolio": [{"symbol": "AAPL", "quantity": 100.0}, {"symbol": "KO", "quantity": -50.0}],
        "confidence": 0.99,
    }
    return read_receipt(served.line.post("/risk", json=body).text)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"answer": f"{int(r.answer[0], 16) ^ 1:x}{r.answer[1:]}"},
        lambda r: {"capital": 1e6 + 1e-9},
        lambda r: {"request": {**r.request, "confidence": 0.9900000000000001}},
        lambda r: {"request": {**r.request, "portfolio": [r.request["portfolio"][0]]}},
        lambda r: {"version": 2},
        lambda r: {"as_of": "2014-12-30"},
        lambda r: {"made": r.made.replace("22:00", "22:01")},
        lambda r: {"ledger": "0" * 64},
    ],
    ids=["answer", "capital", "confidence", "portfolio", "version", "as_of", "made", "ledger"],
)
def test_a_changed_digit_is_seen(one, change):
    told = one.to_dict() | change(one)
    assert told != one.to_dict()
    with pytest.raises(ReceiptError, match="was changed after it was given"):
        read_receipt(json.dumps(told))


def test_a_number_that_was_edited_beside_its_receipt_is_seen(served):
    sent = served.line.post("/risk", json={"portfolio": ["AAPL", "KO"]}).json()
    assert read_receipt(json.dumps(sent)) == read_receipt(sent["receipt"])
    for edited in ({"var": sent["var"] + 1e-9}, {"more": 1}, {"as_of": "2014-12-30"}):
        with pytest.raises(ReceiptError, match="beside the receipt are not those"):
            read_receipt(json.dumps(sent | edited))


def test_shares_of_a_book_are_those_that_trade(served):
    day = "2014-12-26"
    raw = market.market_bars(served.done.recipe, day).raw
    close = raw["close"].xs(day, level="date")
    assert close["KO"] > 1.05 * close["KO"] * raw["adj"].xs(day, level="date")["KO"], "dividends came since"
    told = served.line.post("/decide", json={"as_of": day, "book": {"KO": 1000.0}, "cash": 5e5}).json()
    assert told["equity"] == pytest.approx(5e5 + 1000 * close["KO"], rel=1e-12)
    for order in told["orders"]:
        assert order["price"] == close[order["symbol"]]
        assert order["value"] == pytest.approx(order["quantity"] * order["price"], rel=1e-12)


@pytest.mark.parametrize(
    ("place", "body", "said"),
    [
        ("/decide", {"cash": 5.0}, "cash needs the book"),
        ("/predict", {"as_of": "2030-01-03"}, "the last close that is known is"),
        ("/predict", {"features": {"columns": ["a", "a"], "rows": [["2014-12-31", "KO", 1.0, 2.0]]}}, "a stands twice"),
        (
            "/predict",
            {"features": {"columns": ["a"], "rows": [["2014-12-31", "KO", 1.0]]}, "symbols": ["AAPL"]},
            "leave out as_of, sessions and symbols",
        ),
        ("/risk", {"portfolio": [], "confidence": 0.9}, "portfolio: has 0 entries, and 1 is the least"),
        ("/risk", {"portfolio": ["KO"], "confidence": 0.9999}, "is above 0.998"),
        ("/risk", {"portfolio": ["KO", {"symbol": "XOM", "quantity": 1}]}, "expected symbols alone, or objects"),
        ("/risk", {}, "portfolio: is missing"),
    ],
)
def test_a_question_that_means_two_things_or_none_is_refused(served, place, body, said):
    got = served.line.post(place, json=body)
    assert got.status_code == 422 and said in got.json()["error"], got.text


def test_scores_say_of_which_close_they_are(served):
    days = served.done.predictions.index.unique("date")
    told = served.line.post("/predict", json={"as_of": f"{days[-9]:%Y-%m-%d}", "symbols": ["KO"]}).json()
    assert told["as_of"] == told["dates"][-1] == f"{days[-9]:%Y-%m-%d}" < told["receipt"]["as_of"]


def test_a_digit_that_was_changed_with_its_name_does_not_come_out(served, one):
    request = {**one.request, "confidence": 0.9900000000000001}
    for forged in (replace(one, request=request), replace(one, answer="0" * 64)):
        found = reproduce_receipt(read_receipt(forged.to_dict()), served.store, served.ledger)
        assert not found.reproduced and found.differs == () and found.answer["var"]


def with_other_bars(change):
    "Return market_bars as it would be if the bars on disk were others."
    real, load = market.market_bars, market.load_market

    def changed(*given):
        whole = load(*given)
        raw = change(whole.raw.copy())
        return whole._replace(raw=raw, hash=data_hash(raw))

    def read(recipe, as_of):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(market, "load_market", changed)
            return real(recipe, as_of)

    return read


def test_bars_that_were_corrected_since_are_named(served, one, monkeypatch):
    def dearer(raw):
        last = raw.index[-1][0]
        raw.loc[(last, "AAPL"), ["close", "high"]] *= 1.001
        return raw

    monkeypatch.setattr(answers_module, "market_bars", with_other_bars(dearer))
    found = reproduce_receipt(one, served.store, served.ledger)
    assert not found.reproduced and found.answer["var"] > 0
    assert [line.partition(":")[0] for line in found.differs] == ["the bars up to 2014-12-31"]


def test_a_name_that_is_gone_since_is_no_answer_and_named(served, one, monkeypatch):
    gone = lambda raw: raw[raw.index.get_level_values("symbol") != "KO"]
    monkeypatch.setattr(answers_module, "market_bars", with_other_bars(gone))
    found = reproduce_receipt(one, served.store, served.ledger)
    assert (found.reproduced, found.answer) == (False, None)
    assert found.differs[0].startswith("the bars up to") and "KO" in found.differs[-1]


def test_code_that_was_changed_since_is_named(served, one, monkeypatch):
    monkeypatch.setattr(answers_module, "sources_hash", lambda: "f" * 64)
    found = reproduce_receipt(one, served.store, served.ledger)
    assert found.reproduced and found.differs == (
        f"the code: it was quantlab {one.package} with sources {one.code[:12]}",
    )
    other = reproduce_receipt(replace(one, code="e" * 64), served.store, served.ledger)
    assert "sources eeeeeeeeeeee" in other.differs[0]


def test_a_ledger_that_does_not_know_the_head_is_named(served, one):
    found = reproduce_receipt(replace(one, ledger="a" * 64), served.store, served.ledger)
    assert found.reproduced and len(found.differs) == 1 and found.differs[0].startswith("the ledger: ")


def test_a_version_that_is_not_there_and_a_question_that_nobody_knows(served, one):
    found = reproduce_receipt(replace(one, version=999), served.store, served.ledger)
    assert (found.reproduced, found.answer) == (False, None) and "it cannot be computed" in found.differs[0]
    found = reproduce_receipt(replace(one, request={"portfolio": 5}), served.store, served.ledger)
    assert found.answer is None and "it cannot be computed" in found.differs[0]
    for endpoint in ("/orders", ["/risk"], None):
        with pytest.raises(ConfigError, match="this code answers"):
            reproduce_receipt(replace(one, endpoint=endpoint), served.store, served.ledger)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "5", "[]", "{}", "{", "\xff", b"\xff\xfe", "[" * 100_000, '{"receipt": 5}', '{"receipt": []}',
        '{"id": "x"}', '{"id": 1, "answer": 2}', '{"receipt": {"id": "x", "endpoint": "/risk", "os": "system"}}',
    ],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
def test_what_is_no_receipt_is_one_sentence(text):
    with pytest.raises(ReceiptError, match="this is no receipt") as refused:
        read_receipt(text)
    assert len(str(refused.value)) < 500


def test_a_value_has_one_text():
    assert canonical_json({"b": 0.1 + 0.2, "a": [None, "\u00fc", 5e-324, -0.0, 2**60 + 1]}) == (
        '{"a":[null,"\u00fc",5e-324,-0.0,1152921504606846977],"b":0.30000000000000004}'
    )
    assert json_hash({"a": 1, "b": 2}) == json_hash({"b": 2, "a": 1}) != json_hash({"a": 1, "b": 2.0})
    assert len(json_hash({"a": "\ud800"})) == 64
    for wrong in (float("nan"), float("inf"), {1, 2}, b"x", object()):
        with pytest.raises(ReceiptError):
            canonical_json({"a": wrong})


def test_a_receipt_is_named_by_all_of_its_lines():
    base = Receipt("/risk", {}, "m", 1, "s", "k", "d", "a", "c", "p", "l", 1.0, "t", "h")
    changed = {
        name: 2 if isinstance(value, int) else {"x": 1} if name == "request" else f"{value}x"
        for name, value in vars(base).items()
    }
    names = {replace(base, **{name: value}).id for name, value in changed.items()}
    assert len(names) == len(vars(base)) and base.id not in names
