"""A flood: requests at a steady rate, whether or not earlier ones are answered, as cheap as Python can send them.

    python -m bench.flood http://127.0.0.1:8080/events --events 150 --per-second 100000 --seconds 120 --json flood.json

    bodies made before --new event ids--> due one after the other --> a line that is idle, or one more --> timed

A real sender has a machine of its own. This one shares the gateway's: it must take next to nothing of it (one epoll and
no event loop, bodies made before it begins: 0.2 µs an event for new ids) and must not wait for it: at a high priority
it is never late, and sends no bursts to make up for that. A probe is a flood of few requests, each on a new line.

Invariant: no two events that are sent have the same id; at most one request of a line is on its way.
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

from bench.busy import READ_BYTES, request, whole
from bench.processes import come_first
from bench.publisher.bodies import Bodies
from bench.result import percentile

MOST_LINES: Final = 4096
PREPARED_EVENTS: Final = 100_000  # 42 MB
IDLE_SECONDS: Final = 4.0  # the gateway's edge, and many servers, close what is idle for longer
ANSWER_SECONDS: Final = 60.0
PIECE_BYTES: Final = 1 << 20
_MARK: Final = b"\x01" * 12  # stands for the last digits of an event's id; nowhere else in a body
_ID_END: Final = re.compile(rb'("eventId":"[^"]*)[0-9a-f]{12}"')
_ACCEPTED: Final = re.compile(rb'"accepted":(\d+)')
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)


def prepared(events: int, seed: str = "flood") -> list[bytes]:
    """Bodies of so many events, whose ids want their last digits. Those of another seed have other ids."""
    bodies = Bodies(f"{seed}-{events}", corrupt_share=0)
    return [
        _ID_END.sub(rb"\g<1>" + _MARK + b'"', bodies.body(events).content)
        for _ in range(max(2, PREPARED_EVENTS // events))
    ]


def requests(host: str, port: int, templates: list[bytes]) -> Iterator[bytes]:
    """Requests without end, each with event ids of its own."""
    for number in count():
        yield request(host, port, templates[number % len(templates)].replace(_MARK, b"%012x" % number))


@dataclass(slots=True)
class Line:
    """A connection, and the one request that is on its way over it. Raises OSError where the other end is gone."""

    socket: socket.socket
    left: memoryview | None = None
    answer: bytes = b""
    since: float = 0.0  # sent its last byte, or was answered last

    def send(self) -> bool:
        """Send what fits; whether something is left."""
        while self.left:
            try:
                self.left = self.left[self.socket.send(self.left[:PIECE_BYTES]) :]
            except BlockingIOError:
                return True
        self.left, self.since = None, time.perf_counter()
        return False

    def read(self) -> bytes | None:
        """The answer, once all of it is there."""
        if not (read := self.socket.recv(READ_BYTES)):
            raise ConnectionResetError("the gateway closed the connection")
        self.answer += read
        if not whole(self.answer):
            return None
        answer, self.answer = self.answer, b""
        return answer


class Flood:
    """Sends `per_second` requests over at most `lines` connections; counts answers by status, and events accepted.

    Times each from the last byte sent to the last one read. A line is idle for `idle_seconds` at most, then closed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        templates: list[bytes],
        *,
        per_second: float = 1e9,
        lines: int = MOST_LINES,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._address = (host, port)
        self._requests = requests(host, port, templates)
        self._every_seconds = 1 / per_second
        self._most_lines = lines
        self._idle_seconds = idle_seconds
        self._poll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._idle: list[Line] = []
        self.seconds: dict[int, list[float]] = {}  # of each answer, by status
        self.retry_after: Counter[int] = Counter()
        self.accepted = 0
        self.failed = 0

    def run(self, seconds: float) -> None:
        """Send for so long, then wait for the last answers."""
        began = due = time.perf_counter()
        end = began + seconds
        while (now := time.perf_counter()) < end:
            while due <= now and self._begin(now):
                due += self._every_seconds
            self._look(max(0.001, min(due - now, 0.1)))
        give_up = end + ANSWER_SECONDS
        while len(self._idle) < len(self._lines) and time.perf_counter() < give_up:
            self._look(0.1)
        self.failed += len(self._lines) - len(self._idle)
        for number in list(self._lines):
            self._close(number)

    def _begin(self, now: float) -> bool:
        """Begin one more request; False where all lines are taken."""
        while self._idle:
            line = self._idle.pop()
            if now - line.since < self._idle_seconds:
                break
            self._close(line.socket.fileno())
        else:
            if len(self._lines) >= self._most_lines:
                return False
            line = Line(socket.create_connection(self._address, timeout=ANSWER_SECONDS))
            line.socket.setblocking(False)
            self._lines[line.socket.fileno()] = line
            self._poll.register(line.socket, select.EPOLLIN)
        line.left = memoryview(next(self._requests))
        self._push(line)
        return True

    def _look(self, seconds: float) -> None:
        for number, event in self._poll.poll(seconds):
            line = self._lines[number]
            try:
                if event & select.EPOLLOUT:
                    self._push(line)
                if event & ~select.EPOLLOUT and (answer := line.read()) is not None:
                    self._take(line, answer)
            except OSError:
                self.failed += line not in self._idle
                self._close(number)

    def _push(self, line: Line) -> None:
        self._poll.modify(line.socket, select.EPOLLIN | (select.EPOLLOUT if line.send() else 0))

    def _take(self, line: Line, answer: bytes) -> None:
        now = time.perf_counter()
        self.seconds.setdefault(int(answer[9:12]), []).append(0.0 if line.left else now - line.since)
        if found := _ACCEPTED.search(answer):
            self.accepted += int(found[1])
        if found := _RETRY_AFTER.search(answer):
            self.retry_after[int(found[1])] += 1
        if line.left:  # answered before all of it was sent
            self._close(line.socket.fileno())
        else:
            line.since = now
            self._idle.append(line)

    def _close(self, number: int) -> None:
        line = self._lines.pop(number)
        if line in self._idle:
            self._idle.remove(line)
        line.socket.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__.partition("\n")[0])
    parser.add_argument("endpoint", help="URL to post to")
    parser.add_argument("--events", type=int, required=True, help="in each body")
    parser.add_argument("--per-second", type=float, default=1e9, help="events (default: as the lines allow)")
    parser.add_argument("--lines", type=int, default=MOST_LINES, help=f"most connections (default {MOST_LINES})")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--probe", action="store_true", help="each request on a new line")
    parser.add_argument("--json", type=Path, required=True, help="where the counts go")
    options = parser.parse_args()
    url = urlsplit(options.endpoint)
    flood = Flood(
        url.hostname or "",
        url.port or 80,
        prepared(options.events, "probe" if options.probe else "flood"),
        per_second=options.per_second / options.events,
        lines=options.lines,
        idle_seconds=0 if options.probe else IDLE_SECONDS,
    )
    with contextlib.suppress(OSError):
        os.setsid()
    come_first(os.getpid())
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
