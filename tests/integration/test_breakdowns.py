"""Breakdowns are counted from rows, are valid only while the rollups say the same, and are never further off than their
error says."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from nats.aio.client import Client

from collector import faults
from collector.maintenance import breakdowns
from collector.maintenance.breakdowns import BreakdownCounter, BreakdownScheduler, BreakdownsDiffer, Bucket
from core import postgres
from core.postgres import Connection
from core.sources import SourceName
from tests.support.breakdowns import COLUMNS, contradictions, made, read, rows, start_of, wrong
from tests.support.collecting import publish
from tests.support.collector_process import collector_process
from tests.support.events import NOON, facebook, message
from tests.support.report_rows import Collected, collecting, reporter_pool
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

SOURCES: tuple[SourceName, ...] = ("facebook", "tiktok")
MOST = 5
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
WEEK = start_of("week", MIDNIGHT) - timedelta(days=14)
"""The start of a week that has ended."""
NOW = MIDNIGHT + timedelta(days=2)


@pytest.fixture
async def collected(database: Database) -> AsyncIterator[Collected]:
    """A collector's store."""
    async with collecting(database.collector_dsn) as collected:
        yield collected


@pytest.fixture
async def session(database: Database) -> AsyncIterator[Connection]:
    """A session of the collector's role."""
    connection = await postgres.connect(database.collector_dsn, name="tests")
    yield connection
    await connection.close()


async def count(session: Connection, most: int = MOST, until: datetime = NOW) -> int:
    """Count all of both sources."""
    return sum([await BreakdownCounter(session, source, most).count_all(until) for source in SOURCES])


async def uncounted(session: Connection, source: str = "facebook", until: datetime = NOW) -> int:
    return await BreakdownCounter(session, source, MOST).uncounted(until)


@pytest.mark.parametrize("values", ["zipf", "unique", "one"])
@pytest.mark.parametrize("most", [1, 5, 10_000])
async def test_counts_are_those_of_the_rows(
    database: Database, collected: Collected, session: Connection, values: str, most: int
) -> None:
    """Each quarter-hour, hour, day and week counts its rows by every breakdown; what is cut off is bounded."""
    rng = Random(f"{values}/{most}")
    moments = [WEEK + timedelta(seconds=rng.randrange(7 * 86_400)) for _ in range(60)]
    moments += [WEEK + timedelta(days=1, seconds=rng.randrange(7_200)) for _ in range(240)]
    await collected.store(made(rng, rng.choice(SOURCES), at, values) for at in moments)
    assert await count(session, most) > 100
    assert await wrong(session, most) == []
    if most == breakdowns.MAX_VALUES:
        assert await session.fetchval("SELECT max(listed_error + unlisted_error) FROM breakdown_counts") == 0
    units = {row["unit"] for row in await session.fetch("SELECT DISTINCT unit FROM breakdown_buckets")}
    assert units == {"quarter", "hour", "day", "week"}
    assert [await uncounted(session, source) for source in SOURCES] == [0, 0]
    assert await count(session, most) == 0  # nothing is left to do


async def test_a_late_event_makes_its_buckets_invalid(
    database: Database, collected: Collected, session: Connection
) -> None:
    """The quarter-hour of a late event, its hour, day and week are counted again, and no other."""
    rng = Random(1)
    at = WEEK + timedelta(days=3)
    await collected.store(made(rng, "facebook", at + timedelta(minutes=minute), "zipf") for minute in range(180))
    await count(session)
    assert await uncounted(session) == 0
    before = dict(await session.fetch("SELECT (unit, bucket)::text, counted_at FROM breakdown_buckets"))
    await collected.store([made(rng, "facebook", at + timedelta(minutes=20), "zipf")])
    assert await uncounted(session) == 1
    counter = BreakdownCounter(session, "facebook", MOST)
    assert await counter.count_quarter(NOW) is None  # it was counted a moment ago: it waits
    assert await counter.count_quarter(NOW, timedelta(0)) == Bucket("quarter", at + timedelta(minutes=15))
    assert [await counter.count_total(NOW) for _ in range(4)] == [
        Bucket("hour", at), Bucket("day", at), Bucket("week", WEEK), None
    ]  # fmt: skip
    assert await wrong(session, MOST) == []
    after = dict(await session.fetch("SELECT (unit, bucket)::text, counted_at FROM breakdown_buckets"))
    assert len([key for key in after if after[key] != before[key]]) == 4


