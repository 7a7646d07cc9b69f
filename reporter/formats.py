"""The formats of an answer: JSON as it stands; CSV and Arrow IPC of its table.

Money and other decimals are strings in JSON and CSV and decimals in Arrow; instants are ISO 8601 with an offset, and
timestamps of the report's time zone in Arrow. In CSV an empty field is null; empty text is written as "".
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any, Final

import msgspec
import nanoarrow
from msgspec import UNSET
from msgspec.inspect import BoolType, DateTimeType, DecimalType, IntType, Metadata, NoneType, Type, UnionType, type_info
from nanoarrow.ipc import StreamWriter

from reporter.reports import Answer

JSON: Final = "application/json"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
FORMATS: Final = (JSON, CSV, ARROW)

CHUNK_BYTES: Final = 64 * 1024
_DIGITS, _SCALE = 38, 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]|^\s|\s$|^$')


def body(kind: str, answer: Answer) -> bytes:
    """The answer in one of FORMATS but CSV."""
    return _arrow(*_table(answer), answer.query.time_zone) if kind == ARROW else msgspec.json.encode(answer)


def csv(answer: Answer) -> Iterator[bytes]:
    """The answer as CSV, in chunks, as it is written."""
    return _chunks(_csv(*_table(answer)))


def _table(answer: Answer) -> tuple[list[msgspec.inspect.Field], Iterator[msgspec.Struct]]:
    """The columns that the table has, by its first row, and the rows."""
    kind, rows = answer.table()
    rows = iter(rows)
    first = next(rows, None)
    columns = [
        field
        for field in type_info(kind).fields  # type: ignore[attr-defined]
        if (getattr(first, field.name) is not UNSET if first is not None else field.required)
    ]
    return columns, rows if first is None else chain((first,), rows)


def _csv(columns: Sequence[msgspec.inspect.Field], rows: Iterable[msgspec.Struct]) -> Iterator[str]:
    names = [column.encode_name for column in columns]
    yield ",".join(names) + "\r\n"
    for row in rows:
        values: dict[str, Any] = msgspec.to_builtins(row)
        yield ",".join(_field(values[name]) for name in names) + "\r\n"


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    held, size = [], 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()


def _arrow(columns: Sequence[msgspec.inspect.Field], rows: Iterable[msgspec.Struct], zone: str) -> bytes:
    """An Arrow IPC stream of one batch."""
    held = list(rows)
    types, arrays = {}, []
    for column in columns:
        kind, array = _column(_bare(column.type), [getattr(row, column.name) for row in held], zone)
        types[column.encode_name] = kind
        arrays.append(array)
    batch = nanoarrow.c_array_from_buffers(nanoarrow.struct(types), len(held), [None], children=arrays)
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_stream(batch)
    return out.getvalue()


def _column(kind: Type, values: Sequence[Any], zone: str) -> tuple[Any, Any]:
    """A column's type and its values. None is null."""
    empty = values.count(None)
    validity = nanoarrow.c_buffer([value is not None for value in values], nanoarrow.bool_()) if empty else None
    match kind:
        case BoolType():
            return nanoarrow.bool_(), nanoarrow.c_array(values, nanoarrow.bool_())
        case IntType():
            return nanoarrow.int64(), nanoarrow.c_array(values, nanoarrow.int64())
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


def _bare(kind: Type) -> Type:
    """A type without what is said about it, null and UNSET."""
    if isinstance(kind, Metadata):
        return _bare(kind.type)
    if isinstance(kind, UnionType):
        return _bare(next(part for part in kind.types if not isinstance(part, NoneType)))
    return kind
