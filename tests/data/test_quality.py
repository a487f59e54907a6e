"""data.quality: planted faults are found under their name, clean bars are left in peace, any frame is survived."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.bars import BAR_COLUMNS, check_bars, symbol_coverage
from quantlab.data.quality import RULES, count_findings, ends, findings, lay_out
from quantlab.data.sample import sample_bars
from quantlab.data.synth import synth_damage, synth_market

SHARED = Path(os.environ.get("QUANTLAB_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
US = SHARED / "data" / "us" / "us_sp500_daily_2000_2023.parquet"
PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def clean():
    return sample_bars(["AAPL", "C", "JPM", "MSFT", "PFE", "XOM"], "2012-01-01", "2015-12-31")


def rules(found):
    return found["rule"].astype("str").tolist()


def at(bars, symbol, *dates):
    return [(pd.Timestamp(d), symbol) for d in dates]


def test_the_sample_has_six_censored_ends_two_empty_bars_and_nothing_else():
    found = findings(sample_bars())
    assert rules(found) == ["ends_together"] * 6 + ["zero_volume"] * 2
    assert found["symbol"].tolist() == ["AABA", "AET", "APC", "ARNC", "DO", "STI", "BKR", "GEN"]


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.7, 1.4, 2.0, 100.0])
@pytest.mark.parametrize("columns", [PRICES, ["close"]], ids=["whole bar", "close"])
def test_a_spike_is_one_finding(clean, factor, columns):
    bars = clean.copy()
    bars.loc[at(bars, "PFE", "2013-05-15"), columns] *= factor
    found = findings(bars).query("rule == 'spike'")
    assert found[["symbol", "date"]].values.tolist() == [["PFE", pd.Timestamp("2013-05-15")]]
    assert found["value"].iloc[0] == pytest.approx(factor - 1, abs=0.05 * max(factor, 1))
    assert "split_like" not in rules(findings(bars))


@pytest.mark.parametrize(
    ("factor", "note"),
    [(2.0, "2 for 1"), (3.0, "3 for 1"), (1.5, "1.5 for 1"), (0.1, "1 for 10"), (1.37, "no simple ratio")],
)
def test_a_split_that_no_factor_knows(clean, factor, note):
    bars = clean.copy()
    before = (bars.index.get_level_values("symbol") == "XOM") & (bars.index.get_level_values("date") < "2014-03-12")
    bars.loc[before, PRICES] *= factor
    bars.loc[before, "volume"] /= factor
    found = findings(bars)
    assert found[["rule", "symbol", "note"]].astype("str").values.tolist() == [["split_like", "XOM", note]]
    assert found["date"].iloc[0] == pd.Timestamp("2014-03-12")
    bars["split"] = np.where(before, 1 / factor, 1.0)
    assert findings(bars).empty, "the factor explains it"


def test_a_crash_that_is_traded_on_is_no_split(clean):
    bars = clean.copy()
    after = (bars.index.get_level_values("symbol") == "XOM") & (bars.index.get_level_values("date") >= "2014-03-12")
    bars.loc[after, PRICES] *= 0.5
    bars.loc[at(bars, "XOM", "2014-03-12"), "volume"] *= 12
    assert findings(bars).empty


def test_a_reversal_within_the_day_is_no_spike(clean):
    bars = clean.copy()
    bars.loc[at(bars, "XOM", "2014-03-12"), ["low", "close"]] *= 0.6
    bars.loc[at(bars, "XOM", "2014-03-13"), ["open", "low"]] *= 0.6
    assert findings(bars).empty


def test_a_move_of_the_whole_market_is_no_fault(clean):
    bars = clean.copy()
    bars.loc[bars.index.get_level_values("date") == "2014-03-12", PRICES] *= 0.6
    assert findings(bars).empty


def test_stale_runs_empty_bars_and_wicks(clean):
    bars = clean.copy()
    copy = bars.loc[at(bars, "C", "2013-02-01")[0], PRICES].to_numpy()
    for day in ("2013-02-04", "2013-02-05", "2013-02-06"):
        bars.loc[at(bars, "C", day), [*PRICES, "adj"]] = [*copy, bars.loc[at(bars, "C", "2013-02-01")[0], "adj"]]
    bars.loc[at(bars, "JPM", "2013-06-03", "2013-06-04", "2013-06-06"), "volume"] = 0.0
    bars.loc[at(bars, "MSFT", "2013-09-03"), "high"] *= 10
    found = findings(bars)
    assert found[["rule", "symbol", "value"]].astype({"rule": "str"}).values.tolist()[:3] == [
        ["zero_volume", "JPM", 2],
        ["zero_volume", "JPM", 1],
        ["stale", "C", 3],
    ]
    assert rules(found)[3:] == ["wick"] and found["value"].iloc[3] == pytest.approx(np.log(10), abs=0.05)
    assert "stale" not in rules(findings(bars, stale=4))


def test_calendar_faults(clean):
    bars = clean.drop([*at(clean, "C", "2013-02-01", "2013-02-04"), *at(clean, "C", "2014-02-04")])
    extra = bars.loc[at(bars, "JPM", "2013-03-15")].rename(
        {pd.Timestamp("2013-03-15"): pd.Timestamp("2013-03-16")}, level="date"
    )
    found = findings(pd.concat([bars, extra]))
    assert found[["rule", "symbol", "value"]].astype({"rule": "str"}).values.tolist() == [
        ["missing", "C", 2],
        ["missing", "C", 1],
        ["off_calendar", "JPM", pytest.approx(1 / 6)],
    ]
    assert found["note"].tolist() == ["until 2013-02-04", "until 2014-02-04", "a Saturday"]


def test_given_sessions_find_what_all_series_miss(clean):
    sessions = clean.index.unique("date")
    holed = clean[clean.index.get_level_values("date") != "2013-02-01"]
    assert findings(holed).empty
    found = findings(holed, sessions=sessions)
    assert rules(found) == ["missing"] * 6 and (found["date"] == "2013-02-01").all()
    assert rules(findings(clean, sessions=sessions.drop(pd.Timestamp("2013-02-01")))) == ["off_calendar"] * 6
    with pytest.raises(DataError, match="time zone"):
        findings(clean, sessions=sessions.tz_localize("UTC"))


def test_what_check_bars_refuses_is_listed(clean):
    raw = clean.reset_index().astype({"date": "object", "close": "object", "symbol": "object"})
    raw.loc[10, "close"], raw.loc[20, "high"], raw.loc[30, "volume"], raw.loc[40, "adj"] = "n/a", 0.01, -5, 0.0
    raw.loc[50, "date"], raw.loc[60, "symbol"] = "yesterday", None
    raw = pd.concat([raw, raw.iloc[[100, 100, 200]].assign(close=[1.0, raw["close"][100], raw["close"][200]])]).sample(
        frac=1, random_state=1
    )
    found = findings(raw)
    count = found["rule"].value_counts()
    assert found["value"][0] == 2 and count["impossible"] >= 4 and count["duplicate"] == 2 and count["missing"] == 2
    assert found.query("rule == 'duplicate'")["note"].tolist() == ["closes agree", "closes differ"]
    assert found.query("rule == 'duplicate'")["value"].tolist() == [2, 3]


def test_impossible_agrees_with_check_bars(clean):
    for column, value in (
        ("high", 0.01),
        ("low", 1e6),
        ("open", np.inf),
        ("close", 0.0),
        ("volume", -1.0),
        ("adj", np.nan),
    ):
        bars = clean.copy()
        bars.loc[at(bars, "C", "2013-02-01"), column] = value
        assert "impossible" in rules(findings(bars))
        with pytest.raises(DataError):
            check_bars(bars)


def test_order_and_shape_of_the_frame_do_not_matter(clean):
    bars, truth = synth_damage(synth_market(12, 200, ic=0.0).bars, missing=0.01, censored=0.3, spikes=4)
    expected = findings(bars)
    assert len(expected) and findings(bars.reset_index()).equals(expected)
    assert findings(bars.reset_index().sample(frac=1, random_state=3).set_index(["symbol", "date"])).equals(expected)
    assert findings(bars.reset_index().astype({"date": "str"})).equals(expected)
    assert findings(bars.reset_index().astype({"symbol": "category"})).equals(expected)


def test_intraday_bars_are_audited_too():
    from quantlab.data.synth import synth_minutes

    minutes, _ = synth_minutes(synth_market(4, 3, ic=0.0).bars)
    gone = minutes.index[[500, 501]]
    found = findings(minutes.drop(gone), spike=0.5)
    assert rules(found) == ["missing"] * 2 and found["date"].dt.tz is not None and set(found["date"]) == {gone[0][0]}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-06", "x"]),
            st.sampled_from(["A", "B", "NA", None]),
            *[st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1.0, 1.1, 50.0]) for _ in BAR_COLUMNS],
        ),
        max_size=12,
    )
)
@settings(max_examples=50, deadline=None)
def test_any_frame_is_survived(rows):
    frame = pd.DataFrame(rows, columns=["date", "symbol", *BAR_COLUMNS]).astype(dict.fromkeys(BAR_COLUMNS, "float64"))
    found = findings(frame)
    assert list(found.columns) == ["rule", "symbol", "date", "value", "note"] and list(
        found["rule"].cat.categories
    ) == list(RULES)
    keyed = frame[
        frame["date"].isin(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-06"]) & frame["symbol"].notna()
    ]
    assert found.loc[found["rule"] == "no_key", "value"].sum() == len(frame) - len(keyed)
    assert (
        found.loc[found["rule"] == "duplicate", "value"].sum() == keyed.duplicated(["date", "symbol"], keep=False).sum()
    )
    assert count_findings(found)["findings"].sum() == len(found)


@given(st.integers(0, 2**31), st.floats(0, 0.05), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(0, 8))
@settings(max_examples=15, deadline=None)
def test_every_planted_fault_is_found_and_no_other(seed, missing, delisted, censored, spikes):
    bars, truth = synth_damage(
        synth_market(20, 150, ic=0.0, seed=seed % 50).bars, missing, delisted, censored, spikes, seed
    )
    found, done = findings(bars), truth.groupby("rule")["symbol"].size()
    assert found.loc[found["rule"] == "missing", "value"].sum() == done.get("missing", 0)
    together = done.get("ends_together", 0) * (done.get("ends_together", 0) >= 3)
    assert (found["rule"] == "ends_together").sum() >= together
    seen, done = (frame.loc[frame["rule"] == "spike", ["symbol", "date"]].values.tolist() for frame in (found, truth))
    assert seen == done
    assert set(rules(found)) <= {"missing", "ends_together", "spike"}


def test_the_first_of_repeated_rows_is_examined(clean):
    second = clean.loc[at(clean, "C", "2013-02-01")] * 3
    twice, reverse = pd.concat([clean, second]), pd.concat([second, clean])
    assert rules(findings(twice)) == ["duplicate"] and rules(findings(reverse)) == ["duplicate", "spike"]


@pytest.mark.parametrize(("n", "kind"), [(2, "alone"), (3, "censored")])
def test_a_group_is_at_least_three(clean, n, kind):
    stop = clean.index.get_level_values("symbol").isin(["AAPL", "C", "JPM"][:n]) & (
        clean.index.get_level_values("date") > "2014-06-02"
    )
    assert len(findings(clean[~stop])) == n * (kind == "censored")
    assert ends(clean[~stop])[["series", "kind"]].values.tolist() == [[n, kind]] and ends(clean[~stop]).index[
        0
    ] == pd.Timestamp("2014-06-02")


def test_degenerate_frames(clean):
    for frame in (clean.iloc[:0], clean.iloc[:1], clean.xs("C", level="symbol", drop_level=False)):
        assert findings(frame).empty and ends(frame).empty
    assert (findings(clean.iloc[:30] * np.nan)["rule"] == "impossible").all()
    assert lay_out(clean.iloc[:0]).rows.shape == (0, 0)
    with pytest.raises(DataError, match=r"\['volume'\] are missing"):
        findings(clean.drop(columns="volume"))
    with pytest.raises(ConfigError, match="sigmas=0"):
        findings(clean, sigmas=0)


@pytest.mark.skipif(not US.is_file(), reason="../shared/data/us is not here")
class TestSharedUS:
    "The flaws that the README of the shared data lists, and few alarms besides, in 3.9 million rows."

    @pytest.fixture(scope="class")
    def us(self):
        return pd.read_parquet(US, columns=["date", "symbol", "open", "high", "low", "close", "volume", "adj"])

    @pytest.fixture(scope="class")
    def found(self, us):
        return findings(us)

    def test_known_spikes_and_few_alarms(self, found):
        spikes = found[found["rule"] == "spike"]
        got = set(zip(spikes["symbol"], spikes["date"].astype("str"), strict=True))
        assert {("GENZ", "2001-04-30"), ("GENZ", "2001-05-07")} <= got
        assert len(got) <= 8, "at most six more in 3.9 million rows"
        jumps = found[found["rule"] == "split_like"]
        assert len(jumps) <= 15 and {"JCI", "EXPE", "VTR"} <= set(jumps["symbol"])  # demergers that no factor knows
        assert (found["rule"] == "wick").sum() <= 20 and (found["rule"] == "off_calendar").sum() == 0

    def test_missing_days(self, found, us):
        assert found.loc[found["rule"] == "missing", "value"].sum() == 424
        panel = us.astype({"symbol": "str"}).set_index(["date", "symbol"]).sort_index()
        assert symbol_coverage(panel)["missing"].sum() == 424

    def test_zero_volume(self, found, us):
        counted = int((us["volume"] == 0).sum())
        assert found.loc[found["rule"] == "zero_volume", "value"].sum() == counted
        assert abs(counted - 1979) <= 3  # the README says 1,979; the file holds 1,976

    def test_censored_ends(self, found, us):
        censored = found[found["rule"] == "ends_together"].groupby("date").size()
        assert censored.index.astype("str").tolist() == ["2010-12-06", "2017-11-10", "2018-07-18", "2021-08-30"]
        assert censored.sum() == 145
        assert ends(us).query("kind == 'alone'")["series"].max() < 3


# --- strays at the edges, and factors that step alone ------------------------------------------------------------


@pytest.mark.parametrize("day", ["2012-01-07", "2012-06-16", "2011-12-31", "2013-01-05"])
def test_a_stray_row_is_named_at_the_edges_too(day):
    bars = sample_bars(["AAPL", "C", "JPM", "MSFT", "PFE", "XOM"], "2012-01-03", "2012-12-31")
    stray = (
        bars.xs("C", level="symbol").iloc[[0]].assign(symbol="C", date=pd.Timestamp(day)).set_index(["date", "symbol"])
    )
    found = findings(pd.concat([bars, stray]).sort_index())
    assert found.loc[found["rule"] == "off_calendar", ["symbol", "date"]].to_numpy().tolist() == [
        ["C", pd.Timestamp(day)]
    ]
    assert not len(findings(bars).query("rule == 'off_calendar'"))


@pytest.mark.parametrize(("day", "level"), [("2012-02-01", 0.98), ("2012-06-15", 1.01), ("2012-12-31", 0.5)])
def test_two_levels_in_one_history_are_a_seam(day, level):
    "Deliveries on two levels: all names step on one day, and the prices do not."
    bars = sample_bars(start="2012-01-03", end="2012-12-31")
    late = bars.index.get_level_values("date") >= pd.Timestamp(day)
    found = findings(bars.assign(adj=bars["adj"] * np.where(late, level, 1.0))).query("rule == 'seam'")
    assert set(found["date"]) == {pd.Timestamp(day)} and len(found) >= 0.95 * bars.loc[day].shape[0]
    assert np.isclose(found["value"], level, rtol=0.02).all()
    assert not len(findings(bars).query("rule == 'seam'"))


def test_a_factor_of_one_name_that_steps_alone_is_a_seam_and_a_split_is_none():
    bars = sample_bars(["AAPL", "C", "MSFT"], start="2014-01-02", end="2014-12-31")
    early = bars.index.get_level_values("date") < pd.Timestamp("2014-06-09")
    apple = bars.index.get_level_values("symbol") == "AAPL"
    prices = ["open", "high", "low", "close"]
    carried = bars.assign(
        **{c: np.where(early & apple, bars[c] * 7, bars[c]) for c in prices}, split=np.where(early & apple, 1 / 7, 1.0)
    )
    assert not len(findings(carried).query("rule in ('seam', 'split_like')"))
    event = carried.assign(
        split=np.where(apple & (bars.index.get_level_values("date") == pd.Timestamp("2014-06-09")), 7.0, 1.0)
    )
    found = findings(event).query("rule == 'seam'")
    assert found["date"].tolist() == [pd.Timestamp("2014-06-10")] and found["value"].iloc[0] == pytest.approx(
        1 / 7, rel=1e-6
    )
    lonely = bars.assign(adj=np.where(early & apple, bars["adj"] * 0.8, bars["adj"]))
    found = findings(lonely).query("rule == 'seam'")
    assert found[["symbol", "date"]].to_numpy().tolist() == [["AAPL", pd.Timestamp("2014-06-09")]]
