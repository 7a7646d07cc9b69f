"""Check a whole system, and show how to fix each problem.

    connect to NATS and PostgreSQL --> check their contents --\
    gateway and reporter are ready ----------------------------> causes first, each with its consequences
    disks ----------------------------------------------------/

Each check is ok, wrong or unknown. It is unknown if it could not run, for example because a server does not answer:
`cause` then names the check of that server. The exit code is 1 if any check is wrong or unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import nats.errors
import shtab
from rich.markup import escape
from rich.table import Table

from core.errors import SluiceError
from core.state import SourceFacts
from ops.cli.arguments import days, is_json, seconds
from ops.cli.connection import CONNECTION_ERRORS, Unreachable, local_folder, local_system, to_database, to_nats, where
from ops.cli.output import console, plural, print_json
from ops.cli.parser import command
from ops.doctor import checks, compare, postgres_checks, server_checks
from ops.doctor.checks import CheckResult, Report
from ops.doctor.server_checks import NEEDS, DatabaseFacts
from ops.settings import OperatorSettings

START_FIX: Final = "start it (locally: sluice up; with compose: docker compose up -d)"
# Check -> programs of the local stack. Their log files have details of a problem.
LOGS: Final[dict[str, tuple[str, ...]]] = {
    "NATS": ("nats",),
    "NATS fsync": ("nats",),
    "NATS health": ("nats",),
    "PostgreSQL": ("postgres",),
    "gateway": ("gateway",),
    "reporter": ("reporter",),
}
# Check -> name of the runbook.
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
    "breakdowns": "BreakdownsBehind",
    "dead letters": "DeadLetters",
    "lost": "LedgerUnbalanced",
    "ledger": "LedgerUnbalanced",
    "disk": "DiskFilling",
}
COLOURS: Final = {"ok": "green", "wrong": "bold red", "unknown": "yellow"}


def options(group: Any) -> None:
    """Add `doctor` with its options."""
    parser = command(
        group, "doctor", "check the whole system and show how to fix each problem",
        "It changes nothing. The exit code is 1 if a check is not ok.",
        examples=(
            "sluice doctor",
            "sluice doctor --disk /var/lib/postgresql --disk /data/nats",
            "sluice doctor --format json",
        ),
        document=Report,
    )  # fmt: skip
    parser.add_argument(
        "--lag", type=seconds, default=30.0, metavar="SECONDS",
        help="a message that waits longer than this is a problem (default 30)",
    )  # fmt: skip
    disks = parser.add_argument(
        "--disk", type=Path, action="append", default=[], metavar="FOLDER",
        help="check the disk of this folder, too; may be repeated",
    )  # fmt: skip
    disks.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    parser.add_argument(
        "--compare-days", type=days, default=compare.DAYS, metavar="N",
        help=f"compare the rows of the last N days with their rollups (default {compare.DAYS})",
    )  # fmt: skip
    parser.add_argument(
        "--compare-seconds", type=seconds, default=compare.TIMEOUT_SECONDS, metavar="SECONDS",
        help=f"time-out for comparing rows with rollups (default {compare.TIMEOUT_SECONDS:g}); "
        "the result lists the days that were skipped",
    )  # fmt: skip
    parser.set_defaults(
        run=lambda settings, options: doctor(
            settings,
            max_lag_seconds=options.lag,
            disks=options.disk,
            compare_days=options.compare_days,
            compare_seconds=options.compare_seconds,
            as_json=is_json(options),
        )
    )


async def doctor(
    settings: OperatorSettings,
    *,
    max_lag_seconds: float,
    disks: Sequence[Path],
    compare_days: int,
    compare_seconds: float,
    as_json: bool,
) -> int:
    """Run all checks and print the results; return the exit code."""
    results = await run_checks(settings, max_lag_seconds, disks or _local_disks(), (compare_days, compare_seconds))
    if as_json:
        print_json(Report(_all_ok(results), results))
    else:
        _print(results)
    return 0 if _all_ok(results) else 1


async def run_checks(
    settings: OperatorSettings,
    max_lag_seconds: float,
    disks: Sequence[Path],
    comparison: tuple[int, float] = (compare.DAYS, compare.TIMEOUT_SECONDS),
) -> list[CheckResult]:
    """Return the results of all checks. Never raises because of the state of the system.

    comparison: the number of days whose rows are compared with their rollups, and the time-out in seconds.
    """
    services, (connections, contents) = await asyncio.gather(
        asyncio.gather(
            checks.service("gateway", settings.gateway_url, f"{START_FIX}, or correct GATEWAY_URL"),
            checks.service("reporter", settings.reporter_url, f"{START_FIX}, or correct REPORTER_URL"),
            checks.nats_fsync(settings),
            checks.nats_health(settings),
        ),
        _check_servers(settings, max_lag_seconds, comparison),
    )
    gateway, reporter, (fsync, nats_folder), health = services
    # If NATS runs on another machine, its folder does not exist here, and its disk is not checked.
    nats_disk = [nats_folder] if nats_folder is not None and await asyncio.to_thread(nats_folder.exists) else []
    results = [*connections, gateway, reporter, fsync, health, *contents]
    done = {result.check for result in results}
    skipped = [CheckResult(name, "unknown", "not checked") for name in NEEDS if name not in done]
    return _with_causes([*results, *skipped, *checks.disks([*disks, *nats_disk])])


async def _check_servers(
    settings: OperatorSettings, max_lag_seconds: float, comparison: tuple[int, float]
) -> tuple[list[CheckResult], list[CheckResult]]:
    """Return the checks of the connections to both servers, and the checks of the contents of those that answer."""
    connections: list[CheckResult] = []
    contents: list[CheckResult] = []
    sources: list[SourceFacts] | None = None
    facts: DatabaseFacts | None = None
    async with AsyncExitStack() as stack:
        client = connection = None
        try:
            client = await stack.enter_async_context(to_nats(settings))
            connections.append(CheckResult("NATS", "ok", f"{where(settings.nats_url)} answers"))
        except SluiceError as error:
            connections.append(CheckResult("NATS", "wrong", _reason(error), f"{START_FIX}, or correct NATS_URL"))
        try:
            connection = await stack.enter_async_context(to_database(settings))
            dsn = settings.sluice_migrate_dsn or ""
            connections.append(CheckResult("PostgreSQL", "ok", f"{where(dsn)} answers"))
        except SluiceError as error:
            fix = f"{START_FIX}, or correct SLUICE_MIGRATE_DSN"
            connections.append(CheckResult("PostgreSQL", "wrong", _reason(error), fix))
        if client is not None:
            async with _unknown_on_error("streams", contents):
                results, sources = await server_checks.check_nats(client, settings)
                contents += results
        if connection is not None:
            async with _unknown_on_error("PostgreSQL fsync", contents):
                contents += await postgres_checks.check_postgres(connection, settings)
        schema_is_ok = any(result.check == "schema" and result.state == "ok" for result in contents)
        if connection is not None and schema_is_ok:
            async with _unknown_on_error("dead letters", contents):
                facts = await server_checks.read_facts(connection)
        contents += server_checks.check_state(sources, facts, max_lag_seconds)
        if client is not None and connection is not None and schema_is_ok:
            async with _unknown_on_error("ledger", contents):
                contents += await server_checks.check_ledger(client, connection)
            async with _unknown_on_error("clock", contents):
                contents += await server_checks.check_clocks(client, connection)
        if connection is not None and schema_is_ok:
            async with _unknown_on_error("rows", contents):
                contents += await compare.check_rows(connection, *comparison)
    return connections, contents


def _reason(error: SluiceError) -> str:
    return error.reason if isinstance(error, Unreachable) else str(error)


@asynccontextmanager
async def _unknown_on_error(name: str, results: list[CheckResult]) -> AsyncIterator[None]:
    """Add an unknown result for the check `name` if a server stops answering within the block."""
    try:
        yield
    except (SluiceError, nats.errors.Error, asyncpg.PostgresError, *CONNECTION_ERRORS) as error:
        results.append(CheckResult(name, "unknown", f"the check failed: {error!r}", "run `sluice doctor` again"))


def _with_causes(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the results with a `cause` for each that is not ok because of another check.

    The others that are not ok get `log` and `runbook`.
    """
    not_ok = {result.check: result for result in results if result.state != "ok"}

    def cause_of(result: CheckResult) -> str:
        for name in (*NEEDS.get(result.check, ()), *result.needs):
            if name in not_ok:
                return cause_of(not_ok[name]) or name
        return ""

    is_local = local_system() is not None

    def with_cause(result: CheckResult) -> CheckResult:
        if result.state == "ok":
            return result
        if cause := cause_of(result):
            return msgspec.structs.replace(result, cause=cause)
        log = _logs(result) if is_local else ""
        return msgspec.structs.replace(result, log=log, runbook=_runbook(result.check))

    return list(map(with_cause, results))


