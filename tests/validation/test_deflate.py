"Deflation: published answers, simulation of the best of many, and the ledger's frame."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger, content_key
from quantlab.validation.deflate import (
    best_of_null,
    deflate,
    dsr,
    effective_trials,
    expected_max_sharpe,
    min_backtest_length,
    min_track_record,
    psr,
)
from quantlab.validation.inference import return_moments


def test_published_answers():
    assert psr(0.458, 24, -2.448, 10.164) == pytest.approx(0.9134, abs=5e-5)
    annual = {"sharpe": 2.5 / np.sqrt(250), "n_obs": 1250, "skew": -3, "kurtosis": 10, "trial_variance": 0.5 / 250}
    assert dsr(n_trials=100, **annual) == pytest.approx(0.9004, abs=5e-5)
    assert dsr(n_trials=46, **annual) == pytest.approx(0.9505, abs=5e-5)
    assert dsr(n_trials=1, **annual) == psr(annual["sharpe"], 1250, -3, 10)


def test_psr_is_the_share_of_samples_below():
    "Under the benchmark as the truth, PSR is uniform: it passes 95 % in about 5 % of samples."
    draws = 0.1 + np.random.default_rng(1).standard_normal((2000, 250))
    passed = [psr(m.sharpe, m.n_obs, m.skew, m.kurtosis, benchmark=0.1) > 0.95 for m in map(return_moments, draws)]
    assert np.mean(passed) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_expected_maximum_matches_simulation(n):
    simulated = np.random.default_rng(2).normal(0, 0.1, (3000, n)).max(axis=1).mean()
    assert expected_max_sharpe(n, 0.01) == pytest.approx(simulated, rel=0.04)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-0.5, 0.5),
    st.integers(3, 5000),
    st.floats(-2, 2),
    st.floats(0, 20),
    st.integers(1, 1000),
    st.floats(0, 0.1),
)
def test_bounds_and_order(sharpe, n_obs, skew, above, n_trials, variance):
    kurtosis = 1 + skew**2 + above
    plain, deflated = psr(sharpe, n_obs, skew, kurtosis), dsr(sharpe, n_obs, skew, kurtosis, n_trials, variance)
    if np.isnan(plain):  # the error is exactly zero
        assert np.isnan(deflated)
        return
    assert 0 <= deflated <= plain <= 1
    assert dsr(sharpe, n_obs, skew, kurtosis, n_trials + 1, variance) <= deflated + 1e-12


def test_the_best_of_worthless_searches_is_not_called_skill():
    "The winner of 50 worthless strategies: PSR believes nearly all of them, DSR few."
    rng, believed, deflated = np.random.default_rng(3), [], []
    for _ in range(100):
        returns = pd.DataFrame(rng.normal(0, 0.01, (500, 50)))
        trials = pd.DataFrame({"sharpe": returns.mean() / returns.std()})
        verdict = deflate(returns[trials["sharpe"].idxmax()], trials)
        believed.append(verdict.psr > 0.95)
        deflated.append(verdict.dsr > 0.95)
    assert np.mean(believed) > 0.8 and np.mean(deflated) < 0.1


def test_the_best_of_200_null_strategies():
    "2,000 searches: told the truth the winner is doubted, told of ten tries it is believed."
    rng, truth, hidden = np.random.default_rng(11), [], []
    for _ in range(2000):
        x = rng.standard_normal((250, 200), dtype=np.float32)
        ratio = x.mean(axis=0) / x.std(axis=0, ddof=1)
        m, variance = return_moments(x[:, ratio.argmax()]), float(ratio.var(ddof=1))
        truth.append(dsr(m.sharpe, m.n_obs, m.skew, m.kurtosis, 200, variance))
        hidden.append(dsr(m.sharpe, m.n_obs, m.skew, m.kurtosis, 10, variance))
    assert np.mean(np.array(truth) > 0.95) <= 0.005
    assert np.mean(np.array(hidden) > 0.95) > 0.07
    assert abs(np.median(truth) - 0.47) < 0.03


