"""Tell the native parser of a source: its keys with what they may be, and the layout of its rows.

Everything is derived from what is declared once: the structs in `core/events` and the columns in
`collector/sources`. What the native parser could not hold to the contract is refused here, so that it is never guessed.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, get_args

from msgspec.inspect import IntType, LiteralType, StrType

from collector.copying import Kind
from collector.parse import constant_of, opening
from collector.source import Source
from core.events import subjects
from core.events.fields import MAX_ID_BYTES, MAX_TEXT_BYTES, Amount
from core.events.shape import Field, Key, keys

_AMOUNT: Final = get_args(Amount)[1].pattern


class LeftToPython(Exception):
    """The native parser cannot read this source. The message says why."""


class Counted(NamedTuple):
    """How events of a shape are counted, by the numbers of their fields.

    type        whose labels have a count each, and the label that is a purchase
    amount      is its revenue
    dimensions  of the audience: their names, fields and bands
    """

    type: int
    purchase: str
    amount: int | None
    dimensions: list[tuple[str, int, list[tuple[int, str]]]]


class Shape(NamedTuple):
    """Events whose tag has this label. The row is made of bytes that never change, and of fields by their number."""

    label: str
    fields: list[Field]
    row: list[bytes | int]
    counted: Counted


def describe(source: Source) -> tuple[str, list[Shape]]:
    """The key that chooses the shape of a source's events, and the shapes. Raises LeftToPython."""
    if source.name not in subjects.SOURCES:
        raise LeftToPython(f"the events of {source.name} are not those of the contract")
    tags = {shape.__struct_config__.tag_field for shape in source.shapes}
    tag = tags.pop()
    if tags or tag is None:
        raise LeftToPython(f"{source.name} has no one key that chooses the shape")
    return tag, [_shape(source, shape) for shape in source.shapes]


def _shape(source: Source, shape: type[Any]) -> Shape:
    kinds = {column.path: column.kind for column in source.columns}
    has = keys(shape)
    fields = [_field(path, key, kinds.get(path)) for path, key in has.items()]
    numbers = {field.path: number for number, field in enumerate(fields)}
    row: list[bytes | int] = [opening(source)]
    for column in source.columns:
        constant = constant_of(column, shape, has)
        row.append(numbers[column.path] if constant is None else constant)
    return Shape(str(shape.__struct_config__.tag), fields, row, _counted(source, numbers))


def _counted(source: Source, numbers: dict[str, int]) -> Counted:
    if source.audience is None or "eventType" not in numbers:
        raise LeftToPython(f"{source.name} has no types to count")
    purchase, amount, dimensions = source.audience
    return Counted(
        type=numbers["eventType"],
        purchase=purchase,
        amount=numbers.get(amount),
        dimensions=[(one.name, numbers[one.path], list(one.bands)) for one in dimensions if one.path in numbers],
    )


def _field(path: str, key: Key, kind: Kind | None) -> Field:
    match kind, key.type:
        case Kind.TEXT, StrType(None, None, None):
            least, most = (1, MAX_ID_BYTES) if path == "eventId" else (0, MAX_TEXT_BYTES)
            return Field(path, kind, key.nullable, least, most)
        case Kind.TIMESTAMP, StrType(None, None, None):
            return Field(path, kind, key.nullable)
        case Kind.AMOUNT, StrType(None, None, pattern) if pattern == _AMOUNT:
            return Field(path, kind, key.nullable)
        case Kind.SMALLINT | Kind.INTEGER | Kind.BIGINT, IntType(None, int(least), None, int(most), None):
            return Field(path, kind, key.nullable, least, most)
        case Kind.LABEL | None, LiteralType() if key.labels:
            return Field(path, Kind.LABEL, key.nullable, labels=key.labels)
    raise LeftToPython(f"{path}: nothing writes {key.type} as {kind}")
