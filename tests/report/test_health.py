"report.health and its template: a faulty file gets a page, the sentence follows the findings."

import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.bars import adjust
from quantlab.data.quality import RULES, count_findings, findings, lay_out
from quantlab.data.sample import sample_bars
from quantlab.data.store import Lake
from quantlab.data.synth import synth_damage, synth_market
from quantlab.report.health import (
    GRADES,
    by_symbol,
    cases_figure,
    coverage_figure,
    health_verdict,
    read_unchecked,
    worst,
)
from quantlab.report.market import load_market
from quantlab.report.run import run_report


@pytest.fixture(scope="module")
def spoilt():
    bars, _ = synth_damage(synth_market(20, 200, ic=0.0).bars, missing=0.01, delisted=0.1, censored=0.2, spikes=4)
    return bars


def test_every_rule_has_one_grade():
    assert sorted(rule for rules in GRADES.values() for rule in rules) == sorted(RULES)


def test_the_verdict_follows_the_gravest_finding(spoilt):
    found = findings(spoilt)
    assert health_verdict(found, len(spoilt))[0] == "suspect"
    assert health_verdict(found[found["rule"] != "spike"], len(spoilt))[0] == "mind"
    twice = findings(pd.concat([spoilt, spoilt.iloc[:1]]))
    grade, sentence = health_verdict(twice, len(spoilt) + 1)
    assert grade == "refused" and "1 duplicate" in sentence and "4 spike" in sentence
    assert health_verdict(found[:0], 5)[0] == "clean"


def test_counts_and_worst(spoilt):
    found = findings(spoilt)
    assert by_symbol(found).to_numpy().sum() == len(found) == count_findings(found)["findings"].sum()
    top = worst(found, each=2)
    assert (
        len(top) == 2
        and top["value"].abs().min() >= found.query("rule == 'spike'")["value"].abs().sort_values().iloc[-2]
    )
    assert worst(found[:0]).empty and by_symbol(found[:0]).empty


def test_figures_show_what_there_is(spoilt):
    sheet, found = lay_out(spoilt), findings(spoilt)
    missing = int(found.loc[found["rule"] == "missing", "value"].sum())
    assert (
        coverage_figure(sheet).axes[0].get_title(loc="left")
        == f"20 series, {missing} rows missing between first and last"
    )
    shown = cases_figure(sheet, worst(found)).axes
    assert sum(ax.axison for ax in shown) == min(3, len(worst(found)))
    assert cases_figure(sheet, found[:0]) and coverage_figure(lay_out(spoilt.iloc[:1]))


def test_raw_files_are_read_as_they_are(tmp_path):
    text = (
        "date,symbol,open,high,low,close,volume\n"
        "2024-01-03,NA,10,12,9,11,100\n2024-01-02,NA,10,12,9,x,100\nsoon,NA,1,1,1,1,1\n"
    )
    file = tmp_path / "mine.csv"
    file.write_text(text)
    raw = read_unchecked(str(file))
    assert raw["symbol"].tolist() == ["NA"] * 3 and findings(raw)["rule"].tolist() == ["no_key", "impossible"]
    assert len(read_unchecked(str(file), end="2024-01-02")) == 2, "a row without a date is kept to be counted"
    raw.to_parquet(tmp_path / "mine.parquet")
    assert len(read_unchecked(str(tmp_path / "mine.parquet"))) == 3
    for name, content in (("empty.csv", ""), ("names.csv", "day,ticker\n1,2\n"), ("torn.parquet", "PAR1")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError):
            read_unchecked(str(tmp_path / name))
    with pytest.raises(DataError, match="no rows"):
        read_unchecked(str(file), start="2030-01-01")
    with pytest.raises(DataError, match="check the path"):
        read_unchecked(str(tmp_path / "absent.csv"))


def test_the_sample_page(workspace):
    run = run_report("data_health", track=False)
    assert run.metrics["findings"] == 8 and run.metrics["ends.censored"] == 6 and run.metrics["findings.spike"] == 0
    page = run.html.read_text()
    assert "Usable: no price is suspect" in page and "Traceback" not in page


def test_a_file_that_the_strict_reader_refuses_gets_a_page(workspace, tmp_path):
    bars = sample_bars(["AAPL", "C", "JPM"], "2015-01-01", "2016-12-31").reset_index()
    bars.loc[30, "high"], bars.loc[60, "close"] = 1.0, bars.loc[60, "close"] * 3
    file = tmp_path / "mine.csv"
    pd.concat([bars, bars.iloc[:1]]).to_csv(file, index=False)
    run = run_report("data_health", {"data": str(file), "start": "2015-01-01"}, track=False)
    assert run.metrics["grade"] == 3 and run.metrics["findings.duplicate"] == 1 and run.metrics["findings.spike"] == 1
    assert "refused by read_bars" in run.html.read_text()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"spike": 0.0}, "spike"),
        ({"group": 1}, "group"),
        ({"start": "soon"}, "start"),
        ({"end": "1799-01-01"}, "not after"),
        ({"cases": 0}, "cases"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(workspace, change, part):
    with pytest.raises(ConfigError, match=part):
        run_report("data_health", change, track=False)
    assert not (workspace / "runs").exists()


def test_the_lake_is_a_source_of_every_report(workspace, monkeypatch):
    lake = Lake(workspace / "lake")
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(workspace / "lake"))
    bars = sample_bars(["AAPL", "C", "JPM", "KO", "XOM"], "2015-01-01", "2016-12-30")
    lake.write("mine", "1d", bars)
    market = load_market("lake:mine", "AAPL,KO", "2015-06-01", "2016-06-30")
    pd.testing.assert_frame_equal(
        market.bars.drop(columns=["amount"]),
        adjust(bars, "total").loc["2015-06-01":"2016-06-30"].query("symbol in ['AAPL', 'KO']"),
        check_like=True,
    )
    with pytest.raises(DataError, match="mine"):
        load_market("lake:yours", "all", "2015-06-01", "2016-06-30")
    run = run_report("data_health", {"data": "lake:mine", "calendar": "XNYS"}, track=False)
    assert run.metrics["rows"] == len(bars) and run.metrics["findings.missing"] == 0
    lake.write("holed", "1d", bars.drop(bars.index[bars.index.get_level_values("date") == "2016-02-03"]))
    told, learned = (
        run_report("data_health", {"data": "lake:holed", "calendar": c}, track=False) for c in ("XNYS", "")
    )
    assert told.metrics["findings.missing"] == 5 and learned.metrics["findings.missing"] == 0


def test_a_price_with_splits_and_no_dividends_is_adjusted_for_splits(workspace):
    bars = sample_bars(["KO"], "2015-01-01", "2015-06-30").drop(columns="adj")
    half = bars.assign(split=1.0)
    half.iloc[:60, :4] *= 2
    half.iloc[:60, half.columns.get_loc("split")] = 0.5
    half.reset_index().to_csv(workspace / "split.csv", index=False)
    market = load_market(str(workspace / "split.csv"), "all", "2015-01-01", "2015-06-30")
    pd.testing.assert_series_equal(market.bars["close"], bars["close"])
