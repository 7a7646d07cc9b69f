"""Every limit of the contract: the limit itself is taken and stored at full width, the first value past it is not.

What is stored is read back from PostgreSQL and compared with what was sent, digit by digit and byte by byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from collector.sources import SOURCES
from core import postgres
from core.events.contract import Contract, Invalid, Reason
from core.postgres import Connection
from core.sources.fields import MAX_EVENT_BYTES
from tests.support.collecting import ANY_TIME, balanced, storing
from tests.support.events import MAKERS, NOON, SHAPES, Event, changed, encoded, facebook, message, microseconds, rfc3339
from tests.support.stack import Database

ID_BYTES, TEXT_BYTES, SMALLINT, INTEGER = 200, 8 * 1024, 32_767, 2_147_483_647
CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection that may read everything."""
    connection = await postgres.connect(database.reporter_dsn, name="tests")
    yield connection
    await connection.close()


def rejection(event: Event | bytes, received_at: datetime | None = None) -> tuple[Reason, str]:
    with pytest.raises(Invalid) as caught:
        CONTRACT.read(encoded(event), microseconds(received_at))
    return caught.value.reason, caught.value.path


def texts_of(source: str, stage: str) -> dict[str, str]:
    """The paths of free text that an event of this shape stores, with their columns; the id is another matter."""
    event = MAKERS[source](stage)
    return {
        path: column
        for column, path in SOURCES[source].columns.items()
        if path.rpartition(".")[2]
        in (
            "userId",
            "name",
            "username",
            "country",
            "city",
            "videoId",
            "adId",
            "campaignId",
            "profileId",
            "purchasedItem",
        )
        and _has(event, path)
    }


