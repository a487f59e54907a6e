"""The HTML docs: formulas, the sections of each name, the index, and no link that leads nowhere."""

import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urldefrag

import nbformat
import pytest

import quantlab

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import docs  # noqa: E402


def test_formulas_become_mathml_and_code_stays():
    page = docs.mathml("The rate $r_t$ and\n$$x = \\frac{1}{2}$$\nbut `$HOME` and\n```\n$not$\n```")
    assert page.count("<math") == 2 and "<mfrac>" in page and "$not$" in page and "`$HOME`" in page


SIGNED = '''def ratio(x: list, rows: int = 3) -> float:
    """Divide <b> the mean
    by the spread.

    Parameters
    ----------
    x : list
        Decimal.

    Raises
    ------
    DataError
        When there is nothing.
        "{n} rows & less"

    References
    ----------
    .. [1] Lo (2002), *The Statistics of Sharpe Ratios*.

    Examples
    --------
    >>> ratio([1])
    """
'''


def test_a_name_is_documented_by_its_sections():
    import ast

    node = ast.parse(SIGNED).body[0]
    html = docs.document("ratio", node, "room.small")
    assert 'id="ratio"' in html and "ratio(x, rows=3)" in html and "&lt;b&gt; the mean" in html
    assert "<dt>x : <i>list</i></dt><dd>Decimal.</dd>" in html
    assert "<dd>When there is nothing.</dd><dd>&quot;{n} rows &amp; less&quot;</dd>" in html
    assert "<i>The Statistics of Sharpe Ratios</i>" in html and "<pre>&gt;&gt;&gt; ratio([1])</pre>" in html
    assert docs.line(node) == "Divide <b> the mean by the spread."


def test_what_the_site_shows_of_a_cell():
    import ast

    cell = nbformat.v4.new_code_cell
    node = ast.parse(SIGNED).body[0]
    assert docs.shown(cell("#| hide\nx"), "m", {}) == [] and docs.shown(cell("#| default_exp a.b"), "m", {}) == []
    [page] = docs.shown(cell("#| export\ndef ratio(x): return x"), "m", {"ratio": node})
    assert (
        "by the spread." in page.outputs[0].data["text/html"] and "<summary>Code" in page.outputs[0].data["text/html"]
    )
    [plain] = docs.shown(cell("#| eval: false\n1 + 1"), "m", {})
    assert plain.source == "1 + 1"
    [text] = docs.shown(nbformat.v4.new_markdown_cell("[a](../x/100_y.ipynb#z)"), "m", {})
    assert text.source == "[a](../x/100_y.html#z)"


def test_the_index_lists_every_public_name_once():
    _, index = docs.read()
    names = [(name, place) for name, place, *_ in index if place != "notebook"]
    assert len(names) == len(set(names)) and ("sharpe", "quantlab.backtest.stats") in names
    html = docs.names_page(index).cells[1].outputs[0].data["text/html"]
    assert '<a href="backtest/720_stats.html#sharpe"><code>sharpe</code></a>' in html and "Ledger.record" not in html
    short = dict(re.findall(r"<td>quantlab\.([\w.]+) or <code>ql\.(\w+)</code></td>", html))
    assert short.items() <= {(home, name) for name, home in quantlab._HOMES.items()} and len(short) >= 15


@pytest.mark.slow
def test_every_page_is_there_and_every_link_leads_somewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(docs, "SITE", tmp_path / "site")
    monkeypatch.setenv("QUANTLAB_RESEARCH_RUNS", str(tmp_path / "none"))
    front = docs.build()
    pages = sorted((tmp_path / "site").rglob("*.html"))
    notebooks = [f for f in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts]
    assert len(pages) == len(notebooks) + 1 and front in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.search(r"<h1[ >]", text) and "untitled" not in text
        told = re.sub(r"<pre\b.*?</pre>", "", text, flags=re.S)  # code may hold what only looks like a link
        for link in re.findall(r'(?:href|src)="([^"#]+)', told):
            if not link.startswith(("http", "data:")):
                target = (page.parent / urldefrag(link).url).resolve()
                assert target.exists() or not target.is_relative_to(tmp_path / "site"), f"{page.name}: {link}"
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))) for page in pages}
    for link in re.findall(r'href="([^"]+)#([^"]+)"', (tmp_path / "site" / "names.html").read_text(encoding="utf-8")):
        assert link[1] in anchors[tmp_path / "site" / link[0]], link


