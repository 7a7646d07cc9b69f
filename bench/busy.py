"""Keep many connections busy: each sends its next request the moment the last answer is there.

The client shares the machine with what it measures, so it is as cheap as Python can be: prepared bytes, one epoll and
no event loop (about 15 µs a request, most of it the kernel's).

Invariant: at most one request of a connection is on its way, and only whole answers are counted.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
READ_BYTES: Final = 65_536
SILENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Busy:
    """What came back within `seconds`: answers by status, seconds from request to answer, the client's own CPU."""

    seconds: float
    cpu_seconds: float
    answered: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered.total() / self.seconds


def request(host: str, port: int, body: bytes) -> bytes:
    """One POST to /events, as bytes."""
    head = (
        f"POST /events HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def keep_busy(host: str, port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Busy:
    """Send these requests in turn, over and over, on that many connections; each gets its last answer.

    Blocks its thread. Raises OSError where the server is gone, and TimeoutError where it is silent.
    """
    poll, content = select.epoll(), cycle(requests)
    sockets: dict[int, socket.socket] = {}
    sent_at: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    answered: Counter[bytes] = Counter()
    latencies: list[float] = []
    try:
        for _ in range(connections):
            opened = socket.create_connection((host, port), timeout=SILENCE_SECONDS)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets[opened.fileno()] = opened
            poll.register(opened, select.EPOLLIN)
        started, started_cpu = time.perf_counter(), time.thread_time()
        for number, opened in sockets.items():
            sent_at[number] = time.perf_counter()
            opened.sendall(next(content))
        end = started + seconds
        while sent_at:
            ready = poll.poll(SILENCE_SECONDS)
            if not ready:
                raise TimeoutError(f"no answer within {SILENCE_SECONDS:g} seconds")
            for number, _ in ready:
                read = sockets[number].recv(READ_BYTES)
                if not read:
                    raise ConnectionResetError("the server closed a connection")
                answer = partial.pop(number, b"") + read
                if not whole(answer):
                    partial[number] = answer
                    continue
                now = time.perf_counter()
                latencies.append(now - sent_at.pop(number))
                answered[answer[9:12]] += 1
                if now < end:
                    sent_at[number] = now
                    sockets[number].sendall(next(content))
        taken, cpu = time.perf_counter() - started, time.thread_time() - started_cpu
    finally:
        poll.close()
        for opened in sockets.values():
            opened.close()
    return Busy(taken, cpu, Counter({int(status): count for status, count in answered.items()}), latencies)


def whole(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    found = _LENGTH.search(answer, 0, end) if end >= 0 else None
    return found is not None and len(answer) == end + 4 + int(found[1])
