"""Measure the cost of storing in PostgreSQL: direct, staged and bare COPY, side by side.

    python -m bench.store [--rounds 5] [--short]

One connection stores batches of 20,000 facebook rows, encoded before the measurement, in messages of 1,000. A batch
spans one second of events. fsync, full_page_writes and synchronous_commit are on. Each round, one after the other:

- staged: receipts, staging, merge and rollups: the *limit*.
- direct: receipts, COPY into the leaf, rollups from the parser's counts.
- bare: only COPY into the leaf with its primary key, one transaction per batch: the *ceiling*.

Then, for several shares of repeated rows: the path that the collector selects (`selected`) and the staged path alone,
with the size of the leaf afterwards. Medians: bench/results/store.json. `cpu` is the backend's CPU time, which other
load disturbs less than elapsed time. Weakness: all batches have the same texts except the ids, and tables are empty at
the start of each run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, NamedTuple

import orjson
import psutil

from bench.machine import describe
from bench.publisher.events import RandomValues, make
from bench.system import empty_tables
from collector.message import Message
from collector.parse.parsed import Parsed, Rows
from collector.parse.pg_copy import HEADER, TRAILER
from collector.parse.python import python_parser
from collector.parse.row import copied_columns
from collector.sources import SOURCES
from collector.store.batch import Entry, WritePath
from collector.store.store import Store
from collector.store.write import DirectCopyBackoff, leaf
from core import postgres
from core.events import wire
from core.events.contract import Contract
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from core.postgres import Connection
from ops.local import Servers

RESULT: Final = Path(__file__).parent / "results" / "store.json"
SOURCE: Final = SOURCES["facebook"]
BATCH_ROWS: Final = 20_000
MESSAGE_ROWS: Final = 1_000
SHARES: Final = (0.0, 0.00001, 0.0001, 0.01, 1.0)
NOON: Final = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
MARK: Final = b"@@@@"  # placeholder in each id for the batch's number
SEQUENCE: Final = int.from_bytes(b"@SEQ_NO@")


class Run(NamedTuple):
    """One run: rows stored per second, and the backend's CPU time in microseconds per row."""

    rows_per_second: float
    cpu: float


class Staged(DirectCopyBackoff):
    """Always selects the staged path."""

    def next_path(self) -> WritePath:
        return WritePath.STAGED


class Load:
    """Generates batches from one template: new ids, instants one second later, and a share of rows of batch 0."""

    def __init__(self, seed: str) -> None:
        rng = Random(seed)
        parse = python_parser(SOURCE, Contract(max_age_days=7, max_ahead_seconds=3600))
        self._numbers = count(1)
        self._rng = rng
        self._templates: list[Parsed] = []
        self.day = 0
        moment = NOON.timestamp()
        fresh = RandomValues(rng, lambda: moment)
        for start in range(0, BATCH_ROWS, MESSAGE_ROWS):
            lines: list[bytes] = []
            while len(lines) < MESSAGE_ROWS:
                moment = NOON.timestamp() + (start + len(lines)) / BATCH_ROWS
                event = make(rng, fresh)
                if event["source"] == SOURCE.name:
                    event["eventId"] = f"fb-{MARK.decode()}" + event["eventId"][7:]
                    lines.append(orjson.dumps(event))
            part = wire.Part("bench", None, datetime.now(UTC).isoformat(), MESSAGE_ROWS)
            self._templates.append(parse(wire.encode([part], lines), SEQUENCE))
            (self.day,) = self._templates[-1].days
        self._rows = [_rows(template.days[self.day].copy) for template in self._templates]

    def batch(self, number: int, repeats: float = 0.0) -> list[Entry]:
        """Return the batch of this number. Each row is a row of batch 0 with the probability `repeats`."""
        entries = []
        for template, positions in zip(self._templates, self._rows, strict=True):
            sequence = next(self._numbers)
            rows = bytearray(template.days[self.day].copy.replace(b"@SEQ_NO@", struct.pack(">q", sequence)))
            for at, mark, instant in positions:
                stored = number and self._rng.random() < repeats
                rows[mark : mark + 4] = b"%04d" % (0 if stored else number)
                struct.pack_into(">q", rows, at, instant + (0 if stored else number * 1_000_000))
            now = datetime.now(UTC)
            parsed = template._replace(days={self.day: Rows(MESSAGE_ROWS, bytes(rows))})
            entries.append(Entry(Message(b"", sequence, now, MESSAGE_ROWS, first_delivery=True, reply=""), parsed))
        return entries


