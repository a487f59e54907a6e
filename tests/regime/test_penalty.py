"""The penalty chosen on the past: accounts by hand, no choice moved by what follows, each candidate a trial."""

import io

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.ledger import Ledger
from quantlab.core.state import load_state, save_state
from quantlab.regime.changepoint import ChangePoint
from quantlab.regime.jump import JumpModel
from quantlab.regime.penalty import best_so_far, choose_by_past, switch_returns

PENALTIES = [5.0, 0.0, 2.0]


def weathers(n: int = 700, seed: int = 6) -> tuple[pd.DataFrame, pd.Series]:
    "Calm weeks that gain and wild ones that lose, with a noisy mark of which it is; and the returns."
    random, wild = np.random.default_rng(seed), np.arange(n) // 60 % 2
    dates = pd.bdate_range("2015-01-01", periods=n).as_unit("us")
    returns = pd.Series(random.normal(np.where(wild, -0.002, 0.001), np.where(wild, 0.02, 0.005)), dates)
    return pd.DataFrame({"r": returns, "mark": wild + random.normal(0, 0.4, n)}, dates), returns


def test_a_switch_counts_each_day_as_by_hand():
    random = np.random.default_rng(0)
    dates = pd.bdate_range("2020-01-01", periods=40)
    exposure, returns, cash = (
        pd.Series(a, dates) for a in (random.random(40), random.normal(0, 0.01, 40), random.random(40) / 1e4)
    )
    for delay in (0, 1, 3):
        found = switch_returns(exposure, returns, cash, delay, 25.0)
        before = 0.0
        for t in range(40):
            held = exposure.iloc[t - 1 - delay] if t > delay else 0.0
            net = held * (returns.iloc[t] - cash.iloc[t]) - abs(held - before) * 0.0025
            assert found.iloc[t].tolist() == pytest.approx([held, abs(held - before), net], abs=1e-15)
            before = held


def test_an_exposure_cannot_earn_the_day_it_is_decided():
    dates = pd.bdate_range("2020-01-01", periods=30)
    returns = pd.Series(np.random.default_rng(1).normal(0, 0.01, 30), dates)
    oracle = (returns > 0) * 1.0
    assert switch_returns(oracle, returns, fill_delay=0, cost_bps=0)["net"].sum() < returns.clip(lower=0).sum() / 1.3
    assert switch_returns(oracle.shift(-1).fillna(0), returns, fill_delay=0, cost_bps=0)["net"].sum() == pytest.approx(
        returns[1:].clip(lower=0).sum()
    )


@pytest.mark.parametrize("wrong", [{"fill_delay": -1}, {"cost_bps": -1.0}, {"cost_bps": np.nan}])
def test_a_switch_refuses_what_means_nothing(wrong):
    dates = pd.bdate_range("2020-01-01", periods=3)
    with pytest.raises(ConfigError):
        switch_returns(pd.Series(1.0, dates), pd.Series(0.0, dates), **wrong)
    with pytest.raises(PanelError, match="no return on 2020-01-03"):
        switch_returns(pd.Series(1.0, dates), pd.Series(0.0, dates[:2]))
    with pytest.raises(PanelError):
        switch_returns(pd.Series(1.0, dates), pd.Series(0.0, dates), pd.Series(np.nan, dates))


def test_the_best_so_far_is_the_best_sharpe_of_each_window():
    random = np.random.default_rng(2)
    earned = pd.DataFrame(random.normal(0, 0.01, (200, 4)), pd.bdate_range("2020-01-01", periods=200), list("abcd"))
    found = best_so_far(earned, 50, 7)
    for i, date in enumerate(found.index):
        end = 50 + i // 7 * 7
        past = earned.iloc[end - 50 : end]
        assert found[date] == (past.mean() / past.std()).idxmax()
    assert best_so_far(earned.iloc[:130], 50, 7).equals(found.iloc[:81])


def test_of_equals_the_first_and_a_still_one_comes_last():
    dates = pd.bdate_range("2020-01-01", periods=60)
    move = np.random.default_rng(3).normal(-0.01, 0.01, 60)
    earned = pd.DataFrame({"still": 0.0, "losing": move, "again": move}, dates)
    assert best_so_far(earned, 20).eq("losing").all()
    assert best_so_far(earned[["still"]], 20).eq("still").all()
    for wrong in ((1, 1), (20, 0)):
        with pytest.raises(ConfigError):
            best_so_far(earned, *wrong)
    with pytest.raises(DataError):
        best_so_far(earned, 61)


