"""Every way in which the publisher corrupts an event: it is rejected for what is wrong, or accepted where nothing is.

A corrupt event is the last element of its body and costs no other event.
"""

from __future__ import annotations

import hashlib
from random import Random
from time import time

import pytest

from bench.publisher.events import CORRUPTION_TYPES, SOURCES, Event, RandomValues, Source, corrupt, make
from tests.support.batch_reader import accepted, kept, read_array, reasons
from tests.support.events import encoded

STAGES = ("top", "bottom")


def one(rng: Random, source: Source, stage: str) -> Event:
    """A valid event of this source and stage, as the publisher makes them."""
    while True:
        event = make(rng, RandomValues(rng, time))
        if (event["source"], event["funnelStage"]) == (source, stage):
            return event


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("function", SOURCES)
@pytest.mark.parametrize("corruption_type", CORRUPTION_TYPES)
async def test_a_corrupt_event_is_reported_apart(
    corruption_type: int, function: Source, source: Source, stage: str
) -> None:
    """Each kind, by each function, on each shape: rejected with its reason and path, or accepted where it is valid."""
    rng = Random(f"{corruption_type} {function} {source} {stage}")
    for _ in range(5):  # kind 7 depends on what the event holds
        good = [one(rng, source, stage) for source in SOURCES for stage in STAGES]
        bad = one(rng, source, stage)
        fault = corrupt(bad, function, corruption_type).fault
        batch = await read_array(*good, bad)
        assert batch.events == 5
        if fault is None:
            assert (batch.accepted_events, batch.rejected_events) == (5, 0)
            assert encoded(bad) in accepted(batch)[source]
            continue
        assert (batch.accepted_events, batch.rejected_events) == (4, 1)
        assert reasons(batch) == [(4, fault.reason, fault.path)]
        assert batch.errors[0].event_id == bad.get("eventId")
        (copy,) = kept(batch)
        assert copy.body == encoded(bad)
        assert copy.sha256 == hashlib.sha256(encoded(bad)).digest()
        assert copy.source == source
        assert copy.reason == batch.errors[0].reason
        assert accepted(batch) == {name: [encoded(e) for e in good if e["source"] == name] for name in SOURCES}


async def test_about_one_in_five_corruptions_is_none() -> None:
    """As the publisher picks function and source apart, some corrupt events are valid: those are not lost."""
    rng = Random(7)
    events, faults = [], 0
    for _ in range(2000):
        event = make(rng, RandomValues(rng, time))
        faults += corrupt(event, rng.choice(SOURCES), rng.choice(CORRUPTION_TYPES)).fault is not None
        events.append(event)
    batch = await read_array(*events)
    assert batch.rejected_events == faults
    assert 0.1 < batch.accepted_events / batch.events < 0.3
