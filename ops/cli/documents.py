"""The JSON documents of the small commands, and `shape`, which describes any document by its type.

Each command encodes an object of its type, and its help and docs/command-line.md show that type. So the description
cannot differ from the output.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    datetime: "time in UTC",
    date: "day",
    type(None): "null",
    Any: "any value",
}


class PartitionRow(Struct):
    """A day of one table. rows is an estimate, -1 if unknown; reports do not include a detached table."""

    table: str
    day: date
    rows: int
    bytes: int
    attached: bool


class PartitionChange(Struct):
    """What happened to the partition of one day."""

    table: str
    day: date
    done: str
    error: str | None


class PartitionsEnsured(Struct):
    """`sluice partitions ensure`: missing counts the days that still have no partition."""

    dry_run: bool
    created: int
    attached: int
    missing: int
    days_ahead: int
    changes: list[PartitionChange]


class PartitionsDropped(Struct):
    """`sluice partitions drop`: floor is the first day that is kept."""

    dry_run: bool
    floor: date
    dropped: list[PartitionRow]
    failed: list[PartitionChange]


class PartitionsIndexed(Struct):
    """`sluice partitions index`."""

    dry_run: bool
    indexed: list[str]


class CountriesRebuilt(Struct):
    """`sluice countries rebuild`."""

    dry_run: bool
    added: int
    removed: int
    free: int
    places: int


class StreamRow(Struct):
    """A declared stream. All but the first three are null if the stream does not exist."""

    stream: str
    drift: list[str]
    max_bytes: int
    created: datetime | None
    messages: int | None
    bytes: int | None
    last_sequence: int | None


class StreamDrift(Struct):
    """A stream that differs from its declaration, and how."""

    stream: str
    drift: list[str]


class StreamsApplied(Struct):
    """`sluice streams apply`: found is the drift before, remaining the drift after it."""

    dry_run: bool
    found: list[StreamDrift]
    remaining: list[StreamDrift]


class StreamLoss(Struct):
    """How many lost messages of a stream were accepted."""

    stream: str
    accepted_messages: int


class SourceState(Struct):
    """A source after `sluice pause` or `sluice resume`. changed is false if it was in this state before."""

    source: str
    paused: bool
    changed: bool
    waiting_messages: int


class Drained(Struct):
    """`sluice drain`: drained is false if messages remained after the time-out."""

    drained: bool
    sources: list[str]
    seconds: float


class Migrated(Struct):
    """`sluice migrate`."""

    schema_version: int


class SnapshotRow(Struct):
    """A saved or restored stream. bytes counts what was saved, messages what was restored."""

    stream: str
    bytes: int | None
    messages: int | None


class SnapshotDone(Struct):
    """`sluice snapshot save` and `sluice snapshot restore`."""

    folder: str
    streams: list[SnapshotRow]


class DataDeleted(Struct):
    """`sluice reset-data`."""

    folder: str
    deleted: list[str]
    bytes: int


class Filled(Struct):
    """`sluice fill`: stored events by source."""

    events: int
    seconds: float
    sources: dict[str, int]


class DemoFigures(Struct):
    """The figures of a demonstration, which demo.json holds, too. lost and pending must be 0."""

    sent: int
    accepted: int
    rejected: int
    stored: int
    repeated: int
    dead: int
    pending: int
    lost: int
    seconds: float
    drain_seconds: float
    stored_per_second: int
    freshness_p50_seconds: float
    freshness_p99_seconds: float
    rss_bytes: dict[str, int]


class DemoResult(Struct):
    """`sluice demo`: ok is true if problems is empty."""

    ok: bool
    problems: list[str]
    figures: DemoFigures


class UpLine(Struct, omit_defaults=True):
    """A line of `sluice up`. The first line has the addresses, each later line the state of one second."""

    addresses: dict[str, str] | None = None
    accepted_per_second: float | None = None
    stored_per_second: float | None = None
    rejected: int | None = None
    stored: int | None = None
    repeated: int | None = None
    dead: int | None = None
    waiting_messages: int | None = None
    lag_seconds: float | None = None
    memory_bytes: dict[str, int] | None = None
    programs: dict[str, str] | None = None
    problems: list[str] | None = None


class CompletionScript(Struct):
    """`sluice completion`."""

    shell: str
    script: str


def shape(document: Any) -> str:
    """Return the shape of a document as text like JSON, by its type; a text is returned as it is."""
    return document if isinstance(document, str) else _shape(document, "")


def _shape(of: Any, indent: str) -> str:
    origin, arguments = get_origin(of), get_args(of)
    if origin in (Union, types.UnionType):
        return " or ".join(_shape(argument, indent) for argument in arguments)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin in (list, tuple, Sequence):
        return f"[{_shape(arguments[0], indent)}, …]"
    if origin is dict:
        return f"{{NAME: {_shape(arguments[1], indent)}, …}}"
    if of in WORDS:
        return WORDS[of]
    inner = f"{indent}  "
    fields = get_type_hints(of)
    lines = [f'{inner}"{name}": {_shape(fields[name], inner)}' for name in fields if not name.startswith("_")]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
