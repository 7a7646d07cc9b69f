"""The commands `sluice dead-letters list|show|replay|discard`: what they print, and what they ask.

`records` and `replay` do the work.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
from nats.aio.client import Client
from rich.markup import escape
from rich.table import Table

from core.events.contract import Contract
from core.events.subjects import stream_of
from core.jetstream import stream_info
from core.postgres import Connection
from ops.cli.connection import connected, to_database
from ops.cli.output import confirm, console, moment, plural, print_json, print_text, progress, safe, table
from ops.cli.pause import until_confirmed
from ops.dead_letters import records
from ops.dead_letters.documents import DeadLetterDetails, DeadLetterRow, Discarded, ReasonCount, Replayed
from ops.dead_letters.records import DeadLetterFilter, DeadLetterId
from ops.dead_letters.replay import PAGE_DEAD_LETTERS, Pace, Replay, replay
from ops.settings import OperatorSettings

Document = TypeVar("Document", bound=msgspec.Struct)
MIN_DETAIL_WIDTH: Final = 110
NOTHING_SELECTED: Final = "no kept dead letter is selected: nothing to do"
DRY_RUN: Final = "(dry run: nothing was changed)"


async def list_(
    settings: OperatorSettings, selected: DeadLetterFilter, *, limit: int, by_reason: bool, as_json: bool
) -> int:
    """Print the newest of the selected dead letters, or their number by reason."""
    async with to_database(settings) as connection:
        counts = [_from_row(ReasonCount, row) for row in await records.groups(connection, selected)]
        rows = [] if by_reason else await records.newest(connection, selected, limit)
    dead_letters = [_from_row(DeadLetterRow, row) for row in rows]
    if as_json:
        print_json(counts if by_reason else dead_letters)
        return 0
    total = sum(count.dead_letters for count in counts)
    if by_reason:
        console().print(_counts_table(counts))
    elif dead_letters:
        console().print(_dead_letters_table(dead_letters, with_detail=console().width >= MIN_DETAIL_WIDTH))
    outcome = "" if selected.outcome is None else f"{selected.outcome} "
    more = f"; these are the newest {len(rows)} (--limit)" if not by_reason and len(rows) < total else ""
    print_text(f"{plural(total, f'{outcome}dead letter')}{more}")
    return 0


async def show(settings: OperatorSettings, id_: DeadLetterId, *, as_json: bool) -> int:
    """Print all columns of one dead letter, and its event."""
    async with to_database(settings) as connection:
        row = dict(await records.one(connection, id_))
    event: bytes = row.pop("event")
    row["outcome"] = row.pop("current_outcome")
    row["sha256"] = row["sha256"].hex()
    try:
        text = event.decode()
    except UnicodeDecodeError:
        text = ""
    if as_json:
        details = _from_row(DeadLetterDetails, row)
        if text or not event:
            details.event = text
        else:
            details.event_base64 = base64.b64encode(event).decode()
        print_json(details)
        return 0
    shown = Table.grid(padding=(0, 2))
    for column, value in row.items():
        if value is not None and column not in ("kind", "id"):
            shown.add_row(f"[dim]{column.replace('_', ' ')}[/]", escape(safe(str(value))))
    out = console()
    out.print(f"[bold]{id_}[/]")
    out.print(shown)
    part = f", the first {len(event):,} bytes of {row['length']:,}" if len(event) < row["length"] else ""
    out.print(f"[dim]event{part}:[/]")
    out.print(escape(safe(_pretty(text) if text else repr(event))), soft_wrap=True)
    return 0


async def discard(
    settings: OperatorSettings, selected: DeadLetterFilter, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Set the outcome of the selected dead letters to `discarded`."""
    discarded = 0
    async with to_database(settings) as connection:
        already = await records.already_closed(connection, selected.ids, "discarded")
        counts = [_from_row(ReasonCount, row) for row in await records.groups(connection, selected)]
        total = sum(count.dead_letters for count in counts)
        if not as_json:
            _print_already(already, "discarded")
            console().print(_counts_table(counts) if total else NOTHING_SELECTED)
        if total and not dry_run:
            confirm(f"discard {plural(total, 'dead letter')} permanently", yes=yes)
            await records.lock(connection)
            with progress("discarding", total) as advance:
                async for page in records.pages(connection, selected, PAGE_DEAD_LETTERS):
                    discarded += await records.close(connection, [one.id for one in page], "discarded")
                    advance(discarded)
    if as_json:
        print_json(Discarded(dry_run, total, discarded, [str(id_) for id_ in already]))
    elif total and dry_run:
        print_text(f"{plural(total, 'dead letter')} would be discarded {DRY_RUN}")
    elif total:
        print_text(f"{plural(discarded, 'dead letter')} discarded")
    return 0


