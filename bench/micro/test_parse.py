"""CPU per event of both parsers, in comparison with decoded structs and asyncpg's own encoder.

    python -m pytest bench/micro/test_parse.py

A round is 1,000 events, so milliseconds in the table are microseconds per event. CPU of all threads of this process is
counted, without PostgreSQL's. Weakness: the same events are parsed again and again, so CPU caches, the branch predictor
and the Python parser's cache of instants are warm; and asyncpg's figure includes its share of sending.
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
from bench.publisher.events import RandomValues, make
from collector.parse.choose import select_parser
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
    """Collect garbage as rarely as a collector does."""
    before = gc.get_threshold()
    collect_garbage_rarely()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def message(source: str, events: int = EVENTS) -> bytes:
    """Return a message of one source's events as the publisher generates them, within 50 ms, in one request."""
    rng = Random(source)
    fresh = RandomValues(rng, lambda: NOW.timestamp() + rng.random() * 0.05)
    lines: list[bytes] = []
    while len(lines) < events:
        event = make(rng, fresh)
        if event["source"] == source:
            lines.append(orjson.dumps(event))
    return wire.encode([wire.Part("benchmark", None, NOW.isoformat(), events)], lines)


def parser(source: str, name: str) -> Parser:
    """Return the parser of this name. Skips the benchmark if the native one is not built."""
    if name == "native" and NOT_BUILT:
        pytest.skip(NOT_BUILT)
    return select_parser("native" if name == "native" else "python", SOURCES[source], CONTRACT)[1]


def add_figures(benchmark: BenchmarkFixture, size: int, events: int = EVENTS) -> None:
    """Add figures that the table does not show."""
    if benchmark.stats is None:  # --benchmark-disable: it ran once
        return
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["us_per_event"] = round(seconds / events * 1e6, 3)
    benchmark.extra_info["mb_per_second"] = round(size / seconds / 1e6, 1)
    print(f"\n{benchmark.name}: {benchmark.extra_info}")


@pytest.mark.parametrize("name", ["python", "native"])
@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_parse(benchmark: BenchmarkFixture, source: str, name: str) -> None:
    """Parse a message of 1,000 events into binary COPY rows."""
    body, parse = message(source), parser(source, name)
    parsed = benchmark(parse, body, 7)
    assert (parsed.events, parsed.invalid) == (EVENTS, [])
    add_figures(benchmark, len(body))


@pytest.mark.parametrize("name", ["python", "native"])
def test_parse_a_message_of_one_event(benchmark: BenchmarkFixture, name: str) -> None:
    """Parse messages of one event, to measure the cost per message. The table's unit is then one event."""
    body, parse = message("facebook", 1), parser("facebook", name)
    assert benchmark(parse, body, 7).invalid == []
    add_figures(benchmark, len(body), events=1)


@pytest.mark.parametrize("name", ["python", "native"])
def test_parse_what_is_rejected(benchmark: BenchmarkFixture, name: str) -> None:
    """Parse events that all break the contract: the native parser calls the Python parser for each."""
    body = message("facebook").replace(b'"gender":"', b'"gender":"x')
    parsed = benchmark(parser("facebook", name), body, 7)
    assert len(parsed.invalid) == EVENTS
    add_figures(benchmark, len(body))


@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_decode_and_let_asyncpg_encode(benchmark: BenchmarkFixture, stack: Stack, source: str) -> None:
    """Encode the same events the usual way: msgspec structs, tuples of values, `copy_records_to_table`."""
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
    add_figures(benchmark, len(body))


def _row(source: str, shape: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that converts an event of this shape to a tuple of values for asyncpg."""
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
