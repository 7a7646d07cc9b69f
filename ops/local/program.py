"""A program that a supervisor runs: its command, its readiness and its stop signals."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.local import child


async def is_running() -> bool:
    """Return True: the readiness of a program that only has to run."""
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of a supervisor.

    `env` overrides the environment of this process. `prepare` is awaited before every start. `is_ready` is polled until
    it returns True. `ready_seconds` is the time-out of the first start; a restart has none, because a killed server may
    need long to recover. `stop_signals` are sent in turn, with `drain_seconds` for each, then SIGKILL. The program gets
    `death_signal` when its supervisor dies.
    """

    name: str
    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    identity: child.Identity = field(default_factory=child.current_user)
    prepare: Callable[[], Awaitable[None]] | None = None
    is_ready: Callable[[], Awaitable[bool]] = is_running
    ready_seconds: float = 30.0
    drain_seconds: float = 10.0
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    death_signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Death:
    """An unexpected end of a program, or a failed restart.

    `restarts` counts these so far, including this one. The next start follows after `pause_seconds`.
    """

    name: str
    why: str
    restarts: int
    pause_seconds: float
