"""House rules that import-linter cannot say: numbers, notebook form, single importers, side effects, determinism."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "nbs").glob("*/[0-9][0-9][0-9]_*.ipynb"))
SHOWN = [f for f in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in f.parts]  # tutorials too
MODULES = {f"quantlab.{file.parent.name}.{file.stem[4:]}": file for file in NOTEBOOKS}
FLOORS = {
    "core": (0, 99), "data": (100, 128), "importer": (129, 135), "vendors": (130, 149), "altdata": (150, 199),
    "features": (200, 239), "micro": (240, 269),
    "pricing": (270, 299), "labels": (300, 349), "validation": (350, 399), "models": (400, 449), "regime": (450, 479),
    "deep": (480, 499),
    "signals": (500, 549), "portfolio": (550, 599), "risk": (600, 689), "broker": (690, 699), "backtest": (700, 744),
    "strategy": (745, 749), "recipe": (750, 759), "execution": (760, 779), "venues": (780, 799),
    "report": (800, 839), "factors": (840, 849), "runs": (850, 899), "monitor": (930, 949),
    "ops": (900, 969), "commands": (970, 999),
}  # fmt: skip
LAST_CELL = """#| hide
import runpy; from quantlab.core.config import root; \
_ = runpy.run_path(f"{root()}/scripts/export.py", None, "__main__")"""
ENDS = {
    "data",
    "importer",
    "vendors",
    "altdata",
    "recipe",
    "execution",
    "venues",
    "report",
    "runs",
    "monitor",
    "ops",
    "commands",
}  # rooms that may touch disk, network and clock
DOORS = {
    "quantlab.core.config",
    "quantlab.core.ledger",
    "quantlab.core.compute",
    "quantlab.core.cache",
    "quantlab.backtest.sweep",  # very many settings lie in files
    "quantlab.models.out_of_core",  # features that memory does not hold
}
ONE_IMPORTER = (
    "QuantLib",
    "alphalens",
    "hftbacktest",
    "backtrader",
    "qlib",
    "mlflow",
    "torch",
    "gymnasium",
    "stable_baselines3",
    "dask",
    "hmmlearn",
    "lightgbm",
    "papermill",
    "nbconvert",
    "ccxt",
    "yfinance",
    "exchange_calendars",
    "distributed",
    "shap",
    "xgboost",
    "optuna",
    "alpaca",
    "simplefix",
    "ib_async",
    "redis",
    "confluent_kafka",
    "alembic",
    "huey",
    "prometheus_client",
    "structlog",
    "streamlit",
    "edgar",
    "rasterio",
    "vaderSentiment",
    "datasketch",
    "pyvinecopulib",
)


@cache
def exported(file: Path) -> str:
    "Return the code of a notebook's module without its docstrings, whose examples may do what the code may not."
    code = (ROOT / "quantlab" / file.parent.name / f"{file.stem[4:]}.py").read_text(encoding="utf-8")
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            place = node.body[0]
            lines[place.lineno - 1 : place.end_lineno] = ['""'.rjust(place.col_offset + 2)] + [""] * (
                place.end_lineno - place.lineno
            )
    return "\n".join(lines)


def imports(file: Path) -> set[str]:
    "Every module that the exported code imports, at the top or inside a function."
    found = set()
    for node in ast.walk(ast.parse(exported(file))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (
                [".".join(["quantlab", file.parent.name][: 3 - node.level])] if node.level else []
            )  # nbdev writes imports of the package relative
            module = ".".join(package + [node.module] * bool(node.module))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def cells(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["cells"]


def test_there_is_something_to_check():
    assert len(NOTEBOOKS) >= 30


@pytest.mark.parametrize("file", SHOWN, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_outputs_show_no_error_and_no_machine(file):
    for cell in cells(file):
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            assert not (output["output_type"] == "stream" and output["name"] == "stderr"), "".join(output["text"])[:300]
            text = json.dumps({k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}) + str(
                output.get("text", "")
            )
            assert not re.search(r"/(work|root|home|Users|tmp)/\w", text), text[:300]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f"{f.parent.name}/{f.stem}")
class TestNotebook:
    def test_number_belongs_to_the_room(self, file):
        low, high = FLOORS[file.parent.name]
        assert low <= int(file.name[:3]) <= high

    def test_imports_only_smaller_numbers(self, file):
        mine = int(file.name[:3])
        for name in imports(file) & set(MODULES):
            assert int(MODULES[name].name[:3]) < mine, f"{file.name} imports {MODULES[name].name}"

    def test_exports_where_its_name_says(self, file):
        sources = ["".join(c["source"]) for c in cells(file)]
        assert f"#| default_exp {file.parent.name}.{file.stem[4:]}" in "\n".join(sources)
        assert sources[0].startswith("# ") and "\n> " in sources[0], "title cell: '# Noun', then '> question'"
        assert "Why" in sources[1]
        assert sources[-1] == LAST_CELL, "the last cell exports with sections: a plain nbdev_export leaves them out"

    def test_shows_data_a_picture_and_a_test(self, file):
        code = [c for c in cells(file) if c["cell_type"] == "code"]
        source = "\n".join("".join(c["source"]) for c in code if "#| export" not in "".join(c["source"]))
        assert re.search(r"^\s*assert |raises|check_\w+\(", source, re.M), "no test beside the code"
        if file.parent.name not in ("ops", "commands") and file.stem not in (
            "800_tracking",
            "815_template",
            "820_run",
            "000_errors",
            "750_spec",  # words, no numbers
            "752_parts",
            "764_venue",
            "780_alpaca",  # what answers mean
            "149_share",  # what another program does
            "782_crypto",
            "784_fix",
            "786_interactive_brokers",
            "790_bus",
            "795_by_name",
        ):
            assert any("image/png" in o.get("data", {}) for c in code for o in c["outputs"]), "no plot"

    def test_only_the_ends_touch_disk_and_clock(self, file):
        name = f"quantlab.{file.parent.name}.{file.stem[4:]}"
        if file.parent.name in ENDS or name in DOORS:
            return
        outside = {
            "os",
            "pathlib",
            "sqlite3",
            "shutil",
            "tempfile",
            "subprocess",
            "socket",
            "urllib",
            "requests",
            "time",
        }
        assert not outside & {i.split(".")[0] for i in imports(file)}, f"{name} reaches outside"
        assert not re.search(r"\b(open|read_parquet|read_csv|to_parquet|to_csv)\(|\.now\(|\.today\(", exported(file))

    def test_is_deterministic(self, file):
        code = exported(file)
        assert not re.search(
            r"default_rng\(\s*\)|np\.random\.(seed|rand|randn|normal|shuffle|choice|permutation)\(|import random\b",
            code,
        ), "an unseeded generator"

    def test_exports_no_stray_output(self, file):
        if file.parent.name not in ("ops", "commands"):
            assert not re.search(r"^\s*print\(", exported(file), re.M)


def test_the_imports_are_really_read():
    assert "quantlab.core.panel" in imports(MODULES["quantlab.core.audit"])
    assert "hmmlearn" in {name.split(".")[0] for name in imports(MODULES["quantlab.regime.hmm"])}


def test_the_init_of_a_room_holds_one_line_its_question():
    for room in {f.parent.name for f in NOTEBOOKS}:
        tree = ast.parse((ROOT / "quantlab" / room / "__init__.py").read_text(encoding="utf-8"))
        assert len(tree.body) == 1 and len((ast.get_docstring(tree) or "").splitlines()) == 1, f"{room}: make export"


def test_rooms_are_small():
    for room in {f.parent.name for f in NOTEBOOKS}:
        assert len([f for f in NOTEBOOKS if f.parent.name == room]) <= 12, room


@pytest.mark.parametrize("library", ONE_IMPORTER)
def test_heavy_libraries_have_one_importer(library):
    users = [f.name for f in NOTEBOOKS if library in {i.split(".")[0] for i in imports(f)}]
    assert len(users) <= 1, users


def test_base_imports_without_the_extras():
    "Every module but the adapters imports while the optional libraries are blocked."
    blocked = (
        "nbdev",
        "fastcore",
        "execnb",
        "backtrader",
        "qlib",
        "mlflow",
        "torch",
        "gymnasium",
        "stable_baselines3",
        "ccxt",
        "yfinance",
        "dask",
        "distributed",
        "shap",
        "xgboost",
        "psycopg",
    )
    program = f"""
