"""Planted leaks of events and their clean twins: what the audit of events must catch, and what it must leave alone.

A leak in the making is a pair of functions events -> panel that differ by the one mistake; a leak in the data is a pair
of frames of events. `seen` says where such a mistake is found.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantlab.altdata.event_audit import audit_events, check_event_times
from quantlab.altdata.events import check_events, current_events, event_panel, known_next_close, session_closes
from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS, Verdict
from quantlab.core.panel import to_wide
from quantlab.data.calendar import exchange_sessions

NEW_YORK = "America/New_York"
EMBARGO = pd.Timedelta(minutes=30)
SYMBOLS = [f"S{i}" for i in range(8)]


def market_closes(n: int = 70) -> pd.Series:
    "Closes over a change of clocks, Thanksgiving and Christmas."
    return session_closes(exchange_sessions("XNYS", "2024-10-07", "2025-03-31")[:n])


def stream(seed: int = 0, closes: pd.Series | None = None, n: int = 260) -> pd.DataFrame:
    "Reports accepted from 06:00 to 22:00 New York on working days, some amended, received half an hour before."
    rng, closes = np.random.default_rng(seed), market_closes() if closes is None else closes
    days = closes.index[rng.integers(0, len(closes), n)]
    minutes = np.where(rng.random(n) < 0.5, rng.integers(961, 1080, n), rng.integers(400, 1310, n))
    known = (days + pd.to_timedelta(minutes, unit="min")).tz_localize(NEW_YORK).tz_convert("UTC").as_unit("us")
    names = rng.integers(0, 8, n)
    gone = (names >= 6) & (days > closes.index[len(closes) // 2])  # S6 and S7 leave in the middle
    first = pd.DataFrame(
        {
            "event_time": known - EMBARGO - pd.to_timedelta(rng.integers(1, 900, n), unit="min"),
            "known_at": known,
            "symbol": np.array(SYMBOLS)[names],
            "source": "made up",
            "kind": "report",
            "revision": 0,
            "id": [f"r{i:04}" for i in range(n)],
            "x": rng.normal(0, 1, n).round(3),
        }
    )[~gone].reset_index(drop=True)
    first["received_at"] = first["known_at"] - EMBARGO
    some = first.sample(frac=0.2, random_state=seed)
    wait = pd.to_timedelta(rng.integers(2, 9, len(some)), unit="D")
    # amended at the same hour of a later working day
    late = pd.Series((some["known_at"].dt.tz_convert(NEW_YORK).dt.tz_localize(None) + wait).to_numpy(), some.index)
    late = (late + pd.to_timedelta(np.maximum(0, late.dt.dayofweek - 4) * 2, unit="D")).dt.tz_localize(NEW_YORK)
    amended = some.assign(known_at=late.dt.tz_convert("UTC"), revision=1, x=rng.normal(0, 1, len(some)).round(3))
    return check_events(pd.concat([first, amended.assign(received_at=amended["known_at"] - EMBARGO)]))


def members(closes: pd.Series) -> pd.MultiIndex:
    "A universe of twenty names of which eight leave in the middle."
    half = closes.index[len(closes) // 2]
    rows = [(d, f"U{i:02}") for d in closes.index for i in range(20) if i < 12 or d <= half]
    return pd.MultiIndex.from_tuples(rows, names=["date", "symbol"])


@dataclass(frozen=True)
class EventPair:
    "One mistake and the honest way to do the same; each gives the verdict of its own check."

    name: str
    leak: Callable[..., Verdict]  # of events, closes and, for makers, how many cuts
    twin: Callable[..., Verdict]
    seen: str


def made(
    name: str,
    leak: Callable[[pd.DataFrame, pd.Series], pd.DataFrame],
    twin: Callable[[pd.DataFrame, pd.Series], pd.DataFrame],
    seen: str,
    exact: bool = True,  # whether the twin moves by one session for a minute
) -> EventPair:
    "A pair of functions events, closes -> panel, for the audit."

    def held(make, exact):
        return lambda events, closes, cuts=3: audit_events(
            lambda e: make(e, closes), events, closes, name, cuts=cuts, exact=exact
        )

    return EventPair(name, held(leak, True), held(twin, exact), seen)


def told(
    name: str,
    check: str,
    leak: Callable[[pd.DataFrame, pd.Series], dict],
    twin: Callable[[pd.DataFrame, pd.Series], dict],
    seen: str,
) -> EventPair:
    "A pair of frames events, closes -> arguments of check_event_times, for the checks of the data."

    def held(tell):
        def verdict(events, closes, cuts=3):
            found = check_event_times(**tell(events, closes))
            leaks = [v for v in found if v.status == LEAK]
            assert all(v.function == check for v in leaks), leaks  # no other check may cry
            return leaks[0] if leaks else next(v for v in found if v.function == check)

        return verdict

    return EventPair(name, held(leak), held(twin), seen)


def last(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    return event_panel(events, closes, "x")


def local_day(instants: pd.Series) -> pd.Series:
    return instants.dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.normalize()


def redated(events: pd.DataFrame, known_at: pd.Series) -> pd.DataFrame:
    "The same statements, believed to be known at other times."
    known = known_at.dt.tz_convert("UTC").dt.as_unit("us")
    return events.assign(known_at=known, event_time=events["event_time"].where(events["event_time"] < known, known))


def same_fact(events: pd.DataFrame, known_at: pd.Series) -> pd.DataFrame:
    "Redate statements whose facts may fall together: one fact each."
    return redated(events, known_at).assign(revision=0, id=events["id"] + events["revision"].astype("str"))


def by_filing_date(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    return event_panel(same_fact(events, local_day(events["known_at"]).dt.tz_localize(NEW_YORK)), closes, "x")


def by_next_close(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    known = known_next_close(local_day(events["known_at"]), closes)
    return event_panel(same_fact(events[known.notna()], known.dropna()), closes, "x")


def overwritten(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    "Each fact at its first time, with its latest value."
    checked = check_events(events)
    latest = checked.groupby("id")["x"].transform("last")
    return event_panel(checked.assign(x=latest)[checked["revision"] == 0], closes, "x")


def read_as_of(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    "The mean of what is known, at each close."
    rows = {d: current_events(events, c).groupby("symbol")["x"].mean() for d, c in closes.iloc[::20].items()}
    return pd.concat(rows, names=["date", "symbol"]).to_frame("x")


def filled(how: str) -> Callable[[pd.DataFrame, pd.Series], pd.DataFrame]:
    "Fill the sessions between events."

    def make(events, closes):
        wide = to_wide(event_panel(events, closes, "x", symbols=SYMBOLS)["x"])
        wide = wide.interpolate(limit_area="inside") if how == "interpolate" else getattr(wide, how)()
        return wide.stack().to_frame("x")

    return make


def normalised(expanding: bool) -> Callable[[pd.DataFrame, pd.Series], pd.DataFrame]:
    "Score values against all the others, or against those before them."

    def make(events, closes):
        wide = to_wide(event_panel(events, closes, "x", symbols=SYMBOLS)["x"])
        past = wide.stack().groupby(level=0).agg(["sum", "count"]).cumsum() if expanding else None
        mean = past["sum"] / past["count"] if expanding else wide.stack().mean()
        score = wide.sub(mean, axis=0) if expanding else wide - mean
        return score.stack().to_frame("x")

    return make


def survivors(at_the_end: bool) -> Callable[[pd.DataFrame, pd.Series], pd.DataFrame]:
    "Average over the names that still report at the end, or over those that reported until then."

    def make(events, closes):
        wide = to_wide(event_panel(events, closes, "x", "last", SYMBOLS)["x"])
        alive = wide.tail(21).notna().any() if at_the_end else wide.rolling(21, min_periods=1).count() > 0
        kept = wide.loc[:, alive] if at_the_end else wide.where(alive)
        return kept.mean(axis=1).dropna().to_frame("x").rename_axis("date")

    return make


def on_its_day(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    "Every event on the session of its day, also after the close."
    day = local_day(events["known_at"])
    sessions = closes.index[np.minimum(closes.index.searchsorted(day), len(closes) - 1)]
    table = events.assign(date=sessions).groupby(["date", "symbol"])["x"].last()
    return table.to_frame()


def shifted(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    "New York's hours read as UTC: five hours early."
    naive = events["known_at"].dt.tz_convert(NEW_YORK).dt.tz_localize(None)
    return event_panel(redated(events, naive.dt.tz_localize("UTC")), closes, "x")


def localised(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    "New York's hours read as New York's."
    naive = events["known_at"].dt.tz_convert(NEW_YORK).dt.tz_localize(None)
    return event_panel(redated(events, naive.dt.tz_localize(NEW_YORK, ambiguous=False)), closes, "x")


def ranked(whole: bool) -> Callable[[pd.DataFrame, pd.Series], pd.DataFrame]:
    "A symbol's share of all reports, or of those so far."

    def make(events, closes):
        wide = to_wide(event_panel(events, closes, "x", "count", SYMBOLS)["x"]).fillna(0).cumsum()
        total = wide.sum(axis=1)
        return wide.div(total * 0 + total.iloc[-1] if whole else total, axis=0).stack().to_frame("x")

    return make


MADE = [
    made("filing date for acceptance time", by_filing_date, by_next_close, "EDGAR's date column", exact=False),
    made(
        "event time for known time",
        lambda e, c: event_panel(same_fact(e, e["event_time"]), c, "x"),
        last,
        "earnings dated by the period's end",
    ),
    made("after the close on the same session", on_its_day, last, "merges on the calendar day"),
    made("amended value under the first time", overwritten, last, "databases of fundamentals, overwritten"),
    made("time zone dropped", shifted, localised, "naive stamps of a feed"),
    made(
        "embargo ignored",
        lambda e, c: event_panel(same_fact(e, e["received_at"]), c, "x"),
        last,
        "wire stories dated by receipt",
    ),
    made("survivor-only tickers", survivors(True), survivors(False), "today's ticker list"),
    made("back-filled between events", filled("bfill"), filled("ffill"), "alignment with fillna(method='bfill')"),
    made("interpolated between events", filled("interpolate"), filled("ffill"), "quarterly values on daily dates"),
    made("normalised over the whole sample", normalised(False), normalised(True), "a z-score before the split"),
    made("share of all reports to come", ranked(True), ranked(False), "term weights of the whole corpus"),
    made(
        "read as of the last day",
        lambda e, c: event_panel(
            current_events(e, c.iloc[-1]).assign(known_at=lambda k: k["id"].map(e.groupby("id")["known_at"].min())),
            c,
            "x",
        ),
        read_as_of,
        "a vendor's file of today",
        exact=False,
    ),
]


def covering(events: pd.DataFrame, closes: pd.Series, alive: bool) -> dict:
    "Reports of a universe: of all its members, or only of those who stay to the end."
    universe, rng = members(closes), np.random.default_rng(len(events))
    rows = universe.to_frame(index=False).sample(400, random_state=int(rng.integers(1000)))
    if alive:
        rows = rows[rows["symbol"] < "U12"]
    known = closes.reindex(rows["date"]).reset_index(drop=True)
    known = known - pd.to_timedelta(rng.integers(1, 300, len(rows)), unit="min")
    table = pd.DataFrame({"event_time": known, "known_at": known, "symbol": rows["symbol"].to_numpy()})
    table = table.assign(source="made up", kind="report", revision=0, id=np.arange(len(table)).astype("str"))
    return {"events": table, "universe": universe}


HOURS = ("06:00", "22:00")
TOLD = [
    told(
        "known at midnight of the filing date",
        "dated by the day",
        lambda e, c: {"events": same_fact(e, local_day(e["known_at"]).dt.tz_localize(NEW_YORK))},
        lambda e, c: {"events": e},
        "files that hold only dates",
    ),
    told(
        "one hour for a whole day",
        "dated by the day",
        lambda e, c: {"events": same_fact(e, at_four(e))},
        lambda e, c: {"events": dated_late(e, c)},
        "a close pasted on the filing date",
    ),
    told(
        "amendment under the first time",
        "amended value",
        lambda e, c: {"events": e.assign(known_at=e.groupby("id")["known_at"].transform("min"))},
        lambda e, c: {"events": e},
        "8-K/A joined to its 8-K",
    ),
    told(
        "hours of New York written as UTC",
        "hours",
        lambda e, c: {"events": redated(e, as_utc(e)), "hours": HOURS},
        lambda e, c: {"events": e, "hours": HOURS},
        "acceptance times without their zone",
    ),
    told(
        "embargo not waited for",
        "embargo",
        lambda e, c: {"events": e.assign(event_time=e["received_at"] + EMBARGO / 2), "embargo": EMBARGO},
        lambda e, c: {"events": e.assign(event_time=e["received_at"]), "embargo": EMBARGO},
        "embargoed releases",
    ),
    told(
        "only those who survived",
        "survivors",
        lambda e, c: covering(e, c, True),
        lambda e, c: covering(e, c, False),
        "filings of today's members",
    ),
    told(
        "history rewritten in the file",
        "rewritten",
        lambda e, c: {"events": e.assign(x=e.groupby("id")["x"].transform("last")), "earlier": e.head(len(e) // 2)},
        lambda e, c: {"events": e, "earlier": e.head(len(e) // 2)},
        "a vendor's corrections",
    ),
]


def at_four(events: pd.DataFrame) -> pd.Series:
    return (local_day(events["known_at"]) + pd.Timedelta(hours=16)).dt.tz_localize(NEW_YORK)


def as_utc(events: pd.DataFrame) -> pd.Series:
    return events["known_at"].dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.tz_localize("UTC")


def dated_late(events: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    known = known_next_close(local_day(events["known_at"]), closes)
    return same_fact(events[known.notna()], known.dropna())


EVENT_ZOO = [*MADE, *TOLD]


def zoo_table(seed: int = 0, cuts: int = 3) -> pd.DataFrame:
    "Say of each animal what its check says of the leak and of the twin."
    closes = market_closes()
    events = stream(seed, closes)
    rows = [(p.name, p.leak(events, closes, cuts).status, p.twin(events, closes, cuts).status) for p in EVENT_ZOO]
    return pd.DataFrame(rows, columns=["planted", "leak", "twin"])


__all__ = ["EVENT_ZOO", "EventPair", "LEAK", "NOT_ASSESSED", "PASS", "market_closes", "stream", "zoo_table"]
