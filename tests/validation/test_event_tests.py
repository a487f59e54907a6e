"Event tests against loops, by hand, in worlds without an effect and with one, and on the shared 8-K filings."

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.validation.events import abnormal_returns, event_tests

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared"))
SPANS = ((0, 0), (0, 1), (-1, 1), (0, 5))


def market_of(sessions=300, names=12, seed=0, shared=0.008):
    "Returns with a market and one industry, and their market."
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2020-01-01", periods=sessions, unit="us")
    market = rng.normal(0.0003, 0.01, sessions)
    own = rng.normal(0, 0.015, (sessions, names)) + np.outer(rng.normal(0, shared, sessions), np.ones(names))
    returns = pd.DataFrame(np.outer(market, rng.uniform(0.5, 1.5, names)) + own, days, [f"N{i}" for i in range(names)])
    return returns, pd.Series(market, days)


def at(returns, *places):
    "Events at (row, column)."
    return pd.DataFrame(
        {"date": [returns.index[r] for r, _ in places], "symbol": [returns.columns[c] for _, c in places]}
    )


def by_loops(returns, market, places, span, adjusted=False):
    "The four statistics of one span, one event after the other, with lstsq."
    cars, scars, variances, left, days = [], [], [], [], []
    for row, col in places:
        before = [t for t in range(max(row - 250, 0), row - 10) if np.isfinite(returns.iloc[t, col] + market.iloc[t])]
        y, x = returns.iloc[before, col].to_numpy(), market.iloc[before].to_numpy()
        design = np.column_stack([np.ones(len(x)), x])
        weights, lost = np.linalg.lstsq(design, y, rcond=None)[0], 2
        if adjusted:
            weights, lost = np.array([0.0, 1.0]), 1
        e = y - design @ weights
        e = e - e.mean()
        s2 = (e**2).sum() / (len(y) - lost)
        inside = range(row + span[0], row + span[1] + 1)
        then = np.array([[1.0, market.iloc[t]] for t in inside])
        abnormal = np.array([returns.iloc[t, col] for t in inside]) - then @ weights
        cover = np.eye(len(then))
        if not adjusted:
            cover = cover + then @ np.linalg.inv(design.T @ design) @ then.T
        cars.append(abnormal.sum())
        scars.append(abnormal.sum() / np.sqrt(s2 * cover.sum()))
        variances.append((len(y) - lost) / (len(y) - lost - 2))
        left.append(dict(zip(before, e, strict=True)))
        days.append(set(inside))
    n, r = len(cars), 0.0
    for i in range(n):
        for j in range(i):
            both = sorted(set(left[i]) & set(left[j]))
            a, b = (np.array([left[k][t] for t in both]) for k in (i, j))
            r += a @ b / np.sqrt(a @ a * (b @ b)) * len(days[i] & days[j]) / len(days[i])
    r /= n * (n - 1) / 2
    bmp = np.mean(scars) / np.std(scars, ddof=1) * np.sqrt(n)
    return {
        "car": np.mean(cars),
        "t": stats.ttest_1samp(cars, 0).statistic,
        "patell": np.sum(scars) / np.sqrt(np.sum(variances)),
        "bmp": bmp,
        "kp": bmp * np.sqrt((1 - r) / (1 + (n - 1) * r)),
        "correlation": r,
    }


@pytest.mark.parametrize("model", ["market", "adjusted"])
@pytest.mark.parametrize("span", SPANS)
def test_equal_to_loops_where_dates_are_shared_near_and_apart(model, span):
    returns, market = market_of(seed=3)
    returns = returns.mask(np.random.default_rng(1).random(returns.shape) < 0.05)
    market.iloc[100] = np.nan
    places = [(270, 0), (270, 1), (270, 2), (271, 3), (273, 4), (290, 5), (260, 6), (262, 7)]
    for row, col in places:
        returns.iloc[row - 1 : row + 6, col] = returns.iloc[row - 1 : row + 6, col].fillna(0.001)
    found = event_tests(abnormal_returns(returns, market, at(returns, *places), model=model), [span])
    assert found.table["events"].iloc[0] == len(places)
    expected = by_loops(returns, market, sorted(places), span, model == "adjusted")
    for name, value in expected.items():
        assert found.table[name].iloc[0] == pytest.approx(value, rel=1e-9), name
    t = found.table.iloc[0]
    assert t["p_kp"] == pytest.approx(2 * stats.t.sf(abs(t["kp"]), len(places) - 1))
    assert t["p_patell"] == pytest.approx(2 * stats.norm.sf(abs(t["patell"])))


