"""The law of this room: every kind that is fitted says the same to the last digit after it was written, and read by
a process that knows nothing."""

import importlib
import io
import json
import pkgutil
import subprocess
import sys
import warnings
import zipfile
from functools import cache
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import quantlab
from quantlab.core.config import root
from quantlab.core.state import _KNOWN, StateError, load_state, save_state
from quantlab.deep.cascade import Cascade, ConvEncoder, KernelEncoder, NetHeads, TreeHeads
from quantlab.deep.mlp import MLPModel
from quantlab.deep.sequences import SequenceModel, panel_windows
from quantlab.deep.tft import TFT
from quantlab.models.base import as_scores, check_model, walk_forward
from quantlab.models.ensemble import Ensemble, SeedAverage
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import FamaMacBeth, RidgeModel
from quantlab.models.processors import ByDate, FillMissing, RankNorm, RobustZ, chain
from quantlab.models.quantile import QuantileModel
from quantlab.recipe.parts import make_model
from quantlab.regime.changepoint import ChangePoint, KernelCut
from quantlab.regime.hmm import HMM
from quantlab.regime.jump import JumpModel
from quantlab.regime.markov import MarkovSwitching
from quantlab.regime.penalty import Choice
from quantlab.report.checks import MODELS
from quantlab.validation.calibration import TemperatureScaling
from quantlab.validation.inference import Moments

for module in pkgutil.walk_packages(quantlab.__path__, "quantlab."):
    if module.name.startswith(("quantlab.models.", "quantlab.regime.", "quantlab.backtest.")):
        importlib.import_module(module.name)

TREES = {"n_estimators": 6, "min_child_samples": 5, "num_threads": 1}
NEEDS = {"xgboost": find_spec("xgboost"), "torch": find_spec("torch"), "qlib": find_spec("qlib")}


def panel(seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=60).as_unit("us"), [f"S{i:02d}" for i in range(12)]],
        names=["date", "symbol"],
    )
    X = pd.DataFrame(rng.normal(size=(len(index), 6)), index, ["a", "b", "c", "path_00", "path_01", "path_02"])
    return X.mask(X > 2.3), pd.Series(X["a"] + rng.normal(size=len(X)), index)


X, Y = panel()
FULL = X.fillna(0.0)
PATHS = FULL[["path_00", "path_01", "path_02"]].to_numpy()
TARGETS = np.column_stack([Y, Y > 0, Y.abs()])
PROB = pd.DataFrame({"prob": 1 / (1 + np.exp(-FULL["a"]))})
MARKET = pd.DataFrame(
    {"return": FULL["a"].to_numpy()[:200], "vol": FULL["b"].to_numpy()[:200]},
    pd.bdate_range("2020-01-01", periods=200, name="date"),
)


def sk(path: str, *args, **given):
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(f"sklearn.{module}"), name)(*args, **given)


def qlib_model(path: str, processors=(), **settings):
    from quantlab.models.qlib import QlibModel

    return QlibModel(
        f"qlib.contrib.model.{path}",
        settings,
        [{"class": name, "kwargs": dict(kwargs)} for name, kwargs in processors],
        valid=0.2,
    )


