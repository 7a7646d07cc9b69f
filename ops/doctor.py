"""Look at everything an operator depends on, and say what mends what is wrong.

    NATS, PostgreSQL reachable? --yes--> what they hold --\
    gateway, reporter ready? ------------------------------> each ok or wrong; exit code 1 where any is not ok
    disks ------------------------------------------------/

What cannot be looked at, because a server is away, is told as unknown and is not ok.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import asyncpg
import nats.errors
from rich.markup import escape
from rich.table import Table

from core.errors import SluiceError
from core.settings import OperatorSettings
from ops import checks, compare, examine
from ops.checks import Check
from ops.connection import LOCAL, LOST, meant_locally, to_database, to_nats, where
from ops.output import console, plural, print_json

START: Final = "start it (python -m ops up; docker compose up -d)"
COLOURS: Final = {"ok": "green", "wrong": "bold red", "unknown": "yellow"}


async def doctor(
    chosen: OperatorSettings,
    *,
    most_lag_seconds: float,
    disks: Sequence[Path],
    compare_days: int,
    compare_seconds: float,
    as_json: bool,
) -> int:
    """Print all checks; the exit code."""
    compared = (compare_days, compare_seconds)
    found = await look(chosen, most_lag_seconds, disks or _local_disks(), compared)
    if as_json:
        print_json({"ok": _well(found), "checks": [check._asdict() for check in found]})
    else:
        _print(found)
    return 0 if _well(found) else 1


async def look(
    chosen: OperatorSettings,
    most_lag_seconds: float,
    disks: Sequence[Path],
    compared: tuple[int, float] = (compare.DAYS, compare.SECONDS),
) -> list[Check]:
    """All checks, in the order in which a person would make them. Never raises for what it looks at.

    compared: so many days of rows are compared with their rollups, for at most so many seconds.
    """
    services, asked = await asyncio.gather(
        asyncio.gather(
            checks.service("gateway", chosen.gateway_url, f"{START}, or set GATEWAY_URL"),
            checks.service("reporter", chosen.reporter_url, f"{START}, or set REPORTER_URL"),
            checks.nats_fsync(chosen),
            checks.nats_health(chosen),
        ),
        _servers(chosen, most_lag_seconds, compared),
    )
    gateway, reporter, (fsync, store), health = services
    reached, held = asked
    here = [store] if store is not None and await asyncio.to_thread(store.exists) else []  # else another machine's
    return [*reached, gateway, reporter, fsync, health, *held, *checks.disks([*disks, *here])]


async def _servers(
    chosen: OperatorSettings, most_lag_seconds: float, compared: tuple[int, float]
) -> tuple[list[Check], list[Check]]:
    """Whether both servers are there; and what they hold, as far as they are."""
    reached, held = [], []
    async with AsyncExitStack() as opened:
        client = connection = None
        try:
            client = await opened.enter_async_context(to_nats(chosen))
            reached.append(Check("NATS", "ok", f"{where(chosen.nats_url)} answers"))
        except SluiceError as error:
            reached.append(Check("NATS", "wrong", getattr(error, "what", str(error)), f"{START}, or set NATS_URL"))
        try:
            connection = await opened.enter_async_context(to_database(chosen))
            reached.append(Check("PostgreSQL", "ok", f"{where(chosen.sluice_migrate_dsn or '')} answers"))
        except SluiceError as error:
            mend = f"{START}, or set SLUICE_MIGRATE_DSN"
            reached.append(Check("PostgreSQL", "wrong", getattr(error, "what", str(error)), mend))
        if client is not None:
            held += await _tried("streams", examine.of_nats(client, chosen, most_lag_seconds))
        if connection is not None:
            held += await _tried("PostgreSQL", examine.of_postgres(connection, chosen))
        schema_is_right = not any(check.check == "schema" and check.state == "wrong" for check in held)
        if client is not None and connection is not None and schema_is_right:
            held += await _tried("ledger", examine.of_ledger(client, connection))
            held += await _tried("clock", examine.clocks(client, connection))
        else:
            why = "needs NATS, PostgreSQL and the schema"
            held += [Check(name, "unknown", why) for name in ("lost", "ledger", "clock")]
        if connection is not None and schema_is_right:
            held += await _tried("rows", compare.of_rows(connection, *compared))
        else:
            held.append(Check("rows", "unknown", "needs PostgreSQL and the schema"))
    return reached, held


async def _tried(name: str, looking: Coroutine[Any, Any, list[Check]]) -> list[Check]:
    """These checks, or that they could not be made: a server may go away at any moment."""
    try:
        return await looking
    except (SluiceError, nats.errors.Error, asyncpg.PostgresError, *LOST) as error:
        return [Check(name, "unknown", f"could not be looked at: {error!r}", "run doctor again")]


def _well(found: Sequence[Check]) -> bool:
    return all(check.state == "ok" for check in found)


def _local_disks() -> list[Path]:
    return [LOCAL] if meant_locally() else []


def _print(found: Sequence[Check]) -> None:
    shown = Table.grid(padding=(0, 2))
    for check in found:
        shown.add_row(f"[{COLOURS[check.state]}]{check.state}[/]", check.check, escape(check.found))
        if check.mend and check.state != "ok":
            shown.add_row("", "", f"[dim]mend:[/] {escape(check.mend)}")
    out = console()
    out.print(shown)
    bad = sum(check.state != "ok" for check in found)
    out.print("\n[bold green]all is well[/]" if not bad else f"\n[bold red]{plural(bad, 'check')} not ok[/]")
