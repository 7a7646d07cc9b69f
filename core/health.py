"""Readiness of a service, for /health/live and /health/ready.

A service has one `Readiness` with the names of its needs; each need is ready or has a reason why not. The gateway and
the reporter serve these pages themselves; core/health_server.py serves them for other programs.
"""

from __future__ import annotations

import orjson


class Readiness:
    """The needs of a service that are not ready, by name, with the reason."""

    def __init__(self, *needed: str) -> None:
        self._missing: dict[str, str] = dict.fromkeys(needed, "starting")

    def set_ready(self, name: str) -> None:
        """Mark a need as ready."""
        self._missing.pop(name, None)

    def set_not_ready(self, name: str, reason: str) -> None:
        """Mark a need as not ready."""
        self._missing[name] = reason

    def reason(self, name: str) -> str:
        """Return why a need is not ready; empty if it is ready."""
        return self._missing.get(name, "")

    @property
    def ready(self) -> bool:
        return not self._missing

    def answer(self) -> tuple[int, bytes]:
        """Return status and JSON body of /health/ready."""
        status = "ready" if self.ready else "not ready"
        return (200 if self.ready else 503), orjson.dumps({"status": status, "missing": self._missing})


LIVE = orjson.dumps({"status": "live"})
