"""Hold each event of a body to the contract: decode -> accepted blocks, refused records.

    piece of a body --each event--> accepted --joined--> block of one source   (a line an event, ready to publish)
                              \\--> refused  --encoded--> block of REFUSED

Invariant: the event loop runs at least once between two slices of this work, and all bodies take turns. What a
request brings decides how many slices it takes, not how long one is (SLICE_SECONDS, 128 KiB of valid events); but one
element is copied and hashed as a whole, however large it is: 64 MiB take some 0.1 s. What is kept of refused events is
held by admission, as the body is, and so are the objects of a piece while it is read.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

import msgspec

from core.events import refused
from core.events.contract import Contract, Invalid, Reason
from core.events.subjects import SOURCES, Source
from core.events.violations import Violation, violations
from core.events.wire import one_line
from core.sources.fields import MAX_ID_BYTES
from gateway import native
from gateway.admission import Hold
from gateway.body import Form
from gateway.refusal import Refusal, Refused
from gateway.split import split

SLICE_SECONDS: Final = 0.005
SMALL_BYTES: Final = 4096  # decoded without waiting for a turn: that would cost more
TOLD_MOST: Final = 100  # refused events that the answer lists
OTHERS_MOST: Final = 100  # violations that the answer lists beside the first one of each of these events
KEPT_MOST: Final = 10_000  # refused events of one request that are kept, and their bytes
KEPT_MOST_BYTES: Final = 8 * 1024 * 1024
RECORD_BYTES: Final = 256  # what a kept one takes beside its bytes: objects, and places in queues
ELEMENT_BYTES: Final = 64  # what an element of a piece takes beside its bytes
SMALLEST_EVENT_BYTES: Final = 256  # no valid event is shorter: see test_door_limits


class Block(NamedTuple):
    """Events of one request that stand together: one a line, without a line break at the end."""

    events: int
    content: bytes


class Told(msgspec.Struct, rename="camel"):
    """One refused event as the answer lists it, with its first violation. path is a JSON path.

    index counts the body's events from 0. violations is how many violations the event has. others are those after the
    first, as far as the answer has room for them.
    """

    index: int
    event_id: str | None
    reason: Reason
    path: str
    detail: str
    allowed: str
    violations: int
    others: list[Violation]


Explain = Callable[[bytes, Invalid], list[Violation]]
"""Finds all violations of a refused event, the first one first."""


class Batch:
    """What became of a request's events: of each source or reason that there is among them, how many.

    `hold` is the room of the request. no_room says whether there was too little of it to keep all refused events.
    """

    __slots__ = (
        "_hold",
        "accepted",
        "blocks",
        "events",
        "kept",
        "kept_bytes",
        "kept_events",
        "no_room",
        "reasons",
        "told",
    )

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.events = 0
        self.accepted: dict[Source, int] = {}
        self.blocks: dict[Source, list[Block]] = {}
        self.reasons: dict[Reason, int] = defaultdict(int)
        self.told: list[Told] = []
        self.kept: dict[Source | None, list[Block]] = defaultdict(list)
        self.kept_events = 0
        self.kept_bytes = 0
        self.no_room = False

    def accept(self, source: Source, lines: list[bytes]) -> None:
        """These events are valid."""
        self.accepted[source] = self.accepted.get(source, 0) + len(lines)
        block = Block(len(lines), lines[0] if len(lines) == 1 else b"\n".join(lines))
        self.blocks.setdefault(source, []).append(block)

    def add(self, run: native.Run) -> None:
        """These events are valid, and joined already."""
        for source, (events, content) in zip(SOURCES, run.blocks, strict=True):
            if events:
                self.accepted[source] = self.accepted.get(source, 0) + events
                self.blocks.setdefault(source, []).append(Block(events, content))

    def refuse(self, index: int, raw: bytes, why: Invalid, explain: Explain) -> None:
        """This event breaks the contract: count it, list it among the first, keep it while there is room."""
        self.reasons[why.reason] += 1
        keep = not self.no_room and self.kept_events < KEPT_MOST and self.kept_bytes < KEPT_MOST_BYTES
        if not keep and len(self.told) >= TOLD_MOST:
            return
        record = refused.refused(raw, why)
        if len(self.told) < TOLD_MOST:
            event_id = record.event_id and record.event_id[:MAX_ID_BYTES]
            first, *others = explain(raw, why)
            left = OTHERS_MOST - sum(len(listed.others) for listed in self.told)
            listed = Told(
                index, event_id, why.reason, why.path, why.detail, first.allowed, 1 + len(others), others[:left]
            )
            self.told.append(listed)
        if keep:
            line = refused.encode(record)
            if not self._hold.spare(len(line) + RECORD_BYTES):
                self.no_room = True
                return
            self.kept[record.source].append(Block(1, line))
            self.kept_events += 1
            self.kept_bytes += len(line)

    @property
    def sources(self) -> set[Source]:
        """The sources of all events that would be published or kept."""
        return {source for source in SOURCES if source in self.blocks or source in self.kept}

    @property
    def accepted_events(self) -> int:
        return sum(self.accepted.values())

    @property
    def refused_events(self) -> int:
        return sum(self.reasons.values())


class Turns:
    """Gives out one turn in each run of the event loop, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._give)
        await turn

    def _give(self) -> None:
        turn = self._waiting[0]
        if not turn.done():  # else its request was cancelled
            turn.set_result(None)
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)


