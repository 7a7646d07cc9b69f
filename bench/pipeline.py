"""The whole pipeline at saturation, beside what the same machine's PostgreSQL can take at most.

    python -m bench.pipeline [--rounds 3] [--seconds 60] [--short]

Each round measures three things, one after the other, on the same servers and into empty tables:

- pipeline: bodies of 1,000 to 50,000 events are posted as fast as the gateway takes them, across a checkpoint, until
  all of them are stored. Publisher, gateway, NATS, collectors and PostgreSQL share the machine's cores.
- limit: encoded rows through receipts, staging, merge and rollups, by one connection.
- ceiling: the same rows by COPY into the keyed partition, and nothing else.

A round on a machine that is held up (limit under 60,000 rows a second, or ceiling under 120,000) is repeated; where
that does not help either, the result says `quotable: false`. Medians go to bench/results/pipeline.json.

Its own weakness: the publisher makes its bodies on the same cores (`publisher` in the table of CPU), and limit and
ceiling are each one connection's, where the pipeline stores over two.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import Any, Final

from bench.machine import describe
from bench.result import write
from bench.store import NOON, SOURCE, Bench, Load
from bench.system import System, running
from collector.settings import CollectorSettings
from core.lifecycle import collect_garbage_rarely
from core.logs import configure

LEAST_LIMIT: Final = 60_000
LEAST_CEILING: Final = 120_000
REPEATED_MOST: Final = 1


async def measure(rounds: int, seconds: float, batches: int, repeated_most: int) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    kept: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    async with running() as system:
        print("making events …", flush=True)
        bench = Bench(system.servers, system.owner, Load("pipeline"))
        await system.owner.execute("SELECT ensure_partition($1, $2)", SOURCE.table, NOON.date())
        while len(kept) < rounds:
            one = await _round(system, bench, seconds, batches, seed=len(kept) + len(left_out))
            held_up = one["limit_rows_per_second"] < LEAST_LIMIT or one["ceiling_rows_per_second"] < LEAST_CEILING
            again = held_up and len(left_out) < repeated_most
            (left_out if again else kept).append(one)
            print(f"round {len(kept)}: {_told(one)}{'   the machine is held up: repeated' * again}", flush=True)
        machine = await describe(system.owner)

    def middle(name: str) -> float:
        return float(median(one[name] for one in kept))

    return {
        **machine,
        "settings": {
            "rounds": rounds,
            "seconds": seconds,
            "batches": batches,
            "events_a_post": "1,000-50,000",
            "batch_rows": CollectorSettings().collector_batch_rows,
        },
        "quotable": middle("limit_rows_per_second") >= LEAST_LIMIT
        and middle("ceiling_rows_per_second") >= LEAST_CEILING,
        "stored_per_second": round(middle("stored_per_second")),
        "limit_rows_per_second": round(middle("limit_rows_per_second")),
        "ceiling_rows_per_second": round(middle("ceiling_rows_per_second")),
        "pipeline_of_limit": round(median(one["stored_per_second"] / one["limit_rows_per_second"] for one in kept), 3),
        "pipeline_of_ceiling": round(
            median(one["stored_per_second"] / one["ceiling_rows_per_second"] for one in kept), 3
        ),
        "cpu_us_per_event": {
            stage: round(median(one["cpu_us_per_event"][stage] for one in kept), 2)
            for stage in kept[0]["cpu_us_per_event"]
        },
        "rounds": kept,
        "left_out": left_out,
    }


async def _round(system: System, bench: Bench, seconds: float, batches: int, seed: int) -> dict[str, Any]:
    found = await saturate(system, seconds, f"pipeline-{seed}")
    limit = await bench.run("staged", batches)
    ceiling = await bench.run("bare", batches)  # empties the tables before
    await system.owner.execute(f"TRUNCATE {SOURCE.table}")
    return {
        **found,
        "limit_rows_per_second": round(limit.rows_per_second),
        "ceiling_rows_per_second": round(ceiling.rows_per_second),
    }


async def saturate(system: System, seconds: float, seed: str, values: str = "publisher") -> dict[str, Any]:
    """Events stored a second, from the first POST until the streams are empty, and the CPU of each stage.

    values is a distribution of `bench.publisher.values`.
    """
    await system.owner.execute("TRUNCATE tiktok_events")
    await system.owner.execute("CHECKPOINT")
    before = system.cpu_seconds()
    started = time.monotonic()
    checkpoint = asyncio.create_task(_checkpoint(system, seconds / 2))
    sent = await system.publish(
        *("--every", "0", "--concurrency", "3", "--seconds", str(seconds)),
        *("--wait", "120", "--seed", seed, "--values", values),
    )
    await checkpoint
    await system.until_stored()
    taken = time.monotonic() - started
    accepted = sent["accepted"]
    publisher = sent["cpu_us_per_event"]["build"] + sent["cpu_us_per_event"]["send"]
    return {
        "stored_per_second": round(accepted / taken),
        "events": accepted,
        "seconds": round(taken, 1),
        "cpu_us_per_event": {
            "publisher": round(publisher, 2),
            **{stage: round(1e6 * (cpu - before[stage]) / accepted, 2) for stage, cpu in system.cpu_seconds().items()},
        },
    }


async def _checkpoint(system: System, seconds: float) -> None:
    """A checkpoint in the middle of the run, as fast as it goes."""
    await asyncio.sleep(seconds)
    await system.owner.execute("CHECKPOINT")


def _told(one: dict[str, Any]) -> str:
    stages = "  ".join(f"{stage} {cpu}" for stage, cpu in one["cpu_us_per_event"].items())
    return (
        f"pipeline {one['stored_per_second']:,}/s of limit {one['limit_rows_per_second']:,} and ceiling "
        f"{one['ceiling_rows_per_second']:,}; CPU µs an event: {stages}"
    )


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often all are measured (default 3)")
    parser.add_argument("--seconds", type=float, default=60, help="how long a round posts (default 60)")
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    if options.short:
        result = asyncio.run(measure(1, 1, 1, repeated_most=0))
    else:
        result = asyncio.run(measure(options.rounds, options.seconds, 10, REPEATED_MOST))
        write("pipeline", result)
    print(
        f"\nstored by the whole pipeline   {result['stored_per_second']:9,} events a second\n"
        f"limit (staged, rollups)        {result['limit_rows_per_second']:9,} rows a second\n"
        f"ceiling (bare COPY)            {result['ceiling_rows_per_second']:9,} rows a second\n"
        f"pipeline of limit              {result['pipeline_of_limit']:9.0%}\n"
        f"pipeline of ceiling            {result['pipeline_of_ceiling']:9.0%}"
    )


if __name__ == "__main__":
    main()
