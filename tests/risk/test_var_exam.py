"The exam of value at risk: published regions and critical values, and the size of every p-value."

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.risk.exam import (
    _gap_ratio,
    acerbi_szekely,
    compare_forecasts,
    exam_hits,
    fissler_ziegel,
    judged_losses,
    kupiec,
    kupiec_region,
    sign_test,
    tail_dof,
    tied_p,
    traffic_light,
    var_exam,
    z2_null,
)
from quantlab.risk.var import t_tail, var_forecast

# Kupiec (1995), table 3: fewest and most failures that are not rejected at 5 %; at 1 % and 255 days he prints N < 7.
REGIONS = {
    (0.01, 255): (1, 6), (0.01, 510): (2, 10), (0.01, 1000): (5, 16),
    (0.025, 255): (3, 11), (0.025, 510): (7, 20), (0.025, 1000): (16, 35),
    (0.05, 255): (7, 20), (0.05, 510): (17, 35), (0.05, 1000): (38, 64),
    (0.075, 255): (12, 27), (0.075, 510): (28, 50), (0.075, 1000): (60, 91),
    (0.1, 255): (17, 35), (0.1, 510): (39, 64), (0.1, 1000): (82, 119),
}  # fmt: skip


@pytest.mark.parametrize("place", REGIONS)
def test_regions_of_kupiec(place):
    assert kupiec_region(place[1], 1 - place[0]) == REGIONS[place]


def test_no_failure_in_255_days_is_formally_rejected():
    assert kupiec(0, 255) == pytest.approx(5.13, abs=0.005) and kupiec(255, 255) > 1000


@pytest.mark.parametrize(("hits", "zone", "chance"), [
    (0, "green", 0.0811), (4, "green", 0.8922), (5, "yellow", 0.9588), (9, "yellow", 0.9997), (10, "red", 0.9999),
])  # fmt: skip
def test_traffic_light_of_basel(hits, zone, chance):
    assert traffic_light(hits) == (zone, pytest.approx(chance, abs=5e-5))


@pytest.mark.parametrize(("dof", "five"), [(3, -0.82), (5, -0.74), (10, -0.71), (100, -0.70)])
def test_critical_values_of_acerbi_and_szekely(dof, five):
    assert np.quantile(z2_null(dof, draws=100_000), 0.05) == pytest.approx(five, abs=0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("dof", "far"), [(3, -4.4), (5, -1.9), (10, -1.8), (100, -1.8)])
def test_critical_values_far_out(dof, far):
    assert np.quantile(z2_null(dof, draws=1_000_000), 1e-4) == pytest.approx(far, abs=0.2)


def test_z2_is_zero_on_average_and_by_hand():
    assert z2_null(5, draws=50_000).mean() == pytest.approx(0, abs=0.005)
    assert acerbi_szekely(np.array([0.03, 0.0, 0.0, 0.0]), np.full(4, 0.02), np.full(4, 0.03), 0.75) == 0
    assert tail_dof(t_tail(7, confidence=0.99)[1] / t_tail(7, confidence=0.99)[0], 0.99) == pytest.approx(7)


def test_durations_equal_a_general_optimiser():
    rng = np.random.default_rng(0)
    for _ in range(10):
        hit = rng.random(400) < 0.05
        at = np.flatnonzero(hit)
        d = np.diff(np.concatenate([[-1], at, [399]])).astype(float)
        whole = np.ones(len(d), bool)
        whole[0] = whole[-1] = False
        if hit[-1]:
            d, whole = d[:-1], whole[:-1]
        if hit[0]:
            d, whole = d[1:], whole[1:]

        def loss(q, d=d, whole=whole):
            a, b = np.exp(q)
            return -(whole * (b * np.log(a) + np.log(b) + (b - 1) * np.log(d)) - (a * d) ** b).sum()

        free = optimize.minimize(
            loss, [np.log(0.05), 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}
        ).fun
        tied = optimize.minimize_scalar(
            lambda a: loss([a, 0.0]), bounds=(-8, 0), method="bounded", options={"xatol": 1e-9}
        ).fun
        assert _gap_ratio(hit) == pytest.approx(2 * (tied - free), abs=1e-5)


def test_ties_are_broken_into_a_uniform():
    rng = np.random.default_rng(3)
    null = rng.binomial(5, 0.3, 4999).astype(float)
    ps = np.array([tied_p(float(x), null, rng) for x in rng.binomial(5, 0.3, 3000)])
    assert stats.kstest(ps, "uniform").pvalue > 0.01 and 0 < ps.min() and ps.max() <= 1


def test_size_is_what_it_says_on_a_few_years():
    ps = {
        name: []
        for name in ("count (Kupiec)", "clusters (Christoffersen)", "count and clusters", "durations (Weibull)")
    }
    rng = np.random.default_rng(11)
    for year in range(600):
        table = exam_hits(rng.random(250) < 0.01, draws=1999, seed=year)
        for name in ps:
            ps[name].append(table.loc[name, "p"])
    for name, p in ps.items():
        assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.08, name


