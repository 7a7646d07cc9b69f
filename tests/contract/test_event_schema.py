"""The JSON Schema and the contract agree: on valid events, on corruptions and at limits, as far as a schema can say.

What the schema rejects, the contract rejects. What the contract rejects and the schema accepts is listed here.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.publisher.events import RandomValues, corrupt, make
from core.events.catalog import shapes
from core.events.contract import Contract, Invalid, Reason
from core.events.examples import AT, EXAMPLES
from core.events.reference import MEANINGS, rows, schema
from ops.events_page import PAGE, SCHEMA, page, schema_text
from tests.fuzz.mutations import RECEIVED, corpus
from tests.support.events import MAKERS, NOON, SHAPES, Event, changed, encoded, microseconds, paths, rfc3339, without

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
VALIDATOR = jsonschema_rs.validator_for(schema())
# What a schema cannot say: limits in bytes, the window of time, days that exist, and how a number or a text is written.
BEYOND = {
    Reason.TOO_LONG,
    Reason.TOO_OLD,
    Reason.TOO_FAR_AHEAD,
    Reason.TOO_DEEP,
    Reason.INVALID_TEXT,
    Reason.INVALID_TIMESTAMP,
    Reason.WRONG_TYPE,
    Reason.MALFORMED,
}


def accepted(raw: bytes, at: int) -> Reason | None:
    """None, or why the contract rejects it."""
    try:
        CONTRACT.read(raw, at)
    except Invalid as why:
        return why.reason
    return None


def agree(event: Any, at: int | None = None) -> bool:
    """Whether both say the same of an event."""
    return VALIDATOR.is_valid(event) == (accepted(encoded(event), at or microseconds()) is None)


def test_the_committed_files_are_what_the_structs_say() -> None:
    """docs/events.md and docs/events.schema.json; `python -m ops.events_page` writes them anew."""
    assert PAGE.read_text() == page()
    assert SCHEMA.read_text() == schema_text()


def test_the_schema_is_one_of_2020_12() -> None:
    """It is valid by its own meta-schema, and lists every field of every shape."""
    jsonschema_rs.meta.validate(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {row.path for row in rows()} == {rule.path for shape in shapes() for rule in shape.rules}
    assert set(MEANINGS) == set(Reason)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_a_whole_valid_event(name: str) -> None:
    """It is accepted as soon as its instants are recent, and has every field of its shape and no other."""
    event = json.loads(json.dumps(EXAMPLES[name]).replace(AT, rfc3339(NOON)))
    assert accepted(encoded(event), microseconds()) is None
    VALIDATOR.validate(event)
    (shape,) = [shape for shape in shapes() if f"{shape.source} {shape.stage}" == name]
    leaves = {path for path in paths(event) if not any(other.startswith(f"{path}.") for other in paths(event))}
    assert leaves == {rule.path for rule in shape.rules}
    assert {f"{shape.source} {shape.stage}" for shape in shapes()} == set(EXAMPLES)


def test_valid_events() -> None:
    """A thousand events as the publisher makes them are valid by both."""
    rng = Random(7)
    fresh = RandomValues(rng, NOON.timestamp)
    for _ in range(1_000):
        event = make(rng, fresh)
        assert VALIDATOR.is_valid(event)
        assert agree(event)


@pytest.mark.parametrize("function", MAKERS)
@pytest.mark.parametrize("corruption_type", range(1, 9))
def test_corruptions(function: str, corruption_type: int) -> None:
    """The publisher's sixteen corruptions over all shapes: both reject the same ones."""
    for source, stage in SHAPES:
        event = MAKERS[source](stage)
        corrupt(event, function, corruption_type)  # type: ignore[arg-type]
        assert agree(event), event


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_fields_that_are_missing_or_null_or_of_another_type(source: str, stage: str) -> None:
    """Each field, and each object: gone, null, and of every JSON type."""
    event = MAKERS[source](stage)
    for path in paths(event):
        assert agree(without(event, path)), path
        for value in (None, True, 7, -1, 1.5, "", "x", [], ["a"], {}, {"a": 1}):
            assert agree(changed(event, path, value)), (path, value)


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: f"{shape.source}-{shape.stage}")
def test_limits(shape: Any) -> None:
    """At each limit both accept, and past it both reject."""
    event = MAKERS[shape.source](shape.stage)
    for rule in shape.rules:
        match rule.field_type:
            case "text":
                inside: list[Any] = ["x" * rule.maximum, "x" * max(rule.minimum, 1)]
                outside: list[Any] = ["x" * (rule.maximum + 1), "a\0", *([""] if rule.minimum else [])]
            case "integer":
                inside, outside = [rule.minimum, rule.maximum], [rule.minimum - 1, rule.maximum + 1]
            case "amount":
                inside = ["0", "9" * 10, "9" * 10 + ".99", "1.5", "007"]
                outside = ["9" * 11, "1.999", "1.", ".5", "-1", "1e3", "NaN", "1_0", "", "1\n", "١"]
            case "instant":
                start = rfc3339(NOON)[:19]
                inside = [start + zone for zone in ("Z", "z", "+00:00", "-0000", "+00", ".1Z", ".123456789+0000")]
                outside = [start + zone for zone in ("", ".Z", ".1234567890Z", "+24:00", "+0060", "+1", "ZZ", "Z\n")]
                outside += [start.replace("T", " ") + "Z", start[:10], start[:16] + "Z"]
            case _:
                inside, outside = list(rule.labels), [rule.labels[0].upper(), rule.labels[0] + " "]
        assert inside, rule
        for value in inside:
            assert VALIDATOR.is_valid(changed(event, rule.path, value)), (rule.path, value)
            assert agree(changed(event, rule.path, value)), (rule.path, value)
        for value in outside:
            assert not VALIDATOR.is_valid(changed(event, rule.path, value)), (rule.path, value)
            assert agree(changed(event, rule.path, value)), (rule.path, value)


