"""A stand-in of a FIX 4.4 order desk (an acceptor over TCP), with its own parser of tags.

From the dictionary of FIX 4.4 (quickfix/quickfix, `spec/FIX44.xml`): the fields each message needs and the values of
ExecType, OrdStatus, OrdRejReason, CxlRejReason, SessionRejectReason and BusinessRejectReason.
From the acceptance tests of acceptors (the same repository, `test/definitions/server/fix44`): the first message must be
a Logon, else the connection ends (1c, 1d, 1e), a second connection of one identity ends (1b), a Logon with a number
too high is answered and a ResendRequest follows (1a); a number too high asks for a resend with EndSeqNo 0 and what
came early waits (2b), one too low without PossDupFlag ends with a Logout that says "MsgSeqNum too low, expecting X but
received Y" (2c), garbled messages are passed over and do not count (2d, 3b), PossDup already seen is passed over (2e),
OrigSendingTime missing or later than SendingTime is rejected (2f, 2g), a wrong BeginString, comp id or SendingTime ends
the session (2i, 2k, 2o); TestRequest, Heartbeat and GapFill of administrative messages in runs (4b, 8), SequenceReset
in both modes (10, 11), Logout (13b), fields that are missing, empty, repeated or not numbers (14), ClOrdID repeated
with PossResend is not executed again (19a).
From memory of the order state matrices of FIX 4.4 volume 4, not read here: a repeated ClOrdID is rejected with
OrdRejReason 6, a PossResend of a known order and a status request are answered with ExecType I, a status request for
an unknown order with OrdStatus 8. A market that is closed is told by OrdStatus A (pending new) until it opens.
Not there: order cancel/replace (business reject 3), groups, encryption, FIXT."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import InvalidOperation

from .core import ZERO, Core, Order, Refused, number
from .faults import FaultPlan
from .serving import Loop

SOH = b"\x01"
BEGIN = "FIX.4.4"
HEADER = (8, 9, 35, 34, 49, 52, 56, 43, 97, 122)
ADMIN = ("0", "1", "2", "3", "4", "5", "A")
NEEDS = {"A": (98, 108), "1": (112,), "2": (7, 16), "3": (45,), "4": (36,), "D": (11, 55, 54, 60, 38, 40),
         "F": (41, 11, 55, 54, 60), "H": (11, 55, 54)}  # fmt: skip
OTHER_TYPES = tuple("6789BCEGJKLMNPQRSTVWXYZabcdefghijklmnopqrstuvwxyz")
STATUS = {"accepted": "A", "new": "0", "partially_filled": "1", "filled": "2", "canceled": "4", "pending_cancel": "6",
          "rejected": "8", "expired": "C", "replaced": "5"}  # fmt: skip
EXEC = {"accepted": "0", "new": "0", "fill": "F", "canceled": "4", "pending_cancel": "6", "rejected": "8",
        "expired": "C"}  # fmt: skip
SIDES = {"1": "buy", "2": "sell", "5": "sell"}
TIMES = {"0": "day", "1": "gtc", "2": "opg", "3": "ioc", "4": "fok", "7": "cls"}
REJECTS = {"duplicate": "6", "symbol": "1", "closed": "2", "cash": "3", "holdings": "3", "quantity": "13"}
TEXTS = {1: "Required tag missing", 4: "Tag specified without a value", 6: "Incorrect data format for value",
         9: "CompID problem", 10: "SendingTime accuracy problem", 11: "Invalid MsgType", 5: "Value is incorrect",
         13: "Tag appears more than once", 0: "Invalid tag number"}  # fmt: skip

Fields = list[tuple[int, str]]


class Bad(Exception):
    """A message that the session rejects: the reason's number and the tag."""

    def __init__(self, reason: int, tag: int | None = None, ends: bool = False):
        super().__init__(TEXTS[reason])
        self.reason, self.tag, self.ends = reason, tag, ends


@dataclass
class Message:
    fields: list[tuple[str, str]]

    def get(self, tag: int, default: str = "") -> str:
        return next((value for name, value in self.fields if name == str(tag)), default)

    def has(self, tag: int) -> bool:
        return any(name == str(tag) for name, _ in self.fields)

    @property
    def type(self) -> str:
        return self.get(35)

    @property
    def seq(self) -> int:
        return int(self.get(34))


