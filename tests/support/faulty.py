"""A whole system to break: its services reach both servers through proxies, and their named points can be armed.

    async with load(system) as sender:
        with system.armed("collector.merged", "kill") as fired:
            pid = await fired()                       the process that took it has ended
        await goes_on(system, sender)                 new events are accepted and stored by every collector
    await system.judge()

`system.to_nats` and `system.to_postgres` are the proxies: see tests/support/proxy.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Self

import structlog

from bench.publisher.bodies import Bodies
from bench.publisher.sender import Sender
from core import postgres
from core.events.subjects import COLLECTED, stream_of
from core.faults import FOLDER
from ops.local import Program, Servers
from ops.local.ports import free_port
from ops.local.ready import answers_ok
from ops.local.services import COLLECTORS
from tests.support.processes import ended, standing_still, stopped
from tests.support.proxy import Proxy
from tests.support.system import System
from tests.support.tally import Tally
from tests.support.waiting import eventually

LONG = os.environ.get("SLUICE_FAULTS") == "long"
WELL_AGAIN_SECONDS = 30.0
"""What is promised after any fault."""
EVENTS = 20
EVERY_SECONDS = 0.04  # 500 events a second: enough that every step is always taken
COLLECTOR_OF = {source: name for name, source in COLLECTORS.items()}

log = structlog.get_logger("tests")


def rounds(short: int, long: int) -> int:
    """How often a test repeats itself: in the short form, or with SLUICE_FAULTS=long."""
    return long if LONG else short


class ProxiedServers(Servers):
    """Both servers, reached by services through a proxy each. The reporter reads directly."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.to_nats = Proxy(self.nats.port)
        self.to_postgres = Proxy(self.postgres.port)
        await self.to_nats.listen()
        await self.to_postgres.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.to_nats.stop()
        await self.to_postgres.stop()
        await super().__aexit__(*exc)

    @property
    def nats_url(self) -> str:
        return self.nats.url.replace(str(self.nats.port), str(self.to_nats.port))

    @property
    def collector_dsn(self) -> str:
        return super().collector_dsn.replace(f":{self.postgres.port}/", f":{self.to_postgres.port}/")


class FaultySystem(System):
    """A system with proxies and named points."""

    servers_made_by = ProxiedServers

    def __init__(self, folder: Path, **settings: str) -> None:
        points = folder.with_name("points")
        points.mkdir()
        super().__init__(folder, {FOLDER: str(points), **settings})
        self._points = points
        self._also: list[str] = []

    @property
    def to_nats(self) -> Proxy:
        assert isinstance(self.servers, ProxiedServers)
        return self.servers.to_nats

    @property
    def to_postgres(self) -> Proxy:
        assert isinstance(self.servers, ProxiedServers)
        return self.servers.to_postgres

    @contextmanager
    def armed(self, point: str, how: str) -> Iterator[Callable[[], Awaitable[int]]]:
        """Arm a named point; what is given waits until it has fired and returns the pid of the process that took it,
        which with "kill" has ended and with "stop" stands still. Whatever did not fire is disarmed at the end."""
        armed = self._points / point
        new = armed.with_name(f"{point}.new")
        new.write_text(how)
        new.rename(armed)

        async def fired() -> int:
            taken = await eventually(lambda: self._taken(point), what=f"{point} fires", seconds=WELL_AGAIN_SECONDS)
            assert taken is not None
            taken.unlink()
            pid = int(taken.suffix[1:])
            match how:
                case "kill":
                    await ended(pid)
                case "stop":
                    await stopped(pid)
            return pid

        try:
            yield fired
        finally:
            armed.unlink(missing_ok=True)

    async def _taken(self, point: str) -> Path | None:
        return next(self._points.glob(f"{point}.[0-9]*"), None)

    async def also(self, name: str, module: str, *arguments: str, **settings: str) -> int:
        """Start one more service of this system; its port. `only_the_usual` ends it."""
        port = free_port()
        name = f"{name}-{port}"
        env = {
            **self._settings,
            "NATS_URL": self.servers.nats_url,
            "COLLECTOR_DSN": self.servers.collector_dsn,
            f"{module.upper()}_PORT": str(port),
            **settings,
        }
        argv = [sys.executable, "-m", module, *arguments]
        ready = partial(answers_ok, port, "/health/ready")
        await self.supervisor.start(Program(name=name, argv=argv, env=env, is_ready=ready, drain_seconds=25))
        self._also.append(name)
        return port

    async def only_the_usual(self) -> None:
        """End what was started beside the usual services, and let go of both lines."""
        for name in self._also:
            await self.supervisor.stop(name)
        self._also.clear()
        for line in (self.to_nats, self.to_postgres):
            line.release()
            line.delay_seconds = line.bytes_per_second = 0.0

    def frozen(self, name: str) -> AbstractAsyncContextManager[None]:
        """All processes of a service or server stand still meanwhile."""
        return standing_still(*self.supervisor.pids(name))

    async def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a program's process a signal that ends it; return when the supervisor has another one ready."""
        pid = self.supervisor.kill(name, number)
        await self.supervisor.wait_ready(name, after=pid, seconds=60)

    async def reconnected(self) -> None:
        """See that our own connection stands: PostgreSQL may have been away."""
        if self.connection.is_closed():
            self.connection = await postgres.connect(self.servers.reporter_dsn, name="tests")

    async def judge(self) -> None:
        """As any system's, and the tables that a restarted server has kept are read over a new connection."""
        await self.reconnected()
        await super().judge()

    async def stored(self) -> dict[str, int]:
        """Events stored so far, by stream."""
        await self.reconnected()
        rows = await self.select("SELECT stream, sum(stored)::bigint AS stored FROM receipts GROUP BY stream")
        return dict.fromkeys(map(stream_of, COLLECTED), 0) | {row["stream"]: row["stored"] for row in rows}


@asynccontextmanager
async def load(
    system: FaultySystem, *, events: int = EVENTS, stored: Sequence[str] = COLLECTED, **how: Any
) -> AsyncIterator[Sender]:
    """Small POSTs, many of them corrupt or with repeated events, until the end; then all answers are awaited.

    `stored` names whose events there are to store, `how` is for bench.publisher.bodies.Bodies.
    """
    bodies = Bodies(time.time(), **{"corrupt_share": 0.3, "duplicates": 0.05, **how})
    sender = Sender(
        system.services.endpoint, bodies, repeat(events), every_seconds=EVERY_SECONDS, on_answer=system.remember
    )
    sending = asyncio.create_task(sender.run())
    try:
        await goes_on(system, sender, stored=stored)
        yield sender
    finally:
        sender.stop()
        await sending


async def goes_on(
    system: FaultySystem, sender: Sender, tally: Tally | None = None, *, stored: Sequence[str] = COLLECTED
) -> None:
    """New events are accepted, and stored by the collectors of `stored`. `tally` gets how long that took."""
    began = time.monotonic()
    accepted = sender.tally.answered[202]
    before: dict[str, int] = {}

    async def more() -> bool:
        try:
            now = await system.stored()
        except Exception as error:  # the servers may still be away
            log.debug("cannot look yet", error=repr(error))
            return False
        names = [stream_of(collected) for collected in stored]
        more_stored = all(now[name] > before.setdefault(name, now[name]) for name in names)
        return more_stored and sender.tally.answered[202] > accepted

    await eventually(more, what="events are accepted and stored again", seconds=WELL_AGAIN_SECONDS, every=0.1)
    if tally is not None:
        tally.most(recovery_seconds_max=time.monotonic() - began)
