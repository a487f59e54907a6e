"""Render the notebooks to a static site in _docs/ without quarto and without network. Usage: python scripts/docs.py

An exported cell becomes the documentation of its public names, with the sections that `help` shows, above its code.
names.html lists every public name, and which of them `import quantlab as ql` has; the search box looks through names,
one-line descriptions and pages.

pages.html shows the newest run of each report of PAGES, wide and narrow, as headless Chromium draws it; without a
browser or without such a run it is left out, and a line says so.
"""

import ast
import json
import re
import shutil
import subprocess
import tempfile
import textwrap
from html import escape
from pathlib import Path

import nbformat
import notebook_code
import sections
from jinja2 import DictLoader
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

import quantlab
from quantlab.report.run import ReportRun, list_runs
from quantlab.runs.pdf import BROWSERS

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_docs"
PAGES = ("tearsheet", "regime", "factor", "risk")  # reports whose newest run is shown, where there is one
WIDTHS = {"wide": (1200, 1500), "narrow": (390, 1500)}  # of a picture, pixels
MATH = re.compile(r"(?<!`)\$\$(?P<block>.+?)\$\$|(?<![`$\\])\$(?P<inline>[^$\n`]+?)\$(?![\d`])", re.S)
PAGE = """
{%- extends 'basic/index.html.j2' -%}
{%- block header -%}<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ resources.title }} - quantlab</title>
<link rel="stylesheet" href="{{ resources.up }}style.css"><script>const UP = "{{ resources.up }}"</script>
<script src="{{ resources.up }}index.js" defer></script><script src="{{ resources.up }}search.js" defer></script>
</head><body><nav>{{ resources.nav }}</nav><main>{%- endblock header -%}
{%- block footer -%}</main></body></html>{%- endblock footer -%}
"""
CSS = """
body{margin:0;font:16px/1.55 system-ui,sans-serif;color:#1c2530;display:flex}
nav{flex:0 0 16rem;height:100vh;position:sticky;top:0;overflow:auto;padding:1rem;box-sizing:border-box;
  background:#f6f7f9;font-size:.88rem}
nav b{display:block;margin:.8rem 0 .2rem;color:#5b6775;text-transform:uppercase;font-size:.75rem;letter-spacing:.05em}
nav a{display:block;color:#1c2530;text-decoration:none;padding:.1rem 0}nav a:hover,nav a.here{color:#0072b2}
#search{position:sticky;top:-1rem;margin:.4rem 0;padding:.4rem 0;background:#f6f7f9}
#search input{width:100%;box-sizing:border-box;padding:.4rem .6rem;font:inherit;
  border:1px solid #b9c2cc;border-radius:4px}
#search input:focus{outline:2px solid #0072b2;outline-offset:-1px}
#found a{padding:.3rem .4rem;border-bottom:1px solid #e4e7eb;background:#fff}#found a.on{background:#e8f1f8}
#found code{font-weight:600;overflow-wrap:anywhere}#found small{display:block;color:#5b6775;line-height:1.3}
#found p{margin:.3rem;color:#5b6775}
main{flex:1;min-width:0;max-width:62rem;padding:1.5rem 2.5rem;box-sizing:border-box}
pre{background:#f6f7f9;padding:.7rem .9rem;overflow:auto;font-size:.83rem;line-height:1.45;border-radius:4px}
code{font-size:.92em}
.output_html,.jp-OutputArea-output,.output{overflow-x:auto}
table{border-collapse:collapse;font-size:.86rem;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:left;border:0;border-bottom:1px solid #e4e7eb;vertical-align:top}
.dataframe td,.dataframe th{text-align:right}.dataframe tbody th,.dataframe th:first-child{text-align:left}
blockquote{margin:0 0 1rem;padding:.1rem 1rem;border-left:3px solid #0072b2;color:#45505c}
img{max-width:100%}.anchor-link{display:none}
.prompt,.jp-InputPrompt,.jp-OutputPrompt{display:none}.k,.kn,.ow{color:#0b5f95}
.s1,.s2,.sd{color:#23742f}.c1{color:#6a7480}
.api{border-left:3px solid #b9c2cc;padding:.1rem 0 .1rem 1.1rem;margin:1.4rem 0;scroll-margin-top:1rem}
.api:target{border-color:#0072b2}
.api h3{margin:.2rem 0;font-size:1.05rem;font-family:ui-monospace,monospace;overflow-wrap:anywhere}
.api h3 a{color:inherit;text-decoration:none}.api h3 small{color:#5b6775;font-weight:400}
.api h4{margin:.9rem 0 .2rem;font-size:.86rem;color:#45505c}
.api dl{margin:.2rem 0;font-size:.92rem}.api dt{font-family:ui-monospace,monospace;font-size:.84rem;margin-top:.35rem}
.api dt i{color:#5b6775}.api dd{margin:0 0 0 1.4rem}.api .api{margin:1rem 0 1rem .2rem}
details{margin:.4rem 0 1rem}summary{cursor:pointer;color:#5b6775;font-size:.85rem}
.names td:first-child{white-space:nowrap}.names h2{margin:1.4rem 0 .3rem}.letters a{margin-right:.4rem}
@media(max-width:800px){body{display:block}nav{height:auto;position:static;padding:.7rem 1rem}
  main{padding:1rem}nav .rooms{display:none}nav .rooms.open{display:block}
  .names td{display:block;border:0;padding:.05rem 0}
  .names tr{display:block;border-bottom:1px solid #e4e7eb;padding:.4rem 0}
  .names td:first-child{white-space:normal}}
@media(min-width:801px){#rooms{display:none}}
"""
SEARCH = """
const box = document.querySelector("#search input"), found = document.querySelector("#found");
let chosen = 0;
function score(entry, words) {
  const name = entry[0].toLowerCase(), last = name.split(".").pop(), all = name + " " + entry[2].toLowerCase();
  let total = 0;
  for (const w of words) {
    if (last === w || name === w) total += 100;
    else if (last.startsWith(w)) total += 40;
    else if (name.includes(w)) total += 20;
    else if (all.includes(w)) total += 5;
    else return 0;
  }
  return total - name.length / 100;
}
function mark() { [...found.querySelectorAll("a")].forEach((a, i) => a.classList.toggle("on", i === chosen)); }
function search() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  found.replaceChildren();
  chosen = 0;
  if (!words.length) return;
  const hits = INDEX.map(e => [score(e, words), e]).filter(h => h[0] > 0).sort((a, b) => b[0] - a[0]).slice(0, 12);
  for (const [, [name, place, line, url]] of hits) {
    const [a, code, small] = ["a", "code", "small"].map(tag => document.createElement(tag));
    a.href = UP + url;
    code.textContent = name;
    small.textContent = place + " - " + line;
    a.append(code, small);
    found.append(a);
  }
  if (!hits.length) found.append(Object.assign(document.createElement("p"), {textContent: "Nothing has these words."}));
  mark();
}
box.addEventListener("input", search);
box.addEventListener("keydown", event => {
  const links = found.querySelectorAll("a");
  if (event.key === "ArrowDown") chosen = Math.min(chosen + 1, links.length - 1);
  else if (event.key === "ArrowUp") chosen = Math.max(chosen - 1, 0);
  else if (event.key === "Enter" && links[chosen]) location.href = links[chosen].href;
  else if (event.key === "Escape") { box.value = ""; search(); }
  else return;
  event.preventDefault();
  mark();
});
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
});
document.querySelector("#rooms").addEventListener("click", event => {
  event.preventDefault();
  document.querySelector(".rooms").classList.toggle("open");
});
const here = document.querySelector("nav a.here");
if (here) document.querySelector("nav").scrollTop = here.offsetTop - 300;
const query = new URLSearchParams(location.search).get("q");
if (query) { box.value = query; search(); }
"""


