"""The collector as operators run it: `python -m collector`, with its log, its health pages and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ops.local import ready
from tests.support.processes import ROOT
from tests.support.waiting import eventually


class CollectorProcess:
    """A collector that was started. `log` holds its lines as they come, `errors` what it said on stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[dict[str, Any]] = []
        self.errors = ""
        self._reading = asyncio.gather(self._read_log(), self._read_errors())

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.log.append(json.loads(line))

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.errors += line.decode()

    async def logged(self, event: str, seconds: float = 20.0) -> dict[str, Any]:
        """The first line that reports this event."""

        async def found() -> dict[str, Any] | None:
            assert self._process.returncode is None or any(line["event"] == event for line in self.log), self.errors
            return next((line for line in self.log if line["event"] == event), None)

        line = await eventually(
            found, what=f"the log says {event!r}; it says {[line['event'] for line in self.log][-5:]}", seconds=seconds
        )
        assert line is not None
        return line

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one of its pages."""
        line = await self.logged("serving health and metrics")
        return await ready.get(line["port"], path)

    async def missing(self) -> dict[str, str]:
        """What /health/ready says is missing; nothing where it is ready."""
        status, body = await self.get("/health/ready")
        answer = json.loads(body)
        assert (status == 200) == (answer["missing"] == {})
        return dict(answer["missing"])

    async def is_ready(self, seconds: float = 30.0) -> None:
        """Wait until it is ready."""

        async def nothing_missing() -> bool:
            return await self.missing() == {}

        await eventually(nothing_missing, what="the collector is ready", seconds=seconds)

    async def metric(self, name: str) -> float:
        """The value of a metric, by its name with its labels as they are exposed; 0 where it has none yet."""
        _, body = await self.get("/metrics")
        values = [line.rpartition(" ")[2] for line in body.decode().splitlines() if line.rpartition(" ")[0] == name]
        return float(values[0]) if values else 0.0

    def report(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def end(self, seconds: float = 30.0) -> int:
        """Wait until it has ended; its exit code."""
        code = await asyncio.wait_for(self._process.wait(), seconds)
        await self._reading
        return code

    async def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        self.report(signal.SIGTERM)
        return await self.end(seconds)

    async def kill(self) -> None:
        """SIGKILL."""
        self.report(signal.SIGKILL)
        await self.end()

    async def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def collector_process(
    source: str = "facebook", *arguments: str, **settings: str
) -> AsyncIterator[CollectorProcess]:
    """A collector with these settings (in lower case) and nothing else of our environment's; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "collector", "--source", source, *arguments),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **{name.upper(): value for name, value in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )
    collector = CollectorProcess(process)
    try:
        yield collector
    finally:
        await collector.close()
