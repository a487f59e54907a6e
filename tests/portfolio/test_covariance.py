"Covariances against libraries, and what cannot be measured."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.portfolio.covariance import COVARIANCES, covariance, nearest_psd
from quantlab.portfolio.factor_covariance import count_factors, ipca, pca_factors


def past(rows=120, names=12, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, names)) * 0.01 + rng.normal(size=(rows, 1)) * 0.01
    return pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=rows), [f"S{i:02d}" for i in range(names)])


def test_ledoit_wolf_and_denoised_are_those_of_the_libraries():
    moments = pytest.importorskip("skfolio.moments")
    from sklearn.covariance import LedoitWolf

    r = past()
    assert np.allclose(covariance(r).matrix, LedoitWolf().fit(r).covariance_, rtol=0, atol=1e-15)
    peer = moments.DenoiseCovariance(covariance_estimator=moments.EmpiricalCovariance(ddof=1)).fit(r).covariance_
    assert np.allclose(covariance(r, "denoised").matrix, peer, rtol=1e-5)


@pytest.mark.parametrize("kind", COVARIANCES)
@given(seed=st.integers(0, 10**6), rows=st.integers(20, 80), gaps=st.floats(0, 0.6))
def test_any_gaps_give_a_matrix_without_negative_directions(kind, seed, rows, gaps):
    r = past(rows, 9, seed)
    r = r.mask(np.random.default_rng(seed).random(r.shape) < gaps)
    r.iloc[:, 0] = 0.01
    try:
        found = covariance(r, kind, min_history=8)
    except DataError as error:
        assert "none of 9 names" in str(error)
        return
    values = np.linalg.eigvalsh(found.matrix)
    assert values[0] >= -1e-10 * values[-1] and "S00" in found.left_out
    assert set(found.left_out) | set(found.matrix.index) == set(r.columns) and found.end == r.index[-1]


@pytest.mark.parametrize(
    ("broken", "error", "word"),
    [
        (lambda r: r.iloc[:0], DataError, "none of"),
        (lambda r: r.iloc[:1], DataError, "none of"),
        (lambda r: r * np.nan, DataError, "none of"),
        (lambda r: r * 0 + 0.01, DataError, "none of"),
        (lambda r: r.replace(r.iloc[5, 2], np.inf), DataError, "S02 in row 2020-01-08"),
        (lambda r: r[::-1], PanelError, "sorted"),
        (lambda r: r.to_numpy(), PanelError, "frame"),
        (lambda r: r.rename(columns={"S01": "S00"}), PanelError, "distinct"),
    ],
)
def test_degenerate_returns_have_one_clear_error(broken, error, word):
    with pytest.raises(error, match=word):
        covariance(broken(past()))


def test_one_name_is_its_variance_and_time_zones_do_not_matter():
    r = past(names=1)
    for kind in ("sample", "ledoit_wolf", "denoised"):
        assert np.isclose(covariance(r, kind).matrix.iloc[0, 0], r.iloc[:, 0].var(ddof=int(kind != "ledoit_wolf")))
    assert covariance(r.tz_localize("UTC")).matrix.equals(covariance(r).matrix)
    with pytest.raises(ConfigError, match="no covariance"):
        covariance(r, "magic")


def test_the_nearest_matrix_keeps_a_good_one():
    good = covariance(past()).matrix.to_numpy()
    assert np.array_equal(nearest_psd(good), (good + good.T) / 2)
    bad = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert np.allclose(nearest_psd(bad), 1.5)  # the direction of -1 is cut, that of 3 stays


def test_short_pasts_give_factor_models_that_can_be_inverted():
    r = past(25, 40)
    model = pca_factors(r, 3, min_history=20)
    assert np.linalg.eigvalsh(model.matrix())[0] > 0
    assert np.allclose(np.diag(model.matrix()), r.var(), rtol=1e-9)


def test_planted_factors_are_counted_and_recovered():
    rng = np.random.default_rng(5)
    z = rng.normal(size=(201, 60, 4))
    truth = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    f = rng.normal(0.0005, [0.02, 0.01], (200, 2))
    r = np.einsum("tnl,lk,tk->tn", z[:-1], truth, f) + rng.normal(0, 0.01, (200, 60))
    dates = pd.bdate_range("2020-01-01", periods=201, name="date")
    index = pd.MultiIndex.from_product([dates, range(60)], names=["date", "symbol"])
    frame = pd.DataFrame(np.vstack([np.full(60, np.nan), r]), dates)
    found = ipca(pd.DataFrame(z.reshape(-1, 4), index, columns=list("abcd")), frame, 2)
    cosines = np.linalg.svd(truth.T @ found.gamma.to_numpy())[1]
    rest = f - found.factors.to_numpy() @ np.linalg.lstsq(found.factors.to_numpy(), f, rcond=None)[0]
    assert cosines.min() > 0.999 and (1 - rest.var(axis=0) / f.var(axis=0)).min() > 0.9
    planted = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 50)) + rng.normal(size=(300, 50))
    assert count_factors(pd.DataFrame(planted)) == 4