def search(kind, rng, n_obs=250):
    "Returns of a search without skill."
    normal = lambda n: rng.standard_normal((n_obs, n))
    ideas = normal(30)
    if kind == "independent":
        return normal(120)
    if kind == "one idea tried often":
        return np.hstack([ideas, ideas[:, [0]] + 0.03 * normal(150)])
    if kind == "every idea four times":
        return np.tile(ideas, 4) + 0.03 * normal(120)
    if kind == "cousins":
        return np.sqrt(0.5) * (normal(1) + normal(120))
    return np.sqrt(0.7) * np.tile(ideas[:, :8], 15) + np.sqrt(0.3) * normal(120)  # families


@pytest.mark.parametrize(
    "kind", ["independent", "one idea tried often", "every idea four times", "cousins", "families"]
)
def test_kinship_neither_shrinks_nor_swells_the_penalty(kind):
    "Whatever the relation of the tries, the winner of a worthless search gets about one half, and hardly ever 95 %."
    rng, informed, blind = np.random.default_rng(5), [], []
    for _ in range(70):
        x = search(kind, rng)
        returns, trials = pd.DataFrame(x), pd.DataFrame({"sharpe": x.mean(axis=0) / x.std(axis=0, ddof=1)})
        winner = returns[trials["sharpe"].idxmax()]
        informed.append(deflate(winner, trials, returns).dsr)
        blind.append(deflate(winner, trials).dsr)
    assert np.median(informed) == pytest.approx(0.5, abs=0.12) and np.mean(np.array(informed) > 0.95) <= 0.05
    assert np.median(blind) < 0.55 and np.mean(np.array(blind) > 0.95) <= 0.02  # without returns: on the safe side


def test_near_duplicates_change_nothing():
    rng = np.random.default_rng(6)
    x = pd.DataFrame(rng.standard_normal((600, 40)))
    few = effective_trials(x)
    many = effective_trials(
        pd.concat([x, *[x[[0]] + 1e-3 * rng.standard_normal((600, 1)) for _ in range(200)]], axis=1, ignore_index=True)
    )
    assert many.n_trials == pytest.approx(few.n_trials, rel=0.05) and many.variance == pytest.approx(
        few.variance, rel=0.05
    )
    assert 30 < few.n_trials <= 40
    assert effective_trials(x) == few == effective_trials(4 * x)  # repeatable, free of scale
    raw = pd.Series(x.mean() / x.std()).var()
    assert few.variance == pytest.approx(raw, rel=0.15)


def test_effective_number_degenerate():
    x = pd.DataFrame(np.random.default_rng(8).standard_normal((50, 3)))
    assert effective_trials(x[[0]]) == (1.0, 0.0) == effective_trials(pd.concat([x[0]] * 4, axis=1))
    assert 1 < effective_trials(x).n_trials <= 3
    assert effective_trials(pd.concat([x[0], -x[0]], axis=1)).n_trials <= 2
    for bad in (x[[]], x.iloc[:2], x.assign(a=np.inf), x.assign(a=np.nan), x.assign(flat=0.01)):
        with pytest.raises(DataError):
            effective_trials(bad)


def test_lengths():
    for n, years in ((252, 2.73), (52, 2.83), (12, 3.24)):  # Bailey and Lopez de Prado 2012
        assert min_track_record(2 / np.sqrt(n), benchmark=1 / np.sqrt(n)) / n == pytest.approx(years, abs=0.005)
    assert 4.5 < min_backtest_length(45, 1.0) < 5  # in years: five years, no more than 45 tries
    assert min_track_record(0.0) == np.inf and min_track_record(-0.1, benchmark=0.1) == np.inf
    for bad in (0.5, 1.0, np.nan):
        with pytest.raises(ConfigError):
            min_track_record(0.1, confidence=bad)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError):
            min_backtest_length(10, bad)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.5), st.floats(-1, 1), st.floats(0.1, 15), st.floats(0, 0.9), st.floats(0.6, 0.99))
