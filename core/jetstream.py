"""NATS JetStream: declared streams, their creation, their drift and their state.

Every stream is a work queue on disk: a message stays until a collector acknowledges it. A full stream rejects new
messages, so an accepted event is never deleted to make room.
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
from core.events import wire
from core.events.subjects import COLLECTED, EVENTS_HEADER, REJECTED, events_subject, stream_of, stream_subjects
from core.frames import receive_frames
from core.health import Readiness
from core.nats_login import login, public_nkey
from core.settings import Settings
from core.sources import SourceName

log = structlog.get_logger()

MICROSECOND = timedelta(microseconds=1)
# Longer than any publish is retried (GATEWAY_PUBLISH_TIMEOUT_SECONDS, 15 by default).
DUPLICATE_WINDOW_SECONDS = 120
LOG_AGAIN_SECONDS = 10.0
MARKER = wire.encode([], [])
MARKER_TIMEOUT_SECONDS = 2.0
# A NATS host that vanished is left within these times, far below the 30 s in which all services have to work again.
CONNECT_TIMEOUT_SECONDS = 1  # for each server, if there are several
ONLY_SERVER_TIMEOUT_SECONDS = 5
PING_SECONDS = 2
QUORUM_EVERY_SECONDS = 1.0
QUORUM_FAILURES = 3  # in turn, before another server is tried
QUORUM_MAX_FAILURES = 24  # the same if other servers have no quorum either
# err_codes of a publish without room: the stream is at its limit; the server or the account is out of storage.
NO_ROOM = frozenset({10077, 10023, 10047})
# Settings of an existing stream that may differ: they change neither what is stored and acknowledged nor when.
IGNORED_SETTINGS = frozenset({"allow_direct", "compression", "description", "metadata", "placement"})
# The server's values for an unset setting or limit.
UNSET: tuple[Any, ...] = (None, False, 0, -1, "none", "default", {}, [])


class StreamState(msgspec.Struct):
    """The content of a stream; instants are the server's."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: datetime


class StreamLimits(msgspec.Struct):
    """The limits of a stream (-1 means no limit) and the number of its copies."""

    max_bytes: int
    num_replicas: int = 1


class StreamInfo(msgspec.Struct):
    """The reply to a stream info request, with the server's time of the reply (nats-py drops `ts`).

    The server sets `ts` after it has read the state. Measured while messages arrived: in 72 % of the replies, `ts` was
    later than a message that the state did not include, by up to 24 ms.
    """

    created: datetime
    ts: datetime
    config: StreamLimits
    state: StreamState

    def stored_until(self, earlier: datetime) -> datetime:
        """Return the instant up to which every published message has been acknowledged by a collector.

        In a work queue the first message is the oldest unacknowledged one. If there is none, return `earlier`: the
        server's time of a reply that arrived before this request was sent.
        """
        # The server's nanoseconds are rounded by msgspec, perhaps up, to after the message.
        return self.state.first_ts - MICROSECOND if self.state.messages else earlier


class StreamMissing(SluiceError):
    """The stream does not exist, or JetStream did not answer."""


_decode_info = msgspec.json.Decoder(StreamInfo).decode


async def publish_marker(client: Client, source: SourceName) -> int:
    """Publish a message without events to a source's stream. Return its sequence. Raises StreamMissing.

    If the stream has several copies, the PubAck needs a quorum. Every state with this sequence includes all messages
    that were accepted before.
    """
    headers = {EVENTS_HEADER: "0"}
    try:
        ack = await client.jetstream().publish(
            events_subject(source), MARKER, timeout=MARKER_TIMEOUT_SECONDS, headers=headers
        )
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise StreamMissing(f"{stream_of(source)}: no quorum confirms a marker: {error!r}") from error
    return int(ack.seq)


async def connect(where: Settings | str, *, name: str, readiness: Readiness | None = None, **options: Any) -> Client:
    """Connect and stay connected: reconnect without limit; log it and update the need "nats" of `readiness`.

    `where` is the settings NATS_* or a URL. Raises Misconfigured if they are invalid.
    """
    settings = Settings(nats_url=where) if isinstance(where, str) else where
    servers, credentials, encrypted = login(settings)

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("NATS connection lost")
            if readiness is not None:
                readiness.set_not_ready("nats", "connection lost")

    async def on_reconnect() -> None:
        log.info("NATS connection restored")
        if readiness is not None:
            readiness.set_ready("nats")

    logged, logged_at = "", 0.0

    async def on_error(error: Exception) -> None:
        # While a server is down, five attempts a second fail: log the same error only every LOG_AGAIN_SECONDS.
        nonlocal logged, logged_at
        if (text := repr(error)) != logged or time.monotonic() - logged_at > LOG_AGAIN_SECONDS:
            logged, logged_at = text, time.monotonic()
            log.warning("NATS error", error=text)

    watching: list[asyncio.Task[None]] = []

    async def on_close() -> None:
        for task in watching:
            task.cancel()

    client = Client()
    client._public_nkey = public_nkey(settings)  # nats-py 2.16.0 sets it only with `nkeys`, which has no wheel
    if not servers[0].startswith(("ws://", "wss://")):
        receive_frames(client, encrypted=encrypted)
    await client.connect(
        servers=servers,
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; a fraction is fine
        connect_timeout=CONNECT_TIMEOUT_SECONDS if len(servers) > 1 else ONLY_SERVER_TIMEOUT_SECONDS,
        ping_interval=PING_SECONDS,
        max_outstanding_pings=2,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        error_cb=on_error,
        closed_cb=on_close,
        **{**credentials, **options},
    )
    if len(servers) > 1:
        watching.append(asyncio.create_task(_leave_without_quorum(client)))
    return client


