"""Keep the workers running: N processes that share one port, each restarted when it ends unasked.

    spare --slot--> serving --died--> pause: 0 s, then 0.05 s, doubling up to 5 s; 0 again after 10 s of life --> spare
       \\               \\--its standard input closes--> drains --> ended; not within GATEWAY_DRAIN_SECONDS: SIGKILL
        \\--the gateway ends: SIGKILL

A spare is a worker that has imported everything and waits for the number of its slot on its standard input. One is
always ready, because Robyn aborts its process on a body that actix cannot read (docs/workarounds.md).

Invariant: the port is ours from before the first worker to after the last. The parent binds it without listening, so
that it stays reserved while workers come and go, and so that another program's port is rejected instead of shared.
A worker ends when the pipe to its standard input closes: so it is told to stop, and so it does not outlive its parent,
however that ends. It is never told by a signal: Robyn's HTTP server has handlers of its own for those, which would
close connections under the requests that are on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from typing import Final

import structlog

from core import listen, logs
from core.backoff import backoff
from core.errors import Misconfigured
from core.lifecycle import run as run_service
from core.lifecycle import until
from core.metrics import fold_ended, record_build_info
from core.nats_login import login
from core.settings import load, warn_of_unknown
from gateway import metrics
from gateway.settings import GatewaySettings
from gateway.signature import Signatures
from gateway.stderr import relay, relayed

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 10.0
PORT_SECONDS: Final = 5.0  # workers of a parent that was killed need a moment to end
KILL_SECONDS: Final = 2.0  # past the drain that a worker bounds itself

ENVIRONMENT: Final = {
    "UV_USE_IO_URING": "0",  # costs more than it gives beside Robyn's own threads
    # Give bodies back at once, but keep pages for what is made of them. With 128 KiB for both, an event in bodies of
    # 10,000 cost 2 µs of faulting pages in, and 0.8 µs so; a worker keeps 16 MB more at rest, and its peak with three
    # bodies of 21 MB is 250 MB, not 210. Left to itself the allocator learns to keep whole bodies.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    "MALLOC_ARENA_MAX": "2",
}

log = structlog.get_logger()


def run() -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    run_service(_main)


async def _main(stop: asyncio.Event) -> None:
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level)
    warn_of_unknown(GatewaySettings)
    record_build_info()
    Signatures(settings)  # what is wrong with it is told once, not by each worker over and over
    login(settings)
    address = listen.resolve("GATEWAY_HOST", settings.gateway_host)
    with await _reserve(address, settings.gateway_port) as reserved:
        port = reserved.getsockname()[1]
        log.info("gateway starting", host=address, port=port, workers=settings.gateway_workers)
        spare = _Spare(address, port)
        slots = [_Slot(number, spare, settings.gateway_drain_seconds) for number in range(settings.gateway_workers)]
        await asyncio.gather(*(slot.keep(stop) for slot in slots))
        await spare.end()
        await relayed()
    log.info("gateway stopped", clean=all(slot.clean for slot in slots))
    if not all(slot.clean for slot in slots):
        sys.exit(1)


async def _reserve(address: str, port: int) -> socket.socket:
    """Bind the port, for workers to share. Raises Misconfigured where it is not to be had."""
    patience = time.monotonic() + PORT_SECONDS
    while True:
        try:
            if port:
                # Alone at first: with SO_REUSEPORT another gateway's port would be shared without a word.
                listen.bind(address, port, socket.SO_REUSEADDR).close()
            reserved = listen.bind(address, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
            break
        except OSError as error:
            if time.monotonic() > patience or error.errno != errno.EADDRINUSE:
                where = listen.host_and_port(address, port)
                raise Misconfigured(
                    f"GATEWAY_HOST, GATEWAY_PORT: cannot listen on {where}: {error.strerror}"
                ) from error
        await asyncio.sleep(FIRST_PAUSE_SECONDS)
    # Connections of an earlier run may still fade out, so it was bound with SO_REUSEADDR. It does not keep that: any
    # program that sets it, too, could listen on the port while no worker does.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


class _Spare:
    """The next worker, started before one is needed."""

    def __init__(self, address: str, port: int) -> None:
        # What the parent bound: Robyn takes no names, and port 0 would be another one for each worker.
        bound = {"GATEWAY_HOST": address, "GATEWAY_PORT": str(port), "GATEWAY_HOST_FILE": "", "GATEWAY_PORT_FILE": ""}
        self._environment = {**os.environ, **ENVIRONMENT, **bound}
        self._next: asyncio.Task[Process] | None = None

    async def take(self, slot: int) -> Process:
        """Return a worker that starts to serve as this slot, and start the next spare."""
        starting = self._next or asyncio.create_task(self._start())
        self._next = asyncio.create_task(self._start())
        worker = await starting
        assert worker.stdin is not None
        worker.stdin.write(b"%d\n" % slot)
        return worker

    async def end(self) -> None:
        """End the spare."""
        if self._next is not None:
            spare = await self._next
            with contextlib.suppress(ProcessLookupError):
                spare.kill()  # it holds nothing, and may be importing
            await spare.wait()

    async def _start(self) -> Process:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.app"),
            stdin=PIPE,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C in a terminal is for us alone
        )
        relay(worker)
        return worker


def _pauses() -> Iterator[float]:
    """Seconds before each restart: none before the first."""
    return itertools.chain([0.0], backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))


class _Slot:
    """One worker after the other. `clean` says whether the last one, told to stop, ended with 0."""

    def __init__(self, number: int, spare: _Spare, drain_seconds: float) -> None:
        self._number = number
        self._spare = spare
        self._drain_seconds = drain_seconds
        self.clean = False

    async def keep(self, stop: asyncio.Event) -> None:
        """Keep a worker running until `stop`, then drain it."""
        pauses = _pauses()
        while True:
            began = time.monotonic()
            worker = await self._spare.take(self._number)
            stopping = asyncio.ensure_future(stop.wait())
            ended = asyncio.ensure_future(worker.wait())
            await asyncio.wait((stopping, ended), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                self.clean = await self._drain(worker, ended) == 0
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pauses = _pauses()
            pause = next(pauses)
            self._fold_metrics(worker.pid)
            metrics.worker_restarts.inc()
            log.warning("worker died", slot=self._number, pid=worker.pid, code=worker.returncode, pause_seconds=pause)
            if await until(stop, pause):
                self.clean = True
                return

    def _fold_metrics(self, pid: int) -> None:
        try:
            fold_ended(pid)
        except OSError as error:
            log.warning("metrics of a dead worker not folded", slot=self._number, pid=pid, error=repr(error))

    async def _drain(self, worker: Process, ended: asyncio.Future[int]) -> int:
        """Stop a worker. Its exit code: 0 where it finished what was in flight."""
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            return await asyncio.wait_for(ended, self._drain_seconds + KILL_SECONDS)
        except TimeoutError:
            worker.kill()
            code = await worker.wait()
        log.error("worker did not end in time", slot=self._number, pid=worker.pid)
        return code
