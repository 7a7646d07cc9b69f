"""Measure the pipeline at saturation for several distributions of the values in events.

    python -m bench.distribution [--rounds 3] [--seconds 20] [--short]

Each round runs the distributions of `bench.publisher.values` one after the other, on the same servers with empty
tables. Bodies of 1,000 to 50,000 events are posted as fast as the gateway accepts them, until all are stored.
`of_publisher` is the median of events stored per second, as a share of the publisher's. If only campaigns differ
(zipf-campaigns, one-campaign), bodies, rows and rollups are as large as the publisher's: these three must be within
10 % of each other. No distribution may be slower. Results: bench/results/distribution.json.

Weakness: if all values repeat (zipf, one), bodies cost less to build and rollups have fewer rows, so more events are
stored; and the tables are small. `tests/integration/test_any_distribution.py` counts the pages that an insert touches
while a day's table grows.
"""

from __future__ import annotations

import argparse
import asyncio
from statistics import median
from typing import Any, Final

from bench.machine import describe
from bench.pipeline import saturate
from bench.result import write
from bench.system import empty_tables, running
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from core.sources import SOURCES

DISTRIBUTIONS: Final = ("publisher", "zipf-campaigns", "one-campaign", "zipf", "one")


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    runs: dict[str, list[dict[str, Any]]] = {values: [] for values in DISTRIBUTIONS}
    async with running() as system:
        for number in range(rounds):
            for values in DISTRIBUTIONS:
                await empty_tables(system.owner, [source.table for source in SOURCES.values()])
                run = await saturate(system, seconds, f"distribution-{number}", values)
                runs[values].append(run)
                print(
                    f"round {number + 1}, {values}: {run['stored_per_second']:,} events stored per second", flush=True
                )
        machine = await describe(system.owner)
    stored = {
        values: round(median(run["stored_per_second"] for run in values_runs)) for values, values_runs in runs.items()
    }
    cpu = {
        values: {
            stage: round(median(run["cpu_us_per_event"][stage] for run in values_runs), 2)
            for stage in values_runs[0]["cpu_us_per_event"]
        }
        for values, values_runs in runs.items()
    }
    return {
        **machine,
        "settings": {"rounds": rounds, "seconds": seconds, "events_a_post": "1,000-50,000"},
        "stored_per_second": stored,
        "of_publisher": {values: round(rate / stored["publisher"], 3) for values, rate in stored.items()},
        "cpu_us_per_event": cpu,
        "rounds": runs,
    }


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.distribution", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default 3)")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of posting per run (default 20)")
    parser.add_argument("--short", action="store_true", help="run each for a second, and keep no result")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(1, 1) if options.short else measure(options.rounds, options.seconds))
    if not options.short:
        write("distribution", result)
    print()
    for values, stored in result["stored_per_second"].items():
        stages = "  ".join(f"{stage} {cpu}" for stage, cpu in result["cpu_us_per_event"][values].items())
        share = result["of_publisher"][values]
        print(f"{values:14} {stored:9,} events stored per second, {share:4.0%}; CPU µs per event: {stages}")


if __name__ == "__main__":
    main()
