"""What a setting may hold, in words, for messages that must not show what it does hold: that may be a secret."""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

QUOTES: Final = "'\""


def allowed(declared: Any) -> str:
    """What a field's type allows: `a whole number from 1 to 64`, `one of off, auto`, or its title."""
    kind = inspect.type_info(declared)
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.UnionType):  # or not set at all
            kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
        elif title := (kind.extra_json_schema or {}).get("title"):
            return str(title)
        else:
            kind = kind.type
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        number = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        least = f"from {kind.ge}" if kind.gt is None else f"above {kind.gt}"
        most = "" if kind.le is None else f" to {int(kind.le)}"
        return f"{number} {least}{most}"
    return "text"


def hint(value: str) -> str:
    """Why a value that looks right is rejected: quotes, invisible characters, white space; empty if none of these."""
    if value[0] in QUOTES or value[-1] in QUOTES:
        return "; it is in quotes, which are part of it here: write it without"
    if not value.isprintable():
        return "; it has characters that are not visible"
    if any(character.isspace() for character in value):
        return "; it has white space in it"
    return ""
