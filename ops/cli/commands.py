"""The small commands: partitions, countries, streams, pause, resume, drain, migrate, snapshot.

Each command prints its result as text or as its JSON document, and returns the exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core import postgres
from core.errors import Misconfigured
from core.jetstream import declared_streams, stream_info
from core.settings import MEBIBYTE
from ops.cli import countries, partitions, pause, streams
from ops.cli.connection import connected, local_folder, to_database, to_nats
from ops.cli.documents import (
    CountriesRebuilt,
    Drained,
    Migrated,
    PartitionChange,
    PartitionRow,
    PartitionsDropped,
    PartitionsEnsured,
    PartitionsIndexed,
    SourceState,
    StreamDrift,
    StreamLoss,
    StreamRow,
    StreamsApplied,
)
from ops.cli.output import confirm, console, plural, print_json, print_text, progress, table
from ops.ledger import accept_loss
from ops.settings import OperatorSettings

DRY_RUN: Final = "(dry run: nothing was changed)"


async def list_partitions(settings: OperatorSettings, *, as_json: bool) -> int:
    """Print every day that has a partition."""
    async with to_database(settings) as connection:
        days = await partitions.read(connection)
    if as_json:
        print_json([PartitionRow(*day) for day in days])
        return 0
    cells = [
        (
            str(day), name, "" if rows < 0 else f"{rows:,}", f"{size / MEBIBYTE:,.1f} MiB",
            "" if attached else "detached: reports do not include it",
        )
        for name, day, rows, size, attached in days
    ]  # fmt: skip
    shown = table(("day (UTC)", "table", "rows (estimate)", "size", ""), cells)
    console().print(shown if days else "there is no partition: create them with `sluice partitions ensure`")
    return 0


async def ensure_partitions(settings: OperatorSettings, days: int | None, *, dry_run: bool, as_json: bool) -> int:
    """Create the missing partitions ahead and attach detached ones; return 1 if a day still has none."""
    days = settings.partitions_ahead_days if days is None else days
    async with to_database(settings) as connection:
        missing = await partitions.missing(connection, days)
        if dry_run:
            changes = [partitions.Change(day.table, day.day, "missing") for day in missing if not day.detached]
            changes += [partitions.Change(day.table, day.day, "detached") for day in missing if day.detached]
            created, attached = (sum(day.detached is detached for day in missing) for detached in (False, True))
        else:
            changes = await partitions.ensure(connection, missing)
            created, attached = (sum(change.done == done for change in changes) for done in ("created", "attached"))
            missing = await partitions.missing(connection, days)
    if as_json:
        rows = [PartitionChange(*change) for change in changes]
        print_json(PartitionsEnsured(dry_run, created, attached, len(missing), days, rows))
    else:
        _print_changes(changes)
        would = f"would be {{}} {DRY_RUN}" if dry_run else "{}"
        print_text(
            f"{plural(created, 'partition')} {would.format('created')}; needed are yesterday to {days} days ahead"
            + (f"\n{plural(attached, 'partition')} {would.format('attached again')}" if attached else "")
        )
        if missing and not dry_run:
            print_text(f"{plural(len(missing), 'day')} still without a partition")
    return 1 if missing and not dry_run else 0


def _print_changes(changes: Sequence[partitions.Change]) -> None:
    for name, day, done, error in changes:
        print_text(f"{name} {day} {done}" + (f": {error}" if error else ""))


async def drop_partitions(settings: OperatorSettings, days: int, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Drop the partitions of days that are older; return 1 if one could not be dropped."""
    async with to_database(settings) as connection:
        floor, old = await partitions.old(connection, days, settings)
        if not as_json:
            for day in old:
                print_text(f"{day.table} {day.day}  {day.bytes / MEBIBYTE:,.1f} MiB")
        failed: list[partitions.Change] = []
        if old and not dry_run:
            confirm(f"drop {plural(len(old), 'partition')} with their events permanently", yes=yes)
            failed = [change for change in await partitions.drop(connection, floor) if change.error]
    kept = {(change.table, change.day) for change in failed}
    dropped = [day for day in old if (day.table, day.day) not in kept]
    if as_json:
        rows = [PartitionRow(*day) for day in dropped]
        print_json(PartitionsDropped(dry_run, floor, rows, [PartitionChange(*change) for change in failed]))
    elif dry_run or not old:
        action = f"would be dropped {DRY_RUN}" if dry_run else "to drop"
        print_text(f"{plural(len(old), 'partition')} {action}: days before {floor}")
    else:
        _print_changes(failed)
        print_text(f"{plural(len(dropped), 'partition')} dropped; events of days before {floor} are no longer stored")
        if failed:
            print_text(f"{plural(len(failed), 'partition')} could not be dropped; collectors try again")
    return 1 if failed else 0


async def index_partitions(settings: OperatorSettings, *, dry_run: bool, as_json: bool) -> int:
    """Build the index on campaigns of each partition that has none, newest first."""
    async with to_database(settings) as connection:
        lacking = await partitions.without_index(connection)
        if not dry_run:
            with progress("indexing partitions", len(lacking)) as advance:
                for done, partition in enumerate(lacking, start=1):
                    await partitions.index(connection, partition)
                    advance(done, partition["partition"])
    if as_json:
        print_json(PartitionsIndexed(dry_run, [partition["partition"] for partition in lacking]))
    elif dry_run:
        print_text(f"{plural(len(lacking), 'partition')} would be indexed {DRY_RUN}")
    else:
        print_text(f"{plural(len(lacking), 'partition')} indexed; all partitions have the index on campaigns")
    return 0