def test_what_a_schema_cannot_say() -> None:
    """The contract rejects these and the schema does not; docs/events.md lists them."""
    event = MAKERS["facebook"]("bottom")
    for path, value in (
        ("data.user.name", "é" * 8_192),
        ("data.user.age", 36.0),
        ("timestamp", "2026-02-30T00:00:00Z"),
        ("timestamp", "1999-12-31T23:59:59Z"),
        ("timestamp", "2026-11-22T07:25:60Z"),
        ("timestamp", "2020-01-01T00:00:00Z"),
    ):
        assert VALIDATOR.is_valid(changed(event, path, value)), path
        assert not agree(changed(event, path, value)), path


def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no key is in it twice: the contract checks the value that does not count, too."""
    if len(dict(members)) < len(members):
        raise ValueError("a key is there twice")
    return dict(members)


def test_the_corpus() -> None:
    """Nothing that the contract accepts is rejected by the schema; both agree but on what a schema cannot say."""
    differ = set()
    for line in corpus():
        reason = accepted(line, microseconds(RECEIVED))
        try:
            valid = VALIDATOR.is_valid(json.loads(line, object_pairs_hook=once))
        except (ValueError, RecursionError):  # not JSON, or text that is not Unicode
            continue
        assert valid or reason is not None, line
        if valid and reason is not None:
            differ.add(reason)
    assert differ <= BEYOND


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(SHAPES), st.data(), _json)
def test_what_the_schema_rejects_the_contract_rejects(shape: tuple[str, str], data: st.DataObject, value: Any) -> None:
    """Any value in any field."""
    event: Event = MAKERS[shape[0]](shape[1])
    event = changed(event, data.draw(st.sampled_from(paths(event))), value)
    if not VALIDATOR.is_valid(event):
        assert accepted(encoded(event), microseconds()) is not None
