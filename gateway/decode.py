"""Validate each event of a body: accepted events go to blocks, rejected events to records.

    piece of a body --each event--> accepted --joined--> block of one source   (one event a line, ready to publish)
                              \\--> rejected  --encoded--> block for REJECTED

Invariant: the event loop runs between two slices of this work, and all bodies share it fairly. A large body takes more
slices, not longer ones (`gateway.piece`, 128 KiB of valid events). Exception: one element is copied and hashed as a
whole; 64 MiB take some 0.1 s. Rejected events and the objects of a piece are charged to admission.
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
from gateway.body import BodyFormat
from gateway.piece import Rules
from gateway.rejection import Rejected, Rejection
from gateway.split import split

SMALL_BYTES: Final = 4096  # decoded at once, because waiting for a turn would cost more
SMALLEST_EVENT_BYTES: Final = 256  # no valid event is shorter: see test_batch_reader_limits


class FairQueue:
    """Grant one turn in each iteration of the event loop, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait_turn(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._grant_turn)
        await turn

    def _grant_turn(self) -> None:
        turn = self._waiting[0]
        if not turn.done():  # otherwise its request was cancelled
            turn.set_result(None)
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._grant_turn)


class Decoder:
    """Decode bodies. max_events limits the events of one body, valid or not.

    `reader`, if given, reads runs of valid events. It changes the cost of an event, never the result.
    """

    def __init__(self, contract: Contract, *, max_events: int, reader: native.Reader | None = None) -> None:
        self._contract = contract
        self._max_events = max_events
        self._reader = reader
        self._turns = FairQueue()

    async def __call__(self, content: bytes, body_format: BodyFormat, received: int, reservation: Reservation) -> Batch:
        """Decode all events of a body that arrived at `received` (microseconds since 2000).

        `reservation` grows by the rejected events that are kept. If the limit is reached, they are not kept. Raises
        Overloaded if the limit leaves no room for the objects of a piece. Raises Rejected if the body as a whole is
        invalid: not JSON, no event, or more events than a body of valid events can contain.
        """
        batch = Batch(reservation)
        if len(content) <= SMALL_BYTES and content.startswith(b"{") and self._accept_single(batch, content, received):
            return batch
        work = self._slices(batch, content, body_format, received, reservation)
        wait = len(content) > SMALL_BYTES
        del content
        if wait:
            await self._turns.wait_turn()
        for _ in work:
            await self._turns.wait_turn()
        if not batch.events:
            raise Rejected(Rejection.NO_EVENTS, "the body contains no event")
        if batch.reasons.get(Reason.MALFORMED) == batch.events:
            first = batch.errors[0].detail
            raise Rejected(Rejection.NOT_JSON, f"the body is not JSON and contains no event: {first}")
        return batch

    def _accept_single(self, batch: Batch, content: bytes, received: int) -> bool:
        """Accept a body that is exactly one valid event, the most frequent small body. Return whether it was."""
        if b"\n" in content or b"\r" in content or not content.endswith(b"}"):
            return False
        try:
            event = self._contract.read(content, received)
        except Invalid:
            return False
        batch.accept(event.source, Block(1, content))
        batch.events = 1
        return True

    def _slices(
        self, batch: Batch, content: bytes, body_format: BodyFormat, received: int, reservation: Reservation
    ) -> Iterator[None]:
        """Decode one body. Yield at the end of each slice of work."""
        rules, reader = Rules(self._contract, content, received), self._reader
        pieces = split(content, body_format, reader and (lambda content, at: reader(content, at, received)))
        for number, piece in enumerate(pieces):
            reservation.grow(piece.object_bytes)
            if number:
                yield
            if batch.events + piece.events > self._max_events:
                raise Rejected(Rejection.TOO_MANY_EVENTS, f"a body has at most {self._max_events} events")
            yield from piece.read_into(batch, rules)
            batch.events += piece.events
            reservation.grow(-piece.object_bytes)
