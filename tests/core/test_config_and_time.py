"""Settings, and the operations that decide when something is knowable."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core import config
from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.time import (
    add_sessions,
    as_of,
    check_zones,
    end_stamps,
    next_dates,
    periods_per_year,
    stray_dates,
    zone_of,
)


def test_environment_wins_over_the_file(monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_SEED", "99")
    assert config.setting("research", "seed", int) == 99


def test_root_is_found_from_below_and_from_outside(monkeypatch, tmp_path):
    root = config.root()
    monkeypatch.chdir(root / "nbs" / "core")
    assert config.root() == root
    monkeypatch.chdir(tmp_path)
    assert config.root() == root  # falls back to the folder that holds the package
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError):
        config.root()


def test_nbdev_settings_are_not_ours():
    with pytest.raises(ConfigError):
        config.setting("research", "lib_name")


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=30),
    st.lists(st.integers(0, 70), min_size=1, max_size=20),
)
def test_as_of_never_reads_a_later_value(values, decisions):
    base = pd.Timestamp("2024-01-01")
    known = pd.DataFrame(
        {"known_at": [base + pd.Timedelta(days=d) for d, _ in values], "v": [float(d) for d, _ in values]}
    )
    asked = pd.DataFrame({"date": [base + pd.Timedelta(days=d) for d in decisions]})
    seen = as_of(known, asked)
    for day, value in zip(decisions, seen["v"], strict=True):
        past = [d for d, _ in values if d <= day]
        assert (np.isnan(value) and not past) or value == max(past)


@given(st.integers(-20, 20))
def test_sessions_forward_and_back(n):
    calendar = pd.bdate_range("2024-01-01", periods=15)
    moved = add_sessions(calendar, calendar, n)
    there = moved.notna()
    assert add_sessions(moved[there], calendar, -n).equals(calendar[there])
    assert there.sum() == max(15 - abs(n), 0)


DAY = pd.Timestamp("2024-01-02 16:00")


@pytest.mark.parametrize(
    "make",
    [
        lambda d: pd.DatetimeIndex([d]),
        lambda d: pd.Series(1.0, [d]),
        lambda d: pd.Series([d]),
        lambda d: d,
        lambda d: pd.DataFrame({"x": 1.0}, pd.MultiIndex.from_tuples([(d, "A")], names=["date", "symbol"])),
    ],
)
def test_one_clock_for_all_or_an_error_that_names_both(make):
    plain, utc = make(DAY), make(DAY.tz_localize("UTC"))
    assert zone_of(plain) is None and zone_of(utc) == "UTC"
    check_zones(a=plain, b=plain, c=None)
    check_zones(a=utc, b=utc)
    for pair in ({"the_gate": plain, "bars": utc}, {"bars": utc, "the_gate": plain}):
        with pytest.raises(PanelError, match="bars is dated in UTC, the gate without a time zone"):
            check_zones(**pair)


def test_as_of_reads_intraday_decisions_and_refuses_two_clocks():
    values = pd.DataFrame({"known_at": pd.to_datetime(["2024-01-02 15:00Z"]), "v": [1.0]})
    decisions = pd.DataFrame({"date": pd.to_datetime(["2024-01-02 14:59Z", "2024-01-02 15:00Z"])})
    assert as_of(values, decisions)["v"].fillna(0).tolist() == [0, 1]
    for a, b in (
        (values, decisions.assign(date=decisions["date"].dt.tz_localize(None))),
        (values.assign(known_at=values["known_at"].dt.tz_localize(None)), decisions),
    ):
        with pytest.raises(PanelError, match="UTC.*without a time zone"):
            as_of(a, b)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (pd.bdate_range("2019-01-01", "2023-12-29"), 261),  # no holidays at all: measured, not assumed
        (pd.bdate_range("2023-01-02", periods=40), 252),  # too short to be measured
        (pd.bdate_range("2019-01-01", "2023-12-29")[np.arange(1304) % 14 != 3], 242),  # as many holidays as China has
        (pd.date_range("2021-01-01", "2021-03-01"), 365),
        (pd.date_range("2021-01-01 08:00", periods=900, freq="8h", tz="UTC"), 1095),
        (
            pd.DatetimeIndex(
                [
                    d + pd.Timedelta(minutes=5 * k)
                    for d in pd.bdate_range("2024-01-02", periods=30, tz="UTC") + pd.Timedelta("14:35:00")
                    for k in range(78)
                ]
            ),
            252 * 78,
        ),
        (
            pd.DatetimeIndex(
                [
                    h
                    for h in pd.date_range("2023-01-01 23:00", "2024-12-31 22:00", freq="h", tz="UTC")
                    if (h - pd.Timedelta("1h")).weekday() * 24 + (h - pd.Timedelta("1h")).hour
                    not in range(4 * 24 + 22, 6 * 24 + 22)
                ]
            ),
            261 * 24,
        ),  # a currency: Sunday 22:00 to Friday 22:00
        (pd.date_range("2020-01-03", periods=100, freq="W-FRI"), 52),
        (pd.date_range("2020-01-31", periods=30, freq="QE"), 4),
    ],
)
def test_a_year_has_as_many_bars_as_the_panel_shows(dates, expected):
    assert periods_per_year(dates) == expected
    with pytest.raises(PanelError, match="at least two"):
        periods_per_year(dates[:1])


def panel_index(dates, symbols="ABCDEFGH"):
    return pd.MultiIndex.from_product([dates, list(symbols)], names=["date", "symbol"])


def test_a_stray_date_is_found_wherever_it_lies_and_a_gap_is_not():
    days = pd.bdate_range("2024-01-01", periods=120)
    whole = panel_index(days)
    assert stray_dates(whole).empty and stray_dates(whole[:0]).empty and stray_dates(whole[:1]).empty
    for stray in (days[0] - pd.Timedelta("1D"), days[30] + pd.Timedelta(hours=12), days[-1] + pd.Timedelta("1D")):
        with_it = whole.append(pd.MultiIndex.from_tuples([(stray, "C")], names=whole.names)).sort_values()
        assert stray_dates(with_it).tolist() == [stray]
    saturday = pd.MultiIndex.from_tuples([(days[4] + pd.Timedelta("1D"), "A")], names=whole.names)
    three = panel_index(days, "ABC")
    assert stray_dates(three.append(saturday).sort_values()).tolist() == [days[4] + pd.Timedelta("1D")]
    growing = whole[
        whole.get_level_values("symbol").map("ABCDEFGH".index) * 14 <= (whole.get_level_values("date") - days[0]).days
    ]
    assert stray_dates(growing).empty  # a panel that starts with one name and grows
    every_day = panel_index(pd.date_range("2024-01-01", periods=120), "AB")
    assert stray_dates(every_day).empty
    assert stray_dates(whole[whole.get_level_values("date") != days[50]]).empty


def test_settings_of_other_kinds(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_X_FLAG", "yes")
    assert config.setting("x", "flag", bool) is True
    assert config.display_path("/elsewhere/file") == "/elsewhere/file"
    with pytest.raises(ConfigError, match="nothing"):
        config.setting("nowhere", "key")
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="holds no settings.ini"):
        config.root()


def test_nothing_in_nothing_out_of_time():
    none = pd.DatetimeIndex([])
    assert len(add_sessions(none, none, 1)) == 0
    known = pd.DataFrame({"known_at": pd.to_datetime(["2024-01-01"] * 2), "symbol": ["A", "B"], "v": [1.0, 2.0]})
    asked = pd.DataFrame({"date": pd.to_datetime(["2024-01-02"] * 2), "symbol": ["B", "A"]})
    assert as_of(known, asked)["v"].tolist() == [2.0, 1.0]
    assert len(as_of(known, asked.iloc[:0])) == 0 and as_of(known.iloc[:0], asked)["v"].isna().all()
    with pytest.raises(DataError, match="cannot be used"):
        as_of(known.assign(known_at=pd.NaT), asked)
    with pytest.raises(DataError, match="session label"):
        end_stamps(pd.date_range("2024-01-02", periods=3, tz="America/New_York"), "1d")


@pytest.mark.parametrize("freq", ["B", "D", "W-FRI", "2W-WED", "ME", "BME", "MS", "BMS", "QE", "BQE", "4h", "C"])
def test_dates_that_follow_keep_the_spacing(freq):
    zone = "UTC" if freq == "4h" else None
    rule = pd.offsets.CustomBusinessDay(weekmask="Sun Mon Tue Wed Thu") if freq == "C" else freq
    dates = pd.date_range("2001-03-02", periods=340, freq=rule, tz=zone, unit="us", name="date")
    for known in (120, 301, 303):
        pd.testing.assert_index_equal(next_dates(dates[:known], 37), dates[known : known + 37], exact="equiv")


def test_holidays_of_the_past_move_no_date_to_come():
    fridays = pd.date_range("2023-01-06", "2024-03-22", freq="W-FRI").append(pd.DatetimeIndex(["2024-03-28"]))
    assert next_dates(fridays, 2).strftime("%m-%d").tolist() == ["04-05", "04-12"]
    days = pd.bdate_range("2023-01-02", "2024-07-03").drop(pd.Timestamp("2023-12-25"))
    assert next_dates(days, 2).strftime("%m-%d").tolist() == ["07-04", "07-05"]
    months = pd.date_range("2021-01-31", "2024-02-29", freq="BME").append(pd.DatetimeIndex(["2024-03-28"]))
    assert next_dates(months, 2).strftime("%m-%d").tolist() == ["04-30", "05-31"]


def test_fewer_than_two_dates_have_no_spacing():
    for few in (pd.DatetimeIndex([]), pd.DatetimeIndex(["2024-01-01"]), pd.RangeIndex(5)):
        with pytest.raises(PanelError, match="no spacing"):
            next_dates(few, 3)
