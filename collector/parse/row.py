"""The layout of a row in PostgreSQL's binary COPY format: the columns of a source, then MESSAGE_COLUMNS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import call
from typing import Any, Final

from collector.parse import pg_copy
from collector.sources.source import Source
from core.events import wire
from core.sources.shape import ColumnType, describe, keys

# What each row holds beside its event: of the part (one request) and of the message.
MESSAGE_COLUMNS: Final = ("received_at", "stream_sequence", "correlation_id")


def copied_columns(source: Source) -> tuple[str, ...]:
    """The columns of a row, in the order in which they are written."""
    return (*source.columns, *MESSAGE_COLUMNS)


def opening(source: Source) -> bytes:
    """What begins each row."""
    return pg_copy.fields_in_row(len(copied_columns(source)))


def closing(part: wire.Part, sequence: int) -> bytes:
    """What ends each row of a part: the values of MESSAGE_COLUMNS."""
    return pg_copy.timestamp(part.received_at) + pg_copy.bigint(sequence) + pg_copy.text(part.correlation_id)


def attributes_of(shape: type[Any], paths: Iterable[str]) -> list[str]:
    """The attributes of the values that differ from event to event, in the order of their columns."""
    has = keys(shape)
    return [has[path].attribute for path in paths if path in has]


def row_encoder(shape: type[Any], source: Source) -> Callable[[tuple[Any, ...], bytes], bytes]:
    """What writes a row of one shape, given the values of its `attributes_of` and the row's end. A column that the
    shape does not have is NULL. All calls in it are C's: each encoder is applied to its value.
    """
    begin, between = opening(source), b""
    encoders: list[pg_copy.Encoder] = []
    constants: list[tuple[int, bytes]] = []  # where in the row, and what
    fields = {field.path: field for field in describe(shape)}
    for path in source.columns.values():
        if (field := fields.get(path)) is None:
            between += constant_of(path, shape)
        elif field.type is ColumnType.LABEL:  # looked up together with what is before it
            encoders.append(pg_copy.one_of(field.labels, between))
            between = b""
        else:
            if between:
                constants.append((1 + len(encoders) + len(constants), between))
            encoders.append(pg_copy.encoder(field.type))
            between = b""
    if not constants:
        return lambda values, end: b"".join((begin, *map(call, encoders, values), between, end))

    def encode(values: tuple[Any, ...], end: bytes) -> bytes:
        row = [begin, *map(call, encoders, values), between, end]
        for place, constant in constants:
            row.insert(place, constant)
        return b"".join(row)

    return encode


def constant_of(path: str, shape: type[Any]) -> bytes:
    """The bytes of a column whose path is no field of the shape: its tag, or NULL."""
    config = shape.__struct_config__
    return pg_copy.text(config.tag) if path == config.tag_field else pg_copy.NULL
