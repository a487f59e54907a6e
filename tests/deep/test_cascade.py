"""The cascade: planted shapes are found, stages are nested and purged, probabilities are calibrated, extras are
guarded."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.deep import cascade
from quantlab.deep.cascade import Cascade, KernelEncoder, inner_folds, return_paths
from quantlab.models.base import check_model
from quantlab.validation.scores import rank_ic

SMALL = dict(purge=2, n_kernels=12, blocks=4)


def needs(name: str, **kind) -> object:
    return pytest.param(
        kind,
        marks=pytest.mark.skipif(
            not _there(name),
            reason=f"{name} is not installed: install quantlab[{'deep' if name == 'torch' else 'boost'}]",
        ),
    )


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


KINDS = [
    {"validator": "mlp"},
    {"validator": "none"},
    needs("xgboost", validator="xgboost"),
    needs("torch", encoder="cnn"),
    needs("torch", head="net"),
    needs("torch", encoder="cnn", head="net"),
]


def planted(
    n_dates: int = 80, n_symbols: int = 20, seed: int = 0, signal: float = 1.0
) -> tuple[pd.DataFrame, pd.Series]:
    "Paths with a bump somewhere; the outcome follows it where mood is positive."
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates, unit="us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )
    n = len(index)
    steps, bump, mood = random.normal(size=(n, 20)), random.random(n) < 0.5, random.normal(size=n)
    steps[np.flatnonzero(bump)[:, None], random.integers(0, 15, n)[bump][:, None] + np.arange(5)] += 1.5
    steps -= steps.mean(axis=1, keepdims=True)
    X = pd.DataFrame(0.01 * steps, index=index, columns=[f"path_{i:02d}" for i in range(20)]).assign(mood=mood)
    return X, pd.Series(signal * np.where(mood > 0, bump - 0.5, 0) + 0.4 * random.normal(size=n), index=index)


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_holds(kind):
    X, y = planted(40, 10)
    assert (check_model(Cascade(**SMALL, **kind), X.mask(X > 2.5), y) == "pass").all()


def test_two_stages_find_what_one_cannot():
    X, y = planted(200, 20)
    early = np.arange(len(X)) < 150 * 20
    said = Cascade(purge=1).fit(X[early], y[early]).stages(X[~early])
    assert rank_ic(said["score"], y[~early]).mean() > rank_ic(said["s1_return"], y[~early]).mean() + 0.02 > 0.1
    trust = said["s2_valid"].groupby(X["mood"][~early] > 0).mean()
    assert trust[True] > trust[False] + 0.03
    assert said["prob"].corr(said["score"]) > 0.7 and said["prob"].between(0, 1).all()


def test_noise_stays_noise():
    X, y = planted(200, 20, signal=0.0)
    early = np.arange(len(X)) < 150 * 20
    said = Cascade(purge=1).fit(X[early], y[early]).stages(X[~early])
    assert abs(rank_ic(said["score"], y[~early]).mean()) < 0.08
    assert abs(said["prob"] - 0.5).mean() < 0.15  # the temperature cools what has no ground


def test_no_stage_is_asked_about_rows_it_learned_from(monkeypatch):
    X, y = planted(60, 5)
    names = ("encode", "validate", "decide")
    log, real = [], [getattr(cascade._Stages, name) for name in names]

    def spy(stage, fit):
        def wrapped(stages, Z, y_, w, *index):
            log.append((stage, len(y_)))
            return fit(stages, Z, y_, w, *index)

        return wrapped

    for name, fit in zip(names, real, strict=True):
        monkeypatch.setattr(cascade._Stages, name, spy(name, fit))
    Cascade(purge=2, blocks=4, n_kernels=12).fit(X, y)
    rows = {stage: [n // 5 for s, n in log if s == stage] for stage in names}
    assert rows["encode"] == [13, 28, 43, 60]  # dates before each block less the purge, then all
    assert rows["validate"] == [13, 28, 45]  # the first block has no calls
    assert rows["decide"] == [13, 30]  # the first two blocks have no verdicts; the last block chooses the temperature


def test_the_future_of_a_block_does_not_reach_what_is_said_about_it():
    X, y = planted(60, 5)
    path = [c for c in X if c.startswith("path_")]
    nest = cascade._Nest(cascade._Stages("kernels", "mlp", "trees", 12, 7), blocks=4, purge=2, path=path)
    ordered = X.sort_index(axis=1)
    honest, folds = nest.ask(ordered, y.to_numpy(), None)
    first_of_last = folds[-1][1][0]
    changed = y.to_numpy().copy()
    changed[first_of_last - 2 * 5 :] *= -7  # the purged sessions and all that follows
    ruined, _ = nest.ask(ordered, changed, None)
    pd.testing.assert_frame_equal(honest, ruined, check_exact=True)


def test_folds_are_whole_dates_with_a_gap():
    X, _ = planted(60, 5)
    for train, test in inner_folds(X, 4, 3):
        learned, asked = X.index[train[-1]][0].date(), X.index[test[0]][0].date()
        assert np.busday_count(learned, asked) == 4  # the purge of 3 sessions lies between
    assert [test[0] // 5 for _, test in inner_folds(X, 4, 3)] == [15, 30, 45]


def test_the_temperature_mends_overconfidence():
    X, y = planted(200, 20, signal=0.5)
    early = np.arange(len(X)) < 150 * 20
    model = Cascade(purge=1).fit(X[early], y[early])
    said = model.stages(X[~early])
    assert said["prob"].to_numpy() == pytest.approx(
        expit(logit(said["prob_raw"].to_numpy()) / model.temperature_.temperature_)
    )
    up = y[~early] > 0
    loss = [-(up * np.log(p) + (1 - up) * np.log(1 - p)).mean() for p in (said["prob_raw"], said["prob"])]
    assert loss[1] < loss[0] + 0.002


def test_kernels_find_a_shape_that_moves_and_forget_the_size():
    X, _ = planted(100, 20)
    paths = X.filter(like="path_").to_numpy()
    target = np.array([np.convolve(row, np.ones(5), "valid").max() for row in paths])
    y = cascade._targets(target - np.median(target))
    found = KernelEncoder(n_kernels=40).fit(paths[:1500], y[:1500])
    assert np.corrcoef(found.predict(paths[1500:])[:, 0], target[1500:])[0, 1] > 0.6
    shape, size = cascade._shape(paths)
    assert np.allclose(cascade._shape(paths * 3)[0], shape, atol=1e-3) and np.allclose(
        cascade._shape(paths * 3)[1] - size, np.log(3), atol=1e-3
    )


def test_paths_are_past_returns_less_the_median():
    bars = adjust(sample_bars(["AAPL", "JPM", "XOM"], start="2015-01-01", end="2015-06-30"))
    paths = return_paths(bars["close"], 12)
    wide = np.log(bars["close"].unstack()).diff()
    wide = wide.sub(wide.median(axis=1), axis=0)
    date = paths.index.unique("date")[50]
    where = wide.index.get_loc(date)
    assert list(paths) == [f"path_{i:02d}" for i in range(12)]
    assert np.allclose(paths.loc[(date, "XOM")], wide["XOM"].iloc[where - 11 : where + 1])
    later = bars.copy()
    later.loc[later.index.get_level_values("date") > date] *= 2
    past = paths.index.get_level_values("date") <= date
    pd.testing.assert_frame_equal(return_paths(later["close"], 12)[past], paths[past], check_exact=True)
    with pytest.raises(ConfigError, match="at least 2"):
        return_paths(bars["close"], 1)
    assert list(return_paths(bars["close"], 120))[:1] == ["path_000"]


@pytest.mark.parametrize("missing", [{"encoder": "cnn"}, {"head": "net"}, {"validator": "xgboost"}])
def test_a_missing_extra_is_named(missing, monkeypatch):
    for name in ("torch", "xgboost"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[(deep|boost)\]'"):
        Cascade(**SMALL, **missing).fit(*planted(40, 10))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"purge": None}, ConfigError, "purge=None"),
        ({"purge": 30}, ConfigError, "the cascade needs"),
        ({"blocks": 3}, ConfigError, "blocks=3"),
        ({"encoder": "eye"}, ConfigError, "encoder is 'eye'"),
        ({"validator": "oracle"}, ConfigError, "validator is 'oracle'"),
        ({"head": "two"}, ConfigError, "head is 'two'"),
        ({"path": "road_"}, ConfigError, "begin with 'road_'"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, error, said):
    with pytest.raises(error, match=said):
        Cascade(**{**SMALL, **wrong}).fit(*planted(40, 10))


def test_degenerate_training_sets():
    X, y = planted(40, 10)
    with pytest.raises(DataError, match="one sign"):
        Cascade(**SMALL, validator="none").fit(X, y.abs() + 1)
    with pytest.raises(ConfigError, match="the cascade needs"):
        Cascade(**SMALL).fit(X.iloc[:1], y.iloc[:1])
    with pytest.raises(DataError, match="infinite"):
        Cascade(**SMALL).fit(X.replace(X.iloc[3, 0], np.inf), y)
    only = X.index.get_level_values("symbol") == "S00"
    model = Cascade(**SMALL).fit(X[only], y[only])
    assert np.isfinite(model.predict(X * np.nan)).all().all() and len(model.predict(X.iloc[:0])) == 0
    with pytest.raises(PanelError, match="unknown"):
        model.predict(X.assign(extra=1.0))


def test_weights_reach_every_stage():
    X, y = planted(40, 10)
    weight = pd.Series(np.where(np.arange(len(X)) % 2, 1.0, 3.0), index=X.index)
    a, b = (Cascade(**SMALL).fit(X, y, sample_weight=w) for w in (None, weight))
    assert not a.predict(X).equals(b.predict(X)) and a.temperature_.temperature_ != b.temperature_.temperature_
