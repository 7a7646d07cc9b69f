"""Dead letters in an operator's hands: replayed, discarded, counted and kept."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client

from core.errors import SluiceError
from core.events import rejected
from core.events.contract import Invalid
from core.jetstream import stream_info
from core.postgres import Connection
from core.sources.fields import microseconds_of
from ops.settings import OperatorSettings
from tests.support.collecting import CONTRACT, balanced, collecting, drained, publish
from tests.support.events import NOON, Event, changed, encoded, facebook, message, part, tiktok, without
from tests.support.operator import ended, operator, ops, ops_json, start
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
async def connection(connection: Connection) -> Connection:
    """A connection of the owner's, on a table that takes no POISON."""
    await connection.execute("ALTER TABLE facebook_events ADD CONSTRAINT no_poison CHECK (city <> 'POISON')")
    return connection


@pytest.fixture
def settings(fresh_nats: FreshNats, database: Database) -> OperatorSettings:
    """The operator's settings of this test's servers."""
    return operator(fresh_nats.url, database.owner_dsn)


@asynccontextmanager
async def all_collected(database: Database, client: Client) -> AsyncIterator[None]:
    """Collectors of all sources run."""
    async with (
        collecting(database, client, "facebook"),
        collecting(database, client, "tiktok"),
        collecting(database, client, "rejected"),
    ):
        yield


def poison(number: int) -> Event:
    return changed(facebook(event_id=f"poison-{number}"), "data.user.location.city", "POISON")


async def bury(client: Client, count: int, first: int = 0) -> None:
    """Have so many events become dead letters, as many as one batch may hold at a time."""
    for start_ in range(first, first + count, 10):
        events = [poison(number) for number in range(start_, min(start_ + 10, first + count))]
        await publish(client, "facebook", message(*events, parts=[part(len(events), "request-1", NOON)]))
        await drained(client, "facebook")


async def reject(client: Client, *events: Event | bytes, received: datetime | None = None) -> None:
    """Have these events rejected at the gateway, and kept; for the reason that the gateway gives."""
    received = received or datetime.now(UTC)
    lines = []
    for event in events:
        with pytest.raises(Invalid) as why:
            CONTRACT.read(encoded(event), microseconds_of(received))
        lines.append(rejected.encode(rejected.rejected_event(encoded(event), why.value)))
    await publish(client, "rejected", message(*lines, parts=[part(len(lines), "request-2", received)]))
    await drained(client, "rejected")


async def fix(connection: Connection) -> None:
    await connection.execute("ALTER TABLE facebook_events DROP CONSTRAINT no_poison")


async def ids(connection: Connection) -> list[str]:
    rows = await connection.fetch("SELECT event_id FROM facebook_events ORDER BY length(event_id), event_id")
    return [row["event_id"] for row in rows]


async def outcomes(connection: Connection, table: str = "dead_letters") -> dict[str, int]:
    rows = await connection.fetch(f"SELECT outcome::text, count(*) FROM {table} GROUP BY 1")
    return {row["outcome"]: row["count"] for row in rows}


async def last(client: Client, stream: str = "EVENTS_FACEBOOK") -> int:
    return (await stream_info(client, stream)).state.last_seq


async def test_a_replay_after_the_cause_is_fixed_stores_each_event_once(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """Every dead letter is stored once, as it was received the first time; a second run finds nothing to do."""
    async with all_collected(database, client):
        await bury(client, 12)
        await fix(connection)
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "dead")
        assert (code, figures["selected"], figures["replayed"], figures["stored"]) == (0, 12, 12, 12)
        assert await ids(connection) == [f"poison-{number}" for number in range(12)]
        rows = await connection.fetch("SELECT DISTINCT correlation_id, received_at FROM facebook_events")
        assert [tuple(row) for row in rows] == [("request-1", NOON)]
        dead_letter = await connection.fetchrow(
            "SELECT outcome::text, outcome_at, replayed_as FROM dead_letters LIMIT 1"
        )
        assert dead_letter is not None
        assert dead_letter["outcome"] == "replayed"
        assert dead_letter["replayed_as"] == await last(client)
        published = await last(client)
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--all")
        assert (code, figures["selected"], figures["replayed"]) == (0, 0, 0)
        assert await last(client) == published
        await balanced(connection, client)


async def test_a_cause_that_is_not_fixed_gives_new_dead_letters(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """What goes out too early is dead again, reported with exit code 1; the ledger knows both dead letters by name."""
    async with all_collected(database, client):
        await bury(client, 3)
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "dead")
        assert (code, figures["replayed"], figures["dead_again"]) == (1, 3, 3)
        assert await outcomes(connection) == {"replayed": 3, "kept": 3}
        await balanced(connection, client)


