"`quantlab synth`: a market whose answer is known comes into a file or the lake, and the printed line is taken."

import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from quantlab.commands.data_commands import synth_app
from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.data.bars import check_bars, read_bars
from quantlab.data.store import Lake
from quantlab.data.synth import synth_market
from quantlab.micro.book import book_columns, parse_book, parse_messages, rebuild_book, replay_book
from quantlab.micro.hawkes import event_times, fit_hawkes
from quantlab.micro.simulate import FlowSpec, simulate_book
from quantlab.recipe.spec import load
from quantlab.report.template import fill_parameters, find_template, parse_parameters, read_parameters, run_check

COMMAND = Path(sys.executable).with_name("quantlab")
SMALL = ["--sessions", "500", "--symbols", "12"]
PARSERS = ((parse_messages, "message"), (parse_book, "orderbook"))


@pytest.fixture
def line(tmp_path, monkeypatch):
    "Type a line of the command; get exit code, lines of output and the error."
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path / "lake"))

    def run(*words):
        done = CliRunner().invoke(synth_app, list(map(str, words)))
        return done.exit_code, done.output.splitlines(), done.exception

    return run


def asked(printed: str) -> dict:
    "Read the parameters that a printed line asks of the tearsheet, as the command line does."
    words = shlex.split(printed)
    assert words[:3] == ["quantlab", "report", "tearsheet"] and set(words[3::2]) == {"-p"}
    spec = read_parameters(find_template("tearsheet"))
    return fill_parameters(spec, parse_parameters(spec, words[4::2]))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_holds_the_market_of_the_seed(line, tmp_path, ending):
    file = tmp_path / f"toy.{ending}"
    code, (said, _), _ = line(file, *SMALL, "--seed", 3, "--ic", 0.1)
    assert code == 0 and "6,000 bars of 12 symbols, 2015-01-02 to 2016-12-01" in said
    assert "a rank IC of 0.1 over 20 sessions" in said
    expected = synth_market(12, 500, 0.1, 20, 0.95, seed=3).bars
    pd.testing.assert_frame_equal(read_bars(file), expected)
    assert sorted(f.name for f in tmp_path.iterdir()) == [f"toy.{ending}"], "nothing is left beside it"


def test_options_reach_the_market(line, tmp_path):
    words = ["--horizon", 5, "--persistence", 0.5, "--regimes", "none", "--ic", 0, "--factor", tmp_path / "f.parquet"]
    code, (said, _), _ = line(tmp_path / "toy.parquet", *SMALL, *words)
    world = synth_market(12, 500, 0.0, 5, 0.5, seed=7, regimes=False)
    assert code == 0 and said.endswith("nothing is planted")
    pd.testing.assert_frame_equal(read_bars(tmp_path / "toy.parquet"), world.bars)
    factor = pd.read_parquet(tmp_path / "f.parquet").set_index(["date", "symbol"])["score"]
    pd.testing.assert_series_equal(factor, world.features["factor"].rename("score"))


@pytest.mark.parametrize(
    ("symbols", "sessions"), [(5, 500), (12, 500), (31, 500), (46, 500), (12, 900), (12, 1499), (46, 1500)]
)
def test_the_printed_line_is_taken_up_to_the_training(line, tmp_path, symbols, sessions):
    "The check cell of the template asks for enough sessions and names; the dates are those of the data."
    file = tmp_path / "a toy.parquet"
    _, (_, printed), _ = line(file, "--sessions", sessions, "--symbols", symbols)
    values = asked(printed)
    run_check(find_template("tearsheet"), values)
    dates = read_bars(file).index.unique("date")
    assert [values["start"], values["end"]] == [f"{dates[i]:%Y-%m-%d}" for i in (0, -1)]
    own = load("default")  # what the line does not say, the recipe does
    assert (values["top_k"] or own.policy.top_k) < symbols
    assert (values["train_sessions"] or own.split.train_sessions) <= 756


