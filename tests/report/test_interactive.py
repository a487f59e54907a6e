"Charts on a page: the numbers of the picture, drawn in a browser without a network, and the picture where none can be."

import asyncio
import io
import json
import os
import re
from base64 import b64encode
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from PIL import Image

from quantlab.core.plot import COLORS, figure, shade
from quantlab.report import interactive
from quantlab.report.figures import equity_figure, monthly_figure, regime_figure, rolling_sharpe_figure, trading_figure
from quantlab.report.interactive import CHART_MIME, chart_library, chart_of, chart_text
from quantlab.report.run import html_page
from quantlab.runs.reproduce import page_differences, page_pieces

ROOT = Path(__file__).resolve().parents[2]
AXE = Path(os.environ.get("QUANTLAB_AXE") or ROOT / ".cache" / "axe.min.js")
needs_plotly = pytest.mark.skipif(chart_library() is None, reason="the extra interactive is not installed")
needs_browser = pytest.mark.skipif(CHROMIUM is None or chart_library() is None, reason="no chromium, or no plotly")
DATES = pd.bdate_range("2018-01-02", periods=900)
MOVES = np.random.default_rng(5).normal(3e-4, 0.01, (900, 2))
RETURNS = pd.DataFrame(MOVES, DATES, ["strategy", "equal weight"])


def figures() -> dict:
    wild = pd.Series(np.linspace(0, 1, 900) ** 2, DATES)
    held = pd.DataFrame({"long": 1.0, "short": -0.2}, DATES)
    return {
        "equity": equity_figure(RETURNS, "Growth <of> 1 & drawdown"),
        "months": monthly_figure(RETURNS["strategy"], "Percent per month"),
        "regime": regime_figure((1 + RETURNS["strategy"]).cumprod(), pd.DataFrame({"calm": 1 - wild, "wild": wild})),
        "sharpe": rolling_sharpe_figure(RETURNS["strategy"], 252),
        "trading": trading_figure(held, wild, wild / 1e4, 252),
    }


def notebook(shown: dict):
    "An executed notebook that shows figures as `interactive` leaves them."
    cells = [nbformat.v4.new_markdown_cell("# A page\n\n## Part", id="head")]
    for name, fig in shown.items():
        drawn = io.BytesIO()
        fig.savefig(drawn, format="png", metadata={"Software": None})
        data = {"image/png": b64encode(drawn.getvalue()).decode(), "text/plain": "Figure: a & b"}
        data |= {CHART_MIME: chart_text(chart)} if (chart := chart_of(fig)) else {}
        cells.append(nbformat.v4.new_code_cell("fig", id=name, outputs=[nbformat.v4.new_output("display_data", data)]))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def text() -> str:
    return html_page(notebook(figures()), {}, {}, ["a fact"])


