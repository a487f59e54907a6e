"Seeds as the error bar: planted spreads come back, nothing is taken from the best seed, and degenerate input says so."

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.deep.seeds import (
    WARNING,
    SeedRuns,
    compute_table,
    mean_ranks,
    run_seeds,
    seed_errors,
    seed_evidence,
    seed_ics,
    seed_table,
    seeded,
    seeds_figure,
)
from quantlab.models.ensemble import SeedAverage
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel
from quantlab.models.processors import RobustZ, chain
from quantlab.validation.deflate import dsr
from quantlab.validation.inference import newey_west, return_moments, sharpe_test

DATES, NAMES = 60, list("ABCD")
INDEX = pd.MultiIndex.from_product(
    [pd.bdate_range("2020-01-01", periods=DATES, unit="us"), NAMES], names=["date", "symbol"]
)
CAME, BESIDE = (pd.Series(np.tile(row, DATES), INDEX, dtype="float64") for row in ([1, 1, -1, -1], [1, -1, 1, -1]))


class Planted(BaseEstimator):
    "Score with the share `level` of the outcome in column y, give or take `spread` by seed, so much on each date."

    def __init__(self, level: float = 0.1, spread: float = 0.02, seed: int = 7):
        self.level, self.spread, self.seed = level, spread, seed

    def fit(self, X, y, sample_weight=None):
        return self

    def predict(self, X):
        a = self.level + self.spread * np.random.default_rng(self.seed).normal()
        return pd.DataFrame({"score": a * X["y"] + np.sqrt(1 - a * a) * X["z"]}, index=X.index)


class Plain(BaseEstimator):
    "Score by one column; draws nothing."

    def fit(self, X, y, sample_weight=None):
        return self

    def predict(self, X):
        return pd.DataFrame({"score": X["z"]}, index=X.index)


X = pd.DataFrame({"y": CAME, "z": BESIDE})
SPLITS = [(range(80), range(80, 160)), (range(160), range(160, 240))]


def runs_of(levels: dict, draws: bool = True) -> SeedRuns:
    "Return runs whose ICs are known: model -> IC by seed."
    planted = {(name, i): a for name, ics in levels.items() for i, a in enumerate(ics)}
    made = {key: a * CAME + np.sqrt(1 - a * a) * BESIDE for key, a in planted.items()}
    scores = pd.DataFrame(made).rename_axis(columns=["model", "seed"])
    costs = pd.DataFrame({"seconds": 30.0, "draws": draws}, index=scores.columns)
    return SeedRuns(scores, costs)


def test_a_model_whose_seeds_differ_by_known_noise_gives_that_spread():
    seeds = range(30)
    runs = run_seeds({"planted": Planted(), "plain": Plain()}, X, CAME, SPLITS, seeds)
    table = seed_table(runs, CAME, 1, baseline="plain")
    drawn = np.array([0.1 + 0.02 * np.random.default_rng(seed).normal() for seed in seeds])
    assert table.loc["planted", "ic"] == pytest.approx(drawn.mean(), abs=1e-9)
    assert table.loc["planted", "seed_sd"] == pytest.approx(drawn.std(ddof=1), abs=1e-9)
    assert 0.014 < table.loc["planted", "seed_sd"] < 0.027  # what was planted is 0.02
    assert table.loc["planted", "date_se"] == pytest.approx(0, abs=1e-9)
    assert table.loc["planted", "se"] == pytest.approx(drawn.std(ddof=1) / np.sqrt(30), abs=1e-9)
    assert table.loc["plain", "seeds"] == 1 and np.isnan(table.loc["plain", "seed_sd"])  # it has no seeds
    assert table.loc["plain", "se"] == table.loc["plain", "date_se"] and table.loc["planted", "verdict"] == "better"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_their_best_say_nothing(levels, random):
    mixed = levels[:]
    random.shuffle(mixed)
    one, two = (seed_table(runs_of({"net": each}), CAME, 1).drop(columns="verdict") for each in (levels, mixed))
    assert np.allclose(one.astype(float), two.astype(float), atol=1e-9, equal_nan=True)
    assert one.loc["net", "ic"] == pytest.approx(np.mean(levels), abs=1e-9)


