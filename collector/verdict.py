"""What a database error asks of a collector, told by its SQLSTATE. A code that is not listed is ours."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import asyncpg


class Verdict(Enum):
    """POISON: a row; it goes to the dead letters. WAIT: it passes; try again. PARTITION: a leaf is missing; make it.
    OURS: waiting does not mend it; the source stops and nothing is confirmed."""

    POISON = auto()
    WAIT = auto()
    PARTITION = auto()
    OURS = auto()


_MALFORMED_COPY: Final = ("22P03", "22P04")  # the bytes that we wrote are wrong, not the event
_UNDEFINED_TABLE: Final = "42P01"
_READ_ONLY: Final = "25006"  # a standby: another connection may find the primary
_CHECK_VIOLATION: Final = "23514"
_NOT_NULL_VIOLATION: Final = "23502"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_LEAF: Final = re.compile(r"_events_\d{8}\b")
_POISON_CLASSES: Final = ("22", "54")
_WAIT_CLASSES: Final = ("08", "40", "53", "57")


def verdict(error: BaseException) -> Verdict:
    """Judge an error that storing a batch raised."""
    if isinstance(error, asyncpg.PostgresError):
        return _of_sqlstate(error)
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return Verdict.WAIT  # the connection is gone or unusable: a new one is made
    return Verdict.OURS


def _of_sqlstate(error: asyncpg.PostgresError) -> Verdict:
    code = str(error.sqlstate)
    if code == _UNDEFINED_TABLE:  # the message holds the name in every language
        return Verdict.PARTITION if _LEAF.search(str(error)) else Verdict.OURS
    if code in _MALFORMED_COPY:
        return Verdict.OURS
    if code == _CHECK_VIOLATION:
        return Verdict.POISON if error.constraint_name else Verdict.OURS  # a row in a leaf that is not its day's
    if code == _NOT_NULL_VIOLATION or code[:2] in _POISON_CLASSES:
        return Verdict.POISON
    if code in (_LOCK_NOT_AVAILABLE, _READ_ONLY) or code[:2] in _WAIT_CLASSES:
        return Verdict.WAIT
    return Verdict.OURS
