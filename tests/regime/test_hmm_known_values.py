"The regime model's inputs, density, description and matching against scipy and by hand; its defaults and its limits."

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.regime import hmm
from quantlab.regime.base import gaussian_log_density, match_states, walk_forward_filter
from quantlab.regime.hmm import HMM, describe_states
from quantlab.regime.inputs import regime_inputs


def weather(n: int = 300, seed: int = 5) -> pd.DataFrame:
    "A calm half and a wild half of two columns."
    rng = np.random.default_rng(seed)
    wild = np.arange(n) // 50 % 2
    x = rng.normal(0, np.where(wild, 0.03, 0.01))
    dates = pd.bdate_range("2015-01-01", periods=n).as_unit("us")
    return pd.DataFrame({"ret": x, "vol": rng.normal(np.where(wild, 1.0, -1.0), 0.3)}, index=dates)


def test_inputs_by_hand():
    dates = pd.bdate_range("2020-01-06", periods=4).as_unit("us")
    close = pd.Series([100.0, 110.0, 99.0, 99.0], index=dates)
    got = regime_inputs(close, lookback=2)
    r = np.log([1.1, 0.9, 1.0])
    assert got["log_return"].tolist() == pytest.approx(r[1:]) and got.index.equals(dates[2:])
    assert got["log_vol_2"].tolist() == pytest.approx(
        [0.5 * np.log((r[0] ** 2 + r[1] ** 2) / 2), 0.5 * np.log(r[1] ** 2 / 2)]
    )
    assert list(regime_inputs(pd.Series(np.exp(weather(60)["ret"].cumsum())))) == ["log_return", "log_vol_21"]
    with pytest.raises(ConfigError, match="at least 2"):
        regime_inputs(close, lookback=1)
    with pytest.raises(DataError, match="2 sessions to 2020-01-09"):
        regime_inputs(pd.Series([100.0, 110.0, 110.0, 110.0], index=dates), lookback=2)
    with pytest.raises(DataError, match="close is 0.0 on 2020-01-07"):
        regime_inputs(close.where(close != 110, 0.0), lookback=2)
    with pytest.raises(DataError, match=r"2020-01-07 \(2 dates in all\)"):
        regime_inputs(close.mask([False, True, True, False]))


def test_density_equals_scipys():
    rng = np.random.default_rng(1)
    means, roots = rng.normal(size=(3, 2)), rng.normal(size=(3, 2, 2))
    covars, x = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(2), rng.normal(size=(20, 2))
    want = np.stack([multivariate_normal(m, c).logpdf(x) for m, c in zip(means, covars, strict=True)], axis=1)
    assert gaussian_log_density(x, means, covars) == pytest.approx(want, abs=1e-10)


