"""What counting breakdowns costs, what it takes from the pipeline, and how fast they are read.

    python -m bench.breakdowns [--sizes 1M,10M] [--rounds 5] [--short]

- count: CPU and time a row of counting a quarter-hour, by 2,000 campaigns and 20,000 cities (Zipf's law), and by
  the publisher's nearly unique ones.
- pipeline: events stored a second at saturation while collectors count a backlog, and while they do not, in turns.
- read: campaigns and cities of 29 days by the statement alone, as a session of the reporter plans it, with its CPU; and
  (`rows`) by a plain GROUP BY over the rows.

Its own weakness: publisher, collectors and PostgreSQL share the machine's cores, so the pipeline's rounds differ by
more than counting takes; and events spread evenly over 30 days make small quarter-hours. Medians go to
bench/results/breakdowns.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from bench.fill import fill
from bench.machine import describe
from bench.pipeline import saturate
from bench.result import kept, percentile, write
from bench.system import empty_tables, running
from collector.maintenance.breakdowns import BreakdownCounter
from core import postgres
from core.logs import configure
from core.postgres import Connection
from core.sources import SOURCES, SourceName
from ops.cli.arguments import amount
from ops.local import Servers
from reporter.breakdowns import read_statement
from reporter.database import open_pool
from reporter.read_plan import plan_reads
from reporter.settings import ReporterSettings
from sql import statements

DISTRIBUTIONS: Final = ("many", "publisher")
DAYS: Final = 30
TOP: Final = 20
_SQL: Final = statements("bench_breakdowns")


async def count(events: int) -> dict[str, Any]:
    """CPU and time of counting the quarter-hours of one hour, by distribution and source."""
    found: dict[str, Any] = {}
    async with _servers() as servers:
        owner = await postgres.connect(servers.dsn("postgres", "sluice"), name="bench")
        for values in DISTRIBUTIONS:
            await fill(servers.collector_dsn, events, 1 / 24, values=values, show=False, seed=values)
            await owner.execute("ANALYZE")
            for source in SOURCES:
                await owner.execute(_SQL["forget"])
                found[f"{values} {source}"] = await _count(servers.collector_dsn, source)
                print(f"count {values} {source}: {found[f'{values} {source}']}", flush=True)
            await empty_tables(owner, [source.table for source in SOURCES.values()])
        await owner.close()
    return found


async def _count(dsn: str, source: SourceName) -> dict[str, Any]:
    connection = await postgres.connect(dsn, name="bench")
    counter = BreakdownCounter(connection, source)
    backend = psutil.Process(connection.get_server_pid())
    cpu, seconds, rows = [], [], []
    while True:
        before, began = _cpu(backend), time.perf_counter()
        if (bucket := await counter.count_quarter(datetime.now(UTC))) is None:
            break
        events = await connection.fetchval(_SQL["counted"], source, bucket.start)
        cpu.append(1e6 * (_cpu(backend) - before) / events)
        seconds.append(1e6 * (time.perf_counter() - began) / events)
        rows.append(events)
    await connection.close()
    return {
        "rows_a_quarter": round(median(rows)),
        "cpu_us_per_row": round(median(cpu), 2),
        "us_per_row": round(median(seconds), 2),
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def pipeline(rounds: int, seconds: float, backlog: int) -> dict[str, Any]:
    """Events stored a second with and without counting, in turns, over a backlog that never ends."""
    stored: dict[str, list[int]] = {"counting": [], "not counting": []}
    cpu: dict[str, list[float]] = {name: [] for name in stored}
    counted = []
    async with running() as system:
        await fill(system.servers.collector_dsn, backlog, 1, values="publisher", show=False, seed="backlog")
        await saturate(system, min(seconds, 5), "warm-up")
        for number in range(rounds):
            for name in sorted(stored, reverse=bool(number % 2)):
                await system.owner.execute(_SQL["forget"])
                await system.owner.execute(_SQL["forget_truncated"])
                rest = timedelta(0) if name == "counting" else timedelta(days=1)
                for source in SOURCES:
                    await system.owner.execute(_SQL["pause_counting"], source, rest)
                one = await saturate(system, seconds, f"{name}-{number}")
                stored[name].append(one["stored_per_second"])
                cpu[name].append(sum(one["cpu_us_per_event"].values()))
                if name == "counting":
                    counted.append(await system.owner.fetchval(_SQL["quarters"]))
                print(
                    f"pipeline {name}: {one['stored_per_second']:,}/s, CPU {cpu[name][-1]:.2f} µs an event", flush=True
                )
    middle = {name: median(found) for name, found in stored.items()}
    return {
        "seconds": seconds,
        "stored_per_second": {name: round(found) for name, found in middle.items()},
        "counting_of_not_counting": round(middle["counting"] / middle["not counting"], 3),
        "median_of_pairs": round(median(a / b for a, b in zip(*stored.values(), strict=True)), 3),
        "cpu_us_per_event": {name: round(median(found), 2) for name, found in cpu.items()},
        "quarters_counted_a_round": round(median(counted)),
        "rounds": stored,
        "cpu_rounds": cpu,
    }


async def read(distributions: Sequence[str], sizes: list[int], times: int) -> dict[str, Any]:
    """Milliseconds of reading campaigns and cities of 30 days, by the number of events, values and breakdown."""
    found: dict[str, Any] = {}
    for values in distributions:
        async with _servers() as servers:
            filled = 0
            for size in sizes:
                await fill(
                    servers.collector_dsn, size - filled, DAYS, values=values, show=False, seed=f"{values}{size}"
                )
                filled = size
                owner = await postgres.connect(servers.dsn("postgres", "sluice"), name="bench")
                await owner.execute("VACUUM ANALYZE")
                for breakdown in ("campaign", "city"):
                    name = f"{values} {breakdown} {size:,}"
                    found[name] = await _read(servers, breakdown, times)
                    print(f"read {name}: {found[name]}", flush=True)
                found[f"{values} bytes {size:,}"] = dict(await owner.fetchrow(_SQL["bytes"]) or {})
                await owner.close()
    return found


async def _read(servers: Servers, breakdown: str, times: int) -> dict[str, Any]:
    statement = read_statement("facebook", breakdown, "revenue" if breakdown == "campaign" else "events")
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    taken = []
    async with (
        await open_pool(
            ReporterSettings(reporter_dsn=servers.reporter_dsn, reporter_statement_timeout_seconds=60)
        ) as pool,
        pool.acquire() as connection,
    ):
        backend = psutil.Process(connection.get_server_pid())
        before = _cpu(backend)
        for number in range(times):
            # Whole days, and ranges that are cut anywhere.
            end = midnight if number % 2 else now - timedelta(minutes=17 * number)
            bounds = (end - timedelta(days=DAYS - 1), end)
            plan = plan_reads(bounds, None, now)
            arrays = [list(column) for column in zip(*plan.ranges, strict=True)]
            began = time.perf_counter()
            await connection.fetch(
                statement, *arrays, list(plan.rounded_bounds),
                "facebook", breakdown, None, 1, TOP, 0, None, None,
            )  # fmt: skip
            taken.append(1e3 * (time.perf_counter() - began))
        cpu = 1e3 * (_cpu(backend) - before) / times
        began = time.perf_counter()
        column = {"campaign": "campaign_id", "city": "city"}[breakdown]
        await connection.fetch(_SQL["rows"].format(column=column), midnight - timedelta(days=DAYS - 1), midnight, TOP)
        rows = 1e3 * (time.perf_counter() - began)
    return {
        "p50_ms": round(median(taken), 1),
        "p99_ms": round(percentile(taken, 99), 1),
        "cpu_ms": round(cpu, 1),
        "rows_ms": round(rows, 1),
    }


@asynccontextmanager
async def _servers() -> AsyncIterator[Servers]:
    """Servers in a folder of their own, migrated."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - PostgreSQL may have to run as another user
        async with Servers(Path(folder) / "stack", environ={}) as servers:
            await postgres.migrate(servers.owner_dsn)
            yield servers


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    short = options.short
    result: dict[str, Any] = {}
    if "count" in options.only:
        result["count"] = await count(20_000 if short else 1_000_000)
    if "read" in options.only:
        result["read"] = await read(options.values, [10_000] if short else options.sizes, 3 if short else 100)
    if "pipeline" in options.only:
        result["pipeline"] = await pipeline(
            1 if short else options.rounds, 1 if short else 20, 10_000 if short else 2_000_000
        )
    async with _servers() as servers:
        connection: Connection = await postgres.connect(servers.owner_dsn, name="bench")
        machine = await describe(connection)
        await connection.close()
    return {**machine, **result}


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parts = ("count", "read", "pipeline")
    parser = argparse.ArgumentParser(prog="python -m bench.breakdowns", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=lambda text: [amount(size) for size in text.split(",")], default=[10**6, 10**7])
    parser.add_argument(
        "--values", nargs="+", choices=DISTRIBUTIONS, default=DISTRIBUTIONS, help="of the events to read"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the pipeline, with and without (default 5)")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="these parts; the others' results stay")
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
    options = parser.parse_args()
    configure("bench", "warning")
    result = asyncio.run(measure(options))
    if not options.short:
        before = kept("breakdowns")
        if "read" in result:
            result["read"] = before.get("read", {}) | result["read"]
        write("breakdowns", before | result)


if __name__ == "__main__":
    main()
