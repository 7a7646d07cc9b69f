"""Compare the rows of recent days with the rollups, exactly: by day, source, funnel stage and type, amounts too.

    each day (UTC), the newest first, each source --one statement, so one snapshot--> equal, or by how much they differ
        \\--no time left--> not compared, and reported as that

Rows and rollups are written in one transaction, so whatever flows meanwhile they are equal in each snapshot. They
differ where somebody deleted or changed rows, or wrote past the collectors.
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

DAYS: Final = 8  # today, and those for which events still come by default (MAX_EVENT_AGE_DAYS)
SECONDS: Final = 30.0
QUIET_SECONDS: Final = 2.0  # what takes no longer needs no progress
_SQL: Final = statements("compare")
_DAYS: Final = {
    name: _SQL["day"].format(source=name, table=source.table, purchase=source.purchase.event_type)
    for name, source in SOURCES.items()
}
_REPAIR: Final = (
    "rows were deleted, changed or written past the collectors: restore them (docs/backup.md). Where rows were deleted "
    "on purpose, nothing is to do: the rollups go on counting them and hold no personal data"
)


@dataclass
class Comparison:
    """What was compared, and what differs, a sentence each."""

    compared: int = 0
    left_out: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def check(self, days: int) -> CheckResult:
        """The check of `doctor`."""
        left = ""
        if self.left_out:
            named = ", ".join(self.left_out[:3]) + (", …" if len(self.left_out) > 3 else "")
            left = f"; not compared, for lack of time: {named} (see --compare-seconds)"
        if not self.compared and not self.differing:
            return CheckResult("rows", "unknown", f"no day was compared{left}", "sluice doctor --compare-seconds 600")
        differing = [*self.differing[:3], *([f"{len(self.differing) - 3} more"] if len(self.differing) > 3 else [])]
        if differing:
            differing[-1] += left
        ok = f"of the last {plural(days, 'day')} they equal their rollups{left}; older ones are not compared"
        return check_result("rows", differing, _REPAIR, ok)


async def compare(connection: Connection, days: int = DAYS, seconds: float = SECONDS) -> Comparison:
    """Compare so many days up to today, and tomorrow, for at most so long. Raises what the database raises."""
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
        comparison.left_out.append(f"{source} {day}")
        return
    comparison.compared += 1
    rows, counted = row["rows"], row["counted"]
    if rows != counted:
        how = f"{plural(counted - rows, 'row')} missing" if rows < counted else f"{plural(rows - counted, 'row')} more"
        comparison.differing.append(f"{source} {day}: {plural(rows, 'row')}, the rollups count {counted:,} ({how})")
    elif row["differing"]:
        comparison.differing.append(
            f"{source} {day}: {plural(rows, 'row')}, as many as the rollups count, but not by stage, type and amount"
        )


async def of_rows(connection: Connection, days: int, seconds: float) -> list[CheckResult]:
    """The check of recent days. Days below the floor, whose rows are dropped, are equal by definition."""
    return [(await compare(connection, days, seconds)).check(days)]
