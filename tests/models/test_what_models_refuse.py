"The room's doors: rows, columns and settings that no model takes, and the smallest panels that every model takes."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import QuantlabError
from quantlab.core.panel import as_panel
from quantlab.deep.cascade import Cascade, return_paths
from quantlab.models.base import as_scores, check_columns, check_features, check_training, walk_forward
from quantlab.models.gbm import GBMModel, grade
from quantlab.models.linear import RidgeModel
from quantlab.models.processors import ByDate, FillMissing, RankNorm, RobustZ, chain

FOUR = as_panel(
    pd.DataFrame({"date": pd.date_range("2020-01-01", periods=4), "symbol": "A", "f": [1.0, 2.0, 3.0, 4.0]})
)
OUTCOME = pd.Series([-1.0, np.nan, 1.0, 1.0], index=FOUR.index)
FIVE = as_panel(pd.DataFrame({"date": "2020-01-02", "symbol": list("ABCDE"), "x": [1.0, 2.0, 3.0, 4.0, 100.0]}))
EIGHT = as_panel(pd.DataFrame({"date": "2020-01-02", "symbol": list("ABCDEFGH"), "x": [1.0] * 4 + [9.0] * 4}))
STEPS = pd.Series([0.0, 2.0, 0.0, 2.0, 5.0, 7.0, 5.0, 7.0], index=EIGHT.index)


def forward(outcome=OUTCOME, splits=(([0], [1]),), **more):
    return walk_forward(RidgeModel(), FOUR, outcome, splits, **more)


@pytest.mark.parametrize(
    "splits", [[], [([0], [])], [([], [1])], [([True, False], [2])], [([0], [9])], [([0, 0], [2])]]
)
def test_folds_that_are_none(splits):
    with pytest.raises(QuantlabError):
        forward(splits=splits)


def test_rows_that_do_not_match_and_outcomes_that_are_not_there():
    for wrong in ({"outcome": OUTCOME.iloc[1:]}, {"outcome": OUTCOME * np.nan}, {"sample_weight": OUTCOME.iloc[1:]}):
        with pytest.raises(QuantlabError):
            forward(**wrong)
    for call in (
        lambda: check_features(FOUR[[]]), lambda: check_features(FOUR.assign(g="text")),
        lambda: check_features(FOUR.replace(2.0, np.inf)),
        lambda: check_training(FOUR, OUTCOME.fillna(0), OUTCOME * 0 - 1),
    ):  # fmt: skip
        with pytest.raises(QuantlabError):
            call()
    assert [len(f) for f in (check_features(FOUR.iloc[:0]), check_columns(FOUR.iloc[:0], ["f"]))] == [0, 0]
    assert as_scores([], FOUR.index[:0]).empty


def test_progress_is_told_before_and_after():
    steps = []
    forward(progress=lambda *step: steps.append(step))
    assert steps == [(0, 1, ""), (1, 1, "fold 0 (2020-01-02 to 2020-01-02)")]


@pytest.mark.parametrize(
    "step",
    [FillMissing(), FillMissing(0.0), RobustZ(), RobustZ(None), RankNorm(), ByDate()],
    ids=lambda step: repr(step),
)
def test_a_processor_takes_one_row_no_row_and_holes(step):
    assert step.fit(FIVE).transform(FIVE.iloc[:0]).empty
    assert step.transform(FIVE.astype("float32")).dtypes.eq("float32").all()
    assert step.fit(FIVE.iloc[:1]).transform(FIVE).index.equals(FIVE.index)
    assert step.fit(FIVE * np.nan).transform(FIVE).index.equals(FIVE.index)
    with pytest.raises(QuantlabError):
        step.fit(FIVE.iloc[:0])


def test_processors_of_nothing_and_of_one_value():
    assert FillMissing().fit(FIVE * np.nan).transform(FIVE * np.nan)["x"].tolist() == [0.0] * 5
    assert RobustZ().fit(FIVE * 0 + 7).transform(FIVE)["x"].tolist() == [0.0] * 5
    for wrong in (
        lambda: RobustZ(0.0).fit(FIVE),
        lambda: RankNorm(1).fit(FIVE),
        lambda: ByDate("median").fit(FIVE),
        chain,
        lambda: chain(FillMissing()),
    ):
        with pytest.raises(QuantlabError):
            wrong()


def test_trees_of_one_row_and_of_holes():
    one = GBMModel(num_threads=1).fit(EIGHT.iloc[:1], STEPS.iloc[:1])
    assert one.predict(EIGHT)["score"].tolist() == [0.0] * 8 and one.importance().tolist() == [0.0]
    assert len(one.predict(EIGHT.iloc[:0])) == 0 and one.history_.empty and len(grade(STEPS.iloc[:0], 5)) == 0
    blank = GBMModel(min_child_samples=1, num_threads=1).fit(EIGHT * np.nan, STEPS)
    assert np.allclose(blank.predict(EIGHT)["score"], STEPS.mean())


@pytest.mark.parametrize(
    "settings", [{"num_leaves": 1}, {"learning_rate": 0.0}, {"monotone": {"z": 1}}, {"early_stopping": 1, "purge": 1}]
)
def test_trees_that_cannot_grow(settings):
    with pytest.raises(QuantlabError):
        GBMModel(**settings).fit(EIGHT, STEPS)


def test_trees_without_rows_or_watched_by_other_columns():
    with pytest.raises(QuantlabError):
        GBMModel().fit(EIGHT.iloc[:0], STEPS.iloc[:0])
    with pytest.raises(QuantlabError):
        GBMModel().fit(EIGHT, STEPS, eval_set=(EIGHT.rename(columns={"x": "z"}), STEPS))


def paths(dates=40, names=10):
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=dates, unit="us"), [f"S{i}" for i in range(names)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(rng.normal(0, 0.01, (len(index), 12)), index, [f"path_{i:02d}" for i in range(12)]).assign(
        mood=rng.normal(size=len(index))
    )
    return X, pd.Series(rng.normal(size=len(index)), index)


@pytest.mark.parametrize(
    "settings", [{"purge": None}, {"purge": 1, "validator": "oracle"}, {"purge": 1, "encoder": "eye"}]
)
def test_a_cascade_that_cannot_be_set_up(settings):
    X, y = paths()
    with pytest.raises(QuantlabError):
        Cascade(**settings).fit(X, y)


def test_a_cascade_of_one_row_and_one_with_holes():
    X, y = paths()
    with pytest.raises(QuantlabError):
        Cascade(purge=1).fit(X.iloc[:1], y.iloc[:1])
    with pytest.raises(QuantlabError):
        return_paths(X["mood"], 1)
    holes = X.mask(X < -0.01)
    said = Cascade(purge=1, n_kernels=6, blocks=4, validator="none").fit(holes, y).predict(holes * np.nan)
    assert np.isfinite(said).all().all()
