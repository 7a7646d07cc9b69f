"""What a collector can be started for: the events of each source, and the rejected events."""

from __future__ import annotations

from typing import Final

from collector.sources import rejected
from collector.sources.source import Source, of_events
from core.sources import SOURCES as DECLARED

SOURCES: Final[dict[str, Source]] = {
    **{name: of_events(name) for name in DECLARED},
    rejected.SOURCE.name: rejected.SOURCE,
}
