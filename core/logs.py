"""JSON logs: one object a line on stdout, with service, time and correlation ID.

Log lines of libraries, warnings, and uncaught errors (in a thread, in a destructor, at exit) have the same format. A
log line never contains a payload or personal data: only reasons, paths, counts and our own identifiers.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import orjson
import structlog


def _encode(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


def configure(service: str, level: str) -> structlog.stdlib.BoundLogger:
    """Set up logging for this process and return its logger.

    Log lines of libraries that use the standard library's logging are JSON, too.
    """

    def stamp_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service  # not a context variable, because Robyn runs handlers in its own contexts
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
    logging.captureWarnings(True)
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    _log_uncaught(logger)
    return logger


def _log_uncaught(logger: structlog.stdlib.BoundLogger) -> None:
    """Log uncaught errors instead of printing them."""

    def at_the_end(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        logger.critical("uncaught error", exc_info=error)

    def in_a_thread(args: threading.ExceptHookArgs) -> None:
        logger.error("uncaught error in a thread", thread=getattr(args.thread, "name", None), exc_info=args.exc_value)

    def in_passing(args: sys.UnraisableHookArgs) -> None:
        where = getattr(args.object, "__qualname__", type(args.object).__qualname__)
        logger.error("uncaught error in a finalizer", message=args.err_msg, where=where, exc_info=args.exc_value)

    sys.excepthook = at_the_end
    threading.excepthook = in_a_thread
    sys.unraisablehook = in_passing
