"""What to run: a program, how to tell that it is ready, and how to end it."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.local import child


async def is_running() -> bool:
    """Readiness of a program that has nothing to ask: it runs."""
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program of a supervisor.

    `env` is laid over our own environment. `prepare` is awaited before every start. `is_ready` is asked until
    it says yes; `ready_seconds` bounds a start that was asked for, not a restart: a killed server may have much to
    recover. `stop_signals` are tried in turn, with `drain_seconds` for each, then SIGKILL.
    `death_signal` is what the program gets when its supervisor dies.
    """

    name: str
    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    identity: child.Identity = field(default_factory=child.ourselves)
    prepare: Callable[[], Awaitable[None]] | None = None
    is_ready: Callable[[], Awaitable[bool]] = is_running
    ready_seconds: float = 30.0
    drain_seconds: float = 10.0
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    death_signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Death:
    """A program ended, or could not be started again, unasked.

    `restarts` counts those so far, this one included; the next start comes after `pause_seconds`.
    """

    name: str
    why: str
    restarts: int
    pause_seconds: float
