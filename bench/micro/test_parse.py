"""CPU of an event in both parsers, and in what they stand in for: decoded structs and asyncpg's own encoder.

    python -m pytest bench/micro/test_parse.py

A round is 1,000 events, so milliseconds of the table are microseconds an event. All threads of this process count,
PostgreSQL's does not. Its own weakness: the same events are read again and again, so caches and the branch predictor
know them, as does the Python parser's memory of instants; and asyncpg's figure holds its share of sending.
"""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from random import Random
from typing import Any

import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.conftest import Stack
from bench.publisher.events import Drawn, make
from collector.parse.choose import choose
from collector.parse.parsed import Parser
from collector.parse.row import copied_columns
from collector.sources import SOURCES
from collector.store.write import staging
from core import postgres
from core.events import wire
from core.events.contract import Contract
from core.lifecycle import collect_garbage_rarely
from core.native import NOT_BUILT
from core.sources.fields import EPOCH, instant
from core.sources.shape import ColumnType, describe, keys

EVENTS = 1_000
CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
NOW = datetime.now(EPOCH.tzinfo)
pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=50, warmup=True, warmup_iterations=5)


@pytest.fixture(autouse=True, scope="module")
def as_in_the_service() -> Iterator[None]:
    """Garbage is collected as rarely as in a collector."""
    before = gc.get_threshold()
    collect_garbage_rarely()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def message(source: str, events: int = EVENTS) -> bytes:
    """Events of one source as the publisher makes them, within 50 ms, in one request."""
    rng = Random(source)
    fresh = Drawn(rng, lambda: NOW.timestamp() + rng.random() * 0.05)
    lines: list[bytes] = []
    while len(lines) < events:
        event = make(rng, fresh)
        if event["source"] == source:
            lines.append(orjson.dumps(event))
    return wire.encode([wire.Part("benchmark", None, NOW.isoformat(), events)], lines)


def parser(source: str, name: str) -> Parser:
    """The parser of this name, or the benchmark's end where it is not built."""
    if name == "native" and NOT_BUILT:
        pytest.skip(NOT_BUILT)
    return choose("native" if name == "native" else "python", SOURCES[source], CONTRACT)[1]


def tell(benchmark: BenchmarkFixture, size: int, events: int = EVENTS) -> None:
    """Add what the table does not show."""
    if benchmark.stats is None:  # --benchmark-disable: each ran once
        return
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["us_per_event"] = round(seconds / events * 1e6, 3)
    benchmark.extra_info["mb_per_second"] = round(size / seconds / 1e6, 1)
    print(f"\n{benchmark.name}: {benchmark.extra_info}")


@pytest.mark.parametrize("name", ["python", "native"])
@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_parse(benchmark: BenchmarkFixture, source: str, name: str) -> None:
    """A message of 1,000 events into binary COPY rows."""
    body, parse = message(source), parser(source, name)
    parsed = benchmark(parse, body, 7)
    assert (parsed.events, parsed.invalid) == (EVENTS, [])
    tell(benchmark, len(body))


@pytest.mark.parametrize("name", ["python", "native"])
def test_parse_a_message_of_one_event(benchmark: BenchmarkFixture, name: str) -> None:
    """What a message costs beside its events; the table's unit is then one event."""
    body, parse = message("facebook", 1), parser("facebook", name)
    assert benchmark(parse, body, 7).invalid == []
    tell(benchmark, len(body), events=1)


@pytest.mark.parametrize("name", ["python", "native"])
def test_parse_what_is_rejected(benchmark: BenchmarkFixture, name: str) -> None:
    """A flood of events that all break the contract: the native parser asks Python about each."""
    body = message("facebook").replace(b'"gender":"', b'"gender":"x')
    parsed = benchmark(parser("facebook", name), body, 7)
    assert len(parsed.invalid) == EVENTS
    tell(benchmark, len(body))


@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_decode_and_let_asyncpg_encode(benchmark: BenchmarkFixture, stack: Stack, source: str) -> None:
    """The same events by the usual way: msgspec's structs, tuples of Python values, `copy_records_to_table`."""
    body = message(source)
    (part,), lines = wire.decode(body)
    read = SOURCES[source].reader(CONTRACT)
    rows = {shape: _row(source, shape) for shape in SOURCES[source].shapes}
    ending = (NOW, 7, part.correlation_id)

    async def prepared() -> Any:
        connection = await postgres.connect(stack.servers.collector_dsn, name="bench")
        await connection.execute(staging(SOURCES[source]))
        return connection

    async def copy(connection: Any) -> None:
        events = (read(line, instant(part.received_at)) for line in lines)
        records = [rows[type(event)](event) + ending for event in events]
        async with connection.transaction():
            await connection.copy_records_to_table("staging", records=records, columns=copied_columns(SOURCES[source]))

    connection = stack.runner.run(prepared())
    benchmark(lambda: stack.runner.run(copy(connection)))
    stack.runner.run(connection.close())
    tell(benchmark, len(body))


def _row(source: str, shape: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """What makes a tuple of Python values, as asyncpg takes them, of an event of this shape."""
    has, config = keys(shape), shape.__struct_config__
    types = {field.path: field.type for field in describe(shape)}
    converted: dict[ColumnType, Callable[[Any], Any]] = {
        ColumnType.TIMESTAMP: datetime.fromisoformat,
        ColumnType.AMOUNT: lambda text: text and Decimal(text),
    }

    def getter(path: str) -> Callable[[Any], Any]:
        if path not in has:
            constant = config.tag if path == config.tag_field else None
            return lambda _event: constant
        get, convert = attrgetter(has[path].attribute), converted.get(types[path])
        return (lambda event: convert(get(event))) if convert else get

    getters = [getter(path) for path in SOURCES[source].columns.values()]
    return lambda event: tuple(get(event) for get in getters)