FEATURES = {"fields_group": "feature"}
QLIB_TREES = {
    "num_boost_round": 8,
    "early_stopping_rounds": 5,
    "num_threads": 1,
    "seed": 3,
    "deterministic": True,
    "force_col_wise": True,
    "min_data_in_leaf": 5,
}
PANELS = {  # label -> unfitted, asked by predict on a panel
    "quantlab.models.linear:RidgeModel": lambda: RidgeModel(2.0),
    "quantlab.models.linear:FamaMacBeth": lambda: FamaMacBeth(2),
    "quantlab.models.gbm:GBMModel": lambda: GBMModel(**TREES, monotone={"a": 1}),
    "gbm stopped early": lambda: GBMModel(**{**TREES, "n_estimators": 60}, early_stopping=3, purge=2),
    "quantlab.models.quantile:QuantileModel": lambda: QuantileModel(GBMModel(**TREES), (0.1, 0.5, 0.9)),
    "quantlab.models.ensemble:Ensemble": lambda: Ensemble({"r": RidgeModel(), "t": GBMModel(**TREES)}, seeds=2,
    share=0.5, purge=2),
    "quantlab.models.ensemble:SeedAverage": lambda: SeedAverage(GBMModel(**TREES), seeds=2),
    "quantlab.deep.cascade:Cascade": lambda: Cascade(purge=1, n_kernels=6, blocks=4),
    "quantlab.models.processors:Chain": lambda: chain(RobustZ(), RankNorm(20), FillMissing(), ByDate("zscore"),
    RidgeModel()),
    "xgboost.sklearn:XGBClassifier": lambda: Cascade(purge=1, n_kernels=6, blocks=4, validator="xgboost"),
    "torch": lambda: Cascade(purge=1, blocks=4, encoder="cnn", head="net"),
    "quantlab.deep.sequences:SequenceModel": lambda: SequenceModel("tcn", 3, 4, epochs=2, purge=2),
    "torch, windows held once": lambda: SequenceModel("gru", 3, 4, panel_windows(X, 3), epochs=2, purge=2),
    "quantlab.deep.tft:TFT": lambda: TFT(2, 4, 3, 1, 1, calendar="1111100"),
    "quantlab.deep.mlp:MLPModel": lambda: MLPModel((4,), steps=20, batch=32, purge=2),
    "quantlab.models.qlib:QlibModel": lambda: qlib_model("gbdt.LGBModel", **QLIB_TREES),
    "qlib.contrib.model.linear:LinearModel": lambda: qlib_model("linear.LinearModel",
    [("RobustZScoreNorm", FEATURES), ("CSRankNorm", FEATURES), ("Fillna", FEATURES)]),
    **{f"make_model({name!r})": lambda name=name: make_model(name, 2, settings=TREES) for name in MODELS},
}  # fmt: skip
INSIDE = {  # label -> the kind whose test covers it
    "lightgbm.basic:Booster": "quantlab.models.gbm:GBMModel", "hmmlearn.hmm:GaussianHMM": "quantlab.regime.hmm:HMM",
    "qlib.contrib.model.gbdt:LGBModel": "quantlab.models.qlib:QlibModel",
    "sklearn.pipeline:Pipeline": "quantlab.models.linear:RidgeModel",
    "quantlab.deep.sequences:Windows": "torch, windows held once",
}  # fmt: skip


def panel_state(make):
    fitted = make().fit(X, Y)
    return fitted, lambda model: model.predict(X)


def table_state(make, target):
    fitted = make().fit(FULL.to_numpy(), target)
    ask = next(word for word in ("predict_proba", "predict", "transform") if hasattr(fitted, word))
    return fitted, lambda model: getattr(model, ask)(FULL.to_numpy())


def hmm_state():
    fitted = HMM(2, n_iter=20, n_starts=1).fit(MARKET)
    return fitted, lambda model: pd.concat(
        [model.filter(MARKET).probabilities, model.smooth(MARKET).probabilities], axis=1
    )


def detector_state(model, X=None):
    X = MARKET.iloc[:, :1] if X is None else X
    return model.fit(X), lambda held: pd.concat([held.filter(X).probabilities, held.smooth(X).probabilities], axis=1)


def choice_state():
    known = HMM(2, n_iter=5, n_starts=1).fit(MARKET).filter(MARKET)
    dates = MARKET.index
    earned = pd.DataFrame({"1.0": 0.01, "5.0": np.nan}, dates)
    made = Choice(known, pd.Series(1.0, dates), earned, {5.0: "no state has rows"})
    return made, lambda held: held.earned.assign(chosen=held.chosen, why=str(held.failed)).join(
        held.filtered.probabilities
    )


