"""Rollups equal the rows, at the bounds of the audience's dimensions too; and the judge of that can say no."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.postgres import Connection
from tests.support.collecting import balanced, each_path, storing
from tests.support.events import NOON, Event, changed, facebook, message, tiktok
from tests.support.rollups import rollup_differences
from tests.support.stack import Database

MOST_COUNTRIES = 1_000

__all__ = ["each_path"]  # a fixture
pytestmark = pytest.mark.usefixtures("each_path")


def of(country: str, source: str = "facebook") -> Event:
    """An event of this country."""
    if source == "facebook":
        return changed(facebook(), "data.user.location.country", country)
    return changed(tiktok(), "data.engagement.country", country)


async def know(connection: Connection, count: int) -> None:
    """Let so many countries have come before."""
    await connection.execute(
        "INSERT INTO known_countries SELECT 'Country ' || number FROM generate_series(1, $1::int) AS number", count
    )


async def countries(connection: Connection, source: str = "facebook") -> dict[str | None, int]:
    rows = await connection.fetch(
        "SELECT value, sum(events)::int AS events FROM audience_counts "
        "WHERE dimension = 'country' AND source = $1::text::source GROUP BY value",
        source,
    )
    return {row["value"]: row["events"] for row in rows}


@pytest.mark.parametrize(
    "meddle",
    [
        "UPDATE event_counts SET events = events + 1",
        "UPDATE event_counts SET revenue = revenue + 0.01",
        "UPDATE event_counts SET bucket = bucket + interval '15 minutes'",
        "DELETE FROM event_counts WHERE source = 'tiktok'",
        "DELETE FROM facebook_events WHERE event_type = 'page.like'",
        "UPDATE audience_counts SET events = events + 1 WHERE dimension = 'age'",
        "UPDATE audience_counts SET value = NULL WHERE dimension = 'country'",
        "DELETE FROM audience_counts WHERE dimension = 'device'",
        "DELETE FROM known_countries WHERE country = 'Peru'",
        "INSERT INTO audience_counts VALUES (now(), 'facebook', 'device', 'mobile', 0, 1)",
    ],
)
async def test_the_judge_sees_every_difference(database: Database, connection: Connection, meddle: str) -> None:
    """A count, an amount, a bucket, a value or a row that is changed behind the store's back is found."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook(), facebook("bottom")))
    async with storing("tiktok", database) as store:
        await store.save(message(tiktok(), tiktok("bottom")))
    assert await rollup_differences(connection) == []
    await connection.execute(meddle)
    assert await rollup_differences(connection) != []


async def test_quarter_hours_open_at_their_first_microsecond(database: Database, connection: Connection) -> None:
    """An event on the quarter belongs to the bucket that opens; one a microsecond before, to the one before."""
    moments = [NOON, NOON - timedelta(microseconds=1), NOON + timedelta(minutes=15) - timedelta(microseconds=1)]
    async with storing("facebook", database) as store:
        await store.save(message(*(facebook("bottom", at=moment) for moment in moments)))
    rows = await connection.fetch("SELECT bucket, events FROM event_counts ORDER BY bucket")
    assert [tuple(row) for row in rows] == [(NOON - timedelta(minutes=15), 1), (NOON, 2)]
    await balanced(connection)


async def test_revenue_is_of_purchases_alone(database: Database, connection: Connection) -> None:
    """An amount on another event type is stored with its row and is no revenue; a purchase without one counts 0."""
    amount, kind = "data.engagement.purchaseAmount", "eventType"
    async with storing("facebook", database) as store:
        event = changed(facebook("bottom"), amount, "1.00")
        await store.save(
            message(event, changed(facebook("bottom"), kind, "ad.click"), changed(facebook("bottom"), amount, None))
        )
    async with storing("tiktok", database) as store:
        event = changed(tiktok("bottom"), amount, "2.00")
        await store.save(
            message(event, changed(tiktok("bottom"), kind, "follow"), changed(tiktok("bottom"), amount, None))
        )
    rows = await connection.fetch(
        "SELECT source::text, sum(events)::int, sum(revenue)::text FROM event_counts GROUP BY 1"
    )
    assert {tuple(row) for row in rows} == {("facebook", 3, "1.00"), ("tiktok", 3, "2.00")}
    await balanced(connection)


