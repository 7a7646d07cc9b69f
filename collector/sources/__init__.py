"""The sources that a collector can be started for: each declared source, and the rejected events."""

from __future__ import annotations

from typing import Final

from collector.sources import rejected
from collector.sources.source import Source, event_source
from core.sources import SOURCES as DECLARED

SOURCES: Final[dict[str, Source]] = {
    **{name: event_source(name) for name in DECLARED},
    rejected.SOURCE.name: rejected.SOURCE,
}
