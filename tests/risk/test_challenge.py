"Challenges: known answers, an exact reference, each rule by hand and by a slow player of its own."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.risk.challenge import (
    DRAWDOWNS,
    Challenge,
    _drawn,
    best_size,
    brownian_chance,
    exact_chance,
    pass_chance,
    play_challenge,
)


def test_published_figures():
    assert brownian_chance(0.08, 0.10, 0.0005, 0.01, stepwise=False) == pytest.approx(0.7573, abs=5e-5)
    assert brownian_chance(0.08, 0.10, 0.0005, 0.01) == pytest.approx(0.7656, abs=5e-5)
    drawn = pass_chance(Challenge(0.08, 0.10), mean=0.0005, sd=0.01, draws=20_000)
    assert abs(drawn.probability - 0.7684) < 0.006 and drawn.se == pytest.approx(0.003, abs=2e-4)


@pytest.mark.parametrize(
    ("target", "loss", "mean", "sd", "days"),
    [(0.08, 0.10, 0.0005, 0.01, None), (0.05, 0.05, 0.0, 0.02, None), (0.08, 0.10, 0.001, 0.015, 30),
     (0.10, 0.05, -0.0005, 0.01, 60)],
)  # fmt: skip
def test_simulation_equals_backward_induction(target, loss, mean, sd, days):
    exact = exact_chance(target, loss, mean, sd, days)
    drawn = pass_chance(Challenge(target, loss, max_days=days), mean, sd, draws=20_000, seed=11)
    assert abs(drawn.probability - exact) < 4 * drawn.se + drawn.outcomes["open"]


def test_the_quadrature_has_converged():
    few, many = (exact_chance(0.08, 0.10, 0.0005, 0.01, points=n) for n in (100, 400))
    assert few == pytest.approx(many, abs=1e-10)
    assert exact_chance(0.08, 0.10, 0.0005, 0.01, days=5000) == pytest.approx(many, abs=1e-9)
    assert exact_chance(0.08, 0.10, 0.0, 1e-3) == pytest.approx(brownian_chance(0.08, 0.10, 0.0, 1e-3), abs=1e-4)


def test_a_floor_that_trails_beside_taylor_and_lehoczky():
    for mean, sd, fall in ((0.0005, 0.01, 0.10), (0.0, 0.01, 0.06), (0.001, 0.005, 0.04)):
        drawn = pass_chance(Challenge(0.08, fall, "trailing"), mean, sd, draws=20_000)
        formula = brownian_chance(0.08, fall, mean, sd, trailing=True)
        assert abs(drawn.probability - formula) < 4 * drawn.se + drawn.outcomes["open"] + 0.004


def slow(c, moves):
    "Play a challenge as its page reads, one sentence after the other."
    balance, highest, best = 0.0, 0.0, 0.0
    for day, parts in enumerate(moves):
        if c.max_days is not None and day >= c.max_days:
            return "time", c.max_days - 1
        moments = [balance + sum(parts[: k + 1]) for k in range(len(parts))]
        seen = moments if c.basis == "equity" else moments[-1:]
        for equity in seen:
            if c.drawdown == "trailing" and c.basis == "equity":
                highest = max(highest, equity)
            floor = -c.max_loss if c.drawdown == "static" else highest - c.max_loss
            floor = min(floor, 0.0) if c.locks else floor
            if equity < floor + 1e-11:
                return "max_loss", day
            if c.daily_loss is not None and equity - balance < -c.daily_loss + 1e-11:
                return "daily_loss", day
        best, balance = max(best, moments[-1] - balance), moments[-1]
        if c.drawdown == "end_of_day" or (c.drawdown == "trailing" and c.basis == "balance"):
            highest = max(highest, balance)
        enough = day + 1 >= c.min_days and (c.consistency is None or best <= c.consistency * balance + 1e-11)
        if balance > c.target - 1e-11 and enough:
            return "passed", day
    return ("time" if c.max_days is not None and len(moves) >= c.max_days else "open"), len(moves) - 1


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from(DRAWDOWNS), st.booleans(), st.sampled_from(["equity", "balance"]),
    st.sampled_from([None, 0.02, 0.05]), st.integers(0, 10), st.sampled_from([None, 0.3, 0.6]),
    st.sampled_from([None, 10, 25]), st.integers(1, 4),
)  # fmt: skip
def test_any_rules_on_any_path(seed, drawdown, locks, basis, daily, least, consistency, most, parts):
    rng = np.random.default_rng(seed)
    rules = Challenge(0.06, 0.07, drawdown, locks, daily, basis, least, most, consistency)
    moves = rng.normal(0.002, 0.012, (30, parts)).round(4)
    found = play_challenge(rules, moves)
    assert (found.outcome, found.day) == slow(rules, moves.tolist())


