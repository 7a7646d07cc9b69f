"""Run the worker processes: N processes that share one port, each restarted if it exits.

    spare --slot--> serving --exit--> pause: 0 s, then 0.05 s, doubling up to 5 s; 0 again after 10 s --> next spare
       \\               \\--its standard input closes--> drain --> exit; after GATEWAY_DRAIN_SECONDS: SIGKILL
        \\--the gateway stops: SIGKILL

A spare is a worker that has imported everything and waits for its slot number on its standard input. One spare is
always ready, because Robyn aborts its process on a body that actix cannot read (docs/workarounds.md).

Invariant: the port is bound from before the first worker starts until after the last one ends. The parent binds it
without listening: it stays reserved during restarts, and a port of another program is an error instead of shared. A
worker stops when the pipe to its standard input closes, so it never outlives its parent. The parent sends no signal,
because Robyn's HTTP server would close connections with requests in flight.
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
from core.lifecycle import stopped_within
from core.metrics import fold_ended, record_build_info
from core.nats_login import login
from core.settings import load, warn_of_unknown
from gateway import metrics
from gateway.settings import GatewaySettings
from gateway.signature import Signatures
from gateway.stderr import relay, relayed

FIRST_PAUSE_SECONDS: Final = 0.05
MAX_PAUSE_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 10.0
PORT_SECONDS: Final = 5.0  # workers of a killed parent need a moment to exit
KILL_SECONDS: Final = 2.0  # added to the drain time, which a worker limits itself

ENVIRONMENT: Final = {
    "UV_USE_IO_URING": "0",  # costs more than it saves beside Robyn's threads
    # Return large bodies to the system at once, but keep pages for smaller objects. Compared with 128 KiB for both, an
    # event in bodies of 10,000 costs 0.8 µs of page faults instead of 2 µs. An idle worker keeps 16 MB more; its peak
    # with three bodies of 21 MB is 250 MB instead of 210 MB. Without these settings the allocator keeps whole bodies.
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
    Signatures(settings)  # report a wrong setting once, before the workers start
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
    """Bind the port that the workers share. Raises Misconfigured if it cannot be bound."""
    patience = time.monotonic() + PORT_SECONDS
    while True:
        try:
            if port:
                # First without SO_REUSEPORT, which would silently share the port of another gateway.
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
    # SO_REUSEADDR is needed for connections of an earlier run that still close. It is removed again: otherwise another
    # program with this option could listen on the port while no worker does.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


class _Spare:
    """The next worker, started before it is needed."""

    def __init__(self, address: str, port: int) -> None:
        # The bound address: Robyn does not resolve names, and port 0 would give each worker another port.
        bound = {"GATEWAY_HOST": address, "GATEWAY_PORT": str(port), "GATEWAY_HOST_FILE": "", "GATEWAY_PORT_FILE": ""}
        self._environment = {**os.environ, **ENVIRONMENT, **bound}
        self._next: asyncio.Task[Process] | None = None

    async def take(self, slot: int) -> Process:
        """Return a worker that starts to serve this slot, and start the next spare."""
        starting = self._next or asyncio.create_task(self._start())
        self._next = asyncio.create_task(self._start())
        worker = await starting
        assert worker.stdin is not None
        worker.stdin.write(b"%d\n" % slot)
        return worker

    async def end(self) -> None:
        """Kill the spare."""
        if self._next is not None:
            spare = await self._next
            with contextlib.suppress(ProcessLookupError):
                spare.kill()  # it has no requests, and may still be importing
            await spare.wait()

    async def _start(self) -> Process:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.app"),
            stdin=PIPE,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent only
        )
        relay(worker)
        return worker


def _pauses() -> Iterator[float]:
    """Return the seconds before each restart, starting with 0."""
    return itertools.chain([0.0], backoff(FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS))


class _Slot:
    """One slot, filled by one worker after another. `clean` is true if the last one drained and exited with 0."""

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
            log.warning(
                "worker exited unexpectedly",
                slot=self._number,
                pid=worker.pid,
                code=worker.returncode,
                pause_seconds=pause,
            )
            if await stopped_within(stop, pause):
                self.clean = True
                return

    def _fold_metrics(self, pid: int) -> None:
        try:
            fold_ended(pid)
        except OSError as error:
            log.warning("worker metrics not folded", slot=self._number, pid=pid, error=repr(error))

    async def _drain(self, worker: Process, ended: asyncio.Future[int]) -> int:
        """Drain a worker. Return its exit code: 0 if it finished all requests."""
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            return await asyncio.wait_for(ended, self._drain_seconds + KILL_SECONDS)
        except TimeoutError:
            worker.kill()
            code = await worker.wait()
        log.error("worker killed", slot=self._number, pid=worker.pid)
        return code
