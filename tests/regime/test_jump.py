"""The jump model: every path, published fits of the Nasdaq-100, jumpmodels beside it, no evening moved by the next."""

import io
import itertools
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.state import load_state, save_state
from quantlab.regime.base import check_detector, walk_forward_filter
from quantlab.regime.jump import JumpModel, jump_costs, jump_inputs, jump_path, sparse_weights

ROOT = Path(__file__).resolve().parents[2]
NDX = Path(os.environ.get("QUANTLAB_SHARED", ROOT.parent / "shared")) / "data" / "regimes" / "NDX_1985_2024.csv"
PEER = ROOT / ".cache" / "peers" / "jumpmodels" / "bin" / "python"
needs_ndx = pytest.mark.skipif(not NDX.exists(), reason="no Nasdaq-100 beside the project; set QUANTLAB_SHARED")
needs_peer = pytest.mark.skipif(not PEER.exists(), reason="jumpmodels is not there; make bench-peers builds it")

# As printed by the notebook of Yizhan-Oliver-Shu/jump-models (d0fa00c): fit to 2007-2021, penalty 50.
CALM = [0.154342, -0.296901, 0.157169, 0.296358, -0.318770, 0.274053, 0.336652, -0.245783, 0.336974]
TURBULENT = [-0.643127, 1.237157, -0.654906, -1.234891, 1.328281, -1.141952, -1.402793, 1.024153, -1.404137]
WEIGHTS = [0.0, 0.251484, 0.0, 0.0, 0.604436, 0.025404, 0.753773, 0.0, 0.857114]
FIRST_ROW = [-0.000860, -5.398836, -0.190234, 0.000296, -5.220386, 0.054761, 0.000600, -5.099043, 0.098343]


@pytest.fixture(scope="module")
def nasdaq() -> tuple[pd.DataFrame, pd.DataFrame]:
    close = pd.read_csv(NDX, index_col="date", parse_dates=True)["close"]
    X = jump_inputs(close)["2007":]
    return X[:"2021"], X["2022":]


def swinging(n: int = 600, seed: int = 5) -> tuple[pd.DataFrame, np.ndarray]:
    "Two weathers in turn, a hundred rows each: returns and a second column that knows the volatility."
    random, state = np.random.default_rng(seed), np.arange(n) // 100 % 2
    returns = random.normal(0, np.where(state, 0.03, 0.005))
    dates = pd.bdate_range("2015-01-01", periods=n).as_unit("us")
    return pd.DataFrame({"r": returns, "level": state + random.normal(0, 0.3, n)}, dates), state


def three_weathers(n: int = 900) -> pd.DataFrame:
    "Returns whose deviation depends on a mark: 0 middling, 1 wild, 2 quiet."
    random, state = np.random.default_rng(2), np.arange(n) // 100 % 3
    returns = random.normal(0, np.array([0.01, 0.05, 0.002])[state])
    return pd.DataFrame({"r": returns, "mark": state + 0.0}, pd.bdate_range("2015-01-01", periods=n))


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6))
def test_the_path_is_the_cheapest_of_all_paths(seed, states, n):
    random = np.random.default_rng(seed)
    loss, price = random.random((n, states)), random.random((states, states))
    path, cost = jump_path(loss, price)
    of = lambda p: loss[range(n), p].sum() + sum(price[i, j] for i, j in itertools.pairwise(p))
    assert cost == pytest.approx(min(of(p) for p in itertools.product(range(states), repeat=n)), abs=1e-12)
    assert of(tuple(path)) == pytest.approx(cost, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 40))
def test_costs_of_a_row_do_not_read_the_next(seed, states, cut):
    random = np.random.default_rng(seed)
    loss, price = random.random((40, states)), 3 * random.random((states, states))
    assert np.array_equal(jump_costs(loss, price)[:cut], jump_costs(loss[:cut], price))


@needs_ndx
def test_features_of_the_nasdaq_are_the_published_ones(nasdaq):
    assert nasdaq[0].iloc[0].to_numpy() == pytest.approx(FIRST_ROW, abs=1e-6)
    assert [len(part) for part in nasdaq] == [3777, 688]


@needs_ndx
@pytest.mark.parametrize("seed", [0, 7])
def test_centres_of_the_nasdaq_are_the_published_ones(nasdaq, seed):
    model = JumpModel(penalty=50.0, seed=seed).fit(nasdaq[0])
    assert model.states_ == ["calm", "turbulent"]
    assert np.abs(model.centers_ - [CALM, TURBULENT]).max() < 1e-5