async def _leave_without_quorum(client: Client) -> None:
    """Connect to another server whenever the present one has lost the quorum of JetStream.

    A server that is cut off from the others keeps its clients, and would never again acknowledge a message of theirs.
    """
    limit, failures = QUORUM_FAILURES, 0
    while True:
        await asyncio.sleep(QUORUM_EVERY_SECONDS)
        if not client.is_connected:
            failures = 0
            continue
        try:
            # Only the leader of all servers answers, or a server that knows no leader, with an error.
            await api_request(client, "INFO", timeout_seconds=QUORUM_EVERY_SECONDS)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
            failures += 1
        else:
            limit, failures = QUORUM_FAILURES, 0
        if failures >= limit and client.is_connected:
            url = client.connected_url
            log.warning("NATS server without a quorum: connecting to another one", server=url.netloc if url else "")
            limit, failures = min(2 * limit, QUORUM_MAX_FAILURES), 0
            await client.force_reconnect()


def declared_streams(settings: Settings) -> list[StreamConfig]:
    """Return the declared streams."""
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
    """Create missing streams. If an existing stream differs from its declaration, log the drift and change nothing.

    Return the drift by stream: {"REJECTED": ["max_bytes is 1, declared 2"]}.
    """
    js = client.jetstream()
    drift: dict[str, list[str]] = {}
    for declared in declared_streams(settings):
        name = str(declared.name)
        try:
            actual = await stream_config(client, name)
        except nats.js.errors.NotFoundError:
            await js.add_stream(declared)
            log.info("stream created", stream=name, max_bytes=declared.max_bytes)
            continue
        if stream_problems := stream_drift(declared, actual):
            drift[name] = stream_problems
            log.warning("stream settings drift", stream=name, drift=stream_problems)
    return drift


async def ensure_streams_when_up(client: Client, settings: Settings) -> dict[str, list[str]]:
    """Call `ensure_streams`, and retry while JetStream is starting."""
    while True:
        try:
            return await ensure_streams(client, settings)
        except (nats.errors.Error, nats.js.errors.ServiceUnavailableError, TimeoutError) as error:
            log.info("waiting for JetStream", error=repr(error))
        await asyncio.sleep(0.5)


def stream_drift(declared: StreamConfig, actual: Mapping[str, Any]) -> list[str]:
    """Return how a stream differs from its declaration, one sentence each, including undeclared settings.

    `actual` is the server's whole configuration. An unknown setting may break a promise: with `persist_mode: async` a
    message is acknowledged before it is on disk.
    """
    return config_drift(declared, actual, IGNORED_SETTINGS)


def config_drift(declared: StreamConfig | ConsumerConfig, actual: Mapping[str, Any], ignored: Set[str]) -> list[str]:
    """Return how a configuration differs from its declaration, one sentence each. Settings in `ignored` may differ."""
    declaration: dict[str, Any] = msgspec.to_builtins(declared.as_dict())
    return [
        f"{key} is {actual.get(key)}, " + (f"declared {declaration[key]}" if key in declaration else "not declared")
        for key in dict.fromkeys((*declaration, *actual))
        if key not in ignored and _normalize(actual.get(key)) != _normalize(declaration.get(key))
    ]


def _normalize(value: Any) -> Any:
    return None if value in UNSET else value


async def stream_config(client: Client, stream: str, timeout_seconds: float = 5.0) -> dict[str, Any]:
    """Return a stream's whole configuration. Raises NotFoundError, and the errors of nats-py."""
    config: dict[str, Any] = (await api_request(client, f"STREAM.INFO.{stream}", timeout_seconds=timeout_seconds))[
        "config"
    ]
    return config


async def api_request(
    client: Client, subject: str, content: Any = None, timeout_seconds: float = 5.0
) -> dict[str, Any]:
    """Send a request to the JetStream API. nats-py's own types would drop unknown fields.

    Raises APIError (such as NotFoundError), and the errors of nats-py.
    """
    body = b"" if content is None else msgspec.json.encode(content)
    reply = await client.request(f"$JS.API.{subject}", body, timeout=timeout_seconds)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        nats.js.errors.APIError.from_error(answer["error"])
    return answer


async def stream_info(client: Client, stream: str, timeout_seconds: float = 2.0) -> StreamInfo:
    """Return the current state of a stream. Raises StreamMissing."""
    try:
        answer = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=timeout_seconds)
        return _decode_info(answer.data)
    except (nats.errors.Error, msgspec.ValidationError, TimeoutError) as error:
        raise StreamMissing(f"{stream}: {error!r}") from error
