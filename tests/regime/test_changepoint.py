"""Change points: the evidence over all cuts and in closed form, the Nile, ruptures on past rows, no evening moved."""

import io
import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammainc, logsumexp
from scipy.stats import t as student
from statsmodels.datasets import nile as nile_data

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.state import load_state, save_state
from quantlab.regime.base import check_detector, dwell_times, walk_forward_filter
from quantlab.regime.changepoint import (
    PRIOR,
    ChangePoint,
    KernelCut,
    _above,
    _log_next,
    best_segments,
    kernel_cut,
    last_cuts,
    segment_evidence,
    segment_filter,
)


def nile() -> tuple[np.ndarray, np.ndarray]:
    "Years and standardised flows, from statsmodels."
    data = nile_data.load_pandas().data
    flow = data["volume"].to_numpy(dtype=float)
    return data["year"].to_numpy(dtype=int), (flow - flow.mean()) / flow.std(ddof=1)


def bursts(n: int = 700, seed: int = 4) -> tuple[pd.DataFrame, np.ndarray]:
    "Returns whose deviation is six times as large in every second stretch of 120 rows."
    random, wild = np.random.default_rng(seed), np.arange(n) // 120 % 2
    dates = pd.bdate_range("2015-01-01", periods=n).as_unit("us")
    return pd.DataFrame({"log_return": random.normal(0, np.where(wild, 0.03, 0.005))}, dates), wild


def cuts(n: int):
    "Every way to cut n rows into segments, as the edges."
    for breaks in itertools.product([False, True], repeat=n - 1):
        yield [0, *(i + 1 for i, b in enumerate(breaks) if b), n]


def joint(values: np.ndarray, edges: list[int], hazard: float, prior: tuple) -> float:
    "Return the log probability of a cut and of its values."
    chance = (len(edges) - 2) * np.log(hazard) + (len(values) - len(edges) + 1) * np.log(1 - hazard)
    return chance + sum(segment_evidence(values[a:b], prior) for a, b in itertools.pairwise(edges))


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(0.01, 0.9), st.floats(0.2, 5), st.floats(0.6, 4))
def test_the_filter_is_bayes_rule_over_all_cuts(seed, n, hazard, k, a):
    random, prior = np.random.default_rng(seed), (k, a, 1.3)
    values = random.normal(size=n) * random.choice([0.2, 3.0], n)
    found = segment_filter(values, hazard, prior, (0.5, 2.0))
    for t in range(1, n + 1):
        every = list(cuts(t))
        logs = np.array([joint(values[:t], edges, hazard, prior) for edges in every])
        assert found[:t, 0].sum() == pytest.approx(logsumexp(logs), abs=1e-9)
        weight = np.exp(logs - logsumexp(logs))
        ages = np.bincount([t - edges[-2] for edges in every], weight)
        assert ages[int(found[t - 1, 1])] == pytest.approx(ages.max(), abs=1e-9)
        for j, level in enumerate((0.5, 2.0)):
            above = 0.0
            for w, edges in zip(weight, every, strict=True):
                last = values[edges[-2] : t]
                size, mean = len(last), last.mean()
                b = prior[2] + 0.5 * ((last - mean) ** 2).sum() + 0.5 * k * size * mean**2 / (k + size)
                above += w * gammainc(a + size / 2, b / level)
            assert found[t - 1, 2 + j] == pytest.approx(above, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 9), st.floats(0.01, 0.5))
def test_the_best_cut_is_the_likeliest_of_all(seed, n, hazard):
    random = np.random.default_rng(seed)
    values = random.normal(size=n) * random.choice([0.2, 3.0], n)
    found = [*best_segments(values, hazard), n]
    best = max(joint(values, edges, hazard, PRIOR) for edges in cuts(n))
    assert joint(values, found, hazard, PRIOR) == pytest.approx(best, abs=1e-9)


def test_the_next_value_is_students_t():
    k, a, b = 3.0, 2.5, 1.7
    for x in (-4.0, 0.0, 0.3, 50.0):
        expected = student.logpdf(x, 2 * (a + 2), 0.4, np.sqrt(b * (k + 5) / ((a + 2) * (k + 4))))
        assert _log_next(x, 4, 0.4, b, (k, a, 9.9)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=200)
@given(st.floats(0.5, 3000), st.floats(1e-3, 4))
def test_the_chance_of_a_wild_segment_is_scipys(a, share):
    assert _above(a, share * a) == pytest.approx(gammainc(a, share * a), abs=1e-10)


def test_without_breaks_the_evidence_is_that_of_one_segment():
    _, flow = nile()
    alone = segment_evidence(flow)
    assert segment_filter(flow, 1e-30)[:, 0].sum() == pytest.approx(alone, rel=1e-13)
    assert segment_filter(flow, 1e-12)[:, 0].sum() > alone + 1e-3, "one break is still felt here"


