"""One worker: Robyn in front, the parts of the gateway behind. `gateway.routes` says what is answered.

    spare --slot--> connecting to NATS, not ready -> serving --told to stop--> not ready, still serving -> rejecting
                                                       -> nothing in flight -> not listening -> exit 0

What runs beside the requests (the link to JetStream, the metrics) runs as long as the worker. Where it fails the worker
stops likewise, with exit code 1, and its parent starts another.

Robyn's Server is used as it is, without the application class on top: that one parses the command line, asks about
ports, wraps handlers (20-40 µs a request) and never ends on SIGTERM. `python -m gateway` starts workers and keeps
them running; a worker ends when its standard input does, so it does not outlive its parent. Before that, it reads the
number of its slot there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from core import logs, tracing
from core.lifecycle import collect_garbage_rarely
from core.periodic import Step, periodically
from core.settings import load
from gateway.admission import Admission
from gateway.link import Link
from gateway.publish import Publisher
from gateway.receive import IngestHandler
from gateway.robyn_api import FunctionInfo, HttpMethod, Server, SocketHeld
from gateway.routes import Route, Routes, measure
from gateway.settings import GatewaySettings
from gateway.signature import Signatures

ANNOUNCE_SECONDS: Final = 0.5  # not ready, still serving: load balancers look away
# Robyn's network thread asks for the interpreter many times a request, and waits this long each time while the loop is
# at work. Measured beside 21 MB bodies: a health check took 142 ms (p99) with the default of 5 ms, 32 ms with this.
SWITCH_SECONDS: Final = 0.0005
MEASURE_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 0.15  # nothing in flight: Robyn's threads write the last answers

log = structlog.get_logger()


class Worker:
    """One Robyn process: its event loop runs the door, its network threads are Robyn's own."""

    def __init__(self, settings: GatewaySettings, slot: int) -> None:
        self._settings = settings
        self._slot = slot
        publisher = Publisher()
        signatures = Signatures(settings)
        self._admission = Admission(settings.gateway_max_in_flight_bytes // settings.gateway_workers)
        self._link = Link(settings, publisher)
        self._handler = IngestHandler(settings, self._admission, signatures, publisher)
        self._routes = Routes(self._handler, self._admission, signatures, self._link)
        self._held = SocketHeld(settings.gateway_host, settings.gateway_port)
        self._listener = _listening()
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Serve until told to stop. The exit code: 0 where nothing failed and nothing was left in flight."""
        server = Server()
        for method, path, handler in self.routes():
            server.add_route(getattr(HttpMethod, method), path, FunctionInfo(handler, True, 1, {}, {}), False)
        server.add_startup_handler(FunctionInfo(self._start, True, 0, {}, {}))
        server.start(self._held, 1)  # type: ignore[call-arg]  # runs the event loop until that is stopped
        return self._exit_code

    def routes(self) -> Iterable[Route]:
        """Return the routes of this worker."""
        return self._routes

    async def _start(self) -> None:
        """Robyn calls this on the event loop before it takes requests."""
        if self._settings.gateway_cpu_pinning == "auto":
            _pin(self._settings.gateway_cpu_pinning_offset + self._slot)
        loop = asyncio.get_running_loop()
        if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
            loop.add_reader(0, self._stop)  # our parent writes no more: it has closed the pipe, or ended
        # For whoever signals a worker itself. Robyn's server, which starts next, acts on these signals too: it closes
        # connections at once, and requests on their way to us are cut off.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._run_in_background(self._link.keep())
        self._run_in_background(periodically(Step("metrics"), self._measure, MEASURE_SECONDS))
        sys.setswitchinterval(SWITCH_SECONDS)
        collect_garbage_rarely()
        log.info(
            "worker started",
            slot=self._slot,
            pid=os.getpid(),
            port=self._settings.gateway_port,
            reader=self._handler.reader,
        )

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A worker that lacks one of its tasks is of no use: the next one may fare better."""
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("worker failed", slot=self._slot, exc_info=error)
            self._exit_code = 1
            self._stop()

    async def _measure(self) -> None:
        """Bring the metrics up to date: setting them with each request would cost it a third of its time."""
        measure(self._admission)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            loop = asyncio.get_running_loop()
            self._run_in_background(self._drain()).add_done_callback(lambda _: loop.stop())

    async def _drain(self) -> None:
        """Finish what is in flight, then stop the loop. Requests that come meanwhile are answered 503."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            loop.remove_reader(0)
        until = loop.time() + self._settings.gateway_drain_seconds
        self._link.set_not_ready("serving", "draining")
        log.info("worker draining", slot=self._slot, in_flight=self._admission.requests)
        await asyncio.sleep(min(ANNOUNCE_SECONDS, self._settings.gateway_drain_seconds / 4))
        self._handler.draining = True
        quiet = loop.time()
        while loop.time() < min(quiet + QUIET_SECONDS, until):
            await asyncio.sleep(0.01)
            if self._admission.requests:
                quiet = loop.time()
        # It accepts no more on purpose: actix would log that as an error.
        logging.getLogger("actix_server.accept").disabled = True
        # Not before: while the listener is shut, Robyn may keep the answer of a request that was in flight.
        self._listener.shutdown(socket.SHUT_RD)
        await asyncio.sleep(QUIET_SECONDS)
        if left := self._admission.requests:
            log.error("requests were left without an answer", slot=self._slot, requests=left)
            self._exit_code = 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._link.close(), 1)
        await tracing.flush(min(tracing.FLUSH_SECONDS, until - loop.time()))
        measure(self._admission)
        log.info("worker drained", slot=self._slot)


def _listening() -> socket.socket:
    """The socket of this process that listens: Robyn keeps it to itself."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket, or closed since
            found = socket.socket(fileno=os.dup(int(path.name)))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return found
            found.close()
    raise RuntimeError("Robyn opened no listening socket")


def _pin(number: int) -> None:
    """Keep the calling thread on one of the cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def main() -> int:
    """Wait for the number of a slot on the standard input, then run a worker. 0 if the input ends first."""
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level)
    tracing.start("gateway", settings)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Robyn makes a loop of its own,
    asyncio.set_event_loop(asyncio.new_event_loop())  # and wants to find another before
    _call_this("gateway-spare")
    slot = os.read(0, 16)
    if not slot:
        return 0
    worker = Worker(settings, int(slot))
    _call_this(f"gateway-{int(slot)}")
    return worker.run()


def _call_this(name: str) -> None:
    """Give this process a name for ps and top, of at most 15 characters."""
    Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    # Robyn's threads live on, and would abort in an interpreter that is being taken down.
    os._exit(main())
