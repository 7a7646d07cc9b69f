"""What the structs of an event hold, key by key: the parsers and the door's native reader go by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

from msgspec import inspect
from msgspec.inspect import IntType, LiteralType, StrType

from core.events.fields import MAX_ID_BYTES, MAX_TEXT_BYTES, Amount

INSTANTS: Final = frozenset({"timestamp", "data.engagement.actionTime"})
"""The paths of instants: their type is that of any text."""

AMOUNT: Final = get_args(Amount)[1].pattern


class Field(NamedTuple):
    """A key and what its value has to be, as the native module is told it (`Kind` of its `copying.rs`).

    least and most are a number's limits, or a text's in bytes of UTF-8; labels are those of a closed list.
    """

    path: str
    kind: str
    nullable: bool
    least: int = 0
    most: int = 0
    labels: tuple[str, ...] = ()


class Key(NamedTuple):
    """A key with a value that is no object.

    attribute is dotted, from the event; type is what the value may be beside null.
    """

    attribute: str
    type: inspect.Type
    nullable: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed list of texts that are allowed; empty where there is none."""
        values = self.type.values if isinstance(self.type, LiteralType) else ()
        return tuple(value for value in values if isinstance(value, str))


def describe(shape: type[Any]) -> tuple[Field, ...]:
    """The fields of a struct, in its own order and without its tag.

    Raises TypeError, as `keys` does, and for a type that no kind of field holds.
    """
    return tuple(_field(path, key) for path, key in keys(shape).items())


def _field(path: str, key: Key) -> Field:
    match key.type:
        case StrType(None, None, None) if path in INSTANTS:
            return Field(path, "timestamp", key.nullable)
        case StrType(None, None, None):
            least, most = (1, MAX_ID_BYTES) if path == "eventId" else (0, MAX_TEXT_BYTES)
            return Field(path, "text", key.nullable, least, most)
        case StrType(None, None, pattern) if pattern == AMOUNT:
            return Field(path, "amount", key.nullable)
        case IntType(None, int(least), None, int(most), None):
            return Field(path, "bigint", key.nullable, least, most)
        case LiteralType() if key.labels:
            return Field(path, "label", key.nullable, labels=key.labels)
    raise TypeError(f"{path}: no kind of field holds {key.type}")


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
    if not isinstance(of, inspect.UnionType):
        return Key(attribute, of, nullable=False)
    some = [choice for choice in of.types if not isinstance(choice, inspect.NoneType)]
    return Key(attribute, some[0] if len(some) == 1 else of, nullable=of.includes_none)
