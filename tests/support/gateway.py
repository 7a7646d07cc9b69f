"""A gateway of the test's own, as a program on the test's NATS: HTTP in, what its streams hold out.

async with start_gateway(fresh_nats, GATEWAY_WORKERS="1") as gateway:
    answer = await gateway.post([facebook()])
    (message,) = await gateway.published("facebook")
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import httpx
import psutil
from nats.aio.client import Client

from core import jetstream
from core.events import wire
from core.events.subjects import stream_of
from ops.local import Program, Supervisor
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok
from tests.support.events import Event, encoded
from tests.support.stack import FreshNats

JSON = {"content-type": "application/json"}
# Streams of this size fit many times into a test's disk.
SETTINGS = {"GATEWAY_WORKERS": "1", "STREAM_MAX_BYTES": str(1 << 30), "REFUSED_STREAM_MAX_BYTES": str(1 << 28)}


@dataclass(frozen=True)
class Message:
    """One message of a stream."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    size: int
    parts: Sequence[wire.Part]
    lines: Sequence[bytes]


@dataclass(frozen=True)
class Gateway:
    """A running gateway. It is "gateway" on `supervisor`; `client` is the test's own connection to its NATS."""

    port: int
    supervisor: Supervisor
    client: Client
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def post(self, events: Sequence[Event | bytes], **headers: str) -> httpx.Response:
        """POST these events as one array."""
        return await self.send(b"[" + b",".join(map(encoded, events)) + b"]", **headers)

    async def send(self, body: bytes, **headers: str) -> httpx.Response:
        """POST a body as it is. A header `content_type` is Content-Type."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(f"{self.url}/events", content=body, headers={**JSON, **named})

    async def published(self, collected: str) -> list[Message]:
        """Everything that the stream of a source, or of `refused`, holds now, in order."""
        stream = stream_of(collected)
        state = (await jetstream.stream_info(self.client, stream)).state
        read = self.client.jetstream().get_msg
        found = []
        for sequence in range(state.first_seq, state.last_seq + 1) if state.messages else ():
            stored = await read(stream, seq=sequence)
            assert stored.data is not None
            parts, lines = wire.decode(stored.data)
            headers = dict(stored.headers or {})
            found.append(Message(sequence, stored.subject or "", headers, len(stored.data), parts, lines))
        return found

    async def lines(self, collected: str) -> list[bytes]:
        """The events of all messages of a stream, in order."""
        return [line for message in await self.published(collected) for line in message.lines]

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, all workers together; 0 where it is not there."""
        text = (await self.http.get(f"{self.url}/metrics")).text
        for line in text.splitlines():
            if line.startswith((name + " ", name + "{")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                return float(line.rpartition(" ")[2])
        return 0.0

    def workers(self) -> list[psutil.Process]:
        """The worker processes that serve, oldest first; without the spare."""
        return workers_of(self.supervisor.pid("gateway"))


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of this gateway that listen, oldest first. The spare and dead ones do not."""
    return sorted(filter(_serves, psutil.Process(pid).children()), key=lambda child: child.pid)


def _serves(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(re.fullmatch("gateway-[0-9]+", process.name()) and process.status() != psutil.STATUS_ZOMBIE)
    return False


@asynccontextmanager
async def start_gateway(
    nats: FreshNats, port: int | None = None, *, wait_ready: bool = True, **settings: str
) -> AsyncIterator[Gateway]:
    """A gateway on this NATS with one worker, unless settings say otherwise; ready, or at least live."""
    port = port or free_port()
    page = "/health/ready" if wait_ready else "/health/live"
    await nats.supervisor.start(
        Program(
            name="gateway",
            argv=[sys.executable, "-m", "gateway"],
            env={**SETTINGS, "NATS_URL": nats.url, "GATEWAY_PORT": str(port), **settings},
            is_ready=partial(answers_ok, port, page),
            drain_seconds=30,
        )
    )
    client = await jetstream.connect(nats.url, name="tests") if wait_ready else Client()
    try:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as http:
            yield Gateway(port, nats.supervisor, client, http)
    finally:
        if wait_ready:
            await client.close()
        await nats.supervisor.stop("gateway")
