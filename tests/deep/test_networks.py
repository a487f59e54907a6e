"""Networks: one door to torch, the same bits twice, and torch left as it was."""

import importlib.util
import sys

import pytest

from quantlab.core.errors import ConfigError
from quantlab.deep.networks import (
    deterministic_torch,
    need_torch,
    torch_device,
)

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: run `make deep`"
)


@pytest.mark.parametrize("call", [need_torch, torch_device, lambda: deterministic_torch(1).__enter__()])
def test_without_torch_the_way_out_is_named(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        call()


def weights_of(seed: int) -> bytes:
    "Train a small net on drawn rows inside the block; return its weights, bit by bit."
    with deterministic_torch(seed) as torch:
        x = torch.randn(64, 3)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        steps = torch.optim.Adam(net.parameters())
        for _ in range(5):
            steps.zero_grad()
            (net(x[torch.randint(64, (16,))]) ** 2).mean().backward()
            steps.step()
        return b"".join(value.numpy().tobytes() for value in net.state_dict().values())


@needs_torch
def test_two_trainings_agree_to_the_last_bit_whatever_came_before():
    import torch

    one = weights_of(7)
    torch.manual_seed(99)
    torch.randn(10)
    assert weights_of(7) == one != weights_of(8)
    with deterministic_torch(3) as inner:  # a block within a block
        inner.randn(2)
        assert weights_of(7) == one


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
def test_a_device_that_is_not_there():
    assert torch_device() == "cpu" and torch_device("auto") in ("cpu", "cuda", "mps")
    for name in ("quantum", "cuda:77"):
        with pytest.raises(ConfigError, match="auto"):
            torch_device(name)