async def rebuild_countries(settings: OperatorSettings, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Register the most frequent countries, and rebuild their rollups from the rows of the kept days."""
    async with to_database(settings) as connection:
        if not dry_run:
            confirm("rebuild the registry of countries from the rows of all kept days", yes=yes)
        rebuilt = await (countries.preview(connection) if dry_run else countries.rebuild(connection))
    if as_json:
        print_json(CountriesRebuilt(dry_run, *rebuilt, countries.PLACES))
    else:
        print_text(
            f"countries added to the registry: {rebuilt.added:,}, removed from it: {rebuilt.removed:,}; "
            f"{rebuilt.free:,} of {countries.PLACES:,} places are free{f' {DRY_RUN}' if dry_run else ''}"
        )
    return 0


async def list_streams(settings: OperatorSettings, *, as_json: bool) -> int:
    """Print every stream, and how it differs from its declaration."""
    async with to_nats(settings) as client:
        rows = [_stream_row(stream) for stream in await streams.read(client, settings)]
    if as_json:
        print_json(rows)
        return 0
    cells = [
        (
            row.stream, "" if row.messages is None else f"{row.messages:,}",
            "" if row.bytes is None else f"{row.bytes / MEBIBYTE:,.1f} MiB", f"{row.max_bytes / MEBIBYTE:,.0f} MiB",
            "; ".join(row.drift),
        )
        for row in rows
    ]  # fmt: skip
    console().print(table(("stream", "waiting", "size", "of", "drift"), cells, cut=("drift",)))
    return 0


def _stream_row(stream: streams.Stream) -> StreamRow:
    info = stream.info
    row = StreamRow(stream.name, stream.drift, stream.wanted.max_bytes or 0, None, None, None, None)
    if info is not None:
        row.created, row.messages, row.bytes = info.created, info.state.messages, info.state.bytes
        row.last_sequence = info.state.last_seq
    return row


async def apply_streams(settings: OperatorSettings, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Change the streams to match their declarations; return 1 if one still differs."""
    async with to_nats(settings) as client:
        differing = [stream for stream in await streams.read(client, settings) if stream.drift]
        remaining = differing
        if not as_json:
            for stream in differing:
                print_text(f"{stream.name}: {'; '.join(stream.drift)}")
        if differing and not dry_run:
            confirm(f"change {plural(len(differing), 'stream')}", yes=yes)
            for stream in differing:
                await streams.apply(client, stream, settings)
            remaining = [stream for stream in await streams.read(client, settings) if stream.drift]
    if as_json:
        drifts = ([StreamDrift(stream.name, stream.drift) for stream in some] for some in (differing, remaining))
        print_json(StreamsApplied(dry_run, *drifts))
    elif dry_run or not differing:
        print_text(f"{plural(len(differing), 'stream')} would be changed {DRY_RUN}" if dry_run else "no drift")
    else:
        for stream in remaining:
            print_text(f"still different, {stream.name}: {'; '.join(stream.drift)}")
        print_text(f"{plural(len(differing) - len(remaining), 'stream')} changed to match the declaration")
    return 1 if remaining and not dry_run else 0


async def accept_losses(settings: OperatorSettings, *, yes: bool, as_json: bool) -> int:
    """Accept the lost messages that `doctor` reports. They remain in the ledger and are no longer an error."""
    losses = []
    async with connected(settings) as (client, connection):
        confirm("accept the lost messages that `sluice doctor` reports", yes=yes)
        for wanted in declared_streams(settings):
            name = str(wanted.name)
            accepted = await accept_loss(connection, name, await stream_info(client, name))
            losses.append(StreamLoss(name, accepted))
    if as_json:
        print_json(losses)
    else:
        for loss in losses:
            print_text(f"{loss.stream}: {plural(loss.accepted_messages, 'message')} accepted as lost")
    return 0


async def pause_sources(settings: OperatorSettings, sources: Sequence[str], *, as_json: bool) -> int:
    """Pause these sources."""
    async with to_nats(settings) as client:
        states = [await pause.pause(client, source) for source in sources]
    if as_json:
        print_json(states)
    else:
        for state in states:
            print_text(
                f"{state.source} is paused: its events are accepted and wait in the stream. "
                f"Resume it with: sluice resume {state.source}"
                if state.changed
                else f"{state.source} was already paused"
            )
    return 0


async def resume_sources(settings: OperatorSettings, sources: Sequence[str], *, as_json: bool) -> int:
    """Resume these sources."""
    async with to_nats(settings) as client:
        states: list[SourceState] = [await pause.resume(client, source) for source in sources]
    if as_json:
        print_json(states)
    else:
        for state in states:
            action = "is resumed" if state.changed else "was not paused"
            print_text(f"{state.source} {action}: {plural(state.waiting_messages, 'message')} waiting")
    return 0


async def drain(settings: OperatorSettings, sources: Sequence[str], seconds: float, *, as_json: bool) -> int:
    """Wait until all events that are accepted now are stored; return 1 after the time-out."""
    async with to_nats(settings) as client:
        drained = await pause.drain(client, tuple(sources), seconds)
    if as_json:
        print_json(Drained(drained, list(sources), seconds))
    else:
        print_text(
            "all accepted events are stored" if drained
            else f"not all accepted events were stored within {seconds:g} s: run `sluice doctor`"
        )  # fmt: skip
    return 0 if drained else 1


async def migrate(settings: OperatorSettings, *, as_json: bool) -> int:
    """Apply the missing migrations."""
    if not settings.sluice_migrate_dsn:
        raise Misconfigured(
            f"SLUICE_MIGRATE_DSN is not set, and no local stack runs in {local_folder()}. Set it to the DSN of the "
            "database's owner"
        )
    async with to_database(settings):
        version = await postgres.migrate(settings.sluice_migrate_dsn)
    if as_json:
        print_json(Migrated(version))
    else:
        print_text(f"the schema is at version {version}")
    return 0
