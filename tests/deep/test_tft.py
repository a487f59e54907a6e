"""The temporal fusion transformer: its bricks by hand, quantiles that hold, the planted variable found."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from quantlab.core.errors import ConfigError, DataError
from quantlab.data.calendar import exchange_sessions
from quantlab.deep import tft
from quantlab.deep.sequences import lagged_columns, panel_windows, row_windows
from quantlab.deep.tft import (
    TFT,
    _residual_each,
    calendar_inputs,
    gated_residual,
    interpret,
    quantile_verdict,
    readable_attention,
    trading_week,
    variable_selection,
)
from quantlab.models.base import check_model
from quantlab.report.template import fill_parameters, find_template, read_parameters, run_check
from quantlab.validation.calibration import pinball
from quantlab.validation.scores import rank_ic

WEEK = "1111100"  # the made-up panels trade on holidays too
QUICK = {"num_epochs": 2, "hidden_size": 4, "steps": 4, "horizon": 2, "ahead": 2, "batch": 64, "calendar": WEEK}


def planted(n_dates: int = 100, n_symbols: int = 40, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    "The middle of the outcome hangs on one channel, its width on the weekday."
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-01", periods=n_dates, unit="us")
    index = pd.MultiIndex.from_product([dates, [f"S{i:02d}" for i in range(n_symbols)]], names=["date", "symbol"])
    panel = pd.DataFrame(random.normal(size=(len(index), 3)), index, ["idle_a", "idle_b", "planted"])
    middle = pd.Series(2 * panel["planted"].unstack().rolling(3).mean().to_numpy().ravel(), index)
    wide = np.where(index.get_level_values("date").day_of_week == 4, 1.5, 0.5)
    return panel, (middle + wide * random.normal(size=len(index))).rename("y"), middle


PANEL, Y, _ = planted(30, 6)
WIDE = lagged_columns(PANEL, 4).iloc[24:]
OWN = Y.reindex(WIDE.index)


def test_a_week_agrees_with_pandas():
    dates = pd.bdate_range("2019-11-01", periods=120)
    told = calendar_inputs(dates, np.arange(-5, 8), 7, WEEK)
    for column, offset in enumerate(range(-5, 8)):
        days = dates + offset * pd.offsets.BDay()
        assert (told[:, column, 2] == days.day_of_week).all()
        assert (told[:, column, 0] == (days.to_period("M") != (days + pd.offsets.BDay()).to_period("M"))).all()
        assert np.allclose(told[:, column, 1], (7 - offset) / 7)


@pytest.mark.parametrize("exchange", ["XNYS", "XSHG"])
def test_an_exchange_agrees_with_its_own_sessions(exchange):
    sessions = exchange_sessions(exchange, "2018-11-01", "2021-03-31")
    told = calendar_inputs(sessions[60:-60], np.arange(-20, 21), 20, exchange)
    for column, offset in enumerate(range(-20, 21)):
        days, after = (sessions[60 + by : len(sessions) - 60 + by] for by in (offset, offset + 1))
        assert (told[:, column, 2] == days.day_of_week).all()
        assert (told[:, column, 0] == (days.month != after.month)).all()


def test_sessions_beyond_the_last_row_are_those_of_the_exchange():
    # Wednesday before Thanksgiving, Wednesday before Good Friday (a month's last session), Tuesday before New Year
    last = pd.DatetimeIndex(["2019-11-27", "2018-03-28", "2019-12-31"])
    told = calendar_inputs(last, np.arange(1, 4), 3)
    assert told[..., 2].tolist() == [[4, 0, 1], [3, 0, 1], [3, 4, 0]]
    assert told[..., 0].tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_the_calendar_of_a_market_that_never_closes():
    dates = pd.date_range("2020-02-27", periods=4)
    told = calendar_inputs(dates, np.array([0, 1]), 1, "24/7")
    assert told[:, 0, 2].tolist() == [3, 4, 5, 6] and told[:, 0, 0].tolist() == [0, 0, 1, 0]
    assert np.array_equal(told, calendar_inputs(dates, np.array([0, 1]), 1, "1111111"))


@pytest.mark.parametrize("calendar", ["weekdays", "0000000", "11111", "1111102", "", "XNYZ"])
def test_a_calendar_that_is_none_is_refused(calendar):
    with pytest.raises(ConfigError, match="7 digits|ISO code|close to it"):
        calendar_inputs(pd.DatetimeIndex(["2020-02-28"]), np.array([0]), 1, calendar)


@pytest.mark.parametrize(("day", "calendar"), [("2020-02-29", WEEK), ("2020-01-20", "XNYS"), ("2020-02-29", "XNYS")])
def test_a_day_without_trading_is_refused(day, calendar):
    with pytest.raises(DataError, match=f"{day} is no session of {calendar}"):
        calendar_inputs(pd.DatetimeIndex(["2020-01-21", day]), np.array([0]), 1, calendar)


def test_beyond_the_end_of_an_exchange_calendar_is_refused():
    far = pd.DatetimeIndex(["2060-06-01"])  # the lunar holidays of Shanghai are listed for a few years only
    with pytest.raises(ConfigError, match="does not cover"):
        calendar_inputs(far, np.array([1]), 1, "XSHG")
    assert calendar_inputs(pd.DatetimeIndex([]), np.array([0, 1]), 1).shape == (0, 2, 3)


def test_days_that_trade_are_read_from_the_dates():
    assert trading_week(pd.bdate_range("2020-01-01", periods=9)) == WEEK == trading_week(pd.DatetimeIndex([]))
    assert trading_week(pd.date_range("2020-01-01", periods=7)) == "1111111"
    assert trading_week(pd.DatetimeIndex(["2020-01-05", "2020-01-06"])) == "1000001"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(sorted), min_size=1, max_size=5),
    st.floats(0.1, 3), st.floats(-2, 2),
)  # fmt: skip
def test_the_verdict_follows_shift_and_scale(rows, scale, shift):
    quantiles, levels = np.array(rows), (0.1, 0.5, 0.9)
    one, two = quantile_verdict(quantiles, levels), quantile_verdict(quantiles * scale + shift, levels)
    assert np.allclose(two["mean"], one["mean"] * scale + shift) and np.allclose(two["doubt"], one["doubt"] * scale)
    assert ((one["prob"] >= 0) & (one["prob"] <= 1 + 1e-12)).all()
    higher = quantile_verdict(quantiles + 1, levels)["prob"]
    assert (higher >= one["prob"] - 1e-9).all()


def test_the_verdict_on_a_normal():
    levels = tuple(np.arange(1, 100) / 100)
    for middle, size in ((0.0, 1.0), (0.5, 2.0), (-1.0, 0.7)):
        verdict = quantile_verdict(norm.ppf(levels, middle, size)[None], levels)
        assert verdict["mean"][0] == pytest.approx(middle, abs=1e-9) and verdict["doubt"][0] == pytest.approx(size)
        assert verdict["prob"][0] == pytest.approx(norm.cdf(middle / size), abs=2e-3)


def test_many_residuals_at_once_are_as_many_one_by_one():
    torch = pytest.importorskip("torch", reason="make deep")
    torch.manual_seed(0)
    many, x = _residual_each(torch, 3, 8, 0.0), torch.randn(5, 3, 8)
    for j in range(3):
        one = gated_residual(torch, 8, 8, 8, 0, 0.0)
        for name, layer in (("into", one.into), ("on", one.on), ("both", one.gate.both)):
            layer.weight.data, layer.bias.data = many.slopes[name][j].T, many.levels[name][j]
        assert torch.allclose(many(x)[:, j], one(x[:, j]), atol=1e-5)


def test_attention_by_hand():
    torch = pytest.importorskip("torch", reason="make deep")
    torch.manual_seed(0)
    layer, seen = readable_attention(torch, 6, 2), torch.randn(2, 4, 6)
    out, shares = layer(seen[:, -1], seen)
    asks, keys = layer.ask(seen[:, -1]), layer.key(seen)
    by_head = [
        torch.softmax((keys[..., part] * asks[:, None, part]).sum(dim=-1) / 3**0.5, dim=1)
        for part in (slice(0, 3), slice(3, 6))
    ]
    assert torch.allclose(shares, sum(by_head) / 2, atol=1e-6)
    assert torch.allclose(out, layer.out(torch.einsum("np,npd->nd", shares, layer.value(seen))), atol=1e-6)


def test_weights_of_variables_sum_to_one_and_hear_the_context():
    torch = pytest.importorskip("torch", reason="make deep")
    torch.manual_seed(0)
    choice, x = variable_selection(torch, 3, False, 4, 4, 0.0), torch.randn(5, 7, 3)
    weights = [choice(x, c * torch.ones(5, 1, 4))[1] for c in (0.0, 5.0)]
    assert torch.allclose(weights[0].sum(dim=-1), torch.ones(5, 7), atol=1e-6)
    assert not torch.allclose(*weights)


def test_the_loss_is_the_pinball_loss_of_the_house():
    torch = pytest.importorskip("torch", reason="make deep")
    random = np.random.default_rng(0)
    said, wanted = random.normal(size=(40, 3)), random.normal(size=40)
    ours = TFT(levels=(0.1, 0.5, 0.9))._loss(torch, torch.from_numpy(said), torch.from_numpy(wanted))
    theirs = pinball(pd.Series(wanted), pd.DataFrame(said, columns=["q10", "q50", "q90"]))
    assert float(ours.mean()) == pytest.approx(float(np.sum(theirs)))


def test_without_torch_one_line_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="make deep"):
        TFT(**QUICK).fit(WIDE, OWN)


def test_the_report_without_torch_is_refused_before_any_data_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    file = find_template("tft")
    with pytest.raises(ConfigError, match="make deep") as caught:
        run_check(file, fill_parameters(read_parameters(file), {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [{"heads": 3}, {"heads": 0}, {"ahead": 0}, {"ahead": 3}, {"point": "mode"}, {"levels": (0.1, 0.9)},
     {"levels": (0.5,)}, {"num_epochs": 0}, {"dropout": 1.0}, {"validation": -0.1}, {"steps": 1}, {"calendar": "111"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting):
    pytest.importorskip("torch", reason="make deep")
    with pytest.raises(ConfigError):
        TFT(**{**QUICK, **setting}).fit(WIDE, OWN)


@pytest.mark.parametrize("form", ["columns", "beside", "past"])
def test_it_keeps_the_contract(form):
    pytest.importorskip("torch", reason="make deep")
    X = {"columns": WIDE, "beside": WIDE.assign(own=PANEL["planted"]), "past": PANEL.loc[WIDE.index]}[form]
    model = TFT(**QUICK, past=panel_windows(PANEL, 4) if form == "past" else None)
    assert (check_model(model, X, OWN) == "pass").all()


def test_quantiles_are_in_order_and_the_rest_follows_from_them():
    pytest.importorskip("torch", reason="make deep")
    told = TFT(**QUICK).fit(WIDE, OWN).predict(WIDE)
    names = ["q10", "q25", "q50", "q75", "q90"]
    assert (told[names].diff(axis=1).iloc[:, 1:] >= 0).all().all() and told["score"].equals(told["q50"].rename("score"))
    assert told["prob"].between(0, 1).all() and (told["doubt"] >= 0).all() and (told["seen"] == 1).all()
    mean = TFT(**QUICK, point="mean").fit(WIDE, OWN).predict(WIDE)
    assert mean[names].equals(told[names]) and not mean["score"].equals(told["score"])


def what_is_read(X: pd.DataFrame, last: pd.Timestamp) -> list[tuple[np.ndarray, pd.DataFrame]]:
    "Return what the net reads of the calendar, and what it says, up to a date: from all rows, and from those alone."
    model, found = TFT(**QUICK).fit(WIDE, OWN), []
    for part in (X, X.loc[:last]):
        now = part.index.get_level_values("date") <= last
        reader = row_windows(part, model.steps)
        past, ahead, _ = model._inputs(reader, np.arange(len(part)), part.index)
        found.append((np.concatenate([past[..., -3:], ahead], axis=1)[now], model.predict(part)[now]))
    return found


def test_the_calendar_cannot_leak():
    pytest.importorskip("torch", reason="make deep")
    for last in WIDE.index.unique("date")[[3, -6]]:
        (read, said), (alone, then) = what_is_read(WIDE, last)
        assert np.array_equal(read, alone) and said.equals(then)


def test_a_calendar_that_reads_the_sessions_to_come_from_the_rows_is_caught(monkeypatch):
    pytest.importorskip("torch", reason="make deep")

    def leaking(dates, offsets, horizon, calendar):  # counts on the dates of the rows it is asked about
        days = dates.unique().sort_values()
        at = days.get_indexer(dates)[:, None] + offsets
        there = days.day_of_week.to_numpy()[at.clip(0, len(days) - 1)]
        return np.stack([at >= len(days), np.broadcast_to(offsets, at.shape), there], axis=2).astype("float32")

    monkeypatch.setattr(tft, "calendar_inputs", leaking)
    (read, said), (alone, then) = what_is_read(WIDE, WIDE.index.unique("date")[3])
    assert not np.array_equal(read, alone) and not said.equals(then)


def test_the_outcome_is_purged():
    pytest.importorskip("torch", reason="make deep")
    days, fitted = WIDE.index.get_level_values("date").nunique(), TFT(**QUICK).fit(WIDE, OWN)
    assert TFT(**QUICK, purge=5).fit(WIDE, OWN).counts_["in the gap"] == 5 * 6
    assert fitted.counts_["in the gap"] == 3 * 6 and fitted.counts_["watched"] == round(days * 0.2) * 6


@pytest.fixture(scope="module")
def fitted():
    pytest.importorskip("torch", reason="make deep")
    panel, y, middle = planted()
    X = lagged_columns(panel, 6)
    days = X.index.get_level_values("date").factorize()[0]
    early, late = (days >= 6) & (days < 73), days >= 75
    model = TFT(num_epochs=15, hidden_size=8, steps=6, horizon=1, ahead=1, calendar=WEEK).fit(X[early], y[early])
    return model, X[late], y[late], middle[late]


def test_the_planted_variable_is_found_and_the_interval_holds(fitted):
    model, X, y, middle = fitted
    told, seen = model.predict(X), interpret(model, X)
    assert rank_ic(told["score"], y).mean() > 0.8 * rank_ic(middle, y).mean()
    assert 0.75 <= ((y > told["q10"]) & (y < told["q90"])).mean() <= 0.85
    assert seen.variables["weight"].idxmax() == seen.variables["effect"].idxmax() == "planted"
    friday = told.index.get_level_values("date").day_of_week == 4
    assert told["doubt"][friday].mean() > 1.5 * told["doubt"][~friday].mean()


def test_an_interpretation_adds_up(fitted):
    model, X, *_ = fitted
    seen = interpret(model, X)
    assert np.allclose(seen.variables.sum(), 1) and seen.attention.sum() == pytest.approx(1) and seen.rows == len(X)
    assert list(seen.attention.index) == [-5, -4, -3, -2, -1, 0, 1] and np.allclose(seen.by_session.sum(axis=1), 1)
    half = [interpret(model, part).attention * len(part) for part in (X.iloc[:400], X.iloc[400:])]
    assert np.allclose((half[0] + half[1]) / len(X), seen.attention)
    fig = seen.picture()
    assert "planted" in fig.axes[0].get_title(loc="left") + fig.axes[0].get_title() and "table" in seen._repr_html_()
    plt.close(fig)
    with pytest.raises(DataError, match="no rows"):
        interpret(model, X.iloc[:0])


def test_one_row_can_be_interpreted(fitted):
    model, X, *_ = fitted
    seen = interpret(model, X.iloc[:1])
    assert seen.variables["weight"].sum() == pytest.approx(1) and (seen.variables["effect"].fillna(0) == 0).all()


@pytest.mark.slow
def test_over_seeds_the_variable_is_found_and_noise_is_not():
    pytest.importorskip("torch", reason="make deep")
    from quantlab.core.config import root

    sys.path.insert(0, str(root() / "bench"))
    import sequences as bench

    runs = [bench.explained(seed) for seed in range(3)]
    assert all(run["first by effect"] for run in runs) and 0.75 <= np.mean([run["inside"] for run in runs]) <= 0.85
    assert sum(abs(bench.blank_ic("tft", seed, False)) <= 2 for seed in range(20)) >= 17
