"""Find all violations of a rejected event, with what is allowed instead.

    raw --only keys of the contract--> fields --each by itself--> violations

The contract stops at the first violation, which is cheapest. This module is slower and is used for responses.

Source and stage select the shape whose rules apply. If one of them is invalid, only the fields that all possible shapes
have in common are checked, against anything that one of these shapes allows.

Invariant: the cost is that of decoding the event a few times. Unknown keys are skipped, so there are at most as many
violations as the contract has fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from core.events.catalog import Rule, ShapeRules, shapes
from core.events.contract import Contract, Invalid, Reason, explain
from core.sources.fields import MAX_DEPTH, MAX_EVENT_BYTES, MAX_TEXT_BYTES, Amount, instant

_WHOLE: Final = f"one JSON object of at most {MAX_EVENT_BYTES} bytes and {MAX_DEPTH} levels, in UTF-8"
_SHAPES: Final = tuple(shapes())
_SOURCE: Final = "source"
_TYPE: Final = "eventType"


class Violation(msgspec.Struct, frozen=True):
    """One field, or the whole event (`$`), violates the contract. `allowed` says what the contract accepts."""

    reason: Reason
    path: str
    detail: str
    allowed: str


class _Leaf(NamedTuple):
    rule: Rule
    decode: Callable[[msgspec.Raw], Any]


class _Node(NamedTuple):
    """An object. `decode` keeps only the keys of the contract, undecoded."""

    keys: Mapping[str, _Leaf | _Node]
    decode: Callable[[bytes | msgspec.Raw], msgspec.Struct]


def violations(raw: bytes, invalid: Invalid, received_at: int, contract: Contract) -> list[Violation]:
    """Return all violations of an event that `contract` rejected; `invalid` is the first of them.

    received_at is in microseconds since 2000. Never raises.
    """
    violations_by_path: dict[str, Violation] = {}
    if len(raw) <= MAX_EVENT_BYTES:
        try:
            violations_by_path = {violation.path: violation for violation in _event(raw, received_at, contract)}
        except (ValueError, RecursionError):  # not JSON, not an object, or nested too deeply
            violations_by_path = {}
    first = violations_by_path.pop(invalid.path, None)
    allowed = first.allowed if first else _WHOLE
    return [Violation(invalid.reason, invalid.path, invalid.detail, allowed), *violations_by_path.values()]


def _event(raw: bytes, received_at: int, contract: Contract) -> Iterator[Violation]:
    every = _tree(_SHAPES)
    fields = every.decode(raw)
    of_source = _narrowed(_SHAPES, fields, every, _SOURCE, lambda shape: [shape.source])
    of_stage = _narrowed(of_source, fields, every, _SHAPES[0].tag, lambda shape: [shape.stage])
    of_type = _narrowed(of_stage, fields, every, _TYPE, _types)
    envelope, narrow = _tree(of_stage), _tree(of_type)
    for name in envelope.keys:
        value = getattr(fields, name)
        yield from _value(narrow.keys[name] if name == "data" else envelope.keys[name], f"$.{name}", value)
        if name == "timestamp" and (outside := _window(envelope.keys[name], value, received_at, contract)):
            yield outside


def _narrowed(
    known: tuple[ShapeRules, ...],
    fields: msgspec.Struct,
    tree: _Node,
    name: str,
    labels: Callable[[ShapeRules], list[str] | tuple[str, ...]],
) -> tuple[ShapeRules, ...]:
    """Return the shapes that the value of this key selects; all of them if it selects none."""
    leaf = tree.keys[name]
    assert isinstance(leaf, _Leaf)
    try:
        value = leaf.decode(getattr(fields, name))
    except ValueError:  # missing, or not allowed in any shape
        return known
    return tuple(shape for shape in known if value in labels(shape)) or known


def _types(shape: ShapeRules) -> tuple[str, ...]:
    return next(rule.labels for rule in shape.rules if rule.path == _TYPE)


def _value(expected: _Leaf | _Node, path: str, value: msgspec.Raw) -> Iterator[Violation]:
    """Yield the violations of the value at this path."""
    allowed = expected.rule.allowed if isinstance(expected, _Leaf) else _object(expected)
    if not bytes(value):
        name = path.rpartition(".")[2]
        yield Violation(Reason.MISSING_FIELD, path, f"Object missing required field `{name}`", allowed)
        return
    try:
        decoded = expected.decode(value)
    except msgspec.ValidationError as error:
        invalid = explain(error)
        yield Violation(invalid.reason, path, invalid.detail, allowed)
        return
    except ValueError:  # invalid UTF-8 or an invalid escape
        yield Violation(Reason.INVALID_TEXT, path, "text that is not valid UTF-8", allowed)
        return
    if isinstance(expected, _Node):
        for name, inner in expected.keys.items():
            yield from _value(inner, f"{path}.{name}", getattr(decoded, name))
    elif isinstance(decoded, str) and (wrong := _text(expected.rule, decoded)):
        reason, detail = wrong
        yield Violation(reason, path, detail, allowed)


def _text(rule: Rule, text: str) -> tuple[Reason, str] | None:
    """Return the violation of a text of the right type, or None."""
    maximum = rule.maximum or MAX_TEXT_BYTES
    if "\0" in text:
        return Reason.INVALID_TEXT, "text with a NUL character"
    if (size := len(text.encode())) > maximum:
        return Reason.TOO_LONG, f"at most {maximum} bytes of UTF-8, this text has {size}"
    if size < rule.minimum:
        return Reason.EMPTY, f"at least {rule.minimum} byte"
    if rule.field_type == "instant":
        try:
            instant(text)
        except ValueError as error:
            return Reason.INVALID_TIMESTAMP, str(error)
    return None


def _window(leaf: _Leaf | _Node, value: msgspec.Raw, received_at: int, contract: Contract) -> Violation | None:
    try:
        invalid = contract.check_window(instant(leaf.decode(value)), received_at)  # type: ignore[arg-type]
    except ValueError:  # reported as a violation of its own
        return None
    return Violation(invalid.reason, invalid.path, invalid.detail, contract.window_text) if invalid else None


def _object(node: _Node) -> str:
    return "an object" + (" with " + ", ".join(f"`{name}`" for name in node.keys) if node.keys else "")


@cache
def _tree(of: tuple[ShapeRules, ...]) -> _Node:
    """Return the objects and fields that these shapes have in common."""
    rules_of = [{rule.path: rule for rule in shape.rules} for shape in of]
    members: dict[str, Any] = {}
    for path in rules_of[0]:
        *outer, name = path.split(".")
        holder = members
        for depth, key in enumerate(outer, start=1):
            inside = ".".join(outer[:depth]) + "."
            if all(any(other.startswith(inside) for other in rules) for rules in rules_of):
                holder = holder.setdefault(key, {})
        common = [rules[path] for rules in rules_of if path in rules]
        if len(common) == len(of) and len({rule.field_type for rule in common}) == 1:
            holder[name] = _any_of(common)
    return _node(members)


def _any_of(rules: list[Rule]) -> Rule:
    """Return a rule that accepts whatever one of these rules accepts."""
    return Rule(
        rules[0].path,
        rules[0].field_type,
        any(rule.nullable for rule in rules),
        min(rule.minimum for rule in rules),
        max(rule.maximum for rule in rules),
        tuple(dict.fromkeys(label for rule in rules for label in rule.labels)),
    )


def _node(members: Mapping[str, Any]) -> _Node:
    struct = msgspec.defstruct("Object", [(name, msgspec.Raw, msgspec.Raw()) for name in members])
    inner = {
        name: _Leaf(member, msgspec.json.Decoder(_type(member)).decode) if isinstance(member, Rule) else _node(member)
        for name, member in members.items()
    }
    return _Node(inner, msgspec.json.Decoder(struct).decode)


def _type(rule: Rule) -> Any:
    of: Any
    match rule.field_type:
        case "amount":
            of = Amount
        case "integer":
            of = Annotated[int, Meta(ge=rule.minimum, le=rule.maximum)]
        case "label":
            of = Literal[rule.labels]
        case _:
            of = str
    return of | None if rule.nullable else of
