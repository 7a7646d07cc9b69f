"""Measure freshness of reports and growth of memory over minutes of the publisher's load.

    python -m bench.steady [--seconds 300] [--short]

Reports are requested five times per second, and memory is read once per second. Its slope is that of a line fitted to
the second half of the run, when a program has processed its largest bodies. Results: bench/results/steady.json.

Weakness: a slope over minutes does not predict days. The publisher's sizes are random, so the largest body may come
late.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, Final

from bench.machine import describe
from bench.result import flatness, percentile, write
from bench.system import System, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from core.settings import MEBIBYTE
from ops.local.flow import sample_freshness

MEMORY_SECONDS: Final = 1.0


async def measure(seconds: float) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    freshness: list[float] = []
    memory: list[dict[str, int]] = []
    async with running() as system:
        before = system.cpu_seconds()
        sampling = [
            asyncio.create_task(sample_freshness(system.services, freshness)),
            asyncio.create_task(_sample_memory(system, memory)),
        ]
        try:
            sent = await system.publish("--seconds", str(seconds), "--seed", "steady")
        finally:
            for task in sampling:
                task.cancel()
        await system.until_stored()
        cpu = {stage: now - before[stage] for stage, now in system.cpu_seconds().items()}
        machine = await describe(system.owner)
    if not freshness:
        raise SystemExit("no report contained its freshness")
    return {
        **machine,
        "settings": {"seconds": seconds, "events_a_post": "1,000-50,000", "posts_per_second": 1},
        "accepted_per_second": round(sent["accepted"] / sent["seconds"]),
        "freshness_p50_seconds": round(percentile(freshness, 50), 3),
        "freshness_p99_seconds": round(percentile(freshness, 99), 3),
        "answer_p50_ms": sent["latency_ms"]["p50"],
        "answer_p99_ms": sent["latency_ms"]["p99"],
        "cpu_us_per_event": {stage: round(1e6 * used / sent["accepted"], 2) for stage, used in cpu.items()},
        "memory": {name: flatness([sample[name] for sample in memory], MEMORY_SECONDS) for name in memory[0]},
    }


async def _sample_memory(system: System, memory: list[dict[str, int]]) -> None:
    while True:
        memory.append(system.memory_bytes())
        if len(memory) % 30 == 0:
            shown = "  ".join(f"{name} {size // MEBIBYTE}" for name, size in memory[-1].items())
            print(f"{len(memory):4} s: MB {shown}", flush=True)
        await asyncio.sleep(MEMORY_SECONDS)


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.steady", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="duration of the load (default 300)")
    parser.add_argument("--short", action="store_true", help="run for a few seconds, and keep no result")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(4 if options.short else options.seconds))
    if not options.short:
        write("steady", result)
    print(
        f"\naccepted   {result['accepted_per_second']:,} events per second\n"
        f"freshness  {result['freshness_p50_seconds']} s (median), {result['freshness_p99_seconds']} s (p99)"
    )
    for name, usage in result["memory"].items():
        print(f"{name:18} {usage['max_mb']:7.1f} MB maximum, {usage['slope_mb_per_minute']:+6.2f} MB per minute")


if __name__ == "__main__":
    main()