def test_minimum_track_record_is_where_psr_reaches_the_confidence(sharpe, skew, above, part, confidence):
    kurtosis, benchmark = 1 + skew**2 + above, part * sharpe
    n = min_track_record(sharpe, skew, kurtosis, benchmark, confidence)
    if n > 3:
        assert psr(sharpe, n, skew, kurtosis, benchmark) == pytest.approx(confidence, abs=1e-9)


def test_ledger_round_trip(tmp_path):
    returns, ledger = np.random.default_rng(4).normal(0.001, 0.01, (4, 300)), Ledger(tmp_path / "l.sqlite")
    for repeat in range(2):  # a repeated run is not a new trial
        for i, r in enumerate(returns):
            m = return_moments(r)
            ledger.record(
                "trial", content_key(i=i), "s", {"i": i, "again": repeat}, m.n_obs, 252, m.sharpe, m.skew, m.kurtosis
            )
    got = deflate(pd.Series(returns[0]), ledger.trials("s"))
    ratios = [return_moments(r).sharpe for r in returns]
    assert got.n_trials == got.n_effective == 4 and got.trial_variance == pytest.approx(
        max(np.var(ratios, ddof=1), 1 / 299)
    )
    known = deflate(pd.Series(returns[0]), ledger.trials("s"), pd.DataFrame(returns.T))
    assert known.n_trials == 4 and known.n_effective == pytest.approx(4, rel=0.1)
    more = deflate(pd.Series(returns[0]), ledger.trials("s"), pd.DataFrame(returns[:3].T))
    assert more.n_effective == pytest.approx(effective_trials(pd.DataFrame(returns[:3].T)).n_trials + 1)
    none = deflate(pd.Series(returns[0]), ledger.trials("another study"))
    assert none.n_trials == 1 and none.benchmark == 0 and none.dsr == none.psr


def test_degenerate_and_refused():
    good, trials = pd.Series([0.01, -0.02, 0.03, 0.01]), pd.DataFrame({"sharpe": [0.1, 0.2, 0.0]})
    for few in ([], [0.1], [0.1, 0.2], [0.0] * 30, [np.nan] * 30):
        got = deflate(pd.Series(few, dtype=float), trials)
        assert np.isnan([got.sharpe, got.se, got.psr, got.dsr]).all() and got.n_trials == 3
    assert np.isnan(deflate(good, pd.DataFrame({"sharpe": [None, None]})).dsr)
    with pytest.raises(DataError, match="mix"):
        deflate(good, trials.assign(periods_per_year=[252, 12, 252]))
    with pytest.raises(DataError, match="sharpe"):
        deflate(good, trials.rename(columns={"sharpe": "sr"}))
    with pytest.raises(ConfigError):
        expected_max_sharpe(0, 0.1)
    with pytest.raises(ConfigError):
        expected_max_sharpe(10, -0.1)
    with pytest.raises(ConfigError, match="raw"):
        psr(0.1, 100, 0.0, 0.0)


def test_returns_that_differ_by_rounding_are_flat():
    dusty = pd.Series([0.1 + 0.2 - 0.29, 0.01, 0.03 - 0.02] * 40)
    assert np.ptp(dusty) > 0
    got = deflate(dusty, pd.DataFrame({"sharpe": [0.1, 0.2]}))
    assert np.isnan([got.sharpe, got.se, got.psr, got.dsr]).all()
    x = pd.DataFrame(np.random.default_rng(8).standard_normal((120, 2)) * 0.01)
    with pytest.raises(DataError, match="'flat' never varies"):
        effective_trials(x.assign(flat=dusty))


def test_the_defaults_are_those_of_normal_returns():
    from quantlab.validation.deflate import min_track_record, psr

    assert psr(0.3, 50) == psr(0.3, 50, 0.0, 3.0, 0.0) != psr(0.3, 50, 0.0, 2.0)
    assert min_track_record(0.3) == min_track_record(0.3, 0.0, 3.0, 0.0, 0.95)