def mathml(text: str) -> str:
    "Replace LaTeX between dollar signs by MathML, outside fenced code."
    parts = re.split(r"(```.*?```)", text, flags=re.S)
    swap = lambda m: convert(m["block"] or m["inline"], display="block" if m["block"] else "inline")
    return "".join(p if p.startswith("```") else MATH.sub(swap, p) for p in parts)


def title(notebook: nbformat.NotebookNode) -> str:
    "Return the first heading of a notebook."
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.M)[1].strip()


def question(notebook: nbformat.NotebookNode) -> str:
    "Return the question below the first heading, or nothing."
    found = re.search(r"^> (.+)$", notebook.cells[0].source, re.M)
    return found[1].strip() if found else ""


def navigation(pages: dict[Path, nbformat.NotebookNode], here: Path) -> str:
    "Return the search box and the list of rooms and notebooks, in the order of their floors."
    up = "../" * (len(here.parts) - 1)
    link = lambda url, text, now: f'<a href="{up}{url}"{" class=here" if now else ""}>{text}</a>'
    box = (
        '<div id="search"><input type="search" placeholder="Search (press /)" aria-label="Search">'
        '<div id="found"></div></div>'
    )
    html, room = f'<a href="{up}index.html"><strong>quantlab</strong></a>{box}', None
    top = [(p, n) for p, n in pages.items() if len(p.parts) == 1 and p.stem not in ("index", "pages")]
    html += "".join(link(p.with_suffix(".html"), escape(title(n)), p == here) for p, n in top)
    html += link("names.html", "Index of names", here.name == "names.ipynb")
    if Path("pages.ipynb") in pages:
        html += link("pages.html", "Pages of the reports", here.name == "pages.ipynb")
    html += '<a href="#" id="rooms">All notebooks</a><div class="rooms">'
    for page, notebook in pages.items():
        if len(page.parts) > 1:
            html += "" if page.parts[0] == room else f"<b>{page.parts[0]}</b>"
            room = page.parts[0]
            html += link(page.with_suffix(".html").as_posix(), escape(title(notebook)), page == here)
    return html + "</div>"


