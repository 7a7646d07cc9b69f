"""JSON logs: one object a line on stdout, with the service, the instant and the correlation ID where there is one.

A log line never holds a payload or personal data: reasons, paths, counts and identifiers of ours only.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog


def _encode(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


def configure(service: str, level: str) -> structlog.stdlib.BoundLogger:
    """Set up logging for this process and return its logger.

    Lines of libraries that use the standard library's logging are written as JSON too.
    """

    def stamp_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service  # not a context variable: Robyn runs its handlers in contexts of its own
        return event

    stamps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        stamp_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        processors=[*stamps, structlog.processors.JSONRenderer(serializer=_encode)],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=lambda event, **_: _encode(event).decode()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
