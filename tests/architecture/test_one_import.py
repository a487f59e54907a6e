"One obvious import: what `import quantlab as ql` gives, what it costs, and that editors are told the same."

import ast
import builtins
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import quantlab

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "quantlab"
HOMES = quantlab._HOMES
MODULES = sorted(
    f"quantlab.{file.parent.name}.{file.stem}" for file in PACKAGE.glob("*/[a-z]*.py") if file.stem != "__init__"
)
ABSENT = sorted(name for name, home in HOMES.items() if f"quantlab.{home}" not in MODULES)
needs_all = pytest.mark.skipif(bool(ABSENT), reason=f"no module of the package defines {', '.join(ABSENT)} yet")


def fresh(program: str) -> str:
    "Run a program in an interpreter of its own; return what it prints."
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def named(name: str) -> pytest.param:
    "A name of the table; skipped while the module it is to come from is not written."
    late = pytest.mark.skipif(name in ABSENT, reason=f"quantlab.{HOMES[name]} is not written yet")
    return pytest.param(name, marks=late)


@pytest.mark.parametrize("name", [named(name) for name in HOMES])
def test_a_name_is_its_definition(name):
    home = importlib.import_module(f"quantlab.{HOMES[name]}")
    value = getattr(quantlab, name)
    assert value is getattr(home, name) and callable(value)
    assert value.__module__ == home.__name__ and name in home.__all__, "named where it is made, not passed on"


def test_about_twenty_five_and_none_is_a_room_or_a_builtin():
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    planned = {"altdata", "micro", "pricing", "deep", "signals", "risk", "recipe", "execution", "venues"}
    assert 20 <= len(HOMES) <= 30 and len(rooms) >= 14
    assert set(HOMES) & (rooms | planned | {"templates"} | set(dir(builtins))) == set()


def test_a_name_stays_that_callable_after_every_module_was_imported():
    program = f"""
import importlib
for name in {MODULES!r}: importlib.import_module(name)
import quantlab as ql
for name in {sorted(set(HOMES) - set(ABSENT))!r}:
    assert getattr(ql, name) is getattr(importlib.import_module("quantlab." + ql._HOMES[name]), name), name
    assert name not in vars(ql), name
print(len({MODULES!r}))
"""
    assert int(fresh(program)) > 100


def test_the_import_brings_nothing():
    program = """
import sys
before = set(sys.modules)
import quantlab as ql
dir(ql)
print(*sorted(set(sys.modules) - before))
"""
    assert fresh(program).split() == ["quantlab"]


def test_tab_completes_every_name():
    assert set(HOMES) | {"__version__"} <= set(dir(quantlab)) and quantlab.__all__ == list(HOMES)
    program = """
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import quantlab as ql")
with provisionalcompleter():
    print(*sorted(c.text for c in shell.Completer.completions("ql.from_", 8)))
"""
    found = {word.removeprefix("ql.").lstrip(".") for word in fresh(program).split()}
    assert {"from_weights", "from_orders", "from_signals", "from_strategy"} <= found


def test_a_misspelt_name_is_an_attribute_error_that_knows_its_neighbour():
    with pytest.raises(AttributeError, match="has no attribute 'rank_ics'") as caught:
        _ = quantlab.rank_ics
    assert caught.value.name == "rank_ics" and caught.value.obj is quantlab
    assert not hasattr(quantlab, "_ipython_display_")
    with pytest.raises(ImportError):
        exec("from quantlab import rank_ics")


def test_a_reload_is_seen():
    "A name is brought anew each time, so that what autoreload defined is what is given."
    module = importlib.import_module("quantlab.backtest.costs")
    first = quantlab.Costs
    try:
        module.Costs = type("Costs", (), {})
        assert quantlab.Costs is module.Costs is not first
    finally:
        module.Costs = first


def stub_names(text: str) -> dict[str, str]:
    "Return the names that a stub passes on, each with its module."
    tree, found = ast.parse(text), {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1
            for alias in node.names:
                assert alias.asname == alias.name, "a stub passes on only what it renames to itself"
                found[alias.name] = node.module
    return found


def test_the_stub_says_what_the_table_says():
    text = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    assert stub_names(text) == HOMES and re.search(r"^__version__: str$", text, re.M)


def test_editors_get_the_stub_and_the_mark_of_types_with_the_package():
    data = re.search(r"\[tool\.setuptools\.package-data\](.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.S)[1]
    assert '"*.pyi"' in data and '"py.typed"' in data and (PACKAGE / "py.typed").read_text() == ""


@pytest.mark.slow
@needs_all
def test_a_type_checker_sees_the_names(tmp_path):
    (tmp_path / "use.py").write_text("import quantlab as ql\n\nreveal_type(ql.Costs(1.0, 5.0))\nql.rank_ics\n")
    done = subprocess.run(  # as a stranger's project would, without our own settings
        [
            sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports",
            str(tmp_path / "use.py"),
        ],  # fmt: skip
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "quantlab.backtest.costs.Costs" in done.stdout and 'no attribute "rank_ics"' in done.stdout


def test_the_one_hand_written_file():
    "Every other module but migrations and one script comes from a notebook; the packages of the rooms hold no code."
    rooms = {f.parent.name: ast.parse(f.read_text(encoding="utf-8")).body for f in PACKAGE.glob("*/__init__.py")}
    says = lambda body: all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body)
    assert [room for room, body in rooms.items() if not says(body)] == []
    by_hand = [
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py" and "AUTOGENERATED" not in file.read_text(encoding="utf-8")[:500]
        and PACKAGE / "ops" / "migrations" not in file.parents  # statements of a day, which alembic runs
        and PACKAGE / "commands" / "pages" not in file.parents  # two lines, which streamlit runs
    ]
    assert by_hand in ([], ["_modidx.py"])
    assert "AUTOGENERATED" not in (PACKAGE / "__init__.py").read_text(encoding="utf-8")


def shortcuts(code: str) -> set[str]:
    "Return the names of the one import that a module uses."
    tree = ast.parse(code)
    called = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    brought = {
        a.name
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom)
        and ((n.level, n.module) == (0, "quantlab") or (n.level, n.module) == (2, None))
        for a in n.names
    }
    used = {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in called & {"quantlab", "ql"}
    }
    return (brought | used) & set(HOMES)


def test_no_module_climbs_the_floors_by_the_one_import():
    "A lazy name would hide an import from the contracts: exported code names the module it needs."
    assert shortcuts("import quantlab as ql\nql.rank(1)") == {"rank"} == shortcuts("from .. import rank")
    assert shortcuts("from quantlab import audit, core\nimport quantlab\nquantlab.__file__") == {"audit"}
    found = {f.name: shortcuts(f.read_text(encoding="utf-8")) for f in PACKAGE.glob("*/[a-z]*.py")}
    assert {name: used for name, used in found.items() if used} == {}
