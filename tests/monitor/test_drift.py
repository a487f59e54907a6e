"Drift: distances against scipy, a p-value whose rank is exact, planted drifts found, odd input with defined answers."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.synth import synth_market
from quantlab.monitor.drift import DISTANCES, drift_distances, drift_reference, drift_test, outlying_rows

NAMES, SESSIONS = 8, 1281
DATES = pd.bdate_range("2015-01-01", periods=SESSIONS, name="date")


def made(rng, columns=3, names=NAMES, common=0.3) -> pd.DataFrame:
    "Independent sessions whose names share a factor."
    x = np.sqrt(common) * rng.standard_normal((SESSIONS, 1, columns))
    x = x + np.sqrt(1 - common) * rng.standard_normal((SESSIONS, names, columns))
    index = pd.MultiIndex.from_product([DATES, [f"S{i}" for i in range(names)]], names=["date", "symbol"])
    return pd.DataFrame(x.reshape(-1, columns), index, [f"f{i}" for i in range(columns)])


def parts(panel: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return panel.loc[: DATES[1259]], panel.loc[DATES[1260] :]


def binned_slowly(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    "PSI and KL by hand: edges at tenths of both samples, a bin for what is missing, half a value in each."
    values = np.sort(np.concatenate([a, b])[~np.isnan(np.concatenate([a, b]))])
    edges = sorted({values[int(np.ceil(i * len(values) / 10)) - 1] for i in range(1, 10)} - {values[-1]})
    shares = []
    for x in (a, b):
        there = x[~np.isnan(x)]
        counts = [0.0] * (len(edges) + 1)
        for value in there:
            counts[sum(value > edge for edge in edges)] += 1
        counts += [float(len(x) - len(there))] * bool(np.isnan(np.concatenate([a, b])).any())
        shares.append((np.array(counts) + 0.5) / (len(x) + 0.5 * len(counts)))
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum()), float((p * np.log(p / q)).sum())


@given(
    st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 200), st.sampled_from(["normal", "ranks", "flags", "fat"])
)
@settings(max_examples=30, deadline=None)
def test_each_distance_is_that_of_a_slow_reference(seed, n, m, kind):
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda k: rng.normal(rng.normal(), 1, k),
        "ranks": lambda k: rng.integers(1, 12, k).astype(float),
        "flags": lambda k: (rng.random(k) < 0.3).astype(float),
        "fat": lambda k: rng.standard_t(2, k),
    }[kind]
    a, b = draw(n), draw(m)
    found, scale = drift_distances(a, b), np.concatenate([a, b]).std()
    assert found["ks"] == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
    assert found["wasserstein"] * (scale or 1) == pytest.approx(wasserstein_distance(a, b), abs=1e-9)
    a[rng.random(n) < 0.2] = np.nan
    assert drift_distances(a, b)[["psi", "kl"]].tolist() == pytest.approx(binned_slowly(a, b), abs=1e-12)


def test_a_window_is_compared_with_all_that_are_not_its_neighbours():
    panel = made(np.random.default_rng(1), 1)
    past, month = parts(panel)
    rows = np.repeat(np.arange(61), 21 * NAMES)
    found, x = drift_test(drift_reference(past), month), panel["f0"].to_numpy()
    slow = {name: [] for name in DISTANCES}
    for i in range(61):
        near = np.isin(rows, [(i - 1) % 61, i, (i + 1) % 61])
        pair = drift_distances(x[rows == i], x[~near])
        for name in ("ks", "wasserstein"):
            slow[name].append(pair[name] * (np.concatenate([x[rows == i], x[~near]]).std() if name[0] == "w" else 1))
    assert found.table.loc["f0", "ks"] == pytest.approx(slow["ks"][-1], abs=1e-12)
    assert found.table.loc["f0", "wasserstein"] * x.std() == pytest.approx(slow["wasserstein"][-1], abs=1e-9)
    only = drift_test(drift_reference(past), month, distances=("ks",))
    z = (np.array(slow["ks"]) - np.mean(slow["ks"])) / np.std(slow["ks"])
    np.testing.assert_allclose([*only.null, only.statistic], z, atol=1e-9)
    assert only.p == (1 + (z[:-1] >= z[-1] - 1e-9).sum()) / 61


