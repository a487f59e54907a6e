"""A loopback server for the stand-in venues: one thread, one event loop, an address of the system's choice.

A venue gives `routes` and the form of its errors; here requests meet the plan of faults. Every venue is also usable
without a socket: `venue.handle(Request(...))` gives the Answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from .core import Core, Order, Refused
from .faults import FaultPlan


@dataclass
class Request:
    method: str
    path: str
    query_string: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, job: Any, timeout: float = 10) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(timeout)

    def call(self, function: Callable, *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            self.loop.call_soon_threadsafe(function, *args)

    async def _cancel(self) -> None:
        tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


class HttpVenue:
    """What the HTTP venues share. A subclass sets `routes`: (method, pattern of the path, name of a method)."""

    routes: tuple[tuple[str, str, str], ...] = ()

    def __init__(self, core: Core, faults: FaultPlan | None = None):
        self.core, self.faults = core, faults or FaultPlan()
        self._routes = [(method, re.compile(pattern + "$"), name) for method, pattern, name in self.routes]
        self._served: asyncio.Event | None = None
        self.url = ""

    # --- a subclass says how its errors look

    def not_found(self, request: Request) -> Answer:
        return Answer({"message": "not found"}, 404)

    def too_many(self, retry_after: float) -> Answer:
        return Answer({"message": "too many requests"}, 429, {"Retry-After": f"{retry_after:g}"})

    def broken(self, status: int) -> Answer:
        return Answer({"message": "error"}, status)

    def refusal(self, why: Refused) -> Answer:
        return Answer({"message": why.text}, 400)

    def before(self, request: Request, name: str) -> Answer | None:
        """Checks before a handler: keys, times, limits."""
        return None

    def extra_routes(self, app: web.Application) -> None:
        """Routes that are no plain requests (websockets)."""

    # --- visibility

    def visible(self, order: Order, lookup: bool = False) -> bool:
        if lookup and self.faults.hides != "all":
            return True
        age = (self.core.clock() - order.created).total_seconds()
        return self.faults.shows(order.seen_at, self.core.requests, age)

    # --- a request without and with a socket

    def handle(self, request: Request) -> Answer:
        """Serve a request, without faults."""
        with self.core.lock:
            self.core.requests += 1
            if self.core.auto_step:
                self.core.step()
            return self._route(request)

    def _route(self, request: Request) -> Answer:
        for method, pattern, name in self._routes:
            found = pattern.match(request.path)
            if found and method == request.method:
                request.ids = found.groupdict()
                try:
                    return self.before(request, name) or getattr(self, name)(request)
                except Refused as why:
                    return self.refusal(why)
        return self.not_found(request)

    def failure(self, kind: str) -> Answer | None:
        """The answer of a fault that has one."""
        if kind == "too_many":
            return self.too_many(self.faults.retry_after)
        codes = {"outage": 503, "error_500": 500, "error_503": 503, "done_500": 500, "done_503": 503}
        return self.broken(codes[kind]) if kind in codes else None

    async def _front(self, raw: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in raw.headers.items()}
        query = raw.raw_path.partition("?")[2]
        request = Request(raw.method, raw.path, query, headers, await raw.read())
        kind = self.faults.decide(request.method, request.path)
        if kind == "drop_request":
            return _hang_up(raw)
        if kind == "delay":
            await self._wait()
        failure = self.failure(kind)
        if failure and not kind.startswith("done_"):
            return _send(failure)
        answer = self.handle(request)
        if kind == "duplicate":
            second = self.handle(request)
            answer = answer if self.faults.first_answer else second
        if kind != "delay":
            self._release()
        if kind == "drop_answer":
            return _hang_up(raw)
        return _send(failure or answer)

    async def _wait(self) -> None:
        self._served = self._served or asyncio.Event()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._served.wait(), self.faults.patience)

    def _release(self) -> None:
        if self._served:
            self._served.set()
            self._served = None

    @contextlib.contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """Serve on a free port of the loopback (or on `port`, to come back after an end); gives the base address."""
        self.threads = Loop()
        runner = None
        try:
            runner, self.url = self.threads.run(self._start(port))
            yield self.url
        finally:
            if runner:
                self.threads.run(runner.cleanup())
            self.threads.close()

    async def _start(self, port: int) -> tuple[web.AppRunner, str]:
        app = web.Application(client_max_size=2**24)
        self.extra_routes(app)
        app.router.add_route("*", "/{rest:.*}", self._front)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def _hang_up(raw: web.Request) -> web.Response:
    if raw.transport:
        raw.transport.abort()
    return web.Response()


def _send(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return web.Response(text=text, status=answer.status, headers=answer.headers, content_type="application/json")


@contextlib.contextmanager
def serve(fake: Any) -> Iterator[str]:
    """The same as `fake.serve()`."""
    with fake.serve() as url:
        yield url


def redirect(exchange: Any, url: str) -> Any:
    """Point every address of a ccxt client at a fake."""
    exchange.urls["api"] = {name: re.sub(r"^https?://[^/]+", url, one) for name, one in exchange.urls["api"].items()}
    return exchange