def test_the_error_over_dates_is_that_of_newey_and_west():
    rng = np.random.default_rng(1)
    daily = pd.DataFrame(rng.normal(size=(200, 3)), columns=pd.MultiIndex.from_product([["net"], range(3)]))
    draws = pd.Series(True, index=daily.columns)
    found = seed_errors(daily.rename_axis(columns=["model", "seed"]), draws, horizon=5).loc["net"]
    by_date = daily.mean(axis=1).to_numpy()
    assert found["date_se"] == pytest.approx(newey_west(by_date, 20))
    assert found["se"] == pytest.approx(np.hypot(found["seed_sd"] / np.sqrt(3), found["date_se"]))


def test_both_errors_cover_the_truth_about_as_often_as_they_say():
    hits, alone = 0, 0
    for world in range(200):
        rng = np.random.default_rng(world)
        by_seed, by_date = 0.02 * rng.normal(size=4), 0.2 * rng.normal(size=(100, 1))
        daily = pd.DataFrame(
            0.03 + by_seed + by_date + 0.01 * rng.normal(size=(100, 4)),
            columns=pd.MultiIndex.from_product([["net"], range(4)], names=["model", "seed"]),
        )
        found = seed_errors(daily, pd.Series(True, index=daily.columns), horizon=1).loc["net"]
        hits += abs(found["mean"] - 0.03) < 1.96 * found["se"]
        alone += abs(found["mean"] - 0.03) < 1.96 * found["seed_sd"] / 2
    assert 0.86 < hits / 200 < 0.99 and alone / 200 < 0.85  # the seeds alone promise too much


def test_each_verdict():
    runs = runs_of({"base": [0.1], "apart": [0.3, 0.31], "loose": [0.0, 0.25], "lower": [-0.2, -0.21], "lone": [0.4]})
    costs = runs.costs.assign(draws=[name != "base" for name, _ in runs.costs.index])
    table = seed_table(SeedRuns(runs.scores, costs), CAME, 1)
    assert table["verdict"].to_dict() == {
        "base": "baseline", "apart": "better", "loose": WARNING, "lower": "worse", "lone": "one seed: spread unknown",
    }  # fmt: skip
    assert table.loc["base", "gain"] == 0 and np.isnan(table.loc["base", "gain_se"])
    rng = np.random.default_rng(0)
    noisy = runs.scores[[("base", 0)]].assign(**{"x": runs.scores["base", 0] + 0.5 * rng.normal(size=len(X))})
    noisy.columns = pd.MultiIndex.from_tuples([("base", 0), ("near", 0)], names=["model", "seed"])
    still = SeedRuns(noisy, pd.DataFrame({"seconds": 1.0, "draws": False}, index=noisy.columns))
    assert seed_table(still, CAME, 1).loc["near", "verdict"] == "within two errors"


@pytest.mark.parametrize(
    ("levels", "rows", "says"),
    [
        ({"base": [0.1], "net": [0.2, 0.3]}, 240, "error unknown"),  # the only seed of the baseline has no spread
        ({"base": [0.1, 0.1], "net": [0.3, 0.31]}, 40, "error unknown"),  # ten dates have no error
        ({"base": [0.1, 0.1], "net": [0.3]}, 240, "one seed: spread unknown"),
    ],
)
def test_a_verdict_without_an_error_names_what_is_missing(levels, rows, says):
    runs = runs_of(levels)
    assert seed_table(SeedRuns(runs.scores.iloc[:rows], runs.costs), CAME, 1).loc["net", "verdict"] == says
    runs.scores.loc[:, "net"] = 0.0
    flat = seed_table(SeedRuns(runs.scores, runs.costs), CAME, 1)
    assert flat.loc["net", "verdict"] == "no IC to compare"  # whatever the number of its seeds


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(len(INDEX), 3)), INDEX, columns=list("abc"))
    y = pd.Series(rng.normal(size=len(INDEX)), INDEX)
    trees = GBMModel(n_estimators=5, min_child_samples=5, num_threads=1)
    models = {"trees": trees, "ridge": chain(RobustZ(), RidgeModel())}
    one, two = (run_seeds(models, wide, y, SPLITS, (1, 2), clock=time.process_time) for _ in range(2))
    assert one.scores.equals(two.scores) and list(one.scores) == [("trees", 1), ("trees", 2), ("ridge", 1)]
    assert not one.scores["trees", 1].equals(one.scores["trees", 2])
    assert one.costs["draws"].tolist() == [True, True, False] and (one.costs["seconds"] > 0).all()
    assert models["trees"].seed == 7  # what was given is left alone


