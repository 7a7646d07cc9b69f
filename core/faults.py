"""Named points at which a test can make a service fail. Nothing of this happens in production.

Each service lists its points in its own `faults.py`. A test arms a point by a file of its name in the folder that
SLUICE_FAULTS_FOLDER names; the file says how to fail:

    kill    the process ends as by kill -9
    stop    it stands still until SIGCONT
    raise   Injected, which is an OSError: as if a connection broke there

Invariant: an armed point fires once. The process that takes it renames the file to `<point>.<pid>` first, so that of
several processes one fails, and the one that is started in its place does not. Without the variable ARMED is False, and
a point costs its `if`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

FOLDER: Final = "SLUICE_FAULTS_FOLDER"
ARMED: Final = FOLDER in os.environ


class Injected(OSError):
    """What an armed point raises."""


def reached(point: str) -> None:
    """Fail here if this point is armed. Call it as `if faults.ARMED: faults.reached("collector.merged")`.

    Raises Injected where the point is armed to raise.
    """
    armed = Path(os.environ[FOLDER], point)
    try:
        how = armed.read_text().strip()  # first: once it is renamed it is the test's, which deletes it
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
