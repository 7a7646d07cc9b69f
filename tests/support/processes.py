"""Other processes: Python programs of a test's own, and waiting for an end that the kernel reports instead of
polling."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def python_running(script: str, *arguments: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `script`, with pipes to its input and output; killed at the end.

    `how` is for subprocess.Popen.
    """
    argv = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


async def ended(*pids: int, seconds: float = 10.0) -> None:
    """Return when all of `pids` have ended (a zombie has). Fails if one has not within `seconds`."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            readable, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], seconds)
            assert readable, f"process {pid} still runs after {seconds:g} s"
        finally:
            os.close(descriptor)


async def stopped(pid: int) -> None:
    """Return when `pid` stands still with all its threads: a SIGSTOP has not done its work when it is sent."""

    async def stands_still() -> bool:
        return all(state == "T" for state in _states(pid))

    await eventually(stands_still, what=f"process {pid} stands still", seconds=10)


@contextlib.asynccontextmanager
async def standing_still(*pids: int) -> AsyncIterator[None]:
    """Processes do nothing meanwhile, not even end."""
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # a session of PostgreSQL that has ended since
                os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            await stopped(pid)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> Iterator[str]:
    """The state of each thread of a process, a character of proc(5)."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield stat.read_text().rpartition(")")[2].split()[0]
