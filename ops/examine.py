"""The checks of `doctor` that ask NATS and PostgreSQL.

They change nothing. What flows meanwhile is never taken for a fault: JetStream is asked before the database, and what
the database says of itself comes from one snapshot.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from core import postgres
from core.errors import SluiceError
from core.events.subjects import REFUSED, SOURCES, stream_of
from core.jetstream import StreamMissing, stream_info
from core.settings import OperatorSettings
from ops import countries, partitions, streams
from ops.checks import Check, clock, judged
from ops.ledger import read_letters, read_stream
from ops.letters import Which, groups
from ops.output import plural
from ops.pause import consumer
from sql import statements

MOST_FULL: Final = 0.8
ACTIVE: Final = timedelta(seconds=15)
COLLECTED: Final = (*SOURCES, REFUSED)
ROLES: Final = ("sluice_owner", "sluice_collector")
_LOST: Final = "a commit may be lost"
HARMFUL: Final = {
    "synchronous_commit": dict.fromkeys(("off", "local", "remote_write"), _LOST),
    "session_replication_role": {"replica": "triggers are skipped: collectors refuse to start"},
    "default_transaction_read_only": {"on": "collectors wait until it is off"},
}
"""Settings that a role or a database must not have, each with its values and what they do."""
_LEDGER: Final = statements("ledger")
_MIGRATIONS: Final = statements("migrations")
_SQL: Final = statements("doctor")


async def of_nats(client: Client, chosen: OperatorSettings, most_lag_seconds: float) -> list[Check]:
    """Streams, their room, their consumers and what waits in them."""
    found = await streams.read(client, chosen)
    drift = [f"{stream.name} {what}" for stream in found for what in stream.drift]
    checks = [judged("streams", drift, "python -m ops streams apply", "as they are declared")]
    full: list[str] = []
    late: list[str] = []
    behind: list[str] = []
    for stream in found:
        if stream.info is None:
            continue
        share = stream.info.state.bytes / (stream.wanted.max_bytes or 1)
        full += [f"{stream.name} is {share:.0%} full"] if share > MOST_FULL else []
        if stream.info.state.messages:
            lag = (stream.info.ts - stream.info.stored_until(stream.info.ts)).total_seconds()
            waiting = f"{stream.name}: {plural(stream.info.state.messages, 'message')} waiting, the oldest {lag:.1f} s"
            (late if lag > most_lag_seconds else behind).append(waiting)
    room = "run more collectors; then raise STREAM_MAX_BYTES and: python -m ops streams apply"
    checks.append(judged("room in streams", full, room, f"less than {MOST_FULL:.0%} full"))
    mend = "see the checks `collectors` and `paused`; run more collectors of the source"
    checks.append(judged("lag", late, mend, "; ".join(behind) or "nothing waits"))
    return [*checks, *await _of_consumers(client)]


async def _of_consumers(client: Client) -> list[Check]:
    absent, paused = [], []
    for collected in COLLECTED:
        try:
            info = await consumer(client, collected)
        except SluiceError:
            absent.append(collected)
            continue
        if not info.num_waiting and not _active(info):
            absent.append(collected)
        if info.paused:
            paused.append(collected)
    start = "; ".join(f"python -m collector --source {collected}" for collected in absent)
    start += "; where one runs, its log and /health/ready say why it stopped"
    resume = "; ".join(f"python -m ops resume {collected}" for collected in paused)
    return [
        judged("collectors", [f"nobody fetches {collected}" for collected in absent], start, "each source has one"),
        judged("paused", [f"{collected} is paused" for collected in paused], resume, "no source is"),
    ]


def _active(info: ConsumerInfo) -> bool:
    """Whether messages were handed out a moment ago: a collector that has plenty asks for no more."""
    last = info.delivered.last_active if info.delivered else None
    return last is not None and datetime.now(UTC) - last < ACTIVE


async def of_postgres(connection: asyncpg.Connection[Any], chosen: OperatorSettings) -> list[Check]:
    """Its durability, the schema, the days ahead and the letters that nobody has looked at."""
    checks = [await _postgres_fsync(connection), await _role_settings(connection)]
    schema = await _schema(connection)
    checks.append(schema)
    if schema.state == "wrong":
        why = "the schema is not this program's"
        return [
            *checks,
            *(Check(name, "unknown", why) for name in ("partitions", "index", "countries", "dead letters")),
        ]
    missing = await partitions.missing(connection, chosen.partitions_ahead_days)
    days = [
        f"the table of {table} for {day} is detached: its rows are in no report (an archive needs another name)"
        if detached else f"{table} has none for {day}"
        for table, day, detached in missing
    ]  # fmt: skip
    told = [*days[:3], *([f"{len(days) - 3} more"] if len(days) > 3 else [])]
    ahead = f"{chosen.partitions_ahead_days} days ahead"
    checks.append(judged("partitions", told, "python -m ops partitions ensure", ahead))
    lacking = await partitions.without_index(connection)
    slow = [f"reports of one campaign are slow: {plural(len(lacking), 'day')} without their index"] if lacking else []
    checks.append(judged("index", slow, "python -m ops partitions index", "each day has its index on campaigns"))
    free = await countries.free_places(connection)
    full = [f"{free} places are free: new countries are counted as other soon"] if free < countries.MIN_FREE else []
    rebuild = "find the sender that invents countries, then: python -m ops countries rebuild"
    checks.append(judged("countries", full, rebuild, f"{free:,} of {countries.PLACES:,} places are free"))
    dead = [
        f"{plural(row['letters'], 'accepted event')} of {row['source']} could not be stored: {row['reason']}"
        for row in await groups(connection, Which(kind="dead"))
    ]
    look = "python -m ops dead-letters list --kind dead; then replay or discard them"
    checks.append(judged("dead letters", dead, look, "none is open"))
    return checks


async def _postgres_fsync(connection: asyncpg.Connection[Any]) -> Check:
    off = [row["name"] for row in await connection.fetch(_SQL["durability"]) if row["value"] == "off"]
    alter = " ".join(f'-c "ALTER SYSTEM SET {name} = on"' for name in off)
    mend = f'as a superuser: psql {alter} -c "SELECT pg_reload_conf()"'
    version = connection.get_server_version()
    ok = f"fsync, synchronous_commit and full_page_writes are on, {version.major}.{version.minor}"
    return judged("PostgreSQL fsync", [f"{name} is off: a commit may be lost" for name in off], mend, ok)


async def _role_settings(connection: asyncpg.Connection[Any]) -> Check:
    """Settings of roles and of the database. Collectors set their own synchronous_commit; other sessions do not."""
    wrong, resets = [], []
    for row in await connection.fetch(_SQL["role_settings"], ROLES):
        if row["value"] in HARMFUL.get(row["name"], {}):
            wrong.append(f"{row['of']}: {row['name']} is {row['value']}, {HARMFUL[row['name']][row['value']]}")
            of = f"ROLE {row['role']}" if row["role"] else f"DATABASE {row['database']}"
            inside = f" IN DATABASE {row['database']}" if row["role"] and row["database"] else ""
            resets.append(f"ALTER {of}{inside} RESET {row['name']}")
    ok = "no role and no database has a harmful one"
    return judged("PostgreSQL settings", wrong, f"as a superuser: {'; '.join(resets)}", ok)


async def _schema(connection: asyncpg.Connection[Any]) -> Check:
    carried = {migration.version: migration for migration in postgres.migrations()}
    mend = "python -m ops migrate"
    if not await connection.fetchval(_MIGRATIONS["journal_exists"]):
        return Check("schema", "wrong", "the database holds none", mend)
    applied = {row["version"]: row["sha256"] for row in await connection.fetch(_MIGRATIONS["applied"])}
    if newer := applied.keys() - carried.keys():
        return Check("schema", "wrong", f"migration {max(newer)} is newer than this program", "use the newer program")
    if changed := [version for version, sha256 in applied.items() if sha256 != carried[version].sha256]:
        restore = f"put back the file of migration {changed[0]} as it was applied, and write a new one"
        return Check("schema", "wrong", f"migration {changed[0]} was changed after it was applied", restore)
    wrong = [f"migration {version} is not applied" for version in sorted(carried.keys() - applied.keys())]
    return judged("schema", wrong, mend, f"version {max(carried)}")


async def of_ledger(client: Client, connection: asyncpg.Connection[Any]) -> list[Check]:
    """Whether everything that was accepted is somewhere. Rows are not counted here: `make demo` does that."""
    infos = {}
    for collected in COLLECTED:
        try:
            infos[stream_of(collected)] = await stream_info(client, stream_of(collected))
        except StreamMissing:  # told by another check; its loss is known once it is made again
            continue
    lost, unlike, known = [], [], 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, info in infos.items():
            ledger = await read_stream(connection, name, info)
            known += ledger.accepted_loss
            if ledger.lost > 0:
                since = f"the stream was made {info.created:%Y-%m-%d %H:%M:%SZ}"
                lost.append(
                    f"{name}: at least {plural(ledger.lost, 'message')} deleted before they were stored ({since})"
                )
        for source in SOURCES:
            stored = await connection.fetchval(_LEDGER["stored_in_all"], stream_of(source))
            counted = await connection.fetchval(_LEDGER["rolled_up"], source)
            if stored != counted:
                unlike.append(f"{source}: {stored:,} events stored, but the rollups count {counted:,}")
        for name, letters in (await read_letters(connection)).items():
            if letters.counted != letters.kept + letters.replayed + letters.discarded:
                unlike.append(f"{name}: {letters.counted:,} letters by the receipts, but {letters}")
    accept = "ask the senders for them again, then: python -m ops streams accept-loss"
    nothing = f"nothing but {plural(known, 'message')} that you know of" if known else "nothing"
    defect = "a defect: keep the database as it is, and report it"
    return [
        judged("lost", lost, accept, nothing),
        judged("ledger", unlike, defect, "receipts, rollups and letters agree"),
    ]


async def clocks(client: Client, connection: asyncpg.Connection[Any]) -> list[Check]:
    """Compare the servers' clocks with ours. A slow answer is no skew: it counts as from the middle of its way."""

    async def of_nats() -> datetime:
        return (await stream_info(client, stream_of(REFUSED))).ts

    async def of_postgres() -> datetime:
        now: datetime = await connection.fetchval(_SQL["clock"])
        return now

    skews: dict[str, timedelta] = {}
    for name, ask in (("NATS", of_nats), ("PostgreSQL", of_postgres)):
        before = datetime.now(UTC)
        try:
            theirs = await ask()
        except StreamMissing:
            continue
        skews[name] = theirs - (before + (datetime.now(UTC) - before) / 2)
    ours = datetime.now(UTC)
    return [clock(ours, {name: ours + skew for name, skew in skews.items()})]
