"""Malformed files: each ends in stored-and-right or in one clear line, never in a traceback, never in wrong bars.

Right is judged against the mutated file itself, read by a few lines that know the layout: every stored bar stands
there, and every line that is a bar is stored.
"""

import csv
import io
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from quantlab.core.errors import QuantlabError
from quantlab.importer.files import guess_columns, questions
from quantlab.importer.folder import import_files

PRICES = ["open", "high", "low", "close"]


def truth(rows=14):
    "Bars whose every number occurs once."
    table = [{"date": d, "symbol": s, "open": b + 0.25, "high": b + 2.5, "low": b - 1.75, "close": b + 1.125,
    "volume": 1000.0 + 7 * i + k}
             for i, d in enumerate(pd.bdate_range("2024-01-02", periods=rows // 2)) for k,
             (s, b) in enumerate((("AAPL", 100.0 + 3 * i), ("KO", 40.0 + 2 * i)))]  # fmt: skip
    return pd.DataFrame(table)


TABLE = truth()
PLAIN = TABLE.assign(date=TABLE["date"].dt.strftime("%Y-%m-%d")).to_csv(index=False)
SEMICOLON = PLAIN.replace(",", ";").replace(".", ",")
ALONE = (
    TABLE[TABLE["symbol"] == "KO"]
    .drop(columns="symbol")
    .assign(date=lambda t: t["date"].dt.strftime("%d.%m.%Y"))
    .to_csv(index=False, sep="\t")
)
TEXTS = {"comma": (PLAIN, ",", "."), "semicolon": (SEMICOLON, ";", ","), "tab": (ALONE, "\t", ".")}
PIECES = [
    "",
    "\0",
    '"',
    "'",
    "\n",
    "\r\n",
    ",",
    ";",
    "\t",
    ".",
    "-",
    "e",
    "9",
    "0",
    " ",
    "\u00a0",
    "é",
    "nan",
    "inf",
    "1e400",
    "-1",
    "0x1",
    "1_0",
    "AAPL",
    "2024-13-45",
    "date",
    "#",
    "\ufeff",
    "K",
    "%",
    "$",
    "١",
]


def mutations(text):
    "One to three changes of a text: characters, lines, the end."
    spot = st.integers(0, len(text) - 1)
    one = st.one_of(
        st.tuples(st.just("put"), spot, st.sampled_from(PIECES), st.integers(0, 3)),
        st.tuples(st.just("cut"), spot, st.integers(1, 40)),
        st.tuples(st.just("end"), spot),
        st.tuples(st.just("twice"), spot),
        st.tuples(st.just("drop"), spot),
        st.tuples(st.just("swap"), spot, spot),
        st.tuples(st.just("byte"), spot, st.integers(0, 255)),
    )
    return st.lists(one, min_size=1, max_size=3)


def mutate(text, changes):
    "Apply changes; the result may be no text at all."
    data = text.encode()
    for kind, at, *more in changes:
        lines = data.split(b"\n")
        line = min(data[:at].count(b"\n"), len(lines) - 1)
        if kind == "put":
            data = data[:at] + more[0].encode() + data[at + more[1] :]
        elif kind == "cut":
            data = data[:at] + data[at + more[0] :]
        elif kind == "end":
            data = data[:at]
        elif kind == "byte":
            data = data[:at] + bytes(more) + data[at + 1 :]
        elif kind == "swap":
            other = min(data[: more[0]].count(b"\n"), len(lines) - 1)
            lines[line], lines[other] = lines[other], lines[line]
            data = b"\n".join(lines)
        else:
            data = b"\n".join(
                lines[:line] + (lines[line : line + 1] * 2 if kind == "twice" else []) + lines[line + 1 :]
            )
    return data


def number(cell, decimal):
    "A number as the layout writes it; None for anything else."
    try:
        return (
            float(cell.strip().lstrip("$").replace(decimal, "."))
            if "_" not in cell and not ({".", ","} - {decimal}) & {*cell}
            else None
        )
    except ValueError:
        return None


def lines_that_are_bars(data, separator, decimal, alone):
    "What a patient reader finds in a mutated text: (date, symbol) -> prices."
    found = {}
    for row in csv.reader(io.StringIO(data.decode("utf-8-sig")), delimiter=separator):
        cells = [c.strip() for c in row]
        if len(cells) == 7 - alone:
            values = [number(c, decimal) for c in cells[2 - alone : 6 - alone]]
            day = pd.to_datetime(cells[0], format="%d.%m.%Y" if alone else "%Y-%m-%d", errors="coerce")
            if day is not pd.NaT and None not in values:
                found.setdefault((day, "mine" if alone else cells[1]), []).append(values)
    return found


def outcome(file):
    "Bars as `quantlab data import --yes` would store them, or the line that refuses."
    try:
        guess = guess_columns(file)
        if questions(guess):
            return None, "; ".join(questions(guess))
        return import_files([file], guess), ""
    except QuantlabError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) > 20, str(error)
        return None, str(error)


def check_text(tmp, layout, changes):
    text, separator, decimal = TEXTS[layout]
    data, alone = mutate(text, changes), layout == "tab"
    file = tmp / "mine.csv"
    file.write_bytes(data)
    bars, why = outcome(file)
    if bars is None:
        assert why
        return "refused"
    there = lines_that_are_bars(data, separator, decimal, alone)
    renamed = b"symbol" not in data.split(b"\n")[0] and not alone
    for (day, symbol), row in bars.iterrows():
        known = [v for (d, s), many in there.items() if d == day and (s == symbol or renamed) for v in many]
        assert any(np.allclose(row[PRICES].to_numpy(dtype=float), v) for v in known), (day, symbol, row.tolist(), known)
    if not renamed:
        assert {(d, s) for d, s in there if (d, s)} <= set(bars.index), "a bar of the file is lost"
    return "stored"


def parquet_changes():
    "One to two changes of a frame or of the bytes of its file."
    cell = st.tuples(
        st.just("cell"),
        st.integers(0, 13),
        st.sampled_from(list(TABLE)),
        st.sampled_from([None, np.nan, np.inf, -1.0, 0.0, 1e300, 7.0, "x", b"x", True, "2024-01-02"]),
    )
    column = st.tuples(
        st.just("column"),
        st.sampled_from(list(TABLE)),
        st.sampled_from(["drop", "twice", "text", "float32", "bool", "null", "upper", "category", "int", "bytes"]),
    )
    rows = st.tuples(st.just("rows"), st.sampled_from(["none", "reverse", "twice", "half", "index", "unnamed"]))
    data = st.tuples(st.just("byte"), st.floats(0, 1), st.integers(0, 255))
    end = st.tuples(st.just("end"), st.floats(0, 1))
    return st.lists(st.one_of(cell, column, rows, data, end), min_size=1, max_size=2)


def changed(frame, change):
    "Apply one change to a frame."
    kind, *more = change
    if kind == "cell" and more[1] in frame:
        frame = frame.astype({more[1]: "object"})
        frame.iloc[min(more[0], len(frame) - 1), frame.columns.get_loc(more[1])] = more[2]
    elif kind == "column" and more[0] in frame:
        c, how = more
        steps = {"drop": lambda f: f.drop(columns=c), "twice": lambda f: f.assign(**{c.upper(): f[c]}),
        "text": lambda f: f.astype({c: "str"}), "upper": lambda f: f.rename(columns={c: c.upper()}),
                 "float32": lambda f: f.astype({c: "float32"}), "bool": lambda f: f.assign(**{c: True}),
                 "null": lambda f: f.assign(**{c: None}), "category": lambda f: f.astype({c: "category"}),
                 "int": lambda f: f.astype({c: "int64"}),
                 "bytes": lambda f: f.assign(**{c: f[c].astype("str").str.encode("utf-8")})}  # fmt: skip
        frame = steps[how](frame)
    elif kind == "rows":
        steps = {"none": lambda f: f.iloc[:0], "reverse": lambda f: f.iloc[::-1],
        "twice": lambda f: pd.concat([f, f.iloc[:1]]), "half": lambda f: f.iloc[::2],
                 "index": lambda f: f.set_index([c for c in ("date", "symbol") if c in f]),
                 "unnamed": lambda f: f.set_index("date").rename_axis(None) if "date" in f else f}  # fmt: skip
        frame = steps[more[0]](frame)
    return frame


def check_parquet(tmp, changes):
    frame, file = TABLE, tmp / "mine.parquet"
    try:
        for change in changes:
            frame = changed(frame, change)
        frame.to_parquet(file)
    except Exception:  # no such frame or file can be written: nothing to import
        return "not a file"
    data = bytearray(file.read_bytes())
    for change in changes:
        if change[0] == "byte" and data:
            data[min(int(change[1] * len(data)), len(data) - 1)] = change[2]
        elif change[0] == "end":
            data = data[: int(change[1] * len(data))]
    file.write_bytes(bytes(data))
    bars, why = outcome(file)
    if bars is None:
        assert why
        return "refused"
    seen = (
        pq.ParquetFile(file).read().to_pandas(ignore_metadata=True).rename(columns={"__index_level_0__": "date"})
    )  # what the bytes say, however they came about
    seen = seen.rename(columns=str.lower).loc[:, lambda f: ~f.columns.duplicated()]
    seen = seen.map(lambda v: v.decode() if isinstance(v, bytes) else v)
    if pd.api.types.is_integer_dtype(seen["date"]):  # as Arrow keeps moments
        seen["date"] = pd.to_datetime(seen["date"], unit="us")
    for (day, symbol), row in bars.iterrows():
        known = seen[
            (pd.to_datetime(seen["date"].astype("str"), errors="coerce").dt.tz_localize(None).dt.normalize() == day)
            & (seen["symbol"].astype("str").str.strip().eq(symbol) if "symbol" in seen else True)
        ]
        assert any(
            np.allclose(
                row[PRICES].to_numpy(dtype=float), pd.to_numeric(k[PRICES].astype("str"), errors="coerce"), rtol=1e-6
            )
            for _, k in known.iterrows()
        ), (day, symbol, row.tolist())
    assert len(bars) == len(seen)
    return "stored"


FAST = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
}


