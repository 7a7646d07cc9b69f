"""What the processes of a program have cost so far: CPU of all of them, those that ended included, and memory; and who
of them comes first for a core.

Invariant: CPU only ever grows. A child that ended counts on in its parent, once that has waited for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_FIRST: Final = -15  # as nice counts
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and of their children that ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            # After the name, which may hold anything but ends with the last ")": utime, stime, cutime, cstime.
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, after_name[11:15]))
    return ticks / _TICKS


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes together, without what they share: files, and PostgreSQL's buffers."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
            pages += resident - shared
    return pages * _PAGE_BYTES


def come_first(pid: int) -> None:
    """Let this process, the first of its session, and all of the session come first for a core, where we may.

    Linux weighs sessions against each other (autogroups), and nice only the processes within one.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_FIRST), encoding="ascii")
