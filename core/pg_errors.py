"""What a database error asks of a service: one table of SQLSTATEs, for collectors and the reporter.

    SQLSTATE or its class in the table --> what the table says
    lost connection, time-out          --> RETRY
    anything else                      --> RETRY, with its traceback in the log

Invariant: an unknown error is never FATAL. It may be a defect of a driver whose connection was lost; a new connection
does not have it.
"""

from __future__ import annotations

import re
import traceback
from enum import Enum
from typing import Final

import asyncpg

from core.errors import FatalError, Misconfigured


class ErrorClass(Enum):
    """RETRY: try again over a new connection. POISON: the row is invalid; it becomes a dead letter.
    MISSING_PARTITION: create the partition, then retry. FATAL: only an operator can remove the cause.

    The values are the `reason` of the metric `collector_store_retries`.
    """

    RETRY = "wait"
    POISON = "poison"
    MISSING_PARTITION = "partition"
    FATAL = "fatal"


_RETRY, _POISON, _FATAL = ErrorClass.RETRY, ErrorClass.POISON, ErrorClass.FATAL
_SQLSTATES: Final = {
    "08": _RETRY,  # connection
    "0A": _FATAL,  # unsupported feature
    "22": _POISON,  # data
    "22P03": _FATAL,  # the bytes that we wrote are wrong, not the event
    "22P04": _FATAL,
    "23": _FATAL,  # constraint
    "23502": _POISON,  # null in a column that has none
    "25": _RETRY,  # transaction: a standby is read-only, a time limit has passed
    "28": _FATAL,  # credentials
    "3D": _FATAL,  # database
    "3F": _FATAL,  # schema
    "40": _RETRY,  # rollback: a deadlock, a conflict with recovery on a standby
    "42": _FATAL,  # name, syntax or privilege
    "53": _RETRY,  # resources
    "54": _POISON,  # limit of the program
    "55": _RETRY,  # object state: a lock
    "57": _RETRY,  # operator
    "58": _RETRY,  # system
    "P0": _FATAL,  # raised by a function or trigger
    "XX001": _FATAL,  # damaged data
    "XX002": _FATAL,  # damaged index
}
_UNDEFINED_TABLE: Final = "42P01"
_PARTITION: Final = re.compile(r"_events_\d{8}\b")
_CHECK_VIOLATION: Final = "23514"
_READ_AGAIN: Final = ("08", "40", "55P03")
_CONNECTION_LOST: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def classify(error: BaseException) -> ErrorClass:
    """Return what an error asks of the service that it was raised in."""
    return _listed(error) or ErrorClass.RETRY


def is_known(error: BaseException) -> bool:
    """Whether the table names this error."""
    return _listed(error) is not None


def unknown_trace(error: BaseException) -> dict[str, str]:
    """The field `traceback` for the log line of an error that the table does not name, otherwise no field.

    Frames only: the DETAIL of a PostgreSQL error in the chain may be personal data.
    """
    if is_known(error):
        return {}
    return {"traceback": "".join(traceback.format_tb(error.__traceback__))}


def is_transient(error: BaseException) -> bool:
    """Whether this error is known to pass by itself."""
    return is_known(error) and classify(error) is ErrorClass.RETRY


def may_read_again(error: BaseException) -> bool:
    """Whether the same query, repeated at once over another connection, is likely to succeed.

    The server rolled it back or ended its session. asyncpg raises InterfaceError for the latter, whatever the reason.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return True
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_READ_AGAIN)


def _listed(error: BaseException) -> ErrorClass | None:
    if isinstance(error, FatalError | Misconfigured):
        return ErrorClass.FATAL
    # The schema has changed: class 0A, but a new connection plans its statements anew.
    if isinstance(error, (*_CONNECTION_LOST, asyncpg.InvalidCachedStatementError)):
        return ErrorClass.RETRY
    if not isinstance(error, asyncpg.PostgresError):
        return None
    sqlstate = str(error.sqlstate)
    if sqlstate == _UNDEFINED_TABLE and _PARTITION.search(str(error)):  # the message has the name in every language
        return ErrorClass.MISSING_PARTITION
    if sqlstate == _CHECK_VIOLATION and error.constraint_name:  # without a name, the row is in another day's partition
        return ErrorClass.POISON
    return _SQLSTATES.get(sqlstate) or _SQLSTATES.get(sqlstate[:2])
