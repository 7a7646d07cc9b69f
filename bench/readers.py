"""Concurrent readers of reports, each over its own connection, with the latencies of their responses.

Each latency is measured twice: by the reporter (its header Server-Timing, from request to response) and by the reader,
including the network. Readers use plain sockets: a client library would use more CPU than the reporter, on the same
cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

ANSWER_TIMEOUT_SECONDS: Final = 60.0
WARM_UP: Final = 2  # responses per reader that are not counted: they open connections and fill caches


class NotAnswered(Exception):
    """A report was not answered with status 200."""


class Overloaded(NotAnswered):
    """The reporter rejected the request: 503 or 504."""


@dataclass
class Latencies:
    """Latencies of responses in milliseconds, by the reporter's clock (server) and the readers' (client)."""

    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    rejected: int = 0  # 503 and 504
    seconds: float = 0.0

    def add(self, other: Latencies) -> None:
        """Add the latencies of another run."""
        self.server += other.server
        self.client += other.client
        self.rejected += other.rejected
        self.seconds += other.seconds

    def figures(self) -> dict[str, Any]:
        """Return p50 and p99 of both, the number of responses, and responses per second."""
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
    """Return the smallest value that `share` of all values do not exceed. Raises NotAnswered without any values."""
    if not values:
        raise NotAnswered("no report was answered in time: run longer, or on a machine with less load")
    ranked = sorted(values)
    return round(ranked[min(len(ranked) - 1, int(len(ranked) * share))], 2)


@dataclass(frozen=True)
class Query:
    """A report and its parameters."""

    report: str
    parameters: dict[str, str]

    @property
    def target(self) -> str:
        return f"/reports/{self.report}?{urlencode(self.parameters)}"


class Reader:
    """Requests reports over one connection."""

    def __init__(self, root: str) -> None:
        url = urlsplit(root)
        self._host, self._port = url.hostname or "127.0.0.1", url.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, query: Query) -> tuple[float, bytes]:
        """Return the reporter's own milliseconds, and the body. Raises NotAnswered."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(f"GET {query.target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
        code = status.split()[1]
        if code != "200":
            raise (Overloaded if code in ("503", "504") else NotAnswered)(f"{query.target}: {status} {body[:300]!r}")
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
) -> Latencies:
    """Request reports until `answers` responses, `seconds` or `stop`; each reader at most once per `every_seconds`.

    Raises NotAnswered.
    """
    latencies, left, began = Latencies(), answers, 0.0
    warm = asyncio.Barrier(readers)  # counting starts when all readers are warm

    async def run_reader(number: int) -> None:
        nonlocal left, began
        reader = Reader(root)
        try:
            for _ in range(WARM_UP):
                with suppress(Overloaded):
                    await reader.get(draw())
            await warm.wait()
            began = began or time.perf_counter()
            await asyncio.sleep(every_seconds * number / readers)
            while left > 0 and (started := time.perf_counter()) < began + seconds and not (stop and stop.is_set()):
                left -= 1
                try:
                    server, _ = await reader.get(draw())
                except Overloaded:
                    latencies.rejected += 1
                    continue
                took = time.perf_counter() - started
                latencies.client.append(took * 1000)
                latencies.server.append(server)
                advance()
                await asyncio.sleep(max(0.0, every_seconds - took))
        finally:
            reader.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(readers):
            tasks.create_task(run_reader(number))
    latencies.seconds = time.perf_counter() - began
    return latencies
