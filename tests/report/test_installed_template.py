"The page's template travels with the package: a wheel, installed elsewhere, writes the page."

import json
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from quantlab.report.run import TEMPLATES, html_page

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title & more\n\n## First\n\ntext")])
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import nbformat
import quantlab
from quantlab.report.run import TEMPLATES, html_page
assert quantlab.__file__.startswith(sys.argv[1]) and str(TEMPLATES).startswith(sys.argv[1])
print(html_page(nbformat.from_dict(json.loads(sys.argv[2])), {}, {}, ["a fact"]))
"""


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.skipif(find_spec("setuptools") is None or find_spec("uv") is None, reason="nothing here builds a wheel")
def test_an_installed_wheel_writes_the_page(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    shutil.copytree(ROOT / "quantlab", tree / "quantlab", ignore=shutil.ignore_patterns("__pycache__"))
    tool = [sys.executable, "-m", "uv"]
    built = subprocess.run(
        [*tool, "build", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable, "-q"],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = (tree / "dist").glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {"quantlab/__init__.pyi", "quantlab/py.typed"} <= set(files)
    packed = {name.removeprefix("quantlab/report/templates/") for name in files if "/report/templates/" in name}
    assert packed == names(TEMPLATES) and "page/index.html.j2" in packed
    place = tmp_path / "place"
    subprocess.run(
        [*tool, "pip", "install", "-q", "--offline", "--no-deps", "--target", str(place), str(wheel)], check=True
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(place), json.dumps(NOTEBOOK)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == html_page(NOTEBOOK, {}, {}, ["a fact"]).strip()
        and "<h1>A title &amp; more</h1>" in done.stdout
    )
