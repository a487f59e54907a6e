"""The door of the reports: bars of any interval, whole UTC days, stray dates named."""

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import ConfigError, QuantlabError
from quantlab.data.store import Lake
from quantlab.recipe.market import check_market, load_market, parse_period
from quantlab.report.tearsheet import data_table, stamps


def frame(dates: pd.DatetimeIndex, symbols: str = "ABCDE") -> pd.DataFrame:
    """Bars of a few names that walk."""
    rng = np.random.default_rng(0)
    rows = []
    for s in symbols:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(dates))))
        rows.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "symbol": s,
                    "open": close,
                    "high": close * 1.01,
                    "low": close * 0.99,
                    "close": close,
                    "volume": 1000.0,
                }
            )
        )
    return pd.concat(rows)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path / "lake"))
    hours = pd.date_range("2021-01-01 04:00", periods=60, freq="4h", tz="UTC", unit="us")
    days = pd.bdate_range("2021-01-01", periods=60, unit="us")
    frame(hours).to_csv(tmp_path / "hours.csv", index=False)
    frame(days).to_parquet(tmp_path / "days.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "bars"),
    [
        ("2021-01-01", "2021-12-31", "2021-01-01 04:00Z", "2021-01-11 00:00Z", 60),
        (
            "2021-01-03",
            "2021-01-03",
            "2021-01-03 04:00Z",
            "2021-01-04 00:00Z",
            6,
        ),  # one UTC day, its last bar ends at midnight
        ("2021-01-03", "2021-01-03T12:00Z", "2021-01-03 04:00Z", "2021-01-03 12:00Z", 3),
        ("2021-01-03T04:00Z", "2021-01-04", "2021-01-03 04:00Z", "2021-01-05 00:00Z", 12),
        ("2021-01-02T20:00-04:00", "2021-01-03T13:00+01:00", "2021-01-03 00:00Z", "2021-01-03 12:00Z", 4),
    ],
)
def test_plain_dates_are_utc_days_and_moments_are_moments(files, start, end, first, last, bars) -> None:
    market = load_market(str(files / "hours.csv"), "all", start, end)
    dates = market.bars.index.unique("date")
    assert (dates[0], dates[-1], len(dates)) == (pd.Timestamp(first), pd.Timestamp(last), bars)
    assert market.periods_per_year == 2190 and market.index.index.equals(dates)


def test_daily_bars_take_plain_dates_only(files) -> None:
    file = str(files / "days.parquet")
    assert load_market(file, "all", "2021-01-04", "2021-01-08").bars.index.unique("date").size == 5
    with pytest.raises(ConfigError, match="start is a moment in UTC.*2021-01-04"):
        load_market(file, "all", "2021-01-04T00:00Z", "2021-01-08")
    with pytest.raises(ConfigError, match="end has a time of day and no zone.*2021-01-08 16:00Z"):
        load_market(str(files / "hours.csv"), "all", "2021-01-04", "2021-01-08 16:00")
    for start, end in (
        ("2021-01-05", "2021-01-04"),
        ("2021-01-04T12:00Z", "2021-01-04T12:00Z"),
        ("2021-01-05", "2021-01-04T12:00Z"),
    ):
        with pytest.raises(ConfigError, match="is not after"):
            parse_period(start, end)


def test_the_interval_that_is_told_must_be_that_of_the_bars(files) -> None:
    period = ("all", "2021-01-01", "2021-12-31")
    assert len(load_market(str(files / "hours.csv"), *period, interval="4h").bars) == 300
    assert len(load_market(str(files / "days.parquet"), *period, interval="1d").bars) == 300
    for name, interval, words in (
        ("hours.csv", "1h", "4:00:00 apart, in UTC"),
        ("hours.csv", "1d", "apart, in UTC"),
        ("days.parquet", "4h", "are daily"),
        ("hours.csv", "5h", "no interval"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_market(str(files / name), *period, interval=interval)
    lake = Lake()
    panels = {
        i: pd.read_parquet(files / "days.parquet")
        if i == "1d"
        else pd.read_csv(files / "hours.csv", parse_dates=["date"])
        for i in ("1d", "4h")
    }
    for interval, table in panels.items():
        bars = (
            table.assign(date=table["date"].dt.as_unit("us"), symbol=table["symbol"].astype("str"))
            .set_index(["date", "symbol"])
            .sort_index()
        )
        lake.write("both", interval, bars)
        lake.write(f"only_{interval}", interval, bars)
    assert load_market("lake:only_4h", *period).periods_per_year == 2190  # the only one it has
    with pytest.raises(ConfigError, match="1d, 4h.*interval|4h, 1d.*interval"):
        load_market("lake:both", *period)
    assert [load_market("lake:both", *period, interval=i).periods_per_year for i in ("1d", "4h")] == [252, 2190]
    check_market("lake:both", *period, sessions=60, interval="4h")
    with pytest.raises(QuantlabError):
        load_market("lake:none", *period)


def test_stray_dates_are_left_out_and_named(files) -> None:
    table = pd.read_parquet(files / "days.parquet")
    saturday = pd.Timestamp("2021-02-06")
    alone = table[table["symbol"] == "B"].iloc[[20]].assign(date=saturday)
    pd.concat([table, alone]).to_parquet(files / "dirty.parquet")
    market, clean = (
        load_market(str(files / f"{name}.parquet"), "all", "2021-01-01", "2021-12-31") for name in ("dirty", "days")
    )
    assert market.stray.tolist() == [saturday] and market.hash == clean.hash
    pd.testing.assert_frame_equal(market.bars, clean.bars)
    facts = data_table(market)["value"]
    assert facts["sessions left out because almost nobody traded"] == "1, first 2021-02-06"
    assert not data_table(clean).index.str.contains("left out").any()


def test_dates_are_written_with_their_time_where_they_have_one(files) -> None:
    hours, days = (
        load_market(str(files / name), "all", "2021-01-01", "2021-12-31") for name in ("hours.csv", "days.parquet")
    )
    assert data_table(hours).loc[["bars, by their end in UTC", "sessions"], "value"].tolist() == [
        "2021-01-01 04:00 to 2021-01-11 00:00",
        "60 sessions",
    ]
    assert data_table(hours)["value"].str.len().max() < 50  # longer cells would be cut on the page
    assert data_table(days).loc["sessions", "value"] == "2021-01-01 to 2021-03-25, 60 sessions"
    assert stamps(pd.Series(pd.to_datetime(["2021-01-01 04:00Z", None]))).tolist() == ["2021-01-01 04:00", "–"]
    assert stamps(pd.Series(pd.to_datetime(["2021-01-01", None])), "never").tolist() == ["2021-01-01", "never"]