def test_seeds_reach_the_models_inside():
    assert seeded(chain(RobustZ(), GBMModel()), 5).get_params()["gbmmodel__seed"] == 5
    assert seeded(SeedAverage(GBMModel(), 2), 9).model.seed == 9
    assert seeded(RidgeModel(alpha=3.0), 4).alpha == 3.0


def test_a_run_that_was_cut_short_goes_on(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    done = []

    def stop(count, total, name):
        done.append(name)
        if count == 2 and len(done) == 2:
            raise KeyboardInterrupt

    given_models = {"planted": Planted(), "plain": Plain()}
    told = {"seeds": (0, 1, 2), "resume": True}
    ticks = iter(range(100))
    with pytest.raises(KeyboardInterrupt):
        run_seeds(given_models, X, CAME, SPLITS, progress=stop, clock=lambda: float(next(ticks)), **told)
    used = next(ticks)
    again = run_seeds(given_models, X, CAME, SPLITS, clock=lambda: float(next(ticks)), **told)
    assert next(ticks) - used - 1 == 2 * 2  # only the third seed and the plain model were fitted
    assert again.scores.equals(run_seeds(given_models, X, CAME, SPLITS, seeds=(0, 1, 2)).scores)
    other = run_seeds(given_models, X, -CAME, SPLITS, **told)  # other outcomes are another question
    assert other.costs["seconds"].isna().all()  # and without a clock nobody knows what it took
    assert done == ["planted, seed 0", "planted, seed 1"]


def test_seeds_of_one_model_are_one_trial():
    rng = np.random.default_rng(3)
    dates = pd.bdate_range("2020-01-01", periods=500)
    columns = pd.MultiIndex.from_tuples([("ridge", 0), *[("net", i) for i in range(10)]], names=["model", "seed"])
    accounts = pd.DataFrame(0.0004 + 0.01 * rng.normal(size=(500, 11)), dates, columns)
    found = seed_evidence(accounts, 252)
    assert found["trials"].tolist() == [2, 2] and found["seeds"].tolist() == [1, 10]
    assert found.loc["ridge", ["seed_sd", "se"]].isna().all()  # one seed: its spread is not known, so no error is
    told = seed_evidence(accounts, 252, pd.Series([False] + [True] * 10, index=columns))
    assert np.isnan(told.loc["ridge", "seed_sd"]) and told.loc["net"].equals(found.loc["net"])
    assert told.loc["ridge", "se"] == pytest.approx(sharpe_test(accounts["ridge", 0]).se * np.sqrt(252))
    split = accounts["net"].mean(axis=1)
    moments, lone = return_moments(split), return_moments(accounts["ridge", 0])
    variance = max(np.var([moments.sharpe, lone.sharpe], ddof=1), 1 / (moments.n_obs - 1))
    left = dsr(moments.sharpe, moments.n_obs, moments.skew, moments.kurtosis, 2, variance)
    assert found.loc["net", "dsr"] == pytest.approx(left) and found.loc["net", "split"] == pytest.approx(
        moments.sharpe * np.sqrt(252)
    )
    by_seed = accounts["net"].mean() / accounts["net"].std() * np.sqrt(252)
    assert found.loc["net", "sharpe"] == pytest.approx(by_seed.mean())
    assert found.loc["net", "seed_sd"] == pytest.approx(by_seed.std())
    with pytest.raises(DataError, match="model"):
        seed_evidence(accounts.droplevel("model", axis=1), 252)


def test_the_processor_minute_is_that_of_one_seed():
    runs = runs_of({"ridge": [0.04], "net": [0.05, 0.07]})
    costs = runs.costs.assign(seconds=[6.0, 600.0, 1200.0])
    table = seed_table(runs, CAME, 1)
    found = compute_table(table, costs)
    assert found["minutes"].tolist() == [0.1, 15.0] and found["cost"].tolist() == pytest.approx([1, 150])
    assert found["ic_per_minute"].tolist() == pytest.approx([0.4, 0.004])
    assert found["fits_for_one"].tolist() == pytest.approx([150, 1])
    still = compute_table(table, costs.assign(seconds=0.0))
    assert still[["minutes", "cost", "ic_per_minute"]].isna().all(axis=None)
    with pytest.raises(ConfigError, match="tft"):
        compute_table(table, costs, "tft")


def test_mean_ranks_need_every_score():
    scores = pd.DataFrame({"a": CAME, "b": 100 * BESIDE}).iloc[:8]
    scores.iloc[0, 0] = np.nan
    found = mean_ranks(scores)
    assert np.isnan(found.iloc[0]) and found.notna().sum() == 7 and found.between(0, 1).sum() == 7
    assert found.iloc[4:8].tolist() == [0.875, 0.625, 0.625, 0.375]
    assert mean_ranks(scores.iloc[:0]).empty


@pytest.mark.parametrize(
    "asked", [{"models": {}}, {"seeds": ()}, {"seeds": (1, 1)}, {"splits": []}, {"y": CAME.iloc[:-1]}]
)
def test_what_cannot_be_run_is_refused(asked):
    told = {"models": {"plain": Plain()}, "X": X, "y": CAME, "splits": SPLITS} | asked
    with pytest.raises((ConfigError, PanelError)):
        run_seeds(**told)


def test_what_cannot_be_judged_is_not_a_number_or_refused():
    runs = runs_of({"base": [0.1], "net": [0.2, 0.3]})
    with pytest.raises(ConfigError, match="horizon"):
        seed_table(runs, CAME, 0)
    with pytest.raises(ConfigError, match="base, net"):
        seed_table(runs, CAME, 1, "ridge")
    with pytest.raises(DataError, match="model, seed"):
        SeedRuns(runs.scores, runs.costs.iloc[:2])
    flat = SeedRuns(runs.scores * 0, runs.costs)  # a score without dispersion has no IC
    table = seed_table(flat, CAME, 1)
    assert table[["ic", "se", "rank_ic"]].isna().all(axis=None)
    few = SeedRuns(runs.scores.iloc[:40], runs.costs)  # ten dates are too few for an error over dates
    assert seed_table(few, CAME, 1)["date_se"].isna().all()
    assert seed_table(few, CAME, 1)["ic"].notna().all()


def test_the_picture_has_a_dot_for_each_seed():
    runs = runs_of({"base": [0.1], "net": [0.2, 0.3, 0.4]})
    daily, table = seed_ics(runs, CAME), seed_table(runs, CAME, 1)
    axes = seeds_figure(daily, table).axes[0]
    assert [len(points.get_offsets()) for points in axes.collections if len(points.get_offsets())][-1] == 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "net"] and "net" in axes.get_title("left")
    assert "nothing to compare" in seeds_figure(daily[["base"]], table.loc[["base"]]).axes[0].get_title("left")
    assert seeds_figure(daily * np.nan, table.assign(ic=np.nan)).axes[0].get_title("left") == "No model has an IC"


def test_the_picture_says_leads_by_the_error_of_the_difference():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(100, 1))  # what all share on a date is no part of their difference
    columns = pd.MultiIndex.from_tuples([("one", 0), ("two", 0)], names=["model", "seed"])
    still = pd.Series(False, index=columns)
    for own, says in ((0.001, "one leads two"), (3.0, "cannot be told from")):
        daily = pd.DataFrame(0.5 * shared + own * rng.normal(size=(100, 2)), columns=columns)
        daily["one", 0] += 0.02 + daily["two", 0].mean() - daily["one", 0].mean()
        table = seed_errors(daily, still, 1).rename(columns={"mean": "ic"})
        assert table.loc["one", "ic"] - table.loc["two", "ic"] == pytest.approx(0.02) and table["se"].min() > 0.02
        title = seeds_figure(daily, table).axes[0].get_title("left")
        assert says in title and title.startswith("one")
    drawn = seed_errors(daily, pd.Series(True, index=columns), 1).rename(columns={"mean": "ic"})
    assert "cannot be told" in seeds_figure(daily, drawn).axes[0].get_title("left")  # lone seeds: nobody knows
