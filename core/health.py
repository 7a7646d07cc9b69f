"""What /health/live and /health/ready answer.

A service keeps one `Readiness`; each thing that it needs is either fine or has a reason why not. The gateway and
the reporter serve these pages themselves; core/health_server.py serves them for every other program.
"""

from __future__ import annotations

import orjson


class Readiness:
    """What is missing before the service can do its work, by name."""

    def __init__(self, *needed: str) -> None:
        self._missing: dict[str, str] = dict.fromkeys(needed, "starting")

    def set_ready(self, name: str) -> None:
        """This need is met."""
        self._missing.pop(name, None)

    def set_not_ready(self, name: str, reason: str) -> None:
        """This need is not met."""
        self._missing[name] = reason

    def reason(self, name: str) -> str:
        """Why this need is not met; empty if it is met."""
        return self._missing.get(name, "")

    @property
    def ready(self) -> bool:
        return not self._missing

    def answer(self) -> tuple[int, bytes]:
        """Status and JSON body of /health/ready."""
        status = "ready" if self.ready else "not ready"
        return (200 if self.ready else 503), orjson.dumps({"status": status, "missing": self._missing})


LIVE = orjson.dumps({"status": "live"})
