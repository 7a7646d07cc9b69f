"""Read PostgreSQL's binary COPY rows back into fields: the other direction of `collector.parse.pg_copy`, for tests."""

import struct
from collections.abc import Sequence


def read_rows(rows: bytes) -> list[list[bytes | None]]:
    """The fields of each row; None is NULL. Fails where the bytes are not whole rows."""
    found, at = [], 0
    while at < len(rows):
        (count,) = struct.unpack_from(">h", rows, at)
        at += 2
        fields: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", rows, at)
            at += 4
            fields.append(None if length == -1 else rows[at : at + length])
            at += max(0, length)
        found.append(fields)
    assert at == len(rows), "the last row is cut off"
    return found


def named_rows(rows: bytes, columns: Sequence[str]) -> list[dict[str, bytes | None]]:
    """The rows by the names of their columns."""
    return [dict(zip(columns, fields, strict=True)) for fields in read_rows(rows)]
