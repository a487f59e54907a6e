"The import command as a user types it: what it shows, what it asks, what it refuses at once."

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands import data_commands
from quantlab.core.config import root
from quantlab.data.schemas import REPAIRS
from quantlab.data.store import Lake

HEAD, ROWS = "date,open,high,low,close,volume\n", "2024-01-02,1.5,2.5,1.25,2,5\n2024-01-03,1.5,2.5,1.25,2,5\n"


@pytest.fixture
def line(tmp_path, monkeypatch):
    "Type a line of the group; get exit code, output and the error."
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("COLUMNS", "150")

    def run(words, typed=""):
        done = CliRunner().invoke(data_commands.data_app, words, input=typed)
        return done.exit_code, done.output, str(done.exception or "")

    return run


def put(folder, name, text):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/such.csv", "--dataset", "x"], "no/such.csv does not exist"),
        ([__file__, "--dataset", "x", "--stamps", "begin"], "--stamps is 'begin'; use start or end"),
        ([__file__, "--dataset", "x", "--interval", "7min"], "there is no interval '7min'; use one of 1mo, 1w, 1d"),
        ([__file__, "--dataset", "x", "--repair", "mend"], "--repair is 'mend'; use sort or drop_duplicates"),
        ([__file__, "--dataset", "x", "--zone", "Mars/Olympus"], "no time zone"),
        ([__file__, "--dataset", "x", "--split", "seven"], "use event or premium"),
        ([__file__, "--dataset", "X y"], "cannot name a dataset"),
        ([__file__, "--dataset", "x", "--column", "close"], "ours=theirs"),
    ],
)
def test_a_slip_in_the_line_is_refused_before_anything_heavy_is_loaded(words, said):
    heavy = {"pandas", "numpy", "duckdb", "pyarrow"}
    code = (
        f"import atexit, sys; from quantlab.commands.cli import main\n"
        f"atexit.register(lambda: print('LOADED', "
        f"*sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "import", *words], cwd=root(), capture_output=True, text=True
    )
    refusal, loaded = done.stderr.splitlines()
    assert done.returncode == 2 and said in refusal and loaded.strip() == "LOADED"


def test_the_choices_are_those_of_the_rooms_they_name():
    from quantlab.importer.actions import READINGS

    assert set(data_commands._CHOICES["repair"]) == set(REPAIRS) and set(data_commands._CHOICES["split"]) == set(
        READINGS
    )


def test_a_folder_lists_what_it_leaves_out(line, tmp_path):
    for name in ("f/AAPL.csv", "f/KO.TXT", "f/notes.md", "f/.hidden.csv"):
        put(tmp_path, name, HEAD + ROWS)
    (tmp_path / "f" / "old").mkdir()
    code, out, error = line(["import", str(tmp_path / "f"), "--dataset", "x", "--yes"])
    assert code == 0, error
    assert (
        "left out: notes.md (none of .csv" in out
        and "left out: .hidden.csv (a hidden file)" in out
        and "left out: old (a folder" in out
    )
    assert Lake().read("x").index.unique("symbol").tolist() == ["AAPL", "KO"]


def test_the_decision_is_shown_before_the_question(line, tmp_path):
    file = put(tmp_path, "A.csv", HEAD + ROWS)
    code, out, _ = line(["import", file, "--dataset", "x"], typed="n\n")
    assert code == 2 and out.index("interval: 1d (100% of the steps") < out.index("store 2 bars of 1 symbol as x/1d?")
    assert not (tmp_path / "lake" / "dataset=x").exists()


def test_what_is_open_is_asked_on_a_terminal_and_refused_elsewhere(line, tmp_path, monkeypatch):
    file = put(
        tmp_path, "A.csv", "time,open,high,low,close,volume\n2024-03-04 09:30,1,2,1,2,5\n2024-03-04 10:00,1,2,1,2,5\n"
    )
    code, _, error = line(["import", file, "--dataset", "x"])
    assert code != 0 and "short first bar of 1h" in error and "--interval" in error and not (tmp_path / "lake").exists()
    monkeypatch.setattr(data_commands, "_terminal", lambda: True)
    assert line(["import", file, "--dataset", "x", "--yes"])[0] != 0, "--yes never asks"
    code, out, error = line(["import", file, "--dataset", "x"], typed="60min\nstart\nAmerica/New_York\ny\n")
    assert code == 0, error
    assert Lake().read("x", "1h").index[1][0] == pd.Timestamp("2024-03-04 16:00Z")


def test_a_column_that_misleads_can_be_left_out(line, tmp_path):
    file = put(
        tmp_path,
        "A.csv",
        HEAD.replace("\n", ",split\n")
        + "2024-01-02,70,70,70,70,5,1\n2024-01-03,10,10,10,10,5,3\n2024-01-04,10,10,10,10,5,1\n",
    )
    refused = line(["import", file, "--dataset", "x", "--yes"])
    assert refused[0] != 0 and "split" in refused[2] and "--split none" in refused[2]
    assert line(["import", file, "--dataset", "x", "--yes", "--column", "split=none"])[0] == 0
    assert list(Lake().read("x")) == ["open", "high", "low", "close", "volume"]


