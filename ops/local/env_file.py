"""Read .env as docker compose does, for the commands that run a stack on this machine.

    the environment  wins over  .env  wins over  the defaults of the settings

Invariant: the local stack never uses another system's servers, so what .env says of connections is left out.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from ops.cli.connection import CONNECTIONS

OWN: Final = frozenset({*CONNECTIONS, "COLLECTOR_DSN", "REPORTER_DSN"})
"""The stack has servers of its own; their addresses are not settings here."""


def read_env_file(path: Path, environ: MutableMapping[str, str]) -> None:
    """Set in `environ` what the file sets and the environment does not. A file that does not exist sets nothing."""
    for name, value in dotenv_values(path).items():
        if value and name.removesuffix("_FILE") not in OWN:
            environ.setdefault(name, value)