def test_by_hand():
    "Two names that differ by a known sum, a market that stands still: abnormal is what lies above the mean."
    days = pd.bdate_range("2020-01-01", periods=260, unit="us")
    wave = np.where(np.arange(260) % 2, 0.01, -0.01)
    returns = pd.DataFrame({"A": wave, "B": -wave}, days)
    returns.iloc[255] = [0.03, 0.05]
    found = event_tests(
        abnormal_returns(returns, pd.Series(0.0, days), at(returns, (255, 0), (255, 1)), (0, 0)), [(0, 0)]
    ).table.iloc[0]
    s = 0.01 * np.sqrt(240 / 238) * np.sqrt(1 + 1 / 240)
    assert found["car"] == pytest.approx(0.04) and found["t"] == pytest.approx(0.04 / 0.01)
    assert found["bmp"] == pytest.approx(4) and found["patell"] == pytest.approx(0.08 / s / np.sqrt(2 * 238 / 236))
    assert found["correlation"] == pytest.approx(-1)  # 1 + (n - 1) r is 0: the mean of the two never moves
    assert np.isnan(found["kp"]) and "no variance" in found["reason"]


def test_correlation_of_one_date_is_the_mean_of_the_matrix():
    returns, market = market_of(seed=5)
    measured = abnormal_returns(returns, market, at(returns, *[(280, c) for c in range(12)]))
    matrix = np.corrcoef(measured.residuals)
    expected = matrix[np.triu_indices(12, 1)].mean()
    table = event_tests(measured).table
    assert table["correlation"].to_numpy() == pytest.approx(expected) and expected > 0.1
    assert table["kp"].to_numpy() == pytest.approx(table["bmp"] * np.sqrt((1 - expected) / (1 + 11 * expected)))


def test_events_far_apart_share_nothing():
    returns, market = market_of(sessions=500, seed=6)
    table = event_tests(abnormal_returns(returns, market, at(returns, *[(270 + 10 * c, c) for c in range(12)]))).table
    assert (table["correlation"] == 0).all() and np.array_equal(table["kp"], table["bmp"])


def test_only_the_past_estimates():
    returns, market = market_of(seed=7)
    events = at(returns, (280, 0), (280, 1), (280, 2))
    before = abnormal_returns(returns, market, events)
    returns.iloc[270:] += 1.0
    after = abnormal_returns(returns, market, events)
    assert before.used.equals(after.used) and np.array_equal(before.residuals, after.residuals)
    assert np.allclose(after.abnormal - before.abnormal, 1.0)


def test_order_and_form_of_the_input_do_not_matter():
    returns, market = market_of(seed=8)
    events = at(returns, (280, 4), (270, 1), (280, 2), (271, 3))
    expected = event_tests(abnormal_returns(returns, market, events)).table
    panel = returns.rename_axis(index="date", columns="symbol").stack().sort_index()
    turned = event_tests(abnormal_returns(panel, market, events.iloc[::-1])).table
    scaled = event_tests(abnormal_returns(returns * 3, market * 3, events)).table
    pd.testing.assert_frame_equal(turned, expected)
    assert np.allclose(scaled["kp"], expected["kp"]) and np.allclose(scaled["car"], 3 * expected["car"])


