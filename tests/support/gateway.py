"""A gateway of the test's own, as a program on the test's NATS: HTTP in, what its streams hold out.

async with start_gateway(fresh_nats, GATEWAY_WORKERS="1") as gateway:
    answer = await gateway.post([facebook()])
    (message,) = await gateway.published("facebook")

The fixture `gateway` is one that all tests of a file share, with empty streams; see tests/conftest.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import httpx
import psutil
from nats.aio.client import Client

from core import jetstream
from core.events import wire
from core.events.subjects import REJECTED, stream_of
from core.sources import SOURCES
from ops.local import Program, Supervisor
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok
from tests.support.events import Event, encoded
from tests.support.processes import ROOT
from tests.support.stack import FreshNats
from tests.support.waiting import eventually

JSON = {"content-type": "application/json"}
ARGV = [sys.executable, "-m", "gateway"]
# Streams of this size fit many times into a test's disk.
SETTINGS = {"GATEWAY_WORKERS": "1", "STREAM_MAX_BYTES": str(1 << 30), "REJECTED_STREAM_MAX_BYTES": str(1 << 28)}


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
    """A running gateway. `client` is the test's own connection to its NATS."""

    port: int
    nats: FreshNats
    client: Client
    http: httpx.AsyncClient

    @property
    def supervisor(self) -> Supervisor:
        """Runs its NATS and, unless it was started unsupervised, the gateway itself, as "gateway"."""
        return self.nats.supervisor

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
        """Everything that the stream of a source, or of `rejected`, holds now, in order."""
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

    async def empty(self) -> None:
        """Purge every stream."""
        for collected in (*SOURCES, REJECTED):
            await self.client.jetstream().purge_stream(stream_of(collected))

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

    def log(self) -> str:
        """What it has logged so far."""
        return (self.nats.folder / "gateway.log").read_text()

    async def until_ready(self) -> None:
        """Wait until it is ready."""
        await eventually(partial(answers_ok, self.port, "/health/ready"), what="the gateway is ready")

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
            argv=ARGV,
            env=_variables(nats, port, settings),
            is_ready=partial(answers_ok, port, page),
            drain_seconds=30,
        )
    )
    try:
        async with _requested(nats, port, connected=wait_ready) as gateway:
            yield gateway
    finally:
        await nats.supervisor.stop("gateway")


@asynccontextmanager
async def unsupervised_gateway(
    nats: FreshNats, port: int | None = None, **settings: str
) -> AsyncIterator[tuple[Process, Gateway]]:
    """A gateway as `start_gateway` makes it, ready; the test ends its process and sees its exit code."""
    port = port or free_port()
    process = await gateway_process(**_variables(nats, port, settings))
    try:
        async with _requested(nats, port) as gateway:
            await gateway.until_ready()
            yield process, gateway
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def gateway_process(**settings: str) -> Process:
    """A gateway with these settings beside our own environment, which may end at once; its standard error is a pipe."""
    return await asyncio.create_subprocess_exec(*ARGV, cwd=ROOT, env={**os.environ, **settings}, stderr=PIPE)


def _variables(nats: FreshNats, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    return {**SETTINGS, "NATS_URL": nats.url, "GATEWAY_PORT": str(port), **settings}


@asynccontextmanager
async def _requested(nats: FreshNats, port: int, *, connected: bool = True) -> AsyncIterator[Gateway]:
    """The gateway that runs on this port; where NATS may be away, without a connection to it."""
    client = await jetstream.connect(nats.url, name="tests") if connected else Client()
    try:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as http:
            yield Gateway(port, nats, client, http)
    finally:
        if connected:
            await client.close()
