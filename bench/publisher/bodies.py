"""Bodies of the publisher's load: many events in one JSON array, in about a microsecond per event.

Invariant: all events have different ids, except deliberate repeats. With a seed, all but the clock is reproducible.

    page of templates --fill--> events --repeat, make late--> parts --join, corrupt--> Body
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import orjson

from bench.publisher.events import CORRUPTION_TYPES, SOURCES, Clock, Corruption, RandomValues, corrupt, instant, make
from bench.publisher.templates import PAGE_EVENTS, UUIDS_A_PAGE, Page, make_page, uuid_lots
from bench.publisher.values import VALUES, Values

PAGES = 1024  # 65,536 templates, each with its own person, place, item and price
EARLIER_EVENTS = 16_384  # kept for repeats

_BETWEEN_EVENTS = b"},{"  # never inside an event: all its objects are values of keys
_STAMP = b'"timestamp":"'
_KEY = re.compile(rb'"eventId":"([^"]*)","timestamp":"([^"]*)","source":"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Body:
    """One request body: a JSON array of `events` elements. A corrupt event, if any, is the last one."""

    content: bytes
    events: int
    repeated: int = 0  # of them, sent before
    late: int = 0  # of them, stamped in the past
    corruption: Corruption | None = None

    @property
    def invalid(self) -> int:
        """The number of events that the contract rejects: 1 or 0."""
        return int(self.corruption is not None and self.corruption.fault is not None)

    def valid_keys(self) -> list[tuple[str, str, str]]:
        """Return (source, event id, timestamp) of each valid event, in order: the key that identifies an event."""
        end = self.content.rfind(_BETWEEN_EVENTS) if self.invalid else len(self.content)
        keys = _KEY.findall(self.content, 0, max(end, 0))
        return [(source.decode(), event_id.decode(), stamp.decode()) for event_id, stamp, source in keys]


class Part(NamedTuple):
    """Events of a body, separated by commas, with the numbers of repeated and late ones."""

    text: bytes
    repeated: int = 0
    late: int = 0


class Bodies:
    """Generates bodies: the same ones for the same seed, options and clock.

    corrupt_share         share of bodies that have one more, corrupt, event
    duplicates            share of events that were sent before
    late                  share of events with a timestamp up to `late_up_to_seconds` in the past
    now                   returns seconds since 1970
    """

    def __init__(
        self,
        seed: object,
        *,
        corrupt_share: float = 0.10,
        duplicates: float = 0.0,
        late: float = 0.0,
        late_up_to_seconds: float = 0.0,
        values: Values = VALUES["publisher"],
        now: Clock = time.time,
    ) -> None:
        if duplicates + late > 1:
            raise ValueError("duplicates and late together exceed 1")
        self._seed = seed
        self._rng = Random(f"{seed}/bodies")
        self._corrupt_share = corrupt_share
        self._duplicates = duplicates
        self._late = late
        self._late_up_to_seconds = late_up_to_seconds
        self._values = values
        self._now = now
        self._shared: dict[bytes, bytes] = {}
        self._templates: dict[int, Page] = {}
        self._uuids = uuid_lots(self._rng, UUIDS_A_PAGE)
        self._earlier: list[bytes] = []  # events that may be repeated

    def make_templates(self) -> None:
        """Generate all pages now, in about a second. Otherwise each page is generated at its first use."""
        for number in range(PAGES):
            self._template(number)

    def _template(self, number: int) -> Page:
        if number not in self._templates:
            self._templates[number] = make_page(Random(f"{self._seed}/page/{number}"), self._shared, self._values)
        return self._templates[number]

    def body(self, events: int) -> Body:
        """Return a body of `events` (at least 1) valid events, the last ones at now, and perhaps a corrupt one."""
        return self.assemble(events, list(self.parts(events)))

    def parts(self, events: int) -> Iterator[Part]:
        """Yield the valid events of a body, PAGE_EVENTS at a time, so that the caller can do other work in between."""
        pages = -(-events // PAGE_EVENTS)
        first_ms = int(self._now() * 1000) - pages + 1
        for number in range(pages):
            page = self._template(self._rng.randrange(PAGES))
            stamp = instant((first_ms + number) / 1000).encode()
            text = page.fill(next(self._uuids), stamp, self._rng.randbytes(page.id_struct.size))
            left = events - number * PAGE_EVENTS
            if left < PAGE_EVENTS:
                text = text[: page.ends[left - 1]]
            yield self._disturb(text) if self._duplicates or self._late else Part(text)

    def assemble(self, events: int, parts: list[Part]) -> Body:
        """Return the body of the events in `parts`, and perhaps a corrupt one."""
        texts = [part.text for part in parts]
        corruption = None
        if self._rng.random() < self._corrupt_share:
            extra = make(self._rng, RandomValues(self._rng, self._now), self._values)
            corruption = corrupt(extra, self._rng.choice(SOURCES), self._rng.choice(CORRUPTION_TYPES))
            texts.append(orjson.dumps(extra))
        texts[0] = b"[" + texts[0]
        texts[-1] += b"]"
        return Body(
            b",".join(texts),
            events + (corruption is not None),
            repeated=sum(part.repeated for part in parts),
            late=sum(part.late for part in parts),
            corruption=corruption,
        )

    def _disturb(self, text: bytes) -> Part:
        """Replace some events by earlier ones, and move others into the past."""
        events = text[1:-1].split(_BETWEEN_EVENTS)
        repeats = int(len(events) * self._duplicates + self._rng.random())
        moves = int(len(events) * self._late + self._rng.random())
        places = self._rng.sample(range(len(events)), min(repeats + moves, len(events)))
        repeated, moved = places[:repeats], places[repeats:]
        for place in moved:
            events[place] = self._in_the_past(events[place])
        self._remember([event for place, event in enumerate(events) if place not in repeated])
        if not self._earlier:
            repeated = []
        for place in repeated:
            events[place] = self._rng.choice(self._earlier)
        return Part(b"{%b}" % _BETWEEN_EVENTS.join(events), len(repeated), len(moved))

    def _in_the_past(self, event: bytes) -> bytes:
        start = event.index(_STAMP) + len(_STAMP)
        earlier = instant(self._now() - self._rng.random() * self._late_up_to_seconds)
        return event.replace(event[start : start + 24], earlier.encode())

    def _remember(self, events: list[bytes]) -> None:
        """Keep one of `events` for repeats. It replaces an older one if EARLIER_EVENTS are kept."""
        if not self._duplicates or not events:
            return
        if len(self._earlier) < EARLIER_EVENTS:
            self._earlier.append(self._rng.choice(events))
        else:
            self._earlier[self._rng.randrange(EARLIER_EVENTS)] = self._rng.choice(events)
