"""data.files and the lake on bad disks and under hostile hands: one clear line, old data whole, nothing outside
touched."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import DataError, QuantlabError
from quantlab.data import files
from quantlab.data.files import inside, once, plain_text, put, write_csv
from quantlab.data.store import Lake, verify

sys.path.insert(0, str(Path(__file__).parent))
from writers import make_bars  # noqa: E402

BARS = make_bars(pd.bdate_range("2023-12-20", periods=12), ["A", "B"])
MORE = make_bars(pd.bdate_range("2024-01-10", periods=5), ["A", "B"], seed=1)


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake", timeout=5)
    lake.write("us", "1d", BARS)
    return lake


def tree(folder):
    "Every file and its bytes, locks apart."
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != ".lock"
    }


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and "Errno" not in text and len(text) < 500, text
    return text


# --- CSV ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "=", "-1+2", "+1.2.3", "＝1"]
)
def test_formulas_become_texts(text):
    assert plain_text(text) == "'" + text


@pytest.mark.parametrize("text", ["-1", "+1.5", "-1e-5", "-.5", "AAPL", "BRK-B", "a=1", "", " =1", "2024-01-02", "'=1"])
def test_numbers_and_plain_texts_stay(text):
    assert plain_text(text) == text


def test_csv_keeps_every_number_and_neutralises_every_kind_of_text_column(tmp_path):
    frame = pd.DataFrame(
        {
            "=head": [-1.5, np.nan],
            "symbol": pd.Series(["@x", "-3"], dtype="str"),
            "kind": pd.Categorical(["+a", "b"]),
            "any": pd.Series(["=z", -4.5], dtype="object"),
        }
    )
    frame = frame.assign(when=pd.to_datetime(["2024-01-02", None]), yes=[True, False])
    before = frame.copy()
    write_csv(frame, tmp_path / "a.csv")
    pd.testing.assert_frame_equal(frame, before)
    assert (
        tmp_path / "a.csv"
    ).read_text() == "'=head,symbol,kind,any,when,yes\n-1.5,'@x,'+a,'=z,2024-01-02,True\n,-3,b,-4.5,,False\n"
    write_csv(frame, tmp_path / "b.csv", formulas=True)
    assert (tmp_path / "b.csv").read_text().startswith("=head,") and ",@x,+a,=z," in (tmp_path / "b.csv").read_text()
    with pytest.raises(DataError, match="exists"):
        write_csv(frame, tmp_path / "a.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(DataError, match="exists"):
        write_csv(frame, tmp_path / "dangling.csv")
    with pytest.raises(DataError, match="no such|No such|cannot be written"):
        write_csv(frame, tmp_path / "a.csv" / "b.csv")
    assert not (tmp_path / "elsewhere.csv").exists() and not list(tmp_path.glob(".*"))


# --- a disk that refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "rights do not allow"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "Input/output"),
    ],
)
@pytest.mark.parametrize("at", range(6))
def test_whatever_the_disk_refuses_the_old_state_is_whole(lake, monkeypatch, number, said, at):
    "Each of the calls that make a write can fail: the 1st, the 2nd ... in turn."
    before, calls = tree(lake.folder), iter(range(1000))

    def moody(real):
        def call(*args, **kwargs):
            if next(calls) == at:
                raise OSError(number, os.strerror(number), str(lake.folder / "some" / "file"))
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, moody(getattr(os, name)))
    with pytest.raises(DataError, match=f"'us' cannot be written.*{said}") as error:
        lake.write("us", "1d", MORE)
    one_line(error)
    monkeypatch.undo()
    after = tree(lake.folder)
    assert not [name for name in after if "/." in name or name.startswith(".")], "a draft was left behind"
    if at < 5:  # the 6th call follows the swap of the manifest: the rows are there
        assert before.items() <= after.items() and lake.read("us").equals(BARS)
    lake.write("us", "1d", MORE)
    assert lake.read("us").equals(pd.concat([BARS, MORE])) and len(verify(lake, "us")) == 2


PROGRAM = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from test_files import MORE
from quantlab.data.store import Lake
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (2000, 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        Lake({folder!r}).write("us", "1d", MORE)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_real_limit_of_the_system_leaves_the_old_state(lake):
    before = tree(lake.folder)
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parent), folder=str(lake.folder))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = said.stdout.splitlines()
    assert len(lines) == 2 and all(
        line.startswith("DataError 'us' cannot be written, what was stored is as it was: ") for line in lines
    ), said
    assert all("larger than this process may write" in line for line in lines) and tree(lake.folder) == before


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can mount a small disk")
def test_a_small_disk_that_fills_up(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        lake = Lake(disk / "lake")
        lake.write("us", "1d", BARS)
        big = make_bars(pd.bdate_range("2024-01-10", periods=400), [f"S{i}" for i in range(40)])
        with pytest.raises(DataError, match="disk is full"):
            lake.write("us", "1d", big)
        assert lake.read("us").equals(BARS) and not list(lake.folder.rglob(".*.[0-9]*"))
        lake.write("us", "1d", MORE)
        assert lake.read("us").equals(pd.concat([BARS, MORE]))
    finally:
        subprocess.run(["umount", disk], check=True)


READER = """
import os, sys
sys.path.insert(0, {tests!r})
from test_files import BARS, MORE
from quantlab.data.store import Lake
Lake({folder!r}).sql("SELECT * FROM us_1d")  # whatever is imported late is imported while it may be
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
lake = Lake({folder!r})
print(lake.read("us").equals(BARS), len(lake.sql("SELECT * FROM us_1d")), len(lake.datasets()))
for name in ("us", "new"):
    try:
        lake.write(name, "1d", MORE)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_folder_that_may_not_be_written_is_still_read(lake):
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        folder = shutil.copytree(lake.folder, Path(public) / "lake")
        subprocess.run(["chmod", "-R", "a+rX,a-w", folder], check=True)
        program = READER.format(tests=str(Path(__file__).parent), folder=str(folder))
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    lines = said.stdout.splitlines()
    assert lines[:1] == ["True 24 1"] and len(lines) == 3, said
    assert all(
        "cannot be written, what was stored is as it was" in line and "rights do not allow it" in line
        for line in lines[1:]
    ), lines


