"""Select the parser: the native one if it is built and supports the source, otherwise the Python parser."""

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

ParserChoice = Literal["auto", "native", "python"]
ParserName = Literal["native", "python"]
PARSER_CHOICES: Final[tuple[ParserChoice, ...]] = ("auto", "native", "python")
log = structlog.get_logger()


def select_parser(choice: ParserChoice, source: Source, contract: Contract) -> tuple[ParserName, Parser]:
    """Return the name of the parser and the parser itself.

    Raises Misconfigured if the native parser is required but does not support the source.
    """
    if choice == "python":
        return "python", python_parser(source, contract)
    try:
        return "native", native_parser(source, contract)
    except NativeParserUnsupported as error:
        if choice == "native":
            raise Misconfigured(f"--parser=native cannot serve {source.name}: {error}") from error
        log.info("native parser unavailable", source=source.name, reason=str(error))
        return "python", python_parser(source, contract)
