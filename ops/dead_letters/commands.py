"""The commands `dead-letters list|show|replay|discard`: what they print and ask. The work is in dead letters and
replay."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from typing import Any, Final

import asyncpg
from nats.aio.client import Client
from rich.markup import escape
from rich.table import Table

from core.events.contract import Contract
from core.events.subjects import stream_of
from core.jetstream import stream_info
from core.postgres import Connection
from ops.cli.connection import connected, to_database
from ops.cli.output import confirm, console, moment, plural, print_json, progress, safe, table
from ops.cli.pause import until_confirmed
from ops.dead_letters import records
from ops.dead_letters.records import DeadLetterFilter, DeadLetterId
from ops.dead_letters.replay import PAGE_DEAD_LETTERS, Pace, Replay, replay
from ops.settings import OperatorSettings

WIDE: Final = 110


async def list_(
    settings: OperatorSettings, which: DeadLetterFilter, *, most: int, by_reason: bool, as_json: bool
) -> int:
    """Print the newest of these dead letters, or how many there are by reason."""
    async with to_database(settings) as connection:
        groups = await records.groups(connection, which)
        rows = [] if by_reason else await records.newest(connection, which, most)
    if as_json:
        print_json([_plain(row) for row in (groups if by_reason else rows)])
        return 0
    total = sum(row["dead_letters"] for row in groups)
    if by_reason:
        console().print(_groups_table(groups))
    elif rows:
        narrow = console().width < WIDE
        console().print(_dead_letters_table(rows, narrow=narrow))
    kind = "" if which.outcome is None else f"{which.outcome} "
    more = f", the newest {len(rows)} shown (--limit)" if not by_reason and len(rows) < total else ""
    console().print(f"{plural(total, f'{kind}dead letter')}{more}")
    return 0


async def show(settings: OperatorSettings, name: DeadLetterId, *, as_json: bool) -> int:
    """Print all that is known of one dead letter, its event too."""
    async with to_database(settings) as connection:
        row = dict(await records.one(connection, name))
    event: bytes = row.pop("event")
    row["outcome"] = row.pop("became")
    row["sha256"] = row["sha256"].hex()
    try:
        text = event.decode()
    except UnicodeDecodeError:
        text = ""
    if as_json:
        kept = {"event": text} if text or not event else {"event_base64": base64.b64encode(event).decode()}
        print_json({"name": str(name), **_plain(row), **kept})
        return 0
    shown = Table.grid(padding=(0, 2))
    for key, value in row.items():
        if value is not None and key not in ("kind", "id"):
            shown.add_row(f"[dim]{key.replace('_', ' ')}[/]", escape(safe(str(value))))
    out = console()
    out.print(f"[bold]{name}[/]")
    out.print(shown)
    part = f", the first {len(event):,} bytes of {row['length']:,}" if len(event) < row["length"] else ""
    out.print(f"[dim]event{part}:[/]")
    out.print(escape(safe(_pretty(text) if text else repr(event))), soft_wrap=True)
    return 0


async def discard(settings: OperatorSettings, which: DeadLetterFilter, *, dry_run: bool, yes: bool) -> int:
    """Close these dead letters without sending them anywhere."""
    async with to_database(settings) as connection:
        for name in await records.closed_already(connection, which.names, "discarded"):
            console().print(f"{name} is discarded already")
        groups = await records.groups(connection, which)
        total = sum(row["dead_letters"] for row in groups)
        if not total:
            console().print("no kept dead letter is meant: nothing to do")
            return 0
        console().print(_groups_table(groups))
        if dry_run:
            console().print(f"{plural(total, 'dead letter')} would be discarded (dry run: nothing was changed)")
            return 0
        confirm(f"discard {plural(total, 'dead letter')} for good", yes=yes)
        await records.take(connection)
        closed = 0
        with progress("discarding", total) as advance:
            async for page in records.pages(connection, which, PAGE_DEAD_LETTERS):
                closed += await records.close(connection, [dead_letter.name for dead_letter in page], "discarded")
                advance(closed)
    console().print(f"{plural(closed, 'dead letter')} discarded")
    return 0


async def replay_(
    settings: OperatorSettings,
    which: DeadLetterFilter,
    *,
    dry_run: bool,
    rate: int,
    most: int | None,
    wait: float,
    as_json: bool,
) -> int:
    """Send these dead letters out again, then say what became of them. 1 where some of that is not stored."""
    async with connected(settings) as (client, connection):
        already = await records.closed_already(connection, which.names, "replayed")
        groups = await records.groups(connection, which)
        total = sum(row["dead_letters"] for row in groups)
        total = total if most is None else min(total, most)
        if not dry_run:
            await records.take(connection)
        stop = _told_to_stop()
        with progress("looking" if dry_run else "replaying", total) as advance:
            run = await replay(
                None if dry_run else client, connection, which,
                Contract(max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds),
                pace=Pace(rate), page_dead_letters=min(PAGE_DEAD_LETTERS, rate), most=most, stop=stop,
                told=lambda run: advance(run.seen, f"{sum(run.unfit.values()):,} stay kept"),
            )  # fmt: skip
        became = await _became(client, connection, run, wait, stop)
    figures = {
        "selected": total, "seen": run.seen, "replayed": run.replayed, "dry_run": dry_run, **became,
        "kept": sum(run.unfit.values()), "kept_by_reason": dict(run.unfit), "already": [str(name) for name in already],
    }  # fmt: skip
    if as_json:
        print_json(figures)
    else:
        _print_replay(figures)
    return 1 if became["dead_again"] or became["waiting_messages"] or run.seen < total else 0


def _told_to_stop() -> asyncio.Event:
    """Set by Ctrl-C, which then ends a replay after the page at hand: what is closed is closed, the rest stays kept."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _became(
    client: Client, connection: Connection, run: Replay, wait: float, stop: asyncio.Event
) -> dict[str, int]:
    """What became of the messages that went out, once they are stored or after so many seconds."""
    last = {collected: max(sequences) for collected, sequences in run.sent.items()}
    await until_confirmed(client, last, wait, stop)
    total = {"stored": 0, "repeated": 0, "dead_again": 0, "waiting_messages": 0}
    for collected, sequences in run.sent.items():
        created = (await stream_info(client, stream_of(collected))).created
        row = await records.became(connection, stream_of(collected), sequences, created)
        total["stored"] += row["stored"]
        total["repeated"] += row["repeated"]
        total["dead_again"] += row["dead"]
        total["waiting_messages"] += len(sequences) - row["messages"]
    return total


