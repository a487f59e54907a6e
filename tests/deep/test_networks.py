"""Networks: one door to torch, the same bits twice, a stop on later dates, and torch left as it was."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, QuantlabError
from quantlab.deep.networks import (
    deterministic_torch,
    need_torch,
    network_scores,
    small_net,
    torch_device,
    train_network,
)

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: run `make deep`"
)


def crossed(n_dates: int = 60, n_symbols: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    "A panel whose outcome is the product of two features and noise."
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    X = pd.DataFrame(random.normal(size=(len(index), 3)), index, columns=["left", "right", "idle"])
    return X, (X["left"] * X["right"] + 0.3 * random.normal(size=len(X))).rename("y")


@pytest.mark.parametrize("call", [need_torch, torch_device, lambda: deterministic_torch(1).__enter__()])
def test_without_torch_the_way_out_is_named(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        call()


def test_a_training_without_torch_names_it_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        train_network(*crossed())


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"patience": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": np.inf}])
def test_settings_that_train_nothing_are_refused(setting):
    with pytest.raises(ConfigError, match="positive"):
        train_network(*crossed(), **setting)


def test_rows_that_cannot_be_used_are_refused():
    X, y = crossed()
    for bad in ((X.iloc[:20], y.iloc[:20]), (X.iloc[:0], y.iloc[:0]), (X, y.where(y > 0)), (X, y.iloc[:-1])):
        with pytest.raises(QuantlabError):
            train_network(*bad)
    with pytest.raises(QuantlabError):
        train_network(X, y.where(y > 0, np.inf))


@needs_torch
def test_two_trainings_agree_to_the_last_bit_whatever_came_before():
    import torch

    X, y = crossed()
    one = train_network(X, y, epochs=5)
    torch.manual_seed(99)
    torch.randn(10)
    two = train_network(X, y, epochs=5)
    assert all((a == b).all() for a, b in zip(one.weights, two.weights, strict=True))
    assert one.history.equals(two.history) and network_scores(one, X).equals(network_scores(two, X))
    other = train_network(X, y, epochs=5, seed=8)
    assert not all((a == b).all() for a, b in zip(one.weights, other.weights, strict=True))


@needs_torch
def test_torch_is_left_as_it_was_even_after_an_error():
    import torch

    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(RuntimeError), deterministic_torch(5):
        assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 1
        torch.randn(3)
        raise RuntimeError
    assert (torch.get_rng_state() == state).all() and torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@needs_torch
def test_the_best_pass_is_kept_and_found_on_later_dates_alone():
    X, y = crossed(120)
    fit = train_network(X, y, epochs=60, patience=5)
    assert fit.best == fit.history["valid"].argmin() and len(fit.history) <= fit.best + 6
    days = X.index.unique("date")
    late = X.index.get_level_values("date") >= days[96]  # a fifth of 120 dates
    error = ((network_scores(fit, X[late]) - y[late]) ** 2).mean()
    assert error == pytest.approx(fit.history["valid"].min(), rel=1e-4) and error < 0.6 * y.var()


@needs_torch
def test_rows_in_the_gap_teach_nothing():
    X, y = crossed(60)
    days = X.index.unique("date")
    gap = X.index.get_level_values("date").isin(days[44:48])
    one = train_network(X, y, purge=4, epochs=3)
    two = train_network(X.where(~gap, 1e6), y.where(~gap, -1e6), purge=4, epochs=3)
    assert all((a == b).all() for a, b in zip(one.weights, two.weights, strict=True))
    assert (one.mean == two.mean).all() and (one.scale == two.scale).all()


@needs_torch
def test_columns_by_name_and_gaps_as_the_mean():
    X, y = crossed()
    fit = train_network(X, y, epochs=3)
    assert network_scores(fit, X[["right", "idle", "left"]]).equals(network_scores(fit, X))
    holes = X.assign(left=np.nan)
    assert np.isfinite(network_scores(fit, holes)).all()
    assert np.isfinite(network_scores(fit, X.assign(left=np.inf))).all()
    assert np.isfinite(network_scores(train_network(holes, y, epochs=2), holes)).all()
    with pytest.raises(DataError, match="idle"):
        network_scores(fit, X.drop(columns="idle"))


@needs_torch
def test_a_net_of_ones_own():
    X, y = crossed()
    fit = train_network(X, y, build=lambda nn, width: nn.Linear(width, 1), epochs=50, rate=0.05)
    assert [w.shape for w in fit.weights] == [(1, 3), (1,)] and abs(fit.weights[0]).max() < 0.3
    assert len(train_network(X, y, small_net, epochs=1).weights) == 6


@needs_torch
def test_a_device_that_is_not_there():
    assert torch_device() == "cpu" and torch_device("auto") in ("cpu", "cuda", "mps")
    for name in ("quantum", "cuda:77"):
        with pytest.raises(ConfigError, match="auto"):
            torch_device(name)
