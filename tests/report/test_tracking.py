"Tracking: what was logged comes back: numbers, figures, a model that predicts the same and says which columns it takes."

import json

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ReportError
from quantlab.models.linear import RidgeModel
from quantlab.report import tracking

pytestmark = pytest.mark.skipif(not tracking.available(), reason="mlflow is not installed")


@pytest.fixture(scope="module")
def world():
    index = pd.MultiIndex.from_product([pd.bdate_range("2020-01-01", periods=20).as_unit("us"), list("ABCDE")], names=["date", "symbol"])
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
        ids[name] = tracking.log_run("ridge", {"alpha": alpha, "kind": "ridge"}, {"ic": 0.01 * alpha, "none": None}, tags={"run": name, **tracking.made_of(X)}, store=store, **given)
    return store, ids


def test_numbers_and_hashes_come_back(world, logged):
    table = tracking.runs("ridge", logged[0]).set_index("run")
    assert table["metrics.ic"].to_dict() == {"weak": 0.01, "strong": 0.09} and "metrics.none" not in table
    assert (table["tags.data_hash"] == tracking.made_of(world[0])["data_hash"]).all() and table["tags.sources"].str.len().eq(64).all()
    assert tracking.made_of(world[0] * 2)["data_hash"] != tracking.made_of(world[0])["data_hash"]


def test_the_model_comes_back_with_its_signature(world, logged):
    X, model = world
    store, ids = logged
    pd.testing.assert_frame_equal(tracking.load_model(ids["weak"], store).predict(X), model.predict(X), check_exact=True)
    [described] = (store.with_suffix("") / ids["weak"]).rglob("MLmodel")
    import yaml

    signature = yaml.safe_load(described.read_text())["signature"]
    assert [c["name"] for c in json.loads(signature["inputs"])] == ["mom", "vol"] and [c["name"] for c in json.loads(signature["outputs"])] == ["score"]
    assert list((store.with_suffix("") / ids["weak"]).rglob("curve.png"))
    with pytest.raises(ReportError, match="has no model"):
        tracking.load_model(ids["strong"], store)


def test_a_model_without_an_example_is_refused(world, tmp_path):
    with pytest.raises(ReportError, match="example=X.head"):
        tracking.log_run("ridge", {}, {}, store=tmp_path / "s.sqlite", model=world[1])


def test_two_runs_are_compared(logged):
    table = tracking.runs("ridge", logged[0])
    side = tracking.compare(table, "weak", "str")
    assert side.index.tolist() == ["params.alpha", "metrics.ic"]
    assert side.loc["params.alpha", ["first", "second"]].tolist() == ["1.0", "9.0"] and side.loc["metrics.ic", "change"] == pytest.approx(0.08)
    same = tracking.compare(table, "weak", "weak")
    assert same.index.tolist() == ["metrics.ic"] and same["change"].tolist() == [0.0]
    for wrong in ("middle", ""):
        with pytest.raises(ReportError, match="runs are called"):
            tracking.compare(table, wrong, "weak")


def test_the_makefile_opens_the_pages():
    from quantlab.core.config import root

    assert "mlflow ui" in (root() / "Makefile").read_text()
