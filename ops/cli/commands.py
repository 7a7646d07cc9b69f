"""The small commands: partitions, streams, pause, resume, drain, migrate. Each says what it did and gives its code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.markup import escape

from core import postgres
from core.errors import Misconfigured
from core.jetstream import declared, stream_info
from core.settings import MEBIBYTE
from ops.cli import countries, partitions, pause, streams
from ops.cli.connection import connected, to_database, to_nats
from ops.cli.output import confirm, console, plural, print_json, progress, table
from ops.ledger import accept_loss
from ops.settings import OperatorSettings

DRY_RUN: Final = "(dry run: nothing was changed)"


async def list_partitions(settings: OperatorSettings, *, as_json: bool) -> int:
    """Print every day that has a partition."""
    async with to_database(settings) as connection:
        found = await partitions.read(connection)
    if as_json:
        print_json([partition._asdict() for partition in found])
        return 0
    cells = [
        (
            str(day), name, "" if rows < 0 else f"{rows:,}", f"{size / MEBIBYTE:,.1f} MiB",
            "" if attached else "detached: in no report",
        )
        for name, day, rows, size, attached in found
    ]  # fmt: skip
    shown = table(("day (UTC)", "table", "rows (estimate)", "size", ""), cells)
    console().print(shown if found else "there is no partition: python -m ops partitions ensure")
    return 0


async def ensure_partitions(settings: OperatorSettings, days: int | None, *, dry_run: bool) -> int:
    """Make the days ahead that are missing, and attach those that are detached; 1 where that is not done."""
    days = settings.partitions_ahead_days if days is None else days
    async with to_database(settings) as connection:
        missing = await partitions.missing(connection, days)
        if dry_run:
            for name, day, detached in missing:
                console().print(f"{name} {day}" + (" is detached" if detached else ""))
            made, attached = (sum(day.detached is detached for day in missing) for detached in (False, True))
        else:
            changes = await partitions.ensure(connection, missing)
            _print_changes(changes)
            made, attached = (sum(change.done == done for change in changes) for done in ("made", "attached"))
            missing = await partitions.missing(connection, days)
    would = f"would be {{}} {DRY_RUN}" if dry_run else "{}"
    console().print(
        f"{plural(made, 'partition')} {would.format('made')}; wanted are yesterday to {days} days ahead"
        + (f"\n{plural(attached, 'partition')} {would.format('attached again')}" if attached else "")
    )
    if missing and not dry_run:
        console().print(f"{plural(len(missing), 'day')} still without a partition")
        return 1
    return 0


def _print_changes(changes: Sequence[partitions.Change]) -> None:
    for name, day, done, error in changes:
        console().print(escape(f"{name} {day} {done}" + (f": {error}" if error else "")))


async def drop_partitions(settings: OperatorSettings, days: int, *, dry_run: bool, yes: bool) -> int:
    """Drop the days that are older."""
    async with to_database(settings) as connection:
        floor, found = await partitions.old(connection, days, settings)
        for partition in found:
            console().print(f"{partition.table} {partition.day}  {partition.bytes / MEBIBYTE:,.1f} MiB")
        if dry_run or not found:
            said = f"would be dropped {DRY_RUN}" if dry_run else "to drop"
            console().print(f"{plural(len(found), 'partition')} {said}: days before {floor}")
            return 0
        confirm(f"drop {plural(len(found), 'partition')} with their events for good", yes=yes)
        changes = await partitions.drop(connection, floor)
    left = [change for change in changes if change.error]
    _print_changes(left)
    dropped = len(changes) - len(left)
    console().print(f"{plural(dropped, 'partition')} dropped; nothing before {floor} is stored any more")
    if left:
        console().print(f"{plural(len(left), 'partition')} could not be dropped; collectors try again")
    return 1 if left else 0


async def index_partitions(settings: OperatorSettings, *, dry_run: bool) -> int:
    """Build the index on campaigns of each partition that lacks it, newest first."""
    async with to_database(settings) as connection:
        lacking = await partitions.without_index(connection)
        if dry_run:
            console().print(f"{plural(len(lacking), 'partition')} would be indexed {DRY_RUN}")
            return 0
        with progress("indexing partitions", len(lacking)) as advance:
            for done, partition in enumerate(lacking, start=1):
                await partitions.index(connection, partition)
                advance(done, partition["partition"])
    console().print(f"{plural(len(lacking), 'partition')} indexed; all have the index on campaigns")
    return 0


async def rebuild_countries(settings: OperatorSettings, *, dry_run: bool, yes: bool) -> int:
    """Give the places of the registry of countries to the most frequent ones, and count the kept days accordingly."""
    async with to_database(settings) as connection:
        if not dry_run:
            confirm("rebuild the registry of countries from the rows of all kept days", yes=yes)
        rebuilt = await (countries.look(connection) if dry_run else countries.rebuild(connection))
    console().print(
        f"countries added to the registry: {rebuilt.added:,}, removed from it: {rebuilt.removed:,}; "
        f"{rebuilt.free:,} of {countries.PLACES:,} places are free{f' {DRY_RUN}' if dry_run else ''}"
    )
    return 0


async def list_streams(settings: OperatorSettings, *, as_json: bool) -> int:
    """Print every stream, and where it is not as declared."""
    async with to_nats(settings) as client:
        found = await streams.read(client, settings)
    if as_json:
        print_json([
            {"stream": one.name, "drift": one.drift, **({} if one.info is None else {
                "created": one.info.created, "messages": one.info.state.messages, "bytes": one.info.state.bytes,
                "last_sequence": one.info.state.last_seq, "max_bytes": one.wanted.max_bytes,
            })}
            for one in found
        ])  # fmt: skip
        return 0
    cells = []
    for one in found:
        state = one.info.state if one.info else None
        waiting, size = (f"{state.messages:,}", f"{state.bytes / MEBIBYTE:,.1f} MiB") if state else ("", "")
        limit = f"{(one.wanted.max_bytes or 0) / MEBIBYTE:,.0f} MiB"
        cells.append((one.name, waiting, size, limit, "; ".join(one.drift)))
    console().print(table(("stream", "waiting", "size", "of", "drift"), cells, cut=("drift",)))
    return 0


async def apply_streams(settings: OperatorSettings, *, dry_run: bool, yes: bool) -> int:
    """Make streams as they are declared."""
    async with to_nats(settings) as client:
        differing = [stream for stream in await streams.read(client, settings) if stream.drift]
        for stream in differing:
            console().print(f"{stream.name}: {escape('; '.join(stream.drift))}")
        if dry_run or not differing:
            console().print(f"{plural(len(differing), 'stream')} would be changed {DRY_RUN}" if dry_run else "no drift")
            return 0
        confirm(f"change {plural(len(differing), 'stream')}", yes=yes)
        for stream in differing:
            await streams.apply(client, stream, settings)
        left = [stream for stream in await streams.read(client, settings) if stream.drift]
    for stream in left:
        console().print(f"still, {stream.name}: {escape('; '.join(stream.drift))}")
    console().print(f"{plural(len(differing) - len(left), 'stream')} as declared now")
    return 1 if left else 0


async def accept_losses(settings: OperatorSettings, *, yes: bool) -> int:
    """Take what is lost as known: it stays in the ledger and is no fault any more."""
    async with connected(settings) as (client, connection):
        names = [str(wanted.name) for wanted in declared(settings)]
        confirm("accept that what `doctor` tells as lost is lost", yes=yes)
        for name in names:
            accepted = await accept_loss(connection, name, await stream_info(client, name))
            console().print(f"{name}: {plural(accepted, 'message')} accepted as lost")
    return 0


async def pause_sources(settings: OperatorSettings, sources: Sequence[str]) -> int:
    """Pause these sources."""
    async with to_nats(settings) as client:
        for source in sources:
            console().print(await pause.pause(client, source))
    return 0


async def resume_sources(settings: OperatorSettings, sources: Sequence[str]) -> int:
    """Let these sources go on."""
    async with to_nats(settings) as client:
        for source in sources:
            console().print(await pause.resume(client, source))
    return 0


async def drain(settings: OperatorSettings, sources: Sequence[str], seconds: float) -> int:
    """Wait until what is accepted by now is stored; 1 where that takes longer."""
    async with to_nats(settings) as client:
        drained = await pause.drain(client, tuple(sources), seconds)
    console().print(
        "everything that was accepted is stored" if drained
        else f"not stored within {seconds:g} s: see python -m ops doctor"
    )  # fmt: skip
    return 0 if drained else 1


async def migrate(settings: OperatorSettings) -> int:
    """Bring the schema up to date."""
    if not settings.sluice_migrate_dsn:
        raise Misconfigured("SLUICE_MIGRATE_DSN is not set, and no local stack runs in .sluice")
    async with to_database(settings):
        version = await postgres.migrate(settings.sluice_migrate_dsn)
    console().print(f"the schema is at version {version}")
    return 0
