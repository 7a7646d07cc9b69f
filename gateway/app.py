"""One worker process: Robyn's HTTP server in front of the gateway's own code.

    spare --slot--> connecting to NATS, not ready -> serving --stop--> not ready, still serving -> rejecting
                                                       -> nothing in flight -> not listening -> exit 0

The background tasks (the link to JetStream, the metrics) run as long as the worker. If one fails, the worker stops with
exit code 1 and its parent starts another.

Robyn's Server is used without Robyn's application class. That class parses the command line, asks about ports, wraps
handlers (20-40 µs a request) and does not end on SIGTERM. The parent (`gateway.workers`) starts the workers. A worker
reads its slot number from its standard input, and stops when that input closes.
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
from core.periodic import PeriodicTask, periodically
from core.settings import load
from gateway.admission import Admission
from gateway.link import Link
from gateway.publish import Publisher
from gateway.receive import IngestHandler
from gateway.robyn_api import FunctionInfo, HttpMethod, Server, SocketHeld
from gateway.routes import Route, Routes, measure
from gateway.settings import GatewaySettings
from gateway.signature import Signatures

ANNOUNCE_SECONDS: Final = 0.5  # not ready, still serving, so that load balancers stop sending
# Robyn's network thread takes the interpreter lock several times a request. While the event loop is busy it waits this
# long each time. With 21 MB bodies in flight, the p99 of a health check was 142 ms with the default of 5 ms, and 32 ms
# with this value.
SWITCH_SECONDS: Final = 0.0005
MEASURE_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 0.15  # with nothing in flight: Robyn's threads write the last responses

log = structlog.get_logger()


class Worker:
    """One Robyn process. Its event loop runs the ingest handler; Robyn has network threads of its own."""

    def __init__(self, settings: GatewaySettings, slot: int) -> None:
        self._settings = settings
        self._slot = slot
        publisher = Publisher()
        signatures = Signatures(settings)
        self._admission = Admission(settings.gateway_max_in_flight_bytes // settings.gateway_workers)
        self._link = Link(settings, publisher)
        self._handler = IngestHandler(settings, self._admission, signatures, publisher)
        self._routes = Routes(self._handler, self._admission, signatures, self._link)
        self._socket = SocketHeld(settings.gateway_host, settings.gateway_port)
        self._listener = _listening_socket()
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Serve until a stop. Return the exit code: 0 if nothing failed and no request was left in flight."""
        server = Server()
        for method, path, handler in self.routes():
            server.add_route(getattr(HttpMethod, method), path, FunctionInfo(handler, True, 1, {}, {}), False)
        server.add_startup_handler(FunctionInfo(self._start, True, 0, {}, {}))
        server.start(self._socket, 1)  # type: ignore[call-arg]  # runs the event loop until that is stopped
        return self._exit_code

    def routes(self) -> Iterable[Route]:
        """Return the routes of this worker."""
        return self._routes

    async def _start(self) -> None:
        """Start the background tasks. Robyn calls this on the event loop before it accepts requests."""
        if self._settings.gateway_cpu_pinning == "auto":
            _pin(self._settings.gateway_cpu_pinning_offset + self._slot)
        loop = asyncio.get_running_loop()
        if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
            loop.add_reader(0, self._stop)  # the parent closed the pipe or ended
        # For a signal sent to a worker directly. Robyn's server, which starts next, also handles these signals: it
        # closes connections at once and cuts off requests.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._run_in_background(self._link.run())
        self._run_in_background(periodically(PeriodicTask("metrics"), self._measure, MEASURE_SECONDS))
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
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Stop the worker if a background task failed; the parent starts another."""
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("worker failed", slot=self._slot, exc_info=error)
            self._exit_code = 1
            self._stop()

    async def _measure(self) -> None:
        """Update the metrics here, because updating them with each request would add a third to its cost."""
        measure(self._admission)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            loop = asyncio.get_running_loop()
            self._run_in_background(self._drain()).add_done_callback(lambda _: loop.stop())

    async def _drain(self) -> None:
        """Finish the requests in flight, then stop the loop. New requests get 503."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            loop.remove_reader(0)
        deadline = loop.time() + self._settings.gateway_drain_seconds
        self._link.set_not_ready("serving", "draining")
        log.info("worker draining", slot=self._slot, in_flight=self._admission.requests)
        await asyncio.sleep(min(ANNOUNCE_SECONDS, self._settings.gateway_drain_seconds / 4))
        self._handler.draining = True
        idle_since = loop.time()
        while loop.time() < min(idle_since + IDLE_SECONDS, deadline):
            await asyncio.sleep(0.01)
            if self._admission.requests:
                idle_since = loop.time()
        # The listener is shut down on purpose; actix would log that as an error.
        logging.getLogger("actix_server.accept").disabled = True
        # Only now: while the listener is shut down, Robyn may not send the response of a request in flight.
        self._listener.shutdown(socket.SHUT_RD)
        await asyncio.sleep(IDLE_SECONDS)
        if unanswered := self._admission.requests:
            log.error("requests left unanswered", slot=self._slot, requests=unanswered)
            self._exit_code = 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._link.close(), 1)
        await tracing.flush(min(tracing.FLUSH_SECONDS, deadline - loop.time()))
        measure(self._admission)
        log.info("worker drained", slot=self._slot)


def _listening_socket() -> socket.socket:
    """Return the listening socket of this process, which Robyn does not expose."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # not a socket, or closed meanwhile
            listener = socket.socket(fileno=os.dup(int(path.name)))
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return listener
            listener.close()
    raise RuntimeError("Robyn opened no listening socket")


def _pin(number: int) -> None:
    """Pin the calling thread to one of the cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def main() -> int:
    """Wait for a slot number on the standard input, then run a worker. Return 0 if the input ends first."""
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level)
    tracing.start("gateway", settings)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Robyn creates its own loop,
    asyncio.set_event_loop(asyncio.new_event_loop())  # and needs another one to exist before
    _set_process_name("gateway-spare")
    slot = os.read(0, 16)
    if not slot:
        return 0
    worker = Worker(settings, int(slot))
    _set_process_name(f"gateway-{int(slot)}")
    return worker.run()


def _set_process_name(name: str) -> None:
    """Set the process name for ps and top: at most 15 characters."""
    Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    # Robyn's threads still run and would abort while the interpreter shuts down.
    os._exit(main())
