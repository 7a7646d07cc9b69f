"""Encode values in PostgreSQL's binary COPY format.

A row is its count of fields (16 bits), then for each field its length (32 bits) and its bytes; NULL has the
length -1. All numbers are big-endian. Source: PostgreSQL's manual, "COPY", binary format, and the types' `recv`
functions. An encoder returns the whole field of a decoded value. `core/native/src/pg_copy.rs` writes the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from core.sources.fields import instant
from core.sources.shape import ColumnType

Encoder = Callable[[Any], bytes]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER: Final = struct.pack(">h", -1)
NULL: Final = struct.pack(">i", -1)

_length: Final = struct.Struct(">i").pack
_digits: Final = struct.Struct(">ihhhh").pack  # length, count of digits, weight, sign, display scale
_two_digits: Final = struct.Struct(">ihhhhHH").pack  # the same, and two digits

# Encoded lengths 0 to 255: nearly all texts are short.
_LENGTHS: Final = [_length(size) for size in range(256)]


def fields_in_row(count: int) -> bytes:
    """Return the encoded count of fields, which begins each row."""
    return struct.pack(">h", count)


def text(value: str | None) -> bytes:
    """Return a text field."""
    if value is None:
        return NULL
    encoded = value.encode()
    try:  # inlined raw(): a row has many texts, and the call costs time
        return _LENGTHS[len(encoded)] + encoded
    except IndexError:
        return _length(len(encoded)) + encoded


def raw(value: bytes) -> bytes:
    """Return a bytea field."""
    size = len(value)
    return (_LENGTHS[size] if size < 256 else _length(size)) + value


smallint: Final[Callable[[int], bytes]] = partial(struct.Struct(">ih").pack, 2)
integer: Final[Callable[[int], bytes]] = partial(struct.Struct(">ii").pack, 4)
bigint: Final[Callable[[int], bytes]] = partial(struct.Struct(">iq").pack, 8)


class _Timestamps(dict[str, bytes]):
    """Cache of encoded instants: the events of a batch share few of them, as in `core.sources.fields`."""

    MAX_ENTRIES: Final = 65_536

    def __missing__(self, text: str) -> bytes:
        encoded = bigint(instant(text))
        if len(self) >= self.MAX_ENTRIES:
            self.clear()
        self[text] = encoded
        return encoded


timestamp: Final[Callable[[str], bytes]] = _Timestamps().__getitem__
"""Return a timestamptz field of an RFC 3339 instant."""


def amount(value: str | None) -> bytes:
    """Return a numeric field with two decimals, of a decimal with at most ten digits before the point and two after it.

    numeric has digits of base 10,000: first those of the whole part, the most significant one first, then the cents.
    """
    if value is None:
        return NULL
    whole, _, fraction = value.partition(".")
    cents = int(fraction.ljust(2, "0")) if fraction else 0
    rest = int(whole)
    if 0 < rest < 10_000 and cents:  # fast path for nearly all amounts
        return _two_digits(12, 2, 0, 0, 2, rest, cents * 100)
    digits: list[int] = []
    while rest:
        rest, digit = divmod(rest, 10_000)
        digits.insert(0, digit)
    weight = len(digits) - 1
    if cents:
        digits.append(cents * 100)
    while digits and digits[-1] == 0:
        digits.pop()
    count = len(digits)
    return _digits(8 + 2 * count, count, weight if count else 0, 0, 2) + struct.pack(f">{count}H", *digits)


def one_of(labels: Iterable[str], prefix: bytes = b"") -> Encoder:
    """Return an encoder of an enum's labels and NULL, each after `prefix`. The contract has validated the label."""
    encoded: dict[str | None, bytes] = {None: prefix + NULL}
    encoded.update((label, prefix + text(label)) for label in labels)
    return encoded.__getitem__


_ENCODERS: Final[dict[ColumnType, Encoder]] = {
    ColumnType.TEXT: text,
    ColumnType.SMALLINT: smallint,
    ColumnType.INTEGER: integer,
    ColumnType.BIGINT: bigint,
    ColumnType.TIMESTAMP: timestamp,
    ColumnType.AMOUNT: amount,
    ColumnType.BYTES: raw,
}


def encoder(column_type: ColumnType) -> Encoder:
    """Return the encoder of a column type. LABEL has none here: see `one_of`."""
    return _ENCODERS[column_type]
