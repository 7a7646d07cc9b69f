"""Declare a source of events. Everything else that Sluice knows of a source is derived from its declaration.

core/sources/<name>.py --SOURCES--> contract, COPY columns, rollups, SQL, reports, settings, dashboards
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, cast, get_args, get_type_hints

import msgspec

from core.sources.fields import EventId, Instant
from core.sources.shape import Key, keys

Stage = Literal["top", "bottom"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
AT: Final = "2000-01-01T00:00:00.000Z"
"""Placeholder of all instants in examples. Documentation replaces it by the current time: old events are rejected."""

REGISTERED: Final = "country"
"""The only text dimension whose values have a registry (`known_countries`)."""

CAMPAIGN: Final = "campaign"
"""The name of the breakdown by campaign."""

Bands = tuple[tuple[int, str], ...]
"""The first number and the name of each band, in order, from 0."""

_REQUIRED: Final = {
    "event_time": "timestamp",
    "funnel_stage": "funnelStage",
    "event_type": "eventType",
    "event_id": "eventId",
}
"""The columns of every source's table, beside purchase_amount."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,30}")


class Envelope(msgspec.Struct, rename="camel"):
    """The fields of every event. Each shape narrows `source`, `event_type` and `data`."""

    event_id: EventId
    timestamp: Instant
    source: str
    event_type: str
    data: Any


class Purchase(NamedTuple):
    """The event type whose `amount` (a JSON path without `$.`) is revenue."""

    event_type: str
    amount: str


class Coarser(NamedTuple):
    """A second view of a dimension with wider bands, and its name in reports."""

    name: str
    bands: Bands


class Example(NamedTuple):
    """An example event of a source."""

    event_type: str
    user: Mapping[str, Any]
    engagement: Mapping[str, Any]


class Dimension(NamedTuple):
    """A dimension of the audience: its name, and the JSON path (without `$.`) of its value.

    bands     bands of a number
    coarser   a second view, which reports compute from `bands`
    ranked    too many values for a rollup: reports list the most frequent ones

    A text that is neither ranked nor has a closed list of labels must be `country`, whose values have a registry.
    """

    name: str
    path: str
    bands: Bands = ()
    coarser: Coarser | None = None
    ranked: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One source of events.

    name         in events, streams, tables, reports and settings: lower case
    short_name   of its collector's process and container: `fb` becomes `fb-collector`
    title        for people
    color        of its series in dashboards
    shapes       one struct for each funnel stage; the stage is its tag
    columns      of the table `<name>_events`: column -> JSON path without `$.`; the struct determines the type
    purchase     the event type and amount of revenue
    campaign     JSON path of a purchase's campaign; None if events have none
    dimensions   of the audience, in the order of reports
    pairs        two dimensions each, whose values are also counted together
    funnel       event types, in the order of the steps of the default funnel
    examples     for each funnel stage an event type, a user and an engagement, for documentation; AT is any instant

    Raises ValueError if the parts contradict each other.
    """

    name: str
    short_name: str
    title: str
    color: str
    shapes: tuple[type[Envelope], ...]
    columns: Mapping[str, str]
    purchase: Purchase
    dimensions: tuple[Dimension, ...]
    funnel: tuple[str, ...]
    examples: Mapping[Stage, Example]
    campaign: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for problem in self._contradictions():
            raise ValueError(f"source {self.name}: {problem}")

    @property
    def table(self) -> str:
        """The partitioned table of its events."""
        return f"{self.name}_events"

    @property
    def collector(self) -> str:
        """The name of its collector's process, container and deployment."""
        return f"{self.short_name}-collector"

    @property
    def counted(self) -> tuple[Dimension, ...]:
        """The dimensions in rollups."""
        return tuple(dimension for dimension in self.dimensions if not dimension.ranked)

    @property
    def breakdowns(self) -> dict[str, tuple[Dimension, ...]]:
        """What its events are counted by after they are stored: the campaign, each dimension, and each pair.

        The name of a pair is that of both dimensions, with a comma between.
        """
        singles = [Dimension(CAMPAIGN, self.campaign, ranked=True)] if self.campaign else []
        singles += self.dimensions
        pairs = [tuple(one for name in pair for one in self.dimensions if one.name == name) for pair in self.pairs]
        return {",".join(one.name for one in columns): columns for columns in (*((one,) for one in singles), *pairs)}

    @property
    def event_types(self) -> dict[Stage, tuple[str, ...]]:
        """The event types of each funnel stage, in the order of their declaration."""
        return {stage_of(shape): get_args(get_type_hints(shape)["event_type"]) for shape in self.shapes}

    def column_of(self, path: str) -> str:
        """Return the column of the value at this JSON path."""
        return next(column for column, held in self.columns.items() if held == path)

    def keys_of(self, path: str) -> list[Key | None]:
        """Return the key of each shape at this JSON path; None for a shape without it."""
        return [keys(shape).get(path) for shape in self.shapes]

    def _contradictions(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield "the name must be lower-case letters and digits, beginning with a letter"
        tags = {shape.__struct_config__.tag_field for shape in self.shapes}
        if tags != {"funnelStage"} or tuple(map(stage_of, self.shapes)) != STAGES:
            yield f"needs a shape for each of {', '.join(STAGES)}, in this order, tagged by funnelStage"
        if any(keys(shape)["source"].labels != (self.name,) for shape in self.shapes):
            yield "the `source` of each shape must be the literal of its name"
        types = {label for labels in self.event_types.values() for label in labels}
        for event_type in {self.purchase.event_type, *self.funnel} - types:
            yield f"{event_type} is not one of its event types"
        if len(self.funnel) < 2 or len(set(self.funnel)) < len(self.funnel):
            yield "the funnel needs at least two different steps"
        for dimension in self.counted:
            labels = any(key.labels for key in self.keys_of(dimension.path) if key)
            if not (labels or dimension.bands or dimension.name == REGISTERED):
                yield f"dimension {dimension.name}: needs bands, or labels in its struct, or ranked=True"
        names = [dimension.name for dimension in self.dimensions]
        if self.campaign and CAMPAIGN in names:
            yield f"{CAMPAIGN} is not the name of a dimension: it is the campaign's"
        for pair in self.pairs:
            if len(set(pair)) != 2 or not set(pair) <= set(names):
                yield f"pair {', '.join(pair)}: name two of its dimensions"
        yield from self._wrong_columns()

    def _wrong_columns(self) -> Iterator[str]:
        paths = {"funnelStage"}.union(*map(keys, self.shapes))
        for column, path in self.columns.items():
            if path not in paths:
                yield f"column {column}: no shape has {path}"
        for column, path in {**_REQUIRED, "purchase_amount": self.purchase.amount}.items():
            if self.columns.get(column) != path:
                yield f"column {column} must contain {path}"
        read = [dimension.path for dimension in self.dimensions] + ([self.campaign] if self.campaign else [])
        for path in read:
            if path not in self.columns.values():
                yield f"no column contains {path}"


def stage_of(shape: type[Any]) -> Stage:
    """Return the funnel stage of a shape."""
    return cast(Stage, shape.__struct_config__.tag)
