"""CPU time, memory and CPU priority of processes.

Invariant: CPU time never decreases. The time of a child that ended counts in its parent, after the parent's wait.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_FIRST: Final = -15  # a nice value
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the user and system time of these processes and of their ended children."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            # Fields after the name, which ends with the last ")": utime, stime, cutime, cstime.
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, after_name[11:15]))
    return ticks / _TICKS


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the sum of these processes' resident memory, without shared memory: files, and PostgreSQL's buffers."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
            pages += resident - shared
    return pages * _PAGE_BYTES


def raise_cpu_priority(pid: int) -> None:
    """Raise the CPU priority of this process, a session leader, and of its whole session, if permitted.

    Linux schedules sessions against each other (autogroups); nice values apply only within a session.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_FIRST), encoding="ascii")