def _rows(copy: bytes) -> list[tuple[int, int, int]]:
    """Return the offsets of each row's instant and of the mark in its id, and the instant. event_time comes first."""
    marks = [match.start() for match in re.finditer(MARK, copy)]
    positions, at = [], 0
    for mark in marks:
        positions.append((at + 6, mark, struct.unpack_from(">q", copy, at + 6)[0]))
        for _ in range(struct.unpack_from(">h", copy, at)[0]):
            at += 4 + max(0, struct.unpack_from(">i", copy, at + 2)[0])
        at += 2
    return positions


class Bench:
    """Runs the benchmark on one database."""

    def __init__(self, servers: Servers, owner: Connection, load: Load) -> None:
        self._dsn = servers.collector_dsn
        self._owner = owner
        self._load = load
        assert SOURCE.table is not None
        self._table = SOURCE.table
        self.leaf = leaf(SOURCE, load.day)

    async def run(self, path: str, batches: int, repeats: float = 0.0) -> Run:
        """Store that many batches into empty tables, after one that is not measured."""
        await empty_tables(self._owner, [self._table])
        await self._owner.execute("CHECKPOINT")
        store = Store(self._dsn, SOURCE, lambda *_: NotImplemented)
        if path == "staged":
            store.direct_backoff = Staged()
        save: Callable[[list[Entry]], Awaitable[Any]] = store.save
        connection = None
        if path == "bare":
            connection = await postgres.connect(self._dsn, name="bench")
            save = self._bare(connection)
        await save(self._load.batch(0))
        connection = connection or store._connection
        assert connection is not None
        backend = psutil.Process(connection.get_server_pid())
        seconds, before = 0.0, backend.cpu_times()
        for number in range(1, batches + 1):
            batch = self._load.batch(number, repeats)
            started = time.perf_counter()
            await save(batch)
            seconds += time.perf_counter() - started
        after = backend.cpu_times()
        await (store.close() if connection is store._connection else connection.close())
        cpu = after.user + after.system - before.user - before.system
        return Run(batches * BATCH_ROWS / seconds, cpu / batches / BATCH_ROWS * 1e6)

    def _bare(self, connection: Connection) -> Callable[[list[Entry]], Awaitable[None]]:
        async def save(entries: list[Entry]) -> None:
            rows = [HEADER, *(entry.parsed.days[self._load.day].copy for entry in entries), TRAILER]
            source = _stream(rows)
            await connection.copy_to_table(self.leaf, source=source, columns=copied_columns(SOURCE), format="binary")

        return save

    async def leaf_size(self) -> dict[str, int]:
        """Return the leaf's rows, dead rows, and bytes of table and indexes, after the last run."""
        await asyncio.sleep(0.5)  # a backend reports its statistics when it ends
        row = await self._owner.fetchrow(
            "SELECT (SELECT count(*) FROM " + self.leaf + ") AS rows, n_dead_tup AS dead_rows, "
            "pg_relation_size(relid) AS table_bytes, pg_indexes_size(relid) AS index_bytes "
            "FROM pg_stat_user_tables WHERE relname = $1",
            self.leaf,
        )
        return dict(row) if row else {}


async def _stream(rows: list[bytes]) -> Any:
    for buffer in rows:
        yield buffer


