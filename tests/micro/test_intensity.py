"Forecasts of counts against closed forms and simulation, the duration model against planted truth, and the tables."

import numpy as np
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.micro.hawkes import HawkesModel, hawkes_log_likelihood, simulate_hawkes
from quantlab.micro.intensity import (
    AcdModel,
    acd_expected_count,
    acd_scores,
    count_table,
    expected_count,
    fit_acd,
    gain_table,
    hawkes_scores,
    liquidity_table,
    simulate_acd,
)

TRUTH = HawkesModel((0.5,), (1.0,), (2.0,))


def test_expected_count_is_the_mean_of_paths_with_two_parts_and_a_baseline_that_bends():
    model = HawkesModel((0.2, 1.0), (0.5, 0.1), (2.0, 0.3), (0.0, 10.0))
    counts = np.array([len(simulate_hawkes(model, 0.0, 10.0, seed)) for seed in range(4_000)])
    assert abs(counts.mean() - expected_count(model, [], [0.0], 10.0)[0]) < 4 * counts.std() / 4_000**0.5


def test_expected_count_settles_at_the_stationary_rate_and_forgets_the_future():
    times = simulate_hawkes(TRUTH, 0.0, 100.0, 1)
    late = expected_count(TRUTH, times, [50.0], 1e4)[0]
    assert late / 1e4 == pytest.approx(TRUTH.stationary_rate, rel=1e-3)
    assert expected_count(TRUTH, times, [50.0])[0] == expected_count(TRUTH, times[times < 50], [50.0])[0]
    assert np.isfinite(expected_count(HawkesModel((0.5,), (3.0,), (2.0,)), times, [50.0], 5.0)[0])  # branching 1.5


def test_exponential_waits_are_a_poisson_process():
    times = simulate_hawkes(HawkesModel((0.5,)), 0.0, 200.0, 2)
    scores, survival = acd_scores(AcdModel(2.0, 0.0, 0.0), times, 0.0, 200.0)
    assert scores.sum() + survival == pytest.approx(hawkes_log_likelihood(HawkesModel((0.5,)), times, 0.0, 200.0))
    assert np.allclose(scores, hawkes_scores(HawkesModel((0.5,)), times, 0.0))


def test_the_duration_model_is_found_again():
    truth = AcdModel(0.1, 0.15, 0.75, 0.7)
    times = simulate_acd(truth, 10_000, 5)
    found = fit_acd(times, 0.0, times[-1])
    assert abs(found.a - 0.15) < 0.04 and abs(found.b - 0.75) < 0.08 and abs(found.shape - 0.7) < 0.03
    best, at_truth = (sum(map(np.sum, acd_scores(m, times, 0.0, times[-1]))) for m in (found, truth))
    assert best >= at_truth - 1e-6


def test_duration_forecast_uses_only_what_is_past_and_the_open_wait():
    model, times = AcdModel(0.1, 0.15, 0.75, 0.7), simulate_acd(AcdModel(0.1, 0.15, 0.75, 0.7), 500, 5)
    whole, cut = (acd_expected_count(model, t, 0.0, np.array([200.0]), paths=50) for t in (times, times[times < 200]))
    assert whole == cut
    heavy = AcdModel(1.0, 0.0, 0.0, 0.5)  # the longer it has lasted, the longer it will last
    soon, later = acd_expected_count(heavy, [1.0], 0.0, np.array([1.001, 200.0]), horizon=5.0, paths=4_000)
    assert soon > 2 * later


def test_gain_of_a_model_over_itself_is_nothing_and_over_a_wrong_one_much():
    times = simulate_hawkes(TRUTH, 0.0, 8_000.0, 3)
    scores = {"Poisson": hawkes_scores(HawkesModel((1.0,)), times, 0.0), "truth": hawkes_scores(TRUTH, times, 0.0)}
    table = gain_table(scores, times, 2_000.0)
    assert table.loc["Poisson", "gain"] == 0 and table.loc["Poisson", "se"] == 0
    assert table.loc["truth", "gain"] > 5 * table.loc["truth", "se"] > 0
    with pytest.raises(DataError, match="shorten block"):
        gain_table(scores, times, 2_000.0, block=5_000.0)


def test_deviance_knows_the_right_mean():
    counts = np.random.default_rng(1).poisson(20, 400)
    table = count_table(counts, {"right": np.full(400, 20.0), "wrong": np.full(400, 30.0)})
    assert table.loc["wrong", "gain"] < -3 * table.loc["wrong", "se"] and abs(table.loc["right", "deviance"] - 1) < 0.3
    with pytest.raises(DataError, match="above 0"):
        count_table(counts, {"zero": np.zeros(400)})


def test_liquidity_gain_is_planted_and_found_out_of_sample_only():
    rng = np.random.default_rng(4)
    pace = np.exp(rng.normal(0, 0.5, 400))
    spread = np.exp(0.5 * np.log(pace) + rng.normal(0, 0.1, 400))
    table = liquidity_table(spread, {"pace": pace, "noise": np.exp(rng.normal(0, 1, 400)), "flat": np.ones(400)}, 200)
    assert table.loc["pace", "gain"] > 0.8 and abs(table.loc["pace", "slope"] - 0.5) < 0.05
    assert abs(table.loc["noise", "gain"]) < 0.1 and abs(table.loc["flat", "gain"]) < 1e-9
    with pytest.raises(DataError, match="above 0"):
        liquidity_table(spread - spread.max(), {"pace": pace}, 200)


def test_refusals():
    for bad in ({"a": 0.6, "b": 0.4}, {"a": -0.1, "b": 0.4}, {"a": 0.1, "b": 0.4, "shape": 0.0}):
        with pytest.raises(ConfigError, match="below"):
            AcdModel(1.0, **bad)
    with pytest.raises(ConfigError, match="not ahead"):
        expected_count(TRUTH, [1.0], [2.0], 0.0)
    with pytest.raises(DataError, match="30 or more"):
        fit_acd(np.arange(1.0, 5.0), 0.0, 5.0)
    with pytest.raises(DataError, match="NaN, ties or disorder"):
        acd_scores(AcdModel(1.0, 0.1, 0.1), [1.0, 1.0], 0.0, 3.0)


def test_a_forecast_before_the_start_is_refused_and_does_not_hang():
    model, times = AcdModel(0.5, 0.1, 0.4, 0.7), np.array([1.0, 2.0, 3.0])
    for at in ([-0.5], [np.nan], [np.inf]):
        with pytest.raises(DataError, match="numbers from"):
            acd_expected_count(model, times, 0.0, np.array(at), 5.0, 2)
    with pytest.raises(DataError, match="must rise"):
        acd_expected_count(model, times[::-1], 0.0, np.array([4.0]), 5.0, 2)
    for horizon, paths in ((np.nan, 2), (0.0, 2), (5.0, 0)):
        with pytest.raises(ConfigError, match="1 path or more"):
            acd_expected_count(model, times, 0.0, np.array([4.0]), horizon, paths)