def test_a_floor_that_locks_stops_at_the_start():
    up_and_back = [0.08, -0.06, 0.2]
    assert play_challenge(Challenge(0.2, 0.05, "trailing", locks=True), up_and_back) == ("passed", 2)
    assert play_challenge(Challenge(0.2, 0.05, "trailing"), up_and_back) == ("max_loss", 1)


def test_blocks_keep_the_order_of_days():
    drawn = _drawn(20, 1, 0.0, 0.0, np.arange(40.0), np.random.default_rng(1), 50)[:, :, 0]
    steps = np.diff(drawn, axis=1) % 40
    assert (np.delete(steps, 9, axis=1) == 1).all()


def test_stricter_rules_never_pass_more_often():
    loose = pass_chance(Challenge(), draws=3000, parts=4, days=300)
    for stricter in (
        Challenge(drawdown="trailing"), Challenge(drawdown="end_of_day"), Challenge(daily_loss=0.02),
        Challenge(max_days=40), Challenge(consistency=0.2), Challenge(target=0.1), Challenge(max_loss=0.05),
    ):  # fmt: skip
        assert pass_chance(stricter, draws=3000, parts=4, days=300).probability <= loose.probability
    assert pass_chance(Challenge(basis="balance"), draws=3000, parts=4, days=300).probability >= loose.probability


def test_the_best_size_is_where_the_exact_chance_is_highest():
    sizes = (0.5, 1.0, 2.0, 4.0)
    table = best_size(Challenge(max_days=40), sizes, draws=8000)
    exact = pd.Series({s: exact_chance(0.08, 0.10, 0.0005 * s, 0.01 * s, 40) for s in sizes})
    assert (table["probability"] - exact).abs().max() < 0.02
    assert table.at[exact.idxmax(), "best"] and not table.at[0.5, "best"]


def test_sizes_are_told_apart_path_by_path():
    rules, sizes, how = Challenge(max_days=40), (1.0, 2.0, 2.1), {"draws": 4000}
    table = best_size(rules, sizes, **how)
    top = pass_chance(rules, size=table["probability"].idxmax(), **how)
    assert top.passed.mean() == top.probability == table["probability"].max()
    for size, row in table.iterrows():
        one = pass_chance(rules, size=size, **how)
        won, lost = (top.passed & ~one.passed).sum(), (~top.passed & one.passed).sum()
        assert row["behind"] == pytest.approx((won - lost) / 4000) == pytest.approx(top.probability - one.probability)
        assert row["behind_se"] == pytest.approx(np.sqrt((won + lost) - (won - lost) ** 2 / 4000) / 4000)
        assert row["best"] == (won - lost <= 2 * 4000 * row["behind_se"])
    near = table.loc[2.1 if table["probability"].idxmax() == 2.0 else 2.0]
    assert not table.at[1.0, "best"] and near["behind_se"] < near["se"] / 2, "equal paths, smaller errors"


def test_the_error_covers_the_exact_chance():
    exact = exact_chance(0.08, 0.10, 0.0005, 0.01, 60)
    drawn = [pass_chance(Challenge(max_days=60), draws=400, seed=s) for s in range(300)]
    off = np.array([(one.probability - exact) / one.se for one in drawn])
    assert abs(off.mean()) < 0.2 and 0.85 < off.std() < 1.15
    never = pass_chance(Challenge(max_days=1), mean=0.0, draws=50)
    assert never.probability == 0 and 0.01 < never.se < 0.03, "fifty paths without one are no proof that there is none"


