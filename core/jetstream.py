"""NATS JetStream: the streams that Sluice declares, and what a stream says of itself.

Every stream is a work queue (a message stays until a collector confirms it), on disk, and rejects new messages
when it is full: what was accepted is never thrown out to make room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from core.errors import SluiceError
from core.events.subjects import COLLECTED, REJECTED, stream_of, stream_subjects
from core.frames import receive_frames
from core.health import Readiness
from core.nats_login import login, public_nkey
from core.settings import Settings

log = structlog.get_logger()

MICROSECOND = timedelta(microseconds=1)
# Longer than a publish is ever tried again (GATEWAY_PUBLISH_TIMEOUT_SECONDS, 15 by default).
DUPLICATE_WINDOW_SECONDS = 120
TELL_AGAIN_SECONDS = 10.0
# err_codes of a publish that finds no room: the stream is at its limit; server or account are out of storage.
NO_ROOM = frozenset({10077, 10023, 10047})
# What a stream that stands may have as it likes: it changes neither what is taken, kept and confirmed nor when.
FREE = frozenset({"allow_direct", "compression", "description", "metadata", "placement"})
# The server's values for a setting that is off, or a limit that there is not.
OFF: tuple[Any, ...] = (None, False, 0, -1, "none", "default", {}, [])


class StreamState(msgspec.Struct):
    """What JetStream tells of a stream's content; instants are the server's."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: datetime


class StreamLimits(msgspec.Struct):
    """What a stream may hold; -1: no limit."""

    max_bytes: int


class StreamInfo(msgspec.Struct):
    """One answer to a stream info request, with the server's own instant of it (nats-py drops `ts`).

    The server takes `ts` after it has read the state. Measured while messages came in: 72 % of answers bear an instant
    later than that of a message which their state does not hold, by up to 24 ms.
    """

    created: datetime
    ts: datetime
    config: StreamLimits
    state: StreamState

    def stored_until(self, earlier: datetime) -> datetime:
        """The instant up to which everything published has been confirmed by a collector.

        In a work queue the first message is the oldest one that is not confirmed. Where there is none, it is
        `earlier`: the server's instant of an answer that came before this one was asked for.
        """
        # The server counts nanoseconds, and msgspec rounds them: up, perhaps, past the message.
        return self.state.first_ts - MICROSECOND if self.state.messages else earlier


class StreamMissing(SluiceError):
    """The stream does not exist, or JetStream did not answer."""


_decode_info = msgspec.json.Decoder(StreamInfo).decode


async def connect(where: Settings | str, *, name: str, readiness: Readiness | None = None, **options: Any) -> Client:
    """Connect and stay connected: reconnects for ever, and says so in the log and as the need "nats" of `readiness`.

    `where` is the settings NATS_*, or a URL alone. Raises Misconfigured where they are wrong.
    """
    settings = Settings(nats_url=where) if isinstance(where, str) else where
    servers, proof, encrypted = login(settings)

    async def lost() -> None:
        if not client.is_closed:
            log.warning("NATS connection lost")
            if readiness is not None:
                readiness.set_not_ready("nats", "connection lost")

    async def back() -> None:
        log.info("NATS connection back")
        if readiness is not None:
            readiness.set_ready("nats")

    told, told_at = "", 0.0

    async def failed(error: Exception) -> None:
        # While a server is away each attempt fails, five times a second: the same error is told now and then.
        nonlocal told, told_at
        if (text := repr(error)) != told or time.monotonic() - told_at > TELL_AGAIN_SECONDS:
            told, told_at = text, time.monotonic()
            log.warning("NATS error", error=text)

    client = Client()
    client._public_nkey = public_nkey(settings)  # nats-py 2.16.0 sets it only with `nkeys`, which has no wheel
    if not servers[0].startswith(("ws://", "wss://")):
        receive_frames(client, encrypted=encrypted)
    await client.connect(
        servers=servers,
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; a fraction is fine
        connect_timeout=5,
        ping_interval=5,
        max_outstanding_pings=2,
        disconnected_cb=lost,
        reconnected_cb=back,
        error_cb=failed,
        **{**proof, **options},
    )
    return client


