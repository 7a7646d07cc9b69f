"""Layout of a row in PostgreSQL's binary COPY format: the columns of a source, then MESSAGE_COLUMNS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import call
from typing import Any, Final

from collector.parse import pg_copy
from collector.sources.source import Source
from core.events import wire
from core.sources.shape import ColumnType, describe, keys

# Columns that hold values of the part (one request) and of the message, not of the event.
MESSAGE_COLUMNS: Final = ("received_at", "stream_sequence", "correlation_id")


def copied_columns(source: Source) -> tuple[str, ...]:
    """Return the columns of a row, in the order of the COPY."""
    return (*source.columns, *MESSAGE_COLUMNS)


def row_prefix(source: Source) -> bytes:
    """Return the bytes that begin each row."""
    return pg_copy.fields_in_row(len(copied_columns(source)))


def row_suffix(part: wire.Part, sequence: int) -> bytes:
    """Return the bytes that end each row of a part: the values of MESSAGE_COLUMNS."""
    return pg_copy.timestamp(part.received_at) + pg_copy.bigint(sequence) + pg_copy.text(part.correlation_id)


def attributes_of(shape: type[Any], paths: Iterable[str]) -> list[str]:
    """Return the attributes that hold a shape's column values, in the order of the columns. Constants are omitted."""
    fields = keys(shape)
    return [fields[path].attribute for path in paths if path in fields]


def row_encoder(shape: type[Any], source: Source) -> Callable[[tuple[Any, ...], bytes], bytes]:
    """Return a function that encodes a row of one shape, from the values of its `attributes_of` and the row's end.

    A column that the shape does not have is NULL. The function applies the encoders without a Python loop, for speed.
    """
    prefix, pending = row_prefix(source), b""
    encoders: list[pg_copy.Encoder] = []
    constants: list[tuple[int, bytes]] = []  # (index in the row, bytes)
    fields = {field.path: field for field in describe(shape)}
    for path in source.columns.values():
        if (field := fields.get(path)) is None:
            pending += constant_of(path, shape)
        elif field.type is ColumnType.LABEL:  # one look-up encodes the label and the constants before it
            encoders.append(pg_copy.one_of(field.labels, pending))
            pending = b""
        else:
            if pending:
                constants.append((1 + len(encoders) + len(constants), pending))
            encoders.append(pg_copy.encoder(field.type))
            pending = b""
    if not constants:
        return lambda values, end: b"".join((prefix, *map(call, encoders, values), pending, end))

    def encode(values: tuple[Any, ...], end: bytes) -> bytes:
        row = [prefix, *map(call, encoders, values), pending, end]
        for index, constant in constants:
            row.insert(index, constant)
        return b"".join(row)

    return encode


def constant_of(path: str, shape: type[Any]) -> bytes:
    """Return the bytes of a column whose path is not a field of the shape: its tag, or NULL."""
    config = shape.__struct_config__
    return pg_copy.text(config.tag) if path == config.tag_field else pg_copy.NULL
