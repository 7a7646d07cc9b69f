"""Describe a source for the native parser: its keys and their types, and the layout of its rows.

Everything is derived from the source's declaration in `core/sources`. A declaration that the native parser cannot
validate exactly is rejected here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from collector.parse.row import constant_of, row_prefix
from collector.sources.source import Source
from core.sources import SOURCES
from core.sources import shape as shapes_of
from core.sources.shape import ColumnType, Field


class NativeParserUnsupported(Exception):
    """The native parser does not support this source. The message is the reason."""


class CountedFields(NamedTuple):
    """The fields of a shape that the rollups count. Each is the number of a field.

    type        event type
    purchase    label of `type` that is a purchase
    amount      revenue of a purchase; None if the shape has none
    dimensions  (name, field, bands) of each dimension of the audience
    """

    type: int
    purchase: str
    amount: int | None
    dimensions: list[tuple[str, int, list[tuple[int, str]]]]


class Shape(NamedTuple):
    """Events whose tag has this label. row is a sequence of constant bytes and numbers of fields."""

    label: str
    fields: list[Field]
    row: list[bytes | int]
    counted: CountedFields


def describe(source: Source) -> tuple[str, list[Shape]]:
    """Return the tag key of a source's events, and its shapes. Raises NativeParserUnsupported."""
    if source.name not in SOURCES:
        raise NativeParserUnsupported(f"{source.name} is not a declared source of events")
    tags = {shape.__struct_config__.tag_field for shape in source.shapes}
    tag = tags.pop()
    if tags or tag is None:
        raise NativeParserUnsupported(f"{source.name} has no single tag key for all shapes")
    return tag, [_shape(source, shape) for shape in source.shapes]


def _shape(source: Source, shape: type[Any]) -> Shape:
    try:
        fields = list(shapes_of.describe(shape))
    except TypeError as error:
        raise NativeParserUnsupported(str(error)) from error
    if unknown := [field.path for field in fields if field.type is ColumnType.BYTES]:
        raise NativeParserUnsupported(f"{unknown[0]}: the native parser does not support bytes")
    numbers = {field.path: number for number, field in enumerate(fields)}
    row: list[bytes | int] = [row_prefix(source)]
    row += [numbers[path] if path in numbers else constant_of(path, shape) for path in source.columns.values()]
    return Shape(str(shape.__struct_config__.tag), fields, row, _counted_fields(source, numbers))


def _counted_fields(source: Source, numbers: dict[str, int]) -> CountedFields:
    if source.audience is None or "eventType" not in numbers:
        raise NativeParserUnsupported(f"{source.name} has no event types to count")
    purchase, dimensions = source.audience.purchase, source.audience.dimensions
    return CountedFields(
        type=numbers["eventType"],
        purchase=purchase.event_type,
        amount=numbers.get(purchase.amount),
        dimensions=[
            (dimension.name, numbers[dimension.path], list(dimension.bands))
            for dimension in dimensions
            if dimension.path in numbers
        ],
    )
