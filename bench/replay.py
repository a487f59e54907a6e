"""The replay of an order book: a recorded day row by row, and its speed on more than a million messages.

The day is AMZN 2012-06-21, level 1, from ../shared (or QUANTLAB_SHARED); without it the simulated sample stands in.
The peer is the same rule written plainly in Python, a row at a time over lists; `max_rel_diff` compares which rows are
determined and equal. For the speed the day is repeated until there are a million messages; the first row of each
repetition follows from nothing and is left to be undetermined or different on both sides alike. Text is not timed.
"""

import json
import os
import sys
from pathlib import Path

import harness
import numpy as np
import pandas as pd

from quantlab.data.sample import sample_book
from quantlab.micro.book import book_columns, parse_book, parse_messages, rebuild_book, replay_book, replay_summary

HERE = Path(__file__).resolve().parent
DAY = Path(os.environ.get("QUANTLAB_SHARED", HERE.parent.parent / "shared")) / "data" / "lob"
RESULTS = HERE / "results" / "replay.json"
MILLION = 1_000_000


def recorded() -> tuple[str, pd.DataFrame, pd.DataFrame]:
    "Return name, messages and book of the recorded day, or of the sample."
    found = sorted(DAY.glob("AMZN_2012-06-21_*_message_1.csv"))
    if not found:
        messages, book = sample_book("SIMA")
        return "SIMA, simulated", messages, book[book_columns(1)]
    text = found[0].with_name(found[0].name.replace("message", "orderbook")).read_text()
    return "AMZN 2012-06-21", parse_messages(found[0].read_text()), parse_book(text)


def plain(messages: pd.DataFrame, book: pd.DataFrame) -> np.ndarray:
    "Replay level 1 a row at a time: 1 determined and equal, 0 determined and different, -1 not determined."
    rows = list(zip(*(messages[c].tolist() for c in ("type", "size", "price", "direction")), strict=True))
    states, out = book.to_numpy().tolist(), [-1]
    for (kind, size, price, direction), before, after in zip(rows[1:], states, states[1:], strict=False):
        state, at = list(before), 2 if direction == 1 else 0
        behind = (state[at] - price) * direction > 0 and state[at + 1] > 0
        if kind == 1 and not behind:
            state[at : at + 2] = [price, size + (state[at + 1] if state[at] == price else 0)]
        elif kind in (2, 3, 4) and not behind:
            state[at + 1] -= size
            if state[at] != price or state[at + 1] <= 0:
                out.append(-1)
                continue
        out.append(int(state == after))
    return np.array(out)


def coded(replayed: pd.DataFrame) -> np.ndarray:
    "Write our result as the peer does."
    return np.where(replayed["determined"], replayed["equal"].astype(int), -1)


def main(rounds: int = 5) -> dict:
    "Replay the day, count it, and time a million messages on both sides."
    name, messages, book = recorded()
    one = replay_book(messages, book)
    different = np.flatnonzero(one["determined"] & ~one["equal"])
    rest = replay_summary(one)
    times = -(-MILLION // len(messages))
    many, books = (pd.concat([f] * times, ignore_index=True) for f in (messages, book))
    many["time"] = np.arange(len(many), dtype=float)
    result = harness.compare(
        "replay", "the rule in plain Python", lambda: replay_book(many, books), lambda: plain(many, books),
        (coded, lambda found: found), n=len(many), rounds=rounds, memory=False,
    )  # fmt: skip
    flow = sample_book("SIMA")[0]
    alone = harness.timed(lambda: rebuild_book(flow, 3))
    result |= {
        "messages_per_s": round(len(many) / result["ours_s"]),
        "rebuild_messages_per_s": round(len(flow) / alone),
        "day": name,
        "counts": {key: float(value) if "share" in key else int(value) for key, value in rest.items()},
        "different_rows": different.tolist(),
        "same_day_diff": harness.max_rel_diff(coded(one), plain(messages, book)),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5), indent=1))
