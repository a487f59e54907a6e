"""vendors.dialect and vendors.files: what a file proves is used, what it does not is asked, nothing is guessed
silently."""

import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import DataError
from quantlab.data.sample import sample_bars
from quantlab.importer.dialect import (
    date_forms,
    find_decimal,
    find_encoding,
    find_separator,
    read_dates,
    read_numbers,
    read_raw,
    read_text,
)
from quantlab.importer.files import guess_columns, import_file, questions

HEAD = "date,symbol,open,high,low,close,volume\n"
ROW = "2024-01-02,A,1.5,2.5,1.25,2,5\n"


@pytest.fixture(scope="module")
def bars():
    return sample_bars(["AAPL", "XOM"], "2023-11-20", "2023-12-29").drop(columns="adj")


def write(folder, text, name="mine.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def load(file, **answers):
    return import_file(file, replace(guess_columns(file), **answers))


@pytest.mark.parametrize(
    ("separator", "decimal", "encoding"),
    [(",", ".", "utf-8"), (";", ",", "utf-8-sig"), ("\t", ",", "utf-16"), ("|", ".", "utf-8"), (",", ",", "utf-8-sig")],
)
@pytest.mark.parametrize(
    "day", ["%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%Y", "%Y-%m-%d %H:%M:%S"]
)
def test_every_dialect_comes_back_equal(tmp_path, bars, separator, decimal, encoding, day):
    table = bars.reset_index().assign(date=lambda t: t["date"].dt.strftime(day))
    table.to_csv(
        tmp_path / "x.csv", sep=separator, decimal=decimal, index=False, encoding=encoding, lineterminator="\r\n"
    )
    guess = guess_columns(tmp_path / "x.csv")
    assert (
        questions(guess) == [] and guess.date_form == day and guess.separator == separator and guess.decimal == decimal
    )
    pd.testing.assert_frame_equal(import_file(tmp_path / "x.csv", guess), bars)


@given(
    st.lists(st.floats(-1e9, 1e9).map(lambda v: round(v, 2)), min_size=1, max_size=20),
    st.sampled_from([(".", ","), (",", "."), (".", None), (",", None)]),
)
@settings(max_examples=100, deadline=None)
def test_numbers_are_read_or_asked_about_never_misread(values, marks):
    decimal, thousands = marks
    swap = str.maketrans({",": thousands or "", ".": decimal})
    text = pd.Series([f"{v:,.2f}".translate(swap) for v in values])
    found = find_decimal(text, "x")
    assert found[0] == decimal and found[1] in (thousands, None)
    np.testing.assert_array_equal(read_numbers(text, decimal, thousands, "x"), values)


@given(
    st.lists(
        st.dates(min_value=pd.Timestamp("1970-01-01").date(), max_value=pd.Timestamp("2040-12-31").date()),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_date_form_is_proved_only_when_no_other_fits(days):
    for true in ("%d/%m/%Y", "%m/%d/%Y"):
        text = pd.Series([d.strftime(true) for d in days])
        forms = date_forms(text)
        assert true in forms
        assert (len(forms) == 1) == any(d.day > 12 for d in days)
        assert list(read_dates(text, true).dt.date) == days


def test_ambiguous_dates_ask_and_both_answers_are_obeyed(tmp_path):
    file = write(tmp_path, HEAD + ROW.replace("2024-01-02", "03/04/2024"))
    with pytest.raises(DataError, match="how are dates like 03/04/2024 written.*%d/%m/%Y or %m/%d/%Y"):
        load(file)
    assert load(file, date_form="%d/%m/%Y").index[0][0] == pd.Timestamp("2024-04-03")
    assert load(file, date_form="%m/%d/%Y").index[0][0] == pd.Timestamp("2024-03-04")


def test_ambiguous_thousands_ask(tmp_path):
    file = write(tmp_path, (HEAD + "2024-01-02,A,1#100,1#200,1#050,1#150,5\n").replace(",", ";").replace("#", ","))
    with pytest.raises(DataError, match="above a thousand"):
        load(file)
    assert load(file, decimal=",")["close"].tolist() == [1.15]
    assert load(file, decimal=".", thousands=",")["close"].tolist() == [1150.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEAD, "no rows"),
        ("\ufeff" + HEAD, "no rows"),
        ("hello\nworld\n", "no separator"),
        (HEAD + ROW * 2, "twice"),
        (HEAD + ROW.replace("2.5", "1.4"), "mine.csv: open is outside|high"),
        (HEAD + ROW.replace("1.5,2.5,1.25,2", "1.5,1,2.5,2"), "high < low"),
        (HEAD + ROW.replace("1.25", "-1.25"), "low is not positive"),
        (HEAD + ROW.replace(",2,5", ",,5"), "close is missing"),
        (HEAD + ROW.replace(",2,5", ",null,5"), "close is missing"),
        (HEAD + ROW.replace("1.25", "1.2.5"), "not numbers"),
        (HEAD + ROW.replace("2024-01-02", "2024-02-30"), "how are dates like 2024-02-30"),
        (HEAD.replace("close", "last,c").replace("volume", "vol") + ROW.replace(",2,5", ",2,2,5"), "could be any of"),
        (HEAD.replace("close", "close,close") + ROW.replace(",2,5", ",2,2,5"), "more than once"),
        (HEAD.replace("date", "wann").replace("symbol", "wer") + ROW.replace("2024-01-02", "soon"),
        "which column is date"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, text))


def test_a_bad_row_after_the_first_is_found(tmp_path):
    rows = "".join(f"2024-01-{d:02d},A,1.5,2.5,1.25,2,5\n" for d in range(2, 32))
    file = write(tmp_path, HEAD + rows)
    guess = guess_columns(file)
    write(tmp_path, HEAD + rows + "31.12.2024,A,1.5,2.5,1.25,2,5\n")
    with pytest.raises(DataError, match="row 30: '31.12.2024'"):
        import_file(file, guess)
    write(tmp_path, HEAD + rows + "2024-02-01,A,1.5,2.5,1.25,2,five\n")
    with pytest.raises(DataError, match="row 30: 'five'"):
        import_file(file, guess)
    write(tmp_path, HEAD + rows + "2024-02-01,A,1.5,2.5,1.25,2,5,6\n")
    with pytest.raises(DataError, match="is the file whole"):
        import_file(file, guess)


def test_latin_1_is_refused_and_utf_8_cut_in_the_middle_is_not(tmp_path):
    with pytest.raises(DataError, match="not UTF-8"):
        guess_columns(write(tmp_path, HEAD + ROW.replace("A", "\xc4"), encoding="latin-1"))
    head = "x" * ((1 << 16) - 1) + "\xe4" * 10
    assert find_encoding(head.encode(), "x") == "utf-8"
    assert find_separator("a;b\n\n1,5;2\n", "x")[0] == ";"
    late = write(tmp_path, HEAD + ROW * 9000 + ROW.replace("A", "\xc4"), encoding="latin-1")
    with pytest.raises(DataError, match="not UTF-8"):
        read_text(late)


def test_a_ticker_called_NA_and_an_index_symbol_stay(tmp_path):
    file = write(tmp_path, HEAD + ROW.replace(",A,", ",NA,") + ROW.replace(",A,", ",^GSPC,"))
    assert load(file).index.get_level_values("symbol").tolist() == ["NA", "^GSPC"]


def test_yahoo_headers_give_the_factor(tmp_path):
    text = "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,9,12,8,10,5,100\n2024-01-03,9,12,8,8,8,100\n"
    guess = guess_columns(write(tmp_path, text, "KO.csv"))
    assert import_file(tmp_path / "KO.csv", guess)["adj"].tolist() == [0.5, 1.0]
    write(tmp_path, text, "PEP.csv")
    assert import_file(tmp_path / "PEP.csv", guess).index[0] == (pd.Timestamp("2024-01-02"), "PEP")
    assert import_file(tmp_path / "PEP.csv", replace(guess, symbol="X")).index[0][1] == "X"


def test_yfinance_midnights_with_offsets_are_labels(tmp_path):
    text = (
        "Date,Open,High,Low,Close,Volume\n"
        "2024-03-08 00:00:00-05:00,9,12,8,10,100\n2024-03-11 00:00:00-04:00,9,12,8,8,100\n"
    )
    frame = load(write(tmp_path, text, "KO.csv"))
    assert [f"{d:%Y-%m-%d %H:%M}" for d in frame.index.get_level_values("date")] == [
        "2024-03-08 00:00",
        "2024-03-11 00:00",
    ]
    assert frame.index.get_level_values("date").tz is None


def test_intraday_asks_for_the_zone_and_the_end_of_the_stamp(tmp_path):
    rows = [f"2025-03-{d:02d} {h},9,12,8,10,100\n" for d in (7, 10) for h in ("09:30", "09:35")]
    file = write(tmp_path, "time,open,high,low,close,volume\n" + "".join(rows), "SPY.csv")
    with pytest.raises(DataError, match="start or its end.*time zone"):
        load(file)
    dates = load(file, zone="America/New_York", stamps="start").index.get_level_values("date")
    assert [f"{d:%d %H:%M}" for d in dates] == ["07 14:35", "07 14:40", "10 13:35", "10 13:40"] and str(
        dates.tz
    ) == "UTC"
    assert load(file, zone="America/New_York", stamps="end").index[0][0] == pd.Timestamp("2025-03-07 14:30", tz="UTC")
    hole = write(tmp_path, "time,open,high,low,close,volume\n2025-03-09 02:30,9,12,8,10,100\n", "X.csv")
    with pytest.raises(DataError, match="no times of America/New_York"):
        load(hole, zone="America/New_York", stamps="end", interval="5min")


def test_epochs_and_offsets_need_no_zone(tmp_path):
    for stamp in ("1741613400", "1741613400000", "2025-03-10T09:30:00-04:00"):
        file = write(tmp_path, f"time,open,high,low,close,volume\n{stamp},9,12,8,10,100\n", "BTC.csv")
        assert load(file, stamps="end", interval="1h").index[0][0] == pd.Timestamp("2025-03-10 13:30", tz="UTC")


def test_parquet_both_ways_round(tmp_path, bars):
    bars.to_parquet(tmp_path / "a.parquet")
    bars.reset_index().astype({"close": "float32", "symbol": "category"}).to_parquet(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(load(tmp_path / "a.parquet"), bars)
    assert load(tmp_path / "b.parquet").index.equals(bars.index)
    zoned = bars.droplevel("symbol").iloc[:0:2].tz_localize("UTC")
    zoned.to_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match="no rows"):
        guess_columns(tmp_path / "c.parquet")
    one = bars.xs("XOM", level="symbol").tz_localize("America/New_York")
    one.to_parquet(tmp_path / "XOM.parquet")  # as yfinance keeps daily bars
    pd.testing.assert_frame_equal(load(tmp_path / "XOM.parquet"), bars.xs("XOM", level="symbol", drop_level=False))


def test_read_raw_changes_nothing(tmp_path):
    file = write(tmp_path, "a,b\n007,NA\n1e3, x\n")
    assert read_raw(file).frame.to_numpy().tolist() == [["007", "NA"], ["1e3", " x"]]


def test_two_marks_of_decimals_and_two_files_in_one_are_refused(tmp_path):
    with pytest.raises(DataError, match="comma and with a point"):
        find_decimal(pd.Series(["1,5", "1.75"]), "mixed.csv")
    with pytest.raises(DataError, match="row 1: 'x'"):
        read_numbers(pd.Series(["1", "x"], name="open"), ".", None, "mine.csv")
    with pytest.raises(DataError, match="does not exist"):
        read_raw(tmp_path / "none.csv")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as pack:
        pack.writestr("a.csv", "x"), pack.writestr("b.csv", "x")
    with pytest.raises(DataError, match="2 files"):
        read_raw(tmp_path / "two.zip")
    assert date_forms(pd.Series([], dtype="str")) == [] and date_forms(
        pd.Series(pd.date_range("2024-01-01", periods=3))
    ) == ["timestamps"]


def test_a_mapping_of_another_file_and_a_column_that_is_not_there_are_refused(tmp_path):
    file = write(tmp_path, HEAD + ROW)
    with pytest.raises(DataError, match="does not exist; the file has"):
        guess_columns(file, {"close": "last"})
    with pytest.raises(DataError, match="guess this file anew"):
        import_file(
            file,
            guess_columns(write(tmp_path, HEAD.replace("close", "Close *") + ROW, "other.csv"), {"close": "Close *"}),
        )
    strange = write(tmp_path, HEAD.replace("date", "wann") + ROW, "wann.csv")
    assert (
        guess_columns(strange).known_by["date"] == "contents"
        and guess_columns(strange, {"date": "wann"}).known_by["date"] == "told"
    )