async def replay_(
    settings: OperatorSettings,
    selected: DeadLetterFilter,
    *,
    dry_run: bool,
    rate: int,
    limit: int | None,
    wait_seconds: float,
    as_json: bool,
) -> int:
    """Replay the selected dead letters and print the result; return 1 if an event is not stored."""
    async with connected(settings) as (client, connection):
        already = await records.already_closed(connection, selected.ids, "replayed")
        total = sum(row["dead_letters"] for row in await records.groups(connection, selected))
        total = total if limit is None else min(total, limit)
        if not dry_run:
            await records.lock(connection)
        stop = _stop_on_signal()
        with progress("validating" if dry_run else "replaying", total) as advance:
            run = await replay(
                None if dry_run else client, connection, selected,
                Contract(max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds),
                pace=Pace(rate), page_dead_letters=min(PAGE_DEAD_LETTERS, rate), limit=limit, stop=stop,
                report=lambda run: advance(run.seen, f"{sum(run.kept.values()):,} stay kept"),
            )  # fmt: skip
        result = Replayed(
            dry_run, total, run.seen, run.replayed, sum(run.kept.values()), dict(run.kept), 0, 0, 0, 0,
            [str(id_) for id_ in already],
        )  # fmt: skip
        await _count_stored(client, connection, run, result, wait_seconds=wait_seconds, stop=stop)
    if as_json:
        print_json(result)
    else:
        _print_already(already, "replayed")
        _print_replayed(result)
    return 1 if result.dead_again or result.waiting_messages or result.seen < total else 0


def _stop_on_signal() -> asyncio.Event:
    """Return an event that Ctrl-C sets. A replay then ends after the current page, and the rest stays kept."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _count_stored(
    client: Client, connection: Connection, run: Replay, result: Replayed, *, wait_seconds: float, stop: asyncio.Event
) -> None:
    """Wait until the replayed messages are stored, or for `wait_seconds`; add their counts to `result`."""
    last = {collected: max(sequences) for collected, sequences in run.sent.items()}
    await until_confirmed(client, last, wait_seconds, stop)
    for collected, sequences in run.sent.items():
        created = (await stream_info(client, stream_of(collected))).created
        row = await records.replay_result(connection, stream_of(collected), sequences, created)
        result.stored += row["stored"]
        result.repeated += row["repeated"]
        result.dead_again += row["dead"]
        result.waiting_messages += len(sequences) - row["messages"]


def _print_already(ids: Sequence[DeadLetterId], outcome: str) -> None:
    for id_ in ids:
        print_text(f"{id_} is already {outcome}")


def _print_replayed(result: Replayed) -> None:
    if not result.selected:
        print_text(NOTHING_SELECTED)
        return
    action = f"would be replayed {DRY_RUN}" if result.dry_run else "replayed"
    print_text(f"{plural(result.replayed, 'dead letter')} {action}")
    if not result.dry_run and result.replayed:
        print_text(
            f"  of their events: {result.stored:,} stored, {result.repeated:,} stored before, "
            f"{result.dead_again:,} dead again (new dead letters)"
        )
    if result.waiting_messages:
        print_text(f"  {plural(result.waiting_messages, 'message')} not stored yet: `sluice drain` waits for them")
    for reason, count in sorted(result.kept_by_reason.items()):
        print_text(f"{plural(count, 'dead letter')} not replayable, kept: {reason}")
    if result.seen < result.selected:
        print_text(f"stopped after {result.seen:,} of {result.selected:,}: run the command again to continue")


def _dead_letters_table(rows: Sequence[DeadLetterRow], *, with_detail: bool) -> Table:
    """Return a table of dead letters. A narrow terminal has no space for the detail, which `show` prints."""
    names = ["source", "reason", *_outcome(rows), "path", *(("detail",) if with_detail else ())]
    cells = [[row.id, moment(row.stored_at), *(safe(getattr(row, name)) for name in names)] for row in rows]
    return table(["id", "kept (UTC)", *names], cells, cut=("path", "detail"))


def _counts_table(counts: Sequence[ReasonCount]) -> Table:
    names = ["kind", "source", "reason", *_outcome(counts)]
    cells = [
        [*(getattr(count, name) for name in names), f"{count.dead_letters:,}", moment(count.oldest)] for count in counts
    ]
    return table([*names, "dead letters", "oldest (UTC)"], cells)


def _outcome(rows: Sequence[DeadLetterRow] | Sequence[ReasonCount]) -> list[str]:
    """Return the column of the outcome if the rows differ in it."""
    return ["outcome"] if len({row.outcome for row in rows}) > 1 else []


def _from_row(document: type[Document], row: asyncpg.Record | dict[str, Any]) -> Document:
    """Return a row as a document. The id of a dead letter is its kind and number."""
    columns = set(row.keys())
    fields = {name: row[name] for name in document.__struct_fields__ if name in columns}
    if "id" in fields:
        fields["id"] = str(DeadLetterId(row["kind"], row["id"]))
    return document(**fields)


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