def regime_state(name):
    found = getattr(HMM(2, n_iter=5, n_starts=1).fit(MARKET), name)(MARKET)
    return found, lambda held: held.probabilities.assign(
        timing=str(held.probabilities.attrs), to=getattr(held, "trained_to", None)
    )


def processor_state(name):
    processor = importlib.import_module("qlib.data.dataset.processor")
    given = (
        {"fit_start_time": X.index[0][0], "fit_end_time": X.index[-1][0]}
        if name in ("MinMaxNorm", "ZScoreNorm", "RobustZScoreNorm")
        else {}
    )
    given |= {"col_list": ["a"]} if name in ("DropCol", "FilterCol") else {}
    frame = pd.concat({"feature": FULL, "label": Y.to_frame("LABEL0")}, axis=1).rename_axis(["datetime", "instrument"])
    fitted = getattr(processor, name)(**given)
    fitted.fit(frame)
    return fitted, lambda held: held(frame.copy())


OTHERS = {
    "quantlab.models.processors:FillMissing": lambda: (FillMissing().fit(X), lambda held: held.transform(X)),
    "quantlab.models.processors:RobustZ": lambda: (RobustZ().fit(X), lambda held: held.transform(X)),
    "quantlab.models.processors:RankNorm": lambda: (RankNorm(20).fit(X), lambda held: held.transform(X)),
    "quantlab.models.processors:ByDate": lambda: (ByDate("rank").fit(X), lambda held: held.transform(X)),
    "quantlab.deep.cascade:KernelEncoder": lambda: (
        KernelEncoder(8).fit(PATHS, TARGETS),
        lambda held: held.predict(PATHS),
    ),
    "quantlab.deep.cascade:ConvEncoder": lambda: (
        ConvEncoder(4, 2, purge=1).fit(PATHS, TARGETS, X.index),
        lambda held: held.predict(PATHS),
    ),
    "quantlab.deep.cascade:TreeHeads": lambda: (TreeHeads().fit(FULL, Y, None), lambda held: held.predict(FULL)),
    "quantlab.deep.cascade:NetHeads": lambda: (NetHeads().fit(FULL, Y, None), lambda held: held.predict(FULL)),
    "quantlab.validation.calibration:TemperatureScaling": lambda: (
        TemperatureScaling().fit(PROB, (Y > 0) * 1.0),
        lambda held: held.predict(PROB),
    ),
    "quantlab.validation.inference:Moments": lambda: (Moments(3, 0.1, np.nan, 3.0), lambda held: np.array(held)),
    "quantlab.regime.hmm:HMM": hmm_state,
    "quantlab.regime.markov:MarkovSwitching": lambda: detector_state(MarkovSwitching(order=1)),
    "quantlab.regime.jump:JumpModel": lambda: detector_state(JumpModel(penalty=1.0), MARKET),
    "quantlab.regime.penalty:Choice": choice_state,
    "quantlab.regime.changepoint:ChangePoint": lambda: detector_state(ChangePoint()),
    "quantlab.regime.changepoint:KernelCut": lambda: detector_state(KernelCut()),
    "quantlab.regime.base:Filtered": lambda: regime_state("filter"),
    "quantlab.regime.base:Smoothed": lambda: regime_state("smooth"),
    "sklearn.linear_model._base:LinearRegression": lambda: table_state(lambda: sk("linear_model.LinearRegression"), Y),
    "sklearn.linear_model._ridge:Ridge": lambda: table_state(lambda: sk("linear_model.Ridge", 2.0), Y),
    "sklearn.linear_model._coordinate_descent:Lasso": lambda: table_state(lambda: sk("linear_model.Lasso", 0.01), Y),
    "sklearn.linear_model._coordinate_descent:ElasticNet": lambda: table_state(
        lambda: sk("linear_model.ElasticNet", 0.01), Y
    ),
    "sklearn.linear_model._logistic:LogisticRegression": lambda: table_state(
        lambda: sk("linear_model.LogisticRegression"), Y > 0
    ),
    "sklearn.linear_model._huber:HuberRegressor": lambda: table_state(lambda: sk("linear_model.HuberRegressor"), Y),
    "sklearn.preprocessing._data:StandardScaler": lambda: table_state(lambda: sk("preprocessing.StandardScaler"), None),
    "sklearn.preprocessing._data:RobustScaler": lambda: table_state(lambda: sk("preprocessing.RobustScaler"), None),
    "sklearn.preprocessing._data:QuantileTransformer": lambda: table_state(
        lambda: sk("preprocessing.QuantileTransformer", n_quantiles=20, random_state=0), None
    ),
    "sklearn.preprocessing._label:LabelBinarizer": lambda: (
        sk("preprocessing.LabelBinarizer").fit(Y > 0),
        lambda held: held.transform(Y > 0),
    ),
    "sklearn.impute._base:SimpleImputer": lambda: (
        sk("impute.SimpleImputer", strategy="median").fit(X.to_numpy()),
        lambda held: held.transform(X.to_numpy()),
    ),
    "sklearn.decomposition._pca:PCA": lambda: table_state(lambda: sk("decomposition.PCA", 3), None),
    "sklearn.neural_network._multilayer_perceptron:MLPClassifier": lambda: table_state(
        lambda: sk("neural_network.MLPClassifier", (4,), max_iter=20, random_state=0), Y > 0
    ),
    "sklearn.neural_network._multilayer_perceptron:MLPRegressor": lambda: table_state(
        lambda: sk("neural_network.MLPRegressor", hidden_layer_sizes=(4,), max_iter=20, random_state=0), Y
    ),
    **{
        label: lambda label=label: processor_state(label.split(":")[1])
        for label in _KNOWN
        if label.startswith("qlib.data.dataset.processor:")
    },
}
KINDS = {**{label: lambda make=make: panel_state(make) for label, make in PANELS.items()}, **OTHERS}


