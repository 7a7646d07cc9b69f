"""Measure reports at growing numbers of events, in comparison with GROUP BY over the partitions, and while storing.

    python -m bench.reports [--sizes 1M,10M,50M | --short]

For each size, on one database that is filled step by step:

- the typical and the worst supported query of each report, by 16 readers in a closed loop;
- the typical queries again, all distinct: concurrent requests for the same report share one query, these do not;
- campaigns, cities and the audience by type over 30 days, answered from breakdowns, by 4 readers;
- the typical results by GROUP BY over the partitions and by the report, one reader each: the ratio. Both must be equal.

The breakdowns are measured again on databases with 2,000 campaigns and 20,000 cities (Zipf's law) instead of the
publisher's nearly unique values. Half of their ranges are whole days, the others are cut anywhere.

At the largest size, while the publisher posts as fast as possible: 16 readers with one request per second each, and the
events stored per second with and without them.

The reporter has a higher CPU priority, as in docker-compose (`cpu_shares`).

Weakness: readers, reporter, PostgreSQL and publisher share the machine's cores. The figures are the reporter's
(Server-Timing); those of the readers are listed, too. Results: bench/results/reports.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.fill import NoRoom, check_room, fill
from bench.machine import describe
from bench.processes import raise_cpu_priority
from bench.readers import Latencies, Query, Reader, read
from bench.report_queries import BREAKDOWNS, DAYS, RNG, apart, breakdown, typical, whole_audience, worst
from core import jetstream, postgres
from core.logs import configure
from core.postgres import Connection
from core.sources import SOURCES
from ops.cli.arguments import amount
from ops.ledger import until_stored
from ops.local import Servers
from ops.local.services import Services, publisher, start_services
from sql import statements

RESULT: Final = Path(__file__).parent / "results" / "reports.json"
READERS: Final = 16
BREAKDOWN_READERS: Final = 4
BREAKDOWN_ANSWERS: Final = 200
ROUNDS: Final = 3  # of GROUP BY
PAIRS: Final = 6  # of runs with and without readers: single runs differ by a tenth
REPORTS: Final = ("events", "revenue", "demographics")
_SQL: Final = statements("bench_reports")
_ROWS: Final = "\nUNION ALL\n".join(
    _SQL["rows"].format(source=name, table=source.table, purchase=source.purchase.event_type)
    for name, source in SOURCES.items()
)


class Bench:
    """One run of the benchmark on running servers, with its progress bars."""

    def __init__(self, servers: Servers, services: Services, progress: Progress, *, short: bool) -> None:
        self.servers, self.services, self.progress = servers, services, progress
        self.answers, self.seconds, self.readers = (12, 3.0, 2) if short else (3_000, 20.0, READERS)
        self.rounds, self.pairs, self.posts = (1, 1, 2) if short else (ROUNDS, PAIRS, 30)

    async def size(self, connection: Connection, events: int) -> dict[str, Any]:
        """Measure all figures at one size."""
        figures: dict[str, Any] = {"events": events, "database_bytes": await _bytes(connection)}
        for name, draw in (("typical", typical), ("apart", apart), ("worst", worst)):
            figures[name] = {
                report: (await self._read(f"{name} {report}", draw, report)).figures() for report in REPORTS
            }
        figures["whole_audience"] = (await self._read("whole audience", whole_audience, "")).figures()
        figures["breakdowns"] = await self.breakdowns()
        figures["group_by"] = {report: await self._beside_group_by(connection, report) for report in REPORTS}
        return figures

    async def breakdowns(self) -> dict[str, Any]:
        """Measure the queries that breakdowns answer."""
        return {
            label: (
                await self._read(label, breakdown, label, readers=BREAKDOWN_READERS, answers=BREAKDOWN_ANSWERS)
            ).figures()
            for label in BREAKDOWNS
        }

    async def while_storing(self) -> dict[str, Any]:
        """Measure reports with one request per second and reader, at rest and while collectors store at full speed."""
        never, idle, busy = asyncio.Event(), Latencies(), Latencies()
        alone: list[int] = []
        together: list[int] = []
        for pair in range(self.pairs):
            idle.add(await self._paced("once a second, at rest", self.seconds / self.pairs, never))
            for with_readers in (pair % 2 == 0, pair % 2 == 1):  # in turning order, so that growth affects both alike
                if not with_readers:
                    alone.append(await self._store())
                    continue
                done = asyncio.Event()
                reading = asyncio.create_task(self._paced("once a second, while storing", 600.0, done))
                together.append(await self._store())
                done.set()
                busy.add(await reading)
        at_rest, storing = idle.figures(), busy.figures()
        return {
            "at_rest": at_rest,
            "while_storing": storing,
            "slower_p50": round(storing["p50_ms"] / at_rest["p50_ms"], 2),
            "slower_p99": round(storing["p99_ms"] / at_rest["p99_ms"], 2),
            "stored_per_second": alone,
            "stored_per_second_with_readers": together,
            "stored_lower": round(1 - median(together) / median(alone), 3),
        }

    async def _read(
        self,
        label: str,
        draw: Callable[[str], Query],
        name: str,
        *,
        readers: int | None = None,
        answers: int | None = None,
    ) -> Latencies:
        answers = min(answers or self.answers, self.answers)
        with self.bar(label, answers) as advance:
            return await read(
                self.services.reports,
                lambda: draw(name),
                readers=min(readers or self.readers, self.readers),
                answers=answers,
                seconds=self.seconds,
                advance=advance,
            )

    async def _paced(self, label: str, seconds: float, stop: asyncio.Event) -> Latencies:
        with self.bar(label, None) as advance:
            return await read(
                self.services.reports,
                lambda: typical(RNG.choice(REPORTS)),
                readers=self.readers,
                answers=1_000_000,
                seconds=seconds,
                every_seconds=1.0,
                stop=stop,
                advance=advance,
            )

    async def _beside_group_by(self, connection: Connection, report: str) -> dict[str, Any]:
        """Measure the typical query as a report and by GROUP BY. Raises AssertionError if the results differ."""
        query = typical(report)
        bounds = [datetime.fromisoformat(query.parameters[name]) for name in ("from", "to")]
        facebook = SOURCES["facebook"].table
        plain_statement = _SQL[report].format(rows=_ROWS, table=facebook, dimension="gender")
        plain_ms, report_ms = [], []
        reader = Reader(self.services.reports)
        with self.bar(f"{report} by GROUP BY", self.rounds) as advance:
            for _ in range(self.rounds):
                began = time.perf_counter()
                rows = await connection.fetch(plain_statement, *bounds)
                plain_ms.append((time.perf_counter() - began) * 1000)
                advance()
            for _ in range(20):
                milliseconds, body = await reader.get(query)
                report_ms.append(milliseconds)
        reader.close()
        counted, reported = sum(row["figure"] for row in rows), _figures(report, orjson.loads(body))
        if counted != reported:
            raise AssertionError(f"{report}: the report has {reported}, the partitions have {counted}")
        return {
            "group_by_ms": round(median(plain_ms), 1),
            "report_ms": round(median(report_ms), 2),
            "speedup": round(median(plain_ms) / median(report_ms), 1),
            "events": counted,
        }

    async def _store(self) -> int:
        """Return the events stored per second, from the first POST until the streams are empty."""
        counts = self.servers.folder / "publisher.json"
        program = publisher(
            self.services.endpoint, "--quiet", "--json", str(counts), "--seed", f"reports-{time.time_ns()}",
            "--prepare", str(self.posts), "--every", "0", "--concurrency", "2", "--wait", "120",
        )  # fmt: skip
        with self.bar("storing", 1) as advance:
            process = await asyncio.create_subprocess_exec(
                *program.argv, env={**os.environ, **program.env}, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            await process.stdout.readline()  # all bodies are prepared, posting begins
            began = time.monotonic()
            await process.stdout.read()
            if await process.wait() != 0:
                raise SystemExit("the publisher failed")
            client = await jetstream.connect(self.servers.nats_url, name="bench")
            try:
                if await until_stored(client, seconds=600):
                    raise SystemExit("not everything was stored")
            finally:
                await client.close()
            seconds = time.monotonic() - began
            advance()
        return round(float(orjson.loads(counts.read_bytes())["accepted"]) / seconds)

    @contextmanager
    def bar(self, label: str, total: int | None) -> Iterator[Callable[[], None]]:
        bar = self.progress.add_task(label, total=total)
        try:
            yield lambda: self.progress.advance(bar)
        finally:
            self.progress.remove_task(bar)


def _figures(report: str, answer: dict[str, Any]) -> int:
    """Return the sum of the counts in a report."""
    if report == "demographics":
        return sum(share["events"] for row in answer["rows"] for share in row.get("gender", ()))
    return int(answer["totals"]["events" if report == "events" else "purchases"])


async def _bytes(connection: Connection) -> int:
    size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
    return size


async def run(sizes: Sequence[int], *, short: bool) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    figures: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    zipf = await _zipf(sizes, short=short)
    async with _started(short=short) as (bench, connection):
        async for stored, fill_seconds in _grow(bench, connection, sizes, left_out):
            figures.append({**await bench.size(connection, stored), "fill_seconds": round(fill_seconds)})
            bench.progress.console.print(_line(figures[-1]))
        storing = await bench.while_storing()
        machine = await describe(connection)
    return {
        **machine,
        **_summary(figures, zipf),
        "sizes": figures,
        "breakdowns_zipf": zipf,
        "left_out": left_out,
        "while_storing": storing,
    }


async def _zipf(sizes: Sequence[int], *, short: bool) -> list[dict[str, Any]]:
    """Measure the breakdowns with values that return by Zipf's law, on a database of its own."""
    measured = []
    async with _started(short=short) as (bench, connection):
        async for stored, _ in _grow(bench, connection, sizes, {}, values="many"):
            measured.append({"events": stored, **await bench.breakdowns()})
            bench.progress.console.print(_breakdowns_line(measured[-1]))
    return measured


