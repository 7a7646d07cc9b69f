"""Our binary COPY beside PostgreSQL's own: the same bytes for the same value, and the same value read back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.publisher.events import TYPES
from collector.parse import pg_copy
from core import postgres
from core.postgres import Connection
from core.sources.fields import EPOCH, moment_of
from tests.support.copy_rows import read_rows
from tests.support.stack import Database

LAST = datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)
instants = st.tuples(
    st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30), timezones=st.just(UTC)) | st.sampled_from([EPOCH, LAST]),
    st.integers(-(23 * 60 + 59), 23 * 60 + 59),
)
amounts = st.builds(
    lambda whole, fraction: whole + fraction,
    st.from_regex(r"\A[0-9]{1,10}\Z"),
    st.sampled_from(["", ".0", ".00", ".5", ".01", ".99"]) | st.from_regex(r"\A\.[0-9]{1,2}\Z"),
)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection as the collector's role."""
    connection = await postgres.connect(database.collector_dsn, name="tests")
    yield connection
    await connection.close()


async def its_own(connection: Connection, kind: str, values: Sequence[Any]) -> list[bytes | None]:
    """How PostgreSQL writes these values itself, as the fields of a binary COPY.

    The values are given as text and cast, so that no encoder of a client's is between.
    """
    written = bytearray()

    async def take(data: bytes) -> None:
        written.extend(data)

    query = f"SELECT value::{kind} FROM unnest($1::text[]) WITH ORDINALITY AS given (value, place) ORDER BY place"
    await connection.copy_from_query(query, list(values), output=take, format="binary")
    assert written.startswith(pg_copy.HEADER)
    assert written.endswith(pg_copy.TRAILER)
    return [field for (field,) in read_rows(bytes(written[len(pg_copy.HEADER) : -len(pg_copy.TRAILER)]))]


async def read_back(connection: Connection, kind: str, fields: Sequence[bytes]) -> list[Any]:
    """The values that PostgreSQL reads from our fields, in order."""
    await connection.execute(f"CREATE TEMP TABLE back (place int GENERATED ALWAYS AS IDENTITY, value {kind})")
    try:

        async def stream() -> AsyncIterator[bytes]:
            yield pg_copy.HEADER
            yield b"".join(pg_copy.fields_in_row(1) + field for field in fields)
            yield pg_copy.TRAILER

        await connection.copy_to_table("back", source=stream(), columns=["value"], format="binary")
        return [row["value"] for row in await connection.fetch("SELECT value FROM back ORDER BY place")]
    finally:
        await connection.execute("DROP TABLE back")


def field(value: bytes | None) -> bytes:
    return pg_copy.raw(value) if value is not None else pg_copy.NULL


