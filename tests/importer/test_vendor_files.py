"""Files as vendors write them: each is stored with the right dates, names and prices, or refused in one line that
says what to do."""

import gzip
import zipfile
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from quantlab.core.errors import DataError
from quantlab.importer.files import guess_columns, import_file, questions

DAYS = [f"2024-01-{d:02d}" for d in (2, 3, 4, 5, 8)]
OPEN, H, L, C, V = (
    [10.0, 11.0, 12.0, 13.0, 14.0],
    [11.5, 12.5, 13.5, 14.5, 15.5],
    [9.5, 10.5, 11.5, 12.5, 13.5],
    [11.0, 12.0, 13.0, 14.0, 15.0],
    [100.0, 200.0, 300.0, 400.0, 500.0],
)


def lines(head, row, reverse=False, days=DAYS):
    "Write the five bars; row takes day, open, high, low, close, volume."
    rows = [row(*values) for values in zip(days, OPEN, H, L, C, V, strict=True)]
    return "\n".join([*([head] if head else []), *(rows[::-1] if reverse else rows)]) + "\n"


def us(day, sep="/"):
    return sep.join((day[5:7], day[8:], day[:4]))


def ms(day, unit=1000, clock="00:00"):
    return int(pd.Timestamp(f"{day} {clock}", tz="UTC").timestamp()) * unit


def word(day):
    return pd.Timestamp(day).strftime("%b %d, %Y")