def test_the_stored_size_of_every_test_is_three_to_seven_percent():
    stored = json.loads((root() / "bench" / "results" / "var_calibration.json").read_text())
    rates = pd.DataFrame(stored["rates"])
    true = rates[(rates["method"] == "Monte Carlo") & ~rates["world"].str.contains("blind")]
    assert len(true) == 54 and (true["n"] == 10_000).all() and true["rate"].between(0.03, 0.07).all()
    beside = rates[(rates["world"] == "normal") & (rates["confidence"] == 0.99) & (rates["test"] == "count (Kupiec)")]
    beside = beside.set_index("method")["rate"]
    assert beside["asymptotic"] == pytest.approx(0.095, abs=0.007) and beside["exact"] == pytest.approx(
        0.014, abs=0.003
    )
    index = pd.DataFrame(stored["index"]).set_index(["forecast", "test"])["p"]
    assert index["filtered", "count (Kupiec)"] > 0.05 and (index["normal"] < 0.05).all()


@pytest.mark.slow
def test_the_index_is_examined_as_stored():
    datasets = pytest.importorskip("skfolio.datasets")
    returns = datasets.load_sp500_index()["SP500"].pct_change().dropna()
    for method, passes in (("filtered", True), ("normal", False)):
        exam = var_exam(returns, var_forecast(returns, method), draws=499)
        assert bool(exam.passed()["count (Kupiec)"]) is passes and exam.sessions > 7700


def made(rows: int = 400) -> pd.Series:
    return pd.Series(0.01 * np.random.default_rng(5).standard_t(5, rows), pd.bdate_range("2018-01-01", periods=rows))


def flat(returns: pd.Series, scale: float = 0.01) -> pd.DataFrame:
    tail = t_tail(5, scale=scale)
    return pd.DataFrame({"var": tail.var, "expected_shortfall": tail.expected_shortfall}, returns.index)


def test_a_forecast_is_judged_by_the_next_session():
    returns = made()
    table = judged_losses(returns, flat(returns))
    assert len(table) == 399 and np.allclose(table["loss"], -returns.to_numpy()[1:])
    sparse = judged_losses(returns, flat(returns).iloc[::7])
    assert np.allclose(sparse["loss"], table["loss"].loc[sparse.index])


def test_the_truth_passes_and_half_of_it_fails():
    returns = made(2000)
    good, bad = var_exam(returns, flat(returns), draws=999), var_exam(returns, flat(returns, 0.005), draws=999)
    assert good.passed(0.01).all() and not bad.passed()[["count (Kupiec)", "depth (Acerbi and Szekely)"]].any()
    assert bad.zone == "red" and good.table.equals(var_exam(returns, flat(returns), draws=999).table)


def test_the_score_prefers_the_truth_and_the_test_says_when_it_cannot_tell():
    returns = made(4000)
    ranked = compare_forecasts(
        returns, {"true": flat(returns), "half": flat(returns, 0.005), "near": flat(returns, 0.0101)}
    )
    assert ranked.index[-1] == "half" and ranked.loc["half", "p"] < 0.01 and ranked.drop("half")["p"].min() > 0.05
    assert fissler_ziegel(0.0, 0.02, 0.03) == pytest.approx(0.02 / 0.03 + np.log(0.03) - 1)


def test_signs_have_their_size():
    rng = np.random.default_rng(8)
    ps = [sign_test(rng.standard_t(3, 100), 499) for _ in range(800)]
    assert 0.03 < np.mean(np.array(ps) <= 0.05) < 0.07


@pytest.mark.parametrize(("wrong", "kind", "said"), [
    (lambda f: f.iloc[:0], DataError, "0 forecasts"),
    (lambda f: f * np.nan, DataError, "finite"),
    (lambda f: -f, DataError, "above 0"),
    (lambda f: f["var"], PanelError, "columns"),
    (lambda f: f[::-1], PanelError, "order"),
    (lambda f: f.tz_localize("UTC"), PanelError, "time zone"),
    (lambda f: f.shift(freq="12h"), PanelError, "lack"),
    (lambda f: f.iloc[-1:], DataError, "0 forecasts with a session after"),
])  # fmt: skip
def test_what_cannot_be_judged_is_refused(wrong, kind, said):
    returns = made()
    with pytest.raises(kind, match=said):
        judged_losses(returns, wrong(flat(returns)))


def test_too_little_is_said_not_passed_over():
    assert exam_hits(np.zeros(250, bool), draws=99)["note"].str.contains("0 hits").sum() == 2
    for call in (lambda: exam_hits(np.zeros(1, bool)), lambda: sign_test([1.0] * 9)):
        with pytest.raises(DataError):
            call()
    for call in (lambda: kupiec(3, 2), lambda: kupiec(-1, 250), lambda: compare_forecasts(made(), {"a": flat(made())})):
        with pytest.raises(ConfigError):
            call()
