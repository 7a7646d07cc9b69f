"""Measure the cost of tracing: CPU of gateway and collectors with 0 %, 1 % and 100 % of traces sampled.

    python -m bench.tracing [--rounds 4] [--seconds 4] [--short]

Each round runs a new system for each of the three, in rotating order. The load is first single events over 64
connections, which is one request per event, then bodies of 1,000 events. CPU is measured until all events are stored. A
receiver discards the spans. Medians: bench/results/tracing.json.

Weakness: client and receiver of spans share the cores, so events per second fall by more than tracing costs.
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

from bench.closed_loop import request, run_closed_loop
from bench.machine import describe_machine
from bench.publisher.bodies import Bodies
from bench.result import write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from ops.local.ports import LOOPBACK
from ops.local.ready import get

# Name -> share of traces sampled; None: tracing off.
MODES: Final[dict[str, float | None]] = {"off": None, "sampled_1_percent": 0.01, "sampled_all": 1.0}
# Name -> (events per POST, connections).
LOADS: Final = {"single": (1, 64), "bodies": (1_000, 4)}
DISTINCT_EVENTS: Final = 8192
STAGES: Final = ("gateway", "collector")


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    with _receiver() as endpoint:
        for number in range(rounds):
            first = number % len(MODES)
            for mode in (list(MODES) * 2)[first : first + len(MODES)]:
                async with running(_settings(MODES[mode], endpoint)) as system:
                    figures: dict[str, Any] = {
                        load: await _run_load(system, f"{mode}-{number}", load, seconds) for load in LOADS
                    }
                    figures["spans"] = await _spans(system)
                runs[mode].append(figures)
                print(f"round {number + 1}: {mode:18} {figures}", flush=True)
    return {
        **describe_machine(),
        "settings": {"rounds": rounds, "seconds": seconds, "loads": LOADS},
        **{
            load: {
                mode: {name: round(median(run[load][name] for run in runs[mode]), 2) for name in runs[mode][0][load]}
                for mode in MODES
            }
            for load in LOADS
        },
        "rounds": runs,
    }


def _settings(share: float | None, endpoint: str) -> dict[str, str]:
    if share is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


async def _run_load(system: System, seed: str, load: str, seconds: float) -> dict[str, float]:
    """Measure events answered per second, and CPU µs per event, until all of them are stored."""
    events, connections = LOADS[load]
    bodies = Bodies(seed, corrupt_share=0)
    port = system.services.ports["gateway"]
    if events == 1:
        contents = [orjson.dumps(event) for event in orjson.loads(bodies.body(DISTINCT_EVENTS).content)]
    else:
        contents = [bodies.body(events).content for _ in range(DISTINCT_EVENTS // events)]
    requests = [request(LOOPBACK, port, content) for content in contents]
    before = system.cpu_seconds()
    load_result = await asyncio.to_thread(
        run_closed_loop, LOOPBACK, port, requests, connections=connections, seconds=seconds
    )
    await system.until_stored()
    after = system.cpu_seconds()
    answered = load_result.answered[202] * events
    if load_result.answered[202] != load_result.answered.total():
        raise SystemExit(f"not every POST was answered 202: {dict(load_result.answered)}")
    return {
        "events_per_second": round(load_result.per_second * events),
        **{f"{stage}_us": round(1e6 * (after[stage] - before[stage]) / answered, 2) for stage in STAGES},
    }


async def _spans(system: System) -> dict[str, int]:
    """Return the counts of spans sampled and exported so far."""
    spans: dict[str, int] = {}
    for name, port in system.services.ports.items():
        _, page = await get(port, "/metrics")
        for line in page.decode().splitlines():
            if line.startswith(("sluice_spans_sampled_total", "sluice_spans_exported_total")):
                counted = line.split("_")[2]
                spans[f"{name}_{counted}"] = int(float(line.rpartition(" ")[2]))
    return {name: count for name, count in spans.items() if count}


class _SpanHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def _serve_spans(child_end: Connection) -> None:
    server = ThreadingHTTPServer((LOOPBACK, 0), _SpanHandler)
    child_end.send(server.server_port)
    server.serve_forever()


@contextmanager
def _receiver() -> Iterator[str]:
    """Run a process that receives spans. Yields its endpoint."""
    parent_end, child_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_spans, args=(child_end,), daemon=True)
    process.start()
    try:
        yield f"http://{LOOPBACK}:{parent_end.recv()}"
    finally:
        process.terminate()


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each (default 4)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per load (default 4)")
    parser.add_argument("--short", action="store_true", help="run each for a moment, and keep no result")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(1, 0.5) if options.short else measure(options.rounds, options.seconds))
    if not options.short:
        write("tracing", result)
    for load in LOADS:
        for mode, figures in result[load].items():
            print(f"{load:8} {mode:18} " + "  ".join(f"{name} {figure:g}" for name, figure in figures.items()))


if __name__ == "__main__":
    main()
