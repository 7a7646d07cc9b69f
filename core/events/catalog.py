"""A catalog of all fields of all events with their rules, for violations, tables and the JSON Schema."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from core.sources import SOURCES
from core.sources.shape import ColumnType, Field, describe

FieldType = Literal["text", "instant", "amount", "integer", "label"]

_FIELD_TYPES: Final[dict[ColumnType, FieldType]] = {
    ColumnType.TEXT: "text",
    ColumnType.TIMESTAMP: "instant",
    ColumnType.AMOUNT: "amount",
    ColumnType.SMALLINT: "integer",
    ColumnType.INTEGER: "integer",
    ColumnType.BIGINT: "integer",
    ColumnType.LABEL: "label",
}


class Rule(NamedTuple):
    """The rule for the value of one field. path is a JSON path without `$.`.

    minimum and maximum are a number's limits, or a text's limits in bytes of UTF-8; labels are those of a closed list.
    """

    path: str
    field_type: FieldType
    nullable: bool
    minimum: int = 0
    maximum: int = 0
    labels: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The rule as a text."""
        match self.field_type:
            case "text":
                length = f"{self.minimum} to {self.maximum}" if self.minimum else f"at most {self.maximum}"
                words = f"text of {length} bytes of UTF-8, without NUL"
            case "instant":
                words = "an RFC 3339 instant with a zone, such as 2026-11-22T07:25:58.541Z, in the years 2000 to 2100"
            case "amount":
                words = 'a decimal as text, such as "203.95": 1 to 10 digits, then at most a point and 1 or 2 digits'
            case "integer":
                words = f"a whole number from {self.minimum} to {self.maximum}"
            case "label":
                words = " or ".join(f'"{label}"' for label in self.labels)
        return f"{words}, or null" if self.nullable else words


class ShapeRules(NamedTuple):
    """The events of one source and stage. tag is the key of the stage; rules includes its rule."""

    source: str
    tag: str
    stage: str
    rules: tuple[Rule, ...]


def shapes() -> list[ShapeRules]:
    """Return the rules of all events."""
    return [_shape(name, struct) for name, source in SOURCES.items() for struct in source.shapes]


def _shape(source: str, struct: type[Any]) -> ShapeRules:
    config = struct.__struct_config__
    rules = [_rule(field) for field in describe(struct)]
    behind = 1 + [rule.path for rule in rules].index("source")
    tag = Rule(config.tag_field, "label", nullable=False, labels=(config.tag,))
    return ShapeRules(source, config.tag_field, config.tag, (*rules[:behind], tag, *rules[behind:]))


def _rule(field: Field) -> Rule:
    return Rule(field.path, _FIELD_TYPES[field.type], field.nullable, field.minimum, field.maximum, field.labels)
