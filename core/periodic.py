"""Run a small task again and again beside a service's work, until it is cancelled.

    attempt --returned--> its last success noted --every_seconds--> attempt
        \\--raised--> logged --again_seconds--> attempt

Invariant: no error ends such a task, whatever it is. It is logged, with its traceback where it is none that passes by
itself, and again only after a while as long as it stays the same; the metric of the last success grows old meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from core.errors import SluiceError
from core.health import Readiness

LOG_AGAIN_SECONDS: Final = 60.0

log = structlog.get_logger()


class Step:
    """One task that is attempted again and again.

    succeeded        called after each success, with its Unix time
    expected         errors of servers, whose text says enough: logged without their traceback
    needs_operator   whether such an error lasts until an operator removes its cause
    readiness        of the service: not ready from an error that is not expected, or needs an operator, until the next
                     success
    """

    def __init__(
        self,
        name: str,
        succeeded: Callable[[float], None] = lambda _: None,
        expected: tuple[type[Exception], ...] = (),
        needs_operator: Callable[[Exception], bool] = lambda _: False,
        readiness: Readiness | None = None,
    ) -> None:
        self.name = name
        self._succeeded = succeeded
        self._needs_operator = needs_operator
        self._readiness = readiness
        self._expected: tuple[type[Exception], ...] = (OSError, TimeoutError, SluiceError, *expected)
        self._failing = ""  # the error that was logged last, until the next success
        self._logged_at = 0.0

    async def attempt(self, work: Awaitable[None]) -> bool:
        """Do it once; whether it succeeded. Raises nothing but a cancellation."""
        try:
            await work
        except Exception as error:
            self._log(error)
            if self._readiness and (not isinstance(error, self._expected) or self._needs_operator(error)):
                self._readiness.set_not_ready(self.name, repr(error))
            return False
        self._succeeded(time.time())
        if self._readiness:
            self._readiness.set_ready(self.name)
        if self._failing:
            self._failing = ""
            log.info("step succeeds again", step=self.name)
        return True

    def _log(self, error: Exception) -> None:
        text = repr(error)
        if text == self._failing and time.monotonic() - self._logged_at < LOG_AGAIN_SECONDS:
            return
        self._failing, self._logged_at = text, time.monotonic()
        traceback = None if isinstance(error, self._expected) else error
        log.warning("step failed and is tried again", step=self.name, error=text, exc_info=traceback)


async def periodically(
    step: Step, work: Callable[[], Awaitable[None]], every_seconds: float, again_seconds: float | None = None
) -> None:
    """Attempt a step for ever: `every_seconds` after a success, `again_seconds` (the same) after an error."""
    again_seconds = every_seconds if again_seconds is None else again_seconds
    while True:
        succeeded = await step.attempt(work())
        await asyncio.sleep(every_seconds if succeeded else again_seconds)
