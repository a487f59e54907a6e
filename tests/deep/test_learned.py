"The learned maker: the same to the last bit, within what it has seen, and judged like any other."

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError
from quantlab.deep.learned import (
    MAKERS,
    beats_yardstick,
    before_window,
    fit_learned_market,
    from_normal,
    noise_levels,
    to_normal,
)


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


def test_the_verdict_needs_two_errors_no_copies_and_no_gap():
    rows = pd.DataFrame(
        {"auc": [0.5, 0.7], "auc_se": 0.03, "gap": 0.0, "gap_se": 0.01, "copied_p": 0.5}, ["learned", "vine"]
    )
    assert beats_yardstick(rows).startswith("learned beats vine")
    assert "copies" in beats_yardstick(rows.assign(copied_p=0.001))
    assert "no lower by two errors" in beats_yardstick(rows.assign(auc_se=0.2))
    assert "forecast" in beats_yardstick(rows.assign(gap=[0.5, 0.0]))
    with pytest.raises(ConfigError, match="not judged"):
        beats_yardstick(rows, "gan")


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