DAILY = {
    "stooq": ("aapl_us_d.csv", lines("Date,Open,High,Low,Close,Volume", lambda d, *p: f"{d},{','.join(map(str, p))}"),
    {}),
    "stooq ascii": ("aapl.us.txt",
    lines("<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>", lambda d,
    *p: f"AAPL.US,D,{d.replace('-', '')},000000,{','.join(map(str, p))},0"), {}),
    "yahoo": ("AAPL.csv",
    lines("Date,Open,High,Low,Close,Adj Close,Volume", lambda d, o, h, lo, c, v: f"{d},{o},{h},{lo},{c},{c},{v}"), {}),
    "yfinance three lines": ("x.csv",
    "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n" + lines("", lambda d, o, h, lo, c,
    v: f"{d},{c},{h},{lo},{o},{v}"), {}),
    "yfinance history": ("AAPL.csv",
    lines("Date,Open,High,Low,Close,Volume,Dividends,Stock Splits", lambda d,
    *p: f"{d} 00:00:00-05:00,{','.join(map(str, p))},0.0,0.0"), {}),
    "alpha vantage": ("daily_IBM.csv",
    lines("timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient", lambda d, o, h, lo,
    c, v: f"{d},{o},{h},{lo},{c},{c},{int(v)},0.0000,1.0", True), {}),
    "eodhd": ("AAPL.US.csv",
    lines("Date,Open,High,Low,Close,Adjusted_close,Volume", lambda d, o, h, lo, c,
    v: f"{d},{o},{h},{lo},{c},{c},{int(v)}"), {}),
    "kaggle": ("all_stocks_5yr.csv",
    lines("date,open,high,low,close,volume,Name", lambda d, *p: f"{d},{','.join(map(str, p))},AAL"), {}),
    "quandl wiki": ("WIKI-AAPL.csv",
    lines("Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume",
    lambda d, o, h, lo, c, v: f"{d},{o},{h},{lo},{c},{v},0.0,1.0,{o},{h},{lo},{c},{v}", True), {}),
    "nasdaq.com": ("HistoricalData.csv",
    lines("Date,Close/Last,Volume,Open,High,Low", lambda d, o, h, lo, c, v: f"{us(d)},${c},{int(v)},${o},${h},${lo}",
    True), {"date_form": "%m/%d/%Y"}),
    "investing.com": ("AAPL Historical Data.csv",
    "\ufeff" + lines('"Date","Price","Open","High","Low","Vol.","Change %"', lambda d, o, h, lo, c,
    v: f'"{us(d)}","{c:,.2f}","{o:,.2f}","{h:,.2f}","{lo:,.2f}","{v / 1000:.2f}K","-0.75%"', True),
    {"date_form": "%m/%d/%Y"}),
    "investing.com in German": ("DAX.csv",
    lines('"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"', lambda d, o, h, lo, c,
    v: '"' + '","'.join([f"{d[8:]}.{d[5:7]}.{d[:4]}", *(f"{x:.2f}".replace(".", ",") for x in (c, o, h, lo)),
    f"{v / 1000:.2f}K".replace(".", ","), "-0,75%"]) + '"'),
    {"columns": {"close": "Zuletzt", "open": "Eröffn.", "high": "Hoch", "low": "Tief"}}),
    "stockanalysis": ("aapl.csv",
    lines("Date,Open,High,Low,Close,Adj Close,Change,Volume", lambda d, o, h, lo, c,
    v: f'"{word(d)}",{o},{h},{lo},{c},{c},1.00%,"{int(v):,}"', True), {}),
    "crypto data download": ("Binance_BTCUSDT_d.csv",
    "https://www.CryptoDataDownload.com\n"
    + lines(
        "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount",
        lambda d, o, h, lo, c, v: f"{ms(d)},{d},BTC/USDT,{o},{h},{lo},{c},{v},{v * 1e4},7",
        True,
    ), {}),
    "binance klines": ("BTCUSDT-1d-2024-01.csv",
    lines("", lambda d, o, h, lo, c, v: f"{ms(d)},{o},{h},{lo},{c},{v},{ms(d) + 86399999},1,2,3,4,0"), {}),
    "binance in microseconds": ("BTCUSDT-1d-2025-01.csv",
    lines("", lambda d, o, h, lo, c,
    v: f"{ms(d, 1000000)},{o},{h},{lo},{c},{v},{ms(d, 1000000) + 86399999999},1,2,3,4,0"), {}),
    "polygon flat file": ("2024.csv.gz",
    lines("ticker,volume,open,close,high,low,window_start,transactions", lambda d, o, h, lo, c,
    v: f"AAPL,{v},{o},{c},{h},{lo},{ms(d, 10**9, '05:00')},17"), {}),
    "alpaca": ("AAPL.csv",
    lines("symbol,timestamp,open,high,low,close,volume,trade_count,vwap", lambda d,
    *p: f"AAPL,{d} 05:00:00+00:00,{','.join(map(str, p))},9,{p[0]}"), {}),
    "tradingview": ("NASDAQ_AAPL, 1D.csv",
    lines("time,open,high,low,close,Volume,RSI", lambda d, *p: f"{d}T09:30:00-05:00,{','.join(map(str, p))},50"), {}),
    "google": ("goog.csv",
    lines("Date,Open,High,Low,Close,Volume", lambda d,
    *p: f"{int(d[5:7])}/{int(d[8:])}/{d[:4]} 16:00:00,{','.join(map(str, p))}"), {"date_form": "%m/%d/%Y %H:%M:%S"}),
    "metatrader daily": ("EURUSD_Daily.csv",
    lines("<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", lambda d, o, h, lo, c,
    v: f"{d.replace('-', '.')}\t{o}\t{h}\t{lo}\t{c}\t{int(v)}\t0\t2"), {}),
    "nse bhavcopy": ("cm02JAN2024bhav.csv",
    lines("SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,PREVCLOSE,TOTTRDQTY,TOTTRDVAL,TIMESTAMP,TOTALTRADES,ISIN,", lambda d,
    o, h, lo, c,
    v: f"RELIANCE,EQ,{o},{h},{lo},{c},{c},{o},{v},1,{pd.Timestamp(d).strftime('%d-%b-%Y').upper()},5,INE002A01018,"),
    {}),
    "first rate": ("AAPL_full_1day.txt", lines("", lambda d, *p: f"{d},{','.join(map(str, p))}"), {}),
    "interactive brokers": ("IBM.csv",
    lines("date,open,high,low,close,volume,average,barCount", lambda d, o, h, lo, c,
    v: f"{d.replace('-', '')},{o},{h},{lo},{c},{v},{o},9"), {}),
    "a remark first": ("x.csv",
    "# exported on Monday\n" + lines("Date;Open;High;Low;Close;Volume", lambda d, *p: f"{d};{';'.join(map(str, p))}"),
    {}),
    "a title and a blank line": ("x.csv",
    "Daily bars of ACME\n\n" + lines("Date;Open;High;Low;Close;Volume", lambda d, *p: f"{d};{';'.join(map(str, p))}"),
    {}),
    "excel's hint": ("x.csv",
    "sep=;\r\n" + lines("Date;Open;High;Low;Close;Volume", lambda d,
    *p: f"{d};{';'.join(f'{x:.2f}'.replace('.', ',') for x in p)}").replace("\n", "\r\n"), {}),
    "blanks everywhere": ("x.csv",
    lines(" Ticker , Date , Open , High , Low , Close , Volume ", lambda d,
    *p: f" AAPL , {d} , {' , '.join(map(str, p))} "), {}),
    "ns": ("x.tsv", lines("t\to\th\tl\tc\tv", lambda d, *p: f"{ms(d, 10**9)}\t" + "\t".join(map(str, p))), {}),
    "seconds": ("x.csv", lines("time,open,high,low,close,volume", lambda d, *p: f"{ms(d, 1)},{','.join(map(str, p))}"),
    {}),
    "closing bell in UTC": ("x.csv",
    lines("time,open,high,low,close,volume", lambda d, *p: f"{d}T21:00:00Z,{','.join(map(str, p))}"), {}),
}  # fmt: skip


