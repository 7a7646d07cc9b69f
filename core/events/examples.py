"""A whole, valid event of each source and stage, for documentation."""

from __future__ import annotations

from typing import Any, Final

from core.sources import SOURCES
from core.sources.declaration import AT, Source, Stage

__all__ = ["AT", "EXAMPLES"]


def _event(source: Source, stage: Stage, number: int) -> dict[str, Any]:
    example = source.examples[stage]
    return {
        "eventId": f"{source.short_name}-{number}",
        "timestamp": AT,
        "source": source.name,
        "funnelStage": stage,
        "eventType": example.event_type,
        "data": {"user": example.user, "engagement": example.engagement},
    }


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    f"{name} {stage}": _event(source, stage, number)
    for name, source in SOURCES.items()
    for number, stage in enumerate(source.examples, 1)
}
"""By source and stage."""