import sys, importlib
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}: raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
for name in {sorted(MODULES)!r}: importlib.import_module(name)
print('imported', {len(MODULES)})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def requirement_name(line: str) -> str:
    return re.split(r"[\s\[=<>!~;]", line.strip())[0].lower().replace("_", "-")


def test_base_install_is_permissive():
    "No package that the base install pulls in is under a copyleft licence."
    seen, queue = set(), [requirement_name(r) for r in metadata.requires("quantlab") if "extra ==" not in r]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a dependency of another platform
        info = package.metadata
        licence = " ".join(
            [
                info.get("License-Expression") or "",
                (info.get("License") or "")[:80],
                *[c for c in info.get_all("Classifier") or [] if "License" in c],
            ]
        )
        assert not re.search(r"(?<!L)(?<!Lesser )\bA?GPL", licence), f"{name}: {licence}"
        queue += [requirement_name(r) for r in package.requires or [] if "extra ==" not in r]
    assert {"numpy", "pandas", "lightgbm"} <= seen


def test_lock_covers_what_the_project_names():
    lock = {requirement_name(line): line for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert "://" not in "".join(lock.values()), "no index addresses in the lock"
    for requirement in metadata.requires("quantlab"):
        if not requirement.endswith(('extra == "deep"', 'extra == "rl"', 'extra == "dvc"')):  # README: not in the lock
            assert requirement_name(requirement) in lock, requirement


def test_versions_are_in_step():
    settings = (ROOT / "settings.ini").read_text()
    version = re.search(r"^version = (.+)$", settings, re.M)[1]
    assert f'__version__ = "{version}"' in (ROOT / "quantlab" / "__init__.py").read_text()
    assert "-r requirements.lock" in (ROOT / "environment.yml").read_text()
    assert metadata.version("quantlab") == version


def test_readme_is_rendered_from_the_index():
    sys.path.insert(0, str(ROOT / "scripts"))
    import readme

    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme.render(), (
        "run `make refresh` or `python scripts/readme.py`"
    )


def test_nothing_committed_names_a_machine():
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT).stdout.split()
    for name in files:
        if name.endswith((".py", ".md", ".ini", ".toml", ".yml", ".sh", ".lock")) and "test_floors" not in name:
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"/(work|root)/", text), name


