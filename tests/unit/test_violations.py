"""All violations of a rejected event: none is missed, none is made up, and the first one is the contract's own."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.events.catalog import Rule, ShapeRules, shapes
from core.events.contract import Contract, Invalid, Reason
from core.events.violations import Violation, violations
from core.sources.fields import MAX_EVENT_BYTES
from tests.fuzz.mutations import RECEIVED, corpus
from tests.support.events import MAKERS, NOON, SHAPES, Event, changed, encoded, facebook, microseconds, rfc3339, without

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
WHOLE = Invalid(Reason.MALFORMED, "$", "a stand-in for what the contract found first")

TAGS = ("source", "funnelStage")
"""The fields that choose the rules of the others."""

BAD: dict[str, list[tuple[Any, Reason]]] = {
    "text": [
        (None, Reason.WRONG_TYPE),
        (7, Reason.WRONG_TYPE),
        ("a\0", Reason.INVALID_TEXT),
        ("x" * 8_193, Reason.TOO_LONG),
    ],
    "instant": [
        (-1, Reason.WRONG_TYPE),
        ("invalid-timestamp", Reason.INVALID_TIMESTAMP),
        ("2026-02-30T00:00:00Z", Reason.INVALID_TIMESTAMP),
        ("1999-12-31T23:59:59Z", Reason.INVALID_TIMESTAMP),
    ],
    "amount": [(1.5, Reason.WRONG_TYPE), ("1e3", Reason.INVALID_AMOUNT), ("1.234", Reason.INVALID_AMOUNT)],
    "integer": [
        ("7", Reason.WRONG_TYPE),
        (7.5, Reason.WRONG_TYPE),
        (-1, Reason.OUT_OF_RANGE),
        (2**31, Reason.OUT_OF_RANGE),
        (10**40, Reason.OUT_OF_RANGE),
    ],
    "label": [(["a"], Reason.WRONG_TYPE), ("alien", Reason.NOT_ALLOWED), ("", Reason.NOT_ALLOWED)],
}


def of(source: str, stage: str) -> ShapeRules:
    return next(shape for shape in shapes() if (shape.source, shape.stage) == (source, stage))


def bad_values(rule: Rule) -> list[tuple[Any, Reason]]:
    if rule.nullable:
        return [(value, reason) for value, reason in BAD[rule.field_type] if value is not None]
    return BAD[rule.field_type] + ([("", Reason.EMPTY)] if rule.minimum and rule.field_type == "text" else [])


def found(event: Event | bytes, why: Invalid = WHOLE) -> list[Violation]:
    """What is found beside `why`, which stands for the first violation."""
    first, *others = violations(encoded(event), why, microseconds(), CONTRACT)
    assert (first.reason, first.path) == (why.reason, why.path)
    return others


def rejection(event: Event | bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        CONTRACT.read(encoded(event), microseconds())
    return caught.value


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_a_valid_event_has_none(source: str, stage: str) -> None:
    """Nothing is wrong with a valid event, whatever unknown keys it has."""
    assert found(MAKERS[source](stage) | {"unknown": [1, {"a": "\0"}]}) == []


@pytest.mark.parametrize(
    ("source", "stage", "rule"),
    [(shape.source, shape.stage, rule) for shape in shapes() for rule in shape.rules if rule.path not in TAGS],
)
def test_one_wrong_field_is_one_violation(source: str, stage: str, rule: Rule) -> None:
    """It has the contract's own path and reason, and says what is allowed."""
    for value, reason in bad_values(rule):
        event = changed(MAKERS[source](stage), rule.path, value)
        why = rejection(event)
        (violation,) = found(event)
        assert (violation.path, violation.reason) == (f"$.{rule.path}", reason) == (why.path, why.reason)
        assert violation.allowed == rule.allowed
        assert violations(encoded(event), why, microseconds(), CONTRACT) == [
            Violation(why.reason, why.path, why.detail, rule.allowed)
        ]


@given(st.data())
def test_all_wrong_fields_are_found_at_once(data: st.DataObject) -> None:
    """However many fields are wrong or missing: each is listed once, with its reason; first the contract's own."""
    source, stage = data.draw(st.sampled_from(SHAPES))
    rules = [rule for rule in of(source, stage).rules if rule.path not in TAGS]
    wrong = data.draw(st.lists(st.sampled_from(rules), min_size=1, unique=True))
    event, expected = MAKERS[source](stage), {}
    for rule in wrong:
        if data.draw(st.booleans()):
            event, reason = without(event, rule.path), Reason.MISSING_FIELD
        else:
            value, reason = data.draw(st.sampled_from(bad_values(rule)))
            event = changed(event, rule.path, value)
        expected[f"$.{rule.path}"] = reason
    why = rejection(event)
    listed = violations(encoded(event), why, microseconds(), CONTRACT)
    assert (listed[0].reason, listed[0].path) == (why.reason, why.path)
    assert {violation.path: violation.reason for violation in listed} == expected
    assert len(listed) == len(expected)


