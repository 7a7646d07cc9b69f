"""What each database error asks of a service."""

from typing import Any

import asyncpg
import pytest

from core.errors import FatalError, Misconfigured
from core.pg_errors import ErrorClass, classify, is_known, is_transient, unknown_trace

POISON, RETRY, FATAL = ErrorClass.POISON, ErrorClass.RETRY, ErrorClass.FATAL


def server_error(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """The error that asyncpg makes of a server's answer."""
    names = {"constraint_name": "n", "table_name": "t", "message": "M"}
    reported = {"C": sqlstate, "M": "reported by a test", **{names[name]: value for name, value in fields.items()}}
    error: asyncpg.PostgresError = asyncpg.exceptions.PostgresError.new(reported)
    return error


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("22001", POISON),  # a text too long for its column
        ("22003", POISON),  # a number too large
        ("22021", POISON),  # a NUL in a text
        ("22P02", POISON),  # no such enum label
        ("22P03", FATAL),  # malformed binary: the bytes are ours
        ("22P04", FATAL),  # malformed COPY
        ("23502", POISON),
        ("54000", POISON),  # an index entry too large
        ("23505", FATAL),  # the merge takes repeats: a unique violation is a defect
        ("23503", FATAL),
        ("40001", RETRY),
        ("40P01", RETRY),  # deadlock
        ("53100", RETRY),  # disk full
        ("53300", RETRY),  # too many connections
        ("55P03", RETRY),  # lock not available
        ("55006", RETRY),
        ("57P01", RETRY),  # shut down by an administrator
        ("57P03", RETRY),  # starting up
        ("57014", RETRY),  # query cancelled
        ("08006", RETRY),
        ("42P01", FATAL),  # a table that is missing, and no leaf
        ("42501", FATAL),  # a right is missing
        ("42703", FATAL),
        ("0A000", FATAL),
        ("XX000", RETRY),  # unknown to PostgreSQL, too
        ("XX001", FATAL),
        ("P0001", FATAL),
        ("28P01", FATAL),
        ("25006", RETRY),  # read-only: a standby
        ("25P03", RETRY),  # a session was idle in a transaction for too long
        ("25P04", RETRY),  # a transaction took too long
        ("99999", RETRY),  # unknown to us and to asyncpg
    ],
)
def test_each_sqlstate_has_its_class(sqlstate: str, expected: ErrorClass) -> None:
    """The SQLSTATE alone decides, and one that is not listed is retried."""
    assert classify(server_error(sqlstate)) is expected


def test_a_check_that_has_a_name_is_about_the_row() -> None:
    """A named constraint rejected a row; without a name it is the leaf's range that did not fit: our mistake."""
    assert classify(server_error("23514", constraint_name="facebook_events_city_check")) is POISON
    assert classify(server_error("23514")) is FATAL


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('relation "facebook_events_20261122" does not exist', ErrorClass.MISSING_PARTITION),
        ("Relation »tiktok_events_20261122« existiert nicht", ErrorClass.MISSING_PARTITION),
        ('relation "event_counts" does not exist', FATAL),
        ('relation "facebook_events" does not exist', FATAL),
    ],
)
def test_a_missing_table_is_a_missing_leaf_only_where_it_is_one(message: str, expected: ErrorClass) -> None:
    """A leaf that was dropped is made again; any other table is the schema's, and nothing that we could make."""
    assert classify(server_error("42P01", message=message)) is expected


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
    ],
)
def test_a_connection_that_is_gone_is_waited_for(error: Exception) -> None:
    """Whatever a lost connection raises, a new one is made."""
    assert classify(error) is RETRY


@pytest.mark.parametrize("error", [FatalError("more than 10"), Misconfigured("a password")])
def test_an_error_that_names_an_operator_is_fatal(error: Exception) -> None:
    """Too many rejected rows of a batch, and credentials that the server rejects."""
    assert classify(error) is FATAL
    assert is_known(error)
    assert not is_transient(error)


@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("'NoneType' object has no attribute 'done'")])
def test_an_unknown_exception_is_never_fatal(error: Exception) -> None:
    """It is retried, and the log gets the frames of its traceback without any message."""
    try:
        try:
            raise server_error("23505", message="Ada Example")
        except asyncpg.PostgresError:
            raise error  # noqa: B904
    except Exception as caught:
        trace = unknown_trace(caught)["traceback"]
    assert classify(error) is RETRY
    assert not is_transient(error)
    assert __file__ in trace
    assert "Ada" not in trace


def test_a_plan_of_an_older_schema_is_retried() -> None:
    """A migration while a collector runs: its statements are planned anew over the next connection."""
    error = asyncpg.InvalidCachedStatementError("cached statement plan is invalid")
    assert error.sqlstate == "0A000"
    assert classify(error) is RETRY
    assert is_transient(error)


def test_only_listed_sqlstates_of_asyncpg_are_fatal() -> None:
    """No other error that asyncpg has a class for stops a source."""

    def classes(of: Any) -> list[Any]:
        return [of, *(inner for sub in of.__subclasses__() for inner in classes(sub))]

    fatal = {
        code
        for kind in classes(asyncpg.PostgresError)
        if (code := kind.sqlstate) is not None and classify(server_error(code)) is FATAL
    }
    assert {code[:2] for code in fatal} == {"0A", "22", "23", "28", "3D", "3F", "42", "P0", "XX"}
    assert {code for code in fatal if code[:2] in ("22", "XX")} == {"22P03", "22P04", "XX001", "XX002"}
