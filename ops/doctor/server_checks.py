"""The checks of `doctor` that query NATS and PostgreSQL.

They change nothing. Events that flow during the checks never cause a wrong result: JetStream is queried before the
database, and the ledger of the database is read in one snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
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
from ops.doctor.checks import CheckResult, check_result, clock
from ops.ledger import read_dead_letters, read_stream
from ops.schema import differences
from ops.settings import OperatorSettings
from sql import statements

ACTIVE_AGE: Final = timedelta(seconds=15)
CONSUMER_TRIES: Final = 5
CONSUMER_RETRY_SECONDS: Final = 0.1
ROLES: Final = ("sluice_owner", "sluice_collector")
_LOST: Final = "a crash may lose commits"
HARMFUL: Final = {
    "synchronous_commit": dict.fromkeys(("off", "local", "remote_write"), _LOST),
    "session_replication_role": {"replica": "PostgreSQL skips triggers, and collectors do not start"},
    "default_transaction_read_only": {"on": "collectors cannot write and wait"},
}
"""Settings that no role or database may have, with their harmful values and the effect of each."""
PROGRAMS: Final = {
    "gateway": "gateway",
    **{name: source.collector for name, source in SOURCES.items()},
    REJECTED: "rejected-collector",
}
# For each check, the checks that must be ok first. If one of them is not, it is the cause.
_BOTH: Final = ("NATS", "PostgreSQL", "schema")
NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "NATS fsync": ("NATS",),
    "NATS health": ("NATS",),
    "streams": ("NATS",),
    "undeclared streams": ("NATS",),
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
    "breakdowns": (*_BOTH, "collectors"),
    "dead letters": ("PostgreSQL", "schema"),
    "lost": (*_BOTH, "columns"),
    "ledger": (*_BOTH, "columns"),
    "rows": ("PostgreSQL", "schema", "columns"),
    "clock": _BOTH,
}
_LEDGER: Final = statements("ledger")
_MIGRATIONS: Final = statements("migrations")
_SQL: Final = statements("doctor")
_BREAKDOWNS: Final = statements("breakdowns")
MAX_UNCOUNTED: Final = 8
"""Quarter-hours that may wait at any time: under load, or after a restart."""


async def check_nats(client: Client, settings: OperatorSettings) -> tuple[list[CheckResult], list[SourceFacts]]:
    """Check that the streams match their declarations; return the facts about each source, too."""
    existing = await streams.read(client, settings)
    drift = [f"{stream.name} {difference}" for stream in existing for difference in stream.drift]
    undeclared = await streams.undeclared(client)
    facts = []
    for collected, stream in zip(COLLECTED, existing, strict=True):
        if (info := stream.info) is None:
            continue
        no_collector, paused = await _consumer(client, collected)
        lag = (info.ts - info.stored_until(info.ts)).total_seconds() if info.state.messages else 0.0
        size, limit = info.state.bytes, max(info.config.max_bytes, 0)
        facts.append(SourceFacts(collected, lag, info.state.messages, size, limit, paused, no_collector))
    results = [
        check_result("streams", drift, "sluice streams apply", "all match their declarations"),
        check_result(
            "undeclared streams",
            [
                f"{name} holds {plural(messages, 'message')} that no collector of this version fetches"
                for name, messages in undeclared
            ],
            "let a collector of the version that made it store them, then delete the stream: docs/upgrade.md",
            "there is none",
        ),
    ]
    return results, facts


async def _consumer(client: Client, collected: str) -> tuple[str, bool]:
    """Return why no collector fetches this source, or an empty text; and whether it is paused."""
    absent = f"no collector fetches {collected}"
    try:
        for _ in range(CONSUMER_TRIES):
            info = await consumer(client, collected)
            if info.num_waiting or _active(info):
                return "", bool(info.paused)
            # All pulls of an idle collector may have just ended; it sends the next ones at once.
            await asyncio.sleep(CONSUMER_RETRY_SECONDS)
    except SluiceError:
        return absent, False
    return absent, bool(info.paused)


class DatabaseFacts(NamedTuple):
    """The state in the database: reports of gateways, why collectors are stopped, and the number of dead letters."""

    gateway: GatewayFacts
    stop_reasons: dict[str, str]
    dead: dict[tuple[str, str], int]


async def read_facts(connection: Connection) -> DatabaseFacts:
    """Read the state from the database."""
    dead = {
        (row["source"], row["reason"]): row["dead_letters"]
        for row in await groups(connection, DeadLetterFilter(kind="dead"))
    }
    stop_reasons = {
        name: row["stopped"] for name, row in (await state.read_sources(connection)).items() if row["stopped"]
    }
    return DatabaseFacts(await state.read_gateways(connection), stop_reasons, dead)


def check_state(
    facts: Sequence[SourceFacts] | None, database: DatabaseFacts | None, max_lag_seconds: float
) -> list[CheckResult]:
    """Check the state that the page and `sluice up` show, too. An argument is None if that server did not answer."""
    stop_reasons = database.stop_reasons if database else {}
    sources = [source._replace(stop_reason=stop_reasons.get(source.name, "")) for source in facts or ()]
    gateway, dead = (database.gateway, database.dead) if database else (GatewayFacts(0, ""), {})
    problems = state.problems(sources, gateway, dead, max_lag_seconds)
    waiting = [f"{stream_of(source.name)}: {plural(source.waiting, 'message')} waiting" for source in sources]
    ok: dict[CheckName, str] = {
        "requests": "no request got 500 or 503 in the last minute",
        "room in streams": f"less than {state.MAX_STREAM_FILL:.0%} full",
        "collectors": "each source has a collector",
        "stopped": "no collector is stopped",
        "paused": "no source is paused",
        "lag": "; ".join(text for text, source in zip(waiting, sources, strict=True) if source.waiting)
        or "no message is waiting",
        "dead letters": "no dead letter is kept",
    }
    unknown = {
        check
        for check in ok
        if (facts is None and check not in ("requests", "dead letters"))
        or (database is None and check in ("requests", "stopped", "dead letters"))
    }
    return [
        CheckResult(check, "unknown", "not known", needs=NEEDS[check])
        if check in unknown
        else _state_result(check, problems, ok[check])
        for check in ok
    ]


def _state_result(check: CheckName, problems: Sequence[StateProblem], ok: str) -> CheckResult:
    own = [problem for problem in problems if problem.check == check]
    names = [problem.part for problem in own]
    fixes: dict[CheckName, str] = {
        "requests": "fix the other checks; if they are all ok, the load is too high: start more gateways",
        "room in streams": "run more collectors; then raise STREAM_MAX_BYTES and run: sluice streams apply",
        "collectors": "; ".join(f"python -m collector --source {name}" for name in names)
        + "; if a collector runs, its log and /health/ready show why it stopped",
        "stopped": "remove the cause; the collector retries every minute",
        "paused": "; ".join(f"sluice resume {name}" for name in names),
        "lag": "fix the checks `collectors` and `paused`, or run more collectors of the source",
        "dead letters": "sluice dead-letters list --kind dead; then replay or discard them",
    }
    result = check_result(check, [problem.text for problem in own], fixes[check], ok)
    programs = tuple(dict.fromkeys(PROGRAMS[name] for name in names))
    return msgspec.structs.replace(result, needs=NEEDS[check], programs=programs)


def _active(info: ConsumerInfo) -> bool:
    """Return whether messages were delivered recently: a busy collector has no waiting pull."""
    last = info.delivered.last_active if info.delivered else None
    return last is not None and datetime.now(UTC) - last < ACTIVE_AGE


async def check_postgres(connection: Connection, settings: OperatorSettings) -> list[CheckResult]:
    """Check durability, schema, columns, partitions ahead, indexes and the registry of countries."""
    checks = [await _postgres_fsync(connection), await _role_settings(connection)]
    schema = await _schema(connection)
    checks.append(schema)
    if schema.state == "wrong":
        return checks
    migrate = "write a migration for the declared columns (docs/add-a-source.md), then run: sluice migrate"
    checks.append(
        check_result("columns", await differences(connection), migrate, "all match the declarations of the sources")
    )
    missing = await partitions.missing(connection, settings.partitions_ahead_days)
    days = [
        f"the partition of {table} for {day} is detached, and reports do not include it (rename it to keep it detached)"
        if detached else f"{table} has no partition for {day}"
        for table, day, detached in missing
    ]  # fmt: skip
    shown = [*days[:3], *([f"{len(days) - 3} more"] if len(days) > 3 else [])]
    ahead = f"they exist for {settings.partitions_ahead_days} days ahead"
    checks.append(check_result("partitions", shown, "sluice partitions ensure", ahead))
    lacking = await partitions.without_index(connection)
    slow = (
        [f"reports of one campaign are slow: {plural(len(lacking), 'partition')} without the index on campaigns"]
        if lacking
        else []
    )
    checks.append(check_result("index", slow, "sluice partitions index", "each partition has the index on campaigns"))
    free = await countries.free_places(connection)
    full = (
        [f"only {free} places are free; if none is left, new countries are counted as other"]
        if free < countries.MIN_FREE
        else []
    )
    rebuild = "find the sender of invalid countries, then run: sluice countries rebuild"
    checks.append(check_result("countries", full, rebuild, f"{free:,} of {countries.PLACES:,} places are free"))
    checks.append(await _breakdowns(connection))
    return checks


async def _breakdowns(connection: Connection) -> CheckResult:
    """Check that the breakdowns of quarter-hours are counted. Reports read the rows of the others."""
    waiting, stuck = [], []
    for name, source in SOURCES.items():
        row = await connection.fetchrow(_SQL["breakdowns"], name)
        assert row is not None
        if row["stored_until"] is None:
            continue
        names = list(source.breakdowns)
        if uncounted := await connection.fetchval(_BREAKDOWNS["count_uncounted"], name, row["stored_until"], names):
            waiting.append(f"{plural(uncounted, 'quarter-hour')} of {name}")
            if uncounted > MAX_UNCOUNTED and row["idle"]:
                stuck.append(
                    f"{plural(uncounted, 'quarter-hour')} of {name} wait, and none was counted in the last hour"
                )
    ok = f"not counted yet: {', '.join(waiting)}; until then reports read their rows" if waiting else "all are counted"
    fix = "the log of the source's collectors shows why the step `breakdowns` fails: remove the cause"
    return msgspec.structs.replace(check_result("breakdowns", stuck, fix, ok), needs=NEEDS["breakdowns"])


async def _postgres_fsync(connection: Connection) -> CheckResult:
    off = [row["name"] for row in await connection.fetch(_SQL["durability"]) if row["value"] == "off"]
    alter = " ".join(f'-c "ALTER SYSTEM SET {name} = on"' for name in off)
    fix = f'as a superuser: psql {alter} -c "SELECT pg_reload_conf()"'
    version = connection.get_server_version()
    ok = f"fsync, synchronous_commit and full_page_writes are on, {version.major}.{version.minor}"
    return check_result("PostgreSQL fsync", [f"{name} is off: {_LOST}" for name in off], fix, ok)


async def _role_settings(connection: Connection) -> CheckResult:
    """Check settings of roles and of the database. Collectors set synchronous_commit themselves; others do not."""
    problems, resets = [], []
    for row in await connection.fetch(_SQL["role_settings"], ROLES):
        if row["value"] in HARMFUL.get(row["name"], {}):
            problems.append(f"{row['of']}: {row['name']} is {row['value']}, {HARMFUL[row['name']][row['value']]}")
            of = f"ROLE {row['role']}" if row["role"] else f"DATABASE {row['database']}"
            inside = f" IN DATABASE {row['database']}" if row["role"] and row["database"] else ""
            resets.append(f"ALTER {of}{inside} RESET {row['name']}")
    ok = "no role and no database has a harmful setting"
    return check_result("PostgreSQL settings", problems, f"as a superuser: {'; '.join(resets)}", ok)


async def _schema(connection: Connection) -> CheckResult:
    known = {migration.version: migration for migration in postgres.migrations()}
    fix = "sluice migrate"
    if not await connection.fetchval(_MIGRATIONS["journal_exists"]):
        return CheckResult("schema", "wrong", "the database has no schema", fix)
    applied = {row["version"]: row["sha256"] for row in await connection.fetch(_MIGRATIONS["applied"])}
    if newer := applied.keys() - known.keys():
        return CheckResult(
            "schema",
            "wrong",
            f"the database has migration {max(newer)}, which this version does not know",
            "use the newer version of Sluice",
        )
    if changed := [version for version, sha256 in applied.items() if sha256 != known[version].sha256]:
        restore = f"restore the applied file of migration {changed[0]}, and write a new migration for the change"
        return CheckResult("schema", "wrong", f"migration {changed[0]} was changed after it was applied", restore)
    problems = [f"migration {version} is not applied" for version in sorted(known.keys() - applied.keys())]
    return check_result("schema", problems, fix, f"version {max(known)}")


async def check_ledger(client: Client, connection: Connection) -> list[CheckResult]:
    """Check that no accepted event is lost. Rows are not counted here; `compare` does that."""
    infos = {}
    for collected in COLLECTED:
        try:
            infos[stream_of(collected)] = await stream_info(client, stream_of(collected))
        except StreamMissing:  # another check reports it; its loss is known after it is created again
            continue
    lost, differing, accepted = [], [], 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, info in infos.items():
            ledger = await read_stream(connection, name, info)
            accepted += ledger.accepted_loss
            if ledger.lost > 0:
                since = f"the stream was created {info.created:%Y-%m-%d %H:%M:%SZ}"
                lost.append(
                    f"{name}: at least {plural(ledger.lost, 'message')} deleted before they were stored ({since})"
                )
        for source in SOURCES:
            stored = await connection.fetchval(_LEDGER["stored_total"], stream_of(source))
            counted = await connection.fetchval(_LEDGER["rolled_up"], source)
            if stored != counted:
                differing.append(f"{source}: {stored:,} events stored, but the rollups count {counted:,}")
        for name, dead_letters in (await read_dead_letters(connection)).items():
            if dead_letters.counted != dead_letters.kept + dead_letters.replayed + dead_letters.discarded:
                differing.append(f"{name}: {dead_letters.counted:,} dead letters by the receipts, but {dead_letters}")
    accept = "ask the senders to send them again, then run: sluice streams accept-loss"
    nothing = "no message is lost"
    if accepted:
        nothing += f", besides {plural(accepted, 'message')} that an operator accepted as lost"
    defect = "this is a defect of Sluice: keep the database unchanged, and report it"
    return [
        check_result("lost", lost, accept, nothing),
        check_result("ledger", differing, defect, "receipts, rollups and dead letters agree"),
    ]


async def check_clocks(client: Client, connection: Connection) -> list[CheckResult]:
    """Compare the clocks of the servers with ours. A clock is compared with the middle of its round trip."""

    async def nats_clock() -> datetime:
        return (await stream_info(client, stream_of(REJECTED))).ts

    async def postgres_clock() -> datetime:
        now: datetime = await connection.fetchval(_SQL["clock"])
        return now

    skews: dict[str, timedelta] = {}
    for name, read in (("NATS", nats_clock), ("PostgreSQL", postgres_clock)):
        before = datetime.now(UTC)
        try:
            theirs = await read()
        except StreamMissing:
            continue
        skews[name] = theirs - (before + (datetime.now(UTC) - before) / 2)
    ours = datetime.now(UTC)
    return [clock(ours, {name: ours + skew for name, skew in skews.items()})]
