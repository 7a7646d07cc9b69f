"""At twice what the gateway can take, for minutes: how fast it says no, and that it keeps what it took.

    python -m bench.overload [--seconds 120] [--bare] [--short]

    capacity --> flood at twice that, probes beside it --> all stored --> serving again

The gateway stands behind the edge, as it does in production; with --bare, or where no nginx is installed, it does not.
Capacity is what it accepts from connections that are few enough to be never rejected. Half of the flood comes in small
bodies, half in large ones (`bench/flood.py`: bodies made before, never late). Probes post on new connections and time
the answer from the last byte of the body. Figures go to bench/results/overload.json; the exit code is 1 where something
that was accepted is not stored.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import orjson

from bench.flood import MOST_LINES, Flood, prepared
from bench.machine import describe
from bench.processes import come_first
from bench.result import flatness, write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from ops.local.edge import before, edge
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok

SMALL_EVENTS: Final = 150  # under 70 KB
LARGE_EVENTS: Final = 10_000  # 4 MB
AT_EASE: Final = {SMALL_EVENTS: 16, LARGE_EVENTS: 4}  # connections that keep the gateway busy and get no 503
PROBED: Final = 0.07  # of the flood: what probes send of it
CALM_SECONDS: Final = 0.5
LONGEST_RECOVERY_SECONDS: Final = 60.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it


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
        floods, probes = await _flood(system, port, 2 * capacity, seconds)
        sampling.cancel()
        recovery_seconds, after = await asyncio.to_thread(_recover, port)
        accepted += after + sum(poured["accepted"] for poured in (*floods, *probes.values()))
        print("waiting until all is stored …", flush=True)
        await system.until_stored()
        stored = await system.owner.fetchval(
            "SELECT (SELECT count(*) FROM facebook_events) + (SELECT count(*) FROM tiktok_events)"
        )
        restarts = system.servers.supervisor.restarts("gateway")
        machine, programs = await describe(system.owner), system.servers.supervisor.names
    per_second = sum(poured["events_per_second"] for poured in (*floods, *probes.values()))
    return {
        **machine,
        "settings": {"seconds": seconds, "aimed_at_capacity": 2, "edge": "edge" in programs},
        "capacity_per_second": round(capacity),
        "flood_per_second": per_second,
        "flood_of_capacity": round(per_second / capacity, 2),
        "flood_answered": dict(sum((Counter(poured["answered"]) for poured in floods), Counter[str]())),
        "flood_unanswered": sum(poured["unanswered"] for poured in floods),
        "flood_cores": round(sum(poured["cpu_seconds"] for poured in floods) / seconds, 2),
        **probes,
        "gateway_memory": flatness(memory, every_seconds=0.5),
        "gateway_restarts": restarts,
        "recovered": recovery_seconds is not None,
        "recovery_seconds": recovery_seconds,
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
    with TemporaryDirectory(prefix="sluice-edge-", dir=MEMORY if MEMORY.is_dir() else None) as made:
        folder, port = Path(made), free_port()
        folder.chmod(0o711)  # noqa: ASYNC240  # at once
        settings = before([gateway], port, folder) | dict.fromkeys(
            ("EDGE_REQUESTS_PER_SENDER", "EDGE_LARGE_PER_SENDER"), str(2 * MOST_LINES + 16)
        )
        await system.servers.supervisor.start(edge(nginx, port, settings))
        come_first(system.servers.supervisor.pid("edge"))  # docker-compose gives it the larger weight (cpu_shares)
        await answers_ok(port, "/health/ready")  # as whoever runs it asks every few seconds
        yield port
        await system.servers.supervisor.stop("edge")


async def _flood(
    system: System, port: int, per_second: float, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Both floods at a steady rate, and a probe beside each: what all of them got."""
    flood = "--per-second", str(per_second / 2 * (1 - PROBED))
    probe = "--per-second", str(per_second / 2 * PROBED), "--probe"
    *floods, small, large = await asyncio.gather(
        _pour(system, port, SMALL_EVENTS, seconds, *flood),
        _pour(system, port, LARGE_EVENTS, seconds, *flood),
        _pour(system, port, SMALL_EVENTS, seconds, *probe),
        _pour(system, port, LARGE_EVENTS, seconds, *probe),
    )
    return floods, {"small": small, "large": large}


async def _pour(system: System, port: int, events: int, seconds: float, *options: str) -> dict[str, Any]:
    """One flood, with so many events in each POST; its counts."""
    counts = system.servers.folder / f"flood-{uuid4()}.json"
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


def _recover(port: int) -> tuple[float | None, int]:
    """Seconds until small bodies are all taken again, None where they are not; and how many events were."""
    after, began = Flood(LOOPBACK, port, prepared(SMALL_EVENTS, "after"), lines=1), time.monotonic()
    while (took := time.monotonic() - began) < LONGEST_RECOVERY_SECONDS:
        after.seconds.clear()
        after.run(CALM_SECONDS)
        if after.seconds.keys() == {202}:
            return round(took, 2), after.accepted
    return None, after.accepted


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
