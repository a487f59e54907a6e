"The published MLP as an estimator: it learns what is planted, repeats to the last bit, and stops on later dates alone."

import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.deep.mlp import MLPModel, published_net
from quantlab.models.base import check_model
from quantlab.models.linear import RidgeModel
from quantlab.validation.scores import ic

SMALL = {"layers": (16,), "steps": 60, "batch": 64, "check_steps": 10}


def planted(n_dates: int = 100, n_symbols: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    "A panel whose outcome is the product of two features, and noise."
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    X = pd.DataFrame(rng.normal(size=(len(index), 3)), index, columns=["left", "right", "idle"])
    return X, (0.01 * (X["left"] * X["right"] + 0.3 * rng.normal(size=len(X)))).rename("y")


def test_without_torch_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        MLPModel(**SMALL).fit(*planted())


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"batch": 1}, {"patience": 0}, {"check_steps": 0}, {"threads": 0}, {"rate": 0.0},
        {"rate": np.inf}, {"weight_decay": -1.0}, {"dropout": 1.0}, {"layers": ()}, {"layers": (4, 0)}, {"purge": 99},
        {"purge": None}, {"clip": 0.0},
    ],
)  # fmt: skip
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        MLPModel(**SMALL | wrong).fit(*planted())


def test_weights_that_leave_nothing_to_learn_from_are_refused():
    X, y = planted()
    late = X.index.get_level_values("date") >= X.index.unique("date")[80]
    with pytest.raises(DataError, match="weight 0"):
        MLPModel(**SMALL).fit(X, y, pd.Series(late.astype(float), X.index))


class TestWithTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="make deep")

    def test_the_contract_of_the_room(self):
        X, y = planted(50)
        assert (check_model(MLPModel(**SMALL), X, y) == "pass").all()

    def test_it_learns_what_a_straight_line_cannot(self):
        X, y = planted(200)
        early = X.index.get_level_values("date") < X.index.unique("date")[150]
        told = MLPModel(layers=(32,), steps=600, batch=256, patience=20).fit(X[early], y[early]).predict(X[~early])
        line = RidgeModel().fit(X[early], y[early]).predict(X[~early])
        best = ic(X["left"][~early] * X["right"][~early], y[~early]).mean()
        assert ic(told["score"], y[~early]).mean() > 0.8 * best and abs(ic(line["score"], y[~early]).mean()) < 0.1

    def test_another_seed_is_another_net(self):
        X, y = planted()
        one, two, other = (MLPModel(**SMALL, seed=seed).fit(X, y).predict(X) for seed in (1, 1, 2))
        assert one.equals(two) and not one.equals(other)

    def test_it_stops_on_later_dates_and_keeps_the_best_look(self):
        X, y = planted()
        model = MLPModel(layers=(16,), steps=2000, batch=64, check_steps=5, patience=4).fit(X, y)
        assert model.best_ == model.history_["valid"].idxmin() and len(model.history_) < 400
        late = X.index.get_level_values("date") >= X.index.unique("date")[80]
        said = (model.predict(X[late])["score"] - y[late]) / model.spread_
        assert (said**2).mean() == pytest.approx(model.history_["valid"].min(), rel=1e-3)

    def test_rows_in_the_gap_and_their_weights_teach_nothing(self):
        X, y = planted(60)
        gap = X.index.get_level_values("date").isin(X.index.unique("date")[44:48])
        moved, other = X.copy(), y.copy()
        moved.loc[gap], other.loc[gap] = 1e6, -1e6
        one, two = (MLPModel(**SMALL, purge=4).fit(*given) for given in ((X, y), (moved, other)))
        assert all((a == b).all() for a, b in zip(one.weights_, two.weights_, strict=True))
        assert (one.center_, one.spread_) == (two.center_, two.spread_)

    def test_weights_move_what_is_learned(self):
        X, y = planted()
        one = MLPModel(**SMALL).fit(X, y, pd.Series(1.0, X.index)).predict(X)
        two = MLPModel(**SMALL).fit(X, y, pd.Series(np.arange(len(X)) % 2, X.index, dtype="float64")).predict(X)
        assert one.equals(MLPModel(**SMALL).fit(X, y).predict(X)) and not one.equals(two)

    def test_inputs_without_dispersion_give_finite_scores(self):
        X, y = planted(40)
        for given, came in ((X.assign(idle=1.0), y), (X.assign(idle=np.nan), y), (X, y * 0 + 3.0)):
            assert np.isfinite(MLPModel(**SMALL).fit(given, came).predict(given)["score"]).all()
        with pytest.raises(PanelError):
            MLPModel(**SMALL).fit(X, y).predict(X.drop(columns="idle"))

    def test_the_net_has_the_published_layers(self):
        import torch

        net = published_net(torch.nn, 157)
        assert [type(part).__name__ for part in net] == [
            "Dropout", "Linear", "BatchNorm1d", "LeakyReLU", "Dropout", "Linear",
        ]  # fmt: skip
        assert net[0].p == 0.05 and net[3].negative_slope == 0.1 and net[1].out_features == 256
        two = published_net(torch.nn, 4, (8, 3))
        assert [p.out_features for p in two if isinstance(p, torch.nn.Linear)] == [8, 3, 1]
