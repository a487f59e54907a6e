"""altdata.filings: items old and new, three times of a filing, amendments as revisions, collections and the sample."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.events import current_events, event_panel, event_sessions, restated, session_closes
from quantlab.altdata.filings import (
    FILING_COLUMNS,
    FILING_ITEMS,
    acceptance_time,
    check_filings,
    filing_events,
    filing_items,
    filing_lag,
    read_filings,
    sample_filings,
)
from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.data.calendar import exchange_sessions

FOLDER = root() / "data" / "sample" / "altdata"
SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "text" / "edgar_8k_extracted.zip"


def filing(accession="0000021344-24-000010", form="8-K", period="2024-02-07", filed="2024-02-07", **more):
    row = {
        "symbol": "KO",
        "cik": "21344",
        "company": "COCA COLA CO",
        "form": form,
        "accession": accession,
        "period": pd.Timestamp(period),
        "filed": pd.Timestamp(filed),
        "accepted": pd.NaT,
        "items": "2.02",
        "text": "Item 2.02 Results",
    }
    return row | more


def table(*rows):
    frame = pd.DataFrame(rows, columns=FILING_COLUMNS)
    return frame.assign(accepted=pd.to_datetime(frame["accepted"], utc=True))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Item 2.02 Results", ["2.02"]),
        ("  ITEM 2.02.  RESULTS\nItem 9.01 Exhibits", ["2.02", "9.01"]),
        ("Item 2. 02 Results", ["2.02"]),
        ("Item\xa08.01 Other Events", ["8.01"]),
        ("Items 1.01(a) and 5.02(e) Amendment", ["1.01"]),
        ("Item 5. Other Events\nItem 7(c) Exhibits", ["5", "7"]),
        ("ITEM 12 - RESULTS OF OPERATIONS", ["12"]),
        ("as said in Item 5.02 of our 8-K", []),
        ("Item 2.02 Results\nItem 7 of Form 10-K holds more", ["2.02"]),
        ("Item 13. Nothing of the kind", []),
        ("Item 2.99 Nothing of the kind", []),
        ("Item 2.021 Nothing of the kind", []),
        ("Item 5.02 Directors\nSIGNATURE\nItem 9.01 in the index", ["5.02"]),
        ("Signatures\nItem 5.02 Directors", ["5.02"]),
        ("Item 2.02 a\nItem 9.01 b\nItem 2.02 c", ["2.02", "9.01"]),
        ("", []),
        ("\x00\ufffd item", []),
    ],
)
def test_items_of_a_text(text, items):
    assert list(filing_items(text)) == items


def test_the_parts_of_an_item_that_comes_twice_are_joined():
    assert filing_items("Item 2.02 a\nItem 9.01 b\nItem 2.02 c")["2.02"] == "Item 2.02 a\nItem 2.02 c"


def test_the_lists_of_items_are_the_forms():
    new, old = ([i for i in FILING_ITEMS if ("." in i) == dotted] for dotted in (True, False))
    assert len(new) == 33 and old == [str(n) for n in range(1, 13)]
    assert {i.split(".")[0] for i in new} == set("123456789")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("20240207160533", "2024-02-07 21:05:33"),  # winter: five hours
        ("20240707160533", "2024-07-07 20:05:33"),  # summer: four
        ("2024-07-07 16:05:33", "2024-07-07 20:05:33"),
        ("2024-02-07T21:05:33.000Z", "2024-02-08 02:05:33"),  # a Z is read as New York's clock: never early
        ("20241103013000", "2024-11-03 06:30:00"),  # the hour that comes twice: the later one
        ("20240310023000", "2024-03-10 07:00:00"),  # the hour that does not come
    ],
)
def test_acceptance_is_new_yorks_clock(text, utc):
    assert acceptance_time(text) == pd.Timestamp(utc, tz="UTC")


def test_a_list_time_is_never_before_the_header_time_whichever_zone_its_z_means():
    for month in range(1, 13):
        header = acceptance_time(f"2024{month:02d}07160533")
        as_utc, as_local = f"{header:%Y-%m-%dT%H:%M:%S}.000Z", f"2024-{month:02d}-07T16:05:33.000Z"
        assert acceptance_time(as_local) == header
        assert pd.Timedelta(hours=4) <= acceptance_time(as_utc) - header <= pd.Timedelta(hours=5)


@pytest.mark.parametrize("text", ["yesterday", "20241301000000", "2024-02-07", "2024020716053", None, 5, "９" * 14])
def test_what_is_no_acceptance_time(text):
    with pytest.raises(DataError, match="no acceptance time"):
        acceptance_time(text)
    assert acceptance_time("") is pd.NaT


@pytest.mark.parametrize("text", ["20240207000000", "2024-02-07T00:00:00.000Z", "2024-02-07 00:00:00"])
def test_a_midnight_is_a_day_alone_and_the_docstring_says_so(text):
    assert acceptance_time(text) is pd.NaT and acceptance_time("20240207000001") is not pd.NaT
    assert "a midnight is a day alone and gives NaT" in acceptance_time.__doc__.splitlines()[0]


def test_lag_counts_the_days_of_the_commission():
    days = pd.DataFrame(
        [
            ("2024-03-28", "2024-04-03", 4),  # Good Friday is a business day
            ("2024-03-28", "2024-04-04", 5),
            ("2024-10-11", "2024-10-17", 3),  # Columbus Day is none
            ("2024-07-03", "2024-07-05", 1),
            ("2024-02-03", "2024-02-08", 4),  # from a Saturday
            ("2024-02-07", "2024-02-07", 0),
            (None, "2024-02-07", np.nan),
            ("2024-02-07", None, np.nan),
        ],
        columns=["period", "filed", "days"],
    ).astype({"period": "datetime64[us]", "filed": "datetime64[us]"})
    pd.testing.assert_series_equal(filing_lag(days["period"], days["filed"]), days["days"].rename("lag"))
    assert filing_lag(days["period"][:0], days["filed"][:0]).empty


def test_moving_the_acceptance_by_a_minute_across_the_close_moves_exactly_one_session():
    closes = session_closes(exchange_sessions("XNYS", "2024-02-01", "2024-02-15"))
    found = []
    for clock in ("20240207160000", "20240207160100"):
        events = filing_events(table(filing(accepted=acceptance_time(clock))))
        found.append(event_sessions(events["known_at"], closes).item())
    assert found == [pd.Timestamp("2024-02-07"), pd.Timestamp("2024-02-08")]


def test_only_a_date_means_the_close_of_the_next_session():
    events = filing_events(table(filing(filed="2024-02-09")))  # a Friday
    assert events["known_at"].item() == pd.Timestamp("2024-02-12 21:00", tz="UTC")
    early = session_closes(exchange_sessions("XNYS", "2024-02-01", "2024-02-09"))
    with pytest.raises(DataError, match="0000021344-24-000010 of KO: no session follows"):
        filing_events(table(filing(filed="2024-02-09")), early)


def test_an_amendment_is_a_revision_and_what_was_first_filed_stays():
    first = filing(accepted=acceptance_time("20240207160533"), items="2.02,9.01", text="Item 2.02 up\nItem 9.01 x")
    second = filing("0000021344-24-000012", "8-K/A", filed="2024-02-20", accepted=acceptance_time("20240220090000"))
    third = second | {"accession": "0000021344-24-000013", "accepted": acceptance_time("20240221090000")}
    events = filing_events(table(third, first, second))
    results = events[events["item"] == "2.02"]
    assert results["revision"].tolist() == [0, 1, 2] and results["id"].nunique() == 1
    assert results["amends"].tolist() == ["", first["accession"], first["accession"]]
    assert not events["late"].any() and results["lag"].iloc[1] == 8  # an amendment is never late
    for as_of, accession in [("2024-02-19", "10"), ("2024-02-20 23:00", "12"), ("2024-03-01", "13")]:
        known = current_events(events, pd.Timestamp(as_of, tz="UTC")).query("item == '2.02'")
        assert known["accession"].item().endswith(accession)
    both = restated(events)
    assert (both["accession"].item()[-2:], both["accession_latest"].item()[-2:]) == ("10", "13")


def test_an_amendment_belongs_to_its_company_its_period_and_its_item():
    rows = [
        filing("0000021344-24-000010", items="5.02", text=""),
        filing("0000021344-24-000011", items="2.02", text="", filed="2024-02-08"),
        filing("0000021344-24-000012", "8-K/A", items="5.02", text="", filed="2024-02-12"),
        filing("0000021344-24-000013", "8-K/A", items="9.01", text="", filed="2024-02-13"),
        filing("0000021344-24-000014", "8-K/A", items="5.02", text="", filed="2024-02-13", period="2024-02-06"),
        filing("0000021344-24-000015", "8-K/A", items="5.02", text="", filed="2024-02-13", symbol="PEP"),
    ]
    events = filing_events(table(*rows)).set_index("accession").sort_index()
    amends = events["amends"].str[-2:]
    assert amends.tolist() == ["", "", "10", "11", "", ""] and events["revision"].tolist() == [0, 0, 1, 0, 0, 0]
    early = filing_events(table(rows[2] | {"filed": pd.Timestamp("2024-02-07")}, rows[0] | {"filed": rows[3]["filed"]}))
    assert (early["revision"] == 0).all() and (early["amends"] == "").all()  # filed before what it would amend


def test_late_is_more_than_four_business_days():
    rows = [filing(f"0000021344-24-00002{n}", filed=day) for n, day in enumerate(("2024-02-13", "2024-02-14"))]
    assert filing_events(table(*rows))["late"].tolist() == [False, True]


def test_a_period_after_the_filing_or_none_becomes_the_day_of_the_filing():
    after = filing(period="2042-02-07", accepted=acceptance_time("20240206193000"))  # accepted the evening before
    none = filing("0000021344-24-000011", period=None)
    events = filing_events(table(after, none))
    assert events["event_time"].dt.strftime("%Y-%m-%d").tolist() == ["2024-02-06", "2024-02-07"]
    assert (events["known_at"] >= events["event_time"]).all()


def test_items_come_from_the_text_where_the_filing_names_none():
    text = "Item 5.02 Directors\nSomebody left.\nItem 9.01 Exhibits"
    events = filing_events(table(filing(items="", text=text), filing("0000021344-24-000011", items="", text="")))
    assert events["item"].tolist() == ["5.02", "9.01", ""] and events["text"].iloc[0].endswith("left.")


def test_empty_filings_are_empty_events():
    events = filing_events(table())
    assert events.empty and {"id", "item", "accession", "form", "amends", "lag", "late", "text"} <= set(events)
    assert str(events["known_at"].dtype) == "datetime64[us, UTC]" and events["late"].dtype == bool


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"form": "10-K"}, "no 8-K"),
        ({"accession": "../../etc/passwd"}, "no accession number"),
        ({"symbol": ""}, "no symbol"),
        ({"filed": pd.NaT}, "no filing date"),
    ],
)
def test_rows_that_are_no_filings_are_named(change, words):
    with pytest.raises(DataError, match=words):
        check_filings(table(filing() | change))


def test_frames_that_are_no_filings():
    with pytest.raises(DataError, match=r"no column \['items'\]"):
        check_filings(table(filing()).drop(columns="items"))
    with pytest.raises(DataError, match="no time zone"):
        check_filings(table(filing()).assign(accepted=pd.Timestamp("2024-02-07 16:05")))
    with pytest.raises(DataError, match="there twice"):
        check_filings(table(filing(), filing()))


def test_the_sample_is_the_documented_file():
    file = FOLDER / "filings.parquet"
    line = next(line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| `filings.parq"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() in line and file.stat().st_size < 250_000
    filings = sample_filings()
    assert f"| {len(filings)} |" in line and filings["symbol"].value_counts().to_dict() == {"DIS": 88, "FDX": 12}
    assert f"{filings['filed'].min():%Y-%m-%d} .. {filings['filed'].max():%Y-%m-%d}" in line
    assert filings["accepted"].isna().all() and filings["text"].str.len().max() < 5000
    assert all(
        set(filing_items(t)) == set(i.split(",")) for i, t in zip(filings["items"], filings["text"], strict=True)
    )


def test_a_missing_sample_is_a_data_error(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_DATA_SAMPLE", str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        sample_filings()


def test_counts_of_the_panel_are_counts_of_the_events():
    events = filing_events(sample_filings())
    closes = session_closes(exchange_sessions("XNYS", "2012-01-03", "2024-01-10"))
    panel = event_panel(events, closes, ["item"], how="count")
    assert panel["item"].sum() == len(events) == 201


def written(folder, name="one.json", **change):
    told = {
        "cik": "1001039",
        "company": "WALT DISNEY CO/",
        "filing_type": "8-K",
        "filing_date": "2016-05-10",
        "period_of_report": "2016-05-10",
        "complete_text_filing_link": "https://www.sec.gov/Archives/edgar/data/1001039/0001001039-16-000417.txt",
        "item_2.02": "Item 2.02 Results",
        "item_9.01": "",
    }
    (folder / name).write_text(json.dumps(told | change))


def test_a_collection_by_cik_and_by_name(tmp_path):
    written(tmp_path)
    other = "https://www.sec.gov/x/0000000001-16-000001.txt"
    written(tmp_path, "two.json", cik="99", company="Nobody Inc", complete_text_filing_link=other)
    for symbols in ({"1001039": "DIS"}, {1001039: "DIS"}, {"0001001039": "DIS"}, {"walt disney co/": "DIS"}):
        assert read_filings(tmp_path, symbols)[["symbol", "items"]].to_numpy().tolist() == [["DIS", "2.02"]]
    with pytest.raises(DataError, match="no filing of .* in the table; it holds Nobody Inc, WALT"):
        read_filings(tmp_path, {"5": "X"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filing_date": "10.5.2016"}, "one.json in .*: filing_date is '10.5.2016'"),
        ({"cik": 5}, "one.json in .* is no filing"),
        ({"filing_type": "10-K"}, "no 8-K"),
        ({"complete_text_filing_link": "x"}, "no accession"),
    ],
)
def test_a_document_that_is_no_filing_is_named(tmp_path, change, words):
    written(tmp_path, **change)
    with pytest.raises(DataError, match=words):
        read_filings(tmp_path, {"1001039": "DIS", "WALT DISNEY CO/": "DIS"})


def test_files_that_are_no_collection(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * 100_000)
    with pytest.raises(DataError, match="a.json in .* is no JSON"):
        read_filings(tmp_path, {})
    for name, body in (("b.zip", b"no zip"), ("c", None)):
        if body:
            (tmp_path / name).write_bytes(body)
        with pytest.raises(DataError, match="no folder and no zip"):
            read_filings(tmp_path / name, {})
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(DataError, match="it holds nothing"):
        read_filings(tmp_path / "empty.zip", {})


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared (set QUANTLAB_SHARED)")
def test_all_shared_filings_have_the_known_counts():
    with zipfile.ZipFile(SHARED) as box:
        got = [json.loads(box.read(name)) for name in box.namelist() if name.endswith(".json")]
    filings = read_filings(SHARED, {one["cik"]: f"C{one['cik']}" for one in got})
    assert len(filings) == 553 and filings["cik"].nunique() == 24
    events = filing_events(filings)
    counts = events["item"].value_counts()
    assert counts[["9.01", "2.02", "5.02", "8.01", "1.01"]].tolist() == [407, 160, 132, 112, 71]
    old = filings["items"].str.contains(".", regex=False).map({True: "new", False: "old"})
    assert (old == np.where(filings["filed"] < "2004-08-23", "old", "new")).all()
    parsed = [set(filing_items(text)) for text in filings["text"]]
    assert parsed == [set(items.split(",")) for items in filings["items"]]
    assert events["event_time"].dt.year.agg(["min", "max"]).tolist() == [1994, 2023]
