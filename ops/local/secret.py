"""Secrets of the local stack: each in a file that only its owner can read, made once and kept.

Invariant: such a file is whole or absent. A secret is letters alone: no URL, shell or configuration takes them for
anything else.
"""

import os
import secrets
import string
from pathlib import Path

LETTERS = 48  # 225 bits


def keep_secret(path: Path) -> str:
    """The secret in `path`, made if there is none."""
    if not path.exists():
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        made = "".join(secrets.choice(string.ascii_lowercase) for _ in range(LETTERS))
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made + "\n")
        new.rename(path)
    return path.read_text().strip()