# What a name does


def blocks(doc: str) -> tuple[str, dict[str, str]]:
    "Split a docstring into what it says first and its sections, by title."
    titles = [head.split("\n")[0].strip() for head in sections.HEADER.findall(doc)]
    first, *rest = sections.HEADER.split(doc)
    return first.strip(), dict(zip(titles, (part.strip("\n") for part in rest), strict=True))


def entries(text: str) -> str:
    "Turn the lines of a section into a list of terms and their meanings."
    html = ""
    for term, meaning in re.findall(r"^(\S.*)\n?((?:[ ]{4}.*\n?)*)", text, re.M):
        name, colon, kind = term.partition(" : ")
        told = re.split(r'(?<=["])\n(?=[A-Z"])|(?<=[.])\n(?=[A-Z"])', textwrap.dedent(meaning).strip())
        html += f"<dt>{escape(name)}{' : ' if colon else ''}<i>{escape(kind)}</i></dt>"
        html += "".join(f"<dd>{escape(' '.join(text.split()))}</dd>" for text in told if text)
    return f"<dl>{html}</dl>"


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    "Write how a name is called, without annotations: these are in the table of parameters."
    if isinstance(node, ast.ClassDef):
        init = notebook_code.constructor(node)
        return f"class {node.name}" + (signature(init)[len("__init__") :] if init else "")
    plain = ast.parse(ast.unparse(node)).body[0]
    for arg in ast.walk(plain.args):
        if isinstance(arg, ast.arg):
            arg.annotation = None
    arguments = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(plain.args))
    return f"{node.name}({arguments})"


def document(name: str, node: ast.FunctionDef | ast.ClassDef, module: str) -> str:
    "Return the documentation of a public name as HTML; a class holds that of its methods."
    first, parts = blocks(ast.get_docstring(node) or "")
    properties = [ast.unparse(d) for d in node.decorator_list]
    shown = node.name if any(p.endswith("property") for p in properties) else signature(node)
    html = f'<div class="api" id="{name}"><h3><a href="#{name}"><small>{module}.</small>{escape(shown)}</a></h3>'
    html += "".join(f"<p>{escape(p)}</p>" for p in first.split("\n\n"))
    for head, text in parts.items():
        if head == "Examples":
            body = f"<pre>{escape(text)}</pre>"
        elif head == "References":
            works = re.findall(r"\.\. \[\d+\] (.+(?:\n .+)*)", text)
            italic = [re.sub(r"[*](.+?)[*]", r"<i>\1</i>", escape(" ".join(work.split()))) for work in works]
            body = "<ul>" + "".join(f"<li>{work}</li>" for work in italic) + "</ul>"
        else:
            body = entries(text)
        html += f"<h4>{head}</h4>{body}"
    if isinstance(node, ast.ClassDef):
        html += "".join(document(f"{name}.{m.name}", m, f"{module}.{node.name}") for m in notebook_code.methods(node))
    return html + "</div>"


