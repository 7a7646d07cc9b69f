"""Answers: the format that the client prefers, CSV that reads back, problems with the right status."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import pytest

from reporter import answer, formats
from reporter.formats import CsvDialect
from reporter.query_params import BadQuery


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
    assert answer.preferred_media_type(accept) == expected


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "text/csv;q=0, application/json;q=0"])
def test_no_acceptable_format(accept: str) -> None:
    """A client that takes neither is reported so."""
    with pytest.raises(answer.NotAcceptable):
        answer.preferred_media_type(accept)


def test_the_entity_tag_leaves_freshness_alone_out() -> None:
    """Answers that differ in their freshness have one tag; a text that looks like freshness is a part of the answer."""

    class Answer(msgspec.Struct):
        text: str
        freshness: dict[str, int]
        rows: list[int]

    def tag(*values: Any) -> str:
        said: Any = Answer(*values)
        return answer.entity_tag(formats.JSON, said, formats.json(said))

    like = '"freshness":{"facebook":1}'
    assert tag("", {"facebook": 1}, [1]) == tag("", {"facebook": 2, "tiktok": 3}, [1]) == tag("", {}, [1])
    assert tag(like, {"facebook": 1}, [1]) == tag(like, {"facebook": 2}, [1])
    assert len({tag("", {}, [1]), tag("", {}, [2]), tag("x", {}, [1]), tag(like, {}, [1])}) == 4


class Line(msgspec.Struct, rename="camel"):
    start: datetime
    some_text: str | None
    money: Decimal
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class Lines(msgspec.Struct):
    rows: list[Line]
    freshness: ClassVar[dict[str, str]] = {}
    notes = ()

    def table(self) -> tuple[type[msgspec.Struct], list[Line]]:
        return Line, self.rows


def csv_of(lines: Any, dialect: CsvDialect = CsvDialect.PROGRAM) -> str:
    return b"".join(formats.csv(lines, dialect)).decode()


TEXTS = [
    "plain",
    'say "hi"',
    "a,b",
    "two\nlines",
    "cr\rlf\r\n",
    " around ",
    "",
    "ünï\U0001f600",
    "=1+1",
    "(other) ones",
]
FORMULAS = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]
AT = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))


def read_back(written: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written, newline="")))


def test_csv_reads_back() -> None:
    """Whatever a text holds, a CSV reader gets it back; money keeps its digits; unset columns are not there."""
    head, *rows = read_back(csv_of(Lines([Line(AT, text, Decimal("1.50")) for text in TEXTS])))
    assert head == ["start", "localStart", "someText", "money"]
    assert rows == [["2026-10-25T02:30:00+02:00", "2026-10-25 02:30:00", text, "1.50"] for text in TEXTS]


@pytest.mark.parametrize("dialect", CsvDialect)
def test_csv_reports_other_from_every_text(dialect: CsvDialect) -> None:
    """Other is a text that no sender's text is written as: neither an empty one, nor the same words."""
    texts = [None, "", "other", "(other)", "'(other)", "'"]
    written = csv_of(Lines([Line(AT, text, Decimal(1)) for text in texts]), dialect)
    found = [row[2] for row in read_back(written)[1:]]
    assert found == ["(other)", "", "other", "'(other)", "''(other)", "'"]
    assert written.splitlines()[2].split(",")[2] == '""'


def test_files_hold_no_formulas() -> None:
    """What a spreadsheet would take for a formula begins with a ' in a file, and is as it is for a program; with one '
    less every text is the sender's again."""
    texts = [*FORMULAS, *(f"'{text}" for text in FORMULAS), *TEXTS]
    lines = Lines([Line(AT, text, Decimal(1)) for text in texts])
    assert [row[2] for row in read_back(csv_of(lines))[1:]] == texts
    for dialect, mark in ((CsvDialect.FILE, ""), (CsvDialect.FILE_WITH_BOM, "\ufeff")):
        written = csv_of(lines, dialect)
        assert written.startswith(f"{mark}start,localStart,")
        found = [row[2] for row in read_back(written)[1:]]
        assert not any(text[:1] in ("=", "+", "-", "@", "\t", "\r") for text in found)
        assert found == [f"'{text}" if text.lstrip("'")[:1] in [*"=+-@\t\r"] and text else text for text in texts]


def test_local_times_have_one_form_across_a_change_of_clocks() -> None:
    """An hour that the clock shows twice has two instants and one local time; no local time has an offset."""
    hours = [AT, AT.replace(fold=1), datetime(2026, 10, 25, 2, 30, 0, 5, UTC)]
    rows = read_back(csv_of(Lines([Line(at, "", Decimal(1)) for at in hours])))[1:]
    assert [row[0] for row in rows] == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00.000005Z",
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["2026-10-25 02:30:00"] * 2 + ["2026-10-25 02:30:00.000005"]


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
    """The client's doing is 4xx, an absent database 503 with Retry-After, and our own faults report nothing inside."""
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