def test_what_follows_moves_neither_choices_nor_states():
    X, returns = weathers()
    ask = {"walk": (200, 100), "judge": (100, 10)}
    whole = choose_by_past(X, returns, JumpModel(n_starts=2), PENALTIES, **ask)
    assert not whole.filtered.in_sample().any() and whole.chosen.nunique() > 1
    for cut in (320, 455, 699):
        twisted = returns.where(returns.index < X.index[cut], -returns)
        part = choose_by_past(X.iloc[:cut], twisted, JumpModel(n_starts=2), PENALTIES, **ask)
        size = len(part.chosen)
        assert part.chosen.equals(whole.chosen.iloc[:size])
        for table in ("probabilities", "ahead", "trained_to"):
            assert getattr(part.filtered, table).equals(getattr(whole.filtered, table).iloc[:size])


def test_the_states_are_those_of_the_candidate_in_force():
    X, returns = weathers()
    ask = {"walk": (200, 100), "judge": (100, 10)}
    whole = choose_by_past(X, returns, JumpModel(n_starts=2), PENALTIES, **ask)
    for value in PENALTIES:
        alone = choose_by_past(X, returns, JumpModel(n_starts=2), [value], **ask)
        dates = whole.chosen.index[whole.chosen == value]
        assert alone.filtered.probabilities.loc[dates].equals(whole.filtered.probabilities.loc[dates])
        assert alone.earned[value].equals(whole.earned[value])
    assert whole.filtered.probabilities.index.equals(X.index[200 + 99 :])


def test_each_candidate_is_one_trial_however_often_it_is_run(tmp_path):
    X, returns = weathers(450)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ask = {"walk": (200, 100), "judge": (100, 10), "record": (ledger, "penalty", 252.0)}
    for _ in range(2):
        choice = choose_by_past(X.copy(), returns.copy(), JumpModel(n_starts=2), PENALTIES, **ask)
    trials = ledger.trials("penalty")
    assert len(trials) == 3 and sorted(trials["sharpe"]) == pytest.approx(
        sorted(choice.earned.mean() / choice.earned.std())
    )
    choose_by_past(X, returns, JumpModel(n_starts=2), PENALTIES, trade={"cost_bps": 5.0}, **ask)
    choose_by_past(X, returns, JumpModel(n_starts=3), PENALTIES[:1], **ask)
    assert len(ledger.trials("penalty")) == 7
    choose_by_past(X, -returns, JumpModel(n_starts=2), PENALTIES[:1], **ask)
    assert len(ledger.trials("penalty")) == 8, "other returns are another trial"


def test_a_candidate_that_cannot_be_fitted_is_out_and_says_why():
    X, returns = weathers(450)
    ask = {"walk": (200, 100), "judge": (100, 10)}
    choice = choose_by_past(X, returns, JumpModel(n_starts=2), [5.0, 1e9], **ask)
    assert list(choice.earned) == [5.0] and "lower it" in choice.failed[1e9]
    with pytest.raises(DataError, match="no candidate can be fitted"):
        choose_by_past(X, returns, JumpModel(n_starts=2), [1e9], **ask)


def test_any_detector_and_any_setting():
    X, returns = weathers(450)
    ask = {"setting": "hazard", "walk": (200, 100), "judge": (100, 10)}
    choice = choose_by_past(X, returns, ChangePoint(), [0.01, 0.05], hold=("calm", "turbulent"), **ask)
    assert set(choice.chosen) <= {0.01, 0.05}
    assert choice.earned[0.01].iloc[10:].to_numpy() == pytest.approx(returns.loc[choice.earned.index[10:]].to_numpy())


@pytest.mark.parametrize(
    "wrong",
    [{"setting": "lambda"}, {"candidates": []}, {"candidates": [5.0, 5.0]}, {"hold": ("sunny",)}, {"hold": ()}],
)
def test_what_means_nothing_is_refused(wrong):
    X, returns = weathers(450)
    ask = {"candidates": [5.0], "walk": (200, 100), "judge": (100, 10)} | wrong
    with pytest.raises(ConfigError):
        choose_by_past(X, returns, JumpModel(n_starts=2), **ask)


def test_kept_and_read_back_it_is_the_same():
    X, returns = weathers(450)
    choice, file = (
        choose_by_past(X, returns, JumpModel(n_starts=2), [5.0], walk=(200, 100), judge=(100, 10)),
        io.BytesIO(),
    )
    save_state(choice, file, key="0" * 32)
    back = load_state(io.BytesIO(file.getvalue()), key="0" * 32)
    assert back.filtered.probabilities.equals(choice.filtered.probabilities) and back.chosen.equals(choice.chosen)
