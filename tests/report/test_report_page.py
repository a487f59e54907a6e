"The page: readable without code, complete without a network, silent in a browser."

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    "Collect the addresses that a page would load, its tags and its text."

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value
            for name, value in attrs
            if name in ("src", "srcset", "poster", "data") or (tag == "link" and name == "href")
        ]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def html(pair) -> str:
    return pair[0].html.read_text()


def test_nothing_is_loaded_from_outside(html):
    page = Page(html)
    assert page.loads and all(load.startswith("data:") for load in page.loads)
    assert not {"script", "iframe", "object"} & set(page.tags)
    assert "http://" not in html and "https://" not in html and "@import" not in html and "url(" not in html


def test_a_reader_sees_text_tables_and_figures_only(html):
    words = " ".join(Page(html).words)
    assert "pct_change" not in words and "a log line for nobody" not in words and "metrics" not in words
    assert "How rough were these names" in words and "Annualised volatility by name <close to close>" in words
    assert html.count("<figure>") == 2 and "<style scoped>" not in html


def test_the_contents_lead_to_every_heading(html):
    contents = re.findall(r'<a class="h(\d)" href="#(\w+)">(.+?)</a>', html)
    assert [(level, text) for level, _, text in contents] == [
        ("2", "Volatility"),
        ("3", "Through time"),
        ("2", "An accident"),
        ("2", "Volatility"),
    ]
    anchors = [anchor for _, anchor, _ in contents]
    assert len(set(anchors)) == 4 and all(html.count(f'id="{anchor}"') == 1 for anchor in anchors)


def test_the_parameters_are_shown_and_what_was_set_is_marked(html):
    marked = re.findall(r'<tr class="changed">\s*<th scope="row">(\w+)</th>', html)
    assert marked == ["window"]  # the runner set ledger_head, nobody asked for it
    assert "1 of 9 differ from the default" in html and "sessions in the volatility window" in html


def browse(file: Path, folder: Path) -> tuple[str, list[str]]:
    "Open a page in a browser; return its document and what it said on the console."
    line = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    f"--user-data-dir={folder}", "--enable-logging=stderr",
            "--v=0", "--virtual-time-budget=2000", "--dump-dom", file.resolve().as_uri()]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_has_no_complaint(pair, tmp_path):
    document, console = browse(pair[0].html, tmp_path / "profile")
    assert "Through time" in document and console == []
    # The same ears hear a page that does complain.
    loud = tmp_path / "loud.html"
    loud.write_text(pair[0].html.read_text().replace("</main>", '<img src="https://localhost/x.png"></main>'))
    assert any("Content Security Policy" in line for line in browse(loud, tmp_path / "profile")[1])
