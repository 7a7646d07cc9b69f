"""Every SQL statement of the project, read from the .sql files beside this module.

A file holds named statements, each opened by a line `-- name: <name>`; the comment lines that follow the
name belong to the statement.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
MIGRATIONS = FOLDER / "migrations"

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, str]:
    """The statements of `sql/<file>.sql` by name.

    Raises FileNotFoundError for an unknown file and ValueError where a name stands twice.
    """
    _, *parts = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"{file}.sql: statement {name} stands twice")
        found[name] = text.strip()
    return found
