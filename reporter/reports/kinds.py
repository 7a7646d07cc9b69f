"""The kinds of events: which source, funnel stage and type occur together, and the filters that choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

from msgspec import UNSET, UnsetType

from core.events import facebook, tiktok
from core.events.subjects import SOURCES, Source
from reporter.query import Asked, BadQuery, Parameter

Stage = Literal["top", "bottom"]
EventType = Literal[facebook.TopType, facebook.BottomType, tiktok.TopType, tiktok.BottomType]


class Kind(NamedTuple):
    """A source, stage and type that occur together; as a group, UNSET where it is not grouped by."""

    source: Source | UnsetType
    funnel_stage: Stage | UnsetType
    event_type: EventType | UnsetType

    def grouped(self, by: Sequence[str]) -> Kind:
        """The group that this kind falls into."""
        return Kind(
            self.source if "source" in by else UNSET,
            self.funnel_stage if "funnelStage" in by else UNSET,
            self.event_type if "eventType" in by else UNSET,
        )


KINDS: Final = (
    *(Kind("facebook", "top", event_type) for event_type in get_args(facebook.TopType)),
    *(Kind("facebook", "bottom", event_type) for event_type in get_args(facebook.BottomType)),
    *(Kind("tiktok", "top", event_type) for event_type in get_args(tiktok.TopType)),
    *(Kind("tiktok", "bottom", event_type) for event_type in get_args(tiktok.BottomType)),
)

FUNNEL_STAGE: Final = Parameter("funnelStage", "Events of this funnel stage alone.", allowed=get_args(Stage))
EVENT_TYPE: Final = Parameter(
    "eventType",
    "Events of this type alone; the type has to occur with `source` and `funnelStage`.",
    allowed=tuple(dict.fromkeys(str(kind.event_type) for kind in KINDS)),
)


def chosen(asked: Asked) -> list[Kind]:
    """The kinds that `source`, `funnelStage` and `eventType` let pass. Raises BadQuery where there is none."""
    source, stage, event_type = asked.choice("source"), asked.choice("funnelStage"), asked.choice("eventType")
    possible = [kind for kind in KINDS if source in (None, kind.source) and stage in (None, kind.funnel_stage)]
    kinds = [kind for kind in possible if event_type in (None, kind.event_type)]
    if not kinds:
        raise BadQuery(
            "eventType",
            f"{event_type} does not occur with source={source or 'any'} and funnelStage={stage or 'any'}",
            list(dict.fromkeys(str(kind.event_type) for kind in possible)),
        )
    return kinds


def sources_of(kinds: Sequence[Kind]) -> tuple[Source, ...]:
    """The sources that these kinds are of."""
    return tuple(source for source in SOURCES if any(kind.source == source for kind in kinds))
