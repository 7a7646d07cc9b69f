"""Run a task periodically until it is cancelled.

    attempt --returned--> record the success --every_seconds--> attempt
        \\--raised--> log --retry_seconds--> attempt

Invariant: no error ends such a task. Errors are logged, unexpected ones with a traceback. While an error stays the
same, it is logged again after LOG_AGAIN_SECONDS. The metric of the last success shows how long the task has failed.
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


class PeriodicTask:
    """A task that is run periodically.

    succeeded        called after each success, with its Unix time
    expected         errors of servers: logged without a traceback
    needs_operator   whether an error lasts until an operator removes its cause
    readiness        set to not ready by an error that is unexpected or needs an operator, until the next success
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
        self._failing = ""  # the error logged last, until the next success
        self._logged_at = 0.0

    async def attempt(self, work: Awaitable[None]) -> bool:
        """Await `work` once. Return whether it succeeded. Raises only a cancellation."""
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
            log.info("step recovered", step=self.name)
        return True

    def _log(self, error: Exception) -> None:
        text = repr(error)
        if text == self._failing and time.monotonic() - self._logged_at < LOG_AGAIN_SECONDS:
            return
        self._failing, self._logged_at = text, time.monotonic()
        traceback = None if isinstance(error, self._expected) else error
        log.warning("step failed", step=self.name, error=text, exc_info=traceback)


async def periodically(
    step: PeriodicTask, work: Callable[[], Awaitable[None]], every_seconds: float, retry_seconds: float | None = None
) -> None:
    """Attempt a task forever: `every_seconds` after a success, `retry_seconds` (default: the same) after an error."""
    retry_seconds = every_seconds if retry_seconds is None else retry_seconds
    while True:
        succeeded = await step.attempt(work())
        await asyncio.sleep(every_seconds if succeeded else retry_seconds)
