"""What tracing costs: CPU of gateway and collectors without it, with 1 % of traces sampled, and with all.

    python -m bench.tracing [--rounds 4] [--seconds 4] [--short]

Each round runs a system of its own for each of the three, one after the other, in turning order: first single events
over 64 connections, the most requests an event can cost, then bodies of 1,000 events. CPU is counted until all is
stored. Spans go to a program that takes them and throws them away. Medians go to bench/results/tracing.json.

Its own weakness: client and receiver of spans share the cores, so what a second holds falls by more than tracing costs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

import orjson

from bench.busy import keep_busy, request
from bench.machine import describe_machine
from bench.publisher.bodies import Bodies
from bench.result import write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from ops.local.ports import LOOPBACK
from ops.local.ready import get

# Name -> share of traces that is sampled; None: off.
MODES: Final[dict[str, float | None]] = {"off": None, "sampled_1_percent": 0.01, "sampled_all": 1.0}
# Name -> events in a POST, and over how many connections.
LOADS: Final = {"single": (1, 64), "bodies": (1_000, 4)}
DISTINCT_EVENTS: Final = 8192
STAGES: Final = ("gateway", "collector")


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    with _receiver() as endpoint:
        for number in range(rounds):
            first = number % len(MODES)
            for mode in (list(MODES) * 2)[first : first + len(MODES)]:
                async with running(_settings(MODES[mode], endpoint)) as system:
                    figures: dict[str, Any] = {
                        load: await _load(system, f"{mode}-{number}", load, seconds) for load in LOADS
                    }
                    figures["spans"] = await _spans(system)
                found[mode].append(figures)
                print(f"round {number + 1}: {mode:18} {figures}", flush=True)
    return {
        **describe_machine(),
        "settings": {"rounds": rounds, "seconds": seconds, "loads": LOADS},
        **{
            load: {
                mode: {name: round(median(one[load][name] for one in found[mode]), 2) for name in found[mode][0][load]}
                for mode in MODES
            }
            for load in LOADS
        },
        "rounds": found,
    }


def _settings(share: float | None, endpoint: str) -> dict[str, str]:
    if share is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


async def _load(system: System, seed: str, load: str, seconds: float) -> dict[str, float]:
    """Events answered a second, and CPU an event in µs, until all of them are stored."""
    events, connections = LOADS[load]
    bodies = Bodies(seed, corrupt_share=0)
    port = system.services.ports["gateway"]
    if events == 1:
        contents = [orjson.dumps(event) for event in orjson.loads(bodies.body(DISTINCT_EVENTS).content)]
    else:
        contents = [bodies.body(events).content for _ in range(DISTINCT_EVENTS // events)]
    requests = [request(LOOPBACK, port, content) for content in contents]
    before = system.cpu_seconds()
    busy = await asyncio.to_thread(keep_busy, LOOPBACK, port, requests, connections=connections, seconds=seconds)
    await system.until_stored()
    after = system.cpu_seconds()
    answered = busy.answered[202] * events
    if busy.answered[202] != busy.answered.total():
        raise SystemExit(f"not every POST was answered 202: {dict(busy.answered)}")
    return {
        "events_per_second": round(busy.per_second * events),
        **{f"{stage}_us": round(1e6 * (after[stage] - before[stage]) / answered, 2) for stage in STAGES},
    }


async def _spans(system: System) -> dict[str, int]:
    """How many spans were to be exported, and were, by now."""
    told: dict[str, int] = {}
    for name, port in system.services.ports.items():
        _, page = await get(port, "/metrics")
        for line in page.decode().splitlines():
            if line.startswith(("sluice_spans_sampled_total", "sluice_spans_exported_total")):
                counted = line.split("_")[2]
                told[f"{name}_{counted}"] = int(float(line.rpartition(" ")[2]))
    return {name: count for name, count in told.items() if count}


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing of this is of interest."""


def _take_spans(ours: Connection) -> None:
    server = ThreadingHTTPServer((LOOPBACK, 0), _Taking)
    ours.send(server.server_port)
    server.serve_forever()


@contextmanager
def _receiver() -> Iterator[str]:
    """A process that takes spans; its endpoint."""
    theirs, ours = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_take_spans, args=(ours,), daemon=True)
    process.start()
    try:
        yield f"http://{LOOPBACK}:{theirs.recv()}"
    finally:
        process.terminate()


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="how often all are measured (default 4)")
    parser.add_argument("--seconds", type=float, default=4, help="how long each load lasts (default 4)")
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(1, 0.5) if options.short else measure(options.rounds, options.seconds))
    if not options.short:
        write("tracing", result)
    for load in LOADS:
        for mode, told in result[load].items():
            print(f"{load:8} {mode:18} " + "  ".join(f"{name} {figure:g}" for name, figure in told.items()))


if __name__ == "__main__":
    main()
