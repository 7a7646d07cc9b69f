"""Tables for a terminal: the ledger and the reports."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from core.events.subjects import REJECTED, stream_of
from ops.dead_letters.records import OUTCOMES
from ops.ledger import Ledger

MOST_ROWS: Final = 16
MOST_VALUES: Final = 5


def ledger_table(sent: dict[str, Any], before: Ledger, after: Ledger) -> Table:
    """The ledger since `before`, from the publisher's door to the rows."""
    shown = Table("where", "", title="Ledger", title_justify="left")
    rejected = after.streams[stream_of(REJECTED)].stored - before.streams[stream_of(REJECTED)].stored
    since = {what: after.events(what) - before.events(what) for what in ("events", "stored", "repeated", "dead")}
    messages = sum(stream.messages - before.streams[name].messages for name, stream in after.streams.items())
    published = sum(stream.published - before.streams[name].published for name, stream in after.streams.items())
    waiting = sum(stream.waiting for stream in after.streams.values())
    shown.add_row(
        "door", f"{sent['events_sent']:,} sent = {sent['accepted']:,} accepted + {sent['rejected']:,} rejected"
    )
    shown.add_row("stream", f"{published:,} messages published = {messages:,} receipts + {waiting:,} waiting")
    shown.add_row(
        "store",
        f"{since['events']:,} events in receipts = {since['stored']:,} stored + {since['repeated']:,} repeated "
        f"+ {since['dead']:,} dead",
    )
    shown.add_row("rejected", f"{rejected:,} kept with their reason")
    dead_letters = [after.dead_letters[stream_of(name)] for name in after.sources]
    became = " + ".join(f"{sum(getattr(one, what) for one in dead_letters):,} {what}" for what in OUTCOMES)
    shown.add_row("dead_letters", f"{sum(one.counted for one in dead_letters):,} dead = {became}, all time")
    for name, source in after.sources.items():
        shown.add_row(name, f"{source.rows:,} rows = {source.rolled_up_from_floor:,} in the rollups, all time")
    return shown


def print_report(console: Console, title: str, status: int, report: dict[str, Any]) -> None:
    """Print the first rows of a report, or what was answered instead of one."""
    console.print(f"\n{title}", style="bold", highlight=False, soft_wrap=True)
    if status != 200:
        console.print(f"answered {status}: {report}")
        return
    rows = report["rows"]
    for columns, alike in groupby(rows[:MOST_ROWS], tuple):  # sources differ in what is known of their users
        shown = Table(*columns)
        for row in alike:
            shown.add_row(*(_cell(value) for value in row.values()))
        console.print(shown)
    if len(rows) > MOST_ROWS:
        console.print(f"… {len(rows) - MOST_ROWS} more rows", style="dim")
    for source, fresh in report["freshness"].items():
        console.print(f"{source} is complete up to {fresh['storedUntil']}", style="dim", highlight=False)


def _cell(value: Any) -> str:
    """A value of a report: a number, a text, or a list of values with their counts, the first of them shown."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        lines = [f"{'other' if item['value'] is None else item['value']} {item['events']:,}" for item in value]
        more = [f"… {len(lines) - MOST_VALUES} more"] if len(lines) > MOST_VALUES else []
        return "\n".join(lines[:MOST_VALUES] + more)
    return "" if value is None else str(value)
