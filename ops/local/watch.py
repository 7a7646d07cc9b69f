"""One program of a supervisor: its process, and the task that restarts it.

    start --> starting --ready--> ready --died--> pausing --+
                 ^                                          |
                 +------- 0.1 s, doubling up to 5 s --------+
    stop, from any state: the stop signals in turn, drain_seconds each, then SIGKILL

Invariant: at most one process of a program runs. Before the next one starts, the process group of the last one is
killed.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import structlog

from core.backoff import backoff
from ops.local import child
from ops.local.errors import StartFailed
from ops.local.program import Death, Program

MIN_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 10.0  # after this time in the state ready, the pauses start at the first one again
POLL_SECONDS = 0.02
LOG_TAIL_BYTES = 2_000

log = structlog.get_logger("ops.local")


class Watch:
    """A program with its process and number of restarts. `changed` is notified when a process is ready."""

    def __init__(self, program: Program, log_file: Path | None, on_death: Callable[[Death], None]) -> None:
        self.program = program
        self.restarts = 0
        self.is_ready = False
        self.changed = asyncio.Condition()
        self._log_file = log_file
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the running process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the program; return when it is ready. Raises StartFailed with the end of its log."""
        name, seconds = self.program.name, self.program.ready_seconds
        if self._process is not None or self._keeper is not None:
            raise ValueError(f"{name} is not stopped")
        try:
            async with asyncio.timeout(seconds):
                await self._launch()
        except TimeoutError:
            await self.stop()
            raise StartFailed(f"{name} was not ready within {seconds:g} s{self.log_tail()}") from None
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, *signals: signal.Signals) -> None:
        """Stop the program by its stop signals or by these signals. A second call does nothing."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        for number in signals or self.program.stop_signals:
            if self._process is None or self.pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            try:
                async with asyncio.timeout(self.program.drain_seconds):
                    await self._process.wait()
            except TimeoutError:
                log.warning(
                    "program did not stop",
                    program=self.program.name,
                    signal=number.name,
                    after_seconds=self.program.drain_seconds,
                )
        await self._kill_remains()

    async def _keep(self) -> None:
        """Restart the program whenever it ends."""
        pauses = backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        why = await self._end()
        while True:
            self.restarts += 1
            pause = next(pauses)
            self._on_death(Death(self.program.name, why, self.restarts, pause))
            await asyncio.sleep(pause)
            try:
                await self._launch()
            except Exception as error:  # reported, and tried again
                await self._kill_remains()
                why = str(error) or repr(error)
                continue
            ready_at = time.monotonic()
            why = await self._end()
            if time.monotonic() - ready_at >= STEADY_SECONDS:
                pauses = backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)

    async def _launch(self) -> None:
        """Start a process and wait until it is ready. Raises StartFailed if it ends first."""
        program = self.program
        if program.prepare is not None:
            await program.prepare()
        with self._open_log() as output:
            self._process = process = await asyncio.create_subprocess_exec(
                *program.argv,
                env={**os.environ, **program.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=child.entering(program.identity, program.death_signal),
                **program.identity.spawn,
            )
        while process.returncode is None:
            if await program.is_ready():
                break
            await asyncio.sleep(POLL_SECONDS)
        if process.returncode is not None:
            raise StartFailed(f"{program.name}: {_how_it_ended(process)} before it was ready{self.log_tail()}")
        self.is_ready = True
        async with self.changed:
            self.changed.notify_all()

    async def _end(self) -> str:
        """Wait until the process ends; return how it ended."""
        process = self._process
        assert process is not None
        await process.wait()
        await self._kill_remains()
        return _how_it_ended(process)

    async def _kill_remains(self) -> None:
        """Kill the process and its group once: later, another process may have the pid."""
        self.is_ready = False
        if (process := self._process) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads its own session, so its pid is that of the group
            await process.wait()
            self._process = None

    def _open_log(self) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        return self._log_file.open("ab") if self._log_file else contextlib.nullcontext()

    def log_tail(self) -> str:
        """Return the end of the log for an error message."""
        if self._log_file is None or not self._log_file.exists():
            return ""
        with self._log_file.open("rb") as file:
            file.seek(max(0, self._log_file.stat().st_size - LOG_TAIL_BYTES))
            return f"; the end of {self._log_file}:\n{file.read().decode(errors='replace').strip()}"


def _how_it_ended(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"pid {process.pid}, {how}"