# One server's answer to many values: few, long examples.
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(amounts | st.none(), min_size=1, max_size=150))
async def test_amounts_are_as_postgres_writes_them(connection: Connection, values: list[str | None]) -> None:
    """Every amount of the contract, 0 to 9999999999.99 in any spelling, gives numeric(12,2)'s own bytes and value."""
    ours = [pg_copy.amount(value) for value in values]
    assert ours == [field(own) for own in await its_own(connection, "numeric(12, 2)", values)]
    assert await read_back(connection, "numeric(12, 2)", ours) == [
        None if value is None else Decimal(value) for value in values
    ]


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(texts | st.none(), min_size=1, max_size=50))
async def test_texts_are_as_postgres_writes_them(connection: Connection, values: list[str | None]) -> None:
    """Every text without a NUL, of any script and with any control character, gives its own bytes and comes back."""
    ours = [pg_copy.text(value) for value in values]
    assert ours == [field(own) for own in await its_own(connection, "text", values)]
    assert await read_back(connection, "text", ours) == values


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(instants, min_size=1, max_size=100))
async def test_instants_are_as_postgres_writes_them(connection: Connection, values: list[tuple[datetime, int]]) -> None:
    """Instants from 2000-01-01 to 2100-12-31T23:59:59.999999Z, on any clock up to 23:59 away, to the microsecond."""
    spelt = [
        f"{moment.astimezone(timezone(timedelta(minutes=offset))):%Y-%m-%dT%H:%M:%S.%f}"
        f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
        for moment, offset in values
    ]
    ours = [pg_copy.timestamp(text) for text in spelt]
    # PostgreSQL itself reads no zone beyond 15:59: it is given the same instants in UTC.
    assert ours == [
        field(own) for own in await its_own(connection, "timestamptz", [moment.isoformat() for moment, _ in values])
    ]
    assert await read_back(connection, "timestamptz", ours) == [moment for moment, _ in values]


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.data())
async def test_numbers_are_as_postgres_writes_them(connection: Connection, data: st.DataObject) -> None:
    """Every width gives its own bytes from the smallest to the largest number."""
    for encode, kind, bits in (
        (pg_copy.smallint, "int2", 16),
        (pg_copy.integer, "int4", 32),
        (pg_copy.bigint, "int8", 64),
    ):
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        values = [least, -1, 0, most, *data.draw(st.lists(st.integers(least, most), max_size=50))]
        ours = [encode(value) for value in values]
        assert ours == [field(own) for own in await its_own(connection, kind, [str(value) for value in values])]
        assert await read_back(connection, kind, ours) == values


async def test_labels_are_the_enums(connection: Connection) -> None:
    """Each enum of the database has exactly the contract's values, and ours are its bytes."""
    enums = {
        "source": ("facebook", "tiktok"),
        "funnel_stage": ("top", "bottom"),
        "gender": ("male", "female", "non-binary"),
        "referrer": ("newsfeed", "marketplace", "groups"),
        "click_position": ("top_left", "bottom_right", "center"),
        "facebook_device": ("mobile", "desktop"),
        "tiktok_device": ("Android", "iOS", "Desktop"),
        "browser": ("Chrome", "Firefox", "Safari"),
        "event_type": tuple({label: None for labels in TYPES.values() for label in labels}),
    }
    for kind, labels in enums.items():
        rows = await connection.fetch(f"SELECT unnest(enum_range(NULL::{kind}))::text AS label")
        assert {row["label"] for row in rows} == set(labels)
        ours = [pg_copy.one_of(labels)(label) for label in (*labels, None)]
        assert ours == [field(own) for own in await its_own(connection, kind, (*labels, None))]


async def test_bytes_come_back(connection: Connection) -> None:
    """bytea takes any bytes as they are: a rejected event is kept whatever it was."""
    values = [b"", bytes(range(256)) * 300]
    assert await read_back(connection, "bytea", [pg_copy.raw(value) for value in values]) == values


async def test_what_asyncpg_writes_is_what_we_write(connection: Connection) -> None:
    """A row by asyncpg's own encoders and one by ours are the same row."""
    await connection.execute("CREATE TEMP TABLE both_ways (t text, n numeric(12, 2), i timestamptz, s int2, l int8)")
    moment = moment_of(831_108_358_541_000)
    await connection.copy_records_to_table(
        "both_ways", records=[("Ærø", Decimal("203.95"), moment, 36, 2**40), (None, None, moment, 0, 0)]
    )

    async def stream() -> AsyncIterator[bytes]:
        yield pg_copy.HEADER
        for text, amount, number, long in (("Ærø", "203.95", 36, 2**40), (None, None, 0, 0)):
            yield pg_copy.fields_in_row(5) + b"".join(
                [
                    pg_copy.text(text),
                    pg_copy.amount(amount),
                    pg_copy.timestamp(moment.isoformat()),
                    pg_copy.smallint(number),
                    pg_copy.bigint(long),
                ]
            )
            await asyncio.sleep(0)
        yield pg_copy.TRAILER

    await connection.copy_to_table("both_ways", source=stream(), format="binary")
    distinct = await connection.fetch("SELECT count(*) AS times FROM both_ways GROUP BY both_ways")
    assert [row["times"] for row in distinct] == [2, 2]
