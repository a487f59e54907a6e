"ops.database: migrations on a real server; what the stores made is taken over, and nothing is lost."

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pandas as pd
import psycopg
import pytest
import sqlalchemy
from typer.testing import CliRunner

from quantlab.core.errors import ConfigError, DataError
from quantlab.data import postgres
from quantlab.data.postgres import Postgres
from quantlab.execution.intent import FrozenDecision, OrderIntent
from quantlab.execution.kill_switch import KillSwitch
from quantlab.execution.store import OrderStore, VenueFill
from quantlab.ops import database, jobs
from quantlab.ops.database import (
    check_database,
    database_revision,
    downgrade_database,
    make_bars_table,
    migration_sql,
    upgrade_database,
)
from quantlab.portfolio.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
OURS = ("decisions", "orders", "outbox", "moves", "fills", "flows", "facts", "manifest", "serve_jobs")
SLOW = """
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade():
    op.execute("ALTER TABLE orders ADD COLUMN venue text")
    op.execute("SELECT pg_sleep({seconds})")
    op.execute("{last}")


def downgrade():
    op.execute("ALTER TABLE orders DROP COLUMN venue")
"""


@pytest.fixture
def url(postgres_server):
    "Make an empty database on the server of the tests; yield its address."
    words = dict(word.split("=") for word in postgres_server.split())
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute("CREATE DATABASE moved")
    yield f"postgresql://{words['user']}:s3cret@{words['host']}:{words['port']}/moved"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute("DROP DATABASE moved WITH (FORCE)")


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as link:
        for statement in statements:
            done = link.execute(statement)
        return done.fetchall() if done.description else []