def test_the_variance_of_equal_tries_is_that_of_one_error():
    from quantlab.validation.deflate import deflate

    x = pd.Series(np.random.default_rng(3).standard_normal(41) / 100)
    got = deflate(x, pd.DataFrame({"sharpe": [0.1, 0.1, 0.1]}))
    assert got.trial_variance == pytest.approx(1 / 40) and got.n_trials == 3 == got.n_effective
    assert deflate(x, pd.DataFrame({"sharpe": [0.1]})).trial_variance == 0.0
    assert deflate(x, pd.DataFrame({"sharpe": [-0.4, 0.0, 0.4]})).trial_variance == pytest.approx(0.16)


def test_three_common_dates_are_enough_to_count():
    x = pd.DataFrame(np.random.default_rng(9).standard_normal((3, 2)))
    assert 1 <= effective_trials(x).n_trials <= 2


def test_the_flat_try_is_the_one_that_is_named():
    "What varies by the rounding of 1 + r is flat, though it varies beside its own size."
    x = pd.DataFrame(np.random.default_rng(8).standard_normal((120, 2)) * 0.01)
    with pytest.raises(DataError, match="'dust' never varies"):
        effective_trials(x.assign(dust=1e-3 + 1e-16 * np.arange(120)))


def test_two_that_are_nearly_one_count_as_one():
    "The best of two tries that correlate by 0.99 is luckier than one by 0.06 only: less than 1.5 tries."
    rng = np.random.default_rng(10)
    one, other = rng.standard_normal((2, 400))
    assert effective_trials(pd.DataFrame({"a": one, "b": one + 0.14 * other})) == (1.0, 0.0)


def test_the_variance_of_two_tries_by_hand():
    "Two tries that correlate by r: half their squared distance over 1 - r, of ratios with n - 1 below."
    x = pd.DataFrame(np.random.default_rng(12).standard_normal((60, 2)) + [0.3, 0.0])
    ratio = x.mean() / x.std()
    want = (ratio[0] - ratio[1]) ** 2 / 2 / (1 - x.corr().iloc[0, 1])
    got = effective_trials(x)
    assert got.n_trials > 1 and got.variance == pytest.approx(want, rel=1e-9)
    kin = x.assign(third=x[0] + x[1])  # less than three: the number hangs on the draws
    assert effective_trials(kin) == effective_trials(kin, draws=2000, seed=7) != effective_trials(kin, seed=8)


@pytest.mark.parametrize("few", [[], [0.01], [0.01, 0.02], [0.01] * 50, [np.nan] * 50])
def test_returns_without_a_ratio_have_nothing_to_deflate(few):
    hollow = deflate(pd.Series(few, dtype=float), pd.DataFrame({"sharpe": [0.05, 0.01, 0.02]}))
    assert np.isnan([hollow.sharpe, hollow.se, hollow.psr, hollow.dsr]).all() and hollow.n_trials == 3


def test_a_try_without_a_ratio_leaves_no_variance_to_deflate_by():
    returns = pd.Series(np.random.default_rng(6).normal(0.001, 0.01, 300))
    unknown = deflate(returns, pd.DataFrame({"sharpe": [0.05, None]}))
    assert np.isnan(unknown.dsr) and np.isfinite(unknown.psr) and unknown.n_trials == 2
    assert np.isnan(psr(np.nan, 100)) and np.isnan(psr(0.1, 2))


