"""An open-loop load generator: requests at a steady rate, even if earlier ones are not answered yet.

    python -m bench.flood http://127.0.0.1:8080/events --events 150 --per-second 100000 --seconds 120 --json flood.json

    prepared bodies --new event ids--> due one after the other --> an idle or a new connection --> timed

A real sender has its own machine. This one shares the gateway's machine, so it must use little CPU: one epoll instead
of an event loop, and prepared bodies (0.2 µs per event for new ids). It has a high CPU priority, so it is never late
and sends no bursts to catch up. A probe is a flood of few requests, each on a new connection.

Invariant: all events sent have different ids; at most one request per connection is in flight.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.closed_loop import READ_BYTES, is_complete, request
from bench.processes import raise_cpu_priority
from bench.publisher.bodies import Bodies
from bench.result import percentile

MAX_CONNECTIONS: Final = 4096
PREPARED_EVENTS: Final = 100_000  # 42 MB
IDLE_SECONDS: Final = 4.0  # the edge, and many servers, close connections that are idle for longer
ANSWER_TIMEOUT_SECONDS: Final = 60.0
PIECE_BYTES: Final = 1 << 20
_MARK: Final = b"\x01" * 12  # placeholder for the last digits of an event id; occurs nowhere else in a body
_ID_END: Final = re.compile(rb'("eventId":"[^"]*)[0-9a-f]{12}"')
_ACCEPTED: Final = re.compile(rb'"accepted":(\d+)')
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)


def prepare_bodies(events: int, seed: str = "flood") -> list[bytes]:
    """Return bodies of `events` events, with placeholders in the event ids. Another seed gives other ids."""
    bodies = Bodies(f"{seed}-{events}", corrupt_share=0)
    return [
        _ID_END.sub(rb"\g<1>" + _MARK + b'"', bodies.body(events).content)
        for _ in range(max(2, PREPARED_EVENTS // events))
    ]


def requests(host: str, port: int, templates: list[bytes]) -> Iterator[bytes]:
    """Yield requests without end, each with new event ids."""
    for number in count():
        yield request(host, port, templates[number % len(templates)].replace(_MARK, b"%012x" % number))


@dataclass(slots=True)
class Connection:
    """A connection with at most one request in flight. Its methods raise OSError if the connection fails."""

    socket: socket.socket
    left: memoryview | None = None
    answer: bytes = b""
    since: float = 0.0  # when the last byte was sent, or the last response read

    def send(self) -> bool:
        """Send as much as the socket accepts. Return whether bytes are left."""
        while self.left:
            try:
                self.left = self.left[self.socket.send(self.left[:PIECE_BYTES]) :]
            except BlockingIOError:
                return True
        self.left, self.since = None, time.perf_counter()
        return False

    def read(self) -> bytes | None:
        """Return the response if it is complete, otherwise None."""
        if not (read := self.socket.recv(READ_BYTES)):
            raise ConnectionResetError("the gateway closed the connection")
        self.answer += read
        if not is_complete(self.answer):
            return None
        answer, self.answer = self.answer, b""
        return answer


class Flood:
    """Sends `per_second` requests over at most `connections` connections. Counts responses by status, and events
    accepted.

    Latency is from the last byte sent to the last byte read. A connection idle for `idle_seconds` is closed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        templates: list[bytes],
        *,
        per_second: float = 1e9,
        connections: int = MAX_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._address = (host, port)
        self._requests = requests(host, port, templates)
        self._every_seconds = 1 / per_second
        self._max_connections = connections
        self._idle_seconds = idle_seconds
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self.seconds: dict[int, list[float]] = {}  # latency of each response, by status
        self.retry_after: Counter[int] = Counter()
        self.accepted = 0
        self.failed = 0

    def run(self, seconds: float) -> None:
        """Send for `seconds`, then wait for the last responses."""
        began = due = time.perf_counter()
        end = began + seconds
        while (now := time.perf_counter()) < end:
            while due <= now and self._begin(now):
                due += self._every_seconds
            self._poll_sockets(max(0.001, min(due - now, 0.1)))
        give_up = end + ANSWER_TIMEOUT_SECONDS
        while len(self._idle) < len(self._connections) and time.perf_counter() < give_up:
            self._poll_sockets(0.1)
        self.failed += len(self._connections) - len(self._idle)
        for number in list(self._connections):
            self._close(number)

    def _begin(self, now: float) -> bool:
        """Begin one more request. Return False if all connections are in use."""
        while self._idle:
            connection = self._idle.pop()
            if now - connection.since < self._idle_seconds:
                break
            self._close(connection.socket.fileno())
        else:
            if len(self._connections) >= self._max_connections:
                return False
            connection = Connection(socket.create_connection(self._address, timeout=ANSWER_TIMEOUT_SECONDS))
            connection.socket.setblocking(False)
            self._connections[connection.socket.fileno()] = connection
            self._poll.register(connection.socket, select.EPOLLIN)
        connection.left = memoryview(next(self._requests))
        self._send(connection)
        return True

    def _poll_sockets(self, seconds: float) -> None:
        for number, event in self._poll.poll(seconds):
            connection = self._connections[number]
            try:
                if event & select.EPOLLOUT:
                    self._send(connection)
                if event & ~select.EPOLLOUT and (answer := connection.read()) is not None:
                    self._record(connection, answer)
            except OSError:
                self.failed += connection not in self._idle
                self._close(number)

    def _send(self, connection: Connection) -> None:
        self._poll.modify(connection.socket, select.EPOLLIN | (select.EPOLLOUT if connection.send() else 0))

    def _record(self, connection: Connection, answer: bytes) -> None:
        now = time.perf_counter()
        self.seconds.setdefault(int(answer[9:12]), []).append(0.0 if connection.left else now - connection.since)
        if match := _ACCEPTED.search(answer):
            self.accepted += int(match[1])
        if match := _RETRY_AFTER.search(answer):
            self.retry_after[int(match[1])] += 1
        if connection.left:  # answered before the request was sent completely
            self._close(connection.socket.fileno())
        else:
            connection.since = now
            self._idle.append(connection)

    def _close(self, number: int) -> None:
        connection = self._connections.pop(number)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.socket.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__.partition("\n")[0])
    parser.add_argument("endpoint", help="URL to post to")
    parser.add_argument("--events", type=int, required=True, help="events per body")
    parser.add_argument(
        "--per-second", type=float, default=1e9, help="events per second (default: as fast as possible)"
    )
    parser.add_argument(
        "--connections", type=int, default=MAX_CONNECTIONS, help=f"maximum connections (default {MAX_CONNECTIONS})"
    )
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--probe", action="store_true", help="send each request on a new connection")
    parser.add_argument("--json", type=Path, required=True, help="file for the counts")
    options = parser.parse_args()
    url = urlsplit(options.endpoint)
    flood = Flood(
        url.hostname or "",
        url.port or 80,
        prepare_bodies(options.events, "probe" if options.probe else "flood"),
        per_second=options.per_second / options.events,
        connections=options.connections,
        idle_seconds=0 if options.probe else IDLE_SECONDS,
    )
    with contextlib.suppress(OSError):
        os.setsid()
    raise_cpu_priority(os.getpid())
    began_cpu = time.process_time()
    flood.run(options.seconds)
    rejected = flood.seconds.get(503, [])
    counts: dict[str, Any] = {
        "events_a_body": options.events,
        "events_per_second": round(sum(map(len, flood.seconds.values())) * options.events / options.seconds),
        "answered": {str(status): len(took) for status, took in sorted(flood.seconds.items())},
        "rejected_p50_ms": round(1000 * percentile(rejected, 50), 1),
        "rejected_p99_ms": round(1000 * percentile(rejected, 99), 1),
        "retry_after_seconds": {str(seconds): number for seconds, number in sorted(flood.retry_after.items())},
        "accepted": flood.accepted,
        "unanswered": flood.failed,
        "cpu_seconds": round(time.process_time() - began_cpu, 2),
    }
    options.json.write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
