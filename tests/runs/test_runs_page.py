"The index of runs: a row for each, escaped, sorted and searched in a browser, quick with five hundred."

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from quantlab.core.errors import ReportError
from quantlab.report.run import list_runs
from quantlab.runs.runs_page import run_row, runs_page, thumbnail, write_index

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def stored_run(folder: Path, number: int, picture: bool = True, **asked) -> None:
    "Write the files of a finished run, as the runner does."
    home = folder / f"ride-20260101T{number:06d}Z-0123abcd"
    home.mkdir(parents=True)
    draft = io.BytesIO()
    Image.new("RGB", (800, 400), (number % 255, 80, 120)).save(draft, "PNG")
    data = {"image/png": base64.b64encode(draft.getvalue()).decode()}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data)] if picture else [])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), home / "report.ipynb")
    (home / "report.html").write_text("<p>page</p>")
    (home / "metrics.json").write_text(json.dumps({"sharpe": number / 7 - 3, "none": None}))
    manifest = {
        "template": "ride", "started": f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "parameters": {"span": number} | asked, "headline": ["sharpe", "none"], "data_hash": "d",
        "code": {"sources": "0"},
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))


def dumped(page: Path, script: str = "") -> str:
    "Return the page as a browser has it after its scripts, and one more, have run."
    copy = page.with_name("tried.html")
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120)
    return done.stdout


def test_a_row_says_what_was_asked_and_found(tmp_path):
    stored_run(tmp_path, 5, note="<b>bold</b>")
    stored_run(tmp_path, 6, picture=False)
    text = write_index(tmp_path).read_text()
    assert text.count('<tr class="run">') == 2 and "<b>bold" not in text and "&lt;b&gt;bold" in text
    newest, older = (run_row(run, tmp_path) for run in list_runs(tmp_path))
    assert newest["picture"] == "" and older["picture"] == f"{older['name']}/thumbnail.png"
    assert older["numbers"] == {"sharpe": "-2.286", "none": "-"} and older["asked"]["span"] == 5
    small = Image.open(thumbnail(list_runs(tmp_path)[1]))
    assert small.size == (240, 120)


def test_links_are_relative_and_a_picture_is_made_once(tmp_path):
    stored_run(tmp_path / "runs", 5)
    run = list_runs(tmp_path / "runs")[0]
    page = runs_page([run], tmp_path / "elsewhere" / "page.html", "Two", ["sharpe"], ["a note"])
    assert f'href="../runs/{run.folder.name}/report.html"' in page.read_text() and "a note" in page.read_text()
    before = (run.folder / "thumbnail.png").stat().st_mtime_ns
    runs_page([run], tmp_path / "elsewhere" / "page.html")
    assert (run.folder / "thumbnail.png").stat().st_mtime_ns == before
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["page.html"]


def test_nothing_to_list_is_one_line_and_broken_runs_are_named(tmp_path):
    with pytest.raises(ReportError, match="no report yet"):
        write_index(tmp_path)
    stored_run(tmp_path, 1)
    stored_run(tmp_path, 2)
    (tmp_path / "ride-20260101T000002Z-0123abcd" / "metrics.json").write_text("{")
    assert "passed over: run ride-20260101T000002Z" in write_index(tmp_path).read_text()


def test_a_run_whose_notebook_or_picture_is_broken_does_not_hide_the_others(tmp_path):
    for number in (1, 2, 3):
        stored_run(tmp_path, number)
    (tmp_path / "ride-20260101T000001Z-0123abcd" / "report.ipynb").unlink()
    broken = tmp_path / "ride-20260101T000002Z-0123abcd" / "report.ipynb"
    broken.write_text(re.sub(r'"image/png": "[^"]+"', '"image/png": "AAAA"', broken.read_text()))
    text = write_index(tmp_path).read_text()
    assert text.count('<tr class="run">') == 1 and text.count("passed over: ride-") == 2


@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed (Debian package chromium)")
def test_the_index_sorts_and_searches_in_a_browser(tmp_path):
    for number in (3, 40, 21):
        stored_run(tmp_path, number)
    order = lambda text: re.findall(r"span = (\d+)", text)
    page = write_index(tmp_path)
    assert order(dumped(page)) == ["40", "21", "3"]
    click = "document.querySelectorAll('th button')[2].click();"
    assert order(dumped(page, click)) == ["21", "3", "40"] and order(dumped(page, click * 2)) == ["40", "3", "21"]
    by_number = runs_page(list_runs(tmp_path), tmp_path / "numbers.html", columns=["sharpe"])
    click = "document.querySelectorAll('th button')[3].click();"
    assert order(dumped(by_number, click)) == ["3", "21", "40"]
    typed = "search.value = 'ride 21'; search.dispatchEvent(new Event('input'));"
    found = dumped(page, typed)
    assert found.count('hidden=""') == 2 and "1 of 3 runs" in found


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed (Debian package chromium)")
def test_five_hundred_runs_are_one_small_page(tmp_path):
    for number in range(500):
        stored_run(tmp_path, number)
    page = write_index(tmp_path)
    mark = "const t = performance.timing; addEventListener('load', () => setTimeout(() => document.title = "
    found = dumped(page, f"{mark} t.loadEventEnd - t.navigationStart))")
    assert found.count('<tr class="run">') == 500 and page.stat().st_size < 5_000_000
    print(f"loaded in {re.search(r'<title>([0-9]+)</title>', found)[1]} ms, {page.stat().st_size / 1e3:.0f} KB")
