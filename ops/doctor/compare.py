"""Compare the rows of recent days with the rollups by day, source, funnel stage and type, including amounts.

    for each day (UTC), newest first, and each source: one statement, so one snapshot -> equal, or the difference
        \\--time-out--> reported as not compared

Collectors write rows and rollups in one transaction, so both are equal in each snapshot. They differ if another program
deleted, changed or inserted rows.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from core.postgres import Connection
from core.sources import SOURCES
from ops.cli.output import plural, progress
from ops.doctor.checks import CheckResult, check_result
from sql import statements

DAYS: Final = 8  # today, and the days for which events are accepted by default (MAX_EVENT_AGE_DAYS)
TIMEOUT_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 2.0  # a shorter comparison shows no progress
_SQL: Final = statements("compare")
_DAYS: Final = {
    name: _SQL["day"].format(source=name, table=source.table, purchase=source.purchase.event_type)
    for name, source in SOURCES.items()
}
_REPAIR: Final = (
    "another program deleted, changed or inserted rows: restore them (docs/backup.md). If rows were deleted on "
    "purpose, do nothing: the rollups still count them and contain no personal data"
)


@dataclass
class Comparison:
    """The number of compared days, and each difference as a sentence."""

    compared: int = 0
    skipped: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def check(self, days: int) -> CheckResult:
        """Return the result for `doctor`."""
        skipped = ""
        if self.skipped:
            names = ", ".join(self.skipped[:3]) + (", …" if len(self.skipped) > 3 else "")
            skipped = f"; not compared within the time-out: {names} (raise --compare-seconds)"
        if not self.compared and not self.differing:
            return CheckResult(
                "rows", "unknown", f"no day was compared{skipped}", "sluice doctor --compare-seconds 600"
            )
        differing = [*self.differing[:3], *([f"{len(self.differing) - 3} more"] if len(self.differing) > 3 else [])]
        if differing:
            differing[-1] += skipped
        ok = f"the rows of the last {plural(days, 'day')} equal their rollups{skipped}; older days are not compared"
        return check_result("rows", differing, _REPAIR, ok)


async def compare(connection: Connection, days: int = DAYS, seconds: float = TIMEOUT_SECONDS) -> Comparison:
    """Compare the last days and tomorrow until the time-out. Raises errors of the database."""
    today = await connection.fetchval(_SQL["today"])
    wanted = [(today - timedelta(days=back), source) for back in range(-1, days) for source in SOURCES]
    comparison = Comparison()
    deadline = time.monotonic() + seconds
    with progress("comparing rows with rollups: days", len(wanted)) as advance:
        for number, (day, source) in enumerate(wanted, start=1):
            await _compare_day(connection, source, day, deadline - time.monotonic(), comparison)
            if deadline - time.monotonic() < seconds - QUIET_SECONDS:
                advance(number)
    return comparison


async def _compare_day(connection: Connection, source: str, day: date, seconds: float, comparison: Comparison) -> None:
    row = None
    if seconds > 0:
        with suppress(TimeoutError):
            row = await connection.fetchrow(_DAYS[source], day, timeout=seconds)
    if row is None:
        comparison.skipped.append(f"{source} {day}")
        return
    comparison.compared += 1
    rows, counted = row["rows"], row["counted"]
    if rows != counted:
        how = f"{plural(counted - rows, 'row')} missing" if rows < counted else f"{plural(rows - counted, 'extra row')}"
        comparison.differing.append(f"{source} {day}: {plural(rows, 'row')}, the rollups count {counted:,} ({how})")
    elif row["differing"]:
        comparison.differing.append(
            f"{source} {day}: {plural(rows, 'row')}, as many as the rollups count, but stage, type or amount differ"
        )


async def check_rows(connection: Connection, days: int, seconds: float) -> list[CheckResult]:
    """Check recent days. Days below the floor are equal by definition, because their rows are dropped."""
    return [(await compare(connection, days, seconds)).check(days)]
