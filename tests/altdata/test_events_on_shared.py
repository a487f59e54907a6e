"""The event clock and its audit on data they were not tuned on: 8-K filings by date, StockNet's tweets by second."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantlab.altdata.event_audit import audit_events, check_event_times
from quantlab.altdata.events import check_events, event_coverage, event_panel, known_next_close, session_closes
from quantlab.core.config import root
from quantlab.data.calendar import exchange_sessions

SHARED = Path(os.environ.get("QUANTLAB_SHARED", root().parent / "shared")) / "data" / "text"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/text (or QUANTLAB_SHARED)"),
]


def test_filings_of_which_only_the_day_is_known():
    with zipfile.ZipFile(SHARED / "edgar_8k_extracted.zip") as archive:
        raw = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    table = pd.DataFrame({key: [r[key] for r in raw] for key in ("cik", "filing_date", "filename")})
    day = pd.to_datetime(table["filing_date"])
    closes = session_closes(
        exchange_sessions("XNYS", day.min() - pd.Timedelta(days=7), day.max() + pd.Timedelta(days=9))
    )
    day_utc = day.dt.tz_localize("UTC")
    events = table.assign(event_time=day_utc, symbol=table["cik"], source="EDGAR", kind="8-K", revision=0)
    events = events.assign(id=table["filename"], x=1.0).drop(columns=["cik", "filing_date", "filename"])
    naive = check_events(events.assign(known_at=day_utc))
    assert check_event_times(naive)[0].status == "LEAK"  # dated by the day
    honest = check_events(events.assign(known_at=known_next_close(day, closes)))
    assert check_event_times(honest)[0].status == "PASS"
    assert event_coverage(honest, closes)["inside"] == len(raw) == 553
    verdict = audit_events(lambda e: event_panel(e, closes, "x", "count"), honest, closes, cuts=4)
    assert verdict.status == "PASS", verdict
    assert event_panel(honest, closes, "x", "count")["x"].sum() == len(raw)


def test_tweets_by_the_second():
    tweets = pd.read_parquet(SHARED / "stocknet_tweets_2014_2015.parquet")
    stamp = tweets["created_at"]
    events = pd.DataFrame({"event_time": stamp, "known_at": stamp, "symbol": tweets["symbol"].astype("str")})
    events = events.assign(source="StockNet", kind="post", revision=0, id=np.arange(len(events)).astype("str"))
    events = check_events(events.assign(x=tweets["text"].str.len().astype("float64").to_numpy()))
    closes = session_closes(exchange_sessions("XNYS", "2014-01-02", "2015-12-31"))
    found = {v.function: v.status for v in check_event_times(events)}
    assert found["dated by the day"] == "PASS"
    count = event_panel(events, closes, "x", "count")["x"].sum()
    assert count == event_coverage(events, closes)["inside"]
    some = events[events["symbol"].isin(["AAPL", "GOOG", "XOM"])]
    year = closes.loc["2014-06":"2014-12"]
    verdict = audit_events(lambda e: event_panel(e, year, "x", "sum"), some, year, cuts=4)
    assert verdict.status == "PASS", verdict
    day = lambda e: e.assign(date=e["known_at"].dt.tz_localize(None).dt.normalize())  # noqa: E731
    verdict = audit_events(lambda e: day(e).groupby(["date", "symbol"])[["x"]].sum(), some, year, cuts=4)
    assert verdict.status == "LEAK", verdict  # a day of UTC is no session