def test_monotone_changes_leave_the_ranks_alone():
    panel = made(np.random.default_rng(2))
    before, after = (drift_test(drift_reference(parts(x)[0]), parts(x)[1]) for x in (panel, np.exp(panel) ** 3))
    pd.testing.assert_frame_equal(before.table[["psi", "kl", "ks"]], after.table[["psi", "kl", "ks"]])
    assert before.p == after.p and not np.allclose(before.table["wasserstein"], after.table["wasserstein"])
    turned = drift_test(drift_reference(-parts(panel)[0]), -parts(panel)[1])
    np.testing.assert_allclose(turned.table["ks"], before.table["ks"], atol=1e-12)


def test_symbols_within_a_session_may_be_mixed():
    past, month = parts(made(np.random.default_rng(3)))
    mixed = month.set_axis(
        pd.MultiIndex.from_arrays([month.index.get_level_values(0), [f"S{i}" for i in [*range(NAMES)][::-1]] * 21])
    )
    mixed = mixed.rename_axis(["date", "symbol"]).sort_index()
    reference = drift_reference(past)
    assert drift_test(reference, mixed).p == drift_test(reference, month).p


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_the_rate_of_false_alarms_is_what_it_says(combine):
    "A seeded handful of small worlds: `scripts/calibrate.py drift` measures it."
    alarms = []
    for seed in range(40):
        past, month = parts(made(np.random.default_rng([4, seed]), 4))
        alarms.append(drift_test(drift_reference(past), month, combine=combine, distances=("psi",)).alarm)
    assert np.mean(alarms) <= 0.125  # 3/61 a month; 5 of 40 or fewer in 98 of 100 such tests


def test_a_planted_drift_is_found_and_named():
    found = []
    for seed in range(5):
        x = synth_market(20, SESSIONS, seed=seed, drift={"noise_1": 0.6}, drift_from=1260).features
        days = x.index.unique("date")
        found.append(drift_test(drift_reference(x.loc[: days[1259]]), x.loc[days[1260] :], distances=("psi",)))
    assert all(f.alarm and "noise_1" in f.named for f in found)
    assert all(f.table.loc["noise_1", "shift"] == pytest.approx(0.6, abs=0.15) for f in found)
    assert sum(len(f.named) for f in found) <= 8


def test_nothing_is_named_without_an_alarm():
    past, month = parts(made(np.random.default_rng(6), 12))
    quiet = drift_test(drift_reference(past), month, alpha=1 / 61, rate=0.9)
    assert not quiet.alarm and quiet.named == [] and not quiet.table["named"].any()


def test_a_level_that_no_rank_can_reach_is_refused():
    past, month = parts(made(np.random.default_rng(6), 2))
    reference = drift_reference(past)
    assert drift_test(reference, month + 3.0, alpha=1 / 61).alarm
    with pytest.raises(ConfigError, match=r"no p of 60 windows is below 0\.0164.*or 2,079 sessions"):
        drift_test(reference, month + 3.0, alpha=0.01)


def test_daily_columns_share_the_windows():
    rng = np.random.default_rng(7)
    past, month = parts(made(rng, 1))
    ic = pd.Series(rng.normal(0.05, 0.1, SESSIONS), DATES)
    ic.iloc[1260:] -= 0.2
    reference = drift_reference(past, ic.iloc[:1260].to_frame("ic"))
    found = drift_test(reference, month, ic.iloc[1260:].to_frame("ic"), combine="max", distances=("psi",))
    assert found.alarm and "ic" in found.named and found.table.loc["ic", "shift"] < -1
    assert list(found.table.columns[:2]) == ["psi", "wasserstein"], "what decides for 21 values is measured"
    assert reference.daily == ("ic",)
    with pytest.raises(DataError, match="only one of reference and month has ic"):
        drift_test(reference, month)


