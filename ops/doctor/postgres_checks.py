"""The checks of `doctor` of the database alone: settings, schema, partitions, indexes, countries and breakdowns.

They change nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core import postgres
from core.postgres import Connection
from core.sources import SOURCES
from ops.cli import countries, partitions
from ops.cli.output import plural
from ops.doctor.checks import CheckResult, check_result
from ops.doctor.server_checks import NEEDS
from ops.schema import differences
from ops.settings import OperatorSettings
from sql import statements

ROLES: Final = ("sluice_owner", "sluice_collector")
_LOST: Final = "a crash may lose commits"
HARMFUL: Final = {
    "synchronous_commit": dict.fromkeys(("off", "local", "remote_write"), _LOST),
    "session_replication_role": {"replica": "PostgreSQL skips triggers, and collectors do not start"},
    "default_transaction_read_only": {"on": "collectors cannot write and wait"},
}
"""Settings that no role or database may have, with their harmful values and the effect of each."""
_MIGRATIONS: Final = statements("migrations")
_SQL: Final = statements("doctor")
_BREAKDOWNS: Final = statements("breakdowns")
MAX_UNCOUNTED: Final = 8
"""Quarter-hours that may wait at any time: under load, or after a restart."""


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
