"The page about one day of an order book: its numbers are those of the room, and what it cannot judge it refuses."

import json
import re

import numpy as np
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.labels.orders import fill_labels, order_outcomes
from quantlab.micro.book import rebuild_book
from quantlab.micro.market_maker import fills_profit, touch_quotes
from quantlab.micro.simulate import FlowSpec, simulate_book
from quantlab.report.run import run_report

SMALL = {"minutes": 30.0}


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


def lines(frame) -> str:
    "Write a frame as LOBSTER does."
    return "\n".join(",".join(map(repr, row)) for row in zip(*(frame[c].tolist() for c in frame), strict=True))


@pytest.mark.parametrize(("wrong", "says"), [
    ({"messages": "README.md"}, "give both, or neither"),
    ({"book": "README.md"}, "give both, or neither"),
    ({"messages": "no/such.csv", "book": "README.md"}, "no/such.csv does not exist"),
    ({"messages": "README.md", "book": "README.md"}, "message file"),
    ({"day": "2012-06-31"}, "2012-06-31"),
    ({"timezone": "Mars"}, "Mars"),
    ({"learn": 0.95}, "learn"),
    ({"size": 150}, "lots of 100"),
    ({"bar_seconds": 77}, "does not divide a day"),
    ({"minutes": 5.0}, "minutes"),
    ({"horizon": 0.0}, "horizon"),
    ({"step": 0.0}, "step"),
    ({"tick": 0.0}, "tick"),
    ({"limit": 0}, "limit"),
])  # fmt: skip
def test_what_the_page_cannot_judge_is_refused_before_a_kernel_starts(wrong, says, tmp_path):
    with pytest.raises((ConfigError, DataError), match=re.escape(says)):
        run_report("micro", SMALL | wrong, track=False)
    assert not list((tmp_path / "runs").glob("*/report.html"))


def test_a_recording_of_a_few_trades_is_refused(tmp_path):
    path = simulate_book(FlowSpec(end=34_500.0), 1)
    for name, frame in (("messages", path.messages), ("book", path.book)):
        (tmp_path / name).write_text(lines(frame))
    with pytest.raises(ConfigError, match="200 in each part"):
        run_report("micro", {n: str(tmp_path / n) for n in ("messages", "book")}, track=False)


@pytest.mark.slow
def test_the_page_of_two_files_prints_the_numbers_of_the_room_and_what_contradicts(tmp_path):
    path = simulate_book(FlowSpec(end=37_800.0), 3)
    broken = rebuild_book(path.messages, 2)
    row = int(np.argmax((path.messages["time"] > 34_600) & (path.messages["type"] == 1)))
    broken.loc[row, "bid_size_2"] += 100
    for name, frame in (("messages", path.messages), ("book", broken)):
        (tmp_path / name).write_text(lines(frame))
    run = run_report("micro", {n: str(tmp_path / n) for n in ("messages", "book")}, track=False)
    text, numbers = run.html.read_text(), json.loads((run.html.parent / "metrics.json").read_text())
    assert "Traceback" not in text and "contradict it" in text and numbers["contradict"] in (1, 2)
    assert abs(numbers["branching"] - 0.55) < 0.08 and numbers["fit.p"] > 0.01 and "not refuted" in text
    assert numbers["gain.poisson"] > 2 * numbers["gain.poisson_se"] > 0
    assert numbers["gain.durations"] > 2 * numbers["gain.durations_se"] > 0
    assert numbers["brier.gain"] > 2 * numbers["brier.gain_se"] > 0
    found = fill_labels(order_outcomes(path.messages))
    start, end = path.messages["time"].iloc[[0, -1]]
    split = start + 0.5 * (end - start)
    assert numbers["filled"] == pytest.approx(found["y"][found["t1"] <= split].mean(), abs=2e-3)
    late = path.messages["time"] > split
    second = [frame[late].reset_index(drop=True) for frame in (path.messages, broken)]
    for model in ("back", "proportional", "optimistic"):
        assert numbers[f"touch.{model}"] == pytest.approx(fills_profit(touch_quotes(*second, model=model), second[1]))
    for name in ("maker", "touch", "bars"):
        signs = {np.sign(numbers[f"{name}.{m}"]) for m in ("back", "proportional", "optimistic")}
        assert numbers[f"{name}.robust"] == (len(signs) == 1 and 0 not in signs)
    assert numbers["queue.back"] >= numbers["queue.proportional"] >= numbers["queue.optimistic"]
    robust = sum(numbers[f"{name}.robust"] for name in ("maker", "touch", "bars"))
    assert text.count("<strong>Not robust</strong>") == 3 - robust


@pytest.mark.slow
def test_the_page_on_the_simulated_book():
    run = run_report("micro", SMALL, track=False)
    text = run.html.read_text()
    assert "A simulated book" in text and "none contradicts it" in text and run.metrics["contradict"] == 0
