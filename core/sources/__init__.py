"""The registry of sources, one file each. docs/add-a-source.md describes how to add one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

from core.sources.declaration import Source


def _declared() -> dict[str, Source]:
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    sources = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in sorted(sources, key=lambda source: source.name)}


SOURCES: Final[Mapping[str, Source]] = _declared()

if TYPE_CHECKING:
    SourceName = str
else:  # a closed list, which msgspec checks and OpenAPI shows
    SourceName = Literal[tuple(SOURCES)]