def test_into_the_lake_once(line):
    code, (said, printed), _ = line("lake:toy", *SMALL)
    assert code == 0 and said.startswith("lake:toy: 6,000 bars") and asked(printed)["data"] == "lake:toy"
    assert len(Lake().read("toy", "1d")) == 6000
    run_check(find_template("tearsheet"), asked(printed))
    code, _, error = line("lake:toy", *SMALL, "--seed", 8)
    assert code != 0 and isinstance(error, ConfigError) and "the lake holds 'toy' already" in str(error)
    assert Lake().read("toy", "1d").equals(synth_market(12, 500, 0.05, 20, 0.95, seed=7).bars)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["toy"], "neither a .parquet or .csv file nor lake:NAME"),
        (["toy.xlsx"], "neither a .parquet or .csv file nor lake:NAME"),
        (["no/such/toy.csv"], "the folder no/such does not exist"),
        (["pyproject.csv", "--regimes", "wild"], "--regimes is 'wild'; use states or none or garch"),
        (["toy.csv", "--factor", "f.txt"], "f.txt is neither"),
        (["--book", "--output", "no/toy"], "the folder no does not exist"),
    ],
)
def test_a_slip_is_one_line_before_anything_heavy_is_loaded(tmp_path, words, said):
    heavy = {"pandas", "numpy", "pyarrow", "scipy"}
    code = (
        "import atexit, sys; from quantlab.commands.cli import main\n"
        f"told = lambda: print('LOADED', *sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)\n"
        "atexit.register(told); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "synth", *words], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(root())},
    )  # fmt: skip
    refusal, loaded = done.stderr.splitlines()
    assert done.returncode == 2 and refusal.startswith("error: ") and said in refusal and loaded.strip() == "LOADED"
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone_and_the_room_refuses_what_cannot_be_planted(line, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("mine")
    assert "exists; name another" in str(line(file)[2]) and file.read_text() == "mine"
    assert "out of reach" in str(line(tmp_path / "x.csv", *SMALL, "--ic", 0.95, "--horizon", 250)[2])
    assert "persistence=1.0" in str(line(tmp_path / "x.csv", *SMALL, "--persistence", 1.0)[2])
    assert line(tmp_path / "x.csv", "--sessions", 499)[0] == 2
    assert [f.name for f in tmp_path.iterdir() if f.suffix == ".csv"] == ["mine.csv"]


@pytest.fixture
def made(line, tmp_path):
    "A book of twelve minutes in a folder."
    code, said, error = line("--book", "--output", tmp_path / "flows", "--minutes", 12, "--levels", 2, "--seed", 4)
    assert code == 0, error
    return tmp_path / "flows", said


def test_a_book_comes_back_to_the_last_digit_and_every_row_is_proved(made):
    folder, said = made
    messages, book = (parser((folder / f"{name}_2.csv").read_text()) for parser, name in PARSERS)
    truth = json.loads((folder / "truth.json").read_text())
    flows = {name: tuple(map(tuple, x)) if name == "branching" else x for name, x in truth["flows"].items()}
    path = simulate_book(FlowSpec(**flows | {"baseline": tuple(flows["baseline"])}), truth["seed"])
    pd.testing.assert_frame_equal(messages, path.messages, check_exact=True)
    pd.testing.assert_frame_equal(book, rebuild_book(path.messages, 2), check_exact=True)
    pd.testing.assert_frame_equal(book[book_columns(1)], path.book, check_exact=True)
    replayed = replay_book(messages, book)
    assert replayed["equal"].iloc[1:].all() and replayed["determined"].mean() > 0.9
    words = shlex.split(said[-1])
    assert words[:3] == ["quantlab", "report", "micro"]
    assert [Path(word.partition("=")[2]).is_file() for word in words[4::2]] == [True, True]


@pytest.mark.parametrize("branching", [0.3, 0.7])
def test_a_fit_of_the_trades_finds_what_the_truth_says(line, tmp_path, branching):
    words = ["--book", "--output", tmp_path / "flows", "--minutes", 120, "--branching", branching, "--seed", 2]
    assert line(*words)[0] == 0
    truth = json.loads((tmp_path / "flows" / "truth.json").read_text())
    messages = parse_messages((tmp_path / "flows" / "message_1.csv").read_text())
    times = event_times(messages.loc[messages["type"].isin([4, 5]), "time"].to_numpy(), "merge")[0]
    fit = fit_hawkes(times, truth["flows"]["start"], truth["flows"]["end"])
    assert (abs(fit.table["value"] - list(truth["trades"].values())) < 3 * fit.table["se"]).all()
    assert truth["rates"]["buy"] == pytest.approx(FlowSpec().rates[0]) and fit.residuals.p > 0.01


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--book"], "synth --book --output FOLDER"),
        (["--book", "--output", "no/such"], "the folder no does not exist"),
        (["--book", "--output", "toy", "--ic", "0.1"], "--ic is about bars"),
        (["--book", "toy.csv", "--output", "toy"], "synth --book --output FOLDER"),
        (["toy.csv", "--levels", "3"], "--levels is about a book"),
        ([], "say where the bars go"),
    ],
)
def test_a_slip_about_a_book_is_one_error_and_leaves_nothing(line, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, error = line(*words)
    assert code != 0 and isinstance(error, ConfigError) and said in str(error) and list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_and_numbers_out_of_range_are_refused(line, made):
    folder, _ = made
    before = {file: file.read_bytes() for file in folder.iterdir()}
    assert "exists; name another folder" in str(line("--book", "--output", folder)[2])
    for words in (("--minutes", 0), ("--branching", 1), ("--cancel", 0), ("--levels", 11)):
        assert line("--book", "--output", folder.with_name("other"), *words)[0] == 2
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert [place.name for place in folder.parent.iterdir() if place.is_dir()] == ["flows"]


@pytest.fixture
def real(tmp_path):
    "Bars of a small market in a file."
    file = tmp_path / "mine.parquet"
    synth_market(5, 400, ic=0.0, seed=1).bars.reset_index().to_parquet(file, index=False)
    return file


def test_a_market_like_given_data_is_marked_and_read_like_any_other(line, real, tmp_path):
    words = ["--like", real, "--method", "garch", "--days", 60, "--paths", 2, "--seed", 3]
    code, said, error = line(*words, "--out", tmp_path / "mine_synthetic.parquet")
    assert code == 0, error
    assert [text.split(":")[0].rsplit("/", 1)[1] for text in said[:2]] == [
        "mine_synthetic_1.parquet", "mine_synthetic_2.parquet",
    ]  # fmt: skip
    one, two = (read_bars(tmp_path / f"mine_synthetic_{i}.parquet") for i in (1, 2))
    check_bars(one)
    assert one.index.unique("symbol").str.startswith("SYN_").all() and len(one) == 5 * 60 and not one.equals(two)
    assert one.index[0][0] > read_bars(real).index[-1][0]
    assert line(*words, "--out", tmp_path / "other_synthetic.parquet")[0] == 0
    assert read_bars(tmp_path / "other_synthetic_2.parquet").equals(two), "the seed says all"


def test_without_a_place_it_goes_into_the_lake_under_a_name_that_says_so(line, real):
    assert line("--like", real, "--days", 30)[0] == 0
    assert Lake().datasets()["dataset"].tolist() == ["mine_synthetic_bootstrap"]
    assert "holds 'mine_synthetic_bootstrap' already" in str(line("--like", real, "--days", 30)[2])


@pytest.mark.parametrize(
    ("freq", "interval"), [("W-FRI", "1w"), ("D", "1d"), ("B", "1d"), ("BME", "1mo")]
)  # fmt: skip
def test_made_bars_keep_the_spacing_of_the_data_they_are_like(line, tmp_path, freq, interval):
    bars = synth_market(5, 400, ic=0.0, seed=1).bars
    dates = pd.date_range("1990-01-05", periods=400, freq=freq, unit="us")
    bars.index = bars.index.set_levels(dates, level="date")
    bars.reset_index().to_parquet(tmp_path / "mine.parquet", index=False)
    code, _, error = line("--like", tmp_path / "mine.parquet", "--days", 30, "--out", "lake:synthetic")
    assert code == 0, error
    later = pd.date_range(dates[-1], periods=31, freq=freq)[1:]
    assert list(Lake().read("synthetic", interval).index.unique("date")) == list(later)


@pytest.mark.parametrize("out", ["lake:taken_synthetic", "taken_synthetic.csv"])
def test_a_place_that_is_taken_is_refused_before_anything_is_read(line, real, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    assert line("--like", real, "--days", 30, "--out", out)[0] == 0
    monkeypatch.setattr("quantlab.recipe.market.load_market", lambda *_: pytest.fail("data were read"))
    code, _, error = line("--like", real, "--days", 30, "--out", out)
    assert code != 0 and isinstance(error, ConfigError) and "name another" in str(error)


def test_a_plain_market_for_a_taken_name_is_not_made(line, monkeypatch):
    assert line("lake:toy", *SMALL)[0] == 0
    monkeypatch.setattr("quantlab.data.synth.synth_market", lambda *_, **__: pytest.fail("it was made"))
    assert "holds 'toy' already" in str(line("lake:toy", *SMALL)[2])


def test_unknown_data_are_answered_with_the_nearest_name(line, real, tmp_path, monkeypatch):
    assert line("lake:markets", *SMALL)[0] == 0
    monkeypatch.chdir(tmp_path)
    for asked_, near in (
        ("lake:market", "lake:markets"), ("marketz", "lake:markets"), ("lake:sampl", "sample"),
        ("mine.parqet", "mine.parquet"),
    ):  # fmt: skip
        error = line("--like", asked_)[2]
        assert isinstance(error, ConfigError) and f"did you mean {near}?" in str(error), error
    assert "did you mean" not in str(line("--like", "lake:zzzz")[2])


def test_the_network_shows_its_passes_and_goes_on_after_a_stop(line, real, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="make deep")
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    shown: list[str] = []

    @contextmanager
    def bar():
        def show(done, total, label):
            shown.append(label)
            if label == "fitting learned, pass 3 of 30" and shown.count(label) == 1:
                raise KeyboardInterrupt

        yield show

    monkeypatch.setattr("quantlab.commands.data_commands.progress_bar", bar)
    words = ["--like", real, "--method", "learned", "--days", 20]
    assert line(*words)[0] != 0 and line(*words)[0] == 0
    passes = [label.split()[3] for label in shown if "pass" in label]
    assert passes == ["1", "2", "3", *map(str, range(3, 31))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["toy_synthetic.csv", "--like", "sample", "--out", "lake:toy_synthetic"], "both say where the bars go"),
        (["--like", "sampel"], "did you mean sample?"),
        (["--like", "sample", "--method", "bootstrp"], "did you mean bootstrap?"),
        (["--like", "lake:none"], "there is no data lake:none"),
        (["--like", "sample", "--out", "toy.csv"], "say so in the name: toy_synthetic.csv"),
        (["--like", "sample", "--out", "lake:toy"], "say so in the name: lake:toy_synthetic"),
        (["--like", "sample", "--ic", "0.1"], "--ic does not go with --like"),
        (["--like", "sample", "--book"], "--book does not go with --like"),
        (["toy.csv", "--days", "5"], "add --like"),
        (["toy.csv", "--out", "x.csv"], "add --like"),
    ],
)
def test_a_slip_about_a_market_like_data_is_one_error(line, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, error = line(*words)
    assert code != 0 and isinstance(error, ConfigError) and said in str(error)
    assert [f for f in tmp_path.iterdir() if f.is_file()] == []


def test_the_methods_are_the_makers_of_the_room():
    from quantlab.commands.data_commands import _METHODS
    from quantlab.deep.learned import MAKERS

    assert _METHODS == tuple(MAKERS)


def test_the_installed_command_has_it():
    done = subprocess.run([COMMAND, "synth", "--help"], capture_output=True, text=True, cwd=root())
    assert done.returncode == 0 and "--persistence" in done.stdout


@pytest.mark.slow
def test_the_printed_line_runs_the_backtest(tmp_path):
    "The smallest market that can be asked for, from one line to the page of the next."
    own = {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite"}
    environment = {**os.environ, **{f"QUANTLAB_RESEARCH_{key}": str(tmp_path / name) for key, name in own.items()}}
    ask = dict(capture_output=True, text=True, env=environment, cwd=root())
    made = subprocess.run([COMMAND, "synth", tmp_path / "toy.parquet", *SMALL], **ask)
    assert made.returncode == 0, made.stderr
    words = shlex.split(made.stdout.splitlines()[-1])
    done = subprocess.run([COMMAND, *words[1:], "-p", "reconcile=none", "-p", "draws=10", "--no-track"], **ask)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "report.html"