# --- files where folders are meant, and the other way round ------------------------------------------------------


def test_files_in_the_place_of_folders_are_named(tmp_path):
    (tmp_path / "lake").write_text("a note")
    for call in (
        lambda x: x.write("us", "1d", BARS),
        lambda x: x.read("us"),
        lambda x: x.datasets(),
        lambda x: x.sql("SELECT 1"),
    ):
        with pytest.raises(DataError, match="is a file, where the folder of the lake is meant") as error:
            call(Lake(tmp_path / "lake"))
        one_line(error)
    with pytest.raises(DataError, match="a file lies where a folder is meant"):
        Lake(tmp_path / "lake" / "deeper").write("us", "1d", BARS)
    lake = Lake(tmp_path / "other")
    lake.folder.mkdir()
    (lake.folder / "dataset=us").write_text("a note")
    with pytest.raises(DataError, match="'us' cannot be written.*a file lies where a folder is meant"):
        lake.write("us", "1d", BARS)
    lake.write("uk", "1d", BARS)
    home = lake.folder / "dataset=uk"
    shutil.rmtree(home / "interval=1d")
    (home / "interval=1d").write_text("a note")
    with pytest.raises(DataError, match="cannot be read") as error:
        lake.read("uk")
    one_line(error)
    (home / "manifest.json").unlink()
    (home / "manifest.json").mkdir()
    with pytest.raises(DataError, match="a folder lies where a file is meant") as error:
        lake.read("uk")
    one_line(error)
    assert (lake.folder / "dataset=us").read_text() == (home / "interval=1d").read_text() == "a note"


