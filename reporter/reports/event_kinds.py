"""Event kinds: combinations of source, funnel stage and type that exist, and the parameters that filter by them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType

from core.sources import SOURCES, SourceName
from core.sources.declaration import STAGES, Stage
from reporter.parameters import SOURCE
from reporter.query_params import BadQuery, Choice, QueryParams

_TYPES: Final = [
    (name, stage, event_type)
    for name, source in SOURCES.items()
    for stage, event_types in source.event_types.items()
    for event_type in event_types
]

if TYPE_CHECKING:
    EventType = str
else:  # a closed list, so that OpenAPI shows it
    EventType = Literal[tuple(dict.fromkeys(event_type for _, _, event_type in _TYPES))]


class EventKind(NamedTuple):
    """A source, stage and type that occur together. In a group, parts that are not grouped by are UNSET."""

    source: SourceName | UnsetType
    funnel_stage: Stage | UnsetType
    event_type: EventType | UnsetType

    def grouped(self, by: Sequence[str]) -> EventKind:
        """Return the group of this kind."""
        return EventKind(
            self.source if "source" in by else UNSET,
            self.funnel_stage if "funnelStage" in by else UNSET,
            self.event_type if "eventType" in by else UNSET,
        )


EVENT_KINDS: Final = tuple(EventKind(*parts) for parts in _TYPES)

FUNNEL_STAGE: Final = Choice[Stage]("funnelStage", "Only events of this funnel stage.", allowed=STAGES)
EVENT_TYPE: Final = Choice[EventType](
    "eventType",
    "Only events of this type; it has to occur with `source` and `funnelStage`.",
    allowed=tuple(dict.fromkeys(str(event_kind.event_type) for event_kind in EVENT_KINDS)),
)


def matching_event_kinds(params: QueryParams) -> tuple[EventKind, ...]:
    """Return the event kinds that `source`, `funnelStage` and `eventType` select. Raises BadQuery if there is none."""
    source, stage, event_type = params.get(SOURCE), params.get(FUNNEL_STAGE), params.get(EVENT_TYPE)
    return _matching(source, stage, event_type)


@cache  # closed lists: some 200 combinations
def _matching(source: SourceName | None, stage: Stage | None, event_type: EventType | None) -> tuple[EventKind, ...]:
    possible = [
        event_kind
        for event_kind in EVENT_KINDS
        if source in {None, event_kind.source} and stage in {None, event_kind.funnel_stage}
    ]
    event_kinds = [event_kind for event_kind in possible if event_type in (None, event_kind.event_type)]
    if not event_kinds:
        raise BadQuery(
            "eventType",
            f"{event_type} does not occur with source={source or 'any'} and funnelStage={stage or 'any'}",
            list(dict.fromkeys(str(event_kind.event_type) for event_kind in possible)),
        )
    return tuple(event_kinds)


def sources_of(event_kinds: Sequence[EventKind]) -> tuple[SourceName, ...]:
    """Return the sources of event kinds, in their declared order."""
    return tuple(source for source in SOURCES if any(event_kind.source == source for event_kind in event_kinds))
