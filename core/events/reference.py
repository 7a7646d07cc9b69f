"""Reference of the contract, derived from the structs: a table of fields, the reasons, and a JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, get_args

from core.events.catalog import FieldType, Rule, ShapeRules, shapes
from core.events.contract import Reason
from core.sources.fields import (
    MAX_DEPTH,
    MAX_EVENT_BYTES,
    MINUTE_PATTERN,
    SECOND_PATTERN,
    ZONE_PATTERN,
    Amount,
)

MEANINGS: Final[dict[Reason, str]] = {
    Reason.MALFORMED: "The event is not JSON.",
    Reason.TOO_DEEP: f"Objects and arrays are nested deeper than {MAX_DEPTH} levels.",
    Reason.TOO_LARGE: f"The event has more than {MAX_EVENT_BYTES} bytes.",
    Reason.MISSING_FIELD: "A field is missing. No field is optional; some may be null.",
    Reason.WRONG_TYPE: "A value has the wrong JSON type. No value is converted.",
    Reason.NOT_ALLOWED: "A text is not in the field's closed list.",
    Reason.OUT_OF_RANGE: "A number is too small or too large.",
    Reason.INVALID_AMOUNT: "An amount is not a decimal as text.",
    Reason.INVALID_TEXT: "A text has a NUL character or is not valid UTF-8.",
    Reason.INVALID_TIMESTAMP: "A text is not an instant with a zone, or is outside the years 2000 to 2100.",
    Reason.EMPTY: "`eventId` is empty.",
    Reason.TOO_LONG: "A text has too many bytes.",
    Reason.TOO_OLD: "`timestamp` is older than `MAX_EVENT_AGE_DAYS` (7) when the event is received.",
    Reason.TOO_FAR_AHEAD: "`timestamp` is more than `MAX_EVENT_AHEAD_SECONDS` (3600) after the event is received.",
}
_FIELD_TYPES: Final[dict[FieldType, str]] = {
    "text": "string",
    "instant": "string, an instant",
    "amount": "string, a decimal",
    "integer": "integer",
    "label": "string, of a closed list",
}
_AMOUNT: Final = get_args(Amount)[1].pattern.replace(r"\Z", "$")
_DESCRIPTION: Final = (
    "One event. Fields that are not listed are allowed and ignored. This schema cannot express some rules of the "
    f"contract: limits are bytes of UTF-8, not characters; an event has at most {MAX_EVENT_BYTES} bytes; instants are "
    "real days in the years 2000 to 2100, and timestamp is recent; 5.0 is not an integer."
)


class Row(NamedTuple):
    """A field and the events that have it."""

    path: str
    events: str
    field_type: str
    allowed: str


def rows() -> list[Row]:
    """Return all fields of all events, in order."""
    known = shapes()
    events_of: dict[Rule, list[ShapeRules]] = {}
    for shape in known:
        for rule in shape.rules:
            events_of.setdefault(rule, []).append(shape)
    order = {path: number for number, path in enumerate(dict.fromkeys(rule.path for rule in events_of))}
    return [
        Row(rule.path, _events(having, known), _type_name(rule), rule.allowed)
        for rule, having in sorted(events_of.items(), key=lambda item: order[item[0].path])
    ]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one event."""
    definitions = {f"{shape.source}-{shape.stage}": _object(shape.rules) for shape in shapes()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sluice event",
        "description": _DESCRIPTION,
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in definitions],
        "$defs": definitions,
    }


def _events(having: list[ShapeRules], known: list[ShapeRules]) -> str:
    if len(having) == len(known):
        return "all"
    names: list[str] = []
    for source in dict.fromkeys(shape.source for shape in having):
        stages = [shape.stage for shape in having if shape.source == source]
        whole = len(stages) == sum(shape.source == source for shape in known)
        names.append(source if whole else f"{source} {' '.join(stages)}")
    return ", ".join(names)


def _type_name(rule: Rule) -> str:
    return _FIELD_TYPES[rule.field_type] + (" or null" if rule.nullable else "")


def _object(rules: Iterable[Rule], depth: int = 0) -> dict[str, Any]:
    """Return the schema of the object at this depth that contains the fields of these rules."""
    members: dict[str, list[Rule]] = {}
    for rule in rules:
        members.setdefault(rule.path.split(".")[depth], []).append(rule)
    return {
        "type": "object",
        "required": list(members),
        "properties": {
            name: _value(inner[0]) if inner[0].path.count(".") == depth else _object(inner, depth + 1)
            for name, inner in members.items()
        },
    }


def _value(rule: Rule) -> dict[str, Any]:
    schema: dict[str, Any]
    match rule.field_type:
        case "label":
            schema = {"type": "string", "enum": list(rule.labels)}
        case "integer":
            schema = {"type": "integer", "minimum": rule.minimum, "maximum": rule.maximum}
        case "amount":
            schema = {"type": "string", "pattern": _AMOUNT}
        case "instant":
            schema = {"type": "string", "pattern": f"^{MINUTE_PATTERN}{SECOND_PATTERN}{ZONE_PATTERN}$"}
        case _:
            schema = {"type": "string", "maxLength": rule.maximum, "pattern": r"^[^\u0000]*$"}
            schema |= {"minLength": rule.minimum} if rule.minimum else {}
    if rule.nullable:
        schema["type"] = [schema["type"], "null"]
    return {"description": rule.allowed, **schema}
