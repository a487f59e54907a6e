"""data.store and data.postgres: one suite for both stores, and writers that are really killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.postgres import Postgres, from_text, to_text
from quantlab.data.seams import Disagreement, over
from quantlab.data.store import Lake, _place, entry, periods, verify

sys.path.insert(0, str(Path(__file__).parent))
from writers import make_bars, version  # noqa: E402


def days(n, start="2023-12-20"):
    return pd.bdate_range(start, periods=n)


@pytest.fixture(params=["lake", "postgres"])
def store(request, tmp_path):
    if request.param == "lake":
        yield Lake(tmp_path / "lake", timeout=5)
        return
    import psycopg

    dsn = request.getfixturevalue("postgres_server")
    yield Postgres(dsn, timeout=5)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


# --- the same suite for both -------------------------------------------------------------------------------------


def test_rows_come_back_as_they_went(store):
    bars = make_bars(days(30), ["B", "A", "NA"], adj=0.9)
    bars.loc[bars.index[3], "volume"] = np.nan
    content = store.write("us", "1d", bars)
    pd.testing.assert_frame_equal(store.read("us"), bars, check_exact=True)
    manifest = store.manifest("us")
    assert (
        manifest["hash"] == content
        and manifest["version"] == 1
        and manifest["intervals"]["1d"]["symbols"] == ["A", "B", "NA"]
    )
    assert {p: e["rows"] for p, e in manifest["intervals"]["1d"]["periods"].items()} == {
        p: len(b) for p, b in periods(bars, "1d").items()
    }
    assert verify(store, "us")["rows"].sum() == 90


def test_ranges_symbols_and_columns(store):
    bars = make_bars(days(300, "2022-11-01"), ["A", "B", "C"], adj=0.5)
    store.write("us", "1d", bars)
    dates = bars.index.get_level_values("date")
    for start, end in [
        ("2022-12-30", "2023-01-03"),
        (None, "2022-11-02"),
        ("2023-06-01", None),
        ("2023-01-01", "2023-01-01"),
    ]:
        keep = (dates >= pd.Timestamp(start or "1900")) & (dates <= pd.Timestamp(end or "2100"))
        want = bars[keep & bars.index.isin(["C", "A"], level="symbol")][["adj", "close"]]
        found = store.read("us", symbols=["C", "A", "unknown"], start=start, end=end, columns=["adj", "close"])
        pd.testing.assert_frame_equal(found, want, check_exact=True)
        assert found.index.levels[1].isin(["A", "C"]).all()
    assert store.read("us", symbols=[]).empty and store.read("us", start="2031-01-01").empty
    assert list(store.read("us", symbols=[]).columns) == list(bars.columns)


def test_upsert_is_idempotent_and_replaces_whole_rows(store):
    bars = make_bars(days(20), ["A", "B"])
    first = store.write("us", "1d", bars)
    assert store.write("us", "1d", bars) == first and store.manifest("us")["version"] == 1
    change = make_bars(days(25)[18:], ["B", "C"], seed=1)
    with pytest.raises(Disagreement, match="B on"):
        store.write("us", "1d", change)
    assert store.manifest("us")["hash"] == first
    second = store.write("us", "1d", change, revise=True)
    assert second != first and store.write("us", "1d", change) == second
    pd.testing.assert_frame_equal(store.read("us"), over(bars, change), check_exact=True)
    assert store.write("us", "1d", bars.iloc[:0]) == second
    verify(store, "us")


def test_intervals_lie_side_by_side(store):
    daily, moments = make_bars(days(5), ["A"]), pd.date_range("2024-01-31 22:00", periods=50, freq="5min", tz="UTC")
    store.write("us", "1d", daily)
    intraday = make_bars(moments, ["A", "B"])
    store.write("us", "5min", intraday)
    pd.testing.assert_frame_equal(store.read("us", "1d"), daily, check_exact=True)
    pd.testing.assert_frame_equal(store.read("us", "5min"), intraday, check_exact=True)
    assert list(store.manifest("us")["intervals"]["5min"]["periods"]) == ["2024-01", "2024-02"]
    part = store.read("us", "5min", start="2024-01-31 23:00Z", end="2024-02-01 00:00+00:00")
    assert part.index.levels[0][0] == moments[12] and part.index.levels[0][-1] == moments[24]
    listed = store.datasets()
    assert (
        listed["interval"].tolist() == ["1d", "5min"]
        and listed["rows"].tolist() == [5, 100]
        and listed["symbols"].tolist() == [1, 2]
    )


def test_sql_sees_what_is_committed(store):
    bars = make_bars(days(20), ["A", "B"])
    store.write("us", "1d", bars * 1)
    store.write("us", "1d", bars * 2, revise=True)
    answer = store.sql("SELECT symbol, sum(close) AS total, count(*) AS n FROM us_1d GROUP BY symbol ORDER BY symbol")
    np.testing.assert_allclose(answer["total"], (bars["close"] * 2).groupby(level="symbol").sum())
    assert answer["n"].tolist() == [20, 20]
    with pytest.raises(DataError, match="us_1d"):
        store.sql("SELECT * FROM nothing")
    with pytest.raises(DataError, match="SELECT|read-only"):
        store.sql("CREATE TABLE mine (x integer)")


def test_both_stores_give_the_same_hash(store, tmp_path):
    bars, other = make_bars(days(20), ["A", "B"]), Lake(tmp_path / "other")
    content = [s.write("us", "1d", part, revise=True) for s in (store, other) for part in (bars, bars.iloc[:3] * 2)]
    assert content[:2] == content[2:]
    manifests = [s.manifest("us") for s in (store, other)]
    for manifest in manifests:
        for period in manifest["intervals"]["1d"]["periods"].values():
            period.pop("file", None)  # the lake also keeps the hash of the bytes
    assert manifests[0] == manifests[1]
    pd.testing.assert_frame_equal(store.datasets(), other.datasets())


def test_stores_refuse(store):
    bars = make_bars(days(5), ["A"])
    store.write("us", "1d", bars)
    moment = make_bars(pd.date_range("2024-01-02 15:00", periods=2, freq="1h", tz="UTC"), ["A"])
    for call, error, said in [
        (lambda: store.write("us", "1h", bars), DataError, "intraday bars their end in UTC"),
        (lambda: store.write("us", "1d", moment), DataError, "daily bars carry plain dates"),
        (lambda: store.write("us", "1d", bars.assign(adj=1.0)), DataError, "has the columns"),
        (lambda: store.write("us", "1d", bars.assign(high=bars["low"] / 2)), DataError, "high < low: 5 row"),
        (lambda: store.write("us", "1d", bars.assign(note="x")), DataError, "hold no numbers"),
        (lambda: store.write("US; drop", "1d", bars), ConfigError, "cannot name"),
        (lambda: store.write("us", "2d", bars), ConfigError, "no interval '2d'"),
        (lambda: store.read("uk"), DataError, "it has: us"),
        (lambda: store.manifest("uk"), DataError, "no dataset 'uk'"),
        (lambda: store.read("us", "1h"), DataError, "it has 1d"),
        (lambda: store.read("us", columns=["vwap"]), DataError, "vwap"),
    ]:
        with pytest.raises(error, match=said):
            call()
    pd.testing.assert_frame_equal(store.read("us"), bars, check_exact=True)


def test_an_empty_store_lists_nothing(store):
    assert store.datasets().empty
    with pytest.raises(DataError, match="nothing"):
        store.manifest("us")


@pytest.mark.parametrize("split", [False, True])
def test_a_second_delivery_is_rebased_or_refused(store, split):
    "The same law in both stores: over two files of different vintages the returns stay those of the history."
    truth = make_bars(days(30), ["A", "B"])
    truth = truth.assign(adj=1.0) if not split else truth.assign(split=1.0)
    factor, prices = ("split" if split else "adj"), ["open", "high", "low", "close"]
    early, late = truth.loc[: days(30)[20]], truth.loc[days(30)[12] :]
    old = early.assign(
        **{factor: np.where(early.index.get_level_values("symbol") == "A", 0.5, 1.0)}
    )  # A had an event since
    store.write("us", "1d", old)
    with pytest.warns(
        UserWarning,
        match=rf"us/1d: 1 symbol\(s\) came on another price level.*stored rows were re-based \(A: {factor} x 2\)",
    ):
        content = store.write("us", "1d", late)
    assert store.read("us").equals(truth) and store.write("us", "1d", late) == content
    with pytest.warns(UserWarning, match="new rows were re-based"):
        assert store.write("us", "1d", old) == content
    wrong = late.copy()
    wrong.loc[(days(30)[15], "B"), "low"] *= 0.9
    with pytest.raises(
        Disagreement, match=rf"us/1d: .*B on {days(30)[15]:%Y-%m-%d}: low is .*stored is .*nothing was stored"
    ):
        store.write("us", "1d", wrong)
    assert store.manifest("us")["hash"] == content and store.read("us").equals(truth)
    store.write("us", "1d", wrong, revise=True)
    assert store.read("us").equals(over(truth, wrong))
    adjusted = late.assign(
        **{c: late[c] * 0.25 for c in prices}, volume=late["volume"] * 4
    )  # a vendor without factors, after a split
    bare = [frame.drop(columns=factor) for frame in (early, adjusted)]
    store.write("bare", "1d", bare[0])
    with pytest.warns(UserWarning, match=r"price x 0.25, volume x 4"):
        store.write("bare", "1d", bare[1])
    whole = store.read("bare")
    np.testing.assert_allclose(whole["close"], truth["close"] * 0.25)
    np.testing.assert_allclose(whole["volume"], truth["volume"] * 4)
    verify(store, "bare")


def test_weeks_and_months_are_intervals(store):
    fridays, ends = (
        make_bars(pd.to_datetime(["2023-12-29", "2024-01-05", "2024-01-12"]), ["A"]),
        make_bars(pd.to_datetime(["2023-11-30", "2024-01-31"]), ["A"]),
    )
    store.write("us", "1w", fridays)
    store.write("us", "1mo", ends)
    quarter = make_bars(pd.date_range("2024-01-31 23:45", periods=3, freq="15min", tz="UTC"), ["A"])
    store.write("us", "15min", quarter)
    for interval, bars in (("1w", fridays), ("1mo", ends), ("15min", quarter)):
        pd.testing.assert_frame_equal(store.read("us", interval), bars, check_exact=True)
    listed = store.datasets().set_index("interval")["first"]
    assert listed["1w"] == "2023-12-29T00:00:00" and listed["15min"] == "2024-01-31T23:45:00"
    assert list(store.manifest("us")["intervals"]["15min"]["periods"]) == ["2024-01", "2024-02"]
    assert list(store.manifest("us")["intervals"]["1mo"]["periods"]) == ["2023", "2024"]
    assert store.sql("SELECT count(*) AS n FROM us_1w")["n"][0] == 3
    with pytest.raises(DataError, match="plain dates"):
        store.write("us", "1w", quarter)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 8), st.sampled_from(["A", "AB", "B", "ABC"])), max_size=4))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_of_upserts_equals_the_frame(writes):
    with tempfile.TemporaryDirectory() as folder:
        lake, model = Lake(folder), None
        for seed, (start, n, names) in enumerate(writes):
            piece = make_bars(pd.date_range("2023-12-25", periods=20)[start : start + n], list(names), seed)
            model = piece if model is None else over(model, piece)
            lake.write("us", "1d", piece, revise=True)
            pd.testing.assert_frame_equal(lake.read("us"), model, check_exact=True)
        if writes:
            assert verify(lake, "us")["rows"].sum() == len(model)


def test_text_is_exact():
    "The numbers that are hardest to write down come back from CSV to the last bit."
    bars = make_bars(days(200), ["A"])
    bars["extra"] = np.random.default_rng(1).integers(0, 2**63, 200).view("float64")
    bars["extra"] = bars["extra"].where(np.isfinite(bars["extra"]))
    pd.testing.assert_frame_equal(from_text(to_text(bars), bars.columns, None), bars, check_exact=True)


# --- what only the lake does -------------------------------------------------------------------------------------


def test_append_touches_one_file(tmp_path):
    lake, bars = Lake(tmp_path), make_bars(pd.bdate_range("2019-01-01", "2023-12-28"), ["A", "B"])
    lake.write("us", "1d", bars)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.parquet")}
    lake.write("us", "1d", make_bars(["2023-12-29"], ["A", "B"]))
    after = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.parquet")}
    assert len(before) == 5 and before.items() <= after.items() and len(after) == 6


def test_files_are_collected_but_never_a_readers(tmp_path):
    lake, bars = Lake(tmp_path), make_bars(days(5, "2024-01-02"), ["A"])
    for k in range(5):
        lake.write("us", "1d", bars * (k + 1), revise=True)
        assert len(list(tmp_path.rglob("*.parquet"))) == min(k + 1, 2)  # the current one and the one before
    (tmp_path / "dataset=us" / ".manifest.json.999").write_text("half")
    slow = lake.manifest("us")
    lake.write("us", "1d", bars * 9, revise=True)
    e = slow["intervals"]["1d"]["periods"]["2024"]
    assert _place(lake.folder, "us", "1d", "2024", e["hash"]).is_file() and not list(tmp_path.rglob(".manifest*"))


def test_reader_starts_over_when_two_commits_overtake_it(tmp_path, monkeypatch):
    lake, bars = Lake(tmp_path), make_bars(days(5, "2024-01-02"), ["A"])
    lake.write("us", "1d", bars)
    manifest = Lake.manifest

    def overtaken(self, dataset):
        answer = manifest(self, dataset)
        monkeypatch.setattr(Lake, "manifest", manifest)
        for k in (2, 3):
            lake.write("us", "1d", bars * k, revise=True)
        return answer

    monkeypatch.setattr(Lake, "manifest", overtaken)
    pd.testing.assert_frame_equal(lake.read("us"), bars * 3, check_exact=True)


def test_damage_is_named(tmp_path):
    lake, bars = Lake(tmp_path), make_bars(days(5, "2024-01-02"), ["A"])
    lake.write("us", "1d", bars)
    (file,) = tmp_path.rglob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="us/1d/2024 is not what was written"):
        lake.read("us")
    Lake(tmp_path / "b").write("us", "1d", bars * 2)
    (foreign,) = (tmp_path / "b").rglob("*.parquet")
    shutil.copy(foreign, file)
    with pytest.raises(DataError, match="us/1d/2024 is not what was written"):
        verify(lake, "us")
    file.unlink()
    with pytest.raises(DataError, match="is gone"):
        lake.read("us")


# --- writers that die --------------------------------------------------------------------------------------------


class Nursery:
    "Start writers and hear what they say."

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("writers.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hear(self, word):
        "Return what was said before a word, and what came with it."
        before = []
        for line in self.process.stdout:
            said, value = line.split() if " " in line else (line.strip(), "")
            if said == word:
                return before, value
            before.append((said, value))
        raise AssertionError(f"the writers ended before they said '{word}'")


@pytest.fixture(scope="module")
def nursery():
    one = Nursery()
    yield one
    one.process.stdin.close()
    one.process.wait(20)


def kill_rounds(nursery, folder, rounds, seed):
    """Kill a writer at random moments; after each death the lake holds what was acknowledged, or that and the write
    under way."""
    rng, lake, model, acknowledged, unsaid = np.random.default_rng(seed), Lake(folder, timeout=5), None, -1, 0
    for _ in range(rounds):
        nursery.ask(f"write {folder} {acknowledged + 1}")
        before, pid = nursery.hear("pid")
        early, first = (before, None) if before else nursery.hear("done")
        time.sleep(rng.uniform(0, 0.15))
        os.kill(int(pid), signal.SIGKILL)
        nursery.ask(f"reap {pid}")
        later, status = nursery.hear("dead")
        heard = [int(k) for word, k in [*before, *early, ("done", first), *later] if word == "done" and k is not None]
        assert (
            int(status) == -signal.SIGKILL
            and heard == list(range(acknowledged + 1, acknowledged + 1 + len(heard)))
            and heard
        )
        for k in heard:
            model = version(k) if model is None else over(model, version(k))
        acknowledged = heard[-1]
        found = lake.read("us")
        if not found.equals(model):  # the commit was made, its acknowledgement was not
            acknowledged, unsaid = acknowledged + 1, unsaid + 1
            model = over(model, version(acknowledged))
            pd.testing.assert_frame_equal(found, model, check_exact=True)
        assert verify(lake, "us")["rows"].sum() == len(model)
    return acknowledged + 1, unsaid


def test_killed_writers_lose_nothing(nursery, tmp_path):
    writes, _ = kill_rounds(nursery, tmp_path, 15, seed=1)
    assert writes >= 15


@pytest.mark.slow
def test_two_hundred_killed_writers_lose_nothing(nursery, tmp_path):
    writes, _ = kill_rounds(nursery, tmp_path, 200, seed=2)
    assert writes >= 200


def two_writers(nursery, folder, rounds):
    pids = []
    for name in ("LEFT", "RIGHT"):
        nursery.ask(f"rival {folder} {name} {rounds}")
        pids.append(nursery.hear("pid")[1])
    lake, seen = Lake(folder), 0
    deadline = time.monotonic() + 30 + 3 * rounds
    while time.monotonic() < deadline:  # a reader in the middle of it sees whole states
        if lake.folder.joinpath("dataset=us", "manifest.json").is_file():
            rows = lake.read("us").groupby(level="symbol").size()
            assert (rows % 2 == 0).all() and rows.sum() >= seen
            seen = rows.sum()
        if seen == 6 * rounds:
            break
        time.sleep(0.02)
    for pid in pids:
        nursery.ask(f"reap {pid}")
        assert nursery.hear("dead")[1] == "0"
    assert lake.read("us").groupby(level="symbol").size().to_dict() == dict.fromkeys(
        ["LEFT", "RIGHT", "SHARED"], 2 * rounds
    )
    verify(lake, "us")


def test_two_writers_lose_nothing(nursery, tmp_path):
    two_writers(nursery, tmp_path, 8)


@pytest.mark.slow
def test_two_writers_lose_nothing_in_fifty_rounds(nursery, tmp_path):
    two_writers(nursery, tmp_path, 50)


def test_a_waiting_writer_fails_clearly_and_a_dead_ones_lock_is_free(nursery, tmp_path):
    lake, bars = Lake(tmp_path, timeout=0.2), make_bars(days(2), ["A"])
    lake.write("us", "1d", bars)
    nursery.ask(f"hold {tmp_path}")
    before, pid = nursery.hear("pid")
    if not before:
        nursery.hear("held")
    with pytest.raises(DataError, match="another process has been writing to 'us' for 0.2 s"):
        lake.write("us", "1d", bars * 2, revise=True)
    os.kill(int(pid), signal.SIGKILL)
    nursery.ask(f"reap {pid}")
    nursery.hear("dead")
    lake.write("us", "1d", bars * 2, revise=True)
    assert lake.read("us").equals(bars * 2)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://quant:s3cr%65t!@127.0.0.1:9/x",
        "postgresql//quant:s3cret!@127.0.0.1/x",
        "host=127.0.0.1 port=9 password='s3cret!' dbname=x",
        "host=127.0.0.1 passwort=s3cret!",
        "postgresql://quant:s3/c@ret!@127.0.0.1:9/x",
        "s3cret!",
    ],
)
def test_no_message_shows_a_password(dsn):
    import traceback

    pytest.importorskip("psycopg")
    for call in (
        lambda s: s.read("us"),
        lambda s: s.datasets(),
        lambda s: s.sql("SELECT 1"),
        lambda s: s.write("us", "1d", make_bars(days(2), ["A"])),
        repr,
    ):
        try:
            shown = str(call(Postgres(dsn)))
        except (DataError, ConfigError) as error:
            shown = "".join(traceback.format_exception(error))
            assert "\n" not in str(error) and ("no PostgreSQL answers" in str(error) or "cannot be read" in str(error))
        assert not [secret for secret in ("s3cret", "s3cr%65t", "s3/c@ret") if secret in shown], shown


def test_postgres_answers_one_statement_that_reads(postgres_server):
    store, bars = Postgres(postgres_server, timeout=5), make_bars(days(4), ["A"])
    store.write("kept", "1d", bars)
    for query in (
        "COMMIT; DROP TABLE kept_1d",
        "SELECT 1; COMMIT; DROP TABLE kept_1d",
        "DROP TABLE kept_1d",
        "DELETE FROM kept_1d",
        "SET TRANSACTION READ WRITE",
        "COMMIT",
        "",
        "COPY kept_1d TO STDOUT",
    ):
        with pytest.raises(DataError) as error:
            store.sql(query)
        assert "\n" not in str(error.value)
    assert (
        store.read("kept").equals(bars)
        and store.sql("SELECT count(*) AS n FROM kept_1d WHERE symbol LIKE 'A%'")["n"][0] == 4
    )
    import psycopg

    with psycopg.connect(postgres_server) as client:
        client.execute("UPDATE manifest SET content = '{' WHERE dataset = 'kept'")
    with pytest.raises(DataError, match="the manifest of 'kept' in the database is damaged"):
        store.read("kept")
    assert "damaged" in store.datasets().set_index("dataset").loc["kept", "fault"]
    with psycopg.connect(postgres_server) as client:
        client.execute("DROP TABLE kept_1d; DELETE FROM manifest WHERE dataset = 'kept'")


def test_a_dead_postgres_writer_leaves_the_old_state(postgres_server):
    "The transaction of a killed client is rolled back, and its lock is free."
    import psycopg

    store, bars = Postgres(postgres_server, timeout=5), make_bars(days(4), ["A"])
    store.write("dead", "1d", bars)
    with psycopg.connect(postgres_server) as client:
        client.execute("SELECT pg_advisory_xact_lock(hashtext('quantlab'))")
        client.execute("DELETE FROM dead_1d")
        with pytest.raises(DataError, match="for 0.2 s"):
            Postgres(postgres_server, timeout=0.2).write("dead", "1d", bars * 2, revise=True)
        pid = client.info.backend_pid
        with psycopg.connect(postgres_server, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
            client.close()
    pd.testing.assert_frame_equal(store.read("dead"), bars, check_exact=True)
    assert entry(store.read("dead"))["rows"] == 4
    store.write("dead", "1d", bars * 2, revise=True)


def test_what_the_lake_does_not_have_is_named(tmp_path):
    lake, bars = Lake(tmp_path), make_bars(days(5, "2024-01-02"), ["A"])
    content = lake.write("us", "1d", bars)
    for said, call in {
        "no dataset 'uk'.*it has: us": lambda: lake.read("uk"),
        "no interval '2d'": lambda: lake.read("us", "2d"),
        "cannot name a dataset": lambda: lake.write("../us", "1d", bars),
        r"no columns \['vwap'\]": lambda: lake.read("us", columns=["vwap"]),
        "no bars of 1w": lambda: lake.read("us", "1w"),
    }.items():
        with pytest.raises((ConfigError, DataError), match=said):
            call()
    assert lake.read("us", start="2031-01-01").empty and lake.read("us", symbols=[]).empty
    assert lake.write("us", "1d", bars.iloc[:0]) == content
    assert lake.read("us", "daily").equals(bars), "an interval is read as people write it"


def test_text_from_postgres_knows_nothing_and_a_symbol_called_NA():
    nothing = from_text(b"", ["close"], "UTC")
    assert nothing.empty and list(nothing.columns) == ["close"] and str(nothing.index.levels[0].tz) == "UTC"
    one = from_text(b"2024-01-02 00:00:00,NA,1.5\n", ["close"], None)
    assert one.loc[(pd.Timestamp("2024-01-02"), "NA"), "close"] == 1.5