# --- manifests that anyone may have edited -----------------------------------------------------------------------


def damaged(manifest):
    "Ways to spoil a manifest, by name."
    period = manifest["intervals"]["1d"]["periods"]["2024"]
    text = json.dumps(manifest)
    yield "half", text[: len(text) // 2]
    yield "empty", ""
    yield "list", "[]"
    yield "null", "null"
    yield "binary", "\x00\x01"
    yield "no intervals", json.dumps(manifest | {"intervals": None})
    yield "no periods", json.dumps(manifest | {"intervals": {"1d": manifest["intervals"]["1d"] | {"periods": {}}}})
    yield "other dataset", json.dumps(manifest | {"dataset": "../../etc"})
    yield "interval", text.replace('"1d"', '"../1d"')
    yield "period", text.replace('"2024"', '"../../2024"')
    yield "hash of a path", text.replace(period["hash"], "../../../../../../etc/passwd")
    yield "other hash", text.replace(period["hash"], "0" * 16)
    yield "rows", text.replace('"rows": 16', '"rows": "16"').replace('"rows": 8', '"rows": "8"')
    yield "first", text.replace(period["first"], "soon")
    yield "columns", json.dumps(manifest | {"intervals": {"1d": manifest["intervals"]["1d"] | {"columns": "open"}}})


def test_damaged_manifests_are_named_and_hide_nobody(lake):
    lake.write("uk", "1d", BARS)
    lake.write("crypto", "1h", make_bars(pd.date_range("2024-01-01 01:00", periods=3, freq="1h", tz="UTC"), ["X"]))
    file = lake.folder / "dataset=us" / "manifest.json"
    whole = file.read_text()
    for name, text in damaged(json.loads(whole)):
        file.write_text(text)
        for call in (
            lambda: lake.read("us"),
            lambda: lake.manifest("us"),
            lambda: lake.write("us", "1d", MORE),
            lambda: lake.sql("SELECT * FROM us_1d"),
            lambda: verify(lake, "us"),
        ):
            with pytest.raises(DataError, match="the manifest of 'us' is damaged: .*restore it") as error:
                call()
            one_line(error)
        listed = lake.datasets()
        assert listed["dataset"].tolist() == ["crypto", "uk", "us"] and listed["rows"].tolist() == [3, 24, 0], name
        assert listed["fault"].tolist()[:2] == ["", ""] and "damaged" in listed["fault"].iloc[2]
        assert len(lake.sql("SELECT * FROM uk_1d")) == 24 and lake.read("uk").equals(BARS)
        assert file.read_text() == text
    file.write_text(whole)
    assert lake.read("us").equals(BARS) and "fault" not in lake.datasets().columns


def test_a_list_of_daily_and_intraday_bars_has_dates_that_go_together(lake):
    lake.write("crypto", "5min", make_bars(pd.date_range("2024-01-01 01:00", periods=3, freq="5min", tz="UTC"), ["X"]))
    listed = lake.datasets()
    assert pd.to_datetime(listed["first"]).tolist() == [pd.Timestamp("2024-01-01 01:00"), pd.Timestamp("2023-12-20")]


# --- links and files of others -----------------------------------------------------------------------------------


def test_the_store_removes_only_what_it_wrote(lake, tmp_path):
    home = lake.folder / "dataset=us"
    period = home / "interval=1d" / "period=2024"
    (stored,) = period.glob("*.parquet")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("a" * 16 + ".parquet")).write_bytes(stored.read_bytes())
    mine = ["notes.txt", ".hidden", "copy.parquet", "manifest.json.bak", "interval=1d/readme",
    "interval=1d/period=2024/mine.parquet", "interval=1d/period=2024/.draft",
            "interval=1d/period=2024/0123456789abcdef.parquet", "interval=1d/period=2024/fedcba9876543210.parquet",
            "interval=1d/period=2024/.mine.parquet.77", "deep/er/0123456789abcdef.parquet"]  # fmt: skip
    for name in mine:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"mine")
    shutil.copy(stored, period / "fedcba9876543210.parquet")  # a copy of ours under a name like ours
    (home / "interval=1w").symlink_to(outside)
    (period / ("b" * 16 + ".parquet")).symlink_to(outside / ("a" * 16 + ".parquet"))
    (home / "interval=1d" / "period=2025").symlink_to(outside)
    far = tree(outside)
    for k in range(2, 6):
        lake.write("us", "1d", BARS * k, revise=True)
    assert {*mine} <= tree(home).keys() and tree(outside) == far and not stored.exists()
    orphan = period / f".{stored.name}.4711"
    orphan.write_bytes(b"half")
    lake.write("us", "1d", BARS * 9, revise=True)
    assert (
        not orphan.exists()
        and len(
            [f for f in period.glob("*.parquet") if not f.is_symlink() and f.name not in {Path(n).name for n in mine}]
        )
        == 2
    )


