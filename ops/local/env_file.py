"""Read .env as docker compose does, for the commands that run a stack on this machine.

    the environment  overrides  .env  overrides  the defaults of the settings

Invariant: the local stack never uses servers of another system, so connection variables of .env are ignored.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from ops.cli.connection import CONNECTIONS

OWN: Final = frozenset({*CONNECTIONS, "COLLECTOR_DSN", "REPORTER_DSN"})
"""Connection variables. The local stack sets them itself."""


def read_env_file(path: Path, environ: MutableMapping[str, str]) -> None:
    """Set variables of the file that `environ` does not have. A missing file sets nothing."""
    for name, value in dotenv_values(path).items():
        if value and name.removesuffix("_FILE") not in OWN:
            environ.setdefault(name, value)
