"""The whole pipeline at saturation, beside what the same machine's PostgreSQL can take at most.

    python -m bench.pipeline [--rounds 3] [--posts 30]

Each round measures both, one after the other, on the same servers:

- pipeline: prepared bodies are posted as fast as the gateway takes them, until all of them are stored; publisher,
  gateway, NATS, collectors and PostgreSQL share the machine's cores.
- limit: rows of the same load, encoded before the clock starts, through receipts, staging, merge and rollups, by one
  connection at a time, in batches of 20,000, with nothing else to do.

Its own weakness: the publisher takes its share of the cores, and a round is short beside PostgreSQL's checkpoints.
Medians of the rounds and their ratio go to bench/results/pipeline.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from bench.bodies import Bodies
from bench.machine import describe
from collector.batch import Entry
from collector.fetch import Message
from collector.parse import Parser, python_parser
from collector.parsers import choose
from collector.sources import SOURCES
from collector.store import Store
from core import jetstream, postgres
from core.events import wire
from core.events.contract import Contract
from core.lifecycle import collect_garbage_rarely
from core.logs import configure
from core.settings import CollectorSettings
from ops.ledger import until_stored
from ops.local import Servers
from ops.local.services import Services, publisher, start_services

RESULT: Final = Path(__file__).parent / "results" / "pipeline.json"
BATCH_ROWS: Final = 20_000
MESSAGE_ROWS: Final = 1_000
LIMIT_BATCHES: Final = 20
MEASURED: Final = ("facebook", "tiktok")


async def run(rounds: int, posts: int) -> dict[str, Any]:
    """Measure; the result as JSON types."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        async with Servers(Path(folder)) as servers:
            services = await start_services(servers)
            connection = await postgres.connect(servers.owner_dsn, name="bench")
            pipeline, limit = [], []
            for number in range(1, rounds + 1):
                pipeline.append(await _pipeline(servers, services, posts, seed=number))
                print(f"round {number}: pipeline {pipeline[-1]:9,.0f} events stored a second", flush=True)
                limit.append(await _limit(servers, seed=number))
                print(f"round {number}: limit    {limit[-1]:9,.0f} rows a second", flush=True)
            machine = await describe(connection)
            await connection.close()
    return {
        **machine,
        "settings": {
            "rounds": rounds,
            "posts": posts,
            "events_a_post": "1,000-50,000",
            "batch_rows": BATCH_ROWS,
            "parser": choose("auto", SOURCES["facebook"], _contract())[0],
        },
        "stored_per_second": round(median(pipeline)),
        "limit_rows_per_second": round(median(limit)),
        "pipeline_of_limit": round(median(one / other for one, other in zip(pipeline, limit, strict=True)), 3),
        "rounds": {"stored_per_second": [round(one) for one in pipeline], "limit": [round(one) for one in limit]},
    }


async def _pipeline(servers: Servers, services: Services, posts: int, seed: int) -> float:
    """Events stored a second, from the first POST until the streams are empty."""
    counts = servers.folder / "publisher.json"
    program = publisher(
        services.endpoint, "--quiet", "--json", str(counts), "--seed", f"pipeline-{seed}",
        "--prepare", str(posts), "--every", "0", "--concurrency", "2", "--wait", "120",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *program.argv, env={**os.environ, **program.env}, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()  # told when all bodies are prepared and the first is about to leave
    started = time.monotonic()
    await process.stdout.read()
    if await process.wait() != 0:
        raise SystemExit("the publisher failed")
    client = await jetstream.connect(servers.nats_url, name="bench")
    try:
        if await until_stored(client, seconds=600):
            raise SystemExit("not everything was stored")
    finally:
        await client.close()
    seconds = time.monotonic() - started
    sent = orjson.loads(counts.read_bytes())
    if sent["answered"] != {"202": posts}:
        raise SystemExit(f"not every POST was answered 202: {sent['answered']} {sent['failures']}")
    return float(sent["accepted"]) / seconds


async def _limit(servers: Servers, seed: int) -> float:
    """Rows a second of the storing transaction alone."""
    contract = _contract()
    stores: dict[str, Store] = {}
    batches: dict[str, list[list[Entry]]] = {}
    for name in MEASURED:
        parse = python_parser(SOURCES[name], contract)
        stores[name] = Store(servers.collector_dsn, SOURCES[name], parse)
        batches[name] = list(_batches(name, parse, seed))
        await stores[name].save(batches[name].pop())  # connects and fills the caches
    stored = 0
    started = time.monotonic()
    while any(batches.values()):
        for name in MEASURED:
            stored += (await stores[name].save(batches[name].pop())).stored
    seconds = time.monotonic() - started
    for store in stores.values():
        await store.close()
    return stored / seconds


def _contract() -> Contract:
    defaults = CollectorSettings()
    return Contract(max_age_days=defaults.max_event_age_days, max_ahead_seconds=defaults.max_event_ahead_seconds)


def _batches(source: str, parse: Parser, seed: int) -> Iterator[list[Entry]]:
    """Batches of encoded rows of one source, of messages that no stream ever held."""
    bodies = Bodies(f"limit-{seed}", corrupt_share=0)
    numbers = count(seed * 10_000_000)
    lines: list[bytes] = []
    mark = f'"source":"{source}"'.encode()
    for _ in range(LIMIT_BATCHES // 2 + 1):
        while len(lines) < BATCH_ROWS:
            body = bodies.body(BATCH_ROWS).content
            lines += [bytes(event) for event in _events(body) if mark in event]
        batch, lines = lines[:BATCH_ROWS], lines[BATCH_ROWS:]
        now = datetime.now(UTC)
        entries = []
        for start in range(0, BATCH_ROWS, MESSAGE_ROWS):
            part = wire.Part("limit", None, now.isoformat(), MESSAGE_ROWS)
            body = wire.encode([part], batch[start : start + MESSAGE_ROWS])
            message = Message(body, next(numbers), now, MESSAGE_ROWS, first_delivery=True, reply="")
            entries.append(Entry(message, parse(body, message.sequence)))
        yield entries


def _events(body: bytes) -> list[bytes]:
    """The events of a JSON array, one by one."""
    return [orjson.dumps(event) for event in orjson.loads(body)]


def main() -> None:
    """Run the benchmark, print its figures and keep them."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured (default 3)")
    parser.add_argument("--posts", type=int, default=30, help="bodies of a round, 25,500 events each on average")
    parser.add_argument("--no-result", action="store_true", help="print only, leave the kept result as it is")
    options = parser.parse_args()
    collect_garbage_rarely()
    configure("bench", "warning")
    result = asyncio.run(run(options.rounds, options.posts))
    if not options.no_result:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"\nstored by the whole pipeline   {result['stored_per_second']:9,} events a second\n"
        f"limit of one connection        {result['limit_rows_per_second']:9,} rows a second\n"
        f"pipeline of limit              {result['pipeline_of_limit']:9.0%}"
    )


if __name__ == "__main__":
    main()