def _print_replay(figures: dict[str, Any]) -> None:
    out = console()
    for name in figures["already"]:
        out.print(f"{name} is replayed already")
    if not figures["selected"]:
        out.print("no kept dead letter is meant: nothing to do")
        return
    said = "would be replayed (dry run: nothing was changed)" if figures["dry_run"] else "replayed"
    out.print(f"{plural(figures['replayed'], 'dead letter')} {said}")
    if not figures["dry_run"] and figures["replayed"]:
        out.print(
            f"  of their events {figures['stored']:,} stored, {figures['repeated']:,} stood already, "
            f"{figures['dead_again']:,} dead again (new dead letters)"
        )
    if figures["waiting_messages"]:
        out.print(
            f"  {plural(figures['waiting_messages'], 'message')} not stored yet: python -m ops drain waits for them"
        )
    for reason, count in sorted(figures["kept_by_reason"].items()):
        out.print(f"{plural(count, 'dead letter')} not fit, kept: {reason}")
    if figures["seen"] < figures["selected"]:
        out.print(f"stopped after {figures['seen']:,} of {figures['selected']:,}: run it again to go on")


def _dead_letters_table(rows: list[asyncpg.Record], *, narrow: bool) -> Table:
    """The dead letters; a narrow terminal has no room for what is wrong in words (`show` tells it)."""
    more = [*_outcome(rows), "path", *(() if narrow else ("detail",))]
    names = ["source", "reason", *more]
    cells = [
        [str(DeadLetterId(row["kind"], row["id"])), moment(row["stored_at"]), *(safe(row[name]) for name in names)]
        for row in rows
    ]
    return table(["dead letter", "kept (UTC)", *names], cells, cut=("path", "detail"))


def _groups_table(groups: list[asyncpg.Record]) -> Table:
    names = ["kind", "source", "reason", *_outcome(groups)]
    cells = [[*(row[name] for name in names), f"{row['dead_letters']:,}", moment(row["oldest"])] for row in groups]
    return table([*names, "dead_letters", "oldest (UTC)"], cells)


def _outcome(rows: list[asyncpg.Record]) -> list[str]:
    """The column that says what became of them, where that is not the same for all."""
    return ["outcome"] if len({row["outcome"] for row in rows}) > 1 else []


def _plain(row: asyncpg.Record | dict[str, Any]) -> dict[str, Any]:
    """A row for a program, with the dead letter's name where it is one."""
    plain = dict(row)
    if "id" in plain and "kind" in plain:
        plain = {"name": str(DeadLetterId(plain["kind"], plain.pop("id"))), **plain}
    plain.pop("last", None)
    return plain


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