def _logs(result: CheckResult) -> str:
    """Return the paths of the local stack's log files that have details of this result."""
    programs = result.programs or LOGS.get(result.check, ())
    return ", ".join(f"{local_folder()}/logs/{program}.log" for program in programs)


def _runbook(name: str) -> str:
    return f"ops/runbooks/{RUNBOOKS[name]}.md" if name in RUNBOOKS else ""


def _all_ok(results: Sequence[CheckResult]) -> bool:
    return all(result.state == "ok" for result in results)


def _local_disks() -> list[Path]:
    return [local_folder()] if local_system() else []


def _print(results: Sequence[CheckResult]) -> None:
    """Print each cause with a line that lists its consequences, then the checks that are ok."""
    shown = Table.grid(padding=(0, 2))
    causes = [result for result in results if result.state != "ok" and not result.cause]
    for result in causes:
        shown.add_row(f"[{COLOURS[result.state]}]{result.state}[/]", result.check, escape(result.message))
        for name, text in (("fix", result.fix), ("log", result.log), ("runbook", result.runbook)):
            if text:
                shown.add_row("", "", f"[dim]{name}:[/] {escape(text)}")
        if consequences := [other.check for other in results if other.cause == result.check]:
            shown.add_row("", "", f"[dim]not checked, or a consequence:[/] {', '.join(consequences)}")
    for result in results:
        if result.state == "ok":
            shown.add_row(f"[{COLOURS[result.state]}]{result.state}[/]", result.check, escape(result.message))
    out = console()
    out.print(shown)
    out.print(
        f"\n[bold red]{plural(len(causes), 'check')} not ok[/]" if causes else "\n[bold green]all checks are ok[/]"
    )
