"""Fault points: named places at which a test can make a service fail. Disabled in production.

Each service lists its points in its own `faults.py`. A test arms a point by creating a file with the point's name in
the folder SLUICE_FAULTS_FOLDER. The content of the file says how to fail:

    kill    SIGKILL the process
    stop    SIGSTOP the process, until SIGCONT
    raise   raise Injected, an OSError like a broken connection

Invariant: an armed point fires once. The process that fires first renames the file to `<point>.<pid>`; other processes,
and the one that replaces it, do not fire. Without the variable ARMED is False, and a point costs one `if`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

FOLDER: Final = "SLUICE_FAULTS_FOLDER"
ARMED: Final = FOLDER in os.environ


class Injected(OSError):
    """Raised by an armed point."""


def reached(point: str) -> None:
    """Fail here if this point is armed. Call it as `if faults.ARMED: faults.reached("collector.merged")`.

    Raises Injected if the point is armed to raise.
    """
    armed = Path(os.environ[FOLDER], point)
    try:
        how = armed.read_text().strip()  # read before the rename: afterwards the test may delete the file
        armed.rename(armed.with_name(f"{point}.{os.getpid()}"))
    except FileNotFoundError:
        return
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise Injected(f"{point} is armed")
        case _:
            raise ValueError(f"{point} is armed to {how!r}: kill, stop or raise")