def declared(settings: Settings) -> list[StreamConfig]:
    """The streams as they have to be."""
    return [
        StreamConfig(
            name=stream_of(collected),
            subjects=stream_subjects(collected),
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_msgs=-1,
            max_bytes=settings.rejected_stream_max_bytes if collected == REJECTED else settings.stream_max_bytes,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
            num_replicas=settings.stream_replicas,
        )
        for collected in COLLECTED
    ]


async def ensure_streams(client: Client, settings: Settings) -> dict[str, list[str]]:
    """Make the streams that are missing. What differs in one that stands is told, never changed.

    The drift by stream: {"REJECTED": ["max_bytes is 1, declared 2"]}.
    """
    js = client.jetstream()
    drift: dict[str, list[str]] = {}
    for wanted in declared(settings):
        name = str(wanted.name)
        try:
            found = await stream_config(client, name)
        except nats.js.errors.NotFoundError:
            await js.add_stream(wanted)
            log.info("stream made", stream=name, max_bytes=wanted.max_bytes)
            continue
        if differing := differences(wanted, found):
            drift[name] = differing
            log.warning("stream settings drift", stream=name, drift=differing)
    return drift


async def ensure_streams_when_up(client: Client, settings: Settings) -> dict[str, list[str]]:
    """As `ensure_streams`, but wait for a JetStream that is still starting."""
    while True:
        try:
            return await ensure_streams(client, settings)
        except (nats.errors.Error, nats.js.errors.ServiceUnavailableError, TimeoutError) as error:
            log.info("waiting for JetStream", error=repr(error))
        await asyncio.sleep(0.5)


def differences(wanted: StreamConfig, found: Mapping[str, Any]) -> list[str]:
    """What a stream has otherwise than declared, a sentence each; also what the declaration does not name.

    `found` is all that the server tells. A setting that neither we nor nats-py know may void what we promise: by
    `persist_mode: async` a message is confirmed before it is on disk.
    """
    return unlike(wanted, found, FREE)


def unlike(wanted: StreamConfig | ConsumerConfig, found: Mapping[str, Any], free: Set[str]) -> list[str]:
    """What the server's settings have otherwise than a declaration, a sentence each; those in `free` may differ."""
    declaration: dict[str, Any] = msgspec.to_builtins(wanted.as_dict())
    return [
        f"{key} is {found.get(key)}, " + (f"declared {declaration[key]}" if key in declaration else "not declared")
        for key in dict.fromkeys((*declaration, *found))
        if key not in free and _set(found.get(key)) != _set(declaration.get(key))
    ]


def _set(value: Any) -> Any:
    return None if value in OFF else value


async def stream_config(client: Client, stream: str, timeout_seconds: float = 5.0) -> dict[str, Any]:
    """A stream's settings as the server tells them, all of them. Raises NotFoundError, and what nats-py raises."""
    config: dict[str, Any] = (await ask(client, f"STREAM.INFO.{stream}", timeout_seconds=timeout_seconds))["config"]
    return config


async def ask(client: Client, subject: str, content: Any = None, timeout_seconds: float = 5.0) -> dict[str, Any]:
    """A request to JetStream's API as it is, past nats-py's types, which drop what they do not know.

    Raises APIError (NotFoundError), and what nats-py raises.
    """
    body = b"" if content is None else msgspec.json.encode(content)
    reply = await client.request(f"$JS.API.{subject}", body, timeout=timeout_seconds)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        nats.js.errors.APIError.from_error(answer["error"])
    return answer


async def stream_info(client: Client, stream: str, timeout_seconds: float = 2.0) -> StreamInfo:
    """What JetStream says of a stream now. Raises StreamMissing."""
    try:
        answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=timeout_seconds)
        return _decode_info(answer.data)
    except (nats.errors.Error, msgspec.ValidationError, TimeoutError) as error:
        raise StreamMissing(f"{stream}: {error!r}") from error
