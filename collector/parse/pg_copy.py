"""PostgreSQL's binary COPY format: how each kind of value is written.

A row is its count of fields (16 bits), then for each field its length (32 bits) and its bytes; NULL has the
length -1. All numbers are big-endian. Source: PostgreSQL's manual, "COPY", binary format, and the types' `recv`
functions. An encoder takes a decoded value and gives the whole field. `core/native/src/pg_copy.rs` writes the
same bytes.
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

# Nearly all texts are short: their length's four bytes are looked up.
_LENGTHS: Final = [_length(size) for size in range(256)]


def fields_in_row(count: int) -> bytes:
    """What opens each row."""
    return struct.pack(">h", count)


def text(value: str | None) -> bytes:
    if value is None:
        return NULL
    written = value.encode()
    try:  # not raw(), whose call would cost: a row has many texts
        return _LENGTHS[len(written)] + written
    except IndexError:
        return _length(len(written)) + written


def raw(value: bytes) -> bytes:
    size = len(value)
    return (_LENGTHS[size] if size < 256 else _length(size)) + value


smallint: Final[Callable[[int], bytes]] = partial(struct.Struct(">ih").pack, 2)
integer: Final[Callable[[int], bytes]] = partial(struct.Struct(">ii").pack, 4)
bigint: Final[Callable[[int], bytes]] = partial(struct.Struct(">iq").pack, 8)


class _Timestamps(dict[str, bytes]):
    """Instants that were written before: as in `core.sources.fields`, events of one batch share few of them."""

    _MOST: Final = 65_536

    def __missing__(self, text: str) -> bytes:
        written = bigint(instant(text))
        if len(self) >= self._MOST:
            self.clear()
        self[text] = written
        return written


timestamp: Final[Callable[[str], bytes]] = _Timestamps().__getitem__
"""An RFC 3339 instant."""


def amount(value: str | None) -> bytes:
    """A decimal with at most ten digits before the point and two after it, as numeric with two decimals.

    numeric's digits are of base 10,000: those of the whole part, the last of them first in weight, then the cents.
    """
    if value is None:
        return NULL
    whole, _, fraction = value.partition(".")
    cents = int(fraction.ljust(2, "0")) if fraction else 0
    rest = int(whole)
    if 0 < rest < 10_000 and cents:  # nearly all of them
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


def one_of(labels: Iterable[str], behind: bytes = b"") -> Encoder:
    """An enum's labels, or NULL, behind the same bytes. The contract has checked the value, so a look-up is enough."""
    written: dict[str | None, bytes] = {None: behind + NULL}
    written.update((label, behind + text(label)) for label in labels)
    return written.__getitem__


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
    """Return what writes values of this type, which is not LABEL."""
    return _ENCODERS[column_type]
