"""data.read and data.universe: what was knowable, and nothing later."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.panel import as_panel
from quantlab.data.bars import adjust
from quantlab.data.read import get_bars
from quantlab.data.sample import sample_bars, sample_members
from quantlab.data.store import Lake
from quantlab.data.universe import known_spells, member_mask, members, sectors_asof, series_ends

SHARED = Path(os.environ.get("QUANTLAB_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
DAYS = pd.bdate_range("2023-12-20", periods=15)


def raw_bars(symbols="AB", days=DAYS, seed=0, split=True):
    "Bars as traded, with a split and a dividend on the way."
    rng = np.random.default_rng(seed)
    rows = [{"date": d, "symbol": s} for d in days for s in symbols]
    base = rng.uniform(10, 20, len(rows))
    frame = pd.DataFrame(rows).assign(open=base, high=base + 2, low=base - 2, close=base + 1, volume=100.0)
    halves, payouts = pd.Timestamp("2023-12-28"), pd.Timestamp("2024-01-03")
    frame["adj"] = np.where(frame["date"] < payouts, 0.95, 1.0)
    if split:
        frame["split"] = np.where((frame["date"] < halves) & (frame["symbol"] == "A"), 0.5, 1.0)
    return as_panel(frame)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.write("raw", "1d", raw_bars())
    lake.write("split_only", "1d", raw_bars(split=False))
    lake.write("bare", "1d", raw_bars(split=False).drop(columns="adj"))
    return lake


@pytest.mark.parametrize("how", ["none", "split", "total"])
def test_adjustments_equal_the_definition(lake, how):
    pd.testing.assert_frame_equal(
        get_bars(adjust=how, dataset="raw", source=lake), adjust(raw_bars(), how), check_exact=True
    )


@pytest.mark.parametrize(
    ("dataset", "how", "said"),
    [("split_only", "none", "'split' or 'total'"), ("bare", "none", "'split',"), ("bare", "total", "no column adj")],
)
def test_an_adjustment_the_source_cannot_give_is_an_error(lake, dataset, how, said):
    with pytest.raises(DataError, match=said):
        get_bars(adjust=how, dataset=dataset, source=lake)
    assert len(get_bars(dataset=dataset, source=lake)) == 30


def walk(days, seed, **more):
    "A quiet history of two names."
    rng, rows = np.random.default_rng(seed), []
    for symbol in "AB":
        close = 40 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
        rows.append(
            pd.DataFrame(
                {
                    "date": days,
                    "symbol": symbol,
                    "open": close * 0.999,
                    "high": close * 1.01,
                    "low": close * 0.98,
                    "close": close,
                    "volume": 5e5,
                }
                | more
            )
        )
    return as_panel(pd.concat(rows))


@given(st.sampled_from([2, 3, 5, 7, 10, 20]), st.integers(1, 14), st.floats(0.9, 1.0), st.booleans())
@settings(max_examples=5, deadline=None)
def test_an_unadjusted_jump_is_never_returned_in_silence(tmp_path_factory, ratio, day, payout, reverse):
    """Traded prices with the split in adj: total is right, split alone is refused; without adj it is named; with
    split it is right."""
    size, prices = 1 / ratio if reverse else ratio, ["open", "high", "low", "close"]
    truth, lake = walk(DAYS, day, adj=1.0), Lake(tmp_path_factory.mktemp("jump"))
    old = (truth.index.get_level_values("date") < DAYS[day]) & (truth.index.get_level_values("symbol") == "A")
    traded = truth.assign(
        **{c: truth[c].where(~old, truth[c] * size) for c in prices},
        adj=np.where(old, payout / size if payout > 0.999 else 1 / size, 1.0),
    )
    lake.write("vendor", "1d", traded)
    lake.write("bare", "1d", traded.drop(columns="adj"))
    lake.write("good", "1d", traded.assign(adj=1.0, split=np.where(old, 1 / size, 1.0)))
    np.testing.assert_allclose(
        get_bars(dataset="vendor", adjust="total", source=lake)["close"], truth["close"], rtol=2e-3
    )
    with pytest.raises(
        DataError,
        match=rf"carries them together with dividends, 1 split\(s\), first: A {DAYS[day]:%Y-%m-%d} .*adjust='total'",
    ):
        get_bars(dataset="vendor", source=lake)
    assert get_bars(dataset="vendor", source=lake, end=DAYS[day] - pd.Timedelta(days=1)).notna().all(axis=None), (
        "before it there is no jump"
    )
    with pytest.warns(UserWarning, match=rf"look like 1 split\(s\), first: A {DAYS[day]:%Y-%m-%d}"):
        get_bars(dataset="bare", source=lake)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(get_bars(dataset="good", source=lake)["close"], truth["close"])
        get_bars(dataset="good", source=lake, adjust="none")


@pytest.mark.filterwarnings("ignore:.*overnight moves look like")  # the histories are random
@given(
    st.sampled_from(["none", "split", "total"]),
    st.integers(0, 14),
    st.integers(0, 14),
    st.integers(0, 14),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=12, deadline=None)
def test_as_of_sees_nothing_later(tmp_path_factory, how, start, end, day, seed):
    "Two histories that agree up to T, with factors rescaled by what came after, answer alike as of T."
    bars, folder = raw_bars(), tmp_path_factory.mktemp("two")
    when = DAYS[day]
    rng, later = np.random.default_rng(seed), bars.index.get_level_values("date") > when
    scale = (
        pd.Series(rng.uniform(0.2, 3, 2), index=["A", "B"]).reindex(bars.index.get_level_values("symbol")).to_numpy()
    )
    other = bars.assign(adj=bars["adj"] * scale, split=bars["split"] / scale)
    other.loc[later, ["open", "high", "low", "close", "adj"]] *= 7.0
    ask = {"start": DAYS[start], "end": DAYS[end], "adjust": how, "as_of": when, "dataset": "x"}
    answers = []
    for name, history in (("one", bars), ("two", other)):
        lake = Lake(folder / name)
        lake.write("x", "1d", history)
        answers.append(get_bars(source=lake, **ask))
    pd.testing.assert_frame_equal(*answers, rtol=1e-12)
    whole = adjust(bars, how, as_of=when)  # the factor's last value at T counts, not at the end of the range
    days = whole.index.get_level_values("date")
    pd.testing.assert_frame_equal(answers[0], whole[(days >= DAYS[start]) & (days <= DAYS[end])], rtol=1e-12)
    dates = answers[0].index.get_level_values("date")
    assert (dates <= when).all() and (dates <= DAYS[end]).all() and (dates >= DAYS[start]).all()
    assert len(answers[0]) == 2 * max(0, min(end, day) - start + 1)


def test_missing_symbols_are_listed_with_their_neighbours(lake, tmp_path):
    other = Lake(tmp_path)
    other.write("us", "1d", sample_bars(["AAPL", "MSFT"], start="2023-12-01"))
    with pytest.raises(DataError, match=r"does not have 2 of 3 symbols: AAPLE \(near: AAPL\); ZZZZ; correct them"):
        get_bars(["MSFT", "ZZZZ", "AAPLE"], source=other)
    found = get_bars(["MSFT", "ZZZZ"], source=other, missing="skip")
    assert found.index.unique("symbol").tolist() == ["MSFT"]
    with pytest.raises(ConfigError, match="'error' or 'skip'"):
        get_bars("MSFT", source=other, missing="ignore")


def test_the_dataset_must_be_clear(lake, tmp_path):
    with pytest.raises(DataError, match="3 datasets .* bare/1d, raw/1d, split_only/1d"):
        get_bars(source=lake)
    with pytest.raises(DataError, match="import bars first"):
        get_bars(source=Lake(tmp_path / "none"))
    with pytest.raises(DataError, match="has no bars of 1h"):
        get_bars(interval="1h", dataset="raw", source=lake)


def test_workspace_lake_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path))
    Lake().write("mine", "1d", raw_bars())
    assert len(get_bars("A")) == 15


@pytest.mark.parametrize("interval", ["4h", "1h", "5min", "1min"])
def test_intraday_days_are_utc_days_of_ends(tmp_path, interval):
    lake, step = Lake(tmp_path), pd.Timedelta(interval)
    ends = pd.date_range(
        pd.Timestamp("2024-03-30 00:00Z") + step, pd.Timestamp("2024-04-02 00:00Z"), freq=step
    )  # three days, a month's end inside
    bars = as_panel(
        pd.DataFrame({"date": ends, "symbol": "X"}).assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)
    )
    lake.write("c", interval, bars)
    day = get_bars("X", "2024-03-31", "2024-03-31", interval, source=lake)
    assert (
        len(day) == pd.Timedelta("1D") / step
        and day.index[0][0] == pd.Timestamp("2024-03-31 00:00Z") + step
        and day.index[-1][0] == pd.Timestamp("2024-04-01 00:00Z")
    )
    pieces = [get_bars("X", d, d, interval, source=lake) for d in ("2024-03-30", "2024-03-31", "2024-04-01")]
    pd.testing.assert_frame_equal(pd.concat(pieces), bars)
    assert len(get_bars("X", as_of="2024-03-30", interval=interval, source=lake)) == pd.Timedelta("1D") / step
    with pytest.raises(DataError, match="no time zone"):
        get_bars("X", "2024-03-31 10:00", interval=interval, source=lake)
    new_york = get_bars("X", pd.Timestamp("2024-03-31 12:00", tz="America/New_York"), interval=interval, source=lake)
    assert new_york.index[0][0] == pd.Timestamp("2024-03-31 16:00Z")


def test_universe_brings_members_and_marks_days(lake):
    spells = pd.DataFrame(
        {
            "symbol": ["A", "B", "GONE"],
            "start": pd.to_datetime(["2023-12-22", "2024-01-05", "2023-01-01"]),
            "end": pd.to_datetime(["2023-12-27", None, None]),
        }
    )
    found = get_bars(universe=spells, dataset="raw", source=lake)
    assert found["member"].dtype == bool and found["member"].groupby(level="symbol").sum().to_dict() == {"A": 4, "B": 3}
    early = get_bars(universe=spells, dataset="raw", source=lake, as_of="2023-12-26")
    assert early.index.unique("symbol").tolist() == ["A"] and early["member"].sum() == 3
    assert get_bars(universe=spells, dataset="raw", source=lake, end="2024-01-02").index.unique("symbol").tolist() == [
        "A"
    ]
    assert get_bars("B", universe=spells, dataset="raw", source=lake, end="2024-01-02").empty


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 14), st.integers(-1, 6)), unique_by=lambda t: t[:2], max_size=6
    ),
    st.integers(0, 14),
)
@settings(max_examples=20, deadline=None)
def test_member_mask_equals_the_slow_way(raw, day):
    "Spells may overlap and lie outside; -1 days long means still in."
    rows = [
        {"symbol": s, "start": DAYS[i], "end": pd.NaT if n < 0 else DAYS[i] + pd.Timedelta(days=n)} for s, i, n in raw
    ]
    spells = pd.DataFrame(rows, columns=["symbol", "start", "end"]).astype(
        {"symbol": "str", "start": "datetime64[us]", "end": "datetime64[us]"}
    )
    index = raw_bars("ABD").index
    for known in (spells, known_spells(spells, DAYS[day])):
        mask = member_mask(known, index)
        slow = [
            any(r.symbol == s and r.start <= d and (pd.isna(r.end) or d <= r.end) for r in known.itertuples())
            for d, s in index
        ]
        assert mask.tolist() == slow and mask.index is index
        assert members(known, DAYS[day]) == sorted(
            {r.symbol for r in known.itertuples() if r.start <= DAYS[day] and (pd.isna(r.end) or DAYS[day] <= r.end)}
        )


def test_spells_as_known_do_not_end_in_the_future():
    spells, when = sample_members(), pd.Timestamp("2015-06-30")
    then = known_spells(spells, when)
    assert (then["start"] <= when).all() and not (then["end"] >= when).any()
    assert members(then, when) == members(spells, when)


def test_sectors_are_never_early():
    facts = pd.DataFrame(
        {"known_at": pd.to_datetime(["2023-12-22", "2024-01-02"]), "symbol": "A", "sector": ["old", "new"]}
    )
    found = sectors_asof(raw_bars().index, facts).unstack()
    assert (
        found["B"].isna().all()
        and found["A"].isna().sum() == 2
        and found["A"].value_counts().to_dict() == {"new": 6, "old": 7}
    )
    with pytest.raises(DataError, match="known_at"):
        sectors_asof(raw_bars().index, facts.drop(columns="known_at"))


def test_series_ends_by_hand():
    lengths = {"A": 15, "B": 6, "C": 4, "D": 4, "E": 4, "F": 11}
    bars = raw_bars("ABCDEF")
    kept = [DAYS.get_loc(d) < lengths[s] for d, s in bars.index]
    ends = series_ends(bars[kept], many=3)
    assert ends["status"].to_dict() == {
        "A": "alive",
        "B": "delisted",
        "C": "censored",
        "D": "censored",
        "E": "censored",
        "F": "alive",
    }
    assert ends.loc["C", "together"] == 3 and series_ends(bars[kept], many=4).loc["C", "status"] == "delisted"
    assert series_ends(bars.iloc[:0]).empty and series_ends(bars.iloc[:1])["status"].tolist() == ["alive"]


@pytest.mark.slow
def test_real_sources_that_stop_are_found():
    file = SHARED / "data" / "us" / "us_sp500_daily_2000_2023.parquet"
    if not file.is_file():
        pytest.skip("../shared/data/us is not here: this test reads the real S&P 500 history")
    raw = pd.read_parquet(file, columns=["date", "symbol", "close"])
    ends = series_ends(as_panel(raw.assign(symbol=raw["symbol"].astype("str"))))
    assert set(ends.loc[ends["status"] == "censored", "last"].astype("str")) == {
        "2010-12-06",
        "2017-11-10",
        "2018-07-18",
        "2021-08-30",
    }
    assert (ends["status"] == "censored").sum() == 145 and 10 <= (ends["status"] == "delisted").sum() <= 16


def test_wrong_words_are_refused_and_empty_answers_are_empty(lake):
    ask = {"dataset": "raw", "source": lake}
    assert get_bars(["A", "Z"], missing="skip", **ask).index.unique("symbol").tolist() == ["A"]
    assert get_bars([], **ask).empty and get_bars(start="2031-01-01", adjust="total", **ask).empty
    assert get_bars("A", as_of="1999-01-01", adjust="total", **ask).empty
    words = {"adjust": "both", "missing": "drop", "start": "soon", "interval": "2d"}
    said = {"adjust": "unknown", "missing": "unknown", "start": "no date", "interval": "no interval '2d'"}
    for name, word in words.items():
        with pytest.raises(ConfigError, match=said[name]):
            get_bars(**{name: word}, **ask)
    with pytest.raises(DataError, match="dated by session"):
        get_bars(start="2020-01-01 00:00Z", **ask)
    with pytest.raises(DataError, match="no dataset 'uk'"):
        get_bars(dataset="uk", source=lake)
    pd.testing.assert_frame_equal(
        get_bars("A", adjust="total", **ask),
        adjust(raw_bars("AB")[lambda f: f.index.get_level_values("symbol") == "A"]),
    )


def test_the_committed_sample_answers_by_its_word():
    "What a fresh clone has: the same call, checks and refusals as for a lake."
    sample = sample_bars(["AAPL", "GEN"], "2019-12-02", "2019-12-31")
    ask = dict(start="2019-12-02", end="2019-12-31", source="sample")
    assert get_bars(["AAPL", "GEN"], **ask).equals(sample)
    total = get_bars(["AAPL", "GEN"], adjust="total", **ask)
    pd.testing.assert_frame_equal(total, adjust(sample, "total"))
    assert len(get_bars(source="sample")) == len(sample_bars())
    then = get_bars("GEN", adjust="total", as_of="2019-12-31", **ask)["close"]
    assert then.iloc[-1] == pytest.approx(sample.loc[("2019-12-31", "GEN"), "close"])
    for words, said in (
        ({"symbols": "MSTF"}, "MSTF"),
        ({"adjust": "none"}, "cannot give prices as traded"),
        ({"interval": "1h"}, "sample/1d"),
        ({"dataset": "us"}, "leave dataset out"),
        ({"source": "lake:us"}, "use 'sample', a store"),
    ):
        with pytest.raises((DataError, ConfigError), match=said):
            get_bars(**{"source": "sample", **words})


def test_universe_of_no_rows_is_empty():
    spells, bars = sample_members(), sample_bars(["DD", "KSS", "AAPL"])
    assert member_mask(spells, bars.index[:0]).empty and sectors_asof(bars.index[:0]).empty
    assert series_ends(bars.iloc[:0]).empty and series_ends(bars.iloc[:1])["status"].tolist() == ["alive"]
    assert members(spells.iloc[:0], "2024-01-02") == [] and known_spells(spells.iloc[:0], "2024-01-02").empty