def test_without_a_stage_the_type_chooses_what_the_data_has_to_be() -> None:
    """A wrong stage does not hide what is wrong in `data`; allowed are both stages, and the source's types."""
    event = changed(changed(facebook("bottom"), "funnelStage", "invalid-stage"), "data.engagement.device", "Nokia")
    stage, device = found(event)
    assert (stage.path, stage.allowed) == ("$.funnelStage", '"top" or "bottom"')
    assert (device.path, device.allowed) == ("$.data.engagement.device", '"desktop" or "mobile"')
    (_, kind) = found(changed(changed(facebook("bottom"), "funnelStage", 5), "eventType", "purchase"))
    assert kind.path == "$.eventType"
    assert "checkout.complete" in kind.allowed
    assert "page.like" in kind.allowed
    assert "purchase" not in kind.allowed


def test_without_a_source_what_all_shapes_share_is_checked() -> None:
    """An empty object lacks the envelope; nothing is said of fields that depend on the source."""
    assert [violation.path for violation in found(b"{}")] == [
        f"$.{name}" for name in ("eventId", "timestamp", "source", "funnelStage", "eventType", "data")
    ]
    nowhere = {**facebook(), "source": "elsewhere", "eventType": "?", "data": {"user": {"userId": 7}, "engagement": 5}}
    assert [violation.path for violation in found(nowhere)] == [
        "$.source", "$.eventType", "$.data.user.userId", "$.data.engagement",
    ]  # fmt: skip


def test_an_instant_outside_the_window() -> None:
    """Too old or too far ahead: the violation says how old and how far ahead an event may be."""
    for at, reason in ((NOON - timedelta(days=8), Reason.TOO_OLD), (NOON + timedelta(days=3), Reason.TOO_FAR_AHEAD)):
        first, age = found(event := changed(changed(facebook(), "timestamp", rfc3339(at)), "data.user.age", -1))
        assert (first.path, first.reason) == ("$.timestamp", reason)
        assert (
            first.allowed == "an instant at most 7 days old and at most 3600 seconds ahead when the event is received"
        )
        assert age.path == "$.data.user.age"
        assert rejection(event).path == "$.data.user.age"


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b"{", b"\xff", b'{"eventId":5,', b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"']
)
def test_of_what_is_no_object_there_is_one(raw: bytes) -> None:
    """What is no JSON object is one violation, of the whole."""
    (violation,) = violations(raw, why := rejection(raw), microseconds(), CONTRACT)
    assert (violation.reason, violation.path) == (why.reason, why.path)
    assert "JSON object" in violation.allowed


def test_a_text_that_is_not_utf8_is_found_in_its_field() -> None:
    """The contract rejects the whole; the field is named beside it. Half a surrogate pair cannot be read at all."""
    raw = encoded(changed(facebook(), "data.user.name", "HERE")).replace(b"HERE", b"\xff")
    (name,) = found(raw, rejection(raw))
    assert (name.path, name.reason) == ("$.data.user.name", Reason.INVALID_TEXT)
    surrogate = raw.replace(b"\xff", b"\\ud800")
    assert found(surrogate, rejection(surrogate)) == []


def test_hostile_events_take_no_room() -> None:
    """However many keys an event has, there are no more violations than fields, and nothing of the keys is kept."""
    keys = b",".join(b'"%05x":{"eventId":[]}' % number for number in range(MAX_EVENT_BYTES // 25))
    raw = b'{"source":"tiktok",%s,"data":{%s}}' % (
        keys[: len(keys) // 2].rpartition(b",")[0],
        keys[:100].rpartition(b",")[0],
    )
    found(raw)
    tracemalloc.start()
    try:
        assert len(found(raw)) < 20
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
    large = b'{"a":"' + b"x" * MAX_EVENT_BYTES + b'"}'
    assert [violation.path for violation in violations(large, rejection(large), microseconds(), CONTRACT)] == ["$"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("line", [pytest.param(line, id=str(number)) for number, line in enumerate(corpus())])
def test_the_corpus(line: bytes) -> None:
    """Whatever an event is: no violation if the contract accepts it, else its reason and path first, each path once."""
    try:
        CONTRACT.read(line, microseconds(RECEIVED))
    except Invalid as why:
        listed = violations(line, why, microseconds(RECEIVED), CONTRACT)
        assert (listed[0].reason, listed[0].path, listed[0].detail) == (why.reason, why.path, why.detail)
        assert len({violation.path for violation in listed}) == len(listed)
        assert all(violation.allowed and violation.detail for violation in listed)
    else:
        assert len(violations(line, WHOLE, microseconds(RECEIVED), CONTRACT)) == 1


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SHAPES), st.data(), _json)
def test_any_value_anywhere(shape: tuple[str, str], data: st.DataObject, value: Any) -> None:
    """A field of any value: what is found is empty exactly if the contract accepts the event."""
    event = MAKERS[shape[0]](shape[1])
    path = data.draw(st.sampled_from(["data", "data.user", *(rule.path for rule in of(*shape).rules), "funnelStage"]))
    try:
        raw = encoded(changed(event, path, value))
    except UnicodeEncodeError:
        return
    try:
        CONTRACT.read(raw, microseconds())
    except Invalid as why:
        others = found(raw, why)
        assert why.path not in {violation.path for violation in others}
        if why.path != "$":
            assert why.path in {violation.path for violation in found(raw)}
    else:
        assert found(raw) == []