@needs_ndx
@pytest.mark.parametrize("seed", [0, 1])  # from seed 7 the weights settle elsewhere: the search for them has dells
def test_weights_of_the_sparse_model_are_the_published_ones(nasdaq, seed):
    model = JumpModel(penalty=50.0, n_features=3.0, seed=seed).fit(nasdaq[0])
    assert np.abs(model.weights_ - WEIGHTS).max() < 1e-4


@needs_ndx
def test_hindsight_renames_25_of_688_days_and_no_cut_moves_an_evening(nasdaq):
    train, test = nasdaq
    model = JumpModel(penalty=50.0).fit(train)
    evening, later = model.filter(test).probabilities["turbulent"], model.smooth(test).probabilities["turbulent"]
    assert (len(test), int((evening != later).sum())) == (688, 25)
    moved = 0
    for cut in range(1, len(test) + 1):
        assert model.filter(test.iloc[:cut]).probabilities["turbulent"].equals(evening.iloc[:cut])
        moved += not model.smooth(test.iloc[:cut]).probabilities["turbulent"].equals(later.iloc[:cut])
    assert moved > 0, "hindsight must move at some cut, or the test above proves nothing"


@pytest.mark.slow
@needs_ndx
@needs_peer
def test_jumpmodels_says_the_same_of_every_day(nasdaq, tmp_path):
    train, test = nasdaq
    models = {
        "discrete": JumpModel(penalty=50.0),
        "sparse": JumpModel(penalty=50.0, n_features=3.0, seed=0),
        "continuous": JumpModel(penalty=600.0, continuous=True),
    }
    train.to_csv(tmp_path / "train.csv")
    test.to_csv(tmp_path / "test.csv")
    command = [str(PEER), str(ROOT / "bench" / "peers" / "jumpmodels_fit.py"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    theirs = json.loads((tmp_path / "fits.json").read_text())
    for name, model in models.items():
        model.fit(train)
        assert model.centers_ == pytest.approx(
            np.array(theirs[name]["centers"]), abs=2e-4 if name == "sparse" else 1e-6
        )
        for kind, found in (("online", model.filter(test)), ("offline", model.smooth(test))):
            assert np.abs(found.probabilities.to_numpy() - theirs[name][kind]).max() < 1e-9, (name, kind)


@pytest.mark.parametrize(
    "settings_",
    [{}, {"n_features": 1.5}, {"continuous": True}],
)
def test_the_rooms_suite(settings_):
    check_detector(JumpModel(**({"penalty": 5.0, "n_starts": 3} | settings_)), swinging()[0], cuts=25)


def test_planted_weathers_are_found_and_named_by_volatility():
    X, state = swinging()
    for model in (
        JumpModel(penalty=5.0),
        JumpModel(penalty=5.0, n_features=1.5),
        JumpModel(penalty=5.0, continuous=True),
    ):
        named = model.fit(X).smooth(X).probabilities
        assert ((named["turbulent"] > 0.5) == state).mean() > 0.99
        assert (model.transition_table().to_numpy().diagonal() > 0.95).all()


def test_three_states_are_ordered_by_the_deviation_of_the_first_column():
    X = three_weathers()
    for soft in (False, True):
        model = JumpModel(n_states=3, penalty=2.0, continuous=soft, step=0.2, n_starts=5)
        check_detector(model, X, cuts=20)
        assert model.fit(X).states_ == ["calm", "normal", "turbulent"]
        assert model.moments()[0][:, 1] == pytest.approx([2.0, 0.0, 1.0], abs=0.5)


def test_the_same_state_whatever_the_start_of_the_seed_and_the_units():
    X, _ = swinging()
    one = JumpModel(penalty=5.0).fit(X).filter(X).probabilities
    assert JumpModel(penalty=5.0, seed=99).fit(X).filter(X).probabilities.equals(one)
    assert JumpModel(penalty=5.0).fit(X * [100.0, 0.5]).filter(X * [100.0, 0.5]).probabilities.equals(one)


def test_a_wild_input_counts_no_more_than_the_clip():
    X, _ = swinging()
    model = JumpModel(penalty=5.0, n_starts=2).fit(X)
    edge = X.mean() + 3 * X.std(ddof=0)
    calm, far, cut = (X.iloc[:60].copy() for _ in range(3))
    far.iloc[30], cut.iloc[30] = edge * 50, edge
    assert model.filter(far).probabilities.equals(model.filter(cut).probabilities)
    assert model.filter(calm).probabilities.equals(model.filter(cut).probabilities), "one day does not turn the state"


def test_names_may_follow_the_mean_of_a_column():
    X, state = swinging()
    for column, sign in (("level", 1.0), ("mirror", -1.0)):
        frame = X.assign(mirror=-X["level"])[[column]]
        named = JumpModel(penalty=5.0, order_by=column).fit(frame).filter(frame).probabilities["turbulent"]
        assert ((named > 0.5) == (state if sign > 0 else 1 - state)).mean() > 0.95
    with pytest.raises(ConfigError, match="order_by"):
        JumpModel(penalty=5.0, order_by="nothing").fit(X)


def test_a_longer_history_does_not_move_the_walk():
    X, _ = swinging()
    model = JumpModel(penalty=5.0, n_starts=2)
    whole = walk_forward_filter(X, model, first=250, refit=100)
    part = walk_forward_filter(X.iloc[:430], model, first=250, refit=100)
    assert part.probabilities.equals(whole.probabilities.iloc[:180])
    assert (whole.trained_to < whole.probabilities.index).all()


def test_kept_and_read_back_it_says_the_same():
    X, _ = swinging()
    model, file = JumpModel(penalty=5.0, continuous=True, n_starts=2).fit(X), io.BytesIO()
    save_state(model, file, key="0" * 32)
    back = load_state(io.BytesIO(file.getvalue()), key="0" * 32)
    assert back.filter(X).probabilities.equals(model.filter(X).probabilities)


def test_weights_obey_both_limits():
    random = np.random.default_rng(0)
    for n in (1.0, 1.7, 3.0, 8.0, 100.0):
        weights = sparse_weights(random.random(8), n)
        assert np.linalg.norm(weights) == pytest.approx(1.0) and weights.sum() <= np.sqrt(n) + 1e-9
        assert (weights >= 0).all()
    assert sparse_weights(np.ones(4), 2.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda X: X.iloc[:0], DataError),
        (lambda X: X.iloc[:1], DataError),
        (lambda X: X * np.nan, DataError),
        (lambda X: X.mask(X > X.quantile(0.99), np.inf), DataError),
        (lambda X: X * 0.0, DataError),
        (lambda X: X.iloc[::-1], PanelError),
    ],
    ids=["empty", "one row", "NaN", "infinite", "constant", "backwards"],
)
def test_what_cannot_carry_states_is_refused(spoil, error):
    with pytest.raises(error):
        JumpModel().fit(spoil(swinging()[0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"penalty": -1.0},
        {"penalty": np.nan},
        {"clip": 0.0},
        {"n_features": 0.5},
        {"step": 0.3},
        {"step": 0.0},
        {"n_states": 0},
        {"n_starts": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        JumpModel(**wrong).fit(swinging()[0])


def test_a_penalty_that_leaves_a_state_empty_is_refused():
    with pytest.raises(DataError, match="without any of the 600 rows"):
        JumpModel(penalty=1e9).fit(swinging()[0])


def test_other_columns_are_refused_and_another_time_zone_is_not():
    X, _ = swinging()
    model = JumpModel(penalty=5.0, n_starts=2).fit(X)
    with pytest.raises(PanelError):
        model.filter(X.rename(columns={"r": "x"}))
    assert len(model.filter(X.tz_localize("Asia/Tokyo")).probabilities) == len(X)


def test_inputs_of_degenerate_prices():
    dates = pd.bdate_range("2020-01-01", periods=100)
    with pytest.raises(DataError, match="never fell"):
        jump_inputs(pd.Series(5.0, dates))
    with pytest.raises(DataError, match="close is NaN or infinite on 2020-01-01"):
        jump_inputs(pd.Series(np.nan, dates))
    with pytest.raises(DataError, match="prices above 0"):
        jump_inputs(pd.Series(-1.0, dates))
    for shuffled in (dates[::-1], dates[[0, *range(99)]]):  # a return across them would read backwards
        with pytest.raises(PanelError, match="sorted, distinct dates"):
            jump_inputs(pd.Series(np.arange(100.0) + 1, shuffled))
    with pytest.raises(ConfigError):
        jump_inputs(pd.Series(5.0, dates), ())
    assert (
        jump_inputs(pd.Series(5.0, dates[:40])).empty
        and jump_inputs(pd.Series([], pd.DatetimeIndex([]), dtype=float)).empty
    )
