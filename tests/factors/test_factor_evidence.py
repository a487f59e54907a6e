"""Planted truth: a forecast is found at its horizon, and nothing is left of one that is its sector or its size."""

import numpy as np
import pandas as pd
import pytest

from quantlab.factors.event_study import event_figure, event_path, group_entries
from quantlab.factors.horizons import horizon_figure, horizon_table
from quantlab.factors.neutral import neutral_table, size_groups, trailing_beta, trailing_size

DATES = pd.bdate_range("2020-01-01", periods=300, name="date", unit="us")
NAMES = pd.Index([f"S{i:02d}" for i in range(40)], name="symbol")
INDEX = pd.MultiIndex.from_product([DATES, NAMES])
SECTORS = pd.Series(np.resize(list("ABCD"), len(INDEX)), INDEX)


def noise(seed):
    return pd.Series(np.random.default_rng(seed).normal(size=len(INDEX)), INDEX)


def test_a_forecast_of_one_session_is_found_there_and_only_there():
    score = noise(1)
    table = horizon_table(score, pd.DataFrame({1: 0.01 * (score + noise(2)), 20: 0.01 * noise(3)}))
    pearson = 1 / np.sqrt(2)
    assert table.loc[1, "ic"] == pytest.approx(6 / np.pi * np.arcsin(pearson / 2), abs=0.02)
    assert table.loc[1, "p"] < 0.01
    assert abs(table.loc[20, "ic"]) < 3 * table.loc[20, "se"]
    assert table.loc[1, "spread"] == pytest.approx(0.028, abs=0.002)  # 2 * 1.4 standard deviations of the score
    assert table.loc[1, "turnover"] == pytest.approx(1, abs=0.02)


def test_the_spread_is_per_session():
    score, y = noise(1), 0.01 * noise(1)
    table = horizon_table(score, pd.DataFrame({1: y, 10: y}))
    assert table.loc[10, "spread"] == pytest.approx(table.loc[1, "spread"] / 10)


def test_an_empty_outcome_is_a_row_of_nan_and_is_drawn():
    table = horizon_table(noise(1), pd.DataFrame({1: noise(2), 250: np.nan}, INDEX))
    assert table.loc[250].isna().all() and table.loc[1].notna().all()
    horizon_figure(table)


def test_a_factor_that_is_its_sector_has_no_ic_left():
    day = pd.DataFrame(np.random.default_rng(4).normal(size=(300, 4)), DATES, list("ABCD"))
    wide = pd.DataFrame({name: day[SECTORS[DATES[0], name]] for name in NAMES})
    sector = pd.Series(wide.to_numpy().ravel(), INDEX)
    y = sector + noise(5)
    table = neutral_table(sector + 0.01 * noise(6), y, 1, pd.DataFrame({"size": noise(7)}), SECTORS)
    assert table.loc["as it is", "ic"] > 0.5
    assert abs(table.loc["sector-neutral", "left"]) < 0.05
    assert abs(table.loc["all of them", "left"]) < 0.05
    assert table.loc["size-neutral", "left"] > 0.9


def test_size_is_the_trailing_median_and_terciles_are_equal():
    bars = pd.DataFrame({"amount": np.exp(noise(8))})
    size = trailing_size(bars, 60)
    name = bars["amount"].xs("S03", level="symbol")
    assert size[DATES[100], "S03"] == pytest.approx(np.log(np.median(name.iloc[41:101])))
    assert size[: DATES[58]].isna().all()
    counts = size_groups(size)[DATES[100]].value_counts()
    assert counts.sum() == 40 and counts.max() - counts.min() <= 1
    assert size_groups(size)[DATES[0]].isna().all()


def test_planted_betas_come_back_and_the_future_is_not_read():
    plant = np.linspace(0.5, 1.5, 40)
    market = np.random.default_rng(9).normal(scale=0.01, size=(300, 1))
    returns = market * plant + 1e-4 * noise(10).to_numpy().reshape(300, 40)
    close = pd.DataFrame({"close": (1 + returns).cumprod(axis=0).ravel()}, INDEX)
    beta = trailing_beta(close, 100)
    assert np.allclose(beta[DATES[-1]], plant, atol=0.02)
    early = trailing_beta(close[: DATES[150]], 100)
    assert np.allclose(beta[DATES[150]], early[DATES[150]])


