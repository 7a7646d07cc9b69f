"""The checks of `doctor` that ask NATS and PostgreSQL.

They change nothing. What flows meanwhile is never taken for a fault: JetStream is asked before the database, and what
the database says of itself comes from one snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from core import postgres, state
from core.errors import SluiceError
from core.events.subjects import COLLECTED, REJECTED, stream_of
from core.jetstream import StreamMissing, stream_info
from core.postgres import Connection
from core.sources import SOURCES
from core.state import CheckName, GatewayFacts, SourceFacts, StateProblem
from ops.cli import countries, partitions, streams
from ops.cli.output import plural
from ops.cli.pause import consumer
from ops.dead_letters.records import DeadLetterFilter, groups
from ops.doctor.checks import Check, clock, judged
from ops.ledger import read_dead_letters, read_stream
from ops.schema import differences
from ops.settings import OperatorSettings
from sql import statements

ACTIVE: Final = timedelta(seconds=15)
LOOKS: Final = 5
LOOK_AGAIN_SECONDS: Final = 0.1
ROLES: Final = ("sluice_owner", "sluice_collector")
_LOST: Final = "a commit may be lost"
HARMFUL: Final = {
    "synchronous_commit": dict.fromkeys(("off", "local", "remote_write"), _LOST),
    "session_replication_role": {"replica": "triggers are skipped: collectors reject to start"},
    "default_transaction_read_only": {"on": "collectors wait until it is off"},
}
"""Settings that a role or a database must not have, each with its values and what they do."""
PROGRAMS: Final = {
    "gateway": "gateway",
    **{name: source.collector for name, source in SOURCES.items()},
    REJECTED: "rejected-collector",
}
# A check whose server, schema or collector is not well follows from that, whatever it says itself.
_BOTH: Final = ("NATS", "PostgreSQL", "schema")
NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "NATS fsync": ("NATS",),
    "NATS health": ("NATS",),
    "streams": ("NATS",),
    "room in streams": ("NATS",),
    "collectors": ("NATS", "PostgreSQL"),
    "paused": ("NATS",),
    "stopped": _BOTH,
    "lag": (*_BOTH, "collectors", "stopped", "paused"),
    "requests": (*_BOTH, "collectors", "gateway"),
    "PostgreSQL fsync": ("PostgreSQL",),
    "schema": ("PostgreSQL",),
    "columns": ("PostgreSQL", "schema"),
    "partitions": ("PostgreSQL", "schema", "columns"),
    "index": ("PostgreSQL", "schema"),
    "countries": ("PostgreSQL", "schema"),
    "dead_letters": ("PostgreSQL", "schema"),
    "lost": (*_BOTH, "columns"),
    "ledger": (*_BOTH, "columns"),
    "rows": ("PostgreSQL", "schema", "columns"),
    "clock": _BOTH,
}
_LEDGER: Final = statements("ledger")
_MIGRATIONS: Final = statements("migrations")
_SQL: Final = statements("doctor")


async def of_nats(client: Client, settings: OperatorSettings) -> tuple[list[Check], list[SourceFacts]]:
    """Whether the streams are as declared; and what streams and consumers say of each source."""
    found = await streams.read(client, settings)
    drift = [f"{stream.name} {what}" for stream in found for what in stream.drift]
    facts = []
    for collected, stream in zip(COLLECTED, found, strict=True):
        if (info := stream.info) is None:
            continue
        collected_by, paused = await _consumer(client, collected)
        lag = (info.ts - info.stored_until(info.ts)).total_seconds() if info.state.messages else 0.0
        size, limit = info.state.bytes, max(info.config.max_bytes, 0)
        facts.append(SourceFacts(collected, lag, info.state.messages, size, limit, paused, collected_by))
    return [judged("streams", drift, "python -m ops streams apply", "as they are declared")], facts


async def _consumer(client: Client, collected: str) -> tuple[str, bool]:
    """Why no collector seems to fetch this source, empty where one does; and whether it is paused."""
    absent = f"no collector fetches {collected}"
    try:
        for _ in range(LOOKS):
            info = await consumer(client, collected)
            if info.num_waiting or _active(info):
                return "", bool(info.paused)
            # All pulls of an idle collector may end at this moment: it asks again.
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except SluiceError:
        return absent, False
    return absent, bool(info.paused)


class Noted(NamedTuple):
    """What the database knows of the state: what gateways report, why collectors stopped, open dead letters."""

    gateway: GatewayFacts
    stopped: dict[str, str]
    dead: dict[tuple[str, str], int]


async def noted(connection: Connection) -> Noted:
    """Read it."""
    dead = {
        (row["source"], row["reason"]): row["dead_letters"]
        for row in await groups(connection, DeadLetterFilter(kind="dead"))
    }
    stopped = {name: row["stopped"] for name, row in (await state.read_sources(connection)).items() if row["stopped"]}
    return Noted(await state.read_gateways(connection), stopped, dead)


def of_state(facts: Sequence[SourceFacts] | None, known: Noted | None, max_lag_seconds: float) -> list[Check]:
    """The checks of the state that page and `make up` show, too. facts or known is None if a server did not answer."""
    stopped = known.stopped if known else {}
    sources = [source._replace(stopped=stopped.get(source.name, "")) for source in facts or ()]
    gateway, dead = (known.gateway, known.dead) if known else (GatewayFacts(0, ""), {})
    found = state.problems(sources, gateway, dead, max_lag_seconds)
    waiting = [f"{stream_of(source.name)}: {plural(source.waiting, 'message')} waiting" for source in sources]
    ok: dict[CheckName, str] = {
        "requests": "no request got 500 or 503 in the last minute",
        "room in streams": f"less than {state.MAX_FULL:.0%} full",
        "collectors": "each source has one",
        "stopped": "no collector is",
        "paused": "no source is",
        "lag": "; ".join(said for said, source in zip(waiting, sources, strict=True) if source.waiting)
        or "no message waits",
        "dead_letters": "none is open",
    }
    unknown = {
        check
        for check in ok
        if (facts is None and check not in ("requests", "dead_letters"))
        or (known is None and check in ("requests", "stopped", "dead_letters"))
    }
    return [
        Check(check, "unknown", "not known", needs=NEEDS[check]) if check in unknown else _of(check, found, ok[check])
        for check in ok
    ]


def _of(check: CheckName, found: Sequence[StateProblem], ok: str) -> Check:
    mine = [problem for problem in found if problem.check == check]
    names = [problem.part for problem in mine]
    mends: dict[CheckName, str] = {
        "requests": "see the other checks; if none of them is wrong, the load is too high: start more gateways",
        "room in streams": "run more collectors; then raise STREAM_MAX_BYTES and: python -m ops streams apply",
        "collectors": "; ".join(f"python -m collector --source {name}" for name in names)
        + "; if one runs, its log and /health/ready say why it stopped",
        "stopped": "remove the cause; the collector retries every minute",
        "paused": "; ".join(f"python -m ops resume {name}" for name in names),
        "lag": "see the checks `collectors` and `paused`; run more collectors of the source",
        "dead_letters": "python -m ops dead-letters list --kind dead; then replay or discard them",
    }
    made = judged(check, [problem.text for problem in mine], mends[check], ok)
    return made._replace(needs=NEEDS[check], programs=tuple(dict.fromkeys(PROGRAMS[name] for name in names)))


def _active(info: ConsumerInfo) -> bool:
    """Whether messages were handed out a moment ago: a collector that has plenty asks for no more."""
    last = info.delivered.last_active if info.delivered else None
    return last is not None and datetime.now(UTC) - last < ACTIVE


async def of_postgres(connection: Connection, settings: OperatorSettings) -> list[Check]:
    """Its durability, the schema, the columns, the days ahead, their indexes and the room for countries."""
    checks = [await _postgres_fsync(connection), await _role_settings(connection)]
    schema = await _schema(connection)
    checks.append(schema)
    if schema.state == "wrong":
        return checks
    migrate = "write a migration that makes them as declared (docs/add-a-source.md), then: python -m ops migrate"
    checks.append(judged("columns", await differences(connection), migrate, "as the sources declare them"))
    missing = await partitions.missing(connection, settings.partitions_ahead_days)
    days = [
        f"the table of {table} for {day} is detached: its rows are in no report (an archive needs another name)"
        if detached else f"{table} has none for {day}"
        for table, day, detached in missing
    ]  # fmt: skip
    told = [*days[:3], *([f"{len(days) - 3} more"] if len(days) > 3 else [])]
    ahead = f"{settings.partitions_ahead_days} days ahead"
    checks.append(judged("partitions", told, "python -m ops partitions ensure", ahead))
    lacking = await partitions.without_index(connection)
    slow = [f"reports of one campaign are slow: {plural(len(lacking), 'day')} without their index"] if lacking else []
    checks.append(judged("index", slow, "python -m ops partitions index", "each day has its index on campaigns"))
    free = await countries.free_places(connection)
    full = [f"{free} places are free: new countries are counted as other soon"] if free < countries.MIN_FREE else []
    rebuild = "find the sender that invents countries, then: python -m ops countries rebuild"
    checks.append(judged("countries", full, rebuild, f"{free:,} of {countries.PLACES:,} places are free"))
    return checks


async def _postgres_fsync(connection: Connection) -> Check:
    off = [row["name"] for row in await connection.fetch(_SQL["durability"]) if row["value"] == "off"]
    alter = " ".join(f'-c "ALTER SYSTEM SET {name} = on"' for name in off)
    mend = f'as a superuser: psql {alter} -c "SELECT pg_reload_conf()"'
    version = connection.get_server_version()
    ok = f"fsync, synchronous_commit and full_page_writes are on, {version.major}.{version.minor}"
    return judged("PostgreSQL fsync", [f"{name} is off: a commit may be lost" for name in off], mend, ok)


async def _role_settings(connection: Connection) -> Check:
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


async def _schema(connection: Connection) -> Check:
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


async def of_ledger(client: Client, connection: Connection) -> list[Check]:
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
        for name, dead_letters in (await read_dead_letters(connection)).items():
            if dead_letters.counted != dead_letters.kept + dead_letters.replayed + dead_letters.discarded:
                unlike.append(f"{name}: {dead_letters.counted:,} dead letters by the receipts, but {dead_letters}")
    accept = "ask the senders for them again, then: python -m ops streams accept-loss"
    nothing = f"nothing but {plural(known, 'message')} that you know of" if known else "nothing"
    defect = "a defect: keep the database as it is, and report it"
    return [
        judged("lost", lost, accept, nothing),
        judged("ledger", unlike, defect, "receipts, rollups and dead letters agree"),
    ]


async def clocks(client: Client, connection: Connection) -> list[Check]:
    """Compare the servers' clocks with ours. A slow answer is no skew: it counts as from the middle of its way."""

    async def of_nats() -> datetime:
        return (await stream_info(client, stream_of(REJECTED))).ts

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
