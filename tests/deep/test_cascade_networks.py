"""The cascade's networks: a planted shape found, the same bits twice, a stop that sees only later past dates, noise
left alone, and states of an earlier version read or refused."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.state import StateError, load_state, save_state
from quantlab.deep import cascade
from quantlab.deep.cascade import Cascade, ConvEncoder, KernelEncoder, NetHeads
from quantlab.validation.inference import mean_ic

torch = pytest.importorskip("torch", reason="make deep")

NETS = dict(purge=1, blocks=4, encoder="cnn", head="net")


def planted(n_dates: int = 60, n_symbols: int = 20, seed: int = 0, signal: float = 1.0):
    "Paths with a bump somewhere; the outcome follows it where mood is positive."
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2020-01-01", periods=n_dates, unit="us"), [f"S{i:02d}" for i in range(n_symbols)]],
        names=["date", "symbol"],
    )
    n = len(index)
    steps, bump, mood = random.normal(size=(n, 20)), random.random(n) < 0.5, random.normal(size=n)
    steps[np.flatnonzero(bump)[:, None], random.integers(0, 15, n)[bump][:, None] + np.arange(5)] += 1.5
    steps -= steps.mean(axis=1, keepdims=True)
    X = pd.DataFrame(0.01 * steps, index=index, columns=[f"path_{i:02d}" for i in range(20)]).assign(mood=mood)
    return X, pd.Series(signal * np.where(mood > 0, bump - 0.5, 0) + 0.4 * random.normal(size=n), index=index)


def bits(net) -> list[bytes]:
    return [value.tobytes() for value in cascade.net_weights(net)]


def test_the_network_finds_the_shape_and_leaves_torch_as_it_was():
    X, _ = planted(200, 20)
    paths = X.filter(like="path_").to_numpy()
    target = np.array([np.convolve(row, np.ones(5), "valid").max() for row in paths])
    y = cascade._targets(target - np.median(target))
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    net = ConvEncoder(purge=1).fit(paths[:3000], y[:3000], X.index[:3000])
    assert np.corrcoef(net.predict(paths[3000:])[:, 0], target[3000:])[0, 1] > 0.6
    assert (torch.get_rng_state() == state).all() and torch.get_num_threads() == threads


def test_what_kernels_find_the_network_finds_too():
    X, _ = planted(200)
    paths = X.filter(like="path_").to_numpy()
    target = np.array([np.convolve(row, np.ones(5), "valid").max() for row in paths])
    y = cascade._targets(target - np.median(target))
    drawn = KernelEncoder(40).fit(paths[:3000], y[:3000])
    learned = ConvEncoder(purge=1).fit(paths[:3000], y[:3000], X.index[:3000])
    found = [np.corrcoef(m.predict(paths[3000:])[:, 0], target[3000:])[0, 1] for m in (drawn, learned)]
    assert found[1] > found[0] - 0.02 and min(found) > 0.6


def test_the_same_bits_twice_whatever_the_caller_did_with_torch():
    X, y = planted()
    first = Cascade(**NETS).fit(X, y)
    threads = torch.get_num_threads()
    torch.manual_seed(99)
    torch.set_num_threads(2)
    try:
        second = Cascade(**NETS).fit(X, y)
    finally:
        torch.set_num_threads(threads)
    for part in ("encoder_", "heads_"):
        assert bits(getattr(first, part).net_) == bits(getattr(second, part).net_)
    pd.testing.assert_frame_equal(first.stages(X), second.stages(X), check_exact=True)
    other = Cascade(**NETS, seed=8).fit(X, y)
    assert bits(first.encoder_.net_) != bits(other.encoder_.net_)


@pytest.mark.parametrize("purge", [1, 3])
def test_the_gap_before_the_dates_that_stop_a_training_changes_nothing(purge):
    X, y = planted()
    paths = X.filter(like="path_").to_numpy()
    date = np.arange(len(X)) // 20  # 60 dates: the last twelve are held out
    gap, held = (date < 48) & (date >= 48 - purge), date >= 48
    targets = np.column_stack([y, y > 0, y.abs()])
    fit = lambda t, **more: ConvEncoder(4, purge=purge, **more).fit(paths, t, X.index)
    plain, ruined = fit(targets), fit(np.where(gap[:, None], 9.0, targets))
    assert bits(plain.net_) == bits(ruined.net_) and plain.losses_ == ruined.losses_
    assert plain.losses_ != fit(np.where(held[:, None], 9.0, targets)).losses_
    last = [fit(t, epochs=3, patience=None) for t in (targets, np.where(held[:, None], 9.0, targets))]
    assert bits(last[0].net_) == bits(last[1].net_)  # what is held out is not learned from


@pytest.mark.parametrize("purge", [5, 21])
def test_each_net_of_a_cascade_leaves_out_the_purge_before_the_dates_that_stop_it(monkeypatch, purge):
    X, y = planted(200, 4)  # four blocks of 50 dates: 29 are left of one when 21 are purged, and 21 of these again
    cuts, real = [], cascade.hold_out

    def spy(index, share, asked):
        parts = real(index, share, asked)
        days = index.get_level_values("date")
        learned, watched = (X.index.unique("date").get_indexer(days[part][[0, -1]]) for part in parts)
        cuts.append(watched[0] - learned[1] - 1)  # sessions between what it learns and what stops it
        return parts

    monkeypatch.setattr(cascade, "hold_out", spy)
    Cascade(purge, head="net", blocks=4, validator="none", n_kernels=6).fit(X, y)
    assert len(cuts) == 2  # the heads that choose the temperature, and those that are kept
    Cascade(purge, "cnn", blocks=4, validator="none").fit(X, y)
    assert len(cuts) == 2 + 4  # a fold for each block but the first, and all of them
    assert cuts == [purge] * 6


def test_the_kept_pass_is_the_best_and_the_training_ends_after_it():
    X, y = planted(signal=0.3)
    for made in (
        ConvEncoder(4, purge=1, patience=2).fit(
            X.filter(like="path_").to_numpy(), cascade._targets(y.to_numpy()), X.index
        ),
        NetHeads(purge=1, patience=2).fit(X[["mood"]], y, None),
    ):
        assert len(made.losses_) == min(int(np.argmin(made.losses_)) + 3, made.epochs)
    all_of_them = NetHeads(purge=1, epochs=7, patience=None).fit(X[["mood"]], y, None)
    assert len(all_of_them.losses_) == 7


def test_too_few_dates_and_outcomes_without_end_are_refused():
    X, y = planted(3)
    with pytest.raises(ConfigError, match="give more dates"):
        NetHeads(purge=2).fit(X[["mood"]], y, None)
    X, y = planted(20)
    with pytest.raises(DataError, match="loss"):
        NetHeads(purge=1).fit(X[["mood"]], y * np.inf, None)


def earlier(model, changes=lambda text: text) -> io.BytesIO:
    "Write a model as an earlier version named it."
    file, other = io.BytesIO(), io.BytesIO()
    save_state(model, file)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(other, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "value.json":
                content = changes(content.replace(b"quantlab.deep.cascade:", b"quantlab.models.cascade:"))
                assert b"quantlab.models.cascade:Cascade" in content
            copy.writestr(name, content)
    return other


def test_a_cascade_kept_by_an_earlier_version_says_the_same():
    X, y = planted()
    for kind in ({}, {"encoder": "cnn", "head": "net"}):
        held = Cascade(purge=1, blocks=4, n_kernels=6, **kind).fit(X, y)
        again = load_state(earlier(held))
        assert type(again) is Cascade
        pd.testing.assert_frame_equal(again.stages(X), held.stages(X), check_exact=True)


def test_weights_of_another_net_are_refused_with_a_clear_word():
    X, y = planted()
    held = Cascade(**NETS).fit(X, y)

    def wider(content):
        return content.replace(b'["channels", 16]', b'["channels", 24]')

    with pytest.raises(StateError, match="laid out in another way; fit it again"):
        load_state(earlier(held, wider))


def test_what_a_net_is_kept_with_is_what_an_earlier_version_kept_and_more():
    X, y = planted()
    held = NetHeads(3, purge=1, epochs=3).fit(X[["mood"]], y, None)
    state = held.to_state()
    old = {"seed": 3, "inputs": state["inputs"], "scale": state["scale"], "weights": state["weights"]}
    assert np.array_equal(NetHeads.from_state(old).predict(X[["mood"]]), held.predict(X[["mood"]]))
    assert json.dumps(state["losses"])


@pytest.mark.slow
def test_noise_stays_noise_in_seventeen_worlds_of_twenty():
    inside = 0
    for seed in range(20):
        X, y = planted(100, seed=seed, signal=0.0)
        early = np.arange(len(X)) < 60 * 20
        score = Cascade(**NETS, seed=seed).fit(X[early], y[early]).predict(X[~early])["score"]
        ic = mean_ic(score, y[~early], "forward")
        inside += abs(ic.mean) < 2 * ic.se
    assert inside >= 17


@pytest.mark.slow
def test_two_stages_of_networks_find_what_one_cannot():
    X, y = planted(300)
    early = np.arange(len(X)) < 220 * 20
    said = Cascade(purge=1, encoder="cnn", head="net").fit(X[early], y[early]).stages(X[~early])
    ic = [mean_ic(said[column], y[~early], "forward").mean for column in ("score", "s1_return")]
    assert ic[0] > ic[1] + 0.02 > 0.15