def test_what_is_dropped_and_why():
    returns, market = market_of()
    returns["still"], returns["gone"], returns["halted"] = 0.0, returns["N0"], returns["N1"]
    returns.loc[returns.index[275] :, "gone"] = np.nan
    returns.loc[returns.index[283], "halted"] = np.nan
    day = returns.index[280]
    rows = [(day, n) for n in ("N0", "N0", "N2", "still", "gone", "halted", "NONE")]
    rows += [(returns.index[284], "N2"), (returns.index[287], "N2"), (returns.index[60], "N3"), (pd.NaT, "N4")]
    rows += [(pd.Timestamp("2020-01-04"), "N5")]
    measured = abnormal_returns(returns, market, pd.DataFrame(rows, columns=["date", "symbol"]))
    reasons = measured.dropped.groupby("symbol")["reason"].first()
    assert measured.used["symbol"].tolist() == ["N0", "N2", "halted", "N2"]  # the third of N2 is 7 after the first
    assert reasons["N0"] == "said twice" and "dispersion" in reasons["still"] and reasons["NONE"] == "no prices"
    assert reasons["gone"] == "no return in the event span" and "overlaps an event of its own 4" in reasons["N2"]
    assert "50 returns" in reasons["N3"] and reasons["N4"] == reasons["N5"] == "not a session of the returns"
    found = event_tests(measured)
    assert found.table["events"].tolist() == [4, 4, 4, 3]
    assert found.dropped.query("span == '[0, 5]'")["symbol"].tolist() == ["halted"]
    assert found.path["events"].tolist() == [4, 4, 4, 4, 3, 3, 3]
    assert len(found.dropped) == len(measured.dropped) + 1


def test_one_event_none_and_all_alike():
    returns, market = market_of()
    one = event_tests(abnormal_returns(returns, market, at(returns, (280, 0)))).table
    assert one["t"].isna().all() and one["kp"].isna().all() and one["patell"].notna().all()
    assert one["reason"].str.contains("1 events have no spread").all()
    none = event_tests(abnormal_returns(returns, market, at(returns).astype({"date": "datetime64[us]"})))
    assert (none.table["events"] == 0).all() and none.table["patell"].isna().all() and not len(none.dropped)
    twin = returns.assign(N1=returns["N0"])
    alike = event_tests(abnormal_returns(twin, market, at(twin, (280, 0), (280, 1)))).table
    assert alike["reason"].eq("all events have the same CAR").all() and alike["kp"].isna().all()
    empty = abnormal_returns(returns.iloc[:0], market, at(returns, (280, 0)))
    assert empty.dropped["reason"].tolist() == ["not a session of the returns"]
    alone = event_tests(abnormal_returns(returns[["N0"]], market, at(returns, (270, 0), (280, 0), (290, 0)))).table
    assert (alone["correlation"] == 0).all() and alone["kp"].notna().all()