def jitted(code: str) -> dict[str, set[str]]:
    "Map each compiled function of a module to the names that it calls."
    tree = ast.parse(code)
    compilers = {"njit", "jit", "vectorize", "guvectorize"}
    compilers |= {
        t.id
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and "jit" in ast.unparse(n.value.func)
        for t in n.targets
    }
    marked = lambda f: any(compilers & {n.id for n in ast.walk(d) if isinstance(n, ast.Name)} for d in f.decorator_list)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and marked(n)]
    return {
        f.name: {c.func.id for c in ast.walk(f) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}
        for f in functions
    }


def test_a_kernel_calls_only_kernels_of_its_own_module():
    "numba keeps a compiled function until its own file changes: a callee of another file would go stale in it."
    kernels = {name: jitted(exported(file)) for name, file in MODULES.items()}
    assert sum(map(len, kernels.values())) > 30
    for name, functions in kernels.items():
        foreign = {
            alias.asname or alias.name
            for n in ast.walk(ast.parse(exported(MODULES[name])))
            if isinstance(n, ast.ImportFrom) and (n.level or n.module.startswith("quantlab"))
            for alias in n.names
        }
        elsewhere = foreign & {f for other, found in kernels.items() if other != name for f in found}
        for function, calls in functions.items():
            assert not calls & elsewhere, f"{name}.{function} calls {calls & elsewhere}"


def test_no_two_test_files_share_a_name():
    "Pytest imports them by their names alone: the second of a pair would not be collected."
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
