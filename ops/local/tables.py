"""Tables for a terminal: the ledger and the reports."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from core.events.subjects import REJECTED, stream_of
from ops.dead_letters.records import OUTCOMES
from ops.ledger import Ledger

MAX_ROWS: Final = 16
MAX_VALUES: Final = 5


def ledger_table(sent: dict[str, Any], before: Ledger, after: Ledger) -> Table:
    """Return a table of the ledger since `before`, from the publisher to the rows."""
    shown = Table("where", "", title="Ledger", title_justify="left")
    rejected = after.streams[stream_of(REJECTED)].stored - before.streams[stream_of(REJECTED)].stored
    since = {count: after.events(count) - before.events(count) for count in ("events", "stored", "repeated", "dead")}
    messages = sum(stream.messages - before.streams[name].messages for name, stream in after.streams.items())
    published = sum(stream.published - before.streams[name].published for name, stream in after.streams.items())
    waiting = sum(stream.waiting for stream in after.streams.values())
    shown.add_row(
        "gateway", f"{sent['events_sent']:,} sent = {sent['accepted']:,} accepted + {sent['rejected']:,} rejected"
    )
    shown.add_row("stream", f"{published:,} messages published = {messages:,} receipts + {waiting:,} waiting")
    shown.add_row(
        "store",
        f"{since['events']:,} events in receipts = {since['stored']:,} stored + {since['repeated']:,} repeated "
        f"+ {since['dead']:,} dead",
    )
    shown.add_row("rejected", f"{rejected:,} kept with their reason")
    dead_letters = [after.dead_letters[stream_of(name)] for name in after.sources]
    outcomes = " + ".join(f"{sum(getattr(one, outcome) for one in dead_letters):,} {outcome}" for outcome in OUTCOMES)
    shown.add_row("dead letters", f"{sum(one.counted for one in dead_letters):,} dead = {outcomes}, all time")
    for name, source in after.sources.items():
        shown.add_row(name, f"{source.rows:,} rows = {source.rolled_up_from_floor:,} in the rollups, all time")
    return shown


def print_report(console: Console, title: str, status: int, report: dict[str, Any]) -> None:
    """Print the first rows of a report, or the error response."""
    console.print(f"\n{title}", style="bold", highlight=False, soft_wrap=True)
    if status != 200:
        console.print(f"status {status}: {report}")
        return
    rows = report["rows"]
    for columns, group in groupby(rows[:MAX_ROWS], tuple):  # sources have different columns
        shown = Table(*columns)
        for row in group:
            shown.add_row(*(_cell(value) for value in row.values()))
        console.print(shown)
    if len(rows) > MAX_ROWS:
        console.print(f"… {len(rows) - MAX_ROWS} more rows", style="dim")
    for source, fresh in report["freshness"].items():
        console.print(f"{source} is complete up to {fresh['storedUntil']}", style="dim", highlight=False)


def _cell(value: Any) -> str:
    """Return a value of a report as text: a number, a text, or the first values of a list with their counts."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        lines = [f"{'other' if item['value'] is None else item['value']} {item['events']:,}" for item in value]
        more = [f"… {len(lines) - MAX_VALUES} more"] if len(lines) > MAX_VALUES else []
        return "\n".join(lines[:MAX_VALUES] + more)
    return "" if value is None else str(value)