async def test_only_what_has_ended_is_counted(database: Database, collected: Collected, session: Connection) -> None:
    """A quarter-hour or total that has not ended at the watermark is left alone."""
    at = WEEK + timedelta(days=3)
    await collected.store(facebook(at=at + timedelta(minutes=minute)) for minute in range(0, 60, 5))
    counter = BreakdownCounter(session, "facebook", MOST)
    assert await counter.count_all(at + timedelta(minutes=44)) == 2
    assert await counter.count_all(at + timedelta(minutes=59)) == 1
    assert await counter.count_all(at + timedelta(minutes=60)) == 2  # the last one and the hour
    assert await counter.count_all(at + timedelta(hours=24)) == 1


async def test_newest_first(database: Database, collected: Collected, session: Connection) -> None:
    """The newest quarter-hour is counted first, whatever its day."""
    moments = [WEEK + timedelta(hours=hours) for hours in (1, 30, 31, 100)]
    await collected.store(facebook(at=at) for at in moments)
    counter = BreakdownCounter(session, "facebook", MOST)
    found = [await counter.count_quarter(NOW) for _ in moments]
    assert found == [Bucket("quarter", at) for at in reversed(moments)]


async def test_rows_below_the_floor_are_not_counted_again(
    database: Database, collected: Collected, session: Connection, connection: Connection
) -> None:
    """Where rows were dropped, what was counted stays and is read; what was not counted is not counted as empty."""
    at = MIDNIGHT - timedelta(days=10)
    await collected.store(facebook(at=at + timedelta(hours=hour)) for hour in range(48))
    counter = BreakdownCounter(session, "facebook", MOST)
    for _ in range(24):  # the second day
        await counter.count_quarter(NOW)
    await connection.execute("SELECT drop_days('facebook_events', $1)", at.date() + timedelta(days=2))
    assert await uncounted(session) == 0
    assert await counter.count_quarter(NOW) is None
    await counter.count_all(NOW)
    buckets, since = await read(session, "facebook", "city", [at + timedelta(days=1), at + timedelta(days=2)])
    assert (buckets[0]["Bergen", None].events, since) == (24, None)
    _, since = await read(session, "facebook", "city", [at, at + timedelta(days=2)])
    assert since == at  # below the floor: the report has to say so


async def test_rows_that_the_rollups_do_not_count_stop_a_count(
    database: Database, collected: Collected, session: Connection, connection: Connection
) -> None:
    """If rows and rollups differ, nothing is written, and the quarter-hour does not hold up the others."""
    await collected.store(facebook(at=WEEK + timedelta(hours=hour)) for hour in range(3))
    await connection.execute("DELETE FROM facebook_events WHERE event_time = $1", WEEK + timedelta(hours=2))
    counter = BreakdownCounter(session, "facebook", MOST)
    with pytest.raises(BreakdownsDiffer, match="0 rows") as raised:
        await counter.count_quarter(NOW)
    assert raised.value.bucket == WEEK + timedelta(hours=2)
    assert await session.fetchval("SELECT count(*) FROM breakdown_counts") == 0
    assert await counter.count_quarter(NOW, skipped=(raised.value.bucket,)) == Bucket(
        "quarter", WEEK + timedelta(hours=1)
    )