@pytest.mark.parametrize("vendor", DAILY)
def test_daily_files_are_stored_right(tmp_path, vendor):
    name, text, told = DAILY[vendor]
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    if told and "date_form" in told:
        assert questions(guess_columns(tmp_path / name)), "days up to the eighth could be months"
    guess = guess_columns(tmp_path / name, told.get("columns"), told.get("date_form"))
    assert questions(guess) == [] and guess.interval == "1d", (questions(guess), guess.spacing)
    bars = import_file(tmp_path / name, guess)
    assert (
        bars.index.get_level_values("date").strftime("%Y-%m-%d").tolist() == DAYS
        and bars.index.unique("symbol").size == 1
    )
    np.testing.assert_allclose(bars[["open", "high", "low", "close", "volume"]].to_numpy().T, [OPEN, H, L, C, V])
    assert all((bars[c] == 1).all() for c in ("split", "adj") if c in bars)


INTRADAY = {
    "metatrader with its time column": ("EURUSD_H1.csv",
    "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    + "".join(f"2024.01.02\t{h:02d}:00:00\t1.1\t1.2\t1.0\t1.15\t{h}\t0\t2\n" for h in range(1, 9)),
    {"stamps": "start", "zone": "UTC"}, "1h", "2024-01-02 02:00Z"),
    "histdata": ("DAT_ASCII_EURUSD_M1_2024.csv",
    "".join(f"20240102 17{m:02d}00;1.1;1.2;1.0;1.15;0\n" for m in range(9)), {"stamps": "start", "zone": "Etc/GMT+5"},
    "1min", "2024-01-02 22:01Z"),
    "kibot": ("IBM.txt",
    "".join(f"01/{d}/2024,{t},10,11,9,10.5,100\n" for d in (2, 3, 16) for t in ("09:30", "09:45", "10:00", "10:15")),
    {"stamps": "start", "zone": "America/New_York"}, "15min", "2024-01-02 14:45Z"),
    "interactive brokers with a zone": ("SPY.csv",
    "date,open,high,low,close,volume\n" + "".join(f"20240102 {t}:00 US/Eastern,10,11,9,10.5,100\n" for t in ("09:30",
    "10:00", "11:00", "12:00", "13:00", "14:00", "15:00")), {"stamps": "start"}, "1h", "2024-01-02 15:30Z"),
    "twelve hours round the clock": ("BTC.csv",
    "timestamp,open,high,low,close,volume\n"
    + "".join(f"{ms('2024-01-02') + i * 43200000},10,11,9,10.5,100\n" for i in range(8)),
    {"stamps": "start"}, "12h", "2024-01-02 12:00Z"),
    "eight hours": ("BTC.csv",
    "timestamp,open,high,low,close,volume\n"
    + "".join(f"{ms('2024-01-02') + i * 8 * 3600000},10,11,9,10.5,100\n" for i in range(8)),
    {"stamps": "start"}, "8h", "2024-01-02 08:00Z"),
    "four hours of a session": ("ES.csv",
    "time,open,high,low,close,volume\n" + "".join(f"2024-01-0{d}T{t}:00-05:00,10,11,9,10.5,100\n" for d in (2, 3,
    4) for t in ("09:30", "13:30")), {"stamps": "start"}, "4h", "2024-01-02 18:30Z"),
    "ends, the last bar short": ("ES.csv",
    "time,open,high,low,close,volume\n" + "".join(f"2024-01-0{d} {t},10,11,9,10.5,100\n" for d in (2,
    3) for t in ("10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00")),
    {"stamps": "end", "zone": "America/New_York"}, "1h", "2024-01-02 15:30Z"),
    "a thin minute file": ("X.csv",
    "time,open,high,low,close,volume\n"
    + "".join(
        f"2024-01-02 {10 + m // 60}:{m % 60:02d},10,11,9,10.5,100\n" for m in (0, 1, 4, 9, 10, 17, 19, 20, 26, 33, 34)
    ),
    {"stamps": "start", "zone": "UTC"}, "1min", "2024-01-02 10:01Z"),
}  # fmt: skip


