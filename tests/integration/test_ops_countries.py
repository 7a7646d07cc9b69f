"""The registry of countries: one request does not close it, and an operator rebuilds it while collectors store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from core.errors import SluiceError
from core.postgres import Connection
from ops.cli import countries
from ops.doctor import postgres_checks
from ops.doctor.checks import CheckResult
from tests.support.collecting import storing
from tests.support.events import NOON, Event, changed, facebook, message, tiktok
from tests.support.operator import operator, ops
from tests.support.rollups import rollup_differences
from tests.support.stack import Database
from tests.support.waiting import eventually

Capsys = pytest.CaptureFixture[str]
NO_NATS = "nats://127.0.0.1:1"
PLACES = countries.PLACES


def of(country: str, hours: int = 0) -> Event:
    return changed(facebook(at=NOON - timedelta(hours=hours)), "data.user.location.country", country)


async def counted(connection: Connection, unit: str | None = None) -> dict[str | None, int]:
    """The events of each country in the rollups, or in their totals by this unit."""
    table = f"audience_totals WHERE unit = '{unit}' AND" if unit else "audience_counts WHERE"
    rows = await connection.fetch(f"SELECT value, sum(events)::int AS n FROM {table} dimension = 'country' GROUP BY 1")
    return {row["value"]: row["n"] for row in rows}


async def check(connection: Connection, database: Database) -> CheckResult:
    found = await postgres_checks.check_postgres(connection, operator(NO_NATS, database.owner_dsn))
    return next(one for one in found if one.check == "countries")


async def test_one_request_takes_no_place_of_a_real_country(database: Database, connection: Connection) -> None:
    """After 2,000 invented countries in one request, names and codes of countries are still counted by themselves."""
    async with storing("facebook", database) as store:
        await store.save(message(*(of(f"Invented {number:04}") for number in range(2 * PLACES))))
        await store.save(message(of("Peru"), of("PE"), of("PER"), of("Côte d'Ivoire"), of("Wonderland")))
    found = await counted(connection)
    assert {found.get(name) for name in ("Peru", "PE", "PER", "Côte d'Ivoire")} == {1}
    assert found[None] == PLACES + 1  # the invented ones without a place, and Wonderland
    assert await rollup_differences(connection) == []


async def test_a_rebuild_gives_places_to_the_most_frequent(
    database: Database, connection: Connection, capsys: Capsys
) -> None:
    """Places go to the most frequent countries of the kept rows; all rollups and totals follow, and doctor agrees."""
    async with storing("facebook", database) as store, storing("tiktok", database) as other:
        await store.save(message(*(of(f"Invented {number:04}") for number in range(PLACES))))
        assert (await check(connection, database)).state == "wrong"
        await store.save(message(*(of("Wonderland", hours) for hours in (0, 1, 1, 36)), of("Oz"), of("x" * 65)))
        land = changed(tiktok(), "data.engagement.country", "Wonderland")
        await other.save(message(land, tiktok(), tiktok("bottom")))
    assert (await counted(connection)).get("Wonderland") is None

    settings = operator(NO_NATS, database.owner_dsn)
    said = "countries added to the registry: 1, removed from it: 201; 200 of 1,000 places are free"
    code, looked = await ops(settings, capsys, "countries", "rebuild", "--dry-run")
    assert (code, looked) == (0, f"{said} (dry run: nothing was changed)\n")
    assert (await counted(connection)).get("Wonderland") is None
    assert await ops(settings, capsys, "countries", "rebuild", "--yes") == (0, f"{said}\n")

    # 800 places are taken: of those with one event each, by the first by name. Oz had its event before.
    found = await counted(connection)
    assert (found["Wonderland"], found[None], found["Peru"]) == (5, 203, 1)
    assert "Oz" not in found
    assert "Invented 0798" in found
    assert "Invented 0799" not in found
    for unit in ("hour", "day", "week"):
        assert await counted(connection, unit) == found
    assert await rollup_differences(connection) == []

    # A country that has rows and no place gets none by another event; a new one does.
    async with storing("facebook", database) as store:
        await store.save(message(of("Oz"), of("Invented 0999"), of("Wonderland"), of("Neverland")))
    found = await counted(connection)
    assert (found["Wonderland"], found[None], found["Neverland"]) == (6, 205, 1)
    assert (await check(connection, database)).state == "wrong"  # 199 are free
    assert await rollup_differences(connection) == []


async def test_a_rebuild_frees_places_of_dropped_days(database: Database, connection: Connection) -> None:
    """Countries that only dropped days had lose their places; the rollups of those days stay as they are."""
    async with storing("facebook", database) as store:
        await store.save(message(*(of(f"Invented {number:04}", hours=72) for number in range(PLACES))))
        await store.save(message(of("Wonderland"), of("Wonderland", hours=72)))
    await connection.execute("SELECT drop_partitions('facebook_events', ((now() AT TIME ZONE 'UTC')::date - 5))")
    floor = (NOON - timedelta(hours=48)).date()
    await connection.execute("UPDATE partition_floors SET floor = $1", floor)
    await connection.execute(f"DROP TABLE facebook_events_{NOON - timedelta(hours=72):%Y%m%d}")
    assert await countries.rebuild(connection) == (1, PLACES, PLACES - 1)
    found = await counted(connection)
    assert (found["Invented 0001"], found["Wonderland"], found[None]) == (1, 1, 1)
    assert (await check(connection, database)).state == "ok"
    assert await rollup_differences(connection) == []


async def test_a_rebuild_beside_collectors(database: Database, connection: Connection) -> None:
    """Rebuilds while several collectors store, learn and count as other: rollups equal the rows after all of it."""
    await connection.execute(
        "INSERT INTO known_countries SELECT 'Filler ' || number FROM generate_series(1, $1::int) AS number", PLACES - 40
    )
    over = asyncio.Event()

    async def store_all(seed: int) -> None:
        async with storing("facebook", database) as store:
            number = seed
            while not over.is_set():
                number = (number * 7 + 13) % 151
                names = (f"Land {(number + place) % 151}" for place in range(20))
                await store.save(message(*(of(name, hours=place) for place, name in enumerate(names))))

    async with asyncio.TaskGroup() as tasks:
        for seed in (1, 2, 3):
            tasks.create_task(store_all(seed))
        for number in range(1, 4):

            async def stored(least: int = number * 300) -> bool:
                return bool(await connection.fetchval("SELECT sum(events) >= $1 FROM event_counts", least))

            await eventually(stored, what="more events are stored")
            await countries.rebuild(connection)
            await connection.execute("DISCARD TEMPORARY")
        over.set()
    assert await rollup_differences(connection) == []


async def test_a_registry_that_is_held(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a session holds the registry for long, the command says so and changes nothing."""
    monkeypatch.setattr(countries, "MAX_LOCK_TRIES", 1)
    holder = await asyncpg.connect(database.reporter_dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE known_countries IN ACCESS SHARE MODE")
        with pytest.raises(SluiceError, match="another session locks known_countries"):
            await countries.rebuild(connection)
    finally:
        await holder.close()
    assert await countries.free_places(connection) == PLACES
