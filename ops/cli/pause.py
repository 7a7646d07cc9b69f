"""Pause and resume a source, and wait until all accepted events are stored.

JetStream keeps a pause in the configuration of the consumer that all collectors of a source share. So a pause affects
every collector and survives restarts of collectors and of NATS. Collectors keep running and store the messages that
they fetched before. The gateway keeps accepting events, which wait in the stream. Deleting the consumer ends a pause.
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
from ops.cli.documents import SourceState
from ops.cli.output import progress

PAUSE_UNTIL: Final = "2300-01-01T00:00:00Z"  # JetStream counts the rest in nanoseconds, in 64 bits
POLL_SECONDS: Final = 0.1


async def consumer(client: Client, collected: str) -> ConsumerInfo:
    """Return the consumer of a source. Raises SluiceError if it does not exist."""
    try:
        info: ConsumerInfo = await client.jetstream().consumer_info(stream_of(collected), consumer_of(collected))
    except nats.js.errors.NotFoundError:
        raise SluiceError(
            f"{collected} has no consumer. A collector creates it: python -m collector --source {collected}"
        ) from None
    return info


async def pause(client: Client, collected: str) -> SourceState:
    """Stop fetching of a source until `resume`. Raises SluiceError if JetStream does not pause it."""
    was_paused = (await consumer(client, collected)).paused
    answer = await client.jetstream().pause_consumer(stream_of(collected), consumer_of(collected), PAUSE_UNTIL)
    if not answer.paused:
        raise SluiceError(f"{collected} is not paused: pausing a consumer requires NATS 2.11 or newer")
    return SourceState(collected, True, not was_paused, await _waiting(client, collected))


async def resume(client: Client, collected: str) -> SourceState:
    """Let the collectors of a source fetch again. Raises SluiceError if JetStream does not resume it."""
    was_paused = (await consumer(client, collected)).paused
    answer = await client.jetstream().resume_consumer(stream_of(collected), consumer_of(collected))
    if answer.paused:
        raise SluiceError(f"{collected} is still paused: run the command again")
    return SourceState(collected, False, bool(was_paused), await _waiting(client, collected))


async def _waiting(client: Client, collected: str) -> int:
    return (await stream_info(client, stream_of(collected))).state.messages


async def drain(client: Client, sources: tuple[str, ...], seconds: float) -> bool:
    """Wait until all events that are accepted now are stored; return False after the time-out.

    Raises SluiceError for a paused source with waiting messages, because they would never be stored.
    """
    targets: dict[str, int] = {}
    for collected in sources:
        info = await stream_info(client, stream_of(collected))
        if not info.state.messages:
            continue
        if (await consumer(client, collected)).paused:
            raise SluiceError(f"{collected} is paused and has waiting events: run `sluice resume {collected}`")
        targets[collected] = info.state.last_seq
    return await until_confirmed(client, targets, seconds)


async def until_confirmed(
    client: Client, targets: dict[str, int], seconds: float, stop: asyncio.Event | None = None
) -> bool:
    """Wait until each stream holds no message up to its target number; return False after the time-out or a stop."""
    deadline = time.monotonic() + seconds
    remaining = await _remaining(client, targets)
    if not (total := sum(remaining.values())):
        return True
    with progress("storing", total) as advance:
        while waiting := sum(remaining.values()):
            advance(total - waiting, ", ".join(f"{source} {count:,}" for source, count in remaining.items() if count))
            if time.monotonic() > deadline or (stop is not None and stop.is_set()):
                return False
            await asyncio.sleep(POLL_SECONDS)
            remaining = await _remaining(client, targets)
        advance(total)
    return True


async def _remaining(client: Client, targets: dict[str, int]) -> dict[str, int]:
    """Return an upper bound of the messages that each stream holds up to its target number.

    The first message of a work queue is its oldest.
    """
    remaining = {}
    for collected, last in targets.items():
        state = (await stream_info(client, stream_of(collected))).state
        remaining[collected] = min(state.messages, max(0, last - state.first_seq + 1)) if state.messages else 0
    return remaining
