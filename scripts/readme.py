"""Render README.md from nbs/index.ipynb, without its hidden cells. Usage: python scripts/readme.py"""

from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Rendered from nbs/index.ipynb by `make refresh`: edit the notebook. -->\n\n"


def render() -> str:
    "Return the text of README.md."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [c for c in notebook.cells if not c.source.lstrip().startswith("#| hide")]
    text, _ = MarkdownExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(notebook)
    links = text.strip().replace("](../", "](")  # the notebook lies one folder below the README
    return NOTE + links + "\n"


def write() -> None:
    "Write README.md."
    (ROOT / "README.md").write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    write()
