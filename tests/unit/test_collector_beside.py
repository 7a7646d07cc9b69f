"""What runs beside a collector's flow is kept running, and readiness names what does not."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from collector.beside import keep_running
from core.health import Readiness
from core.lifecycle import cancelled


@pytest.mark.parametrize("error", [AttributeError("no attribute"), RuntimeError("x"), OSError("gone")])
async def test_no_exception_ends_a_task_for_good(error: Exception) -> None:
    """After an exception the collector is not ready and says why; then the task runs again, and it is ready."""
    readiness = Readiness()
    runs, fails, works = 0, asyncio.Event(), asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            fails.set()
            raise error
        works.set()
        await asyncio.Event().wait()

    with capture_logs() as lines:
        task = asyncio.create_task(keep_running("watermark", work, readiness, again_seconds=0.5))
        await fails.wait()
        await asyncio.sleep(0)
        assert readiness.answer() == (503, b'{"status":"not ready","missing":{"watermark":%s}}' % _json(repr(error)))
        await works.wait()
        assert readiness.ready
        await cancelled([task])
    (line,) = lines
    assert (line["event"], line["task"], line["error"]) == ("task failed", "watermark", repr(error))
    assert ("traceback" in line) == (not isinstance(error, OSError))


def _json(text: str) -> bytes:
    return b'"%s"' % text.encode()