def as_html(html: str) -> nbformat.NotebookNode:
    "Return a cell that shows nothing but some HTML."
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    return nbformat.v4.new_code_cell("", outputs=[output], metadata={"transient": {"remove_source": True}})


def shown(cell: nbformat.NotebookNode, module: str, package: dict[str, ast.AST]) -> list[nbformat.NotebookNode]:
    "Return what the site shows of a cell: nothing of a hidden one, the names and the code of an exported one."
    directives = re.findall(r"^#\|\s*(\w+)(?::\s*(\w+))?.*$", cell.source, re.M)
    words = {word for word, _ in directives}
    if cell.cell_type == "markdown":
        links = re.sub(r"\]\((?:\.\./nbs/)?([^):]+)\.ipynb([^)]*)\)", r"](\1.html\2)", cell.source)
        cell.source = mathml(links.replace("](../nbs/", "]("))
        return [cell]
    if cell.cell_type != "code" or words & {"hide", "default_exp"} or not cell.source.strip():
        return []
    cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    if not words & {"export", "exports"}:
        cell.metadata.pop("execution", None)
        if ("echo", "false") in directives:
            cell.metadata.transient = {"remove_source": True}
        return [cell]
    body = notebook_code.parse(cell.source).body
    names = [
        n.name for n in body if isinstance(n, (*notebook_code.FUNCTION, ast.ClassDef)) and not n.name.startswith("_")
    ]
    code = f"<details><summary>Code</summary><pre>{escape(cell.source.strip())}</pre></details>"
    return [as_html("".join(document(n, package[n], module) for n in names if n in package) + code)]


def read() -> tuple[dict[Path, nbformat.NotebookNode], list[list[str]]]:
    "Return the notebooks by their page, lowest floor first, and the entries of the index: name, place, line, address."
    source = ROOT / "nbs"
    files = [f.relative_to(source) for f in source.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts]
    rooms = {room: min((f.name for f in files if f.parent == room), default="") for room in {f.parent for f in files}}
    order = lambda f: (len(f.parts) > 1, not rooms[f.parent][:1].isdigit(), rooms[f.parent], f.name)
    pages, index = {}, []
    for file in sorted(files, key=order):
        notebook = nbformat.read(source / file, as_version=4)
        module, package, kept = f"{file.parent.name}.{file.stem[4:]}", {}, set()
        code = ROOT / "quantlab" / f"{module.replace('.', '/')}.py"
        if file.name[0].isdigit() and code.is_file():
            text = code.read_text(encoding="utf-8")
            package, kept = sections.definitions(text), exported(text)
        address = file.with_suffix(".html").as_posix()
        index.append([title(notebook), "notebook", question(notebook), address])
        index += [
            [n, f"quantlab.{module}", line(node), f"{address}#{n}"]
            for n, node in package.items()
            if n in kept  # what a command alone uses (exporti) has no entry to lead to
        ]
        notebook.cells = [new for cell in notebook.cells for new in shown(cell, module, package)]
        pages[file] = notebook
    return pages, index


def exported(text: str) -> set[str]:
    "Return the names in a module's __all__."
    listed = (
        n.value for n in ast.parse(text).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    )
    return {name for value in listed for name in ast.literal_eval(value)}


def line(node: ast.AST) -> str:
    return " ".join(blocks(ast.get_docstring(node) or "")[0].partition("\n\n")[0].split())


