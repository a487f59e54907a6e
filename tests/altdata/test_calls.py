"""altdata.calls: turns, parts and roles of made-up transcripts, their tone, and the change that was known."""

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.calls import (
    CALL_COLUMNS,
    Transcript,
    call_events,
    call_tone,
    read_transcript,
    read_transcripts,
    split_call,
)
from quantlab.altdata.events import session_closes
from quantlab.altdata.sentiment import Lexicon
from quantlab.core.errors import ConfigError, DataError, QuantlabError

CLOSES = session_closes(pd.DatetimeIndex(["2024-05-02", "2024-05-03", "2024-05-06"]))


def call(symbol, day, text, known=None):
    at = pd.Timestamp(day, tz="UTC").as_unit("us")
    return Transcript(
        symbol, at, pd.Timestamp(known or day, tz="UTC").as_unit("us"), f"{symbol}{day}", split_call(text)
    )


GOOD, BAD = "Jane Roe -- CEO\nA great and strong quarter.\n", "Jane Roe -- CEO\nA terrible and weak quarter.\n"


@pytest.mark.parametrize(
    "text",
    [
        "Presentation\n\nOperator\nWelcome.\nJo Roe – Chief Executive Officer\nHello: all.\nQ&A\n"
        "Al Poe – Bank – Analyst\nWhy?",
        "Operator: Welcome.\nJo Roe (CEO): Hello: all.\nOperator: The first question comes from Al.\nAl Poe: Why?",
        "PREPARED REMARKS\r\nOperator\r\nWelcome.\r\nJo Roe -- CEO\r\nHello: all.\r\nQuestion-and-Answer Session\r\n"
        "Al Poe -- Analyst\r\nWhy?",
    ],
)
def test_transcripts_of_several_looks_split_alike(text):
    turns = split_call(text)
    spoken = turns[turns["speaker"] != "Operator"]
    assert spoken["speaker"].tolist() == ["Jo Roe", "Al Poe"] and spoken["role"].tolist() == ["executive", "analyst"]
    assert spoken["section"].tolist() == ["prepared", "questions"] and spoken["text"].tolist() == [
        "Hello: all.",
        "Why?",
    ]


def test_no_word_is_lost_and_order_is_kept():
    words = [f"w{n}" for n in range(300)]
    lines = [f"Jo Roe{n % 3} -- CEO\n{' '.join(words[n : n + 10])}" for n in range(0, 300, 10)]
    assert " ".join(split_call("\n".join(lines))["text"]).split() == words


def test_a_sentence_with_a_colon_or_a_dash_is_no_speaker():
    turns = split_call(
        "Jo Roe -- CEO\nthe numbers: up.\nWe have two plants - one in Ohio.\nThis is it: the end of a long line."
    )
    assert len(turns) == 1


@pytest.mark.parametrize("text", ["", "\n\n", "once upon a time", "Prepared Remarks\n"])
def test_a_text_in_which_nobody_speaks_is_refused(text):
    with pytest.raises(DataError, match="nobody speaks"):
        split_call(text)


def test_tone_is_that_of_the_part():
    turns = split_call(GOOD + "Questions and Answers\nAl Poe -- Analyst\nIs it a disaster?\n" + BAD)
    read = call_tone(turns)
    assert read["tone_prepared"] > 0.5 and read["tone_answers"] < -0.5 and read["tone_questions"] < -0.3
    assert read["tone_answers"] < read["tone"] < read["tone_prepared"] and read["uncertainty"] == 0
    only = call_tone(split_call("Operator\nWelcome.\n"))
    assert only.drop("n_words").isna().all() and only["n_words"] == 0
    hedged = call_tone(split_call("Jane Roe -- CEO\nIt may be so, perhaps.\n"))
    assert hedged["uncertainty"] == 2 / 5
    lexicon = Lexicon(
        {"positive": frozenset({"QUARTER"}), "negative": frozenset(), "uncertainty": frozenset({"STRONG"})}
    )
    listed = call_tone(split_call(GOOD), lexicon)
    assert listed["tone"] == 1 and listed["uncertainty"] == 1 / 5


def test_the_change_is_against_the_last_known_call_of_the_same_symbol():
    calls = [
        call("B", "2024-05-01", BAD),
        call("A", "2024-08-01", BAD),
        call("A", "2024-05-01", GOOD),
        call("A", "2024-11-01", GOOD),
    ]
    events = call_events(calls).set_index("id")
    low, high = events["tone"].min(), events["tone"].max()
    assert events["tone_change"].isna().sum() == 2
    assert np.isclose(events.loc["A2024-08-01", "tone_change"], low - high)
    assert np.isclose(events.loc["A2024-11-01", "tone_change"], high - low)
    late = call("A", "2024-05-01", GOOD, known="2024-09-01")
    assert call_events([late, calls[1]])["tone_change"].isna().all(), "the call before is not known yet"
    cut = call_events(calls[:3])
    pd.testing.assert_frame_equal(cut, call_events(calls).iloc[:3])
    with pytest.raises(DataError, match="twice"):
        call_events([calls[0], calls[0]])
    empty = call_events([])
    assert empty.empty and {f"{c}_change" for c in CALL_COLUMNS} < set(empty)


