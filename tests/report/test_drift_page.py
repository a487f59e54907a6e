"The page about drift: refuses what it cannot judge, finds what was planted, keeps each alarm once."

import asyncio
import json
import re
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, QuantlabError
from quantlab.core.ledger import Ledger
from quantlab.data.calendar import exchange_sessions
from quantlab.data.synth import synth_market
from quantlab.monitor.drift_page import (
    drift_verdict,
    false_alarm_rates,
    judge_months,
    months_figure,
    moved_figure,
    plant_drift,
    quiet_rates,
    read_plants,
    realised_ic,
)
from quantlab.monitor.retrain import drift_alarms
from quantlab.report.run import TEMPLATES, _boxed, run_report


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"recipe": "treees"}, "did you mean trees"), ({"reference": 1259}, "reference is 1259"),
        ({"months": 0}, "months is 0"),
        ({"level": 0.01}, r"level is 0.01, expected between 0.017.*1/\(60\+1\)"),
        ({"combine": "mean"}, "combine"),
        ({"plants": ["rev5=1"]}, "'rev5' is no column.*did you mean rev_5.*write -p plants=mom_252_21=0.5"),
        ({"plants": ["rev_5"]}, "says no number"),
        ({"top": 0}, "top is 0"), ({"asked": "2024-01-02 22:00"}, "asked"),
        ({"asked": "2024-13-02 22:00Z"}, "no moment"),
        ({"delay": "soon"}, "delay"), ({"calendar": "XNYC"}, "XNYC"), ({"recovery": 0.0}, "recovery"),
        ({"start": "2018-01-01"}, "sessions"), ({"universe": "AAPL,NOPE"}, "NOPE"),
        ({"overrides": "model.kin=1"}, "kin"),
        ({"plants": "[rev_5=1]"}, r"""-p plants=ONE, or -p plants='\["ONE", "TWO"\]'"""),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_before_a_kernel_starts(wrong, said):
    with pytest.raises(QuantlabError, match=said) as refused:
        run_report("drift", wrong, track=False)
    assert "\n" not in str(refused.value)


