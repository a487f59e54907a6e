"""Tracking: what was logged comes back: numbers, figures, a model that predicts the same and says which columns it
takes."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ReportError
from quantlab.core.state import save_state
from quantlab.models.linear import RidgeModel
from quantlab.report import tracking

pytestmark = pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")


@pytest.fixture(scope="module")
def world():
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=20).as_unit("us"), list("ABCDE")], names=["date", "symbol"]
    )
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), index=index, columns=["mom", "vol"])
    return X, RidgeModel().fit(X, X["mom"].rename("y"))


@pytest.fixture(scope="module")
def logged(world, tmp_path_factory):
    from matplotlib.figure import Figure

    folder, (X, model), drawn = tmp_path_factory.mktemp("tracking"), world, Figure()
    drawn.subplots().plot([1, 2])
    store, ids = folder / "mlflow.sqlite", {}
    for name, alpha in {"weak": 1.0, "strong": 9.0}.items():
        given = {"figures": {"curve": drawn}, "model": model, "example": X.head(10)} if name == "weak" else {}
        ids[name] = tracking.log_run(
            "ridge",
            {"alpha": alpha, "kind": "ridge"},
            {"ic": 0.01 * alpha, "none": None},
            tags={"run": name, **tracking.made_of(X)},
            store=store,
            **given,
        )
    return store, ids


def test_numbers_and_hashes_come_back(world, logged):
    table = tracking.runs("ridge", logged[0]).set_index("run")
    assert table["metrics.ic"].to_dict() == {"weak": 0.01, "strong": 0.09} and "metrics.none" not in table
    assert (table["tags.data_hash"] == tracking.made_of(world[0])["data_hash"]).all() and table[
        "tags.sources"
    ].str.len().eq(64).all()
    assert tracking.made_of(world[0] * 2)["data_hash"] != tracking.made_of(world[0])["data_hash"]


def test_the_model_comes_back_with_its_signature(world, logged):
    X, model = world
    store, ids = logged
    pd.testing.assert_frame_equal(
        tracking.load_model(ids["weak"], store).predict(X), model.predict(X), check_exact=True
    )
    [described] = (store.with_suffix("") / ids["weak"]).rglob("MLmodel")
    import yaml

    signature = yaml.safe_load(described.read_text())["signature"]
    assert [c["name"] for c in json.loads(signature["inputs"])] == ["mom", "vol"] and [
        c["name"] for c in json.loads(signature["outputs"])
    ] == ["score"]
    assert list((store.with_suffix("") / ids["weak"]).rglob("curve.png"))
    with pytest.raises(ReportError, match="has no model"):
        tracking.load_model(ids["strong"], store)


def test_a_model_without_an_example_is_refused(world, tmp_path):
    with pytest.raises(ReportError, match="example=X.head"):
        tracking.log_run("ridge", {}, {}, store=tmp_path / "s.sqlite", model=world[1])


def test_two_runs_are_compared(logged):
    table = tracking.runs("ridge", logged[0])
    side = tracking.compare_runs(table, "weak", "str")
    assert side.index.tolist() == ["params.alpha", "metrics.ic"]
    assert side.loc["params.alpha", ["first", "second"]].tolist() == ["1.0", "9.0"] and side.loc[
        "metrics.ic", "change"
    ] == pytest.approx(0.08)
    same = tracking.compare_runs(table, "weak", "weak")
    assert same.index.tolist() == ["metrics.ic"] and same["change"].tolist() == [0.0]
    for wrong in ("middle", ""):
        with pytest.raises(ReportError, match="runs are called"):
            tracking.compare_runs(table, wrong, "weak")


def test_the_makefile_opens_the_pages():
    from quantlab.core.config import root

    assert "mlflow ui" in (root() / "Makefile").read_text()


class Trap:
    "Unpickled, it leaves a file."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_no_pickle_in_the_store_is_opened(logged, tmp_path):
    "Planted beside the model, in its place, and named in its description as MLflow's own pickles are."
    store, ids = logged
    [folder] = {file.parent for file in (store.with_suffix("") / ids["weak"]).rglob("MLmodel")}
    assert {file.name for file in folder.iterdir()} == {"MLmodel", "model.zip"}
    whole, described, mark = (folder / "model.zip").read_bytes(), (folder / "MLmodel").read_text(), tmp_path / "ran"
    try:
        for name in ("model.pkl", "python_model.pkl", "model.zip"):
            (folder / name).write_bytes(pickle.dumps(Trap(mark)))
        flavours = (
            "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
            "    model_path: model.pkl\n  sklearn:\n"
            "    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"
        )
        (folder / "MLmodel").write_text(flavours)
        with pytest.raises(ReportError, match="cannot be used: it cannot be read"):
            tracking.load_model(ids["weak"], store)
        (folder / "model.zip").unlink()
        with pytest.raises(ReportError, match="stored as a pickle, which is never opened"):
            tracking.load_model(ids["weak"], store)
        for content, text in (
            (whole[:-30], "cannot be used"),
            (state_of([1]), "another kind of state"),
            (state_of({"model": 1, "example": 2, "scores": 3}), "another kind of state"),
        ):
            (folder / "model.zip").write_bytes(content)
            with pytest.raises(ReportError, match=text):
                tracking.load_model(ids["weak"], store)
    finally:
        for name in ("model.pkl", "python_model.pkl"):
            (folder / name).unlink(missing_ok=True)
        (folder / "model.zip").write_bytes(whole)
        (folder / "MLmodel").write_text(described)
    assert not mark.exists() and tracking.load_model(ids["weak"], store) is not None


def state_of(value) -> bytes:
    file = io.BytesIO()
    save_state(value, file)
    return file.getvalue()


def test_a_model_that_says_something_else_than_it_did_is_refused(world, logged):
    (X, model), (store, ids) = world, logged
    [file] = (store.with_suffix("") / ids["weak"]).rglob("model.zip")
    whole = file.read_bytes()
    try:
        file.write_bytes(
            state_of({"model": model, "example": X.head(10), "scores": model.predict(X.head(10)) * (1 + 1e-6)})
        )
        with pytest.raises(ReportError, match="says something else than when it was stored"):
            tracking.load_model(ids["weak"], store)
    finally:
        file.write_bytes(whole)


class Holds(RidgeModel):
    "A class that no file may name, unless its reader holds it."


def test_a_class_of_one_s_own_comes_back_to_who_holds_it(world, tmp_path):
    X, _ = world
    model, store = Holds().fit(X, X["mom"].rename("y")), tmp_path / "s.sqlite"
    run_id = tracking.log_run("own", {}, {}, store=store, model=model, example=X.head())
    assert tracking.load_model(run_id, store, known=[Holds]).predict(X).equals(model.predict(X))
    with pytest.raises(ReportError, match="not among the classes that keepable knows"):
        tracking.load_model(run_id, store)
    model.helper_ = print
    with pytest.raises(ReportError, match="Holds cannot be stored: a builtin_function_or_method cannot be kept"):
        tracking.log_run("own", {}, {}, store=store, model=model, example=X.head())
    assert len(tracking.runs("own", store)) == 1, "no half run"


def test_a_store_without_a_suffix_keeps_its_files_beside_it(tmp_path):
    store, note = tmp_path / "tracking", tmp_path / "note.txt"
    note.write_text("kept")
    tracking.log_run("plain", {"alpha": 1}, {"ic": 0.5}, artifacts=[note], store=store)
    kept = list(tmp_path.glob("tracking.artifacts/**/note.txt"))
    assert store.is_file() and [file.read_text() for file in kept] == ["kept"]
