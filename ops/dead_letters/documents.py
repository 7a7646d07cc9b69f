"""The JSON documents of `sluice dead-letters`."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class DeadLetterRow(Struct, omit_defaults=True):
    """A dead letter or rejected event without its event. length is the size of the event in bytes."""

    id: str
    kind: str
    stored_at: datetime
    source: str
    reason: str
    path: str
    detail: str
    event_id: str | None
    correlation_id: str | None
    length: int
    outcome: str


class DeadLetterDetails(DeadLetterRow, omit_defaults=True):
    """A dead letter with its event, which is base64 if it is not UTF-8."""

    received_at: datetime | None
    stream: str
    stream_sequence: int | None
    position: int | None
    sha256: str
    outcome_at: datetime | None
    replayed_as: int | None
    event: str | None = None
    event_base64: str | None = None


class ReasonCount(Struct):
    """How many dead letters have a kind, source, reason and outcome."""

    kind: str
    source: str
    reason: str
    outcome: str
    dead_letters: int
    oldest: datetime
    newest: datetime


class Replayed(Struct):
    """`sluice dead-letters replay`. selected counts the dead letters of the filter, seen those that were read.

    kept counts those that cannot be replayed. stored, repeated and dead_again count events of replayed dead letters.
    """

    dry_run: bool
    selected: int
    seen: int
    replayed: int
    kept: int
    kept_by_reason: dict[str, int]
    stored: int
    repeated: int
    dead_again: int
    waiting_messages: int
    already: list[str]


class Discarded(Struct):
    """`sluice dead-letters discard`."""

    dry_run: bool
    selected: int
    discarded: int
    already: list[str]