def tables(url):
    return {name for (name,) in run(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def bars(close=1.5):
    days = pd.date_range("2024-01-02", periods=4)
    index = pd.MultiIndex.from_product([days, ["A", "B"]], names=["date", "symbol"])
    return pd.DataFrame({c: close + 0.1 * n for n, c in enumerate(["open", "high", "low", "close"])}, index).assign(
        high=close + 1, low=close - 1, volume=100.0
    )


def work(url):
    "Use both stores as a day does; return what they hold then, as text."
    store = OrderStore(url)
    store.keep_decision(FrozenDecision("s", "2024-01-02", "h", {"A": Decimal(1)}, {"A": Decimal(2)}))
    store.open_book("100", {"A": Decimal(2)})
    store.add([OrderIntent("a", "s", "2024-01-02", "A", Decimal("0.000001"), Decimal("1.5"), "")])
    for state, mover in (("queued", "engine"), ("sent", "engine"), ("working", "venue")):
        store.move("a", state, mover)
    store.book_fills(
        [VenueFill("x", "a", "A", Decimal("0.000001"), Decimal(2), Decimal(0), "2024-01-03T14:30:00+00:00")]
    )
    KillSwitch(store, Limits(), "UTC").trip("a test")
    store.close()
    Postgres(url, timeout=5).write("us", "1d", bars())
    return held(url)


def held(url):
    store = OrderStore(url)
    rows = [store.orders(), store.moves(), store.fills(), store.book(), store.outbox(), sorted(store.facts())]
    store.close()
    return f"{rows}" + Postgres(url, timeout=5).read("us").to_csv()


def migrations(monkeypatch, tmp_path, text):
    "Let a copy of the migrations with one more be the ones that are there."
    home = tmp_path / "quantlab"
    shutil.copytree(ROOT / "quantlab" / "ops" / "migrations", home / "ops" / "migrations")
    (home / "ops" / "migrations" / "versions" / "0003_slow.py").write_text(text)
    monkeypatch.setattr(database.quantlab, "__file__", str(home / "__init__.py"))
    return home


def test_an_empty_database_gets_every_table_and_its_number(url):
    assert database_revision(url) == "" and "run quantlab database upgrade" in check_database(url)[0]
    assert upgrade_database(url) == ["0001", "0002"]
    assert tables(url) == {*OURS, "quantlab_revision"} and database_revision(url) == "0002"
    assert check_database(url) == [] and upgrade_database(url) == []


def test_the_stores_work_on_a_migrated_database_and_change_no_table(url):
    upgrade_database(url)
    said = work(url)
    assert "0.000001" in said and "guard.switch" in said and check_database(url) == []
    store = OrderStore(url)
    assert KillSwitch(store, Limits(), "UTC").verdict().mode == "killed"
    store.close()
    pd.testing.assert_frame_equal(Postgres(url).read("us"), bars(), check_exact=True)


def test_a_database_of_the_stores_is_taken_over_and_nothing_is_lost(url):
    said = work(url)
    assert database_revision(url) == "" and upgrade_database(url) == ["0001", "0002"]
    assert held(url) == said and check_database(url) == []


def test_a_half_made_database_is_completed(url):
    Postgres(url, timeout=5).write("us", "1d", bars())
    assert upgrade_database(url) and tables(url) == {*OURS, "quantlab_revision", "us_1d"}


@pytest.mark.parametrize(
    "change, message",
    [
        ("ALTER TABLE orders DROP COLUMN why", "table orders lacks why text NOT NULL"),
        ("ALTER TABLE orders ADD COLUMN mine text", "table orders has mine text, which is not expected"),
        ("ALTER TABLE moves ALTER number TYPE bigint", "table moves lacks number integer NOT NULL"),
        ("ALTER TABLE facts ALTER value DROP NOT NULL", "table facts lacks value text NOT NULL"),
        ("ALTER TABLE outbox DROP CONSTRAINT outbox_pkey", "table outbox lacks the rule PRIMARY KEY (id, action)"),
        ("ALTER TABLE fills ADD CHECK (at <> '')", "table fills has the rule CHECK"),
        ("ALTER TABLE us_1d RENAME close TO last", "table us_1d lacks close double precision"),
        ('ALTER TABLE us_1d ALTER symbol TYPE text COLLATE "POSIX"', 'table us_1d lacks symbol text COLLATE "C"'),
        ("DROP TABLE us_1d", "table us_1d is missing"),
        (
            "ALTER TABLE facts RENAME TO old; CREATE TABLE facts (value text NOT NULL, name text PRIMARY KEY)",
            "table facts has its columns in another order than name, value",
        ),
    ],
)
def test_what_differs_is_named_and_a_takeover_refused(url, change, message):
    work(url)
    run(url, change)
    before = tables(url)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        upgrade_database(url)
    assert tables(url) == before and database_revision(url) == "" and "\n" not in str(error.value)
    assert str(error.value).startswith("the database stays as it was") and "upgrade again" in str(error.value)


def test_a_migrated_database_that_was_edited_is_found(url):
    upgrade_database(url)
    run(url, "ALTER TABLE serve_jobs ALTER attempts TYPE text", "DROP TABLE flows")
    gaps = check_database(url)
    assert [gap.partition(";")[0] for gap in gaps] == [
        "table flows is missing",
        "table serve_jobs lacks attempts integer NOT NULL",
        "table serve_jobs has attempts text NOT NULL, which is not expected",
    ]
    assert all("quantlab database upgrade" in gap for gap in gaps)


def test_the_revisions_of_others_and_an_index_are_left_alone(url):
    run(url, "CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('of mlflow')")
    upgrade_database(url)
    run(url, "CREATE INDEX ON orders (state)", "CREATE TABLE mine (a int)")
    assert run(url, "SELECT * FROM alembic_version") == [("of mlflow",)] and check_database(url) == []


def test_two_upgrades_at_once_make_one(url):
    line = "import sys; from quantlab.ops.database import upgrade_database; print(upgrade_database(sys.argv[1]))"
    both = [
        subprocess.Popen([sys.executable, "-c", line, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=120)[0].decode().strip() for process in both)
    assert [process.returncode for process in both] == [0, 0] and said == ["['0001', '0002']", "[]"]


@pytest.mark.parametrize("lock", database._LOCKS)
def test_an_upgrade_waits_for_who_writes_and_gives_up_in_one_line(url, lock):
    with psycopg.connect(url) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({lock})")
        with pytest.raises(DataError, match="has held the database for 0.3 s; try again"):
            upgrade_database(url, wait=0.3)
        done = []
        waiting = threading.Thread(target=lambda: done.append(upgrade_database(url)))
        waiting.start()
        time.sleep(0.5)
        assert not done and tables(url) == set()
        other.commit()
        waiting.join(60)
    assert done == [["0001", "0002"]]


@pytest.mark.parametrize("writer", ["orders", "bars", "jobs"])
def test_an_upgrade_waits_for_each_store_by_the_stores_own_lock(url, writer):
    store, table = OrderStore(url), jobs.JobTable(url)
    with contextlib.ExitStack() as held_open:
        if writer == "orders":
            held_open.enter_context(store._change())
        elif writer == "jobs":
            held_open.enter_context(table._write())
        else:
            postgres._lock(held_open.enter_context(postgres._session(url, 5)), "us", 5)
        with pytest.raises(DataError, match="has held the database"):
            upgrade_database(url, wait=0.3)
    assert upgrade_database(url) == ["0001", "0002"]
    store.close()


def test_a_migration_that_fails_leaves_the_old_schema(url, monkeypatch, tmp_path):
    upgrade_database(url)
    said = work(url)
    migrations(monkeypatch, tmp_path, SLOW.format(seconds=0, last="SELECT 1 / 0"))
    with pytest.raises(DataError, match="PostgreSQL refused .division by zero.; the database is as it was"):
        upgrade_database(url)
    monkeypatch.undo()
    assert database_revision(url) == "0002" and check_database(url) == [] and held(url) == said


def test_a_killed_upgrade_leaves_the_old_schema(url, monkeypatch, tmp_path):
    upgrade_database(url)
    said = work(url)
    home = migrations(monkeypatch, tmp_path, SLOW.format(seconds=30, last="SELECT 1"))
    monkeypatch.undo()
    line = (
        "import sys; from quantlab.ops import database; "
        "database.quantlab.__file__ = sys.argv[2]; database.upgrade_database(sys.argv[1])"
    )
    killed = subprocess.Popen([sys.executable, "-c", line, url, str(home / "__init__.py")], cwd=ROOT)
    asleep = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
    for _ in range(300):
        if found := run(url, asleep):
            break
        time.sleep(0.1)
    assert found, "it never came to its second statement"
    killed.send_signal(signal.SIGKILL)
    killed.wait(20)
    run(url, f"SELECT pg_terminate_backend({found[0][0]})")  # the server sees a dead client only when it answers
    assert held(url) == said and database_revision(url) == "0002" and check_database(url) == []
    assert upgrade_database(url) == []


def test_a_later_revision_is_refused_by_an_older_version(url):
    upgrade_database(url)
    run(url, "UPDATE quantlab_revision SET version_num = '0042'")
    for call in (upgrade_database, database_revision, check_database):
        with pytest.raises(DataError, match="at revision 0042, and this quantlab knows 0001, 0002; install"):
            call(url)


def test_going_back_loses_no_row(url):
    upgrade_database(url)
    none = ", ''"  # kind to state, then attempts, then lease_until to error
    run(url, f"INSERT INTO serve_jobs VALUES (1, 'j'{6 * none}, 0{8 * none})")
    with pytest.raises(DataError, match="going back to 0001 would lose rows of serve_jobs; copy"):
        downgrade_database(url, "0001")
    assert database_revision(url) == "0002" and run(url, "SELECT id FROM serve_jobs") == [("j",)]
    run(url, "DELETE FROM serve_jobs", "INSERT INTO facts VALUES ('a', 'b')")
    downgrade_database(url, "0001")
    assert "serve_jobs" not in tables(url) and database_revision(url) == "0001"
    assert check_database(url)[0].startswith("the database is at revision 0001, and 0002 is expected")
    with pytest.raises(DataError, match="would lose rows of facts"):
        downgrade_database(url, "base")
    with pytest.raises(DataError, match="0002 is later; upgrade instead"):
        downgrade_database(url, "0002")
    with pytest.raises(ConfigError, match="there is no revision 9; there are base, 0001, 0002"):
        downgrade_database(url, "9")
    run(url, "DELETE FROM facts")
    downgrade_database(url, "base")
    assert not tables(url) & set(OURS) and upgrade_database(url) == ["0001", "0002"]


def test_a_column_that_goes_counts_as_rows_that_go(url, monkeypatch, tmp_path):
    upgrade_database(url)
    migrations(monkeypatch, tmp_path, SLOW.format(seconds=0, last="SELECT 1"))
    with pytest.raises(DataError, match="table orders has venue text, which is not expected"):
        upgrade_database(url)
    monkeypatch.setattr(database, "_TABLES", (*database._TABLES, "ALTER TABLE orders ADD COLUMN venue text"))
    assert upgrade_database(url) == ["0003"]
    run(url, "INSERT INTO orders VALUES ('a', 's', 'd', 'A', '1', '1', '', 'created', 't', '', '', 'v')")
    with pytest.raises(DataError, match="would lose rows of orders"):
        downgrade_database(url, "0002")
    assert run(url, "SELECT venue FROM orders") == [("v",)]


def test_the_script_for_a_person_makes_the_same(url):
    run(url, *filter(str.strip, migration_sql().split(";")))
    assert check_database(url) == [] and upgrade_database(url) == []


def test_both_forms_of_an_address_and_a_schema_of_ones_own(url, postgres_server):
    run(url, "CREATE SCHEMA own", "CREATE TABLE facts (other int)")
    asked = url + "?options=-csearch_path%3Down"
    assert upgrade_database(asked) == ["0001", "0002"] and check_database(asked) == []
    libpq = postgres_server.replace("dbname=postgres", "dbname=moved options='-c search_path=own'")
    assert (
        database_revision(libpq) == "0002"
        and upgrade_database(url.replace("sql://", "sql+psycopg://") + "?options=-csearch_path%3Down") == []
    )
    with pytest.raises(DataError, match="no schema of the search path is there"):
        upgrade_database(url + "?options=-csearch_path%3Dnone")


def test_bars_have_a_table_before_their_first_write(url):
    upgrade_database(url)
    names = ["open", "high", "low", "close", "volume"]
    make_bars_table(url, "us", "1d", names[::-1])
    make_bars_table(url, "us", "1d", names[::-1])
    with pytest.raises(DataError, match="the table is there otherwise: .*us_1d has volume"):
        make_bars_table(url, "us", "1d", names[:4])
    Postgres(url, timeout=5).write("us", "1d", bars())
    pd.testing.assert_frame_equal(Postgres(url).read("us"), bars(), check_exact=True)
    with pytest.raises(DataError, match="no extension timescaledb"):
        make_bars_table(url, "uk", "5min", ["close"], timescale=True)
    assert "uk_5min" not in tables(url)


@pytest.mark.parametrize("form", ["postgresql://quant:s3cret@127.0.0.1:9/x", "host=127.0.0.1 port=9 password='s3cret'"])
def test_no_message_shows_a_password(form, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_POSTGRES", form)
    from quantlab.commands.serve_commands import database_app

    for words in (["upgrade"], ["check"], ["revision"], ["downgrade", "0001"], ["bars", "us"]):
        for more in ([], ["--url", form]):
            done = CliRunner().invoke(database_app, words + more)
            assert "no PostgreSQL answers" in str(done.exception) and "s3cret" not in f"{done.exception}{done.output}"


def test_the_commands_say_one_line_and_a_code(url):
    from quantlab.commands.serve_commands import database_app

    ask = lambda *words: CliRunner().invoke(database_app, [*words, "--url", url])
    assert ask("check").exit_code == 1
    assert ask("upgrade").output == "the database is at revision 0002; carried out: 0001, 0002\n"
    assert ask("upgrade").output == "the database is at revision 0002, and was\n"
    assert (ask("check").exit_code, ask("revision").output) == (0, "0002\n")
    assert ask("bars", "us", "--columns", "open, close").output == "the table of us at 1d is there\n"
    assert ask("downgrade", "0001").output == "the database is at revision 0001\n"
    assert ask("check").exit_code == 1


def test_every_migration_has_a_number_of_its_own_and_reads_no_code():
    files = sorted((ROOT / "quantlab" / "ops" / "migrations" / "versions").glob("[0-9]*.py"))
    assert [file.name[:4] for file in files] == database._revisions()
    for file in files:
        assert "quantlab" not in file.read_text().split('"""')[2], "a migration reads nothing of today's code"


def test_the_jobs_of_the_code_are_the_jobs_of_the_migrations(url):
    upgrade_database(url)
    there = database._shapes
    table = jobs._jobs()
    run(url, "CREATE SCHEMA core")
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as link:
        raw = link.connection.driver_connection
        mine = there(raw)["serve_jobs"]
        raw.execute("SET LOCAL search_path TO core")
        table.create(link)
        index = "SELECT indexname FROM pg_indexes WHERE tablename = 'serve_jobs' AND schemaname = %s ORDER BY 1"
        made = [[name for (name,) in raw.execute(index, [schema]).fetchall()] for schema in ("public", "core")]
        assert made[0] == made[1] and f"({jobs._ALONE})" in f"({database._LOCKS[3]})"
        assert database.shape_gaps({"serve_jobs": there(raw)["serve_jobs"]}, {"serve_jobs": mine}) == []
    engine.dispose()
    table = jobs.JobTable(url)
    assert check_database(url) == [] and table.place == url


def test_the_migrations_are_installed_with_the_package():
    from setuptools import find_packages

    assert "quantlab.ops.migrations.versions" in find_packages(ROOT, include=["quantlab*"])