class Decode:
    """Reads bodies against the contract. most_events bounds the events of one body, valid or not.

    `reader` takes runs of valid events, if there is one; it changes nothing but what an event costs.
    """

    def __init__(self, contract: Contract, *, most_events: int, reader: native.Reader | None = None) -> None:
        self._contract = contract
        self._most_events = most_events
        self._reader = reader
        self._turns = Turns()

    async def __call__(self, content: bytes, form: Form, received: int, hold: Hold) -> Batch:
        """Read all events of a body that arrived at `received` (microseconds since 2000).

        `hold` grows by what is kept of refused events. Where there is no room for that, they are not kept.
        Raises Overloaded where there is none for what stands in a piece of the body.
        Raises Refused where the body as a whole is none: not JSON, without an event, or with more of them than a body
        of valid events can hold.
        """
        batch = Batch(hold)
        if len(content) <= SMALL_BYTES and content.startswith(b"{") and self._took_one(batch, content, received):
            return batch
        work = self._slices(batch, content, form, received, hold)
        wait = len(content) > SMALL_BYTES
        del content
        if wait:
            await self._turns.take()
        for _ in work:
            await self._turns.take()
        if not batch.events:
            raise Refused(Refusal.NO_EVENTS, "the body holds no event")
        if batch.reasons.get(Reason.MALFORMED) == batch.events:
            first = batch.told[0].detail
            raise Refused(Refusal.NOT_JSON, f"the body is not JSON, nor is anything in it an event: {first}")
        return batch

    def _took_one(self, batch: Batch, content: bytes, received: int) -> bool:
        """Whether the body is one valid event and nothing else, the commonest of small ones: taken without ado."""
        if b"\n" in content or b"\r" in content or not content.endswith(b"}"):
            return False
        try:
            event = self._contract.read(content, received)
        except Invalid:
            return False
        batch.accept(event.source, [content])
        batch.events = 1
        return True

    def _slices(self, batch: Batch, content: bytes, form: Form, received: int, hold: Hold) -> Iterator[None]:
        """The work on one body; pauses at the end of each slice."""
        read, reader = self._contract.read, self._reader
        explain = partial(violations, received_at=received, contract=self._contract)
        folded: bool | None = None
        pieces = split(content, form, reader and (lambda content, at: reader(content, at, received)))
        for number, piece in enumerate(pieces):
            piece_bytes = 0 if isinstance(piece, native.Run) else len(piece) * ELEMENT_BYTES
            hold.grow(piece_bytes)
            if number:
                yield
            events = piece.events if isinstance(piece, native.Run) else len(piece)
            if batch.events + events > self._most_events:
                raise Refused(Refusal.TOO_MANY_EVENTS, f"a body holds at most {self._most_events} events")
            if isinstance(piece, native.Run):
                batch.add(piece)
                batch.events += events
                continue
            if folded is None:  # looked up once, where it matters: else no event can hold a line break
                folded = b"\n" in content or b"\r" in content
            lines: dict[Source, list[bytes]] = {source: [] for source in SOURCES}
            until = time.perf_counter() + SLICE_SECONDS
            bad: bytes | None = None
            for index, raw in enumerate(piece, batch.events):
                if raw != bad:
                    try:
                        event = read(raw, received)
                    except Invalid as error:
                        error.__traceback__ = error.__context__ = None  # they hold on to this frame, and so to the body
                        bad, why = raw, error
                    else:
                        lines[event.source].append(one_line(raw) if folded else raw)
                        continue
                # One after the other of the same, such as nothing, are judged once.
                batch.refuse(index, raw, why, explain)
                if time.perf_counter() > until:  # valid events are bounded by their bytes, refused ones are not
                    yield
                    until = time.perf_counter() + SLICE_SECONDS
            batch.events += events
            for source, accepted in lines.items():
                if accepted:
                    batch.accept(source, accepted)
            hold.grow(-piece_bytes)
