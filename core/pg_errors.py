"""Classify database errors: one table of SQLSTATEs, for collectors and the reporter.

    SQLSTATE or its class in the table --> the class in the table
    lost connection, time-out          --> RETRY
    anything else                      --> RETRY, with its traceback in the log

Invariant: an unknown error is never FATAL. It may be a defect of a driver with a lost connection; a new connection does
not have it.
"""

from __future__ import annotations

import re
import traceback
from enum import Enum
from typing import Final

import asyncpg

from core.errors import FatalError, Misconfigured, RetryableError


class ErrorClass(Enum):
    """How a service handles a database error.

    RETRY              try again over a new connection
    POISON             the row is invalid; it becomes a dead letter
    MISSING_PARTITION  create the partition, then retry
    FATAL              only an operator can remove the cause

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
    "22": _POISON,  # invalid data
    "22P03": _FATAL,  # the bytes that Sluice wrote are wrong, not the event
    "22P04": _FATAL,
    "23": _FATAL,  # constraint
    "23502": _POISON,  # null in a NOT NULL column
    "25": _RETRY,  # transaction: read-only on a standby, or a time limit has passed
    "28": _FATAL,  # authentication
    "3D": _FATAL,  # missing database
    "3F": _FATAL,  # missing schema
    "40": _RETRY,  # rollback: a deadlock, or a conflict with recovery on a standby
    "42": _FATAL,  # unknown name, syntax or privilege
    "53": _RETRY,  # resources
    "54": _POISON,  # program limit
    "55": _RETRY,  # object state: a lock
    "57": _RETRY,  # operator intervention
    "58": _RETRY,  # system
    "P0": _FATAL,  # raised by a function or trigger
    "XX001": _FATAL,  # damaged data
    "XX002": _FATAL,  # damaged index
}
_UNDEFINED_TABLE: Final = "42P01"
_PARTITION: Final = re.compile(r"_events_\d{8}\b")
_CHECK_VIOLATION: Final = "23514"
_READ_AGAIN: Final = ("08", "40", "55P03")
_CONNECTION_LOST: Final = (OSError, TimeoutError, RetryableError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def classify(error: BaseException) -> ErrorClass:
    """Return the class of an error."""
    return _listed(error) or ErrorClass.RETRY


def is_known(error: BaseException) -> bool:
    """Return whether the table contains this error."""
    return _listed(error) is not None


def unknown_trace(error: BaseException) -> dict[str, str]:
    """Return the log field `traceback` for an error that the table does not contain, otherwise no field.

    Frames only: the DETAIL of a PostgreSQL error may contain personal data.
    """
    if is_known(error):
        return {}
    return {"traceback": "".join(traceback.format_tb(error.__traceback__))}


def is_transient(error: BaseException) -> bool:
    """Return whether this error is known to be temporary."""
    return is_known(error) and classify(error) is ErrorClass.RETRY


def may_read_again(error: BaseException) -> bool:
    """Return whether the same query is likely to succeed if it is repeated at once over another connection.

    True if the server rolled it back or ended its session; asyncpg raises InterfaceError for an ended session.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return True
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_READ_AGAIN)


def _listed(error: BaseException) -> ErrorClass | None:
    if isinstance(error, FatalError | Misconfigured):
        return ErrorClass.FATAL
    # After a schema change: class 0A, but a new connection plans its statements again.
    if isinstance(error, (*_CONNECTION_LOST, asyncpg.InvalidCachedStatementError)):
        return ErrorClass.RETRY
    if not isinstance(error, asyncpg.PostgresError):
        return None
    sqlstate = str(error.sqlstate)
    if sqlstate == _UNDEFINED_TABLE and _PARTITION.search(
        str(error)
    ):  # the message contains the name in every language
        return ErrorClass.MISSING_PARTITION
    if sqlstate == _CHECK_VIOLATION and error.constraint_name:  # without a name, the row is in another day's partition
        return ErrorClass.POISON
    return _SQLSTATES.get(sqlstate) or _SQLSTATES.get(sqlstate[:2])
