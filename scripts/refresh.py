"""Run every notebook again, in order of its number, and store its outputs; then render README.md.

Usage: python scripts/refresh.py [nbs/room/123_name.ipynb ...]
"""

import base64
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import readme
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.export import nb_export
from PIL import Image
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]


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
    "Export one notebook's module, run its cells and store their outputs."
    nb_export(file, ROOT / "quantlab")
    notebook = nbformat.read(file, as_version=4)
    export_cell = [c for c in notebook.cells if "nbdev_export(" in c.source]
    rest = [c for c in notebook.cells if c not in export_cell]
    part = nbformat.NotebookNode(notebook | {"cells": rest})  # shares its cells with the notebook
    quiet = ["--log-level=CRITICAL"]
    NotebookClient(part, timeout=600, extra_arguments=quiet, resources={"metadata": {"path": str(file.parent)}}).execute()
    shrink_pictures(notebook)
    nbformat.write(notebook, file)
    nbdev_clean(fname=str(file))


if __name__ == "__main__":
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or notebooks()
    for file in track(chosen, description="running notebooks"):
        run(file)
    subprocess.run([Path(sys.executable).with_name("nbdev_export")], check=True, cwd=ROOT)
    readme.write()
