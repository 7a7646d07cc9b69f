"""Describe the structs of an event, key by key, for the contract, both parsers and the native reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from msgspec import inspect

from core.sources.fields import MAX_ID_BYTES, MAX_INTEGER, MAX_SMALLINT, MAX_TEXT_BYTES


class ColumnType(StrEnum):
    """The type of a column, derived from the struct. The native module has the same names, except BYTES."""

    TEXT = "text"
    LABEL = "label"
    SMALLINT = "smallint"
    INTEGER = "integer"
    BIGINT = "bigint"
    TIMESTAMP = "timestamp"
    AMOUNT = "amount"
    BYTES = "bytes"


class Field(NamedTuple):
    """A key and the rule for its value. The native module reads these attributes (`FieldInput` of `binding.rs`).

    minimum and maximum are a number's limits, or a text's limits in bytes of UTF-8; labels are those of a closed list.
    """

    path: str
    type: ColumnType
    nullable: bool
    minimum: int = 0
    maximum: int = 0
    labels: tuple[str, ...] = ()


class EventShape(NamedTuple):
    """The events of one stage: the label of their tag, and their fields."""

    label: str
    fields: Sequence[Field]


class EventSource(NamedTuple):
    """The events of one source: its name, the key that selects the shape of an event, and the shapes."""

    name: str
    tag: str
    shapes: Sequence[EventShape]


class Key(NamedTuple):
    """A key whose value is not an object.

    attribute is dotted, from the event; type is the type of the value apart from null; value is the name that a field
    type of `core.sources.fields` gives it: `id`, `instant`, `amount`, or empty.
    """

    attribute: str
    type: inspect.Type
    nullable: bool
    value: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed list of allowed texts; empty if there is none."""
        values = self.type.values if isinstance(self.type, inspect.LiteralType) else ()
        return tuple(value for value in values if isinstance(value, str))


def describe(shape: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a struct, in its own order and without its tag.

    Raises TypeError as `keys` does, and for a type that no column can store.
    """
    return tuple(_field(path, key) for path, key in keys(shape).items())


_VALUES: Final = {
    "id": (ColumnType.TEXT, 1, MAX_ID_BYTES),
    "instant": (ColumnType.TIMESTAMP, 0, 0),
    "amount": (ColumnType.AMOUNT, 0, 0),
}


def _field(path: str, key: Key) -> Field:
    if key.value:
        column_type, minimum, maximum = _VALUES[key.value]
        return Field(path, column_type, key.nullable, minimum, maximum)
    match key.type:
        case inspect.StrType(None, None, None):
            return Field(path, ColumnType.TEXT, key.nullable, 0, MAX_TEXT_BYTES)
        case inspect.IntType(None, int(minimum), None, int(maximum), None):
            return Field(path, _integer(minimum, maximum), key.nullable, minimum, maximum)
        case inspect.LiteralType() if key.labels:
            return Field(path, ColumnType.LABEL, key.nullable, labels=key.labels)
        case inspect.BytesType():
            return Field(path, ColumnType.BYTES, key.nullable)
    raise TypeError(f"{path}: no column can store {key.type}")


def _integer(minimum: int, maximum: int) -> ColumnType:
    if minimum >= -MAX_SMALLINT - 1 and maximum <= MAX_SMALLINT:
        return ColumnType.SMALLINT
    if minimum >= -MAX_INTEGER - 1 and maximum <= MAX_INTEGER:
        return ColumnType.INTEGER
    return ColumnType.BIGINT


_KEYS: Final[dict[type[Any], Mapping[str, Key]]] = {}


def keys(shape: type[Any]) -> Mapping[str, Key]:
    """Return the keys of a struct by JSON path without `$.`, in its own order and without its tag.

    Raises TypeError for what no event has: an optional key, a struct that forbids unknown keys, an array, or an inner
    object with a tag.
    """
    if (keys_of_shape := _KEYS.get(shape)) is None:  # inspecting a struct takes about 1 ms
        keys_of_shape = _KEYS[shape] = dict(_keys(inspect.type_info(shape), "", ""))
    return keys_of_shape


def _keys(of: inspect.Type, path: str, attribute: str) -> Iterator[tuple[str, Key]]:
    if not isinstance(of, inspect.StructType) or of.array_like or of.forbid_unknown_fields:
        raise TypeError(f"{path or 'the event'}: not a struct that ignores unknown keys, but {of}")
    for field in of.fields:
        where, attributes = path + field.encode_name, attribute + field.name
        if not field.required:
            raise TypeError(f"{where} is optional")
        if isinstance(field.type, inspect.StructType):
            if field.type.tag_field is not None:
                raise TypeError(f"{where} has a tag of its own")
            yield from _keys(field.type, f"{where}.", f"{attributes}.")
        else:
            yield where, _key(field.type, attributes)


def _key(of: inspect.Type, attribute: str) -> Key:
    nullable = isinstance(of, inspect.UnionType) and of.includes_none
    if isinstance(of, inspect.UnionType):
        choices = [choice for choice in of.types if not isinstance(choice, inspect.NoneType)]
        of = choices[0] if len(choices) == 1 else of
    value = ""
    if isinstance(of, inspect.Metadata):
        value, of = (of.extra or {}).get("value", ""), of.type
    return Key(attribute, of, nullable, value)
