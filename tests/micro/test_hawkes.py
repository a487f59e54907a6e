"Hawkes processes against a slow reference, a peer library, closed forms, planted truth and one recorded day."

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.micro.hawkes import (
    HawkesModel,
    event_times,
    fit_hawkes,
    hawkes_gradient,
    hawkes_intensity,
    hawkes_log_likelihood,
    hawkes_residuals,
    power_law_sum,
    residual_bootstrap,
    residual_test,
    simulate_hawkes,
)

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data"
DAY = SHARED / "lob" / "AMZN_2012-06-21_34200000_57600000_message_1.csv"
TRUTH = HawkesModel((0.5,), (1.0,), (2.0,))


def slow(model: HawkesModel, times: np.ndarray, start: float, end: float) -> float:
    "Log-likelihood as it is written: a double sum, and the baseline by a fine grid of trapezoids at its bends."
    base = lambda when: np.interp(when, model.knots, model.levels) if model.knots else model.levels[0] + 0 * when
    bends = np.unique(np.clip([start, end, *model.knots], start, end))
    total = -np.trapezoid(base(bends), bends)
    for i, t in enumerate(times):
        past = t - times[:i]
        total += np.log(
            base(t) + sum((a * np.exp(-b * past)).sum() for a, b in zip(model.alpha, model.beta, strict=True))
        )
    for a, b in zip(model.alpha, model.beta, strict=True):
        total -= (a / b * -np.expm1(-b * (end - np.asarray(times)))).sum()
    return float(total)


gaps = st.lists(st.floats(1e-4, 20.0), min_size=0, max_size=25)
positive = st.floats(0.05, 5.0)


@st.composite
def models(draw) -> HawkesModel:
    parts = draw(st.integers(0, 3))
    numbers = lambda n: tuple(draw(st.lists(positive, min_size=n, max_size=n)))
    knots = draw(st.sampled_from([(), (1.0, 7.0, 30.0)]))
    return HawkesModel(numbers(max(len(knots), 1)), numbers(parts), numbers(parts), knots)


@settings(max_examples=60, deadline=None)
@given(models(), gaps, st.floats(0.0, 5.0))
def test_one_pass_is_the_double_sum(model, waits, rest):
    times = np.cumsum(waits)
    end = (times[-1] if len(times) else 0.0) + rest + 0.1
    assert np.isclose(
        hawkes_log_likelihood(model, times, 0.0, end), slow(model, times, 0.0, end), rtol=1e-10, atol=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(models(), st.lists(st.floats(0.01, 5.0), min_size=2, max_size=20))
def test_the_gradient_is_that_of_differences(model, waits):
    times = np.cumsum(waits)
    end, step = times[-1] + 1.0, 1e-6
    _, *gradient = hawkes_gradient(model, times, 0.0, end)
    for name, slopes in zip(("levels", "alpha", "beta"), gradient, strict=True):
        for i, slope in enumerate(slopes):
            value, unit = np.array(getattr(model, name)), np.eye(len(slopes))[i]
            up, down = (replace(model, **{name: tuple(value + s * unit)}) for s in (step, -step))
            rise = hawkes_log_likelihood(up, times, 0.0, end) - hawkes_log_likelihood(down, times, 0.0, end)
            assert np.isclose(rise / (2 * step), slope, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 50.0), st.integers(0, 50))
