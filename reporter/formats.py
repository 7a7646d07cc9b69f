"""Formats of an answer: the whole answer as JSON, its table as CSV or Arrow IPC.

Decimals such as money are strings in JSON and CSV, and decimals in Arrow. Instants are ISO 8601 with an offset, and
timestamps in the report's time zone in Arrow.

In CSV, `localStart` is the start of the bucket in local time, without an offset, because spreadsheets and data frames
need one column type across offset changes. An empty field is null, and empty text is "". A text column that is null in
JSON means "other" and is (other) in CSV. Files are made for spreadsheets, so no sender's text may be a formula there:

    sender's text begins with           in CsvDialect.PROGRAM    in a file
    = + - @ tab, carriage return        unchanged                prefixed by '
    is (other)                          prefixed by '            prefixed by '

A text that begins with one or more ' follows the rule for the text after them, so two texts never become equal.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import nanoarrow
from msgspec import UNSET
from msgspec.inspect import (
    BoolType,
    DateTimeType,
    DecimalType,
    FloatType,
    IntType,
    Metadata,
    NoneType,
    StrType,
    Type,
    UnionType,
    type_info,
)
from nanoarrow.ipc import StreamWriter

from reporter.buckets import day_start
from reporter.reports.report import Answer

JSON: Final = "application/json"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
FORMATS: Final = (JSON, CSV, ARROW)

CHUNK_BYTES: Final = 64 * 1024
_DIGITS, _SCALE = 38, 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]|^\s|\s$|^$')
OTHER: Final = "(other)"
LIKE_OTHER: Final = re.compile(r"'*\(other\)")
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_BOM: Final = "\ufeff"


class CsvDialect(Enum):
    """Variants of CSV."""

    PROGRAM = "sender texts unchanged, for Accept: text/csv"
    FILE = "a file for spreadsheets"
    FILE_WITH_BOM = "a file for spreadsheets that detect UTF-8 by its byte order mark, such as Excel"


def json(answer: Answer) -> bytes:
    """Return the answer as JSON."""
    return msgspec.json.encode(answer)


def arrow(answer: Answer) -> bytes:
    """Return the answer's table as an Arrow IPC stream."""
    return _arrow(*_table(answer), answer.query.time_zone)


def csv(answer: Answer, dialect: CsvDialect) -> Iterator[bytes]:
    """Yield the answer's table as CSV, in chunks of about CHUNK_BYTES."""
    return _chunks(_csv(*_table(answer), dialect))


def file_name(report: str, answer: Answer) -> str:
    """Return the file name of a report, with its first and last day, or with its bounds if they are not whole days."""
    zone = ZoneInfo(answer.query.time_zone)
    start, end = (at.astimezone(zone) for at in (answer.query.start, answer.query.end))
    if all(day_start(at.date(), zone) == at for at in (start, end)):
        days = start.date(), (end - _MICROSECOND).astimezone(zone).date()
        return f"sluice-{report}-{days[0]}-{days[1]}.csv"
    return f"sluice-{report}-{start:%Y-%m-%dT%H%M%S}-{end:%Y-%m-%dT%H%M%S}.csv"


def _table(answer: Answer) -> tuple[list[msgspec.inspect.Field], Iterator[msgspec.Struct]]:
    """Return the columns of the table and its rows. A column that is UNSET in the first row is left out."""
    row_type, rows = answer.table()
    rows = iter(rows)
    first = next(rows, None)
    columns = [
        field
        for field in type_info(row_type).fields  # type: ignore[attr-defined]
        if (getattr(first, field.name) is not UNSET if first is not None else field.required)
    ]
    return columns, rows if first is None else chain((first,), rows)


def _csv(
    columns: Sequence[msgspec.inspect.Field], rows: Iterable[msgspec.Struct], dialect: CsvDialect
) -> Iterator[str]:
    """Yield the lines. The first column of every table is the start of the bucket."""
    names = [column.encode_name for column in columns]
    texts = [column.encode_name for column in columns if isinstance(_unwrapped(column.type), StrType)]
    yield (
        (_BOM if dialect is CsvDialect.FILE_WITH_BOM else "") + ",".join([names[0], "localStart", *names[1:]]) + "\r\n"
    )
    for row in rows:
        values: dict[str, Any] = msgspec.to_builtins(row)
        for name in texts:
            values[name] = _escape_sender_text(values[name], dialect)
        first, *others = (_field(values[name]) for name in names)
        yield ",".join([first, _without_offset(first), *others]) + "\r\n"


def _escape_sender_text(text: str | None, dialect: CsvDialect) -> str:
    """Return a sender's text, escaped as the module's table says; OTHER if it is None."""
    if text is None:
        return OTHER
    escape = LIKE_OTHER.fullmatch(text) or (dialect is not CsvDialect.PROGRAM and _FORMULA.match(text))
    return f"'{text}" if escape else text


def _without_offset(instant: str) -> str:
    """Return the local time of an instant in ISO 8601, without its offset."""
    return (instant[:-1] if instant.endswith("Z") else instant[: -len("+00:00")]).replace("T", " ")


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    buffered, size = [], 0
    for line in lines:
        buffered.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield "".join(buffered).encode()
            buffered, size = [], 0
    yield "".join(buffered).encode()


def _arrow(columns: Sequence[msgspec.inspect.Field], rows: Iterable[msgspec.Struct], zone: str) -> bytes:
    """Return an Arrow IPC stream of one record batch."""
    buffered = list(rows)
    types, arrays = {}, []
    for column in columns:
        column_type, array = _column(_unwrapped(column.type), [getattr(row, column.name) for row in buffered], zone)
        types[column.encode_name] = column_type
        arrays.append(array)
    batch = nanoarrow.c_array_from_buffers(nanoarrow.struct(types), len(buffered), [None], children=arrays)
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_stream(batch)
    return out.getvalue()


def _column(column_type: Type, values: Sequence[Any], zone: str) -> tuple[Any, Any]:
    """Return the Arrow type and the array of a column. None is null."""
    empty = values.count(None)
    validity = nanoarrow.c_buffer([value is not None for value in values], nanoarrow.bool_()) if empty else None
    match column_type:
        case BoolType():
            return nanoarrow.bool_(), nanoarrow.c_array(values, nanoarrow.bool_())
        case IntType():
            return nanoarrow.int64(), nanoarrow.c_array(values, nanoarrow.int64())
        case FloatType():
            return nanoarrow.float64(), nanoarrow.c_array(values, nanoarrow.float64())
        case DecimalType():
            cents = (0 if value is None else int(Decimal(value).scaleb(_SCALE)) for value in values)
            data: Any = b"".join(cent.to_bytes(16, "little", signed=True) for cent in cents)
            arrow: Any = nanoarrow.decimal128(_DIGITS, _SCALE)
        case DateTimeType():
            data = nanoarrow.c_buffer([(value - _EPOCH) // _MICROSECOND for value in values], nanoarrow.int64())
            arrow = nanoarrow.timestamp("us", zone)
        case _:
            return nanoarrow.string(), nanoarrow.c_array(values, nanoarrow.string())
    return arrow, nanoarrow.c_array_from_buffers(arrow, len(values), [validity, data], null_count=empty)


def _unwrapped(column_type: Type) -> Type:
    """Return a type without its metadata, null and UNSET."""
    if isinstance(column_type, Metadata):
        return _unwrapped(column_type.type)
    if isinstance(column_type, UnionType):
        return _unwrapped(next(part for part in column_type.types if not isinstance(part, NoneType)))
    return column_type
