"""The origin of a request: its correlation ID, its trace and its time of arrival."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from core.correlation import request_ids
from core.sources.fields import EPOCH

_EPOCH_SECONDS: Final = int(EPOCH.timestamp())


class Origin(NamedTuple):
    """The origin that a message records for each request.

    received_at is an RFC 3339 instant; received is the same instant in microseconds since 2000.
    """

    correlation_id: str
    traceparent: str | None
    received_at: str
    received: int


def origin(headers: Mapping[str, str]) -> Origin:
    """Return the origin of a request that arrives now. `headers` has lower-case names."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return Origin(
        *request_ids(headers.get("x-correlation-id"), headers.get("traceparent")),
        f"{_second(seconds)}.{microseconds:06}Z",
        (seconds - _EPOCH_SECONDS) * 1_000_000 + microseconds,
    )


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    """Format a second since 1970. Requests within one second share the result."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
