"""Cost of storing a batch of 20,000 rows in a real PostgreSQL, and of reports over those rows.

    python -m pytest bench/micro/test_storing.py

A round is one transaction, including its commit. Weakness: one connection, and a batch spans one second of events.
"""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.conftest import Stack
from bench.store import NOON, SOURCE, Staged, _stream
from collector.parse.pg_copy import HEADER, TRAILER
from collector.parse.row import copied_columns
from collector.store.store import Store
from collector.store.write import leaf
from core import postgres
from reporter.app import create_app
from reporter.database import open_pool
from reporter.settings import ReporterSettings

ROUNDS = 10
PERIOD = {"from": (NOON - timedelta(hours=1)).isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()}
REPORTS = {
    "events": {"groupBy": "source,funnelStage,eventType"},
    "revenue": {"groupBy": "source"},
    "demographics": {"source": "facebook"},
}
_numbers = count(1)  # every batch has a new number


@pytest.mark.parametrize("path", ["staged", "direct"])
def test_store_a_batch(benchmark: BenchmarkFixture, stack: Stack, path: str) -> None:
    """Store receipts, rows and rollups, by the staged or the direct path."""
    store = Store(stack.servers.collector_dsn, SOURCE, lambda *_: NotImplemented)
    if path == "staged":
        store.direct_backoff = Staged()
    _measure(benchmark, lambda batch: stack.runner.run(store.save(batch)), stack)
    stack.runner.run(store.close())


def test_copy_a_batch(benchmark: BenchmarkFixture, stack: Stack) -> None:
    """COPY into the leaf with its primary key, without anything else."""
    connection = stack.runner.run(postgres.connect(stack.servers.collector_dsn, name="bench"))
    table, columns = leaf(SOURCE, stack.load.day), copied_columns(SOURCE)

    async def copy(batch: list[Any]) -> None:
        rows = [HEADER, *(entry.parsed.days[stack.load.day].copy for entry in batch), TRAILER]
        await connection.copy_to_table(table, source=_stream(rows), columns=columns, format="binary")

    _measure(benchmark, lambda batch: stack.runner.run(copy(batch)), stack)
    stack.runner.run(connection.close())


def _measure(benchmark: BenchmarkFixture, save: Callable[[list[Any]], Any], stack: Stack) -> None:

    def next_batch() -> tuple[tuple[list[Any]], dict[str, Any]]:
        return (stack.load.batch(next(_numbers)),), {}

    benchmark.pedantic(save, setup=next_batch, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("report", REPORTS)
def test_report(benchmark: BenchmarkFixture, stack: Stack, report: str) -> None:
    """A report over two hours that hold the batches above, answered in this process."""
    settings = ReporterSettings(reporter_dsn=stack.servers.reporter_dsn)

    async def open_client() -> tuple[Any, httpx.AsyncClient]:
        pool = await open_pool(settings)
        transport = httpx.ASGITransport(app=create_app(pool, settings))  # type: ignore[arg-type]  # asgiref's types
        return pool, httpx.AsyncClient(transport=transport, base_url="http://reporter")

    pool, http = stack.runner.run(open_client())
    answer = benchmark(lambda: stack.runner.run(http.get(f"/reports/{report}", params=PERIOD | REPORTS[report])))
    assert answer.status_code == 200, answer.text
    stack.runner.run(http.aclose())
    stack.runner.run(pool.close())
