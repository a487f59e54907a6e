"""Export the notebooks to quantlab/, and write numpydoc sections to the docstrings of its public names.

A room's `__init__.py` holds one line, the question that nbs/index.ipynb says it answers: `help` of it shows that.

Usage: python scripts/export.py     (`make export`; the last cell of each notebook calls it)

nbdev_export takes no processors but its own, so it runs first; the sections (scripts/sections.py) are written then. A
file that comes out as it was keeps its time, by which numba knows that its compiled kernels are still good.

nbdev_update would carry the sections back into the notebooks. It is refused: it alone loads quantlab/_modidx.py by the
name `_modidx`, and the file ends with a line for it.
"""

import json
import os
import re
import sys
from pathlib import Path

from nbdev.doclinks import nbdev_export

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import sections  # noqa: E402
from notebook_code import read_modules  # noqa: E402

REFUSAL = """
if __name__ == "_modidx":  # the name under which nbdev_update loads this file
    raise SystemExit(
        "nbdev_update is refused: it would copy the sections of the docstrings into the notebooks. "
        "Edit the notebook, then run `make export`."
    )
"""


def exported() -> dict[Path, tuple[bytes, os.stat_result]]:
    "Return what stands in the package, with its times."
    return {file: (file.read_bytes(), file.stat()) for file in (ROOT / "quantlab").rglob("*.py")}


def rooms() -> dict[str, str]:
    "Return the question that each room answers, from the table of nbs/index.ipynb."
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    rows = re.compile(r"^\| [\dx-]+ \| \[(\w+)\]\([^)]*\) \| (.+?) \|$", re.M)
    return dict(rows.findall("\n\n".join("".join(cell["source"]) for cell in cells)))


def write_rooms() -> None:
    "Write each room's question to its `__init__.py`, and nothing else."
    asked = rooms()
    for folder in sorted(f.parent for f in (ROOT / "quantlab").glob("*/__init__.py")):
        (folder / "__init__.py").write_text(f'"""{asked[folder.name]}"""\n', encoding="utf-8")


def write_sections() -> None:
    "Write the sections to the modules that nbdev has just exported."
    modules = read_modules()
    for name, module in modules.items():
        file = ROOT / "quantlab" / f"{name.replace('.', '/')}.py"
        texts = {
            key: text for public in module.public for key, text in sections.sections(module, public, modules).items()
        }
        file.write_text(sections.write(file.read_text(encoding="utf-8"), texts), encoding="utf-8")
    index = ROOT / "quantlab" / "_modidx.py"
    index.write_text(index.read_text(encoding="utf-8").removesuffix(REFUSAL) + REFUSAL, encoding="utf-8")


def export() -> None:
    "Export every notebook, with sections."
    before, here = exported(), Path.cwd()
    os.chdir(ROOT)
    try:
        nbdev_export()
    finally:
        os.chdir(here)
    write_rooms()
    write_sections()
    for file, (content, state) in before.items():
        if file.exists() and file.read_bytes() == content:
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


if __name__ == "__main__":
    export()
