"""All SQL statements of the project, read from the .sql files in this folder.

A file holds named statements. Each begins with a line `-- name: <name>`. Comment lines after it belong to the
statement.
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
    """Return the statements of `sql/<file>.sql` by name.

    Raises FileNotFoundError for an unknown file, and ValueError if a name occurs twice.
    """
    _, *parts = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    by_name: dict[str, str] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name in by_name:
            raise ValueError(f"{file}.sql: statement {name} occurs twice")
        by_name[name] = text.strip()
    return by_name