async def test_a_breakdown_that_is_declared_later_is_counted(
    database: Database, collected: Collected, session: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets that were counted without a breakdown are read from rows for it, and counted again."""
    rng = Random(5)
    await collected.store(made(rng, "facebook", WEEK + timedelta(minutes=minute), "zipf") for minute in range(120))
    await count(session)
    await session.execute("UPDATE breakdown_buckets SET breakdowns = array_remove(breakdowns, 'age,gender')")
    bounds = [WEEK, WEEK + timedelta(days=7)]
    kept = await rows(session, "facebook")
    for breakdown, since in (("age,gender", WEEK), ("city", None)):
        buckets, found = await read(session, "facebook", breakdown, bounds)
        assert (contradictions(buckets, kept, breakdown, bounds), found) == ([], since)
    assert await uncounted(session) == 8
    await count(session)
    assert (await read(session, "facebook", "age,gender", bounds))[1] is None


# --- the steps of a collector


async def watermark(connection: Connection, until: datetime) -> None:
    await connection.execute(
        "INSERT INTO watermarks SELECT source, $1, 0 FROM unnest(enum_range(NULL::source)) source", until
    )


async def test_one_collector_counts_at_a_time(
    database: Database, collected: Collected, session: Connection, connection: Connection
) -> None:
    """While one counts the others wait; after a count all of them rest; then any of them goes on."""
    await collected.store(facebook(at=WEEK + timedelta(hours=hour)) for hour in range(3))
    await watermark(connection, NOW)
    one, two = (BreakdownScheduler(database.collector_dsn, "facebook") for _ in range(2))
    try:
        await session.fetchval("SELECT pg_advisory_lock(hashtext('sluice.breakdowns'), hashtext('facebook'))")
        await one.step()
        assert await session.fetchval("SELECT count(*) FROM breakdown_buckets") == 0
        await session.fetchval("SELECT pg_advisory_unlock_all()")
        await one.step()
        counted = await session.fetchval("SELECT count(*) FROM breakdown_buckets WHERE unit = 'quarter'")
        assert counted == 1
        await connection.execute("UPDATE breakdown_turns SET rest_until = now() + interval '1 hour'")
        await two.step()
        assert two.pause_seconds == breakdowns.POLL_SECONDS
        assert await session.fetchval("SELECT count(*) FROM breakdown_buckets WHERE unit = 'quarter'") == 1
        for counting in (two, one):
            await connection.execute("UPDATE breakdown_turns SET rest_until = now()")
            await counting.step()
        assert await uncounted(session) == 0
    finally:
        one.close()
        two.close()


async def test_nothing_is_counted_without_a_watermark(
    database: Database, collected: Collected, session: Connection
) -> None:
    """Before a collector has written how far a source is stored, no quarter-hour has ended for certain."""
    await collected.store([facebook(at=WEEK)])
    counting = BreakdownScheduler(database.collector_dsn, "facebook")
    await counting.step()
    counting.close()
    assert await session.fetchval("SELECT count(*) FROM breakdown_buckets") == 0


# --- reading


@pytest.fixture(params=["zipf", "unique", "one"])
async def mixed(
    request: pytest.FixtureRequest, database: Database, collected: Collected, session: Connection
) -> Random:
    """Events of three weeks and today: some quarter-hours counted, some invalid, some being counted, some never."""
    rng = Random(request.param)
    start = WEEK - timedelta(days=3)
    length = int((MIDNIGHT + timedelta(hours=20) - start).total_seconds())
    moments = [start + timedelta(seconds=rng.randrange(length)) for _ in range(500)]
    moments += [WEEK + timedelta(days=8, seconds=rng.randrange(20_000)) for _ in range(300)]
    await collected.store(made(rng, rng.choice(SOURCES), at, request.param) for at in moments)
    await count(session, 3)
    late = [made(rng, rng.choice(SOURCES), rng.choice(moments), request.param) for _ in range(12)]
    await collected.store(late)
    for source in SOURCES:
        counter = BreakdownCounter(session, source, 3)
        for _ in range(4):  # some of the late ones are counted again, their totals are not yet
            await counter.count_quarter(NOW, timedelta(0))
    await session.execute(
        "DELETE FROM breakdown_buckets WHERE unit = 'quarter' AND bucket > $1", MIDNIGHT
    ) if False else None
    return rng


async def test_any_range_is_right_within_its_error(database: Database, session: Connection, mixed: Random) -> None:
    """Any range, interval and filter: no value is further off than its error, and all values together are exact."""
    kept = {source: await rows(session, source) for source in SOURCES}
    pieces: set[str] = set()
    async with reporter_pool(database.reporter_dsn) as (pool, _), pool.acquire() as connection:
        for _ in range(60):
            source = mixed.choice(SOURCES)
            breakdown = mixed.choice(list(COLUMNS[source]))
            bounds, interval = some_bounds(mixed)
            types = mixed.choice((None, None, {row.event_type for row in kept[source]}))
            event_types = None if types is None else mixed.sample(sorted(types), 2)
            buckets, since = await read(
                connection, source, breakdown, bounds,
                interval=interval, event_types=event_types, order=mixed.choice(("events", "revenue")),
                top=mixed.choice((1, 3, 1_000)), skip=mixed.choice((0, 0, 1)),
            )  # fmt: skip
            said = contradictions(buckets, kept[source], breakdown, bounds, event_types)
            assert said == [], (breakdown, bounds, interval, event_types)
            pieces.add("rows" if since else "counts")
    assert pieces == {"rows", "counts"}


def some_bounds(rng: Random) -> tuple[list[datetime], str | None]:
    """Bounds of buckets between the first event and the last one, and their interval."""
    interval = rng.choice((None, None, "day", "hour", "15minutes", "week"))
    step = {None: 1, "day": 86_400, "hour": 3_600, "15minutes": 900, "week": 604_800}[interval]
    start = WEEK - timedelta(days=4) + timedelta(seconds=rng.randrange(14 * 86_400))
    if rng.random() < 0.7:
        start = start_of(rng.choice(("quarter", "hour", "day")), start)
    if interval is None:
        return [start, start + timedelta(seconds=rng.choice((rng.randrange(1, 2_000_000), 900, 86_400 * 9)))], None
    first = start_of({"15minutes": "quarter"}.get(interval, interval), start) + timedelta(seconds=step)
    inner = [first + timedelta(seconds=step * number) for number in range(rng.randrange(1, 6))]
    return [start, *inner] if start < first else [*inner, inner[-1] + timedelta(seconds=step)], interval


async def test_the_values_with_most_are_listed(database: Database, collected: Collected, session: Connection) -> None:
    """Order is by the figure of the whole range, then by value; a page begins after the one before."""
    events = []
    for city, times in (("C", 5), ("A", 3), ("B", 3), ("D", 1)):
        for number in range(times):
            event = facebook("bottom", at=WEEK + timedelta(hours=5 * number))
            event["data"]["user"]["location"]["city"] = city
            event["data"]["engagement"]["purchaseAmount"] = "9.00" if city == "D" else "1.00"
            events.append(event)
    await collected.store(events)
    await count(session, 100)
    bounds = [WEEK, WEEK + timedelta(days=7)]

    async def listed(**options: object) -> list[str]:
        (figures,), since = await read(session, "facebook", "city", bounds, **options)  # type: ignore[arg-type]
        assert since is None
        return [value[0] for value in figures if value is not None]

    assert sorted(await listed(top=2)) == ["A", "C"]
    assert await listed(top=1, skip=2) == ["B"]
    assert await listed(top=1, order="revenue") == ["D"]
    assert await listed(values=[("B", None), ("none", None)]) == ["B"]


async def test_pieces(database: Database, collected: Collected, session: Connection) -> None:
    """A span is read in its longest valid units; an invalid one becomes its parts, the last of them rows."""
    at = WEEK + timedelta(days=2)
    moments = [WEEK, at, at + timedelta(hours=5), at + timedelta(hours=5, minutes=20), at + timedelta(days=8)]
    await collected.store(facebook(at=moment) for moment in moments)
    await count(session)

    async def pieces(unit: str, start: datetime, end: datetime) -> list[tuple[str, datetime]]:
        found = await session.fetch(
            "SELECT unit, lower FROM breakdown_pieces('facebook', 'city', $1, $2, $3, $4, $5) ORDER BY lower",
            [unit], [start], [end], [None], [1],
        )  # fmt: skip
        return [tuple(row) for row in found]

    weeks = (WEEK, WEEK + timedelta(days=14))
    assert await pieces("week", *weeks) == [("week", WEEK), ("week", WEEK + timedelta(days=7))]
    await collected.store([facebook(at=at + timedelta(hours=5, minutes=21))])
    assert await pieces("week", *weeks) == [
        ("day", WEEK),
        ("hour", at),
        ("quarter", at + timedelta(hours=5)),
        ("rows", at + timedelta(hours=5, minutes=15)),
        ("week", WEEK + timedelta(days=7)),
    ]
    assert await pieces("day", at, at + timedelta(days=1)) == [
        ("hour", at),
        ("quarter", at + timedelta(hours=5)),
        ("rows", at + timedelta(hours=5, minutes=15)),
    ]
    assert await pieces("rows", at, at + timedelta(minutes=7)) == [("rows", at)]
    assert await pieces("day", at + timedelta(days=1), at + timedelta(days=2)) == []


# --- the collector's process


async def test_a_collector_counts_and_kill_9_leaves_nothing(
    database: Database, fresh_nats: FreshNats, client: Client, session: Connection, tmp_path: Path
) -> None:
    """A collector counts what it has stored. One that is killed before the commit leaves nothing of the count; the
    next one counts all of it."""
    settings = {"collector_dsn": database.collector_dsn, "nats_url": fresh_nats.url}
    await publish(client, "facebook", message(*(facebook(at=NOON + timedelta(minutes=n)) for n in range(40))))
    armed = tmp_path / faults.BREAKDOWNS_COUNTED
    armed.write_text("kill")
    async with collector_process("facebook", sluice_faults_folder=str(tmp_path), **settings) as collector:
        assert await collector.end(60) == -signal.SIGKILL
    assert not armed.exists()
    for table in ("breakdown_buckets", "breakdown_counts"):
        assert await session.fetchval(f"SELECT count(*) FROM {table}") == 0
    async with collector_process("facebook", **settings) as collector:

        async def counted() -> bool:
            found = await session.fetchval("SELECT count(*) FROM breakdown_buckets WHERE unit = 'quarter'")
            return bool(found == 3)

        await eventually(counted, what="all quarter-hours are counted", seconds=60)
        await collector.is_ready()
        assert await collector.metric('collector_breakdown_quarters_counted_total{source="facebook"}') == 3
        assert await collector.terminate() == 0
    assert await wrong(session, breakdowns.MAX_VALUES) == []