def encode(fields: Iterable[tuple[int, object]]) -> bytes:
    """The bytes of a message: BeginString, the length and the checksum are put around the fields given."""
    body = b"".join(f"{tag}={value}".encode("latin-1") + SOH for tag, value in fields)
    head = f"8={BEGIN}".encode() + SOH + f"9={len(body)}".encode() + SOH
    return head + body + f"10={sum(head + body) % 256:03d}".encode() + SOH


def split(buffer: bytes) -> tuple[list[Message | None], bytes]:
    """The messages at the start of a buffer and the rest; None stands for a garbled one, that is passed over."""
    messages: list[Message | None] = []
    while True:
        start = buffer.find(b"8=")
        if start < 0:
            return messages, buffer
        buffer = buffer[start:]
        size = _size(buffer)
        if size is None or (size > 0 and len(buffer) < size):
            return messages, buffer
        if size > 0 and _sound(buffer[:size]):
            messages.append(parse(buffer[:size]))
            buffer = buffer[size:]
            continue
        messages.append(None)
        following = buffer.find(SOH + b"8=FIX", 1)
        if following < 0:
            return messages, b""
        buffer = buffer[following + 1 :]


def _size(buffer: bytes) -> int | None:
    """How long the first message says it is; None when that is not yet there, 0 when it says nothing sensible."""
    parts = buffer.split(SOH, 2)
    if len(parts) < 3:
        return None
    if not parts[1].startswith(b"9=") or not parts[1][2:].isdigit():
        return 0
    return len(parts[0]) + len(parts[1]) + 2 + int(parts[1][2:]) + 7


def _sound(raw: bytes) -> bool:
    tail = raw[-7:]
    right = f"10={sum(raw[:-7]) % 256:03d}".encode() + SOH
    return tail == right and raw[-8:-7] == SOH


def parse(raw: bytes) -> Message:
    pairs = [part.partition(b"=") for part in raw.split(SOH) if part]
    return Message([(tag.decode("latin-1"), value.decode("latin-1")) for tag, _, value in pairs])


