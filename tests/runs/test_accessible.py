"Every page for every reader: axe-core finds nothing serious and the console is silent, in light and in dark."

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from quantlab.core.ledger import Ledger
from quantlab.ops.passport import draw_passport, write_passport
from quantlab.report.run import list_runs, read_run, run_report
from quantlab.runs.compare import compare_page
from quantlab.runs.pdf import write_pdf
from quantlab.runs.runs_page import write_index

ROOT = Path(__file__).resolve().parents[2]
AXE = Path(os.environ.get("QUANTLAB_AXE") or ROOT / ".cache" / "axe.min.js")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed (Debian package chromium)")
needs_axe = pytest.mark.skipif(
    not AXE.is_file(),
    reason="no axe.min.js: `npm pack axe-core`, unpack it, and copy package/axe.min.js to .cache/ or set QUANTLAB_AXE",
)
CELLS = [
    'span: int = 42  # sessions <of> the "window"',
    "import pandas as pd\nfrom quantlab.core.plot import figure\nfrom quantlab.report.template import emit\n"
    'fig, ax = figure(f"A line & {span} sessions", "", "", size=(6, 2))\n_ = ax.plot([0, span])\nfig',
    'pd.DataFrame({"number": [1.5, 2.25], "word": ["<b>long</b> " * 8, "b"]}, index=["one", "two"]).rename_axis("row")',
    'print("a line of a log " * 20)',
    'emit({"answer": span / 7, "same": 1.0}, data_hash="d", headline=["answer"])',
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    "A report, the index of two, their comparison, and a passport."
    folder = tmp_path_factory.mktemp("pages")
    new = nbformat.v4
    body = [new.new_code_cell(text) for text in CELLS]
    body[0].metadata["tags"] = ["parameters"]
    title, part = new.new_markdown_cell("# A small page"), new.new_markdown_cell("## Part & more\n\n[a](#s1) `code`")
    nbformat.write(new.new_notebook(cells=[title, body[0], part, *body[1:]]), folder / "small.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_RESEARCH_LEDGER", str(folder / "ledger.sqlite"))
        for span in (42, 84):
            run_report(folder / "small.ipynb", {"span": span}, folder / "runs", track=False)
    later, earlier = list_runs(folder / "runs")
    index = write_index(folder / "runs")
    held = pd.DataFrame({"held": [True, False], "shown": ["all well", ""], "missing": ["", "none"]}, ["audit", "tests"])
    tags, ledger = {"study": "study", "key": "t4", "sources": "a" * 64}, Ledger(folder / "papers.sqlite")
    draft = write_passport(draw_passport("m", 1, "staging", tags, held, ledger), folder).with_suffix(".html")
    return {"report": later.html, "index": index, "comparison": compare_page(earlier, later), "passport": draft}


@needs_axe
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "index", "comparison", "passport"])
def test_axe_finds_nothing_serious(pages, name, scheme, tmp_path):
    found, console = inspected(pages[name].read_text(), pages[name].parent, scheme, tmp_path)
    assert found["dark"] is (scheme == "dark") and found["passes"] > 10
    assert found["grave"] == [] and console == []


@needs_axe
@needs_browser
def test_the_same_test_hears_a_page_that_is_not_accessible(pages, tmp_path):
    bad = pages["report"].read_text().replace("</main>", '<img src="data:,"><p style="color:#ccc">pale</p></main>')
    assert {"image-alt", "color-contrast"} <= set(inspected(bad, pages["report"].parent, "light", tmp_path)[0]["grave"])


def inspected(text: str, beside: Path, scheme: str, folder: Path) -> tuple[dict, list[str]]:
    "Run axe-core on a page in a browser; return what it found and what the console said."
    ask = (
        "<script>document.querySelectorAll('details').forEach(one => one.open = true);"
        "axe.run().then(r => { const out = document.createElement('pre'); out.id = 'axe'; out.textContent = "
        "JSON.stringify({grave: r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id), "
        "passes: r.passes.length, dark: matchMedia('(prefers-color-scheme: dark)').matches}); document.body.append(out)"
        "});</script></body>"
    )
    text = re.sub(r'<meta[^>]*http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = beside / "tried.html"
    copy.write_text(text.replace("</body>", f"<script>{AXE.read_text()}</script>{ask}"))
    line = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    line += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", "--enable-logging=stderr", "--v=0"]
    line += ["--virtual-time-budget=8000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    copy.unlink()
    told = re.search(r'<pre id="axe">(.*?)</pre>', done.stdout, re.S)
    assert told, done.stderr[-500:]
    return json.loads(html.unescape(told[1])), [one for one in done.stderr.splitlines() if ":CONSOLE" in one]


def test_every_page_has_the_one_style_and_is_small(pages):
    style = (ROOT / "quantlab" / "report" / "templates" / "page" / "style.css").read_text().strip()
    for page in pages.values():
        text = page.read_text()
        assert style in text and text.count("<style>") == 1 and '<html lang="en">' in text
        assert page.stat().st_size < 5_000_000 and "https://" not in text and "http://" not in text


def test_tables_have_scopes_and_pictures_have_the_title_of_their_figure(pages):
    text = pages["report"].read_text()
    body = text[text.index("<body") :]
    assert re.findall(r'<img[^>]*alt="([^"]*)"', body) == ["A line &amp; 84 sessions"]
    assert "<th>" not in body and body.count('scope="row"') == 3 and 'aria-label="Part &amp; more, table 2"' in body
    assert "<td>1.50</td>" in body and 'class="text long">&lt;b&gt;' in body


def test_the_comparison_names_what_differs(pages):
    text = pages["comparison"].read_text()
    assert text.count('class="changed"') == 1 and "1 of 2 numbers differ" in text and "<td>+6</td>" in text
    assert "The same template, data, code and libraries." in text and text.count("<img ") == 2
    assert "A: A line &amp; 42 sessions" in text and "B: A line &amp; 84 sessions" in text


def test_what_went_in_is_named_and_escaped(pages, tmp_path):
    folder = Path(shutil.copytree(pages["report"].parent, tmp_path / pages["report"].parent.name))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"data_hash": "<i>other", "parameters": {"span": "<script>1"}}
    manifest["libraries"]["numpy"] = "0.1"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"answer": None, "<b>new": 2.0}))
    text = compare_page(read_run(pages["report"].parent), read_run(folder), tmp_path / "page.html").read_text()
    assert "data: d in A, &lt;i&gt;other in B" in text and "library: numpy" in text
    assert "<script" not in text and "<b>new" not in text and "3 of 3 numbers differ" in text


@needs_browser
def test_a_pdf_has_pages(pages):
    long = pages["report"].with_name("long.html")
    long.write_text(pages["report"].read_text().replace("</main>", "<p>a line</p>" * 200 + "</main>"))
    file = write_pdf(long)
    assert file == long.with_suffix(".pdf") and file.read_bytes().startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", file.read_bytes())) > 1
    long.unlink()
    file.unlink()
