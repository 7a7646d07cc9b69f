"""Tell the native parser of a source: its keys with what they may be, and the layout of its rows.

Everything is derived from the source's declaration in `core/sources`. What the native parser could not hold to the
contract is rejected here, so that it is never guessed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from collector.parse.row import constant_of, opening
from collector.sources.source import Source
from core.sources import SOURCES
from core.sources import shape as shapes_of
from core.sources.shape import ColumnType, Field


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
    if source.name not in SOURCES:
        raise LeftToPython(f"the events of {source.name} are not those of the contract")
    tags = {shape.__struct_config__.tag_field for shape in source.shapes}
    tag = tags.pop()
    if tags or tag is None:
        raise LeftToPython(f"{source.name} has no one key that chooses the shape")
    return tag, [_shape(source, shape) for shape in source.shapes]


def _shape(source: Source, shape: type[Any]) -> Shape:
    try:
        fields = list(shapes_of.describe(shape))
    except TypeError as error:
        raise LeftToPython(str(error)) from error
    if unknown := [field.path for field in fields if field.type is ColumnType.BYTES]:
        raise LeftToPython(f"{unknown[0]}: the native parser writes no bytes")
    numbers = {field.path: number for number, field in enumerate(fields)}
    row: list[bytes | int] = [opening(source)]
    row += [numbers[path] if path in numbers else constant_of(path, shape) for path in source.columns.values()]
    return Shape(str(shape.__struct_config__.tag), fields, row, _counted(source, numbers))


def _counted(source: Source, numbers: dict[str, int]) -> Counted:
    if source.audience is None or "eventType" not in numbers:
        raise LeftToPython(f"{source.name} has no types to count")
    purchase, dimensions = source.audience.purchase, source.audience.dimensions
    return Counted(
        type=numbers["eventType"],
        purchase=purchase.event_type,
        amount=numbers.get(purchase.amount),
        dimensions=[(one.name, numbers[one.path], list(one.bands)) for one in dimensions if one.path in numbers],
    )
