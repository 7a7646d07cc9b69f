"""What each database error asks of a collector."""

from typing import Any

import asyncpg
import pytest

from collector.verdict import Verdict, verdict
from core.errors import OurFault

POISON, WAIT, PARTITION, OURS = Verdict.POISON, Verdict.WAIT, Verdict.PARTITION, Verdict.OURS


def server_error(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """The error that asyncpg makes of a server's answer."""
    names = {"constraint_name": "n", "table_name": "t", "message": "M"}
    told = {"C": sqlstate, "M": "told by a test", **{names[name]: value for name, value in fields.items()}}
    error: asyncpg.PostgresError = asyncpg.exceptions.PostgresError.new(told)
    return error


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("22001", POISON),  # a text too long for its column
        ("22003", POISON),  # a number too large
        ("22021", POISON),  # a NUL in a text
        ("22P02", POISON),  # no such enum label
        ("22P03", OURS),  # malformed binary: the bytes are ours
        ("22P04", OURS),  # malformed COPY
        ("23502", POISON),
        ("54000", POISON),  # an index entry too large
        ("23505", OURS),  # the merge takes repeats: a unique violation is a defect
        ("23503", OURS),
        ("40001", WAIT),
        ("40P01", WAIT),  # deadlock
        ("53100", WAIT),  # disk full
        ("53300", WAIT),  # too many connections
        ("55P03", WAIT),  # lock not available
        ("55006", OURS),
        ("57P01", WAIT),  # shut down by an administrator
        ("57P03", WAIT),  # starting up
        ("57014", WAIT),  # query cancelled
        ("08006", WAIT),
        ("42P01", OURS),  # a table that is missing, and no leaf
        ("42501", OURS),  # a right is missing
        ("42703", OURS),
        ("0A000", OURS),
        ("XX000", OURS),
        ("P0001", OURS),
        ("28P01", OURS),
        ("25006", WAIT),  # read-only: a standby
        ("99999", OURS),  # unknown to us and to asyncpg
    ],
)
def test_each_sqlstate_has_its_verdict(sqlstate: str, expected: Verdict) -> None:
    """The SQLSTATE alone decides, and what is not listed is ours."""
    assert verdict(server_error(sqlstate)) is expected


def test_a_check_that_has_a_name_is_about_the_row() -> None:
    """A named constraint refused a row; without a name it is the leaf's range that did not fit: our mistake."""
    assert verdict(server_error("23514", constraint_name="facebook_events_city_check")) is POISON
    assert verdict(server_error("23514")) is OURS


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('relation "facebook_events_20261122" does not exist', PARTITION),
        ("Relation »tiktok_events_20261122« existiert nicht", PARTITION),
        ('relation "event_counts" does not exist', OURS),
        ('relation "facebook_events" does not exist', OURS),
    ],
)
def test_a_missing_table_is_a_missing_leaf_only_where_it_is_one(message: str, expected: Verdict) -> None:
    """A leaf that was dropped is made again; any other table is the schema's, and nothing that we could make."""
    assert verdict(server_error("42P01", message=message)) is expected


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
    assert verdict(error) is WAIT


@pytest.mark.parametrize("error", [OurFault("more than 10"), KeyError("x"), ValueError("x"), RuntimeError("x")])
def test_a_defect_of_the_program_is_ours(error: Exception) -> None:
    """An error that no server raised stops the source."""
    assert verdict(error) is OURS


def test_every_error_that_asyncpg_knows_is_judged_by_its_code() -> None:
    """No class of asyncpg's slips through as something to wait for because of what it inherits."""

    def classes(of: Any) -> list[Any]:
        return [of, *(inner for sub in of.__subclasses__() for inner in classes(sub))]

    waits = {
        code
        for kind in classes(asyncpg.PostgresError)
        if (code := kind.sqlstate) is not None and verdict(server_error(code)) is WAIT
    }
    assert {code for code in waits if code[:2] not in ("08", "40", "53", "57")} == {"55P03", "25006"}