def test_no_output_is_kept_in_the_template():
    cells = json.loads((root() / "reports" / "drift.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)


def panels(sessions=1260 + 45, names=12, seed=3):
    made = synth_market(names, sessions, seed=seed)
    return made.features, made.features.index.unique("date")


def test_months_do_not_move_while_the_next_one_is_not_whole():
    panel, dates = panels()
    assert len(dates) // 21 == 62
    judged = [judge_months(panel.loc[: dates[last]], months=2) for last in (1301, 1304)]
    ends = [[test.end for test in one.tests] for one in judged]
    assert ends[0] == ends[1] == [dates[1280], dates[1301]] and judged[0].reference.sessions[-1] == dates[1259]
    assert judged[0].table().equals(judged[1].table())
    with pytest.raises(DataError, match="give 1,323 sessions"):
        judge_months(panel, months=3)
    with pytest.raises(DataError, match="a past of 1,260"):
        judge_months(panel, reference=1239, months=2)


def test_what_is_planted_is_found_and_customs_are_counted():
    panel, dates = panels()
    planted = plant_drift(panel, read_plants(["noise_2=0.8"], list(panel)), dates[1281])
    assert (planted["noise_2"] - panel["noise_2"]).groupby("date").mean().round(1).unique().tolist() == [0.0, 0.8]
    judged = judge_months(planted, months=2, combine="max")
    assert [test.alarm for test in judged.tests] == [False, True] and judged.tests[1].named == ["noise_2"]
    assert judged.by_custom["PSI > 0.1"].tolist() == [0.0, 0.2] and judged.distance_z().index[0] == "noise_2"
    assert re.search(r"drift\*\*, family-wise p = 0\.016 over 5 columns.*\*\*noise_2\*\*", drift_verdict(judged))
    assert "no drift is shown" in drift_verdict(judge_months(panel, months=2))


def test_the_legend_covers_no_point_and_chance_is_what_was_measured():
    panel, _ = panels()
    fig = months_figure(judge_months(panel, months=2), "two months")
    assert len(fig.legends) == 1 and not any(ax.get_legend() for ax in fig.axes)
    low, high = quiet_rates(judge_months(panel, months=2), "max")
    rates = false_alarm_rates("max")["this test"]
    assert low <= high and {low, high} <= set(rates)
    remembers = panel.groupby("symbol").transform(lambda x: x.rolling(120, min_periods=1).mean())
    assert quiet_rates(judge_months(remembers, months=2), "max")[1] == rates.iloc[-1]
    judged = judge_months(panel, months=2)
    unknown = replace(judged.reference, columns=judged.reference.columns.assign(memory=np.nan))
    assert quiet_rates(replace(judged, reference=unknown), "max") is None, "no memory is known, so no rate is"


def test_an_outcome_that_has_not_ended_is_in_no_figure():
    days = pd.bdate_range("2024-01-01", periods=8, name="date")
    index = pd.MultiIndex.from_product([days, list("abcd")], names=["date", "symbol"])
    score = pd.Series(np.tile([1.0, 2, 3, 4], 8), index)
    y = score.where(index.get_level_values("date") <= days[4])  # outcomes of three sessions
    ends = dict(zip(days, [*days[3:], *[pd.NaT] * 3], strict=True))
    t1 = pd.Series([ends[day] for day in index.get_level_values("date")], index)
    ic = realised_ic(score, pd.DataFrame({"y": y, "t1": t1}))
    assert ic.index.tolist() == days[3:].tolist() and (ic == 1).all()


def test_a_figure_of_nothing_and_of_what_is_missing():
    panel, _ = panels()
    judged = judge_months(panel, months=1)
    with pytest.raises(DataError, match="name at least one"):
        moved_figure(judged, {}, "")
    fig = moved_figure(judged, {"factor": np.full(5, np.nan), "noise_1": np.ones(3)}, "some")
    assert "nothing to draw" in fig.axes[0].get_title("left")
    with pytest.raises(ConfigError, match="not finite"):
        read_plants(["factor=nan"], ["factor"])
    assert false_alarm_rates("max")["this test"].between(0, 0.2).all()


@pytest.mark.slow
def test_on_a_narrow_screen_a_chart_is_whole_and_a_wide_table_shows_that_it_goes_on(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no chromium is installed (Debian package chromium)")
    style = (TEMPLATES / "page" / "style.css").read_text()
    row = "".join(f"<td>number {i}</td>" for i in range(12))
    picture = quote("<svg xmlns='http://www.w3.org/2000/svg' width='648' height='230'></svg>")
    body = _boxed(f'<h2>x</h2><table><thead></thead><tr>{row}</tr></table><img src="data:image/svg+xml,{picture}">')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{style}</style>'
    (tmp_path / "page.html").write_text(f'{head}<div class="page">{body}</div>')

    async def look():
        async with Browser() as tab:
            await tab.show(tmp_path / "page.html", width=420, touch=True)
            await tab.do("Emulation.setFocusEmulationEnabled", enabled=True)
            wide = "document.querySelector('img').getBoundingClientRect().width"
            shade = "getComputedStyle(document.querySelector('.scroll.table')).backgroundImage"
            first = await tab.ask(wide), await tab.ask(shade), await tab.ask("document.documentElement.scrollWidth")
            await tab.ask("document.querySelector('.picture').focus()")
            return *first, await tab.ask(wide)

    narrow, shade, page, tapped = asyncio.run(look())
    assert narrow <= 388 < tapped and page == 420 and shade.count("linear-gradient") == 2


@pytest.mark.slow
def test_a_market_whose_volume_moves_is_found_and_the_alarm_is_kept_once(tmp_path, monkeypatch):
    sessions = exchange_sessions("XNYS", "2015-01-02", "2021-12-31")[: 1260 + 2 * 21 + 64]
    bars = synth_market(12, len(sessions), ic=0.1, seed=4).bars.drop(columns="adj").reset_index()
    bars["date"] = sessions[bars["date"].rank(method="dense").astype(int) - 1]
    bars.loc[bars["date"] >= sessions[-21], "volume"] *= 40
    bars.to_parquet(tmp_path / "bars.parquet", index=False)
    (tmp_path / "own.yaml").write_text(
        "name: own\nfeatures: {use: ['momentum(63, 5)', amount_21], transform: [rank]}\n"
        "model: {kind: feature, column: mom_63_5}\npolicy: {top_k: 3, buffer: 0}\n"
        f"data: {{source: '{tmp_path / 'bars.parquet'}', start: '2015-01-01', end: '2022-01-01'}}\n"
    )
    asked = {"recipe": str(tmp_path / "own.yaml"), "months": 2, "top": 2}
    first, again = (run_report("drift", asked, track=False) for _ in range(2))
    assert first.metrics["alarm"] == 1 and first.metrics["named"] >= 1 and first.metrics["alarms"] == 1
    assert first.metrics["alarms_kept"] == again.metrics["alarms_kept"] == 1
    ledger = Ledger(tmp_path / "ledger")
    assert len(drift_alarms(ledger, next(s for s in ledger.rows()["study"] if "drift alarm" in s)[13:])) == 1
    page = first.html.read_text()
    assert "Verdict on own" in page and '<td class="text">own (study tearsheet)</td>' in page
    assert "nobody decided in those before it" in page and "are no whole month yet" not in page
    assert "Traceback" not in page and ": drift</strong>" in page and "A decision may be made" in page
    late = run_report("drift", asked | {"asked": "2021-12-30 22:00Z"}, track=False)
    assert late.metrics["may_decide"] == 0 and late.metrics["behind"] > 100


@pytest.mark.slow
def test_the_page_on_the_sample():
    numbers = run_report("drift", {}, track=False).metrics
    assert numbers["columns"] == 22 and numbers["months"] == 24 and numbers["custom_psi"] > 0.5
    planted = run_report("drift", {"plants": ["rev_5=1.5"]}, track=False).metrics
    assert planted["alarm"] == 1 and planted["named.rev_5"] == 1 and planted["alarms_kept"] == 1