def test_files_of_an_older_lake_without_marks_are_read_checked_and_removed(lake):
    import pyarrow.parquet as pq

    file = lake.folder / "dataset=us" / "manifest.json"
    manifest = json.loads(file.read_text())
    for stored in lake.folder.rglob("*.parquet"):
        pq.write_table(pq.read_table(stored).replace_schema_metadata(None), stored)
    for entry in manifest["intervals"]["1d"]["periods"].values():
        del entry["file"]
    file.write_text(json.dumps(manifest))
    assert lake.read("us").equals(BARS)
    for k in (2, 3, 4):
        lake.write("us", "1d", BARS * k, revise=True)
    assert (
        len(list(lake.folder.rglob("*.parquet"))) == 4
        and "file" in lake.manifest("us")["intervals"]["1d"]["periods"]["2024"]
    )
    Lake(lake.folder).write("us", "1d", MORE)


def test_links_are_not_followed(lake, tmp_path):
    other = Lake(tmp_path / "other")
    other.write("us", "1d", BARS)
    home, far = lake.folder / "dataset=us", tree(other.folder)
    for part in ("interval=1d/period=2024", "interval=1d", "."):
        here, there = home / part, other.folder / "dataset=us" / part
        moved = here.rename(tmp_path / "moved")
        here.symlink_to(there)
        for call in (
            lambda: lake.read("us"),
            lambda: lake.sql("SELECT * FROM us_1d"),
            lambda: lake.write("us", "1d", MORE),
        ):
            with pytest.raises(DataError, match="is a link"):
                call()
        here.unlink()
        moved.rename(here)
    (home / "manifest.json").rename(tmp_path / "kept")
    (home / "manifest.json").symlink_to(other.folder / "dataset=us" / "manifest.json")
    with pytest.raises(DataError, match="is a link"):
        lake.read("us")
    (home / "manifest.json").unlink()
    (tmp_path / "kept").rename(home / "manifest.json")
    target = tmp_path / "target"
    target.write_text("precious")
    for name in (".lock", f".manifest.json.{os.getpid()}"):
        (home / name).unlink(missing_ok=True)
        (home / name).symlink_to(target)
        try:
            lake.write("us", "1d", MORE * (1 + len(name)), revise=True)
        except DataError as error:
            assert "is a link" in str(error)
        (home / name).unlink(missing_ok=True)
        assert target.read_text() == "precious"
    assert tree(other.folder) == far
    (tmp_path / "way").symlink_to(lake.folder)
    assert len(Lake(tmp_path / "way").read("us")) > 0, "the lake's own folder may be reached by a link"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/etc", "a\0b", "a\nb"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(DataError, match="no plain name"):
        inside(tmp_path.resolve(), "dataset=x", name)


@pytest.mark.parametrize("name", ["../us", "us/../us", "", "US", ".", "us\0", "us;drop"])
def test_no_name_leads_out_of_the_lake(lake, name):
    for call in (lambda: lake.read(name), lambda: lake.manifest(name), lambda: lake.write(name, "1d", BARS)):
        with pytest.raises(QuantlabError, match="no dataset|cannot name"):
            call()


