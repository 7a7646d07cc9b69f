"""Measure the gateway at twice its capacity: latency of its 503 responses, and that all accepted events are stored.

    python -m bench.overload [--seconds 120] [--bare] [--short]

    capacity --> flood at twice that rate, with probes --> all stored --> recovery

The gateway runs behind the edge, as in production, except with --bare or without nginx. Capacity is the rate accepted
from a few connections that get no 503. Half of the flood's events are in small bodies, half in large ones
(`bench/flood.py`). Probes post on new connections and measure the latency from the last byte of the body. Results:
bench/results/overload.json. The exit code is 1 if an accepted event is not stored, or the gateway does not recover.
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

from bench.flood import MAX_CONNECTIONS, Flood, prepare_bodies
from bench.machine import describe
from bench.processes import raise_cpu_priority
from bench.result import flatness, write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from ops.local.edge import before, edge
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok

SMALL_EVENTS: Final = 150  # under 70 KB
LARGE_EVENTS: Final = 10_000  # 4 MB
CAPACITY_CONNECTIONS: Final = {SMALL_EVENTS: 16, LARGE_EVENTS: 4}  # enough to saturate the gateway, without any 503
PROBE_SHARE: Final = 0.07  # of the flood, sent by the probes
CALM_SECONDS: Final = 0.5
MAX_RECOVERY_SECONDS: Final = 60.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a temporary folder is created in it


async def measure(seconds: float, capacity_seconds: float, *, without_edge: bool) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    memory: list[int] = []
    async with running() as system, _entry_port(system, without_edge=without_edge) as port:
        capacity_runs = await asyncio.gather(
            *(
                _run_flood(system, port, events, capacity_seconds, "--connections", str(connections))
                for events, connections in CAPACITY_CONNECTIONS.items()
            )
        )
        accepted = sum(counts["accepted"] for counts in capacity_runs)
        capacity = accepted / capacity_seconds
        print(f"capacity {capacity:,.0f} events per second; flooding at twice that rate …", flush=True)
        sampling = asyncio.create_task(_sample(system, memory))
        floods, probes = await _flood(system, port, 2 * capacity, seconds)
        sampling.cancel()
        recovery_seconds, after = await asyncio.to_thread(_recover, port)
        accepted += after + sum(counts["accepted"] for counts in (*floods, *probes.values()))
        print("waiting until all events are stored …", flush=True)
        await system.until_stored()
        stored = await system.owner.fetchval(
            "SELECT (SELECT count(*) FROM facebook_events) + (SELECT count(*) FROM tiktok_events)"
        )
        restarts = system.servers.supervisor.restarts("gateway")
        machine, programs = await describe(system.owner), system.servers.supervisor.names
    per_second = sum(counts["events_per_second"] for counts in (*floods, *probes.values()))
    return {
        **machine,
        "settings": {"seconds": seconds, "aimed_at_capacity": 2, "edge": "edge" in programs},
        "capacity_per_second": round(capacity),
        "flood_per_second": per_second,
        "flood_of_capacity": round(per_second / capacity, 2),
        "flood_answered": dict(sum((Counter(counts["answered"]) for counts in floods), Counter[str]())),
        "flood_unanswered": sum(counts["unanswered"] for counts in floods),
        "flood_cores": round(sum(counts["cpu_seconds"] for counts in floods) / seconds, 2),
        **probes,
        "gateway_memory": flatness(memory, every_seconds=0.5),
        "gateway_restarts": restarts,
        "recovered": recovery_seconds is not None,
        "recovery_seconds": recovery_seconds,
        "accepted": accepted,
        "stored": stored,
    }


@asynccontextmanager
async def _entry_port(system: System, *, without_edge: bool) -> AsyncIterator[int]:
    """Yield the port to post to: the edge's, or the gateway's without an edge."""
    gateway, nginx = system.services.ports["gateway"], shutil.which("nginx")
    if without_edge or not nginx:
        yield gateway
        return
    # In memory, as in docker-compose: on the disk that NATS and PostgreSQL sync, writing a body may wait for them.
    with TemporaryDirectory(prefix="sluice-edge-", dir=MEMORY if MEMORY.is_dir() else None) as temporary:
        folder, port = Path(temporary), free_port()
        folder.chmod(0o711)  # noqa: ASYNC240  # at once
        settings = before([gateway], port, folder) | dict.fromkeys(
            ("EDGE_REQUESTS_PER_SENDER", "EDGE_LARGE_PER_SENDER"), str(2 * MAX_CONNECTIONS + 16)
        )
        await system.servers.supervisor.start(edge(nginx, port, settings))
        raise_cpu_priority(system.servers.supervisor.pid("edge"))  # as `cpu_shares` in docker-compose.yml
        await answers_ok(port, "/health/ready")  # as a supervisor does every few seconds
        yield port
        await system.servers.supervisor.stop("edge")


async def _flood(
    system: System, port: int, per_second: float, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Run both floods at a steady rate, and a probe with each. Return the counts of all four."""
    flood = "--per-second", str(per_second / 2 * (1 - PROBE_SHARE))
    probe = "--per-second", str(per_second / 2 * PROBE_SHARE), "--probe"
    *floods, small, large = await asyncio.gather(
        _run_flood(system, port, SMALL_EVENTS, seconds, *flood),
        _run_flood(system, port, LARGE_EVENTS, seconds, *flood),
        _run_flood(system, port, SMALL_EVENTS, seconds, *probe),
        _run_flood(system, port, LARGE_EVENTS, seconds, *probe),
    )
    return floods, {"small": small, "large": large}


async def _run_flood(system: System, port: int, events: int, seconds: float, *options: str) -> dict[str, Any]:
    """Run one flood with `events` events in each POST. Return its counts."""
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
    result: dict[str, Any] = orjson.loads(await asyncio.to_thread(counts.read_bytes))
    return result


async def _sample(system: System, memory: list[int]) -> None:
    while True:
        memory.append(system.memory_bytes()["gateway"])
        await asyncio.sleep(0.5)


def _recover(port: int) -> tuple[float | None, int]:
    """Return the seconds until all small bodies are accepted again, or None, and the events accepted meanwhile."""
    after, began = Flood(LOOPBACK, port, prepare_bodies(SMALL_EVENTS, "after"), connections=1), time.monotonic()
    while (elapsed := time.monotonic() - began) < MAX_RECOVERY_SECONDS:
        after.seconds.clear()
        after.run(CALM_SECONDS)
        if after.seconds.keys() == {202}:
            return round(elapsed, 2), after.accepted
    return None, after.accepted


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="duration of the flood (default 120)")
    parser.add_argument("--bare", dest="without_edge", action="store_true", help="without the edge")
    parser.add_argument("--short", action="store_true", help="run for a few seconds, and keep no result")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(
        measure(*((4, 2) if options.short else (options.seconds, 20)), without_edge=options.without_edge)
    )
    if not options.short:
        write("overload", result)
    print(
        f"\nflood      {result['flood_per_second']:,} events per second, {result['flood_of_capacity']:.0%} capacity\n"
        f"responses  {result['flood_answered']}\n"
        f"small      {result['small']}\n"
        f"large      {result['large']}\n"
        f"memory     {result['gateway_memory']}\n"
        f"recovered  {result['recovered']}, after {result['recovery_seconds']} s\n"
        f"accepted   {result['accepted']:,}, stored {result['stored']:,}"
    )
    # More may be stored than accepted: events answered 503 without a PubAck are stored once or not at all.
    if result["stored"] < result["accepted"] or not result["recovered"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
