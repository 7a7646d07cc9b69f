"""Tables for a terminal: the ledger and the reports."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from core.events.subjects import REFUSED, stream_of
from ops.ledger import Ledger

MOST_ROWS: Final = 16


def ledger_table(sent: dict[str, Any], before: Ledger, after: Ledger) -> Table:
    """The ledger since `before`, from the publisher's door to the rows."""
    shown = Table("where", "", title="Ledger", title_justify="left")
    refused = after.streams[stream_of(REFUSED)].events - before.streams[stream_of(REFUSED)].events
    since = {what: after.events(what) - before.events(what) for what in ("events", "stored", "repeated", "dead")}
    messages = sum(stream.messages - before.streams[name].messages for name, stream in after.streams.items())
    published = sum(stream.published - before.streams[name].published for name, stream in after.streams.items())
    waiting = sum(stream.waiting for stream in after.streams.values())
    shown.add_row("door", f"{sent['events_sent']:,} sent = {sent['accepted']:,} accepted + {sent['refused']:,} refused")
    shown.add_row("stream", f"{published:,} messages published = {messages:,} receipts + {waiting:,} waiting")
    shown.add_row(
        "store",
        f"{since['events']:,} events in receipts = {since['stored']:,} stored + {since['repeated']:,} repeated "
        f"+ {since['dead']:,} dead",
    )
    shown.add_row("refused", f"{refused:,} kept with their reason")
    for name, source in after.sources.items():
        shown.add_row(name, f"{source.rows:,} rows = {source.rolled_up_from_floor:,} in the rollups, all time")
    return shown


def print_report(console: Console, title: str, status: int, report: dict[str, Any]) -> None:
    """Print one report's rows: the first of them, and how many there are."""
    console.print(f"\n{title}", style="bold", highlight=False, soft_wrap=True)
    if status != 200:
        console.print(f"answered {status}: {report}")
        return
    if isinstance(report["rows"], list):
        _print_rows(console, report["rows"])
    console.print(f"freshness {report['freshness']}", style="dim", highlight=False)


def _print_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("no rows")
        return
    shown = Table(*rows[0])
    for row in rows[:MOST_ROWS]:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console.print(shown)
    if len(rows) > MOST_ROWS:
        console.print(f"… {len(rows) - MOST_ROWS} more rows", style="dim")