@seed(12)
@given(st.sampled_from(list(TEXTS)).flatmap(lambda name: st.tuples(st.just(name), mutations(TEXTS[name][0]))))
@settings(max_examples=40, **FAST)
def test_a_few_malformed_texts(tmp_path_factory, case):
    check_text(tmp_path_factory.getbasetemp(), *case)


@seed(12)
@given(parquet_changes())
@settings(max_examples=20, **FAST)
def test_a_few_malformed_parquet_files(tmp_path_factory, changes):
    check_parquet(tmp_path_factory.getbasetemp(), changes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "parquet"])
def test_two_thousand_malformed_files(tmp_path_factory, kind):
    ends = {}

    @seed(2024)
    @given(
        st.sampled_from(list(TEXTS)).flatmap(lambda name: st.tuples(st.just(name), mutations(TEXTS[name][0])))
        if kind == "text"
        else parquet_changes()
    )
    @settings(max_examples=1200 if kind == "text" else 800, **FAST)
    def run(case):
        end = (
            check_text(tmp_path_factory.getbasetemp(), *case)
            if kind == "text"
            else check_parquet(tmp_path_factory.getbasetemp(), case)
        )
        ends[end] = ends.get(end, 0) + 1

    run()
    print(kind, ends)
    assert ends["refused"] > 100 and ends["stored"] > 100


def test_the_check_itself_sees_wrong_bars(tmp_path, monkeypatch):
    check_text(tmp_path, "comma", [("cut", 0, 0)])
    here = sys.modules[__name__]

    def spoiled(file):
        bars = import_files([file], replace(guess_columns(file)))
        return bars.assign(close=bars["close"] + 0.01), ""

    monkeypatch.setattr(here, "outcome", spoiled)
    with pytest.raises(AssertionError):
        here.check_text(tmp_path, "comma", [("cut", 0, 0)])
