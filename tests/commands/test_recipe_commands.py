"`quantlab run`, `decide`, `search`, `diff`, `audit recipe`: what is asked, slips in one line, and nothing left behind."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from quantlab.commands import cli
from quantlab.core.config import root
from quantlab.core.ledger import Ledger
from quantlab.recipe.decide import decide
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe, load

COMMAND = Path(sys.executable).with_name("quantlab")
SYMBOLS = "AAPL, ABT, AIG, AMGN, AMZN, BA, BAC, C, CAT, COP, COST, CSCO"
SMALL = Recipe().replace(
    name="small", data__universe=SYMBOLS, data__start="2011-01-03", data__end="2012-12-31", features__use=["rev_21"],
    model__kind="feature", model__column="rev_21", policy__top_k=4, policy__buffer=2, policy__rebalance=10,
    study="commands",
)  # fmt: skip
BEFORE_PANDAS = ("pandas", "numpy", "numba", "scipy", "sklearn", "matplotlib", "lightgbm", "duckdb", "pyarrow")
BEFORE_RUN = ("numba", "scipy", "sklearn", "matplotlib", "lightgbm", "mlflow", "papermill", "nbformat", "dask", "qlib")
IMPORTED = "import time:"


class Shell:
    "Type lines in a folder that holds a recipe, small.yaml; what they record stays in it."

    def __init__(self, folder: Path, patch):
        self.folder, self.patch = folder, patch
        names = {"RUNS": "runs", "LEDGER": "ledger.sqlite", "TRACKING": "mlflow.sqlite", "CACHE": "cache"}
        self.environment = {f"QUANTLAB_RESEARCH_{key}": str(folder / name) for key, name in names.items()}
        self.recipe = folder / "small.yaml"
        SMALL.save(self.recipe)

    def __call__(self, *words: object) -> tuple[int, str]:
        "Type a line in this process, through the command's own door; get the exit code and what stands on stdout."
        self.patch.setattr(sys, "argv", ["quantlab", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, self.said()

    def said(self) -> str:
        raise NotImplementedError

    def process(self, *words: object) -> tuple[subprocess.CompletedProcess, set[str]]:
        """Type a line of the installed command; get the finished process and the packages that it imported.

        What a refusal costs is what it imports: seconds differ between machines, this list does not.
        """
        done = subprocess.run(
            [COMMAND, *map(str, words)], cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, **self.environment, "QUANTLAB_ROOT": str(root()), "PYTHONPROFILEIMPORTTIME": "1"},
        )  # fmt: skip
        lines = done.stderr.splitlines(keepends=True)
        imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith(IMPORTED)}
        done.stderr = "".join(line for line in lines if not line.startswith(IMPORTED))
        return done, imported

    def files(self) -> list[Path]:
        "List what lies in the folder, the cache left out."
        return sorted(file for file in self.folder.rglob("*") if "cache" not in file.parts[len(self.folder.parts) :])

    def trials(self) -> pd.DataFrame:
        return Ledger(self.folder / "ledger.sqlite").trials("commands/committed sample/strategy")


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    shell = Shell(tmp_path, monkeypatch)
    for name, value in {**shell.environment, "COLUMNS": "140", "PYTHONSAFEPATH": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shell.said = lambda: capsys.readouterr().out
    return shell


def test_run_carries_out_what_is_asked_and_keeps_it(shell):
    code, out = shell("run", shell.recipe, "-p", "policy.top_k=3", "-p", "costs.slippage_bps=8")
    folder = Path(out.splitlines()[-1])
    assert code == 0 and folder.parent == shell.folder / "runs" and "Sharpe" in out
    asked = SMALL.replace(policy__top_k=3, costs__slippage_bps=8)
    assert load(folder / "recipe.yaml") == asked
    same = run(asked, record=False)
    assert folder.name == f"small-{same.key[:8]}" and shell.trials()["key"].tolist() == [same.key]
    assert pd.read_parquet(folder / "weights.parquet").equals(same.weights)
    assert pd.read_parquet(folder / "trades.parquet").equals(same.account.trades)


def test_the_same_run_again_is_the_same_trial_in_the_same_folder(shell):
    first, again = (shell("run", shell.recipe, "--output", shell.folder / "mine") for _ in range(2))
    assert first == again and [f.name[:6] for f in (shell.folder / "mine").iterdir()] == ["small-"]
    assert len(shell.trials()) == 1 and not (shell.folder / "runs").exists()


def test_decide_prints_one_close_and_records_nothing(shell):
    held = pd.Series({"BA": 100.0, "AAPL": 50.0})
    held.rename("shares").rename_axis("symbol").to_csv(shell.folder / "book.csv")
    line = ("decide", shell.recipe, "--as-of", "2012-06-25", "--book", shell.folder / "book.csv", "--cash", "5000")
    code, out = shell(*line, "-p", "policy.top_k=3", "--output", shell.folder / "orders.csv")
    other = decide(SMALL.replace("policy.top_k", 3), "2012-06-25", held, 5000.0)
    assert code == 0 and other.due and repr(other) in out and len(other.weights) == 3
    written = pd.read_csv(shell.folder / "orders.csv", index_col="symbol")
    pd.testing.assert_frame_equal(written, other.orders, check_exact=False, rtol=1e-12)
    assert not (shell.folder / "ledger.sqlite").exists()


def test_search_prints_the_path_of_its_page(shell):
    page = shell.folder / "search.yaml"
    page.write_text(yaml.safe_dump({"recipe": "small.yaml", "vary": {"policy.top_k": [2, 3, 5]}, "study": "commands"}))
    code, out = shell("search", page, "--jobs", "1", "--output", shell.folder / "pages")
    [printed] = out.splitlines()
    assert code == 0 and Path(printed).is_file() and Path(printed).is_relative_to(shell.folder / "pages")
    assert len(shell.trials()) == 3


def test_diff_says_where_two_part(shell):
    SMALL.replace("policy.top_k", 6).save(shell.folder / "wider.yaml")
    code, out = shell("diff", shell.recipe, shell.folder / "wider.yaml")
    stages = [line.split()[0] for line in out.splitlines()[1:]]
    assert code == 1 and "4 | 6" in out and "weights" in stages and "predictions" not in stages
    assert shell("diff", shell.recipe, shell.recipe) == (0, "no difference\n")
    assert shell.files() == [shell.recipe, shell.folder / "wider.yaml"], "a look at a difference is no trial"
    folder = Path(shell("run", shell.recipe)[1].splitlines()[-1])
    assert shell("diff", folder, shell.recipe) == (0, "no difference\n")
    assert shell("diff", folder, shell.folder / "wider.yaml")[0] == 1


def test_audit_recipe_passes_an_honest_chain_and_names_the_stage_that_leaks(shell):
    code, out = shell("audit", "recipe", shell.recipe, "--cuts", "1")
    assert code == 0 and out.startswith("PASS") and out.count("\n") == 1
    shutil.copy(root() / "tests" / "recipe" / "leaky_parts.py", shell.folder / "leaky_parts_of_mine.py")
    shell.patch.chdir(shell.folder)
    leaky = SMALL.replace("features.transform", ["leaky_parts_of_mine:tomorrows_row"])
    leaky.save(shell.folder / "leaky.yaml")
    code, out = shell("audit", "recipe", "leaky.yaml", "--cuts", "1")
    assert code == 1 and out.startswith("LEAK") and "features" in out and out.count("\n") == 1


SLIPS = {
    "polcy:\n  top_k: 3\n": "slip.yaml, line 1: polcy is no key of a recipe; did you mean policy?",
    "policy:\n  top_kk: 3\n": "slip.yaml, line 2: policy.top_kk is no key of a recipe; did you mean top_k?",
    "policy:\n  top_k: 0\n": "slip.yaml, line 2: policy.top_k is 0",
    "policy:\n  buffer: 1\n  top_k: many\n": "slip.yaml, line 3: policy.top_k is 'many'",
    "features:\n  use:\n  - base\n  - momentun(5, 1)\n": "slip.yaml, line 4",
    "model:\n  kind: gbm\n  num_leafs: 3\n": "slip.yaml, line 3",
    "data:\n  universe: ','\n": "universe is empty",
    "name: [a\n": "slip.yaml, line 2: not YAML",
}


def test_slips_are_one_line_with_file_and_line_where_pandas_cannot_be_imported(shell):
    """Each command reads its recipe first. One process in which pandas does not exist types all lines."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({BEFORE_PANDAS}, None))\n"
        "from pathlib import Path\n"
        "from quantlab.commands.cli import main\n"
        f"slips = {list(SLIPS)!r}\n"
        "for text in slips:\n"
        "    Path('slip.yaml').write_text(text)\n"
        "    Path('search.yaml').write_text('recipe: slip.yaml\\nvary:\\n  policy.top_k: [3]\\n')\n"
        "    for line in ('run slip.yaml', 'decide slip.yaml --as-of 2012-06-15', 'search search.yaml',\n"
        "                 'diff small.yaml slip.yaml', 'audit recipe slip.yaml'):\n"
        "        sys.argv = ['quantlab', *line.split()]\n"
        "        try:\n            main()\n"
        "        except SystemExit as stop:\n            print('CODE', stop.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shell.folder, env={**os.environ, **shell.environment}, text=True,
        capture_output=True,
    )  # fmt: skip
    said = done.stderr.replace("\nCODE 2", "").splitlines()
    assert done.stdout == "" and len(said) == 5 * len(SLIPS), done.stderr[-2000:]
    for i, words in enumerate(SLIPS.values()):
        for answer in said[5 * i : 5 * i + 5]:
            assert answer.startswith("error: ") and words in answer, answer


OVERRIDES = {
    "-p policy.top_kk=3": "policy has no top_kk; did you mean top_k?",
    "-p policy.top_k=0": "policy.top_k is 0",
    "-p policy.top_k": "is no setting; write -p policy.top_k=20",
    "-p features.use=[mom_252_2]": "did you mean mom_252_21?",
    "-p polisy.top_k=3": "no section polisy; did you mean policy?",
}


def test_a_slip_is_refused_before_pandas_and_leaves_nothing(shell):
    before = shell.files()
    for words, answer in OVERRIDES.items():
        done, imported = shell.process("run", "small.yaml", *words.split())
        assert done.returncode == 2 and done.stdout == "" and "yaml" in imported, words
        assert not imported & {*BEFORE_PANDAS}, (words, imported & {*BEFORE_PANDAS})
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and answer in done.stderr
    assert shell.files() == before


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("-p model.kind=nowhere_at_all:Model", "cannot import 'nowhere_at_all:Model'"),
        ("-p data.universe=NONE1,NONE2", "NONE1"),
    ],
)
def test_what_only_an_import_or_the_data_can_tell_is_refused_before_what_a_run_needs(shell, words, answer):
    before = shell.files()
    done, imported = shell.process("run", "small.yaml", *words.split())
    assert done.returncode == 2 and done.stdout == "" and not imported & {*BEFORE_RUN}, imported & {*BEFORE_RUN}
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and answer in done.stderr
    assert shell.files() == before


def test_a_slip_of_a_search_names_its_line(shell):
    page = shell.folder / "search.yaml"
    page.write_text("recipe: small.yaml\nvary:\n  policy.top_k: [3, 5]\n  policy.topk: [3]\n")
    done, imported = shell.process("search", page)
    assert done.returncode == 2 and "search.yaml, line 4: policy.topk" in done.stderr
    assert not imported & {*BEFORE_PANDAS}
    done, _ = shell.process("search", page, "--jobs", "1", "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 2 and "leave one out" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (None, "there is no file"),
        ("symbol,units\nBA,1\n", "is no book"),
        ("symbol,shares\nBA,many\n", "is no book"),
        ("symbol,shares\nBA,1\nBA,2\n", "each symbol stands once"),
        ("symbol,shares\nZZZZ,1\n", "the book holds ZZZZ"),
    ],
)
def test_a_book_that_is_none_is_refused(shell, capsys, text, answer):
    file = shell.folder / "book.csv"
    if text is not None:
        file.write_text(text)
    shell.said = lambda: capsys.readouterr().err
    orders = shell.folder / "orders.csv"
    code, err = shell("decide", shell.recipe, "--as-of", "2012-06-15", "--book", file, "--output", orders)
    assert code == 2 and answer in err and err.strip().count("\n") == 0
    assert not orders.exists() and not (shell.folder / "ledger.sqlite").exists()
