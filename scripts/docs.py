"""Render the notebooks to a static site in _docs/ without quarto and without network. Usage: python scripts/docs.py"""

import re
import shutil
from pathlib import Path

import nbformat
import yaml
from jinja2 import DictLoader
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_docs"
MATH = re.compile(r"(?<!`)\$\$(?P<block>.+?)\$\$|(?<![`$\\])\$(?P<inline>[^$\n`]+?)\$(?![\d`])", re.S)
PAGE = """
{%- extends 'basic/index.html.j2' -%}
{%- block header -%}<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ resources.title }} - quantlab</title>
<style>{{ resources.css }}</style></head><body><nav>{{ resources.nav }}</nav><main>{%- endblock header -%}
{%- block footer -%}</main></body></html>{%- endblock footer -%}
"""
CSS = """
body{margin:0;font:16px/1.55 system-ui,sans-serif;color:#1c2530;display:flex}
nav{flex:0 0 15rem;height:100vh;position:sticky;top:0;overflow:auto;padding:1rem;box-sizing:border-box;background:#f6f7f9;font-size:.88rem}
nav b{display:block;margin:.8rem 0 .2rem;color:#5b6775;text-transform:uppercase;font-size:.75rem;letter-spacing:.05em}
nav a{display:block;color:#1c2530;text-decoration:none;padding:.1rem 0}nav a:hover{color:#0072b2}
main{flex:1;min-width:0;max-width:60rem;padding:1.5rem 2.5rem;box-sizing:border-box}
pre{background:#f6f7f9;padding:.7rem .9rem;overflow:auto;font-size:.83rem;line-height:1.45;border-radius:4px}code{font-size:.92em}
.output_html,.jp-OutputArea-output,.output{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:left;border:0;border-bottom:1px solid #e4e7eb}.dataframe td,.dataframe th{text-align:right}.dataframe tbody th,.dataframe th:first-child{text-align:left}
blockquote{margin:0 0 1rem;padding:.1rem 1rem;border-left:3px solid #0072b2;color:#45505c}img{max-width:100%}.anchor-link{display:none}
.prompt,.jp-InputPrompt,.jp-OutputPrompt{display:none}.k,.kn,.ow{color:#0b5f95}.s1,.s2,.sd{color:#23742f}.c1{color:#6a7480}
@media(max-width:800px){body{display:block}nav{height:auto;position:static}main{padding:1rem}}
"""


def mathml(text: str) -> str:
    "Replace LaTeX between dollar signs by MathML, outside fenced code."
    parts = re.split(r"(```.*?```)", text, flags=re.S)
    swap = lambda m: convert(m["block"] or m["inline"], display="block" if m["block"] else "inline")
    return "".join(p if p.startswith("```") else MATH.sub(swap, p) for p in parts)


def head(cell: nbformat.NotebookNode) -> None:
    "Turn the front matter that nbdev makes of a title cell back into a heading and its question."
    if cell.source.startswith("---"):
        front = yaml.safe_load(cell.source.strip().strip("-"))
        cell.cell_type, cell.source = "markdown", f"# {front['title']}\n\n> {front['description']}"


def title(notebook: nbformat.NotebookNode) -> str:
    "Return the first heading of a notebook."
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.M)[1].strip()


def navigation(pages: dict[Path, nbformat.NotebookNode], here: Path) -> str:
    "List the rooms and their notebooks, in the order of their floors."
    up = "../" * (len(here.parts) - 1)
    html, room = f'<a href="{up}index.html"><strong>quantlab</strong></a>', None
    for page, notebook in pages.items():
        if len(page.parts) == 1:
            continue
        if page.parts[0] != room:
            room = page.parts[0]
            html += f"<b>{room}</b>"
        html += f'<a href="{up}{page.with_suffix(".html").as_posix()}">{title(notebook)}</a>'
    return html


def read(source: Path) -> dict[Path, nbformat.NotebookNode]:
    "Return the processed notebooks by their path, lowest floor first."
    files = [f.relative_to(source) for f in source.rglob("*.ipynb")]
    rooms = {room: min((f.name for f in files if f.parent == room), default="") for room in {f.parent for f in files}}
    ordered = sorted(files, key=lambda f: (len(f.parts) > 1, not rooms[f.parent][:1].isdigit(), rooms[f.parent], f.name))
    pages = {}
    for file in ordered:
        notebook = nbformat.reads((source / file).read_text(encoding="utf-8"), as_version=4)
        head(notebook.cells[0])
        for cell in notebook.cells:
            if "#| echo: false" in cell.source:
                cell.metadata.transient = {"remove_source": True}
            cell.pop("has_sd", None)
            cell.metadata.pop("execution", None)
            if cell.cell_type == "markdown":
                links = re.sub(r"\]\((?:\.\./nbs/)?([^):]+)\.ipynb([^)]*)\)", r"](\1.html\2)", cell.source)
                cell.source = mathml(links.replace("](../nbs/", "]("))
        pages[file] = notebook
    return pages


def build() -> Path:
    "Render every notebook and return the front page."
    pages = read(Path(proc_nbs(path=str(ROOT / "nbs"), n_workers=1, force=True)))
    shutil.rmtree(SITE, ignore_errors=True)
    exporter = HTMLExporter(extra_loaders=[DictLoader({"page.html.j2": PAGE})], template_file="page.html.j2", template_name="basic")
    for page, notebook in pages.items():
        resources = {"title": title(notebook), "nav": navigation(pages, page), "css": CSS}
        html, _ = exporter.from_notebook_node(notebook, resources=resources)
        target = SITE / page.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html, encoding="utf-8")
    if (ROOT / "nbs" / "images").is_dir():
        shutil.copytree(ROOT / "nbs" / "images", SITE / "images")
    return SITE / "index.html"


if __name__ == "__main__":
    print(f"docs: {build().relative_to(ROOT)}")
