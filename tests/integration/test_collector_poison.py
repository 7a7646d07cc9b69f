"""Poison: rows that PostgreSQL does not take cost themselves alone, and a fault of ours costs nothing at all.

The tests make rows unstorable with a CHECK that only they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from collector.parse.parsed import Rows
from collector.store.batch import Outcome
from core.errors import FatalError
from core.events import rejected as rejected_events
from core.events.contract import Invalid, Reason
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from tests.support.collecting import balanced, each_path, storing
from tests.support.events import NOON, Event, changed, encoded, facebook, message, part, without
from tests.support.garbage import errors_left_behind
from tests.support.stack import Database

__all__ = ["each_path"]  # a fixture
pytestmark = pytest.mark.usefixtures("each_path")


@pytest.fixture
async def connection(connection: Connection) -> Connection:
    """A connection of the owner's, on tables that take no POISON."""
    await connection.execute("ALTER TABLE facebook_events ADD CONSTRAINT no_poison CHECK (city <> 'POISON')")
    await connection.execute("ALTER TABLE rejected_events ADD CONSTRAINT no_poison CHECK (path <> 'POISON')")
    return connection


def poison(**how: Any) -> Event:
    return changed(facebook(**how), "data.user.location.city", "POISON")


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return outcome.events, outcome.stored, outcome.repeated, len(outcome.dead_letters)


async def stored_ids(connection: Connection) -> list[str]:
    return [row["event_id"] for row in await connection.fetch("SELECT event_id FROM facebook_events ORDER BY 1")]


async def test_one_poison_event_costs_one_event(database: Database, connection: Connection) -> None:
    """The rest of the batch is stored; the poison goes to the dead letters as it was sent, with its way."""
    bad = poison(event_id="bad")
    parts = [part(2, "request-a"), part(3, "request-b", NOON)]
    good = [facebook(event_id=name) for name in "abcdefgh"]
    async with storing("facebook", database) as store:
        entries = [store.entry(message(*good[:2])), store.entry(message(*good[2:5], bad, good[5], parts=parts))]
        entries.append(store.entry(message(*good[6:])))
        with errors_left_behind() as left:
            outcome = await store.store.save(entries)
    assert left == [], "the batch stays in memory"
    assert counts(outcome) == (9, 8, 0, 1)
    assert await stored_ids(connection) == list("abcdefgh")
    (dead_letter,) = await connection.fetch("SELECT * FROM dead_letters")
    assert (dead_letter["event"], dead_letter["position"], dead_letter["stream_sequence"]) == (
        encoded(bad),
        3,
        entries[1].message.sequence,
    )
    assert (dead_letter["correlation_id"], dead_letter["received_at"]) == ("request-b", NOON)
    assert (dead_letter["reason"], dead_letter["path"]) == ("unstorable", "$")
    assert dead_letter["detail"].startswith("23514: ")
    assert "no_poison" in dead_letter["detail"]
    assert "Ada Example" not in dead_letter["detail"]
    rows = await connection.fetch("SELECT events, stored, repeated, dead FROM receipts ORDER BY stream_sequence")
    assert [tuple(row) for row in rows] == [(2, 2, 0, 0), (5, 4, 0, 1), (2, 2, 0, 0)]
    await balanced(connection)


@pytest.mark.parametrize("places", [[0], [31], [0, 31], [3, 4, 17], list(range(10))])
async def test_poison_is_found_wherever_it_stands(
    database: Database, connection: Connection, places: Sequence[int]
) -> None:
    """First, last, side by side: up to ten poison events of a batch are taken out, over messages and days."""
    events = [
        poison(at=NOON - timedelta(days=number % 3))
        if number in places
        else facebook(at=NOON - timedelta(days=number % 3))
        for number in range(32)
    ]
    async with storing("facebook", database) as store:
        outcome = await store.save(message(*events[:5]), message(*events[5:29]), message(*events[29:]))
        assert counts(outcome) == (32, 32 - len(places), 0, len(places))
        again = await store.save(message(*events))  # the same events in another message
        assert counts(again) == (32, 0, 32 - len(places), len(places))
    dead_letters = await connection.fetch("SELECT event FROM dead_letters")
    assert sorted(row["event"] for row in dead_letters) == sorted(
        encoded(events[position]) for position in places for _ in range(2)
    )
    await balanced(connection)


async def test_poison_among_what_else_can_be_wrong(database: Database, connection: Connection) -> None:
    """Poison beside events that break the contract, repeats and an unreadable message: each is reported as what it
    is."""
    twin = facebook(event_id="twin")
    async with storing("facebook", database) as store:
        outcome = await store.save(
            message(twin, poison(), without(facebook(), "eventId"), twin, poison()), b"unreadable", message(poison())
        )
    assert counts(outcome) == (7, 1, 1, 5)
    dead_letters = await connection.fetch(
        "SELECT reason, position FROM dead_letters ORDER BY stream_sequence, position"
    )
    assert [tuple(row) for row in dead_letters] == [
        ("unstorable", 1),
        ("missing_field", 2),
        ("unstorable", 4),
        ("malformed", -1),
        ("unstorable", 0),
    ]
    await balanced(connection)


async def test_poison_among_rejected_events(database: Database, connection: Connection) -> None:
    """Rejected events have no key of their own: taking poison out of them stores none of the others twice."""
    lines = [
        rejected_events.encode(
            rejected_events.rejected_event(b"{%d}" % number, Invalid(Reason.MALFORMED, path, "broken"))
        )
        for number, path in enumerate(["$", "$", "POISON", "$", "$", "$", "POISON", "$"])
    ]
    async with storing("rejected", database) as store:
        assert counts(await store.save(message(*lines[:5]), message(*lines[5:]))) == (8, 6, 0, 2)
    rows = await connection.fetch("SELECT event FROM rejected_events ORDER BY event")
    assert [row["event"] for row in rows] == [b"{%d}" % number for number in (0, 1, 3, 4, 5, 7)]
    assert await connection.fetchval("SELECT count(*) FROM dead_letters WHERE source = 'rejected'") == 2


