"""Hold each event of a body to the contract: decode -> accepted blocks, rejected records.

    piece of a body --each event--> accepted --joined--> block of one source   (a line an event, ready to publish)
                              \\--> rejected  --encoded--> block of REJECTED

Invariant: the event loop runs at least once between two slices of this work, and all bodies take turns. What a
request brings decides how many slices it takes, not how long one is (`gateway.piece`, 128 KiB of valid events); but one
element is copied and hashed as a whole, however large it is: 64 MiB take some 0.1 s. What is kept of rejected events is
held by admission, as the body is, and so are the objects of a piece while it is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from core.events.contract import Contract, Invalid, Reason
from gateway import native
from gateway.admission import Reservation
from gateway.batch import Batch, Block
from gateway.body import Form
from gateway.piece import Rules
from gateway.rejection import Rejected, Rejection
from gateway.split import split

SMALL_BYTES: Final = 4096  # decoded without waiting for a turn: that would cost more
SMALLEST_EVENT_BYTES: Final = 256  # no valid event is shorter: see test_door_limits


class FairQueue:
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


class Decoder:
    """Reads bodies against the contract. most_events bounds the events of one body, valid or not.

    `reader` takes runs of valid events, if there is one; it changes nothing but what an event costs.
    """

    def __init__(self, contract: Contract, *, most_events: int, reader: native.Reader | None = None) -> None:
        self._contract = contract
        self._most_events = most_events
        self._reader = reader
        self._turns = FairQueue()

    async def __call__(self, content: bytes, form: Form, received: int, hold: Reservation) -> Batch:
        """Read all events of a body that arrived at `received` (microseconds since 2000).

        `hold` grows by what is kept of rejected events. Where there is no room for that, they are not kept.
        Raises Overloaded where there is none for what stands in a piece of the body.
        Raises Rejected where the body as a whole is none: not JSON, without an event, or with more of them than a body
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
            raise Rejected(Rejection.NO_EVENTS, "the body holds no event")
        if batch.reasons.get(Reason.MALFORMED) == batch.events:
            first = batch.told[0].detail
            raise Rejected(Rejection.NOT_JSON, f"the body is not JSON, nor is anything in it an event: {first}")
        return batch

    def _took_one(self, batch: Batch, content: bytes, received: int) -> bool:
        """Whether the body is one valid event and nothing else, the commonest of small ones: taken without ado."""
        if b"\n" in content or b"\r" in content or not content.endswith(b"}"):
            return False
        try:
            event = self._contract.read(content, received)
        except Invalid:
            return False
        batch.accept(event.source, Block(1, content))
        batch.events = 1
        return True

    def _slices(self, batch: Batch, content: bytes, form: Form, received: int, hold: Reservation) -> Iterator[None]:
        """The work on one body; pauses at the end of each slice."""
        rules, reader = Rules(self._contract, content, received), self._reader
        pieces = split(content, form, reader and (lambda content, at: reader(content, at, received)))
        for number, piece in enumerate(pieces):
            hold.grow(piece.object_bytes)
            if number:
                yield
            if batch.events + piece.events > self._most_events:
                raise Rejected(Rejection.TOO_MANY_EVENTS, f"a body holds at most {self._most_events} events")
            yield from piece.read_into(batch, rules)
            batch.events += piece.events
            hold.grow(-piece.object_bytes)