@pytest.mark.parametrize("shape", ["one symbol", "one date", "all missing", "no dispersion"])
def test_degenerate_input_gives_no_p(shape):
    score, y = noise(1), noise(2)
    if shape == "one symbol":
        score, y = (x.xs("S00", level="symbol", drop_level=False) for x in (score, y))
    if shape == "one date":
        score, y = (x[x.index.get_level_values("date") == DATES[0]] for x in (score, y))
    if shape == "all missing":
        y = y * np.nan
    if shape == "no dispersion":
        score = score * 0 + 1
    assert horizon_table(score, pd.DataFrame({1: y}))["p"].isna().all()
    exposures = pd.DataFrame({"size": noise(3).reindex(score.index)})
    assert neutral_table(score, y, 1, exposures, SECTORS.reindex(score.index))["p"].isna().all()


def slow_path(entered, close, before, after):
    "The mean path by loops over dates and names."
    wide = close.unstack()
    relative = wide.pct_change(fill_method=None)
    relative = relative.sub(relative.median(axis=1), axis=0)
    paths = {}
    for i, date in enumerate(wide.index):
        for name in wide.columns:
            if entered.loc[date, name] and before <= i < len(wide) - after:
                r = relative[name].to_numpy()
                ahead = [r[i + 1 : i + 1 + s].sum() for s in range(after + 1)]
                behind = [-r[i + 1 - s : i + 1].sum() for s in range(before, 0, -1)]
                paths.setdefault(date, []).append(behind + ahead)
    by_date = np.array([np.mean(one, axis=0) for one in paths.values()])
    return by_date.mean(axis=0), len(by_date)


@pytest.mark.parametrize("top", [True, False])
def test_the_path_is_that_of_loops(top):
    score = noise(11)
    close = (1 + 0.01 * noise(12)).groupby("symbol").cumprod()
    entered = group_entries(score, 4, top)
    ranks = score.unstack().rank(axis=1, pct=True)
    inside = ranks > 0.75 if top else ranks <= 0.25
    assert (entered.iloc[1:] == (inside & ~inside.shift(fill_value=False)).iloc[1:]).all(axis=None)
    path = event_path(entered, close, 5, 7)
    mean, dates = slow_path(entered, close, 5, 7)
    # the first return is missing, so the first date that has all of its past is one later
    assert path["dates"].eq(dates).all() and np.allclose(path["mean"], mean, atol=1e-12)
    assert list(path.index) == list(range(-5, 8)) and path.loc[0, ["mean", "se"]].tolist() == [0.0, 0.0]


def test_the_error_knows_that_entries_share_sessions():
    """Two halves of the names move against each other, and for weeks entries come from one half: they share sessions.

    Nothing is forecast, so the path is within two errors about as often as it should be; an error that takes the dates
    as independent is far too small here.
    """
    half = pd.Series(np.resize([1.0, -1.0], len(INDEX)), INDEX)
    inside = []
    for seed in range(60):
        day = np.random.default_rng(seed).normal(size=(2, len(DATES)))
        tilt = pd.Series(day[0], DATES).rolling(40, min_periods=1).mean().mul(6)
        spread = {"tilt": tilt, "move": pd.Series(day[1], DATES)}
        tilted, moved = (half * spread[one].reindex(DATES).repeat(len(NAMES)).to_numpy() for one in ("tilt", "move"))
        close = (1 + 0.01 * moved + 0.002 * noise(200 + seed)).groupby("symbol").cumprod()
        path = event_path(group_entries(tilted + noise(100 + seed)), close, 5, 10)
        inside.append(abs(path.loc[10, "mean"]) < 2 * path.loc[10, "se"])
    assert np.mean(inside) > 0.8, np.mean(inside)


@pytest.mark.parametrize("shape", ["one symbol", "one date", "all missing", "no dispersion", "infinite"])
def test_degenerate_events_are_no_number(shape):
    score, close = noise(1), np.exp(0.01 * noise(2))
    if shape == "one symbol":
        score, close = (
            score.xs("S00", level="symbol", drop_level=False),
            close.xs("S00", level="symbol", drop_level=False),
        )
    if shape == "one date":
        score, close = score.loc[DATES[:1]], close.loc[DATES[:1]]
    if shape == "all missing":
        score = score * np.nan
    if shape == "no dispersion":
        score = score * 0 + 1
    if shape == "infinite":
        close = close * np.inf
    path = event_path(group_entries(score), close)
    assert (path["dates"] == 0).all() and path["mean"].isna().all()
    event_figure({"top": path})


def test_the_share_that_is_left_of_nothing_is_no_number():
    table = neutral_table(noise(1), noise(2), 1, pd.DataFrame({"size": noise(3)}))
    assert table["left"].isna().all() and table["ic"].notna().all()