# --- contents ----------------------------------------------------------------------------------------------------


def test_every_byte_of_a_file_is_compared_once(lake, monkeypatch):
    read, compared = files.sha256, []
    monkeypatch.setattr("quantlab.data.store.sha256", lambda file: compared.append(file.parent.name) or read(file))
    files._TRUSTED.clear()
    for _ in range(3):
        lake.read("us")
        Lake(lake.folder).sql("SELECT * FROM us_1d")
        lake.read("us", start="2024-01-02")
    assert sorted(compared) == ["period=2023", "period=2024"]
    (file,) = lake.folder.rglob("period=2024/*.parquet")
    content = bytearray(file.read_bytes())
    for place in (4, len(content) // 2, len(content) - 9):
        spoilt = content.copy()
        spoilt[place] ^= 1
        file.write_bytes(spoilt)
        for call in (
            lambda: lake.read("us"),
            lambda: lake.sql("SELECT * FROM us_1d"),
            lambda: lake.write("us", "1d", MORE),
        ):
            with pytest.raises(DataError, match="us/1d/2024 is not what was written: .*revise=True"):
                call()
        assert lake.read("us", end="2023-12-31").equals(BARS.loc[:"2023-12-31"]), "the other year is whole"
    with pytest.warns(UserWarning, match="16 rows are replaced|rows are replaced"):
        lake.write("us", "1d", BARS, revise=True)  # the remedy that the message names
    assert lake.read("us").equals(BARS) and len(verify(lake, "us")) == 2


def test_a_file_that_is_gone_can_be_written_again(lake):
    (file,) = lake.folder.rglob("period=2024/*.parquet")
    file.unlink()
    for call in (
        lambda: lake.read("us"),
        lambda: lake.sql("SELECT * FROM us_1d"),
        lambda: lake.write("us", "1d", BARS),
    ):
        with pytest.raises(DataError, match="is gone.*revise=True") as error:
            call()
        one_line(error)
    with pytest.warns(UserWarning, match="rows are replaced"):
        lake.write("us", "1d", BARS.loc["2024":], revise=True)
    assert lake.read("us").equals(BARS)


def test_once_looks_again_when_a_file_was_touched(tmp_path):
    file, seen = tmp_path / "x", []
    put(file, lambda out: out.write(b"1"))
    for _ in range(3):
        once(file, seen.append)
    os.utime(file, ns=(1, 1))
    once(file, seen.append)
    assert len(seen) == 2
    with pytest.raises(FileNotFoundError):
        once(tmp_path / "y", seen.append)


# --- SQL ---------------------------------------------------------------------------------------------------------

BEYOND = [
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "FROM read_text('/etc/passwd')",
    "FROM read_blob('/etc/hosts')", "FROM glob('/etc/*')",
    "FROM read_parquet('{sample}')", "FROM parquet_metadata('{sample}')",
    "FROM read_parquet('{folder}/*/*/*/*.parquet')", "FROM read_json_auto('/etc/hosts')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM us_1d JOIN read_csv('/etc/passwd') b ON true",
    "WITH x AS (FROM read_csv('/etc/passwd')) SELECT * FROM x, us_1d",
    "FROM read_parquet('https://example.com/x.parquet')",
    "COPY us_1d TO '{out}'", "COPY (SELECT 1) TO '{out}'", "SELECT 1; COPY us_1d TO '{out}'", "EXPORT DATABASE '{out}'",
    "ATTACH '{out}'", "INSTALL httpfs", "LOAD httpfs",
    "SET threads = 1", "SET enable_external_access = true", "RESET allowed_paths", "PRAGMA threads = 1",
    "CALL pragma_version()", "CREATE TABLE t (x integer)", "DROP VIEW us_1d",
    "SELECT * FROM bars", "SELECT * FROM query('COPY us_1d TO ''{out}''')", "SELECT getenv('HOME')",
    "SELECT 1; SELECT 2", "", ";",
]  # fmt: skip


@pytest.mark.parametrize("query", BEYOND)
def test_sql_sees_tables_and_nothing_else(lake, query, tmp_path):
    bars = BARS  # noqa: F841  (a variable that a replacement scan would find)
    sample = Path(__file__).resolve().parents[2] / "data" / "sample" / "us_bars.parquet"
    out = tmp_path / "out"
    with pytest.raises(DataError) as error:
        lake.sql(query.format(sample=sample, folder=lake.folder, out=out))
    one_line(error)
    assert not out.exists() and lake.read("us").equals(BARS)


def test_sql_answers_what_it_should(lake):
    assert (
        lake.sql("SELECT count(*) AS n FROM US_1D")["n"][0] == 24
        and len(lake.sql("FROM us_1d")) == 24
        and len(lake.sql("SUMMARIZE us_1d")) == 7
    )
    assert (
        lake.sql("SELECT 1 + 1 AS two")["two"][0] == 2
        and len(lake.sql("SELECT * FROM us_1d a JOIN us_1d b USING (date, symbol)")) == 24
    )
    assert (
        lake.sql(
            "WITH x AS (SELECT symbol, avg(close) OVER (PARTITION BY symbol) FROM us_1d) SELECT count(*) AS n FROM x"
        )["n"][0]
        == 24
    )


@pytest.mark.parametrize("months", [24, pytest.param(600, marks=pytest.mark.slow)])
def test_sql_reads_a_lake_of_many_files(tmp_path, months):
    lake = Lake(tmp_path / "it's a lake")
    bars = make_bars(
        pd.date_range("1975-01-31", periods=months, freq="ME").tz_localize("UTC"), ["A"]
    )  # one file a month
    lake.write("long", "5min", bars)
    assert len(list(lake.folder.rglob("*.parquet"))) == months
    answer = lake.sql("SELECT count(*) AS n, max(date) AS last FROM long_5min")
    assert answer["n"][0] == months and answer["last"][0] == bars.index[-1][0]


def test_sql_starts_over_when_a_writer_took_its_files_away(lake, monkeypatch):
    import duckdb

    from quantlab.data import store

    sandbox = store._sandbox

    tries = []

    def overtaken(views):
        tries.append(views)
        if len(tries) < 10:
            lake.write("us", "1d", BARS * (1 + len(tries) % 2), revise=True)
            raise duckdb.IOException("No files found that match the pattern")
        return sandbox(views)

    monkeypatch.setattr(store, "_sandbox", overtaken)
    assert lake.sql("SELECT max(close) AS c FROM us_1d")["c"][0] == 2 * BARS["close"].max()

    def gone(views):
        tries.append(views)
        raise duckdb.IOException("the disk is gone\nsecond line")

    monkeypatch.setattr(store, "_sandbox", gone)  # and no writer came between
    with pytest.raises(DataError, match=r"the query failed \(.*the disk is gone\); the tables are us_1d"):
        lake.sql("SELECT 1 FROM us_1d")
    assert len(tries) == 11  # ten for the writer, and one that no try can mend


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": "5"},
        {"rows": True},
        {"hash": "0" * 15},
        {"hash": "G" * 16},
        {"file": "0" * 63},
        {"first": "yesterday"},
        {"last": 3},
        None,
        [],
        "x",
    ],
)
def test_a_description_of_a_period_is_whole(lake, wrong):
    file = lake.folder / "dataset=us" / "manifest.json"
    manifest = json.loads(file.read_text())
    periods = manifest["intervals"]["1d"]["periods"]
    periods["2023"] = periods["2023"] | wrong if isinstance(wrong, dict) else wrong
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="manifest of 'us' is damaged: 1d/'2023' is no description of a period"):
        lake.read("us")