def test_refused():
    returns, market = market_of()
    events = at(returns, (280, 0))
    for settings in (
        {"estimation": (-250, -1)},
        {"event_span": (3, 1)},
        {"model": "capm"},
        {"least": 5},
        {"event_span": (0.5, 1)},
    ):
        with pytest.raises(ConfigError):
            abnormal_returns(returns, market, events, **settings)
    for settings, says in (
        ({"event_span": None}, "event_span is None; give a tuple or a list"),
        ({"estimation": "long"}, "estimation is 'long', a str; give a tuple or a list"),
        ({"estimation": (-100, True)}, "estimation is (-100, True); give its first"),
        ({"least": True}, "least is True, a bool; give an int"),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            abnormal_returns(returns, market, events, **settings)
    measured = abnormal_returns(returns, market, events)
    for spans, says in (([(0, 1), 3], "spans[1] is 3, an int; give"), ([(1, 0)], "spans[0] is (1, 0); give its first")):
        with pytest.raises(ConfigError, match=re.escape(says)):
            event_tests(measured, spans)
    with pytest.raises(ConfigError, match="leaves the event span"):
        event_tests(abnormal_returns(returns, market, events), [(0, 9)])
    with pytest.raises(DataError, match="infinite"):
        abnormal_returns(returns.replace(returns.iloc[5, 0], np.inf), market, events)
    with pytest.raises(DataError, match="infinite"):
        abnormal_returns(returns, market.replace(market.iloc[5], np.inf), events)
    with pytest.raises(DataError, match="lack"):
        abnormal_returns(returns, market, events[["date"]])
    with pytest.raises(DataError, match="cannot be read"):
        abnormal_returns(returns, market, events.assign(date="soon"))
    with pytest.raises(DataError, match="in order"):
        abnormal_returns(returns.iloc[::-1], market, events)
    with pytest.raises(DataError, match="twice"):
        abnormal_returns(returns, pd.concat([market, market.iloc[:1]]), events)
    with pytest.raises(DataError, match="dates as their index"):
        abnormal_returns(returns.reset_index(drop=True), market, events)
    with pytest.raises(PanelError):
        abnormal_returns(returns, market.tz_localize("UTC"), events)
    with pytest.raises(PanelError):
        abnormal_returns(returns, market, events.assign(date=events["date"].dt.tz_localize("UTC")))


@pytest.fixture(scope="module")
def calibrate():
    "The script that measures the rates."
    sys.path.insert(0, str(root() / "scripts"))
    try:
        import calibrate as module
    finally:
        sys.path.pop(0)
    return module


@pytest.mark.parametrize("world", ["1 date x 30 names", "10 dates x 10 names, spans overlap"])
def test_a_true_null_is_seldom_rejected_and_one_percent_over_many_dates_is_found(calibrate, world):
    n, ps = 60, []
    for seed in range(n):
        measured = calibrate.event_world(np.random.default_rng([99, seed]), world)
        ps.append(event_tests(measured, [(0, 0), (0, 5)]).table[["p_t", "p_bmp", "p_kp"]].to_numpy().ravel())
    t, bmp, kp, t_long, bmp_long, kp_long = (np.array(ps) <= 0.05).sum(axis=0)
    assert kp <= stats.binom.ppf(0.999, n, 0.07) and kp_long <= stats.binom.ppf(0.999, n, 0.07)
    assert min(t, bmp, t_long, bmp_long) > 0.15 * n


def test_a_planted_percent_is_found(calibrate):
    found = 0
    for seed in range(20):
        measured = calibrate.event_world(np.random.default_rng([98, seed]), "10 dates x 10 names")
        measured.abnormal[:, measured.sessions == 0] += 0.01
        row = event_tests(measured, [(0, 0)]).table.iloc[0]
        found += row["p_kp"] <= 0.05
        assert row["least"] < 0.012
    assert found >= 14


def test_the_stored_rates_keep_what_is_promised():
    stored = json.loads((root() / "bench" / "results" / "event_study.json").read_text())
    rates = pd.DataFrame(stored["rates"])
    promised = rates[~rates["world"].str.contains("sample|own variance")]
    assert (promised["n"] == stored["about"]["seeds"]).all() and stored["about"]["seeds"] >= 2000
    assert promised["kp"].between(0.03, 0.07).all()
    clustered = promised[promised["world"] != "100 dates x 1 name"]
    assert (clustered["bmp"] > 0.07).all() and (clustered["t"] > 0.07).all()


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data" / "text" / "edgar_8k_extracted.zip").exists(), reason="needs ../shared")
def test_the_filings_meet_their_prices(calibrate):
    filed, returns = calibrate.filings_8k(SHARED)
    assert len(filed) == 203 and filed["2.02"].sum() == 72
    assert filed["symbol"].value_counts().to_dict() == {
        "DIS": 88,
        "TSN": 57,
        "SNDK": 23,
        "EL": 16,
        "FDX": 12,
        "NTAP": 7,
    }
    study = pd.DataFrame(calibrate.filing_study(SHARED)["filings"]).set_index(["group", "span"])
    stored = json.loads((root() / "bench" / "results" / "event_study.json").read_text())["filings"]
    stored = pd.DataFrame(stored).set_index(["group", "span"])
    assert np.allclose(study[["car", "kp", "least"]], stored[["car", "kp", "least"]], atol=2e-6)
    one = study.loc[("2.02 results", "[0, 1]")]
    assert one["events"] + sum(one["dropped"].values()) == one["filings"] == 72