def test_a_slower_clock_scales_rates_and_leaves_residuals(scale, seed):
    times = simulate_hawkes(TRUTH, 0.0, 50.0, seed)
    slower = HawkesModel((0.5 / scale,), (1.0 / scale,), (2.0 / scale,))
    assert slower.branching == pytest.approx(TRUTH.branching)
    there, here = (
        hawkes_log_likelihood(slower, times * scale, 0, 50 * scale),
        hawkes_log_likelihood(TRUTH, times, 0, 50),
    )
    assert np.isclose(there, here - len(times) * np.log(scale), rtol=1e-9, atol=1e-7)
    assert np.allclose(hawkes_residuals(slower, times * scale, 0.0), hawkes_residuals(TRUTH, times, 0.0), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(models(), st.lists(st.floats(0.01, 5.0), min_size=1, max_size=20))
def test_densities_of_events_add_up_to_the_likelihood(model, waits):
    times = np.cumsum(waits)
    scores = np.log(hawkes_intensity(model, times, times)) - hawkes_residuals(model, times, 0.0)
    assert np.isclose(scores.sum(), hawkes_log_likelihood(model, times, 0.0, times[-1]), rtol=1e-9, atol=1e-8)


def test_equal_to_hawkesbook_on_equal_events():
    hawkesbook = pytest.importorskip("hawkesbook", reason="needs hawkesbook, of the extra dev")
    for seed in range(3):
        times, theta = simulate_hawkes(TRUTH, 0.0, 5_000.0, seed), np.array([0.5, 1.0, 2.0])
        ours = hawkes_gradient(TRUTH, times, 0.0, 5_000.0)
        assert ours[0] == pytest.approx(hawkesbook.exp_log_likelihood(times, 5_000.0, theta), rel=1e-10)
        peer = np.ravel(hawkesbook.deriv_exp_log_likelihood(times, 5_000.0, theta))
        assert np.allclose(np.concatenate(ours[1:]), peer, rtol=1e-8, atol=1e-6)


def test_the_rate_settles_at_its_closed_form():
    counts = np.array([len(simulate_hawkes(TRUTH, 0.0, 2_000.0, seed)) for seed in range(40)]) / 2_000
    assert abs(counts.mean() - TRUTH.stationary_rate) < 4 * counts.std(ddof=1) / 40**0.5
    assert abs(counts.std(ddof=1) * 2_000**0.5 - 2.0) < 0.8  # rate^.5 / (1 - branching)


def test_size_of_the_residual_test_with_known_parameters():
    refused = np.zeros(2)
    for seed in range(2_000):
        times = simulate_hawkes(TRUTH, 0.0, 150.0, seed)
        found = residual_test(hawkes_residuals(TRUTH, times, 0.0), fitted=False)
        refused += [found.p < 0.05, found.p_lag < 0.05]
    assert (refused / 2_000 > 0.03).all() and (refused / 2_000 < 0.07).all()


def test_a_known_model_is_refused_for_its_rate_and_a_fitted_one_for_its_shape_only():
    draws = np.random.default_rng(3).exponential(1.2, 1_000)
    assert residual_test(draws, fitted=False).p < 1e-3 and residual_test(draws, fitted=True).p > 0.05
    assert residual_test(draws**2, fitted=True).p < 0.01
    with pytest.raises(DataError, match="10 or more"):
        residual_test(draws[:5])


def test_the_fit_finds_what_was_planted_and_knows_its_error():
    z = []
    for seed in range(20):
        fit = fit_hawkes(simulate_hawkes(TRUTH, 0.0, 2_000.0, seed), 0.0, 2_000.0)
        z.append(((fit.table["value"] - [0.5, 1.0, 2.0, 0.5]) / fit.table["se"]).to_numpy())
    assert (np.abs(np.mean(z, axis=0)) < 4 / 20**0.5).all() and (np.abs(np.std(z, axis=0) - 1) < 0.6).all()


def test_fixed_decays_and_the_intraday_baseline():
    knots = (0.0, 1_000.0, 2_000.0)
    truth = HawkesModel((1.0, 0.2, 1.5), (2.0,), (4.0,), knots)
    times = simulate_hawkes(truth, 0.0, 2_000.0, 3)
    fit = fit_hawkes(times, 0.0, 2_000.0, np.array([0.05, 4.0]), knots)
    assert abs(fit.table.loc["alpha_2", "value"] - 2.0) < 4 * fit.table.loc["alpha_2", "se"]
    assert fit.model.levels[1] < 0.5 < min(fit.model.levels[0], fit.model.levels[2])
    flat = fit_hawkes(times, 0.0, 2_000.0, 1)
    assert (
        flat.model.branching > fit_hawkes(times, 0.0, 2_000.0, 1, knots).model.branching
    )  # answers carry the missing shape


def test_a_bound_has_no_error_and_is_named():
    poisson = np.sort(np.random.default_rng(1).uniform(0, 1_000, 1_000))
    fit = fit_hawkes(poisson, 0.0, 1_000.0, np.array([1e-3, 1.0, 30.0]))
    gone = fit.table["se"].isna()
    assert gone.any() and "at the lower bound" in fit.note and all(n in fit.note for n in fit.table.index[gone])


def test_a_branching_ratio_of_one_is_reported_in_a_fit_and_refused_in_simulation():
    rng, times = np.random.default_rng(0), [1.0]
    while len(times) < 300:  # a rate that doubles: each event begets more than one
        times.append(times[-1] + rng.exponential(1 / (0.2 * len(times))))
    fit = fit_hawkes(np.array(times), 0.0, times[-1])
    assert fit.model.branching >= 1 and "no stationary process" in fit.note
    assert fit.model.stationary_rate == np.inf
    with pytest.raises(ConfigError, match="branching ratio"):
        simulate_hawkes(fit.model, 0.0, 10.0, 1)


@pytest.mark.parametrize(
    "times, match",
    [([1.0, 1.0], "does not come after"), ([2.0, 1.0], "does not come after"), ([0.0, 1.0], "leave the span"),
     ([1.0, 11.0], "leave the span"), ([np.nan], "NaN"), ([1.0, np.inf], "NaN"), ([[1.0]], "one column")],
)  # fmt: skip
def test_bad_times_are_refused(times, match):
    with pytest.raises(DataError, match=match):
        hawkes_log_likelihood(TRUTH, np.array(times), 0.0, 10.0)


def test_the_bootstrap_refuses_what_the_table_lets_pass_and_no_right_model():
    pairs = np.sort(np.concatenate([np.arange(1.0, 300.0, 3.0), np.arange(1.1, 300.0, 3.0)]))
    assert residual_bootstrap(fit_hawkes(pairs, 0.0, 300.0), 0.0, 300.0, draws=19) == 0.05
    right = fit_hawkes(simulate_hawkes(TRUTH, 0.0, 300.0, 8), 0.0, 300.0)
    assert residual_bootstrap(right, 0.0, 300.0, draws=19) > 0.05
    with pytest.raises(ConfigError, match="19 or more"):
        residual_bootstrap(right, 0.0, 300.0, draws=5)


def test_few_events():
    assert hawkes_log_likelihood(TRUTH, np.array([]), 0.0, 10.0) == -5.0
    one = hawkes_log_likelihood(TRUTH, np.array([4.0]), 0.0, 10.0)
    assert one == pytest.approx(np.log(0.5) - 5.0 - 0.5 * (1 - np.exp(-12)))
    assert len(hawkes_residuals(TRUTH, np.array([]), 0.0)) == 0
    for times in ([], [1.0], [1.0, 2.0]):
        with pytest.raises(DataError, match="a fit needs"):
            fit_hawkes(np.array(times), 0.0, 10.0)


def test_a_burst_keeps_its_digits():
    burst = 34_200.0 + np.concatenate([[1.0], 1.0 + 1e-9 * np.arange(1, 2_000), [20_000.0]])
    model = HawkesModel((0.1,), (100.0,), (200.0,))
    value, *gradient = hawkes_gradient(model, burst, 34_200.0, 57_600.0)
    assert (
        value == pytest.approx(slow(model, burst, 34_200.0, 57_600.0), rel=1e-10)
        and np.isfinite(np.concatenate(gradient)).all()
    )


def test_ties_are_refused_merged_or_spread_and_said():
    times = np.array([1.0, 2.0, 2.0, 2.0, 3.0])
    with pytest.raises(DataError, match="2 of 5 events"):
        event_times(times)
    merged, note = event_times(times, "merge")
    assert merged.tolist() == [1, 2, 3] and "one is kept" in note
    apart, note = event_times(34_200 + times, "spread")
    assert (
        (np.diff(apart) > 0).all()
        and len(apart) == 5
        and "spread evenly" in note
        and abs(apart - 34_200 - times).max() < 1e-9
    )
    assert event_times(merged)[1] == ""
    with pytest.raises(ConfigError, match="unknown"):
        event_times(times, "drop")


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(1e-4, 1.0), st.floats(0.1, 2.0))
def test_the_power_law_is_near_and_says_how_near(branching, cut, exponent):
    alpha, beta, error = power_law_sum(branching, cut, exponent, reach=1e3)
    t = np.geomspace(cut / 50, 900, 57)
    law = branching * exponent / cut * (1 + t / cut) ** -(1 + exponent)
    assert (np.abs(np.exp(-np.outer(t, beta)) @ alpha / law - 1) <= error * 1.05 + 1e-6).all() and error < 0.05