@pytest.mark.parametrize(
    ("change", "sqlstate"),
    [
        ("ALTER TYPE gender RENAME VALUE 'non-binary' TO 'other'", "22P02"),  # found by COPY, before any merge
        ("CREATE INDEX ON facebook_events (city)", "54000"),  # a text too long for an index entry
        ("ALTER TABLE facebook_events ADD CHECK (length(city) / (length(city) - 2048) >= 0)", "22012"),
        ("ALTER TABLE facebook_events ALTER COLUMN video_id SET NOT NULL", "23502"),
    ],
)
async def test_whatever_the_database_finds_wrong_with_a_row(
    database: Database, connection: Connection, change: str, sqlstate: str
) -> None:
    """Each class of poison costs its own event: a value, a limit, an expression that fails, a null."""
    scrambled = "".join(chr(0x4E00 + (17 * position * position) % 20_000) for position in range(2_048))
    bad = changed(facebook(), "data.user.location.city", scrambled)
    bad = changed(changed(bad, "data.user.gender", "non-binary"), "data.engagement.videoId", None)
    good = [changed(facebook(), "data.engagement.videoId", "vid-1") for _ in range(9)]
    await connection.execute(change)
    async with storing("facebook", database) as store:
        assert counts(await store.save(message(*good[:6], bad, *good[6:]))) == (10, 9, 0, 1)
    dead_letter = await connection.fetchrow("SELECT detail, event, position FROM dead_letters")
    assert dead_letter is not None
    assert (dead_letter["detail"][:5], dead_letter["event"], dead_letter["position"]) == (sqlstate, encoded(bad), 6)
    await balanced(connection)


@pytest.mark.parametrize(("events", "bad"), [(20, 11), (1_000, 11), (1_500, 16)])
async def test_more_poison_than_can_be_is_our_fault(
    database: Database, connection: Connection, events: int, bad: int
) -> None:
    """More than ten, and more than one in a hundred: nothing of the batch is stored, not a receipt, not a dead
    letter."""
    batch = [poison() if number < bad else facebook() for number in range(events)]
    async with storing("facebook", database) as store:
        with pytest.raises(FatalError, match="cannot be stored: 23514") as caught:
            await store.save(message(*batch))
        assert "Ada Example" not in str(caught.value)  # it goes into the log and the health page
        for table in ("facebook_events", "receipts", "dead_letters", "event_counts"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        assert counts(await store.save(message(*batch[:10], *batch[bad:]))) == (events - bad + 10, events - bad, 0, 10)
    await balanced(connection)


async def test_one_in_a_hundred_may_be_poison(database: Database, connection: Connection) -> None:
    """In a large batch, one per cent of poison is taken out and the rest stored."""
    batch = [poison() if number % 100 == 7 else facebook() for number in range(1_500)]
    async with storing("facebook", database) as store:
        assert counts(await store.save(message(*batch))) == (1_500, 1_485, 0, 15)
    await balanced(connection)


@pytest.mark.parametrize("fresh", [10, 11])
async def test_dead_letters_that_die_again_do_not_count(database: Database, connection: Connection, fresh: int) -> None:
    """However many dead letters of a batch are dead again, as many fresh events may die as without them, and no
    more."""
    async with storing("facebook", database) as store:
        dead_letters = store.entry(message(*(poison() for _ in range(40)), *[b"{"] * 2_000, facebook()))
        dead_letters.message.replayed = True
        batch = [dead_letters, store.entry(message(*(poison() for _ in range(fresh)), facebook()))]
        if fresh > 10:
            with pytest.raises(FatalError, match="more than 10 events"):
                await store.store.save(batch)
        else:
            assert counts(await store.store.save(batch)) == (2_041 + 11, 2, 0, 2_040 + 10)
    await balanced(connection)


async def test_bytes_that_we_wrote_wrong_are_our_fault(database: Database, connection: Connection) -> None:
    """A malformed COPY is never taken for poison: the events are not to blame, and nothing of the batch is stored."""
    async with storing("facebook", database) as store:
        for broken in (
            b"\x00\x01\x00\x00\x00\x01x",
            b"\x00",
            store.entry(message(facebook())).parsed.days.popitem()[1].copy[:-3],
        ):
            entry = store.entry(message(facebook()))
            entry.parsed.days.update({day: Rows(1, broken) for day in entry.parsed.days})
            with pytest.raises(asyncpg.PostgresError) as caught:
                await store.store.save([entry])
            assert classify(caught.value) is ErrorClass.FATAL
        assert await connection.fetchval("SELECT count(*) FROM receipts") == 0
        assert counts(await store.save(message(facebook()))) == (1, 1, 0, 0)


@pytest.mark.parametrize(("broken", "bad"), [(11, 0), (5, 6)])
async def test_what_breaks_the_contract_counts_as_dead_too(
    database: Database, connection: Connection, broken: int, bad: int
) -> None:
    """Events that a collector's contract rejects, alone or beside poison: too many of a batch stop the source."""
    batch: list[Event | bytes] = [*[b"{"] * broken, *(poison() for _ in range(bad)), facebook(), facebook()]
    async with storing("facebook", database) as store:
        with pytest.raises(FatalError, match="cannot be stored"):
            await store.save(message(*batch))
        assert await connection.fetchval("SELECT count(*) FROM receipts") == 0
        assert counts(await store.save(message(*batch[1:]))) == (len(batch) - 1, 2, 0, 10)
    await balanced(connection)