def test_a_symbol_that_is_stored_in_other_letters_is_refused(line, tmp_path):
    assert line(["import", put(tmp_path, "AAPL.csv", HEAD + ROWS), "--dataset", "x", "--yes"])[0] == 0
    code, _, error = line(["import", put(tmp_path, "aapl.csv", HEAD + ROWS), "--dataset", "x", "--yes"])
    assert code != 0 and "'AAPL'" in error and "'aapl'" in error


def test_list_shows_days_and_minutes_side_by_side(line, tmp_path):
    line(["import", put(tmp_path, "A.csv", HEAD + ROWS), "--dataset", "days", "--yes"])
    minutes = (
        "time,open,high,low,close,volume\n2024-03-07T09:30:00-05:00,1,2,1,2,5\n2024-03-07T09:35:00-05:00,1,2,1,2,5\n"
    )
    assert (
        line(["import", put(tmp_path, "B.csv", minutes), "--dataset", "minutes", "--stamps", "start", "--yes"])[0] == 0
    )
    code, out, _ = line(["list"])
    assert code == 0 and "2024-01-03" in out and "2024-03-07 14:35:00Z" in out and "5min" in out


def test_the_installed_command_says_it_in_one_line(tmp_path):
    file = put(tmp_path, "A.csv", HEAD + ROWS + ROWS)
    environment = {**os.environ, "QUANTLAB_DATA_LAKE": str(tmp_path / "lake")}
    done = subprocess.run(
        [Path(sys.executable).with_name("quantlab"), "data", "import", file, "--dataset", "x", "--yes"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 2
        and done.stderr.count("\n") == 1
        and "--repair drop_duplicates" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_qlib_store_of_minutes_goes_out_and_comes_in_when_its_clock_is_told(line, tmp_path):
    stamps = pd.date_range("2024-01-02 01:31", periods=4, freq="1min", tz="UTC").as_unit("us")
    index = pd.MultiIndex.from_product([stamps, ["SH600000"]], names=["date", "symbol"])
    bars = pd.DataFrame({"open": 1.5, "high": 2.5, "low": 1.25, "close": 2.0, "volume": 100.0}, index)
    Lake().write("minutes", "1min", bars)
    clock = ["--interval", "1min", "--zone", "Asia/Shanghai", "--stamps", "start"]
    folder = str(tmp_path / "store")
    code, _, error = line(["export", "minutes", folder, "--interval", "1min"])
    assert code and "zone" in error and not (tmp_path / "store").exists()
    assert line(["export", "minutes", folder, *clock])[0] == 0
    code, _, error = line(["import", folder, "--dataset", "again", "--yes", "--interval", "1min"])
    assert code and "zone" in error
    code, out, error = line(["import", folder, "--dataset", "again", "--yes", *clock])
    assert code == 0, (out, error)
    back = Lake().read("again", "1min")
    assert back.index.equals(bars.index) and (back["close"] == 2.0).all()


def test_what_is_about_files_is_not_asked_of_a_store_and_the_other_way_round(line, tmp_path):
    (tmp_path / "store" / "calendars").mkdir(parents=True)
    code, _, error = line(["import", str(tmp_path / "store"), "--dataset", "x", "--decimal", ","])
    assert code and "--decimal is about files" in error
    code, _, error = line(["import", put(tmp_path, "A.csv", HEAD + ROWS), "--dataset", "x", "--volume", "raw"])
    assert code and "Qlib stores" in error


def test_a_provider_nobody_serves_is_named(line):
    code, _, error = line(["refresh", "no_such_exchange", "AAPL"])
    assert code and "no_such_exchange" in error


def test_a_delivery_that_contradicts_is_refused_until_it_is_told_to_replace(line, tmp_path):
    first, other = (
        put(tmp_path, "A.csv", HEAD + ROWS),
        put(tmp_path / "later", "A.csv", HEAD + ROWS.replace(",2,5\n2024-01-03", ",2.25,5\n2024-01-03")),
    )
    assert line(["import", first, "--dataset", "x", "--yes"])[0] == 0
    code, _, error = line(["import", other, "--dataset", "x", "--yes"])
    assert code and "2024-01-02" in error and "revise" in error and Lake().read("x")["close"].tolist() == [2.0, 2.0]
    assert line(["import", other, "--dataset", "x", "--yes", "--revise"])[0] == 0
    assert Lake().read("x")["close"].tolist() == [2.25, 2.0]


def test_rows_brought_to_one_level_are_told_in_a_line(line, tmp_path):
    half = "".join(
        f"2024-01-0{d},{o / 2},{h / 2},{lo / 2},{c / 2},5\n"
        for d, (o, h, lo, c) in zip((2, 3), [(1.5, 2.5, 1.25, 2)] * 2, strict=True)
    )
    assert line(["import", put(tmp_path, "A.csv", HEAD + ROWS), "--dataset", "x", "--yes"])[0] == 0
    code, out, error = line(
        [
            "import",
            put(tmp_path / "later", "A.csv", HEAD + half + "2024-01-04,1,1.5,0.75,1.25,5\n"),
            "--dataset",
            "x",
            "--yes",
        ]
    )
    said = [text for text in out.splitlines() if text.startswith("note: ")]
    assert code == 0 and len(said) == 1 and "1 symbol(s) came on another price level" in said[0] and ".py" not in out, (
        out,
        error,
    )