@pytest.mark.parametrize("vendor", INTRADAY)
def test_intraday_files_are_stored_right(tmp_path, vendor):
    name, text, told, interval, first = INTRADAY[vendor]
    (tmp_path / name).write_text(text)
    guess = replace(guess_columns(tmp_path / name), **told)
    assert (guess.interval, questions(guess)) == (interval, []), guess.spacing
    bars = import_file(tmp_path / name, guess)
    assert bars.index[0][0] == pd.Timestamp(first) and len(bars) == text.count("\n") - (not text[:1].isdigit())


def test_ticks_stand_in_for_no_volume_and_it_is_said(tmp_path):
    name, text, told, *_ = INTRADAY["metatrader with its time column"]
    (tmp_path / name).write_text(text)
    guess = replace(guess_columns(tmp_path / name), **told)
    assert any("counts changes of the price" in line for line in guess.lines())
    (tmp_path / "none.csv").write_text("date,open,high,low,close\n2024-01-02,1,2,1,2\n")
    none = guess_columns(tmp_path / "none.csv")
    assert questions(none) == [] and "volume: the file has none, it is stored as missing" in none.said
    assert import_file(tmp_path / "none.csv", none)["volume"].isna().all()


@pytest.mark.parametrize(
    ("freq", "interval", "last"),
    [
        ("W-MON", "1w", "2024-01-07"),
        ("W-FRI", "1w", "2024-01-05"),
        ("MS", "1mo", "2024-01-31"),
        ("BME", "1mo", "2024-01-31"),
    ],
)
def test_weeks_and_months_are_stored_as_such_and_never_early(tmp_path, freq, interval, last):
    days = pd.date_range("2024-01-01", periods=8, freq=freq)
    (tmp_path / "x.csv").write_text(
        "Date,Open,High,Low,Close,Volume\n" + "".join(f"{d:%Y-%m-%d},1,2,1,2,5\n" for d in days)
    )
    bars = import_file(tmp_path / "x.csv", guess_columns(tmp_path / "x.csv"))
    assert bars.attrs["interval"] == interval and bars.index[0][0] == pd.Timestamp(last) and len(bars) == 8


def test_a_week_dated_by_its_wednesday_is_asked_about(tmp_path):
    days = pd.date_range("2024-01-03", periods=8, freq="W-WED")
    (tmp_path / "x.csv").write_text(
        "Date,Open,High,Low,Close,Volume\n" + "".join(f"{d:%Y-%m-%d},1,2,1,2,5\n" for d in days)
    )
    guess = guess_columns(tmp_path / "x.csv")
    assert guess.interval == "1w" and "start or its end" in questions(guess)[0]
    assert import_file(tmp_path / "x.csv", replace(guess, stamps="start")).index[0][0] == pd.Timestamp("2024-01-09")
    assert import_file(tmp_path / "x.csv", replace(guess, stamps="end")).index[0][0] == pd.Timestamp("2024-01-03")