README = (ROOT / "README.md").read_text(encoding="utf-8")


def said(pattern: str) -> list[str]:
    "Return what README writes as code, one entry for each match."
    code = re.findall(r"`([^`\n]+)`", README) + [
        line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()
    ]
    return [line.partition("#")[0].strip() for line in code if re.match(pattern, line)]


def test_the_readme_is_the_notebook():
    import readme

    assert readme.render() == README, "nbs/index.ipynb and README.md differ: run scripts/readme.py"


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    asked = {words[1] for line in said("make ") if len(words := line.split()) > 1}
    assert {"report", "test", "lab", "test-slow"} <= asked <= targets
    [others] = re.findall(r"other targets, among them ([^.]+)\.", README)
    assert set(re.findall(r"`([a-z-]+)`", others)) <= targets


def test_every_command_of_the_readme_exists():
    "Templates, parameters, options and subcommands: what the readme types is taken by the command line up to the data."
    import typer

    from quantlab.commands.cli import app
    from quantlab.report.template import fill_parameters, find_template, parse_parameters, read_parameters

    commands = typer.main.get_command(app)
    lines = [line for line in said("quantlab ") if line != "quantlab"]
    assert len(lines) >= 8
    for line in lines:
        words = line.split()[1:]
        found = commands.commands.get(words[0])
        assert found is not None, line
        if words[0] == "data":
            assert words[1] in found.commands, line
            assert words[1] == "import" or set(words[1:]) - {"|"} <= set(found.commands), line
        if words[0] == "report" and len(words) > 1:
            spec = read_parameters(find_template(words[1]))
            values = fill_parameters(
                spec, parse_parameters(spec, [words[k + 1] for k, word in enumerate(words) if word == "-p"])
            )
            assert values and all(word in ("-p", "--output", "DIR") or "=" in word for word in words[2:]), line
        if words[0] == "audit":
            assert words[1:] == ["module:name"], line
    for line in said("papermill "):
        _, template, _, *rest = line.split()
        assert set(rest[1::3]) <= set(read_parameters(ROOT / template)), line


PAGES = re.findall(r"```\n(import quantlab as ql\n.*?)```\n(.*?)(?=\n```|\n[A-Z#])", README, re.S)
LINES = {"mean_ic": 6, "from_weights": 10, "walk_forward": 12}  # at most, for a feature, a backtest, a model


@pytest.mark.parametrize(("name", "most"), LINES.items())
def test_an_example_of_the_readme_is_short_and_gives_what_is_printed(name, most):
    "A feature and its honest IC, a backtest after costs, a walk-forward model: each alone, by the one import."
    assert len(PAGES) == len(LINES)
    code, shown = PAGES[list(LINES).index(name)]
    lines = [line for line in code.splitlines() if line.strip()]
    assert f"ql.{name}(" in code and len(lines) <= most and max(map(len, lines)) <= 120
    assert [line for line in lines if "import" in line] == ["import quantlab as ql"]
    space: dict = {}
    exec("\n".join(lines[:-1]), space)
    value = eval(lines[-1], space)
    if "<table" in shown:  # a record shows itself as a table of rounded figures
        assert value._repr_html_().split() == shown.split()
        return
    tokens = lambda text: re.findall(r"[^\s(),=]+", text)
    for fresh, stored in zip(tokens(repr(value)), tokens(shown), strict=True):
        try:
            assert float(fresh) == pytest.approx(float(stored), rel=1e-6)
        except ValueError:
            assert fresh == stored


