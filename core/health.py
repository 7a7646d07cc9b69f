"""Health and metrics over HTTP: /health/live, /health/ready and /metrics.

A service keeps one `Readiness`; each thing that it needs is either fine or has a reason why not. The gateway and
the reporter serve these pages themselves; `serve` is for a program that has no HTTP server of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import orjson

from core.errors import Misconfigured
from core.metrics import CONTENT_TYPE, exposition


class Readiness:
    """What is missing before the service can do its work, by name."""

    def __init__(self, *needed: str) -> None:
        self._missing: dict[str, str] = dict.fromkeys(needed, "starting")

    def fine(self, name: str) -> None:
        """This need is met."""
        self._missing.pop(name, None)

    def missing(self, name: str, reason: str) -> None:
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


def serve(host: str, port: int, readiness: Readiness) -> tuple[int, Callable[[], None]]:
    """Serve the three pages from a thread of their own. The port in use and a call that stops it.

    Raises Misconfigured where it cannot listen there.
    """

    def pages(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        status, kind, body = 404, "application/json", b'{"title":"Not Found","status":404}'
        match environment["PATH_INFO"]:
            case "/health/live":
                status, body = 200, LIVE
            case "/health/ready":
                status, body = readiness.answer()
            case "/metrics":
                status, kind, body = 200, CONTENT_TYPE, exposition()
        names = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}
        start(names[status], [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    class Quiet(WSGIRequestHandler):
        timeout = 5  # a client that says nothing does not hold the thread

        def log_message(self, *_: Any) -> None:
            pass

    try:
        server = make_server(host, port, pages, server_class=WSGIServer, handler_class=Quiet)
    except OSError as error:
        raise Misconfigured(f"cannot serve health and metrics on {host}:{port}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_port, server.shutdown
