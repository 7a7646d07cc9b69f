"""Keep programs running: start them in order, restart what dies, drain them in reverse order.

Invariant: a program starts when all programs before it are ready, and ends when all programs after it have ended. No
program outlives this process: each gets its death signal when the process dies, even by kill -9.

The caller handles signals to this process. The thread of a supervisor must not end before the programs: for the kernel,
the thread is the parent of a child.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil
import structlog

from ops.local.errors import NotRunning
from ops.local.program import Death, Program
from ops.local.watch import Watch

log = structlog.get_logger("ops.local")


def log_death(death: Death) -> None:
    """Log the death of a program."""
    log.warning(
        "program died",
        program=death.name,
        why=death.why,
        restarts=death.restarts,
        pause_seconds=death.pause_seconds,
    )


class Supervisor:
    """Runs programs. Use it as an async context manager, or call `close`.

    With `log_folder`, each program writes to <log_folder>/<name>.log; without it, to stdout and stderr of this process.
    `on_death` is called for every unexpected end and must not raise.
    """

    def __init__(self, log_folder: Path | None = None, on_death: Callable[[Death], None] = log_death) -> None:
        self._log_folder = log_folder
        self._on_death = on_death
        self._watches: dict[str, Watch] = {}  # in the order of start

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self, program: Program) -> None:
        """Start `program`; return when it is ready. Raises StartFailed with the end of its log."""
        if program.name in self._watches:
            raise ValueError(f"a program named {program.name} already exists")
        log_file = self._log_folder / f"{program.name}.log" if self._log_folder else None
        watch = self._watches[program.name] = Watch(program, log_file, self._on_death)
        try:
            await watch.start()
        except BaseException:
            del self._watches[program.name]
            raise

    async def stop(self, name: str, *signals: signal.Signals) -> None:
        """Stop one program by its stop signals or by these signals; it stays down until `start_again`."""
        await self._watch(name).stop(*signals)

    async def start_again(self, name: str) -> None:
        """Start a stopped program again; return when it is ready. Raises StartFailed."""
        await self._watch(name).start()

    async def close(self) -> None:
        """Stop all programs, the last one first. A second call does nothing."""
        while self._watches:
            name = next(reversed(self._watches))
            await self._watches[name].stop()
            del self._watches[name]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of a program; return its pid. Raises NotRunning if it is down.

        The supervisor restarts a program that ends by it; `wait_ready(name, after=pid)` waits for that.
        """
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    async def wait_ready(self, name: str, *, after: int | None = None, seconds: float = 30.0) -> int:
        """Wait until a process of the program with another pid than `after` is ready; return its pid.

        Raises NotRunning with the end of its log after the time-out.
        """
        watch = self._watch(name)
        try:
            async with asyncio.timeout(seconds), watch.changed:
                await watch.changed.wait_for(lambda: watch.is_ready and watch.pid not in (None, after))
        except TimeoutError:
            raise NotRunning(f"{name} was not ready within {seconds:g} s{watch.log_tail()}") from None
        return self.pid(name)

    def pid(self, name: str) -> int:
        """Return the pid of a program. Raises NotRunning if it is down."""
        pid = self._watch(name).pid
        if pid is None:
            raise NotRunning(f"{name} is down")
        return pid

    def pids(self, name: str) -> list[int]:
        """Return the pids of a program and of its descendants; none if it is down."""
        pid = self._watch(name).pid
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid is not None:
                return [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]
        return []

    def restarts(self, name: str) -> int:
        """Return how often the program died unexpectedly or failed to restart."""
        return self._watch(name).restarts

    @property
    def names(self) -> list[str]:
        """The programs, in the order of start."""
        return list(self._watches)

    def _watch(self, name: str) -> Watch:
        try:
            return self._watches[name]
        except KeyError:
            raise NotRunning(f"there is no program named {name}, only {', '.join(self._watches) or 'none'}") from None
