"The learned maker: the same to the last bit, within what it has seen, and judged like any other."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep import learned
from quantlab.deep.learned import (
    MAKERS,
    area_lead,
    beats_yardstick,
    before_window,
    fit_learned_market,
    from_normal,
    noise_levels,
    to_normal,
)
from quantlab.deep.passes import net_weights
from quantlab.deep.realism import ClassifierTest, classifier_test


def world(n: int = 400, rho: float = 0.7) -> pd.DataFrame:
    z = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)
    return pd.DataFrame(0.01 * z, pd.bdate_range("2000-01-03", periods=n, name="date"), ["A", "B"])


def test_ranks_to_a_normal_and_back():
    x = np.random.default_rng(1).standard_t(3, (300, 2))
    z, table, scores = to_normal(x)
    assert from_normal(z, table, scores) == pytest.approx(x) and abs(z.mean()) < 1e-12
    assert (from_normal(np.array([[-9.0, 9.0]]), table, scores) == [[x[:, 0].min(), x[:, 1].max()]]).all()


def test_noise_grows_and_what_came_before_is_told():
    left = noise_levels(10)
    assert len(left) == 10 and (np.diff(left) < 0).all() and 0 < left.min() and left.max() < 1
    z = np.zeros((1, 25, 2))
    z[0, -1] = 2.0
    told = before_window(z)[0]
    assert told[0] > told[1] > told[2] and told[3:].tolist() == [2, 2]


def asked(by_path: list[float], blocks: list[float], se: float = 0.05) -> ClassifierTest:
    area = float(np.mean(by_path))
    return ClassifierTest(area, se, 0.5, 88, pd.Series(dtype=float), np.array(by_path), area + np.array(blocks))


def test_the_verdict_needs_two_errors_no_copies_and_no_gap():
    rows = pd.DataFrame({"gap": 0.0, "gap_se": 0.01, "copied_p": 0.5}, ["learned", "vine"])
    luck = [0.02, -0.03, 0.01, 0.0]
    tests = {"learned": asked([0.50, 0.60], luck), "vine": asked([0.57, 0.68], luck)}
    assert beats_yardstick(rows, tests).startswith("learned beats vine")
    assert "does not" in beats_yardstick(rows, tests, "vine", "learned")
    assert "copies" in beats_yardstick(rows.assign(copied_p=0.001), tests)
    uneven = tests | {"vine": asked([0.50, 0.75], luck)}
    assert "no lower by two errors" in beats_yardstick(rows, uneven)
    assert "forecast" in beats_yardstick(rows.assign(gap=[0.5, 0.0]), tests)
    with pytest.raises(ConfigError, match="not judged"):
        beats_yardstick(rows, tests, "gan")


def test_the_lead_is_that_of_pairs_and_not_of_strangers():
    luck = [0.02, -0.03, 0.01, 0.0]
    one, other = asked([0.50, 0.60, 0.70], luck), asked([0.55, 0.66, 0.74], [0.03, -0.03, 0.01, -0.01])
    lead, se = area_lead(one, other)
    shared = 3 / 4 * np.sum(np.array([0.01, 0, 0, -0.01]) ** 2)
    assert lead == pytest.approx(0.05) and se == pytest.approx((0.01**2 / 3 + shared) ** 0.5)
    assert se < np.hypot(one.se, other.se) / 3 and area_lead(other, one)[0] == pytest.approx(-lead)
    for stranger in (asked([0.5, 0.6], luck), asked([0.5, 0.6, 0.7], luck[:3])):
        with pytest.raises(ConfigError, match="no pairs"):
            area_lead(one, stranger)


def test_the_error_of_a_lead_is_that_of_many_worlds():
    def draw(n, seed, heavy):
        rng = np.random.default_rng(seed)
        x = 0.01 * (rng.standard_t(4, (n, 2)) / 2**0.5 if heavy else rng.standard_normal((n, 2)))
        return pd.DataFrame(x, pd.bdate_range("2000-01-03", periods=n, name="date"), ["A", "B"])

    found = []
    for world_ in range(16):
        real, makers = draw(1600, [world_, 9], True), (False, True)
        one, other = (pd.concat({i: draw(1600, [world_, i, kind], kind) for i in range(3)}) for kind in makers)
        found.append(area_lead(*(classifier_test(real, made, draws=0) for made in (one, other))))
    lead, se = np.array(found).T
    assert lead.mean() < -0.1 and 0.6 < np.mean(se) / lead.std() < 1.7


def test_the_room_has_all_makers():
    assert list(MAKERS) == ["bootstrap", "garch", "regime", "heston", "vine", "learned"]


def test_a_short_history_is_refused():
    with pytest.raises(DataError, match="250 or more"):
        fit_learned_market(world(200))
    with pytest.raises(ConfigError, match="passes"):
        fit_learned_market(world(), passes=0)


def test_training_and_drawing_are_the_same_to_the_last_bit_and_learn_what_goes_together():
    pytest.importorskip("torch", reason="make deep")
    one, other = (fit_learned_market(world(), passes=120, hidden=32) for _ in range(2))
    made = one.generate(600, 2)
    assert made.equals(other.generate(600, 2)) and not made.equals(one.generate(600, 2, seed=8))
    assert made["A"].corr(made["B"]) > 0.35
    x = world()
    assert made["A"].between(x["A"].min(), x["A"].max()).all() and 0.6 < made["A"].std() / x["A"].std() < 1.4
    assert made.index.get_level_values("date").min() > x.index[-1]


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="make deep")
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    ask = dict(passes=6, hidden=8)
    whole = fit_learned_market(world(), **ask)
    assert list(tmp_path.iterdir()) == [], "nothing is kept unasked"
    made: list[int] = []

    def stopped(numbers):
        for number in numbers:
            if number == 4:
                raise KeyboardInterrupt
            made.append(number)
            yield number

    with pytest.raises(KeyboardInterrupt):
        fit_learned_market(world(), **ask, resume=True, progress=stopped)
    again = fit_learned_market(world(), **ask, resume=True, progress=lambda numbers: made.extend(numbers) or numbers)
    assert made == [0, 1, 2, 3, 4, 5]
    assert again.generate(50).equals(whole.generate(50)) and again.params.equals(whole.params)
    fit_learned_market(world(), **ask, resume=True, progress=lambda numbers: made.extend(numbers) or numbers)
    assert len(made) == 6, "what is finished is not trained again"
    fit_learned_market(world(), **ask, seed=8, resume=True, progress=lambda numbers: made.extend(numbers) or numbers)
    assert len(made) == 12, "another seed is another training"


def test_drawn_from_are_the_means_of_the_weights():
    torch = pytest.importorskip("torch", reason="make deep")
    net = learned._net(torch, 4, 3, 5)
    first = [weight.detach().clone() for weight in net.parameters()]
    learned._into_mean(net)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(1.0)
    learned._into_mean(net)
    for mean, weight in zip(net_weights(net)[:6], first, strict=True):
        assert mean == pytest.approx(weight.numpy() + 9 / 11)
