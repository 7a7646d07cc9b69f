"""The store: receipts, rows, rollups and dead letters of a batch are written together, and each event once."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import urlsplit

import asyncpg
import pytest

from bench.publisher.events import RandomValues, make
from collector.store import write
from collector.store.batch import Outcome
from core.events import rejected as rejected_events
from core.events.contract import Invalid, Reason
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from tests.support.collecting import ANY_TIME, balanced, each_path, storing
from tests.support.events import (
    NOON,
    Event,
    changed,
    encoded,
    facebook,
    message,
    part,
    tiktok,
    without,
)
from tests.support.proxy import FROM_CLIENT, proxy
from tests.support.stack import Database
from tests.support.waiting import eventually, in_time

__all__ = ["each_path"]  # a fixture
MEBIBYTE = 1 << 20
pytestmark = pytest.mark.usefixtures("each_path")


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return outcome.events, outcome.stored, outcome.repeated, len(outcome.dead_letters)


async def ids(connection: Connection, table: str = "facebook_events") -> list[str]:
    return [row["event_id"] for row in await connection.fetch(f"SELECT event_id FROM {table} ORDER BY event_id")]


async def receipts(connection: Connection) -> list[tuple[int, int, int, int]]:
    rows = await connection.fetch("SELECT events, stored, repeated, dead FROM receipts ORDER BY stream_sequence")
    return [tuple(row) for row in rows]


async def test_a_batch_is_stored(database: Database, connection: Connection) -> None:
    """Rows of several messages, parts and days land in their tables with their marks, and the rollups equal them."""
    early = NOON - timedelta(days=3)
    parts = [part(1, "request-a", NOON), part(2, "request-b", NOON + timedelta(seconds=5))]
    async with storing("facebook", database) as store:
        outcome = await store.save(
            message(
                facebook(event_id="a"), facebook("bottom", event_id="b"), facebook(at=early, event_id="c"), parts=parts
            ),
            message(facebook(at=early, event_id="d")),
        )
    assert counts(outcome) == (4, 4, 0, 0)
    rows = await connection.fetch("SELECT *, tableoid::regclass::text AS leaf FROM facebook_events ORDER BY event_id")
    assert [(row["event_id"], row["correlation_id"], row["leaf"][-8:]) for row in rows] == [
        ("a", "request-a", f"{NOON:%Y%m%d}"),
        ("b", "request-b", f"{NOON:%Y%m%d}"),
        ("c", "request-b", f"{early:%Y%m%d}"),
        ("d", "test-1", f"{early:%Y%m%d}"),
    ]
    assert rows[1]["received_at"] == NOON + timedelta(seconds=5)
    assert datetime.now(UTC) - rows[0]["stored_at"] < timedelta(minutes=1)
    assert await receipts(connection) == [(3, 3, 0, 0), (1, 1, 0, 0)]
    await balanced(connection)


async def test_a_redelivered_message_changes_nothing(database: Database, connection: Connection) -> None:
    """A message whose receipt stands is left out, alone or beside new ones, and by another collector too."""
    async with storing("facebook", database) as store, storing("facebook", database) as other:
        first, second = store.entry(message(facebook(), b"{")), store.entry(message(facebook()))
        assert counts(await store.store.save([first])) == (2, 1, 0, 1)
        assert counts(await store.store.save([first])) == (0, 0, 0, 0)
        outcome = await other.store.save([first, second])
        assert (counts(outcome), outcome.skipped_messages) == ((1, 1, 0, 0), 1)
    assert await receipts(connection) == [(2, 1, 0, 1), (1, 1, 0, 0)]
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 1
    await balanced(connection)


async def test_events_sent_again_are_stored_once(database: Database, connection: Connection) -> None:
    """The same events in another message, or twice in one, change nothing but the receipt; the first copy stays."""
    first = facebook("bottom", event_id="same")
    later = changed(first, "data.user.name", "Another Name")
    elsewhen = facebook("bottom", at=NOON + timedelta(microseconds=1), event_id="same")
    async with storing("facebook", database) as store:
        assert counts(await store.save(message(first))) == (1, 1, 0, 0)
        assert counts(await store.save(message(later, facebook(event_id="new")))) == (2, 1, 1, 0)
        twin = facebook(event_id="twin")
        assert counts(await store.save(message(twin, twin), message(twin))) == (3, 1, 2, 0)
        assert counts(await store.save(message(elsewhen))) == (1, 1, 0, 0)  # another timestamp: another event
    async with storing("tiktok", database) as store:
        assert counts(await store.save(message(tiktok(event_id="same")))) == (1, 1, 0, 0)  # another source, too
    assert await ids(connection) == ["new", "same", "same", "twin"]
    names = await connection.fetch("SELECT user_name FROM facebook_events WHERE event_id = 'same'")
    assert {row["user_name"] for row in names} == {"Ada Example"}
    assert await receipts(connection) == [
        (1, 1, 0, 0),
        (2, 1, 1, 0),
        (2, 1, 1, 0),
        (1, 0, 1, 0),
        (1, 1, 0, 0),
        (1, 1, 0, 0),
    ]
    await balanced(connection)


async def test_collectors_that_overlap_store_each_event_once(database: Database, connection: Connection) -> None:
    """Two collectors that store the same events in other messages and orders at once wait for each other."""
    rng = Random(3)
    events = [
        facebook(at=NOON - timedelta(days=number % 3, seconds=number), event_id=f"fb-{number}") for number in range(400)
    ]
    for number, event in enumerate(events):
        event["data"]["user"]["location"]["country"] = f"Country {number % 50}"

    async def store_all(rounds: int) -> int:
        stored = 0
        async with storing("facebook", database) as store:
            for _ in range(rounds):
                shuffled = rng.sample(events, len(events))
                entries = [store.entry(message(*shuffled[start : start + 100])) for start in range(0, 400, 100)]
                while True:
                    try:
                        stored += (await store.store.save(entries)).stored
                        break
                    except asyncpg.DeadlockDetectedError:  # a collector tries again
                        continue
        return stored

    assert sum(await asyncio.gather(*(store_all(4) for _ in range(3)))) == 400
    assert len(await ids(connection)) == 400
    assert len(await receipts(connection)) == 3 * 4 * 4
    await balanced(connection)


async def test_collectors_that_store_one_message_at_once(database: Database, connection: Connection) -> None:
    """A message redelivered while it is being stored: the second collector waits for the first and leaves it out."""
    body = message(*(facebook() for _ in range(500)))
    async with storing("facebook", database) as one, storing("facebook", database) as two:
        entry = one.entry(body)
        outcomes = await asyncio.gather(one.store.save([entry]), two.store.save([entry]))
    assert sorted((outcome.stored, outcome.skipped_messages) for outcome in outcomes) == [(0, 1), (500, 0)]
    assert await receipts(connection) == [(500, 500, 0, 0)]
    await balanced(connection)


async def test_a_stream_made_again_starts_new_receipts(database: Database, connection: Connection) -> None:
    """The number of a message of a deleted stream comes again with another instant: it is another message."""
    published = datetime(2026, 1, 1, tzinfo=UTC)
    async with storing("facebook", database) as store:
        for hour in range(2):
            entry = store.entry(message(facebook()), sequence=1, published_at=published + timedelta(hours=hour))
            assert counts(await store.store.save([entry])) == (1, 1, 0, 0)
    assert await receipts(connection) == [(1, 1, 0, 0), (1, 1, 0, 0)]


async def test_what_breaks_the_contract_is_a_dead_letter(database: Database, connection: Connection) -> None:
    """An accepted event that a collector's contract rejects is kept as it was sent, with all that reports its way."""
    bad = encoded(without(facebook(), "data.user.age"))
    parts = [part(1, "request-a"), part(3, "request-b", NOON)]
    async with storing("facebook", database) as store:
        entry = store.entry(message(facebook(), facebook(), bad, b"\x00\xff", parts=parts))
        outcome = await store.store.save([entry])
    assert counts(outcome) == (4, 2, 0, 2)
    rows = await connection.fetch("SELECT * FROM dead_letters ORDER BY position")
    assert [(row["position"], row["reason"], row["path"], row["event"]) for row in rows] == [
        (2, "missing_field", "$.data.user.age", bad),
        (3, "malformed", "$", b"\x00\xff"),
    ]
    for row in rows:
        assert (row["stream"], row["source"]) == ("EVENTS_FACEBOOK", "facebook")
        assert (row["stream_sequence"], row["published_at"]) == (entry.message.sequence, entry.message.published_at)
        assert (row["correlation_id"], row["received_at"], row["outcome"]) == ("request-b", NOON, "kept")
    assert await receipts(connection) == [(4, 2, 0, 2)]
    await balanced(connection)


