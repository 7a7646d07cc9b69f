"""A gateway worker whose POST /events does nothing, to measure the cost of Robyn alone.

    python -m bench.noop SLOT

Everything else is the gateway's: routes, workers, CPU pinning, event loop, garbage collection, health.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from typing import Final

import uvloop

from core import logs
from core.settings import load
from gateway.app import Worker
from gateway.robyn_api import Request, Response
from gateway.routes import Route
from gateway.settings import GatewaySettings

NOTHING: Final = Response(202, {"Content-Type": "application/json"}, b'{"accepted":1}')


class Noop(Worker):
    """Returns the same bytes for every POST."""

    def routes(self) -> Iterable[Route]:
        """Yield the gateway's routes, with another handler for POST /events."""
        for route in super().routes():
            yield route._replace(handler=_nothing) if route[:2] == ("POST", "/events") else route


async def _nothing(_: Request) -> Response:
    return NOTHING


def main() -> int:
    """Run one worker."""
    settings = load(GatewaySettings)
    logs.configure("noop", settings.log_level)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    return Noop(settings, slot=int(sys.argv[1])).run()


if __name__ == "__main__":
    os._exit(main())
