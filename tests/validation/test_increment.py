"What a score adds: against loops, by hand, for worthless scores and planted ones, for few names and degenerate input."

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.validation.increment import _deal_dates, increment


def world(dates=50, names=6, seed=0, truth=0.0, horizon=1, gaps=0.0):
    "A base score that knows a little, a new one with a truth or none, outcomes of some sessions."
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2020-01-01", periods=dates + horizon, unit="us")
    index = pd.MultiIndex.from_product([days[:dates], [f"N{i:02}" for i in range(names)]], names=["date", "symbol"])
    base, y, own = rng.standard_normal((3, dates, names))
    y = y + 0.1 * base
    frame = pd.DataFrame({"base": base.ravel(), "y": y.ravel(), "score": (own + base + truth * y).ravel()}, index)
    frame["t1"] = np.repeat(days[horizon:], names)
    if gaps:
        frame["score"] = frame["score"].mask(rng.random(len(frame)) < gaps)
        frame["y"] = frame["y"].mask(rng.random(len(frame)) < gaps / 2)
    return frame


def judge(frame, **settings):
    "The verdict with few draws and a short past."
    return increment(
        frame["score"], frame[["base"]], frame["y"], frame["t1"], **{"draws": 39, "past": 20, "seed": 3} | settings
    )


def unit(values):
    "Ranks less their mean, of length one; zeros where there are fewer than three or no two differ."
    out, there = np.zeros(len(values)), np.isfinite(values)
    if there.sum() >= 3 and np.ptp(values[there]) > 0:
        ranks = stats.rankdata(values[there])
        out[there] = (ranks - ranks.mean()) / np.linalg.norm(ranks - ranks.mean())
    return out


def left_by(design, values):
    "The unit residual of a regression."
    e = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return e / np.linalg.norm(e) if np.linalg.norm(e) > 1e-6 else np.zeros(len(e))


def by_loops(frame, deals, past):
    "Mean IC of what the base leaves, the same of each deal, and the gain out of sample; date by date."
    wide = {c: frame[c].unstack() for c in ("score", "base", "y", "t1")}
    days, sets, kept = wide["y"].index, [], []
    for d in range(len(days)):
        there = (wide["y"].iloc[d].notna() & wide["base"].iloc[d].notna()).to_numpy()
        x, y, u = (wide[c].iloc[d].to_numpy(dtype=float).copy() for c in ("base", "y", "score"))
        for values in (x, y, u):
            values[~there] = np.nan
        sets.append((there, unit(x), unit(y), unit(u)))
        design = np.column_stack([there, unit(x)]).astype(float)
        kept.append((design, left_by(design, unit(u))))
    mean = np.mean([e @ s[2] for (_, e), s in zip(kept, sets, strict=True) if e.any()])
    null = []
    for deal in deals:
        left = [left_by(kept[d][0], kept[o][1] * sets[d][0]) for d, o in enumerate(deal)]
        null.append(np.mean([e @ s[2] for e, s in zip(left, sets, strict=True) if e.any()]))
    ics = {1: [], 2: []}
    for d, day in enumerate(days):
        ended = [o for o in range(d) if wide["t1"].iloc[: o + 1].max().max() < day]
        for n in ics if len(ended) >= past else ():
            columns = [1, 3][:n]
            design = np.concatenate([np.column_stack([sets[o][c] for c in columns])[sets[o][0]] for o in ended])
            target = np.concatenate([sets[o][2][sets[o][0]] for o in ended])
            forecast = np.column_stack([sets[d][c] for c in columns]) @ np.linalg.lstsq(design, target, rcond=None)[0]
            ics[n].append(unit(np.where(sets[d][0], forecast, np.nan)) @ sets[d][2])
    return mean, np.array(null), np.mean(ics[1]), np.mean(ics[2])


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_equal_to_loops(gaps):
    frame = world(seed=4, truth=0.3, horizon=3, gaps=gaps)
    rng = np.random.default_rng(3)
    deals = [_deal_dates(50, rng) for _ in range(39)]
    mean, null, ic_base, ic_both = by_loops(frame, deals, 20)
    found = judge(frame)
    assert found.residual.mean == pytest.approx(mean) and np.allclose(found.null, null)
    assert (found.ic_base, found.ic_both) == pytest.approx((ic_base, ic_both))
    assert found.gain.mean == pytest.approx(ic_both - ic_base)
    assert found.p_permutation == (1 + (np.abs(null) >= abs(mean)).sum()) / 40


def test_few_names_equal_to_loops():
    "Each name over its dates: the partial rank correlation, averaged over names."
    frame = world(dates=120, names=2, seed=5, truth=0.3)
    found, ics = judge(frame, within="symbol"), []
    for _, part in frame.groupby("symbol"):
        u, x, y = (unit(part[c].to_numpy()) for c in ("score", "base", "y"))
        ics.append(left_by(np.column_stack([np.ones(120), x]), u) @ y)
    assert found.residual.mean == pytest.approx(np.mean(ics)) and found.residual.n_dates == 120
    assert found.gain.mean == pytest.approx(found.ic_both - found.ic_base) and found.verdict == "yes"


def test_a_copy_adds_nothing_and_a_truth_is_found():
    frame = world(dates=400, names=12, seed=1)
    copy = judge(frame.assign(score=frame["base"] ** 3))
    assert copy.verdict == "no" and "explains all" in copy.reason and copy.explained == pytest.approx(1)
    true = judge(world(dates=400, names=12, seed=1, truth=0.2), draws=199)
    assert true.verdict == "yes" and true.gain.mean > 0 and true.p_permutation == 1 / 200 and true.dsr > 0.95
    table = true.table()
    assert table.loc["left by the base, dates dealt", "p"] == 1 / 200 and np.isfinite(table["mean"]).all()


