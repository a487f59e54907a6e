"""Ensembles find planted members; searches count, resume and do not look ahead."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.core.ledger import Ledger
from quantlab.core.types import SearchRange
from quantlab.data.synth import synth_market
from quantlab.labels.forward import forward_returns
from quantlab.models.base import check_model, walk_forward
from quantlab.models.ensemble import Ensemble, SeedAverage, blend
from quantlab.models.gbm import GBMModel, hold_out
from quantlab.models.linear import RidgeModel
from quantlab.models.tune import Task, coarse_to_fine, tune
from quantlab.validation.scores import rank_ic
from quantlab.validation.splits import PurgedKFold

TREES = GBMModel(8, min_child_samples=50, num_leaves=4, num_threads=1)


def market(ic: float = 0.08, seed: int = 2) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    made = synth_market(n_symbols=40, n_dates=400, ic=ic, seed=seed)
    labels = forward_returns(made.bars, 1)
    known = labels["y"].notna()
    return made.features[known], labels["y"][known], labels["t1"][known]


def small(n_dates: int = 40, n_symbols: int = 10, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates, unit="us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(random.normal(size=(len(index), 4)), index=index, columns=["b", "a", "d", "c"])
    return X, pd.Series(X["a"] - X["c"] + random.normal(size=len(X)), index=index)


def test_the_ensemble_keeps_the_contract():
    X, y = small()
    model = Ensemble({"ridge": RidgeModel(), "trees": TREES}, seeds=2, share=0.75, purge=1)
    assert (check_model(model, X.mask(X > 2.5), y) == "pass").all()


def test_members_that_drew_the_planted_column_carry_the_weight():
    X, y, _ = market()
    early = np.arange(len(X)) < 320 * 40
    model = Ensemble({"ridge": RidgeModel()}, seeds=6, share=0.4, purge=2).fit(X[early], y[early])
    drew = pd.Series({name: "factor" in columns for name, (_, columns) in model.members_.items()})
    assert drew.any() and not drew.all()
    assert model.weights_["weight"][drew].min() > model.weights_["weight"][~drew].max()
    assert rank_ic(model.predict(X[~early])["score"], y[~early]).mean() > 0.04


def test_only_held_out_dates_decide_the_weights():
    X, y = small(60)
    learn, watch = hold_out(X.index, 0.2, 3)
    purged = y.copy()
    purged.iloc[learn.stop : watch.start] *= -1
    model = Ensemble({"ridge": RidgeModel(), "trees": TREES}, purge=3)
    assert model.fit(X, y).weights_.equals(
        model.fit(X, purged).weights_
    )  # purged outcomes reach the refit, not the weights
    turned = y.copy()
    turned.iloc[watch] *= -1
    assert not model.fit(X, turned).weights_.equals(model.fit(X, y).weights_)


def test_seeds_differ_and_the_same_seed_does_not():
    X, y = small()
    model = Ensemble({"trees": GBMModel(8, min_child_samples=10, subsample=0.5, num_threads=1)}, seeds=2, purge=1).fit(
        X, y
    )
    a, b = (member.predict(X[columns])["score"] for member, columns in model.members_.values())
    assert not a.equals(b)
    assert (
        Ensemble({"trees": TREES}, purge=1, seed=1)
        .fit(X, y)
        .predict(X)
        .equals(Ensemble({"trees": TREES}, purge=1, seed=1).fit(X, y).predict(X))
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 5))
def test_weights_are_a_mixture_and_have_no_unit(seed, shrink, m):
    X, y = small(12, 6, seed)
    scores = pd.DataFrame(np.random.default_rng(seed).normal(size=(len(X), m)), index=X.index).rename(columns=str)
    weight = blend(scores, y, shrink)["weight"]
    assert weight.sum() == pytest.approx(1) and (weight >= shrink / m - 1e-12).all()
    assert np.allclose(blend(scores * 1e3 + 5, y, shrink)["weight"], weight)


def test_the_best_weights_beat_all_others_on_their_own_dates():
    X, y = small(100, 20)
    scores = X[["a", "c"]].assign(c=-X["c"], noise=X["b"])

    def ic_of(weight):
        return np.corrcoef((scores / scores.groupby("date").transform("std")) @ weight, y)[0, 1]

    best = blend(scores, y, 0.0)["weight"]
    others = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    assert ic_of(best) > max(ic_of(w) for w in others) - 0.01
    assert best["noise"] < 0.05


def test_ensembles_that_cannot_be_are_refused():
    X, y = small()
    for wrong in (
        {"models": {}},
        {"seeds": 0},
        {"share": 0.0},
        {"shrink": 1.5},
        {"purge": None},
        {"purge": 39},
        {"validation": 1.0},
    ):
        with pytest.raises(ConfigError):
            Ensemble(**{"models": {"ridge": RidgeModel()}, "purge": 1, **wrong}).fit(X, y)
    with pytest.raises(PanelError):
        blend(X.iloc[:0], y.iloc[:0])
    with pytest.raises(ConfigError, match="leave none"):
        Ensemble({"ridge": RidgeModel()}, purge=1).fit(X.iloc[:1], y.iloc[:1])


def test_the_ensemble_walks_forward():
    X, y = small(80)
    splits = [(np.arange(400), np.arange(420, 600)), (np.arange(600), np.arange(620, 800))]
    assert walk_forward(Ensemble({"ridge": RidgeModel()}, purge=1), X, y, splits).predictions["score"].notna().all()


def task(folder, name: str = "search", model=TREES, **more) -> Task:
    X, y, t1 = market(**more)
    return Task(model, X, y, list(PurgedKFold(3).split(X, t1=t1)), 1, Ledger(folder / f"{name}.sqlite"), name)


SPACE = {
    "num_leaves": SearchRange(2, 32, log=True),
    "learning_rate": SearchRange(0.01, 0.5, log=True),
    "colsample": [0.5, 1.0],
}


def test_every_looked_at_setting_is_a_trial_pruned_ones_too(tmp_path):
    work = task(tmp_path)
    search = tune(work, SPACE, 10)
    trials = work.ledger.trials("search/ic")
    assert len(search.trials) == 10 and set(search.trials["key"]) == set(trials["key"])
    assert (search.trials["state"] == "pruned").any() and work.ledger.verify() == 10
    row = search.trials.loc[search.trials["value"].idxmax()]
    daily = pd.concat(work.scores(search.best)).sort_index()
    assert search.value == row["value"] == pytest.approx(daily.mean())
    recorded = trials[trials["key"] == row["key"]].iloc[0]
    assert recorded["sharpe"] == pytest.approx(daily.mean() / daily.std()) and recorded["n_obs"] == len(daily)
    assert search.value > 0.03 and search.model(TREES).get_params()["num_leaves"] == search.best["num_leaves"]


def test_overlapping_outcomes_count_once_per_horizon(tmp_path):
    X, y, t1 = market()
    work = Task(RidgeModel(), X, y, list(PurgedKFold(3).split(X, t1=t1)), 5, Ledger(tmp_path / "l.sqlite"), "five")
    tune(work, {"alpha": [1.0]}, 1)
    row = work.ledger.trials("five/ic").iloc[0]
    assert row["n_obs"] == -(-399 // 5) and row["periods_per_year"] == 252 / 5


def test_a_killed_search_ends_as_an_undisturbed_one(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"

    def killed(numbers):
        for number in numbers:
            if number == 3:
                raise KeyboardInterrupt
            yield number

    work = task(tmp_path, "killed", RidgeModel())
    reach = {"alpha": SearchRange(1e-3, 1e6, log=True)}
    with pytest.raises(KeyboardInterrupt):
        tune(work, reach, 7, storage, progress=killed)
    assert len(work.ledger.trials("killed/ic")) == 3
    resumed, straight = tune(work, reach, 7, storage), tune(task(tmp_path, "killed", RidgeModel()), reach, 7)
    pd.testing.assert_frame_equal(resumed.trials, straight.trials, check_exact=True)
    assert len(work.ledger.trials("killed/ic")) == 7  # the same settings are the same trials
    assert tune(work, reach, 7, storage).trials.equals(resumed.trials)  # nothing left to do


def test_a_fit_that_dies_in_the_middle_leaves_no_trial(tmp_path):
    class Dies(RidgeModel):
        fits = 0

        def fit(self, X, y, sample_weight=None):
            Dies.fits += 1
            if Dies.fits == 8:
                raise MemoryError
            return super().fit(X, y, sample_weight)

    storage, reach = f"sqlite:///{tmp_path / 'optuna.db'}", {"alpha": SearchRange(1e-3, 1e6, log=True)}
    work = task(tmp_path, "dies", Dies())
    with pytest.raises(MemoryError):
        tune(work, reach, 6, storage, prune=False)
    assert len(work.ledger.trials("dies/ic")) == 2
    resumed = tune(work, reach, 6, storage, prune=False)
    straight = tune(task(tmp_path, "straight", RidgeModel()), reach, 6, prune=False)
    assert resumed.trials["alpha"].tolist() == straight.trials["alpha"].tolist()


def test_the_grid_narrows_and_repeats_nothing(tmp_path):
    work = task(tmp_path, "grid", RidgeModel())
    storage = f"sqlite:///{tmp_path / 'grid.db'}"
    search = coarse_to_fine(work, {"alpha": SearchRange(1.0, 1e4, log=True)}, points=3, rounds=3, storage=storage)
    alphas = search.trials["alpha"]
    assert alphas.iloc[:3].tolist() == [1.0, 100.0, 10_000.0] and alphas.is_unique and len(alphas) <= 9
    assert (
        search.value == search.trials["value"].max() and search.best["alpha"] == alphas[search.trials["value"].idxmax()]
    )
    assert coarse_to_fine(
        work, {"alpha": SearchRange(1.0, 1e4, log=True)}, points=3, rounds=3, storage=storage
    ).trials.equals(search.trials)
    assert len(work.ledger.trials("grid/ic")) == len(alphas)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 10), st.floats(1.1, 1e4), st.booleans(), st.integers(3, 9))
def test_a_narrowed_range_lies_inside_and_holds_its_best_point(low, ratio, log, n):
    span = SearchRange(low, low * ratio, log)
    for best in span.points(n):
        inner = span.around(best, n)
        near = 1 + 1e-9
        assert (
            span.low <= inner.low * near
            and inner.low <= best * near
            and best <= inner.high * near
            and inner.high <= span.high * near
        )
        assert inner.high - inner.low < span.high - span.low


def test_searches_that_cannot_be_are_refused(tmp_path):
    work = task(tmp_path)
    for wrong in ({}, {"leaves": SearchRange(1, 2)}):
        with pytest.raises(ConfigError):
            tune(work, wrong)
        with pytest.raises(ConfigError):
            coarse_to_fine(work, wrong)
    for low, high, log in ((2, 1, False), (1, 1, False), (0, 1, True)):
        with pytest.raises(ConfigError, match="no range"):
            SearchRange(low, high, log)
    with pytest.raises(ConfigError, match="folds"):
        Task(TREES, work.X, work.y, [], 1, work.ledger, "none")
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    tune(work, SPACE, 1, storage)
    with pytest.raises(ConfigError, match="other data, folds or model"):
        tune(task(tmp_path, seed=9), SPACE, 1, storage)


def test_the_search_is_quiet_and_leaves_optuna_as_it_was(tmp_path, capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    tune(task(tmp_path), SPACE, 1)
    assert optuna.logging.get_verbosity() == before and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://me:hunter2@127.0.0.1:1/db",
        "nothing://me:hunter2@host/db",
        "sqlite:///{0}/no/such/folder.db",
        "sqlite:///{0}/junk.db",
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(tmp_path, storage):
    (tmp_path / "junk.db").write_bytes(b"no database, but long enough to be taken for one" * 40)
    X, y = small()
    work = Task(
        RidgeModel(), X, y, [(np.arange(200), np.arange(200, 400))], 1, Ledger(tmp_path / "l.sqlite"), "storage"
    )
    with pytest.raises(ConfigError, match="cannot be opened") as refused:
        tune(work, {"alpha": [1.0]}, 1, storage.format(tmp_path))
    assert (
        "hunter2" not in str(refused.value)
        and "\n" not in str(refused.value)
        and refused.value.__cause__ is None
        and refused.value.__suppress_context__
    )


def halves() -> tuple[pd.DataFrame, pd.Series]:
    X, _ = small(40, 10)
    return X, pd.Series(X["a"] + X["b"], X.index)


def test_a_model_that_says_nothing_gets_no_weight():
    scores, truth = halves()
    still = blend(scores.assign(d=0.0), truth, 0.0)
    assert still.loc["d", "weight"] == pytest.approx(0, abs=1e-12) and np.isfinite(still).all().all()


def test_one_row_gives_equal_weights():
    scores, truth = halves()
    assert np.allclose(blend(scores.iloc[:1], truth.iloc[:1])["weight"], 0.25)


def test_scores_and_outcomes_need_the_same_rows():
    scores, truth = halves()
    for said, known in ((scores.iloc[:0], truth.iloc[:0]), (scores, truth.iloc[1:])):
        with pytest.raises(PanelError, match="same rows"):
            blend(said, known)


def test_an_ensemble_of_nobody_is_refused_and_no_rows_give_no_scores():
    X, y = small()
    with pytest.raises(ConfigError, match="0 models"):
        Ensemble({}, purge=1).fit(X, y)
    assert len(Ensemble({"ridge": RidgeModel()}, purge=1).fit(X, y).predict(X.iloc[:0])) == 0


def test_a_search_without_folds_settings_or_points_is_refused(tmp_path):
    X, y = small()
    ledger, folds = (
        Ledger(tmp_path / "ledger.sqlite"),
        list(PurgedKFold(3).split(X, t1=pd.Series(X.index.get_level_values("date"), X.index))),
    )
    task = Task(RidgeModel(), X, y, folds, 1, ledger, "refused")
    with pytest.raises(ConfigError, match="trials over"):
        tune(task, {})
    with pytest.raises(ConfigError, match="points=2"):
        coarse_to_fine(task, {"alpha": SearchRange(0.1, 10.0)}, points=2)
    for folds_, outcome in (([], y), (folds, y.iloc[1:])):
        with pytest.raises(ConfigError, match="give folds of this X"):
            Task(RidgeModel(), X, outcome, folds_, 1, ledger, "short")


def test_an_average_over_seeds_is_the_mean_of_its_fits():
    X, y, _ = market()
    thin = GBMModel(10, min_child_samples=50, num_leaves=4, colsample=0.4, subsample=0.5, num_threads=1, seed=3)
    three = SeedAverage(thin, seeds=3).fit(X, y)
    alone = [
        GBMModel(10, min_child_samples=50, num_leaves=4, colsample=0.4, subsample=0.5, num_threads=1, seed=s).fit(X, y)
        for s in (3, 4, 5)
    ]
    said = np.column_stack([one.predict(X)["score"] for one in alone])
    told = three.predict(X)
    assert np.allclose(told["score"], said.mean(axis=1)) and np.allclose(told["doubt"], said.std(axis=1))
    assert told["doubt"].max() > 0 and check_model(SeedAverage(thin, 2), X, y).eq("pass").all()
    with pytest.raises(ConfigError, match="seeds is 0"):
        SeedAverage(thin, 0).fit(X, y)


def test_fewer_bins_tell_fewer_values_apart():
    X, y = small(200)
    plain = {"min_child_samples": 5, "num_leaves": 31, "subsample": 1.0, "colsample": 1.0, "num_threads": 1}
    few = GBMModel(5, max_bin=2, **plain).fit(X, y)
    assert few.predict(X)["score"].nunique() <= 2**4  # two values of each of four features
    with pytest.raises(ConfigError, match="max_bin is 1"):
        GBMModel(5, max_bin=1).fit(X, y)