def test_the_first_tutorial_begins_with_the_same_pages():
    cells = nbformat.read(ROOT / "nbs" / "tutorials" / "first_factor.ipynb", as_version=4).cells
    pages = [
        cell.source for cell in cells if cell.cell_type == "code" and cell.source.startswith("import quantlab as ql")
    ]
    lines = [[line for line in page.splitlines() if line.strip()] for page in pages]
    assert [len(page) <= most for page, most in zip(lines, LINES.values(), strict=True)] == [True] * 3
    for page, (code, _) in zip(lines, PAGES, strict=True):
        assert page[:-1] == [line for line in code.splitlines() if line.strip()][:-1]


def test_the_csv_of_the_readme_is_read_and_a_broken_one_is_refused_with_its_row(tmp_path):
    from quantlab.core.errors import QuantlabError
    from quantlab.data.bars import read_bars

    [text] = re.findall(r"```\n(date,symbol.*?)```", README, re.S)
    file = tmp_path / "my_bars.csv"
    file.write_text(text)
    assert read_bars(file).loc[("2020-01-02", "ACME"), "close"].item() == 101.0
    good = text.strip().splitlines()[-1]
    for broken in (
        good,
        good.replace("2020-01-02", "2020-01-03").replace("101.5", "90.0"),
        good.replace("2020-01-02", "2020-01-03").replace("99.2", "-99.2"),
    ):
        file.write_text(text + broken + "\n")
        with pytest.raises(QuantlabError, match="ACME"):
            read_bars(file)


def test_every_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", README) if not link.startswith("http")]
    assert len(links) > 60 and [link for link in links if not (ROOT / link).exists()] == []


def test_the_floors_of_the_readme_are_those_of_the_notebooks():
    rows = re.findall(r"^\| ([\dx-]+) \| \[(\w+)\]", README, re.M)
    span = {room: (int(floor.replace("x", "0")[:3]), int(floor.replace("x", "9")[-3:])) for floor, room in rows}
    numbered = [(file.parent.name, int(file.name[:3])) for file in (ROOT / "nbs").glob("*/[0-9]*.ipynb")]
    assert {room for room, _ in numbered} == set(span)
    assert [(room, number) for room, number in numbered if not span[room][0] <= number <= span[room][1]] == []


def test_the_numbers_of_the_readme_are_counted():
    from quantlab.data.sample import sample_bars
    from quantlab.features import rolling
    from quantlab.features.sets import SETS
    from quantlab.recipe.spec import FEATURE_SETS
    from quantlab.report.checks import MODELS

    bars = sample_bars()
    assert (
        f"{bars.index.unique('symbol').size} US stocks, 2010-2023" in README
        and f"{bars.index.unique('symbol').size} of the largest stocks" in README
    )
    assert (bars.index.unique("date").year.min(), bars.index.unique("date").year.max()) == (2010, 2023)
    assert f"{len(SETS['base'])} price, volatility and liquidity features" in README
    assert (
        len([name for name in rolling.__all__ if name.islower() and callable(getattr(rolling, name))]) == 14
        and "fourteen rolling operators" in README
    )
    assert tuple(SETS) == FEATURE_SETS, "report.checks repeats the names of the sets"
    assert len(MODELS) == 8 and "of eight models by name" in README