def _has(event: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(event, dict) or key not in event:
            return False
        event = event[key]
    return True


async def stored(database: Database, connection: Connection, events: list[Event]) -> list[asyncpg.Record]:
    """Store these events of one source; their rows, in order."""
    source = events[0]["source"]
    async with storing(source, database, ANY_TIME) as store:
        outcome = await store.save(message(*events))
    assert (outcome.stored, outcome.dead_letters) == (len(events), [])
    rows = await connection.fetch(f"SELECT * FROM {source}_events")
    by_id = {row["event_id"]: row for row in rows}
    await balanced(connection)
    return [by_id[event["eventId"]] for event in events]


def widest(size: int) -> list[str]:
    """Texts of exactly so many bytes: of one, two, three and four bytes a character."""
    return [
        "x" * size,
        "é" * (size // 2),
        "€" * (size // 3) + "x" * (size % 3),
        "😀" * (size // 4),
    ]


async def test_ids_of_200_bytes(database: Database, connection: Connection) -> None:
    """eventId: 200 bytes of UTF-8 in any script are stored as they are and distinguished, 201 are too long."""
    for source in MAKERS:
        events = [MAKERS[source](event_id=text) for text in (*widest(ID_BYTES), "y" * (ID_BYTES - 1), "z")]
        rows = await stored(database, connection, events)
        assert [row["event_id"] for row in rows] == [event["eventId"] for event in events]
        for text in widest(ID_BYTES):
            assert rejection(MAKERS[source](event_id=text + "x")) == (Reason.TOO_LONG, "$.eventId")
        assert rejection(changed(MAKERS[source](), "eventId", "")) == (Reason.EMPTY, "$.eventId")


async def test_texts_of_8_kib(database: Database, connection: Connection) -> None:
    """Any other listed text: 8 KiB in any script are stored in its column, one byte more is too long; empty is fine."""
    for source in MAKERS:
        events, wanted = [], []
        for stage in ("top", "bottom"):
            for path, column in texts_of(source, stage).items():
                for text in (*widest(TEXT_BYTES), ""):
                    events.append(changed(MAKERS[source](stage), path, text))
                    wanted.append((column, text))
                assert rejection(changed(MAKERS[source](stage), path, "é" * (TEXT_BYTES // 2) + "x")) == (
                    Reason.TOO_LONG,
                    f"$.{path}",
                )
        rows = await stored(database, connection, events)
        assert [(column, row[column]) for (column, _), row in zip(wanted, rows, strict=True)] == wanted


async def test_an_event_with_every_text_at_its_limit(database: Database, connection: Connection) -> None:
    """All of an event's texts may be at their limit together: no row, no index entry is too large for it."""
    for source, stage in SHAPES:
        event = MAKERS[source](stage, event_id="😀" * (ID_BYTES // 4 - 1) + stage[:3])
        for number, path in enumerate(texts_of(source, stage)):
            # Not one character over and over, which the database would compress away.
            scrambled = "".join(chr(0x4E00 + (17 * place * place + 31 * number) % 20_000) for place in range(2730))
            event = changed(event, path, scrambled + "xx")
        await stored(database, connection, [event])


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_no_text_holds_a_nul(source: str, stage: str) -> None:
    """A NUL, at the start, inside or at the end, is invalid text in every listed key; an escaped backslash is not."""
    for path in ("eventId", *texts_of(source, stage)):
        for text in ("\0", "a\0b", "ab\0"):
            assert rejection(changed(MAKERS[source](stage), path, text)) == (Reason.INVALID_TEXT, f"$.{path}")
        CONTRACT.read(encoded(changed(MAKERS[source](stage), path, "a\\u0000")), microseconds())


WHOLE_NUMBERS = [
    ("facebook", "top", "data.user.age", "age", SMALLINT),
    ("tiktok", "bottom", "data.user.followers", "followers", INTEGER),
    ("tiktok", "top", "data.engagement.watchTime", "watch_time", INTEGER),
    ("tiktok", "top", "data.engagement.percentageWatched", "percentage_watched", 100),
]


async def test_whole_numbers_are_stored(database: Database, connection: Connection) -> None:
    """Counts: 0 and the largest are stored as they are."""
    for source, stage, path, column, most in WHOLE_NUMBERS:
        values = [0, 1, most - 1, most]
        rows = await stored(database, connection, [changed(MAKERS[source](stage), path, value) for value in values])
        assert [row[column] for row in rows] == values


@pytest.mark.parametrize(("source", "stage", "path", "_column", "most"), WHOLE_NUMBERS)
def test_whole_numbers_past_their_limit(source: str, stage: str, path: str, _column: str, most: int) -> None:
    """-1, one more than the largest and huge numbers are out of range; a fraction or an exponent is a wrong type."""

    def spelt(digits: bytes) -> bytes:
        return encoded(changed(MAKERS[source](stage), path, "HERE")).replace(b'"HERE"', digits)

    for value in (-1, most + 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, -(10**400)):
        if not 0 <= value <= most:
            assert rejection(changed(MAKERS[source](stage), path, value)) == (Reason.OUT_OF_RANGE, f"$.{path}")
    for digits in (b"1e200000", b"-1e200000"):
        assert rejection(spelt(digits)) == (Reason.OUT_OF_RANGE, f"$.{path}")
    for digits in (b"1e2", b"1.0", b"0.0", b"1e-200000"):
        assert rejection(spelt(digits)) == (Reason.WRONG_TYPE, f"$.{path}")


AMOUNT = "data.engagement.purchaseAmount"


async def test_amounts_are_stored_to_the_cent(database: Database, connection: Connection) -> None:
    """purchaseAmount: ten digits and two decimals are stored exactly, however many of them are written."""
    given = ["9999999999.99", "9999999999", "0000000000.01", "0", "0.0", "0.00", "00", "1.5", "203.95"]
    for source in MAKERS:
        rows = await stored(database, connection, [changed(MAKERS[source]("bottom"), AMOUNT, text) for text in given])
        assert [row["purchase_amount"] for row in rows] == [Decimal(text) for text in given]


@pytest.mark.parametrize("source", MAKERS)
def test_any_other_spelling_is_no_amount(source: str) -> None:
    """An eleventh digit, a third decimal, a sign or an exponent is an invalid amount; a number is a wrong type."""
    event = MAKERS[source]("bottom")
    for text in (
        *("10000000000", "00000000000", "99999999999.9", "0.001", "1.", ".5", "", "-1", "+1", "1e3", "1E3", "1_000"),
        *(
            "1,5",
            "1,000.00",
            " 1",
            "1 ",
            "1\n",
            "\n1",
            "NaN",
            "Infinity",
            "0x10",
            "$5",
            "١٢",
            "１",
            "1.٥",
            "²",
            "1.5.5",
        ),
    ):
        assert rejection(changed(event, AMOUNT, text)) == (Reason.INVALID_AMOUNT, f"$.{AMOUNT}"), text
    for number in (203.95, 203, 0):
        assert rejection(changed(event, AMOUNT, number)) == (Reason.WRONG_TYPE, f"$.{AMOUNT}")


async def test_a_day_of_the_largest_amounts_adds_up(database: Database, connection: Connection) -> None:
    """The rollup's revenue is wide enough, and exact, where every event has the largest amount."""
    events = [changed(facebook("bottom"), "data.engagement.purchaseAmount", "9999999999.99") for _ in range(2_000)]
    await stored(database, connection, events)
    assert await connection.fetchval("SELECT sum(revenue) FROM event_counts") == Decimal("9999999999.99") * 2_000


async def test_instants_of_the_years_2000_to_2100(database: Database, connection: Connection) -> None:
    """Both ends are stored to the microsecond, with a day's partition of their own; one step past is invalid."""
    ends = {
        "2000-01-01T00:00:00.000000Z": datetime(2000, 1, 1, tzinfo=UTC),
        "2100-12-31T23:59:59.999999Z": datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "2101-01-01T23:58:59.999999+23:59": datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "2026-11-22T07:25:58.541Z": datetime(2026, 11, 22, 7, 25, 58, 541_000, tzinfo=UTC),
        "2026-11-22T07:25:58.999999999+0000": datetime(2026, 11, 22, 7, 25, 58, 999_999, tzinfo=UTC),
        "2026-11-22T07:25:58+01": datetime(2026, 11, 22, 6, 25, 58, tzinfo=UTC),
    }
    for source, stage in (("facebook", "top"), ("tiktok", "bottom")):
        events = [
            changed(changed(MAKERS[source](stage), "timestamp", text), "data.engagement.actionTime", text)
            for text in ends
        ]
        rows = await stored(database, connection, events)
        assert [(row["event_time"], row["action_time"]) for row in rows] == [
            (moment, moment) for moment in ends.values()
        ]
        for text in (
            "1999-12-31T23:59:59.999999Z",
            "2101-01-01T00:00:00Z",
            "2026-11-22T07:25:58.1234567890Z",
            "2026-11-22T07:25:58+0060",
            "2026-11-22",
        ):
            for path in ("timestamp", "data.engagement.actionTime"):
                assert rejection(changed(MAKERS[source](stage), path, text)) == (Reason.INVALID_TIMESTAMP, f"$.{path}")


async def test_an_event_is_the_same_however_its_instant_is_spelt(database: Database, connection: Connection) -> None:
    """Source, id and the instant in microseconds are an event: other zones and more digits are repeats of it."""
    spelt = (
        "2026-11-22T07:25:58.123456Z",
        "2026-11-22t07:25:58.123456z",
        "2026-11-22T08:25:58.123456+01:00",
        "2026-11-22T08:25:58.1234569+0100",
        "2026-11-22T06:25:58.123456789-01",
    )
    for source in MAKERS:
        event = MAKERS[source]()
        async with storing(source, database, ANY_TIME) as store:
            outcome = await store.save(message(*(changed(event, "timestamp", text) for text in spelt)))
        assert (outcome.stored, outcome.repeated, outcome.dead_letters) == (1, len(spelt) - 1, [])
    await balanced(connection)


def test_the_window_of_time() -> None:
    """timestamp: seven days back and one hour ahead of its reception are taken, a microsecond more is not.

    An action's own time has no such window.
    """
    oldest, newest = NOON - timedelta(days=7), NOON + timedelta(hours=1)
    step = timedelta(microseconds=1)
    for moment in (oldest, newest):
        CONTRACT.read(encoded(facebook(at=moment)), microseconds(NOON))
    assert rejection(facebook(at=oldest - step), NOON) == (Reason.TOO_OLD, "$.timestamp")
    assert rejection(facebook(at=newest + step), NOON) == (Reason.TOO_FAR_AHEAD, "$.timestamp")
    ancient = changed(facebook(at=NOON), "data.engagement.actionTime", rfc3339(NOON - timedelta(days=3_000)))
    CONTRACT.read(encoded(ancient), microseconds(NOON))


def test_an_event_of_256_kib() -> None:
    """As received, blanks and unlisted keys included, 256 KiB are taken and one byte more is too large."""
    event = encoded(facebook())
    room = MAX_EVENT_BYTES - len(event)
    for filled in (event + b" " * room, event[:-1] + b',"more":"' + b"x" * (room - 10) + b'"}'):
        assert len(filled) == MAX_EVENT_BYTES
        CONTRACT.read(filled, microseconds())
        assert rejection(filled.replace(b"{", b"{ ", 1)) == (Reason.TOO_LARGE, "$")