def test_what_cannot_be_deflated_is_refused_with_its_reason():
    tries = pd.DataFrame(np.random.default_rng(6).normal(0, 0.01, (300, 4)), columns=list("abcd"))
    for change, words in (
        ({"flat": 0.0}, "never varies"),
        ({"gone": np.nan}, "share 0 dates"),
        ({"endless": np.inf}, "finite"),
    ):
        with pytest.raises(DataError, match=words):
            effective_trials(tries.assign(**change))
    for part, words in ((tries[[]], "0 tries"), (tries.iloc[:2], "share 2 dates")):
        with pytest.raises(DataError, match=words):
            effective_trials(part)
    with pytest.raises(DataError, match="lack the column sharpe"):
        deflate(tries["a"], pd.DataFrame({"x": [1]}))
    with pytest.raises(DataError, match="infinite"):
        deflate(pd.Series([0.1, np.inf, 0.2]), pd.DataFrame({"sharpe": [0.05, 0.01]}))
    for call, words in (
        (lambda: expected_max_sharpe(0, 0.1), "at least 1"),
        (lambda: dsr(0.1, 100, 0, 3, 10, -0.1), "not negative"),
        (lambda: min_track_record(0.1, confidence=0.5), "confidence is 0.5"),
        (lambda: min_backtest_length(10, 0), "sharpe is 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            call()


@pytest.mark.parametrize("n", [2, 5, 30, 400])
def test_the_best_of_a_null_search_has_the_mean_and_deviation_that_simulation_shows(n):
    drawn = np.random.default_rng(n).standard_normal((20_000, n)).max(axis=1)
    told = best_of_null(n)
    assert abs(told.mean - drawn.mean()) < 4 * drawn.std() / 141 and abs(told.sd / drawn.std() - 1) < 0.03


def test_the_best_of_one_and_of_two_by_hand():
    assert np.allclose(best_of_null(1), (0, 1), atol=1e-9)
    assert np.allclose(best_of_null(2), (1 / np.sqrt(np.pi), np.sqrt(1 - 1 / np.pi)), atol=1e-9)
    for wrong in (0.5, np.inf, np.nan):
        with pytest.raises(ConfigError, match="at least 1|from 1"):
            best_of_null(wrong)


def test_the_variance_of_the_best_keeps_its_size_and_has_more_power():
    """Of 3,000 searches without skill about 5 % pass at most in any form; with one skilled strategy the forms that
    know how little the best of a search varies find it more often."""
    rng, n_obs, tries, passed = np.random.default_rng(5), 250, 50, {}
    for skill in (0.0, 0.2):
        for _ in range(3000):
            ratios = rng.standard_normal(tries) / np.sqrt(n_obs - 1)
            ratios[0] += skill
            best, variance = ratios.max(), ratios[1:].var(ddof=1)
            for form in ("2014", "max", "exact"):
                passed.setdefault((skill, form), []).append(dsr(best, n_obs, 0.0, 3.0, tries, variance, form) > 0.95)
    share = {key: np.mean(found) for key, found in passed.items()}
    assert share[(0.0, "2014")] < 0.01 and 0.02 < share[(0.0, "max")] <= 0.06
    assert share[(0.2, "exact")] > share[(0.2, "2014")] + 0.2 and share[(0.2, "max")] >= share[(0.2, "exact")]
    assert 0.02 < share[(0.0, "exact")] <= min(0.05, share[(0.0, "max")])


@pytest.mark.parametrize("tries", [3, 60])
def test_the_exact_form_is_the_share_of_searches_whose_best_stays_below(tries):
    "Against drawn searches, with the error of one ratio by hand: skew and tails of the winner, tries that vary more."
    rng, n_obs = np.random.default_rng(tries), 400
    best = rng.standard_normal((40_000, tries)).max(axis=1)
    for seen in (0.0, 1.2, 2.0, 3.1):
        sharpe = seen * 1.5 / np.sqrt(n_obs - 1)  # ratios that vary 1.5 times as much as one ratio's error
        told = dsr(sharpe, n_obs, 0.0, 1.0, tries, 2.25 / (n_obs - 1), "exact")  # kurtosis 1: no term in its square
        assert abs(told - (best < seen).mean()) < 0.01
    sharpe, skew, kurtosis = 0.15, -1.0, 6.0
    error = np.sqrt((1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (n_obs - 1))
    told = dsr(sharpe, n_obs, skew, kurtosis, tries, 0.0, "exact")
    assert abs(told - (best < sharpe / error).mean()) < 0.01


@settings(max_examples=40)
@given(st.floats(-0.3, 0.5), st.integers(3, 3000), st.floats(-2, 2), st.floats(1.0, 1e4), st.floats(0.0, 0.02))
def test_the_exact_form_falls_with_tries_and_rises_with_the_ratio(sharpe, n_obs, skew, tries, variance):
    "A probability that one more try never raises, that is psr for one, and that survives powers of tiny numbers."
    told = [dsr(sharpe, n_obs, skew, 9.0, n, variance, "exact") for n in (1, tries, 2 * tries)]
    assert 0 <= told[2] <= told[1] <= told[0] == psr(sharpe, n_obs, skew, 9.0)
    assert dsr(sharpe, n_obs, 0.0, 3.0, tries, variance, "exact") <= dsr(
        sharpe + 0.1, n_obs, 0.0, 3.0, tries, variance, "exact"
    )


def test_one_try_is_the_same_in_all_forms_and_a_fourth_is_refused():
    for form in ("max", "exact"):
        assert dsr(0.1, 500, -0.5, 5.0, 1, 0.0, form) == dsr(0.1, 500, -0.5, 5.0, 1, 0.0) == psr(0.1, 500, -0.5, 5.0)
        assert np.isnan(dsr(np.nan, 500, 0.0, 3.0, 10, 0.01, form))
        for wrong in ((0.5, 0.01), (np.inf, 0.01), (10, -0.01)):
            with pytest.raises(ConfigError, match="n_trials is|trial_variance is"):
                dsr(0.1, 500, 0.0, 3.0, *wrong, form)
    with pytest.raises(ConfigError, match="form is '2025'"):
        dsr(0.1, 500, 0.0, 3.0, 10, 0.01, "2025")


@pytest.mark.parametrize("rho", [-0.3, 0.3, 0.6])
def test_autocorrelation_moves_the_error_as_simulation_says(rho):
    rng, n = np.random.default_rng(9), 600
    shocks = rng.standard_normal((4000, n + 60)) + 0.15
    x = np.zeros(4000)
    path = np.empty((4000, n))
    for t in range(n + 60):
        x = rho * x + shocks[:, t]
        if t >= 60:
            path[:, t - 60] = x
    ratio = path.mean(axis=1) / path.std(axis=1)
    told = psr(0.1, n, autocorrelation=rho)
    se = 0.1 / _quantile(told)
    plain = 0.1 / _quantile(psr(0.1, n))
    assert abs(se / ratio.std() - 1) < 0.06 and abs(plain / ratio.std() - 1) > 0.15
    for wrong in (1.0, -1.0, 2.0):
        with pytest.raises(ConfigError, match="autocorrelation"):
            psr(0.1, 100, autocorrelation=wrong)


def _quantile(p: float) -> float:
    "Return the normal quantile."
    from scipy.special import ndtri

    return float(ndtri(p))


def test_many_tries_are_counted_without_a_table_of_all_pairs():
    "More tries than dates: the same weights by the other way of adding up squared correlations."
    rng = np.random.default_rng(2)
    few = pd.DataFrame(rng.standard_normal((40, 30)) + rng.standard_normal((40, 1)))
    many = pd.concat([few.add_suffix(f"_{i}") for i in range(2)], axis=1)  # 60 tries on 40 dates
    assert np.isclose(effective_trials(many).variance, effective_trials(few).variance)
    assert np.isclose(effective_trials(many).n_trials, effective_trials(few).n_trials, rtol=0.1)


def test_a_deflated_ratio_tells_all_forms_and_the_autocorrelation():
    rng = np.random.default_rng(3)
    x = pd.Series(rng.standard_normal(500)).ewm(alpha=0.7).mean() * 0.01 + 0.001
    found = deflate(x, pd.DataFrame({"sharpe": rng.normal(0, 0.05, 20)}))
    assert abs(found.autocorrelation - x.autocorr()) < 0.01 and found.autocorrelation > 0.15
    assert found.psr_ar1 < found.psr and found.dsr_max != found.dsr
    for form, told in {"max": found.dsr_max, "exact": found.dsr_exact}.items():
        seen = (found.sharpe, found.n_obs, found.skew, found.kurtosis)
        assert told == dsr(*seen, found.n_effective, found.trial_variance, form)
    assert found.dsr < found.dsr_exact < found.dsr_max
    assert np.isnan(deflate(pd.Series([0.01, 0.02, np.nan]), pd.DataFrame({"sharpe": []})).autocorrelation)