async def test_each_collector_counts_in_a_shard_of_its_own(database: Database, connection: Connection) -> None:
    """Collectors of one source hold different slots; a slot that came free is taken again; sources do not share."""
    async with (
        storing("facebook", database) as one,
        storing("facebook", database) as two,
        storing("tiktok", database) as other,
    ):
        await one.save(message(facebook()))
        await two.save(message(facebook()))
        await other.save(message(tiktok()))
        await one.store.close()
        async with storing("facebook", database) as three:
            await three.save(message(facebook()))
    rows = await connection.fetch("SELECT source::text, shard, events FROM event_counts ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [("facebook", 0, 2), ("facebook", 1, 1), ("tiktok", 0, 1)]
    await balanced(connection)


async def test_more_collectors_than_shards(database: Database, connection: Connection) -> None:
    """Where every slot is held, a collector shares one: shards are for speed, never for being right."""
    await connection.fetch(
        "SELECT pg_advisory_lock(hashtext('sluice.shard.facebook'), slot) FROM generate_series(0, 255) AS slot"
    )
    async with storing("facebook", database) as one, storing("facebook", database) as two:
        for store in (one, two, one):
            assert (await store.save(message(facebook()))).stored == 1
    await balanced(connection)


async def test_a_country_is_known_from_its_first_event_on(database: Database, connection: Connection) -> None:
    """The thousandth country is counted by name, the next ones as other; both sources share the list."""
    await know(connection, MOST_COUNTRIES - 2)
    async with storing("facebook", database) as store:
        await store.save(message(of("Bergen Land"), of("Country 7")))
        await store.save(message(of("C"), of("B"), of("A"), of("B")))  # room for one more: the first by name
        await store.save(message(of("A"), of("B"), of("Country 7")))
    async with storing("tiktok", database) as store:
        await store.save(message(of("A", "tiktok"), of("D", "tiktok"), tiktok("bottom")))
    assert await connection.fetchval("SELECT count(*) FROM known_countries WHERE NOT reserved") == MOST_COUNTRIES
    assert await countries(connection) == {"Bergen Land": 1, "Country 7": 2, "A": 2, None: 4}
    assert await countries(connection, "tiktok") == {"A": 1, None: 1}
    await balanced(connection)


async def test_long_countries_are_counted_as_other(database: Database, connection: Connection) -> None:
    """64 characters of any script are a country, 65 are other; the row keeps its text, and an empty one is a value."""
    just, over = "é" * 64, "é" * 65
    async with storing("facebook", database) as store:
        await store.save(message(of(just), of(over), of(""), of("x" * 8192)))
    assert await countries(connection) == {just: 1, "": 1, None: 2}
    rows = await connection.fetch("SELECT country FROM facebook_events")
    assert {row["country"] for row in rows} == {just, over, "", "x" * 8192}
    await balanced(connection)


async def test_collectors_that_meet_at_the_bound_agree(database: Database, connection: Connection) -> None:
    """Where several collectors learn the last countries at once, none counts as other what another counts by name."""
    await know(connection, MOST_COUNTRIES - 5)
    names = [f"New {number:02}" for number in range(40)]

    async def store_all(mine: list[str]) -> None:
        async with storing("facebook", database) as store:
            await store.save(message(facebook()))  # connect first, so that all meet
            for start in range(0, len(mine), 3):
                await store.save(message(*(of(name) for name in mine[start : start + 3])))

    await asyncio.gather(store_all(names), store_all(names[::-1]), store_all(names[20:] + names[:20]))
    assert await connection.fetchval("SELECT count(*) FROM known_countries WHERE NOT reserved") == MOST_COUNTRIES
    await balanced(connection)


async def test_two_that_want_the_last_place_agree(database: Database, connection: Connection) -> None:
    """With room for one country, the collector that does not get its own in counts it as other for ever."""
    await know(connection, MOST_COUNTRIES - 1)
    async with storing("facebook", database) as one, storing("facebook", database) as two:
        wanted = {"Left": one, "Right": two}
        for store in wanted.values():
            await store.save(message(of("Country 1")))  # connect first, so that both meet
        await asyncio.gather(*(store.save(message(*(of(name) for _ in range(300)))) for name, store in wanted.items()))
        await asyncio.gather(one.save(message(of("Right"))), two.save(message(of("Left"))))
    assert await connection.fetchval("SELECT count(*) FROM known_countries WHERE NOT reserved") == MOST_COUNTRIES
    await balanced(connection)
