"""The checks of `doctor` that query NATS and PostgreSQL; `postgres_checks` has those of the database alone.

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

from core import state
from core.errors import SluiceError
from core.events.subjects import COLLECTED, REJECTED, stream_of
from core.jetstream import StreamMissing, stream_info
from core.postgres import Connection
from core.sources import SOURCES
from core.state import CheckName, GatewayFacts, SourceFacts, StateProblem
from ops.cli import streams
from ops.cli.output import plural
from ops.cli.pause import consumer
from ops.dead_letters.records import DeadLetterFilter, groups
from ops.doctor.checks import CheckResult, check_result, clock
from ops.ledger import read_dead_letters, read_stream
from ops.settings import OperatorSettings
from sql import statements

ACTIVE_AGE: Final = timedelta(seconds=15)
CONSUMER_TRIES: Final = 5
CONSUMER_RETRY_SECONDS: Final = 0.1
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
_SQL: Final = statements("doctor")


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