def test_a_bar_that_has_not_ended_is_left_out(tmp_path):
    now = pd.Timestamp.now("UTC").floor("h")
    stamps = [now - pd.Timedelta(hours=h) for h in (4, 3, 2, 1, 0)]
    (tmp_path / "x.csv").write_text(
        "time,open,high,low,close,volume\n" + "".join(f"{s:%Y-%m-%dT%H:%M}:00Z,1,2,1,2,5\n" for s in stamps)
    )
    bars = import_file(tmp_path / "x.csv", replace(guess_columns(tmp_path / "x.csv"), stamps="start", interval="1h"))
    assert len(bars) == 4 and bars.index[-1][0] == now and "left out" in bars.attrs["said"][0]


SPLIT = (
    "date,close,high,low,open,volume{more}\n"
    "2014-06-05,647.35,649.37,642.61,646.20,1e7{a}\n2014-06-06,645.57,651.26,644.47,649.90,1e7{a}\n"
    "2014-06-09,93.70,93.88,91.75,92.70,7e7{b}\n2014-06-10,94.25,95.05,93.57,94.73,6e7{c}\n"
)
TRUE = np.array([645.57 / 647.35, 93.70 * 7 / 645.57, 94.25 / 93.70]) - 1


@pytest.mark.parametrize(
    ("more", "a", "b", "c", "reading"),
    [
        (",splitFactor", ",1.0", ",7.0", ",1.0", "event"),
        (",Stock Splits", ",0.0", ",7.0", ",0.0", "event"),
        (",split_coefficient", ",1", ",7", ",1", "event"),
        (",facpr", ",0", ",6", ",0", "premium"),
        (",cfacpr", ",7", ",1", ",1", "divisor"),
        (",split", ",0.142857142857", ",1", ",1", "factor"),
        (",Adj Close", ",92.2", ",93.70", ",94.25", "factor"),
    ],
)
def test_every_way_to_write_a_split_gives_the_true_return(tmp_path, more, a, b, c, reading):
    (tmp_path / "x.csv").write_text(SPLIT.format(more=more, a=a, b=b, c=c))
    bars = import_file(tmp_path / "x.csv", guess_columns(tmp_path / "x.csv"))
    assert bars.attrs["splits"] == reading and any(line.startswith("splits") for line in bars.attrs["said"])
    np.testing.assert_allclose((bars["close"] * bars["split"]).pct_change().dropna(), TRUE, atol=0.003)


def test_prices_that_hold_the_split_get_no_factor(tmp_path):
    text = (
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
        "2014-06-06,92,93,91,92.2,1,0,0\n2014-06-09,93,94,92,93.7,1,0,7\n2014-06-10,94,95,93,94.25,1,0.47,0\n"
    )
    (tmp_path / "x.csv").write_text(text)
    guess = guess_columns(tmp_path / "x.csv")
    bars = import_file(tmp_path / "x.csv", guess)
    assert (
        "split" not in bars
        and "adj" not in bars
        and "in the prices already" in bars.attrs["said"][0]
        and "--dividends cash" in bars.attrs["said"][1]
    )
    cash = import_file(tmp_path / "x.csv", replace(guess, dividends="cash"))
    np.testing.assert_allclose(cash["adj"], [1 - 0.47 / 93.7] * 2 + [1])


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ("0.142857", "contradicts the prices: x on 2014-06-09"),
        ("3", "contradicts the prices"),
        ("-7", "neither|contradicts"),
    ],
)
def test_a_split_that_the_price_contradicts_is_refused(tmp_path, b, message):
    (tmp_path / "x.csv").write_text(SPLIT.format(more=",splitFactor", a=",1", b=f",{b}", c=",1"))
    with pytest.raises(DataError, match=message):
        import_file(tmp_path / "x.csv", guess_columns(tmp_path / "x.csv"))


def test_tiingo_knows_cash_and_splits(tmp_path):
    text = SPLIT.format(more=",divCash,splitFactor", a=",0.0,1.0", b=",0.0,7.0", c=",0.47,1.0")
    (tmp_path / "x.csv").write_text(text)
    bars = import_file(tmp_path / "x.csv", guess_columns(tmp_path / "x.csv"))
    np.testing.assert_allclose(bars["split"], [1 / 7, 1 / 7, 1, 1])
    np.testing.assert_allclose(bars["adj"], [1 - 0.47 / 93.70] * 3 + [1])


