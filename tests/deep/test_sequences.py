"""Sequences: windows that end at their date, nets that learn a motif and no noise, the room's contract."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from quantlab.core.audit import require_causal
from quantlab.core.errors import ConfigError, DataError, PanelError, QuantlabError
from quantlab.core.panel import to_wide
from quantlab.deep.sequences import (
    SequenceModel,
    lagged_columns,
    panel_windows,
    path_channels,
    row_windows,
    scale_windows,
    seen_share,
    tcn_levels,
    window_moments,
)
from quantlab.models.base import check_model, walk_forward
from quantlab.models.gbm import GBMModel
from quantlab.models.linear import RidgeModel
from quantlab.validation.scores import rank_ic

QUICK = {"steps": 4, "hidden": 4, "epochs": 2, "purge": 1, "batch": 64}


def rows_of(n_dates: int, n_symbols: int) -> pd.MultiIndex:
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    return pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])


def noise(n_dates: int = 30, n_symbols: int = 6, seed: int = 0, channels: int = 2) -> tuple[pd.DataFrame, pd.Series]:
    random, index = np.random.default_rng(seed), rows_of(n_dates, n_symbols)
    X = pd.DataFrame(random.normal(size=(len(index), channels)), index, list("ab")[:channels])
    return X, pd.Series(random.normal(size=len(index)), index, name="y")


def motif(n_dates: int = 160, n_symbols: int = 50, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "The outcome is high where the last ten moves trended, low where they zigzagged."
    random, index = np.random.default_rng(seed), rows_of(n_dates, n_symbols)
    moves = pd.DataFrame(random.normal(size=(n_dates, n_symbols)))
    truth = pd.Series(np.sign((moves * moves.shift(1)).rolling(10).sum()).to_numpy().ravel(), index)
    y = truth + 0.5 * random.normal(size=len(index))
    return pd.DataFrame({"move": moves.to_numpy().ravel()}, index), y.rename("y"), truth


PANEL, Y = noise()
WIDE = lagged_columns(PANEL, 4).iloc[18:]
OWN = Y.reindex(WIDE.index)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(1, 9), st.integers(1, 4), st.floats(0, 0.6), st.integers(0, 99))
def test_a_window_holds_the_last_sessions_of_its_name_and_nothing_else(steps, n_dates, n_symbols, gone, seed):
    random = np.random.default_rng(seed)
    full, _ = noise(n_dates, n_symbols, seed)
    panel = full.mask(random.random(full.shape) < 0.2)[random.random(len(full)) >= gone]
    if not len(panel):
        with pytest.raises(DataError):
            panel_windows(panel, steps)
        return
    windows = panel_windows(panel, steps)
    found = windows.take(windows.find(panel.index))
    for channel, name in enumerate(windows.channels):
        wide = to_wide(panel[name])
        for row, (date, symbol) in enumerate(panel.index):
            by_hand = wide[symbol].loc[:date].to_numpy()[-steps:]
            by_hand = np.r_[np.full(steps - len(by_hand), np.nan), by_hand].astype("float32")
            assert np.array_equal(found[row, :, channel], by_hand, equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 99))
def test_both_forms_give_the_same_windows(steps, seed):
    panel, _ = noise(15, 3, seed)
    panel = panel.drop(panel.index[np.random.default_rng(seed).random(len(panel)) < 0.2])
    wide, past = lagged_columns(panel, steps), panel_windows(panel, steps)
    rows = np.arange(len(panel))
    in_columns, in_past = row_windows(wide, steps), row_windows(panel[["a"]], steps, past)
    assert np.array_equal(in_columns.take(rows)[0], in_past.take(rows)[0], equal_nan=True)
    assert in_columns.channels == in_past.channels == ["a", "b"]
    assert np.array_equal(seen_share(in_columns, len(rows)), seen_share(in_past, len(rows)))


def test_windows_know_no_later_row():
    require_causal(lambda part: lagged_columns(part[["a", "b"]], 5), PANEL)


def test_the_panel_is_held_once_and_shared_by_clones():
    big, _ = noise(200, 20)
    windows = panel_windows(big, 60)
    assert windows.values.nbytes + windows.place.nbytes <= 1.6 * big.astype("float32").to_numpy().nbytes
    assert copy.deepcopy(windows) is windows and clone(SequenceModel(past=windows)).past is windows


def test_steps_without_rows_and_dates_without_a_past_are_named():
    windows = panel_windows(PANEL, 4)
    stranger = pd.MultiIndex.from_tuples([(PANEL.index[0][0], "ZZ")], names=["date", "symbol"])
    assert np.isnan(windows.take(windows.find(stranger))).all()
    late = pd.MultiIndex.from_tuples([(pd.Timestamp("2030-01-01"), "S00")], names=["date", "symbol"])
    with pytest.raises(DataError, match="2030-01-01"):
        windows.find(late)
    with pytest.raises(ConfigError, match="2 sessions"):
        panel_windows(PANEL, 1)
    with pytest.raises(DataError, match="no rows"):
        panel_windows(PANEL[:0], 4)
    with pytest.raises(DataError, match="infinite"):
        panel_windows(PANEL.replace(PANEL.iloc[0, 0], np.inf), 4)


def test_channels_are_told_from_features_that_end_in_numbers():
    columns = [*WIDE, "mom_252_21", "std_20", "c_00", "c_01"]
    assert path_channels(columns, 4) == ["a", "b"] and path_channels(columns, 2) == ["a", "b", "c"]
    assert path_channels(lagged_columns(PANEL, 101), 101) == ["a", "b"] and path_channels([], 4) == []


def test_the_scale_is_that_of_the_training_rows_and_holes_become_the_mean():
    wide = lagged_columns(PANEL, 4).assign(flat=3.0)
    reader, rows = row_windows(wide[sorted(wide)], 4), np.arange(30, 90)
    mean, scale = window_moments(reader, rows)
    cells = wide.iloc[rows][[f"a_0{i}" for i in range(4)]].to_numpy("float32").astype("float64")
    assert mean[0] == pytest.approx(cells.mean()) and scale[0] == pytest.approx(cells.std())
    assert (mean[2], scale[2]) == (3.0, 1.0)  # a column that never moves
    window, more = reader.take(np.array([0]))
    window[0, 3] = 1e9
    scaled, beside = scale_windows(window, more, mean, scale)
    assert scaled[0, :3].tolist() == [[0, 0, 0]] * 3 and scaled[0, 3].tolist() == [10, 10, 1]
    assert beside.tolist() == [[0]]
    empty = window_moments(row_windows(PANEL * np.nan, 4, panel_windows(PANEL * np.nan, 4)), rows)
    assert (empty[0] == 0).all() and (empty[1] == 1).all()


def test_blocks_of_the_convolution_see_the_whole_window():
    for steps in range(2, 200):
        levels = tcn_levels(steps)
        assert 1 + 4 * (2**levels - 1) >= steps and (levels == 1 or 1 + 4 * (2 ** (levels - 1) - 1) < steps)


def test_without_torch_one_line_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep") as caught:
        SequenceModel(**QUICK).fit(WIDE, OWN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [{"kind": "transformer"}, {"hidden": 0}, {"dropout": 1.0}, {"min_seen": -0.1}, {"validation": 1.0}, {"epochs": 0},
     {"rate": 0.0}, {"device": "quantum"}, {"purge": -1}, {"steps": 5}, {"purge": None}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting):
    pytest.importorskip("torch", reason="make deep")
    with pytest.raises(ConfigError):
        SequenceModel(**{**QUICK, **setting}).fit(WIDE, OWN)


@pytest.mark.parametrize("kind", ["tcn", "lstm", "gru"])
@pytest.mark.parametrize("form", ["columns", "past"])
def test_every_kind_keeps_the_contract_in_both_forms(kind, form):
    pytest.importorskip("torch", reason="make deep")
    model = SequenceModel(kind, **QUICK, past=None if form == "columns" else panel_windows(PANEL, 4))
    rules = check_model(model, WIDE.assign(own=1.5) if form == "columns" else PANEL.loc[WIDE.index], OWN)
    assert (rules == "pass").all()


@pytest.mark.parametrize("kind", ["tcn", "lstm", "gru"])
def test_two_fits_agree_to_the_last_bit_and_seeds_do_not(kind):
    torch = pytest.importorskip("torch", reason="make deep")
    model = SequenceModel(kind, **QUICK)
    one = clone(model).fit(WIDE, OWN)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    two, other = clone(model).fit(WIDE, OWN), clone(model).set_params(seed=8).fit(WIDE, OWN)
    assert all(np.array_equal(a, b) for a, b in zip(one.weights_, two.weights_, strict=True))
    assert one.history_.equals(two.history_) and torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not np.array_equal(one.weights_[0], other.weights_[0])


def test_the_past_and_the_columns_teach_the_same():
    pytest.importorskip("torch", reason="make deep")
    beside = pd.DataFrame({"own": PANEL["a"] * 2}).loc[WIDE.index]
    one = SequenceModel("gru", **QUICK).fit(WIDE.join(beside), OWN)
    two = SequenceModel("gru", **QUICK, past=panel_windows(PANEL, 4)).fit(beside, OWN)
    assert all(np.array_equal(a, b) for a, b in zip(one.weights_, two.weights_, strict=True))
    assert one.predict(WIDE.join(beside)).equals(two.predict(beside))


def test_rows_in_the_gap_teach_nothing_and_are_counted():
    pytest.importorskip("torch", reason="make deep")
    days = WIDE.index.get_level_values("date")
    gap = days.isin(days.unique()[-9:-5])  # 27 dates: 5 are watched, 4 purged
    model = SequenceModel("gru", **{**QUICK, "purge": 4})
    one = clone(model).fit(WIDE, OWN)
    two = clone(model).fit(WIDE.mask(gap[:, None] & np.ones(WIDE.shape, bool), 50.0), OWN.mask(gap, -50.0))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights_, two.weights_, strict=True))
    assert one.counts_.to_dict() == {
        "rows": 162, "learned from": 108, "watched": 30, "window too short": 0, "in the gap": 24,
    }  # fmt: skip


def test_short_windows_are_left_out_of_learning_and_scored():
    pytest.importorskip("torch", reason="make deep")
    whole = lagged_columns(PANEL, 4)
    model = SequenceModel("gru", **{**QUICK, "min_seen": 0.75}).fit(whole, Y)
    assert model.counts_["window too short"] == 2 * 6
    said = model.predict(whole)
    assert np.isfinite(said["score"]).all() and said["seen"].iloc[[0, 6, 12, 18]].tolist() == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(DataError, match="min_seen"):
        SequenceModel("gru", **QUICK).fit(whole * np.nan, Y)


def test_rows_without_weight_teach_nothing():
    pytest.importorskip("torch", reason="make deep")
    heavy = pd.Series(np.where(np.arange(len(OWN)) % 3, 2.0, 0.0), OWN.index)
    model = SequenceModel("gru", **QUICK)
    one, two = (clone(model).fit(WIDE, y, heavy) for y in (OWN, OWN.mask(heavy == 0, 1e3)))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights_, two.weights_, strict=True))
    assert not np.array_equal(one.weights_[0], clone(model).fit(WIDE, OWN).weights_[0])
    with pytest.raises(DataError, match="weight 0"):
        clone(model).fit(WIDE, OWN, pd.Series(np.arange(len(OWN)) == len(OWN) - 1, OWN.index, dtype=float))


def test_scores_are_in_units_of_the_outcome():
    pytest.importorskip("torch", reason="make deep")
    model = SequenceModel("gru", **QUICK)
    one, two = (clone(model).fit(WIDE, y).predict(WIDE)["score"] for y in (OWN, 1000 * OWN + 50))
    assert np.allclose(1000 * one + 50, two, rtol=1e-3, atol=1.0)
    flat = clone(model).fit(WIDE, OWN * 0 + 7).predict(WIDE)["score"]
    assert np.isfinite(flat).all() and flat.sub(7).abs().max() < 2


def test_degenerate_panels():
    pytest.importorskip("torch", reason="make deep")
    fitted = SequenceModel("gru", **QUICK).fit(WIDE, OWN)
    assert len(fitted.predict(WIDE.iloc[:0])) == 0 and np.isfinite(fitted.predict(WIDE.iloc[:1])["score"]).all()
    assert np.isfinite(fitted.predict(WIDE * np.nan)["score"]).all()
    one_name = WIDE.xs("S00", level="symbol", drop_level=False)
    alone = SequenceModel("tcn", **QUICK).fit(one_name, OWN[one_name.index])
    assert np.isfinite(alone.predict(one_name)["score"]).all()
    for bad in (WIDE.iloc[:6], WIDE.iloc[:0], WIDE.drop(columns="a_00").drop(columns="b_03")):
        with pytest.raises(QuantlabError):
            SequenceModel("gru", **QUICK).fit(bad, OWN.reindex(bad.index))
    with pytest.raises(PanelError):
        fitted.predict(WIDE.drop(columns="a_00"))


def test_a_fit_that_was_stopped_goes_on_and_other_rows_begin_anew(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="make deep")
    model = SequenceModel("tcn", **{**QUICK, "epochs": 6, "patience": 6})
    whole = clone(model).fit(WIDE, OWN)
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    begun = []

    def falls(numbers):
        for number in numbers:
            if number == 3:
                raise KeyboardInterrupt
            yield number

    noted = lambda numbers: begun.append(numbers) or numbers
    resumable = clone(model).set_params(resume=True)
    with pytest.raises(KeyboardInterrupt):
        clone(resumable).fit(WIDE, OWN, progress=falls)
    again = clone(resumable).fit(WIDE, OWN, progress=noted)
    clone(resumable).fit(WIDE, OWN + 1, progress=noted)
    clone(resumable).set_params(hidden=5).fit(WIDE, OWN, progress=noted)
    assert begun == [range(3, 6), range(0, 6), range(0, 6)]
    assert all(np.array_equal(a, b) for a, b in zip(whole.weights_, again.weights_, strict=True))


def test_walks_forward_and_resumes(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="make deep")
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    days = WIDE.index.get_level_values("date").factorize()[0]
    splits = [(np.flatnonzero(days < end), np.flatnonzero((days > end) & (days <= end + 5))) for end in (15, 21)]
    model = SequenceModel("gru", **QUICK)
    plain = walk_forward(model, WIDE, OWN, splits)
    assert walk_forward(model, WIDE, OWN, splits, resume=True).predictions.equals(plain.predictions)
    done = []
    again = walk_forward(model, WIDE, OWN, splits, resume=True, progress=lambda *a: done.append(a))
    assert again.predictions.equals(plain.predictions) and done == [(2, 2, "")]  # both folds were kept


def cut(index: pd.MultiIndex, first: int) -> tuple[np.ndarray, np.ndarray]:
    days = index.get_level_values("date").factorize()[0]
    end = int((days.max() + 1) * 0.75)
    return (days >= first) & (days < end - 1), days >= end


def test_a_motif_that_lines_and_single_steps_cannot_see_is_learned():
    pytest.importorskip("torch", reason="make deep")
    panel, y, truth = motif()
    X = lagged_columns(panel, 12)
    early, late = cut(X.index, 12)
    best = rank_ic(truth[late], y[late]).mean()
    net = SequenceModel("gru", 12, purge=1, rate=1e-2, dropout=0.0, epochs=30).fit(X[early], y[early])
    assert rank_ic(net.predict(X[late])["score"], y[late]).mean() > 0.75 * best
    trees = GBMModel(30, min_child_samples=50, num_threads=1)
    for blind, columns in ((RidgeModel(), list(X)), (trees, ["move_11"]), (trees, ["move_03"])):
        said = clone(blind).fit(X[early][columns], y[early]).predict(X[late][columns])["score"]
        assert abs(rank_ic(said, y[late]).mean()) < 0.15 * best


def test_what_is_not_there_is_not_found():
    pytest.importorskip("torch", reason="make deep")
    for seed in range(3):
        panel, y = noise(60, 30, seed, 1)
        X = lagged_columns(panel, 6)
        early, late = cut(X.index, 6)
        model = SequenceModel("gru", 6, purge=1, epochs=10).fit(X[early], y[early])
        daily = rank_ic(model.predict(X[late])["score"], y[late])
        assert abs(daily.mean()) < 3.5 * daily.std() / len(daily) ** 0.5  # the count at two errors is the slow test's


def test_a_few_rows_are_learned_by_heart_where_nothing_stops_the_net():
    pytest.importorskip("torch", reason="make deep")
    panel, y = noise(20, 8, 0, 1)
    X = lagged_columns(panel, 4).iloc[32:]
    y = y[X.index]
    given = {"hidden": 32, "validation": 0, "dropout": 0.0, "decay": 0.0, "batch": 64, "rate": 2e-2}
    model = SequenceModel("gru", 4, epochs=120, **given).fit(X, y)
    assert model.predict(X)["score"].corr(y) > 0.95 and model.history_["valid"].isna().all()
    assert model.best_ == 119


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tcn", "gru"])
def test_must_learn_and_must_not_learn_over_seeds(kind):
    pytest.importorskip("torch", reason="make deep")
    from quantlab.core.config import root

    sys.path.insert(0, str(root() / "bench"))
    import sequences as bench

    runs = [bench.learned(kind, seed) for seed in range(3)]
    assert sum(run["ic"] for run in runs) >= 0.8 * sum(run["truth"] for run in runs)
    assert bench.by_heart(kind, 0) > 0.99
    for shuffled in (False, True):
        assert sum(abs(bench.blank_ic(kind, seed, shuffled)) <= 2 for seed in range(20)) >= 17
