"""Pause and resume a source, and wait until everything accepted is stored.

A pause is JetStream's own: it stands in the configuration of the consumer that all collectors of a source share. So it
holds for every collector at once, wherever it runs, and over the restart of any of them or of NATS. Collectors stay up
and finish what they hold; events go on being accepted and wait in the stream. Deleting the consumer ends a pause.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from core.errors import SluiceError
from core.events.subjects import consumer_of, stream_of
from core.jetstream import stream_info
from ops.cli.output import plural, progress

FOR_EVER: Final = "2300-01-01T00:00:00Z"  # within JetStream's range: it counts what remains in nanoseconds
LOOK_SECONDS: Final = 0.1


async def consumer(client: Client, collected: str) -> ConsumerInfo:
    """The consumer of a source's collectors. Raises SluiceError where there is none."""
    try:
        info: ConsumerInfo = await client.jetstream().consumer_info(stream_of(collected), consumer_of(collected))
    except nats.js.errors.NotFoundError:
        raise SluiceError(
            f"{collected} has no consumer: start a collector once (python -m collector --source {collected})"
        ) from None
    return info


async def pause(client: Client, collected: str) -> str:
    """Stop the fetching of a source's collectors until `resume`; a sentence that says what is so now.

    Raises SluiceError where JetStream does not say that it is paused.
    """
    was = (await consumer(client, collected)).paused
    answer = await client.jetstream().pause_consumer(stream_of(collected), consumer_of(collected), FOR_EVER)
    if not answer.paused:
        raise SluiceError(f"{collected} is not paused: NATS before 2.11 pauses no consumer")
    if was:
        return f"{collected} was paused already"
    return f"{collected} is paused: its events are accepted and wait; go on with: python -m ops resume {collected}"


async def resume(client: Client, collected: str) -> str:
    """Let a source's collectors fetch again; a sentence that says what is so now. Raises SluiceError likewise."""
    was = (await consumer(client, collected)).paused
    answer = await client.jetstream().resume_consumer(stream_of(collected), consumer_of(collected))
    if answer.paused:
        raise SluiceError(f"{collected} is still paused: run it again")
    waiting = (await stream_info(client, stream_of(collected))).state.messages
    return f"{collected} {'goes on' if was else 'was not paused'}: {plural(waiting, 'message')} waiting"


async def drain(client: Client, sources: tuple[str, ...], seconds: float) -> bool:
    """Wait until everything that is accepted by now is stored, at most so long; whether it is.

    What is accepted meanwhile is not waited for. Raises SluiceError for a source that is paused: it would never end.
    """
    targets: dict[str, int] = {}
    for collected in sources:
        info = await stream_info(client, stream_of(collected))
        if not info.state.messages:
            continue
        if (await consumer(client, collected)).paused:
            raise SluiceError(f"{collected} is paused and its events wait: python -m ops resume {collected}")
        targets[collected] = info.state.last_seq
    return await until_confirmed(client, targets, seconds)


async def until_confirmed(
    client: Client, targets: dict[str, int], seconds: float, stop: asyncio.Event | None = None
) -> bool:
    """Wait until each source's stream holds no message up to a number, at most so long or until a stop; whether so."""
    deadline = time.monotonic() + seconds
    left = await _left(client, targets)
    if not (total := sum(left.values())):
        return True
    with progress("storing", total) as advance:
        while waiting := sum(left.values()):
            advance(total - waiting, ", ".join(f"{source} {count:,}" for source, count in left.items() if count))
            if time.monotonic() > deadline or (stop is not None and stop.is_set()):
                return False
            await asyncio.sleep(LOOK_SECONDS)
            left = await _left(client, targets)
        advance(total)
    return True


async def _left(client: Client, targets: dict[str, int]) -> dict[str, int]:
    """How many messages up to its number each stream holds at most: in a work queue the first is the oldest."""
    left = {}
    for collected, last in targets.items():
        state = (await stream_info(client, stream_of(collected))).state
        left[collected] = min(state.messages, max(0, last - state.first_seq + 1)) if state.messages else 0
    return left
