"""data.bars: every impossible bar is refused, adjustment knows nothing of the future, files come back as they went."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, DataError, PanelError
from quantlab.core.panel import as_panel
from quantlab.data.bars import BAR_COLUMNS, adjust, check_bars, data_hash, read_bars, symbol_coverage

PRICES = ["open", "high", "low", "close"]


@st.composite
def bars_panels(draw, min_rows=1):
    "Valid bars of up to 3 symbols and 8 sessions, with holes, splits and dividends."
    keys = [(d, s) for d in range(8) for s in "ABC"]
    kept = draw(st.lists(st.sampled_from(keys), min_size=min_rows, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = len(kept)
    frame = pd.DataFrame(kept, columns=["day", "symbol"])
    inside = np.sort(np.exp(rng.normal(3, 1, (n, 4))), axis=1)
    order = rng.integers(0, 2, n)
    frame["open"], frame["close"] = inside[np.arange(n), 1 + order], inside[np.arange(n), 2 - order]
    frame["high"], frame["low"] = inside[:, 3], inside[:, 0]
    frame["volume"] = rng.integers(0, 10**6, n).astype(float)
    frame["split"], frame["adj"] = rng.uniform(0.1, 2, n), rng.uniform(0.3, 1, n)
    frame["date"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["day"], unit="D")
    return as_panel(frame.drop(columns="day"))


@given(bars_panels())
@settings(max_examples=60, deadline=None)
def test_valid_bars_pass_untouched_in_any_precision(bars):
    before = bars.copy()
    assert check_bars(bars) is bars
    pd.testing.assert_frame_equal(bars, before)
    check_bars(bars.astype("float32"))  # rounding is monotone: no tolerance is needed
    check_bars(adjust(bars))
    check_bars(adjust(bars.astype("float32")).astype("float32"))


BREAKS = {
    "high": [0.0, -1.0, np.nan, np.inf, 1e-9],
    "low": [0.0, -1.0, np.nan, np.inf, 1e9],
    "open": [0.0, -1.0, np.nan, np.inf, 1e9, 1e-9],
    "close": [0.0, -1.0, np.nan, np.inf, 1e9, 1e-9],
    "volume": [-1.0, np.inf, -np.inf],
    "adj": [0.0, -1.0, np.nan, np.inf],
    "split": [0.0, -1.0, np.nan, np.inf],
}


@given(bars_panels(), st.sampled_from([(c, v) for c, values in BREAKS.items() for v in values]), st.data())
@settings(max_examples=120, deadline=None)
def test_one_impossible_value_is_refused_and_named(bars, broken, data):
    column, value = broken
    row = data.draw(st.integers(0, len(bars) - 1))
    bars = bars.copy()
    bars.iloc[row, bars.columns.get_loc(column)] = value
    date, symbol = bars.index[row]
    with pytest.raises(DataError) as error:
        check_bars(bars)
    assert f"({date:%Y-%m-%d}, {symbol})" in str(error.value) and "1 row(s)" in str(error.value)


def test_messages_name_at_most_five_rows():
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=9), "symbol": "A"})
    bars = as_panel(frame.assign(open=10.0, high=9.0, low=11.0, close=10.0, volume=1.0))
    with pytest.raises(DataError) as error:
        check_bars(bars)
    assert "high < low: 9 row(s)" in str(error.value) and str(error.value).count("(2024-") == 5


def test_degenerate_bars():
    columns = {c: pd.Series(dtype="float64") for c in BAR_COLUMNS}
    index = pd.MultiIndex.from_arrays(
        [pd.DatetimeIndex([], dtype="datetime64[us]"), pd.Index([], dtype="str")], names=["date", "symbol"]
    )
    empty = pd.DataFrame(columns, index=index)
    assert check_bars(empty).empty and symbol_coverage(empty).empty and len(data_hash(empty)) == 16
    assert adjust(empty.assign(adj=1.0)).empty
    one = as_panel(
        pd.DataFrame(
            [
                {
                    "date": "2024-01-02",
                    "symbol": "A",
                    "open": 1,
                    "high": 1,
                    "low": 1,
                    "close": 1,
                    "volume": np.nan,
                    "adj": 0.5,
                }
            ]
        )
    )
    assert check_bars(one) is one and adjust(one)["close"].item() == 0.5
    assert symbol_coverage(one).loc["A", ["rows", "missing"]].tolist() == [1, 0]
    for columns_left in (["open"], []):
        with pytest.raises(PanelError):
            check_bars(one[columns_left])
    with pytest.raises(PanelError):
        check_bars(one.reset_index())
    with pytest.raises(DataError, match="do not hold numbers"):
        check_bars(one.astype({"close": "str"}))


def test_dates_are_session_labels_or_utc_ends():
    one = {"symbol": "A", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}
    make = lambda date: as_panel(pd.DataFrame([one | {"date": date}]))  # noqa: E731
    with pytest.raises(DataError, match="no time zone"):
        check_bars(make(pd.Timestamp("2024-01-02 16:00")))
    with pytest.raises(DataError, match="UTC"):
        check_bars(make(pd.Timestamp("2024-01-02 16:00", tz="America/New_York")))
    check_bars(make(pd.Timestamp("2024-01-02 16:00", tz="UTC")))


@given(bars_panels())
@settings(max_examples=60, deadline=None)
def test_adjust_follows_its_definition(bars):
    total, split, none = adjust(bars), adjust(bars, "split"), adjust(bars, "none")
    pd.testing.assert_frame_equal(none, bars)
    for c in PRICES:
        np.testing.assert_allclose(split[c], bars[c] * bars["split"])
        np.testing.assert_allclose(total[c], bars[c] * bars["split"] * bars["adj"])
    np.testing.assert_allclose(total["volume"] * bars["split"], bars["volume"])
    pd.testing.assert_series_equal(total["volume"], split["volume"])
    assert (total["adj"] == 1).all() and "split" not in total and (split["adj"] == bars["adj"]).all()
    pd.testing.assert_frame_equal(adjust(total), total)
    pd.testing.assert_frame_equal(adjust(adjust(bars, "split")), total)


@given(bars_panels(), st.integers(0, 8), st.sampled_from(["total", "split", "none"]), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_as_of_forgets_everything_later(bars, day, how, seed):
    "Rows after the date, and any later rescaling of the factors, change nothing that was known."
    when = pd.Timestamp("2024-01-01") + pd.Timedelta(days=day)
    dates = bars.index.get_level_values("date")
    rng = np.random.default_rng(seed)
    scale = (
        pd.Series(rng.uniform(0.2, 3, 3), index=list("ABC")).reindex(bars.index.get_level_values("symbol")).to_numpy()
    )
    other = bars.assign(adj=bars["adj"] * scale, split=bars["split"] / scale)
    other.loc[dates > when, [*PRICES, "volume", "adj"]] *= 7.0
    pd.testing.assert_frame_equal(adjust(bars, how, as_of=when), adjust(other, how, as_of=when), rtol=1e-12)
    known = adjust(bars, how, as_of=when)
    assert (known.index.get_level_values("date") <= when).all() and len(known) == int((dates <= when).sum())
    if how != "none":
        now = known.groupby(level="symbol").tail(1)
        np.testing.assert_allclose(now["close"], bars.loc[now.index, "close"])


def test_adjust_refuses():
    bars = as_panel(pd.DataFrame([{"date": "2024-01-02", "symbol": "A", "close": 1.0, "adj": np.nan}]))
    with pytest.raises(DataError, match=r"adj .*2024-01-02, A"):
        adjust(bars)
    with pytest.raises(DataError, match="adj"):
        adjust(bars[["close"]])
    with pytest.raises(ConfigError, match="dividends"):
        adjust(bars, "dividends")
    with pytest.raises(DataError, match="time zone"):
        adjust(bars.assign(adj=1.0), as_of=pd.Timestamp("2024-01-02", tz="UTC"))
    with pytest.raises(PanelError, match="close"):
        adjust(bars[["adj"]])


@given(bars_panels())
@settings(max_examples=25, deadline=None)
def test_files_come_back_as_they_went(tmp_path_factory, bars):
    folder = tmp_path_factory.mktemp("bars")
    plain = bars.reset_index()
    plain.to_csv(folder / "a.csv", index=False)
    plain.sample(frac=1, random_state=0).to_parquet(folder / "b.parquet", index=False)
    bars.to_parquet(folder / "c.parquet")
    for name in ("a.csv", "b.parquet", "c.parquet"):
        back = read_bars(folder / name)
        pd.testing.assert_frame_equal(back, bars, check_exact=True)
        assert data_hash(back) == data_hash(bars)


GOOD = "date,symbol,open,high,low,close,volume\n2024-01-02,NA,10,12,9,11,100\n2024-01-03,TRUE,10,12,9,11,100\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["cannot be read"]),
        (GOOD.replace("volume", "vol"), ["['volume'] are missing", "'vol'", "expected"]),
        (GOOD.replace("date", "Date"), ["['date'] are missing"]),
        (GOOD.replace("2024-01-03", "2024-13-03"), ["row 1", "2024-13-03", "ISO"]),
        (GOOD.replace("2024-01-03", ""), ["row 1"]),
        (GOOD.replace("2024-01-03", "03/01/2024"), ["row 1", "03/01/2024"]),
        (GOOD.replace("TRUE", ""), ["row 1", "symbol=''"]),
        (GOOD + GOOD.split("\n")[1], ["1 row(s) repeat", "(2024-01-02, NA)"]),
        (GOOD.replace("TRUE,10,12,9", "TRUE,10,9,12"), ["high < low", "(2024-01-03, TRUE)", "high=9 low=12"]),
        (GOOD.replace("TRUE,10,12,9", "TRUE,10,12,0"), ["low is not positive", "(2024-01-03, TRUE) low=0"]),
        (GOOD.replace("TRUE,10", "TRUE,"), ["open is missing"]),
        (GOOD.replace("TRUE,10", "TRUE,ten"), ["open are not numbers", "row 1: 'ten'"]),
        (GOOD.replace("TRUE,10", "TRUE,n/a"), ["open are not numbers"]),
        (GOOD.replace("2024-01-03", "2024-01-03 10:00"), ["no time zone"]),
        (GOOD.replace("2024-01-03", "2024-01-03T10:00Z"), ["file.csv"]),
    ],
)
def test_reader_refuses(tmp_path, text, parts):
    file = tmp_path / "file.csv"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_bars(file)
    for part in ["file.csv", *parts]:
        assert part in str(error.value)


def test_reader_accepts_odd_but_good_files(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(GOOD)
    assert read_bars(file).index.get_level_values("symbol").tolist() == ["NA", "TRUE"]
    file.write_text(GOOD.split("\n")[0] + "\n")
    empty = read_bars(str(file))
    assert empty.empty and list(empty.columns) == list(BAR_COLUMNS) and (empty.dtypes == "float64").all()
    file.write_text(GOOD.replace("2024-01-02", "2024-01-02T21:00Z").replace("2024-01-03", "2024-01-03T21:00Z"))
    assert str(read_bars(file).index.levels[0].tz) == "UTC"
    file.write_text(GOOD.replace(",100\n", ",\n"))
    assert read_bars(file)["volume"].isna().all()


def test_reader_refuses_what_is_no_table(tmp_path):
    for name, content in (("a.parquet", b"not parquet"), ("a.csv", b"\xff\xfe\x00bad"), ("a.xlsx", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_bars(tmp_path / name)
    for missing in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            read_bars(missing)
    numbers = pd.DataFrame({"date": [20240102], "symbol": ["A"], **{c: [1.0] for c in BAR_COLUMNS}})
    numbers.to_parquet(tmp_path / "n.parquet")
    with pytest.raises(DataError, match="date holds int64"):
        read_bars(tmp_path / "n.parquet")


@given(bars_panels(min_rows=2), st.data())
@settings(max_examples=60, deadline=None)
def test_hash_sees_content_and_nothing_else(bars, data):
    original = data_hash(bars)
    assert len(original) == 16 and int(original, 16) >= 0
    assert data_hash(bars[list(data.draw(st.permutations(list(bars.columns))))]) == original
    assert data_hash(bars.astype({"volume": "int64"})) == original
    assert data_hash(as_panel(bars.reset_index())) == original
    row, column = data.draw(st.integers(0, len(bars) - 1)), data.draw(st.integers(0, bars.shape[1] - 1))
    touched = bars.copy()
    touched.iloc[row, column] = np.nextafter(touched.iloc[row, column], np.inf)
    assert data_hash(touched) != original and data_hash(bars.iloc[:-1]) != original
    assert data_hash(bars.rename(columns={"open": "close", "close": "open"})) != original
    renamed = bars.rename(index={"A": "Z", "B": "Z2", "C": "Z3"}, level="symbol")
    assert data_hash(renamed) != original


def test_hash_is_pinned():
    "The hash is written into manifests: it may not change between versions or machines."
    bars = as_panel(pd.DataFrame({"date": ["2024-01-02", "2024-01-03"], "symbol": ["A", "B"], "close": [1.0, np.nan]}))
    assert data_hash(bars) == "0a65ee95384af88c"
    assert data_hash(bars * -0.0) == data_hash(bars * 0.0)


@given(bars_panels())
@settings(max_examples=60, deadline=None)
def test_coverage_equals_the_slow_way(bars):
    found, dates = symbol_coverage(bars), bars.index.get_level_values("date").unique().sort_values()
    assert found["rows"].sum() == len(bars)
    for symbol, rows in bars.groupby(level="symbol"):
        own = rows.index.get_level_values("date")
        span = dates[(dates >= own.min()) & (dates <= own.max())]
        assert found.loc[symbol].tolist() == [own.min(), own.max(), len(own), len(span) - len(own)]
