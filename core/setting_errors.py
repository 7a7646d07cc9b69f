"""Describe what a setting allows, for error messages that must not show its value: it may be a secret."""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

QUOTES: Final = "'\""


def describe_type(annotation: Any) -> str:
    """Describe what a field's type allows: `a whole number from 1 to 64`, `one of off, auto`, or its title."""
    field_type = inspect.type_info(annotation)
    while isinstance(field_type, inspect.Metadata | inspect.UnionType):
        if isinstance(field_type, inspect.UnionType):  # optional
            field_type = next(each for each in field_type.types if not isinstance(each, inspect.NoneType))
        elif title := (field_type.extra_json_schema or {}).get("title"):
            return str(title)
        else:
            field_type = field_type.type
    if isinstance(field_type, inspect.LiteralType):
        return "one of " + ", ".join(map(str, field_type.values))
    if isinstance(field_type, inspect.IntType | inspect.FloatType):
        number = "a whole number" if isinstance(field_type, inspect.IntType) else "a number"
        minimum = f"from {field_type.ge}" if field_type.gt is None else f"above {field_type.gt}"
        maximum = "" if field_type.le is None else f" to {int(field_type.le)}"
        return f"{number} {minimum}{maximum}"
    return "text"


def describe_problem(value: str) -> str:
    """Return why a value that looks right is rejected: quotes, invisible characters, white space. Empty if none
    applies."""
    if value[0] in QUOTES or value[-1] in QUOTES:
        return "; remove the quotes, which are part of the value"
    if not value.isprintable():
        return "; it contains invisible characters"
    if any(character.isspace() for character in value):
        return "; it contains white space"
    return ""