def lacking(label: str) -> str:
    "Name the extra that a kind needs and that is not installed."
    words = {
        "xgboost": "xgboost",
        "torch": "torch",
        "MLPModel": "torch",
        "ConvEncoder": "torch",
        "NetHeads": "torch",
        "SequenceModel": "torch",
        "TFT": "torch",
        "qlib": "qlib",
        "Qlib": "qlib",
    }
    return next((library for word, library in words.items() if word in label and NEEDS[library] is None), "")


def equal(one, two) -> bool:
    return (
        one.equals(two)
        if isinstance(one, pd.DataFrame)
        else np.array_equal(np.asarray(one), np.asarray(two), equal_nan=True)
    )


def test_every_kind_that_is_known_has_its_case():
    ours = {
        label
        for label in _KNOWN
        if label.startswith(("quantlab.", "sklearn.", "lightgbm.", "hmmlearn.", "xgboost.", "qlib."))
        and not label.startswith("quantlab.ops.")  # a recipe with its fits: tests/ops/test_fitted_recipe.py
        and not label.startswith("quantlab.strategy.")  # agents are no models: tests/strategy/test_agent.py
    }
    assert ours - set(KINDS) - set(INSIDE) == set()
    assert set(INSIDE.values()) <= set(KINDS)


READER = """
import sys
from pathlib import Path
from quantlab.core.state import load_state, save_state
for file in sorted(Path(sys.argv[1]).glob("*.zip")):
    with file.open("rb") as source:
        held = load_state(source)
    answer = held["model"].predict(held["ask"])
    with file.with_suffix(".answer").open("wb") as target:
        save_state(answer, target)
"""


@cache
def written(label: str) -> tuple:  # fitted, how it is asked, the file
    "Fit a kind once and write it."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # twenty steps do not converge
        held, ask = KINDS[label]()
    file = io.BytesIO()
    save_state(held, file)
    return held, ask, file.getvalue()