def test_the_nile_broke_between_1898_and_1900():
    year, flow = nile()
    began = year - segment_filter(flow, 1 / 100)[:, 1].astype(int) + 1
    assert 1898 <= began[-1] <= 1900
    assert [1898 <= year[s] <= 1900 for s in best_segments(flow, 1 / 100)] == [False, True]


def test_ruptures_cuts_the_nile_and_planted_levels_in_the_same_places():
    year, flow = nile()
    levels = np.repeat([0.0, 4.0, -3.0, 1.0], 50) + np.random.default_rng(1).normal(size=200)
    search = pytest.importorskip("ruptures").Dynp("l2", min_size=2, jump=1)
    one, three = search.fit(flow).predict(1)[:-1], search.fit(levels).predict(3)[:-1]
    assert abs(year[one[0]] - year[best_segments(flow, 1 / 100)[1]]) <= 1
    assert best_segments(levels, 1 / 50)[1:].tolist() == pytest.approx(three, abs=1)
    assert kernel_cut(levels / levels.std())[1:].tolist() == pytest.approx(three, abs=1)
    assert 1898 <= year[kernel_cut(flow, min_size=5)[1]] <= 1900


def test_the_last_cut_reads_its_window_and_no_later_row():
    X, _ = bursts(400)
    values = (X["log_return"] / X["log_return"].std()).to_numpy()
    whole = last_cuts(values, lookback=120, recut=7)
    for n in (0, 1, 19, 20, 133, 134, 250, 399):
        assert np.array_equal(last_cuts(values[:n], lookback=120, recut=7), whole[:n])
    after = values.copy()
    after[:100] *= 50.0
    assert np.array_equal(last_cuts(after, lookback=120, recut=7)[230:], whole[230:]), "rows before the window count"
    for t in (140, 300, 399):  # by hand: the cut of the last multiple of seven
        at = t // 7 * 7
        first = max(at + 1 - 120, 0)
        assert whole[t] == first + kernel_cut(values[first : at + 1])[-1]


def test_noise_is_seldom_cut_and_a_storm_is_found():
    random = np.random.default_rng(0)
    quiet = [random.standard_normal(504) for _ in range(200)]
    storm = [random.standard_normal(504) * np.repeat([1.0, 2.5], [462, 42]) for _ in range(100)]
    assert np.mean([len(kernel_cut(x)) > 1 for x in quiet]) < 0.06
    assert np.mean([abs(kernel_cut(x)[-1] - 462) <= 10 for x in storm]) > 0.8


def test_kernel_cuts_give_the_rooms_frame():
    X, wild = bursts()
    check_detector(KernelCut(lookback=252), X[:400], cuts=6)
    model, file = KernelCut().fit(X), io.BytesIO()
    said = model.filter(X).probabilities
    assert ((said["turbulent"] > 0.5) == wild).mean() > 0.9
    assert ((model.smooth(X).probabilities["turbulent"] > 0.5) == wild).mean() > 0.97
    save_state(model, file, key="0" * 32)
    assert load_state(io.BytesIO(file.getvalue()), key="0" * 32).filter(X).probabilities.equals(said)


@pytest.mark.parametrize(
    "wrong",
    [{"recut": 0}, {"lookback": 0}, {"penalty": 0.0}, {"penalty": np.nan}, {"min_size": 1}, {"hazard": 0.0}],
)
def test_settings_of_kernel_cuts_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        KernelCut(**wrong).fit(bursts(200)[0])


def test_kernel_cuts_of_nothing_of_nan_and_of_a_constant():
    assert not len(kernel_cut(np.empty(0))) and kernel_cut(np.zeros(1)).tolist() == [0]
    assert kernel_cut(np.zeros(80)).tolist() == [0] and not len(last_cuts(np.empty(0)))
    with pytest.raises(DataError):
        kernel_cut(np.array([0.0, np.nan] * 30))


def test_without_ruptures_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(ConfigError, match=r"quantlab\[regime\]"):
        kernel_cut(np.zeros(80))


@pytest.mark.parametrize("settings_", [{}, {"levels": (0.7, 1.4)}, {"prune": 0.0}, {"hazard": 0.05}])
def test_the_rooms_suite(settings_):
    X, _ = bursts(400)
    check_detector(ChangePoint(**settings_), X, cuts=12)
    check_detector(ChangePoint(**settings_), X.assign(other=np.arange(len(X)) % 7 / 2), cuts=4)


def test_planted_bursts_are_named_within_days():
    X, wild = bursts()
    model = ChangePoint().fit(X)
    named = model.filter(X).probabilities["turbulent"] > 0.5
    assert (named == wild).mean() > 0.96
    assert ((model.smooth(X).probabilities["turbulent"] > 0.5) == wild).mean() > 0.99
    edges = X.index[::120]
    began = model.began(X)
    assert all(abs((began.iloc[i * 120 + 60] - edges[i]).days) <= 7 for i in range(1, 5))
    deviations = np.sqrt(model.moments()[1][:, 0, 0])
    assert deviations[0] < 0.012 and deviations[1] > 0.02


