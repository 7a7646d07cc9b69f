"""Answers: the format that the client prefers, CSV that reads back, problems with the right status."""

import csv
import io
from decimal import Decimal
from typing import Any, ClassVar

import asyncpg
import msgspec
import pytest

from reporter import answer, formats
from reporter.query import BadQuery


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, formats.JSON),
        ("", formats.JSON),
        ("*/*", formats.JSON),
        ("application/json", formats.JSON),
        ("text/csv", formats.CSV),
        ("TEXT/CSV; charset=utf-8", formats.CSV),
        ("text/*", formats.CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", formats.JSON),
        ("text/csv;q=0.5, application/json;q=0.4", formats.CSV),
        ("text/csv, */*;q=0.1", formats.CSV),
        ("application/json;q=0, */*", formats.CSV),
        ("text/csv;q=0.9, application/*", formats.JSON),
        ("application/vnd.apache.arrow.stream, application/json;q=0.5", formats.ARROW),
    ],
)
def test_the_preferred_format(accept: str | None, expected: str) -> None:
    """The most specific range that fits has its say; of equals JSON wins."""
    assert answer.media_type(accept) == expected


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "text/csv;q=0, application/json;q=0"])
def test_no_acceptable_format(accept: str) -> None:
    """A client that takes neither is told so."""
    with pytest.raises(answer.NotAcceptable):
        answer.media_type(accept)


class Line(msgspec.Struct, rename="camel"):
    some_text: str | None
    money: Decimal
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class Lines(msgspec.Struct):
    rows: list[Line]
    freshness: ClassVar[dict[str, str]] = {}
    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], list[Line]]:
        return Line, self.rows


def csv_of(lines: Any) -> str:
    return b"".join(formats.csv(lines)).decode()


TEXTS = ["plain", 'say "hi"', "a,b", "two\nlines", "cr\rlf\r\n", " around ", "", "ünï\U0001f600", "=1+1"]


def test_csv_reads_back() -> None:
    """Whatever a text holds, a CSV reader gets it back; money keeps its digits; unset columns are not there."""
    written = csv_of(Lines([Line(text, Decimal("1.50")) for text in TEXTS]))
    head, *rows = csv.reader(io.StringIO(written, newline=""))
    assert head == ["someText", "money"]
    assert rows == [[text, "1.50"] for text in TEXTS]


def test_csv_tells_null_from_empty_text() -> None:
    """null is nothing between the commas, empty text is two quotes."""
    written = csv_of(Lines([Line(None, Decimal(1)), Line("", Decimal(1))]))
    assert written == 'someText,money\r\n,1\r\n"",1\r\n'


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (BadQuery("source", "'x' is not allowed", ("facebook", "tiktok")), 400, False),
        (answer.NotAcceptable("neither"), 406, False),
        (asyncpg.QueryCanceledError("statement timeout"), 504, False),
        (ConnectionRefusedError(), 503, True),
        (TimeoutError(), 503, True),
        (asyncpg.TooManyConnectionsError(), 503, True),
        (asyncpg.CannotConnectNowError(), 503, True),
        (asyncpg.ConnectionDoesNotExistError(), 503, True),
        (asyncpg.SerializationError("conflict with recovery"), 503, True),
        (asyncpg.DeadlockDetectedError(), 503, True),
        (asyncpg.LockNotAvailableError(), 503, True),
        (asyncpg.DiskFullError(), 503, True),
        (asyncpg.CrashShutdownError(), 503, True),
        (asyncpg.IdleInTransactionSessionTimeoutError(), 503, True),
        (asyncpg.InvalidCachedStatementError(), 503, True),
        (asyncpg.InterfaceError("connection is closed"), 503, True),
        (asyncpg.UndefinedTableError("a secret detail"), 500, False),
        (KeyError("a secret detail"), 500, False),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int, retry: bool) -> None:
    """The client's doing is 4xx, an absent database 503 with Retry-After, and our own faults tell nothing inside."""
    problem, headers = answer.problem(error)
    assert problem.status == status
    assert ("Retry-After" in headers) == retry
    assert "secret" not in answer.encode(problem).decode()


def test_a_bad_parameter_is_named() -> None:
    """The problem document holds the parameter and what is allowed."""
    problem, _ = answer.problem(BadQuery("source", "'x' is not allowed", ("facebook", "tiktok")))
    assert msgspec.json.decode(answer.encode(problem)) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "source: 'x' is not allowed",
        "parameter": "source",
        "allowed": ["facebook", "tiktok"],
    }
