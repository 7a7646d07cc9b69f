"""Readers of reports: many at once, each over a connection of its own, with what each answer cost.

What an answer cost is told twice: by the reporter itself (its header Server-Timing, from the query to the answer), and
as the reader saw it, with the way there and back. Readers are plain sockets: a client library would cost more than the
reporter does, on the same cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

ANSWER_SECONDS: Final = 60.0
WARM_UP: Final = 2  # answers of each reader that are not counted: connections, plans, caches


class NotAnswered(Exception):
    """A report was not answered 200."""


class Busy(NotAnswered):
    """It was rejected for lack of room or time: 503 or 504."""


@dataclass
class Costs:
    """Milliseconds of answers: by the reporter's own clock, and by the readers'."""

    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    rejected: int = 0  # 503 and 504
    seconds: float = 0.0

    def add(self, other: Costs) -> None:
        """Count these too."""
        self.server += other.server
        self.client += other.client
        self.rejected += other.rejected
        self.seconds += other.seconds

    def figures(self) -> dict[str, Any]:
        """p50 and p99 of both, how many answers, and how many a second."""
        return {
            "p50_ms": quantile(self.server, 0.50),
            "p99_ms": quantile(self.server, 0.99),
            "client_p50_ms": quantile(self.client, 0.50),
            "client_p99_ms": quantile(self.client, 0.99),
            "answers": len(self.server),
            "rejected": self.rejected,
            "answers_per_second": round(len(self.server) / self.seconds, 1) if self.seconds else None,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed. Raises NotAnswered where there is none."""
    if not values:
        raise NotAnswered("no report was answered in time: give it more time, or a machine that does less")
    ranked = sorted(values)
    return round(ranked[min(len(ranked) - 1, int(len(ranked) * share))], 2)


@dataclass(frozen=True)
class Query:
    """A report and its parameters, as a reader asks."""

    report: str
    parameters: dict[str, str]

    @property
    def target(self) -> str:
        return f"/reports/{self.report}?{urlencode(self.parameters)}"


class Reader:
    """One connection, kept open."""

    def __init__(self, root: str) -> None:
        where = urlsplit(root)
        self._host, self._port = where.hostname or "127.0.0.1", where.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, query: Query) -> tuple[float, bytes]:
        """The reporter's own milliseconds, and the body. Raises NotAnswered."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(f"GET {query.target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
        code = status.split()[1]
        if code != "200":
            raise (Busy if code in ("503", "504") else NotAnswered)(f"{query.target}: {status} {body[:300]!r}")
        return float(headers["server-timing"].rpartition("dur=")[2]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read(
    root: str,
    draw: Callable[[], Query],
    *,
    readers: int,
    answers: int,
    seconds: float,
    every_seconds: float = 0.0,
    stop: asyncio.Event | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Costs:
    """Ask until so many answers are there, so many seconds are over, or a stop; each reader at most once in
    `every_seconds`.

    Raises NotAnswered.
    """
    costs, left, began = Costs(), answers, 0.0
    warm = asyncio.Barrier(readers)  # nobody's answers count before everybody is warm

    async def one(number: int) -> None:
        nonlocal left, began
        reader = Reader(root)
        try:
            for _ in range(WARM_UP):
                with suppress(Busy):
                    await reader.ask(draw())
            await warm.wait()
            began = began or time.perf_counter()
            await asyncio.sleep(every_seconds * number / readers)
            while left > 0 and (asked := time.perf_counter()) < began + seconds and not (stop and stop.is_set()):
                left -= 1
                try:
                    server, _ = await reader.ask(draw())
                except Busy:
                    costs.rejected += 1
                    continue
                took = time.perf_counter() - asked
                costs.client.append(took * 1000)
                costs.server.append(server)
                advance()
                await asyncio.sleep(max(0.0, every_seconds - took))
        finally:
            reader.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(readers):
            tasks.create_task(one(number))
    costs.seconds = time.perf_counter() - began
    return costs