async def measure(rounds: int, *, short: bool) -> dict[str, Any]:
    """Run the benchmark. Return the result as JSON types."""
    batches, repeated = (2, 2) if short else (10, 40)
    shares = (0.0, 0.01) if short else SHARES
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - PostgreSQL may have to run as another user
        async with Servers(Path(folder) / "stack") as servers:
            await postgres.migrate(servers.owner_dsn)
            owner = await postgres.connect(servers.dsn("postgres", "sluice"), name="bench")
            print("generating events …", flush=True)
            load = Load("store")
            bench = Bench(servers, owner, load)
            await owner.execute("SELECT ensure_partition($1, $2)", SOURCE.table, NOON.date())
            await owner.execute(f"ALTER TABLE {bench.leaf} SET (autovacuum_enabled = false)")
            paths: dict[str, list[Run]] = {"staged": [], "direct": [], "bare": []}
            for number in range(1, rounds + 1):
                for path, runs in paths.items():
                    runs.append(await bench.run(path, batches))
                    print(f"round {number}: {path:7} {_format_run(runs[-1])}", flush=True)
            table = [await _measure_repeats(bench, share, (rounds + 1) // 2, repeated) for share in shares]
            machine = await describe(owner)
            await owner.close()
    limit, direct, ceiling = (
        median(run.rows_per_second for run in paths[path]) for path in ("staged", "direct", "bare")
    )
    return {
        **machine,
        "settings": {"rounds": rounds, "batches": batches, "batch_rows": BATCH_ROWS, "repeat_batches": repeated},
        "limit_rows_per_second": round(limit),
        "direct_rows_per_second": round(direct),
        "ceiling_rows_per_second": round(ceiling),
        "direct_of_limit": _ratio(paths["direct"], paths["staged"]),
        "direct_of_ceiling": _ratio(paths["direct"], paths["bare"]),
        "backend_cpu_us_per_row": {path: round(median(run.cpu for run in runs), 2) for path, runs in paths.items()},
        "repeats": table,
    }


async def _measure_repeats(bench: Bench, share: float, rounds: int, batches: int) -> dict[str, Any]:
    """Measure the selected and the staged path at one share of repeats."""
    selected, staged = [], []
    left: dict[str, dict[str, int]] = {}
    for _ in range(rounds):
        selected.append(await bench.run("direct", batches, share))
        left["selected"] = await bench.leaf_size()
        staged.append(await bench.run("staged", batches, share))
        left["staged"] = await bench.leaf_size()
        print(
            f"repeats {share:8.3%}: selected {_format_run(selected[-1])}   staged {_format_run(staged[-1])}", flush=True
        )
    return {
        "share": share,
        "selected_rows_per_second": round(median(run.rows_per_second for run in selected)),
        "staged_rows_per_second": round(median(run.rows_per_second for run in staged)),
        "selected_of_staged": _ratio(selected, staged),
        "backend_cpu_us_per_row": {
            "selected": round(median(run.cpu for run in selected), 2),
            "staged": round(median(run.cpu for run in staged), 2),
        },
        "left_behind": left,
    }


def _ratio(runs: list[Run], others: list[Run]) -> float:
    pairs = zip(runs, others, strict=True)
    return round(median(run.rows_per_second / other.rows_per_second for run, other in pairs), 3)


def _format_run(run: Run) -> str:
    return f"{run.rows_per_second:9,.0f} rows/s, {run.cpu:5.2f} µs backend CPU per row"


def main() -> None:
    """Run the benchmark, print its result and save it."""
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="run each for a moment, and keep no result")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each path (default 5)")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(measure(1 if options.short else options.rounds, short=options.short))
    if not options.short:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"\nlimit (staged, rollups)    {result['limit_rows_per_second']:9,} rows per second\n"
        f"direct, rollups of parser  {result['direct_rows_per_second']:9,} rows per second\n"
        f"ceiling (bare COPY)        {result['ceiling_rows_per_second']:9,} rows per second"
    )


if __name__ == "__main__":
    main()
