"""Look at everything an operator depends on, and say what mends what is wrong.

    NATS, PostgreSQL reachable? --yes--> what they hold --\
    gateway, reporter ready? ------------------------------> causes first, what follows from them folded
    disks ------------------------------------------------/

A check that needs a server that does not answer is unknown and not ok; `cause` names that server. The exit code is 1 if
any check is not ok.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import nats.errors
from rich.markup import escape
from rich.table import Table

from core.errors import SluiceError
from core.state import SourceFacts
from ops.cli.arguments import days, format_, seconds
from ops.cli.connection import LOST, local_folder, meant_locally, to_database, to_nats, where
from ops.cli.output import console, plural, print_json
from ops.doctor import checks, compare, examine
from ops.doctor.checks import Check
from ops.doctor.examine import NEEDS, Noted
from ops.settings import OperatorSettings

START: Final = "start it (python -m ops up; docker compose up -d)"
# Programs of the local stack whose logs say more, and the runbook, by check.
LOGS: Final[dict[str, tuple[str, ...]]] = {
    "NATS": ("nats",),
    "NATS fsync": ("nats",),
    "NATS health": ("nats",),
    "PostgreSQL": ("postgres",),
    "gateway": ("gateway",),
    "reporter": ("reporter",),
}
RUNBOOKS: Final = {
    "NATS": "TargetDown",
    "PostgreSQL": "TargetDown",
    "gateway": "TargetDown",
    "reporter": "TargetDown",
    "NATS health": "RequestsTurnedAway",
    "requests": "RequestsTurnedAway",
    "room in streams": "StreamNearLimit",
    "collectors": "CollectorLag",
    "lag": "CollectorLag",
    "stopped": "CollectorStopped",
    "partitions": "PartitionsRunningOut",
    "dead_letters": "DeadLetters",
    "lost": "LedgerUnbalanced",
    "ledger": "LedgerUnbalanced",
    "disk": "DiskFilling",
}
COLOURS: Final = {"ok": "green", "wrong": "bold red", "unknown": "yellow"}


def options(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    parser.add_argument("--lag", type=seconds, default=30.0, metavar="SECONDS", help="wrong is what waits longer (30)")
    parser.add_argument(
        "--disk", type=Path, action="append", default=[], metavar="FOLDER", help="a disk to check; may be repeated"
    )
    parser.add_argument(
        "--compare-days",
        type=days,
        default=compare.DAYS,
        metavar="N",
        help=f"compare the rows of so many days with their rollups ({compare.DAYS})",
    )
    parser.add_argument(
        "--compare-seconds",
        type=seconds,
        default=compare.SECONDS,
        metavar="SECONDS",
        help=f"for at most so long ({compare.SECONDS:g}); what is left out is named",
    )
    format_(parser)
    parser.set_defaults(
        run=lambda settings, options: doctor(
            settings,
            most_lag_seconds=options.lag,
            disks=options.disk,
            compare_days=options.compare_days,
            compare_seconds=options.compare_seconds,
            as_json=options.format == "json",
        )
    )


async def doctor(
    settings: OperatorSettings,
    *,
    most_lag_seconds: float,
    disks: Sequence[Path],
    compare_days: int,
    compare_seconds: float,
    as_json: bool,
) -> int:
    """Print all checks; the exit code."""
    compared = (compare_days, compare_seconds)
    found = await look(settings, most_lag_seconds, disks or _local_disks(), compared)
    if as_json:
        print_json({"ok": _well(found), "checks": [check._asdict() for check in found]})
    else:
        _print(found)
    return 0 if _well(found) else 1


async def look(
    settings: OperatorSettings,
    most_lag_seconds: float,
    disks: Sequence[Path],
    compared: tuple[int, float] = (compare.DAYS, compare.SECONDS),
) -> list[Check]:
    """All checks, in the order in which a person would make them. Never raises for what it looks at.

    compared: so many days of rows are compared with their rollups, for at most so many seconds.
    """
    services, params = await asyncio.gather(
        asyncio.gather(
            checks.service("gateway", settings.gateway_url, f"{START}, or set GATEWAY_URL"),
            checks.service("reporter", settings.reporter_url, f"{START}, or set REPORTER_URL"),
            checks.nats_fsync(settings),
            checks.nats_health(settings),
        ),
        _servers(settings, most_lag_seconds, compared),
    )
    gateway, reporter, (fsync, store), health = services
    reached, held = params
    here = [store] if store is not None and await asyncio.to_thread(store.exists) else []  # else another machine's
    found = [*reached, gateway, reporter, fsync, health, *held]
    missing = [
        Check(name, "unknown", "could not be looked at")
        for name in NEEDS
        if name not in {check.check for check in found}
    ]
    return _folded([*found, *missing, *checks.disks([*disks, *here])])


async def _servers(
    settings: OperatorSettings, most_lag_seconds: float, compared: tuple[int, float]
) -> tuple[list[Check], list[Check]]:
    """Whether both servers are there; and what they hold, as far as they are."""
    reached: list[Check] = []
    held: list[Check] = []
    facts: list[SourceFacts] | None = None
    known: Noted | None = None
    async with AsyncExitStack() as opened:
        client = connection = None
        try:
            client = await opened.enter_async_context(to_nats(settings))
            reached.append(Check("NATS", "ok", f"{where(settings.nats_url)} answers"))
        except SluiceError as error:
            reached.append(Check("NATS", "wrong", getattr(error, "what", str(error)), f"{START}, or set NATS_URL"))
        try:
            connection = await opened.enter_async_context(to_database(settings))
            reached.append(Check("PostgreSQL", "ok", f"{where(settings.sluice_migrate_dsn or '')} answers"))
        except SluiceError as error:
            mend = f"{START}, or set SLUICE_MIGRATE_DSN"
            reached.append(Check("PostgreSQL", "wrong", getattr(error, "what", str(error)), mend))
        if client is not None:
            async with _trying("streams", held):
                made, facts = await examine.of_nats(client, settings)
                held += made
        if connection is not None:
            async with _trying("PostgreSQL fsync", held):
                held += await examine.of_postgres(connection, settings)
        schema_is_right = any(check.check == "schema" and check.state == "ok" for check in held)
        if connection is not None and schema_is_right:
            async with _trying("dead_letters", held):
                known = await examine.noted(connection)
        held += examine.of_state(facts, known, most_lag_seconds)
        if client is not None and connection is not None and schema_is_right:
            async with _trying("ledger", held):
                held += await examine.of_ledger(client, connection)
            async with _trying("clock", held):
                held += await examine.clocks(client, connection)
        if connection is not None and schema_is_right:
            async with _trying("rows", held):
                held += await compare.of_rows(connection, *compared)
    return reached, held


@asynccontextmanager
async def _trying(name: str, held: list[Check]) -> AsyncIterator[None]:
    """What is looked at inside, or that it could not be looked at: a server may go away at any moment."""
    try:
        yield
    except (SluiceError, nats.errors.Error, asyncpg.PostgresError, *LOST) as error:
        held.append(Check(name, "unknown", f"could not be looked at: {error!r}", "run doctor again"))


def _folded(found: Sequence[Check]) -> list[Check]:
    """The same checks. One that is not ok because another one is not names that in `cause`, the others what to read."""
    bad = {check.check: check for check in found if check.state != "ok"}

    def cause_of(check: Check) -> str:
        for name in (*NEEDS.get(check.check, ()), *check.needs):
            if name in bad:
                return cause_of(bad[name]) or name
        return ""

    local = meant_locally() is not None
    return [
        check
        if check.state == "ok"
        else check._replace(cause=cause)
        if (cause := cause_of(check))
        else check._replace(log=_logs(check) if local else "", runbook=_runbook(check.check))
        for check in found
    ]


def _logs(check: Check) -> str:
    """The files of the local stack that say more."""
    return ", ".join(f"{local_folder()}/logs/{program}.log" for program in check.programs or LOGS.get(check.check, ()))


def _runbook(name: str) -> str:
    return f"ops/runbooks/{RUNBOOKS[name]}.md" if name in RUNBOOKS else ""


def _well(found: Sequence[Check]) -> bool:
    return all(check.state == "ok" for check in found)


def _local_disks() -> list[Path]:
    return [local_folder()] if meant_locally() else []


def _print(found: Sequence[Check]) -> None:
    """First what is wrong, then what follows from it in one line for each cause, then what is ok."""
    shown = Table.grid(padding=(0, 2))
    causes = [check for check in found if check.state != "ok" and not check.cause]
    for check in causes:
        shown.add_row(f"[{COLOURS[check.state]}]{check.state}[/]", check.check, escape(check.found))
        for what in ("mend", "log", "runbook"):
            if said := getattr(check, what):
                shown.add_row("", "", f"[dim]{what}:[/] {escape(said)}")
        if follow := [other.check for other in found if other.cause == check.check]:
            shown.add_row("", "", f"[dim]not checked, or follows from it:[/] {', '.join(follow)}")
    for check in found:
        if check.state == "ok":
            shown.add_row(f"[{COLOURS[check.state]}]{check.state}[/]", check.check, escape(check.found))
    out = console()
    out.print(shown)
    out.print(f"\n[bold red]{plural(len(causes), 'check')} not ok[/]" if causes else "\n[bold green]all is well[/]")
