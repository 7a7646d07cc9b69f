"""Choose the parser: the native one where it is built and knows the source, else Python's."""

from __future__ import annotations

from typing import Final, Literal

import structlog

from collector.parse.native import native_parser
from collector.parse.native_schema import NativeParserUnsupported
from collector.parse.parsed import Parser
from collector.parse.python import python_parser
from collector.sources.source import Source
from core.errors import Misconfigured
from core.events.contract import Contract

Choice = Literal["auto", "native", "python"]
Named = Literal["native", "python"]
CHOICES: Final[tuple[Choice, ...]] = ("auto", "native", "python")
log = structlog.get_logger()


def choose(choice: Choice, source: Source, contract: Contract) -> tuple[Named, Parser]:
    """The parser that was asked for, and which one it is.

    Raises Misconfigured where it has to be the native one and cannot be.
    """
    if choice == "python":
        return "python", python_parser(source, contract)
    try:
        return "native", native_parser(source, contract)
    except NativeParserUnsupported as why:
        if choice == "native":
            raise Misconfigured(f"--parser=native cannot serve {source.name}: {why}") from why
        log.info("the Python parser serves", source=source.name, reason=str(why))
        return "python", python_parser(source, contract)