def test_packed_upper_case_and_excel(tmp_path):
    text = lines("Date,Open,High,Low,Close,Volume", lambda d, *p: f"{d},{','.join(map(str, p))}")
    with zipfile.ZipFile(tmp_path / "AAPL.zip", "w") as pack:
        pack.writestr("whatever.csv", text)
    (tmp_path / "AAPL.CSV").write_text(text)
    for name in ("AAPL.zip", "AAPL.CSV"):
        assert import_file(tmp_path / name, guess_columns(tmp_path / name)).index.unique("symbol").tolist() == ["AAPL"]
    pytest.importorskip("openpyxl")
    table = pd.DataFrame({"Date": pd.to_datetime(DAYS), "Open": OPEN, "High": H, "Low": L, "Close": C, "Volume": V})
    with pd.ExcelWriter(tmp_path / "AAPL.xlsx") as book:
        table.to_excel(book, sheet_name="bars", index=False, startrow=2)
        table.to_excel(book, sheet_name="old", index=False)
    guess = guess_columns(tmp_path / "AAPL.xlsx")
    bars = import_file(tmp_path / "AAPL.xlsx", guess)
    assert (
        bars["close"].tolist() == C
        and bars.index.get_level_values("date").strftime("%Y-%m-%d").tolist() == DAYS
        and "sheet bars is read, not old" in guess.said
    )


def test_excel_without_its_library_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"-e .\.\[excel\]"):
        guess_columns(tmp_path / "x.xlsx")


def test_parquet_of_every_kind(tmp_path):
    base = pd.DataFrame(
        {"date": pd.to_datetime(DAYS), "symbol": "A", "open": OPEN, "high": H, "low": L, "close": C, "volume": V}
    )
    wide = base.set_index("date")[["open", "high", "low", "close", "volume"]]
    pair = pd.concat({"KO": wide, "PEP": wide * 2}, axis=1).swaplevel(axis=1)
    shapes = {
        "decimal": base.assign(close=[Decimal(str(c)) for c in C]),
        "objects": base.assign(open=pd.Series([o for o in OPEN], dtype="object")),
        "no volume in the first rows": base.assign(volume=[np.nan, np.nan, 3, 4, 5]),
        "an empty column": base.assign(sector=[None, "a", "b", "c", "d"]),
        "plain dates": base.assign(date=base["date"].dt.date),
        "integers": base.astype({"volume": "Int64"}),
        "dates in an index without a name": base.set_index("date").rename_axis(None),
        "epochs": base.assign(date=[ms(d) for d in DAYS]),
        "codes of numbers": base.assign(symbol=600000),
        "two levels": pair,
        "tickers above": pair.swaplevel(axis=1),
    }
    for name, frame in shapes.items():
        frame.to_parquet(tmp_path / "x.parquet")
        bars = import_file(tmp_path / "x.parquet", guess_columns(tmp_path / "x.parquet"))
        whose = bars.index.unique("symbol").tolist()
        assert whose == (
            ["KO", "PEP"] if frame.columns.nlevels == 2 else ["600000"] if name == "codes of numbers" else ["A"]
        ), name
        np.testing.assert_allclose(bars.xs(whose[0], level="symbol")["close"], C, err_msg=name)
        assert bars.xs(whose[0], level="symbol").index.strftime("%Y-%m-%d").tolist() == DAYS, name
    base.assign(volume=True).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="true and false"):
        import_file(tmp_path / "x.parquet", guess_columns(tmp_path / "x.parquet"))