def moment(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y%m%d-%H:%M:%S.%f")[:-3]


def unix(text: str) -> float:
    form = "%Y%m%d-%H:%M:%S.%f" if "." in text else "%Y%m%d-%H:%M:%S"
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Bad(6, 52) from None


@dataclass
class Session:
    """What the acceptor remembers of a counterparty from one connection to the next."""

    client: str
    next_in: int = 1
    next_out: int = 1
    sent: dict[int, tuple[str, Fields, str]] = field(default_factory=dict)
    early: dict[int, Message] = field(default_factory=dict)
    asked: bool = False
    line: Line | None = None
    client_ids: dict[str, str] = field(default_factory=dict)
    cancels: dict[str, tuple[str, str]] = field(default_factory=dict)

    def reset(self) -> None:
        self.next_in = self.next_out = 1
        self.sent.clear()
        self.early.clear()
        self.asked = False


class FixVenue:
    """See the module's text. `serve()` gives (host, port). Beside the plan of faults, that knows `drop_request` and
    `drop_answer` here (keys "FIX /D"), `lose_next` lets messages to the client disappear, which leaves a gap, and
    `garble_next` sends them with a wrong checksum; `disconnect` cuts the line."""

    def __init__(
        self,
        core: Core,
        faults: FaultPlan | None = None,
        name: str = "VENUE",
        clients: Iterable[str] = ("CLIENT",),
        password: str = "",
        timing: Callable[[], float] = time.time,
        max_latency: float = 120.0,
        beat: float = 1.0,
    ):
        self.core, self.faults = core, faults or FaultPlan()
        unknown = set(self.faults.rates) | set(self.faults.script) | set(self.faults.at.values())
        if unknown - {"ok", "drop_request", "drop_answer"}:
            raise ValueError(f"faults that a FIX line cannot have: {sorted(unknown)}")
        self.name, self.password, self.timing = name, password, timing
        self.max_latency, self.beat = max_latency, beat
        self.sessions = {one: Session(one) for one in clients}
        self.heard: list[Message] = []
        self.lose_next = self.garble_next = 0
        self.executions = 0

    @contextlib.contextmanager
    def serve(self, port: int = 0) -> Iterator[tuple[str, int]]:
        self.threads = Loop()
        stop = self.core.subscribe(lambda line, order: self.threads.call(self._on_event, line, order))
        try:
            server = self.threads.run(asyncio.start_server(self._connected, "127.0.0.1", port))
            self.address = server.sockets[0].getsockname()[:2]
            yield self.address
        finally:
            stop()
            self.threads.call(server.close)
            self.threads.close()
            for session in self.sessions.values():
                session.line = None

    def disconnect(self) -> None:
        """Cut every line, without a Logout."""
        for session in self.sessions.values():
            if session.line:
                self.threads.call(session.line.close)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(self, reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await line.run()
        line.close()

    def send(self, session: Session, type: str, fields: Fields) -> None:
        """Number, remember and send a message; it is kept for a resend when nobody is there."""
        seq, stamp = session.next_out, moment(self.timing())
        session.next_out += 1
        session.sent[seq] = (type, fields, stamp)
        if session.line is None:
            return
        if self.lose_next and type not in ADMIN:
            self.lose_next -= 1
            return
        raw = encode(self._head(session, type, seq, stamp) + fields)
        if self.garble_next and type not in ADMIN:
            self.garble_next -= 1
            raw = raw[:-4] + f"{(int(raw[-4:-1]) + 1) % 256:03d}".encode() + SOH
        session.line.write(raw)

    def _head(self, session: Session, type: str, seq: int, stamp: str, first: str = "") -> Fields:
        head = [(35, type), (34, str(seq)), (49, self.name), (52, stamp), (56, session.client)]
        return head + ([(43, "Y"), (122, first)] if first else [])

    def resend(self, session: Session, begin: int, end: int) -> None:
        """Send again what was sent; runs of administrative messages become one GapFill."""
        last = session.next_out - 1
        end = last if end == 0 else min(end, last)
        gap = None
        for seq in range(begin, end + 1):
            type, fields, first = session.sent[seq]
            if type in ADMIN and type != "3":
                gap = gap or seq
                continue
            if gap:
                self._gap_fill(session, gap, seq)
                gap = None
            self._again(session, type, seq, fields, first)
        if gap:
            self._gap_fill(session, gap, end + 1)

    def _gap_fill(self, session: Session, seq: int, following: int) -> None:
        self._again(session, "4", seq, [(36, str(following)), (123, "Y")], moment(self.timing()))

    def _again(self, session: Session, type: str, seq: int, fields: Fields, first: str) -> None:
        session.line.write(encode(self._head(session, type, seq, moment(self.timing()), first) + fields))

    # --- orders

    def application(self, session: Session, message: Message) -> None:
        handlers = {"D": self._new_order, "F": self._cancel, "H": self._status}
        handler = handlers.get(message.type)
        if handler is None:
            self.business_reject(session, message, "3", "Unsupported Message Type")
        else:
            handler(session, message)

    def business_reject(self, session: Session, message: Message, reason: str, text: str) -> None:
        fields = [(45, str(message.seq)), (372, message.type), (380, reason), (58, text)]
        self.send(session, "j", fields)

    def _new_order(self, session: Session, message: Message) -> None:
        name = message.get(11)
        known = session.client_ids.get(name)
        if known and message.get(97) == "Y":
            return self._report(session, self.core.order(known), "I", client_id=name) if known != "-" else None
        if message.get(40) == "2" and not message.has(44):
            return self.business_reject(session, message, "5", "Price (44) is missing")
        try:
            wanted = self._wanted(session, message)
            order = self.core.submit(check=lambda: self._look(session, name), **wanted)
        except Refused as why:
            return self._refuse(session, message, why)
        session.client_ids[name] = order.id
        return None

    def _wanted(self, session: Session, message: Message) -> dict:
        try:
            qty = number(message.get(38))
            limit = number(message.get(44)) if message.has(44) else None
        except InvalidOperation:
            raise Refused("quantity", "not a number") from None
        side, type = SIDES.get(message.get(54)), {"1": "market", "2": "limit"}.get(message.get(40))
        tif = TIMES.get(message.get(59, "0"))
        if qty <= 0:
            raise Refused("quantity", "OrderQty must be positive")
        if not side or not type or not tif:
            raise Refused("unsupported", "Side, OrdType or TimeInForce is not supported")
        return dict(symbol=message.get(55), side=side, qty=qty, type=type, tif=tif, limit=limit,
                    client_id=message.get(11), fix=session.client, side_code=message.get(54))  # fmt: skip

    def _look(self, session: Session, name: str) -> None:
        if name in session.client_ids:
            raise Refused("duplicate", f"ClOrdID {name} was used before")

    def _refuse(self, session: Session, message: Message, why: Refused) -> None:
        code = "11" if why.reason == "unsupported" else REJECTS.get(why.reason, "99")
        if why.reason != "duplicate":
            session.client_ids[message.get(11)] = "-"
        self.send(session, "8", [
            (37, "NONE"), (11, message.get(11)), (17, self._execution_id()), (150, "8"), (39, "8"), (103, code),
            (55, message.get(55)), (54, message.get(54)), (38, message.get(38)), (40, message.get(40)), (151, "0"),
            (14, "0"), (6, "0"), (60, moment(self.timing())), (58, why.text),
        ])  # fmt: skip

    def _execution_id(self) -> str:
        self.executions += 1
        return f"X{self.executions}"

    def _own(self, session: Session, name: str) -> Order | None:
        known = session.client_ids.get(name, "-")
        return self.core.order(known) if known != "-" else None

    def _cancel(self, session: Session, message: Message) -> None:
        name, original = message.get(11), message.get(41)
        order = self._own(session, original)
        if name in session.client_ids:
            return self._cancel_reject(session, message, order, "6")
        if order is None:
            return self._cancel_reject(session, message, None, "1")
        before = session.cancels.get(order.id)
        session.cancels[order.id] = (name, original)
        try:
            session.client_ids[name] = order.id
            self.core.cancel(order.id)
        except Refused as why:
            session.cancels.pop(order.id)
            if before:
                session.cancels[order.id] = before
            reason = "3" if why.reason == "pending" else "0"
            self.threads.call(self._cancel_reject, session, message, order, reason)
        return None

    def _cancel_reject(self, session: Session, message: Message, order: Order | None, reason: str) -> None:
        self.send(session, "9", [
            (37, order.id if order else "NONE"), (11, message.get(11)), (41, message.get(41)),
            (39, STATUS[order.status] if order else "8"), (434, "1"), (102, reason),
            (60, moment(self.timing())),
        ])  # fmt: skip

    def _status(self, session: Session, message: Message) -> None:
        order = self._own(session, message.get(11))
        if order is not None:
            return self._report(session, order, "I", client_id=message.get(11))
        return self.send(session, "8", [
            (37, "NONE"), (11, message.get(11)), (17, "0"), (150, "I"), (39, "8"), (103, "5"), (55, message.get(55)),
            (54, message.get(54)), (151, "0"), (14, "0"), (6, "0"), (58, "Unknown order"),
        ])  # fmt: skip

    def _on_event(self, line: dict, order: Order) -> None:
        session = self.sessions.get(order.extra.get("fix", ""))
        kind = EXEC.get(line["event"])
        if session is None or kind is None:
            return
        if line["event"] == "accepted" and order.status == "accepted":
            kind = "A"
        self._report(session, order, kind, line)

    def _report(self, session: Session, order: Order, kind: str, line: dict | None = None, client_id: str = ""):
        asked = session.cancels.get(order.id) if kind in ("4", "6") else None
        names = [(11, asked[0]), (41, asked[1])] if asked else [(11, client_id or order.client_id)]
        left = order.left if order.open else ZERO
        fields = [(37, order.id), *names, (17, self._execution(kind, line)), (150, kind), (39, STATUS[order.status]),
                  (55, order.symbol), (54, order.extra["side_code"]), (38, f"{order.qty:f}"),
                  (40, "1" if order.type == "market" else "2")]  # fmt: skip
        if order.limit is not None:
            fields.append((44, f"{order.limit:f}"))
        if kind == "F":
            fields += [(32, f"{line['fill_qty']:f}"), (31, f"{line['price']:f}")]
        if kind == "8":
            fields += [(103, "99"), (58, order.reason)]
        average = round(order.average or ZERO, 8)
        fields += [(151, f"{left:f}"), (14, f"{order.filled:f}"), (6, f"{average:f}"), (60, moment(self.timing()))]
        self.send(session, "8", fields)

    def _execution(self, kind: str, line: dict | None) -> str:
        if kind == "I":
            return "0"
        return (line or {}).get("execution_id") or self._execution_id()


class Line:
    """One connection."""

    def __init__(self, venue: FixVenue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.venue, self.reader, self.writer = venue, reader, writer
        self.session: Session | None = None
        self.open = True
        self.interval = 30.0
        self.last_in = self.last_out = time.monotonic()
        self.tested = False
        self.watch: asyncio.Task | None = None

    def write(self, raw: bytes) -> None:
        self.last_out = time.monotonic()
        if self.open:
            self.writer.write(raw)

    def close(self) -> None:
        if self.session and self.session.line is self:
            self.session.line = None
        self.open = False
        if self.watch:
            self.watch.cancel()
        self.writer.close()

    async def run(self) -> None:
        buffer = b""
        while self.open:
            chunk = await self.reader.read(65536)
            if not chunk:
                return
            self.last_in, self.tested = time.monotonic(), False
            messages, buffer = split(buffer + chunk)
            for message in messages:
                if self.open and message is not None:
                    self._hear(message)

    def _hear(self, message: Message) -> None:
        if self.session is None:
            return self._logon(message)
        kind = "ok" if message.type in ADMIN else self.venue.faults.decide("FIX", "/" + message.type)
        if kind == "drop_request":
            return self.close()
        self.venue.heard.append(message)
        try:
            self._check(message)
            self._in_order(message)
        except Bad as why:
            self._reject(message, why)
        if kind == "drop_answer":
            self.close()
        return None

    # --- the session

    def _logon(self, message: Message) -> None:
        client, venue = self.venue.sessions.get(message.get(49)), self.venue
        right = message.type == "A" and message.get(8) == BEGIN and message.get(56) == venue.name
        numbers = all(message.get(tag).isdigit() for tag in (34, 108))
        if not (client and right and numbers and message.get(98) == "0") or client.line is not None:
            return self.close()
        with contextlib.suppress(Bad):
            if abs(venue.timing() - unix(message.get(52))) > venue.max_latency:
                return self.close()
        self.session, client.line = client, self
        venue.heard.append(message)
        if venue.password and message.get(554) != venue.password:
            return self._logout("wrong password")
        return self._welcome(message)

    def _welcome(self, message: Message) -> None:
        session, resets = self.session, message.get(141) == "Y"
        if resets:
            session.reset()
        if message.seq < session.next_in and message.get(43) != "Y":
            return self._too_low(message.seq)
        self.interval = int(message.get(108)) * self.venue.beat
        answer = [(98, "0"), (108, message.get(108))] + ([(141, "Y")] if resets else [])
        self.venue.send(session, "A", answer)
        session.asked = False
        if message.seq > session.next_in:
            self._ask_again()
        elif message.seq == session.next_in:
            session.next_in += 1
        if self.interval:
            self.watch = asyncio.ensure_future(self._beat())
        return None

    async def _beat(self) -> None:
        while self.open:
            await asyncio.sleep(self.interval / 10)
            now = time.monotonic()
            if now - self.last_out >= self.interval:
                self.venue.send(self.session, "0", [])
            silent = now - self.last_in
            if silent >= 2.4 * self.interval and self.tested:
                return self._logout("no answer to a TestRequest")
            if silent >= 1.2 * self.interval and not self.tested:
                self.tested = True
                self.venue.send(self.session, "1", [(112, "TEST")])

    def _check(self, message: Message) -> None:
        """What the session layer looks at before anything else."""
        if message.get(8) != BEGIN:
            return self._logout("Incorrect BeginString")
        self._check_form(message)
        if not self.open:
            return None
        if (message.get(49), message.get(56)) != (self.session.client, self.venue.name):
            raise Bad(9, ends=True)
        sent = unix(message.get(52))
        if abs(self.venue.timing() - sent) > self.venue.max_latency:
            raise Bad(10, ends=True)
        if message.get(43) == "Y" and message.type != "4":
            if not message.has(122):
                raise Bad(1, 122)
            if unix(message.get(122)) > sent:
                raise Bad(10, ends=True)
        return None

    def _check_form(self, message: Message) -> None:
        if not message.get(34).isdigit():
            return self._logout("Required tag missing: 34")
        seen = set()
        for tag, value in message.fields:
            if not tag.isdigit() or tag == "0":
                raise Bad(0, int(tag) if tag.lstrip("-").isdigit() else None)
            if not value:
                raise Bad(4, int(tag))
            if tag in seen:
                raise Bad(13, int(tag))
            seen.add(tag)
        if message.type not in NEEDS and message.type not in ADMIN + OTHER_TYPES and len(message.type) != 2:
            raise Bad(11)
        for tag in (49, 52, 56, *NEEDS.get(message.type, ())):
            if str(tag) not in seen:
                raise Bad(1, tag)
        return None

    def _in_order(self, message: Message) -> None:
        session = self.session
        if not self.open:
            return None
        if message.type == "4" and message.get(123) != "Y":
            return self._sequence_reset(message)
        if message.seq < session.next_in:
            return None if message.get(43) == "Y" else self._too_low(message.seq)
        if message.seq > session.next_in:
            session.early[message.seq] = message
            if message.type == "2":
                self.venue.resend(session, int(message.get(7)), int(message.get(16)))
            return None if session.asked else self._ask_again()
        self._take(message)
        while self.open and session.next_in in session.early:
            waiting = session.early.pop(session.next_in)
            self._take(waiting, early=True)
        return None

    def _take(self, message: Message, early: bool = False) -> None:
        session = self.session
        if message.type == "4":
            return self._sequence_reset(message)
        session.next_in += 1
        if not any(seq >= session.next_in for seq in session.early):
            session.asked = False
        if message.type in ADMIN:
            return self._administer(message, early)
        return self.venue.application(session, message)

    def _administer(self, message: Message, early: bool) -> None:
        venue, session = self.venue, self.session
        if message.type == "1":
            venue.send(session, "0", [(112, message.get(112))])
        elif message.type == "2" and not early:
            venue.resend(session, int(message.get(7)), int(message.get(16)))
        elif message.type == "5":
            venue.send(session, "5", [])
            self.close()

    def _sequence_reset(self, message: Message) -> None:
        """A reset takes the new number as it is; a GapFill counts as the messages that it stands for."""
        session, new = self.session, int(message.get(36))
        if new < session.next_in or (new == session.next_in and message.get(123) == "Y"):
            if message.get(123) == "Y":
                session.next_in += 1
            raise Bad(5, 36)
        session.next_in = new
        session.early = {seq: one for seq, one in session.early.items() if seq >= new}
        session.asked = False

    def _ask_again(self) -> None:
        self.session.asked = True
        self.venue.send(self.session, "2", [(7, str(self.session.next_in)), (16, "0")])

    def _too_low(self, seq: int) -> None:
        self._logout(f"MsgSeqNum too low, expecting {self.session.next_in} but received {seq}")

    def _logout(self, text: str) -> None:
        self.venue.send(self.session, "5", [(58, text)] if text else [])
        self.close()

    def _reject(self, message: Message, why: Bad) -> None:
        session = self.session
        if message.type != "4" and message.get(34).isdigit() and message.seq == session.next_in:
            session.next_in += 1
        fields = [(45, message.get(34)), (372, message.type), (373, str(why.reason)), (58, TEXTS[why.reason])]
        if why.tag is not None:
            fields.insert(1, (371, str(why.tag)))
        self.venue.send(session, "3", fields)
        if why.ends:
            self._logout("")
