"""Measure POSTs of one event over 256 connections, in comparison with a no-op handler.

    python -m bench.single_post [--rounds 5] [--seconds 8] [--short]

The gateway answers each POST after an fsynced PubAck. Each round measures the gateway and then bench.noop, which is the
gateway with a no-op handler, with the same client on the same cores. After the rounds, the gateway alone is measured
with other sizes of POSTs and with fewer connections. Medians: bench/results/single_post.json.

Weakness: the client uses a part of the measured cores (client_cpu_us), and no collector runs.
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

from bench.closed_loop import LoadResult, request, run_closed_loop
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
# (events per POST, connections): enough to saturate the gateway.
BATCHES: Final = ((1, 256), (10, 128), (100, 64), (1_000, 8), (5_000, 8), (25_000, 4))
LOADS: Final = (1, 4, 16, 64, 256)


async def run(rounds: int, seconds: float, sweep_seconds: float, distinct: int) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        async with Supervisor(Path(folder)) as supervisor:
            ports = await _start(supervisor, Path(folder))
            content = list(orjson.loads(Bodies("single", corrupt_share=0).body(distinct).content))
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
            for number in range(rounds + 1):
                for name, port in ports.items():
                    requests = [request(LOOPBACK, port, orjson.dumps(event)) for event in content]
                    figures = await _measure(supervisor, name, port, requests, seconds if number else min(1, seconds))
                    if number:  # round 0 is the warm-up
                        measured[name].append(figures)
                        print(f"round {number}: {name:8} {figures}", flush=True)
            port = ports["gateway"]
            batches = [await _batch(port, *sizes, sweep_seconds) for sizes in BATCHES]
            loads = [await _load(port, connections, sweep_seconds) for connections in LOADS]
    rates = {name: [run["per_second"] for run in figures] for name, figures in measured.items()}
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
            median(rate / noop for rate, noop in zip(rates["gateway"], rates["noop"], strict=True)), 3
        ),
        "gateway_per_second": round(median(rates["gateway"])),
        "noop_per_second": round(median(rates["noop"])),
        "batches": batches,
        "load": loads,
        "rounds": measured,
    }


async def _start(supervisor: Supervisor, folder: Path) -> dict[str, int]:
    """Start NATS, the gateway and as many no-op workers. Return the ports by name."""
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
    """Measure responses per second, latency, and CPU µs per response of the client, the servers and NATS."""

    def cpu(prefix: str) -> float:
        return sum(cpu_seconds(supervisor.pids(program)) for program in supervisor.names if program.startswith(prefix))

    before = {prefix: cpu(prefix) for prefix in (name, "nats")}
    load_result: LoadResult = await asyncio.to_thread(
        run_closed_loop, LOOPBACK, port, requests, connections=CONNECTIONS, seconds=seconds
    )
    answers = load_result.answered.total()
    if load_result.answered[202] != answers:
        raise SystemExit(f"{name}: not every POST was answered 202: {dict(load_result.answered)}")
    return {
        "per_second": round(load_result.per_second),
        "p50_ms": round(1000 * percentile(load_result.latencies, 50), 1),
        "p99_ms": round(1000 * percentile(load_result.latencies, 99), 1),
        "client_cpu_us": round(1e6 * load_result.cpu_seconds / answers, 1),
        "server_cpu_us": round(1e6 * (cpu(name) - before[name]) / answers, 1),
        "nats_cpu_us": round(1e6 * (cpu("nats") - before["nats"]) / answers, 1),
    }


async def _batch(port: int, events: int, connections: int, seconds: float) -> dict[str, float]:
    """Measure the events accepted per second, with `events` events per POST."""
    bodies = Bodies("batches", corrupt_share=0)
    requests = [request(LOOPBACK, port, bodies.body(events).content) for _ in range(max(4, min(256, 25_600 // events)))]
    load_result = await asyncio.to_thread(
        run_closed_loop, LOOPBACK, port, requests, connections=connections, seconds=seconds
    )
    figures: dict[str, float] = {
        "events": events,
        "connections": connections,
        "events_per_second": round(load_result.per_second * events),
    }
    print(f"{events:6} events per POST: {figures['events_per_second']:9,} events per second", flush=True)
    return figures


async def _load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """Measure the latency of single events over that many connections, each with one request in flight."""
    bodies = Bodies("load", corrupt_share=0)
    requests = [request(LOOPBACK, port, bodies.body(1).content) for _ in range(1024)]
    load_result = await asyncio.to_thread(
        run_closed_loop, LOOPBACK, port, requests, connections=connections, seconds=seconds
    )
    figures: dict[str, float] = {
        "connections": connections,
        "per_second": round(load_result.per_second),
        "p50_ms": round(1000 * percentile(load_result.latencies, 50), 2),
        "p99_ms": round(1000 * percentile(load_result.latencies, 99), 2),
    }
    print(f"{connections:6} connections: {figures}", flush=True)
    return figures


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.single_post", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default 5)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds per measurement (default 8)")
    parser.add_argument("--short", action="store_true", help="run each for a moment, and keep no result")
    parser.add_argument("--no-result", action="store_true", help="print only, do not overwrite the saved result")
    options = parser.parse_args()
    result = asyncio.run(
        run(1, 0.5, 0.2, distinct=512) if options.short else run(options.rounds, options.seconds, 3, DISTINCT)
    )
    if not (options.short or options.no_result):
        write("single_post", result)
    print(
        f"\nno-op handler                {result['noop_per_second']:7,} POSTs per second\n"
        f"gateway, one event per POST  {result['gateway_per_second']:7,} POSTs per second\n"
        f"gateway of no-op handler     {result['single_post_of_noop']:7.0%}"
    )


if __name__ == "__main__":
    main()