def test_description_is_in_the_units_of_the_inputs():
    X = weather()
    table = describe_states(HMM(2, n_starts=1).fit(X))
    truth = X.groupby(np.where(np.arange(300) // 50 % 2, "turbulent", "calm"))
    assert table["mean_vol"].to_dict() == pytest.approx(truth["vol"].mean().to_dict(), abs=0.02)
    assert table["std_ret"].to_dict() == pytest.approx(truth["ret"].std().to_dict(), rel=0.05)
    model = HMM(2, n_starts=1).fit(X)
    stay = np.diag(model.hmm_.transmat_)
    assert (
        table["expected_stay"].tolist() == pytest.approx((1 / (1 - stay)).tolist())
        and (table["expected_stay"] > 30).all()
    )
    model.hmm_.transmat_ = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert describe_states(model)["expected_stay"].tolist() == [np.inf, 2.0]


def test_matching_takes_the_smallest_bhattacharyya_distance():
    a, b = HMM(3, n_starts=1, n_iter=20).fit(weather()), HMM(3, n_starts=1, n_iter=20).fit(weather(seed=6))

    def distance(i, j):
        scale = lambda m, k: (m.center_ + m.scale_ * m.hmm_.means_[k], m.hmm_.covars_[k] * np.outer(m.scale_, m.scale_))
        (m1, c1), (m2, c2) = scale(a, i), scale(b, j)
        pooled, gap = (c1 + c2) / 2, m1 - m2
        return (
            gap @ np.linalg.solve(pooled, gap) / 8
            + np.log(np.linalg.det(pooled) / np.sqrt(np.linalg.det(c1) * np.linalg.det(c2))) / 2
        )

    best = min(itertools.permutations(range(3)), key=lambda p: sum(distance(i, j) for i, j in enumerate(p)))
    assert match_states(a, b).tolist() == list(best)
    swapped = HMM(3, n_starts=1, n_iter=20).fit(weather())
    hmm._reorder(swapped.hmm_, np.array([2, 0, 1]))
    assert match_states(a, swapped).tolist() == [1, 2, 0] and match_states(swapped, a).tolist() == [2, 0, 1]
    X = weather()
    assert a.filter(X).probabilities.iloc[:, [2, 0, 1]].to_numpy() == pytest.approx(
        swapped.filter(X).probabilities.to_numpy()
    )


def test_defaults_and_names():
    assert HMM().get_params() == {"n_states": 3, "seed": 7, "n_iter": 200, "n_starts": 5, "names": "volatility"}
    X = weather(200)
    names = lambda n: HMM(n, n_iter=2, n_starts=1).fit(X).states_
    assert names(1) == ["calm"] and names(2) == ["calm", "turbulent"] and names(3) == ["calm", "normal", "turbulent"]
    assert names(4) == ["calm", "normal", "turbulent", "crisis"] and names(5)[4] == "state_5"


def test_the_most_likely_start_is_kept():
    X = weather()
    one = [HMM(3, seed=s, n_starts=1, n_iter=30).fit(X) for s in (7, 8, 9)]
    scores = [m.hmm_.score(m._scaled(X)) for m in one]
    best = HMM(3, n_starts=3, n_iter=30).fit(X)
    assert best.hmm_.score(best._scaled(X)) == pytest.approx(max(scores)) and max(scores) > min(scores)


@pytest.mark.parametrize("name", ["n_states", "n_iter", "n_starts"])
def test_settings_start_at_one(name):
    with pytest.raises(ConfigError, match="at least 1"):
        HMM(**{name: 0}).fit(weather(100))
    HMM(**({"n_states": 1, "n_iter": 1, "n_starts": 1} | {name: 1})).fit(weather(100))


def test_limits_of_a_fit():
    X = weather()
    HMM(2, n_iter=2, n_starts=1).fit(X.iloc[:40])
    with pytest.raises(DataError, match="39 rows cannot tell 2 states apart; give at least 40"):
        HMM(2).fit(X.iloc[:39])
    with pytest.raises(DataError, match=r"\['vol'\] do not vary"):
        HMM(2).fit(X.assign(vol=5.0 + 1e-13 * (np.arange(300) % 2)))
    with pytest.raises(PanelError, match="the model was fitted on"):
        HMM(1, n_iter=2, n_starts=1).fit(X).filter(X[["vol", "ret"]])
    empty = HMM(2, n_iter=2, n_starts=1).fit(X)
    assert empty.filter(X.iloc[:0]).probabilities.empty and empty.smooth(X.iloc[:0]).probabilities.shape == (0, 2)
    twice = X.iloc[[0, 0, 1]]
    with pytest.raises(PanelError, match="distinct"):
        empty.filter(twice)


def test_the_walk_starts_and_refits_where_it_says():
    X = weather()
    quick = HMM(2, n_iter=5, n_starts=1)
    got = walk_forward_filter(X, first=100, refit=60, model=quick)
    assert got.probabilities.index.equals(X.index[100:])
    borders = [99, 159, 219, 279]
    assert got.trained_to.unique().tolist() == [X.index[b] for b in borders]
    assert (got.trained_to == X.index[159]).sum() == 60 and (got.trained_to == X.index[279]).sum() == 20
    third = quick.fit(X.iloc[:220])
    order = match_states(HMM(2, n_iter=5, n_starts=1).fit(X.iloc[:160]), third)
    assert third.filter(X.iloc[:280]).probabilities.iloc[220:, order].to_numpy() == pytest.approx(
        got.probabilities.iloc[120:180].to_numpy()
    )
    for bad in ({"first": 0}, {"refit": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            walk_forward_filter(X, HMM(), **bad)
    assert len(walk_forward_filter(X, first=299, refit=1, model=quick).probabilities) == 1
    with pytest.raises(DataError, match="300 rows leave nothing to filter after the first 300"):
        walk_forward_filter(X, first=300, model=quick)
    with pytest.raises(DataError, match="after the first 504"):
        walk_forward_filter(X, HMM())


def test_matching_equals_the_smallest_sum_of_distances_on_random_states():
    "Means and variances of like weight in the distance, so that a wrong share of either pairs some states wrongly."
    from types import SimpleNamespace

    rng = np.random.default_rng(0)

    def states(n=3):
        shape = SimpleNamespace(means_=rng.normal(0, 1.2, (n, 1)), covars_=np.exp(rng.normal(0, 1.5, (n, 1, 1))))
        return SimpleNamespace(hmm_=shape, moments=lambda: (shape.means_, shape.covars_))

    def distance(a, i, b, j):
        gap, one, other = (a.hmm_.means_[i] - b.hmm_.means_[j])[0], a.hmm_.covars_[i, 0, 0], b.hmm_.covars_[j, 0, 0]
        pooled = (one + other) / 2
        return gap**2 / pooled / 8 + np.log(pooled / np.sqrt(one * other)) / 2

    for _ in range(300):
        a, b = states(), states()
        best = min(itertools.permutations(range(3)), key=lambda p: sum(distance(a, i, b, j) for i, j in enumerate(p)))
        assert match_states(a, b).tolist() == list(best)


def test_columns_that_say_the_same_are_fitted_all_the_same():
    X = weather()
    twice = pd.DataFrame({"ret": X["ret"], "again": 3 * X["ret"] + 0.01})
    model = HMM(2, n_iter=20, n_starts=1).fit(twice)
    assert (np.linalg.eigvalsh(model.hmm_.covars_) > 0).all() and np.isfinite(model.filter(twice).probabilities).all(
        axis=None
    )


def test_the_date_of_a_price_that_has_no_log_is_its_own():
    close = pd.Series([0.5, 0.7, -2.0, 0.0], pd.bdate_range("2020-01-06", periods=4).as_unit("us"))
    with pytest.raises(DataError, match="close is -2.0 on 2020-01-08"):
        regime_inputs(close, lookback=2)


def test_a_walk_refits_every_year_unless_told():
    got = walk_forward_filter(weather(), first=45, model=HMM(2, n_iter=2, n_starts=1))
    assert got.trained_to.unique().tolist() == [weather().index[44], weather().index[45 + 252 - 1]]


def test_probabilities_are_such():
    dates = weather().index[:2]
    for bad in ([[0.5, 0.5], [0.6, 0.41]], [[1.1, -0.1], [0.5, 0.5]]):
        for kind in (hmm.Filtered, hmm.Smoothed):
            with pytest.raises(DataError, match="sum to 1"):
                kind(pd.DataFrame(bad, index=dates))
    hmm.Filtered(pd.DataFrame([[0.0, 1.0], [0.5, 0.5 + 5e-7]], index=dates))
    own = hmm.Filtered(pd.DataFrame([[0.0, 1.0], [0.5, 0.5]], index=dates), pd.Series([dates[1], dates[0]], dates))
    assert own.in_sample().tolist() == [True, False] and own.out_of_sample().probabilities.index.tolist() == [dates[1]]
    assert (
        own.out_of_sample().trained_to.tolist() == [dates[0]] and not hmm.Filtered(own.probabilities).in_sample().any()
    )


def test_hindsight_cannot_be_relabelled_and_a_day_knows_its_own_evening():
    from dataclasses import FrozenInstanceError

    dates = weather().index[:2]
    p = pd.DataFrame([[0.0, 1.0], [0.5, 0.5]], index=dates)
    for state in (hmm.Filtered(p), hmm.Smoothed(p)):
        with pytest.raises(FrozenInstanceError):
            state.probabilities = p
    assert not hmm.Filtered(p, pd.Series(dates, dates)).in_sample().any()
    for kind in (hmm.Filtered, hmm.Smoothed):
        assert (
            kind(p) != kind(p.copy()) and len({kind(p), kind(p)}) == 2
        )  # each is itself; frames have no single truth to compare