HEAD, ROW = "date,symbol,open,high,low,close,volume\n", "2024-01-02,A,1.5,2.5,1.25,2,5\n"
NEXT = ROW.replace("01-02", "01-03")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + ROW + NEXT.replace(",A,", ",  ,"), "symbol of row 1 is empty"),
        (HEAD + ROW + NEXT.replace(",A,", ",../etc/passwd,"), "row 1 looks like a path"),
        (HEAD + ROW + NEXT.replace(",A,", ",C:A,"), "row 1 looks like a path"),
        (HEAD + ROW + NEXT.replace(",A,", ",a,"), "row 1, 'a', differs from 'A' only in case"),
        (HEAD + ROW.replace(",A,", ",B A,") + NEXT.replace(",A,", ",B  A,"), "only in case or blanks"),
        (HEAD + ROW + NEXT.replace(",A,", ',"A\nB",'), "quotation mark|control character"),
        (HEAD + ROW + NEXT.replace("A", "A\x01"), "control character"),
        (HEAD + ROW + NEXT.replace("A", "A\0"), "line 3 holds a NUL"),
        (HEAD + ROW.replace("2024", "1824") + NEXT.replace("2024", "1824"), "before 1900, row 0"),
        (HEAD + ROW + NEXT.replace("2024", "2240"), "after today.*row 1: '2240-01-03'"),
        (HEAD + ROW * 1 + HEAD + NEXT, "row 1 repeats the header"),
        (HEAD + ROW + NEXT[:-4], "row 1 has 6 fields and the header 7"),
        (HEAD + ROW + NEXT.replace("2.5", "2.5e9"), "outside 1e-6 to 1e9, row 1"),
        (HEAD + ROW + NEXT.replace("1.25", "1.25e-9"), "low lie outside 1e-6"),
        (HEAD + ROW + NEXT.replace(",5\n", ",true\n"), "not numbers, row 1: 'true'"),
        (HEAD + ROW + NEXT + "total,,,,,,10\n", "do not read as %Y-%m-%d, row 2: 'total'|symbol of row 2 is empty"),
        (HEAD + ROW + NEXT + "2024-01-04,,,,,,\n", "symbol of row 2 is empty"),
        (
            HEAD.replace("symbol", "isin") + ROW + ROW.replace(",A,1.5", ",B,1.4"),
            r"column isin tells them apart \(A, B\).*--column symbol",
        ),
        (HEAD + ROW + NEXT.replace("1.5", "57.3K"), "open are not numbers, row 1: '57.3K'"),
        (HEAD + ROW + NEXT.replace("1.5", "12%"), "not numbers, row 1: '12%'"),
        (HEAD + ROW + NEXT.replace("2024-01-03", ""), "do not read as %Y-%m-%d|how are dates like"),
    ],
)
def test_what_cannot_be_is_named_with_its_row(tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        import_file(tmp_path / "mine.csv", guess_columns(tmp_path / "mine.csv"))


@pytest.mark.parametrize("repair", ["keep_first", "keep_last", "drop_duplicates"])
def test_no_repair_makes_one_stock_of_two(tmp_path, repair):
    rows = "".join(
        f"2024-01-{d:02d},{s},{p},{p},{p},{p},5\n" for d in range(2, 12) for s, p in (("US01", 10), ("US02", 70))
    )
    for text, message in (
        (HEAD.replace("symbol", "isin") + rows, "tells them apart"),
        (HEAD.replace("symbol,", "") + rows.replace("US01,", "").replace("US02,", ""), "more than one series"),
    ):
        (tmp_path / "mine.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            import_file(tmp_path / "mine.csv", guess_columns(tmp_path / "mine.csv"), repair=[repair])


@pytest.mark.parametrize(
    ("bad", "step"),
    [(ROW, "drop_duplicates"), (ROW.replace(",2,5", ",2.25,5"), "keep_first or keep_last"),
    (NEXT.replace(",2,5", ",,5"), "drop_missing"), (NEXT.replace("1.25", "-1"), "drop_nonpositive"),
    (NEXT.replace("2.5,1.25", "1.25,2.5"), "drop_high_below_low"), (NEXT.replace("1.5,", "3,"), "widen_range"),
    (NEXT.replace(",5\n", ",-5\n"), "forget_negative_volume"), (NEXT.replace("2.5", "x"), None)],
)  # fmt: skip
def test_the_hint_names_a_repair_only_where_it_is_the_remedy(tmp_path, bad, step):
    (tmp_path / "mine.csv").write_text(HEAD + ROW + bad)
    guess = guess_columns(tmp_path / "mine.csv")
    with pytest.raises(DataError) as raised:
        import_file(tmp_path / "mine.csv", guess)
    assert (f"--repair {step}" in str(raised.value)) if step else ("--repair" not in str(raised.value)), str(
        raised.value
    )
    if step:
        bars = import_file(tmp_path / "mine.csv", guess, repair=[step.split(" ")[0]])
        assert bars.attrs["repairs"] == {step.split(" ")[0]: 1}
