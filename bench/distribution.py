"""The whole pipeline at saturation, with values as the publisher draws them, by Zipf's law, and one for all events.

    python -m bench.distribution [--rounds 3] [--seconds 20] [--short]

Each round runs the distributions of `bench.publisher.values` one after the other, on the same servers and into empty
tables: bodies of 1,000 to 50,000 events are posted as fast as the gateway takes them, until all are stored.
`of_publisher` is the median of events stored a second, as a share of the publisher's. With other campaigns alone
(zipf-campaigns, one-campaign) bodies, rows and rollups are as large as the publisher's: the three are to be within 10
% of each other. No distribution may be slower than that. Results go to bench/results/distribution.json.

Its own weakness: if all values return (zipf, one), bodies are cheaper to build and rollups have fewer rows, so more
events are stored; and the tables are small. `tests/integration/test_any_distribution.py` counts the pages that an
insert touches as a day fills.
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
    """Measure; the result as JSON types."""
    runs: dict[str, list[dict[str, Any]]] = {values: [] for values in DISTRIBUTIONS}
    async with running() as system:
        for number in range(rounds):
            for values in DISTRIBUTIONS:
                await empty_tables(system.owner, [source.table for source in SOURCES.values()])
                one = await saturate(system, seconds, f"distribution-{number}", values)
                runs[values].append(one)
                print(f"round {number + 1}, {values}: {one['stored_per_second']:,} events stored a second", flush=True)
        machine = await describe(system.owner)
    stored = {values: round(median(one["stored_per_second"] for one in found)) for values, found in runs.items()}
    cpu = {
        values: {
            stage: round(median(one["cpu_us_per_event"][stage] for one in found), 2)
            for stage in found[0]["cpu_us_per_event"]
        }
        for values, found in runs.items()
    }
    return {
        **machine,
        "settings": {"rounds": rounds, "seconds": seconds, "events_a_post": "1,000-50,000"},
        "stored_per_second": stored,
        "of_publisher": {values: round(one / stored["publisher"], 3) for values, one in stored.items()},
        "cpu_us_per_event": cpu,
        "rounds": runs,
    }


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.distribution", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often all are measured (default 3)")
    parser.add_argument("--seconds", type=float, default=20, help="how long a run posts (default 20)")
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
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
        print(f"{values:14} {stored:9,} events stored a second, {share:4.0%}; CPU µs an event: {stages}")


if __name__ == "__main__":
    main()
