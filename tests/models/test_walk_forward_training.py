"The trainer: the same predictions in one process, in two, on Dask, and after a kill; keys that see every change."

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

sys.path.insert(0, str(Path(__file__).parent))
from trainees import Noted

from quantlab.core.compute import ComputeError
from quantlab.core.config import root
from quantlab.core.errors import LeakError, PanelError, QuantlabError
from quantlab.models import base
from quantlab.models.base import as_scores, check_features, check_model, walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel


def world(n_dates: int = 60, n_symbols: int = 8, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates).as_unit("us")
    index = pd.MultiIndex.from_product([dates, [f"S{i}" for i in range(n_symbols)]], names=["date", "symbol"])
    X = pd.DataFrame(rng.normal(size=(len(index), 4)), index=index, columns=list("abcd"))
    return X, pd.Series(X["a"] + rng.normal(size=len(X)), index=index, name="y")


def blocks(n_dates: int = 60, width: int = 8, first: int = 20, step: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.arange(s * width), np.arange(s * width, (s + step) * width)) for s in range(first, n_dates, step)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


JOB = """
import sys
sys.path.insert(0, {folder!r})
from test_walk_forward_training import Noted, blocks, walk_forward, world
X, y = world()
walk_forward(Noted(2.0, {notes!r}, 0.25), X, y, blocks(), workers={workers}, resume=True)
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_a_random_fold_and_started_again(tmp_path, cache, workers):
    X, y = world()
    undisturbed = walk_forward(Noted(2.0, str(tmp_path / "other")), X, y, blocks())
    notes, stop_at = tmp_path / "notes", random.Random(os.getpid()).randint(1, 6)
    script = JOB.format(folder=str(Path(__file__).parent), notes=str(notes), workers=workers)
    job = subprocess.Popen([sys.executable, "-c", script], cwd=root(), start_new_session=True)
    end = time.time() + 60
    while len(list(cache.glob("*.zip"))) < stop_at and time.time() < end and job.poll() is None:
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    assert job.wait(10) == -signal.SIGKILL, "the run ended before it was killed"
    time.sleep(1.5)  # workers notice and go
    finished = {f.name for f in cache.glob("*.zip")}
    assert stop_at <= len(finished) < 8
    before, steps = len(notes.read_text().split()), []
    again = walk_forward(
        Noted(2.0, str(notes), 0.25), X, y, blocks(), resume=True, progress=lambda *step: steps.append(step)
    )
    pd.testing.assert_frame_equal(again.predictions, undisturbed.predictions, check_exact=True)
    pd.testing.assert_frame_equal(again.folds, undisturbed.folds)
    assert len(notes.read_text().split()) - before == 8 - len(finished), "a finished fold was fitted again"
    assert steps[0][:2] == (len(finished), 8) and steps[-1][:2] == (8, 8)
    assert not list(cache.glob("*.part")) or workers == 2


def fitted_again(notes: Path, *args, **kwargs) -> int:
    "Count the fits of a run that may resume."
    before = len(notes.read_text().split()) if notes.exists() else 0
    walk_forward(*args, resume=True, **kwargs)
    return len(notes.read_text().split()) - before


def test_the_key_sees_every_change_and_nothing_else(tmp_path, monkeypatch):
    X, y, notes = *world(40), tmp_path / "notes"
    model, splits = Noted(1.0, str(notes)), blocks(40)
    assert fitted_again(notes, model, X, y, splits) == 4
    assert fitted_again(notes, model, X.copy(), y.copy(), splits) == 0
    assert fitted_again(notes, Noted(1.5, str(notes)), X, y, splits) == 4, "a parameter"
    changed = X.copy()
    changed.iloc[-1, 0] += 1e-12
    assert fitted_again(notes, model, changed, y, splits) == 1, "a test row of the last fold"
    changed = y.copy()
    changed.iloc[30 * 8] += 1e-12
    assert fitted_again(notes, model, X, changed, splits) == 1, "an outcome that only the last fold trains on"
    changed = y.copy()
    changed.iloc[0] += 1e-12
    assert fitted_again(notes, model, X, changed, splits) == 4, "an outcome that all folds train on"
    assert fitted_again(notes, model, X, y, splits, sample_weight=y.abs()) == 4, "weights"
    assert fitted_again(notes, model, X.rename(columns={"a": "z"}), y, splits) == 4, "a name"
    assert fitted_again(notes, model, *world(45), blocks(45)) >= 1
    monkeypatch.setattr(RidgeModel, "predict", lambda self, X: as_scores(np.zeros(len(X)), X.index))
    assert fitted_again(notes, model, X, y, splits) == 4, "code of a class above"


def test_a_month_more_costs_one_fit(tmp_path):
    X, y = world(45)
    notes, short = tmp_path / "notes", X.index.get_level_values("date") < X.index.unique("date")[40]
    model = Noted(1.0, str(notes))
    assert fitted_again(notes, model, X[short], y[short], blocks(40)) == 4
    assert fitted_again(notes, model, X, y, blocks(45)) == 1


def test_a_damaged_fold_is_fitted_again(tmp_path, cache):
    X, y, notes = *world(40), tmp_path / "notes"
    model, splits = Noted(1.0, str(notes)), blocks(40)
    walk_forward(model, X, y, splits, resume=True)
    file = sorted(cache.glob("*.zip"))[0]
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="passed over"):
        assert fitted_again(notes, model, X, y, splits) == 1


def test_two_processes_predict_the_same_to_the_last_digit():
    model, (X, y) = GBMModel(n_estimators=10, min_child_samples=5, num_threads=1), world()
    weight = pd.Series(np.linspace(0.5, 1.5, len(X)), index=X.index)
    alone, beside = (walk_forward(model, X, y, blocks(), sample_weight=weight, workers=n) for n in (1, 2))
    pd.testing.assert_frame_equal(alone.predictions, beside.predictions, check_exact=True)
    assert len(beside.models) == 8 and all(type(m) is type(model) for m in beside.models)


@pytest.mark.slow
def test_dask_predicts_the_same_to_the_last_digit():
    distributed = pytest.importorskip("distributed")
    X, y = world()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = walk_forward(RidgeModel(), X, y, blocks(), scheduler=cluster.scheduler_address)
    pd.testing.assert_frame_equal(
        there.predictions, walk_forward(RidgeModel(), X, y, blocks()).predictions, check_exact=True
    )


def test_a_worker_with_other_code_is_refused():
    X, y = world(40)
    fold = base._folds(X, y, blocks(40))[0]
    with pytest.raises(ComputeError, match="other code of RidgeModel"):
        base._fit_fold(fold, RidgeModel(), X, y, None, "0" * 64)


def test_weights_reach_the_fit_and_further_columns_the_panel():
    X, y = world(40)
    heavy = pd.Series(np.where(X["b"] > 0, 1.0, 1e-9), index=X.index)
    run, plain = (walk_forward(RidgeModel(), X, y, blocks(40), sample_weight=w) for w in (heavy, None))
    train, test = blocks(40)[0]
    by_hand = RidgeModel().fit(X.iloc[train], y.iloc[train], heavy.iloc[train]).predict(X.iloc[test])["score"]
    pd.testing.assert_series_equal(run.predictions["score"].iloc[: len(test)], by_hand)
    assert not run.predictions["score"].equals(plain.predictions["score"])
    assert list(walk_forward(Noted(notes=os.devnull), X, y, blocks(40)).predictions) == ["score", "doubt", "fold"]


def test_rows_without_an_outcome_are_left_out_and_counted():
    X, y = world(40)
    gaps = y.mask(np.arange(len(y)) % 3 == 0)
    run = walk_forward(RidgeModel(), X, gaps, blocks(40))
    assert (run.folds["trained"] + run.folds["excluded"] == [160, 200, 240, 280]).all() and run.folds[
        "excluded"
    ].tolist() == [54, 67, 80, 94]
    train, test = blocks(40)[0]
    use = train[gaps.iloc[train].notna()]
    assert (
        run.predictions["score"]
        .iloc[: len(test)]
        .equals(RidgeModel().fit(X.iloc[use], y.iloc[use]).predict(X.iloc[test])["score"])
    )


def test_an_estimator_of_scikit_learn_works_as_it_is():
    X, y = world(40)
    run = walk_forward(LinearRegression(), X, y, blocks(40))
    train, test = blocks(40)[0]
    expected = LinearRegression().fit(X.iloc[train], y.iloc[train]).predict(X.iloc[test])
    assert run.predictions["score"].iloc[: len(test)].to_numpy() == pytest.approx(expected, rel=1e-9)


class Shorter(RidgeModel):
    def predict(self, X):
        return super().predict(X).iloc[1:]


class Fails(RidgeModel):
    def fit(self, X, y, sample_weight=None):
        raise KeyError("lost")


def test_a_failing_fold_is_named():
    X, y = world(40)
    with pytest.raises(PanelError, match=r"^fold 0 \(2020-01-29 to 2020-02-04\): Shorter.predict gives other rows"):
        walk_forward(Shorter(), X, y, blocks(40))
    with pytest.raises(ComputeError, match=r"^fold 0 .* failed: KeyError: 'lost'"):
        walk_forward(Fails(), X, y, blocks(40))


def test_single_precision_is_kept_and_not_copied():
    X, _ = world(40)
    small = X.astype("float32")
    assert np.shares_memory(check_features(small).to_numpy(), small.to_numpy())
    assert (check_features(small.assign(d=1)).dtypes == "float64").all()


class Centres(RidgeModel):
    "Remove the mean of each date: allowed, it is known at the close."

    def predict(self, X):
        scores = super().predict(X)
        return scores - scores.groupby("date").transform("mean")


class Peeks(RidgeModel):
    "Use the next date's feature where there is one."

    def predict(self, X):
        ahead = X.groupby("symbol").shift(-1).fillna(X)
        return super().predict(ahead)


class Lags(RidgeModel):
    "Use the date before: a score then depends on where the block starts."

    def predict(self, X):
        return super().predict(X.groupby("symbol").shift(1).fillna(X))


class Chatty(RidgeModel):
    def predict(self, X):
        try:
            return super().predict(X)
        except QuantlabError as error:
            raise PanelError(f"{error}\nand more") from error


def test_the_contract_knows_time():
    X, y = world(20)
    assert (check_model(Centres(), X, y) == "pass").all()
    with pytest.raises(LeakError, match="later rows removed"):
        check_model(Peeks(), X, y)
    with pytest.raises(LeakError, match="other dates removed"):
        check_model(Lags(), X, y)
    with pytest.raises(QuantlabError, match="refuses an unknown column; refuses a missing column"):
        check_model(Chatty(), X, y)