def test_files_tell_when_they_were_known(tmp_path):
    (tmp_path / "a.txt").write_text("Symbol: A\nDate: 2024-05-02 17:00-04:00\nPublished: 2024-05-03T01:00Z\n\n" + GOOD)
    (tmp_path / "b.json").write_text(json.dumps({"ticker": "B", "date": "2024-05-02", "text": BAD}))
    turns = [{"speaker": "Jo", "section": "Q&A", "role": "analyst", "text": "Why?"}, {"speaker": "Jane", "text": "So."}]
    (tmp_path / "c.json").write_text(
        json.dumps(
            {"symbol": "C", "event_time": "2024-05-02T21:00Z", "known_at": "2024-05-02T23:00Z", "segments": turns}
        )
    )
    (tmp_path / "notes.md").write_text("not a call")
    a, b, c = read_transcripts(tmp_path, CLOSES)
    assert a.event_time == pd.Timestamp("2024-05-02 21:00Z") and a.known_at == pd.Timestamp("2024-05-03 01:00Z")
    assert b.known_at == CLOSES["2024-05-03"] and c.turns["role"].iloc[0] == "analyst"
    assert c.turns["section"].tolist() == ["questions", "prepared"]
    assert call_events([a, b, c])["known_at"].is_monotonic_increasing
    with pytest.raises(DataError, match="time zone"):
        read_transcript(tmp_path / "b.json")
    with pytest.raises(DataError, match="give more"):
        read_transcript(tmp_path / "b.json", CLOSES.iloc[:1])
    with pytest.raises(ConfigError, match="no folder"):
        read_transcripts(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.txt", b"Symbol: A\n\n" + GOOD.encode()),
        ("a.txt", b"Date: 2024-05-02T10:00Z\n\n" + GOOD.encode()),
        ("a.txt", b"Symbol: A\nDate: soon\n\n" + GOOD.encode()),
        ("a.txt", b"Symbol: A\nDate: 2024-05-02T10:00Z\n"),
        ("a.txt", b"\xff\xfe\xfa"),
        ("a.txt", b""),
        ("a.json", b"[" * 10_000),
        ("a.json", b"[1]"),
        ("a.json", b'{"symbol": "A", "event_time": null, "text": "x"}'),
        ("a.json", b'{"symbol": "A", "event_time": [1], "text": "x"}'),
        ("a.json", b'{"symbol": "A", "event_time": "2024-05-02T10:00Z", "segments": [1]}'),
        ("a.json", b'{"symbol": "A", "event_time": "2024-05-02T10:00Z"}'),
    ],
)
def test_broken_files_are_told(tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(QuantlabError):
        read_transcript(tmp_path / name)


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_transcript(tmp_path / "absent.txt")


def written(folder, head, text=GOOD):
    (folder / "a.txt").write_text(f"Symbol: A\n{head}\n\n{text}")
    return folder / "a.txt"


@pytest.mark.parametrize("time", ["2024-05-02T15:30-05:00", "2024-05-02T08:00-04:00", "2024-05-02T20:30-04:00"])
def test_a_call_without_a_publication_is_known_at_the_close_after_its_day(tmp_path, time):
    file = written(tmp_path, f"Date: {time}")
    got = read_transcript(file, CLOSES)
    assert got.known_at == CLOSES["2024-05-03"] and got.event_time == pd.Timestamp(time).tz_convert("UTC")
    with pytest.raises(DataError, match="Published.*closes="):
        read_transcript(file)
    with pytest.raises(DataError, match="give more"):
        read_transcript(file, CLOSES.iloc[:1])
    published = written(tmp_path, f"Date: {time}\nPublished: 2024-05-03T01:00Z")
    assert read_transcript(published).known_at == pd.Timestamp("2024-05-03 01:00Z")


@pytest.mark.parametrize(
    "time", ["17:00Z", "17:00-05:00", "2024/05/02", "May 2, 2024", "20240502", "2024-05", "2024", "5", "now"]
)
@pytest.mark.parametrize("closes", [None, CLOSES])
def test_another_spelling_is_the_trouble_and_is_told(tmp_path, time, closes):
    for head in (f"Date: {time}", f"Date: 2024-05-02T10:00Z\nPublished: {time}"):
        with pytest.raises(DataError, match="spelling") as caught:
            read_transcript(written(tmp_path, head), closes)
        assert "closes" not in str(caught.value)


@pytest.mark.parametrize("time", ["2024-13-45", "0001-01-01", "9999-01-01T10:00Z", "2024-05-02T25:00Z"])
def test_a_date_that_cannot_be_is_told(tmp_path, time):
    with pytest.raises(DataError, match="is dated"):
        read_transcript(written(tmp_path, f"Date: {time}"), CLOSES)


def test_a_clock_without_a_zone_is_told(tmp_path):
    with pytest.raises(DataError, match="time zone"):
        read_transcript(written(tmp_path, "Date: 2024-05-02 17:00"), CLOSES)


def test_a_section_is_told_by_its_words_and_not_by_a_letter(tmp_path):
    names = ["equity remarks", "required notices", "Q1 results", "prepared", "Q&A", "qa", "Questions and Answers"]
    names += ["question_answer", "Analyst Q & A", "q"]
    rows = [{"speaker": "Jo", "section": name, "text": "So."} for name in names]
    raw = {"symbol": "C", "event_time": "2024-05-02", "segments": rows}
    (tmp_path / "c.json").write_text(json.dumps(raw))
    turns = read_transcript(tmp_path / "c.json", CLOSES).turns
    assert turns["section"].tolist() == ["prepared"] * 4 + ["questions"] * 6
