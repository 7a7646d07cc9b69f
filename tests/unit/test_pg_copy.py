"""Fields of a binary COPY, byte by byte; the integration tests hold them to PostgreSQL's own."""

import struct

import pytest

from collector.parse import pg_copy

COLUMN_TYPES = (pg_copy.text, pg_copy.amount)


@pytest.mark.parametrize("encode", COLUMN_TYPES)
def test_null_has_the_length_minus_one(encode: pg_copy.Encoder) -> None:
    """An absent value is NULL and not an empty one."""
    assert encode(None) == b"\xff\xff\xff\xff"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 8192])
def test_a_text_has_its_length_in_bytes(size: int) -> None:
    """The length counts UTF-8 bytes, on both sides of the looked up ones."""
    assert pg_copy.text("x" * size) == struct.pack(">i", size) + b"x" * size
    assert pg_copy.text("é" * size) == struct.pack(">i", 2 * size) + "é".encode() * size


@pytest.mark.parametrize(
    ("value", "digits", "weight"),
    [
        ("0", [], 0),
        ("0.00", [], 0),
        ("0.01", [100], -1),
        ("0.5", [5000], -1),
        ("1", [1], 0),
        ("9999", [9999], 0),
        ("10000", [1], 1),
        ("10000.05", [1, 0, 500], 1),
        ("203.95", [203, 9500], 0),
        ("9999999999.99", [99, 9999, 9999, 9900], 2),
        ("0000000001.10", [1, 1000], 0),
        ("100000000", [1], 2),
    ],
)
def test_an_amount_is_numeric_in_base_ten_thousand(value: str, digits: list[int], weight: int) -> None:
    """Digits without zeros at the end, the weight of the first, plus, and always two decimals shown."""
    field = pg_copy.amount(value)
    length, count, *rest = struct.unpack_from(">ihhHh", field)
    assert (length, count, rest) == (len(field) - 4, len(digits), [weight, 0, 2])
    assert list(struct.unpack_from(f">{count}H", field, 12)) == digits


def test_a_label_that_the_enum_does_not_have_is_an_error() -> None:
    """Only the declared labels can be written, and NULL."""
    encode = pg_copy.one_of(("top", "bottom"))
    assert encode("top") == b"\0\0\0\3top"
    assert encode(None) == pg_copy.NULL
    with pytest.raises(KeyError):
        encode("middle")
