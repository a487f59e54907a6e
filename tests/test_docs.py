"""The HTML docs: formulas, titles, and no link that leads nowhere."""

import re
import sys
from pathlib import Path
from urllib.parse import urldefrag

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import docs  # noqa: E402


def test_formulas_become_mathml_and_code_stays():
    page = docs.mathml("The rate $r_t$ and\n$$x = \\frac{1}{2}$$\nbut `$HOME` and\n```\n$not$\n```")
    assert page.count("<math") == 2 and "<mfrac>" in page and "$not$" in page and "`$HOME`" in page


def test_front_matter_becomes_a_heading():
    cell = nbformat.v4.new_raw_cell("---\ndescription: 'What: and why?'\noutput-file: x.html\ntitle: Panel\n\n---")
    docs.head(cell)
    assert cell.source == "# Panel\n\n> What: and why?" and docs.title(nbformat.v4.new_notebook(cells=[cell])) == "Panel"


@pytest.mark.slow
def test_every_page_is_there_and_every_link_leads_somewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(docs, "SITE", tmp_path / "site")
    front = docs.build()
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == len(list((ROOT / "nbs").glob("*/*.ipynb"))) + 1 and front in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.search(r"<h1[ >]", text) and "untitled" not in text
        for link in re.findall(r'(?:href|src)="([^"#]+)', text):
            if not link.startswith(("http", "data:")):
                target = (page.parent / urldefrag(link).url).resolve()
                assert target.exists() or not target.is_relative_to(tmp_path / "site"), f"{page.name}: {link}"