def test_a_lake_waits_a_minute_and_reads_daily_bars_unless_told(lake, tmp_path):
    assert Lake(tmp_path).timeout == 60.0
    pd.testing.assert_frame_equal(lake.read("us"), lake.read("us", "1d", None, None, None, None))
    assert lake.write("us", "1d", MORE) == lake.manifest("us")["hash"] and lake.manifest("us")["version"] == 2
    assert (
        lake.write("us", "1d", MORE) == lake.manifest("us")["hash"] and lake.manifest("us")["version"] == 2
    )  # nothing new, no new version


def test_periods_are_years_of_slow_bars_and_months_of_fast_ones():
    from quantlab.data.store import entry, periods

    days = make_bars(pd.to_datetime(["2023-12-28", "2023-12-29", "2024-01-02"]), ["A", "B"])
    assert {k: len(v) for k, v in periods(days, "1d").items()} == {"2023": 4, "2024": 2} and periods(
        days.iloc[:0], "1d"
    ) == {}
    hours = make_bars(
        pd.to_datetime(["2023-12-31 23:00", "2024-01-01 00:00", "2024-02-01 00:00"]).tz_localize("UTC"), ["A"]
    )
    assert list(periods(hours, "1h")) == list(periods(hours, "30min")) == ["2023", "2024"]
    assert list(periods(hours, "15min")) == list(periods(hours, "1min")) == ["2023-12", "2024-01", "2024-02"]
    said = entry(periods(days, "1d")["2023"])
    assert (said["rows"], said["first"], said["last"]) == (4, "2023-12-28T00:00:00", "2023-12-29T00:00:00")


