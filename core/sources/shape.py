"""Describe the structs of an event, key by key, for the contract, both parsers and the native reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from msgspec import inspect

from core.sources.fields import MAX_ID_BYTES, MAX_INTEGER, MAX_SMALLINT, MAX_TEXT_BYTES


class ColumnType(StrEnum):
    """The type of a column, which follows from the struct. The native module knows the same names, except BYTES."""

    TEXT = "text"
    LABEL = "label"
    SMALLINT = "smallint"
    INTEGER = "integer"
    BIGINT = "bigint"
    TIMESTAMP = "timestamp"
    AMOUNT = "amount"
    BYTES = "bytes"


class Field(NamedTuple):
    """A key and what its value has to be, in the order in which the native module takes it (`Kind` of `pg_copy.rs`).

    least and most are a number's limits, or a text's in bytes of UTF-8; labels are those of a closed list.
    """

    path: str
    type: ColumnType
    nullable: bool
    least: int = 0
    most: int = 0
    labels: tuple[str, ...] = ()


class EventShape(NamedTuple):
    """The events of one stage: the label that their tag has, and their fields."""

    label: str
    fields: Sequence[Field]


class EventSource(NamedTuple):
    """The events of one source: its name, the key that chooses the shape of an event, and the shapes."""

    name: str
    tag: str
    shapes: Sequence[EventShape]


class Key(NamedTuple):
    """A key with a value that is no object.

    attribute is dotted, from the event; type is what the value may be beside null; value is the name that a field type
    of `core.sources.fields` gives it: `id`, `instant`, `amount`, or empty.
    """

    attribute: str
    type: inspect.Type
    nullable: bool
    value: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed list of texts that are allowed; empty where there is none."""
        values = self.type.values if isinstance(self.type, inspect.LiteralType) else ()
        return tuple(value for value in values if isinstance(value, str))


def describe(shape: type[Any]) -> tuple[Field, ...]:
    """The fields of a struct, in its own order and without its tag.

    Raises TypeError, as `keys` does, and for a type that no column holds.
    """
    return tuple(_field(path, key) for path, key in keys(shape).items())


_VALUES: Final = {
    "id": (ColumnType.TEXT, 1, MAX_ID_BYTES),
    "instant": (ColumnType.TIMESTAMP, 0, 0),
    "amount": (ColumnType.AMOUNT, 0, 0),
}


def _field(path: str, key: Key) -> Field:
    if key.value:
        column_type, least, most = _VALUES[key.value]
        return Field(path, column_type, key.nullable, least, most)
    match key.type:
        case inspect.StrType(None, None, None):
            return Field(path, ColumnType.TEXT, key.nullable, 0, MAX_TEXT_BYTES)
        case inspect.IntType(None, int(least), None, int(most), None):
            return Field(path, _integer(least, most), key.nullable, least, most)
        case inspect.LiteralType() if key.labels:
            return Field(path, ColumnType.LABEL, key.nullable, labels=key.labels)
        case inspect.BytesType():
            return Field(path, ColumnType.BYTES, key.nullable)
    raise TypeError(f"{path}: no column holds {key.type}")


def _integer(least: int, most: int) -> ColumnType:
    if least >= -MAX_SMALLINT - 1 and most <= MAX_SMALLINT:
        return ColumnType.SMALLINT
    if least >= -MAX_INTEGER - 1 and most <= MAX_INTEGER:
        return ColumnType.INTEGER
    return ColumnType.BIGINT


def keys(shape: type[Any]) -> dict[str, Key]:
    """The keys of a struct by their JSON paths without `$.`, in its own order and without its tag.

    Raises TypeError where a key is optional, where unknown keys are forbidden, where it is an array or where an object
    in it has a tag of its own: no event is so.
    """
    return dict(_keys(inspect.type_info(shape), "", ""))


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
        some = [choice for choice in of.types if not isinstance(choice, inspect.NoneType)]
        of = some[0] if len(some) == 1 else of
    value = ""
    if isinstance(of, inspect.Metadata):
        value, of = (of.extra or {}).get("value", ""), of.type
    return Key(attribute, of, nullable, value)