@pytest.mark.slow
def test_the_stored_figures_hold_what_was_promised():
    stored = json.loads((root() / "bench" / "results" / "hawkes.json").read_text(encoding="utf-8"))
    assert stored["max_rel_diff"] < 1e-9 and stored["n"] > 990_000 and stored["ours_s"] < 0.1
    events = stored["parts"]["AMZN"]["afternoon"]["events"]
    best = max(events.values(), key=lambda row: row["gain"])
    assert best["gain"] - 2 * best["se"] > 1 and best["gain"] > events["durations"]["gain"]


@pytest.mark.skipif(not DAY.exists(), reason="needs ../shared/data/lob (or QUANTLAB_SHARED)")
def test_the_recorded_day():
    rows = np.loadtxt(DAY, delimiter=",", usecols=(0, 1))
    times, note = event_times(rows[np.isin(rows[:, 1], (4, 5)), 0], "merge")
    assert len(times) == 8_183 and note.startswith("3236 of 11419")
    one = fit_hawkes(times, 34_200.0, 57_600.0)
    value = one.table["value"]
    assert value["mu"] == pytest.approx(0.183, abs=5e-4) and value["alpha"] == pytest.approx(102.6, abs=0.1)
    assert value["beta"] == pytest.approx(215.6, abs=0.1) and one.model.branching == pytest.approx(0.476, abs=5e-4)
    assert one.log_likelihood == pytest.approx(1_255, abs=1) and one.poisson == pytest.approx(-16_781, abs=1)
    assert one.residuals.ks == pytest.approx(0.10, abs=0.005) and one.residuals.verdict.startswith("DOES NOT FIT")
    knots = (34_200.0, 36_000.0, 41_400.0, 48_600.0, 55_800.0, 57_600.0)
    three = fit_hawkes(times, 34_200.0, 57_600.0, 3, knots)
    assert three.aic < one.aic - 5_000 and three.residuals.ks < 0.04
    assert three.residuals.verdict.startswith("DOES NOT FIT")  # better, and still refuted