@pytest.fixture(scope="module")
def page(text, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(text, encoding="utf-8")
    return file


# What a chart holds


def test_a_chart_has_the_numbers_of_its_picture():
    chart = chart_of(figures()["equity"])
    growth, fall = chart["data"][0], chart["data"][3]
    assert growth["x"][0] == "2018-01-02" and growth["name"] == "strategy" and growth["yaxis"] == "y"
    assert growth["y"][-1] == pytest.approx((1 + RETURNS["strategy"]).prod(), rel=1e-4)
    assert fall["name"] == "equal weight, drawdown" and fall["yaxis"] == "y2" and max(fall["y"]) == 0
    assert chart["layout"]["title"]["text"] == "Growth <of> 1 & drawdown" and chart["layout"]["yaxis"]["type"] == "log"


def test_layers_of_a_stack_tell_their_height_and_a_band_is_silent():
    layers = [trace for trace in chart_of(figures()["regime"])["data"] if trace.get("fill")]
    assert [trace["name"] for trace in layers] == ["calm", "wild"] and layers[1]["y"][-1] == 1
    assert layers[1]["customdata"][450] == pytest.approx((450 / 899) ** 2, rel=1e-4)
    band = [trace for trace in chart_of(figures()["sharpe"])["data"] if trace.get("fill")]
    assert len(band) == 1 and band[0]["hoverinfo"] == "skip" and not band[0]["showlegend"]


def test_the_map_has_the_months_in_the_order_of_the_picture():
    chart = chart_of(figures()["months"])
    (cells,) = chart["data"]
    month = (1 + RETURNS["strategy"]["2019-03"]).prod() - 1
    assert cells["z"][1][2] == pytest.approx(month, rel=1e-4) and cells["text"][1][2] == f"{month * 100:.1f}"
    assert cells["customdata"][1][2] == "2019 Mar" and chart["layout"]["yaxis"]["autorange"] == "reversed"
    assert [note["y"] for note in chart["layout"]["annotations"]] == [0, 1, 2, 3]


def test_spans_lie_where_they_are_shaded_and_are_in_the_legend_once():
    fig, ax = figure("Two spans", "", "")
    ax.plot(RETURNS["strategy"])
    flags = pd.Series(False, DATES)
    flags.iloc[10:20] = flags.iloc[50:60] = True
    shade(ax, flags, COLORS[1], "wild")
    shapes = chart_of(fig)["layout"]["shapes"]
    assert [(one["x0"], one["x1"]) for one in shapes] == [
        (f"{DATES[10]:%Y-%m-%d}", f"{DATES[19]:%Y-%m-%d}"),
        (f"{DATES[50]:%Y-%m-%d}", f"{DATES[59]:%Y-%m-%d}"),
    ]
    assert [one.get("showlegend", False) for one in shapes] == [True, False]


@pytest.mark.parametrize("draw", ["errorbar", "scatter", "barh", "crowd", "nothing", "free box"])
def test_what_cannot_be_told_stays_a_picture(draw):
    fig, ax = figure("A title", "", "")
    if draw == "errorbar":
        ax.errorbar([0, 1], [1, 2], yerr=[0.1, 0.1])
    elif draw == "scatter":
        ax.scatter([0, 1], [1, 2])
    elif draw == "barh":
        ax.barh(["a", "b"], [1, 2])
    elif draw == "crowd":
        ax.plot(np.zeros(interactive.MOST_POINTS + 1))
    elif draw == "free box":
        ax.plot([0, 1])
        fig.add_axes((0.1, 0.1, 0.2, 0.2))
    assert chart_of(fig) is None


def test_gaps_and_infinite_numbers_are_gaps():
    fig, ax = figure("With gaps", "", "")
    ax.plot([1.0, np.nan, np.inf, -0.0])
    (line,) = chart_of(fig)["data"]
    assert line["y"] == [1.0, None, None, 0.0] and "NaN" not in chart_text(chart_of(fig))


# The page


@needs_plotly
def test_the_page_is_one_file_the_same_each_time_and_small(text):
    assert text == html_page(notebook(figures()), {}, {}, ["a fact"])
    assert text.count('class="chart"') == 5 and text.count("data-library=") == 1 and len(text) < 5_000_000
    outside = text.replace(chart_library()[1], "")
    assert "http://" not in outside and "https://" not in outside and " src=" in outside
    assert set(re.findall(r'src="([^:]*):', outside)) == {"data"}


@needs_plotly
def test_a_chart_that_is_edited_by_hand_is_found(text):
    spot = re.search(r'"columns":\[\["2018-01-02".*?\],\[([\d.]+)', text)
    edited = text[: spot.start(1)] + "9.9" + text[spot.end(1) :]
    assert len(page_differences(text, edited)) == 1 and page_differences(text, text).empty
    packed = chart_library()[1]
    assert len(page_differences(text, text.replace(packed, packed[:-400] + packed[-200:]))) == 1
    assert len(page_differences(text, text.replace("blob:", "blob: 'unsafe-inline'"))) == 1
    assert sum(piece == "[chart" for piece in page_pieces(text)) == 5


def test_without_the_extra_there_are_pictures_and_no_script(monkeypatch):
    monkeypatch.setattr(interactive, "chart_library", lambda: None)
    bare = html_page(notebook(figures()), {}, {}, ["a fact"])
    assert "<script" not in bare and "script-src" not in bare and bare.count("<img") == 5


@needs_plotly
def test_charts_beyond_what_a_page_can_carry_stay_pictures(monkeypatch):
    monkeypatch.setattr(interactive, "MOST_TEXT", len(chart_text(chart_of(figures()["equity"]))) + 10)
    some = html_page(notebook(figures()), {}, {}, ["a fact"])
    assert some.count('class="chart"') == 1 and some.count("<img") == 5


# In a browser

ENDS = "(i => document.querySelectorAll('.js-plotly-plot')[i]._fullLayout.{axis}.range.map({read}))(0)"
DAYS = ENDS.format(axis="xaxis", read="Date.parse")
HEIGHT = ENDS.format(axis="yaxis", read="Number")


@needs_browser
def test_the_charts_are_drawn_zoom_and_are_silent(page):
    async def look():
        async with Browser() as tab:
            await tab.show(page)
            drawn = await tab.ask("document.documentElement.dataset.charts")
            await tab.ask("document.querySelector('.chart').scrollIntoView({behavior: 'instant'})")
            box = "(r => [r.x, r.y, r.width, r.height])(document.querySelector('.nsewdrag').getBoundingClientRect())"
            x, y, width, height = await tab.ask(box)
            whole, tall = await tab.ask(DAYS), await tab.ask(HEIGHT)
            await tab.drag((x + width * 0.25, y + height / 2), (x + width * 0.5, y + height / 2))
            await asyncio.sleep(0.5)
            dragged, fitted = await tab.ask(DAYS), await tab.ask(HEIGHT)
            press = "document.querySelector('.tools button[aria-label=\"{}\"]').click()"
            await tab.ask(press.format("zoom in"))
            await asyncio.sleep(0.5)
            closer = await tab.ask(DAYS)
            await tab.ask(press.format("all of it"))
            await asyncio.sleep(0.5)
            again = await tab.ask(DAYS)
            return drawn, whole, dragged, closer, again, tall, fitted, tab.said

    drawn, whole, dragged, closer, again, tall, fitted, said = asyncio.run(look())
    span = lambda ends: ends[1] - ends[0]
    assert drawn == "5" and said == []
    assert span(dragged) == pytest.approx(span(whole) / 4, rel=0.05) and whole[0] < dragged[0] < dragged[1] < whole[1]
    assert span(closer) == pytest.approx(span(dragged) / 2, rel=0.01) and again == whole
    assert span(fitted) < span(tall)  # the height follows what is seen


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_a_chart_is_seen_in_the_colours_and_the_width_of_the_page(page, dark, width):
    async def look():
        async with Browser() as tab:
            await tab.show(page, width, dark=dark, touch=width < 600)
            await tab.ask("document.querySelector('.chart').scrollIntoView({behavior: 'instant'})")
            wide = await tab.ask("[document.documentElement.scrollWidth, innerWidth]")
            box = (
                "(r => [r.left, r.top, r.right, r.bottom])(document.querySelector('.nsewdrag').getBoundingClientRect())"
            )
            return wide, await tab.ask(box), await tab.picture(), tab.said

    wide, box, picture, said = asyncio.run(look())
    seen = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB").crop([int(x) for x in box])).reshape(-1, 3)
    blue = np.array([0, 0x72, 0xB2])
    assert (np.abs(seen - blue).max(axis=1) < 30).sum() > 200, "the strategy's line"
    assert (np.median(seen, axis=0) < 60).all() if dark else (np.median(seen, axis=0) > 200).all()
    assert wide[0] <= wide[1] and said == []


@needs_browser
def test_paper_and_a_browser_without_scripts_have_the_picture(page):
    shown = "[...document.querySelectorAll('.chart .picture img')].filter(one => one.offsetHeight > 50).length"

    async def look():
        async with Browser() as tab:
            await tab.show(page)
            on_screen = await tab.ask(shown)
            await tab.do("Emulation.setEmulatedMedia", media="print")
            on_paper = await tab.ask(f"[{shown}, document.querySelector('.chart .drawn').offsetHeight]")
            await tab.show(page, scripts=False)
            return on_screen, on_paper, await tab.ask(shown), tab.said

    on_screen, on_paper, without, said = asyncio.run(look())
    assert on_screen == 0 and on_paper == [5, 0] and without == 5 and said == []


@needs_browser
@pytest.mark.skipif(not AXE.is_file(), reason="no axe.min.js; tests/runs/test_accessible.py says where it comes from")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_in_the_charts(page, dark):
    asked = "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id))"

    async def look():
        async with Browser() as tab:
            await tab.show(page, dark=dark)
            await tab.ask(AXE.read_text() + ";0")
            names = "[...document.querySelectorAll('.drawn [role=img]')].map(one => one.getAttribute('aria-label'))"
            return await tab.ask(asked), await tab.ask(names)

    grave, names = asyncio.run(look())
    assert grave == [] and names == ["a & b"] * 5


def test_the_templates_call_it_where_zooming_helps():
    for name, least in {"tearsheet": 6, "regime": 1, "factor": 2, "model": 1}.items():
        cells = json.loads((ROOT / "reports" / f"{name}.ipynb").read_text())["cells"]
        assert sum("".join(cell["source"]).count("interactive(") for cell in cells) >= least
