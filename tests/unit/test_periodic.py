"""No error ends a task that runs beside a service's work, and readiness names one that fails unexpectedly."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from core.errors import Misconfigured
from core.health import Readiness
from core.lifecycle import cancel_and_wait
from core.periodic import PeriodicTask, periodically


@pytest.mark.parametrize(
    "error", [AttributeError("no attribute"), RuntimeError("x"), OSError("gone"), PermissionError("denied")]
)
async def test_no_error_ends_a_task(error: Exception) -> None:
    """The task runs again after any error. An unexpected one is logged with its traceback, and the service is not
    ready until the next success; an expected one is a line of the log, and counts for readiness only if it lasts."""
    readiness, successes = Readiness(), []
    fails, succeeds, attempts = asyncio.Event(), asyncio.Event(), 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            fails.set()
            raise error
        await succeeds.wait()

    def succeeded(at: float) -> None:
        successes.append(at)
        done.set()

    done = asyncio.Event()
    with capture_logs() as lines:
        step = PeriodicTask(
            "watermark", succeeded, readiness=readiness, needs_operator=lambda error: type(error) is PermissionError
        )
        task = asyncio.create_task(periodically(step, work, every_seconds=3600, retry_seconds=0.01))
        await fails.wait()
        await asyncio.sleep(0)
        assert readiness.ready == (type(error) is OSError)
        assert not successes
        succeeds.set()
        await done.wait()
        assert readiness.ready
        await cancel_and_wait([task])
    # The log is the whole process's: what an earlier test left behind may be collected, and warned of, meanwhile.
    failed, again = (line for line in lines if "step" in line)
    assert (failed["step"], failed["error"], again["step"]) == ("watermark", repr(error), "watermark")
    assert (failed["exc_info"] is None) == isinstance(error, OSError)


@pytest.mark.parametrize(("error", "ready"), [(OSError("gone"), True), (Misconfigured("wrong password"), False)])
async def test_readiness_names_what_needs_an_operator(error: Exception, ready: bool) -> None:
    """An expected error is a line of the log. If only an operator can remove its cause, the service is not ready until
    the next success."""
    readiness = Readiness()
    step = PeriodicTask("ledger", needs_operator=lambda found: isinstance(found, Misconfigured), readiness=readiness)

    async def fail() -> None:
        raise error

    async def succeed() -> None:
        pass

    with capture_logs() as lines:
        assert not await step.attempt(fail())
    assert lines[0]["exc_info"] is None
    assert readiness.ready == ready
    assert readiness.reason("ledger") == ("" if ready else repr(error))
    assert await step.attempt(succeed())
    assert readiness.ready
