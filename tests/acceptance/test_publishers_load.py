"""Under the publisher's load everything is conserved: what is valid is stored, what is corrupt is kept with its reason.

Every POST carries a corrupt event here, not every tenth, and many small POSTs go beside the large ones, so that each
of the sixteen corruptions comes up.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from itertools import product, repeat

import msgspec
import orjson
import pytest

from bench.publisher.bodies import Bodies, Body
from bench.publisher.events import CORRUPTION_TYPES, SOURCES
from bench.publisher.post import Answer
from bench.publisher.sender import Sender, varied_sizes
from bench.publisher.tally import Tally
from tests.support.system import System

LARGE_POSTS = 5
SMALL_POSTS = 250
SMALL_EVENTS = 20


@dataclass
class Load:
    """What was sent and answered."""

    large: Tally
    small: Tally
    posted: list[tuple[Body, Answer]] = field(default_factory=list)

    @property
    def corrupted(self) -> list[tuple[Body, Answer]]:
        """The POSTs whose last event is to be rejected."""
        return [(body, answer) for body, answer in self.posted if body.invalid]


@pytest.fixture(scope="module")
async def load(system: System) -> Load:
    """The publisher's load for some seconds, all of it stored."""
    posted: list[tuple[Body, Answer]] = []

    def on_answer(body: Body, answer: Answer) -> None:
        posted.append((body, answer))
        system.remember(body, answer)

    def sender(seed: str, **how: object) -> Sender:
        bodies = Bodies(seed, corrupt_share=1.0)
        return Sender(system.services.endpoint, bodies, on_answer=on_answer, **how)  # type: ignore[arg-type]

    large = sender("large", sizes=varied_sizes("large", 1_000, 50_000))
    small = sender("small", sizes=repeat(SMALL_EVENTS), every_seconds=0.02)
    tallies = await asyncio.gather(large.run(posts=LARGE_POSTS), small.run(posts=SMALL_POSTS))
    await system.until_stored()
    return Load(*tallies, posted)


async def test_every_post_is_answered_with_its_counts(load: Load) -> None:
    """202 for every POST, though each holds a corrupt event: all others are accepted, and nothing else is rejected."""
    assert load.large.posts == LARGE_POSTS
    assert load.small.posts == SMALL_POSTS
    for tally in (load.large, load.small):
        assert tally.answered == {202: tally.posts}
        assert tally.unexpected_answers == 0
        assert tally.rejected == tally.expected_invalid
        assert tally.accepted == tally.events_sent - tally.expected_invalid


async def test_every_corruption_came_up(load: Load) -> None:
    """The load is what it is meant to be: each function with each kind, and each of them rejected at least once."""
    corruptions = {body.corruption for body, _ in load.posted if body.corruption}
    rejected = {(corruption.function, corruption.corruption_type) for corruption in corruptions if corruption.fault}
    assert rejected == set(product(SOURCES, CORRUPTION_TYPES))


async def test_answers_name_the_corrupt_event_and_its_fault(load: Load) -> None:
    """The one error of each answer is the last event, with the reason and the path of what was corrupted."""
    for body, answer in load.corrupted:
        assert body.corruption
        assert body.corruption.fault
        (error,) = orjson.loads(answer.payload)["errors"]
        expected = (body.events - 1, body.corruption.fault.reason, body.corruption.fault.path)
        assert (error["index"], error["reason"], error["path"]) == expected, body.corruption


async def test_corrupt_events_are_kept_with_their_reason(system: System, load: Load) -> None:
    """rejected_events holds each corrupt event, byte for byte, with the reason, the path and the request it came in."""
    kept = {
        row["sha256"]: row
        for row in await system.select(
            "SELECT sha256, event, length, reason, path, source, correlation_id FROM rejected_events"
        )
    }
    assert len(kept) == len(load.corrupted)
    for body, answer in load.corrupted:
        assert body.corruption
        assert body.corruption.fault
        event = bytes(msgspec.json.decode(body.content, type=list[msgspec.Raw])[-1])
        row = kept[hashlib.sha256(event).digest()]
        assert row["event"] == event
        assert row["length"] == len(event)
        assert row["source"] == orjson.loads(event)["source"]
        assert (row["reason"], row["path"]) == (body.corruption.fault.reason, body.corruption.fault.path)
        assert row["correlation_id"] == orjson.loads(answer.payload)["correlationId"]


async def test_the_ledger_balances(system: System, load: Load) -> None:
    """Gateway, streams, store and rollups count the same events."""
    ledger = await system.ledger()
    accepted = load.large.accepted + load.small.accepted
    assert ledger.events("events") == ledger.events("stored") == accepted
    assert ledger.events("repeated") == ledger.events("dead") == 0
    assert ledger.streams["REJECTED"].stored == load.large.rejected + load.small.rejected


async def test_everything_is_conserved(system: System, load: Load) -> None:
    """Every accepted event is a row, once, unchanged in every column; rollups equal the rows; no row is unknown."""
    assert system.oracle.accepted() == load.large.accepted + load.small.accepted
    await system.judge()