def names_page(index: list[list[str]]) -> nbformat.NotebookNode:
    "Return the page that lists every public name with its room and its line."
    listed: dict[str, list[str]] = {}
    for name, place, said, address in sorted(index, key=lambda e: (e[0].lower(), e[1])):
        if place != "notebook" and "." not in name:
            short = f" or <code>ql.{name}</code>" if f"quantlab.{quantlab._HOMES.get(name)}" == place else ""
            row = (
                f'<tr><td><a href="{address}"><code>{name}</code></a></td><td>{place}{short}</td>'
                f"<td>{escape(said)}</td></tr>"
            )
            listed.setdefault(name[0].upper(), []).append(row)
    letters = " ".join(f'<a href="#letter-{letter}">{letter}</a>' for letter in listed)
    parts = [f'<h2 id="letter-{letter}">{letter}</h2><table>{"".join(rows)}</table>' for letter, rows in listed.items()]
    count = sum(map(len, listed.values()))
    head = nbformat.v4.new_markdown_cell(
        f"# Index of names\n\n> {count} public functions and classes, where each lives, and what it does."
    )
    return nbformat.v4.new_notebook(
        cells=[head, as_html(f'<div class="names"><p class="letters">{letters}</p>{"".join(parts)}</div>')]
    )


# Pictures of the reports


def photograph(page: Path, target: Path, size: tuple[int, int]) -> bool:
    "Let a browser draw a page of a size into a PNG; say whether it did."
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        line = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        line += ["--hide-scrollbars", "--virtual-time-budget=15000", f"--screenshot={target}"]
        line += [f"--window-size={size[0]},{size[1]}"]
        try:
            subprocess.run([*line, page.resolve().as_uri()], capture_output=True, timeout=120)
        except subprocess.TimeoutExpired:
            return False
    return target.is_file()


def newest(runs: list[ReportRun]) -> dict[str, ReportRun]:
    "Return the newest run of each report of PAGES that has one; the runs come newest first."
    found = {run.manifest.get("template"): run for run in reversed(runs) if run.html.is_file()}
    return {name: found[name] for name in PAGES if name in found}


def pictures_page(runs: dict[str, ReportRun], folder: Path) -> nbformat.NotebookNode | None:
    "Photograph runs into a folder of the site; return the page that shows them, None where nothing was drawn."
    html = ""
    for name, run in runs.items():
        shots = ""
        for width, size in WIDTHS.items():
            file = folder / f"{name}-{width}.png"
            if photograph(run.html, file, size):
                words = f"The top of the page of quantlab report {name}, {size[0]} pixels wide"
                shots += f'<p><img src="{folder.name}/{file.name}" alt="{words}"></p>'
        html += f"<h2>{name}</h2><p>Run of {run.manifest['started'][:10]}.</p>{shots}" if shots else ""
    if not html:
        return None
    head = "# Pages of the reports\n\n> What does a report look like, on a desk and on a phone?"
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(head), as_html(html)])


def add_pictures(pages: dict[Path, nbformat.NotebookNode]) -> str:
    "Put the page of pictures among the pages where it can be made; return what is to be said about it."
    if not any(map(shutil.which, BROWSERS)):
        return "no pictures of reports: no Chromium is installed"
    runs = newest(list_runs())
    if not runs:
        return f"no pictures of reports: there is no run of {', '.join(PAGES)}; make report makes one"
    page = pictures_page(runs, SITE / "pages")
    if page is None:
        return "no pictures of reports: the browser drew none"
    pages[Path("pages.ipynb")] = page
    return f"pictures of {', '.join(runs)}"


def build() -> Path:
    "Render every notebook, the index of names and the pictures of reports; return the front page."
    pages, index = read()
    shutil.rmtree(SITE, ignore_errors=True)
    print(f"docs: {add_pictures(pages)}")
    loader = DictLoader({"page.html.j2": PAGE})
    exporter = HTMLExporter(extra_loaders=[loader], template_file="page.html.j2", template_name="basic")
    for page, notebook in [*pages.items(), (Path("names.ipynb"), names_page(index))]:
        up = "../" * (len(page.parts) - 1)
        resources = {"title": title(notebook), "nav": navigation(pages, page), "up": up}
        html, _ = exporter.from_notebook_node(notebook, resources=resources)
        target = SITE / page.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html, encoding="utf-8")
    (SITE / "style.css").write_text(CSS, encoding="utf-8")
    (SITE / "search.js").write_text(SEARCH, encoding="utf-8")
    (SITE / "index.js").write_text(f"const INDEX = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8")
    if (ROOT / "nbs" / "images").is_dir():
        shutil.copytree(ROOT / "nbs" / "images", SITE / "images")
    return SITE / "index.html"


if __name__ == "__main__":
    print(f"docs: {build().relative_to(ROOT)}")