@pytest.mark.parametrize("body", [b"", b"\x00\x01\xff" * 1000, message(facebook()).replace(b'"v":1', b'"v":9')])
async def test_a_message_that_cannot_be_read_is_one_dead_letter(
    database: Database, connection: Connection, body: bytes
) -> None:
    """An unreadable message goes whole to the dead letters; messages beside it are stored."""
    async with storing("facebook", database) as store:
        assert counts(await store.save(message(facebook()), body, message(facebook()))) == (3, 2, 0, 1)
    row = await connection.fetchrow("SELECT * FROM dead_letters")
    assert row is not None
    assert (row["position"], row["reason"], row["event"], row["correlation_id"]) == (-1, "malformed", body, None)
    assert await receipts(connection) == [(1, 1, 0, 0), (1, 0, 0, 1), (1, 1, 0, 0)]
    await balanced(connection)


async def test_a_message_without_events_has_a_receipt(database: Database, connection: Connection) -> None:
    """A message of nothing is accounted for as nothing."""
    async with storing("facebook", database) as store:
        assert counts(await store.save(b'{"v":1,"parts":[]}')) == (0, 0, 0, 0)
    assert await receipts(connection) == [(0, 0, 0, 0)]


async def test_rejected_events_are_stored(database: Database, connection: Connection) -> None:
    """What the gateway rejected is kept with its reason, its bytes and its request; a redelivery adds nothing."""
    raw = b'{"source":"tiktok","eventId":"t-1"}\x00\xff'
    big = b"x" * 100_000
    lines = [
        rejected_events.encode(rejected_events.rejected_event(raw, Invalid(Reason.MALFORMED, "$", "broken"))),
        rejected_events.encode(rejected_events.rejected_event(big, Invalid(Reason.TOO_LARGE, "$", "too large"))),
        rejected_events.encode(
            rejected_events.rejected_event(
                encoded(tiktok(event_id="t-2")), Invalid(Reason.TOO_OLD, "$.timestamp", "old")
            )
        ),
        b"not a rejected event",
    ]
    async with storing("rejected", database) as store:
        entry = store.entry(message(*lines, parts=[part(4, "request-a", NOON)]))
        assert counts(await store.store.save([entry])) == (4, 3, 0, 1)
        assert counts(await store.store.save([entry])) == (0, 0, 0, 0)
    rows = await connection.fetch("SELECT * FROM rejected_events ORDER BY id")
    assert [(row["source"], row["event_id"], row["reason"], row["path"], row["length"]) for row in rows] == [
        (None, None, "malformed", "$", len(raw)),
        (None, None, "too_large", "$", 100_000),
        ("tiktok", "t-2", "too_old", "$.timestamp", len(encoded(tiktok(event_id="t-2")))),
    ]
    assert (rows[0]["event"], rows[1]["event"]) == (raw, big[: 64 * 1024])
    assert {(row["correlation_id"], row["received_at"], row["outcome"]) for row in rows} == {
        ("request-a", NOON, "kept")
    }
    assert await receipts(connection) == [(4, 3, 0, 1)]