def test_the_extras_and_licences_of_the_readme():
    import tomllib
    from importlib import metadata

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = README.split("The other extras are")[1]
    assert set(re.findall(r"`([a-z]+)`", told)) | {"backtrader"} == set(project["optional-dependencies"])
    assert [
        str(file.relative_to(ROOT))
        for file in (ROOT / "quantlab").rglob("*.py")
        if re.search(r"^\s*(import|from) backtrader", file.read_text(), re.M)
    ] == ["quantlab/backtest/backtrader.py"]
    seen, todo = set(), [Requirement(line) for line in project["dependencies"]]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop().name).lower()
        try:
            needs = metadata.requires(name) or [] if name not in seen else []
        except metadata.PackageNotFoundError:
            continue
        seen.add(name)
        todo += [r for r in map(Requirement, needs) if r.marker is None or r.marker.evaluate({"extra": ""})]
    about = {name: metadata.metadata(name) for name in seen}
    licences = {
        name: f"{m.get('License-Expression') or ''} {m.get_all('Classifier') or ''}" for name, m in about.items()
    }
    assert {name for name, text in licences.items() if re.search(r"GPL|MPL|Mozilla", text)} <= {"certifi", "tqdm"}, (
        "README names these two"
    )


def test_no_result_is_typed_into_the_readme():
    """A figure that a run gives stands in a cell that runs, or in recipes/*.metrics.json, which a test compares.

    What remains in prose are settings, versions and sizes of things that do not move.
    """
    cells = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", prose, flags=re.S)
    figure = r"(?:\d ?(?:×|%|bps)|\b\d+(?:\.\d+)? times\b|(?<![\w.])[-+]?0?\.\d{2,}|\d\.\d{3,})"
    result = re.compile(rf"[^\n]{{0,40}}{figure}[^\n]{{0,40}}")
    assert not result.findall(prose)
    for planted in ("at 47 times its speed", "Sharpe ratio of 0.93", "+6.9 % a year", "an IC of .0542"):
        assert result.findall(prose + "\n" + planted), planted


# Pictures of the reports


def stored(name: str, started: str, folder: Path):
    from quantlab.report.run import ReportRun

    (folder / f"{name}-{started}").mkdir()
    run = ReportRun(folder / f"{name}-{started}", {}, {"template": name, "started": started})
    run.html.write_text("<!DOCTYPE html><title>t</title><body style='background: #07c'>")
    return run


def test_the_newest_run_of_each_report_is_shown(tmp_path):
    runs = [stored("tearsheet", day, tmp_path) for day in ("2024-02-02", "2024-01-01")] + [
        stored("ride", "2024-03-03", tmp_path)
    ]
    assert docs.newest(runs) == {"tearsheet": runs[0]} and docs.newest(runs[2:]) == {}


@pytest.mark.skipif(not any(map(shutil.which, docs.BROWSERS)), reason="no chromium is installed")
def test_a_report_is_photographed_wide_and_narrow_with_words(tmp_path):
    from PIL import Image

    page = docs.pictures_page({"tearsheet": stored("tearsheet", "2024-02-02", tmp_path)}, tmp_path / "pages")
    shown = page.cells[1].outputs[0].data["text/html"]
    assert re.findall(r'src="([^"]+)"', shown) == ["pages/tearsheet-wide.png", "pages/tearsheet-narrow.png"]
    assert shown.count('alt="The top of the page of quantlab report tearsheet, ') == 2
    with Image.open(tmp_path / "pages" / "tearsheet-narrow.png") as drawn:
        assert drawn.size == docs.WIDTHS["narrow"] and drawn.convert("RGB").getpixel((9, 9)) == (0, 0x77, 0xCC)


def test_without_a_browser_or_a_run_the_site_has_no_pictures_and_says_why(monkeypatch, tmp_path):
    pages = {}
    monkeypatch.setenv("QUANTLAB_RESEARCH_RUNS", str(tmp_path / "none"))
    monkeypatch.setattr(docs.shutil, "which", lambda name: "/bin/true")
    assert "make report makes one" in docs.add_pictures(pages)
    monkeypatch.setattr(docs.shutil, "which", lambda name: None)
    assert "no Chromium" in docs.add_pictures(pages) and pages == {}
    assert docs.pictures_page({"tearsheet": stored("tearsheet", "2024-02-02", tmp_path)}, tmp_path / "pages") is None