@asynccontextmanager
async def _started(*, short: bool) -> AsyncIterator[tuple[Bench, Connection]]:
    """Start servers and services on an empty database. Yield the benchmark and a connection as the owner."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, Progress(*columns) as progress:
        async with Servers(Path(folder)) as servers:
            services = await start_services(
                servers, {**os.environ, "LOG_LEVEL": "warning", "REPORTER_CONNECTIONS": str(READERS)}
            )
            raise_cpu_priority(servers.supervisor.pid("reporter"))
            connection = await postgres.connect(servers.owner_dsn, name="bench")
            yield Bench(servers, services, progress, short=short), connection
            await connection.close()


async def _grow(
    bench: Bench, connection: Connection, sizes: Sequence[int], left_out: dict[str, str], values: str = "publisher"
) -> AsyncIterator[tuple[int, float]]:
    """Fill the database to each size in turn. Yield the stored events and the seconds of filling.

    A size that the disk has no room for is skipped, with the reason in `left_out`.
    """
    stored = 0
    for size in sizes:
        try:
            check_room(bench.servers.folder, size - stored)
        except NoRoom as error:
            left_out[f"{size}"] = str(error)
            bench.progress.console.print(f"skipped: {error}")
            continue
        began = time.monotonic()
        stored += (await fill(bench.servers.owner_dsn, size - stored, DAYS, values=values)).total()
        fill_seconds = time.monotonic() - began
        with bench.bar("vacuum", None):  # otherwise autovacuum would run during the measurement
            await connection.execute("VACUUM (ANALYZE)")
        yield stored, fill_seconds


def _breakdowns_line(figures: dict[str, Any]) -> str:
    parts = [f"{label} {figures[label]['p50_ms']} / {figures[label]['p99_ms']} ms" for label in BREAKDOWNS]
    return f"{figures['events']:,} events (Zipf), p50 / p99: " + "; ".join(parts)


def _summary(figures: Sequence[dict[str, Any]], zipf: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures to quote: those of the largest size and the slowest report."""
    first, last = figures[0], figures[-1]
    return {
        "settings": {
            "days": DAYS,
            "readers": READERS,
            "readers_of_breakdowns": BREAKDOWN_READERS,
            "reporter_connections": READERS,
        },
        "largest_events": last["events"],
        "typical_p50_ms": max(last["typical"][report]["p50_ms"] for report in REPORTS),
        "typical_p99_ms": max(last["typical"][report]["p99_ms"] for report in REPORTS),
        "breakdowns_p99_ms": max(of["p99_ms"] for of in last["breakdowns"].values()),
        "breakdowns_zipf_p99_ms": max((zipf[-1][label]["p99_ms"] for label in BREAKDOWNS), default=0.0),
        "worst_p99_ms": max(last["worst"][report]["p99_ms"] for report in REPORTS),
        "growth": max(
            round(last["typical"][report]["p99_ms"] / first["typical"][report]["p99_ms"], 2) for report in REPORTS
        ),
        "speedup_over_group_by": min(last["group_by"][report]["speedup"] for report in REPORTS),
    }