@pytest.mark.parametrize("trailing", [False, True])
def test_a_drift_of_any_strength_has_a_chance(trailing):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        chances = [brownian_chance(0.08, 0.10, m, 0.005, trailing=trailing) for m in (-0.5, -1e-4, 0.0, 1e-4, 0.5)]
    assert chances == sorted(chances) and chances[0] < 1e-12 and chances[-1] > 1 - 1e-12
    nearly = brownian_chance(0.08, 0.10, 1e-13, 0.005, trailing=trailing)
    assert nearly == pytest.approx(chances[2], rel=1e-8)
    a, b, s = 0.08, 0.10, 2 * 0.0003 / 0.01**2
    for sign in (1, -1):  # as the page has it
        z, mean = sign * s, sign * 0.0003
        plain = (1 - np.exp(z * b)) / (np.exp(-z * a) - np.exp(z * b))
        plain = np.exp(-a * z / (np.exp(z * b) - 1)) if trailing else plain
        assert brownian_chance(a, b, mean, 0.01, stepwise=False, trailing=trailing) == pytest.approx(plain, rel=1e-12)


def test_days_must_be_enough_and_no_more():
    up = np.full(12, 0.02)
    assert play_challenge(Challenge(min_days=6), up) == ("passed", 5)
    assert play_challenge(Challenge(), up) == ("passed", 3) and play_challenge(Challenge(max_days=3), up) == ("time", 2)
    assert play_challenge(Challenge(consistency=0.25), up) == ("passed", 3)
    assert play_challenge(Challenge(consistency=0.2), up) == ("passed", 4), "a fifth of it was made in a day"


def test_the_same_seed_gives_the_same_and_days_that_were_keep_their_order():
    one, two = (pass_chance(Challenge(), draws=500, seed=3) for _ in range(2))
    assert one.probability == two.probability and one.outcomes.sum() == pytest.approx(1)
    rising = pd.Series(np.full(40, 0.01))
    assert pass_chance(Challenge(), returns=rising, draws=50).days == 8
    assert pass_chance(Challenge(), returns=-rising, draws=50).outcomes["max_loss"] == 1
    assert np.isnan(pass_chance(Challenge(), returns=-rising, draws=50).days)
    parts = pass_chance(Challenge(), returns=rising, draws=50, parts=4)
    assert parts.days == 8 and parts.probability == 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Challenge(target=0.0), ConfigError, "target"),
        (lambda: Challenge(max_loss=-1), ConfigError, "max_loss"),
        (lambda: Challenge(basis="money"), ConfigError, "basis"),
        (lambda: Challenge(consistency=1.5), ConfigError, "cons"),
        (lambda: Challenge(min_days=True), ConfigError, "min_days"),
        (lambda: Challenge(drawdown=""), ConfigError, "draw"),
        (lambda: Challenge(min_days=9, max_days=8), ConfigError, "max_days"),
        (lambda: pass_chance(Challenge(), mean=np.nan), ConfigError, "mean"),
        (lambda: pass_chance(Challenge(), sd=0), ConfigError, "sd"),
        (lambda: pass_chance(Challenge(), days=10.5), ConfigError, "whole numbers"),
        (lambda: pass_chance(Challenge(), returns=pd.DataFrame({"r": [0.0] * 30})), DataError, "one column"),
        (lambda: pass_chance(Challenge(), returns=["up"] * 30), DataError, "no numbers"),
        (lambda: play_challenge(Challenge(), ["up"]), DataError, "no numbers"),
        (lambda: Challenge(target=True), ConfigError, "target"),
        (lambda: best_size(Challenge(), (1.0, 1.0)), ConfigError, "each once"),
        (lambda: exact_chance(0.08, 0.1, 0.0, 0.01, days=0), ConfigError, "days 0"),
        (lambda: exact_chance(0.08, 0.1, 0.0, -0.01), ConfigError, "sd -0.01"),
        (lambda: exact_chance(-0.08, 0.1, 0.0, 0.01), ConfigError, "no walk"),
        (lambda: brownian_chance(0.08, 0.1, 0.0, 0.0), ConfigError, "no walk"),
        (lambda: brownian_chance(0.08, 0.1, np.nan, 0.01), ConfigError, "no walk"),
        (lambda: pass_chance(Challenge(), draws=0), ConfigError, "draws"),
        (lambda: pass_chance(Challenge(), returns=pd.Series([np.nan] * 30)), DataError, "not finite"),
        (lambda: pass_chance(Challenge(), returns=pd.Series(dtype=float)), DataError, "give 20"),
        (lambda: exact_chance(0.08, 0.1, 0.0, 1e-5), ConfigError, "brownian_chance"),
        (lambda: best_size(Challenge(), (1.0,), size=2.0), ConfigError, "leave size"),
        (lambda: play_challenge(Challenge(), []), DataError, "at least one day"),
        (lambda: play_challenge(Challenge(), [[np.inf]]), DataError, "finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