async def test_thousands_of_the_publishers_events(database: Database, connection: Connection) -> None:
    """Rollups equal the rows after many batches of mixed events over days, with repeats among them."""
    rng = Random(11)
    events: dict[str, list[Event]] = {"facebook": [], "tiktok": []}
    for _ in range(4_000):
        moment = NOON - timedelta(seconds=rng.randrange(200_000))
        event = make(rng, RandomValues(rng, moment.timestamp))
        events[event["source"]].append(event)
    for source, made in events.items():
        for event in made[::50]:  # past the bounds of the audience's bands
            if source == "facebook":
                event["data"]["user"]["age"] = rng.choice([0, 119, 120, 32_767])
            else:
                event["data"]["user"]["followers"] = rng.choice([0, 999, 1_000, 9_999, 100_000, 999_999, 2**31 - 1])
        async with storing(source, database, ANY_TIME) as store:
            for start in range(0, len(made), 300):
                again = rng.sample(made[:start], min(start, 40))
                outcome = await store.save(message(*made[start : start + 300]), message(*again))
                assert counts(outcome)[2:] == (len(again), 0)
            assert len(await ids(connection, f"{source}_events")) == len(made)
    await balanced(connection)


@pytest.mark.parametrize("end", ["reset", "silence"])
async def test_a_copy_that_waits_to_write_hears_of_the_end(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The server takes no more of a batch that is larger than all buffers between. When the line breaks, or after the
    time limit where it is only silent, saving ends with an error that is waited out; then the batch is stored."""
    monkeypatch.setattr(write, "COPY_SECONDS", 1.0 if end == "silence" else 3600.0)
    large = message(*(facebook(event_id=f"{number}") for number in range(60_000)))
    address = urlsplit(database.collector_dsn)
    async with proxy(int(address.port or 5432)) as line:
        through = address._replace(netloc=address.netloc.replace(f":{address.port}", f":{line.port}"))
        async with storing("facebook", replace(database, collector_dsn=through.geturl())) as store:
            await store.save(message(facebook(event_id="before")))
            transport = store.store._connection._transport  # type: ignore[union-attr]
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            saving = asyncio.create_task(store.save(large))
            carried = line.carried[FROM_CLIENT]

            async def copying() -> bool:
                return line.carried[FROM_CLIENT] > carried + MEBIBYTE

            await eventually(copying, what="the COPY is under way", every=0.001)
            line.half_open()
            assert transport.get_write_buffer_size() > MEBIBYTE, "the rest waits"
            if end == "reset":
                line.reset()
            await in_time(asyncio.wait({saving}))
            assert classify(saving.exception() or AssertionError("stored")) is ErrorClass.RETRY
            line.reset()
            line.release()
            await store.store.close()
            assert (await store.save(large)).stored == 60_000
    assert len(await ids(connection)) == 60_001
