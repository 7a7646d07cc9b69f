"""At twice what the gateway can take, for minutes: how fast it says no, and that it keeps what it took.

    python -m bench.overload [--seconds 120] [--bare] [--short]

    capacity --> flood at twice that, small and large probes beside it --> all stored --> serving again

The gateway stands behind the edge, as it does in production; with --bare, or where no nginx is installed, it does not.
Capacity is what it accepts from connections that are few enough to be never refused. Half of the flood comes in small
bodies, half in large ones (`bench/flood.py`: bodies made before, at the lowest priority). A probe posts on a new
connection, and times the answer from the last byte of its body. Figures go to bench/results/overload.json; the exit
code is 1 where something that was accepted is not stored.

Its own weakness: probes and flood run on the gateway's own cores, so a probe's time holds its own wait for a core.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson

from bench.busy import READ_BYTES
from bench.flood import MOST_LINES, prepared, requests
from bench.machine import describe
from bench.result import flatness, percentile, write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from ops.local.edge import before, edge
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok

SMALL_EVENTS: Final = 150  # under 70 KB
LARGE_EVENTS: Final = 10_000  # 4 MB
AT_EASE: Final = {SMALL_EVENTS: 16, LARGE_EVENTS: 4}  # connections that keep the gateway busy and get no 503
SMALL_PROBES: Final = 24
LARGE_PROBES: Final = 2
RECOVERED_ANSWERS: Final = 20
MEMORY: Final = Path("/dev/shm")
ANSWER_SECONDS: Final = 60.0
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *(\d+)\r\n", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Probe:
    """What came back to one kind of probe: seconds from the last byte sent to the last one read, by status."""

    events: int
    requests: Iterator[bytes]
    seconds: dict[int, list[float]] = field(default_factory=dict)
    retry_after: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def run(self, port: int, every_seconds: float, stop: threading.Event) -> None:
        """Post until told to stop, each time on a new connection: so all workers are asked."""
        while not stop.wait(every_seconds):
            with socket.create_connection((LOOPBACK, port), timeout=ANSWER_SECONDS) as line:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.post(line)

    def post(self, line: socket.socket) -> int:
        """Post once; the status. Raises OSError."""
        with self._one_at_a_time:
            content = next(self.requests)
        line.sendall(content)
        sent = time.perf_counter()
        head, body = _read(line)
        status = int(head[9:12])
        self.seconds.setdefault(status, []).append(time.perf_counter() - sent)
        if found := _RETRY_AFTER.search(head):
            self.retry_after[int(found[1])] += 1
        if status == 202:
            self.accepted += int(orjson.loads(body)["accepted"])
        return status

    def told(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "events_a_body": self.events,
            "answered": {str(status): len(took) for status, took in sorted(self.seconds.items())},
            "refused_p50_ms": round(1000 * percentile(self.seconds.get(503, []), 50), 1),
            "refused_p99_ms": round(1000 * percentile(self.seconds.get(503, []), 99), 1),
            "retry_after_seconds": {str(seconds): count for seconds, count in sorted(self.retry_after.items())},
        }


def _read(line: socket.socket) -> tuple[bytes, bytes]:
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if end and found and len(body) >= int(found[1]):
            return head + b"\r\n", body
        if not (read := line.recv(READ_BYTES)):
            raise ConnectionResetError("the gateway closed the connection")
        answer += read


async def measure(seconds: float, capacity_seconds: float, *, bare: bool) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    memory: list[int] = []
    async with running() as system, _door(system, bare=bare) as port:
        at_ease = await asyncio.gather(
            *(_pour(system, port, events, capacity_seconds, "--lines", str(lines)) for events, lines in AT_EASE.items())
        )
        accepted = sum(poured["accepted"] for poured in at_ease)
        capacity = accepted / capacity_seconds
        print(f"capacity {capacity:,.0f} events a second; flooding with twice that …", flush=True)
        sampling = asyncio.create_task(_sample(system, memory))
        flood, small, large = await _flood(system, port, 2 * capacity, seconds)
        probed = {"small": small.told(), "large": large.told()}
        flood_ended = time.monotonic()
        recovered = await asyncio.to_thread(_recover, port, small)
        recovery_seconds = time.monotonic() - flood_ended
        sampling.cancel()
        accepted += flood["accepted"] + small.accepted + large.accepted
        print("waiting until all is stored …", flush=True)
        await system.until_stored()
        stored = await system.owner.fetchval(
            "SELECT (SELECT count(*) FROM facebook_events) + (SELECT count(*) FROM tiktok_events)"
        )
        restarts = system.servers.supervisor.restarts("gateway")
        machine, programs = await describe(system.owner), system.servers.supervisor.names
    return {
        **machine,
        "settings": {"seconds": seconds, "aimed_at_capacity": 2, "edge": "edge" in programs},
        "capacity_per_second": round(capacity),
        "flood_per_second": flood["events_per_second"],
        "flood_of_capacity": round(flood["events_per_second"] / capacity, 2),
        "flood_answered": flood["answered"],
        "flood_unanswered": flood["unanswered"],
        "flood_cores": round(flood["cpu_seconds"] / seconds, 2),
        **probed,
        "gateway_memory": flatness(memory, every_seconds=0.5),
        "gateway_restarts": restarts,
        "recovered": recovered,
        "recovery_seconds": round(recovery_seconds, 2),
        "accepted": accepted,
        "stored": stored,
    }


@asynccontextmanager
async def _door(system: System, *, bare: bool) -> AsyncIterator[int]:
    """The port that is posted to: the edge's, or the gateway's own."""
    gateway, nginx = system.services.ports["gateway"], shutil.which("nginx")
    if bare or not nginx:
        yield gateway
        return
    # In memory, as in docker-compose: on the disk that NATS and PostgreSQL sync, a body's write may wait for theirs.
    with TemporaryDirectory(prefix="sluice-edge-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        Path(folder).chmod(0o711)
        port = free_port()
        settings = before([gateway], port, Path(folder)) | {"EDGE_REQUESTS_PER_SENDER": str(2 * MOST_LINES + 16)}
        await system.servers.supervisor.start(edge(nginx, port, settings))
        await answers_ok(port, "/health/ready")  # as whoever runs it asks every few seconds
        yield port
        await system.servers.supervisor.stop("edge")


async def _flood(system: System, port: int, per_second: float, seconds: float) -> tuple[dict[str, Any], Probe, Probe]:
    """Both floods at a steady rate, and both probes while they last."""
    stop = threading.Event()
    small, large = (Probe(events, requests(LOOPBACK, port, prepared(events, "probe"))) for events in AT_EASE)
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(SMALL_PROBES + LARGE_PROBES)
    probing = [
        loop.run_in_executor(pool, probe.run, port, 0.5, stop)
        for probe, probes in ((small, SMALL_PROBES), (large, LARGE_PROBES))
        for _ in range(probes)
    ]
    try:
        floods = await asyncio.gather(
            *(_pour(system, port, events, seconds, "--per-second", str(per_second / 2)) for events in AT_EASE)
        )
    finally:
        stop.set()
        await asyncio.gather(*probing)
    flood = {
        name: sum(one[name] for one in floods)
        for name in ("accepted", "events_per_second", "unanswered", "cpu_seconds")
    }
    answered = sum((Counter(one["answered"]) for one in floods), Counter[str]())
    return {**flood, "answered": dict(answered)}, small, large


async def _pour(system: System, port: int, events: int, seconds: float, *options: str) -> dict[str, Any]:
    """One flood, with so many events in each POST; its counts."""
    counts = system.servers.folder / f"flood-{events}.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.flood", f"http://{LOOPBACK}:{port}/events", "--events", str(events)),
        *("--seconds", str(seconds), "--json", str(counts), *options),
    )
    try:
        if await process.wait() != 0:
            raise SystemExit("the flood failed")
    finally:
        if process.returncode is None:
            process.kill()
    poured: dict[str, Any] = orjson.loads(await asyncio.to_thread(counts.read_bytes))
    return poured


async def _sample(system: System, memory: list[int]) -> None:
    while True:
        memory.append(system.memory_bytes()["gateway"])
        await asyncio.sleep(0.5)


def _recover(port: int, small: Probe) -> bool:
    """Whether small bodies are all taken again soon after the flood."""
    taken, until = 0, time.monotonic() + ANSWER_SECONDS
    with socket.create_connection((LOOPBACK, port), timeout=ANSWER_SECONDS) as line:
        while taken < RECOVERED_ANSWERS and time.monotonic() < until:
            taken = taken + 1 if small.post(line) == 202 else 0
    return taken == RECOVERED_ANSWERS


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long the flood lasts (default 120)")
    parser.add_argument("--bare", action="store_true", help="without the edge")
    parser.add_argument("--short", action="store_true", help="a few seconds, and no result is kept")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(*((4, 2) if options.short else (options.seconds, 20)), bare=options.bare))
    if not options.short:
        write("overload", result)
    print(
        f"\nflood      {result['flood_per_second']:,} events a second, {result['flood_of_capacity']:.0%} of capacity, "
        f"answered {result['flood_answered']}\n"
        f"small      {result['small']}\n"
        f"large      {result['large']}\n"
        f"memory     {result['gateway_memory']}\n"
        f"recovered  {result['recovered']}, within {result['recovery_seconds']} s\n"
        f"accepted   {result['accepted']:,}, stored {result['stored']:,}"
    )
    # More may be stored than was accepted: what was answered 503 for want of a PubAck is stored once or not at all.
    if result["stored"] < result["accepted"] or not result["recovered"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