@pytest.mark.parametrize(
    "part", ["x", [], {"periods": ["2023"]}, {"periods": {}}, {"columns": [], "symbols": []}, None]
)
def test_an_interval_of_a_manifest_has_its_periods(lake, part):
    file = lake.folder / "dataset=us" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["intervals"]["1d"] = part
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="manifest of 'us' is damaged: its interval '1d' has no periods or is none"):
        lake.read("us")


def test_the_listing_shows_moments_without_their_zone(lake):
    lake.write(
        "us", "5min", make_bars(pd.to_datetime(["2024-01-02 15:05", "2024-01-02 15:10"]).tz_localize("UTC"), ["A"])
    )
    table = lake.datasets().set_index("interval")
    assert table.loc["5min", ["first", "last"]].tolist() == ["2024-01-02T15:05:00", "2024-01-02T15:10:00"]
    assert table.loc["1d", ["symbols", "rows", "first", "last"]].tolist() == [
        2,
        24,
        "2023-12-20T00:00:00",
        "2024-01-04T00:00:00",
    ]


def test_formulas_are_written_as_they_are_where_that_is_asked(tmp_path):
    risky = pd.DataFrame({"symbol": ["=cmd|' /C calc'!A0", "BRK-B"], "return": [-0.1, 0.4]})
    write_csv(risky, tmp_path / "raw.csv", formulas=True)
    assert pd.read_csv(tmp_path / "raw.csv")["symbol"].tolist() == risky["symbol"].tolist()
    texts = ("+1", "-1.5e3", "-", "\t=1", "＝1", 3, None, "")
    assert [plain_text(t) for t in texts] == ["+1", "-1.5e3", "'-", "'\t=1", "'＝1", 3, None, ""]


def test_a_single_row_joins_what_is_there_and_a_damaged_neighbour_hides_nobody(lake):
    row = make_bars(pd.to_datetime(["2024-02-01"]), ["A"])
    lake.write("us", "1d", row)
    lake.write("us", "1d", row)
    pd.testing.assert_frame_equal(lake.read("us", symbols=["A"], start="2024-02-01"), row)
    lake.write("aa", "1d", BARS)
    (lake.folder / "dataset=aa" / "manifest.json").write_text("{")
    assert lake.sql("SELECT count(*) AS n FROM us_1d")["n"][0] == 25
    with pytest.raises(DataError, match="manifest of 'aa' is damaged"):
        lake.sql("SELECT count(*) AS n FROM aa_1d")
