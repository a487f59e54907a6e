"""What goes wrong between a client and a venue, as a plan with a seed, with HTTP or without.

The decision for a request depends on the seed, on the request's key (method and path without ids) and on how many
requests with this key came before, so a thread that polls does not shift what happens to the orders. The kinds:

`ok`            nothing
`drop_request`  the connection is closed and the venue never saw the request
`drop_answer`   the venue did it; the connection is closed without an answer
`duplicate`     the request is delivered twice, the client gets the second answer (`first_answer=True`: the first)
`delay`         the request waits until a later one has been served (or `patience` seconds have passed)
`too_many`      429 with Retry-After
`error_500`, `error_503`            the venue does nothing and says so
`done_500`, `done_503`              the venue does it and answers with the error all the same
`outage`        this and the next `outage - 1` requests of any key get 503

`visibility=m` hides an order from the venue's listings until m further requests have come, `settle=s` until s seconds
of the venue's clock have passed; `hides="all"` hides it from look-ups by id as well."""

from __future__ import annotations

import random
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

KINDS = (
    "ok", "drop_request", "drop_answer", "duplicate", "delay", "too_many", "error_500", "error_503", "done_500",
    "done_503", "outage",
)  # fmt: skip


class Lost(ConnectionError):
    """The connection was closed; the client does not know whether the venue did anything."""


class Failed(Exception):
    """The venue answered with an error status."""

    def __init__(self, status: int, retry_after: float | None = None):
        super().__init__(f"status {status}")
        self.status, self.retry_after = status, retry_after


def key_of(method: str, path: str) -> str:
    """Method and path with every id cut out."""
    return f"{method} " + re.sub(r"/[0-9a-fA-F-]{8,}|/\d+", "/ID", path.split("?")[0])


class FaultPlan:
    """Decide the fate of each request.

    `rates`: probability by kind, for the requests that `only` (a pattern over "METHOD /path") matches.
    `script`: kinds for the first matching requests, in order, before the rates are asked; `at`: kinds by the number of
    the matching request, counted from 0."""

    def __init__(
        self,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        script: Sequence[str] = (),
        at: Mapping[int, str] | None = None,
        only: str = "",
        retry_after: float = 1,
        outage: int = 3,
        visibility: int = 0,
        settle: float = 0.0,
        hides: str = "listings",
        first_answer: bool = False,
        patience: float = 2.0,
    ):
        unknown = (set(rates or ()) | set(script) | set((at or {}).values())) - set(KINDS)
        if unknown:
            raise ValueError(f"no such faults: {sorted(unknown)}; there are {KINDS}")
        self.seed, self.rates, self.script, self.at = seed, dict(rates or {}), list(script), dict(at or {})
        self.only, self.retry_after, self.outage = re.compile(only), retry_after, outage
        self.visibility, self.settle, self.hides = visibility, settle, hides
        self.first_answer, self.patience = first_answer, patience
        self.history: list[tuple[str, str]] = []
        self._counts: dict[str, int] = defaultdict(int)
        self._matched = self._down = 0
        self._lock = threading.Lock()

    def decide(self, method: str, path: str) -> str:
        """The kind for the next request."""
        with self._lock:
            kind = self._decide(method, path)
            self.history.append((key_of(method, path), kind))
            return kind

    def _decide(self, method: str, path: str) -> str:
        if self._down > 0:
            self._down -= 1
            return "outage"
        if not self.only.search(f"{method} {path}"):
            return "ok"
        kind = self._planned(key_of(method, path))
        if kind == "outage":
            self._down = self.outage - 1
        return kind

    def _planned(self, key: str) -> str:
        index, self._matched = self._matched, self._matched + 1
        if index in self.at:
            return self.at[index]
        if self.script:
            return self.script.pop(0)
        count, self._counts[key] = self._counts[key], self._counts[key] + 1
        draw = random.Random(f"{self.seed}/{key}/{count}").random()
        for kind, rate in self.rates.items():
            if draw < rate:
                return kind
            draw -= rate
        return "ok"

    def shows(self, seen_at: int, requests: int, age: float) -> bool:
        """Whether an order taken at request `seen_at`, `age` seconds old, is visible at request number `requests`."""
        return requests - seen_at > self.visibility and age >= self.settle if self.visibility or self.settle else True

    def count(self, kind: str) -> int:
        return sum(one == kind for _, one in self.history)


class Wire:
    """A plan in front of a plain function: `wire(method, path, call)` for clients that do not speak HTTP.

    A call that is delayed raises Lost at once (its client gave up waiting) and is made after the next call has been
    served, or by `flush()`."""

    def __init__(self, plan: FaultPlan):
        self.plan = plan
        self.waiting: list[Callable[[], Any]] = []

    def __call__(self, method: str, path: str, call: Callable[[], Any]) -> Any:
        kind = self.plan.decide(method, path)
        if kind == "delay":
            self.waiting.append(call)
            raise Lost("no answer in time")
        if kind == "drop_request":
            raise Lost("closed before the request was read")
        if kind in ("too_many", "error_500", "error_503", "outage"):
            raise Failed(*self._status(kind))
        try:
            answer = self._deliver(kind, call)
        finally:
            self.flush()
        if kind == "drop_answer":
            raise Lost("closed before the answer was sent")
        if kind.startswith("done_"):
            raise Failed(int(kind[5:]))
        return answer

    def _status(self, kind: str) -> tuple[int, float | None]:
        codes = {"too_many": (429, self.plan.retry_after), "error_500": (500, None)}
        return codes.get(kind, (503, None))

    def _deliver(self, kind: str, call: Callable[[], Any]) -> Any:
        if kind != "duplicate":
            return call()
        first = _outcome(call)
        second = _outcome(call)
        value, error = first if self.plan.first_answer else second
        if error:
            raise error
        return value

    def flush(self) -> None:
        """Make the calls that wait; what they answer reaches nobody."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            _outcome(call)


def _outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except Exception as error:
        return None, error


def run(plan: FaultPlan, calls: Iterable[tuple[str, str, Callable[[], Any]]]) -> list[Any]:
    """Make a sequence of (method, path, call) through a plan; gives each answer or the error that its caller saw."""
    wire, answers = Wire(plan), []
    for method, path, call in calls:
        value, error = _outcome(lambda: wire(method, path, call))
        answers.append(error or value)
    wire.flush()
    return answers