async def test_many_dead_letters_that_die_again_do_not_stop_their_source(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """More dead letters than a batch may have of dead events share a message and die again: its source goes on."""
    async with all_collected(database, client):
        await bury(client, 30)
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "dead")
        assert (code, figures["replayed"], figures["dead_again"]) == (1, 30, 30)
        await publish(client, "facebook", message(facebook(event_id="fresh")))
        await drained(client, "facebook")
        assert await ids(connection) == ["fresh"]
        assert await outcomes(connection) == {"replayed": 30, "kept": 30}
        await balanced(connection, client)


async def test_killed_between_publishing_and_closing(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """SIGKILL where dead letters are out and not closed: the next run sends them again, and each event is stored
    once."""
    async with all_collected(database, client):
        await bury(client, 9)
        await fix(connection)
        published = await last(client)
        async with connection.transaction():
            await connection.execute("LOCK TABLE dead_letters IN EXCLUSIVE MODE")  # it may be read, not changed
            replaying = await start(settings, "dead-letters", "replay", "--all", "--rate", "5")

            async def out() -> bool:
                return await last(client) > published

            await eventually(out, what="the first page is out", seconds=60)
            replaying.kill()
            assert (await ended(replaying))[0] == -9
        assert await outcomes(connection) == {"kept": 9}

        async def alone() -> bool:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice-operator'"
            return bool(await connection.fetchval(query) == 0)

        await eventually(alone, what="the killed one's session has ended", seconds=60)
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--all")
        assert (code, figures["replayed"], figures["stored"], figures["repeated"]) == (0, 9, 4, 5)
        assert await ids(connection) == [f"poison-{number}" for number in range(9)]
        assert await outcomes(connection) == {"replayed": 9}
        await balanced(connection, client)


async def test_interrupted_by_ctrl_c(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """The page at hand is finished, what is left is reported with exit code 1, and the next run goes on from there."""
    async with all_collected(database, client):
        await bury(client, 4)
        await fix(connection)
        published = await last(client)
        replaying = await start(settings, "dead-letters", "replay", "--all", "--rate", "1")

        async def out() -> bool:
            return await last(client) > published

        await eventually(out, what="the first page is out", seconds=60)
        replaying.send_signal(signal.SIGINT)
        code, said, errors = await ended(replaying)
        assert code == 1, errors
        assert "of 4: run the command again to continue" in said
        assert "Traceback" not in errors
        sent = (await outcomes(connection))["replayed"]
        assert 1 <= sent <= 3
        _, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--all")
        assert (figures["replayed"], figures["stored"]) == (4 - sent, 4 - sent)
        assert await ids(connection) == [f"poison-{number}" for number in range(4)]
        await balanced(connection, client)


async def test_a_rate_bounds_what_goes_out_at_a_time(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """With 4 a second no message holds more than 4 dead letters; --limit ends after so many, and the rest stays
    kept."""
    async with collecting(database, client, "facebook"):
        await bury(client, 10)
    code, figures = await ops_json(
        settings, capsys, "dead-letters", "replay", "--all", "--rate", "4", "--limit", "7", "--wait", "0"
    )
    assert (code, figures["replayed"], figures["waiting_messages"]) == (1, 7, 2)
    counts = await connection.fetch("SELECT count(*) FROM dead_letters GROUP BY replayed_as ORDER BY replayed_as")
    assert [row["count"] for row in counts] == [4, 3, 3]  # two messages, and three dead letters that stay


async def test_a_dry_run_changes_nothing(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """It says what would be done; nothing is published and no dead letter closed, by replay as by discard."""
    async with all_collected(database, client):
        await bury(client, 2)
        await reject(client, changed(facebook(), "data.user.gender", "alien"))
        before = await last(client), await last(client, "REJECTED")
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--all", "--dry-run")
        assert (code, figures["replayed"], figures["kept_by_reason"]) == (0, 2, {"not_allowed": 1})
        code, said = await ops(settings, capsys, "dead-letters", "discard", "--all", "--dry-run")
        assert code == 0
        assert "3 dead letters would be discarded (dry run: nothing was changed)" in said
        assert (await last(client), await last(client, "REJECTED")) == before
        assert await outcomes(connection) == {"kept": 2}
        assert await outcomes(connection, "rejected_events") == {"kept": 1}


async def test_filters_choose_and_discard_closes(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """Kind, source, reason, time and name each narrow down; discard closes those alone, and asks before."""
    async with all_collected(database, client):
        await bury(client, 2)
        await reject(client, changed(facebook(), "data.user.gender", "alien"), changed(tiktok(), "eventId", ""))
        await reject(client, without(tiktok(), "data.user.username"), b"not json")
    await connection.execute("UPDATE rejected_events SET stored_at = now() - interval '3 days' WHERE id = 1")

    async def names(*arguments: str) -> set[str]:
        _, found = await ops_json(settings, capsys, "dead-letters", "list", *arguments)
        return {dead_letter["id"] for dead_letter in found}

    assert await names() == {"dead-1", "dead-2", "rejected-1", "rejected-2", "rejected-3", "rejected-4"}
    assert await names("--kind", "dead") == {"dead-1", "dead-2"}
    assert await names("--source", "tiktok") == {"rejected-2", "rejected-3"}
    assert await names("--source", "unknown") == {"rejected-4"}
    assert await names("--source", "tiktok", "--reason", "missing_field") == {"rejected-3"}
    assert await names("--kind", "rejected", "--until", "2d") == {"rejected-1"}
    assert await names("--kind", "rejected", "--since", "2d", "--source", "tiktok") == {"rejected-2", "rejected-3"}
    _, figures = await ops_json(settings, capsys, "dead-letters", "replay", "dead-2", "rejected-1", "--dry-run")
    assert (figures["selected"], figures["replayed"]) == (2, 1)
    with pytest.raises(SluiceError, match="confirm with --yes"):  # no one can be asked here
        await ops(settings, capsys, "dead-letters", "discard", "--reason", "empty")
    code, said = await ops(settings, capsys, "dead-letters", "discard", "--reason", "empty", "--yes")
    assert (code, said.splitlines()[-1]) == (0, "1 dead letter discarded")
    assert await names("--outcome", "discarded") == {"rejected-2"}
    await ops(settings, capsys, "dead-letters", "discard", "rejected-2", "dead-1", "--yes")
    assert await names("--outcome", "discarded") == {"rejected-2", "dead-1"}
    assert await names() == {"dead-2", "rejected-1", "rejected-3", "rejected-4"}
    await balanced(connection, client)


async def test_names_that_mean_no_kept_dead_letter(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """Nothing is done where a named dead letter does not exist or was closed in the other way; done already is
    reported."""
    async with all_collected(database, client):
        await bury(client, 3)
        await fix(connection)
        published = await last(client)
        for action in (("replay",), ("replay", "--dry-run"), ("discard", "--yes")):
            with pytest.raises(
                SluiceError, match="there is no dead letter dead-99999, rejected-3: `sluice dead-letters list`"
            ):
                await ops(settings, capsys, "dead-letters", *action, "dead-1", "dead-99999", "rejected-3")
        assert (await last(client), await outcomes(connection)) == (published, {"kept": 3})
        _, figures = await ops_json(settings, capsys, "dead-letters", "replay", "dead-1")
        assert (figures["replayed"], figures["already"]) == (1, [])
        await ops(settings, capsys, "dead-letters", "discard", "dead-2", "--yes")
        published = await last(client)
        with pytest.raises(SluiceError, match="dead-2 is already discarded: only kept dead letters can"):
            await ops(settings, capsys, "dead-letters", "replay", "dead-2", "dead-3")
        with pytest.raises(SluiceError, match="dead-1 is already replayed: only kept dead letters can"):
            await ops(settings, capsys, "dead-letters", "discard", "dead-3", "dead-1", "--yes")
        assert (await last(client), (await outcomes(connection))["kept"]) == (published, 1)
        code, said = await ops(settings, capsys, "dead-letters", "replay", "dead-1")
        assert (code, "dead-1 is already replayed\nno kept dead letter is selected: nothing to do" in said) == (0, True)
        code, said = await ops(settings, capsys, "dead-letters", "discard", "dead-2", "--yes")
        assert (code, "dead-2 is already discarded\nno kept dead letter is selected: nothing to do" in said) == (
            0,
            True,
        )
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "dead-1", "dead-3")
        assert (code, figures["replayed"], figures["already"]) == (0, 1, ["dead-1"])
        assert await ids(connection) == ["poison-0", "poison-2"]
        await balanced(connection, client)


async def test_what_still_breaks_the_contract_stays_kept(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """The gateway's own rules decide, as they are now: what they reject stays, with its reason; the rest goes."""
    long_ago, ahead = NOON - timedelta(days=9), datetime.now(UTC) + timedelta(minutes=30)
    huge = changed(facebook(), "data.user.name", "x" * 70_000)
    async with all_collected(database, client):
        await reject(client, facebook(event_id="old", at=long_ago), changed(facebook(), "data.user.age", -1), huge)
        await reject(client, facebook(event_id="ahead", at=ahead), received=ahead - timedelta(hours=2))
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "rejected")
        assert (code, figures["stored"]) == (0, 1)  # our clock was two hours behind, and is not any more
        assert figures["kept_by_reason"] == {"too_old": 1, "out_of_range": 1, "kept_in_part": 1}
        older = operator(settings.nats_url, database.owner_dsn, max_event_age_days=30)
        _, figures = await ops_json(older, capsys, "dead-letters", "replay", "--reason", "too_old", "--wait", "0")
        assert (figures["replayed"], figures["kept"]) == (1, 0)
        await drained(client, "facebook")
        assert await ids(connection) == ["ahead"]  # collectors still go by 7 days: dead, and reported so
        _, (dead_letter,) = await ops_json(settings, capsys, "dead-letters", "list", "--kind", "dead")
        assert (dead_letter["reason"], dead_letter["correlation_id"]) == ("too_old", "request-2")
        await balanced(connection, client)


async def test_whole_messages_and_records_of_rejected_events(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """A message that could not be read stays until it can; a rejected event's record goes back to its stream."""
    await connection.execute("ALTER TABLE rejected_events ADD CONSTRAINT no_poison CHECK (path <> 'POISON')")
    record = rejected.encode(rejected.RejectedEvent(None, None, "malformed", "POISON", "broken", 3, b"x" * 32, b"{1}"))
    async with all_collected(database, client):
        await publish(client, "facebook", b"no message of ours", 1)
        await publish(client, "rejected", message(record))
        for name in ("facebook", "rejected"):
            await drained(client, name)
        await connection.execute("ALTER TABLE rejected_events DROP CONSTRAINT no_poison")
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "dead")
        assert (code, figures["replayed"], figures["stored"]) == (0, 1, 1)
        assert figures["kept_by_reason"] == {"malformed": 1}
        assert await connection.fetchval("SELECT event FROM rejected_events") == b"{1}"
        # As if this program could read what an older one could not.
        await connection.execute(
            "UPDATE dead_letters SET event = $1 WHERE position = -1", message(facebook(), facebook())
        )
        code, figures = await ops_json(settings, capsys, "dead-letters", "replay", "--kind", "dead")
        assert (code, figures["replayed"], figures["stored"]) == (0, 1, 2)


async def test_a_dead_letter_is_shown_as_it_is_and_harmless(
    database: Database, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """All that is known of a dead letter is shown, its event too, and no byte of it reaches the terminal as a
    command."""
    async with all_collected(database, client):
        await reject(client, changed(tiktok(), "eventType", "\x1b[31m[red]\x07"), b"\xff\xfe")
    code, said = await ops(settings, capsys, "dead-letters", "show", "rejected-1")
    assert code == 0
    assert "\x1b" not in said
    assert "[31m[red]" in said
    assert "not_allowed" in said
    _, dead_letter = await ops_json(settings, capsys, "dead-letters", "show", "rejected-2")
    assert (dead_letter["event_base64"], dead_letter["length"], dead_letter["reason"]) == ("//4=", 2, "malformed")
    with pytest.raises(SluiceError, match="there is no dead letter dead-7"):
        await ops(settings, capsys, "dead-letters", "show", "dead-7")


async def test_two_do_not_work_at_once(
    connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """While somebody replays or discards, a second one is reported to wait."""
    await connection.fetchval("SELECT pg_advisory_lock(hashtext('sluice.dead_letters'))")
    with pytest.raises(SluiceError, match="another command replays or discards dead letters"):
        await ops(settings, capsys, "dead-letters", "replay", "--all")


async def test_dead_letters_past_their_retention_stay_in_the_ledger(
    database: Database, connection: Connection, client: Client, settings: OperatorSettings, capsys: Capsys
) -> None:
    """What the maintenance deletes is counted by what had become of it: receipts and dead letters still agree."""
    from sql import statements  # noqa: PLC0415

    async with all_collected(database, client):
        await bury(client, 3)
        await reject(client, b"not json", b"{}")
    await ops(settings, capsys, "dead-letters", "discard", "dead-1", "rejected-1", "--yes")
    for name in ("delete_old_dead_letters", "delete_old_rejected_events"):
        await connection.execute(statements("maintenance")[name], timedelta(0))
    assert await outcomes(connection) == {}
    rows = await connection.fetch("SELECT kind, outcome::text, dead_letters FROM dead_letter_totals ORDER BY 1, 2")
    assert sorted(map(tuple, rows)) == [
        ("dead", "discarded", 1), ("dead", "kept", 2), ("rejected", "discarded", 1), ("rejected", "kept", 1),
    ]  # fmt: skip
    await balanced(connection, client)
