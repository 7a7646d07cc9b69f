"""One event a POST over 256 connections, each answered after an fsynced PubAck, beside a handler that does nothing.

    python -m bench.single_post [--rounds 5] [--seconds 8] [--short]

Each round measures both, one after the other, by the same client on the same cores: the gateway as it is, and
bench.noop, which is the gateway without its work. Then the gateway alone, with POSTs of other sizes and with fewer
connections. Medians of the rounds go to bench/results/single_post.json.

Its own weakness: the client takes a share of the cores that it measures (told as client_cpu_us), and no collector runs
beside.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from bench.busy import Busy, keep_busy, request
from bench.machine import describe_machine
from bench.processes import cpu_seconds
from bench.publisher.bodies import Bodies
from bench.result import percentile, write
from core.settings import load
from gateway.settings import GatewaySettings
from gateway.workers import ENVIRONMENT
from ops.local import Program, Supervisor
from ops.local.nats import Nats
from ops.local.ports import LOOPBACK, free_port
from ops.local.ready import answers_ok

CONNECTIONS: Final = 256
DISTINCT: Final = 8192
# Events a POST, and over how many connections: enough to keep the gateway busy.
BATCHES: Final = ((1, 256), (10, 128), (100, 64), (1_000, 8), (5_000, 8), (25_000, 4))
LOADS: Final = (1, 4, 16, 64, 256)


async def run(rounds: int, seconds: float, sweep_seconds: float, distinct: int) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        async with Supervisor(Path(folder)) as supervisor:
            ports = await _start(supervisor, Path(folder))
            content = list(orjson.loads(Bodies("single", corrupt_share=0).body(distinct).content))
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
            for number in range(rounds + 1):
                for name, port in ports.items():
                    requests = [request(LOOPBACK, port, orjson.dumps(event)) for event in content]
                    figures = await _measure(supervisor, name, port, requests, seconds if number else min(1, seconds))
                    if number:  # the first warms up
                        measured[name].append(figures)
                        print(f"round {number}: {name:8} {figures}", flush=True)
            port = ports["gateway"]
            batches = [await _batch(port, *sizes, sweep_seconds) for sizes in BATCHES]
            loads = [await _load(port, connections, sweep_seconds) for connections in LOADS]
    rates = {name: [one["per_second"] for one in figures] for name, figures in measured.items()}
    return {
        **describe_machine(),
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "connections": CONNECTIONS,
            "workers": load(GatewaySettings).gateway_workers,
            "pin": load(GatewaySettings).gateway_cpu_pinning,
            "sync_interval": "always",
        },
        "single_post_of_noop": round(
            median(one / other for one, other in zip(rates["gateway"], rates["noop"], strict=True)), 3
        ),
        "gateway_per_second": round(median(rates["gateway"])),
        "noop_per_second": round(median(rates["noop"])),
        "batches": batches,
        "load": loads,
        "rounds": measured,
    }


async def _start(supervisor: Supervisor, folder: Path) -> dict[str, int]:
    """NATS, the gateway and as many workers that do nothing; the ports by name."""
    nats = Nats(folder, free_port(), free_port())
    await supervisor.start(nats.program())
    ports = {"noop": free_port(), "gateway": free_port()}
    environment = {"NATS_URL": nats.url, "STREAM_MAX_BYTES": str(4 << 30), "LOG_LEVEL": "warning"}
    commands = {f"noop-{slot}": ["bench.noop", str(slot)] for slot in range(load(GatewaySettings).gateway_workers)}
    for name, arguments in {**commands, "gateway": ["gateway"]}.items():
        port = ports[name.partition("-")[0]]
        await supervisor.start(
            Program(
                name=name,
                argv=[sys.executable, "-m", *arguments],
                env={**ENVIRONMENT, **environment, "GATEWAY_PORT": str(port)},
                is_ready=partial(answers_ok, port, "/health/ready"),
                drain_seconds=30,
            )
        )
    return ports


async def _measure(
    supervisor: Supervisor, name: str, port: int, requests: list[bytes], seconds: float
) -> dict[str, float]:
    """Answers a second, latency, and CPU an answer in µs of the client, the servers and NATS."""

    def cpu(of: str) -> float:
        return sum(cpu_seconds(supervisor.pids(one)) for one in supervisor.names if one.startswith(of))

    before = {of: cpu(of) for of in (name, "nats")}
    busy: Busy = await asyncio.to_thread(keep_busy, LOOPBACK, port, requests, connections=CONNECTIONS, seconds=seconds)
    answers = busy.answered.total()
    if busy.answered[202] != answers:
        raise SystemExit(f"{name}: not every POST was answered 202: {dict(busy.answered)}")
    return {
        "per_second": round(busy.per_second),
        "p50_ms": round(1000 * percentile(busy.latencies, 50), 1),
        "p99_ms": round(1000 * percentile(busy.latencies, 99), 1),
        "client_cpu_us": round(1e6 * busy.cpu_seconds / answers, 1),
        "server_cpu_us": round(1e6 * (cpu(name) - before[name]) / answers, 1),
        "nats_cpu_us": round(1e6 * (cpu("nats") - before["nats"]) / answers, 1),
    }


async def _batch(port: int, events: int, connections: int, seconds: float) -> dict[str, float]:
    """Events accepted a second, so many in each POST."""
    bodies = Bodies("batches", corrupt_share=0)
    requests = [request(LOOPBACK, port, bodies.body(events).content) for _ in range(max(4, min(256, 25_600 // events)))]
    busy = await asyncio.to_thread(keep_busy, LOOPBACK, port, requests, connections=connections, seconds=seconds)
    found: dict[str, float] = {
        "events": events,
        "connections": connections,
        "events_per_second": round(busy.per_second * events),
    }
    print(f"{events:6} events a POST: {found['events_per_second']:9,} events a second", flush=True)
    return found


async def _load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """How long the answer to a single event takes while so many connections wait for theirs."""
    bodies = Bodies("load", corrupt_share=0)
    requests = [request(LOOPBACK, port, bodies.body(1).content) for _ in range(1024)]
    busy = await asyncio.to_thread(keep_busy, LOOPBACK, port, requests, connections=connections, seconds=seconds)
    found: dict[str, float] = {
        "connections": connections,
        "per_second": round(busy.per_second),
        "p50_ms": round(1000 * percentile(busy.latencies, 50), 2),
        "p99_ms": round(1000 * percentile(busy.latencies, 99), 2),
    }
    print(f"{connections:6} connections: {found}", flush=True)
    return found


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.single_post", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often both are measured (default 5)")
    parser.add_argument("--seconds", type=float, default=8, help="how long each is measured (default 8)")
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
    parser.add_argument("--no-result", action="store_true", help="print only, leave the kept result as it is")
    options = parser.parse_args()
    result = asyncio.run(
        run(1, 0.5, 0.2, distinct=512) if options.short else run(options.rounds, options.seconds, 3, DISTINCT)
    )
    if not (options.short or options.no_result):
        write("single_post", result)
    print(
        f"\nhandler that does nothing  {result['noop_per_second']:7,} POSTs a second\n"
        f"gateway, one event a POST  {result['gateway_per_second']:7,} POSTs a second\n"
        f"gateway of nothing         {result['single_post_of_noop']:7.0%}"
    )


if __name__ == "__main__":
    main()