def slow(label: str) -> object:
    "Leave to the slow run what another case covers, and Qlib's long list."
    return (
        pytest.param(label, marks=pytest.mark.slow)
        if label.startswith(("make_model", "qlib.", "quantlab.models.qlib"))
        else label
    )


@pytest.mark.parametrize("label", map(slow, KINDS))
def test_says_the_same_to_the_last_digit(label):
    if lacking(label):
        pytest.skip(f"the extra with {lacking(label)} is not installed")
    held, ask, content = written(label)
    again = load_state(io.BytesIO(content))
    assert type(again) is type(held) and equal(ask(held), ask(again))
    if hasattr(held, "importance"):
        pd.testing.assert_series_equal(held.importance(), again.importance(), check_exact=True)


@pytest.mark.parametrize(
    "labels",
    [
        ["quantlab.models.processors:Chain", "quantlab.models.gbm:GBMModel"],
        pytest.param(list(PANELS), marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_a_process_that_knows_nothing_reads_them(tmp_path, labels):
    asked = {label: written(label) for label in labels if not lacking(label)}
    for number, (held, _, _) in enumerate(asked.values()):
        with (tmp_path / f"{number:02d}.zip").open("wb") as file:
            save_state({"model": held, "ask": X}, file)
    done = subprocess.run([sys.executable, "-c", READER, str(tmp_path)], cwd=root(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for number, (held, ask, _) in enumerate(asked.values()):
        with (tmp_path / f"{number:02d}.answer").open("rb") as file:
            pd.testing.assert_frame_equal(load_state(file), ask(held), check_exact=True)


class Forest(RidgeModel):
    "A model whose learned part only a pickle can carry."

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.forest_ = RandomForestRegressor(5, max_depth=3, random_state=0, n_jobs=1).fit(
            X.fillna(0.0)[list(self.coef_.index)], y, sample_weight
        )
        return self

    def predict(self, X):
        score = super().predict(X)
        return as_scores(self.forest_.predict(X.fillna(0.0)[list(self.coef_.index)]), X.index) if len(X) else score


def test_the_suite_says_which_models_cannot_be_kept():
    found = check_model(Forest(), X, Y)
    assert found.drop("survives save and load").eq("pass").all()
    assert (
        found["survives save and load"]
        == "not kept: a sklearn.ensemble._forest:RandomForestRegressor cannot be kept; "
        "it is not among the classes that keepable knows"
    )
    assert check_model(RidgeModel(), X, Y).eq("pass").all()


class Forgets(RidgeModel):
    "It is written without what it learned last."

    def to_state(self):
        return {
            "alpha": self.alpha,
            "pipeline": self.pipeline_,
            "coef": self.coef_ * (1 + 1e-15),
            "intercept": self.intercept_,
        }

    @classmethod
    def from_state(cls, held):
        made = cls(held["alpha"])
        made.pipeline_, made.coef_, made.intercept_ = held["pipeline"], held["coef"], held["intercept"]
        return made

    def predict(self, X):
        return super().predict(X) + self.coef_.sum()


def forged(model, **changes) -> io.BytesIO:
    "Write a model whose description was changed by hand."
    file = io.BytesIO()
    save_state(model, file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    said = json.loads(entries["value.json"])
    items = said["value"]["state"]["items"]
    said["value"]["state"]["items"] = [[k, v] for k, v in items if k not in changes] + [
        [k, v] for k, v in changes.items()
    ]
    entries["value.json"] = json.dumps(said)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return other


@pytest.mark.skipif(NEEDS["qlib"] is None, reason="the extra qlib is not installed")
def test_a_file_makes_qlib_make_nothing():
    "Qlib makes what a configuration names and unpickles what it points to; nothing of that comes from a file."
    model = qlib_model("linear.LinearModel", [("Fillna", FEATURES)]).fit(FULL, Y)
    assert load_state(forged(model)).predict(FULL).equals(model.predict(FULL))
    evil = {"is": "dict", "items": [["class", "system"], ["module_path", "os"]]}
    for change in (
        {"path": "os.system"},
        {"processors": [evil]},
        {"learn": ["file:///tmp/planted.pkl"]},
        {"processors_": [evil]},
        {"processors_": ["file:///tmp/planted.pkl"]},
        {"predict": 1},
    ):
        with pytest.raises(StateError):
            load_state(forged(model, **change)).predict(FULL)


@pytest.mark.parametrize(
    "pipeline",
    [chain(FillMissing(), RidgeModel()), make_pipeline(StandardScaler(), Ridge())],
    ids=lambda p: type(p).__name__,
)
def test_a_pipeline_with_a_memory_is_neither_kept_nor_read(tmp_path, pipeline):
    "scikit-learn keeps a pipeline's memory as pickles, and opens them at the next fit."
    with pytest.raises(StateError, match="memory"):
        load_state(forged(pipeline, memory=str(tmp_path)))
    with pytest.raises(StateError, match="memory"):
        save_state(clone(pipeline).set_params(memory=str(tmp_path)), io.BytesIO())


def test_the_suite_finds_a_model_that_comes_back_as_another():
    with pytest.raises(ValueError, match="survives save and load"):
        check_model(Forgets(), X, Y)


def blocks() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.arange(s * 12), np.arange(s * 12, (s + 10) * 12)) for s in (30, 40, 50)]


def test_a_model_that_cannot_be_kept_is_fitted_again_and_named(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="RandomForestRegressor cannot be kept.*computed again"):
        run = walk_forward(Forest(), X, Y, blocks(), resume=True)
    assert not list(tmp_path.iterdir())
    pd.testing.assert_frame_equal(run.predictions, walk_forward(Forest(), X, Y, blocks()).predictions)


@pytest.mark.parametrize(
    "held",
    [1, ("model", pd.DataFrame({"score": [1.0]})), (RidgeModel(), pd.DataFrame({"score": [1.0]}))],
    ids=["number", "text", "other rows"],
)
def test_a_fold_that_is_none_is_fitted_again(tmp_path, monkeypatch, held):
    "Whatever lies under a fold's key: only its model with its rows is taken."
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    undisturbed = walk_forward(RidgeModel(), X, Y, blocks(), resume=True).predictions
    for file in tmp_path.glob("*.zip"):
        with file.open("rb") as source:
            key = json.loads(zipfile.ZipFile(source).read("value.json"))["key"]
        with file.open("wb") as target:
            save_state(held, target, key)
    pd.testing.assert_frame_equal(walk_forward(RidgeModel(), X, Y, blocks(), resume=True).predictions, undisturbed)


class Mine(RidgeModel):
    "A class of the caller's own, named nowhere."


def test_a_class_in_the_caller_s_hand_may_be_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    first = walk_forward(Mine(3.0), X, Y, blocks(), resume=True)
    assert len(list(tmp_path.glob("*.zip"))) == 3
    monkeypatch.setattr(Mine, "__init__", RidgeModel.__init__)
    again = walk_forward(Mine(3.0), X, Y, blocks(), resume=True)
    assert all(type(model) is Mine for model in again.models) and again.predictions.equals(first.predictions)
    with pytest.raises(StateError, match="Mine cannot be kept"):
        save_state(first.models[0], io.BytesIO())


def test_a_pipeline_of_scikit_learn_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    model = make_pipeline(StandardScaler(), Ridge())
    first = walk_forward(model, FULL, Y, blocks(), resume=True)
    assert len(list(tmp_path.glob("*.zip"))) == 3
    assert walk_forward(model, FULL, Y, blocks(), resume=True).predictions.equals(first.predictions)
