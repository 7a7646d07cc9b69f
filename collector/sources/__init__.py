"""The sources that a collector can be started for."""

from __future__ import annotations

from typing import Final

from collector.source import Source
from collector.sources import facebook, refused, tiktok

SOURCES: Final[dict[str, Source]] = {source.name: source for source in (facebook.SOURCE, tiktok.SOURCE, refused.SOURCE)}