def _line(size: dict[str, Any]) -> str:
    parts = [
        f"{report} {size['typical'][report]['p50_ms']} / {size['typical'][report]['p99_ms']} ms "
        f"({size['group_by'][report]['speedup']:,.0f} x GROUP BY), p99 apart {size['apart'][report]['p99_ms']}, "
        f"worst {size['worst'][report]['p99_ms']}"
        for report in REPORTS
    ]
    return f"{size['events']:,} events, p50 / p99: " + "; ".join(parts)


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.reports", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1M,10M,50M", help="numbers of stored events, comma separated")
    parser.add_argument("--short", action="store_true", help="measure briefly with 20,000 events, and keep no result")
    parser.add_argument("--result", type=Path, default=RESULT, help="file for the result")
    options = parser.parse_args()
    configure("bench", "warning")
    sizes = [20_000] if options.short else sorted(amount(text) for text in options.sizes.split(","))
    result = asyncio.run(run(sizes, short=options.short))
    if not options.short:
        options.result.write_text(json.dumps(result, indent=2) + "\n")
    for name in (
        "largest_events",
        "typical_p50_ms",
        "typical_p99_ms",
        "breakdowns_p99_ms",
        "breakdowns_zipf_p99_ms",
        "worst_p99_ms",
        "growth",
        "speedup_over_group_by",
    ):
        print(f"{name:<24}{result[name]:>12,}")
    storing = result["while_storing"]
    print(
        f"while storing: report latency {storing['slower_p50']} x (p50), {storing['slower_p99']} x (p99), "
        f"{storing['stored_lower']:.1%} fewer events stored per second"
    )


if __name__ == "__main__":
    main()