def test_the_future_is_not_read():
    "Later rows do not change the forecasts of earlier dates; the score's sign does not matter to the verdict."
    frame = world(dates=120, seed=6, truth=0.2, horizon=5)
    days = frame.index.unique("date")
    changed = frame.copy()
    changed.loc[days[100] :, "y"] = -changed.loc[days[100] :, "y"]
    before, after = (judge(f.loc[: days[104]]) for f in (frame, changed))
    ics = [f.ic_both * f.gain.n_dates for f in (before, after)]
    until = judge(frame.loc[: days[99]])  # outcomes of row 100 end at 105: no forecast up to 104 has seen them
    seen = until.ic_both * until.gain.n_dates
    assert ics[1] - seen == pytest.approx(-(ics[0] - seen)) and ics[0] != seen
    other = judge(frame.assign(score=-frame["score"]))
    same = judge(frame)
    assert other.verdict == same.verdict and other.gain.mean == pytest.approx(same.gain.mean)
    assert other.residual.mean == pytest.approx(-same.residual.mean)


def test_the_rule():
    "Not enough below the power asked for, no above it; many tries raise p as Sidak says."
    frame = world(dates=300, names=10, seed=2)
    loose, strict = judge(frame, smallest=0.5), judge(frame, smallest=0.001)
    assert (loose.verdict, strict.verdict) == ("no", "not enough") and "would matter" in strict.reason
    many = judge(frame, n_trials=10)
    assert many.p_deflated == pytest.approx(1 - (1 - loose.p_permutation) ** 10)
    assert many.least_seen > loose.least_seen and many.dsr < loose.dsr
    spread = np.sqrt((loose.null**2).mean())
    assert loose.least_seen == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * spread)


def test_degenerate_input_is_not_enough():
    frame = world()
    assert "tells names apart" in judge(frame.assign(score=1.0)).reason
    assert "tells names apart" in judge(frame.assign(score=np.nan)).reason
    assert "within='symbol'" in judge(frame.loc[(slice(None), ["N00", "N01"]), :]).reason
    assert "it takes 20" in judge(frame.loc[: frame.index[6 * 18][0]]).reason
    one = judge(world(dates=200, names=1, truth=0.5), within="symbol")
    assert one.verdict == "yes" and one.residual.n_dates == 200
    short = judge(frame, past=500)
    assert short.verdict == "not enough" and np.isnan(short.gain.mean) and "cannot be measured" in short.reason
    for case in (frame.assign(score=1.0), frame.assign(base=1.0), frame.assign(y=0.0)):
        assert judge(case).verdict == "not enough" and len(judge(case).table()) == 7
    collinear = increment(
        frame["score"], pd.DataFrame({"a": frame["base"], "b": frame["base"]}), frame["y"], frame["t1"],
        draws=39, past=20, seed=3,
    )  # fmt: skip
    assert collinear.residual.mean == pytest.approx(judge(frame).residual.mean)
    series = increment(frame["score"], frame["base"], frame["y"], frame["t1"], draws=39, past=20, seed=3)
    assert series.p_permutation == judge(frame).p_permutation


def test_refused():
    frame = world()
    for settings in (
        {"within": "month"},
        {"n_trials": 0},
        {"draws": 5},
        {"smallest": 0.0},
        {"smallest": np.nan},
        {"level": 0},
        {"past": 0},
        {"method": "luck"},
    ):
        with pytest.raises(ConfigError):
            judge(frame, **settings)
    with pytest.raises(DataError, match="missing or before"):
        judge(frame.assign(t1=pd.NaT))
    with pytest.raises(DataError, match="missing or before"):
        judge(frame.assign(t1=frame["t1"] - pd.Timedelta(days=30)))
    with pytest.raises(DataError, match="infinite"):
        judge(frame.assign(score=np.inf))
    with pytest.raises(DataError, match="rows and"):
        increment(frame["score"], frame[[]], frame["y"], frame["t1"])
    with pytest.raises(PanelError):
        judge(frame.iloc[::-1])
    aware = frame["score"].copy()
    aware.index = aware.index.set_levels(aware.index.levels[0].tz_localize("UTC"), level=0)
    with pytest.raises(PanelError):
        increment(aware, frame[["base"]], frame["y"], frame["t1"])


def test_verdicts_of_worthless_scores_in_a_few_seeds():
    sys.path.insert(0, str(root() / "scripts"))
    try:
        import calibrate
    finally:
        sys.path.pop(0)
    frame, _, own = calibrate.said_by_prices(np.random.default_rng(1), 400, 20)
    said = 0
    for seed in range(8):
        own = calibrate.said_by_prices(np.random.default_rng([5, seed]), 400, 20)[2]
        score = frame["base"] + own.ravel()
        said += increment(score, frame["base"], frame["y"], frame["t1"], past=120, draws=39).verdict == "yes"
    assert said <= stats.binom.ppf(0.999, 8, 0.07)


def test_the_stored_verdicts_keep_what_is_promised():
    stored = json.loads((root() / "bench" / "results" / "increment_calibration.json").read_text())
    rates = pd.DataFrame(stored["rates"]).set_index("world")
    null = rates.drop(index=["echo with a truth of 0.05", "3 names, truth of 0.2", "best of 10, told of 1"])
    assert (rates["n"] >= 500).all() and null["yes"].between(0.03, 0.07).all()
    assert (rates.loc[["echo with a truth of 0.05", "3 names, truth of 0.2"], "yes"] > 0.6).all()
    assert rates.loc["best of 10, told of 1", "yes"] > 0.15
