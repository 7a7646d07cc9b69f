"""Event kinds: combinations of source, funnel stage and type that exist, and the parameters that filter by them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType

from core.sources import SOURCES, SourceName
from core.sources.declaration import STAGES, Stage
from reporter.parameters import SOURCE
from reporter.query_params import BadQuery, ChoiceList, QueryParams

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

EVENT_TYPES: Final = tuple(dict.fromkeys(str(event_kind.event_type) for event_kind in EVENT_KINDS))
FUNNEL_STAGE: Final = ChoiceList[Stage](
    "funnelStage",
    "Only events of these funnel stages: comma separated, in repeated parameters, or both.",
    allowed=STAGES,
)
EVENT_TYPE: Final = ChoiceList[EventType](
    "eventType",
    "Only events of these types: comma separated, in repeated parameters, or both. Each has to occur with `source` and "
    "`funnelStage`.",
    allowed=EVENT_TYPES,
)


def matching_event_kinds(params: QueryParams) -> tuple[EventKind, ...]:
    """Return the event kinds that `source`, `funnelStage` and `eventType` select.

    Raises BadQuery if a type does not occur with the others.
    """
    sources, stages, event_types = params.get(SOURCE), params.get(FUNNEL_STAGE), params.get(EVENT_TYPE)
    return _matching(sources, stages, event_types)


@lru_cache(512)  # the usual ones of some thousands of combinations
def _matching(
    sources: tuple[SourceName, ...] | None, stages: tuple[Stage, ...] | None, event_types: tuple[EventType, ...] | None
) -> tuple[EventKind, ...]:
    possible = [
        event_kind
        for event_kind in EVENT_KINDS
        if (sources is None or event_kind.source in sources) and (stages is None or event_kind.funnel_stage in stages)
    ]
    if event_types is None:
        return tuple(possible)
    allowed = list(dict.fromkeys(str(event_kind.event_type) for event_kind in possible))
    if missing := [event_type for event_type in event_types if event_type not in allowed]:
        raise BadQuery(
            "eventType",
            f"{missing[0]} does not occur with source={_text(sources)} and funnelStage={_text(stages)}",
            allowed,
        )
    return tuple(event_kind for event_kind in possible if event_kind.event_type in event_types)


def _text(values: Sequence[str] | None) -> str:
    return ",".join(values) if values else "any"


def sources_of(event_kinds: Sequence[EventKind]) -> tuple[SourceName, ...]:
    """Return the sources of event kinds, in their declared order."""
    return tuple(source for source in SOURCES if any(event_kind.source == source for event_kind in event_kinds))