def test_what_is_no_plain_number_has_a_defined_answer():
    rng = np.random.default_rng(8)
    panel = made(rng, 2).assign(still=1.0, none=np.nan, ranks=lambda x: x["f0"].groupby("date").rank())
    panel.loc[rng.random(len(panel)) < 0.05, "f1"] = np.nan
    panel.iloc[5, 0], panel.iloc[-5, 0] = np.inf, -np.inf
    past, month = parts(panel)
    reference = drift_reference(past)
    for combine in ("sum", "max"):
        found = drift_test(reference, month, combine=combine)
        assert np.isfinite(found.table[[*DISTANCES, "z", "p"]]).all(axis=None) and np.isfinite(found.null).all()
        assert (found.table.loc[["still", "none"], [*DISTANCES, "z"]] == 0).all(axis=None)
        assert np.isfinite(found.table.loc["f0", "shift"]) and np.isnan(found.table.loc["still", "shift"])
    moved = drift_test(reference, month.assign(still=2.0), combine="max")
    assert moved.alarm and moved.named == ["still"]
    gone = drift_test(reference, month.assign(f1=np.nan), combine="max")
    assert gone.alarm and gone.named == ["f1"] and gone.table.loc["f1", "missing"] == 1
    there = drift_test(reference, month.assign(none=1.0), combine="max")
    assert there.alarm and there.named == ["none"]


def test_a_month_that_cannot_be_compared_is_refused():
    panel = made(np.random.default_rng(9), 1)
    past, month = parts(panel)
    reference = drift_reference(past)
    with pytest.raises(DataError, match="1259 sessions"):
        drift_reference(past.loc[DATES[1] :])
    with pytest.raises(DataError, match="0 columns"):
        drift_reference(past[[]])
    for wrong in (month.loc[DATES[1261] :], panel.loc[DATES[1259] : DATES[1279]]):
        with pytest.raises(DataError, match="give 21 whole sessions after"):
            drift_test(reference, wrong)
    for change in ({"combine": "mean"}, {"alpha": 0.0}, {"distances": ()}, {"distances": ("js",)}):
        with pytest.raises(ConfigError, match="use 'sum' or 'max'"):
            drift_test(reference, month, **change)
    with pytest.raises(ConfigError, match="length is 64"):
        drift_reference(past, length=64)
    with pytest.raises(ConfigError, match="f0 is a column of both"):
        drift_reference(past, pd.DataFrame({"f0": 1.0}, DATES))
    with pytest.raises(DataError, match="0 rows against 2"):
        drift_distances(np.array([]), np.ones(2))


def test_windows_are_counted_back_from_the_end():
    past, month = parts(made(np.random.default_rng(10), 1))
    reference = drift_reference(past, length=23)
    assert len(reference.missing) == 54 and reference.sessions[-1] == DATES[1259] and len(reference.sessions) == 54 * 23
    with pytest.raises(DataError, match="give 23 whole sessions"):
        drift_test(reference, month)


def test_outliers_are_listed_farthest_first():
    past, month = parts(made(np.random.default_rng(11), 2).assign(flag=1.0))
    reference, month = drift_reference(past), month.copy()
    assert outlying_rows(reference, month).empty
    month.iloc[3, 0], month.iloc[4, 0], month.iloc[5, 1], month.iloc[6, 2] = 40.0, -50.0, np.inf, 1.5
    month.iloc[7, 0] = np.nan
    found = outlying_rows(reference, month)
    assert found["column"].tolist() == ["f0", "f0", "f1", "flag"] and found["value"].tolist() == [
        -50.0,
        40.0,
        np.inf,
        1.5,
    ]
    assert list(zip(found["date"], found["symbol"], strict=True)) == [month.index[i] for i in (4, 3, 5, 6)]
    with pytest.raises(DataError, match="no panel column other"):
        outlying_rows(reference, month.rename(columns={"f0": "other"}))


def test_the_same_month_has_the_same_answer_whatever_its_order():
    past, month = parts(made(np.random.default_rng(12)))
    one, two = drift_test(drift_reference(past), month), drift_test(drift_reference(past[["f2", "f0", "f1"]]), month)
    assert one.p == two.p and replace(one, table=None, null=None).statistic == pytest.approx(two.statistic)
