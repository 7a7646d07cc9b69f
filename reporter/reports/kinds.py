"""The kinds of events: which source, funnel stage and type occur together, and the filters that choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType

from core.sources import SOURCES, SourceName
from core.sources.declaration import STAGES, Stage
from reporter.parameters import SOURCE
from reporter.query import BadQuery, Choice, QueryParams

_TYPES: Final = [
    (name, stage, event_type)
    for name, source in SOURCES.items()
    for stage, event_types in source.event_types.items()
    for event_type in event_types
]

if TYPE_CHECKING:
    EventType = str
else:  # a closed list, as OpenAPI shows it
    EventType = Literal[tuple(dict.fromkeys(event_type for _, _, event_type in _TYPES))]


class Kind(NamedTuple):
    """A source, stage and type that occur together; as a group, UNSET where it is not grouped by."""

    source: SourceName | UnsetType
    funnel_stage: Stage | UnsetType
    event_type: EventType | UnsetType

    def grouped(self, by: Sequence[str]) -> Kind:
        """The group that this kind falls into."""
        return Kind(
            self.source if "source" in by else UNSET,
            self.funnel_stage if "funnelStage" in by else UNSET,
            self.event_type if "eventType" in by else UNSET,
        )


KINDS: Final = tuple(Kind(*found) for found in _TYPES)

FUNNEL_STAGE: Final = Choice[Stage]("funnelStage", "Events of this funnel stage alone.", allowed=STAGES)
EVENT_TYPE: Final = Choice[EventType](
    "eventType",
    "Events of this type alone; the type has to occur with `source` and `funnelStage`.",
    allowed=tuple(dict.fromkeys(str(kind.event_type) for kind in KINDS)),
)


def chosen(params: QueryParams) -> list[Kind]:
    """The kinds that `source`, `funnelStage` and `eventType` let pass. Raises BadQuery where there is none."""
    source, stage, event_type = params.get(SOURCE), params.get(FUNNEL_STAGE), params.get(EVENT_TYPE)
    possible = [kind for kind in KINDS if source in {None, kind.source} and stage in {None, kind.funnel_stage}]
    kinds = [kind for kind in possible if event_type in (None, kind.event_type)]
    if not kinds:
        raise BadQuery(
            "eventType",
            f"{event_type} does not occur with source={source or 'any'} and funnelStage={stage or 'any'}",
            list(dict.fromkeys(str(kind.event_type) for kind in possible)),
        )
    return kinds


def sources_of(kinds: Sequence[Kind]) -> tuple[SourceName, ...]:
    """The sources that these kinds are of."""
    return tuple(source for source in SOURCES if any(kind.source == source for kind in kinds))