def test_tomorrow_is_today_or_a_new_segment():
    X, _ = bursts(300)
    model = ChangePoint(hazard=0.1, levels=(0.5, 1.5)).fit(X)
    found, (_, a, b) = model.filter(X), PRIOR
    fresh = -np.diff([1.0, gammainc(a, b / 0.25), gammainc(a, b / 2.25), 0.0])
    assert found.ahead.to_numpy() == pytest.approx(0.9 * found.probabilities.to_numpy() + 0.1 * fresh, abs=1e-12)
    assert dwell_times(model).to_numpy() == pytest.approx(1 / (0.1 * (1 - fresh)))


def test_pruning_moves_nothing_that_is_shown():
    X, _ = bursts()
    exact = ChangePoint(prune=0.0).fit(X).filter(X).probabilities
    assert np.abs(exact - ChangePoint().fit(X).filter(X).probabilities).to_numpy().max() < 1e-4


def test_a_longer_history_does_not_move_the_walk():
    X, _ = bursts()
    whole = walk_forward_filter(X, ChangePoint(), first=250, refit=100)
    part = walk_forward_filter(X.iloc[:430], ChangePoint(), first=250, refit=100)
    assert part.probabilities.equals(whole.probabilities.iloc[:180]) and part.ahead.equals(whole.ahead.iloc[:180])
    assert (whole.trained_to < whole.probabilities.index).all()


def test_hindsight_does_move():
    X, _ = bursts()
    model = ChangePoint().fit(X)
    whole = model.smooth(X).probabilities
    moved = [(whole.iloc[:n] - model.smooth(X.iloc[:n]).probabilities).abs().max().max() for n in range(480, 500)]
    assert max(moved) > 0.3


def test_positions_move_and_names_stay():
    X, _ = bursts(400)
    model = ChangePoint().fit(X)
    before, table = model.filter(X).probabilities, model.transition_table().to_numpy()
    model.reorder(np.array([1, 0]))
    assert model.filter(X).probabilities["calm"].equals(before["turbulent"].rename("calm"))
    assert np.array_equal(model.transition_table().to_numpy(), table[::-1, ::-1])
    assert model.moments()[1][0, 0, 0] > model.moments()[1][1, 0, 0]


def test_kept_and_read_back_it_says_the_same():
    X, _ = bursts(300)
    model, file = ChangePoint().fit(X), io.BytesIO()
    save_state(model, file, key="0" * 32)
    assert (
        load_state(io.BytesIO(file.getvalue()), key="0" * 32)
        .filter(X)
        .probabilities.equals(model.filter(X).probabilities)
    )


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda X: X.iloc[:0], DataError),
        (lambda X: X.iloc[:1], DataError),
        (lambda X: X * np.nan, DataError),
        (lambda X: X.mask(X > X.quantile(0.99), np.inf), DataError),
        (lambda X: X * 0.0, DataError),
        (lambda X: X.iloc[::-1], PanelError),
    ],
    ids=["empty", "one row", "NaN", "infinite", "constant", "backwards"],
)
def test_what_cannot_carry_segments_is_refused(spoil, error):
    with pytest.raises(error):
        ChangePoint().fit(spoil(bursts(200)[0]))


WRONG = [
    {"hazard": 0.0},
    {"hazard": 1.0},
    {"hazard": np.nan},
    {"levels": ()},
    {"levels": (2.0, 1.0)},
    {"levels": (0.0,)},
    {"prior": (1.0, 0.0, 1.0)},
    {"prior": (1.0, 1.0)},
    {"prune": 0.5},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        ChangePoint(**wrong).fit(bursts(200)[0])


def test_values_that_are_missing_are_refused_and_none_give_none():
    for values in (np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((2, 2))):
        for call in (segment_filter, best_segments):
            with pytest.raises(DataError):
                call(values)
    assert segment_filter(np.empty(0)).shape == (0, 3) and not best_segments(np.empty(0)).size
    with pytest.raises(ConfigError):
        segment_filter(np.zeros(3), hazard=0.0)
    steady = segment_filter(np.zeros(50), 0.01)
    assert np.isfinite(steady).all() and steady[-1, 2] < 0.01  # a constant is calm, not an error


def test_a_jump_of_a_hundred_deviations_is_no_zero_over_zero():
    values = np.r_[np.random.default_rng(0).normal(size=100), 1e6, np.random.default_rng(1).normal(size=100)]
    found = segment_filter(values, 0.01, prune=1e-8)
    assert np.isfinite(found).all() and found[150, 1] == 50
    assert found[100, 2] > 0.99 and found[150, 2] < 0.9


def test_another_time_zone_is_read():
    X, _ = bursts(200)
    zoned = X.tz_localize("Asia/Tokyo")
    assert ChangePoint().fit(zoned).filter(zoned).probabilities.index.equals(zoned.index)
