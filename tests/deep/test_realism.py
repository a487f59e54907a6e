"Judges of made markets: silent on an honest maker, loud on one that is wrong, and on one that copies."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.realism import (
    _area,
    _block_of,
    classifier_test,
    forecast_gap,
    memorisation,
    nearest_distances,
    return_windows,
    window_features,
)


def garch(n: int, seed: list[int], alpha: float = 0.08, beta: float = 0.9) -> pd.DataFrame:
    rng, h, out = np.random.default_rng(seed), np.full(3, 1e-4), []
    root = np.linalg.cholesky(0.6 * np.eye(3) + 0.4)
    for z in rng.standard_normal((n, 3)) @ root.T:
        out.append(np.sqrt(h) * z)
        h = 1e-4 * (1 - alpha - beta) + alpha * out[-1] ** 2 + beta * h
    return pd.DataFrame(out, pd.bdate_range("2000-01-03", periods=n, name="date"), list("ABC"))


def maker(n_paths: int, seed: int, **law) -> pd.DataFrame:
    return pd.concat({i: garch(1500, [seed, i], **law) for i in range(n_paths)}, names=["path"])


BOTH = garch(3000, [1])
PAST, LATER = BOTH.iloc[:1500], BOTH.iloc[1500:]


def test_windows_do_not_overlap_and_blocks_leave_one_out():
    cut = return_windows(np.arange(20.0)[:, None], 5)
    assert cut[:, :, 0].tolist() == np.arange(20.0).reshape(4, 5).tolist()
    assert len(return_windows(np.zeros((20, 2)), 5, 1)) == 16
    assert _block_of(8, 3).tolist() == [0, 0, 0, -1, 1, 1, 1, -1]


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 60), rng.integers(0, 10, 60).astype(float)
    made, real = score[y == 1][:, None], score[y == 0]
    assert _area(score, y) == pytest.approx(((made > real) + (made == real) / 2).mean())


def test_features_do_not_know_the_order_of_symbols():
    cut = return_windows(PAST.to_numpy(), 20)
    pd.testing.assert_frame_equal(window_features(cut), window_features(cut[:, :, ::-1]))
    assert np.isfinite(window_features(np.zeros((2, 20, 1)))).all(axis=None)


def test_the_classifier_is_silent_on_the_same_law_and_finds_another():
    same = classifier_test(LATER, maker(3, 2), draws=39)
    flat = classifier_test(LATER, maker(3, 2, alpha=0.0, beta=0.0), draws=39)
    assert same.p > 0.05 and abs(same.auc - 0.5) < 3 * same.se
    assert flat.p == pytest.approx(1 / 40) and flat.auc > 0.65
    again = classifier_test(LATER, maker(3, 2), draws=39)
    assert (again.auc, again.se, again.p) == (same.auc, same.se, same.p)


def test_as_many_made_days_as_real_ones_are_asked_about():
    made = maker(4, 2)
    one, four = classifier_test(LATER, made.loc[[0]], draws=9), classifier_test(LATER, made, draws=9)
    assert one.windows == four.windows == 2 * (one.windows // 2) and len(four.by_path) == 4
    assert four.by_path[0] == one.auc and four.auc == pytest.approx(four.by_path.mean())
    long = pd.concat({0: pd.concat([made.loc[1], made.loc[0].set_axis(made.loc[0].index + pd.Timedelta("3650D"))])})
    assert classifier_test(LATER, long, draws=9).auc == one.auc, "the last days of a longer path"
    assert classifier_test(LATER, made.loc[[0]].iloc[:1300], draws=9).windows < one.windows
    with pytest.raises(DataError, match="blocks of each side"):
        classifier_test(LATER.iloc[:700], made, draws=9)


def test_the_error_of_an_area_is_that_of_many_worlds():
    worlds = [classifier_test(garch(1500, [s, 7]), garch_paths(s), draws=0) for s in range(30, 54)]
    spread = np.std([test.auc for test in worlds])
    assert 0.6 < np.mean([test.se for test in worlds]) / spread < 1.8


def garch_paths(seed: int) -> pd.DataFrame:
    return pd.concat({i: garch(1500, [seed, i, 8]) for i in range(2)}, names=["path"])


def test_a_lesson_of_the_same_law_costs_nothing_and_one_of_noise_all():
    same, flat = (forecast_gap(PAST, LATER, maker(3, 3, **law)) for law in ({}, {"alpha": 0.0, "beta": 0.0}))
    assert abs(same.gap) < 3 * same.se and flat.gap > 3 * flat.se
    own = forecast_gap(PAST, LATER, pd.concat({0: PAST}, names=["path"]))
    assert own.gap == pytest.approx(0, abs=1e-12)


def copies(noise: float, share: float) -> pd.DataFrame:
    rng, made = np.random.default_rng(4), maker(2, 5)
    x = made.to_numpy().copy()
    for start in range(0, len(x), 10):
        if rng.random() < share:
            at = rng.integers(0, 1490)
            x[start : start + 10] = PAST.to_numpy()[at : at + 10] + noise * 0.01 * rng.standard_normal((10, 3))
    return pd.DataFrame(x, made.index, made.columns)


@pytest.mark.parametrize(("noise", "share"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.1)])
def test_copies_are_found_shaken_or_few(noise, share):
    assert memorisation(PAST, LATER, copies(noise, share)).p < 0.01


def test_an_honest_maker_is_not_taken_for_a_copier_in_other_weather():
    p = [memorisation(PAST, LATER * scale, maker(2, seed)).p for seed, scale in ((6, 1.0), (7, 3.0), (8, 0.3))]
    assert min(p) > 0.02


def test_a_scaled_copy_has_no_distance():
    cut = return_windows(PAST.to_numpy(), 10)
    assert nearest_distances(5 * cut[:3], cut).max() < 1e-6 < nearest_distances(-cut[:3], cut).min()


def test_slips_are_refused():
    made = maker(2, 9)
    with pytest.raises(DataError, match="held-out days"):
        memorisation(PAST, PAST, made)
    with pytest.raises(DataError, match="later begins"):
        forecast_gap(LATER, PAST, made)
    with pytest.raises(DataError, match="blocks"):
        classifier_test(PAST.iloc[:300], made)
    with pytest.raises(ConfigError, match="windows"):
        return_windows(np.zeros((5, 1)), 10)
    with pytest.raises(DataError, match="missing"):
        memorisation(PAST, LATER.replace(LATER.iloc[3, 0], np.nan), made)
